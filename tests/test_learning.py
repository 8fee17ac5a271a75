"""The figures of docs/benchmarks.md in small: a short training already drives the arm, and only by looking."""

from dataclasses import replace
from pathlib import Path

from sakiyomi.evaluate import evaluate
from sakiyomi.presets import preset
from sakiyomi.rollout import load
from sakiyomi.train import train


def test_a_short_training_picks_up_the_cube_by_looking(tmp_path: Path) -> None:
    chosen = preset("pick-small")
    chosen.source.record(tmp_path / "store")
    data = replace(chosen.job.data, store=str(tmp_path / "store"))
    points = replace(chosen.job.train.losses["points"], end=400)
    short = replace(chosen.job.train, steps=1000, losses={**chosen.job.train.losses, "points": points})
    train(replace(chosen.job, data=data, train=short), tmp_path / "run")
    scores = evaluate(load(tmp_path / "run"), 20, only=("taught", "untaught", "blind")).scores
    assert scores["success/taught"].value >= 0.6
    assert scores["success/untaught"].value >= 0.5
    assert scores["success/blind"].value <= 0.3
    assert scores["latency_p99"].value < 100  # one tick at 10 Hz, on however busy a machine
