"""A sensor and a small model of it, for the tests of surprise."""

from pathlib import Path

import numpy as np
import torch

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.normalize import Normalizer
from sakiyomi.data.sources.sensor import GeneratedSensor
from sakiyomi.data.windows import Data
from sakiyomi.job import Job, Train, build
from sakiyomi.models import Forecaster
from sakiyomi.presets import CLEAN
from sakiyomi.rollout import Trained
from sakiyomi.schedules import LearningRate, Weight
from sakiyomi.surprise import Surprise
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


def stepped(surprise: Surprise, recording: dict[str, np.ndarray]) -> np.ndarray:
    """The scores [T] of a recording, one step at a time."""
    state, scores = surprise.begin(), []
    for step in range(len(next(iter(recording.values())))):
        reading, state = surprise.step({name: values[step] for name, values in recording.items()}, state)
        scores.append(reading.score)
        assert reading.alarm == (reading.score >= surprise.threshold)
    return np.array(scores)


class Plain(Normalizer):
    """Values are as the model reads them."""

    def encode(self, stream: str, values: torch.Tensor) -> torch.Tensor:
        return values.float()

    def decode(self, stream: str, values: torch.Tensor) -> torch.Tensor:
        return values


def untrained(model: type, **config: int) -> Trained:
    """A model that knows nothing, on streams in its own range: the laws hold for it as well."""
    torch.manual_seed(0)
    built = build(model.Config(**config)).eval()
    return Trained(Job(model=built.config), built, Plain({}), None)  # pyright: ignore[reportArgumentType]
