"""Verb 4 for a recogniser, `sakiyomi rollout spoken-digits --file speech.wav`: it says what was said.

    sakiyomi rollout spoken-digits --file speech.wav --stream
    sakiyomi rollout an4 --split test

Labels are read out of what the network says of each frame along the likeliest path, or by a beam search with a
language model of the training transcripts. A causal model can be read from while the sound comes in.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sakiyomi.audio.level import gain, loudness
from sakiyomi.audio.spectrum import log_mel
from sakiyomi.audio.wave import read_sound, silent
from sakiyomi.data.episodes import Entry, EpisodeStore
from sakiyomi.data.utterances import labels_of
from sakiyomi.data.vocabulary import PAD, Vocabulary
from sakiyomi.errors import SakiyomiError, at_least
from sakiyomi.layers.ctc import Beam, Greedy, LanguageModel, best_path, forward_backward, prefix_beam
from sakiyomi.layers.ngram import Ngram, Spelled
from sakiyomi.models import SequenceModel, State
from sakiyomi.rollout import Trained

PIECE = 1000  # frames of a long sound that a causal model reads at once
LIFTED = 60.0  # dB by which a sound is made louder or quieter at most
TOLD = 6.0  # dB from which on it is said
SHORT = 0.2  # s under which a sound may be cut off in the middle of a word


@dataclass(frozen=True)
class Listening:
    """How labels are read out of what a recogniser says of its frames."""

    beam: int = 1
    """Labellings that the beam search keeps; 1 takes the likeliest path instead."""
    order: int = 3
    """Words that the language model of the beam search looks at; 0 leaves it out."""
    weight: float = 0.5
    """How much the language model counts."""
    bonus: float = 0.0
    """Nats for each word."""


@dataclass(frozen=True)
class Heard:
    """What was heard in one utterance."""

    text: str
    labels: tuple[int, ...]
    times: tuple[float, ...]
    """When each label was said, s; a causal model says it some time after it began to be spoken."""
    log_probability: float
    """Of the labels by the network, nats."""
    notes: tuple[str, ...] = ()
    """What was done to the sound, and what is wrong with it."""


@dataclass(frozen=True)
class Said:
    """One label, as it came."""

    text: str
    time: float
    """s, from the beginning of the sound to the frame that said it."""


def hear_file(trained: Trained, path: Path, how: Listening, language: LanguageModel | None = None) -> Heard:
    """What is said in a sound file of any rate. Of silence, nothing is. Raises SakiyomiError for a file that holds no
    sound, and for a model whose frames are not made of sound."""
    samples, notes = samples_of(trained, path)
    if silent(samples):
        return Heard("", (), (), 0.0, notes)
    return hear(trained, frames_of(trained, samples), how, language, notes)


def samples_of(trained: Trained, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """The samples of a file at the rate and the level the model was trained at, float32 [N], and notes."""
    sound = read_sound(path, trained.normalizer.sound("feature").rate)
    if silent(sound.samples):
        return sound.samples, sound.notes
    samples, more = at_level(trained, sound.samples)
    if sound.seconds < SHORT:
        more = (*more, f"only {sound.seconds:.2g} s long: what is heard in so little is a guess")
    return samples, (*sound.notes, *more)


def at_level(trained: Trained, samples: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Samples [N] as loud, where they are loud, as what the model learned from, and what was done in words. Loud frames
    of that lay one deviation over the mean, of which the normalizer tells. What is equally loud all along stays as it
    is: lifted, the noise of an empty room would be taken for words."""
    scale = trained.normalizer.scales["feature"]
    loud = loudness(log_mel(torch.from_numpy(samples), trained.normalizer.sound("feature")).numpy())
    if loud is None:
        return samples, ("equally loud all along, as noise is without a voice: its level was left as it is",)
    wanted = float(np.mean(np.add(scale.mean, scale.std)))
    more = float(np.clip(wanted - loud, -LIFTED, LIFTED))
    changed = (samples * gain(more)).astype(np.float32)
    if abs(more) < TOLD:
        return changed, ()
    done = "lifted" if more > 0 else "lowered"
    return changed, (f"{done} by {abs(more):.0f} dB, to the level of what was learned",)


def frames_of(trained: Trained, samples: np.ndarray) -> Tensor:
    """Samples [N] -> frames as the model reads them, [T, C]."""
    recogniser(trained)
    frames = log_mel(torch.from_numpy(np.asarray(samples, np.float32)), trained.normalizer.sound("feature"))
    return trained.normalizer.encode("feature", frames)


def recorded_frames(trained: Trained, store: EpisodeStore, entry: Entry) -> Tensor:
    """Frames of an utterance of the store, as the model reads them, [T, C]."""
    return trained.normalizer.encode("feature", torch.from_numpy(store.values(entry.id, "feature")))


def hear(
    trained: Trained,
    frames: Tensor,
    how: Listening,
    language: LanguageModel | None = None,
    notes: tuple[str, ...] = (),
) -> Heard:
    """What frames [T, C] say."""
    vocabulary = recogniser(trained)
    said = log_probs(trained.model, frames)
    labels = read_labels(said, vocabulary, how, language)
    total, times = when(said, labels)
    rate = rate_of(trained)
    return Heard(vocabulary.decode(labels).strip(), labels, tuple(t / rate for t in times), total, notes)


@torch.inference_mode()
def log_probs(model: SequenceModel, frames: Tensor) -> Tensor:
    """How likely each label is at each frame of one utterance [T, C], nats [T, V]. A causal model reads it in pieces,
    so that an hour fits into memory as well as a second."""
    frames = frames.to(next(model.parameters()).device)
    state: State | None = None
    found = []
    for piece in (frames,) if model.whole else frames.split(PIECE):
        predictions, state = model.unroll({"feature": piece[None]}, state)
        found.append(predictions["transcript"][0].float().log_softmax(-1))
    return torch.cat(found).cpu()


def read_labels(
    said: Tensor, vocabulary: Vocabulary, how: Listening, language: LanguageModel | None = None
) -> tuple[int, ...]:
    """Labels out of log-probabilities [T, V]."""
    at_least("--beam", how.beam, 1)
    if how.beam == 1:
        return tuple(best_path(said, PAD))
    beam = Beam(how.beam, how.weight, how.bonus, space=space_of(vocabulary))
    return prefix_beam(said, beam, language, PAD)[0].labels


def when(said: Tensor, labels: tuple[int, ...]) -> tuple[float, list[int]]:
    """How likely the labels are by the network, nats, and the frame that says each of them: where the likeliest path
    that says all of them comes to it. Raises SakiyomiError for more labels than frames can say."""
    if not labels:
        return float(said[:, PAD].sum()), []
    given = torch.tensor([labels])
    found = forward_backward(said[None].double(), given, torch.tensor([len(said)]), torch.tensor([len(labels)]), PAD)
    return float(found.total), alignment(said, labels)


def alignment(said: Tensor, labels: tuple[int, ...]) -> list[int]:
    """The frame at which each label begins on the likeliest path (Viterbi) that says all of them, of [T, V]."""
    states = [PAD] * (2 * len(labels) + 1)
    states[1::2] = labels
    scores = said[:, states].double().numpy()
    skip = np.array([n > 1 and n % 2 == 1 and states[n] != states[n - 2] for n in range(len(states))])
    best = np.full(len(states), -np.inf)
    best[:2] = scores[0, :2]
    came = np.zeros(scores.shape, int)  # states back
    for t in range(1, len(scores)):
        one = np.concatenate(([-np.inf], best[:-1]))
        two = np.where(skip, np.concatenate(([-np.inf] * 2, best[:-2])), -np.inf)
        choices = np.stack((best, one, two))
        came[t] = choices.argmax(0)
        best = choices.max(0) + scores[t]
    state = len(states) - 1 if best[-1] >= best[-2] else len(states) - 2
    begins = [0] * len(labels)
    for t in range(len(scores) - 1, -1, -1):
        if state % 2:
            begins[state // 2] = t
        state -= came[t, state]
    return begins


def stream(trained: Trained, frames: Tensor) -> Iterator[Said]:
    """Labels as they are said, frame by frame [T, C]. Raises SakiyomiError for a model that must hear all of it."""
    vocabulary, model, greedy, rate = recogniser(trained), trained.model, Greedy(PAD), rate_of(trained)
    if model.whole:
        raise SakiyomiError(
            f"{type(model).__name__} reads in both directions, so it cannot say anything before the end; leave out "
            "--stream, or take a causal model: sakiyomi train spoken-digits"
        )
    state, last = model.initial(1), greedy.initial(1)
    device = next(model.parameters()).device
    for time, frame in enumerate(frames.to(device)):
        with torch.inference_mode():
            prediction, state = model.step({"feature": frame[None]}, state)
        labels, last = greedy.read(prediction["transcript"][:, None].cpu(), last)
        yield from (Said(vocabulary.spelled(label), time / rate) for label in labels[0])


# ---- What it knows ---------------------------------------------------------------------------------------------------


def recogniser(trained: Trained) -> Vocabulary:
    """What it may say. Raises SakiyomiError for a model that is none."""
    if trained.model.outputs != ("transcript",):
        raise SakiyomiError(
            f"{type(trained.model).__name__} predicts {list(trained.model.outputs)} and recognises nothing; a "
            "recogniser does: sakiyomi train spoken-digits"
        )
    return trained.normalizer.vocabulary("transcript")


def rate_of(trained: Trained) -> float:
    """Frames a second: of sound, as they are made; of others, as they were recorded."""
    made = trained.normalizer.scales["feature"].sound
    if made is None:
        return EpisodeStore(trained.job.data.store).streams["feature"].rate
    return made.rate / made.frames.hop


def space_of(vocabulary: Vocabulary) -> int | None:
    """The label between words, of a vocabulary of letters."""
    return vocabulary.numbers.get(" ") if vocabulary.split == "characters" else None


def language_of(store: EpisodeStore, vocabulary: Vocabulary, order: int) -> LanguageModel | None:
    """A language model of words, counted from the transcripts for training; None for order 0."""
    at_least("--order", order, 0)
    if not order:
        return None
    said = [labels_of(store, entry, "transcript").tolist() for entry in store.split("train")]
    space = space_of(vocabulary)
    if space is None:
        return Ngram.fit(said, len(vocabulary), order)
    lines = [vocabulary.decode(labels).split() for labels in said]
    words = sorted({word for line in lines for word in line})
    numbers = {word: number for number, word in enumerate(words)}
    counted = Ngram.fit([[numbers[word] for word in line] for line in lines], len(words), order)
    return Spelled.of(counted, [vocabulary.encode(word) for word in words], space)
