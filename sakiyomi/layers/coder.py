"""The two halves of the image autoencoders: pictures to a code, and a code to a picture. Dense or convolutional.

Both take a label (or any vector) beside what they read. Letters: N pictures of C x H x W, L numbers of the label.
"""

import math
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from sakiyomi.errors import SakiyomiError, at_least, unknown

Network = Literal["dense", "conv"]
Shape = tuple[int, int, int]  # C, H, W
KERNEL = 4  # of the convolutions, which halve the sides
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh}
Activation = Literal["relu", "silu", "tanh"]


class Encoder(nn.Module):
    """Pictures [N, C, H, W] in 0..1, and labels [N, L] if there are any -> codes [N, code].

    `layers` are the units of the hidden layers; of a convolutional network the last number is a dense layer's, and
    each before it the channels of a convolution that halves the sides. The label is joined to the pixels, or to what
    the convolutions found.
    """

    def __init__(
        self, shape: Shape, layers: tuple[int, ...], code: int, network: Network, activation: Activation, label: int = 0
    ) -> None:
        super().__init__()
        check(shape, layers, network, activation)
        act = ACTIVATIONS[activation]
        channels, dense = split(layers, network)
        halves: list[nn.Module] = []
        for read, write in pairwise((shape[0], *channels)):
            halves += [nn.Conv2d(read, write, KERNEL, stride=2, padding=1), act()]
        self.convolutions = nn.Sequential(*halves)
        units: list[nn.Module] = []
        for read, write in pairwise((math.prod(found(shape, channels)) + label, *dense)):
            units += [nn.Linear(read, write), act()]
        self.dense = nn.Sequential(*units, nn.Linear(dense[-1], code))

    def forward(self, pictures: Tensor, label: Tensor | None = None) -> Tensor:
        read = self.convolutions(pictures).flatten(1)
        return self.dense(read if label is None else torch.cat((read, label), -1))


class Decoder(nn.Module):
    """Codes [N, code], and labels [N, L] -> pictures [N, C, H, W] before the sigmoid; Encoder's mirror image."""

    def __init__(
        self, shape: Shape, layers: tuple[int, ...], code: int, network: Network, activation: Activation, label: int = 0
    ) -> None:
        super().__init__()
        check(shape, layers, network, activation)
        act = ACTIVATIONS[activation]
        channels, dense = split(layers, network)
        self.grid = found(shape, channels)
        units: list[nn.Module] = []
        for read, write in pairwise((code + label, *dense[::-1])):
            units += [nn.Linear(read, write), act()]
        self.dense = nn.Sequential(*units, nn.Linear(dense[0], math.prod(self.grid)))
        doubles: list[nn.Module] = []
        for read, write in pairwise((*channels[::-1], shape[0])):
            doubles += [act(), nn.ConvTranspose2d(read, write, KERNEL, stride=2, padding=1)]
        self.convolutions = nn.Sequential(*doubles)

    def forward(self, codes: Tensor, label: Tensor | None = None) -> Tensor:
        read = codes if label is None else torch.cat((codes, label), -1)
        return self.convolutions(self.dense(read).unflatten(1, self.grid))


def split(layers: tuple[int, ...], network: Network) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The channels of the convolutions, and the units of the dense layers."""
    return (layers[:-1], layers[-1:]) if network == "conv" else ((), layers)


def found(shape: Shape, channels: tuple[int, ...]) -> Shape:
    """What the convolutions make of a picture."""
    times = 2 ** len(channels)
    return ((channels or shape[:1])[-1], shape[1] // times, shape[2] // times)


def check(shape: Shape, layers: tuple[int, ...], network: str, activation: str) -> None:
    """Raises SakiyomiError for a network that cannot be built."""
    if network not in ("dense", "conv"):
        raise unknown("network (--model.network)", network, ("dense", "conv"))
    if activation not in ACTIVATIONS:
        raise unknown("activation (--model.activation)", activation, ACTIVATIONS)
    if len(layers) < (2 if network == "conv" else 1):
        least = "a convolution and a dense layer" if network == "conv" else "one"
        raise SakiyomiError(f"--model.layers is {list(layers)}; a {network} network has at least {least}")
    for units in layers:
        at_least("a number of --model.layers", units, 1)
    times = 2 ** (len(layers) - 1) if network == "conv" else 1
    if shape[1] % times or shape[2] % times:
        raise SakiyomiError(
            f"pictures of {shape[1]} x {shape[2]} cannot be halved {len(layers) - 1} times, as --model.layers "
            f"{' '.join(map(str, layers))} asks; fewer convolutions, or sides that are multiples of {times}"
        )
