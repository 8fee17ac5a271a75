"""The delay from command to joints, by cross-correlation of what changes in both."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sakiyomi.data.doctor.findings import Finding, Tolerances, listed
from sakiyomi.data.doctor.recording import Recording
from sakiyomi.data.episodes import Stream

FEWEST = 16  # values in common
BACK, AHEAD = 0.6, 1.6  # s that joints may be before and after their command in the search
SHARE = 3  # of the episode, at most a third of it is searched
CLEARLY = 0.04  # of correlation: by so much must an own delay fit an episode better than the usual one


@dataclass(frozen=True)
class Delay:
    """Of one episode: correlations [L] at `lags` [L] s, positive where joints follow; `step` s is the grid."""

    lags: np.ndarray
    alike: np.ndarray
    step: float

    @property
    def best(self) -> float:
        """s, between the points of the grid by a parabola."""
        at = int(self.alike.argmax())
        if not 0 < at < len(self.lags) - 1:
            return float(self.lags[at])
        left, top, right = self.alike[at - 1 : at + 2]
        bend = left - 2 * top + right
        return float(self.lags[at] + (0.5 * (left - right) / bend if bend < 0 else 0.0) * self.step)

    def fit(self, lag: float) -> float:
        return float(np.interp(lag, self.lags, self.alike))


def measure(recording: Recording, streams: Mapping[str, Stream], tolerances: Tolerances) -> dict[str, Delay]:
    """Of `command` against `joints`, where both are recorded and of one width; else empty."""
    if not {"command", "joints"} <= set(recording.numbers):
        return {}
    command, joints = recording.numbers["command"], recording.numbers["joints"]
    if command.shape[1:] != joints.shape[1:] or not (np.isfinite(command).all() and np.isfinite(joints).all()):
        return {}
    clocks = recording.times["command"], recording.times["joints"]
    begin, end = max(clock[0] for clock in clocks), min(clock[-1] for clock in clocks)
    if min(len(clock) for clock in clocks) < FEWEST:
        return {}
    step = max(float(np.median(np.diff(clock))) for clock in clocks)
    times = np.arange(begin, end, step)
    if len(times) < FEWEST:
        return {}
    sides = [
        np.diff([np.interp(times, clock, channel) for channel in values.T], axis=1)
        for values, clock in zip((command, joints), clocks, strict=True)
    ]
    sizes = [side.std(1) for side in sides]
    both = (sizes[0] > 0) & (sizes[1] > 0)
    if not both.any():
        return {}
    asked, moved = (side[both] / size[both, None] for side, size in zip(sides, sizes, strict=True))
    most = asked.shape[1] // SHARE
    lags = np.arange(-min(round(BACK / step), most), min(round(AHEAD / step), most) + 1)
    return {"command": Delay(lags * step, np.array([_alike(asked, moved, lag) for lag in lags.tolist()]), step)}


def _alike(asked: np.ndarray, moved: np.ndarray, lag: int) -> float:
    """Correlation over all channels of `asked` [C, T] and `moved` [C, T] that comes `lag` steps later."""
    count = asked.shape[1] - abs(lag)
    first, second = (asked[:, :count], moved[:, lag:]) if lag >= 0 else (asked[:, -lag:], moved[:, :count])
    energy = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / energy) if energy > 0 else 0.0


def judge(measured: Mapping[str, dict[str, Delay]], tolerances: Tolerances) -> list[Finding]:
    """Of all episodes together."""
    of = {id: one["command"] for id, one in measured.items() if one and one["command"].alike.max() > tolerances.alike}
    if not of:
        return []
    usual, step = float(np.median([d.best for d in of.values()])), float(np.median([d.step for d in of.values()]))
    found = []
    if usual > tolerances.delay:
        told = f"joints follow their command only after {usual:.2f} s"
        found.append(Finding("delay", "problem", told, usual, "s", tolerances.delay, (), "command"))
    if usual < -max(tolerances.early, step / 2):
        told = f"joints move {-usual:.2f} s before their command: these commands did not move them"
        found.append(Finding("delay", "problem", told, usual, "s", -tolerances.early, (), "command"))
    limit = max(tolerances.delays, 1.5 * step)
    off = {id: d.best - usual for id, d in of.items() if d.alike.max() - d.fit(usual) > CLEARLY}
    bad = tuple(sorted((id for id in off if abs(off[id]) > limit), key=lambda id: -abs(off[id])))
    if bad:
        told = (
            f"joints follow their command after {usual + off[bad[0]]:.2f} s, {usual:.2f} s are usual, in {listed(bad)}"
        )
        found.append(Finding("delay", "problem", told, usual + off[bad[0]], "s", usual + limit, bad, "command"))
    return found
