"""Hold a speed and a heading, as a stick gives them; now and then they change.

    sakiyomi train joystick-walker

Judged by the seconds from a new heading to the first frame that faces it within 5 degrees, and by how well facing and
speed are held after that. Goal: `speed` m/s, `heading` rad in the world; `hold` frames they stay, `held` frames they
have stayed, `waited` frames until the facing first was near enough (-1: not yet).
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sakiyomi.errors import SakiyomiError
from sakiyomi.motion.character import Character, Moving
from sakiyomi.worlds.character import Finding, Goal, Outcome, uniform, wrapped


class Joystick:
    """A speed within what the character's own motion has, a heading anywhere."""

    width = 5

    @dataclass(frozen=True)
    class Config:
        hold: tuple[float, float] = (3.0, 7.0)
        """s, the shortest and longest time between changes."""
        judged: float = 5.0
        """s; only goals that stayed at least so long are judged."""
        near: float = 5.0
        """degrees from the heading that count as facing it."""
        settled: float = 2.5
        """s after a change from which on the facing and the speed held are judged."""
        slowest: float = 0.05
        """The slowest speed asked for, as a quantile of those the character starts with."""
        fastest: float = 0.95
        """The fastest, likewise."""
        sharp: float = 10.0
        """degrees within which facing the heading earns most."""
        speed_error: float = 0.5
        """m/s of error that cost about two thirds of what speed earns."""

    def __init__(self, config: Config, character: Character) -> None:
        shortest, longest = config.hold
        if not 0 < config.settled < config.judged <= longest or not 0 < shortest <= longest:
            raise SakiyomiError(f"a joystick needs 0 < settled < judged <= the longest hold, got {config}")
        if not 0 <= config.slowest <= config.fastest <= 1:
            raise SakiyomiError(f"speeds are quantiles, 0 <= slowest <= fastest <= 1, got {config}")
        self.config, self.rate, self.character = config, character.rate, character
        speeds = _speed(character.physical(character.starts)).double().cpu().numpy()
        self.slowest, self.fastest = (float(q) for q in np.quantile(speeds, (config.slowest, config.fastest)))

    def begin(self, moving: Moving, generator: torch.Generator | None) -> Goal:
        speed = uniform(self.slowest, self.fastest, moving.place, generator)
        heading = uniform(-math.pi, math.pi, moving.place, generator)
        hold = (uniform(*self.config.hold, moving.place, generator) * self.rate).round()
        return {
            "speed": speed,
            "heading": heading,
            "hold": hold,
            "held": torch.zeros_like(hold),
            "waited": torch.full_like(hold, -1),
        }

    def observe(self, moving: Moving, goal: Goal) -> Tensor:
        """Where the heading lies from the facing, coarsely and finely, and the speeds."""
        turn = wrapped(goal["heading"] - moving.place[:, 2])
        near = torch.tanh(turn / math.radians(2 * self.config.sharp))
        now = _speed(self.character.physical(moving.pose))
        return torch.stack((turn.cos(), turn.sin(), near, goal["speed"], goal["speed"] - now), -1)

    def step(self, before: Moving, after: Moving, goal: Goal, generator: torch.Generator | None) -> Outcome:
        cfg = self.config
        turn = wrapped(goal["heading"] - after.place[:, 2])
        speed_error = _speed(self.character.physical(after.pose)) - goal["speed"]
        held = goal["held"] + 1
        met = turn.abs() <= math.radians(cfg.near)
        waited = torch.where((goal["waited"] < 0) & met, held, goal["waited"])
        # The cosine leads there from anywhere, the bell makes it stay there.
        facing = 0.5 * turn.cos() + 0.5 * torch.exp(-((turn / math.radians(cfg.sharp)) ** 2))
        reward = facing + 0.5 * torch.exp(-speed_error.abs() / cfg.speed_error) * (1 + turn.cos()) / 2
        changes = held >= goal["hold"]
        measures = {
            "turn": turn.abs(),
            "speed_error": speed_error.abs(),
            "changes": changes,
            "held": held,
            "hold": goal["hold"],
            "waited": waited,
        }
        kept = {**goal, "held": held, "waited": waited}
        fresh = self.begin(after, generator)
        goal = {name: torch.where(changes, fresh[name], value) for name, value in kept.items()}
        return Outcome(goal, after, reward, torch.zeros_like(changes), measures)

    def judge(self, measures: dict[str, np.ndarray], over: np.ndarray) -> dict[str, Finding]:
        cfg = self.config
        hold, waited = measures["hold"], measures["waited"]
        done = (measures["changes"] | over) & (hold >= cfg.judged * self.rate)
        met = waited[done] > 0
        # One never faced counts with all the time it had; one broken off by an episode's end too.
        seconds = np.where(met, waited[done], hold[done]) / self.rate
        what = f"new headings any way, held at least {cfg.judged:g} s"
        found = {
            "turn_seconds": Finding(
                seconds, "s", f"{what}: time to the first frame facing within {cfg.near:g} degrees; never: all of it"
            ),
            "turns_made": Finding(met, "rate", f"{what}: some frame faces within {cfg.near:g} degrees"),
        }
        late = measures["held"] > cfg.settled * self.rate
        some = late.any(0)  # characters: the mean of each is one value, as its frames hang together
        after = f"mean of a character's frames from {cfg.settled:g} s after a change on"
        what_of = {"facing_error": "the facing from the heading", "speed_error": "the root's speed from that asked"}
        for name, measure, unit in (("facing_error", "turn", "degrees"), ("speed_error", "speed_error", "m/s")):
            values = np.degrees(measures[measure]) if unit == "degrees" else measures[measure]
            means = (values * late).sum(0)[some] / late.sum(0)[some]
            found[name] = Finding(means, unit, f"distance of {what_of[name]}, {after}")
        return found


def _speed(poses: Tensor) -> Tensor:
    """Of the root over the ground, m/s, of poses in their units [..., D]."""
    return poses[..., :2].norm(dim=-1)
