"""TFRecords are read back as they were written, and a byte that changed is found and named."""

import builtins
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sakiyomi.data.formats import tfrecord
from sakiyomi.data.formats.tfrecord import DamagedRecord, Features, count_records, scan_examples
from sakiyomi.errors import SakiyomiError


def read_examples(path: Path) -> Iterator[Features]:
    """Every Example of a file; raises the error of the first that is damaged, after those before it."""
    for example in scan_examples(path):
        if isinstance(example, DamagedRecord):
            raise example
        yield example


def example(features: Features) -> bytes:
    """A serialised tf.train.Example."""
    message = tfrecord._example_type()()
    for name, values in features.items():
        feature = message.features.feature[name]
        if isinstance(values, list):
            feature.bytes_list.value.extend(values)
        elif values.dtype == np.float32:
            feature.float_list.value.extend(values.tolist())
        else:
            feature.int64_list.value.extend(values.tolist())
    return message.SerializeToString()


def framed(data: bytes) -> bytes:
    """One record of a file, written down independently of the reader."""

    def masked(part: bytes) -> bytes:
        crc = google_crc32c.value(part)
        return struct.pack("<I", (((crc >> 15) | (crc << 17 & 0xFFFFFFFF)) + 0xA282EAD8) % 2**32)

    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def write(path: Path, *examples: Features) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(framed(example(one)) for one in examples))
    return path


def assert_equal(a: Features, b: Features) -> None:
    assert a.keys() == b.keys()
    for name, values in a.items():
        other = b[name]
        if isinstance(values, list) or isinstance(other, list):
            assert values == other
        else:
            assert values.dtype == other.dtype
            np.testing.assert_array_equal(values, other)


FEATURES = st.dictionaries(
    st.text(max_size=8),
    st.lists(st.binary(max_size=20), min_size=1, max_size=4)
    | arrays(np.float32, st.integers(1, 5), elements=st.floats(width=32))
    | arrays(np.int64, st.integers(1, 5), elements=st.integers(-(2**63), 2**63 - 1)),
    max_size=4,
)


@settings(max_examples=50)
@given(st.lists(FEATURES, min_size=1, max_size=4))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, examples: list[Features]) -> None:
    path = write(tmp_path_factory.mktemp("tf") / "a.tfrecord", *examples)
    read = list(read_examples(path))
    assert len(read) == len(examples) == count_records(path)
    for a, b in zip(read, examples, strict=True):
        assert_equal(a, b)


def test_the_wire_format_is_understood(tmp_path: Path) -> None:
    """Bytes put together by hand: numbers packed, as they usually are, and one by one, as they may be."""

    def inside(tag: int, body: bytes) -> bytes:
        return bytes([tag << 3 | 2, len(body)]) + body

    def one(name: str, feature: bytes) -> bytes:
        return inside(1, inside(1, inside(1, name.encode()) + inside(2, feature)))

    packed = one("n", inside(3, inside(1, b"\x07\x08")))
    single = one("v", inside(2, b"\x0d" + struct.pack("<f", 1.5)))
    path = tmp_path / "hand.tfrecord"
    path.write_bytes(framed(packed) + framed(single) + framed(packed[:-1]))
    first, second, third = scan_examples(path)
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert_equal(first, {"n": np.array([7, 8])})
    assert_equal(second, {"v": np.array([1.5], np.float32)})
    assert isinstance(third, DamagedRecord)
    assert "record 2" in str(third)
    assert "no tf.train.Example" in str(third)


THREE: list[Features] = [{"name": [b"x" * 40], "n": np.array([n]), "v": np.ones(3, np.float32)} for n in range(3)]


@settings(max_examples=150)
@given(st.data())
def test_a_flipped_bit_is_found_and_named(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    """Wherever it is: the records before it are read, the error names the file, the record and where it begins."""
    path = write(tmp_path_factory.mktemp("tf") / "a.tfrecord", *THREE)
    content, size = bytearray(path.read_bytes()), path.stat().st_size // 3
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    read: list[Features] = []
    with pytest.raises(DamagedRecord) as caught:
        read.extend(read_examples(path))
    record, within = divmod(at, size)
    message = str(caught.value)
    assert f"{path}, record {record} (the first is 0) at byte {record * size}: " in message
    assert ("checksum of its length" if within < 12 else "checksum of its data") in message
    assert count_records(path) == len(list(scan_examples(path)))
    # Behind damaged data, the others are still there; behind a damaged length nobody knows where they begin.
    whole = [one for one in scan_examples(path) if not isinstance(one, DamagedRecord)]
    assert len(whole) == (record if within < 12 else 2)
    for found, n in zip(whole, [n for n in range(3) if n != record], strict=False):
        assert_equal(found, THREE[n])


@settings(max_examples=60)
@given(st.integers(1, 400))
def test_a_file_cut_off_keeps_its_whole_records(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = write(tmp_path_factory.mktemp("tf") / "a.tfrecord", *THREE)
    size = path.stat().st_size // 3
    left = max(1, path.stat().st_size - cut)
    path.write_bytes(path.read_bytes()[:left])
    *whole, last = scan_examples(path)
    assert count_records(path) == len(whole) + 1
    assert len(whole) == left // size - (left % size == 0)
    if left % size:
        assert isinstance(last, DamagedRecord)
        assert f"record {left // size} (the first is 0) at byte {left // size * size}: the file is cut off" in str(last)


def test_a_length_beyond_the_file_is_not_believed(tmp_path: Path) -> None:
    """Its checksum right, and no memory to hold it."""
    length = struct.pack("<Q", 2**60)
    path = tmp_path / "huge.tfrecord"
    path.write_bytes(length + framed(length)[-4:] + b"data")
    with pytest.raises(DamagedRecord, match="cut off: 4 of"):
        list(read_examples(path))


def test_a_compressed_file_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    path.write_bytes(b"\x1f\x8b" + bytes(30))
    with pytest.raises(DamagedRecord, match="gunzip"):
        list(read_examples(path))


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(SakiyomiError, match=r"none\.tfrecord: No such file"):
        list(read_examples(tmp_path / "none.tfrecord"))


@pytest.mark.parametrize("library", ["google_crc32c", "google.protobuf"])
def test_a_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    path = write(tmp_path / "a.tfrecord", *THREE)
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == library:
            raise ImportError(name)
        return real(name, *rest)

    tfrecord._checksum.cache_clear()
    tfrecord._example_type.cache_clear()
    monkeypatch.delitem(sys.modules, library, raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SakiyomiError, match=r"pip install 'sakiyomi\[bair\]'"):
        list(read_examples(path))


def test_an_empty_file_is_damaged(tmp_path: Path) -> None:
    """Nobody writes one on purpose: a download that failed leaves it."""
    (tmp_path / "a.tfrecord").write_bytes(b"")
    (found,) = scan_examples(tmp_path / "a.tfrecord")
    assert isinstance(found, DamagedRecord)
    assert "record 0" in str(found)
    assert count_records(tmp_path / "a.tfrecord") == 1
