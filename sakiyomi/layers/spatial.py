"""From feature maps to points and back (Finn et al. 2016; Ichiwara et al. 2022).

Points are (x, y) in [0, 1]: x runs along the width, y along the height, 0 and 1 are the centres of the outermost
cells. Maps need not be square.
"""

import torch
from torch import Tensor, nn

from sakiyomi.errors import SakiyomiError


class SpatialSoftmax(nn.Module):
    """Maps [B, K, H, W] -> points [B, K, 2]: the expected place under a softmax over each map.

    `temperature` divides the maps before the softmax; None learns it, starting at 1.
    """

    x: Tensor
    y: Tensor

    def __init__(self, height: int, width: int, temperature: float | None = 1e-4) -> None:
        super().__init__()
        _check_size(height, width)
        if temperature is not None and not temperature > 0:
            raise SakiyomiError(f"temperature must be positive (or None to learn it), got {temperature}")
        self.shape = (height, width)
        value = torch.tensor(1.0 if temperature is None else float(temperature))
        if temperature is None:
            self.temperature = nn.Parameter(value)
        else:
            self.register_buffer("temperature", value, persistent=False)
        self.register_buffer("x", torch.linspace(0, 1, width), persistent=False)
        self.register_buffer("y", torch.linspace(0, 1, height), persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        if tuple(maps.shape[-2:]) != self.shape:
            raise SakiyomiError(f"maps have shape {list(maps.shape)}, SpatialSoftmax was built for {self.shape}")
        # Low temperatures need float32 whatever the maps were computed in.
        maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
        weights = (maps.flatten(-2) / self.temperature).softmax(-1).unflatten(-1, self.shape)
        # Separable: summing rows or columns first saves a pass over an [H, W, 2] grid. (No `@`: autocast would
        # round the points to bfloat16.)
        x = (weights.sum(-2) * self.x).sum(-1)
        y = (weights.sum(-1) * self.y).sum(-1)
        return torch.stack((x, y), -1)


class InverseSpatialSoftmax(nn.Module):
    """Points [B, K, 2] -> heatmaps [B, K, H, W]: exp(-|grid - point|^2 / size), 1 at the point."""

    x: Tensor
    y: Tensor

    def __init__(self, height: int, width: int, size: float = 0.1) -> None:
        super().__init__()
        _check_size(height, width)
        if not size > 0:
            raise SakiyomiError(f"size must be positive, got {size}")
        self.size = size
        self.register_buffer("x", torch.linspace(0, 1, width), persistent=False)
        self.register_buffer("y", torch.linspace(0, 1, height), persistent=False)

    def forward(self, points: Tensor) -> Tensor:
        if points.shape[-1] != 2:
            raise SakiyomiError(f"points have shape {list(points.shape)}; the last axis must be x, y")
        # The Gaussian of a sum is the product of Gaussians: H + W exponentials instead of H x W.
        x = torch.exp(-((self.x - points[..., 0:1]) ** 2) / self.size)
        y = torch.exp(-((self.y - points[..., 1:2]) ** 2) / self.size)
        return y[..., :, None] * x[..., None, :]


def _check_size(height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise SakiyomiError(f"maps of {height} x {width} have no place; the picture is too small for the convolutions")
