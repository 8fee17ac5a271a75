"""The published arithmetic of SVG's training loss, written plainly: what ours is measured against.

A loop over time, as the paper's code and the courses built on it have it: at each step the previous frame and the
next one are encoded (so each frame twice), the three LSTMs advance by one step, and the decoder joins its input with
the skips and decodes one frame. It works on the weights of our model, so that both losses can be compared.
"""

import torch
from torch import Tensor
from torch.nn import functional

from sakiyomi.data.windows import Batch
from sakiyomi.models.svg import SVG, DCGANDecoder, Join, VGGDecoder


def published_loss(model: SVG, batch: Batch, noise: Tensor) -> dict[str, Tensor]:
    """`image` and `kl`, [B, T], teacher-forced; `noise` is [B, T, Z]."""
    frames = [*batch.inputs["image"].unbind(1), batch.targets["image"][:, -1]]
    conditions = [batch.inputs[name] for name in model.conditions]
    posterior_memory = prior_memory = memory = None
    errors, divergences, skips = [], [], []
    for t in range(len(frames) - 1):
        target, _ = model.encoder(frames[t + 1])
        encoded, latest = model.encoder(frames[t])
        if t < model.past or model.config.last_frame_skip:
            skips = latest
        posterior, posterior_memory = model.posterior(target[:, None], posterior_memory)
        z = posterior.sample(noise[:, t : t + 1])
        assert model.prior is not None, "written for the learned prior"
        prior, prior_memory = model.prior(encoded[:, None], prior_memory)
        read = torch.cat((encoded, *(c[:, t] for c in conditions)), -1)[:, None]
        expected, memory = model.predictor(read, z, memory)
        picture = _decode(model.decoder, expected[:, 0], skips)
        errors.append((picture - frames[t + 1]).square().mean((1, 2, 3)))
        divergences.append(posterior.divergence(prior)[:, 0])
    return {"image": torch.stack(errors, 1), "kl": torch.stack(divergences, 1)}


def _decode(decoder: VGGDecoder | DCGANDecoder, encoded: Tensor, skips: list[Tensor]) -> Tensor:
    frames = decoder.first(encoded[:, :, None, None])
    if isinstance(decoder, VGGDecoder):
        for join, block, skip in zip(decoder.joins, decoder.blocks, reversed(skips), strict=True):
            frames = block(_join(join, functional.interpolate(frames, scale_factor=2.0), skip))
        return frames
    for join, skip in zip(decoder.joins, reversed(skips[1:]), strict=True):
        frames = _join(join, frames, skip)
    return torch.sigmoid(decoder.last(torch.cat((frames, skips[0]), 1)))


def _join(join: torch.nn.Module, frames: Tensor, skip: Tensor) -> Tensor:
    assert isinstance(join, Join)
    return functional.leaky_relu(join.norm(join.convolution(torch.cat((frames, skip), 1))), 0.2)
