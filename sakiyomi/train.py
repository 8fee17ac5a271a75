"""Verb 2, `sakiyomi train NAME`: the one training loop.

    sakiyomi train pick --train.seed 1
    sakiyomi train pick --resume

Each step is a function of (seed, step) and the weights before it, so stop + resume gives the run that was never
stopped, bit for bit.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sakiyomi.data.augment import augment_batch
from sakiyomi.data.clips import Clips, of_sound
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.normalize import Normalizer
from sakiyomi.data.texts import Passages, Sentences, of_tokens
from sakiyomi.data.utterances import Utterances
from sakiyomi.data.windows import (
    Batch,
    Batches,
    Data,
    Windows,
    covered_streams,
    target_stream,
    training_entries,
)
from sakiyomi.errors import SakiyomiError, unknown
from sakiyomi.files import append_line
from sakiyomi.guard import Limits
from sakiyomi.imagine import foresight
from sakiyomi.job import Job, Train, build, check, flat, load_job, model_name, save_job
from sakiyomi.models import MODELS, SequenceModel
from sakiyomi.models.base import Fitted, Framewise, Imaginative, Latent
from sakiyomi.run import (
    Clock,
    Interrupted,
    Log,
    console,
    finish_step_on_interrupt,
    load_checkpoint,
    pick_device,
    progress_bar,
    read_metrics,
    restore,
    save_checkpoint,
    save_weights,
    set_threads,
)
from sakiyomi.schedules import Progress, progress_at
from sakiyomi.watchdog import warnings

ACTIVE = 0.01  # nats a step above which a number of the latent is in use
GO_ON = "Go on: the same command (train: with --resume)"


@dataclass(frozen=True)
class Ended:
    """How a training ended."""

    steps: int
    """Steps done."""
    best: float
    """The lowest validation loss, or whatever measure `Train.keep` names."""
    best_step: int
    stopped_early: bool


@dataclass
class Counters:
    """What a checkpoint carries beside weights and moments."""

    step: int = 0
    best: float = math.inf
    best_step: int = -1
    worse: int = 0
    """Validations since the best one."""

    def as_dict(self) -> dict[str, float | None]:
        return {**vars(self), "best": self.best if math.isfinite(self.best) else None}  # JSON has no infinity

    @classmethod
    def read(cls, state: dict[str, Any]) -> "Counters":
        return cls(**{**state, "best": math.inf if state["best"] is None else state["best"]})


@dataclass(frozen=True)
class Pending:
    """A step's losses that nobody has read yet, so that the device need not be waited for."""

    step: int
    tensors: dict[str, Tensor]
    schedules: dict[str, float]


@dataclass(frozen=True)
class Parts:
    """What the loop works with."""

    device: torch.device
    model: SequenceModel
    optimizer: torch.optim.Optimizer
    batch_size: int
    windows: Batches
    validation: Batches

    @property
    def epoch(self) -> float:
        """Steps in which every window is seen once."""
        return max(1.0, len(self.windows) / self.batch_size)


def train(job: Job, folder: Path, resume: bool = False) -> Ended:
    """Train and leave a run folder behind.

    Raises SakiyomiError when the folder holds a run already (unless `resume`), when the data does not fit the
    model, when a loss is not finite; Interrupted on Ctrl-C. In every case the last checkpoint is good.
    """
    check(job)
    job = fitted(job)
    cfg, last = job.train, folder / "last.safetensors"
    parts, counters = assemble(job, folder, resume)
    if counters.step >= cfg.steps or stops_early(counters, cfg):  # resumed, and there was nothing left to do
        return Ended(counters.step, counters.best, counters.best_step, stops_early(counters, cfg))
    log, clock = Log(folder, counters.step), Clock()
    pending: list[Pending] = []
    with progress_bar("training", cfg.steps) as bar, finish_step_on_interrupt() as interrupt:
        while counters.step < cfg.steps and not stops_early(counters, cfg):
            step = counters.step

            # save: before anything of this step, so that a resumed run does all of it, once
            if interrupt["asked"] or (step % cfg.save_every == 0 and step > 0):
                read_losses(pending, last)
                save_checkpoint(last, parts.model, parts.optimizer, job.model, counters.as_dict())
            if interrupt["asked"]:
                log.close()
                raise Interrupted(f"stopped before step {step}; {last} is saved. {GO_ON}")

            # evaluate
            if step % cfg.validate_every == 0 and step > 0:
                read_losses(pending, last)
                validate_and_keep(parts, job, folder, counters, log)
                if stops_early(counters, cfg):
                    break

            # step
            batch, progress, schedules = draw(parts, job, step)
            for group in parts.optimizer.param_groups:
                group["lr"] = schedules["lr"]
            seen: list[dict[str, Tensor]] = []
            for losses, mask in portions(parts, batch, progress, cfg):
                total, means = weigh(losses, mask, cfg, step)
                total.backward()
                norm = gradient_norm(parts.model, cfg.clip)
                parts.optimizer.step()
                parts.optimizer.zero_grad(set_to_none=True)
                seen.append({"total": total.detach(), "gradient_norm": norm, **means})
            counters.step = step + 1

            # log
            pending.append(Pending(step, averages(seen), schedules))
            clock.count(batch.mask.numel())
            if step % cfg.log_every == 0 or counters.step == cfg.steps:
                values = read_losses(pending, last)
                log.write(step, values)
                text = " ".join(f"{name} {values[name]:.2e}" for name in cfg.losses)
                bar.update(counters.step, f"{text}  {clock.rate():,.0f} frames/s")

    stopped_early = stops_early(counters, cfg)
    read_losses(pending, last)
    if not stopped_early:
        validate_and_keep(parts, job, folder, counters, log)
    save_checkpoint(last, parts.model, parts.optimizer, job.model, counters.as_dict())
    log.close()
    return Ended(counters.step, counters.best, counters.best_step, stopped_early)


def assemble(job: Job, folder: Path, resume: bool) -> tuple[Parts, Counters]:
    """Build everything, write what a run folder begins with, and take up the last checkpoint on `resume`."""
    cfg, last = job.train, folder / "last.safetensors"
    set_threads(cfg.threads)
    device = pick_device(cfg.device)
    torch.manual_seed(cfg.seed)
    model = build(job.model).to(device=device).to(memory_format=torch.channels_last)
    measures = ("total", *cfg.losses, *(("imagined",) if isinstance(model, Imaginative) else ()))
    if cfg.keep not in measures:
        raise unknown("measure of validation (--train.keep)", cfg.keep, measures)
    store = EpisodeStore(job.data.store)
    entries = training_entries(store, job.data) if job.data.episodes else ()
    normalizer = Normalizer.fit(store, covered_streams(store, (*model.inputs, *model.taught)), entries)
    windows = batches(store, "train", job.data, model, normalizer)
    validation = batches(store, "validation", job.data, model, normalizer)
    optimizer = torch.optim.Adam(model.parameters(), lr=cfg.learning_rate.peak, eps=cfg.adam_eps, fused=True)
    epochs, forcing = cfg.steps * cfg.batch_size / len(windows), cfg.teacher_forcing
    if forcing.step and forcing.start >= epochs:
        told = (
            f"teacher forcing never falls: it would after {forcing.start:g} epochs, and this training has {epochs:.2g}"
        )
        console.print(f"{told}; an earlier --train.teacher-forcing.start", style="yellow", markup=False)
    counters = Counters()
    if (folder / "job.json").exists() and not resume:
        raise SakiyomiError(f"{folder} holds a run already; go on with --resume, or name another folder with --out")
    if resume and last.exists():
        _check_same(load_job(folder), job)
        checkpoint = load_checkpoint(last, job.model)
        restore(checkpoint, model, optimizer)
        counters = Counters.read(checkpoint.state)
    try_one(model, windows, cfg, device)
    save_job(job, folder)
    normalizer.save(folder / "normalizer.json")
    if "joints" in model.outputs and isinstance(windows, Windows):  # it may drive
        learned_limits(windows).save(folder / "limits.json")
    return Parts(device, model, optimizer, cfg.batch_size, windows, validation), counters


def batches(store: EpisodeStore, split: str, data: Data, model: SequenceModel, normalizer: Normalizer) -> Batches:
    """One split as a model reads it: windows at its rate; sentences or passages of tokens; utterances; clips of
    sound."""
    if model.taught:
        return Utterances(store, split, data, model.inputs, model.taught, normalizer)
    if of_sound(store, model.inputs):
        return Clips(store, split, data, model.inputs, normalizer)
    if not of_tokens(store, model.inputs):
        return Windows(store, split, data, model.inputs, normalizer)
    if data.steps and not model.reads:
        return Passages(store, split, data, model.inputs)
    return Sentences(store, split, data, model.inputs, model.reads)


@torch.no_grad()
def try_one(model: SequenceModel, windows: Batches, cfg: Train, device: torch.device) -> None:
    """Raises SakiyomiError where data, model and losses do not fit, before anything is written: a run folder that was
    begun in vain would be in the way of the next try."""
    progress = progress_at(0, cfg.steps, cfg.seed, device, training=False)
    batch = windows.batch([0]).to(device)
    weigh(model.eval().loss(batch, progress), batch.mask, cfg, 0)
    model.train()


def fitted(job: Job) -> Job:
    """The job with what its model's Config leaves to the recordings."""
    model = MODELS[model_name(job.model)]
    if not isinstance(model, Fitted):
        return job
    return replace(job, model=model.fitted(job.model, EpisodeStore(job.data.store).streams))


def draw(parts: Parts, job: Job, step: int) -> tuple[Batch, Progress, dict[str, float]]:
    """What one step learns from, as a function of (seed, step): its windows with their noise, where training is, and
    everything that changes during it."""
    cfg = job.train
    schedules = schedules_at(cfg, step, step / parts.epoch)
    progress = progress_at(step, cfg.steps, cfg.seed, parts.device, forcing=schedules["teacher_forcing"])
    # Dropout draws from torch's own generator; other numbers than those of this step's, but as fixed.
    torch.manual_seed(progress.generator.initial_seed() ^ 1)
    batch = parts.windows.draw(cfg.seed, step, cfg.batch_size).to(parts.device)
    return augment_batch(batch, job.augment, progress.generator), progress, schedules


def portions(parts: Parts, batch: Batch, progress: Progress, cfg: Train) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """What a gradient step is taken on, losses and their mask: the whole sequence, or one frame after the other of a
    model that is taught frame by frame."""
    autocast = partial(torch.autocast, parts.device.type, torch.bfloat16, enabled=cfg.precision == "bfloat16")
    if not isinstance(parts.model, Framewise):
        with autocast():
            losses = parts.model.loss(batch, progress)
        yield losses, batch.mask
        return
    frames = parts.model.frames(batch, progress)
    for mask, real in zip(batch.mask.split(1, dim=1), batch.mask.any(0).tolist(), strict=True):
        with autocast():
            losses = next(frames)
        if real:  # on padding alone Adam would go on by its momentum
            yield losses, mask


def gradient_norm(model: SequenceModel, clip: float) -> Tensor:
    """The norm of all gradients, which are scaled down to `clip` if that is not 0."""
    if clip:
        return torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    return torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])


def averages(seen: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each value."""
    return {name: torch.stack([values[name] for values in seen]).mean() for name in seen[0]}


def schedules_at(cfg: Train, step: int, epoch: float) -> dict[str, float]:
    """Everything that changes during training, as it is logged: the learning rate, how often a step is
    teacher-forced, and each loss's weight."""
    weights = {f"weight/{name}": weight.at(step, cfg.steps) for name, weight in cfg.losses.items()}
    return {"lr": cfg.learning_rate.at(step, cfg.steps), "teacher_forcing": cfg.teacher_forcing.at(epoch), **weights}


def stops_early(counters: Counters, cfg: Train) -> bool:
    return bool(cfg.patience) and counters.worse >= cfg.patience


def validate_and_keep(parts: Parts, job: Job, folder: Path, counters: Counters, log: Log) -> None:
    """Validate, and keep the weights if they are the best so far."""
    values = validate(parts.model, parts.validation, job.train, parts.device, parts.epoch)
    measure = values[job.train.keep]
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    if bad:
        raise SakiyomiError(
            f"training stopped: {', '.join(bad)} of validation became {values[bad[0]]} at step {counters.step}; "
            f"{folder} keeps the last good checkpoint, if one was written. "
            "A lower --train.learning-rate.peak usually helps"
        )
    log.write(counters.step, {f"validation/{k}": v for k, v in values.items()})
    if measure < counters.best:
        counters.best, counters.best_step, counters.worse = measure, counters.step, 0
        save_weights(folder / "weights.safetensors", parts.model, job.model, counters.as_dict())
    else:
        counters.worse += 1
    say_what_looks_wrong(read_metrics(folder), job.train, folder / "warnings.txt")


def say_what_looks_wrong(metrics: list[dict[str, float]], cfg: Train, path: Path) -> None:
    """Print, and add to `path`, what the watchdogs find since the newest validation and did not find before it."""
    newest = max((i for i, line in enumerate(metrics) if "validation/total" in line), default=0)
    before = warnings(metrics[:newest], cfg.watch)
    for name, text in warnings(metrics, cfg.watch).items():
        if name not in before:
            line = f"step {metrics[newest]['step']:.0f}: {text}"
            console.print(line, style="yellow", markup=False)
            append_line(path, line.encode())


def weigh(losses: dict[str, Tensor], mask: Tensor, cfg: Train, step: int) -> tuple[Tensor, dict[str, Tensor]]:
    """The one place where losses [B, T] are masked, weighed and summed: the total, and each loss's masked mean."""
    if set(losses) != set(cfg.losses):
        raise SakiyomiError(
            f"the model has losses {sorted(losses)}, the job gives weights for {sorted(cfg.losses)}; "
            "give each a weight (0 leaves it out)"
        )
    count = mask.sum().clamp_min(1)
    means = {}
    for name, loss in losses.items():
        if loss.shape != mask.shape:
            raise SakiyomiError(f"loss {name!r} has shape {list(loss.shape)}, expected {list(mask.shape)} (B, T)")
        # Not a product: what stands in the padding must not count, whatever it is.
        means[name] = torch.where(mask > 0, loss.float(), 0.0).sum() / count
    total = torch.stack([cfg.losses[name].at(step, cfg.steps) * mean for name, mean in means.items()]).sum()
    return total, {name: mean.detach() for name, mean in means.items()}


@torch.no_grad()
def validate(
    model: SequenceModel, windows: Batches, cfg: Train, device: torch.device, epoch: float
) -> dict[str, float]:
    """Mean losses over a split, clean inputs, every schedule where it ends: one measure from first step to last. Of a
    model that imagines also how well it does, which is what it is for; of one with a latent, how much of it is used."""
    model.eval()
    sums: dict[str, Tensor] = {}
    used: Tensor | float = 0.0
    count = torch.zeros((), device=device)
    forcing = cfg.teacher_forcing.at(cfg.steps / epoch)
    progress = progress_at(cfg.steps, cfg.steps, cfg.seed, device, training=False, forcing=forcing)
    for first in range(0, len(windows), cfg.batch_size):
        batch = windows.batch(list(range(first, min(first + cfg.batch_size, len(windows))))).to(device)
        for name, loss in model.loss(batch, progress).items():
            sums[name] = sums.get(name, 0) + torch.where(batch.mask > 0, loss, 0.0).sum()
        if isinstance(model, Latent):
            used = used + torch.where(batch.mask[..., None] > 0, model.usage(batch), 0.0).sum((0, 1))
        count = count + batch.mask.sum()
    ahead = foresight(model, windows, cfg.batch_size, device) if isinstance(model, Imaginative) else {}
    model.train()
    values = {name: float(total / count) for name, total in sums.items()}
    active = {"active": float((used / count > ACTIVE).float().mean())} if isinstance(used, Tensor) else {}
    return {"total": sum(cfg.losses[name].value * value for name, value in values.items()), **values, **ahead, **active}


def read_losses(pending: list[Pending], last: Path) -> dict[str, float]:
    """Read the losses of the steps since the last reading (one wait for the device, not one a step); the newest
    step's values. Raises SakiyomiError at the first that is not finite."""
    values: dict[str, float] = {}
    for one in pending:
        values = {name: float(tensor) for name, tensor in one.tensors.items()}
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad:
            good = f"the last good checkpoint is {last}" if last.exists() else "none was written yet"
            raise SakiyomiError(
                f"training stopped: {', '.join(bad)} became {values[bad[0]]} at step {one.step}; {good}. "
                "A lower --train.learning-rate.peak or a smaller --train.clip usually helps"
            )
        values |= one.schedules
    pending.clear()
    return values


def learned_limits(windows: Windows) -> Limits:
    """The guard's limits: hard ones where the stream states them, the rest from the commands (or joints) of the
    training windows at the model's rate."""
    name = target_stream(windows.store, "joints")
    stream = windows.store.streams[name]
    hard = (np.array(stream.low), np.array(stream.high)) if stream.low else (None, None)
    return Limits.learn([series.astype(float) for series in windows.series(name)], 1 / windows.rate, *hard)


def _check_same(there: Job, asked: Job) -> None:
    """Raises SakiyomiError when a resumed job is not the saved one, naming the fields."""
    before, now = flat(there), flat(asked)
    different = [f"{k} {before.get(k)} there, {now.get(k)} asked" for k in before | now if before.get(k) != now.get(k)]
    if different:
        raise SakiyomiError(f"--resume goes on with the same job, but it differs: {'; '.join(different)}")
