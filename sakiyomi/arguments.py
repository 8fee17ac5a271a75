"""What all verbs of the command line share: typed records over their defaults, and where runs are."""

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

import tyro

from sakiyomi.errors import SakiyomiError, unknown

Arguments = TypeVar("Arguments")


class NoRun(SakiyomiError):
    """There is no such run."""


def parse(default: Arguments, command: str, rest: list[str]) -> Arguments:
    """Typed arguments over their defaults. Raises SakiyomiError for a field that does not exist."""
    parsed, unknown_words = tyro.cli(
        type(default),
        default=default,
        args=rest,
        prog=f"sakiyomi {command}",
        description=type(default).__doc__,
        return_unknown_args=True,
    )
    if unknown_words:
        raise unknown("field", unknown_words[0], field_names(default))
    return parsed


def field_names(record: Any, prefix: str = "--") -> list[str]:
    """Every flag of a nested dataclass."""
    names: list[str] = []
    for field in dataclasses.fields(record):
        value, flag = getattr(record, field.name), prefix + field.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            names += field_names(value, f"{flag}.")
        elif isinstance(value, dict):
            names += [n for key, v in value.items() for n in field_names(v, f"{flag}.{key}.")]
        else:
            names.append(flag)
    return names


def narrow(args: Any, kind: type[Arguments]) -> Arguments:
    """The part of `args` that is a `kind`."""
    return kind(**{f.name: getattr(args, f.name) for f in dataclasses.fields(kind)})  # pyright: ignore[reportArgumentType]


def run_folder(name: str, given: str) -> Path:
    """`given`, or runs/NAME. Raises SakiyomiError when neither holds a run, with the ones that exist."""
    folder = Path(given) if given else Path("runs") / name
    if not (folder / "job.json").exists():
        known = [path.parent.name for path in Path("runs").glob("*/job.json")]
        raise NoRun(str(unknown("run", given or name, known)))
    return folder


def option(words: list[str], flag: str) -> str:
    """What `--flag WORD` or `--flag=WORD` says, or nothing."""
    joined = [word.removeprefix(f"{flag}=") for word in words if word.startswith(f"{flag}=")]
    return words[words.index(flag) + 1] if flag in words[:-1] else "".join(joined[-1:])
