"""Scores of motion: known feet slide by known amounts, rollouts in the data's range do not explode, places add up."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.sources.walk import NAMES, RATE, SKELETON, GeneratedWalk, clip
from sakiyomi.errors import SakiyomiError
from sakiyomi.motion.features import encode
from sakiyomi.motion.layout import Layout, advance
from sakiyomi.scores.motion import (
    EXPLODED,
    SLIDING_HEIGHT,
    Reference,
    active_units,
    distance,
    explodes,
    foot_sliding,
    joints_in_world,
    measure,
    penetration,
    places,
    range_used,
    reference_of,
    score_rollouts,
)
from sakiyomi.scores.protocol import Protocol, save_scores

LAYOUT = Layout(NAMES)
PROTOCOL = Protocol(data="generated walk", counted="59 frames after 1 given", rule="", n=4, seeds="0..3")


@pytest.fixture(scope="module")
def walks() -> Tensor:
    """Poses [4, 120, D]."""
    return torch.from_numpy(np.stack([encode(clip(seed, 4.0)).values for seed in range(4)])).double()


@pytest.fixture(scope="module")
def reference(walks: Tensor) -> Reference:
    return measure(list(walks.numpy()), LAYOUT, SKELETON.feet, RATE)


def dragged(height: float, speed: float = 0.01, frames: int = 5) -> Tensor:
    """One foot at a height, m, that moves `speed` m a frame along the ground, [T, 1, 3]."""
    x = torch.arange(frames).double() * speed
    return torch.stack((0.6 * x, torch.full_like(x, height), 0.8 * x), -1)[:, None]


@pytest.mark.parametrize(
    ("height", "part"),
    [(0.0, 1.0), (0.5, 2 - 2**0.5), (1.0, 0.0), (1.5, 0.0), (-0.5, 1.0)],
)
def test_sliding_is_the_displacement_weighed_by_the_height(height: float, part: float) -> None:
    """In parts of H above a floor of 7 cm; under it as on it."""
    found = foot_sliding(dragged(0.07 + height * SLIDING_HEIGHT), torch.tensor([0.07]))
    assert float(found) == pytest.approx(1.0 * part, abs=1e-6)  # cm a frame


def test_sliding_takes_the_height_in_the_middle_of_two_frames() -> None:
    foot = dragged(0.0, frames=2)
    foot[1, 0, 1] = SLIDING_HEIGHT
    assert float(foot_sliding(foot, torch.zeros(1))) == pytest.approx(2 - 2**0.5)


def test_sliding_is_a_mean_over_frames_and_feet_and_keeps_the_batch() -> None:
    feet = torch.cat((dragged(0.0, 0.01), dragged(0.1, 0.01)), 1)  # one drags, one is in the air
    batch = torch.stack((feet, 3 * feet))
    torch.testing.assert_close(foot_sliding(batch, torch.zeros(2)), torch.tensor([0.5, 1.5]).double())
    up_and_down = feet * torch.tensor([0.0, 1.0, 0.0]).double()
    assert float(foot_sliding(up_and_down, torch.zeros(2))) == 0


def test_who_stands_does_not_slide_and_a_walk_hardly(reference: Reference) -> None:
    assert 0.02 < reference.sliding < 0.15
    np.testing.assert_allclose(reference.floor, [0.085, 0.02, 0.085, 0.02], atol=1e-6)


def test_a_long_clip_counts_for_as_much_as_it_is_long(walks: Tensor) -> None:
    short, long = walks[0, :31].numpy(), walks[1, :91].numpy()
    one, other, both = (measure(c, LAYOUT, SKELETON.feet, RATE).sliding for c in ([short], [long], [short, long]))
    assert both == pytest.approx((30 * one + 90 * other) / 120, rel=1e-4)
    assert abs(one - other) > 0.01


def test_sliding_does_not_see_where_and_whereto(walks: Tensor, reference: Reference) -> None:
    """The same clips, begun elsewhere and facing elsewhere."""
    feet = reference.feet_of(joints_in_world(LAYOUT, walks, RATE))
    turn = torch.linalg.qr(torch.randn(2, 2, generator=torch.Generator().manual_seed(0)).double())[0]
    moved = feet.clone()
    moved[..., [0, 2]] = feet[..., [0, 2]] @ turn + 5
    floor = torch.tensor(reference.floor)
    torch.testing.assert_close(foot_sliding(moved, floor), foot_sliding(feet, floor))


def test_places_are_those_of_stepping(walks: Tensor) -> None:
    place, found = torch.zeros(4, 3).double(), places(walks, RATE)
    torch.testing.assert_close(found[:, 0], place)
    for t in range(1, walks.shape[1]):
        place = advance(place, walks[:, t], RATE)
        torch.testing.assert_close(found[:, t], place)


def test_joints_are_where_the_clip_has_them(walks: Tensor) -> None:
    """Up to where it began and whereto it faced."""
    joints, truth = joints_in_world(LAYOUT, walks[0], RATE), torch.from_numpy(clip(0, 4.0).positions)
    torch.testing.assert_close(joints[..., 1], truth[..., 1], atol=1e-5, rtol=0)
    for t in (1, 60, 119):
        for a, b in ((joints, joints[0, 0]), (truth, truth[0, 0])):
            assert a.shape == truth.shape
            assert b.shape == (3,)
        apart = [(a[t] - a[0]).norm(dim=-1) for a in (joints, truth)]
        torch.testing.assert_close(*apart, atol=1e-4, rtol=0)


def test_distance_is_the_length_of_the_way(walks: Tensor) -> None:
    ground = places(walks, RATE)[..., :2]
    torch.testing.assert_close(distance(walks, RATE), ground.diff(dim=1).norm(dim=-1).sum(-1))
    straight = torch.zeros(2, 31, LAYOUT.width).double()
    straight[..., 0] = 1.5
    torch.testing.assert_close(distance(straight, 30.0), torch.tensor([1.5, 1.5]).double())


def test_a_range_is_widened_about_its_middle() -> None:
    low, high = torch.tensor([1.0, -2.0]), torch.tensor([3.0, 0.0])
    inside = torch.tensor([[[2.0, -1.0], [3.0, 0.0], [1.0, -2.0]]])
    assert range_used(inside, low, high).tolist() == [1.0]
    edge = 2.0 + EXPLODED
    for value, gone in ((edge - 1e-3, False), (edge + 1e-3, True), (float("nan"), True), (float("-inf"), True)):
        positions = inside.clone()
        positions[0, 1, 0] = value
        assert explodes(positions, low, high).tolist() == [gone]
        positions[0, 1, 0] = 4 - value  # as far on the other side
        assert explodes(positions, low, high).tolist() == [gone]


def test_a_channel_that_hardly_moves_may_move_by_three_centimetres() -> None:
    zero = torch.zeros(1)
    moved = torch.tensor([0.0, 0.029, -0.029, 0.031, -0.031]).reshape(5, 1, 1)
    assert explodes(moved, zero, zero).tolist() == [False, False, False, True, True]


def test_the_data_itself_does_not_explode(walks: Tensor, reference: Reference) -> None:
    used = range_used(walks[..., LAYOUT.part("positions")], *map(torch.tensor, (reference.low, reference.high)))
    assert float(used.max()) == pytest.approx(1, abs=1e-5)


def test_depth_under_the_floor() -> None:
    feet = torch.tensor([[0.10, 0.02], [0.07, 0.05]])[..., None] * torch.tensor([0.0, 1.0, 0.0])  # [T, F, 3]
    found = penetration(feet, torch.tensor([0.08, 0.04]))
    assert float(found) == pytest.approx(100 * (0 + 0.02 + 0.01 + 0) / 4)


def test_active_units() -> None:
    assert active_units(torch.tensor([0.0, 0.009, 0.011, 3.0, float("nan"), float("inf")])) == 2
    assert active_units(torch.tensor([0.0, 0.009, 0.011, 3.0]), threshold=1.0) == 1


def test_scores_of_the_data_are_the_references(walks: Tensor, reference: Reference, tmp_path: Path) -> None:
    scores = score_rollouts(walks.float(), reference, PROTOCOL)
    assert scores["exploded"].value == 0
    assert scores["sliding"].value == pytest.approx(reference.sliding, rel=1e-3)
    assert scores["sliding_ratio"].value == pytest.approx(1, rel=1e-3)
    assert scores["penetration"].value < 1e-4
    assert scores["distance"].value == pytest.approx(float(distance(walks, RATE).mean()), rel=1e-4)
    for name, score in scores.items():
        assert score.name == name
        assert score.low is not None
        assert score.high is not None
        assert score.low <= score.value <= score.high
        assert score.protocol.rule
        assert replace(score.protocol, rule="", interval="none") == PROTOCOL
    save_scores(scores, tmp_path / "scores.json")


def test_what_explodes_is_counted_and_does_not_spoil_the_rest(walks: Tensor, reference: Reference) -> None:
    alone = score_rollouts(walks[:2], reference, PROTOCOL)
    spoiled = walks.clone()
    spoiled[2, 50:, LAYOUT.part("positions")] *= 3
    spoiled[3, 119, LAYOUT.part("velocities").start] = float("nan")  # not a position
    scores = score_rollouts(spoiled, reference, PROTOCOL)
    assert scores["exploded"].value == 0.5
    assert {n: s for n, s in scores.items() if n != "exploded"} == {n: s for n, s in alone.items() if n != "exploded"}
    assert set(score_rollouts(spoiled[2:], reference, PROTOCOL)) == {"exploded"}


def test_the_reference_of_a_store(tmp_path: Path) -> None:
    store = GeneratedWalk(clips=3, validation=1, test=1, seconds=4).record(tmp_path / "store")
    found = reference_of(store)
    assert (found.layout, found.feet, found.rate) == (LAYOUT, SKELETON.feet, RATE)
    positions = LAYOUT.part("positions")
    np.testing.assert_allclose(found.low, store.statistics["pose"].low[positions])
    np.testing.assert_allclose(found.high, store.statistics["pose"].high[positions])
    slid = [measure([store.values(e.id, "pose")], LAYOUT, SKELETON.feet, RATE).sliding for e in store.split("train")]
    assert found.sliding == pytest.approx(np.mean(slid), rel=0.05)
    assert reference_of(store, "test").low != found.low


def test_what_cannot_be_measured_is_refused(walks: Tensor, reference: Reference, store: EpisodeStore) -> None:
    with pytest.raises(SakiyomiError, match="no feet"):
        measure([], LAYOUT, (), RATE)
    with pytest.raises(SakiyomiError, match="unknown foot 'LeftHoof'"):
        measure([], LAYOUT, ("LeftHoof",), RATE)
    with pytest.raises(SakiyomiError, match="1 clips without two frames in a row"):
        measure([walks[0, :1].numpy()], LAYOUT, SKELETON.feet, RATE)
    with pytest.raises(SakiyomiError, match=r"rollouts are \[N, T, 207\].*got \[120, 207\]"):
        score_rollouts(walks[0], reference, PROTOCOL)
    with pytest.raises(SakiyomiError, match="unknown stream 'pose'"):
        reference_of(store)
    with pytest.raises(SakiyomiError, match="holds no motion"):
        reference_of(store, stream="joints")
