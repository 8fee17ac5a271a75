"""Stores that are far away: any address fsspec knows, such as s3://bucket/store or https://host/store.

    place = locate("s3://bucket/store")
    place.read("dataset.json")                  # the content, or None where there is none
    fetch(place, entry, Path("e0.safetensors"))   # whole and checked; goes on where an interrupted call stopped

Buckets and servers need `pip install 'sakiyomi[far]'`. Who one is and where the server is they take from where their
own tools do: for S3 AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE and AWS_ENDPOINT_URL, and whatever else
fsspec reads from FSSPEC_S3_... or ~/.config/fsspec.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sakiyomi.data.cache import alone, sha256_of
from sakiyomi.data.records import Entry
from sakiyomi.errors import SakiyomiError, Unreachable
from sakiyomi.files import cannot_write, flush

CHUNK = 8 * 2**20  # bytes asked for at a time; on the disk before the next are asked for
AT_ONCE = 4  # chunks; one request of a bucket is slower than the line
PATIENCE = 60.0  # s without a byte from a web server
READ_ONLY = ("http", "https")
# What has no folders to be made; asked for one, some make a bucket.
WITHOUT_FOLDERS = ("s3", "s3a", "gs", "gcs", "abfs", "az", "memory")
SWALLOWED = re.compile(r"([a-z][a-z0-9+.-]+):/+(.+)")  # two letters or more: a single one is a drive

Progress = Callable[[int], None]


def is_url(place: str | Path) -> bool:
    """Whether this is an address rather than a path. A Path swallows one slash of s3://bucket/store: still one."""
    return bool(SWALLOWED.match(str(place))) and not Path(place).exists()


def as_url(place: str | Path) -> str:
    """An address as it was given, with the slash that a Path swallows."""
    return SWALLOWED.sub(r"\1://\2", str(place), count=1)


@dataclass(frozen=True)
class Place:
    """The folder of a store, here or far away."""

    name: str
    """As it was given."""
    here: Path | None
    """The folder, if it is on this machine's disks."""
    system: Any = None
    """If not: fsspec's file system, and the path in it."""
    root: str = ""

    def __str__(self) -> str:
        return self.name

    def read(self, file: str) -> bytes | None:
        """A small file's content; None where it is missing. Raises SakiyomiError when it cannot be read."""
        try:
            if self.here:
                return (self.here / file).read_bytes()
            with reaching(f"{self}/{file}"):
                return self.system.cat_file(f"{self.root}/{file}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise SakiyomiError(f"{self}/{file} cannot be read: {error.strerror}; see to its permissions") from error

    def info(self, file: str) -> dict[str, Any] | None:
        """What is known of a far file without reading it, `size` among it; None where it is missing."""
        with contextlib.suppress(FileNotFoundError), reaching(f"{self}/{file}"):
            return self.system.info(f"{self.root}/{file}")
        return None

    def write(self, file: str, content: bytes) -> None:
        """Write a small far file, whole."""
        with self._writing(file) as path:
            self.system.pipe_file(path, content)

    def send(self, local: Path, file: str) -> None:
        """Send a file of this machine there."""
        with self._writing(file) as path:
            self.system.put_file(str(local), path)

    def chunks(self, file: str, start: int, size: int) -> Iterator[bytes]:
        """The bytes of a file of this size from `start` on."""
        if self.here:
            try:
                with (self.here / file).open("rb") as opened:
                    opened.seek(start)
                    while chunk := opened.read(CHUNK):
                        yield chunk
            except PermissionError as error:
                raise SakiyomiError(f"{self}/{file} cannot be read: see to its permissions") from error
            return
        path, end = f"{self.root}/{file}", min(start + CHUNK, size)
        with reaching(f"{self}/{file}"):
            first = self.system.cat_file(path, start=start, end=end)
            if len(first) > end - start:  # a server that cannot send parts sent all
                yield first[start:]
                return
            yield first
            for begin in range(start + CHUNK, size, AT_ONCE * CHUNK):
                begins = range(begin, min(begin + AT_ONCE * CHUNK, size), CHUNK)
                ends = [min(at + CHUNK, size) for at in begins]
                yield from self.system.cat_ranges([path] * len(ends), list(begins), ends, on_error="raise")

    @contextlib.contextmanager
    def _writing(self, file: str) -> Iterator[str]:
        """Around the writing of a far file, whose path is given."""
        path = f"{self.root}/{file}"
        try:
            with reaching(f"{self}/{file}", "written"):
                if not {*protocols(self.system)} & {*WITHOUT_FOLDERS}:
                    self.system.makedirs(path.rpartition("/")[0], exist_ok=True)
                yield path
        except FileNotFoundError as error:
            raise SakiyomiError(f"{self}/{file} cannot be written: there is no such bucket; make it first") from error


def locate(place: str | Path) -> Place:
    """The folder at a path or an address. It need not exist.

    Raises SakiyomiError for an address of a kind that is not known, or that needs a package which is missing.
    """
    if not is_url(place):
        return Place(str(place), Path(place))
    found = SWALLOWED.match(str(place))
    assert found  # is_url
    scheme, rest = found.groups()
    if scheme == "file":
        return Place(str(place), Path("/" + unquote(urlsplit(f"file:///{rest}").path).lstrip("/")))
    name = as_url(place).rstrip("/")
    with reaching(name):
        import fsspec  # with it come asyncio and threads, which only far stores need

        if scheme not in fsspec.available_protocols():
            raise SakiyomiError(
                f"{name}: unknown kind of address {scheme!r}; use s3://, https://, file:// or another one of fsspec's"
            )
        system, root = fsspec.url_to_fs(name, use_listings_cache=False, **_patience(scheme))  # others write there too
    return Place(name, None, system, root.rstrip("/"))


@contextlib.contextmanager
def reaching(name: str, done: str = "read") -> Iterator[None]:
    """Around what talks to far places: their libraries raise nearly anything, and here it becomes Unreachable, with
    what to do, or SakiyomiError for a package that is missing. Only a file that is not there stays FileNotFoundError.
    """
    try:
        yield
    except (SakiyomiError, FileNotFoundError):
        raise
    except ImportError as error:
        raise SakiyomiError(
            f"{name} needs a package that is missing: {_said(error)}; for s3 and http: pip install 'sakiyomi[far]'"
        ) from error
    except Exception as error:  # botocore's, aiohttp's and others' own, which may not be installed
        kind = type(error).__name__
        told = f"{name} cannot be {done}: {kind}: {_said(error)}"
        if isinstance(error, PermissionError) or "Credential" in kind or getattr(error, "status", 0) in (401, 403):
            cure = "say who you are and what you may: for S3 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE"
        elif isinstance(error, TimeoutError) or "Timeout" in kind:
            cure = "the other side does not answer in time; see to the network, and run the same command again"
        else:
            cure = "see to the address (for S3 AWS_ENDPOINT_URL too) and the network, and run the same command again"
        raise Unreachable(f"{told}; {cure}") from error


def fetch(place: Place, entry: Entry, target: Path, progress: Progress = lambda bytes: None) -> None:
    """Bring an episode's file to `target`, whole and checked against its sha256.

    What an interrupted call brought is kept in `target`.part and completed. `progress` takes how many bytes came.
    Raises SakiyomiError when the file is missing or another one, Unreachable when the place is, or the disk is full.
    """
    part = target.with_name(f".{target.name}.part")
    info = None if place.here else place.info(entry.file)
    if info and info["size"] not in (None, entry.bytes):  # a web server may not tell
        raise SakiyomiError(
            f"{place}/{entry.file} is damaged: {entry.bytes} bytes expected, {info['size']} found; restore it there"
        )
    before = _inode(target)
    with alone(target.parent):
        if _inode(target) not in (None, before):
            return  # another process, for which this one waited, brought it
        for last in (False, True):
            try:
                whole = _bring(place, entry, part, progress)
            except FileNotFoundError as error:
                raise SakiyomiError(
                    f"{place}/{entry.file} does not exist, though the manifest names it; restore it or remove its line"
                ) from error
            except OSError as error:
                raise Unreachable(str(cannot_write(part, error))) from error
            if whole:
                part.replace(target)
                flush(target.parent)
                return
            part.unlink()
            if last:
                raise SakiyomiError(
                    f"{place}/{entry.file} is damaged: its sha256 is not the manifest's; restore it there"
                )


def _inode(path: Path) -> int | None:
    return path.stat().st_ino if path.exists() else None


def _bring(place: Place, entry: Entry, part: Path, progress: Progress) -> bool:
    """Complete `part`; whether it is what the manifest says then."""
    there = part.stat().st_size if part.exists() else 0
    if there > entry.bytes:  # of another episode of this name
        part.unlink()
        there = 0
    with part.open("ab") as file:
        progress(there)
        for chunk in place.chunks(entry.file, there, entry.bytes) if there < entry.bytes else ():
            file.write(chunk)
            file.flush()
            progress(len(chunk))
        os.fsync(file.fileno())
    return part.stat().st_size == entry.bytes and sha256_of(part) == entry.sha256


def _patience(scheme: str) -> dict[str, Any]:
    """How long to wait for a web server; without, five minutes."""
    if scheme not in READ_ONLY:
        return {}
    import aiohttp

    return {"client_kwargs": {"timeout": aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=PATIENCE)}}


def protocols(system: Any) -> tuple[str, ...]:
    return (system.protocol,) if isinstance(system.protocol, str) else tuple(system.protocol)


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or "no more is said"
