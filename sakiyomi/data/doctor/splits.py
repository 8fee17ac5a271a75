"""Episodes that are there twice: in two splits (leakage) or in one.

Every episode leaves a sketch: its numbers at a few moments, its pictures as a few blurred patches. Episodes of
different splits with near sketches are read once more and laid over one another, shifted against each other, so that
a copy that was cut, noised or compressed is found too.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sakiyomi.data.doctor.findings import Finding, Kind, Tolerances, listed
from sakiyomi.data.doctor.recording import Recording, finite, read
from sakiyomi.data.episodes import Entry, EpisodeStore

MOMENTS, CHANNELS = 12, 24  # of numbers
PATCHES, GLANCES = 6, 4  # of pictures: patches a side, moments
COARSE = 0.5  # deviations between two sketches, from which on episodes are not laid over one another
NEAREST, MOST = 3, 400  # episodes that one is laid over; pairs in all
BLOCK = 1024  # sketches that are compared at a time
STILL = 0.3  # deviations within an episode; one in which less happens is like many
FLOOR = 0.05  # of the largest deviation of the stream: channels that hardly change count by this
PICTURES, ALONE = 4.0, 2.0  # times `near`, for pictures beside numbers and by themselves: noise is fresh in a new film


@dataclass(frozen=True)
class Sketch:
    """One episode: by stream the values at some moments, float32 [moments, channels]."""

    split: str
    digest: str
    numbers: dict[str, np.ndarray]
    pictures: dict[str, np.ndarray]


def measure(recording: Recording, entry: Entry) -> Sketch:
    numbers, pictures = {}, {}
    for name, values in recording.numbers.items():
        channels = np.unique(np.linspace(0, values.shape[1] - 1, CHANNELS).astype(int))
        moments = np.linspace(0, len(values) - 1, MOMENTS).round().astype(int)
        numbers[name] = finite(values[np.ix_(moments, channels)]).astype(np.float32)
    for name, frames in recording.pictures.items():
        moments = np.linspace(0, len(frames) - 1, GLANCES).round().astype(int)
        pictures[name] = blurred(frames[moments])
    return Sketch(recording.split, entry.sha256, numbers, pictures)


def blurred(pictures: np.ndarray) -> np.ndarray:
    """Means over patches of pictures [T, h, w, colours], [T, patches * colours]."""
    means = pictures.astype(np.float32)
    for axis in (1, 2):
        side = pictures.shape[axis]
        edges = np.linspace(0, side, min(PATCHES, side) + 1).astype(int)
        widths = np.diff(edges).reshape([-1 if at == axis else 1 for at in range(4)])
        means = np.add.reduceat(means, edges[:-1], axis) / widths
    return means.reshape(len(pictures), -1)


@dataclass(frozen=True)
class Pair:
    """Two episodes that are one: the same for so many frames, `off` deviations apart."""

    kept: str
    again: str
    off: float
    exact: bool


def pairs(sketches: Mapping[str, Sketch], store: EpisodeStore, tolerances: Tolerances) -> tuple[Pair, ...]:
    """Episodes that are there twice. `again` is the one to be left out: the later one, or the one for training where
    the other is not."""
    order = {id: number for number, id in enumerate(sketches)}
    found: dict[frozenset[str], Pair] = {}
    by_digest: dict[str, list[str]] = {}
    for id, sketch in sketches.items():
        by_digest.setdefault(sketch.digest, []).append(id)
    for same in by_digest.values():
        for other in same[1:]:
            found[frozenset((same[0], other))] = _pair(same[0], other, 0.0, True, sketches, order)
    deviations = {name: _deviation(sketches, name) for name in _streams(sketches)}
    moving = {id: one for id, one in sketches.items() if _moves(one, deviations)}
    for a, b in _near(moving, deviations):
        if frozenset((a, b)) in found:
            continue
        off = _laid_over(a, b, store, deviations, tolerances)
        if off is not None:
            found[frozenset((a, b))] = _pair(a, b, off, off == 0, sketches, order)
    return tuple(found.values())


def _pair(a: str, b: str, off: float, exact: bool, sketches: Mapping[str, Sketch], order: Mapping[str, int]) -> Pair:
    training = [sketches[id].split == "train" for id in (a, b)]
    again = (a if training[0] else b) if training[0] != training[1] else max(a, b, key=lambda id: order[id])
    return Pair(b if again == a else a, again, off, exact)


def _streams(sketches: Mapping[str, Sketch]) -> tuple[str, ...]:
    first = next(iter(sketches.values()))
    return (*first.numbers, *first.pictures)


def _of(sketch: Sketch, name: str) -> np.ndarray:
    return sketch.numbers[name] if name in sketch.numbers else sketch.pictures[name]


def _deviation(sketches: Mapping[str, Sketch], name: str) -> np.ndarray:
    """Of a stream over all episodes: by channel of numbers, one number for pictures; never 0 unless nothing moves."""
    values = np.concatenate([_of(sketch, name) for sketch in sketches.values()]).astype(np.float64)
    if name not in next(iter(sketches.values())).numbers:
        return np.array(max(float(values.std(0).max()), 1.0))
    deviation = values.std(0)
    return np.maximum(deviation, FLOOR * deviation.max(initial=0.0))


def _moves(sketch: Sketch, deviations: Mapping[str, np.ndarray]) -> bool:
    """Whether enough happens in an episode to tell it from others."""
    return any(
        float((_of(sketch, name) / np.where(deviation > 0, deviation, np.inf)).std(0).max(initial=0.0)) > STILL
        for name, deviation in deviations.items()
    )


def _near(sketches: Mapping[str, Sketch], deviations: Mapping[str, np.ndarray]) -> list[tuple[str, str]]:
    """Pairs of different splits whose sketches are near, nearest first. Compared stream by stream: the mean over
    streams of mean squared differences, in deviations."""
    names = [name for name in deviations if deviations[name].max(initial=0.0) > 0]
    if not sketches or not names or len({sketch.split for sketch in sketches.values()}) < 2:
        return []
    ids = list(sketches)
    rows = np.stack([_row(sketches[id], names, deviations) for id in ids])
    splits = np.array([sketches[id].split for id in ids])
    some = np.flatnonzero(splits != "train") if (splits == "train").any() else np.arange(len(ids))
    squares = (rows**2).sum(1)
    candidates: list[tuple[float, str, str]] = []
    for begin in range(0, len(some), BLOCK):
        block = some[begin : begin + BLOCK]
        distance = squares[block, None] + squares - 2 * rows[block] @ rows.T
        distance[splits[block, None] == splits] = np.inf
        nearest = np.argsort(distance, axis=1)[:, :NEAREST]
        for row, at in enumerate(block):
            near = [other for other in nearest[row] if distance[row, other] < COARSE**2]
            candidates += [(float(distance[row, other]), ids[other], ids[at]) for other in near]
    return [(a, b) for _, a, b in sorted(candidates)[:MOST]]


def _row(sketch: Sketch, names: list[str], deviations: Mapping[str, np.ndarray]) -> np.ndarray:
    """A sketch as one vector: squared distances of these are means over streams, in deviations."""
    parts = []
    for name in names:
        deviation = deviations[name]
        moves = np.broadcast_to(deviation > 0, _of(sketch, name).shape)
        scaled = (_of(sketch, name) / np.where(deviation > 0, deviation, 1))[moves]
        parts.append(scaled / np.sqrt(len(scaled) * len(names)))
    return np.concatenate(parts).astype(np.float32)


def _laid_over(
    a: str, b: str, store: EpisodeStore, deviations: Mapping[str, np.ndarray], tolerances: Tolerances
) -> float | None:
    """How far apart two episodes are where they fit best, the worst of their streams; None if they are not one."""
    one, two = read(store, store.entry(a)), read(store, store.entry(b))
    guide = next(iter(one.numbers), None) or next(iter(one.pictures))
    rate = store.streams[guide].rate
    shift = _best_shift(_rows(one, guide), _rows(two, guide), tolerances.overlap)
    worst = 0.0
    for name, deviation in deviations.items():
        if not deviation.max(initial=0.0) > 0:
            continue
        here = round(shift / rate * store.streams[name].rate)
        off = _apart(_rows(one, name), _rows(two, name), here, deviation)
        limit = tolerances.near
        if name in one.pictures:
            limit *= PICTURES if one.numbers else ALONE
        if off is None or off > limit:
            return None
        worst = max(worst, off)
    return worst


def _rows(recording: Recording, name: str) -> np.ndarray:
    """[T, N], the channels or patches that sketches hold."""
    if name in recording.numbers:
        values = finite(recording.numbers[name])
        return values[:, np.unique(np.linspace(0, values.shape[1] - 1, CHANNELS).astype(int))]
    return blurred(recording.pictures[name])


def _best_shift(a: np.ndarray, b: np.ndarray, overlap: float) -> int:
    """By so many frames `b` [T', N] must be moved back to lie on `a` [T, N] best; coarsely, then every frame."""
    shortest = min(len(a), len(b))
    least = max(1, int(np.ceil(overlap * shortest)))
    low, high = -(len(b) - least), len(a) - least
    step = max(1, (high - low) // 64)
    coarse = min(range(low, high + 1, step), key=lambda shift: _squared(a, b, shift))
    return min(range(max(low, coarse - step), min(high, coarse + step) + 1), key=lambda shift: _squared(a, b, shift))


def _squared(a: np.ndarray, b: np.ndarray, shift: int) -> float:
    first, second = _common(a, b, shift)
    scale = np.maximum(a.std(0), 1e-9) if len(a) > 1 else 1.0
    return float((((first - second) / scale) ** 2).mean())


def _common(a: np.ndarray, b: np.ndarray, shift: int) -> tuple[np.ndarray, np.ndarray]:
    """The frames that lie on one another when `b` begins at frame `shift` of `a`."""
    begin, end = max(0, shift), min(len(a), len(b) + shift)
    return a[begin:end], b[begin - shift : end - shift]


def _apart(a: np.ndarray, b: np.ndarray, shift: int, deviation: np.ndarray) -> float | None:
    first, second = _common(a, b, shift)
    if not len(first):
        return None
    moves = np.broadcast_to(deviation > 0, first.shape)
    scaled = (first - second) / np.where(deviation > 0, deviation, 1)
    return float(np.sqrt((scaled[moves] ** 2).mean()))


def judge(found: tuple[Pair, ...], entries: Mapping[str, Entry], tolerances: Tolerances) -> list[Finding]:
    """Leakage where the two are in different splits, copies where they are in one."""
    findings: list[Finding] = []
    across = [pair for pair in found if entries[pair.kept].split != entries[pair.again].split]
    within = [pair for pair in found if entries[pair.kept].split == entries[pair.again].split]
    kinds: tuple[Kind, Kind] = ("leakage", "copy")
    for kind, some in zip(kinds, (across, within), strict=True):
        if not some:
            continue
        first = min(some, key=lambda pair: pair.off)
        places = " and ".join(f"{id} ({entries[id].split})" for id in (first.again, first.kept))
        again = listed(tuple(pair.again for pair in some))
        alike = "exactly" if first.exact else f"to {100 * first.off:.2g} % of the deviation"
        told = f"{len(some)} episodes are there twice: {places} are the same {alike}" + (
            f"; to be left out: {again}" if len(some) > 1 else ""
        )
        ids = tuple(dict.fromkeys(id for pair in (first, *some) for id in (pair.again, pair.kept)))
        findings.append(Finding(kind, "problem", told, len(some), "episodes", 1, ids))
    return findings
