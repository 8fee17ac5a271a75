"""views/motion.py: the pictures decode, play at their true speed, and show what is where."""

import io
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import gliding
import numpy as np
import pytest
import torch
from PIL import Image, ImageColor

from sakiyomi.data.sources.walk import SKELETON, clip
from sakiyomi.errors import SakiyomiError
from sakiyomi.motion.layout import in_world
from sakiyomi.motion.skeleton import Clip
from sakiyomi.views.canvas import BACKGROUND, GREEN
from sakiyomi.views.motion import (
    FRAME_RATE,
    LEFT,
    MIDDLE,
    RIGHT,
    body,
    kl_bars,
    path_plot,
    pose_strip,
    positions,
    skeleton_gif,
)
from sakiyomi.views.plots import COLORS

RATE = 30.0
SIZE = (160, 120)
BEHIND, BEFORE = math.pi, 0.0  # azimuths of a camera that looks along x, and against it


@pytest.fixture(scope="module")
def walk() -> Clip:
    """A second of walking that begins at the origin, facing along x."""
    whole = clip(0, 2.0)
    first = whole.positions[0]
    left, right = first[SKELETON.names.index("LeftUpLeg")], first[SKELETON.names.index("RightUpLeg")]
    across = (right - left) / np.linalg.norm(right - left)
    back = np.array([[across[2], 0, -across[0]], [0, 1, 0], [across[0], 0, across[2]]])
    moved = (whole.positions[:31] - first[0] * (1, 0, 1)) @ back.T
    return replace(whole, positions=moved, rotations=whole.rotations[:31])


def standing(walk: Clip, frames: int = 10) -> np.ndarray:
    """The first pose, [frames, 1, J, 3]."""
    return np.repeat(walk.positions[:1, None], frames, 0)


def opened(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def frames(content: bytes) -> list[np.ndarray]:
    image = opened(content)
    found = []
    for index in range(getattr(image, "n_frames", 1)):
        image.seek(index)
        found.append(np.asarray(image.convert("RGB")).astype(int))
    return found


def where(pixels: np.ndarray, color: str, tolerance: int = 6) -> np.ndarray:
    """(x, y) of the pixels of a colour, [n, 2]."""
    near = (abs(pixels - np.array(ImageColor.getrgb(color))) <= tolerance).all(-1)
    return np.argwhere(near)[:, ::-1]


def gif(shown: np.ndarray, **options: object) -> list[np.ndarray]:
    return frames(skeleton_gif(shown, SKELETON, RATE, **({"size": SIZE} | options)))  # pyright: ignore[reportArgumentType]


# ---- a body ----


def test_a_body_has_sides_a_trunk_a_head_and_limbs_that_taper() -> None:
    look = body(SKELETON)
    joint = SKELETON.names.index
    assert [look.sides[joint(n)] for n in ("LeftHand", "Hips", "RightToe")] == [-1, 0, 1]
    assert look.head == joint("Head")
    trunk = ("Spine", "Head", "LeftArm", "RightArm", "LeftUpLeg", "RightUpLeg")
    assert sorted(look.trunk) == sorted(map(joint, trunk))
    for one, other in ((joint(f"Left{n}"), joint(f"Right{n}")) for n in ("Leg", "Foot", "Hand")):
        assert look.bones[one] == look.bones[other]
        assert look.bones[one][0] >= look.bones[one][1] > 0
    thigh, shank, foot = (look.bones[joint(n)][0] for n in ("LeftLeg", "LeftFoot", "LeftToe"))
    assert 0.1 > thigh > shank > foot > 0.01  # m
    assert look.bones[joint("LeftArm")][0] < look.bones[joint("Spine")][0]  # not as thick as the trunk it hangs from


def test_a_body_is_as_thick_for_its_size() -> None:
    small = replace(SKELETON, offsets=tuple((x / 10, y / 10, z / 10) for x, y, z in SKELETON.offsets))
    np.testing.assert_allclose(10 * np.array(body(small).bones), body(SKELETON).bones)
    assert 10 * body(small).head_radius == pytest.approx(body(SKELETON).head_radius)


def test_positions_are_those_of_the_layout() -> None:
    poses = gliding.physical(1.2).repeat(5, 2, 1)
    places = torch.rand(5, 2, 3, dtype=torch.float64)
    found = positions(gliding.LAYOUT, poses, places)
    np.testing.assert_array_equal(found, in_world(gliding.LAYOUT, poses, places).numpy())


# ---- moving pictures ----


def test_a_gif_plays_at_the_true_speed(walk: Clip) -> None:
    image = opened(skeleton_gif(walk.positions[:, None], SKELETON, RATE, size=SIZE))
    assert image.size == SIZE
    durations = []
    for index in range(image.n_frames):  # pyright: ignore[reportAttributeAccessIssue]
        image.seek(index)
        durations.append(image.info["duration"])
    assert set(durations[:-1]) == {60}
    assert sum(durations[:-1]) == pytest.approx(1000 * 30 / RATE, abs=60)
    assert round(1000 / FRAME_RATE) == 60


def test_between_two_frames_a_body_is_between_two_places(walk: Clip) -> None:
    shown = standing(walk, 2) + np.array([[[[0.0, 0, 0]]], [[[0.5, 0, 0]]]])
    pictures = frames(skeleton_gif(shown, SKELETON, 1.0, size=SIZE))  # one frame a second
    assert all((a != b).any() for a, b in pairwise(pictures))
    assert len(pictures) == 17


def test_left_is_left_as_seen_from_behind_and_right_from_before(walk: Clip) -> None:
    for azimuth, sign in ((BEHIND, 1), (BEFORE, -1)):
        picture = gif(standing(walk), azimuth=azimuth)[0]
        left, right = where(picture, LEFT)[:, 0].mean(), where(picture, RIGHT)[:, 0].mean()
        assert sign * (right - left) > 4


def test_up_is_up_and_the_camera_looks_at_the_body(walk: Clip) -> None:
    picture = gif(standing(walk), azimuth=BEHIND)[0]
    head, legs = where(picture, MIDDLE)[:, 1].min(), where(picture, LEFT)[:, 1].max()
    assert 0.02 * SIZE[1] < head < 0.3 * SIZE[1]
    assert 0.6 * SIZE[1] < legs < 0.98 * SIZE[1]
    assert where(picture, MIDDLE)[:, 0].mean() == pytest.approx(SIZE[0] / 2, abs=0.08 * SIZE[0])


def test_the_camera_stays_with_whoever_walks_away(walk: Clip) -> None:
    far = standing(walk, 61) + np.linspace(0, 20, 61)[:, None, None, None] * (1, 0, 0)
    for picture in gif(far, azimuth=1.2)[::6]:
        x, y = where(picture, MIDDLE).mean(0)
        assert abs(x - SIZE[0] / 2) < 0.35 * SIZE[0]
        assert 0.1 * SIZE[1] < y < 0.7 * SIZE[1]


def test_elsewhere_looks_the_same(walk: Clip) -> None:
    shown = walk.positions[:, None]
    here, there = gif(shown), gif(shown + np.array((40.0, 0, -7.0)))  # whole metres: the lines on the ground too
    assert all(abs(a - b).max() <= 60 and (a != b).mean() < 0.01 for a, b in zip(here, there, strict=True))


def test_what_is_nearer_hides_what_is_farther(walk: Clip) -> None:
    picture = gif(standing(walk), azimuth=math.pi / 2)[0]  # from their right
    assert len(where(picture, RIGHT)) > 1.2 * len(where(picture, LEFT))
    picture = gif(standing(walk), azimuth=-math.pi / 2)[0]
    assert len(where(picture, LEFT)) > 1.2 * len(where(picture, RIGHT))


def test_a_target_is_a_green_disc_where_it_is_and_only_while_it_is_there(walk: Clip) -> None:
    shown = standing(walk, 20)
    targets = np.full((20, 1, 2), np.nan)
    targets[10:] = (1.0, 1.0)  # ahead and to the right
    pictures = gif(shown, targets=targets, azimuth=BEHIND)
    assert len(where(pictures[0], GREEN)) == 0
    green = where(pictures[-1], GREEN, 40)
    assert len(green) > 10
    assert green[:, 0].max() > where(pictures[-1], RIGHT)[:, 0].max()
    mirrored = gif(shown, targets=targets * (1, -1), azimuth=BEHIND)[-1]
    assert where(mirrored, GREEN, 40)[:, 0].min() < where(mirrored, LEFT)[:, 0].min()


def test_an_arrow_shows_the_velocity_that_is_wanted(walk: Clip) -> None:
    def green(speed: float, heading: float) -> np.ndarray:
        wanted = np.full((10, 1, 2), speed) * (math.cos(heading), math.sin(heading))
        return where(gif(standing(walk), velocities=wanted, azimuth=BEHIND)[0], GREEN)

    right, left = green(1.0, math.pi / 2), green(1.0, -math.pi / 2)
    assert right[:, 0].min() > SIZE[0] / 2 > left[:, 0].max()
    assert np.ptp(green(1.5, math.pi / 2)[:, 0]) > np.ptp(right[:, 0])
    assert len(green(0.0, 0.0)) == 0


def test_a_foot_that_stands_leaves_a_print_and_one_that_slides_a_smear(walk: Clip) -> None:
    def marks(speed: float) -> int:
        """Pixels on the ground that are there with feet, and not without."""
        shown = standing(walk, 61) + speed * np.arange(61)[:, None, None, None] / RATE * (1.0, 0, 0)
        with_feet = gif(shown)[-1]
        without = frames(skeleton_gif(shown, replace(SKELETON, feet=()), RATE, size=SIZE))[-1]
        return int((abs(with_feet - without).sum(-1) > 20).sum())

    assert 0 < marks(0.0) < 0.6 * marks(0.3)
    assert marks(2.0) < 5  # in the air


def test_each_has_a_picture_of_his_own_unless_together(walk: Clip) -> None:
    three = np.concatenate([walk.positions[:5, None] + (0, 0, z) for z in (0, 5, 10)], 1)
    apart = opened(skeleton_gif(three, SKELETON, RATE, size=SIZE))
    assert apart.size == (2 * SIZE[0] * 5 // 8 + 6, 2 * (SIZE[1] * 5 // 8) + 6)
    assert opened(skeleton_gif(three, SKELETON, RATE, size=SIZE, together=True)).size == SIZE
    tile = np.asarray(apart.convert("RGB"))[: SIZE[1] * 5 // 8, : SIZE[0] * 5 // 8].astype(int)
    assert where(tile, MIDDLE)[:, 1].min() < 0.3 * len(tile)  # as large as one alone


def test_a_caption_is_written(walk: Clip) -> None:
    plain, told = (gif(standing(walk), caption=caption)[0] for caption in ("", "walk"))
    changed = np.argwhere(abs(plain - told).max(-1) > 60)
    assert len(changed) > 10
    assert changed[:, 0].max() < 30


def test_a_strip_shows_moments_side_by_side(walk: Clip) -> None:
    strip = opened(pose_strip(walk.positions[:, None], SKELETON, RATE, frames=4, size=SIZE))
    assert strip.size[0] == 4 * (SIZE[0] + 6) - 6
    columns = np.asarray(strip.convert("RGB")).astype(int)[: SIZE[1]]
    for number in range(4):
        left = number * (SIZE[0] + 6)
        assert len(where(columns[:, left : left + SIZE[0]], LEFT)) > 20
    with pytest.raises(SakiyomiError, match="frames is 0; it must be at least 1"):
        pose_strip(walk.positions[:, None], SKELETON, RATE, frames=0)


def broken(walk: Clip) -> np.ndarray:
    shown = walk.positions[:, None].copy()
    shown[4, 0, 2, 1] = np.nan
    return shown


@pytest.mark.parametrize("picture", [skeleton_gif, pose_strip])
@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda walk: walk.positions, r"positions have the shape \[31, 17, 3\]; expected \[any, any, 17, 3\]"),
        (lambda walk: walk.positions[:, None, :5], r"shape \[31, 1, 5, 3\]; expected \[any, any, 17, 3\]"),
        (lambda walk: walk.positions[:0, None], r"shape \[0, 1, 17, 3\]"),
        (broken, r"positions are not finite at \[4, 0, 2, 1\]"),
    ],
)
def test_what_is_no_motion_is_refused(
    walk: Clip, picture: Callable[..., bytes], made: Callable[[Clip], np.ndarray], told: str
) -> None:
    with pytest.raises(SakiyomiError, match=told):
        picture(made(walk), SKELETON, RATE)


@pytest.mark.parametrize("name", ["targets", "velocities"])
def test_goals_of_another_shape_are_refused(walk: Clip, name: str) -> None:
    goals: dict[str, np.ndarray] = {name: np.zeros((31, 2))}
    with pytest.raises(SakiyomiError, match=rf"{name} have the shape \[31, 2\]; .* take \[31, 1, 2\]"):
        pose_strip(walk.positions[:, None], SKELETON, RATE, **goals)  # pyright: ignore[reportArgumentType]


# ---- charts ----


def plotted(content: bytes) -> np.ndarray:
    """(x, y) of the pixels of the first path, below the legend."""
    picture = frames(content)[0]
    spot = where(picture, COLORS[0], 30)
    return spot[spot[:, 1] > 0.12 * len(picture)]


def circle(radius: float = 5.0) -> np.ndarray:
    angle = np.linspace(0, 2 * math.pi, 200)
    return np.stack((radius * np.cos(angle), 0.0 * angle + radius * np.sin(angle), angle), -1)[:, None]


def test_a_circle_is_round_on_a_plot_of_paths() -> None:
    spot = plotted(path_plot(circle()))
    wide, high = np.ptp(spot, axis=0)
    assert wide == pytest.approx(high, rel=0.02)
    assert wide > 300


def test_a_turn_to_the_right_is_one_on_the_plot() -> None:
    """First along x, then along z, which is to the right."""
    way = np.concatenate((np.stack((np.linspace(0, 5, 50), np.zeros(50)), -1), np.full((50, 2), 5.0)))
    way[50:, 1] = np.linspace(0, 3, 50)
    spot = plotted(path_plot(way[:, None]))
    first, last = spot[spot[:, 0].argmin()], spot[spot[:, 1].argmax()]
    assert last[0] > first[0] + 200  # x to the right
    assert last[1] > first[1] + 100  # z down


def test_a_hundred_paths_and_their_targets_are_drawn() -> None:
    random = np.random.default_rng(0)
    places = np.cumsum(random.normal(0, 0.03, (20, 130, 2)), 0)
    many = frames(path_plot(places))[0]
    assert len(np.unique(many.reshape(-1, 3), axis=0)) > 1000
    targets = np.full((20, 130, 2), np.nan)
    targets[:, 0] = (0.3, -0.3)
    targets[:, 120] = (30.0, 30.0)  # of one that is not drawn
    told = frames(path_plot(places, targets=targets))[0]
    assert len(where(told, COLORS[2], 10)) > len(where(many, COLORS[2], 10)) + 30
    np.testing.assert_array_equal(told, frames(path_plot(places, targets=targets[:, :100]))[0])


def test_a_path_has_a_gap_where_its_character_was_put_elsewhere() -> None:
    """Two short stretches, far apart: nothing is drawn between them."""
    way = np.concatenate((np.linspace((0, 0), (1, 0), 40), np.linspace((9, 0), (10, 0), 40)))[:, None]
    spot = plotted(path_plot(way))
    counts = np.histogram(spot[:, 0], 10)[0]
    assert counts[0] > 0
    assert counts[-1] > 0
    assert (counts[2:8] == 0).all()


def test_places_that_are_not_finite_are_refused() -> None:
    bad = circle()
    bad[7, 0, 1] = np.inf
    with pytest.raises(SakiyomiError, match=r"places are not finite at \[7, 0, 1\]"):
        path_plot(bad)


def test_bars_are_sorted_and_those_in_use_stand_out() -> None:
    kl = np.array([0.001, 2.0, 0.0, 0.01, 0.5])  # three reach the threshold, one just so
    picture = frames(kl_bars(kl))[0]
    used, unused = where(picture, COLORS[0], 3), where(picture, "#b9c0ca", 3)
    tops = [used[used[:, 0] == x, 1].min() for x in np.unique(used[:, 0])]
    assert (np.diff(tops) >= -3).all()  # falling from left to right
    groups = 1 + (np.diff(np.unique(used[:, 0])) > 3).sum()
    assert groups == 3
    assert len(unused) > 0
    assert (unused[:, 0] > used[:, 0].max()).sum() > 300
    shuffled = frames(kl_bars(kl[[4, 3, 2, 1, 0]]))[0]
    assert len(where(shuffled, COLORS[0], 3)) == len(used)


@pytest.mark.parametrize(
    ("kl", "told"),
    [
        (np.array([0.1, np.nan]), r"KL divergences are not finite at \[1\]"),
        (np.array([0.1, -0.2]), "a KL divergence is -0.2; none can be below 0"),
        (np.zeros((2, 2)), r"shape \[2, 2\]; expected \[any\]"),
    ],
)
def test_what_is_no_divergence_is_refused(kl: np.ndarray, told: str) -> None:
    with pytest.raises(SakiyomiError, match=told):
        kl_bars(kl)


def test_a_scene_is_drawn_on_the_background_of_all_moving_pictures(walk: Clip) -> None:
    corner = gif(standing(walk))[0][5, 5]
    np.testing.assert_allclose(corner, ImageColor.getrgb(BACKGROUND), atol=4)
