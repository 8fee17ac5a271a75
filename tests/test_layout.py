"""The numbers of a pose, by name; where a character goes by them, and where its joints are."""

import numpy as np
import pytest
import torch
from bodies import NAMES, moved, person, yaw

from sakiyomi.errors import SakiyomiError
from sakiyomi.motion.features import encode
from sakiyomi.motion.layout import PARTS, ROOT, Layout, advance, heading, in_world, turned

LAYOUT = Layout(NAMES)
JOINTS = len(NAMES)


def walked(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, np.ndarray, np.ndarray]:
    """Poses [T, D], the places [T, 3] that follow from them, and the clip's own positions and rotations."""
    clip = person(50, seed=seed)
    encoded = encode(clip)
    poses = torch.from_numpy(encoded.values).double()
    places = [torch.tensor(encoded.start, dtype=torch.float64)]
    for pose in poses[1:]:
        places.append(advance(places[-1], pose, 30.0))
    return poses, torch.stack(places), clip.positions, clip.rotations


def test_every_number_has_a_name_and_every_part_its_place() -> None:
    assert LAYOUT.width == len(LAYOUT.names) == 3 + 12 * JOINTS
    assert Layout(("a",) * 22).width == 267  # the published layout's width
    assert len(set(LAYOUT.names)) == LAYOUT.width
    assert LAYOUT.names[:3] == ("root.forward", "root.right", "root.turn")
    end = 0
    for part in PARTS:
        where = LAYOUT.part(part)
        assert where.start == end
        assert {name.split(".")[0] for name in LAYOUT.names[where]} == {part}
        end = where.stop
    assert end == LAYOUT.width
    numbers = torch.arange(LAYOUT.width)
    for part in PARTS[1:]:
        vectors = LAYOUT.vectors(numbers, part)
        for joint, axis in ((0, "x"), (5, "y"), (JOINTS - 1, "z")):
            name = f"{part}.{NAMES[joint]}.{axis}"
            assert LAYOUT.names[int(vectors[joint, "xyz".index(axis)])] == name


def test_a_layout_is_read_from_its_names() -> None:
    for joints in (NAMES, ("Bip01 L Foot",), ("a.b", "a.c"), ("x", "positions.x")):
        assert Layout.read(Layout(joints).names) == Layout(joints)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), "these 0 channels are no layout of poses; they begin nowhere"),
        (("x", "y"), "these 2 channels are no layout of poses; they begin x, y, expected root.forward, root.right"),
        (LAYOUT.names[:-1], f"these {LAYOUT.width - 1} channels are no layout"),
        (LAYOUT.names[::-1], "they begin forward.RightHand.z"),
        ((*LAYOUT.names[:-3], *LAYOUT.names[:3]), "are no layout"),
    ],
)
def test_names_of_something_else_are_refused(names: tuple[str, ...], words: str) -> None:
    with pytest.raises(SakiyomiError, match=words):
        Layout.read(names)


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(SakiyomiError, match=r"unknown part of a pose 'velocity': did you mean 'velocities'\?"):
        LAYOUT.part("velocity")


def test_turning_is_the_rotation_of_the_world() -> None:
    """Forward becomes `heading`, right a quarter turn further, as the rotation that adds the angle to a facing."""
    angles = torch.linspace(-7, 7, 29, dtype=torch.float64)
    vectors = torch.randn(29, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for angle, vector, other in zip(angles, vectors, turned(vectors, angles), strict=True):
        truth = yaw(float(angle)) @ [vector[0], 0, vector[1]]
        np.testing.assert_allclose(other, truth[[0, 2]], atol=1e-12)
    ahead = torch.tensor([1.0, 0.0], dtype=torch.float64).expand(29, 2)
    torch.testing.assert_close(turned(ahead, angles), heading(angles))
    torch.testing.assert_close(turned(ahead.flip(-1), angles), heading(angles + torch.pi / 2))


def test_a_root_motion_worked_out_by_hand() -> None:
    """Facing z after a quarter turn right: 3 m/s forward go along z, 2 m/s to the right along -x."""
    pose = torch.zeros(LAYOUT.width, dtype=torch.float64)
    pose[:3] = torch.tensor([3.0, 2.0, 0.5])
    place = torch.tensor([10.0, 20.0, torch.pi / 2], dtype=torch.float64)
    expected = torch.tensor([10 - 0.2, 20 + 0.3, torch.pi / 2 + 0.05], dtype=torch.float64)
    torch.testing.assert_close(advance(place, pose, 10.0), expected)


def test_the_root_walks_where_the_pelvis_went() -> None:
    _, places, positions, _ = walked()
    np.testing.assert_allclose(places[:, :2], positions[:, 0, [0, 2]], atol=1e-5)


def test_joints_come_out_in_the_world_where_they_were() -> None:
    poses, places, positions, _ = walked(1)
    np.testing.assert_allclose(in_world(LAYOUT, poses, places), positions, atol=1e-5)
    # Any leading axes, as vectorised characters have them.
    many = in_world(LAYOUT, poses.unflatten(0, (5, 10)), places.unflatten(0, (5, 10)))
    np.testing.assert_allclose(many.flatten(0, 1), positions, atol=1e-5)


def test_velocities_are_the_differences_of_positions_in_the_frame_before() -> None:
    poses, places, positions, _ = walked(2)
    velocities = LAYOUT.vectors(poses, "velocities")[1:]
    ground = turned(velocities[..., [0, 2]], places[:-1, None, 2])
    truth = np.diff(positions, axis=0) * 30
    np.testing.assert_allclose(ground, truth[..., [0, 2]], atol=1e-4)
    np.testing.assert_allclose(velocities[..., 1], truth[..., 1], atol=1e-4)


def test_axes_are_the_rotations_with_the_facing_removed() -> None:
    poses, places, _, rotations = walked(3)
    axes = LAYOUT.axes(poses).numpy()
    for frame in range(len(axes)):
        np.testing.assert_allclose(yaw(float(places[frame, 2])) @ axes[frame], rotations[frame], atol=1e-5)


def test_axes_of_any_numbers_are_rotations_that_keep_up() -> None:
    """A model's numbers are no unit vectors, nor square to each other; the error goes to the forward axis."""
    poses = torch.randn(40, LAYOUT.width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    axes = LAYOUT.axes(poses)
    unit = torch.eye(3, dtype=torch.float64).expand_as(axes)
    torch.testing.assert_close(axes.mT @ axes, unit)
    torch.testing.assert_close(torch.linalg.det(axes), unit[..., 0, 0])
    up, forward = LAYOUT.vectors(poses, "up"), LAYOUT.vectors(poses, "forward")
    torch.testing.assert_close(axes[..., 1] * up.norm(dim=-1, keepdim=True), up)
    assert ((axes[..., 2] * forward).sum(-1) > 0).all()
    torch.testing.assert_close((axes[..., 0] * forward).sum(-1), torch.zeros(40, JOINTS, dtype=torch.float64))


def test_where_one_begins_changes_nothing_else() -> None:
    """From another place and facing, the same poses go the same way, turned and shifted."""
    poses, places, _, _ = walked(4)
    turn, shift = 1.1, (3.0, 0.0, -2.0)
    other = moved(person(50, seed=4), yaw(turn), shift).positions
    x, z, facing = places[0]
    start = torch.stack((*(turned(torch.stack((x, z)), torch.tensor(turn)) + torch.tensor([3.0, -2.0])), facing + turn))
    place = start
    for frame in range(1, 50):
        place = advance(place, poses[frame], 30.0)
    np.testing.assert_allclose(in_world(LAYOUT, poses[-1], place), other[-1], atol=1e-5)
    assert ROOT == ("forward", "right", "turn")
