"""Sweeps: nothing is done twice, nothing is lost, and the table says what its runs say."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from sakiyomi.__main__ import main
from sakiyomi.cluster import Workers, workers
from sakiyomi.commands import asked_job, do_evaluate, do_train
from sakiyomi.data.sources.pick_cube import PickCubeSource
from sakiyomi.errors import SakiyomiError
from sakiyomi.evaluate import Asked, attention_scores, drive
from sakiyomi.fleet import spread_over
from sakiyomi.job import load_job
from sakiyomi.rollout import Trial, load
from sakiyomi.run import read_metrics, read_tensors
from sakiyomi.scores.protocol import Protocol, Score, load_scores
from sakiyomi.scores.seeds import Rule, needed, over_seeds, reliability, rule
from sakiyomi.sweep import USUAL, Definition, Run, Setting, Swept, Verbs, read_swept, run_far, run_one, runs_of
from sakiyomi.views.sweep import rows
from sakiyomi.worlds.pick_cube import HORIZON, PickCube
from sakiyomi.worlds.pick_cube_conditions import conditions

TINY = ["--train.batch-size", "2", "--train.validate-every", "2", "--model.hidden", "4", "--data.steps", "8"]
LONG = ["--train.batch-size", "2", "--train.validate-every", "60", "--model.hidden", "4", "--data.steps", "8"]
LONG += ["--train.steps", "120", "--train.save-every", "30"]
ONE_TRIAL = ["--evaluate.trials", "1", "--evaluate.only", "taught"]
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'sakiyomi[cluster]'")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with few recordings and a finished sweep of two settings and two seeds, one after the other."""
    folder = tmp_path_factory.mktemp("sweeps")
    PickCubeSource(episodes=5, validation=5, image_size=32).record(folder / "data/pick-small")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert main(["sweep", "pick-joints", *words("--train.clip", "1,2"), "--seeds", "2"]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


@pytest.fixture(scope="module")
def ray() -> Iterator[Workers]:
    """Started once: it takes seconds."""
    with workers(2) as on:
        yield on


def words(*more: str, steps: int = 4) -> list[str]:
    return [*TINY, "--train.steps", str(steps), *ONE_TRIAL, "--here", *more]


def touched(out: Path) -> dict[str, int]:
    """When each run's weights and scores were written."""
    kept = ("last.safetensors", "metrics.jsonl", "scores.json", "swept.json")
    return {str(path): path.stat().st_mtime_ns for name in kept for path in out.glob(f"*/{name}")}


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What came on standard error: one line."""
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


def test_a_sweep_is_the_runs_that_train_and_evaluate_would_have_made(here: Path) -> None:
    out = here / "runs/sweep-pick-joints"
    names = [f"clip={clip},seed={seed}" for seed in (0, 1) for clip in (1, 2)]
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == sorted(names)
    for name in names:
        assert f"{load_job(out / name).train.clip:g},seed={load_job(out / name).train.seed}" in name
        assert read_metrics(out / name)[-1]["step"] == 4
    alone = ["--train.clip", "2", "--train.seed", "1", "--train.steps", "4", "--train.threads", "1"]
    assert main(["train", "pick-joints", *TINY, *alone, "--out", "runs/alone"]) == 0
    (_, ours), (_, theirs) = (
        read_tensors(folder / "last.safetensors") for folder in (out / "clip=2,seed=1", here / "runs/alone")
    )
    assert all(np.array_equal(ours[key], theirs[key]) for key in ours | theirs)


def test_the_table_says_what_the_runs_say(here: Path) -> None:
    out = here / "runs/sweep-pick-joints"
    found = read_swept(out)
    assert found.fields["train.clip"] == ("1", "2")
    assert (found.seeds, len(found.finished), found.failed) == (2, 4, {})
    for clip in ("1", "2"):
        setting = found.settings[f"clip={clip}"]
        values = [
            load_scores(out / f"clip={clip},seed={seed}/scores.json")["drift_one_step/joints"].value for seed in (0, 1)
        ]
        assert list(setting.scores["drift_one_step/joints"].values.values()) == values
        assert setting.scores["drift_one_step/joints"].mean.value == pytest.approx(np.mean(values))
        lowest = {
            name: min(line["validation/total"] for line in read_metrics(out / name) if "validation/total" in line)
            for name in setting.validation
        }
        assert setting.validation == lowest
        assert setting.best == min(lowest, key=lambda name: lowest[name])
    page = (out / "report.html").read_text()
    assert "clip=2,seed=1" in page or "clip=2,seed=0" in page


def test_the_same_command_redoes_nothing_and_more_seeds_only_add(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = here / "runs/sweep-pick-joints"
    before = touched(out)
    command = ["sweep", "pick-joints", *words("--train.clip", "1,2")]
    assert main([*command, "--seeds", "2"]) == 0
    assert touched(out) == before
    turned = ["--evaluate.only", "taught", "--evaluate.trials", "1", "--train.clip", "1,2", "--train.steps", "4"]
    assert main(["sweep", "pick-joints", "--seeds", "2", *turned, *TINY, "--here"]) == 0
    assert touched(out) == before
    assert main([*command, "--seeds", "3"]) == 0
    after = touched(out)
    assert {path: when for path, when in after.items() if path in before} == before
    assert len(after) == len(before) * 3 // 2
    assert len(read_swept(out).settings["clip=1"].validation) == 3
    capsys.readouterr()
    assert main(["sweep", "pick-joints", *words("--train.clip", "1,3"), "--seeds", "2"]) == 1
    assert "train.clip: 1,2 there, 1,3 asked" in said(capsys)
    assert main(["sweep", "pick-joints", *words(steps=5), "--seeds", "2"]) == 1
    assert "train.steps: 4 there, 5 asked" in said(capsys)
    assert touched(out) == after


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--train.stps", "1,2"], "did you mean '--train.steps'"),
        (["--train.clip", "1,x"], "'--train.clip x'"),
        (["--train.clip", "1,-1"], "--train.clip is -1"),
        (["--train.clip", "1,1.0"], "the value '1.0' twice"),
        (["--train.clip", "1", "--train.clip", "2"], "given twice"),
        (["--train.seed", "1,2"], "give --seeds"),
        (["--data.skip-short", "true,perhaps"], "--data.skip-short is 'perhaps'"),
        (["--evaluate.trails", "3"], "did you mean '--trials'"),
        (["--evaluate.trials", "many"], "--trials many"),
        (["--good", "success/untaught"], "is no rule"),
        (["--seeds", "0"], "--seeds is 0"),
        (["--workers", "-1"], "--workers is -1"),
        (["--gpus", "-1"], "--gpus is -1"),
        (["--address", "127.0.0.1:1"], "no Ray cluster answers"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_begins(
    here: Path, given: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", "pick-joints", *TINY, *given, "--out", "runs/refused"]) == 1
    assert expected in said(capsys)
    assert not [path for path in Path("runs").glob("refused/*") if path.is_dir()]


def test_a_run_that_failed_is_told_the_others_go_on_and_it_is_tried_again(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A store that is not there when it is begun, and there when the command is repeated."""
    command = ["sweep", "pick-joints", *words("--data.store", "data/pick-small,data/late"), "--seeds", "1"]
    assert main([*command, "--out", "runs/late"]) == 1
    error = said(capsys)
    assert "1 of 2 runs failed" in error
    assert "store=data_late,seed=0: " in error
    found = read_swept(here / "runs/late")
    assert found.finished == ("store=data_pick-small,seed=0",)
    assert set(found.failed) == {"store=data_late,seed=0"}
    before = touched(here / "runs/late")
    (here / "data/late").symlink_to(here / "data/pick-small")
    assert main([*command, "--out", "runs/late"]) == 0
    assert len(read_swept(here / "runs/late").finished) == 2
    assert {path: when for path, when in touched(here / "runs/late").items() if path in before} == before


def test_a_killed_sweep_goes_on_and_ends_as_one_that_was_not(here: Path) -> None:
    command = ["sweep", "pick-joints", *LONG, *ONE_TRIAL, "--here", "--seeds", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sakiyomi", *command, "--out", "runs/killed"],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    second = here / "runs/killed/seed=1/last.safetensors"
    while not second.exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    stopped = json.loads(read_tensors(second)[0]["state"])["step"]
    assert 0 < stopped < 120
    before = touched(here / "runs/killed")
    assert main([*command, "--out", "runs/killed"]) == 0
    after = touched(here / "runs/killed")
    assert all(after[path] == when for path, when in before.items() if "seed=0" in path)
    assert len(list((here / "runs/killed/seed=1/tensorboard").iterdir())) == 2  # begun, and gone on with
    assert main([*command, "--out", "runs/whole"]) == 0
    for seed in (0, 1):
        (_, a), (_, b) = (read_tensors(Path(f"runs/{out}/seed={seed}/last.safetensors")) for out in ("killed", "whole"))
        assert all(np.array_equal(a[key], b[key]) for key in a | b)


def test_names_are_short_and_tell_all_runs_apart() -> None:
    def plain(name: str, value: str) -> list[str]:
        return [f"--{name}", value]

    fields = {"model.points": ("5", "8"), "train.steps": ("10",), "train.learning-rate.peak": ("1e-3", "3e-3")}
    runs = runs_of(Definition("pick", fields), 3, "--train.seed", plain)
    assert len({run.name for run in runs}) == len(runs) == 12
    assert runs[0].name == "points=5,peak=1e-3,seed=0"
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    assert runs[-1].train[-2:] == ("--train.seed", "2")
    same_tail = {"data.steps": ("1", "2"), "train.steps": ("1", "2")}
    assert (
        runs_of(Definition("pick", same_tail), 1, "--train.seed", plain)[1].name == "data.steps=1,train.steps=2,seed=0"
    )
    with pytest.raises(SakiyomiError, match="folder store=a_b,seed=0"):
        runs_of(Definition("pick", {"data.store": ("a/b", "a:b")}), 1, "--train.seed", plain)


def score(value: float, unit: str = "ms", n: int = 50, interval: str = "none") -> Score:
    return Score("s", value, None, None, unit, Protocol("world", "all", "rule", n, "0", interval=interval))


def test_a_mean_over_seeds_has_students_interval() -> None:
    values = [1.0, 1.5, 0.7, 2.2, 1.1]
    found = over_seeds({seed: {"s": score(value)} for seed, value in enumerate(values)})["s"]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.mean.low, found.mean.high) == pytest.approx((expected.low, expected.high))
    assert found.mean.value == pytest.approx(np.mean(values))
    assert found.mean.protocol.n == 250
    assert "5 seeds" in found.mean.protocol.interval
    single = over_seeds({3: {"s": score(2.0)}})["s"]
    assert (single.mean.value, single.mean.low, single.mean.high) == (2.0, None, None)
    assert single.values == {"3": 2.0}
    missing = over_seeds({0: {"s": score(1.0)}, 1: {}, 2: {"s": score(3.0)}})["s"]
    assert list(missing.values) == ["0", "2"]


def test_a_rates_interval_is_no_narrower_than_that_of_its_trials() -> None:
    def rates(*values: float) -> Score:
        runs = {seed: {"s": score(value, "rate", 50, "wilson 95 %")} for seed, value in enumerate(values)}
        return over_seeds(runs)["s"].mean

    perfect = rates(1.0, 1.0, 1.0)
    trials = stats.binomtest(150, 150).proportion_ci(method="wilson")
    assert (perfect.low, perfect.high) == pytest.approx((trials.low, 1.0))
    apart = rates(0.2, 1.0, 0.6)
    assert (apart.low, apart.high) == (0.0, 1.0)  # Student's, cut to what a rate can be
    near = rates(0.5, 0.52, 0.48)
    trials = stats.binomtest(75, 150).proportion_ci(method="wilson")
    assert near.low is not None
    assert near.low <= trials.low + 1e-12


def test_each_seed_is_told_in_the_unit_of_the_mean() -> None:
    runs = {0: {"s": score(0.5, "rate"), "t": score(0.5)}, 1: {"s": score(1.0, "rate"), "t": score(20.0)}}
    found = Swept("pick", {}, (), 2, {"pick": Setting(over_seeds(runs), "", {}, ())})
    assert [(row[2], row[-1]) for row in rows(found)] == [("75 %", "50.0 100 %"), ("10.2 ms", "0.5 20.0")]


def test_seeds_that_were_measured_otherwise_are_not_averaged() -> None:
    other = score(1.0)
    other = replace(other, protocol=replace(other.protocol, seeds="100.."))
    with pytest.raises(SakiyomiError, match="seed 1 was measured otherwise"):
        over_seeds({0: {"s": score(1.0)}, 1: {"s": other}})


def test_how_many_trainings_one_should_do() -> None:
    """The definition: enough with k, not with k - 1."""
    for p in np.linspace(0.01, 0.99, 50):
        k = needed(float(p))
        assert k is not None
        assert 1 - (1 - p) ** k >= 0.95 > 1 - (1 - p) ** (k - 1)
    assert needed(0) is None
    assert needed(1) == 1
    runs = {seed: {"a": score(value)} for seed, value in enumerate((1.0, 2.0, 3.0, 4.0))}
    runs[0]["b"] = score(9.0)
    found = reliability((rule("a<=3"), rule("b >= 1e0")), runs)
    assert (found.good, found.n, found.rule) == (1, 4, "a <= 3 and b >= 1")
    expected = stats.binomtest(1, 4).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    with pytest.raises(SakiyomiError, match="unknown score in --good 'c'"):
        reliability((Rule("c", "<=", 1),), runs)


def looking(points: np.ndarray, cubes: np.ndarray) -> Trial:
    """A trial in which one point [T, 2] was meant and the cube was at [T, 2], both in 0..1; the gripper stays open."""
    ticks, joints = len(points), np.ones((len(points), 8))
    nothing = np.zeros(ticks)
    return Trial(
        success_any=True,
        success_last=True,
        scene={},
        seed=0,
        images=None,
        predicted_images=None,
        attention=points[:, None],
        predicted_attention=points[:, None],
        cube_pixels=cubes,
        cube_heights=nothing,
        joints=joints,
        commands=joints,
        hidden=nothing[:, None],
        violations={},
        seconds=nothing,
        rate=10,
    )


def test_what_follows_at_a_distance_follows_and_what_rests_does_not() -> None:
    """At the places of the trials: a point beside the cube keeps the rule, the best one that never moves does not."""
    place, world = conditions(20)["untaught"], PickCube(image_size=32)
    cubes = [
        np.repeat(world.reset(seed=i, options=dict(scene))[1]["cube_pixel"][None], 6, axis=0)
        for i, scene in enumerate(place.scenes)
    ]
    world.close()
    middle = np.median([cube[0] for cube in cubes], axis=0)
    beside = [looking(cube + np.array((0.05, 0.08)), cube) for cube in cubes]
    resting = [looking(np.repeat(middle[None], 6, axis=0), cube) for cube in cubes]
    follows = USUAL[0]
    good, bad = (attention_scores("untaught", place, trials, 64) for trials in (beside, resting))
    assert good["attention/untaught"].value == pytest.approx(64 * np.hypot(0.05, 0.08), rel=1e-3)
    assert good["following/untaught"].value == pytest.approx(0, abs=1e-6)
    assert follows.holds(good)
    assert not follows.holds(bad)
    assert bad["following/untaught"].value > 1.5 * follows.bound


@needs_ray
def test_a_fleet_drives_as_one_process_does(here: Path, ray: Workers) -> None:
    folder = here / "runs/sweep-pick-joints/clip=1,seed=0"
    trained = load(folder)
    told: list[int] = []
    asked = {name: Asked(conditions(5)[name], range(5), None) for name in ("taught", "moved")}
    fleet = spread_over(ray, folder, asked, lambda done, total, name: told.append(done))
    alone = drive(trained, asked, lambda done, total, name: None)
    assert told == sorted(told)
    assert told[-1] == 10
    for name in asked:
        assert [trial.seed for trial in fleet[name]] == [trial.seed for trial in alone[name]]
        for ours, theirs in zip(fleet[name], alone[name], strict=True):
            for key, value in vars(theirs).items():
                if key not in ("seconds", "rate"):
                    np.testing.assert_equal(getattr(ours, key), value)
    assert len(fleet["taught"][0].commands) == HORIZON


@needs_ray
def test_a_sweep_on_ray_is_the_same_sweep(here: Path, ray: Workers) -> None:
    from sakiyomi.cluster import Failed, Need, results

    verbs, there = Verbs(do_train, do_evaluate), here / "runs/sweep-pick-joints"
    train = (*TINY, "--train.steps", "4", "--train.threads", "1", "--train.clip", "2", "--train.seed", "1")
    assert asked_job("pick-joints", [*train]) == load_job(there / "clip=2,seed=1")
    run, scoring = Run("", 1, "seed=1", train, "data/pick-small"), ("--trials", "1", "--only", "taught")
    out = here / "runs/far"
    calls = [
        (here, verbs, "pick-joints", run, out / run.name, scoring),
        (here / "elsewhere", verbs, "pick-joints", run, out / run.name, scoring),
        (here, verbs, "pick-joints", replace(run, reads="data/nowhere"), out / run.name, scoring),
    ]
    out.mkdir()
    (out / "sweep.json").write_text("{}")
    found = dict(results(ray, run_far, calls, Need()))
    assert found[0] == ""
    for number, missing in ((1, "elsewhere"), (2, "data/nowhere")):
        assert isinstance(found[number], Failed)
        assert f"cannot see {here / missing}" in found[number].error
        assert "shared" in found[number].error or "mount" in found[number].error
    (_, a), (_, b) = (read_tensors(folder / "last.safetensors") for folder in (out / "seed=1", there / "clip=2,seed=1"))
    assert all(np.array_equal(a[key], b[key]) for key in a | b)
    assert run_one(verbs, "pick-joints", run, out / run.name, scoring) == ""


@needs_ray
def test_a_worker_that_is_killed_is_begun_again_and_goes_on(here: Path, ray: Workers) -> None:
    from sakiyomi.cluster import Need, results

    def die_once(name: str, words: list[str]) -> None:
        """Train, and be killed once a checkpoint is there, the first time."""
        folder = Path(words[words.index("--out") + 1])
        if not (folder / "died").exists():
            (folder / "died").touch()
            threading.Thread(target=die_with, args=(folder / "last.safetensors",), daemon=True).start()
        do_train(name, words)

    def die_with(saved: Path) -> None:
        while not saved.exists():
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGKILL)

    out = here / "runs/died"
    out.mkdir()
    (out / "sweep.json").write_text("{}")
    run = Run("", 0, "seed=0", (*LONG, "--train.threads", "1", "--train.seed", "0"), "data/pick-small")
    scoring = ("--trials", "1", "--only", "taught")
    call = (here, Verbs(die_once, do_evaluate), "pick-joints", run, out / run.name, scoring)
    assert list(results(ray, run_far, [call], Need())) == [(0, "")]
    assert len(list((out / "seed=0/tensorboard").iterdir())) == 2  # begun, and gone on with
    whole = here / "runs/whole/seed=0"  # of the test of a killed sweep
    if not whole.exists():
        do_train("pick-joints", [*run.train, "--out", str(whole)])
    (_, a), (_, b) = (read_tensors(folder / "last.safetensors") for folder in (out / "seed=0", whole))
    assert all(np.array_equal(a[key], b[key]) for key in a | b)
