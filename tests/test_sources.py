"""The contract of every source that makes its recordings: what an interruption leaves is completed, nothing else."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import walking

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.sources.mocap import Mocap
from sakiyomi.data.sources.moving_digits import MovingDigits
from sakiyomi.data.sources.pick_cube import PickCubeSource
from sakiyomi.data.sources.pictures import Pictures
from sakiyomi.data.sources.push import PushSource
from sakiyomi.data.sources.sensor import GeneratedSensor
from sakiyomi.data.sources.walk import GeneratedWalk
from sakiyomi.errors import SakiyomiError

SOURCES = {  # of four episodes each
    "pick_cube": PickCubeSource(episodes=3, validation=1, image_size=16),
    "push": PushSource(episodes=2, validation=1, test=1, steps=5, image_size=16),
    "moving_digits": MovingDigits(episodes=2, validation=1, test=1, steps=5),
    "pictures": Pictures(episode=800),
    "sensor": GeneratedSensor(steps=500, validation=100, calibration=100, test=100, faulty=0),
    "walk": GeneratedWalk(clips=2, validation=1, test=1, seconds=2.0),
    "mocap": Mocap(validation=0.25, test=0.25, mirror=False),  # of four files
}


class Interrupted(Exception):
    pass


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    made: Any = SOURCES[request.param]
    if not isinstance(made, Mocap):
        return made
    folder = tmp_path_factory.mktemp("mocap")
    walking.write_clips(folder, 4)
    return replace(made, path=str(folder))


def test_an_interrupted_recording_goes_on_to_the_same_store(source: Any, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        assert total == 4
        if done == 2:
            raise Interrupted

    whole = source.record(tmp_path / "whole")
    with pytest.raises(Interrupted):
        source.record(tmp_path / "halves", interrupt)
    assert len(EpisodeStore(tmp_path / "halves").entries) == 2
    halves = source.record(tmp_path / "halves")
    assert halves.entries == whole.entries  # checksums included
    assert halves.statistics == whole.statistics


def test_a_finished_recording_is_left_alone(source: Any, tmp_path: Path) -> None:
    source.record(tmp_path)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    seen = []
    source.record(tmp_path, lambda done, total: seen.append((done, total)))
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert seen == [(done, 4) for done in range(1, 5)]


def test_other_settings_are_refused(source: Any, tmp_path: Path) -> None:
    source.record(tmp_path)
    with pytest.raises(SakiyomiError, match="seed 0 there, 1 asked"):
        replace(source, seed=1).record(tmp_path)
