"""Verb 4 for a model of text, `sakiyomi rollout translate --text "he studies english every day ."`: it says a sentence
in another language, or goes on with a text.

    sakiyomi rollout translate --text "I like music." --beam 4
    sakiyomi rollout shakespeare --text "ROMEO:" --temperature 0.8 --steps 500
"""

import re
import unicodedata
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.sources.text import read_text
from sakiyomi.data.texts import padded, sentences
from sakiyomi.data.vocabulary import BOS, EOS, PAD, UNK, Vocabulary
from sakiyomi.decode import Decoded, Decoding, check, decode
from sakiyomi.errors import SakiyomiError
from sakiyomi.models import SequenceModel, State
from sakiyomi.models.base import Reads
from sakiyomi.rollout import Trained
from sakiyomi.run import console

MOST = 1000  # words of a source: attention grows with its square
EXAMPLES = 5
ROWS = 100  # sentences that are said at once
NOT_SAID = (PAD, BOS, UNK)
QUOTES = {"’": "'", "‘": "'", "“": '"', "”": '"'}
PARTS = re.compile(r"['’]\w+|\w+(?:(?:[-.]|(?<=\d),(?=\d))\w+)*|[^\w\s]")  # 's, well-known, 10,000
# Between letters of scripts that are written without spaces.
NO_GAP = re.compile(r"(?<=[\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]) (?=[\u3000-\u30ff\u3400-\u9fff\uff00-\uffef])")


@dataclass(frozen=True)
class Written:
    """What came of one text."""

    source: str
    """The text as the model read it."""
    text: str
    """What it said."""
    others: tuple[str, ...]
    """What else it might have said, the better ones first."""
    log_probabilities: tuple[float, ...]
    """Of `text` and of each of `others`, nats."""
    ended: bool
    """Whether it came to an end by itself."""
    unknown: tuple[str, ...]
    """Words of the source it does not know."""
    whole: tuple[str, ...] = ()
    """Of a language model: `text` and each of `others` with the source before it, as one text."""


def translate(trained: Trained, texts: list[str], how: Decoding) -> list[Written]:
    """Each text said by a model that reads a source. Words are told apart as in training where that can be guessed: see
    `as_trained`. Raises SakiyomiError for a text without words, or one of more than MOST."""
    _, source, target = translator(trained)
    read = [as_trained(text, source) for text in texts]
    rows = [ids_of(text, source, f"text {number} of {len(texts)}") for number, text in enumerate(read, 1)]
    found = said_of(trained, rows, how)
    return [written(text, source.unknown(text), one, target) for text, one in zip(read, found, strict=True)]


def translate_ids(trained: Trained, rows: list[np.ndarray], how: Decoding) -> list[Written]:
    """The same of sources that are numbers already, each ids [S] with its EOS; what they mean is not asked again."""
    _, source, target = translator(trained)
    found = said_of(trained, rows, how)
    return [written(source.decode(ids.tolist()), (), one, target) for ids, one in zip(rows, found, strict=True)]


def ids_of(text: str, vocabulary: Vocabulary, what: str) -> np.ndarray:
    """The words of a sentence with EOS, int64 [S]. Raises SakiyomiError for one without words, or of more than MOST."""
    ids = vocabulary.encode(text)
    if not ids:
        raise SakiyomiError(f"{what} holds no word; give a sentence")
    if len(ids) > MOST:
        raise SakiyomiError(
            f"{what} ({text[:20]!r}...) has {len(ids)} {vocabulary.unit}s, at most {MOST}; cut it into sentences"
        )
    return np.array([*ids, EOS])


def said_of(trained: Trained, rows: list[np.ndarray], how: Decoding) -> list[Decoded]:
    """What a translator says of sources, each ids [S] with its EOS."""
    check(how)
    model, _, _ = translator(trained)
    found: list[Decoded] = []
    device = next(model.parameters()).device
    for first in range(0, len(rows), ROWS):
        words = padded(rows[first : first + ROWS]).to(device)
        begin = torch.full((len(words),), BOS, device=device)
        with torch.inference_mode():
            found += decode(model, model.read({"source": words}), begin, replace(how, never=(*how.never, *NOT_SAID)))
    return found


def go_on(trained: Trained, text: str, how: Decoding) -> Written:
    """A text that a language model goes on with. Its `text` is the continuation alone; where that begins within a word
    of the source, or needs a space, only `whole` shows. Raises SakiyomiError for a model that reads a source."""
    check(how)
    model, vocabulary = trained.model, language(trained)
    # Of an empty text, the end of a line before it is as good a beginning as any.
    text = unicodedata.normalize("NFC", text)
    ids = vocabulary.encode(text) or vocabulary.encode("\n") or [EOS]
    device = next(model.parameters()).device
    seen = torch.tensor([ids], device=device)
    with torch.inference_mode():
        state: State = model.initial(1)
        if len(ids) > 1:
            _, state = model.unroll({"token": seen[:, :-1]}, state)
        found = decode(
            model, state, seen[:, -1], replace(how, never=(*how.never, *NOT_SAID, EOS)), stream="token", stop=None
        )
    before = vocabulary.encode(text)
    whole = tuple(vocabulary.decode([*before, *said.tolist()]) for said in found[0].tokens)
    return replace(written(text, vocabulary.unknown(text), found[0], vocabulary), whole=whole)


def written(source: str, unknown: tuple[str, ...], found: Decoded, vocabulary: Vocabulary) -> Written:
    texts = [vocabulary.decode(ids.tolist()) for ids in found.tokens]
    chances = tuple(found.log_probabilities.tolist())
    return Written(source, texts[0], tuple(texts[1:]), chances, bool(found.ended[0]), unknown)


def gaze(trained: Trained, source: Sequence[int], target: Sequence[int]) -> tuple[Tensor, list[str], list[str]]:
    """Where in the source a translator looks when it says each word of the target, float [T, S], with the words of
    both; the last of each is its end. Both are given as numbers without their EOS: text that is split anew may become
    other ones. Raises SakiyomiError for a model that does not look."""
    model, read, said = translator(trained)
    rows = [np.array([*ids, EOS]) for ids in (source, target)]
    device = next(model.parameters()).device
    words = {"source": padded(rows[:1]), "target": torch.tensor([[BOS, *rows[1][:-1].tolist()]])}
    with torch.inference_mode():
        looked = model.attention({name: value.to(device) for name, value in words.items()})[0].cpu()
    names = [[vocabulary.spelled(int(i)) for i in row] for vocabulary, row in zip((read, said), rows, strict=True)]
    return looked, names[0], names[1]


def translator(trained: Trained) -> tuple["SourceReader", Vocabulary, Vocabulary]:
    """The model and what it reads and says. Raises SakiyomiError for one that reads no source."""
    model = trained.model
    if not isinstance(model, Reads):
        raise SakiyomiError(f"{type(model).__name__} reads no source; a translator does: sakiyomi train translate")
    return model, trained.normalizer.vocabulary("source"), trained.normalizer.vocabulary("target")  # pyright: ignore[reportReturnType]


def language(trained: Trained) -> Vocabulary:
    """What a language model reads and says. Raises SakiyomiError for a model that is none."""
    if trained.model.outputs != ("token",):
        raise SakiyomiError(f"{type(trained.model).__name__} goes on with no text; a language model does: shakespeare")
    return trained.normalizer.vocabulary("token")


def as_trained(text: str, vocabulary: Vocabulary) -> str:
    """A line the way the vocabulary spells it, as far as that can be guessed: words that it does not know are tried in
    small letters, without the punctuation at their ends, and in parts; quotation marks and apostrophes that it has
    nowhere become straight ones. What it then knows no better stays as it is."""
    text = unicodedata.normalize("NFC", text)
    if vocabulary.split != "words":
        return text
    known, out = vocabulary.numbers, []
    if any(mark in text for mark in QUOTES):
        letters = set("".join(known))
        text = "".join(letter if letter in letters else QUOTES.get(letter, letter) for letter in text)
    for word in text.split():
        out += parts_of(word, known)
    return " ".join(out)


def parts_of(word: str, known: Container[str]) -> list[str]:
    """What a word that was typed in is made of: itself, a known word between punctuation ("(Mr.,"), or its parts."""

    def spelled(part: str) -> str:
        return part.lower() if part not in known and part.lower() in known else part

    if spelled(word) in known:
        return [spelled(word)]
    # The apostrophe at its beginning may belong to it; of the punctuation at its end, as much as is known does.
    before, rest = re.findall(r"^([^\w\s']*)(.*)$", word)[0]
    for end in range(len(rest), len(re.sub(r"\W+$", "", rest)) - 1, -1):
        if spelled(rest[:end]) in known:
            after = rest[end:]
            return [*before, spelled(rest[:end]), *([after] if after in known else after)]
    return [spelled(part) for part in PARTS.findall(word)]


def without_gaps(text: str) -> str:
    """Words of Japanese or Chinese as they are written, without spaces between them."""
    return NO_GAP.sub("", text)


def examples(trained: Trained) -> list[np.ndarray]:
    """A few sentences of the validation split, each ids [S] with its EOS."""
    store = EpisodeStore(trained.job.data.store)
    entry = store.split("validation")[0]
    return sentences(store.values(entry.id, "source"), f"{store.place}, {entry.id}")[:EXAMPLES]


def lines_of(path: Path) -> list[str]:
    """The lines of a text file, empty ones too."""
    return read_text(path).removesuffix("\n").split("\n")


def in_utf8(name: str, text: str) -> str:
    """A text from the command line. Raises SakiyomiError where the shell gave bytes that are no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise SakiyomiError(f"{name} is not UTF-8 at its character {error.start + 1}; type it in UTF-8") from error
    return text


def warn(unknown: tuple[str, ...]) -> None:
    """Say which words are not known."""
    if unknown:
        console.print(f"  (not known: {' '.join(unknown[:20])})", style="yellow", markup=False, soft_wrap=True)


class SourceReader(SequenceModel, Reads):
    """For the type checker: a sequence model that reads a source."""
