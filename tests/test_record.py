"""Recording live: what comes is what is stored, and whatever ends a recorder, what was kept stays."""

import base64
import io
import json
import os
import re
import shlex
import signal
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import gliding
import numpy as np
import pytest
import recording
import torch
from PIL import Image
from safetensors.numpy import save

from benchmarks.record import PROGRAM, kill_at_lines, kill_at_random
from sakiyomi.data.devices import End, Ticks
from sakiyomi.data.episodes import EpisodeStore, Stream
from sakiyomi.data.feeds import command_device, function_device
from sakiyomi.data.normalize import Normalizer
from sakiyomi.data.recorder import BadSample, Recorder, Sample, locked
from sakiyomi.data.records import DTYPES
from sakiyomi.data.sources.push import replay
from sakiyomi.data.spool import Decision, Header, Spool
from sakiyomi.data.tensors import write_tensors
from sakiyomi.data.windows import Data, Windows, covered_streams
from sakiyomi.errors import SakiyomiError
from sakiyomi.keys import Keys, split_keys
from sakiyomi.motion.character import Moving
from sakiyomi.record import Record, Session, record
from sakiyomi.serve import Stage
from sakiyomi.walk import skeleton_of
from sakiyomi.worlds.pick_cube import HORIZON
from sakiyomi.worlds.push import Push
from sakiyomi.worlds.recorded import STEP, WORLDS, WorldDevice
from sakiyomi.worlds.recorded_character import TURN, recorded_character

NUMBER = {"number": Stream("scalar", (2,), "float32", 100.0, "", ("episode", "frame"))}
HEAD = '{"streams": {"number": {"kind": "scalar", "shape": [2], "dtype": "float32", "rate": 100}}}'


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """A device whose function `frames` has this body."""
    monkeypatch.setattr(sys, "path", [*sys.path])

    def write(body: str) -> str:
        path = tmp_path / "device.py"
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        path.write_text(f"import time\nimport numpy as np\n\n\ndef frames():\n{lines}")
        return f"{path}:frames"

    return write


def program(folder: Path, text: str) -> str:
    """The command that runs this program."""
    path = folder / "program.py"
    path.write_text(text)
    return shlex.join([sys.executable, "-S", str(path)])


def lines(folder: Path, *said: str, then: str = "") -> str:
    """The command of a program that says these lines and then does that."""
    told = "\n".join(said)
    return program(folder, f"import sys, time\nprint({told!r}, flush=True)\n{then}\n")


def until(true: Callable[[], object], seconds: float = 30.0) -> None:
    begin = time.monotonic()
    while not true():
        assert time.monotonic() - begin < seconds
        time.sleep(0.005)


THREE = """
for episode in range(3):
    for frame in range(20):
        yield {"number": [episode, frame], "image": np.full((4, 6, 3), frame, np.uint8)}
    yield "discard" if episode == 1 else "keep"
"""


def test_what_a_function_yields_is_what_is_stored(tmp_path: Path, device: Callable[[str], str]) -> None:
    out = tmp_path / "store"
    store = record(Record(device(THREE), str(out), rate=500, task="count"))
    assert store is not None
    assert [(entry.id, entry.split) for entry in store.entries] == [("00000", "train"), ("00001", "validation")]
    assert store.streams["image"] == Stream("image", (4, 6, 3), "uint8", 500)
    for entry, episode in zip(store.entries, (0, 2), strict=True):
        expected = np.stack([np.full(20, episode), np.arange(20)], 1)
        np.testing.assert_array_equal(store.values(entry.id, "number"), expected)
        np.testing.assert_array_equal(store.values(entry.id, "image")[:, 0, 0, 0], np.arange(20))
        assert entry.meta["task"] == "count"
        assert store.times(entry.id, "number")[0] == 0
    assert store.statistics["number"].count == 20  # of the training split
    assert not (out / ".recording").exists()
    # The same command again goes on, with the next id.
    store = record(Record(device(THREE), str(out), rate=500, episodes=3))
    assert store is not None
    assert [entry.id for entry in store.entries] == ["00000", "00001", "00002"]


def test_an_array_that_is_written_into_again_is_stored_as_it_was(tmp_path: Path, device: Callable[[str], str]) -> None:
    """As cameras do."""
    body = "picture = np.zeros((9, 9, 3), np.uint8)\nfor frame in range(200):\n    picture[:] = frame\n"
    what = device(body + "    yield {'image': picture, 'number': frame}")
    store = record(Record(what, str(tmp_path / "store"), rate=1e5))
    assert store is not None
    np.testing.assert_array_equal(store.values("00000", "image")[:, 4, 4, 1], np.arange(200))


def test_a_robot_that_begins_at_whole_numbers(tmp_path: Path, device: Callable[[str], str]) -> None:
    store = record(
        Record(device("yield {'joints': [0, 0]}\nyield {'joints': [0.5, 1]}"), str(tmp_path / "a"), rate=500)
    )
    assert store is not None
    assert store.streams["joints"].dtype == "float32"
    np.testing.assert_array_equal(store.values("00000", "joints"), [[0, 0], [0.5, 1]])


def test_a_file_may_use_what_lies_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "arm_beside.py").write_text("def read():\n    raise OSError('unplugged')\n")
    head = "from __future__ import annotations\nimport dataclasses\nimport arm_beside\n\n\n@dataclasses.dataclass\n"
    (tmp_path / "robot_beside.py").write_text(
        head + "class Arm:\n    n: int = 0\n\n\ndef frames():\n    yield {'joints': [Arm().n]}\n    arm_beside.read()\n"
    )
    # In which line of theirs, and in which that one called.
    with pytest.raises(SakiyomiError, match=r"unplugged \(robot_beside.py line 13, arm_beside.py line 2\)"):
        record(Record(f"{tmp_path / 'robot_beside.py'}:frames", str(tmp_path / "store"), rate=100))


def test_a_function_may_end_in_order(tmp_path: Path, device: Callable[[str], str]) -> None:
    """Though it is at work when the recording ends."""
    ended = tmp_path / "ended"
    body = "try:\n    while True:\n        yield {'joints': [0]}\n        time.sleep(0.7)\n"
    body += f"finally:\n    open({str(ended)!r}, 'w')"
    assert record(Record(device(body), str(tmp_path / "store"), rate=100, seconds=0.1, episodes=1)) is not None
    assert ended.exists()


def test_a_program_need_not_flush(tmp_path: Path) -> None:
    text = f"import time\nprint({HEAD!r})\nfor n in range(5):\n    time.sleep(0.05)\n"
    text += """    print('{"stream": "number", "value": [0, %d]}' % n)\n"""
    store = record(Record(command=program(tmp_path, text), out=str(tmp_path / "store")))
    assert store is not None
    assert store.times("00000", "number")[-1] > 0.15


def test_a_stream_that_stops_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    streams = json.loads(HEAD)
    streams["streams"]["other"] = {"kind": "scalar", "shape": [], "dtype": "float32", "rate": 100}
    said = [json.dumps({"stream": "number", "value": [0, n], "time": n / 100}) for n in range(200)]
    said += [json.dumps({"stream": "other", "value": n, "time": n / 100}) for n in range(50)]
    record(Record(command=lines(tmp_path, json.dumps(streams), *said), out=str(tmp_path / "store")))
    told = capsys.readouterr().out
    assert (
        "  other: claimed 100 Hz, came 100.0 Hz, 0 late, longest gap 0.01 s (WARNING: nothing in the last 1.5 s)"
        in told
    )
    assert told.count("WARNING") == 1


def test_streams_of_a_program_keep_their_own_clocks(tmp_path: Path) -> None:
    """Stamps of the device where it gives them, arrival where not; rates that differ stay different."""
    streams = json.loads(HEAD)
    streams["streams"]["image"] = {"kind": "image", "shape": [2, 3, 3], "dtype": "uint8", "rate": 25}
    pictures = np.arange(2 * 18, dtype=np.uint8).reshape(2, 2, 3, 3)
    file = io.BytesIO()
    Image.fromarray(pictures[1]).save(file, "PNG")
    packed = ({"raw": pictures[0].tobytes()}, {"png": file.getvalue()})
    said = [json.dumps(streams)]
    stamps = 7000 + np.cumsum(np.random.default_rng(0).uniform(0.001, 0.02, 50))
    for frame, stamp in enumerate(stamps):
        said.append(json.dumps({"stream": "number", "value": [0, frame], "time": stamp}))
        if frame % 25 == 0:
            value = {how: base64.b64encode(content).decode() for how, content in packed[frame // 25].items()}
            said.append(json.dumps({"stream": "image", "value": value}))
    said.append('{"end": "keep", "meta": {"success": true, "place": [1, 2]}}')
    store = record(Record(command=lines(tmp_path, *said), out=str(tmp_path / "store")))
    assert store is not None
    [entry] = store.entries
    np.testing.assert_array_equal(store.values("00000", "image"), pictures)
    np.testing.assert_allclose(store.times("00000", "number"), stamps - stamps[0], atol=1e-9)
    assert entry.lengths == {"number": 50, "image": 2}
    assert entry.meta["clocks"] == {"number": "device", "image": "arrival"}
    assert entry.meta["place"] == [1, 2]
    assert entry.meta["rates"]["number"] == pytest.approx(49 / (stamps[-1] - stamps[0]), abs=1e-3)


def test_a_loop_that_is_slower_than_it_claims_is_told(
    tmp_path: Path, device: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    what = device("for frame in range(12):\n    time.sleep(0.06)\n    yield {'number': [0, frame]}")
    store = record(Record(what, str(tmp_path / "store"), rate=30))
    assert store is not None
    [entry] = store.entries
    came = entry.meta["rates"]["number"]
    assert 3 < came < 17
    assert entry.meta["late"]["number"] == 11
    said = capsys.readouterr().out
    assert f"claimed 30 Hz, came {came:.1f} Hz, 11 late, longest gap" in said
    assert "WARNING" in said


class Clock:
    """One that goes only while somebody sleeps, or is busy."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


def test_a_schedule_does_not_drift_and_counts_what_is_late() -> None:
    clock = Clock()
    ticks = Ticks(30, clock.now, clock.sleep)
    for number in range(1000):
        ticks.wait()
        assert clock.time == pytest.approx(100 + number / 30)
        clock.sleep((0.001, 0.03)[number % 2])
    assert (ticks.late, ticks.lost, ticks.count) == (0, 0, 1000)
    # A stall is not made up for: the ticks that fell into it are lost, the next one is on time again.
    clock = Clock()
    ticks = Ticks(10, clock.now, clock.sleep)
    ticks.wait()
    clock.sleep(0.47)
    ticks.wait()
    assert (clock.time, ticks.late, ticks.lost) == (pytest.approx(100.47), 1, 3)
    ticks.wait()
    assert (clock.time, ticks.late, ticks.lost) == (pytest.approx(100.5), 1, 3)
    assert ticks.told() == "1 of 3 ticks late, 3 lost, at 10 Hz"


def test_kill_9_at_random_moments_loses_at_most_the_episode_at_hand(tmp_path: Path) -> None:
    words = ["--command", program(tmp_path, PROGRAM)]
    random = np.random.default_rng(1)
    store = tmp_path / "store"
    kills = kill_at_random(recording.start, words, store, 3, random, 0.3)
    assert not [kill.wrong for kill in kills if kill.wrong]
    there = kills[-1].episodes
    log = tmp_path / "last.txt"
    assert recording.start([*words, "--out", str(store), "--episodes", str(there + 2)], log).wait() == 0
    assert EpisodeStore(store).statistics["number"].count == 20 * len(EpisodeStore(store).split("train"))


def test_kill_9_before_any_line_loses_at_most_the_episode_at_hand(tmp_path: Path) -> None:
    found = kill_at_lines(tmp_path, every=199)
    assert found["kills"] > 12
    assert not found["wrong"]


def cut_off(tmp_path: Path) -> Path:
    """A store with one episode, and what a killed recorder left of a second one, ten frames."""
    store, log = tmp_path / "store", tmp_path / "log.txt"
    numbers = [json.dumps({"stream": "number", "value": [0, frame]}) for frame in range(10)]
    said = lines(tmp_path, HEAD, *numbers, '{"end": "keep"}', *numbers, then="time.sleep(60)")
    recorder = recording.start(["--command", said, "--out", str(store)], log)
    times = store / ".recording/number.times"
    until(lambda: "kept as 00000" in log.read_text() and times.exists() and times.stat().st_size == 80)
    recorder.kill()
    recorder.wait()
    return store


def test_the_next_start_says_what_it_found_and_may_recover_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = cut_off(tmp_path)
    found = record(Record(out=str(store), recover=True))
    assert found is not None
    assert found.entries[1].meta["cut"]
    np.testing.assert_array_equal(found.values("00001", "number")[:, 1], np.arange(10))
    assert "found an unfinished episode of" in capsys.readouterr().out
    record(Record(out=str(store), recover=True))
    assert "no unfinished episode" in capsys.readouterr().out


def test_remains_are_set_aside_until_the_next_episode_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = cut_off(tmp_path)
    frames = [json.dumps({"stream": "number", "value": [1, frame]}) for frame in range(3)]
    said = lines(tmp_path, HEAD, *frames, '{"end": "discard"}')
    record(Record(command=said, out=str(store)))
    assert "(10 number); set aside" in capsys.readouterr().out
    assert (store / ".unfinished").exists()
    record(Record(command=lines(tmp_path, HEAD, *frames, '{"end": "keep"}'), out=str(store)))
    assert not (store / ".unfinished").exists()
    assert [entry.lengths["number"] for entry in EpisodeStore(store).entries] == [10, 3]


def test_an_episode_that_was_to_be_kept_is_written_by_the_next_start(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with locked(store), Recorder(store, NUMBER, {}) as recorder:
        recorder.add(Sample("number", [0, 0], 1.0))
        recorder.keep({})
    spool = Spool(store / ".recording", Header("00001", 1, "", NUMBER))
    for frame in range(4):
        spool.append("number", np.array([1, frame], np.float32), frame / 10)
    (store / ".recording/number.values").open("ab").write(b"half")  # of a value, as a kill leaves it
    spool.decide(Decision("train", {"success": True}))
    (store / "episodes/.00001.safetensors.1.tmp").write_bytes(b"half of a file")
    with locked(store), Recorder(store, NUMBER, {}) as recorder:
        assert recorder.completed is not None
        assert recorder.completed.meta == {"success": True}
        assert recorder.count == 2
        found = recorder.finish()
    assert found is not None
    np.testing.assert_array_equal(found.values("00001", "number")[:, 1], np.arange(4))
    assert sorted(path.name for path in (store / "episodes").iterdir()) == ["00000.safetensors", "00001.safetensors"]
    assert not (store / ".recording").exists()


def test_one_recorder_at_a_time_and_a_dead_one_is_no_obstacle(tmp_path: Path) -> None:
    store, log = tmp_path / "store", tmp_path / "log.txt"
    said = lines(tmp_path, HEAD, '{"stream": "number", "value": [0, 0]}', then="time.sleep(60)")
    recorder = recording.start(["--command", said, "--out", str(store)], log)
    until(lambda: (store / ".recording/header.json").exists())
    with pytest.raises(SakiyomiError, match=rf"another recorder \(process {recorder.process.pid}\) is writing"):
        record(Record(command=said, out=str(store)))
    recorder.kill()
    recorder.wait()
    with locked(store):
        pass


GONE = {
    "time.sleep(0.2); sys.exit(3)": "ended with status 3",
    "time.sleep(0.2); import os; os.kill(os.getpid(), 9)": "was ended by SIGKILL",
    "time.sleep(60)": r"has sent nothing for \d\.\d s",
}


@pytest.mark.parametrize("then", GONE)
def test_a_device_that_goes_is_told_and_what_was_kept_stays(tmp_path: Path, then: str) -> None:
    numbers = [json.dumps({"stream": "number", "value": [0, frame]}) for frame in range(5)]
    said = lines(tmp_path, HEAD, *numbers, '{"end": "keep"}', *numbers, then=then)
    timeout = 0.5 if "60" in then else 10.0
    with pytest.raises(SakiyomiError, match=f"{GONE[then]}.* holds 1 whole episode$"):
        record(Record(command=said, out=str(tmp_path / "store"), timeout=timeout))
    assert len(EpisodeStore(tmp_path / "store").entries) == 1
    with pytest.raises(SakiyomiError, match=r"holds 3 whole episodes$"):
        record(Record(command=said, out=str(tmp_path / "store"), timeout=timeout, keep="all"))
    store = EpisodeStore(tmp_path / "store")
    assert [entry.meta.get("cut", False) for entry in store.entries] == [False, False, True]
    assert store.statistics["number"].count > 0


def test_a_function_that_fails_or_ends_too_early_is_told(tmp_path: Path, device: Callable[[str], str]) -> None:
    with pytest.raises(SakiyomiError, match=r"failed: OSError: unplugged.* holds 0 whole episodes"):
        record(Record(device("yield {'number': [0, 0]}\nraise OSError('unplugged')"), str(tmp_path / "a"), rate=100))
    with pytest.raises(SakiyomiError, match="no more after 2 of 5 episodes"):
        record(Record(device(THREE), str(tmp_path / "b"), rate=500, episodes=5))


BAD = {
    '{"stream": "number", "value": [0, NaN]}': "is no JSON",
    '{"stream": "number", "value": [0, 1e99]}': r"sample 3 of stream 'number': channel 1 .*is 1e\+99",
    '{"stream": "number", "value": [0]}': r"sample 3 of stream 'number' has shape \[1\], expected \[2\]",
    '{"stream": "number", "value": ["a", "b"]}': "is of type <U1",
    '{"stream": "number", "value": [[1, 2], [3]]}': "is no array",
    '{"stream": "numbr", "value": [0, 3]}': "did you mean 'number'",
    '{"stream": "number", "value": [0, 3], "time": 5}': "has a time, unlike those before",
    '{"stream": "number", "value": {"raw": "AAAA"}}': "its raw has 3 bytes",
    '{"stream": "number", "value": {"png": "AAAA"}}': "no PNG or JPEG",
    "Warning: low battery": "is no JSON",
    '{"stream": "number", "value": [0, 3], "time": 1' + "0" * 400 + "}": "no number of seconds",
    "[" * 10_000: "is no JSON: maximum recursion depth",
    '{"end": "perhaps"}': "one of keep, discard, end",
    "[1, 2]": 'has neither "stream"',
}


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad[:60])
def test_a_bad_sample_ends_its_episode_and_not_the_recording(
    tmp_path: Path, bad: str, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = [json.dumps({"stream": "number", "value": [0, frame]}) for frame in range(6)]
    said = lines(tmp_path, HEAD, *frames[:3], bad, *frames[4:], '{"end": "keep"}', *frames, '{"end": "keep"}')
    store = record(Record(command=said, out=str(tmp_path / "store")))
    assert store is not None
    # Neither what came before it nor what was left of that episode is kept.
    assert [entry.lengths["number"] for entry in store.entries] == [6]
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("bad sample")]
    assert len(told) == 1
    assert re.search(BAD[bad], told[0])


def test_clocks_that_run_backwards_and_values_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    streams = {"step": Stream("scalar", (), "uint8", 10.0)}
    with locked(tmp_path / "store"), Recorder(tmp_path / "store", streams, {}) as recorder:
        recorder.add(Sample("step", 3, 1.0, 50.0))
        recorder.add(Sample("step", np.int64(255), 1.2, 50.1))
        for sample, told in (
            (Sample("step", 4, 1.3, 50.1), "does not run forwards"),
            (Sample("step", 4, 1.3), "lacks a time"),
            (Sample("step", 4, 1.3, float("nan")), "its time is nan"),
            (Sample("step", 256, 1.3, 50.2), "more than uint8 can"),
            (Sample("step", 4.0, 1.3, 50.2), "of type float64, expected uint8"),
        ):
            with pytest.raises(BadSample, match=told):
                recorder.add(sample)
        entry = recorder.keep({})
    store = EpisodeStore(tmp_path / "store")
    np.testing.assert_array_equal(store.values(entry.id, "step"), [3, 255])
    np.testing.assert_allclose(store.times(entry.id, "step"), [0.0, 0.1])


def test_an_endless_fault_ends_the_recording(tmp_path: Path, device: Callable[[str], str]) -> None:
    with pytest.raises(SakiyomiError, match="10 bad samples one after the other"):
        record(Record(device("yield {'a': 1}\nwhile True:\n    yield {'b': 1}"), str(tmp_path / "store"), rate=1000))


def test_a_stream_that_never_comes_discards_the_episode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = HEAD[:-2] + ', "other": {"kind": "scalar", "shape": [], "dtype": "int64", "rate": 1}}}'
    said = lines(tmp_path, head, '{"stream": "number", "value": [0, 0]}', '{"end": "keep"}')
    assert record(Record(command=said, out=str(tmp_path / "store"))) is None
    assert "stream 'other' never came" in capsys.readouterr().out


def test_a_full_disk_is_told_and_what_fitted_is_recovered(tmp_path: Path) -> None:
    """No file may grow over a limit, so that writing fails in the middle of the second episode."""
    store, log = tmp_path / "store", tmp_path / "log.txt"
    text = PROGRAM.replace("range(20)", "range(20 if episode == 0 else 400)").replace("while True", "for _ in range(2)")
    words = ["--command", program(tmp_path, text), "--out", str(store)]
    assert recording.start(words, log, largest=100_000).wait() == 1
    assert "File too large; what was written before is kept" in log.read_text()
    assert "holds 1 whole episode; the" in log.read_text()
    assert [entry.lengths["image"] for entry in EpisodeStore(store).entries] == [20]
    assert recording.start([*words[2:], "--recover"], log).wait() == 0
    found = EpisodeStore(store)
    assert [entry.lengths["image"] for entry in found.entries] == [20, 100_000 // (16 * 16 * 3)]
    np.testing.assert_array_equal(
        found.values("00001", "image")[:, 0, 0, 0], 1 + np.arange(found.entries[1].lengths["image"])
    )


def test_an_episode_that_was_kept_on_a_full_disk_is_written_when_there_is_room(tmp_path: Path) -> None:
    """What comes fits, but not the file it becomes."""
    store, log = tmp_path / "store", tmp_path / "log.txt"
    text = PROGRAM.replace("range(20)", "range(20 if episode == 0 else 127)").replace("while True", "for _ in range(2)")
    words = ["--command", program(tmp_path, text), "--out", str(store)]
    assert recording.start(words, log, largest=100_000).wait() == 1
    assert "episodes/00001.safetensors: File too large" in log.read_text()
    assert len(EpisodeStore(store).entries) == 1
    assert recording.start([*words[2:], "--recover"], log).wait() == 0
    assert "an episode that was kept, but not yet written, is now: 00001" in log.read_text()
    [_, entry] = EpisodeStore(store).entries
    assert entry.lengths["image"] == 127
    assert "cut" not in entry.meta


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_finishes_the_store(tmp_path: Path, sent: signal.Signals) -> None:
    """And so do those who ask it to end otherwise."""
    store, log = tmp_path / "store", tmp_path / "log.txt"
    frames = [json.dumps({"stream": "number", "value": [0, frame]}) for frame in range(6)]
    said = lines(tmp_path, HEAD, *frames, '{"end": "keep"}', *frames, then="time.sleep(60)")
    recorder = recording.start(["--command", said, "--out", str(store)], log)
    until(lambda: "kept as" in log.read_text() and (store / ".recording/header.json").exists())
    assert recorder.process.pid is not None
    os.kill(recorder.process.pid, sent)
    assert recorder.wait() == 130
    assert "holds 1 whole episode" in log.read_text()
    assert EpisodeStore(store).statistics["number"].count == 6
    assert not (store / ".recording").exists()


def test_keys_keep_discard_and_stop(tmp_path: Path, device: Callable[[str], str]) -> None:
    store, log = tmp_path / "store", tmp_path / "log.txt"
    what = device("for frame in range(10 ** 6):\n    yield {'number': [0, frame]}")
    keyboard, terminal = os.openpty()
    recorder = recording.start([what, "--rate", "200", "--out", str(store)], log, os.ttyname(terminal))

    def press(key: bytes, told: str, times: int = 1) -> None:
        os.write(keyboard, key)
        until(lambda: log.read_text().count(told) == times)

    until(lambda: "episode 0: recording" in log.read_text())
    press(b"\r", "kept as 00000")
    press(b"\x7f", "discarded")
    press(b"xy\r", "kept as 00001")
    os.write(keyboard, b"q")
    assert recorder.wait() == 0
    assert len(EpisodeStore(store).entries) == 2
    starts = [EpisodeStore(store).values(entry.id, "number")[0, 1] for entry in EpisodeStore(store).entries]
    assert starts[0] == 0
    assert starts[1] > 0  # the device did not begin anew
    os.close(keyboard)
    os.close(terminal)


def test_the_end_of_an_episode_is_asked_about(tmp_path: Path, device: Callable[[str], str]) -> None:
    """What comes while nobody has answered is not recorded, nor is the rest of an episode that began meanwhile."""
    body = "for length in (5, 150, 7):\n    for frame in range(length):\n        yield {'number': [length, frame]}\n"
    what = device(body + "    yield 'end'\n")
    store, log = tmp_path / "store", tmp_path / "log.txt"
    keyboard, terminal = os.openpty()
    recorder = recording.start([what, "--rate", "100", "--out", str(store)], log, os.ttyname(terminal))
    until(lambda: "keep it?" in log.read_text())
    time.sleep(0.3)  # the second one goes on
    os.write(keyboard, b" ")
    until(lambda: log.read_text().count("keep it?") == 2)
    assert "discarded (cut off" in log.read_text()
    os.write(keyboard, b"\r")
    assert recorder.wait() == 0
    assert [entry.lengths["number"] for entry in EpisodeStore(store).entries] == [5, 7]
    os.close(keyboard)
    os.close(terminal)


def test_the_expert_in_a_world_is_recorded_and_trains(tmp_path: Path) -> None:
    out = str(tmp_path / "store")
    store = record(Record("pick", out, drive="expert", episodes=4, image_size=16, task="pick up the cube"))
    assert store is not None
    first = store.entries[0]
    assert first.lengths == dict.fromkeys(("image", "joints", "command", "cube"), HORIZON)
    assert [entry.meta["attempt"] for entry in store.entries] == sorted({e.meta["attempt"] for e in store.entries})
    assert all(entry.meta["success"] for entry in store.entries)
    np.testing.assert_allclose(store.times(first.id, "image"), np.arange(HORIZON) / 10, atol=1e-9)
    streams = ("image", "joints")
    normalizer = Normalizer.fit(store, covered_streams(store, streams))
    batch = Windows(store, "train", Data(out, steps=10), streams, normalizer).draw(0, 0, 3)
    assert batch.inputs["image"].shape == (3, 10, 3, 16, 16)
    assert batch.targets["joints"].shape == (3, 10, 8)
    assert batch.mask.all()


@pytest.fixture
def keyboard() -> Iterator[tuple[int, Keys]]:
    """Where to write keys, and where they come out."""
    ours, terminal = os.openpty()
    with os.fdopen(terminal) as file, Keys(file) as keys:
        yield ours, keys
    os.close(ours)


def driven(world: str, ours: int, keys: Keys, press: Callable[[WorldDevice, int], str]) -> tuple[list[Sample], End]:
    """One episode by keys: what to press at each tick (nothing at ""; "end" to end it), what was recorded, and how it
    ended."""
    device = WorldDevice(WORLDS[world](16), "keyboard", keys, 2000.0)
    samples, tick = [], 0
    for event in device.events():
        if isinstance(event, End):
            device.close()
            return samples, event
        assert isinstance(event, Sample)
        samples.append(event)
        if event.stream in ("cube", "objects"):  # the last of a tick
            pressed, tick = press(device, tick), tick + 1
            if pressed == "end":
                device.end()
            else:
                os.write(ours, pressed.encode())
    raise AssertionError("it never ended")


def test_a_person_at_the_keys_can_pick_up_the_cube(keyboard: tuple[int, Keys]) -> None:
    plan: list[str] = []

    def press(device: WorldDevice, tick: int) -> str:
        if tick == 0:
            world = device.how.world
            x, y, z = (world.cube_position - world.data.site("tool").xpos) / STEP
            plan.extend("w" * round(x) + "s" * round(-x) + "a" * round(y) + "d" * round(-y) + "f" * round(-z))
            plan.extend(["", "", "", " ", "", "", "", "", *"r" * 10, *[""] * 8, "end"])
        return plan[tick]

    samples, end = driven("pick", *keyboard, press)
    assert end.keep is None
    assert end.meta["success"]
    streams = Counter(sample.stream for sample in samples)
    assert streams == dict.fromkeys(("image", "joints", "command", "cube"), len(plan))
    commands = np.stack([sample.value for sample in samples if sample.stream == "command"])
    # The gripper stays as it was left; where nothing is pressed, nothing is commanded to move.
    closes = plan.index(" ") + 1
    assert (commands[:closes, 7] == np.float32(0.08)).all()
    assert (commands[closes:, 7] == 0).all()
    np.testing.assert_array_equal(commands[closes], commands[closes + 1])


def test_keys_push(keyboard: tuple[int, Keys]) -> None:
    plan = ["ww", "", "", "\x1b[A", "", "", "r", "", "zz", "", "end"]
    samples, end = driven("push", *keyboard, lambda device, tick: plan[tick])
    assert end.keep is None
    actions = np.stack([sample.value for sample in samples if sample.stream == "action"])
    expected = np.zeros((len(plan), 4))
    expected[1, 0], expected[4, 0], expected[7, 2], expected[9, 3] = 0.03, 0.015, 0.015, 0.2
    np.testing.assert_allclose(actions, expected, atol=1e-6)
    times = [sample.stamp or 0.0 for sample in samples if sample.stream == "action"]
    np.testing.assert_allclose(times, np.arange(len(plan)) / 5)
    # It can be lived through again, to try other moves.
    world = Push(image_size=16)
    observation, _ = replay(world, end.meta, actions[:-1])
    world.close()
    images = [sample.value for sample in samples if sample.stream == "image"]
    np.testing.assert_array_equal(observation["image"], images[-1])


class Stick:
    """Steers the gliding body: it turns towards the heading, and takes on the speed."""

    def act(self, moving: Moving, goal: dict[str, torch.Tensor]) -> torch.Tensor:
        turn = torch.remainder(goal["heading"] - moving.place[:, 2] + torch.pi, 2 * torch.pi) - torch.pi
        speed = (goal["speed"] - gliding.SPEED) / gliding.SPEED_DEVIATION
        return torch.stack((speed, (4 * turn).clamp(-4, 4) / gliding.TURN_DEVIATION), -1)


def test_a_character_goes_where_keys_and_the_script_tell_it(tmp_path: Path, keyboard: tuple[int, Keys]) -> None:
    ours, keys = keyboard
    how = recorded_character(Stage("glider", gliding.gliding(), {"joystick": Stick()}))
    device = WorldDevice(how, "keyboard", keys, 1000.0)
    seen: dict[str, list[np.ndarray]] = {"pose": [], "place": [], "goal": []}
    for event in device.events():
        if isinstance(event, End):
            break
        assert isinstance(event, Sample)
        seen[event.stream].append(event.value)
        if event.stream == "goal" and len(seen["goal"]) == 5:
            os.write(ours, b"ddd")
        if event.stream == "goal" and len(seen["goal"]) == 60:
            device.end()
    goals, places = np.stack(seen["goal"]), np.stack(seen["place"])
    np.testing.assert_allclose(goals[-1, 0] - goals[0, 0], 3 * TURN, atol=1e-6)
    np.testing.assert_allclose(places[-1, 2] - places[0, 2], 3 * TURN, atol=0.05)  # it has turned
    # The script: without end, so `--seconds` ends it; what it recorded is a motion as any other.
    with locked(tmp_path / "store"), Recorder(tmp_path / "store", how.streams, how.origin) as recorder:
        args = Record("glider", drive="expert", episodes=2, seconds=3.0)
        Session(args, WorldDevice(how, "expert", keys), recorder, Keys(None), lambda: False).run()
        store = recorder.finish()
    assert store is not None
    entry = store.entries[0]
    assert entry.lengths == dict.fromkeys(("pose", "place", "goal"), 91)
    poses, places = store.values(entry.id, "pose"), store.values(entry.id, "place")
    assert skeleton_of(store) == gliding.SKELETON
    way = np.hypot(*np.diff(places[:, :2], axis=0).T)
    np.testing.assert_allclose(way * gliding.RATE, np.hypot(*poses[1:, :2].T), atol=1e-3)
    other = store.values(store.entries[1].id, "goal")
    assert not np.array_equal(store.values(entry.id, "goal"), other)


def test_a_character_that_nothing_steers_takes_no_keys(keyboard: tuple[int, Keys]) -> None:
    device = WorldDevice(recorded_character(Stage("glider", gliding.gliding(), {})), "keyboard", keyboard[1])
    with pytest.raises(SakiyomiError, match="nothing steers this character"):
        next(device.events())


def test_keys_have_names() -> None:
    assert split_keys(b"wA\x1b[A\x1b[D \r\x7f\x1b[5\xff") == ["w", "a", "up", "left", "space", "enter", "backspace"]


def test_a_long_episode_needs_little_memory(tmp_path: Path) -> None:
    streams = {"image": Stream("image", (64, 64, 3), "uint8", 30.0)}
    frame = np.zeros((64, 64, 3), np.uint8)
    with locked(tmp_path / "store"), Recorder(tmp_path / "store", streams, {}) as recorder:
        tracemalloc.start()
        for number in range(3000):
            frame[:] = number % 256
            recorder.add(Sample("image", frame, number / 30))
        entry = recorder.keep({})
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert entry.bytes > 3000 * frame.nbytes
    assert peak < entry.bytes / 10
    assert EpisodeStore(tmp_path / "store").values(entry.id, "image")[:, 5, 5, 1].tolist() == [
        number % 256 for number in range(3000)
    ]


def test_tensors_are_written_as_the_library_writes_them(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    tensors = {f"{kind}{i}": (random.random((3, i + 1)) * 100).astype(kind) for kind in DTYPES for i in range(2)}
    tensors |= {'a "b"\n': np.zeros((0, 2)), "one": np.array(3.0)}
    written = write_tensors(tmp_path / "new/folder/file", tensors)
    content = (tmp_path / "new/folder/file").read_bytes()
    assert content == save(tensors)
    assert written.bytes == len(content)
    with pytest.raises(SakiyomiError, match="complex128"):
        write_tensors(tmp_path / "file", {"a": np.zeros(2, complex)})


REFUSED = {
    "name what to record": Record(),
    "did you mean 'pick'": Record("pik"),
    "both given": Record("pick", command="cat"),
    "needs a terminal": Record("pick"),
    "does not exist": Record("nowhere.py:frames"),
    "cannot be imported": Record("no_such_module:frames"),
    "unknown function 'nothing'": Record("math:nothing"),
    "it takes nothing and yields": Record("math:sin"),
    "cannot be started": Record(command="no-such-program"),
    "ended before its first sample": Record(command="true"),
    "first it must tell its streams": Record(command="""echo '{"stream": "a", "value": 1}'"""),
    "tells its streams wrongly": Record(command="""echo '{"streams": {"a": {"kind": "smell"}}}'"""),
    "it must be more than 0": Record(command="echo '" + HEAD.replace("100", "0") + "'"),
    "no array is": Record(command="echo '" + HEAD.replace("float32", "object") + "'"),
    "use letters": Record(command="echo '" + HEAD.replace("number", "../x") + "'"),
    "leave it away": Record(command="true", rate=5),
    "did you mean 'validation'": Record(command="true", split="valdation"),
    "--timeout is 0": Record("math:sin", timeout=0),
    "at least 0": Record("pick", episodes=-1),
}


@pytest.mark.parametrize("told", REFUSED)
def test_what_cannot_be_recorded_is_refused_and_leaves_nothing(
    tmp_path: Path, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SakiyomiError, match=told):
        record(REFUSED[told])
    assert not list(tmp_path.rglob("*.jsonl"))


def test_a_function_that_does_not_say_how_often_is_refused(tmp_path: Path, device: Callable[[str], str]) -> None:
    with pytest.raises(SakiyomiError, match="--rate how often"):
        function_device(device("yield {'number': [0, 0]}"), 1.0, 0.0)


def test_a_program_is_ended_with_the_recording(tmp_path: Path) -> None:
    feed = command_device(lines(tmp_path, HEAD, then="time.sleep(60)"), 1.0)
    begin = time.monotonic()
    feed.close()
    assert time.monotonic() - begin < 10
