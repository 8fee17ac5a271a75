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
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console

from sakiyomi.arguments import narrow
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.formats.csv_table import Reading, read_table
from sakiyomi.data.formats.importing import given
from sakiyomi.data.formats.series_csv import Series, SeriesCsv, duration
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
TOLD, LISTED = 12, 100  # alarms that are printed; of each recording, listed in a report
TABLE = "a text table of the sensor's values"
ENOUGH = 10  # false alarms in the normal data, or their rate is a guess
BLOCKS, SHORTEST = 200, 10  # stretches over which errors are averaged for an interval; steps of each, at least
RATES = (0.01, 0.001)  # false-alarm rates that an evaluation tries


@dataclass(frozen=True)
class WatchingSeries(Reading):
    """Say where a series is strange, by what a trained model expected of it."""

    csv: str = ""
    """A text table; if not given, a split of the run's own recordings. Its columns are those that the model was trained
    on, or as many others (--values)."""
    split: str = "test"
    """Which split, where no table is given."""
    normal: str = ""
    """The split to calibrate on; calibration if there is one, validation if not."""
    rate: float = 0.01
    """False alarms a step that are allowed for."""
    stream: bool = False
    """Read values from standard input, a line a step, and answer each with a line of JSON."""


@dataclass(frozen=True)
class WatchingTable(Reading):
    """Say where the columns of a text table are strange, without a model."""

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
    threshold: float
    """The score of an alarm."""


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


def read_series(path: str, reading: Reading) -> Series:
    """The columns of a text table; what was found in it is printed. Raises SakiyomiError for a file that is none."""
    source, told = SeriesCsv(path=path, **vars(narrow(reading, Reading))), list[str]()
    found = source.series(read_table(given(path, TABLE), source), path, told)
    holes = np.diff(found.times)
    holes = holes[holes > source.gap * found.period]
    if len(holes):
        told.append(f"{len(holes)} holes of more than {source.gap:g} periods, the longest {duration(holes.max())}")
    for line in told:
        console.print(f"{Path(path).name}: {line}", markup=False)
    return found


def table(trained: Trained, store: EpisodeStore, options: WatchingSeries) -> Iterator[Recorded]:
    """The columns of a text table that the model knows, at its rate, in stretches without long holes."""
    names, path = store.streams["value"].names, options.csv
    found = read_series(path, replace(options, values=options.values or names))
    if len(found.names) != len(names):
        raise SakiyomiError(f"{path} gave {len(found.names)} columns, the model reads {len(names)}: {', '.join(names)}")
    period = 1 / (trained.job.data.rate or store.streams["value"].rate)
    holes = np.flatnonzero(np.diff(found.times) > SeriesCsv.gap * period) + 1
    pieces = [piece for piece in np.split(np.arange(len(found.times)), holes) if len(piece) > 1]
    short = 0
    for number, piece in enumerate(pieces):
        clock, values = found.times[piece], found.values[piece]
        times = np.arange(clock[0], clock[-1] + 1e-6 * period, period)
        if len(times) <= trained.model.warmup + 1:
            short += 1
            continue
        columns = [np.interp(times, clock, column) for column in values.T]
        yield Recorded(f"{Path(path).stem}-{number:03d}", times, np.stack(columns, 1).astype(np.float32), found.start)
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
    apart = surprise.steps / (trained.model.warmup + 1)  # windows that overlap say the same again
    if apart * rate < ENOUGH:
        overlap = f", windows of {trained.model.warmup + 1}" if trained.model.warmup else ""
        Console(stderr=True).print(  # standard output may be read by a program
            f"calibrated on {surprise.steps} steps of {chosen}{overlap}: too few to know what happens once in "
            f"{1 / rate:g}; false alarms may be several times as many as asked for. {ENOUGH / rate:.0f} steps apart "
            "from each other would do - a whole year of them where there are seasons - or a higher --rate",
            style="yellow",
            markup=False,
        )
    return surprise


def watch(surprise: Surprise, found: Iterable[Recorded]) -> list[SeriesWatched]:
    watched = []
    for one in found:
        readings = surprise.read({"value": one.values})
        period = float(np.median(np.diff(one.times)))
        alarms = intervals(one.times, readings, JOIN * period)
        watched.append(SeriesWatched(one, readings, alarms, surprise.threshold))
    return watched


def watch_series(trained: Trained, options: WatchingSeries, folder: Path) -> list[Path]:
    """Leaves `surprise.json`, `alarms-NAME.json` and a picture a stretch in `folder`, NAME being the table's or the
    split's; prints the alarms."""
    store = EpisodeStore(trained.job.data.store)
    found = list(table(trained, store, options) if options.csv else recordings(trained, store, options.split))
    surprise = calibrated(trained, store, options.normal, options.rate)
    surprise.save(folder / "surprise.json")
    watched = watch(surprise, found)
    paths = [folder / f"alarms-{Path(options.csv).stem or options.split}.json"]
    say("", [line for one in watched for line in told(one.alarms, one.recorded.begin)], paths[0])
    steps = sum(len(one.recorded.times) - trained.model.warmup - 1 for one in watched)
    expected = f"at {options.rate:g} about {steps * options.rate:.0f} of {steps:,} steps are alarms where all is normal"
    console.print(f"{expected}; --rate {options.rate / 10:g} for fewer", markup=False)
    write_alarms(paths[0], [(one.recorded.name, one.alarms, one.recorded.begin) for one in watched])
    for one in watched:
        paths.append(folder / f"alarms-{one.recorded.name}.png")
        write_atomic(paths[-1], picture(one, store.streams["value"].names))
    return paths


def watch_table(path: Path, options: WatchingTable) -> list[Path]:
    """Each column by `OnlineSurprise`; leaves `alarms.json` and a picture a column, prints the alarms. Raises
    SakiyomiError for a file that is no table, for too few rows, and for columns none of which ever changes."""
    found = read_series(str(path), options)
    settings = OnlineSurprise.Settings(rate=options.rate, strength=options.strength)
    if len(found.times) <= settings.warmup:
        raise SakiyomiError(
            f"{path} has {len(found.times)} rows; it takes {settings.warmup} to know what is usual, and more to judge. "
            "Give a longer series"
        )
    still = [name for name, values in zip(found.names, found.values.T, strict=True) if values.min() == values.max()]
    if len(still) == len(found.names):
        raise SakiyomiError(f"{path}: {', '.join(still)} never changes; there is nothing to be surprised by")
    detector, folder = OnlineSurprise(settings), Path(options.out or f"runs/{path.stem}")
    every, paths = [], [folder / "alarms.json"]
    console.print(f"{len(found.times)} rows, judged from the {settings.warmup + 1}st on", markup=False)
    for name, values in zip(found.names, found.values.T, strict=True):
        if name in still:
            console.print(f"{name}: never changes", markup=False)
            continue
        readings = detector.read(found.times.tolist(), values.tolist())
        alarms = intervals(found.times, readings, JOIN * found.period)
        say(f"{name}: ", told(alarms, found.start), paths[0])
        every.append((name, alarms, found.start))
        plain = re.sub(r"[^\w.-]+", "_", name)
        paths.append(folder / f"alarms-{plain}-{len(paths)}.png")
        drawn = series_plot(
            found.times,
            values[:, None],
            readings.expected[:, None],
            readings.scores,
            options.strength,
            alarms,
            names=(name,),
            begin=found.start,
            label="an alarm from here on, if it is rare enough",
        )
        write_atomic(paths[-1], drawn)
    write_alarms(paths[0], every)
    return paths


def say(head: str, lines: list[str], path: Path) -> None:
    """Print the first alarms, and where all of them are."""
    for line in lines[:TOLD]:
        console.print(f"{head}{line}", markup=False)
    if len(lines) > TOLD:
        console.print(f"{head}and {len(lines) - TOLD} more, all in {path}", markup=False)
    if not lines:
        console.print(f"{head}nothing strange", markup=False)


def write_alarms(path: Path, every: list[tuple[str, list[Alarm], str]]) -> None:
    """Alarms of each recording or column, in seconds and, where `begin` is a stamp, in stamps."""
    content = []
    for name, alarms, begin in every:
        stamps = [{"from": moment(one.start, begin), "to": moment(one.end, begin)} if begin else {} for one in alarms]
        both = [{**asdict(one), **stamp} for one, stamp in zip(alarms, stamps, strict=True)]
        content.append({"recording": name, "alarms": both})
    write_atomic(path, msgspec.json.format(msgspec.json.encode(content)))  # infinity becomes null


def told(alarms: list[Alarm], begin: str) -> list[str]:
    """The alarms in words."""
    lines = []
    for one in alarms:
        until = f" to {moment(one.end, begin)}" if one.end > one.start else ""
        lines.append(f"{moment(one.start, begin)}{until}: surprise {one.peak:.1f}")
    return lines


def picture(watched: SeriesWatched, names: tuple[str, ...]) -> bytes:
    one, readings = watched.recorded, watched.readings
    return series_plot(
        one.times,
        one.values,
        readings.expected["value"],
        readings.scores,
        watched.threshold,
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
        interval=f"bootstrap 95 % over stretches, at most {BLOCKS}",
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
    unit = EpisodeStore(trained.job.data.store).streams["value"].unit
    found = {}
    for name, errors in squares.items():
        blocks = np.array_split(errors, max(1, min(BLOCKS, len(errors) // SHORTEST)))  # neighbours are alike
        mean = bootstrap(np.array([block.mean() for block in blocks]))
        low, value, high = (float(np.sqrt(part)) for part in (mean.low, errors.mean(), mean.high))
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
        f"never shown, {scores[rate].value:.2%} were alarms where {RATES[0]:.0%} was asked for - in vain, if nothing "
        "happened there."
    )
    if "anomalies found" in scores:
        lead += f" It found {scores['anomalies found'].value:.0%} of the planted anomalies."
    figures = tuple(
        Figure(
            one.recorded.name,
            "Red: alarms." + " Yellow: anomalies that are known." * bool(one.recorded.anomalies),
            picture(one, names),
        )
        for one in watched[:4]
    )
    rows = tuple((one.recorded.name, line) for one in watched for line in told(one.alarms, one.recorded.begin)[:LISTED])
    sections = (
        Section("What it expected, and what came", "", figures),
        Section("Alarms", "", table=Table(("recording", "alarm"), rows)),
        Section("What it learned", "", (Figure("Training", "Losses.", training_curves(read_metrics(folder))),)),
    )
    path = folder / "report.html"
    write_report(path, "Sakiyomi: surprise in a sensor series", lead, scores, sections)
    return path


def moment(seconds: float, begin: str) -> str:
    """A stamp so long after `begin`, or the seconds where there is none."""
    if not begin:
        return f"{seconds:g} s"
    return str(np.datetime64(begin[:19]) + np.timedelta64(round(seconds), "s")).replace("T", " ")
