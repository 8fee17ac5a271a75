"""`sakiyomi watch NAME` and `evaluate NAME` for a run that watches a sensor: where is the series strange?

    sakiyomi watch climate --rate 0.01
    sakiyomi watch climate --csv next_year.csv
    sakiyomi watch readings.csv                  # no model: `sakiyomi.online`, from the first value on
    tail -f readings.txt | sakiyomi watch climate --stream
    sakiyomi evaluate climate

The model's surprise is calibrated on recordings it did not learn from: the split `calibration` where the store has one,
`validation` where not (the best weights were chosen by it, so it looks a little more normal than it should). The
calibration is left in the run folder, for `sakiyomi.Surprise.load`.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.console import Console

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.formats.csv_table import read_table
from sakiyomi.data.formats.importing import given
from sakiyomi.data.formats.series_csv import SeriesCsv
from sakiyomi.data.windows import Windows
from sakiyomi.errors import SakiyomiError, unknown
from sakiyomi.files import write_atomic
from sakiyomi.online import OnlineSurprise
from sakiyomi.rollout import Trained
from sakiyomi.run import console, read_metrics
from sakiyomi.scores.protocol import Protocol, Score, save_scores
from sakiyomi.scores.statistics import bootstrap, wilson
from sakiyomi.surprise import Alarm, Readings, Settings, Surprise, intervals
from sakiyomi.views.alarms import series_plot
from sakiyomi.views.plots import training_curves
from sakiyomi.views.report import Figure, Section, Table, write_report

JOIN = 3.0  # periods between two alarms that are one
TOLD = 12  # alarms that are printed
TABLE = "a text table of the sensor's values"
ENOUGH = 10  # false alarms in the normal data, or their rate is a guess
BLOCKS = 200
RATES = (0.01, 0.001)  # false-alarm rates that an evaluation tries


@dataclass(frozen=True)
class WatchingSeries:
    """Say where a series is strange, by what a trained model expected of it."""

    csv: str = ""
    """A text table with the columns the model knows; if not given, a split of the run's own recordings."""
    split: str = "test"
    """Which split, where no table is given."""
    normal: str = ""
    """The split to calibrate on; calibration if there is one, validation if not."""
    rate: float = 0.01
    """False alarms a step that are allowed for."""
    stream: bool = False
    """Read values from standard input, a line a step, and answer each with a line of JSON."""


@dataclass(frozen=True)
class WatchingTable:
    """Say where the columns of a text table are strange, without a model."""

    values: tuple[str, ...] = ()
    """Columns; all that hold numbers if not given."""
    rate: float = 0.02
    """The share of the last values that may be as surprising as an alarm."""
    strength: float = 1.36
    """How surprising an alarm must be by itself."""
    out: str = ""
    """Folder for alarms and pictures; runs/NAME-OF-THE-FILE if not given."""


@dataclass(frozen=True)
class Recorded:
    """A stretch of a series at the model's rate."""

    name: str
    times: np.ndarray
    """Seconds from the first stamp of the whole series, [T]."""
    values: np.ndarray
    """[T, C]"""
    begin: str = ""
    """The stamp at 0 s, ISO 8601; empty where there is none."""
    anomalies: tuple[tuple[float, float], ...] = ()
    """Those that are known, in seconds."""


@dataclass(frozen=True)
class SeriesWatched:
    """A stretch and what was strange in it."""

    recorded: Recorded
    readings: Readings
    alarms: list[Alarm]


def recordings(trained: Trained, store: EpisodeStore, split: str) -> Iterator[Recorded]:
    """The stretches of a split that are long enough for the model. Raises SakiyomiError when there is none."""
    data = replace(trained.job.data, steps=trained.model.warmup + 2, episodes=0, stride=10**9, skip_short=True)
    ids = {window.episode for window in Windows(store, split, data, ("value",), trained.normalizer).windows}
    whole = Windows(store, split, replace(data, steps=0), ("value",), trained.normalizer, tuple(sorted(ids)))
    for window, values in zip(whole.windows, whole.series("value"), strict=True):
        meta = store.entry(window.episode).meta
        known = tuple((float(one["start"]), float(one["end"])) for one in meta.get("anomalies", ()))
        inside = tuple(pair for pair in known if pair[1] >= window.times[0] and pair[0] <= window.times[-1])
        yield Recorded(window.episode, window.times, values, str(meta.get("start", "")), inside)


def table(trained: Trained, store: EpisodeStore, path: str) -> Iterator[Recorded]:
    """The columns of a text table that the model knows, at its rate, in stretches without long holes."""
    names = store.streams["value"].names
    source, told = SeriesCsv(path=path, values=names), list[str]()
    found = source.series(read_table(given(path, TABLE), source), path, told)
    for line in told:
        console.print(f"{Path(path).name}: {line}", markup=False)
    period = 1 / (trained.job.data.rate or store.streams["value"].rate)
    holes = np.flatnonzero(np.diff(found.times) > source.gap * period) + 1
    pieces = [piece for piece in np.split(np.arange(len(found.times)), holes) if len(piece) > 1]
    short = 0
    for number, piece in enumerate(pieces):
        clock, values = found.times[piece], found.values[piece]
        times = np.arange(clock[0], clock[-1] + 1e-6 * period, period)
        if len(times) <= trained.model.warmup + 1:
            short += 1
            continue
        columns = [np.interp(times, clock, column) for column in values.T]
        yield Recorded(f"{number:03d}", times, np.stack(columns, 1).astype(np.float32), found.start)
    if short == len(pieces):
        raise SakiyomiError(
            f"{path} has no stretch of {trained.model.warmup + 2} values at {period:g} s, which the model needs before "
            f"it can say anything; the longest has {max((len(piece) for piece in pieces), default=0)} rows"
        )


def calibrated(trained: Trained, store: EpisodeStore, normal: str, rate: float) -> Surprise:
    """Surprise at a false-alarm rate, from a split of normal operation. Raises SakiyomiError for one there is none of,
    and where there is too little of it."""
    there = {entry.split for entry in store.entries}
    chosen = normal or ("calibration" if "calibration" in there else "validation")
    if chosen not in there:
        raise unknown("split", chosen, there)
    found = ({"value": one.values} for one in recordings(trained, store, chosen))
    surprise = Surprise.learn(trained, found, Settings(rate=rate))
    if surprise.steps * rate < ENOUGH:
        Console(stderr=True).print(  # standard output may be read by a program
            f"calibrated on {surprise.steps} steps of {chosen}: what happens once in {1 / rate:g} is a guess there; "
            f"it takes {ENOUGH / rate:.0f} to know, and a year of them where there are seasons",
            style="yellow",
            markup=False,
        )
    return surprise


def watch(surprise: Surprise, found: Iterable[Recorded]) -> list[SeriesWatched]:
    watched = []
    for one in found:
        readings = surprise.read({"value": one.values})
        period = float(np.median(np.diff(one.times)))
        watched.append(SeriesWatched(one, readings, intervals(one.times, readings, JOIN * period)))
    return watched


def watch_series(trained: Trained, options: WatchingSeries, folder: Path) -> list[Path]:
    """Leaves `surprise.json`, `alarms.json` and a picture a stretch in `folder`; prints the alarms."""
    store = EpisodeStore(trained.job.data.store)
    found = list(table(trained, store, options.csv) if options.csv else recordings(trained, store, options.split))
    surprise = calibrated(trained, store, options.normal, options.rate)
    surprise.save(folder / "surprise.json")
    watched = watch(surprise, found)
    lines = [line for one in watched for line in told(one)]
    for line in lines[:TOLD]:
        console.print(line, markup=False)
    if len(lines) > TOLD:
        console.print(f"and {len(lines) - TOLD} more, all in {folder / 'alarms.json'}", markup=False)
    if not lines:
        console.print("nothing strange")
    paths = [folder / "alarms.json"]
    content = [{"recording": one.recorded.name, "alarms": [asdict(alarm) for alarm in one.alarms]} for one in watched]
    write_atomic(paths[0], msgspec.json.format(msgspec.json.encode(_finite(content))))
    for one in watched:
        paths.append(folder / f"alarms-{one.recorded.name}.png")
        write_atomic(paths[-1], picture(surprise, one, store.streams["value"].names))
    return paths


def watch_table(path: Path, options: WatchingTable) -> list[Path]:
    """Each column by `OnlineSurprise`; leaves `alarms.json` and a picture a column, prints the alarms. Raises
    SakiyomiError for a file that is no table."""
    series, told = SeriesCsv(path=str(path), values=options.values), list[str]()
    found = series.series(read_table(given(str(path), TABLE), series), str(path), told)
    for line in told:
        console.print(f"{path.name}: {line}", markup=False)
    detector = OnlineSurprise(OnlineSurprise.Settings(rate=options.rate, strength=options.strength))
    folder = Path(options.out or f"runs/{path.stem}")
    content, paths = [], [folder / "alarms.json"]
    for name, values in zip(found.names, found.values.T, strict=True):
        readings = detector.read(found.times.tolist(), values.tolist())
        alarms = intervals(found.times, readings, JOIN * found.period)
        moments = [f"{_moment(one.start, found.start)}: surprise {one.peak:.1f}" for one in alarms]
        for moment in moments[:TOLD]:
            console.print(f"{name} {moment}", markup=False)
        if len(moments) > TOLD:
            console.print(f"{name}: and {len(moments) - TOLD} more, all in {paths[0]}", markup=False)
        if not moments:
            console.print(f"{name}: nothing strange", markup=False)
        content.append({"recording": name, "alarms": [asdict(alarm) for alarm in alarms]})
        paths.append(folder / f"alarms-{re.sub(r'[^A-Za-z0-9_.-]+', '_', name) or 'column'}-{len(paths)}.png")
        column = values[:, None]
        drawn = series_plot(
            found.times,
            column,
            readings.expected[:, None],
            readings.scores,
            options.strength,
            alarms,
            names=(name,),
            begin=found.start,
            label=f"strength {options.strength:g}",
        )
        write_atomic(paths[-1], drawn)
    write_atomic(paths[0], msgspec.json.format(msgspec.json.encode(content)))
    return paths


def watch_stream(
    trained: Trained, options: WatchingSeries, lines: Iterable[str], write: Callable[[str], object]
) -> None:
    """One line of numbers in (separated by commas or blanks; nothing, or nan, for a missing one), one line of JSON
    out. Memory does not grow. Raises SakiyomiError for a line that is something else."""
    store = EpisodeStore(trained.job.data.store)
    surprise = calibrated(trained, store, options.normal, options.rate)
    watching, channels = surprise.begin(), store.streams["value"].shape[0]
    for number, line in enumerate(lines):
        value = _numbers(line, channels, number + 1)
        reading, watching = surprise.step({"value": value}, watching)
        score = reading.score if np.isfinite(reading.score) else None  # JSON has no infinity
        answer = {"step": number, "score": score, "alarm": reading.alarm}
        write(msgspec.json.encode(answer).decode() + "\n")


def answer_standard_input(trained: Trained, options: WatchingSeries) -> None:
    """`watch_stream` from standard input to standard output, answering each line at once."""

    def write(line: str) -> None:
        sys.stdout.write(line)
        sys.stdout.flush()

    watch_stream(trained, options, sys.stdin, write)


def _numbers(line: str, channels: int, number: int) -> np.ndarray:
    words = [word.strip() for word in (line.split(",") if "," in line else line.split())] or [""]
    try:
        values = np.array([float(word) if word else np.nan for word in words], dtype=np.float32)
    except ValueError as error:
        raise SakiyomiError(f"line {number} is {line.strip()[:60]!r}; expected {channels} numbers") from error
    if len(values) != channels:
        raise SakiyomiError(f"line {number} has {len(values)} numbers; the model reads {channels}")
    return values


def told(watched: SeriesWatched) -> list[str]:
    """The alarms in words."""
    begin = watched.recorded.begin
    return [
        f"{_moment(alarm.start, begin)} to {_moment(alarm.end, begin)}: surprise {alarm.peak:.1f}"
        for alarm in watched.alarms
    ]


def picture(surprise: Surprise, watched: SeriesWatched, names: tuple[str, ...]) -> bytes:
    one, readings = watched.recorded, watched.readings
    return series_plot(
        one.times,
        one.values,
        readings.expected["value"],
        readings.scores,
        surprise.threshold,
        watched.alarms,
        names=names,
        deviations=readings.deviations.get("value"),
        begin=one.begin,
        known=one.anomalies,
    )


def evaluate_series(trained: Trained) -> tuple[dict[str, Score], list[SeriesWatched], Surprise]:
    """Scores on the test split: errors of the prediction beside those of the value before, false-alarm rates beside
    those asked for, and, where the store has known anomalies in a split `faulty`, how many were found."""
    store = EpisodeStore(trained.job.data.store)
    surprise = calibrated(trained, store, "", RATES[0])
    watched = watch(surprise, recordings(trained, store, "test"))
    counts = [len(one.recorded.times) for one in watched]
    protocol = Protocol(
        data=f"{trained.job.data.store}, test",
        counted=f"all steps after the first {trained.model.warmup + 1} of a recording",
        rule="root mean square error, in the sensor's unit",
        n=sum(counts),
        seeds="none",
        interval=f"bootstrap 95 % over {BLOCKS} stretches, or steps where there are fewer",
    )
    scores = error_scores(trained, watched, protocol)
    for rate in RATES:
        line = -np.log10(rate)
        values = np.concatenate([one.readings.scores[trained.model.warmup + 1 :] for one in watched])
        share = wilson(int((values >= line).sum()), len(values))
        rule = f"share of normal steps with an alarm, at {rate:g} asked for"
        name = f"false alarms at {rate:g}"
        there = replace(protocol, rule=rule, n=len(values), interval="wilson 95 %, as if steps were independent")
        scores[name] = Score(name, share.value, share.low, share.high, "rate", there)
    if any(entry.split == "faulty" for entry in store.entries):
        strict = replace(surprise, settings=replace(surprise.settings, rate=RATES[1]))
        faulty = watch(strict, recordings(trained, store, "faulty"))
        scores |= found_scores(faulty, replace(protocol, data=f"{trained.job.data.store}, faulty"))
        watched = [*watched, *faulty]
    return scores, watched, surprise


def error_scores(trained: Trained, watched: list[SeriesWatched], protocol: Protocol) -> dict[str, Score]:
    """`error`, and of a model that looks ahead `error of the value before` beside it."""
    first = trained.model.warmup + 1
    values = [one.recorded.values[first:] for one in watched]
    expected = [one.readings.expected["value"][first:] for one in watched]
    squares = {"error": np.concatenate([np.square(v - e).mean(1) for v, e in zip(values, expected, strict=True)])}
    if trained.model.ahead:
        before = [one.recorded.values[first - 1 : -1] for one in watched]
        told = zip(values, before, strict=True)
        squares["error of the value before"] = np.concatenate([np.square(v - b).mean(1) for v, b in told])
    unit = EpisodeStore(trained.job.data.store).streams["value"].unit or "of the sensor"
    found = {}
    for name, errors in squares.items():
        blocks = np.array_split(errors, min(len(errors), BLOCKS))  # neighbours are alike
        mean = bootstrap(np.array([block.mean() for block in blocks]))
        low, value, high = (float(np.sqrt(part)) for part in (mean.low, mean.value, mean.high))
        found[name] = Score(name, value, low, high, unit, replace(protocol, n=len(errors)))
    return found


def found_scores(watched: list[SeriesWatched], protocol: Protocol) -> dict[str, Score]:
    """How many known anomalies an alarm lies in, and how many alarms lie in one, give or take JOIN periods."""
    known = hit = alarms = right = 0
    for one in watched:
        slack = JOIN * float(np.median(np.diff(one.recorded.times)))
        spans = one.recorded.anomalies
        known, alarms = known + len(spans), alarms + len(one.alarms)
        hit += sum(any(a.start <= end + slack and a.end >= start - slack for a in one.alarms) for start, end in spans)
        right += sum(any(a.start <= end + slack and a.end >= start - slack for start, end in spans) for a in one.alarms)
    scores = {}
    pairs = {"anomalies found": (hit, known), "alarms that are right": (right, alarms)}
    for name, (count, total) in pairs.items():
        if total:
            share = wilson(count, total)
            rule = f"{name}, at {RATES[1]:g} false alarms a step"
            there = replace(protocol, rule=rule, n=total, interval="wilson 95 %")
            scores[name] = Score(name, share.value, share.low, share.high, "rate", there)
    return scores


def save_series(
    scores: dict[str, Score], watched: list[SeriesWatched], surprise: Surprise, trained: Trained, folder: Path
) -> Path:
    """Write `scores.json`, `surprise.json` and `report.html`; returns the report."""
    save_scores(scores, folder / "scores.json")
    surprise.save(folder / "surprise.json")
    names = EpisodeStore(trained.job.data.store).streams["value"].names
    rate = f"false alarms at {RATES[0]:g}"
    lead = (
        f"{type(trained.model).__name__} says of each step what it expected. On {scores[rate].protocol.n} steps it was "
        f"never shown, {scores[rate].value:.2%} were alarms where {RATES[0]:.0%} was asked for."
    )
    if "anomalies found" in scores:
        lead += f" It found {scores['anomalies found'].value:.0%} of the planted anomalies."
    figures = tuple(
        Figure(one.recorded.name, "Red: alarms. Yellow: anomalies that are known.", picture(surprise, one, names))
        for one in watched[:4]
    )
    rows = tuple((one.recorded.name, line) for one in watched for line in told(one))[:200]
    sections = (
        Section("What it expected, and what came", "", figures),
        Section("Alarms", "", table=Table(("recording", "alarm"), rows)),
        Section("What it learned", "", (Figure("Training", "Losses.", training_curves(read_metrics(folder))),)),
    )
    path = folder / "report.html"
    write_report(path, "Sakiyomi: surprise in a sensor series", lead, scores, sections)
    return path


def _moment(seconds: float, begin: str) -> str:
    if not begin:
        return f"{seconds:g} s"
    return str(np.datetime64(begin[:19]) + np.timedelta64(round(seconds), "s")).replace("T", " ")


def _finite(content: Any) -> Any:
    """JSON has no infinity: what is infinitely surprising becomes null."""
    if isinstance(content, dict):
        return {name: _finite(value) for name, value in content.items()}
    if isinstance(content, list):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not np.isfinite(content) else content
