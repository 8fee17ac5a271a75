"""The episode store: recordings on disk, one safe file each.

    store/dataset.json               what the streams are, and statistics of the training split
    store/manifest.jsonl             one line an episode: id, split, file, bytes, sha256, length of each stream, meta
    store/episodes/<id>.safetensors  `<stream>` values [T, ...] and `<stream>.time` float64 [T] seconds

An episode is written to a temporary file, flushed, renamed, and only then entered in the manifest, so a crash
loses at most the episode being recorded; a torn last line of the manifest is dropped by the next reader.
Files are memory-mapped, and checked against their sha256 when first opened; some hundreds are kept open at a time.
A store may be far away (`EpisodeStore("s3://bucket/store")`): its episodes come into a local folder as they are used.
"""

import math
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from safetensors import SafetensorError, safe_open

from sakiyomi.data.cache import REMEMBERED, Verified, cache_folder, make_room, sha256_of, used
from sakiyomi.data.far import as_url, fetch, is_url, locate
from sakiyomi.data.records import (
    DTYPES,
    FORMAT,
    LARGEST,
    Dataset,
    Entry,
    Kind,
    Statistics,
    Stream,
    check_clock,
    check_stream,
    check_streams,
    dataset_json,
    file_of,
    good_id,
    good_split,
    read_dataset,
    read_manifest,
)
from sakiyomi.data.tensors import write_tensors
from sakiyomi.errors import SakiyomiError, unknown
from sakiyomi.files import append_line, write_atomic

__all__ = ["Dataset", "Entry", "EpisodeStore", "EpisodeWriter", "Kind", "Statistics", "Stream", "check_stream"]
MEASURED = 1 << 28  # bytes of values, as float64, that are measured at once
OPEN_FILES = 256  # a store keeps open; a system allows a process some thousand descriptors and memory maps


class EpisodeWriter:
    """Adds episodes to a store, new or existing.

    Raises SakiyomiError for a folder that holds something else, or a store with other streams.
    """

    def __init__(
        self, folder: str | Path, streams: Mapping[str, Stream], origin: Mapping[str, Any] | None = None
    ) -> None:
        if is_url(folder):
            url = as_url(folder)
            raise SakiyomiError(f"{url} is a URL; record into a folder here, then: sakiyomi prepare copy FOLDER {url}")
        self.folder = Path(folder)
        self.streams, self.origin = dict(streams), dict(origin or {})
        check_streams(f"the streams for {folder}", self.streams)
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
        when a clock does not run forwards, when the id is taken or would leave the folder, or the split has no name.
        """
        if not good_id(id):
            raise SakiyomiError(f"episode id {id!r}: use letters, digits, '_', '-' and '.', at most 100")
        if id in self.ids:
            raise SakiyomiError(f"episode {id!r} is in {self.folder} already; its {len(self.ids)} ids must differ")
        if not good_split(split):  # or the whole store could not be opened any more
            raise SakiyomiError(f"episode {id!r} is of split {split!r}; use a word such as train or validation")
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
        file = file_of(id)
        written = write_tensors(self.folder / file, tensors)
        entry = Entry(
            id=id,
            split=split,
            file=file,
            bytes=written.bytes,
            sha256=written.sha256,
            lengths={name: len(values[name]) for name in self.streams},
            meta=dict(meta or {}),
        )
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
        write_atomic(self.folder / "dataset.json", dataset_json(dataset))


class EpisodeStore:
    """Reads a store, from a folder or an address that fsspec knows.

    `folder` is where the files are: for a far store, the part of the cache into which they are fetched. `place` is what
    the store was opened by, for messages. Raises SakiyomiError when there is no store, or it holds no episode.
    """

    def __init__(self, folder: str | Path, allow_empty: bool = False) -> None:
        self.place = locate(folder)
        self.folder = self.place.here or cache_folder() / "episodes"
        content = self.place.read("dataset.json")
        if content is None:
            if self.place.here is None:
                raise SakiyomiError(
                    f"{self.place} is no episode store: there is no dataset.json, or no such bucket; "
                    "bring one there with: sakiyomi prepare copy FOLDER URL"
                )
            state = "is no episode store (no dataset.json)" if self.folder.exists() else "does not exist"
            raise SakiyomiError(f"{self.place} {state}; make one with: sakiyomi prepare NAME --out {self.folder}")
        dataset = read_dataset(content, f"{self.place}/dataset.json")
        self.streams = dataset.streams
        self.statistics, self.origin = dataset.statistics, dataset.origin
        manifest = self.place.read("manifest.jsonl") or b""
        self.entries = read_manifest(manifest, f"{self.place}/manifest.jsonl", self.streams)
        if not self.entries and not allow_empty:
            raise SakiyomiError(f"{self.place} holds no finished episode; record some first (sakiyomi prepare NAME)")
        self._by_id = {entry.id: entry for entry in self.entries}
        self._open: dict[str, Any] = {}  # least recently used first
        self._opening = threading.Lock()
        self._verified: set[str] = set()
        large = self.place.here is None or sum(entry.bytes for entry in self.entries) >= REMEMBERED
        self._checksums = Verified(self.folder, remember=large)

    def split(self, name: str) -> tuple[Entry, ...]:
        """The episodes of one split. Raises SakiyomiError when there are none."""
        found = tuple(entry for entry in self.entries if entry.split == name)
        if not found:
            there = sorted({entry.split for entry in self.entries})
            if name not in ("train", "validation"):
                raise unknown("split", name, there)
            raise SakiyomiError(
                f"{self.place} has no episode of split {name!r}, only {there}: add some with "
                f"EpisodeWriter.add(..., split={name!r}), or complete the recording (sakiyomi prepare NAME)"
            )
        return found

    def entry(self, id: str) -> Entry:
        if id not in self._by_id:
            raise unknown("episode", id, self._by_id)
        return self._by_id[id]

    def values(self, id: str, stream: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Values [start:stop] of one stream, read from the memory map; as of a list, the ends may lie outside."""
        if stream not in self.streams:
            raise unknown("stream", stream, self.streams)
        start, stop, _ = slice(start, stop).indices(self.entry(id).lengths[stream])
        start, stop = (start, stop) if start < stop else (0, 0)
        return self._file(id).get_slice(stream)[start:stop]

    def times(self, id: str, stream: str) -> np.ndarray:
        """The clock of one stream, float64 [T], seconds."""
        if stream not in self.streams:
            raise unknown("stream", stream, self.streams)
        return self._file(id).get_tensor(f"{stream}.time")

    def measure(self, stream: str, entries: tuple[Entry, ...] = ()) -> Statistics:
        """Statistics of one stream over the training split (or these episodes of it); of a long one, a piece is in
        memory at a time. Raises SakiyomiError when it holds what has none: NaN, infinite or far too large values."""
        parts = []
        if stream not in self.streams:
            raise unknown("stream", stream, self.streams)
        rows = max(1, MEASURED // (8 * max(1, math.prod(self.streams[stream].shape))))
        pieces = ((e.id, at) for e in entries or self.split("train") for at in range(0, e.lengths[stream], rows))
        for id, at in pieces:
            values = self.values(id, stream, at, at + rows)
            # Channels first: along memory, sums over pictures are eight times as fast.
            values = values.reshape(-1, values.shape[-1] if values.ndim > 1 else 1).T.astype(np.float64, order="C")
            with np.errstate(over="ignore", invalid="ignore"):  # told below
                parts.append((values.shape[1], values.min(1), values.max(1), values.mean(1), values.var(1)))
            if not np.isfinite(parts[-1][-1]).all():
                raise SakiyomiError(
                    f"episode {id!r} of {self.place}, stream {stream!r}: no mean and deviation can be taken of its "
                    f"values (NaN, infinite, or beyond {LARGEST:g}); see: sakiyomi prepare check {self.place}"
                )
        counts, low, high, means, variances = (np.stack(part) for part in zip(*parts, strict=True))
        weights = (counts / counts.sum())[:, None]
        mean = (weights * means).sum(0)
        # The variance of a union is the mean variance plus the variance of the means.
        std = np.sqrt((weights * (variances + (means - mean) ** 2)).sum(0))
        low, high, mean, std = (tuple(a.tolist()) for a in (low.min(0), high.max(0), mean, std))
        return Statistics(low, high, mean, std, int(counts.sum()))

    def _file(self, id: str) -> Any:
        """The episode's file, opened; the one that was not used for longest is closed if there are many."""
        with self._opening:  # a batch may be drawn in one thread while another validates
            file = self._open.pop(id, None)
            if file is None:
                file = self._open_file(self.entry(id))
            self._open[id] = file
            while len(self._open) > OPEN_FILES:
                del self._open[next(iter(self._open))]
            return file

    def path(self, id: str) -> Path:
        """An episode's file on this machine, fetched if it was far away.

        Raises SakiyomiError when it is missing, not of the size in the manifest, or (looked at once) of another sha256;
        Unreachable when a far one cannot be had now.
        """
        return self._whole(self.entry(id), anew=False)

    def verify(self, id: str) -> None:
        """Read an episode's file anew, whatever is remembered of it. Raises as `path`."""
        self._whole(self.entry(id), anew=True)

    def _whole(self, entry: Entry, anew: bool) -> Path:
        path = self.folder / entry.file if self.place.here else self._fetched(entry)
        wrong = self._wrong(entry, path, anew)
        if wrong and not self.place.here:  # the cache's copy went bad, or another process made room: there is another
            with suppress(OSError):
                path.unlink()
            wrong = self._wrong(entry, self._fetched(entry), anew)
        if wrong:
            raise SakiyomiError(f"{path} is damaged: {wrong}; restore it or remove its line from the manifest")
        self._verified.add(entry.id)
        return path

    def _wrong(self, entry: Entry, path: Path, anew: bool) -> str:
        """What an episode's file is not as the manifest says; empty if nothing."""
        if not path.resolve().is_relative_to(self.folder.resolve()):  # by a link
            raise SakiyomiError(f"{self.place}/manifest.jsonl names {entry.file!r}, outside the store; refused")
        try:
            size = path.stat().st_size
            if size != entry.bytes:
                return f"{entry.bytes} bytes expected, {size} bytes found"
            if anew:
                digest = sha256_of(path)
            else:
                digest = entry.sha256 if entry.id in self._verified else self._checksums.sha256(path)
        except OSError as error:
            return f"{entry.bytes} bytes expected, no file found that can be read ({error.strerror})"
        return "" if digest == entry.sha256 else "its sha256 is not the manifest's"

    def _fetched(self, entry: Entry) -> Path:
        """The file in the cache of a far episode, which goes by its checksum."""
        path = self.folder / f"{entry.sha256}.safetensors"
        if not path.exists():
            make_room(self.folder, entry.bytes, keep=path)
            # What is removed takes up its room until it is closed.
            for id in [id for id in self._open if not (self.folder / f"{self.entry(id).sha256}.safetensors").exists()]:
                del self._open[id]
            fetch(self.place, entry, path)
        used(path)
        return path

    def _open_file(self, entry: Entry) -> Any:
        path = self.path(entry.id)
        try:
            file = safe_open(path, framework="np")
            there = set(file.keys())
            for name, stream in self.streams.items():
                length = entry.lengths[name]
                for key, dtype, shape in (
                    (name, stream.dtype, [length, *stream.shape]),
                    (f"{name}.time", "float64", [length]),
                ):
                    if key not in there:
                        raise SakiyomiError(f"{path} has no {key!r}, only {sorted(there)}; record or convert it anew")
                    found = file.get_slice(key)
                    if (found.get_dtype(), found.get_shape()) != (DTYPES[dtype], shape):
                        raise SakiyomiError(
                            f"{path}: {key!r} is {found.get_dtype()} {found.get_shape()}, but dataset.json and the "
                            f"manifest say {DTYPES[dtype]} {shape}; record or convert it anew"
                        )
                check_clock(f"{path}, stream {name!r}", file.get_tensor(f"{name}.time"))
        except (SafetensorError, OSError) as error:
            raise SakiyomiError(f"{path} is no safetensors file: {error}") from error
        return file


def _begun(folder: Path) -> bool:
    """The folder is empty, or holds a store that never got an episode and may be begun again."""
    there = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    return not there or (
        "dataset.json" in there and there <= {"dataset.json", "manifest.jsonl", "episodes", "damaged.txt"}
    )


def _drop_torn_line(path: Path) -> None:
    content = path.read_bytes() if path.exists() else b""
    if content and not content.endswith(b"\n"):
        write_atomic(path, content[: content.rfind(b"\n") + 1])
