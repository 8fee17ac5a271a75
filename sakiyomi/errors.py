"""The one error type that commands turn into a single line and a non-zero exit status."""

import difflib
from collections.abc import Iterable

LARGEST_SEED = 2**63 - 1  # more, PyTorch's generators do not take


class SakiyomiError(Exception):
    """Something the user can mend: the message says what was wrong, what came, what exists, what to do."""

    status = 1
    """Exit status of a command that ends with it."""


class Unreachable(SakiyomiError):
    """What cannot be had now, though it may be whole: a server or the network fails, or there is no room for it."""


def unknown(kind: str, got: str, known: Iterable[str]) -> SakiyomiError:
    """An error for a name that does not exist, with the nearest one that does.

    `kind` is the field's word for the thing ("preset", "stream"), `known` every name that would have worked.
    """
    names = sorted(known)
    near = difflib.get_close_matches(got, names, n=1, cutoff=0.5) if len(got) > 2 else []  # of '12', '1' is no guess
    hint = f"did you mean {near[0]!r}? " if near else ""
    return SakiyomiError(f"unknown {kind} {got!r}: {hint}known: {', '.join(names) or 'none'}")


def at_least(name: str, value: float, least: float) -> None:
    """Raises SakiyomiError when a number is under its range, or none at all (NaN)."""
    if not value >= least:
        raise SakiyomiError(f"{name} is {value}; it must be at least {least}")


def at_most(name: str, value: float, most: float) -> None:
    """Raises SakiyomiError when a number is over its range, or none at all (NaN)."""
    if not value <= most:
        raise SakiyomiError(f"{name} is {value}; it must be at most {most}")
