"""A world of characters: a frozen decoder moves them, a task says where they ought to go.

    world = CharacterWorld(character, Target(Target.Config(), character))
    observation, _ = world.reset(seed=0)
    observation, reward, terminated, truncated, info = world.step(world.action_space.sample())

Two ways in. `begin`, `observe` and `advance` are functions from state to state on tensors of the character's device,
which wait for nothing: what `agents/ppo.py` learns on. `reset` and `step` are Gymnasium's, in numpy. A character whose
episode ends begins the next one in the same step (Gymnasium's SAME_STEP): its last observation is `Step.final`, or
`info["final_obs"]`.

B characters, D numbers of a pose, Z of a latent, O of an observation.
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from sakiyomi.errors import SakiyomiError, at_least
from sakiyomi.motion.character import Character, Moving
from sakiyomi.motion.layout import turned

NARROWEST = 0.05  # m
Goal = dict[str, Tensor]
"""What a task asks of each character now, and what it counts meanwhile: name -> [B, ...]."""


@dataclass(frozen=True)
class Outcome:
    """What a task makes of one frame of B characters."""

    goal: Goal
    """What is asked from now on."""
    moving: Moving
    """Where the characters are: where they went, unless the task holds them back (a wall)."""
    reward: Tensor
    """[B]; good walking earns about 1 a frame."""
    ended: Tensor
    """Whose episode this ends, bool [B]."""
    measures: dict[str, Tensor]
    """What the task is judged by, name -> [B]; always the same names."""


@dataclass(frozen=True)
class Finding:
    """One thing a task was judged by, over all trials of an evaluation."""

    values: np.ndarray
    """[n]; bool for a rate, else numbers whose mean counts."""
    unit: str
    rule: str
    """What was measured, exactly."""


class Task(Protocol):
    """What characters are asked to do. Pure: its numbers are set when it is made, everything else goes in and out."""

    width: int
    """Numbers that `observe` gives."""

    def begin(self, moving: Moving, generator: torch.Generator | None) -> Goal:
        """A goal for each character that stands there."""
        ...

    def observe(self, moving: Moving, goal: Goal) -> Tensor:
        """The goal as each character sees it from where it is, about -1 to 1, [B, width]."""
        ...

    def step(self, before: Moving, after: Moving, goal: Goal, generator: torch.Generator | None) -> Outcome:
        """What came of one frame."""
        ...

    def judge(self, measures: dict[str, np.ndarray], over: np.ndarray) -> dict[str, Finding]:
        """What an evaluation found: `measures` [T, B], and `over` bool [T, B] where an episode ended."""
        ...


@dataclass(frozen=True)
class State:
    """Everything about B characters and their tasks."""

    moving: Moving
    goal: Goal
    age: Tensor
    """Frames since the episode began, int64 [B]."""


@dataclass(frozen=True)
class Step:
    """What came of one frame."""

    state: State
    """After it; of characters whose episode ended, the beginning of the next."""
    observation: Tensor
    """Of `state`, [B, O]."""
    reward: Tensor
    """[B]."""
    terminated: Tensor
    """The episode ended for good, bool [B]."""
    truncated: Tensor
    """The time was up, bool [B]: what would have followed still counts."""
    final: Tensor
    """What was seen before an ended episode gave way to the next, [B, O]; elsewhere `observation`."""
    measures: dict[str, Tensor]
    """The task's, and `apart`: whose pose fell apart, [B]."""


class CharacterWorld(VectorEnv):
    """`count` characters under one task."""

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012  (Gymnasium's way)

    @dataclass(frozen=True)
    class Config:
        count: int = 256
        """Characters, B."""
        scale: float = 2.0
        """An action of 1 is a z of this: so many standard deviations of what the decoder was trained with."""
        frames: int = 1200
        """Frames of an episode."""
        effort: float = 0.05
        """Cost of a z longer than those the decoder was trained with: this times mean z^2 - 1."""
        apart: float = 1.2
        """A body has fallen apart, which ends the episode, when a joint is so many times further out than it is in any
        pose to start from, 1 being the edge of its range."""

    def __init__(self, character: Character, task: Task, config: Config = Config()) -> None:
        at_least("the number of characters", config.count, 1)
        at_least("frames of an episode", config.frames, 1)
        if not config.scale > 0:
            raise SakiyomiError(f"the scale of actions is {config.scale}; it must be more than 0")
        self.character, self.task, self.config = character, task, config
        self._positions = character.layout.part("positions")
        self._middle, self._reach = _range(character, config.apart)
        self.width = character.layout.width + task.width
        self.num_envs = config.count
        self.single_observation_space = Box(-math.inf, math.inf, (self.width,), np.float32)
        self.single_action_space = Box(-1.0, 1.0, (character.latent,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, config.count)
        self.action_space = batch_space(self.single_action_space, config.count)
        self._generator = torch.Generator(character.device)
        self._state: State | None = None

    def begin(self, generator: torch.Generator | None = None, staggered: bool = False) -> State:
        """Characters at the beginning of an episode, or `staggered`: at random times of one, so that not all of them
        begin the next one together."""
        moving = self.character.start(self.config.count, generator)
        shape, device = (self.config.count,), self.character.device
        age = torch.zeros(shape, dtype=torch.int64, device=device)
        if staggered:
            age = torch.randint(self.config.frames, shape, generator=generator, device=device)
        return State(moving, self.task.begin(moving, generator), age)

    def observe(self, state: State) -> Tensor:
        """The normalised pose and the task's part, [B, O]."""
        return observation(self.task, state.moving, state.goal)

    def latent(self, action: Tensor) -> Tensor:
        """z [B, Z] of actions; those beyond -1 .. 1 count as the nearest within."""
        return action.clamp(-1, 1) * self.config.scale

    @torch.no_grad()
    def advance(self, state: State, z: Tensor, generator: torch.Generator | None = None) -> Step:
        """One frame on, by z [B, Z]."""
        before = state.moving
        after = self.character.next(before, z)
        out = (after.pose[:, self._positions] - self._middle).abs() > self._reach
        apart = out.any(-1) | ~after.pose.isfinite().all(-1)
        after = _choose_moving(apart, before, after)
        outcome = self.task.step(before, after, state.goal, generator)
        cost = self.config.effort * (z.square().mean(-1) - 1).clamp_min(0) if self.config.effort else 0.0
        terminated = outcome.ended | apart
        truncated = (state.age + 1 >= self.config.frames) & ~terminated
        done = terminated | truncated
        reached = State(outcome.moving, outcome.goal, state.age + 1)
        final = self.observe(reached)
        # Drawn for all, used by few: to ask whether any is needed would be to wait for the device.
        fresh = self.begin(generator)
        state = State(
            _choose_moving(done, fresh.moving, reached.moving),
            {name: _choose(done, fresh.goal[name], value) for name, value in reached.goal.items()},
            _choose(done, fresh.age, reached.age),
        )
        seen_now = _choose(done, self.observe(fresh), final)
        measures = {**outcome.measures, "apart": apart}
        return Step(state, seen_now, outcome.reward - cost, terminated, truncated, final, measures)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Gymnasium's: every character begins anew. `options["staggered"]` as in `begin`."""
        if seed is not None or self._state is None:
            super().reset(seed=seed)
            self._generator.manual_seed(int(self.np_random.integers(2**62)))
        self._state = self.begin(self._generator, bool((options or {}).get("staggered", False)))
        return self.observe(self._state).cpu().numpy(), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Gymnasium's: actions [B, Z] in -1 .. 1. `info` has the task's measures, and of the characters whose episode
        ended `final_obs` and `final_info`."""
        if self._state is None:
            raise SakiyomiError("the world was not begun; call reset() before the first step()")
        action = torch.as_tensor(np.asarray(actions), dtype=torch.float32, device=self.character.device)
        expected = [self.num_envs, self.character.latent]
        if list(action.shape) != expected:
            raise SakiyomiError(f"actions have shape {list(action.shape)}, expected {expected}")
        step = self.advance(self._state, self.latent(action), self._generator)
        self._state = step.state
        terminated, truncated = step.terminated.cpu().numpy(), step.truncated.cpu().numpy()
        info = self._info(step, terminated | truncated)
        reward = step.reward.double().cpu().numpy()
        return step.observation.cpu().numpy(), reward, terminated, truncated, info

    def _info(self, step: Step, done: np.ndarray) -> dict[str, Any]:
        """In Gymnasium's form: beside each value, under an underscore, which characters have it."""
        every = np.ones(self.num_envs, bool)
        measures = {name: value.cpu().numpy() for name, value in step.measures.items()}
        info = {key: value for name, array in measures.items() for key, value in ((name, array), (f"_{name}", every))}
        if done.any():
            final = np.full(self.num_envs, None, dtype=object)
            for index, observation in zip(np.flatnonzero(done), step.final.cpu().numpy()[done], strict=True):
                final[index] = observation
            ended = {k: v for name, array in measures.items() for k, v in ((name, array), (f"_{name}", done))}
            info |= {"final_obs": final, "_final_obs": done, "final_info": ended, "_final_info": done}
        return info


def observation(task: Task, moving: Moving, goal: Goal) -> Tensor:
    """What a policy sees: the normalised pose and the task's part, [B, O]."""
    return torch.cat((moving.pose, task.observe(moving, goal)), -1)


def seen(points: Tensor, place: Tensor) -> Tensor:
    """Points (x, z) of the world [B, ..., 2] from places [B, 3], as (forward, right) of their facing frames, m."""
    between = (1,) * (points.ndim - 2)
    shift = place[:, :2].reshape(-1, *between, 2)
    return turned(points - shift, -place[:, 2].reshape(-1, *between))


def wrapped(angle: Tensor) -> Tensor:
    """The same direction in -pi .. pi."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


def uniform(low: float, high: float, like: Tensor, generator: torch.Generator | None) -> Tensor:
    """A number for each character, [B]; `like` is any tensor of theirs."""
    return low + (high - low) * torch.rand(len(like), generator=generator, device=like.device)


def _range(character: Character, times: float) -> tuple[Tensor, Tensor]:
    """Middle of the range of each joint's positions over all starts, and how far from it is `times` the range,
    normalised [3 J]. A range narrower than 5 cm counts as that: nothing falls apart by moving a millimetre."""
    part = character.layout.part("positions")
    low, high = character.starts[:, part].amin(0), character.starts[:, part].amax(0)
    half = torch.maximum((high - low) / 2, NARROWEST / 2 / character.scale[part].abs())
    return (low + high) / 2, times * half


def _choose(where: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Rows of `one` where true, of `other` elsewhere; `where` [B]."""
    return torch.where(where.reshape(-1, *(1,) * (one.ndim - 1)), one, other)


def _choose_moving(where: Tensor, one: Moving, other: Moving) -> Moving:
    return Moving(_choose(where, one.pose, other.pose), _choose(where, one.place, other.place))
