"""The command line as a user meets it: the whole path, small, and what a slip of the fingers gets."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
import walking
from PIL import Image

from sakiyomi.__main__ import main
from sakiyomi.control import load_job as load_controller_job
from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream
from sakiyomi.data.formats.bvh import read_bvh
from sakiyomi.data.sources.pick_cube import PickCubeSource
from sakiyomi.job import load_job
from sakiyomi.run import read_metrics
from sakiyomi.scores.protocol import load_scores

SMALL = ["--train.batch-size", "4", "--train.validate-every", "10"]
TINY = ["--model.channels", "4", "--model.encoding", "8", "--model.latent", "3", "--model.hidden", "8"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recordings and two trained runs, made by the commands themselves."""
    folder = tmp_path_factory.mktemp("user")
    before = Path.cwd()
    os.chdir(folder)
    try:
        few = ["--episodes", "10", "--validation", "5"]
        assert main(["prepare", "pick-small", *few]) == 0
        assert main(["train", "pick-small", "--train.steps", "25", *SMALL]) == 0
        assert main(["train", "pick-joints", "--train.steps", "25", *SMALL]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What came on standard error: one line."""
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


def test_prepare_and_train_leave_what_they_promise(here: Path) -> None:
    store = EpisodeStore(here / "data/pick-small")
    assert len(store.split("train")) == 10
    assert all(entry.meta["success"] for entry in store.entries)
    names = {p.name for p in (here / "runs/pick-small").iterdir()}
    wanted = {"job.json", "normalizer.json", "limits.json", "weights.safetensors", "last.safetensors", "metrics.jsonl"}
    assert wanted | {"tensorboard"} <= names
    assert read_metrics(here / "runs/pick-small")[-1]["step"] == 25


def test_evaluate_compare_and_the_protocol(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    only = ["--only", "taught", "blind"]
    assert main(["evaluate", "pick-small", "--trials", "2", *only]) == 0
    assert main(["evaluate", "pick-joints", "--trials", "2", *only]) == 0
    scores = load_scores(here / "runs/pick-small/scores.json")
    assert scores["success/taught"].protocol.n == 2
    assert {"success/blind", "drift_free/joints", "latency_p99"} <= scores.keys()
    assert main(["compare", "pick-small", "pick-joints"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "pick-joints", "--trials", "3", *only]) == 0
    assert main(["compare", "pick-small", "pick-joints"]) == 1
    assert "n: 2 against 3" in said(capsys)


def test_rollout_and_explain_leave_pictures(here: Path) -> None:
    assert main(["rollout", "pick-small", "--place", "0.5", "0.0", "--realtime"]) == 0
    facts = json.loads((here / "runs/pick-small/rollout.json").read_bytes())
    assert facts["rate_asked_hz"] == pytest.approx(10)
    assert facts["rate_true_hz"] < 10.5
    assert facts["rate_true_hz"] > 9 or facts["late_ticks"] > 0  # a machine too busy to keep it has to say so
    assert facts["latency_p50_ms"] <= facts["latency_p99_ms"]
    assert set(facts["violations"]) == {
        "finite",
        "position",
        "learned_range",
        "velocity",
        "acceleration",
        "late",
        "early",
    }
    assert main(["rollout", "pick-small", "--recording", "00003"]) == 0
    assert main(["explain", "pick-small", "--trials", "3"]) == 0
    for name in ("rollout.gif", "recording.gif", "attention.gif", "attention.png", "hidden.png", "commands.png"):
        with Image.open(here / "runs/pick-small" / name) as picture:
            assert picture.width > 100


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["trian", "pick"], "did you mean 'train'?"),
        (["train", "pik"], "did you mean 'pick'?"),
        (["train", "pick", "--train.stps", "3"], "did you mean '--train.steps'?"),
        (["evaluate", "pick-smal"], "did you mean 'pick-small'?"),
        (["evaluate", "pick-small", "--only", "taugt"], "did you mean 'taught'?"),
        (["rollout", "pick-small", "--recording", "9"], "unknown episode '9'"),
        (["train", "pick-small"], "holds a run already"),
        (["train", "pick", "--data.store", "nowhere"], "nowhere does not exist"),
        (["train", "pick", "--data.store", "data/pick-small", "--out", "x"], "the model was built for"),
        (["train", "pick-small", "--data.steps", "50", "--out", "x"], "shorter than the window of 50"),
        (["train", "pick-small", "--train.device", "tpu", "--out", "x"], "unknown device 'tpu'"),
        (["prepare", "pick-small", "--episodes", "11"], "episodes 10 there, 11 asked"),
        (["compare", "pick-small"], "compare takes two runs"),
        (["evaluate", "pick-small", "--trials", "0"], "--trials is 0; it must be at least 1"),
        (["evaluate", "pick-small", "--seed", "-1"], "--seed is -1; it must be at least 0"),
        (["rollout", "pick-small", "--seed", "-1"], "seed of an episode is -1; it must be at least 0"),
        (["rollout", "pick-small", "--place", "nan", "0"], "two finite numbers in m"),
        (["prepare", "pick-small", "--seed", "-1", "--out", "other"], "--seed is -1; it must be at least 0"),
    ],
)
def test_a_slip_gets_one_line_and_a_cure(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    capsys.readouterr()
    assert main(words) == 1
    assert expected in said(capsys)


def test_a_wrong_number_is_told_before_recordings_are_made_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "pick-joints", "--train.shards", "-1"]) == 1
    assert "--train.shards is -1" in said(capsys)
    assert not list(tmp_path.iterdir())


def test_help_lists_verbs_names_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert "rollout" in text
    assert "pick-small" in text
    with pytest.raises(SystemExit) as leaving:
        main(["train", "pick", "--help"])
    assert leaving.value.code == 0
    assert "--model.points" in capsys.readouterr().out


def test_ctrl_c_in_a_terminal_saves_and_says_how_to_go_on(here: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "sakiyomi", "train", "pick-small", "--out", str(run), *SMALL]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    while len(read_metrics(run)) < 2 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in error
    assert error.count("\n") == 1
    assert (run / "last.safetensors").exists()


def test_a_full_disk_is_one_line_and_keeps_what_was_written(tmp_path: Path) -> None:
    """Files of more than 200 kB are refused by the system, as by a disk that has filled up."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000));"
    script = limit + "import sys; from sakiyomi.__main__ import main; sys.exit(main(sys.argv[1:]))"
    store = tmp_path / "store"
    PickCubeSource(episodes=5, validation=2, image_size=32).record(store)
    arguments = ["train", "pick-small", "--data.store", str(store), "--out", str(tmp_path / "run")]
    ended = subprocess.run(
        [sys.executable, "-c", script, *arguments, "--train.steps", "20", "--train.save-every", "10"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "could not write" in ended.stderr
    assert len(EpisodeStore(store).entries) == 7


def test_the_demo_makes_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--steps", "12", "--trials", "2"]) == 0
    page = (tmp_path / "runs/demo/report.html").read_text()
    assert "shown 120 times" in page
    assert "of 2 trials" in page
    assert page.count("data:image/") >= 6
    scores = load_scores(tmp_path / "runs/demo/scores.json")
    assert {f"success/{n}" for n in ("taught", "untaught", "blind", "light", "camera", "distractor")} <= scores.keys()
    # A second call finds everything done and only drives and reports again.
    assert main(["demo", "--steps", "12", "--trials", "2"]) == 0


def test_an_interrupted_recording_is_completed_by_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recording = subprocess.Popen(
        [sys.executable, "-m", "sakiyomi", "prepare", "pick-small"],
        stderr=subprocess.PIPE,
        # A shell's background job ignores Ctrl-C, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    manifest = tmp_path / "data/pick-small/manifest.jsonl"
    while not manifest.exists() and recording.poll() is None:
        time.sleep(0.01)
    recording.send_signal(signal.SIGINT)
    _, error = recording.communicate(timeout=60)
    assert recording.returncode == 130
    assert error.count(b"\n") == 1
    assert main(["train", "pick-small", "--train.steps", "1"]) == 0
    assert len(EpisodeStore(tmp_path / "data/pick-small").entries) == 130


def test_your_own_recordings_as_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Six joints at 100 Hz, a camera at 30, a model at 10; another robot's run does not drive this arm."""
    monkeypatch.chdir(tmp_path)
    writer = EpisodeWriter(
        "data/mine",
        {
            "image": Stream("image", (64, 64, 3), "uint8", rate=30),
            "joints": Stream("joints", (6,), "float32", rate=100, unit="rad"),
            "command": Stream("action", (6,), "float32", rate=100, low=(-3.1,) * 6, high=(3.1,) * 6),
        },
    )
    random = np.random.default_rng(0)
    camera, motors = np.arange(60) / 30, np.arange(200) / 100
    for number, split in enumerate(("train", "train", "validation")):
        joints = np.sin(motors[:, None] * np.arange(1, 7) + number).astype(np.float32)
        pictures = random.integers(0, 256, (60, 64, 64, 3), dtype=np.uint8)
        values = {"image": pictures, "joints": joints, "command": joints}
        writer.add(f"e{number}", values, {"image": camera, "joints": motors, "command": motors}, split)
    writer.finish()
    words = ["--data.store", "data/mine", "--data.rate", "10", "--model.joints", "6", "--out", "runs/mine"]
    assert main(["train", "pick", *words, "--train.steps", "3"]) == 0
    assert main(["rollout", "pick", "--run", "runs/mine", "--recording", "e0"]) == 0
    assert (tmp_path / "runs/mine/recording.gif").exists()
    capsys.readouterr()
    assert main(["rollout", "pick", "--run", "runs/mine"]) == 1
    assert "moves another robot" in said(capsys)
    assert main(["evaluate", "pick", "--run", "runs/mine"]) == 0  # along the recordings
    assert "one_step/joints" in load_scores(tmp_path / "runs/mine/scores.json")


@pytest.fixture(scope="module")
def pushing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recorded pushes and two runs that imagine, one of them told no actions."""
    folder = tmp_path_factory.mktemp("pushing")
    before = Path.cwd()
    os.chdir(folder)
    try:
        few = ["--episodes", "3", "--validation", "2", "--test", "2", "--steps", "8", "--out", "store"]
        assert main(["prepare", "push", *few]) == 0
        short = ["--data.store", "store", "--data.steps", "4", "--train.steps", "4", "--train.validate-every", "2"]
        words = [*short, *TINY, "--train.batch-size", "3"]
        assert main(["train", "push-small", *words, "--out", "told"]) == 0
        assert main(["train", "push-blind", *words, "--out", "runs/push-blind"]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def there(pushing: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(pushing)
    return pushing


def test_prepare_records_what_was_asked_for_where_it_was(there: Path) -> None:
    store = EpisodeStore(there / "store")
    assert [len(store.split(name)) for name in ("train", "validation", "test")] == [3, 2, 2]
    assert set(store.entries[0].lengths.values()) == {8}
    assert not (there / "data").exists()  # nothing of the presets' own was recorded


def test_what_was_trained_is_scored_and_compared(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--sequences", "2", "--samples", "2"]
    assert main(["evaluate", "push-small", "--run", "told", *few]) == 0
    out = capsys.readouterr().out
    assert "psnr/mean" in out
    assert "report.html" in out
    assert (there / "told/report.html").stat().st_size > 10_000
    assert load_scores(there / "told/scores.json")["psnr/best"].protocol.best_of == 2
    assert main(["evaluate", "push-blind", *few]) == 0
    (there / "runs/push-small").symlink_to(there / "told")
    assert main(["compare", "push-small", "push-blind"]) == 0
    out = capsys.readouterr().out
    assert "psnr/mean" in out
    assert "shuffled" not in out


def test_what_it_imagines_can_be_looked_at(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--run", "told", "--steps", "3", "--samples", "2", "--what-if", "left", "still"]
    assert main(["rollout", "push-small", *words]) == 0
    printed = capsys.readouterr().out
    for name in ("imagined.gif", "imagined.png", "spread.png", "what_if.gif", "what_if.png"):
        assert name in printed
        with Image.open(there / "told" / name) as picture:
            assert picture.width > 100
    with Image.open(there / "told/imagined.gif") as film:
        assert getattr(film, "n_frames", 1) >= 2 + 3


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["rollout", "push-small", "--run", "told", "--steps", "3", "--what-if", "lefft"], "did you mean 'left'?"),
        (["rollout", "push-small", "--run", "told", "--steps", "500"], "imagine fewer (--steps 6)"),
        (["rollout", "push-small", "--run", "told", "--samples", "0"], "--samples is 0; it must be at least 1"),
        (["rollout", "push-small", "--run", "told", "--seed", "-1"], "--seed is -1; it must be at least 0"),
        (["rollout", "push-small", "--run", "told", "--episode", "99"], "unknown episode '99'"),
        (["rollout", "push-small", "--run", "told", "--place", "0.5", "0"], "unknown field '--place'"),
        (["rollout", "push-blind", "--steps", "3", "--what-if", "left"], "told no actions"),
        (["evaluate", "push-small", "--run", "told", "--samples", "0"], "--samples is 0; it must be at least 1"),
        (["evaluate", "push-small", "--run", "told", "--sequences", "0"], "--sequences is 0; it must be at least 1"),
        (["evaluate", "push-small", "--run", "told", "--steps", "500"], "shorter than the window"),
        (["evaluate", "push-small", "--run", "tolld"], "unknown run 'tolld'"),
        (["evaluate", "bair"], "unknown run 'bair'"),
        (["explain", "push-blind"], "sakiyomi rollout push-blind"),
        (["explain", "push-small", "--run", "told"], "imagines"),
        (["prepare", "bair"], "sakiyomi prepare bair FOLDER"),
        (["prepare", "bair", "nowhere"], "nowhere"),
        (["prepare", "push", "--episodes", "4", "--out", "store"], "episodes 3 there, 4 asked"),
        (["train", "push-small", "--data.store", "store", "--out", "x", "--model.height", "40"], "multiples of 16"),
        (["train", "push-small", "--data.store", "store", "--out", "x"], "shorter than the window of 11"),
        (["train", "push-small", "--data.store", "store", "--out", "x", "--data.steps", "1", *TINY], "--data.steps"),
        (["train", "push-small", "--train.teacher-forcing.ratio", "1.5", "--data.store", "store"], "at most 1"),
        (["train", "push-small", "--data.store", "store", "--model.past", "0"], "--model.past is 0"),
        (["compare", "pick", "push-blind"], "unknown run 'pick'"),
    ],
)
def test_a_slip_about_imagining_gets_one_line_and_a_cure(
    there: Path, capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    capsys.readouterr()
    assert main(words) == 1
    assert expected in said(capsys)


def test_the_help_of_a_model_that_imagines_is_its_own(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb, field in (("rollout", "--what-if"), ("evaluate", "--sequences"), ("train", "--model.latent")):
        with pytest.raises(SystemExit) as leaving:
            main([verb, "push-small", "--help"])
        assert leaving.value.code == 0
        text = capsys.readouterr().out
        assert field in text
        assert "--place" not in text


SHORT = ["--data.steps", "4", "--train.batch-size", "8", "--train.validate-every", "10", *walking.FLAGS]
FEW = ["--world.count", "6", "--agent.frames", "8", "--agent.hidden", "8"]


@pytest.fixture(scope="module")
def stepping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a generated walk, a motion VAE of it, and a controller of that one's character."""
    folder = tmp_path_factory.mktemp("stepping")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert main(["prepare", "stepping", "--clips", "3", "--validation", "1", "--test", "1", "--seconds", "2"]) == 0
        assert main(["train", "stepping", "--train.steps", "20", *SHORT]) == 0
        words = ["--character", "runs/stepping", "--frames", "90", *FEW]
        assert main(["train", "target-walker", *words]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def afoot(stepping: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(stepping)
    return stepping


def test_what_was_trained_to_walk_is_there(afoot: Path) -> None:
    store = EpisodeStore(afoot / "data/stepping")
    assert [len(store.split(name)) for name in ("train", "validation", "test")] == [3, 1, 1]
    names = {path.name for path in (afoot / "runs/stepping").iterdir()}
    assert {"job.json", "normalizer.json", "weights.safetensors", "last.safetensors", "metrics.jsonl"} <= names
    assert "limits.json" not in names  # it commands nothing
    model = vars(load_job(afoot / "runs/stepping").model)
    assert {name: model[name] for name in walking.TINY} == walking.TINY
    assert model["pose"] == store.streams["pose"].shape[0]
    job = load_controller_job(afoot / "runs/target-walker")
    assert (job.character, job.iterations) == ("runs/stepping", 2)


def test_a_walk_is_scored_and_compared(afoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--starts", "5", "--frames", "2"]
    assert main(["evaluate", "stepping", *few]) == 0
    out = capsys.readouterr().out
    assert "exploded" in out
    assert "report.html" in out
    assert (afoot / "runs/stepping/report.html").stat().st_size > 10_000
    words = ["--data.store", "data/stepping", "--train.steps", "2", *SHORT]
    assert main(["train", "walk-forced", *words]) == 0
    assert main(["evaluate", "walk-forced", *few]) == 0
    capsys.readouterr()
    assert main(["compare", "stepping", "walk-forced"]) == 0
    assert "exploded" in capsys.readouterr().out
    assert main(["evaluate", "walk-forced", "--starts", "5", "--frames", "3"]) == 0
    capsys.readouterr()
    assert main(["compare", "stepping", "walk-forced"]) == 1
    assert "2 frames on its own" in said(capsys)


def test_a_walk_can_be_looked_at(afoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollout", "stepping", "--frames", "12", "--characters", "2", "--drawn", "1"]) == 0
    printed = capsys.readouterr().out
    for name in ("walk.gif", "paths.png"):
        assert name in printed
        with Image.open(afoot / "runs/stepping" / name) as picture:
            assert picture.width > 100
    assert "walk-00.bvh" in printed
    assert len(read_bvh(afoot / "runs/stepping/walk-00.bvh").positions) == 12


def test_a_controller_is_scored_and_can_be_looked_at(afoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "target-walker", "--characters", "3", "--seconds", "11"]) == 0
    assert "targets_reached" in capsys.readouterr().out
    scores = load_scores(afoot / "runs/target-walker/scores.json")
    assert {"targets_reached", "targets_reached/random", "whole", "whole/random"} <= scores.keys()
    assert scores["whole"].protocol.counted == "3 characters for 11 s at 30 Hz"
    assert main(["rollout", "target-walker", "--characters", "2", "--seconds", "1"]) == 0
    printed = capsys.readouterr().out
    for name in ("steered.gif", "paths.png"):
        assert name in printed
        with Image.open(afoot / "runs/target-walker" / name) as picture:
            assert picture.width > 100
    assert 1 <= len(read_bvh(afoot / "runs/target-walker/steered-00.bvh").positions) <= 30


def test_going_on_needs_nothing_typed_again(afoot: Path) -> None:
    for name in ("stepping", "target-walker"):
        weights = (afoot / "runs" / name / "weights.safetensors").read_bytes()
        assert main(["train", name, "--resume"]) == 0
        assert (afoot / "runs" / name / "weights.safetensors").read_bytes() == weights


@pytest.mark.parametrize("name", ["stepping", "target-walker"])
def test_a_character_is_served_with_its_controllers_until_ctrl_c(afoot: Path, name: str) -> None:
    """Of a motion VAE, those controllers that stand beside it."""
    command = [sys.executable, "-u", "-m", "sakiyomi", "serve", name, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    told = ""
    while "Ctrl-C" not in told and process.poll() is None:
        told += process.stdout.readline()
    assert f"{name}, steered by the target controller" in told
    address = next(word for word in told.split() if word.startswith("http://"))
    with urlopen(address, timeout=30) as page:
        assert page.status == 200
        assert b"<canvas" in page.read()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (0, "")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["prepare", "walk"], "no path given: name a folder or .zip of BVH files: sakiyomi prepare"),
        (["prepare", "walk", "nowhere"], "nowhere does not exist"),
        (["prepare", "walk", "data"], "data holds no .bvh file"),
        (["prepare", "stepping", "--clips", "4"], "clips 3 there, 4 asked"),
        (["prepare", "steping"], "did you mean 'stepping'?"),
        (["train", "walk"], "no path given"),
        (["train", "target-walker", "--out", "x"], "runs/walk holds no run"),
        (["train", "target-walkr"], "did you mean 'target-walker'?"),
        (["train", "target-walker", "--character", "runs/stepping"], "holds a run already"),
        (["train", "target-walker", "--task.raech", "1"], "did you mean '--task.reach'?"),
        (["train", "joystick-walker", "--character", "runs/target-walker"], "runs/target-walker/job.json"),
        (["train", "stepping", "--model.mixtur", "vq"], "did you mean '--model.mixture'?"),
        (["train", "stepping", "--data.rate", "15", "--out", "x"], "at 15 Hz some of it would be lost"),
        (["train", "stepping", "--data.steps", "500", "--out", "x"], "shorter than the window of 500"),
        (["train", "stepping", "--model.experts", "0", "--out", "x"], "--model.experts is 0; it must be at least 1"),
        (["train", "stepping", "--model.pose", "9", "--out", "narrow"], "the model was built for"),
        (["evaluate", "steppin"], "did you mean 'stepping'?"),
        (["evaluate", "walk"], "unknown run 'walk'"),
        (["evaluate", "stepping", "--frames", "1"], "--frames is 1; it must be at least 2"),
        (["evaluate", "stepping", "--trials", "5"], "unknown field '--trials'"),
        (["evaluate", "target-walker", "--seconds", "0"], "--seconds"),
        (["evaluate", "target-walker", "--seconds", "nan"], "--seconds"),
        (["evaluate", "target-walker", "--seconds", "inf"], "--seconds"),
        (["evaluate", "target-walker", "--run", "runs/nothing"], "unknown run 'runs/nothing'"),
        (["rollout", "stepping", "--characters", "0"], "--characters is 0; it must be at least 1"),
        (["rollout", "stepping", "--frames", "4000000"], "it must be at most 3000000"),
        (["rollout", "stepping", "--device", "tpu"], "unknown device 'tpu'"),
        (["rollout", "target-walker", "--bvh", "-1"], "--bvh is -1; it must be at least 0"),
        (["rollout", "target-walker", "--seconds", "nan"], "--seconds"),
        (["rollout", "walk"], "unknown run 'walk'"),
        (["explain", "stepping"], "sakiyomi rollout stepping"),
        (["explain", "target-walker"], "sakiyomi rollout target-walker"),
        (["compare", "nothing", "stepping"], "unknown run 'nothing'"),
        (["serve", "walk"], "unknown run 'walk'"),
        (["serve", "target-walkr"], "did you mean 'target-walker'?"),
        (["serve", "stepping", "--port", "70000"], "--port is 70000; it must be at most 65535"),
        (["serve", "stepping", "--host", "256.1.1.1", "--port", "0"], "cannot serve on 256.1.1.1"),
        (["demo-motion", "nowhere"], "nowhere does not exist"),
        (["demo-motion", "data", "--steps", "-1"], "--steps is -1; it must be at least 0"),
        (["demo-motion", "data", "--step", "1"], "did you mean '--steps'?"),
    ],
)
def test_a_slip_about_walking_gets_one_line_and_a_cure(
    afoot: Path, capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    capsys.readouterr()
    assert main(words) == 1
    assert expected in said(capsys)
    assert not (afoot / "x").exists()


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["prepare", "stepping"], "--clips"),
        (["prepare", "walk"], "--mirror"),
        (["train", "stepping"], "--model.experts"),
        (["train", "walk"], "--train.teacher-forcing.start"),
        (["train", "target-walker"], "--task.reach"),
        (["train", "joystick-walker"], "--agent.learning-rate.peak"),
        (["evaluate", "walk"], "--starts"),
        (["evaluate", "target-walker"], "--seconds"),
        (["rollout", "stepping"], "--characters"),
        (["rollout", "maze-walker"], "--drawn"),
        (["serve", "target-walker"], "--port"),
        (["demo-motion", "generated"], "--starts"),
    ],
)
def test_help_of_what_walks_lists_its_fields(
    afoot: Path, capsys: pytest.CaptureFixture[str], words: list[str], field: str
) -> None:
    with pytest.raises(SystemExit) as leaving:
        main([*words, "--help"])
    assert leaving.value.code == 0
    text = capsys.readouterr().out
    assert field in text
    for other in ("--trials", "--place", "--what-if"):
        assert other not in text


def test_help_names_what_walks_and_how_it_is_steered(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for name in ("demo-motion", "serve", "stepping", "walk-forced", "target-walker", "maze-walker"):
        assert f"  {name} " in text
