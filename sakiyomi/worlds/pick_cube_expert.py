"""The scripted expert of PickCube: a path of the tool over, down to, around and up with the cube.

The tool's path is a chain of minimum-jerk moves (Flash & Hogan 1985: 10 s^3 - 15 s^4 + 6 s^5); each tick's
joint targets come from damped least squares on the tool's Jacobian (Nakamura & Hanafusa 1986), started
from the tick before, so that neighbouring ticks stay on one branch of the inverse kinematics.
"""

# MuJoCo ships no types for its bindings.
# pyright: reportAttributeAccessIssue=false

from dataclasses import dataclass

import mujoco
import numpy as np

from sakiyomi.worlds.pick_cube import CUBE_HALF, HOME, RATE, PickCube

DOWN = np.diag([-1.0, 1.0, -1.0])  # the tool's axes when it points at the table
OPEN, CLOSED = 0.08, 0.0  # m, gripper


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
        commands[tick, :7] = _reach(world.model, data, tool, p0 + (p1 - p0) * s**3 * (10 - 15 * s + 6 * s * s))
        commands[tick, 7] = gripper
    return commands


def _reach(model: mujoco.MjModel, data: mujoco.MjData, site: int, target: np.ndarray) -> np.ndarray:
    """Joint angles [7] whose tool stands at `target` pointing down; `data` is left there for the next call."""
    jacobian = np.zeros((6, model.nv))
    error, turn, quaternion = np.zeros(6), np.zeros(3), np.zeros(4)
    for _ in range(100):
        error[:3] = target - data.site_xpos[site]
        mujoco.mju_mat2Quat(quaternion, (DOWN @ data.site_xmat[site].reshape(3, 3).T).ravel())
        mujoco.mju_quat2Vel(turn, quaternion, 1.0)
        error[3:] = turn
        if np.abs(error).max() < 1e-4:
            break
        mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], site)
        j = jacobian[:, :7]
        pseudo = j.T @ np.linalg.inv(j @ j.T + 1e-4 * np.eye(6))
        # The seventh freedom pulls towards home, so that every place is reached in the same posture.
        home = (np.eye(7) - pseudo @ j) @ (HOME[:7] - data.qpos[:7])
        data.qpos[:7] += pseudo @ error + 0.1 * home
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
    return data.qpos[:7].copy()
