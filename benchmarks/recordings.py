"""Recordings of a made-up robot, in many styles and without a defect.

    write(folder, clean(3))

An arm moves by minimum jerk from one place to the next; its camera sees a block where its hand is. Encoders, camera and
clocks are as noisy as real ones, or as exact as simulated ones, and every store has its own rates, lengths, units and
lighting. `benchmarks.defects` plants something in them.
"""

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream

SIDE = 24  # px
JOINTS = ("j1", "j2", "j3", "j4", "j5", "gripper")
CLASSES = ("cup", "plate", "spoon", "bowl")
Random = np.random.Generator


@dataclass
class Episode:
    """One recording, before it is written."""

    id: str
    split: str
    values: dict[str, np.ndarray]
    times: dict[str, np.ndarray]
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass
class Made:
    """A store, before it is written."""

    streams: dict[str, Stream]
    episodes: list[Episode]
    damaged: list[str] = field(default_factory=list)
    """Episodes whose file is spoiled after it was written."""
    lockstep: bool = True
    """Camera and joints are recorded in one loop."""

    @property
    def training(self) -> list[Episode]:
        return [episode for episode in self.episodes if episode.split == "train"]


@dataclass(frozen=True)
class Style:
    """How a store was recorded."""

    rate: float
    camera_rate: float
    encoder: float
    """Deviation of joint values, rad; 0 is a simulator."""
    quantum: float
    """Finest step of an encoder, rad; 0 is none."""
    grain: float
    """Deviation of the camera's noise, grey levels; 0 is a drawing."""
    light: float
    """Brightness differs by so much between episodes, as a share."""
    jitter: float
    """Of the clock, in periods."""
    delay: float
    """s from command to joints."""
    rests: float
    """s at the beginning and the end in which the arm waits."""
    places: int
    """So many places of the block; 0 is anywhere."""


def style(random: Random) -> Style:
    simulated = random.random() < 0.3
    rate = float(random.choice([10, 15, 20, 30]))
    return Style(
        rate=rate,
        camera_rate=rate if random.random() < 0.7 else rate / 2,
        encoder=0.0 if simulated else float(random.uniform(2e-4, 2e-3)),
        quantum=0.0 if simulated or random.random() < 0.6 else 0.00153,  # 4096 steps a turn
        grain=0.0 if simulated else float(random.uniform(0.8, 4)),
        light=float(random.uniform(0, 0.2)),
        jitter=0.0 if simulated else float(random.uniform(0, 0.06)),
        delay=float(random.uniform(0.0, 0.2)),
        rests=float(random.uniform(0, 0.5)),
        places=int(random.choice([0, 4, 9])),
    )


def clean(seed: int, episodes: int = 24) -> Made:
    """A store without a defect."""
    random = np.random.default_rng((seed, 1))
    how = style(random)
    low, high = (-3.0,) * 5 + (0.0,), (3.0,) * 5 + (0.08,)
    joints = Stream("joints", (6,), "float32", how.rate, "rad; gripper m", JOINTS)
    streams = {
        "image": Stream("image", (SIDE, SIDE, 3), "uint8", how.camera_rate, "RGB 0..255"),
        "joints": joints,
        "command": replace(joints, kind="action", low=low, high=high),
        "label": Stream("label", (4,), "float32", 1.0, "one-hot", CLASSES),
    }
    made = Made(streams, [], lockstep=how.camera_rate == how.rate)
    scene = np.kron(random.uniform(60, 150, (4, 4, 3)), np.ones((6, 6, 1)))
    homes = random.uniform(-1, 1, 6) * [1, 1, 1, 1, 1, 0] + [0, 0, 0, 0, 0, 0.06]
    for number in range(episodes):
        split = "train" if number < episodes - 8 else "validation" if number < episodes - 4 else "test"
        made.episodes.append(one(f"{number:03d}", split, number, how, scene, homes, random))
    return made


def one(id: str, split: str, number: int, how: Style, scene: np.ndarray, home: np.ndarray, random: Random) -> Episode:
    """One episode: from home to the block, grasp, and on to two more places."""
    goals = random.uniform(-1.2, 1.2, (3, 6))
    goals[:, 5] = [0.06, 0.01, 0.01]
    place = random.uniform(-1, 1, 2)
    if how.places:
        side = round(how.places**0.5)
        place = np.array(np.divmod(number % how.places, side)) / side
    goals[0, :2] = place
    lasting = random.uniform(0.9, 1.6, 3)
    seconds = float(lasting.sum()) + 2 * how.rests + how.delay

    def plan(times: np.ndarray) -> np.ndarray:
        """Where the arm should be, [T, 6]."""
        values, begin, last = np.tile(home, (len(times), 1)).astype(float), how.rests, home
        for goal, length in zip(goals, lasting, strict=True):
            s = np.clip((times - begin) / length, 0, 1)[:, None]
            part = last + (goal - last) * (10 * s**3 - 15 * s**4 + 6 * s**5)
            values = np.where(times[:, None] >= begin, part, values)
            begin, last = begin + length, goal
        return values

    clocks = {name: stamps(rate, seconds, how.jitter, random) for name, rate in rates(how).items()}
    if how.camera_rate == how.rate:
        clocks["image"] = clocks["joints"]
    moved = plan(clocks["joints"] - how.delay)
    moved = moved + random.normal(0, 1, moved.shape) * how.encoder * np.array([1, 1, 1, 1, 1, 0.05])
    if how.quantum:
        steps = how.quantum * np.array([1, 1, 1, 1, 1, 0.05])
        moved = np.round(moved / steps) * steps
    kind = number % 4
    values = {
        "image": film(plan(clocks["image"] - how.delay), place, scene, how, random),
        "joints": moved.astype(np.float32),
        "command": plan(clocks["joints"]).astype(np.float32),
        "label": np.eye(4, dtype=np.float32)[[kind]],
    }
    times = {**clocks, "command": clocks["joints"], "label": np.zeros(1)}
    return Episode(id, split, values, times, {"place": place.tolist(), "task": f"fetch the {CLASSES[kind]}"})


def rates(how: Style) -> dict[str, float]:
    return {"image": how.camera_rate, "joints": how.rate}


def stamps(rate: float, seconds: float, jitter: float, random: Random) -> np.ndarray:
    count = int(seconds * rate)
    times = (np.arange(count) + np.clip(random.normal(0, jitter, count), -0.2, 0.2)) / rate
    return times - times[0]


def film(joints: np.ndarray, place: np.ndarray, scene: np.ndarray, how: Style, random: Random) -> np.ndarray:
    """[T, SIDE, SIDE, 3]: the hand as a smooth spot, the block as a square, over a patchwork."""
    grid = np.arange(SIDE)
    light = 1 + how.light * random.uniform(-1, 1)
    x, y = (SIDE / 2 + 7 * np.sin(joints[:, :2].sum(1))), (SIDE / 2 + 7 * np.sin(joints[:, 2:4].sum(1)))
    spot = np.exp(-((grid - x[:, None, None]) ** 2 + (grid[:, None] - y[:, None, None]) ** 2) / 12)
    still = scene.copy()
    row, column = (int(v) for v in np.clip(SIDE / 2 + 8 * np.asarray(place), 2, SIDE - 4))
    still[row : row + 3, column : column + 3] = (200, 60, 40)
    pictures = still + (np.array([60, 190, 90]) - still) * spot[..., None]
    return np.clip(light * pictures + random.normal(0, 1, pictures.shape) * how.grain, 0, 255).astype(np.uint8)


def write(folder: Path, made: Made) -> EpisodeStore:
    """Write the store, NaN too, which the writer itself refuses: that line and file are made by hand."""
    writer = EpisodeWriter(folder, made.streams)
    entries = []
    for episode in made.episodes:
        finite = {name: np.nan_to_num(values) for name, values in episode.values.items()}
        entries.append(writer.add(episode.id, finite, episode.times, episode.split, episode.meta))
    store = writer.finish()
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    for episode, entry, line in zip(made.episodes, entries, lines, strict=True):
        path = folder / entry.file
        if any(not np.isfinite(values).all() for values in episode.values.values()):
            content = save(load_file(path) | episode.values)
            path.write_bytes(content)
            line |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        if episode.id in made.damaged:
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
    (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return EpisodeStore(store.folder)
