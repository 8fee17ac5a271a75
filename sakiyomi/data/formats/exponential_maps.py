"""CMU motion capture as exponential maps: lines of 117 numbers with commas, as work on motion prediction passes it on.

    sakiyomi prepare exponential-maps cmu_mocap/train --match walking --out data/cmu

Three numbers are the root's position, then each of 38 joints has a rotation: axis times angle (rad), of a frame whose
vectors are rows, so ours is its inverse. Axes are x left, y up, z forward; 120 lines a second; the unit is CMU's, 5.64
cm. The first line is the rest pose in every file, and left out. Parents and offsets are those of the forward
kinematics published with the files (Li et al. 2018, forward_kinematics_cmu.py), where feet that bear stand still by
them. Of the 38, ends of bones are left out, hip joints and shoulders, which never turn, and fingers.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from scipy.spatial.transform import Rotation

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.formats.beginnings import beginning
from sakiyomi.data.formats.importing import given
from sakiyomi.data.formats.motion_files import Files, check_shares, read_files, record_files
from sakiyomi.errors import SakiyomiError, at_least
from sakiyomi.motion.skeleton import Clip, Skeleton, resample, to_world

RATE = 120.0
WIDTH = 117
UNIT = 0.0254 / 0.45  # m
# From the file's axes (left, up, forward) to ours (forward, up, right).
TO_OURS = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
# Joint, parent, which of the 38 it is, where it is in its parent's frame (the file's unit and axes).
_JOINTS: tuple[tuple[str, str, int, tuple[float, float, float]], ...] = (
    ("Hips", "", 0, (0.0, 0.0, 0.0)),
    ("LeftUpLeg", "Hips", 2, (1.65674, -1.80282, 0.62477)),
    ("LeftLeg", "LeftUpLeg", 3, (2.5972, -7.13576, 0.0)),
    ("LeftFoot", "LeftLeg", 4, (2.49236, -6.8477, 0.0)),
    ("LeftToeBase", "LeftFoot", 5, (0.19704, -0.54136, 2.14581)),
    ("RightUpLeg", "Hips", 8, (-1.6107, -1.80282, 0.62476)),
    ("RightLeg", "RightUpLeg", 9, (-2.59502, -7.12977, 0.0)),
    ("RightFoot", "RightLeg", 10, (-2.4678, -6.78024, 0.0)),
    ("RightToeBase", "RightFoot", 11, (-0.23024, -0.63258, 2.13368)),
    ("LowerBack", "Hips", 13, (0.0, 0.0, 0.0)),
    ("Spine", "LowerBack", 14, (0.01961, 2.0545, -0.14112)),
    ("Spine1", "Spine", 15, (0.01021, 2.06436, -0.05921)),
    ("Neck", "Spine1", 16, (0.0, 0.0, 0.0)),
    ("Neck1", "Neck", 17, (0.00713, 1.56711, 0.14968)),
    ("Head", "Neck1", 18, (0.03429, 1.56041, -0.10006)),
    ("LeftArm", "Spine1", 21, (3.54205, 0.90436, -0.17364)),
    ("LeftForeArm", "LeftArm", 22, (4.86513, 0.0, 0.0)),
    ("LeftHand", "LeftForeArm", 23, (3.35554, 0.0, 0.0)),
    ("RightArm", "Spine1", 30, (-3.49802, 0.75976, -0.32616)),
    ("RightForeArm", "RightArm", 31, (-5.02649, 0.0, 0.0)),
    ("RightHand", "RightForeArm", 32, (-3.36431, 0.0, 0.0)),
)
STIFF = {1: "LHipJoint", 7: "RHipJoint", 20: "LeftShoulder", 29: "RightShoulder"}
"""Joints left out that lie between those above: their rotations are 0."""
_NAMES = tuple(name for name, *_ in _JOINTS)
_OFFSETS = np.array([offset for *_, offset in _JOINTS]) @ TO_OURS.T * UNIT
_OTHER = {name: name.replace("Left", "*").replace("Right", "Left").replace("*", "Right") for name in _NAMES}
FEET = ("LeftFoot", "LeftToeBase", "RightFoot", "RightToeBase")
SKELETON = Skeleton(
    names=_NAMES,
    parents=tuple(_NAMES.index(parent) if parent else -1 for _, parent, *_ in _JOINTS),
    offsets=tuple((float(x), float(y), float(z)) for x, y, z in _OFFSETS),
    feet=FEET,
    mirror=tuple(_NAMES.index(_OTHER[name]) for name in _NAMES),
)
STILL = 1e-3  # rad; less is rounding
TOES = 0.02  # m, height of the toe joints of a foot that bears
LOW = 0.05  # part of the time that a toe is taken to bear at least


@dataclass(frozen=True)
class ExponentialMaps:
    """Import CMU motion capture from lines of exponential maps."""

    path: tyro.conf.Positional[str] = ""
    """A folder or .zip of .txt files, searched with all its folders, or one file."""
    match: str = ""
    """Only files whose path holds this."""
    rate: float = 30.0
    """Frames a second of the poses."""
    ground: bool = True
    """Move each clip up or down so that its toes bear on the ground. The files put many people on one skeleton, so that
    some of them float by 9 cm and others are sunk by 7."""
    mirror: bool = True
    """Add every training clip a second time, left and right exchanged."""
    validation: float = 0.15
    """Share of the clips for the validation split."""
    test: float = 0.15
    """Share of the clips for the test split."""

    def record(self, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> EpisodeStore:
        """Write the store; what is in it already is kept.

        Raises SakiyomiError when there is nothing to read, and, at the very end, when some files are damaged.
        """
        at_least("--rate", self.rate, 1)
        check_shares(self.validation, self.test)
        path = given(self.path, "a folder or .zip of .txt files: sakiyomi prepare exponential-maps PATH")

        def read(content: bytes, where: str) -> tuple[Clip, dict[str, Any]]:
            clip = resample(parse_exponential_maps(content, where), self.rate)
            return (grounded(clip) if self.ground else clip), {}

        files = Files(read_files(path, (".txt",), self.match), path, SKELETON, read)
        # The path may move.
        settings = {"source": "exponential_maps", **{k: value for k, value in asdict(self).items() if k != "path"}}
        return record_files(files, out, settings, self.rate, self.mirror, self.validation, self.test, progress)


def parse_exponential_maps(content: bytes, where: str) -> Clip:
    """The clip in a file's bytes, at 120 frames a second, without its first line. Raises SakiyomiError, naming file and
    line, for what is none."""
    lines = content.decode("utf-8", "replace").rstrip().splitlines()
    if len(lines) < 2:
        raise SakiyomiError(f"{where}: number of lines is {len(lines)}; expected the rest pose and frames")
    table = np.array([_numbers(f"{where}, line {number}", line) for number, line in enumerate(lines, 1)])
    for joint, name in STIFF.items():
        turned = np.flatnonzero(np.abs(table[1:, 3 + 3 * joint : 6 + 3 * joint]).max(1) > STILL)
        if len(turned):
            raise SakiyomiError(f"{where}, line {turned[0] + 2}: {name} is turned; in CMU's files it never is")
    return _clip(table[1:])


def recognises(path: Path) -> bool:
    """Whether it is a .txt file of lines of 117 numbers, or a folder or .zip in which the first one is."""
    cells = beginning(path, (".txt",)).partition(b"\n")[0].split(b",")
    try:
        return len([float(cell) for cell in cells]) == WIDTH
    except ValueError:
        return False


def _numbers(where: str, line: str) -> list[float]:
    wanted = f"expected {WIDTH} numbers, with commas"
    try:
        values = [float(value) for value in line.split(",")]
    except ValueError as error:
        raise SakiyomiError(f"{where}: {str(error)[:60]}; {wanted}") from error
    if len(values) != WIDTH:
        raise SakiyomiError(f"{where}: {len(values)} numbers; {wanted}")
    if not np.isfinite(values).all():
        raise SakiyomiError(f"{where}: not finite (NaN or infinite); {wanted}")
    return values


def grounded(clip: Clip) -> Clip:
    """The clip, up or down so that the lower toe is 2 cm high when it is as low as in 5 % of the frames."""
    toes = clip.positions[:, [clip.skeleton.names.index(name) for name in FEET if "Toe" in name], 1]
    lowest = float(np.quantile(toes.min(1), LOW))
    return Clip(clip.skeleton, clip.rate, clip.positions + np.array([0.0, TOES - lowest, 0.0]), clip.rotations)


def _clip(table: np.ndarray) -> Clip:
    """Frames [T, 117] in metres, with our axes."""
    columns = [3 + 3 * number + axis for _, _, number, _ in _JOINTS for axis in range(3)]
    maps = table[:, columns].reshape(-1, 3)
    # Rows times R are the transpose of R^T times columns; axes as the skeleton's, so that the rest pose faces x.
    local = Rotation.from_rotvec(-maps @ TO_OURS.T).as_matrix().reshape(len(table), len(_JOINTS), 3, 3)
    positions = np.tile(_OFFSETS, (len(table), 1, 1))
    positions[:, 0] = table[:, :3] @ TO_OURS.T * UNIT
    turned, placed = to_world(SKELETON.parents, local, positions)
    return Clip(SKELETON, RATE, placed, turned)
