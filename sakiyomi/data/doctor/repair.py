"""A new store from an old one, with what can safely be mended; the old one is only read.

Mended: repeated rows of a moving body and single wild or missing values (interpolated), repeated pictures (dropped),
constant tails (cut), streams that end apart (cut to what they have in common), degrees (to radians, where the others
are), the rate a stream claims (by its stamps). Left out: damaged files, episodes that were broken off, and one of two
that are the same. All of it is written into the new store: `repaired` in each episode's meta and in the origin. What
cannot be restored stays as it is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sakiyomi.data.doctor import Diagnosis, Measured
from sakiyomi.data.doctor.channels import Spike
from sakiyomi.data.doctor.findings import Finding, Kind
from sakiyomi.data.doctor.recording import NUMBERS, STATE, channel_names, runs
from sakiyomi.data.doctor.tails import watched
from sakiyomi.data.doctor.units import DEGREES, angles
from sakiyomi.data.episodes import Entry, EpisodeStore, EpisodeWriter, Stream
from sakiyomi.errors import SakiyomiError
from sakiyomi.files import whole_path

LONGEST = 3  # frames in a row that are interpolated over


@dataclass(frozen=True)
class Repaired:
    """The new store, what was done in each episode, which were left out and why, and what was done to all."""

    store: EpisodeStore
    done: dict[str, tuple[str, ...]]
    left_out: dict[str, str]
    everywhere: tuple[str, ...]


def repair(
    store: EpisodeStore,
    diagnosis: Diagnosis,
    out: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Repaired:
    """Write the mended episodes into `out`, all or none. Raises SakiyomiError when `out` exists, or nothing would be
    left."""
    if out.exists():
        raise SakiyomiError(f"{out} exists; a repair writes a new store: name another folder, or remove it")
    left_out, rates = _left_out(diagnosis), _rates(store, diagnosis)
    for id, one in diagnosis.measured.items():
        if id not in left_out and any(channels.bad.any() for channels in one.channels.values()):
            try:
                mend(store, store.entry(id), diagnosis)
            except SakiyomiError as error:
                left_out[id] = str(error)
    kept = [entry for entry in store.entries if entry.id not in left_out]
    if not kept:
        raise SakiyomiError(f"nothing of {store.place} would be left: all {len(left_out)} episodes would be left out")
    everywhere = tuple(f"{name} is now said to have {rate:.4g} Hz" for name, rate in rates.items())
    streams = {name: replace(stream, rate=rates.get(name, stream.rate)) for name, stream in store.streams.items()}
    origin = {**store.origin, "repaired": {"left_out": left_out, "everywhere": list(everywhere)}}
    done: dict[str, tuple[str, ...]] = {}
    with whole_path(out) as unfinished:  # half a repair looks like a store that lost the rest
        writer = EpisodeWriter(unfinished, streams, origin)
        for number, entry in enumerate(kept):
            mended = mend(store, entry, diagnosis)
            meta: dict[str, Any] = {**entry.meta, **({"repaired": list(mended.told)} if mended.told else {})}
            writer.add(entry.id, mended.values, mended.times, entry.split, meta)
            done |= {entry.id: mended.told} if mended.told else {}
            progress(number + 1, len(kept))
        writer.finish()
    return Repaired(EpisodeStore(out), done, left_out, everywhere)


def _left_out(diagnosis: Diagnosis) -> dict[str, str]:
    found = dict.fromkeys(diagnosis.damaged, "damaged")
    for finding in diagnosis.findings:
        if finding.kind == "short":
            found |= dict.fromkeys(finding.episodes, "broken off")
    for pair in diagnosis.twice:
        if pair.kept not in found:
            found[pair.again] = f"the same as {pair.kept}"
    return found


def _of(diagnosis: Diagnosis, kind: Kind) -> dict[str, Finding]:
    """The problems of a kind by stream."""
    return {finding.stream: finding for finding in diagnosis.problems if finding.kind == kind}


def _rates(store: EpisodeStore, diagnosis: Diagnosis) -> dict[str, float]:
    """Of streams whose rate is wrong in most episodes: the one their stamps show, without repeated pictures."""
    found = {}
    for name, finding in _of(diagnosis, "rate").items():
        if len(finding.episodes) <= len(diagnosis.measured) / 2:
            continue
        measured = diagnosis.measured.values()
        lasting = sum(one.clocks[name].lasts for one in measured)
        repeats = sum(len(one.pictures[name].repeats) for one in measured if name in one.pictures)
        frames = sum(one.clocks[name].count + sum(one.clocks[name].gaps.values()) for one in measured)
        found[name] = (frames - repeats) / lasting if lasting > 0 else store.streams[name].rate
    return found


@dataclass(frozen=True)
class Mended:
    """One episode, ready to be written, and what was done to it."""

    values: dict[str, np.ndarray]
    times: dict[str, np.ndarray]
    told: tuple[str, ...]


def mend(store: EpisodeStore, entry: Entry, diagnosis: Diagnosis) -> Mended:
    """Raises SakiyomiError when values are missing over more than a few frames: that cannot be mended."""
    told: list[str] = []
    times = {name: store.times(entry.id, name) for name in store.streams}
    values, keep = {}, {}
    one = diagnosis.measured[entry.id]
    for name, stream in store.streams.items():
        values[name] = store.values(entry.id, name)
        keep[name] = np.ones(len(times[name]), bool)
        if name in one.channels:
            values[name] = _numbers(name, values[name], stream, entry, one, diagnosis, told)
        if name in one.pictures and name in {**_of(diagnosis, "duplicate"), **_of(diagnosis, "rate")}:
            repeats = list(one.pictures[name].repeats)
            keep[name][repeats] = False
            told += [f"{len(repeats)} repeated pictures of {name} dropped"] if repeats else []
    _cut(entry.id, times, keep, store.streams, one, diagnosis, told)
    kept = {name: values[name][keep[name]] for name in values}
    return Mended(kept, {name: times[name][keep[name]] for name in times}, tuple(told))


def _numbers(
    name: str, values: np.ndarray, stream: Stream, entry: Entry, one: Measured, diagnosis: Diagnosis, told: list[str]
) -> np.ndarray:
    """Values [T, ...] of a stream with single missing, wild and repeated ones interpolated, and in one unit."""
    found, flat = one.channels[name], values.reshape(len(values), -1).astype(np.float64)
    wrong = ~np.isfinite(flat)
    if wrong.any():
        told.append(f"{int(wrong.sum())} missing values of {name} interpolated")
    outliers = _of(diagnosis, "outlier").get(name)
    if outliers and entry.id in outliers.episodes:
        wild = _wild(found.spikes, flat, outliers.threshold)
        wrong |= wild
        told += [f"{int(wild.sum())} wild values of {name} interpolated"] if wild.any() else []
    if name in _of(diagnosis, "duplicate") and stream.kind in STATE and found.repeats:
        wrong[list(found.repeats)] = True
        told.append(f"{len(found.repeats)} repeated rows of {name} interpolated")
    if wrong.any():
        flat = _interpolated(flat, wrong, f"episode {entry.id!r}, {name}")
    factor = _to_one_unit(name, stream, entry.id, diagnosis)
    if (factor != 1).any():
        flat = flat * factor
        turned = ", ".join(np.array(channel_names(stream, flat.shape[1]))[factor != 1])
        told.append(f"{turned} of {name} turned into {'radians' if factor.min() < 1 else 'degrees'}")
    elif not wrong.any():
        return values
    return flat.reshape(values.shape).astype(values.dtype)


def _wild(spikes: tuple[Spike, ...], flat: np.ndarray, least: float) -> np.ndarray:
    """Where [T, C] values are that jumped out, up to where they are back."""
    wild = np.zeros(flat.shape, bool)
    for spike in spikes:
        if spike.height < least:
            continue
        before = flat[spike.frame - 1, spike.channel]
        after = flat[spike.frame : spike.frame + LONGEST, spike.channel]
        out = np.abs(after - before) > spike.height / 2
        length = int(out.argmin()) if not out.all() else LONGEST
        wild[spike.frame : spike.frame + length, spike.channel] = True
    return wild


def _interpolated(flat: np.ndarray, wrong: np.ndarray, where: str) -> np.ndarray:
    """[T, C] with the wrong values on a straight line between their neighbours. Raises SakiyomiError for NaN over more
    than `LONGEST` frames, or at an end."""
    mended = flat.copy()
    frames = np.arange(len(flat))
    for channel in np.flatnonzero(wrong.any(0)):
        bad = wrong[:, channel]
        missing = ~np.isfinite(flat[:, channel])
        longest = max((run.length for run in runs(missing)), default=0)
        if longest > LONGEST or missing[0] or missing[-1]:
            raise SakiyomiError(f"{where}: values are missing over {longest} frames, or at its ends")
        mended[bad, channel] = np.interp(frames[bad], frames[~bad], flat[~bad, channel])
    return mended


def _to_one_unit(name: str, stream: Stream, id: str, diagnosis: Diagnosis) -> np.ndarray:
    """By what each channel [C] must be multiplied: 1, pi / 180, or 180 / pi where all others are in degrees."""
    measured = diagnosis.measured
    if name not in measured[id].sizes:
        return np.ones(1)
    sizes = measured[id].sizes[name].usual
    factor = np.ones(len(sizes))
    finding = _of(diagnosis, "unit").get(name)
    if finding is None or (finding.episodes and id not in finding.episodes):
        return factor
    named = np.array([label in finding.channels for label in channel_names(stream, len(sizes))])
    if finding.episodes:
        usual = np.median([one.sizes[name].usual for one in measured.values()], 0)
        factor[named] = np.where(sizes > usual, 1 / DEGREES, DEGREES)[named]
    else:  # of a whole store it is sure only where radians are stated
        factor[named & angles(stream, len(sizes))] = 1 / DEGREES
    return factor


def _cut(
    id: str,
    times: Mapping[str, np.ndarray],
    keep: dict[str, np.ndarray],
    streams: Mapping[str, Stream],
    one: Measured,
    diagnosis: Diagnosis,
    told: list[str],
) -> None:
    """Cut constant tails, and what streams do not have in common."""
    timed = [name for name, stream in streams.items() if stream.kind in (*NUMBERS, "image")]
    begin, end = -np.inf, np.inf
    for finding in diagnosis.problems:
        if finding.kind == "padding" and id in finding.episodes:
            tails = {**{n: c.tail for n, c in one.channels.items()}, **{n: p.tail for n, p in one.pictures.items()}}
            end = min(end, max(float(times[name][-1 - tails[name]]) for name in tails if watched(name, streams[name])))
            told.append(f"cut after {end - times[finding.stream][0]:.3g} s, where nothing changes any more")
        if finding.kind == "apart" and id in finding.episodes:
            begin = max(begin, *(float(times[name][0]) for name in timed))
            end = min(end, *(float(times[name][-1]) for name in timed))
            told.append(f"cut to the {end - begin:.3g} s that all streams have in common")
    for name in timed:
        half = 0.5 / streams[name].rate
        keep[name] &= (times[name] >= begin - half) & (times[name] <= end + half)
