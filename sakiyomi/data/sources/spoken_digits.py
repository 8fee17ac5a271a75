"""Strings of spoken digits: clips of one speaker one after the other, with the names of the digits as what they say.

    sakiyomi prepare spoken-digits fsdd.npz
    sakiyomi prepare spoken-digits recordings --unseen theo     # a folder of 7_theo_12.wav and so on

The clips are those of the Free Spoken Digit Dataset (CC BY-SA 4.0) or one's own of the same names: digit, speaker,
number. All clips of one speaker, who is not heard in training, make the test split; of the others, clips with a number
under 5 make the validation split. For training a few speakers stand for many: each string is made
faster or slower, louder or quieter, put into more or less noise, and heard through another microphone; and each of
its digits is said by anybody, in a pitch of its own.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from zipfile import BadZipFile
from zlib import crc32

import numpy as np
import torch
import tyro

from sakiyomi.audio.spectrum import Frames, Mel, log_mel
from sakiyomi.audio.wave import read_sound, silent
from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream
from sakiyomi.data.formats.importing import digest, given
from sakiyomi.data.vocabulary import EOS, SPECIAL, Vocabulary
from sakiyomi.errors import LARGEST_SEED, SakiyomiError, at_least, at_most, unknown
from sakiyomi.run import console

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
RATE = 8000  # samples a second
# 50 frames a second, each of 40 ms; so few bands that they hardly tell how high a voice is.
MEL = Mel(rate=RATE, frames=Frames(size=320, hop=160), bands=26, low=80.0)
TOLD = 5  # so many of the files that something is noticed of are named
HELD = 5  # clips of a digit and speaker with a number under this are for validation
NEEDED = ("samples", "offsets", "speaker", "digit", "index", "rate")
GAP = (0.05, 0.3)  # s between digits
CLEAN, QUIET = 40.0, 50.0  # dB that noise lies under the voice: where nothing is varied, and at the most


@dataclass(frozen=True)
class Clip:
    """One digit said once."""

    speaker: str
    digit: int
    number: int
    samples: np.ndarray
    """float32 [N] in -1..1 at RATE."""


@dataclass(frozen=True)
class Varied:
    """By how much strings for training differ from what was recorded."""

    pitch: float = 0.12
    """They are higher or deeper, throat and all, by up to this share."""
    pace: float = 0.25
    """They are faster or slower by up to this share."""
    dynamics: float = 0.4
    """What is weak in them is weaker or stronger by up to this share of its dB under what is strong."""
    gain: float = 12.0
    """They are louder or quieter by up to so many dB."""
    noise: float = 30.0
    """White noise lies at least so many dB under the voice, and up to 50."""
    microphone: float = 3.0
    """Deviation, dB, of each of three waves over the bands that a microphone adds."""


@dataclass(frozen=True)
class SpokenDigits:
    """Put strings of spoken digits together."""

    path: tyro.conf.Positional[str] = ""
    """fsdd.npz, or a folder of sound files named DIGIT_SPEAKER_NUMBER.wav."""
    unseen: str = ""
    """The speaker of the test split; without one it follows from the names."""
    strings: int = 4000
    """Strings for training."""
    validation: int = 100
    """Further ones for the validation split."""
    test: int = 200
    """Further ones for the test split, of the unseen speaker."""
    most: int = 7
    """Digits of a string, at the most; one at the least."""
    varied: Varied = Varied()
    """What is done to the strings for training."""
    seed: int = 0
    """Seed of everything random."""

    def record(self, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> EpisodeStore:
        """Write the store; what is in it already is kept. Raises SakiyomiError for clips that are none, and for a
        speaker who is not there."""
        for name in ("strings", "validation", "test", "most"):
            at_least(f"--{name}", getattr(self, name), 1)
        at_least("--seed", self.seed, 0)
        at_most("--seed", self.seed, LARGEST_SEED)
        clips = read_clips(given(self.path, "fsdd.npz or a folder of clips such as 7_theo_12.wav"))
        speakers = sorted({clip.speaker for clip in clips}, key=lambda name: (crc32(name.encode()), name))
        unseen = self.unseen or speakers[0]
        if unseen not in speakers:
            raise unknown("speaker (--unseen)", unseen, speakers)
        parts = {
            "train": ([c for c in clips if c.speaker != unseen and c.number >= HELD], self.strings),
            "validation": ([c for c in clips if c.speaker != unseen and c.number < HELD], self.validation),
            "test": ([c for c in clips if c.speaker == unseen], self.test),
        }
        for split, (chosen, _) in parts.items():
            if not chosen:
                raise SakiyomiError(
                    f"no clip is left for {split}: {len(clips)} clips of {', '.join(speakers)}; two speakers are "
                    f"needed, and of each digit clips numbered from 0 to {HELD} and more"
                )
        vocabulary = Vocabulary((*SPECIAL, *NAMES))
        origin = {"source": "spoken_digits", **{k: v for k, v in asdict(self).items() if k != "path"}}
        writer = EpisodeWriter(
            out, streams_of(vocabulary), {**origin, "unseen": unseen, "sha256": digest([Path(self.path)])}
        )
        done = 0
        for split, (chosen, count) in parts.items():
            for number in range(count):
                if f"{split}-{number:05d}" not in writer.ids:
                    random = np.random.default_rng((self.seed, crc32(split.encode()), number))
                    said = self._string(random, chosen, anybody=split == "train")
                    frames = varied(said, self.varied, random) if split == "train" else plain(said, random)
                    text = " ".join(NAMES[clip.digit] for clip in said)
                    speaker = "several" if split == "train" else said[0].speaker
                    add_utterance(writer, f"{split}-{number:05d}", split, frames, text, speaker)
                done += 1
                progress(done, sum(count for _, count in parts.values()))
        return writer.finish()

    def _string(self, random: np.random.Generator, clips: Sequence[Clip], anybody: bool) -> list[Clip]:
        """What a string consists of: clips of one speaker, or each of anybody."""
        speaker = str(random.choice(sorted({clip.speaker for clip in clips})))
        known = [clip for clip in clips if anybody or clip.speaker == speaker]
        return [known[int(random.integers(len(known)))] for _ in range(random.integers(1, self.most + 1))]


def read_clips(path: Path) -> list[Clip]:
    """All clips of a file or folder. Raises SakiyomiError when it holds none."""
    clips = from_folder(path) if path.is_dir() else from_npz(path)
    wrong = [clip.digit for clip in clips if not 0 <= clip.digit <= 9]
    if wrong or not clips:
        raise SakiyomiError(f"{path} holds {f'digit {wrong[0]}' if wrong else 'no clip'}; clips are of digits 0 to 9")
    return clips


def from_npz(path: Path) -> list[Clip]:
    """Clip i is samples offsets[i] to offsets[i + 1], int16."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: archive[name] for name in NEEDED if name in archive}
    except (OSError, ValueError, BadZipFile) as error:
        raise SakiyomiError(f"{path} is no .npz of arrays ({error}); name fsdd.npz or a folder of clips") from error
    missing = [name for name in NEEDED if name not in found]
    if missing:
        raise SakiyomiError(f"{path} has no {', '.join(missing)}; needed: {', '.join(NEEDED)}")
    if int(found["rate"]) != RATE or found["samples"].dtype != np.int16:
        raise SakiyomiError(
            f"{path} holds {found['samples'].dtype} at {int(found['rate'])} Hz; expected int16 at {RATE} Hz"
        )
    offsets, counts = found["offsets"], {name: len(found[name]) for name in ("speaker", "digit", "index")}
    right = (
        len(offsets) > 1 and offsets[0] == 0 and offsets[-1] == len(found["samples"]) and (np.diff(offsets) > 0).all()
    )
    if not right or set(counts.values()) != {len(offsets) - 1}:
        raise SakiyomiError(
            f"{path}: {len(offsets)} offsets for {len(found['samples'])} samples and {counts}; expected one clip after "
            "the other, each of a sample at least, from the first sample to the last"
        )
    pieces = np.split(found["samples"].astype(np.float32) / 2**15, found["offsets"][1:-1])
    names = zip(found["speaker"], found["digit"], found["index"], pieces, strict=True)
    return [Clip(str(speaker), int(digit), int(index), piece) for speaker, digit, index, piece in names]


def from_folder(folder: Path) -> list[Clip]:
    """Files DIGIT_SPEAKER_NUMBER.wav, of any rate."""
    clips, others, notes = [], [], []
    for file in sorted(folder.iterdir()):
        found = re.fullmatch(r"(\d)_(.+)_(\d+)\.(wav|flac|ogg)", file.name, re.IGNORECASE)
        if not found:
            others.append(file.name)
            continue
        digit, speaker, number, _ = found.groups()
        sound = read_sound(file, RATE)
        notes += [f"{file.name}: {note}" for note in sound.notes]
        if silent(sound.samples):
            others.append(file.name)
            continue
        clips.append(Clip(speaker, int(digit), int(number), sound.samples))
    told = {
        "left out, silent or of another name than DIGIT_SPEAKER_NUMBER.wav": others,
        "noticed": notes,
    }
    for what, names in told.items():
        if names:
            more = f", and {len(names) - TOLD} more" if len(names) > TOLD else ""
            console.print(f"{what}: {', '.join(names[:TOLD])}{more}", style="yellow", markup=False, soft_wrap=True)
    return clips


# ---- Making utterances of sound --------------------------------------------------------------------------------------


def streams_of(vocabulary: Vocabulary) -> dict[str, Stream]:
    """`feature`, the log of the mel bands in dB, and `transcript`, words of the vocabulary."""
    rate = MEL.rate / MEL.frames.hop
    return {
        "feature": Stream("scalar", (MEL.bands,), "float32", rate, "dB", sound=MEL),
        "transcript": Stream("token", (), "int32", 1.0, vocabulary=vocabulary),
    }


def add_utterance(writer: EpisodeWriter, id: str, split: str, frames: np.ndarray, text: str, speaker: str) -> None:
    """Frames [T, M] and what they say, as an episode."""
    rate, vocabulary = writer.streams["feature"].rate, writer.streams["transcript"].vocabulary
    ids = np.array([*(vocabulary.encode(text) if vocabulary else ()), EOS], np.int32)
    clocks = {"feature": np.arange(len(frames)) / rate, "transcript": np.arange(len(ids), dtype=float)}
    meta = {"transcript": text, "speaker": speaker}
    writer.add(id, {"feature": frames, "transcript": ids}, clocks, split, meta)


def heard(samples: np.ndarray) -> np.ndarray:
    """Samples [N] in -1..1, what is beyond is cut off -> frames [T, M], dB."""
    return log_mel(torch.from_numpy(samples.clip(-1, 1).astype(np.float32)), MEL).numpy()


def plain(said: Sequence[Clip], random: np.random.Generator) -> np.ndarray:
    """Frames of clips as they are, in a little noise."""
    return heard(in_noise(side_by_side([clip.samples for clip in said], random), CLEAN, random))


def varied(said: Sequence[Clip], how: Varied, random: np.random.Generator) -> np.ndarray:
    """Frames of clips as somebody else might have said them, each of them another, and elsewhere."""
    pitched = [stretched(clip.samples[:, None], 1 + random.uniform(-how.pitch, how.pitch))[:, 0] for clip in said]
    spoken = [expanded(samples, random.uniform(-how.dynamics, how.dynamics)) for samples in pitched]
    samples = in_noise(side_by_side(spoken, random), random.uniform(how.noise, QUIET), random)
    frames = heard(samples * 10 ** (random.uniform(-how.gain, how.gain) / 20))
    frames = stretched(frames, 1 + random.uniform(-how.pace, how.pace))
    bands = np.arange(frames.shape[1]) / frames.shape[1]
    waves = [random.normal(0, how.microphone) * np.cos(np.pi * n * bands) for n in (1, 2, 3)]
    return (frames + np.sum(waves, 0)).astype(np.float32)


def side_by_side(clips: Sequence[np.ndarray], random: np.random.Generator) -> np.ndarray:
    """Clips [N] one after the other, each brought to one loudness, with silence before, between and after."""
    parts: list[np.ndarray] = [silence(random)]
    for clip in clips:
        parts += [clip * (0.1 / max(_loudness(clip), 1e-6)), silence(random)]
    return np.concatenate(parts)


def silence(random: np.random.Generator) -> np.ndarray:
    """Of the length of a gap, [N]."""
    return np.zeros(round(random.uniform(*GAP) * RATE), np.float32)


def stretched(values: np.ndarray, times: float) -> np.ndarray:
    """Values [N, C] read so many times as fast (samples: and so that much higher); linear in between."""
    places, line = np.arange(0, len(values) - 1, times), np.arange(len(values))
    return np.stack([np.interp(places, line, column) for column in values.T], 1)


def expanded(samples: np.ndarray, more: float) -> np.ndarray:
    """Samples [N] in which what is d dB under the loudest is `more` d dB further under it; less than 0 lifts it."""
    around = min(len(samples), round(0.02 * RATE))
    loud = np.sqrt(np.convolve(samples**2, np.ones(around) / around, "same")) + 1e-4
    return samples * (loud / loud.max()) ** more


def in_noise(samples: np.ndarray, under: float, random: np.random.Generator) -> np.ndarray:
    """Samples with white noise `under` dB under them."""
    return samples + random.standard_normal(len(samples)) * _loudness(samples) * 10 ** (-under / 20)


def _loudness(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
