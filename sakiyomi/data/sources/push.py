"""Random pushing in the world of Push, as an episode store: what a predictor of pictures from actions learns from.

An episode is a chain of bouts: wander about, go beside an object (sometimes lifted over what is in the way), push
through it in some direction, and on to the next. Speeds are drawn anew for every step, pushes break off and turn
back, and noise lies over all of it, so that the past does not tell what the arm will do next: only the actions do.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream
from sakiyomi.data.sources import Shown, collected
from sakiyomi.errors import at_least, at_most
from sakiyomi.worlds.push import ACTION_LIMIT, ACTION_NAMES, RATE, WORKSPACE_HIGH, WORKSPACE_LOW, Push

SPLITS = ("train", "validation", "test")
LOW = (0.006, 0.016)  # m, height of the rod's tip while it pushes
HIGH = (0.05, 0.07)  # m, while it is lifted over objects, which are 32 mm high
BESIDE = (0.05, 0.075)  # m, from an object's middle, where a push begins
THROUGH = (0.02, 0.14)  # m, how far past where the object's middle was a push means to go
# m: a push means to leave its object between these corners, which the camera sees well
KEEP_LOW, KEEP_HIGH = np.array([0.33, -0.13]), np.array([0.53, 0.13])
REVERSAL = 0.12  # probability at each step of a push that the rod turns back for a step or two
LIFTED = 0.4  # probability that the way to an object is taken above the others
JITTER = np.array([0.004, 0.004, 0.001, 0.1])  # standard deviation of the noise on an action, m x 3 and rad


@dataclass(frozen=True)
class PushSource:
    """Record an arm that pushes two objects about at random."""

    episodes: int = 1000
    """Episodes of the training split."""
    validation: int = 64
    """Further episodes for the validation split."""
    test: int = 256
    """Further episodes for the test split."""
    steps: int = 30
    """Frames of an episode; the action taken at the last one is recorded, its effect is not."""
    image_size: int = 64
    """Height and width of the pictures."""
    light: float = 0.1
    """The light of an episode lies within 1 -+ this."""
    seed: int = 0
    """Seed of everything random."""

    def record(self, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> EpisodeStore:
        """Write the store; an interrupted recording goes on where it stopped."""
        counts = (self.episodes, self.validation, self.test)
        for split, count in zip(SPLITS, counts, strict=True):
            at_least(f"the number of episodes for {split}", count, 1)
        at_least("--steps", self.steps, 2)
        at_least("--seed", self.seed, 0)
        at_least("--light", self.light, 0)
        at_most("--light", self.light, 1)
        world = Push(image_size=self.image_size)
        writer = EpisodeWriter(out, streams(world), {"source": "push", **asdict(self)})
        plan = [(split, index) for split, count in zip(SPLITS, counts, strict=True) for index in range(count)]
        for number, (split, index) in enumerate(plan):
            id = f"{number:05d}"
            if id not in writer.ids:
                random = np.random.default_rng((self.seed, SPLITS.index(split), index))
                values, meta = collected(self.show(world, random))
                clock = np.arange(self.steps) / RATE
                writer.add(id, values, dict.fromkeys(values, clock), split, meta)
            progress(number + 1, len(plan))
        world.close()
        return writer.finish()

    def show(self, world: Push, random: np.random.Generator) -> Shown:
        """One episode; it returns what `replay` needs to live through it again."""
        light, seed = float(1 + self.light * random.uniform(-1, 1)), int(random.integers(2**31))
        observation, info = world.reset(seed=seed, options={"light": light})
        objects, contact = [], []
        actor = random_actions(world, random)
        for step in range(self.steps):
            action = next(actor)
            objects.append(info["objects"])
            yield frame(observation, info, action)
            observation, _, _, _, info = world.step(action)
            if info["contact"]:
                contact.append(step)
        way = np.linalg.norm(np.diff(np.stack(objects)[..., :2], axis=0), axis=-1).sum(0)
        # `contact`: the steps during which the arm touched an object; `moved`: how long a way each object went, m.
        return {"scene": asdict(world.scene), "seed": seed, "contact": contact, "moved": way.tolist()}


def replay(world: Push, meta: Mapping[str, Any], actions: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Begin a recorded episode again and give its first actions [t, 4]: the world then stands at its frame t.

    Returns the observation and info of that frame; from there other actions may be tried.
    """
    observation, info = world.reset(seed=meta["seed"], options=meta["scene"])
    for action in actions:
        observation, _, _, _, info = world.step(action)
    return observation, info


def frame(observation: dict[str, np.ndarray], info: dict[str, Any], action: np.ndarray) -> dict[str, np.ndarray]:
    """One step of an episode: what is seen before the action is taken, and the action."""
    return {
        "image": observation["image"],
        "action": action,
        "position": observation["position"],
        "objects": info["objects"].reshape(6).astype(np.float32),
    }


def streams(world: Push) -> dict[str, Stream]:
    """What an episode holds; `objects` is for scores, no model reads it."""
    picture = (world.image_size, world.image_size, 3)
    low, high = tuple((-ACTION_LIMIT).tolist()), tuple(ACTION_LIMIT.tolist())
    names = tuple(f"{axis}{object}" for object in (0, 1) for axis in "xyz")
    return {
        "image": Stream("image", picture, "uint8", RATE, "RGB 0..255"),
        "action": Stream("action", (4,), "float32", RATE, "m; dyaw rad", ACTION_NAMES, low, high),
        "position": Stream("pose", (3,), "float32", RATE, "m", ("x", "y", "z")),
        "objects": Stream("pose", (6,), "float32", RATE, "m", names),
    }


def random_actions(world: Push, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Actions float32 [4] without end, each decided from where the world stands when it is asked for."""
    noise = np.zeros(4)
    for goal, speed in _goals(world, random):
        way = goal - world.target[:3]
        # Along the way at the speed asked for, the slowest axis deciding.
        way = way / max(1.0, float((np.abs(way) / (speed * ACTION_LIMIT[:3])).max()))
        noise = 0.6 * noise + 0.8 * random.normal(0, JITTER)
        # The target stays in the workspace; an action that only says so is the one that is recorded.
        target = np.clip(world.target + np.append(way, 0.0) + noise, WORKSPACE_LOW, WORKSPACE_HIGH)
        yield np.clip(target - world.target, -ACTION_LIMIT, ACTION_LIMIT).astype(np.float32)


def _goals(world: Push, random: np.random.Generator) -> Iterator[tuple[np.ndarray, float]]:
    """For every step where the tool is to go next, [3] in m, and how fast, in parts of the limit."""
    while True:
        if random.random() < 0.5:
            yield from _wander(world, random)
        yield from _bout(world, random, int(random.integers(2)))


def _wander(world: Push, random: np.random.Generator) -> Iterator[tuple[np.ndarray, float]]:
    goal = random.uniform(WORKSPACE_LOW[:3], WORKSPACE_HIGH[:3])
    for _ in range(random.integers(1, 5)):
        yield goal, random.uniform(0.3, 1.0)


def _bout(world: Push, random: np.random.Generator, chosen: int) -> Iterator[tuple[np.ndarray, float]]:
    """Go beside an object and push through it."""
    direction, begin, end = _stroke(world.objects[chosen, :2], random)
    low = random.uniform(*LOW)
    if random.random() < LIFTED:
        high = random.uniform(*HIGH)
        yield from _go(world, random, np.append(begin, high))
    yield from _go(world, random, np.append(begin, low))
    back = 0
    for _ in range(random.integers(4, 9)):
        if np.linalg.norm(world.target[:2] - end) < 0.01:
            return
        if back == 0 and random.random() < REVERSAL:
            back = int(random.integers(1, 3))
        goal = world.target[:2] - 0.1 * direction if back else end
        back = max(0, back - 1)
        yield np.append(goal, low), random.uniform(0.25, 1.0)


def _go(world: Push, random: np.random.Generator, goal: np.ndarray) -> Iterator[tuple[np.ndarray, float]]:
    """Until the tool is meant to be within 12 mm of the goal, but give up after eight steps."""
    for _ in range(8):
        if np.linalg.norm(world.target[:3] - goal) < 0.012:
            return
        yield goal, random.uniform(0.5, 1.0)


def _stroke(place: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A push at an object that stands at `place`: direction, where the rod begins and where it ends, each [2]."""
    direction, begin, end = np.zeros(2), place, place
    for _ in range(30):
        angle = random.uniform(-np.pi, np.pi)
        direction = np.array([np.cos(angle), np.sin(angle)])
        beside, past = random.uniform(*BESIDE), random.uniform(*THROUGH)
        # Not quite at the middle, so that objects also turn.
        aim = place + random.normal(0, 0.008) * np.array([-direction[1], direction[0]])
        begin, end = aim - beside * direction, aim + past * direction
        reachable = (begin > WORKSPACE_LOW[:2]).all() and (begin < WORKSPACE_HIGH[:2]).all()
        if reachable and (end > KEEP_LOW).all() and (end < KEEP_HIGH).all():
            break
    return direction, begin, end
