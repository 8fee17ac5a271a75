"""Push-v0: the arm of arm.xml holds a rod and pushes two objects about on the table, in MuJoCo.

There is no task: the world exists to be predicted. The policy runs at 5 Hz and displaces the tool's target;
physics runs at 200 Hz. An action given at step t moves the world from frame t to frame t + 1. The same seed,
options and actions give the same frames, bit for bit, on one machine; `snapshot` and `restore` branch off.

    import gymnasium, sakiyomi.worlds
    env = gymnasium.make("sakiyomi/Push-v0", image_size=64)
    observation, info = env.reset(seed=0, options={"shapes": ("tee", "box"), "light": 0.9})

`reset` with the `scene` of an earlier episode (every name filled in) reproduces that episode's start without its seed.
"""

# MuJoCo ships no types for its bindings.
# pyright: reportAttributeAccessIssue=false

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np

from sakiyomi.errors import SakiyomiError, at_least, unknown
from sakiyomi.worlds.arm import CLOSED, HOME, Camera, drive, reach

SHAPES = ("box", "bar", "cylinder", "tee")
COLOURS = {
    "red": (0.80, 0.08, 0.08),
    "green": (0.10, 0.60, 0.15),
    "blue": (0.10, 0.22, 0.85),
    "yellow": (0.95, 0.85, 0.05),
    "purple": (0.55, 0.10, 0.70),
    "cyan": (0.05, 0.70, 0.80),
}
OBJECTS = ("object0", "object1")
HALF_HEIGHT = 0.016  # m, of every object
ACTION_NAMES = ("dx", "dy", "dz", "dyaw")
ACTION_LIMIT = np.array([0.035, 0.035, 0.02, 0.3])  # m x 3, rad: most that one action displaces
# The broad hand is turned edge-on to the camera, so that it hides little; its yaw stays near that.
EDGE_ON = np.pi / 2
# x, y, z in m and yaw in rad of the target of the tool, which is the rod's tip; well within the arm's reach.
WORKSPACE_LOW = np.array([0.31, -0.15, 0.006, EDGE_ON - 0.7])
WORKSPACE_HIGH = np.array([0.54, 0.15, 0.07, EDGE_ON + 0.7])
PLACE_LOW, PLACE_HIGH = np.array([0.35, -0.11]), np.array([0.50, 0.11])  # m, where objects stand unless told
ROD_RADIUS, ROD_TIP = 0.011, 0.195  # m; the tip lies so far from the hand's origin
APART = 0.10  # m, least distance of the two objects' middles at the start
CLEAR = 0.075  # m, least distance of an object's middle from the tool at the start
RATE = 5.0  # Hz, policy
HORIZON = 30  # steps of an episode
TORQUE = 5.0  # N m, most that a joint exerts: a rod that comes down on an object presses, and does not sink it


@dataclass(frozen=True)
class Scene:
    """What may differ from one episode to the next; `reset(options=...)` takes these names. None: drawn at random."""

    shapes: tuple[str, str] | None = None
    """Of the two objects, from SHAPES."""
    colours: tuple[str, str] | None = None
    """Of the two objects, from COLOURS; drawn ones differ."""
    places: tuple[tuple[float, float], tuple[float, float]] | None = None
    """Where the objects stand, x and y in m; drawn ones stand apart from one another and from the tool."""
    turns: tuple[float, float] | None = None
    """How far the objects are turned about the vertical, rad."""
    start: tuple[float, float, float] | None = None
    """Where the tool starts, x, y, z in m."""
    yaw: float | None = None
    """How the tool starts, rad."""
    light: float = 1.0
    """Brightness of the lamp and the ambient light, as a factor."""


@dataclass(frozen=True)
class Snapshot:
    """A moment of an episode, complete: from it, the same actions lead to the same frames."""

    scene: Scene
    state: np.ndarray  # MuJoCo's integration state
    target: np.ndarray  # [4] x, y, z in m, yaw in rad
    posture: np.ndarray  # [7] rad, where the inverse kinematics stood
    contact: bool


class Push(gymnasium.Env[dict[str, np.ndarray], np.ndarray]):
    """Observation: `image` uint8 [H, W, 3] RGB and `position` float32 [3], where the tool is measured to be, m.
    Action: float32 [4], displacement of the tool's target (m, m, m, rad), clipped to ACTION_LIMIT; the target stays
    within the workspace. Reward: always 0.0. An episode never terminates; `gymnasium.make` truncates it after HORIZON
    steps. `info`: `objects` [2, 3] m, `yaws` [2] rad, `pixels` [2, 2] 0..1 (objects in the picture), `tool_yaw` rad,
    `contact` (did the arm touch an object during this step).
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": RATE}  # noqa: RUF012 (gymnasium's own spelling)

    def __init__(self, image_size: int = 64, render_mode: str | None = "rgb_array") -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise unknown("render mode", str(render_mode), self.metadata["render_modes"])
        self.render_mode = render_mode
        self.image_size = image_size
        self.model = _model()
        self.model.actuator_forcerange[:7] = (-TORQUE, TORQUE)
        self.data = mujoco.MjData(self.model)
        self._posture = mujoco.MjData(self.model)  # the inverse kinematics' own arm
        self._substeps = round(1 / RATE / self.model.opt.timestep)
        self._camera = Camera(self.model, "work", image_size)
        self._default_light = (self.model.light_diffuse.copy(), np.array(self.model.vis.headlight.ambient))
        self._tool = self.model.site("tip").id
        bodies = [self.model.body(name).id for name in OBJECTS]
        self._geoms = [np.flatnonzero(self.model.geom_bodyid == body) for body in bodies]
        arm = [self.model.body(name).id for name in ("hand", "finger_left", "finger_right")]
        self._is_object, self._is_arm = (np.isin(self.model.geom_bodyid, ids) for ids in (bodies, arm))
        self._target = np.zeros(4)
        self._contact = False
        self.scene = Scene()
        """The scene of this episode, with everything that was drawn filled in."""
        limit = ACTION_LIMIT.astype(np.float32)
        self.action_space = gymnasium.spaces.Box(-limit, limit)
        # A measured position may pass its target's bounds by a little.
        low, high = (bound[:3].astype(np.float32) for bound in (WORKSPACE_LOW - 0.03, WORKSPACE_HIGH + 0.03))
        self.observation_space = gymnasium.spaces.Dict(
            {
                "image": gymnasium.spaces.Box(0, 255, (image_size, image_size, 3), np.uint8),
                "position": gymnasium.spaces.Box(low, high),
            }
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        at_least("the seed of an episode", 0 if seed is None else seed, 0)
        super().reset(seed=seed)
        self.scene = _drawn(scene_from(options), self.np_random)
        self._dress()
        data, places, turns = self.data, self.scene.places, self.scene.turns
        assert places is not None
        assert turns is not None
        mujoco.mj_resetData(self.model, data)
        for name, (x, y), turn in zip(OBJECTS, places, turns, strict=True):
            data.joint(name).qpos[:] = (x, y, HALF_HEIGHT, np.cos(turn / 2), 0, 0, np.sin(turn / 2))
        self._target = np.array([*(self.scene.start or ()), self.scene.yaw], dtype=np.float64)
        self._stand(HOME[:7])
        data.qpos[:7] = reach(self.model, self._posture, self._tool, self._target[:3], self._target[3])
        data.ctrl[:] = [*data.qpos[:7], CLOSED]
        self._contact = False
        self._settle()
        return self._observe(), self._info()

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        action = np.asarray(action, dtype=np.float64)
        if action.shape != (len(ACTION_NAMES),) or not np.isfinite(action).all():
            raise SakiyomiError(
                f"an action is {len(ACTION_NAMES)} finite displacements ({', '.join(ACTION_NAMES)}), "
                f"got {action.tolist()}"
            )
        moved = self._target + np.clip(action, -ACTION_LIMIT, ACTION_LIMIT)
        self._target = np.clip(moved, WORKSPACE_LOW, WORKSPACE_HIGH)
        joints = reach(self.model, self._posture, self._tool, self._target[:3], self._target[3])
        self._contact = False
        for _ in drive(self.model, self.data, np.append(joints, CLOSED), self._substeps):
            self._contact = self._contact or self._touching()
        self._settle()
        return self._observe(), 0.0, False, False, self._info()

    def render(self) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The camera's picture, uint8 [H, W, 3]. Raises SakiyomiError where no renderer can be had."""
        return self._camera.picture(self.data)

    def close(self) -> None:
        self._camera.close()

    def snapshot(self) -> Snapshot:
        """This moment, to come back to with `restore`, in this world or another one."""
        state = np.empty(mujoco.mj_stateSize(self.model, mujoco.mjtState.mjSTATE_INTEGRATION))
        mujoco.mj_getState(self.model, self.data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
        return Snapshot(self.scene, state, self._target.copy(), self._posture.qpos[:7].copy(), self._contact)

    def restore(self, snapshot: Snapshot) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Go back to a moment; returns the observation and info that it had."""
        self.scene = snapshot.scene
        self._dress()
        mujoco.mj_setState(self.model, self.data, snapshot.state, mujoco.mjtState.mjSTATE_INTEGRATION)
        self._target, self._contact = snapshot.target.copy(), snapshot.contact
        self._stand(snapshot.posture)
        self._settle()
        return self._observe(), self._info()

    @property
    def objects(self) -> np.ndarray:
        """The objects' middles, float64 [2, 3], m."""
        return np.stack([self.data.body(name).xpos for name in OBJECTS])

    @property
    def target(self) -> np.ndarray:
        """Where the tool is meant to be: x, y, z in m and yaw in rad, float64 [4]."""
        return self._target.copy()

    def project(self, point: np.ndarray) -> np.ndarray:
        """World point [3] in m -> picture [2], x rightwards and y downwards in 0..1 (as SpatialSoftmax counts)."""
        return self._camera.project(self.data, point)

    def _dress(self) -> None:
        """Give the model the scene's shapes, colours and light."""
        model, scene = self.model, self.scene
        for object, (geoms, shape, colour) in enumerate(
            zip(self._geoms, scene.shapes or (), scene.colours or (), strict=True)
        ):
            for geom in geoms:
                on = model.geom(geom).name.removeprefix(f"object{object}_").split("_")[0] == shape
                model.geom_contype[geom] = model.geom_conaffinity[geom] = int(on)
                model.geom_group[geom] = 0 if on else 3  # the renderer leaves out groups over 2
                model.geom_rgba[geom, :3] = COLOURS[colour]
        model.light_diffuse[:] = self._default_light[0] * scene.light
        model.vis.headlight.ambient[:] = self._default_light[1] * scene.light

    def _stand(self, joints: np.ndarray) -> None:
        """Set the arm of the inverse kinematics to these angles."""
        self._posture.qpos[:] = self.model.qpos0
        self._posture.qpos[:7] = joints
        mujoco.mj_kinematics(self.model, self._posture)
        mujoco.mj_comPos(self.model, self._posture)

    def _settle(self) -> None:
        """What is seen and measured belongs to the state after the last substep; the state itself stays untouched."""
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

    def _touching(self) -> bool:
        first, second = self.data.contact.geom.T
        between = (self._is_arm[first] & self._is_object[second]) | (self._is_object[first] & self._is_arm[second])
        return bool(between.any())

    def _observe(self) -> dict[str, np.ndarray]:
        return {"image": self.render(), "position": self.data.site_xpos[self._tool].astype(np.float32)}

    def _info(self) -> dict[str, Any]:
        objects, tool = self.objects, self.data.site_xmat[self._tool]
        turned = [self.data.body(name).xmat for name in OBJECTS]
        return {
            "objects": objects,
            "yaws": np.array([np.arctan2(matrix[3], matrix[0]) for matrix in turned]),
            "pixels": np.stack([self.project(place) for place in objects]),
            "tool_yaw": float(np.arctan2(-tool[3], -tool[0])),
            "contact": self._contact,
        }


def _model() -> mujoco.MjModel:
    """push.xml, and a rod in the hand. Without it the hand would hide what the fingers do."""
    spec = mujoco.MjSpec.from_file(str(Path(__file__).with_suffix(".xml")))
    hand = spec.body("hand")
    ends = [0.0, 0.0, 0.05, 0.0, 0.0, ROD_TIP]
    rod = hand.add_geom(name="rod", type=mujoco.mjtGeom.mjGEOM_CYLINDER, fromto=ends, size=[ROD_RADIUS, 0, 0])
    rod.rgba, rod.mass = [0.04, 0.04, 0.05, 1.0], 0.05
    rod.contype = rod.conaffinity = 1  # unlike the arm's other parts
    hand.add_site(name="tip", pos=ends[3:], rgba=[0.0, 0.0, 0.0, 0.0])
    return spec.compile()


def scene_from(options: dict[str, Any] | None) -> Scene:
    """A Scene from reset options, which may be JSON's lists. Raises SakiyomiError for what it cannot be made of."""
    for name in options or {}:
        if name not in Scene.__dataclass_fields__:
            raise unknown("scene option", name, Scene.__dataclass_fields__)
    scene = Scene(**(options or {}))
    if scene.shapes is not None:
        scene = replace(scene, shapes=_pair("shape", scene.shapes, SHAPES))
    if scene.colours is not None:
        scene = replace(scene, colours=_pair("colour", scene.colours, tuple(COLOURS)))
    if scene.places is not None:
        numbers = _numbers("places", scene.places, (2, 2), "x and y in m of each of the two objects")
        scene = replace(scene, places=tuple(map(tuple, numbers.tolist())))
    if scene.turns is not None:
        numbers = _numbers("turns", scene.turns, (2,), "an angle in rad for each of the two objects")
        scene = replace(scene, turns=tuple(numbers.tolist()))
    if scene.start is not None:
        numbers = _numbers("start", scene.start, (3,), "x, y and z of the tool in m")
        if (numbers < WORKSPACE_LOW[:3]).any() or (numbers > WORKSPACE_HIGH[:3]).any():
            raise SakiyomiError(
                f"start is {numbers.tolist()}; the tool stays within {WORKSPACE_LOW[:3].tolist()} .. "
                f"{WORKSPACE_HIGH[:3].tolist()} m"
            )
        scene = replace(scene, start=tuple(numbers.tolist()))
    if scene.yaw is not None:
        yaw = float(_numbers("yaw", scene.yaw, (), "the tool's angle in rad"))
        if not WORKSPACE_LOW[3] <= yaw <= WORKSPACE_HIGH[3]:
            raise SakiyomiError(f"yaw is {yaw}; it must lie in {WORKSPACE_LOW[3]:.3f} .. {WORKSPACE_HIGH[3]:.3f} rad")
        scene = replace(scene, yaw=yaw)
    light = float(_numbers("light", scene.light, (), "a factor"))
    at_least("the light of a scene", light, 0)
    return replace(scene, light=light)


def _pair(kind: str, names: Any, known: tuple[str, ...]) -> tuple[str, str]:
    names = tuple(names)
    for name in names:
        if name not in known:
            raise unknown(kind, str(name), known)
    if len(names) != 2:
        raise SakiyomiError(f"a scene has two objects and so two {kind}s, got {len(names)}: {list(names)}")
    return names


def _numbers(name: str, given: Any, shape: tuple[int, ...], meaning: str) -> np.ndarray:
    numbers = np.asarray(given, dtype=np.float64)
    if numbers.shape != shape or not np.isfinite(numbers).all():
        raise SakiyomiError(f"{name} is {given}; it must be finite: {meaning}")
    return numbers


def _drawn(scene: Scene, random: np.random.Generator) -> Scene:
    """The scene with everything filled in that was left open."""
    # Drawn whether needed or not, so that fixing one thing leaves the others as they were.
    shapes = tuple(str(name) for name in random.choice(SHAPES, 2))
    colours = tuple(str(name) for name in random.choice(list(COLOURS), 2, replace=False))
    turns = tuple(random.uniform(-np.pi, np.pi, 2).tolist())
    *start, yaw = random.uniform(WORKSPACE_LOW, WORKSPACE_HIGH).tolist()
    scene = replace(
        scene,
        shapes=scene.shapes or shapes,
        colours=scene.colours or colours,
        turns=scene.turns or turns,
        start=scene.start or tuple(start),
        yaw=yaw if scene.yaw is None else scene.yaw,
    )
    assert scene.start is not None
    tool = np.array(scene.start[:2])
    while scene.places is None:  # about every third draw fits
        places = random.uniform(PLACE_LOW, PLACE_HIGH, (2, 2))
        clear = np.linalg.norm(places - tool, axis=1).min() >= CLEAR
        if clear and np.linalg.norm(places[0] - places[1]) >= APART:
            scene = replace(scene, places=tuple(map(tuple, places.tolist())))
    return scene
