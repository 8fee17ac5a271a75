"""LeRobot's layout v3.0: several episodes in one parquet file, and in one mp4; meta/episodes says where each is."""

from collections.abc import Callable
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
    Info,
    Recording,
    check_books,
    check_counts,
    numbers,
    pictures,
    place,
    read_info,
    read_ours,
    splits_of,
)
from sakiyomi.data.formats.video import frames_at
from sakiyomi.errors import SakiyomiError


def open_v3(folder: Path) -> Contents:
    """Open a data set of this layout. Raises SakiyomiError when its descriptions are damaged or contradict each other;
    the data themselves are looked at when they are read."""
    info = read_info(folder)
    rows = _episodes(folder, info)
    lengths = [row["length"] for row in rows]
    check_counts(folder, info, lengths, "meta/episodes")
    usable = {name: one for name, one in info.features.items() if one.numeric or one.dtype in CAMERAS}
    absent = tuple(
        name
        for name, feature in usable.items()
        if feature.dtype == "video" and not any(_film(folder, info, row, name).exists() for row in rows)
    )
    features = {name: one for name, one in usable.items() if name not in (*absent, *BOOKS)}
    tables = Tables()
    recordings = [
        Recording(number, row["length"], tuple(row["tasks"]), partial(_read, folder, info, features, tables, row))
        for number, row in enumerate(rows)
    ]
    splits = splits_of(folder / "meta" / "info.json", info.splits, len(rows))
    ours = read_ours(folder, lengths)
    return Contents("v3.0", info.fps, info.robot_type or "", features, recordings, splits, _tasks(folder), absent, ours)


class Tables:
    """Rows of one episode out of files that hold many; which rows are whose is read once a file."""

    def __init__(self) -> None:
        self._owners: dict[Path, np.ndarray] = {}

    def rows(self, path: Path, episode: int, columns: list[str]) -> Any:
        """The episode's rows as a pyarrow.Table. Raises SakiyomiError when they are not all in one place."""
        with foreign(path, "a parquet file"):
            file = library("pyarrow.parquet", "formats").ParquetFile(path, memory_map=True)
            if path not in self._owners:
                self._owners[path] = file.read(["episode_index"])["episode_index"].to_numpy()
            mine = np.flatnonzero(self._owners[path] == episode)
            if not len(mine) or mine[-1] - mine[0] + 1 != len(mine):
                raise SakiyomiError(
                    f"{path} holds {len(mine)} rows of episode {episode}, not in one piece; is it whole?"
                )
            ends = np.cumsum([file.metadata.row_group(n).num_rows for n in range(file.metadata.num_row_groups)])
            first, last = np.searchsorted(ends, [mine[0], mine[-1]], side="right")
            before = ends[first - 1] if first else 0
            there = [name for name in columns if name in file.schema_arrow.names]
            return file.read_row_groups(range(first, last + 1), there).slice(mine[0] - before, len(mine))


def _read(
    folder: Path, info: Info, features: dict[str, Feature], tables: Tables, row: dict[str, Any], pixels: tuple[int, int]
) -> dict[str, np.ndarray]:
    number, length = row["episode_index"], row["length"]
    path = place(folder, info.data_path, _numbered(row, "data"))
    wanted = [name for name, feature in features.items() if feature.dtype != "video"]
    table = tables.rows(path, number, [*wanted, *BOOKS])
    values = from_table(f"{path}, episode {number}", folder, table, features, length, pixels)
    check_books(f"{path}, episode {number}", values, number, length)
    for name, feature in features.items():
        if feature.dtype == "video":
            start = row[f"videos/{name}/from_timestamp"]
            values[name] = frames_at(_film(folder, info, row, name), start + np.arange(length) / info.fps, pixels)
    return values


def from_table(
    where: str, folder: Path, table: Any, features: dict[str, Feature], length: int, pixels: tuple[int, int]
) -> dict[str, np.ndarray]:
    """All of an episode that is in its table: numbers, pictures and `BOOKS`."""
    if table.num_rows != length:
        raise SakiyomiError(f"{where} has {table.num_rows} rows; the list of episodes says {length}; is it whole?")
    values = {}
    for name, feature in features.items():
        if feature.dtype == "video":
            continue
        if table.column_names.count(name) != 1:
            raise SakiyomiError(
                f"{where} has {table.column_names.count(name)} columns {name!r}; it has {', '.join(table.column_names)}"
            )
        column, told = table[name], f"{where}, column {name!r}"
        with foreign(told, feature.dtype):
            is_picture = feature.dtype == "image"
            values[name] = pictures(told, folder, column, pixels) if is_picture else numbers(told, column, feature)
    for name in BOOKS:
        if name in table.column_names:  # of two, pyarrow gives none
            kind = Feature("float64" if name == "timestamp" else "int64")
            with foreign(f"{where}, column {name!r}", kind.dtype):
                values[name] = numbers(f"{where}, column {name!r}", table[name], kind)[:, 0]
    return values


def _episodes(folder: Path, info: Info) -> list[dict[str, Any]]:
    """The rows of meta/episodes without statistics, in the order of their numbers."""
    files = sorted((folder / "meta" / "episodes").glob("*/*.parquet"))
    if not files:
        raise SakiyomiError(f"{folder} has no meta/episodes/*/*.parquet, which say where each episode is")
    needed: dict[str, Callable[[Any], bool]] = {"episode_index": _whole, "length": _whole}
    needed |= {f"data/{name}": _whole for name in ("chunk_index", "file_index")}
    for name, feature in info.features.items():
        if feature.dtype == "video":
            needed |= {f"videos/{name}/{part}": _whole for part in ("chunk_index", "file_index")}
            needed[f"videos/{name}/from_timestamp"] = _seconds
    rows: list[dict[str, Any]] = []
    for path in files:
        with foreign(path, "a parquet file of episodes"):
            file = library("pyarrow.parquet", "formats").ParquetFile(path)
            missing = [name for name in needed if name not in file.schema_arrow.names]
            if missing:
                raise SakiyomiError(f"{path} has no column {missing[0]!r}, which every episode needs")
            rows += file.read([*needed, *({"tasks"} & {*file.schema_arrow.names})]).to_pylist()
    for row in rows:
        wrong = [name for name, check in needed.items() if not check(row[name])]
        if wrong:
            raise SakiyomiError(
                f"{folder}/meta/episodes: {wrong[0]} of an episode is {row[wrong[0]]!r}; that cannot be"
            )
        told = row.get("tasks")
        row["tasks"] = [task for task in told if isinstance(task, str)] if isinstance(told, list) else []
    rows.sort(key=lambda row: row["episode_index"])
    if [row["episode_index"] for row in rows] != list(range(len(rows))) or not all(row["length"] for row in rows):
        raise SakiyomiError(f"{folder}/meta/episodes: episodes are missing, doubled or empty; fetch it anew")
    return rows


def _whole(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < 10**12


def _seconds(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value < 1e9


def _numbered(row: dict[str, Any], of: str) -> dict[str, str | int]:
    return {name: row[f"{of}/{name}"] for name in ("chunk_index", "file_index")}


def _film(folder: Path, info: Info, row: dict[str, Any], name: str) -> Path:
    return place(folder, info.video_path or "", {"video_key": name, **_numbered(row, f"videos/{name}")})


def _tasks(folder: Path) -> dict[int, str]:
    """meta/tasks.parquet: what the task of each number is; the texts may be the table's index."""
    path = folder / "meta" / "tasks.parquet"
    if not path.exists():
        return {}
    with foreign(path, "a parquet file of tasks"):
        table = library("pyarrow.parquet", "formats").ParquetFile(path).read()
        texts = next((name for name in ("task", "__index_level_0__") if name in table.column_names), None)
        if texts is None or "task_index" not in table.column_names:
            raise SakiyomiError(f"{path} has the columns {table.column_names}; expected task and task_index")
        pairs = zip(table["task_index"].to_pylist(), table[texts].to_pylist(), strict=True)
        return {number: text for number, text in pairs if isinstance(number, int) and isinstance(text, str)}
