"""Writing a file so that a crash leaves the old one or the new one, never half of either."""

import contextlib
import errno
import os
from pathlib import Path

from sakiyomi.errors import SakiyomiError


def write_atomic(path: Path, content: bytes) -> None:
    """Write to a temporary neighbour, flush to the disk, rename. Raises SakiyomiError when the disk refuses."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _flush_folder(folder: Path) -> None:
    """Put a rename on the disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
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
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> SakiyomiError:
    return SakiyomiError(
        f"could not write {path}: {error.strerror}; what was written before is kept. "
        "Free some space (or name another --out) and run the same command again"
    )
