"""The benchmark's score: its laws, cases worked by hand, and figures that its authors published."""

import math

import numpy as np
import pytest

from benchmarks.nab import NAB, Series, increasing, read_nab, split, windowed_gaussian
from sakiyomi.errors import SakiyomiError
from sakiyomi.online import OnlineSurprise
from sakiyomi.scores.nab import PROFILES, Watched, at, best, probation, worth_of_alarms

STANDARD = PROFILES["standard"]
WINDOWS = ((300, 328), (700, 799))
needs_data = pytest.mark.skipif(not NAB.exists(), reason=f"{NAB} is not there")


def alarms(*rows: int, length: int = 1000) -> np.ndarray:
    scores = np.zeros(length)
    scores[list(rows)] = 1.0
    return scores


def scored(*rows: int) -> float:
    """What alarms at these rows are worth in a series with WINDOWS, above never raising the alarm."""
    outcome = at(0.5, [Watched("a", alarms(*rows), WINDOWS)])
    return outcome.worth["a"] + 2


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_never_is_nothing_and_perfect_is_a_hundred(profile) -> None:
    series = [Watched("a", alarms(300, 700), WINDOWS), Watched("b", alarms(), ())]
    never, perfect = at(math.inf, series, profile), best(series, profile)
    assert (never.score, never.found, never.false_alarms) == (0, 0, 0)
    assert math.isnan(never.precision)
    assert perfect.score == pytest.approx(100)
    assert (perfect.threshold, perfect.precision, perfect.recall) == (1.0, 1.0, 1.0)
    assert best([Watched("a", alarms(400), WINDOWS)], profile).threshold == math.inf


def test_early_is_better_than_late_and_once_is_enough() -> None:
    worths = [scored(row) for row in range(300, 329)]
    assert worths == sorted(worths, reverse=True)
    assert worths[0] == pytest.approx(2)  # found in the first row, and not missed
    assert 1 < worths[-1] < 1.1
    assert scored(310, 311, 320) == scored(310)


def test_what_a_false_alarm_costs() -> None:
    assert scored(200) == pytest.approx(-0.11)  # before any window
    assert scored(699) == pytest.approx(-0.11)  # more than three lengths after one
    assert scored(200, 201, 699) == pytest.approx(-0.33)
    assert -0.011 < scored(329) < 0  # right after one
    after = [scored(row) for row in range(329, 420)]
    assert after == sorted(after, reverse=True)
    # One window length after its end: y = 1, of a window of 29 rows at row 328 + 28.
    assert scored(356) == pytest.approx(0.11 * (2 / (1 + math.exp(5)) - 1))


def test_published_worths_of_alarms() -> None:
    """Columns S(t) of the published results on realTraffic/speed_7578.csv, windows of 29 rows."""
    inside, after = (
        worth_of_alarms(1127, ((303, 331), (740, 768)), profile)[0]
        for profile in (STANDARD, PROFILES["reward low FP rate"])
    )
    assert inside[303:306] == pytest.approx([1.0, 0.9974673237743696, 0.9944663453837748], abs=1e-12)
    assert inside[331] == pytest.approx(0.08716068383412914, abs=1e-12)
    assert inside[332:334] == pytest.approx([-0.009795412917274829, -0.019436697459237925], abs=1e-12)
    assert after[332] == pytest.approx(-0.019590825834549658, abs=1e-12)
    assert inside[302] == -0.11


def test_the_first_rows_do_not_count() -> None:
    assert [probation(rows) for rows in (0, 10, 1000, 5000, 20000)] == [0, 1, 150, 750, 750]
    assert scored(0, 10, 149) == 0
    assert scored(150) == pytest.approx(-0.11)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_the_best_threshold_is_the_best_of_all(profile, seed) -> None:
    generator = np.random.default_rng(seed)
    windows = [((40, 60), (70, 71)), ((30, 30),), ()]
    # Rounded: many rows tie.
    series = [Watched(str(n), generator.normal(size=100).round(1), w) for n, w in enumerate(windows)]
    thresholds = np.unique(np.concatenate([one.scores for one in series]))
    most = max(at(threshold, series, profile).score for threshold in (*thresholds, math.inf))
    found = best(series, profile)
    assert found.score == pytest.approx(most)
    assert found == at(found.threshold, series, profile)


@pytest.mark.parametrize("windows", [((5, 4),), ((-1, 4),), ((90, 100),), ((10, 20), (20, 30)), ((40, 50), (10, 20))])
def test_windows_that_do_not_fit_are_refused(windows) -> None:
    with pytest.raises(SakiyomiError, match="do not overlap"):
        worth_of_alarms(100, windows, STANDARD)


def test_scores_that_cannot_be_scored_are_refused() -> None:
    with pytest.raises(SakiyomiError, match="all finite"):
        best([Watched("a", np.array([0.0, math.nan]), ())])
    with pytest.raises(SakiyomiError, match="no labelled window"):
        best([Watched("a", alarms(), ())])
    with pytest.raises(SakiyomiError, match="no labelled window"):
        at(0.5, [Watched("a", alarms(), ((0, 100),))])  # none but in the probation


def test_stamps_that_are_there_twice_follow_each_other() -> None:
    times = increasing(np.array([0.0, 300.0, 300.0, 300.0, 600.0]))
    assert times.tolist() == [0.0, 300.0, 301.0, 302.0, 600.0]


def test_halves_are_equal_in_every_folder() -> None:
    names = [f"{folder}/{number}.csv" for folder in "ab" for number in range(6)]
    halves = split(names)
    assert halves == split(names[::-1])
    for folder in "ab":
        assert sum(halves[name] == "tuned" for name in names if name.startswith(folder)) == 3


@needs_data
def test_the_baseline_scores_what_was_published() -> None:
    """Rows of the published windowedGaussian_standard_scores.csv, at its threshold 1."""
    published = {
        "realAdExchange/exchange-3_cpc_results.csv": (2.5026632611866138, 5, 1),
        "realAdExchange/exchange-4_cpc_results.csv": (0.2922884634276035, 3, 4),
        "realAdExchange/exchange-4_cpm_results.csv": (1.274710362684976, 4, 3),
    }
    for one in read_nab(only=[*published]):
        outcome = at(1.0, [Watched(one.name, windowed_gaussian(one.values), one.windows)])
        worth, true, false = published[one.name]
        assert (outcome.true_alarms, outcome.false_alarms) == (true, false)
        assert outcome.worth[one.name] == pytest.approx(worth, abs=1e-9)


@needs_data
def test_the_detector_on_some_of_the_benchmark() -> None:
    """One or two a folder; the bar of 60 is for all 54, and `python -m benchmarks.nab` measures those."""
    corpus = read_nab(
        only=[
            "artificialNoAnomaly/art_noisy.csv",
            "artificialWithAnomaly/art_daily_jumpsup.csv",
            "artificialWithAnomaly/art_increase_spike_density.csv",
            "realAWSCloudwatch/ec2_cpu_utilization_825cc2.csv",
            "realAWSCloudwatch/iio_us-east-1_i-a2eb1cd9_NetworkIn.csv",
            "realAdExchange/exchange-4_cpm_results.csv",
            "realKnownCause/ambient_temperature_system_failure.csv",
            "realTraffic/speed_7578.csv",
        ]
    )
    assert len(corpus) == 8

    def score(one: Series) -> Watched:
        readings = OnlineSurprise().read(one.times, one.values)
        return Watched(one.name, readings.raised, one.windows)

    outcome = at(OnlineSurprise.Settings().strength, [score(one) for one in corpus])
    assert outcome.score > 60
    assert outcome.worth["artificialNoAnomaly/art_noisy.csv"] == 0
