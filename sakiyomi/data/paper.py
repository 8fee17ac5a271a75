"""The paper of a photo: where the sheet lies, how the light falls on it, and what does not belong to it.

Under `sakiyomi.data.photo`. Pictures are float64 [H, W] in 0..1, masks bool [H, W].
"""

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

GRID = 160  # pixels of the longer side on which light and paper are estimated
SHEET = 0.9  # of its convex hull: a sheet is convex, a page less a shadow's corner is not
SHARP = 0.6  # of the difference between sheet and table: so much of it is at the edge, else it is uneven light
SHADED = 0.35  # of the light that is left in a shadow, at least; a table may be darker


def reduced(values: np.ndarray, side: int) -> np.ndarray:
    """Averaged down to `side` pixels of the longer side, if it has more."""
    factor = max(values.shape) / side
    if factor <= 1:
        return values.astype(np.float32)
    size = (max(3, round(values.shape[1] / factor)), max(3, round(values.shape[0] / factor)))
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BOX))


def enlarged(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    image = Image.fromarray(values.astype(np.float32))
    return np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.BILINEAR))


def eroded(mask: np.ndarray, by: int = 1) -> np.ndarray:
    return np.asarray(ndimage.binary_erosion(mask, iterations=by))


def eroded_inside(mask: np.ndarray, by: int) -> np.ndarray:
    """As `eroded`, but not from the photo's edge."""
    return np.asarray(ndimage.binary_erosion(mask, iterations=by, border_value=1))


def dilated(mask: np.ndarray, by: int) -> np.ndarray:
    return np.asarray(ndimage.binary_dilation(mask, iterations=by))


def depths(mask: np.ndarray) -> np.ndarray:
    """How far each pixel of the mask is from what is outside it, float64 [h, w]; 0 outside."""
    return np.asarray(ndimage.distance_transform_edt(mask))


def numbered(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """The number of the connected piece that each pixel is of, int32 [h, w], 0 outside; and how many there are."""
    labelled = np.empty(mask.shape, np.int32)
    count = ndimage.label(mask, np.ones((3, 3)), output=labelled)
    return labelled, int(count)  # pyright: ignore[reportArgumentType]


def grounds_of(gray: np.ndarray) -> tuple[list[tuple[np.ndarray, np.ndarray | None, str]], str]:
    """What to look for the digit on, the best first: the photo, float32 [h, w]; where on it the paper is, bool [h, w],
    None for everywhere; what was done, in words. And what to advise when there is no digit on any."""
    small = reduced(gray, GRID)
    sheet = sheet_in(small)
    if sheet is not None:
        return [(gray, enlarged(eroded(sheet, 2), gray.shape) > 0.5, "cut out the sheet")], ""
    other = other_ground(small)
    if other is None:
        return [(gray, None, "")], ""
    levels = sorted(float(np.median(small[mask])) for mask in (other, ~other))
    shaded = levels[0] > SHADED * levels[1]
    advice = "; a shadow with a hard edge lies on the photo: take it in even light" if shaded else ""
    grounds = []
    if is_convex(~other):
        grounds.append((gray, enlarged(eroded(~other, 2), gray.shape) > 0.5, "cut out the sheet"))
    if shaded:
        # Where the shadow ends, light is unknown: nothing is read there.
        seam = dilated(other, 2) & ~eroded_inside(other, 2)
        grounds.append((lightened(gray, small, other), enlarged(~seam, gray.shape) > 0.5, "lightened a shadow"))
    if not is_convex(~other):
        grounds.append((gray, None, ""))
    return grounds, advice


def lightened(gray: np.ndarray, small: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The photo [h, w] without a hard shadow. `small` is the photo too, and `other` one side of the shadow's edge in
    it."""
    levels = []
    for side in (other, ~other):
        level = float(np.median(small[side]))
        paper = (side & (np.abs(small - level) < 0.25 * level)).astype(np.float32)
        weight = ndimage.gaussian_filter(paper, 8) + 1e-4
        levels.append((ndimage.gaussian_filter(paper * small, 8) + 1e-4 * level) / weight)
    there = enlarged(other, gray.shape) > 0.5
    return np.where(there, gray * enlarged(levels[1] / levels[0], gray.shape), gray)


def sheet_in(small: np.ndarray) -> np.ndarray | None:
    """Where the paper is, bool [h, w], if a sheet lies on a ground of another brightness around it; else None."""
    light = two_grounds(small)
    if light is None:
        return None
    ring = np.concatenate((light[:2].ravel(), light[-2:].ravel(), light[2:-2, :2].ravel(), light[2:-2, -2:].ravel()))
    if 0.2 < ring.mean() < 0.8:  # neither paper nor table goes all around
        return None
    found = light if ring.mean() <= 0.2 else ~light
    labelled, count = numbered(found)
    if not count:
        return None
    largest = labelled == 1 + int(np.argmax(ndimage.sum_labels(found, labelled, range(1, count + 1))))
    # A stroke is thin, a sheet is not.
    radius = float(depths(np.pad(largest, 1)).max())
    if radius < 0.16 * min(small.shape) or largest.mean() < 0.15:
        return None
    return np.asarray(ndimage.binary_fill_holes(largest))


def two_grounds(small: np.ndarray) -> np.ndarray | None:
    """The lighter of two brightnesses, bool [h, w]; None where they hardly differ."""
    smooth = ndimage.gaussian_filter(small, 1)
    light = smooth > otsu(smooth)
    if light.all() or not light.any() or smooth[light].mean() - smooth[~light].mean() < 40:
        return None
    return light


def other_ground(small: np.ndarray) -> np.ndarray | None:
    """A table at some of the sides, or a shadow from there: where, bool [h, w]. It has another brightness than the
    middle, holds a corner of the photo, is thick, and has a hard edge."""
    light = two_grounds(small)
    if light is None:
        return None
    height, width = small.shape
    middle = light[height // 4 : height - height // 4, width // 4 : width - width // 4]
    labelled, _ = numbered(~light if middle.mean() > 0.5 else light)
    other = np.zeros(small.shape, bool)
    for number in {int(labelled[row, column]) for row in (0, -1) for column in (0, -1)} - {0}:
        # A stroke is thin.
        piece = labelled == number
        if float(depths(np.pad(piece, GRID, "edge")).max()) >= 4:
            other |= dilated(eroded_inside(np.asarray(ndimage.binary_fill_holes(piece)), 3), 3)
    if not other.any() or other.mean() > 0.7:
        return None
    ends = other & ~eroded_inside(other, 1)
    steps = ndimage.maximum_filter(small, 7) - ndimage.minimum_filter(small, 7)
    apart = abs(float(np.median(small[other])) - float(np.median(small[~other])))
    # Light that fades over the page leaves no edge.
    return other if (steps[ends] > SHARP * apart).mean() > 0.8 else None


def is_convex(mask: np.ndarray) -> bool:
    """Whether it is a sheet as it lies in the photo, or what a shadow leaves of one."""
    corners = np.argwhere(dilated(np.pad(mask, ((0, 1), (0, 1))), 1))  # about those of the outermost pixels
    try:
        hull = ConvexHull(corners)
    except QhullError:
        return False
    return bool(mask.sum() > SHEET * hull.volume)


def otsu(values: np.ndarray) -> float:
    """The threshold that leaves the least variance within the two sides."""
    counts, edges = np.histogram(values, 64)
    centers = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    sums = np.cumsum(counts * centers)
    means = sums[:-1] / np.maximum(below, 1), (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    return float(edges[1 + int(np.argmax(below * above * (means[0] - means[1]) ** 2))])


def contrast(gray: np.ndarray, sheet: np.ndarray | None) -> tuple[np.ndarray, bool]:
    """How much darker than the paper around it each pixel is, of the paper's brightness (1: black), and whether the
    ink is the darker one (else light and dark were exchanged first)."""
    small = reduced(gray, GRID)
    inside = np.ones(small.shape, bool) if sheet is None else reduced(sheet, GRID) > 0.99
    light = light_on(small, inside)
    dark = float(((small - light)[inside] ** 3).sum()) <= 0
    if not dark:
        gray, small, light = 255 - gray, 255 - small, 255 - light
    light = np.maximum(light, 16.0)
    flat = np.where(inside, small / light, 1.0)
    # What a smooth surface leaves: shadows, folds. Closing fills what is narrower than its window, the strokes.
    window = max(3, round(0.3 * max(small.shape)))
    paper = ndimage.grey_closing(ndimage.median_filter(flat, 3), (window, window))
    paper = ndimage.gaussian_filter(np.clip(paper, 0.3, 3.0), 1.0)
    ground = enlarged(paper * light, gray.shape)
    ink = ndimage.gaussian_filter(1 - gray / ground, max(gray.shape) / 1000)
    if sheet is not None:
        ink = np.where(sheet, ink, 0.0)
    return np.minimum(ink - np.median(ink), 1), dark


def light_on(small: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The light on the paper: a quadratic surface through what most pixels, and above all those of the border, say."""
    height, width = small.shape
    y, x = (axis.astype(np.float64) for axis in np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j])
    terms = np.stack((np.ones_like(x), x, y, x * x, x * y, y * y), -1)[inside]
    values = small[inside].astype(np.float64)
    border = inside & ~eroded(inside, 3)
    base = np.where(border[inside], 4.0, 1.0)
    weights, found = base, np.zeros(6)
    for _ in range(12):
        left = terms.T @ (weights[:, None] * terms) + 1e-6 * np.eye(6)
        found = np.linalg.solve(left, terms.T @ (weights * values))
        off = np.abs(values - terms @ found)
        scale = max(float(np.median(off)), 1.0)
        weights = base / (1 + (off / scale) ** 2)  # Cauchy's: ink has next to no say
    return np.tensordot(np.stack((np.ones_like(x), x, y, x * x, x * y, y * y), -1), found, 1).astype(np.float32)
