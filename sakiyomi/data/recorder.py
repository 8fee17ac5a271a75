"""The durable half of `sakiyomi prepare record`: samples as they come become episodes of a store, one by one.

    with locked(folder), Recorder(folder, streams, {"source": "mine"}) as recorder:
        for sample in device:
            recorder.add(sample)
        recorder.keep({"task": "pick up the cube"})
        recorder.finish()

Every stream has a clock of its own: seconds since the episode's first sample, by the device's stamps where it gives
any, else by when the sample came. The episode in progress lies in a spool (spool.py); `keep` writes it as the store
does, to a temporary file that is flushed and renamed, and enters it in the manifest. A process that is killed at any
moment loses nothing that was kept, and the spool is what the next one finds of the rest.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from sakiyomi.data.episodes import Entry, EpisodeStore, EpisodeWriter, Stream
from sakiyomi.data.spool import (
    Decision,
    Header,
    Samples,
    Spool,
    read_decision,
    read_header,
    read_samples,
    remove,
)
from sakiyomi.errors import SakiyomiError, unknown
from sakiyomi.files import cannot_write, make_folder

RECORDING, ASIDE = ".recording", ".unfinished"  # folders in the store: the spool, and what was found of an older one
LATE = 1.5  # nominal periods after the last one a sample is late
SLOW = 0.95  # of the claimed rate: less is told as a warning
SILENT = 5, 0.5  # nominal periods and s: nothing for so long before an episode ends is told as a warning


class BadSample(SakiyomiError):
    """A sample that is not what its stream says; it ends the episode, not the recording."""


@dataclass(frozen=True)
class Sample:
    """One value of one stream."""

    stream: str
    value: Any
    arrived: float
    """Seconds of time.monotonic() when it came."""
    stamp: float | None = None
    """Seconds of the device's own clock when it was taken, where it says so; one clock for all its streams."""


@dataclass(frozen=True)
class Pace:
    """How one stream came during one episode."""

    claimed: float
    """Hz."""
    count: int
    came: float
    """Hz, between the first sample and the last; 0 of a single one."""
    late: int
    """Samples that came more than LATE periods after the one before."""
    longest: float
    """s, the longest time between two."""
    silent: float = 0.0
    """s, from its last sample to the last one of any stream."""

    @property
    def slow(self) -> bool:
        return self.count > 1 and self.came < SLOW * self.claimed

    def __str__(self) -> str:
        if self.count < 2:
            return f"claimed {self.claimed:g} Hz, {self.count} sample{'' if self.count else 's'} came"
        told = (
            f"claimed {self.claimed:g} Hz, came {self.came:.1f} Hz, {self.late} late, longest gap {self.longest:.3g} s"
        )
        if self.silent > max(SILENT[0] / self.claimed, SILENT[1]):
            told += f" (WARNING: nothing in the last {self.silent:.1f} s)"
        return told + (f" (WARNING: under {SLOW:.0%} of what is claimed)" if self.slow else "")


@dataclass(frozen=True)
class Remains:
    """An episode that a recorder before this one did not finish."""

    folder: Path
    header: Header
    samples: Samples
    decision: Decision | None
    """It was to be kept."""

    def __str__(self) -> str:
        whole = ", ".join(f"{len(times)} {name}" for name, times in self.samples.times.items())
        return f"an unfinished episode of {self.samples.seconds:.1f} s, begun {self.header.began} ({whole})"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The store is this recorder's alone within; the lock of a process that died is none.

    Makes the folder. Raises SakiyomiError when another recorder has it.
    """
    if folder.is_file():
        raise SakiyomiError(f"{folder} is a file; an episode store is a folder")
    try:
        make_folder(folder)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise cannot_write(folder, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        header = read_header(folder / RECORDING)
        who = f" (process {header.process})" if header else ""
        raise SakiyomiError(
            f"another recorder{who} is writing to {folder}; end it, or name another folder with --out"
        ) from error
    except OSError as error:
        os.close(descriptor)
        raise SakiyomiError(f"{folder} cannot be locked: {error.strerror}; record to a local disk") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()  # if nothing came of it
        os.close(descriptor)


class Recorder:
    """Takes samples and writes episodes; use it within `locked`.

    Raises SakiyomiError as EpisodeWriter does, for a store of other streams or another origin. What a killed recorder
    left is put right: an episode that was to be kept is written (`completed`), another one is in `remains`, set aside
    until `recover` keeps it or the next kept episode replaces it.
    """

    def __init__(
        self,
        folder: Path,
        streams: Mapping[str, Stream],
        origin: Mapping[str, Any],
        split: str = "",
        validation: float = 0.1,
    ) -> None:
        """`split` is that of all episodes; if not given, they are shared out so that `validation` of them are for
        validation, the second one first."""
        for name in streams:
            if not name.isidentifier():
                raise SakiyomiError(f"stream {name!r}: use letters, digits and '_', and begin with a letter")
        self.folder, self.streams = folder, dict(streams)
        self._split, self._validation = split, validation
        self._writer = EpisodeWriter(folder, streams, origin)
        self.entries: list[Entry] = list(EpisodeStore(folder, allow_empty=True).entries)
        """The episodes in the store."""
        self._spool: Spool | None = None
        self._tracks: dict[str, _Track] = {}
        self._zero = 0.0
        self._offset: float | None = None  # from the device's clock to the episode's, of the episode in progress
        for torn in (*folder.glob(".*.tmp"), *folder.glob("episodes/.*.tmp")):
            torn.unlink()
        self.completed: Entry | None = None
        """An episode that an earlier recorder was asked to keep, and was ended before it had."""
        self._put_right()

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._spool is not None:
            self._spool.close()  # its samples stay on the disk, to be found

    @property
    def count(self) -> int:
        """Episodes in the store."""
        return len(self.entries)

    @property
    def recording(self) -> bool:
        """Samples of an episode have come."""
        return self._spool is not None

    @property
    def pending(self) -> bool:
        """The episode at hand was to be kept, and could not be written; the next recorder will."""
        return self._spool is not None and self._spool.decided

    @property
    def seconds(self) -> float:
        """From the first sample of the episode in progress to the last."""
        return max((track.last for track in self._tracks.values() if track.count), default=0.0)

    @property
    def remains(self) -> Remains | None:
        """What was found of an unfinished episode."""
        return self._found(self.folder / ASIDE)

    def recover(self, meta: Mapping[str, Any]) -> Entry:
        """Keep the remains as an episode. Raises SakiyomiError when there are none, or they are not whole enough."""
        found = self.remains
        if found is None:
            raise SakiyomiError(f"{self.folder} holds no unfinished episode to recover")
        try:
            entry = self._write(found.header.id, found.samples, {**found.header.meta, **meta, "cut": True})
        except BadSample as error:
            raise SakiyomiError(f"{error}; without --recover the recording goes on without it") from error
        remove(found.folder)
        return entry

    def add(self, sample: Sample) -> None:
        """Append one sample; the first one begins an episode.

        Raises BadSample for a stream there is none of, a value of another shape or type, or not finite, and a clock
        that does not run forwards; other SakiyomiErrors when the disk refuses.
        """
        if sample.stream not in self.streams:
            raise BadSample(str(unknown("stream", sample.stream, self.streams)))
        stream = self.streams[sample.stream]
        track = self._tracks.get(sample.stream) if self._spool else None
        where = f"sample {track.count if track else 0} of stream {sample.stream!r}"
        value = checked(where, stream, sample.value)
        if self._spool is None:
            self._begin(sample)
        track = self._tracks[sample.stream]
        stamped = sample.stamp is not None
        if track.count and stamped != track.stamped:
            raise BadSample(f"{where} {'has' if stamped else 'lacks'} a time, unlike those before; give all or none")
        track.stamped = stamped
        if sample.stamp is None:
            time = sample.arrived - self._zero
        elif not np.isfinite(sample.stamp):
            raise BadSample(f"{where}: its time is {sample.stamp}")
        else:
            if self._offset is None:
                self._offset = sample.arrived - self._zero - sample.stamp
            time = sample.stamp + self._offset
        if track.count and not time > track.last:
            raise BadSample(f"{where}: its clock does not run forwards: {time:.6f} s after {track.last:.6f} s")
        assert self._spool is not None
        self._spool.append(sample.stream, value, time)
        track.note(time)

    def paces(self) -> dict[str, Pace]:
        """Of the streams of the episode in progress."""
        end = self.seconds
        return {name: track.pace(end) for name, track in self._tracks.items()}

    def keep(self, meta: Mapping[str, Any]) -> Entry:
        """Write the episode in progress into the store.

        Raises BadSample when a stream never came (the episode is discarded then), other SakiyomiErrors when the disk
        refuses: its samples stay in the spool then, and the next recorder finds them and writes them.
        """
        spool, paces = self._spool, self.paces()
        assert spool is not None, "no sample came"
        clocks = {name: "device" if track.stamped else "arrival" for name, track in self._tracks.items()}
        measured = {"clocks": clocks, "rates": {name: round(pace.came, 3) for name, pace in paces.items()}}
        measured |= {"late": {name: pace.late for name, pace in paces.items()}, "began": spool.header.began}
        whole = {**meta, **measured}
        samples = read_samples(spool.folder, self.streams)
        try:
            self._check(samples)
        except BadSample:
            self.discard()
            raise
        spool.decide(Decision(self._next_split(), whole))
        entry = self._write(spool.header.id, samples, whole)
        self._leave()
        return entry

    def discard(self) -> None:
        """Forget the episode in progress, if there is one."""
        if self._spool is not None:
            self._leave()

    def finish(self) -> EpisodeStore | None:
        """Measure the training split and open the store; nothing where it has no episode yet."""
        if not self.entries:
            return None
        if all(entry.split != "train" for entry in self.entries):
            return EpisodeStore(self.folder)
        return self._writer.finish()

    def _begin(self, first: Sample) -> None:
        numbers = [int(id) for id in self._writer.ids if id.isdecimal()]
        id = f"{max(numbers, default=-1) + 1:05d}"
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._spool = Spool(self.folder / RECORDING, Header(id, os.getpid(), now, self.streams))
        self._tracks = {name: _Track(stream.rate) for name, stream in self.streams.items()}
        self._zero, self._offset = first.arrived, None

    def _leave(self) -> None:
        assert self._spool is not None
        self._spool.close()
        remove(self._spool.folder)
        self._spool, self._tracks = None, {}

    def _next_split(self) -> str:
        if self._split:
            return self._split
        there, validation = self.count, sum(entry.split == "validation" for entry in self.entries)
        share = int(self._validation * (there + 1) + 1e-9)
        wanted = max(1, share) if self._validation and there else 0
        return "validation" if validation < wanted else "train"

    def _check(self, samples: Samples) -> None:
        for name, times in samples.times.items():
            if not len(times):
                came = ", ".join(f"{len(t)} {n}" for n, t in samples.times.items() if len(t)) or "nothing"
                raise BadSample(f"stream {name!r} never came in this episode (there came {came}); it cannot be kept")

    def _write(self, id: str, samples: Samples, meta: Mapping[str, Any], split: str = "") -> Entry:
        self._check(samples)
        entry = self._writer.add(id, samples.values, samples.times, split or self._next_split(), meta)
        self.entries.append(entry)
        remove(self.folder / ASIDE)
        return entry

    def _found(self, folder: Path) -> Remains | None:
        header = read_header(folder)
        if header is None:
            return None
        return Remains(folder, header, read_samples(folder, header.streams), read_decision(folder))

    def _put_right(self) -> None:
        """Sees to what an earlier recorder left in its spool."""
        aside = self._found(self.folder / ASIDE)
        if aside is not None and aside.header.id in self._writer.ids:
            remove(aside.folder)  # killed after it was replaced, or recovered
        spool = self.folder / RECORDING
        found = self._found(spool)
        if found is None or found.header.id in self._writer.ids:
            remove(spool)  # killed before its first sample, or after its episode was in the manifest
        elif found.decision is not None and found.header.streams == self.streams:
            decision = found.decision
            self.completed = self._write(found.header.id, found.samples, decision.meta, decision.split)
            remove(spool)
        else:
            remove(self.folder / ASIDE)
            spool.rename(self.folder / ASIDE)


@dataclass
class _Track:
    """What is known of a stream during an episode, in constant memory."""

    claimed: float
    count: int = 0
    first: float = 0.0
    last: float = 0.0
    late: int = 0
    longest: float = 0.0
    stamped: bool = False

    def note(self, time: float) -> None:
        if self.count:
            gap = time - self.last
            self.longest = max(self.longest, gap)
            self.late += gap > LATE / self.claimed
        else:
            self.first = time
        self.last, self.count = time, self.count + 1

    def pace(self, end: float) -> Pace:
        """In an episode that ended then."""
        came = (self.count - 1) / (self.last - self.first) if self.count > 1 else 0.0
        return Pace(self.claimed, self.count, came, self.late, self.longest, end - self.last)


def checked(where: str, stream: Stream, value: Any) -> np.ndarray:
    """The value in the stream's type. Raises BadSample, beginning with `where`, unless it has its shape, is finite
    and loses nothing in that type but the digits of a shorter float."""
    try:
        given = np.asarray(value)
    except Exception as error:  # it may be anything, and do anything
        raise BadSample(f"{where} is no array: {type(error).__name__}: {error}") from error
    kind = np.dtype(stream.dtype)
    if given.shape != tuple(stream.shape):
        raise BadSample(f"{where} has shape {list(given.shape)}, expected {list(stream.shape)}")
    if given.dtype.kind not in "biuf" or (given.dtype.kind == "f" and kind.kind != "f"):
        raise BadSample(f"{where} is of type {given.dtype}, expected {stream.dtype}")
    with np.errstate(over="ignore", invalid="ignore"):
        cast = given.astype(kind)
    if kind.kind == "f":
        bad = np.argwhere(~np.isfinite(cast))
        if len(bad):
            at = tuple(int(i) for i in bad[0])
            name = f" ({stream.names[at[-1]]!r})" if at and len(stream.names) == stream.shape[-1] else ""
            channel = f"channel {', '.join(map(str, at))}{name}" if at else "it"
            raise BadSample(f"{where}: {channel} is {given[at]}, no finite {stream.dtype}")
    elif not np.array_equal(cast, given):
        raise BadSample(f"{where} holds {given.min()} .. {given.max()}, more than {stream.dtype} can")
    return cast
