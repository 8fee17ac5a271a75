"""`sakiyomi demo`, the whole path in some minutes: show, learn, drive, report.

    make demo

Leaves `data/pick-small`, and in `runs/demo` the trained model, `scores.json` with every number's protocol and
`report.html`, one file that shows it all.
"""

import time
from pathlib import Path

import numpy as np

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.evaluate import Drive, Evaluated, cube_distances, evaluate, nearest_point, save
from sakiyomi.explain import best_trial, hidden_picture
from sakiyomi.prepare import prepare
from sakiyomi.presets import Preset
from sakiyomi.rollout import Trained, limits_of, load
from sakiyomi.run import console, progress_bar, read_metrics
from sakiyomi.train import train
from sakiyomi.views import plots
from sakiyomi.views.gif import trial_gif
from sakiyomi.views.report import Figure, Section, Table, write_report
from sakiyomi.worlds.pick_cube import JOINT_NAMES, RATE


def demo(preset: Preset, folder: Path, trials: int) -> Path:
    """All four stages; returns the report. A second call goes on where an interrupted one stopped."""
    begin = time.perf_counter()
    console.print("[bold]1/4 Demonstrations[/]: a scripted expert shows the arm how to pick up a cube from 5 places.")
    store = prepare(preset.source, Path(preset.job.data.store))
    console.print("[bold]2/4 Training[/]: SARNN learns to predict the next picture, the next joints and where to look.")
    ended = train(preset.job, folder, resume=True)
    console.print(f"best validation loss {ended.best:.2e} at step {ended.best_step} of {ended.steps}")
    console.print("[bold]3/4 Closed loop[/]: the network drives the arm, through the command guard.")
    trained = load(folder)
    evaluated = evaluate_with_bar(trained, trials)
    save(evaluated, folder)
    for name in ("taught", "untaught", "blind"):
        score = evaluated.scores[f"success/{name}"]
        console.print(f"  {name:10s} {score.value:4.0%}  (95 %: {score.low:.0%} to {score.high:.0%})")
    console.print("[bold]4/4 Report[/]: everything on one page.")
    path = report(preset, store, trained, evaluated, folder)
    minutes = (time.perf_counter() - begin) / 60
    console.print(f"{path} is ready, {minutes:.1f} minutes after the start. Open it in a browser.")
    return path


def evaluate_with_bar(
    trained: Trained, trials: int, seed: int = 10_000, only: tuple[str, ...] = (), driver: Drive | None = None
) -> Evaluated:
    """`evaluate`, seen by somebody who waits."""
    with progress_bar("driving", 1) as bar:
        return evaluate(trained, trials, seed, only, bar.of, driver)


def report(preset: Preset, store: EpisodeStore, trained: Trained, evaluated: Evaluated, folder: Path) -> Path:
    """Write `report.html` from what the stages left."""
    taught, untaught = evaluated.scores["success/taught"], evaluated.scores["success/untaught"]
    blind = evaluated.scores["success/blind"]
    lead = (
        f"An arm was shown {len(store.split('train'))} times how to pick up a cube from five places. "
        "From the camera and its joint angles it now does so by itself: "
        f"{taught.value:.0%} of {taught.protocol.n} trials at the places it was shown, "
        f"{untaught.value:.0%} of {untaught.protocol.n} at places between them, "
        f"and {blind.value:.0%} when it cannot see."
    )
    path = folder / "report.html"
    sections = (
        _drives(trained, evaluated),
        _looks(evaluated),
        _learned(folder, evaluated),
        _guarded(evaluated),
    )
    headline = tuple(f"success/{name}" for name in ("taught", "untaught", "blind", "light", "camera", "distractor"))
    write_report(path, "Sakiyomi: an arm that reads ahead", lead, evaluated.scores, sections, headline)
    return path


def _drives(trained: Trained, evaluated: Evaluated) -> Section:
    trial = best_trial(evaluated, "untaught")
    figures = (
        Figure(
            "Success", "Lifted for half a second at any step, with 95 % interval.", plots.success_bars(evaluated.scores)
        ),
        Figure(
            "A run at an untaught place",
            "Left: the camera; dots are where it looks, rings where it means to look next. "
            "Right: the picture it expected one tick later.",
            trial_gif(trial, RATE),
        ),
        Figure(
            "Commands of this run",
            "What was commanded, what was measured, and the range the guard allows.",
            plots.command_plot(trial, JOINT_NAMES, limits_of(trained)),
        ),
    )
    return Section("It drives", "Closed loop at 10 Hz; every command passed the guard.", figures)


def _looks(evaluated: Evaluated) -> Section:
    distances = cube_distances(evaluated.trials["untaught"])
    memory = Figure(
        "The path of its memory",
        "The recurrent state of one trial a line, in principal components.",
        hidden_picture(evaluated.trials["taught"][:10]),
    )
    if not np.isfinite(distances).any():
        text = "Nothing to say about its attention: in every trial it closed the gripper at once."
        return Section("Where it looks and what it remembers", text, (memory,))
    best = nearest_point(distances)
    follows = Figure(
        "Does a point follow the cube?",
        f"Distance of predicted point {best + 1} to the cube until the gripper closes, in pixels of 64.",
        plots.attention_distance(distances[:, :, best]),
    )
    return Section("Where it looks and what it remembers", "", (follows, memory))


def _learned(folder: Path, evaluated: Evaluated) -> Section:
    figures = (
        Figure("Training", "Losses, and what changed by schedule.", plots.training_curves(read_metrics(folder))),
        Figure(
            "Drift",
            "Error with all the past true, k steps ahead, and living on its own predictions.",
            plots.drift_curves(evaluated.drifts, RATE),
        ),
    )
    return Section("What it learned", "Measured on recordings it was not trained on.", figures)


def _guarded(evaluated: Evaluated) -> Section:
    counts = evaluated.violations
    header = ("circumstances", *next(iter(counts.values())))
    rows = tuple((name, *(str(n) for n in checks.values())) for name, checks in counts.items())
    figures = (Figure("Latency", "From observation to guarded command.", plots.latency(evaluated.latencies, 1 / RATE)),)
    text = "Ticks on which a command failed each check of the guard and was changed; the arm moved only within limits."
    return Section("What the guard did", text, figures, Table(header, rows))
