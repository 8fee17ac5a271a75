"""Walk through a maze and enter every cell of it, by what can be seen from where one stands.

    sakiyomi train maze-walker

Judged by the share of cells entered in the time of the evaluation (a minute). Walls hold characters back. Goal:
`walls_x` bool [B, N, N + 1] (wall k of a row stands at x = k cells, before cell k), `walls_z` bool [B, N + 1, N]
likewise, `corner` (x, z) m of the maze's lowest x and z [B, 2], `entered` bool [B, N, N]; rows of cells count along z,
columns along x.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sakiyomi.errors import SakiyomiError, at_least, at_most
from sakiyomi.motion.character import Character, Moving
from sakiyomi.worlds.character import Finding, Goal, Outcome

RAYS = 16
SAMPLES = 4  # looks per cell for cells not yet entered
APART = 1e-6  # a ray along the walls still has a direction


class Maze:
    """Mazes are drawn once, from a seed of their own: N x N cells, each reachable from each."""

    width = 2 * RAYS

    @dataclass(frozen=True)
    class Config:
        mazes: int = 64
        """How many different mazes there are."""
        cells: int = 6
        """Cells along a side, N."""
        cell: float = 2.0
        """m, the side of a cell."""
        open: float = 0.3
        """Share of the walls taken out of a maze without loops."""
        radius: float = 0.3
        """m that a character's root keeps from walls."""
        sight: float = 6.0
        """m that can be seen."""
        entered: float = 10.0
        """Reward for entering a cell for the first time."""
        blocked: float = 0.3
        """Cost of a frame at a wall."""
        seed: int = 0
        """Seed of the mazes."""

    def __init__(self, config: Config, character: Character) -> None:
        at_least("the number of mazes", config.mazes, 1)
        at_least("cells along a side", config.cells, 2)
        at_least("the share of walls taken out", config.open, 0)
        at_most("the share of walls taken out", config.open, 1)
        if not 0 <= config.radius < config.cell / 2 or not config.sight > 0:
            raise SakiyomiError(f"a maze needs 0 <= radius < half a cell, and sight over 0, got {config}")
        self.config, self.rate = config, character.rate
        drawn = [maze(config.cells, config.open, (config.seed, number)) for number in range(config.mazes)]
        device = character.device
        self.walls_x = torch.tensor(np.stack([x for x, _ in drawn]), device=device)
        self.walls_z = torch.tensor(np.stack([z for _, z in drawn]), device=device)
        self._angles = torch.arange(RAYS, device=device) * (2 * math.pi / RAYS)
        self._lines = torch.arange(math.ceil(config.sight / config.cell) + 1, device=device)
        looks = SAMPLES * config.sight / config.cell
        self._looks = (torch.arange(int(looks), device=device) + 1) / looks * config.sight

    def begin(self, moving: Moving, generator: torch.Generator | None) -> Goal:
        """A maze around each character, which stands in the middle of one of its cells."""
        cfg, count, device = self.config, len(moving.place), moving.place.device
        picks = torch.randint(len(self.walls_x), (count,), generator=generator, device=device)
        cell = torch.randint(cfg.cells, (count, 2), generator=generator, device=device)
        return {
            "walls_x": self.walls_x[picks],
            "walls_z": self.walls_z[picks],
            "corner": moving.place[:, :2] - (cell + 0.5) * cfg.cell,
            "entered": self._here(cell),
        }

    def observe(self, moving: Moving, goal: Goal) -> Tensor:
        """For each ray, clockwise from the facing: closeness of the wall (1 here, 0 out of sight), and closeness of the
        nearest cell in view that was not entered yet."""
        sight = self.config.sight
        angle = moving.place[:, 2:] + self._angles
        way = torch.stack((angle.cos(), angle.sin()), -1)
        wall = self.look(moving, goal, way)
        points = moving.place[:, None, None, :2] + way[:, :, None] * self._looks[:, None]
        fresh = ~_of_cells(goal["entered"], self._cell(points, goal)) & (self._looks < wall[..., None])
        closeness = torch.where(fresh, 1 - self._looks / sight, 0.0).amax(-1)
        return torch.cat((1 - wall / sight, closeness), -1)

    def look(self, moving: Moving, goal: Goal, way: Tensor) -> Tensor:
        """m to the nearest wall along directions (x, z) [B, R, 2], at most the sight, [B, R]."""
        cfg = self.config
        place = ((moving.place[:, :2] - goal["corner"]) / cfg.cell)[:, None].expand_as(way)
        along_x = self._crossing(place, way, goal["walls_x"])
        along_z = self._crossing(place.flip(-1), way.flip(-1), goal["walls_z"].transpose(1, 2))
        return (torch.minimum(along_x, along_z) * cfg.cell).clamp_max(cfg.sight)

    def step(self, before: Moving, after: Moving, goal: Goal, generator: torch.Generator | None) -> Outcome:
        cfg = self.config
        held = self._hold(before, after, goal)
        blocked = (held.place[:, :2] - after.place[:, :2]).abs().amax(-1) > 0
        here = self._here(self._cell(held.place[:, :2], goal))
        new = (here & ~goal["entered"]).flatten(1).any(-1)
        entered = goal["entered"] | here
        share = entered.flatten(1).float().mean(-1)
        reward = cfg.entered * new - cfg.blocked * blocked
        measures = {"covered": share, "blocked": blocked}
        return Outcome({**goal, "entered": entered}, held, reward, share >= 1, measures)

    def judge(self, measures: dict[str, np.ndarray], over: np.ndarray) -> dict[str, Finding]:
        seconds = len(over) / self.rate
        what = f"{self.config.mazes} mazes of {self.config.cells} x {self.config.cells} cells, seed {self.config.seed}"
        first = np.cumsum(over, 0) - over == 0  # frames of each character's first episode
        covered = (measures["covered"] * first).max(0)
        return {
            "maze_covered": Finding(covered, "rate", f"{what}: share of cells entered in {seconds:g} s"),
            "maze_blocked": Finding(measures["blocked"].mean(0), "rate", f"{what}: share of frames held by a wall"),
        }

    def _hold(self, before: Moving, after: Moving, goal: Goal) -> Moving:
        """Walls stop characters, who slide along them: x first, then z from the cell that leads to."""
        x = self._stop(before.place, after.place[:, 0], 0, goal)
        halfway = torch.stack((x, before.place[:, 1]), -1)
        z = self._stop(halfway, after.place[:, 1], 1, goal)
        return Moving(after.pose, torch.stack((x, z, after.place[:, 2]), -1))

    def _stop(self, place: Tensor, wanted: Tensor, axis: int, goal: Goal) -> Tensor:
        """How far one gets towards `wanted` along an axis, from `place` [B, 2 or more]."""
        cfg = self.config
        column, row = self._cell(place[:, :2], goal).unbind(-1)
        one = torch.arange(len(column), device=column.device)
        if axis == 0:
            lower, upper = goal["walls_x"][one, row, column], goal["walls_x"][one, row, column + 1]
        else:
            lower, upper = goal["walls_z"][one, row, column], goal["walls_z"][one, row + 1, column]
        edge = goal["corner"][:, axis] + (column if axis == 0 else row) * cfg.cell
        now = place[:, axis]
        # One who came round a corner may be nearer to a wall than allowed: held there, not thrown back.
        least = torch.where(lower, torch.minimum(edge + cfg.radius, now), edge - 0.9 * cfg.cell)
        most = torch.where(upper, torch.maximum(edge + cfg.cell - cfg.radius, now), edge + 1.9 * cfg.cell)
        return torch.minimum(torch.maximum(wanted, least), most)

    def _cell(self, points: Tensor, goal: Goal) -> Tensor:
        """Column and row of the cell in which points [B, ..., 2] lie, or the nearest, int64."""
        corner = goal["corner"].reshape(-1, *(1,) * (points.ndim - 2), 2)
        return ((points - corner) / self.config.cell).floor().long().clamp(0, self.config.cells - 1)

    def _here(self, cell: Tensor) -> Tensor:
        """True in the cell (column, row) [B, 2] alone, bool [B, N, N]."""
        index = torch.arange(self.config.cells, device=cell.device)
        return (cell[:, 1:] == index)[:, :, None] & (cell[:, :1] == index)[:, None]

    def _crossing(self, place: Tensor, way: Tensor, walls: Tensor) -> Tensor:
        """Cells to the nearest wall across the first axis, inf where none is within the lines looked at, [B, R]."""
        ahead = torch.where(way[..., 0] < 0, -1.0, 1.0)
        speed = torch.where(way[..., 0].abs() < APART, APART * ahead, way[..., 0])
        first = place[..., 0].floor() + (ahead > 0)
        line = first[..., None] + ahead[..., None] * self._lines
        time = (line - place[..., :1]) / speed[..., None]
        row = (place[..., 1:] + time * way[..., 1:]).floor()
        n = self.config.cells
        inside = (row >= 0) & (row < n) & (line >= 0) & (line <= n)
        index = row.clamp(0, n - 1).long() * (n + 1) + line.clamp(0, n).long()
        there = walls.flatten(1).gather(1, index.flatten(1)).view_as(index) & inside
        return torch.where(there, time, math.inf).amin(-1)


def maze(cells: int, open: float, seed: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Walls of a maze: a tree grown by a random walk that turns back at dead ends, then a share of the walls taken out.

    Returns `walls_x` bool [N, N + 1] and `walls_z` bool [N + 1, N]; the outer ones all stand.
    """
    random = np.random.default_rng(seed)
    walls_x, walls_z = np.ones((cells, cells + 1), bool), np.ones((cells + 1, cells), bool)
    trail = [(int(random.integers(cells)), int(random.integers(cells)))]
    seen = {trail[0]}
    while trail:
        row, column = trail[-1]
        around = [(row + r, column + c) for r, c in ((0, 1), (1, 0), (0, -1), (-1, 0))]
        free = [p for p in around if p not in seen and min(p) >= 0 and max(p) < cells]
        if not free:
            trail.pop()
            continue
        there = free[random.integers(len(free))]
        if there[0] == row:
            walls_x[row, max(column, there[1])] = False
        else:
            walls_z[max(row, there[0]), column] = False
        seen.add(there)
        trail.append(there)
    walls_x[:, 1:-1] &= random.random((cells, cells - 1)) >= open
    walls_z[1:-1] &= random.random((cells - 1, cells)) >= open
    return walls_x, walls_z


def _of_cells(cells: Tensor, index: Tensor) -> Tensor:
    """Values of cells [B, N, N] at (column, row) [B, ..., 2] -> [B, ...]."""
    flat = index[..., 1] * cells.shape[-1] + index[..., 0]
    return cells.flatten(1).gather(1, flat.flatten(1)).view_as(flat)
