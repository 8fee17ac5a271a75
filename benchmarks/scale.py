"""Ten million episodes: what they weigh, and what a step, a trial and a visitor cost then.

    python -m benchmarks.scale              writes docs/scale.md and its picture from benchmarks/results
    python -m benchmarks.scale measure      first measures what no other benchmark does; some 40 s

Nothing here was run on more than this machine. The page is arithmetic: from what is measured here, and from the
assumptions of ASSUMED, which say where they are from. The functions of this file are the arithmetic; scale_page.py
writes it down.
"""

import gc
import json
import math
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from benchmarks.common import machine
from benchmarks.reading import answer, memory
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.formats.video import write_video
from sakiyomi.data.records import file_of
from sakiyomi.data.sources.pick_cube import PickCubeSource
from sakiyomi.errors import SakiyomiError, unknown
from sakiyomi.files import write_atomic
from sakiyomi.job import build
from sakiyomi.presets import preset

RESULTS = Path("benchmarks/results")
PAGE = Path("docs/scale.md")
LINES = (10_000, 100_000, 1_000_000)  # of manifests that are read
SIZES = (64, 128)  # pixels
SHOWN = 4  # demonstrations recorded of each size
FACTORS = (5, 23)  # h264's rate factors: what `write_video` takes, and the encoder's own
TICKS = 200  # of a world, timed
MODELS = ("pick", "mnist", "push")  # presets that need no recordings to be built; push is the largest there is


@dataclass(frozen=True)
class Assumed:
    """A figure that nobody measured here."""

    name: str
    value: float
    unit: str
    why: str


EPISODES = Assumed("episodes", 1e7, "", "what is asked")
LENGTHS = (100, 187)  # steps of an episode
FASTER = Assumed("a GPU against this machine", 100, "times", "a guess, until the same step is measured on one")
OBJECT_GET = Assumed("a million GET requests", 0.40, "$", "list price of a large object store, standard class")
OBJECT_PUT = Assumed("a million PUT requests", 5.00, "$", "the same list")
OBJECT_MONTH = Assumed("a GB for a month", 0.023, "$", "the same list; reading from the same region is free")
CORE_HOUR = Assumed("a core for an hour", 0.05, "$", "list price of a rented virtual machine, on demand, by core")
PREFIX_RATE = Assumed("GET requests of one folder", 5500, "1/s", "what a large object store promises a prefix")
FIRST_BYTE = Assumed("until a request's first byte", 0.030, "s", "usual for object stores in the same region")
DISK = Assumed("a machine's own disk", 4e12, "bytes", "one NVMe drive")
DISK_RATE = Assumed("writing to a shared disk", 1e9, "bytes/s", "one client of a network file system")
BUSY = Assumed("how busy a server may be", 0.5, "of its time", "so that a step seldom waits for another session's")
MACHINE_FAILS = Assumed("until a machine fails", 20_000, "h", "once in about two years")
ASSUMED = (
    EPISODES,
    FASTER,
    OBJECT_GET,
    OBJECT_PUT,
    OBJECT_MONTH,
    CORE_HOUR,
    PREFIX_RATE,
    FIRST_BYTE,
    DISK,
    DISK_RATE,
    BUSY,
    MACHINE_FAILS,
)


@dataclass(frozen=True)
class Link:
    """What joins two neighbours of a ring."""

    name: str
    rate: float
    """bytes/s each way that a collective gets: nominal."""
    latency: float
    """s a message takes, whatever its size."""
    reach: float = math.inf
    """Devices it joins at most."""


LINKS = (
    Link("10 GbE", 1.25e9, 50e-6),
    Link("100 GbE", 12.5e9, 10e-6),
    Link("NVLink", 450e9, 5e-6, reach=8),
)


def ring_seconds(bytes: float, devices: int, link: Link) -> float:
    """Seconds of a ring all-reduce: each device sends 2 (N - 1) parts of 1/N of the bytes, one after the other
    (Patarasuk and Yuan 2009)."""
    return 2 * (devices - 1) * (bytes / devices / link.rate + link.latency)


def efficiency(step: float, exchange: float) -> float:
    """The share of a step that is computing, where nothing is sent meanwhile. DDP does send meanwhile: a bound."""
    return step / (step + exchange)


def most_devices(step: float, bytes: float, link: Link, least: float = 0.9) -> float:
    """The largest number of devices at which the efficiency is still `least`; inf where it always is.

    By halving: the time of the ring grows with N.
    """
    if efficiency(step, ring_seconds(bytes, 1 << 40, link)) >= least:
        return math.inf
    low, high = 1, 1 << 40
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if efficiency(step, ring_seconds(bytes, middle, link)) >= least else (low, middle)
    return low


def training_bytes(parameters: float, devices: int, sharded: str = "nothing") -> float:
    """Bytes a device holds of float32 weights, gradients and Adam's two moments; `sharded`: nothing, optimizer (ZeRO 1)
    or all (FSDP2: ZeRO 3). Raises SakiyomiError for another word."""
    whole = {"nothing": 16, "optimizer": 8, "all": 0}
    if sharded not in whole:
        raise unknown("way to shard", sharded, whole)
    return parameters * (whole[sharded] + (16 - whole[sharded]) / devices)


def checkpoint_every(cost: float, fails: float) -> float:
    """Seconds between checkpoints that lose least: sqrt(2 C M), for a checkpoint of C s and a failure every M s
    (Young 1974)."""
    return math.sqrt(2 * cost * fails)


def lost(cost: float, fails: float) -> float:
    """The share of the time that goes into checkpoints, and into doing again what was since the last one."""
    every = checkpoint_every(cost, fails)
    return cost / every + every / (2 * fails)


def picture_bytes(side: int, steps: int) -> int:
    """Of an episode's pictures, uint8 RGB."""
    return 3 * side * side * steps


def sessions(seconds: float, rate: float) -> int:
    """How many policies that need `seconds` a step at `rate` Hz one core drives."""
    return math.floor(1 / (seconds * rate))


def line_through(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Slope and offset of the least-squares line; what is extrapolated is read off it."""
    across, up = np.array(points, dtype=float).T
    slope, offset = np.polyfit(across, up, 1)
    return float(slope), float(offset)


def measured() -> dict[str, Any]:
    """What no other benchmark measures."""
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="sakiyomi-scale-"))
    try:
        episodes = {str(side): recorded(folder / str(side), side) for side in SIZES}
        return {
            "episodes": episodes,
            "manifest": {str(lines): manifest(folder, lines) for lines in LINES},
            "parameters": {name: parameters(name) for name in MODELS},
            "machine": machine(),
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def recorded(folder: Path, side: int) -> dict[str, Any]:
    """Demonstrations in MuJoCo at this size: what one takes and weighs, and its pictures as video."""
    begin = time.perf_counter()
    store = PickCubeSource(episodes=SHOWN, validation=1, image_size=side).record(folder)
    seconds = time.perf_counter() - begin
    steps = store.entries[0].lengths["image"]
    films = {}
    for factor in FACTORS:
        sizes = []
        for entry in store.entries:
            path = folder / "film.mp4"
            write_video(path, store.values(entry.id, "image"), 10.0, "h264", factor)
            sizes.append(path.stat().st_size)
            path.unlink()
        films[str(factor)] = statistics.mean(sizes) / steps
    lines = (folder / "manifest.jsonl").read_bytes().splitlines(keepends=True)
    return {
        "seconds_a_demonstration": seconds / len(store.entries),
        "seconds_a_tick": tick_seconds(side),
        "steps": steps,
        "bytes": statistics.mean(entry.bytes for entry in store.entries),
        "bytes_a_line": statistics.mean(map(len, lines)),
        "video_bytes_a_frame": films,
    }


def tick_seconds(side: int) -> float:
    """Median seconds of one tick of the world, physics and picture."""
    from sakiyomi.worlds.pick_cube import PickCube  # needs a renderer; the arithmetic does not

    world = PickCube(image_size=side)
    observation, _ = world.reset(seed=0)
    action, taken = observation["joints"], []
    for _ in range(TICKS):
        begin = time.perf_counter()
        world.step(action)
        taken.append(time.perf_counter() - begin)
    world.close()
    return statistics.median(taken)


def manifest(folder: Path, lines: int) -> dict[str, float]:
    """What it costs to open a store whose manifest has so many lines, in a process of its own; none of its files is
    opened. The lines are a real one's, each with its own id."""
    store = EpisodeStore(folder / str(SIZES[0]))
    large = folder / f"lines-{lines}"
    large.mkdir()
    shutil.copy(store.folder / "dataset.json", large)
    with (large / "manifest.jsonl").open("wb") as file:
        for number in range(lines):
            id = f"{number:08d}"
            line = replace(store.entries[0], id=id, file=file_of(id))
            file.write(msgspec.json.encode(line) + b"\n")
    fork = multiprocessing.get_context("spawn")
    answers = fork.Queue()
    process = fork.Process(target=opened, args=(large, answers))
    process.start()
    found = answer([process], answers)
    process.join()
    found["bytes"] = (large / "manifest.jsonl").stat().st_size
    shutil.rmtree(large)
    return found


def opened(folder: Path, found: Any) -> None:
    """Seconds to open a store, and the memory it keeps."""
    gc.collect()
    before, begin = memory()["RssAnon"], time.perf_counter()
    store = EpisodeStore(folder)
    seconds = time.perf_counter() - begin
    found.put({"seconds": seconds, "memory": memory()["RssAnon"] - before, "episodes": len(store.entries)})


def parameters(name: str) -> int:
    return sum(p.numel() for p in build(preset(name).job.model).parameters())


def main(words: list[str]) -> None:
    from benchmarks.scale_page import write_page  # which takes the arithmetic from here

    deeds: dict[str, Callable[[], object]] = {
        "measure": lambda: write_atomic(RESULTS / "scale.json", json.dumps(measured(), indent=1).encode())
    }
    for word in words:
        if word not in deeds:
            raise unknown("part", word, deeds)
        deeds[word]()
    if not (RESULTS / "scale.json").exists():
        raise SakiyomiError("nothing is measured yet: python -m benchmarks.scale measure")
    write_page(RESULTS, PAGE)
    print(PAGE)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(sys.argv[1:])
