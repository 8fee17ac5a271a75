"""BatchNorm, LeakyReLU and the next convolution over the frames of many time steps, with the statistics of each step.

A loop over time normalises the frames of a step by their own mean and variance. Here all steps go through a layer
before any goes through the next one, a few at a time, so that what lies between two convolutions stays in the
processor's cache. For the way back only what convolutions gave is kept, and the rest computed again, which saves the
larger part of the memory. Outputs and gradients are the loop's; benchmarks/published/svg.py measures what it brings.

Frames are ordered by time: [steps * B, C, H, W], the B frames of the first step first.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

aten = torch.ops.aten
# Numbers that go through a convolution at once, so that they stay in the cache: 16 MiB of float32; but no fewer than a
# few times the convolution's weights, which are put in another order for each piece.
PIECE, WEIGHTS = 2**22, 4


@dataclass(frozen=True)
class Filter:
    """A convolution that comes behind BatchNorm and LeakyReLU."""

    weight: Tensor
    bias: Tensor | None
    stride: int
    padding: int
    transposed: bool

    @classmethod
    def of(cls, layer: nn.Conv2d | nn.ConvTranspose2d) -> "Filter":
        assert isinstance(layer.padding, tuple)
        return cls(layer.weight, layer.bias, layer.stride[0], layer.padding[0], isinstance(layer, nn.ConvTranspose2d))

    def __call__(self, frames: Tensor) -> Tensor:
        convolve = functional.conv_transpose2d if self.transposed else functional.conv2d
        return convolve(frames, self.weight, self.bias, self.stride, self.padding)


def normed(norm: nn.BatchNorm2d, frames: Tensor, steps: int = 1) -> Tensor:
    """Frames [steps * B, C, H, W] normalised, in training by the statistics of each step; the running statistics move
    once a step, in the order of time."""
    if not norm.training or steps == 1:
        return norm(frames)
    return torch.cat([norm(step) for step in frames.chunk(steps)])


def normed_leaky(
    norm: nn.BatchNorm2d, frames: Tensor, slope: float, steps: int = 1, then: Filter | None = None
) -> Tensor:
    """LeakyReLU of `normed`, and the convolution `then` of that."""
    if not norm.training or steps == 1 or norm.momentum is None:
        out = functional.leaky_relu(normed(norm, frames, steps), slope, inplace=True)
        return out if then is None else then(out)
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked += steps
    weights = (norm.weight, norm.bias, *((None, None) if then is None else (then.weight, then.bias)))
    return _NormedLeaky.apply(frames, *weights, then, norm, slope, steps)  # pyright: ignore[reportReturnType]


class _NormedLeaky(Function):
    """`normed_leaky` in training: statistics first, then piece by piece, forth and back."""

    @staticmethod
    def forward(
        ctx: Any,
        frames: Tensor,
        scale: Tensor,
        shift: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        then: Filter | None,
        norm: nn.BatchNorm2d,
        slope: float,
        steps: int,
    ) -> Tensor:
        running = (norm.running_mean, norm.running_var, norm.momentum)
        found = [aten.batch_norm_update_stats(step, *running) for step in frames.chunk(steps)]
        mean, variance = (torch.stack(each) for each in zip(*found, strict=True))
        ctx.save_for_backward(frames, scale, shift, weight, bias, mean, variance)
        ctx.eps, ctx.slope, ctx.convolution = norm.eps, slope, None
        if then is not None:
            ctx.convolution = [then.stride] * 2, [then.padding] * 2, [1, 1], then.transposed, [0, 0], 1
        out = frames.new_empty(0)
        for cut, own in _pieces(frames, steps, weight):
            piece = _squashed(frames[cut], scale, shift, mean[own], variance[own], norm.eps, slope)
            if ctx.convolution:
                piece = aten.convolution(piece, _as(frames, weight), _as(frames, bias), *ctx.convolution)
            if not len(out):
                out = torch.empty_like(piece[:1].expand(len(frames), *piece.shape[1:]), memory_format=_layout(frames))
            out[cut] = piece
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        frames, scale, shift, weight, bias, mean, variance = ctx.saved_tensors
        of_frames = torch.empty_like(frames)
        # Sums over pieces, of full precision whatever the frames have.
        of_scale, of_shift, of_weight, of_bias = (
            None if w is None else torch.zeros_like(w) for w in (scale, shift, weight, bias)
        )
        inverse = (variance + ctx.eps).rsqrt()
        cast = _as(frames, weight)
        for cut, own in _pieces(frames, len(mean), weight):
            gradient, read = gradients[0][cut], frames[cut]
            piece = _squashed(read, scale, shift, mean[own], variance[own], ctx.eps, ctx.slope)
            if ctx.convolution:
                shape, wanted = None if bias is None else bias.shape, [True, True, bias is not None]
                gradient, *of_filter = aten.convolution_backward(gradient, piece, cast, shape, *ctx.convolution, wanted)
                for total, part in zip((of_weight, of_bias), of_filter, strict=True):
                    if total is not None:
                        total += part
            before = aten.leaky_relu_backward.grad_input(gradient, piece, ctx.slope, True, grad_input=piece)
            steps = own.stop - own.start
            for t, slope, step, found in zip(
                range(own.start, own.stop),
                before.chunk(steps),
                read.chunk(steps),
                of_frames[cut].chunk(steps),
                strict=True,
            ):
                settings = (None, None, mean[t], inverse[t], True, ctx.eps, [True, True, True])
                moved, scaled, shifted = aten.native_batch_norm_backward(slope, step, scale, *settings)
                found.copy_(moved)
                of_scale += scaled
                of_shift += shifted
        return of_frames, of_scale, of_shift, of_weight, of_bias, None, None, None, None


def _pieces(frames: Tensor, steps: int, weight: Tensor | None) -> Iterator[tuple[slice, slice]]:
    """Cuts of the frames and of the steps, of whole steps."""
    b = len(frames) // steps
    numbers = PIECE if weight is None else max(PIECE, WEIGHTS * weight.numel())
    size = min(steps, max(1, numbers // frames[:b].numel()))
    for first in range(0, steps, size):
        last = min(steps, first + size)
        yield slice(first * b, last * b), slice(first, last)


def _squashed(
    frames: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor, eps: float, slope: float
) -> Tensor:
    """LeakyReLU of the frames normalised by [steps, C]."""
    out, steps = torch.empty_like(frames), len(mean)
    for t, (read, write) in enumerate(zip(frames.chunk(steps), out.chunk(steps), strict=True)):
        nothing = {"save_mean": mean.new_empty(0), "save_invstd": mean.new_empty(0)}
        aten.native_batch_norm.out(read, scale, shift, mean[t], variance[t], False, 0.0, eps, out=write, **nothing)
    return functional.leaky_relu_(out, slope)


def _as(frames: Tensor, weight: Tensor | None) -> Tensor | None:
    """Of the frames' precision, which is autocast's."""
    return None if weight is None else weight.to(frames.dtype)


def _layout(frames: Tensor) -> torch.memory_format:
    last = torch.channels_last
    return last if frames.is_contiguous(memory_format=last) else torch.contiguous_format
