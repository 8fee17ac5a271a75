"""Single tones as sound, each with its letter, to see whether a voice learns: nothing is read, nothing is fetched.

sakiyomi train say-tones
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from zlib import crc32

import numpy as np

from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter
from sakiyomi.data.sources.digit_clips import add_clips, one_hot, streams_of
from sakiyomi.data.sources.spoken_digits import in_noise
from sakiyomi.data.sources.tones import LETTERS, tone
from sakiyomi.errors import LARGEST_SEED, at_least, at_most

APART = 3  # whole tones from one letter to the next
UNDER = 30.0  # dB that noise lies under a tone: so that its soft beginning is not taken for the silence after it


@dataclass(frozen=True)
class ToneClips:
    """Make tones, and the letter of each."""

    clips: int = 160
    """Tones for training."""
    validation: int = 16
    """Further ones for the validation split."""
    test: int = 40
    """Further ones for the test split."""
    letters: int = 3
    """Different tones, three whole tones apart, from 220 Hz up."""
    seed: int = 0
    """Seed of everything random."""

    def record(self, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> EpisodeStore:
        """Write the store, one episode a split; what is in it already is kept."""
        counts = {"train": self.clips, "validation": self.validation, "test": self.test}
        at_least("--letters", self.letters, 2)
        at_most("--letters", self.letters, len(LETTERS) // APART)
        for name in ("clips", "validation", "test"):
            at_least(f"--{name}", getattr(self, name), self.letters)
        at_least("--seed", self.seed, 0)
        at_most("--seed", self.seed, LARGEST_SEED)
        names = tuple(LETTERS[: self.letters])
        writer = EpisodeWriter(out, streams_of(names), {"source": "tone_clips", **asdict(self)})
        for done, (split, count) in enumerate(counts.items(), 1):
            if split not in writer.ids:
                random = np.random.default_rng((self.seed, crc32(split.encode())))
                said = [number % self.letters for number in range(count)]
                clips = [in_noise(tone(APART * letter, random), UNDER, random) for letter in said]
                add_clips(writer, split, split, clips, [one_hot(names, names[letter]) for letter in said])
            progress(done, len(counts))
        return writer.finish()
