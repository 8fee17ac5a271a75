"""Counts as a language model: how likely a label is after the last few, in the beam search of `ctc.py` and by itself.

    characters = Ngram.fit(sentences, size=30, order=5)
    best = prefix_beam(log_probs, Beam(weight=0.5), characters)[0]

Witten-Bell smoothing (Witten and Bell: "The zero-frequency problem", 1991): what was counted after a context is mixed
with what is known of the shorter context; the more different labels followed it, the more the shorter one counts.
Letters: V labels, n the order.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sakiyomi.errors import SakiyomiError, at_least
from sakiyomi.layers.ctc import LanguageModel

Context = tuple[int, ...]
START = -1  # before the first label of a sentence


@dataclass(frozen=True)
class Ngram:
    """Of labels 0 .. size - 1 and the end of a sentence, which is label `size`; together they sum to 1 after any
    prefix."""

    size: int
    """Labels, V."""
    order: int
    """Labels that are looked at, the next one with them: 3 looks at two before it."""
    counts: dict[Context, Counter[int]] = field(repr=False)
    """How often each label came after each context of at most order - 1."""

    @staticmethod
    def fit(sentences: Iterable[Sequence[int]], size: int, order: int = 5) -> "Ngram":
        """Counted from sentences of labels. Raises SakiyomiError for a label that is none."""
        at_least("the labels of an n-gram model", size, 1)
        at_least("the order of an n-gram model", order, 1)
        counts: dict[Context, Counter[int]] = defaultdict(Counter)
        for sentence in sentences:
            wrong = [label for label in sentence if not 0 <= label < size]
            if wrong:
                raise SakiyomiError(f"a sentence has label {wrong[0]}; labels are 0 to {size - 1}")
            line = (START, *sentence, size)
            for place in range(1, len(line)):
                for length in range(min(order - 1, place) + 1):
                    counts[line[place - length : place]][line[place]] += 1
        return Ngram(size, order, dict(counts))

    def probability(self, prefix: Sequence[int], label: int) -> float:
        """Of a label, or of the end (`size`), after a prefix from the beginning of a sentence on."""
        line = (START, *prefix)[-(self.order - 1) :] if self.order > 1 else ()
        known = 1 / (self.size + 1)  # of nothing
        for length in range(len(line) + 1):
            followers = self.counts.get(line[len(line) - length :])
            if followers is None:
                break  # a longer one was not seen either
            kinds = len(followers)
            known = (followers[label] + kinds * known) / (followers.total() + kinds)
        return known

    def log_probability(self, prefix: tuple[int, ...], label: int) -> float:
        """The same in nats."""
        return math.log(self.probability(prefix, label))

    def ending(self, prefix: tuple[int, ...]) -> float:
        """That a sentence ends after the prefix, nats."""
        return self.log_probability(prefix, self.size)

    def nats(self, sentence: Sequence[int]) -> float:
        """What a sentence and its end cost, nats."""
        line = (*sentence, self.size)
        return -sum(self.log_probability(line[:place], label) for place, label in enumerate(line))


@dataclass(frozen=True)
class Spelled:
    """A language model of words for labels that are letters: a word is judged when its space comes, or the end.

    As soon as no known word begins with its letters a word costs `unknown` nats; so beams do not fill with words that
    do not exist.
    """

    words: LanguageModel
    """Of words, by their place in the list."""
    spelling: dict[Context, int]
    """The letters of each word -> its place in the list."""
    beginnings: frozenset[Context]
    """What words begin with."""
    space: int
    """The label between words."""
    unknown: float
    """What a word costs that is in no list, nats."""

    @staticmethod
    def of(words: LanguageModel, spellings: Sequence[Sequence[int]], space: int, unknown: float = 12.0) -> "Spelled":
        """Of a model of words and the letters of each. Raises SakiyomiError for a word without a letter, with a space,
        or spelled like another."""
        at_least("the cost of an unknown word", unknown, 0)
        spelling: dict[Context, int] = {}
        for place, letters in enumerate(spellings):
            if not letters or space in letters or tuple(letters) in spelling:
                raise SakiyomiError(f"word {place} is spelled {list(letters)}: with no letter, with a space, or twice")
            spelling[tuple(letters)] = place
        beginnings = frozenset(letters[:end] for letters in spelling for end in range(len(letters) + 1))
        return Spelled(words, spelling, beginnings, space, unknown)

    def log_probability(self, prefix: tuple[int, ...], label: int) -> float:
        """Of a letter 0, or -unknown where no word goes on like that; of a space the word's before it. Nats."""
        *before, word = self._split(prefix)
        if label == self.space:
            return self._judged(before, word)
        return 0.0 if word not in self.beginnings or (*word, label) in self.beginnings else -self.unknown

    def ending(self, prefix: tuple[int, ...]) -> float:
        """That the sentence ends here, with its last word, nats."""
        *before, word = self._split(prefix)
        places = self._places((*before, word))
        return self._judged(before, word) + self.words.ending(places)

    def _split(self, prefix: Context) -> list[Context]:
        """Words by their letters; the last one has begun, and may have no letter yet."""
        words: list[Context] = []
        start = 0
        for place, label in enumerate(prefix):
            if label == self.space:
                words.append(prefix[start:place])
                start = place + 1
        return [*words, prefix[start:]]

    def _places(self, words: Sequence[Context]) -> tuple[int, ...]:
        """Of those that are known; a model of words hears nothing of others."""
        return tuple(self.spelling[word] for word in words if word in self.spelling)

    def _judged(self, before: Sequence[Context], word: Context) -> float:
        if not word:
            return 0.0  # two spaces, or none to judge
        if word not in self.spelling:
            return -self.unknown if word in self.beginnings else 0.0  # else it has been paid for
        return self.words.log_probability(self._places(before), self.spelling[word])
