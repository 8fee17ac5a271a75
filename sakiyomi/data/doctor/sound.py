"""Sound: samples that are cut off at the limits of their type."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sakiyomi.data.doctor.findings import Finding, Tolerances, listed
from sakiyomi.data.doctor.recording import Recording
from sakiyomi.data.episodes import Stream


@dataclass(frozen=True)
class Sound:
    """Of one stream of samples: how many there are, and how many lie in a row on the limits of their type."""

    count: int
    clipped: int
    first: int
    """Sample where the first such run begins; -1 where there is none."""


def measure(recording: Recording, streams: Mapping[str, Stream], tolerances: Tolerances) -> dict[str, Sound]:
    """Of every stream of samples that are integers."""
    found = {}
    for name, values in recording.others.items():
        if streams[name].kind == "audio" and np.issubdtype(values.dtype, np.integer):
            limits = np.iinfo(values.dtype)
            full = ((values == limits.min) | (values == limits.max)).reshape(len(values), -1).any(1)
            edges = np.flatnonzero(np.diff(np.concatenate(([0], full.astype(np.int8), [0]))))
            length = edges[1::2] - edges[::2]
            long = length >= tolerances.flat
            found[name] = Sound(len(values), int(length[long].sum()), int(edges[::2][long][0]) if long.any() else -1)
    return found


def judge(measured: Mapping[str, dict[str, Sound]], tolerances: Tolerances) -> list[Finding]:
    """Of all episodes together."""
    found = []
    for name in next(iter(measured.values())):
        of = {id: one[name] for id, one in measured.items()}
        share = {id: sound.clipped / sound.count for id, sound in of.items()}
        bad = tuple(sorted((id for id in share if share[id] > tolerances.clipped), key=lambda id: -share[id]))
        if bad:
            most, threshold = 100 * share[bad[0]], 100 * tolerances.clipped
            told = f"{name} is cut off at the limits of its samples, up to {most:.2g} % of them, in {listed(bad)}"
            at = (of[bad[0]].first,)
            found.append(Finding("saturation", "problem", told, most, "%", threshold, bad, name, (), at))
    return found
