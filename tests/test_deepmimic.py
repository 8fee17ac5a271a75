"""DeepMimic's clips: each number turns its joint, durations become a rate, damage costs one file."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sakiyomi.data.formats.deepmimic import SKELETON, SUFFIXES, DeepMimic, parse_deepmimic, read_deepmimic
from sakiyomi.data.formats.motion_files import read_files
from sakiyomi.errors import SakiyomiError
from sakiyomi.motion.features import decode
from sakiyomi.motion.layout import Layout
from sakiyomi.motion.skeleton import Clip, facing

REAL = Path(__file__).parents[1].parent / "shared" / "data" / "motion" / "deepmimic_clips.zip"
NAMES = SKELETON.names
# Where the numbers of each joint stand in a frame, by the published description.
QUATERNIONS = {
    **{"root": 4, "chest": 8, "neck": 12, "right_hip": 16, "right_ankle": 21, "right_shoulder": 25},
    **{"left_hip": 30, "left_ankle": 35, "left_shoulder": 39},
}
ANGLES = {"right_knee": 20, "right_elbow": 29, "left_knee": 34, "left_elbow": 43}


def still(frames: int = 2, dt: float = 1 / 30) -> np.ndarray:
    """Frames [T, 44] of a body that stands upright with its arms down."""
    table = np.zeros((frames, 44))
    table[:, 0], table[:, 2] = dt, 0.9
    for column in QUATERNIONS.values():
        table[:, column] = 1
    return table


def walking(seed: int = 0, frames: int = 40) -> np.ndarray:
    """Frames of a body that goes ahead and moves all its joints."""
    random, table = np.random.default_rng(seed), still(frames)
    table[:, 1] = np.arange(frames) / 30
    phase = 2 * np.pi * np.arange(frames) / 20
    for column in QUATERNIONS.values():
        angle = 0.3 * random.uniform(-1, 1, 3) * np.sin(phase + random.uniform(0, 6))[:, None]
        table[:, [column + 1, column + 2, column + 3, column]] = Rotation.from_rotvec(angle).as_quat()
    for name, column in ANGLES.items():
        table[:, column] = (-1 if "knee" in name else 1) * (0.5 + 0.4 * np.sin(phase))
    return table


def text(table: Any, **more: Any) -> bytes:
    frames = table.tolist() if isinstance(table, np.ndarray) else table
    return json.dumps({"Loop": "wrap", **more, "Frames": frames}).encode()


def read(table: Any, rate: float = 30.0) -> Clip:
    return parse_deepmimic(text(table), "some.txt", rate)[0]


def at(clip: Clip, name: str) -> np.ndarray:
    return clip.positions[:, NAMES.index(name)]


def test_a_body_at_rest_stands_on_its_legs_with_the_right_side_at_the_right() -> None:
    clip = read(still())
    assert len(clip.positions) == 2
    np.testing.assert_allclose(at(clip, "right_ankle")[0], [0, 0.9 - 0.421546 - 0.40987, 0.084887])
    np.testing.assert_allclose(at(clip, "left_ankle")[0], [0, 0.9 - 0.421546 - 0.40987, -0.084887])
    np.testing.assert_allclose(at(clip, "neck")[0], [0, 0.9 + 0.236151 + 0.223894, 0])
    hand = [-0.02405, 0.9 + 0.236151 + 0.2435 - 0.274788 - 0.258947, 0.18311]
    np.testing.assert_allclose(at(clip, "right_wrist")[0], hand)
    np.testing.assert_allclose(facing(clip), 0, atol=1e-12)
    np.testing.assert_array_equal(
        np.array(SKELETON.offsets)[list(SKELETON.mirror)], np.array(SKELETON.offsets) * [1, 1, -1]
    )


@pytest.mark.parametrize("name", [*QUATERNIONS, *ANGLES])
def test_each_number_turns_its_own_joint(name: str) -> None:
    """In the world all joints that hang from it turn, about where it is; the others stay."""
    table, turned = still(), Rotation.from_rotvec([0.3, -0.5, 0.7])
    if name in QUATERNIONS:
        column = QUATERNIONS[name]
        table[:, [column + 1, column + 2, column + 3, column]] = turned.as_quat()
    else:
        table[:, ANGLES[name]], turned = -0.8, Rotation.from_rotvec([0, 0, -0.8])
    rest, moved = read(still()), read(table)
    hang = {NAMES.index(name)}
    for joint, parent in enumerate(SKELETON.parents):
        if parent in hang:
            hang.add(joint)
    center = rest.positions[0, NAMES.index(name)]
    for joint in range(len(NAMES)):
        expected, rotation = rest.positions[0, joint], np.eye(3)
        if joint in hang:
            expected, rotation = center + turned.apply(expected - center), turned.as_matrix()
        np.testing.assert_allclose(moved.positions[0, joint], expected, atol=1e-12)
        np.testing.assert_allclose(moved.rotations[0, joint], rotation, atol=1e-12)


def test_knees_bend_backwards_and_elbows_forwards() -> None:
    table = still()
    for name, column in ANGLES.items():
        table[:, column] = -1.0 if "knee" in name else 1.0
    clip = read(table)
    assert at(clip, "right_ankle")[0, 0] < -0.3
    assert at(clip, "left_wrist")[0, 0] > 0.1


def test_durations_become_a_rate() -> None:
    """Frames that last unequally: the root moves at 2 m/s and turns at 3 rad/s all the while."""
    durations = np.array([0.02, 0.05, 0.1, 0.03, 0.04, 0.16, 0.0])
    times = np.concatenate(([0.0], np.cumsum(durations[:-1])))
    table = still(len(durations))
    table[:, 0], table[:, 1] = durations, 2 * times
    table[:, [5, 6, 7, 4]] = Rotation.from_euler("y", -3 * times[:, None]).as_quat()
    for rate, frames in ((30.0, 13), (60.0, 25), (10.0, 5)):
        clip = read(table, rate)
        clock = np.arange(frames) / rate
        assert clip.rate == rate
        np.testing.assert_allclose(clip.positions[:, 0, 0], 2 * clock)
        np.testing.assert_allclose(facing(clip), 3 * clock, atol=1e-9)


def test_rounded_durations_lose_no_frame() -> None:
    """The published walk's frames last 0.033332 s."""
    assert len(read(walking(frames=39) * np.where(np.arange(44) == 0, 0.033332 * 30, 1)).positions) == 39
    assert len(read(still(1)).positions) == 1


def test_a_quaternion_need_not_be_quite_of_length_1() -> None:
    """Published ones are not; its sign means nothing either."""
    table = walking()
    scaled = table.copy()
    for number, column in enumerate(QUATERNIONS.values()):
        scaled[:, column : column + 4] *= (0.6, 1.2, -1.0)[number % 3]
    scaled[5, 8:12] *= -1
    np.testing.assert_allclose(read(scaled).positions, read(table).positions, atol=1e-12)


def test_what_the_file_says_of_looping_is_kept() -> None:
    assert parse_deepmimic(text(still()), "a", 30)[1] == "wrap"
    assert parse_deepmimic(text(still(), Loop="none"), "a", 30)[1] == "none"
    assert parse_deepmimic(json.dumps({"Frames": still().tolist()}).encode(), "a", 30)[1] == "none"


def changed(frame: int, column: int, value: float) -> np.ndarray:
    table = walking(frames=4)
    table[frame, column] = value
    return table


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"Frames": [[0.1, ', r"some\.txt is no JSON: .*line 1 column"),
        (b"\xff\xfe", r"some\.txt is no JSON"),
        (b"[1, 2]", 'some.txt has no "Frames"'),
        (b'{"Frames": []}', 'has no "Frames"'),
        (text(np.zeros((3, 84))), "frame 0: 84 numbers; .* have 44; frames of 84 are those of dogs, .* not supported"),
        (text([[1.0] * 44, [1.0] * 43]), "frame 1: 43 numbers; a humanoid's frames have 44$"),
        (text([[1.0] * 43 + ["1"]]), "frame 0: no list of numbers"),
        (text([[1.0] * 43 + [True]]), "frame 0: no list of numbers"),
        (text([7]), "frame 0: no list of numbers"),
        (text(changed(2, 30, np.nan)), "frame 2: not finite"),
        (text(changed(1, 0, 0.0)), "frame 1: it lasts 0 s; only the last may last 0"),
        (text(changed(1, 0, -0.1)), r"frame 1: it lasts -0\.1 s"),
        (
            text(still() * np.where(np.arange(44) == 16, 0.1, 1)),
            r"frame 0: the quaternion of right_hip has length 0\.1",
        ),
        (text(still() * np.where(np.arange(44) == 39, 3, 1)), "frame 0: the quaternion of left_shoulder has length 3"),
    ],
)
def test_a_damaged_file_is_refused_with_its_frame(content: bytes, words: str) -> None:
    with pytest.raises(SakiyomiError, match=words) as caught:
        parse_deepmimic(content, "some.txt", 30)
    assert str(caught.value).startswith("some.txt")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight clips, a dog and a licence."""
    folder = tmp_path / "clips"
    (folder / "motions").mkdir(parents=True)
    for number in range(8):
        path = folder / "motions" / f"humanoid3d_{number}.txt"
        path.write_bytes(text(walking(number), Loop=("wrap", "none")[number % 2]))
    (folder / "motions" / "dog3d_trot.txt").write_bytes(text(np.zeros((3, 84))))
    (folder / "LICENSE").write_text("free")
    return folder


def test_a_folder_becomes_a_store_with_every_training_clip_twice(folder: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    store = DeepMimic(str(folder)).record(tmp_path / "store", lambda done, total: told.append((done, total)))
    assert told == [(n, 8) for n in range(1, 9)]
    splits = {entry.meta["file"]: entry.split for entry in store.entries}
    assert sorted(splits.values()) == ["test", *["train"] * 6, "validation"]
    assert len(store.entries) == 14
    for entry in store.entries:
        number = int(entry.meta["file"][-5])
        assert entry.id == f"motions-humanoid3d_{number}" + ("-mirrored" if entry.meta["mirrored"] else "")
        assert entry.meta["loop"] == ("wrap", "none")[number % 2]
        clip, across, other = read(walking(number)), np.diag([1.0, 1.0, -1.0]), list(SKELETON.mirror)
        positions, rotations = clip.positions, clip.rotations
        if entry.meta["mirrored"]:
            positions, rotations = positions[:, other] @ across, across @ rotations[:, other] @ across
        found = decode(store.values(entry.id, "pose"), SKELETON, 30.0, entry.meta["start"])
        np.testing.assert_allclose(found.positions, positions, atol=1e-4)
        np.testing.assert_allclose(found.rotations, rotations, atol=1e-5)
    assert store.streams["pose"].names == Layout(NAMES).names
    assert store.origin["skeleton"]["feet"] == ["right_ankle", "left_ankle"]


def test_a_zip_and_its_folder_are_the_same(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "clips.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder))
    assert read_files(archive, SUFFIXES) == read_files(folder, SUFFIXES)
    source = DeepMimic(str(archive), mirror=False)
    assert source.record(tmp_path / "a").entries == DeepMimic(str(folder), mirror=False).record(tmp_path / "b").entries


def test_one_file_is_enough(folder: Path, tmp_path: Path) -> None:
    path = folder / "motions" / "humanoid3d_3.txt"
    np.testing.assert_array_equal(read_deepmimic(path).positions, read(walking(3)).positions)
    store = DeepMimic(str(path), validation=0, test=0, rate=60).record(tmp_path / "store")
    assert [entry.id for entry in store.entries] == ["humanoid3d_3", "humanoid3d_3-mirrored"]
    assert store.streams["pose"].rate == 60
    assert store.entries[0].lengths == {"pose": 79}


def test_an_interrupted_import_goes_on_and_damage_costs_one_file(folder: Path, tmp_path: Path) -> None:
    bad = folder / "motions" / "humanoid3d_2.txt"
    good = bad.read_bytes()
    bad.write_bytes(good[:2000])
    with pytest.raises(SakiyomiError, match=r"1 damaged and left out: .*humanoid3d_2.txt is no JSON"):
        DeepMimic(str(folder)).record(tmp_path / "store")
    bad.write_bytes(good)
    store = DeepMimic(str(folder)).record(tmp_path / "store")
    whole = DeepMimic(str(folder)).record(tmp_path / "whole")
    assert {entry.id: entry.sha256 for entry in store.entries} == {entry.id: entry.sha256 for entry in whole.entries}
    assert store.statistics
    bad.write_bytes(b"damaged since")  # what is in the store is not read again
    assert DeepMimic(str(folder)).record(tmp_path / "store").entries == store.entries
    (folder / "motions" / "humanoid3d_9.txt").write_bytes(good)  # would move others from split to split
    with pytest.raises(SakiyomiError, match="made with other settings"):
        DeepMimic(str(folder)).record(tmp_path / "store")


def test_dogs_are_told_to_be_dogs(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SakiyomiError, match="frames of 84 are those of dogs"):
        DeepMimic(str(folder), match="dog", validation=0, test=0).record(tmp_path / "store")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "no path given: name a folder or .zip of DeepMimic's motions.*or a public set"),
        ({"path": "nowhere"}, "nowhere does not exist"),
        ({"path": "deepmimic"}, "deepmimic is a public set of which 0 of 24 files"),
        ({"match": "cat"}, "holds no .txt or .json file with 'cat' in its path"),
        ({"rate": 0}, "--rate is 0"),
        ({"test": -1}, "--test is -1"),
        ({"validation": 0.6, "test": 0.4}, "nothing for training"),
    ],
)
def test_what_cannot_be_is_refused(
    folder: Path, tmp_path: Path, settings: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {"path": str(folder), **settings} if settings else settings
    with pytest.raises(SakiyomiError, match=words):
        DeepMimic(**settings).record(tmp_path / "store")


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.zip").write_bytes(b"no zip")
    with pytest.raises(SakiyomiError, match=r"no\.zip cannot be read"):
        read_files(tmp_path / "no.zip", SUFFIXES)
    with pytest.raises(SakiyomiError, match=r"nowhere\.txt cannot be read: No such file"):
        read_deepmimic(tmp_path / "nowhere.txt")


@pytest.mark.skipif(not REAL.exists(), reason="needs ../shared/data/motion")
def test_the_published_clips_go_ahead_on_their_feet(tmp_path: Path) -> None:
    store = DeepMimic(str(REAL)).record(tmp_path / "store")
    assert len({entry.meta["file"] for entry in store.entries}) == 20
    content = read_files(REAL, SUFFIXES)
    for name, slowest, fastest in (("walk", 0.8, 1.2), ("run", 3, 4), ("jog", 2.4, 3.2)):
        clip, loop = parse_deepmimic(content[f"motions/humanoid3d_{name}.txt"], name, 30.0)
        assert loop == "wrap"
        ahead = np.stack((np.cos(facing(clip)), np.sin(facing(clip))), -1)
        speed = (np.diff(clip.positions[:, 0, [0, 2]], axis=0) * ahead[:-1]).sum(-1).mean() * 30
        assert slowest < speed < fastest
        lowest = np.minimum(at(clip, "right_ankle")[:, 1], at(clip, "left_ankle")[:, 1])
        assert -0.02 < lowest.min() < 0.07
    walk, _ = parse_deepmimic(content["motions/humanoid3d_walk.txt"], "walk", 30.0)
    assert len(walk.positions) == 39
    assert np.minimum(at(walk, "right_ankle")[:, 1], at(walk, "left_ankle")[:, 1]).max() < 0.09
    assert (at(walk, "right_hip") - at(walk, "left_hip"))[:, 2].min() > 0.15
