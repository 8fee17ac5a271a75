"""A table of numbers out of a text file that nobody described: encoding, delimiter, header, decimal comma, stamps.

    read_table(Path("weather.csv"), Reading(time=("date",), values=("meantemp",)))

What is not told is found, and what was found is said in `Table.told`. Anything that is neither a number nor one of
the usual signs for a missing one is an error with its line and column, unless such cells are to be skipped.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Literal

import numpy as np

from sakiyomi.data.formats.stamps import is_stamp, stamps
from sakiyomi.errors import SakiyomiError, unknown

MISSING = {
    *("", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "missing", "*", "**", "?", "#", "..", "..."),
    *("-", "--", "---", "/", "//", "///", "×", "欠測", "…", "―", "–", "—"),
}
"""What stands for a number that was not measured, in small letters."""
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|", "space": " "}
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
COMMA_NUMBER = re.compile(r"[+-]?(\d+(\.\d{3})*,?\d*|,\d+)([eE][+-]?\d+)?")
THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?")
CLOCKS = {
    *("time", "timestamp", "datetime", "date", "ts", "epoch", "unix", "unixtime", "year", "年"),
    *("時刻", "日時", "年月日", "日付"),
}
SAMPLE = 1000  # lines from which delimiter, header and kinds of columns are found
TYPICAL = 100  # rows, the last ones of the sample, that say what a column usually holds


@dataclass(frozen=True)
class Reading:
    """How a table is to be read."""

    time: tuple[str, ...] = ()
    """Column of the stamps, or two, date and time of day; if not given, the first whose cells are stamps."""
    values: tuple[str, ...] = ()
    """Columns to learn from; if not given, all that hold numbers."""
    encoding: str = "auto"
    """Such as utf-8, shift_jis, utf-16, latin-1; auto tries these."""
    delimiter: Literal["auto", "comma", "semicolon", "tab", "bar", "space"] = "auto"
    """What stands between the columns."""
    header: int = 0
    """Line of the columns' names, counted from 1; 0 finds it, and leaves out what stands above."""
    time_format: str = "auto"
    """Of the stamps, as %d/%m/%Y %H:%M, or of numbers seconds, milliseconds or the like; auto takes what it knows."""
    skip_bad: bool = False
    """Take cells that are no number for missing, and leave out rows without a stamp, rather than refuse."""


@dataclass(frozen=True)
class Table:
    """What was read."""

    names: tuple[str, ...]
    """Of the columns of values, C."""
    stamps: np.ndarray | None
    """float64 [N], seconds, since 1970 if `dated`; None where there is no column of them."""
    dated: bool
    values: np.ndarray
    """float64 [N, C]; missing ones are NaN."""
    told: tuple[str, ...]
    """What was found and done, for whoever gave the file."""


@dataclass(frozen=True)
class _Layout:
    names: list[str]
    """Of all columns."""
    kinds: list[str]
    """number, time, text or missing, as most cells of the column are."""
    start: int
    """Rows above the first one of data."""
    header: int
    """Line of the names, 0 for none."""


def read_table(path: Path, reading: Reading) -> Table:
    """Raises SakiyomiError for what is no table of numbers, and for cells that are none, with line and column."""
    text, encoding = decode(_content(path), path, reading.encoding)
    delimiter = _delimiter(text, path) if reading.delimiter == "auto" else _named(reading.delimiter)
    rows = list(_rows(text, delimiter, path, SAMPLE))
    layout = _layout(rows, delimiter, reading.header, path)
    clock, columns = _columns(layout, rows, reading)
    told = [_how(encoding, delimiter, layout, clock, columns)]
    kept, lines = _cells(text, delimiter, path, layout, [*clock, *columns], reading.skip_bad, told)
    if not kept:
        raise SakiyomiError(f"{path} has no row of data under its header ({', '.join(layout.names)})")
    cells = [list(column) for column in zip(*kept, strict=True)]
    found, dated = None, False
    if clock:
        written = [" ".join(row) for row in zip(*cells[: len(clock)], strict=True)] if len(clock) > 1 else cells[0]
        name = " ".join(layout.names[number] for number in clock)
        found, dated, how = stamps(written, lines, reading.time_format, reading.skip_bad, f"{path}, column {name!r}")
        told.append(how)
    comma = delimiter != "," and any(_has_comma(column) for column in cells[len(clock) :])
    if comma:
        told.append("decimal commas")
    values = np.empty((len(kept), len(columns)))
    for number, (column, name) in enumerate(zip(cells[len(clock) :], columns, strict=True)):
        where = f"{path}, column {layout.names[name]!r}"
        values[:, number] = _numbers(column, lines, comma, reading.skip_bad, where, told)
    if found is not None and np.isnan(found).any():
        told.append(f"{many(int(np.isnan(found).sum()), 'row')} without a stamp left out")
        values, found = values[~np.isnan(found)], found[~np.isnan(found)]
    return Table(tuple(layout.names[number] for number in columns), found, dated, values, tuple(told))


def many(count: int, what: str) -> str:
    """`1 row`, `2 rows`, `2 rows of another width`."""
    head, of, rest = what.partition(" of ")
    return f"{count} {head}{'' if count == 1 else 's'}{of}{rest}"


def decode(content: bytes, path: Path, encoding: str = "auto") -> tuple[str, str]:
    """The text and its encoding. Raises SakiyomiError for what is no text."""
    if not content.strip():
        raise SakiyomiError(f"{path} is empty; a table has a header and rows of numbers")
    for sign, kind in ((b"PK\x03\x04", "a zip or Excel file"), (b"\x1f\x8b", "a gzip file"), (b"%PDF", "a PDF")):
        if content.startswith(sign):
            raise SakiyomiError(f"{path} is {kind}, no text; unpack it, or save the table as CSV")
    try:
        if encoding != "auto":
            return content.decode(encoding), encoding
    except (UnicodeError, LookupError) as error:
        raise SakiyomiError(f"{path} is not in encoding {encoding!r}: {error}; --encoding auto tries some") from error
    for name in _likely(content):
        try:
            text = content.decode(name)
        except UnicodeError:
            continue
        if "\0" in text or sum(char < " " and char not in "\t\r\n\f\v" for char in text[:4096]) > 4:
            break
        if name != "cp932" or _japanese(text):
            return text.removeprefix("\ufeff"), name
    raise SakiyomiError(f"{path} is no text but binary data; save the table as CSV")


def _likely(content: bytes) -> tuple[str, ...]:
    """Encodings to try, the strictest first."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return ("utf-16",)
    head = content[:4096]
    if head[1::2].count(0) > len(head) // 5:
        return ("utf-16-le",)
    if head[::2].count(0) > len(head) // 5:
        return ("utf-16-be",)
    return ("utf-8-sig" if content.startswith(b"\xef\xbb\xbf") else "utf-8", "cp932", "latin-1")


def _japanese(text: str) -> bool:
    """Whether what was read as Shift-JIS is: the usual characters begin with bytes that mean nothing in Latin-1."""
    others = {char for char in text if char > "\x7f"}
    return any(0x81 <= char.encode("cp932")[0] <= 0x9F for char in others)


def _content(path: Path) -> bytes:
    if path.is_dir():
        raise SakiyomiError(f"{path} is a folder; name one file of it")
    try:
        return path.read_bytes()
    except OSError as error:
        raise SakiyomiError(f"{path} cannot be read: {error}") from error


def _named(delimiter: str) -> str:
    if delimiter not in DELIMITERS:
        raise unknown("delimiter", delimiter, ("auto", *DELIMITERS))
    return DELIMITERS[delimiter]


def _rows(text: str, delimiter: str, path: Path, most: int | None = None) -> Iterator[tuple[int, list[str]]]:
    """Number of its line and cells of every row that is not blank; `most` counts lines."""
    lines: Iterator[str] = iter(io.StringIO(text, newline=None))
    if delimiter == " ":
        lines = (line.strip() + "\n" for line in lines)
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        for row in reader:
            if most is not None and reader.line_num > most:
                return
            if any(row):
                yield reader.line_num, row
    except csv.Error as error:
        raise SakiyomiError(
            f"{path}, line {reader.line_num} cannot be read: {error}; is a quotation mark left open?"
        ) from error


def _delimiter(text: str, path: Path) -> str:
    """The one that gives rows of one width whose cells are numbers and stamps."""

    def fit(delimiter: str) -> float:
        rows: list[list[str]] = []
        with suppress(SakiyomiError):  # it comes again when this delimiter is chosen
            rows.extend(row for _, row in _rows(text, delimiter, path, SAMPLE))
        rows = rows[-TYPICAL:]
        width = Counter(map(len, rows)).most_common(1)[0][0] if rows else 0
        cells = [_kind(cell, delimiter) for row in rows if len(row) == width for cell in row]
        told = sum(kind in ("number", "time") for kind in cells) + 0.5 * cells.count("missing")
        return told / max(1, len(cells)) * sum(len(row) == width for row in rows) / max(1, len(rows))

    return max(DELIMITERS.values(), key=fit)


def _kind(cell: str, delimiter: str) -> str:
    cell = cell.strip()
    if cell.lower() in MISSING:
        return "missing"
    if NUMBER.fullmatch(cell) or THOUSANDS.fullmatch(cell) or (delimiter != "," and COMMA_NUMBER.fullmatch(cell)):
        return "number"
    return "time" if is_stamp(cell) else "text"


def _layout(rows: Sequence[tuple[int, list[str]]], delimiter: str, header: int, path: Path) -> _Layout:
    """Where the data begin, and what their columns are."""
    if not rows:
        raise SakiyomiError(f"{path} is empty; a table has a header and rows of numbers")
    typical = [row for _, row in rows[len(rows) // 2 :]][-TYPICAL:]
    width = Counter(map(len, typical)).most_common(1)[0][0]
    kinds = [_majority([_kind(row[i], delimiter) for row in typical if len(row) == width]) for i in range(width)]
    measured = [i for i, kind in enumerate(kinds) if kind in ("number", "time")]
    if not measured:
        raise SakiyomiError(
            f"{path} holds no column of numbers: its last lines begin {rows[-1][1][:4]}; is --delimiter right?"
        )
    if header:
        above = [number for number, (line, _) in enumerate(rows) if line == header]
        if not above:
            raise SakiyomiError(f"--header {header}: {path} has no such line among its first {rows[-1][0]}")
        return _Layout(_names(rows[above[0]][1], [], width), kinds, above[0] + 1, header)
    decisive = [i for i in measured if kinds[i] == "time"][:1] or measured
    start = next((n for n, (_, row) in enumerate(rows) if _is_data(row, kinds, decisive, delimiter)), None)
    if start is None:
        raise SakiyomiError(f"{path}: no row has numbers where most have; tell the --delimiter and the --header")
    block = []
    while len(block) < min(start, 5) and len(rows[start - 1 - len(block)][1]) == width:
        block.append(rows[start - 1 - len(block)])  # from below
    if not block:
        return _Layout(_names([], [], width), kinds, start, 0)
    texts = [sum(_kind(cell, delimiter) == "text" for cell in row) for _, row in block]
    line, names = block[texts.index(max(texts))]
    others = [row for other, row in block[::-1] if other != line]
    return _Layout(_names(names, others, width), kinds, start, line)


def _majority(kinds: list[str]) -> str:
    counted = Counter(kind for kind in kinds if kind != "missing")
    return counted.most_common(1)[0][0] if counted else "missing"


def _is_data(row: list[str], kinds: list[str], decisive: list[int], delimiter: str) -> bool:
    if len(row) != len(kinds):
        return False
    fitting = [_kind(row[i], delimiter) for i in decisive]
    right = sum(kind == kinds[i] for kind, i in zip(fitting, decisive, strict=True))
    return right > 0 and right >= fitting.count("text")


def _names(row: list[str], others: list[list[str]], width: int) -> list[str]:
    """One for each column, no two alike: what tells two of one name apart is added from the other rows of the header,
    or a number."""
    names = [cell.strip().lstrip("#").strip() for cell in row[:width]] + [""] * (width - len(row))
    for other in others:
        for name in {name for name in names if names.count(name) > 1 and name}:
            alike = [i for i in range(width) if names[i] == name]
            if len({other[i].strip() for i in alike}) > 1:
                for i in alike:
                    names[i] = f"{name} {other[i].strip()}".strip()
    unique: list[str] = []
    for i, name in enumerate(names):
        name = name or f"column {i + 1}"
        number = 2
        while (named := name if name not in unique else f"{name} {number}") in unique:
            number += 1
        unique.append(named)
    return unique


def _columns(layout: _Layout, rows: Sequence[tuple[int, list[str]]], reading: Reading) -> tuple[list[int], list[int]]:
    """Numbers of the columns of time (none, one or two) and of values."""

    def find(name: str) -> int:
        for alike in (lambda other: other == name, lambda other: other.lower() == name.strip().lower()):
            found = [i for i, other in enumerate(layout.names) if alike(other)]
            if found:
                return found[0]
        raise unknown("column", name, layout.names)

    data = [row for _, row in rows[layout.start :] if len(row) == len(layout.names)]
    clock = [find(name) for name in reading.time]
    if not clock:
        clock = [i for i, kind in enumerate(layout.kinds) if kind == "time"][:1]
    if not clock:
        called = [i for i, name in enumerate(layout.names) if name.lower() in CLOCKS]
        clock = [i for i in called if layout.kinds[i] == "number" and _counts_time([row[i] for row in data])][:1]
    values = [find(name) for name in reading.values]
    if not values:
        values = [i for i, kind in enumerate(layout.kinds) if kind == "number" and i not in clock]
        # A table that pandas wrote has the numbers of its rows in a first column without a name.
        if len(values) > 1 and values[0] == 0 and layout.names[0] == "column 1" and layout.header:
            first = data[0][0] if data else ""
            counted = first.isdecimal() and [row[0] for row in data] == [str(int(first) + i) for i in range(len(data))]
            values = values[1:] if counted else values
    both = [layout.names[i] for i in values if i in clock]
    if both:
        raise SakiyomiError(f"column {both[0]!r} cannot be both --time and one of --values")
    if not values:
        raise SakiyomiError(f"there is no column of numbers beside the time; columns: {', '.join(layout.names)}")
    return clock, values


def _counts_time(cells: list[str]) -> bool:
    """Numbers that only rise, or as large as days written 20130105 and Unix time are."""
    try:
        numbers = np.array([float(cell) for cell in cells])
    except ValueError:
        return False
    return bool((np.diff(numbers) >= 0).all() or (numbers > 1e7).all())


def _how(encoding: str, delimiter: str, layout: _Layout, clock: list[int], columns: list[int]) -> str:
    name = next(name for name, sign in DELIMITERS.items() if sign == delimiter)
    header = f"header in line {layout.header}" if layout.header else "no header"
    above = f", {many(layout.start - bool(layout.header), 'other row')} above the data left out"
    time = f"time in {' and '.join(repr(layout.names[i]) for i in clock)}" if clock else "no column of time"
    values = ", ".join(repr(layout.names[i]) for i in columns[:8]) + (", ..." if len(columns) > 8 else "")
    left_out = above if layout.start > bool(layout.header) else ""
    return f"encoding {encoding}, delimiter {name}, {header}{left_out}, {time}, values in {values}"


def _cells(
    text: str, delimiter: str, path: Path, layout: _Layout, picks: list[int], skip_bad: bool, told: list[str]
) -> tuple[list[tuple[str, ...]], list[int]]:
    """The picked cells of every row of data, and the rows' lines."""
    width, kept, lines = len(layout.names), [], []
    again, torn = 0, 0
    header: list[str] = []
    pick = itemgetter(*picks) if len(picks) > 1 else lambda row: (row[picks[0]],)
    for number, (line, row) in enumerate(_rows(text, delimiter, path)):
        if number < layout.start:
            header = row if line == layout.header else header
            continue
        if len(row) != width and not (len(row) > width and not any(row[width:])):
            if not skip_bad:
                raise SakiyomiError(
                    f"{path}, line {line} has {len(row)} cells, the header {width}: {','.join(row)[:60]!r}; mend it, "
                    "or --skip-bad leaves such rows out"
                )
            torn += 1
        elif header and row[0] == header[0] and row == header:  # logs that were put one behind the other
            again += 1
        else:
            kept.append(pick(row))
            lines.append(line)
    for count, what in ((again, "repeated header"), (torn, "row of another width")):
        if count:
            told.append(f"{many(count, what)} left out")
    return kept, lines


def _has_comma(cells: list[str]) -> bool:
    return any("," in cell and COMMA_NUMBER.fullmatch(cell.strip()) for cell in cells)


def _numbers(
    cells: list[str], lines: list[int], comma: bool, skip_bad: bool, where: str, told: list[str]
) -> np.ndarray:
    """Float64 [N], NaN where there is none."""
    at_once = _all_numbers(cells, comma)
    if at_once is not None:
        return at_once
    out, missing, bad = np.full(len(cells), np.nan), 0, 0
    read: Callable[[str], float] = _european if comma else _number
    for i, cell in enumerate(cells):
        try:
            out[i] = read(cell)
            continue
        except ValueError:
            pass
        if cell.strip().lower() in MISSING:
            missing += 1
        elif skip_bad:
            bad += 1
        else:
            raise SakiyomiError(
                f"{where}, line {lines[i]}: {cell[:40]!r} is no number; mend it, or --skip-bad takes such cells "
                "for missing"
            )
    name = where.split(", column ")[-1]
    if missing:
        told.append(f"{many(missing, 'missing value')} of {name}")
    if bad:
        told.append(f"{many(bad, 'cell')} of {name} that {'is' if bad == 1 else 'are'} no number taken for missing")
    return out


def _all_numbers(cells: list[str], comma: bool) -> np.ndarray | None:
    """The same where there are plain numbers only, five times as fast; None where not."""
    joined = "\n".join(cells)
    if "_" in joined or (comma and "." in joined):
        return None
    plain = joined.replace(",", ".").split("\n") if comma else cells
    try:
        numbers = np.fromiter(map(float, plain), float, len(plain))
    except ValueError:
        return None
    return numbers if len(plain) == len(cells) and np.isfinite(numbers).all() else None


def _number(cell: str) -> float:
    """Raises ValueError for what is no finite number."""
    try:
        value = float(cell)
    except ValueError:
        plain = cell.strip().replace("\u2212", "-")  # the minus sign of typesetters
        value = float(plain.replace(",", "") if THOUSANDS.fullmatch(plain) else plain)
    if value - value != 0 or "_" in cell:  # NaN and infinity; Python would read 1_0
        raise ValueError(cell)
    return value


def _european(cell: str) -> float:
    """With a decimal comma. A point may only part thousands before a comma: 1.234,5."""
    plain = cell.strip().replace("\u2212", "-")
    if not COMMA_NUMBER.fullmatch(plain) or ("." in plain and "," not in plain):
        raise ValueError(cell)
    return _number(plain.replace(".", "").replace(",", "."))
