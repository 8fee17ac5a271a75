"""`sakiyomi watch NAME` for a run that drives an arm: does it raise its hand when something happens to it?

    sakiyomi watch pick-small --rate 0.0005

The model that drives is also the one that knows what should come next. Its surprise is calibrated on runs in which
nothing happens; then, in further runs, the arm is pushed, its camera goes dark, or one of its joints jams. The
calibration is left in the run folder (`surprise.json`), for `sakiyomi.Surprise.load` beside a policy on a robot.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np

from sakiyomi.errors import SakiyomiError, at_least
from sakiyomi.rollout import Policy, Trained, Trial, picture_size, run_trial
from sakiyomi.scores.protocol import Protocol, Score, save_scores
from sakiyomi.scores.statistics import bootstrap, wilson
from sakiyomi.surprise import Readings, Settings, Surprise
from sakiyomi.views.alarms import score_curves
from sakiyomi.views.report import Figure, Section, Table, write_report
from sakiyomi.worlds.arm import JOINT_NAMES
from sakiyomi.worlds.disturbed import Disturbance, Disturbed, What
from sakiyomi.worlds.pick_cube import HORIZON, RATE, PickCube
from sakiyomi.worlds.pick_cube_conditions import conditions

WITHIN = 1.0  # s: an alarm that comes later has not noticed
FIRST, LAST = 3, 30  # ticks between which something happens
MOVES = 0.05  # rad a joint would have moved within WITHIN: one that stands still cannot be seen to be stuck
PUSHED = 3  # ticks a push lasts
DRAWN = 6  # runs of each kind in the report


@dataclass(frozen=True)
class WatchingArm:
    """Calibrate on normal runs, then see whether the arm notices a push, a dark camera and a jammed joint."""

    calibrate: int = 800
    """Normal runs to calibrate on."""
    normal: int = 60
    """Further normal runs, in which no alarm is to be raised."""
    trials: int = 20
    """Runs with each disturbance."""
    rate: float = 0.0005
    """False alarms a tick that are allowed for."""
    force: float = 100.0
    """Of a push on the hand, N, horizontally, for 0.3 s. 100 N move this stiff arm's hand by 1 to 3 cm."""
    seed: int = 20_000
    """Everything random follows from it."""


@dataclass(frozen=True)
class WatchedRun:
    """One run and how surprising it was."""

    trial: Trial
    readings: Readings
    disturbance: Disturbance | None = None

    @property
    def delay(self) -> float:
        """Seconds from the disturbance to the first alarm at or after it; infinite where there is none."""
        if self.disturbance is None:
            return np.inf
        after = np.flatnonzero(self.readings.alarms[self.disturbance.tick :])
        return float(after[0]) / RATE if len(after) else np.inf


@dataclass(frozen=True)
class ArmWatched:
    """What came of it."""

    surprise: Surprise
    normal: list[WatchedRun]
    disturbed: dict[str, list[WatchedRun]]
    scores: dict[str, Score]


def watch_arm(
    trained: Trained, options: WatchingArm, progress: Callable[[int, int, str], None] = lambda done, total, name: None
) -> ArmWatched:
    """Raises SakiyomiError for options out of range."""
    for name, least in (("calibrate", 10), ("normal", 1), ("trials", 1), ("force", 0), ("seed", 0)):
        at_least(f"--{name}", getattr(options, name), least)
    kinds = get_args(What)
    total, done = options.calibrate + options.normal + len(kinds) * options.trials, 0
    world, policy = PickCube(image_size=picture_size(trained.job)), Policy(trained)

    def told(runs: Iterator[Trial], name: str) -> Iterator[Trial]:
        nonlocal done
        for run in runs:
            done += 1
            progress(done, total, name)
            yield run

    calm = told(_runs(world, policy, options.calibrate, options.seed), "calibrating")
    surprise = Surprise.learn(
        trained, (seen_in(trained, trial) for trial in calm), Settings(rate=options.rate, spans=(1,), still=False)
    )
    calm = told(_runs(world, policy, options.normal, options.seed + 10_000), "normal")
    normal = [WatchedRun(trial, surprise.read(seen_in(trained, trial))) for trial in calm]
    disturbed: dict[str, list[WatchedRun]] = {}
    for index, what in enumerate(kinds):
        first, disturbed[what] = options.seed + (2 + index) * 10_000, []
        for scene, seed, random in _trials(options.trials, first):
            happens = _drawn(what, world, policy, scene, seed, options.force, random)
            trial = run_trial(Disturbed(world, happens), policy, seed, scene, ticks=HORIZON)
            disturbed[what].append(WatchedRun(trial, surprise.read(seen_in(trained, trial)), happens))
            done += 1
            progress(done, total, what)
    world.close()
    return ArmWatched(surprise, normal, disturbed, scores_of(normal, disturbed, options))


def seen_in(trained: Trained, trial: Trial) -> dict[str, np.ndarray]:
    """What the model saw in a run, for `Surprise`."""
    seen = {"image": trial.images, "joints": trial.joints}
    found = {name: seen.get(name) for name in trained.model.inputs}
    missing = [name for name, value in found.items() if value is None]
    if missing:
        raise SakiyomiError(f"the model reads {list(trained.model.inputs)}; a run of the arm has no {missing}")
    return {name: value for name, value in found.items() if value is not None}


def _trials(count: int, seed: int) -> Iterator[tuple[dict[str, object], int, np.random.Generator]]:
    """Scenes, half at taught and half at untaught places, each with its seed and randomness."""
    known = conditions(count, seed)
    for index in range(count):
        scene = known["taught" if index % 2 else "untaught"].scenes[index]
        yield scene, seed + index, np.random.default_rng((seed, index))


def _runs(world: PickCube, policy: Policy, count: int, seed: int) -> Iterator[Trial]:
    for scene, number, _ in _trials(count, seed):
        yield run_trial(world, policy, number, scene, ticks=HORIZON)


def _drawn(
    what: What,
    world: PickCube,
    policy: Policy,
    scene: dict[str, object],
    seed: int,
    force: float,
    random: np.random.Generator,
) -> Disturbance:
    """What happens in one run: when, in which direction, to which joint. A joint is one that would move: which, the
    same run without a disturbance tells."""
    tick = int(random.integers(FIRST, LAST))
    if what == "push":
        angle = random.uniform(0, 2 * np.pi)
        return Disturbance(what, tick, PUSHED, force=(force * np.cos(angle), force * np.sin(angle), 0.0))
    if what == "blind":
        return Disturbance(what, tick)
    joints = run_trial(world, policy, seed, scene, ticks=HORIZON).joints[:, : len(JOINT_NAMES) - 1]
    for at in (tick, *random.permutation(np.arange(FIRST, LAST))):
        would = np.ptp(joints[at : at + round(WITHIN * RATE) + 1], axis=0)
        if (would > MOVES).any():
            return Disturbance(what, int(at), joint=int(random.choice(np.flatnonzero(would > MOVES))))
    raise SakiyomiError(f"in the run with seed {seed} no joint moves by {MOVES} rad within {WITHIN:g} s; train longer")


def scores_of(
    normal: list[WatchedRun], disturbed: dict[str, list[WatchedRun]], options: WatchingArm
) -> dict[str, Score]:
    """`noticed/WHAT`, `delay/WHAT` (of those noticed), and how often nothing was taken for something."""
    protocol = Protocol(
        data="sakiyomi/PickCube-v0, closed loop, taught and untaught places",
        counted=f"{HORIZON} ticks at {RATE:g} Hz; calibrated on {options.calibrate} other normal runs",
        rule=f"an alarm within {WITHIN:g} s of the disturbance, at {options.rate:g} false alarms a tick",
        n=options.trials,
        seeds=f"{options.seed}..",
        interval="wilson 95 %",
    )
    found = {}
    for what, runs in disturbed.items():
        delays = np.array([run.delay for run in runs])
        rate = wilson(int((delays <= WITHIN).sum()), len(runs))
        found[f"noticed/{what}"] = Score(f"noticed/{what}", rate.value, rate.low, rate.high, "rate", protocol)
        if rate.value:
            time = bootstrap(delays[delays <= WITHIN], np.median)
            spent = replace(protocol, rule="median time to the alarm, of those noticed", interval="bootstrap 95 %")
            found[f"delay/{what}"] = Score(f"delay/{what}", time.value, time.low, time.high, "s", spent)
    alarms = np.array([run.readings.alarms.any() for run in normal])
    rate = wilson(int(alarms.sum()), len(alarms))
    counted = replace(protocol, rule="normal runs with any alarm", n=len(alarms))
    found["false alarms"] = Score("false alarms", rate.value, rate.low, rate.high, "rate", counted)
    ticks = np.concatenate([run.readings.alarms for run in normal])
    counted = replace(counted, rule=f"ticks with an alarm, where {options.rate:g} was asked for", n=len(ticks))
    rate = wilson(int(ticks.sum()), len(ticks))
    found["false ticks"] = Score("false ticks", rate.value, rate.low, rate.high, "rate", counted)
    return found


def save_watched(watched: ArmWatched, folder: Path) -> Path:
    """Write `surprise.json`, `watch.json` (scores) and `watch.html`; returns the report."""
    watched.surprise.save(folder / "surprise.json")
    save_scores(watched.scores, folder / "watch.json")
    noticed = ", ".join(f"{what} {watched.scores[f'noticed/{what}'].value:.0%}" for what in watched.disturbed)
    false = round(watched.scores["false alarms"].value * len(watched.normal))
    lead = (
        f"The model that drives the arm also says when something is strange. Noticed within {WITHIN:g} s: {noticed}. "
        f"Of {len(watched.normal)} runs in which nothing happened it raised the alarm in {false}."
    )
    path = folder / "watch.html"
    write_report(path, "Sakiyomi: the arm raises its hand", lead, watched.scores, _sections(watched))
    return path


def _sections(watched: ArmWatched) -> tuple[Section, ...]:
    threshold = watched.surprise.threshold
    words = {
        "push": "A horizontal push on the hand for 0.3 s.",
        "blind": "The camera gives black pictures from then on.",
        "frozen": "One joint stays where it is from then on.",
    }
    kinds = {"normal": watched.normal, **watched.disturbed}
    figures = tuple(
        Figure(what, words.get(what, "Nothing happens."), _curves(runs[:DRAWN], threshold))
        for what, runs in kinds.items()
    )
    rows = tuple(
        (what, f"{run.disturbance.tick / RATE:.1f} s", _details(run.disturbance), _first(run))
        for what, runs in watched.disturbed.items()
        for run in runs
        if run.disturbance
    )
    text = (
        "The score is -log10 of the chance of a tick as surprising as this one in normal operation; the dashed line is "
        "the alarm, the dotted one the disturbance."
    )
    return (
        Section("What it felt", text, figures),
        Section("Run by run", "", table=Table(("what", "when", "how", "noticed after"), rows)),
    )


def _details(disturbance: Disturbance) -> str:
    if disturbance.what == "push":
        return "({:.0f}, {:.0f}, {:.0f}) N".format(*disturbance.force)
    return JOINT_NAMES[disturbance.joint] if disturbance.what == "frozen" else ""


def _first(run: WatchedRun) -> str:
    return "not" if not np.isfinite(run.delay) else f"{run.delay:.1f} s"


def watched_figure(watched: ArmWatched) -> bytes:
    """Three runs of each kind in one picture."""
    kinds = {"nothing happens": watched.normal, **watched.disturbed}
    runs = [(name, run) for name, some in kinds.items() for run in some[:3]]
    return _curves([run for _, run in runs], watched.surprise.threshold, [name for name, _ in runs])


def _curves(runs: list[WatchedRun], threshold: float, titles: Sequence[str] = ()) -> bytes:
    marks = [run.disturbance.tick / RATE if run.disturbance else None for run in runs]
    return score_curves([run.readings.scores for run in runs], 1 / RATE, threshold, marks, titles)
