"""RoboManipBaselines: an episode is a folder NAME.rmb, or one NAME.hdf5.

    sakiyomi prepare rmb dataset/MujocoUR5eCable --camera front --out data/cable

    NAME.rmb/main.rmb.hdf5                 time [T] s; measured_ and command_ joint_pos, eef_pose, eef_wrench ...
    NAME.rmb/<camera>_rgb_image.rmb.mp4    a frame for each step; <camera>_depth_image.rmb.mp4, millimetres
    NAME.hdf5                              the same, with the pictures in it: uint8 [T, H, W, 3], depth float32 m

Read, not written. `time` is the clock of everything. measured_joint_pos becomes the stream `joints`, command_joint_pos
`command`; both are of arm and gripper. Poses are x y z and the quaternion w x y z. Depth in mp4 is sixteen bits in two
planes of lossless H.264, as the package videoio writes it. Needs the extra `sakiyomi[formats]`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import tyro

from sakiyomi.data.episodes import EpisodeStore, Kind
from sakiyomi.data.formats.gathering import (
    RGB,
    Content,
    Foreign,
    Track,
    camera_names,
    check_settings,
    gather,
    numbers,
    one_length,
    origin_of,
    stream_name,
)
from sakiyomi.data.formats.hdf5 import Hdf5, OpenFile, holds, is_hdf5, read_pictures
from sakiyomi.data.formats.importing import foreign, given, library
from sakiyomi.data.formats.video import read_video, resized
from sakiyomi.data.sources.mocap import episode_ids
from sakiyomi.errors import SakiyomiError

MAIN = "main.rmb.hdf5"
VIDEO = ".rmb.mp4"
COLOUR, DEPTH = "_rgb_image", "_depth_image"
OWN = {"measured_joint_pos": "joints", "command_joint_pos": "command"}
POSE = ("x", "y", "z", "qw", "qx", "qy", "qz")
WRENCH = ("fx", "fy", "fz", "nx", "ny", "nz")
LARGEST = 4096 * 4096  # pixels of a picture of depth


@dataclass(frozen=True)
class Rmb:
    """Import RoboManipBaselines episodes."""

    path: tyro.conf.Positional[str] = ""
    """A folder of .rmb folders or .hdf5 files, searched with all its folders; or one of them."""
    camera: str = ""
    """Which camera becomes the stream `image`, as front; the first if not given."""
    pixels: tuple[int, int] = (0, 0)
    """Height and width to which pictures are brought; 0 0 keeps them."""
    depth: bool = False
    """Keep the pictures of depth too, in their own size: float32 [T, H, W], metres."""
    validation: float = 0.1
    """Share of the episodes for the validation split, the last ones."""

    def record(self, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> EpisodeStore:
        """Write the store; what is in it already is kept.

        Raises SakiyomiError when there is nothing to read, and, at the very end, when something is damaged.
        """
        check_settings(self.validation, self.pixels)
        path = given(self.path, "a folder of .rmb folders or .hdf5 files: sakiyomi prepare rmb FOLDER")
        found = rmb_episodes(path)
        names = [one.name if one == path else one.relative_to(path).as_posix() for one in found]
        with Hdf5() as process:
            episodes = [
                Foreign(id, str(one), partial(self._read, process, one))
                for one, id in zip(found, episode_ids(names), strict=True)
            ]
            return gather(out, origin_of("rmb", self), episodes, self.validation, progress)

    def _read(self, process: Hdf5, path: Path) -> Content:
        file = process.open(path / MAIN if path.is_dir() else path)
        there = file.below("")
        if "time" not in there or not OWN.keys() & there.keys():
            raise SakiyomiError(
                f"{path} has no time, or neither measured_joint_pos nor command_joint_pos, so it is no episode of "
                f"RoboManipBaselines; it has {', '.join(list(there)[:8]) or 'nothing'}"
            )
        times = file.read("time").astype(np.float64).reshape(-1)
        tracks = self._pictures(file, path, times)
        for key, node in there.items():
            if node.is_channels and key != "time" and not key.endswith((COLOUR, DEPTH)):
                stream = OWN.get(key) or stream_name(key, (*OWN.values(), *tracks))
                tracks[stream] = track_of(key, numbers(file.read(key)), times)
        one_length(f"{path}, with {len(times)} stamps", {"time": Track(times, times), **tracks})
        about = {key: value for key, value in file.attributes[""].items() if isinstance(value, (str, int, float))}
        task = {"task": str(about["task_desc"])} if about.get("task_desc") else {}
        return Content(tracks, {**task, "attributes": {key: str(value)[:200] for key, value in about.items()}})

    def _pictures(self, file: OpenFile, path: Path, times: np.ndarray) -> dict[str, Track]:
        """Those in the HDF5 file and those in mp4 files beside it."""
        beside = {one.name.removesuffix(VIDEO): one for one in sorted(path.glob(f"*{VIDEO}"))} if path.is_dir() else {}
        keys = sorted({*beside, *(name for name in file.nodes if "/" not in name)})
        cameras = [key.removesuffix(COLOUR) for key in keys if key.endswith(COLOUR)]
        tracks: dict[str, Track] = {}
        for camera, stream in camera_names(cameras, self.camera, OWN.values()).items():
            key = camera + COLOUR
            if key in beside:
                frames = resized(read_video(beside[key]).frames, self.pixels)
            else:
                frames = read_pictures(file, key, self.pixels, False)
            tracks[stream] = Track(frames, times, "image", 0.0, RGB)
        for key in (key for key in keys if self.depth and key.endswith(DEPTH)):
            values = read_depth(beside[key]) * np.float32(1e-3) if key in beside else file.read(key)
            tracks[stream_name(key, tracks)] = Track(values, times, "scalar", 0.0, "m")
        return tracks


def track_of(key: str, values: np.ndarray, times: np.ndarray) -> Track:
    """A stream of numbers [T, C] with the unit and names that its key stands for."""
    width = values.shape[1]
    kind: Kind = "scalar"
    if key in OWN:
        return Track(values, times, "joints")
    if key.endswith("eef_pose") and width % len(POSE) == 0:
        return Track(values, times, "pose", 0.0, "m; quaternion", numbered(POSE, width))
    if key.endswith("eef_wrench") and width % len(WRENCH) == 0:
        return Track(values, times, kind, 0.0, "N; N m", numbered(WRENCH, width))
    return Track(values, times, kind)


def numbered(names: tuple[str, ...], width: int) -> tuple[str, ...]:
    """The names once, or for each of several hands with its number."""
    hands = width // len(names)
    return names if hands == 1 else tuple(f"{name}{hand}" for hand in range(hands) for name in names)


def read_depth(path: Path) -> np.ndarray:
    """Depth uint16 [T, H, W], mm. Raises SakiyomiError when it cannot be read.

    The third plane is the high byte; the first one the low byte, counted down from 255 where the high one is odd, so
    that it does not jump where the depth passes a multiple of 256.
    """
    av = library("av", "formats")
    frames = []
    with foreign(path, "a video of depth"), av.open(str(path), options={"protocol_whitelist": "file"}) as container:
        stream = container.streams.video[0]
        stream.codec_context.options = {"err_detect": "explode"}
        for frame in container.decode(stream):
            if frame.is_corrupt or not 0 < frame.width * frame.height <= LARGEST or frame.format.name[:7] != "yuv444p":
                raise SakiyomiError(f"{path}: a frame is damaged, or {frame.format.name} rather than yuv444p")
            low, _, high = frame.to_ndarray()
            frames.append(np.where(high % 2, 255 - low, low).astype(np.uint16) + high.astype(np.uint16) * 256)
    if not frames:
        raise SakiyomiError(f"{path} holds no picture of depth")
    return np.stack(frames)


def rmb_episodes(path: Path) -> list[Path]:
    """The .rmb folders and .hdf5 files. Raises SakiyomiError when there are none."""
    if path.is_file() or path.suffix == ".rmb":
        return [path]
    found = [one for one in path.rglob("*.rmb") if one.is_dir()]
    found += [one for one in path.rglob("*.hdf5") if one.name != MAIN and one.is_file()]
    if not found:
        raise SakiyomiError(f"{path} holds no .rmb folder and no .hdf5 file; name the folder they are in")
    return sorted(found)


def recognises(path: Path) -> bool:
    """Whether it is a .rmb folder, a folder of such, or an HDF5 file with joint angles under these names."""
    if path.is_dir():
        folders = [path, *sorted(one for one in path.glob("*.rmb") if one.is_dir())[:1]]
        return any(is_hdf5(folder / MAIN) for folder in folders) or holds(path, (b"measured_joint_pos",))
    return holds(path, (b"measured_joint_pos", b"time"))
