"""Driving: the same step as in training, nothing unguarded, the clock kept."""

import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.normalize import Normalizer
from sakiyomi.data.windows import Data, Windows, covered_streams
from sakiyomi.errors import SakiyomiError
from sakiyomi.guard import Guard
from sakiyomi.job import Job, save_job
from sakiyomi.models import SARNN
from sakiyomi.rollout import Policy, Trained, limits_of, load, open_loop, run_trial
from sakiyomi.run import save_weights
from sakiyomi.train import learned_limits
from sakiyomi.worlds.pick_cube import HORIZON, PickCube


@pytest.fixture
def trained(pick_store: EpisodeStore) -> Trained:
    """An untrained model with all that belongs to a trained one."""
    torch.manual_seed(0)
    config = SARNN.Config(height=32, width=32, points=3, hidden=16, temperature=0.01)
    normalizer = Normalizer.fit(pick_store, covered_streams(pick_store, SARNN.inputs))
    data = Data(str(pick_store.folder))
    limits = learned_limits(Windows(pick_store, "train", data, SARNN.inputs, normalizer))
    return Trained(Job(config, data), SARNN(config).eval(), normalizer, limits)


@pytest.fixture(scope="module")
def world() -> PickCube:
    return PickCube(image_size=32)


def test_driving_is_the_same_computation_as_training(trained: Trained, world: PickCube) -> None:
    trial = run_trial(world, Policy(trained), seed=3, ticks=12)
    assert trial.images is not None
    streams = {"image": torch.from_numpy(trial.images), "joints": torch.from_numpy(trial.joints)}
    with torch.inference_mode():
        observations = {name: trained.normalizer.encode(name, value)[None] for name, value in streams.items()}
        predictions, state = trained.model.unroll(observations)
    hidden = torch.cat([v.flatten() for v in state.values()]).numpy()
    np.testing.assert_allclose(trial.hidden[-1], hidden, atol=1e-5)
    guess = trained.normalizer.decode("image", predictions["image"][0]).numpy().astype(int)
    assert trial.predicted_images is not None
    assert np.abs(guess - trial.predicted_images).max() <= 1  # rounding


def test_the_same_seed_gives_the_same_trial(trained: Trained, world: PickCube) -> None:
    a, b = (run_trial(world, Policy(trained), seed=5, ticks=8) for _ in range(2))
    np.testing.assert_array_equal(a.commands, b.commands)
    np.testing.assert_array_equal(a.hidden, b.hidden)


def test_a_network_that_went_mad_moves_nothing(trained: Trained, world: PickCube) -> None:
    with torch.no_grad():
        trained.model.lstm.weight_ih_l0.fill_(float("nan"))  # pyright: ignore
    trial = run_trial(world, Policy(trained), seed=0, ticks=10)
    assert np.isfinite(trial.commands).all()
    np.testing.assert_allclose(trial.commands, np.broadcast_to(trial.commands[0], trial.commands.shape), atol=1e-12)
    assert trial.violations["finite"] == 10


def test_commands_keep_to_the_limits(trained: Trained, world: PickCube) -> None:
    trial, limits = run_trial(world, Policy(trained), seed=1, ticks=20), limits_of(trained)
    path = np.concatenate([trial.joints[:1], trial.commands])
    speed = np.diff(path, axis=0) / limits.period
    assert (np.abs(speed) <= np.array(limits.velocity) + 1e-6).all()
    assert (np.abs(np.diff(speed, axis=0)) / limits.period <= np.array(limits.acceleration) + 1e-5).all()
    assert sum(trial.violations.values()) > 0  # an untrained network asks for more than is allowed


def test_a_blind_policy_cannot_tell_where_the_cube_is(trained: Trained, world: PickCube) -> None:
    gray = np.full((32, 32, 3), 128, np.uint8)
    left, right = (
        run_trial(world, Policy(trained), 0, {"place": (0.5, y), "start_noise": 0.0}, gray, 6) for y in (-0.1, 0.1)
    )
    np.testing.assert_array_equal(left.commands, right.commands)
    seeing = [
        run_trial(world, Policy(trained), 0, {"place": (0.5, y), "start_noise": 0.0}, None, 6) for y in (-0.1, 0.1)
    ]
    assert not np.array_equal(seeing[0].commands, seeing[1].commands)


def test_real_time_keeps_the_rate_and_counts_late_ticks(trained: Trained, world: PickCube) -> None:
    fast = replace(trained, limits=replace(limits_of(trained), period=0.05))
    trial = run_trial(world, Policy(fast), 0, ticks=10, realtime=True)
    assert trial.rate <= 21
    assert trial.rate > 17 or trial.late > 0  # a machine too busy to keep it has to say so
    impossible = replace(trained, limits=replace(limits_of(trained), period=1e-5))
    late = run_trial(world, Policy(impossible), 0, ticks=10, realtime=True)
    assert late.late >= 8
    assert late.violations["late"] >= 8


def test_open_loop_reads_the_recording_and_nothing_else(trained: Trained, pick_store: EpisodeStore) -> None:
    id = pick_store.entries[0].id
    trial, errors = open_loop(trained, id)
    np.testing.assert_allclose(trial.joints, pick_store.values(id, "joints")[:-1], atol=1e-6)
    gap = trial.commands - pick_store.values(id, "command")[:-1]
    assert errors["joints"] == pytest.approx(float(np.sqrt(np.square(gap).mean())), rel=1e-4)
    with pytest.raises(SakiyomiError, match="unknown episode 'nope'"):
        open_loop(trained, "nope")


def test_a_policy_has_to_know_where_it_starts(trained: Trained) -> None:
    with pytest.raises(SakiyomiError, match="call reset"):
        Policy(trained).act({"joints": np.zeros(8, np.float32)})


def test_the_watchdog_watches_by_itself(trained: Trained) -> None:
    """Nobody has to pass the time: calls in a burst move nothing after the first."""
    policy = Policy(trained)
    start = np.array([0.0, 0.52, 0.0, 1.63, 0.0, 0.99, 0.0, 0.08], np.float32)
    policy.reset(start)
    slow = replace(limits_of(trained), period=10.0)
    policy.guard = Guard(slow)
    policy.guard.reset(start)
    observation = {"image": np.zeros((32, 32, 3), np.uint8), "joints": start}
    first = policy.act(observation)
    burst = [policy.act(observation) for _ in range(5)]
    assert all(d.checked.violations == ("early",) for d in burst)
    assert all(np.array_equal(d.command, first.command) for d in burst)


def test_a_world_without_a_stream_is_said(trained: Trained) -> None:
    policy = Policy(trained)
    policy.reset(np.zeros(8))
    with pytest.raises(SakiyomiError, match=r"the model reads \['image', 'joints'\], the world gave \['joints'\]"):
        policy.act({"joints": np.zeros(8, np.float32)})


def test_a_trial_lasts_as_long_as_the_world_says() -> None:
    assert inspect.signature(run_trial).parameters["ticks"].default == HORIZON


def test_what_is_loaded_is_what_was_saved_and_computes_in_its_precision(trained: Trained, tmp_path: Path) -> None:
    save_job(trained.job, tmp_path)
    save_weights(tmp_path / "weights.safetensors", trained.model, trained.job.model, {})
    trained.normalizer.save(tmp_path / "normalizer.json")
    limits_of(trained).save(tmp_path / "limits.json")
    cudnn = torch.backends.cudnn
    with cudnn.flags():  # what is set within is undone after
        cudnn.allow_tf32 = True
        loaded = load(tmp_path)
        assert not cudnn.allow_tf32  # a GPU's, too
    seen = trained.model.example(2, 3)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.model.unroll(seen), trained.model.unroll(seen))
