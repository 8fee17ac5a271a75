"""BAIR robot pushing (Ebert et al. 2017): a Sawyer arm pushes things about in a bin, 30 frames of 64 x 64 a sequence.

    sakiyomi prepare bair softmotion30_44k --out data/bair

Two layouts are read, whichever lies in the folder:

    {train,test}/traj_0_to_255.tfrecords                            TFRecords, one Example a sequence
    {train,validate,test}/traj_0_to_255.tfrecords/{k}/{0..29}.png   pictures, with actions.csv (T x 4, no header)
                                                                    and endeffector_positions.csv (T x 3) beside them

Pictures, actions and positions are all kept. What is damaged is left out and told at the end; the rest is imported.
TFRecords need the extra `sakiyomi[bair]`.
"""

import csv
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import tyro

from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream
from sakiyomi.data.formats.importing import finish, given, picture
from sakiyomi.data.formats.tfrecord import DamagedRecord, Features, count_records, scan_examples
from sakiyomi.errors import SakiyomiError, at_least

SIZE = 64
SPLITS = {"train": "train", "validate": "validation", "val": "validation", "test": "test"}  # folder -> split
ACTION, POSITION = 4, 3  # numbers a step

Values: TypeAlias = dict[str, np.ndarray]
"""Of one sequence: image uint8 [T, 64, 64, 3], action float32 [T, 4], position float32 [T, 3]."""
Reader: TypeAlias = Callable[[], Values]
"""Reads one sequence when it is called. Raises SakiyomiError when it is damaged."""


@dataclass(frozen=True)
class Bair:
    """Import BAIR robot pushing from TFRecords or from pictures with CSV."""

    path: tyro.conf.Positional[str] = ""
    """The folder that holds train and test, or the one above it."""
    camera: Literal["aux1", "main"] = "aux1"
    """Which camera of the TFRecords; aux1 is the one that published results are for."""
    validation: float = 0.02
    """Share of the training sequences, the last ones, for the validation split; unless there is a folder for it."""
    episodes: int = 0
    """Import only so many sequences of each folder, the first ones; 0 takes all."""
    rate: float = 10.0
    """Frames a second, nominal: the files hold no time stamps."""

    def record(self, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> EpisodeStore:
        """Write the store; what is in it already is kept.

        Raises SakiyomiError when there is nothing to read, and, at the very end, when something is damaged.
        """
        self._check()
        folder = dataset_folder(given(self.path, "the folder of BAIR robot pushing: sakiyomi prepare bair FOLDER"))
        settings = {name: value for name, value in asdict(self).items() if name != "path"}  # it may move
        counts = {name: self._count(folder / name) for name in SPLITS}
        writer = EpisodeWriter(out, streams(self.rate), {"source": "bair", **settings})
        first_held_out = counts["train"] - self._held_out(counts)
        problems: list[SakiyomiError] = []
        done, total = 0, sum(counts.values())
        for name, split in SPLITS.items():
            for number, id, read in sequences(folder / name, counts[name], self.camera):
                held_out = name == "train" and number >= first_held_out
                try:
                    if id not in writer.ids:
                        values = read()
                        clock = dict.fromkeys(values, np.arange(len(values["image"])) / self.rate)
                        writer.add(id, values, clock, "validation" if held_out else split)
                except SakiyomiError as error:
                    problems.append(error)
                done += 1
                progress(done, total)
        return finish(writer, problems)

    def _check(self) -> None:
        at_least("--validation", self.validation, 0)
        at_least("--episodes", self.episodes, 0)
        if self.validation >= 1:
            raise SakiyomiError(
                f"--validation is {self.validation:g}, a share of the training data; less than 1 is left"
            )
        if not 0 < self.rate < math.inf:
            raise SakiyomiError(f"--rate is {self.rate:g}; it must be a number of frames a second above 0")

    def _count(self, folder: Path) -> int:
        count = sum(map(count_part, parts(folder)))
        return min(count, self.episodes or count)

    def _held_out(self, counts: dict[str, int]) -> int:
        """How many training sequences are the validation split: of few at least one, of one none.

        The last ones, as sequences that were recorded one after the other show the same things. Where a file is cut
        off or missing, others are the last ones; those that came before the repair stay in the split they are in.
        """
        if not self.validation or counts["validate"] or counts["val"]:
            return 0
        return min(max(1, round(self.validation * counts["train"])), max(0, counts["train"] - 1))


def streams(rate: float) -> dict[str, Stream]:
    """What every episode holds. The data say nothing of units, nor what each number of an action is."""
    return {
        "image": Stream("image", (SIZE, SIZE, 3), "uint8", rate, "RGB 0..255"),
        "action": Stream("action", (ACTION,), "float32", rate),
        "position": Stream("pose", (POSITION,), "float32", rate, "", ("x", "y", "z")),
    }


def dataset_folder(path: Path) -> Path:
    """The folder itself or the only one in it that has the layout. Raises SakiyomiError when there is none, or two."""
    below = [one for one in sorted(path.iterdir()) if one.is_dir()] if path.is_dir() else []
    found = [one for one in (path, *below) if parts(one / "train")]
    if not found:
        there = sorted(one.name for one in path.iterdir())[:8] if path.is_dir() else "no folder"
        raise SakiyomiError(
            f"{path} holds no train/traj_*.tfrecords, neither files nor folders of pictures ({there}); "
            "name the folder that holds train and test"
        )
    if len(found) > 1 and found[0] != path:
        raise SakiyomiError(f"{path} holds {len(found)} data sets: {', '.join(one.name for one in found)}; name one")
    return found[0]


def recognises(path: Path) -> bool:
    """Whether it is such a folder, or has one in it; by names only."""
    try:
        below = [one for one in sorted(path.iterdir()) if one.is_dir()] if path.is_dir() else []
        return any(part.name.startswith("traj_") for one in (path, *below) for part in parts(one / "train")[:1])
    except OSError:
        return False


def parts(folder: Path) -> list[Path]:
    """traj_*.tfrecords of a split, files or folders, in the order of their numbers."""
    found = folder.glob("[!.]*.tfrecord*") if folder.is_dir() else ()
    return sorted(found, key=lambda path: ([int(n) for n in re.findall(r"\d+", path.name)], path.name))


def numbered(folder: Path) -> list[Path]:
    """The folders in it that are named by a number, in order."""
    found = [path for path in folder.iterdir() if re.fullmatch(r"[0-9]+", path.name) and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name))


def count_part(part: Path) -> int:
    return len(numbered(part)) if part.is_dir() else count_records(part)


def sequences(folder: Path, count: int, camera: str) -> Iterator[tuple[int, str, Reader]]:
    """The first `count` sequences of a split: number in the split, id, reader. One is in memory at a time."""
    number = 0
    for part in parts(folder):
        name = f"{folder.name}-{part.name.split('.tfrecord')[0]}"
        for within, read in in_pictures(part) if part.is_dir() else in_records(part, camera):
            if number >= count:
                return
            yield number, f"{name}-{within:05d}", read
            number += 1


def in_pictures(part: Path) -> Iterator[tuple[int, Reader]]:
    return ((int(one.name), partial(from_pictures, one)) for one in numbered(part))


def in_records(part: Path, camera: str) -> Iterator[tuple[int, Reader]]:
    for number, example in enumerate(scan_examples(part)):
        yield number, partial(from_example, f"{part}, record {number}", example, camera)


def from_example(where: str, example: Features | DamagedRecord, camera: str) -> Values:
    """One sequence of a TFRecord: raw pictures under `{t}/image_{camera}/encoded`, numbers beside them."""
    if isinstance(example, DamagedRecord):
        raise example
    image, action, position = f"image_{camera}/encoded", "action", "endeffector_pos"
    steps = {int(key.split("/")[0]) for key in example if re.fullmatch(rf"[0-9]+/({image}|{action}|{position})", key)}
    names = range(max(steps, default=0) + 1)
    return {
        "image": np.stack([_raw_picture(where, example, f"{t}/{image}") for t in names]),
        "action": np.stack([_numbers(where, example, f"{t}/{action}", ACTION) for t in names]),
        "position": np.stack([_numbers(where, example, f"{t}/{position}", POSITION) for t in names]),
    }


def _raw_picture(where: str, example: Features, key: str) -> np.ndarray:
    content = _feature(where, example, key)
    if not isinstance(content, list) or len(content) != 1:
        raise SakiyomiError(f"{where}: {key!r} holds no picture")
    if len(content[0]) != SIZE * SIZE * 3:
        raise SakiyomiError(
            f"{where}: the picture {key!r} has {len(content[0])} bytes, not {SIZE} x {SIZE} x 3 = {SIZE * SIZE * 3}"
        )
    return np.frombuffer(content[0], np.uint8).reshape(SIZE, SIZE, 3)


def _numbers(where: str, example: Features, key: str, width: int) -> np.ndarray:
    values = _feature(where, example, key)
    if not isinstance(values, np.ndarray) or values.dtype != np.float32:
        raise SakiyomiError(f"{where}: {key!r} holds no float numbers")
    if values.shape != (width,):
        raise SakiyomiError(f"{where}: {key!r} holds {len(values)} numbers, not {width}")
    if not np.isfinite(values).all():
        raise SakiyomiError(f"{where}: {key!r} is not finite: {values.tolist()}")
    return values


def _feature(where: str, example: Features, key: str) -> list[bytes] | np.ndarray:
    if key not in example:
        there = sorted({name.partition("/")[2] for name in example})
        raise SakiyomiError(
            f"{where}: no {key!r}; there are, each after its frame number, {', '.join(there) or 'none'}"
        )
    return example[key]


def from_pictures(folder: Path) -> Values:
    """One sequence of the layout of pictures and CSV."""
    frames = {int(path.stem): path for path in folder.glob("*.png") if re.fullmatch(r"[0-9]+", path.stem)}
    missing = sorted({*range(max(frames, default=0) + 1)} - {*frames})
    if missing:
        raise SakiyomiError(
            f"{folder}: {missing[0]}.png is missing{f', and {len(missing) - 1} more' if len(missing) > 1 else ''}; "
            f"{len(frames)} pictures are there{f', up to {max(frames)}.png' if frames else ''}"
        )
    values = {
        "action": read_csv(folder / "actions.csv", ACTION),
        "position": read_csv(folder / "endeffector_positions.csv", POSITION),
    }
    lengths = {"pictures": len(frames), **{f"{name}s": len(rows) for name, rows in values.items()}}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{count} {name}" for name, count in lengths.items())
        raise SakiyomiError(f"{folder}: {told}; they must be as many")
    return {"image": np.stack([_png(frames[t]) for t in range(len(frames))]), **values}


def _png(path: Path) -> np.ndarray:
    """uint8 [64, 64, 3]."""
    image = picture(str(path), _content(path))
    if image.size != (SIZE, SIZE):
        raise SakiyomiError(f"{path} is {image.width} x {image.height}, not {SIZE} x {SIZE}")
    return np.asarray(image)


def read_csv(path: Path, width: int) -> np.ndarray:
    """Numbers without a header, float32 [rows, width]. Raises SakiyomiError naming the wrong line and column."""
    text = _content(path).decode("utf-8-sig", errors="replace").rstrip()
    rows = []
    for line, cells in enumerate(_cells(path, text), 1):
        if len(cells) != width:
            raise SakiyomiError(f"{path}, line {line}: {len(cells)} columns, not {width}")
        for column, cell in enumerate(cells, 1):
            if not _finite(cell):
                raise SakiyomiError(f"{path}, line {line}, column {column}: {cell[:40]!r} is no finite number")
        rows.append([float(cell) for cell in cells])
    return np.array(rows, np.float32).reshape(-1, width)


def _cells(path: Path, text: str) -> list[list[str]]:
    try:
        return list(csv.reader(text.splitlines()))
    except csv.Error as error:
        raise SakiyomiError(f"{path} is no CSV: {error}") from error


def _finite(cell: str) -> bool:
    """Also as float32."""
    try:
        return abs(float(cell)) <= float(np.finfo(np.float32).max)
    except ValueError:
        return False


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SakiyomiError(f"cannot read {path}: {error.strerror}") from error
