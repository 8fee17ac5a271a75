"""Pictures of imagined futures: beside what really happened, side by side, and where they part.

    imagination_gif     truth, best, mean, worst and other samples, and where they differ, moving
    imagination_strip   a still of the same: a row each, time to the right
    spread_picture      where the samples differ, step by step
    what_if_gif         one past, several actions: what each would do, moving
    what_if_strip       a still of the same

The colour of a frame tells what it is: green was given to the model, red it imagined, grey really happened (and was
not given). Best and worst are those of highest and lowest mean PSNR against the truth over the imagined steps.
"""

import math
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import torch
from PIL import Image, ImageDraw

from sakiyomi.errors import SakiyomiError, at_least
from sakiyomi.imagine import Imagined
from sakiyomi.scores.pictures import psnr
from sakiyomi.views.canvas import (
    BACKGROUND,
    GAP,
    GREEN,
    INK,
    QUIET,
    RED,
    STRIP,
    enlarge,
    gif_bytes,
    png_bytes,
    write_text,
)

GIVEN, IMAGINED, HAPPENED = GREEN, RED, QUIET
BORDER = 3  # px
ACROSS = 4  # pictures side by side in a moving picture, at most: what a page is wide
STILL = 128  # px, a picture's width in a still, about
LABEL = 172  # px, room for a row's name in a still
LARGE = 22  # px, text in a still, which a page shows at half its size
HEAT = mpl.colormaps["inferno"]
LEAST_HEAT = 0.02  # the scale's end at least: noise of a step or two in 255 must not glow


@dataclass(frozen=True)
class Track:
    """A video with its words: a row of a still, a cell of a moving picture."""

    caption: str
    pictures: np.ndarray
    """uint8 [T, H, W, 3]."""
    colors: list[str]
    """Of the frame around each, T of them."""
    detail: str = ""
    """A few quiet words more."""


def imagination_gif(imagined: Imagined, scale: int = 3) -> bytes:
    """Truth beside best, mean, worst and other samples, and the spread of all samples as heat, at most eight at a
    time; each pixel becomes `scale` wide. Without a known truth: mean, samples and spread, unranked.
    Raises SakiyomiError for a record whose shapes do not fit together."""
    tracks = _tracks(imagined, others=3)
    rows = math.ceil(len(tracks) / ACROSS)
    across = math.ceil(len(tracks) / rows)
    grid = [tracks[first : first + across] for first in range(0, len(tracks), across)]
    return _movie(grid, imagined, scale)


def imagination_strip(imagined: Imagined, frames: int = 10) -> bytes:
    """Rows truth, best, mean, worst and spread (mean, samples and spread where the truth is not known) against
    `frames` steps as one PNG: up to two given ones, then imagined ones, evenly spaced, the last included."""
    at_least("frames", frames, 1)
    return png_bytes(_sheet(_tracks(imagined, others=0), imagined, _steps(imagined, frames)))


def spread_picture(imagined: Imagined, frames: int = 8) -> bytes:
    """Mean of the samples, and below it their standard deviation at every pixel, at `frames` imagined steps, as one
    PNG with the scale of its colours."""
    at_least("frames", frames, 1)
    _check(imagined)
    steps = np.unique(np.linspace(imagined.past, _length(imagined) - 1, frames).round().astype(int))
    sheet = _sheet([_mean(imagined), _heat(imagined)], imagined, steps)
    out = Image.new("RGB", (sheet.width, sheet.height + 2 * LARGE), BACKGROUND)
    out.paste(sheet, (0, 0))
    count = len(imagined.samples)
    _scale_bar(out, sheet.height, _top(imagined), f"standard deviation over {count} sample{'s' if count > 1 else ''}")
    return png_bytes(out)


def what_if_gif(futures: dict[str, Imagined], scale: int = 3) -> bytes:
    """One past and several actions, side by side: above the first sample of what each would do, below what really
    happened where it is known. `futures` are named by their actions.
    Raises SakiyomiError for none, and for futures that are not of one past, length and size."""
    first = _first(futures)
    grid: list[list[Track | None]] = []
    names = list(futures)
    for begin in range(0, len(names), ACROSS):
        some = names[begin : begin + ACROSS]
        grid.append([_sample(name, futures[name], 0) for name in some])
        if any(_known(futures[name]) for name in some):
            grid.append([_truth(futures[name]) if _known(futures[name]) else None for name in some])
    return _movie(grid, first, scale)


def what_if_strip(futures: dict[str, Imagined], frames: int = 10) -> bytes:
    """The same as one PNG: for each action a row of what it would do and, where it is known, a row of what really
    happened, against `frames` steps. Raises SakiyomiError as `what_if_gif` does."""
    at_least("frames", frames, 1)
    first = _first(futures)
    tracks = []
    for name, future in futures.items():
        tracks.append(_sample(name, future, 0))
        if _known(future):
            tracks.append(_truth(future))
    return png_bytes(_sheet(tracks, first, _steps(first, frames)))


def spread(samples: np.ndarray) -> np.ndarray:
    """Where samples differ: uint8 [S, T', H, W, C] -> float32 [T', H, W], the standard deviation over the samples of
    values in 0..1, its mean over the channels; 0 for a single sample."""
    return (samples.astype(np.float32) / 255).std(0).mean(-1)


# What is shown


def _tracks(imagined: Imagined, others: int) -> list[Track]:
    """Truth, best, mean, worst, `others` more samples, spread; what cannot be told apart or is not known left out."""
    _check(imagined)
    samples = imagined.samples
    if not _known(imagined):
        if len(samples) == 1:
            return [_sample("the only sample", imagined, 0)]
        count = min(len(samples), 3 + others)  # three in the places of truth, best and worst
        some = [_sample(f"sample {index + 1}", imagined, index) for index in range(count)]
        return [_mean(imagined), *some, _heat(imagined)]
    scores = _scores(imagined)
    texts = [f"{score:.1f} dB" for score in scores]
    if len(samples) == 1:
        return [_truth(imagined), _sample("the only sample", imagined, 0, texts[0])]
    best, worst = int(scores.argmax()), int(scores.argmin())
    # Samples are drawn alike, so the first ones are as random as any.
    rest = [index for index in range(len(samples)) if index not in (best, worst)][:others]
    return [
        _truth(imagined),
        _sample("best", imagined, best, texts[best]),
        _mean(imagined),
        _sample("worst", imagined, worst, texts[worst]),
        *(_sample(f"sample {index + 1}", imagined, index, texts[index]) for index in rest),
        _heat(imagined),
    ]


def _scores(imagined: Imagined) -> np.ndarray:
    """[S]: each sample's PSNR against the truth, mean over the imagined steps."""
    samples = _channels_first(imagined.samples)
    truth = _channels_first(imagined.truth[imagined.past :])
    return psnr(samples, truth.expand_as(samples)).mean(-1).numpy()


def _channels_first(pictures: np.ndarray) -> torch.Tensor:
    """uint8 [..., H, W, C] -> float32 [..., C, H, W] in 0..1."""
    return torch.from_numpy(pictures.astype(np.float32) / 255).movedim(-1, -3)


def _truth(imagined: Imagined) -> Track:
    happened = [HAPPENED] * (len(imagined.truth) - imagined.past)
    return Track("truth", _rgb(imagined.truth), [GIVEN] * imagined.past + happened)


def _sample(caption: str, imagined: Imagined, index: int, detail: str = "") -> Track:
    return _after_past(caption, imagined, imagined.samples[index], detail)


def _mean(imagined: Imagined) -> Track:
    mean = imagined.samples.mean(0, dtype=np.float32).round().astype(np.uint8)
    return _after_past(f"mean of {len(imagined.samples)}", imagined, mean)


def _heat(imagined: Imagined) -> Track:
    """The spread as colours; black while all is given. Steps of the past are drawn as no spread, which they have."""
    top = _top(imagined)
    warm = HEAT((spread(imagined.samples) / top).clip(0, 1), bytes=True)[..., :3]
    cold = np.zeros((imagined.past, *warm.shape[1:]), np.uint8)
    colors = [GIVEN] * imagined.past + [IMAGINED] * len(warm)
    return Track("spread", np.concatenate((cold, warm)), colors, f"0 to {top:.2f}")


def _after_past(caption: str, imagined: Imagined, future: np.ndarray, detail: str = "") -> Track:
    """The given frames, then a future [T - past, H, W, C]."""
    pictures = np.concatenate((imagined.truth[: imagined.past], future))
    return Track(caption, _rgb(pictures), [GIVEN] * imagined.past + [IMAGINED] * len(future), detail)


def _top(imagined: Imagined) -> float:
    """Where the heat's colours end: above nearly all pixels, in hundredths. (One outlier must not darken the rest.)"""
    return max(LEAST_HEAT, math.ceil(100 * float(np.percentile(spread(imagined.samples), 99.5))) / 100)


def _rgb(pictures: np.ndarray) -> np.ndarray:
    return pictures.repeat(3, -1) if pictures.shape[-1] == 1 else pictures


def _length(imagined: Imagined) -> int:
    return imagined.past + imagined.samples.shape[1]


def _known(imagined: Imagined) -> bool:
    return len(imagined.truth) > imagined.past


def _steps(imagined: Imagined, frames: int) -> np.ndarray:
    """Indices of frames to show: the last given ones, at most two, then imagined ones evenly to the end."""
    given = min(2, imagined.past, frames - 1)
    ahead = np.linspace(imagined.past, _length(imagined) - 1, frames - given).round().astype(int)
    return np.unique(np.concatenate((np.arange(imagined.past - given, imagined.past), ahead)))


def _first(futures: dict[str, Imagined]) -> Imagined:
    """The first of them, all checked to be of one past, length and size."""
    if not futures:
        raise SakiyomiError("there are no futures to show; imagine at least one action")
    first_name, first = next(iter(futures.items()))
    for name, future in futures.items():
        _check(future)
        here, there = (f"{f.past} given, samples {list(f.samples.shape[1:])}" for f in (future, first))
        if here != there:
            raise SakiyomiError(f"future {name!r} ({here}) does not fit {first_name!r} ({there}); imagine both alike")
    return first


def _check(imagined: Imagined) -> None:
    truth, samples = imagined.truth, imagined.samples
    fits = (
        samples.ndim == 5
        and truth.shape[1:] == samples.shape[2:]
        and samples.shape[-1] in (1, 3)
        and len(truth) in (imagined.past, imagined.past + samples.shape[1])
        and samples.size > 0
    )
    if not fits or truth.dtype != np.uint8 or samples.dtype != np.uint8:
        raise SakiyomiError(
            f"truth {truth.dtype} {list(truth.shape)} and samples {samples.dtype} {list(samples.shape)} are no "
            f"imagination of {imagined.past} given frames; expected uint8 [T, H, W, 3] (or [{imagined.past}, H, W, 3] "
            f"where the truth is not known) and uint8 [S, T - {imagined.past}, H, W, 3]"
        )


# How it is drawn


def _movie(grid: list[list[Track | None]] | list[list[Track]], imagined: Imagined, scale: int) -> bytes:
    """The tracks of `grid`, row by row, moving together; None is what nobody knows."""
    at_least("scale", scale, 1)
    frames = [_frame(grid, imagined, step, scale) for step in range(_length(imagined))]
    return gif_bytes(frames, imagined.rate, (INK, QUIET, BACKGROUND, GIVEN, IMAGINED))


def _frame(
    grid: list[list[Track | None]] | list[list[Track]], imagined: Imagined, step: int, scale: int
) -> Image.Image:
    """One step: a caption above each picture, the frame's number and what the colours mean below."""
    wide, high = _cell(imagined, scale)
    across = max(len(row) for row in grid)
    out = Image.new("RGB", (across * (wide + GAP) - GAP, len(grid) * (STRIP + high) + STRIP), BACKGROUND)
    draw = ImageDraw.Draw(out)
    for row, tracks in enumerate(grid):
        top = row * (STRIP + high)
        for column, track in enumerate(tracks):
            left = column * (wide + GAP)
            if track is None:
                write_text(draw, (left + wide / 2, top + STRIP + high / 2), "not known", wide, QUIET, "mm")
                continue
            text = f"{track.caption}, {track.detail}" if track.detail else track.caption
            write_text(draw, (left + wide / 2, top + STRIP / 2), text, wide, INK, "mm")
            _paste(out, track, step, (left, top + STRIP), scale)
    middle = out.height - STRIP / 2
    length, given = _length(imagined), step < imagined.past
    text = f"frame {step + 1} of {length}, {'given' if given else 'imagined'}"
    write_text(draw, (GAP, middle), text, out.width * 0.5, GIVEN if given else IMAGINED, "lm")
    if any(HAPPENED in track.colors for tracks in grid for track in tracks if track is not None):
        write_text(draw, (out.width - GAP, middle), "grey frame: not shown to the model", out.width * 0.4, QUIET, "rm")
    return out


def _sheet(tracks: list[Track], imagined: Imagined, steps: np.ndarray) -> Image.Image:
    """A row a track with its caption at the left, a column a step of `steps`; which are given stands above."""
    scale = max(1, round(STILL / imagined.samples.shape[3]))
    wide, high = _cell(imagined, scale)
    line = LARGE + 2 * GAP
    size = (LABEL + len(steps) * (wide + GAP), 2 * line + len(tracks) * (high + GAP))
    sheet = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for row, track in enumerate(tracks):
        top = line + row * (high + GAP)
        lift = 0.6 * LARGE if track.detail else 0.0
        room = LABEL - 2 * GAP
        write_text(draw, (GAP, top + high / 2 - lift), track.caption, room, INK, "lm", LARGE)
        write_text(draw, (GAP, top + high / 2 + lift), track.detail, room, QUIET, "lm", LARGE - 2)
        for column, step in enumerate(steps):
            _paste(sheet, track, step, (LABEL + column * (wide + GAP), top), scale)
    for column, step in enumerate(steps):
        at = (LABEL + column * (wide + GAP) + wide / 2, sheet.height - line / 2)
        text = f"frame {step + 1}" if column == 0 else f"{step + 1}"
        write_text(draw, at, text, wide, QUIET, "mm", LARGE)
    given = int((steps < imagined.past).sum())
    for word, color, begin, end in (("given", GIVEN, 0, given), ("imagined", IMAGINED, given, len(steps))):
        if begin < end:
            left, right = LABEL + begin * (wide + GAP), LABEL + end * (wide + GAP) - GAP
            write_text(draw, ((left + right) / 2, line / 2 - 2), word, right - left, color, "mm", LARGE)
            draw.line((left, line - GAP, right - 1, line - GAP), color, BORDER)
    return sheet


def _scale_bar(sheet: Image.Image, top: float, end: float, text: str) -> None:
    """What the heat's colours mean, in a line `2 * LARGE` high at `top`: 0 to `end` of the range of values."""
    draw, middle = ImageDraw.Draw(sheet), top + LARGE - GAP
    width = min(240, max(1, sheet.width // 4))
    bar = HEAT(np.linspace(0, 1, width)[None].repeat(LARGE - 4, 0), bytes=True)[..., :3]
    zero, left = sheet.width - GAP - 60 - width - 2 * GAP, sheet.width - GAP - 60 - width
    sheet.paste(Image.fromarray(np.ascontiguousarray(bar)), (left, round(middle - LARGE / 2 + 2)))
    write_text(draw, (zero, middle), "0", 20, INK, "mm", LARGE)
    write_text(draw, (sheet.width - GAP, middle), f"{end:.2f}", 54, INK, "rm", LARGE)
    write_text(draw, (GAP, middle), f"{text}, values in 0..1", zero - 4 * GAP, INK, "lm", LARGE)


def _cell(imagined: Imagined, scale: int) -> tuple[int, int]:
    """Width and height of a picture with its frame."""
    height, width = imagined.samples.shape[2:4]
    return width * scale + 2 * BORDER, height * scale + 2 * BORDER


def _paste(onto: Image.Image, track: Track, step: int, at: tuple[int, int], scale: int) -> None:
    """One picture of a track with its coloured frame, its upper left corner at `at`."""
    picture = Image.fromarray(np.ascontiguousarray(enlarge(track.pictures[step], scale)))
    left, top = at
    right, bottom = left + picture.width + 2 * BORDER - 1, top + picture.height + 2 * BORDER - 1
    ImageDraw.Draw(onto).rectangle((left, top, right, bottom), None, track.colors[step], BORDER)
    onto.paste(picture, (left + BORDER, top + BORDER))
