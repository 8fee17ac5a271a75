"""Bridge V2 (Walke et al. 2023): a real WidowX arm in toy kitchens, as the TFRecords that RLDS keeps.

    sakiyomi prepare bridge bridge_train.tfrecord --out data/bridge

One record an episode: three cameras (JPEG), a fourth that is blank, 7 actions and 7 states a step, and the
instruction in words. Each view of each episode becomes one episode of the store; an episode is never in two splits.
Needs the extra `sakiyomi[bair]`, whose TFRecord reader it shares.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream
from sakiyomi.data.formats.importing import finish, given, picture
from sakiyomi.data.formats.tfrecord import DamagedRecord, Features, count_records, scan_examples
from sakiyomi.errors import SakiyomiError, at_least, unknown

RATE = 5.0  # Hz, of the robot's controller; the files hold no time stamps
POSE = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
UNIT = "m; rad; gripper 0 shut .. 1 open"
VIEWS = range(4)
PICTURES = "steps/observation/image_"


@dataclass(frozen=True)
class Bridge:
    """Import Bridge V2 from TFRecords."""

    path: tyro.conf.Positional[str] = ""
    """The .tfrecord file, or a folder of several."""
    view: int = -1
    """Which camera; -1 takes all, each as an episode of its own. Blank views are left out."""
    size: int = 64
    """Height and width of the pictures. Other sizes are resized (Lanczos), without regard to their proportions."""
    validation: float = 0.15
    """Share of the episodes, all their views, for the validation split."""
    test: float = 0.15
    """Share of the episodes, all their views, for the test split."""

    def record(self, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> EpisodeStore:
        """Write the store; what is in it already is kept.

        Raises SakiyomiError when there is nothing to read, and, at the very end, when some records are damaged.
        """
        self._check()
        files = tfrecords(
            given(self.path, "a Bridge V2 .tfrecord file or a folder of them: sakiyomi prepare bridge FILE")
        )
        settings = {name: value for name, value in asdict(self).items() if name != "path"}  # it may move
        total, done = sum(count_records(file) for file in files), 0
        writer = EpisodeWriter(out, self.streams(), {"source": "bridge", **settings})
        problems: list[SakiyomiError] = []
        for shard, file in enumerate(files):
            for number, example in enumerate(scan_examples(file)):
                name = f"{number:05d}" if len(files) == 1 else f"{shard:05d}-{number:05d}"
                try:
                    if isinstance(example, DamagedRecord):
                        raise example
                    self._add(writer, name, number, f"{file}, record {number}", example)
                except SakiyomiError as error:
                    problems.append(error)
                done += 1
                progress(done, total)
        if not writer.ids and not problems:
            raise SakiyomiError(f"{self.path}: view {self.view} is blank in all {total} records; choose another")
        return finish(writer, problems)

    def streams(self) -> dict[str, Stream]:
        """What every episode holds."""
        return {
            "image": Stream("image", (self.size, self.size, 3), "uint8", RATE, "RGB 0..255"),
            # x to yaw of an action are the change asked for in one step, its gripper is where it is to be.
            "action": Stream("action", (7,), "float32", RATE, UNIT, POSE),
            "position": Stream("pose", (7,), "float32", RATE, UNIT, POSE),
        }

    def _check(self) -> None:
        if self.view not in (-1, *VIEWS):
            raise unknown("view", str(self.view), ("-1 (all)", *map(str, VIEWS)))
        at_least("--size", self.size, 1)
        at_least("--validation", self.validation, 0)
        at_least("--test", self.test, 0)
        if self.validation + self.test >= 1:
            raise SakiyomiError(
                f"validation={self.validation:g} and test={self.test:g} leave nothing for training; "
                "their sum must be less than 1"
            )

    def _add(self, writer: EpisodeWriter, name: str, number: int, where: str, example: Features) -> None:
        """Write every wanted view of one record."""
        action, position = (table(where, example, f"steps/{key}") for key in ("action", "observation/state"))
        steps = len(action)
        words = {key: text(example, key) for key in ("steps/language_instruction", "episode_metadata/file_path")}
        values = {"action": action, "position": position}
        for view in VIEWS if self.view < 0 else [self.view]:
            id = f"{name}-view{view}"
            if id in writer.ids:
                continue
            frames = self._frames(where, example, view)
            if not frames.any():
                continue  # a camera that was not there; the files' own has_image is 0 for every view
            lengths = {"image": len(frames), **{key: len(value) for key, value in values.items()}}
            if len({*lengths.values()}) > 1:
                raise SakiyomiError(f"{where}: its streams differ in length: {lengths}; fetch the file anew")
            meta = {
                "instruction": words["steps/language_instruction"],
                "episode": name,
                "view": view,
                "source": words["episode_metadata/file_path"],
            }
            clock = dict.fromkeys(lengths, np.arange(steps) / RATE)
            writer.add(id, {"image": frames, **values}, clock, self._split(number), meta)

    def _split(self, number: int) -> str:
        """Multiples of the golden ratio: even shares of however many records, and no need to know how many."""
        place = number * 0.6180339887498949 % 1
        if place < 1 - self.validation - self.test:
            return "train"
        return "validation" if place < 1 - self.test else "test"

    def _frames(self, where: str, example: Features, view: int) -> np.ndarray:
        """One view's pictures, uint8 [T, size, size, 3]."""
        frames, key = [], f"{PICTURES}{view}"
        pictures = example.get(key)
        if not isinstance(pictures, list) or not pictures:
            raise SakiyomiError(f"{where}: no pictures under {key!r}; it has {', '.join(sorted(example)) or 'nothing'}")
        for step, content in enumerate(pictures):
            image = picture(f"{where}: {key!r}, step {step},", content)
            if image.size != (self.size, self.size):
                image = image.resize((self.size, self.size), Image.Resampling.LANCZOS)
            frames.append(np.asarray(image))
        return np.stack(frames)


def tfrecords(path: Path) -> list[Path]:
    """The file itself, or the folder's TFRecord files in order of name."""
    if path.is_file():
        return [path]
    files = sorted(file for file in path.iterdir() if ".tfrecord" in file.name and file.is_file())
    if not files:
        raise SakiyomiError(f"{path} holds no file with .tfrecord in its name; name the file or its folder")
    return files


def recognises(path: Path) -> bool:
    """Whether it is a .tfrecord file, or a folder of some, in whose first megabyte a step of an episode is named."""
    try:
        with tfrecords(path)[0].open("rb") as file:
            return b"steps/" in file.read(2**20)
    except (OSError, SakiyomiError):
        return False


def table(where: str, example: Features, key: str) -> np.ndarray:
    """Seven numbers a step, float32 [T, 7]."""
    values = example.get(key)
    if not isinstance(values, np.ndarray) or values.dtype != np.float32:
        raise SakiyomiError(f"{where}: no numbers under {key!r}; it has {', '.join(sorted(example)) or 'nothing'}")
    if not len(values) or len(values) % len(POSE):
        raise SakiyomiError(f"{where}: {key!r} holds {len(values)} numbers; expected {len(POSE)} a step")
    return values.reshape(-1, len(POSE))


def text(example: Features, key: str) -> str:
    """The first of a list of texts, or nothing."""
    values = example.get(key, [])
    return values[0].decode(errors="replace") if isinstance(values, list) and values else ""
