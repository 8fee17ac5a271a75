"""What is claimed about the recorder, measured: it is killed at random moments, and what was told as kept is there.

    python -m benchmarks.record [record] [record_lines]

Writes benchmarks/results/formats/record.json and record_lines.json. Forty times a program is recorded that sends short
episodes one after the other, so that many kills fall into the writing of one; ten times the arm's script. After each
`kill -9` the store is opened and every episode read, against its checksum and against what was sent; the next start
goes on. `record_lines` leaves no moment to chance: a recorder is killed before each line of ours that it runs, from its
start to its end.
"""

import json
import multiprocessing
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import numpy as np

import sakiyomi
from benchmarks.common import measure
from sakiyomi.data.episodes import EpisodeStore, Stream
from sakiyomi.data.recorder import Recorder, Sample, locked
from sakiyomi.data.spool import Decision, Header, Spool
from sakiyomi.errors import SakiyomiError

RESULTS = Path("benchmarks/results/formats")
LENGTH, SIZE = 20, 16  # frames of an episode that is sent, and height and width of its pictures
LONGEST = 120.0  # s that a recorder may take to begin
STREAMS = {"number": Stream("scalar", (2,), "float32", 100.0)}  # episode and frame, of what is killed at each line
FEW = 3  # frames of its episodes
WATCHED = (str(Path(sakiyomi.__file__).parent), shutil.__file__)  # whose lines these are
# Sends episodes without end: `number` [episode, frame], and a picture full of episode + frame.
PROGRAM = f"""
import base64, json, sys, time
streams = {{"number": {{"kind": "scalar", "shape": [2], "dtype": "float32", "rate": 500}},
           "image": {{"kind": "image", "shape": [{SIZE}, {SIZE}, 3], "dtype": "uint8", "rate": 500}}}}
def send(what):
    sys.stdout.write(json.dumps(what) + "\\n")
    sys.stdout.flush()
send({{"streams": streams}})
episode = 0
while True:
    for frame in range({LENGTH}):
        raw = base64.b64encode(bytes([(episode + frame) % 256]) * {SIZE * SIZE * 3}).decode()
        send({{"stream": "number", "value": [episode, frame]}})
        send({{"stream": "image", "value": {{"raw": raw}}}})
        time.sleep(0.001)
    send({{"end": "keep"}})
    episode += 1
"""


class Running(Protocol):
    """A recorder at work."""

    def kill(self) -> None: ...
    def wait(self) -> int | None: ...


@dataclass(frozen=True)
class Kill:
    """What one kill left."""

    left: str
    """What the recorder was at, by what lies in its store."""
    told: int
    """Episodes it had said were kept."""
    episodes: int
    """Episodes in the store."""
    wrong: str
    """What should not be, or nothing."""


Start = Callable[[Sequence[str], Path], Running]
"""Begins `sakiyomi prepare record` with these words; what it says goes to a file."""


def kill_at_random(
    start: Start, words: Sequence[str], store: Path, kills: int, random: np.random.Generator, longest: float
) -> list[Kill]:
    """Start the recorder anew so often and kill it, most times at most `longest` seconds after it began to record, else
    at any time before that."""
    found, known, left = [], {}, ""
    begins = longest
    for number in range(kills):
        log = store.with_suffix(f".{number}.txt")
        begin, before = time.monotonic(), _text(store / ".recording/header.json")
        recorder = start([*words, "--out", str(store)], log)
        early = number % 5 == 4
        if not early:
            while _text(store / ".recording/header.json") in ("", before) and "kept as" not in _text(log):
                if time.monotonic() - begin > LONGEST:
                    recorder.kill()
                    raise SakiyomiError(f"the recorder did not begin: {_text(log)}")
                time.sleep(0.002)
            begins = time.monotonic() - begin
        time.sleep(random.uniform(0, begins if early else longest))
        recorder.kill()
        recorder.wait()
        time.sleep(0.05)
        said = _text(log)
        wrong, now = looked_at(store, known, said, left)
        left = left_behind(store)
        found.append(Kill(left or "nothing", said.count("kept as"), len(now), wrong))
        known = now
    return found


def looked_at(store: Path, known: dict[str, str], said: str, left: str) -> tuple[str, dict[str, str]]:
    """What is wrong with the store after a recorder was killed that had found `known` (sha256 by id), and had said
    something; and what it holds now."""
    if not (store / "dataset.json").exists():
        return ("the store is gone" if known else ""), {}
    try:
        opened = EpisodeStore(store, allow_empty=True)
        now = {entry.id: entry.sha256 for entry in opened.entries}
        for entry in opened.entries:
            if entry.id not in known:
                for stream in opened.streams:
                    opened.values(entry.id, stream)  # against its checksum
                if "number" in opened.streams:
                    _whole(opened, entry.id)
    except (SakiyomiError, AssertionError) as error:
        return f"{type(error).__name__}: {error}", {}
    lost = [id for id, digest in known.items() if now.get(id) != digest]
    promised = [line.split("kept as ")[1].split(",")[0] for line in said.splitlines() if "kept as" in line]
    missing = [id for id in promised if id not in now]
    begun = "recording" in said or "episode 0" in said or "kept as" in said
    silent = begun and bool(left) and left not in said
    wrong = [f"lost {lost}"] * bool(lost) + [f"told as kept, but missing: {missing}"] * bool(missing)
    return "; ".join([*wrong, *[f"did not say that it found {left!r}"] * silent]), now


def left_behind(store: Path) -> str:
    """What the next recorder must say it found."""
    spool = store / ".recording"
    header = spool / "header.json"
    if not header.exists():
        return ""
    id = json.loads(header.read_bytes())["id"]
    manifest = _text(store / "manifest.jsonl").splitlines()
    if any(f'"id":"{id}"' in line for line in manifest):
        return ""  # it was in the store already
    return "kept, but not yet written" if (spool / "decision.json").exists() else "an unfinished episode"


def _whole(store: EpisodeStore, id: str) -> None:
    """An episode is one that was sent: all its frames, in order, and none of another."""
    number, image = store.values(id, "number"), store.values(id, "image")
    assert len(number) == len(image) == LENGTH, f"{id} has {len(number)} and {len(image)} frames"
    assert (number == np.stack([np.full(LENGTH, number[0, 0]), np.arange(LENGTH)], 1)).all(), f"{id} is mixed up"
    assert (image == (number.sum(1) % 256).astype(np.uint8)[:, None, None, None]).all(), f"{id}: other pictures"


def kill_at_lines(folder: Path, every: int = 1) -> dict[str, Any]:
    """Kill a recorder before each line it runs (or `every` so many), in a store with an episode and what an earlier
    recorder left: an unfinished episode, or one that was kept and not yet written. What went wrong, and how many."""
    found: dict[str, Any] = {"kills": 0, "wrong": []}
    for decided in (False, True):
        before = folder / f"before{decided}"
        _begin(before, decided)
        line = 1
        while True:
            store = folder / f"{decided}-{line}"
            shutil.copytree(before, store)
            process = multiprocessing.get_context("forkserver").Process(target=_live, args=(str(store), line))
            process.start()
            process.join(LONGEST)
            if process.exitcode == 0:  # it has no such line
                break
            try:
                assert process.exitcode == -signal.SIGKILL, f"exit status {process.exitcode}"
                _look_after(store, before, decided)
            except (SakiyomiError, AssertionError, OSError) as error:
                found["wrong"].append(f"line {line}, decided {decided}: {type(error).__name__}: {error}")
            found["kills"] += 1
            shutil.rmtree(store)
            line += every
    return found


def _begin(store: Path, decided: bool) -> None:
    """A store with the episode 00000, and 00001 in its spool."""
    with locked(store), Recorder(store, STREAMS, {}) as recorder:
        _add(recorder, 0)
        recorder.keep({})
    spool = Spool(store / ".recording", Header("00001", 1, "", STREAMS))
    for frame in range(FEW):
        spool.append("number", np.array([1, frame], np.float32), frame / 100)
    if decided:
        spool.decide(Decision("train", {}))
    spool.close()


def _add(recorder: Recorder, episode: int) -> None:
    for frame in range(FEW):
        recorder.add(Sample("number", [episode, frame], frame / 100))


def _live(folder: str, dies: int) -> None:
    """Keep two episodes and discard one in between; killed before that line is run. What was kept is told as it is."""
    lines = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines
        if not frame.f_code.co_filename.startswith(WATCHED):
            return None
        lines += event == "line"
        if lines == dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    store = Path(folder)
    sys.settrace(trace)
    with locked(store), Recorder(store, STREAMS, {}) as recorder:
        for episode, kept in ((2, True), (3, False), (4, True)):
            _add(recorder, episode)
            if not kept:
                recorder.discard()
                continue
            entry = recorder.keep({})
            with store.with_suffix(".told").open("a") as told:
                told.write(entry.id + "\n")
        recorder.finish()
    sys.settrace(None)


def _look_after(store: Path, before: Path, decided: bool) -> None:
    """Nothing that was kept is lost, all is whole, and the next recorder goes on and leaves no rubbish."""
    told = _text(store.with_suffix(".told")).split()
    old = EpisodeStore(before).entries[0]
    there = EpisodeStore(store)
    assert old in there.entries, "the first episode is lost"
    lost = {*told} - {entry.id for entry in there.entries}
    assert not lost, f"kept, and lost: {lost}"
    with locked(store), Recorder(store, STREAMS, {}) as recorder:
        _add(recorder, 5)
        last = recorder.keep({})
        after = recorder.finish()
    assert after is not None
    assert all(entry in after.entries for entry in there.entries), "the next recorder lost one"
    numbers = {entry.id: after.values(entry.id, "number") for entry in after.entries}
    for id, number in numbers.items():
        assert (number == np.stack([np.full(FEW, number[0, 0]), np.arange(FEW)], 1)).all(), f"{id} is mixed up"
    episodes = [int(number[0, 0]) for number in numbers.values()]
    assert len({*episodes}) == len(episodes), f"twice the same: {episodes}"
    assert int(numbers[last.id][0, 0]) == 5
    assert not decided or 1 in episodes, "the one that was to be kept is lost"
    rubbish = {path.name for path in store.iterdir()} - {"dataset.json", "manifest.jsonl", "episodes"}
    files = {path.name for path in (store / "episodes").iterdir()} - {f"{id}.safetensors" for id in numbers}
    assert not rubbish, f"left: {rubbish}"
    assert not files, f"left: {files}"


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def command(words: Sequence[str], log: Path) -> Running:
    """The command itself, as a user types it."""
    with log.open("wb") as out:
        line = [sys.executable, "-m", "sakiyomi", "prepare", "record", *words]
        return subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=out, stderr=out)


def record() -> dict[str, Any]:
    """`kill -9` at 50 random moments, and what the next start made of it."""
    random = np.random.default_rng(0)
    kills: dict[str, list[Kill]] = {}
    ended = {}
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "program.py"
        program.write_text(PROGRAM)
        sends = ["--command", shlex.join([sys.executable, "-S", str(program)])]
        arm = ["pick", "--drive", "expert", "--image-size", "32"]
        for name, words, count in (("program", sends, 40), ("pick", arm, 10)):
            store = Path(folder) / name
            kills[name] = kill_at_random(command, words, store, count, random, 1.5)
            there = len(EpisodeStore(store).entries)
            log = Path(folder) / f"{name}.last.txt"
            status = command([*words, "--out", str(store), "--episodes", str(there + 3)], log).wait()
            ended[name] = {"status": status, "finished": bool(EpisodeStore(store).statistics)}
    every = [kill for found in kills.values() for kill in found]
    return {
        "kills": len(every),
        "signal": signal.SIGKILL.name,
        "wrong": [kill.wrong for kill in every if kill.wrong],
        "left": dict(Counter(kill.left for kill in every)),
        "episodes": {name: found[-1].episodes for name, found in kills.items()},
        "told_as_kept": {name: sum(kill.told for kill in found) for name, found in kills.items()},
        "last_start": ended,
    }


def record_lines() -> dict[str, Any]:
    """`kill -9` before each line."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(["benchmarks.common", "sakiyomi.data.recorder"])
    memory = Path("/dev/shm")  # what a killed process wrote is there as on a disk, and sooner
    with tempfile.TemporaryDirectory(dir=memory if memory.exists() else None) as folder:
        return kill_at_lines(Path(folder))


if __name__ == "__main__":
    measure({"record": record, "record_lines": record_lines}, RESULTS, sys.argv[1:], lambda: None)
