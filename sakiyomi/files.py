"""Writing a file so that a crash leaves the old one or the new one, never half of either."""

import os
from pathlib import Path

from sakiyomi.errors import SakiyomiError


def write_atomic(path: Path, content: bytes) -> None:
    """Write to a temporary neighbour, flush to the disk, rename. Raises SakiyomiError when the disk refuses."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def append_line(path: Path, line: bytes) -> None:
    """Append one line and flush it to the disk; a failed append leaves the file as it was."""
    try:
        with path.open("ab") as file:
            before = file.tell()
            try:
                file.write(line + b"\n")
                file.flush()
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
