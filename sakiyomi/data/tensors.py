"""Safetensors files written piece by piece: an episode need not be in memory to become a file.

The files are byte for byte those of the safetensors library, which takes all of one as one `bytes`.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from sakiyomi.data.records import DTYPES
from sakiyomi.errors import unknown
from sakiyomi.files import write_parts

PIECE = 1 << 22  # bytes written at once
# The types in the order in which the library sorts tensors, backwards.
ORDER = (
    *("bool", "uint8", "int8", "int16", "uint16", "float16", "int32", "uint32", "float32"),
    *("float64", "int64", "uint64"),
)


@dataclass(frozen=True)
class Written:
    """What a file became."""

    bytes: int
    sha256: str


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> Written:
    """Write arrays, which may be memory-mapped, to a safetensors file; as `write_atomic`, whole or not at all.

    Raises SakiyomiError for a type the format has none for, and when the disk refuses.
    """
    for array in tensors.values():
        if str(array.dtype) not in DTYPES:
            raise unknown("type of numbers", str(array.dtype), DTYPES)
    names = sorted(tensors, key=lambda name: (-ORDER.index(str(tensors[name].dtype)), name))
    header, end = {}, 0
    for name in names:
        begin, end = end, end + tensors[name].nbytes
        kind = DTYPES[str(tensors[name].dtype)]
        header[name] = {"dtype": kind, "shape": list(tensors[name].shape), "data_offsets": [begin, end]}
    told = msgspec.json.encode(header)
    told += b" " * (-len(told) % 8)
    digest = hashlib.sha256()
    size = 8 + len(told) + end

    def parts() -> Iterator[bytes | memoryview]:
        yield len(told).to_bytes(8, "little") + told
        for name in names:
            content = np.ascontiguousarray(tensors[name]).reshape(-1).view(np.uint8).data
            for at in range(0, len(content), PIECE):
                yield content[at : at + PIECE]

    def hashed() -> Iterator[bytes | memoryview]:
        for part in parts():
            digest.update(part)
            yield part

    write_parts(path, hashed())
    return Written(size, digest.hexdigest())
