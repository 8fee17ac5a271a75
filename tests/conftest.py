"""Stores that many tests read and none may change, and an object store to put some into."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import synthetic
import walking
import watching
from far_away import MINE
from hypothesis import settings

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.sources.pick_cube import PickCubeSource
from sakiyomi.data.sources.push import PushSource
from sakiyomi.data.sources.walk import GeneratedWalk
from sakiyomi.train import train

# A busy machine is not a failure.
settings.register_profile("sakiyomi", deadline=None)
settings.load_profile("sakiyomi")


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> EpisodeStore:
    """Four short training episodes of unequal lengths and one for validation; made up."""
    return synthetic.write(tmp_path_factory.mktemp("synthetic") / "store")


@pytest.fixture(scope="session")
def pick_store(tmp_path_factory: pytest.TempPathFactory) -> EpisodeStore:
    """Five demonstrations of PickCube at 32 x 32 and two for validation; real physics."""
    return PickCubeSource(episodes=5, validation=2, image_size=32).record(tmp_path_factory.mktemp("pick") / "store")


@pytest.fixture(scope="session")
def push_store(tmp_path_factory: pytest.TempPathFactory) -> EpisodeStore:
    """Eight recordings of Push at 32 x 32, ten frames each: four of train, two of validation, two of test."""
    source = PushSource(episodes=4, validation=2, test=2, steps=10, image_size=32)
    return source.record(tmp_path_factory.mktemp("push") / "store")


@pytest.fixture(scope="session")
def walk_store(tmp_path_factory: pytest.TempPathFactory) -> EpisodeStore:
    """A generated walk: four clips of three seconds to train on, one for validation, one for the test."""
    source = GeneratedWalk(clips=4, validation=1, test=1, seconds=3.0)
    return source.record(tmp_path_factory.mktemp("walk") / "store")


@pytest.fixture(scope="session")
def walk_run(walk_store: EpisodeStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a tiny motion VAE that has learned a little of `walk_store`."""
    folder = tmp_path_factory.mktemp("walk-run")
    train(walking.walk_job(walk_store, hidden=48, train={"steps": 900, "validate_every": 300}), folder)
    return folder


@pytest.fixture(scope="session")
def sensor_store(tmp_path_factory: pytest.TempPathFactory) -> EpisodeStore:
    """A made-up sensor, one value each ten minutes, with splits `calibration` and `faulty`."""
    return watching.sensor_store(tmp_path_factory.mktemp("sensor") / "store")


@pytest.fixture(scope="session")
def sensor_run(sensor_store: EpisodeStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a small forecaster of `sensor_store`."""
    return watching.sensor_run(sensor_store, tmp_path_factory.mktemp("sensor-run") / "run")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is fetched or remembered in a test is its own."""
    monkeypatch.setenv("SAKIYOMI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server with a bucket."""
    moto = pytest.importorskip("moto.server", reason="needs the object-store server: pip install 'moto[server]'")
    s3fs = pytest.importorskip("s3fs", reason="needs s3fs: pip install 'sakiyomi[far]'")
    running = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**MINE, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        if not s3fs.S3FileSystem().exists("bucket"):  # what is in it belongs to the process
            s3fs.S3FileSystem().mkdir("bucket")
        yield f"http://{host}:{port}"
        s3fs.S3FileSystem.clear_instance_cache()
    running.stop()


@pytest.fixture
def bucket(server: str) -> Any:
    """The emptied bucket, as fsspec's file system."""
    import s3fs

    system = s3fs.S3FileSystem()
    system.invalidate_cache()
    if system.ls("bucket", refresh=True):
        system.rm("bucket/*", recursive=True)
    return system
