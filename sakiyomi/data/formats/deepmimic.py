"""DeepMimic's motion clips (Peng et al. 2018): JSON files of frames of 44 numbers, a humanoid of 15 joints.

    sakiyomi prepare deepmimic DeepMimic/data/motions --out data/deepmimic

A frame is its duration (s), the root's position (m) and rotation, and a rotation for each joint: quaternions
(w, x, y, z), but one angle about z for knees and elbows; wrists are fixed. Axes are ours: x forward, y up, z right.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from scipy.spatial.transform import Rotation, Slerp

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.formats.beginnings import beginning
from sakiyomi.data.formats.motion_files import Files, check_shares, read_files, record_files
from sakiyomi.data.public import located
from sakiyomi.errors import SakiyomiError, at_least
from sakiyomi.motion.skeleton import Clip, Skeleton, to_world

WIDTH, DOG = 44, 84
SUFFIXES = (".txt", ".json")
# Joint, parent, where it is in its parent's frame (m), numbers of its rotation; from the published humanoid3d.txt.
_JOINTS: tuple[tuple[str, int, tuple[float, float, float], int], ...] = (
    ("root", -1, (0.0, 0.0, 0.0), 4),
    ("chest", 0, (0.0, 0.236151, 0.0), 4),
    ("neck", 1, (0.0, 0.223894, 0.0), 4),
    ("right_hip", 0, (0.0, 0.0, 0.084887), 4),
    ("right_knee", 3, (0.0, -0.421546, 0.0), 1),
    ("right_ankle", 4, (0.0, -0.40987, 0.0), 4),
    ("right_shoulder", 1, (-0.02405, 0.2435, 0.18311), 4),
    ("right_elbow", 6, (0.0, -0.274788, 0.0), 1),
    ("right_wrist", 7, (0.0, -0.258947, 0.0), 0),
    ("left_hip", 0, (0.0, 0.0, -0.084887), 4),
    ("left_knee", 9, (0.0, -0.421546, 0.0), 1),
    ("left_ankle", 10, (0.0, -0.40987, 0.0), 4),
    ("left_shoulder", 1, (-0.02405, 0.2435, -0.18311), 4),
    ("left_elbow", 12, (0.0, -0.274788, 0.0), 1),
    ("left_wrist", 13, (0.0, -0.258947, 0.0), 0),
)
SKELETON = Skeleton(
    names=tuple(name for name, *_ in _JOINTS),
    parents=tuple(parent for _, parent, _, _ in _JOINTS),
    offsets=tuple(offset for _, _, offset, _ in _JOINTS),
    feet=("right_ankle", "left_ankle"),
    mirror=(0, 1, 2, 9, 10, 11, 12, 13, 14, 3, 4, 5, 6, 7, 8),
)
SHORTEST, LONGEST = 0.5, 2.0  # a quaternion; they are made to be of length 1, the published have 0.58 to 1.12
LOST = 0.05  # of a frame: durations are rounded, so the last frame may seem to come a little too early


@dataclass(frozen=True)
class DeepMimic:
    """Import DeepMimic's clips of a humanoid."""

    path: tyro.conf.Positional[str] = ""
    """A folder or .zip of motion files, searched with all its folders, one file, or the public set's name, deepmimic,
    once it is fetched."""
    match: str = "humanoid3d"
    """Only files whose path holds this; there are dogs among them, which have another skeleton."""
    rate: float = 30.0
    """Frames a second of the poses."""
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
        path = located(self.path, "a folder or .zip of DeepMimic's motions: sakiyomi prepare deepmimic PATH")

        def read(content: bytes, where: str) -> tuple[Clip, dict[str, str]]:
            clip, loop = parse_deepmimic(content, where, self.rate)
            return clip, {"loop": loop}

        files = Files(read_files(path, SUFFIXES, self.match), path, SKELETON, read)
        # The path may move.
        settings = {"source": "deepmimic", **{k: value for k, value in asdict(self).items() if k != "path"}}
        return record_files(files, out, settings, self.rate, self.mirror, self.validation, self.test, progress)


def read_deepmimic(path: str | Path, rate: float = 30.0) -> Clip:
    """The clip in a file, at `rate` frames a second. Raises SakiyomiError, naming file and frame, for what is none."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise SakiyomiError(f"{path} cannot be read: {error.strerror}") from error
    return parse_deepmimic(content, str(path), rate)[0]


def parse_deepmimic(content: bytes, where: str, rate: float) -> tuple[Clip, str]:
    """The clip in a file's bytes, and its "Loop": wrap where it goes on from the end with the beginning."""
    try:
        file: Any = json.loads(content)
    except ValueError as error:  # of JSON and of UTF-8
        raise SakiyomiError(f"{where} is no JSON: {error}; fetch it anew") from error
    frames = file.get("Frames") if isinstance(file, dict) else None
    if not isinstance(frames, list) or not frames:
        raise SakiyomiError(f'{where} has no "Frames"; expected {{"Loop": ..., "Frames": [[{WIDTH} numbers], ...]}}')
    table = np.empty((len(frames), WIDTH))
    for number, frame in enumerate(frames):
        numbers = isinstance(frame, list) and all(type(value) in (int, float) for value in frame)
        if not numbers or len(frame) != WIDTH:
            came = f"{len(frame)} numbers" if numbers else "no list of numbers"
            dog = "; frames of 84 are those of dogs, which are not supported" if numbers and len(frame) == DOG else ""
            raise SakiyomiError(f"{where}, frame {number}: {came}; a humanoid's frames have {WIDTH}{dog}")
        table[number] = frame
    bad = np.flatnonzero(~np.isfinite(table).all(1))
    if len(bad):
        raise SakiyomiError(f"{where}, frame {bad[0]}: not finite (NaN or infinite)")
    loop = file.get("Loop", "none")
    return _clip(where, table, rate), loop if isinstance(loop, str) else "none"


def recognises(path: Path) -> bool:
    """Whether it is a motion file, or a folder or .zip in which the first one is, by its first bytes."""
    head = beginning(path, SUFFIXES)
    return head.lstrip().startswith(b"{") and b'"Frames"' in head


def _clip(where: str, table: np.ndarray, rate: float) -> Clip:
    """Frames [T, 44] at another rate: rotations by slerp, the root's position linearly."""
    times = np.concatenate(([0.0], np.cumsum(table[:-1, 0])))
    wrong = np.flatnonzero(np.diff(times) <= 0)
    if len(wrong):
        raise SakiyomiError(f"{where}, frame {wrong[0]}: it lasts {table[wrong[0], 0]:g} s; only the last may last 0")
    wanted = np.minimum(np.arange(int(times[-1] * rate + LOST) + 1) / rate, times[-1])
    rotations = np.tile(np.eye(3), (len(wanted), len(_JOINTS), 1, 1))
    positions = np.tile(np.array(SKELETON.offsets), (len(wanted), 1, 1))
    for axis in range(3):
        positions[:, 0, axis] = np.interp(wanted, times, table[:, 1 + axis])
    column = 4
    for joint, (name, _, _, width) in enumerate(_JOINTS):
        values = table[:, column : column + width]
        column += width
        if width == 4:
            length = np.linalg.norm(values, axis=-1)
            far = np.flatnonzero((length < SHORTEST) | (length > LONGEST))
            if len(far):
                raise SakiyomiError(
                    f"{where}, frame {far[0]}: the quaternion of {name} has length {length[far[0]]:.3g}, not 1"
                )
            turned = Rotation.from_quat(values[:, [1, 2, 3, 0]])
            rotations[:, joint] = (Slerp(times, turned)(wanted) if len(times) > 1 else turned).as_matrix()
        elif width == 1:
            angles = np.interp(wanted, times, values[:, 0])
            rotations[:, joint] = Rotation.from_euler("z", angles[:, None]).as_matrix()
    turned, placed = to_world(SKELETON.parents, rotations, positions)
    return Clip(SKELETON, rate, placed, turned)
