"""Everything that is claimed about the arm, measured: success, looking, hardness, few demonstrations, laws, latency.

    python -m benchmarks.teach_an_arm                 all parts, about an hour and a half on two cores
    python -m benchmarks.teach_an_arm demo seeds      some
    python -m benchmarks.teach_an_arm page            only docs/benchmarks.md, from the results there are

Each part writes benchmarks/results/PART.json; trained runs stay in runs/bench and are not trained again. One
training at a time: two on the same cores slow each other tenfold.
"""

import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import measure, plain
from benchmarks.speed_page import write_page, write_readme_rows
from sakiyomi.errors import SakiyomiError
from sakiyomi.evaluate import evaluate
from sakiyomi.files import write_atomic
from sakiyomi.job import Job, load_job, save_job
from sakiyomi.models import MODELS
from sakiyomi.prepare import prepare
from sakiyomi.presets import Preset, preset
from sakiyomi.rollout import load
from sakiyomi.run import read_tensors
from sakiyomi.scores.protocol import load_scores, save_scores
from sakiyomi.train import train

RESULTS, RUNS = Path("benchmarks/results"), Path("runs/bench")
SEEDS = (0, 1, 2)
DEMONSTRATIONS = (5, 10, 25, 50, 100)
DRIVERS = ("SARNN", "CNNRNN", "MTRNN", "JointRNN")
BASELINES = ("pick-joints", "pick-cnn", "pick-mtrnn")


def demo_part() -> dict[str, Any]:
    """`sakiyomi demo` from nothing, as its own process: time and peak memory."""
    folder, store = RUNS / "demo", Path("data/bench-demo")
    if (RESULTS / "demo.json").exists() and folder.exists():
        return {k: v for k, v in json.loads((RESULTS / "demo.json").read_bytes()).items() if k != "machine"}
    if folder.exists() or store.exists():
        raise SakiyomiError(f"{folder} or {store} is there; remove both to measure the demo from nothing")
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "sakiyomi", "demo", "--out", folder, "--store", store], check=True)
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    subprocess.run([sys.executable, "-m", "sakiyomi", "explain", "pick-small", "--run", folder], check=True)
    for picture in ("attention.gif", "attention.png", "hidden.png"):
        write_atomic(Path("docs") / picture, (folder / picture).read_bytes())
    return {"minutes": seconds / 60, "peak_mb": peak, "scores": plain(load_scores(folder / "scores.json"))}


def seeds_part() -> dict[str, Any]:
    """The demo's training from three seeds, every condition with 50 trials each."""
    return {str(seed): seed_run(seed) for seed in SEEDS}


def demonstrations_part() -> dict[str, Any]:
    """Success against the number of demonstrations."""
    return {str(n): demonstrations_run(n) for n in DEMONSTRATIONS}


def full_part() -> dict[str, Any]:
    """`sakiyomi train pick`: 64x64 pictures, the published layer sizes."""
    return trained_and_scored(preset("pick"), "full")


def baselines_part() -> dict[str, Any]:
    """The baselines under the same training."""
    return {name: baseline_run(name) for name in BASELINES}


def laws_part() -> dict[str, Any]:
    """Unroll against stepping, in outputs and gradients; two runs of a seed; stop + resume against no stop."""
    out: dict[str, Any] = {name: unroll_against_step(name) for name in DRIVERS}
    chosen = preset("pick-small")
    job = replace(chosen.job, train=replace(chosen.job.train, steps=40, save_every=20, validate_every=20))
    prepare(chosen.source, Path(job.data.store))
    folders = [RUNS / f"laws-{name}" for name in ("a", "b", "stopped")]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    train(job, folders[0])
    train(job, folders[1])
    stop_at(job, folders[2], 20)
    train(job, folders[2], resume=True)
    same = [same_run(folders[0], other) for other in folders[1:]]
    return {**out, "two_runs_identical": same[0], "resume_identical": same[1]}


def latency_part() -> dict[str, Any]:
    """The closed-loop step of the demo's and of the full-size model, batch 1, CPU, nothing else running."""
    out = {}
    for name, run in (("32x32", "seed-0"), ("64x64", "full")):
        if not (RUNS / run / "weights.safetensors").exists():
            raise SakiyomiError(f"the latency of {name} needs the run {RUNS / run}; run its part first")
        seconds = evaluate(load(RUNS / run), 20, only=("untaught",)).latencies
        out[name] = {f"p{p}_ms": 1e3 * float(np.percentile(seconds, p)) for p in (50, 99)}
    return out


def seed_run(seed: int) -> dict[str, Any]:
    return trained_and_scored(preset("pick-small"), f"seed-{seed}", seed=seed)


def demonstrations_run(n: int) -> dict[str, Any]:
    chosen = preset("pick-small")
    fewer = replace(chosen, job=replace(chosen.job, data=replace(chosen.job.data, episodes=n)))
    return trained_and_scored(fewer, f"demonstrations-{n}", only=("taught", "untaught"))


def baseline_run(name: str) -> dict[str, Any]:
    return trained_and_scored(preset(name), name, only=("taught", "untaught", "blind"))


def trained_and_scored(chosen: Preset, name: str, seed: int = 0, only: tuple[str, ...] = ()) -> dict[str, Any]:
    """Record, train and score one run, unless runs/bench has it; its scores and seconds of training."""
    folder = RUNS / name
    job = replace(chosen.job, train=replace(chosen.job.train, seed=seed))
    if (folder / "job.json").exists() and load_job(folder) != job:
        raise SakiyomiError(f"{folder} holds a run of another job; remove it to measure this one")
    cost = folder / "cost.json"
    if not cost.exists():
        prepare(chosen.source, Path(job.data.store))
        spent = folder / "spent.json"  # of trainings that were interrupted
        before = json.loads(spent.read_bytes()) if spent.exists() else 0.0
        begin = time.perf_counter()
        try:
            train(job, folder, resume=True)
        finally:
            seconds = before + time.perf_counter() - begin
            write_atomic(spent, json.dumps(seconds).encode())
        write_atomic(cost, json.dumps({"seconds": seconds, "threads": torch.get_num_threads()}).encode())
    if not (folder / "scores.json").exists():
        save_scores(evaluate(load(folder), 50, only=only).scores, folder / "scores.json")
    return {"scores": plain(load_scores(folder / "scores.json")), **json.loads(cost.read_bytes())}


def unroll_against_step(name: str) -> dict[str, float]:
    """Largest difference between one unroll and repeated steps, outputs and parameter gradients, float32."""
    torch.manual_seed(0)
    model = MODELS[name](MODELS[name].Config())
    observations = model.example(2, 12)
    whole, _ = model.unroll(observations)
    state, steps = model.initial(2), []
    for t in range(12):
        prediction, state = model.step({k: v[:, t] for k, v in observations.items()}, state)
        steps.append(prediction)
    stepped = {k: torch.stack([s[k] for s in steps], 1) for k in whole}
    outputs = max(float((whole[k] - stepped[k]).detach().abs().max()) for k in whole)
    gradients = [
        torch.autograd.grad(sum(v.square().mean() for v in side.values()), list(model.parameters()))  # pyright: ignore
        for side in (whole, stepped)
    ]
    worst = max(float((a - b).abs().max()) for a, b in zip(*gradients, strict=True))
    return {"outputs": outputs, "gradients": worst}


def stop_at(job: Job, folder: Path, step: int) -> None:
    """Train in another process and press Ctrl-C once `step` has been saved."""
    script = "import sys; from sakiyomi.job import *; from sakiyomi.train import train; from pathlib import Path;" + (
        f"train(load_job(Path({str(folder)!r})), Path({str(folder)!r}), resume=True)"
    )
    save_job(job, folder)
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    while not (folder / "last.safetensors").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(2)
    process.wait()
    stopped = int(json.loads(read_tensors(folder / "last.safetensors")[0]["state"])["step"])
    if not step <= stopped < job.train.steps:
        raise SakiyomiError(f"Ctrl-C came too late to measure: stopped at {stopped}")


def same_run(a: Path, b: Path) -> bool:
    """Same logged losses and same last checkpoint, bit for bit."""
    same_log = (a / "metrics.jsonl").read_bytes() == (b / "metrics.jsonl").read_bytes()
    (_, left), (_, right) = read_tensors(a / "last.safetensors"), read_tensors(b / "last.safetensors")
    return same_log and left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "seeds": seeds_part,
    "demonstrations": demonstrations_part,
    "full": full_part,
    "baselines": baselines_part,
    "laws": laws_part,
    "latency": latency_part,
    "demo": demo_part,
}


def write_pages() -> None:
    write_page(RESULTS, Path("docs/benchmarks.md"))
    write_readme_rows(RESULTS, Path("README.md"))


if __name__ == "__main__":
    measure(PARTS, RESULTS, sys.argv[1:], write_pages)
