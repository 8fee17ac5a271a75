"""What the formats share: pictures are decoded, what could not be read is counted up at the end."""

import hashlib
import importlib
import struct
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from types import ModuleType

from PIL import Image, ImageOps

from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter
from sakiyomi.errors import SakiyomiError
from sakiyomi.files import write_atomic

TOLD = 3  # so many of the errors are quoted, the others counted


def given(path: str, what: str) -> Path:
    """The path the user named. Raises SakiyomiError when none was, or it does not exist; `what` says what to give."""
    if not path:
        raise SakiyomiError(f"no path given: name {what}")
    if not Path(path).exists():
        raise SakiyomiError(f"{path} does not exist; name {what}")
    return Path(path)


def library(name: str, extra: str) -> ModuleType:
    """A library that only some formats need. Raises SakiyomiError, with what to install, where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SakiyomiError(f"this needs the package {name!r}: pip install 'sakiyomi[{extra}]' ({error})") from error


@contextmanager
def foreign(where: str | Path, what: str) -> Iterator[None]:
    """Around a library that reads a foreign file: of damaged ones they raise nearly anything, and here it becomes
    SakiyomiError: "`where` cannot be read as `what`: ..."."""
    try:
        yield
    except SakiyomiError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise SakiyomiError(f"{where} cannot be read as {what}: {said}; is it whole? Fetch or make it anew") from error


def check_overlap(path: Path, archive: zipfile.ZipFile) -> None:
    """Raises SakiyomiError for a zip whose members claim more bytes than it has: they lie over one another, so that a
    small file becomes a large one when it is read."""
    claimed, there = sum(member.compress_size for member in archive.infolist()), path.stat().st_size
    if claimed > there:
        raise SakiyomiError(f"{path} has {there} bytes, its members claim {claimed}; it is no honest archive, refused")


def digest(files: Sequence[Path]) -> str:
    """What tells these files from others: the sha256 of their own ones, in this order; of a folder, what is in it."""
    whole = [file for path in files for file in (sorted(path.iterdir()) if path.is_dir() else [path]) if file.is_file()]
    return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in whole)).hexdigest()


def picture(where: str, content: bytes) -> Image.Image:
    """A PNG or JPEG as RGB. Raises SakiyomiError, beginning with `where`, when it cannot be decoded."""
    try:
        Image.open(BytesIO(content), formats=("PNG", "JPEG")).verify()  # PNG: its checksums, which `load` does not ask
        image = Image.open(BytesIO(content), formats=("PNG", "JPEG"))
        image.load()
        image = ImageOps.exif_transpose(image)  # telephones write pictures that lie, and say how to turn them
    # What Pillow raises for bytes that are no picture, depending on where they are wrong.
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        told = "no PNG or JPEG" if isinstance(error, Image.UnidentifiedImageError) else str(error)
        raise SakiyomiError(f"{where} cannot be decoded: {told}; fetch it anew") from error
    if image.mode.startswith(("I", "F")):  # conversion would clip them to white
        raise SakiyomiError(f"{where} has more than 8 bits a channel (mode {image.mode}); convert it to 8 bits")
    return image.convert("RGB")


def finish(writer: EpisodeWriter, problems: Sequence[SakiyomiError]) -> EpisodeStore:
    """Finish the store, whatever was damaged, so that what was read is usable.

    Raises SakiyomiError when there were problems: how many, the first of them, and what is in the store. All of them
    are in its damaged.txt, one a line.
    """
    listed = writer.folder / "damaged.txt"
    listed.unlink(missing_ok=True)
    if problems:
        write_atomic(listed, "".join(f"{problem}\n" for problem in problems).encode())
    told = "; ".join(str(problem) for problem in problems[:TOLD])
    told += f"; and {len(problems) - TOLD} more, all in {listed}" if len(problems) > TOLD else ""
    if problems and not writer.ids:
        raise SakiyomiError(f"nothing could be imported; {len(problems)} damaged: {told}")
    try:
        store = writer.finish()
    except SakiyomiError as error:
        left_out = f" ({len(problems)} damaged and left out: {told})" if problems else ""
        raise SakiyomiError(f"{error}{left_out}") from error
    if problems:
        raise SakiyomiError(
            f"{len(problems)} damaged and left out: {told}. The other {len(store.entries)} episodes are in "
            f"{writer.folder} and usable; after the repair, the same command adds what is missing"
        )
    return store
