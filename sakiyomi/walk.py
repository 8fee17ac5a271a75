"""Verb 4 for a model of motion, `sakiyomi rollout walk`: characters that go on for ever, by chance.

    sakiyomi rollout walk --frames 3000 --characters 100

Leaves in the run folder `walk.gif` (some of the characters), `paths.png` (where all of them went) and `walk-00.bvh`,
which any viewer plays.
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.formats.bvh import write_bvh
from sakiyomi.errors import LARGEST_SEED, SakiyomiError, at_least, at_most
from sakiyomi.files import write_atomic
from sakiyomi.models import MVAE
from sakiyomi.motion.character import Character, Moving
from sakiyomi.motion.features import decode
from sakiyomi.motion.skeleton import Skeleton
from sakiyomi.rollout import Trained, load
from sakiyomi.run import pick_device
from sakiyomi.views import motion

MOST = 3_000_000  # frames of all characters together, whose poses are kept to look at them
DRAWN = 12.0  # seconds of the moving picture


@dataclass(frozen=True)
class Walked:
    """T frames of B characters, on the CPU."""

    poses: Tensor
    """In their units (see `motion/layout.py`), float32 [T, B, D]."""
    places: Tensor
    """x and z in m, facing in rad, [T, B, 3]."""


@dataclass(frozen=True)
class Walking:
    """Options of `rollout` for a model of motion."""

    frames: int = 3000
    """Frames each character goes."""
    characters: int = 100
    """How many of them."""
    drawn: int = 4
    """So many of them are in the moving picture."""
    bvh: int = 1
    """So many of them are written as BVH files."""
    seed: int = 0
    """Seed of where they begin and what they do."""
    device: str = "auto"
    """auto, cpu or cuda."""


def skeleton_of(store: EpisodeStore) -> Skeleton:
    """Whose motion the store holds. Raises SakiyomiError for a store of other things."""
    if "skeleton" not in store.origin or "pose" not in store.streams:
        raise SakiyomiError(
            f"{store.place} holds {sorted(store.streams)} and no skeleton; record motion: sakiyomi prepare walk FOLDER"
        )
    return msgspec.convert(store.origin["skeleton"], Skeleton)


def poses_of(store: EpisodeStore, split: str) -> Tensor:
    """Every pose of a split in its units, float32 [N, D]."""
    return torch.from_numpy(np.concatenate([store.values(entry.id, "pose") for entry in store.split(split)]))


def character_of(run: Trained | str | Path, split: str = "train", device: str = "auto") -> Character:
    """The character a trained motion VAE moves; it begins in poses of this split of its recordings."""
    trained = run if isinstance(run, Trained) else load(run, str(pick_device(device)))
    if not isinstance(trained.model, MVAE):
        kind = type(trained.model).__name__
        raise SakiyomiError(f"{kind} moves no character; train a motion VAE first: sakiyomi train walk")
    store = EpisodeStore(trained.job.data.store)
    skeleton = skeleton_of(store)
    starts = poses_of(store, split).to(next(trained.model.parameters()).device)
    return Character(trained.model, trained.normalizer, skeleton, starts, store.streams["pose"].rate)


@torch.inference_mode()
def random_walk(character: Character, start: Moving, frames: int, seed: int) -> Walked:
    """Characters led by z drawn from the prior, from `start` [B] on; noise comes from a CPU's generator, so that every
    device draws the same."""
    generator = torch.Generator().manual_seed(seed)
    count, moving = len(start.place), start
    poses = torch.empty(frames, count, character.layout.width)
    places = torch.empty(frames, count, 3)
    for t in range(frames):
        z = torch.randn(count, character.latent, generator=generator).to(character.device)
        moving = character.next(moving, z)
        poses[t], places[t] = character.physical(moving.pose), moving.place
    return Walked(poses, places)


def rollout_walk(trained: Trained, options: Walking, folder: Path) -> list[Path]:
    """Let characters walk, draw them, and leave the pictures in `folder`; returns them."""
    for name in ("frames", "characters"):
        at_least(f"--{name}", getattr(options, name), 1)
    for name in ("drawn", "bvh", "seed"):
        at_least(f"--{name}", getattr(options, name), 0)
    at_most("--seed", options.seed, LARGEST_SEED)
    at_most("--frames times --characters", options.frames * options.characters, MOST)
    character = character_of(trained)
    start = character.start(options.characters, torch.Generator(character.device).manual_seed(options.seed))
    walked = random_walk(character, start, options.frames, options.seed)
    broken = (~walked.poses.isfinite()).flatten(1).any(1).nonzero()
    if len(broken):
        whole = int(broken[0])
        raise SakiyomiError(
            f"after {whole} frames the poses are not finite: the model does not come back from its own errors; train "
            f"it longer (sakiyomi train walk), or ask for fewer (--frames {max(1, whole)})"
        )
    files = {"paths.png": motion.path_plot(walked.places.numpy())}
    if options.drawn:
        seen = slice(0, int(DRAWN * character.rate))
        shown = walked.poses[seen, : options.drawn], walked.places[seen, : options.drawn]
        positions = motion.positions(character.layout, *shown)
        files["walk.gif"] = motion.skeleton_gif(positions, character.skeleton, character.rate)
    for name, content in files.items():
        write_atomic(folder / name, content)
    clips = [folder / f"walk-{number:02d}.bvh" for number in range(min(options.bvh, options.characters))]
    for number, path in enumerate(clips):
        write_walk(character, walked, number, path)
    return [*(folder / name for name in files), *clips]


def write_walk(character: Character, walked: Walked, number: int, path: Path) -> None:
    """One of the characters as a BVH file."""
    x, z, facing = walked.places[0, number].tolist()
    values = walked.poses[:, number].numpy()
    write_bvh(path, decode(values, character.skeleton, character.rate, (x, z, facing)))
