"""Verb 1, `sakiyomi prepare NAME`: make or convert the recordings a preset learns from.

sakiyomi prepare pick --episodes 25 --out data/few
sakiyomi prepare bair softmotion30_44k --out data/bair
"""

from collections import Counter
from pathlib import Path

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.sources import Source
from sakiyomi.run import console, progress_bar


def prepare(source: Source, out: Path) -> EpisodeStore:
    """Record into `out`; what an interrupted call recorded there is kept and completed.

    Raises SakiyomiError when `out` was recorded with other settings, and when parts of what is read are damaged;
    the rest is in `out` then.
    """
    with progress_bar("recording", 1) as bar:
        store = source.record(out, lambda done, total: bar.of(done, total, "recording"))
    splits = Counter(entry.split for entry in store.entries)
    told = ", ".join(f"{count} {split}" for split, count in splits.items())
    shown = [bool(entry.meta["success"]) for entry in store.entries if "success" in entry.meta]
    succeeded = f"; the expert succeeded in {sum(shown)} of {len(shown)}" if shown else ""
    console.print(f"{out}: {len(store.entries)} episodes ({told}){succeeded}")
    return store
