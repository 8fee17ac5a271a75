"""A photo or scan of one handwritten digit -> a picture as MNIST has them.

    sakiyomi style PHOTO --label 3

White on black, 28 x 28, the longer side of the ink 20 pixels, its centre of mass in the middle. In this order: the
photo is turned as its EXIF says and no further, for how a hand slants is style; a sheet on a table is cut out; a
smooth surface is fitted to the light on the paper, which also says whether the ink is darker or lighter than that;
what is darker than the paper around it is ink; blots, ruled lines and specks go; strokes that lie close together are
one digit. Paper may have any colour, ink any that is darker, or any that is lighter.
"""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage

from sakiyomi.data.paper import contrast, depths, eroded, grounds_of, numbered, otsu
from sakiyomi.errors import SakiyomiError

SIDE, INK = 28, 20  # pixels of the picture, and of the longer side of the ink in it
MIDDLE = 14.5  # where MNIST's centres of mass are: in the middle of the pixel of number 14
MEGAPIXELS = 40  # of a photo, at most: one of more is not decoded
SMALLEST = 8  # pixels of a photo's shorter side, and of the digit's longer one
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
WORK = (112, 1200)  # pixels of the longer side worked on, at least and at most
FAINTEST = 0.08  # of the paper's brightness: what differs by less is paper
LEAST = 0.025  # of the photo's longer side: what is smaller is no digit
GRAIN = 6.0  # standard deviations of the paper's grain that ink stands out by
THIN = 1.8  # pixels of the picture: 5 % of the digits of MNIST have finer strokes
WIDEST = 2.2  # times its height; of 60,000 digits of MNIST 12 are wider
FULLEST = 0.8  # of the square around it that a digit's ink covers, at most; of 60,000 digits of MNIST none has more
HOLES = 7  # in one piece of ink: squares; of digits an 8 with loops has 4
TWO = "two digits, or one and something else: cut the photo to one digit"


@dataclass(frozen=True)
class Photo:
    """One digit out of a photo."""

    picture: np.ndarray
    """White on black, float32 [28, 28] in 0..1."""
    box: tuple[float, float, float, float]
    """Where the ink is: left, top, right, bottom in 0..1 of the upright photo."""
    size: tuple[int, int]
    """Width and height of the upright photo."""
    inverted: bool
    """The ink was darker than the paper, and was turned to light on dark."""
    did: tuple[str, ...]
    """What was done, in words."""


@dataclass(frozen=True)
class _Part:
    """A connected piece of ink."""

    number: int
    """In the labelled picture."""
    mass: float
    top: int
    left: int
    bottom: int
    right: int
    thick: float
    """Radius of the largest circle in it."""

    @property
    def longer(self) -> int:
        return max(self.bottom - self.top, self.right - self.left)


def read_photo(source: Path | bytes) -> Photo:
    """The digit in an image file, or in its bytes. Raises SakiyomiError for what is no image, more than MEGAPIXELS,
    moving, a blank page, or shows several digits."""
    with _opened(source) as image:
        name = source.name if isinstance(source, Path) else "the photo"
        try:
            gray, size, did = _gray(image, name)
        except (
            OSError,
            SyntaxError,
            ValueError,
            EOFError,
            TypeError,
            LookupError,
            Image.DecompressionBombError,
        ) as error:
            raise SakiyomiError(f"{name} is damaged: {error}; save it again, or take another") from error
    mask, ink, dark = _found(gray, did)
    depth = float(np.percentile(ink[mask], 80))
    clean = np.clip((ink - 0.2 * depth) / (0.65 * depth), 0, 1) * ndimage.binary_dilation(mask, iterations=2)
    rows, columns = np.nonzero(clean > 0.5)
    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    longer = max(bottom - top, right - left)
    if longer * max(size) / max(gray.shape) < SMALLEST:
        raise SakiyomiError(f"the digit in {name} is less than {SMALLEST} pixels high; take a photo from nearer")
    step = longer / INK
    width = 2 * mask.sum() / max(int((mask & ~eroded(mask)).sum()), 1)
    if width < THIN * step:
        did.append("thickened a fine pen")
        away = depths(clean < 0.5)
        clean = np.maximum(clean, np.clip(1 + (THIN * step - width) / 2 - away, 0, 1))
    if (clean > 0.5).sum() > FULLEST * longer**2:
        raise SakiyomiError(f"no digit found in {name}: what is there is a blot, no stroke")
    height, width = gray.shape
    box = (float(left / width), float(top / height), float(right / width), float(bottom / height))
    return Photo(_fitted(clean, (top, left, bottom, right)), box, size, dark, tuple(did))


def _found(gray: np.ndarray, did: list[str]) -> tuple[np.ndarray, np.ndarray, bool]:
    """The digit, bool [h, w]; the ink, float32 [h, w] as `contrast` gives it; and whether it is the darker one."""
    error = None
    grounds, advice = grounds_of(gray)
    for bare, sheet, done in grounds:
        words = [done] if done else []
        ink, dark = contrast(bare, sheet)
        words.append("dark ink on a light ground: inverted" if dark else "light ink on a dark ground")
        edge = ~eroded(np.ones(gray.shape, bool) if sheet is None else sheet)
        try:
            labelled, parts = _parts(ink, edge, words)
            mask = _one_digit(labelled, parts, words)
        except SakiyomiError as raised:
            error = error or raised
            continue
        did.extend(words)
        return mask, ink, dark
    raise SakiyomiError(f"{error}{advice}") from error


def _opened(source: Path | bytes) -> Image.Image:
    """The file's header is read, its pixels are not."""
    name = str(source) if isinstance(source, Path) else "the photo"
    limit = f"at most {MEGAPIXELS} megapixels are read; make it smaller, 2000 pixels wide is plenty"
    Image.init()  # else the rarer formats are not there to be named
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
            frames = getattr(image, "n_frames", 1)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise SakiyomiError(f"{name} is too large: {error}; {limit}") from error
    except UnidentifiedImageError as error:
        raise SakiyomiError(f"{name} is no image that can be read; save it as one of {', '.join(FORMATS)}") from error
    except (OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise SakiyomiError(f"{name} cannot be read: {said}") from error
    width, height = image.size
    if width * height > MEGAPIXELS * 1e6:
        raise SakiyomiError(f"{name} has {width} x {height} = {width * height / 1e6:.1f} megapixels; {limit}")
    if min(width, height) < SMALLEST:
        raise SakiyomiError(f"{name} has {width} x {height} pixels; a digit needs at least {SMALLEST} each way")
    # A phone's JPEG may hold a second picture for depth (MPO); the first is the photo.
    if image.format != "MPO" and frames > 1:
        raise SakiyomiError(f"{name} holds {frames} pictures; save the one to be read by itself")
    return image


def _gray(image: Image.Image, name: str) -> tuple[np.ndarray, tuple[int, int], list[str]]:
    """Brightness, float32 [h, w] in 0..255 at the size worked on, the size it had, and what was done."""
    full = (image.width, image.height)
    did: list[str] = []
    image.draft("RGB", (WORK[1], WORK[1]))  # a large JPEG is decoded at half, quarter or eighth size
    if image.mode.startswith("I;16"):  # scanners: 16 bits of grey
        pixels = np.asarray(image).astype(np.float32) / 257
        image = ImageOps.exif_transpose(Image.fromarray(pixels))
    elif image.mode in ("I", "F"):
        raise SakiyomiError(f"{name} has 32 bits a pixel; save it with 8 bits a channel")
    else:
        turned = ImageOps.exif_transpose(image)
        if image.getexif().get(0x0112, 1) != 1:
            did.append("turned as its EXIF says")
        image = _opaque(turned).convert("L")
    sideways = (image.width >= image.height) != (full[0] >= full[1])
    upright = (full[1], full[0]) if sideways else full
    scale = min(max(WORK[0] / max(image.size), 1), WORK[1] / max(image.size))
    if scale != 1:
        size = [max(1, round(side * scale)) for side in image.size]
        image = image.resize((size[0], size[1]), Image.Resampling.BICUBIC, reducing_gap=3.0)
    return np.asarray(image, np.float32), upright, did


def _opaque(image: Image.Image) -> Image.Image:
    """What is transparent becomes white, or black under light ink."""
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    pixels = np.asarray(image, np.float32)
    alpha = pixels[..., 3] / 255
    light = float((pixels[..., :3].mean(-1) * alpha).sum() / max(float(alpha.sum()), 1e-6)) > 127
    see_through = float(alpha.mean()) < 0.98
    ground = Image.new("RGBA", image.size, (0, 0, 0, 255) if light and see_through else (255, 255, 255, 255))
    return Image.alpha_composite(ground, image)


def _parts(ink: np.ndarray, edge: np.ndarray, did: list[str]) -> tuple[np.ndarray, list[_Part]]:
    """The connected pieces of ink that may be strokes, heaviest first. `edge`: where the paper ends, bool [h, w].
    Raises SakiyomiError when there are none."""
    blank = SakiyomiError(
        "no ink found: the page looks blank; write one digit with a pen that shows, and fill the photo with it"
    )
    grain = 1.4826 * float(np.median(np.abs(ink - ndimage.gaussian_filter(ink, 3))))
    faintest = max(FAINTEST, GRAIN * grain)
    labelled, parts = _pieces(ink, ink > faintest)
    if not parts:
        raise blank
    # The darkest of what is there tells how dark ink is; ruled lines and what shines through are fainter.
    depth = max(float(np.percentile(ink[labelled == part.number], 90)) for part in parts[:20])
    labelled, parts = _unruled(ink, max(faintest, 0.35 * depth), did)
    height, width = ink.shape
    strokes = [p for p in parts if p.thick < 0.3 * p.longer]
    if parts and not strokes:
        raise SakiyomiError("no digit found: what is there is a blot, no stroke; take a photo of one digit on paper")
    if len(strokes) < len(parts):
        did.append("left out blots")
    # What is cut by the edge is a line, a shadow, a finger; or the digit, in a photo cut close to it.
    cut = set(np.unique(labelled[edge]).tolist())
    whole = [p for p in strokes if p.number not in cut]
    if not whole or whole[0].mass < 0.1 * strokes[0].mass:
        shares = [sorted(((p.bottom - p.top) / height, (p.right - p.left) / width)) for p in strokes]
        close = [
            p
            for p, share in zip(strokes, shares, strict=True)
            if share[0] > 0.6 and share[1] > 0.85 and (_touches(p, ink.shape) <= 2 or _fills(labelled, p) < 0.5)
        ]
        whole = close + [p for p in whole if p not in close]
    if strokes and not whole:
        raise SakiyomiError(
            "no whole digit found: what is there is cut by the edge; leave some paper around the digit, and take paper "
            "without dark lines"
        )
    if whole and max(p.longer for p in whole) < LEAST * max(height, width):
        raise SakiyomiError("no digit found, only specks; take the photo from nearer, so that the digit fills it")
    if len(whole) < len(strokes):
        did.append("left out what is cut by the edge")
    if not whole:
        raise blank
    return labelled, whole


def _touches(part: _Part, shape: tuple[int, ...]) -> int:
    """How many edges of the photo."""
    return sum((part.top <= 1, part.left <= 1, part.bottom >= shape[0] - 1, part.right >= shape[1] - 1))


def _fills(labelled: np.ndarray, part: _Part) -> float:
    """The share of its box that is ink."""
    return float((labelled[part.top : part.bottom, part.left : part.right] == part.number).mean())


def _unruled(ink: np.ndarray, level: float, did: list[str]) -> tuple[np.ndarray, list[_Part]]:
    """`_pieces` of what is darker than `level`, less squares ruled on the paper that are lighter or finer than the ink.
    Raises SakiyomiError for others."""
    mask = ink > level
    labelled, parts = _pieces(ink, mask)
    if not _squared(labelled, parts):
        return labelled, parts
    kept = np.zeros(ink.shape, bool)
    # Lines and ink are two brightnesses, of which the darker counts.
    for _ in range(2):
        level = max(level, otsu(ink[ink > level]))
        labelled, parts = _pieces(ink, ink > level)
        if not _squared(labelled, parts):
            kept = labelled > 0
            break
    # What is wider than the lines is ink as well, down to where it fades.
    deep = depths(mask)
    for wide in range(1, 1 + max(ink.shape) // 150):
        labelled, parts = _pieces(ink, mask & ~(depths(~(deep > wide)) > wide))
        if not _squared(labelled, parts):
            kept |= labelled > 0
            break
    labelled, parts = _pieces(ink, kept)
    pieces = [part for part in parts if part.mass > 0.05 * parts[0].mass]
    # Where lines took strokes with them, there are many.
    if not pieces or len(pieces) > 3 or max(part.longer for part in pieces) < 0.1 * max(ink.shape):
        raise SakiyomiError(
            "ruled squares, as dark as the ink or nearly: the digit cannot be told from them; write it on blank paper, "
            "or with a thicker and darker pen"
        )
    did.append("left out ruled squares")
    return labelled, parts


def _squared(labelled: np.ndarray, parts: list[_Part]) -> bool:
    return any(_squares(labelled, part) for part in parts[:3])


def _squares(labelled: np.ndarray, part: _Part) -> bool:
    """Whether a piece of ink is a net of lines."""
    if part.longer < 0.3 * max(labelled.shape):
        return False
    hull = labelled[part.top : part.bottom, part.left : part.right] == part.number
    holes, count = numbered(np.asarray(ndimage.binary_fill_holes(hull)) & ~hull)
    least = (0.004 * max(labelled.shape)) ** 2
    return int((np.bincount(holes.ravel(), minlength=count + 1)[1:] > least).sum()) >= HOLES


def _pieces(ink: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, list[_Part]]:
    """Connected pieces, heaviest first, without the smallest: int32 [h, w] of their numbers, and what they are."""
    labelled, count = numbered(mask)
    if not count:
        return labelled, []
    areas = np.bincount(labelled.ravel(), minlength=count + 1)[1:]
    masses = np.asarray(ndimage.sum_labels(ink, labelled, range(1, count + 1)))
    least = max(4.0, (0.006 * max(ink.shape)) ** 2)
    deep = depths(mask)
    boxes = ndimage.find_objects(labelled)
    found = []
    for index in np.argsort(-masses)[:200]:
        if areas[index] < least:
            continue
        rows, columns = boxes[index]
        thick = float(deep[rows, columns][labelled[rows, columns] == index + 1].max())
        found.append(
            _Part(int(index) + 1, float(masses[index]), rows.start, columns.start, rows.stop, columns.stop, thick)
        )
    return labelled, found


def _one_digit(labelled: np.ndarray, parts: list[_Part], did: list[str]) -> np.ndarray:
    """The pieces that make up one digit, as bool [h, w]. Raises SakiyomiError when there is more than one."""
    mask = labelled == parts[0].number
    digit, others = [parts[0]], [p for p in parts[1:] if p.mass > 0.02 * parts[0].mass]
    size = parts[0].longer
    while others:
        away = depths(~mask)
        gaps = {p.number: float(away[labelled == p.number].min()) for p in others}
        # The bar of a 5 may be further away than a second digit is; but it weighs less.
        near = [p for p in others if gaps[p.number] <= (0.35 if p.mass < 0.5 * parts[0].mass else 0.2) * size]
        if not near:
            break
        for part in near:
            if _beside(digit, part, gaps[part.number]):
                raise SakiyomiError(f"the photo shows {TWO}")
            digit.append(part)
            mask |= labelled == part.number
        others = [p for p in others if p not in near]
    heavy = [p for p in others if p.mass > 0.25 * sum(d.mass for d in digit)]
    if heavy:
        raise SakiyomiError(f"the photo shows {TWO}")
    if len(parts) > len(digit):
        did.append("left out specks")
    if len(digit) > 1:
        did.append(f"joined {len(digit)} strokes")
    top, bottom = min(p.top for p in digit), max(p.bottom for p in digit)
    left, right = min(p.left for p in digit), max(p.right for p in digit)
    if right - left > WIDEST * (bottom - top):
        raise SakiyomiError(f"what is written is far wider than high: {TWO}, and hold the photo upright")
    return mask


def _beside(digit: list[_Part], part: _Part, gap: float) -> bool:
    """A piece as tall as the digit and next to it, not touching: the strokes of one digit overlap."""
    top, bottom = min(p.top for p in digit), max(p.bottom for p in digit)
    left, right = min(p.left for p in digit), max(p.right for p in digit)
    tall = 0.75 * max(bottom - top, part.bottom - part.top)
    apart = part.left >= right or part.right <= left
    both = min(bottom - top, part.bottom - part.top) >= tall
    return apart and both and gap > 0.08 * max(bottom - top, part.bottom - part.top)


def _fitted(clean: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """Scaled and centred by mass: float32 [SIDE, SIDE]."""
    top, left, bottom, right = box
    step = max(bottom - top, right - left) / INK  # pixels of the photo a pixel of the picture
    y, x = (float((clean.sum(1 - axis) * np.arange(clean.shape[axis])).sum() / clean.sum()) for axis in (0, 1))
    # No ink may leave the picture.
    room = (SIDE - MIDDLE - INK / 2) * step
    y, x = (
        float(np.clip(c + 0.5, (low + high) / 2 - room, (low + high) / 2 + room))
        for c, low, high in ((y, top, bottom), (x, left, right))
    )
    pad = int(np.ceil(SIDE * step))
    image = Image.fromarray(np.pad(clean.astype(np.float32), pad))
    left, top = x + pad - MIDDLE * step, y + pad - MIDDLE * step
    corners = (left, top, left + SIDE * step, top + SIDE * step)
    picture = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=corners))
    # A fine pen leaves less than a pixel: no stroke may be fainter than the pens of MNIST are.
    brightest = float(np.percentile(picture[picture > 0.1], 90)) if (picture > 0.1).any() else 1.0
    return np.clip(picture * np.clip(0.95 / max(brightest, 1e-6), 1, 2.5), 0, 1).astype(np.float32)
