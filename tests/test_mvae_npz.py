"""The published mocap.npz: exact there and back, its own rules of motion, and any humanoid's joints as its 22."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.formats.bvh import parse_bvh
from sakiyomi.data.formats.motion_files import splits
from sakiyomi.data.formats.mvae_npz import (
    FOOT,
    JOINTS,
    LAYOUT,
    ORDER,
    SPINE,
    MvaeNpz,
    as_published,
    find_roles,
    read_npz,
    skeleton_of,
    write_npz,
    write_poses,
    write_store,
)
from sakiyomi.data.sources.mocap import find
from sakiyomi.data.sources.walk import NAMES, SKELETON, GeneratedWalk, clip
from sakiyomi.errors import SakiyomiError
from sakiyomi.motion.features import decode
from sakiyomi.motion.skeleton import Clip, Skeleton, character, facing, facing_frames

REAL = Path(__file__).parents[1].parent / "shared" / "data" / "motion" / "bandai_namco_2_walk_run.zip"
FRAMES = 90
WALKS = [clip(seed, FRAMES / 30) for seed in range(3)]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("npz") / "mocap.npz"
    write_npz(path, WALKS)
    return path


def arrays(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        assert set(archive) == {"data", "end_indices"}
        return archive["data"], archive["end_indices"]


def block(data: np.ndarray, first: int, name: str) -> np.ndarray:
    """The three numbers of a joint in the block that begins at `first`, [T, 3]."""
    place = first + 3 * ORDER.index(name)
    return data[:, place : place + 3]


def integrated(data: np.ndarray, x: float = 0.0, z: float = 0.0, facing: float = 0.0) -> np.ndarray:
    """x, z and facing of every frame [T, 3], by the published environments' rule: first the displacement, turned by
    minus the facing so far, then the turn."""
    places = [(x, z, facing)]
    for dx, dz, turn in data[1:, :3].astype(float):
        x += np.cos(-facing) * dx - np.sin(-facing) * dz
        z += np.sin(-facing) * dx + np.cos(-facing) * dz
        facing += turn
        places.append((x, z, facing))
    return np.array(places)


def test_numbers_survive_the_way_through_the_store(tmp_path: Path) -> None:
    """Any numbers, to float32's rounding."""
    random = np.random.default_rng(0)
    data = random.normal(size=(70, 267)).astype(np.float32) * 10 ** random.uniform(-3, 1, 267).astype(np.float32)
    ends = np.array([9, 39, 69])
    np.savez(tmp_path / "a.npz", data=data, end_indices=ends)
    store = MvaeNpz(str(tmp_path / "a.npz")).record(tmp_path / "store")
    assert [entry.lengths["pose"] for entry in store.entries] == [10, 30, 30]
    write_store(tmp_path / "b.npz", store)
    again, again_ends = arrays(tmp_path / "b.npz")
    assert again.dtype == np.float32
    np.testing.assert_array_equal(again_ends, ends)
    # Velocities are turned there and back, so a small component carries the rounding of a large one.
    scale = np.abs(data).max(1, keepdims=True)
    rest = np.r_[0:69, 135:267]
    np.testing.assert_allclose(again[:, rest], data[:, rest], rtol=3e-7)
    assert (np.abs(again - data) / scale).max() < 3e-7


def test_the_published_start_pose_has_hips_that_move_as_its_root(tmp_path: Path) -> None:
    """Six numbers of the pose with which the published demonstration begins: only with the root seen from the frame
    before, the velocity from the frame itself and a turn to the left do they agree."""
    data = np.zeros((2, 267), np.float32)
    data[:, :3] = 0.37343, 0.025392, -0.0036897
    data[:, 69 + 33 : 69 + 36] = 0.37352, -0.028061, 0.024014
    np.savez(tmp_path / "a.npz", data=data, end_indices=np.array([1]))
    (poses,) = read_npz(tmp_path / "a.npz")
    assert poses[0, 2] == pytest.approx(0.0036897 * 30)
    hips = poses[0, LAYOUT.part("velocities")][:3]
    np.testing.assert_allclose(hips[[0, 2]], poses[0, :2], rtol=1e-5)
    np.testing.assert_allclose(poses[0, :2], np.array([0.37343, 0.025392]) * 30 * 0.3048, rtol=1e-6)


def test_displacements_add_up_to_the_path(file: Path) -> None:
    data, ends = arrays(file)
    np.testing.assert_array_equal(ends, [FRAMES - 1, 2 * FRAMES - 1, 3 * FRAMES - 1])
    assert (data.dtype, data.shape) == (np.float32, (3 * FRAMES, 267))
    for number, walk in enumerate(WALKS):
        own = data[number * FRAMES : (number + 1) * FRAMES]
        angles, hips = facing(as_published(walk)), walk.positions[:, 0, [0, 2]] / FOOT
        found = integrated(own, *hips[0], facing=-angles[0])
        np.testing.assert_allclose(found[:, :2], hips, atol=1e-4)
        np.testing.assert_allclose(found[:, 2], -angles, atol=1e-4)


def test_positions_and_velocities_are_those_of_the_world(file: Path) -> None:
    data, _ = arrays(file)
    walk, own = WALKS[0], data[:FRAMES]
    published = as_published(walk)
    back = facing_frames(facing(published)).swapaxes(-1, -2)  # from the world to the frame's facing
    for name in ORDER:
        there = published.positions[:, JOINTS.index(name)]
        root = walk.positions[:, 0] * [1, 0, 1]
        local = np.einsum("tab,tb->ta", back, there - root) / FOOT
        np.testing.assert_allclose(block(own, 3, name), local, atol=1e-5)
        moved = np.einsum("tab,tb->ta", back[1:], np.diff(there, axis=0)) / FOOT
        np.testing.assert_allclose(block(own, 69, name)[1:], moved, atol=1e-5)
    heights = walk.positions[:, [NAMES.index("LeftToe"), NAMES.index("RightToe")], 1] / FOOT
    np.testing.assert_allclose(own[:, [4, 7]], heights, atol=1e-5)


def test_all_up_vectors_stand_before_all_forward_vectors(file: Path) -> None:
    data, _ = arrays(file)
    walk = WALKS[0]
    back = facing_frames(facing(as_published(walk))).swapaxes(-1, -2)
    for name, own in (("LeftFoot", "LeftFoot"), ("Hips", "Hips"), ("RightForeArm", "RightForeArm"), ("Neck", "Head")):
        axes = back @ walk.rotations[:, NAMES.index(own)]
        np.testing.assert_allclose(block(data[:FRAMES], 135, name), axes[..., 1], atol=1e-6)
        np.testing.assert_allclose(block(data[:FRAMES], 201, name), axes[..., 2], atol=1e-6)
    up, forward = (data[:, first : first + 66].reshape(-1, 3) for first in (135, 201))
    np.testing.assert_allclose(np.linalg.norm(up, axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose((up * forward).sum(-1), 0, atol=1e-5)


def test_a_mirrored_walk_has_mirrored_numbers(tmp_path: Path, file: Path) -> None:
    """So left is left: z is right, and a turn changes its sign."""
    data, _ = arrays(file)
    mirrored = []
    for walk in WALKS:
        other, across = list(SKELETON.mirror), np.diag([1.0, 1.0, -1.0])
        mirrored.append(
            Clip(SKELETON, 30.0, walk.positions[:, other] @ across, across @ walk.rotations[:, other] @ across)
        )
    write_npz(tmp_path / "mirrored.npz", mirrored)
    found, _ = arrays(tmp_path / "mirrored.npz")
    swap = {"Left": "Right", "Righ": "Left"}
    for name in ORDER:
        other = name if name[:4] not in swap else swap[name[:4]] + name.removeprefix("Left").removeprefix("Right")
        for first, sign in ((3, 1), (69, 1), (135, 1), (201, -1)):
            np.testing.assert_allclose(
                block(found, first, other), sign * block(data, first, name) * [1, 1, -1], atol=2e-5
            )
    np.testing.assert_allclose(found[:, :3], data[:, :3] * [1, -1, -1], atol=2e-5)
    assert block(data, 3, "LeftUpLeg")[:, 2].max() < 0 < block(data, 3, "RightUpLeg")[:, 2].min()


def test_the_skeleton_of_a_file_is_that_of_who_walked(file: Path) -> None:
    clips = read_npz(file)
    skeleton = skeleton_of(clips)
    assert skeleton.names == JOINTS
    bones = np.array(skeleton.offsets)
    for name in ("ForeArm", "Hand", "UpLeg", "Leg", "Foot", "ToeBase"):
        own = np.array(SKELETON.offsets[NAMES.index(f"Left{name}".replace("ToeBase", "Toe"))])
        np.testing.assert_allclose(bones[JOINTS.index(f"Left{name}")], own, atol=1e-5)
    angles = facing(as_published(WALKS[0]))
    start = (*WALKS[0].positions[0, 0, [0, 2]], angles[0])
    found = decode(clips[0], skeleton, 30.0, start)
    ankles = [JOINTS.index("LeftFoot"), JOINTS.index("RightFoot")]
    truth = WALKS[0].positions[:, [NAMES.index("LeftFoot"), NAMES.index("RightFoot")]]
    np.testing.assert_allclose(found.positions[:, ankles], truth, atol=1e-4)
    mirror = np.array(skeleton.mirror)
    np.testing.assert_array_equal(mirror[mirror], np.arange(22))
    for name, other in zip(JOINTS, mirror, strict=True):
        assert JOINTS[other] == name.replace("Left", "*").replace("Right", "Left").replace("*", "Right")


SIDES = (("Left", "L"), ("Right", "R"))
BONES = ("Shoulder", "Arm", "ForeArm", "Hand", "UpLeg", "Leg", "Foot", "ToeBase")
ELSEWHERE: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    # How a side is written, the middle from hips to head, the bones of a side in the order of BONES.
    "mixamo": (
        "mixamorig:{0}{1}",
        tuple(f"mixamorig:{name}" for name in ("Hips", "Spine", "Spine1", "Spine2", "Neck", "Head")),
        BONES,
    ),
    "lafan": ("{0}{1}", ("Hips", "Spine", "Spine1", "Spine2", "Neck", "Head"), (*BONES[:-1], "Toe")),
    "cmu": ("{0}{1}", ("Hips", "LowerBack", "Spine", "Spine1", "Neck", "Neck1", "Head"), BONES),
    "bandai": (
        "{1}_{2}",
        ("Hips", "Spine", "Chest", "Neck", "Head"),
        ("Shoulder", "UpperArm", "LowerArm", "Hand", "UpperLeg", "LowerLeg", "Foot", "Toes"),
    ),
    "smpl": (
        "{2}_{1}",
        ("Pelvis", "Spine1", "Spine2", "Spine3", "Neck", "Head"),
        ("Collar", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle", "Foot"),
    ),
    "biped": (
        "Bip01 {2} {1}",
        ("Bip01 Pelvis", "Bip01 Spine", "Bip01 Spine1", "Bip01 Neck", "Bip01 Head"),
        ("Clavicle", "UpperArm", "Forearm", "Hand", "Thigh", "Calf", "Foot", "Toe0"),
    ),
    "old": (
        "{0}{1}",
        ("Hips", "Chest", "Neck", "Head"),
        ("Collar", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle", "Toe"),
    ),
}


def body(kind: str) -> tuple[Skeleton, dict[str, str]]:
    """A skeleton of such names, and which joint should be which."""
    pattern, middle, bones = ELSEWHERE[kind]
    names, parents = list(middle), list(range(-1, len(middle) - 1))
    expected = {"Hips": middle[0], "Neck": next(name for name in middle if name.lower().endswith("neck"))}
    chest = names.index(expected["Neck"]) - 1
    for word, letter in SIDES:
        for number, bone in enumerate(bones):
            parents.append(chest if number == 0 else 0 if number == 4 else len(names) - 1)
            names.append(pattern.format(word, bone, letter))
            expected[word + BONES[number]] = names[-1]
    return Skeleton(tuple(names), tuple(parents), ((0.0, 0.1, 0.0),) * len(names)), expected


@pytest.mark.parametrize("kind", ELSEWHERE)
def test_joints_are_found_by_the_names_that_skeletons_have(kind: str) -> None:
    skeleton, expected = body(kind)
    found = find_roles(skeleton, {})
    assert {role: skeleton.names[joint] for role, joint in found.items()} == expected


def test_the_spine_is_divided_by_its_length() -> None:
    """Fixed points of the bones, on the way from hips to neck."""
    published, walk = as_published(WALKS[0]), WALKS[0]
    hips, spine, head = (walk.positions[:, NAMES.index(name)] for name in ("Hips", "Spine", "Head"))
    ends = np.linalg.norm(spine - hips, axis=-1), np.linalg.norm(head - spine, axis=-1)
    for name, part in SPINE.items():
        at = part * (ends[0] + ends[1])
        on_first = hips + (spine - hips) * (at / ends[0])[:, None]
        on_second = spine + (head - spine) * ((at - ends[0]) / ends[1])[:, None]
        below = at < ends[0]
        expected = np.where(below[:, None], on_first, on_second)
        np.testing.assert_allclose(published.positions[:, JOINTS.index(name)], expected, atol=1e-9)
        bone = NAMES.index("Hips" if below.all() else "Spine")
        np.testing.assert_array_equal(published.rotations[:, JOINTS.index(name)], walk.rotations[:, bone])
    for side in ("Left", "Right"):  # the walk has no shoulders: they sit at the neck, on the way to the arms
        arm, shoulder = walk.positions[:, NAMES.index(f"{side}Arm")], JOINTS.index(f"{side}Shoulder")
        np.testing.assert_allclose(published.positions[:, shoulder], 0.85 * head + 0.15 * arm)
        np.testing.assert_array_equal(published.rotations[:, shoulder], walk.rotations[:, NAMES.index("Spine")])


def test_a_body_that_has_all_joints_keeps_them() -> None:
    """Four spine joints are taken as they are, wherever they sit."""
    published = as_published(WALKS[1])
    stretched = replace(published, positions=published.positions * [1.0, 1.01, 1.0])
    again = as_published(stretched)
    np.testing.assert_array_equal(again.positions, stretched.positions)
    np.testing.assert_array_equal(again.rotations, stretched.rotations)
    assert again.skeleton.names == JOINTS


def test_what_is_missing_is_named_and_can_be_told(tmp_path: Path) -> None:
    strange = {"LeftToe": "Lefty", "RightToe": "Righty"}
    walk = replace(WALKS[0], skeleton=replace(SKELETON, names=tuple(strange.get(name, name) for name in NAMES)))
    with pytest.raises(SakiyomiError, match=r"no joint for LeftToeBase, RightToeBase; .*'LeftToeBase': NAME.*Lefty"):
        write_npz(tmp_path / "a.npz", [walk])
    assert not (tmp_path / "a.npz").exists()
    write_npz(tmp_path / "a.npz", [walk], {"LeftToeBase": "Lefty", "RightToeBase": "Righty"})
    write_npz(tmp_path / "b.npz", [WALKS[0]])
    np.testing.assert_array_equal(arrays(tmp_path / "a.npz")[0], arrays(tmp_path / "b.npz")[0])
    with pytest.raises(SakiyomiError, match=r"unknown joint of a mocap\.npz 'LeftToe': did you mean 'LeftToeBase'"):
        as_published(walk, {"LeftToe": "Lefty"})
    with pytest.raises(SakiyomiError, match="unknown joint 'Left': did you mean 'Lefty'"):
        as_published(walk, {"LeftToeBase": "Left"})


def test_other_rates_become_30(tmp_path: Path) -> None:
    slow = Clip(SKELETON, 15.0, WALKS[0].positions[::2], WALKS[0].rotations[::2])
    write_npz(tmp_path / "a.npz", [slow])
    (poses,) = read_npz(tmp_path / "a.npz")
    assert len(poses) == FRAMES - 1
    assert poses[:, 0].mean() == pytest.approx(forward_speed(WALKS[0]), rel=0.02)


def forward_speed(walk: Clip) -> float:
    """m/s, forward."""
    way = np.diff(walk.positions[:, 0, [0, 2]], axis=0) * 30
    angles = facing(as_published(walk))[:-1]
    return float((way[:, 0] * np.cos(angles) + way[:, 1] * np.sin(angles)).mean())


def test_a_store_of_another_body_is_written_too(tmp_path: Path) -> None:
    store = GeneratedWalk(clips=2, validation=1, test=1, seconds=2).record(tmp_path / "store")
    write_store(tmp_path / "a.npz", store)
    clips = read_npz(tmp_path / "a.npz")
    assert [len(clip) for clip in clips] == [60] * 4
    hips = store.values(store.entries[2].id, "pose")[:, 4]
    np.testing.assert_allclose(clips[2][:, LAYOUT.part("positions")][:, 1], hips, atol=1e-5)


def test_the_store_says_what_it_holds_and_goes_on_where_it_stopped(tmp_path: Path, file: Path) -> None:
    source = MvaeNpz(str(file), validation=0.3, test=0.3)
    store = source.record(tmp_path / "store")
    assert sorted(entry.split for entry in store.entries) == ["test", "train", "validation"]
    assert store.streams["pose"].names == LAYOUT.names
    assert msgspec.convert(store.origin["skeleton"], Skeleton) == skeleton_of(read_npz(file))
    manifest = tmp_path / "store" / "manifest.jsonl"
    lines = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(lines[0])
    told = []
    again = source.record(tmp_path / "store", lambda done, total: told.append((done, total)))
    assert again.entries == store.entries
    assert told == [(1, 3), (2, 3), (3, 3)]
    write_poses(tmp_path / "other.npz", read_npz(file)[:2] * 2)
    with pytest.raises(SakiyomiError, match="made with other settings"):
        MvaeNpz(str(tmp_path / "other.npz"), validation=0.3, test=0.3).record(tmp_path / "store")


def test_splits_are_even_and_never_without_training() -> None:
    for count in (2, 3, 5, 10, 40):
        dealt = splits(count, 0.15, 0.15)
        assert len(dealt) == count
        assert dealt.count("train") >= count / 2
        assert dealt.count("validation") == max(1, round(0.15 * count))
        assert dealt.count("test") == round(0.15 * count)
    assert splits(4, 0, 0) == ["train"] * 4
    assert splits(1, 0, 0) == ["train"]
    with pytest.raises(SakiyomiError, match="there is one clip"):
        splits(1, 0.15, 0.15)


def good() -> dict[str, Any]:
    return {"data": np.zeros((6, 267), np.float32), "end_indices": np.array([2, 5])}


def with_nan() -> np.ndarray:
    data = np.zeros((6, 267), np.float32)
    data[4, 100] = np.nan
    return data


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": None}, "has end_indices; it needs data and end_indices"),
        ({"data": np.zeros((6, 266), np.float32)}, r"data is float32 \[6, 266\]; expected floats \[F, 267\]"),
        ({"data": np.zeros((6, 267), int)}, r"data is int64 \[6, 267\]"),
        ({"data": np.zeros((0, 267), np.float32)}, r"data is float32 \[0, 267\]"),
        ({"data": with_nan()}, "frame 4 of data is not finite"),
        ({"data": np.array([{}], object)}, "cannot be read as an .npz of arrays"),
        ({"end_indices": np.array([2.0, 5.0])}, r"end_indices is float64 \[2\]"),
        ({"end_indices": np.array([], int)}, r"end_indices is int64 \[0\]"),
        ({"end_indices": np.array([3, 3, 5])}, r"end_indices\[1\] is 3 of 6 frames"),
        ({"end_indices": np.array([-1, 5])}, r"end_indices\[0\] is -1 of 6 frames"),
        ({"end_indices": np.array([2, 6])}, "the last end is 6 of 6 frames"),
        ({"end_indices": np.array([2, 4])}, "the last end is 4 of 6 frames; .* rising to 5"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **{key: value for key, value in (good() | changes).items() if value is not None})
    with pytest.raises(SakiyomiError, match=words) as caught:
        read_npz(path)
    assert str(path) in str(caught.value)


def test_a_torn_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **good())
    for content in (path.read_bytes()[:3000], b"no zip", b""):
        path.write_bytes(content)
        with pytest.raises(SakiyomiError, match=r"cannot be read as an \.npz of arrays"):
            read_npz(path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "no path given: name a mocap.npz"),
        ({"path": "nowhere.npz"}, "nowhere.npz does not exist"),
        ({"validation": 0.5, "test": 0.5}, "nothing for training"),
        ({"test": -0.1}, "--test is -0.1"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SakiyomiError, match=words):
        MvaeNpz(**settings).record(tmp_path / "store")


def test_nothing_is_not_written(tmp_path: Path, store: EpisodeStore) -> None:
    with pytest.raises(SakiyomiError, match="no clip to write"):
        write_poses(tmp_path / "a.npz", [])
    with pytest.raises(SakiyomiError, match="holds no motion, only"):
        write_store(tmp_path / "a.npz", store)


@pytest.mark.skipif(not REAL.exists(), reason="needs ../shared/data/motion")
def test_a_real_bvh_file_becomes_267_numbers(tmp_path: Path) -> None:
    recording = find(REAL)[0]
    walk = character(parse_bvh(recording.read(), recording.where))
    write_npz(tmp_path / "a.npz", [walk])
    (poses,) = read_npz(tmp_path / "a.npz")
    data, _ = arrays(tmp_path / "a.npz")
    names = walk.skeleton.names
    for published, own in (("LeftToeBase", "Toes_L"), ("RightHand", "Hand_R"), ("RightLeg", "LowerLeg_R")):
        heights = walk.positions[:, names.index(own), 1]
        np.testing.assert_allclose(block(data, 3, published)[:, 1] * FOOT, heights, atol=1e-5)
    way = np.linalg.norm(np.diff(walk.positions[:, 0, [0, 2]], axis=0), axis=-1).sum()
    assert np.linalg.norm(data[1:, :2], axis=-1).sum() * FOOT == pytest.approx(way, rel=1e-5)
    # The points into which its two spine joints are divided move against each other by a centimetre when it bends.
    found, there = (decode(poses, skeleton_of([poses]), 30.0, stretch=stretch) for stretch in (False, True))
    assert np.abs(found.positions - there.positions).max() < 0.02
    legs = [JOINTS.index(f"Left{bone}") for bone in ("UpLeg", "Leg", "Foot", "ToeBase")]
    assert np.abs(found.positions - there.positions)[:, legs].max() < 2e-4
