"""Writing a file so that a crash leaves the old one or the new one, never half of either."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from sakiyomi.errors import SakiyomiError


def write_atomic(path: Path, content: bytes) -> None:
    """Write to a temporary neighbour, flush to the disk, rename. Raises SakiyomiError when the disk refuses."""
    write_parts(path, (content,))


def write_parts(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """`write_atomic` of what need not be in memory all at once."""
    with whole_file(path) as temporary, temporary.open("wb") as file:
        for part in parts:
            file.write(part)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """For what others write: the temporary neighbour this gives is flushed and renamed to `path` when all went well,
    and removed when not. Raises SakiyomiError when the disk refuses."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        make_folder(path.parent)
        yield temporary
        flush(temporary)
        temporary.replace(path)
        flush(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def whole_path(out: Path) -> Iterator[Path]:
    """For what takes long to write, a folder or a file: the neighbour `.unfinished-NAME` this gives is renamed to
    `out`, where nothing is yet, when all went well, and removed when not; so is what a killed call left there."""
    unfinished = out.with_name(f".unfinished-{out.name}")
    remove(unfinished)
    try:
        yield unfinished
        unfinished.rename(out)
    except OSError as error:
        raise cannot_write(out, error) from error
    finally:
        remove(unfinished)


def remove(path: Path) -> None:
    """Remove a file, or a folder and all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; that they are there is put on the disk too."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        flush(made.parent)


def flush(path: Path) -> None:
    """Put a file on the disk; of a folder, the renames in it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_line(path: Path, line: bytes) -> None:
    """Append one line and flush it to the disk; a failed append leaves the file as it was."""
    try:
        # Unbuffered: a buffer would be written once more on closing, after the file was cut back.
        with path.open("ab", buffering=0) as file:
            before = file.tell()
            try:
                if file.write(line + b"\n") <= len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
            except OSError:
                os.truncate(path, before)
                raise
        if before == 0:
            flush(path.parent)  # the file is new: its name must be on the disk as well
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> SakiyomiError:
    return SakiyomiError(
        f"could not write {path}: {error.strerror}; what was written before is kept. "
        "Free some space (or name another --out) and run the same command again"
    )
