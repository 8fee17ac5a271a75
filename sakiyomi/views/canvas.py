"""What the dark picture sheets share: colours, lines of text, enlarged pixels, and how GIF and PNG are written."""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK, QUIET, BACKGROUND, GREEN, RED = "#e9ecf1", "#98a1b0", "#15181d", "#4ade80", "#ff5d5d"
STRIP = 22  # px, height of a line of text
GAP = 6  # px between pictures
LAST_FRAME = 1500  # ms


def enlarge(image: np.ndarray, scale: int) -> np.ndarray:
    """Every pixel of [H, W, 3] becomes a square `scale` wide: nothing is made up between them."""
    return image.repeat(scale, 0).repeat(scale, 1)


def write_text(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    room: float,
    color: str,
    anchor: str,
    size: int = 13,
) -> None:
    """One line, `size` px high, smaller where `room` px would not hold it; left out where even 7 px would not.
    `anchor` is Pillow's: "lm" begins at `at`, "mm" is centred there, "rm" ends there."""
    for fitting in range(size, 6, -1):
        font = ImageFont.load_default(fitting)
        if font.getlength(text) <= room:
            draw.text(at, text, color, font, anchor)
            return


def gif_bytes(frames: list[Image.Image], rate: float, kept: tuple[str, ...]) -> bytes:
    """An endless GIF at `rate` frames a second that rests on its last frame; the colours in `kept` stay exact."""
    palette = _palette(frames, kept)
    frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    durations = [max(20, round(1000 / rate))] * (len(frames) - 1) + [LAST_FRAME]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return file.getvalue()


def png_bytes(sheet: Image.Image) -> bytes:
    """The sheet as a whole PNG file."""
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()


def _palette(frames: list[Image.Image], kept: tuple[str, ...]) -> Image.Image:
    """256 colours for all frames, so that nothing flickers; the colours with a meaning are kept exactly."""
    exact = [int(color[i : i + 2], 16) for color in kept for i in (1, 3, 5)]
    some = [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, 8).astype(int))]
    seen = np.concatenate([np.asarray(frame).reshape(-1, 3) for frame in some]) & 0xFE
    # Large areas count little more than small ones: else a beige table would leave the cube no red.
    codes, areas = np.unique(seen @ np.array((1 << 16, 1 << 8, 1)), return_counts=True)
    colors = np.stack((codes >> 16, codes >> 8 & 0xFF, codes & 0xFF), -1).astype(np.uint8)
    weighed = colors.repeat(np.ceil(areas**0.25).astype(int), axis=0)
    count = 256 - len(kept)
    found = Image.fromarray(weighed[None]).quantize(count, Image.Quantize.MEDIANCUT, kmeans=2).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette(exact + found[: 3 * count])
    return palette
