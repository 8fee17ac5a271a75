"""Several processes that train together against one: the same weights? how many frames a second? what does a lost one
cost? Parts of `benchmarks/speed.py`; alone:

    python -m benchmarks.many_processes

Every training is one of its own, started by torchrun or without it, on recordings that are made for it.
"""

import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.sources.pick_cube import PickCubeSource
from sakiyomi.data.sources.push import PushSource
from sakiyomi.distributed import joined
from sakiyomi.errors import SakiyomiError
from sakiyomi.job import Job, load_job, save_job
from sakiyomi.presets import preset
from sakiyomi.run import read_metrics, read_tensors
from sakiyomi.train import train

STEPS = 20
FEW = 8  # steps of a training that is only timed


def processes_part() -> dict[str, Any]:
    """Preset `pick`, its own batch, by two processes and by one; and what moments that are spread save of the largest
    network. Weights are compared with as many threads in each process: another number of threads alone adds numbers up
    in another order, and how far apart that leads is told beside it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = _pick(folder, 64, "pick")
        runs = {
            "two processes, one thread each": trained(_with(job, STEPS, threads=1), folder / "two", 2),
            "one process, one thread, as many shards": trained(_with(job, STEPS, 1, shards=2), folder / "one", 1),
            "one process, two threads, as many shards": trained(_with(job, STEPS, 2, shards=2), folder / "other", 1),
            "one process, two threads": trained(_with(job, FEW, threads=2), folder / "threads", 1),
            "one process, one thread": trained(_with(job, FEW, threads=1), folder / "thread", 1),
        }
        frames = _frames(job)
        rates = {told: frames / seconds_a_step(run) for told, run in runs.items()}
        apart = {
            "largest_difference": largest_difference(folder / "two", folder / "one"),
            "of_threads_alone": largest_difference(folder / "other", folder / "one"),
        }
        return {"preset": "pick", "steps": STEPS, **apart, "frames_per_second": rates, **_spread()}


def killed_part() -> dict[str, Any]:
    """Preset `pick-small`, two processes of which one is killed (kill -9) after 50 of 60 steps; torchrun starts both
    anew. `seconds_lost`: until the step at which it was killed had been done again."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = _with(_pick(folder, 32, "pick-small"), 60, threads=1, save_every=20)
        trained(job, folder / "unbroken", 2)
        running = begin(job, folder / "killed", 2, "--max-restarts", "3")
        _until(folder / "killed", 50)
        killed, done = time.perf_counter(), len(read_metrics(folder / "killed"))
        os.kill(json.loads((folder / "killed.job/1.json").read_bytes())["pid"], signal.SIGKILL)
        while len(read_metrics(folder / "killed")) >= done:  # until the log forgets what no checkpoint has
            time.sleep(0.005)
        back = time.perf_counter() - killed
        _until(folder / "killed", done)
        lost = time.perf_counter() - killed
        finish(running)
        apart = largest_difference(folder / "unbroken", folder / "killed")
    told = {"killed_after_step": done, "checkpoints_every": 20, "seconds_to_restart": back, "seconds_lost": lost}
    return {"preset": "pick-small", **told, "largest_difference": apart}


def _pick(folder: Path, size: int, name: str) -> Job:
    """A preset on a few demonstrations of its size, that only learns."""
    PickCubeSource(episodes=10, validation=2, image_size=size).record(folder / "store")
    job = preset(name).job
    return replace(job, data=replace(job.data, store=str(folder / "store"), episodes=0))


def _spread() -> dict[str, Any]:
    """Preset `push`, the published VGG network: the memory of each of two processes, MB at most."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        PushSource(episodes=4, validation=2, test=1, steps=10, image_size=64).record(folder / "store")
        job = preset("push").job
        job = replace(job, data=replace(job.data, store=str(folder / "store"), steps=3))
        found = {}
        for told, sharded in (("whole", False), ("spread", True)):
            job = replace(job, train=replace(_with(job, 2, threads=1).train, batch_size=4, sharded=sharded))
            trained(job, folder / told, 2)
            found[f"megabytes_{told}"] = megabytes(folder / told)
        return {"largest": "push", "weights": _count(folder / "whole"), **found}


def _count(run: Path) -> int:
    _, tensors = read_tensors(run / "last.safetensors")
    return sum(tensor.numel() for name, tensor in tensors.items() if name.startswith("model."))


def _with(job: Job, steps: int, threads: int, shards: int = 0, save_every: int = 1000) -> Job:
    """So many steps, each logged, and no validation on the way."""
    changed = replace(job.train, steps=steps, threads=threads, shards=shards, save_every=save_every, device="cpu")
    return replace(job, train=replace(changed, log_every=1, validate_every=10**6))


def _frames(job: Job) -> int:
    """Of one step: episodes of `pick` are as long as its longest."""
    store = EpisodeStore(job.data.store)
    longest = max(len(store.times(entry.id, job.data.clock)) for entry in store.split("train"))
    return job.train.batch_size * (job.data.steps or longest - 1)


def begin(job: Job, run: Path, processes: int, *options: str) -> "subprocess.Popen[str]":
    """Begin a training in processes of its own; what they tell of themselves lies in RUN.job."""
    told = run.with_name(f"{run.name}.job")
    save_job(job, told)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), *options]
    command = [sys.executable, *(launcher if processes > 1 else []), "-m", "benchmarks.many_processes"]
    words = [*command, "worker", str(told), str(run)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(running: "subprocess.Popen[str]") -> None:
    said, _ = running.communicate()
    if running.returncode:
        raise SakiyomiError(f"a training that was to be measured failed: {said[-2000:]}")


def trained(job: Job, run: Path, processes: int) -> Path:
    finish(begin(job, run, processes))
    return run


def worker(told: Path, run: Path) -> None:
    """One of the processes: train, and write down how much memory it took at most."""
    with joined() as team:
        path = told / f"{team.rank}.json"
        path.write_text(json.dumps({"pid": os.getpid()}))
        train(load_job(told), run)
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        path.write_text(json.dumps({"pid": os.getpid(), "megabytes": most}))


def megabytes(run: Path) -> list[float]:
    """The most memory that each of its processes held at a time."""
    paths = sorted(run.with_name(f"{run.name}.job").glob("[0-9]*.json"))
    return [json.loads(path.read_bytes())["megabytes"] for path in paths]


def seconds_a_step(run: Path) -> float:
    """The median, from when each step was logged."""
    board = EventAccumulator(str(run / "tensorboard"))
    board.Reload()
    times = [event.wall_time for event in board.Scalars("total")]
    return statistics.median(after - before for before, after in pairwise(times))


def largest_difference(a: Path, b: Path) -> float:
    """Between the weights of two runs."""
    (_, left), (_, right) = read_tensors(a / "last.safetensors"), read_tensors(b / "last.safetensors")
    return max(float((left[n].double() - right[n].double()).abs().max()) for n in left if n.startswith("model."))


def _until(run: Path, lines: int) -> None:
    """Wait until so many lines are logged."""
    while len(read_metrics(run)) < lines:
        time.sleep(0.005)


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        worker(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        found = {"processes": processes_part(), "killed": killed_part()}
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
