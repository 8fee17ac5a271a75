"""How figures are written on docs/scale.md: three digits, and the unit that fits."""

import math
from collections.abc import Iterable

HOUR, DAY = 3600, 86_400


def size(bytes: float) -> str:
    return scaled(bytes, 1000, ("B", "kB", "MB", "GB", "TB", "PB"))


def scaled(value: float, by: float, units: Iterable[str]) -> str:
    """Three digits and the unit that fits."""
    units = list(units)
    power = min(len(units) - 1, max(0, math.floor(math.log(max(value, 1), by) + 1e-9)))
    return f"{digits(value / by**power)} {units[power]}"


def digits(value: float) -> str:
    """Three of them, with commas."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    rounded = round(value, 2 - math.floor(math.log10(abs(value))))
    return f"{rounded:,.{decimals}f}".rstrip("0").rstrip(".") if decimals else f"{rounded:,.0f}"


def span(seconds: float) -> str:
    for unit, name in ((365 * DAY, "years"), (DAY, "days"), (HOUR, "h"), (60, "min"), (1, "s")):
        if seconds >= 2 * unit:
            return f"{digits(seconds / unit)} {name}"
    return f"{digits(1e3 * seconds)} ms" if seconds < 1 else f"{digits(seconds)} s"


def dollars(value: float) -> str:
    return f"${digits(value)}"
