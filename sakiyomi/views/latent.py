"""Figures of a latent z: maps by class, pictures side by side, and a folder that TensorBoard's projector opens."""

import math
import shutil
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from PIL import Image, ImageDraw

from sakiyomi.errors import SakiyomiError
from sakiyomi.views.canvas import BACKGROUND, GAP, QUIET, enlarge, png_bytes, write_text
from sakiyomi.views.plots import COLORS, STYLE, as_png, figure_of

TEN = (*COLORS, "#111111", "#e0a3c2")  # ten classes, told apart
DOTS = 4000  # at most in a panel
SIDE = 1400  # px: sheets are enlarged while they stay under this
LEFT = 70  # px for a row's words
BOX = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.75}
SPRITE = 8192  # px, the most TensorBoard takes


def map_by_class(panels: dict[str, np.ndarray], labels: np.ndarray, names: tuple[str, ...]) -> bytes:
    """A dot a picture, coloured by its class: a panel for each [N, 2] of `panels`, with its title; of more than two the
    first one is large. `labels` [N] count into `names`. Raises SakiyomiError for points of another shape or that are
    not finite."""
    for title, points in panels.items():
        if points.shape != (len(labels), 2) or not np.isfinite(points).all():
            raise SakiyomiError(
                f"{title}: points {list(points.shape)} for {len(labels)} labels; expected finite [N, 2]"
            )
    with mpl.rc_context(STYLE):
        figure = figure_of(3.9 if len(panels) == 2 else 5.4)
        widths = {1: (1,), 2: (1, 1)}.get(len(panels), (1.7, 1))
        grid = figure.add_gridspec(max(1, len(panels) - 1), len(widths), width_ratios=widths)
        for index, (title, points) in enumerate(panels.items()):
            axes = figure.add_subplot(grid[index - 1, 1] if index else grid[:, 0])
            large = index == 0 or len(panels) == 2
            few = min(4.0, max(1.0, 1500 / max(len(points), 1)))  # a few dots may be larger
            _dots(axes, points[:DOTS], labels[:DOTS], names, size=few * (5 if large else 3))
            axes.set_title(title, fontsize=10.5 if large else 9)
        return as_png(figure)


def _dots(axes: Axes, points: np.ndarray, labels: np.ndarray, names: tuple[str, ...], size: float) -> None:
    """Points [N, 2] in the colours of their labels, and each label's name in their midst."""
    for label, name in enumerate(names):
        of = points[labels == label]
        color = TEN[label % len(TEN)]
        axes.scatter(of[:, 0], of[:, 1], s=size, color=color, alpha=0.6, lw=0)
        if len(of):
            x, y = np.median(of, axis=0)
            words: dict[str, Any] = {"color": color, "ha": "center", "va": "center", "weight": "bold"}
            axes.text(x, y, name, bbox=BOX, **words)


def spread_plot(reaches: dict[str, np.ndarray]) -> bytes:
    """Where the numbers of z lie, of each name of `reaches` (codes [N, Z]): one panel a model, on one axis."""
    with mpl.rc_context(STYLE):
        figure = figure_of(0.5 + 1.4 * len(reaches))
        panels = figure.subplots(len(reaches), 1, sharex=True, squeeze=False)[:, 0]
        for index, (axes, (name, codes)) in enumerate(zip(panels, reaches.items(), strict=True)):
            axes.hist(codes.reshape(-1), 120, color=COLORS[index % len(COLORS)])
            told = f"deviation {codes.std():.2f}, from {codes.min():.1f} to {codes.max():.1f}"
            axes.set(title=f"{name}: {told}", yticks=[])
        panels[-1].set_xlabel("numbers of z")
        return as_png(figure)


def picture_sheet(pictures: np.ndarray, rows: tuple[str, ...] = (), tight: bool = False) -> bytes:
    """Pictures uint8 [R, K, H, W, C] in R rows, as PNG; `rows` are words to the left of each, and `tight` leaves no gap
    (a map)."""
    if pictures.ndim != 5 or 0 in pictures.shape or (rows and len(rows) != len(pictures)):
        raise SakiyomiError(f"pictures {list(pictures.shape)} with {len(rows)} words; expected [R, K, H, W, C] with R")
    r, k, h, w, c = pictures.shape
    gap, left = (0 if tight else GAP), (LEFT if rows else 0)
    scale = max(1, min((SIDE - left) // (k * w + k * gap), SIDE // (r * h + r * gap), 4))
    size = (left + k * (w * scale + gap) + gap, r * (h * scale + gap) + gap)
    sheet = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for i, row in enumerate(pictures):
        top = gap + i * (h * scale + gap)
        if rows:
            write_text(
                draw, (left - GAP, top + h * scale / 2), rows[i], left - 2 * GAP, QUIET, "rm", max(13, h * scale // 3)
            )
        for j, picture in enumerate(row):
            rgb = np.repeat(picture, 3, -1) if c == 1 else picture
            sheet.paste(Image.fromarray(enlarge(rgb, scale)), (left + gap + j * (w * scale + gap), top))
    return png_bytes(sheet)


def squared(pictures: np.ndarray) -> np.ndarray:
    """Pictures [N, H, W, C] in as many rows as columns, [R, K, H, W, C]; the last ones are black where there are not
    enough."""
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = -(-len(pictures) // columns)
    out = np.zeros((rows * columns, *pictures.shape[1:]), pictures.dtype)
    out[: len(pictures)] = pictures
    return out.reshape(rows, columns, *pictures.shape[1:])


def write_projector(folder: Path, codes: np.ndarray, labels: list[str], pictures: np.ndarray) -> Path:
    """The codes [N, Z] for TensorBoard's projector, each with its label and its picture uint8 [N, H, W, C]: `folder` is
    what `tensorboard --logdir` opens. What was there before is written anew."""
    from torch.utils.tensorboard.writer import SummaryWriter

    if not len(codes) == len(labels) == len(pictures):
        raise SakiyomiError(f"{len(codes)} codes, {len(labels)} labels, {len(pictures)} pictures: expected one of each")
    columns = math.ceil(math.sqrt(len(pictures)))
    step = math.ceil(columns * max(pictures.shape[1:3]) / SPRITE)  # of too many every second pixel is left out, or more
    images = torch.from_numpy(pictures[:, ::step, ::step]).movedim(-1, 1).float() / 255
    images = images.expand(-1, 3, -1, -1)
    if (folder / "projector_config.pbtxt").exists():
        shutil.rmtree(folder)
    with SummaryWriter(str(folder)) as writer:
        writer.add_embedding(torch.from_numpy(codes), metadata=labels, label_img=images, tag="z")
    return folder
