"""Verb 3, `sakiyomi evaluate NAME`: scores under a protocol.

    sakiyomi evaluate pick --trials 50
    sakiyomi compare pick-small pick-joints

Closed loop: success at taught and untaught places and under harder circumstances, with Wilson's interval; whether an
attention point follows the cube; what the guard had to change; latency. On recordings: drift of every stream.
"""

from collections.abc import Callable, Iterable
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
    progress: Callable[[int, int, str], None] = lambda done, total, name: None,
) -> Evaluated:
    """Run every condition (or `only` those named) and score the validation recordings."""
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
    world, policy = PickCube(image_size=image_size), Policy(trained)
    found: dict[str, list[Trial]] = {}
    for number, (name, condition) in enumerate(chosen.items()):
        blind = mean_picture(store, trained.job.data) if condition.blind else None
        found[name] = []
        for i, scene in enumerate(condition.scenes):
            move = condition.moves[i] if condition.moves else None
            first = condition.first_seed + i
            trial = run_trial(world, policy, first, scene, blind, HORIZON, move_at=MOVE_TICK, move_to=move)
            found[name].append(trial if i < KEEP_PICTURES else replace(trial, images=None, predicted_images=None))
            progress(number * trials + i + 1, len(chosen) * trials, name)
        scores |= success_scores(name, condition, found[name], image_size)
        if found[name][0].predicted_attention is not None and not condition.blind:
            scores |= attention_scores(name, condition, found[name], image_size)
    world.close()
    everything = Evaluated(scores, found, drifts)
    scores |= latency_scores(everything.latencies)
    return everything


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
    """Median distance between the cube and the one predicted point that follows it best in all trials, in pixels
    of a 64 x 64 picture, over the ticks before the gripper closes; nothing where no trial has such ticks."""
    distances = cube_distances(trials, start=MOVE_TICK + 3 if condition.moves else 0)
    counted = distances[np.isfinite(distances).any(axis=(1, 2))]
    if not len(counted):
        return {}
    interval = bootstrap(np.nanmedian(counted[:, :, nearest_point(counted)], axis=1), np.median)
    rule = (
        "distance of one predicted point (the same in all trials) to the cube before grasping, median over ticks, "
        "then over trials that have such ticks"
    )
    protocol = replace(
        _protocol(condition, len(trials), image_size, rule, "bootstrap 95 %"), best_of=distances.shape[2]
    )
    key = f"attention/{name}"
    return {key: Score(key, interval.value, interval.low, interval.high, "px of 64", protocol)}


def nearest_point(distances: np.ndarray) -> int:
    """Which of the K points follows the cube best; `distances` as `cube_distances` gives them."""
    counted = distances[np.isfinite(distances).all(axis=2)]  # [ticks of all trials, K]
    return int(np.argmin(np.median(counted, axis=0))) if len(counted) else 0


def cube_distances(trials: list[Trial], start: int = 0) -> np.ndarray:
    """[trials, T - 1, K]: each point predicted at tick t to the cube at t + 1, px of 64; NaN once the gripper has
    begun to close and before tick `start`."""
    out = []
    for trial in trials:
        assert trial.predicted_attention is not None
        gap = trial.predicted_attention[:-1] - trial.cube_pixels[1:, None]
        distance = 64 * np.linalg.norm(gap, axis=-1)
        closing = trial.commands[:-1, -1] < 0.9 * trial.joints[0, -1]
        distance[np.maximum.accumulate(closing)] = np.nan
        distance[:start] = np.nan
        out.append(distance)
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
