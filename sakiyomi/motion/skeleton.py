"""Skeletons and clips of their motion, and what is done to whole clips: cut to a character, resampled, mirrored.

clip = resample(character(read_bvh("walk.bvh")), 30)
other = mirror(clip)
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from sakiyomi.errors import SakiyomiError, unknown

FEET = re.compile(r"foot|feet|toe|ankle|heel|(?<![a-z])ball(?![a-z])", re.IGNORECASE)
PELVIS = re.compile(r"(?<![a-z])(pelvis|hips?)$", re.IGNORECASE)
# LeftFoot, foot_right, L_Foot, Foot.R, "Bip01 L Foot", lFoot, LFoot, FootL; but not LowerBack, Root, L5.
SIDE = re.compile(
    r"(?i:left|right)"
    r"|(?<![A-Za-z0-9])[LRlr](?![A-Za-z0-9])"
    r"|(?<![A-Za-z0-9])[LRlr](?=[A-Z][A-Za-z])"
    r"|(?<=[a-z])[LR]$"
)
OTHER = {"left": "right", "right": "left", "l": "r", "r": "l"}
LEFT, RIGHT = -1, 1
MIRROR = np.diag([1.0, 1.0, -1.0])  # the world's mirror: x and y stay, z changes its sign
# How the axes of a left joint and of its right one are related in skeletons: one of them reflected, or all.
REFLECTIONS = [np.diag(signs) for signs in ((-1.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, -1.0), (-1.0, -1.0, -1.0))]


@dataclass(frozen=True)
class Skeleton:
    """J joints, parents before their children; the first is the root."""

    names: tuple[str, ...]
    parents: tuple[int, ...]
    """Index of each joint's parent, -1 for the root."""
    offsets: tuple[tuple[float, float, float], ...]
    """Where each joint is in its parent's frame, m."""
    feet: tuple[str, ...] = ()
    """Joints that touch the ground: ankles and toes."""
    mirror: tuple[int, ...] = ()
    """Index of each joint's counterpart on the other side, its own in the middle; empty where sides are unknown."""


@dataclass(frozen=True)
class Clip:
    """A recorded or generated motion of T frames."""

    skeleton: Skeleton
    rate: float
    """Frames a second."""
    positions: np.ndarray
    """Of the joints in the world, m, float64 [T, J, 3]."""
    rotations: np.ndarray
    """Of the joints in the world, matrices, float64 [T, J, 3, 3]."""


def forward_kinematics(skeleton: Skeleton, rotations: np.ndarray, root: np.ndarray) -> np.ndarray:
    """World positions [T, J, 3] of the joints: their world rotations [T, J, 3, 3], the root's positions [T, 3]."""
    positions = np.empty(rotations.shape[:-1])
    positions[:, 0] = root
    for joint, parent in enumerate(skeleton.parents[1:], 1):
        positions[:, joint] = positions[:, parent] + rotations[:, parent] @ np.array(skeleton.offsets[joint])
    return positions


def to_parents(clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    """Rotations [T, J, 3, 3] and positions [T, J, 3] of joints in their parents' frames, of the root in the world."""
    parents = list(clip.skeleton.parents[1:])
    rotations, positions = clip.rotations.copy(), clip.positions.copy()
    back = clip.rotations[:, parents].swapaxes(-1, -2)
    rotations[:, 1:] = back @ clip.rotations[:, 1:]
    positions[:, 1:] = (back @ (clip.positions[:, 1:] - clip.positions[:, parents])[..., None])[..., 0]
    return rotations, positions


def to_world(parents: Sequence[int], rotations: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `to_parents`: rotations [T, J, 3, 3] and positions [T, J, 3] in the world."""
    turned, placed = rotations.copy(), positions.copy()
    for joint, parent in enumerate(parents):
        if parent >= 0:
            turned[:, joint] = turned[:, parent] @ rotations[:, joint]
            placed[:, joint] = placed[:, parent] + (turned[:, parent] @ positions[:, joint, :, None])[..., 0]
    return turned, placed


def resample(clip: Clip, rate: float) -> Clip:
    """The clip at another rate: rotations to the parents by slerp, positions in the parents' frames linearly.

    The first frame stays; the last is the last whole frame of the new rate, nothing is extrapolated.
    """
    if not rate > 0:
        raise SakiyomiError(f"the rate is {rate}; it must be more than 0 frames a second")
    if rate == clip.rate:
        return clip
    frames = len(clip.positions)
    # A hair more, so that the last frame is not lost to rounding.
    wanted = np.arange(int((frames - 1) * rate / clip.rate + 1e-6) + 1) * (clip.rate / rate)
    wanted = np.minimum(wanted, frames - 1)
    rotations, positions = to_parents(clip)
    first = np.minimum(wanted.astype(int), max(frames - 2, 0))
    second, share = np.minimum(first + 1, frames - 1), (wanted - first)[:, None, None]
    placed = (1 - share) * positions[first] + share * positions[second]
    turned = rotations[first]
    if frames > 1:
        for joint in range(rotations.shape[1]):
            turned[:, joint] = Slerp(np.arange(frames), Rotation.from_matrix(rotations[:, joint]))(wanted).as_matrix()
    turned, placed = to_world(clip.skeleton.parents, turned, placed)
    return Clip(clip.skeleton, float(rate), placed, turned)


def character(clip: Clip, pelvis: str = "", feet: Sequence[str] = ()) -> Clip:
    """Only the pelvis and what hangs from it (`cut`), with the skeleton's `mirror` and `feet` (`find_feet`) known."""
    clip = cut(clip, pelvis)
    return replace(clip, skeleton=replace(clip.skeleton, feet=find_feet(clip, feet)))


def cut(clip: Clip, pelvis: str = "") -> Clip:
    """Only the pelvis and what hangs from it, with `mirror` of the skeleton filled in by the joints' names.

    The pelvis is the joint of that name, else the first called hips or pelvis, else the first with two children.
    Raises SakiyomiError for a name that does not exist.
    """
    whole = clip.skeleton
    root = _pelvis(whole, pelvis)
    kept = [root]
    for joint in range(root + 1, len(whole.names)):
        if whole.parents[joint] in kept:
            kept.append(joint)
    names = tuple(whole.names[joint] for joint in kept)
    parents = (-1, *(kept.index(whole.parents[joint]) for joint in kept[1:]))
    offsets = ((0.0, 0.0, 0.0), *(whole.offsets[joint] for joint in kept[1:]))
    skeleton = Skeleton(names, parents, offsets, mirror=_counterparts(names, parents)[0])
    return Clip(skeleton, clip.rate, clip.positions[:, kept], clip.rotations[:, kept])


def find_feet(clip: Clip, told: Sequence[str] = ()) -> tuple[str, ...]:
    """The joints told, else those called foot, toe, ankle or the like, else the lowest ends of the body and the joints
    before them. Raises SakiyomiError for names that do not exist, and when no limb ends below the pelvis.
    """
    names, parents = clip.skeleton.names, clip.skeleton.parents
    for name in told:
        if name not in names:
            raise unknown("foot", name, names)
    found = tuple(told) or tuple(name for name in names if FEET.search(name))
    if found:
        return found
    height = np.quantile(clip.positions[..., 1], 0.05, axis=0)  # of each joint when it is low, [J]
    tall = height.max() - height.min()
    low = height < height.min() + 0.15 * tall
    ends = [joint for joint in range(1, len(names)) if joint not in parents and low[joint]]
    if not ends or height[0] < height.min() + 0.25 * tall:
        raise SakiyomiError(
            f"no feet found: no joint is named foot, toe or ankle, and no limb ends below the pelvis {names[0]!r}; "
            f"name them (--feet); there are {', '.join(names)}"
        )
    ankles = {parents[joint] for joint in ends if low[parents[joint]]}
    return tuple(names[joint] for joint in sorted({*ends, *ankles}))


def side(name: str) -> int:
    """LEFT, RIGHT, or 0 for a joint in the middle, by its name."""
    found = SIDE.search(name)
    return 0 if found is None else LEFT if found[0][0] in "lL" else RIGHT


def mirror(clip: Clip, corrections: np.ndarray | None = None) -> Clip:
    """The motion as a mirror shows it (z becomes -z), done by the same skeleton: left joints move as right ones did.

    Each rotation gets a constant correction, of `corrections` [J, 3, 3]; without them those of this clip. Twice
    mirrored with the same is as before. Positions are mirrored exactly; the skeleton explains them as far as it is
    symmetric. Raises SakiyomiError where sides are unknown.
    """
    if corrections is None:
        corrections = mirror_corrections(clip)
    other = list(clip.skeleton.mirror)
    rotations = MIRROR @ clip.rotations[:, other] @ corrections
    return replace(clip, positions=clip.positions[:, other] @ MIRROR, rotations=rotations)


def mirror_corrections(clip: Clip) -> np.ndarray:
    """For each joint the constant reflection C of `mirror`, which makes R' = MIRROR R_other C a rotation, [J, 3, 3].

    The axes of a left and a right joint need not be mirror images: the skeleton asks that C takes the offset of every
    child to that of the child's counterpart. What this leaves open (a twist about the bone of an only child,
    everything at an end) is as in that one of REFLECTIONS which makes the mirrored poses of the clip most like its
    own. Clips that must fit together are to be mirrored with the corrections of one, the more symmetric the better.
    Raises SakiyomiError where sides are unknown.
    """
    skeleton = clip.skeleton
    if not skeleton.mirror:
        raise SakiyomiError(
            f"this skeleton cannot be mirrored: {_counterparts(skeleton.names, skeleton.parents)[1]}; "
            f"it has {', '.join(skeleton.names)}"
        )
    offsets, other = np.array(skeleton.offsets), skeleton.mirror
    pose = (facing_frames(facing(clip)).swapaxes(-1, -2)[:, None] @ clip.rotations).mean(0)  # facing removed, [J, 3, 3]
    chosen = np.empty((len(other), 3, 3))
    for joint in range(len(other)):
        # How like the mirrored pose is to the joint's own: the trace of own^T MIRROR other C, on both sides the same.
        likeness = np.diag(pose[joint].T @ MIRROR @ pose[other[joint]])
        asked = 1e-6 * max(REFLECTIONS, key=lambda c: float(likeness @ np.diag(c)))  # far less than the skeleton's say
        for child, parent in enumerate(skeleton.parents):
            scale = np.abs(offsets[[child, other[child]]]).max()
            if parent == joint and scale > 1e-6:
                asked = asked + np.outer(offsets[other[child]], offsets[child]) / scale**2
        u, _, v = np.linalg.svd(asked)
        chosen[joint] = u @ np.diag([1.0, 1.0, -np.linalg.det(u @ v)]) @ v
    return chosen


def facing(clip: Clip) -> np.ndarray:
    """Where the character faces in each frame, rad, continuous, [T].

    Square to the lines from left joints to right ones, where sides first come apart (hips, shoulders); where sides are
    unknown, along the pelvis' own axis that follows its most vertical one (z after y, x after z, y after x).
    """
    skeleton, frames = clip.skeleton, len(clip.positions)
    right = np.zeros((frames, 3))
    lines = clip.positions - clip.positions[:, list(skeleton.mirror or range(len(skeleton.names)))]
    apart = np.abs(lines).max((0, 2)) > 1e-6  # CMU's hips begin with a joint of no length on either side
    for joint, name in enumerate(skeleton.names):
        if side(name) == RIGHT and apart[joint] and not apart[skeleton.parents[joint]]:
            right += lines[:, joint] / np.linalg.norm(lines[:, joint], axis=-1, keepdims=True).clip(1e-9)
    if np.hypot(right[:, 0], right[:, 2]).max() > 1e-6:
        forward = np.cross([0.0, 1.0, 0.0], right)
    else:
        vertical = int(np.abs(clip.rotations[:, 0, 1]).mean(0).argmax())
        forward = clip.rotations[:, 0, :, (vertical + 1) % 3]
    return np.unwrap(np.arctan2(forward[:, 2], forward[:, 0]))


def facing_frames(angles: np.ndarray) -> np.ndarray:
    """For facings [T] the matrices [T, 3, 3] whose columns are forward, up and right."""
    cos, sin, zero, one = np.cos(angles), np.sin(angles), np.zeros_like(angles), np.ones_like(angles)
    return np.stack((cos, zero, -sin, zero, one, zero, sin, zero, cos), -1).reshape(-1, 3, 3)


def _pelvis(skeleton: Skeleton, told: str) -> int:
    if told:
        if told not in skeleton.names:
            raise unknown("pelvis", told, skeleton.names)
        return skeleton.names.index(told)
    for joint, name in enumerate(skeleton.names):
        if PELVIS.search(name) and not side(name):
            return joint
    for joint in range(len(skeleton.names)):
        if skeleton.parents.count(joint) > 1:
            return joint
    return 0


def _counterparts(names: tuple[str, ...], parents: tuple[int, ...]) -> tuple[tuple[int, ...], str]:
    """Index of each joint's counterpart, or empty and the reason why sides are unknown."""
    found = []
    for name in names:
        other = SIDE.sub(lambda match: _other(match[0]), name, count=1)
        if other not in names:
            return (), f"{name!r} has no counterpart {other!r}"
        found.append(names.index(other))
    if all(joint == other for joint, other in enumerate(found)):
        return (), "no joint's name tells a side, such as LeftFoot and RightFoot, or Foot_L and Foot_R"
    for joint, other in enumerate(found[1:], 1):
        if found[parents[joint]] != parents[other]:
            return (), f"{names[joint]!r} and {names[other]!r} hang from joints that are no counterparts"
    return tuple(found), ""


def _other(word: str) -> str:
    """Right for Left, r for l, in the same case."""
    other = OTHER[word.lower()]
    return other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other
