"""Clips become numbers and numbers become clips, nothing is lost between."""

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bodies import NAMES, PERSON, assemble, moved, person, reframed, yaw
from scipy.spatial.transform import Rotation

from sakiyomi.data.formats.bvh import write_bvh
from sakiyomi.errors import SakiyomiError
from sakiyomi.motion.features import compare, decode, encode, round_trip, stretches
from sakiyomi.motion.layout import Layout
from sakiyomi.motion.skeleton import Clip, Skeleton, facing, mirror

LAYOUT = Layout(NAMES)
REAL = Path(__file__).parents[1].parent / "shared" / "data" / "motion" / "bandai_namco_2_walk_run.zip"


def number(values: np.ndarray, name: str) -> np.ndarray:
    return values[:, LAYOUT.names.index(name)]


def walking(speed: float, turn: float, frames: int = 90, rate: float = 30.0, side: float = 0.0) -> Clip:
    """A stiff person on a straight line or a circle, facing along it; `side` m/s of it to the right."""
    facing = 0.4 + turn * np.arange(frames) / rate
    forward, right = (np.stack((np.cos(a), 0 * a, np.sin(a)), 1) for a in (facing, facing + np.pi / 2))
    way = (speed * forward + side * right)[:-1] / rate
    root = np.cumsum(np.concatenate(([[2.0, 0.93, 5.0]], way)), 0)
    local = np.tile(np.eye(3), (frames, len(NAMES), 1, 1))
    local[:, 0] = np.stack([yaw(angle) for angle in facing])
    return assemble(PERSON, rate, local, root)


@pytest.mark.parametrize("rate", [30.0, 60.0])
def test_a_walk_on_a_circle_worked_out_by_hand(rate: float) -> None:
    """Metres and radians a second, whatever the rate; each frame's motion is seen from the frame before."""
    encoded = encode(walking(1.5, 0.8, rate=rate, side=-0.2))
    values = encoded.values
    assert values.dtype == np.float32
    assert values.shape == (90, LAYOUT.width)
    np.testing.assert_allclose(encoded.start, (2.0, 5.0, 0.4), atol=1e-9)
    for name, truth in {
        "root.forward": 1.5, "root.right": -0.2, "root.turn": 0.8,
        "positions.Hips.x": 0.0, "positions.Hips.y": 0.93, "positions.Hips.z": 0.0,
        "positions.RightToe.x": 0.13, "positions.RightToe.y": 0.0, "positions.LeftUpLeg.z": -0.1,
        "velocities.Hips.x": 1.5, "velocities.Hips.y": 0.0, "velocities.Hips.z": -0.2,
        "up.Head.x": 0.0, "up.Head.y": 1.0, "forward.Head.y": 0.0, "forward.Head.z": 1.0,
    }.items():  # fmt: skip
        np.testing.assert_allclose(number(values, name), truth, atol=1e-5, err_msg=name)


def test_the_first_frame_borrows_what_has_no_frame_before_it() -> None:
    """Statistics of a store are not pulled to zero; positions and rotations are its own."""
    values = encode(person(20)).values
    for part in ("root", "velocities"):
        np.testing.assert_array_equal(values[0, LAYOUT.part(part)], values[1, LAYOUT.part(part)])
        assert np.abs(values[0, LAYOUT.part(part)] - values[2, LAYOUT.part(part)]).max() > 1e-4
    assert np.abs(values[0, LAYOUT.part("positions")] - values[1, LAYOUT.part("positions")]).max() > 1e-4


def test_a_single_frame_stands_still() -> None:
    encoded = encode(person(1))
    assert not encoded.values[0, LAYOUT.part("velocities")].any()
    clip = decode(encoded.values, PERSON, 30.0, encoded.start)
    np.testing.assert_allclose(clip.positions, person(1).positions, atol=1e-5)


def test_two_frames_have_a_motion() -> None:
    encoded = encode(person(2))
    np.testing.assert_array_equal(encoded.values[0, :3], encoded.values[1, :3])
    clip = decode(encoded.values, PERSON, 30.0, encoded.start)
    np.testing.assert_allclose(clip.positions, person(2).positions, atol=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_decoding_undoes_encoding(seed: int) -> None:
    """Whatever the axes of the joints, also over whole turns, at any rate."""
    clip = person(150, rate=[30.0, 60.0, 25.0][seed % 3], seed=seed, wild=0.3 if seed else 2.0)
    frames = Rotation.random(len(NAMES), rng=np.random.default_rng(seed)).as_matrix()
    clip = reframed(clip, frames)
    encoded = encode(clip)
    for stretch in (False, True):
        again = decode(encoded.values, clip.skeleton, clip.rate, encoded.start, stretch)
        assert again.rate == clip.rate
        assert again.skeleton == clip.skeleton
        np.testing.assert_allclose(again.positions, clip.positions, atol=2e-5)
        np.testing.assert_allclose(again.rotations, clip.rotations, atol=2e-6)


def test_encoding_undoes_decoding() -> None:
    """Of a clip decoded from poses the poses are the same; the first frame's root motion is not asked."""
    encoded = encode(person(60, seed=2))
    other = encoded.values.copy()
    other[0, LAYOUT.part("root")] = 99.0
    again = encode(decode(other, PERSON, 30.0, encoded.start))
    np.testing.assert_allclose(again.values, encoded.values, atol=5e-4)
    np.testing.assert_allclose(again.start, encoded.start, atol=1e-6)


def test_where_and_whither_a_clip_lies_is_not_in_its_numbers() -> None:
    clip = person(60)
    there = encode(moved(clip, yaw(2.5), (10.0, 0.0, -4.0)))
    np.testing.assert_allclose(there.values, encode(clip).values, atol=2e-5)
    higher = encode(moved(clip, np.eye(3), (0.0, 1.0, 0.0))).values - encode(clip).values
    changed = {name for name, most in zip(LAYOUT.names, np.abs(higher).max(0), strict=True) if most > 1e-3}
    assert changed == {f"positions.{joint}.y" for joint in NAMES}


def test_a_mirrored_clip_has_mirrored_numbers() -> None:
    clip = person(60)
    values, other = encode(clip).values, encode(mirror(clip)).values
    sides = list(PERSON.mirror)
    np.testing.assert_allclose(other[:, :3], values[:, :3] * [1, -1, -1], atol=1e-4)
    for part in ("positions", "velocities"):
        own, opposite = (v[:, LAYOUT.part(part)].reshape(60, -1, 3) for v in (other, values))
        np.testing.assert_allclose(own, opposite[:, sides] * [1, 1, -1], atol=1e-4)


def test_bones_keep_their_length_whatever_a_model_says() -> None:
    """Numbers that are no pose: joints follow the rotations; with `stretch` they are where the positions are."""
    random = np.random.default_rng(0)
    values = random.normal(size=(20, LAYOUT.width)).astype(np.float32)
    clip = decode(values, PERSON, 30.0, (1.0, 2.0, 0.3))
    bones = clip.positions[:, 1:] - clip.positions[:, list(PERSON.parents[1:])]
    truth = np.linalg.norm(PERSON.offsets[1:], axis=-1)
    np.testing.assert_allclose(np.linalg.norm(bones, axis=-1), np.tile(truth, (20, 1)), atol=1e-9)
    assert not stretches(clip)
    loose = decode(values, PERSON, 30.0, (1.0, 2.0, 0.3), stretch=True)
    assert stretches(loose)
    np.testing.assert_allclose(loose.positions[..., 1], values[:, LAYOUT.part("positions")].reshape(20, -1, 3)[..., 1])
    np.testing.assert_array_equal(loose.positions[:, 0], clip.positions[:, 0])
    pelvis = [1.0, 0.0, 2.0] + yaw(0.3) @ values[0, 3:6]
    np.testing.assert_allclose(clip.positions[0, 0], pelvis, atol=1e-6)


def test_poses_of_another_skeleton_are_refused() -> None:
    with pytest.raises(SakiyomiError, match=r"poses of 2 joints are \[T, 27\], at least one; got \[5, 195\]"):
        decode(np.zeros((5, 195)), Skeleton(("a", "b"), (-1, 0), ((0.0, 0, 0), (0.0, 1, 0))), 30.0)
    for empty in (np.zeros((0, 195)), np.zeros(195)):
        with pytest.raises(SakiyomiError, match="at least one"):
            decode(empty, PERSON, 30.0)


def test_the_facing_that_is_encoded_is_the_clips() -> None:
    clip = person(100, seed=5)
    encoded = encode(clip)
    angles = np.cumsum([encoded.start[2], *(number(encoded.values, "root.turn")[1:] / 30)])
    np.testing.assert_allclose(angles, facing(clip), atol=1e-5)


# From BVH to BVH


def test_a_round_trip_costs_next_to_nothing_and_no_frame(tmp_path: Path) -> None:
    write_bvh(tmp_path / "a.bvh", person(120, seed=1), "inch")
    trip = round_trip(tmp_path / "a.bvh")
    assert trip.read == trip.written == 120
    assert 0 < trip.millimetres <= trip.worst_millimetres < 0.05
    assert 0 < trip.degrees <= trip.worst_degrees < 0.001


def test_joints_that_move_in_their_parents_frame_survive_the_round_trip(tmp_path: Path) -> None:
    clip = person(60)
    clip.positions[:, NAMES.index("LeftHand"), 1] += 0.1 * np.sin(np.arange(60))
    assert stretches(clip)
    write_bvh(tmp_path / "a.bvh", clip)
    trip = round_trip(tmp_path / "a.bvh")
    assert trip.worst_millimetres < 0.05
    assert trip.worst_degrees < 0.001


def test_a_comparison_measures_what_is_lost() -> None:
    """5 mm of every joint, 2 degrees of one, and 7 frames."""
    clip = person(50)
    other = moved(clip, np.eye(3), (0.003, 0.004, 0.0))
    tilt = Rotation.from_rotvec([0, 0, np.radians(2)]).as_matrix()
    other.rotations[:, 3] = other.rotations[:, 3] @ tilt
    trip = compare(clip, replace(other, positions=other.positions[:-7], rotations=other.rotations[:-7]))
    assert (trip.read, trip.written) == (50, 43)
    assert trip.millimetres == pytest.approx(5)
    assert trip.worst_millimetres == pytest.approx(5)
    assert trip.worst_degrees == pytest.approx(2)
    assert trip.degrees == pytest.approx(2 / len(NAMES))


@pytest.mark.skipif(not REAL.exists(), reason="needs ../shared/data/motion")
def test_real_files_survive_the_round_trip(tmp_path: Path) -> None:
    with zipfile.ZipFile(REAL) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".bvh"))[::40]
        for name in names:
            archive.extract(name, tmp_path)
    for name in names:
        trip = round_trip(tmp_path / name)
        assert trip.read == trip.written > 0
        assert trip.worst_millimetres < 0.1
        assert trip.worst_degrees < 0.01
