"""EIPL, the recordings that the first SARNN learns from: read into an episode store, and written.

    sakiyomi prepare eipl grasp_bottle --colours bgr --out data/grasp
    sakiyomi prepare export eipl data/grasp --out grasp_bottle

    grasp_bottle/{train,test}/images.npy   uint8 [N, T, H, W, 3]
    grasp_bottle/{train,test}/joints.npy   float32 [N, T, J]; poses.npy, features.npy and others [N, T, ..] alike
    grasp_bottle/joint_bounds.npy          [2, J], least and largest of train and test
    rollout_001.npz                        raw: joints [T, J], images [T, H, W, 3], finger [T] ..., one file an episode

All N of a folder share T: the shorter ones repeat their last frame to the end, all streams of it. That is cut off when
it is read, as padding is no movement; a channel that is frozen while others move stays. What is written by `write_eipl`
has the true lengths beside it, in lengths.npy. The files hold neither clocks nor the order of colours.
"""

import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import tyro
from numpy.lib import format as npy

from sakiyomi.data.episodes import EpisodeStore, Kind, Stream
from sakiyomi.data.formats.gathering import (
    RGB,
    Content,
    Foreign,
    Track,
    check_settings,
    frames_of,
    gather,
    one_length,
    stream_name,
)
from sakiyomi.data.formats.importing import given
from sakiyomi.data.formats.npy import npz_names, open_npy, read_npz, to_npy
from sakiyomi.data.records import latest
from sakiyomi.errors import SakiyomiError
from sakiyomi.files import whole_file, write_atomic
from sakiyomi.run import console

Values = dict[str, np.ndarray]
Colours = Literal["auto", "bgr", "rgb"]
SPLITS = ("train", "test")
NAMES = {"images": "image", "poses": "pose"}  # file -> stream; the others keep their names
FILES = {stream: file for file, stream in NAMES.items()}
KINDS: dict[str, Kind] = {"joints": "joints", "pose": "pose", "command": "joints", "action": "action"}
LENGTHS = "lengths"
NO_ROWS = ("token", "audio", "label")  # kinds of stream for which EIPL has no place
TAKEN = (*NAMES, LENGTHS)  # names under which a stream of ours would come back as another, or not at all


@dataclass(frozen=True)
class Eipl:
    """Import recordings of EIPL: npy folders, or raw npz rollouts."""

    path: tyro.conf.Positional[str] = ""
    """The folder with train and test, or with rollout_*.npz, or one .npz file."""
    colours: Colours = "auto"
    """Order of the colours, which the files do not tell: bgr (AIREC, OpenManipulator), rgb (robosuite). auto takes rgb
    where poses.npy lies beside joints.npy, as robosuite's do, and bgr elsewhere."""
    rate: float = 10.0
    """Frames a second, which the files do not tell either."""
    pixels: tuple[int, int] = (0, 0)
    """Height and width to which pictures are brought; 0 0 keeps them."""
    validation: float = 0.1
    """Share of the training episodes for the validation split: the last ones, one at least."""
    keep_padding: bool = False
    """Leave repeated last frames in."""

    def record(self, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> EpisodeStore:
        """Write the store; what is in it already is kept.

        Raises SakiyomiError when there is nothing to read, when arrays do not fit together, and, at the very end, when
        some episodes are damaged.
        """
        check_settings(self.validation, self.pixels)
        if not 0 < self.rate < math.inf:
            raise SakiyomiError(f"--rate is {self.rate:g}; it must be a number of frames a second above 0")
        path = given(self.path, "a folder of EIPL: sakiyomi prepare eipl FOLDER")
        folder = dataset_folder(path)
        colours = self._colours(folder)
        settings = {k: v for k, v in asdict(self).items() if k != "path"}  # it may move
        origin = {"source": "eipl", **settings, "colours": colours, "bounds": read_bounds(folder) if folder else {}}
        episodes = self._in_folders(folder, colours) if folder else self._in_rollouts(path, colours)
        plain = msgspec.json.decode(msgspec.json.encode(origin))
        store = gather(out, plain, episodes, self.validation, progress)
        for line in notes(store):
            console.print(line, markup=False)
        return store

    def _colours(self, folder: Path | None) -> str:
        if self.colours != "auto":
            return self.colours
        return "rgb" if folder and any((folder / split / "poses.npy").exists() for split in SPLITS) else "bgr"

    def _in_folders(self, folder: Path, colours: str) -> list[Foreign]:
        """The episodes of train and test. Raises SakiyomiError for arrays that do not fit together."""
        found: list[Foreign] = []
        for split in SPLITS:
            arrays = {path.stem: open_npy(path) for path in sorted((folder / split).glob("[!.]*.npy"))}
            lengths = arrays.pop(LENGTHS, None)
            count, total = rows_of(folder / split, arrays) if arrays else (0, 0)
            check_lengths(folder / split / f"{LENGTHS}.npy", lengths, count, total)
            for row in range(count):
                where = f"{folder / split}, sequence {row}"
                length = total if self.keep_padding else 0 if lengths is None else int(lengths[row])
                read = partial(self._content, where, partial(row_of, arrays, row), length, colours)
                found.append(Foreign(f"{split}-{row:05d}", where, read, "test" if split == "test" else ""))
        return found

    def _in_rollouts(self, path: Path, colours: str) -> list[Foreign]:
        """The raw episodes of a folder, in the order of the numbers in their names. They are not padded."""
        files = [path] if path.is_file() else sorted(path.glob("[!.]*.npz"), key=by_number)
        if not files:
            there = sorted(one.name for one in path.iterdir())[:8]
            raise SakiyomiError(
                f"{path} holds neither train/joints.npy nor rollout_*.npz (there is: {', '.join(there) or 'nothing'}); "
                "name the folder that holds train and test, or the raw files"
            )
        ids = [re.sub(r"[^A-Za-z0-9-]+", "_", file.stem).strip("_-")[:80] for file in files]
        if len({*ids} - {""}) < len(files):
            ids = [f"{number:05d}" for number in range(len(files))]
        return [
            Foreign(id, str(file), partial(self._content, str(file), partial(read_npz, file), -1, colours))
            for id, file in zip(ids, files, strict=True)
        ]

    def _content(self, where: str, load: Callable[[], Values], length: int, colours: str) -> Content:
        """One episode; `length` is its frames before the padding where that is known, 0 to find it, -1 for all."""
        values: Values = {}
        for name, array in load().items():
            values[stream_name(NAMES.get(name, name), values)] = as_stream(where, name, array)
        if not {"joints", "image"} & {*values}:
            raise SakiyomiError(f"{where} holds {', '.join(values) or 'nothing'}; expected joints or images")
        one_length(where, {name: Track(v, np.empty(0)) for name, v in values.items()})
        total = len(next(iter(values.values())))
        length = total if length < 0 else length or without_padding(values)
        tracks = {}
        for name, value in values.items():
            kept, kind = value[:length], KINDS.get(name, "scalar")
            if value.ndim == 4:
                kept, kind = frames_of([kept], self.pixels, colours == "bgr"), "image"
            unit = RGB if kind == "image" else ""  # of the others the files say nothing
            tracks[name] = Track(kept, np.arange(length) / self.rate, kind, self.rate, unit)
        return Content(tracks, {"padding": total - length, "file": Path(where).name})


def recognises(path: Path) -> bool:
    """A folder with joints.npy or images.npy in train or test, or with rollout_*.npz; an .npz of joints and images."""
    try:
        if path.is_dir():
            return dataset_folder(path) is not None or any(path.glob("rollout_*.npz"))
        return path.suffix == ".npz" and {"joints", "images"} <= {*npz_names(path)}
    except (OSError, SakiyomiError):
        return False


def dataset_folder(path: Path) -> Path | None:
    """The folder that holds train and test: itself, or its `data`; None where neither has joints.npy or images.npy."""
    wanted = [f"{split}/{name}.npy" for split in SPLITS for name in ("joints", "images")]
    return next((one for one in (path, path / "data") if any((one / name).exists() for name in wanted)), None)


def rows_of(folder: Path, arrays: Values) -> tuple[int, int]:
    """N and T of the arrays of a split. Raises SakiyomiError unless all have the same."""
    shapes = {array.shape[:2] for array in arrays.values()}
    if len(shapes) > 1 or len(next(iter(shapes))) < 2:
        told = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
        raise SakiyomiError(
            f"{folder} holds {told}; expected images.npy [N, T, H, W, 3], joints.npy [N, T, J], and every array beside "
            "them with the same N and T"
        )
    return next(iter(shapes))


def check_lengths(path: Path, lengths: np.ndarray | None, count: int, total: int) -> None:
    """Raises SakiyomiError unless they are a number of frames for each of `count` sequences, or not there."""
    if lengths is not None and (
        lengths.shape != (count,) or lengths.dtype.kind not in "iu" or not ((lengths > 0) & (lengths <= total)).all()
    ):
        raise SakiyomiError(
            f"{path} holds {lengths.dtype} {list(lengths.shape)}; expected {count} whole numbers of 1..{total}, the "
            "frames of each episode. Remove it to have the padding found"
        )


def row_of(arrays: Values, row: int) -> Values:
    return {name: np.array(array[row]) for name, array in arrays.items()}


def by_number(path: Path) -> tuple[list[int], str]:
    return [int(number) for number in re.findall(r"\d+", path.stem)], path.name


def read_bounds(folder: Path) -> dict[str, list[list[float]]]:
    """`joint` -> its least and largest values as joint_bounds.npy has them, and so for every *_bounds.npy."""
    found = {}
    for path in sorted(folder.glob("[!.]*_bounds.npy")):
        found[path.stem.removesuffix("_bounds")] = bounds_of(path).tolist()
    return found


def bounds_of(path: Path) -> np.ndarray:
    """A file of bounds, float64 [2, C]; C is 1 where one range holds for all channels."""
    values = open_npy(path)
    if values.ndim not in (1, 2) or len(values) != 2 or values.dtype.kind != "f" or not np.isfinite(values).all():
        raise SakiyomiError(
            f"{path} holds {values.dtype} {list(values.shape)}; expected finite [2, J], least and largest. "
            "Mend or remove it"
        )
    return np.array(values, np.float64).reshape(2, -1)


def as_stream(where: str, name: str, values: np.ndarray) -> np.ndarray:
    """Pictures uint8 [T, H, W, 3] as they are, anything else as float32 [T, C]. Raises SakiyomiError for pictures of
    other types or with the channels elsewhere."""
    if values.ndim == 4:
        if values.dtype != np.uint8 or values.shape[-1] != 3:
            raise SakiyomiError(
                f"{where}: {name} is {values.dtype} {list(values.shape)}; pictures are uint8 [T, H, W, 3] "
                "(channels first: images.transpose(0, 1, 3, 4, 2); floats of 0..1: (255 * images).astype(np.uint8))"
            )
        return values
    if values.ndim > 2 or values.ndim < 1:
        raise SakiyomiError(f"{where}: {name} has shape {list(values.shape)}; expected [T, C] or pictures")
    with np.errstate(over="ignore"):  # what overflows is refused as not finite
        return values.reshape(len(values), -1).astype(np.float32)


def without_padding(values: Values) -> int:
    """Frames up to the first of those that are all the same to the end, in every stream. Of an episode in which
    nothing ever moves, all: padding repeats the end of something."""
    last = len(next(iter(values.values())))
    first = 0  # frame from which on nothing changes
    for stream in values.values():
        flat = stream.reshape(last, -1)
        moves = np.flatnonzero((flat[1:] != flat[:-1]).any(1))
        first = max(first, int(moves[-1]) + 1 if len(moves) else 0)
    return first + 1 if first else last


def notes(store: EpisodeStore) -> list[str]:
    """What the user should know of an import: colours taken, padding cut, bounds that are not those of the data."""
    lines = []
    if any(stream.kind == "image" for stream in store.streams.values()):
        taken, other = ("bgr", "rgb") if store.origin["colours"] == "bgr" else ("rgb", "bgr")
        lines.append(f"pictures were read as {taken}; if red and blue are exchanged: --colours {other}")
    cut = [entry.meta["padding"] for entry in store.entries if entry.meta["padding"]]
    if cut:
        lines.append(f"{sum(cut)} repeated last frames of {len(cut)} episodes were padding and are cut off")
    bounds = store.origin["bounds"].get("joint")
    if bounds and "joints" in store.streams:
        every = [store.values(entry.id, "joints") for entry in store.entries]
        range_ = np.stack([np.min([v.min(0) for v in every], 0), np.max([v.max(0) for v in every], 0)])
        fitting = len(bounds[0]) in (1, range_.shape[1])
        if not fitting or not np.allclose(np.broadcast_to(bounds, range_.shape), range_, atol=1e-5, rtol=1e-5):
            lines.append("joint_bounds.npy is not the range of these joints; scales are taken from the data anew")
    return lines


def write_eipl(store: EpisodeStore, out: Path) -> None:
    """Write a store as a folder of EIPL: train (training, then validation) and test (every other split).

    Rows follow the clock of the joints (or the first stream); other streams give the latest value at each. Shorter
    episodes repeat their last frame, as EIPL's own do, and lengths.npy has the true lengths. Colours are as auto reads
    them: rgb where poses.npy is written, bgr where not. Clocks, units and names have no place there. Raises
    SakiyomiError for words, labels and sound, for other pictures than uint8 [H, W, 3], and for names that EIPL has for
    others.
    """
    other = [f"{name} ({s.kind}, {s.dtype} {list(s.shape)})" for name, s in store.streams.items() if not has_place(s)]
    if other:
        raise SakiyomiError(
            f"{store.place} holds {', '.join(other)}; EIPL has pictures (uint8 [H, W, 3]) and numbers, a row a frame"
        )
    taken = [name for name in store.streams if name in TAKEN]
    if taken:
        raise SakiyomiError(
            f"{store.place} has a stream named {taken[0]!r}, which EIPL has for something else ({', '.join(TAKEN)}); "
            "write the store with another name for it"
        )
    clock = "joints" if "joints" in store.streams else next(iter(store.streams))
    folders: dict[str, tuple[str, ...]] = {"train": ("train", "validation")}
    folders["test"] = tuple(sorted({entry.split for entry in store.entries} - {*folders["train"]}))
    longest = max(entry.lengths[clock] for entry in store.entries)
    for folder, splits in folders.items():
        ids = [entry.id for split in splits for entry in store.entries if entry.split == split]
        if ids:
            _write_split(store, out / folder, ids, clock, longest)
    for name in {"joints", "pose"} & {*store.streams}:
        every = [store.values(entry.id, name) for entry in store.entries]
        bounds = np.stack([np.min([v.min(0) for v in every], 0), np.max([v.max(0) for v in every], 0)])
        write_atomic(out / f"{name.removesuffix('s')}_bounds.npy", to_npy(bounds))


def has_place(stream: Stream) -> bool:
    """Whether EIPL can hold it: a row of numbers a frame, or a picture in colours."""
    if stream.kind == "image" or len(stream.shape) == 3:
        return (stream.dtype, len(stream.shape), stream.shape[-1:]) == ("uint8", 3, (3,))
    return stream.kind not in NO_ROWS and len(stream.shape) <= 1


def _write_split(store: EpisodeStore, folder: Path, ids: list[str], clock: str, longest: int) -> None:
    """One folder, one episode in memory at a time."""
    swap = "pose" not in store.streams
    for name, stream in store.streams.items():
        shape, dtype = (len(ids), longest, *stream.shape), np.dtype(stream.dtype)
        about = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        # Not a memory map: on a full disk that kills the process, and a file says so.
        with whole_file(folder / f"{FILES.get(name, name)}.npy") as temporary, temporary.open("wb") as file:
            npy.write_array_header_1_0(file, about)
            for id in ids:
                values = _rows(store, id, name, clock)
                values = values[..., ::-1] if swap and stream.kind == "image" else values
                last = np.repeat(values[-1:], longest - len(values), axis=0)
                file.write(np.concatenate([values, last]).tobytes())
    lengths = np.array([len(store.times(id, clock)) for id in ids])
    write_atomic(folder / f"{LENGTHS}.npy", to_npy(lengths))


def _rows(store: EpisodeStore, id: str, name: str, clock: str) -> np.ndarray:
    """The latest value of a stream at each tick of the stream `clock`."""
    return store.values(id, name)[latest(store.times(id, name), store.times(id, clock))]
