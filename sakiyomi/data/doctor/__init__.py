"""The doctor: what is wrong with recordings, found before it costs a day of training.

    diagnosis = examine(EpisodeStore("data/pick"))
    for finding in diagnosis.findings: print(finding.kind, finding.told, finding.advice)

Every episode is read once and leaves a few figures; what they say together is judged at the end. Episodes that look
as if they were there twice are read once more. Sound, labels and tokens are not judged as movements are.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sakiyomi.data.doctor import (
    balance,
    channels,
    channels_judged,
    clocks,
    delays,
    pictures,
    sound,
    splits,
    tails,
    units,
)
from sakiyomi.data.doctor.findings import ADVICE, KINDS, Finding, Kind, Severity, Tolerances, listed
from sakiyomi.data.doctor.recording import Recording, read
from sakiyomi.data.doctor.splits import Pair
from sakiyomi.data.episodes import Entry, EpisodeStore, Stream
from sakiyomi.errors import SakiyomiError, Unreachable

__all__ = ["ADVICE", "KINDS", "Diagnosis", "Finding", "Kind", "Measured", "Severity", "Tolerances", "examine"]


@dataclass(frozen=True)
class Measured:
    """The figures that one episode leaves."""

    clocks: dict[str, clocks.Clock]
    channels: dict[str, channels.Channels]
    pictures: dict[str, pictures.Pictures]
    sizes: dict[str, units.Sizes]
    delays: dict[str, delays.Delay]
    sound: dict[str, sound.Sound]
    examples: balance.Examples
    sketch: splits.Sketch


@dataclass(frozen=True)
class Diagnosis:
    """What was found, problems first; and the figures it was found by, which a repair needs."""

    findings: tuple[Finding, ...]
    measured: dict[str, Measured]
    """By episode; damaged ones have none."""
    twice: tuple[Pair, ...]
    damaged: dict[str, str]
    """What is wrong with the file of an episode."""
    frames: int
    seconds: float
    """What it took."""

    @property
    def problems(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == "problem")


def examine(
    store: EpisodeStore,
    tolerances: Tolerances | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Diagnosis:
    """Look at all episodes of a store. `progress` is told how many of how many are done. Raises Unreachable when a far
    one cannot be had: that is no damage of it."""
    tolerances, begin = tolerances or Tolerances(), time.perf_counter()
    measured: dict[str, Measured] = {}
    damaged: dict[str, str] = {}
    frames = 0
    for number, entry in enumerate(store.entries):
        try:
            store.verify(entry.id)  # the file itself, whatever is remembered of its checksum
            recording = read(store, entry)
        except Unreachable:
            raise
        except SakiyomiError as error:
            damaged[entry.id] = str(error)
        else:
            measured[entry.id] = look(recording, entry, store.streams, tolerances)
            frames += max(len(clock) for clock in recording.times.values())
        progress(number + 1, len(store.entries))
    twice: tuple[Pair, ...] = ()
    findings = _damaged(damaged)
    if measured:
        twice = splits.pairs({id: one.sketch for id, one in measured.items()}, store, tolerances)
        findings += judge(measured, store.streams, tolerances)
        findings += splits.judge(twice, {entry.id: entry for entry in store.entries}, tolerances)
    findings.sort(key=lambda finding: (finding.severity != "problem", KINDS.index(finding.kind)))
    return Diagnosis(tuple(findings), measured, twice, damaged, frames, time.perf_counter() - begin)


def look(recording: Recording, entry: Entry, streams: Mapping[str, Stream], tolerances: Tolerances) -> Measured:
    """All figures of one episode."""
    return Measured(
        clocks.measure(recording, streams, tolerances),
        channels.measure(recording, streams, tolerances),
        pictures.measure(recording, streams, tolerances),
        units.measure(recording, streams, tolerances),
        delays.measure(recording, streams, tolerances),
        sound.measure(recording, streams, tolerances),
        balance.measure(recording, entry, streams),
        splits.measure(recording, entry),
    )


def judge(measured: Mapping[str, Measured], streams: Mapping[str, Stream], tolerances: Tolerances) -> list[Finding]:
    """What the figures of all episodes say together."""
    numbers = {id: one.channels for id, one in measured.items()}
    films = {id: one.pictures for id, one in measured.items()}
    found = clocks.judge({id: one.clocks for id, one in measured.items()}, streams, tolerances)
    found += channels_judged.judge(numbers, streams, tolerances)
    found += pictures.judge(films, streams, tolerances)
    found += tails.judge(numbers, films, streams, tolerances)
    found += units.judge({id: one.sizes for id, one in measured.items()}, streams, tolerances)
    found += delays.judge({id: one.delays for id, one in measured.items()}, tolerances)
    found += sound.judge({id: one.sound for id, one in measured.items()}, tolerances)
    found += balance.judge({id: one.examples for id, one in measured.items()}, streams, tolerances)
    return found


def _damaged(damaged: Mapping[str, str]) -> list[Finding]:
    if not damaged:
        return []
    ids = tuple(damaged)
    told = f"{len(ids)} files cannot be read: {listed(ids)}: {damaged[ids[0]]}"
    return [Finding("damaged", "problem", told, len(ids), "files", 1, ids)]
