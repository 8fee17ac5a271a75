"""Small models of motion on a generated walk: what the tests of training, walking and scoring share."""

from pathlib import Path
from typing import Any

from sakiyomi.data.augment import Augment
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.formats.bvh import write_bvh
from sakiyomi.data.sources.walk import clip
from sakiyomi.data.windows import Data
from sakiyomi.job import Job, Train
from sakiyomi.models import MVAE
from sakiyomi.schedules import LearningRate, Weight

TINY = {"hidden": 16, "latent": 4, "experts": 2, "gate": 8, "codes": 6}
FLAGS = [word for name, value in TINY.items() for word in (f"--model.{name.replace('_', '-')}", str(value))]
"""The same as a user types them."""


def tiny(**changes: Any) -> MVAE.Config:
    """As wide as the recordings, unless told."""
    return MVAE.Config(**{**TINY, "pose": 0, **changes})


def walk_job(store: EpisodeStore, **changes: Any) -> Job:
    """Some steps of a tiny motion VAE; `train` changes what is in Train, everything else the model's Config."""
    train = {
        "steps": 20,
        "batch_size": 16,
        "learning_rate": LearningRate(2e-3, decay="linear"),
        "losses": {"pose": Weight(1.0), "kl": Weight(0.2)},
        "clip": 0.0,
        "validate_every": 10,
        "log_every": 1,
        **changes.pop("train", {}),
    }
    data = Data(str(store.folder), steps=4, clock="pose")
    return Job(tiny(**changes), data, Augment(joints=0, image=0), Train(**train))


def write_clips(folder: Path, count: int, seconds: float = 2.0) -> list[Path]:
    """Generated walks as BVH files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"walk{number:02d}.bvh" for number in range(count)]
    for number, path in enumerate(paths):
        write_bvh(path, clip(number, seconds))
    return paths
