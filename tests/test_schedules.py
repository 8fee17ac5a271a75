"""Schedules are functions: of progress, of nothing else."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sakiyomi.errors import SakiyomiError
from sakiyomi.schedules import LearningRate, Weight, curve, progress_at

# As the paper's reference draws them; t in 0..1.
FORMULAS: dict[str, Callable[[float], float]] = {
    "linear": lambda t: t,
    "s": lambda t: t - math.sin(2 * math.pi * t) / (2 * math.pi),
    "inverse_s": lambda t: t + math.sin(2 * math.pi * t) / (2 * math.pi),
    "deceleration": lambda t: 1 - math.cos(math.pi * t / 2),
    "acceleration": lambda t: math.sin(math.pi * t / 2),
}
CPU = torch.device("cpu")
names = pytest.mark.parametrize("name", FORMULAS)


@names
@given(t=st.floats(0, 1), end=st.floats(1, 1e5))
def test_curves_are_the_papers(name: str, t: float, end: float) -> None:
    assert curve(name, end)(t * end) == pytest.approx(FORMULAS[name](t), abs=1e-9)


@names
@given(a=st.floats(-100, 1e4), b=st.floats(-100, 1e4))
def test_curves_rise_from_0_to_1_and_stay(name: str, a: float, b: float) -> None:
    value = curve(name, 1000)
    assert value(0) == 0
    assert value(1000) == value(1001) == value(1e9) == pytest.approx(1)
    low, high = value(min(a, b)), value(max(a, b))
    assert -1e-12 <= low <= high + 1e-12 <= 1 + 2e-12


@names
@given(steps=st.lists(st.integers(0, 2000), min_size=2))
def test_the_order_of_calls_does_not_matter(name: str, steps: list[int]) -> None:
    """The reference's ramp advanced on every call, validation included; a schedule must not."""
    value, weight = curve(name, 1000), Weight(0.1, name, 1000)  # pyright: ignore[reportArgumentType]
    forwards = [(value(step), weight.at(step)) for step in steps]
    assert forwards == [(value(step), weight.at(step)) for step in reversed(steps)][::-1]


def test_a_weight_is_its_value_times_the_curve() -> None:
    assert Weight(0.25).at(0) == 0.25
    assert Weight(0.2, "linear", 50).at(25) == pytest.approx(0.1)
    assert Weight(0.2, "linear", 50).at(70) == pytest.approx(0.2)


def test_unknown_curves_and_ends_are_refused() -> None:
    with pytest.raises(SakiyomiError, match="'accelaration': did you mean 'acceleration'"):
        curve("accelaration", 10)
    for end in (0, -5, math.nan):
        with pytest.raises(SakiyomiError, match="end"):
            curve("linear", end)


def test_the_learning_rate_warms_up_in_a_line() -> None:
    for rate in (LearningRate(0.01, warmup=10), LearningRate(0.01, warmup=10, decay="cosine")):
        values = [rate.at(step, 100) for step in range(10)]
        assert values == pytest.approx([0.001 * (step + 1) for step in range(10)])
    assert LearningRate(0.01, warmup=10).at(99, 100) == pytest.approx(0.01)
    assert LearningRate(0.01).at(0, 100) == pytest.approx(0.01)


@given(st.integers(0, 50), st.integers(60, 500))
def test_the_cosine_falls_from_the_peak_to_0(warmup: int, steps: int) -> None:
    rate = LearningRate(0.01, warmup, "cosine")
    values = [rate.at(step, steps) for step in range(warmup, steps + 1)]
    assert values[0] == pytest.approx(0.01)
    assert all(a >= b for a, b in pairwise(values))
    assert values[-1] == pytest.approx(0, abs=1e-12)
    halfway = values[(steps - warmup) // 2] if (steps - warmup) % 2 == 0 else None
    assert halfway is None or halfway == pytest.approx(0.005)


@given(st.integers(0, 2**31), st.integers(0, 10**7))
def test_randomness_follows_from_seed_and_step(seed: int, step: int) -> None:
    def draw(seed: int, step: int, training: bool = True) -> list[float]:
        return torch.rand(4, generator=progress_at(step, 10, seed, CPU, training).generator).tolist()

    assert draw(seed, step) == draw(seed, step)
    others = [draw(seed, step + 1), draw(seed + 1, step), draw(seed, step, training=False)]
    assert draw(seed, step) not in others
