"""The verb of the command line for many trainings at once."""

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sakiyomi import cluster
from sakiyomi.arguments import NoRun, field_names, narrow, parse
from sakiyomi.control import ControllerJob
from sakiyomi.errors import SakiyomiError, at_least
from sakiyomi.job import Job, check
from sakiyomi.run import console
from sakiyomi.scores.seeds import rule
from sakiyomi.sweep import (
    Definition,
    How,
    Run,
    Verbs,
    check_folder,
    claim,
    collect,
    is_finished,
    runs_of,
    sweep,
    write_swept,
)
from sakiyomi.views.sweep import print_swept, report_swept

Words = dict[str, list[str]]
"""Flag -> the words after it."""


@dataclass(frozen=True)
class Sweep(How):
    """Train and score a preset from several seeds. Any field of `sakiyomi train NAME` may be given, with several values
    between commas (--model.points 5,8): every combination is tried. Options of `sakiyomi evaluate NAME` are given as
    --evaluate.OPTION. The same command goes on where it was interrupted, and only adds what a larger --seeds asks."""

    seeds: int = 5
    """Runs of each combination, with --train.seed 0, 1, ..."""
    out: str = ""
    """Folder of all runs; runs/sweep-NAME if not given."""
    good: tuple[str, ...] = ()
    """When a training is good enough: 'success/untaught>=0.9'; unless told, of an arm, when its attention follows the
    cube, and when it succeeds."""
    show: bool = False
    """Only the table of what is finished; nothing is started."""


@dataclass(frozen=True)
class Deeds:
    """What the command line does with a preset's name and words; `job` only reads them, `record` makes recordings."""

    job: Callable[[str, list[str]], Job | ControllerJob]
    record: Callable[[str, list[str]], None]
    verbs: Verbs


def do_sweep(name: str, rest: list[str], deeds: Deeds) -> None:
    words = by_flag(rest)
    own = {
        flag: words.pop(flag)
        for flag in [*words]
        if flag in (*field_names(Sweep()), "--no-here", "--no-show", "-h", "--help")
    }
    args = parse(Sweep(), f"sweep {name}", in_a_row(own))
    at_least("--seeds", args.seeds, 1)
    at_least("--threads", args.threads, 1)
    at_least("--workers", args.workers, 0)
    at_least("--gpus", args.gpus, 0)
    rules, out = tuple(rule(text) for text in args.good), Path(args.out or f"runs/sweep-{name}")
    scoring = {flag: words.pop(flag) for flag in sorted(words) if flag.startswith("--evaluate.")}
    evaluate = tuple(in_a_row({flag.replace("evaluate.", "", 1): values for flag, values in scoring.items()}))
    asked, runs = checked(name, words, args, evaluate, deeds)
    failed: dict[str, str] = {}
    if args.show:
        check_folder(out, asked)
    else:
        claim(out, asked, evaluate)
        waiting = {run.reads: run for run in runs if not is_finished(out / run.name, run, evaluate)}
        for run in waiting.values():  # here and now: workers would all begin to make the same ones
            deeds.record(name, [*run.train])
        failed = sweep(asked, runs, evaluate, out, way(narrow(args, How)), deeds.verbs)
    found = collect(asked, runs, evaluate, out, rules, failed)
    if not args.show:
        write_swept(out, found)
    if found.finished:
        print_swept(found)
        console.print(str(report_swept(found, out / "report.html")))
    else:
        console.print(f"no run of {out} is finished yet", markup=False)
    if failed:
        told = "; ".join(f"{run}: {error}" for run, error in failed.items())
        raise SakiyomiError(f"{len(failed)} of {len(runs)} runs failed, the same command tries them again: {told}")


def way(how: How) -> How:
    """With Ray where it is installed, otherwise one after the other, which is told."""
    if how.here or how.address or how.workers or cluster.there():
        return how
    console.print(
        "one run after the other in this process; as many at a time as there are cores with Ray: "
        "pip install 'sakiyomi[cluster]'",
        markup=False,
    )
    return How(here=True, threads=how.threads)


def by_flag(rest: list[str]) -> Words:
    """The words of each flag. Raises SakiyomiError for one that is given twice, or words before any."""
    out: Words = {}
    for word in rest:
        flag, joined, value = word.partition("=")
        if word.startswith("--") or word == "-h":
            if flag in out:
                raise SakiyomiError(f"{flag} is given twice; several values of a field are written {flag} A,B")
            out[flag] = [value] if joined else []
        elif not out:
            raise SakiyomiError(f"a sweep takes one name, then --fields; got {word!r}")
        else:
            out[next(reversed(out))].append(word)
    return out


def in_a_row(words: Words) -> list[str]:
    return [word for flag, values in words.items() for word in (flag, *values)]


def checked(
    name: str, words: Words, args: Sweep, evaluate: tuple[str, ...], deeds: Deeds
) -> tuple[Definition, list[Run]]:
    """What the sweep consists of. Raises SakiyomiError, before anything is begun, for a field that does not exist and
    for a value that it cannot have."""
    preset = deeds.job(name, [])
    train = "train." if isinstance(preset, Job) else ""
    seed, threads = f"--{train}seed", f"--{train}threads"
    instead = {seed: "--seeds", threads: "--threads", "--resume": "nothing, a sweep always goes on"}
    instead |= {"--run": "--out", "--workers": "--workers of the sweep", "--address": "--address of the sweep"}
    for flag in (*words, *evaluate):
        if flag in instead:
            raise SakiyomiError(f"{flag} is the sweep's own affair; give {instead[flag]}")
    # In one order, so that the same words in another are the same sweep.
    fields = {flag.removeprefix("--"): tuple(" ".join(words[flag]).split(",")) for flag in sorted(words)}
    for field, values in fields.items():
        jobs = [job_of(name, spelled(preset, field, value), deeds) for value in values]
        for later, job in enumerate(jobs):
            if job in jobs[:later]:
                raise SakiyomiError(f"--{field} has the value {values[later]!r} twice")
    fields |= {threads.removeprefix("--"): (str(args.threads),)}
    asked = Definition(name, fields)
    runs = runs_of(asked, args.seeds, seed, lambda field, value: spelled(preset, field, value))
    reads: dict[str, str] = {}  # setting -> recordings, or the character that is steered
    for run in runs:
        if run.setting not in reads:  # the seed makes no difference
            job = job_of(name, [*run.train], deeds)
            reads[run.setting] = job.data.store if isinstance(job, Job) else job.character
    check_evaluate(name, evaluate, deeds)
    return asked, [replace(run, reads=reads[run.setting]) for run in runs]


def job_of(name: str, words: list[str], deeds: Deeds) -> Job | ControllerJob:
    """Raises SakiyomiError for words that the preset does not take; the command line's own way would be a page."""
    with quietly(f"sakiyomi train {name} does not take {' '.join(words)!r}; its --help says what it does"):
        job = deeds.job(name, words)
    if isinstance(job, Job):
        check(job)
    return job


def check_evaluate(name: str, words: tuple[str, ...], deeds: Deeds) -> None:
    """Let `evaluate` read its words without a run to score: that it finds none is the last that it can say of them."""
    told = f"sakiyomi evaluate {name} does not take {' '.join(words)!r}; its --help says what it does"
    with quietly(told), contextlib.suppress(NoRun):
        deeds.verbs.evaluate(name, [*words, "--run", "/nowhere"])


@contextlib.contextmanager
def quietly(told: str) -> Any:
    """What would end the command with a page about its words is one line."""
    page = io.StringIO()
    try:
        with contextlib.redirect_stderr(page), contextlib.redirect_stdout(page):
            yield
    except SystemExit as error:
        raise SakiyomiError(told) from error


def spelled(job: Any, field: str, value: str) -> list[str]:
    """Words of the command line: a field and its value, whose parts are apart ('64 32'); yes-or-no fields are flags."""
    usual = value_at(job, field)
    if isinstance(usual, str):  # a path may have spaces
        return [f"--{field}", value]
    if not isinstance(usual, bool) or not value:
        return [f"--{field}", *value.split()]
    if value not in ("true", "false"):
        raise SakiyomiError(f"--{field} is {value!r}; a sweep takes true, false, or true,false")
    parent, _, last = field.rpartition(".")
    return [f"--{field}" if value == "true" else "--" + ".".join(filter(None, (parent, f"no-{last}")))]


def value_at(job: Any, field: str) -> Any:
    """What a field has; None where there is no such field."""
    for part in field.split("."):
        job = job.get(part) if isinstance(job, dict) else getattr(job, part.replace("-", "_"), None)
    return job
