"""Recordings on the command line as a user meets them: brought along, looked after, carried about, taken away again."""

import sys
from pathlib import Path

import numpy as np
import pytest

from sakiyomi.__main__ import main
from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream

RATE, STEPS = 10.0, 30


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of six short recordings, in the folder where the user stands."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    streams = {
        "image": Stream("image", (32, 32, 3), "uint8", RATE),
        "joints": Stream("joints", (3,), "float32", RATE, "rad", ("base", "elbow", "wrist")),
        "command": Stream("joints", (3,), "float32", RATE, "rad", ("base", "elbow", "wrist")),
    }
    writer = EpisodeWriter(tmp_path / "data/mine", streams)
    clock = np.arange(STEPS) / RATE
    for number in range(6):
        way = random.uniform(-1, 1, 3) * np.sin(clock[:, None] * random.uniform(0.5, 1, 3) + random.uniform(0, 6, 3))
        joints = (way + random.normal(0, 0.01, way.shape)).astype(np.float32)
        image = random.integers(0, 256, (STEPS, 32, 32, 3), dtype=np.uint8)
        values = {"image": image, "joints": joints, "command": np.roll(joints, -1, 0)}
        writer.add(f"e{number}", values, dict.fromkeys(values, clock), "validation" if number == 5 else "train")
    writer.finish()
    return tmp_path


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What came on standard error: one line."""
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


@pytest.mark.parametrize(("kind", "more"), [("folder", []), ("lerobot", ["--pictures", "png"]), ("eipl", [])])
def test_what_was_taken_away_is_brought_back_the_same(mine: Path, kind: str, more: list[str]) -> None:
    """The format is found out, and nothing is lost on the way."""
    assert main(["prepare", "export", kind, "data/mine", "--out", "there", *more]) == 0
    assert main(["prepare", "there", "--out", "data/back"]) == 0
    before, after = EpisodeStore("data/mine"), EpisodeStore("data/back")
    assert len(after.entries) == len(before.entries)
    for old, new in zip(before.entries, after.entries, strict=True):
        for stream in ("image", "joints"):
            np.testing.assert_array_equal(after.values(new.id, stream), before.values(old.id, stream))


def test_formats_are_refused_by_name(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "export", "lerobt", "data/mine", "--out", "there"]) == 1
    assert "did you mean 'lerobot'" in said(capsys)
    assert main(["prepare", "export", "folder", "data/mine", "--out", "there", "--pictures", "gif"]) == 1
    assert "known: mkv, mp4, png" in said(capsys)
    assert main(["prepare", "export", "folder", "data/mine", "--out", "data/mine"]) == 1
    assert "exists" in said(capsys)
    assert not Path("there").exists()
    Path("notes.xyz").write_text("nothing")
    assert main(["prepare", "notes.xyz"]) == 1
    assert "none of the formats" in said(capsys)
    assert main(["prepare", "lerobott", "there"]) == 1
    assert "did you mean 'lerobot'" in said(capsys)


def test_an_export_is_whole_or_not_there(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is half written looks like a small recording; and it would stand in the way."""
    last = EpisodeStore("data/mine").path("e5")
    content = last.read_bytes()
    for kind in ("folder", "lerobot", "eipl", "rerun"):
        last.write_bytes(content[:-1])
        assert main(["prepare", "export", kind, "data/mine", "--out", "there"]) == 1
        assert "damaged" in said(capsys)
        assert {path.name for path in mine.iterdir()} == {"data"}
    last.write_bytes(content)
    (mine / ".unfinished-there").mkdir()  # of a call that was killed
    (mine / ".unfinished-there/old").touch()
    assert main(["prepare", "export", "eipl", "data/mine", "--out", "there"]) == 0
    assert {path.name for path in mine.iterdir()} == {"data", "there"}
    assert not (mine / "there/old").exists()


def test_what_is_a_store_already_is_not_imported(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "data/mine", "--out", "again"]) == 1
    assert "is an episode store already" in said(capsys)
    assert main(["prepare", "s3://bucket/mine", "--out", "again"]) == 1
    assert "sakiyomi prepare copy s3://bucket/mine FOLDER" in said(capsys)
    assert not Path("again").exists()
    assert main(["prepare", "export", "folder", "data/mine", "--out", "s3://bucket/there"]) == 1
    assert "s3://bucket/there is a URL" in said(capsys)
    assert {path.name for path in mine.iterdir()} == {"data"}


def test_check_tells_a_script(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0: nothing wrong; 1: something; 2: no store. What is wrong is named, and shown on a page."""
    assert main(["prepare", "check", "nothing/here"]) == 2
    said(capsys)
    store = EpisodeStore("data/mine")
    writer = EpisodeWriter("data/late", store.streams)
    for entry in store.entries:
        values = {name: store.values(entry.id, name) for name in store.streams}
        clocks = {name: store.times(entry.id, name) * 1.25 for name in store.streams}  # 8 Hz, said to be 10
        writer.add(entry.id, values, clocks, entry.split)
    writer.finish()
    assert main(["prepare", "check", "data/late", "--out", "late.html"]) == 1
    assert "problem" in said(capsys)
    assert "rate" in Path("late.html").read_text()


def test_copies_are_whole(mine: Path) -> None:
    assert main(["prepare", "copy", "data/mine", "copied"]) == 0
    assert [e.sha256 for e in EpisodeStore("copied").entries] == [e.sha256 for e in EpisodeStore("data/mine").entries]


def test_record_and_train_on_it(mine: Path) -> None:
    """What a function yields becomes a store that a preset learns from; the robot is not ours, so its run is measured
    along recordings."""
    Path("robot.py").write_text(
        "import itertools, math\n"
        "def frames():\n"
        "    for n in itertools.count():\n"
        "        joints = [math.sin(n / 5 + k) for k in range(3)]\n"
        "        yield {'joints': joints}\n"
    )
    asked = ["--out", "data/own", "--episodes", "3", "--seconds", "0.3", "--keep", "all", "--rate", "100"]
    assert main(["prepare", "record", "robot.py:frames", *asked]) == 0
    assert [entry.split for entry in EpisodeStore("data/own").entries] == ["train", "validation", "train"]
    small = [
        "--train.steps",
        "10",
        "--train.batch-size",
        "2",
        "--train.validate-every",
        "5",
        "--data.steps",
        "0",
        "--model.joints",
        "3",
    ]
    assert main(["train", "pick-joints", "--data.store", "data/own", "--out", "runs/own", *small]) == 0
    assert main(["evaluate", "own"]) == 0
    assert main(["explain", "own", "--trials", "1"]) == 0
    assert main(["rollout", "own"]) == 1


def test_a_program_is_recorded(mine: Path) -> None:
    """Its arguments stay its own, also those that look like ours."""
    Path("sensor.py").write_text(
        "import json, sys, time\n"
        "assert sys.argv[1:] == ['--out', 'a b'], sys.argv\n"
        "stream = {'kind': 'scalar', 'shape': [2], 'dtype': 'float32', 'rate': 50}\n"
        "print(json.dumps({'streams': {'level': stream}}), flush=True)\n"
        "for n in range(20):\n"
        "    print(json.dumps({'stream': 'level', 'time': n / 50, 'value': [n, -n]}), flush=True)\n"
        "print(json.dumps({'end': 'keep'}), flush=True)\n"
    )
    words = ["--out", "data/level", "--", sys.executable, "sensor.py", "--out", "a b"]
    assert main(["prepare", "record", *words]) == 0
    store = EpisodeStore("data/level")
    np.testing.assert_array_equal(store.values(store.entries[0].id, "level")[:, 1], -np.arange(20.0))


def test_a_url_is_no_folder(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is given as an address stays one, and is named as it was given."""
    there = f"file://{Path.cwd()}/data/mine"
    assert main(["prepare", "export", "wav", there, "--out", "there"]) == 1
    assert there in said(capsys)
    assert main(["prepare", "check", f"file://{Path.cwd()}/data/nowhere"]) == 2
    assert "file://" in said(capsys)
