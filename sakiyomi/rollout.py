"""Verb 4, `sakiyomi rollout NAME`: run a trained model, closed loop in a world or open loop on a recording.

    sakiyomi rollout pick --place 0.5 0.03
    sakiyomi rollout pick --recording 00007

In the closed loop every command passes the guard. The model's one `step` serves here, in evaluation and in tests.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.far import is_url
from sakiyomi.data.normalize import Normalizer
from sakiyomi.data.windows import Windows
from sakiyomi.errors import SakiyomiError
from sakiyomi.files import write_atomic
from sakiyomi.guard import Checked, Guard, Limits, Reaction
from sakiyomi.job import Job, build, load_job
from sakiyomi.models import SequenceModel, State, Streams
from sakiyomi.models.base import Attentive
from sakiyomi.processor import prepare
from sakiyomi.run import check_header, read_tensors

if TYPE_CHECKING:  # a world needs a renderer, a policy on a robot does not
    from sakiyomi.worlds.disturbed import Disturbed
    from sakiyomi.worlds.pick_cube import PickCube


@dataclass(frozen=True)
class Trained:
    """A model ready to run, with all it needs to meet the world."""

    job: Job
    model: SequenceModel
    normalizer: Normalizer
    limits: Limits | None
    """The guard's; None for a model that commands nothing."""


def load(folder: str | Path, device: str = "cpu") -> Trained:
    """The best weights of a run folder, in evaluation mode; this process is prepared for them (processor.py). Raises
    SakiyomiError when the folder holds no run, or none that got as far as a first validation."""
    folder = Path(folder)
    job, path = load_job(folder), folder / "weights.safetensors"
    prepare(job.train.precision)
    if not path.exists():
        raise SakiyomiError(f"{folder} has no {path.name} yet: they come with the first validation; train on: --resume")
    header, tensors = read_tensors(path)
    check_header(path, header, job.model)
    model = build(job.model)
    if tensors.keys() != model.state_dict().keys():
        other = sorted(tensors.keys() ^ model.state_dict().keys())
        raise SakiyomiError(f"{path} holds other tensors than the model: {', '.join(other[:4])}; is it a checkpoint?")
    model.load_state_dict(tensors)
    # Weights of convolutions as the pictures lie, which makes a step of SARNN faster on a CPU.
    model.to(device).to(memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]
    limits = Limits.load(folder / "limits.json") if "joints" in model.outputs else None
    return Trained(job, model, Normalizer.load(folder / "normalizer.json"), limits)


def limits_of(trained: Trained) -> Limits:
    """Raises SakiyomiError for a model that commands nothing."""
    if trained.limits is None:
        raise SakiyomiError(
            f"{type(trained.model).__name__} predicts {list(trained.model.outputs)} and commands nothing; "
            "driving takes a model that predicts joints"
        )
    return trained.limits


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
        self.guard = Guard(limits_of(trained), reaction)
        self._device = next(self.model.parameters()).device
        self.state: State | None = None

    def reset(self, position: np.ndarray) -> None:
        """Forget the past; the joints [J] stand at `position` and the arm is at rest."""
        self.state = self.model.initial(1)
        self.guard.reset(position)

    @torch.inference_mode()
    def act(self, observation: Mapping[str, np.ndarray], now: float | None = None) -> Decision:
        """One tick: `observation` maps stream -> value in its own units ([H, W, 3] uint8, [J]); `now` in seconds
        feeds the guard's watchdog, and is this machine's clock if not given."""
        begin = time.perf_counter()
        if self.state is None:
            raise SakiyomiError("the policy does not know where the joints are; call reset(position) first")
        streams: Streams = {}
        for name in self.model.inputs:
            if name not in observation:
                raise SakiyomiError(f"the model reads {list(self.model.inputs)}, the world gave {sorted(observation)}")
            value = torch.from_numpy(np.ascontiguousarray(observation[name])).to(self._device)
            streams[name] = self.normalizer.encode(name, value)[None]
        prediction, self.state = self.model.step(streams, self.state)
        wanted = self.normalizer.decode("joints", prediction["joints"][0]).double().cpu().numpy()
        checked = self.guard.check(wanted, begin if now is None else now)
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
    """Ticks a second: what was achieved of the rate asked for in real time, as fast as it went when not."""
    late: int = 0
    """Ticks that began more than half a period late (in real time only)."""


class Ticker:
    """Waits for the wall clock, tick by tick. After a late tick the next one is a whole period away: catching up
    in a burst would move a robot faster than its limits allow."""

    def __init__(self, period: float) -> None:
        self.period, self.late = period, 0
        self._due = time.perf_counter()

    def wait(self) -> float:
        """Wait until the next tick is due; the time it is then."""
        time.sleep(max(0.0, self._due - time.perf_counter()))
        now = time.perf_counter()
        self.late += now - self._due > self.period / 2
        self._due = max(self._due, now - 0.05 * self.period) + self.period
        return now


def run_trial(
    world: "PickCube | Disturbed",
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
    seen: list[Mapping[str, np.ndarray]] = []
    cubes: list[tuple[np.ndarray, float]] = []
    decisions: list[Decision] = []
    begin, ticker = time.perf_counter(), Ticker(period) if realtime else None
    for tick in range(ticks):
        if tick == move_at and move_to is not None:
            world.move_cube(move_to)
        now = ticker.wait() if ticker else tick * period
        decision = policy.act(observation if blind is None else {**observation, "image": blind}, now)
        seen.append(observation)
        cubes.append((info["cube_pixel"], info["cube_position"][2]))
        decisions.append(decision)
        observation, _, _, _, info = world.step(decision.command)
    if ticker:
        ticker.wait()  # the last tick lasts a period too
    elapsed = time.perf_counter() - begin
    predictions = {k: torch.cat([d.prediction[k] for d in decisions]) for k in decisions[0].prediction}
    return Trial(
        success_any=bool(info["success_any"]),
        success_last=bool(info["success_last"]),
        scene=dict(scene or {}),
        seed=seed,
        images=np.stack([o["image"] for o in seen]),
        cube_pixels=np.stack([pixel for pixel, _ in cubes]),
        cube_heights=np.array([height for _, height in cubes]),
        joints=np.stack([o["joints"] for o in seen]),
        commands=np.stack([d.command for d in decisions]),
        hidden=np.stack([torch.cat([v.flatten() for v in d.state.values()]).cpu().numpy() for d in decisions]),
        violations={name: count - before[name] for name, count in policy.guard.counts.items()},
        seconds=np.array([d.seconds for d in decisions]),
        rate=ticks / elapsed,
        late=ticker.late if ticker else 0,
        **seen_ahead(policy.model, policy.normalizer, predictions),
    )


class SeenAhead(TypedDict):
    """The fields of a Trial that only some models have."""

    predicted_images: np.ndarray | None
    attention: np.ndarray | None
    predicted_attention: np.ndarray | None


def seen_ahead(model: SequenceModel, normalizer: Normalizer, predictions: Streams) -> SeenAhead:
    """Predictions [T, ...] as pictures and points of the picture, None where the model has none."""
    image = normalizer.decode("image", predictions["image"]).cpu().numpy() if "image" in predictions else None
    if not isinstance(model, Attentive):
        return {"predicted_images": image, "attention": None, "predicted_attention": None}
    looks, means = (model.to_picture(predictions[k]).cpu().numpy() for k in ("attention", "points"))
    return {"predicted_images": image, "attention": looks, "predicted_attention": means}


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


def picture_size(job: Job) -> int:
    """Height and width of the pictures a run's world has to show: its model's; for a model without a camera those
    of its recordings, so that both are tried in the same world; 64 where there are none."""
    there = is_url(job.data.store) or Path(job.data.store).exists()
    recorded = EpisodeStore(job.data.store).streams.get("image") if there else None
    return getattr(job.model, "height", recorded.shape[0] if recorded else 64)


def rollout(trained: Trained, options: Closed, folder: Path) -> Trial:
    """One closed-loop run; leaves `rollout.gif` and `rollout.json` in `folder`."""
    from sakiyomi.views.gif import trial_gif  # it draws Trials, and so imports this file
    from sakiyomi.worlds.pick_cube import PickCube

    world = PickCube(image_size=picture_size(trained.job))
    trial = run_trial(
        world, Policy(trained, options.reaction), options.seed, {"place": options.place}, realtime=options.realtime
    )
    world.close()
    asked = 1 / limits_of(trained).period
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
def open_loop(trained: Trained, recording: str) -> tuple[Trial, dict[str, float]]:
    """Predict along a recorded episode at the model's rate, every observation true; nothing is driven.

    Returns a Trial whose commands are the predictions, unguarded, so that it can be drawn like one, and the root
    mean square error of each stream: joints in their own units, pictures of 0..1.
    """
    store = EpisodeStore(trained.job.data.store)
    entry = store.entry(recording)
    whole = replace(trained.job.data, steps=0, episodes=0)
    windows = Windows(store, entry.split, whole, trained.model.inputs, trained.normalizer, (recording,))
    batch = windows.batch([0])
    ticks = int(batch.mask.sum())
    begin = time.perf_counter()
    predictions, state = trained.model.unroll(batch.inputs)
    elapsed = time.perf_counter() - begin
    predictions = {name: value[0, :ticks] for name, value in predictions.items()}
    read = {k: trained.normalizer.decode(k, v[0, :ticks]).numpy() for k, v in batch.inputs.items()}
    wanted = {k: trained.normalizer.decode(k, v[0, :ticks]).numpy() for k, v in batch.targets.items()}
    commands = trained.normalizer.decode("joints", predictions["joints"]).numpy()
    trial = Trial(
        success_any=bool(entry.meta.get("success", False)),
        success_last=bool(entry.meta.get("success", False)),
        scene=dict(entry.meta),
        seed=0,
        images=read.get("image"),
        cube_pixels=np.full((ticks, 2), np.nan),
        cube_heights=np.zeros(ticks),
        joints=read["joints"],
        commands=commands,
        hidden=torch.cat([v.flatten() for v in state.values()])[None].numpy(),
        violations={},
        seconds=np.full(ticks, elapsed / ticks),
        rate=ticks / elapsed,
        **seen_ahead(trained.model, trained.normalizer, predictions),
    )
    errors = {"joints": float(np.sqrt(np.square(commands - wanted["joints"]).mean()))}
    if trial.predicted_images is not None:
        gap = (trial.predicted_images.astype(float) - wanted["image"]) / 255
        errors["image"] = float(np.sqrt(np.square(gap).mean()))
    return trial, errors


def along_recording(trained: Trained, recording: str, folder: Path) -> dict[str, float]:
    """`open_loop`, drawn: leaves `recording.gif` for a model with a camera; returns the errors."""
    from sakiyomi.views.gif import trial_gif

    trial, errors = open_loop(trained, recording)
    if trial.images is not None:
        write_atomic(folder / "recording.gif", trial_gif(trial, 1 / limits_of(trained).period))
    return errors
