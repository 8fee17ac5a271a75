"""My own hand: one photographed digit -> its style -> the ten digits in that hand.

    sakiyomi style my/three.jpg --label 3
    sakiyomi style my/three.jpg --label 3 --run runs/mnist

A model that is told the label (CVAE) has no need to say in z which digit it is; z says the rest: slant, pen, width,
where the strokes bend. So the z of one digit, drawn with the other labels, writes those in the same hand. z is the mean
of what the encoder says of the picture. What lands in the folder: `style.png` (the digit as it was read, and the ten)
and `style.json` (z, and what was found in the photo).
"""

from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional

from sakiyomi.data.photo import SIDE, Photo, read_photo
from sakiyomi.draw import as_bytes, decoded, drawing, names_of
from sakiyomi.errors import SakiyomiError, unknown
from sakiyomi.files import write_atomic
from sakiyomi.rollout import Trained
from sakiyomi.views.canvas import BACKGROUND, INK, QUIET, enlarge, png_bytes, write_text

SCALE = 4  # pixels of the sheet a pixel of a digit
READ = 8  # of the digit that was read
ROW = 5  # digits side by side
MARGIN = 24  # px around the sheet
SURE = 10.0  # nats by which another label must explain a picture better before it is said: benchmarks/style.py


@dataclass(frozen=True)
class Styling:
    """Write the ten digits in the hand of one photographed digit."""

    label: str = ""
    """What the photo shows, by a name of the model's labels, such as 3."""
    out: str = ""
    """Folder to write to; `style` in the run folder if not given."""
    device: str = "auto"
    """auto, cpu or cuda."""


@dataclass(frozen=True)
class Style:
    """The hand that a digit is written in."""

    label: str
    """What the photo shows."""
    z: tuple[float, ...]
    """Z numbers."""
    looks_like: str
    """The label under which the model finds the picture most likely."""
    note: str = ""
    """Something to tell: where it looks like another label, by far."""
    photo: str = ""
    """The photo's name."""
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    """Where the digit is in the photo: left, top, right, bottom in 0..1."""
    inverted: bool = False
    """The ink was darker than the paper."""
    did: tuple[str, ...] = ()
    """What was done to the photo."""


def writer_of(trained: Trained) -> tuple[str, ...]:
    """The labels of a model that writes in a given hand. Raises SakiyomiError for a model that is told none, and for
    one of pictures that are no digits of 28 x 28."""
    drawing(trained)
    names = names_of(trained)
    if not names:
        kind = type(trained.model).__name__
        raise SakiyomiError(
            f"{kind} is told no label, so it cannot write another digit in the same hand; take a CVAE: "
            "sakiyomi train digits"
        )
    takes_photos(trained)
    return names


def takes_photos(trained: Trained) -> None:
    """Raises SakiyomiError unless the model's pictures are as `read_photo` makes them."""
    shape = trained.model.shapes["image"]
    if shape != (1, SIDE, SIDE):
        raise SakiyomiError(
            f"photos are read as grey pictures of {SIDE} x {SIDE}, the model's are {shape[2]} x {shape[1]} with "
            f"{shape[0]} channels; take a model of such pictures: sakiyomi train digits"
        )


def number_of(names: tuple[str, ...], label: str) -> int:
    """Which of `names` a label is. Raises SakiyomiError, with the names, for one there is none of."""
    if label not in names:
        raise unknown("label", label, names)
    return names.index(label)


@torch.inference_mode()
def codes_of(trained: Trained, pictures: np.ndarray | Tensor, labels: Tensor | None = None) -> Tensor:
    """The mean of z [N, Z], on the CPU, of pictures [N, C, H, W] in 0..1 and labels int64 [N] where it is told them."""
    model, device = drawing(trained), next(trained.model.parameters()).device
    streams = {"image": torch.as_tensor(pictures).float().to(device)}
    if "label" in model.conditions:
        if labels is None:
            raise SakiyomiError(f"{type(trained.model).__name__} is told a label; which one?")
        streams["label"] = functional.one_hot(labels, trained.model.shapes["label"][0]).float().to(device)
    return model.encode(streams).cpu()


def costs(trained: Trained, pictures: np.ndarray) -> Tensor:
    """How badly each label explains pictures [N, H, W], nats [N, L]: the cross-entropy of the pixels with the picture
    drawn from its own z, and what z costs under N(0, I)."""
    count = len(names_of(trained))
    labels = torch.arange(count).repeat(len(pictures))
    images = torch.as_tensor(pictures).float()[:, None].repeat_interleave(count, 0)
    z = codes_of(trained, images, labels)
    drawn = decoded(trained, z, functional.one_hot(labels, count).float()).clamp(1e-6, 1 - 1e-6)
    lost = functional.binary_cross_entropy(drawn, images, reduction="none").flatten(1).sum(1)
    return (lost + z.square().sum(1) / 2).unflatten(0, (len(pictures), count))


def moved(picture: np.ndarray) -> np.ndarray:
    """A picture [H, W] as it is, and by a pixel to all eight sides, [9, H, W]."""
    height, width = picture.shape
    room = np.pad(picture, 1)
    ways = [(1, 1), *((y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1))]
    return np.stack([room[y : y + height, x : x + width] for y, x in ways])


def style(trained: Trained, photo: Photo, label: str = "") -> Style:
    """The hand of a photographed digit, of the label that the model finds most likely if none is given. Raises
    SakiyomiError for a label the model has none of."""
    names = writer_of(trained)
    pictures = moved(photo.picture)
    cost = costs(trained, pictures)
    cost[1:] += SURE  # collections differ in where they put a digit, but MNIST's place is the one to begin with
    best = int(cost.min(0).values.argmin())
    number = number_of(names, label) if label else best
    place = int(cost[:, number].argmin())
    note, did = "", photo.did
    if float(cost[:, number].min() - cost.min()) > SURE:
        note = f"the photo looks more like {names[best]} than like {label}; is the label right, and the photo upright?"
    if place:
        did = (*did, "moved by a pixel, to where the model's digits are")
    z = codes_of(trained, pictures[place][None, None], torch.tensor([number]))[0]
    return Style(names[number], tuple(z.tolist()), names[best], note, box=photo.box, inverted=photo.inverted, did=did)


def in_that_hand(trained: Trained, z: Tensor) -> Tensor:
    """Every label once by the same z [Z]: mean pictures [L, C, H, W] in 0..1."""
    labels = torch.eye(len(writer_of(trained)))
    return decoded(trained, z.expand(len(labels), -1), labels)


def style_sheet(picture: np.ndarray, label: str, digits: np.ndarray, names: tuple[str, ...]) -> bytes:
    """The digit as it was read, float [H, W] in 0..1, and beside it those written in its hand, uint8 [L, H, W, C], as
    PNG."""
    height, width = digits.shape[1:3]
    rows = -(-len(digits) // ROW)
    cell, tall = width * SCALE + 12, height * SCALE + 30
    left = MARGIN + width * READ + 2 * MARGIN
    size = (left + ROW * cell + MARGIN, 2 * MARGIN + max(height * READ + 30, rows * tall))
    sheet = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    read = enlarge(np.repeat(np.rint(255 * picture).astype(np.uint8)[..., None], 3, -1), READ)
    sheet.paste(Image.fromarray(read), (MARGIN, MARGIN))
    under = (MARGIN + read.shape[1] / 2, MARGIN + read.shape[0] + 18)
    write_text(draw, under, f"read from the photo: {label}", read.shape[1], INK, "mm", 16)
    for index, digit in enumerate(digits):
        x, y = left + index % ROW * cell, MARGIN + index // ROW * tall
        rgb = np.repeat(digit, 3, -1) if digit.shape[-1] == 1 else digit
        big = Image.fromarray(rgb).resize((width * SCALE, height * SCALE), Image.Resampling.BICUBIC)
        sheet.paste(big, (x, y))
        write_text(draw, (x + width * SCALE / 2, y + height * SCALE + 12), names[index], cell, QUIET, "mm", 14)
    return png_bytes(sheet)


def write_style(trained: Trained, path: Path, options: Styling, folder: Path) -> tuple[Style, list[Path]]:
    """Read the photo, write `style.png` and `style.json` into `folder`; gives the style and the files. Raises
    SakiyomiError for a label there is none of and a photo without a digit."""
    names = writer_of(trained)
    if not options.label:
        raise SakiyomiError(f"--label is missing: which of {', '.join(names)} does the photo show?")
    number_of(names, options.label)
    photo = read_photo(path)
    found = replace(style(trained, photo, options.label), photo=path.name)
    digits = as_bytes(in_that_hand(trained, torch.tensor(found.z)))
    files = {
        "style.png": style_sheet(photo.picture, found.label, digits, names),
        "style.json": msgspec.json.format(msgspec.json.encode(found)),
    }
    for name, content in files.items():
        write_atomic(folder / name, content)
    return found, [folder / name for name in files]
