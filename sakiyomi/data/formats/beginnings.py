"""The first bytes of a recording, by which its format is known: `beginning(Path("walks.zip"), (".bvh",))`."""

import itertools
import struct
import zipfile
import zlib
from pathlib import Path

ENOUGH = 4096  # bytes
LOOKED_AT = 1000  # files and folders of a folder, with all its folders
# What a damaged zip raises, depending on where; the last ones are for encrypted and unknown members.
DAMAGED = (OSError, zipfile.BadZipFile, ValueError, EOFError, zlib.error, struct.error, RuntimeError)


def beginning(path: Path, suffixes: tuple[str, ...], size: int = ENOUGH) -> bytes:
    """Of the file, of the first one found in a folder with its folders, or of the first one in a .zip, whose name
    ends so. Nothing where there is none or it cannot be read, or in a folder many others come first; never raises."""
    try:
        if path.suffix.lower() == ".zip" and path.is_file():
            with zipfile.ZipFile(path) as archive:
                name = next((name for name in archive.namelist() if _fits(name, suffixes)), "")
                if not name:
                    return b""
                with archive.open(name) as member:
                    return member.read(size)
        found = path if path.is_file() else first_file(path, suffixes)
        if found is None or not found.is_file() or not _fits(found.name, suffixes):
            return b""
        with found.open("rb") as file:
            return file.read(size)
    except DAMAGED:
        return b""


def first_file(folder: Path, suffixes: tuple[str, ...]) -> Path | None:
    """A file whose name ends so, among the first thousand of what is in a folder with its folders."""
    below = itertools.islice(folder.rglob("*"), LOOKED_AT)
    return next((one for one in below if _fits(one.name, suffixes)), None)


def zip_names(path: Path) -> tuple[str, ...]:
    """What is in a .zip or .npz; nothing where it is none; never raises."""
    try:
        with zipfile.ZipFile(path) as archive:
            return tuple(archive.namelist())
    except DAMAGED:
        return ()


def _fits(name: str, suffixes: tuple[str, ...]) -> bool:
    last = name.split("/")[-1]
    return last.lower().endswith(suffixes) and not last.startswith(".")
