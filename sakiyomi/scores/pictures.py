"""How near one picture is to another: PSNR and SSIM, one number a picture, over any number of leading axes.

Definitions are scikit-image's defaults (a test holds agreement to 1e-4). Both compute in float64: in float32 the
variance of a flat window, a difference of two means near 1, is lost against SSIM's small constants.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from sakiyomi.errors import SakiyomiError

WINDOW = 7
"""px, side of the square over which SSIM takes its means and variances."""
C1, C2 = 0.01**2, 0.03**2
"""SSIM's constants for values in 0..1 (Wang et al. 2004)."""
HIGHEST = 100.0
"""dB, the PSNR of identical pictures, which has no number (and JSON no infinity). Two 8-bit pictures that differ
anywhere lie below it: one step in one of 64 x 64 x 3 values is 89 dB."""
CHUNK = {"cpu": 1 << 15, "cuda": 1 << 23}
"""Values at a time, by device. So few stay in a processor's cache, and PyTorch does not divide them among threads,
whose waiting for one another costs more than it gains, and on a busy machine a hundred times more. A GPU wants many."""
SLACK = 1e-6
"""How far rounding may carry a value out of 0..1."""


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, 10 log10(1 / mean squared difference), at most 100; higher is nearer.

    Pictures [..., 3, H, W] (or [..., 1, H, W]), floats in 0..1 -> float64 [...].
    Raises SakiyomiError for shapes that differ or are no pictures, and for values that are not in 0..1.
    """
    check_pair(a, b)
    return _each(_psnr, a, b)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004), at most 1; higher is nearer. Uniform windows of 7 x 7 that lie
    whole inside the picture, sample variances, the mean over windows and channels.

    Pictures [..., 3, H, W] (or [..., 1, H, W]), floats in 0..1 -> float64 [...].
    Raises SakiyomiError as `psnr` does, and for pictures smaller than the window.
    """
    check_pair(a, b)
    if min(a.shape[-2:]) < WINDOW:
        height, width = a.shape[-2:]
        raise SakiyomiError(f"pictures are {height} x {width} pixels; SSIM's window needs {WINDOW} x {WINDOW} or more")
    return _each(_ssim, a, b)


def _psnr(a: Tensor, b: Tensor) -> Tensor:
    """[N, C, H, W] -> [N]."""
    error = (a - b).square().mean((-3, -2, -1))
    return (-10 * error.log10()).clamp_max(HIGHEST)  # log10(0) is -inf, and so the highest


def _ssim(a: Tensor, b: Tensor) -> Tensor:
    """[N, C, H, W] -> [N]."""
    n = WINDOW * WINDOW
    mean_a, mean_b = _box(a) / n, _box(b) / n
    both, means = mean_a * mean_b, mean_a.square() + mean_b.square()
    covariance = (_box(a * b) - n * both) / (n - 1)
    variances = (_box(a.square() + b.square()) - n * means) / (n - 1)  # a's and b's together
    similarity = (2 * both + C1) * (2 * covariance + C2) / ((means + C1) * (variances + C2))
    return similarity.mean((-3, -2, -1))


def _box(x: Tensor) -> Tensor:
    """Sums over windows: [..., H, W] -> [..., H - 6, W - 6]. Plain additions along one axis, then the other: on a
    processor several times as fast as a pooling layer."""
    for axis in (-2, -1):
        length = x.shape[axis] - WINDOW + 1
        total = x.narrow(axis, 0, length) + x.narrow(axis, 1, length)
        for shift in range(2, WINDOW):
            total += x.narrow(axis, shift, length)
        x = total
    return x


@torch.no_grad()
def _each(score: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> Tensor:
    """One number a picture, computed in float64 a few pictures at a time, so that memory stays bounded."""
    leading = a.shape[:-3]
    a, b = a.reshape(-1, *a.shape[-3:]), b.reshape(-1, *b.shape[-3:])
    size = max(1, CHUNK.get(a.device.type, CHUNK["cpu"]) // a[0].numel()) if len(a) else 1
    parts = [score(x.double(), y.double()) for x, y in zip(a.split(size), b.split(size), strict=True)]
    return torch.cat(parts).reshape(leading)


def check_pair(a: Tensor, b: Tensor) -> None:
    """Raises SakiyomiError unless both are alike in shape, and pictures of floats in 0..1."""
    if a.shape != b.shape:
        raise SakiyomiError(
            f"pictures of shapes {list(a.shape)} and {list(b.shape)} cannot be compared; make them alike"
        )
    if a.ndim < 3 or a.shape[-3] not in (1, 3) or 0 in a.shape[-2:]:
        hint = "; these look like [..., H, W, 3]: move the last axis" if a.ndim >= 3 and a.shape[-1] in (1, 3) else ""
        raise SakiyomiError(f"expected pictures [..., 3, H, W] or [..., 1, H, W], got {list(a.shape)}{hint}")
    for pictures in (a, b):
        if not pictures.is_floating_point():
            raise SakiyomiError(f"expected pictures of floats in 0..1, got {pictures.dtype}; divide bytes by 255")
        if pictures.numel():
            low, high = (float(end) for end in torch.aminmax(pictures.detach()))
            if not (low >= -SLACK and high <= 1 + SLACK):  # so written, NaN fails too
                raise SakiyomiError(f"expected pictures of values in 0..1, got {low:.3g}..{high:.3g}; scale them first")
