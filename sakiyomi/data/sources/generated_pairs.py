"""Sentence pairs made by a rule, to see whether a translator learns it: nothing is read, nothing is fetched.

sakiyomi train reverse
sakiyomi rollout reverse --text "d a c b"
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter
from sakiyomi.data.sources.text import add_pairs, streams_of
from sakiyomi.errors import LARGEST_SEED, SakiyomiError, at_least, at_most

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class GeneratedPairs:
    """Letters said again, letters said backwards, or the sum of two numbers, digit by digit."""

    task: Literal["copy", "reverse", "add"] = "reverse"
    """What becomes of the source: the same, the same backwards, or the sum of two numbers."""
    pairs: int = 4000
    """Pairs for training."""
    held_out: int = 200
    """Pairs for validation; none of them is among those for training."""
    letters: int = 10
    """Letters there are, of copy and reverse."""
    longest: int = 8
    """Letters of a source at the most, or digits of a number."""
    seed: int = 0
    """Seed of the pairs."""

    def record(self, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> EpisodeStore:
        """Write the store; what is in it already is kept. Raises SakiyomiError where there are not as many pairs."""
        for name in ("pairs", "held_out", "longest"):
            at_least(f"--{name.replace('_', '-')}", getattr(self, name), 1)
        at_least("--letters", self.letters, 2)
        at_most("--letters", self.letters, len(LETTERS))
        at_least("--seed", self.seed, 0)
        at_most("--seed", self.seed, LARGEST_SEED)
        drawn = self._drawn()
        parts = {"train": drawn[self.held_out :], "validation": drawn[: self.held_out]}
        writer = EpisodeWriter(out, streams_of(parts["train"]), origin=vars(self))
        for done, (split, pairs) in enumerate(parts.items(), 1):
            add_pairs(writer, split, split, pairs)
            progress(done, len(parts))
        return writer.finish()

    def _drawn(self) -> list[tuple[str, str]]:
        """Pairs with sources that differ, in the order in which they were drawn."""
        random, found = np.random.default_rng(self.seed), {}
        wanted = self.pairs + self.held_out
        for _ in range(50 * wanted):
            source = self._source(random)
            found[source] = self._target(source)
            if len(found) == wanted:
                return list(found.items())
        raise SakiyomiError(
            f"{wanted} pairs asked for, but --longest {self.longest} makes hardly more than {len(found)}; ask "
            "for fewer pairs, or for longer ones"
        )

    def _source(self, random: np.random.Generator) -> str:
        if self.task == "add":
            a, b = (random.integers(0, 10 ** random.integers(1, self.longest + 1)) for _ in range(2))
            return " ".join(f"{a}+{b}")
        return " ".join(random.choice(list(LETTERS[: self.letters]), random.integers(1, self.longest + 1)))

    def _target(self, source: str) -> str:
        if self.task == "add":
            a, b = source.replace(" ", "").split("+")
            return " ".join(str(int(a) + int(b)))
        words = source.split()
        return " ".join(words if self.task == "copy" else reversed(words))
