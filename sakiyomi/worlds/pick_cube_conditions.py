"""The circumstances in which a PickCube policy is tried: where the cube stands, and what is made harder."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sakiyomi.errors import at_least
from sakiyomi.worlds.pick_cube import TAUGHT_PLACES

SPREAD = 0.01  # m: untaught places lie within this of the middle between two neighbouring taught ones
DISTRACTORS = ((0.10, 0.30, 0.85), (0.10, 0.60, 0.20))


@dataclass(frozen=True)
class Condition:
    """One kind of trial; trial i uses `scenes[i]` and seed `first_seed + i`."""

    description: str
    scenes: tuple[dict[str, Any], ...]
    first_seed: int
    blind: bool = False
    """The camera picture is replaced by the mean of the training pictures."""
    moves: tuple[tuple[float, float], ...] = ()
    """Where the cube is put in mid-episode, one place a trial; empty leaves it."""


def conditions(trials: int, seed: int = 10_000) -> dict[str, Condition]:
    """All of them, by name. `trials` of each; the same places and seeds for whoever asks with the same numbers."""
    at_least("--trials", trials, 1)
    at_least("--seed", seed, 0)
    random = np.random.default_rng(seed)
    taught = [TAUGHT_PLACES[i % len(TAUGHT_PLACES)] for i in range(trials)]
    untaught = [_between(i, random) for i in range(trials)]
    elsewhere = [_between(i + 2, random) for i in range(trials)]
    # The blind arm meets every kind of place, so that going always to one of them cannot pay.
    mixed = [(taught if i % 2 else untaught)[i // 2] for i in range(trials)]

    def scenes(places: list[tuple[float, float]], **more: list[Any]) -> tuple[dict[str, Any], ...]:
        return tuple({"place": p, **{k: v[i % len(v)] for k, v in more.items()}} for i, p in enumerate(places))

    return {
        "taught": Condition("at the five taught places", scenes(taught), seed),
        "untaught": Condition("between the taught places, within 1 cm of the middle", scenes(untaught), seed + 1000),
        "blind": Condition(
            "taught and untaught places, the picture replaced by its mean", scenes(mixed), seed + 2000, True
        ),
        "light": Condition("untaught places, light at 60 % or 140 %", scenes(untaught, light=[0.6, 1.4]), seed + 3000),
        "camera": Condition(
            "untaught places, camera moved by up to 1 cm and turned by up to 0.6 degrees on each axis",
            scenes(untaught, camera_jitter=[0.01]),
            seed + 4000,
        ),
        "distractor": Condition(
            "untaught places, a second cube, blue or green, 7 to 12 cm beside it",
            scenes(untaught, distractor_rgb=list(DISTRACTORS)),
            seed + 5000,
        ),
        "moved": Condition(
            "the cube is moved to another untaught place half a second after the start",
            scenes(untaught),
            seed + 6000,
            moves=tuple(elsewhere),
        ),
    }


def _between(index: int, random: np.random.Generator) -> tuple[float, float]:
    """A place near the middle of two neighbouring taught ones."""
    first = index % (len(TAUGHT_PLACES) - 1)
    middle = (np.array(TAUGHT_PLACES[first]) + np.array(TAUGHT_PLACES[first + 1])) / 2
    x, y = middle + random.uniform(-SPREAD, SPREAD, 2)
    return float(x), float(y)
