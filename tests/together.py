"""Small trainings that several processes do together; run by torchrun, and by one process to compare with.

torchrun --nproc-per-node 2 tests/together.py STORES OUT NAME...
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

import synthetic
import walking
from imagining import push_job

from sakiyomi.data.augment import Augment
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.sources.generated_pairs import GeneratedPairs
from sakiyomi.data.sources.push import PushSource
from sakiyomi.data.sources.walk import GeneratedWalk
from sakiyomi.data.windows import Data
from sakiyomi.distributed import joined
from sakiyomi.job import Job, Train
from sakiyomi.models import SARNN, Seq2Seq
from sakiyomi.schedules import LearningRate, TeacherForcing, Weight
from sakiyomi.train import train


def write_stores(folder: Path) -> None:
    """What `jobs` learns from."""
    synthetic.write(folder / "arm")
    PushSource(episodes=4, validation=2, test=1, steps=10, image_size=32).record(folder / "push")
    GeneratedWalk(clips=4, validation=1, test=1, seconds=3.0).record(folder / "walk")
    GeneratedPairs(pairs=60, held_out=10).record(folder / "pairs")


def jobs(stores: Path) -> dict[str, Job]:
    """Twelve steps each, with everything that draws a number or keeps a statistic."""
    arm = Job(
        SARNN.Config(joints=3, height=16, width=16, points=2, hidden=8, image_loss_fraction=0.5),
        Data(str(stores / "arm")),
        Augment(light=0.2, flicker=0.1, colour=0.1, shift=1, patch=0.5),
        Train(
            steps=12,
            batch_size=5,  # not the same in both shards
            learning_rate=LearningRate(1e-2, 5, "cosine"),
            losses={"image": Weight(0.1), "joints": Weight(1.0), "points": Weight(0.1, "s", 20)},
            validate_every=5,
            save_every=5,
            log_every=1,
            threads=1,
        ),
    )
    # Two windows a shard: BatchNorm takes no statistics of one frame.
    settings = {"steps": 12, "batch_size": 4, "threads": 1}
    forcing = TeacherForcing(0.8, start=0.5, step=0.1, floor=0.2)
    push = push_job(EpisodeStore(stores / "push"), train={**settings, "teacher_forcing": forcing})
    falling = TeacherForcing(start=0.02, step=8.0)
    walk = walking.walk_job(EpisodeStore(stores / "walk"), train={"threads": 1, "teacher_forcing": falling})
    words = Seq2Seq.Config(embedding=8, hidden=8, attention=True, dropout=0.3)
    losses = {"target": Weight(0.9), "uniform": Weight(0.1)}
    reading = Train(12, 8, losses=losses, validate_every=6, log_every=1, threads=1)
    return {
        "arm": arm,
        "push": push,
        "walk": walk,
        "pairs": Job(words, Data(str(stores / "pairs"), clock="target"), Augment(joints=0, image=0), reading),
        "spread": replace(arm, train=replace(arm.train, sharded=True)),
        "long": replace(arm, train=replace(arm.train, steps=60, learning_rate=LearningRate(1e-3))),
    }


def main(stores: Path, out: Path, names: list[str]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with joined() as team:
        (out / f"{team.rank}.pid").write_text(str(os.getpid()))
        for name in names:
            train(jobs(stores)[name], out / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
