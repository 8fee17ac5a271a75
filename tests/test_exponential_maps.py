"""CMU's exponential maps: the published rule of forward kinematics, our axes and metres, feet on the ground."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sakiyomi.data.formats.exponential_maps import (
    RATE,
    SKELETON,
    STIFF,
    UNIT,
    ExponentialMaps,
    grounded,
    parse_exponential_maps,
)
from sakiyomi.data.formats.motion_files import read_files
from sakiyomi.errors import SakiyomiError
from sakiyomi.motion.features import decode
from sakiyomi.motion.skeleton import Clip, facing

REAL = Path(__file__).parents[1].parent / "shared" / "data" / "motion" / "cmu_expmap.zip"
NAMES = SKELETON.names
# Which of the 38 rotations is a joint's; the left leg, the middle, and so on.
NUMBERS = {
    **{"Hips": 0, "LeftUpLeg": 2, "LeftLeg": 3, "LeftFoot": 4, "LeftToeBase": 5},
    **{"RightUpLeg": 8, "RightLeg": 9, "RightFoot": 10, "RightToeBase": 11, "LowerBack": 13, "Spine": 14, "Spine1": 15},
    **{"Neck": 16, "Neck1": 17, "Head": 18, "LeftArm": 21, "LeftForeArm": 22, "LeftHand": 23},
    **{"RightArm": 30, "RightForeArm": 31, "RightHand": 32},
}


def frames(count: int = 40, seed: int = 0) -> np.ndarray:
    """Lines [T, 117]: a rest pose, then all joints somehow turned."""
    random, table = np.random.default_rng(seed), np.zeros((count, 117))
    table[1:, 1], table[1:, 2] = 17.0, 0.2 * np.arange(count - 1)
    phase = np.arange(count - 1)[:, None] / 10
    for number in NUMBERS.values():
        columns = slice(3 + 3 * number, 6 + 3 * number)
        table[1:, columns] = random.uniform(-0.5, 0.5, 3) * np.sin(phase + random.uniform(0, 6))
    return table


def text(table: np.ndarray) -> bytes:
    return "".join(",".join(f"{value:.9g}" for value in line) + "\n" for line in table).encode()


def read(table: np.ndarray) -> Clip:
    return parse_exponential_maps(text(table), "some.txt")


def to_ours(vectors: np.ndarray) -> np.ndarray:
    """From left, up, forward to forward, up, right."""
    left, up, forward = np.moveaxis(vectors, -1, 0)
    return np.stack((forward, up, -left), -1)


def test_joints_are_where_the_published_rule_puts_them() -> None:
    """Positions and rotations of rows: x = offset R_parent + x_parent, R = R_own R_parent."""
    table = frames()
    clip = read(table)
    assert clip.positions.shape == (39, 21, 3)
    assert clip.rate == RATE
    positions: list[np.ndarray] = []
    rotations: list[np.ndarray] = []
    for joint, (name, parent) in enumerate(zip(NAMES, SKELETON.parents, strict=True)):
        own = Rotation.from_rotvec(table[1:, 3 + 3 * NUMBERS[name] :][:, :3]).as_matrix()
        forward, up, right = np.array(SKELETON.offsets[joint]) / UNIT
        offset = np.array([-right, up, forward])
        if parent < 0:
            positions.append(table[1:, :3])
            rotations.append(own)
        else:
            positions.append(np.einsum("a,tab->tb", offset, rotations[parent]) + positions[parent])
            rotations.append(own @ rotations[parent])
        np.testing.assert_allclose(clip.positions[:, joint], to_ours(positions[-1]) * UNIT, atol=1e-7)
        # A rotation turns our vectors as the file's turns its own.
        turned = np.einsum("a,tab->tb", np.array([0.3, -0.5, 0.8]), rotations[-1])
        found = clip.rotations[:, joint] @ to_ours(np.array([0.3, -0.5, 0.8]))
        np.testing.assert_allclose(found, to_ours(turned), atol=1e-7)


def test_a_body_at_rest_is_a_person_who_faces_ahead() -> None:
    table = np.zeros((3, 117))
    table[:, 1] = 17.0
    clip = read(table)
    np.testing.assert_allclose(clip.rotations, np.broadcast_to(np.eye(3), clip.rotations.shape), atol=1e-12)
    np.testing.assert_allclose(facing(clip), 0, atol=0.03)  # its sides differ by 1 or 2 %
    offsets = {name: np.array(offset) for name, offset in zip(NAMES, SKELETON.offsets, strict=True)}
    assert np.linalg.norm(offsets["LeftLeg"]) == pytest.approx(0.43, abs=0.005)  # a thigh, m
    assert offsets["LeftUpLeg"][2] < 0 < offsets["RightUpLeg"][2]
    assert offsets["LeftToeBase"][0] > 0.1
    for name, other in zip(NAMES, SKELETON.mirror, strict=True):
        np.testing.assert_allclose(offsets[NAMES[other]], offsets[name] * [1, 1, -1], atol=0.012)
        assert NAMES[other] == name.replace("Left", "*").replace("Right", "Left").replace("*", "Right")


def test_grounded_clips_have_their_toes_on_the_ground() -> None:
    clip = read(frames())
    toes = [NAMES.index("LeftToeBase"), NAMES.index("RightToeBase")]
    for height in (-0.3, 0.5):
        moved = Clip(SKELETON, RATE, clip.positions + np.array([0, height, 0]), clip.rotations)
        found = grounded(moved)
        assert np.quantile(found.positions[:, toes, 1].min(1), 0.05) == pytest.approx(0.02)
        np.testing.assert_allclose(found.positions[..., [0, 2]], clip.positions[..., [0, 2]])
        np.testing.assert_array_equal(found.rotations, clip.rotations)


def spoiled(line: int, column: int, value: float) -> np.ndarray:
    table = frames(6)
    table[line - 1, column] = value
    return table


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "number of lines is 0"),
        (text(frames(6)[:1]), "number of lines is 1; expected the rest pose and frames"),
        (text(frames(6)[:, :116]), r"line 1: 116 numbers; expected 117 numbers, with commas"),
        (text(frames(6))[:-300], r"line 6: \d+ numbers; expected 117"),
        (text(frames(6)).replace(b",", b" "), "line 1: could not convert string to float"),
        (text(spoiled(4, 50, np.nan)), r"line 4: not finite"),
        (text(spoiled(3, 4 + 3 * 20, 0.1)), "line 3: LeftShoulder is turned"),
        (b"\xff\xfe\n1,2\n", "line 1: could not convert"),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(content: bytes, words: str) -> None:
    with pytest.raises(SakiyomiError, match=words) as caught:
        parse_exponential_maps(content, "some.txt")
    assert str(caught.value).startswith("some.txt")
    assert len(str(caught.value)) < 160


def test_the_rest_pose_of_joints_left_out_is_no_matter() -> None:
    """Only frames are asked whether they turn."""
    table = frames(6)
    for joint in STIFF:
        table[0, 3 + 3 * joint] = 1.0
    np.testing.assert_array_equal(read(table).positions, read(frames(6)).positions)


def test_a_folder_becomes_a_store(tmp_path: Path) -> None:
    folder = tmp_path / "train"
    for number in range(4):
        path = folder / "walking" / f"walking_{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text(frames(81, number)))
    (folder / "soccer_1.txt").write_bytes(b"1,2\n3,4\n")
    store = ExponentialMaps(str(folder), match="walking", ground=False).record(tmp_path / "store")
    assert sorted(entry.split for entry in store.entries) == [*["test"], *["train"] * 4, "validation"]
    for entry in store.entries:
        clip = read(frames(81, int(entry.meta["file"][-5])))
        positions, rotations, other = clip.positions[::4], clip.rotations[::4], list(SKELETON.mirror)
        if entry.meta["mirrored"]:
            across = np.diag([1.0, 1.0, -1.0])
            positions, rotations = positions[:, other] @ across, across @ rotations[:, other] @ across
        found = decode(store.values(entry.id, "pose"), SKELETON, 30.0, entry.meta["start"])
        np.testing.assert_allclose(found.rotations, rotations, atol=1e-5)
        # Where the two sides' bones differ by a percent, a mirrored one keeps its own length.
        np.testing.assert_allclose(found.positions, positions, atol=0.04 if entry.meta["mirrored"] else 1e-4)
    with pytest.raises(SakiyomiError, match=r"1 damaged and left out: .*soccer_1\.txt, line 1: 2 numbers"):
        ExponentialMaps(str(folder)).record(tmp_path / "all")
    ground = ExponentialMaps(str(folder), match="walking").record(tmp_path / "ground")
    assert ground.entries[0].sha256 != store.entries[0].sha256


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "no path given: name a folder or .zip of .txt files"),
        ({"path": "nowhere"}, "nowhere does not exist"),
        ({"match": "cat"}, r"holds no \.txt file with 'cat' in its path"),
        ({"rate": 0}, "--rate is 0"),
        ({"test": 1.0}, "nothing for training"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    (tmp_path / "a.txt").write_bytes(text(frames(6)))
    settings = {"path": str(tmp_path), **settings} if settings else settings
    with pytest.raises(SakiyomiError, match=words):
        ExponentialMaps(**settings).record(tmp_path / "store")


@pytest.mark.skipif(not REAL.exists(), reason="needs ../shared/data/motion")
def test_cmus_walkers_go_where_they_face_on_feet_that_stand_still() -> None:
    with zipfile.ZipFile(REAL) as archive:
        names = [name for name in archive.namelist() if "walking/" in name and name.endswith(".txt")]
    assert len(names) == 5
    for name, content in read_files(REAL, (".txt",), "/walking/").items():
        clip = parse_exponential_maps(content, name)
        angles = facing(clip)
        way = np.diff(clip.positions[:, 0, [0, 2]], axis=0) * RATE
        ahead = np.stack((np.cos(angles), np.sin(angles)), -1)[:-1]
        assert 0.8 < (way * ahead).sum(-1).mean() < 1.5
        feet = clip.positions[:, [NAMES.index(n) for n in SKELETON.feet]]
        slowest = np.linalg.norm(np.diff(feet, axis=0), axis=-1).min(1) * RATE
        assert np.median(slowest) < 0.2  # m/s
        assert 0.9 < clip.positions[:, 0, 1].mean() < 1.1
