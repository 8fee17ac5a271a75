"""The world keeps its written rules: who succeeds, what the camera shows, what may be changed."""

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from sakiyomi.errors import SakiyomiError
from sakiyomi.worlds.pick_cube import CUBE_HALF, HORIZON, PLACE_HIGH, PLACE_LOW, RATE, TAUGHT_PLACES, PickCube
from sakiyomi.worlds.pick_cube_expert import plan

CENTRE = (0.5, 0.0)
RANDOM_PLACES = np.random.default_rng(0).uniform(PLACE_LOW, PLACE_HIGH, (10, 2)).tolist()


@pytest.fixture(scope="module")
def world() -> Iterator[PickCube]:
    world = PickCube(image_size=64)
    yield world
    world.close()


def picture(world: PickCube, seed: int = 0, **options: object) -> np.ndarray:
    return world.reset(seed=seed, options=options)[0]["image"].astype(float)


def follow(world: PickCube, commands: np.ndarray) -> dict[str, Any]:
    """The info after the last command."""
    return [world.step(command)[-1] for command in commands][-1]


def test_gymnasium_accepts_it() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        env = gymnasium.make("sakiyomi/PickCube-v0", image_size=32)
        assert env.spec is not None
        assert env.spec.max_episode_steps == HORIZON
        check_env(env.unwrapped)
        env.close()


def test_a_seed_reproduces_an_episode(world: PickCube) -> None:
    def episode(seed: int) -> list[np.ndarray]:
        observation, info = world.reset(seed=seed, options={"camera_jitter": 0.02, "distractor_rgb": (0, 0, 1)})
        out = [observation["image"], observation["joints"], info["cube_position"]]
        for command in plan(world, 8):
            observation, *_, info = world.step(command)
            out += [observation["image"], observation["joints"], info["cube_position"]]
        return out

    first, other = episode(3), episode(4)
    for a, b in zip(first, episode(3), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[2], other[2])
    assert not np.array_equal(first[1], other[1])


@pytest.mark.parametrize("place", [*TAUGHT_PLACES, *RANDOM_PLACES], ids=str)
def test_the_expert_succeeds(world: PickCube, place: tuple[float, float]) -> None:
    world.reset(seed=1, options={"place": place})
    info = follow(world, plan(world, HORIZON))
    assert info["success_any"]
    assert info["success_last"]


def test_planning_moves_nothing(world: PickCube) -> None:
    world.reset(seed=1)
    before = world.data.qpos.copy(), world.data.ctrl.copy()
    plan(world, HORIZON)
    np.testing.assert_array_equal(world.data.qpos, before[0])
    np.testing.assert_array_equal(world.data.ctrl, before[1])


def test_success_is_half_a_second_at_eight_centimetres_without_a_break(world: PickCube) -> None:
    """The demonstration, with the gripper opened after so many ticks over 8 cm; five are half a second."""
    outcomes = []
    for ticks_up in (2, 4, 7):
        world.reset(seed=1, options={"place": CENTRE})
        up, rewards, longest, info = 0, [], 0, {}
        for command in plan(world, HORIZON):
            if longest >= ticks_up:
                command[7] = 0.08
            _, reward, terminated, truncated, info = world.step(command)
            assert not terminated
            assert not truncated
            assert reward == float(info["success_last"])
            up = up + 1 if info["cube_position"][2] - CUBE_HALF >= 0.08 else 0
            longest = max(longest, up)
            rewards.append(reward)
        assert info["cube_position"][2] < 2 * CUBE_HALF  # it lies on the table again
        outcomes.append((info["success_any"], info["success_last"], max(rewards)))
    assert outcomes == [(False, False, 0.0), (False, False, 0.0), (True, False, 1.0)]


def test_success_is_forgotten_on_reset(world: PickCube) -> None:
    world.reset(seed=1, options={"place": CENTRE})
    assert follow(world, plan(world, HORIZON))["success_any"]
    assert not world.reset(seed=1)[1]["success_any"]


@pytest.mark.parametrize("size", [64, 128])
def test_project_agrees_with_the_picture(size: int) -> None:
    """Where a bright cube is drawn is where `project` says it is, jittered cameras included."""
    world = PickCube(image_size=size)
    for seed, place in enumerate([CENTRE, TAUGHT_PLACES[0], TAUGHT_PLACES[3]]):
        options = {"place": place, "cube_rgb": (0.0, 1.0, 0.0), "camera_jitter": 0.02 * seed}
        observation, info = world.reset(seed=seed, options=options)
        assert observation["image"].shape == (size, size, 3)
        red, green, blue = observation["image"].astype(int).transpose(2, 0, 1)
        rows, columns = np.nonzero(green > 40 + np.maximum(red, blue))
        assert len(rows) > 10
        centroid = np.array([columns.mean() + 0.5, rows.mean() + 0.5])
        assert np.abs(centroid - size * info["cube_pixel"]).max() < 1.5 * size / 64
    world.close()


def test_the_camera_sees_every_place(world: PickCube) -> None:
    for place in [*TAUGHT_PLACES, PLACE_LOW, PLACE_HIGH, (PLACE_LOW[0], PLACE_HIGH[1]), (PLACE_HIGH[0], PLACE_LOW[1])]:
        _, info = world.reset(seed=0, options={"place": place})
        assert ((info["cube_pixel"] > 0.05) & (info["cube_pixel"] < 0.95)).all()


def test_places_are_drawn_from_the_rectangle(world: PickCube) -> None:
    drawn = np.array([world.reset(seed=seed)[1]["cube_position"][:2] for seed in range(40)])
    assert (drawn >= np.array(PLACE_LOW) - 1e-6).all()
    assert (drawn <= np.array(PLACE_HIGH) + 1e-6).all()
    assert (np.ptp(drawn, 0) > 0.7 * np.subtract(PLACE_HIGH, PLACE_LOW)).all()


def test_light_makes_the_picture_brighter(world: PickCube) -> None:
    means = [picture(world, place=CENTRE, light=light).mean() for light in (0.4, 0.7, 1.0, 1.3)]
    assert means == sorted(means)
    assert means[0] < 0.7 * means[2]
    assert picture(world, place=CENTRE).mean() == means[2]  # and does not stay


def test_a_distractor_stands_beside_the_cube(world: PickCube) -> None:
    for seed in range(10):
        without = picture(world, seed, place=CENTRE)
        blue = picture(world, seed, place=CENTRE, distractor_rgb=(0.0, 0.0, 1.0))
        changed = np.abs(blue - without).max(-1) > 30
        assert 15 < changed.sum() < 600
        assert (blue[changed][:, 2] > blue[changed][:, 0]).mean() > 0.8
        assert np.linalg.norm(world.data.mocap_pos[0, :2] - CENTRE) > 3 * CUBE_HALF
        np.testing.assert_array_equal(picture(world, seed, place=CENTRE), without)


def test_the_cube_has_the_colour_asked_for(world: PickCube) -> None:
    changed = np.abs(picture(world, place=CENTRE, cube_rgb=(0.0, 0.0, 1.0)) - picture(world, place=CENTRE)).max(-1) > 30
    assert 15 < changed.sum() < 600


def test_camera_jitter_changes_the_view_and_does_not_stay(world: PickCube) -> None:
    steady = picture(world, place=CENTRE)
    assert np.abs(picture(world, place=CENTRE, camera_jitter=0.03) - steady).mean() > 1
    np.testing.assert_array_equal(picture(world, place=CENTRE), steady)


def test_a_moved_cube_lies_where_it_was_put(world: PickCube) -> None:
    world.reset(seed=0, options={"place": CENTRE})
    world.move_cube((0.47, 0.1))
    info = follow(world, plan(world, 3))
    np.testing.assert_allclose(info["cube_position"], [0.47, 0.1, CUBE_HALF], atol=2e-3)


def test_commands_are_joint_targets_in_their_units(world: PickCube) -> None:
    """Held for a second, a target is where the joints are; one tick is 1/RATE s of physics."""
    world.reset(seed=0, options={"place": TAUGHT_PLACES[0]})
    target = world.data.ctrl + np.array([0.1, -0.1, 0.1, 0.1, -0.1, 0.1, 0.1, -0.03])
    start = world.data.time
    observation = [world.step(target)[0] for _ in range(12)][-1]
    assert world.data.time - start == pytest.approx(12 / RATE)
    np.testing.assert_allclose(observation["joints"], target, atol=0.02)


def test_wrong_options_and_actions_are_refused(world: PickCube) -> None:
    with pytest.raises(SakiyomiError, match="'lihgt': did you mean 'light'"):
        world.reset(options={"lihgt": 1.0})
    world.reset(seed=0)
    for action in (np.zeros(7), np.full(8, np.nan)):
        with pytest.raises(SakiyomiError, match="8 finite joint targets"):
            world.step(action)
    with pytest.raises(SakiyomiError, match="image_size is 8"):
        PickCube(image_size=8)
    with pytest.raises(SakiyomiError, match="render mode"):
        PickCube(render_mode="human")


RENDER = "from sakiyomi.worlds.pick_cube import PickCube; PickCube().reset(seed=0)"


@pytest.mark.parametrize("missing", ["library", "device"])
def test_without_egl_the_package_is_named(tmp_path: Path, missing: str) -> None:
    """For real: the linker finds a file that is no library before the true one, or no device has that number."""
    for name in ("libEGL.so.1", "libEGL.so", "libEGL.so.0"):
        (tmp_path / name).write_bytes(b"no library")
    broken = {"LD_LIBRARY_PATH": str(tmp_path)} if missing == "library" else {"MUJOCO_EGL_DEVICE_ID": "99"}
    environment = {**os.environ, "MUJOCO_GL": "egl", **broken}
    done = subprocess.run([sys.executable, "-c", RENDER], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    last = next(line for line in reversed(done.stderr.splitlines()) if "SakiyomiError" in line)
    assert "libegl1" in last
    assert "MUJOCO_GL=egl" in last


def test_without_egl_a_command_says_so_in_one_line(tmp_path: Path) -> None:
    for name in ("libEGL.so.1", "libEGL.so", "libEGL.so.0"):
        (tmp_path / name).write_bytes(b"no library")
    environment = {**os.environ, "MUJOCO_GL": "egl", "LD_LIBRARY_PATH": str(tmp_path)}
    command = [sys.executable, "-m", "sakiyomi", "train", "pick-small"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert "libegl1" in done.stderr
