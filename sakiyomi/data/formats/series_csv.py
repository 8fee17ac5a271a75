"""Sensor series in a text table (CSV) as an episode store: one stream `value` [T, C], cut where it was interrupted.

    sakiyomi prepare csv weather.csv --time date --values meantemp --out data/weather

The clock counts seconds from the first stamp. What was found in the file and what was done about it - encoding, rows
above the header, holes, stamps twice, values out of limits - is printed, and kept in every episode's meta.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import tyro

from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream
from sakiyomi.data.formats.csv_table import Reading, Table, many, read_table
from sakiyomi.data.formats.importing import given
from sakiyomi.data.formats.motion_files import check_shares
from sakiyomi.data.formats.stamps import EPOCH
from sakiyomi.errors import SakiyomiError, at_least
from sakiyomi.run import console

FEWEST = 20  # rows of a series: of fewer, nothing can be learned


@dataclass(frozen=True)
class Series:
    """A series ready to be cut into episodes."""

    names: tuple[str, ...]
    times: np.ndarray
    """float64 [T], seconds from the first stamp."""
    values: np.ndarray
    """float64 [T, C], finite."""
    period: float
    """Seconds between values, nominal."""
    start: str
    """The first stamp, ISO 8601; empty where stamps are none or no dates."""


@dataclass(frozen=True)
class SeriesCsv(Reading):
    """Import a sensor series from a text table (CSV)."""

    path: tyro.conf.Positional[str] = ""
    """The file."""
    period: float = 0.0
    """Seconds between values; 0 takes the median of the stamps, or 1 where there are none."""
    gap: float = 5.0
    """A hole longer than so many periods cuts the series into episodes; shorter ones are interpolated."""
    low: float | None = None
    """Values under this are taken for missing."""
    high: float | None = None
    """Values over this are taken for missing."""
    duplicates: Literal["mean", "first", "last"] = "mean"
    """What is kept of rows with one stamp."""
    shortest: int = 2
    """Episodes of fewer rows are left out."""
    validation: float = 0.2
    """Share of the series for the validation split, after that for training."""
    test: float = 0.2
    """Share of the series for the test split, the last of it."""

    def record(self, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> EpisodeStore:
        """Write the store; what is in it already is kept.

        Raises SakiyomiError for a file that is no table, a cell that is no number, and a series that is too short or
        never changes.
        """
        self._check()
        path = given(self.path, "a text table: sakiyomi prepare csv FILE")
        table = read_table(path, self)
        told = list(table.told)
        series = self.series(table, str(path), told)
        series = self._that_change(series, str(path), told)
        pieces = self._pieces(series, str(path), told)
        for line in told:
            console.print(f"{path.name}: {line}", markup=False)
        writer = EpisodeWriter(out, {"value": _stream(series)}, self._origin(path))
        for done, (split, first, last) in enumerate(pieces):
            id = f"{split}-{sum(other == split for other, _, _ in pieces[:done]):05d}"
            if id not in writer.ids:
                values, clock = series.values[first:last].astype(np.float32), series.times[first:last]
                meta = {"file": path.name, "start": series.start, "period": series.period, "handled": told}
                writer.add(id, {"value": values}, {"value": clock}, split, meta)
            progress(done + 1, len(pieces))
        return writer.finish()

    def series(self, table: Table, where: str, told: list[str]) -> Series:
        """The rows in order, one a stamp, without missing values but those that cut it; what was done goes to `told`.

        Raises SakiyomiError when too little is left.
        """
        values = self._within(table, told)
        rows = np.flatnonzero(np.isfinite(values).any(1))
        if len(rows) < FEWEST:
            raise SakiyomiError(
                f"{where} has {len(rows)} rows with a number; a series to learn from has {FEWEST} at least, and more "
                "than the window of the model"
            )
        if table.stamps is None:
            period = self.period or 1.0
            told.append(f"no column of time: a row each {period:g} s (--period)")
            times = np.arange(len(values)) * period
        else:
            times, values = self._in_order(table.stamps, values, told)
            period = self.period or _median_step(times, where)
        times, values = _bridged(times, values, self.gap * period * (1 + 1e-6), table.names, told)
        if len(times) < FEWEST:
            raise SakiyomiError(
                f"{where}: {len(times)} rows are left where no column is missing for longer than {self.gap:g} periods "
                f"of {period:g} s; take fewer columns (--values), or a greater --gap"
            )
        return Series(table.names, times - times[0], values, period, _iso(float(times[0])) if table.dated else "")

    def _check(self) -> None:
        check_shares(self.validation, self.test)
        at_least("--period", self.period, 0)
        at_least("--gap", self.gap, 1)
        at_least("--header", self.header, 0)
        at_least("--shortest", self.shortest, 2)
        if len(self.time) > 2:
            raise SakiyomiError(f"--time takes one column, or date and time of day; got {', '.join(self.time)}")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise SakiyomiError(f"--low {self.low:g} is not less than --high {self.high:g}; nothing would be left")

    def _origin(self, path: Path) -> dict[str, Any]:
        """The file may move, what is in it may not change."""
        settings = {name: value for name, value in asdict(self).items() if name != "path"}
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        return msgspec.json.decode(msgspec.json.encode({"source": "series_csv", **settings, "content": content}))

    def _within(self, table: Table, told: list[str]) -> np.ndarray:
        """The values inside the limits, NaN for the others."""
        values = table.values.copy()
        for limit, beyond, word in ((self.low, np.less, "under"), (self.high, np.greater, "over")):
            if limit is None:
                continue
            outside = beyond(values, limit)  # NaN is neither
            for name, count in zip(table.names, outside.sum(0).tolist(), strict=True):
                if count:
                    told.append(f"{many(count, 'value')} of {name!r} {word} {limit:g} taken for missing")
            values[outside] = np.nan
        return values

    def _in_order(self, stamps: np.ndarray, values: np.ndarray, told: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Sorted, and one row a stamp."""
        backwards = int((np.diff(stamps) < 0).sum())
        if backwards:
            told.append(f"{many(backwards, 'stamp')} before the one above: sorted")
            order = np.argsort(stamps, kind="stable")
            stamps, values = stamps[order], values[order]
        first = np.flatnonzero(np.diff(stamps, prepend=-np.inf) > 0)
        if len(first) == len(stamps):
            return stamps, values
        again = len(stamps) - len(first)
        doubt = "; are there several series in this table?" if 3 * again > len(stamps) else ""
        told.append(f"{many(again, 'row')} whose stamp was there already: {self.duplicates} taken{doubt}")
        if self.duplicates == "mean":
            counts = np.add.reduceat(np.isfinite(values).astype(float), first)
            sums = np.add.reduceat(np.nan_to_num(values), first)
            return stamps[first], np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
        chosen = first if self.duplicates == "first" else np.append(first[1:], len(stamps)) - 1
        return stamps[first], values[chosen]

    def _that_change(self, series: Series, where: str, told: list[str]) -> Series:
        """Without columns that stay the same all through the training split, unless they were asked for."""
        training = series.values[: self._bounds(len(series.times))[0]]
        still = training.min(0) == training.max(0)
        names = [name for name, same in zip(series.names, still, strict=True) if same]
        if not names:
            return series
        if self.values or still.all():
            raise SakiyomiError(
                f"{where}: {', '.join(map(repr, names))} never changes in the {len(training)} rows for training; there "
                "is nothing to learn. Choose other columns with --values, or a longer series"
            )
        told.append(f"columns that never change in training left out: {', '.join(names)}")
        kept = tuple(name for name, same in zip(series.names, still, strict=True) if not same)
        return Series(kept, series.times, series.values[:, ~still], series.period, series.start)

    def _bounds(self, rows: int) -> tuple[int, int]:
        """Where training and validation end."""
        return round(rows * (1 - self.validation - self.test)), round(rows * (1 - self.test))

    def _pieces(self, series: Series, where: str, told: list[str]) -> list[tuple[str, int, int]]:
        """Split, first row and the row after the last one, of each episode."""
        steps = np.diff(series.times)
        long = np.flatnonzero(steps > self.gap * series.period * (1 + 1e-6))
        short = int((steps > 1.5 * series.period).sum()) - len(long)
        if short > 0:
            told.append(f"{many(short, 'hole')} of {self.gap:g} periods at most left to interpolation")
        if len(long):
            told.append(f"cut at {many(len(long), 'longer hole')}, the longest {duration(steps[long].max())}")
        training, validation = self._bounds(len(series.times))
        ends = {"train": training, "validation": validation, "test": len(series.times)}
        cuts = sorted({0, *(long + 1).tolist(), *ends.values()})
        pieces = []
        for first, last in pairwise(cuts):
            split = next(split for split, end in ends.items() if first < end)
            pieces.append((split, first, last))
        scraps = [last - first for _, first, last in pieces if last - first < self.shortest]
        if scraps:
            told.append(f"{many(len(scraps), 'piece')} of fewer than {self.shortest} rows left out")
        kept = [piece for piece in pieces if piece[2] - piece[1] >= self.shortest]
        if not any(split == "train" for split, _, _ in kept):
            raise SakiyomiError(
                f"{where}: no piece of {self.shortest} rows without a hole is left for training, of "
                f"{len(series.times)} rows and {len(long)} holes longer than {self.gap:g} periods of {series.period:g} "
                "s; a greater --gap, or the --period the series has"
            )
        return kept


def _iso(seconds: float) -> str:
    """The moment so long after 1970; nothing where there is no such year."""
    try:
        return (EPOCH + timedelta(seconds=seconds)).isoformat()
    except OverflowError:
        return ""


def _stream(series: Series) -> Stream:
    units = [match[1] for name in series.names if (match := re.search(r"[(\[（]([^)\]）]+)[)\]）]", name))]
    unit = ", ".join(units) if len(units) == len(series.names) else ""
    return Stream("scalar", (len(series.names),), "float32", 1 / series.period, unit, series.names)


def _median_step(times: np.ndarray, where: str) -> float:
    if len(times) < 2:
        raise SakiyomiError(f"{where}: all rows have one stamp; is --time the right column?")
    return float(np.median(np.diff(times)))


def _bridged(
    times: np.ndarray, values: np.ndarray, longest: float, names: tuple[str, ...], told: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The rows [T, C] with missing values interpolated in time where what is missing is no longer than `longest`
    seconds; the other rows with missing values are left out, and leave a hole."""
    usable, filled = np.ones(len(times), bool), values.copy()
    for channel, name in enumerate(names):
        missing = ~np.isfinite(values[:, channel])
        if not missing.any():
            continue
        if missing.all():
            raise SakiyomiError(f"column {name!r} has no number; choose others with --values")
        known = times[~missing]
        filled[:, channel] = np.interp(times, known, values[~missing, channel])
        after = np.searchsorted(known, times[missing])
        inside = (after > 0) & (after < len(known))
        width = known[np.minimum(after, len(known) - 1)] - known[np.maximum(after - 1, 0)]
        usable[missing] &= inside & (width <= longest)
    gone, between = int((~usable).sum()), int((~np.isfinite(values[usable])).sum())
    if between:
        told.append(f"{many(between, 'missing value')} interpolated")
    if gone:
        told.append(f"{many(gone, 'row')} in longer stretches without values left out")
    return times[usable], filled[usable]


def duration(seconds: float) -> str:
    """In words, in the largest unit of which there are two."""
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"


def recognises(path: Path) -> bool:
    """Whether it is a table as text, by the ending of its name."""
    return path.suffix.lower() in (".csv", ".tsv") and path.is_file()
