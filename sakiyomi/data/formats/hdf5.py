"""HDF5 files, read by a process of their own: the library for them may crash, hang or ask for all memory there is.

    with Hdf5() as process:
        file = process.open(Path("episode_0.hdf5"))
        file.nodes["action"].shape, file.read("action")

HDF5 is a file system in a file, and its one library is written in C; of a damaged file it may take the whole program
down. Here it takes down hdf5_worker.py, and that becomes an error like any other. Nothing is read from outside the
file: external links, external storage and virtual datasets are refused, and so is a filter that would have to be
loaded. Only numbers and texts are read, and none of it is ever run. Needs the extra `sakiyomi[formats]`.
"""

import importlib.util
import json
import math
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from sakiyomi.data.formats.gathering import decoded, frames_of
from sakiyomi.data.formats.importing import library
from sakiyomi.errors import SakiyomiError, unknown

MAGIC = b"\x89HDF\r\n\x1a\n"
WORKER = Path(__file__).with_name("hdf5_worker.py")
PATIENCE = 60.0  # seconds for one answer; of a damaged file the library may look for something for ever
PIECE = 64 * 2**20  # bytes asked for at once
SUFFIXES = (".hdf5", ".h5")
SMALL = 2**20  # bytes of a file that are looked through for names
LARGEST = 32 * 2**30  # bytes of one dataset


@dataclass(frozen=True)
class Node:
    """One dataset."""

    dtype: str
    """As numpy calls it, or "bytes"."""
    shape: tuple[int, ...]
    refused: str
    """Why it is not read, or nothing."""

    @property
    def is_pictures(self) -> bool:
        """Whether it is uint8 [T, H, W, 3] or [T, 3, H, W]."""
        return self.dtype == "|u1" and len(self.shape) == 4 and 3 in (self.shape[3], self.shape[1])

    @property
    def is_channels(self) -> bool:
        """Whether it is numbers [T] or [T, C]."""
        return self.dtype != "bytes" and not self.refused and len(self.shape) in (1, 2) and min(self.shape) > 0


class Hdf5:
    """The process that reads, one file after the other. A `with` block ends it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._open: OpenFile | None = None

    def __enter__(self) -> "Hdf5":
        if importlib.util.find_spec("h5py") is None:
            library("h5py", "formats")  # says what to install; importing it takes the process less time than us
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def open(self, path: Path) -> "OpenFile":
        """What is in a file; the one before is closed, unless it is the same. Raises SakiyomiError when it cannot be
        read as HDF5."""
        try:
            state = path.stat().st_mtime_ns, path.stat().st_size
        except OSError as error:
            raise SakiyomiError(f"cannot read {path}: {error.strerror}") from error
        there = self._open if self._process and self._process.poll() is None else None
        if there and (there.path, there.state) == (path, state):
            return there
        self._open = None
        if not is_hdf5(path):
            raise SakiyomiError(f"{path} is no HDF5 file, or has no beginning; fetch or make it anew")
        answer, _ = self.ask(path, {"open": str(path.resolve())})
        nodes = {
            name: Node(str(node["dtype"]), tuple(node["shape"]), str(node["refused"]))
            for name, node in answer["nodes"].items()
        }
        self._open = OpenFile(self, path, state, nodes, answer["attributes"])
        return self._open

    def read(self, file: "OpenFile", name: str, start: int, stop: int) -> tuple[dict[str, Any], bytes]:
        """Rows of a dataset, as hdf5_worker.py answers; the file is opened again where another one was since.

        Raises SakiyomiError when it is not what it was.
        """
        if self.open(file.path).state != file.state:
            raise SakiyomiError(f"{file.path} was written anew while it was read; start again")
        return self.ask(file.path, {"read": name, "start": start, "stop": stop})

    def ask(self, path: Path, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """One request to hdf5_worker.py about this file. Raises SakiyomiError for what it says, and when it dies."""
        process, late = self._running(), threading.Event()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(request).encode("ascii") + b"\n")
            process.stdin.flush()
            while (line := _line(process, late)) == b"\n":
                continue  # it is at work on a long answer
            answer = json.loads(line)
            content = process.stdout.read(answer["bytes"])
            if len(content) != answer["bytes"]:
                raise ValueError
        except (OSError, ValueError, KeyError) as error:
            status = self._end()
            how = f"gave no answer for {PATIENCE:.0f} s" if late.is_set() else f"ended (status {status})"
            raise SakiyomiError(
                f"{path} is damaged in a way that the HDF5 library does not survive: it {how}; make the file anew"
            ) from error
        if "error" in answer:
            raise SakiyomiError(f"{path} cannot be read as HDF5: {answer['error']}; is it whole? Make it anew")
        return answer, content

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-P", str(WORKER)]
            pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere)
        return self._process

    def _end(self) -> int:
        """The process's exit status."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                try:
                    pipe.close()
                except OSError:  # what was still to be written to a process that is gone
                    continue
        return process.wait()


def _line(process: subprocess.Popen[bytes], late: threading.Event) -> bytes:
    """The next line it writes. If none comes, it is ended, nothing is returned and `late` is set."""

    def give_up() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(PATIENCE, give_up)
    timer.start()
    try:
        return process.stdout.readline() if process.stdout else b""
    finally:
        timer.cancel()


@dataclass(frozen=True)
class OpenFile:
    """What is in a file, and how it is read."""

    process: Hdf5
    path: Path
    state: tuple[int, int]
    """When it was written, and its bytes: of another, what is below does not hold."""
    nodes: dict[str, Node]
    """Datasets by their path inside, such as data/demo_0/actions."""
    attributes: dict[str, dict[str, Any]]
    """Of each group by its path, of the file itself under "": texts and few numbers."""

    def node(self, name: str) -> Node:
        """Raises SakiyomiError when it is not there, or refused."""
        if name not in self.nodes:
            raise SakiyomiError(f"{self.path}: {unknown('dataset', name, list(self.nodes)[:50])}")
        node = self.nodes[name]
        if node.refused:
            raise SakiyomiError(f"{self.path}: {name!r} is refused: {node.refused}")
        return node

    def below(self, group: str) -> dict[str, Node]:
        """The datasets right in a group, by their own names, in order. Raises SakiyomiError when one is refused."""
        names = [name for name in self.nodes if name.rpartition("/")[0] == group]
        return {name.rpartition("/")[2]: self.node(name) for name in sorted(names)}

    def groups(self, group: str) -> list[str]:
        """The names of the groups right in a group."""
        return [name.rpartition("/")[2] for name in self.attributes if name and name.rpartition("/")[0] == group]

    def read(self, name: str) -> np.ndarray:
        """All values of a dataset of numbers."""
        pieces = list(self.pieces(name))
        return np.concatenate(pieces) if len(pieces) > 1 else pieces[0]

    def pieces(self, name: str) -> Iterator[np.ndarray]:
        """The values, some rows at a time."""
        node = self.node(name)
        if node.dtype == "bytes":
            raise SakiyomiError(f"{self.path}: {name!r} holds texts, no numbers")
        one = math.prod(node.shape[1:]) * np.dtype(node.dtype).itemsize
        if (total := node.shape[0] * one if node.shape else one) > LARGEST:
            raise SakiyomiError(f"{self.path}: {name!r} has {total} bytes; at most {LARGEST} are read")
        rows = max(1, PIECE // max(1, one))
        length = node.shape[0] if node.shape else 1
        for start in range(0, max(1, length), rows):
            answer, content = self.process.read(self, name, start, min(start + rows, length))
            shape = (min(rows, length - start), *node.shape[1:])
            if answer.get("dtype") != node.dtype or tuple(answer.get("shape", ())) != shape:
                raise SakiyomiError(f"{self.path}: {name!r} is not what its file said; make it anew")
            yield np.frombuffer(content, node.dtype).reshape(shape)

    def texts(self, name: str) -> list[bytes]:
        """The texts of a dataset of them: a word, or a picture as JPEG or PNG."""
        node = self.node(name)
        if node.dtype != "bytes":
            raise SakiyomiError(f"{self.path}: {name!r} holds numbers {list(node.shape)}, no texts")
        length = node.shape[0] if node.shape else 1
        answer, content = self.process.read(self, name, 0, length)
        ends = np.cumsum([0, *answer["lengths"]])
        return [content[start:end] for start, end in pairwise(ends.tolist())]


def is_hdf5(path: Path) -> bool:
    """Whether a file begins as HDF5 does; its beginning may also stand behind a block of 512, 1024 ... bytes."""
    try:
        with path.open("rb") as file:
            for offset in (0, 512, 1024, 2048):
                file.seek(offset)
                if file.read(len(MAGIC)) == MAGIC:
                    return True
    except OSError:
        return False
    return False


def hdf5_files(path: Path) -> list[Path]:
    """The file itself, or the folder's files in order of the numbers in their names.

    Raises SakiyomiError when there are none.
    """
    if path.is_file():
        return [path]
    files = [file for file in path.iterdir() if file.suffix in SUFFIXES and file.is_file() and file.name[0] != "."]
    if not files:
        raise SakiyomiError(f"{path} holds no {' or '.join(SUFFIXES)} file; name the file or its folder")
    return sorted(files, key=lambda file: ([int(n) for n in re.findall(r"\d{1,18}", file.stem)], file.name))


def holds(path: Path, words: tuple[bytes, ...]) -> bool:
    """Whether a file, or the first one of a folder, is HDF5 and has all these words among the names in it. Nothing is
    raised. A small file is only looked through."""
    try:
        file = hdf5_files(path)[0]
        if not is_hdf5(file):
            return False
        about = file.stat()
        names = file.read_bytes() if about.st_size <= SMALL else first_names(file, about.st_mtime_ns, about.st_size)
    except (OSError, SakiyomiError):
        return False
    return all(word in names for word in words)


@lru_cache(maxsize=4)  # several formats ask for the same ones
def first_names(path: Path, written: int, size: int) -> bytes:
    """The first names in a file, one a line. Raises SakiyomiError when it cannot be read as HDF5."""
    with Hdf5() as process:
        answer, _ = process.ask(path, {"names": str(path.resolve())})
    return "\n".join(answer["names"]).encode("utf-8", "replace")


def read_pictures(file: OpenFile, name: str, pixels: tuple[int, int], blue_first: bool) -> np.ndarray:
    """Pictures uint8 [T, H, W, 3] of a dataset of them, or of JPEG or PNG, each a row of bytes with zeros behind."""
    node = file.node(name)
    where = f"{file.path}: {name!r}"
    if node.is_pictures and node.shape[0]:
        return frames_of(file.pieces(name), pixels, blue_first)
    if node.dtype == "bytes":
        return decoded(where, file.texts(name), pixels, blue_first)
    if is_compressed(node):
        rows = (row.tobytes() for piece in file.pieces(name) for row in piece)
        return decoded(where, rows, pixels, blue_first)
    raise SakiyomiError(
        f"{where} is {node.dtype} {list(node.shape)}; pictures are uint8 [T, H, W, 3], or JPEG or PNG in uint8 [T, N]"
    )


def is_compressed(node: Node) -> bool:
    """Whether it may be pictures as JPEG or PNG, a row each."""
    return node.dtype == "bytes" or (node.dtype == "|u1" and len(node.shape) == 2)


def told_rate(value: Any) -> float:
    """A rate that an attribute tells, Hz; 0 for what is none."""
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e6
    return float(value) if usable else 0.0
