"""Defects to plant in recordings, for the doctor to find.

    made = clean(3); expected = DEFECTS["frozen camera"](made, np.random.default_rng(3)); write(folder, made)

Each is planted at a random place in a random strength, and says what the doctor should then name.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.recordings import Episode, Made, Random
from sakiyomi.data.doctor.findings import Kind

GOING = 0.1  # of the largest step: what changes by more is on the way


@dataclass(frozen=True)
class Expected:
    """What the doctor should name: one of the kinds, in that stream, in all of these episodes."""

    kinds: tuple[Kind, ...]
    stream: str = ""
    episodes: tuple[str, ...] = ()


def some(made: Made, random: Random, most: int = 3) -> list[Episode]:
    """One to `most` episodes."""
    count = int(random.integers(1, most + 1))
    return [made.episodes[at] for at in random.choice(len(made.episodes), count, replace=False)]


def ids(episodes: list[Episode]) -> tuple[str, ...]:
    return tuple(episode.id for episode in episodes)


def moving(values: np.ndarray, random: Random, length: int) -> int:
    """A frame from which on `values` [T, ...] change fast for `length` frames, and changed right before: what stands
    still where nothing moved anyway, or only lengthens a rest, is no defect that could be seen. Of several channels the
    median counts."""
    size = np.abs(np.diff(values.astype(float), axis=0)).reshape(len(values) - 1, -1)
    speed = size.mean(1) if values.ndim > 2 else np.median(size, 1)
    starts = np.arange(3, len(values) - length - 2)
    going = starts[speed[starts - 2] > GOING * speed.max()]
    starts = going if len(going) else starts
    mean = np.array([speed[at - 1 : at + length].mean() for at in starts])
    return int(random.choice(starts[np.argsort(-mean)[: max(1, len(starts) // 4)]]))


def dropped_frames(made: Made, random: Random) -> Expected:
    bad = some(made, random)
    for episode in bad:
        count = int(random.integers(1, 6))
        at = int(random.integers(2, len(episode.times["joints"]) - count - 2))
        for name in ("joints", "command"):
            episode.values[name] = np.delete(episode.values[name], np.s_[at : at + count], 0)
            episode.times[name] = np.delete(episode.times[name], np.s_[at : at + count])
    return Expected(("dropped",), "joints", ids(bad))


def repeated_rows(made: Made, random: Random) -> Expected:
    """A bus that was read too early: the arm moves, the values are the old ones."""
    bad = some(made, random)
    for episode in bad:
        count = int(random.integers(1, 4))
        at = moving(episode.values["joints"][:, :5], random, count)
        episode.values["joints"][at : at + count] = episode.values["joints"][at - 1]
    return Expected(("duplicate",), "joints", ids(bad))


def repeated_pictures(made: Made, random: Random) -> Expected:
    bad = some(made, random)
    for episode in bad:
        count = int(random.integers(1, 4))
        at = moving(episode.values["image"], random, count)
        episode.values["image"][at : at + count] = episode.values["image"][at - 1]
    return Expected(("duplicate",), "image", ids(bad))


def half_rate(made: Made, random: Random) -> Expected:
    """A camera that gives every picture twice."""
    for episode in made.episodes:
        pictures = episode.values["image"]
        episode.values["image"] = pictures[np.arange(len(pictures)) // 2 * 2]
    return Expected(("rate",), "image")


def clock_drift(made: Made, random: Random) -> Expected:
    """The camera's clock runs too fast, in all episodes alike."""
    factor = 1 + float(random.uniform(0.01, 0.03) if made.lockstep else random.uniform(0.05, 0.08))
    for episode in made.episodes:
        episode.times["image"] = episode.times["image"] * factor
    return Expected(("drift",), "image")


def jitter(made: Made, random: Random) -> Expected:
    bad, size = some(made, random, 6), float(random.uniform(0.25, 0.4))
    for episode in bad:
        times = episode.times["image"]
        period = float(np.median(np.diff(times)))
        episode.times["image"] = np.sort(times + random.uniform(-size, size, len(times)) * period * 1.2)
    return Expected(("jitter",), "image", ids(bad))


def wrong_rate(made: Made, random: Random) -> Expected:
    """A loop that claims 30 Hz and ran at 25."""
    factor = float(random.uniform(1.08, 1.4))
    for episode in made.episodes:
        for name in ("image", "joints", "command"):
            episode.times[name] = episode.times[name] * factor
    return Expected(("rate",), "joints")


def dead_joint(made: Made, random: Random) -> Expected:
    joint = int(random.integers(5))
    for episode in made.episodes:
        episode.values["joints"][:, joint] = 0.25
    return Expected(("frozen",), "joints")


def stuck_joint(made: Made, random: Random) -> Expected:
    """A cable falls out on the way."""
    bad, joint = some(made, random), int(random.integers(5))
    for episode in bad:
        count = max(int(random.uniform(0.8, 1.6) * made.streams["joints"].rate), 8)
        at = moving(episode.values["joints"][:, joint], random, count)
        episode.values["joints"][at : at + count, joint] = episode.values["joints"][at - 1, joint]
    return Expected(("frozen",), "joints", ids(bad))


def frozen_camera(made: Made, random: Random) -> Expected:
    bad = some(made, random)
    for episode in bad:
        count = max(int(random.uniform(0.8, 1.6) * made.streams["image"].rate), 8)
        at = moving(episode.values["image"], random, count)
        episode.values["image"][at : at + count] = episode.values["image"][at - 1]
    return Expected(("frozen",), "image", ids(bad))


def padding(made: Made, random: Random) -> Expected:
    """All episodes filled up to one length."""
    longest = max(episode.times["joints"][-1] for episode in made.episodes) + 0.7
    for episode in made.episodes:
        for name in ("image", "joints", "command"):
            values, times = episode.values[name], episode.times[name]
            period = 1 / made.streams[name].rate
            more = int(longest / period) + 1 - len(values)
            episode.values[name] = np.concatenate([values, np.repeat(values[-1:], more, 0)])
            episode.times[name] = np.concatenate([times, times[-1] + period * np.arange(1, more + 1)])
    return Expected(("padding",))


def clipped_joint(made: Made, random: Random) -> Expected:
    """A sensor whose range ends before the joint's does; the first two go to few places and no further."""
    joint, share = int(random.integers(2, 5)), float(random.uniform(0.75, 0.9))
    everything = np.concatenate([episode.values["joints"][:, joint] for episode in made.episodes])
    limit = np.quantile(everything, share)
    for episode in made.episodes:
        values = episode.values["joints"]
        values[:, joint] = np.minimum(values[:, joint], np.float32(limit))
    return Expected(("saturation",), "joints")


def overexposed(made: Made, random: Random) -> Expected:
    bad, gain = some(made, random), float(random.uniform(2.5, 4))
    for episode in bad:
        episode.values["image"] = np.clip(episode.values["image"] * gain, 0, 255).astype(np.uint8)
    return Expected(("saturation", "exposure"), "image", ids(bad))


def not_a_number(made: Made, random: Random) -> Expected:
    bad = some(made, random)
    for episode in bad:
        values = episode.values["joints"]
        at = random.integers(1, len(values) - 1, int(random.integers(1, 4)))
        values[at, int(random.integers(6))] = random.choice([np.nan, np.inf])
    return Expected(("not finite",), "joints", ids(bad))


def outliers(made: Made, random: Random) -> Expected:
    """Single values a lost byte has turned into others."""
    bad = some(made, random)
    for episode in bad:
        values = episode.values["joints"]
        for at in random.choice(np.arange(6, len(values) - 6, 6), int(random.integers(1, 4)), replace=False):
            values[at, int(random.integers(5))] += random.choice([-1, 1]) * random.uniform(0.8, 3)
    return Expected(("outlier",), "joints", ids(bad))


def black_pictures(made: Made, random: Random) -> Expected:
    bad = some(made, random)
    for episode in bad:
        episode.values["image"][int(random.integers(2, len(episode.values["image"]) - 2))] = 0
    return Expected(("outlier",), "image", ids(bad))


def degrees_in_some(made: Made, random: Random) -> Expected:
    bad = some(made, random, 5)
    for episode in bad:
        for name in ("joints", "command"):
            episode.values[name][:, :5] *= 180 / np.pi
    return Expected(("unit",), "joints", ids(bad))


def degrees_in_a_channel(made: Made, random: Random) -> Expected:
    joint = int(random.integers(5))
    for episode in made.episodes:
        episode.values["joints"][:, joint] *= 180 / np.pi
    return Expected(("unit",), "joints")


def dusk(made: Made, random: Random) -> Expected:
    """It gets dark as one records."""
    last = float(random.uniform(0.4, 0.6))
    for number, episode in enumerate(made.episodes):
        light = last ** (number / (len(made.episodes) - 1))
        episode.values["image"] = (episode.values["image"] * light).astype(np.uint8)
    return Expected(("exposure",), "image")


def dark_episodes(made: Made, random: Random) -> Expected:
    bad, light = some(made, random), float(random.uniform(0.3, 0.45))
    for episode in bad:
        episode.values["image"] = (episode.values["image"] * light).astype(np.uint8)
    return Expected(("exposure",), "image", ids(bad))


def white_balance(made: Made, random: Random) -> Expected:
    bad = some(made, random)
    tint = np.array([random.uniform(1.3, 1.6), 1.0, random.uniform(0.6, 0.8)])
    for episode in bad:
        episode.values["image"] = np.clip(episode.values["image"] * tint, 0, 255).astype(np.uint8)
    return Expected(("white balance",), "image", ids(bad))


def leakage(made: Made, random: Random) -> Expected:
    """A training episode is in another split once more: cut at its ends, and saved with loss."""
    source = made.training[int(random.integers(len(made.training)))]
    victims = [episode for episode in made.episodes if episode.split != "train"]
    victim = victims[int(random.integers(len(victims)))]
    begin, end = (float(random.uniform(0, 0.12)) for _ in range(2))
    for name, values in source.values.items():
        first, last = int(begin * len(values)), len(values) - int(end * len(values))
        victim.values[name] = values[first:last].copy()
        victim.times[name] = source.times[name][first:last].copy()
    pictures = victim.values["image"]
    victim.values["image"] = np.clip(pictures + random.normal(0, 2, pictures.shape), 0, 255).astype(np.uint8)
    victim.values["joints"] = victim.values["joints"] + random.normal(0, 1e-3, victim.values["joints"].shape).astype(
        "f4"
    )
    return Expected(("leakage",), "", (source.id, victim.id))


def copies(made: Made, random: Random) -> Expected:
    a, b = (made.training[at] for at in random.choice(len(made.training), 2, replace=False))
    b.values, b.times = a.values, a.times
    return Expected(("copy",), "", (a.id, b.id))


def late_joints(made: Made, random: Random) -> Expected:
    """Commands and joints that were put together at the wrong place, in some episodes."""
    bad, late = some(made, random, 5), float(random.uniform(0.3, 0.6))
    return shifted(made, bad, late, Expected(("delay",), "command", ids(bad)))


def late_everywhere(made: Made, random: Random) -> Expected:
    return shifted(made, made.episodes, float(random.uniform(0.45, 0.7)), Expected(("delay",), "command"))


def shifted(made: Made, bad: list[Episode], late: float, expected: Expected) -> Expected:
    """`late` s more from command to joints."""
    for episode in bad:
        steps = round(late * made.streams["command"].rate)
        command = episode.values["command"]
        episode.values["command"] = np.concatenate([command[steps:], np.repeat(command[-1:], steps, 0)])
    return expected


def rare_class(made: Made, random: Random) -> Expected:
    kind = int(random.integers(4))
    other = np.eye(4, dtype=np.float32)[[(kind + 1) % 4]]
    for episode in made.training:
        if episode.values["label"][0, kind]:
            episode.values["label"] = other.copy()
    return Expected(("classes",), "label")


def crowded_places(made: Made, random: Random) -> Expected:
    """Nearly all begin at one place."""
    rare = random.choice(len(made.training), 3, replace=False)
    for number, episode in enumerate(made.training):
        spot = np.array([0.8, 0.8]) if number in rare else np.array([-0.5, 0.3])
        episode.meta["place"] = (spot + random.uniform(-0.02, 0.02, 2)).tolist()
    return Expected(("places",))


def damaged_files(made: Made, random: Random) -> Expected:
    bad = some(made, random)
    made.damaged += ids(bad)
    return Expected(("damaged",), "", ids(bad))


def broken_off(made: Made, random: Random) -> Expected:
    bad, share = some(made, random), float(random.uniform(0.02, 0.09))
    for episode in bad:
        for name in ("image", "joints", "command"):
            count = max(2, int(share * len(episode.values[name])))
            episode.values[name], episode.times[name] = episode.values[name][:count], episode.times[name][:count]
    return Expected(("short",), "", ids(bad))


def camera_ends_early(made: Made, random: Random) -> Expected:
    bad, share = some(made, random), float(random.uniform(0.5, 0.75))
    for episode in bad:
        count = int(share * len(episode.values["image"]))
        episode.values["image"], episode.times["image"] = (
            episode.values["image"][:count],
            episode.times["image"][:count],
        )
    return Expected(("apart",), "image", ids(bad))


DEFECTS: dict[str, Callable[[Made, Random], Expected]] = {
    "dropped frames": dropped_frames,
    "repeated rows": repeated_rows,
    "repeated pictures": repeated_pictures,
    "every picture twice": half_rate,
    "clock drift": clock_drift,
    "jitter": jitter,
    "wrong rate": wrong_rate,
    "dead joint": dead_joint,
    "stuck joint": stuck_joint,
    "frozen camera": frozen_camera,
    "padding": padding,
    "clipped joint": clipped_joint,
    "overexposed": overexposed,
    "not a number": not_a_number,
    "outliers": outliers,
    "black pictures": black_pictures,
    "degrees in some episodes": degrees_in_some,
    "degrees in a channel": degrees_in_a_channel,
    "dusk": dusk,
    "dark episodes": dark_episodes,
    "white balance": white_balance,
    "leakage": leakage,
    "copies": copies,
    "late joints": late_joints,
    "late everywhere": late_everywhere,
    "rare class": rare_class,
    "crowded places": crowded_places,
    "damaged files": damaged_files,
    "broken off": broken_off,
    "camera ends early": camera_ends_early,
}
