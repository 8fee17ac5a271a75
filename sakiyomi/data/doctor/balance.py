"""Balance: classes, tasks and starting places that are rare among the episodes for training."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sakiyomi.data.doctor.findings import Finding, Tolerances, listed
from sakiyomi.data.doctor.recording import STATE, Recording, channel_names, finite
from sakiyomi.data.episodes import Entry, Stream

NAMED = ("task", "label", "class", "instruction")  # of meta: what an episode is an example of
PLACE = "place"  # of meta: where it begins
SAME_PLACE = 0.15  # of the range of all starts: so near is one place
EXAMPLES = 3  # episodes a class, else each is its own
MEASURED = 0.1  # of a body's range: starts that differ by less are one pose


@dataclass(frozen=True)
class Examples:
    """What one episode is an example of: counts by class for each stream of labels, names from meta, its start."""

    split: str
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    named: dict[str, str] = field(default_factory=dict)
    place: tuple[float, ...] = ()
    start: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


def measure(recording: Recording, entry: Entry, streams: Mapping[str, Stream]) -> Examples:
    labels = {
        name: recording.others[name].astype(np.float64).sum(0)
        for name, stream in streams.items()
        if stream.kind == "label" and len(stream.shape) == 1
    }
    named = {key: str(entry.meta[key]) for key in NAMED if isinstance(entry.meta.get(key), str | int)}
    body = next((name for name in recording.numbers if streams[name].kind in STATE), "")
    values = finite(recording.numbers[body]) if body else np.zeros((1, 0))
    ends = (tuple(v.tolist()) for v in (values[0], values.min(0), values.max(0)))
    return Examples(entry.split, labels, named, _numbers(entry.meta.get(PLACE)), *ends)


def _numbers(place: Any) -> tuple[float, ...]:
    """A place as coordinates; nothing if it is none."""
    if not isinstance(place, list | tuple) or not all(isinstance(value, int | float) for value in place):
        return ()
    return tuple(float(value) for value in place)


def judge(measured: Mapping[str, Examples], streams: Mapping[str, Stream], tolerances: Tolerances) -> list[Finding]:
    """Of the episodes for training."""
    training = {id: one for id, one in measured.items() if one.split == "train"}
    if not training:
        return []
    found: list[Finding] = []
    examples = list(training.values())
    for name in examples[0].labels:
        counts = np.sum([one.labels[name] for one in examples], 0)
        everywhere = np.sum([one.labels[name] for one in measured.values()], 0)
        labels = channel_names(streams[name], len(counts))
        found += _rare(name, dict(zip(labels, counts.tolist(), strict=True)), tolerances, everywhere > 0)
    for key in NAMED:
        values = Counter(one.named[key] for one in examples if key in one.named)
        if len(examples) >= tolerances.enough and len(values) > 1 and sum(values.values()) >= EXAMPLES * len(values):
            found += _rare(key, dict(values), tolerances, np.ones(len(values), bool))
    if len(training) >= tolerances.enough:
        found += _places(training, tolerances)
    return found


def _rare(stream: str, counts: Mapping[str, float], tolerances: Tolerances, exists: np.ndarray) -> list[Finding]:
    """Classes with far fewer examples than the median class; those that no split has are none."""
    shown = {name: count for (name, count), there in zip(counts.items(), exists, strict=True) if there}
    if len(shown) < 2 or sum(shown.values()) < tolerances.enough:
        return []
    # Of two classes the median is their mean, and a rare one hides behind it: there the larger one is the measure.
    usual = float(np.median(list(shown.values()))) if len(shown) > 2 else max(shown.values())
    rare = tuple(sorted((n for n in shown if shown[n] < tolerances.rare * usual), key=lambda n: shown[n]))
    if not rare:
        return []
    least = shown[rare[0]]
    told = f"{listed(rare)} of {stream}: as few as {least:.0f} examples to learn from, {usual:.0f} are usual"
    threshold = tolerances.rare * usual
    return [Finding("classes", "problem", told, least, "examples", threshold, (), stream, rare)]


def _places(training: Mapping[str, Examples], tolerances: Tolerances) -> list[Finding]:
    """Most episodes begin at one place, though others begin elsewhere, several of them."""
    places = [one.place for one in training.values()]
    stream = "place"
    if not all(places) or len({len(place) for place in places}) > 1:
        low = np.min([one.low for one in training.values()], 0)
        high = np.max([one.high for one in training.values()], 0)
        starts = np.array([one.start for one in training.values()])
        spread = np.ptp(starts, axis=0) if starts.size else np.zeros(0)
        moves = high > low if starts.size else np.zeros(0, bool)
        if not moves.any() or (spread[moves] < MEASURED * (high - low)[moves]).all():
            return []  # all begin in one pose, as they should where the world differs and not the body
        places, stream = (starts / np.where(moves, high - low, 1.0))[:, moves], "start"
    points = np.array(places, float)
    ranges = np.ptp(points, axis=0)
    points = points[:, ranges > 0] / ranges[ranges > 0]
    if points.shape[1] == 0:
        return []
    sizes = _clusters(points)
    repeated = [size for size in sizes if size >= 2]
    share = max(sizes) / len(points)
    if len(repeated) < 2 or share <= tolerances.crowded:
        return []
    told = f"{100 * share:.0f} % of the episodes to learn from begin at one {stream} of {len(sizes)}"
    return [Finding("places", "problem", told, 100 * share, "%", 100 * tolerances.crowded, (), stream)]


def _clusters(points: np.ndarray) -> list[int]:
    """How many of the points [N, D] lie around each of those that are not near an earlier one."""
    left, sizes = points, []
    while len(left):
        near = np.abs(left - left[0]).max(1) < SAME_PLACE
        sizes.append(int(near.sum()))
        left = left[~near]
    return sizes
