"""Photos of handwritten digits, made up: paper under uneven light, a pen, a camera with grain, blur and JPEG."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter


@dataclass(frozen=True)
class Scene:
    """How a digit was photographed."""

    size: tuple[int, int] = (480, 400)
    """Width and height, pixels."""
    height: float = 200.0
    """Pixels that the digit's picture of 28 x 28 is enlarged to."""
    at: tuple[float, float] = (0.5, 0.5)
    """Where its middle is, in 0..1."""
    angle: float = 0.0
    """Degrees."""
    paper: tuple[float, float, float] = (0.92, 0.9, 0.82)
    """RGB in 0..1."""
    ink: float = 0.25
    """Brightness of ink, of the paper's."""
    shade: float = 0.3
    """How much darker one side is than the middle."""
    noise: float = 3.0
    """Grain, of 255."""
    blur: float = 0.8
    """Pixels."""
    light_on_dark: bool = False
    seed: int = 0


def photo(digit: np.ndarray, scene: Scene | None = None) -> Image.Image:
    """A photo of a digit, uint8 [28, 28] white on black."""
    scene = scene or Scene()
    return exposed(written(digit, scene), scene)


def written(digit: np.ndarray, scene: Scene) -> np.ndarray:
    """Where ink is on the page, float64 [h, w] in 0..1."""
    side = round(scene.height)
    big = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    big = big.rotate(scene.angle, Image.Resampling.BICUBIC, expand=True)
    page = Image.new("L", scene.size)
    left, top = (round(a * s - b / 2) for a, s, b in zip(scene.at, scene.size, big.size, strict=True))
    page.paste(big, (left, top))
    return np.asarray(page, np.float64) / 255


def exposed(ink: np.ndarray, scene: Scene) -> Image.Image:
    """A page with this ink on it [h, w], as the camera sees it."""
    random = np.random.default_rng(scene.seed)
    height, width = ink.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    way = random.uniform(0, 2 * np.pi)
    light = 1 - scene.shade * (1 + np.cos(way) * x + np.sin(way) * y + 0.3 * (x * x + y * y)) / 3
    rgb = 255 * light[..., None] * np.array(scene.paper) * (1 - (1 - scene.ink) * ink[..., None])
    if scene.light_on_dark:
        rgb = 255 - rgb
    rgb += random.normal(0, scene.noise, rgb.shape)
    image = Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8))
    return image.filter(ImageFilter.GaussianBlur(scene.blur))


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    """The image file's bytes."""
    file = io.BytesIO()
    image.save(file, kind, **options)  # pyright: ignore[reportArgumentType]
    return file.getvalue()


def alike(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of two pictures, -1..1."""
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
