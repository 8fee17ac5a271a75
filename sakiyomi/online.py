"""Surprise in a single series of numbers, from its first value on: nothing is trained, nothing is known beforehand.

A value is looked at in four ways: the value itself; the shift of its last values against the ones before; how much
the series moves about; how far it lies from what this time of day brings. In each way the question is the same: how
far is this from the nearest thing ever seen? That distance is the novelty. A level known from last month is no news,
however rare it is; one between two known levels is. Each novelty becomes a surprise, -log10 of the share of earlier
ones that were as large. The score is the mean of the four, or a third of the largest, if that is more: a view alone
must be very sure.

Two settings make an alarm of it: `strength`, how surprising a value must be by itself, and `rate`, the share of the
last values that may be as surprising as that: a series that surprises all the time soon raises no more alarms.

    detector = OnlineSurprise()
    state = detector.begin()
    for seconds, value in series:
        reading, state = detector.step(seconds, value, state)
        if reading.alarm:
            print(seconds, value, reading.expected, reading.reason)
    readings = detector.read(times, values)  # the same scores at once

Memory does not grow with the length of the series. Scores do not change with the unit or the zero of the values. What
was seen is known for ever: the second time, the same fault is less of a surprise.

    python -m benchmarks.nab    measured on the Numenta Anomaly Benchmark
"""

import math
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from sakiyomi.errors import SakiyomiError, at_least, at_most

VIEWS = ("value", "shift", "activity", "time of day")
DAY = 86400.0  # s
TAIL = 0.02  # beyond this share of what was seen, the tail is taken to be exponential
ALONE = 3.0  # so much more surprised a view must be, if it is the only one
MOST = 12.0  # a surprise is no larger: 1 in 10^12 says no more than 'never'
LARGEST = 1e300  # sums of larger numbers overflow
EQUAL = 1e-7  # numbers nearer to each other, relative to their size, are equal
ROUNDING = 1e-10  # of the range seen; a smaller novelty is rounding


@dataclass(frozen=True)
class Reading:
    """What one value said."""

    score: float
    """Surprise, 0 to 12: the mean of `signals`, or a third of the largest, if that is more."""
    signals: dict[str, float]
    """By view, of VIEWS: -log10 of the share of earlier novelties at least as large; 0 while it knows too little."""
    tail: float
    """Share of the last scores at least as high as this one, beyond the highest by an exponential tail, 0 to 1."""
    raised: float
    """The score where it is rare enough (`rate`) and the highest for `rest` values; else 0."""
    expected: float
    """The value that this time of day brings; where the day is not known yet, the mean of the last values. The first
    value is its own."""
    alarm: bool
    """`raised` reaches `strength`."""

    @property
    def reason(self) -> str:
        """The view that was surprised most, one of VIEWS."""
        return max(self.signals, key=lambda view: self.signals[view])


@dataclass(frozen=True)
class Readings:
    """What the values of a series said, one after the other; see Reading."""

    scores: np.ndarray
    """[T]"""
    signals: dict[str, np.ndarray]
    """[T] each."""
    tails: np.ndarray
    """[T]"""
    raised: np.ndarray
    """[T]"""
    expected: np.ndarray
    """[T]"""
    alarms: np.ndarray
    """bool [T]"""


@dataclass
class Known:
    """What one view has seen: points no two of which are nearer than `grain`, and a sketch of how novel each was."""

    seen: list[float] = field(default_factory=list)
    """Sorted."""
    grain: float = 0.0
    """What is no farther than this from a point is not new; 0 until the memory is full."""
    novelties: list[float] = field(default_factory=list)
    """Sorted; every `stride`-th of all there were."""
    stride: int = 1
    count: int = 0
    """Values so far."""

    def copy(self) -> "Known":
        return Known(self.seen.copy(), self.grain, self.novelties.copy(), self.stride, self.count)


@dataclass
class State:
    """Everything a detector remembers. Its size has a bound that only the settings decide."""

    views: tuple[Known, Known, Known, Known]
    values: list[float] = field(default_factory=list)
    """The last short + long values, above the first one."""
    changes: list[float] = field(default_factory=list)
    """Absolute changes between the last values."""
    profile: list[float] = field(default_factory=list)
    """What each time of day brings, above the first value."""
    days: list[int] = field(default_factory=list)
    """From how many values."""
    scores: list[float] = field(default_factory=list)
    """The last ones, in order of time."""
    ranked: list[float] = field(default_factory=list)
    """The same, sorted."""
    loud: list[float] = field(default_factory=list)
    """The last scores that were rare enough for an alarm, else 0, in order of time."""
    origin: float = 0.0
    """The first value."""
    seconds: float = -math.inf
    """The last time."""

    def copy(self) -> "State":
        one, two, three, four = self.views
        return State(
            (one.copy(), two.copy(), three.copy(), four.copy()),
            self.values.copy(),
            self.changes.copy(),
            self.profile.copy(),
            self.days.copy(),
            self.scores.copy(),
            self.ranked.copy(),
            self.loud.copy(),
            self.origin,
            self.seconds,
        )

    def numbers(self) -> int:
        """How many numbers are held."""
        lists = (self.values, self.changes, self.profile, self.days, self.scores, self.ranked, self.loud)
        return sum(map(len, lists)) + sum(len(known.seen) + len(known.novelties) for known in self.views)


class OnlineSurprise:
    """A detector of surprise. It holds its settings only: what was seen is in the state. Raises SakiyomiError for
    settings out of range."""

    @dataclass(frozen=True)
    class Settings:
        """The same ones for every series: none depends on its unit or its sampling."""

        strength: float = 1.36
        """Score from which on a reading may be an alarm: 0 to 12, -log10 of a share."""
        rate: float = 0.02
        """Share of values that may be as surprising as an alarm: the rate asked for, before `rest`. An alarm needs
        both; with `strength` 0 and `rest` 0, this is the share of alarms."""
        rest: int = 100
        """Values after a surprise in which only a greater one is an alarm."""
        short: int = 12
        """Values whose mean may have shifted."""
        long: int = 96
        """Values before them that it is held against; and over which activity is measured."""
        times_of_day: int = 48
        """Into how many parts the day is divided."""
        forget: float = 0.05
        """Weight of a new value in what a time of day brings, once 1 / `forget` were seen."""
        memory: int = 4096
        """Points, and novelties, that each view remembers at most."""
        recent: int = 4000
        """Scores that `rate` is counted over."""
        warmup: int = 100
        """Values that a view, and the rate, must know before they judge."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings = settings or OnlineSurprise.Settings()
        # Halving the memory must leave enough to judge by.
        least = {"strength": 0.0, "rate": 1e-9, "rest": 0, "short": 1, "long": 1, "times_of_day": 1, "forget": 1e-6}
        least |= {"warmup": 10, "memory": 2 * settings.warmup + 2, "recent": settings.warmup}
        for name, edge in least.items():
            at_least(name, getattr(settings, name), edge)
        for name, edge in {"strength": MOST, "rate": 1.0, "forget": 1.0}.items():
            at_most(name, getattr(settings, name), edge)

    def begin(self) -> State:
        """The state before the first value."""
        times = self.settings.times_of_day
        views = (Known(), Known(), Known(), Known())
        return State(views, profile=[0.0] * times, days=[0] * times)

    def step(self, seconds: float, value: float, state: State) -> tuple[Reading, State]:
        """Read one value; the given state stays as it was.

        `seconds`: its time, of which only the time of day counts, from any beginning. Raises SakiyomiError when it is
        not later than the last, or either number is not finite.
        """
        after = state.copy()
        return self._read(float(seconds), float(value), after), after

    def read(self, times: Sequence[float] | np.ndarray, values: Sequence[float] | np.ndarray) -> Readings:
        """Read a whole series, times [T] in seconds and values [T]: the same as stepping, without the copies."""
        clock, series = np.asarray(times, float), np.asarray(values, float)
        if clock.ndim != 1 or clock.shape != series.shape:
            shapes = f"{list(clock.shape)} and {list(series.shape)}"
            raise SakiyomiError(f"a series is times [T] and values [T]; got {shapes}")
        state = self.begin()
        every = [self._read(t, v, state) for t, v in zip(clock.tolist(), series.tolist(), strict=True)]
        return Readings(
            np.array([one.score for one in every]),
            {view: np.array([one.signals[view] for one in every]) for view in VIEWS},
            np.array([one.tail for one in every]),
            np.array([one.raised for one in every]),
            np.array([one.expected for one in every]),
            np.array([one.alarm for one in every], bool),
        )

    def _read(self, seconds: float, value: float, state: State) -> Reading:
        """One value into the state, which is changed in place."""
        settings = self.settings
        check(seconds, value, state.seconds)
        if not state.values:
            state.origin = value
        expected, looks = self._look(seconds, value - state.origin, state)
        state.seconds = seconds
        signals = {
            view: 0.0 if look is None else learn(known, look, settings.memory, settings.warmup)
            for view, known, look in zip(VIEWS, state.views, looks, strict=True)
        }
        score = max(sum(signals.values()) / len(signals), max(signals.values()) / ALONE)
        ready = len(state.ranked) >= settings.warmup
        tail = 10 ** -surprise(state.ranked, score) if ready else 1.0
        remember(state.scores, score, settings.recent, state.ranked)
        rare = score if ready and tail <= settings.rate else 0.0
        raised = rare if rare > max(state.loud, default=0.0) else 0.0
        remember(state.loud, rare, settings.rest)
        alarm = raised > 0 and raised >= settings.strength
        return Reading(score, signals, tail, raised, expected + state.origin, alarm)

    def _look(self, seconds: float, value: float, state: State) -> tuple[float, tuple[float | None, ...]]:
        """What was expected, and what the four views see: numbers, or None while a view knows too little."""
        settings = self.settings
        part = min(int(seconds % DAY / DAY * settings.times_of_day), settings.times_of_day - 1)
        days, usual = state.days[part], state.profile[part]
        change = abs(value - state.values[-1]) if state.values else 0.0
        lately = state.values[-settings.short :]
        expected = usual if days else math.fsum(lately) / len(lately) if lately else value
        state.days[part] = min(days + 1, math.ceil(1 / settings.forget))  # it counts no further than it matters
        state.profile[part] = usual + max(1 / (days + 1), settings.forget) * (value - usual)
        remember(state.values, value, settings.short + settings.long)
        remember(state.changes, change, settings.long)
        shift = activity = None
        if len(state.values) == settings.short + settings.long:
            # fsum: the same numbers in another order have the same mean, or rounding would be news.
            before = math.fsum(state.values[: settings.long]) / settings.long
            shift = math.fsum(state.values[settings.long :]) / settings.short - before
        if len(state.changes) == settings.long:
            activity = math.fsum(state.changes) / settings.long
        return expected, (value, shift, activity, value - usual if days else None)


def check(seconds: float, value: float, last: float) -> None:
    """Raises SakiyomiError for a value or a time that cannot be read."""
    if not abs(value) <= LARGEST:
        raise SakiyomiError(f"value {value} at {seconds} s is not a finite number (at most {LARGEST:g}); leave it out")
    if not math.isfinite(seconds):
        raise SakiyomiError(f"time {seconds} of value {value} is not a finite number of seconds; leave it out")
    if seconds <= last:
        raise SakiyomiError(
            f"time {seconds} s comes after {last} s and is not later; sort the series and leave out what is there twice"
        )


def learn(known: Known, look: float, memory: int, warmup: int) -> float:
    """How surprising the number `look` is to a view that knows `known`, 0 to 12; then it is known too."""
    novelty = distance(known, look)
    if novelty > 0 or not known.seen:
        insort(known.seen, look)
        if len(known.seen) > memory:
            coarsen(known)
    known.count += 1
    found = surprise(known.novelties, novelty) if len(known.novelties) >= warmup else 0.0
    if known.count % known.stride == 0:
        insort(known.novelties, novelty)
        if len(known.novelties) > memory:
            # Every second of them tells the shares as well; from now on every second is enough.
            known.novelties = known.novelties[known.stride.bit_length() % 2 :: 2]
            known.stride *= 2
    return found


def distance(known: Known, look: float) -> float:
    """From `look` to the nearest point seen; 0 where that is as near as points are told apart."""
    seen = known.seen
    if not seen:
        return 0.0
    at = bisect_left(seen, look)
    nearest = min(look - seen[at - 1] if at else math.inf, seen[at] - look if at < len(seen) else math.inf)
    return nearest if nearest > max(known.grain, ROUNDING * (seen[-1] - seen[0])) else 0.0


def coarsen(known: Known) -> None:
    """Forget points that lie within the median gap of one that stays: at least a quarter of them go."""
    points = known.seen
    gaps = sorted(after - before for before, after in pairwise(points))
    known.grain = max(known.grain, gaps[len(gaps) // 2] * (1 + EQUAL))
    kept = [points[0]]
    for point in points[1:]:
        if point - kept[-1] > known.grain:
            kept.append(point)
    known.seen = kept


def surprise(ranked: list[float], number: float) -> float:
    """-log10 of the share of `ranked`, sorted, that is at least `number`, 0 to 12.

    Within the highest 2 % the tail is exponential, with the mean of what they exceed the rest by; so what is beyond
    all that was seen is still told apart.
    """
    n = len(ranked)
    above = max(4, int(TAIL * n))
    edge = ranked[n - above]
    number *= 1 - EQUAL  # of equal numbers, rounding makes some the larger
    if number <= edge:
        return math.log10((n + 1) / (n - bisect_left(ranked, number) + 1))
    excess = math.fsum(ranked[n - above :]) / above - edge
    beyond = (number - edge) / excess if excess > 0 else math.inf
    return min(MOST, math.log10(n / above) + beyond / math.log(10))


def remember(last: list[float], number: float, most: int, ranked: list[float] | None = None) -> None:
    """Append to `last`, and insert into its sorted twin, and forget the oldest beyond `most`."""
    last.append(number)
    if ranked is not None:
        insort(ranked, number)
    if len(last) > most:
        oldest = last.pop(0)
        if ranked is not None:
            del ranked[bisect_left(ranked, oldest)]
