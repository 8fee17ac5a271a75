"""robomimic: one HDF5 file of many demonstrations; robosuite, MimicGen and LIBERO write it as well.

    sakiyomi prepare robomimic image.hdf5 --camera agentview_image --out data/can

    data/demo_0/obs/<key>       pictures uint8 [T, H, W, 3] and numbers [T, C], of each step before its action
    data/demo_0/actions         [T, A]; also rewards, dones, states
    mask/<filter key>           names of demonstrations, such as those for training and for validation

Read, not written. The files hold no stamps: the clock is step / rate, and the rate that of the controller in
`env_args`, where it is told. Actions are those of robosuite's controllers, mostly changes of the hand's pose, so they
become the stream `action`. Needs the extra `sakiyomi[formats]`.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from sakiyomi.data.episodes import EpisodeStore, Kind
from sakiyomi.data.formats.gathering import (
    RGB,
    Content,
    Foreign,
    NotThere,
    Track,
    camera_names,
    check_settings,
    damaged,
    gather,
    numbers,
    one_length,
    origin_of,
    stream_name,
)
from sakiyomi.data.formats.hdf5 import Hdf5, Node, OpenFile, hdf5_files, holds, read_pictures, told_rate
from sakiyomi.data.formats.importing import given
from sakiyomi.data.sources.mocap import episode_ids
from sakiyomi.errors import SakiyomiError
from sakiyomi.run import console

RATE = 20.0  # Hz, robosuite's usual one
JOINTS = ("robot0_joint_pos", "joint_states", "joint_pos", "qpos")  # what joint angles are called, by age
POSE = re.compile(r"(eef|ee)_(pos|quat|pose|states)|object_pose")


@dataclass(frozen=True)
class Robomimic:
    """Import robomimic demonstrations from HDF5."""

    path: tyro.conf.Positional[str] = ""
    """The .hdf5 file, or a folder of several."""
    camera: str = ""
    """Which camera becomes the stream `image`, as agentview_image; the first if not given."""
    joints: str = ""
    """Which observation becomes the stream `joints`; if not given, the one that is called so."""
    pixels: tuple[int, int] = (0, 0)
    """Height and width to which pictures are brought; 0 0 keeps them."""
    rate: float = 0.0
    """Steps a second; 0 takes control_freq of the file's env_args, or 20."""
    train: str = "train"
    """Filter key of the demonstrations for training."""
    valid: str = "valid"
    """Filter key of those for validation."""
    validation: float = 0.1
    """Share of the demonstrations for the validation split, the last ones, where the file has no filter keys."""

    def record(self, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> EpisodeStore:
        """Write the store; what is in it already is kept.

        Raises SakiyomiError when there is nothing to read, and, at the very end, when something is damaged.
        """
        check_settings(self.validation, self.pixels, self.rate)
        files = hdf5_files(given(self.path, "a robomimic .hdf5 file: sakiyomi prepare robomimic FILE"))
        with Hdf5() as process:
            episodes = [
                episode
                for file, id in zip(files, episode_ids(file.name for file in files), strict=True)
                for episode in self._episodes(process, file, f"{id}-" if len(files) > 1 else "")
            ]
            return gather(out, origin_of("robomimic", self), episodes, self.validation, progress)

    def _episodes(self, process: Hdf5, path: Path, prefix: str) -> list[Foreign]:
        """The demonstrations of one file in the order of their numbers; a file that cannot be read is one that raises
        when it is."""
        try:
            file = process.open(path)
            demos = file.groups("data")
            if not demos:
                raise SakiyomiError(f"{path} has no demonstrations (groups data/demo_0 ...), so it is not robomimic's")
            wrong = [name for name in demos if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,60}", name)]
            if wrong:
                raise SakiyomiError(f"{path} has a demonstration named {wrong[0]!r}; use letters, digits, '_' and '-'")
            splits = self._splits(file)
        except SakiyomiError as error:
            return [Foreign(f"{prefix}damaged", str(path), partial(damaged, error))]
        kept = [name for name in demos if not splits or name in splits]
        if len(kept) < len(demos):
            told = f"{path.name}: {len(demos) - len(kept)} demonstrations are under neither {self.train!r} nor "
            console.print(f"{told}{self.valid!r} of its filter keys; left out", style="yellow", markup=False)
        return [
            Foreign(
                f"{prefix}{name}", f"{path}, {name}", partial(self._read, process, path, name), splits.get(name, "")
            )
            for name in sorted(kept, key=lambda name: [int(n) for n in re.findall(r"\d{1,18}", name)])
        ]

    def _splits(self, file: OpenFile) -> dict[str, str]:
        """What the filter keys say of each demonstration."""
        wanted = {f"mask/{self.train}": "train", f"mask/{self.valid}": "validation"}
        found = {key: split for key, split in wanted.items() if key in file.nodes}
        return {text.decode("utf-8", "replace"): split for key, split in found.items() for text in file.texts(key)}

    def _read(self, process: Hdf5, path: Path, name: str) -> Content:
        file, group = process.open(path), f"data/{name}"
        about = environment(file)
        rate = self.rate or about.rate
        observed, others = file.below(f"{group}/obs"), file.below(group)
        joints = self.joints or next((key for key in JOINTS if key in observed), "")
        if joints and joints not in observed:
            raise NotThere(f"{path}, {name} has no observation {joints!r} (--joints); it has {sorted(observed)}")
        pictures = [key for key, node in observed.items() if node.is_pictures or is_encoded(key, node)]
        streams = camera_names(pictures, self.camera, ("joints", "action"))
        tracks: dict[str, Track] = {}
        for camera, stream in streams.items():
            frames = read_pictures(file, f"{group}/obs/{camera}", self.pixels, False)
            tracks[stream] = Track(frames, np.arange(len(frames)) / rate, "image", rate, RGB)
        own = {f"obs/{key}": node for key, node in observed.items() if key not in pictures} | dict(others)
        for key, node in own.items():
            if not node.is_channels:
                continue
            plain = key.removeprefix("obs/")
            wanted = "joints" if key == f"obs/{joints}" else "action" if key == "actions" else plain
            kind: Kind = "joints" if wanted == "joints" else "action" if wanted == "action" else kind_of(plain)
            values = numbers(file.read(f"{group}/{key}"))
            stream = wanted if wanted in ("joints", "action") else stream_name(plain, ("joints", "action", *tracks))
            tracks[stream] = Track(values, np.arange(len(values)) / rate, kind, rate)
        if "action" not in tracks:
            raise SakiyomiError(f"{path}, {name} has no actions; it has {', '.join([*others, *observed]) or 'nothing'}")
        one_length(f"{path}, {name}", tracks)
        return Content(tracks, {"task": about.task} if about.task else {})


@dataclass(frozen=True)
class Environment:
    rate: float
    task: str


def environment(file: OpenFile) -> Environment:
    """Rate and task of a file, as far as the JSON in its attributes says."""
    attributes = file.attributes.get("data", {})
    about: dict[str, Any] = {}
    for key in ("env_args", "problem_info"):  # the second one is LIBERO's
        try:
            found = json.loads(attributes.get(key, "{}"))
        except (ValueError, TypeError):
            continue
        about |= found if isinstance(found, dict) else {}
    settings = about.get("env_kwargs")
    rate = settings.get("control_freq") if isinstance(settings, dict) else None
    task = about.get("language_instruction") or about.get("env_name") or ""
    return Environment(told_rate(rate) or RATE, str(task)[:200])


def is_encoded(key: str, node: Node) -> bool:
    """Whether it is pictures as JPEG or PNG, by its name."""
    return node.dtype == "bytes" and len(node.shape) == 1 and ("image" in key or "rgb" in key)


def kind_of(name: str) -> Kind:
    return "pose" if POSE.search(name) else "scalar"


def recognises(path: Path) -> bool:
    """Whether it is an HDF5 file with demonstrations, or a folder of such."""
    return holds(path, (b"data", b"demo_"))
