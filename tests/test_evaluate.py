"""What is counted in a score, on trials made up so that the answer is known."""

import dataclasses

import numpy as np
import pytest

from sakiyomi.evaluate import attention_scores, cube_distances, latency_scores, nearest_point, success_scores
from sakiyomi.rollout import Trial
from sakiyomi.worlds.pick_cube import TAUGHT_PLACES
from sakiyomi.worlds.pick_cube_conditions import SPREAD, conditions

T, CLOSES = 20, 12


def trial(seed: int, offset: float, success: bool = True) -> Trial:
    """Point 1 of 3 will be `offset` pixels of 64 to the right of where the cube is next; the gripper closes at 12."""
    random = np.random.default_rng(seed)
    cube = 0.5 + 0.1 * random.normal(size=(T, 2))
    points = random.uniform(2, 3, (T, 3, 2))  # far away
    points[:-1, 1] = cube[1:] + np.array([offset / 64, 0])
    points[CLOSES:, 1] += 5  # what it does afterwards must not matter
    commands = np.zeros((T, 8))
    commands[:CLOSES, 7] = 0.08
    return Trial(
        success_any=success,
        success_last=False,
        scene={},
        seed=seed,
        images=None,
        predicted_images=None,
        attention=points,
        predicted_attention=points,
        cube_pixels=cube,
        cube_heights=np.zeros(T),
        joints=commands,
        commands=commands,
        hidden=np.zeros((T, 4)),
        violations={},
        seconds=np.full(T, 0.002),
        rate=10.0,
    )


def test_the_point_that_follows_is_found_and_measured_until_the_gripper_closes() -> None:
    trials = [trial(i, 3.0) for i in range(6)]
    distances = cube_distances(trials)
    assert distances.shape == (6, T - 1, 3)
    assert np.isfinite(distances[:, :CLOSES]).all()
    assert np.isnan(distances[:, CLOSES:]).all()
    assert nearest_point(distances) == 1
    score = attention_scores("taught", conditions(6)["taught"], trials, 32)["attention/taught"]
    assert score.value == pytest.approx(3.0)


def test_one_point_has_to_follow_in_all_trials() -> None:
    """Another point near the cube in every trial is luck, not attention."""
    swapped = []
    for i in range(6):
        points = trial(i, 3.0).predicted_attention
        assert points is not None
        swapped.append(dataclasses.replace(trial(i, 3.0), predicted_attention=np.roll(points, i % 3, axis=1)))
    score = attention_scores("taught", conditions(6)["taught"], swapped, 32)["attention/taught"]
    assert score.value > 30


def test_trials_that_grasp_at_once_have_no_attention_score() -> None:
    at_once = dataclasses.replace(trial(0, 3.0), commands=np.zeros((T, 8)) - np.arange(T)[:, None])
    assert attention_scores("taught", conditions(1)["taught"], [at_once], 32) == {}


def test_success_is_counted_by_both_readings() -> None:
    trials = [trial(i, 0.0, success=i < 3) for i in range(4)]
    scores = success_scores("taught", conditions(4)["taught"], trials, 32)
    assert scores["success/taught"].value == 0.75
    assert scores["success_last/taught"].value == 0.0
    assert scores["success/taught"].protocol.rule != scores["success_last/taught"].protocol.rule


def test_latency_is_a_percentile_in_milliseconds() -> None:
    scores = latency_scores(np.array([0.001] * 99 + [1.0]))
    assert scores["latency_p50"].value == pytest.approx(1.0)
    assert scores["latency_p99"].value > 1.0


def test_conditions_are_the_same_for_everybody_and_untaught_places_are_untaught() -> None:
    assert conditions(20) == conditions(20)
    assert conditions(20, seed=1)["untaught"].scenes != conditions(20)["untaught"].scenes
    taught = np.array(TAUGHT_PLACES)
    middles = (taught[1:] + taught[:-1]) / 2
    for name in ("untaught", "light", "camera", "distractor"):
        for scene in conditions(20)[name].scenes:
            place = np.array(scene["place"])
            assert np.abs(place - middles).max(1).min() <= SPREAD
            assert np.linalg.norm(place - taught, axis=1).min() > 0.03
    assert {scene["place"] for scene in conditions(20)["taught"].scenes} == set(TAUGHT_PLACES)
    assert conditions(20)["blind"].blind
