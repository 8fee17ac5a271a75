"""Written stamps of time -> seconds: ISO 8601, 2013/1/5 12:30, 2013年1月5日, 05.01.2013, 20130105, 2013-01, Unix time.

    stamps(["2013-01-01", "2013-01-02"], [2, 3])  # 1356998400.0, 1357084800.0

Stamps without a zone are taken as they are, those with one in UTC. Whether 1/5/2013 is in January or in May is found
from the other stamps; where these do not tell, it is refused.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime

import numpy as np

from sakiyomi.errors import SakiyomiError

DAY = 86_400.0
EPOCH = datetime(1970, 1, 1)
ZONED = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_DATED = 1e8  # s, in 1973: smaller numbers are seconds of some clock of their own
LAST_DATED = 1e11  # s, in the year 5138: larger numbers are Unix time in parts of a second
PARTS = {"seconds": 1.0, "milliseconds": 1e-3, "microseconds": 1e-6, "nanoseconds": 1e-9}
NUMERIC = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
WRITTEN = re.compile(
    r"(\d{1,4})([-/.年])(\d{1,2})[-/.月](\d{1,4})日?"
    r"(?:[T\s]+(\d{1,2})[:時](\d{1,2})分?(?::?(\d{1,2}(?:[.,]\d+)?)秒?)?(?:\s*([AaPp])\.?[Mm]\.?)?)?"
)
MONTH = re.compile(r"(\d{4})[-/年](\d{1,2})月?")
YEAR = re.compile(r"1[5-9]\d\d|2[01]\d\d")
ORDERS = {"ymd": (0, 1, 2), "dmy": (2, 1, 0), "mdy": (2, 0, 1)}
"""Which of the three numbers is year, month and day."""
Parse = Callable[[str], float]


def is_stamp(cell: str) -> bool:
    """Whether a cell that is no number may be a stamp."""
    written = WRITTEN.fullmatch(cell)
    if written or MONTH.fullmatch(cell):
        return written is None or len(written[1]) == 4 or len(written[4]) == 4
    try:
        datetime.fromisoformat(cell)
    except ValueError:
        return False
    return True


def stamps(
    cells: list[str], lines: list[int], how: str = "auto", skip_bad: bool = False, where: str = "stamps"
) -> tuple[np.ndarray, bool, str]:
    """Seconds, float64 [N]; whether since 1970; and how they were written.

    `lines` are theirs in the file. Raises SakiyomiError, beginning with `where` and the line, for what is no stamp;
    with `skip_bad` it is NaN.
    """
    cells = [cell.strip() for cell in cells]
    parse, dated, told = _parser(cells, how, where)
    out = np.full(len(cells), np.nan)
    for i, cell in enumerate(cells):
        try:
            out[i] = parse(cell)
        except (ValueError, TypeError, OverflowError) as error:
            if skip_bad:
                continue
            mixed = "some stamps have a zone and others none" if isinstance(error, TypeError) else "that is no stamp"
            raise SakiyomiError(
                f"{where}, line {lines[i]}: {cell[:40]!r}: {mixed} ({told}); mend it, tell the format as --time-format "
                "'%Y-%m-%d %H:%M', or --skip-bad leaves such rows out"
            ) from error
    if np.isnan(out).all():
        raise SakiyomiError(f"{where}: none of {cells[:3]} is a stamp ({told}); tell the format with --time-format")
    return out, dated, told


def _parser(cells: list[str], how: str, where: str) -> tuple[Parse, bool, str]:
    """What reads them, whether they are dates, and its description."""
    if how in PARTS:
        return _numeric(cells, how)
    if how != "auto":
        first = next((cell for cell in cells if _succeeds(lambda c: datetime.strptime(c, how), cell)), "")
        zoned = first and datetime.strptime(first, how).tzinfo is not None
        epoch = ZONED if zoned else EPOCH
        return lambda cell: (datetime.strptime(cell, how) - epoch).total_seconds(), True, f"stamps as {how}"
    sample = [cell for cell in cells[:1000] if cell]
    if sample and all(re.fullmatch(r"(1[89]|2[01])\d{6}", cell) and is_stamp_of_day(cell) for cell in sample):
        return lambda cell: (datetime.strptime(cell, "%Y%m%d") - EPOCH).total_seconds(), True, "stamps as 20130105"
    for pattern, told in ((MONTH, "months"), (YEAR, "years")):
        if sample and all(pattern.fullmatch(cell) for cell in sample):
            return _firsts(pattern), True, f"{told}, from their first day on"
    numbers = [float(cell) for cell in sample if NUMERIC.fullmatch(cell)]
    if numbers and len(numbers) > len(sample) / 2:
        middle = float(np.median(np.abs(numbers)))
        return _numeric(cells, next((part for part, s in PARTS.items() if middle * s < LAST_DATED), "seconds"))
    written = [match for match in map(WRITTEN.fullmatch, sample) if match]
    if 2 * sum(len(match[1]) == 4 for match in written) >= len(written):  # ISO, or nearly
        zoned = any(_succeeds(lambda c: datetime.fromisoformat(c) - ZONED, cell) for cell in sample[:1])
        return _iso(ZONED if zoned else EPOCH), True, "ISO stamps" + (" with their zone, in UTC" if zoned else "")
    order = "dmy" if written[0][2] == "." else _order(cells, where)
    words = {"dmy": "day, month, year", "mdy": "month, day, year"}[order]
    return _in_order(order), True, f"stamps as {words}"


def is_stamp_of_day(cell: str) -> bool:
    """Whether 20130105 is a day."""
    return _succeeds(lambda c: datetime.strptime(c, "%Y%m%d"), cell)


def _succeeds(parse: Callable[[str], object], cell: str) -> bool:
    try:
        parse(cell)
    except (ValueError, TypeError):
        return False
    return True


def _numeric(cells: list[str], part: str) -> tuple[Parse, bool, str]:
    scale = PARTS[part]

    def parse(cell: str) -> float:
        value = float(cell) * scale
        if value - value != 0:
            raise ValueError(cell)
        return value

    numbers = [abs(float(cell)) * scale for cell in cells[:1000] if NUMERIC.fullmatch(cell)]
    dated = bool(numbers) and FIRST_DATED <= float(np.median(numbers)) < LAST_DATED
    return parse, dated, f"{'Unix time' if dated else 'time'} in {part}"


def _firsts(pattern: re.Pattern[str]) -> Parse:
    """The first day of a month or year."""

    def parse(cell: str) -> float:
        if not (match := pattern.fullmatch(cell)):
            raise ValueError(cell)
        year, month = (int(match[1]), int(match[2])) if match.re is MONTH else (int(match[0]), 1)
        return (date(year, month, 1).toordinal() - EPOCH.toordinal()) * DAY

    return parse


def _iso(epoch: datetime) -> Parse:
    """ISO 8601, or year, month, day with any sign between and one digit or two."""
    written = _in_order("ymd")

    def parse(cell: str) -> float:
        try:
            moment = datetime.fromisoformat(cell)
        except ValueError:
            return written(cell)
        return (moment - epoch).total_seconds()

    return parse


def _in_order(order: str) -> Parse:
    year, month, day = ORDERS[order]

    def parse(cell: str) -> float:
        match = WRITTEN.fullmatch(cell)
        if match is None:
            raise ValueError(cell)
        numbers = (match[1], match[3], match[4])
        if len(numbers[year]) != 4:
            raise ValueError(cell)
        days = date(int(numbers[year]), int(numbers[month]), int(numbers[day])).toordinal() - EPOCH.toordinal()
        return days * DAY + _of_day(match)

    return parse


def _of_day(match: re.Match[str]) -> float:
    """Seconds since midnight; 24:00 ends the day, as at weather stations."""
    if match[5] is None:
        return 0.0
    hour, minute, second = int(match[5]), int(match[6]), float((match[7] or "0").replace(",", "."))
    if match[8]:
        if not 1 <= hour <= 12:
            raise ValueError(match[0])
        hour = hour % 12 + (12 if match[8] in "Pp" else 0)
    total = hour * 3600 + minute * 60 + second
    if minute > 59 or second >= 60 or total > DAY:
        raise ValueError(match[0])
    return total


def _order(cells: list[str], where: str) -> str:
    """Whether day or month comes first: where a number is over 12, it is a day."""
    written = [match for match in map(WRITTEN.fullmatch, cells) if match]
    first, second = (max(int(match[group]) for match in written) > 12 for group in (1, 3))
    if first != second:
        return "dmy" if first else "mdy"
    what = "some stamps have the day first and others the month" if first else "day and month cannot be told apart"
    raise SakiyomiError(
        f"{where}: {what}, as in {written[0][0]!r}; say which with --time-format, as '%d/%m/%Y' or '%m/%d/%Y' "
        "(with ' %H:%M' where there is a time of day)"
    )
