"""Everything that is claimed about imagining, measured: pushes with and without actions, the schedules compared, real
frames, moving digits, the training step against the published arithmetic, memory, laws.

    python -m benchmarks.imagine_a_push                 all parts, about an hour and a half on two cores
    python -m benchmarks.imagine_a_push pushes speed    some
    python -m benchmarks.imagine_a_push page            only docs/imagine-benchmarks.md, from the results there are

Each part writes benchmarks/results/imagine/PART.json; trained runs stay in runs/bench and are not trained again. One
training at a time: two on the same cores slow each other tenfold. `bridge` takes the file that
SAKIYOMI_BRIDGE names (a Bridge V2 .tfrecord).
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import measure, plain
from benchmarks.imagine_page import write_page, write_readme_rows
from benchmarks.published.svg import sides_of
from benchmarks.side_by_side import Sides, agreed
from sakiyomi.data.formats.bridge import Bridge
from sakiyomi.data.sources.push import PushSource
from sakiyomi.errors import SakiyomiError
from sakiyomi.evaluate_imagined import HowImagined, evaluate_imagined, save_imagined
from sakiyomi.files import write_atomic
from sakiyomi.imagine import Imagining, rollout_imagined
from sakiyomi.job import Job, load_job
from sakiyomi.measuring import in_turn
from sakiyomi.models import SVG
from sakiyomi.prepare import prepare
from sakiyomi.presets import Preset, preset
from sakiyomi.rollout import load
from sakiyomi.run import read_metrics
from sakiyomi.schedules import TeacherForcing, Weight
from sakiyomi.scores.protocol import load_scores
from sakiyomi.train import train
from sakiyomi.views.plots import picture_scores, schedule_comparison, schedule_page
from sakiyomi.watchdog import warnings

RESULTS, RUNS, DOCS = Path("benchmarks/results/imagine"), Path("runs/bench"), Path("docs")
BRIDGE = Path(os.environ.get("SAKIYOMI_BRIDGE", "data/bridge_train.tfrecord"))
SCHEDULE_STEPS = 1200  # of each of the four compared runs


def pushes_part() -> dict[str, Any]:
    """`sakiyomi train push-small`, and the same without actions; pictures of a real rollout."""
    found = {"push-small": trained_and_scored(preset("push-small"), "push-small")}
    found["push-blind"] = trained_and_scored(preset("push-blind"), "push-blind")
    folder = RUNS / "push-small"
    trained = load(folder)
    rollout_imagined(trained, Imagining(steps=10, samples=20, what_if=("left", "right", "still")), folder)
    for name in ("imagined.gif", "imagined.png", "spread.png", "what_if.gif", "what_if.png"):
        write_atomic(DOCS / name, (folder / name).read_bytes())
    write_atomic(DOCS / "push-training.png", schedule_page(read_metrics(folder)))
    long = evaluate_imagined(trained, HowImagined(sequences=64, samples=20, steps=28))
    write_atomic(DOCS / "push-by-frame.png", picture_scores(long.curves))
    return {**found, "28 frames": {"scores": plain(long.scores)}}


def schedules_part() -> dict[str, Any]:
    """Teacher forcing scheduled, always and never, and the KL weight cyclical against monotonic: the four runs of the
    published comparison."""
    found = {name: schedule_run(name) for name in schedules()}
    runs = {name: read_metrics(RUNS / f"schedule-{name}") for name in schedules()}
    write_atomic(DOCS / "schedules.png", schedule_comparison(runs))
    return found


def schedules() -> dict[str, Job]:
    """The four jobs. The course's 300 epochs are scaled to the length of these: its ratio stays 1 for a sixth of the
    training and then falls by 0.005 of 1/300 of it."""
    job = preset("push-small").job
    windows = 5 * PushSource().episodes  # of 11 steps, half a window apart, in 30 frames
    epochs = SCHEDULE_STEPS * job.train.batch_size / windows
    cyclical = Weight(1e-4, curve="linear", cycles=3)
    monotonic = Weight(1e-4, curve="linear", end=SCHEDULE_STEPS // 2)
    scheduled = TeacherForcing(start=epochs * 50 / 300, step=0.005 * 300 / epochs)
    settings = {
        "cyclical": (scheduled, cyclical),
        "monotonic": (scheduled, monotonic),
        "always-forced": (TeacherForcing(), cyclical),
        "never-forced": (TeacherForcing(ratio=0), cyclical),
    }
    return {
        name: replace(
            job,
            train=replace(
                job.train,
                steps=SCHEDULE_STEPS,
                teacher_forcing=forcing,
                losses={**job.train.losses, "kl": kl},
            ),
        )
        for name, (forcing, kl) in settings.items()
    }


def schedule_run(name: str) -> dict[str, Any]:
    job = schedules()[name]
    return trained_and_scored(replace(preset("push-small"), job=job), f"schedule-{name}")


def bridge_part() -> dict[str, Any]:
    """Real frames: the Bridge sample, episodes held out."""
    if not BRIDGE.exists():
        raise SakiyomiError(f"{BRIDGE} is not there; name a Bridge V2 .tfrecord in SAKIYOMI_BRIDGE")
    chosen = replace(preset("bridge"), source=Bridge(str(BRIDGE)))
    found = trained_and_scored(chosen, "bridge")
    rollout_imagined(load(RUNS / "bridge"), Imagining(steps=8, samples=20), RUNS / "bridge")
    return found


def digits_part() -> dict[str, Any]:
    """Moving digits, no actions: the classic check."""
    return trained_and_scored(preset("moving-digits"), "moving-digits")


def trained_and_scored(chosen: Preset, name: str) -> dict[str, Any]:
    """Record, train and score one run, unless runs/bench has it; scores, curves, seconds of training, warnings."""
    folder, job = RUNS / name, chosen.job
    if (folder / "job.json").exists() and load_job(folder) != job:
        raise SakiyomiError(f"{folder} holds a run of another job; remove it to measure this one")
    cost = folder / "cost.json"
    if not cost.exists():
        prepare(chosen.source, Path(job.data.store))
        begin = time.perf_counter()
        train(job, folder, resume=True)
        content = {"seconds": time.perf_counter() - begin, "threads": torch.get_num_threads()}
        write_atomic(cost, json.dumps(content).encode())
    trained = load(folder)
    if not (folder / "curves.json").exists():
        evaluated = evaluate_imagined(trained, HowImagined())
        save_imagined(evaluated, trained, folder)
        curves = {way: {k: v.tolist() for k, v in values.items()} for way, values in evaluated.curves.items()}
        write_atomic(folder / "curves.json", json.dumps(curves).encode())
    metrics = read_metrics(folder)
    return {
        "scores": plain(load_scores(folder / "scores.json")),
        "curves": json.loads((folder / "curves.json").read_bytes()),
        "warnings": warnings(metrics, job.train.watch),
        "steps": job.train.steps,
        "last": [line for line in metrics if "validation/imagined" in line][-1],
        **json.loads(cost.read_bytes()),
    }


def speed_part() -> dict[str, Any]:
    """The training step against the published arithmetic: same weights, batch and noise, A B A B in one process."""
    configs = {"VGG, batch 16, 2 -> 10": SVG.Config(), "push-small, batch 16": preset("push-small").job.model}
    return {name: step_speed(sides_of(config, name), 3 if "VGG" in name else 9) for name, config in configs.items()}


def step_speed(sides: Sides, rounds: int) -> dict[str, Any]:
    agreed(sides)
    taken = {way.removeprefix("ours, "): each for way, each in in_turn(sides.ways, 0.0, rounds).items()}
    losses = {way.removeprefix("ours, "): work() for way, work in sides.ways.items()}
    medians = {way: statistics.median(each) for way, each in taken.items()}
    published, *ours = taken
    return {
        "seconds": medians,
        "each": taken,
        "ratio": {way: medians[published] / medians[way] for way in ours},
        "largest difference of the losses": {way: largest_difference(losses[published], losses[way]) for way in ours},
    }


def largest_difference(one: Any, other: Any) -> float:
    return max(float((one[name].float() - other[name].float()).abs().max()) for name in one)


def memory_part() -> dict[str, Any]:
    """Peak memory of a training on stores of one and of eight times the size, each in its own process."""
    found = {}
    for episodes in (100, 800):
        store, out = Path(f"data/bench-memory-{episodes}"), RUNS / f"memory-{episodes}"
        source = PushSource(episodes=episodes, validation=8, test=8)
        prepare(source, store)
        megabytes = sum(path.stat().st_size for path in (store / "episodes").iterdir()) / 2**20
        script = (
            "import shutil; from dataclasses import replace; from pathlib import Path;"
            "from sakiyomi.presets import preset; from sakiyomi.train import train;"
            f"out = Path({str(out)!r}); shutil.rmtree(out, ignore_errors=True); job = preset('push-small').job;"
            f"job = replace(job, data=replace(job.data, store={str(store)!r}),"
            "train=replace(job.train, steps=300, validate_every=300)); train(job, out);"
            # Not ru_maxrss, which a process inherits from the one that started it.
            "print(next(int(line.split()[1]) / 1024 for line in open('/proc/self/status') if line.startswith('VmHWM')))"
        )
        done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
        found[str(episodes)] = {"store_mb": megabytes, "peak_mb": float(done.stdout.split()[-1])}
    return found


def laws_part() -> dict[str, Any]:
    """Unroll against stepping with the same noise, evaluation mode, float32."""
    configs = {"SVG, VGG as published": SVG.Config(), "push-small": preset("push-small").job.model}
    return {name: unroll_against_step(config) for name, config in configs.items()}


def unroll_against_step(config: Any) -> dict[str, float]:
    torch.manual_seed(0)
    model = SVG(config).eval()
    seen, noise = model.example(2, 12), torch.randn(2, 12, *model.noise)
    whole, _ = model.unroll(seen, None, noise)
    state, pictures = model.initial(2), []
    for t in range(12):
        prediction, state = model.step({k: v[:, t] for k, v in seen.items()}, state, noise[:, t])
        pictures.append(prediction["image"])
    stepped = torch.stack(pictures, 1)
    parameters = [p for p in model.parameters() if p.requires_grad]
    sides = (whole["image"], stepped)
    gradients = [torch.autograd.grad(side.square().mean(), parameters, allow_unused=True) for side in sides]
    apart = [float((a - b).abs().max()) for a, b in zip(*gradients, strict=True) if a is not None and b is not None]
    return {"outputs": float((sides[0] - sides[1]).detach().abs().max()), "gradients": max(apart)}


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "pushes": pushes_part,
    "schedules": schedules_part,
    "bridge": bridge_part,
    "digits": digits_part,
    "speed": speed_part,
    "memory": memory_part,
    "laws": laws_part,
}


def write_pages() -> None:
    write_page(RESULTS, DOCS / "imagine-benchmarks.md")
    write_readme_rows(RESULTS, Path("README.md"))


if __name__ == "__main__":
    measure(PARTS, RESULTS, sys.argv[1:], write_pages)
