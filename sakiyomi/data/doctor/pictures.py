"""Pictures: repeated and frozen ones, over- and underexposed ones, light and colour that differ between episodes.

Streams whose neighbouring pictures have nothing to do with each other (a set of digits) are no film: of them only
brightness is compared.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sakiyomi.data.doctor.channels import USUAL, held_share, leaps, moving_repeats, stuck_steps, unchanged_tail
from sakiyomi.data.doctor.findings import Finding, Kind, Tolerances, listed
from sakiyomi.data.doctor.recording import STATE, Recording, finite, runs
from sakiyomi.data.episodes import Stream

APART = 10.0  # grey levels between any two pictures, from which on they can be told to be no film
QUIET = 10  # percentile of changes that stands for noise
NOISY = 0.5  # share of pixels that change; a camera's noise changes nearly all of them
JUMP = 2.0  # times as much change as before and after: what was missed comes at once
SLOW = 0.1  # of its usual step: a body that moves less is at rest
TINY = 1e-6  # of the largest value: less is the last digit of a float
FLOOR = 1.0  # grey levels added to brightness, so that black has a logarithm
WHITE, BLACK = 254, 1  # a lossy codec moves the ends by one
PALE, DIM = 215, 40  # grey levels: nothing darker, nothing brighter than that in a whole store is a wrong exposure


@dataclass(frozen=True)
class Pictures:
    """What one stream's pictures [T, h, w, colours] of one episode say."""

    count: int
    film: float
    """Change between neighbours over change between any two; 0 where hardly anything changes."""
    brightness: float
    """Natural logarithm of the mean grey level."""
    balance: tuple[float, float]
    """Natural logarithms of red over green and blue over green; 0 of grey pictures."""
    white: float
    black: float
    """Share of grey levels at the ends of the range, each colour counted."""
    darkest: float
    brightest: float
    """1st and 99th percentile of all grey levels."""
    flashes: tuple[int, ...]
    """Pictures much darker or brighter than their neighbours on both sides."""
    repeats: tuple[int, ...]
    """Frames that show the picture before once more, as things move."""
    held: float
    """Share of changes that come right after a repeated picture."""
    rests: float
    """Share of steps without a change, repeats and the tail not counted."""
    head: int
    """Pictures at the beginning that repeat the first one."""
    tail: int
    """Pictures at the end that repeat the last one."""
    stands: tuple[int, int]
    """First frame and length of the longest rest, the tail not counted."""
    between: bool
    """Whether much changes right before that rest and right after it, or very much after it."""
    leapt: bool
    """Whether right after that rest more changes than ever else."""
    noisy: float
    """Share of pixels that change from picture to picture, median: nearly all of a camera's, few of a drawing's."""
    goes: bool
    """Whether a body is recorded that shows when things move."""
    moved: float
    """How fast the body moved during that rest, in usual steps; 1 if it is not recorded."""


def measure(recording: Recording, streams: Mapping[str, Stream], tolerances: Tolerances) -> dict[str, Pictures]:
    """Of every stream of pictures."""
    return {
        name: _measure(name, recording, stuck_steps(streams[name].rate, tolerances), streams, tolerances)
        for name in recording.pictures
    }


def _measure(
    name: str, recording: Recording, stuck: int, streams: Mapping[str, Stream], tolerances: Tolerances
) -> Pictures:
    pictures = recording.pictures[name]
    change = changes(pictures)
    noisy = _noisy(pictures, change)
    # What changes least still changes by the camera's noise; without noise, only the very same picture is a repeat.
    same = tolerances.same if noisy > NOISY else tolerances.same / 10
    still = change <= same * (float(np.percentile(change[change > 0], QUIET)) if change.any() else 0.0)
    tail = unchanged_tail(still)
    body, sizes = still[: len(still) - tail], change[: len(still) - tail, None]
    goes, leap = activity(recording, streams, recording.times[name]), leaps(sizes, body)
    if noisy > NOISY:
        repeats = tuple(at for run in runs(body) if run.length < stuck for at in range(run.first, run.last + 1))
        held = held_share(repeats, body)
    else:
        repeats = tuple(
            sorted({*moving_repeats(sizes, body, leap, stuck, tolerances), *_caught_up(sizes[:, 0], body, stuck)})
        )
        held = held_share(repeats, body)
        repeats = repeats if goes is None else _as_it_goes(repeats, body, leap, goes, tolerances.going)
    longest = max(runs(body), key=lambda run: run.length, default=None)
    stands = (longest.first, longest.length) if longest else (0, 0)
    usual = float(np.percentile(change, USUAL)) if len(change) else 0.0
    before, after = (float(change[at]) if 0 <= at < len(body) else 0.0 for at in (stands[0] - 2, sum(stands) - 1))
    means = pictures.reshape(len(pictures), -1, pictures.shape[-1]).mean(1, dtype=np.float64)
    light = np.log(means.mean(1) + FLOOR)
    colours = np.log(np.median(means, 0) + FLOOR)
    darkest, brightest = np.percentile(pictures, (1, 99))
    return Pictures(
        count=len(pictures),
        film=_film(pictures, change),
        brightness=float(np.median(light)),
        balance=(float(colours[0] - colours[1]), float(colours[2] - colours[1])) if len(colours) == 3 else (0.0, 0.0),
        white=float((pictures >= WHITE).mean()),
        black=float((pictures <= BLACK).mean()),
        darkest=float(darkest),
        brightest=float(brightest),
        flashes=_flashes(light, tolerances.dark),
        repeats=repeats,
        held=held,
        rests=(float(body.sum()) - len(repeats)) / max(1, len(body)),
        head=unchanged_tail(still[::-1]),
        tail=tail,
        noisy=noisy,
        goes=goes is not None,
        stands=stands,
        between=min(before, after) > tolerances.moving * usual or after > usual,
        leapt=bool(leap[sum(stands) - 1 :][:1].any()) if stands[1] else False,
        moved=1.0 if goes is None or not stands[1] else float(goes[stands[0] - 1 :][: stands[1]].mean()),
    )


def changes(pictures: np.ndarray) -> np.ndarray:
    """Mean absolute difference of neighbouring pictures [T, h, w, colours], grey levels, [T - 1]."""
    between = np.abs(np.diff(pictures.astype(np.int16), axis=0))
    return between.reshape(len(between), -1).mean(1) if len(between) else np.zeros(0)


def _caught_up(change: np.ndarray, still: np.ndarray, stuck: int) -> tuple[int, ...]:
    """Repeated pictures that are followed by a jump: more changes at once than right before them and right after."""
    found: list[int] = []
    for run in runs(still):
        before, jump, after = run.first - 2, run.last, run.last + 1
        if run.length >= stuck or before < 0 or after >= len(change):
            continue
        sides = change[before], change[after]
        if min(sides) > 0 and change[jump] > JUMP * max(sides):
            found += range(run.first, run.last + 1)
    return tuple(found)


def _as_it_goes(
    repeats: tuple[int, ...], still: np.ndarray, leap: np.ndarray, goes: np.ndarray, going: float
) -> tuple[int, ...]:
    """Those of repeated pictures at which the body moves at `going`; where the picture leaps after them, slowly will
    do."""
    slow = np.zeros(len(still) + 1, bool)
    for run in runs(still):
        if run.last < len(leap) and leap[run.last] and goes[run.first - 1 : run.last].mean() > SLOW:
            slow[run.first : run.last + 1] = True
    return tuple(at for at in repeats if slow[at] or goes[at - 1] > going)


def _noisy(pictures: np.ndarray, change: np.ndarray) -> float:
    """Share of pixels that differ between neighbouring pictures that are not the same, median."""
    differ = (np.diff(pictures, axis=0) != 0).any(-1).mean((1, 2))[change > 0]
    return _median(differ)


def _film(pictures: np.ndarray, change: np.ndarray) -> float:
    if len(pictures) < 4:
        return 0.0
    far = float(np.abs(pictures.astype(np.int16) - np.roll(pictures, len(pictures) // 2, 0)).mean())
    return float(change.mean()) / far if far > APART else 0.0


def _flashes(light: np.ndarray, limit: float) -> tuple[int, ...]:
    """Single pictures, or two in a row, whose logarithm of light [T] is off from both sides."""
    found = []
    for at in range(1, len(light) - 1):
        after = light[min(at + 2, len(light) - 1)] if abs(light[at + 1] - light[at]) < limit / 2 else light[at + 1]
        before = light[max(at - 2, 0)] if abs(light[at - 1] - light[at]) < limit / 2 else light[at - 1]
        off = np.array([light[at] - before, light[at] - after])
        if (off > limit).all() or (off < -limit).all():
            found.append(at)
    return tuple(found)


def activity(recording: Recording, streams: Mapping[str, Stream], times: np.ndarray) -> np.ndarray | None:
    """How fast the body moves from picture to picture at `times` [T]: of its channels' steps over their usual ones
    (90th percentile) the median, [T - 1]; None if it is not recorded."""
    bodies = [name for name in recording.numbers if streams[name].kind in STATE]
    if not bodies or len(times) < 2:
        return None
    name = "joints" if "joints" in bodies else bodies[0]
    clock, values = recording.times[name], finite(recording.numbers[name])
    size = np.abs(np.diff([np.interp(times, clock, channel) for channel in values.T], axis=1))
    usual = np.percentile(size, USUAL, axis=1)
    moves = usual > TINY * np.abs(values).max()
    return np.median(size[moves] / usual[moves, None], axis=0) if moves.any() else None


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else 0.0


Measured = Mapping[str, dict[str, Pictures]]  # by episode and stream


def judge(measured: Measured, streams: Mapping[str, Stream], tolerances: Tolerances) -> list[Finding]:
    """Of all episodes together."""
    found: list[Finding] = []
    for name in next(iter(measured.values())) if measured else ():
        of = {id: measured[id][name] for id in measured}
        if np.median([p.film for p in of.values()]) < tolerances.film:
            found += _repeated(name, of, streams[name], tolerances) + _stood(name, of, streams[name], tolerances)
            found += _flashed(name, of, tolerances)
        found += _clipped(name, of, tolerances) + _wrong_everywhere(name, of)
        light = np.array([p.brightness for p in of.values()])
        found += _differing("exposure", name, "brightness", light, tuple(of), tolerances.exposure, tolerances)
        for which, colour in enumerate(("red", "blue")):
            tint = np.array([p.balance[which] for p in of.values()])
            what = f"{colour} against green"
            found += _differing("white balance", name, what, tint, tuple(of), tolerances.balance, tolerances)
    return found


def _repeated(name: str, of: Mapping[str, Pictures], stream: Stream, tolerances: Tolerances) -> list[Finding]:
    counts = {id: len(p.repeats) for id, p in of.items() if p.repeats}
    if not counts:
        return []
    total, worst = sum(counts.values()), tuple(sorted(counts, key=lambda id: -counts[id]))
    share = float(np.median([p.held for p in of.values()]))
    if share > tolerances.held:
        told = f"{name} claims {stream.rate:.4g} Hz, but {100 * share:.0f} % of its changes come after a picture that "
        told += "was there twice: it is slower"
        return [Finding("rate", "problem", told, 100 * share, "%", 100 * tolerances.held, worst, name)]
    noisy = float(np.median([p.noisy for p in of.values()])) > NOISY
    # In drawn pictures without noise, two may happen to be the same; of a body that is known to move, that is rare.
    severity = "problem" if noisy or all(p.goes for p in of.values()) else "note"
    told = f"{total} pictures of {name} show the one before again as things move, in {listed(worst)}"
    return [Finding("duplicate", severity, told, total, "frames", 1, worst, name, (), of[worst[0]].repeats[:3])]


def _stood(name: str, of: Mapping[str, Pictures], stream: Stream, tolerances: Tolerances) -> list[Finding]:
    """A camera that stands still while the body moves, where pictures otherwise change all the time."""
    stuck = stuck_steps(stream.rate, tolerances)
    lively = float(np.median([p.rests for p in of.values()])) < 1 - tolerances.lively
    noisy = float(np.median([p.noisy for p in of.values()])) > NOISY
    # A camera's noise never stops. In drawn pictures the body may be out of sight: there things must jump on.
    long = {
        id: p.stands
        for id, p in of.items()
        if p.stands[1] >= stuck
        and ((noisy and lively) or (p.between and p.moved > tolerances.going) or (p.leapt and p.moved > SLOW))
    }
    if not long:
        return []
    worst = tuple(sorted(long, key=lambda id: -long[id][1]))
    first, length = long[worst[0]]
    seconds = length / stream.rate
    told = f"{name} stands still for up to {seconds:.3g} s as the body moves, in {listed(worst)}"
    shown = (first - 1, first + length - 1)
    return [Finding("frozen", "problem", told, seconds, "s", stuck / stream.rate, worst, name, (), shown)]


def _flashed(name: str, of: Mapping[str, Pictures], tolerances: Tolerances) -> list[Finding]:
    counts = {id: len(p.flashes) for id, p in of.items() if p.flashes}
    if not counts:
        return []
    worst, total = tuple(sorted(counts, key=lambda id: -counts[id])), sum(counts.values())
    told = f"{total} pictures of {name} are much darker or brighter than those around them, in {listed(worst)}"
    at = of[worst[0]].flashes[0]
    return [Finding("outlier", "problem", told, total, "frames", 1, worst, name, (), (at - 1, at, at + 1))]


def _clipped(name: str, of: Mapping[str, Pictures], tolerances: Tolerances) -> list[Finding]:
    """Episodes with many more white, or black, pixels than others have."""
    found = []
    ends = {
        "white": ("overexposed", {id: p.white for id, p in of.items()}),
        "black": ("underexposed", {id: p.black for id, p in of.items()}),
    }
    for side, (word, shares) in ends.items():
        usual = float(np.median(list(shares.values())))
        deviation = 1.4826 * float(np.median([abs(share - usual) for share in shares.values()]))
        limit = usual + max(tolerances.white, tolerances.spread * deviation)
        bad = tuple(sorted((id for id in shares if shares[id] > limit), key=lambda id: -shares[id]))
        if bad:
            most = 100 * shares[bad[0]]
            told = (
                f"{name} is {word}: up to {most:.0f} % of its grey levels are {side}, usual are {100 * usual:.0f} %, "
            )
            told += f"in {listed(bad)}"
            middle = (of[bad[0]].count // 2,)
            found.append(Finding("saturation", "problem", told, most, "%", 100 * limit, bad, name, (), middle))
    return found


def _wrong_everywhere(name: str, of: Mapping[str, Pictures]) -> list[Finding]:
    """All pictures of the store nearly white, or nearly black."""
    darkest = float(np.median([p.darkest for p in of.values()]))
    brightest = float(np.median([p.brightest for p in of.values()]))
    if darkest > PALE:
        told = f"hardly anything on {name} is darker than grey level {darkest:.0f}"
        return [Finding("exposure", "problem", told, darkest, "grey levels", PALE, (), name)]
    if brightest < DIM:
        told = f"hardly anything on {name} is brighter than grey level {brightest:.0f}"
        return [Finding("exposure", "problem", told, brightest, "grey levels", DIM, (), name)]
    return []


def _differing(
    kind: Kind, name: str, what: str, values: np.ndarray, ids: tuple[str, ...], least: float, tolerances: Tolerances
) -> list[Finding]:
    """Logarithms `values` [episodes]: some that are far from the others, or all drifting from first to last."""
    if len(values) < 3:
        return []
    usual = float(np.median(values))
    off = values - usual
    limit = max(least, tolerances.spread * 1.4826 * float(np.median(np.abs(off))))
    order = np.argsort(-np.abs(off))
    bad = tuple(ids[at] for at in order if abs(off[at]) > limit)
    if bad:
        factor = float(np.exp(off[order[0]]))
        far = "as much as" if factor > 1 else "as little as"
        told = f"{what} of {name} is {far} {factor:.2f} times the usual one, in {listed(bad)}"
        threshold = float(np.exp(np.copysign(limit, off[order[0]])))
        return [Finding(kind, "problem", told, factor, "times", threshold, bad, name, (), (0,))]
    if len(values) >= tolerances.enough:
        number = np.arange(len(values))
        ranks = np.argsort(np.argsort(values))
        follows = float(np.corrcoef(number, ranks)[0, 1])
        fit = np.polyfit(number, values, 1)
        change = float(fit[0] * (len(values) - 1))
        if abs(follows) > tolerances.trend and abs(change) > least:
            told = f"{what} of {name} drifts to {float(np.exp(change)):.2f} times from the first episode to the last"
            ends = (ids[-1], ids[0])
            threshold = float(np.exp(np.copysign(least, change)))
            return [Finding(kind, "problem", told, float(np.exp(change)), "times", threshold, ends, name)]
    return []
