"""Random pushing: what is recorded, that it can be lived through again, and that an interruption leaves no trace."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.sources.push import PushSource, replay
from sakiyomi.errors import SakiyomiError
from sakiyomi.worlds.push import ACTION_LIMIT, HORIZON, RATE, Push

SOURCE = PushSource(episodes=2, validation=1, test=1, steps=5, image_size=16)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> EpisodeStore:
    source = PushSource(episodes=20, validation=2, test=3, image_size=16)
    return source.record(tmp_path_factory.mktemp("push") / "store")


def test_splits_streams_and_clock(recorded: EpisodeStore) -> None:
    assert [len(recorded.split(name)) for name in ("train", "validation", "test")] == [20, 2, 3]
    assert recorded.origin["source"] == "push"
    for entry in recorded.entries:
        assert set(entry.lengths.values()) == {HORIZON}
        np.testing.assert_allclose(np.diff(recorded.times(entry.id, "image")), 1 / RATE)
        actions = recorded.values(entry.id, "action")
        assert (np.abs(actions) <= ACTION_LIMIT.astype(np.float32)).all()
        # The last one too is an action, though its effect is not in the recording.
        assert np.abs(actions[-1]).max() > 0
        assert 0.9 <= entry.meta["scene"]["light"] <= 1.1


def test_every_episode_is_another(recorded: EpisodeStore) -> None:
    firsts = [recorded.values(entry.id, "action")[:3].tobytes() for entry in recorded.entries]
    scenes = [str(entry.meta["scene"]) for entry in recorded.entries]
    assert len(set(firsts)) == len(set(scenes)) == len(recorded.entries)


def test_the_same_index_of_another_count_is_the_same_episode(recorded: EpisodeStore, tmp_path: Path) -> None:
    """Asking for more training episodes leaves the test episodes as they are."""
    other = PushSource(episodes=1, validation=1, test=1, image_size=16).record(tmp_path)
    for split in ("train", "validation", "test"):
        here, there = recorded.split(split)[0], other.split(split)[0]
        np.testing.assert_array_equal(recorded.values(here.id, "action"), other.values(there.id, "action"))


def test_objects_are_pushed_and_stay_in_the_picture(recorded: EpisodeStore) -> None:
    moved = np.array([entry.meta["moved"] for entry in recorded.entries])
    assert (moved.max(1) > 0.02).mean() > 0.7
    world = Push(image_size=16)
    world.reset(seed=0)
    seen = []
    for entry in recorded.entries:
        objects = recorded.values(entry.id, "objects").reshape(-1, 2, 3)
        way = np.linalg.norm(np.diff(objects[..., :2], axis=0), axis=-1)
        np.testing.assert_allclose(way.sum(0), entry.meta["moved"], atol=1e-5)
        seen += [world.project(place) for place in objects.reshape(-1, 3)]
        # An object that moved was touched, or pushed by the other one, in that step or was sliding on from the last.
        steps = set(entry.meta["contact"])
        for step in np.flatnonzero((way > 5e-3).any(1)):
            assert steps & {int(step), int(step) - 1}
    world.close()
    assert (np.abs(np.array(seen) - 0.5) < 0.5).all(-1).mean() > 0.97


def test_the_next_action_cannot_be_told_from_the_last(recorded: EpisodeStore) -> None:
    """Smooth, but the best linear guess from the two actions before leaves more than a third of the variance."""
    actions = np.stack([recorded.values(entry.id, "action") for entry in recorded.entries]).astype(float)
    before = np.concatenate([actions[:, 1:-1], actions[:, :-2]], -1).reshape(-1, 8)
    after = actions[:, 2:].reshape(-1, 4)
    weights, *_ = np.linalg.lstsq(before, after, rcond=None)
    assert ((after - before @ weights).var(0) > after.var(0) / 3).all()


def test_a_recording_can_be_lived_through_again(recorded: EpisodeStore) -> None:
    """Bit for bit, from the manifest and the actions alone; and from its middle, other actions lead elsewhere."""
    world = Push(image_size=16)
    for entry in (recorded.split("train")[0], recorded.split("test")[1]):
        images, actions = recorded.values(entry.id, "image"), recorded.values(entry.id, "action")
        objects = recorded.values(entry.id, "objects").reshape(-1, 2, 3)
        for step in (0, 12, HORIZON - 1):
            observation, info = replay(world, entry.meta, actions[:step])
            np.testing.assert_array_equal(observation["image"], images[step])
            np.testing.assert_array_equal(observation["position"], recorded.values(entry.id, "position")[step])
            np.testing.assert_array_equal(info["objects"].astype(np.float32), objects[step])
        replay(world, entry.meta, actions[:12])
        moment = world.snapshot()
        for step in range(12, 16):
            np.testing.assert_array_equal(world.step(actions[step])[0]["image"], images[step + 1])
        world.restore(moment)
        other = [world.step(-action)[0] for action in actions[12:16]][-1]
        assert not np.array_equal(other["image"], images[16])
    world.close()


def test_absurd_settings_are_refused(tmp_path: Path) -> None:
    for wrong in ({"test": 0}, {"steps": 1}, {"seed": -1}):
        with pytest.raises(SakiyomiError, match="at least"):
            replace(SOURCE, **wrong).record(tmp_path / "new")
    assert not (tmp_path / "new").exists()
