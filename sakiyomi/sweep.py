"""`sakiyomi sweep NAME`: the same training from several seeds, and for several values of its fields; one table.

    sakiyomi sweep pick-small --seeds 5
    sakiyomi sweep pick-small --train.learning-rate.peak 1e-3,3e-3 --model.points 5,8 --seeds 5

Every run is what `sakiyomi train` and `sakiyomi evaluate` make of the same words, in a folder of its own:

    runs/sweep-NAME/points=5,seed=0/             as any run folder; swept.json: it is finished
    runs/sweep-NAME/sweep.json                   what was asked for, and the table
    runs/sweep-NAME/report.html                  the same to look at

The same command again goes on where it was interrupted, tries failed runs again, and does not redo finished ones.
"""

import itertools
import json
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from sakiyomi.cluster import Failed, Need, results, stand_in, unseen, workers
from sakiyomi.data.cache import alone
from sakiyomi.data.far import is_url
from sakiyomi.errors import SakiyomiError
from sakiyomi.files import write_atomic
from sakiyomi.job import load_job
from sakiyomi.run import Interrupted, console, progress_bar, read_metrics
from sakiyomi.scores.protocol import load_scores
from sakiyomi.scores.seeds import OverSeeds, Reliability, Rule, over_seeds, reliability

# When a training of the arm is good enough, unless told. At untaught places a point that never moves is nearly 6 px
# from where it would have to be; half of that tells the points that follow the cube from those that do not.
USUAL = (Rule("following/untaught", "<=", 3.0), Rule("success/untaught", ">=", 0.9))


@dataclass(frozen=True)
class Definition:
    """What a sweep's folder holds."""

    preset: str
    fields: dict[str, tuple[str, ...]]
    """Field -> its values, as they are typed."""

    @property
    def varied(self) -> tuple[str, ...]:
        return tuple(name for name, values in self.fields.items() if len(values) > 1)


@dataclass(frozen=True)
class Run:
    """One training of a sweep."""

    setting: str
    """The fields that differ, 'points=5,peak=1e-3'; the preset's name where none does."""
    seed: int
    name: str
    """Of its folder."""
    train: tuple[str, ...]
    """What `sakiyomi train PRESET` is told, but for the folder."""
    reads: str = ""
    """Its recordings, which whoever trains must see."""


@dataclass(frozen=True)
class Verbs:
    """What the command line does with a preset's name and words."""

    train: Callable[[str, list[str]], None]
    evaluate: Callable[[str, list[str]], None]


@dataclass(frozen=True)
class Setting:
    """What was found of one setting."""

    scores: dict[str, OverSeeds]
    best: str
    """The run with the lowest measure of validation, which none of the scores had a part in; '' where there is none."""
    validation: dict[str, float]
    """Run -> that measure."""
    reliability: tuple[Reliability, ...]


@dataclass(frozen=True)
class Swept:
    """What a sweep has found so far; `sweep.json` holds it."""

    preset: str
    fields: dict[str, tuple[str, ...]]
    evaluate: tuple[str, ...]
    seeds: int
    settings: dict[str, Setting] = field(default_factory=dict)
    finished: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    """Run -> of the call that finished it."""
    failed: dict[str, str] = field(default_factory=dict)
    """Run -> its error."""


def runs_of(asked: Definition, seeds: int, seed_flag: str, words: Callable[[str, str], list[str]]) -> list[Run]:
    """The runs: of each seed every setting, so that what is there early is a whole table of few seeds. `words` makes
    words of the command line out of a field and one of its values."""
    tails = [name.rsplit(".", 1)[-1] for name in asked.varied]
    short = {name: name if tails.count(tail) > 1 else tail for name, tail in zip(asked.varied, tails, strict=True)}
    out = []
    for seed, values in itertools.product(range(seeds), itertools.product(*asked.fields.values())):
        chosen = dict(zip(asked.fields, values, strict=True))
        setting = ",".join(f"{short[name]}={value}" for name, value in chosen.items() if name in short)
        name = re.sub(r"[^\w.,=+-]", "_", ",".join(filter(None, (setting, f"seed={seed}"))))
        typed = itertools.chain.from_iterable(words(name, value) for name, value in chosen.items())
        out.append(Run(setting or asked.preset, seed, name, (*typed, seed_flag, str(seed))))
    names = [run.name for run in out]
    twice = next((name for name in names if names.count(name) > 1), "")
    if twice:
        raise SakiyomiError(f"two runs would have the folder {twice}; leave one of the values out")
    return out


def claim(out: Path, asked: Definition, evaluate: tuple[str, ...]) -> None:
    """Make the folder this sweep's; of two commands that begin there at once, one is refused where they differ."""
    with alone(out):
        check_folder(out, asked)
        if not (out / "sweep.json").exists():
            write_swept(out, Swept(asked.preset, asked.fields, evaluate, 0))


def check_folder(out: Path, asked: Definition) -> None:
    """Raises SakiyomiError where the folder holds another sweep, naming the difference."""
    if not (out / "sweep.json").exists():
        return
    there = read_swept(out)
    before, now = ({"preset": one.preset, **one.fields} for one in (there, asked))
    different = [
        f"{name}: {shown(before.get(name))} there, {shown(now.get(name))} asked"
        for name in before | now
        if before.get(name) != now.get(name)
    ]
    if different:
        raise SakiyomiError(f"{out} holds another sweep ({'; '.join(different)}); name another folder with --out")


def shown(values: Any) -> str:
    return "the preset's" if values is None else values if isinstance(values, str) else ",".join(values)


def read_swept(out: Path) -> Swept:
    """Raises SakiyomiError for a folder without a sweep."""
    path = out / "sweep.json"
    if not path.exists():
        raise SakiyomiError(f"{out} holds no sweep yet (no sweep.json); begin one: sakiyomi sweep NAME --out {out}")
    try:
        return msgspec.json.decode(path.read_bytes(), type=Swept)
    except msgspec.DecodeError as error:
        raise SakiyomiError(f"{path} cannot be read: {error}; remove it, the runs beside it are kept") from error


def is_finished(folder: Path, run: Run, evaluate: Sequence[str]) -> bool:
    """Trained and scored as it is asked now."""
    path = folder / "swept.json"
    if not path.exists():
        return False
    facts = json.loads(path.read_bytes())
    return (facts["train"], facts["evaluate"]) == (list(run.train), list(evaluate))


def run_one(verbs: Verbs, preset: str, run: Run, folder: Path, evaluate: tuple[str, ...]) -> str:
    """Train and score one run, going on with what is there; its error, or '' when all went well."""
    with alone(folder):  # a worker whose command was killed may still be at it
        if is_finished(folder, run, evaluate):
            return ""
        begin = time.perf_counter()
        try:
            verbs.train(preset, [*run.train, "--out", str(folder), "--resume"])
            trained = time.perf_counter()
            verbs.evaluate(preset, [*evaluate, "--run", str(folder)])
        except Interrupted:
            raise
        except Exception as error:  # whatever one run dies of, the others go on
            told = "" if isinstance(error, SakiyomiError) else f"{type(error).__name__}: "
            return told + " ".join(str(error).split())
        facts = {
            "train": [*run.train],
            "evaluate": [*evaluate],
            "host": socket.gethostname(),
            "training_seconds": trained - begin,
            "seconds": time.perf_counter() - begin,
        }
        write_atomic(folder / "swept.json", json.dumps(facts, indent=1).encode())
        return ""


def run_far(place: Path, verbs: Verbs, preset: str, run: Run, folder: Path, evaluate: tuple[str, ...]) -> str:
    """`run_one` on a worker, which must see what it reads and where it writes."""
    stand_in(place)
    if not (folder.parent / "sweep.json").exists():
        raise unseen(folder.parent.absolute())
    if not is_url(run.reads) and not Path(run.reads).exists():
        raise unseen(Path(run.reads).absolute())
    return run_one(verbs, preset, run, folder, evaluate)


def one_by_one(verbs: Verbs, preset: str, runs: Sequence[Run], out: Path, evaluate: tuple[str, ...]) -> Iterator[str]:
    """In this process."""
    for number, run in enumerate(runs, 1):
        console.print(f"run {number} of {len(runs)}: {run.name}", style="bold", markup=False)
        yield run_one(verbs, preset, run, out / run.name, evaluate)


@dataclass(frozen=True)
class How:
    """Where the runs are done."""

    workers: int = 0
    """At a time on this machine, with Ray; 0 is one a core, or as many as have --threads each."""
    address: str = ""
    """Of a Ray cluster whose machines are to do it, HOST:PORT or auto."""
    here: bool = False
    """One after the other in this process, without Ray; so it is where Ray is not installed, too."""
    threads: int = 1
    """CPU threads of each run, and the cores it takes of a machine."""
    gpus: float = 0
    """GPUs a run takes of a machine; 0.5 puts two on one. Unless asked for, no run sees one, --here apart."""


def sweep(
    asked: Definition, runs: Sequence[Run], evaluate: tuple[str, ...], out: Path, how: How, verbs: Verbs
) -> dict[str, str]:
    """Do what is not done yet; the errors of the runs that failed. Ctrl-C leaves every run as a stopped training is
    left."""
    waiting = [run for run in runs if not is_finished(out / run.name, run, evaluate)]
    failed: dict[str, str] = {}
    for number, error in done_by(asked.preset, waiting, evaluate, out, how, verbs):
        if error:
            failed[waiting[number].name] = error
            console.print(f"{waiting[number].name} failed: {error}", style="yellow", markup=False)
    return failed


def done_by(
    preset: str, waiting: Sequence[Run], evaluate: tuple[str, ...], out: Path, how: How, verbs: Verbs
) -> Iterator[tuple[int, str]]:
    """Number and error of each run, as it is done."""
    if how.here or not waiting:
        yield from enumerate(one_by_one(verbs, preset, waiting, out, evaluate))
        return
    words = [(Path.cwd(), verbs, preset, run, out / run.name, evaluate) for run in waiting]
    with workers(how.workers * how.threads, how.address) as on, progress_bar("sweeping", len(waiting)) as bar:
        for done, (number, result) in enumerate(results(on, run_far, words, Need(how.threads, how.gpus)), 1):
            bar.update(done, waiting[number].name)
            yield number, result.error if isinstance(result, Failed) else result


def collect(
    asked: Definition,
    runs: Sequence[Run],
    evaluate: tuple[str, ...],
    out: Path,
    rules: tuple[Rule, ...],
    failed: Mapping[str, str],
) -> Swept:
    """What the finished runs say together. Raises SakiyomiError where `rules` name a score that they do not have."""
    finished = [run for run in runs if is_finished(out / run.name, run, evaluate)]
    of_setting: dict[str, list[Run]] = {}
    for run in finished:
        of_setting.setdefault(run.setting, []).append(run)
    settings = {name: setting_of(ones, out, rules) for name, ones in of_setting.items()}
    seconds = {run.name: json.loads((out / run.name / "swept.json").read_bytes())["seconds"] for run in finished}
    seeds, names = 1 + max(run.seed for run in runs), tuple(run.name for run in finished)
    return Swept(asked.preset, asked.fields, evaluate, seeds, settings, names, seconds, dict(failed))


def setting_of(runs: Sequence[Run], out: Path, rules: tuple[Rule, ...]) -> Setting:
    """What the runs of one setting say together: each rule's reliability, and that of all rules at once."""
    scores = {run.seed: load_scores(out / run.name / "scores.json") for run in runs}
    validation = {run.name: value for run in runs if (value := validated(out / run.name)) is not None}
    best = min(validation, key=lambda name: validation[name], default="")
    known = {name for one in scores.values() for name in one}
    chosen = rules or tuple(one for one in USUAL if one.score in known)
    by = [(one,) for one in chosen] + ([chosen] if len(chosen) > 1 else [])
    return Setting(over_seeds(scores), best, validation, tuple(reliability(one, scores) for one in by))


def validated(folder: Path) -> float | None:
    """The lowest measure of validation by which the run's weights were kept; None for what is not validated."""
    lines = [line for line in read_metrics(folder) if "validation/total" in line]
    return min(line[f"validation/{load_job(folder).train.keep}"] for line in lines) if lines else None


def write_swept(out: Path, found: Swept) -> None:
    write_atomic(out / "sweep.json", json.dumps(asdict(found), indent=1).encode())
