"""The verbs of the command line: typed records over presets, no logic; each verb's file has it."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from sakiyomi.along_recordings import arm_is_here, evaluate_recordings, explain_recordings, recording_of
from sakiyomi.arguments import narrow, option, parse, run_folder
from sakiyomi.commands_bench import do_bench
from sakiyomi.commands_cluster import Deeds, do_sweep
from sakiyomi.commands_draw import (
    do_evaluate_draws,
    do_explain_draws,
    do_generate,
    do_rollout_draws,
    do_serve_draws,
    do_style,
)
from sakiyomi.commands_motion import (
    asked_controller,
    do_demo_motion,
    do_serve,
    evaluate_character,
    evaluate_motion,
    rollout_character,
    rollout_motion,
    train_character,
)
from sakiyomi.commands_recordings import DEEDS
from sakiyomi.commands_sound import do_evaluate_sound, do_rollout_sound
from sakiyomi.commands_speech import do_evaluate_speech, do_rollout_speech
from sakiyomi.commands_surprise import do_evaluate_series, do_watch
from sakiyomi.commands_text import do_evaluate_text, do_explain_text, do_rollout_text
from sakiyomi.control import ControllerJob
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.far import is_url
from sakiyomi.data.formats.importing import given
from sakiyomi.data.public import FOLDER, fetch, public_sets
from sakiyomi.demo import demo, evaluate_with_bar
from sakiyomi.distributed import joined
from sakiyomi.errors import SakiyomiError
from sakiyomi.evaluate import save
from sakiyomi.evaluate_imagined import HowImagined, evaluate_imagined, save_imagined
from sakiyomi.explain import explain
from sakiyomi.fleet import Fleet, driver
from sakiyomi.imagine import Imagining, rollout_imagined
from sakiyomi.job import Job, Preset, check, load_job, model_name
from sakiyomi.models import MODELS
from sakiyomi.prepare import FORMATS, prepare, recognise
from sakiyomi.presets import CONTROLLERS, PRESETS, preset
from sakiyomi.rollout import Closed, along_recording, load, rollout
from sakiyomi.run import console, pick_device, progress_bar
from sakiyomi.scores.protocol import compare, load_scores, save_scores
from sakiyomi.stage import steers
from sakiyomi.sweep import Verbs
from sakiyomi.train import train
from sakiyomi.views.tables import print_differences, print_scores


@dataclass(frozen=True)
class Train(Job):
    """Train a preset; its recordings are made first if there are none."""

    out: str = ""
    """Run folder; runs/NAME if not given."""
    resume: bool = False
    """Go on from the last checkpoint."""


@dataclass(frozen=True)
class Evaluate(Fleet):
    """Score a trained run, in closed loop and on recordings."""

    run: str = ""
    """Run folder; runs/NAME if not given."""
    trials: int = 50
    """Trials of each condition."""
    seed: int = 10_000
    """Places and noise of the trials follow from it."""
    only: tuple[str, ...] = ()
    """Conditions to try; all if not given."""


@dataclass(frozen=True)
class EvaluateImagined(HowImagined):
    """Score what a trained model imagines, beside two controls."""

    run: str = ""
    """Run folder; runs/NAME if not given."""


@dataclass(frozen=True)
class RolloutImagined(Imagining):
    """Show a trained model the beginning of a recording and let it imagine the rest."""

    run: str = ""
    """Run folder; runs/NAME if not given."""


@dataclass(frozen=True)
class Rollout(Closed):
    """Run a trained model: closed loop in its world, or open loop on a recording."""

    run: str = ""
    """Run folder; runs/NAME if not given."""
    recording: str = ""
    """Predict along this episode of the store instead of driving."""


@dataclass(frozen=True)
class Explain:
    """Pictures of where a trained model looks and how its memory moves."""

    run: str = ""
    """Run folder; runs/NAME if not given."""
    trials: int = 10
    """Runs drawn in the picture of the memory."""


@dataclass(frozen=True)
class Fetch:
    """Fetch a public set of recordings, checksums and all."""

    out: str = str(FOLDER)
    """Folder in which the set gets one of its name."""
    base: str = ""
    """Another address that has the same files."""


@dataclass(frozen=True)
class Demo:
    """Show, learn, drive, report: the whole path."""

    out: str = "runs/demo"
    """Run folder."""
    store: str = "data/pick-small"
    """Folder of the demonstrations."""
    trials: int = 50
    """Trials of each condition."""
    steps: int = 0
    """Training steps; 0 takes the preset's."""


def do_prepare(name: str, rest: list[str]) -> None:
    if name in DEEDS:
        DEEDS[name](rest)
        return
    if is_url(name):
        raise SakiyomiError(
            f"{name} is an address; only episode stores are read from far away, and used as they are (--data.store "
            f"{name}), or brought here: sakiyomi prepare copy {name} FOLDER"
        )
    if name not in FORMATS and name not in PRESETS and ("/" in name or Path(name).exists()):
        name, rest = recognise(given(name, "a folder or a file of recordings")), [name, *rest]
        console.print(f"read as {name}", markup=False)
    if name in FORMATS:
        source, store, told = FORMATS[name], f"data/{name}", f"Recordings in the format {name}."
    else:
        chosen = preset(name, (*FORMATS, *DEEDS))
        source, store = chosen.source, chosen.job.data.store
        told = f"Recordings for {name}: {chosen.description}."
    kind: Any = type(source)
    help = tyro.conf.arg(help=f"Folder of the episode store; {store} if not given.")
    out = ("out", Annotated[str, help], dataclasses.field(default="", kw_only=True))
    asked = dataclasses.make_dataclass("Prepare", [out], bases=(kind,), frozen=True)
    asked.__doc__ = told
    args = parse(asked(**vars(source)), f"prepare {name}", rest)
    prepare(narrow(args, kind), Path(args.out or store))


def do_fetch(name: str, rest: list[str]) -> None:
    args = parse(Fetch(), f"fetch {name}", rest)
    with progress_bar("fetching", 1) as bar:
        folder = fetch(name, Path(args.out), args.base, bar.of)
    console.print(str(folder))


@dataclass(frozen=True)
class AskedTraining:
    """A training as the command line asks for it."""

    job: Job
    folder: Path
    resume: bool
    chosen: Preset | None
    """None for a run that was imported."""


def asked_training(name: str, rest: list[str]) -> AskedTraining:
    folder = Path(option(rest, "--out") or f"runs/{name}")
    resumed = "--resume" in rest and (folder / "job.json").exists()
    chosen = None if resumed and name not in PRESETS else preset(name)  # a run that was imported has none
    # What was asked for then need not be typed again.
    job = load_job(folder) if resumed or not chosen else chosen.job
    # Narrowed to this preset's model, so that the fields and their help are that model's.
    model = ("model", type(job.model), dataclasses.field(default=job.model))
    narrowed = dataclasses.make_dataclass("Train", [model], bases=(Train,), frozen=True)
    narrowed.__doc__ = Train.__doc__
    args = parse(narrowed(**vars(job)), f"train {name}", rest)
    return AskedTraining(narrow(args, Job), folder, args.resume, chosen)


def make_recordings(asked: AskedTraining) -> None:
    """Make the recordings of a preset where there are none."""
    store = asked.job.data.store
    if asked.chosen and store == asked.chosen.job.data.store and not finished(Path(store)):
        prepare(asked.chosen.source, Path(store))


def do_train(name: str, rest: list[str]) -> None:
    with joined() as team:
        if name in CONTROLLERS:
            if team.size > 1:
                raise SakiyomiError(f"{name} is trained by one process, not {team.size}; start it without torchrun")
            train_character(name, rest)
            return
        asked = asked_training(name, rest)
        check(asked.job)  # before recordings are made in vain
        team.once("recordings", lambda: make_recordings(asked))
        ended = train(asked.job, asked.folder, asked.resume)
        early = ", stopped early" if ended.stopped_early else ""
        console.print(
            f"{ended.steps} steps{early}; best {asked.job.train.keep} of validation {ended.best:.3e} "
            f"at step {ended.best_step}"
        )


def asked_job(name: str, rest: list[str]) -> Job | ControllerJob:
    """What `train` would do."""
    return asked_controller(name, rest)[0] if name in CONTROLLERS else asked_training(name, rest).job


def record(name: str, rest: list[str]) -> None:
    """Make the recordings that `train` would make."""
    if name not in CONTROLLERS:
        make_recordings(asked_training(name, rest))


def finished(store: Path) -> bool:
    """A store is finished once its statistics are written."""
    return store.exists() and bool(EpisodeStore(store, allow_empty=True).statistics)


def do_evaluate(name: str, rest: list[str]) -> None:
    what = use_of(name, rest)
    if what in ("steers", "walks"):
        (evaluate_character if what == "steers" else evaluate_motion)(name, rest)
        return
    if what in ("writes", "hears"):
        (do_evaluate_text if what == "writes" else do_evaluate_speech)(name, rest)
        return
    if what == "speaks":
        do_evaluate_sound(name, rest)
        return
    if what in ("watches", "draws"):
        (do_evaluate_series if what == "watches" else do_evaluate_draws)(name, rest)
        return
    if what == "imagines":
        args = parse(EvaluateImagined(), f"evaluate {name}", rest)
        folder = run_folder(name, args.run)
        trained = load(folder, str(pick_device(args.device)))
        with progress_bar("imagining", 1) as bar:
            found = evaluate_imagined(trained, narrow(args, HowImagined), bar.of)
        print_scores(found.scores)
        for note in found.notes:
            console.print(note, markup=False)
        console.print(str(save_imagined(found, trained, folder)))
        return
    args = parse(Evaluate(), f"evaluate {name}", rest)
    folder = run_folder(name, args.run)
    trained = load(folder)
    if not arm_is_here(trained):
        scores = evaluate_recordings(trained)
        save_scores(scores, folder / "scores.json")
        print_scores(scores)
        return
    evaluated = evaluate_with_bar(trained, args.trials, args.seed, args.only, driver(args, folder))
    save(evaluated, folder)
    print_scores(evaluated.scores)


def do_rollout(name: str, rest: list[str]) -> None:
    what = use_of(name, rest)
    if what in ("steers", "walks"):
        (rollout_character if what == "steers" else rollout_motion)(name, rest)
        return
    if what in ("draws", "writes"):
        (do_rollout_draws if what == "draws" else do_rollout_text)(name, rest)
        return
    if what in ("hears", "speaks"):
        (do_rollout_speech if what == "hears" else do_rollout_sound)(name, rest)
        return
    if what == "watches":
        raise SakiyomiError(f"{name} watches a series and does not go on by itself: sakiyomi watch {name}")
    if what == "imagines":
        args = parse(RolloutImagined(), f"rollout {name}", rest)
        folder = run_folder(name, args.run)
        trained = load(folder, str(pick_device(args.device)))
        for path in rollout_imagined(trained, narrow(args, Imagining), folder):
            console.print(str(path))
        return
    args = parse(Rollout(), f"rollout {name}", rest)
    folder = run_folder(name, args.run)
    trained = load(folder)
    if args.recording:
        errors = along_recording(trained, args.recording, folder)
        told = ", ".join(f"{stream} {error:.4f}" for stream, error in errors.items())
        console.print(f"one step ahead along {args.recording}, RMS error: {told}")
        return
    if not arm_is_here(trained):
        raise SakiyomiError(
            f"{name} moves another robot than the arm that is simulated here; run it along a recording: "
            f"--recording {recording_of(trained)}"
        )
    trial = rollout(trained, narrow(args, Closed), folder)
    console.print(f"success: {trial.success_any} (at the last step: {trial.success_last}); {folder / 'rollout.gif'}")


Use = Literal["drives", "imagines", "walks", "steers", "draws", "watches", "writes", "hears", "speaks"]


def does(name: str, rest: list[str]) -> Use:
    """What the run that is meant is for, or where there is none what the preset would be."""
    folder = Path(option(rest, "--run") or f"runs/{name}")
    there = (folder / "job.json").exists()
    if steers(folder) if there else name in CONTROLLERS:
        return "steers"
    if not there and name not in PRESETS:
        return "drives"  # `run_folder` says which runs there are
    model = MODELS[model_name(load_job(folder).model if there else preset(name).job.model)]
    if hasattr(model, "draw"):
        return "draws"
    if "value" in getattr(model, "inputs", ()):
        return "watches"
    if {"token", "target"} & set(getattr(model, "outputs", ())):
        return "writes"
    if "sample" in getattr(model, "outputs", ()):
        return "speaks"
    if hasattr(model, "decode"):
        return "walks"
    if getattr(model, "taught", ()):
        return "hears"
    return "imagines" if hasattr(model, "imagine") else "drives"


def use_of(name: str, rest: list[str]) -> Use:
    """The same of a preset or of a run that is there. Raises SakiyomiError for another name: of one that nobody knows,
    the fields that follow could only be told to be unknown."""
    if name not in {**PRESETS, **CONTROLLERS}:
        run_folder(name, option(rest, "--run"))
    return does(name, rest)


def do_explain(name: str, rest: list[str]) -> None:
    what = use_of(name, rest)
    if what in ("draws", "writes"):
        (do_explain_draws if what == "draws" else do_explain_text)(name, rest)
        return
    if what != "drives":
        instead = "watch" if what == "watches" else "rollout"
        raise SakiyomiError(f"explain shows where a model looks; {name} {what} instead: sakiyomi {instead} {name}")
    args = parse(Explain(), f"explain {name}", rest)
    folder = run_folder(name, args.run)
    trained = load(folder)
    if arm_is_here(trained):
        trials = evaluate_with_bar(trained, args.trials, only=("untaught",)).trials["untaught"]
        pictures = explain(trained, trials, folder)
    else:
        pictures = explain_recordings(trained, folder, args.trials)
    for path in pictures:
        console.print(str(path))


def do_compare(name: str, rest: list[str]) -> None:
    if len(rest) != 1:
        raise SakiyomiError(f"compare takes two runs, got {[name, *rest]}: sakiyomi compare RUN_A RUN_B")
    a, b = (load_scores(run_folder(n, "") / "scores.json") for n in (name, rest[0]))
    print_differences(name, rest[0], compare(a, b))


def do_demo(name: str, rest: list[str]) -> None:
    args = parse(Demo(), "demo", rest)
    chosen = preset(name)
    steps = args.steps or chosen.job.train.steps
    recordings = dataclasses.replace(chosen.job.data, store=args.store)
    training = dataclasses.replace(chosen.job.train, steps=steps)
    job = dataclasses.replace(chosen.job, data=recordings, train=training)
    demo(dataclasses.replace(chosen, job=job), Path(args.out), args.trials)


def do_serve_page(name: str, rest: list[str]) -> None:
    what = does(name, rest)
    if what in ("imagines", "watches", "writes", "hears", "speaks"):
        run_folder(name, option(rest, "--run"))  # a run that is not there is told as such
        raise SakiyomiError(f"{name} {what}; serve takes a character (walk, target-walker) or what draws (digits)")
    (do_serve_draws if what == "draws" else do_serve)(name, rest)


VERBS: dict[str, tuple[Callable[[str, list[str]], None], str]] = {
    "demo": (do_demo, "the whole path in some minutes: show, learn, drive, report"),
    "prepare": (do_prepare, "make, convert, record, check, copy or export recordings"),
    "fetch": (do_fetch, "fetch a public set of recordings: " + ", ".join(public_sets())),
    "train": (do_train, "train a preset"),
    "evaluate": (do_evaluate, "score a trained run"),
    "sweep": (
        lambda name, rest: do_sweep(name, rest, Deeds(asked_job, record, Verbs(do_train, do_evaluate))),
        "train and score from several seeds, for several values of fields; one table",
    ),
    "rollout": (do_rollout, "drive, imagine, walk, be steered, draw, write, hear, speak, or predict along a recording"),
    "generate": (lambda name, rest: do_generate(name, rest, does(name, rest)), "draw pictures, such as digits"),
    "style": (do_style, "the ten digits in the hand of one photographed digit"),
    "demo-motion": (do_demo_motion, "from a folder of BVH files to a character that goes where it is told"),
    "serve": (do_serve_page, "a page on which a character is steered, or a latent space walked through"),
    "explain": (do_explain, "where it looks, what its memory does, or the map of its latent space"),
    "watch": (
        lambda name, rest: do_watch(name, rest, does(name, rest)),
        "raise the alarm where a series, or the world, surprises",
    ),
    "compare": (do_compare, "two runs' scores side by side, if measured alike"),
    "bench": (do_bench, "how fast a preset is on this machine, and how far from the machine's limit"),
}


def help_text() -> str:
    lines = ["usage: sakiyomi VERB NAME [--field value ...]", "", "verbs:"]
    lines += [f"  {verb:11s} {told}" for verb, (_, told) in VERBS.items()]
    lines += ["", "names:"]
    lines += [f"  {name:15s} {make().description}" for name, make in {**PRESETS, **CONTROLLERS}.items()]
    lines += ["", f"what prepare reads: {', '.join(FORMATS)}; what else it does: {', '.join(DEEDS)}"]
    return "\n".join([*lines, "", "sakiyomi VERB NAME --help lists the fields."])
