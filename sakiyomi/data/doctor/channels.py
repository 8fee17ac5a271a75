"""Figures of channels of numbers: which values are none, stand still, repeat, are cut off, or jump out and back.

What they mean is judged in `channels_judged.py`, when those of all episodes are known.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sakiyomi.data.doctor.findings import Tolerances
from sakiyomi.data.doctor.recording import Recording, runs
from sakiyomi.data.episodes import Kind, Stream

COARSE = 0.003  # of the usual step: a finer last digit is a float's, not an encoder's
USUAL = 90  # percentile of steps that stands for "moves"
PUSHED: tuple[Kind, ...] = ("pose", "motion")  # also of things that rest, are hit, and stop
LEAP = 1.5  # times the largest other step: more than that is several at once


@dataclass(frozen=True)
class Spike:
    """A value that jumps out and back. `moves` says whether its channel moves further than that by itself in this
    episode; else the jump is all that happened to it, as to something that was bumped into."""

    frame: int
    channel: int
    height: float
    moves: bool


@dataclass(frozen=True)
class Channels:
    """What one stream's values [T, C] of one episode say; arrays are [C] unless told."""

    count: int
    low: np.ndarray
    high: np.ndarray
    bad: np.ndarray
    """Not finite."""
    bad_at: tuple[int, ...]
    lively: np.ndarray
    """Share of steps at which the channel changes, its longest rest not counted; 0 of coarse encoders."""
    rest: np.ndarray
    """[C, 2] first frame and length of its longest rest, in steps."""
    rest_alone: np.ndarray
    """During that rest, how often another channel of the stream moved, as a share of its steps."""
    rest_abrupt: np.ndarray
    """Whether it moved briskly right before that rest and right after it."""
    flat: np.ndarray
    """[C, 2, 2] values on flat tops at `low` and at `high`: all of them, and those that begin and end abruptly."""
    flat_at: np.ndarray
    """[C] first frame of one, or -1."""
    repeats: tuple[int, ...]
    """Frames that repeat the one before while it moves."""
    held: float
    """Share of changes that come right after such a frame."""
    rests: float
    """Share of steps at which nothing in the stream changes, repeats and the tail not counted."""
    head: int
    """Frames at the beginning that repeat the first one."""
    tail: int
    """Frames at the end that repeat the last one."""
    lively_whole: float
    """Share of steps, without the tail, at which anything changes."""
    spikes: tuple["Spike", ...]
    middle: np.ndarray
    """[2, C] 1st and 99th percentile."""


def measure(recording: Recording, streams: Mapping[str, Stream], tolerances: Tolerances) -> dict[str, Channels]:
    """Of every stream of numbers."""
    found = {}
    for name, values in recording.numbers.items():
        stuck = stuck_steps(streams[name].rate, tolerances)
        found[name] = channels(values, stuck, tolerances, pushed=streams[name].kind in PUSHED)
    return found


def stuck_steps(rate: float, tolerances: Tolerances) -> int:
    """From so many steps on a rest is no repeated frame any more."""
    return max(int(np.ceil(tolerances.stuck_seconds * rate)), int(tolerances.stuck_frames))


def channels(values: np.ndarray, stuck: int, tolerances: Tolerances, pushed: bool) -> Channels:
    """`values` [T, C], which may hold NaN; these count as the value before. What is `pushed` about may rest and leap by
    nature."""
    finite = np.isfinite(values)
    bad = (~finite).sum(0)
    bad_at = tuple(np.flatnonzero(~finite.all(1))[:3].tolist())
    values = filled(values, finite)
    steps = np.diff(values, axis=0)
    still = steps == 0
    whole = still.all(1)
    tail = unchanged_tail(whole)
    body = whole[: len(whole) - tail]
    brisk, leap = brisk_steps(steps, tolerances), 1 / tolerances.moving
    rest, alone, lively = _rests(steps[: len(body)], whole, brisk, leap)
    abrupt = np.array([_abrupt(brisk[:, c], int(rest[c, 0]), int(rest[c].sum()) - 1, leap) for c in range(len(rest))])
    leap_after = np.zeros(len(body), bool) if pushed else leaps(steps[: len(body)], body)
    repeats = moving_repeats(steps[: len(body)], body, leap_after, stuck, tolerances)
    low, high = values.min(0), values.max(0)
    flat, flat_at = _flat(values[: len(body) + 1], brisk[: len(body)], low, high, int(tolerances.flat))
    return Channels(
        count=len(values),
        low=low,
        high=high,
        bad=bad,
        bad_at=bad_at,
        lively=lively,
        rest=rest,
        rest_alone=alone,
        rest_abrupt=abrupt,
        flat=flat,
        flat_at=flat_at,
        repeats=repeats,
        held=held_share(repeats, body),
        rests=(float(body.sum()) - len(repeats)) / max(1, len(body)),
        head=unchanged_tail(whole[::-1]),
        tail=tail,
        lively_whole=1 - float(body.mean()) if len(body) else 0.0,
        spikes=_spikes(steps, tolerances),
        middle=np.percentile(values, (1, 99), axis=0),
    )


def filled(values: np.ndarray, finite: np.ndarray) -> np.ndarray:
    """[T, C] with the last finite value in place of those that are none; 0 before the first."""
    if finite.all():
        return values
    last = np.maximum.accumulate(np.where(finite, np.arange(len(values))[:, None], -1), axis=0)
    held = np.take_along_axis(values, np.maximum(last, 0), axis=0)
    return np.where(last >= 0, held, 0.0)


def unchanged_tail(whole: np.ndarray) -> int:
    """Steps at the end at which nothing changed."""
    moved = np.flatnonzero(~whole)
    return len(whole) - (int(moved[-1]) + 1 if len(moved) else 0)


def brisk_steps(steps: np.ndarray, tolerances: Tolerances) -> np.ndarray:
    """How large steps [T - 1, C] are over the least that is no beginning or end of a smooth movement, and more than
    an encoder's last digit: from 1 on they are brisk."""
    usual, finest = typical(steps)
    return np.abs(steps) / np.maximum(tolerances.moving * usual, np.minimum(tolerances.quanta * finest, usual))


def typical(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of steps [T - 1, C] that are not 0: the usual one (90th percentile) and the finest, both [C], infinite where a
    channel never moves."""
    if not len(steps):
        return np.full(steps.shape[1], np.inf), np.full(steps.shape[1], np.inf)
    size = np.sort(np.abs(steps), axis=0)
    zeros, channel = (size == 0).sum(0), np.arange(size.shape[1])
    first, last = np.minimum(zeros, len(size) - 1), len(size) - 1
    at = first + (last - first) * USUAL / 100
    below = at.astype(int)
    under, over = size[below, channel], size[np.minimum(below + 1, last), channel]
    moves = zeros < len(size)
    return np.where(moves, under + (at - below) * (over - under), np.inf), np.where(moves, size[first, channel], np.inf)


def _abrupt(brisk: np.ndarray, first: int, last: int, leap: float) -> bool:
    """Whether frames `first` to `last`, which do not change, are a stop and not a rest: the steps right before and
    right after are brisk, or the one after is a leap."""
    if last < max(first, 1) or last >= len(brisk):
        return False
    return bool((first >= 2 and min(brisk[first - 2], brisk[last]) >= 1) or brisk[last] >= leap)


def _rests(
    steps: np.ndarray, whole: np.ndarray, brisk: np.ndarray, leap: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per channel: its longest rest, how much of it others moved, how lively it is outside of it."""
    still, width = steps == 0, steps.shape[1]
    rest, alone, lively = np.zeros((width, 2), int), np.zeros(width), np.zeros(width)
    for channel in range(width):
        # What an episode begins with is a rest before the movement, unless it lasts for most of it.
        some = [
            run
            for run in runs(still[:, channel])
            if run.first > 1 or run.length > len(still) / 2 or _abrupt(brisk[:, channel], run.first, run.last, leap)
        ]
        longest = max(some, key=lambda run: run.length, default=None)
        length = longest.length if longest else 0
        moved = len(still) - int(still[:, channel].sum())
        lively[channel] = moved / max(1, len(still) - length)
        if longest:
            rest[channel] = longest.first, length
            alone[channel] = 1 - whole[longest.first - 1 : longest.last].mean()
    return rest, alone, np.where(_coarse(steps), 0.0, lively)


def _coarse(steps: np.ndarray) -> np.ndarray:
    """Which channels [C] have a finest step that shows: such encoders rest exactly."""
    usual, finest = typical(steps)
    return np.isfinite(usual) & (finest > COARSE * usual)


def moving_repeats(
    steps: np.ndarray, whole: np.ndarray, leap: np.ndarray, stuck: int, tolerances: Tolerances
) -> tuple[int, ...]:
    """Frames where the whole row is the one before, though it moves right before and right after, or leaps after it."""
    if not whole.any() or whole.all():
        return ()
    moves = brisk_steps(steps, tolerances) >= 1
    found: list[int] = []
    for run in runs(whole):
        before, after = run.first - 2, run.last
        if run.length >= stuck or before < 0 or after >= len(steps):
            continue
        if (moves[before] & moves[after]).any() or leap[after]:
            found += range(run.first, run.last + 1)
    return tuple(found)


def leaps(steps: np.ndarray, still: np.ndarray) -> np.ndarray:
    """Which of the steps [T - 1, C] right after a rest, where `still` [T - 1] holds, are by far the largest of some
    channel, [T - 1]: what was missed comes at once."""
    after = np.concatenate(([False], still))[: len(still)] & ~still
    size = np.abs(steps)
    others = size[~after].max(0, initial=0.0)
    return after & ((others > 0) & (size > LEAP * others)).any(1)


def held_share(repeats: tuple[int, ...], whole: np.ndarray) -> float:
    """Share of the changes that come right after one of these repeated frames; `whole` [T - 1] is where nothing
    changes. Near 1 where every value is there twice."""
    again = np.zeros(len(whole) + 1, bool)
    again[list(repeats)] = True
    changed = np.flatnonzero(~whole)  # step t leads from frame t to t + 1
    return float(again[changed].mean()) if len(changed) else 0.0


def _flat(
    values: np.ndarray, brisk: np.ndarray, low: np.ndarray, high: np.ndarray, least: int
) -> tuple[np.ndarray, np.ndarray]:
    """Values in runs of at least `least` at the channel's own extremes, and the first frame of one: in the midst of an
    episode, as at its ends there are poses at rest; and those that begin and end abruptly."""
    flat, first = np.zeros((values.shape[1], 2, 2), int), np.full(values.shape[1], -1)
    for side, extreme in enumerate((low, high)):
        at = values == extreme
        for channel in np.flatnonzero((at.sum(0) >= least) & (low < high)):
            # A run of n steps inside the extreme is n + 1 values.
            for run in runs(at[1:, channel] & at[:-1, channel]):
                sides = [brisk[step, channel] for step in (run.first - 2, run.last) if 0 <= step < len(brisk)]
                if run.length + 1 >= least and sides:
                    counted = np.array((len(sides) == 2, min(sides) >= 1))
                    flat[channel, side] += (run.length + 1) * counted
                    first[channel] = run.first - 1
    return flat, first


def _spikes(steps: np.ndarray, tolerances: Tolerances) -> tuple[Spike, ...]:
    """Jumps out and back: two opposite steps a few frames apart, both larger than all other steps."""
    found: list[Spike] = []
    if len(steps) < 4 * tolerances.spike_frames:
        return ()
    size = np.abs(steps)
    usual = np.percentile(size, USUAL, axis=0)
    for channel in np.flatnonzero(size.max(0) > tolerances.spike_usual * usual):
        step = steps[:, channel]
        large = np.abs(step) > tolerances.spike_usual * usual[channel]
        rest = np.abs(step[~large]).max(initial=0.0)
        large &= np.abs(step) > tolerances.spike * rest
        for at in np.flatnonzero(large):
            back = [n for n in range(1, int(tolerances.spike_frames) + 1) if at + n < len(step) and large[at + n]]
            if not back or rest == 0 or step[at] * step[at + back[0]] >= 0:
                continue
            height = float(min(abs(step[at]), abs(step[at + back[0]])))
            turn = any(abs(height / full - 1) < 0.1 for full in (2 * np.pi, 360.0))  # an angle that wraps around
            if not turn:
                path = float(np.abs(step[~large]).sum())
                found.append(Spike(int(at) + 1, int(channel), height, height <= path))
    return tuple(found)
