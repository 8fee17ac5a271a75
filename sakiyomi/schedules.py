"""Every value that changes during training, as a function of progress and nothing else.

A schedule keeps no counter: asking twice, or in another order, gives the same numbers.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from sakiyomi.errors import SakiyomiError, unknown

CurveName = Literal["constant", "linear", "s", "inverse_s", "deceleration", "acceleration"]

_CURVES: dict[str, Callable[[float], float]] = {
    "constant": lambda t: 1.0,
    "linear": lambda t: t,
    "s": lambda t: t - math.sin(2 * math.pi * t) / (2 * math.pi),
    "inverse_s": lambda t: t + math.sin(2 * math.pi * t) / (2 * math.pi),
    # These two names are the first implementation's; the one called deceleration starts slowly.
    "deceleration": lambda t: 1 - math.cos(math.pi * t / 2),
    "acceleration": lambda t: math.sin(math.pi * t / 2),
}


def curve(name: str, end: float) -> Callable[[float], float]:
    """The loss curves of SARNN (Ichiwara et al. 2022): a function of the epoch (or step) that rises from 0 at 0
    to 1 at `end`, and stays 1.

    `name` is linear, s, inverse_s, deceleration, acceleration, or constant (always 1).
    Raises SakiyomiError for another name or an `end` that is not positive.
    """
    if name not in _CURVES:
        raise unknown("curve", name, _CURVES)
    if not end > 0:
        raise SakiyomiError(f"a curve's end must be positive, got {end}; for no curve use 'constant'")
    shape = _CURVES[name]
    return lambda progress: shape(min(max(progress / end, 0.0), 1.0))


@dataclass(frozen=True)
class Weight:
    """How much one loss counts."""

    value: float = 1.0
    """The weight in the end."""
    curve: CurveName = "constant"
    """How it gets there."""
    end: int = 1000
    """Training step at which it has."""
    first: float = 0.0
    """The weight it starts from (a constant one has no start); more than `value` makes it fall."""
    cycles: int = 0
    """0 goes there once; n cuts the training into n parts and goes there in the first half of each, whatever `end`."""

    def at(self, step: int, steps: int) -> float:
        """At one step of a training of `steps`."""
        if not self.cycles:
            share = curve(self.curve, self.end)(step)
        else:
            length = steps / self.cycles  # the cyclical schedule of Fu et al. 2019
            share = curve(self.curve, length / 2)(step % length)
        return self.first + share * (self.value - self.first)


@dataclass(frozen=True)
class TeacherForcing:
    """How often a training step reads true values where it could read its own predictions."""

    ratio: float = 1.0
    """The probability at first."""
    start: float = 0.0
    """Epochs until it begins to fall."""
    step: float = 0.0
    """How much it falls each epoch."""
    floor: float = 0.0
    """The least it falls to."""

    def at(self, epoch: float) -> float:
        return min(self.ratio, max(self.floor, self.ratio - self.step * max(0.0, epoch - self.start)))


@dataclass(frozen=True)
class LearningRate:
    """Linear warm-up, then constant or falling to 0, along a line or half a cosine (Loshchilov & Hutter 2017)."""

    peak: float = 1e-3
    """The highest learning rate."""
    warmup: int = 0
    """Steps it takes to rise."""
    decay: Literal["constant", "linear", "cosine"] = "constant"
    """What follows."""

    def at(self, step: int, steps: int) -> float:
        rise = min(1.0, (step + 1) / max(1, self.warmup))
        if self.decay == "constant":
            return self.peak * rise
        t = min(max(step - self.warmup, 0) / max(1, steps - self.warmup), 1.0)
        return self.peak * rise * (1 - t if self.decay == "linear" else (1 + math.cos(math.pi * t)) / 2)


@dataclass(frozen=True)
class Progress:
    """Where training is, and the randomness of this step. Models take it in `loss`."""

    step: int
    steps: int
    generator: torch.Generator
    training: bool = True
    forced: bool = True
    """Teacher forcing: this step's sequences are read as they were, not as they were predicted."""
    forcing: float = 1.0
    """The probability of it, for models that draw it anew for each of their frames."""


def progress_at(
    step: int,
    steps: int,
    seed: int,
    device: torch.device,
    training: bool = True,
    forcing: float = 1.0,
    shard: int = 0,
) -> Progress:
    """The Progress of one step, or of a shard of its batch: its generator follows from (seed, step, shard) alone.
    Whether it is teacher-forced, which happens with probability `forcing`, is the same for all shards."""
    # Three odd constants spread neighbouring numbers over the 64-bit seeds.
    mixed = seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + shard * 0x94D049BB133111EB + int(training)
    mixed %= 2**63
    forced = np.random.default_rng((seed, step)).random() < forcing  # on the host: a device would have to be waited for
    return Progress(step, steps, torch.Generator(device).manual_seed(mixed), training, bool(forced), forcing)
