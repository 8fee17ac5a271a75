"""Controllers: a policy chooses z, a frozen motion VAE moves the character. Trained, measured, recorded.

    sakiyomi train target-walker
    sakiyomi evaluate target-walker
    sakiyomi rollout target-walker

    runs/NAME/job.json             what was asked for
    runs/NAME/weights.safetensors  the policy
    runs/NAME/last.safetensors     policy, optimizer and where all characters are: what --resume reads
    runs/NAME/metrics.jsonl        one line a logged iteration; tensorboard/ holds the same

Each iteration is a function of (seed, iteration) and what was before it: stop + resume gives the run that was never
stopped, bit for bit.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor

from sakiyomi.agents import ppo
from sakiyomi.errors import LARGEST_SEED, SakiyomiError, at_least, at_most, unknown
from sakiyomi.files import write_atomic
from sakiyomi.motion.character import Character, Moving
from sakiyomi.products import training_products
from sakiyomi.run import (
    Checkpoint,
    Clock,
    Interrupted,
    Log,
    finish_step_on_interrupt,
    progress_bar,
    read_tensors,
    restore,
    set_threads,
)
from sakiyomi.schedules import progress_at
from sakiyomi.scores.protocol import Protocol, Score
from sakiyomi.scores.statistics import bootstrap, wilson
from sakiyomi.worlds.character import CharacterWorld, Finding, Goal, State, Step, Task, observation
from sakiyomi.worlds.joystick import Joystick
from sakiyomi.worlds.maze import Maze
from sakiyomi.worlds.path import FollowPath
from sakiyomi.worlds.target import Target

TASKS = {"target": Target, "joystick": Joystick, "path": FollowPath, "maze": Maze}
TaskConfig = Target.Config | Joystick.Config | FollowPath.Config | Maze.Config
Act = Callable[[Moving, Goal], Tensor]
"""What chooses z [B, Z]."""
GO_ON = "Go on: the same command with --resume"
FREE = ("threads", "save_every", "log_every")  # fields that may be another on resume


@dataclass(frozen=True)
class ControllerJob:
    """One training of a controller."""

    character: str = "runs/walk"
    """Run folder of the motion VAE whose decoder moves the character."""
    task: TaskConfig = Target.Config()
    """What it ought to do; its class says which task."""
    world: CharacterWorld.Config = CharacterWorld.Config()
    """How many characters, for how long."""
    agent: ppo.Config = ppo.Config()
    """How it is learned."""
    frames: int = 10_000_000
    """Frames of all characters together."""
    seed: int = 0
    """Seed of weights, actions and goals."""
    device: str = "auto"
    """auto, cpu or cuda; the character is there already."""
    threads: int = 0
    """CPU threads; 0 uses every core this process may use."""
    save_every: int = 50
    """Iterations between checkpoints."""
    log_every: int = 5
    """Iterations between lines of the log."""

    @property
    def iterations(self) -> int:
        return math.ceil(self.frames / (self.world.count * self.agent.frames))


@dataclass(frozen=True)
class Parts:
    """What the loop works with."""

    world: CharacterWorld
    policy: ppo.ActorCritic
    optimizer: torch.optim.Optimizer


class Controller:
    """A trained policy with its task and its character."""

    def __init__(self, job: ControllerJob, policy: ppo.ActorCritic, world: CharacterWorld) -> None:
        self.job, self.policy, self.world = job, policy, world
        self.character, self.task = world.character, world.task

    @torch.no_grad()
    def act(self, moving: Moving, goal: Goal, generator: torch.Generator | None = None) -> Tensor:
        """z [B, Z] of B characters; the policy's mean, or drawn with a generator. `goal` needs the names that the
        task's `observe` reads: `target`; `speed` and `heading`; `path`, `spacing` and `along`; a maze's four."""
        seen = observation(self.task, moving, goal)
        action = self.policy.act(seen, generator)[0] if generator else self.policy.actor(seen)
        return self.world.latent(action)


@training_products()
def train_controller(job: ControllerJob, character: Character, folder: Path, resume: bool = False) -> Controller:
    """Train and leave a run folder behind.

    Raises SakiyomiError when the folder holds a run already (unless `resume`) or a loss is not finite; Interrupted
    on Ctrl-C. In every case the last checkpoint is good.
    """
    check(job)
    set_threads(job.threads)
    parts, state, iteration = assemble(job, character, folder, resume)
    last, samples = folder / "last.safetensors", job.world.count * job.agent.frames
    if iteration >= job.iterations:  # resumed, and there was nothing left to do
        return Controller(job, parts.policy, parts.world)
    log, clock = Log(folder, iteration), Clock()
    with progress_bar("learning to walk", job.iterations) as bar, finish_step_on_interrupt() as interrupt:
        while iteration < job.iterations:
            # save: before anything of this iteration, so that a resumed run does all of it, once
            if interrupt["asked"] or (iteration % job.save_every == 0 and iteration > 0):
                save(job, parts, state, iteration, folder)
            if interrupt["asked"]:
                log.close()
                raise Interrupted(f"stopped before iteration {iteration}; {last} is saved. {GO_ON}")

            # act and learn
            state, told = ppo.iterate(
                parts.world, parts.policy, parts.optimizer, state, job.agent, iteration, job.iterations, job.seed
            )
            iteration += 1
            clock.count(samples)

            # log
            if (iteration - 1) % job.log_every == 0 or iteration == job.iterations:
                values = read(told, iteration - 1, last)
                speed = clock.rate()
                log.write(iteration - 1, {**values, "lr": parts.optimizer.param_groups[0]["lr"], "frames_s": speed})
                bar.update(iteration, f"reward {values['reward']:.3f}  {speed:,.0f} frames/s")

    save(job, parts, state, iteration, folder)
    log.close()
    return Controller(job, parts.policy, parts.world)


def assemble(job: ControllerJob, character: Character, folder: Path, resume: bool) -> tuple[Parts, State, int]:
    """Build everything, and take up the last checkpoint on `resume`: also the state and the next iteration."""
    last = folder / "last.safetensors"
    if (folder / "job.json").exists() and not resume:
        raise SakiyomiError(f"{folder} holds a run already; go on with --resume, or name another folder with --out")
    torch.manual_seed(job.seed)
    world = CharacterWorld(character, task_of(job.task, character), job.world)
    policy = ppo.ActorCritic(world.width, character.latent, job.agent).to(character.device)
    parts = Parts(world, policy, ppo.optimizer_of(policy, job.agent))
    if resume and last.exists():
        _check_same(load_job(folder), job)
        state, iteration = _take_up(parts, last, character.device)
    else:
        generator = progress_at(0, job.iterations, job.seed, character.device, training=False).generator
        state, iteration = world.begin(generator, staggered=True), 0
    save_job(job, folder)
    return parts, state, iteration


def load_controller(folder: Path, character: Character) -> Controller:
    """Raises SakiyomiError for a folder without a trained controller, or one of another character."""
    job = load_job(folder)
    world = CharacterWorld(character, task_of(job.task, character), job.world)
    policy = ppo.ActorCritic(world.width, character.latent, job.agent).to(character.device)
    path = folder / "weights.safetensors"
    header, tensors = read_tensors(path)
    _check_kind(path, header)
    try:
        policy.load_state_dict(tensors)
    except RuntimeError as error:
        reads, acts = tensors["actor.0.weight"].shape[1], len(tensors["log_deviation"])
        raise SakiyomiError(
            f"{path} reads {reads} numbers and gives {acts}; this character under task {header['task']!r} has "
            f"{world.width} and {character.latent}: it was trained on another character ({job.character})"
        ) from error
    return Controller(job, policy, world)


def task_of(config: TaskConfig, character: Character) -> Task:
    """The task of a Config."""
    return TASKS[task_name(config)](config, character)  # pyright: ignore[reportArgumentType]


def task_name(config: Any) -> str:
    for name, task in TASKS.items():
        if isinstance(config, task.Config):
            return name
    raise unknown("task config", type(config).__qualname__, [f"{task.__name__}.Config" for task in TASKS.values()])


def check(job: ControllerJob) -> None:
    """Raises SakiyomiError for a number out of its range, naming the field."""
    for name in ("frames", "save_every", "log_every"):
        at_least(f"--{name.replace('_', '-')}", getattr(job, name), 1)
    at_least("--seed", job.seed, 0)
    at_most("--seed", job.seed, LARGEST_SEED)
    at_least("--threads", job.threads, 0)
    ppo.check(job.agent)


def save_job(job: ControllerJob, folder: Path) -> None:
    content = {**asdict(job), "task": {"name": task_name(job.task), "config": asdict(job.task)}}
    write_atomic(folder / "job.json", msgspec.json.format(msgspec.json.encode(content)))


def load_job(folder: Path) -> ControllerJob:
    """Raises SakiyomiError for a folder that holds no controller, or one of another version, naming the field."""
    path = folder / "job.json"
    if not path.exists():
        raise SakiyomiError(f"{folder} holds no run (no job.json); train one first: sakiyomi train NAME --out {folder}")
    try:
        raw = msgspec.json.decode(path.read_bytes())
        if "task" not in raw:
            raise SakiyomiError(f"{folder} holds no controller: its job.json names no task")
        name = raw["task"]["name"]
        if name not in TASKS:
            raise unknown("task", name, TASKS)
        config = msgspec.convert(raw.pop("task")["config"], TASKS[name].Config)
        kinds = ControllerJob.__annotations__
        return ControllerJob(task=config, **{k: msgspec.convert(v, kinds[k]) for k, v in raw.items()})
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise SakiyomiError(f"{path} cannot be read: {error}; train again or mend the field") from error


def save(job: ControllerJob, parts: Parts, state: State, iteration: int, folder: Path) -> None:
    """`weights.safetensors`, and all that a bit-exact resume needs in `last.safetensors`."""
    header = {"kind": "controller", "task": task_name(job.task), "state": json.dumps({"step": iteration})}
    weights = {name: value.contiguous() for name, value in parts.policy.state_dict().items()}
    tensors = {f"model.{name}": value for name, value in weights.items()}
    for index, values in parts.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value.contiguous() for name, value in values.items()}
    world = {"pose": state.moving.pose, "place": state.moving.place, "age": state.age}
    tensors |= {f"world.{name}": value.contiguous() for name, value in world.items()}
    tensors |= {f"goal.{name}": value.contiguous() for name, value in state.goal.items()}
    write_atomic(folder / "last.safetensors", to_safetensors(tensors, header))
    write_atomic(folder / "weights.safetensors", to_safetensors(weights, header))


def read(told: dict[str, Tensor], iteration: int, last: Path) -> dict[str, float]:
    """The numbers of an iteration, waiting for the device. Raises SakiyomiError when one is not finite."""
    values = {name: float(value) for name, value in told.items()}
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    if bad:
        good = f"the last good checkpoint is {last}" if last.exists() else "none was written yet"
        raise SakiyomiError(
            f"training stopped: {', '.join(bad)} became {values[bad[0]]} at iteration {iteration}; {good}. "
            "A lower --agent.learning-rate.peak usually helps"
        )
    return values


def play(world: CharacterWorld, act: Act, frames: int, generator: torch.Generator) -> Iterator[tuple[State, Step]]:
    """Let all characters of a world act: for each frame where they are, and what came of it."""
    state = world.begin(generator)
    for _ in range(frames):
        step = world.advance(state, act(state.moving, state.goal), generator)
        yield state, step
        state = step.state


def random_walk(controller: Controller, generator: torch.Generator) -> Act:
    """The control: z ~ N(0, 1), which walks as the character happens to."""
    limit, latent = controller.world.config.scale, controller.character.latent

    def act(moving: Moving, goal: Goal) -> Tensor:
        z = torch.randn(len(moving.place), latent, generator=generator, device=moving.place.device)
        return z.clamp(-limit, limit)

    return act


@dataclass(frozen=True)
class Trajectory:
    """What characters did, T frames of B."""

    poses: Tensor
    """In their units (`motion/layout.py`), [T, B, D]."""
    places: Tensor
    """x and z in m, facing in rad, [T, B, 3]."""
    goals: Goal
    """The task's, [T, B, ...]."""
    over: Tensor
    """The episode ended with this frame: the next one begins elsewhere, bool [T, B]."""
    rate: float
    """Frames a second."""


def rollout_controller(
    controller: Controller, characters: int = 1, seconds: float = 60.0, seed: int = 10_000, chance: bool = False
) -> Trajectory:
    """Let the controller (or by `chance` the random control) walk, and keep every frame."""
    world, frames = _world_for(controller, characters, seconds)
    generator = _generator(controller, seed)
    act = random_walk(controller, generator) if chance else controller.act
    poses, places, over = [], [], []
    goals: dict[str, list[Tensor]] = {}
    for state, step in play(world, act, frames, generator):
        poses.append(controller.character.physical(state.moving.pose))
        places.append(state.moving.place)
        over.append(step.terminated | step.truncated)
        for name, value in state.goal.items():
            goals.setdefault(name, []).append(value)
    told = {name: torch.stack(values) for name, values in goals.items()}
    return Trajectory(torch.stack(poses), torch.stack(places), told, torch.stack(over), controller.character.rate)


def evaluate_controller(
    controller: Controller,
    characters: int = 200,
    seconds: float = 60.0,
    seed: int = 10_000,
    progress: Callable[[int, int, str], None] = lambda done, total, name: None,
) -> dict[str, Score]:
    """What the task is judged by, each score beside its control NAME/random, in which z ~ N(0, 1)."""
    world, frames = _world_for(controller, characters, seconds)
    scores: dict[str, Score] = {}
    for number, control in enumerate(("", "random")):
        generator = _generator(controller, seed)
        act = random_walk(controller, generator) if control else controller.act
        rows: dict[str, list[np.ndarray]] = {}
        for frame, (_, step) in enumerate(play(world, act, frames, generator)):
            for name, value in {**step.measures, "over": step.terminated | step.truncated}.items():
                rows.setdefault(name, []).append(value.cpu().numpy())
            progress(number * frames + frame + 1, 2 * frames, control or "controller")
        measures = {name: np.stack(values) for name, values in rows.items()}
        findings = controller.task.judge(measures, measures["over"])
        findings["whole"] = Finding(
            np.logical_not(measures["apart"].any(axis=0)), "rate", "no pose of the character ever fell apart"
        )
        for name, finding in findings.items():
            if len(finding.values):
                key = f"{name}/{control}" if control else name
                scores[key] = _score(key, finding, controller, characters, seconds, seed)
    return scores


def _score(name: str, finding: Finding, controller: Controller, characters: int, seconds: float, seed: int) -> Score:
    rate = finding.values.dtype == bool
    interval = wilson(int(finding.values.sum()), len(finding.values)) if rate else bootstrap(finding.values)
    job = controller.job
    protocol = Protocol(
        data=f"characters of {job.character}, {task_name(job.task)}",
        counted=f"{characters} characters for {seconds:g} s at {controller.character.rate:g} Hz",
        rule=finding.rule,
        n=characters,
        seeds=str(seed),
        interval=f"{'wilson' if rate else 'bootstrap'} 95 %",
    )
    return Score(name, interval.value, interval.low, interval.high, finding.unit, protocol)


def _world_for(controller: Controller, characters: int, seconds: float) -> tuple[CharacterWorld, int]:
    """A world in which no episode runs out of time, and its frames."""
    at_least("--characters", characters, 1)
    if not math.isfinite(seconds):
        raise SakiyomiError(f"--seconds is {seconds}; it must be a finite number")
    frames = round(seconds * controller.character.rate)
    at_least("frames (--seconds)", frames, 1)
    config = replace(controller.job.world, count=characters, frames=frames + 1)
    return CharacterWorld(controller.character, controller.task, config), frames


def _generator(controller: Controller, seed: int) -> torch.Generator:
    at_least("--seed", seed, 0)
    at_most("--seed", seed, LARGEST_SEED)
    return torch.Generator(controller.character.device).manual_seed(seed)


def _take_up(parts: Parts, last: Path, device: torch.device) -> tuple[State, int]:
    """Weights and moments into `parts`; where the characters were, and the next iteration."""
    header, tensors = read_tensors(last)
    _check_kind(last, header)
    state = json.loads(header["state"])
    restore(Checkpoint(state["step"], state, tensors), parts.policy, parts.optimizer)
    there = {name: value.to(device) for name, value in tensors.items()}
    goal = {name.removeprefix("goal."): value for name, value in there.items() if name.startswith("goal.")}
    moving = Moving(there["world.pose"], there["world.place"])
    return State(moving, goal, there["world.age"]), int(state["step"])


def _check_kind(path: Path, header: dict[str, str]) -> None:
    if header.get("kind") != "controller":
        raise SakiyomiError(f"{path} holds no controller: its header has {sorted(header)}")


def _check_same(there: ControllerJob, asked: ControllerJob) -> None:
    """Raises SakiyomiError when a resumed job is not the saved one, naming the fields."""
    before, now = _flat(there), _flat(asked)
    different = [f"{k} {before.get(k)} there, {now.get(k)} asked" for k in before | now if before.get(k) != now.get(k)]
    if different:
        raise SakiyomiError(
            f"this run was begun with another job ({'; '.join(different)}); give the same fields, or another --out"
        )


def _flat(job: ControllerJob) -> dict[str, Any]:
    """Every field by its dotted name, without those that may change."""

    def walk(value: Any, name: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            return {name: value}
        return {k: v for key, below in value.items() for k, v in walk(below, f"{name}.{key}".strip(".")).items()}

    told = {name: value for name, value in asdict(job).items() if name not in FREE}
    return {"task": task_name(job.task), **walk(told, "")}
