"""The arm raises its hand: a little model of its demonstrations notices what happens to it."""

import json
from pathlib import Path

import numpy as np
import pytest

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.errors import SakiyomiError
from sakiyomi.presets import preset
from sakiyomi.rollout import Trained, load
from sakiyomi.surprise import Surprise
from sakiyomi.train import train
from sakiyomi.views.report import Figure
from sakiyomi.watch_arm import ArmWatched, WatchingArm, save_watched, watch_arm, watched_figure

OPTIONS = WatchingArm(calibrate=40, normal=8, trials=4, rate=0.001)


@pytest.fixture(scope="module")
def trained(pick_store: EpisodeStore, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """`pick-small` after some seconds of training on five demonstrations: it moves about, and knows its own camera."""
    from dataclasses import replace

    job = preset("pick-small").job
    few = replace(job.train, steps=120, batch_size=4, validate_every=60, threads=1)
    folder = tmp_path_factory.mktemp("arm") / "run"
    train(replace(job, data=replace(job.data, store=str(pick_store.folder)), train=few), folder)
    return load(folder)


@pytest.fixture(scope="module")
def watched(trained: Trained) -> ArmWatched:
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
