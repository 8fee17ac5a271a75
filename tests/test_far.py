"""Stores far away: what is there is read as if it were here, whatever was interrupted or damaged.

The object store is a real server (moto's S3) on this machine, spoken to by s3fs; the web server is Python's own.
"""

import functools
import http.server
import multiprocessing
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic
import torch
from far_away import IDS, MINE, Sent, assert_same, said

from sakiyomi.check import Check, Unreadable, check
from sakiyomi.copying import Copied, copy
from sakiyomi.data import far
from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter
from sakiyomi.data.normalize import Normalizer
from sakiyomi.data.windows import Data, Windows, covered_streams
from sakiyomi.errors import SakiyomiError, Unreachable
from sakiyomi.job import Job, Train
from sakiyomi.models import JointRNN
from sakiyomi.rollout import picture_size
from sakiyomi.run import read_tensors
from sakiyomi.schedules import Weight
from sakiyomi.train import train

pytestmark = pytest.mark.usefixtures("own_cache")
OPEN = '{"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::*"}]}'


# Reading.


def test_a_store_in_a_bucket_is_read_as_one_here(store: EpisodeStore, bucket: Any) -> None:
    copied = copy(str(store.folder), "s3://bucket/a/store")
    assert copied == Copied(5, sum(entry.bytes for entry in store.entries), IDS)
    assert_same(EpisodeStore("s3://bucket/a/store"), store)
    assert_same(EpisodeStore(Path("s3://bucket/a/store")), store)  # a Path swallows a slash; it is given back
    assert_same(EpisodeStore("s3://bucket/a/store/"), store)


def test_windows_of_a_far_store_are_those_of_the_near_one(store: EpisodeStore, bucket: Any) -> None:
    copy(str(store.folder), "s3://bucket/store")
    batches = []
    for place in ("s3://bucket/store", str(store.folder)):
        opened = EpisodeStore(place)
        normalizer = Normalizer.fit(opened, covered_streams(opened, ("image", "joints")))
        windows = Windows(opened, "train", Data(place, steps=5), ("image", "joints"), normalizer)
        batches.append(windows.draw(0, 0, 8))
    assert all((batches[0].inputs[name] == batches[1].inputs[name]).all() for name in ("image", "joints"))


def test_training_on_a_far_store_is_training_on_the_near_one(store: EpisodeStore, bucket: Any, tmp_path: Path) -> None:
    copy(str(store.folder), "s3://bucket/store")
    learned = []
    for name, place in {"far": "s3://bucket/store", "near": str(store.folder)}.items():
        how = Train(steps=3, batch_size=2, validate_every=3, losses={"joints": Weight(1.0)})
        job = Job(JointRNN.Config(joints=3, hidden=8), Data(place), train=how)
        train(job, tmp_path / name)
        assert picture_size(job) == 16
        learned.append(read_tensors(tmp_path / name / "weights.safetensors")[1])
    assert all(torch.equal(learned[0][key], learned[1][key]) for key in learned[1])


@pytest.mark.parametrize("form", ["memory://{name}", "file://{path}", "file:{path}"])
def test_other_addresses(tmp_path: Path, store: EpisodeStore, form: str) -> None:
    if "memory" in form:
        pytest.importorskip("fsspec")
    address = form.format(name=tmp_path.name, path=tmp_path / "a store")
    copy(str(store.folder), address)
    assert_same(EpisodeStore(address), store)
    assert (tmp_path / "a store").exists() == ("file" in form)


def test_a_web_server_that_sends_parts(store: EpisodeStore, bucket: Any, server: str) -> None:
    copy(str(store.folder), "s3://bucket/store")
    with pytest.raises(SakiyomiError, match=r"403.*say who you are"):
        EpisodeStore(f"{server}/bucket/store")
    bucket.call_s3("put_bucket_policy", Bucket="bucket", Policy=OPEN)
    assert_same(EpisodeStore(f"{server}/bucket/store"), store)
    bucket.call_s3("delete_bucket_policy", Bucket="bucket")


@pytest.fixture
def web(store: EpisodeStore) -> Iterator[str]:
    """The address of a server that knows no parts of files."""
    pytest.importorskip("aiohttp", reason="needs aiohttp: pip install 'sakiyomi[far]'")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=store.folder)) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_web_server_that_sends_files_whole(
    store: EpisodeStore, web: str, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(far, "CHUNK", 1000)
    assert_same(EpisodeStore(web), store)
    (own_cache / "episodes").rename(own_cache / "before")
    (own_cache / "episodes").mkdir()
    entry = store.entry("1")
    content = (store.folder / entry.file).read_bytes()
    (own_cache / "episodes" / f".{entry.sha256}.safetensors.part").write_bytes(content[:5000])
    np.testing.assert_array_equal(EpisodeStore(web).values("1", "image"), store.values("1", "image"))
    with pytest.raises(SakiyomiError, match="can be read only"):
        copy(str(store.folder), web)
    with pytest.raises(SakiyomiError, match="there is no dataset"):
        EpisodeStore(f"{web}/episodes")


# The cache.


def test_an_episode_comes_once_and_only_when_used(
    store: EpisodeStore, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy(str(store.folder), "s3://bucket/store")
    count = Sent(monkeypatch)
    for _ in range(2):
        opened = EpisodeStore("s3://bucket/store")
        opened.values("2", "joints")
        opened.values("2", "image")
    assert count.asked == [("2", 0)]


def test_a_fetch_goes_on_where_it_stopped(
    store: EpisodeStore, bucket: Any, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy(str(store.folder), "s3://bucket/store")
    monkeypatch.setattr(far, "CHUNK", 1000)
    entry = store.entry("1")
    whole = (store.folder / entry.file).read_bytes()
    came = 0

    def stop(bytes: int) -> None:
        nonlocal came
        came += bytes
        if came >= 3000:
            raise KeyboardInterrupt

    target = own_cache / "episodes" / f"{entry.sha256}.safetensors"
    with pytest.raises(KeyboardInterrupt):
        far.fetch(far.locate("s3://bucket/store"), entry, target, stop)
    part = target.with_name(f".{target.name}.part")
    assert part.read_bytes() == whole[: part.stat().st_size]
    assert 3000 <= part.stat().st_size < len(whole)
    count, begun = Sent(monkeypatch), part.stat().st_size
    np.testing.assert_array_equal(EpisodeStore("s3://bucket/store").values("1", "joints"), store.values("1", "joints"))
    assert count.asked == [("1", begun)]
    assert target.read_bytes() == whole
    assert not part.exists()


def test_what_came_wrong_before_is_fetched_anew(
    store: EpisodeStore, bucket: Any, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy(str(store.folder), "s3://bucket/store")
    entry = store.entry("1")
    part = own_cache / "episodes" / f".{entry.sha256}.safetensors.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"\0" * 3000)
    count = Sent(monkeypatch)
    np.testing.assert_array_equal(EpisodeStore("s3://bucket/store").values("1", "joints"), store.values("1", "joints"))
    assert count.asked == [("1", 3000), ("1", 0)]


def test_the_cache_keeps_to_its_bound(
    store: EpisodeStore, bucket: Any, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy(str(store.folder), "s3://bucket/store")
    sizes = {entry.id: entry.bytes for entry in store.entries}
    monkeypatch.setenv("SAKIYOMI_CACHE_GB", str((sizes["0"] + sizes["1"] + sizes["2"]) / 1e9))
    names = {entry.sha256: entry.id for entry in store.entries}
    opened = EpisodeStore("s3://bucket/store")
    for id in ("0", "1", "0", "2", "3", "0"):
        np.testing.assert_array_equal(opened.values(id, "image"), store.values(id, "image"))
        if id == "0":
            opened = EpisodeStore("s3://bucket/store")
        kept = {names[path.stem]: path.stat().st_size for path in (own_cache / "episodes").glob("*.safetensors")}
        assert id in kept
        assert sum(kept.values()) <= sizes["0"] + sizes["1"] + sizes["2"]
        maps = Path("/proc/self/maps")  # what is removed is closed, too, or it would go on taking its room
        assert not maps.exists() or f"{own_cache} (deleted)" not in maps.read_text()
    assert set(kept) >= {"0", "3"}
    assert "1" not in kept  # used least recently


def test_a_copy_in_the_cache_that_went_bad_is_fetched_anew(store: EpisodeStore, bucket: Any, own_cache: Path) -> None:
    copy(str(store.folder), "s3://bucket/store")
    EpisodeStore("s3://bucket/store").values("1", "image")
    (cached,) = (own_cache / "episodes").glob("*.safetensors")
    content = cached.read_bytes()
    for wrong in (content[:-9], content[:-3] + b"\x77" + content[-2:]):
        cached.write_bytes(wrong)
        np.testing.assert_array_equal(
            EpisodeStore("s3://bucket/store").values("1", "image"), store.values("1", "image")
        )
        assert cached.read_bytes() == content


def test_without_a_cache_nothing_far_is_called_damaged(
    store: EpisodeStore, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repair would leave out what is whole."""
    copy(str(store.folder), "s3://bucket/store")
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SAKIYOMI_CACHE", str(tmp_path / "file"))
    with pytest.raises(Unreachable, match="SAKIYOMI_CACHE"):
        EpisodeStore("s3://bucket/store").values("1", "image")
    with pytest.raises(Unreadable, match="SAKIYOMI_CACHE"):
        check(Check("s3://bucket/store", str(tmp_path / "page.html"), str(tmp_path / "repaired")))
    assert not (tmp_path / "repaired").exists()


def test_a_process_waits_for_another_that_fetches_the_same(store: EpisodeStore, tmp_path: Path) -> None:
    """And does not fetch it again."""
    entry, target = store.entry("1"), tmp_path / "fetched"
    fork = multiprocessing.get_context("fork")
    begun, asked = fork.Event(), fork.Value("i", 0)

    def slowly(bytes: int) -> None:
        if bytes:
            asked.value += 1
            begun.set()
            time.sleep(0.3)

    running = [fork.Process(target=far.fetch, args=(far.locate(store.folder), entry, target, slowly)) for _ in range(3)]
    running[0].start()
    assert begun.wait(20)
    for process in running[1:]:
        process.start()
    for process in running:
        process.join()
        assert process.exitcode == 0
    assert target.read_bytes() == (store.folder / entry.file).read_bytes()
    assert asked.value == 1


# What is wrong far away.


def test_a_damaged_episode_far_away_is_refused_and_the_others_are_not(store: EpisodeStore, bucket: Any) -> None:
    copy(str(store.folder), "s3://bucket/store")
    for id, content in {"0": b"short", "1": bytes(store.entry("1").bytes)}.items():
        bucket.pipe_file(f"bucket/store/{store.entry(id).file}", content)
    bucket.rm_file(f"bucket/store/{store.entry('2').file}")
    opened = EpisodeStore("s3://bucket/store")
    for id, words in {"0": "5 found", "1": "sha256 is not the manifest's", "2": "does not exist"}.items():
        with pytest.raises(SakiyomiError, match=words) as caught:
            opened.values(id, "joints")
        assert f"s3://bucket/store/episodes/{id}.safetensors" in said(caught)
    np.testing.assert_array_equal(opened.values("3", "joints"), store.values("3", "joints"))


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("s3://bucket/nothing", "no such bucket"),
        ("s3://no-such-bucket/store", "no such bucket"),
        ("nonsense://bucket/store", "unknown kind of address 'nonsense'"),
        ("http://127.0.0.1:1/store", "see to the address"),
    ],
)
def test_what_cannot_be_found_is_told(bucket: Any, address: str, words: str) -> None:
    with pytest.raises(SakiyomiError, match=words) as caught:
        EpisodeStore(address)
    assert address in said(caught)


def test_a_missing_bucket_is_not_made(store: EpisodeStore, bucket: Any) -> None:
    with pytest.raises(SakiyomiError, match="make it first"):
        copy(str(store.folder), "s3://mistyped/store")
    assert not bucket.exists("mistyped")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fsspec")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    for name in ("s3", "s3a"):  # as if it had never been loaded
        monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, name, raising=False)
    with pytest.raises(SakiyomiError, match=r"pip install 'sakiyomi\[far\]'"):
        EpisodeStore("s3://bucket/store")


def test_who_does_not_say_who_he_is_is_told_how(bucket: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in MINE:
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    type(bucket).clear_instance_cache()
    try:
        with pytest.raises(SakiyomiError, match="AWS_ACCESS_KEY_ID"):
            EpisodeStore("s3://bucket/store")
    finally:
        type(bucket).clear_instance_cache()


def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(far, "PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begin = time.monotonic()
        with pytest.raises(SakiyomiError, match="does not answer in time"):
            EpisodeStore(f"http://127.0.0.1:{silent.getsockname()[1]}/store")
    assert time.monotonic() - begin < 10


def test_nothing_is_recorded_far_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for address in ("s3://bucket/store", Path("s3://bucket/store")):
        with pytest.raises(SakiyomiError, match="sakiyomi prepare copy FOLDER s3://bucket/store"):
            EpisodeWriter(address, synthetic.STREAMS)
    assert not list(tmp_path.iterdir())
