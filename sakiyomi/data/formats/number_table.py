"""Tables of numbers with a clock, as text (CSV): written so that they are read back to the last bit.

    write_table(Path("joints.csv"), times, values, ("shoulder", "elbow"))
    table = read_table(Path("joints.csv"))      # table.times, table.values, table.names

    time,shoulder,elbow
    0.0,0.25,-1.5
    0.1,0.26,-1.5

For tables that nobody described - dates, holes, other encodings - there is `csv_table.py`.
"""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sakiyomi.errors import SakiyomiError
from sakiyomi.files import write_atomic

CLOCKS = ("time", "timestamp", "stamp", "seconds", "sec", "t")  # what a column of seconds is called
LARGEST = 2**31  # bytes of a table


@dataclass(frozen=True)
class Table:
    """What was read."""

    times: np.ndarray | None
    """float64 [T], seconds; None where there is no column of them."""
    values: np.ndarray
    """[T, C]; C is 0 where there are only times."""
    names: tuple[str, ...]
    """Of the C columns; none where the table has no line of names."""


def write_table(path: Path, times: np.ndarray, values: np.ndarray, names: Sequence[str]) -> None:
    """Write times [T] and values [T, C] of any type of numbers, with the names of the C columns."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["time", *names])
    columns = [[repr(float(time)) for time in times], *(list(map(_text, column)) for column in values.T)]
    writer.writerows(zip(*columns, strict=True))
    write_atomic(path, file.getvalue().encode())


def _text(value: np.generic) -> str:
    """The shortest text that is this number again, when it is read as float64 and made of its type."""
    if not isinstance(value, np.floating):
        return str(int(value))
    short = str(value)
    return short if type(value)(float(short)) == value else repr(float(value))


def read_table(path: Path, dtype: str = "float64") -> Table:
    """Columns of numbers apart from that of times, as `dtype`; commas, semicolons or tabs between them.

    Raises SakiyomiError, with line and column, for what is no number and no table.
    """
    rows = _rows(path)
    named = not all(_is_number(cell) for cell in rows[0])
    names = [cell.strip() for cell in rows[0]] if named else [""] * len(rows[0])
    first = 2 if named else 1
    cells = rows[1:] if named else rows
    for line, row in enumerate(cells, first):
        if len(row) != len(names):
            raise SakiyomiError(f"{path}, line {line}: {len(row)} columns, not {len(names)} as in the first line")
    if not cells:
        raise SakiyomiError(f"{path} has names of columns and no line of numbers")
    clock = next((number for number, name in enumerate(names) if _plain(name) in CLOCKS), None)
    columns = [number for number in range(len(names)) if number != clock]
    texts = np.array(cells)
    times = _numbers(path, texts[:, [clock]], [clock], "float64", first)[:, 0] if clock is not None else None
    values = _numbers(path, texts[:, columns], columns, dtype, first)
    return Table(times, values, tuple(names[number] for number in columns) if named else ())


def has_values(path: Path) -> bool:
    """Whether there is a column apart from that of times, by the first line; of what cannot be read there is none."""
    try:
        with path.open("rb") as file:
            head = file.readline(2**20).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return False
    return any(_plain(cell) not in CLOCKS for cell in re.split("[,;\t]", head.strip()))


def _rows(path: Path) -> list[list[str]]:
    try:
        if path.stat().st_size > LARGEST:
            raise SakiyomiError(f"{path} is larger than {LARGEST} bytes; cut it into episodes")
        text = path.read_bytes().decode("utf-8-sig")
        head = text.partition("\n")[0]
        delimiter = max(",;\t", key=head.count)
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
    except OSError as error:
        raise SakiyomiError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SakiyomiError(f"{path} is no text in UTF-8 (byte {error.start}); save it as such") from error
    except csv.Error as error:
        raise SakiyomiError(f"{path} is no table: {error}") from error
    if not rows:
        raise SakiyomiError(f"{path} is empty")
    if not text.endswith(("\n", "\r")):
        raise SakiyomiError(f"{path} ends within a line ({text[-40:].splitlines()[-1]!r}); it is cut off")
    return rows


def _numbers(path: Path, texts: np.ndarray, columns: Sequence[int | None], dtype: str, first: int) -> np.ndarray:
    """Texts [T, C] as numbers of a type."""
    try:
        if np.dtype(dtype).kind in "iu" and np.dtype(dtype).itemsize == 8:  # float64 does not hold them all
            return np.array([[int(cell) for cell in row] for row in texts], dtype).reshape(texts.shape)
        values = texts.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):  # what does not fit is found below
            found = values.astype(dtype)
        exact = np.dtype(dtype).kind == "f" or bool((found == values).all())
        if exact and np.isfinite(found).all():
            return found
    except (ValueError, OverflowError):
        pass
    for line, row in enumerate(texts, first):
        for column, cell in zip(columns, row, strict=True):
            if not _is_number(cell, dtype):
                where = f"{path}, line {line}, column {(column or 0) + 1}"
                raise SakiyomiError(f"{where}: {str(cell)[:40]!r} is no finite number of type {dtype}")
    raise SakiyomiError(f"{path} holds numbers that do not fit into {dtype}")


def _is_number(cell: str, dtype: str = "float64") -> bool:
    try:
        if np.dtype(dtype).kind in "iub":
            limits = np.iinfo(np.uint8 if dtype == "bool" else dtype)
            return limits.min <= int(cell) <= limits.max
        return bool(abs(float(cell)) <= float(np.finfo(dtype).max))
    except ValueError:
        return False


def _plain(name: str) -> str:
    """A column's name without its unit: `time` of `Time [s]`."""
    return re.sub(r"[\[(].*", "", name).strip(" _").lower()
