"""The episode that is being recorded, on the disk as it comes: memory stays small however long it gets.

    store/.recording/header.json     whose it is: id, process, streams
    store/.recording/NAME.values     the values so far, one after the other, raw
    store/.recording/NAME.times      their clock, float64, seconds from the episode's start
    store/.recording/decision.json   once it is decided to keep it: split and meta

Whatever ends the process, all samples that were appended are there; one that was cut in half is left out when it is
read back.
"""

import contextlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from sakiyomi.data.episodes import Stream
from sakiyomi.errors import SakiyomiError
from sakiyomi.files import cannot_write, write_atomic


@dataclass(frozen=True)
class Header:
    """Whose samples these are."""

    id: str
    process: int
    began: str
    """UTC, ISO 8601."""
    streams: dict[str, Stream]
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """That the episode is kept, and how."""

    split: str
    meta: dict[str, Any]


@dataclass(frozen=True)
class Samples:
    """What a spool holds, memory-mapped."""

    values: dict[str, np.ndarray]
    """Of each stream, [T, ...]; T may be 0."""
    times: dict[str, np.ndarray]
    """Of each stream float64 [T], s."""

    @property
    def seconds(self) -> float:
        return max((float(times[-1]) for times in self.times.values() if len(times)), default=0.0)


class Spool:
    """Takes the samples of one episode. Raises SakiyomiError when the disk refuses; what was appended stays."""

    def __init__(self, folder: Path, header: Header) -> None:
        self.folder, self.header, self.decided = folder, header, False
        remove(folder)
        write_atomic(folder / "header.json", msgspec.json.encode(header))
        self._files: dict[str, tuple[BinaryIO, BinaryIO]] = {}
        try:
            for name in header.streams:
                # Unbuffered: what was appended is the system's, and outlives the process.
                self._files[name] = tuple((folder / f"{name}.{part}").open("wb", 0) for part in ("values", "times"))  # pyright: ignore[reportArgumentType]
        except OSError as error:
            raise cannot_write(folder, error) from error

    def append(self, stream: str, value: np.ndarray, time: float) -> None:
        values, times = self._files[stream]
        try:
            # The time last: a value without one does not count.
            for file, content in ((values, value.tobytes()), (times, np.float64(time).tobytes())):
                left = memoryview(content)
                while left:  # what the disk refuses, it refuses at the second try
                    left = left[file.write(left) :]
        except OSError as error:
            raise cannot_write(self.folder / f"{stream}.values", error) from error

    def decide(self, decision: Decision) -> None:
        """From now on the episode counts as kept, even if it cannot be written before the process ends."""
        try:
            for pair in self._files.values():  # before the decision: a power cut must not leave that alone
                for file in pair:
                    os.fsync(file.fileno())
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        write_atomic(self.folder / "decision.json", msgspec.json.encode(decision))
        self.decided = True

    def close(self) -> None:
        for pair in self._files.values():
            for file in pair:
                file.close()


def read_header(folder: Path) -> Header | None:
    """Nothing where there is no spool, or one that was not even begun."""
    return _read(folder / "header.json", Header)


def read_decision(folder: Path) -> Decision | None:
    return _read(folder / "decision.json", Decision)


def read_samples(folder: Path, streams: Mapping[str, Stream]) -> Samples:
    """The whole samples of a spool: of each stream up to the last that has its time, and while its clock runs on
    (what a power cut left of a file may be zeros)."""
    values, times = {}, {}
    for name, stream in streams.items():
        kind = np.dtype(stream.dtype)
        size = kind.itemsize * int(np.prod(stream.shape))
        paths = folder / f"{name}.values", folder / f"{name}.times"
        sizes = [path.stat().st_size if path.exists() else 0 for path in paths]
        count = min(sizes[0] // size, sizes[1] // 8)
        if count == 0:
            values[name], times[name] = np.empty((0, *stream.shape), kind), np.empty(0)
            continue
        clock = np.fromfile(paths[1], np.float64, count)
        stops = np.flatnonzero(~(np.diff(clock) > 0))
        count = int(stops[0]) + 1 if len(stops) else count
        values[name] = np.memmap(paths[0], kind, "r", shape=(count, *stream.shape))
        times[name] = clock[:count]
    return Samples(values, times)


def remove(folder: Path) -> None:
    """The header goes first: what a killed process leaves of the rest is no spool any more."""
    with contextlib.suppress(FileNotFoundError):
        (folder / "header.json").unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _read(path: Path, kind: type[Any]) -> Any:
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except msgspec.DecodeError as error:
        raise SakiyomiError(f"{path} cannot be read: {error}; remove the folder {path.parent}") from error
