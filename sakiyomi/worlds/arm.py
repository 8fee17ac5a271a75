"""What the worlds share: the seven-joint arm of arm.xml, its inverse kinematics, its drive, and a camera.

A world's own XML includes arm.xml first, so that the arm's joints are always qpos[:9]: seven angles in rad and
two finger slides in m. Its commands are ctrl[:8]: seven angles and the gripper's opening.
"""

# MuJoCo ships no types for its bindings.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Iterator

import mujoco
import numpy as np

from sakiyomi.errors import SakiyomiError
from sakiyomi.worlds import no_renderer

JOINT_NAMES = ("j1", "j2", "j3", "j4", "j5", "j6", "j7", "gripper")
# rad x 7, gripper opening in m; the tool points down over the near side of the table
HOME = np.array([0.0, 0.5216, 0.0, 1.6319, 0.0, 0.9881, 0.0, 0.08])
DOWN = np.diag([-1.0, 1.0, -1.0])  # the tool's axes when it points at the table
OPEN, CLOSED = 0.08, 0.0  # m, gripper


def reach(model: mujoco.MjModel, data: mujoco.MjData, site: int, target: np.ndarray, yaw: float = 0.0) -> np.ndarray:
    """Joint angles [7] whose tool stands at `target` [3] (m) pointing down, turned about the vertical by `yaw` (rad).

    Damped least squares on the tool's Jacobian (Nakamura & Hanafusa 1986), started from where `data` stands;
    `data` is left at the answer, so that the next call stays on the same branch of the inverse kinematics.
    """
    cos, sin = np.cos(yaw), np.sin(yaw)
    pointing = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]]) @ DOWN
    posture = HOME[:7].copy()
    posture[6] -= yaw  # the last joint's axis points down
    jacobian = np.zeros((6, model.nv))
    error, turn, quaternion = np.zeros(6), np.zeros(3), np.zeros(4)
    for _ in range(100):
        error[:3] = target - data.site_xpos[site]
        mujoco.mju_mat2Quat(quaternion, (pointing @ data.site_xmat[site].reshape(3, 3).T).ravel())
        mujoco.mju_quat2Vel(turn, quaternion, 1.0)
        error[3:] = turn
        if np.abs(error).max() < 1e-4:
            break
        mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], site)
        j = jacobian[:, :7]
        pseudo = j.T @ np.linalg.inv(j @ j.T + 1e-4 * np.eye(6))
        # The seventh freedom pulls towards home, so that every place is reached in the same posture.
        home = (np.eye(7) - pseudo @ j) @ (posture - data.qpos[:7])
        data.qpos[:7] += pseudo @ error + 0.1 * home
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
    return data.qpos[:7].copy()


def drive(model: mujoco.MjModel, data: mujoco.MjData, target: np.ndarray, substeps: int) -> Iterator[None]:
    """Step physics so often while the commands move evenly from where they are to `target` [8]; yields after each."""
    before = data.ctrl.copy()
    for k in range(1, substeps + 1):
        data.ctrl[:] = before + (target - before) * (k / substeps)
        mujoco.mj_step(model, data)
        yield


class Camera:
    """One of the model's cameras: square pictures of `size` pixels, and where in them a point is seen."""

    def __init__(self, model: mujoco.MjModel, name: str, size: int) -> None:
        if not 16 <= size <= 512:
            raise SakiyomiError(f"image_size is {size}; it must lie in 16..512 (pixels, square)")
        self.id: int = model.camera(name).id
        self._model, self._size = model, size
        self._renderer: mujoco.Renderer | None = None

    def picture(self, data: mujoco.MjData) -> np.ndarray:
        """uint8 [H, W, 3] RGB. Raises SakiyomiError where no renderer can be had."""
        if self._renderer is None:
            try:
                self._renderer = mujoco.Renderer(self._model, self._size, self._size)
            except Exception as error:
                raise no_renderer(error) from error
        self._renderer.update_scene(data, camera=self.id)
        return self._renderer.render().copy()

    def project(self, data: mujoco.MjData, point: np.ndarray) -> np.ndarray:
        """World point [3] in m -> picture [2], x rightwards and y downwards in 0..1 (as SpatialSoftmax counts)."""
        offset = np.asarray(point) - data.cam_xpos[self.id]
        right, up, back = data.cam_xmat[self.id].reshape(3, 3).T @ offset
        extent = np.tan(np.deg2rad(self._model.cam_fovy[self.id]) / 2) * -back
        return np.array([(right / extent + 1) / 2, (1 - up / extent) / 2])

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
