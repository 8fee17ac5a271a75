"""Frames of a video to short codes and back, with skip connections: the VGG and DCGAN networks of SVG (Denton & Fergus
2018).

Many time steps go through at once, ordered by time: [steps * B, ...], the B frames of the first step first. What all
steps share is computed once, and each may be normalised by its own statistics all the same (`groups`). BatchNorm and
LeakyReLU between two convolutions are one piece of work with the second one, see normed.py; so what goes from layer to
layer is what a convolution gave, and the norm that is still to come.
"""

from dataclasses import replace
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from sakiyomi.layers.normed import Filter, normed, normed_leaky

SLOPE = 0.2  # of LeakyReLU
aten = torch.ops.aten


class VGGEncoder(nn.Module):
    """Frames [N, 3, H, W] -> encodings [N, g] in -1..1 and four skips, one of every scale, of the first `kept` frames
    (None: of all). In training each of `groups` parts of the frames is normalised by its own statistics."""

    def __init__(self, channels: int, encoding: int, grid: tuple[int, int]) -> None:
        super().__init__()
        c = channels
        self.skips = ((c, 1), (2 * c, 2), (4 * c, 4), (8 * c, 8))  # channels, and how much smaller than the picture
        self.blocks = nn.ModuleList(
            [
                nn.Sequential(*_vgg(3, c), *_vgg(c, c)),
                nn.Sequential(*_vgg(c, 2 * c), *_vgg(2 * c, 2 * c)),
                nn.Sequential(*_vgg(2 * c, 4 * c), *_vgg(4 * c, 4 * c), *_vgg(4 * c, 4 * c)),
                nn.Sequential(*_vgg(4 * c, 8 * c), *_vgg(8 * c, 8 * c), *_vgg(8 * c, 8 * c)),
            ]
        )
        self.last = nn.Sequential(nn.Conv2d(8 * c, encoding, grid), nn.BatchNorm2d(encoding), nn.Tanh())

    def forward(self, frames: Tensor, groups: int = 1, kept: int | None = None) -> tuple[Tensor, list[Tensor]]:
        skips = []
        for block in self.blocks:
            frames = _squashed(*_through(block, frames, groups), groups)
            frames, skip = _pooled(frames, kept)
            skips.append(skip)
        return _code(self.last, frames, groups), skips


class VGGDecoder(nn.Module):
    """Encodings [steps * B, g] and skips [sources * B, ...] -> frames [steps * B, 3, H, W] in 0..1. Step t of a
    sequence takes the skips of source t, or of the last one where there are fewer. `groups`: as of VGGEncoder."""

    def __init__(self, channels: int, encoding: int, grid: tuple[int, int]) -> None:
        super().__init__()
        c = channels
        self.first = nn.Sequential(
            nn.ConvTranspose2d(encoding, 8 * c, grid), nn.BatchNorm2d(8 * c), nn.LeakyReLU(SLOPE, inplace=True)
        )
        self.joins = nn.ModuleList(
            [
                Join(nn.Conv2d(16 * c, 8 * c, 3, padding=1)),
                Join(nn.Conv2d(8 * c, 4 * c, 3, padding=1)),
                Join(nn.Conv2d(4 * c, 2 * c, 3, padding=1)),
                Join(nn.Conv2d(2 * c, c, 3, padding=1)),
            ]
        )
        self.blocks = nn.ModuleList(
            [
                nn.Sequential(*_vgg(8 * c, 8 * c), *_vgg(8 * c, 4 * c)),
                nn.Sequential(*_vgg(4 * c, 4 * c), *_vgg(4 * c, 2 * c)),
                nn.Sequential(*_vgg(2 * c, c)),
                nn.Sequential(nn.ConvTranspose2d(c, 3, 3, padding=1), nn.Sigmoid()),
            ]
        )

    def forward(self, encoded: Tensor, skips: list[Tensor], steps: int = 1, groups: int = 1) -> Tensor:
        frames, norm = _through(self.first, encoded[:, :, None, None], groups)
        for join, block, skip in zip(self.joins, self.blocks, reversed(skips), strict=True):
            frames, norm = join(frames, norm, skip, steps, groups)
            if block is not self.blocks[-1]:
                frames, norm = _through(block, frames, groups, norm)
        last = cast(nn.ConvTranspose2d, self.blocks[-1].get_submodule("0"))
        return torch.sigmoid(normed_leaky(norm, frames, SLOPE, groups, Filter.of(last)))


class DCGANEncoder(nn.Module):
    """As VGGEncoder; strided convolutions in place of blocks and pooling (Radford et al. 2016)."""

    def __init__(self, channels: int, encoding: int, grid: tuple[int, int]) -> None:
        super().__init__()
        c = channels
        self.skips = ((c, 2), (2 * c, 4), (4 * c, 8), (8 * c, 16))
        widths = pairwise((3, c, 2 * c, 4 * c, 8 * c))
        self.blocks = nn.ModuleList([_normed(nn.Conv2d(a, b, 4, 2, 1), b) for a, b in widths])
        self.last = nn.Sequential(nn.Conv2d(8 * c, encoding, grid), nn.BatchNorm2d(encoding), nn.Tanh())

    def forward(self, frames: Tensor, groups: int = 1, kept: int | None = None) -> tuple[Tensor, list[Tensor]]:
        skips = []
        for block in self.blocks:
            frames = _squashed(*_through(block, frames, groups), groups)
            skips.append(frames[:kept])
        return _code(self.last, frames, groups), skips


class DCGANDecoder(nn.Module):
    """As VGGDecoder; strided transposed convolutions in place of upsampling and blocks."""

    def __init__(self, channels: int, encoding: int, grid: tuple[int, int]) -> None:
        super().__init__()
        c = channels
        self.first = _normed(nn.ConvTranspose2d(encoding, 8 * c, grid), 8 * c)
        self.joins = nn.ModuleList(
            [
                Join(nn.ConvTranspose2d(16 * c, 4 * c, 4, 2, 1)),
                Join(nn.ConvTranspose2d(8 * c, 2 * c, 4, 2, 1)),
                Join(nn.ConvTranspose2d(4 * c, c, 4, 2, 1)),
            ]
        )
        self.last = nn.ConvTranspose2d(2 * c, 3, 4, 2, 1)

    def forward(self, encoded: Tensor, skips: list[Tensor], steps: int = 1, groups: int = 1) -> Tensor:
        frames, norm = _through(self.first, encoded[:, :, None, None], groups)
        for join, skip in zip(self.joins, reversed(skips[1:]), strict=True):
            frames, norm = join(frames, norm, skip, steps, groups)
        return torch.sigmoid(_split(self.last, frames, skips[0], steps, norm, groups))


class Join(nn.Module):
    """A convolution of [frames, skip], and the norm behind it; `before` is that of the frames. For a plain one the
    frames' sides are doubled first (nearest)."""

    def __init__(self, convolution: nn.Conv2d | nn.ConvTranspose2d) -> None:
        super().__init__()
        self.convolution = convolution
        self.norm = nn.BatchNorm2d(convolution.out_channels)

    def forward(
        self, frames: Tensor, before: nn.BatchNorm2d, skip: Tensor, steps: int, groups: int
    ) -> tuple[Tensor, nn.BatchNorm2d]:
        return _split(self.convolution, frames, skip, steps, before, groups), self.norm


def _split(
    convolution: nn.Conv2d | nn.ConvTranspose2d,
    frames: Tensor,
    skip: Tensor,
    steps: int,
    before: nn.BatchNorm2d,
    groups: int,
) -> Tensor:
    """The convolution of frames [steps * B, C, ...], behind their norm and LeakyReLU, beside their skips [sources * B,
    S, ...]; for a plain one the frames' sides are doubled first (nearest). It is linear, and so the skips' part is
    computed once for all steps that share one."""
    # The bias comes with the skips' part: every step adds it, and its gradient is a sum over fewer pixels.
    c = frames.shape[1]
    own = Filter.of(convolution)
    if own.transposed:
        of_skip = replace(own, weight=own.weight[c:])(skip)
        of_frames = replace(own, weight=own.weight[:c], bias=None)
    else:
        of_skip = replace(own, weight=own.weight[:, c:])(skip)
        # A pixel of doubled frames meets but 2 x 2 different ones, not 3 x 3: 4/9 of the products.
        of_frames = Filter(_doubling(own.weight[:, :c]), None, stride=2, padding=1, transposed=True)
    found = normed_leaky(before, frames, SLOPE, groups, of_frames)
    return _Beside.apply(found, of_skip, len(frames) // steps)  # pyright: ignore[reportReturnType]


def _doubling(weight: Tensor) -> Tensor:
    """Weights [out, in, 3, 3] of a convolution, padded by 1, of frames whose sides have been doubled -> weights
    [in, out, 4, 4] of the same as one transposed convolution, of stride 2 and padded by 1, of the frames as they are:
    along each side (w2, w1 + w2, w0 + w1, w0)."""
    w0, w1, w2 = weight.transpose(0, 1).unbind(2)
    rows = torch.stack((w2, w1 + w2, w0 + w1, w0), 2)
    w0, w1, w2 = rows.unbind(3)
    return torch.stack((w2, w1 + w2, w0 + w1, w0), 3)


class _Beside(Function):
    """What came of the frames [steps * B, ...] plus, at each step, what came of the skip it takes, [sources * B, ...];
    written over the first, which no gradient needs."""

    @staticmethod
    def forward(ctx: Any, of_frames: Tensor, of_skip: Tensor, sequences: int) -> Tensor:
        ctx.sequences, ctx.own = sequences, len(of_skip)
        ctx.mark_dirty(of_frames)
        of_frames[: ctx.own] += of_skip
        ctx.later = len(of_frames) // sequences - ctx.own // sequences
        of_frames[ctx.own :].unflatten(0, (ctx.later, sequences)).add_(of_skip[-sequences:])
        return of_frames

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient,) = gradients
        of_skip = gradient[: ctx.own].clone()
        of_skip[-ctx.sequences :] += gradient[ctx.own :].unflatten(0, (ctx.later, ctx.sequences)).sum(0)
        return gradient, of_skip, None


def _pooled(frames: Tensor, kept: int | None) -> tuple[Tensor, Tensor]:
    """The largest of 2 x 2 pixels each, and the first `kept` frames as they are."""
    if kept is None or not torch.is_grad_enabled():
        return functional.max_pool2d(frames, 2), frames[:kept]
    return _Pooled.apply(frames, kept)  # pyright: ignore[reportReturnType]


class _Pooled(Function):
    """Keeps which pixels were the largest, and not the frames."""

    @staticmethod
    def forward(ctx: Any, frames: Tensor, kept: int) -> tuple[Tensor, Tensor]:
        pooled, places = aten.max_pool2d_with_indices(frames, [2, 2])
        ctx.save_for_backward(places)
        ctx.shape = frames.shape
        return pooled, frames[:kept].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (places,), (pooled, first) = ctx.saved_tensors, gradients
        like = torch.empty(ctx.shape, dtype=pooled.dtype, device=pooled.device, memory_format=torch.channels_last)
        settings = ([2, 2], [2, 2], [0, 0], [1, 1], False)
        gradient = aten.max_pool2d_with_indices_backward(pooled, like, *settings, places)  # of `like` but the shape
        gradient[: len(first)] += first
        return gradient, None


def _through(
    block: nn.Module, frames: Tensor, groups: int, before: nn.BatchNorm2d | None = None
) -> tuple[Tensor, nn.BatchNorm2d]:
    """Through a Sequential of convolutions, each with its BatchNorm and LeakyReLU behind it: what the last convolution
    gives, and its norm. `before` is the norm of the frames, if there is one."""
    layers = list(block.children())
    for convolution, norm in zip(layers[::3], layers[1::3], strict=True):
        assert isinstance(convolution, nn.Conv2d | nn.ConvTranspose2d)
        assert isinstance(norm, nn.BatchNorm2d)
        one = Filter.of(convolution)
        frames = one(frames) if before is None else normed_leaky(before, frames, SLOPE, groups, one)
        before = norm
    assert before is not None
    return frames, before


def _squashed(frames: Tensor, norm: nn.BatchNorm2d, groups: int) -> Tensor:
    return normed_leaky(norm, frames, SLOPE, groups)


def _code(last: nn.Sequential, frames: Tensor, groups: int) -> Tensor:
    """Through a convolution that leaves one pixel, BatchNorm and tanh: [N, g]."""
    convolution, norm, squash = last
    assert isinstance(norm, nn.BatchNorm2d)
    return squash(normed(norm, convolution(frames), groups)).flatten(1)


def _vgg(read: int, out: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(read, out, 3, padding=1), nn.BatchNorm2d(out), nn.LeakyReLU(SLOPE, inplace=True)


def _normed(convolution: nn.Module, out: int) -> nn.Sequential:
    return nn.Sequential(convolution, nn.BatchNorm2d(out), nn.LeakyReLU(SLOPE, inplace=True))
