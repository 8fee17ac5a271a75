"""Verb 1, `sakiyomi prepare NAME`: make the recordings a preset learns from.

sakiyomi prepare pick --episodes 25 --out data/few
"""

from pathlib import Path

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.sources.pick_cube import PickCubeSource
from sakiyomi.run import console, progress_bar


def prepare(source: PickCubeSource, out: Path) -> EpisodeStore:
    """Record into `out`; what an interrupted call recorded there is kept and completed.

    Raises SakiyomiError when `out` was recorded with other settings.
    """
    with progress_bar("recording", source.episodes + source.validation) as bar:
        store = source.record(out, bar.of)
    shown = sum(bool(entry.meta["success"]) for entry in store.entries)
    console.print(f"{out}: {len(store.entries)} episodes, the expert succeeded in {shown}")
    return store
