"""LeRobot's first layout (2024): one table for all episodes as an Arrow stream, an mp4 for each or pictures inside it.

train/data-00000-of-00001.arrow     one row a frame; pictures are {path, timestamp} of a video, or {bytes, path}
meta_data/info.json                 fps, and whether pictures are video
videos/<column>_episode_000000.mp4
"""

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sakiyomi.data.formats.importing import foreign, library
from sakiyomi.data.formats.lerobot_files import (
    BOOKS,
    CAMERAS,
    Contents,
    Feature,
    Recording,
    check_books,
    check_rate,
    inside,
    pictures,
    read_json,
)
from sakiyomi.data.formats.lerobot_v3 import from_table
from sakiyomi.data.formats.video import frames_at, video_info
from sakiyomi.errors import SakiyomiError

UNUSED = ("episode_data_index_from", "episode_data_index_to")  # row numbers of the full data set
TABLE = r"data-(\d{5})-of-(\d{5})\.arrow"


@dataclass(frozen=True)
class FirstInfo:
    """What is read of meta_data/info.json."""

    fps: float
    codebase_version: str = "v1"


def open_v1(folder: Path) -> Contents:
    """Open a data set of this layout. Raises SakiyomiError when its table is damaged, or a camera's first video."""
    info = read_json(folder / "meta_data" / "info.json", FirstInfo)
    check_rate(folder / "meta_data" / "info.json", info.fps)
    table = _table(folder)
    with foreign(folder / "train", "a table of LeRobot's first layout"):
        return _contents(folder, info, table)


def _contents(folder: Path, info: FirstInfo, table: Any) -> Contents:
    for name in ("episode_index", "timestamp"):
        if name not in table.column_names:
            raise SakiyomiError(f"{folder}/train has no column {name!r}; it has {', '.join(table.column_names)}")
    owners = from_table(f"{folder}/train", folder, table.select(["episode_index"]), {}, table.num_rows, (0, 0))
    starts = np.flatnonzero(np.diff(owners["episode_index"], prepend=-1, append=-1) != 0)
    numbers = owners["episode_index"][starts[:-1]].tolist()
    if not numbers or len({*numbers}) != len(numbers) or min(numbers) < 0:
        raise SakiyomiError(f"{folder}/train: its episodes are not each in one piece; fetch it anew")
    found = {name: _feature(folder, name, table) for name in table.column_names if name not in (*BOOKS, *UNUSED)}
    features = {name: one for name, one in found.items() if one.numeric or one.dtype in CAMERAS}
    recordings = [
        Recording(
            number,
            int(stop - start),
            (),
            partial(_read, folder, features, table.slice(int(start), int(stop - start)), number),
        )
        for number, start, stop in zip(numbers, starts[:-1], starts[1:], strict=True)
    ]
    return Contents(info.codebase_version, info.fps, "", features, recordings, ["train"] * len(numbers))


def _table(folder: Path) -> Any:
    """All files of the table, memory-mapped, as one pyarrow.Table."""
    files = sorted(path for path in (folder / "train").glob("*.arrow") if re.fullmatch(TABLE, path.name))
    parts = [tuple(map(int, re.findall(r"\d+", path.name))) for path in files]
    if not parts or parts != [(n, parts[0][1]) for n in range(parts[0][1])]:
        raise SakiyomiError(
            f"{folder}/train has {', '.join(path.name for path in files) or 'no data-00000-of-00001.arrow'}; parts of "
            "the table are missing"
        )
    arrow = library("pyarrow", "formats")
    tables = []
    for path in files:
        with foreign(path, "an Arrow stream"):
            table = library("pyarrow.ipc", "formats").open_stream(arrow.memory_map(str(path))).read_all()
            table.validate(full=True)  # what is read later must not lead out of the file
            tables.append(table)
    with foreign(folder / "train", "one table"):
        return arrow.concat_tables(tables)


def _feature(folder: Path, name: str, table: Any) -> Feature:
    """What a column holds, by its type and its first row."""
    types, kind = library("pyarrow.types", "formats"), table[name].type
    if types.is_struct(kind):
        parts = {kind.field(n).name for n in range(kind.num_fields)}
        if parts == {"path", "timestamp"}:
            told = video_info(inside(folder, str(table[name][0].as_py()["path"])))
            return Feature("video", (told.height, told.width, 3))
        if parts == {"bytes", "path"}:
            first = pictures(f"{folder}/train, column {name!r}", folder, table[name].slice(0, 1), (0, 0))
            return Feature("image", first.shape[1:])
        return Feature(str(kind))
    shape = (1,)
    if types.is_fixed_size_list(kind):
        shape, kind = (kind.list_size,), kind.value_type
    elif types.is_list(kind):
        shape, kind = (len(table[name][0].as_py() or ()),), kind.value_type
    number = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
    return Feature(np.dtype(kind.to_pandas_dtype()).name if number else str(kind), shape)


def _read(
    folder: Path, features: dict[str, Feature], table: Any, number: int, pixels: tuple[int, int]
) -> dict[str, np.ndarray]:
    where = f"{folder}/train, episode {number}"
    values = from_table(where, folder, table, features, table.num_rows, pixels)
    check_books(where, values, number, table.num_rows)
    for name, feature in features.items():
        if feature.dtype == "video":
            cells = table[name].to_pylist()
            paths = {str(cell and cell["path"]) for cell in cells}
            if len(paths) != 1:
                raise SakiyomiError(f"{where}: its pictures {name!r} are in {len(paths)} videos; expected one")
            with foreign(f"{where}, column {name!r}", "places in a video"):
                times = np.array([cell["timestamp"] for cell in cells], np.float64)
            values[name] = frames_at(inside(folder, paths.pop()), times, pixels)
    return values
