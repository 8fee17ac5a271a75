"""A store larger than memory trains as fast as one that lies in memory, in a process that may hold 2 GB.

    python -m benchmarks.larger_than_memory              prints the figures; 20 GB of disk for some minutes
    SAKIYOMI_LARGE_GB=2 SAKIYOMI_LARGE_STORE=/disk/large python -m benchmarks.larger_than_memory

Two stores of the same kind, one of 20 GB and one of 0.4 GB, train the same job in turns, A B A B, each time in a fresh
process under RLIMIT_DATA, which bounds all memory that is no file's. While the large one trains, the system is told
every few seconds to drop all its pages, so that every picture comes from the disk; the small one's are read before.
A step's seconds are those between two lines of the run's log, medians over all steps but the first ones; what passes
before the first step is told apart. Once more batches are only drawn, without a model: then reading is all there is.
"""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream
from sakiyomi.data.normalize import Normalizer
from sakiyomi.data.windows import Data, Windows
from sakiyomi.errors import SakiyomiError, unknown
from sakiyomi.job import Job
from sakiyomi.measuring import resident
from sakiyomi.presets import preset
from sakiyomi.run import set_threads
from sakiyomi.train import train

STORE = Path(os.environ.get("SAKIYOMI_LARGE_STORE", "data/bench-20gb"))
LARGE = round(float(os.environ.get("SAKIYOMI_LARGE_GB", "20")) * 1e9)  # bytes of pictures
SMALL = 4 * 10**8
LIMIT = 2 * 10**9  # bytes of memory that is no file's
SIDE, LENGTH, JOINTS, RATE = 64, 1000, 8, 10.0  # of a picture, an episode, a body; steps a second
HELD_OUT = 2  # episodes of the validation split
ROUNDS, WARM = 2, 3  # runs of each store in turns; first steps of each, which are not counted
STEPS = {"training": 30, "drawing": 300}  # of a run
FORGET_EVERY = 2.0  # seconds


def part() -> dict[str, Any]:
    """All figures, as JSON has them. The stores are made, and removed afterwards."""
    folders = {"large": STORE, "in memory": STORE.with_name(f"{STORE.name}-small")}
    cache = STORE.with_name(f"{STORE.name}-cache")  # what the user's own cache remembers is no part of this
    try:
        begin = time.perf_counter()
        build(folders["large"], LARGE)
        written = time.perf_counter() - begin
        build(folders["in memory"], SMALL)
        found = {way: compared(way, folders, cache) for way in STEPS}
        return {"bytes": LARGE, "limit": LIMIT, "written_gb_s": LARGE / written / 1e9, **found}
    finally:
        for folder in (*folders.values(), cache):
            shutil.rmtree(folder, ignore_errors=True)


def build(folder: Path, size: int, length: int = LENGTH) -> EpisodeStore:
    """A store with so many bytes of pictures: a scene under noise, which nothing compresses, and joints. Without
    statistics of pictures, which no model asks for."""
    streams = {
        "image": Stream("image", (SIDE, SIDE, 3), "uint8", RATE),
        "joints": Stream("joints", (JOINTS,), "float32", RATE),
    }
    random = np.random.default_rng(0)
    scene = np.linspace(0, 180, SIDE, dtype=np.uint8)[:, None, None]
    frames = scene + random.integers(0, 60, (length, SIDE, SIDE, 3), dtype=np.uint8)
    joints = np.cumsum(random.normal(size=(length, JOINTS)), 0).astype(np.float32)
    times = dict.fromkeys(streams, np.arange(length) / RATE)
    writer = EpisodeWriter(folder, streams)
    for number in range(len(writer.ids), max(HELD_OUT + 1, size // frames.nbytes)):
        split = "validation" if number < HELD_OUT else "train"
        writer.add(
            f"{number}", {"image": np.roll(frames, number, 0), "joints": np.roll(joints, number, 0)}, times, split
        )
    return EpisodeStore(folder)


# ---- In turns --------------------------------------------------------------------------------------------------------


def compared(way: str, folders: Mapping[str, Path], cache: Path) -> dict[str, Any]:
    """One way of using the stores, A B A B: frames a second of each, and the ratio of the medians."""
    runs: dict[str, list[Any]] = {name: [] for name in folders}
    for _ in range(ROUNDS):
        for name, folder in folders.items():
            store = EpisodeStore(folder)
            with forgotten(store) if name == "large" else kept(store):
                runs[name].append(in_a_process(way, folder, cache))
    seconds = {name: [s for run in found for s in run["seconds"][WARM:]] for name, found in runs.items()}
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    return {
        "ratio": medians["in memory"] / medians["large"],
        "ratio_of_means": statistics.mean(seconds["in memory"]) / statistics.mean(seconds["large"]),
        "frames_s": {name: runs[name][0]["frames"] / median for name, median in medians.items()},
        "steps": {name: len(taken) for name, taken in seconds.items()},
        "startup_s": {name: [run["startup"] for run in found] for name, found in runs.items()},
        "memory": {name: found[-1]["memory"] for name, found in runs.items()},
    }


def in_a_process(way: str, folder: Path, cache: Path) -> Any:
    """What `run_limited` prints in a process of its own."""
    how = [way, str(folder), *map(str, (STEPS[way], torch.get_num_threads(), LIMIT))]
    command = [sys.executable, "-m", "benchmarks.larger_than_memory", *how]
    environment = {**os.environ, "SAKIYOMI_CACHE": str(cache.resolve())}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SakiyomiError(f"{way} from {folder}: its process ended with {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def forgotten(store: EpisodeStore) -> Iterator[None]:
    """Meanwhile the system drops the store's pages again and again; only what a process has mapped and touched of its
    open files stays."""
    over = threading.Event()

    def forget() -> None:
        while not over.wait(FORGET_EVERY):
            drop_pages(store)

    os.sync()  # what is not on the disk yet cannot be dropped
    drop_pages(store)
    thread = threading.Thread(target=forget, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def kept(store: EpisodeStore) -> Iterator[None]:
    """All of the store is read before."""
    for entry in store.entries:
        (store.folder / entry.file).read_bytes()
    yield


def drop_pages(store: EpisodeStore) -> None:
    for entry in store.entries:
        descriptor = os.open(store.folder / entry.file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


# ---- In the process that is limited ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """What one process found."""

    seconds: list[float]
    """Of each step but the first."""
    frames: int
    """Of a step."""
    startup: float
    """Seconds until the first step was done."""


def job_of(folder: Path, steps: int, threads: int) -> Job:
    """`sakiyomi train pick` on windows of 100 steps, five at a time."""
    job = preset("pick").job
    never = 10**9
    plan = replace(job.train, steps=steps, batch_size=5, log_every=1, threads=threads)
    plan = replace(plan, validate_every=never, save_every=never, device="cpu")
    return replace(job, data=Data(str(folder), steps=100, stride=100), train=plan)


def train_arm(folder: Path, steps: int, threads: int) -> Run:
    """The real training, timed by the clock that its log keeps."""
    job, begin = job_of(folder, steps, threads), time.time()
    with TemporaryDirectory() as runs:
        train(job, Path(runs))
        (events,) = (Path(runs) / "tensorboard").iterdir()
        logged = {
            event.step: event.wall_time for event in EventFileLoader(str(events)).Load() if event.HasField("summary")
        }
    times = [logged[step] for step in range(steps)]
    return Run(list(np.diff(times)), job.train.batch_size * job.data.steps, times[0] - begin)


def draw_only(folder: Path, steps: int, threads: int) -> Run:
    """The same batches, with no model to wait for."""
    job, times = job_of(folder, steps, threads), [time.time()]
    set_threads(threads)
    store = EpisodeStore(folder)
    normalizer = Normalizer.fit(store, {"image": ("image",), "joints": ("joints",)})
    windows = Windows(store, "train", job.data, ("image", "joints"), normalizer)
    for step in range(steps):
        windows.draw(job.train.seed, step, job.train.batch_size)
        times.append(time.time())
    return Run(list(np.diff(times[1:])), job.train.batch_size * job.data.steps, times[1] - times[0])


WAYS = {"training": train_arm, "drawing": draw_only}


def run_limited(way: str, folder: Path, steps: int, threads: int, limit: int) -> dict[str, Any]:
    """Under RLIMIT_DATA. Memory: the most in all, what is the process's own in the end, and pages of files it has
    mapped, which the system takes back when it needs them."""
    if way not in WAYS:
        raise unknown("way", way, WAYS)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    run = WAYS[way](folder, steps, threads)
    return {**vars(run), "memory": {name: resident(name) for name in ("VmHWM", "RssAnon", "RssFile", "VmData")}}


if __name__ == "__main__":
    if sys.argv[1:]:
        way, folder, *numbers = sys.argv[1:]
        print(json.dumps(run_limited(way, Path(folder), *map(int, numbers))))
    else:
        set_threads(0)
        print(json.dumps(part(), indent=1))
