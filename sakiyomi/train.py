"""Verb 2, `sakiyomi train NAME`: the one training loop.

    sakiyomi train pick --train.seed 1
    sakiyomi train pick --resume
    torchrun --nproc-per-node 2 -m sakiyomi train pick

Each step is a function of (seed, step) and the weights before it, so stop + resume gives the run that was never
stopped, bit for bit. What a step does is in `step.py`; that several processes do it together, in `distributed.py`.
"""

import math
import signal
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sakiyomi.compiled import compiled
from sakiyomi.data.clips import Clips, of_sound
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.normalize import Normalizer
from sakiyomi.data.prefetch import Ahead
from sakiyomi.data.texts import Passages, Sentences, of_tokens
from sakiyomi.data.utterances import Utterances
from sakiyomi.data.windows import Batches, Data, Windows, covered_streams, target_stream, training_entries
from sakiyomi.distributed import Replica, Team, adam, all_moments, joined, shards_of
from sakiyomi.errors import SakiyomiError, unknown
from sakiyomi.files import append_line
from sakiyomi.guard import Limits
from sakiyomi.job import Job, Train, build, check, flat, load_job, model_name, save_job
from sakiyomi.models import MODELS, SequenceModel
from sakiyomi.models.base import Fitted, Imaginative
from sakiyomi.processor import prepare
from sakiyomi.products import training_products
from sakiyomi.run import (
    Clock,
    Interrupted,
    Log,
    console,
    finish_step_on_interrupt,
    load_checkpoint,
    progress_bar,
    read_metrics,
    restore,
    save_checkpoint,
    save_weights,
    set_threads,
)
from sakiyomi.schedules import progress_at
from sakiyomi.step import Parts, averages, draw, gradient_norm, gradients, portions, weigh
from sakiyomi.validation import validate
from sakiyomi.watchdog import warnings

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
    here: dict[str, Tensor]
    """What this process adds to them."""
    norm: Tensor
    schedules: dict[str, float]


@dataclass(frozen=True)
class Run:
    """A training under way."""

    job: Job
    folder: Path
    team: Team
    parts: Parts
    counters: Counters
    pending: list[Pending] = field(default_factory=list)

    @property
    def last(self) -> Path:
        """The last checkpoint."""
        return self.folder / "last.safetensors"

    @property
    def over(self) -> bool:
        return self.counters.step >= self.job.train.steps or self.stopped_early

    @property
    def stopped_early(self) -> bool:
        return bool(self.job.train.patience) and self.counters.worse >= self.job.train.patience

    @property
    def ended(self) -> Ended:
        return Ended(self.counters.step, self.counters.best, self.counters.best_step, self.stopped_early)


@training_products()
def train(job: Job, folder: Path, resume: bool = False) -> Ended:
    """Train and leave a run folder behind; under torchrun, together with the other processes.

    Raises SakiyomiError when the folder holds a run already (unless `resume`), when the data does not fit the
    model, when a loss is not finite; Interrupted on Ctrl-C. In every case the last checkpoint is good.
    """
    check(job)
    with joined() as team:
        run = assemble(job, folder, resume or team.restarts > 0, team)
        return run.ended if run.over else loop(run)  # resumed, and there was nothing left to do


def loop(run: Run) -> Ended:
    """Train until the last step, or until it gets no better."""
    cfg, parts, counters = run.job.train, run.parts, run.counters
    log, clock = Log(run.folder, counters.step, writes=run.team.first), Clock()
    # On a CPU the thread that draws takes its time from those that compute: of four presets a step took 1.05 to 1.25 of
    # the time with it.
    ahead = Ahead(partial(draw, parts, run.job), cfg.steps, depth=int(parts.device.type == "cuda"))
    with progress_bar("training", cfg.steps) as bar, finish_step_on_interrupt(signal.SIGTERM) as interrupt, ahead:
        while not run.over:
            step = counters.step

            # save: before anything of this step, so that a resumed run does all of it, once
            stop = run.team.any(interrupt["asked"] or run.team.abandoned)
            if stop or (step % cfg.save_every == 0 and step > 0):
                read_losses(run)
                save(run)
            if stop:
                log.close()
                raise Interrupted(f"stopped before step {step}; {run.last} is saved. {GO_ON}")

            # evaluate
            if step % cfg.validate_every == 0 and step > 0:
                read_losses(run)
                validate_and_keep(run, log)
                if run.over:
                    break

            # step
            shards, schedules = ahead.take(step)
            for group in parts.optimizer.param_groups:
                group["lr"] = schedules["lr"]
            seen: list[dict[str, Tensor]] = []
            norms: list[Tensor] = []
            for portion in portions(parts, shards, run.job):
                seen.append(gradients(parts, portion, cfg, step))
                norms.append(gradient_norm(parts.model, cfg.clip))
                parts.optimizer.step()
                parts.optimizer.zero_grad(set_to_none=True)
            counters.step = step + 1

            # log
            run.pending.append(Pending(step, averages(seen), torch.stack(norms).mean(), schedules))
            clock.count(run.team.size * sum(shard.batch.mask.numel() for shard in shards))
            if step % cfg.log_every == 0 or counters.step == cfg.steps:
                values = read_losses(run)
                log.write(step, values)
                text = " ".join(f"{name} {values[name]:.2e}" for name in cfg.losses)
                bar.update(counters.step, f"{text}  {clock.rate():,.0f} frames/s")

    read_losses(run)
    if not run.stopped_early:
        validate_and_keep(run, log)
    save(run)
    log.close()
    return run.ended


def assemble(job: Job, folder: Path, resume: bool, team: Team) -> Run:
    """Build everything, write what a run folder begins with, and take up the last checkpoint on `resume`."""
    there = load_job(folder) if resume and (folder / "job.json").exists() else None
    shards = shards_of(job.train.shards, there.train.shards if there else None, team.size)
    job = fitted(replace(job, train=replace(job.train, shards=shards)))
    cfg = job.train
    set_threads(cfg.threads, team.local_size)
    prepare(cfg.precision)
    device = team.device(cfg.device)
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
    if device.type == "cuda" and isinstance(windows, Windows):
        windows.keep(device, limit=torch.cuda.mem_get_info(device)[0] // 4)  # the model needs the rest
    optimizer = adam(model, cfg.learning_rate.peak, cfg.adam_eps, cfg.sharded and team.size > 1)
    warn_of_forcing(cfg, len(windows))
    if (folder / "job.json").exists() and not resume:
        raise SakiyomiError(f"{folder} holds a run already; go on with --resume, or name another folder with --out")
    counters, last = Counters(), folder / "last.safetensors"
    if resume and last.exists():
        _check_same(load_job(folder), job)
        checkpoint = load_checkpoint(last, job.model)
        restore(checkpoint, model, optimizer)
        counters = Counters.read(checkpoint.state)
    try_one(model, windows, cfg, device)
    # Also waits for the others: nothing is written before all have looked.
    if team.total(torch.tensor(counters.step)) != team.size * counters.step:
        raise SakiyomiError(f"{folder} is not the same for all processes; name one that all machines share (--out)")
    if team.first:
        save_job(job, folder)
        normalizer.save(folder / "normalizer.json")
        if "joints" in model.outputs and isinstance(windows, Windows):  # it may drive
            learned_limits(windows).save(folder / "limits.json")
    replica = Replica(model, team, max(1, shards))
    parts = Parts(device, model, optimizer, cfg.batch_size, windows, validation, replica, cfg.compile)
    return Run(job, folder, team, parts, counters)


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
    if cfg.compile:
        compiled(model)
    if cfg.shards > 1:  # the last one is there if any is
        windows.draw(cfg.seed, 0, cfg.batch_size, slice(cfg.shards - 1, None, cfg.shards))
    progress = progress_at(0, cfg.steps, cfg.seed, device, training=False)
    batch = windows.batch([0], device)
    weigh(model.eval().loss(batch, progress), batch.mask, cfg, 0)
    model.train()


def fitted(job: Job) -> Job:
    """The job with what its model's Config leaves to the recordings."""
    model = MODELS[model_name(job.model)]
    if not isinstance(model, Fitted):
        return job
    return replace(job, model=model.fitted(job.model, EpisodeStore(job.data.store).streams))


def warn_of_forcing(cfg: Train, windows: int) -> None:
    """Say so where teacher forcing would only fall after the end."""
    epochs, forcing = cfg.steps * cfg.batch_size / windows, cfg.teacher_forcing
    if forcing.step and forcing.start >= epochs:
        told = (
            f"teacher forcing never falls: it would after {forcing.start:g} epochs, and this training has {epochs:.2g}"
        )
        console.print(f"{told}; an earlier --train.teacher-forcing.start", style="yellow", markup=False)


def save(run: Run) -> None:
    """Write the last checkpoint; the others wait until it is whole, or they might end and take the writer along."""
    moments = all_moments(run.parts.optimizer, run.team)
    if run.team.first:
        save_checkpoint(run.last, run.parts.model, moments, run.job.model, run.counters.as_dict())
    run.team.wait()


def validate_and_keep(run: Run, log: Log) -> None:
    """Validate, and keep the weights if they are the best so far."""
    counters, cfg = run.counters, run.job.train
    values = validate(run.parts, cfg)
    measure = values[cfg.keep]
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    if bad:
        raise SakiyomiError(
            f"training stopped: {', '.join(bad)} of validation became {values[bad[0]]} at step {counters.step}; "
            f"{run.folder} keeps the last good checkpoint, if one was written. "
            "A lower --train.learning-rate.peak usually helps"
        )
    log.write(counters.step, {f"validation/{k}": v for k, v in values.items()})
    better = measure < counters.best
    if better:
        counters.best, counters.best_step, counters.worse = measure, counters.step, 0
    else:
        counters.worse += 1
    if run.team.first:
        if better:
            save_weights(run.folder / "weights.safetensors", run.parts.model, run.job.model, counters.as_dict())
        say_what_looks_wrong(read_metrics(run.folder), cfg, run.folder / "warnings.txt")


def say_what_looks_wrong(metrics: list[dict[str, float]], cfg: Train, path: Path) -> None:
    """Print, and add to `path`, what the watchdogs find since the newest validation and did not find before it."""
    newest = max((i for i, line in enumerate(metrics) if "validation/total" in line), default=0)
    before = warnings(metrics[:newest], cfg.watch)
    for name, text in warnings(metrics, cfg.watch).items():
        if name not in before:
            line = f"step {metrics[newest]['step']:.0f}: {text}"
            console.print(line, style="yellow", markup=False)
            append_line(path, line.encode())


def read_losses(run: Run) -> dict[str, float]:
    """Read the losses of the steps since the last reading (one wait for the device, not one a step); the newest step's
    values, over all processes. Raises SakiyomiError at the first that is not finite."""
    values: dict[str, float] = {}
    if not run.pending:
        return values
    here = torch.stack([torch.stack([*one.here.values()]) for one in run.pending])
    norms = torch.stack([one.norm for one in run.pending])
    rows = torch.cat((run.team.total(here), norms[:, None]), 1).tolist()
    for one, row in zip(run.pending, rows, strict=True):
        values = dict(zip((*one.here, "gradient_norm"), row, strict=True))
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad:
            good = f"the last good checkpoint is {run.last}" if run.last.exists() else "none was written yet"
            raise SakiyomiError(
                f"training stopped: {', '.join(bad)} became {values[bad[0]]} at step {one.step}; {good}. "
                "A lower --train.learning-rate.peak or a smaller --train.clip usually helps"
            )
        values |= one.schedules
    run.pending.clear()
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
