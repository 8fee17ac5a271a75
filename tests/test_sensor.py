"""The made-up sensor: what is normal is the same everywhere, what is not is where its meta says."""

import time
from pathlib import Path

import numpy as np
import pytest

from sakiyomi.data.sources.sensor import DAY, KINDS, WEEK, Fault, GeneratedSensor, normal, plant, rhythm
from sakiyomi.errors import SakiyomiError

MINUTE = 60.0
SMALL = GeneratedSensor(steps=25_000, validation=2000, calibration=3000, test=1000, faulty=14_400, faults=5)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_splits_follow_each_other_in_time(tmp_path: Path) -> None:
    store = SMALL.record(tmp_path)
    assert [(entry.split, entry.lengths["value"]) for entry in store.entries] == [
        *(("train", 10_080), ("train", 10_080), ("train", 4840), ("validation", 2000)),
        *(("calibration", 3000), ("test", 1000), ("faulty", 14_400)),
    ]
    clock = np.concatenate([store.times(entry.id, "value") for entry in store.entries])
    assert clock.tolist() == [MINUTE * i for i in range(len(clock))]
    values = np.concatenate([store.values(entry.id, "value") for entry in store.entries[:-1]])[:, 0]
    left = values - rhythm(clock[: len(values)])  # of the rhythm, whose week goes on from split to split
    assert 0.5 < left.std() < 2
    for entry in store.entries[:-1]:
        assert entry.meta["anomalies"] == []
        assert entry.meta["start"] == "2024-01-01T00:00:00"


def test_no_two_splits_or_seeds_have_the_same_noise(tmp_path: Path) -> None:
    store, other = SMALL.record(tmp_path / "a"), GeneratedSensor(seed=1, steps=2000, faulty=0).record(tmp_path / "b")
    parts = [store.values(entry.id, "value", 0, 1000)[:, 0] for entry in store.entries]
    parts.append(other.values(other.entries[0].id, "value", 0, 1000)[:, 0])
    changes = np.diff(np.stack(parts))
    apart = np.abs(np.corrcoef(changes) - np.eye(len(changes)))
    assert apart.max() < 0.2


def test_days_are_warmer_than_nights_and_weekends_flatter() -> None:
    hours = np.arange(0, WEEK, 3600.0)
    week = rhythm(hours).reshape(7, 24)
    swing = week.max(1) - week.min(1)
    assert (week[:, 14] > week[:, 2]).all()
    assert swing[6] < 0.6 * swing[:4].min()
    np.testing.assert_allclose(rhythm(hours), rhythm(hours + WEEK))


def test_the_noise_is_what_it_is_said_to_be_from_the_first_value_on() -> None:
    """Over many short series: no value is quieter than another."""
    random = generator()
    series = np.stack([normal(200, MINUTE, random) for _ in range(2000)]) - rhythm(MINUTE * np.arange(200))
    median = np.median(np.abs(series - np.median(series, 0)), 0) * 1.4826  # loads count little here
    assert median.max() < 1.2 * median.min()
    assert 0.55 < median.mean() < 0.9


@pytest.mark.parametrize("period", [1.0, 60.0, 600.0])
def test_the_machine_does_not_depend_on_how_often_it_is_measured(period: float) -> None:
    values = normal(round(20 * WEEK / 600), period, generator())
    clock = period * np.arange(len(values))
    assert abs(np.median(values - rhythm(clock))) < 0.3
    if period > 1:
        warm = (values - rhythm(clock)) > 2.5
        assert 0.001 < warm.mean() < 0.05  # loads come, and go


def test_faults_are_where_the_meta_says_and_nowhere_else(tmp_path: Path) -> None:
    store = SMALL.record(tmp_path)
    entry = store.split("faulty")[0]
    found = [Fault(**fault) for fault in entry.meta["anomalies"]]
    assert [fault.kind for fault in found] == list(KINDS)
    clock, values = store.times(entry.id, "value"), store.values(entry.id, "value")[:, 0]
    inside = np.zeros(len(clock), bool)
    for before, fault in zip([None, *found], found, strict=False):
        assert before is None or before.end + DAY / 4 < fault.start
        assert fault.start in clock
        assert fault.end in clock
        inside |= (clock >= fault.start) & (clock <= fault.end)
    clean = normal(len(clock), MINUTE, np.random.default_rng((0, 4)), clock[0])
    changed = np.abs(values - clean) > 1e-4
    assert not changed[~inside].any()
    assert changed[inside].mean() > 0.9


def test_each_fault_is_of_its_kind() -> None:
    clean = normal(20 * 2880, MINUTE, generator())
    values, faults = plant(clean, MINUTE, 20, generator(1))
    assert len(faults) == 20
    for fault in faults:
        first, last = round(fault.start / MINUTE), round(fault.end / MINUTE)
        there, change = values[first : last + 1], (values - clean)[first : last + 1]
        hours = (last - first + 1) / 60
        if fault.kind == "spike":
            assert last - first < 3
            assert np.abs(change).min() >= 6
        elif fault.kind == "freeze":
            assert (there == clean[first - 1]).all()
        elif fault.kind == "shift":
            np.testing.assert_allclose(change, change[0])
            assert 5 <= abs(change[0]) <= 8
        elif fault.kind == "drift":
            assert change[0] == pytest.approx(0, abs=1e-9)
            assert (np.diff(np.abs(change)) > 0).all()
        else:
            assert 20 < hours < 24
            assert np.corrcoef(there, rhythm(MINUTE * np.arange(first, last + 1), DAY / 2))[0, 1] > 0.8
        assert fault.kind in ("spike", "rhythm") or 1.9 < hours < 6.1


def test_the_same_seed_makes_the_same_series() -> None:
    np.testing.assert_array_equal(normal(500, MINUTE, generator(3)), normal(500, MINUTE, generator(3)))
    assert (normal(500, MINUTE, generator(3)) != normal(500, MINUTE, generator(4))).all()


def test_a_million_values_take_no_time() -> None:
    start = time.perf_counter()
    assert np.isfinite(normal(1_000_000, MINUTE, generator())).all()
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 1}, "--steps is 1"),
        ({"faulty": 1000}, "--faulty 1000 values of 60 s are 0.694 days, too few for --faults 20"),
        ({"period": 0.0}, "--period is 0 s"),
        ({"period": 1e5}, "a tenth of a day"),
        ({"seed": -1}, "--seed is -1"),
    ],
)
def test_impossible_settings_are_named(changes: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(SakiyomiError, match=message):
        GeneratedSensor(**changes).record(tmp_path / "store")
