"""Verb 3 for a recogniser, `sakiyomi evaluate an4`: error rates of words and letters, along the likeliest path and by
beam search with a language model and without, also of each speaker.

    sakiyomi evaluate an4 --beam 32
    sakiyomi evaluate spoken-digits

Leaves `scores.json` and `report.html` in the run folder.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.utterances import labels_of
from sakiyomi.data.vocabulary import Vocabulary
from sakiyomi.errors import at_least
from sakiyomi.recognize import (
    Listening,
    language_of,
    log_probs,
    rate_of,
    read_labels,
    recogniser,
    recorded_frames,
    when,
)
from sakiyomi.rollout import Trained
from sakiyomi.run import read_metrics
from sakiyomi.scores.protocol import Protocol, Score, save_scores
from sakiyomi.scores.speech import Edits, edits, error_rate
from sakiyomi.scores.statistics import wilson
from sakiyomi.views.plots import training_curves
from sakiyomi.views.report import Figure, Section, Table, write_report
from sakiyomi.views.speech import spikes
from sakiyomi.watchdog import warnings

SHOWN = 20  # utterances in the report; more if there are more speakers
WAYS = {"path": "the likeliest path", "beam": "beam search", "language": "beam search with a language model"}


@dataclass(frozen=True)
class HowHeard:
    """Options of `evaluate` for a recogniser."""

    split: str = "test"
    """The split it is scored on."""
    beam: int = 16
    """Labellings that the beam search keeps."""
    order: int = 3
    """Words that the language model looks at, counted from the transcripts for training."""
    weight: float = 0.5
    """How much the language model counts."""
    bonus: float = 0.0
    """Nats for each word in the beam search with a language model."""
    utterances: int = 1000
    """Utterances that are recognised, at most: the first ones."""
    device: str = "auto"
    """auto, cpu or cuda."""


@dataclass(frozen=True)
class Recognised:
    """One utterance, what it says and what was heard."""

    id: str
    speaker: str
    true: str
    said: dict[str, str]
    """By each of WAYS."""
    log_probs: Tensor
    """What the network says of each frame, [T, V]."""


@dataclass(frozen=True)
class SpeechScores:
    """What an evaluation found."""

    scores: dict[str, Score]
    utterances: tuple[Recognised, ...]


def evaluate_speech(
    trained: Trained, options: HowHeard, progress: Callable[[int, int, str], None] = lambda done, total, name: None
) -> SpeechScores:
    """Score a recogniser on a split."""
    at_least("--utterances", options.utterances, 1)
    at_least("--beam", options.beam, 2)
    at_least("--order", options.order, 0)
    found = recognise_all(trained, options, progress)
    protocol = Protocol(
        data=f"{trained.job.data.store}, {options.split}",
        counted="words of whole utterances",
        rule="substitutions, words missed and words added / words that were said",
        n=len(found),
        seeds="none",
        interval="bootstrap 95 % over utterances",
    )
    how = {
        "path": "the likeliest path",
        "beam": f"prefix beam of {options.beam}",
        "language": f"prefix beam of {options.beam}, {options.order}-grams of words of the training transcripts, "
        f"weight {options.weight:g}, bonus {options.bonus:g}",
    }
    if not options.order:
        del how["language"]
    scores = {}
    for way, told in how.items():
        name = "wer" if way == "path" else f"wer/{way}"
        read = replace(protocol, counted=f"{protocol.counted}; {told}")
        scores[name] = rate(name, [edits(one.true.split(), one.said[way].split()) for one in found], read)
    letters = replace(protocol, counted="letters and spaces of whole utterances; the likeliest path")
    letters = replace(letters, rule="substitutions, letters missed and letters added / letters that were said")
    scores["cer"] = rate("cer", [edits(one.true, one.said["path"]) for one in found], letters)
    whole = wilson(sum(one.true == one.said["path"] for one in found), len(found))
    all_right = replace(protocol, counted="whole utterances", rule="every word right", interval="wilson 95 %")
    scores["whole"] = Score("whole", whole.value, whole.low, whole.high, "rate", all_right)
    for speaker in sorted({one.speaker for one in found} - {""}):
        theirs = [edits(one.true.split(), one.said["path"].split()) for one in found if one.speaker == speaker]
        one_speaker = replace(protocol, data=f"{protocol.data}, {speaker}", n=len(theirs))
        scores[f"wer/{speaker}"] = rate(f"wer/{speaker}", theirs, one_speaker)
    return SpeechScores(scores, tuple(found))


def rate(name: str, counts: Sequence[Edits], protocol: Protocol) -> Score:
    value = error_rate(counts)
    return Score(name, value.value, value.low, value.high, "rate", protocol)


def recognise_all(trained: Trained, options: HowHeard, progress: Callable[[int, int, str], None]) -> list[Recognised]:
    """The utterances of the split, read in each of the ways."""
    vocabulary, store = recogniser(trained), EpisodeStore(trained.job.data.store)
    language = language_of(store, vocabulary, options.order)
    search = Listening(options.beam, options.order, options.weight, options.bonus)
    chosen, found = store.split(options.split)[: options.utterances], []
    for done, entry in enumerate(chosen, 1):
        said = log_probs(trained.model, recorded_frames(trained, store, entry))
        read = {
            "path": read_labels(said, vocabulary, Listening()),
            "beam": read_labels(said, vocabulary, replace(search, bonus=0.0)),
            "language": read_labels(said, vocabulary, search, language),
        }
        true = entry.meta.get("transcript") or vocabulary.decode(labels_of(store, entry, "transcript").tolist())
        texts = {way: spaced(vocabulary.decode(labels)) for way, labels in read.items()}
        found.append(Recognised(entry.id, str(entry.meta.get("speaker", "")), spaced(true), texts, said))
        progress(done, len(chosen), "listening")
    return found


def spaced(text: str) -> str:
    """Words with one space between them."""
    return " ".join(text.split())


def save_speech(evaluated: SpeechScores, trained: Trained, folder: Path) -> Path:
    """Write `scores.json` and `report.html`; returns the report."""
    save_scores(evaluated.scores, folder / "scores.json")
    scores, found = evaluated.scores, evaluated.utterances
    ways = {"path": "heard", **({"language": "heard with a language model"} if "wer/language" in scores else {})}
    chosen = shown(found)
    rows = tuple((one.speaker, one.true, *(one.said[way] for way in ways)) for one in chosen)
    table = Table(("speaker", "said", *ways.values()), rows)
    example = max(chosen, key=lambda one: one.true == one.said["path"])
    words = "How likely each label is, frame by frame; grey is the blank: no label begins."
    picture = spikes_of(trained, example, recogniser(trained))
    curves = Figure("Training", "Losses, and what changed by schedule.", training_curves(read_metrics(folder)))
    sections = [
        Section("What it heard", "The first utterances of every speaker, good and bad.", table=table),
        Section("When it heard it", "", (Figure(example.true, words, picture),)),
        Section("What it learned", "", (curves,)),
    ]
    wrong = warnings(read_metrics(folder), trained.job.train.watch)
    if wrong:
        sections.insert(0, Section("What to look at", "", table=Table(("what", "in words"), tuple(wrong.items()))))
    lead = (
        f"{len(found)} utterances of {scores['wer'].protocol.data}: {100 * scores['wer'].value:.1f}% of the words "
        "wrong, missed or added"
    )
    if "wer/language" in scores:
        lead += f"; with a language model {100 * scores['wer/language'].value:.1f}%"
    path = folder / "report.html"
    headline = tuple(name for name in ("wer", "wer/beam", "wer/language", "cer", "whole") if name in scores)
    write_report(path, "Sakiyomi: what was said", f"{lead}.", scores, tuple(sections), headline)
    return path


def shown(found: Sequence[Recognised]) -> list[Recognised]:
    """Utterances for the report, in their order: of each speaker the first, then the second, and so on to SHOWN."""
    turns, said = [], Counter[str]()
    for number, one in enumerate(found):
        turns.append((said[one.speaker], number))
        said[one.speaker] += 1
    return [found[number] for number in sorted(number for _, number in sorted(turns)[: max(SHOWN, len(said))])]


def spikes_of(trained: Trained, one: Recognised, vocabulary: Vocabulary) -> bytes:
    """One utterance, frame by frame."""
    labels = read_labels(one.log_probs, vocabulary, Listening())
    _, frames = when(one.log_probs, labels)
    names = [vocabulary.spelled(label) for label in labels]
    return spikes(one.log_probs.exp().numpy(), labels, names, frames, rate_of(trained))
