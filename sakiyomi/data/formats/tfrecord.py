"""TFRecord files without TensorFlow: the framing with both its checksums, and tf.train.Example.

    record  = length uint64 | checksum of these 8 bytes uint32 | data [length] | checksum of the data uint32
    Example = {features: {name: one of a list of bytes, of float32 or of int64}}

All numbers are little-endian; a checksum is CRC32C, masked (rotated and shifted, so that a checksum of data that
holds checksums stays a good one). Needs the extra `sakiyomi[bair]`.
"""

import struct
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from sakiyomi.errors import SakiyomiError

Features: TypeAlias = dict[str, list[bytes] | np.ndarray]
"""Of one Example: feature name -> list of bytes, float32 [n] or int64 [n]; a feature without a value is []."""

HEAD, FOOT = 12, 4  # bytes around the data of a record
GZIP = b"\x1f\x8b"

# The three lists, Feature (one of them), Features (a map, which on the wire is a repeated entry) and Example.
EXAMPLE = """
name: "example.proto" package: "tensorflow" syntax: "proto3"
message_type { name: "BytesList" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_BYTES } }
message_type { name: "FloatList" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_FLOAT } }
message_type { name: "Int64List" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_INT64 } }
message_type {
  name: "Feature"
  oneof_decl { name: "kind" }
  field { name: "bytes_list" number: 1 type: TYPE_MESSAGE type_name: ".tensorflow.BytesList" oneof_index: 0 }
  field { name: "float_list" number: 2 type: TYPE_MESSAGE type_name: ".tensorflow.FloatList" oneof_index: 0 }
  field { name: "int64_list" number: 3 type: TYPE_MESSAGE type_name: ".tensorflow.Int64List" oneof_index: 0 }
}
message_type {
  name: "Features"
  nested_type {
    name: "FeatureEntry"
    options { map_entry: true }
    field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
    field { name: "value" number: 2 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".tensorflow.Feature" }
  }
  field {
    name: "feature" number: 1 label: LABEL_REPEATED
    type: TYPE_MESSAGE type_name: ".tensorflow.Features.FeatureEntry"
  }
}
message_type {
  name: "Example" field { name: "features" number: 1 type: TYPE_MESSAGE type_name: ".tensorflow.Features" }
}
"""


class DamagedRecord(SakiyomiError):
    """One record of a file cannot be read: says which file, record and byte, and what is wrong."""


def scan_examples(path: Path) -> Iterator[Features | DamagedRecord]:
    """Every Example of a file, in order, with the error in the place of one that is damaged.

    Behind a damaged *content* the records go on; behind a damaged length nobody knows where the next one begins,
    and that error is the last thing to come. Raises SakiyomiError when the file cannot be opened.
    """
    parse = _example_type().FromString
    for number, record in enumerate(scan_records(path)):
        if isinstance(record, DamagedRecord):
            yield record
            continue
        offset, data = record
        try:
            yield _features(parse(data))
        except _decode_error() as error:
            yield _damaged(path, number, offset, f"its checksum is right, but it is no tf.train.Example ({error})")


def scan_records(path: Path) -> Iterator[tuple[int, bytes] | DamagedRecord]:
    """As `scan_examples`, one level lower: (offset of the record in bytes, its data)."""
    checksum = _checksum()
    try:
        size = path.stat().st_size
        file = path.open("rb")
    except OSError as error:
        raise SakiyomiError(f"cannot read {path}: {error.strerror}") from error
    with file:
        offset = number = 0
        while offset < size or number == 0:  # an empty file lacks its first record
            head = file.read(HEAD)
            if len(head) < HEAD:
                yield _damaged(path, number, offset, f"the file is cut off: {len(head)} of {HEAD} bytes before data")
                return
            length, expected = struct.unpack("<QI", head)
            if checksum(head[:8]) != expected:
                if head.startswith(GZIP):
                    yield DamagedRecord(f"{path} is compressed; unpack it first (gunzip)")
                else:
                    yield _damaged(path, number, offset, f"the checksum of its length ({length}) is wrong")
                return
            end = offset + HEAD + length + FOOT
            if end > size:  # before reading: a length may be right and still be larger than memory
                there = size - offset - HEAD
                yield _damaged(
                    path, number, offset, f"the file is cut off: {there} of {length + FOOT} bytes from data on"
                )
                return
            data = file.read(length)
            if struct.pack("<I", checksum(data)) == file.read(FOOT):
                yield offset, data
            else:
                yield _damaged(path, number, offset, f"the checksum of its data ({length} bytes) is wrong")
            offset, number = end, number + 1


def count_records(path: Path) -> int:
    """How many records `scan_records` has to tell of, damaged ones included; reads their lengths only."""
    checksum = _checksum()
    size, offset, number = path.stat().st_size, 0, 0
    with path.open("rb") as file:
        while offset < size or number == 0:  # an empty file lacks its first record
            file.seek(offset)
            head = file.read(HEAD)
            number += 1
            if len(head) < HEAD or struct.pack("<I", checksum(head[:8])) != head[8:]:
                break
            offset += HEAD + int.from_bytes(head[:8], "little") + FOOT
    return number


def _damaged(path: Path, number: int, offset: int, what: str) -> DamagedRecord:
    return DamagedRecord(f"{path}, record {number} (the first is 0) at byte {offset}: {what}; fetch the file anew")


def _features(example: Any) -> Features:
    features: Features = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        if kind is None:
            features[name] = []
        elif kind == "bytes_list":
            features[name] = list(feature.bytes_list.value)
        else:
            features[name] = np.array(getattr(feature, kind).value, np.float32 if kind == "float_list" else np.int64)
    return features


@cache
def _checksum() -> Callable[[bytes], int]:
    """Masked CRC32C."""
    try:
        import google_crc32c
    except ImportError as error:
        raise _missing("google-crc32c") from error

    def masked(data: bytes) -> int:
        crc = google_crc32c.value(data)
        return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF

    return masked


@cache
def _example_type() -> Any:
    """The message class of tf.train.Example, built here: a generated file would be tied to one protobuf version."""
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
    except ImportError as error:
        raise _missing("protobuf") from error
    pool = descriptor_pool.DescriptorPool()  # our own: TensorFlow, if loaded, has these names in the shared one
    pool.Add(text_format.Parse(EXAMPLE, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


def _decode_error() -> type[Exception]:
    from google.protobuf.message import DecodeError

    return DecodeError


def _missing(library: str) -> SakiyomiError:
    return SakiyomiError(f"TFRecord files need {library}, which is not installed: pip install 'sakiyomi[bair]'")
