"""Single spoken digits as sound, each with the digit and the speaker: to learn to say them.

    sakiyomi prepare say-digits fsdd.npz
    sakiyomi prepare say-digits recordings      # a folder of 7_theo_12.wav and so on

The clips are those of `spoken_digits.py`. Of each digit and speaker, clips numbered 0 to 4 make the test split, 5 to 7
the validation split, the rest is for training.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream
from sakiyomi.data.formats.importing import digest, given
from sakiyomi.data.sources.spoken_digits import HELD, RATE, Clip, read_clips
from sakiyomi.errors import SakiyomiError

# Clips numbered under this, and not under the one before it. A recogniser of digits learns from none of the first ones
# either, so that it can be asked about what the voice says.
TEST, VALIDATION = HELD, HELD + 3
LOUD = 0.1  # the root mean square that each clip is brought to, of full scale


@dataclass(frozen=True)
class DigitClips:
    """Put single spoken digits in order."""

    path: tyro.conf.Positional[str] = ""
    """fsdd.npz, or a folder of sound files named DIGIT_SPEAKER_NUMBER.wav."""

    def record(self, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> EpisodeStore:
        """Write the store, an episode for each speaker and split; what is in it already is kept."""
        clips = read_clips(given(self.path, "fsdd.npz or a folder of clips such as 7_theo_12.wav"))
        speakers = sorted({clip.speaker for clip in clips})
        digits = sorted({clip.digit for clip in clips})
        names = (*map(str, digits), *speakers)
        writer = EpisodeWriter(out, streams_of(names), {"source": "digit_clips", "sha256": digest([Path(self.path)])})
        plan = [(split, speaker) for split in ("train", "validation", "test") for speaker in speakers]
        for done, (split, speaker) in enumerate(plan, 1):
            chosen = [clip for clip in clips if clip.speaker == speaker and split_of(clip) == split]
            if not chosen:
                raise SakiyomiError(
                    f"no clip of {speaker} is left for {split}; of each digit and speaker clips numbered from 0 to "
                    f"{VALIDATION} and more are needed"
                )
            if f"{split}-{speaker}" not in writer.ids:
                labels = [one_hot(names, str(clip.digit), speaker) for clip in chosen]
                add_clips(writer, f"{split}-{speaker}", split, [clip.samples for clip in chosen], labels)
            progress(done, len(plan))
        return writer.finish()


def split_of(clip: Clip) -> str:
    return "test" if clip.number < TEST else "validation" if clip.number < VALIDATION else "train"


def streams_of(names: tuple[str, ...]) -> dict[str, Stream]:
    """`sample`, 16 bits, and `label`, which of these words are true of a clip."""
    return {
        "sample": Stream("audio", (), "int16", RATE),
        "label": Stream("label", (len(names),), "float32", 1.0, names=names),
    }


def one_hot(names: tuple[str, ...], *words: str) -> np.ndarray:
    """float32 [L], 1 for each of the words."""
    return np.array([name in words for name in names], np.float32)


def add_clips(writer: EpisodeWriter, id: str, split: str, clips: list[np.ndarray], labels: list[np.ndarray]) -> None:
    """Clips [N] in -1..1 and their labels [L], as one episode; each clip is brought to one loudness."""
    levels = [np.rint((_level(clip)).clip(-1, 1 - 2**-15) * 2**15).astype(np.int16) for clip in clips]
    ends = np.cumsum([len(clip) for clip in clips])
    begins = np.concatenate(([0], ends[:-1]))
    values = {"sample": np.concatenate(levels), "label": np.stack(labels)}
    writer.add(id, values, {"sample": np.arange(ends[-1]) / RATE, "label": begins / RATE}, split)


def _level(clip: np.ndarray) -> np.ndarray:
    loudness = float(np.sqrt(np.mean(np.square(clip, dtype=np.float64))))
    return clip * (LOUD / max(loudness, 1e-6))
