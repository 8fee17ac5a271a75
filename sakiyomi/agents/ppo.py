"""PPO, proximal policy optimisation (Schulman et al. 2017), on worlds whose steps are tensors.

    sakiyomi train target-walker

One iteration: all characters act for some frames (`collect`); how much better each action was than expected follows
from what came of it (`advantages`, Schulman et al. 2016); the policy is moved towards the better ones, a little at a
time (`losses`). `iterate` is all of it, in view. Nothing waits for the device but once an iteration.

B characters, T frames, N = B T samples, O numbers observed, A numbers of an action.
"""

import math
from dataclasses import dataclass, fields
from itertools import pairwise

import torch
from torch import Tensor, nn

from sakiyomi.errors import SakiyomiError, at_least, at_most
from sakiyomi.schedules import LearningRate, progress_at
from sakiyomi.worlds.character import CharacterWorld, State


@dataclass(frozen=True)
class Config:
    """How a policy is found."""

    frames: int = 32
    """Frames that each character acts between two updates, T."""
    epochs: int = 4
    """Times that every sample is learned from."""
    batch: int = 2048
    """Samples of a gradient step."""
    discount: float = 0.99
    """What a reward is worth one frame later (gamma)."""
    smoothing: float = 0.95
    """How far an advantage looks at what really came before it trusts the critic (lambda)."""
    clip: float = 0.2
    """How far from 1 the ratio of new to old probability still earns anything."""
    value: float = 0.5
    """Weight of the critic's loss."""
    entropy: float = 0.0
    """Weight of the entropy, which keeps actions random."""
    learning_rate: LearningRate = LearningRate(peak=3e-4, decay="cosine")
    """Adam's; its steps are iterations."""
    gradient: float = 1.0
    """Gradients are scaled down to this norm; 0 leaves them."""
    hidden: tuple[int, ...] = (256, 256)
    """Units of the hidden layers, of the actor and of the critic."""
    deviation: float = 0.3
    """Standard deviation of the actions at first; it is learned."""


class ActorCritic(nn.Module):
    """What to do, and what it will be worth: two networks of one shape. Actions are Gaussian, their deviation the same
    wherever one is."""

    def __init__(self, observation: int, action: int, config: Config) -> None:
        super().__init__()
        self.observed = observation
        self.actor = _layers(observation, config.hidden, action, last=0.01)
        self.critic = _layers(observation, config.hidden, 1, last=1.0)
        self.log_deviation = nn.Parameter(torch.full((action,), math.log(config.deviation)))

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Mean action [..., A] and value [...] of observations [..., O]."""
        return self.actor(observation), self.critic(observation)[..., 0]

    def act(self, observation: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        """Drawn actions [B, A], their log probability [B], and values [B]."""
        mean, value = self(observation)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        action = mean + self.log_deviation.exp() * noise
        return action, self.log_probability(action, mean), value

    def log_probability(self, action: Tensor, mean: Tensor) -> Tensor:
        """[...] of actions [..., A]."""
        deviations = (action - mean) * (-self.log_deviation).exp()
        return (-0.5 * deviations.square() - self.log_deviation - 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(self) -> Tensor:
        """Of the actions, the same wherever one is."""
        return (self.log_deviation + 0.5 * math.log(2 * math.pi * math.e)).sum()


@dataclass(frozen=True)
class Samples:
    """What a policy learns from; each [N, ...]."""

    observation: Tensor
    action: Tensor
    log_probability: Tensor
    """Of the action, when it was taken."""
    advantage: Tensor
    """How much better than expected it turned out."""
    worth: Tensor
    """What the critic should have said."""

    def pick(self, index: Tensor) -> "Samples":
        return Samples(*(getattr(self, field.name)[index] for field in fields(self)))


@dataclass(frozen=True)
class Collected:
    """What all characters did and what came of it; each [T, B, ...]."""

    observation: Tensor
    action: Tensor
    log_probability: Tensor
    reward: Tensor
    value: Tensor
    following: Tensor
    """Value of what came after the frame, before any new episode began; counts for nothing where terminated."""
    terminated: Tensor
    truncated: Tensor
    measures: dict[str, Tensor]


def check(config: Config) -> None:
    """Raises SakiyomiError for a number out of its range."""
    for name in ("frames", "epochs", "batch"):
        at_least(f"--agent.{name}", getattr(config, name), 1)
    for name in ("discount", "smoothing"):
        at_least(f"--agent.{name}", getattr(config, name), 0)
        at_most(f"--agent.{name}", getattr(config, name), 1)
    for name in ("value", "entropy", "gradient", "learning_rate.peak"):
        value = config.learning_rate.peak if "." in name else getattr(config, name)
        at_least(f"--agent.{name.replace('_', '-')}", value, 0)
    if not config.discount < 1:
        raise SakiyomiError("--agent.discount is 1; it must be less: rewards of all time have no sum")
    if not (config.clip > 0 and config.deviation > 0 and all(width > 0 for width in config.hidden)):
        raise SakiyomiError(f"--agent.clip, --agent.deviation and --agent.hidden must be more than 0, got {config}")


def optimizer_of(policy: ActorCritic, config: Config) -> torch.optim.Optimizer:
    return torch.optim.Adam(policy.parameters(), lr=config.learning_rate.peak, eps=1e-5, fused=True)


def iterate(
    world: CharacterWorld,
    policy: ActorCritic,
    optimizer: torch.optim.Optimizer,
    state: State,
    config: Config,
    iteration: int,
    iterations: int,
    seed: int,
) -> tuple[State, dict[str, Tensor]]:
    """One iteration of `iterations`: a function of (seed, iteration), the state and the weights, which it changes.

    Returns where the characters are now, and what there is to tell: means of losses, reward and measures.
    """
    generator = progress_at(iteration, iterations, seed, world.character.device).generator
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate.at(iteration, iterations)

    # act
    collected, state = collect(world, policy, state, config.frames, generator)

    # what it was worth; rewards count (1 - discount), so that a value is a mean of rewards, whatever the discount
    advantage = advantages(
        collected.reward * (1 - config.discount),
        collected.value,
        collected.following,
        collected.terminated,
        collected.truncated,
        config.discount,
        config.smoothing,
    )
    samples = flatten(collected, advantage)

    # learn
    told: dict[str, list[Tensor]] = {}
    for _ in range(config.epochs):
        order = torch.randperm(len(samples.advantage), generator=generator, device=advantage.device)
        for index in order.split(config.batch):
            found = losses(policy, samples.pick(index), config)
            total = found["policy"] + config.value * found["value"] - config.entropy * found["entropy"]
            total.mean().backward()
            norm = nn.utils.clip_grad_norm_(policy.parameters(), config.gradient or math.inf)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            for name, value in {**found, "gradient_norm": norm}.items():
                told.setdefault(name, []).append(value.detach().mean())

    means = {name: torch.stack(values).mean() for name, values in told.items()}
    means |= {"reward": collected.reward.mean(), "deviation": policy.log_deviation.detach().exp().mean()}
    means |= {"explained": explained(collected.value, advantage + collected.value)}
    means |= {f"task/{name}": value.float().mean() for name, value in collected.measures.items()}
    means |= {"terminated": collected.terminated.float().mean()}
    return state, means


@torch.no_grad()
def collect(
    world: CharacterWorld, policy: ActorCritic, state: State, frames: int, generator: torch.Generator
) -> tuple[Collected, State]:
    """Let all characters act for `frames`; also where they are then."""
    rows: list[dict[str, Tensor]] = []
    finals: list[Tensor] = []
    measures: dict[str, list[Tensor]] = {}
    observation = world.observe(state)
    for _ in range(frames):
        action, log_probability, value = policy.act(observation, generator)
        step = world.advance(state, world.latent(action), generator)
        rows.append(
            {
                "observation": observation,
                "action": action,
                "log_probability": log_probability,
                "reward": step.reward,
                "value": value,
                "terminated": step.terminated,
                "truncated": step.truncated,
            }
        )
        finals.append(step.final)
        for name, measure in step.measures.items():
            measures.setdefault(name, []).append(measure)
        state, observation = step.state, step.observation
    stacked = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    last = policy(observation)[1]
    following = torch.cat((stacked["value"][1:], last[None]))
    # Where the time was up, the next frame's value is of another episode: ask what was seen last in this one.
    cut = stacked["truncated"].nonzero()
    if len(cut):
        following[cut[:, 0], cut[:, 1]] = policy(torch.stack([finals[t][b] for t, b in cut.tolist()]))[1]
    return Collected(**stacked, following=following, measures={n: torch.stack(m) for n, m in measures.items()}), state


def advantages(
    reward: Tensor,
    value: Tensor,
    following: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    discount: float,
    smoothing: float,
) -> Tensor:
    """Generalised advantage estimation (Schulman et al. 2016), all [T, B].

    A_t = sum over k of (discount smoothing)^k d_{t+k} up to the episode's end, d_t = r_t + discount V'_t - V_t, where
    V' = `following` is 0 after a termination. A truncation ends the sum, but not what is to be expected.
    """
    surprise = reward + discount * following * ~terminated - value
    goes_on = discount * smoothing * (~(terminated | truncated)).to(reward.dtype)
    out = torch.empty_like(surprise)
    ahead = torch.zeros_like(surprise[0])
    for t in reversed(range(len(surprise))):
        ahead = surprise[t] + goes_on[t] * ahead
        out[t] = ahead
    return out


def flatten(collected: Collected, advantage: Tensor) -> Samples:
    """Frames and characters as one row of samples; advantages with mean 0 and deviation 1."""
    even = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    worth = advantage + collected.value
    parts = (collected.observation, collected.action, collected.log_probability, even, worth)
    return Samples(*(part.flatten(0, 1) for part in parts))


def losses(policy: ActorCritic, samples: Samples, config: Config) -> dict[str, Tensor]:
    """`policy` [N], `value` [N] and `entropy` (no loss: it is weighed with a minus); `clipped` and `divergence` only
    tell: the share of samples out of reach, and the KL divergence from the policy that acted."""
    mean, value = policy(samples.observation)
    change = policy.log_probability(samples.action, mean) - samples.log_probability
    ratio = change.exp()
    within = ratio.clamp(1 - config.clip, 1 + config.clip)
    return {
        # The smaller of the two: leaving the range never pays, coming back always does.
        "policy": -torch.minimum(ratio * samples.advantage, within * samples.advantage),
        "value": (value - samples.worth).square(),
        "entropy": policy.entropy(),
        "clipped": (ratio != within).float(),
        "divergence": ratio - 1 - change,
    }


def explained(value: Tensor, worth: Tensor) -> Tensor:
    """Share of the variance of what came that the critic had foreseen; 1 is all of it."""
    return 1 - (worth - value).var() / worth.var().clamp_min(1e-12)


def _layers(width: int, hidden: tuple[int, ...], out: int, last: float) -> nn.Sequential:
    """Linear layers with ELU between, orthogonal weights, the last ones scaled by `last`."""
    widths = (width, *hidden, out)
    layers: list[nn.Module] = []
    for index, (before, after) in enumerate(pairwise(widths)):
        layer = nn.Linear(before, after)
        nn.init.orthogonal_(layer.weight, last if index == len(hidden) else math.sqrt(2))
        nn.init.zeros_(layer.bias)
        layers += [layer] if index == len(hidden) else [layer, nn.ELU()]
    return nn.Sequential(*layers)
