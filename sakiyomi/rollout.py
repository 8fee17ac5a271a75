"""Verb 4, `sakiyomi rollout NAME`: run a trained model, closed loop in a world or open loop on a recording.

    sakiyomi rollout pick --place 0.5 0.03
    sakiyomi rollout pick --recording 00007

In the closed loop every command passes the guard. The model's one `step` serves here, in evaluation and in tests.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.normalize import Normalizer
from sakiyomi.data.windows import target_stream
from sakiyomi.errors import SakiyomiError
from sakiyomi.files import write_atomic
from sakiyomi.guard import Checked, Guard, Limits, Reaction
from sakiyomi.job import Job, build, load_job
from sakiyomi.models import SequenceModel, Streams
from sakiyomi.run import check_header, read_tensors

if TYPE_CHECKING:  # a world needs a renderer, a policy on a robot does not
    from sakiyomi.worlds.pick_cube import PickCube


@dataclass(frozen=True)
class Trained:
    """A model ready to run, with all it needs to meet the world."""

    job: Job
    model: SequenceModel
    normalizer: Normalizer
    limits: Limits


def load(folder: str | Path, device: str = "cpu") -> Trained:
    """The best weights of a run folder, in evaluation mode. Raises SakiyomiError when the folder holds no run."""
    folder = Path(folder)
    job = load_job(folder)
    header, tensors = read_tensors(folder / "weights.safetensors")
    check_header(folder / "weights.safetensors", header, job.model)
    model = build(job.model)
    model.load_state_dict(tensors)
    model.to(device).eval()
    return Trained(job, model, Normalizer.load(folder / "normalizer.json"), Limits.load(folder / "limits.json"))


@dataclass(frozen=True)
class Decision:
    """One tick of a policy."""

    command: np.ndarray
    """What may go to the motors, float64 [J]."""
    checked: Checked
    prediction: Streams
    """What the model said, normalised, [1, ...] a stream."""
    state: dict[str, Tensor]
    seconds: float
    """From observation to command."""


class Policy:
    """A trained model that drives: observations in the world's units in, guarded commands out."""

    def __init__(self, trained: Trained, reaction: Reaction = "clamp") -> None:
        self.model, self.normalizer = trained.model, trained.normalizer
        self.guard = Guard(trained.limits, reaction)
        self._device = next(self.model.parameters()).device

    def reset(self, position: np.ndarray) -> None:
        """Forget the past; the joints [J] stand at `position` and the arm is at rest."""
        self.state = self.model.initial(1)
        self.guard.reset(position)

    @torch.inference_mode()
    def act(self, observation: Mapping[str, np.ndarray], now: float | None = None) -> Decision:
        """One tick: `observation` maps stream -> value in its own units ([H, W, 3] uint8, [J])."""
        begin = time.perf_counter()
        streams: Streams = {}
        for name in self.model.inputs:
            if name not in observation:
                raise SakiyomiError(f"the model reads {list(self.model.inputs)}, the world gave {sorted(observation)}")
            value = torch.from_numpy(np.ascontiguousarray(observation[name])).to(self._device)
            streams[name] = self.normalizer.encode(name, value)[None]
        prediction, self.state = self.model.step(streams, self.state)
        wanted = self.normalizer.decode("joints", prediction["joints"][0]).double().cpu().numpy()
        checked = self.guard.check(wanted, now)
        return Decision(checked.command, checked, prediction, self.state, time.perf_counter() - begin)


@dataclass(frozen=True)
class Trial:
    """One closed-loop run. T ticks."""

    success_any: bool
    success_last: bool
    scene: dict[str, Any]
    seed: int
    images: np.ndarray | None
    """What the camera saw, uint8 [T, H, W, 3]; None where it was not kept."""
    predicted_images: np.ndarray | None
    """What the model thought it would see one tick later, uint8 [T, H, W, 3]."""
    attention: np.ndarray | None
    """Where it looks, and where it means to look next tick, x and y in 0..1 of the picture, [T, K, 2]."""
    predicted_attention: np.ndarray | None
    cube_pixels: np.ndarray
    """Where the cube is, in 0..1 of the picture, [T, 2]."""
    cube_heights: np.ndarray
    """m, [T]."""
    joints: np.ndarray
    commands: np.ndarray
    hidden: np.ndarray
    """The model's state, [T, N]."""
    violations: dict[str, int]
    """Ticks on which each check of the guard failed."""
    seconds: np.ndarray
    """Latency of each tick's decision, [T]."""
    rate: float
    """Ticks a second achieved: asked for when the loop ran in real time, as fast as possible when not."""
    late: int = 0
    """Ticks that began more than half a period late (in real time only)."""


def run_trial(
    world: "PickCube",
    policy: Policy,
    seed: int,
    scene: Mapping[str, Any] | None = None,
    blind: np.ndarray | None = None,
    ticks: int = 45,
    realtime: bool = False,
    move_at: int | None = None,
    move_to: tuple[float, float] | None = None,
) -> Trial:
    """Drive `world` with `policy` for `ticks`.

    `blind` (uint8 [H, W, 3]) replaces every picture; with `realtime` the loop waits for the wall clock; at tick
    `move_at` the cube is put at `move_to`.
    """
    observation, info = world.reset(seed=seed, options=dict(scene or {}))
    policy.reset(observation["joints"])
    before = dict(policy.guard.counts)
    period = policy.guard.limits.period
    rows: dict[str, list] = {k: [] for k in ("image", "guess", "look", "next", "pixel", "height", "joints", "command")}
    hidden, seconds, late, begin = [], [], 0, time.perf_counter()
    to_picture = getattr(policy.model, "to_picture", None)
    for tick in range(ticks):
        if tick == move_at and move_to is not None:
            world.move_cube(move_to)
        if realtime:
            ahead = begin + tick * period - time.perf_counter()
            late += ahead < -period / 2
            time.sleep(max(0.0, ahead))
        seen = observation if blind is None else {**observation, "image": blind}
        decision = policy.act(seen, time.perf_counter() if realtime else tick * period)
        rows["image"].append(observation["image"])
        rows["pixel"].append(info["cube_pixel"])
        rows["height"].append(info["cube_position"][2])
        rows["joints"].append(observation["joints"])
        rows["command"].append(decision.command)
        if "image" in decision.prediction:
            rows["guess"].append(policy.normalizer.decode("image", decision.prediction["image"][0]).cpu().numpy())
        if to_picture is not None:
            rows["look"].append(to_picture(decision.prediction["attention"][0]).cpu().numpy())
            rows["next"].append(to_picture(decision.prediction["points"][0]).cpu().numpy())
        hidden.append(torch.cat([v.flatten() for v in decision.state.values()]).cpu().numpy())
        seconds.append(decision.seconds)
        observation, _, _, _, info = world.step(decision.command)
    elapsed = time.perf_counter() - begin
    stacked = {name: np.stack(values) if values else None for name, values in rows.items()}
    return Trial(
        bool(info["success_any"]),
        bool(info["success_last"]),
        dict(scene or {}),
        seed,
        stacked["image"],  # pyright: ignore[reportArgumentType]
        stacked["guess"],
        stacked["look"],
        stacked["next"],
        stacked["pixel"],  # pyright: ignore[reportArgumentType]
        stacked["height"],  # pyright: ignore[reportArgumentType]
        stacked["joints"],  # pyright: ignore[reportArgumentType]
        stacked["command"],  # pyright: ignore[reportArgumentType]
        np.stack(hidden),
        {name: count - before[name] for name, count in policy.guard.counts.items()},
        np.array(seconds),
        ticks / elapsed,
        late,
    )


@dataclass(frozen=True)
class Closed:
    """Options of `rollout` in the world."""

    place: tuple[float, float] = (0.5, 0.03)
    """Where the cube stands, x and y in m."""
    seed: int = 0
    """Seed of the arm's start."""
    reaction: Reaction = "clamp"
    """What the guard does about a bad command."""
    realtime: bool = False
    """Keep to the wall clock at the model's rate, and count late ticks."""


def rollout(trained: Trained, options: Closed, folder: Path) -> Trial:
    """One closed-loop run; leaves `rollout.gif` and `rollout.json` in `folder`."""
    from sakiyomi.views.gif import trial_gif  # it draws Trials, and so imports this file
    from sakiyomi.worlds.pick_cube import PickCube

    size = EpisodeStore(trained.job.data.store).streams["image"].shape[0]
    world = PickCube(image_size=size)
    trial = run_trial(
        world, Policy(trained, options.reaction), options.seed, {"place": options.place}, realtime=options.realtime
    )
    world.close()
    asked = 1 / trained.limits.period
    facts = {
        **asdict(options),
        "success_any": trial.success_any,
        "success_last": trial.success_last,
        "rate_asked_hz": asked,
        "rate_true_hz": trial.rate,
        "late_ticks": trial.late,
        "latency_p50_ms": 1e3 * float(np.percentile(trial.seconds, 50)),
        "latency_p99_ms": 1e3 * float(np.percentile(trial.seconds, 99)),
        "violations": trial.violations,
    }
    write_atomic(folder / "rollout.json", json.dumps(facts, indent=2).encode())
    write_atomic(folder / "rollout.gif", trial_gif(trial, asked))
    return trial


@torch.inference_mode()
def open_loop(trained: Trained, recording: str) -> Trial:
    """Predict along a recorded episode, every observation true; nothing is driven.

    The result is a Trial whose commands are the predictions, unguarded, so that it can be drawn like one.
    """
    store = EpisodeStore(trained.job.data.store)
    entry = store.entry(recording)
    recorded = {name: store.values(recording, name) for name in trained.model.inputs}
    streams = {name: trained.normalizer.encode(name, torch.from_numpy(v))[None] for name, v in recorded.items()}
    begin = time.perf_counter()
    predictions, state = trained.model.unroll(streams)
    elapsed = time.perf_counter() - begin
    ticks = len(recorded["joints"])
    to_picture = getattr(trained.model, "to_picture", None)
    points = {k: to_picture(predictions[k][0]).numpy() if to_picture else None for k in ("attention", "points")}
    guess = trained.normalizer.decode("image", predictions["image"][0]).numpy() if "image" in predictions else None
    return Trial(
        success_any=bool(entry.meta.get("success", False)),
        success_last=bool(entry.meta.get("success", False)),
        scene=dict(entry.meta),
        seed=0,
        images=recorded.get("image"),
        predicted_images=guess,
        attention=points["attention"],
        predicted_attention=points["points"],
        cube_pixels=np.full((ticks, 2), np.nan),
        cube_heights=np.zeros(ticks),
        joints=recorded["joints"],
        commands=trained.normalizer.decode("joints", predictions["joints"][0]).numpy(),
        hidden=torch.cat([v.flatten() for v in state.values()])[None].numpy(),
        violations={},
        seconds=np.full(ticks, elapsed / ticks),
        rate=ticks / elapsed,
    )


def along_recording(trained: Trained, recording: str, folder: Path) -> dict[str, float]:
    """`open_loop`, drawn: leaves `recording.gif`; returns the root mean square error of each predicted stream."""
    from sakiyomi.views.gif import trial_gif  # it draws Trials, and so imports this file

    trial = open_loop(trained, recording)
    store = EpisodeStore(trained.job.data.store)
    target = store.values(recording, target_stream(store, "joints"))
    offset = 0 if target_stream(store, "joints") == "command" else 1
    gap = trial.commands[: len(target) - offset] - target[offset:]
    errors = {"joints": float(np.sqrt(np.square(gap).mean()))}
    if trial.images is not None and trial.predicted_images is not None:
        difference = (trial.predicted_images[:-1].astype(float) - trial.images[1:]) / 255
        errors["image"] = float(np.sqrt(np.square(difference).mean()))
        write_atomic(folder / "recording.gif", trial_gif(trial, 1 / trained.limits.period))
    return errors
