"""Verb `sakiyomi bench NAME`: how fast a preset is on this machine, and how far from the machine's limit.

    sakiyomi bench pick
    sakiyomi bench push-small --seconds 60 --threads 1 --out push-small.json

Nothing need be recorded or trained: it works on random values of the right shapes. Measured are a training step, a step
of a rollout for one robot, text or body, and for a model that commands joints the closed loop, from observation to
guarded command. In a checkout of the repository the published arithmetic of the model is measured beside ours.
"""

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sakiyomi.data.far import is_url
from sakiyomi.data.normalize import Normalizer, Scale
from sakiyomi.data.vocabulary import SPECIAL
from sakiyomi.data.windows import Batch
from sakiyomi.errors import SakiyomiError, at_least
from sakiyomi.guard import Limits
from sakiyomi.job import Job, build, model_name
from sakiyomi.measuring import Rates, Spread, Work, describe_machine, in_turn, measure_rates, needed, peak_memory
from sakiyomi.models import SequenceModel
from sakiyomi.models.base import Framewise, Imaginative, Reads
from sakiyomi.processor import prepare
from sakiyomi.products import training_products
from sakiyomi.rollout import Policy, Trained
from sakiyomi.run import set_threads
from sakiyomi.schedules import progress_at
from sakiyomi.step import gradient_norm, weigh
from sakiyomi.train import fitted

CPU = torch.device("cpu")
CHECKOUT = Path(__file__).parent.parent
WHOLE = 45  # steps of a window where the recordings say how long it is
# Widths that a preset leaves to its recordings, where there are none.
STAND_INS = {"pose": 267, "channels": 4, "features": 40, "words": 4000, "source_words": 4000, "target_words": 4000}
STAND_INS |= {"labels": 10, "joints": 8}


@dataclass(frozen=True)
class HowBench:
    """How a preset is measured."""

    seconds: float = 20.0
    """Time for the training step; as long again for each comparison."""
    threads: int = 0
    """CPU threads; 0 uses every core this process may use."""
    batch_size: int = 0
    """Windows a step; 0 takes the preset's."""
    steps: int = 0
    """Length of a window; 0 takes the preset's, 45 where that is a whole episode."""
    ticks: int = 500
    """Steps of the rollout and of the closed loop."""
    alone: bool = False
    """Leave out the comparison with the published arithmetic."""


def bench(job: Job, how: HowBench) -> dict[str, Any]:
    """All figures, as JSON has them."""
    for name in ("seconds", "threads", "batch_size", "steps"):
        at_least(f"--{name.replace('_', '-')}", getattr(how, name), 0)
    at_least("--ticks", how.ticks, 10)
    set_threads(how.threads)
    prepare(job.train.precision)
    torch.manual_seed(job.train.seed)
    job, guessed = sized(job)
    model = build(job.model).to(memory_format=torch.channels_last)
    batch = random_batch(model, how.batch_size or job.train.batch_size, how.steps or job.data.steps or WHOLE)
    step = training_step(model, job, batch)
    with training_products():
        peak = peak_memory(step)  # before anything else has used memory that it could use again
        rates = measure_rates()
        training = training_figures(step, batch.mask.numel(), rates, how.seconds)
    result = {
        "model": model_name(job.model),
        "batch": list(batch.mask.shape),
        "precision": job.train.precision,
        "stand_ins": guessed,
        "rates": asdict(rates),
        "training": {"peak_bytes": peak, **training},
        "machine": describe_machine(),
    }
    model.eval()
    if not model.whole:
        result["rollout"] = percentiles(rollout_seconds(model, how.ticks))
    if "joints" in model.outputs:
        result["closed_loop"] = percentiles(closed_loop_seconds(job, model, how.ticks))
    if not how.alone:
        result["published"] = compared(result["model"], rates, how)
    return result


def sized(job: Job) -> tuple[Job, dict[str, int]]:
    """The job with every width known: by its recordings if there are any, else by stand-ins, which are named."""
    if not is_url(job.data.store) and (Path(job.data.store) / "dataset.json").exists():
        return fitted(job), {}
    open_ = {f.name: getattr(job.model, f.name) for f in fields(job.model)}
    guessed = {name: STAND_INS[name] for name, value in open_.items() if name in STAND_INS and value == 0}
    return replace(job, model=replace(job.model, **guessed)), guessed  # pyright: ignore[reportArgumentType]


def random_batch(model: SequenceModel, batch: int, steps: int) -> Batch:
    """Random windows as `Windows`, `Sentences` and `Utterances` make them, all of them whole."""
    values = model.example(batch, steps + 1)
    if model.taught:  # a label each three frames, as speech has them at most
        name = model.taught[0]
        labels = torch.randint(len(SPECIAL), model.vocabularies[name], (batch, max(1, steps // 6)))
        return Batch({k: v[:, :-1] for k, v in values.items()}, {name: labels}, torch.ones(batch, steps))
    inputs = {name: value[:, :-1] for name, value in values.items()}
    return Batch(inputs, {name: value[:, 1:] for name, value in values.items()}, torch.ones(batch, steps))


# ---- The training step -----------------------------------------------------------------------------------------------


def training_step(model: SequenceModel, job: Job, batch: Batch) -> Work:
    """A whole one: losses, gradients, and Adam's step; of a model that is taught frame by frame one for each frame."""
    cfg = job.train
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0, eps=cfg.adam_eps, fused=True)
    autocast = partial(torch.autocast, "cpu", torch.bfloat16, enabled=cfg.precision == "bfloat16")

    def learn(losses: dict[str, Tensor], mask: Tensor) -> None:
        weigh(losses, mask, cfg, 0)[0].backward()
        gradient_norm(model, cfg.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def step() -> None:
        progress = progress_at(0, cfg.steps, cfg.seed, CPU)
        if not isinstance(model, Framewise):
            with autocast():
                losses = model.loss(batch, progress)
            learn(losses, batch.mask)
            return
        frames = model.frames(batch, progress)
        for mask in batch.mask.split(1, dim=1):
            with autocast():
                losses = next(frames)
            learn(losses, mask)

    return step


def training_figures(step: Work, frames: int, rates: Rates, seconds: float) -> dict[str, Any]:
    """Seconds, frames a second, and the floor."""
    count = needed(step)
    spread = Spread.of(in_turn({"": step}, seconds, most=200)[""])
    floor = count.seconds(rates)
    return {
        "seconds": asdict(spread),
        "frames_per_second": frames / spread.median,
        "operations": dict(count.operations),
        "kept_bytes": count.kept,
        "floor_seconds": floor,
        "share": floor / spread.median,
    }


# ---- Steps of a rollout ----------------------------------------------------------------------------------------------


@torch.inference_mode()
def rollout_seconds(model: SequenceModel, ticks: int) -> list[float]:
    """What each of `ticks` steps takes at batch 1: on true values, of a model that imagines on its own."""
    values = {name: value[:, 0] for name, value in model.example(1, 1).items()}
    state = model.read(model.example(1, 12)) if isinstance(model, Reads) else model.initial(1)
    if isinstance(model, Imaginative):
        _, state = model.unroll(model.example(1, model.past), None)
    taken = []
    for _ in range(ticks):
        begin = time.perf_counter()
        if isinstance(model, Imaginative):
            _, state = model.imagine(values, state)
        else:
            _, state = model.step({k: v for k, v in values.items() if k not in model.reads}, state)
        taken.append(time.perf_counter() - begin)
    return taken


def closed_loop_seconds(job: Job, model: SequenceModel, ticks: int) -> list[float]:
    """What each decision takes at batch 1, from the camera's bytes to the guarded command."""
    count = model.shapes["joints"][0]
    scales = {"joints": Scale("joints", (-1.0,) * count, (1.0,) * count), "image": Scale("image")}
    one, many = (1.0,) * count, (10.0,) * count
    limits = Limits((-1.0,) * count, one, many, (1000.0,) * count, (-1.0,) * count, one, period=0.1)
    policy = Policy(Trained(job, model, Normalizer(scales), limits))
    policy.reset(np.zeros(count))
    draw = np.random.default_rng(0)
    _, height, width = model.shapes.get("image", (3, 1, 1))
    taken = []
    for tick in range(ticks):
        observation = {
            "image": draw.integers(0, 256, (height, width, 3), dtype=np.uint8),
            "joints": draw.uniform(-1, 1, count).astype(np.float32),
        }
        taken.append(policy.act(observation, tick * limits.period).seconds)
    return taken


def percentiles(seconds: list[float], warm: int = 5) -> dict[str, float]:
    """In ms; the first few, in which memory is found, are left out."""
    kept = 1e3 * np.array(seconds[warm:])
    return {**{f"p{p}_ms": float(np.percentile(kept, p)) for p in (50, 90, 99)}, "n": float(len(kept))}


# ---- Beside the published arithmetic ---------------------------------------------------------------------------------


def compared(model: str, rates: Rates, how: HowBench) -> dict[str, Any]:
    """What benchmarks/side_by_side.py of this checkout says of the model, in a process of its own, at the sizes of its
    file there, which need not be the preset's; or what to do for it."""
    if not (CHECKOUT / "benchmarks" / "side_by_side.py").exists():
        told = "the published arithmetic is in the repository's benchmarks/; run this in a checkout: pip install -e ."
        return {"note": told}
    command = [sys.executable, "-m", "benchmarks.side_by_side", "compare", model, str(torch.get_num_threads())]
    command += [str(how.seconds), json.dumps(asdict(rates))]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    if done.returncode:
        raise SakiyomiError(f"the comparison ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])
