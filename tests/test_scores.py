"""Numbers with their protocol and interval, and errors that grow as a model lives on itself."""

import math
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sakiyomi.data.normalize import HIGH, LOW
from sakiyomi.data.windows import Batch
from sakiyomi.errors import SakiyomiError
from sakiyomi.models import SARNN, JointRNN, SequenceModel
from sakiyomi.scores.drift import drift
from sakiyomi.scores.protocol import Protocol, Score, compare, load_scores, save_scores
from sakiyomi.scores.statistics import bootstrap, wilson

counts = st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts)
def test_wilsons_ends_are_the_rates_just_not_rejected(count: tuple[int, int]) -> None:
    """The definition: at both ends the rate found lies 1.96 standard deviations of that end's rate away."""
    successes, n = count
    found = wilson(successes, n)
    for end in (found.low, found.high):
        away = 1.959963984540054 * math.sqrt(max(0.0, end * (1 - end)) / n)
        # At 0 and n one end is the rate itself, up to rounding.
        assert abs(found.value - end) == pytest.approx(away, abs=1e-6)
    assert -1e-12 <= found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high <= 1
    mirror = wilson(n - successes, n)
    assert (mirror.low, mirror.high) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-9)


def test_wilson_has_a_width_where_the_textbooks_normal_has_none() -> None:
    assert wilson(0, 50).low == pytest.approx(0)
    assert wilson(0, 50).high == pytest.approx(0.0713, abs=1e-4)
    assert wilson(50, 50).low == pytest.approx(0.9287, abs=1e-4)
    assert wilson(50, 50).high == pytest.approx(1)
    for successes, n in ((1, 0), (-1, 5), (6, 5), (0, 0)):
        with pytest.raises(SakiyomiError, match=f"{successes} successes of {n}"):
            wilson(successes, n)


def test_wilson_covers_the_truth_about_as_often_as_it_says() -> None:
    """Exactly: the probability of all the outcomes whose interval holds p, on average over p."""
    n, rates = 50, np.linspace(0.02, 0.98, 49)
    intervals = [wilson(k, n) for k in range(n + 1)]

    def probability(k: int, p: float) -> float:
        return math.comb(n, k) * p**k * (1 - p) ** (n - k)

    covered = [
        sum(probability(k, p) for k, found in enumerate(intervals) if found.low <= p <= found.high) for p in rates
    ]
    assert sum(covered) / len(covered) == pytest.approx(0.95, abs=0.01)
    assert min(covered) > 0.88


def test_the_bootstrap_covers_the_mean_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    hits = 0
    for seed in range(300):
        found = bootstrap(random.normal(3, 2, 40), draws=400, seed=seed)
        hits += found.low <= 3 <= found.high
    assert 0.90 < hits / 300 < 0.98


def test_the_bootstrap_holds_its_mean_and_follows_from_its_seed() -> None:
    values = np.random.default_rng(1).exponential(size=30)
    found = bootstrap(values)
    assert found == bootstrap(values)
    assert found != bootstrap(values, seed=1)
    assert found.value == pytest.approx(values.mean())
    assert found.low < found.value < found.high
    assert bootstrap(np.array([2.0])) == bootstrap(np.full(9, 2.0))
    for bad in (np.array([]), np.zeros((2, 2))):
        with pytest.raises(SakiyomiError, match="bootstrap"):
            bootstrap(bad)


PROTOCOL = Protocol("PickCube-v0, taught places", "ticks 1-45", "lifted 8 cm for 0.5 s, any tick", 50, "0..49")
SCORE = Score("success", 0.9, 0.8, 0.95, "share", PROTOCOL)


@pytest.mark.parametrize("field", [field.name for field in fields(Protocol)])
def test_two_protocols_refuse_to_be_compared(field: str) -> None:
    changed = {"n": 51, "best_of": 2}.get(field, "something else")
    other = replace(SCORE, protocol=replace(PROTOCOL, **{field: changed}))
    with pytest.raises(SakiyomiError, match=rf"'success'.*\({field}: .* against {changed!r}\)"):
        compare({"success": SCORE}, {"success": other})


def test_scores_of_one_protocol_are_compared() -> None:
    better = replace(SCORE, value=0.99, low=0.96, high=1.0)
    same = replace(SCORE, value=0.91, low=0.94, high=1.0)
    for other, apart in ((better, True), (same, False), (replace(better, low=None), False)):
        for a, b in ((SCORE, other), (other, SCORE)):
            (difference,) = compare({"success": a, "mine": a}, {"success": b, "yours": b})
            assert (difference.name, difference.a, difference.b) == ("success", a, b)
            assert difference.apart == apart
    with pytest.raises(SakiyomiError, match=r"nothing to compare: \['mine'\].*\['yours'\]"):
        compare({"mine": SCORE}, {"yours": SCORE})


def test_scores_round_trip(tmp_path: Path) -> None:
    scores = {"success": SCORE, "latency": replace(SCORE, name="latency", low=None, high=None, unit="ms")}
    save_scores(scores, tmp_path / "scores.json")
    assert load_scores(tmp_path / "scores.json") == scores


def test_unreadable_scores_are_refused(tmp_path: Path) -> None:
    save_scores({"success": SCORE}, tmp_path / "demo" / "scores.json")
    with pytest.raises(SakiyomiError, match="'dmo': did you mean 'demo'"):
        load_scores(tmp_path / "dmo" / "scores.json")
    (tmp_path / "demo" / "scores.json").write_text('{"success": {"value": 1}}')
    with pytest.raises(SakiyomiError, match="holds no scores"):
        load_scores(tmp_path / "demo" / "scores.json")


# Drift. Two models: one with pictures, one without.

B, T = 3, 9


@pytest.fixture(params=["SARNN", "JointRNN"])
def model(request: pytest.FixtureRequest) -> SequenceModel:
    torch.manual_seed(0)
    if request.param == "SARNN":
        return SARNN(SARNN.Config(joints=2, height=12, width=14, points=2, hidden=6, temperature=0.1)).eval()
    return JointRNN(JointRNN.Config(joints=2, hidden=6)).eval()


@pytest.fixture
def batch(model: SequenceModel) -> Batch:
    seen = model.example(B, T + 1)
    mask = torch.tensor([[float(t < length) for t in range(T)] for length in (T, 6, 4)])
    return Batch({k: v[:, :-1] for k, v in seen.items()}, {k: v[:, 1:] for k, v in seen.items()}, mask)


@torch.no_grad()
def errors_from(model: SequenceModel, batch: Batch, row: int, start: int, steps: int) -> list[dict[str, float]]:
    """Mean squared errors of `steps` predictions, the first from true steps 0..start, by plain stepping."""
    state, prediction = model.initial(1), {}
    for t in range(start + 1):
        prediction, state = model.step({n: batch.inputs[n][row : row + 1, t] for n in model.inputs}, state)
    out = []
    for t in range(start, start + steps):
        wrong = {n: (prediction[n][0] - batch.targets[n][row, t]).square().mean().item() for n in model.inputs}
        out.append(wrong)
        prediction, state = model.step({n: prediction[n] for n in model.inputs}, state)
    return out


def scaled(name: str, mean_square: float) -> float:
    return math.sqrt(mean_square) / (1.0 if name == "image" else HIGH - LOW)


def test_one_step_errors_are_those_of_unroll(model: SequenceModel, batch: Batch) -> None:
    found = drift(model, batch, k=2, given=2)
    predictions, _ = model.unroll(batch.inputs)
    for name in model.inputs:
        squares = (predictions[name] - batch.targets[name]).square().flatten(2).mean(2)
        expected = [scaled(name, squares[batch.mask[:, t] > 0, t].mean().item()) for t in range(T)]
        np.testing.assert_allclose(found[name].one_step, expected, rtol=1e-4)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_k_step_errors_are_those_of_stepping_from_every_start(model: SequenceModel, batch: Batch, k: int) -> None:
    found = drift(model, batch, k=k, given=2)
    trees = {(row, start): errors_from(model, batch, row, start, k) for row in range(B) for start in range(T - k + 1)}
    for name in model.inputs:
        for ahead in range(k):
            real = [errors[ahead][name] for (row, start), errors in trees.items() if batch.mask[row, start + ahead] > 0]
            assert found[name].k_step[ahead] == pytest.approx(scaled(name, float(np.mean(real))), rel=1e-4)


def test_free_running_lives_on_itself_after_the_given_steps(model: SequenceModel, batch: Batch) -> None:
    given = 3
    found = drift(model, batch, k=2, given=given)
    for name in model.inputs:
        np.testing.assert_allclose(found[name].free_running[:given], found[name].one_step[:given], rtol=1e-5)
        rows = [errors_from(model, batch, row, given - 1, T - given + 1) for row in range(B)]
        for t in range(given, T):
            real = [rows[row][t - given + 1][name] for row in range(B) if batch.mask[row, t] > 0]
            assert found[name].free_running[t] == pytest.approx(scaled(name, float(np.mean(real))), rel=1e-4)


def test_a_perfect_model_does_not_drift() -> None:
    """The model's own dream as the recording: nothing to get wrong, however far ahead."""
    torch.manual_seed(0)
    model = JointRNN(JointRNN.Config(joints=2, hidden=6)).eval()
    with torch.no_grad():
        seen, state = [torch.rand(B, 2)], model.initial(B)
        for _ in range(T):
            prediction, state = model.step({"joints": seen[-1]}, state)
            seen.append(prediction["joints"])
        dream = torch.stack(seen, 1)
    found = drift(model, Batch({"joints": dream[:, :-1]}, {"joints": dream[:, 1:]}, torch.ones(B, T)), k=5)["joints"]
    for curve in (found.one_step, found.k_step, found.free_running):
        np.testing.assert_allclose(curve, 0, atol=1e-6)


def test_steps_that_nobody_has_are_not_a_number(model: SequenceModel, batch: Batch) -> None:
    mask = batch.mask.clone()
    mask[:, T - 1] = 0
    found = drift(model, Batch(batch.inputs, batch.targets, mask), k=2, given=2)
    for curves in found.values():
        assert math.isnan(curves.one_step[T - 1])
        assert math.isnan(curves.free_running[T - 1])
        assert np.isfinite(curves.one_step[: T - 1]).all()


def test_errors_are_shares_of_the_range_that_is_told(model: SequenceModel, batch: Batch) -> None:
    usual = drift(model, batch, k=2, given=2)
    told = drift(model, batch, k=2, given=2, spans=dict.fromkeys(model.inputs, 2.0))
    for name, curves in told.items():
        np.testing.assert_allclose(curves.k_step * 2, usual[name].k_step * scaled(name, 1.0) ** -1, rtol=1e-6)


@pytest.mark.parametrize(("k", "given"), [(0, 2), (T, 2), (2, 0), (2, T)])
def test_horizons_that_do_not_fit_are_refused(model: SequenceModel, batch: Batch, k: int, given: int) -> None:
    with pytest.raises(SakiyomiError, match=f"given={given} and k={k}"):
        drift(model, batch, k=k, given=given)


def test_pairs_of_intervals_narrow_with_n() -> None:
    widths = [wilson(n // 2, n).high - wilson(n // 2, n).low for n in (10, 40, 160, 640)]
    assert all(b < 0.6 * a for a, b in pairwise(widths))
