"""Demonstrations of PickCube by the scripted expert, as an episode store.

Each episode has its own light, start and speed. While the arm is shown, small random offsets push its targets
about; the recorded command stays the expert's own, so the recording shows how to come back (as DART does with
injected noise, Laskey et al. 2017).
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream
from sakiyomi.data.sources import Shown, collected
from sakiyomi.errors import SakiyomiError, at_least
from sakiyomi.worlds.pick_cube import HORIZON, JOINT_NAMES, RATE, TAUGHT_PLACES, PickCube
from sakiyomi.worlds.pick_cube_expert import plan

CALM_TICKS = 4  # so long before the gripper closes the pushes are
CALM = 0.2  # times as strong, and stay so: a push at the grasp would make the demonstration fail
ATTEMPTS = 10


@dataclass(frozen=True)
class PickCubeSource:
    """Record the scripted expert."""

    episodes: int = 120
    """Demonstrations, spread evenly over the five taught places."""
    validation: int = 10
    """Further demonstrations for the validation split."""
    image_size: int = 64
    """Height and width of the pictures."""
    light: float = 0.2
    """The light of an episode lies within 1 -+ this."""
    speed: float = 0.1
    """The speed of an episode lies within 1 -+ this."""
    disturbance: float = 0.06
    """Standard deviation of the offsets on the arm's targets while it is shown, rad."""
    seed: int = 0
    """Seed of everything random."""

    def record(self, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> EpisodeStore:
        """Write the store; an interrupted recording goes on where it stopped."""
        if self.episodes < 1 or self.validation < 1:
            raise SakiyomiError(f"episodes={self.episodes}, validation={self.validation}: both must be at least 1")
        at_least("--seed", self.seed, 0)
        at_least("--disturbance", self.disturbance, 0)
        world = PickCube(image_size=self.image_size)
        writer = EpisodeWriter(out, streams(world), {"source": "pick_cube", **asdict(self)})
        total = self.episodes + self.validation
        for number in range(total):
            id = f"{number:05d}"
            if id not in writer.ids:
                split, index = ("train", number) if number < self.episodes else ("validation", number - self.episodes)
                self._demonstrate(world, writer, id, split, index)
            progress(number + 1, total)
        world.close()
        return writer.finish()

    def _demonstrate(self, world: PickCube, writer: EpisodeWriter, id: str, split: str, index: int) -> None:
        """Write one demonstration; one that a push made fail is shown again, as a teacher would."""
        place = TAUGHT_PLACES[index % len(TAUGHT_PLACES)]
        values, meta, attempt = {}, {"success": False}, 0
        while not meta["success"] and attempt < ATTEMPTS:
            random = np.random.default_rng((self.seed, split == "validation", index, attempt))
            values, meta = collected(self.show(world, random, place))
            attempt += 1
        clock = np.arange(HORIZON) / RATE
        writer.add(id, values, dict.fromkeys(values, clock), split, meta)

    def show(self, world: PickCube, random: np.random.Generator, place: tuple[float, float]) -> Shown:
        """Pick up the cube once."""
        light = float(1 + self.light * random.uniform(-1, 1))
        speed = float(1 + self.speed * random.uniform(-1, 1))
        observation, info = world.reset(seed=int(random.integers(2**31)), options={"place": place, "light": light})
        commands = plan(world, HORIZON, speed)
        grasp = int(np.argmax(commands[:, 7] == 0))  # the tick on which the gripper closes
        offset = np.zeros(8)
        for tick, command in enumerate(commands):
            yield frame(observation, info, command)
            # A first-order process: pushes last about three ticks, and leave the gripper alone.
            offset[:7] = 0.7 * offset[:7] + np.sqrt(1 - 0.7**2) * random.normal(0, self.disturbance, 7)
            strength = 1.0 if tick < grasp - CALM_TICKS else CALM
            observation, _, _, _, info = world.step(command + strength * offset)
        return {"place": list(place), "light": light, "speed": speed, "success": bool(info["success_any"])}


def frame(observation: dict[str, np.ndarray], info: dict[str, Any], command: np.ndarray) -> dict[str, np.ndarray]:
    """One tick of a demonstration: what is seen before the command is given, and the command."""
    return {
        "image": observation["image"],
        "joints": observation["joints"],
        "command": command.astype(np.float32),
        "cube": info["cube_position"].astype(np.float32),
    }


def streams(world: PickCube) -> dict[str, Stream]:
    """What a demonstration holds; `cube` is for scores, no model reads it."""
    low, high = (tuple(v.tolist()) for v in (world.command_low, world.command_high))
    picture = (world.image_size, world.image_size, 3)
    return {
        "image": Stream("image", picture, "uint8", RATE, "RGB 0..255"),
        "joints": Stream("joints", (8,), "float32", RATE, "rad; gripper m", JOINT_NAMES),
        "command": Stream("action", (8,), "float32", RATE, "rad; gripper m", JOINT_NAMES, low, high),
        "cube": Stream("pose", (3,), "float32", RATE, "m", ("x", "y", "z")),
    }
