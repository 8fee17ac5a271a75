"""Our worlds of the arm as devices of the recorder: driven by the scripted expert or by keys, with the same streams and
the same stepping as the stores of `sakiyomi prepare pick` and `prepare push`.

    sakiyomi prepare record pick --drive expert --episodes 6 --out data/mine
    sakiyomi prepare record pick --drive keyboard --task "pick up the cube" --out data/mine

A world's clock is its own: simulated seconds. A tick that comes late to the person at the keys does not stretch it.
"""

# MuJoCo ships no types for its bindings.
# pyright: reportAttributeAccessIssue=false

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import mujoco
import numpy as np

from sakiyomi.data.devices import End, Event, Ticks
from sakiyomi.data.episodes import Stream
from sakiyomi.data.recorder import Sample
from sakiyomi.data.sources import Shown, pick_cube, push
from sakiyomi.data.sources.pick_cube import PickCubeSource
from sakiyomi.data.sources.push import PushSource
from sakiyomi.errors import SakiyomiError
from sakiyomi.keys import Keys
from sakiyomi.worlds.arm import CLOSED, OPEN, reach
from sakiyomi.worlds.pick_cube import RATE as PICK_RATE
from sakiyomi.worlds.pick_cube import TAUGHT_PLACES, PickCube
from sakiyomi.worlds.push import ACTION_LIMIT, Push
from sakiyomi.worlds.push import RATE as PUSH_RATE

STEP = 0.015  # m, of the tool at each press of a key
TURN = 0.1  # rad, of the rod
REACHED_LOW, REACHED_HIGH = np.array([0.30, -0.25, 0.015]), np.array([0.65, 0.25, 0.35])  # m, where keys lead the tool
# What a key does to the tool: x away from the arm's foot, y to its left, z up, and a turn about the vertical.
MOVES = {
    **dict.fromkeys(("w", "up"), (1, 0, 0, 0)),
    **dict.fromkeys(("s", "down"), (-1, 0, 0, 0)),
    **dict.fromkeys(("a", "left"), (0, 1, 0, 0)),
    **dict.fromkeys(("d", "right"), (0, -1, 0, 0)),
    "r": (0, 0, 1, 0),
    "f": (0, 0, -1, 0),
    "z": (0, 0, 0, 1),
    "c": (0, 0, 0, -1),
}
GRIPPER = "space"


@dataclass(frozen=True)
class Recorded:
    """How a world is recorded."""

    world: Any
    streams: dict[str, Stream]
    origin: dict[str, Any]
    rate: float
    """Ticks of a second of its clock."""
    expert: Callable[[np.random.Generator, int], Shown]
    """One episode by the script; the number is the attempt's."""
    keyed: Callable[[np.random.Generator, int, Keys, Callable[[], bool]], Shown]
    """One episode by keys, until the function at the end says so."""
    controls: str
    """What the keys do."""
    close: Callable[[], None] = lambda: None


class WorldDevice:
    """A world that is driven and recorded."""

    def __init__(
        self, how: Recorded, drive: Literal["expert", "keyboard"], keys: Keys, rate: float = 0.0, seed: int = 0
    ) -> None:
        if drive == "keyboard" and not keys.there:
            raise SakiyomiError("--drive keyboard needs a terminal; where there is none: --drive expert")
        self.how, self.streams, self.origin = how, how.streams, how.origin
        self._keys, self._drive, self._seed = keys, drive, seed
        self._attempt = 0  # number of the next episode: what is drawn for it follows from it and the seed
        # Somebody at the keys needs the world's own pace; the script is recorded as fast as it goes.
        pace = rate or (how.rate if drive == "keyboard" else 0.0)
        self._ticks = Ticks(pace) if pace else None
        self._ending = False

    def resume(self, metas: Sequence[Mapping[str, Any]]) -> None:
        """No attempt is made twice, with the same outcome."""
        self._attempt = max([len(metas), *(meta["attempt"] + 1 for meta in metas if "attempt" in meta)])

    def events(self) -> Iterator[Event]:
        while True:
            self._ending = False
            random = np.random.default_rng((self._seed, self._attempt))
            if self._drive == "expert":
                shown = self.how.expert(random, self._attempt)
            else:
                shown = self.how.keyed(random, self._attempt, self._keys, lambda: self._ending)
            meta = {**(yield from self._ticking(shown)), "attempt": self._attempt, "drive": self._drive}
            self._attempt += 1
            keep = bool(meta.get("success", True)) if self._drive == "expert" else None
            yield End(keep, meta)

    def end(self) -> None:
        self._ending = True

    def skip(self) -> bool | None:
        """Nothing comes while nobody asks."""
        return None

    def told(self) -> str:
        return self._ticks.told() if self._ticks else ""

    def close(self) -> None:
        self.how.close()

    def _ticking(self, shown: Shown) -> Iterator[Event]:
        """The samples of an episode, at its pace; returns what is known of it."""
        tick = 0
        if self._ticks:
            self._ticks.begin()
        while True:
            if self._ticks:
                self._ticks.wait()
            try:
                frame = next(shown)
            except StopIteration as end:
                return end.value
            arrived = time.monotonic()
            for name, value in frame.items():
                yield Sample(name, value, arrived, tick / self.how.rate)
            if self._ending and self._drive == "expert":
                return {}
            tick += 1


def _key_pick(world: PickCube, random: np.random.Generator, number: int, keys: Keys, over: Callable[[], bool]) -> Shown:
    """The tool goes where keys lead it, pointing down; the arm follows by inverse kinematics."""
    scene = {"place": TAUGHT_PLACES[number % len(TAUGHT_PLACES)], "light": float(1 + 0.2 * random.uniform(-1, 1))}
    observation, info = world.reset(seed=int(random.integers(2**31)), options=scene)
    arm = mujoco.MjData(world.model)  # the inverse kinematics' own
    arm.qpos[:] = world.data.qpos
    mujoco.mj_forward(world.model, arm)
    tool = world.model.site("tool").id
    target, command = arm.site_xpos[tool].copy(), np.append(world.data.qpos[:7], OPEN)
    while not over():
        pressed = keys.take({*MOVES, GRIPPER})
        if pressed:
            target = np.clip(target + STEP * moved(pressed)[:3], REACHED_LOW, REACHED_HIGH)
            command[:7] = reach(world.model, arm, tool, target)
        if pressed.count(GRIPPER) % 2:
            command[7] = OPEN if command[7] == CLOSED else CLOSED
        yield pick_cube.frame(observation, info, command)
        observation, _, _, _, info = world.step(command)
    return {"place": list(scene["place"]), "light": scene["light"], "success": bool(info["success_any"])}


def _key_push(world: Push, random: np.random.Generator, number: int, keys: Keys, over: Callable[[], bool]) -> Shown:
    """Each key is a displacement of the rod."""
    seed = int(random.integers(2**31))
    observation, info = world.reset(seed=seed)
    while not over():
        wanted = moved(keys.take(MOVES)) * np.array([STEP, STEP, STEP, TURN])
        action = np.clip(wanted, -ACTION_LIMIT, ACTION_LIMIT).astype(np.float32)
        yield push.frame(observation, info, action)
        observation, _, _, _, info = world.step(action)
    return {"scene": asdict(world.scene), "seed": seed}  # as PushSource: so it can be lived through again


def moved(pressed: list[str]) -> np.ndarray:
    """Steps along x, y, z and the turn, [4], that these keys ask for together; at most two each at once."""
    steps = [MOVES[key] for key in pressed if key in MOVES]
    return np.clip(np.sum(steps, axis=0), -2.0, 2.0) if steps else np.zeros(4)


def recorded_pick(image_size: int) -> Recorded:
    """The arm that picks up a cube."""
    world = PickCube(image_size=image_size)
    return Recorded(
        world,
        pick_cube.streams(world),
        {"source": "record pick", "image_size": image_size},
        PICK_RATE,
        lambda random, number: PickCubeSource().show(world, random, TAUGHT_PLACES[number % len(TAUGHT_PLACES)]),
        partial(_key_pick, world),
        "arrows or w a s d: over the table; r f: up, down; space: gripper",
        world.close,
    )


def recorded_push(image_size: int) -> Recorded:
    """The arm that pushes two objects about."""
    world = Push(image_size=image_size)
    return Recorded(
        world,
        push.streams(world),
        {"source": "record push", "image_size": image_size},
        PUSH_RATE,
        lambda random, number: PushSource().show(world, random),
        partial(_key_push, world),
        "arrows or w a s d: over the table; r f: up, down; z c: turn",
        world.close,
    )


WORLDS: dict[str, Callable[[int], Recorded]] = {"pick": recorded_pick, "push": recorded_push}
