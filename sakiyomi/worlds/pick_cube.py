"""PickCube-v0: a seven-joint arm, a gripper, a table and a cube, in MuJoCo.

The policy runs at 10 Hz and commands joint targets; physics runs at 200 Hz and the targets are
interpolated in between, as an arm's own controller does. The rule of success: the cube's centre is
lifted by at least 8 cm over its rest height for 0.5 s without a break. `info` holds two readings of it:
`success_any` (the rule has held at some tick of this episode) and `success_last` (it holds at this tick).

    import gymnasium, sakiyomi.worlds
    env = gymnasium.make("sakiyomi/PickCube-v0", image_size=64)
    observation, info = env.reset(seed=0, options={"place": (0.5, 0.06), "light": 0.8})

Off-screen rendering uses EGL unless MUJOCO_GL says otherwise.
"""

# MuJoCo ships no types for its bindings.
# pyright: reportAttributeAccessIssue=false

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np

from sakiyomi.errors import SakiyomiError, at_least, unknown
from sakiyomi.worlds.arm import HOME, JOINT_NAMES, Camera, drive

# m, on the table. A zigzag, so that no taught place is their mean: an arm that does not look cannot be lucky.
TAUGHT_PLACES = ((0.455, -0.12), (0.545, -0.06), (0.455, 0.0), (0.545, 0.06), (0.455, 0.12))
PLACE_LOW, PLACE_HIGH = (0.455, -0.12), (0.545, 0.12)  # unless told, a place is drawn between these corners
CUBE_HALF = 0.02  # m
LIFT_HEIGHT = 0.08  # m above the rest height
LIFT_SECONDS = 0.5
RATE = 10.0  # Hz, policy
HORIZON = 45  # ticks of an episode


@dataclass(frozen=True)
class Scene:
    """What may differ from one episode to the next; `reset(options=...)` takes these names."""

    place: tuple[float, float] | None = None
    """Where the cube stands, x and y in m; None draws one from the rectangle around the taught ones."""
    cube_rgb: tuple[float, float, float] = (0.85, 0.10, 0.10)
    """Colour of the cube, 0..1."""
    light: float = 1.0
    """Brightness of the lamp and the ambient light, as a factor."""
    distractor_rgb: tuple[float, float, float] | None = None
    """Colour of a second cube beside the first; None leaves it away."""
    camera_jitter: float = 0.0
    """The camera is moved by at most this many m along each axis and turned about each by at most as many rad."""
    start_noise: float = 0.02
    """Standard deviation of the arm's start, rad."""


def scene_from(options: dict[str, Any] | None) -> Scene:
    """A Scene from reset options. Raises SakiyomiError for a name it does not have."""
    for name in options or {}:
        if name not in Scene.__dataclass_fields__:
            raise unknown("scene option", name, Scene.__dataclass_fields__)
    return Scene(**(options or {}))


@dataclass
class _Lift:
    """How long the cube has been up without a break."""

    seconds: float = 0.0
    ever: bool = field(default=False)

    def update(self, height: float, dt: float) -> None:
        self.seconds = self.seconds + dt if height >= LIFT_HEIGHT else 0.0
        self.ever = self.ever or self.held

    @property
    def held(self) -> bool:
        return self.seconds >= LIFT_SECONDS - 1e-9


class PickCube(gymnasium.Env[dict[str, np.ndarray], np.ndarray]):
    """Observation: `image` uint8 [H, W, 3] RGB and `joints` float32 [8] (7 angles in rad, gripper opening in m).
    Action: float32 [8], joint targets in the same units. Reward: 1.0 on ticks where the rule of success holds.
    An episode never terminates early; `gymnasium.make` truncates it after HORIZON ticks.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": RATE}  # noqa: RUF012 (gymnasium's own spelling)

    def __init__(self, image_size: int = 64, render_mode: str | None = "rgb_array") -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise unknown("render mode", str(render_mode), self.metadata["render_modes"])
        self.render_mode = render_mode
        self.image_size = image_size
        self.model = mujoco.MjModel.from_xml_path(str(Path(__file__).with_suffix(".xml")))
        self.data = mujoco.MjData(self.model)
        self._substeps = round(1 / RATE / self.model.opt.timestep)
        self._camera = Camera(self.model, "work", image_size)
        camera = self._camera.id
        self._default_camera = (self.model.cam_pos[camera].copy(), self.model.cam_quat[camera].copy())
        self._default_light = (self.model.light_diffuse.copy(), np.array(self.model.vis.headlight.ambient))
        self._lift = _Lift()
        low, high = (self.model.actuator_ctrlrange[:, i].astype(np.float32) for i in (0, 1))
        self.command_low, self.command_high = low, high
        self.action_space = gymnasium.spaces.Box(low, high)
        self.observation_space = gymnasium.spaces.Dict(
            {
                "image": gymnasium.spaces.Box(0, 255, (image_size, image_size, 3), np.uint8),
                # Measured angles may pass a soft limit by a little.
                "joints": gymnasium.spaces.Box(low - 0.1, high + 0.1),
            }
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        at_least("the seed of an episode", 0 if seed is None else seed, 0)
        super().reset(seed=seed)
        scene = scene_from(options)
        mujoco.mj_resetData(self.model, self.data)
        drawn = self.np_random.uniform(PLACE_LOW, PLACE_HIGH)
        self._place_cube(scene.place if scene.place is not None else (float(drawn[0]), float(drawn[1])))
        self._dress(scene)
        start = HOME.copy()
        start[:7] += self.np_random.normal(0.0, scene.start_noise, 7)
        self.data.qpos[:7] = start[:7]
        self.data.qpos[7:9] = start[7] / 2
        self.data.ctrl[:] = np.clip(start, self.command_low, self.command_high)
        mujoco.mj_forward(self.model, self.data)
        self._lift = _Lift()
        return self._observe(), self._info()

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        action = np.asarray(action, dtype=np.float64)
        if action.shape != (len(JOINT_NAMES),) or not np.isfinite(action).all():
            raise SakiyomiError(f"an action is {len(JOINT_NAMES)} finite joint targets, got {action.tolist()}")
        target = np.clip(action, self.command_low, self.command_high)
        for _ in drive(self.model, self.data, target, self._substeps):
            self._lift.update(self.cube_position[2] - CUBE_HALF, self.model.opt.timestep)
        return self._observe(), float(self._lift.held), False, False, self._info()

    def render(self) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The camera's picture, uint8 [H, W, 3]. Raises SakiyomiError where no renderer can be had."""
        return self._camera.picture(self.data)

    def close(self) -> None:
        self._camera.close()

    def move_cube(self, place: tuple[float, float]) -> None:
        """Put the cube at rest somewhere else on the table in mid-episode, x and y in m."""
        self._place_cube(place)
        mujoco.mj_forward(self.model, self.data)

    @property
    def cube_position(self) -> np.ndarray:
        """Centre of the cube, float64 [3], m."""
        return self.data.body("cube").xpos.copy()

    def project(self, point: np.ndarray) -> np.ndarray:
        """World point [3] in m -> picture [2], x rightwards and y downwards in 0..1 (as SpatialSoftmax counts)."""
        return self._camera.project(self.data, point)

    def _place_cube(self, place: tuple[float, float]) -> None:
        if not np.isfinite(place).all():
            raise SakiyomiError(f"the cube's place is two finite numbers in m, x and y, got {tuple(place)}")
        joint = self.data.joint("cube")
        joint.qpos[:] = (place[0], place[1], CUBE_HALF, 1, 0, 0, 0)
        joint.qvel[:] = 0

    def _dress(self, scene: Scene) -> None:
        model, random = self.model, self.np_random
        model.geom("cube").rgba[:3] = scene.cube_rgb
        model.light_diffuse[:] = self._default_light[0] * scene.light
        model.vis.headlight.ambient[:] = self._default_light[1] * scene.light
        shift, turn, side = random.uniform(-1, 1, 3), random.uniform(-1, 1, 3), random.choice((-1.0, 1.0))
        model.cam_pos[self._camera.id] = self._default_camera[0] + scene.camera_jitter * shift
        rotation, turned = np.zeros(4), np.zeros(4)
        mujoco.mju_euler2Quat(rotation, scene.camera_jitter * turn, "xyz")
        mujoco.mju_mulQuat(turned, self._default_camera[1], rotation)
        model.cam_quat[self._camera.id] = turned
        x, y, _ = self.data.joint("cube").qpos[:3]
        away = -2.0 if scene.distractor_rgb is None else CUBE_HALF
        # On the side with room, so that it stays in the picture.
        side = side if abs(y + 0.1 * side) <= 0.16 else -side
        self.data.mocap_pos[0] = (x + random.uniform(-0.06, 0.06), y + side * random.uniform(0.07, 0.12), away)
        if scene.distractor_rgb is not None:
            model.geom("distractor").rgba[:3] = scene.distractor_rgb

    def _observe(self) -> dict[str, np.ndarray]:
        opening = self.data.qpos[7] + self.data.qpos[8]
        joints = np.append(self.data.qpos[:7], opening).astype(np.float32)
        return {"image": self.render(), "joints": joints}

    def _info(self) -> dict[str, Any]:
        cube = self.cube_position
        return {
            "success_any": self._lift.ever,
            "success_last": self._lift.held,
            "cube_position": cube,
            "cube_pixel": self.project(cube),
        }
