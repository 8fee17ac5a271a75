"""The published arithmetic of SVG's training step (Denton & Fergus 2018), written plainly: what ours is measured
against.

A loop over time, as the paper's code and the courses built on it have it: at each step the previous frame and the
next one are encoded (so each frame twice), the three LSTMs advance by one step, and the decoder joins its input with
the skips and decodes one frame. Pictures lie in memory as [C, H, W]; BatchNorm sees the frames of one step. It works on
the weights of our model.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.side_by_side import Sides
from sakiyomi.data.windows import Batch
from sakiyomi.layers.frames import DCGANDecoder, Join, VGGDecoder, VGGEncoder
from sakiyomi.models import SVG
from sakiyomi.schedules import progress_at

CPU = torch.device("cpu")
KL_WEIGHT = 1e-4


def published_loss(model: SVG, batch: Batch, noise: Tensor) -> dict[str, Tensor]:
    """`image` and `kl`, [B, T], teacher-forced; `noise` is [B, T, Z]."""
    frames = [*batch.inputs["image"].unbind(1), batch.targets["image"][:, -1]]
    conditions = [batch.inputs[name] for name in model.conditions]
    posterior_memory = prior_memory = memory = None
    errors, divergences, skips = [], [], []
    for t in range(len(frames) - 1):
        target, _ = _encode(model, frames[t + 1])
        encoded, latest = _encode(model, frames[t])
        if t < model.past or model.config.last_frame_skip:
            skips = latest
        posterior, posterior_memory = model.posterior(target[:, None], posterior_memory)
        z = posterior.sample(noise[:, t : t + 1])
        assert model.prior is not None, "written for the learned prior"
        prior, prior_memory = model.prior(encoded[:, None], prior_memory)
        read = torch.cat((encoded, *(c[:, t] for c in conditions)), -1)[:, None]
        expected, memory = model.predictor(read, z, memory)
        picture = _decode(model, expected[:, 0], skips)
        errors.append((picture - frames[t + 1]).square().mean((1, 2, 3)))
        divergences.append(posterior.divergence(prior)[:, 0])
    return {"image": torch.stack(errors, 1), "kl": torch.stack(divergences, 1)}


def _encode(model: SVG, frame: Tensor) -> tuple[Tensor, list[Tensor]]:
    """[B, 3, H, W] -> [B, g] and the skips."""
    encoder, skips = model.encoder, []
    for block in encoder.blocks:
        frame = block(frame)
        skips.append(frame)
        frame = functional.max_pool2d(frame, 2) if isinstance(encoder, VGGEncoder) else frame
    return encoder.last(frame).flatten(1), skips


def _decode(model: SVG, encoded: Tensor, skips: list[Tensor]) -> Tensor:
    """[B, g] and the skips -> [B, 3, H, W]."""
    decoder: VGGDecoder | DCGANDecoder = model.decoder
    frame = decoder.first(encoded[:, :, None, None])
    if isinstance(decoder, VGGDecoder):
        for join, block, skip in zip(decoder.joins, decoder.blocks, reversed(skips), strict=True):
            frame = block(_join(join, functional.interpolate(frame, scale_factor=2.0), skip))
        return frame
    for join, skip in zip(decoder.joins, reversed(skips[1:]), strict=True):
        frame = _join(join, frame, skip)
    return torch.sigmoid(decoder.last(torch.cat((frame, skips[0]), 1)))


def _join(join: nn.Module, frame: Tensor, skip: Tensor) -> Tensor:
    assert isinstance(join, Join)
    return functional.leaky_relu(join.norm(join.convolution(torch.cat((frame, skip), 1))), 0.2, inplace=True)


def sides(quick: bool = False) -> Sides:
    """The training step of the paper's networks for robots: 64x64, 2 frames and then 10; quick: of small networks."""
    if quick:
        small = SVG.Config("vgg", channels=4, height=16, width=16, encoding=8, hidden=16)
        return sides_of(small, "SVG (VGG), 16x16, batch 3 x 5", batch_size=3, steps=5)
    return sides_of(SVG.Config(), "SVG (VGG), 64x64, batch 16 x 11")


def sides_of(config: SVG.Config, title: str, batch_size: int = 16, steps: int = 11) -> Sides:
    """The step of any networks. Statistics of BatchNorm are those of a time step, as in the published loop, so that
    losses and gradients are the same in training."""
    model = _fresh(config)
    ours = _fresh(config).to(memory_format=torch.channels_last)
    noise = torch.randn(batch_size, steps, config.latent, generator=progress_at(0, 1, 0, CPU).generator)
    batch = _batch(model, batch_size, steps)
    return Sides(
        title,
        batch_size * steps,
        {
            "published": lambda: _step(model, lambda: published_loss(model, batch, noise)),
            "ours, float32": lambda: _step(ours, lambda: _loss(ours, batch)),
            "ours, bfloat16": lambda: _step(ours, lambda: _loss(ours, batch, bfloat16=True)),
        },
        lambda: _apart(config, batch, noise),
    )


def _fresh(config: SVG.Config) -> SVG:
    """The same weights each time."""
    torch.manual_seed(0)
    return SVG(replace(config, statistics="step"))


def _batch(model: SVG, batch_size: int, steps: int) -> Batch:
    seen = model.example(batch_size, steps + 1)
    first, then = ({k: v[:, cut] for k, v in seen.items()} for cut in (slice(None, -1), slice(1, None)))
    return Batch(first, then, torch.ones(batch_size, steps))


def _loss(model: SVG, batch: Batch, bfloat16: bool = False) -> dict[str, Tensor]:
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        return model.loss(batch, progress_at(0, 1, 0, CPU))


def _step(model: SVG, loss: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Losses and gradients; the gradients stay until the next step, as an optimizer wants them."""
    model.zero_grad()
    losses = loss()
    (losses["image"].float().mean() + KL_WEIGHT * losses["kl"].float().mean()).backward()
    return {name: value.detach() for name, value in losses.items()}


def _apart(config: SVG.Config, batch: Batch, noise: Tensor) -> dict[str, float]:
    """In training: the largest difference of a loss, relative to the largest; and for the tensor of weights where it is
    worst, the norm of the difference of its gradients, relative to the norm of all."""
    theirs, ours = _fresh(config), _fresh(config).to(memory_format=torch.channels_last)
    wanted = _step(theirs, lambda: published_loss(theirs, batch, noise))
    found = _step(ours, lambda: _loss(ours, batch))
    apart = {k: float((found[k] - wanted[k]).abs().max() / wanted[k].abs().max()) for k in wanted}
    pairs = [(a.grad, b.grad) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True)]
    each = [(a - b).norm() for a, b in pairs if a is not None and b is not None]
    whole = torch.nn.utils.get_total_norm([b for _, b in pairs if b is not None])
    return {**apart, "gradients": float(torch.stack(each).max() / whole)}
