"""The score of the Numenta Anomaly Benchmark (Lavin and Ahmad 2015): alarms in labelled windows, the earlier the
better, against false alarms.

A window that is found counts by its first alarm: 1 at the window's first row, falling along a sigmoid to almost 0 at
its last. A window that is missed costs 1. A false alarm costs 0.11; less shortly after a window, from 0 at its end.
The first rows of each series do not count, for a detector must learn. The sum over all series becomes 0 for a detector
that never raises the alarm, 100 for one that does so at the first row of each window and never else.

A detector gives a number to each row, and one threshold for all series makes alarms of it. The benchmark takes the
threshold that scores best: `best`. `at` takes one that was fixed before.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sakiyomi.errors import SakiyomiError

PROBATION, LONGEST = 0.15, 5000  # share of a series that does not count, of at most so many rows
STEEP = 5.0  # of the sigmoid
FAR = 3.0  # window lengths after which a false alarm costs its all


@dataclass(frozen=True)
class Profile:
    """What each outcome is worth."""

    found: float = 1.0
    """A window whose first row raises the alarm."""
    false: float = 0.11
    """Cost of an alarm outside windows."""
    missed: float = 1.0
    """Cost of a window without an alarm."""


PROFILES = {
    "standard": Profile(),
    "reward low FP rate": Profile(false=0.22),
    "reward low FN rate": Profile(missed=2.0),
}


@dataclass(frozen=True)
class Watched:
    """One series as a detector saw it."""

    name: str
    scores: np.ndarray
    """[T], an alarm where it reaches the threshold."""
    windows: tuple[tuple[int, int], ...]
    """First and last row of each labelled window, in order, none overlapping."""


@dataclass(frozen=True)
class Outcome:
    """How a detector did on some series at one threshold."""

    threshold: float
    """inf where never to raise the alarm is best."""
    score: float
    """0 for a detector that never raises the alarm, 100 for a perfect one; may be negative."""
    found: int
    """Windows with an alarm."""
    windows: int
    true_alarms: int
    """Rows with an alarm, in windows."""
    false_alarms: int
    """And outside."""
    worth: dict[str, float]
    """What each series adds to the sum, before it is scaled."""

    @property
    def precision(self) -> float:
        """Share of alarms that lie in windows; NaN without an alarm."""
        alarms = self.true_alarms + self.false_alarms
        return self.true_alarms / alarms if alarms else math.nan

    @property
    def recall(self) -> float:
        """Share of windows that were found."""
        return self.found / self.windows


def probation(rows: int) -> int:
    """How many rows at the beginning of a series of so many do not count."""
    return math.floor(PROBATION * min(rows, LONGEST))


def sigmoid(position: np.ndarray) -> np.ndarray:
    """2 / (1 + e^(5 y)) - 1: nearly 1 at y = -1, 0 at 0, -1 from 3 on."""
    near = np.minimum(position, FAR)
    return np.where(position >= FAR, -1.0, 2 / (1 + np.exp(STEEP * near)) - 1)


def worth_of_alarms(rows: int, windows: Sequence[tuple[int, int]], profile: Profile) -> tuple[np.ndarray, np.ndarray]:
    """What an alarm at each row is worth by itself, and the number of the window the row lies in, -1 outside: both
    [rows]. Raises SakiyomiError for windows that are out of order or of the series.

    With L the rows of a window, y = -(last - row + 1) / L within it, where the worth is scaled to 1 at its first row;
    after it, until the next one, y = (row - last) / (L - 1). Before the first window a false alarm costs its all.
    """
    worth, inside = np.full(rows, -profile.false), np.full(rows, -1)
    row, end = np.arange(rows), -1
    for number, (first, last) in enumerate(windows):
        if not end < first <= last < rows:
            raise SakiyomiError(
                f"window {number} is rows {first} to {last} of {rows}, after one that ends at {end}: windows lie "
                "within the series, in order, and do not overlap"
            )
        length, end = last - first + 1, last
        here, after = slice(first, last + 1), slice(last + 1, rows)
        worth[here] = profile.found * sigmoid(-(last - row[here] + 1) / length) / sigmoid(np.array(-1.0))
        inside[here] = number
        # The window of a single row has no length after the published formula; it counts as 2 rows.
        worth[after] = profile.false * sigmoid((row[after] - last) / max(length - 1, 1))
    return worth, inside


def at(threshold: float, series: Sequence[Watched], profile: Profile | None = None) -> Outcome:
    """The outcome where rows of at least `threshold` raise the alarm. Raises SakiyomiError without any window that
    counts, or for scores that are no numbers."""
    profile = profile or PROFILES["standard"]
    worth: dict[str, float] = {}
    found = windows = true = false = 0
    for one in series:
        values, inside, scores = _counted(one, profile)
        alarms = scores >= threshold
        best = [values[alarms & (inside == number)] for number in np.unique(inside[inside >= 0])]
        false_worth = float(values[alarms & (inside < 0)].sum())
        worth[one.name] = false_worth + sum(float(hit.max()) if len(hit) else -profile.missed for hit in best)
        found += sum(len(hit) > 0 for hit in best)
        windows += len(best)
        true += int((alarms & (inside >= 0)).sum())
        false += int((alarms & (inside < 0)).sum())
    score = _scaled(sum(worth.values()), windows, profile)
    return Outcome(threshold, score, found, windows, true, false, worth)


def best(series: Sequence[Watched], profile: Profile | None = None) -> Outcome:
    """The outcome at the threshold that scores best over all the series; the highest, if some are equal.

    The rows of all series are sorted once, from the highest score on; each adds what it is worth, in a window what it
    is worth more than the rows before.
    """
    profile = profile or PROFILES["standard"]
    thresholds, gains = [], []
    for one in series:
        values, inside, scores = _counted(one, profile)
        order = np.argsort(-scores, kind="stable")
        scores, gain, inside = scores[order], values[order], inside[order]
        for number in np.unique(inside[inside >= 0]):
            rows = np.flatnonzero(inside == number)
            gain[rows] = np.diff(np.maximum.accumulate(gain[rows]), prepend=-profile.missed)
        thresholds.append(scores)
        gains.append(gain)
    scores, gain = np.concatenate(thresholds), np.concatenate(gains)
    order = np.argsort(-scores, kind="stable")
    scores, total = scores[order], np.cumsum(gain[order])
    # Equal scores raise the alarm together: only the last of them is an outcome.
    ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    winner = int(np.argmax(total[ends]))
    return at(float(scores[ends[winner]]) if total[ends[winner]] > 0 else math.inf, series, profile)


def _counted(one: Watched, profile: Profile) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Worth, window and score of each row after the probation."""
    scores = np.asarray(one.scores, float)
    if scores.ndim != 1 or not np.isfinite(scores).all():
        raise SakiyomiError(f"{one.name}: scores are {list(scores.shape)} numbers, expected [T], all finite")
    values, inside = worth_of_alarms(len(scores), one.windows, profile)
    begin = probation(len(scores))
    return values[begin:], inside[begin:], scores[begin:]


def _scaled(total: float, windows: int, profile: Profile) -> float:
    if not windows:
        raise SakiyomiError("no labelled window counts in these series, so nothing can be found; give some that have")
    never, perfect = -profile.missed * windows, profile.found * windows
    return 100 * (total - never) / (perfect - never)
