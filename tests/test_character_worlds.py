"""Worlds of characters keep their laws: nothing moves but by z, walls hold, ends are told, everybody's agents fit."""

import math
from collections import deque
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gliding import INERTIA, LAYOUT, RATE, SPEED, SPEED_DEVIATION, TURN_DEVIATION, Gliding, gliding, physical
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from torch import Tensor

from sakiyomi.control import TASKS
from sakiyomi.errors import SakiyomiError
from sakiyomi.motion.character import Character, Moving
from sakiyomi.worlds import maze as mazes
from sakiyomi.worlds.character import CharacterWorld, State, Task, observation, seen, wrapped
from sakiyomi.worlds.joystick import Joystick
from sakiyomi.worlds.maze import Maze
from sakiyomi.worlds.path import FollowPath, at, even
from sakiyomi.worlds.target import Target


def make(name: str, character: Character) -> Task:
    return TASKS[name](TASKS[name].Config(), character)


def world(name: str = "target", count: int = 8, frames: int = 50, **changes: Any) -> CharacterWorld:
    character = gliding()
    return CharacterWorld(character, make(name, character), CharacterWorld.Config(count, frames=frames, **changes))


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def standing(*places: tuple[float, float, float], speed: float = SPEED) -> Moving:
    """Characters of the gliding kind at x, z, facing."""
    character = gliding(physical(speed)[None])
    return Moving(character.starts.expand(len(places), -1), torch.tensor(places))


# --- the world ---


def test_a_step_is_what_the_decoder_says() -> None:
    """Speed and turn follow z with inertia, worked out by hand; the place follows from them."""
    there = world(count=1, scale=2.0)
    state = there.begin(random())
    z = there.latent(torch.tensor([[0.5, -0.25]]))
    assert z.tolist() == [[1.0, -0.5]]
    speed, turn = float(there.character.physical(state.moving.pose)[0, 0]), 0.0
    x = y = facing = 0.0
    for _ in range(5):
        speed = INERTIA * speed + (1 - INERTIA) * (SPEED + SPEED_DEVIATION * 1.0)
        turn = INERTIA * turn + (1 - INERTIA) * TURN_DEVIATION * -0.5
        x, y = x + math.cos(facing) * speed / RATE, y + math.sin(facing) * speed / RATE
        facing += turn / RATE
        state = there.advance(state, z, random()).state
        assert state.moving.place[0].tolist() == pytest.approx([x, y, facing], abs=1e-5)


def test_actions_beyond_one_count_as_one() -> None:
    there = world(scale=3.0)
    assert there.latent(torch.tensor([[5.0, -2.0]])).tolist() == [[3.0, -3.0]]


@pytest.mark.parametrize("name", TASKS)
def test_steps_are_functions_of_what_goes_in(name: str) -> None:
    """Same state, z and seed: same everything; what went in is not changed."""
    there = world(name)
    state = there.begin(random(1), staggered=True)
    before = {**vars(state.moving), **state.goal, "age": state.age}
    before = {key: value.clone() for key, value in before.items()}
    z = torch.randn(8, 2, generator=random(2))
    one, two = there.advance(state, z, random(3)), there.advance(state, z, random(3))
    for key, value in {**vars(state.moving), **state.goal, "age": state.age}.items():
        assert torch.equal(value, before[key])
    for a, b in zip(leaves(one), leaves(two), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", TASKS)
def test_what_a_character_does_changes_nothing_for_the_others(name: str) -> None:
    there = world(name)
    state = there.begin(random(1))
    z = torch.randn(8, 2, generator=random(2))
    other = z.clone()
    other[3] = -z[3]
    one, two = there.advance(state, z, random(3)), there.advance(state, other, random(3))
    assert not torch.equal(one.state.moving.pose[3], two.state.moving.pose[3])
    kept = [0, 1, 2, 4, 5, 6, 7]
    for a, b in zip(leaves(one), leaves(two), strict=True):
        assert torch.equal(a[kept], b[kept])


def leaves(step: Any) -> list[Tensor]:
    state: State = step.state
    parts = [*vars(state.moving).values(), *state.goal.values(), state.age, *step.measures.values()]
    return [*parts, step.observation, step.reward, step.terminated, step.truncated, step.final]


@pytest.mark.parametrize("name", TASKS)
def test_nobody_can_tell_where_in_the_world_it_is(name: str) -> None:
    """Moved and turned together with its goal, a character sees the same."""
    character = gliding()
    task = make(name, character)
    moving = standing((1.0, -2.0, 0.3), (0.0, 0.5, -2.0), (3.0, 1.0, 6.0))
    goal = task.begin(moving, random())
    quarter = math.pi / 2 if name == "maze" else 0.7  # walls stand along the axes
    cos, sin = math.cos(quarter), math.sin(quarter)
    spin = torch.tensor([[cos, sin], [-sin, cos]])  # rows (x, z) of points that turn by `quarter`
    shift = torch.tensor([5.0, -3.0])
    place = torch.cat((moving.place[:, :2] @ spin + shift, moving.place[:, 2:] + quarter), -1)
    moved = {key: value @ spin + shift if key in ("target", "path") else value for key, value in goal.items()}
    if "heading" in goal:
        moved["heading"] = goal["heading"] + quarter
    if name == "maze":
        moved = turned_maze(goal, spin, shift, task.config.cells * task.config.cell)  # pyright: ignore
    torch.testing.assert_close(
        task.observe(Moving(moving.pose, place), moved), task.observe(moving, goal), atol=1e-4, rtol=1e-4
    )


def turned_maze(goal: dict[str, Tensor], spin: Tensor, shift: Tensor, side: float) -> dict[str, Tensor]:
    """A quarter turn from x to z: columns become rows, rows become columns counted backwards."""
    return {
        "walls_x": goal["walls_z"].transpose(1, 2).flip(2),
        "walls_z": goal["walls_x"].transpose(1, 2).flip(2),
        "entered": goal["entered"].transpose(1, 2).flip(2),
        "corner": goal["corner"] @ spin + shift - torch.tensor([side, 0.0]),
    }


def test_an_episode_ends_when_its_time_is_up_and_the_next_one_begins_in_the_same_step() -> None:
    there = world(count=2, frames=3)
    state = there.begin(random())
    z = torch.ones(2, 2)
    for frame in range(7):
        before, step = state, there.advance(state, z, random(frame))
        state = step.state
        up = frame % 3 == 2
        assert step.truncated.tolist() == [up, up]
        assert not step.terminated.any()
        assert state.age.tolist() == [0, 0] if up else [frame % 3 + 1] * 2
        torch.testing.assert_close(step.observation, there.observe(state))
        if up:
            assert not state.moving.place.any()
            after = there.character.next(before.moving, z)
            reached = there.task.step(before.moving, after, before.goal, random(frame))
            torch.testing.assert_close(step.final, observation(there.task, after, reached.goal))
        else:
            assert torch.equal(step.final, step.observation)


def test_staggered_characters_do_not_end_together() -> None:
    there = world(count=100, frames=50)
    ages = there.begin(random(), staggered=True).age
    assert int(ages.min()) >= 0
    assert 40 <= int(ages.max()) < 50
    assert len(ages.unique()) > 30
    assert not there.begin(random()).age.any()


class Breaking(Gliding):
    """Falls apart where z[0] is over 2: one way or the other."""

    def __init__(self, into: float) -> None:
        self.into = into

    def decode(self, z: Tensor, pose: Tensor) -> Tensor:
        return torch.where(z[:, :1] > 2, torch.full_like(pose, self.into), super().decode(z, pose))


@pytest.mark.parametrize("into", [math.nan, math.inf, 1e6])
def test_a_pose_that_falls_apart_ends_its_episode_and_harms_nobody(into: float) -> None:
    character = gliding(model=Breaking(into))
    there = CharacterWorld(character, make("target", character), CharacterWorld.Config(3))
    state = there.begin(random())
    step = there.advance(state, torch.tensor([[0.0, 0.0], [2.5, 0.0], [1.0, 1.0]]), random(1))
    assert step.terminated.tolist() == [False, True, False]
    assert step.measures["apart"].tolist() == [False, True, False]
    assert step.state.age.tolist() == [1, 0, 1]
    for value in leaves(step):
        assert torch.isfinite(value.float()).all()
    # What fell apart when its time was up did not run out of time: nothing was to be expected any more.
    there = CharacterWorld(character, make("target", character), CharacterWorld.Config(2, frames=1))
    step = there.advance(there.begin(random()), torch.tensor([[0.0, 0.0], [2.5, 0.0]]), random(1))
    assert (step.terminated.tolist(), step.truncated.tolist()) == ([False, True], [True, False])


class Stretching(Gliding):
    """The head is z[0] m higher than it was."""

    def decode(self, z: Tensor, pose: Tensor) -> Tensor:
        lifted = super().decode(z, pose)
        lifted[:, LAYOUT.names.index("positions.head.y")] += z[:, 0]
        return lifted


def test_a_body_has_fallen_apart_when_a_joint_leaves_the_range_of_the_starts_so_many_times() -> None:
    """The head of the starts is 1.6 m or 2 m high: 1.5 times that range reaches from 1.5 m to 2.1 m."""
    starts = torch.stack([physical(), physical()])
    starts[1, LAYOUT.names.index("positions.head.y")] = 2.0
    character = gliding(starts, Stretching())
    there = CharacterWorld(character, make("target", character), CharacterWorld.Config(4, apart=1.5))
    state = there.begin(random())
    state = replace(state, moving=Moving(character.starts[[0, 0, 0, 0]], state.moving.place))
    z = torch.tensor([[0.49, 0], [0.51, 0], [-0.09, 0], [-0.11, 0]])
    assert there.advance(state, z, random(1)).terminated.tolist() == [False, True, False, True]
    # The pelvis never moves in the starts: it has 5 cm all the same, and so has the head of the ordinary body.
    character = gliding(model=Stretching())
    there = CharacterWorld(character, make("target", character), CharacterWorld.Config(4, apart=1.5))
    z = torch.tensor([[0.037, 0], [0.038, 0], [-0.037, 0], [-0.038, 0]])
    assert there.advance(there.begin(random()), z, random(1)).terminated.tolist() == [False, True, False, True]


def test_effort_costs_what_it_says() -> None:
    z = torch.tensor([[0.5, 0.5], [1.0, 1.0], [2.0, 1.0]])
    rewards = []
    for effort in (0.0, 0.1):
        there = world(count=3, effort=effort)
        rewards.append(there.advance(there.begin(random()), z, random(1)).reward)
    torch.testing.assert_close(rewards[0] - rewards[1], torch.tensor([0.0, 0.0, 0.1 * 1.5]))


# --- Gymnasium and stable-baselines3 ---


def test_gymnasium_gets_what_the_tensors_say() -> None:
    there = world("target", count=4, frames=5)
    assert there.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    first, info = there.reset(seed=3)
    assert info == {}
    assert there.observation_space.contains(first)
    assert first.dtype == np.float32
    state = there._state
    assert state is not None
    generator = torch.Generator()
    generator.set_state(there._generator.get_state())
    for frame in range(12):
        there.action_space.seed(frame)
        action = there.action_space.sample()
        told, reward, terminated, truncated, info = there.step(action)
        step = there.advance(state, there.latent(torch.from_numpy(action)), generator)
        state = step.state
        np.testing.assert_array_equal(told, step.observation.numpy())
        np.testing.assert_array_equal(reward, step.reward.double().numpy())
        np.testing.assert_array_equal(truncated, step.truncated.numpy())
        np.testing.assert_array_equal(info["distance"], step.measures["distance"].numpy())
        assert truncated.all() == (frame % 5 == 4)
        assert not terminated.any()
        assert ("final_obs" in info) == truncated.any()
        if truncated.any():
            np.testing.assert_array_equal(np.stack(list(info["final_obs"])), step.final.numpy())
            assert info["_final_obs"].all()


def test_the_same_seed_gives_the_same_frames_and_another_does_not() -> None:
    there = world()
    action = np.full((8, 2), 0.3, np.float32)

    def live(seed: int | None) -> np.ndarray:
        there.reset(seed=seed)
        return np.stack([there.step(action)[0] for _ in range(60)])

    one = live(5)
    np.testing.assert_array_equal(live(5), one)
    assert not np.array_equal(live(6), one)
    assert not np.array_equal(live(None), one)


def test_gymnasiums_wrappers_fit() -> None:
    there = RecordEpisodeStatistics(world(count=3, frames=7))
    there.reset(seed=0)
    total, truncated, info = np.zeros(3), np.zeros(3, bool), {}
    for _ in range(7):
        _, reward, _, truncated, info = there.step(np.zeros((3, 2), np.float32))
        total += reward
    assert truncated.all()
    np.testing.assert_allclose(info["episode"]["r"], total)
    assert info["episode"]["l"].tolist() == [7, 7, 7]


def test_a_world_must_begin_and_takes_actions_of_its_shape() -> None:
    there = world()
    with pytest.raises(SakiyomiError, match=r"call reset\(\)"):
        there.step(np.zeros((8, 2)))
    there.reset(seed=0)
    with pytest.raises(SakiyomiError, match=r"actions have shape \[8, 3\], expected \[8, 2\]"):
        there.step(np.zeros((8, 3)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, "number of characters is 0; it must be at least 1"),
        ({"frames": 0}, "frames of an episode is 0"),
        ({"scale": math.nan}, "scale of actions is nan; it must be more than 0"),
    ],
)
def test_a_world_says_which_number_is_wrong(change: dict, message: str) -> None:
    character = gliding()
    with pytest.raises(SakiyomiError, match=message):
        CharacterWorld(character, make("target", character), replace(CharacterWorld.Config(), **change))


def test_stable_baselines_trains_on_it() -> None:
    stable_baselines3 = pytest.importorskip("stable_baselines3", reason="stable-baselines3 is not installed")
    from sakiyomi.worlds.stable_baselines import StableBaselines

    there = StableBaselines(world("joystick", count=32, frames=100))
    agent = stable_baselines3.PPO(
        "MlpPolicy",
        there,
        n_steps=16,
        batch_size=256,
        n_epochs=8,
        learning_rate=1e-3,
        gamma=0.95,
        seed=0,
        device="cpu",
        policy_kwargs={"net_arch": [32]},
    )

    def earned() -> float:
        there.seed(0)
        seen, total = there.reset(), []
        for _ in range(100):
            seen, reward, _, _ = there.step(agent.predict(seen, deterministic=True)[0])
            total.append(reward.mean())
        return float(np.mean(total))

    before = earned()
    agent.learn(32 * 16 * 20)
    assert earned() > before + 0.2


def test_stable_baselines_is_told_why_an_episode_ended() -> None:
    pytest.importorskip("stable_baselines3", reason="stable-baselines3 is not installed")
    from sakiyomi.worlds.stable_baselines import StableBaselines

    character = gliding(model=Breaking(math.nan))
    there = StableBaselines(CharacterWorld(character, make("target", character), CharacterWorld.Config(2, 3.0, 3)))
    there.reset()
    _, _, done, infos = there.step(np.array([[1.0, 0.0], [0.0, 0.0]], np.float32))
    assert done.tolist() == [True, False]
    assert infos[0]["TimeLimit.truncated"] is False
    assert infos[0]["terminal_observation"].shape == (there.world.width,)
    assert "terminal_observation" not in infos[1]
    there.step(np.zeros((2, 2), np.float32))
    _, _, done, infos = there.step(np.zeros((2, 2), np.float32))
    assert done.tolist() == [False, True]
    assert infos[1]["TimeLimit.truncated"] is True
    assert there.get_attr("num_envs") == [2, 2]
    assert isinstance(there.action_space, gymnasium.spaces.Box)
    with pytest.raises(SakiyomiError, match="step_async"):
        there.step_wait()


# --- directions ---


def test_what_is_seen_is_what_layout_turns_back() -> None:
    place = torch.tensor([[1.0, 2.0, 0.0], [1.0, 2.0, math.pi / 2]])
    points = torch.tensor([[3.0, 2.5], [3.0, 2.5]])
    torch.testing.assert_close(seen(points, place), torch.tensor([[2.0, 0.5], [0.5, -2.0]]))
    torch.testing.assert_close(seen(points[:, None], place)[:, 0], seen(points, place))


def test_wrapped_is_the_same_direction_within_half_a_turn() -> None:
    angle = torch.linspace(-20, 20, 401, dtype=torch.float64)
    found = wrapped(angle)
    assert float(found.abs().max()) <= math.pi + 1e-12
    torch.testing.assert_close(found.cos(), angle.cos())
    torch.testing.assert_close(found.sin(), angle.sin())


# --- target ---


def target(**changes: Any) -> Target:
    return Target(Target.Config(**changes), gliding())


def test_targets_lie_around_in_the_ring_evenly() -> None:
    moving = standing(*[(3.0, -1.0, 0.5)] * 4000)
    away = target().begin(moving, random())["target"] - moving.place[:, :2]
    distance, angle = away.norm(dim=-1), torch.atan2(away[:, 1], away[:, 0])
    assert 2 <= float(distance.min()) < 2.05
    assert 5.95 < float(distance.max()) <= 6
    assert float(distance.mean()) == pytest.approx(4, abs=0.1)
    counts = torch.histc(angle, 8, -math.pi, math.pi)
    assert float(counts.min()) > 400


def test_a_target_is_reached_within_its_distance_and_then_there_is_another() -> None:
    task, before = target(), standing((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    after = standing((0.1, 0.0, 0.0), (0.1, 0.0, 0.0), (0.1, 0.0, 0.0))
    goal = {"target": torch.tensor([[0.59, 0.0], [0.61, 0.0], [0.61, 0.0]]), "age": torch.tensor([5.0, 5.0, 299.0])}
    outcome = task.step(before, after, goal, random())
    assert outcome.measures["reached"].tolist() == [True, False, False]
    assert outcome.measures["missed"].tolist() == [False, False, True]
    assert outcome.goal["age"].tolist() == [0, 6, 0]
    assert torch.equal(outcome.goal["target"][1], goal["target"][1])
    assert (outcome.goal["target"][[0, 2]] - goal["target"][[0, 2]]).norm(dim=-1).min() > 1
    # 0.1 m nearer in a frame is 3 m/s, straight ahead.
    assert outcome.reward.tolist() == pytest.approx([0.7 * 3 + 0.1 + 10, 0.7 * 3 + 0.1, 0.7 * 3 + 0.1], rel=1e-4)


def test_targets_that_had_no_time_left_are_not_judged() -> None:
    task = target(within=1.0)  # 30 frames
    reached, missed = np.zeros((50, 2), bool), np.zeros((50, 2), bool)
    age = np.zeros((50, 2))
    reached[9, 0], age[9, 0] = True, 10  # appeared at the beginning
    missed[39, 0], age[39, 0] = True, 30
    reached[45, 0], age[45, 0] = True, 6  # appeared at frame 40, with 10 frames to go: too late to count
    over = np.zeros((50, 2), bool)
    over[14, 1], age[14, 1] = True, 15  # the character fell apart on its way
    found = task.judge({"reached": reached, "missed": missed, "age": age}, over)
    assert sorted(found["targets_reached"].values.tolist()) == [False, False, True]
    assert found["target_seconds"].values.tolist() == pytest.approx([10 / 30])


# --- joystick ---


def joystick(**changes: Any) -> Joystick:
    return Joystick(Joystick.Config(**changes), gliding())


def test_speeds_asked_for_are_those_of_the_starts() -> None:
    character = gliding(torch.stack([physical(float(v)) for v in np.linspace(0.2, 2.2, 201)]))
    task = Joystick(Joystick.Config(), character)
    assert (task.slowest, task.fastest) == pytest.approx((0.3, 2.1), abs=1e-5)
    goal = task.begin(Moving(character.starts, torch.zeros(201, 3)), random())
    assert 0.3 <= float(goal["speed"].min()) < float(goal["speed"].max()) <= 2.1
    assert goal["hold"].min() >= 3 * RATE
    assert goal["hold"].max() <= 7 * RATE


def test_facing_the_heading_at_the_speed_earns_most() -> None:
    task = joystick()
    headings = torch.linspace(-math.pi, math.pi, 41)[:-1]
    moving = standing(*[(0.0, 0.0, 1.0)] * 40)

    def earned(heading: Tensor, speed: float) -> Tensor:
        goal = {**task.begin(moving, random()), "heading": heading, "speed": torch.full((40,), speed)}
        return task.step(moving, moving, goal, random()).reward

    by_heading = earned(headings, SPEED)
    assert float(headings[by_heading.argmax()]) == pytest.approx(1.0, abs=0.1)
    aligned = torch.full((40,), 1.0)
    assert earned(aligned, SPEED)[0] > earned(aligned, 1.5)[0] > earned(aligned, 2.0)[0]
    assert float(earned(aligned, SPEED)[0]) == pytest.approx(1.5)
    torch.testing.assert_close(earned(aligned + 2 * math.pi, SPEED), earned(aligned, SPEED))


def test_the_wait_for_a_heading_is_counted_to_the_first_frame_within_5_degrees() -> None:
    """A character that turns 3 degrees a frame towards a heading 60 degrees away faces it after 19 frames."""
    task, turn = joystick(), math.radians(3)
    moving = standing((0.0, 0.0, 0.0))
    goal = task.begin(moving, random())
    goal |= {"heading": torch.tensor([math.radians(60.5)]), "hold": torch.tensor([40.0])}
    waited, changes = [], []
    for frame in range(40):
        after = standing((0.0, 0.0, turn * (frame + 1)))
        outcome = task.step(moving, after, goal, random(frame))
        moving, goal = after, outcome.goal
        waited.append(float(outcome.measures["waited"]))
        changes.append(bool(outcome.measures["changes"]))
    assert waited == [-1.0] * 18 + [19.0] * 22
    assert changes == [False] * 39 + [True]
    assert goal["held"].tolist() == [0]
    assert goal["waited"].tolist() == [-1]


def test_a_joystick_judges_goals_that_were_held_long_enough() -> None:
    task = joystick()
    shape = (200, 1)
    measures = {name: np.zeros(shape) for name in ("turn", "speed_error", "held")}
    measures |= {"changes": np.zeros(shape, bool), "hold": np.full(shape, 120.0), "waited": np.full(shape, 7.0)}
    for frame, hold, waited in ((20, 160, 45), (60, 150, -1), (90, 100, 3)):  # the last was held too shortly
        measures["changes"][frame], measures["hold"][frame], measures["waited"][frame] = True, hold, waited
    measures["held"][100:] = 100
    measures["turn"][100:], measures["turn"][:100] = math.radians(2), 1.0
    measures["speed_error"][100:] = 0.25
    found = task.judge(measures, np.zeros(shape, bool))
    assert found["turn_seconds"].values.tolist() == pytest.approx([1.5, 5.0])  # never: all of its time
    assert found["turns_made"].values.tolist() == [True, False]
    assert found["facing_error"].values.tolist() == pytest.approx([2.0])
    assert found["speed_error"].values.tolist() == pytest.approx([0.25])


# --- path ---


def circle(radius: float = 3.0) -> dict[str, Tensor]:
    """A goal: a circle walked clockwise from the origin towards x, around (0, radius)."""
    angle = np.linspace(0, 2 * np.pi, 2000, endpoint=False)
    points, length = even(radius * np.stack((np.sin(angle), 1 - np.cos(angle)), -1), 160)
    path = torch.tensor(points, dtype=torch.float32)[None]
    return {"path": path, "spacing": torch.tensor([length / 160]), "along": torch.zeros(1)}


def follow(**changes: Any) -> FollowPath:
    return FollowPath(FollowPath.Config(**changes), gliding())


def test_a_paths_points_are_evenly_apart_and_begin_here_and_ahead() -> None:
    task = follow()
    assert task.paths.shape == (64, 160, 2)
    gaps = (task.paths.roll(-1, 1) - task.paths).norm(dim=-1)
    assert float((gaps / task.spacings[:, None] - 1).abs().max()) < 0.06  # chords are shorter than arcs
    assert not task.paths[:, 0].any()
    way = task.paths[:, 1] - task.paths[:, -1]
    assert float((way[:, 1] / way[:, 0]).abs().max()) < 1e-4
    assert (way[:, 0] > 0).all()
    turns = torch.sign((task.paths.roll(-1, 1)[..., 1] * task.paths[..., 0]).sum(-1))
    assert set(turns[1:].tolist()) == {-1.0, 1.0}  # both ways round
    moving = standing((1.0, 2.0, 0.5))
    goal = task.begin(moving, random())
    torch.testing.assert_close(goal["path"][:, 0], moving.place[:, :2])
    torch.testing.assert_close(at(goal, torch.zeros(1, 1))[0, 0], moving.place[0, :2])


def test_the_first_path_is_the_figure_8_which_crosses_itself_once() -> None:
    path = follow(paths=1).paths[0].numpy()
    spacing = np.linalg.norm(path[1] - path[0])
    apart = np.linalg.norm(path[:, None] - path[None], axis=-1)
    number = np.arange(160)
    along = np.minimum((number[:, None] - number) % 160, (number - number[:, None]) % 160)
    crossing = (apart < spacing) & (along > 10)
    assert crossing.any()
    assert path[crossing.any(1)].std(0).max() < 2 * spacing  # in one place


def test_walking_a_circle_is_measured_as_such() -> None:
    task, goal, radius = follow(), circle(), 3.0
    before = standing((0.0, 0.0, 0.0))
    step = 0.03  # rad of the circle a frame
    for frame in range(1, 300):  # a lap is 210
        angle, away = frame * step, 0.2 * math.sin(frame / 10)
        r = radius + away
        after = standing((r * math.sin(angle), radius - r * math.cos(angle), angle))
        outcome = task.step(before, after, goal, None)
        assert float(outcome.measures["away"]) == pytest.approx(abs(away), abs=0.01)
        assert float(outcome.goal["along"]) == pytest.approx(radius * angle, abs=0.02)
        assert float(outcome.measures["laps"]) == pytest.approx(angle / (2 * math.pi), abs=0.01)
        assert not outcome.ended
        before, goal = after, outcome.goal
    ahead = task.observe(before, goal)[0, :-1].view(-1, 2) * 2.5
    for number, distance in enumerate((0.3, 0.8, 1.5, 2.5)):
        turn = distance / radius
        expected = (radius * math.sin(turn), radius * (1 - math.cos(turn)))
        assert ahead[number].tolist() == pytest.approx(expected, abs=0.25)  # it walks up to 0.2 m beside the path


def test_one_who_strays_too_far_is_lost() -> None:
    task, goal = follow(), circle()
    before = standing((0.0, 0.0, 0.0))
    for z, lost in ((-2.9, False), (-3.1, True)):
        assert bool(task.step(before, standing((0.0, z, 0.0)), goal, None).ended) is lost


def test_at_a_crossing_the_path_goes_on_straight() -> None:
    """Where the figure 8 crosses itself the nearest piece of the other branch is no shortcut."""
    task = follow(paths=1)
    moving = standing((0.0, 0.0, 0.0))
    goal = task.begin(moving, random())
    length = float(goal["spacing"]) * 160
    for distance in torch.arange(0.0, 1.5 * length, 0.05):
        x, z = at(goal, distance[None, None])[0, 0].tolist()
        outcome = task.step(moving, standing((x, z, 0.0)), goal, None)
        assert float(outcome.goal["along"]) == pytest.approx(float(distance), abs=0.15)
        goal = outcome.goal


def test_laps_are_judged_until_one_is_lost() -> None:
    laps = np.stack([np.linspace(0, 1.2, 10), np.linspace(0, 1.2, 10)], 1)
    over = np.zeros((10, 2), bool)
    over[4, 1] = True
    measures = {"laps": laps, "away": np.full((10, 2), 0.1), "speed": np.ones((10, 2))}
    found = follow().judge(measures, over)
    assert found["laps_made"].values.tolist() == [True, False]
    assert found["path_distance"].values.tolist() == pytest.approx([0.1, 0.1])


# --- maze ---


def maze_task(**changes: Any) -> Maze:
    return Maze(Maze.Config(**changes), gliding())


@pytest.mark.parametrize("open", [0.0, 0.3, 1.0])
def test_every_cell_of_a_maze_can_be_reached(open: float) -> None:
    cells = 7
    walls_x, walls_z = mazes.maze(cells, open, (0, 3))
    assert walls_x[:, [0, -1]].all()
    assert walls_z[[0, -1]].all()
    seen, queue = {(0, 0)}, deque([(0, 0)])
    while queue:
        row, column = queue.popleft()
        doors = {
            (row, column + 1): walls_x[row, column + 1],
            (row, column - 1): walls_x[row, column],
            (row + 1, column): walls_z[row + 1, column],
            (row - 1, column): walls_z[row, column],
        }
        fresh = [there for there, wall in doors.items() if not wall and there not in seen]
        seen.update(fresh)
        queue.extend(fresh)
    assert len(seen) == cells**2
    inner = int(walls_x[:, 1:-1].sum() + walls_z[1:-1].sum())
    assert inner == {0.0: (cells - 1) ** 2, 1.0: 0}.get(open, inner)  # a tree has no door too many
    assert 0 < inner < (cells - 1) ** 2 or open != 0.3


def room(task: Maze, door: bool = False) -> dict[str, Tensor]:
    """A goal whose every cell is closed, or all doors in z open but those between columns."""
    n = task.config.cells
    walls_z = torch.ones(1, n + 1, n, dtype=torch.bool)
    if door:
        walls_z[:, 1:-1] = False
    return {
        "walls_x": torch.ones(1, n, n + 1, dtype=torch.bool),
        "walls_z": walls_z,
        "corner": torch.zeros(1, 2),
        "entered": torch.zeros(1, n, n, dtype=torch.bool),
    }


def test_rays_end_at_walls_as_a_slow_walk_along_them_does() -> None:
    """Against stepping 5 mm at a time until a wall is crossed."""
    task = maze_task(cells=5, sight=7.0)
    moving = standing(*[(0.17 * k, 0.3 - 0.1 * k, 0.9 * k) for k in range(6)])
    goal = task.begin(standing(*[(0.0, 0.0, 0.0)] * 6), random(2))
    angle = torch.linspace(0, 6, 11).expand(6, -1)
    found = task.look(moving, goal, torch.stack((angle.cos(), angle.sin()), -1))
    for b in range(6):
        for r in range(11):
            walked = slow_look(goal, b, moving.place[b, :2].numpy(), float(angle[b, r]), 7.0)
            assert float(found[b, r]) == pytest.approx(walked, abs=0.02)
    assert float(found.max()) > 2.5


def slow_look(goal: dict[str, Tensor], b: int, place: np.ndarray, angle: float, sight: float) -> float:
    way, cell, step = np.array([math.cos(angle), math.sin(angle)]), 2.0, 0.005
    walls_x, walls_z, corner = (goal[name][b].numpy() for name in ("walls_x", "walls_z", "corner"))
    point = (place - corner) / cell
    distance = 0.0
    while distance < sight:
        following = point + way * step / cell
        (i, k), (ni, nk) = np.floor(point).astype(int), np.floor(following).astype(int)
        if ni != i and walls_x[k, max(i, ni)]:
            return distance
        if nk != k and walls_z[max(k, nk), ni]:
            return distance
        point, distance = following, distance + step
    return sight


def test_nobody_gets_through_a_wall_or_nearer_than_allowed() -> None:
    """Characters that run about blindly for a long time stay in closed cells."""
    task = maze_task()
    goal = room(task)
    moving = standing((1.0, 3.0, 0.0), speed=SPEED)
    generator = random()
    blocked = 0
    for _ in range(500):
        move = 0.5 * torch.randn(1, 3, generator=generator)
        outcome = task.step(moving, Moving(moving.pose, moving.place + move), goal, None)
        blocked += int(outcome.measures["blocked"])
        moving, goal = outcome.moving, outcome.goal
        assert 0.3 - 1e-5 <= float(moving.place[0, 0]) <= 1.7 + 1e-5
        assert 2.3 - 1e-5 <= float(moving.place[0, 1]) <= 3.7 + 1e-5
    assert blocked > 100
    assert int(goal["entered"].sum()) == 1


def test_nobody_crosses_a_wall_in_a_real_maze_not_even_at_corners() -> None:
    """Where one was and where one is are always joined by a way around the walls: the same cell, or a door between."""
    task = maze_task(cells=4, cell=1.0, radius=0.2)
    moving = standing(*[(0.0, 0.0, 0.0)] * 40)
    goal = task.begin(moving, random(1))
    generator = random(2)
    entered = 0
    for _ in range(200):
        before = moving
        move = 0.4 * torch.randn(40, 3, generator=generator)
        outcome = task.step(before, Moving(before.pose, before.place + move), goal, None)
        moving, goal = outcome.moving, outcome.goal
        a = ((before.place[:, :2] - goal["corner"]) / 1.0).floor().long()
        b = ((moving.place[:, :2] - goal["corner"]) / 1.0).floor().long()
        for k in range(40):
            (i, row), (ni, nrow) = a[k].tolist(), b[k].tolist()
            assert abs(ni - i) <= 1
            assert abs(nrow - row) <= 1
            assert ni == i or not goal["walls_x"][k, row, max(i, ni)]  # x first,
            assert nrow == row or not goal["walls_z"][k, max(row, nrow), ni]  # then z
            entered += int((i, row) != (ni, nrow))
    assert entered > 200


def test_a_world_keeps_characters_where_its_task_holds_them() -> None:
    """Straight ahead at 2.5 m/s for 13 s, in mazes 12 m wide."""
    there = world("maze", frames=1000)
    state = there.begin(random())
    for frame in range(400):
        state = there.advance(state, torch.tensor([[3.0, 0.0]]).expand(8, 2), random(frame)).state
    inside = state.moving.place[:, :2] - state.goal["corner"]
    assert (state.age == 400).all()
    assert 0.3 - 1e-4 <= float(inside.min()) <= float(inside.max()) <= 11.7 + 1e-4


def test_walls_stop_and_open_sides_do_not() -> None:
    task = maze_task()
    goal = room(task, door=True)
    before = standing((1.0, 1.9, 0.0))
    outcome = task.step(before, standing((1.9, 2.05, 0.0)), goal, None)  # a wall at x = 2, a door at z = 2
    assert outcome.moving.place[0].tolist() == pytest.approx([1.7, 2.05, 0.0])
    assert bool(outcome.measures["blocked"])
    assert outcome.reward.tolist() == pytest.approx([10 - 0.3])  # a new cell, and the wall
    free = task.step(outcome.moving, standing((1.6, 2.1, 0.0)), outcome.goal, None)
    assert free.reward.tolist() == [0.0]
    assert float(free.measures["covered"]) == pytest.approx(1 / 36)


def test_a_maze_walked_through_ends_the_episode() -> None:
    task = maze_task(cells=2)
    goal = room(task)
    goal["entered"][0] = torch.tensor([[False, True], [True, True]])
    here = standing((1.0, 1.0, 0.0))
    outcome = task.step(here, here, goal, None)
    assert bool(outcome.ended)
    assert float(outcome.measures["covered"]) == 1


def test_cells_not_entered_are_seen_through_doors_alone() -> None:
    task = maze_task()
    goal = room(task, door=True)
    goal["entered"][0, 0, 0] = True
    closeness = task.observe(standing((1.0, 1.0, 0.0)), goal)[0, mazes.RAYS :]
    assert float(closeness[0]) == 0  # ahead, along x: a wall
    assert float(closeness[mazes.RAYS // 4]) == pytest.approx(1 - 1 / 6)  # along z: the next cell, 1 m away
    goal["entered"][:] = True
    assert not task.observe(standing((1.0, 1.0, 0.0)), goal)[0, mazes.RAYS :].any()


# --- numbers ---


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("target", {"reach": 3.0}, "0 < reach < near <= far"),
        ("joystick", {"hold": (3.0, 4.0)}, "judged <= the longest hold"),
        ("joystick", {"fastest": 2.0}, "quantiles"),
        ("path", {"points": 8}, "points of a path is 8; it must be at least 32"),
        ("path", {"stray": 0.0}, "stray is 0.0; it must be more than 0"),
        ("maze", {"radius": 1.0}, "radius < half a cell"),
        ("maze", {"open": 1.5}, "walls taken out is 1.5; it must be at most 1"),
        ("maze", {"cells": 1}, "cells along a side is 1; it must be at least 2"),
    ],
)
def test_a_task_says_which_number_is_wrong(name: str, change: dict, message: str) -> None:
    task = TASKS[name]
    with pytest.raises(SakiyomiError, match=message):
        task(replace(task.Config(), **change), gliding())  # pyright: ignore[reportArgumentType]


def test_the_hand_made_body_is_a_layout() -> None:
    assert LAYOUT.width == 27
    assert gliding().starts.shape == (3, 27)
