"""The halves of a convolutional autoencoder: pictures to feature vectors and back."""

import torch
from torch import Tensor, nn

from sakiyomi.errors import SakiyomiError

CHANNELS = (16, 32, 64)


class PictureEncoder(nn.Module):
    """[N, 3, H, W] in 0..1 -> [N, features] in 0..1, H and W multiples of 8.

    Layer normalisation spreads the features before they are squashed; without it they hardly leave 0.5 beside the
    joints, and the network learns not to look.
    """

    def __init__(self, height: int, width: int, features: int) -> None:
        super().__init__()
        if height % 8 or width % 8:
            raise SakiyomiError(f"pictures of {height} x {width}: height and width must be multiples of 8")
        layers: list[nn.Module] = []
        for before, after in zip((3, *CHANNELS), CHANNELS, strict=False):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.LeakyReLU(0.3, inplace=True)]
        self.convolutions = nn.Sequential(*layers)
        self.linear = nn.Linear(CHANNELS[-1] * (height // 8) * (width // 8), features)
        self.norm = nn.LayerNorm(features)

    def forward(self, images: Tensor) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        return self.norm(self.linear(self.convolutions(images).flatten(1))).sigmoid()


class PictureDecoder(nn.Module):
    """[N, features] -> [N, 3, H, W], the mirror image of PictureEncoder."""

    def __init__(self, height: int, width: int, features: int) -> None:
        super().__init__()
        self.shape = (CHANNELS[-1], height // 8, width // 8)
        self.linear = nn.Linear(features, CHANNELS[-1] * (height // 8) * (width // 8))
        layers: list[nn.Module] = []
        for before, after in zip(CHANNELS[::-1], (*CHANNELS[-2::-1], 3), strict=True):
            layers += [nn.LeakyReLU(0.3), nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)]
        self.convolutions = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        return self.convolutions(self.linear(features).unflatten(1, self.shape))
