"""Verb 3 for a model of text, `sakiyomi evaluate translate`: BLEU of what it says by itself, with a beam and without,
and of what it says when it is shown another sentence; what each word costs it.

    sakiyomi evaluate translate --beam 4
    sakiyomi compare translate-gru translate

Leaves `scores.json` and `report.html` in the run folder.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.texts import Passages, Sentences, sentences
from sakiyomi.data.windows import Batches
from sakiyomi.decode import Decoding
from sakiyomi.errors import SakiyomiError, at_least
from sakiyomi.models.base import Reads, SequenceModel
from sakiyomi.rollout import Trained
from sakiyomi.run import read_metrics
from sakiyomi.schedules import progress_at
from sakiyomi.scores.protocol import Protocol, Score, save_scores
from sakiyomi.scores.statistics import bootstrap
from sakiyomi.scores.text import Tokens, bleu, unigram_nats, without_spaces
from sakiyomi.views.attention import attention_map
from sakiyomi.views.plots import training_curves
from sakiyomi.views.report import Figure, Section, Table, write_report
from sakiyomi.watchdog import warnings
from sakiyomi.write import gaze, go_on, said_of, without_gaps

BATCH = 64
SHOWN = 20  # sentences in the report


@dataclass(frozen=True)
class HowWritten:
    """Options of `evaluate` for a model of text."""

    split: str = "validation"
    """The split it is scored on."""
    beam: int = 4
    """Hypotheses of the beam search; 1 leaves it out."""
    length_penalty: float = 0.6
    """How the beam ranks texts of different lengths: log-probability / ((5 + n) / 6) to this power."""
    sentences: int = 1000
    """Sentences that are translated, at most: the first ones."""
    steps: int = 60
    """Words that are said of each, at most."""
    device: str = "auto"
    """auto, cpu or cuda."""


@dataclass(frozen=True)
class Sentence:
    """One sentence, what should be said of it and what is."""

    source: str
    true: str
    greedy: str
    beam: str
    """By beam search; empty where there was none."""
    shuffled: str
    """What is said when another sentence is shown in its place."""
    seen: bool
    """The source is in the training split, too."""
    read: tuple[int, ...]
    """The numbers of the source's words."""
    wrote: tuple[int, ...]
    """Those of `greedy`."""


@dataclass(frozen=True)
class TextScores:
    """What an evaluation found."""

    scores: dict[str, Score]
    sentences: tuple[Sentence, ...]
    """Of a translator."""
    split: str = "validation"
    """Of which split."""


def evaluate_text(
    trained: Trained, options: HowWritten, progress: Callable[[int, int, str], None] = lambda done, total, name: None
) -> TextScores:
    """Score a translator or a language model on a split."""
    for name in ("beam", "sentences", "steps"):
        at_least(f"--{name}", getattr(options, name), 1)
    if isinstance(trained.model, Reads):
        return evaluate_translator(trained, options, progress)
    store = EpisodeStore(trained.job.data.store)
    costs = costs_of(trained.model, passages(trained, store, options.split))
    progress(1, 1, "reading")
    vocabulary = trained.normalizer.vocabulary("token")
    apart = bootstrap(costs)
    protocol = Protocol(
        data=f"{trained.job.data.store}, {options.split}",
        counted=f"every {vocabulary.unit} about once, after those before it in windows of {trained.job.data.steps}",
        rule="-log p of what came, teacher-forced, mean",
        n=len(costs),
        seeds="none",
        interval="bootstrap 95 %",
    )
    train, held_out = (all_ids(store, split) for split in ("train", options.split))
    told, every = "-log p by frequency in the training split alone, mean", f"every {vocabulary.unit}"
    plain = replace(protocol, counted=every, rule=told, n=len(held_out), interval="none")
    by_frequency = unigram_nats(train, held_out, len(vocabulary))
    scores = {
        "nll": Score("nll", apart.value, apart.low, apart.high, "nats", protocol),
        "nll/by frequency": Score("nll/by frequency", by_frequency, None, None, "nats", plain),
    }
    return TextScores(scores, (), options.split)


def evaluate_translator(trained: Trained, options: HowWritten, progress: Callable[[int, int, str], None]) -> TextScores:
    """BLEU of what it says by itself: no word of the reference is shown to it."""
    store = EpisodeStore(trained.job.data.store)
    found = said_sentences(trained, store, options, progress)
    target = trained.normalizer.vocabulary("target")
    # Without spaces between words, letters are counted.
    pieces = target.split in ("wordpiece", "bpe")
    apart = without_spaces([one.true for one in found]) if pieces else target.split in ("characters", "mecab")
    tokens: Tokens = "char" if apart else "none"
    words = f"whole sentences of at most {options.steps} words, said by itself"
    protocol = Protocol(
        data=f"{trained.job.data.store}, {options.split}",
        counted=f"{words}, greedily",
        rule=f"corpus BLEU, sacrebleu, tokenize={tokens}; words that are unknown in the reference count as missed",
        n=len(found),
        seeds="none",
        interval="bootstrap 95 %",
    )
    by_beam = f"{words}, beam {options.beam}, length penalty {options.length_penalty:g}"
    new = [one for one in found if not one.seen]
    measured = {
        "bleu": (found, [one.greedy for one in found], protocol.counted),
        "bleu/beam": (found if options.beam > 1 else [], [one.beam for one in found], by_beam),
        "bleu/new": (new, [one.greedy for one in new], f"{words}, greedily, of sources that were not trained on"),
        "bleu/shuffled": (found, [one.shuffled for one in found], f"{words}, greedily, of the next sentence's source"),
    }
    scores = {}
    for name, (scored, said, counted) in measured.items():
        if scored:
            value = bleu(said, [one.true for one in scored], tokens)
            how = replace(protocol, counted=counted, n=len(scored))
            scores[name] = Score(name, value.value, value.low, value.high, "BLEU", how)
    rule = "share of sources that are in the training split too, with this translation or another"
    how = replace(protocol, counted="sources", rule=rule, interval="none")
    scores["overlap"] = Score("overlap", 1 - len(new) / len(found), None, None, "rate", how)
    pairs = Sentences(store, options.split, trained.job.data, ("source", "target"), ("source",))
    costs = costs_of(trained.model, pairs)
    forced = bootstrap(costs)
    told = "every word and end of a sentence, after the true ones before it (teacher-forced)"
    how = replace(protocol, counted=told, rule="-log p of what came, mean", n=len(costs))
    scores["nll"] = Score("nll", forced.value, forced.low, forced.high, "nats", how)
    progress(4, 4, "words")
    return TextScores(scores, tuple(found), options.split)


def said_sentences(
    trained: Trained, store: EpisodeStore, options: HowWritten, progress: Callable[[int, int, str], None]
) -> list[Sentence]:
    """The sentences of the split, translated in each of the ways that are scored."""
    source, target = (trained.normalizer.vocabulary(name) for name in ("source", "target"))
    shown = sentences_of(store, options.split, "source")[: options.sentences]
    true = sentences_of(store, options.split, "target")[: options.sentences]
    if len(shown) < 2:
        raise SakiyomiError(
            f"split {options.split!r} of {store.place} has {len(shown)} sentences; 2 or more are needed"
        )
    plain = Decoding(steps=options.steps)
    search = replace(plain, beam=options.beam, length_penalty=options.length_penalty)
    ways = {"greedy": (shown, plain), "beam": (shown, search), "shuffled": ([*shown[1:], shown[0]], plain)}
    said, wrote = {}, {}
    for done, (name, (rows, how)) in enumerate(ways.items(), 1):
        texts = said_of(trained, rows, how) if name != "beam" or options.beam > 1 else []
        wrote[name] = [one.tokens[0].tolist() for one in texts]
        said[name] = [target.decode(ids) for ids in wrote[name]] or [""] * len(shown)
        progress(done, len(ways) + 1, name)
    known = {ids.tobytes() for ids in sentences_of(store, "train", "source")}
    return [
        Sentence(
            source.decode(ids.tolist()),
            target.decode(true[i].tolist()),
            said["greedy"][i],
            said["beam"][i],
            said["shuffled"][i],
            ids.tobytes() in known,
            tuple(ids[:-1].tolist()),
            tuple(wrote["greedy"][i]),
        )
        for i, ids in enumerate(shown)
    ]


def sentences_of(store: EpisodeStore, split: str, stream: str) -> list[np.ndarray]:
    """The sentences of a split, each with its EOS."""
    return [
        ids
        for entry in store.split(split)
        for ids in sentences(store.values(entry.id, stream), f"{store.place}, {entry.id}, stream {stream!r}")
    ]


def all_ids(store: EpisodeStore, split: str) -> np.ndarray:
    return np.concatenate([store.values(entry.id, "token") for entry in store.split(split)])


def passages(trained: Trained, store: EpisodeStore, split: str) -> Batches:
    """A split as the model was trained to read it, every token predicted about once."""
    data = replace(trained.job.data, stride=trained.job.data.steps)
    if data.steps:
        return Passages(store, split, data, trained.model.inputs)
    return Sentences(store, split, data, trained.model.inputs)


@torch.inference_mode()
def costs_of(model: SequenceModel, batches: Batches) -> np.ndarray:
    """What each token cost, -log p in nats, float [N], told all true ones before it."""
    device, parts = next(model.parameters()).device, []
    progress, name = progress_at(0, 1, 0, device, training=False), model.outputs[0]
    for first in range(0, len(batches), BATCH):
        batch = batches.batch(list(range(first, min(first + BATCH, len(batches))))).to(device)
        costs: Tensor = model.loss(batch, progress)[name]
        parts.append(costs[batch.mask > 0].cpu())
    return torch.cat(parts).numpy()


def save_text(evaluated: TextScores, trained: Trained, folder: Path) -> Path:
    """Write `scores.json` and `report.html`; returns the report."""
    save_scores(evaluated.scores, folder / "scores.json")
    path, scores = folder / "report.html", evaluated.scores
    translates, split = bool(evaluated.sentences), evaluated.split
    # What was chosen by a split is a little too good on it.
    chose = " By this split it was chosen which weights to keep." if split == "validation" else ""
    sections = translated(evaluated, trained) if translates else continued(trained)
    words = "Losses, and what changed by schedule."
    curves = Figure("Training", words, training_curves(read_metrics(folder)))
    sections = [*sections, Section("What it learned", "", (curves,))]
    wrong = warnings(read_metrics(folder), trained.job.train.watch)
    if wrong:
        sections.insert(0, Section("What to look at", "", table=Table(("what", "in words"), tuple(wrong.items()))))
    if translates:
        lead = (
            f"What {len(evaluated.sentences)} sentences of split {split!r} become, word by word, without a look at "
            f"what they should: BLEU {scores['bleu'].value:.1f}. Shown another sentence instead, it gets "
            f"{scores['bleu/shuffled'].value:.1f}: so much is due to what any sentence would score. "
            f"{scores['overlap'].value:.1%} of the sources are among those for training, too.{chose}"
        )
    else:
        lead = (
            f"Each token of split {split!r} costs it {scores['nll'].value:.3f} nats, "
            f"{scores['nll'].value / np.log(2):.2f} bits; told by frequency alone it would be "
            f"{scores['nll/by frequency'].value:.2f} nats.{chose}"
        )
    title = "Sakiyomi: what sentences become" if translates else "Sakiyomi: what comes next in a text"
    write_report(path, title, lead, scores, tuple(sections), tuple(scores))
    return path


def translated(evaluated: TextScores, trained: Trained) -> list[Section]:
    """The first sentences, and where one of them was looked at."""
    first = evaluated.sentences[:SHOWN]
    searched = any(one.beam for one in first)
    rows = tuple(
        (one.source, *(without_gaps(text) for text in (one.greedy, *([one.beam] if searched else []), one.true)))
        for one in first
    )
    header = ("shown", "said", *(("said by beam search",) if searched else ()), "true")
    sections = [Section("What it says", "The first sentences, good and bad.", table=Table(header, rows))]
    example = max(first, key=lambda one: len(one.read))
    try:
        looked, read, said = gaze(trained, example.read, example.wrote)
    except SakiyomiError:  # a model without attention
        return sections
    caption = "A row a word that was said, dark where in the source it looked."
    figure = Figure("Where each word comes from", caption, attention_map(looked.numpy(), read, said))
    return [*sections, Section("Attention", "", (figure,))]


def continued(trained: Trained) -> list[Section]:
    """A text it makes up."""
    vocabulary = trained.normalizer.vocabulary("token")
    steps = 500 if vocabulary.split == "characters" else 120
    said = go_on(trained, "", Decoding(temperature=0.8, steps=steps)).text
    lines = tuple((line,) for line in said.split("\n") if line.strip())
    return [Section("What it makes up", "Drawn at temperature 0.8, seed 0.", table=Table(("text",), lines))]
