"""What the formats share: pictures are decoded, what could not be read is counted up at the end."""

import hashlib
import struct
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image

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
        raise SakiyomiError(f"{error} ({len(problems)} damaged and left out: {told or 'none'})") from error
    if problems:
        raise SakiyomiError(
            f"{len(problems)} damaged and left out: {told}. The other {len(store.entries)} episodes are in "
            f"{writer.folder} and usable; after the repair, the same command adds what is missing"
        )
    return store
