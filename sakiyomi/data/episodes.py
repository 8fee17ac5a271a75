"""The episode store: recordings on disk, one safe file each.

    store/dataset.json               what the streams are, and statistics of the training split
    store/manifest.jsonl             one line an episode: id, split, file, bytes, sha256, length of each stream, meta
    store/episodes/<id>.safetensors  `<stream>` values [T, ...] and `<stream>.time` float64 [T] seconds

An episode is written to a temporary file, flushed, renamed, and only then entered in the manifest, so a crash
loses at most the episode being recorded; a torn last line of the manifest is dropped by the next reader.
Files are memory-mapped, and checked against their sha256 when first opened; some hundreds are kept open at a time.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from sakiyomi.audio.spectrum import Mel
from sakiyomi.data.vocabulary import Vocabulary
from sakiyomi.errors import SakiyomiError, unknown
from sakiyomi.files import append_line, write_atomic

Kind = Literal["image", "joints", "pose", "motion", "action", "scalar", "label", "token", "audio"]
FORMAT = "sakiyomi-episodes-1"
OPEN_FILES = 256  # a store keeps open; a system allows a process some thousand descriptors and memory maps


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


class EpisodeWriter:
    """Adds episodes to a store, new or existing.

    Raises SakiyomiError for a folder that holds something else, or a store with other streams.
    """

    def __init__(
        self, folder: str | Path, streams: Mapping[str, Stream], origin: Mapping[str, Any] | None = None
    ) -> None:
        self.folder = Path(folder)
        self.streams, self.origin = dict(streams), dict(origin or {})
        if self.folder.is_file():
            raise SakiyomiError(f"{self.folder} is a file; an episode store is a folder")
        there = (self.folder / "dataset.json").exists()
        existing = EpisodeStore(self.folder, allow_empty=True) if there else None
        if existing and existing.entries:
            if existing.streams != self.streams:
                raise SakiyomiError(
                    f"{self.folder} holds streams {sorted(existing.streams)} described otherwise than the ones "
                    f"to be written ({sorted(self.streams)}); write to another folder"
                )
            if existing.origin != self.origin:
                keys = {*existing.origin, *self.origin}
                other = [k for k in sorted(keys) if existing.origin.get(k) != self.origin.get(k)]
                details = ", ".join(f"{k} {existing.origin.get(k)} there, {self.origin.get(k)} asked" for k in other)
                raise SakiyomiError(
                    f"{self.folder} was made with other settings ({details}); write to another folder or remove it"
                )
        elif self.folder.is_dir() and not _begun(self.folder):
            raise SakiyomiError(f"{self.folder} exists and is no episode store; name another folder or remove it")
        self.ids = {entry.id for entry in existing.entries} if existing else set()
        _drop_torn_line(self.folder / "manifest.jsonl")
        self._write_dataset({})  # `finish` measures anew; until then no statistics are better than old ones

    def add(
        self,
        id: str,
        values: Mapping[str, np.ndarray],
        times: Mapping[str, np.ndarray],
        split: str = "train",
        meta: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Write one episode: for each stream its values [T, ...] and its clock float64 [T] in seconds.

        Raises SakiyomiError when a stream is missing, of another shape or type, not finite or empty,
        when a clock does not run forwards, or when the id is taken or would leave the folder.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", id):
            raise SakiyomiError(f"episode id {id!r}: use letters, digits, '_', '-' and '.', at most 100")
        if id in self.ids:
            raise SakiyomiError(f"episode {id!r} is in {self.folder} already; its {len(self.ids)} ids must differ")
        tensors: dict[str, np.ndarray] = {}
        for name, stream in self.streams.items():
            if name not in values or name not in times:
                raise SakiyomiError(
                    f"episode {id!r} has no stream {name!r}; "
                    f"it came with {sorted(values)}, needed: {sorted(self.streams)}"
                )
            check_stream(f"episode {id!r}, stream {name!r}", stream, values[name], times[name])
            tensors[name] = np.ascontiguousarray(values[name])
            tensors[f"{name}.time"] = np.asarray(times[name], dtype=np.float64)
        content = to_safetensors(tensors)
        entry = Entry(
            id=id,
            split=split,
            file=f"episodes/{id}.safetensors",
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            lengths={name: len(values[name]) for name in self.streams},
            meta=dict(meta or {}),
        )
        write_atomic(self.folder / entry.file, content)
        append_line(self.folder / "manifest.jsonl", msgspec.json.encode(entry))
        self.ids.add(id)
        return entry

    def finish(self) -> "EpisodeStore":
        """Write the statistics of the training split into dataset.json and open the store for reading."""
        store = EpisodeStore(self.folder)
        self._write_dataset({name: store.measure(name) for name in store.streams})
        return EpisodeStore(self.folder)

    def _write_dataset(self, statistics: dict[str, Statistics]) -> None:
        dataset = Dataset(FORMAT, self.streams, statistics, self.origin)
        write_atomic(self.folder / "dataset.json", msgspec.json.format(msgspec.json.encode(dataset)))


class EpisodeStore:
    """Reads a store. Raises SakiyomiError when the folder is none, or holds no episode."""

    def __init__(self, folder: str | Path, allow_empty: bool = False) -> None:
        if "://" in str(folder):
            raise SakiyomiError(f"{folder} is a URL; stores are read from local folders so far: copy it here first")
        self.folder = Path(folder)
        path = self.folder / "dataset.json"
        if not path.exists():
            state = "is no episode store (no dataset.json)" if self.folder.exists() else "does not exist"
            raise SakiyomiError(f"{self.folder} {state}; make one with: sakiyomi prepare NAME --out {self.folder}")
        try:
            dataset = msgspec.json.decode(path.read_bytes(), type=Dataset)
        except msgspec.DecodeError as error:
            raise SakiyomiError(f"{path} cannot be read: {error}; record or convert the data anew") from error
        if dataset.format != FORMAT:
            raise SakiyomiError(f"{path} has format {dataset.format!r}; this version reads {FORMAT!r}")
        self.streams = dataset.streams
        self.statistics, self.origin = dataset.statistics, dataset.origin
        self.entries = _read_manifest(self.folder / "manifest.jsonl")
        if not self.entries and not allow_empty:
            raise SakiyomiError(f"{self.folder} holds no finished episode; record some first (sakiyomi prepare NAME)")
        self._by_id = {entry.id: entry for entry in self.entries}
        self._open: dict[str, Any] = {}  # least recently used first
        self._verified: set[str] = set()

    def split(self, name: str) -> tuple[Entry, ...]:
        """The episodes of one split. Raises SakiyomiError when there are none."""
        found = tuple(entry for entry in self.entries if entry.split == name)
        if not found:
            there = sorted({entry.split for entry in self.entries})
            if name not in ("train", "validation"):
                raise unknown("split", name, there)
            raise SakiyomiError(
                f"{self.folder} has no episode of split {name!r}, only {there}: add some with "
                f"EpisodeWriter.add(..., split={name!r}), or complete the recording (sakiyomi prepare NAME)"
            )
        return found

    def entry(self, id: str) -> Entry:
        if id not in self._by_id:
            raise unknown("episode", id, self._by_id)
        return self._by_id[id]

    def values(self, id: str, stream: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Values [start:stop] of one stream, read from the memory map."""
        if stream not in self.streams:
            raise unknown("stream", stream, self.streams)
        return self._file(id).get_slice(stream)[start:stop]

    def times(self, id: str, stream: str) -> np.ndarray:
        """The clock of one stream, float64 [T], seconds."""
        if stream not in self.streams:
            raise unknown("stream", stream, self.streams)
        return self._file(id).get_tensor(f"{stream}.time")

    def measure(self, stream: str, entries: tuple[Entry, ...] = ()) -> Statistics:
        """Statistics of one stream over the training split (or these episodes of it), one in memory at a time."""
        parts = []
        for entry in entries or self.split("train"):
            values = self.values(entry.id, stream)
            # Channels first: along memory, sums over pictures are eight times as fast.
            values = values.reshape(-1, values.shape[-1] if values.ndim > 1 else 1).T.astype(np.float64, order="C")
            parts.append((values.shape[1], values.min(1), values.max(1), values.mean(1), values.var(1)))
        counts, low, high, means, variances = (np.stack(part) for part in zip(*parts, strict=True))
        weights = (counts / counts.sum())[:, None]
        mean = (weights * means).sum(0)
        # The variance of a union is the mean variance plus the variance of the means.
        std = np.sqrt((weights * (variances + (means - mean) ** 2)).sum(0))
        low, high, mean, std = (tuple(a.tolist()) for a in (low.min(0), high.max(0), mean, std))
        return Statistics(low, high, mean, std, int(counts.sum()))

    def _file(self, id: str) -> Any:
        """The episode's file, opened; the one that was not used for longest is closed if there are many."""
        file = self._open.pop(id, None)
        if file is None:
            file = self._open_file(self.entry(id))
        self._open[id] = file
        while len(self._open) > OPEN_FILES:
            del self._open[next(iter(self._open))]
        return file

    def _open_file(self, entry: Entry) -> Any:
        path = self.folder / entry.file
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise SakiyomiError(f"{self.folder}/manifest.jsonl names {entry.file!r}, outside the store; refused")
        if not path.exists() or path.stat().st_size != entry.bytes:
            came = f"{path.stat().st_size} bytes" if path.exists() else "no file"
            raise SakiyomiError(
                f"{path} is damaged: {entry.bytes} bytes expected, {came} found; "
                "restore it or remove its line from the manifest"
            )
        if entry.id not in self._verified:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != entry.sha256:
                raise SakiyomiError(f"{path} is damaged: its sha256 is not the manifest's; restore it")
            self._verified.add(entry.id)
        try:
            return safe_open(path, framework="np")
        except SafetensorError as error:
            raise SakiyomiError(f"{path} is no safetensors file: {error}") from error


def _begun(folder: Path) -> bool:
    """The folder is empty, or holds a store that never got an episode and may be begun again."""
    there = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    return not there or (
        "dataset.json" in there and there <= {"dataset.json", "manifest.jsonl", "episodes", "damaged.txt"}
    )


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
    backwards = np.flatnonzero(~(np.diff(times) > 0))
    if len(backwards) or not np.isfinite(times).all():
        at = int(backwards[0]) + 1 if len(backwards) else int(np.argwhere(~np.isfinite(times))[0, 0])
        raise SakiyomiError(f"{where}: the clock does not run forwards at value {at}; sort or repair the stamps")


def _read_manifest(path: Path) -> tuple[Entry, ...]:
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    entries = []
    for number, line in enumerate(lines[:-1]):  # what follows the last newline was never finished
        try:
            entries.append(msgspec.json.decode(line, type=Entry))
        except msgspec.DecodeError as error:
            raise SakiyomiError(f"{path}, line {number + 1} cannot be read: {error}; remove that line") from error
    return tuple(entries)


def _drop_torn_line(path: Path) -> None:
    content = path.read_bytes() if path.exists() else b""
    if content and not content.endswith(b"\n"):
        write_atomic(path, content[: content.rfind(b"\n") + 1])
