"""LeRobot data sets: what a robot saw, did and was told, as Hugging Face's `lerobot` keeps it, in all its layouts.

    sakiyomi prepare lerobot my/so101_pick --out data/pick
    sakiyomi prepare lerobot my/aloha --out data/aloha --camera cam_high --pixels 64 64 --actions command

Which layout it is, the folder says: v3.0 and v2.1/v2.0 by meta/info.json, the first one by meta_data/info.json (see
lerobot_v3.py, lerobot_v2.py, lerobot_v1.py). One episode is decoded at a time. `observation.state` becomes the stream
`joints`, a camera `image`, what was asked for `command` or `action` (`--actions`); every other column of numbers is
kept under its own name; of texts only the task is, in the episode's meta. Clocks are n / fps where the stamps
are that to 0.1 ms, otherwise the stamps as they are. A data set written by lerobot_write.py comes back as it was.
Needs the extra `sakiyomi[formats]`.
"""

import hashlib
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import tyro

from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Kind, Stream
from sakiyomi.data.formats.gathering import origin_of
from sakiyomi.data.formats.importing import finish, given
from sakiyomi.data.formats.lerobot_files import CAMERAS, CLOCK, Contents, Kept, Recording, read_json
from sakiyomi.data.formats.lerobot_v1 import open_v1
from sakiyomi.data.formats.lerobot_v2 import open_v2
from sakiyomi.data.formats.lerobot_v3 import open_v3
from sakiyomi.errors import SakiyomiError, at_least, unknown

STATE, ACTION = "observation.state", "action"
TOLERANCE = 1e-4  # s: LeRobot's own, for stamps against n / fps


@dataclass(frozen=True)
class LeRobot:
    """Import a LeRobot data set, v3.0, v2.1, v2.0 or the first layout."""

    path: tyro.conf.Positional[str] = ""
    """The folder that holds meta and data (or meta_data and train)."""
    camera: str = ""
    """Which camera becomes the stream `image`; the first if not given. Others keep their own names."""
    pixels: tuple[int, int] = (0, 0)
    """Height and width to which pictures are brought; 0 0 keeps them."""
    actions: Literal["auto", "command", "action"] = "auto"
    """What `action` is: absolute joint positions a policy learns to give (command), or anything else (action).
    auto takes it for commands where its channels have the names of the state's."""
    validation: float = 0.1
    """Share of the episodes, the last ones, for the validation split; unless the data set has splits of its own."""

    def record(self, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> EpisodeStore:
        """Write the store; what is in it already is kept.

        Raises SakiyomiError when there is nothing to read, and, at the very end, when some episodes are damaged.
        """
        at_least("--validation", self.validation, 0)
        if self.validation >= 1 or min(self.pixels) < 0:
            raise SakiyomiError(
                f"--validation is {self.validation:g}, --pixels {self.pixels[0]} {self.pixels[1]}; the one must be "
                "less than 1, the others at least 0"
            )
        contents = open_any(given(self.path, "the folder of a LeRobot data set: sakiyomi prepare lerobot FOLDER"))
        streams = self._streams(contents)
        writer = EpisodeWriter(out, {one.name: one.stream for one in streams.values()}, self._origin(contents))
        problems: list[SakiyomiError] = []
        for number, (recording, split) in enumerate(zip(contents.recordings, self._splits(contents), strict=True)):
            kept = contents.ours.episodes[number] if contents.ours and contents.ours.episodes else None
            id = kept.id if kept else f"{recording.number:06d}"
            try:
                if id not in writer.ids:
                    values = recording.read(self.pixels)
                    times = clock(values, contents.rate)
                    taken = {one.name: _as(one.stream, values[name]) for name, one in streams.items()}
                    meta = _meta(contents, recording, kept, values)
                    writer.add(id, taken, dict.fromkeys(taken, times), split, meta)
            except SakiyomiError as error:
                problems.append(error)
            progress(number + 1, len(contents.recordings))
        return finish(writer, problems)

    def _origin(self, contents: Contents) -> dict[str, Any]:
        lengths = [one.length for one in contents.recordings]
        told = msgspec.json.encode([contents.rate, lengths, {name: asdict(f) for name, f in contents.features.items()}])
        origin = {
            **origin_of("lerobot", self),
            "version": contents.version,
            "robot": contents.robot,
            "content": hashlib.sha256(told).hexdigest(),
            "absent": contents.absent,
            **({"exported": contents.ours.origin} if contents.ours else {}),
        }
        return msgspec.json.decode(msgspec.json.encode(origin))

    def _splits(self, contents: Contents) -> list[str]:
        """The data set's own, or the last episodes held out: at least one, unless there is only one."""
        count = len(contents.splits)
        held_out = min(max(1, round(self.validation * count)), count - 1) if self.validation else 0
        if contents.ours or {*contents.splits} != {"train"}:
            return contents.splits
        return ["train"] * (count - held_out) + ["validation"] * held_out

    def _streams(self, contents: Contents) -> dict[str, "_Taken"]:
        """The stream of each feature: pictures first, then joints and what was commanded."""
        cameras = [name for name, feature in contents.features.items() if feature.dtype in CAMERAS]
        if contents.absent and not cameras:
            raise SakiyomiError(
                f"{self.path}: there are no files of the cameras {', '.join(contents.absent)}; fetch them"
            )
        chosen = self._chosen(contents, cameras)
        order = [*chosen, *cameras, STATE, ACTION, *contents.features]
        streams: dict[str, _Taken] = {}
        for feature in (name for name in dict.fromkeys(order) if name in contents.features and name != CLOCK):
            name, stream = self._stream(contents, feature)
            name = "image" if feature in chosen else name
            free = next(n for n in names_like(name) if n not in {one.name for one in streams.values()})
            if stream.kind == "image" and self.pixels != (0, 0):
                stream = replace(stream, shape=(*self.pixels, 3))
            streams[feature] = _Taken(free, stream)
        if not streams:
            raise SakiyomiError(f"{self.path}: there are no pictures and no numbers in it")
        return streams

    def _chosen(self, contents: Contents, cameras: list[str]) -> list[str]:
        """The camera that becomes `image`, if there is any."""
        if not self.camera:
            return next(([name] for name in cameras if _named(contents, name) == "image"), cameras[:1])
        found = [name for name in cameras if self.camera in (name, short(name), _named(contents, name))]
        if not found:
            raise unknown("camera", self.camera, [short(name) for name in cameras])
        return found[:1]

    def _stream(self, contents: Contents, name: str) -> tuple[str, Stream]:
        feature, state = contents.features[name], contents.features.get(STATE)
        described = contents.ours.streams.get(name) if contents.ours else None
        if described and math.prod(described.stream.shape) == math.prod(feature.shape):
            return described.name, replace(described.stream, rate=contents.rate)
        if feature.dtype in CAMERAS:
            return short(name), Stream("image", feature.size, "uint8", contents.rate, "RGB 0..255")
        like_state = state is not None and feature.shape == state.shape
        same_names = state is not None and like_state and feature.channels == state.channels != ()
        kind: Kind = "scalar"
        if name == STATE:
            own, kind = "joints", "joints"
        elif name == ACTION and like_state and (self.actions == "command" or (self.actions == "auto" and same_names)):
            own, kind = "command", "joints"
        elif name == ACTION:
            own, kind = "action", "action"
        else:
            own, kind = short(name), "pose" if "pose" in name.lower() else "scalar"
        return own, Stream(kind, feature.shape, feature.dtype, contents.rate, "", feature.channels)


@dataclass(frozen=True)
class _Taken:
    """What a feature becomes in the store."""

    name: str
    stream: Stream


def recognises(path: Path) -> bool:
    """Whether a folder looks like a LeRobot data set of any layout; nothing but a small JSON file is opened."""
    try:
        info = path / "meta" / "info.json"
        if info.is_file() and info.stat().st_size < 2**24:
            return b'"codebase_version"' in info.read_bytes()
        return (path / "meta_data" / "info.json").is_file() and any((path / "train").glob("*.arrow"))
    except OSError:
        return False


def open_any(folder: Path) -> Contents:
    """Open a data set of any layout. Raises SakiyomiError for what is none, or newer than what is known here."""
    if (folder / "meta_data" / "info.json").is_file():
        return open_v1(folder)
    path = folder / "meta" / "info.json"
    if not path.is_file():
        raise SakiyomiError(
            f"{folder} holds neither meta/info.json nor meta_data/info.json; name the folder of a LeRobot data set"
        )
    version = read_json(path, _Version).codebase_version
    if version in ("v2.0", "v2.1"):
        return open_v2(folder)
    if version == "v3.0":
        return open_v3(folder)
    raise SakiyomiError(
        f"{path}: codebase_version is {version[:40]!r}; v3.0, v2.1, v2.0 and the first layout can be read. A newer one "
        "is brought to v3.0 by the lerobot package that wrote it"
    )


@dataclass(frozen=True)
class _Version:
    codebase_version: str


def short(name: str) -> str:
    """A feature's name as a stream's: `wrist` for observation.images.wrist, `next_reward` for next.reward."""
    plain = re.sub("[^A-Za-z0-9]+", "_", re.sub(r"^observation\.(images?\.)?", "", name)).strip("_")
    return plain or "unnamed"


def names_like(name: str) -> Iterator[str]:
    """The name, then name_2, name_3 ..."""
    yield name
    number = 2
    while True:
        yield f"{name}_{number}"
        number += 1


def clock(values: dict[str, np.ndarray], rate: float) -> np.ndarray:
    """Seconds of each frame, float64 [T]: our own column, n / rate where the stamps are that, or the stamps."""
    if CLOCK in values:
        return values[CLOCK].reshape(-1).astype(np.float64)
    length = len(next(iter(values.values())))
    even = np.arange(length) / rate
    stamps = values.get("timestamp", even)
    # Stamps are float32: of long recordings their own precision is the coarser one.
    near = np.abs(stamps - even) <= np.maximum(TOLERANCE, np.spacing(even.astype(np.float32)))
    return even if near.all() else stamps


def _as(stream: Stream, values: np.ndarray) -> np.ndarray:
    """Values in the stream's shape and type, where these are known from before an export."""
    if math.prod(values.shape[1:]) == math.prod(stream.shape) and stream.kind != "image":
        return values.reshape(len(values), *stream.shape).astype(stream.dtype)
    return values


def _named(contents: Contents, feature: str) -> str:
    described = contents.ours.streams.get(feature) if contents.ours else None
    return described.name if described else short(feature)


def _meta(contents: Contents, recording: Recording, kept: Kept | None, values: dict[str, np.ndarray]) -> dict[str, Any]:
    """Of a foreign episode: its number and its tasks, the first of which is that of its first frame."""
    if kept:
        return kept.meta
    numbers = dict.fromkeys(values["task_index"].tolist()) if "task_index" in values else {}
    tasks = [*dict.fromkeys([*(contents.tasks[n] for n in numbers if n in contents.tasks), *recording.tasks])]
    told = {"task": tasks[0]} if tasks else {}
    return {"episode": recording.number, **told, **({"tasks": tasks} if len(tasks) > 1 else {})}
