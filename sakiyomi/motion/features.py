"""Clips as the numbers of `motion/layout.py`, and back.

encoded = encode(character(read_bvh("walk.bvh")))
clip = decode(encoded.values, skeleton, 30.0, encoded.start)
print(round_trip("walk.bvh"))    # what is lost on the way from BVH to BVH
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from sakiyomi.data.formats.bvh import read_bvh, write_bvh
from sakiyomi.errors import SakiyomiError
from sakiyomi.motion.layout import Layout
from sakiyomi.motion.skeleton import Clip, Skeleton, character, facing, facing_frames, forward_kinematics

STRETCH = 1e-4  # m; joints nearer than this to where the skeleton's offsets put them do not stretch


@dataclass(frozen=True)
class Encoded:
    """A clip as numbers."""

    values: np.ndarray
    """float32 [T, D]; which is which, `Layout(skeleton.names)` tells."""
    start: tuple[float, float, float]
    """Where the root is in the first frame: x and z in m, facing in rad."""


def encode(clip: Clip) -> Encoded:
    """The clip's poses. The first frame has none before it: its root motion and velocities are those of the second."""
    angles = facing(clip)
    back = facing_frames(angles).swapaxes(-1, -2)  # from the world to the facing frame, [T, 3, 3]
    root = clip.positions[:, 0] * [1, 0, 1]
    positions = np.einsum("tab,tjb->tja", back, clip.positions - root[:, None])
    axes = back[:, None] @ clip.rotations
    motion, velocities = np.zeros((len(root), 3)), np.zeros_like(positions)
    if len(root) > 1:
        moved = np.einsum("tab,tb->ta", back[:-1], np.diff(root, axis=0))
        motion[1:] = np.stack((moved[:, 0], moved[:, 2], np.diff(angles)), -1) * clip.rate
        velocities[1:] = np.einsum("tab,tjb->tja", back[:-1], np.diff(clip.positions, axis=0)) * clip.rate
        motion[0], velocities[0] = motion[1], velocities[1]
    parts = (motion, positions, velocities, axes[..., 1], axes[..., 2])
    values = np.concatenate([part.reshape(len(root), -1) for part in parts], 1).astype(np.float32)
    return Encoded(values, (float(root[0, 0]), float(root[0, 2]), float(angles[0])))


def decode(
    values: np.ndarray,
    skeleton: Skeleton,
    rate: float,
    start: tuple[float, float, float] = (0.0, 0.0, 0.0),
    stretch: bool = False,
) -> Clip:
    """The clip of poses [T, D]: the root walks from `start` by its motion (not the first frame's), joints follow from
    the rotations and the skeleton's offsets, so that bones keep their length.

    With `stretch` joints are where their positions say: for skeletons whose bones change their length. Raises
    SakiyomiError when the poses have not this skeleton's width.
    """
    layout = Layout(skeleton.names)
    if values.ndim != 2 or values.shape[1] != layout.width or not len(values):
        raise SakiyomiError(
            f"poses of {len(skeleton.names)} joints are [T, {layout.width}], at least one; got {list(values.shape)}"
        )
    values = values.astype(np.float64)
    motion = values[:, layout.part("root")] / rate
    motion[0, 2] = start[2]
    angles = np.cumsum(motion[:, 2])
    frames = facing_frames(angles)
    moved = np.einsum("tab,tb->ta", frames[:-1], motion[1:, :2] @ [[1, 0, 0], [0, 0, 1]])
    root = np.cumsum(np.concatenate(([[start[0], 0.0, start[1]]], moved)), 0)
    rotations = frames[:, None] @ layout.axes(torch.from_numpy(values)).numpy()
    local = values[:, layout.part("positions")].reshape(len(values), -1, 3)
    positions = np.einsum("tab,tjb->tja", frames, local) + root[:, None]
    if not stretch:
        positions = forward_kinematics(skeleton, rotations, positions[:, 0])
    return Clip(skeleton, rate, positions, rotations)


def stretches(clip: Clip) -> bool:
    """Joints move in their parents' frames, further than rounding."""
    rigid = forward_kinematics(clip.skeleton, clip.rotations, clip.positions[:, 0])
    return bool(np.abs(rigid - clip.positions).max() > STRETCH)


@dataclass(frozen=True)
class RoundTrip:
    """What became of a clip on its way from BVH over features to BVH."""

    read: int
    """Frames of the file."""
    written: int
    """Frames of the file made from its features."""
    millimetres: float
    """Distance of the joints from where they were, mean over frames and joints."""
    worst_millimetres: float
    degrees: float
    """Angle of the joints' rotations in the world from what they were, mean."""
    worst_degrees: float


def round_trip(path: str | Path, unit: str = "auto", up: str = "auto") -> RoundTrip:
    """Read the character in a BVH file, encode, decode, write, read again, compare."""
    clip = character(read_bvh(path, unit, up))
    encoded = encode(clip)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "again.bvh"
        write_bvh(file, decode(encoded.values, clip.skeleton, clip.rate, encoded.start, stretches(clip)))
        return compare(clip, read_bvh(file, "cm", "y"))


def compare(clip: Clip, again: Clip) -> RoundTrip:
    """How far a clip of the same joints is from this one, over the frames that both have."""
    both = min(len(clip.positions), len(again.positions))
    distance = 1000 * np.linalg.norm(again.positions[:both] - clip.positions[:both], axis=-1)
    between = clip.rotations[:both].swapaxes(-1, -2) @ again.rotations[:both]
    angle = np.degrees(Rotation.from_matrix(between.reshape(-1, 3, 3)).magnitude())
    return RoundTrip(
        read=len(clip.positions),
        written=len(again.positions),
        millimetres=float(distance.mean()),
        worst_millimetres=float(distance.max()),
        degrees=float(angle.mean()),
        worst_degrees=float(angle.max()),
    )
