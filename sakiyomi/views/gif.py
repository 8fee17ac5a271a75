"""Pictures of a trial: what the camera saw, where the network looked, and what it expected to see next.

    trial_gif     a moving picture of the whole trial
    trial_strip   a still of the same, a few ticks side by side

A filled dot is where the network looks, a ring of the same colour where it means to look at the next tick.
"""

import numpy as np
from PIL import Image, ImageDraw

from sakiyomi.errors import SakiyomiError
from sakiyomi.rollout import Trial
from sakiyomi.views.canvas import BACKGROUND, GAP, GREEN, INK, QUIET, STRIP, enlarge, gif_bytes, png_bytes, write_text
from sakiyomi.worlds.pick_cube import CUBE_HALF, LIFT_HEIGHT

# Bright, far from each other, and none the colour of arm, table or cube. Point k has the k-th, beginning anew.
POINT_COLORS = ("#14e0c0", "#ff4fd8", "#3f8cff", "#ffe63b", "#7dff4a", "#a86bff", "#ffffff", "#00b4ff")
FINE = 4  # dots are drawn so many times larger and scaled down: smooth edges


def trial_gif(trial: Trial, rate: float, scale: int = 6) -> bytes:
    """The whole trial as an endless GIF at `rate` ticks a second; each pixel of the camera becomes `scale` wide.
    Raises SakiyomiError for a trial whose pictures were not kept."""
    frames = [_frame(trial, tick, rate, scale) for tick in range(len(_seen(trial)))]
    return gif_bytes(frames, rate, (*POINT_COLORS, INK, BACKGROUND, GREEN))


def trial_strip(trial: Trial, frames: int = 6) -> bytes:
    """`frames` evenly spaced ticks as one PNG: above what the camera saw, below what the network had expected to
    see one tick later (left out for a network that predicts no pictures). Raises SakiyomiError as `trial_gif` does."""
    ticks = np.unique(np.linspace(0, len(_seen(trial)) - 1, frames).round().astype(int))
    height, width = _seen(trial).shape[1:3]
    scale = max(1, round(160 / width))
    wide, high, line = width * scale, height * scale, STRIP + GAP
    rows = 1 if trial.predicted_images is None else 2
    sheet = Image.new("RGB", (len(ticks) * (wide + GAP) + GAP, rows * (line + high) + line), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    write_text(draw, (GAP, line / 2), _camera_caption(trial) + _legend(trial), sheet.width, INK, "lm", 17)
    for column, tick in enumerate(ticks):
        left = GAP + column * (wide + GAP)
        sheet.paste(Image.fromarray(_camera(trial, tick, scale)), (left, line))
        if trial.predicted_images is not None:
            sheet.paste(Image.fromarray(enlarge(trial.predicted_images[tick], scale)), (left, 2 * line + high))
        write_text(draw, (left + wide / 2, sheet.height - line / 2), f"tick {tick + 1}", wide, QUIET, "mm", 16)
        if _lifted(trial, tick):
            _check_mark(draw, left + wide - 15, sheet.height - line / 2)
    if rows == 2:
        write_text(draw, (GAP, line * 1.5 + high), "predicted next picture", sheet.width, INK, "lm", 17)
    return png_bytes(sheet)


def attention_overlay(
    image: np.ndarray, attention: np.ndarray, predicted: np.ndarray | None = None, scale: int = 6
) -> np.ndarray:
    """A picture (uint8 [H, W, 3]) enlarged to uint8 [H * scale, W * scale, 3], with a dot at each point of
    `attention` [K, 2] and a ring at each of `predicted` [K, 2]: x rightwards and y downwards in 0..1 of the picture.
    Points that are not finite are left out."""
    fine = Image.fromarray(enlarge(image, scale * FINE))
    draw, unit = ImageDraw.Draw(fine), FINE * max(2.5, 0.65 * scale)  # a dot's radius
    size = np.array([fine.width, fine.height])
    for points, ring in ((predicted, True), (attention, False)):
        for k, point in enumerate(() if points is None else points):
            if np.isfinite(point).all():
                _mark(draw, point * size, unit, POINT_COLORS[k % len(POINT_COLORS)], ring)
    return np.asarray(fine.reduce(FINE))


def _mark(draw: ImageDraw.ImageDraw, at: np.ndarray, unit: float, color: str, ring: bool) -> None:
    """A dot with a dark rim, or a ring with a dark rim on either side."""

    def circle(radius: float, width: float, line: str, fill: str | None = None) -> None:
        box = (*(at - radius), *(at + radius))
        draw.ellipse(box, fill, line, max(1, round(width)))

    if ring:
        circle(2.05 * unit, 0.8 * unit, "#101418")
        circle(1.9 * unit, 0.5 * unit, color)
    else:
        circle(1.25 * unit, unit, "#101418", "#101418")
        circle(unit, unit, color, color)


def _frame(trial: Trial, tick: int, rate: float, scale: int) -> Image.Image:
    """One tick: captions above, camera and prediction side by side, time and mark below."""
    pictures = {_camera_caption(trial): _camera(trial, tick, scale)}
    if trial.predicted_images is not None:
        pictures["predicted next picture"] = enlarge(trial.predicted_images[tick], scale)
    high, wide = next(iter(pictures.values())).shape[:2]
    frame = Image.new("RGB", (len(pictures) * (wide + GAP) - GAP, high + 2 * STRIP), BACKGROUND)
    draw = ImageDraw.Draw(frame)
    for index, (caption, picture) in enumerate(pictures.items()):
        left = index * (wide + GAP)
        frame.paste(Image.fromarray(picture), (left, STRIP))
        write_text(draw, (left + wide / 2, STRIP / 2), caption, wide, INK, "mm")
    below = high + 1.5 * STRIP
    write_text(draw, (GAP, below), f"{tick / rate:.1f} s", wide / 3, INK, "lm")
    if trial.attention is not None and len(pictures) > 1:
        write_text(draw, (frame.width / 2, below), _legend(trial).lstrip(": "), frame.width / 2, QUIET, "mm")
    if _lifted(trial, tick):
        write_text(draw, (frame.width - GAP, below), "lifted", wide / 3, GREEN, "rm")
        _check_mark(draw, frame.width - GAP - 52, below)
    return frame


def _seen(trial: Trial) -> np.ndarray:
    if trial.images is None:
        raise SakiyomiError(f"the trial with seed {trial.seed} kept no pictures; run it again, keeping them")
    return trial.images


def _camera(trial: Trial, tick: int, scale: int) -> np.ndarray:
    if trial.attention is None:
        return enlarge(_seen(trial)[tick], scale)
    ahead = None if trial.predicted_attention is None else trial.predicted_attention[tick]
    return attention_overlay(_seen(trial)[tick], trial.attention[tick], ahead, scale)


def _camera_caption(trial: Trial) -> str:
    return "camera" if trial.attention is None else "camera + attention"


def _legend(trial: Trial) -> str:
    if trial.attention is None:
        return ""
    return ": dots look now" + ("" if trial.predicted_attention is None else ", rings next")


def _lifted(trial: Trial, tick: int) -> bool:
    """The cube's centre is as far above its rest height as the rule of success asks."""
    return bool(trial.cube_heights[tick] >= LIFT_HEIGHT + CUBE_HALF)


def _check_mark(draw: ImageDraw.ImageDraw, left: float, middle: float) -> None:
    """A tick mark 10 px wide."""
    draw.line(((left, middle), (left + 4, middle + 4), (left + 10, middle - 5)), GREEN, 2, joint="curve")
