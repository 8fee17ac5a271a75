"""Frames without a memory, a few at a time: on a CPU what one layer writes is still in the cache when the next one
reads it, and no layer's output of a whole batch has to be kept.

Two pieces, equal to the plain computation in values and gradients; benchmarks/published/sarnn.py measures what they
bring. Both can be differentiated once. On other devices they are the plain computation, which a GPU likes better, and
so does torch.compile, which cannot see through them.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

FRAMES = 20  # at once, of float32: half or twice as many are about as good; with many more the cache no longer helps


def in_parts(frames: Tensor) -> tuple[Tensor, ...]:
    """Frames [N, ...], a few at a time on a CPU."""
    return (frames,) if _at_once(frames) else frames.split(_count())


def _count() -> int:
    """Frames at once: of those of half the size twice as many."""
    return 2 * FRAMES if torch.is_autocast_enabled("cpu") else FRAMES


def _at_once(frames: Tensor) -> bool:
    """Whether all of them are computed together, plainly."""
    return frames.device.type != "cpu" or torch.compiler.is_compiling()


LANES = 16  # float32 numbers in a register of AVX-512
FEW = LANES // 2  # channels that leave at least half of one empty
_slope_backward = torch.ops.aten.leaky_relu_backward.grad_input
_backward = torch.ops.aten.convolution_backward
_PLAIN = ([1, 1], [0, 0], [1, 1], False, [0, 0], 1)  # stride 1, no padding, dilation 1, not transposed, one group


def convolved(layers: nn.Sequential, frames: Tensor, keep: bool = True) -> Tensor:
    """What `layers`, pairs of a 3x3 convolution (all plain or all transposed; stride 1, no padding) and a LeakyReLU,
    make of frames [N, C, H, W]. Without `keep` what the layers in between make is not kept for the gradient, but made
    again."""
    if _at_once(frames) or not torch.is_grad_enabled():
        return layers(frames)
    convolutions = [layer for layer in layers if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d))]
    slopes = tuple(layer.negative_slope for layer in layers if isinstance(layer, nn.LeakyReLU))
    given = [frames, *(value for layer in convolutions for value in (layer.weight, layer.bias))]
    if torch.is_autocast_enabled("cpu"):  # here, where autograd sees it: the Function then works in one precision
        given = [value.to(torch.get_autocast_dtype("cpu")) for value in given]
    return _Convolved.apply(keep, isinstance(convolutions[0], nn.ConvTranspose2d), slopes, *given)


class _Convolved(Function):
    """Does by hand what autograd does, so that maps need not be kept, and so that the gradient of a transposed
    convolution's weights can be taken as that of the plain one: the same numbers, in less time."""

    @staticmethod
    def forward(
        ctx: Any, keep: bool, transposed: bool, slopes: tuple[float, ...], frames: Tensor, *weights: Tensor
    ) -> Tensor:
        maps = _maps(frames, weights, transposed, slopes)
        ctx.transposed, ctx.slopes = transposed, slopes
        ctx.save_for_backward(*weights, *(maps if keep else (frames, maps[-1])))
        return maps[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        with torch.autocast("cpu", enabled=False):  # the way back has the precision of the way forth
            return None, None, None, *_Convolved.gradients(ctx, gradient)

    @staticmethod
    def gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Of the frames, if they want one, and of the weights."""
        transposed, slopes, count = ctx.transposed, ctx.slopes, 2 * len(ctx.slopes)
        weights, maps = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        if len(maps) <= len(slopes):
            maps = [*_maps(maps[0], weights[:-2], transposed, slopes[:-1]), maps[-1]]
        found: list[Tensor] = []
        gradient = gradient.clone(memory_format=torch.channels_last)  # what is written on from here on is our own
        for number in reversed(range(len(slopes))):
            weight, read = weights[2 * number], maps[number]
            _slope_backward(gradient, maps[number + 1], slopes[number], True, grad_input=gradient)
            large, small = (gradient, read) if transposed else (read, gradient)
            found = [_of_weight(large, small, weight), gradient.sum((0, 2, 3)), *found]
            if transposed:
                gradient = _convolve(gradient, weight)
            elif number or ctx.needs_input_grad[3]:
                gradient = _backward(gradient, read, weight, None, *_PLAIN, [True, False, False])[0]
        return gradient if ctx.needs_input_grad[3] else None, *found


def _of_weight(large: Tensor, small: Tensor, weight: Tensor) -> Tensor:
    """The gradient of the weights [S, L, 3, 3] between maps [N, L, H + 2, W + 2] and [N, S, H, W]."""
    if len(weight) >= 8:
        return _backward(small, large, weight, None, *_PLAIN, [False, True, False])[1]
    # Kernels write channels by the dozen: with few of them to write, the other way round is faster.
    turned = weight.transpose(0, 1)
    around = functional.pad(small, (2, 2, 2, 2))
    return _backward(large, around, turned, None, *_PLAIN, [False, True, False])[1].transpose(0, 1).flip(2, 3)


def _maps(frames: Tensor, weights: tuple[Tensor, ...], transposed: bool, slopes: tuple[float, ...]) -> list[Tensor]:
    """The frames, and what one layer after the other makes of them."""
    convolve = _transposed if transposed else _convolve
    maps = [frames]
    for weight, bias, slope in zip(weights[::2], weights[1::2], slopes, strict=True):
        maps.append(functional.leaky_relu_(convolve(maps[-1], weight, bias), slope))
    return maps


def _transposed(frames: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A transposed convolution with weights [S, L, 3, 3]."""
    if weight.shape[1] > FEW:
        return functional.conv_transpose2d(frames, weight, bias)
    return _convolve(frames, weight.transpose(0, 1).flip(2, 3), bias, 2)


def _convolve(frames: Tensor, weight: Tensor, bias: Tensor | None = None, padding: int = 0) -> Tensor:
    """A 3x3 convolution. Kernels write 16 channels at a time; where there are only a few, as many neighbouring columns
    are written as go into 16: twice as fast. A row of columns of channels is the same memory as a row of channels."""
    few, width = len(weight), frames.shape[3] + 2 * padding - 2
    if few > FEW:
        return functional.conv2d(frames, weight, bias, padding=padding)
    columns = LANES // few
    beside = weight.new_zeros(columns, *weight.shape[:3], 2 + columns)  # each column's kernel a step further right
    for column, kernel in enumerate(beside):
        kernel[..., column : column + 3] = weight
    aside = (-width % columns + 1) // 2  # more on either side, so that the last columns are whole
    beside = beside.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    biases = None if bias is None else bias.repeat(columns)
    found = functional.conv2d(frames, beside, biases, (1, columns), (padding, padding + aside))
    found = found.permute(0, 2, 3, 1).unflatten(3, (columns, few)).flatten(2, 3)[:, :, aside : aside + width]
    return found.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


Errors = Callable[..., Tensor]


def in_chunks(
    errors: Errors, modules: Iterable[nn.Module], codes: Tensor, given: tuple[Tensor, ...], mask: Tensor
) -> Tensor:
    """`errors(codes, *given)`, one number for each of N frames, [N]; every frame is for itself, and nothing is drawn
    at random. `modules` have all parameters that it uses.

    On a CPU gradients are found together with the errors, chunk by chunk, for the sum of those errors whose `mask` [N]
    is 1: a loss that is a multiple of this sum, as in training, only has to scale them, and nothing is kept. For any
    other loss they are found again. Where `given` wants gradients, too, all of it is the plain computation."""
    if _at_once(codes) or (torch.is_grad_enabled() and any(value.requires_grad for value in given)):
        return errors(codes, *given)
    if not torch.is_grad_enabled():
        return torch.cat([errors(*part) for part in _chunks(codes, *given)])
    parameters = [value for module in modules for value in module.parameters() if value.requires_grad]
    return _InChunks.apply(errors, mask, codes, len(given), *given, *parameters)


class _InChunks(Function):
    @staticmethod
    def forward(ctx: Any, errors: Errors, mask: Tensor, codes: Tensor, count: int, *rest: Tensor) -> Tensor:
        ctx.errors, ctx.count = errors, count
        ctx.autocast = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
        values, ctx.gradients = _gradients(errors, mask, codes, rest[:count], rest[count:])
        ctx.save_for_backward(mask, codes, *rest)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        mask, codes, *rest = ctx.saved_tensors
        given, parameters = rest[: ctx.count], rest[ctx.count :]
        mask = mask.to(gradient.dtype)
        one = mask.argmax()
        scale = gradient[one] / mask[one]
        if torch.equal(gradient, scale * mask):
            found = [value * scale for value in ctx.gradients]
        else:
            with torch.autocast("cpu", ctx.autocast[1], ctx.autocast[0]):
                found = _gradients(ctx.errors, gradient, codes, given, parameters)[1]
        return None, None, found[0], None, *(None for _ in given), *found[1:]


def _gradients(
    errors: Errors, weights: Tensor, codes: Tensor, given: Iterable[Tensor], parameters: Iterable[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """The errors [N], and the gradients of their weighted sum: of the codes, and of each parameter."""
    parameters = tuple(parameters)
    values, of_codes, sums = [], [], [torch.zeros_like(parameter) for parameter in parameters]
    for part, weight in zip(_chunks(codes.detach(), *given), weights.split(_count()), strict=True):
        with torch.enable_grad():
            read = part[0].requires_grad_()
            value = errors(read, *part[1:])
            of_code, *found = torch.autograd.grad(value, (read, *parameters), weight.to(value.dtype))
        for total, one in zip(sums, found, strict=True):
            total += one
        values.append(value.detach())
        of_codes.append(of_code)
    return torch.cat(values), [torch.cat(of_codes), *sums]


def _chunks(*tensors: Tensor) -> Iterable[tuple[Tensor, ...]]:
    return zip(*(tensor.split(_count()) for tensor in tensors), strict=True)
