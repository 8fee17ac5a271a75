"""A store as a LeRobot v3.0 data set, as the `lerobot` package and what is built on it read it.

    sakiyomi prepare export lerobot data/pick --out my/pick
    write_lerobot(EpisodeStore("data/pick"), Path("my/pick"), pictures="png")   # not a bit of a picture is lost

    joints -> observation.state · command (or else action) -> action · pictures -> observation.images.<name> · other
    streams -> observation.<name> · meta["task"] or meta["instruction"] -> tasks.parquet, "unspecified" without one

LeRobot has one clock: the first picture stream's, named `image` if there is one, else the first stream's. Values of a
stream with another clock are held: a frame has the latest one that is not newer than it, the first one before it began;
sound, tokens and labels with a clock of their own are refused. Stamps are n / fps, as the format wants them; a measured
clock that is not that goes into a column `sakiyomi.clock` (float64). What the format cannot say (stream names, kinds,
units, limits, ids, meta) is in meta/sakiyomi.json, which LeRobot ignores, and `prepare lerobot` reads.

Splits are ranges of episodes in info.json, train first. Each file is written under a temporary name, closed and
renamed, and info.json comes last: a folder without one is an interrupted export. Quantiles of the whole are means of
the episodes' ones, as LeRobot's own; of pictures at most `SAMPLED` frames an episode are measured.
Videos are h264 with colour at full resolution: the format's usual AV1 has it at half, and of real pictures of 224 x 224
comes back at 36 dB (crf 30, its default) to 39 dB (crf 5), h264 at 50 dB. Needs the extra `sakiyomi[formats]`.
"""

import io
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import msgspec
import numpy as np
from PIL import Image

from sakiyomi.data.episodes import Entry, EpisodeStore
from sakiyomi.data.formats.importing import library
from sakiyomi.data.formats.lerobot_files import CLOCK, OURS, Described, Kept, Ours
from sakiyomi.data.formats.lerobot_stats import Stats, merged, of_numbers, of_pictures
from sakiyomi.data.formats.video import join_videos, video_info, write_video
from sakiyomi.data.records import latest
from sakiyomi.errors import SakiyomiError, unknown
from sakiyomi.files import whole_file, write_atomic

VERSION = "v3.0"
CHUNK = 1000  # files a folder
KEYFRAMES = 2  # one every so many frames: LeRobot draws single frames at random
SAMPLED = 100
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
MEGABYTE = 2**20
Part = TypeVar("Part")


@dataclass(frozen=True)
class Column:
    """Where a stream goes."""

    feature: str
    stream: str
    dtype: str  # video, image, or numpy's name


@dataclass(frozen=True)
class Spot:
    """Where a part was put."""

    chunk: int
    file: int
    before: int
    """Frames that are in the file before it."""


class Shelf(Generic[Part]):
    """Fills file after file up to a size: `write` is given what a file holds, and its path."""

    def __init__(self, template: str, limit: float, write: Callable[[list[Part], Path], None]) -> None:
        self.template, self.limit, self.write = template, limit, write
        self.parts: list[Part] = []
        self.number, self.size, self.frames = 0, 0, 0

    def put(self, part: Part, size: int, frames: int) -> Spot:
        if self.parts and self.size + size > self.limit:
            self.close()
        spot = Spot(self.number // CHUNK, self.number % CHUNK, self.frames)
        self.parts.append(part)
        self.size, self.frames = self.size + size, self.frames + frames
        return spot

    def close(self) -> None:
        """Write what is there; nothing if there is nothing."""
        if self.parts:
            place = {"chunk_index": self.number // CHUNK, "file_index": self.number % CHUNK}
            self.write(self.parts, Path(self.template.format(**place)))
            self.parts, self.size, self.frames, self.number = [], 0, 0, self.number + 1


def write_lerobot(
    store: EpisodeStore,
    out: Path,
    pictures: Literal["h264", "av1", "png"] = "h264",
    quality: int = -1,
    data_mb: float = 100,
    video_mb: float = 200,
) -> None:
    """Write all episodes of a store into a folder that does not exist yet.

    pictures: h264 or av1 in mp4, with `quality` the rate factor (-1: `video.QUALITY`), or png inside the tables, where
        nothing is lost.
    data_mb, video_mb: a new file is begun rather than have more than so many megabytes (2**20 bytes) in one, unless a
        single episode has.
    Raises SakiyomiError when a stream cannot be brought to one clock, a video cannot be written, or the disk is full.
    """
    if pictures not in ("h264", "av1", "png"):
        raise unknown("way to write pictures", pictures, ("h264", "av1", "png"))
    export = _Export(store, out, pictures, quality, data_mb, video_mb)
    for entry in export.order:
        export.add(entry)
    export.finish()


def plan(store: EpisodeStore, pictures: str) -> list[Column]:
    """The feature of each stream."""
    target = next((name for name in ("command", "action") if name in store.streams), "")
    columns: list[Column] = []
    for name, stream in store.streams.items():
        plain = re.sub("[/{}]", "_", name)  # braces are for what is filled in, in names of files
        if stream.kind == "image" and stream.dtype == "uint8" and len(stream.shape) == 3 and stream.shape[2] == 3:
            column = Column(f"observation.images.{plain}", name, "image" if pictures == "png" else "video")
        elif name == target:
            column = Column("action", name, stream.dtype)
        else:
            column = Column(f"observation.{'state' if name == 'joints' else plain}", name, stream.dtype)
        if column.feature in {one.feature for one in columns}:
            raise SakiyomiError(f"stream {name!r} and another would both become {column.feature!r}; rename one")
        columns.append(column)
    return columns


def clock_of(store: EpisodeStore) -> str:
    """The stream whose clock everything is brought to."""
    pictures = [name for name, stream in store.streams.items() if stream.kind == "image"]
    return next(name for name in ("image", *pictures, "joints", *store.streams) if name in store.streams)


class _Export:
    """A data set that is being written, episode by episode."""

    def __init__(
        self, store: EpisodeStore, out: Path, pictures: str, quality: int, data_mb: float, video_mb: float
    ) -> None:
        self.store, self.out, self.pictures, self.quality = store, out, pictures, quality
        self.limits = {"data_files_size_in_mb": data_mb, "video_files_size_in_mb": video_mb}
        self.columns, self.clock = plan(store, pictures), clock_of(store)
        self.rate = store.streams[self.clock].rate
        # Ranges of episodes are splits: those of one stand together.
        ranks = {split: rank for rank, split in enumerate(dict.fromkeys(["train", "validation", *_splits(store)]))}
        self.order = sorted(store.entries, key=lambda entry: ranks[entry.split])
        self.measured = any(not np.array_equal(t, np.arange(len(t)) / self.rate) for t in map(self._times, self.order))
        self.tasks = {text: number for number, text in enumerate(dict.fromkeys(map(_task, self.order)))}
        self.data = Shelf(DATA, data_mb * MEGABYTE, self._write_tables)
        self.films = {
            column.feature: Shelf(VIDEO.replace("{video_key}", column.feature), video_mb * MEGABYTE, self._write_films)
            for column in self.columns
            if column.dtype == "video"
        }
        self.rows: list[dict[str, Any]] = []
        self.stats: list[dict[str, Stats]] = []
        self.frames = 0

    def _times(self, entry: Entry) -> np.ndarray:
        return self.store.times(entry.id, self.clock)

    def add(self, entry: Entry) -> None:
        number, times = len(self.rows), self._times(entry)
        row: dict[str, Any] = {"episode_index": number, "tasks": [_task(entry)], "length": len(times)}
        table, stats = {}, {}
        for column in self.columns:
            values = held(self.store, entry, column.stream, times)
            is_picture = column.dtype in ("video", "image")
            stats[column.feature] = of_pictures(values, SAMPLED) if is_picture else of_numbers(values)
            if column.dtype == "video":
                row |= self._film(column.feature, number, values)
            else:
                table[column.feature] = png_column(values) if is_picture else column_of(values)
        for name, values in self._counted(number, times, self.tasks[_task(entry)]).items():
            table[name], stats[name] = column_of(values), of_numbers(values)
        content = library("pyarrow", "formats").table(table)
        spot = self.data.put(content, content.nbytes, len(times))
        row |= {"data/chunk_index": spot.chunk, "data/file_index": spot.file}
        row |= {"dataset_from_index": self.frames, "dataset_to_index": self.frames + len(times)}
        row |= {f"stats/{of}/{name}": v.tolist() for of, one in stats.items() for name, v in one.items()}
        self.rows.append(row)
        self.stats.append(stats)
        self.frames += len(times)

    def _counted(self, number: int, times: np.ndarray, task: int) -> dict[str, np.ndarray]:
        """The columns that every data set has, and our clock where it is needed."""
        steps = np.arange(len(times))
        return {
            **({CLOCK: times} if self.measured else {}),
            "timestamp": (steps / self.rate).astype(np.float32),
            "frame_index": steps,
            "episode_index": np.full(len(times), number),
            "index": self.frames + steps,
            "task_index": np.full(len(times), task),
        }

    def _film(self, feature: str, number: int, frames: np.ndarray) -> dict[str, Any]:
        """Put pictures onto the shelf of their camera: where they are."""
        part = self.out / ".parts" / f"{feature}-{number}.mp4"
        write_video(part, frames, self.rate, self.pictures, self.quality, KEYFRAMES)
        spot = self.films[feature].put(part, part.stat().st_size, len(frames))
        return {
            f"videos/{feature}/chunk_index": spot.chunk,
            f"videos/{feature}/file_index": spot.file,
            f"videos/{feature}/from_timestamp": spot.before / self.rate,
            f"videos/{feature}/to_timestamp": (spot.before + len(frames)) / self.rate,
        }

    def finish(self) -> None:
        """Write what is left, and then the descriptions; info.json last."""
        for shelf in (self.data, *self.films.values()):
            shelf.close()
        shutil.rmtree(self.out / ".parts", ignore_errors=True)
        arrow = library("pyarrow", "formats")
        shelf = Shelf(EPISODES, self.limits["data_files_size_in_mb"] * MEGABYTE, self._write_rows)
        for row in self.rows:
            spot = shelf.put(row, arrow.Table.from_pylist([row]).nbytes, 0)
            row |= {"meta/episodes/chunk_index": spot.chunk, "meta/episodes/file_index": spot.file}
        shelf.close()
        self._write_tables([task_table(self.tasks)], Path("meta/tasks.parquet"))
        stats = {name: merged([one[name] for one in self.stats]) for name in self.stats[0]}
        told = {of: {name: value.tolist() for name, value in one.items()} for of, one in stats.items()}
        self._write_json(Path("meta/stats.json"), told)
        kept = [Kept(entry.id, entry.meta) for entry in self.order]
        streams = {one.feature: Described(one.stream, self.store.streams[one.stream]) for one in self.columns}
        self._write_json(OURS, Ours(streams, kept, self.store.origin))
        self._write_json(Path("meta/info.json"), self._info())

    def _info(self) -> dict[str, Any]:
        splits = [entry.split for entry in self.order]
        features = {column.feature: self._feature(column) for column in self.columns}
        counted = self._counted(0, self._times(self.order[0]), 0)
        features |= {name: {"dtype": v.dtype.name, "shape": [1], "names": None} for name, v in counted.items()}
        return {
            "codebase_version": VERSION,
            "robot_type": str(self.store.origin.get("robot") or self.store.origin.get("source") or "unknown"),
            "total_episodes": len(self.rows),
            "total_frames": self.frames,
            "total_tasks": len(self.tasks),
            "chunks_size": CHUNK,
            **self.limits,
            "fps": int(self.rate) if self.rate == int(self.rate) else self.rate,
            "splits": {name: f"{splits.index(name)}:{splits.index(name) + splits.count(name)}" for name in splits},
            "data_path": DATA,
            "video_path": VIDEO if self.films else None,
            "features": features,
        }

    def _feature(self, column: Column) -> dict[str, Any]:
        stream = self.store.streams[column.stream]
        if column.dtype not in ("video", "image"):
            names = list(stream.names) if len(stream.names) == int(np.prod(stream.shape)) else None
            return {"dtype": column.dtype, "shape": list(stream.shape or (1,)), "names": names}
        told = {"dtype": column.dtype, "shape": list(stream.shape), "names": ["height", "width", "channels"]}
        if column.dtype == "image":
            return told
        film = video_info(self.out / self.films[column.feature].template.format(chunk_index=0, file_index=0))
        info = {
            **{"height": film.height, "width": film.width, "codec": film.codec, "fps": film.rate, "channels": 3},
            **{"pix_fmt": film.pixels, "is_depth_map": False},
        }
        return {**told, "info": {**{f"video.{name}": value for name, value in info.items()}, "has_audio": False}}

    def _write_tables(self, tables: list[Any], path: Path) -> None:
        """One parquet file, a row group for each table."""
        parquet = library("pyarrow.parquet", "formats")
        with (
            whole_file(self.out / path) as temporary,
            parquet.ParquetWriter(temporary, tables[0].schema, compression="snappy") as file,
        ):
            for table in tables:
                file.write_table(table)

    def _write_rows(self, rows: list[dict[str, Any]], path: Path) -> None:
        self._write_tables([library("pyarrow", "formats").Table.from_pylist(rows)], path)

    def _write_films(self, parts: list[Path], path: Path) -> None:
        join_videos(parts, self.out / path)
        for part in parts:
            part.unlink()

    def _write_json(self, path: Path, content: Any) -> None:
        write_atomic(self.out / path, msgspec.json.format(msgspec.json.encode(content)))


def held(store: EpisodeStore, entry: Entry, name: str, times: np.ndarray) -> np.ndarray:
    """A stream's values at these times [T]: at each the latest one that is not newer, the first before it began.

    Raises SakiyomiError for sound, tokens and labels with a clock of their own.
    """
    own, kind = store.times(entry.id, name), store.streams[name].kind
    values = store.values(entry.id, name)
    if np.array_equal(own, times):
        return values
    if kind in ("audio", "token", "label"):
        raise SakiyomiError(
            f"episode {entry.id!r}: stream {name!r} ({kind}) has a clock of its own, {len(own)} values to {len(times)} "
            "frames; LeRobot has one clock, and of these every value counts: export a store without it"
        )
    return values[latest(own, times)]


def column_of(values: np.ndarray) -> Any:
    """Values [T, ...] as a column: plain for one number a frame, lists of fixed size for several, lists of lists."""
    arrow = library("pyarrow", "formats")
    array = arrow.array(np.ascontiguousarray(values).reshape(-1))
    shape = values.shape[1:]
    if shape in ((), (1,)):
        return array
    if len(shape) == 1:
        return arrow.FixedSizeListArray.from_arrays(array, shape[0])
    for size in reversed(shape):
        array = arrow.ListArray.from_arrays(np.arange(0, len(array) + 1, size, dtype=np.int32), array)
    return array


def png_column(frames: np.ndarray) -> Any:
    """Pictures uint8 [T, H, W, 3] as PNG, the way the `datasets` library keeps pictures in a table."""
    arrow = library("pyarrow", "formats")
    cells = []
    for number, frame in enumerate(frames):
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "PNG", compress_level=3)
        cells.append({"bytes": file.getvalue(), "path": f"frame-{number:06d}.png"})
    return arrow.array(cells, arrow.struct({"bytes": arrow.binary(), "path": arrow.string()}))


def task_table(tasks: dict[str, int]) -> Any:
    """The tasks, their texts as the index of the data frame that LeRobot reads the table as."""
    index = {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    number = {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64"}
    told = {"index_columns": ["task"], "column_indexes": [], "columns": [{**number, "metadata": None}, index]}
    table = library("pyarrow", "formats").table({"task_index": [*tasks.values()], "task": [*tasks]})
    return table.replace_schema_metadata({"pandas": msgspec.json.encode(told)})


def _splits(store: EpisodeStore) -> list[str]:
    return [entry.split for entry in store.entries]


def _task(entry: Entry) -> str:
    return str(entry.meta.get("task") or entry.meta.get("instruction") or "unspecified")
