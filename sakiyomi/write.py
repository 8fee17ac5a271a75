"""Verb 4 for a model of text, `sakiyomi rollout translate --text "he studies english every day ."`: it says a sentence
in another language, or goes on with a text.

    sakiyomi rollout translate --text "I like music." --beam 4
    sakiyomi rollout shakespeare --text "ROMEO:" --temperature 0.8 --steps 500
"""

import re
import unicodedata
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

MOST = 1000  # words of a source: attention grows with its square
EXAMPLES = 5
ROWS = 100  # sentences that are said at once
NOT_SAID = (PAD, BOS, UNK)
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
    log_probability: float
    """Of `text`, nats."""
    ended: bool
    """Whether it came to an end by itself."""
    unknown: tuple[str, ...]
    """Words of the source it does not know."""


def translate(trained: Trained, texts: list[str], how: Decoding) -> list[Written]:
    """Each text said by a model that reads a source. Words are told apart as in training where that can be guessed: see
    `as_trained`. Raises SakiyomiError for a text without words, or one of more than MOST."""
    _, source, target = translator(trained)
    read, rows = [as_trained(text, source) for text in texts], []
    for number, text in enumerate(read):
        ids = source.encode(text)
        if not ids:
            raise SakiyomiError(f"text {number + 1} of {len(texts)} holds no word; give a sentence")
        if len(ids) > MOST:
            raise SakiyomiError(f"text {number + 1} has {len(ids)} words, at most {MOST}; cut it into sentences")
        rows.append(np.array([*ids, EOS]))
    found = said_of(trained, rows, how)
    return [written(text, source.unknown(text), one, target) for text, one in zip(read, found, strict=True)]


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
    """A text that a language model goes on with; nothing is said of a text that is over. Raises SakiyomiError for a
    model that reads a source."""
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
    return written(text, vocabulary.unknown(text), found[0], vocabulary)


def written(source: str, unknown: tuple[str, ...], found: Decoded, vocabulary: Vocabulary) -> Written:
    texts = [vocabulary.decode(ids.tolist()) for ids in found.tokens]
    ended = bool(found.ended[0])
    return Written(source, texts[0], tuple(texts[1:]), float(found.log_probabilities[0]), ended, unknown)


def gaze(trained: Trained, source: str, target: str) -> tuple[Tensor, list[str], list[str]]:
    """Where in the source a translator looks when it says each word of the target, float [T, S], with the words of
    both; the last of each is its end. Raises SakiyomiError for a model that does not look."""
    model, read, said = translator(trained)
    rows = [np.array([*words.encode(text), EOS]) for words, text in ((read, source), (said, target))]
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
    small letters, and without the punctuation at their ends. What it then knows no better stays as it is."""
    text = unicodedata.normalize("NFC", text)
    if vocabulary.split != "words":
        return text
    known, out = vocabulary.numbers, []
    for word in text.split():
        if word in known:
            out.append(word)
            continue
        parts = re.findall(r"'\w+|\w+(?:[-.]\w+)*|[^\w\s]", word)
        out += [part if part in known else part.lower() for part in parts]
    return " ".join(out)


def without_gaps(text: str) -> str:
    """Words of Japanese or Chinese as they are written, without spaces between them."""
    return NO_GAP.sub("", text)


def examples(trained: Trained) -> list[str]:
    """A few sentences of the validation split, as text."""
    store = EpisodeStore(trained.job.data.store)
    entry, vocabulary = store.split("validation")[0], trained.normalizer.vocabulary("source")
    few = sentences(store.values(entry.id, "source"), f"{store.folder}, {entry.id}")[:EXAMPLES]
    return [vocabulary.decode(ids.tolist()) for ids in few]


def lines_of(path: Path) -> list[str]:
    """The lines of a text file, empty ones left out."""
    return [line for line in read_text(path).split("\n") if line.strip()]


class SourceReader(SequenceModel, Reads):
    """For the type checker: a sequence model that reads a source."""
