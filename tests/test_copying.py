"""Copies of stores, here and far away: whole, or completed by the same command, and never another store's."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic
from far_away import IDS, Sent, assert_same, said

from sakiyomi.copying import bucket_checksum, copy
from sakiyomi.data import far
from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter
from sakiyomi.errors import SakiyomiError

pytestmark = pytest.mark.usefixtures("own_cache")


def test_a_copy_of_a_copy_is_the_store(store: EpisodeStore, bucket: Any, tmp_path: Path) -> None:
    """Here to far, far to far, far to here, here to here."""
    places = [str(store.folder), "s3://bucket/one", "s3://bucket/two", str(tmp_path / "three"), str(tmp_path / "four")]
    seen: list[tuple[int, int]] = []
    for source, target in itertools.pairwise(places):
        seen.clear()
        assert copy(source, target, lambda done, total: seen.append((done, total))).sent == IDS
        assert [done for done, _ in seen] == np.cumsum([entry.bytes for entry in store.entries]).tolist()
        assert copy(source, target).sent == ()
        assert_same(EpisodeStore(target), store)
    names = {str(path.relative_to(tmp_path / "four")) for path in (tmp_path / "four").rglob("*") if path.is_file()}
    assert {name for name in names if ".lock" not in name} == {
        "dataset.json",
        "manifest.jsonl",
        *(entry.file for entry in store.entries),
    }


def interrupt_after(count: int) -> pytest.MonkeyPatch:
    """The next copy is interrupted when so many episodes have arrived."""
    from sakiyomi import copying

    send, left = copying._send, [count]

    def interrupted(*args: Any) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        send(*args)

    patch = pytest.MonkeyPatch()
    patch.setattr(copying, "_send", interrupted)
    return patch


@pytest.mark.parametrize("far_away", [True, False])
def test_only_what_is_missing_is_sent_again(store: EpisodeStore, bucket: Any, tmp_path: Path, far_away: bool) -> None:
    target = "s3://bucket/store" if far_away else str(tmp_path / "target")
    patch = interrupt_after(3)
    with pytest.raises(KeyboardInterrupt):
        copy(str(store.folder), target)
    patch.undo()
    # Who reads there now reads a smaller store, which is known to be unfinished.
    partial = EpisodeStore(target)
    assert [entry.id for entry in partial.entries] == list(IDS[:3])
    assert not partial.statistics
    for entry in partial.entries:
        np.testing.assert_array_equal(partial.values(entry.id, "image"), store.values(entry.id, "image"))
    assert copy(str(store.folder), target).sent == IDS[3:]
    assert_same(EpisodeStore(target), store)


@pytest.mark.parametrize("far_away", [True, False])
def test_a_file_damaged_at_the_target_is_noticed_and_sent_anew(
    store: EpisodeStore, bucket: Any, tmp_path: Path, far_away: bool
) -> None:
    target = "s3://bucket/store" if far_away else str(tmp_path / "target")
    copy(str(store.folder), target)
    paths = {id: f"{target}/{store.entry(id).file}" for id in ("0", "2", "3")}
    content = bytearray((store.folder / store.entry("0").file).read_bytes())
    content[-3] ^= 1  # of the right length
    import fsspec

    system, _ = fsspec.url_to_fs(target)
    system.pipe_file(paths["0"], bytes(content))
    system.pipe_file(paths["2"], b"short")
    system.rm_file(paths["3"])
    assert copy(str(store.folder), target).sent == ("0", "2", "3")
    assert_same(EpisodeStore(target), store)


def test_what_another_tool_sent_in_other_parts_is_read_back(
    store: EpisodeStore, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checksum at the bucket is of parts unknown here; the content decides."""
    copy(str(store.folder), "s3://bucket/store")
    entry = store.entry("0")
    key = {"Bucket": "bucket", "Key": f"store/{entry.file}"}
    upload = bucket.call_s3("create_multipart_upload", **key)["UploadId"]
    body = (store.folder / entry.file).read_bytes()
    part = bucket.call_s3("upload_part", **key, UploadId=upload, PartNumber=1, Body=body)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    bucket.call_s3("complete_multipart_upload", **key, UploadId=upload, MultipartUpload=parts)
    count = Sent(monkeypatch)
    from sakiyomi import copying

    monkeypatch.setattr(copying, "bucket_checksum", lambda path, like: "of other parts")
    assert copy(str(store.folder), "s3://bucket/store").sent == ()
    assert [id for id, _ in count.asked] == list(IDS)


def test_the_checksum_of_a_bucket_is_worked_out_here(bucket: Any, tmp_path: Path) -> None:
    """Of a file sent in one and of one sent in parts, as s3fs sends large ones."""
    for size in (1_000_000, 105 * 2**20):
        path = tmp_path / str(size)
        with path.open("wb") as file:
            file.write(b"begin")
            file.truncate(size)
        bucket.put_file(str(path), f"bucket/{size}")
        etag = bucket.info(f"bucket/{size}", refresh=True)["ETag"]
        assert ("-" in etag) == (size > 2**20)
        assert bucket_checksum(path, etag) == etag.strip('"')
        path.unlink()


COPIER = """
import sys
from sakiyomi.copying import copy

copy(sys.argv[1], sys.argv[2])
"""


def test_a_killed_copy_leaves_a_store_and_is_completed(bucket: Any, tmp_path: Path) -> None:
    """SIGKILL: whatever is entered at the target is whole, and what is whole, entered or not, is not sent again."""
    writer = EpisodeWriter(tmp_path / "source", synthetic.STREAMS)
    for number in range(60):
        writer.add(f"{number}", synthetic.values(50, number), synthetic.times(50))
    store = writer.finish()
    command = [sys.executable, "-c", COPIER, str(store.folder), "s3://bucket/store"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    while len(bucket.find("bucket/store", refresh=True)) < 20 and process.poll() is None:
        time.sleep(0.03)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    partial = EpisodeStore("s3://bucket/store")
    assert 16 <= len(partial.entries) < 60
    for entry in partial.entries:
        np.testing.assert_array_equal(partial.values(entry.id, "joints"), store.values(entry.id, "joints"))
    place = far.locate("s3://bucket/store")
    there = {entry.id for entry in store.entries if place.info(entry.file)}
    assert len(there) >= 18
    assert set(copy(str(store.folder), "s3://bucket/store").sent) == {entry.id for entry in store.entries} - there
    assert_same(EpisodeStore("s3://bucket/store"), store)


def test_a_source_that_is_damaged_is_not_passed_on(store: EpisodeStore, bucket: Any, tmp_path: Path) -> None:
    shutil.copytree(store.folder, tmp_path / "source")
    path = tmp_path / "source" / store.entry("1").file
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    for target in ("s3://bucket/store", str(tmp_path / "target")):
        with pytest.raises(SakiyomiError, match=r"1\.safetensors is damaged"):
            copy(str(tmp_path / "source"), target)
        assert [entry.id for entry in EpisodeStore(target).entries] == ["0"]


def test_a_copy_does_not_mix_stores(store: EpisodeStore, tmp_path: Path) -> None:
    copy(str(store.folder), str(tmp_path / "target"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    other = EpisodeWriter(tmp_path / "other", synthetic.STREAMS)
    other.add("0", synthetic.values(9, 77), synthetic.times(9))
    other.finish()
    fewer = EpisodeWriter(tmp_path / "fewer", {"joints": synthetic.STREAMS["joints"]})
    fewer.add("0", synthetic.values(9, 0), synthetic.times(9))
    fewer.finish()
    for source, target, words in [
        (store.folder, "mine", "is no episode store"),
        (store.folder, "mine/thesis.txt", "is no episode store"),
        (store.folder, "other", "'0', which in .* is another one"),
        (tmp_path / "other", "target", "is another one"),
        (tmp_path / "fewer", "target", "another store"),
        (tmp_path / "target", "target", "are one place"),
        (tmp_path / "none", "new", "does not exist"),
    ]:
        with pytest.raises(SakiyomiError, match=words) as caught:
            copy(str(source), str(tmp_path / target))
        said(caught)
    assert_same(EpisodeStore(tmp_path / "target"), store)
    assert not (tmp_path / "new").exists()
    with pytest.raises(SakiyomiError, match="two places"):
        copy(str(store.folder), "")


def test_a_store_that_grew_is_completed(tmp_path: Path) -> None:
    source = synthetic.write(tmp_path / "source")
    copy(str(source.folder), str(tmp_path / "target"))
    writer = EpisodeWriter(source.folder, synthetic.STREAMS)
    writer.add("more", synthetic.values(9, 5), synthetic.times(9))
    grown = writer.finish()
    assert copy(str(source.folder), str(tmp_path / "target")).sent == ("more",)
    assert_same(EpisodeStore(tmp_path / "target"), grown)
