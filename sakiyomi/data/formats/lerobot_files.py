"""What the layouts of LeRobot share: their info.json, columns of a table as arrays, paths that stay inside the folder.

`Contents` is what every layout is opened as: lerobot_v1.py, lerobot_v2.py, lerobot_v3.py make one, lerobot.py turns it
into a store. Nothing in a foreign file is trusted: shapes, counts, names and paths are checked before they are used.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import msgspec
import numpy as np

from sakiyomi.data.episodes import Stream
from sakiyomi.data.formats.importing import foreign, library, picture
from sakiyomi.data.formats.video import resized
from sakiyomi.data.records import LARGEST as HIGHEST
from sakiyomi.errors import SakiyomiError

CAMERAS = ("video", "image")
BOOKS = ("timestamp", "frame_index", "episode_index", "index", "task_index")
"""Columns of every table that count; they are checked, and become no streams."""
CLOCK = "sakiyomi.clock"
"""Our own column: the measured clock, float64, where it is not n / fps."""
OURS = Path("meta") / "sakiyomi.json"
LARGEST = 10**8  # numbers a value: more is a damaged shape
T = TypeVar("T")


@dataclass(frozen=True)
class Feature:
    """One entry of `features` in info.json."""

    dtype: str  # numpy's name, "video", "image", or something that is no number
    shape: tuple[int, ...] = (1,)
    names: Any = None  # of channels: a list, or lists by group

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the channels, if there is one for each."""
        groups = self.names.values() if isinstance(self.names, dict) else [self.names]
        found = [name for group in groups if isinstance(group, list) for name in group]
        fits = self.shape and len(found) == self.shape[-1] and all(isinstance(name, str) for name in found)
        return tuple(found) if fits else ()

    @property
    def numeric(self) -> bool:
        return bool(re.fullmatch(r"bool|float(16|32|64)|u?int(8|16|32|64)", self.dtype))

    @property
    def size(self) -> tuple[int, int, int]:
        """Of a picture: height, width, 3; older files tell channels first."""
        first = len(self.shape) == 3 and self.shape[0] in (1, 3) and self.shape[2] not in (1, 3)
        height, width = self.shape[1:] if first else self.shape[:2]
        return height, width, 3


@dataclass(frozen=True)
class Info:
    """What is read of meta/info.json (v2 and v3)."""

    codebase_version: str
    fps: float
    features: dict[str, Feature]
    total_episodes: int
    data_path: str
    video_path: str | None = None
    total_frames: int | None = None
    chunks_size: int = 1000
    splits: dict[str, str] = field(default_factory=dict)
    robot_type: str | None = None


@dataclass(frozen=True)
class Described:
    """A stream as it was before it was exported from a store."""

    name: str
    stream: Stream


@dataclass(frozen=True)
class Kept:
    """What an episode was before it was exported from a store."""

    id: str
    meta: dict[str, Any]


@dataclass(frozen=True)
class Ours:
    """Our own file beside LeRobot's, meta/sakiyomi.json: what its format cannot say."""

    streams: dict[str, Described]  # by feature
    episodes: list[Kept]
    origin: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recording:
    """One episode. `read` takes the height and width of pictures ((0, 0): as they are) and gives every feature's values
    [T, ...], and the columns of `BOOKS` that are there. It raises SakiyomiError when something of it is damaged."""

    number: int
    length: int
    tasks: tuple[str, ...]
    read: Callable[[tuple[int, int]], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Contents:
    """A data set of any layout, opened."""

    version: str
    rate: float
    robot: str
    features: dict[str, Feature]  # numeric ones and cameras, without `BOOKS`
    recordings: list[Recording]
    splits: list[str]  # of each recording
    tasks: dict[int, str] = field(default_factory=dict)  # by task_index
    absent: tuple[str, ...] = ()
    """Cameras that are told of, and no episode has pictures of."""
    ours: Ours | None = None


def read_json(path: Path, kind: type[T]) -> T:
    """Raises SakiyomiError when it is missing, no JSON or not of this kind."""
    with foreign(path, "the description of a LeRobot data set"):
        return msgspec.json.decode(path.read_bytes(), type=kind)


def read_lines(path: Path, kind: type[T]) -> list[T]:
    """JSON, one object a line. Raises SakiyomiError as `read_json`."""
    with foreign(path, "JSON lines of a LeRobot data set"):
        return msgspec.json.Decoder(kind).decode_lines(path.read_bytes())


def read_info(folder: Path) -> Info:
    """meta/info.json, checked."""
    path = folder / "meta" / "info.json"
    info = read_json(path, Info)
    check_rate(path, info.fps)
    if not 1 <= info.chunks_size <= 10**6:
        raise SakiyomiError(f"{path}: chunks_size is {info.chunks_size}; expected 1 to 1000000")
    if info.total_episodes < 1:
        raise SakiyomiError(f"{path}: total_episodes is {info.total_episodes}; there is nothing to read")
    for name, feature in info.features.items():
        wrong = not all(1 <= n <= LARGEST for n in feature.shape) or math.prod(feature.shape) > LARGEST
        if wrong or (feature.dtype in CAMERAS and len(feature.shape) != 3):
            raise SakiyomiError(f"{path}: feature {name!r} has shape {list(feature.shape)}; that cannot be")
    return info


def check_rate(path: Path, rate: float) -> None:
    if not 1e-3 <= rate <= 1e6:
        raise SakiyomiError(f"{path}: fps is {rate}; it must be a number of frames a second above 0")


def check_counts(folder: Path, info: Info, lengths: Sequence[int], where: str) -> None:
    """Raises SakiyomiError when the list of episodes in `where` is not what info.json says."""
    frames = info.total_frames
    if len(lengths) != info.total_episodes or frames not in (None, sum(lengths)):
        raise SakiyomiError(
            f"{folder / 'meta' / 'info.json'} says {info.total_episodes} episodes and {frames} frames; {where} lists "
            f"{len(lengths)} and {sum(lengths)}; fetch the folder anew, or mend the one that is wrong"
        )


def read_ours(folder: Path, lengths: Sequence[int]) -> Ours | None:
    """Our own file, if there is one; of episodes it says nothing when they are no longer as many."""
    if not (folder / OURS).exists():
        return None
    ours = read_json(folder / OURS, Ours)
    return ours if len(ours.episodes) == len(lengths) else Ours(ours.streams, [], ours.origin)


def splits_of(path: Path, ranges: Mapping[str, str], count: int) -> list[str]:
    """The split of each of `count` episodes, by ranges such as {"train": "0:80", "val": "80:100"}.

    What no range holds is training data. Raises SakiyomiError for a range that is none, and for two that overlap.
    """
    found = [""] * count
    for name, told in ranges.items():
        match = re.fullmatch(r"\s*(\d{1,15}):(\d{1,15})\s*", told)
        if not match:
            raise SakiyomiError(f"{path}: split {name!r} is {told!r}; expected two numbers, such as '0:80'")
        for number in range(int(match[1]), min(int(match[2]), count)):
            if found[number]:
                raise SakiyomiError(f"{path}: episode {number} is in the splits {found[number]!r} and {name!r}")
            found[number] = "validation" if name in ("val", "valid", "validate") else name
    return [name or "train" for name in found]


def place(folder: Path, template: str, values: Mapping[str, str | int]) -> Path:
    """A file named by a template such as data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet, inside the folder.

    Raises SakiyomiError when it would be elsewhere, and for a template with anything but names and widths.
    """

    def filled(match: re.Match[str]) -> str:
        value = values.get(match[1])
        if value is None or int(match[2] or 0) > 20 or (isinstance(value, str) and match[2]):
            raise SakiyomiError(
                f"{folder}: the path {template!r} asks for {match[0]}; known: {', '.join(sorted(values))}, "
                "with at most 20 digits"
            )
        return f"{value:0{match[2]}d}" if match[2] else str(value)

    return inside(folder, re.sub(r"\{(\w+)(?::0?(\d{1,9})d)?\}", filled, template))


def inside(folder: Path, name: str) -> Path:
    """A file inside the folder. Raises SakiyomiError for an absolute path, for `..`, and for unprintable names."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not name.isprintable() or not path.name or len(name) > 1000:
        raise SakiyomiError(f"{folder}: the file name {name[:200]!r} leads out of the folder or is none; refused")
    return folder / name


def numbers(where: str, column: Any, feature: Feature) -> np.ndarray:
    """A column of a table as an array [T, *shape] of the feature's type.

    Raises SakiyomiError, beginning with `where`, for gaps, rows of unequal length, no numbers, or another shape.
    """
    types, compute = library("pyarrow.types", "formats"), library("pyarrow.compute", "formats")
    array, rows, width = column.combine_chunks(), len(column), 1
    while any(check(array.type) for check in (types.is_list, types.is_large_list, types.is_fixed_size_list)):
        if array.null_count:
            raise SakiyomiError(f"{where} has no value in {array.null_count} rows; repair or cut the recording")
        lengths = np.unique(compute.list_value_length(array).to_numpy(zero_copy_only=False))
        if len(lengths) != 1:
            raise SakiyomiError(f"{where} has rows of {lengths[:5].tolist()} values; they must be as many in each")
        width *= int(lengths[0])
        array = array.flatten()
    if array.null_count:
        raise SakiyomiError(f"{where} has {array.null_count} empty values; repair or cut the recording")
    kind = array.type
    if not (types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind)):
        raise SakiyomiError(f"{where} holds {kind}, not {feature.dtype}")
    values = array.to_numpy(zero_copy_only=False)
    if width != math.prod(feature.shape) or not np.can_cast(values.dtype, feature.dtype, "same_kind"):
        raise SakiyomiError(
            f"{where} holds {width} values of {values.dtype} a frame; info.json says {feature.dtype} {feature.shape}"
        )
    values = values.reshape(rows, *feature.shape)
    beyond = np.argwhere(np.abs(values.astype(np.float64)) > HIGHEST)
    if len(beyond):
        raise SakiyomiError(
            f"{where}, frame {beyond[0][0]}: {values[tuple(beyond[0])]:g} is more than can be counted with; repair or "
            "cut the recording"
        )
    with np.errstate(over="ignore"):  # what is too large for float32 is refused as not finite
        return values.astype(feature.dtype)


def pictures(where: str, folder: Path, column: Any, pixels: tuple[int, int]) -> np.ndarray:
    """A column of PNG or JPEG, inside the table or beside it, uint8 [T, H, W, 3]; `pixels` as `resized`."""
    frames = []
    for number, cell in enumerate(column):
        found = cell.as_py()
        found = found if isinstance(found, dict) else {"bytes": found}
        content, path = found.get("bytes"), found.get("path")
        if not isinstance(content, bytes) and isinstance(path, str):
            with foreign(inside(folder, path), "a picture"):
                content = inside(folder, path).read_bytes()
        if not isinstance(content, bytes):
            raise SakiyomiError(f"{where}, frame {number}, holds no picture; fetch it anew")
        image = np.asarray(picture(f"{where}, frame {number},", content))
        frames.append(resized(image[None], pixels)[0])
    if len({frame.shape for frame in frames}) != 1:
        raise SakiyomiError(f"{where}: its pictures differ in size; set --pixels")
    return np.stack(frames)


def check_books(where: str, values: Mapping[str, np.ndarray], number: int, length: int) -> None:
    """Raises SakiyomiError when the counting columns say that rows are missing, doubled or another episode's."""
    for name, expected in (("frame_index", np.arange(length)), ("episode_index", np.full(length, number))):
        if name in values and not np.array_equal(values[name].ravel(), expected):
            raise SakiyomiError(
                f"{where}: {name} is not what it should be in {length} rows of episode {number}; rows are missing or "
                "doubled, fetch it anew"
            )
