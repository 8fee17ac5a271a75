"""Drawing, styles and surprise on the command line, as a user meets them; and what a slip of the fingers gets."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sakiyomi.__main__ import main
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.scores.protocol import load_scores

STEPS = ["--train.steps", "60", "--train.validate-every", "30", "--train.threads", "1"]


def draw_photo(path: Path, strokes: tuple[tuple[tuple[int, int], ...], ...], size: tuple[int, int]) -> None:
    """A pen on paper."""
    page = Image.new("RGB", size, (228, 222, 205))
    for stroke in strokes:
        ImageDraw.Draw(page).line(stroke, (40, 40, 70), 16, joint="curve")
    page.save(path)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that draws, one that watches, a table and some photos, made by the commands themselves."""
    folder = tmp_path_factory.mktemp("latent")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert main(["train", "digits", *STEPS]) == 0
        random = np.random.default_rng(0)
        days = np.datetime64("2020-01-01") + np.arange(900)
        warm = 15 + 8 * np.sin(2 * np.pi * np.arange(900) / 365) + random.normal(size=900)
        rows = [f"{day};{value:.2f}".replace(".", ",") for day, value in zip(days, warm, strict=True)]
        Path("days.csv").write_text("Datum;Wärme\n" + "\n".join(rows) + "\n", encoding="latin-1")
        assert main(["prepare", "csv", "days.csv", "--out", "data/days"]) == 0
        series = ["--data.store", "data/days", "--out", "runs/days", "--data.steps", "40"]
        assert main(["train", "climate-forecast", *series, *STEPS]) == 0
        draw_photo(Path("seven.jpg"), (((200, 120), (420, 120), (280, 420)),), (640, 520))
        draw_photo(Path("blank.png"), (), (640, 520))
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


def test_a_table_became_a_store_and_what_was_found_was_said(here: Path) -> None:
    store = EpisodeStore("data/days")
    assert store.streams["value"].names == ("Wärme",)
    assert {entry.split for entry in store.entries} == {"train", "validation", "test"}
    assert sum(entry.lengths["value"] for entry in store.entries) == 900
    told = " ".join(store.entries[0].meta["handled"])
    assert "latin" in told.lower()


def test_sevens_are_drawn(here: Path) -> None:
    assert main(["generate", "digits", "--label", "7", "--count", "25"]) == 0
    with Image.open("runs/digits/generated-7.png") as sheet:
        assert np.asarray(sheet).std() > 10
    assert main(["generate", "digits", "--count", "3"]) == 0
    assert Path("runs/digits/generated.png").exists()


def test_a_hand_is_read_from_a_photo(here: Path) -> None:
    assert main(["style", "seven.jpg", "--label", "7"]) == 0
    found = json.loads(Path("runs/digits/style/style.json").read_text())
    assert (found["label"], len(found["z"])) == ("7", 16)
    assert found["inverted"]
    with Image.open("runs/digits/style/style.png") as sheet:
        assert min(sheet.size) > 200
    assert main(["style", "seven.jpg", "--label", "7", "--run", "runs/digits", "--out", "mine"]) == 0
    assert json.loads(Path("mine/style.json").read_text()) == found


def test_what_draws_is_scored_mapped_and_compared(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "digits", "--samples", "5"]) == 0
    assert {"nll", "reconstruction"} <= set(load_scores(Path("runs/digits/scores.json")))
    assert "data:image/png" in Path("runs/digits/report.html").read_text()
    assert main(["rollout", "digits", "--count", "3", "--morphs", "2"]) == 0
    assert Path("runs/digits/morph.png").exists()
    assert main(["explain", "digits", "--grid", "4"]) == 0
    assert Path("runs/digits/latent-map.png").exists()
    assert list(Path("runs/digits/projector").rglob("projector_config.pbtxt"))
    assert main(["compare", "digits", "digits"]) == 0
    assert "nll" in capsys.readouterr().out


def test_a_series_is_scored_and_watched(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "days"]) == 0
    assert "false alarms" in Path("runs/days/report.html").read_text()
    assert main(["watch", "days", "--rate", "0.02"]) == 0
    assert Path("runs/days/alarms-test.json").exists()
    assert main(["watch", "days", "--csv", "days.csv"]) == 0
    (found,) = json.loads(Path("runs/days/alarms-days.json").read_text())
    assert all({"start", "end", "peak", "from", "to"} <= set(alarm) for alarm in found["alarms"])
    assert main(["watch", "days.csv", "--out", "untrained"]) == 0
    assert json.loads(Path("untrained/alarms.json").read_text())[0]["recording"] == "Wärme"
    assert "surprise" in capsys.readouterr().out


def test_a_latent_space_is_served_until_ctrl_c(here: Path) -> None:
    command = [sys.executable, "-u", "-m", "sakiyomi", "serve", "digits", "--port", "0"]

    def asks_for_the_signal() -> None:  # a shell's background job ignores it, and hands that on
        signal.signal(signal.SIGINT, signal.default_int_handler)

    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=asks_for_the_signal
    )
    assert process.stdout is not None
    told = ""
    while "Ctrl-C" not in told and process.poll() is None:
        told += process.stdout.readline()
    address = next(word for word in told.split() if word.startswith("http://"))
    with urlopen(address, timeout=30) as page:
        assert b"<canvas" in page.read()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (0, "")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["generate", "digits", "--label", "12"], "unknown label '12'"),
        (["generate", "digits", "--count", "0"], "--count is 0; it must be at least 1"),
        (["generate", "digits", "--count", "100000"], "at most 10000"),
        (["generate", "days"], "days watches; generate takes a run that draws"),
        (["generate", "digit"], "did you mean 'digits'?"),
        (["generate", "mnist"], "unknown run 'mnist'"),
        (["style", "seven.jpg"], "--label is missing: which of 0, 1"),
        (["style", "seven.jpg", "--label", "x"], "unknown label 'x'"),
        (["style", "nowhere.jpg", "--label", "7"], "nowhere.jpg does not exist"),
        (["style", "days.csv", "--label", "7"], "days.csv"),
        (["style", "blank.png", "--label", "7"], "no ink found"),
        (["style", "seven.jpg", "--label", "7", "--run", "runs/days"], "Forecaster"),
        (["rollout", "days"], "sakiyomi watch days"),
        (["explain", "days"], "sakiyomi watch days"),
        (["watch", "digits"], "digits draws; watch takes a run that watches"),
        (["watch", "days", "--rate", "0"], "a false-alarm rate of 0 a step"),
        (["watch", "days", "--split", "tset"], "unknown split 'tset'"),
        (["watch", "days", "--csv", "no.csv"], "no.csv does not exist"),
        (["watch", "dayz"], "did you mean 'days'?"),
        (["evaluate", "digits", "--trials", "5"], "unknown field '--trials'"),
        (["train", "climate-forecast", "--data.store", "data/days", "--data.steps", "5000", "--out", "x"], "shorter"),
        (["train", "digits", "--model.latent", "0", "--out", "x"], "--model.latent is 0"),
        (["prepare", "csv", "seven.jpg", "--out", "x"], "seven.jpg"),
        (["prepare", "csv", "nowhere.csv"], "nowhere.csv does not exist"),
        (["prepare", "csv", "days.csv", "--values", "Kälte", "--out", "x"], "Wärme"),
        (["serve", "days"], "days"),
    ],
)
def test_a_slip_gets_one_line_and_a_cure(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    assert main(words) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert expected in error


@pytest.mark.parametrize("verb", ["watch", "style", "generate"])
def test_help_lists_the_new_verbs(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    assert main(["--help"]) == 0
    assert f"  {verb} " in capsys.readouterr().out
