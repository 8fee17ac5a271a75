"""Schedules are functions: of progress, of nothing else."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sakiyomi.errors import SakiyomiError
from sakiyomi.schedules import LearningRate, TeacherForcing, Weight, curve, progress_at

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
    forwards = [(value(step), weight.at(step, 2000)) for step in steps]
    assert forwards == [(value(step), weight.at(step, 2000)) for step in reversed(steps)][::-1]


@given(steps=st.integers(1, 10**5))
def test_a_weight_is_its_value_times_the_curve(steps: int) -> None:
    """However long the training is."""
    assert Weight(0.25).at(0, steps) == 0.25
    assert Weight(0.2, "linear", 50).at(25, steps) == pytest.approx(0.1)
    assert Weight(0.2, "linear", 50).at(70, steps) == pytest.approx(0.2)


@names
@given(first=st.floats(0, 10), value=st.floats(0, 10), end=st.integers(1, 5000), share=st.floats(0, 2))
def test_a_weight_goes_from_its_first_value_to_its_last(
    name: str, first: float, value: float, end: int, share: float
) -> None:
    weight = Weight(value, name, end, first=first)  # pyright: ignore[reportArgumentType]
    step = round(share * end)
    wanted = first + FORMULAS[name](min(1.0, step / end)) * (value - first)
    assert weight.at(step, 10**6) == pytest.approx(wanted, abs=1e-9)
    assert weight.at(0, 10**6) == pytest.approx(first)
    assert weight.at(end, 10**6) == pytest.approx(value, abs=1e-9)
    assert Weight(value, "constant", end, first=first).at(step, 10**6) == pytest.approx(value, abs=1e-9)


@names
@given(
    value=st.floats(1e-3, 10),
    first=st.floats(0, 10),
    cycles=st.integers(1, 8),
    length=st.integers(2, 60),
    end=st.integers(1, 5000),
)
def test_each_cycle_gets_there_in_its_first_half_and_stays(
    name: str, value: float, first: float, cycles: int, length: int, end: int
) -> None:
    steps = cycles * length
    weight = Weight(value, name, end, first=first, cycles=cycles)  # pyright: ignore[reportArgumentType]
    once = [weight.at(step, steps) for step in range(length)]
    shares = [FORMULAS[name](min(1.0, 2 * step / length)) for step in range(length)]
    assert once == pytest.approx([first + share * (value - first) for share in shares], abs=1e-9)  # whatever `end`
    assert once[math.ceil(length / 2) :] == pytest.approx([value] * (length // 2))
    assert [weight.at(step, steps) for step in range(steps)] == pytest.approx(once * cycles, abs=1e-9)
    # What validation weighs with is `value`, and so is what a training that has ended had.
    assert weight.at(steps - 1, steps) == pytest.approx(value)


@given(cycles=st.integers(1, 8), steps=st.integers(32, 3000))
def test_cycles_need_not_divide_the_training(cycles: int, steps: int) -> None:
    values = [Weight(1.0, "linear", cycles=cycles).at(step, steps) for step in range(steps)]
    assert sum(after < before for before, after in pairwise(values)) == cycles - 1
    assert all(0 <= value <= 1 for value in values)


def test_unknown_curves_and_ends_are_refused() -> None:
    with pytest.raises(SakiyomiError, match="'accelaration': did you mean 'acceleration'"):
        curve("accelaration", 10)
    for end in (0, -5, math.nan):
        with pytest.raises(SakiyomiError, match="end"):
            curve("linear", end)


def test_the_learning_rate_warms_up_in_a_line() -> None:
    for decay in ("constant", "linear", "cosine"):
        rate = LearningRate(0.01, warmup=10, decay=decay)
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


@given(st.integers(0, 50), st.integers(60, 500), st.floats(0, 1))
def test_the_line_falls_from_the_peak_to_0(warmup: int, steps: int, share: float) -> None:
    rate = LearningRate(0.01, warmup, "linear")
    step = warmup + round(share * (steps - warmup))
    assert rate.at(step, steps) == pytest.approx(0.01 * (steps - step) / (steps - warmup), abs=1e-12)
    assert rate.at(warmup, steps) == pytest.approx(0.01)
    assert rate.at(steps, steps) == rate.at(steps + 100, steps) == 0
    assert rate.at(steps - 1, steps) > 0  # the last step still teaches


@given(st.integers(0, 2**31), st.integers(0, 10**7))
def test_randomness_follows_from_seed_and_step(seed: int, step: int) -> None:
    def draw(seed: int, step: int, training: bool = True) -> list[float]:
        return torch.rand(4, generator=progress_at(step, 10, seed, CPU, training).generator).tolist()

    assert draw(seed, step) == draw(seed, step)
    others = [draw(seed, step + 1), draw(seed + 1, step), draw(seed, step, training=False)]
    assert draw(seed, step) not in others


@given(
    ratio=st.floats(0, 1),
    start=st.floats(0, 100),
    step=st.floats(0, 0.1),
    floor=st.floats(0, 1),
    a=st.floats(0, 1e4),
    b=st.floats(0, 1e4),
)
def test_teacher_forcing_falls_from_its_ratio_to_its_floor(
    ratio: float, start: float, step: float, floor: float, a: float, b: float
) -> None:
    forcing = TeacherForcing(ratio, start, step, floor)
    early, late = forcing.at(min(a, b)), forcing.at(max(a, b))
    assert late <= early <= ratio
    assert late >= min(ratio, floor)
    if min(a, b) <= start:
        assert early == ratio
    falling = ratio - step * (max(a, b) - start)
    if max(a, b) >= start and floor < falling:
        assert late == pytest.approx(falling)
    if step > 1e-3:
        assert forcing.at(start + 1 / step + 1) == pytest.approx(min(ratio, floor), abs=1e-9)


def test_teacher_forcing_as_published() -> None:
    """1 until epoch 50, then 0.005 less each, never under 0."""
    forcing = TeacherForcing(1.0, 50, 0.005)
    epochs = (0, 50, 51, 150, 250, 400)
    assert [forcing.at(epoch) for epoch in epochs] == pytest.approx([1, 1, 0.995, 0.5, 0, 0])
    assert [TeacherForcing().at(epoch) for epoch in epochs] == [1] * 6
    assert [TeacherForcing(0).at(epoch) for epoch in epochs] == [0] * 6


@given(st.integers(0, 2**31), st.integers(0, 10**7), st.floats(0, 1))
def test_a_step_is_forced_by_seed_and_step(seed: int, step: int, forcing: float) -> None:
    def forced(forcing: float) -> bool:
        return progress_at(step, 10, seed, CPU, forcing=forcing).forced

    assert forced(forcing) == forced(forcing)
    assert forced(1)
    assert not forced(0)
    assert forced(forcing) <= forced(min(1.0, forcing + 0.1))  # the same draw, whatever it is held against


@given(st.integers(0, 2**31), st.integers(0, 10**7), st.floats(0, 1))
def test_progress_tells_the_probability_itself_too(seed: int, step: int, forcing: float) -> None:
    """For models that draw frame by frame; the randomness of the step does not depend on it."""
    progress, other = (progress_at(step, 10, seed, CPU, forcing=value) for value in (forcing, 1 - forcing))
    assert progress.forcing == forcing
    assert (progress.step, progress.steps) == (step, 10)
    assert progress_at(step, 10, seed, CPU).forcing == 1
    draws = [torch.rand(3, generator=one.generator).tolist() for one in (progress, other)]
    assert draws[0] == draws[1]


@pytest.mark.parametrize("forcing", [0.1, 0.5, 0.8])
def test_so_many_steps_are_forced(forcing: float) -> None:
    runs = [[progress_at(step, 1, seed, CPU, forcing=forcing).forced for step in range(1000)] for seed in (0, 1)]
    for run in runs:
        assert sum(run) / 1000 == pytest.approx(forcing, abs=4 * math.sqrt(forcing * (1 - forcing) / 1000))
        # One step does not tell the next: as many are followed by a forced one as there are.
        followed = [after for before, after in pairwise(run) if before]
        assert sum(followed) / len(followed) == pytest.approx(forcing, abs=0.15)
    assert runs[0] != runs[1]
