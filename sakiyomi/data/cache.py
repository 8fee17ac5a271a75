"""The cache folder: what was found whole before, and episodes fetched from far away.

    $SAKIYOMI_CACHE/verified/*.jsonl      files whose sha256 was computed: size, time of change, inode, sha256
    $SAKIYOMI_CACHE/episodes/<sha256>...  episodes of far stores, those used least recently removed first

The folder is ~/.cache/sakiyomi where SAKIYOMI_CACHE is not set. It may be removed at any time. SAKIYOMI_CACHE_GB bounds
the episodes, 20 GB if not set.
"""

import contextlib
import hashlib
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

from sakiyomi.errors import SakiyomiError, Unreachable
from sakiyomi.files import cannot_write, write_atomic

GIGABYTE = 10**9
LARGEST = 20.0  # GB of episodes, where SAKIYOMI_CACHE_GB does not say
REMEMBERED = 64 * 10**6  # bytes of a store: a smaller one is hashed in a blink, and each time
SETTLED = 2 * 10**9  # ns: a file changed less long ago may change once more without its time of change showing it
CROWDED = 1000  # lines about files that are there no more, before they are removed


def cache_folder() -> Path:
    return Path(os.environ.get("SAKIYOMI_CACHE") or Path.home() / ".cache" / "sakiyomi")


def largest_cache() -> int:
    """How many bytes of episodes are kept. Raises SakiyomiError when SAKIYOMI_CACHE_GB is no such number."""
    asked = os.environ.get("SAKIYOMI_CACHE_GB") or LARGEST
    try:
        gigabytes = float(asked)
    except ValueError:
        gigabytes = math.nan
    if not 0 <= gigabytes < math.inf:
        raise SakiyomiError(f"SAKIYOMI_CACHE_GB is {asked!r}; set it to a number of gigabytes, such as 50")
    return int(gigabytes * GIGABYTE)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Verified:
    """The checksums of one folder's files, each computed once and remembered for as long as the file stays as it is.

    A file counts as the same while its size, time of change and inode are; one that was changed within the last two
    seconds is not remembered yet. Rot of the disk itself is not noticed so: `sha256_of` reads the file again.
    """

    def __init__(self, folder: Path, remember: bool = True) -> None:
        name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:32]
        self.path = cache_folder() / "verified" / f"{name}.jsonl" if remember else None
        self._known = self._read()

    def sha256(self, path: Path) -> str:
        """The file's checksum, remembered or computed. Raises OSError when it cannot be read."""
        before = path.stat()
        marks = [path.name, before.st_size, before.st_mtime_ns, before.st_ino]
        known = self._known.get(path.name)
        if known and known[:-1] == marks:
            return known[-1]
        digest = sha256_of(path)
        if time.time_ns() - before.st_mtime_ns > SETTLED:
            self._known[path.name] = [*marks, digest]
            self._append([*marks, digest])
        return digest

    def _read(self) -> dict[str, list]:
        """What is remembered, by the file's name; what cannot be read was not remembered."""
        known: dict[str, list] = {}
        try:
            lines = self.path.read_bytes().splitlines() if self.path else []
        except OSError:
            return known
        for line in lines:
            with contextlib.suppress(ValueError, TypeError, RecursionError):
                name, size, changed, inode, digest = json.loads(line)
                known[str(name)] = [name, size, changed, inode, str(digest)]
        if self.path and len(lines) > CROWDED + 2 * len(known):
            with contextlib.suppress(SakiyomiError):
                write_atomic(self.path, b"".join(json.dumps(one).encode() + b"\n" for one in known.values()))
        return known

    def _append(self, line: list) -> None:
        """One write, so that processes do not mix their lines; where there is no room, nothing is remembered."""
        if self.path:
            with contextlib.suppress(OSError):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("ab", buffering=0) as file:
                    file.write(json.dumps(line).encode() + b"\n")


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Only one process at a time works in the folder, which is made where it is missing; the others wait.

    Raises SakiyomiError when nothing can be written there.
    """
    import fcntl  # of POSIX; only who fetches from far away needs it

    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("ab")
    except OSError as error:
        raise cannot_write(folder, error) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def used(path: Path) -> None:
    """Note that an episode of the cache is used now: those that were not for longest are removed first."""
    with contextlib.suppress(OSError):
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))


def make_room(folder: Path, needed: int, keep: Path) -> None:
    """Remove the files of `folder` but `keep` that were not used for longest, until `needed` bytes more are within the
    bound. The folder is made where it is missing. Raises Unreachable when it cannot be."""
    files = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process may remove it meanwhile
                if path != keep and not path.name.startswith(".") and path.is_file():
                    files.append((path.stat(), path))
    except OSError as error:
        raise Unreachable(
            f"{folder} cannot be used for what is fetched from far away: {error.strerror}; name another folder with "
            "SAKIYOMI_CACHE"
        ) from error
    excess = sum(stat.st_size for stat, _ in files) + needed - largest_cache()
    for stat, path in sorted(files, key=lambda file: file[0].st_atime_ns):
        if excess <= 0:
            return
        with contextlib.suppress(OSError):
            path.unlink()
            excess -= stat.st_size
