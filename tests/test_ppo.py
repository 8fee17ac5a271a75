"""PPO keeps its laws: advantages, truncation, clipping, gradients, the same run from the same seed; and it learns."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from gliding import gliding
from torch import Tensor

from sakiyomi.agents import ppo
from sakiyomi.agents.ppo import ActorCritic, Samples, advantages, collect, flatten, iterate, losses, optimizer_of
from sakiyomi.errors import SakiyomiError
from sakiyomi.schedules import LearningRate
from sakiyomi.worlds.character import CharacterWorld, State
from sakiyomi.worlds.target import Target

DISCOUNT, SMOOTHING = 0.9, 0.8
SMALL = ppo.Config(frames=8, batch=64, hidden=(16,))


def drawn(frames: int = 12, characters: int = 5) -> dict[str, Tensor]:
    """Made up rewards, values and ends of episodes, [T, B]; some characters end both ways."""
    random = torch.Generator().manual_seed(0)
    shape = (frames, characters)
    numbers = {name: torch.randn(shape, generator=random, dtype=torch.float64) for name in ("reward", "value")}
    terminated = torch.rand(shape, generator=random) < 0.15
    truncated = (torch.rand(shape, generator=random) < 0.15) & ~terminated
    assert terminated.any()
    assert truncated.any()
    # What follows is the next value, and where the time was up something of its own.
    following = torch.cat((numbers["value"][1:], torch.randn(1, characters, generator=random, dtype=torch.float64)))
    following = torch.where(truncated, torch.randn(shape, generator=random, dtype=torch.float64), following)
    return {**numbers, "following": following, "terminated": terminated, "truncated": truncated}


def as_numpy(given: dict[str, Tensor], name: str) -> np.ndarray:
    return given[name].numpy()


def test_an_advantage_is_the_sum_that_defines_it() -> None:
    """Schulman et al. 2016, equation 16, added up one by one."""
    given = drawn()
    found = advantages(**given, discount=DISCOUNT, smoothing=SMOOTHING)
    ended = as_numpy(given, "terminated") | as_numpy(given, "truncated")
    frames, characters = ended.shape
    for b in range(characters):
        for t in range(frames):
            total, weight = 0.0, 1.0
            for k in range(t, frames):
                following = 0.0 if given["terminated"][k, b] else float(given["following"][k, b])
                total += weight * (float(given["reward"][k, b]) + DISCOUNT * following - float(given["value"][k, b]))
                weight *= DISCOUNT * SMOOTHING
                if ended[k, b]:
                    break
            assert float(found[t, b]) == pytest.approx(total, abs=1e-12)


def test_without_smoothing_it_is_one_step_and_with_all_of_it_the_whole_return() -> None:
    given = drawn()
    value, reward, following = given["value"], given["reward"], given["following"]
    alive = ~given["terminated"]
    one_step = reward + DISCOUNT * following * alive - value
    torch.testing.assert_close(advantages(**given, discount=DISCOUNT, smoothing=0.0), one_step)
    worth = torch.zeros_like(value)
    ahead = following[-1]
    for t in reversed(range(len(value))):
        ahead = torch.where(given["truncated"][t], following[t], ahead) * alive[t]
        ahead = reward[t] + DISCOUNT * ahead
        worth[t] = ahead
    torch.testing.assert_close(advantages(**given, discount=DISCOUNT, smoothing=1.0), worth - value)


def test_a_truncation_still_expects_what_would_have_followed_and_a_termination_nothing() -> None:
    """Reward 1 for ever is worth 1 / (1 - discount); a critic that knows it is surprised by an end for good alone."""
    worth = 1 / (1 - DISCOUNT)
    frames = torch.zeros(6, 1, dtype=torch.bool)
    cut = frames.clone()
    cut[3] = True
    full = torch.full((6, 1), worth, dtype=torch.float64)
    given = {"reward": torch.ones(6, 1, dtype=torch.float64), "value": full, "following": full}
    truncated = advantages(**given, terminated=frames, truncated=cut, discount=DISCOUNT, smoothing=SMOOTHING)
    torch.testing.assert_close(truncated, torch.zeros_like(truncated))
    terminated = advantages(**given, terminated=cut, truncated=frames, discount=DISCOUNT, smoothing=SMOOTHING)
    expected = [-DISCOUNT * worth * (DISCOUNT * SMOOTHING) ** (3 - t) if t <= 3 else 0.0 for t in range(6)]
    np.testing.assert_allclose(terminated[:, 0].numpy(), expected, atol=1e-12)


def world(count: int = 6, frames: int = 5, scale: float = 3.0) -> CharacterWorld:
    character = gliding()
    config = CharacterWorld.Config(count=count, frames=frames, scale=scale)
    return CharacterWorld(character, Target(Target.Config(), character), config)


def policy_for(world: CharacterWorld, config: ppo.Config = SMALL, seed: int = 0) -> ActorCritic:
    torch.manual_seed(seed)
    return ActorCritic(world.width, world.character.latent, config)


def begin(world: CharacterWorld, seed: int = 0) -> State:
    return world.begin(torch.Generator().manual_seed(seed), staggered=True)


def test_what_follows_a_truncation_is_the_value_of_what_was_seen_last() -> None:
    """Of the same episode: not of the beginning of the next one, which the next observation shows."""
    there = world()
    policy, state = policy_for(there), begin(there)
    collected, _ = collect(there, policy, state, 12, torch.Generator().manual_seed(1))
    assert collected.truncated.any()
    assert not collected.truncated.all()
    # Lived through once more by hand.
    generator = torch.Generator().manual_seed(1)
    observation = there.observe(state)
    with torch.no_grad():
        for t in range(12):
            action, _, value = policy.act(observation, generator)
            torch.testing.assert_close(collected.observation[t], observation)
            torch.testing.assert_close(collected.action[t], action)
            torch.testing.assert_close(collected.value[t], value)
            step = there.advance(state, there.latent(action), generator)
            torch.testing.assert_close(collected.following[t], policy(step.final)[1])
            state, observation = step.state, step.observation


def samples_of(policy: ActorCritic, change: Tensor, advantage: Tensor) -> Samples:
    """One observation each whose action is now e^change as probable as when it was taken."""
    observation = torch.randn(len(change), policy.observed, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mean, value = policy(observation)
        action = mean + 0.1
        before = policy.log_probability(action, mean) - change
    return Samples(observation, action, before, advantage, value + 1)


@pytest.mark.parametrize(
    ("ratio", "advantage", "moves"),
    [(1.0, 1.0, True), (1.5, 1.0, False), (0.5, 1.0, True), (1.0, -1.0, True), (1.5, -1.0, True), (0.5, -1.0, False)],
)
def test_nothing_is_earned_beyond_the_clip_and_coming_back_always_is(
    ratio: float, advantage: float, moves: bool
) -> None:
    policy = policy_for(world())
    samples = samples_of(policy, torch.tensor([math.log(ratio)]), torch.tensor([advantage]))
    found = losses(policy, samples, SMALL)
    told = {name: float(value.detach()) for name, value in found.items() if name != "entropy"}
    expected = -min(ratio * advantage, min(max(ratio, 0.8), 1.2) * advantage)
    assert told["policy"] == pytest.approx(expected, rel=1e-5)
    assert told["value"] == pytest.approx(1.0, rel=1e-5)
    assert told["divergence"] == pytest.approx(ratio - 1 - math.log(ratio), abs=1e-5)
    assert bool(told["clipped"]) == (abs(ratio - 1) > 0.2)
    found["policy"].sum().backward()
    gradient = dict(policy.named_parameters())["actor.2.weight"].grad
    assert gradient is not None
    assert bool((gradient.abs() > 0).any()) is moves


def test_the_probability_is_a_gaussians_and_its_entropy_too() -> None:
    policy = policy_for(world())
    with torch.no_grad():
        policy.log_deviation.copy_(torch.tensor([-1.0, 0.5]))
    mean, action = torch.randn(7, 2), torch.randn(7, 2)
    normal = torch.distributions.Normal(mean, policy.log_deviation.exp())
    torch.testing.assert_close(policy.log_probability(action, mean), normal.log_prob(action).sum(-1))
    torch.testing.assert_close(policy.entropy(), normal.entropy()[0].sum())
    observation = torch.zeros(20_000, policy.observed)
    drawn, told, _ = policy.act(observation, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.std(0), policy.log_deviation.exp(), rtol=0.02, atol=0)
    torch.testing.assert_close(told, policy.log_probability(drawn, policy(observation)[0]))


def test_gradients_are_those_of_finite_differences() -> None:
    """Of the whole loss, in float64, along random directions through all weights."""
    policy = policy_for(world()).double()
    n = 40
    random = torch.Generator().manual_seed(3)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    observation, action = noise(n, policy.observed), 0.3 * noise(n, 2)
    with torch.no_grad():
        before = policy.log_probability(action, policy(observation)[0]) + 0.3 * noise(n)
    samples = Samples(observation, action, before, noise(n), noise(n))

    def total() -> Tensor:
        found = losses(policy, samples, SMALL)
        return (found["policy"] + 0.5 * found["value"] - 0.01 * found["entropy"]).mean()

    total().backward()
    for parameter in policy.parameters():
        assert parameter.grad is not None
        way, step = noise(*parameter.shape), 1e-6
        slope = float((parameter.grad * way).sum())
        with torch.no_grad():
            parameter += step * way
            up = float(total())
            parameter -= 2 * step * way
            down = float(total())
            parameter += step * way
        assert (up - down) / (2 * step) == pytest.approx(slope, rel=1e-4, abs=1e-7)


def run(iterations: int, seed: int = 0, config: ppo.Config = SMALL) -> tuple[ActorCritic, State]:
    there = world(frames=20)
    policy = policy_for(there, config, seed)
    optimizer, state = optimizer_of(policy, config), begin(there, seed)
    for iteration in range(iterations):
        state, _ = iterate(there, policy, optimizer, state, config, iteration, 10, seed)
    return policy, state


def test_the_same_seed_is_the_same_run_and_another_one_is_not() -> None:
    (a, there), (b, too), (c, _) = run(3), run(3), run(3, seed=1)
    for name, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[name])
    assert torch.equal(there.moving.place, too.moving.place)
    assert not torch.equal(a.state_dict()["actor.0.weight"], c.state_dict()["actor.0.weight"])


def test_an_iteration_does_not_ask_what_was_drawn_before_it() -> None:
    """It is a function of (seed, iteration): PyTorch's own randomness changes nothing."""
    there = world(frames=20)
    found = []
    for disturbance in (0, 1):
        policy = policy_for(there)
        optimizer, state = optimizer_of(policy, SMALL), begin(there)
        torch.manual_seed(100 + disturbance)
        state, _ = iterate(there, policy, optimizer, state, SMALL, 4, 10, 0)
        found.append((policy.state_dict()["actor.0.weight"], state.moving.pose))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_the_learning_rate_follows_its_schedule() -> None:
    there = world()
    config = replace(SMALL, learning_rate=LearningRate(peak=1e-3, decay="cosine"))
    policy, state = policy_for(there, config), begin(there)
    optimizer = optimizer_of(policy, config)
    for iteration in (0, 5, 9):
        state, _ = iterate(there, policy, optimizer, state, config, iteration, 10, 0)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(config.learning_rate.at(iteration, 10))


def test_every_epoch_takes_all_samples_in_batches() -> None:
    """6 characters for 8 frames are 48 samples: batches of 20, 20 and 8."""
    there, config = world(), replace(SMALL, batch=20, epochs=3)
    policy, state = policy_for(there, config), begin(there)
    optimizer = optimizer_of(policy, config)
    iterate(there, policy, optimizer, state, config, 0, 10, 0)
    assert {int(values["step"]) for values in optimizer.state.values()} == {3 * 3}


def test_entropy_is_worth_something_to_those_who_ask_for_it() -> None:
    there, deviations = world(), []
    for entropy in (0.0, 0.5):
        config = replace(SMALL, entropy=entropy, learning_rate=LearningRate(peak=3e-3))
        policy, state = policy_for(there, config), begin(there)
        optimizer = optimizer_of(policy, config)
        for iteration in range(5):
            state, _ = iterate(there, policy, optimizer, state, config, iteration, 10, 0)
        deviations.append(float(policy.log_deviation.detach().exp().mean()))
    assert deviations[1] > 1.02 * deviations[0]
    assert deviations[1] > SMALL.deviation


def test_every_sample_is_learned_from_and_advantages_are_evened() -> None:
    there = world()
    collected, _ = collect(there, policy_for(there), begin(there), 9, torch.Generator().manual_seed(0))
    advantage = advantages(
        collected.reward,
        collected.value,
        collected.following,
        collected.terminated,
        collected.truncated,
        DISCOUNT,
        SMOOTHING,
    )
    samples = flatten(collected, advantage)
    assert samples.observation.shape == (54, there.width)
    assert float(samples.advantage.mean()) == pytest.approx(0, abs=1e-5)
    assert float(samples.advantage.std()) == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(samples.worth, (advantage + collected.value).flatten())
    some = samples.pick(torch.tensor([3, 50]))
    torch.testing.assert_close(some.action, collected.action.flatten(0, 1)[[3, 50]])


def test_it_learns_where_to_glide() -> None:
    """In some seconds: from targets met by chance to many a minute, and the critic foresees it."""
    there = world(count=64, frames=300)
    config = ppo.Config(frames=32, batch=512, hidden=(32,), learning_rate=LearningRate(peak=3e-3))
    policy = policy_for(there, config)
    optimizer, state = optimizer_of(policy, config), begin(there)
    told = []
    for iteration in range(40):
        state, means = iterate(there, policy, optimizer, state, config, iteration, 40, 0)
        told.append({name: float(value) for name, value in means.items()})
    early, late = told[:5], told[-5:]
    assert np.mean([t["reward"] for t in late]) > 0.6
    assert np.mean([t["reward"] for t in early]) < 0.3
    assert np.mean([t["task/reached"] for t in late]) > 4 * np.mean([t["task/reached"] for t in early])
    assert late[-1]["explained"] > 0.3
    # A value is a mean of rewards, not their sum.
    foreseen = float(policy(there.observe(state))[1].detach().mean())
    assert foreseen == pytest.approx(np.mean([t["reward"] for t in late]), abs=0.3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 0}, "--agent.frames is 0; it must be at least 1"),
        ({"discount": 1.5}, "--agent.discount is 1.5; it must be at most 1"),
        ({"discount": 1.0}, "--agent.discount is 1; it must be less"),
        ({"entropy": math.nan}, "--agent.entropy is nan; it must be at least 0"),
        ({"learning_rate": LearningRate(peak=-1)}, "--agent.learning-rate.peak is -1; it must be at least 0"),
        ({"clip": 0.0}, "must be more than 0"),
    ],
)
def test_a_number_out_of_range_is_named(change: dict, message: str) -> None:
    ppo.check(ppo.Config())
    with pytest.raises(SakiyomiError, match=message):
        ppo.check(replace(ppo.Config(), **change))
