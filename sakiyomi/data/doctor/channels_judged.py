"""What the figures of channels of all episodes say together: values that are none, that stand still, repeat, are cut
off, or jump out and back. `sakiyomi.data.doctor.channels` takes the figures."""

from collections.abc import Mapping

import numpy as np

from sakiyomi.data.doctor.channels import Channels, Spike, stuck_steps
from sakiyomi.data.doctor.findings import Finding, Severity, Tolerances, listed
from sakiyomi.data.doctor.recording import STATE, channel_names, channels_told
from sakiyomi.data.episodes import Stream

Measured = Mapping[str, dict[str, Channels]]  # by episode and stream


def judge(measured: Measured, streams: Mapping[str, Stream], tolerances: Tolerances) -> list[Finding]:
    """Of all episodes together."""
    found: list[Finding] = []
    names = list(next(iter(measured.values()))) if measured else []
    for name in names:
        of = {id: measured[id][name] for id in measured}
        labels = channel_names(streams[name], len(next(iter(of.values())).low))
        found += _not_finite(name, of, labels, streams[name])
        found += _constant(name, of, labels, measured, streams)
        found += _frozen(name, of, labels, streams[name], tolerances)
        found += _duplicates(name, of, streams[name], tolerances)
        found += _saturated(name, of, labels, streams[name], tolerances)
        found += _outliers(name, of, labels, streams[name], tolerances)
    return found


def _not_finite(name: str, of: Mapping[str, Channels], labels: tuple[str, ...], stream: Stream) -> list[Finding]:
    bad = sorted((id for id in of if of[id].bad.any()), key=lambda id: -int(of[id].bad.sum()))
    if not bad:
        return []
    total = sum(int(of[id].bad.sum()) for id in bad)
    where = np.any([of[id].bad > 0 for id in bad], axis=0)
    names = tuple(label for label, hit in zip(labels, where, strict=True) if hit)
    told = f"{total} values of {channels_told(names, name, stream)} are NaN or infinite, in {listed(tuple(bad))}"
    at = of[bad[0]].bad_at
    return [Finding("not finite", "problem", told, total, "values", 1, tuple(bad), name, names, at)]


def _constant(
    name: str, of: Mapping[str, Channels], labels: tuple[str, ...], measured: Measured, streams: Mapping[str, Stream]
) -> list[Finding]:
    """Channels that are the same in the whole store: a problem where they were commanded to move, else a note."""
    low, high = np.min([c.low for c in of.values()], 0), np.max([c.high for c in of.values()], 0)
    still = low == high
    if not still.any() or sum(c.count for c in of.values()) < 2:
        return []
    asked = np.zeros(len(still), bool)
    if streams[name].kind == "joints" and name != "command" and streams.get("command", streams[name]) != streams[name]:
        commands = [channels["command"] for channels in measured.values()]
        if len(commands[0].low) == len(still):
            asked = np.min([c.low for c in commands], 0) < np.max([c.high for c in commands], 0)
    found = []
    cases: tuple[tuple[np.ndarray, Severity, str], ...] = (
        (still & asked, "problem", ", though commanded to move"),
        (still & ~asked, "note", ""),
    )
    for which, severity, why in cases:
        names = tuple(label for label, hit in zip(labels, which, strict=True) if hit)
        if names:
            never = "never changes" if len(names) == 1 else "never change"
            told = f"{channels_told(names, name, streams[name])} {never} in the whole store{why}"
            found.append(Finding("frozen", severity, told, len(names), "channels", 1, (), name, names))
    return found


def _frozen(
    name: str, of: Mapping[str, Channels], labels: tuple[str, ...], stream: Stream, tolerances: Tolerances
) -> list[Finding]:
    """Channels that stand perfectly still for a while as others move, though they otherwise change at nearly every
    step; or, of encoders that rest exactly, that stop and go on abruptly."""
    if stream.kind not in ("joints", "scalar") or name == "command":
        return []  # what is asked for may well stay the same; so may a thing that lies there, or a foot on the floor
    stuck = stuck_steps(stream.rate, tolerances)
    lively = np.median([c.lively for c in of.values()], 0) >= tolerances.lively
    found = []
    for channel in range(len(labels)):
        long = {
            id: c.rest[channel]
            for id, c in of.items()
            if c.rest[channel, 1] >= stuck
            and (c.rest_alone[channel] > 0.5 or len(labels) == 1)
            and (lively[channel] or (stream.kind == "joints" and c.rest_abrupt[channel]))
        }
        if not long or len(long) > max(1, tolerances.usual * len(of)):
            continue
        worst = tuple(sorted(long, key=lambda id: -int(long[id][1])))
        first, length = (int(n) for n in long[worst[0]])
        seconds = length / stream.rate
        others = " as others move" if len(labels) > 1 else ""
        who = channels_told((labels[channel],), name, stream)
        told = f"{who} stands still for up to {seconds:.3g} s{others}, in {listed(worst)}"
        shown = (max(first - 1, 0), first + length - 1)
        threshold = stuck / stream.rate
        found.append(
            Finding("frozen", "problem", told, seconds, "s", threshold, worst, name, (labels[channel],), shown)
        )
    return found


def _duplicates(name: str, of: Mapping[str, Channels], stream: Stream, tolerances: Tolerances) -> list[Finding]:
    """Rows that repeat, of what is measured of a body; commands may well be held."""
    counts = {id: len(c.repeats) for id, c in of.items() if c.repeats}
    if not counts or stream.kind not in STATE:
        return []
    total, worst = sum(counts.values()), tuple(sorted(counts, key=lambda id: -counts[id]))
    share = float(np.median([c.held for c in of.values()]))
    if share > tolerances.held:
        told = (
            f"{name} claims {stream.rate:.4g} Hz, but {100 * share:.0f} % of its changes come after a value that was "
        )
        told += "there twice: it is slower"
        return [Finding("rate", "problem", told, 100 * share, "%", 100 * tolerances.held, worst, name)]
    # Things that are pushed about rest exactly, and start and stop abruptly; joints do not.
    rests = float(np.median([c.rests for c in of.values()]))
    calm = stream.kind == "motion" and rests < 1 - tolerances.lively
    severity = "problem" if stream.kind == "joints" or calm else "note"
    told = f"{total} frames of {name} repeat the one before as it moves, in {listed(worst)}"
    return [Finding("duplicate", severity, told, total, "frames", 1, worst, name, (), of[worst[0]].repeats[:3])]


def _saturated(
    name: str, of: Mapping[str, Channels], labels: tuple[str, ...], stream: Stream, tolerances: Tolerances
) -> list[Finding]:
    """Flat tops at the extremes of the store, of channels that never rest; of joints that do, abrupt ones. Feet that
    stand on the floor are not cut off: features of motion are left out."""
    if stream.kind == "motion":
        return []
    low, high = np.min([c.low for c in of.values()], 0), np.max([c.high for c in of.values()], 0)
    frames = sum(c.count for c in of.values())
    lively = np.median([c.lively for c in of.values()], 0) >= tolerances.lively
    found = []
    at_limit = np.ones(len(labels), bool)
    if stream.kind == "action" or name == "command":
        # A plan may hold one value; only at a stated limit it was cut off.
        at_limit = np.isin(low, stream.low) | np.isin(high, stream.high)
    at_limit &= lively | (stream.kind == "joints")
    for channel in np.flatnonzero(at_limit & (low < high)):
        which = 0 if lively[channel] else 1  # what rests by nature is cut off only where it stops abruptly
        flat = {}
        for id, c in of.items():
            ends = (c.low[channel] == low[channel], c.high[channel] == high[channel])
            count = sum(int(c.flat[channel, side, which]) for side in (0, 1) if ends[side])
            if count:
                flat[id] = count
        share = sum(flat.values()) / frames
        if share <= tolerances.flat_share:
            continue
        worst = tuple(sorted(flat, key=lambda id: -flat[id]))
        limits = " and ".join(f"{float(v):.4g}" for v in (low[channel], high[channel]))
        told = (
            f"{channels_told((labels[channel],), name, stream)} is cut off: {100 * share:.2g} % of its values lie flat "
            f"on its extremes ({limits}), in {listed(worst)}"
        )
        at = int(of[worst[0]].flat_at[channel])
        amount, threshold = 100 * share, 100 * tolerances.flat_share
        names = (labels[channel],)
        found.append(
            Finding("saturation", "problem", told, amount, "%", threshold, worst, name, names, (at,) if at >= 0 else ())
        )
    return found


def _outliers(
    name: str, of: Mapping[str, Channels], labels: tuple[str, ...], stream: Stream, tolerances: Tolerances
) -> list[Finding]:
    """Jumps out and back; of what may jump by nature, only those far out of all other values."""
    lows, highs = np.stack([c.middle for c in of.values()], axis=1)
    # Quartiles over episodes: some of them may be in other units.
    ranges = np.percentile(highs, 75, axis=0) - np.percentile(lows, 25, axis=0)
    least = (tolerances.spike_range if stream.kind in STATE else tolerances.far) * ranges
    least = np.maximum(least, tolerances.spike_least * ranges.max(initial=0.0))
    beyond = 2 * ranges.max(initial=0.0)  # what no channel of the stream comes near is no bump
    found: dict[str, list[Spike]] = {}
    for id, c in of.items():
        kept = [one for one in c.spikes if one.height > least[one.channel]]
        if kept:
            found[id] = sorted(kept, key=lambda one: -one.height)
    if not found:
        return []
    total = sum(len(kept) for kept in found.values())
    moves = any(one.moves or one.height > beyond for kept in found.values() for one in kept)
    sure = stream.kind == "joints" or (stream.kind != "motion" and moves)
    worst = tuple(sorted(found, key=lambda id: -found[id][0].height))
    names = tuple(labels[channel] for channel in sorted({one.channel for kept in found.values() for one in kept}))
    height = found[worst[0]][0].height
    who = channels_told(names, name, stream)
    told = f"{total} values of {who} jump out and back, by up to {height:.3g}, in {listed(worst)}"
    shown = tuple(sorted({one.frame for one in found[worst[0]]})[:3])
    unit = stream.unit if stream.unit and ";" not in stream.unit else "of the stream"  # which may have several
    threshold = float(least[found[worst[0]][0].channel])
    severity = "problem" if sure else "note"
    return [Finding("outlier", severity, told, height, unit, threshold, worst, name, names, shown)]
