"""Watching a sensor, as its user does: split, table, standard input; known anomalies, false alarms, what is refused."""

import contextlib
import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import watching

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.errors import SakiyomiError
from sakiyomi.rollout import Trained, load
from sakiyomi.surprise import Surprise
from sakiyomi.watch_series import (
    WatchingSeries,
    WatchingTable,
    calibrated,
    evaluate_series,
    recordings,
    save_series,
    watch_series,
    watch_table,
)
from sakiyomi.watch_stream import watch_stream


@pytest.fixture(scope="session")
def trained(sensor_run: Path) -> Trained:
    return load(sensor_run)


def write_table(path: Path, values: np.ndarray, name: str = "temperature", period: int = 600) -> Path:
    """Values [T] as a table of ISO stamps from 2024 on."""
    stamps = np.datetime64("2024-01-01T00:00:00") + np.arange(len(values)) * np.timedelta64(period, "s")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("time", name))
        writer.writerows((str(stamp), f"{value:.5f}") for stamp, value in zip(stamps, values, strict=True))
    return path


def test_an_evaluation_tells_errors_false_alarms_and_what_was_found(
    trained: Trained, sensor_store: EpisodeStore, tmp_path: Path, sensor_run: Path
) -> None:
    scores, watched, surprise = evaluate_series(trained)
    assert scores["error"].value < scores["error of the value before"].value  # it has learned something
    for rate in (0.01, 0.001):
        assert scores[f"false alarms at {rate:g}"].value < 3 * rate
    assert scores["anomalies found"].protocol.n == watching.SOURCE.faults
    assert scores["anomalies found"].value >= 0.5
    for name in ("metrics.jsonl", "job.json"):
        (tmp_path / name).write_bytes((sensor_run / name).read_bytes())
    assert [one.threshold for one in watched] == [2, 3]  # each is drawn with the rate it was watched at
    for one in watched:
        assert ((one.readings.scores >= one.threshold) == one.readings.alarms).all()
    report = save_series(scores, watched, surprise, trained, tmp_path).read_text()
    assert "planted anomalies" in report
    assert report.count("data:image/png") >= 3
    assert set(json.loads((tmp_path / "scores.json").read_text())) == set(scores)
    assert Surprise.load(tmp_path / "surprise.json", trained).threshold == surprise.threshold


def test_alarms_of_a_split_are_written_and_drawn(trained: Trained, sensor_store: EpisodeStore, tmp_path: Path) -> None:
    paths = watch_series(trained, WatchingSeries(split="faulty", rate=0.001), tmp_path)
    (found,) = json.loads(paths[0].read_text())
    (entry,) = sensor_store.split("faulty")
    known = entry.meta["anomalies"]
    right = [
        any(one["start"] - 1800 <= alarm["start"] <= one["end"] + 1800 for one in known) for alarm in found["alarms"]
    ]
    assert sum(right) >= 4
    assert np.mean(right) > 0.4
    assert paths[1].read_bytes().startswith(b"\x89PNG")


def test_a_table_gives_the_alarms_of_the_same_values_in_a_store(
    trained: Trained, sensor_store: EpisodeStore, tmp_path: Path
) -> None:
    values = watching.values_of(sensor_store, "test")[:500, 0].copy()
    values[300:303] += 15
    path = write_table(tmp_path / "new.csv", values)
    paths = watch_series(trained, WatchingSeries(csv=str(path), rate=0.001), tmp_path)
    alarms = json.loads(paths[0].read_text())[0]["alarms"]
    assert any(alarm["start"] == 300 * 600 for alarm in alarms)
    surprise = calibrated(trained, sensor_store, "", 0.001)
    there = np.flatnonzero(surprise.read({"value": values[:, None]}).alarms)
    assert {alarm["start"] for alarm in alarms} <= set((600.0 * there).tolist())


def streamed(trained: Trained, lines: list[str], rate: float = 0.001) -> list[dict[str, Any]]:
    answers: list[str] = []
    watch_stream(trained, WatchingSeries(rate=rate), lines, answers.append)
    return [json.loads(answer) for answer in answers]


def test_lines_in_scores_out(trained: Trained, sensor_store: EpisodeStore, capsys: pytest.CaptureFixture[str]) -> None:
    values = watching.values_of(sensor_store, "test")[:60, 0]
    lines = [f"{value}\n" for value in values]
    lines[40], lines[50], lines[55] = "99\n", "\n", "ERR 7\n"
    told = streamed(trained, lines)
    assert [one["step"] for one in told] == list(range(60))
    assert told[0] == {"step": 0, "score": None, "alarm": False, "warming": True}
    assert told[40]["alarm"]
    assert told[40]["score"] > 3
    assert told[40]["reason"].startswith("value")
    for step in (50, 55):  # missing, and a logger's complaint: the watch goes on
        assert told[step] == {"step": step, "score": None, "alarm": True, "reason": "missing"}
    assert "line 56 is 'ERR 7', no number: taken for missing" in capsys.readouterr().err
    assert told[59]["score"] is not None
    assert not any(one["alarm"] for one in told[:40])
    once = calibrated(trained, sensor_store, "", 0.001).read({"value": values[:40, None]}).scores
    np.testing.assert_allclose([one["score"] for one in told[1:40]], once[1:], atol=1e-3)


def test_a_line_of_names_may_come_first(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    told = streamed(trained, ["temperature\n", "60\n", "61\n"])
    assert [one["step"] for one in told] == [0, 1]
    assert "taken for column names" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["abc", "1,2", "2024-01-01 00:00:00,60", "1;2"])
def test_lines_that_are_no_values_are_told(trained: Trained, line: str) -> None:
    with pytest.raises(SakiyomiError, match=r"line 2 .* values alone are read"):
        streamed(trained, [line, line, line])


def test_what_is_not_there_is_told(trained: Trained, sensor_store: EpisodeStore, tmp_path: Path) -> None:
    with pytest.raises(SakiyomiError, match=r"unknown split 'normal'.*calibration"):
        calibrated(trained, sensor_store, "normal", 0.01)
    with pytest.raises(SakiyomiError, match="unknown split"):
        list(recordings(trained, sensor_store, "tset"))
    with pytest.raises(SakiyomiError, match="does not exist"):
        watch_series(trained, WatchingSeries(csv=str(tmp_path / "no.csv")), tmp_path)
    other = write_table(tmp_path / "other.csv", np.arange(100.0), "pressure")
    with pytest.raises(SakiyomiError, match="temperature"):
        watch_series(trained, WatchingSeries(csv=str(other)), tmp_path)


def test_few_normal_steps_are_told(
    trained: Trained, sensor_store: EpisodeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    calibrated(trained, sensor_store, "validation", 0.001)
    told = capsys.readouterr()
    assert "too few to know what happens once in 1000" in " ".join(told.err.split())
    assert not told.out  # which may be read by a program
    calibrated(trained, sensor_store, "calibration", 0.01)
    assert not capsys.readouterr().err


def test_a_table_is_watched_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    values = 20 + 3 * np.sin(np.arange(3000) * 2 * math.pi / 144) + 0.3 * random.normal(size=3000)
    values[2500] = 60
    path = write_table(tmp_path / "readings.csv", values)
    paths = watch_table(path, WatchingTable(out=str(tmp_path / "out")))
    (found,) = json.loads(paths[0].read_text())
    assert found["recording"] == "temperature"
    assert 2500 * 600.0 in [alarm["start"] for alarm in found["alarms"]]
    assert "2024-01-18 08:40:00" in capsys.readouterr().out  # the stamp of that row
    assert paths[1].read_bytes().startswith(b"\x89PNG")


def run(*words: str, folder: Path, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sakiyomi", *words], cwd=folder, input=given, capture_output=True, text=True, timeout=120
    )


def test_the_command_line_watches(sensor_run: Path, tmp_path: Path) -> None:
    answered = run("watch", "sensor", "--run", str(sensor_run), "--stream", folder=tmp_path, given="60\n61\nnan\n")
    assert answered.returncode == 0, answered.stderr
    assert [json.loads(line)["step"] for line in answered.stdout.splitlines() if line.startswith("{")] == [0, 1, 2]
    wrong = run("watch", "sensor", "--run", str(sensor_run), "--stream", folder=tmp_path, given="a\nsixty\n")
    assert wrong.returncode == 1
    assert "line 2 is 'sixty'" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    missing = run("watch", "no.csv", folder=tmp_path)
    assert missing.returncode == 1
    assert "does not exist" in missing.stderr


def test_nobody_needs_to_read_to_the_end(sensor_run: Path, tmp_path: Path) -> None:
    """As `| head -1` does."""
    command = [sys.executable, "-u", "-m", "sakiyomi", "watch", "sensor", "--run", str(sensor_run), "--stream"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write("60\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["step"] == 0
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write("61\n" * 1000)
            process.stdin.close()
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (np.full(500, 3.0), "never changes"),
        (np.arange(60.0), "60 rows; it takes 100"),
        (np.tile([1e308, -1e308], 100), "is not a finite number"),
    ],
)
def test_a_table_that_cannot_be_judged_is_refused(tmp_path: Path, values: np.ndarray, told: str) -> None:
    path = write_table(tmp_path / "some.csv", values)
    with pytest.raises(SakiyomiError, match=told):
        watch_table(path, WatchingTable(out=str(tmp_path / "out")))


def test_a_hole_and_bad_cells_of_a_watched_table_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = 20 + np.random.default_rng(0).normal(size=600)
    lines = write_table(tmp_path / "some.csv", values).read_text().splitlines()
    del lines[200:260]
    lines[300] = lines[300].split(",")[0] + ",broken"
    path = tmp_path / "holes.csv"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(SakiyomiError, match="--skip-bad"):
        watch_table(path, WatchingTable(out=str(tmp_path / "out")))
    watch_table(path, WatchingTable(skip_bad=True, out=str(tmp_path / "out")))
    assert "1 holes of more than 5 periods, the longest 10.2 hours" in " ".join(capsys.readouterr().out.split())


def test_names_in_any_script_are_drawn(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    path = write_table(tmp_path / "気温.csv", 20 + np.random.default_rng(0).normal(size=300), "平均気温")
    paths = watch_table(path, WatchingTable(out=str(tmp_path / "out")))
    assert "平均気温" in paths[1].name
    assert not [one for one in recwarn.list if "Glyph" in str(one.message)]
