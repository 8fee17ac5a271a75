"""What stands in a store's dataset.json and manifest.jsonl, and how both are read: nothing in them is believed unseen.

    dataset = read_dataset(content, "data/pick/dataset.json")
    entries = read_manifest(content, "data/pick/manifest.jsonl", dataset.streams)

A store may come from anywhere. Names that leave the folder, numbers that cannot be, and two episodes of one id are
refused here, before a file of it is opened.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import msgspec
import numpy as np

from sakiyomi.audio.spectrum import Mel
from sakiyomi.data.vocabulary import Vocabulary
from sakiyomi.errors import SakiyomiError

Kind = Literal["image", "joints", "pose", "motion", "action", "scalar", "label", "token", "audio"]
VERSION = 1
FORMAT = f"sakiyomi-episodes-{VERSION}"
LONGEST_NAME = 100
LARGEST = 1e150  # of a number: the square of more is no number any more, and statistics need it
# numpy's name of each type a stream may have -> its name in the header of a safetensors file.
DTYPES = {
    "bool": "BOOL",
    **{f"{name}{bits}": f"{name[0].upper()}{bits}" for name in ("uint", "int") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
}
UNREADABLE = (
    msgspec.DecodeError,
    UnicodeDecodeError,
    RecursionError,
)  # what msgspec raises for bytes that are no record

Record = TypeVar("Record")


@dataclass(frozen=True)
class Stream:
    """What one stream of every episode holds."""

    kind: Kind
    shape: tuple[int, ...]  # of one value, without time
    dtype: str  # numpy's name
    rate: float  # Hz, nominal; the clocks on disk are the truth
    unit: str = ""
    names: tuple[str, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    """Hard limits of each channel, where they are known: the guard keeps to them."""
    vocabulary: Vocabulary | None = None
    """Of tokens: what their numbers mean."""
    sound: Mel | None = None
    """Of frames of sound: how they are made of samples, by `log_mel`."""


@dataclass(frozen=True)
class Statistics:
    """Of one stream over the training split, one number a channel (the last axis)."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    count: int


@dataclass(frozen=True)
class Entry:
    """One episode in the manifest."""

    id: str
    split: str
    file: str
    bytes: int
    sha256: str
    lengths: dict[str, int]
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    """The content of dataset.json."""

    format: str
    streams: dict[str, Stream]
    statistics: dict[str, Statistics] = field(default_factory=dict)
    origin: dict[str, Any] = field(default_factory=dict)
    """What the episodes were made with; a store is continued only with the same."""


@dataclass(frozen=True)
class Versioned:
    """As much of a dataset.json as tells whether the rest can be understood."""

    format: str


def dataset_json(dataset: Dataset) -> bytes:
    return msgspec.json.format(msgspec.json.encode(dataset))


def manifest_jsonl(entries: tuple[Entry, ...]) -> bytes:
    return b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries)


def read_dataset(content: bytes, where: str) -> Dataset:
    """Raises SakiyomiError, beginning with `where`, for what is no dataset.json or one of a newer version."""
    found = _decoded(content, Versioned, where, "record or convert the data anew").format
    number = re.fullmatch(r"sakiyomi-episodes-(\d{1,9})", found)
    if number and int(number[1]) > VERSION:
        raise SakiyomiError(
            f"{where} has format {found!r}, which a newer sakiyomi wrote; this version reads {FORMAT!r}: update "
            "sakiyomi (pip install --upgrade sakiyomi)"
        )
    if found != FORMAT:
        raise SakiyomiError(f"{where} has format {found!r}; this version reads {FORMAT!r}")
    dataset = _decoded(content, Dataset, where, "record or convert the data anew")
    check_streams(where, dataset.streams)
    for name, found in dataset.statistics.items():
        if name not in dataset.streams or len({*map(len, (found.low, found.high, found.mean, found.std))}) != 1:
            raise SakiyomiError(
                f"{where} has statistics of {name!r} that do not fit its streams; remove them (the commands measure "
                "anew), or record or convert the data anew"
            )
    return dataset


def read_manifest(content: bytes, where: str, streams: Mapping[str, Stream]) -> tuple[Entry, ...]:
    """The episodes a manifest enters; a last line that was never finished is left out.

    Raises SakiyomiError, beginning with `where` and the line, for a line that is none or cannot be true.
    """
    entries: dict[str, Entry] = {}
    for number, line in enumerate(content.split(b"\n")[:-1]):  # what follows the last newline was never finished
        at = f"{where}, line {number + 1}"
        entry = _decoded(line, Entry, at, "remove that line")
        wrong = _impossible(entry, streams)
        if entry.id in entries:
            wrong = f"enters episode {entry.id!r} a second time"
        if wrong:
            raise SakiyomiError(f"{at} {wrong}; remove that line, or restore the file")
        entries[entry.id] = entry
    return tuple(entries.values())


def good_id(id: str) -> bool:
    """Whether an episode may be called so: it is a file's name too."""
    return bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", id))


def good_split(split: str) -> bool:
    """Whether a split may be called so."""
    return 0 < len(split) <= LONGEST_NAME and split.isprintable()


def file_of(id: str) -> str:
    """Where in the store the episode of this id is."""
    return f"episodes/{id}.safetensors"


def _impossible(entry: Entry, streams: Mapping[str, Stream]) -> str:
    """What cannot be true of this entry; empty if all can."""
    if not good_id(entry.id):
        return f"has the episode id {entry.id!r}, which is none: letters, digits, '_', '-' and '.', at most 100"
    if entry.file != file_of(entry.id):
        return f"names {entry.file!r}, which is outside the store or not {file_of(entry.id)!r}, and is refused"
    if not re.fullmatch(r"[0-9a-f]{64}", entry.sha256):
        return f"has {entry.sha256!r} for a sha256, which is 64 hexadecimal digits"
    if entry.bytes < 1:
        return f"has a file of {entry.bytes} bytes"
    if not good_split(entry.split):
        return f"has the split {entry.split!r}; expected a word such as train"
    if set(entry.lengths) != set(streams) or min(entry.lengths.values(), default=1) < 1:
        return f"has lengths {entry.lengths}; expected 1 or more of each of {sorted(streams)}"
    return ""


def check_streams(where: str, streams: Mapping[str, Stream]) -> None:
    """Raises SakiyomiError, beginning with `where`, for streams that cannot be kept in a store: those whose name
    cannot be a tensor's, of a type that files do not hold, or of an impossible shape or rate."""
    for name, stream in streams.items():
        fits = 0 < len(name) <= LONGEST_NAME and name.isprintable()
        if not fits or re.search(r"[/\\]|\.\.|^\.|\.time$", name):
            raise SakiyomiError(
                f"{where}: {name[: 2 * LONGEST_NAME]!r} cannot be the name of a stream; use 1 to {LONGEST_NAME} "
                "printable characters without '/', '\\' and '..', no '.' in front and no '.time' at the end"
            )
        if name == "__metadata__":
            raise SakiyomiError(
                f"{where}: {name!r} is what safetensors files call their own; name the stream otherwise"
            )
        if stream.dtype not in DTYPES:
            raise SakiyomiError(f"{where}: stream {name!r} is of type {stream.dtype!r}; known: {', '.join(DTYPES)}")
        if min(stream.shape, default=0) < 0:
            raise SakiyomiError(f"{where}: stream {name!r} has shape {list(stream.shape)}; expected sizes of 0 or more")
        if not all(map(math.isfinite, (*stream.low, *stream.high))):
            raise SakiyomiError(
                f"{where}: stream {name!r} has limits {list(stream.low)}..{list(stream.high)}; expected finite ones, "
                "or none where they are not known"
            )
        if not (math.isfinite(stream.rate) and stream.rate >= 0):
            raise SakiyomiError(f"{where}: stream {name!r} has a rate of {stream.rate} Hz; expected a finite one")


def check_stream(where: str, stream: Stream, values: np.ndarray, times: np.ndarray) -> None:
    """Raises SakiyomiError unless values [T, *stream.shape] and times [T] are what the stream says."""
    if values.ndim < 1 or tuple(values.shape[1:]) != tuple(stream.shape) or str(values.dtype) != stream.dtype:
        raise SakiyomiError(
            f"{where}: expected {stream.dtype} [T, {', '.join(map(str, stream.shape))}], "
            f"got {values.dtype} {list(values.shape)}"
        )
    if len(values) == 0 or times.shape != (len(values),):
        raise SakiyomiError(
            f"{where}: {len(values)} values with a clock of shape {list(times.shape)}; expected T of both"
        )
    if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
        bad = int(np.argwhere(~np.isfinite(values))[0, 0])
        raise SakiyomiError(f"{where}: value {bad} is not finite (NaN or infinite); repair or cut the recording")
    if values.dtype == np.float64 and len(beyond := np.argwhere((values > LARGEST) | (values < -LARGEST))):
        at = tuple(beyond[0])
        channel = f", channel {at[-1]}" if values.ndim > 1 else ""
        raise SakiyomiError(
            f"{where}, value {at[0]}{channel}: {values[at]:g} is no measurement, and its square is beyond all numbers; "
            "repair or cut the recording"
        )
    check_clock(where, times)


def check_clock(where: str, times: np.ndarray) -> None:
    """Raises SakiyomiError unless the times [T] are finite and rise."""
    with np.errstate(all="ignore"):  # of infinite times there is no difference
        backwards = np.flatnonzero(~(np.diff(times) > 0))
    if len(backwards) or not np.isfinite(times).all():
        at = int(backwards[0]) + 1 if len(backwards) else int(np.argwhere(~np.isfinite(times))[0, 0])
        raise SakiyomiError(f"{where}: the clock does not run forwards at value {at}; sort or repair the stamps")


def latest(clock: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Of a clock [T], which of its values is the latest that is not newer than each of these times [N], the first one
    before it began: int [N]. Half a microsecond of grace: stamps that went through arithmetic stay equal."""
    return np.clip(np.searchsorted(clock, times + 5e-7, side="right") - 1, 0, None)


def _decoded(content: bytes, kind: type[Record], where: str, cure: str) -> Record:
    try:
        return msgspec.json.decode(content, type=kind)
    except UNREADABLE as error:
        raise SakiyomiError(f"{where} cannot be read: {error}; {cure}") from error
