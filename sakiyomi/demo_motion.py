"""`sakiyomi demo-motion FOLDER_OF_BVH`, the whole path from motion capture to a character that goes where it is told.

    sakiyomi demo-motion my/bvh/files
    sakiyomi demo-motion generated        # a walk made by code, for whoever has no motion capture

Leaves in `runs/demo-motion` the motion VAE, the controller in `controller`, `steered.gif` and `steered-00.bvh`, and
`report.html`, one file that shows it all. A second call goes on where an interrupted one stopped.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from sakiyomi.control import Controller, evaluate_controller, rollout_controller, train_controller
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.sources import Source
from sakiyomi.data.sources.mocap import Mocap
from sakiyomi.data.sources.walk import GeneratedWalk
from sakiyomi.errors import SakiyomiError, at_least
from sakiyomi.evaluate_walk import (
    HowWalked,
    WalkScores,
    evaluate_walk,
    latent_section,
    training_section,
    walk_section,
)
from sakiyomi.prepare import prepare
from sakiyomi.presets import preset, target_walker
from sakiyomi.rollout import Trained, load
from sakiyomi.run import console, progress_bar
from sakiyomi.scores.protocol import Score, save_scores
from sakiyomi.steer import Steering, rollout_steered
from sakiyomi.train import train
from sakiyomi.views import motion
from sakiyomi.views.report import Figure, Section, write_report
from sakiyomi.walk import character_of

GENERATED = "generated"
SHOWN = 20.0  # seconds of the steered character


@dataclass(frozen=True)
class DemoMotion:
    """From motion capture to a character that reaches targets: features, motion VAE, controller, report."""

    path: tyro.conf.Positional[str] = GENERATED
    """A folder or .zip of BVH files; `generated` for a walk made by code."""
    out: str = "runs/demo-motion"
    """Run folder."""
    store: str = "data/demo-motion"
    """Folder of the recordings as features."""
    steps: int = 0
    """Training steps of the motion VAE; 0 takes the preset's."""
    frames: int = 0
    """Frames the controller learns from; 0 takes the preset's."""
    starts: int = 100
    """Held-out poses from which the character is let go on by chance."""
    characters: int = 100
    """Characters the controller is tried with."""


def demo_motion(options: DemoMotion) -> Path:
    """All four stages; returns the report."""
    begin = time.perf_counter()
    for name in ("steps", "frames"):
        at_least(f"--{name}", getattr(options, name), 0)
    for name in ("starts", "characters"):
        at_least(f"--{name}", getattr(options, name), 1)
    folder = Path(options.out)
    console.print("[bold]1/4 Features[/]: every frame as numbers: where the root goes, where the joints are.")
    generated = options.path == GENERATED and not Path(GENERATED).exists()
    recorded(GeneratedWalk() if generated else Mocap(options.path), Path(options.store))
    console.print("[bold]2/4 Motion VAE[/]: learns what may follow each pose.")
    trained = motion_vae("stepping" if generated else "walk", options, folder)
    with progress_bar("walking", 1) as bar:
        walked = evaluate_walk(trained, HowWalked(starts=options.starts), bar.of)
    save_scores(walked.scores, folder / "scores.json")
    console.print("[bold]3/4 Controller[/]: learns to choose what follows, so that the character reaches targets.")
    controller = target_controller(trained, options, folder)
    with progress_bar("steering", 1) as bar:
        steered = evaluate_controller(controller, options.characters, progress=bar.of)
    save_scores(steered, folder / "controller" / "scores.json")
    console.print("[bold]4/4 Report[/]: everything on one page.")
    rollout_steered(controller, Steering(seconds=SHOWN), folder)
    path = report(trained, walked, controller, steered, folder)
    minutes = (time.perf_counter() - begin) / 60
    console.print(f"{path} is ready, {minutes:.1f} minutes after the start. Open it in a browser.")
    console.print(f"steer it yourself: sakiyomi serve demo-motion --run {folder / 'controller'}", markup=False)
    return path


def recorded(source: Source, out: Path) -> EpisodeStore:
    """The store, also where some of the files could not be read; those are told."""
    try:
        return prepare(source, out)
    except SakiyomiError as error:
        if not (out / "dataset.json").exists() or not EpisodeStore(out, allow_empty=True).statistics:
            raise
        console.print(str(error), style="yellow", markup=False)
        return EpisodeStore(out)


def motion_vae(name: str, options: DemoMotion, folder: Path) -> Trained:
    job = preset(name).job
    steps = options.steps or job.train.steps
    scaled = replace(job.train.teacher_forcing, start=job.train.teacher_forcing.start * steps / job.train.steps)
    scaled = replace(scaled, step=scaled.step * job.train.steps / steps)
    training = replace(job.train, steps=steps, teacher_forcing=scaled)
    ended = train(replace(job, data=replace(job.data, store=options.store), train=training), folder, resume=True)
    console.print(f"best validation loss {ended.best:.2e} at step {ended.best_step} of {ended.steps}")
    return load(folder)


def target_controller(trained: Trained, options: DemoMotion, folder: Path) -> Controller:
    job = target_walker().job
    job = replace(job, character=str(folder), frames=options.frames or job.frames)
    return train_controller(job, character_of(trained), folder / "controller", resume=True)


def report(
    trained: Trained, walked: WalkScores, controller: Controller, steered: dict[str, Score], folder: Path
) -> Path:
    """Write `report.html` from what the stages left."""
    store = EpisodeStore(trained.job.data.store)
    clips = [entry for entry in store.entries if not entry.meta.get("mirrored")]
    frames = sum(entry.lengths["pose"] for entry in store.entries)
    reached, chance = steered["targets_reached"], steered["targets_reached/random"]
    lead = (
        f"From {len(clips)} clips ({frames} frames, mirrored ones included) a motion VAE learned what may follow each "
        f"pose of a body of {len(controller.character.skeleton.names)} joints. A controller that chooses among it "
        f"reaches {reached.value:.0%} of targets on the ground within their time; a walk by chance {chance.value:.0%}."
    )
    sections = (
        steered_section(controller, (folder / "steered.gif").read_bytes()),
        walk_section(walked, trained),
        latent_section(walked, trained),
        training_section(folder),
    )
    scores = {**{f"walk/{name}": score for name, score in walked.scores.items()}, **steered}
    headline = ("targets_reached", "targets_reached/random", "walk/exploded", "walk/sliding_ratio", "walk/active")
    path = folder / "report.html"
    present = tuple(name for name in headline if name in scores)
    write_report(path, "Sakiyomi: a character you can steer", lead, scores, sections, present)
    return path


def steered_section(controller: Controller, film: bytes) -> Section:
    many = rollout_controller(controller, 20, SHOWN)
    paths = motion.path_plot(many.places.numpy(force=True), targets=many.goals["target"].numpy(force=True))
    figures = (
        Figure("To the target", "When it is reached, another one appears.", film),
        Figure("Where they went", f"{many.places.shape[1]} characters, {SHOWN:g} s.", paths),
    )
    return Section("It goes where it is told", "", figures)
