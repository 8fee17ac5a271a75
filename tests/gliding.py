"""A body whose motion can be worked out by hand: z[0] sets its speed, z[1] its turn, both with inertia."""

import torch
from torch import Tensor

from sakiyomi.data.normalize import Normalizer, Scale
from sakiyomi.motion.character import Character
from sakiyomi.motion.layout import Layout
from sakiyomi.motion.skeleton import Skeleton

RATE = 30.0
INERTIA = 0.8  # share of speed and turn that stays from one frame to the next
SPEED, SPEED_DEVIATION = 1.0, 0.5  # m/s, at z[0] = 0 and more for each 1
TURN_DEVIATION = 2.0  # rad/s for each 1 of z[1]
SKELETON = Skeleton(("pelvis", "head"), (-1, 0), ((0.0, 0.9, 0.0), (0.0, 0.7, 0.0)))
LAYOUT = Layout(SKELETON.names)


class Gliding:
    """A Decoder: everything but speed and turn stays as it was."""

    latent = 2

    def decode(self, z: Tensor, pose: Tensor) -> Tensor:
        moved = INERTIA * pose[:, [0, 2]] + (1 - INERTIA) * z
        return torch.cat((moved[:, :1], pose[:, 1:2], moved[:, 1:], pose[:, 3:]), -1)


def physical(forward: float = SPEED, turn: float = 0.0) -> Tensor:
    """A pose in its units, [D]: upright, at this speed."""
    pose = torch.zeros(LAYOUT.width, dtype=torch.float64)
    pose[0], pose[2] = forward, turn
    positions = pose[LAYOUT.part("positions")]
    positions[1], positions[4] = 0.9, 1.6
    pose[LAYOUT.part("up")] = torch.tensor([0.0, 1, 0] * 2, dtype=torch.float64)
    pose[LAYOUT.part("forward")] = torch.tensor([0.0, 0, 1] * 2, dtype=torch.float64)
    return pose


def gliding(starts: Tensor | None = None, model: Gliding | None = None) -> Character:
    """A character that glides; it starts at 0.5, 1 or 1.5 m/s without turning, or as `starts` [N, D] say."""
    mean = physical().tolist()
    std = [1.0] * LAYOUT.width
    std[0], std[2] = SPEED_DEVIATION, TURN_DEVIATION
    normalizer = Normalizer({"pose": Scale("motion", mean=tuple(mean), std=tuple(std))})
    if starts is None:
        starts = torch.stack([physical(speed) for speed in (0.5, 1.0, 1.5)])
    return Character(model or Gliding(), normalizer, SKELETON, starts, RATE)
