"""What is done to whole clips: cut to the character, resampled, mirrored, faced."""

from dataclasses import replace

import numpy as np
import pytest
from bodies import FEET, NAMES, PARENTS, PERSON, SIDES, assemble, moved, person, reframed, with_offsets, yaw
from scipy.spatial.transform import Rotation

from sakiyomi.errors import SakiyomiError
from sakiyomi.motion.skeleton import (
    LEFT,
    RIGHT,
    Clip,
    Skeleton,
    character,
    facing,
    facing_frames,
    forward_kinematics,
    mirror,
    mirror_corrections,
    resample,
    side,
    to_parents,
    to_world,
)


def rigid_error(clip: Clip) -> float:
    """How far joints are from where the skeleton's offsets put them, m."""
    return float(np.abs(forward_kinematics(clip.skeleton, clip.rotations, clip.positions[:, 0]) - clip.positions).max())


def signs(random: np.random.Generator) -> np.ndarray:
    """One of the four rotations that turn axes onto themselves or their opposites."""
    return np.diag([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]][random.integers(4)])


def anyhow(random: np.random.Generator) -> np.ndarray:
    return Rotation.random(rng=random).as_matrix()


def other_axes(seed: int, of_all: bool) -> np.ndarray:
    """Frames for `reframed`, [J, 3, 3]: a left joint has any, its counterpart their mirror image up to signs."""
    random = np.random.default_rng(seed)
    frames = np.empty((len(NAMES), 3, 3))
    mirrored = np.diag([1.0, 1, -1])
    for joint, other in enumerate(SIDES):
        if other == joint:
            frames[joint] = signs(random)
        elif joint < other:
            frames[joint] = anyhow(random) if of_all else signs(random)
            frames[other] = mirrored @ frames[joint] @ np.diag([-1.0, -1, -1]) @ signs(random)
    return frames


def test_a_chain_worked_out_by_hand() -> None:
    skeleton = Skeleton(("a", "b", "c"), (-1, 0, 1), ((9.0, 9, 9), (1.0, 0, 0), (0.0, 2, 0)))
    quarter = Rotation.from_rotvec([0, 0, np.pi / 2]).as_matrix()
    rotations = np.stack([quarter, quarter @ quarter, np.eye(3)])[None]
    places = forward_kinematics(skeleton, rotations, np.array([[1.0, 1, 1]]))
    np.testing.assert_allclose(places, [[[1, 1, 1], [1, 2, 1], [1, 0, 1]]], atol=1e-12)


def test_to_parents_and_to_world_are_inverse() -> None:
    clip = person(10)
    rotations, positions = to_parents(clip)
    np.testing.assert_allclose(positions[:, 1:], np.broadcast_to(PERSON.offsets[1:], (10, 15, 3)), atol=1e-12)
    turned, placed = to_world(PARENTS, rotations, positions)
    np.testing.assert_allclose(turned, clip.rotations, atol=1e-12)
    np.testing.assert_allclose(placed, clip.positions, atol=1e-12)


# Resampling


def test_the_same_rate_leaves_a_clip_as_it_is() -> None:
    clip = person(20)
    assert resample(clip, 30.0) is clip


@pytest.mark.parametrize(("frames", "rate", "wanted", "count"), [
    (61, 60.0, 30.0, 31), (60, 60.0, 30.0, 30), (31, 30.0, 60.0, 61), (11, 10.0, 30.0, 31), (12, 120.0, 30.0, 3),
    (100, 29.97, 30.0, 100), (2, 30.0, 10.0, 1), (1, 120.0, 30.0, 1), (1001, 100.0, 30.0, 301),
    (301, 30.00000005, 30.0, 301),
])  # fmt: skip
def test_a_clip_keeps_its_ends(frames: int, rate: float, wanted: float, count: int) -> None:
    """The first frame stays; the last is at most one frame of the new rate before the end, and never after it."""
    clip = person(frames, rate)
    other = resample(clip, wanted)
    assert other.rate == wanted
    assert len(other.positions) == len(other.rotations) == count
    end, last = (frames - 1) / rate, (count - 1) / wanted
    assert end - 1 / wanted < last < end + 1e-6
    np.testing.assert_allclose(other.positions[0], clip.positions[0], atol=1e-12)
    if end - last < 1e-9:
        np.testing.assert_allclose(other.positions[-1], clip.positions[-1], atol=1e-6)


def test_frames_at_the_old_times_are_the_old_frames_and_bones_keep_their_length() -> None:
    clip = person(25, 30.0, wild=1.0)
    finer = resample(clip, 90.0)
    np.testing.assert_allclose(finer.positions[::3], clip.positions, atol=1e-9)
    np.testing.assert_allclose(finer.rotations[::3], clip.rotations, atol=1e-9)
    assert rigid_error(finer) < 1e-9
    again = resample(finer, 30.0)
    np.testing.assert_allclose(again.positions, clip.positions, atol=1e-9)


def test_between_frames_joints_turn_evenly_and_move_straight() -> None:
    """Half-way turns, not mean matrices: a joint that turns by 2 rad a frame is 1 rad on half-way."""
    times = np.arange(6)
    turns = np.array([0.0, 2.0, 0.4])[:, None] * times  # three joints, rad
    local = Rotation.from_rotvec(np.outer(turns.T.ravel(), [0.6, 0, 0.8])).as_matrix().reshape(6, 3, 3, 3)
    skeleton = Skeleton(("a", "b", "c"), (-1, 0, 1), ((0.0, 0, 0), (1.0, 0, 0), (0.0, 1, 0)))
    root = np.outer(times**2, [1.0, 2, 3])
    clip = assemble(skeleton, 1.0, local, root)
    rotations, positions = to_parents(resample(clip, 2.0))
    angle = Rotation.from_matrix(rotations[1::2, 1]).as_rotvec() @ [0.6, 0, 0.8]
    np.testing.assert_allclose(np.cos(angle), np.cos(2 * times[:-1] + 1.0), atol=1e-9)
    np.testing.assert_allclose(positions[1::2, 0], (root[1:] + root[:-1]) / 2, atol=1e-12)


@pytest.mark.parametrize("rate", [0.0, -30.0, float("nan")])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(SakiyomiError, match="the rate is"):
        resample(person(5), rate)


# The character


def named(names: list[str], parents: list[int], heights: list[float] | None = None) -> Clip:
    """A still body of joints at these heights above each other."""
    places = np.zeros((3, len(names), 3))
    places[..., 1] = heights or 0.0
    rotations = np.tile(np.eye(3), (3, len(names), 1, 1))
    return Clip(Skeleton(tuple(names), tuple(parents), ((0.0, 0.0, 0.0),) * len(names)), 30.0, places, rotations)


def test_a_character_is_the_pelvis_and_what_hangs_from_it() -> None:
    """A file's scene root, its props and its camera are not part of it."""
    clip = person(10)
    names = ("scene", "camera", *NAMES, "sword")
    parents = (-1, 0, 0, *(parent + 2 for parent in PARENTS[1:]), 0)
    around = np.zeros((10, 1, 3))
    turned = np.tile(np.eye(3), (10, 1, 1, 1))
    whole = Clip(
        Skeleton(names, parents, ((0.0, 0, 0), (1.0, 1, 1), (5.0, 5, 5), *PERSON.offsets[1:], (3.0, 3, 3))),
        30.0,
        np.concatenate((around, around, clip.positions, around), 1),
        np.concatenate((turned, turned, clip.rotations, turned), 1),
    )
    found = character(whole)
    assert found.skeleton == PERSON  # feet and sides too
    np.testing.assert_array_equal(found.positions, clip.positions)
    np.testing.assert_array_equal(found.rotations, clip.rotations)
    arm = character(whole, pelvis="LeftArm", feet=["LeftHand"])
    assert arm.skeleton == Skeleton(("LeftArm", "LeftHand"), (-1, 0), ((0.0, 0, 0), PERSON.offsets[14]), ("LeftHand",))


@pytest.mark.parametrize(("names", "parents", "pelvis"), [
    (["root", "Hips", "LeftHip", "RightHip"], [-1, 0, 1, 1], "Hips"),
    (["Reference", "mixamorig:Hips", "a", "b"], [-1, 0, 1, 1], "mixamorig:Hips"),
    (["Bip01", "Bip01 Pelvis", "a", "b"], [-1, 0, 1, 1], "Bip01 Pelvis"),
    (["world", "hip", "a", "b"], [-1, 0, 1, 1], "hip"),
    (["chips", "a", "b", "c"], [-1, 0, 1, 1], "a"),
    (["a", "b", "c", "d"], [-1, 0, 1, 1], "b"),
    (["a", "b", "c", "d"], [-1, 0, 1, 2], "a"),
    (["a", "L_Hip", "c", "d"], [-1, 0, 0, 1], "a"),
])  # fmt: skip
def test_the_pelvis_is_found_by_name_or_by_the_first_fork(names: list[str], parents: list[int], pelvis: str) -> None:
    assert character(named(names, parents), feet=names[-1:]).skeleton.names[0] == pelvis


def test_names_that_do_not_exist_are_refused() -> None:
    clip = person(3)
    with pytest.raises(SakiyomiError, match=r"unknown pelvis 'Hip': did you mean 'Hips'\? known: Head, Hips"):
        character(clip, pelvis="Hip")
    with pytest.raises(SakiyomiError, match=r"unknown foot 'LeftFeet': did you mean 'LeftFoot'\?"):
        character(clip, feet=["LeftFeet"])
    with pytest.raises(SakiyomiError, match="unknown foot 'LeftFoot': known: Head, Neck"):
        character(clip, pelvis="Neck", feet=["LeftFoot"])


@pytest.mark.parametrize("feet", [
    ["LeftFoot", "LeftToeBase"], ["lfoot", "rtoes"], ["L_Ankle", "R_ankle"], ["foot_l", "ball_l"], ["left_heel"],
])  # fmt: skip
def test_feet_are_found_by_name(feet: list[str]) -> None:
    names = ["Hips", "Spine", "Baller", *feet]
    assert character(named(names, [-1] + [0] * (len(names) - 1))).skeleton.feet == tuple(feet)


def test_feet_without_a_name_are_the_lowest_ends_and_the_joints_just_above_them() -> None:
    clip = person(30)
    clip = replace(clip, skeleton=replace(PERSON, names=tuple(f"j{i}" for i in range(16)), feet=(), mirror=()))
    found = character(clip, pelvis="j0").skeleton
    assert found.feet == tuple(f"j{NAMES.index(name)}" for name in FEET)
    assert found.mirror == ()
    # A leg that ends at the ankle: the knee is no foot.
    assert character(named(["Hips", "a", "b"], [-1, 0, 1], [1.0, 0.5, 0.0])).skeleton.feet == ("b",)


@pytest.mark.parametrize(("parents", "heights"), [
    ([-1, 0, 1, 0, 3], [0.0, 0.5, 1.0, 0.4, 1.2]),  # all above the pelvis
    ([-1, 0, 1, 0, 3], [1.0, 1.0, 1.0, 1.0, 1.0]),  # lying
    ([-1, 0, 1, 0, 3], [0.1, 0.5, 0.0, 0.4, 1.2]),  # hardly below
])  # fmt: skip
def test_a_skeleton_without_feet_is_told(parents: list[int], heights: list[float]) -> None:
    clip = named(["Hips", "a", "b", "c", "d"], parents, heights)
    with pytest.raises(
        SakiyomiError, match=r"no feet found: .* below the pelvis 'Hips'; name them \(--feet\).* are Hips, a"
    ):
        character(clip)
    assert character(clip, feet=["b", "d"]).skeleton.feet == ("b", "d")


# Sides


@pytest.mark.parametrize(("left", "right"), [
    ("LeftFoot", "RightFoot"), ("leftfoot", "rightfoot"), ("foot_left", "foot_right"), ("LEFT_FOOT", "RIGHT_FOOT"),
    ("L_Foot", "R_Foot"), ("Foot_L", "Foot_R"), ("foot.l", "foot.r"), ("Bip01 L Foot", "Bip01 R Foot"),
    ("lFoot", "rFoot"), ("LFoot", "RFoot"), ("FootL", "FootR"), ("mixamorig:LeftFoot", "mixamorig:RightFoot"),
    ("hand_l_01", "hand_r_01"), ("LHipJoint", "RHipJoint"), ("l-hand", "r-hand"),
    ("mixamorig:lHand", "mixamorig:rHand"),
])  # fmt: skip
def test_sides_are_told_by_the_usual_names(left: str, right: str) -> None:
    assert (side(left), side(right)) == (LEFT, RIGHT)
    found = character(named(["Hips", left, "Spine", right], [-1, 0, 0, 0]), feet=[left]).skeleton
    assert found.mirror == (0, 3, 2, 1)


@pytest.mark.parametrize("name", ["LowerBack", "Root", "L5", "Hips", "Lumbar", "Ribs", "Spine1", "joint_Root", "Neck"])
def test_names_of_the_middle_tell_no_side(name: str) -> None:
    assert side(name) == 0


@pytest.mark.parametrize(("names", "parents", "words"), [
    (["Hips", "a", "b"], [-1, 0, 0], "no joint's name tells a side, such as LeftFoot and RightFoot"),
    (["Hips", "LeftFoot", "b"], [-1, 0, 0], "'LeftFoot' has no counterpart 'RightFoot'"),
    (["Hips", "LeftFoot", "b", "RightFoot"], [-1, 0, 0, 2], "'LeftFoot' and 'RightFoot' hang from joints that are no"),
])  # fmt: skip
def test_where_sides_are_unknown_nothing_is_mirrored(names: list[str], parents: list[int], words: str) -> None:
    clip = character(named(names, parents), feet=["b"])
    assert clip.skeleton.mirror == ()
    with pytest.raises(SakiyomiError, match=f"cannot be mirrored: {words}"):
        mirror(clip)


# Mirroring


@pytest.mark.parametrize("seed", range(8))
def test_a_mirrored_clip_belongs_to_the_skeleton(seed: int) -> None:
    """Whatever the axes of left and right joints: places are mirrored, rotations are some, bones fit, twice is once."""
    random = np.random.default_rng(seed)
    frames = np.stack([anyhow(random) for _ in NAMES]) if seed % 2 else other_axes(seed, of_all=seed % 4 == 0)
    clip = reframed(person(40, seed=seed), frames)
    assert rigid_error(clip) < 1e-9
    corrections = mirror_corrections(clip)
    other = mirror(clip, corrections)
    np.testing.assert_array_equal(other.rotations, mirror(clip).rotations)
    np.testing.assert_allclose(other.positions, clip.positions[:, list(SIDES)] * [1, 1, -1], atol=1e-12)
    unit = other.rotations @ other.rotations.swapaxes(-1, -2)
    np.testing.assert_allclose(unit, np.broadcast_to(np.eye(3), unit.shape), atol=1e-9)
    assert np.linalg.det(other.rotations).min() > 0.999
    assert rigid_error(other) < 1e-5
    again = mirror(other, corrections)
    np.testing.assert_allclose(again.positions, clip.positions, atol=1e-12)
    np.testing.assert_allclose(again.rotations, clip.rotations, atol=1e-5)


@pytest.mark.parametrize("seed", range(8))
def test_a_mirrored_joint_turns_as_its_counterpart_did(seed: int) -> None:
    """Where axes follow the sides, the mirrored clip is the one that the mirrored joint angles make, ends too."""
    plain = person(60, seed=seed)
    # In a body whose axes are all along the world's at rest, a mirrored turn is the turn with x and y negated.
    rotations, _ = to_parents(plain)
    turns = Rotation.from_matrix(rotations[:, list(SIDES)].reshape(-1, 3, 3)).as_rotvec().reshape(60, -1, 3)
    local = Rotation.from_rotvec((turns * [-1, -1, 1]).reshape(-1, 3)).as_matrix().reshape(60, -1, 3, 3)
    truth = assemble(PERSON, 30.0, local, plain.positions[:, 0] * [1, 1, -1])
    frames = other_axes(seed, of_all=False)
    other, wanted = mirror(reframed(plain, frames)), reframed(truth, frames)
    np.testing.assert_allclose(other.positions, wanted.positions, atol=1e-9)
    np.testing.assert_allclose(other.rotations, wanted.rotations, atol=1e-5)


def test_small_differences_between_the_sides_cost_as_much_and_no_more() -> None:
    """The right leg 5 mm longer: a mirrored clip keeps the places, bones miss them by that."""
    offsets = np.array(PERSON.offsets)
    offsets[NAMES.index("RightLeg")] *= 1 + 0.005 / 0.42
    clip = person(30)
    clip = replace(clip, skeleton=with_offsets(PERSON, offsets))
    clip = replace(clip, positions=forward_kinematics(clip.skeleton, clip.rotations, clip.positions[:, 0]))
    other = mirror(clip)
    assert 0.004 < rigid_error(other) < 0.0051
    again = mirror(other)
    np.testing.assert_allclose(again.rotations, clip.rotations, atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_even_of_a_skeleton_without_symmetry_rotations_stay_rotations(seed: int) -> None:
    offsets = np.random.default_rng(seed).normal(size=(len(NAMES), 3))
    clip = person(5)
    other = mirror(replace(clip, skeleton=with_offsets(PERSON, offsets)))
    np.testing.assert_allclose(np.linalg.det(other.rotations), 1, atol=1e-9)


def test_clips_mirrored_with_the_same_corrections_fit_together() -> None:
    """An asymmetric motion alone might choose other ones: here the left hand is turned over."""
    clip = person(30)
    hand = NAMES.index("LeftHand")
    odd = replace(clip, rotations=clip.rotations.copy())
    odd.rotations[:, hand] = odd.rotations[:, hand] @ np.diag([1.0, -1, -1])
    corrections = mirror_corrections(clip)
    assert np.abs(mirror_corrections(odd) - corrections).max() > 0.5
    spine, other = (mirror(each, corrections).rotations[:, NAMES.index("Spine")] for each in (clip, odd))
    np.testing.assert_array_equal(spine, other)
    np.testing.assert_allclose(mirror(clip, corrections).rotations, mirror(clip).rotations)


# Facing


def test_at_rest_a_body_faces_along_x() -> None:
    rest = assemble(PERSON, 30.0, np.tile(np.eye(3), (4, len(NAMES), 1, 1)), np.zeros((4, 3)))
    np.testing.assert_allclose(facing(rest), 0, atol=1e-12)
    np.testing.assert_allclose(facing(moved(rest, yaw(0.7))), 0.7, atol=1e-12)
    # To the right is positive: a quarter turn right looks along z.
    assert moved(rest, yaw(np.pi / 2)).rotations[0, 0, 2, 0] == pytest.approx(1)


def test_where_sides_are_unknown_the_axis_after_the_vertical_one_is_ahead() -> None:
    """At rest y is up, and z is taken for forward; with axes turned to x up, y is, and so on."""
    rest = assemble(PERSON, 30.0, np.tile(np.eye(3), (4, len(NAMES), 1, 1)), np.zeros((4, 3)))
    rest = replace(rest, skeleton=replace(PERSON, mirror=()))
    np.testing.assert_allclose(facing(rest), np.pi / 2, atol=1e-12)
    for turns in (1, 2):
        other = np.roll(np.eye(3), turns, 0)  # the same axes under other names
        np.testing.assert_allclose(facing(reframed(rest, np.tile(other, (len(NAMES), 1, 1)))), np.pi / 2, atol=1e-12)


@pytest.mark.parametrize("sides", [True, False])
def test_facing_turns_with_the_body_and_runs_on_over_whole_turns(sides: bool) -> None:
    skeleton = PERSON if sides else replace(PERSON, mirror=())
    clip = replace(person(200, seed=3), skeleton=skeleton)
    angles = facing(clip)
    other = facing(moved(clip, yaw(2.0), (3, 1, 2)))
    np.testing.assert_allclose((other - angles - 2.0 + 1) % (2 * np.pi), 1, atol=1e-9)
    np.testing.assert_allclose(np.diff(other), np.diff(angles), atol=1e-9)
    spin = np.linspace(0, 30, 200)
    spun = replace(
        clip,
        positions=np.einsum("tab,tjb->tja", np.stack([yaw(a) for a in spin]), clip.positions),
        rotations=np.stack([yaw(a) for a in spin])[:, None] @ clip.rotations,
    )
    np.testing.assert_allclose(np.diff(facing(spun)), np.diff(angles) + np.diff(spin), atol=1e-9)


def test_facing_of_a_mirrored_clip_has_the_other_sign() -> None:
    clip = person(50)
    angles, other = facing(clip), facing(mirror(clip))
    np.testing.assert_allclose((angles + other + 1) % (2 * np.pi), 1, atol=1e-9)


def test_facing_does_not_follow_the_legs_or_the_swing_of_arms() -> None:
    """Knees and hands far to a side change nothing, only the lines between hips and between shoulders count."""
    clip = person(20)
    other = replace(clip, positions=clip.positions.copy())
    for name in ("LeftLeg", "LeftHand", "RightFoot", "RightHand"):
        other.positions[:, NAMES.index(name)] += [0.5, 0.0, -0.8]
    np.testing.assert_array_equal(facing(other), facing(clip))


def test_the_facing_is_seen_past_joints_of_no_length() -> None:
    """As in CMU's files: both legs begin where the pelvis is, and come apart one joint further down."""
    names = ("Hips", "LHipJoint", "LeftUpLeg", "RHipJoint", "RightUpLeg")
    offsets = ((0.0, 1.0, 0.0), (0.0, 0.0, 0.0), (0.0, -0.1, -0.1), (0.0, 0.0, 0.0), (0.0, -0.1, 0.1))
    skeleton = Skeleton(names, (-1, 0, 1, 0, 3), offsets, mirror=(0, 3, 4, 1, 2))
    turns = np.linspace(0, 2 * np.pi, 20)
    rotations = np.repeat(facing_frames(turns)[:, None], 5, axis=1)
    positions = forward_kinematics(skeleton, rotations, np.tile([0.0, 1.0, 0.0], (20, 1)))
    np.testing.assert_allclose(facing(Clip(skeleton, 30.0, positions, rotations)), turns, atol=1e-9)
