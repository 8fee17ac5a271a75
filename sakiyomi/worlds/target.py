"""Reach a target on the ground; then there is another one.

    sakiyomi train target-walker

Judged by the share of targets reached within 10 s. Goal: `target` (x, z) m, `age` frames since it appeared.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sakiyomi.errors import SakiyomiError
from sakiyomi.motion.character import Character, Moving
from sakiyomi.worlds.character import Finding, Goal, Outcome, seen, uniform

SIGHT = 5.0  # m: what is further looks as far as this


class Target:
    """One target at a time, in any direction."""

    width = 4

    @dataclass(frozen=True)
    class Config:
        near: float = 2.0
        """m, the nearest a target appears."""
        far: float = 6.0
        """m, the farthest."""
        reach: float = 0.5
        """m between the target and the character's root that count as there."""
        within: float = 10.0
        """s; a target not reached in this time is missed, and another one appears."""
        progress: float = 0.7
        """Reward for every m/s towards the target."""
        facing: float = 0.1
        """Reward for facing the target."""
        bonus: float = 10.0
        """Reward for reaching it."""

    def __init__(self, config: Config, character: Character) -> None:
        if not 0 < config.reach < config.near <= config.far:
            raise SakiyomiError(f"targets need 0 < reach < near <= far, got {config}")
        self.config, self.rate = config, character.rate

    def begin(self, moving: Moving, generator: torch.Generator | None) -> Goal:
        return {"target": self._draw(moving.place, generator), "age": torch.zeros_like(moving.place[:, 0])}

    def observe(self, moving: Moving, goal: Goal) -> Tensor:
        """Direction, distance and closeness."""
        there = seen(goal["target"], moving.place)
        distance = there.norm(dim=-1, keepdim=True)
        near = torch.exp(-distance / self.config.reach)
        return torch.cat((there / distance.clamp_min(1e-6), distance.clamp_max(SIGHT) / SIGHT, near), -1)

    def step(self, before: Moving, after: Moving, goal: Goal, generator: torch.Generator | None) -> Outcome:
        cfg, target = self.config, goal["target"]
        there = seen(target, after.place)
        distance = there.norm(dim=-1)
        closer = (target - before.place[:, :2]).norm(dim=-1) - distance
        age = goal["age"] + 1
        reached = distance <= cfg.reach
        missed = (age >= cfg.within * self.rate) & ~reached
        facing = there[:, 0] / distance.clamp_min(1e-6)
        reward = cfg.progress * closer * self.rate + cfg.facing * facing + cfg.bonus * reached
        renew = reached | missed
        goal = {
            "target": torch.where(renew[:, None], self._draw(after.place, generator), target),
            "age": torch.where(renew, 0.0, age),
        }
        measures = {"reached": reached, "missed": missed, "age": age, "distance": distance}
        return Outcome(goal, after, reward, torch.zeros_like(reached), measures)

    def judge(self, measures: dict[str, np.ndarray], over: np.ndarray) -> dict[str, Finding]:
        """Targets count that appeared early enough to be given their whole time; one that was underway when its
        character's episode ended was not reached."""
        reached, age = measures["reached"], measures["age"]
        settled = reached | measures["missed"] | over
        limit = round(self.config.within * self.rate)
        appeared = np.arange(len(age))[:, None] + 1 - age
        counted = settled & (appeared <= len(age) - limit)
        within = f"the root comes within {self.config.reach:g} m of it in {self.config.within:g} s"
        where = f"targets {self.config.near:g} to {self.config.far:g} m away, any direction"
        found = {"targets_reached": Finding(reached[counted], "rate", f"{where}: {within}")}
        if (counted & reached).any():
            seconds = age[counted & reached] / self.rate
            found["target_seconds"] = Finding(seconds, "s", f"{where}: time to those that were reached")
        return found

    def _draw(self, place: Tensor, generator: torch.Generator | None) -> Tensor:
        angle = uniform(-torch.pi, torch.pi, place, generator)
        distance = uniform(self.config.near, self.config.far, place, generator)
        return place[:, :2] + distance[:, None] * torch.stack((angle.cos(), angle.sin()), -1)
