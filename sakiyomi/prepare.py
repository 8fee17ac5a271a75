"""Verb 1, `sakiyomi prepare NAME`: make or convert the recordings a preset learns from; and back again.

    sakiyomi prepare pick --episodes 25 --out data/few
    sakiyomi prepare lerobot my/dataset --out data/mine
    sakiyomi prepare my/dataset --out data/mine          # which format it is, is found out
    sakiyomi prepare export lerobot data/mine --out there

What else is done with recordings (check, record, copy) is in commands_recordings.py.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.far import as_url, is_url
from sakiyomi.data.formats import (
    aloha,
    bair,
    bridge,
    deepmimic,
    eipl,
    exponential_maps,
    folder,
    lerobot,
    mcap,
    mvae_npz,
    rmb,
    robomimic,
    series_csv,
    wav,
)
from sakiyomi.data.formats.bvh import write_bvh
from sakiyomi.data.formats.hdf5 import is_hdf5
from sakiyomi.data.formats.importing import library
from sakiyomi.data.formats.lerobot_write import write_lerobot
from sakiyomi.data.formats.rerun import write_rerun
from sakiyomi.data.sources import Source, mocap
from sakiyomi.errors import SakiyomiError, unknown
from sakiyomi.files import whole_path
from sakiyomi.motion.features import decode
from sakiyomi.run import console, progress_bar
from sakiyomi.walk import skeleton_of

# What is read, by the name of its format; presets have a source of their own.
FORMATS: dict[str, Source] = {
    "lerobot": lerobot.LeRobot(),
    "eipl": eipl.Eipl(),
    "robomimic": robomimic.Robomimic(),
    "aloha": aloha.Aloha(),
    "rmb": rmb.Rmb(),
    "mcap": mcap.Mcap(),
    "folder": folder.Folder(),
    "wav": wav.Wav(),
    "csv": series_csv.SeriesCsv(),
    "mocap": mocap.Mocap(),
    "mocap-npz": mvae_npz.MvaeNpz(),
    "deepmimic": deepmimic.DeepMimic(),
    "exponential-maps": exponential_maps.ExponentialMaps(),
}
# How the format of a path is known, cheaply. `bair` and `bridge` are presets, which read their format.
RECOGNISED: dict[str, Callable[[Path], bool]] = {
    "lerobot": lerobot.recognises,
    "eipl": eipl.recognises,
    "robomimic": robomimic.recognises,
    "aloha": aloha.recognises,
    "rmb": rmb.recognises,
    "mcap": mcap.recognises,
    "folder": folder.recognises,
    "wav": wav.recognises,
    "csv": series_csv.recognises,
    "mocap": mocap.recognises,
    "mocap-npz": mvae_npz.recognises,
    "deepmimic": deepmimic.recognises,
    "exponential-maps": exponential_maps.recognises,
    "bair": bair.recognises,
    "bridge": bridge.recognises,
}


# What is told of files that are read only when they were converted.
CURES = {
    ".bag": "is a bag of ROS 1, which is not read; bring it to MCAP of ROS 2 first, by the package rosbags, say",
    ".db3": "is a bag of ROS 2 in SQLite, which is not read; bring it to MCAP first: mcap convert BAG.db3 BAG.mcap",
    ".pth": "is a checkpoint; of EIPL's networks it is read by: sakiyomi prepare eipl-model FILE",
}
LOOKED_AT = 20  # folders in a folder that is of no known format


def recognise(path: Path) -> str:
    """The name of the format of what lies there. Raises SakiyomiError when it is none of them, or could be several."""
    if (path / "dataset.json").exists() and (path / "manifest.jsonl").exists():
        raise SakiyomiError(f"{path} is an episode store already; see: sakiyomi prepare check {path}, or copy, export")
    found = [name for name, recognises in RECOGNISED.items() if recognises(path)]
    if not found:
        raise SakiyomiError(f"{path} {_instead(path)}")
    if len(found) > 1:
        raise SakiyomiError(f"{path} may be {' or '.join(found)}; name one: sakiyomi prepare {found[0]} {path}")
    return found[0]


def _instead(path: Path) -> str:
    """What is wrong with a path whose format is not recognised, and what to do."""
    if path.is_dir() and not any(path.iterdir()):
        return "is an empty folder; name the folder, or the file, of recordings"
    if is_hdf5(path):
        library("h5py", "formats")  # says what to install
    suffix = next((one.suffix for one in (path, *path.glob("*.db3")) if one.suffix in CURES), "")
    if suffix:
        return CURES[suffix]
    told = f"is in none of the formats that are recognised ({', '.join(RECOGNISED)}); if it is in one, name it: "
    told += f"sakiyomi prepare FORMAT {path}"
    below = sorted(one for one in path.iterdir() if one.is_dir())[:LOOKED_AT] if path.is_dir() else []
    inside = [one for one in below if any(recognises(one) for recognises in RECOGNISED.values())]
    return f"{told}. In it, {inside[0].name} is; name that" if inside else told


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


def export_bvh(store: EpisodeStore, out: Path) -> None:
    """A folder with a BVH file an episode."""
    skeleton = skeleton_of(store)
    for entry in store.entries:
        start = tuple(entry.meta.get("start", (0.0, 0.0, 0.0)))
        values = store.values(entry.id, "pose")
        clip = decode(values, skeleton, store.streams["pose"].rate, start)
        write_bvh(out / f"{entry.id}.bvh", clip)


Writer = Callable[[EpisodeStore, Path], None]
"""Writes a store into a place where nothing is."""
# By format, and by how it writes pictures, the usual way first; formats without that choice have one way, "".
EXPORTS: dict[str, dict[str, Writer]] = {
    "lerobot": {
        "h264": write_lerobot,
        "av1": partial(write_lerobot, pictures="av1"),
        "png": partial(write_lerobot, pictures="png"),
    },
    "eipl": {"": eipl.write_eipl},
    "folder": {
        "png": folder.write_folder,
        "mp4": partial(folder.write_folder, pictures="mp4"),
        "mkv": partial(folder.write_folder, pictures="mkv"),
    },
    "wav": {"": wav.write_wavs},
    "rerun": {"": write_rerun},
    "bvh": {"": export_bvh},
    "mocap-npz": {"": lambda store, out: mvae_npz.write_store(out, store)},
}


def export(kind: str, store: str, out: Path, pictures: str = "") -> None:
    """Write a store in a foreign format, whole or not at all; `pictures` is one of its ways to write them. Raises
    SakiyomiError for a format or a way there is none of, for a store that it cannot hold, and rather than write over
    what is there."""
    if kind not in EXPORTS:
        raise unknown("format to export", kind, EXPORTS)
    ways = EXPORTS[kind]
    if pictures and pictures not in ways:
        raise unknown(f"way to write pictures as {kind} (--pictures)", pictures, filter(None, ways))
    if is_url(out):
        raise SakiyomiError(f"{as_url(out)} is a URL; only stores are copied there: sakiyomi prepare copy STORE URL")
    if out.exists():
        raise SakiyomiError(f"{out} exists; name another place with --out, or remove it")
    with whole_path(out) as unfinished:  # half an export looks like a small one
        ways[pictures or next(iter(ways))](EpisodeStore(store), unfinished)
    console.print(f"{out} is written, {kind} of {store}", markup=False)
