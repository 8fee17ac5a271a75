"""Verb 1, `sakiyomi prepare NAME`: make or convert the recordings a preset learns from; and back again.

sakiyomi prepare pick --episodes 25 --out data/few
sakiyomi prepare bair softmotion30_44k --out data/bair
sakiyomi prepare deepmimic motions --out data/deepmimic
sakiyomi prepare export mocap-npz data/walk --out mocap.npz
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.formats.bvh import write_bvh
from sakiyomi.data.formats.deepmimic import DeepMimic
from sakiyomi.data.formats.exponential_maps import ExponentialMaps
from sakiyomi.data.formats.mvae_npz import MvaeNpz, write_store
from sakiyomi.data.formats.series_csv import SeriesCsv
from sakiyomi.data.sources import Source
from sakiyomi.data.sources.mocap import Mocap
from sakiyomi.errors import SakiyomiError, unknown
from sakiyomi.motion.features import decode
from sakiyomi.run import console, progress_bar
from sakiyomi.walk import skeleton_of

# What is read, by the name of its format; presets have a source of their own.
FORMATS: dict[str, Source] = {
    "mocap": Mocap(),
    "mocap-npz": MvaeNpz(),
    "deepmimic": DeepMimic(),
    "exponential-maps": ExponentialMaps(),
    "csv": SeriesCsv(),
}


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


def export_npz(store: EpisodeStore, out: Path) -> None:
    """One file, as the published motion VAE reads it."""
    write_store(out, store)


def export_bvh(store: EpisodeStore, out: Path) -> None:
    """A folder with a BVH file an episode."""
    skeleton = skeleton_of(store)
    for entry in store.entries:
        start = tuple(entry.meta.get("start", (0.0, 0.0, 0.0)))
        values = store.values(entry.id, "pose")
        clip = decode(values, skeleton, store.streams["pose"].rate, start)
        write_bvh(out / f"{entry.id}.bvh", clip)


EXPORTS: dict[str, Callable[[EpisodeStore, Path], None]] = {"mocap-npz": export_npz, "bvh": export_bvh}


def export(kind: str, store: Path, out: Path) -> None:
    """Write a store in a foreign format. Raises SakiyomiError for a format there is none of, or that cannot hold it,
    and rather than write over what is there."""
    if kind not in EXPORTS:
        raise unknown("format to export", kind, EXPORTS)
    if out.exists():
        raise SakiyomiError(f"{out} exists; name another place with --out, or remove it")
    EXPORTS[kind](EpisodeStore(store), out)
    console.print(f"{out} is written, {kind} of {store}", markup=False)
