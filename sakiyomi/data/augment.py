"""Noise on what the network reads, not on what it has to predict - unless the scene itself is to be another.

Every draw comes from the generator it is given. Light and colour change per frame or per window, noise and
erased patches per frame, shifts per window (a camera that was moved stays moved).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sakiyomi.data.windows import Batch


@dataclass(frozen=True)
class Augment:
    """What is done to the inputs in training."""

    joints: float = 0.02
    """Standard deviation of the noise on joints, as a share of their scaled range."""
    image: float = 0.01
    """Standard deviation of the noise on pictures, of 0..1."""
    light: float = 0.0
    """Brightness factor of a window drawn from 1 -+ this; contrast likewise."""
    flicker: float = 0.0
    """Brightness factor of each frame drawn from 1 -+ this."""
    colour: float = 0.0
    """Factor of each colour channel of a window drawn from 1 -+ this."""
    shift: int = 0
    """Pixels a window is moved by at most, each way."""
    patch: float = 0.0
    """Probability that a frame gets a rectangle of one random colour."""
    patch_size: float = 0.2
    """Largest side of that rectangle, as a share of the picture's."""
    steady_patch: bool = False
    """The rectangle keeps its place and colour through the window, as an object on the table would."""
    scene: bool = False
    """Light, colour and shift of a window are the scene's own: the pictures to be predicted have them, too."""


def augment_batch(batch: Batch, config: Augment, generator: torch.Generator) -> Batch:
    """The batch with noise on its inputs and, with `scene`, its windows in another light and place as a whole."""
    inputs, targets = batch.inputs, batch.targets
    if config.scene and "image" in inputs:
        whole = torch.cat((inputs["image"], targets["image"][:, -1:]), 1)
        whole = _picture(whole, replace(config, flicker=0, patch=0, image=0), generator)
        inputs, targets = {**inputs, "image": whole[:, :-1]}, {**targets, "image": whole[:, 1:]}
        config = replace(config, light=0, colour=0, shift=0)
    return Batch(augment(inputs, config, generator), targets, batch.mask)


def augment(inputs: Mapping[str, Tensor], config: Augment, generator: torch.Generator) -> dict[str, Tensor]:
    """Noisy copies of `inputs` (normalised; pictures [B, T, C, H, W], joints [B, T, J]); other streams pass."""
    out = dict(inputs)
    if "joints" in out and config.joints:
        out["joints"] = out["joints"] + config.joints * _normal(out["joints"], generator)
    if "image" in out:
        out["image"] = _picture(out["image"], config, generator)
    return out


def _picture(images: Tensor, config: Augment, generator: torch.Generator) -> Tensor:
    """Each of these is one pass over the pictures, and all keep them channels last: half the time of a plain one after
    the other. Nothing waits for the device."""
    if config.light or config.flicker or config.colour:
        images = _lit(images, config, generator)
    if config.shift:
        images = _shifted(images, config.shift, generator)
    if config.patch:
        images = _patched(images, config, generator)
    if config.image:
        return torch.add(images, _normal(images, generator), alpha=config.image).clamp_(0, 1)
    return images.clamp(0, 1)


def _lit(images: Tensor, config: Augment, generator: torch.Generator) -> Tensor:
    """Brightness, contrast around the window's mean, flicker and colour: together one factor and one constant for each
    channel of each frame."""
    b, t, c = images.shape[:3]
    factor, constant = images.new_ones(()), images.new_zeros(())
    if config.light:
        bright, contrast = (_factor(images, (b, 1, 1, 1, 1), config.light, generator) for _ in range(2))
        mean = images.mean((1, 2, 3, 4), keepdim=True)
        factor, constant = bright * contrast, bright * mean * (1 - contrast)
    for reach, shape in ((config.flicker, (b, t, 1, 1, 1)), (config.colour, (b, 1, c, 1, 1))):
        if reach:
            more = _factor(images, shape, reach, generator)
            factor, constant = factor * more, constant * more
    return torch.addcmul(constant, images, factor)


def _shifted(images: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Each window moved by a whole number of pixels, its border repeated."""
    b, t, c, h, w = images.shape
    device = images.device
    corner = torch.randint(0, 2 * most + 1, (b, 2), generator=generator, device=device) - most
    rows = (corner[:, 0, None] + torch.arange(h, device=device)).clamp(0, h - 1)
    columns = (corner[:, 1, None] + torch.arange(w, device=device)).clamp(0, w - 1)
    # The number of each pixel among all: taking whole pixels is much faster than indices into several axes.
    frame = torch.arange(b * t, device=device).view(b, t, 1, 1)
    pixel = (frame * h + rows[:, None, :, None]) * w + columns[:, None, None, :]
    taken = images.movedim(2, -1).reshape(-1, c).index_select(0, pixel.flatten())
    return taken.view(b, t, h, w, c).movedim(-1, 2)


def _patched(images: Tensor, config: Augment, generator: torch.Generator) -> Tensor:
    b, t, c, h, w = images.shape
    draws = (b, 1 if config.steady_patch else t)
    device = images.device
    present, x, y, width, height = torch.rand((5, *draws), generator=generator, device=device)
    colour = torch.rand((*draws, c, 1, 1), generator=generator, device=device)
    half_x, half_y = width * config.patch_size / 2, height * config.patch_size / 2
    columns = torch.linspace(0, 1, w, device=device)
    rows = torch.linspace(0, 1, h, device=device)
    inside_x = (columns - x[..., None]).abs() <= half_x[..., None]
    inside_y = (rows - y[..., None]).abs() <= half_y[..., None]
    inside = inside_y[..., :, None] & inside_x[..., None, :] & (present < config.patch)[..., None, None]
    return torch.where(inside[:, :, None], colour, images)


def _factor(like: Tensor, shape: tuple[int, ...], reach: float, generator: torch.Generator) -> Tensor:
    return 1 + reach * (2 * torch.rand(shape, generator=generator, device=like.device) - 1)


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device)
