"""Tails: episodes that were filled up to a common length with their last frame, and single streams that stopped."""

from collections.abc import Mapping

import numpy as np

from sakiyomi.data.doctor.channels import Channels, stuck_steps
from sakiyomi.data.doctor.findings import Finding, Tolerances, listed
from sakiyomi.data.doctor.pictures import Pictures
from sakiyomi.data.doctor.recording import STATE
from sakiyomi.data.episodes import Stream

Numbers = Mapping[str, dict[str, Channels]]  # by episode and stream
Films = Mapping[str, dict[str, Pictures]]
Ends = Mapping[str, dict[str, Channels | Pictures]]


def watched(name: str, stream: Stream) -> bool:
    """Whether a stream's rest tells something: of bodies and films, and of several numbers at once; not of commands."""
    if stream.kind == "action" or name == "command":
        return False
    return stream.kind in (*STATE, "image") or (stream.kind == "scalar" and stream.shape not in ((), (1,)))


def judge(numbers: Numbers, films: Films, streams: Mapping[str, Stream], tolerances: Tolerances) -> list[Finding]:
    """Padding where all of them end with the same rest, frozen where one stops before the others."""
    first = next(iter(numbers))
    of = {id: {**numbers[id], **films[id]} for id in numbers}
    names = [name for name in of[first] if watched(name, streams[name])]
    names = [
        name
        for name in names
        if name not in films[first] or np.median([films[id][name].film for id in films]) < tolerances.film
    ]
    if not names:
        return []
    lively = [name for name in names if np.median([_liveliness(one[name]) for one in of.values()]) >= tolerances.lively]
    padded: dict[str, int] = {}
    stopped: dict[str, dict[str, int]] = {name: {} for name in lively}
    for id, one in of.items():
        seconds = {name: one[name].tail / streams[name].rate for name in lively}
        least = min(seconds, key=lambda name: seconds[name], default="")
        # A simulator that rests before it moves rests after it, too.
        if least and one[least].tail - one[least].head >= tolerances.tail_frames:
            padded[id] = one[least].tail
        for name in lively:
            stuck = stuck_steps(streams[name].rate, tolerances)
            if streams[name].kind in ("pose", "motion"):
                continue  # a thing that is pushed about may come to rest
            if len(lively) > 1 and (seconds[name] - seconds[least]) * streams[name].rate >= stuck:
                stopped[name][id] = one[name].tail
    padded = padded or _to_one_length(of, names, tolerances)
    found = _padding(padded, names[0], of, tolerances)
    for name, tails in stopped.items():
        if tails:
            worst = tuple(sorted(tails, key=lambda id: -tails[id]))
            longest = tails[worst[0]] / streams[name].rate
            told = f"{name} stands still for the last {longest:.3g} s as others go on, in {listed(worst)}"
            threshold = stuck_steps(streams[name].rate, tolerances) / streams[name].rate
            at = of[worst[0]][name].count - tails[worst[0]]
            found.append(Finding("frozen", "problem", told, longest, "s", threshold, worst, name, (), (at,)))
    return found


def _liveliness(one: Channels | Pictures) -> float:
    """Share of steps, the tail left out, at which something changes."""
    return one.lively_whole if isinstance(one, Channels) else 1 - one.rests


def _to_one_length(of: Ends, names: list[str], tolerances: Tolerances) -> dict[str, int]:
    """Tails of recordings that may rest exactly: padding is where most end so, all equally long, and rest unequally."""
    if any(len({one[name].count for one in of.values()}) > 1 for name in names):
        return {}
    tails = {id: min(one[name].tail for name in names) for id, one in of.items()}
    padded = {id: tail for id, tail in tails.items() if tail >= tolerances.tail_frames}
    return padded if len(padded) > len(of) / 2 and len(set(padded.values())) > 2 else {}


def _padding(padded: Mapping[str, int], name: str, of: Ends, tolerances: Tolerances) -> list[Finding]:
    if not padded:
        return []
    worst = tuple(sorted(padded, key=lambda id: -padded[id]))
    total, most = sum(padded.values()), padded[worst[0]]
    frames = sum(one[name].count for one in of.values())
    told = f"{len(padded)} episodes end with the same frame again and again, up to {most} times "
    told += f"({100 * total / frames:.2g} % of all frames are padding), in {listed(worst)}"
    last = of[worst[0]][name].count - 1
    shown = (max(last - most - 2, 0), last - most, last)
    return [Finding("padding", "problem", told, most, "frames", tolerances.tail_frames, worst, name, (), shown)]
