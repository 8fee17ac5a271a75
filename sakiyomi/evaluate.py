"""Verb 3, `sakiyomi evaluate NAME`: scores under a protocol.

    sakiyomi evaluate pick --trials 50
    sakiyomi compare pick-small pick-joints

Closed loop: success at taught and untaught places and under harder circumstances, with Wilson's interval; whether an
attention point follows the cube; what the guard had to change; latency. On recordings: drift of every stream.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.windows import Batch, Data, Windows, training_entries
from sakiyomi.errors import unknown
from sakiyomi.rollout import Policy, Trained, Trial, picture_size, run_trial
from sakiyomi.scores.drift import Drift, drift
from sakiyomi.scores.protocol import Protocol, Score, save_scores
from sakiyomi.scores.statistics import bootstrap, wilson
from sakiyomi.worlds.pick_cube import HORIZON, RATE, PickCube
from sakiyomi.worlds.pick_cube_conditions import Condition, conditions

RULE = "cube at least 8 cm above its rest for 0.5 s without a break"
MOVE_TICK = 5
DRIFT_WINDOWS = 16
KEEP_PICTURES = 10  # trials a condition whose pictures stay in memory, for the report

Progress = Callable[[int, int, str], None]
"""Is told trials done, trials in all, and the condition at hand."""


@dataclass(frozen=True)
class Asked:
    """Trials of one condition."""

    condition: Condition
    numbers: range
    """Which of its trials."""
    blind: np.ndarray | None
    """What a blinded policy sees, uint8 [H, W, 3]."""


Drive = Callable[[Trained, Mapping[str, Asked], Progress], dict[str, list[Trial]]]
"""What runs the trials asked for, by condition: `drive`, or many of it at once (`fleet.py`)."""


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation found."""

    scores: dict[str, Score]
    trials: dict[str, list[Trial]]
    drifts: dict[str, Drift]

    @property
    def latencies(self) -> np.ndarray:
        """Seconds of every decision of every trial."""
        return np.concatenate([trial.seconds for trials in self.trials.values() for trial in trials])

    @property
    def violations(self) -> dict[str, dict[str, int]]:
        """Condition -> check of the guard -> ticks on which it failed."""
        return {
            name: {check: sum(trial.violations[check] for trial in trials) for check in trials[0].violations}
            for name, trials in self.trials.items()
        }


def evaluate(
    trained: Trained,
    trials: int = 50,
    seed: int = 10_000,
    only: Iterable[str] | None = None,
    progress: Progress = lambda done, total, name: None,
    driver: Drive | None = None,
) -> Evaluated:
    """Run every condition (or `only` those named) by `driver` (by `drive` if not given), and score the validation
    recordings."""
    store = EpisodeStore(trained.job.data.store)
    image_size = picture_size(trained.job)
    chosen = conditions(trials, seed)
    for name in only or ():
        if name not in chosen:
            raise unknown("condition", name, chosen)
    chosen = {name: chosen[name] for name in only} if only else chosen
    windows = validation_windows(trained, store)
    drifts = drifts_of(trained, windows)
    scores = drift_scores(trained.job.data.store, len(windows.mask), drifts)
    asked = {
        name: Asked(one, range(trials), mean_picture(store, trained.job.data) if one.blind else None)
        for name, one in chosen.items()
    }
    found = (driver or drive)(trained, asked, progress)
    for name, condition in chosen.items():
        scores |= success_scores(name, condition, found[name], image_size)
        if found[name][0].predicted_attention is not None and not condition.blind:
            scores |= attention_scores(name, condition, found[name], image_size)
    everything = Evaluated(scores, found, drifts)
    scores |= latency_scores(everything.latencies)
    return everything


def drive(trained: Trained, asked: Mapping[str, Asked], progress: Progress) -> dict[str, list[Trial]]:
    """The trials, one after the other in this process."""
    world, policy = PickCube(image_size=picture_size(trained.job)), Policy(trained)
    total, found = sum(len(one.numbers) for one in asked.values()), {name: [] for name in asked}
    for name, one in asked.items():
        for i in one.numbers:
            move = one.condition.moves[i] if one.condition.moves else None
            first, scene = one.condition.first_seed + i, one.condition.scenes[i]
            trial = run_trial(world, policy, first, scene, one.blind, HORIZON, move_at=MOVE_TICK, move_to=move)
            found[name].append(trial if i < KEEP_PICTURES else replace(trial, images=None, predicted_images=None))
            progress(sum(map(len, found.values())), total, name)
    world.close()
    return found


def save(evaluated: Evaluated, folder: Path) -> None:
    save_scores(evaluated.scores, folder / "scores.json")


def success_scores(name: str, condition: Condition, trials: list[Trial], image_size: int) -> dict[str, Score]:
    """`success/NAME`: the rule held at any step; `success_last/NAME`: it held at the last one."""
    out = {}
    for key, when, wins in (
        ("success", "any step", [t.success_any for t in trials]),
        ("success_last", "the last step", [t.success_last for t in trials]),
    ):
        interval = wilson(sum(wins), len(wins))
        protocol = _protocol(condition, len(wins), image_size, f"{RULE}, at {when}", "wilson 95 %")
        out[f"{key}/{name}"] = Score(f"{key}/{name}", interval.value, interval.low, interval.high, "rate", protocol)
    return out


def attention_scores(name: str, condition: Condition, trials: list[Trial], image_size: int) -> dict[str, Score]:
    """How a predicted point keeps to the cube over the ticks before the gripper closes, in pixels of a 64 x 64 picture;
    nothing where no trial has such ticks.

    `attention/NAME`: median distance between the cube and the one point that is nearest in all trials.
    `following/NAME`: the same to the place beside the cube that the point keeps to (its median there). A point that
    looks beside the cube, or at its edge, follows it all the same; one that never moves does not.
    """
    gaps = cube_gaps(trials, start=MOVE_TICK + 3 if condition.moves else 0)
    gaps = gaps[np.isfinite(gaps).any(axis=(1, 2, 3))]
    if not len(gaps):
        return {}
    protocol = _protocol(condition, len(trials), image_size, "", "bootstrap 95 %")
    said = "before grasping, median over ticks, then over trials that have such ticks"
    out = {}
    for key, what, kept in (
        ("attention", "the cube", np.zeros(2)),
        ("following", "a place beside the cube, the same in all trials,", np.nanmedian(gaps, axis=(0, 1))),
    ):
        distances = np.linalg.norm(gaps - kept, axis=-1)
        interval = bootstrap(np.nanmedian(distances[:, :, nearest_point(distances)], axis=1), np.median)
        rule = f"distance of one predicted point (the same in all trials) to {what} {said}"
        how = replace(protocol, rule=rule, best_of=distances.shape[2])
        out[f"{key}/{name}"] = Score(f"{key}/{name}", interval.value, interval.low, interval.high, "px of 64", how)
    return out


def nearest_point(distances: np.ndarray) -> int:
    """Which of the K points follows the cube best; `distances` as `cube_distances` gives them."""
    counted = distances[np.isfinite(distances).all(axis=2)]  # [ticks of all trials, K]
    return int(np.argmin(np.median(counted, axis=0))) if len(counted) else 0


def cube_distances(trials: list[Trial], start: int = 0) -> np.ndarray:
    """[trials, T - 1, K]: the lengths of `cube_gaps`."""
    return np.linalg.norm(cube_gaps(trials, start), axis=-1)


def cube_gaps(trials: list[Trial], start: int = 0) -> np.ndarray:
    """[trials, T - 1, K, 2]: from the cube at t + 1 to each point predicted at tick t, px of 64; NaN once the gripper
    has begun to close and before tick `start`."""
    out = []
    for trial in trials:
        assert trial.predicted_attention is not None
        gap = 64 * (trial.predicted_attention[:-1] - trial.cube_pixels[1:, None])
        closing = trial.commands[:-1, -1] < 0.9 * trial.joints[0, -1]
        gap[np.maximum.accumulate(closing)] = np.nan
        gap[:start] = np.nan
        out.append(gap)
    return np.stack(out)


def mean_picture(store: EpisodeStore, data: Data) -> np.ndarray:
    """What a blinded policy sees: the mean of all pictures it learned from, uint8 [H, W, 3]."""
    means = [store.values(entry.id, "image").mean(0) for entry in training_entries(store, data)]
    return np.mean(means, axis=0).round().astype(np.uint8)


def validation_windows(trained: Trained, store: EpisodeStore) -> Batch:
    """Windows of the validation split in one batch, the first DRIFT_WINDOWS of them."""
    windows = Windows(store, "validation", trained.job.data, trained.model.inputs, trained.normalizer)
    return windows.batch(list(range(min(len(windows), DRIFT_WINDOWS))))


def drifts_of(trained: Trained, windows: Batch) -> dict[str, Drift]:
    """The drift of every stream that the model reads: up to ten steps ahead, on its own after five. Raises
    SakiyomiError for windows of a single step."""
    most, spans = windows.mask.shape[1] - 1, {name: trained.normalizer.span(name) for name in trained.model.inputs}
    return drift(trained.model, windows, min(10, most), min(5, most), spans)


def drift_scores(data: str, windows: int, drifts: dict[str, Drift]) -> dict[str, Score]:
    """Means over the curves of `drift`, measured on so many windows of `data`."""
    out = {}
    for name, curves in drifts.items():
        unit = "of 0..1" if name == "image" else "of the range"
        ahead = len(curves.k_step)
        kinds = {"one_step": curves.one_step, "k_step": curves.k_step[-1:], "free": curves.free_running}
        counted = {"one_step": "all steps", "k_step": f"{ahead} steps ahead, all starts", "free": "after 5 given steps"}
        for kind, values in kinds.items():
            key = f"drift_{kind}/{name}"
            protocol = Protocol(f"{data}, validation", counted[kind], f"RMS error {unit}", windows, "none")
            counted_values = values[np.isfinite(values)]  # steps that some window has, of a model that did not explode
            if len(counted_values):
                out[key] = Score(key, float(counted_values.mean()), None, None, unit, protocol)
    return out


def latency_scores(seconds: np.ndarray) -> dict[str, Score]:
    out = {}
    for percent in (50, 99):
        key = f"latency_p{percent}"
        protocol = Protocol("closed loop", "every tick", "observation to guarded command, batch 1", len(seconds), "all")
        out[key] = Score(key, 1e3 * float(np.percentile(seconds, percent)), None, None, "ms", protocol)
    return out


def _protocol(condition: Condition, n: int, image_size: int, rule: str, interval: str) -> Protocol:
    return Protocol(
        data=f"sakiyomi/PickCube-v0, {image_size}x{image_size}, {condition.description}",
        counted=f"ticks 1-{HORIZON} at {RATE:g} Hz",
        rule=rule,
        n=n,
        seeds=f"{condition.first_seed}..{condition.first_seed + n - 1}",
        interval=interval,
    )
