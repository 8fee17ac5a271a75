"""The verbs of the command line: typed records over presets, no logic; each verb's file has it."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.demo import demo, evaluate_with_bar
from sakiyomi.errors import SakiyomiError, unknown
from sakiyomi.evaluate import save
from sakiyomi.evaluate_imagined import HowImagined, evaluate_imagined, save_imagined
from sakiyomi.explain import explain
from sakiyomi.imagine import Imagining, rollout_imagined
from sakiyomi.job import Job, load_job, model_name
from sakiyomi.models import MODELS
from sakiyomi.prepare import prepare
from sakiyomi.presets import PRESETS, preset
from sakiyomi.rollout import Closed, along_recording, load, rollout
from sakiyomi.run import console, pick_device, progress_bar
from sakiyomi.scores.protocol import compare, load_scores
from sakiyomi.train import train
from sakiyomi.views.tables import print_differences, print_scores

Arguments = TypeVar("Arguments")


@dataclass(frozen=True)
class Train(Job):
    """Train a preset; its recordings are made first if there are none."""

    out: str = ""
    """Run folder; runs/NAME if not given."""
    resume: bool = False
    """Go on from the last checkpoint."""


@dataclass(frozen=True)
class Evaluate:
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
    chosen = preset(name)
    kind: Any = type(chosen.source)
    told = tyro.conf.arg(help="Folder of the episode store; the preset's own if not given.")
    out = ("out", Annotated[str, told], dataclasses.field(default="", kw_only=True))
    asked = dataclasses.make_dataclass("Prepare", [out], bases=(kind,), frozen=True)
    asked.__doc__ = f"Recordings for {name}: {chosen.description}."
    args = parse(asked(**vars(chosen.source)), f"prepare {name}", rest)
    prepare(narrow(args, kind), Path(args.out or chosen.job.data.store))


def do_train(name: str, rest: list[str]) -> None:
    chosen = preset(name)
    job, folder = chosen.job, Path(option(rest, "--out") or f"runs/{name}")
    if "--resume" in rest and (folder / "job.json").exists():
        job = load_job(folder)  # what was asked for then need not be typed again
    # Narrowed to this preset's model, so that the fields and their help are that model's.
    model = ("model", type(job.model), dataclasses.field(default=job.model))
    narrowed = dataclasses.make_dataclass("Train", [model], bases=(Train,), frozen=True)
    narrowed.__doc__ = Train.__doc__
    args = parse(narrowed(**vars(job)), f"train {name}", rest)
    job = narrow(args, Job)
    if job.data.store == chosen.job.data.store and not finished(Path(job.data.store)):
        prepare(chosen.source, Path(job.data.store))
    ended = train(job, folder, args.resume)
    early = ", stopped early" if ended.stopped_early else ""
    console.print(
        f"{ended.steps} steps{early}; best {job.train.keep} of validation {ended.best:.3e} at step {ended.best_step}"
    )


def option(words: list[str], flag: str) -> str:
    """What `--flag WORD` or `--flag=WORD` says, or nothing."""
    joined = [word.removeprefix(f"{flag}=") for word in words if word.startswith(f"{flag}=")]
    return words[words.index(flag) + 1] if flag in words[:-1] else "".join(joined[-1:])


def finished(store: Path) -> bool:
    """A store is finished once its statistics are written."""
    return store.exists() and bool(EpisodeStore(store, allow_empty=True).statistics)


def do_evaluate(name: str, rest: list[str]) -> None:
    if imagines(name, rest):
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
    evaluated = evaluate_with_bar(load(folder), args.trials, args.seed, args.only)
    save(evaluated, folder)
    print_scores(evaluated.scores)


def do_rollout(name: str, rest: list[str]) -> None:
    if imagines(name, rest):
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
    trial = rollout(trained, narrow(args, Closed), folder)
    console.print(f"success: {trial.success_any} (at the last step: {trial.success_last}); {folder / 'rollout.gif'}")


def imagines(name: str, rest: list[str]) -> bool:
    """The run that is meant, or where there is none the preset, has a model that imagines."""
    folder = Path(option(rest, "--run") or f"runs/{name}")
    if not (folder / "job.json").exists() and name not in PRESETS:
        return False  # `run_folder` says which runs there are
    config = load_job(folder).model if (folder / "job.json").exists() else preset(name).job.model
    return hasattr(MODELS[model_name(config)], "imagine")


def do_explain(name: str, rest: list[str]) -> None:
    if imagines(name, rest):
        raise SakiyomiError(f"explain shows where a model looks; {name} imagines instead: sakiyomi rollout {name}")
    args = parse(Explain(), f"explain {name}", rest)
    folder = run_folder(name, args.run)
    trained = load(folder)
    trials = evaluate_with_bar(trained, args.trials, only=("untaught",)).trials["untaught"]
    for path in explain(trained, trials, folder):
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


VERBS: dict[str, tuple[Callable[[str, list[str]], None], str]] = {
    "demo": (do_demo, "the whole path in some minutes: show, learn, drive, report"),
    "prepare": (do_prepare, "make or convert the recordings a preset learns from"),
    "train": (do_train, "train a preset"),
    "evaluate": (do_evaluate, "score a trained run"),
    "rollout": (do_rollout, "drive, imagine, or predict along a recording"),
    "explain": (do_explain, "where it looks, and what its memory does"),
    "compare": (do_compare, "two runs' scores side by side, if measured alike"),
}


def parse(default: Arguments, command: str, rest: list[str]) -> Arguments:
    """Typed arguments over their defaults. Raises SakiyomiError for a field that does not exist."""
    parsed, unknown_words = tyro.cli(
        type(default),
        default=default,
        args=rest,
        prog=f"sakiyomi {command}",
        description=type(default).__doc__,
        return_unknown_args=True,
    )
    if unknown_words:
        raise unknown("field", unknown_words[0], field_names(default))
    return parsed


def field_names(record: Any, prefix: str = "--") -> list[str]:
    """Every flag of a nested dataclass."""
    names: list[str] = []
    for field in dataclasses.fields(record):
        value, flag = getattr(record, field.name), prefix + field.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            names += field_names(value, f"{flag}.")
        elif isinstance(value, dict):
            names += [n for key, v in value.items() for n in field_names(v, f"{flag}.{key}.")]
        else:
            names.append(flag)
    return names


def narrow(args: Any, kind: type[Arguments]) -> Arguments:
    """The part of `args` that is a `kind`."""
    return kind(**{f.name: getattr(args, f.name) for f in dataclasses.fields(kind)})  # pyright: ignore[reportArgumentType]


def run_folder(name: str, given: str) -> Path:
    """`given`, or runs/NAME. Raises SakiyomiError when neither holds a run, with the ones that exist."""
    folder = Path(given) if given else Path("runs") / name
    if not (folder / "job.json").exists():
        raise unknown("run", given or name, [path.parent.name for path in Path("runs").glob("*/job.json")])
    return folder


def help_text() -> str:
    lines = ["usage: sakiyomi VERB NAME [--field value ...]", "", "verbs:"]
    lines += [f"  {verb:9s} {told}" for verb, (_, told) in VERBS.items()]
    lines += ["", "names:"]
    lines += [f"  {name:13s} {make().description}" for name, make in PRESETS.items()]
    return "\n".join([*lines, "", "sakiyomi VERB NAME --help lists the fields."])
