"""Words (or characters, or pieces of words) and their numbers: what stands between text and a stream of kind `token`.

    vocabulary = Vocabulary.learn(lines, "bpe", most=8000)
    vocabulary.decode(vocabulary.encode("some text"))  # some text

Four numbers are not words: PAD fills up the shorter sentences of a batch, BOS is read before the first word, EOS is
said after the last, UNK stands for every word that is not known. Text cannot say them: "<eos>" in a text is a word as
any other.

Pieces are learned by byte-pair encoding (Sennrich et al.: "Neural Machine Translation of Rare Words with Subword
Units", ACL 2016): the two neighbours that come most often become one piece, again and again. A text is cut into them
by the same merges in the same order (bpe), or from the left, the longest known piece each time (wordpiece; Wu et al.
2016). A piece that begins a word begins with a space, so that pieces put side by side are the text. Pieces need
`tokenizers`, Japanese words MeCab: `pip install 'sakiyomi[text]'`.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from sakiyomi.errors import SakiyomiError, at_least

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, BOS, EOS, UNK = 0, 1, 2, 3
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")

Split = Literal["words", "characters", "wordpiece", "bpe", "mecab"]
LONGEST = 200  # characters of a word that wordpiece cuts up; its time grows with their square
_UNKNOWN = "\n"  # what `tokenizers` calls UNK: no piece is spelled like it


@dataclass(frozen=True)
class Vocabulary:
    """The known words, in the order of their numbers; the first four are `SPECIAL`."""

    words: tuple[str, ...]
    split: Split = "words"
    """words: at white space. characters: each one, white space and line ends too. wordpiece, bpe: pieces of words.
    mecab: Japanese words by MeCab and its dictionary ipadic; white space is not kept."""
    merges: tuple[tuple[str, str], ...] = ()
    """Of bpe: which two pieces become one, in the order they were learned."""

    @classmethod
    def learn(cls, texts: Iterable[str], split: Split = "words", least: int = 1, most: int = 0) -> "Vocabulary":
        """The words that come at least `least` times, the frequent ones first and equally frequent ones in the order
        of their characters; of `most` numbers at the most, the special ones counted (0: no bound).

        Pieces: the characters that come at least `least` times, and pairs that do, in the order they were learned, up
        to `most` numbers, which they need. The order of the texts changes nothing.

        Raises SakiyomiError for texts without a word, and where nothing is left of them.
        """
        at_least("least", least, 1)
        at_least("most", most, 0)
        if split in ("wordpiece", "bpe"):
            return cls._of_pieces(Counter(word for text in texts for word in _spaced(text)), split, least, most)
        counts = Counter(word for text in texts for word in pieces(text, split))
        if not counts:
            raise SakiyomiError("the text holds no word; give one that does")
        known = sorted((word for word in counts if counts[word] >= least), key=lambda word: (-counts[word], word))
        room = most - len(SPECIAL) if most else len(known)
        if room < 1 or not known:
            raise SakiyomiError(f"no word is left of {len(counts)}: least {least}, most {most}; ask for less")
        return cls((*SPECIAL, *known[:room]), split)

    @classmethod
    def _of_pieces(cls, counts: Counter[str], split: Split, least: int, most: int) -> "Vocabulary":
        """`counts`: how often each word comes, with the space before it."""
        if not counts:
            raise SakiyomiError("the text holds no word; give one that does")
        if not most:
            raise SakiyomiError(f"{split} learns as many pieces as it is told; give most (--most 8000)")
        often: Counter[str] = Counter()
        for word, count in counts.items():
            for character in word:
                often[character] += count
        rare = {character for character, count in often.items() if count < least} - {" "}
        room = most - len(SPECIAL)
        if room < 1 or not often.keys() - rare - {" "}:
            raise SakiyomiError(
                f"no piece is left of {len(often)} characters: least {least}, most {most}; ask for less"
            )
        known = sorted(often.keys() - rare, key=lambda character: (character != " ", -often[character], character))
        if len(known) >= room:  # no room for pieces of two
            return cls((*SPECIAL, *known[:room]), split)
        learned, merges = _merged(counts, least, room + len(rare))
        return cls(
            (*SPECIAL, *(piece for piece in learned if piece not in rare)), split, merges if split == "bpe" else ()
        )

    @property
    def unit(self) -> str:
        """What one number stands for: word, character or piece."""
        return {"characters": "character", "wordpiece": "piece", "bpe": "piece"}.get(self.split, "word")

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each word. One that is spelled like a special one has a number of its own, or is unknown."""
        return {word: number for number, word in enumerate(self.words) if number >= len(SPECIAL)}

    def encode(self, text: str) -> list[int]:
        """The numbers of a text's words, without BOS and EOS; UNK for those that are not known: of bpe for each
        character that is not, of wordpiece for a word that cannot be put together."""
        if self._cut is not None:
            return self._cut.encode(_spaced(text), is_pretokenized=True, add_special_tokens=False).ids
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
        if self.split == "words":
            return " ".join(words)
        text = "".join(words)
        return text.removeprefix(" ") if self.split in ("wordpiece", "bpe") else text

    def unknown(self, text: str) -> tuple[str, ...]:
        """The words of a text that are not known, each once; of pieces, the words that hold one that is not."""
        numbers = self.numbers
        if self._cut is not None:
            return tuple(word for word in dict.fromkeys(text.split()) if UNK in self.encode(word))
        return tuple(dict.fromkeys(word for word in pieces(text, self.split) if word not in numbers))

    @cached_property
    def _cut(self) -> "Tokenizer | None":
        """What cuts words into known pieces."""
        if self.split not in ("wordpiece", "bpe"):
            return None
        tokenizers = _tokenizers()
        known = {**self.numbers, _UNKNOWN: UNK}
        if self.split == "bpe":
            for first, second in self.merges:
                if not {first, second, first + second} <= self.numbers.keys():
                    raise SakiyomiError(
                        f"the vocabulary merges {first!r} and {second!r}, of which it does not know all pieces; it is "
                        "damaged, learn it again"
                    )
            return tokenizers.Tokenizer(tokenizers.models.BPE(known, list(self.merges), unk_token=_UNKNOWN))
        return tokenizers.Tokenizer(
            tokenizers.models.WordPiece(
                known, unk_token=_UNKNOWN, max_input_chars_per_word=LONGEST + 1, continuing_subword_prefix=""
            )
        )


def pieces(text: str, split: Split) -> Sequence[str]:
    """A text's words, or characters."""
    if split == "mecab":
        # MeCab reads up to the first character 0; at white space it would split anyway.
        return [word.surface for part in _encodable(text).replace("\0", " ").split() for word in _mecab()(part)]
    return text.split() if split == "words" else text


def _spaced(text: str) -> list[str]:
    """The words of a text, each with a space before it."""
    return [f" {word}" for word in _encodable(text).split()]


def _encodable(text: str) -> str:
    """The text with a replacement character for what no UTF-8 can hold, halves of surrogate pairs."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _merged(counts: Counter[str], least: int, most: int) -> tuple[list[str], tuple[tuple[str, str], ...]]:
    """At most so many pieces, characters first, and the merges that made the others."""
    tokenizers = _tokenizers()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=most, min_frequency=least, show_progress=False)
    cut = tokenizers.Tokenizer(tokenizers.models.BPE())
    cut.train_from_iterator(([word] * count for word, count in counts.items()), trainer)
    learned = cut.get_vocab()
    merges = json.loads(cut.to_str())["model"]["merges"]
    return sorted(learned, key=learned.__getitem__), tuple((first, second) for first, second in merges)


def _tokenizers() -> ModuleType:
    try:
        import tokenizers
        import tokenizers.models
        import tokenizers.trainers
    except ImportError as error:
        raise SakiyomiError(
            "pieces of words are learned and cut by tokenizers: pip install 'sakiyomi[text]'"
        ) from error
    return tokenizers


@cache
def _mecab() -> Any:
    try:
        import fugashi
        import ipadic
    except ImportError as error:
        raise SakiyomiError(
            f"Japanese words are found by MeCab, which is not installed ({error}): pip install 'sakiyomi[text]'"
        ) from error
    return fugashi.GenericTagger(ipadic.MECAB_ARGS)  # pyright: ignore[reportAttributeAccessIssue]
