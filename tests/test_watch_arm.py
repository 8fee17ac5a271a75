"""The arm raises its hand: a little model of its demonstrations notices what happens to it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.errors import SakiyomiError
from sakiyomi.presets import preset
from sakiyomi.rollout import Policy, Trained, Trial, load, picture_size, run_trial
from sakiyomi.surprise import Readings, Surprise
from sakiyomi.train import train
from sakiyomi.views.report import Figure
from sakiyomi.watch_arm import ArmWatched, WatchedRun, WatchingArm, save_watched, scores_of, watch_arm, watched_figure
from sakiyomi.worlds.disturbed import Disturbance
from sakiyomi.worlds.pick_cube import PickCube

OPTIONS = WatchingArm(calibrate=40, normal=8, trials=4, rate=0.001)


@pytest.fixture(scope="module")
def trained(pick_store: EpisodeStore, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """`pick-small` after some seconds of training on five demonstrations: it moves about, and knows its own camera."""
    job = preset("pick-small").job
    few = replace(job.train, steps=120, batch_size=4, validate_every=60, threads=1)
    folder = tmp_path_factory.mktemp("arm") / "run"
    train(replace(job, data=replace(job.data, store=str(pick_store.folder)), train=few), folder)
    return load(folder)


@pytest.fixture(scope="module")
def driven() -> list[Trial]:
    """Every run of `watched`, those that are not kept as well, in order."""
    return []


@pytest.fixture(scope="module")
def watched(trained: Trained, driven: list[Trial]) -> ArmWatched:
    def noted(*given: Any, **more: Any) -> Trial:
        driven.append(run_trial(*given, **more))
        return driven[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sakiyomi.watch_arm.run_trial", noted)
        return watch_arm(trained, OPTIONS)


def test_it_notices_what_happens(watched: ArmWatched) -> None:
    assert watched.scores["noticed/blind"].value == 1
    assert watched.scores["noticed/push"].value >= 0.5
    assert {name.split("/")[0] for name in watched.scores} >= {"noticed", "delay", "false alarms", "false ticks"}
    assert watched.scores["false ticks"].value < 0.02


def test_the_disturbances_are_what_they_say(watched: ArmWatched) -> None:
    for what, runs in watched.disturbed.items():
        assert len(runs) == OPTIONS.trials
        assert all(run.disturbance is not None and run.disturbance.what == what for run in runs)
    for run in watched.disturbed["push"]:
        assert run.disturbance is not None
        assert np.hypot(*run.disturbance.force[:2]) == pytest.approx(OPTIONS.force)
    for run in watched.disturbed["blind"]:
        assert run.disturbance is not None
        assert run.trial.images is not None
        assert not run.trial.images[run.disturbance.tick :].any()
        assert run.trial.images[: run.disturbance.tick].any()


def test_what_alarms_are_counted_on_was_not_calibrated_on(watched: ArmWatched, driven: list[Trial]) -> None:
    """Other seeds, other starts, and other places for the cube where those are drawn."""
    calibrated, counted = driven[: OPTIONS.calibrate], driven[OPTIONS.calibrate :]
    assert [trial.seed for trial in counted[: OPTIONS.normal]] == [run.trial.seed for run in watched.normal]
    assert len({trial.seed for trial in calibrated}) == OPTIONS.calibrate
    kept = [*watched.normal, *(run for runs in watched.disturbed.values() for run in runs)]
    assert len({run.trial.seed for run in kept}) == OPTIONS.normal + 3 * OPTIONS.trials
    assert not {trial.seed for trial in calibrated} & {trial.seed for trial in counted}
    drawn = [{trial.scene["place"] for trial in some[::2]} for some in (calibrated, counted[: OPTIONS.normal])]
    assert not drawn[0] & drawn[1]
    assert watched.surprise.steps == sum(len(trial.joints) - 1 for trial in calibrated)


def test_a_push_is_short(watched: ArmWatched) -> None:
    assert [run.disturbance.ticks for run in watched.disturbed["push"] if run.disturbance] == 4 * [3]  # 0.3 s


def test_a_joint_that_jams_would_have_moved(watched: ArmWatched, trained: Trained) -> None:
    world, policy = PickCube(image_size=picture_size(trained.job)), Policy(trained)
    for run in watched.disturbed["frozen"]:
        assert run.disturbance is not None
        calm = run_trial(world, policy, run.trial.seed, run.trial.scene).joints[:, run.disturbance.joint]
        np.testing.assert_array_equal(
            calm[: run.disturbance.tick], run.trial.joints[: run.disturbance.tick, run.disturbance.joint]
        )
        assert np.ptp(calm[run.disturbance.tick : run.disturbance.tick + 11]) > 0.05  # rad, within a second
    world.close()


def run_with(alarms: list[int], like: WatchedRun, tick: int | None = None) -> WatchedRun:
    """A run with alarms at these ticks, in which something happened at `tick`."""
    raised = np.isin(np.arange(len(like.trial.joints)), alarms)
    happened = None if tick is None else Disturbance("blind", tick)
    return replace(like, readings=Readings(raised * 5.0, raised, {}, {}, {}), disturbance=happened)


def test_noticed_is_an_alarm_within_a_second_and_not_before(watched: ArmWatched) -> None:
    like = watched.normal[0]
    alarms = {0.0: [10], 0.3: [5, 13, 14], 1.0: [20], 1.1: [21, 22], np.inf: [8, 9]}  # s after tick 10, at 10 Hz
    runs = [run_with(ticks, like, tick=10) for ticks in alarms.values()]
    assert [run.delay for run in runs] == pytest.approx(list(alarms))
    assert run_with([3], like).delay == np.inf
    scores = scores_of(watched.normal, {"blind": runs, "push": runs[3:]}, OPTIONS)
    assert scores["noticed/blind"].value == pytest.approx(3 / 5)
    assert scores["delay/blind"].value == pytest.approx(0.3)  # the median of three
    assert scores["delay/blind"].unit == "s"
    assert scores["noticed/push"].value == 0
    assert "delay/push" not in scores


def test_a_false_alarm_is_one_tick_or_more_of_a_run(watched: ArmWatched) -> None:
    like = watched.normal[0]
    normal = [run_with(ticks, like) for ticks in ([], [7], [7, 8, 30], [], [])]
    scores = scores_of(normal, {}, OPTIONS)
    assert scores["false alarms"].value == pytest.approx(2 / 5)
    assert scores["false ticks"].value == pytest.approx(4 / (5 * len(like.trial.joints)))


def test_the_calibration_stays_beside_the_model(watched: ArmWatched, trained: Trained, tmp_path: Path) -> None:
    report = save_watched(watched, tmp_path).read_text()
    assert "raises its hand" in report
    assert report.count("data:image/png") == 4
    again = Surprise.load(tmp_path / "surprise.json", trained)
    trial = watched.normal[0]
    seen = {"image": trial.trial.images, "joints": trial.trial.joints}
    np.testing.assert_array_equal(again.read(seen).scores, trial.readings.scores)  # pyright: ignore[reportArgumentType]
    assert set(json.loads((tmp_path / "watch.json").read_text())) == set(watched.scores)
    assert Figure("all", "", watched_figure(watched)).image.startswith(b"\x89PNG")


@pytest.mark.parametrize(("field", "value"), [("calibrate", 9), ("normal", 0), ("trials", 0), ("force", -1.0)])
def test_options_out_of_range_are_told(trained: Trained, field: str, value: float) -> None:
    with pytest.raises(SakiyomiError, match=f"--{field} is"):
        watch_arm(trained, WatchingArm(**{field: value}))  # pyright: ignore[reportArgumentType]
