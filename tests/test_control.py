"""Controllers: trained, stopped, resumed, loaded, measured beside chance, recorded."""

import itertools
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from gliding import RATE, gliding
from safetensors import safe_open

from sakiyomi import control
from sakiyomi.agents import ppo
from sakiyomi.control import (
    TASKS,
    Controller,
    ControllerJob,
    evaluate_controller,
    load_controller,
    rollout_controller,
    train_controller,
)
from sakiyomi.errors import SakiyomiError
from sakiyomi.motion.layout import advance
from sakiyomi.run import Interrupted, read_metrics
from sakiyomi.schedules import LearningRate
from sakiyomi.scores.protocol import compare
from sakiyomi.worlds.character import CharacterWorld
from sakiyomi.worlds.joystick import Joystick
from sakiyomi.worlds.target import Target

SMALL = ControllerJob(
    world=CharacterWorld.Config(count=16, frames=40),
    agent=ppo.Config(frames=16, batch=64, hidden=(16,)),
    frames=16 * 16 * 6,
    threads=1,
    save_every=2,
    log_every=1,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Controller, Path]:
    """One that has learned to reach targets, and its folder."""
    job = replace(
        SMALL,
        world=CharacterWorld.Config(count=64, frames=300),
        agent=ppo.Config(frames=32, batch=512, hidden=(32,), learning_rate=LearningRate(peak=3e-3)),
        frames=64 * 32 * 40,
    )
    folder = tmp_path_factory.mktemp("trained")
    return train_controller(job, gliding(), folder), folder


def weights(folder: Path, name: str = "last.safetensors") -> dict[str, torch.Tensor]:
    with safe_open(folder / name, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize("name", TASKS)
def test_every_task_trains_and_its_controller_comes_back(name: str, tmp_path: Path) -> None:
    job, character = replace(SMALL, task=TASKS[name].Config(), frames=600), gliding()
    controller = train_controller(job, character, tmp_path)
    loaded = load_controller(tmp_path, character)
    assert loaded.job == job
    state = controller.world.begin(torch.Generator().manual_seed(0))
    z = controller.act(state.moving, state.goal)
    assert z.shape == (16, 2)
    assert torch.equal(loaded.act(state.moving, state.goal), z)
    assert set(weights(tmp_path, "weights.safetensors")) == set(controller.policy.state_dict())
    scores = evaluate_controller(loaded, characters=3, seconds=11)
    assert {score.removesuffix("/random") for score in scores} >= {"whole"}
    assert all(name in scores for name in scores if not name.endswith("/random"))
    trajectory = rollout_controller(loaded, characters=3, seconds=1)
    assert trajectory.poses.shape == (30, 3, 27)
    assert all(value.shape[:2] == (30, 3) for value in trajectory.goals.values())


def stop_at(monkeypatch: pytest.MonkeyPatch, iteration: int) -> None:
    """Ctrl-C is pressed while so many iterations are done."""
    iterate, count = ppo.iterate, itertools.count(1)

    def interrupted(*args):
        if next(count) == iteration:
            os.kill(os.getpid(), signal.SIGINT)
        return iterate(*args)

    monkeypatch.setattr(ppo, "iterate", interrupted)


@pytest.mark.parametrize("name", TASKS)
def test_stopped_and_resumed_is_never_stopped(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit: weights, moments, where all characters are, what they were asked, and the log."""
    job, character = replace(SMALL, task=TASKS[name].Config()), gliding()
    train_controller(job, character, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        with pytest.raises(Interrupted, match="stopped before iteration 3"):
            train_controller(job, character, tmp_path / "stopped")
    assert json.loads(header(tmp_path / "stopped")["state"])["step"] == 3
    train_controller(job, character, tmp_path / "stopped", resume=True)
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    assert set(whole) == set(resumed)
    assert any(key.startswith("goal.") for key in whole)
    for key, value in whole.items():
        assert torch.equal(value, resumed[key]), key
    told = [[{**line, "frames_s": 0} for line in read_metrics(tmp_path / run)] for run in ("whole", "stopped")]
    assert told[0] == told[1]
    assert [line["step"] for line in told[0]] == list(range(6))


def header(folder: Path) -> dict[str, str]:
    with safe_open(folder / "last.safetensors", framework="pt") as file:
        return file.metadata()


def test_a_run_that_is_done_has_nothing_left_to_do(tmp_path: Path) -> None:
    character = gliding()
    train_controller(SMALL, character, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    train_controller(SMALL, character, tmp_path, resume=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_a_folder_with_a_run_is_not_overwritten_nor_resumed_with_another_job(tmp_path: Path) -> None:
    character = gliding()
    train_controller(SMALL, character, tmp_path)
    with pytest.raises(SakiyomiError, match="holds a run already; go on with --resume"):
        train_controller(SMALL, character, tmp_path)
    for change in ({"frames": 5000}, {"task": Joystick.Config()}, {"task": Target.Config(bonus=-3.0)}):
        with pytest.raises(
            SakiyomiError, match=r"another job .*(frames 1536 there, 5000|joystick|bonus .* -3.0 asked)"
        ):
            train_controller(replace(SMALL, **change), character, tmp_path, resume=True)
    train_controller(replace(SMALL, log_every=3, threads=2), character, tmp_path, resume=True)


def test_what_is_not_a_number_stops_the_training(tmp_path: Path) -> None:
    job = replace(SMALL, agent=replace(SMALL.agent, learning_rate=LearningRate(peak=1e30)))
    with pytest.raises(SakiyomiError, match=r"became (nan|inf) at iteration \d.*learning-rate.peak usually helps"):
        train_controller(job, gliding(), tmp_path)


def test_a_job_goes_to_json_and_back(tmp_path: Path) -> None:
    job = replace(SMALL, task=Joystick.Config(hold=(2.0, 8.0)), seed=7)
    control.save_job(job, tmp_path)
    assert control.load_job(tmp_path) == job


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no run"),
        ({"model": {"name": "sarnn"}}, "holds no controller: its job.json names no task"),
        ({"task": {"name": "targt", "config": {}}}, "unknown task 'targt': did you mean 'target'"),
        ({"task": {"name": "target", "config": {"near": "far"}}}, "cannot be read"),
        ({"task": {"name": "target", "config": {}}, "speed": 1}, "cannot be read"),
    ],
)
def test_a_folder_that_holds_no_controller_is_refused(tmp_path: Path, content: dict | None, message: str) -> None:
    if content is not None:
        (tmp_path / "job.json").write_bytes(msgspec.json.encode(content))
    with pytest.raises(SakiyomiError, match=message):
        load_controller(tmp_path, gliding())


def test_another_characters_controller_is_refused(tmp_path: Path) -> None:
    train_controller(replace(SMALL, frames=1), gliding(), tmp_path)
    other = gliding()
    other.latent = 5
    with pytest.raises(SakiyomiError, match=r"reads 31 numbers and gives 2; this character .* has 31 and 5"):
        load_controller(tmp_path, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 0}, "--frames is 0; it must be at least 1"),
        ({"seed": -1}, "--seed is -1"),
        ({"save_every": 0}, "--save-every is 0"),
        ({"agent": ppo.Config(epochs=0)}, "--agent.epochs is 0"),
    ],
)
def test_a_number_out_of_range_is_named(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(SakiyomiError, match=message):
        train_controller(replace(SMALL, **change), gliding(), tmp_path)
    assert not (tmp_path / "job.json").exists()


def test_it_reaches_targets_and_chance_does_not(trained: tuple[Controller, Path]) -> None:
    scores = evaluate_controller(trained[0], characters=40, seconds=20)
    reached, chance = scores["targets_reached"], scores["targets_reached/random"]
    assert reached.value > 0.9
    assert chance.value < 0.3
    assert reached.low is not None
    assert reached.high is not None
    assert reached.low <= reached.value <= reached.high
    assert "2 to 6 m away" in reached.protocol.rule
    assert (reached.protocol.n, reached.protocol.interval) == (40, "wilson 95 %")
    assert 1 < scores["target_seconds"].value < 8
    assert scores["whole"].value == 1
    again = evaluate_controller(trained[0], characters=40, seconds=20)
    assert again == scores
    assert not any(difference.apart for difference in compare(scores, again))
    with pytest.raises(SakiyomiError, match="two protocols"):
        compare(scores, evaluate_controller(trained[0], characters=41, seconds=11))


def test_it_acts_alike_for_one_and_for_many_and_draws_only_when_asked(trained: tuple[Controller, Path]) -> None:
    controller = trained[0]
    state = controller.world.begin(torch.Generator().manual_seed(0))
    z = controller.act(state.moving, state.goal)
    assert torch.equal(controller.act(state.moving, state.goal), z)
    one = type(state.moving)(state.moving.pose[:1], state.moving.place[:1])
    torch.testing.assert_close(controller.act(one, {"target": state.goal["target"][:1]}), z[:1])
    drawn = controller.act(state.moving, state.goal, torch.Generator().manual_seed(1))
    assert not torch.equal(drawn, z)
    assert float(z.abs().max()) <= controller.world.config.scale


def test_a_trajectory_is_what_happened(trained: tuple[Controller, Path]) -> None:
    """Places follow from the poses, goals stay until they are reached, and the seed says it all."""
    controller = trained[0]
    walked = rollout_controller(controller, characters=4, seconds=10, seed=3)
    assert walked.rate == RATE
    assert not walked.over.any()
    for t in range(len(walked.poses) - 1):
        torch.testing.assert_close(advance(walked.places[t], walked.poses[t + 1], RATE), walked.places[t + 1])
    target = walked.goals["target"]
    changed = (target[1:] != target[:-1]).any(-1)
    assert changed.any()
    distance = (walked.places[1:, :, :2] - target[:-1]).norm(dim=-1)
    assert float(distance[changed].max()) <= 0.5
    assert float(distance[~changed].min()) > 0.5
    same = rollout_controller(controller, characters=4, seconds=10, seed=3)
    assert torch.equal(same.places, walked.places)
    other = rollout_controller(controller, characters=4, seconds=10, seed=3, chance=True)
    assert not torch.equal(other.places, walked.places)


def test_the_log_tells_how_it_went(trained: tuple[Controller, Path]) -> None:
    lines = read_metrics(trained[1])
    assert [line["step"] for line in lines] == list(range(40))
    assert {"policy", "value", "reward", "lr", "frames_s", "explained", "task/reached", "terminated"} <= set(lines[0])
    assert np.mean([line["reward"] for line in lines[-5:]]) > np.mean([line["reward"] for line in lines[:5]]) + 0.3
    assert list((trained[1] / "tensorboard").iterdir())


def test_a_longer_evaluation_than_an_episode_is_not_cut(trained: tuple[Controller, Path]) -> None:
    """Episodes of training are 10 s here."""
    assert not rollout_controller(trained[0], characters=2, seconds=15).over.any()


def test_nonsense_is_refused(trained: tuple[Controller, Path]) -> None:
    with pytest.raises(SakiyomiError, match="--characters is 0"):
        evaluate_controller(trained[0], characters=0)
    with pytest.raises(SakiyomiError, match="--seconds"):
        rollout_controller(trained[0], seconds=0)
    with pytest.raises(SakiyomiError, match=r"unknown task config 'CharacterWorld\.Config'"):
        control.task_name(CharacterWorld.Config())
