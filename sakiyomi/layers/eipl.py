"""The convolutional halves of EIPL's networks, layer by layer as their checkpoints number them: what is trained there
runs here. Two sizes: `basic`, five convolutions of 3x3 that halve the sides (BasicCAE, CNNRNN), and `large`, three of
6x6 (CAE); without normalisation, or with one over batches (CAEBN) or layers (CNNRNNLN).
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from sakiyomi.errors import SakiyomiError, unknown

Size = Literal["basic", "large"]
Norm = Literal["none", "batch", "layer"]
Activation = Literal["tanh", "relu"]
ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU}
NORMS = ("none", "batch", "layer")


@dataclass(frozen=True)
class Plan:
    """What differs between the sizes."""

    channels: tuple[int, ...]
    kernel: int
    dense: int
    """Units of the dense layer between the convolutions and the code."""


PLANS = {"basic": Plan((64, 32, 16, 12, 8), 3, 50), "large": Plan((32, 64, 128), 6, 1000)}


@dataclass(frozen=True)
class Coding:
    """How pictures are coded."""

    height: int
    width: int
    size: Size
    norm: Norm
    activation: Activation

    def check(self) -> None:
        """Raises SakiyomiError for a network that cannot be built."""
        if self.size not in PLANS:
            raise unknown("size (--model.size)", self.size, PLANS)
        if self.norm not in NORMS:
            raise unknown("normalisation (--model.norm)", self.norm, NORMS)
        if self.activation not in ACTIVATIONS:
            raise unknown("activation (--model.activation)", self.activation, ACTIVATIONS)
        if self.size == "large" and (min(self.height, self.width) < 24 or self.height % 8 or self.width % 8):
            raise SakiyomiError(
                f"pictures of {self.height} x {self.width}: the large network takes sides that are multiples of 8, "
                "from 24 on"
            )

    def maps(self) -> list[tuple[int, int, int]]:
        """Channels, height and width of the picture and after each convolution."""
        plan = PLANS[self.size]
        found = [(3, self.height, self.width)]
        for channels in plan.channels:
            height, width = ((side + 2 - plan.kernel) // 2 + 1 for side in found[-1][1:])
            found.append((channels, height, width))
        return found

    def act(self) -> nn.Module:
        return ACTIVATIONS[self.activation]()

    def normed(self, channels: int, *sides: int) -> list[nn.Module]:
        """After a layer whose values have this shape: its normalisation, if any, and the activation."""
        if self.norm == "batch":
            return [nn.BatchNorm2d(channels) if sides else nn.BatchNorm1d(channels), self.act()]
        return [nn.LayerNorm([channels, *sides]), self.act()] if self.norm == "layer" else [self.act()]


def encoder(coding: Coding, code: int) -> nn.Sequential:
    """Pictures [N, 3, H, W] -> codes [N, code]."""
    coding.check()
    plan, maps = PLANS[coding.size], coding.maps()
    layers: list[nn.Module] = []
    for before, after in pairwise(maps):
        layers += [nn.Conv2d(before[0], after[0], plan.kernel, 2, 1), *coding.normed(*after)]
    channels, height, width = maps[-1]
    layers += [nn.Flatten(), nn.Linear(channels * height * width, plan.dense), *coding.normed(plan.dense)]
    return nn.Sequential(*layers, nn.Linear(plan.dense, code), *coding.normed(code))


def decoder(coding: Coding, code: int, dense: bool) -> nn.Sequential:
    """Codes [N, code] -> pictures [N, 3, H, W]; `dense`: with a dense layer in between, as an autoencoder has it."""
    coding.check()
    plan, maps = PLANS[coding.size], coding.maps()[::-1]
    channels, height, width = maps[0]
    units, read = channels * height * width, code
    layers: list[nn.Module] = []
    if dense:
        layers, read = [nn.Linear(code, plan.dense), *coding.normed(plan.dense)], plan.dense
    layers += [nn.Linear(read, units), *coding.normed(units), nn.Unflatten(1, maps[0])]
    here = (height, width)
    for number, (before, after) in enumerate(pairwise(maps), 1):
        last = number == len(plan.channels)
        if coding.size == "basic":
            # One more row or column where the encoder's rounding lost it.
            more = (after[1] - (2 * here[0] - 1), after[2] - (2 * here[1] - 1))
            layers.append(nn.ConvTranspose2d(before[0], after[0], plan.kernel, 2, 1, more))
            here = after[1:]
        else:
            around = 0 if last else 1
            layers.append(nn.ConvTranspose2d(before[0], after[0], plan.kernel, 2, around))
            here = tuple(2 * side + 4 - 2 * around for side in here)
        layers += [coding.act()] if last else coding.normed(after[0], *here)
    return nn.Sequential(*layers)


def to_network(pictures: Tensor, low: float, high: float) -> Tensor:
    """0..1 -> what black and white are inside the network."""
    return pictures if (low, high) == (0.0, 1.0) else pictures * (high - low) + low


def from_network(pictures: Tensor, low: float, high: float) -> Tensor:
    """The inverse of `to_network`."""
    return pictures if (low, high) == (0.0, 1.0) else (pictures - low) / (high - low)


def check_range(low: float, high: float) -> None:
    """Raises SakiyomiError unless white is more than black."""
    if not low < high:
        raise SakiyomiError(f"--model.image-low is {low:g}, --model.image-high {high:g}; black must be less than white")
