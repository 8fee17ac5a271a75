"""What words cost that are told by their two neighbours alone: the baseline of models that read in both directions.

The text is taken for a chain in which each word depends on the one before it. Then p(w | left, right) is, exactly,
p(w | left) p(right | w) over the sum of that for all w.
"""

from dataclasses import dataclass

import numpy as np

from sakiyomi.errors import at_most

LARGEST = 12_000  # words; a table of all pairs takes 4 bytes each
ROWS = 256  # words whose distributions are made at a time


@dataclass(frozen=True)
class Bigram:
    """Logarithms of probabilities, learned from one text."""

    follows: np.ndarray
    """log p(w | left), [V, V], float32."""
    alone: np.ndarray
    """log p(w), [V]."""


def learn_bigram(train: np.ndarray, words: int, discount: float) -> Bigram:
    """Interpolated Kneser-Ney (Chen & Goodman 1999): each pair's count less `discount`, and what that frees given to
    the words by how many others they have followed. Ids of a vocabulary of `words`.

    Raises SakiyomiError for a vocabulary whose table of pairs would be too large.
    """
    at_most("the number of words", words, LARGEST)
    counts = np.zeros((words, words), np.float32)
    np.add.at(counts, (train[:-1], train[1:]), 1)
    total = counts.sum(1, keepdims=True)
    followed = (counts > 0).sum(0) + 0.5  # a word that has followed none is not impossible
    back = followed / followed.sum()
    freed = np.where(total > 0, discount * (counts > 0).sum(1, keepdims=True) / np.maximum(total, 1), 1.0)
    follows = np.maximum(counts - discount, 0) / np.maximum(total, 1) + freed * back
    often = np.bincount(train, minlength=words) + 1
    return Bigram(np.log(follows).astype(np.float32), np.log(often / often.sum()))


def two_sided(model: Bigram, ids: np.ndarray, places: np.ndarray, hidden: np.ndarray | None = None) -> np.ndarray:
    """-log p of the words at these places of a text, nats, [N]. A neighbour that is `hidden`, bool like `ids`, or
    beyond the end of the text, tells nothing: then the word is told by the other one, or by its frequency."""
    unseen = np.zeros(len(ids), bool) if hidden is None else hidden
    unseen = np.concatenate(([True], unseen, [True]))
    padded = np.concatenate(([0], ids, [0]))
    before, after = np.ascontiguousarray(model.follows), np.ascontiguousarray(model.follows.T)
    out = np.empty(len(places))
    for first in range(0, len(places), ROWS):
        part = places[first : first + ROWS] + 1
        left = np.where(unseen[part - 1, None], model.alone, before[padded[part - 1]])
        right = np.where(unseen[part + 1, None], 0.0, after[padded[part + 1]])
        both = (left + right).astype(float)
        most = both.max(1)
        total = most + np.log(np.exp(both - most[:, None]).sum(1))
        out[first : first + ROWS] = total - both[np.arange(len(part)), padded[part]]
    return out


def best_discount(train: np.ndarray, words: int, among: tuple[float, ...] = (0.6, 0.7, 0.8, 0.9)) -> float:
    """The discount with which the last tenth of the training text costs least by the rest of it."""
    cut = round(0.9 * len(train))
    rest, end = train[:cut], train[cut:]
    costs = {d: two_sided(learn_bigram(rest, words, d), end, np.arange(len(end))).mean() for d in among}
    return min(costs, key=costs.__getitem__)
