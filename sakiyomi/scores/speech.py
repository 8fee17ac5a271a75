"""Scores of recognised sequences: error rates (of words, letters, labels) by edit distance, with their intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sakiyomi.errors import SakiyomiError
from sakiyomi.scores.statistics import Interval

DRAWS = 1000


@dataclass(frozen=True)
class Edits:
    """The fewest changes that make what is true of what was said; of equally few, those with most substitutions."""

    substituted: int
    missed: int
    """Of the truth, not said."""
    added: int
    """Said, and not of the truth."""
    length: int
    """Of the truth."""

    @property
    def count(self) -> int:
        return self.substituted + self.missed + self.added


def edits(true: Sequence[Any], said: Sequence[Any]) -> Edits:
    """Between two sequences (Levenshtein 1966)."""
    # A row of (changes, missed + added, missed), smallest first, for what was said so far of the truth so far.
    row = [(n, n, 0) for n in range(len(said) + 1)]
    for at, one in enumerate(true, 1):
        corner, row[0] = row[0], (at, at, at)
        for n, other in enumerate(said, 1):
            changes, gaps, missed = corner
            kept = (changes + (one != other), gaps, missed)
            left, above = row[n - 1], row[n]
            corner = above
            row[n] = min(kept, (left[0] + 1, left[1] + 1, left[2]), (above[0] + 1, above[1] + 1, above[2] + 1))
    changes, gaps, missed = row[-1]
    return Edits(changes - gaps, missed, gaps - missed, len(true))


def error_rate(counts: Sequence[Edits], seed: int = 0) -> Interval:
    """Changes for each word (letter, label) of the truth, with its bootstrap interval over utterances. It is more than
    1 where more is said in vain than there was to say. Raises SakiyomiError where there was nothing to say at all."""
    pairs = np.array([(one.count, one.length) for one in counts], float).reshape(-1, 2)
    total = pairs.sum(0)
    if not total[1] > 0:
        raise SakiyomiError(f"the truth of {len(pairs)} utterances holds nothing to say; an error rate needs something")
    picks = np.random.default_rng(seed).multinomial(len(pairs), [1 / len(pairs)] * len(pairs), DRAWS)
    drawn = picks @ pairs
    drawn = drawn[drawn[:, 1] > 0]
    low, high = np.percentile(drawn[:, 0] / drawn[:, 1], (2.5, 97.5))
    return Interval(float(total[0] / total[1]), float(low), float(high))
