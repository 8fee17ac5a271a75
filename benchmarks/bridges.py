"""What is claimed about others' formats, measured: real samples are read whole; what is written comes back the same.

    python -m benchmarks.bridges               all parts
    python -m benchmarks.bridges samples       one: samples, round, doctor_defects, doctor_clean, doctor_stores, record,
                                               record_lines, reading

Each part writes benchmarks/results/formats/PART.json. The samples lie in the folder that SAKIYOMI_SAMPLES names.
"""

import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bridges_page import write_page, write_readme_rows
from benchmarks.common import measure
from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream
from sakiyomi.data.formats import mvae_npz
from sakiyomi.data.sources import Source
from sakiyomi.data.sources.digit_clips import DigitClips
from sakiyomi.data.sources.pick_cube import PickCubeSource
from sakiyomi.data.sources.tone_clips import ToneClips
from sakiyomi.data.sources.walk import GeneratedWalk
from sakiyomi.prepare import EXPORTS, FORMATS, export, recognise
from sakiyomi.presets import preset

RESULTS = Path("benchmarks/results/formats")
SAMPLES = Path(os.environ.get("SAKIYOMI_SAMPLES", "../shared/data"))


@dataclass(frozen=True)
class Sample:
    """A real recording, and how much of it there is by what its own README says."""

    path: str
    episodes: int
    frames: int
    """0 where the files have a rate each, and are brought to one when they are read."""
    more: Mapping[str, Any]
    """Settings of the reader that keep it from leaving out, mirroring or resampling."""


WHOLE = {"mirror": False}  # clips of motion are not added a second time
SAMPLE_SETS = (
    Sample("robot/groot_pick_place", 5, 416 + 470 + 470 + 412 + 328, {}),
    Sample("robot/lerobot_v1/aloha_sim_insertion_human", 1, 500, {}),
    Sample("robot/lerobot_v1/aloha_sim_insertion_scripted", 1, 400, {}),
    Sample("robot/lerobot_v1/aloha_sim_transfer_cube_human", 1, 400, {}),
    Sample("robot/lerobot_v1/aloha_sim_transfer_cube_scripted", 1, 400, {}),
    Sample("robot/lerobot_v1/pusht", 1, 161, {}),
    Sample("robot/lerobot_v1/pusht_image", 1, 161, {}),
    Sample("robot/lerobot_v1/umi_cup_in_the_wild", 1, 400, {}),
    Sample("video/bridge_train.tfrecord", 20 * 3, 200 * 3, {}),  # each of three cameras is an episode of its own
    Sample("motion/bandai_namco_1.zip", 146, 27_074, {**WHOLE, "shortest": 0.1}),
    Sample("motion/bandai_namco_2_walk_run.zip", 155, 23_293, WHOLE),
    Sample("motion/deepmimic_clips.zip", 20, 0, WHOLE),  # of humanoids; four are of dogs, which have other skeletons
    # The first row of each file is the rest pose.
    Sample("motion/cmu_expmap.zip", 45, 20_210 - 45, {**WHOLE, "rate": 120.0}),
)


def samples() -> dict[str, Any]:
    """Episodes and frames of every sample, beside those its README counts."""
    found = []
    for sample in SAMPLE_SETS:
        path = SAMPLES / sample.path
        kind = recognise(path)
        source: Any = FORMATS[kind] if kind in FORMATS else preset(kind).source
        with tempfile.TemporaryDirectory() as place:
            store = replace(source, path=str(path), **sample.more).record(Path(place) / "store")
            frames = sum(max(entry.lengths.values()) for entry in store.entries)
        told = {"sample": sample.path, "format": kind, "episodes": len(store.entries), "frames": frames}
        found.append({**told, "said_episodes": sample.episodes, "said_frames": sample.frames})
    return {"samples": found}


def streams_by_rate(folder: Path) -> EpisodeStore:
    """Recordings of every type of number on one clock, for formats that keep any of them."""
    kinds = {"joints": "float32", "command": "float32", "far": "float64", "count": "int64", "force": "float32"}
    streams = {
        name: Stream("scalar" if name not in ("joints", "command") else "joints", (3,), kind, 20.0)
        for name, kind in kinds.items()
    }
    writer, random = EpisodeWriter(folder, streams), np.random.default_rng(0)
    for number in range(4):
        clock = np.arange(40 + number) / 20
        values = {name: (1000 * random.normal(size=(len(clock), 3))).astype(kind) for name, kind in kinds.items()}
        writer.add(f"{number:05d}", values, dict.fromkeys(kinds, clock), "validation" if number == 3 else "train")
    return writer.finish()


def robot(folder: Path) -> EpisodeStore:
    """The arm's own demonstrations, pictures as its camera sees them."""
    return PickCubeSource(episodes=3, validation=1, image_size=128).record(folder)


def sounds(folder: Path) -> EpisodeStore:
    """Recordings of spoken digits; tones where there are none."""
    fsdd = SAMPLES / "audio/fsdd.npz"
    source: Source = DigitClips(str(fsdd)) if fsdd.exists() else ToneClips()
    return source.record(folder)


def walks(folder: Path) -> EpisodeStore:
    """Motion of a generated body."""
    return GeneratedWalk(clips=2, validation=1, test=1, seconds=5).record(folder)


def published(folder: Path) -> EpisodeStore:
    """The same in the 267 numbers a frame that a mocap.npz holds."""
    walks(folder.with_name("walks"))
    export("mocap-npz", str(folder.with_name("walks")), folder.with_name("first.npz"))
    return mvae_npz.MvaeNpz(str(folder.with_name("first.npz"))).record(folder)


ROUNDS = (
    ("lerobot", "png", robot),
    ("lerobot", "h264", robot),
    ("lerobot", "av1", robot),
    ("lerobot", "png", streams_by_rate),
    ("eipl", "", robot),
    ("folder", "png", robot),
    ("folder", "mkv", robot),
    ("folder", "mp4", robot),
    ("folder", "png", streams_by_rate),
    ("wav", "", sounds),
    ("mocap-npz", "", published),
    ("bvh", "", walks),
)
"""Format, how pictures are written, and what is."""


def round_trips() -> dict[str, Any]:
    """store -> format -> store: how far each stream is from what it was, pictures in dB of PSNR."""
    found = []
    for kind, pictures, make in ROUNDS:
        with tempfile.TemporaryDirectory() as place:
            store = make(Path(place) / "store")
            out = Path(place) / ("there.npz" if kind == "mocap-npz" else "there")
            export(kind, str(store.folder), out, pictures)
            reader: Any = FORMATS["mocap" if kind == "bvh" else kind]
            more = WHOLE if kind == "bvh" else {}
            back = replace(reader, path=str(out), **more).record(Path(place) / "back")
            size = sum(file.stat().st_size for file in ([out] if out.is_file() else out.rglob("*")) if file.is_file())
            told = {"format": kind, "pictures": pictures, "recordings": make.__name__, "bytes": size}
            found.append({**told, "streams": differences(store, back)})
    return {"rounds": found, "formats_written": sorted(EXPORTS)}


def differences(store: EpisodeStore, back: EpisodeStore) -> dict[str, Any]:
    """By stream, over all episodes, which come back in an order of their own: the largest difference, or for pictures
    that changed the lowest PSNR of an episode; and whether every bit is the same."""
    told: dict[str, Any] = {}
    partners = {entry.id: _partner(store, entry.id, back) for entry in store.entries}
    for name, stream in store.streams.items():
        if name not in back.streams:
            told[name] = {"kept": False}
            continue
        pairs = [(store.values(id, name), back.values(other, name)) for id, other in partners.items()]
        same = all(a.shape == b.shape and a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)
        told[name] = {"kept": True, "same": same}
        if same:
            continue
        off = [a.astype(float) - b.astype(float) for a, b in pairs]
        if stream.kind == "image":
            told[name]["psnr"] = min(float(10 * np.log10(255**2 / np.mean(one**2))) for one in off)
        else:
            told[name]["largest"] = max(float(np.abs(one).max()) for one in off)
    return told


def _partner(store: EpisodeStore, id: str, back: EpisodeStore) -> str:
    """The episode that came back of this one: of the same name, or as long as it and the nearest in its numbers."""
    if id in {entry.id for entry in back.entries}:
        return id
    name = next(n for n, stream in store.streams.items() if stream.kind != "image" and n in back.streams)
    values = store.values(id, name).astype(float)
    near = [entry.id for entry in back.entries if entry.lengths[name] == len(values)]
    return min(near, key=lambda other: float(np.abs(back.values(other, name) - values).max()))


def write() -> None:
    write_page(RESULTS, Path("docs/recordings-benchmarks.md"))
    write_readme_rows(RESULTS, Path("README.md"))


if __name__ == "__main__":
    from benchmarks import doctor, reading, record  # each has a file of its own, and its own dependencies

    parts = {
        "samples": samples,
        "round": round_trips,
        "doctor_defects": doctor.defects,
        "doctor_clean": doctor.clean_stores,
        "doctor_stores": doctor.own_stores,
        "record": record.record,
        "record_lines": record.record_lines,
        "reading": reading.measured,
    }
    measure(parts, RESULTS, sys.argv[1:], write)
