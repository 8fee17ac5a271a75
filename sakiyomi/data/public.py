"""Public sets by name, of motion and of pictures: fetched from where they are kept, each file checked by its sha256.

    fetch("bandai-namco-2")                  # into data/public/bandai-namco-2; prints the licence
    sakiyomi prepare mocap bandai-namco-2    # the name, instead of a path, once it is there
    sakiyomi prepare mnist                   # after `sakiyomi fetch mnist`

Nothing is fetched unless `fetch` is called. `public.json` beside this file lists the files of each set, with their
sizes and checksums at one commit of the owner's repository. An interrupted call goes on where it stopped.
"""

import functools
import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import msgspec

from sakiyomi.data.formats.importing import given
from sakiyomi.errors import SakiyomiError, unknown
from sakiyomi.files import write_atomic
from sakiyomi.run import console

FOLDER = Path("data/public")
TRIES = 3
PAUSE = 0.5  # s before the second try, twice as long before the third
TIMEOUT = 30.0  # s


@dataclass(frozen=True)
class PublicSet:
    """What a set holds and where it is."""

    title: str
    licence: str
    base: str
    """What each file's address begins with."""
    files: tuple[tuple[str, int, str], ...]
    """Name, bytes and sha256 of each."""


@functools.cache
def public_sets() -> dict[str, PublicSet]:
    """All sets there are, by name."""
    content = (files("sakiyomi.data") / "public.json").read_bytes()
    return msgspec.json.decode(content, type=dict[str, PublicSet])


def fetch(
    name: str,
    folder: Path = FOLDER,
    base: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Fetch a set into folder/NAME, and say under what licence; what is there already, and whole, is kept.

    `base` is another address that has the same files. Raises SakiyomiError for a name that is no set, and as
    `fetch_set` does.
    """
    if name not in public_sets():
        raise unknown("public set", name, public_sets())
    chosen = public_sets()[name]
    console.print(f"{name}: {chosen.title}\nlicence: {chosen.licence}", soft_wrap=True)
    return fetch_set(chosen, folder / name, base, progress)


def fetch_set(
    chosen: PublicSet, out: Path, base: str = "", progress: Callable[[int, int], None] = lambda done, total: None
) -> Path:
    """Fetch the files of a set into `out`, and write from where, and under what licence, into its SOURCE.md.

    Raises SakiyomiError for a file that cannot be fetched, and for one that is not what it should be, of which nothing
    is kept.
    """
    base = base or chosen.base
    if not base.startswith(("http://", "https://")):
        raise SakiyomiError(f"{base} is no address of the web; it must begin with http:// or https://")
    for done, (file, size, sha256) in enumerate(chosen.files, 1):
        path = out / file
        if not (_size(path) == size and _digest(path.read_bytes()) == sha256):
            write_atomic(path, _checked(f"{base.rstrip('/')}/{file}", size, sha256))
        progress(done, len(chosen.files))
    write_atomic(out / "SOURCE.md", f"{chosen.title}\n\nFrom {base}\n\nLicence: {chosen.licence}\n".encode())
    return out


def located(path: str, what: str, folder: Path = FOLDER) -> Path:
    """The path the user named, or where the public set of that name was fetched to; `what` says what to give.

    Raises SakiyomiError when it does not exist, or the set is not fetched, or only a part of it.
    """
    chosen = public_sets().get(path)
    if chosen is None or Path(path).exists():
        try:
            return given(path, what)
        except SakiyomiError as error:
            raise SakiyomiError(f"{error}; or a public set, once fetched: {', '.join(public_sets())}") from error
    there = [file for file, size, _ in chosen.files if _size(folder / path / file) == size]
    if len(there) < len(chosen.files):
        raise SakiyomiError(
            f"{path} is a public set of which {len(there)} of {len(chosen.files)} files are in {folder / path}; fetch "
            f"it: sakiyomi fetch {path} (licence: {chosen.licence})"
        )
    return folder / path


def _checked(url: str, size: int, sha256: str) -> bytes:
    """What is at an address, if it is what it should be."""
    content = _download(url, size)
    if len(content) != size or _digest(content) != sha256:
        came = "more bytes" if len(content) > size else f"sha256 {_digest(content)[:12]}..."
        raise SakiyomiError(
            f"{url} is not the file it should be: {came} came, expected {size} bytes with sha256 {sha256[:12]}...; "
            "nothing of it is kept. Was it changed, or is something between you and it?"
        )
    return content


def _download(url: str, size: int) -> bytes:
    """At least `size` bytes, at most one more. What may pass by itself is tried again."""
    attempt = 0
    while True:
        attempt += 1
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
                content = response.read(size + 1)
            if len(content) >= size:
                return content
            reason, passing = f"only {len(content)} of {size} bytes came", True
        except urllib.error.HTTPError as error:
            reason, passing = f"{error.code} {error.reason}", error.code >= 500
        except (OSError, http.client.HTTPException) as error:
            reason, passing = str(getattr(error, "reason", error)) or type(error).__name__, True
        if not passing or attempt == TRIES:
            raise SakiyomiError(
                f"{url} cannot be fetched: {reason}; what is fetched already is kept, the same command goes on there"
            )
        time.sleep(PAUSE * 2 ** (attempt - 1))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1
