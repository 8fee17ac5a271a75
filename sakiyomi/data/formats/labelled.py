"""Pictures with labels as others keep them: .npz, the idx files of MNIST, folders of pictures, scikit-learn's digits.

    parts = read_labelled(Path("mnist.npz"))
    parts["train"].pictures, parts["train"].labels

Each reader gives the parts the data is in, `train` and where there is one `test`. The command over them is
`sakiyomi prepare digits --path mnist.npz` (`sources/pictures.py`).
"""

import gzip
import math
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from PIL import Image

from sakiyomi.data.formats.importing import picture
from sakiyomi.errors import SakiyomiError

SMALL, BOX = 20, 28  # as MNIST does: the digit 20 x 20, in a box of 28 x 28
SUFFIXES = (".png", ".jpg", ".jpeg")
MEGAPIXELS = 25  # more in a picture that is to become some pixels is a slip
LARGEST = 2**31  # bytes of an idx file
IDX = {"train": ("train-images", "train-labels"), "test": ("t10k-images", "t10k-labels")}
KINDS = ("idx3-ubyte", "idx1-ubyte")
DAMAGED = (ValueError, OSError, BadZipFile, EOFError, AttributeError, TypeError, zlib.error)


@dataclass(frozen=True)
class Labelled:
    """Pictures and what each of them is of."""

    pictures: np.ndarray
    """uint8 [N, h, w], or [N, h, w, 3] in colour; digits are white on black."""
    labels: np.ndarray
    """int64 [N]."""
    names: tuple[str, ...] = ()
    """What each label is called, where that is known."""


def read_labelled(path: Path, size: int = BOX, colours: int = 1) -> dict[str, Labelled]:
    """The parts of an .npz, of a folder of idx files, or of a folder with a folder of pictures for each label, which
    are scaled to `size` x `size` and made grey or RGB.

    Raises SakiyomiError for anything else, and for what is damaged in it.
    """
    if path.is_file():
        if path.suffix != ".npz":
            raise SakiyomiError(
                f"{path} is no .npz; name one, a folder of idx files, or a folder with a folder of pictures a label"
            )
        return read_npz(path)
    if any(_idx(path, stem, kind) for stems in IDX.values() for stem, kind in zip(stems, KINDS, strict=True)):
        return read_idx_folder(path)
    return read_folders(path, size, colours)


def read_npz(path: Path) -> dict[str, Labelled]:
    """x_train and y_train, and x_test and y_test where they are there."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            if "x_train" not in archive or "y_train" not in archive:
                raise SakiyomiError(f"{path} has {', '.join(archive) or 'nothing'}; it needs x_train and y_train")
            there = [part for part in ("train", "test") if f"x_{part}" in archive and f"y_{part}" in archive]
            arrays = {part: (archive[f"x_{part}"], archive[f"y_{part}"]) for part in there}
    except DAMAGED as error:
        raise SakiyomiError(f"{path} cannot be read as an .npz of arrays: {error}") from error
    for part, (pictures, labels) in arrays.items():
        grey_or_rgb = pictures.ndim == 3 or (pictures.ndim == 4 and pictures.shape[-1] in (1, 3))
        whole = labels.dtype.kind in "iuf" and bool((labels == np.floor(labels)).all())
        if not grey_or_rgb or pictures.dtype != np.uint8 or labels.shape != pictures.shape[:1] or not whole:
            raise SakiyomiError(
                f"{path}: x_{part} is {pictures.dtype} {list(pictures.shape)}, y_{part} {list(labels.shape)}; "
                "expected uint8 [N, h, w] or [N, h, w, 3], and whole numbers [N]"
            )
    return {part: Labelled(pictures, labels.astype(np.int64)) for part, (pictures, labels) in arrays.items()}


def read_idx_folder(folder: Path) -> dict[str, Labelled]:
    """train-images-idx3-ubyte and train-labels-idx1-ubyte, gzipped or not; the same of t10k where they are there."""
    parts = {}
    for part, stems in IDX.items():
        found = [_idx(folder, stem, kind) for stem, kind in zip(stems, KINDS, strict=True)]
        if part == "test" and not any(found):
            continue
        images, labels = found
        if images is None or labels is None:
            missing = [f"{stem}-{kind}" for stem, kind, p in zip(stems, KINDS, found, strict=True) if p is None]
            raise SakiyomiError(f"{folder} has no {' and no '.join(missing)} (nor .gz); fetch the other half, too")
        pictures, numbers = read_idx(images, 3), read_idx(labels, 1)
        if len(pictures) != len(numbers):
            raise SakiyomiError(f"{images} holds {len(pictures)} pictures, {labels.name} {len(numbers)} labels")
        parts[part] = Labelled(pictures, numbers.astype(np.int64))
    return parts


def read_idx(path: Path, axes: int) -> np.ndarray:
    """An idx file of bytes with so many axes, gzipped if its name ends so: two zero bytes, the type (8), the number of
    axes, the length of each as big-endian 32 bits, the values.

    Raises SakiyomiError for another file, or one cut short.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(4 + 4 * axes)
            if header[:4] != bytes((0, 0, 8, axes)):
                raise SakiyomiError(
                    f"{path} begins with {header[:4].hex(' ') or 'nothing'}; an idx file of bytes with {axes} axes "
                    f"begins with 00 00 08 0{axes}"
                )
            shape = tuple(int(size) for size in np.frombuffer(header[4 : 4 + len(header) // 4 * 4 - 4], ">u4"))
            count = math.prod(shape)
            if len(shape) != axes or not 0 < count <= LARGEST:
                raise SakiyomiError(f"{path} says it holds {' x '.join(map(str, shape))} values; it is damaged")
            content = file.read(count + 1)
    except DAMAGED as error:
        raise SakiyomiError(f"{path} cannot be read: {error}; fetch it anew") from error
    if len(content) != count:
        came = f"only {len(content)}" if len(content) < count else "more"
        raise SakiyomiError(f"{path} says it holds {' x '.join(map(str, shape))} values, and {came} came; it was cut")
    return np.frombuffer(content, np.uint8).reshape(shape)


def read_folders(folder: Path, size: int, colours: int) -> dict[str, Labelled]:
    """A folder with a folder of pictures for each label; or with such folders in `train` and `test`."""
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not inside:
        raise SakiyomiError(
            f"{folder} holds no folder of pictures a label, and no train-images-idx3-ubyte; name a folder that does"
        )
    if {path.name for path in inside} == {"train", "test"}:
        return {path.name: read_folders(path, size, colours)["train"] for path in inside}
    pictures, labels = [], []
    for label, one in enumerate(inside):
        files = sorted(path for path in one.iterdir() if path.suffix.lower() in SUFFIXES)
        if not files:
            raise SakiyomiError(f"{one} holds no picture ({', '.join(SUFFIXES)}); remove the folder, or fill it")
        pictures += [read_picture(path, size, colours) for path in files]
        labels += [label] * len(files)
    return {"train": Labelled(np.stack(pictures), np.array(labels), tuple(path.name for path in inside))}


def read_picture(path: Path, size: int, colours: int) -> np.ndarray:
    """A file, scaled to uint8 [size, size], or [size, size, 3] in colour."""
    content = path.read_bytes()
    try:
        width, height = Image.open(BytesIO(content), formats=("PNG", "JPEG")).size  # of its header: nothing is decoded
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise SakiyomiError(f"{path} cannot be decoded: {error}; repair or remove it") from error
    if width * height > MEGAPIXELS * 1e6:
        raise SakiyomiError(
            f"{path} has {width} x {height} pixels, {width * height / 1e6:.0f} megapixels; at most {MEGAPIXELS} are "
            f"read, of which {size} x {size} are kept: scale it down first"
        )
    return scaled(picture(str(path), content), size, colours)


def scaled(image: Image.Image, size: int, colours: int) -> np.ndarray:
    """uint8 [size, size], or [size, size, 3] in colour."""
    image = image.convert("L" if colours == 1 else "RGB")
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(image)


def small_digits() -> Labelled:
    """scikit-learn's handwritten digits of 8 x 8, enlarged smoothly. Raises SakiyomiError when it is not installed."""
    try:
        from sklearn.datasets import load_digits as load
    except ImportError as error:
        raise SakiyomiError(
            "these digits come with scikit-learn, which is not installed: pip install 'sakiyomi[digits]', "
            "or name an MNIST .npz (--digits of moving-digits, --path of others)"
        ) from error
    coarse, labels = load(return_X_y=True)  # float64 [N, 64] from 0 to 16, int64 [N]
    coarse = (np.asarray(coarse).reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    pad = (BOX - SMALL) // 2
    pictures = np.zeros((len(coarse), BOX, BOX), np.uint8)
    for enlarged, one in zip(pictures, coarse, strict=True):
        enlarged[pad:-pad, pad:-pad] = np.asarray(Image.fromarray(one).resize((SMALL, SMALL), Image.Resampling.BICUBIC))
    return Labelled(pictures, np.asarray(labels, np.int64))


def _idx(folder: Path, stem: str, kind: str) -> Path | None:
    """The file, under one of the names it goes by."""
    names = (f"{stem}{dot}{kind}{end}" for dot in "-." for end in ("", ".gz"))
    return next((folder / name for name in names if (folder / name).is_file()), None)
