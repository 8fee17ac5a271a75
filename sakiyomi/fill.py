"""Verbs 3 and 4 for a model that tells hidden words: fill in what is left out of a text, and say what that costs.

    sakiyomi rollout kokoro-bert --text "私 は その 人 を 常に _ と 呼ん で い た 。"
    sakiyomi evaluate kokoro-bert

When it is scored all words that are to be told are masked. In training a tenth of them is not, which makes a loss look
better than it is: what is given there is mostly right.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.vocabulary import SPECIAL
from sakiyomi.errors import SakiyomiError, at_least
from sakiyomi.models import BERT
from sakiyomi.models.bert import HIDDEN, hide
from sakiyomi.rollout import Trained
from sakiyomi.run import read_metrics
from sakiyomi.scores.bigram import best_discount, learn_bigram, two_sided
from sakiyomi.scores.protocol import Protocol, Score, save_scores
from sakiyomi.scores.statistics import bootstrap
from sakiyomi.scores.text import unigram_nats
from sakiyomi.views.plots import training_curves
from sakiyomi.views.report import Figure, Section, Table, write_report
from sakiyomi.watchdog import warnings

HOLE = "_"  # stands in a text for a word that is left out
DRAWS = 10  # of which words are hidden, when it is scored
ROWS = 32  # windows at a time
SHOWN, SIDE = 20, 12  # places in the report, and words on each side of them


@dataclass(frozen=True)
class Hole:
    """What may have stood in one place."""

    words: tuple[str, ...]
    """The most likely ones, the likeliest first."""
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class Filled:
    """A text with what was left out."""

    text: str
    """With the likeliest word in each place."""
    holes: tuple[Hole, ...]
    unknown: tuple[str, ...]
    """Words of the text that are not in the vocabulary."""


@dataclass(frozen=True)
class Cost:
    """What hidden words have cost."""

    nats: np.ndarray
    """-log p of each of them, all draws, [N]."""
    hidden: tuple[np.ndarray, ...]
    """Of each draw: which words of the text were hidden, bool [T]."""


@torch.inference_mode()
def fill(trained: Trained, text: str, most: int = 5) -> Filled:
    """The words that were left out of a text, each written as `_`, all told at once, and the `most` likely ones of
    each. Raises SakiyomiError where nothing was left out, and for a model that tells no hidden words."""
    at_least("most", most, 1)
    model, vocabulary = teller(trained), trained.normalizer.vocabulary("token")
    parts = [vocabulary.encode(part) for part in text.split(HOLE)]
    if len(parts) < 2:
        raise SakiyomiError(f"nothing is left out of {text!r}; write {HOLE} where a word is to be told")
    ids = parts[0] + [number for part in parts[1:] for number in (model.mask, *part)]
    tokens = torch.tensor([ids], device=model.bias.device)
    logits = model.unroll({"token": tokens})[0]["token"][tokens == model.mask].float()
    logits[:, : len(SPECIAL)] = -torch.inf  # no words
    likely = logits.softmax(-1).topk(min(most, logits.shape[1] - len(SPECIAL)), -1)
    holes = tuple(
        Hole(tuple(vocabulary.spelled(int(number)) for number in numbers), tuple(shares.tolist()))
        for shares, numbers in zip(likely.values, likely.indices, strict=True)
    )
    told = iter(likely.indices[:, 0].tolist())
    words = [next(told) if number == model.mask else number for number in ids]
    return Filled(vocabulary.decode(words), holes, vocabulary.unknown(text.replace(HOLE, " ")))


def evaluate_hidden(trained: Trained, split: str = "validation") -> dict[str, Score]:
    """What hidden words of a split cost, beside what they cost who knows their two neighbours, or their frequency:
    15 % of each window hidden, and each word hidden alone. The bigram sees the neighbours that are not hidden."""
    model, store, steps = teller(trained), EpisodeStore(trained.job.data.store), trained.job.data.steps
    learned, text = (text_of(store, part) for part in ("train", split))
    words = model.vocabularies["token"]
    bigram = learn_bigram(learned, words, best_discount(learned, words))
    several = hidden_cost(model, text, steps)
    beside = [two_sided(bigram, text, np.flatnonzero(hidden), hidden) for hidden in several.hidden]
    places = alone_places(len(text), steps)
    if not len(places):
        raise SakiyomiError(
            f"the held-out text has {len(text)} words, too few to hide one of in a window of {steps}; take a longer "
            "text, or a shorter --data.steps in training"
        )
    each = np.full(1, unigram_nats(learned, text, words))
    windows = f"{HIDDEN:.0%} of the words of each window of {steps}, all masked; {DRAWS} draws"
    alone = f"words hidden one by one, with at least {steps // 4} on both sides"
    own, neighbours = (
        "-log p of the hidden words, mean",
        "-log p by the two neighbours, where they are not hidden, mean",
    )
    found = {
        "hidden": (several.nats, windows, own),
        "hidden/bigram": (np.concatenate(beside), windows, neighbours),
        "alone": (alone_cost(model, text, steps), alone, own),
        "alone/bigram": (two_sided(bigram, text, places), alone, neighbours),
        "by frequency": (each, "every word", "-log p by frequency in the training split, mean"),
    }
    data = f"{trained.job.data.store}, {split}"
    return {name: score_of(name, nats, data, counted, rule) for name, (nats, counted, rule) in found.items()}


def save_hidden(scores: dict[str, Score], trained: Trained, folder: Path, split: str = "validation") -> Path:
    """Write `scores.json` and `report.html`; returns the report."""
    save_scores(scores, folder / "scores.json")
    shown = Table(("text", "hidden", "told"), tuple(shown_holes(trained, split)))
    curves = Figure("Training", "Losses, and what changed by schedule.", training_curves(read_metrics(folder)))
    wrong = warnings(read_metrics(folder), trained.job.train.watch)
    sections = [
        *([Section("What to look at", "", table=Table(("what", "in words"), tuple(wrong.items())))] if wrong else []),
        Section("What it tells", f"A word hidden here and there in split {split!r}.", table=shown),
        Section("What it learned", "", (curves,)),
    ]
    lead = (
        f"A hidden word of split {split!r} costs it {scores['hidden'].value:.2f} nats; who knows the two neighbours "
        f"alone pays {scores['hidden/bigram'].value:.2f}, who knows how frequent words are "
        f"{scores['by frequency'].value:.2f}."
    )
    path = folder / "report.html"
    write_report(path, "Sakiyomi: hidden words", lead, scores, tuple(sections), tuple(scores))
    return path


def shown_holes(trained: Trained, split: str) -> Iterator[tuple[str, str, str]]:
    """Some places of a split: the text around each, what was hidden there, and what is told."""
    vocabulary = trained.normalizer.vocabulary("token")
    text = text_of(EpisodeStore(trained.job.data.store), split)
    for end in np.linspace(2 * SIDE, len(text), SHOWN, dtype=int):
        words = [vocabulary.spelled(int(number)) for number in text[max(end - 2 * SIDE, 0) : end]]
        middle = len(words) // 2
        true, words[middle] = words[middle], HOLE
        parts = [vocabulary.joined(part) for part in (words[:middle], [HOLE], words[middle + 1 :])]
        hole = fill(trained, " ".join(parts), 3).holes[0]
        told = zip(hole.words, hole.probabilities, strict=True)
        yield " ".join(parts), true, ", ".join(f"{word} {share:.0%}" for word, share in told)


def score_of(name: str, nats: np.ndarray, data: str, counted: str, rule: str) -> Score:
    middle, several = bootstrap(nats), len(nats) > 1
    protocol = Protocol(data, counted, rule, len(nats), "0", interval="bootstrap 95 %" if several else "none")
    low, high = (middle.low, middle.high) if several else (None, None)
    return Score(name, middle.value, low, high, "nats", protocol)


def teller(trained: Trained) -> BERT:
    """Raises SakiyomiError for a model that tells no hidden words."""
    if not isinstance(trained.model, BERT):
        raise SakiyomiError(f"{type(trained.model).__name__} tells no hidden words; train one that does: kokoro-bert")
    return trained.model


def text_of(store: EpisodeStore, split: str) -> np.ndarray:
    """A split as one text, int64 [T]."""
    return np.concatenate([store.values(entry.id, "token") for entry in store.split(split)]).astype(np.int64)


@torch.inference_mode()
def hidden_cost(
    model: BERT, text: np.ndarray, steps: int, masked: float = 1.0, replaced: float = 0.0, draws: int = DRAWS
) -> Cost:
    """A text int64 [T] in windows side by side, 15 % of each hidden, as `hide` does. Raises SakiyomiError for a text
    that is shorter than a window."""
    windows = windows_of(text, steps)
    nats, hidden = [], []
    for draw in range(draws):
        generator, real = torch.Generator().manual_seed(draw), torch.ones_like(windows, dtype=torch.bool)
        given = hide(windows, real, model.mask, generator, masked=masked, replaced=replaced)
        rows = zip(given.tokens.split(ROWS), given.chosen.split(ROWS), windows.split(ROWS), strict=True)
        nats += [cross_entropy(model, *some) for some in rows]
        hidden.append(np.pad(given.chosen.flatten().numpy(), (0, len(text) - windows.numel())))
    return Cost(torch.cat(nats).numpy(), tuple(hidden))


@torch.inference_mode()
def alone_cost(model: BERT, text: np.ndarray, steps: int) -> np.ndarray:
    """-log p of each of the words at `alone_places`, hidden alone; a window's middle half is told in it."""
    places, around = alone_places(len(text), steps), steps // 4
    begins = (places - around) // (steps - 2 * around) * (steps - 2 * around)
    nats = []
    for first in range(0, len(places), ROWS):
        part = slice(first, first + ROWS)
        true = torch.from_numpy(np.stack([text[begin : begin + steps] for begin in begins[part]]))
        chosen = torch.zeros_like(true, dtype=torch.bool)
        chosen[torch.arange(len(true)), torch.from_numpy(places[part] - begins[part])] = True
        nats.append(cross_entropy(model, true.masked_fill(chosen, model.mask), chosen, true))
    return torch.cat(nats).numpy()


def alone_places(length: int, steps: int) -> np.ndarray:
    """The places of a text that have a quarter of a window on both sides within a window that fits."""
    return np.arange(steps // 4, length - steps)


def windows_of(text: np.ndarray, steps: int) -> Tensor:
    """A text cut into windows side by side, int64 [N, T]; what is left at its end is not used."""
    count = len(text) // max(steps, 1)
    if not steps or not count:
        raise SakiyomiError(f"a text of {len(text)} words has no window of {steps}; take a longer text")
    return torch.from_numpy(text[: count * steps]).view(count, steps)


def cross_entropy(model: BERT, tokens: Tensor, chosen: Tensor, true: Tensor) -> Tensor:
    """Of the chosen words, nats, [N]; all [B, T] on the processor."""
    device = model.bias.device
    vectors = model.vectors({"token": tokens.to(device)})[0][chosen.to(device)]
    return functional.cross_entropy(model.logits(vectors).float().cpu(), true[chosen], reduction="none")
