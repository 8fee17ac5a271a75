"""ACT and ALOHA: one HDF5 file an episode, of two arms or one, with what the joints were told.

    sakiyomi prepare aloha dataset_dir --camera cam_high --out data/cup

    episode_0.hdf5    attributes sim, compress; fps where somebody added it
        observations/qpos, qvel, effort     [T, J]
        observations/images/<camera>        uint8 [T, H, W, 3]; compressed, JPEG in uint8 [T, N] with zeros behind
        action                              [T, J], what the joints were told, absolute; also base_action

Read, not written. The files hold no stamps: the clock is step / rate. `qpos` becomes the stream `joints` and an
`action` as wide as it `command`, which a policy learns; any other width stays `action`. Pictures are RGB; those that
OpenCV compressed without turning them first have blue first, which is to be seen at a glance: --blue-first. Needs the
extra `sakiyomi[formats]`.
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
from sakiyomi.data.formats.hdf5 import Hdf5, hdf5_files, holds, read_pictures, told_rate
from sakiyomi.data.formats.importing import given
from sakiyomi.data.sources.mocap import episode_ids
from sakiyomi.errors import SakiyomiError

RATE = 50.0  # Hz, of both the robot and its simulation
OWN = {"qpos": "joints", "action": "action"}


@dataclass(frozen=True)
class Aloha:
    """Import ACT or ALOHA episodes from HDF5."""

    path: tyro.conf.Positional[str] = ""
    """The folder of episode_0.hdf5 ..., or one file."""
    camera: str = ""
    """Which camera becomes the stream `image`; the first if not given."""
    pixels: tuple[int, int] = (0, 0)
    """Height and width to which pictures are brought; 0 0 keeps them."""
    blue_first: bool = False
    """The pictures have blue before red."""
    rate: float = 0.0
    """Steps a second; 0 takes the file's attribute fps, or 50."""
    validation: float = 0.1
    """Share of the episodes for the validation split, the last ones."""

    def record(self, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> EpisodeStore:
        """Write the store; what is in it already is kept.

        Raises SakiyomiError when there is nothing to read, and, at the very end, when something is damaged.
        """
        check_settings(self.validation, self.pixels, self.rate)
        files = hdf5_files(given(self.path, "a folder of episode_0.hdf5 ...: sakiyomi prepare aloha FOLDER"))
        with Hdf5() as process:
            episodes = [
                Foreign(id, str(file), partial(self._read, process, file))
                for file, id in zip(files, episode_ids(file.name for file in files), strict=True)
            ]
            return gather(out, origin_of("aloha", self), episodes, self.validation, progress)

    def _read(self, process: Hdf5, path: Path) -> Content:
        file = process.open(path)
        rate = self.rate or told_rate(file.attributes[""].get("fps")) or RATE
        cameras = file.below("observations/images")
        tracks: dict[str, Track] = {}
        for camera, stream in camera_names(list(cameras), self.camera, ("joints", "command", "action")).items():
            frames = read_pictures(file, f"observations/images/{camera}", self.pixels, self.blue_first)
            tracks[stream] = Track(frames, np.arange(len(frames)) / rate, "image", rate, RGB)
        for group in ("observations", ""):
            for key, node in file.below(group).items():
                if node.is_channels and key not in ("compress_len", "is_pad"):
                    stream = OWN.get(key) or stream_name(key, (*OWN.values(), "command", *tracks))
                    values = numbers(file.read(f"{group}/{key}" if group else key))
                    kind: Kind = "joints" if stream == "joints" else "action" if "action" in key else "scalar"
                    tracks[stream] = Track(values, np.arange(len(values)) / rate, kind, rate)
        if "joints" not in tracks or "action" not in tracks:
            raise SakiyomiError(
                f"{path} has no observations/qpos or no action, so it is no episode of ACT or ALOHA; it has "
                f"{', '.join(list(file.nodes)[:8]) or 'nothing'}"
            )
        if tracks["action"].values.shape[1:] == tracks["joints"].values.shape[1:]:
            told = tracks.pop("action")
            tracks["command"] = Track(told.values, told.times, "joints", rate)
        one_length(str(path), tracks)
        simulated = file.attributes[""].get("sim")
        return Content(tracks, {"simulated": bool(simulated)} if simulated is not None else {})


def recognises(path: Path) -> bool:
    """Whether it is an HDF5 file with joint angles of ALOHA, or a folder of such."""
    return holds(path, (b"observations", b"qpos", b"action"))
