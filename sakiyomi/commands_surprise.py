"""The verbs of the command line for what watches: sensors, and an arm that is to raise its hand."""

from dataclasses import dataclass
from pathlib import Path

from sakiyomi.arguments import narrow, parse, run_folder
from sakiyomi.data.formats.importing import given
from sakiyomi.errors import SakiyomiError
from sakiyomi.rollout import load
from sakiyomi.run import console, progress_bar
from sakiyomi.views.tables import print_scores
from sakiyomi.watch_arm import WatchingArm, save_watched, watch_arm
from sakiyomi.watch_series import (
    WatchingSeries,
    WatchingTable,
    evaluate_series,
    save_series,
    watch_series,
    watch_table,
)
from sakiyomi.watch_stream import answer_standard_input


@dataclass(frozen=True)
class WatchSeries(WatchingSeries):
    """Say where a sensor series is strange, by what a trained model expected of it."""

    run: str = ""
    """Run folder; runs/NAME if not given."""


@dataclass(frozen=True)
class WatchArm(WatchingArm):
    """See whether the arm notices a push, a dark camera and a jammed joint, after some runs of normal operation."""

    run: str = ""
    """Run folder; runs/NAME if not given."""


@dataclass(frozen=True)
class EvaluateSeries:
    """Score a model of a sensor: its errors, its false alarms, the anomalies it finds where some are known."""

    run: str = ""
    """Run folder; runs/NAME if not given."""


def do_watch(name: str, rest: list[str], what: str) -> None:
    path = Path(name)
    if path.is_file() or path.suffix:  # a file that is not there is told as such
        for left in watch_table(given(name, "a text table, or a run"), parse(WatchingTable(), "watch FILE", rest)):
            console.print(str(left))
        return
    if what == "drives":
        args = parse(WatchArm(), f"watch {name}", rest)
        folder = run_folder(name, args.run)
        trained = load(folder)
        with progress_bar("watching", 1) as bar:
            watched = watch_arm(trained, narrow(args, WatchingArm), bar.of)
        print_scores(watched.scores)
        console.print(str(save_watched(watched, folder)))
        return
    if what != "watches":
        raise SakiyomiError(
            f"{name} {what}; watch takes a run that watches a sensor (such as climate) or drives an arm (pick-small)"
        )
    args = parse(WatchSeries(), f"watch {name}", rest)
    folder = run_folder(name, args.run)
    trained = load(folder)
    if args.stream:
        answer_standard_input(trained, narrow(args, WatchingSeries))
        return
    for path in watch_series(trained, narrow(args, WatchingSeries), folder):
        console.print(str(path))


def do_evaluate_series(name: str, rest: list[str]) -> None:
    args = parse(EvaluateSeries(), f"evaluate {name}", rest)
    folder = run_folder(name, args.run)
    trained = load(folder)
    scores, watched, surprise = evaluate_series(trained)
    print_scores(scores)
    console.print(str(save_series(scores, watched, surprise, trained, folder)))
