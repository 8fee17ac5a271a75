"""Characters moved by a model: many at once, on the model's device, state in and state out.

A pose and a latent z give the next pose; where the character is follows from the pose's own root motion.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sakiyomi.data.normalize import Normalizer
from sakiyomi.motion.layout import Layout, advance, in_world
from sakiyomi.motion.skeleton import Skeleton


class Decoder(Protocol):
    """What moves a character."""

    latent: int
    """Numbers that choose the next pose, Z."""

    def decode(self, z: Tensor, pose: Tensor) -> Tensor:
        """The next pose [B, D] from z [B, Z] and the last pose [B, D], both poses normalised."""
        ...


@dataclass(frozen=True)
class Moving:
    """B characters at one moment."""

    pose: Tensor
    """Normalised, [B, D]."""
    place: Tensor
    """x and z in m, facing in rad, [B, 3]."""


class Character:
    """`starts` are poses to begin from, in their own units, [N, D]. `rate` is in frames a second."""

    def __init__(self, model: Decoder, normalizer: Normalizer, skeleton: Skeleton, starts: Tensor, rate: float) -> None:
        self.model, self.skeleton, self.rate = model, skeleton, rate
        self.layout = Layout(skeleton.names)
        self.latent = model.latent
        self.normalizer = normalizer
        self.starts = normalizer.encode("pose", starts)
        # Decoding stands in the innermost loop of a simulation: one multiplication and one addition.
        zero = normalizer.decode("pose", torch.zeros(1, self.layout.width, dtype=torch.float64))[0]
        one = normalizer.decode("pose", torch.ones(1, self.layout.width, dtype=torch.float64))[0]
        self.offset = zero.float().to(starts.device)
        self.scale = (one - zero).float().to(starts.device)

    @property
    def device(self) -> torch.device:
        return self.starts.device

    def start(self, count: int, generator: torch.Generator | None = None) -> Moving:
        """`count` characters in poses drawn from `starts`, at the origin, facing along x."""
        return self.at(torch.randint(len(self.starts), (count,), generator=generator, device=self.device))

    def at(self, picks: Tensor) -> Moving:
        """Characters in the poses of `starts` with these numbers [B], at the origin, facing along x."""
        return Moving(self.starts[picks.to(self.device)], torch.zeros(len(picks), 3, device=self.device))

    def next(self, moving: Moving, z: Tensor) -> Moving:
        """One frame on, by z [B, Z]."""
        pose = self.model.decode(z, moving.pose)
        return Moving(pose, advance(moving.place, self.physical(pose), self.rate))

    def physical(self, pose: Tensor) -> Tensor:
        """Normalised poses in their units (see `motion/layout.py`), [..., D]."""
        return pose * self.scale + self.offset

    def joints(self, moving: Moving) -> Tensor:
        """World positions of the joints, m, [B, J, 3]."""
        return in_world(self.layout, self.physical(moving.pose), moving.place)
