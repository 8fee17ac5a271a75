"""The world of pushing keeps the laws of pushing, and gives the same frames for the same actions."""

import warnings
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import gymnasium
import msgspec
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from sakiyomi.errors import SakiyomiError
from sakiyomi.worlds.push import (
    ACTION_LIMIT,
    APART,
    CLEAR,
    COLOURS,
    EDGE_ON,
    HALF_HEIGHT,
    HORIZON,
    RATE,
    SHAPES,
    WORKSPACE_HIGH,
    WORKSPACE_LOW,
    Push,
)

FAR = (0.36, 0.11)  # m, a place for the object that a test does not push


@pytest.fixture(scope="module")
def world() -> Iterator[Push]:
    world = Push(image_size=32)
    yield world
    world.close()


def random_actions(steps: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1.5, 1.5, (steps, 4)) * ACTION_LIMIT


def play(world: Push, actions: np.ndarray) -> list[np.ndarray]:
    """Pictures and numbers of every step, in one list."""
    out = []
    for action in actions:
        observation, _, _, _, info = world.step(action)
        out += [observation["image"], observation["position"], info["objects"], info["yaws"], info["contact"]]
    return out


def assert_same(a: list[np.ndarray], b: list[np.ndarray]) -> None:
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def test_gymnasium_accepts_it() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        env = gymnasium.make("sakiyomi/Push-v0", image_size=32)
        assert env.spec is not None
        assert env.spec.max_episode_steps == HORIZON
        check_env(env.unwrapped)
        env.close()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("angle", [0.0, 1.8, -2.4])
def test_a_push_moves_an_object_its_way(world: Push, shape: str, angle: float) -> None:
    """From 7.5 cm before its middle to 4.5 cm past it, through the middle: that far it goes, and the other one not."""
    direction = np.array([np.cos(angle), np.sin(angle)])
    place = np.array([0.43, -0.03])
    options = {
        "shapes": (shape, "box"),
        "places": (place, FAR),
        "turns": (angle, 0.0),  # pushed at a side, not at a corner
        "start": (*(place - 0.075 * direction), 0.012),
        "yaw": EDGE_ON,
    }
    _, info = world.reset(seed=0, options=options)
    before = info["objects"]
    touched = []
    for _ in range(6):
        info = world.step(np.array([*0.02 * direction, 0.0, 0.0]))[-1]
        touched.append(info["contact"])
    for _ in range(3):  # the arm catches up, the object comes to rest
        info = world.step(np.zeros(4))[-1]
    moved = info["objects"] - before
    assert 0.05 < moved[0, :2] @ direction < 0.10
    assert abs(moved[0, 0] * direction[1] - moved[0, 1] * direction[0]) < 0.02
    assert np.abs(moved[1]).max() < 1e-3
    assert not touched[0]
    assert any(touched)
    rest = info["objects"]
    np.testing.assert_allclose(world.step(np.zeros(4))[-1]["objects"], rest, atol=1e-3)


def test_what_is_not_touched_does_not_move(world: Push) -> None:
    for seed in range(4):
        _, info = world.reset(seed=seed, options={"start": (0.42, 0.0, 0.07)})
        before = info["objects"]
        for action in random_actions(10, seed):
            action[2] = abs(action[2])
            info = world.step(action)[-1]
            assert not info["contact"]
        np.testing.assert_allclose(info["objects"], before, atol=1e-3)


def test_objects_stay_on_the_table_whatever_the_arm_does(world: Push) -> None:
    """Half of the episodes come down on the objects from above, again and again."""
    for seed in range(6):
        observation, info = world.reset(seed=seed)
        for step, action in enumerate(random_actions(HORIZON, seed)):
            if seed % 2:
                to_object = info["objects"][step // 15] - observation["position"]
                action = np.array([*to_object[:2], -0.02 if step % 15 > 6 else 0.02, action[3]])
            observation, _, _, _, info = world.step(action)
            assert world.observation_space.contains(observation)
            np.testing.assert_allclose(info["objects"][:, 2], HALF_HEIGHT, atol=0.003)  # none tips over
            assert (np.abs(info["objects"][:, :2] - [0.43, 0.0]) < [0.25, 0.3]).all()


def test_an_action_displaces_the_tool_in_its_units(world: Push) -> None:
    world.reset(seed=0, options={"start": (0.42, 0.0, 0.05), "yaw": EDGE_ON})
    start = world.data.time
    total = np.array([0.06, -0.05, 0.015, 0.5])
    results = [world.step(action) for action in (total / 2, total / 2, *np.zeros((5, 4)))]
    assert {result[1:4] for result in results} == {(0.0, False, False)}
    observation, *_, info = results[-1]
    assert world.data.time - start == pytest.approx(7 / RATE)
    np.testing.assert_allclose(observation["position"], [0.48, -0.05, 0.065], atol=3e-3)
    assert info["tool_yaw"] == pytest.approx(EDGE_ON + 0.5, abs=0.02)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_the_tool_stays_in_its_workspace(world: Push, sign: float) -> None:
    world.reset(seed=0)
    begin = world.target
    world.step(np.full(4, sign))  # m and rad: far over the limit
    assert (np.abs(world.target - begin) <= ACTION_LIMIT + 1e-12).all()
    observation, *_, info = [world.step(np.full(4, sign)) for _ in range(12)][-1]
    edge = WORKSPACE_HIGH if sign > 0 else WORKSPACE_LOW
    np.testing.assert_array_equal(world.target, edge)
    np.testing.assert_allclose([*observation["position"], info["tool_yaw"]], edge, atol=0.012)
    assert ((info["pixels"] > 0) & (info["pixels"] < 1)).all()


def test_a_seed_reproduces_an_episode(world: Push) -> None:
    def episode(seed: int) -> list[np.ndarray]:
        observation, info = world.reset(seed=seed)
        return [observation["image"], info["objects"], *play(world, random_actions(8))]

    first, other = episode(3), episode(4)
    assert_same(first, episode(3))
    assert not np.array_equal(first[1], other[1])


def test_the_scene_reproduces_an_episode_after_json_and_without_its_seed(world: Push) -> None:
    observation, _ = world.reset(seed=5, options={"light": 0.93})
    options = msgspec.json.decode(msgspec.json.encode(asdict(world.scene)))
    first = [observation["image"], *play(world, random_actions(6))]
    again = Push(image_size=32)
    observation, _ = again.reset(seed=77, options=options)
    assert again.scene == world.scene
    assert_same(first, [observation["image"], *play(again, random_actions(6))])
    again.close()


def test_from_a_snapshot_the_world_goes_on_as_it_did(world: Push) -> None:
    place = (0.45, 0.0)
    options = {"places": (place, FAR), "start": (0.40, 0.0, 0.012)}
    world.reset(seed=0, options=options)
    play(world, np.tile([0.03, 0.0, 0.0, 0.05], (2, 1)))  # amid a push
    moment, picture = world.snapshot(), world.render()
    onwards = np.tile([0.02, 0.01, 0.0, -0.05], (4, 1))
    first = play(world, onwards)
    otherwise = play(world, random_actions(4))
    for other in (world, Push(image_size=32)):
        other.reset(seed=9)  # another scene in between leaves no trace
        observation, info = other.restore(moment)
        np.testing.assert_array_equal(observation["image"], picture)
        assert info["contact"]
        assert_same(first, play(other, onwards))
        assert_same(otherwise, play(other, random_actions(4)))
    assert not np.array_equal(first[-3], otherwise[-3])
    other.close()


def test_drawn_scenes_are_various_and_clear(world: Push) -> None:
    shapes, colours = set(), set()
    for seed in range(40):
        world.reset(seed=seed)
        scene = world.scene
        assert scene.shapes is not None
        assert scene.colours is not None
        assert scene.start is not None
        places = np.array(scene.places)
        assert np.linalg.norm(places[0] - places[1]) >= APART
        assert np.linalg.norm(places - scene.start[:2], axis=1).min() >= CLEAR
        assert scene.colours[0] != scene.colours[1]
        shapes |= set(scene.shapes)
        colours |= set(scene.colours)
    assert (shapes, colours) == (set(SHAPES), set(COLOURS))


def picture(world: Push, **options: Any) -> np.ndarray:
    fixed = {"places": ((0.43, -0.08), (0.43, 0.08)), "turns": (0.4, 0.4), "start": (0.33, 0.0, 0.05), "yaw": EDGE_ON}
    fixed |= {"shapes": ("box", "box"), "colours": ("red", "blue")}
    return world.reset(seed=0, options=fixed | options)[0]["image"].astype(float)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_object_is_seen_where_it_is_and_in_its_colour(shape: str) -> None:
    """At 64 x 64 its width is about 6 to 10 pixels, and `pixels` is its middle."""
    world = Push(image_size=64)
    for turn in (0.0, 0.8, 1.6):
        red, green, blue = np.moveaxis(picture(world, shapes=(shape, "box"), turns=(turn, 0.0)), -1, 0)
        rows, columns = np.nonzero(red > 40 + np.maximum(green, blue))
        assert 20 <= len(rows) <= 130
        assert 4 <= np.ptp(columns) + 1 <= 16
        middle = 64 * world.project(world.objects[0])
        assert np.abs(np.array([columns.mean(), rows.mean()]) + 0.5 - middle).max() < 2
    world.close()


def test_shape_colour_and_light_change_the_picture_and_do_not_stay(world: Push) -> None:
    first = picture(world)
    for change in ({"shapes": ("tee", "box")}, {"colours": ("green", "blue")}):
        changed = np.abs(picture(world, **change) - first).max(-1) > 20
        assert 1 <= changed.sum() < 60
    means = [picture(world, light=light).mean() for light in (0.5, 0.8, 1.0, 1.2)]
    assert means == sorted(means)
    np.testing.assert_array_equal(picture(world), first)


def test_only_the_active_shape_is_there_to_touch(world: Push) -> None:
    """A rod that goes by 3 cm beside the middle hits a bar that lies across its way, and misses one along it."""
    options = {"shapes": ("bar", "box"), "places": ((0.43, 0.0), FAR), "start": (0.36, -0.033, 0.012), "yaw": EDGE_ON}
    touched = []
    for turn in (np.pi / 2, 0.0):
        world.reset(seed=0, options=options | {"turns": (turn, 0.0)})
        touched.append(any(world.step(np.array([0.03, 0, 0, 0]))[-1]["contact"] for _ in range(5)))
    assert touched == [True, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": ("box", "box")}, "'shape': did you mean 'shapes'"),
        ({"shapes": ("box", "cilinder")}, "'cilinder': did you mean 'cylinder'"),
        ({"shapes": ("box",)}, "two shapes, got 1"),
        ({"colours": ("red", "pink")}, "unknown colour 'pink'"),
        ({"places": (0.4, 0.0)}, "x and y in m of each"),
        ({"turns": (0.0, np.nan)}, "turns is"),
        ({"start": (0.4, 0.0, 0.5)}, "the tool stays within"),
        ({"yaw": 0.0}, "yaw is 0.0; it must lie in"),
        ({"light": -1.0}, "at least 0"),
    ],
    ids=str,
)
def test_wrong_options_are_refused(world: Push, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SakiyomiError, match=message):
        world.reset(seed=0, options=options)


def test_wrong_actions_and_settings_are_refused(world: Push) -> None:
    world.reset(seed=0)
    for action in (np.zeros(3), np.full(4, np.nan)):
        with pytest.raises(SakiyomiError, match="4 finite displacements"):
            world.step(action)
    with pytest.raises(SakiyomiError, match="image_size is 8"):
        Push(image_size=8)
    with pytest.raises(SakiyomiError, match="render mode"):
        Push(render_mode="human")
