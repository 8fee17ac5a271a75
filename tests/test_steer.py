"""`rollout target-walker`: the files that a steered character leaves."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gliding import gliding
from PIL import Image

from sakiyomi.agents import ppo
from sakiyomi.control import TASKS, Controller, ControllerJob, rollout_controller, task_of
from sakiyomi.data.formats.bvh import read_bvh
from sakiyomi.errors import SakiyomiError
from sakiyomi.steer import Steering, rollout_steered, steered_gif, write_steered
from sakiyomi.walk import MOST
from sakiyomi.worlds.character import CharacterWorld

SHORT = Steering(characters=3, seconds=1.0, bvh=2)


def controller_of(task: str) -> Controller:
    """One that nobody taught: its character glides about."""
    character = gliding()
    job = ControllerJob(task=TASKS[task].Config())
    world = CharacterWorld(character, task_of(job.task, character), job.world)
    torch.manual_seed(0)
    return Controller(job, ppo.ActorCritic(world.width, character.latent, job.agent), world)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_leaves_a_film_a_plot_and_bvh(task: str, tmp_path: Path) -> None:
    files = rollout_steered(controller_of(task), SHORT, tmp_path)
    assert [path.name for path in files] == ["paths.png", "steered.gif", "steered-00.bvh", "steered-01.bvh"]
    assert sorted(files) == sorted(tmp_path.iterdir())
    for path in files[:2]:
        with Image.open(path) as picture:
            assert picture.width > 100


def test_only_what_is_asked_for_is_drawn_and_written_and_a_seed_decides(tmp_path: Path) -> None:
    controller = controller_of("target")
    plain = replace(SHORT, drawn=0, bvh=0)
    assert [path.name for path in rollout_steered(controller, plain, tmp_path / "a")] == ["paths.png"]
    for name, seed in (("b", 10_000), ("c", 1)):
        rollout_steered(controller, replace(plain, seed=seed), tmp_path / name)
    a, b, c = ((tmp_path / name / "paths.png").read_bytes() for name in "abc")
    assert a == b != c


@pytest.mark.parametrize(("task", "goal"), [("target", "target"), ("joystick", "speed")])
def test_what_a_character_is_to_do_is_in_the_picture(task: str, goal: str) -> None:
    controller = controller_of(task)
    done = rollout_controller(controller, 1, 0.1)
    with_goal = steered_gif(controller, done)
    assert steered_gif(controller, replace(done, goals={**done.goals, goal: done.goals[goal] + 1.0})) != with_goal
    assert steered_gif(controller, replace(done, goals={})) != with_goal


def test_bvh_is_the_way_the_character_went_up_to_the_end_of_its_episode(tmp_path: Path) -> None:
    controller = controller_of("target")
    done = rollout_controller(controller, 2, 1.0)
    over = torch.zeros_like(done.over)
    over[11, 1] = over[20, 1] = True
    done = replace(done, over=over)
    for number, length in ((0, 30), (1, 12)):
        path = tmp_path / f"{number}.bvh"
        write_steered(controller, done, number, path)
        clip = read_bvh(path, "cm", "y")
        assert len(clip.positions) == length
        np.testing.assert_allclose(clip.positions[:, 0, [0, 2]], done.places[:length, number, :2], atol=1e-4)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"characters": 0}, "--characters is 0; it must be at least 1"),
        ({"seconds": 0.0}, "--seconds"),
        ({"seconds": float("nan")}, "--seconds"),
        ({"seconds": 1e9}, f"it must be at most {MOST}"),
        ({"drawn": -1}, "--drawn is -1; it must be at least 0"),
        ({"bvh": -1}, "--bvh is -1; it must be at least 0"),
        ({"seed": -1}, "--seed is -1; it must be at least 0"),
    ],
)
def test_options_out_of_range_are_told_and_nothing_is_left(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(SakiyomiError, match=told):
        rollout_steered(controller_of("target"), replace(SHORT, **options), tmp_path)
    assert not list(tmp_path.iterdir())
