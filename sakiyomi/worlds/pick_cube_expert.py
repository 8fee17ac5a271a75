"""The scripted expert of PickCube: a path of the tool over, down to, around and up with the cube.

The tool's path is a chain of minimum-jerk moves (Flash & Hogan 1985: 10 s^3 - 15 s^4 + 6 s^5); each tick's
joint targets come from the arm's inverse kinematics, started from the tick before.
"""

# MuJoCo ships no types for its bindings.
# pyright: reportAttributeAccessIssue=false

from dataclasses import dataclass

import mujoco
import numpy as np

from sakiyomi.worlds.arm import CLOSED, OPEN, reach
from sakiyomi.worlds.pick_cube import CUBE_HALF, RATE, PickCube


@dataclass(frozen=True)
class _Leg:
    """One move of the tool: to `offset` from the cube (m), in `seconds`, with the gripper commanded to `gripper`."""

    offset: tuple[float, float, float]
    seconds: float
    gripper: float


LEGS = (
    _Leg((0.0, 0.0, 0.11), 1.2, OPEN),
    _Leg((0.0, 0.0, 0.0), 0.8, OPEN),
    _Leg((0.0, 0.0, 0.0), 0.5, CLOSED),
    _Leg((-0.03, 0.0, 0.16), 1.0, CLOSED),
)


def plan(world: PickCube, ticks: int, speed: float = 1.0) -> np.ndarray:
    """Joint targets float64 [ticks, 8] (rad, gripper in m) that pick up the cube from where the world stands now.

    `speed` divides every leg's time. After the last leg the pose is held. The world itself is not moved.
    """
    data = mujoco.MjData(world.model)
    data.qpos[:] = world.data.qpos
    mujoco.mj_forward(world.model, data)
    tool = world.model.site("tool").id
    x, y, _ = world.cube_position
    cube = np.array([x, y, CUBE_HALF])
    begin, start = data.site_xpos[tool].copy(), 0.0
    legs: list[tuple[float, float, np.ndarray, np.ndarray, float]] = []
    for leg in LEGS:
        end = cube + leg.offset
        legs.append((start, start + leg.seconds / speed, begin, end, leg.gripper))
        begin, start = end, start + leg.seconds / speed
    commands = np.empty((ticks, 8))
    for tick in range(ticks):
        time = (tick + 1) / RATE
        t0, t1, p0, p1, gripper = next((leg for leg in legs if time <= leg[1]), legs[-1])
        s = float(np.clip((time - t0) / (t1 - t0), 0.0, 1.0))
        commands[tick, :7] = reach(world.model, data, tool, p0 + (p1 - p0) * s**3 * (10 - 15 * s + 6 * s * s))
        commands[tick, 7] = gripper
    return commands
