"""Verb 4 for a model that speaks, `sakiyomi rollout say-digits --label 7`: it says what it is told, sample by sample.

    sakiyomi rollout say-digits --label 7 --count 4 --out seven.wav
    sakiyomi rollout say-digits --label "7 theo" --temperature 0.8

Leaves the sounds one after the other in a WAV file, and a picture of their spectra beside those of recordings. Letters:
B sounds, N samples, L words that a label may hold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from sakiyomi.audio.wave import write_wav
from sakiyomi.data.clips import Piece, pieces
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.normalize import FULL
from sakiyomi.data.sources.spoken_digits import NAMES
from sakiyomi.errors import LARGEST_SEED, SakiyomiError, at_least, at_most, unknown
from sakiyomi.files import write_atomic
from sakiyomi.models import State, Streams
from sakiyomi.rollout import Trained
from sakiyomi.views.sound import Spectrum, spectra

LONGEST = 60.0  # seconds of a sound
MOST = 1000  # sounds
AT_ONCE = 50  # sounds that are said side by side
PAUSE = 0.2  # seconds between the sounds of a file
DRAWN = 8  # sounds in a picture


@dataclass(frozen=True)
class Speaking:
    """How sounds are said."""

    seconds: float = 0.6
    """Length of each sound."""
    temperature: float = 1.0
    """Samples are drawn by softmax(logits / temperature); 0 takes the likeliest one each time."""
    seed: int = 0
    """Seed of all draws."""


@runtime_checkable
class Speaker(Protocol):
    """A model that goes on with sound by itself."""

    def initial(self, batch_size: int) -> State: ...

    def speak(
        self,
        first: Tensor,
        given: Streams,
        state: State,
        steps: int,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, State]: ...


@dataclass(frozen=True)
class Spoken:
    """One sound."""

    name: str
    """The words of its label."""
    label: np.ndarray
    """float32 [L]."""
    samples: np.ndarray
    """float32 [N] in -1..1."""


def recordings(trained: Trained) -> EpisodeStore:
    """What a voice learned from, which knows its rate and what its labels mean. Raises SakiyomiError where it is gone:
    the run alone knows neither."""
    try:
        return EpisodeStore(trained.job.data.store)
    except SakiyomiError as error:
        raise SakiyomiError(
            f"a voice needs the recordings it learned from, for their rate and the words of its labels: {error}"
        ) from error


def known_labels(store: EpisodeStore) -> dict[str, np.ndarray]:
    """What a model was taught to say: each label of the training split, [L], by its words."""
    found = [piece.label for entry in store.split("train") for piece in pieces(store, entry)]
    distinct = np.unique(np.stack(found), axis=0)[::-1]
    return {name_of(store, label): label for label in distinct}


def name_of(store: EpisodeStore, label: np.ndarray) -> str:
    """The words of a label, such as `7 theo`."""
    names = store.streams["label"].names or tuple(map(str, range(len(label))))
    return " ".join(name for name, true in zip(names, label, strict=True) if true)


def fitting(known: Mapping[str, np.ndarray], words: str) -> dict[str, np.ndarray]:
    """The labels that hold all these words; a digit may be spelled, and capitals do not count. Raises SakiyomiError
    for a word that no label holds, and for words that were never said together."""
    there = {word.lower(): word for name in known for word in name.split()}
    spelled = {name: there[str(digit)] for digit, name in enumerate(NAMES) if str(digit) in there}
    asked = []
    for word in words.replace(",", " ").split():
        meant = (spelled | there).get(word.lower())
        if meant is None:
            raise unknown("word of a label", word, there.values())
        asked.append(meant)
    found = {name: label for name, label in known.items() if set(asked) <= set(name.split())}
    if not found:
        raise SakiyomiError(f"no recording is {words!r}, so it was never learned; what was learned: {', '.join(known)}")
    return found


def say(trained: Trained, labels: Mapping[str, np.ndarray], count: int, how: Speaking) -> list[Spoken]:
    """So many sounds, of each label in turn; each begins after silence.

    Raises SakiyomiError for a model that does not speak, and for more sounds than MOST or longer ones than LONGEST.
    """
    model = trained.model
    if not isinstance(model, Speaker):
        raise SakiyomiError("this run does not speak; one that does: sakiyomi train say-digits")
    steps = steps_of(trained, count, how)
    device = next(trained.model.parameters()).device
    generator = torch.Generator().manual_seed(how.seed)
    names = [list(labels)[number % len(labels)] for number in range(count)]
    told = torch.from_numpy(np.stack([labels[name] for name in names]))
    silence = trained.normalizer.encode("sample", torch.zeros(1, dtype=torch.int16))
    found = []
    for rows in trained.normalizer.encode("label", told).to(device).split(AT_ONCE):
        first = silence.expand(len(rows)).to(device)
        ids, _ = model.speak(first, {"label": rows}, model.initial(len(rows)), steps, how.temperature, generator)
        found += list(levels(trained.normalizer.decode("sample", ids).cpu().numpy()))
    return [Spoken(name, labels[name], samples) for name, samples in zip(names, found, strict=True)]


def steps_of(trained: Trained, count: int, how: Speaking, flag: str = "--count") -> int:
    """Samples of each sound. Raises SakiyomiError for what cannot be said: more than MOST sounds (which `flag` asks
    for), longer ones than LONGEST, or numbers out of their range."""
    at_least(flag, count, 1)
    at_most(flag, count, MOST)
    at_most("--seconds", how.seconds, LONGEST)
    at_least("--temperature", how.temperature, 0)
    at_least("--seed", how.seed, 0)
    at_most("--seed", how.seed, LARGEST_SEED)
    steps = round(how.seconds * rate_of(trained))
    at_least("the samples of a sound (--seconds times the rate)", steps, 1)
    return steps


def levels(samples: np.ndarray) -> np.ndarray:
    """int16 -> float32 in -1..1."""
    return (samples / FULL).astype(np.float32)


def rate_of(trained: Trained) -> int:
    """Samples a second."""
    return round(recordings(trained).streams["sample"].rate)


def rollout_sound(trained: Trained, words: str, count: int, how: Speaking, out: Path) -> tuple[list[Spoken], Path]:
    """Say the labels that hold these words, one of each where `count` is 0, into the WAV file `out`; with a picture of
    the same name. Returns the sounds and where the picture is."""
    if out.suffix.lower() != ".wav":
        raise SakiyomiError(f"--out is {str(out)!r}; sounds are written as .wav")
    store = recordings(trained)
    labels = fitting(known_labels(store), words)
    spoken = say(trained, labels, count or len(labels), how)
    write_sounds(out, spoken, rate_of(trained))
    picture = out.with_suffix(".png")
    real = [piece for entry in store.split("validation") for piece in pieces(store, entry)]
    write_atomic(picture, side_by_side(spoken, real, rate_of(trained)))
    return spoken, picture


def write_sounds(path: Path, spoken: Sequence[Spoken], rate: int) -> None:
    """One after the other, with a pause between."""
    pause = np.zeros(round(PAUSE * rate), np.float32)
    write_wav(path, np.concatenate([part for one in spoken for part in (one.samples, pause)]), rate)


def side_by_side(spoken: Sequence[Spoken], real: Sequence[Piece], rate: int) -> bytes:
    """PNG: the first sounds under recordings of the same labels."""
    columns = []
    for one in spoken[:DRAWN]:
        same = [piece for piece in real if (piece.label == one.label).all()]
        recorded = levels(same[len(columns) % len(same)].samples) if same else None
        columns.append(Spectrum(one.name, recorded, one.samples))
    return spectra(columns, rate)
