"""A store of which anything is wrong is refused in one line, and never ends in another error than our own."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import synthetic
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream
from sakiyomi.data.records import dataset_json, file_of, manifest_jsonl, read_dataset, read_manifest
from sakiyomi.data.tensors import write_tensors
from sakiyomi.errors import SakiyomiError

FILES = ("dataset.json", "manifest.jsonl", "episodes/0.safetensors")
NAMES = ["", "a/b", "..", "../up", ".hidden", "a..b", "new\nline", "tab\t", "\x00", "\x1b[31m", "x" * 101, "a\\b"]
NAMES += ["image.time", "__metadata__", "/etc/passwd"]


def refused(folder: Path) -> str:
    """What is said when all of the store is read; empty if nothing was wrong."""
    try:
        store = EpisodeStore(folder)
        for entry in store.entries:
            for stream in store.streams:
                assert (
                    len(store.values(entry.id, stream)) == entry.lengths[stream] == len(store.times(entry.id, stream))
                )
    except SakiyomiError as error:
        return str(error)
    return ""


def change(folder: Path, file: str, key: str, value: Any, line: int = 0) -> None:
    """Set a field of dataset.json or of one line of the manifest; `key` may lead inside: streams.image.shape."""
    path = folder / file
    lines = path.read_text().splitlines() if file.endswith("l") else [path.read_text()]
    record = json.loads(lines[line])
    *way, last = key.split(".")
    inside = record
    for step in way:
        inside = inside[step]
    inside[last] = value
    lines[line] = json.dumps(record)
    path.write_text("\n".join(lines) + "\n")


def fix_checksum(folder: Path, id: str = "0") -> None:
    """As whoever means harm, or a program that writes wrong files, would enter the file."""
    content = (folder / file_of(id)).read_bytes()
    entries = EpisodeStore(folder).entries
    fixed = [
        replace(entry, bytes=max(1, len(content)), sha256=hashlib.sha256(content).hexdigest())
        if entry.id == id
        else entry
        for entry in entries
    ]
    (folder / "manifest.jsonl").write_bytes(manifest_jsonl(tuple(fixed)))


def test_records_are_read_as_they_were_written(store: EpisodeStore) -> None:
    content = (store.folder / "dataset.json").read_bytes()
    dataset = read_dataset(content, "here")
    assert dataset_json(dataset) == content
    lines = (store.folder / "manifest.jsonl").read_bytes()
    assert manifest_jsonl(read_manifest(lines, "here", dataset.streams)) == lines


def test_a_store_of_a_newer_version_says_what_to_do(tmp_path: Path) -> None:
    """Whatever else the newer version changed."""
    synthetic.write(tmp_path)
    content = {"format": "sakiyomi-episodes-2", "streams": ["of", "another", "kind"]}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    assert "'sakiyomi-episodes-2', which a newer sakiyomi wrote" in refused(tmp_path)
    assert "update sakiyomi" in refused(tmp_path)
    for other in ("sakiyomi-episodes-0", "sakiyomi-episodes-x", "other", "sakiyomi-episodes-" + "9" * 10_000):
        change(tmp_path, "dataset.json", "format", other)
        assert "this version reads 'sakiyomi-episodes-1'" in refused(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_names_of_streams_that_could_do_harm_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SakiyomiError, match=r"stream|name") as caught:
        EpisodeWriter(tmp_path / "new", {name: synthetic.STREAMS["joints"]})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()
    folder = synthetic.write(tmp_path / "store").folder
    content = json.loads((folder / "dataset.json").read_text())
    content["streams"] = {name: content["streams"]["joints"]}
    (folder / "dataset.json").write_text(json.dumps(content))
    assert "stream" in refused(folder) or "name" in refused(folder)


@pytest.mark.parametrize("name", ["image", "left wrist", "関節", "a.b", "joint-1", "x" * 100, "50%"])
def test_other_names_are_kept(tmp_path: Path, name: str) -> None:
    writer = EpisodeWriter(tmp_path, {name: synthetic.STREAMS["joints"]})
    values = synthetic.values(9, 0)["joints"]
    writer.add("0", {name: values}, {name: np.arange(9.0)})
    np.testing.assert_array_equal(writer.finish().values("0", name), values)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("streams.image.shape", [-1, 16, 3], "sizes of 0 or more"),
        ("streams.image.dtype", "object", "is of type 'object'"),
        ("streams.image.dtype", "uint8\n", "is of type"),
        ("streams.image.rate", 1e999, "cannot be read"),
        ("streams.image.rate", -1.0, "finite"),
        ("streams.image.kind", "smell", "cannot be read"),
        ("streams.image.shape", [16, 16, 4], "but dataset.json and the manifest say U8 [9, 16, 16, 4]"),
        ("streams.image.dtype", "int8", "but dataset.json and the manifest say I8"),
        ("streams", {}, "statistics"),
        ("statistics.joints.low", [], "statistics"),
        ("statistics", {"nothing": {"low": [], "high": [], "mean": [], "std": [], "count": 0}}, "statistics"),
    ],
)
def test_a_description_that_cannot_be_true_is_refused(tmp_path: Path, key: str, value: Any, words: str) -> None:
    synthetic.write(tmp_path)
    change(tmp_path, "dataset.json", key, value)
    assert words in refused(tmp_path)


def test_a_stream_that_no_episode_has_is_missed(tmp_path: Path) -> None:
    """The manifest promises it, the file does not hold it."""
    synthetic.write(tmp_path)
    content = json.loads((tmp_path / "dataset.json").read_text())
    content["streams"]["sound"] = content["streams"]["joints"]
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    assert "expected 1 or more of each of ['command', 'image', 'joints', 'sound']" in refused(tmp_path)
    for line, length in enumerate((*synthetic.LENGTHS, synthetic.VALIDATION_LENGTH)):
        change(tmp_path, "manifest.jsonl", "lengths.sound", length, line)
    assert "has no 'sound', only" in refused(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("id", "../0", "episode id"),
        ("id", "a\nb", "episode id"),
        ("id", "1", "second time"),
        ("file", "episodes/1.safetensors", "outside the store or not"),
        ("file", "dataset.json", "outside the store or not"),
        ("file", "s3://elsewhere/0.safetensors", "outside the store or not"),
        ("bytes", -5, "-5 bytes"),
        ("bytes", 10**30, "damaged"),
        ("bytes", 2**62, "damaged"),
        ("sha256", "", "64 hexadecimal digits"),
        ("sha256", "../" * 21 + "a", "64 hexadecimal digits"),
        ("split", "", "the split"),
        ("split", "train\n", "the split"),
        ("lengths", {}, "has lengths"),
        ("lengths.image", 0, "has lengths"),
        ("lengths.image", 10, "the manifest say U8 [10, 16, 16, 3]"),
        ("lengths.joints", 2**62, "the manifest say"),
        ("lengths.more", 9, "has lengths"),
        ("meta", [], "cannot be read"),
    ],
)
def test_an_entry_that_cannot_be_true_is_refused(tmp_path: Path, key: str, value: Any, words: str) -> None:
    synthetic.write(tmp_path)
    change(tmp_path, "manifest.jsonl", key, value)
    if key == "id" and value == "1":
        change(tmp_path, "manifest.jsonl", "file", "episodes/1.safetensors")
    assert words in refused(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda tensors: tensors.pop("image.time"), "has no 'image.time'"),
        (lambda tensors: tensors.update(joints=tensors["joints"].astype(np.float64)), "'joints' is F64"),
        (lambda tensors: tensors.update(joints=tensors["joints"][:5]), "'joints' is F32 [5, 3]"),
        (lambda tensors: tensors.update(joints=tensors["joints"].T.copy()), "'joints' is F32 [3, 9]"),
        (lambda tensors: tensors.update({"image.time": tensors["image.time"][::-1].copy()}), "the clock does not run"),
        (lambda tensors: tensors.update({"image.time": np.full(9, np.nan)}), "the clock does not run"),
        (lambda tensors: tensors.update({"image.time": np.full(9, np.inf)}), "the clock does not run"),
    ],
)
def test_a_file_that_is_not_what_the_store_says_is_refused(
    tmp_path: Path, spoil: Callable[[dict[str, np.ndarray]], Any], words: str
) -> None:
    """Though its checksum is true."""
    store = synthetic.write(tmp_path)
    tensors = {name: store.values("0", name) for name in store.streams}
    tensors |= {f"{name}.time": store.times("0", name) for name in store.streams}
    spoil(tensors)
    write_tensors(tmp_path / file_of("0"), tensors)
    fix_checksum(tmp_path)
    assert words in refused(tmp_path)


def test_nothing_is_written_that_could_not_be_read_again(tmp_path: Path) -> None:
    """A split without a name, limits that JSON does not know, numbers of which there are no statistics."""
    stream = Stream("joints", (2,), "float64", 10.0)
    for bad in (np.inf, -np.inf, np.nan):
        with pytest.raises(SakiyomiError, match="limits"):
            EpisodeWriter(tmp_path / "none", {"joints": replace(stream, low=(0.0, bad), high=(1.0, 1.0))})
    writer = EpisodeWriter(tmp_path / "store", {"joints": stream})
    good, clock = np.linspace(-1, 1, 12).reshape(6, 2), {"joints": np.arange(6.0)}
    writer.add("good", {"joints": good}, clock)
    for split in ("", "train\n", "x" * 101):
        with pytest.raises(SakiyomiError, match="split"):
            writer.add("other", {"joints": good}, clock, split)
    for value in (1e200, -1e200):
        beyond = good.copy()
        beyond[4, 1] = value
        with pytest.raises(SakiyomiError, match=r"'joints', value 4, channel 1: .*e\+200 is no measurement"):
            writer.add("other", {"joints": beyond}, clock)
    assert [entry.id for entry in writer.finish().entries] == ["good"]
    assert EpisodeStore(tmp_path / "store").statistics["joints"].high == tuple(good.max(0))


@pytest.mark.parametrize("value", [1e200, np.nan, np.inf])
def test_what_others_wrote_has_statistics_or_is_refused(tmp_path: Path, value: float) -> None:
    stream = Stream("joints", (2,), "float64", 10.0)
    writer = EpisodeWriter(tmp_path, {"joints": stream})
    values, clock = np.ones((6, 2)), np.arange(6.0)
    writer.add("0", {"joints": values}, {"joints": clock})
    values[2, 1] = value
    write_tensors(tmp_path / file_of("0"), {"joints": values, "joints.time": clock})
    fix_checksum(tmp_path)
    with pytest.raises(SakiyomiError, match="no mean and deviation"):
        EpisodeStore(tmp_path).measure("joints")


def test_the_ends_of_what_is_read_may_lie_outside(store: EpisodeStore) -> None:
    whole = store.values("0", "joints")
    for start, stop in ((0, 100), (5, 5), (7, 3), (-2, None), (50, 60), (0, -1)):
        np.testing.assert_array_equal(store.values("0", "joints", start, stop), whole[start:stop])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> EpisodeStore:
    return synthetic.write(tmp_path_factory.mktemp("fuzz") / "store")


@st.composite
def damage(draw: st.DrawFn) -> tuple[str, Callable[[bytes], bytes], bool]:
    """A file, what is done to its content, and whether its checksum is entered anew."""
    file = draw(st.sampled_from(FILES))
    # Headers are where readers go wrong; most of an episode is numbers, of which any will do.
    at = draw(st.integers(0, 700)) if draw(st.booleans()) else draw(st.integers(0, 40_000))
    kind = draw(st.sampled_from(["flip", "cut", "insert", "drop", "repeat"]))
    put = draw(
        st.binary(min_size=1, max_size=9) | st.sampled_from([b"\n", b'"', b"-", b"9" * 30, b"[" * 2000, b"\xff"])
    )
    many = draw(st.integers(1, 60))

    def do(content: bytes) -> bytes:
        i = at % max(1, len(content))
        return {
            "flip": content[:i] + put + content[i + len(put) :],
            "cut": content[:i],
            "insert": content[:i] + put + content[i:],
            "drop": content[:i] + content[i + many :],
            "repeat": content[:i] + content[max(0, i - many) :],
        }[kind]

    return file, do, draw(st.booleans())


@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damages=st.lists(damage(), min_size=1, max_size=3))
def test_whatever_is_damaged_only_our_own_error_comes(
    tmp_path: Path, whole: EpisodeStore, damages: list[tuple[str, Callable[[bytes], bytes], bool]]
) -> None:
    """Bytes are changed, put in, cut off, left out and doubled; of an episode with its checksum made true, too."""
    shutil.rmtree(tmp_path / "store", ignore_errors=True)
    shutil.copytree(whole.folder, tmp_path / "store")
    folder, forged, changed = tmp_path / "store", False, False
    for file, do, fix in damages:
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(do(content))
        changed = do(content) != content
        if file.startswith("episodes") and changed:
            forged = forged or fix
            if fix:
                try:
                    fix_checksum(folder)
                except SakiyomiError:
                    return  # the manifest was damaged before, and is refused
    said = refused(folder)
    assert "\n" not in said
    if len(damages) == 1 and damages[0][0].startswith("episodes") and changed and not forged:
        assert "damaged" in said


@settings(max_examples=200)
@given(content=st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_what_is_no_record_is_refused(content: bytes) -> None:
    with pytest.raises(SakiyomiError, match="here"):
        read_dataset(content, "here")
    if b"\n" in content:
        with pytest.raises(SakiyomiError, match="here, line"):
            read_manifest(content, "here", synthetic.STREAMS)
    else:
        assert read_manifest(content, "here", synthetic.STREAMS) == ()


def test_deep_nesting_is_refused(store: EpisodeStore) -> None:
    deep = (
        b'{"format": "sakiyomi-episodes-1", "streams": {}, "origin": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}"
    )
    with pytest.raises(SakiyomiError, match="cannot be read"):
        read_dataset(deep, "here")
    entry = msgspec.json.encode(store.entries[0])
    with pytest.raises(SakiyomiError, match="line 2 enters episode '0' a second time"):
        read_manifest(entry + b"\n" + entry + b"\n", "here", store.streams)
