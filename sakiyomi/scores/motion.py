"""How well a body moves by itself: whether its feet slide, whether it stays a body, how far it goes.

    reference = reference_of(EpisodeStore("data/walk"))
    scores = score_rollouts(poses, reference, protocol)      # poses [N, T, D], in their own units
    active_units(kl_per_dimension)

Everything is measured on poses of `motion/layout.py`, many rollouts at once, on the poses' device. Foot sliding is
that of Zhang et al. (2018, "Mode-adaptive neural networks for quadruped motion control") with the height of Ling et
al. (2020, "Character controllers using motion VAEs").
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import torch
from torch import Tensor

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.errors import SakiyomiError, unknown
from sakiyomi.motion.layout import Layout, in_world, turned
from sakiyomi.motion.skeleton import Skeleton
from sakiyomi.scores.protocol import Protocol, Score
from sakiyomi.scores.statistics import bootstrap, wilson

SLIDING_HEIGHT = 0.033
"""m above its floor at which a foot's displacement no longer counts as sliding (Ling et al. 2020; Zhang et al. took
2.5 cm)."""
FLOOR = 0.05
"""A foot joint's floor is this quantile of its height in the data: the ankle of a flat foot is above the ground."""
EXPLODED = 1.2
"""Times the data's range that no joint may leave."""
NARROWEST = 0.05
"""m; a narrower range counts as this wide. The pelvis is above the root by definition, and a millimetre beside it is no
explosion."""
ACTIVE = 0.01
"""nats of a latent dimension that is in use."""


@dataclass(frozen=True)
class Reference:
    """What the data's own motion is like."""

    layout: Layout
    feet: tuple[str, ...]
    """Joints that touch the ground, F of them."""
    rate: float
    """Frames a second."""
    floor: tuple[float, ...]
    """Height of each of `feet` when it bears, m."""
    low: tuple[float, ...]
    """Of the joints' positions, facing removed, J x (x, y, z), m."""
    high: tuple[float, ...]
    sliding: float
    """Of the feet, cm a frame."""

    def feet_of(self, joints: Tensor) -> Tensor:
        """Of joints [..., J, 3] the feet, [..., F, 3]."""
        return joints[..., [self.layout.joints.index(name) for name in self.feet], :]


def reference_of(store: EpisodeStore, split: str = "train", stream: str = "pose") -> Reference:
    """The reference of a store of motion. Raises SakiyomiError when the store holds none, or its skeleton no feet."""
    if stream not in store.streams:
        raise unknown("stream", stream, store.streams)
    if "skeleton" not in store.origin:
        raise SakiyomiError(f"{store.place} holds no motion: its origin names no skeleton, only {[*store.origin]}")
    skeleton = msgspec.convert(store.origin["skeleton"], Skeleton)
    clips = (store.values(entry.id, stream) for entry in store.split(split))
    return measure(clips, Layout.read(store.streams[stream].names), skeleton.feet, store.streams[stream].rate)


def measure(clips: Iterable[np.ndarray], layout: Layout, feet: tuple[str, ...], rate: float) -> Reference:
    """The reference of clips of poses, each [T, D] in its own units."""
    if not feet:
        raise SakiyomiError("this skeleton has no feet, so their sliding cannot be measured; name them when importing")
    for name in feet:
        if name not in layout.joints:
            raise unknown("foot", name, layout.joints)
    poses = [torch.from_numpy(np.asarray(clip)).double() for clip in clips]
    if not any(len(clip) > 1 for clip in poses):
        raise SakiyomiError(f"{len(poses)} clips without two frames in a row say nothing of how a body moves")
    local = torch.cat([layout.vectors(clip, "positions") for clip in poses])
    heights = local[:, [layout.joints.index(name) for name in feet], 1]
    floor = torch.from_numpy(np.quantile(heights.numpy(), FLOOR, axis=0))
    low, high = (edge.flatten().tolist() for edge in (local.amin(0), local.amax(0)))
    without = Reference(layout, feet, rate, tuple(floor.tolist()), tuple(low), tuple(high), 0.0)
    moving = [clip for clip in poses if len(clip) > 1]
    frames = np.array([len(clip) - 1 for clip in moving])
    slid = [float(foot_sliding(without.feet_of(joints_in_world(layout, clip, rate)), floor)) for clip in moving]
    return replace(without, sliding=float(np.average(slid, weights=frames)))


def places(poses: Tensor, rate: float) -> Tensor:
    """Where characters are that begin at the origin, facing along x: x and z in m, facing in rad, [..., T, 3], by the
    root motion of poses [..., T, D]. The first frame's own root motion came before and does not count."""
    turn = poses[..., 2] / rate
    facing = torch.cat((torch.zeros_like(turn[..., :1]), turn[..., 1:].cumsum(-1)), -1)
    moved = turned(poses[..., 1:, :2] / rate, facing[..., :-1])
    ground = torch.cat((torch.zeros_like(poses[..., :1, :2]), moved.cumsum(-2)), -2)
    return torch.cat((ground, facing[..., None]), -1)


def joints_in_world(layout: Layout, poses: Tensor, rate: float) -> Tensor:
    """World positions of the joints, [..., T, J, 3], of characters that begin at the origin, by poses [..., T, D]."""
    return in_world(layout, poses, places(poses, rate))


def foot_sliding(feet: Tensor, floor: Tensor) -> Tensor:
    """How far feet slide, in cm a frame: mean over frames and joints of d (2 - 2^(h / H)), for 0 <= h <= H.

    d is the joint's displacement along the ground from one frame to the next, h the mean of its heights in the two,
    above its floor (0 if below), H = 3.3 cm; where h > H nothing counts. World positions [..., T, F, 3] with T at
    least 2 and floors [F], both in m -> [...].
    """
    moved = (feet[..., 1:, :, [0, 2]] - feet[..., :-1, :, [0, 2]]).norm(dim=-1)
    height = (feet[..., 1:, :, 1] + feet[..., :-1, :, 1]) / 2 - floor.to(feet)
    weight = 2 - 2 ** (height.clamp(0, SLIDING_HEIGHT) / SLIDING_HEIGHT)
    return 100 * (moved * weight).mean((-2, -1))


def penetration(feet: Tensor, floor: Tensor) -> Tensor:
    """How deep feet are under their floor, in cm, mean over frames and joints (0 above it): positions [..., T, F, 3]
    and floors [F] in m -> [...]."""
    return 100 * (floor.to(feet) - feet[..., 1]).clamp_min(0).mean((-2, -1))


def range_used(positions: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """How far rollouts go beyond the data: 1 when a joint reaches the edge of the data's range and none leaves it.

    The largest, over frames and channels, of |x - middle| / half of the range, the range taken as 5 cm wide where it
    is narrower; infinite where a number is not finite. Positions, facing removed, [..., T, C], edges [C], m -> [...].
    """
    middle, half = (low + high) / 2, ((high - low) / 2).clamp_min(NARROWEST / 2)
    used = (positions - middle.to(positions)).abs() / half.to(positions)
    return torch.where(used.isfinite(), used, torch.inf).amax((-2, -1))


def explodes(positions: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Whether a joint leaves the data's range, widened about its middle to 1.2 times, in any frame, or any number is
    not finite: positions [..., T, C], edges [C] -> bool [...]; see `range_used`."""
    return range_used(positions, low, high) > EXPLODED


def distance(poses: Tensor, rate: float) -> Tensor:
    """Length of the root's way over the ground, m: poses [..., T, D] -> [...]. The first frame's motion is not in."""
    return poses[..., 1:, :2].norm(dim=-1).sum(-1) / rate


def active_units(kl_per_dimension: Tensor, threshold: float = ACTIVE) -> int:
    """How many latent dimensions are in use: those whose KL divergence from the prior, mean over the data, is more
    than `threshold` nats: [Z]. A dimension that is not finite is not in use."""
    return int((kl_per_dimension.isfinite() & (kl_per_dimension > threshold)).sum())


def score_rollouts(poses: Tensor, reference: Reference, protocol: Protocol) -> dict[str, Score]:
    """Scores of N free-running rollouts, poses [N, T, D] in their own units, the first frame the given one.

    `exploded` share; of the rollouts that did not explode: `sliding` in cm a frame, `sliding_ratio` to the data's own,
    `penetration` in cm, `distance` in m; where all exploded, only the share. `protocol` says what was rolled out;
    rule and interval are filled in here. Raises SakiyomiError for poses of another shape.
    """
    width = reference.layout.width
    if poses.ndim != 3 or poses.shape[1] < 2 or poses.shape[2] != width or not len(poses):
        raise SakiyomiError(f"rollouts are [N, T, {width}], N at least 1 and T at least 2; got {list(poses.shape)}")
    low, high = (torch.tensor(edge, dtype=poses.dtype, device=poses.device) for edge in (reference.low, reference.high))
    floor = torch.tensor(reference.floor)
    gone = explodes(poses[..., reference.layout.part("positions")], low, high) | ~poses.isfinite().all(-1).all(-1)
    share = wilson(int(gone.sum()), len(poses))
    rule = (
        f"share in which a joint leaves {EXPLODED:g} times the data's range (about its middle, facing removed, at "
        f"least {100 * NARROWEST:g} cm wide) in any frame, or a number is not finite"
    )
    how = replace(protocol, rule=rule, interval="wilson 95 %")
    scores = {"exploded": Score("exploded", share.value, share.low, share.high, "1", how)}
    left = poses[~gone].double()
    if not len(left):
        return scores
    feet = reference.feet_of(joints_in_world(reference.layout, left, reference.rate))
    sliding = foot_sliding(feet, floor)
    told = f"d (2 - 2^(h/H)), H {100 * SLIDING_HEIGHT:g} cm, at {reference.rate:g} Hz, mean over frames and feet"
    values = {
        "sliding": (sliding, "cm/frame", told),
        "penetration": (penetration(feet, floor), "cm", "depth of the feet under their floor, mean over frames"),
        "distance": (distance(left, reference.rate), "m", "length of the root's way over the ground"),
    }
    if reference.sliding > 0:
        ratio = f"{told}, over the data's own {reference.sliding:.4g} cm/frame"
        values["sliding_ratio"] = (sliding / reference.sliding, "1", ratio)
    for name, (value, unit, rule) in values.items():
        interval = bootstrap(value.cpu().numpy())
        how = replace(protocol, rule=f"{rule}; of rollouts that did not explode", interval="bootstrap 95 %")
        scores[name] = Score(name, interval.value, interval.low, interval.high, unit, how)
    return scores
