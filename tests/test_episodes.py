"""What is recorded is read back, whatever happens in between, and what is wrong is refused in one line."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic

from sakiyomi.data import episodes
from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream
from sakiyomi.errors import SakiyomiError

# Streams at two rates, for episodes whose streams differ in length.
STREAMS = {
    "camera": Stream("image", (4, 6, 3), "uint8", 10.0),
    "joints": Stream("joints", (2,), "float32", 50.0, "rad", ("shoulder", "elbow")),
}


def recording(steps: int = 5, seed: int = 0) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    values = {
        "camera": random.integers(0, 256, (steps, 4, 6, 3), dtype=np.uint8),
        "joints": random.normal(size=(5 * steps, 2)).astype(np.float32),
    }
    return values, {"camera": 3.0 + np.arange(steps) / 10, "joints": 3.0 + np.arange(5 * steps) / 50}


def write(folder: Path, episodes: int = 3) -> EpisodeStore:
    writer = EpisodeWriter(folder, STREAMS)
    for number in range(episodes):
        writer.add(f"e{number}", *recording(5 + number, number))
    return writer.finish()


def verify(store: EpisodeStore) -> None:
    """Read every value of every episode; a damaged one raises."""
    for entry in store.entries:
        for stream in store.streams:
            assert len(store.values(entry.id, stream)) == entry.lengths[stream] == len(store.times(entry.id, stream))


def one_line(caught: pytest.ExceptionInfo[SakiyomiError]) -> str:
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Unequal lengths, each stream on its own clock."""
    writer = EpisodeWriter(tmp_path, STREAMS)
    written = {f"e{n}": recording(4 + 3 * n, n) for n in range(3)}
    for number, (id, (values, times)) in enumerate(written.items()):
        writer.add(id, values, times, split="train" if number else "test", meta={"place": [0.5, number]})
    store = writer.finish()
    assert store.streams == STREAMS
    assert [entry.id for entry in store.split("train")] == ["e1", "e2"]
    assert store.entry("e2").meta == {"place": [0.5, 2]}
    assert store.entry("e2").lengths == {"camera": 10, "joints": 50}
    for id, (values, times) in written.items():
        for stream in STREAMS:
            np.testing.assert_array_equal(store.values(id, stream), values[stream])
            np.testing.assert_array_equal(store.values(id, stream, 1, 3), values[stream][1:3])
            np.testing.assert_array_equal(store.times(id, stream), times[stream])
            assert store.values(id, stream).dtype == values[stream].dtype


def test_an_existing_store_goes_on(tmp_path: Path) -> None:
    write(tmp_path, 2)
    writer = EpisodeWriter(tmp_path, STREAMS)
    assert writer.ids == {"e0", "e1"}
    writer.add("e2", *recording())
    assert [entry.id for entry in writer.finish().entries] == ["e0", "e1", "e2"]


Values = dict[str, np.ndarray]


def set_values(stream: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Values, Values], None]:
    return lambda values, times: values.update({stream: change(values[stream])})


def set_times(stream: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Values, Values], None]:
    return lambda values, times: times.update({stream: change(times[stream])})


def put(index: int, value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array[index] = value
        return array

    return change


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda values, times: values.pop("joints"), ["'joints'", "['camera']", "['camera', 'joints']"]),
        (lambda values, times: times.pop("camera"), ["'camera'"]),
        (set_values("joints", lambda v: v[:, :1]), ["'joints'", "float32 [T, 2]", "float32 [25, 1]"]),
        (set_values("joints", lambda v: v[:, 0]), ["'joints'", "float32 [T, 2]", "float32 [25]"]),
        (set_values("camera", lambda v: v.astype(np.float32)), ["'camera'", "uint8 [T, 4, 6, 3]", "float32"]),
        (set_values("camera", lambda v: v.transpose(0, 3, 1, 2)), ["'camera'", "[T, 4, 6, 3]", "[5, 3, 4, 6]"]),
        (set_values("joints", put(7, np.nan)), ["'joints'", "value 7", "not finite"]),
        (set_values("joints", put(3, -np.inf)), ["'joints'", "value 3", "not finite"]),
        (set_times("joints", lambda t: t[::-1]), ["'joints'", "clock", "value 1"]),
        (set_times("joints", put(4, 0.0)), ["'joints'", "clock", "value 4"]),
        (set_times("joints", lambda t: np.repeat(t[:5], 5)), ["'joints'", "clock", "value 1"]),
        (set_times("joints", put(-1, np.inf)), ["'joints'", "clock", "value 24"]),
        (set_times("camera", put(2, np.nan)), ["'camera'", "clock", "value 2"]),
        (set_times("joints", lambda t: t[:-1]), ["'joints'", "25 values", "[24]"]),
        (set_values("camera", lambda v: v[:0]), ["'camera'", "0 values"]),
    ],
)
def test_a_bad_recording_is_refused(
    tmp_path: Path, spoil: Callable[[Values, Values], object], words: list[str]
) -> None:
    writer = EpisodeWriter(tmp_path, STREAMS)
    writer.add("good", *recording())
    values, times = recording(seed=1)
    spoil(values, times)
    with pytest.raises(SakiyomiError) as caught:
        writer.add("bad", values, times)
    message = one_line(caught)
    for word in ["'bad'", *words]:
        assert word in message
    # Nothing of it stays, and the next one is welcome.
    writer.add("bad", *recording(seed=1))
    store = writer.finish()
    assert [entry.id for entry in store.entries] == ["good", "bad"]
    verify(store)


@pytest.mark.parametrize("id", ["../up", "a/b", "/etc/x", "", ".hidden", "..", "a\\b", "new\nline", "x" * 101, "é"])
def test_ids_stay_in_the_folder(tmp_path: Path, id: str) -> None:
    writer = EpisodeWriter(tmp_path / "store", STREAMS)
    with pytest.raises(SakiyomiError, match="episode id") as caught:
        writer.add(id, *recording())
    one_line(caught)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["dataset.json"]


def test_an_id_is_taken_once(tmp_path: Path) -> None:
    write(tmp_path, 2)
    with pytest.raises(SakiyomiError, match=r"'e1' is in .* already"):
        EpisodeWriter(tmp_path, STREAMS).add("e1", *recording())


def test_folders_that_hold_no_store_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    EpisodeWriter(tmp_path / "empty", STREAMS)
    for name, words in {"none": "does not exist", "other": "no episode store", "empty": "no finished episode"}.items():
        with pytest.raises(SakiyomiError, match=words) as caught:
            EpisodeStore(tmp_path / name)
        assert name in one_line(caught)
    with pytest.raises(SakiyomiError, match="no episode store"):
        EpisodeWriter(tmp_path / "other", STREAMS)
    assert [p.name for p in (tmp_path / "other").iterdir()] == ["thesis.txt"]


def test_a_store_that_never_got_an_episode_may_begin_again(tmp_path: Path) -> None:
    """Else a first command with a slip in it would block the corrected one."""
    EpisodeWriter(tmp_path, STREAMS, {"seed": 1})
    EpisodeWriter(tmp_path, {"joints": STREAMS["joints"]}, {"seed": 2})
    store = EpisodeStore(tmp_path, allow_empty=True)
    assert (set(store.streams), store.origin) == ({"joints"}, {"seed": 2})
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(SakiyomiError, match="no episode store"):
        EpisodeWriter(tmp_path, STREAMS)


def test_a_line_that_was_torn_before_the_first_episode_was_entered_is_dropped(tmp_path: Path) -> None:
    """Else the next line would be glued to it, and the manifest could not be read any more."""
    EpisodeWriter(tmp_path, STREAMS)
    (tmp_path / "manifest.jsonl").write_bytes(b'{"id": "e0", "spl')
    writer = EpisodeWriter(tmp_path, STREAMS)
    writer.add("e1", *recording(5, 0))
    assert [entry.id for entry in writer.finish().entries] == ["e1"]


def test_a_store_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SakiyomiError, match="is a file"):
        EpisodeWriter(tmp_path / "file", STREAMS)


def test_a_store_of_other_streams_or_settings_is_refused(tmp_path: Path) -> None:
    EpisodeWriter(tmp_path, STREAMS, {"seed": 1}).add("e0", *recording(5, 0))
    with pytest.raises(SakiyomiError, match="described otherwise"):
        EpisodeWriter(tmp_path, {"joints": STREAMS["joints"]}, {"seed": 1})
    with pytest.raises(SakiyomiError, match="seed 1 there, 2 asked"):
        EpisodeWriter(tmp_path, STREAMS, {"seed": 2})


@pytest.mark.parametrize("content", [b"", b'{"format": "sakiy', b"[]", b'{"format": "other", "streams": {}}'])
def test_a_half_written_description_is_refused(tmp_path: Path, content: bytes) -> None:
    write(tmp_path)
    (tmp_path / "dataset.json").write_bytes(content)
    with pytest.raises(SakiyomiError, match=r"dataset\.json") as caught:
        EpisodeStore(tmp_path)
    one_line(caught)


def test_unknown_names_suggest_the_near_one(tmp_path: Path) -> None:
    store = write(tmp_path)
    for ask in (lambda: store.values("e0", "joint"), lambda: store.times("e0", "joint")):
        with pytest.raises(SakiyomiError, match="did you mean 'joints'"):
            ask()
    with pytest.raises(SakiyomiError, match="did you mean 'train'"):
        store.split("training")
    with pytest.raises(SakiyomiError, match="known: e0, e1, e2"):
        store.entry("nine")


@pytest.mark.parametrize("file", ["../secret", "/etc/hostname", "episodes/../../secret"])
def test_a_manifest_that_leaves_the_store_is_refused(tmp_path: Path, file: str) -> None:
    write(tmp_path / "store", 1)
    (tmp_path / "secret").write_bytes((tmp_path / "store/episodes/e0.safetensors").read_bytes())
    manifest = tmp_path / "store" / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace("episodes/e0.safetensors", file))
    with pytest.raises(SakiyomiError, match="outside the store") as caught:
        EpisodeStore(tmp_path / "store").values("e0", "joints")
    assert file in one_line(caught)


@pytest.mark.parametrize("cut", [1, 2, 40])
def test_a_torn_last_line_costs_one_episode(tmp_path: Path, cut: int) -> None:
    write(tmp_path)
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-cut])
    assert [entry.id for entry in EpisodeStore(tmp_path).entries] == ["e0", "e1"]
    writer = EpisodeWriter(tmp_path, STREAMS)
    writer.add("e2", *recording(9))  # its file is still there, and is replaced
    store = writer.finish()
    assert [entry.id for entry in store.entries] == ["e0", "e1", "e2"]
    verify(store)


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    manifest = tmp_path / "manifest.jsonl"
    lines = manifest.read_bytes().split(b"\n")
    manifest.write_bytes(b"\n".join([lines[0], lines[1][:30], *lines[2:]]))
    with pytest.raises(SakiyomiError, match=r"manifest\.jsonl, line 2") as caught:
        EpisodeStore(tmp_path)
    one_line(caught)


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_episode_is_refused_and_the_others_are_not(tmp_path: Path, damage: str) -> None:
    write(tmp_path)
    path = tmp_path / "episodes" / "e1.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(content if damage == "flip" else content[:-3])
    store = EpisodeStore(tmp_path)
    with pytest.raises(SakiyomiError, match="damaged") as caught:
        store.values("e1", "joints")
    assert "e1.safetensors" in one_line(caught)
    assert len(store.values("e2", "joints")) == store.entry("e2").lengths["joints"]


def test_only_some_files_stay_open_and_each_is_verified_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 9)
    store = EpisodeStore(tmp_path)
    monkeypatch.setattr(episodes, "OPEN_FILES", 4)
    digested: list[str] = []
    digest = hashlib.file_digest

    def count(file: Any, name: str) -> Any:
        digested.append(Path(file.name).stem)
        return digest(file, name)

    monkeypatch.setattr(hashlib, "file_digest", count)
    held = store.values("e0", "joints")
    for _ in range(3):
        for number in range(9):
            values, times = recording(5 + number, number)
            np.testing.assert_array_equal(store.values(f"e{number}", "camera"), values["camera"])
            np.testing.assert_array_equal(store.times(f"e{number}", "joints"), times["joints"])
            store.values("e2", "joints")  # used all the time, so never closed
            assert len(store._open) <= 4
            assert "e2" in store._open
    assert sorted(digested) == [f"e{number}" for number in range(9)]
    np.testing.assert_array_equal(held, recording(5, 0)[0]["joints"])  # what was read outlives its file
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert maps.read_text().count(str(tmp_path)) <= 4


def test_a_file_that_changed_length_is_refused_when_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    monkeypatch.setattr(episodes, "OPEN_FILES", 1)
    store = EpisodeStore(tmp_path)
    verify(store)
    path = tmp_path / "episodes" / "e0.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SakiyomiError, match="damaged"):
        store.values("e0", "joints")


def test_statistics_are_of_the_training_split_only(store: EpisodeStore) -> None:
    for stream in store.streams:
        values = np.concatenate([store.values(entry.id, stream).astype(float) for entry in store.split("train")])
        values = values.reshape(-1, values.shape[-1])
        found = store.statistics[stream]
        assert found.count == len(values)
        for mine, numpys in (
            (found.low, values.min(0)),
            (found.high, values.max(0)),
            (found.mean, values.mean(0)),
            (found.std, values.std(0)),
        ):
            np.testing.assert_allclose(mine, numpys, rtol=1e-9, atol=1e-12)


def test_statistics_do_not_outlive_a_new_episode(tmp_path: Path) -> None:
    """A crash between a further episode and `finish` must not leave the statistics of the episodes before it."""
    write(tmp_path)
    values, times = recording(seed=9)
    values["joints"] *= 100
    EpisodeWriter(tmp_path, STREAMS).add("far", values, times)
    store = EpisodeStore(tmp_path)
    assert "joints" not in store.statistics or max(store.statistics["joints"].high) == values["joints"].max()


# Below, real processes: one that is killed, and one whose disk is full.

RECORDER = f"""
import itertools, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import synthetic
from sakiyomi.data.episodes import EpisodeWriter

writer = EpisodeWriter(sys.argv[1], synthetic.STREAMS)
print("ready", flush=True)
for number in itertools.count(len(writer.ids)):
    writer.add(str(number), synthetic.values(200, number), synthetic.times(200))
"""


def test_a_killed_recorder_loses_at_most_the_episode_at_hand(tmp_path: Path) -> None:
    """SIGKILL at arbitrary moments, again and again on one store: it always opens, and all entered is whole."""
    before = 0
    for round in range(4):
        process = subprocess.Popen([sys.executable, "-c", RECORDER, str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        manifest = tmp_path / "manifest.jsonl"
        while not manifest.exists() or manifest.read_bytes().count(b"\n") <= before:
            time.sleep(0.001)
        time.sleep(0.013 * round)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        store = EpisodeStore(tmp_path, allow_empty=True)
        assert [entry.id for entry in store.entries] == [str(n) for n in range(len(store.entries))]
        assert len(store.entries) > before
        before = len(store.entries)
        for entry in store.entries:
            for stream, values in synthetic.values(200, int(entry.id)).items():
                np.testing.assert_array_equal(store.values(entry.id, stream), values)


def test_an_episode_that_was_never_entered_is_written_anew(tmp_path: Path) -> None:
    """What a crash between the file's rename and the manifest's line leaves behind."""
    write(tmp_path, 1)
    (tmp_path / "episodes" / "e1.safetensors").write_bytes(b"of a crash")
    (tmp_path / "episodes" / ".e2.safetensors.77.tmp").write_bytes(b"half")
    assert [entry.id for entry in EpisodeStore(tmp_path).entries] == ["e0"]
    writer = EpisodeWriter(tmp_path, STREAMS)
    writer.add("e1", *recording())
    verify(writer.finish())


def test_a_crash_before_the_first_file_does_not_block_the_folder(tmp_path: Path) -> None:
    (tmp_path / ".dataset.json.77.tmp").write_bytes(b"half")
    writer = EpisodeWriter(tmp_path, STREAMS)
    writer.add("e0", *recording())
    verify(writer.finish())


FULL_DISK = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import synthetic
from sakiyomi.data.episodes import EpisodeWriter
from sakiyomi.errors import SakiyomiError

writer = EpisodeWriter(sys.argv[1], synthetic.STREAMS)
limit, note = int(sys.argv[2]), "x" * int(sys.argv[3])
for number in range(3):
    writer.add(str(number), synthetic.values(20, number), synthetic.times(20), meta=dict(note=note))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    writer.add("3", synthetic.values(20, 3), synthetic.times(20), meta=dict(note=note))
except SakiyomiError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize(
    ("limit", "note", "refused"),
    [
        (10_000, 0, "3.safetensors"),
        # Lines of 20 kB and 5 kB: room for the episode, but for a part of its line only.
        (62_000, 20_000, "manifest.jsonl"),
        (72_000, 20_000, "manifest.jsonl"),
        (18_000, 5_000, "manifest.jsonl"),
        (20_500, 5_000, "manifest.jsonl"),
    ],
)
def test_a_disk_that_refuses_keeps_what_is_there(tmp_path: Path, limit: int, note: int, refused: str) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path), str(limit), str(note)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"could not write {tmp_path}" in done.stderr
    assert refused in done.stderr
    store = EpisodeStore(tmp_path)
    assert [entry.id for entry in store.entries] == ["0", "1", "2"]
    verify(store)
    assert not list(tmp_path.rglob("*.tmp"))
    # With room again, the same episode is recorded by the same call.
    writer = EpisodeWriter(tmp_path, synthetic.STREAMS)
    writer.add("3", synthetic.values(20, 3), synthetic.times(20))
    verify(writer.finish())


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SakiyomiError, match="could not write") as caught:
        EpisodeWriter(tmp_path / "file" / "store", STREAMS)
    assert str(tmp_path) in one_line(caught)
