"""A sensor and a small model of it, for the tests of surprise."""

from pathlib import Path

import numpy as np

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.sources.sensor import GeneratedSensor
from sakiyomi.data.windows import Data
from sakiyomi.job import Job, Train
from sakiyomi.models import Forecaster
from sakiyomi.presets import CLEAN
from sakiyomi.schedules import LearningRate, Weight
from sakiyomi.train import train

SOURCE = GeneratedSensor(
    steps=4000, validation=1000, calibration=12_000, test=12_000, faulty=6000, faults=10, period=600.0
)


def sensor_store(folder: Path) -> EpisodeStore:
    return SOURCE.record(folder)


def sensor_run(store: EpisodeStore, folder: Path) -> Path:
    """Seconds of training."""
    train(
        Job(
            model=Forecaster.Config(hidden=16),
            data=Data(str(store.folder), steps=72, clock="value"),
            augment=CLEAN,
            train=Train(
                steps=200,
                batch_size=16,
                learning_rate=LearningRate(1e-2, decay="cosine"),
                losses={"value": Weight(1.0), "nll": Weight(1.0)},
                validate_every=100,
                threads=1,
            ),
        ),
        folder,
    )
    return folder


def values_of(store: EpisodeStore, split: str) -> np.ndarray:
    """All of a split's one episode, [T, 1]."""
    (entry,) = store.split(split)
    return store.values(entry.id, "value")
