"""Words (or characters) and their numbers: what stands between text and a stream of kind `token`.

Four numbers are not words: PAD fills up the shorter sentences of a batch, BOS is read before the first word, EOS is
said after the last, UNK stands for every word that is not known.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from sakiyomi.errors import SakiyomiError, at_least

PAD, BOS, EOS, UNK = 0, 1, 2, 3
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")

Split = Literal["words", "characters"]


@dataclass(frozen=True)
class Vocabulary:
    """The known words, in the order of their numbers; the first four are `SPECIAL`."""

    words: tuple[str, ...]
    split: Split = "words"
    """words: at white space. characters: each one, white space and line ends too."""

    @classmethod
    def learn(cls, texts: Iterable[str], split: Split = "words", least: int = 1, most: int = 0) -> "Vocabulary":
        """The words that come at least `least` times, the frequent ones first and equally frequent ones in the order
        of their characters; of `most` numbers at the most, the special ones counted (0: no bound).

        Raises SakiyomiError for texts without a word.
        """
        at_least("least", least, 1)
        counts = Counter(word for text in texts for word in pieces(text, split))
        if not counts:
            raise SakiyomiError("the text holds no word; give one that does")
        known = sorted((word for word in counts if counts[word] >= least), key=lambda word: (-counts[word], word))
        room = most - len(SPECIAL) if most else len(known)
        if room < 1 or not known:
            raise SakiyomiError(f"no word is left of {len(counts)}: least {least}, most {most}; ask for less")
        return cls((*SPECIAL, *known[:room]), split)

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each word. A word that is spelled like a special one is none: it is unknown."""
        return {word: number for number, word in enumerate(self.words) if number >= len(SPECIAL)}

    def encode(self, text: str) -> list[int]:
        """The numbers of a text's words, without BOS and EOS; UNK for those that are not known."""
        numbers = self.numbers
        return [numbers.get(word, UNK) for word in pieces(text, self.split)]

    def decode(self, numbers: Iterable[int]) -> str:
        """The text of these numbers; PAD, BOS and EOS are left out. Raises SakiyomiError for a number there is none."""
        return self.joined(self.spelled(number) for number in numbers if number not in (PAD, BOS, EOS))

    def spelled(self, number: int) -> str:
        """One word. Raises SakiyomiError for a number outside the vocabulary."""
        if not 0 <= number < len(self.words):
            raise SakiyomiError(
                f"token {number} is not in a vocabulary of {len(self.words)} words; is it of another vocabulary?"
            )
        return self.words[number]

    def joined(self, words: Iterable[str]) -> str:
        return (" " if self.split == "words" else "").join(words)

    def unknown(self, text: str) -> tuple[str, ...]:
        """The words of a text that are not known, each once."""
        numbers = self.numbers
        return tuple(dict.fromkeys(word for word in pieces(text, self.split) if word not in numbers))


def pieces(text: str, split: Split) -> Sequence[str]:
    """A text's words."""
    return text.split() if split == "words" else text
