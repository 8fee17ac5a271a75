"""The numbers that describe one pose, by name, and what follows from them: where the character goes, where its joints
are in the world.

    root        forward, right   m/s    of the root since the frame before, seen in the facing frame of that frame
                turn             rad/s  change of facing since the frame before
    positions   J x (x, y, z)    m      from the root, facing removed: x forward, y height above ground, z right
    velocities  J x (x, y, z)    m/s    of the joint in the world since the frame before, in that frame's facing frame
    up          J x (x, y, z)           the joint's y axis, facing removed
    forward     J x (x, y, z)           the joint's z axis, facing removed

J joints make 3 + 12 J numbers. The root is the first joint projected on the ground. The order is that of the published
motion VAE (Ling et al. 2020): all up vectors stand before all forward vectors, so a joint's 6-D rotation is not one
slice; `axes` puts it together.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from sakiyomi.errors import SakiyomiError, unknown

ROOT = ("forward", "right", "turn")
PARTS = ("root", "positions", "velocities", "up", "forward")
XYZ = ("x", "y", "z")


@dataclass(frozen=True)
class Layout:
    """Which number is what, for these joints; the first is the pelvis."""

    joints: tuple[str, ...]

    @property
    def width(self) -> int:
        """Numbers of a pose, D."""
        return len(ROOT) + 4 * len(XYZ) * len(self.joints)

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each number, such as `root.turn` or `up.Hips.x`."""
        of_joints = [f"{part}.{joint}.{axis}" for part in PARTS[1:] for joint in self.joints for axis in XYZ]
        return (*(f"root.{name}" for name in ROOT), *of_joints)

    @classmethod
    def read(cls, names: tuple[str, ...]) -> "Layout":
        """The layout whose `names` these are. Raises SakiyomiError for names that are none."""
        joints = [name.removeprefix("positions.")[:-2] for name in names if name.startswith("positions.")]
        found = cls(tuple(joints[::3]))
        if found.names != names:
            raise SakiyomiError(
                f"these {len(names)} channels are no layout of poses; they begin {', '.join(names[:4]) or 'nowhere'}, "
                f"expected {', '.join(found.names[:4])}"
            )
        return found

    def part(self, name: str) -> slice:
        """Where a part stands among the numbers."""
        if name not in PARTS:
            raise unknown("part of a pose", name, PARTS)
        if name == "root":
            return slice(0, len(ROOT))
        size = len(XYZ) * len(self.joints)
        first = len(ROOT) + (PARTS.index(name) - 1) * size
        return slice(first, first + size)

    def vectors(self, poses: Tensor, name: str) -> Tensor:
        """A part of poses [..., D] as vectors of joints, [..., J, 3]."""
        return poses[..., self.part(name)].unflatten(-1, (len(self.joints), 3))

    def axes(self, poses: Tensor) -> Tensor:
        """Rotations of poses [..., D], facing removed, as matrices [..., J, 3, 3] whose columns are x, y and z axis.

        Up is kept, forward made orthogonal to it (Gram-Schmidt; Zhou et al. 2019), x follows.
        """
        y = torch.nn.functional.normalize(self.vectors(poses, "up"), dim=-1)
        z = self.vectors(poses, "forward")
        z = torch.nn.functional.normalize(z - (z * y).sum(-1, keepdim=True) * y, dim=-1)
        return torch.stack((torch.linalg.cross(y, z), y, z), -1)


def heading(facing: Tensor) -> Tensor:
    """Forward on the ground of facings [...]: (x, z), [..., 2]."""
    return torch.stack((facing.cos(), facing.sin()), -1)


def turned(vectors: Tensor, facing: Tensor) -> Tensor:
    """Vectors (forward, right) [..., 2] of a facing frame as (x, z) of the world."""
    cos, sin = facing.cos(), facing.sin()
    forward, right = vectors.unbind(-1)
    return torch.stack((cos * forward - sin * right, sin * forward + cos * right), -1)


def advance(place: Tensor, poses: Tensor, rate: float) -> Tensor:
    """Where characters are after a frame: place [..., 3] (x m, z m, facing rad) before it, poses [..., D] after it."""
    moved = turned(poses[..., :2] / rate, place[..., 2])
    return torch.cat((place[..., :2] + moved, (place[..., 2] + poses[..., 2] / rate)[..., None]), -1)


def in_world(layout: Layout, poses: Tensor, place: Tensor) -> Tensor:
    """World positions of the joints, [..., J, 3], of poses [..., D] at places [..., 3]."""
    local = layout.vectors(poses, "positions")
    ground = turned(local[..., [0, 2]], place[..., None, 2]) + place[..., None, :2]
    return torch.stack((ground[..., 0], local[..., 1], ground[..., 1]), -1)
