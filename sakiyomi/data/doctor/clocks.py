"""Clocks: dropped frames, jitter, the true rate against the claimed one, streams that drift or end apart; and
episodes that are too short. Only stamps are looked at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sakiyomi.data.doctor.findings import Finding, Tolerances, listed
from sakiyomi.data.doctor.recording import NUMBERS, Recording
from sakiyomi.data.episodes import Stream

FEW = 8  # intervals; of less there is no usual deviation


@dataclass(frozen=True)
class Clock:
    """What one stream's stamps of one episode say. `period` s is the median interval, `mean` s the mean of all that
    are no gap, `jitter` their deviation in periods; `gaps` maps the frame after a gap to how many are missing before
    it. That a clock runs forwards the store sees to: it refuses the file else, which counts as damaged."""

    count: int
    start: float
    end: float
    period: float
    mean: float
    jitter: float
    gaps: dict[int, int]

    @property
    def lasts(self) -> float:
        """s, the last frame's own time included."""
        return self.end - self.start + self.mean


def timed(streams: Mapping[str, Stream]) -> tuple[str, ...]:
    """The streams whose frames follow a clock: not labels and tokens, which are there once; nor samples of sound."""
    return tuple(name for name, stream in streams.items() if stream.kind in (*NUMBERS, "image"))


def measure(recording: Recording, streams: Mapping[str, Stream], tolerances: Tolerances) -> dict[str, Clock]:
    """Of every timed stream."""
    return {name: clock(recording.times[name], streams[name].rate, tolerances) for name in timed(streams)}


def clock(times: np.ndarray, rate: float, tolerances: Tolerances) -> Clock:
    """`times` [T] s; of one frame, the claimed `rate` in Hz is all that is known."""
    steps = np.diff(times)
    usual = float(np.median(steps)) if len(steps) else 1 / rate
    deviation = 1.4826 * float(np.median(np.abs(steps - usual))) if len(steps) else 0.0
    gap = (steps > tolerances.gap * usual) & (steps - usual > tolerances.gap_over_jitter * deviation)
    kept = steps[~gap]
    mean = float(kept.mean()) if len(kept) else usual
    return Clock(
        count=len(times),
        start=float(times[0]),
        end=float(times[-1]),
        period=usual,
        mean=mean,
        jitter=float(kept.std() / usual) if len(kept) >= FEW and usual > 0 else 0.0,
        gaps={int(at) + 1: max(1, round(float(steps[at]) / usual) - 1) for at in np.flatnonzero(gap)},
    )


Clocks = Mapping[str, dict[str, Clock]]  # by episode and stream


def judge(clocks: Clocks, streams: Mapping[str, Stream], tolerances: Tolerances) -> list[Finding]:
    """Of all episodes together."""
    names = timed(streams)
    found: list[Finding] = []
    for name in names:
        of = {id: clocks[id][name] for id in clocks}
        found += _gaps(name, of) + _jitter(name, of, tolerances)
        found += _rate(name, streams[name].rate, of, tolerances)
    if names:
        kinds = [streams[name].kind for name in names]
        reference = names[kinds.index("joints") if "joints" in kinds else 0]
        for name in names:
            if name != reference:
                found += _together(name, reference, clocks, streams, tolerances)
        found += _short(reference, {id: clocks[id][reference] for id in clocks}, tolerances)
    return found


def _gaps(name: str, of: Mapping[str, Clock]) -> list[Finding]:
    missing = {id: sum(clock.gaps.values()) for id, clock in of.items() if clock.gaps}
    if not missing:
        return []
    worst = tuple(sorted(missing, key=lambda id: -missing[id]))
    total, frames = sum(missing.values()), sum(clock.count for clock in of.values())
    longest = max(count for id in worst for count in of[id].gaps.values())
    told = (
        f"{total} frames of {name} are missing ({100 * total / (frames + total):.2g} %), at most {longest} in a row, "
        f"in {listed(worst)}"
    )
    first = of[worst[0]].gaps
    frames_shown = tuple(sorted(sorted(first, key=lambda at: -first[at])[:3]))
    return [Finding("dropped", "problem", told, total, "frames", 1, worst, name, (), frames_shown)]


def _jitter(name: str, of: Mapping[str, Clock], tolerances: Tolerances) -> list[Finding]:
    bad = tuple(sorted((id for id in of if of[id].jitter > tolerances.jitter), key=lambda id: -of[id].jitter))
    if not bad:
        return []
    worst = of[bad[0]].jitter
    told = f"intervals of {name} vary by up to {100 * worst:.0f} % of a period, in {listed(bad)}"
    return [Finding("jitter", "problem", told, worst, "periods", tolerances.jitter, bad, name)]


def _rate(name: str, claimed: float, of: Mapping[str, Clock], tolerances: Tolerances) -> list[Finding]:
    off = {id: 1 / (clock.mean * claimed) - 1 for id, clock in of.items() if clock.count > FEW and clock.mean > 0}
    bad = tuple(sorted((id for id in off if abs(off[id]) > tolerances.rate), key=lambda id: -abs(off[id])))
    if not bad:
        return []
    all_of_them = len(bad) > len(off) / 2
    typical = float(np.median([off[id] for id in bad]))
    where = f"in {len(bad)} of {len(of)} episodes" if all_of_them else f"in {listed(bad)}"
    told = f"{name} claims {claimed:.4g} Hz, its stamps say {claimed * (1 + typical):.4g} Hz, {where}"
    amount = 100 * abs(typical)
    return [Finding("rate", "problem", told, amount, "%", 100 * tolerances.rate, bad, name)]


def _together(
    name: str, reference: str, clocks: Clocks, streams: Mapping[str, Stream], tolerances: Tolerances
) -> list[Finding]:
    """Whether two streams began and ended together; if not, whether one clock runs faster or it was cut off."""
    ids = [id for id, of in clocks.items() if of[name].count > FEW and of[reference].count > FEW]
    if not ids:
        return []
    mine, other = [clocks[id][name] for id in ids], [clocks[id][reference] for id in ids]
    lasting = np.array([a.lasts for a in other])
    longer = np.array([a.lasts - b.lasts for a, b in zip(mine, other, strict=True)])
    ends = np.array([a.end - b.end for a, b in zip(mine, other, strict=True)])
    starts = np.array([a.start - b.start for a, b in zip(mine, other, strict=True)])
    slow = np.array([max(a.mean, b.mean) for a, b in zip(mine, other, strict=True)])
    # Streams that are recorded in one loop have as many frames each; else their ends may lie a frame apart.
    equal = np.mean([a.count == b.count for a, b in zip(mine, other, strict=True)]) > 0.9
    lockstep = equal and streams[name].rate == streams[reference].rate
    found, relative = [], longer / lasting
    allowed = 0.0 if lockstep else float(np.mean([(a.mean + b.mean) / 2 for a, b in zip(mine, other, strict=True)]))
    drift, many = float(np.median(relative)), len(ids) >= 3
    error = 1.4826 * float(np.median(np.abs(relative - drift))) / np.sqrt(len(ids))
    consistent = many and abs(drift) > tolerances.sure * error and abs(float(np.median(longer))) > allowed
    if consistent and abs(drift) > tolerances.drift:
        told = (
            f"{name} lasts {100 * drift:+.2g} % longer than {reference} by its stamps, alike in all episodes: their "
            "clocks drift apart"
        )
        amount, threshold = 100 * abs(drift), 100 * tolerances.drift
        found.append(Finding("drift", "problem", told, amount, "%", threshold, tuple(ids), name))
        ends = ends - drift * lasting
    limit = np.maximum(tolerances.apart * lasting, tolerances.apart_frames * slow)
    by = np.maximum(np.abs(ends), np.abs(starts))
    bad = sorted(np.flatnonzero(by > limit), key=lambda at: -by[at])
    if bad:
        episodes = tuple(ids[at] for at in bad)
        told = f"{name} and {reference} begin or end up to {by[bad[0]]:.3g} s apart, in {listed(episodes)}"
        amount, threshold = float(by[bad[0]]), float(limit[bad[0]])
        found.append(Finding("apart", "problem", told, amount, "s", threshold, episodes, name))
    return found


def _short(name: str, of: Mapping[str, Clock], tolerances: Tolerances) -> list[Finding]:
    usual = float(np.median([clock.count for clock in of.values()]))
    least = max(float(tolerances.fewest), tolerances.short * usual)
    bad: Sequence[str] = sorted((id for id in of if of[id].count < least), key=lambda id: of[id].count)
    if not bad:
        return []
    shortest = of[bad[0]].count
    told = f"{listed(tuple(bad))} of only {shortest} frames and up; {usual:.0f} are usual"
    return [Finding("short", "problem", told, shortest, "frames", least, tuple(bad), name)]
