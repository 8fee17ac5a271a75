"""Units: degrees among radians, by the size of values. Channels are compared with what their unit allows, episodes
with one another, joints with their commands."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sakiyomi.data.doctor.findings import Finding, Tolerances, listed
from sakiyomi.data.doctor.recording import Recording, channel_names, finite
from sakiyomi.data.episodes import Kind, Stream

DEGREES = 180 / np.pi
ANGLES: tuple[Kind, ...] = ("joints", "pose", "action")
TURN = 6.5  # rad, a little over one: what a joint in radians usually stays below, one in degrees usually not
TURNING = ("roll", "pitch", "yaw")
TINY = 0.02  # a channel smaller than this says nothing of its unit


@dataclass(frozen=True)
class Sizes:
    """Of one stream's values [T, C] of one episode: the 95th percentile and the largest of |values|, both [C]."""

    usual: np.ndarray
    largest: np.ndarray


def measure(recording: Recording, streams: Mapping[str, Stream], tolerances: Tolerances) -> dict[str, Sizes]:
    """Of every stream that may hold angles."""
    found = {}
    for name, values in recording.numbers.items():
        if streams[name].kind in ANGLES:
            size = np.abs(finite(values))
            found[name] = Sizes(np.percentile(size, 95, axis=0), size.max(0))
    return found


def angles(stream: Stream, width: int) -> np.ndarray:
    """Which of the C channels are said to be in radians, bool [C]. Units read `rad; gripper m` or `m; dyaw rad`: the
    first part holds for all channels that no later part names."""
    names = channel_names(stream, width)
    parts = [part.split() for part in stream.unit.split(";") if part.strip()]
    if not parts:
        return np.zeros(width, bool)
    radians = np.full(width, parts[0] == ["rad"])
    for part in parts[1:]:
        if part[0] in names:
            radians[names.index(part[0])] = part[1:] == ["rad"]
        elif part == ["rad"]:
            radians |= np.array([name in TURNING for name in names])
    return radians


Measured = Mapping[str, dict[str, Sizes]]  # by episode and stream


def judge(measured: Measured, streams: Mapping[str, Stream], tolerances: Tolerances) -> list[Finding]:
    """Of all episodes together."""
    found: list[Finding] = []
    names = list(next(iter(measured.values()))) if measured else []
    for name in names:
        of = {id: measured[id][name] for id in measured}
        episodes = _episodes(name, of, streams[name], tolerances)
        found += episodes or _channels(name, of, streams[name], tolerances)
    told = {finding.stream for finding in found}
    if {"joints", "command"} <= set(names) and not told & {"joints", "command"}:
        found += _commands(measured, streams["joints"], tolerances)
    return found


def _in_degrees(ratio: np.ndarray, tolerances: Tolerances) -> np.ndarray:
    """Whether ratios of sizes are those of degrees to radians."""
    return np.abs(np.log(np.maximum(ratio, 1e-12) / DEGREES)) < np.log(tolerances.ratio)


def _episodes(name: str, of: Mapping[str, Sizes], stream: Stream, tolerances: Tolerances) -> list[Finding]:
    """Episodes whose channels are 57 times as large as, or smaller than, those of most others."""
    if len(of) < 3:
        return []
    usual = np.median([sizes.usual for sizes in of.values()], 0)
    largest = np.median([sizes.largest for sizes in of.values()], 0)
    labels, bad = channel_names(stream, len(usual)), {}
    for id, sizes in of.items():
        degrees = (sizes.usual > usual) & (sizes.largest > TURN) & (largest < tolerances.largest_angle)
        radians = (sizes.usual < usual) & (largest > TURN) & (sizes.largest < tolerances.largest_angle)
        counted = np.minimum(sizes.usual, usual) > TINY
        ratio = np.maximum(sizes.usual, usual) / np.maximum(np.minimum(sizes.usual, usual), TINY)
        hit = counted & (degrees | radians)
        # One channel's size may change by chance, the median of all that could tell does not.
        if hit.any() and _in_degrees(np.array([np.median(ratio[hit])]), tolerances)[0]:
            small = "radians" if (radians & hit).sum() > (degrees & hit).sum() else "degrees"
            bad[id] = (small, float(np.median(ratio[hit])), hit)
    if not bad:
        return []
    worst = tuple(sorted(bad, key=lambda id: -int(bad[id][2].sum())))
    small, ratio, hit = bad[worst[0]]
    names = tuple(label for label, one in zip(labels, hit, strict=True) if one)
    other = "radians" if small == "degrees" else "degrees"
    told = f"{listed(names)} of {name} are in {small} where the other episodes are in {other} "
    told += f"({ratio:.0f} times the size), in {listed(worst)}"
    threshold = DEGREES / tolerances.ratio
    return [Finding("unit", "problem", told, ratio, "times", threshold, worst, name, names)]


def _channels(name: str, of: Mapping[str, Sizes], stream: Stream, tolerances: Tolerances) -> list[Finding]:
    """Channels that leave what an angle in radians can be, all through the store."""
    largest = np.max([sizes.largest for sizes in of.values()], 0)
    usual = np.median([sizes.usual for sizes in of.values()], 0)
    labels, said = channel_names(stream, len(largest)), angles(stream, len(largest))
    beyond = largest > tolerances.largest_angle
    if said.any():
        hit = beyond & said
    elif stream.kind == "joints" and (~beyond & (usual > TINY)).sum() > beyond.sum():
        # No unit is stated: most are in radians, and some are far larger than all of these.
        others = float(np.median(usual[~beyond & (usual > TINY)]))
        hit = beyond & (usual > DEGREES / tolerances.ratio**2 * others) & (largest[~beyond].max() < TURN)
    else:
        return []
    if not hit.any():
        return []
    names = tuple(label for label, one in zip(labels, hit, strict=True) if one)
    most = float(largest[hit].max())
    told = f"{listed(names)} of {name} reach {most:.3g}, which is no joint's angle in radians: degrees?"
    return [Finding("unit", "problem", told, most, "rad", tolerances.largest_angle, (), name, names)]


def _commands(measured: Measured, stream: Stream, tolerances: Tolerances) -> list[Finding]:
    """Joints and commands of the same channels in different units."""
    joints = np.median([of["joints"].usual for of in measured.values()], 0)
    commands = np.median([of["command"].usual for of in measured.values()], 0)
    if joints.shape != commands.shape:
        return []
    small, large = np.minimum(joints, commands), np.maximum(joints, commands)
    hit = (small > TINY) & _in_degrees(large / np.maximum(small, TINY), tolerances)
    if not hit.any():
        return []
    names = tuple(label for label, one in zip(channel_names(stream, len(hit)), hit, strict=True) if one)
    ratio = float(np.median(large[hit] / small[hit]))
    larger = "command" if commands[hit].sum() > joints[hit].sum() else "joints"
    other = "joints" if larger == "command" else "command"
    told = f"{listed(names)} of {larger} are {ratio:.0f} times those of {other}: degrees against radians"
    threshold = DEGREES / tolerances.ratio
    return [Finding("unit", "problem", told, ratio, "times", threshold, (), larger, names)]
