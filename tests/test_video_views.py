"""views/video.py: the pictures decode, move, and show what is given, imagined, best, worst and unsure."""

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageColor

from sakiyomi.errors import SakiyomiError
from sakiyomi.imagine import Imagined
from sakiyomi.views.canvas import GAP, STRIP
from sakiyomi.views.video import (
    BORDER,
    GIVEN,
    HAPPENED,
    IMAGINED,
    LABEL,
    imagination_gif,
    imagination_strip,
    spread,
    spread_picture,
    what_if_gif,
    what_if_strip,
)

PAST, AHEAD, SAMPLES, H, W = 2, 5, 6, 12, 18
SCALE = 3
STILL_SCALE = 7  # a still's pictures are about 128 px wide
CELL_W, CELL_H = W * SCALE + 2 * BORDER, H * SCALE + 2 * BORDER
Picture = Callable[[Imagined], bytes]
PICTURES: dict[str, Picture] = {
    "gif": imagination_gif,
    "strip": imagination_strip,
    "spread": spread_picture,
    "what if gif": lambda i: what_if_gif({"left": i, "right": i}),
    "what if strip": lambda i: what_if_strip({"left": i, "right": i}),
}


def video(length: int, speed: float, tint: int = 0) -> np.ndarray:
    """A bright box that moves to the right on a grey ground: uint8 [length, H, W, 3]."""
    out = np.full((length, H, W, 3), 60, np.uint8)
    for t in range(length):
        left = int(speed * t)
        out[t, 4:9, left : left + 5] = (200, 120 + tint, 40)
    return out


@pytest.fixture
def imagined() -> Imagined:
    """Sample 3 is the truth itself, sample 5 all black, the rest a little off."""
    truth = video(PAST + AHEAD, 2)
    samples = np.stack([video(PAST + AHEAD, 2, 10 * (k + 1))[PAST:] for k in range(SAMPLES)])
    samples[3], samples[5] = truth[PAST:], 0
    return Imagined(truth, samples, PAST, 10.0)


def opened(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def pixels(content: bytes, frame: int = 0) -> np.ndarray:
    image = opened(content)
    image.seek(frame)
    return np.asarray(image.convert("RGB")).astype(int)


def near(pixel: np.ndarray, color: str | np.ndarray, tolerance: int = 4) -> bool:
    expected = np.array(ImageColor.getrgb(color)) if isinstance(color, str) else color.astype(int)
    return bool((abs(pixel - expected) <= tolerance).all())


def cell(shown: np.ndarray, row: int, column: int) -> tuple[np.ndarray, np.ndarray]:
    """Of a moving picture's frame: a cell's picture at its own size [H, W, 3], and its border's first pixel."""
    top, left = row * (STRIP + CELL_H) + STRIP, column * (CELL_W + GAP)
    inner = shown[top + BORDER : top + CELL_H - BORDER, left + BORDER : left + CELL_W - BORDER]
    return inner[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE], shown[top, left]


# Moving


def test_gif_has_every_frame_in_the_right_size_and_speed(imagined: Imagined) -> None:
    gif = opened(imagination_gif(imagined))
    assert (gif.format, getattr(gif, "n_frames", 1)) == ("GIF", PAST + AHEAD)
    assert gif.size == (4 * (CELL_W + GAP) - GAP, 2 * (STRIP + CELL_H) + STRIP)
    assert (gif.info["duration"], gif.info["loop"]) == (100, 0)
    assert opened(imagination_gif(imagined, scale=5)).size[0] == 4 * (W * 5 + 2 * BORDER + GAP) - GAP


def test_gif_frames_tell_given_from_imagined_and_from_what_happened(imagined: Imagined) -> None:
    gif = imagination_gif(imagined)
    for t in range(PAST + AHEAD):
        shown = pixels(gif, t)
        for row, column in np.ndindex(2, 4):
            _, border = cell(shown, row, column)
            after = HAPPENED if (row, column) == (0, 0) else IMAGINED
            assert near(border, GIVEN if t < PAST else after)


def test_gif_shows_truth_best_mean_worst_others_and_spread(imagined: Imagined) -> None:
    gif = imagination_gif(imagined)
    mean = imagined.samples.mean(0).round()
    for t in (PAST, PAST + AHEAD - 1):
        expected = {
            (0, 0): imagined.truth[t],
            (0, 1): imagined.samples[3, t - PAST],
            (0, 2): mean[t - PAST],
            (0, 3): imagined.samples[5, t - PAST],
            (1, 0): imagined.samples[0, t - PAST],
            (1, 1): imagined.samples[1, t - PAST],
            (1, 2): imagined.samples[2, t - PAST],
        }
        shown = pixels(gif, t)
        for at, picture in expected.items():
            assert near(cell(shown, *at)[0], picture, 12)
        heat, _ = cell(shown, 1, 3)
        brightness = heat.sum(-1)
        where = spread(imagined.samples)[t - PAST]
        assert brightness[where == where.max()].min() > brightness[where == where.min()].max() + 100


def test_gif_shows_the_past_as_it_was_and_without_spread(imagined: Imagined) -> None:
    shown = pixels(imagination_gif(imagined), 1)
    for column in range(4):
        assert near(cell(shown, 0, column)[0], imagined.truth[1], 12)
    assert (cell(shown, 1, 3)[0] < 20).all()


def test_without_a_known_truth_samples_are_shown_unranked(imagined: Imagined) -> None:
    shown = pixels(imagination_gif(replace(imagined, truth=imagined.truth[:PAST])), PAST)
    assert near(cell(shown, 0, 0)[0], imagined.samples.mean(0).round()[0], 12)
    for index in range(6):
        picture, border = cell(shown, (index + 1) // 4, (index + 1) % 4)
        assert near(picture, imagined.samples[index, 0], 12)
        assert near(border, IMAGINED)


@pytest.mark.parametrize(("samples", "across", "rows"), [(1, 2, 1), (2, 3, 2), (3, 3, 2), (4, 4, 2), (6, 4, 2)])
def test_few_samples_make_a_smaller_gif(imagined: Imagined, samples: int, across: int, rows: int) -> None:
    gif = opened(imagination_gif(replace(imagined, samples=imagined.samples[:samples])))
    assert gif.size == (across * (CELL_W + GAP) - GAP, rows * (STRIP + CELL_H) + STRIP)


# Still


def test_strip_marks_what_was_given(imagined: Imagined) -> None:
    shown = pixels(imagination_strip(imagined, frames=5))
    wide, high = (side * STILL_SCALE + 2 * BORDER + GAP for side in (W, H))
    top = next(y for y in range(len(shown)) if near(shown[y, LABEL + 2 * wide], HAPPENED))
    assert len(shown) > 5 * high
    for row in range(5):
        for index, t in enumerate((0, 1, 2, 4, 6)):
            left = LABEL + index * wide
            after = HAPPENED if row == 0 else IMAGINED
            assert near(shown[top + row * high, left], GIVEN if t < PAST else after)
            if row == 0:
                inner = shown[top + BORDER :, left + BORDER :][: H * STILL_SCALE, : W * STILL_SCALE]
                assert near(inner[::STILL_SCALE, ::STILL_SCALE], imagined.truth[t], 0)


@pytest.mark.parametrize(("frames", "columns"), [(1, 1), (2, 2), (5, 5), (7, 7), (30, 7)])
def test_strip_has_so_many_columns(imagined: Imagined, frames: int, columns: int) -> None:
    wide = W * STILL_SCALE + 2 * BORDER + GAP
    for strip in (imagination_strip(imagined, frames), what_if_strip({"left": imagined}, frames)):
        assert opened(strip).size[0] == LABEL + columns * wide
    with pytest.raises(SakiyomiError, match="frames is 0; it must be at least 1"):
        imagination_strip(imagined, 0)


def test_spread_picture_is_darker_where_samples_agree(imagined: Imagined) -> None:
    agreed = replace(imagined, samples=imagined.samples[[0] * SAMPLES])
    assert pixels(spread_picture(imagined)).sum() > pixels(spread_picture(agreed)).sum() * 1.1
    assert opened(spread_picture(imagined)).format == "PNG"


# What if


def test_what_if_shows_each_action_and_below_what_happened_where_it_is_known(imagined: Imagined) -> None:
    unknown = replace(imagined, truth=imagined.truth[:PAST], samples=imagined.samples[4:])
    gif = what_if_gif({"left": imagined, "right": unknown})
    for t in (0, PAST + 1):
        shown = pixels(gif, t)
        assert shown.shape[:2] == (2 * (STRIP + CELL_H) + STRIP, 2 * (CELL_W + GAP) - GAP)
        below, border = cell(shown, 1, 0)
        assert near(below, imagined.truth[t], 12)
        assert near(border, GIVEN if t < PAST else HAPPENED)
        for column, future in enumerate((imagined, unknown)):
            expected = future.truth[t] if t < PAST else future.samples[0, t - PAST]
            assert near(cell(shown, 0, column)[0], expected, 12)
    without = opened(what_if_gif({"left": unknown, "right": unknown}))
    assert without.size == (2 * (CELL_W + GAP) - GAP, STRIP + CELL_H + STRIP)
    many = opened(what_if_gif({f"action {k}": unknown for k in range(6)}))
    assert many.size == (4 * (CELL_W + GAP) - GAP, 2 * (STRIP + CELL_H) + STRIP)


def test_what_if_strip_has_a_row_for_what_is_known(imagined: Imagined) -> None:
    unknown = replace(imagined, truth=imagined.truth[:PAST])
    heights = [opened(what_if_strip({"a": imagined, "b": second})).height for second in (unknown, imagined)]
    assert heights[1] - heights[0] == H * STILL_SCALE + 2 * BORDER + GAP


def test_futures_that_do_not_fit_are_refused(imagined: Imagined) -> None:
    for what_if in (what_if_gif, what_if_strip):
        with pytest.raises(SakiyomiError, match="no futures to show"):
            what_if({})
        short = Imagined(imagined.truth[:-1], imagined.samples[:, :-1], PAST, 10.0)
        with pytest.raises(SakiyomiError, match=r"'b' \(2 given, samples \[4, 12, 18, 3\]\) does not fit 'a'"):
            what_if({"a": imagined, "b": short})


# All of them


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize(
    "change",
    [
        lambda i: replace(i, samples=i.samples[:1]),
        lambda i: replace(i, samples=i.samples[:1], truth=i.truth[:PAST]),
        lambda i: replace(i, truth=i.truth[:PAST]),
        lambda i: Imagined(i.truth[: PAST + 1], i.samples[:, :1], PAST, 10.0),
        lambda i: Imagined(i.truth[..., :1], i.samples[..., :1], PAST, 10.0),
        lambda i: Imagined(i.truth.repeat(9, 1), i.samples.repeat(9, 2), PAST, 10.0),
        lambda i: Imagined(i.truth[:, :3, :2], i.samples[:, :, :3, :2], PAST, 10.0),
    ],
    ids=["one sample", "one sample, no truth", "no truth", "one step", "one channel", "tall", "tiny"],
)
def test_odd_records_are_drawn(name: str, change: Callable[[Imagined], Imagined], imagined: Imagined) -> None:
    image = opened(PICTURES[name](change(imagined)))
    assert image.format == ("GIF" if "gif" in name else "PNG")
    assert np.asarray(image.convert("L")).std() > 1


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_follow_from_the_record(name: str, imagined: Imagined) -> None:
    other = replace(imagined, samples=imagined.samples[:, ::-1])
    assert PICTURES[name](imagined) == PICTURES[name](imagined)
    assert PICTURES[name](imagined) != PICTURES[name](other)


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize(
    "change",
    [
        lambda i: replace(i, past=3),
        lambda i: replace(i, samples=i.samples[0]),
        lambda i: replace(i, samples=i.samples[:0]),
        lambda i: replace(i, samples=i.samples / 255),
        lambda i: replace(i, truth=i.truth[:, :, 1:]),
    ],
    ids=["past", "axes", "no samples", "floats", "sizes"],
)
def test_records_that_do_not_fit_together_are_refused(
    name: str, change: Callable[[Imagined], Imagined], imagined: Imagined
) -> None:
    with pytest.raises(SakiyomiError, match=r"no imagination of \d given frames; expected uint8 \[T, H, W, 3\]"):
        PICTURES[name](change(imagined))


def test_spread_is_the_standard_deviation_over_samples() -> None:
    samples = np.random.default_rng(0).integers(0, 256, (7, 3, 4, 5, 3), np.uint8)
    expected = np.mean([np.std(samples[..., c] / 255, axis=0) for c in range(3)], axis=0)
    np.testing.assert_allclose(spread(samples), expected, atol=1e-6)
    assert (spread(samples[:1]) == 0).all()
    halves = np.zeros((2, 1, 2, 2, 3), np.uint8)
    halves[1] = 255
    np.testing.assert_allclose(spread(halves), 0.5)
