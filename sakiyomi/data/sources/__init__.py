"""Where recordings come from: one named data set a file."""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sakiyomi.data.episodes import EpisodeStore


class Source(Protocol):
    """A frozen dataclass of settings that can make an episode store."""

    def record(self, out: Path, progress: Callable[[int, int], None] = ...) -> EpisodeStore:
        """Write the store; what an interrupted call wrote is kept and completed. `progress` takes done and total."""
        ...


Shown = Generator[dict[str, np.ndarray], None, dict[str, Any]]
"""An episode as it is lived through: tick by tick one value of each stream; it returns what is to be known of it."""


def collected(shown: Shown) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A whole episode: the streams, [T, ...], and what is to be known of it."""
    frames = []
    while True:
        try:
            frames.append(next(shown))
        except StopIteration as end:
            return {name: np.stack([frame[name] for frame in frames]) for name in frames[0]}, end.value
