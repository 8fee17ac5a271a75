"""Where recordings come from: one named data set a file."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from sakiyomi.data.episodes import EpisodeStore


class Source(Protocol):
    """A frozen dataclass of settings that can make an episode store."""

    def record(self, out: Path, progress: Callable[[int, int], None] = ...) -> EpisodeStore:
        """Write the store; what an interrupted call wrote is kept and completed. `progress` takes done and total."""
        ...
