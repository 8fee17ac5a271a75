"""A generated walk: a stepping gait with real foot contacts, made by code, for whoever has no motion capture at hand.

    sakiyomi prepare walk --clips 40 --out data/walk

A path is drawn first: stretches of 0.6 to 2 m/s, curves, sharp turns to both sides, halts. Footsteps are put along it
so that each foot stands under its hip when the body passes over it, and the body follows from the feet. A foot that
bears stands still in the world: its toe until the foot leaves the ground, its ankle until the heel lifts. The legs
reach for the feet (two-bone inverse kinematics), the pelvis is as high as both legs allow, and arms and shoulders
swing against the legs.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
import numpy as np
from scipy.ndimage import convolve1d, gaussian_filter1d, minimum_filter1d

from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream
from sakiyomi.errors import at_least
from sakiyomi.motion.features import encode
from sakiyomi.motion.layout import Layout
from sakiyomi.motion.skeleton import Clip, Skeleton, forward_kinematics

RATE = 30.0
SPLITS = ("train", "validation", "test")
LEFT, RIGHT = 0, 1
SIDE = np.array([-1.0, 1.0])  # of left and right along z

THIGH, SHANK = 0.42, 0.41  # m
REACH = 0.995 * (THIGH + SHANK)  # m, from hip to ankle at most: a knee is never straighter than 11 degrees
ANKLE, SOLE = 0.085, 0.02  # m, heights of the ankle and of the toe joint of a foot that stands flat
TOE = np.array([0.135, SOLE - ANKLE, 0.0])  # m, from the ankle
NAMES = ("Hips", "Spine", "Head")
NAMES += tuple(f"{side}{bone}" for side in ("Left", "Right") for bone in ("Arm", "ForeArm", "Hand"))
NAMES += tuple(f"{side}{bone}" for side in ("Left", "Right") for bone in ("UpLeg", "Leg", "Foot", "Toe"))
SKELETON = Skeleton(
    names=NAMES,
    parents=(-1, 0, 1, 1, 3, 4, 1, 6, 7, 0, 9, 10, 11, 0, 13, 14, 15),
    offsets=(
        *((0.0, 0.0, 0.0), (0.0, 0.12, 0.0), (0.0, 0.46, 0.0)),
        *((0.0, 0.36, -0.18), (0.0, -0.28, 0.0), (0.0, -0.25, 0.0)),
        *((0.0, 0.36, 0.18), (0.0, -0.28, 0.0), (0.0, -0.25, 0.0)),
        *((0.0, -0.05, -0.09), (0.0, -THIGH, 0.0), (0.0, -SHANK, 0.0), tuple(TOE.tolist())),
        *((0.0, -0.05, 0.09), (0.0, -THIGH, 0.0), (0.0, -SHANK, 0.0), tuple(TOE.tolist())),
    ),
    feet=("LeftFoot", "LeftToe", "RightFoot", "RightToe"),
    mirror=(0, 1, 2, 6, 7, 8, 3, 4, 5, 13, 14, 15, 16, 9, 10, 11, 12),
)

LEAD = 2.0  # s, walked before a clip begins and after it ends, so that it may begin and end in mid-step
DOUBLE = 0.2  # part of a step during which both feet bear
PASSING = 0.42  # part of a stance after which the hip is above the ankle
HEEL = 0.22  # s before a foot leaves the ground its heel begins to lift
NEAR = 0.04, 0.12  # m and rad: a foot that would move less stays where it is
SETTLE = 4  # frames on either side over which the height of the pelvis is smoothed


@dataclass(frozen=True)
class GeneratedWalk:
    """Make clips of a walking, turning, halting body."""

    clips: int = 40
    """Clips of the training split."""
    validation: int = 5
    """Further clips for the validation split."""
    test: int = 5
    """Further clips for the test split."""
    seconds: float = 20.0
    """Length of a clip, s."""
    seed: int = 0
    """Seed of everything random."""

    def record(self, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> EpisodeStore:
        """Write the store; an interrupted call goes on where it stopped."""
        counts = (self.clips, self.validation, self.test)
        at_least("--clips", self.clips, 1)
        at_least("--validation", self.validation, 0)
        at_least("--test", self.test, 0)
        at_least("--seconds", self.seconds, 1)
        at_least("--seed", self.seed, 0)
        names = Layout(SKELETON.names).names
        streams = {"pose": Stream("motion", (len(names),), "float32", RATE, "m, rad, s", names)}
        origin = {"source": "generated_walk", **asdict(self), "skeleton": msgspec.to_builtins(SKELETON)}
        writer = EpisodeWriter(out, streams, msgspec.json.decode(msgspec.json.encode(origin)))
        plan = [(split, index) for split, count in zip(SPLITS, counts, strict=True) for index in range(count)]
        for done, (split, index) in enumerate(plan):
            id = f"{split}-{index:05d}"
            if id not in writer.ids:
                encoded = encode(clip((self.seed, SPLITS.index(split), index), self.seconds))
                meta = {"file": "", "start": [float(value) for value in encoded.start], "mirrored": False}
                clock = np.arange(len(encoded.values)) / RATE
                writer.add(id, {"pose": encoded.values}, {"pose": clock}, split, meta)
            progress(done + 1, len(plan))
        return writer.finish()


def clip(seed: int | tuple[int, ...], seconds: float) -> Clip:
    """A walk of `seconds` at 30 frames a second; the same for the same seed."""
    random = np.random.default_rng(seed)
    path = _path(random, seconds)
    steps = _footsteps(path, random)
    feet = [_foot([step for step in steps if step.side == side], path.times) for side in (LEFT, RIGHT)]
    rotations = _upper_body(path, feet, random)
    pelvis = _pelvis(path, feet, rotations[:, 0])
    for side, foot in enumerate(feet):
        first = SKELETON.names.index(("LeftUpLeg", "RightUpLeg")[side])
        hip = pelvis + rotations[:, 0] @ SKELETON.offsets[first]
        rotations[:, first : first + 4] = _leg(hip, foot)
    positions = forward_kinematics(SKELETON, rotations, pelvis)
    inside = slice(round(LEAD * RATE), round((LEAD + seconds) * RATE))
    return Clip(SKELETON, RATE, positions[inside], rotations[inside])


@dataclass(frozen=True)
class _Path:
    """Where the body is to be, each [T]: s, m, m, rad, m/s, rad/s."""

    times: np.ndarray
    x: np.ndarray
    z: np.ndarray
    facing: np.ndarray
    speed: np.ndarray
    turn: np.ndarray

    def at(self, time: float) -> tuple[float, float, float]:
        """x, z and facing at a moment."""
        x, z, facing = (float(np.interp(time, self.times, values)) for values in (self.x, self.z, self.facing))
        return x, z, facing


@dataclass(frozen=True)
class _Foot:
    """One foot over time."""

    ankle: np.ndarray  # m, [T, 3]
    facing: np.ndarray  # rad, [T]
    pitch: np.ndarray  # rad, toes up, [T]
    bears: np.ndarray  # 1 on the ground, 0 in the air, [T]


@dataclass(frozen=True)
class _Step:
    """A foot that goes through the air from `start` to `end` (s) to where its ankle then stands."""

    side: int
    start: float
    end: float
    x: float
    z: float
    facing: float


def _path(random: np.random.Generator, seconds: float) -> _Path:
    """Stretches of constant speed and turn, rounded off where they meet."""
    count = round((seconds + 2 * LEAD) * RATE)
    speeds, turns = ([0.0] * round(0.6 * RATE) for _ in range(2))  # both feet begin side by side
    while len(speeds) < count:
        speed, turn, lasting = random.uniform(0.6, 2.0), 0.0, random.uniform(1.5, 4.0)
        kind = random.choice(["straight", "curve", "sharp", "halt", "pivot"], p=[0.3, 0.3, 0.25, 0.1, 0.05])
        side = random.choice([-1.0, 1.0])
        if kind == "curve":
            turn = side * random.uniform(0.15, 0.8)
        elif kind == "sharp":
            speed, turn = random.uniform(0.6, 1.3), side * random.uniform(1.2, 2.2)
            lasting = random.uniform(np.pi / 3, np.pi) / abs(turn)
        elif kind == "halt":
            speed, lasting = 0.0, random.uniform(1.5, 3.0)
        elif kind == "pivot":
            speed, turn, lasting = 0.0, side * random.uniform(0.8, 1.6), random.uniform(1.0, 2.0)
        speeds += [speed] * round(lasting * RATE)
        turns += [turn] * round(lasting * RATE)
    speed = gaussian_filter1d(np.array(speeds[:count]), 0.35 * RATE, mode="nearest")
    turn = gaussian_filter1d(np.array(turns[:count]), 0.18 * RATE, mode="nearest")
    facing = random.uniform(-np.pi, np.pi) + np.cumsum(turn) / RATE
    x, z = np.cumsum(speed * np.cos(facing)) / RATE, np.cumsum(speed * np.sin(facing)) / RATE
    return _Path(np.arange(count) / RATE, x, z, facing, speed, turn)


def _footsteps(path: _Path, random: np.random.Generator) -> list[_Step]:
    """Left and right in turn for as long as the path goes on; the first two are where the feet stand at first."""
    apart, outwards = random.uniform(0.07, 0.1), random.uniform(0.0, 0.15)

    def home(side: int, time: float) -> tuple[float, float, float]:
        """Where an ankle belongs when the body is where it is at `time`."""
        x, z, facing = path.at(time)
        aside = SIDE[side] * apart
        return x - aside * np.sin(facing), z + aside * np.cos(facing), facing + SIDE[side] * outwards

    steps = [_Step(side, -1.0, 0.0, *home(side, 0.0)) for side in (LEFT, RIGHT)]
    standing = {step.side: step for step in steps}
    time, next_side = 0.0, int(random.integers(2))
    while time < path.times[-1]:
        speed, turn = (float(np.interp(time + 0.3, path.times, values)) for values in (path.speed, path.turn))
        lasting = 1 / (1.35 + 0.62 * speed + 0.15 * abs(turn))
        for side in (next_side, 1 - next_side):
            x, z, facing = home(side, time + lasting * (1 + PASSING * (1 + DOUBLE)))
            there = standing[side]
            if np.hypot(x - there.x, z - there.z) > NEAR[0] or abs(facing - there.facing) > NEAR[1]:
                standing[side] = _Step(side, time + DOUBLE * lasting, time + lasting, x, z, facing)
                steps.append(standing[side])
                time, next_side = time + lasting, 1 - side
                break
        else:
            time += 1 / RATE
    return steps


def _foot(steps: list[_Step], times: np.ndarray) -> _Foot:
    """One foot's way through its steps."""
    toe, facing = np.empty((len(times), 3)), np.empty(len(times))
    pitch, bears = np.zeros(len(times)), np.ones(len(times))
    places = [np.array([s.x, ANKLE, s.z]) + _turn(np.array(s.facing)) @ TOE for s in steps]
    toe[:], facing[:] = places[0], steps[0].facing
    for before, step, start, end in zip(steps, steps[1:], places, places[1:], strict=False):
        far = float(np.linalg.norm(end - start))
        lifted = -min(0.65, 0.1 + 0.4 * far)  # pitch of the foot when it leaves the ground
        begin = max(before.end, step.start - HEEL)
        rising = (times > begin) & (times <= step.start)
        pitch[rising] = lifted * _smooth((times[rising] - begin) / (step.start - begin))
        air = (times > step.start) & (times < step.end)
        part = (times[air] - step.start) / (step.end - step.start)
        # A parabola: high enough at once not to brush the ground.
        height = (0.04 + 0.05 * min(1.0, far)) * 4 * part * (1 - part)
        toe[air] = start + _smooth(part)[:, None] * (end - start) + height[:, None] * [0, 1, 0]
        facing[air] = before.facing + _smooth(part) * (step.facing - before.facing)
        pitch[air] = lifted * (1 - _smooth(np.minimum(part / 0.7, 1))) + 0.15 * far * part**2 * 16 * (1 - part) ** 2
        bears[air] = 0
        after = times >= step.end
        toe[after], facing[after] = end, step.facing
    return _Foot(toe - _turn(facing, pitch=pitch) @ TOE, facing, pitch, bears)


def _upper_body(path: _Path, feet: list[_Foot], random: np.random.Generator) -> np.ndarray:
    """World rotations of all joints [T, J, 3, 3]; those of the legs are still to come."""
    count = len(path.times)
    left, right = feet
    along = np.stack([np.cos(path.facing), 0 * path.facing, np.sin(path.facing)], -1)
    stride = gaussian_filter1d(((right.ankle - left.ankle) * along).sum(-1), 0.05 * RATE)  # m, right foot ahead
    onto_right = gaussian_filter1d(right.bears - left.bears, 0.1 * RATE)
    # Slow and small, so that nobody stands like a statue: rad.
    loose = gaussian_filter1d(random.normal(size=(6, count)), 0.7 * RATE, axis=-1) * np.sqrt(2 * 0.7 * RATE * 1.77)
    swing, lean, bent = random.uniform(0.5, 0.9), random.uniform(0.0, 0.06), random.uniform(0.15, 0.4)
    forward = -(lean + 0.03 * path.speed) - 0.012 * loose[0]
    into_turn = 0.06 * path.speed * path.turn
    ahead = np.interp(path.times + 0.3, path.times, path.facing)
    rotations = np.tile(np.eye(3), (count, len(SKELETON.names), 1, 1))
    rotations[:, 0] = _turn(path.facing - 0.14 * stride, 0.5 * forward, 0.04 * onto_right + into_turn)
    rotations[:, 1] = _turn(path.facing + 0.12 * stride + 0.02 * loose[1], forward, into_turn)
    rotations[:, 2] = _turn(ahead + 0.05 * loose[2], 0.3 * forward + 0.02 * loose[3], 0.5 * into_turn)
    for side, first in ((LEFT, 3), (RIGHT, 6)):
        angle = -SIDE[side] * swing * stride + 0.03 * loose[4 + side]
        elbow = bent + 0.15 * path.speed + 0.4 * np.maximum(angle, 0)
        shoulder = rotations[:, 1] @ _turn(0 * angle, angle - 0.4 * bent, np.full(count, -0.12 * SIDE[side]))
        rotations[:, first] = shoulder
        rotations[:, first + 1 : first + 3] = (shoulder @ _turn(0 * angle, elbow))[:, None]
    return rotations


def _pelvis(path: _Path, feet: list[_Foot], rotation: np.ndarray) -> np.ndarray:
    """Positions [T, 3]: over the path, swaying towards the foot that bears, as high as the shorter leg lets it be."""
    left, right = feet
    sway = 0.025 * gaussian_filter1d(right.bears - left.bears, 0.1 * RATE)
    across = np.stack([-np.sin(path.facing), 0 * path.facing, np.cos(path.facing)], -1)
    pelvis = np.stack([path.x, np.zeros_like(path.x), path.z], -1) + sway[:, None] * across
    top = np.full(len(pelvis), np.inf)
    for foot, name in zip(feet, ("LeftUpLeg", "RightUpLeg"), strict=True):
        hip = pelvis + rotation @ SKELETON.offsets[SKELETON.names.index(name)]
        away = np.hypot(*(hip - foot.ankle)[:, [0, 2]].T)
        top = np.minimum(top, foot.ankle[:, 1] + np.sqrt(REACH**2 - away**2) - hip[:, 1])
    # A mean of minima over windows that all hold this frame is never above its own top.
    window = np.hanning(2 * SETTLE + 3)[1:-1]
    lowest = minimum_filter1d(top, 2 * SETTLE + 1, mode="nearest")
    pelvis[:, 1] = convolve1d(lowest, window / window.sum(), mode="nearest")
    return pelvis


def _leg(hip: np.ndarray, foot: _Foot) -> np.ndarray:
    """World rotations of thigh, shank, foot and toe [T, 4, 3, 3] that put the ankle where it belongs.

    The knee bends in the plane of the leg and the direction of the foot.
    """
    way = foot.ankle - hip
    length = np.linalg.norm(way, axis=-1)
    y = -way / length[:, None]
    ahead = np.stack([np.cos(foot.facing), 0 * foot.facing, np.sin(foot.facing)], -1)
    z = np.cross(ahead, y)
    z /= np.linalg.norm(z, axis=-1, keepdims=True)
    leg = np.stack([np.cross(y, z), y, z], -1)
    # The law of cosines, in the triangle of hip, knee and ankle.
    at_hip = np.arccos((THIGH**2 + length**2 - SHANK**2) / (2 * THIGH * length))
    at_ankle = np.arccos((SHANK**2 + length**2 - THIGH**2) / (2 * SHANK * length))
    zero = np.zeros_like(length)
    flat = np.maximum(foot.pitch, 0)  # the toes stay on the ground when the heel lifts
    sole = [_turn(foot.facing, pitch) for pitch in (foot.pitch, flat)]
    return np.stack([leg @ _turn(zero, at_hip), leg @ _turn(zero, -at_ankle), *sole], 1)


def _turn(facing: np.ndarray, pitch: np.ndarray | float = 0.0, roll: np.ndarray | float = 0.0) -> np.ndarray:
    """Rotations [..., 3, 3]: roll to the right, then pitch up, then turn to the right by `facing`, all rad."""
    facing, pitch, roll = np.broadcast_arrays(facing, pitch, roll)
    (cf, sf), (cp, sp), (cr, sr) = ((np.cos(a), np.sin(a)) for a in (facing, pitch, roll))
    zero, one = np.zeros_like(cf), np.ones_like(cf)

    def matrix(*rows: np.ndarray) -> np.ndarray:
        return np.stack(rows, -1).reshape(*zero.shape, 3, 3)

    about_y = matrix(cf, zero, -sf, zero, one, zero, sf, zero, cf)
    about_z = matrix(cp, -sp, zero, sp, cp, zero, zero, zero, one)
    about_x = matrix(one, zero, zero, zero, cr, -sr, zero, sr, cr)
    return about_y @ about_z @ about_x


def _smooth(part: np.ndarray) -> np.ndarray:
    """From 0 to 1, at rest at both ends."""
    return (1 - np.cos(np.pi * part)) / 2
