"""LeRobot's layouts v2.0 and v2.1: a parquet file and an mp4 for each episode, lists of them as JSON lines."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from sakiyomi.data.formats.importing import foreign, library
from sakiyomi.data.formats.lerobot_files import (
    BOOKS,
    CAMERAS,
    Contents,
    Feature,
    Info,
    Recording,
    check_books,
    check_counts,
    place,
    read_info,
    read_lines,
    splits_of,
)
from sakiyomi.data.formats.lerobot_v3 import from_table
from sakiyomi.data.formats.video import frames_at, video_info
from sakiyomi.errors import SakiyomiError

# Where files are by the published layout; some data sets have a template in info.json that their own files do not keep.
DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"


@dataclass(frozen=True)
class Listed:
    """A line of meta/episodes.jsonl."""

    episode_index: int
    length: int
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """A line of meta/tasks.jsonl."""

    task_index: int
    task: str


def open_v2(folder: Path) -> Contents:
    """Open a data set of this layout. Raises SakiyomiError when its descriptions are damaged or contradict each other;
    the data themselves are looked at when they are read."""
    info = read_info(folder)
    path = folder / "meta" / "episodes.jsonl"
    listed = sorted(read_lines(path, Listed), key=lambda one: one.episode_index)
    if [one.episode_index for one in listed] != list(range(len(listed))) or any(one.length < 1 for one in listed):
        raise SakiyomiError(f"{path}: episodes are missing, doubled or empty; fetch it anew")
    check_counts(folder, info, [one.length for one in listed], "meta/episodes.jsonl")
    usable = {name: one for name, one in info.features.items() if one.numeric or one.dtype in CAMERAS}
    absent = tuple(
        name
        for name, feature in usable.items()
        if feature.dtype == "video" and not any(_film(folder, info, name, n).exists() for n in range(len(listed)))
    )
    features = {name: one for name, one in usable.items() if name not in (*absent, *BOOKS)}
    recordings = [
        Recording(one.episode_index, one.length, one.tasks, partial(_read, folder, info, features, one))
        for one in listed
    ]
    lines = folder / "meta" / "tasks.jsonl"
    tasks = {one.task_index: one.task for one in read_lines(lines, Task)} if lines.exists() else {}
    splits = splits_of(folder / "meta" / "info.json", info.splits, len(listed))
    robot = info.robot_type or ""
    return Contents(info.codebase_version, info.fps, robot, features, recordings, splits, tasks, absent)


def _read(
    folder: Path, info: Info, features: dict[str, Feature], listed: Listed, pixels: tuple[int, int]
) -> dict[str, np.ndarray]:
    number, length = listed.episode_index, listed.length
    path = _file(folder, info, info.data_path, DATA, {}, number)
    with foreign(path, "a parquet file"):
        file = library("pyarrow.parquet", "formats").ParquetFile(path)
        wanted = {*BOOKS, *(name for name, feature in features.items() if feature.dtype != "video")}
        table = file.read([name for name in file.schema_arrow.names if name in wanted])
    values = from_table(str(path), folder, table, features, length, pixels)
    check_books(str(path), values, number, length)
    for name, feature in features.items():
        if feature.dtype == "video":
            film = _film(folder, info, name, number)
            told = video_info(film)
            if told.frames != length:
                raise SakiyomiError(
                    f"{film} has {told.frames} frames for {length} rows; is it whole, and the right one?"
                )
            # Frame by frame: some data sets have stamps that begin late, or run otherwise than their pictures.
            values[name] = frames_at(film, np.arange(length) / told.rate, pixels)
    return values


def _film(folder: Path, info: Info, name: str, number: int) -> Path:
    return _file(folder, info, info.video_path or VIDEO, VIDEO, {"video_key": name}, number)


def _file(folder: Path, info: Info, told: str, usual: str, values: dict[str, str], number: int) -> Path:
    """The file of an episode where info.json says it is, or, if there is none, where it usually is."""
    known = {**values, "episode_index": number, "episode_chunk": number // info.chunks_size}
    path, other = place(folder, told, known), place(folder, usual, known)
    return other if other.exists() and not path.exists() else path
