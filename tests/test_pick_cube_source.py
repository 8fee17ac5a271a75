"""Demonstrations: what is recorded, and that an interrupted recording is the same as one that was not."""

from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.sources.pick_cube import PickCubeSource
from sakiyomi.errors import SakiyomiError
from sakiyomi.worlds.pick_cube import HORIZON, RATE, TAUGHT_PLACES, PickCube
from sakiyomi.worlds.pick_cube_expert import plan

SOURCE = PickCubeSource(episodes=3, validation=1, image_size=16)


def test_splits_and_places(pick_store: EpisodeStore) -> None:
    train, validation = pick_store.split("train"), pick_store.split("validation")
    assert (len(train), len(validation)) == (5, 2)
    assert [tuple(entry.meta["place"]) for entry in train] == list(TAUGHT_PLACES)
    for entry in (*train, *validation):
        assert set(entry.lengths.values()) == {HORIZON}
        cube = pick_store.values(entry.id, "cube")
        np.testing.assert_allclose(cube[0, :2], entry.meta["place"], atol=1e-6)
        # One that a push made fail was shown again.
        assert entry.meta["success"]
        assert cube[-1, 2] > 0.1
        np.testing.assert_allclose(np.diff(pick_store.times(entry.id, "joints")), 1 / RATE)
    # The same place again, but another episode.
    again = pick_store.values(validation[0].id, "joints")
    assert not np.array_equal(again, pick_store.values(train[0].id, "joints"))


def test_without_disturbance_every_demonstration_succeeds(tmp_path: Path) -> None:
    store = PickCubeSource(episodes=10, validation=5, image_size=16, disturbance=0.0).record(tmp_path)
    assert all(entry.meta["success"] for entry in store.entries)


def stand(world: PickCube, place: tuple[float, float], joints: np.ndarray) -> None:
    """Begin where a recording began."""
    world.reset(seed=0, options={"place": place})
    world.data.qpos[:7], world.data.qpos[7:9] = joints[:7], joints[7] / 2
    world.data.ctrl[:] = joints
    mujoco.mj_forward(world.model, world.data)  # pyright: ignore[reportAttributeAccessIssue]


def test_commands_are_the_experts_and_the_arm_was_pushed(pick_store: EpisodeStore) -> None:
    """The label is what the expert meant; what the arm did carries the disturbance."""
    world = PickCube(image_size=16)
    for entry in pick_store.split("train")[:2]:
        commands, joints = pick_store.values(entry.id, "command"), pick_store.values(entry.id, "joints")
        stand(world, entry.meta["place"], joints[0])
        np.testing.assert_allclose(commands, plan(world, HORIZON, entry.meta["speed"]), atol=1e-3)
        undisturbed = []
        for command in commands:
            undisturbed.append(world.data.qpos[:7].copy())
            world.step(command)
        difference = joints[:, :7] - np.array(undisturbed)
        assert np.abs(difference[0]).max() < 1e-6
        assert 0.005 < difference[5:].std() < 0.1
    world.close()


def test_absurd_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SakiyomiError, match="at least 1"):
        replace(SOURCE, validation=0).record(tmp_path / "new")
