"""The verbs of the command line for characters: models of motion, controllers that steer them, the page, the demo."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sakiyomi.arguments import narrow, option, parse, run_folder
from sakiyomi.control import (
    ControllerJob,
    evaluate_controller,
    load_job,
    train_controller,
)
from sakiyomi.demo_motion import DemoMotion, demo_motion
from sakiyomi.errors import SakiyomiError
from sakiyomi.evaluate_walk import HowWalked, evaluate_walk, save_walk
from sakiyomi.presets import CONTROLLERS
from sakiyomi.rollout import load
from sakiyomi.run import console, pick_device, progress_bar
from sakiyomi.scores.protocol import save_scores
from sakiyomi.serve import Serving, serve
from sakiyomi.stage import controller_of, stage_of
from sakiyomi.steer import Steering, rollout_steered
from sakiyomi.views.tables import print_scores
from sakiyomi.walk import Walking, character_of, rollout_walk


@dataclass(frozen=True)
class TrainController(ControllerJob):
    """Let a character learn what a task asks of it."""

    out: str = ""
    """Run folder; runs/NAME if not given."""
    resume: bool = False
    """Go on from the last checkpoint."""


@dataclass(frozen=True)
class EvaluateWalk(HowWalked):
    """Let a trained model of motion walk on from poses it never saw, and score it."""

    run: str = ""
    """Run folder; runs/NAME if not given."""


@dataclass(frozen=True)
class RolloutWalk(Walking):
    """Let characters walk about, led by chance."""

    run: str = ""
    """Run folder; runs/NAME if not given."""


@dataclass(frozen=True)
class EvaluateController:
    """Score a controller beside a random walk."""

    run: str = ""
    """Run folder; runs/NAME if not given."""
    characters: int = 200
    """How many are steered at once."""
    seconds: float = 60.0
    """How long."""
    seed: int = 10_000
    """Seed of where they begin and what they are to do."""
    device: str = "auto"
    """auto, cpu or cuda."""


@dataclass(frozen=True)
class RolloutController(Steering):
    """Let a controller steer, and look at it."""

    run: str = ""
    """Run folder; runs/NAME if not given."""


@dataclass(frozen=True)
class Serve(Serving):
    """Serve a page on which the character is steered, by keys or the mouse."""

    run: str = ""
    """Run folder, of a controller or of a model of motion with all controllers there are for it; runs/NAME if not
    given."""


def asked_controller(name: str, rest: list[str]) -> tuple[ControllerJob, Path, bool]:
    """A training as the command line asks for it: what, in which run folder, and whether it goes on."""
    job, folder = CONTROLLERS[name]().job, Path(option(rest, "--out") or f"runs/{name}")
    if "--resume" in rest and (folder / "job.json").exists():
        job = load_job(folder)  # what was asked for then need not be typed again
    # Narrowed to this preset's task, so that the fields and their help are that task's.
    task = ("task", type(job.task), dataclasses.field(default=job.task))
    narrowed = dataclasses.make_dataclass("TrainController", [task], bases=(TrainController,), frozen=True)
    narrowed.__doc__ = TrainController.__doc__
    args: Any = parse(narrowed(**vars(job)), f"train {name}", rest)
    return narrow(args, ControllerJob), folder, args.resume


def train_character(name: str, rest: list[str]) -> None:
    asked, folder, resume = asked_controller(name, rest)
    train_controller(asked, character_of(asked.character, device=asked.device), folder, resume)
    console.print(f"{folder} holds the controller; look at it: sakiyomi rollout {name} --run {folder}", markup=False)


def evaluate_motion(name: str, rest: list[str]) -> None:
    args = parse(EvaluateWalk(), f"evaluate {name}", rest)
    folder = run_folder(name, args.run)
    trained = load(folder, str(pick_device(args.device)))
    with progress_bar("walking", 1) as bar:
        found = evaluate_walk(trained, narrow(args, HowWalked), bar.of)
    print_scores(found.scores)
    console.print(str(save_walk(found, trained, folder)))


def rollout_motion(name: str, rest: list[str]) -> None:
    args = parse(RolloutWalk(), f"rollout {name}", rest)
    folder = run_folder(name, args.run)
    trained = load(folder, str(pick_device(args.device)))
    for path in rollout_walk(trained, narrow(args, Walking), folder):
        console.print(str(path))


def evaluate_character(name: str, rest: list[str]) -> None:
    args = parse(EvaluateController(), f"evaluate {name}", rest)
    folder = run_folder(name, args.run)
    controller = controller_of(folder, args.device)
    with progress_bar("steering", 1) as bar:
        scores = evaluate_controller(controller, args.characters, args.seconds, args.seed, bar.of)
    save_scores(scores, folder / "scores.json")
    print_scores(scores)


def rollout_character(name: str, rest: list[str]) -> None:
    args = parse(RolloutController(), f"rollout {name}", rest)
    folder = run_folder(name, args.run)
    for path in rollout_steered(controller_of(folder, args.device), narrow(args, Steering), folder):
        console.print(str(path))


def do_serve(name: str, rest: list[str]) -> None:
    args = parse(Serve(), f"serve {name}", rest)
    folder = run_folder(name, args.run)
    serve(stage_of(name, folder), narrow(args, Serving))


def do_demo_motion(name: str, rest: list[str]) -> None:
    args = parse(DemoMotion(path=name), "demo-motion FOLDER", rest)
    if args.path != name:
        raise SakiyomiError(f"demo-motion takes one folder, got {name} and {args.path}")
    demo_motion(args)
