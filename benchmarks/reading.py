"""How fast windows are read from an episode store that is larger than what is held in memory.

    python -m benchmarks.reading            all parts; needs 11 GB of disk for some minutes
    python -m benchmarks.reading speed      one: speed, bounded, opening

The figures are in benchmarks/results/formats/reading.json. A window is 50 frames of 64x64x3, uint8, at a place drawn at
random; it is copied out of the memory map, and every byte of it is looked at. Times are of the processor (of one
process on one core), medians over repetitions in turns; where it says "clock", by the clock; two processes have a core
each. `load` is how many processes wanted a core meanwhile.
"""

import json
import multiprocessing
import os
import queue
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import machine
from sakiyomi.data import cache
from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream
from sakiyomi.data.normalize import Normalizer
from sakiyomi.data.windows import Data, Windows
from sakiyomi.errors import unknown
from sakiyomi.files import write_atomic

RESULTS = Path("benchmarks/results/formats/reading.json")
STORE = Path(os.environ.get("SAKIYOMI_BIG_STORE", "data/big"))
FRAME, WINDOW, BATCH = (64, 64, 3), 50, 32
BYTES = WINDOW * int(np.prod(FRAME))  # of a window
FRAMES, EPISODES = 8192, 100  # 100 MB an episode, 10 GB
REPETITIONS, ROUND = 7, 512  # windows a round
LIMIT = 2 * 10**9  # bytes of memory that is no file's, under which all of the store is read


def build(folder: Path, episodes: int = EPISODES) -> EpisodeStore:
    """A store of frames of noise. Its statistics are left out: measuring them is not what is timed."""
    writer = EpisodeWriter(folder, {"image": Stream("image", FRAME, "uint8", 10.0)})
    frames = np.random.default_rng(0).integers(0, 256, (FRAMES, *FRAME), dtype=np.uint8)
    for number in range(len(writer.ids), episodes):
        writer.add(f"{number}", {"image": np.roll(frames, number, 0)}, {"image": np.arange(FRAMES) / 10})
    return EpisodeStore(folder)


def windows_of(store: EpisodeStore) -> Windows:
    """Of 49 steps, which take 50 frames."""
    data = Data(str(store.folder), steps=WINDOW - 1, clock="image", stride=WINDOW)
    return Windows(store, "train", data, ("image",), Normalizer.fit(store, {"image": ("image",)}))


def read_raw(store: EpisodeStore, seed: int, count: int) -> None:
    """Their maxima are taken, so that nothing could be promised that is not read."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        start = int(random.integers(FRAMES - WINDOW))
        id = store.entries[int(random.integers(len(store.entries)))].id
        if store.values(id, "image", start, start + WINDOW).max() != 255:  # of half a million bytes of noise
            raise ValueError(f"episode {id}, frame {start}: these are not the frames that were written")


def read_batches(windows: Windows, seed: int, count: int) -> None:
    for step in range(count // BATCH):
        windows.draw(seed, step, BATCH)


def speed() -> dict[str, Any]:
    """Windows a second: as bytes, and as batches of float32 in 0..1; by one process, by two; pages in memory or not."""
    store = build(STORE)
    windows = windows_of(store)  # opens every file
    ways = {
        "raw": lambda seed: read_raw(store, seed, ROUND),
        "batches": lambda seed: read_batches(windows, seed, ROUND),
    }
    read_through(store)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for seed in range(REPETITIONS):
        for name, way in ways.items():
            begin = time.process_time()
            way(seed)
            rates[name].append(ROUND / (time.process_time() - begin))
    found = {name: told(statistics.median(rate)) for name, rate in rates.items()}
    both = {f"{name}_two_processes_{how}": rate for name in ways for how, rate in together(name).items()}
    waiting = os.getloadavg()[0]
    return {**found, **both, "cold_by_the_clock": told(cold(store)), "memory": memory(), "load": waiting}


def together(way: str) -> dict[str, Any]:
    """Windows a second of two processes, one a core: the median of three times some seconds. By the clock, which other
    work on the machine slows down, and by the processor time of both."""
    clock, processor = [], []
    for seed in range(3):
        fork = multiprocessing.get_context("spawn")
        start, found = fork.Barrier(2), fork.Queue()
        running = [fork.Process(target=one_of_two, args=(way, core, seed, start, found)) for core in range(2)]
        for process in running:
            process.start()
        spans = [answer(running, found) for _ in running]
        for process in running:
            process.join()
        clock.append(2 * 4 * ROUND / (max(end for _, end, _ in spans) - min(begin for begin, _, _ in spans)))
        processor.append(sum(4 * ROUND / busy for _, _, busy in spans))
    return {"by_the_clock": told(statistics.median(clock)), "by_the_processor": told(statistics.median(processor))}


def answer(running: list[Any], found: Any) -> Any:
    """What one of the processes found. Raises RuntimeError when one died, and nothing would ever come."""
    while True:
        try:
            return found.get(timeout=1)
        except queue.Empty:
            if any(process.exitcode for process in running):
                raise RuntimeError(f"a process died: {[process.exitcode for process in running]}") from None


def one_of_two(way: str, core: int, seed: int, start: Any, found: Any) -> None:
    os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)
    store = EpisodeStore(STORE)
    windows = windows_of(store)
    read_batches(windows, 100, ROUND)
    start.wait()
    begin, busy = time.monotonic(), time.process_time()
    if way == "raw":
        read_raw(store, 2 * seed + core, 4 * ROUND)
    else:
        read_batches(windows, 2 * seed + core, 4 * ROUND)
    found.put((begin, time.monotonic(), time.process_time() - busy))


def cold(store: EpisodeStore) -> float:
    """Windows a second as bytes, by the clock, when no page of the store is in memory."""
    rates = []
    for seed in range(3):
        forget(store)
        opened = EpisodeStore(store.folder)
        opened._verified |= {entry.id for entry in store.entries}  # hashing would read all of it first
        begin = time.perf_counter()
        read_raw(opened, seed, ROUND)
        rates.append(ROUND / (time.perf_counter() - begin))
    return statistics.median(rates)


def forget(store: EpisodeStore) -> None:
    """Have the system drop the store's pages. Mapped ones stay, so the files are closed first."""
    store._open.clear()
    for entry in store.entries:
        descriptor = os.open(store.folder / entry.file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def read_through(store: EpisodeStore) -> None:
    """All of the store, once, a window at a time."""
    for entry in store.entries:
        for start in range(0, FRAMES, WINDOW):
            store.values(entry.id, "image", start, start + WINDOW)


def bounded() -> dict[str, Any]:
    """Memory while all of the store is read by a process that may hold LIMIT bytes besides the pages of files, and
    while a tenth of it is: what does not grow with the store is anonymous; the rest are pages the system takes back."""
    build(STORE)
    found = {}
    for name, share in (("tenth", 0.1), ("whole", 1.0)):
        fork = multiprocessing.get_context("spawn")
        answers = fork.Queue()
        process = fork.Process(target=read_under_limit, args=(share, answers))
        process.start()
        found[name] = answer([process], answers)
        process.join()
    return {**found, "limit": LIMIT, "anonymous_grows_by": found["whole"]["RssAnon"] - found["tenth"]["RssAnon"]}


def read_under_limit(share: float, found: Any) -> None:
    """All windows of a share of the store as batches; RLIMIT_DATA bounds memory that is no file's."""
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    store = EpisodeStore(STORE)
    store.entries = store.entries[: round(share * len(store.entries))]
    windows = windows_of(store)
    most: dict[str, int] = {}
    for step in range(len(windows) // BATCH):
        windows.draw(0, step, BATCH)
        most = {key: max(value, most.get(key, 0)) for key, value in memory().items()}
    found.put(
        {**most, "bytes_read": len(windows) // BATCH * BATCH * BYTES, "store": sum(e.bytes for e in store.entries)}
    )


def memory() -> dict[str, int]:
    """Bytes this process has in memory: its own, and of files."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {line[0][:-1]: int(line[1]) * 1024 for line in lines if line[0] in ("RssAnon:", "RssFile:")}


def opening() -> dict[str, Any]:
    """Processor time to open every file of the store, the first time and when they were found whole before."""
    build(STORE)
    for entry in EpisodeStore(STORE).entries:
        path = STORE / entry.file
        os.utime(path, (time.time() - 3600, time.time() - 3600))  # what changed just now is not remembered
    shutil.rmtree(cache.cache_folder() / "verified", ignore_errors=True)
    found = {}
    for name in ("first", "second"):
        begin = time.process_time()
        store = EpisodeStore(STORE)
        for entry in store.entries:
            store.times(entry.id, "image")
        found[f"{name}_s"] = time.process_time() - begin
    return {**found, "ratio": found["first_s"] / found["second_s"], "bytes": sum(e.bytes for e in store.entries)}


def told(rate: float) -> dict[str, float]:
    return {"windows_s": rate, "gigabytes_s": rate * BYTES / 1e9}


PARTS: Mapping[str, Callable[[], dict[str, Any]]] = {"speed": speed, "bounded": bounded, "opening": opening}


def measured(names: Iterable[str] = PARTS) -> dict[str, Any]:
    """What these parts find. The store is made for them and removed after."""
    torch.set_num_threads(1)
    before = os.environ.get("SAKIYOMI_CACHE", "")
    os.environ["SAKIYOMI_CACHE"] = f"{STORE}-cache"  # what the user's own cache remembers is no part of this
    try:
        return {name: PARTS[name]() for name in names}
    finally:
        os.environ["SAKIYOMI_CACHE"] = before
        for folder in (STORE, f"{STORE}-cache"):
            shutil.rmtree(folder, ignore_errors=True)


def main(names: list[str]) -> None:
    for name in names:
        if name not in PARTS:
            raise unknown("part", name, PARTS)
    there = json.loads(RESULTS.read_bytes()) if RESULTS.exists() else {}
    found = measured(names or PARTS)
    write_atomic(RESULTS, json.dumps({**there, **found, "machine": machine()}, indent=1).encode())
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
