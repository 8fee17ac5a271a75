"""What is normal: distances are blind to units, tails tell true chances, places say how large is normal there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sakiyomi.scores.normality import FULL, Normal, Place, Tail

DRAWN = {
    "normal": lambda random, n: random.normal(size=n),
    "exponential": lambda random, n: random.exponential(size=n),
    "heavy": lambda random, n: random.standard_t(4, size=n),
    "bounded": lambda random, n: random.uniform(size=n),
    "rounded": lambda random, n: np.round(random.exponential(size=n), 1),
}


def no_place(steps: int) -> np.ndarray:
    return np.zeros((steps, 0))


@pytest.mark.parametrize("kind", DRAWN)
@pytest.mark.parametrize("rate", [0.1, 0.01, 0.001])
def test_a_tail_tells_the_chance_of_what_it_never_saw(kind: str, rate: float) -> None:
    """Fitted on 20,000 values; how often new ones pass the level of a rate, over many of them."""
    random = np.random.default_rng(0)
    tail = Tail.fit(DRAWN[kind](random, 20_000))
    passed = (tail.surprise(DRAWN[kind](random, 400_000)) >= -np.log10(rate)).mean()
    assert passed < 1.5 * rate
    assert passed > rate / 1.5 or kind in ("bounded", "rounded")  # those may only err on the quiet side


def test_a_tail_goes_on_beyond_what_it_saw() -> None:
    random = np.random.default_rng(0)
    tail = Tail.fit(random.exponential(size=1000))
    at = tail.surprise(np.array([0.0, 1.0, 5.0, 15.0, 100.0, np.inf, np.nan]))
    assert (np.diff(at[:5]) > 0).all()
    assert at[0] == pytest.approx(0, abs=0.01)
    assert at[3] == pytest.approx(15 / np.log(10), rel=0.4)  # one in 3 million, from a thousand values
    assert np.isinf(at[5:]).all()


@given(st.lists(st.floats(-1e6, 1e6), min_size=60, max_size=200), st.floats(-2e6, 2e6), st.floats(-2e6, 2e6))
def test_more_is_never_less_surprising(values: list[float], a: float, b: float) -> None:
    tail = Tail.fit(np.array(values))
    low, high = tail.surprise(np.array([min(a, b), max(a, b)]))
    assert 0 <= low <= high


def test_a_heavy_tail_is_heavy_where_it_saw_next_to_nothing() -> None:
    """One in 10,000 of a signal whose tail falls with the third power, from 20,000 values."""
    random = np.random.default_rng(0)
    tail = Tail.fit(random.standard_t(3, size=20_000))
    passed = (tail.surprise(random.standard_t(3, size=1_000_000)) >= 4).mean()
    assert 1e-4 / 3 < passed < 3e-4
    assert tail.shape == pytest.approx(1 / 3, abs=0.15)


@pytest.mark.parametrize("rate", [0.005, 0.001])
def test_a_signal_that_is_mostly_nothing_has_the_tail_of_the_rest(rate: float) -> None:
    """Zero but once in a hundred times: what is tied with where the tail begins is no part of it."""
    random = np.random.default_rng(0)

    def signal(steps: int) -> np.ndarray:
        return np.where(random.uniform(size=steps) < 0.01, random.exponential(size=steps), 0.0)

    tail = Tail.fit(signal(20_000))
    np.testing.assert_allclose(tail.surprise(np.array([0.0, 1e-9])), [0.0, 2.0], atol=0.1)
    passed = (tail.surprise(signal(1_000_000)) >= -np.log10(rate)).mean()
    assert rate / 1.5 < passed < 1.5 * rate


def test_a_constant_signal_has_a_tail_too() -> None:
    tail = Tail.fit(np.full(100, 3.0))
    assert tail.surprise(np.array([3.0])) == pytest.approx(0)
    assert tail.surprise(np.array([3.1])) > 6


@given(st.integers(0, 1000), st.floats(1e-6, 1e6), st.floats(-1e3, 1e3))
def test_distances_are_blind_to_units(seed: int, scale: float, shift: float) -> None:
    random = np.random.default_rng(seed)
    mixed = random.normal(size=(200, 3)) @ random.normal(size=(3, 3))
    turned = random.normal(size=(3, 3)) * scale
    before, there = np.ones((200, 1)), no_place(200)
    plain, other = mixed, mixed @ turned + shift * scale
    found = Normal.fit(plain, before, there).distance(plain, before, there)
    again = Normal.fit(other, before, there).distance(other, before, there)
    if np.linalg.cond(turned) * np.linalg.cond(mixed) < 100:  # beyond, what hardly moves counts as still
        np.testing.assert_allclose(again, found, rtol=1e-3)
        assert np.square(found).mean() == pytest.approx(1, rel=0.05)


def test_a_number_that_never_moved_is_strange_when_it_does() -> None:
    random = np.random.default_rng(0)
    vectors = np.c_[random.normal(size=500), np.full(500, 0.3)]
    normal = Normal.fit(vectors, no_place(500), no_place(500))
    moved = np.array([[0.0, 0.3], [0.0, 0.5]])
    still, strange = normal.distance(moved, no_place(2), no_place(2))
    assert still < 2
    assert strange > 50


def test_many_numbers_are_judged_one_by_one() -> None:
    random = np.random.default_rng(0)
    scales = np.geomspace(0.1, 10, FULL + 10)
    vectors = random.normal(size=(300, FULL + 10)) * scales
    normal = Normal.fit(vectors, no_place(300), no_place(300))
    assert normal.white.shape == (1, FULL + 10)
    assert normal.distance(vectors, no_place(300), no_place(300)).mean() == pytest.approx(1, rel=0.05)


def test_what_is_foreseen_is_no_surprise() -> None:
    """A vector that follows from the last one: a jump is strange, though it stays where vectors lie."""
    random = np.random.default_rng(0)
    walk = np.zeros((3000, 1))
    for step in range(1, 3000):
        walk[step] = 0.95 * walk[step - 1] + 0.1 * random.normal()
    before = np.c_[walk[:-1], np.ones(2999)]
    normal = Normal.fit(walk[1:], before, no_place(2999))
    jump = normal.distance(np.array([[-0.4]]), np.array([[0.4, 1.0]]), no_place(1))
    stay = normal.distance(np.array([[-0.4]]), np.array([[-0.4, 1.0]]), no_place(1))
    assert jump > 5
    assert stay < 1


def test_how_large_is_normal_depends_on_the_place() -> None:
    """Errors ten times as large where the model says it moves fast: there they are no surprise, elsewhere they are."""
    random = np.random.default_rng(0)
    said = np.c_[random.uniform(0, 1, 5000), random.normal(size=5000)]
    errors = random.normal(size=(5000, 2)) * np.exp(2.3 * said[:, :1])
    place = Place.fit(said)
    normal = Normal.fit(errors, no_place(5000), place.numbers(said))
    large = np.array([[8.0, 8.0], [8.0, 8.0]])
    fast, slow = normal.distance(large, no_place(2), place.numbers(np.array([[1.0, 0.0], [0.0, 0.0]])))
    assert slow > 4 * fast
    beyond = normal.distance(large[:1], no_place(1), place.numbers(np.array([[50.0, 0.0]])))
    assert beyond > 0.5 * fast  # no place excuses more than was ever seen


@pytest.mark.parametrize("steps", [20, 150, 5000])
def test_a_place_has_no_more_numbers_than_the_data_can_tell(steps: int) -> None:
    said = np.random.default_rng(0).normal(size=(steps, 40))
    assert Place.fit(said).numbers(said).shape[1] <= max(1, steps / 30)


def test_a_place_of_what_never_changes_says_nothing() -> None:
    place = Place.fit(np.full((1000, 3), 2.0))
    np.testing.assert_array_equal(place.numbers(np.array([[1.0, 2.0, 9.0]])), [[1.0]])
