"""Pictures of bodies that move.

    skeleton_gif   one or a few characters, followed by a camera
    pose_strip     a still of the same, some moments side by side
    path_plot      where up to a hundred characters went, from above
    kl_bars        how much each latent dimension says

Left limbs are orange, right limbs blue. On the ground lie the shadow and the prints of the feet that stood there a
moment ago: a foot that slides leaves a smear instead of a print. Lines on the ground are 1 m apart.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageColor, ImageDraw
from torch import Tensor

from sakiyomi.errors import SakiyomiError, at_least
from sakiyomi.motion.layout import Layout, in_world
from sakiyomi.motion.skeleton import Skeleton, side
from sakiyomi.views.canvas import BACKGROUND, GAP, GREEN, INK, QUIET, STRIP, gif_bytes, png_bytes, write_text
from sakiyomi.views.plots import ALARM, COLORS, STYLE, add_legend, add_shared_legend, as_png, figure_of
from sakiyomi.views.plots import INK as PAPER_INK

LEFT, MIDDLE, RIGHT = "#ff9a3d", "#dfe5ee", "#4ea6ff"
SHADOW, GRID = "#0b0d10", "#3a434f"
FINE = 2  # everything is drawn so many times larger and scaled down: smooth edges
FRAME_RATE = 100 / 6  # of GIFs, whose clocks count hundredths of a second: frames 60 ms apart play at their true speed
SHUTTER = 0.7  # s of blur over what the camera follows, so that it does not nod with every step
TRAIL = 2.5  # s, how long footprints stay
PLANTED = 0.35  # m/s: a foot slower than this stands
ELEVATION = 0.28  # rad, how far the camera looks down
LENS = 1.9  # distance from the camera over the height that it sees there
MARGIN = 1.35  # what the camera sees over what must be seen
NEAR = 0.3  # m from the camera: what is nearer is not drawn
FARTHEST = 40.0  # m: a body that fell apart may be any size, a picture may not
FOG = 8  # steps in which the grid fades
JUMP = 1.0  # m
MOST_PATHS = 100  # in one plot of paths


@dataclass(frozen=True)
class Body:
    """How a skeleton looks."""

    sides: tuple[int, ...]
    """Of each joint: -1 left, 0 middle, 1 right; as its name tells."""
    bones: tuple[tuple[float, float], ...]
    """Radii of the bone that ends at each joint, m: at its parent, at the joint itself."""
    trunk: tuple[int, ...]
    """The joints whose bones make the trunk: those in the middle, and those that join a limb to it."""
    head: int
    """The joint the head sits on, -1 without a head."""
    head_radius: float
    """m."""


def body(skeleton: Skeleton) -> Body:
    """How to draw this skeleton: a bone is the thicker the more hangs from it."""
    lengths = [math.dist((0, 0, 0), offset) for offset in skeleton.offsets]
    below, reach = [0.0] * len(lengths), [0.0] * len(lengths)
    for joint in range(len(lengths) - 1, 0, -1):
        parent = skeleton.parents[joint]
        below[parent] += below[joint] + lengths[joint]
        reach[parent] = max(reach[parent], reach[joint] + lengths[joint])
    scale = max(reach) or 1.0  # about a leg
    radii = [scale * min(0.095, 0.025 + 0.05 * (length / scale) ** 0.8) for length in below]
    sides = tuple(map(side, skeleton.names))
    bones, trunk = [], []
    for joint, (radius, parent) in enumerate(zip(radii, skeleton.parents, strict=True)):
        if parent >= 0 and not (sides[joint] and sides[parent]):
            trunk.append(joint)
        if sides[joint]:  # a limb is as wide as what it carries, not as the trunk it hangs from
            bones.append((min(radii[parent], 1.25 * radius), radius))
        else:
            bones.append((radii[parent], max(radius, 0.6 * radii[parent])))
    heads = [joint for joint, name in enumerate(skeleton.names) if "head" in name.lower()]
    return Body(sides, tuple(bones), tuple(trunk), heads[0] if heads else -1, 0.085 * scale)


def positions(layout: Layout, poses: Tensor, places: Tensor) -> np.ndarray:
    """World positions of the joints, m, [T, B, J, 3], of poses in their units [T, B, D] at places [T, B, 3]."""
    return in_world(layout, poses, places).double().cpu().numpy()


def skeleton_gif(
    positions: np.ndarray,
    skeleton: Skeleton,
    rate: float,
    *,
    targets: np.ndarray | None = None,
    velocities: np.ndarray | None = None,
    caption: str = "",
    together: bool = False,
    size: tuple[int, int] = (480, 360),
    azimuth: float = 0.9,
) -> bytes:
    """Characters in motion as an endless GIF at their true speed: each in a picture of its own, or all in one world
    (`together`).

    `positions` of the joints in the world, m, [T, B, J, 3], at `rate` frames a second. Of the goals, NaN where there
    is none, `targets` are places on the ground (x, z) in m, [T, B, 2], drawn as a disc; `velocities` that are wanted,
    (x, z) in m/s, [T, B, 2], an arrow. The camera stands at `azimuth`, rad, from the x axis towards z, and moves along
    with the characters; its picture is `size` pixels wide and high, less where there are more than two. Raises
    SakiyomiError for shapes that do not fit and for values that are not finite.
    """
    scene = _scene(positions, skeleton, rate, targets, velocities)
    scenes = [scene] if together else scene.apart()
    if len(scenes) > 2:
        size = (size[0] * 5 // 8, size[1] * 5 // 8)
    across = math.ceil(math.sqrt(len(scenes)))
    down = math.ceil(len(scenes) / across)
    frames = []
    for time in np.arange(0, (len(scene.positions) - 1) / rate + 1e-9, 1 / FRAME_RATE):
        frame = Image.new("RGB", (across * (size[0] + GAP) - GAP, down * (size[1] + GAP) - GAP), GRID)
        for number, one in enumerate(scenes):
            row, column = divmod(number, across)
            frame.paste(_picture(one, time, size, azimuth), (column * (size[0] + GAP), row * (size[1] + GAP)))
        draw = ImageDraw.Draw(frame)
        write_text(draw, (2 * GAP, STRIP / 2 + GAP / 2), caption, frame.width - 4 * GAP, INK, "lm")
        write_text(draw, (frame.width - 2 * GAP, frame.height - STRIP / 2), f"{time:.1f} s", frame.width, QUIET, "rm")
        frames.append(frame)
    return gif_bytes(frames, FRAME_RATE, (LEFT, MIDDLE, RIGHT, GREEN, INK, QUIET, BACKGROUND, SHADOW))


def pose_strip(
    positions: np.ndarray,
    skeleton: Skeleton,
    rate: float,
    *,
    frames: int = 6,
    targets: np.ndarray | None = None,
    velocities: np.ndarray | None = None,
    size: tuple[int, int] = (260, 360),
    azimuth: float = 0.9,
) -> bytes:
    """`frames` evenly spaced moments of what `skeleton_gif` shows, side by side as one PNG; same arguments."""
    at_least("frames", frames, 1)
    scene = _scene(positions, skeleton, rate, targets, velocities)
    times = np.linspace(0, (len(positions) - 1) / rate, frames)
    sheet = Image.new("RGB", (frames * (size[0] + GAP) - GAP, size[1] + STRIP + GAP), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for column, time in enumerate(times):
        left = column * (size[0] + GAP)
        sheet.paste(_picture(scene, time, size, azimuth), (left, 0))
        write_text(draw, (left + size[0] / 2, size[1] + STRIP / 2), f"{time:.2f} s", size[0], QUIET, "mm", 17)
    return png_bytes(sheet)


def path_plot(places: np.ndarray, *, targets: np.ndarray | None = None, title: str = "") -> bytes:
    """Where characters went, from above, as PNG: `places` x and z in m and facing in rad, [T, B, 3] (facing may be
    left out, [T, B, 2]); of more than a hundred characters the first hundred. `targets` [N, 2] or [T, B, 2] are
    rings, NaN is none. x points to the right and z down, so that a turn to the right is one on the picture.

    Raises SakiyomiError for places that are not finite.
    """
    places = _checked(np.asarray(places, float)[..., :2], (None, None, 2), "places")
    count = min(places.shape[1], MOST_PATHS)
    spots = np.empty((0, 2)) if targets is None else _spots(np.asarray(targets, float), count)
    with mpl.rc_context(STYLE):
        figure = figure_of(5.4)
        axes = figure.add_subplot()
        if len(spots):
            axes.plot(*spots.T, "o", ms=7, mfc="none", mec=COLORS[2], mew=1.4, ls="", label="targets")
        for index in range(count):
            few = count <= len(COLORS)
            color = COLORS[index] if few else mpl.colormaps["turbo"](0.05 + 0.9 * index / count)
            x, z = _broken(places[:, index]).T
            axes.plot(x, z, color=color, lw=1.5 if few else 0.8, alpha=0.9 if few else 0.7)
            axes.plot(x[-1], z[-1], "o", ms=4 if few else 2.5, color=color, label="end" if index == 0 else None)
        starts = np.unique(places[0, :count].round(3), axis=0)
        axes.plot(*starts.T, "o", ms=6, mfc="white", mec=PAPER_INK, ls="", zorder=4, label="start")
        axes.set(xlabel="x, m", ylabel="z, m", title=title or _how_many(count, places.shape[1]))
        axes.set_aspect("equal", "datalim")
        axes.invert_yaxis()
        add_shared_legend(figure)
        return as_png(figure)


def _spots(targets: np.ndarray, count: int) -> np.ndarray:
    """Every place once, [N, 2]; of targets [T, B, 2] those of the characters that are drawn."""
    drawn = targets[:, :count] if targets.ndim == 3 else targets
    spots = np.unique(drawn.reshape(-1, 2), axis=0)
    return spots[np.isfinite(spots).all(-1)]


def _broken(path: np.ndarray) -> np.ndarray:
    """A path [T, 2] with a gap where the character was put elsewhere: nobody goes JUMP in a frame."""
    jumps = np.flatnonzero(np.linalg.norm(np.diff(path, axis=0), axis=-1) > JUMP) + 1
    return np.insert(path, jumps, np.nan, axis=0)


def _how_many(count: int, total: int) -> str:
    if total == 1:
        return "path on the ground"
    return f"paths of {count} characters" + (f" out of {total}" if total > count else "")


def kl_bars(kl: np.ndarray, *, threshold: float = 0.01, codes: bool = False) -> bytes:
    """What each latent dimension says: KL divergence in nats, [Z], largest first, on a logarithmic axis, as PNG; or of
    `codes` how often each is taken, of its fair share. What is at or above `threshold` is in use. Raises SakiyomiError
    for values that are not finite or below 0."""
    kl = _checked(kl, (None,), "KL divergences")
    if (kl < -1e-6).any():
        raise SakiyomiError(f"a KL divergence is {kl.min():g}; none can be below 0")
    order = np.argsort(-kl, kind="stable")
    used = kl[order] >= threshold
    floor = threshold / 10
    with mpl.rc_context(STYLE):
        figure = figure_of(2.9)
        axes = figure.add_subplot()
        colors = [COLORS[0] if use else "#b9c0ca" for use in used]
        axes.bar(np.arange(len(kl)), np.maximum(kl[order], floor * 1.05), color=colors, width=0.8)
        axes.axhline(threshold, color=ALARM, lw=1.2, ls="--", label=f"in use: at least {threshold:g}")
        axes.set(yscale="log", ylim=(floor, 2 * max(float(kl.max()), threshold)), xlim=(-0.7, len(kl) - 0.3))
        one, what = ("code", "times its fair share") if codes else ("latent dimension", "KL divergence, nats")
        axes.set(xlabel=one, ylabel=what)
        in_all = "" if codes else f", {kl.sum():.2f} nats in all"
        axes.set_title(f"{used.sum()} of {len(kl)} {one}s in use{in_all}")
        axes.set_xticks(np.arange(len(kl)), [str(i + 1) for i in order], fontsize=8 if len(kl) <= 40 else 5)
        axes.grid(axis="x", visible=False)
        add_legend(axes)
        return as_png(figure)


@dataclass(frozen=True)
class _Scene:
    """All that a camera could see, over T frames."""

    positions: np.ndarray
    """[T, B, J, 3]."""
    skeleton: Skeleton
    body: Body
    rate: float
    targets: np.ndarray
    velocities: np.ndarray
    """[T, B, 2], NaN where there is no goal."""
    center: np.ndarray
    """What the camera looks at, [T, 3]."""
    extent: np.ndarray
    """How far from there what is to be seen may lie, m, [T]."""
    standing: np.ndarray
    """Which feet stand, bool [T, B, F]."""
    feet: np.ndarray
    """Where each foot is on the ground, (x, z), [T, B, F, 2]."""
    foot_sides: np.ndarray
    """[F]."""

    def apart(self) -> "list[_Scene]":
        """Each character in a scene of its own."""
        return [
            _scene(
                self.positions[:, [one]],
                self.skeleton,
                self.rate,
                self.targets[:, [one]],
                self.velocities[:, [one]],
            )
            for one in range(self.positions.shape[1])
        ]

    def at(self, values: np.ndarray, time: float) -> np.ndarray:
        """`values` [T, ...] at a time between frames."""
        place = min(time * self.rate, len(values) - 1)
        first = int(place)
        part = place - first
        return values[first] if part < 1e-6 else (1 - part) * values[first] + part * values[first + 1]

    def goal(self, values: np.ndarray, time: float) -> np.ndarray:
        """Goals jump, they are not between frames."""
        return values[min(round(time * self.rate), len(values) - 1)]


def _scene(
    positions: np.ndarray,
    skeleton: Skeleton,
    rate: float,
    targets: np.ndarray | None,
    velocities: np.ndarray | None,
) -> _Scene:
    positions = _checked(positions, (None, None, len(skeleton.names), 3), "positions")
    steps, count = positions.shape[:2]
    nowhere = np.full((steps, count, 2), np.nan)
    goals = [nowhere if goal is None else np.asarray(goal, float) for goal in (targets, velocities)]
    for name, goal in zip(("targets", "velocities"), goals, strict=True):
        if goal.shape != nowhere.shape:
            raise SakiyomiError(f"{name} have the shape {list(goal.shape)}; {steps} frames of {count} characters "
                                f"take {list(nowhere.shape)}")  # fmt: skip
    shape = body(skeleton)
    roots = positions[:, :, 0]
    height = float(np.ptp(positions[..., 1], axis=(1, 2)).max()) or 1.0
    middle = roots.mean(1) * (1, 0, 1) + (0, 0.5 * height, 0)
    spread = np.linalg.norm((positions - middle[:, None, None])[..., [0, 2]], axis=-1).max((1, 2))
    extent = np.maximum(spread + 0.15, 0.55 * height)
    feet = [skeleton.names.index(name) for name in skeleton.feet]
    ground = positions[:, :, feet][..., [0, 2]]
    speed = np.linalg.norm(np.diff(positions[:, :, feet], axis=0, prepend=positions[:1, :, feet]), axis=-1) * rate
    return _Scene(
        positions=positions,
        skeleton=skeleton,
        body=shape,
        rate=rate,
        targets=goals[0],
        velocities=goals[1],
        center=_smooth(middle, rate),
        extent=_smooth(extent[:, None], rate)[:, 0],
        standing=speed < PLANTED,
        feet=ground,
        foot_sides=np.array([shape.sides[joint] for joint in feet], int),
    )


def _checked(values: np.ndarray, shape: tuple[int | None, ...], name: str) -> np.ndarray:
    """Raises SakiyomiError unless the values are finite and of this shape (None: any size but 0)."""
    values = np.asarray(values, float)
    fits = values.ndim == len(shape) and all(n > 0 and n == (m or n) for n, m in zip(values.shape, shape, strict=True))
    if not fits:
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise SakiyomiError(f"{name} have the shape {list(values.shape)}; expected [{wanted}]")
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        raise SakiyomiError(f"{name} are not finite at {bad[0].tolist()} of {list(values.shape)}; leave those out")
    return values


def _smooth(values: np.ndarray, rate: float) -> np.ndarray:
    """A mean over SHUTTER seconds on either side, [T, C]; ends are held."""
    half = max(1, round(SHUTTER * rate))
    padded = np.concatenate((values[:1].repeat(half, 0), values, values[-1:].repeat(half, 0)))
    weights = np.hanning(2 * half + 3)[1:-1]
    columns = [np.convolve(column, weights / weights.sum(), "valid") for column in padded.T]
    return np.stack(columns, 1)


class _Camera:
    """A camera that looks at `center` [3] from `distance` m; pictures are `size` pixels wide and high."""

    def __init__(self, center: np.ndarray, distance: float, azimuth: float, size: tuple[int, int]) -> None:
        back = np.array(
            (
                math.cos(azimuth) * math.cos(ELEVATION),
                math.sin(ELEVATION),
                math.sin(azimuth) * math.cos(ELEVATION),
            )
        )
        across = np.array((math.sin(azimuth), 0.0, -math.cos(azimuth)))
        self.axes = np.stack((across, -np.cross(back, across), -back))  # right, down, ahead
        self.eye = center + distance * back
        self.focal = LENS * size[1]
        self.middle = np.array(size) / 2

    def see(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels [..., 2] and depths, m, [...] of points [..., 3]; what lies behind has a depth below 0."""
        seen = (points - self.eye) @ self.axes.T
        depth = seen[..., 2]
        return self.middle + self.focal * seen[..., :2] / np.maximum(depth, 0.05)[..., None], depth


def _picture(scene: _Scene, time: float, size: tuple[int, int], azimuth: float) -> Image.Image:
    """What is seen at a moment."""
    fine = (size[0] * FINE, size[1] * FINE)
    extent = float(scene.at(scene.extent, time))
    across = min(1.0, size[0] / size[1])  # a narrow picture needs more distance
    camera = _Camera(scene.at(scene.center, time), 2 * MARGIN * LENS * extent / across, azimuth, fine)
    image = Image.new("RGB", fine, BACKGROUND)
    draw = ImageDraw.Draw(image)
    positions = scene.at(scene.positions, time)
    _draw_grid(draw, camera, scene.at(scene.center, time), 4 + 3 * extent)
    _draw_footprints(draw, camera, scene, time)
    for character, target, velocity in zip(
        positions, scene.goal(scene.targets, time), scene.goal(scene.velocities, time), strict=True
    ):
        _draw_target(draw, camera, character[0, [0, 2]], target)
        _draw_arrow(draw, camera, character[0, [0, 2]], velocity)
    for character in positions:
        _draw_shadow(draw, camera, scene, character)
    _draw_bodies(draw, camera, scene, positions)
    return image.reduce(FINE)


def _ground(places: np.ndarray) -> np.ndarray:
    """(x, z) on the ground as points in space, [..., 3]."""
    return np.stack((places[..., 0], np.zeros_like(places[..., 0]), places[..., 1]), -1)


def _draw_grid(draw: ImageDraw.ImageDraw, camera: _Camera, center: np.ndarray, radius: float) -> None:
    """Lines 1 m apart that fade with the distance from the centre, none further than FARTHEST."""
    middle, radius = center[[0, 2]], min(radius, FARTHEST)
    reach = np.arange(-math.ceil(radius), math.ceil(radius) + 1)
    corners = np.stack(np.meshgrid(reach, reach, indexing="ij"), -1).reshape(-1, 1, 2) + np.floor(middle)
    edges = np.concatenate([corners + np.array(((0, 0), step)) for step in ((1, 0), (0, 1))])  # [N, 2 ends, 2]
    levels = np.ceil(FOG * (1 - (np.linalg.norm(edges.mean(1) - middle, axis=-1) / radius) ** 2))
    ends, depths = camera.see(_ground(edges))
    seen = (levels > 0) & (depths.min(1) > NEAR)
    for (a, b), level in zip(ends[seen], levels[seen], strict=True):
        draw.line((*a, *b), _mixed(BACKGROUND, GRID, level / FOG), FINE)


def _draw_footprints(draw: ImageDraw.ImageDraw, camera: _Camera, scene: _Scene, time: float) -> None:
    now = min(int(time * scene.rate), len(scene.feet) - 1)
    first = max(0, now - round(TRAIL * scene.rate))
    for frame in range(first, now + 1):
        color_part = 0.15 + 0.45 * (frame - first) / max(1, now - first)
        for character, foot in np.argwhere(scene.standing[frame]):
            color = _mixed(BACKGROUND, _side_color(int(scene.foot_sides[foot])), color_part)
            _draw_disc(draw, camera, scene.feet[frame, character, foot], 0.045, color)


def _draw_disc(draw: ImageDraw.ImageDraw, camera: _Camera, place: np.ndarray, radius: float, color: str) -> None:
    """A filled circle on the ground."""
    angles = np.linspace(0, 2 * math.pi, 17 if radius < 0.1 else 49)[:-1]
    rim, depth = camera.see(_ground(place + radius * np.stack((np.cos(angles), np.sin(angles)), -1)))
    if depth.min() > NEAR:
        draw.polygon([tuple(point) for point in rim], color)


def _draw_target(draw: ImageDraw.ImageDraw, camera: _Camera, place: np.ndarray, target: np.ndarray) -> None:
    """Where the character is to go, and a dotted way there."""
    if not np.isfinite(target).all():
        return
    way = target - place
    length = float(np.hypot(*way))
    for at in np.arange(0.5, min(length, FARTHEST) - 0.4, 0.25):
        _draw_disc(draw, camera, place + way * at / length, 0.02, _mixed(BACKGROUND, GREEN, 0.6))
    for radius, part in ((0.3, 0.9), (0.25, 0.25), (0.07, 0.9)):
        _draw_disc(draw, camera, target, radius, _mixed(BACKGROUND, GREEN, part))


def _draw_arrow(draw: ImageDraw.ImageDraw, camera: _Camera, place: np.ndarray, velocity: np.ndarray) -> None:
    """The velocity that is wanted: from beside the character, the longer the faster."""
    if not np.isfinite(velocity).all():
        return
    speed = float(np.hypot(*velocity))
    if speed < 1e-3:
        return
    ahead = velocity / speed
    aside = np.array((-ahead[1], ahead[0]))
    begin, end = 0.3, 0.4 + 0.25 * speed
    outline = [(begin, 0.03), (end, 0.03), (end, 0.11), (end + 0.22, 0.0), (end, -0.11), (end, -0.03), (begin, -0.03)]
    points, depth = camera.see(_ground(np.array([place + a * ahead + b * aside for a, b in outline])))
    if depth.min() > NEAR:
        draw.polygon([tuple(point) for point in points], GREEN)


def _draw_shadow(draw: ImageDraw.ImageDraw, camera: _Camera, scene: _Scene, character: np.ndarray) -> None:
    """As from a light straight above."""
    for joint, parent in enumerate(scene.skeleton.parents):
        if parent >= 0:
            ends, depth = camera.see(_ground(character[[parent, joint]][:, [0, 2]]))
            width = camera.focal / float(depth.mean()) * scene.body.bones[joint][1]
            _draw_capsule(draw, ends, (width, width), SHADOW, flat=0.45)


def _draw_bodies(draw: ImageDraw.ImageDraw, camera: _Camera, scene: _Scene, positions: np.ndarray) -> None:
    """From the farthest part to the nearest."""
    parts = [part for character in positions for part in _parts(scene, character)]
    seen = [([(*camera.see(ends), radii) for ends, radii in bones], color) for bones, color in parts]
    seen = [(bones, color) for bones, color in seen if all(depth.min() > NEAR for _, depth, _ in bones)]
    for bones, color in sorted(seen, key=lambda part: -float(np.mean([depth for _, depth, _ in part[0]]))):
        shapes = [
            (ends, [camera.focal * r / float(d) for r, d in zip(radii, depth, strict=True)])
            for ends, depth, radii in bones
        ]
        for ends, wide in shapes:
            _draw_capsule(draw, ends, [w + FINE for w in wide], BACKGROUND)
        for ends, wide in shapes:
            _draw_capsule(draw, ends, wide, _mixed(BACKGROUND, color, 0.78))
        for ends, wide in shapes:  # light from above on the left
            _draw_capsule(draw, ends - 0.3 * min(wide), [0.5 * w for w in wide], color)


def _parts(scene: _Scene, character: np.ndarray) -> list[tuple[list[tuple[np.ndarray, tuple[float, float]]], str]]:
    """What is drawn in one go, and its colour: every bone of a limb, all of the trunk, the head. A bone is its ends
    [2, 3] and radii."""
    trunk, parts = [], []
    for joint, parent in enumerate(scene.skeleton.parents):
        if parent >= 0:
            bone = (character[[parent, joint]], scene.body.bones[joint])
            if joint in scene.body.trunk:
                trunk.append(bone)
            else:
                parts.append(([bone], _side_color(scene.body.sides[joint])))
    if trunk:
        parts.append((trunk, MIDDLE))
    head = scene.body.head
    if head > 0:
        way = character[head] - character[scene.skeleton.parents[head]]
        middle = character[head] + scene.body.head_radius * way / max(float(np.linalg.norm(way)), 1e-6)
        parts.append(([(np.stack((middle, middle)), (scene.body.head_radius,) * 2)], MIDDLE))
    return parts


def _draw_capsule(
    draw: ImageDraw.ImageDraw, ends: np.ndarray, radii: Sequence[float], color: str, flat: float = 1.0
) -> None:
    """Two circles and what lies between them: ends [2, 2] and radii in pixels; circles lie on the ground and look
    `flat` times as high as wide."""
    (ax, ay), (bx, by) = ends
    ra, rb = radii
    draw.ellipse((ax - ra, ay - flat * ra, ax + ra, ay + flat * ra), color)
    draw.ellipse((bx - rb, by - flat * rb, bx + rb, by + flat * rb), color)
    length = math.hypot(bx - ax, (by - ay) / flat)
    if length > 1e-6:
        nx, ny = -(by - ay) / flat / length, (bx - ax) / length
        draw.polygon(
            (
                (ax + ra * nx, ay + flat * ra * ny),
                (bx + rb * nx, by + flat * rb * ny),
                (bx - rb * nx, by - flat * rb * ny),
                (ax - ra * nx, ay - flat * ra * ny),
            ),
            color,
        )


def _side_color(where: int) -> str:
    return (LEFT, MIDDLE, RIGHT)[where + 1]


def _mixed(a: str, b: str, part: float) -> str:
    """A colour between `a` (0) and `b` (1)."""
    one, two = (np.array(ImageColor.getrgb(color)) for color in (a, b))
    return "#{:02x}{:02x}{:02x}".format(*np.round(one + (two - one) * part).astype(int))
