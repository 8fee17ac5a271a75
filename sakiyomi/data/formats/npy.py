"""NumPy's files, .npy and .npz, from strangers: what a header promises is held against the file before memory is asked
for, nothing is unpickled, and no member of an archive is written anywhere.

    array = open_npy(Path("train/images.npy"))        # memory-mapped
    arrays = read_npz(Path("rollout_001.npz"))        # name -> array
"""

import io
import math
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from sakiyomi.data.formats.importing import check_overlap, foreign
from sakiyomi.errors import SakiyomiError

NUMBERS = "biuf"  # kinds of dtype: yes or no, whole numbers, floats
MOST_HEADER = 10_000  # bytes
RATIO, FREE = 200, 2**26  # what unpacks to more than RATIO times itself, and to more than FREE bytes, is a bomb


@dataclass(frozen=True)
class Header:
    """What an .npy file says it holds."""

    shape: tuple[int, ...]
    dtype: np.dtype
    column_major: bool
    start: int
    """Byte at which the numbers begin."""

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def open_npy(path: Path) -> np.ndarray:
    """The array of an .npy file, read-only and memory-mapped.

    Raises SakiyomiError for a file that is cut off, is none, is empty, or holds pickled objects.
    """
    with foreign(path, "npy"), path.open("rb") as file:
        header = read_header(file, str(path))
        _check_length(str(path), header, path.stat().st_size - header.start)
        order = "F" if header.column_major else "C"
        return np.memmap(path, header.dtype, "r", header.start, header.shape, order)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz file by their names.

    Raises SakiyomiError for an archive that is damaged, that would unpack to far more than itself, or whose members are
    no arrays of numbers, or are named by more than letters, digits and `_`.
    """
    arrays: dict[str, np.ndarray] = {}
    with foreign(path, "npz"), zipfile.ZipFile(path) as archive:
        check_overlap(path, archive)
        members = archive.infolist()
        _check_shrunk(str(path), sum(one.compress_size for one in members), sum(one.file_size for one in members))
        for member in members:
            name = member_name(path, member.filename)
            if name in arrays:
                raise SakiyomiError(f"{path} holds {name!r} twice; write it anew")
            arrays[name] = _member(archive, member, f"{path}, {name}")
    if not arrays:
        raise SakiyomiError(f"{path} is an empty archive; expected arrays, such as joints and images")
    return arrays


def npz_names(path: Path) -> tuple[str, ...]:
    """The names in the directory of an .npz file, and nothing else of it; none if it cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return tuple(name.removesuffix(".npy") for name in archive.namelist())
    except Exception:
        # Whatever a damaged archive raises: the question was only whether it is one.
        return ()


def member_name(path: Path, filename: str) -> str:
    """`joints.npy` -> joints. Raises SakiyomiError for names that an array has not, such as ../joints.npy."""
    found = re.fullmatch(r"([A-Za-z0-9_]{1,100})\.npy", filename)
    if not found:
        raise SakiyomiError(
            f"{path} holds a member named {filename[:80]!r}; arrays are named by letters, digits and '_', and end in "
            ".npy. Nothing of it was read"
        )
    return found[1]


def read_header(file: IO[bytes], where: str) -> Header:
    """Raises SakiyomiError for what is no header, and for arrays of anything but numbers."""
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise SakiyomiError(f"{where} has version {version[0]}.{version[1]} of npy; arrays of numbers have 1.0 or 2.0")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, column_major, dtype = read(file, max_header_size=MOST_HEADER)
    if dtype.hasobject:
        raise SakiyomiError(
            f"{where} holds pickled Python objects, which can run code when they are read; refused. "
            "Save arrays of numbers: np.save(path, array.astype(np.float32))"
        )
    if dtype.kind not in NUMBERS:
        raise SakiyomiError(f"{where} holds {dtype}; expected numbers")
    if any(length < 1 for length in shape):
        raise SakiyomiError(f"{where} has shape {list(shape)}: it is empty")
    return Header(shape, dtype, column_major, file.tell())


def _check_length(where: str, header: Header, there: int) -> None:
    if header.bytes > there:
        raise SakiyomiError(
            f"{where} is cut off: its header promises {header.dtype} {list(header.shape)}, {header.bytes} bytes, and "
            f"{max(there, 0)} are there; copy it anew"
        )


def _check_shrunk(where: str, packed: int, unpacked: int) -> None:
    """Raises SakiyomiError for what would fill the memory out of nearly nothing."""
    if unpacked > max(FREE, RATIO * packed):
        raise SakiyomiError(
            f"{where} would unpack {packed} bytes to {unpacked}: no recording shrinks so far; refused. If it is one, "
            "save it with np.savez, uncompressed"
        )


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, where: str) -> np.ndarray:
    if member.flag_bits & 1:
        raise SakiyomiError(f"{where} is encrypted; save it without a password")
    _check_shrunk(where, member.compress_size, member.file_size)
    with archive.open(member) as file:
        header = read_header(file, where)
        _check_length(where, header, member.file_size - header.start)
        content = file.read(header.bytes)
        if len(content) < header.bytes or file.read(1):
            raise SakiyomiError(f"{where} holds not as many bytes as its header says; copy it anew")
    order = "F" if header.column_major else "C"
    return np.frombuffer(content, header.dtype).reshape(header.shape, order=order)


def to_npy(values: np.ndarray) -> bytes:
    """The content of an .npy file."""
    file = io.BytesIO()
    np.save(file, values, allow_pickle=False)
    return file.getvalue()
