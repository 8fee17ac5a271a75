"""Error rates: the edit distance is the known one, and rates are of what was to be said."""

import jiwer
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sakiyomi.errors import SakiyomiError
from sakiyomi.scores.speech import Edits, edits, error_rate

words = st.lists(st.sampled_from(["a", "b", "c"]), max_size=8)


@given(words, words)
def test_edits_are_those_of_jiwer(true: list[str], said: list[str]) -> None:
    """Of equally few changes there may be several kinds; how many there are is the same."""
    assume(true)
    found, known = edits(true, said), jiwer.process_words(" ".join(true), " ".join(said))
    assert found.count == known.substitutions + known.deletions + known.insertions
    assert found.count / found.length == pytest.approx(known.wer)


@given(words, words)
def test_edits_add_up(true: list[str], said: list[str]) -> None:
    """What is missed and added accounts for the lengths; there is no change between equals; turned about, what was
    missed was added."""
    found, turned = edits(true, said), edits(said, true)
    assert len(true) - found.missed + found.added == len(said)
    assert found.substituted >= 0
    assert (found.count == 0) == (true == said)
    assert (turned.substituted, turned.missed, turned.added) == (found.substituted, found.added, found.missed)


@given(words, words, words)
def test_a_detour_is_no_shorter(a: list[str], b: list[str], c: list[str]) -> None:
    assert edits(a, c).count <= edits(a, b).count + edits(b, c).count


def test_of_equally_few_changes_most_are_substitutions() -> None:
    assert edits("ab", "bc") == Edits(2, 0, 0, 2)
    assert edits("", "ab") == Edits(0, 0, 2, 0)
    assert edits("abc", "b") == Edits(0, 2, 0, 3)


def test_a_rate_is_of_all_words_and_not_of_utterances() -> None:
    """One word wrong of one, and none of nine, is one of ten."""
    found = error_rate([Edits(1, 0, 0, 1), Edits(0, 0, 0, 9)])
    assert found.value == pytest.approx(0.1)
    assert found.low <= found.value <= found.high
    assert error_rate([Edits(0, 0, 3, 1)]).value == 3  # more than 1: said in vain


def test_the_interval_holds_the_rate_as_often_as_it_says() -> None:
    """95 % of 100 draws: with 82 or more the interval is not far off."""
    random, held = np.random.default_rng(0), 0
    for _ in range(100):
        found = error_rate([Edits(int(wrong), 0, 0, 5) for wrong in random.binomial(5, 0.2, 60)])
        held += found.low <= 0.2 <= found.high
    assert held >= 82


def test_nothing_to_say_has_no_rate() -> None:
    with pytest.raises(SakiyomiError, match="nothing to say"):
        error_rate([Edits(0, 0, 2, 0)])
