"""Verb 3 for a model that speaks, `sakiyomi evaluate say-digits`: how well it knows the next sample of clips it never
heard, how fast it speaks, and whether what it says is understood.

    sakiyomi evaluate say-digits --sounds 200
    sakiyomi evaluate say-digits --recognizer runs/spoken-digits

Who understands it is a listener trained on the spot on the recordings for training, never on generated sound; with
`--recognizer` a run that hears is asked as well. How often they are right on recordings they never heard is told
beside it. Leaves `scores.json`, `report.html` and `spoken.wav` in the run folder.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from sakiyomi.audio.wave import from_mu_law, mu_law
from sakiyomi.data.clips import Clips, Piece, pieces
from sakiyomi.data.sources.spoken_digits import NAMES
from sakiyomi.errors import SakiyomiError
from sakiyomi.recognize import Listening, frames_of, hear, recogniser
from sakiyomi.rollout import Trained, load
from sakiyomi.run import read_metrics
from sakiyomi.schedules import progress_at
from sakiyomi.scores.listener import Listener, kinds_of, taught
from sakiyomi.scores.protocol import Protocol, Score, save_scores
from sakiyomi.scores.statistics import wilson
from sakiyomi.speak import (
    Speaking,
    Spoken,
    fitting,
    known_labels,
    levels,
    name_of,
    rate_of,
    recordings,
    say,
    side_by_side,
    steps_of,
    write_sounds,
)
from sakiyomi.views.plots import training_curves
from sakiyomi.views.report import Figure, Section, Table, write_report
from sakiyomi.watchdog import warnings

KINDS = ("recognised", "recognised/voice")  # of words of a label: what is said, and by whom
TIMED = 2000  # samples that are said to time them
ROUND = 0.2  # seconds of silence that a recogniser hears before and after each sound
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class HowSpoken:
    """Options of `evaluate` for a model that speaks."""

    sounds: int = 200
    """Sounds that are said, of each label in turn."""
    seconds: float = 0.6
    """Length of each."""
    temperature: float = 1.0
    """Samples are drawn by softmax(logits / temperature)."""
    seed: int = 0
    """Seed of all draws."""
    split: str = "test"
    """The split it is scored on."""
    recognizer: str = ""
    """A run that hears digits, which is asked as well: its folder."""
    device: str = "auto"
    """auto, cpu or cuda."""


@dataclass(frozen=True)
class SoundScores:
    """What an evaluation found."""

    scores: dict[str, Score]
    spoken: tuple[Spoken, ...]
    heard: tuple[str, ...]
    """The words that the listener heard in each."""


def evaluate_sound(
    trained: Trained, options: HowSpoken, progress: Progress = lambda done, total, name: None
) -> SoundScores:
    """Score a model that speaks on a split, and on what it says by itself."""
    how = Speaking(options.seconds, options.temperature, options.seed)
    steps_of(trained, options.sounds, how, "--sounds")  # before the long part
    hears = listening(options.recognizer, rate_of(trained)) if options.recognizer else None
    store = recordings(trained)
    held = [piece for entry in store.split(options.split) for piece in pieces(store, entry)]
    learned = [piece for entry in store.split("train") for piece in pieces(store, entry)]
    progress(0, 4, "next samples")
    scores = told_next(trained, options)
    progress(1, 4, "speed")
    scores |= speed(trained)
    progress(2, 4, "speaking")
    spoken = say(trained, fitting(known_labels(store), ""), options.sounds, how)
    progress(3, 4, "listening")
    labels = np.stack([piece.label for piece in learned])
    listener = taught([levels(piece.samples) for piece in learned], labels, rate_of(trained))
    heard = listener.words([one.samples for one in spoken])
    scores |= understood(trained, options, listener, spoken, heard, held)
    if hears is not None:
        scores |= also_heard(trained, options, hears, spoken, held)
    progress(4, 4, "listening")
    names = store.streams["label"].names or tuple(map(str, range(labels.shape[1])))
    return SoundScores(scores, tuple(spoken), tuple(" ".join(names[word] for word in words) for words in heard))


@torch.no_grad()
def told_next(trained: Trained, options: HowSpoken) -> dict[str, Score]:
    """How surprised it is by each next sample of recordings, `nats` and `bits`."""
    job, store = trained.job, recordings(trained)
    clips = Clips(store, options.split, job.data, trained.model.inputs, trained.normalizer)
    device = next(trained.model.parameters()).device
    progress, sums, counts = progress_at(0, 1, 0, device, training=False), [], []
    for first in range(0, len(clips), job.train.batch_size):
        batch = clips.batch(list(range(first, min(first + job.train.batch_size, len(clips))))).to(device)
        loss = trained.model.loss(batch, progress)["sample"]
        sums += torch.where(batch.mask > 0, loss, 0.0).sum(1).tolist()
        counts += batch.mask.sum(1).tolist()
    per_clip, weights = np.array(sums), np.array(counts)
    draws = np.random.default_rng(0).integers(0, len(sums), (1000, len(sums)))
    low, high = np.percentile(per_clip[draws].sum(1) / weights[draws].sum(1), (2.5, 97.5))
    nats = per_clip.sum() / weights.sum()
    protocol = Protocol(
        data=f"{job.data.store}, {options.split}",
        counted="samples of clips and 0.05 s of silence after each, told all samples before",
        rule="cross-entropy of the next of 256 values by mu-law",
        n=len(sums),
        seeds="none",
        interval="bootstrap 95 % over clips",
    )
    scales = {"nats": 1.0, "bits": 1 / float(np.log(2))}
    return {
        name: Score(name, float(nats) * by, float(low) * by, float(high) * by, f"{name} a sample", protocol)
        for name, by in scales.items()
    }


def speed(trained: Trained) -> dict[str, Score]:
    """Samples a second of one sound alone, the best of three."""
    labels = known_labels(recordings(trained))
    how, took = Speaking(TIMED / rate_of(trained)), []
    for _ in range(3):
        begin = time.perf_counter()
        say(trained, labels, 1, how)
        took.append(time.perf_counter() - begin)
    protocol = Protocol(
        data="none",
        counted=f"one sound of {TIMED} samples, {torch.get_num_threads()} threads",
        rule="samples / seconds by the clock, the best of three",
        n=3,
        seeds="0",
    )
    rate = TIMED / min(took)
    return {"samples_a_second": Score("samples_a_second", rate, None, None, "samples/s", protocol)}


def understood(
    trained: Trained,
    options: HowSpoken,
    listener: Listener,
    spoken: Sequence[Spoken],
    heard: np.ndarray,
    held: Sequence[Piece],
) -> dict[str, Score]:
    """How often the listener hears the word that was to be said; the same of recordings, and of these by mu-law."""
    real = [levels(piece.samples) for piece in held]
    bent = [from_mu_law(mu_law(samples)) for samples in real]
    wanted = np.stack([one.label for one in spoken])
    truth = np.stack([piece.label for piece in held])
    scores = {}
    for number, (name, kind) in enumerate(zip(KINDS, kinds_of(truth), strict=False)):
        chance = f"by chance {1 / len(kind):.3g}"
        rule = f"the listener, trained on recordings alone, hears the word of the label, of {len(kind)}; {chance}"
        told = generated(trained, options, rule)
        scores[name] = rate(name, right(heard[:, number], wanted), told)
        recorded = Protocol(f"{trained.job.data.store}, {options.split}", "clips as recorded", rule, 0, "0")
        scores[f"{name}/recorded"] = rate(f"{name}/recorded", right(listener.words(real)[:, number], truth), recorded)
        by_mu_law = replace(recorded, counted="clips by mu-law")
        scores[f"{name}/mu-law"] = rate(f"{name}/mu-law", right(listener.words(bent)[:, number], truth), by_mu_law)
    return scores


def right(words: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether the word numbers [B] are true in the labels [B, L]."""
    return labels[np.arange(len(words)), words] > 0


def generated(trained: Trained, options: HowSpoken, rule: str) -> Protocol:
    counted = f"sounds of {options.seconds:g} s, each label in turn, temperature {options.temperature:g}"
    return Protocol(trained.job.data.store, counted, rule, 0, str(options.seed))


def rate(name: str, true: np.ndarray, protocol: Protocol) -> Score:
    """The share of sounds that are right."""
    found = wilson(int(true.sum()), len(true))
    counted = replace(protocol, n=len(true), interval="wilson 95 %")
    return Score(name, found.value, found.low, found.high, "rate", counted)


def also_heard(
    trained: Trained, options: HowSpoken, hears: Trained, spoken: Sequence[Spoken], held: Sequence[Piece]
) -> dict[str, Score]:
    """How often a run that hears says the digit and nothing else; the same of recordings."""
    store = recordings(trained)
    rule = f"{options.recognizer} hears the word of the label and nothing else"
    recorded = Protocol(f"{trained.job.data.store}, {options.split}", "clips as recorded", rule, 0, "none")
    made = np.array([heard_as(hears, one.samples) == spelled(one.name) for one in spoken])
    real = [heard_as(hears, levels(p.samples)) == spelled(name_of(store, p.label)) for p in held]
    return {
        "recognised/run": rate("recognised/run", made, generated(trained, options, rule)),
        "recognised/run/recorded": rate("recognised/run/recorded", np.array(real), recorded),
    }


def listening(folder: str, rate: int) -> Trained:
    """A run that hears sound of this rate. Raises SakiyomiError for one that does not."""
    hears = load(folder)
    recogniser(hears)
    known = hears.normalizer.sound("feature").rate
    if known != rate:
        raise SakiyomiError(f"{folder} hears sound of {known} samples a second, this model speaks at {rate}")
    return hears


def heard_as(hears: Trained, samples: np.ndarray) -> str:
    """What a run hears in a sound with silence around it."""
    silence = np.zeros(round(ROUND * hears.normalizer.sound("feature").rate), np.float32)
    return hear(hears, frames_of(hears, np.concatenate((silence, samples, silence))), Listening()).text


def spelled(name: str) -> str:
    """The first word of a label, a digit as a recogniser of digits writes it."""
    word = name.split()[0]
    return NAMES[int(word)] if word in map(str, range(len(NAMES))) else word


def save_sound(evaluated: SoundScores, trained: Trained, folder: Path) -> Path:
    """Write `scores.json`, `spoken.wav` and `report.html`; returns the report."""
    save_scores(evaluated.scores, folder / "scores.json")
    write_sounds(folder / "spoken.wav", evaluated.spoken, rate_of(trained))
    store, scores = recordings(trained), evaluated.scores
    real = [piece for entry in store.split("validation") for piece in pieces(store, entry)]
    picture = side_by_side(evaluated.spoken, real, rate_of(trained))
    told = "Mel bands over time; above a recording of the same label, below what was said. Not the same sound twice."
    curves = Figure("Training", "Losses, and what changed by schedule.", training_curves(read_metrics(folder)))
    sections = [
        Section("What it says", "All of it stands in spoken.wav.", (Figure("Spectra", told, picture),)),
        Section("What was heard", "By the listener, of each word that was to be said.", table=confusions(evaluated)),
        Section("What it learned", "", (curves,)),
    ]
    wrong = warnings(read_metrics(folder), trained.job.train.watch)
    if wrong:
        sections.insert(0, Section("What to look at", "", table=Table(("what", "in words"), tuple(wrong.items()))))
    lead = (
        f"{len(evaluated.spoken)} sounds that it made up: {100 * scores['recognised'].value:.0f}% were heard as what "
        f"they were to be; of recordings {100 * scores['recognised/recorded'].value:.0f}%. "
        f"{scores['bits'].value:.2f} bits a sample of {scores['bits'].protocol.data}."
    )
    path = folder / "report.html"
    headline = ("recognised", "recognised/recorded", "bits", "samples_a_second")
    write_report(path, "Sakiyomi: a voice", lead, scores, tuple(sections), headline)
    return path


def confusions(evaluated: SoundScores) -> Table:
    """A row for each first word of the labels: how often it was heard, and what else was."""
    said = [one.name.split()[0] for one in evaluated.spoken]
    heard = [words.split()[0] for words in evaluated.heard]
    rows = []
    for word in dict.fromkeys(said):
        theirs = [b for a, b in zip(said, heard, strict=True) if a == word]
        others = sorted({b for b in theirs if b != word}, key=lambda b: (-theirs.count(b), b))
        told = ", ".join(f"{b} ({theirs.count(b)})" for b in others)
        rows.append((word, f"{theirs.count(word)} of {len(theirs)}", told))
    return Table(("said", "heard", "what else was heard"), tuple(rows))
