"""What happens to an arm: only what was asked for, only when, and physics does the rest."""

from typing import Any

import numpy as np
import pytest

from sakiyomi.errors import SakiyomiError
from sakiyomi.worlds.arm import HOME
from sakiyomi.worlds.disturbed import Disturbance, Disturbed
from sakiyomi.worlds.pick_cube import PickCube

TICKS = 12
WAVE = HOME + np.array([0.15, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.0])


def run(disturbance: Disturbance | None, image_size: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Images and joints of a fixed course of commands, [TICKS + 1, ...]."""
    world: Any = PickCube(image_size)
    world = Disturbed(world, disturbance) if disturbance else world
    observation, _ = world.reset(seed=3, options={"place": (0.5, 0.0)})
    seen = [observation]
    for tick in range(TICKS):
        observation, *_ = world.step(HOME + (WAVE - HOME) * min(1.0, tick / 10))
        seen.append(observation)
    world.close()
    return np.stack([o["image"] for o in seen]), np.stack([o["joints"] for o in seen])


@pytest.fixture(scope="module")
def calm() -> tuple[np.ndarray, np.ndarray]:
    return run(None)


def test_a_push_moves_the_arm_and_lets_go(calm: tuple[np.ndarray, np.ndarray]) -> None:
    _, joints = run(Disturbance("push", tick=5, ticks=2, force=(0.0, 100.0, 0.0)))
    np.testing.assert_array_equal(joints[:5], calm[1][:5])
    pushed = np.abs(joints - calm[1]).max(1)
    assert pushed[5] > 0.01  # rad
    assert pushed[6] > 0.01
    assert pushed[-1] < 0.2 * pushed.max()


def test_a_camera_goes_dark_and_comes_back(calm: tuple[np.ndarray, np.ndarray]) -> None:
    images, joints = run(Disturbance("blind", tick=4, ticks=3))
    assert not images[4:7].any()
    np.testing.assert_array_equal(images[[3, 7]], calm[0][[3, 7]])
    np.testing.assert_array_equal(joints, calm[1])


@pytest.mark.parametrize("joint", [0, 3, 6])
def test_a_joint_jams_and_the_others_go_on(calm: tuple[np.ndarray, np.ndarray], joint: int) -> None:
    _, joints = run(Disturbance("frozen", tick=4, joint=joint))
    np.testing.assert_array_equal(joints[:4], calm[1][:4])
    assert abs(joints[-1, joint] - joints[4, joint]) < 0.015
    others = [other for other in range(7) if other != joint]
    assert np.abs(joints[-1, others] - calm[1][-1, others]).max() < 0.02
    assert abs(joints[-1, joint] - calm[1][-1, joint]) > 0.04


def test_reset_forgets_a_push() -> None:
    world = Disturbed(PickCube(16), Disturbance("push", tick=1, ticks=100, force=(100.0, 0.0, 0.0)))
    seen = []
    for _ in range(2):
        world.reset(seed=3)
        observation, *_ = world.step(HOME)
        seen.append(observation["joints"])
    assert world.world.data.xfrc_applied.any()
    world.reset(seed=3)
    assert not world.world.data.xfrc_applied.any()
    np.testing.assert_array_equal(seen[0], seen[1])


def test_what_cannot_happen_is_told() -> None:
    world = PickCube(16)
    with pytest.raises(SakiyomiError, match="did you mean 'blind'"):
        Disturbed(world, Disturbance("blnd", tick=1))  # pyright: ignore[reportArgumentType]
    with pytest.raises(SakiyomiError, match="must be at least 1"):
        Disturbed(world, Disturbance("blind", tick=0))
    with pytest.raises(SakiyomiError, match=r"0\.\.6"):
        Disturbed(world, Disturbance("frozen", tick=1, joint=7))
