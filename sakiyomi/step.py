"""One training step: what is drawn, where the model computes, and how its losses become gradients.

A batch is drawn in shards, each with its own noise, as a function of (seed, step, shard). They are worked through one
after the other, or by several processes (`distributed.py`); gradients are those of the sum over all of them. A gradient
step is taken on a portion: the whole sequence, or one frame after the other of a model that is taught frame by frame.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from sakiyomi.compiled import Loss, compiled
from sakiyomi.data.augment import augment_batch
from sakiyomi.data.windows import Batch, Batches
from sakiyomi.distributed import Replica
from sakiyomi.errors import SakiyomiError
from sakiyomi.job import Job, Train
from sakiyomi.models import SequenceModel
from sakiyomi.models.base import Framewise
from sakiyomi.schedules import Progress, progress_at


@dataclass(frozen=True)
class Parts:
    """What the loop works with."""

    device: torch.device
    model: SequenceModel
    optimizer: torch.optim.Optimizer
    batch_size: int
    windows: Batches
    validation: Batches
    replica: Replica
    """The model among those of the processes that train together."""
    compile: bool = False
    """Its loss is to be compiled."""

    @cached_property
    def loss(self) -> Loss:
        """The model's, compiled if it is to be. Raises SakiyomiError where it cannot."""
        return compiled(self.model) if self.compile else self.model.loss

    @property
    def epoch(self) -> float:
        """Steps in which every window is seen once."""
        return max(1.0, len(self.windows) / self.batch_size)


@dataclass(frozen=True)
class Shard:
    """A part of a step's batch, and where training is, with the randomness of this shard."""

    batch: Batch
    progress: Progress


@dataclass(frozen=True)
class Part:
    """What a shard has for one gradient step."""

    losses: Callable[[], dict[str, Tensor]]
    """Has the model compute: losses by name, unreduced, like `mask`."""
    mask: Tensor
    """1 where they count."""
    seed: int
    """Of dropout, which draws from torch's own generator."""


@dataclass(frozen=True)
class Portion:
    """What one gradient step is taken on."""

    parts: list[Part]
    """Of each shard of this process."""
    count: Tensor
    """Steps that count, in all shards of all processes, []."""


def draw(parts: Parts, job: Job, step: int) -> tuple[list[Shard], dict[str, float]]:
    """What one step learns from, as a function of (seed, step): this process's shards with their noise, and everything
    that changes during training."""
    cfg, replica = job.train, parts.replica
    schedules = schedules_at(cfg, step, step / parts.epoch)
    shards = []
    for number in replica.mine:
        forcing = schedules["teacher_forcing"]
        progress = progress_at(step, cfg.steps, cfg.seed, parts.device, forcing=forcing, shard=number)
        rows = slice(number, None, replica.shards)
        batch = parts.windows.draw(cfg.seed, step, cfg.batch_size, rows, parts.device)
        shards.append(Shard(augment_batch(batch, job.augment, progress.generator), progress))
    return shards, schedules


def portions(parts: Parts, shards: list[Shard], job: Job) -> Iterator[Portion]:
    """What gradient steps are taken on, one after the other: the whole sequence, or each frame."""
    total = parts.replica.team.total
    # Dropout draws other numbers than the step's generator, but as fixed.
    seeds = [shard.progress.generator.initial_seed() ^ 1 for shard in shards]
    if not isinstance(parts.model, Framewise):
        count = total(torch.stack([shard.batch.mask.sum() for shard in shards]).sum())
        losses = [partial(parts.loss, shard.batch, shard.progress) for shard in shards]
        masks = [shard.batch.mask for shard in shards]
        yield Portion([Part(*part) for part in zip(losses, masks, seeds, strict=True)], count)
        return
    counts = total(torch.stack([shard.batch.mask.sum(0) for shard in shards]).sum(0))
    # Windows of one length have no padding, and to look for it would be to wait for the device.
    real = [True] * len(counts) if job.data.steps else (counts > 0).tolist()
    losses = [partial(next, parts.model.frames(shard.batch, shard.progress)) for shard in shards]
    for t, count in enumerate(counts.unbind()):
        if not real[t]:  # on padding alone Adam would go on by its momentum, and nothing follows it
            return
        masks = [shard.batch.mask[:, t : t + 1] for shard in shards]
        yield Portion([Part(*part) for part in zip(losses, masks, [seed + t for seed in seeds], strict=True)], count)


def gradients(parts: Parts, portion: Portion, cfg: Train, step: int) -> dict[str, Tensor]:
    """Leave in the model the gradients of a portion over all shards. Returns what this process adds to the total and to
    the mean of each loss."""
    seen: list[dict[str, Tensor]] = []

    def total_of(part: Part) -> Tensor:
        torch.manual_seed(part.seed)
        with torch.autocast(parts.device.type, torch.bfloat16, enabled=cfg.precision == "bfloat16"):
            losses = part.losses()
        total, means = weigh(losses, part.mask, cfg, step, portion.count)
        seen.append({"total": total.detach(), **means})
        return total

    parts.replica.add_gradients([partial(total_of, part) for part in portion.parts])
    return {name: torch.stack([values[name] for values in seen]).sum() for name in seen[0]}


def weigh(
    losses: dict[str, Tensor], mask: Tensor, cfg: Train, step: int, count: Tensor | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The one place where losses [B, T] are masked, weighed and summed: the total, and each loss's masked mean. `count`
    says how many count in all, where these are not all."""
    if set(losses) != set(cfg.losses):
        raise SakiyomiError(
            f"the model has losses {sorted(losses)}, the job gives weights for {sorted(cfg.losses)}; "
            "give each a weight (0 leaves it out)"
        )
    count = (mask.sum() if count is None else count).clamp_min(1)
    means = {}
    for name, loss in losses.items():
        if loss.shape != mask.shape:
            raise SakiyomiError(f"loss {name!r} has shape {list(loss.shape)}, expected {list(mask.shape)} (B, T)")
        # Not a product: what stands in the padding must not count, whatever it is.
        means[name] = torch.where(mask > 0, loss.float(), 0.0).sum() / count
    total = torch.stack([cfg.losses[name].at(step, cfg.steps) * mean for name, mean in means.items()]).sum()
    return total, {name: mean.detach() for name, mean in means.items()}


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
