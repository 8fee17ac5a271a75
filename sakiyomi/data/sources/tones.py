"""Melodies of chords in noise, to see whether a recogniser works: nothing is read, nothing is fetched.

sakiyomi train tones
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from zlib import crc32

import numpy as np

from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter
from sakiyomi.data.sources.spoken_digits import RATE, add_utterance, heard, in_noise, silence, streams_of
from sakiyomi.data.vocabulary import SPECIAL, Vocabulary
from sakiyomi.errors import LARGEST_SEED, at_least, at_most

LETTERS = "abcdefghijklmnop"
LOWEST, OVERTONES = 220.0, 4  # Hz; sines of each tone
LASTS = (0.08, 0.25)  # s, a tone


@dataclass(frozen=True)
class Tones:
    """Make melodies, and the letters of their tones as what they say."""

    strings: int = 300
    """Melodies for training."""
    validation: int = 40
    """Further ones for the validation split."""
    test: int = 40
    """Further ones for the test split."""
    letters: int = 8
    """Tones there are, in whole tones from 220 Hz up."""
    most: int = 6
    """Tones of a melody, at the most; one at the least."""
    noise: float = 10.0
    """Decibels that the noise lies under the tones."""
    seed: int = 0
    """Seed of everything random."""

    def record(self, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> EpisodeStore:
        """Write the store; what is in it already is kept."""
        counts = {"train": self.strings, "validation": self.validation, "test": self.test}
        for name in ("strings", "validation", "test", "most"):
            at_least(f"--{name}", getattr(self, name), 1)
        at_least("--letters", self.letters, 2)
        at_most("--letters", self.letters, len(LETTERS))
        at_least("--seed", self.seed, 0)
        at_most("--seed", self.seed, LARGEST_SEED)
        vocabulary = Vocabulary((*SPECIAL, *LETTERS[: self.letters]))
        writer = EpisodeWriter(out, streams_of(vocabulary), {"source": "tones", **asdict(self)})
        plan = [(split, number) for split, count in counts.items() for number in range(count)]
        for done, (split, number) in enumerate(plan, 1):
            id = f"{split}-{number:05d}"
            if id not in writer.ids:
                random = np.random.default_rng((self.seed, crc32(split.encode()), number))
                letters = random.integers(0, self.letters, random.integers(1, self.most + 1))
                text = " ".join(LETTERS[letter] for letter in letters)
                frames = heard(melody(letters, random, self.noise))
                add_utterance(writer, id, split, frames, text, "generated")
            progress(done, len(plan))
        return writer.finish()


def melody(letters: np.ndarray, random: np.random.Generator, noise: float) -> np.ndarray:
    """Tones with silence before, between and after them, [N] at RATE."""
    parts: list[np.ndarray] = []
    for letter in letters:
        parts += [silence(random), tone(int(letter), random)]
    parts.append(silence(random))
    return in_noise(np.concatenate(parts), noise, random)


def tone(letter: int, random: np.random.Generator) -> np.ndarray:
    """One tone with its overtones, each of random strength and phase, that rises and falls softly."""
    time = np.arange(round(random.uniform(*LASTS) * RATE)) / RATE
    pitch = LOWEST * 2 ** (letter / 6)
    waves = [
        random.uniform(0.3, 1) * np.sin(2 * np.pi * (n * pitch * time + random.uniform()))
        for n in range(1, OVERTONES + 1)
    ]
    return 0.1 * np.sum(waves, 0) * np.hanning(len(time))
