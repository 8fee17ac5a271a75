"""Characters: where they go follows from their poses alone, and their poses from what the model says."""

import math
from dataclasses import replace

import gliding
import numpy as np
import pytest
import torch
from gliding import LAYOUT, RATE, SPEED, SPEED_DEVIATION, TURN_DEVIATION, physical
from torch import Tensor

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.normalize import Normalizer
from sakiyomi.data.sources.walk import SKELETON
from sakiyomi.data.sources.walk import clip as walk_clip
from sakiyomi.motion.character import Character, Moving
from sakiyomi.motion.features import encode
from sakiyomi.motion.layout import advance, heading, in_world

CPU = torch.device("cpu")


class Replaying:
    """A Decoder that knows what comes next: the rows of a recording, whatever z says."""

    latent = 1

    def __init__(self, rows: Tensor) -> None:
        self.rows, self.frame = rows, 0

    def decode(self, z: Tensor, pose: Tensor) -> Tensor:
        self.frame += 1
        return self.rows[self.frame].expand(len(pose), -1)


def moves(forward: float, turn: float) -> Tensor:
    """z that a gliding body needs in order to go on at this speed and turn."""
    return torch.tensor([[(forward - SPEED) / SPEED_DEVIATION, turn / TURN_DEVIATION]])


def walk(character: Character, z: Tensor, frames: int) -> list[Moving]:
    found = [character.start(1, torch.Generator().manual_seed(0))]
    for _ in range(frames):
        found.append(character.next(found[-1], z))
    return found


@pytest.mark.parametrize("side", [-1, 1])
def test_a_constant_speed_and_turn_close_a_circle(side: int) -> None:
    frames = 90
    turn = side * 2 * math.pi * RATE / frames  # once round in three seconds
    character = gliding.gliding(torch.stack([physical(1.2, turn)]))
    way = torch.cat([moving.place for moving in walk(character, moves(1.2, turn), frames)])
    assert way[frames].tolist() == pytest.approx([0, 0, side * 2 * math.pi], abs=1e-4)
    # A polygon of so many sides, each as long as a frame's way: its corners are on a circle.
    radius = 1.2 / RATE / (2 * math.sin(math.pi / frames))
    middle = way[:frames, :2].mean(0)
    torch.testing.assert_close((way[:, :2] - middle).norm(dim=-1), torch.full((frames + 1,), radius), atol=1e-4, rtol=0)
    # A positive turn is to the right, which at facing 0 is along z.
    assert math.copysign(1, middle[1]) == side
    torch.testing.assert_close(way[:, 2].diff(), torch.full((frames,), turn / RATE), atol=1e-5, rtol=0)


def test_straight_ahead_is_where_it_faces() -> None:
    moving = Moving(torch.zeros(4, LAYOUT.width), torch.tensor([[1.0, 2.0, angle] for angle in (0.0, 1.0, -2.0, 9.0)]))
    after = gliding.gliding().next(moving, torch.zeros(4, 2))
    torch.testing.assert_close(after.place[:, :2] - moving.place[:, :2], heading(moving.place[:, 2]) * SPEED / RATE)
    torch.testing.assert_close(after.place[:, 2], moving.place[:, 2])


def test_sideways_is_to_the_right_of_where_it_faces() -> None:
    pose = physical(0.0)[None].float()
    pose[:, 1] = 0.6
    for angle in (0.0, 2.0):
        place = advance(torch.tensor([[0.0, 0.0, angle]]), pose, RATE)
        wanted = heading(torch.tensor(angle + math.pi / 2)) * 0.6 / RATE
        torch.testing.assert_close(place[0, :2], wanted)


def test_joints_turn_and_go_with_the_character() -> None:
    character = gliding.gliding()
    moving = character.at(torch.tensor([0, 2]))
    here = character.joints(moving)
    assert here.shape == (2, 2, 3)
    assert here[:, :, 1].flatten().tolist() == pytest.approx([0.9, 1.6] * 2, abs=1e-5)
    # Of a body whose head is ahead of its pelvis.
    bent = moving.pose.clone()
    bent[:, LAYOUT.part("positions")] += torch.tensor([0.0, 0, 0, 0.3, 0, 0.1])
    places = torch.tensor([[0.0, 0.0, 0.0], [4.0, -5.0, math.pi / 2]])
    first, second = character.joints(Moving(bent, places))
    assert (first[1] - first[0]).tolist() == pytest.approx([0.3, 0.7, 0.1], abs=1e-5)
    assert (second[1] - second[0]).tolist() == pytest.approx([-0.1, 0.7, 0.3], abs=1e-5)
    assert (second[0] - first[0])[[0, 2]].tolist() == pytest.approx([4.0, -5.0], abs=1e-5)
    torch.testing.assert_close(
        character.joints(Moving(bent, places)), in_world(LAYOUT, character.physical(bent), places)
    )


def test_a_recorded_walk_replayed_stands_where_it_stood(walk_store: EpisodeStore) -> None:
    """Poses, normalised and taken back, and the way that follows from them: the joints of the clip itself."""
    clip = walk_clip((7, 0), 3.0)
    encoded = encode(clip)
    values = torch.from_numpy(encoded.values)
    normalizer = Normalizer.fit(walk_store, {"pose": ("pose",)})
    rows = normalizer.encode("pose", values)
    character = Character(Replaying(rows), normalizer, SKELETON, values, clip.rate)
    moving = replace(character.at(torch.tensor([0])), place=torch.tensor([encoded.start]))
    for frame, positions in enumerate(clip.positions):
        joints = character.joints(moving)[0].numpy()
        np.testing.assert_allclose(joints, positions, atol=2e-4)
        if frame < len(rows) - 1:
            moving = character.next(moving, torch.zeros(1, 1))


def test_physical_undoes_the_normalizer(walk_store: EpisodeStore) -> None:
    normalizer = Normalizer.fit(walk_store, {"pose": ("pose",)})
    values = torch.from_numpy(walk_store.values(walk_store.entries[-1].id, "pose"))
    character = Character(gliding.Gliding(), normalizer, SKELETON, values, 30.0)
    torch.testing.assert_close(character.starts, normalizer.encode("pose", values))
    torch.testing.assert_close(character.physical(character.starts), values, atol=1e-5, rtol=1e-5)
    far = 100 * torch.randn(2, 3, values.shape[1])
    torch.testing.assert_close(character.physical(far), normalizer.decode("pose", far).float(), atol=1e-3, rtol=1e-5)
    assert character.physical(far).dtype == torch.float32


def test_it_starts_in_given_poses_at_the_origin() -> None:
    character = gliding.gliding()
    picks = torch.tensor([2, 0, 0, 1])
    moving = character.at(picks)
    assert torch.equal(moving.pose, character.starts[picks])
    assert torch.equal(moving.place, torch.zeros(4, 3))
    drawn = character.start(300, torch.Generator().manual_seed(3))
    assert torch.equal(drawn.place, torch.zeros(300, 3))
    which = (drawn.pose[:, None] == character.starts).all(-1)
    assert (which.sum(-1) == 1).all()
    assert (which.float().mean(0) > 0.2).all()  # all of them, about alike
    again = character.start(300, torch.Generator().manual_seed(3))
    assert torch.equal(drawn.pose, again.pose)
    assert not torch.equal(drawn.pose, character.start(300, torch.Generator().manual_seed(4)).pose)


def test_a_frame_changes_nothing_that_went_in_and_characters_do_not_meet() -> None:
    character = gliding.gliding()
    start = character.at(torch.tensor([0, 1, 2]))
    kept, z = Moving(start.pose.clone(), start.place.clone()), torch.randn(3, 2)
    together = character.next(start, z)
    assert torch.equal(start.pose, kept.pose)
    assert torch.equal(start.place, kept.place)
    for b in range(3):
        one = slice(b, b + 1)
        alone = character.next(Moving(start.pose[one], start.place[one]), z[one])
        torch.testing.assert_close((alone.pose, alone.place), (together.pose[one], together.place[one]))


def test_it_knows_how_it_is_driven() -> None:
    character = gliding.gliding()
    assert (character.latent, character.rate, character.layout) == (2, RATE, LAYOUT)
    assert character.device == CPU
