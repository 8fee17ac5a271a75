"""An arm to which something happens in mid-episode: it is pushed, its camera goes dark, one of its joints jams.

    world = Disturbed(PickCube(image_size=32), Disturbance("frozen", tick=12, joint=3))

What the arm's monitor (`sakiyomi.surprise`) must notice.
"""

# MuJoCo ships no types for its bindings.
# pyright: reportAttributeAccessIssue=false

from dataclasses import dataclass
from typing import Any, Literal, get_args

import gymnasium
import numpy as np

from sakiyomi.errors import SakiyomiError, at_least, unknown
from sakiyomi.worlds.arm import JOINT_NAMES
from sakiyomi.worlds.pick_cube import PickCube

What = Literal["push", "blind", "frozen"]
PUSHED = "hand"  # the body that is pushed


@dataclass(frozen=True)
class Disturbance:
    """What happens, and when."""

    what: What
    """push: a force on the hand; blind: the camera gives black pictures; frozen: a joint no longer follows."""
    tick: int
    """The first tick that is not as it should be."""
    ticks: int = 1000
    """For so many ticks; a push is short."""
    joint: int = 0
    """Which joint freezes, 0..6."""
    force: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Of a push, N in the world's axes."""


class Disturbed(gymnasium.Wrapper[dict[str, np.ndarray], np.ndarray, dict[str, np.ndarray], np.ndarray]):
    """`world` with a disturbance; everything else is as it was. Raises SakiyomiError for one that cannot be."""

    def __init__(self, world: PickCube, disturbance: Disturbance) -> None:
        super().__init__(world)
        if disturbance.what not in get_args(What):
            raise unknown("disturbance", disturbance.what, get_args(What))
        at_least("the tick of a disturbance", disturbance.tick, 1)
        if not 0 <= disturbance.joint < len(JOINT_NAMES) - 1:
            raise SakiyomiError(f"joint {disturbance.joint} freezes; the arm's are 0..{len(JOINT_NAMES) - 2}")
        self.world, self.disturbance = world, disturbance
        self._hand = world.model.body(PUSHED).id
        self._tick = 0
        self._stuck = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        self._tick = 0
        self.world.data.xfrc_applied[:] = 0
        return self.world.reset(seed=seed, options=options)

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """The observation of tick t is the outcome of step t; `Disturbance.tick` counts so."""
        self._tick += 1
        kind, now = self.disturbance.what, self._tick - self.disturbance.tick
        happens = 0 <= now < self.disturbance.ticks
        if kind == "push":
            self.world.data.xfrc_applied[self._hand, :3] = self.disturbance.force if happens else 0
        if kind == "frozen" and happens:
            joint = self.disturbance.joint
            self._stuck = float(self.world.data.ctrl[joint]) if now == 0 else self._stuck
            action = np.array(action, dtype=np.float64)
            action[joint] = self._stuck
        observation, reward, terminated, truncated, info = self.world.step(action)
        if kind == "blind" and happens:
            observation = {**observation, "image": np.zeros_like(observation["image"])}
        return observation, reward, terminated, truncated, info

    def move_cube(self, place: tuple[float, float]) -> None:
        self.world.move_cube(place)
