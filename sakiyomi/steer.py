"""Verb 4 for a controller, `sakiyomi rollout target-walker`: the character goes where it is told.

    sakiyomi rollout target-walker --characters 4 --seconds 20

Leaves in the run folder `steered.gif` (the characters and what they are to do), `paths.png` (where they went) and
`steered-00.bvh`, which any viewer plays.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sakiyomi.control import Controller, Trajectory, rollout_controller
from sakiyomi.data.formats.bvh import write_bvh
from sakiyomi.errors import at_least, at_most
from sakiyomi.files import write_atomic
from sakiyomi.motion.features import decode
from sakiyomi.motion.layout import heading
from sakiyomi.views import motion
from sakiyomi.walk import MOST


@dataclass(frozen=True)
class Steering:
    """Options of `rollout` for a controller."""

    characters: int = 4
    """How many of them."""
    seconds: float = 20.0
    """How long."""
    drawn: int = 1
    """So many of them are in the moving picture."""
    bvh: int = 1
    """So many of them are written as BVH files, each up to the end of its first episode."""
    seed: int = 10_000
    """Seed of where they begin and what they are to do."""
    device: str = "auto"
    """auto, cpu or cuda."""


def rollout_steered(controller: Controller, options: Steering, folder: Path) -> list[Path]:
    """Let characters do what they are told, draw them, and leave the pictures in `folder`; returns them."""
    for name in ("drawn", "bvh"):
        at_least(f"--{name}", getattr(options, name), 0)
    at_most(
        "--characters times --seconds times the frames in one",
        options.characters * options.seconds * controller.character.rate,
        MOST,
    )
    done = rollout_controller(controller, options.characters, options.seconds, options.seed)
    targets = done.goals["target"].numpy(force=True) if "target" in done.goals else None
    files = {"paths.png": motion.path_plot(done.places.numpy(force=True), targets=targets)}
    if options.drawn:
        files["steered.gif"] = steered_gif(controller, done, options.drawn)
    for name, content in files.items():
        write_atomic(folder / name, content)
    clips = [folder / f"steered-{number:02d}.bvh" for number in range(min(options.bvh, options.characters))]
    for number, path in enumerate(clips):
        write_steered(controller, done, number, path)
    return [*(folder / name for name in files), *clips]


def steered_gif(controller: Controller, done: Trajectory, drawn: int = 1) -> bytes:
    """The first characters with their targets, or the velocities they are to hold."""
    character, shown = controller.character, slice(0, drawn)
    positions = motion.positions(character.layout, done.poses[:, shown], done.places[:, shown])
    targets = velocities = None
    if "target" in done.goals:
        targets = done.goals["target"][:, shown].numpy(force=True)
    if "heading" in done.goals and "speed" in done.goals:
        wanted = heading(done.goals["heading"]) * done.goals["speed"][..., None]
        velocities = wanted[:, shown].numpy(force=True)
    return motion.skeleton_gif(positions, character.skeleton, character.rate, targets=targets, velocities=velocities)


def write_steered(controller: Controller, done: Trajectory, number: int, path: Path) -> None:
    """One character's motion as BVH; what comes after the end of its episode is another one's."""
    ends = np.flatnonzero(done.over[:, number].numpy(force=True))
    length = int(ends[0]) + 1 if len(ends) else len(done.poses)
    x, z, facing = done.places[0, number].tolist()
    character = controller.character
    values = done.poses[:length, number].to(torch.float32).numpy(force=True)
    write_bvh(path, decode(values, character.skeleton, character.rate, (x, z, facing)))
