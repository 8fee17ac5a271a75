"""A made-up sensor: the temperature of a machine that works by day and week, any number of values, faults on request.

    sakiyomi prepare sensor --faulty 60480 --faults 20 --out data/sensor

Normal is a rhythm of the day, less of it at weekends, noise that lasts for some minutes, noise of the measurement, and
about once a day a load that warms the machine for half an hour. The splits follow each other in time. `calibration` is
for thresholds, apart from what weights were chosen by; `faulty` holds faults of five kinds, whose kind, start and end
(s, on the episode's clock) are in its meta as `anomalies`.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.signal import lfilter

from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream
from sakiyomi.errors import SakiyomiError, at_least

SPLITS = ("train", "validation", "calibration", "test", "faulty")
KINDS = ("spike", "shift", "freeze", "rhythm", "drift")
START = "2024-01-01T00:00:00"  # a Monday
DAY, WEEK = 86_400.0, 604_800.0  # s
LEVEL, SWING = 60.0, 6.0  # °C: the middle, and how far the day goes to either side
LASTING, STRENGTH = 600.0, 0.6  # s and °C, of the noise that lasts
MEASURED = 0.15  # °C, deviation of the measurement
WARMING, COOLING = 300.0, 1800.0  # s, of a load
LOADS = 1 / DAY  # a second
ROOM = 2 * DAY  # s a fault has to itself, most of it normal


@dataclass(frozen=True)
class Fault:
    """A stretch of a series that is not normal."""

    kind: str
    start: float
    """s, on the clock of the series; the first value that is wrong."""
    end: float
    """s; the last one."""


@dataclass(frozen=True)
class GeneratedSensor:
    """Make the temperature of a machine."""

    steps: int = 100_800
    """Values of the training split, in episodes of a week at most."""
    validation: int = 20_160
    """Further values for the validation split."""
    calibration: int = 50_400
    """Further values to set thresholds by."""
    test: int = 50_400
    """Further normal values, for the test split."""
    faulty: int = 60_480
    """Further values, with faults in them; 0 makes none."""
    faults: int = 20
    """Faults among those, of the five kinds in turn."""
    period: float = 60.0
    """Seconds between values."""
    seed: int = 0
    """Seed of everything random."""

    def record(self, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> EpisodeStore:
        """Write the store; an interrupted call goes on where it stopped."""
        self._check()
        streams = {"value": Stream("scalar", (1,), "float32", 1 / self.period, "°C", ("temperature",))}
        writer = EpisodeWriter(out, streams, {"source": "generated_sensor", **asdict(self)})
        counts = [self.steps, self.validation, self.calibration, self.test, self.faulty]
        longest = [max(2, round(WEEK / self.period)), *counts[1:]]
        plan = [
            (number, first, min(first + longest[number], count))
            for number, count in enumerate(counts)
            for first in range(0, count, max(1, longest[number]))
        ]
        made: dict[int, tuple[np.ndarray, list[Fault]]] = {}
        for done, (number, first, last) in enumerate(plan):
            id = f"{SPLITS[number]}-{first // longest[number]:05d}"
            if id not in writer.ids:
                before = sum(counts[:number])
                if number not in made:
                    made = {number: self._make(number, counts[number], before)}  # one split at a time in memory
                values, faults = made[number]
                clock = self.period * np.arange(before + first, before + last)
                meta = {"start": START, "period": self.period, "anomalies": [asdict(fault) for fault in faults]}
                value = values[first:last, None].astype(np.float32)
                writer.add(id, {"value": value}, {"value": clock}, SPLITS[number], meta)
            progress(done + 1, len(plan))
        return writer.finish()

    def _make(self, number: int, count: int, before: int) -> tuple[np.ndarray, list[Fault]]:
        """A split's values, float64 [count], and its faults."""
        random = np.random.default_rng((self.seed, number))
        values = normal(count, self.period, random, before * self.period)
        if SPLITS[number] != "faulty":
            return values, []
        return plant(values, self.period, self.faults, random, before * self.period)

    def _check(self) -> None:
        for name in ("steps", "validation"):
            at_least(f"--{name}", getattr(self, name), 2)
        for name in ("calibration", "test", "faulty", "faults", "seed"):
            at_least(f"--{name}", getattr(self, name), 0)
        if not 0 < self.period <= DAY / 10:
            raise SakiyomiError(f"--period is {self.period:g} s; it must be more than 0, and a tenth of a day at most")
        if self.faulty and self.faulty * self.period < self.faults * ROOM:
            raise SakiyomiError(
                f"--faulty {self.faulty} values of {self.period:g} s are {self.faulty * self.period / DAY:.3g} days, "
                f"too few for --faults {self.faults}, which take {ROOM / DAY:g} days each"
            )


def normal(count: int, period: float, random: np.random.Generator, begin: float = 0.0) -> np.ndarray:
    """Temperatures of a machine that does what it should, °C, float64 [count], one each `period` s from `begin` on."""
    clock = begin + period * np.arange(count)
    return rhythm(clock) + _noise(count, period, random) + _loads(count, period, random)


def rhythm(clock: np.ndarray, late: float = 0.0) -> np.ndarray:
    """What the time of day and week makes of the temperature, °C [T]; `late` by so many seconds."""
    clock = clock - late
    phase = 2 * np.pi * clock / DAY
    day = -np.cos(phase) - 0.35 * np.cos(2 * phase + 0.8)
    working = 1 / (1 + np.exp(-(5 * DAY - clock % WEEK) / 7200)) + 1 / (1 + np.exp((WEEK - clock % WEEK) / 7200))
    return LEVEL + SWING * day * (0.4 + 0.6 * np.minimum(working, 1))


def plant(
    values: np.ndarray, period: float, count: int, random: np.random.Generator, begin: float = 0.0
) -> tuple[np.ndarray, list[Fault]]:
    """The series with `count` faults, of the five kinds in turn, each somewhere in the second half of a stretch of its
    own; and these."""
    values, faults = values.copy(), []
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        low, high = (round(len(values) * share / count) for share in (number + 0.5, number + 1))
        lasting = {"spike": random.integers(1, 4), "rhythm": round(0.9 * DAY / period)}.get(
            kind, round(random.uniform(2, 6) * 3600 / period)
        )
        lasting = int(min(max(1, lasting), high - low - 1))
        first = int(random.integers(low, high - lasting))
        place = slice(first, first + lasting)
        sign = random.choice([-1.0, 1.0])
        if kind == "spike":
            values[place] += sign * random.uniform(6, 10)
        elif kind == "shift":
            values[place] += sign * random.uniform(5, 8)
        elif kind == "freeze":
            values[place] = values[max(0, first - 1)]
        elif kind == "drift":
            values[place] += sign * np.linspace(0, random.uniform(6, 10), lasting)
        else:
            clock = begin + period * np.arange(first, first + lasting)
            values[place] += rhythm(clock, DAY / 2) - rhythm(clock)
        faults.append(Fault(kind, begin + period * first, begin + period * (first + lasting - 1)))
    return values, faults


def _noise(count: int, period: float, random: np.random.Generator) -> np.ndarray:
    """What lasts for some minutes (autoregressive, from its own stationary distribution on) and the measurement's."""
    stays = float(np.exp(-period / LASTING))
    pushes = random.normal(scale=STRENGTH * np.sqrt(1 - stays**2), size=count)
    start = np.array([stays * random.normal(scale=STRENGTH)])
    lasting, _ = lfilter([1.0], [1.0, -stays], pushes, zi=start)
    return lasting + random.normal(scale=MEASURED, size=count)


def _loads(count: int, period: float, random: np.random.Generator) -> np.ndarray:
    """A load warms the machine within minutes, and it cools within half an hour: 2 to 6 °C at the most."""
    earlier = round(10 * COOLING / period)  # some are cooling when the series begins
    hits = random.random(count + earlier) < LOADS * period
    heat = np.where(hits, random.uniform(2, 6, count + earlier), 0.0)
    cool, warm = (float(np.exp(-period / lasting)) for lasting in (COOLING, WARMING))
    peak = np.log(COOLING / WARMING) / (1 / WARMING - 1 / COOLING)  # s after the hit
    scale = np.exp(-peak / COOLING) - np.exp(-peak / WARMING)
    cooling, warming = (np.asarray(lfilter([1.0], [1.0, -stays], heat)) for stays in (cool, warm))
    return (cooling - warming)[earlier:] / scale
