"""Surprise from the first value on: stepping is reading, memory has a bound, units do not matter, alarms come when
something new comes and about as often as was asked for when nothing does."""

import math
import statistics
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sakiyomi.errors import SakiyomiError
from sakiyomi.online import MOST, VIEWS, Known, OnlineSurprise, Readings, coarsen, distance, learn, surprise

SMALL = OnlineSurprise.Settings(memory=202, recent=150, rest=20)
DAYS, PERIOD = 20, 300.0
TIMES = PERIOD * np.arange(int(DAYS * 86400 / PERIOD))
EVENT = 18 * 288 + 100  # row: in the morning of day 18
SETTLED = 8 * 288  # rows until what a day brings is known


def daily(seed: int = 0) -> np.ndarray:
    """A rhythm of the day with noise."""
    return 10 * np.sin(2 * np.pi * TIMES / 86400) + np.random.default_rng(seed).normal(size=len(TIMES))


def spike(values: np.ndarray) -> None:
    values[EVENT] += 15


def level(values: np.ndarray) -> None:
    values[EVENT:] += 8


def frozen(values: np.ndarray) -> None:
    values[EVENT : EVENT + 200] = values[EVENT]


def rhythm(values: np.ndarray) -> None:
    """Night by day: every value by itself is known."""
    values[EVENT : EVENT + 144] = values[EVENT + 144 - 288 : EVENT + 288 - 288].copy()


def shaking(values: np.ndarray) -> None:
    values[EVENT : EVENT + 200] += 3 * (-1.0) ** np.arange(200)


def plain() -> dict[str, np.ndarray]:
    """Series in which nothing happens."""
    generator = np.random.default_rng(3)
    noise = generator.normal(size=20_000)
    drifting = np.zeros(len(noise))
    for row in range(1, len(noise)):
        drifting[row] = 0.95 * drifting[row - 1] + noise[row]
    rhythm = 10 * np.sin(2 * np.pi * np.arange(len(noise)) / 288)
    return {"noise": noise, "drift": drifting, "day": rhythm + noise, "counts": generator.poisson(3, len(noise)) * 1.0}


def columns(readings: Readings) -> np.ndarray:
    """Everything that was said, [T, 9]."""
    parts = (readings.scores, readings.tails, readings.raised, readings.expected, readings.alarms)
    return np.stack([*parts, *readings.signals.values()], -1)


@pytest.mark.parametrize("how", [OnlineSurprise.Settings(), SMALL], ids=["default", "small"])
def test_stepping_is_reading(how: OnlineSurprise.Settings) -> None:
    detector, values = OnlineSurprise(how), daily()[:2000]
    values[1500] += 15
    state, rows = detector.begin(), []
    for moment, value in zip(TIMES, values, strict=False):
        reading, state = detector.step(moment, value, state)
        signals = [reading.signals[view] for view in VIEWS]
        rows.append([reading.score, reading.tail, reading.raised, reading.expected, reading.alarm, *signals])
    read = detector.read(TIMES[:2000], values)
    np.testing.assert_allclose(np.array(rows, float), columns(read), rtol=0, atol=1e-9)
    assert read.alarms.any()


def test_the_given_state_stays_as_it_was() -> None:
    detector, values = OnlineSurprise(SMALL), daily()
    state = detector.begin()
    for moment, value in zip(TIMES[:1000], values, strict=False):
        _, state = detector.step(moment, value, state)
    before = state.copy()
    once, after = detector.step(TIMES[1000], 40.0, state)
    assert state == before
    assert after != before
    assert detector.step(TIMES[1000], 40.0, state) == (once, after)


@pytest.mark.parametrize("kind", ["new values", "known values", "ever larger"])
def test_memory_has_a_bound(kind: str) -> None:
    detector, generator = OnlineSurprise(SMALL), np.random.default_rng(0)
    values = {
        "new values": generator.normal(size=20_000),
        "known values": generator.integers(0, 5, 20_000) * 1.0,
        "ever larger": np.arange(20_000) ** 1.5,
    }[kind]
    state, held = detector.begin(), []
    for moment, value in zip(PERIOD * np.arange(20_000), values, strict=True):
        _, state = detector.step(moment, value, state)
        held.append(state.numbers())
    most = 2 * len(VIEWS) * SMALL.memory + 2 * SMALL.recent + SMALL.rest
    most += SMALL.short + 2 * SMALL.long + 2 * SMALL.times_of_day
    assert max(held) <= most
    assert len(state.scores) == len(state.ranked) == SMALL.recent
    assert len(state.loud) == SMALL.rest


@pytest.mark.parametrize("memory", [1000, 20_000])  # so that it is soon full, and never
@pytest.mark.parametrize(("unit", "zero"), [(2.5, 40.0), (1e-3, 7.0), (1e6, -3e7), (0.1, 0.0)])
def test_unit_and_zero_do_not_matter(unit: float, zero: float, memory: int) -> None:
    detector = OnlineSurprise(OnlineSurprise.Settings(memory=memory))
    values = daily().round(1)  # values come again, and must be known again
    spike(values)
    here, there = detector.read(TIMES, values), detector.read(TIMES, unit * values + zero)
    np.testing.assert_allclose(there.scores, here.scores, atol=1e-6)
    np.testing.assert_allclose(there.expected, unit * here.expected + zero, rtol=1e-9)
    assert (there.alarms == here.alarms).all()


def test_only_the_time_of_day_matters() -> None:
    values = daily()
    here, later = (OnlineSurprise().read(TIMES + days * 86400, values) for days in (0, 16_000))
    assert (columns(here) == columns(later)).all()


@pytest.mark.parametrize(
    ("event", "within", "view"),
    [
        (spike, 1, "value"),
        (level, 30, "time of day"),
        (frozen, 100, "activity"),
        (rhythm, 30, "time of day"),
        (shaking, 60, "activity"),
    ],
)
def test_what_is_new_is_noticed(event, within: int, view: str) -> None:
    """Within so many values, and by the view that it is there for; before it, all but never an alarm."""
    for seed in range(3):
        values = daily(seed)
        event(values)
        readings = OnlineSurprise().read(TIMES, values)
        assert readings.alarms[SETTLED:EVENT].sum() <= 2
        assert readings.alarms[EVENT : EVENT + within].any()
        here = slice(EVENT, EVENT + within)
        assert readings.signals[view][here].max() >= readings.signals[view][SETTLED:EVENT].max()


def test_a_shift_of_known_values_is_noticed() -> None:
    """Of a thing that is there one time in ten, and then four times in five."""
    for seed in range(3):
        chance = np.random.default_rng(seed).random(len(TIMES))
        values = (chance < 0.1) * 1.0
        values[EVENT : EVENT + 200] = chance[EVENT : EVENT + 200] < 0.8
        readings = OnlineSurprise().read(TIMES, values)
        assert readings.alarms[SETTLED:EVENT].sum() <= 2
        assert readings.alarms[EVENT : EVENT + 30].any()
        assert readings.signals["value"].max() == 0
        assert readings.signals["shift"][EVENT : EVENT + 30].max() > 4


@pytest.mark.parametrize("name", ["noise", "drift", "day", "counts"])
@pytest.mark.parametrize("rate", [0.05, 0.01])
def test_as_many_false_alarms_as_asked_for(name: str, rate: float) -> None:
    values = plain()[name]
    asked = replace(OnlineSurprise.Settings(), rate=rate, strength=0.0, rest=0)
    share = OnlineSurprise(asked).read(PERIOD * np.arange(len(values)), values).alarms[100:].mean()
    assert rate / 1.5 < share < rate * 1.5
    # By default it must also be surprising by itself.
    assert OnlineSurprise().read(PERIOD * np.arange(len(values)), values).alarms.mean() < 0.001


def test_what_was_seen_before_is_no_surprise() -> None:
    values = daily()
    values[SETTLED] = values[EVENT] = 40.0
    readings = OnlineSurprise().read(TIMES, values)
    assert readings.alarms[SETTLED]
    assert readings.signals["value"][SETTLED] > 2
    assert readings.signals["value"][EVENT] == 0


def test_after_a_surprise_only_a_greater_one_counts() -> None:
    values = daily()
    values[EVENT], values[EVENT + 30], values[EVENT + 60] = 40.0, 15.0, 80.0
    alarms = np.flatnonzero(OnlineSurprise().read(TIMES, values).alarms)
    assert [row - EVENT for row in alarms if EVENT <= row < EVENT + 100] == [0, 60]
    restless = OnlineSurprise(replace(OnlineSurprise.Settings(), rest=0)).read(TIMES, values).alarms
    assert restless[[EVENT, EVENT + 30, EVENT + 60]].all()


@pytest.mark.parametrize("constant", [0.0, 0.1, -1e12])
def test_a_constant_series_is_quiet_until_it_is_not(constant: float) -> None:
    values = np.full(1000, constant)
    values[900] += 1e-6 * max(abs(constant), 1)
    readings = OnlineSurprise().read(TIMES[:1000], values)
    assert readings.scores[:900].max() == 0
    assert np.flatnonzero(readings.alarms)[0] == 900
    assert readings.scores[900] == MOST
    assert readings.expected[:901].tolist() == [constant] * 901


def test_expected_is_what_the_day_brings() -> None:
    readings = OnlineSurprise().read(TIMES, daily())
    assert np.abs(readings.expected - 10 * np.sin(2 * np.pi * TIMES / 86400))[SETTLED:].mean() < 0.5
    reading, _ = OnlineSurprise().step(0.0, 5.0, OnlineSurprise().begin())
    assert (reading.expected, reading.score, reading.alarm) == (5.0, 0.0, False)


@pytest.mark.parametrize("period", [1e-3, 60.0, 3600.0, 86400.0, 7 * 86400.0])
def test_any_sampling_will_do(period: float) -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=1200)
    values[1000] = 12.0
    times = np.cumsum(period * generator.choice([1, 1, 1, 0.5, 40], 1200))  # with gaps
    readings = OnlineSurprise().read(times, values)
    assert readings.alarms[1000]
    assert readings.alarms.sum() <= 5


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.one_of(st.floats(-1e300, 1e300), st.sampled_from([0.0, 1.0, 5e-324, 1e-300])), min_size=1, max_size=150)
)
def test_any_finite_number_can_be_read(values: list[float]) -> None:
    detector = OnlineSurprise(OnlineSurprise.Settings(warmup=10, memory=22, recent=20, short=2, long=3))
    readings = detector.read(np.arange(len(values)) * 1e4, values)
    assert ((readings.scores >= 0) & (readings.scores <= MOST)).all()
    assert ((readings.tails >= 0) & (readings.tails <= 1)).all()


@pytest.mark.parametrize(
    ("moment", "value", "words"),
    [
        (600.0, math.nan, "value nan at 600.0 s is not a finite number"),
        (600.0, -math.inf, "value -inf at 600.0 s is not a finite number"),
        (600.0, 1e301, "at most 1e"),
        (math.nan, 1.0, "time nan of value 1.0 is not a finite number of seconds"),
        (300.0, 1.0, "time 300.0 s comes after 300.0 s and is not later"),
        (0.0, 1.0, "time 0.0 s comes after 300.0 s and is not later"),
    ],
)
def test_what_cannot_be_read_is_refused(moment: float, value: float, words: str) -> None:
    detector = OnlineSurprise()
    _, state = detector.step(300.0, 1.0, detector.begin())
    with pytest.raises(SakiyomiError, match=words):
        detector.step(moment, value, state)
    assert detector.step(301.0, 1.0, state)[0].score == 0  # and nothing is lost by it


def test_series_of_another_shape_are_refused() -> None:
    with pytest.raises(SakiyomiError, match=r"times \[T\] and values \[T\]; got \[3\] and \[2\]"):
        OnlineSurprise().read([1, 2, 3], [1, 2])
    with pytest.raises(SakiyomiError, match=r"got \[2, 1\] and \[2, 1\]"):
        OnlineSurprise().read([[1], [2]], [[1], [2]])  # pyright: ignore[reportArgumentType]
    assert len(OnlineSurprise().read([], []).scores) == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("strength", -1),
        ("strength", 13),
        ("rate", 0),
        ("rate", 1.5),
        ("rest", -1),
        ("short", 0),
        ("long", 0),
        ("times_of_day", 0),
        ("forget", 0),
        ("forget", 2),
        ("memory", 100),
        ("recent", 50),
        ("warmup", 1),
        ("rate", math.nan),
    ],
)
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(SakiyomiError, match=name):
        OnlineSurprise(replace(OnlineSurprise.Settings(), **{name: value}))


def test_surprise_grows_with_the_number() -> None:
    generator = np.random.default_rng(0)
    ranked = sorted(generator.exponential(size=1000).tolist())
    found = [surprise(ranked, number) for number in np.linspace(-1, 40, 500)]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (0, MOST)
    # Exponential numbers have an exponential tail: e^-x, far beyond the largest of a thousand.
    assert surprise(ranked, 12.0) == pytest.approx(12 / math.log(10), rel=0.15)
    assert surprise([0.0] * 100, 0.0) == 0
    assert surprise([0.0] * 100, 1e-300) == MOST


def test_points_are_forgotten_where_they_are_dense() -> None:
    generator = np.random.default_rng(0)
    known = Known(seen=sorted([*generator.normal(size=300).tolist(), 50.0]))
    dense = known.seen.copy()
    coarsen(known)
    assert 2 <= len(known.seen) <= 0.75 * len(dense) + 1
    assert np.diff(known.seen).min() > known.grain
    assert 50.0 in known.seen
    assert all(distance(known, point) == 0 for point in dense)
    assert distance(known, 30.0) > 10


def test_novelties_are_thinned_evenly() -> None:
    known = Known()
    for number in np.random.default_rng(0).normal(size=5000):
        learn(known, number, 400, 100)
    assert known.stride > 1
    assert known.count == 5000
    assert 200 <= len(known.novelties) <= 401
    assert len(known.seen) <= 400


def test_a_value_takes_less_than_a_millisecond() -> None:
    detector, values = OnlineSurprise(), daily()
    state = detector.begin()
    for moment, value in zip(TIMES[:5000], values, strict=False):
        state = detector.step(moment, value, state)[1]
    taken = []
    for moment, value in zip(TIMES[5000:], values[5000:], strict=True):
        begin = time.perf_counter()
        _, state = detector.step(moment, value, state)
        taken.append(time.perf_counter() - begin)
    assert statistics.median(taken) < 1e-3
