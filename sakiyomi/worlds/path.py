"""Follow a closed path: round shapes drawn at random, and the figure 8.

    sakiyomi train path-walker

Judged by the distance to the path, and by who gets round it. Goal: `path` points (x, z) m at equal distances
[B, N, 2], `spacing` m between them, `along` m walked along it (more than its length after a lap).
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sakiyomi.errors import SakiyomiError, at_least
from sakiyomi.motion.character import Character, Moving
from sakiyomi.motion.layout import turned
from sakiyomi.worlds.character import Finding, Goal, Outcome, seen

AHEAD = (0.3, 0.8, 1.5, 2.5)  # m along the path, the points a character looks at
BEHIND, BEYOND = 0.6, 1.6  # m of path around where it was, among which the nearest point is sought: loops may cross


class FollowPath:
    """The paths are drawn once, from a seed of their own; the first is the figure 8."""

    width = 2 * len(AHEAD) + 1

    @dataclass(frozen=True)
    class Config:
        paths: int = 64
        """How many different paths there are."""
        points: int = 160
        """Points of each."""
        size: float = 4.0
        """m, half the length of the figure 8, and the mean radius of the round ones."""
        uneven: float = 0.25
        """How far the round ones are from circles: deviation of their radius, as a share of it."""
        stray: float = 3.0
        """m from the path at which the episode ends."""
        near: float = 0.4
        """m from the path within which walking along it earns most."""
        progress: float = 0.7
        """Reward for every m/s along the path."""
        seed: int = 0
        """Seed of the paths."""

    def __init__(self, config: Config, character: Character) -> None:
        at_least("the number of paths", config.paths, 1)
        at_least("points of a path", config.points, 32)
        for name in ("size", "stray", "near"):
            if not getattr(config, name) > 0:
                raise SakiyomiError(f"a path's {name} is {getattr(config, name)}; it must be more than 0")
        self.config, self.rate = config, character.rate
        drawn = [even(_shape(config, number), config.points) for number in range(config.paths)]
        self.paths = torch.tensor(np.stack([path for path, _ in drawn]), dtype=torch.float32, device=character.device)
        spacing = [length / config.points for _, length in drawn]
        self.spacings = torch.tensor(spacing, dtype=torch.float32, device=character.device)
        first, last = -math.ceil(BEHIND / min(spacing)), math.ceil(BEYOND / min(spacing))
        self._window = torch.arange(first, last + 1, device=character.device)

    def begin(self, moving: Moving, generator: torch.Generator | None) -> Goal:
        """A path that starts where the character is, the way it faces."""
        count, device = len(moving.place), moving.place.device
        picks = torch.randint(len(self.paths), (count,), generator=generator, device=device)
        path = turned(self.paths[picks], moving.place[:, 2:]) + moving.place[:, None, :2]
        along = torch.zeros(count, device=device)
        return {"path": path, "spacing": self.spacings[picks], "along": along}

    def observe(self, moving: Moving, goal: Goal) -> Tensor:
        """Points ahead in the facing frame, and the distance to the path."""
        ahead = torch.tensor(AHEAD, device=moving.place.device)
        points = at(goal, goal["along"][:, None] + ahead)
        away = (at(goal, goal["along"][:, None])[:, 0] - moving.place[:, :2]).norm(dim=-1, keepdim=True)
        return torch.cat((seen(points, moving.place).flatten(1) / AHEAD[-1], away), -1)

    def step(self, before: Moving, after: Moving, goal: Goal, generator: torch.Generator | None) -> Outcome:
        cfg = self.config
        along, away = self._nearest(after.place[:, :2], goal)
        speed = (along - goal["along"]) * self.rate
        close = torch.exp(-((away / cfg.near) ** 2))
        # A jump to a later piece of the path is no walking.
        walked = speed.clamp(-3, 3)
        reward = cfg.progress * walked * (0.2 + 0.8 * close) + 0.3 * close - 0.2 * away.clamp_max(cfg.stray)
        lost = away > cfg.stray
        length = goal["spacing"] * cfg.points
        measures = {"away": away, "laps": along / length, "speed": speed}
        return Outcome({**goal, "along": along}, after, reward, lost, measures)

    def judge(self, measures: dict[str, np.ndarray], over: np.ndarray) -> dict[str, Finding]:
        paths = f"{self.config.paths} closed paths, seed {self.config.seed}"
        first = np.cumsum(over, 0) - over == 0  # frames of each character's first episode
        laps = (measures["laps"] * first).max(0)
        return {
            "path_distance": Finding(measures["away"].mean(0), "m", f"{paths}: root to path, mean of a character"),
            "laps_made": Finding(laps >= 1, "rate", f"{paths}: once round in the time, never lost"),
            "path_speed": Finding(measures["speed"].mean(0), "m/s", f"{paths}: along the path, mean of a character"),
        }

    def _nearest(self, point: Tensor, goal: Goal) -> tuple[Tensor, Tensor]:
        """How far along the nearest point of the path is, m [B], and how far away, m [B]."""
        path, spacing = goal["path"], goal["spacing"]
        first = (goal["along"] / spacing).floor().long()
        number = first[:, None] + self._window
        corner = _pick(path, number)
        start, piece = corner[:, :-1], corner[:, 1:] - corner[:, :-1]
        share = ((point[:, None] - start) * piece).sum(-1) / piece.square().sum(-1).clamp_min(1e-12)
        share = share.clamp(0, 1)
        away = (start + share[..., None] * piece - point[:, None]).norm(dim=-1)
        distance, nearest = away.min(-1)
        share = share.gather(1, nearest[:, None])[:, 0]
        return (number.gather(1, nearest[:, None])[:, 0] + share) * spacing, distance


def at(goal: Goal, along: Tensor) -> Tensor:
    """Points of the path so many m along it [B, K] -> [B, K, 2]."""
    number = along / goal["spacing"][:, None]
    whole = number.floor()
    share = (number - whole)[..., None]
    return (1 - share) * _pick(goal["path"], whole.long()) + share * _pick(goal["path"], whole.long() + 1)


def even(corners: np.ndarray, points: int) -> tuple[np.ndarray, float]:
    """A closed curve [M, 2] as `points` at equal distances, begun at the origin towards x, and its length in m."""
    closed = np.concatenate((corners, corners[:1]))
    reached = np.concatenate(((0.0,), np.linalg.norm(np.diff(closed, axis=0), axis=1).cumsum()))
    wanted = np.arange(points) * reached[-1] / points
    path = np.stack([np.interp(wanted, reached, closed[:, axis]) for axis in (0, 1)], -1)
    way = path[1] - path[-1]
    cos, sin = way / np.linalg.norm(way)
    return (path - path[0]) @ np.array([[cos, -sin], [sin, cos]]), float(reached[-1])


def _shape(config: FollowPath.Config, number: int) -> np.ndarray:
    """Path 0 is the figure 8 (Gerono's), every other a circle with waves, half of them the other way round."""
    angle = np.linspace(0, 2 * np.pi, 4096, endpoint=False)
    if number == 0:
        return config.size * np.stack((np.sin(angle), np.sin(angle) * np.cos(angle)), -1)
    random = np.random.default_rng((config.seed, number))
    waves = np.arange(2, 5)
    size = random.normal(size=3) * config.uneven / waves
    radius = 1 + np.sum(size * np.cos(waves * angle[:, None] + random.uniform(0, 2 * np.pi, 3)), -1)
    way = angle * random.choice((-1, 1)) + random.uniform(0, 2 * np.pi)
    return config.size * np.clip(radius, 0.3, None)[:, None] * np.stack((np.cos(way), np.sin(way)), -1)


def _pick(path: Tensor, number: Tensor) -> Tensor:
    """Points [B, K, 2] of closed paths [B, N, 2], by numbers of any size [B, K]."""
    index = torch.remainder(number, path.shape[1])
    return path.gather(1, index[..., None].expand(-1, -1, 2))
