"""Every named run: a function that returns a Preset. Variants are made by dataclasses.replace.

sakiyomi train pick-small --train.steps 500 --model.points 8
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from sakiyomi.data.augment import Augment
from sakiyomi.data.sources.pick_cube import PickCubeSource
from sakiyomi.data.windows import Data
from sakiyomi.errors import unknown
from sakiyomi.job import Job, Train
from sakiyomi.models import CNNRNN, MTRNN, SARNN, JointRNN
from sakiyomi.schedules import LearningRate, Weight


@dataclass(frozen=True)
class Preset:
    """A named run: what is recorded, and what is learned from it."""

    description: str
    source: PickCubeSource
    job: Job


def pick() -> Preset:
    """Full size: 64x64 pictures, the published layer sizes."""
    small = pick_small()
    # A hundred times the published temperature: neighbouring pixels share in a point, and so it can lie between them.
    model = SARNN.Config(height=64, width=64, temperature=0.01, image_loss_fraction=1 / 6)
    augment = replace(small.job.augment, shift=2)
    return Preset(
        "a MuJoCo arm picks up a cube; SARNN, 64x64 pictures, published sizes",
        PickCubeSource(image_size=64),
        replace(small.job, model=model, data=Data("data/pick"), augment=augment),
    )


def pick_small() -> Preset:
    """What `make demo` runs: 32x32 pictures, some minutes on two cores."""
    model = SARNN.Config(height=32, width=32, points=6, hidden=64, temperature=0.01, image_loss_fraction=1 / 6)
    train = Train(
        steps=2400,
        batch_size=8,
        learning_rate=LearningRate(peak=3e-3, warmup=100, decay="cosine"),
        losses={
            "image": Weight(0.1),
            "joints": Weight(1.0),
            # It must rise slowly, or the points settle where the picture loss alone likes them.
            "points": Weight(0.1, curve="s", end=1000),
        },
    )
    augment = Augment(light=0.3, flicker=0.05, colour=0.1, shift=1, patch=0.3, patch_size=0.3)
    return Preset(
        "the same arm, 32x32 pictures: what `make demo` runs",
        PickCubeSource(image_size=32),
        Job(model=model, data=Data("data/pick-small"), augment=augment, train=train),
    )


def pick_joints() -> Preset:
    small = pick_small()
    train = replace(small.job.train, losses={"joints": Weight(1.0)})
    job = replace(small.job, model=JointRNN.Config(), train=train)
    return replace(small, description="baseline that cannot see: joints only", job=job)


def pick_cnn() -> Preset:
    small = pick_small()
    train = replace(small.job.train, losses={"image": Weight(0.1), "joints": Weight(1.0)})
    job = replace(small.job, model=CNNRNN.Config(height=32, width=32, hidden=64), train=train)
    return replace(small, description="baseline with a feature vector in place of attention points", job=job)


def pick_mtrnn() -> Preset:
    cnn = pick_cnn()
    job = replace(cnn.job, model=MTRNN.Config(height=32, width=32))
    return replace(cnn, description="baseline with units of several timescales", job=job)


PRESETS: dict[str, Callable[[], Preset]] = {
    "pick": pick,
    "pick-small": pick_small,
    "pick-joints": pick_joints,
    "pick-cnn": pick_cnn,
    "pick-mtrnn": pick_mtrnn,
}


def preset(name: str) -> Preset:
    """Raises SakiyomiError for an unknown name, with the nearest known one."""
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return PRESETS[name]()
