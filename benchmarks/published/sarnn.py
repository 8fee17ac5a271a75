"""The published arithmetic of SARNN's training step (Ichiwara et al. 2022), written plainly: what ours is measured
against.

A loop over time, as the paper's code has it: at each step one frame a window is encoded by both networks, the LSTM
advances by one step, the heat map is made on the full grid, and one frame is decoded; outputs are collected, stacked,
and compared with the targets. Pictures lie in memory as [C, H, W]. It works on the weights of our model.
"""

from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.side_by_side import Sides
from sakiyomi.data.windows import Batch
from sakiyomi.models import SARNN
from sakiyomi.schedules import progress_at

CPU = torch.device("cpu")


def published_losses(model: SARNN, batch: Batch) -> dict[str, Tensor]:
    """`image`, `joints` and `points` as `SARNN.loss` names them, [B, T]."""
    grid, temperature = _grid(model), model.spatial_softmax.temperature
    cell, k = list(model.lstm.parameters()), model.config.points  # two weights, two biases
    h = c = batch.mask.new_zeros(len(batch.mask), model.config.hidden)
    images, joints, found, meant = [], [], [], []
    for t in range(batch.mask.shape[1]):
        frame, position = batch.inputs["image"][:, t], batch.inputs["joints"][:, t]
        features = model.image_encoder(frame)
        weights = (model.position_encoder(frame).flatten(2) / temperature).softmax(-1)
        attention = torch.stack([(weights * axis.flatten()).sum(-1) for axis in grid], -1)
        read = torch.cat((attention.flatten(1), position), -1)
        h, c = torch.lstm_cell(read, (h, c), *cell)
        points = model.point_head(h).unflatten(-1, (k, 2))
        distance = (grid - points[..., None, None]).square().sum(2)
        images.append(model.decoder((-distance / model.config.heatmap_size).exp() * features))
        joints.append(model.joint_head(h))
        found.append(attention)
        meant.append(points)
    ahead = (torch.stack(meant[:-1], 1) - torch.stack(found[1:], 1)).square().mean((2, 3)) * batch.mask[:, 1:]
    return {
        "image": (torch.stack(images, 1) - batch.targets["image"]).square().mean((2, 3, 4)),
        "joints": (torch.stack(joints, 1) - batch.targets["joints"]).square().mean(2),
        "points": functional.pad(ahead, (0, 1)),
    }


def _grid(model: SARNN) -> Tensor:
    """x and y of every cell, [2, H, W]."""
    along, down = model.heatmap.x, model.heatmap.y
    return torch.stack(torch.meshgrid(along, down, indexing="xy"))


def our_losses(model: SARNN, batch: Batch, precision: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """`SARNN.loss` as the training loop calls it."""
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        return model.loss(batch, progress_at(0, 1000, 0, CPU))


def gradient(model: SARNN, losses: dict[str, Tensor], mask: Tensor) -> Tensor:
    """Of the sum of the masked means, one vector."""
    total = torch.stack([(loss * mask).sum() / mask.sum() for loss in losses.values()]).sum()
    found = torch.autograd.grad(total, list(model.parameters()))
    return torch.cat([value.flatten() for value in found])


def sides(quick: bool = False) -> Sides:
    """Batch 5 x 100, as in the published tutorials, of 64x64 pictures at the published sizes; the softmax as warm as
    that of preset `pick`. At the published 1e-4 a step takes as long, but float32's last digit becomes another
    gradient, by whichever way it is found: tests/test_sarnn.py compares there in float64."""
    windows, steps, size = (2, 6, 16) if quick else (5, 100, 64)
    torch.manual_seed(0)
    published = SARNN(SARNN.Config(height=size, width=size, temperature=0.01))
    ours = deepcopy(published).to(memory_format=torch.channels_last)  # as the training loop has it
    sixth = SARNN(replace(ours.config, image_loss_fraction=1 / 6)).to(memory_format=torch.channels_last)
    sixth.load_state_dict(ours.state_dict())
    batch = example(published, windows, steps)

    def agree() -> dict[str, float]:
        there, here = published_losses(published, batch), our_losses(ours, batch)
        gaps = {
            f"loss {name}": float(((here[name] - there[name]).abs().max() / there[name].max()).detach())
            for name in there
        }
        wanted, found = gradient(published, there, batch.mask), gradient(ours, here, batch.mask)
        return {**gaps, "gradient": float((found - wanted).norm() / wanted.norm())}

    ways = {
        "published": lambda: gradient(published, published_losses(published, batch), batch.mask),
        "ours, float32": lambda: gradient(ours, our_losses(ours, batch), batch.mask),
        "ours, bfloat16": lambda: gradient(ours, our_losses(ours, batch, torch.bfloat16), batch.mask),
        "ours, everything unbiased": lambda: gradient(sixth, our_losses(sixth, batch, torch.bfloat16), batch.mask),
    }
    return Sides(f"SARNN, {size}x{size}, batch {windows} x {steps}", windows * steps, ways, agree)


def example(model: SARNN, windows: int, steps: int, precision: torch.dtype = torch.float32) -> Batch:
    """Random pictures and joints, what is predicted being what comes next; the last two steps of one window padding."""
    seen = {name: value.to(precision) for name, value in model.example(windows, steps + 1).items()}
    inputs, targets = ({name: value[:, i : i + steps].contiguous() for name, value in seen.items()} for i in (0, 1))
    mask = torch.ones(windows, steps, dtype=precision)
    mask[0, -2:] = 0
    return Batch(inputs, targets, mask)
