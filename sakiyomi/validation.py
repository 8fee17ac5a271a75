"""What a training is judged by on its way: the losses of the validation split, and what else a model can be asked."""

import math
from functools import partial

import torch
from torch import Tensor

from sakiyomi.imagine import foresight
from sakiyomi.job import Train
from sakiyomi.models.base import Imaginative, Latent
from sakiyomi.schedules import progress_at
from sakiyomi.step import Parts

ACTIVE = 0.01  # nats a step above which a number of the latent is in use


@torch.no_grad()
def validate(parts: Parts, cfg: Train) -> dict[str, float]:
    """Mean losses over the validation split, clean inputs, every schedule where it ends: one measure from first step to
    last. Of a model that imagines also how well it does, which is what it is for; of one with a latent, how much of it
    is used. Batches are shared out among the processes, each with its own noise; all get the same numbers."""
    parts.model.eval()
    team, batches = parts.replica.team, math.ceil(len(parts.validation) / cfg.batch_size)
    rows = team.rows(batches, partial(_sums, parts, cfg))
    ahead = {}
    if isinstance(parts.model, Imaginative):
        ahead = foresight(parts.model, parts.validation, cfg.batch_size, parts.device, team=team)
    parts.model.train()
    total = torch.zeros(rows.shape[1])
    for row in rows.float():  # one after the other, as if they had been added up on the way
        total = total + row
    means = total[1:] / total[0]
    values = dict(zip(cfg.losses, means.tolist(), strict=False))
    used = means[len(values) :]
    active = {"active": float((used > ACTIVE).float().mean())} if isinstance(parts.model, Latent) else {}
    return {"total": sum(cfg.losses[name].value * value for name, value in values.items()), **values, **ahead, **active}


def _sums(parts: Parts, cfg: Train, number: int) -> Tensor:
    """Sums over one batch of the split: of the mask, of each loss, of each latent number's use."""
    forcing = cfg.teacher_forcing.at(cfg.steps / parts.epoch)
    progress = progress_at(cfg.steps, cfg.steps, cfg.seed, parts.device, training=False, forcing=forcing, shard=number)
    first = number * cfg.batch_size
    picks = list(range(first, min(first + cfg.batch_size, len(parts.validation))))
    batch = parts.validation.batch(picks, parts.device)
    losses = parts.model.loss(batch, progress)
    sums = [torch.where(batch.mask > 0, losses[name], 0.0).sum() for name in cfg.losses]
    row = torch.stack([batch.mask.sum(), *sums])
    if not isinstance(parts.model, Latent):
        return row
    used = torch.where(batch.mask[..., None] > 0, parts.model.usage(batch), 0.0).sum((0, 1))
    return torch.cat((row, used))
