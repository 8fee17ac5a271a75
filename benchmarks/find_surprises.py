"""What is claimed about surprise, measured: false alarms, NAB, the cost of a value, an arm that raises its hand.

    python -m benchmarks.find_surprises                   all parts, about a quarter of an hour on one core
    python -m benchmarks.find_surprises arm false-alarms  some
    python -m benchmarks.find_surprises page              only the page, from what was measured

Each part writes benchmarks/results/surprise/PART.json; trained runs stay in runs/bench and are not trained again. The
page docs/surprise-benchmarks.md comes from these files. Real series come from ../shared/data/series, or from where
SAKIYOMI_NAB (a .zip) and SAKIYOMI_DAYS (a daily table with dates) say.
"""

import os
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import cost, measure, plain, spent
from benchmarks.nab import nab_part
from benchmarks.surprise_page import write_page, write_readme_rows
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.formats.series_csv import SeriesCsv
from sakiyomi.data.sources import Source
from sakiyomi.data.sources.sensor import GeneratedSensor
from sakiyomi.errors import SakiyomiError
from sakiyomi.files import write_atomic
from sakiyomi.job import Job
from sakiyomi.presets import preset
from sakiyomi.rollout import Trained, load
from sakiyomi.scores.statistics import wilson
from sakiyomi.surprise import Surprise
from sakiyomi.train import train
from sakiyomi.watch_arm import WatchingArm, scores_of, watch_arm, watched_figure
from sakiyomi.watch_series import SeriesWatched, evaluate_series, picture, recordings

RESULTS, RUNS, DOCS = Path("benchmarks/results/surprise"), Path("runs/bench"), Path("docs")
DAYS = Path(os.environ.get("SAKIYOMI_DAYS", "../shared/data/series/melbourne_temps.csv"))
LONG = GeneratedSensor(calibration=500_000, test=1_000_000)
RATES = (0.01, 0.001)
MANY = 1_000_000  # values
CLIMATE = ("climate", "climate-lstm-ae", "climate-lstm-vae", "climate-forecast")
SHOWN = (0, 15 * 1440)  # steps of the faulty split in the picture
UNSEEN = 500_000  # seeds of runs that nothing was tuned on


def false_alarms_part() -> dict[str, Any]:
    """How many normal steps are alarms, at the rates asked for: of a made-up sensor, of ten years of real weather, and
    of an arm at work."""
    found = {"generated sensor, 1 a minute": counted(trained("sensor", LONG, "data/sensor-long"), "calibration")}
    if DAYS.exists():
        # Thresholds need years of their own: three to learn from, four to calibrate on, three to count.
        days = SeriesCsv(path=str(DAYS), values=("temp_min",), validation=0.4, test=0.3)
        job = preset("climate-forecast").job
        found["daily low of Melbourne, 1981-1990"] = counted(trained("days", days, "data/days", job), "validation")
    found["arm, 10 a second"] = arm_false_alarms()
    return {"counted": found}


def counted(model: Trained, normal: str) -> dict[str, Any]:
    store = EpisodeStore(model.job.data.store)
    surprise = Surprise.learn(model, ({"value": one.values} for one in recordings(model, store, normal)))
    first = model.model.warmup + 1
    scores = [surprise.read({"value": one.values}).scores[first:] for one in recordings(model, store, "test")]
    return {"calibrated on": surprise.steps, **shares(np.concatenate(scores))}


def shares(scores: np.ndarray) -> dict[str, Any]:
    """Of normal steps [T], those with an alarm at each rate."""
    found = {}
    for rate in RATES:
        share = wilson(int((scores >= -np.log10(rate)).sum()), len(scores))
        found[f"{rate:g}"] = {"rate": share.value, "95 %": [share.low, share.high]}
    return {"steps": len(scores), "asked": found}


def arm_false_alarms() -> dict[str, Any]:
    options = replace(WatchingArm(), normal=600, trials=1, seed=UNSEEN)
    watched = watch_arm(load(RUNS / "seed-0"), options)
    scores = np.concatenate([run.readings.scores[1:] for run in watched.normal])
    return {"calibrated on": watched.surprise.steps, **shares(scores)}


def streaming_part() -> dict[str, Any]:
    """One value after the other, a million of them: seconds of each, and memory of the process."""
    torch.set_num_threads(1)
    model = trained("sensor", LONG, "data/sensor-long")
    store = EpisodeStore(model.job.data.store)
    surprise = Surprise.learn(model, ({"value": one.values} for one in recordings(model, store, "validation")))
    (series,) = recordings(model, store, "test")
    state, taken, memory, scores = surprise.begin(), np.zeros(MANY), [], np.zeros(MANY)
    for step in range(MANY):
        value = series.values[step % len(series.values)]
        begin = time.perf_counter()
        reading, state = surprise.step({"value": value}, state)
        taken[step] = time.perf_counter() - begin
        scores[step] = reading.score
        if step % (MANY // 10) == MANY // 10 - 1:
            memory.append(resident())
    some = surprise.read({"value": series.values[:20_000]}).scores
    return {
        "values": MANY,
        "ms: median": 1e3 * float(np.median(taken)),
        "ms: 99 %": 1e3 * float(np.quantile(taken, 0.99)),
        "memory after each tenth, MB": memory,
        "largest difference from all at once": float(np.abs(some - scores[: len(some)]).max()),
    }


def resident() -> float:
    """Memory of this process now, MB; where the system does not tell, the most it ever was."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmRSS:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def arm_part() -> dict[str, Any]:
    """The arm of `pick-small` is pushed, its camera goes dark, a joint jams; and a push of half the force."""
    model, found = load(RUNS / "seed-0"), {}
    for force in (WatchingArm.force, WatchingArm.force / 2):
        options = replace(WatchingArm(), force=force, seed=UNSEEN + 100_000)
        watched = watch_arm(model, options)
        found[f"{force:g} N"] = plain(scores_of(watched.normal, watched.disturbed, options))
        if force == WatchingArm.force:
            write_atomic(DOCS / "arm-surprise.png", watched_figure(watched))
    return {"calibrated on": watched.surprise.steps, "rate": options.rate, "scores": found}


def series_part() -> dict[str, Any]:
    """Four models of the same daily temperatures, and one of the made-up sensor with planted anomalies."""
    found = {}
    sources: dict[str, Source] = {name: preset(name).source for name in CLIMATE}
    sources["sensor"] = LONG
    for name, source in sources.items():
        store = "data/sensor-long" if name == "sensor" else "data/climate"
        model = trained(name, source, store)
        scores, watched, surprise = evaluate_series(model)
        names = EpisodeStore(store).streams["value"].names
        if name == "sensor":
            shown = excerpt(watched[-1], *SHOWN)
            write_atomic(DOCS / "sensor-surprise.png", picture(shown, names))
        found[name] = {"scores": plain(scores), "calibrated on": surprise.steps, **cost(RUNS / name)}
    return {"runs": found}


def excerpt(watched: SeriesWatched, first: int, last: int) -> SeriesWatched:
    """Some steps of a stretch."""
    one, readings = watched.recorded, watched.readings
    times = one.times[first:last]
    there = [alarm for alarm in watched.alarms if times[0] <= alarm.start <= times[-1]]
    known = tuple(span for span in one.anomalies if times[0] <= span[0] <= times[-1])
    expected, deviations = (
        {k: v[first:last] for k, v in of.items()} for of in (readings.expected, readings.deviations)
    )
    cut = replace(
        readings,
        scores=readings.scores[first:last],
        alarms=readings.alarms[first:last],
        expected=expected,
        deviations=deviations,
    )
    shown = replace(one, times=times, values=one.values[first:last], anomalies=known)
    return SeriesWatched(shown, cut, there, watched.threshold)


def trained(name: str, source: Source, store: str, job: Job | None = None) -> Trained:
    """A run in RUNS, trained on what `source` records into `store` unless it is there."""
    source.record(Path(store))
    job = job or preset(name).job
    job = replace(job, data=replace(job.data, store=store), train=replace(job.train, threads=1))
    spent(RUNS / name, lambda: train(job, RUNS / name))
    return load(RUNS / name)


PARTS = {
    "nab": nab_part,
    "false-alarms": false_alarms_part,
    "streaming": streaming_part,
    "arm": arm_part,
    "series": series_part,
}


def write_pages() -> None:
    write_page(RESULTS, DOCS / "surprise-benchmarks.md")
    write_readme_rows(RESULTS, Path("README.md"))


def main() -> None:
    try:
        measure(PARTS, RESULTS, sys.argv[1:], write_pages)
    except SakiyomiError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
