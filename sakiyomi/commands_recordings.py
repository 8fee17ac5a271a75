"""The command line of what is done with recordings besides making them: looked after, carried about, brought along.

sakiyomi prepare check data/mine
sakiyomi prepare record pick --drive expert --out data/mine
sakiyomi prepare copy data/mine s3://bucket/mine
sakiyomi prepare export lerobot data/mine --out there
sakiyomi prepare eipl-model SARNN.pth --out runs/theirs
"""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from sakiyomi.arguments import narrow, parse
from sakiyomi.check import Check, Unreadable, check, unless_healthy
from sakiyomi.copying import Copy, copy
from sakiyomi.data.formats.eipl_model import EiplModel, import_eipl_model
from sakiyomi.errors import SakiyomiError
from sakiyomi.prepare import EXPORTS, export
from sakiyomi.record import Record, record
from sakiyomi.run import console, progress_bar


@dataclass(frozen=True)
class Export:
    """Write recordings in a foreign format."""

    format: tyro.conf.Positional[str] = ""
    """lerobot (v3.0), eipl, folder (pictures or films, and csv), wav, rerun (.rrd), bvh, or mocap-npz (one file, as the
    published motion VAE reads it)."""
    store: tyro.conf.Positional[str] = ""
    """Folder of the episode store, or its address."""
    out: str = ""
    """Where to: something that is not there yet."""
    pictures: str = ""
    """How pictures are written. lerobot: h264, av1, or png, which loses nothing; folder: png, mp4, or mkv, of which
    only mp4 loses something. The first if not given."""


@dataclass(frozen=True)
class ImportEiplModel(EiplModel):
    """Turn a network that EIPL trained into a run folder, which rollout, explain and evaluate take."""

    out: str = ""
    """Run folder; runs/NAME, after the file, if not given."""


def do_export(rest: list[str]) -> None:
    args = parse(Export(), "prepare export", rest)
    if not args.format or not args.store or not args.out:
        raise SakiyomiError(
            f"export takes a format ({', '.join(EXPORTS)}), a store and a place: "
            "sakiyomi prepare export lerobot data/mine --out there"
        )
    export(args.format, args.store, Path(args.out), args.pictures)


def do_check(rest: list[str]) -> None:
    """Status 1 is kept for what is wrong with the recordings; whatever stops the check itself ends with 2."""
    try:
        args = parse(Check(), "prepare check", rest)
        checked = check(args)
    except SakiyomiError as error:
        raise Unreadable(str(error)) from error
    unless_healthy(checked, args)


def do_record(rest: list[str]) -> None:
    """What follows `--` is a program and its arguments."""
    cut = rest.index("--") if "--" in rest else len(rest)
    args = parse(Record(), "prepare record", rest[:cut])
    record(replace(args, command=shlex.join(rest[cut + 1 :])) if cut < len(rest) else args)


def do_copy(rest: list[str]) -> None:
    args = parse(Copy(), "prepare copy", rest)
    with progress_bar("copying", 1) as bar:
        copied = copy(args.source, args.target, lambda done, total: bar.of(done, total, "copying"))
    told = f"{copied.episodes} episodes, {copied.bytes:,} bytes; {len(copied.sent)} were sent now"
    console.print(f"{args.target}: {told}", markup=False)


def do_eipl_model(rest: list[str]) -> None:
    args = parse(ImportEiplModel(), "prepare eipl-model", rest)
    if not args.path:
        raise SakiyomiError("no checkpoint given: sakiyomi prepare eipl-model SARNN.pth --out runs/theirs")
    out = Path(args.out or f"runs/{Path(args.path).stem}")
    import_eipl_model(Path(args.path), out, narrow(args, EiplModel))


# What `sakiyomi prepare` does besides making recordings, by the word that stands in the place of their name.
DEEDS: dict[str, Callable[[list[str]], None]] = {
    "check": do_check,
    "record": do_record,
    "copy": do_copy,
    "export": do_export,
    "eipl-model": do_eipl_model,
}
