"""Bodies for tests of motion: a symmetric person whose joints all turn, at random and smoothly, on a winding way."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from sakiyomi.motion.skeleton import Clip, Skeleton, forward_kinematics

# Not depth first on purpose: a file's order of joints is another than this one.
JOINTS = {  # parent, offset in m; at rest x is forward, y up, z right
    "Hips": ("", (0.0, 0.0, 0.0)),
    "LeftUpLeg": ("Hips", (0.0, -0.06, -0.1)),
    "RightUpLeg": ("Hips", (0.0, -0.06, 0.1)),
    "Spine": ("Hips", (0.01, 0.2, 0.0)),
    "LeftLeg": ("LeftUpLeg", (0.01, -0.42, 0.0)),
    "RightLeg": ("RightUpLeg", (0.01, -0.42, 0.0)),
    "Neck": ("Spine", (-0.02, 0.3, 0.0)),
    "LeftArm": ("Spine", (0.0, 0.22, -0.18)),
    "RightArm": ("Spine", (0.0, 0.22, 0.18)),
    "LeftFoot": ("LeftLeg", (-0.02, -0.4, 0.01)),
    "RightFoot": ("RightLeg", (-0.02, -0.4, -0.01)),
    "LeftToe": ("LeftFoot", (0.14, -0.05, 0.0)),
    "RightToe": ("RightFoot", (0.14, -0.05, 0.0)),
    "Head": ("Neck", (0.02, 0.12, 0.0)),
    "LeftHand": ("LeftArm", (0.0, -0.5, -0.05)),
    "RightHand": ("RightArm", (0.0, -0.5, 0.05)),
}
NAMES = tuple(JOINTS)
PARENTS = tuple(NAMES.index(parent) if parent else -1 for parent, _ in JOINTS.values())
FEET = ("LeftFoot", "RightFoot", "LeftToe", "RightToe")
SIDES = (0, 2, 1, 3, 5, 4, 6, 8, 7, 10, 9, 12, 11, 13, 15, 14)
PERSON = Skeleton(NAMES, PARENTS, tuple(offset for _, offset in JOINTS.values()), FEET, SIDES)


def person(frames: int = 60, rate: float = 30.0, seed: int = 0, wild: float = 0.3) -> Clip:
    """A motion of PERSON; joints turn by about `wild` rad to and fro."""
    random = np.random.default_rng(seed)
    times = np.arange(frames) / rate
    turns = wild * _waves(random, times, (len(NAMES), 3))
    local = Rotation.from_rotvec(turns.reshape(-1, 3)).as_matrix().reshape(frames, -1, 3, 3)
    facing = random.uniform(-3, 3) + random.uniform(-2, 2) * times
    speed = random.uniform(0.5, 2)
    way = np.stack((np.cos(facing), 0 * facing, np.sin(facing)), 1) * speed / rate
    root = np.cumsum(way, 0) + [*random.uniform(-5, 5, 3)] + 0.02 * _waves(random, times, (3,))
    root[:, 1] += 0.95 - root[:, 1].mean()
    local[:, 0] = Rotation.from_rotvec(np.outer(-facing, [0, 1, 0])).as_matrix() @ local[:, 0]
    return assemble(PERSON, rate, local, root)


def assemble(skeleton: Skeleton, rate: float, local: np.ndarray, root: np.ndarray) -> Clip:
    """A clip from rotations to the parents [T, J, 3, 3] and the root's positions [T, 3]."""
    rotations = local.copy()
    for joint, parent in enumerate(skeleton.parents[1:], 1):
        rotations[:, joint] = rotations[:, parent] @ local[:, joint]
    return Clip(skeleton, rate, forward_kinematics(skeleton, rotations, root), rotations)


def reframed(clip: Clip, frames: np.ndarray) -> Clip:
    """The same motion of a skeleton whose joints have other axes: frames [J, 3, 3] in terms of the old ones."""
    offsets = np.array(clip.skeleton.offsets)
    for joint, parent in enumerate(clip.skeleton.parents[1:], 1):
        offsets[joint] = frames[parent].T @ offsets[joint]
    return replace(clip, skeleton=with_offsets(clip.skeleton, offsets), rotations=clip.rotations @ frames)


def moved(clip: Clip, rotation: np.ndarray, shift: Sequence[float] = (0.0, 0.0, 0.0)) -> Clip:
    """The clip turned and shifted in the world."""
    return replace(clip, positions=clip.positions @ rotation.T + np.array(shift), rotations=rotation @ clip.rotations)


def with_offsets(skeleton: Skeleton, offsets: np.ndarray) -> Skeleton:
    return replace(skeleton, offsets=tuple((float(x), float(y), float(z)) for x, y, z in offsets))


def yaw(angle: float) -> np.ndarray:
    """The rotation that adds `angle` to the facing of what it turns, [3, 3]."""
    return Rotation.from_rotvec([0.0, -angle, 0.0]).as_matrix()


def _waves(random: np.random.Generator, times: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Smooth numbers of about unit size, [T, *shape]."""
    total = np.zeros((len(times), *shape))
    for _ in range(3):
        rate, phase, size = random.uniform(1, 6, shape), random.uniform(0, 7, shape), random.normal(0, 0.6, shape)
        total += size * np.sin(rate * times.reshape(-1, *[1] * len(shape)) + phase)
    return total
