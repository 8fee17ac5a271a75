"""What speed is worth in training: the time to the same validation error, and whether bfloat16 learns the same.

`time_to_error` trains SARNN (64x64, the recordings of the preset `pick`) by the published arithmetic, takes its best
validation error of the joints as the target, and trains by ours with everything on until it is reached. `precision`
trains `pick-small` shortly, three seeds in float32 and three in bfloat16. Each training leaves a file in
runs/bench/speed and is not done again.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.published.sarnn import published_losses
from benchmarks.side_by_side import our_products
from sakiyomi.commands import finished
from sakiyomi.data.augment import augment_batch
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.normalize import Normalizer
from sakiyomi.data.windows import Batch, Windows, covered_streams, training_entries
from sakiyomi.files import write_atomic
from sakiyomi.job import Job
from sakiyomi.measuring import Spread
from sakiyomi.models import SARNN
from sakiyomi.prepare import prepare
from sakiyomi.presets import preset
from sakiyomi.products import plain_products
from sakiyomi.run import read_metrics, set_threads
from sakiyomi.schedules import LearningRate, Progress, progress_at
from sakiyomi.step import gradient_norm, weigh
from sakiyomi.train import train

RUNS = Path("runs/bench/speed")
SEEDS = (0, 1, 2)
PUBLISHED_STEPS = 120
MOST = 4 * PUBLISHED_STEPS  # steps of ours, if it does not get there
VALIDATE = 5  # steps between validations, which are not on the clock
SHORT = 300  # steps of a short training
PRECISIONS = ("float32", "bfloat16")
CPU = torch.device("cpu")
Losses = Callable[[SARNN, Batch, Progress], dict[str, Tensor]]


@dataclass
class Clock:
    """Time that was spent learning."""

    seconds: float = 0.0
    processor_seconds: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        begin, busy = time.perf_counter(), time.process_time()
        yield
        self.seconds += time.perf_counter() - begin
        self.processor_seconds += time.process_time() - busy


@dataclass(frozen=True)
class Point:
    """A validation during a training."""

    step: int
    seconds: float
    processor_seconds: float
    error: float
    """Root mean square of the joints' error, of 0.8, the range they have in the network."""


# ---- Time to the same error ------------------------------------------------------------------------------------------


def time_to_error_part() -> dict[str, Any]:
    set_threads(0)
    job = arm_job()
    if not finished(Path(job.data.store)):
        prepare(preset("pick").source, Path(job.data.store))
    seeds = {str(seed): one_seed(job, seed) for seed in SEEDS}
    found: dict[str, Any] = {"seeds": seeds, "batch": job.train.batch_size, "steps": PUBLISHED_STEPS}
    for unit in ("seconds", "processor_seconds"):
        pairs = [(seed["published"][unit], seed["ours"][unit]) for seed in seeds.values() if seed["ours"]["reached"]]
        found[f"{unit}_ratio"] = asdict(Spread.of([a / b for a, b in pairs])) if pairs else None
    return found


def arm_job() -> Job:
    """The preset `pick` with whole episodes, five at a time, and a learning rate that does not depend on how many steps
    there will be, and soon is what it is."""
    job = preset("pick").job
    rate = LearningRate(peak=job.train.learning_rate.peak, warmup=20)
    return replace(job, train=replace(job.train, batch_size=5, steps=MOST, learning_rate=rate))


def one_seed(job: Job, seed: int) -> dict[str, Any]:
    """Both trainings of one seed, and when each had the published way's best error for the first time."""
    published = kept(f"published-{seed}", lambda: learned(job, seed, publish, PUBLISHED_STEPS, 0.0))
    best = min(published, key=lambda point: point.error)
    ours = kept(f"ours-{seed}", lambda: learned(job, seed, everything_on, MOST, best.error))
    return {
        "target": best.error,
        "published": {**asdict(best), "reached": True, "curve": [asdict(point) for point in published]},
        "ours": {**asdict(ours[-1]), "reached": ours[-1].error <= best.error, "curve": [asdict(p) for p in ours]},
    }


def kept(name: str, measure: Callable[[], list[Point]]) -> list[Point]:
    """What was measured before, or is now."""
    path = RUNS / f"{name}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps([asdict(point) for point in measure()]).encode())
    return [Point(**point) for point in json.loads(path.read_bytes())]


def learned(job: Job, seed: int, losses: Losses, steps: int, target: float) -> list[Point]:
    """Validations during a training of `steps` at most, which ends where the target is reached. Weights, batches and
    noise follow from the seed, and so are the same for both ways."""
    cfg, store = job.train, EpisodeStore(job.data.store)
    torch.manual_seed(seed)
    assert isinstance(job.model, SARNN.Config)
    model = SARNN(job.model)
    if losses is everything_on:
        model.to(memory_format=torch.channels_last)
    covered = covered_streams(store, model.inputs)
    normalizer = Normalizer.fit(store, covered, training_entries(store, job.data) if job.data.episodes else ())
    windows, validation = (Windows(store, s, job.data, model.inputs, normalizer) for s in ("train", "validation"))
    known = validation.batch(list(range(len(validation))))
    optimizer = torch.optim.Adam(model.parameters(), lr=cfg.learning_rate.peak, fused=losses is everything_on)
    clock, points = Clock(), [Point(0, 0.0, 0.0, joint_error(model, known))]
    for step in range(steps):
        with clock.running(), our_products() if losses is everything_on else plain_products():
            progress = progress_at(step, cfg.steps, seed, CPU)
            batch = augment_batch(windows.draw(seed, step, cfg.batch_size), job.augment, progress.generator)
            for group in optimizer.param_groups:
                group["lr"] = cfg.learning_rate.at(step, cfg.steps)
            found = losses(model, batch, progress)
            weigh(found, batch.mask, cfg, step)[0].backward()
            gradient_norm(model, cfg.clip)
            optimizer.step()
            optimizer.zero_grad()
        if (step + 1) % VALIDATE == 0:
            error = joint_error(model, known)
            points.append(Point(step + 1, clock.seconds, clock.processor_seconds, error))
            if error <= target:
                break
    return points


def publish(model: SARNN, batch: Batch, progress: Progress) -> dict[str, Tensor]:
    """The loop over time, in float32; all pictures are decoded."""
    return published_losses(model, batch)


def everything_on(model: SARNN, batch: Batch, progress: Progress) -> dict[str, Tensor]:
    """As the preset trains, in bfloat16: its share of the pictures is decoded."""
    with torch.autocast("cpu", torch.bfloat16):
        return model.loss(batch, progress)


@torch.no_grad()
def joint_error(model: SARNN, batch: Batch) -> float:
    """In float32, of clean recordings that were not learned from."""
    losses = model.eval().loss(batch, progress_at(0, 1, 0, CPU, training=False))
    model.train()
    return float((losses["joints"] * batch.mask).sum() / batch.mask.sum()) ** 0.5


# ---- bfloat16 --------------------------------------------------------------------------------------------------------


def precision_part() -> dict[str, Any]:
    set_threads(0)
    chosen = preset("pick-small")
    if not finished(Path(chosen.job.data.store)):
        prepare(chosen.source, Path(chosen.job.data.store))
    runs = {p: {str(seed): short_training(chosen.job, p, seed) for seed in SEEDS} for p in PRECISIONS}
    return {"runs": runs, "steps": SHORT, **{name: apart(runs, name) for name in ("total", "joints")}}


def short_training(job: Job, precision: str, seed: int) -> dict[str, Any]:
    """The validation losses of a training by the project's own loop."""
    folder = RUNS / f"{precision}-{seed}"
    cfg = replace(job.train, steps=SHORT, validate_every=50, save_every=100, seed=seed)
    cfg = replace(cfg, precision=precision)  # pyright: ignore[reportArgumentType]
    train(replace(job, train=cfg), folder, resume=folder.exists())
    lines = [line for line in read_metrics(folder) if "validation/total" in line]
    return {name: [line[f"validation/{name}"] for line in lines] for name in ("total", "joints")}


def apart(runs: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    """At the end: the mean of each precision, how far those are apart, and how far seeds of one precision are."""
    last = {p: [seed[name][-1] for seed in seeds.values()] for p, seeds in runs.items()}
    means = {p: sum(values) / len(values) for p, values in last.items()}
    between_seeds = max(max(values) - min(values) for values in last.values())
    between = abs(means["float32"] - means["bfloat16"])
    return {
        "means": means,
        "precisions_apart": between,
        "seeds_apart": between_seeds,
        "within": between < between_seeds,
    }
