"""Several processes that train together: real ones, started by torchrun, on this machine."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import together
import torch

from sakiyomi.distributed import Team, joined, shards_of
from sakiyomi.errors import SakiyomiError
from sakiyomi.job import Job, load_job, save_job
from sakiyomi.run import read_metrics, read_tensors
from sakiyomi.train import train

TOGETHER = [str(Path(together.__file__))]
SAKIYOMI = ["-m", "sakiyomi"]


@contextmanager
def started(program: list[str], words: list[str], *options: str) -> Iterator["subprocess.Popen[str]"]:
    """Two processes and their torchrun, which are gone afterwards, whatever the test came to."""
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", *(options or ["--standalone"])]
    command = [sys.executable, *launcher]
    tests = Path(together.__file__).parent
    paths = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen([*command, *program, *words], env={**os.environ, "PYTHONPATH": paths}, **pipe) as running:
        try:
            yield running
        finally:
            if running.poll() is None:
                running.terminate()  # not killed: it ends the others


def on_a_port() -> list[str]:
    """Without --standalone torchrun keeps its store, and what is in it, when it starts all anew."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return ["--master-port", str(free.getsockname()[1])]


def told(running: "subprocess.Popen[str]") -> str:
    """All that is said until the end."""
    return running.communicate(timeout=120)[0]


def once_under_way(folder: Path, act: Callable[[], None], lines: int = 12) -> None:
    """Do something as soon as so many lines are logged."""
    end = time.monotonic() + 120
    while len(read_metrics(folder)) < lines:
        assert time.monotonic() < end, "the training does not begin"
        time.sleep(0.005)
    act()


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("together")
    together.write_stores(folder)
    return folder


@pytest.fixture(scope="module")
def jobs(stores: Path) -> dict[str, Job]:
    return together.jobs(stores)


def in_parts(job: Job, shards: int = 2) -> Job:
    return replace(job, train=replace(job.train, shards=shards))


def apart(a: Path, b: Path) -> float:
    """The largest difference between two checkpoints, moments and all."""
    (_, left), (_, right) = read_tensors(a / "last.safetensors"), read_tensors(b / "last.safetensors")
    assert left.keys() == right.keys()
    return max(float((left[name].double() - right[name].double()).abs().max()) for name in left)


def said_alike(a: Path, b: Path) -> None:
    """The same lines in both logs, each step once, validation and all, up to rounding."""
    left, right = read_metrics(a), read_metrics(b)
    steps = [line["step"] for line in left if "lr" in line]
    assert steps == sorted(set(steps)) == [line["step"] for line in right if "lr" in line]
    for one, other in zip(left, right, strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-7)


@pytest.fixture(scope="module")
def two(stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folders of what two processes have learned together."""
    folder = tmp_path_factory.mktemp("two")
    with started(TOGETHER, [str(stores), str(folder), "arm", "push", "walk", "pairs", "spread"]) as running:
        said = told(running)
    assert running.returncode == 0, said
    return folder


@pytest.mark.parametrize("name", ["arm", "push", "walk", "pairs"])
def test_two_processes_learn_what_one_does_with_two_shards(
    two: Path, jobs: dict[str, Job], tmp_path: Path, name: str
) -> None:
    """Noise, dropout, a loss on some of the pictures, BatchNorm, a gradient step a frame: 12 steps of each."""
    train(in_parts(jobs[name]), tmp_path)
    assert apart(two / name, tmp_path) < 1e-6
    said_alike(two / name, tmp_path)
    assert load_job(two / name).train.shards == 2  # asked for none: one a process
    assert len([*(two / name / "tensorboard").iterdir()]) == 1


def test_moments_that_are_spread_change_nothing_and_are_resumed_by_one(
    two: Path, jobs: dict[str, Job], tmp_path: Path
) -> None:
    assert apart(two / "arm", two / "spread") < 1e-6
    for name in ("arm", "spread"):
        longer = load_job(two / name)
        longer = replace(longer, train=replace(longer.train, steps=25))
        (tmp_path / name).mkdir()
        for path in (path for path in (two / name).iterdir() if path.is_file()):
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
        save_job(longer, tmp_path / name)
        assert train(longer, tmp_path / name, resume=True).steps == 25
    assert apart(tmp_path / "arm", tmp_path / "spread") < 1e-6


def test_shards_are_parts_of_one_batch(jobs: dict[str, Job], tmp_path: Path) -> None:
    """Without noise, which each shard draws for itself, as many shards as you like learn the same."""
    job = jobs["arm"]
    still = replace(
        job,
        model=replace(job.model, image_loss_fraction=1.0),  # pyright: ignore[reportCallIssue]
        augment=replace(job.augment, joints=0, image=0, light=0, flicker=0, colour=0, shift=0, patch=0),
        # One step: twenty would make much of rounding. Its gradients are in Adam's moments.
        train=replace(job.train, steps=1, adam_eps=1e-3),
    )
    for shards in (0, 1, 2, 5):
        train(in_parts(still, shards), tmp_path / str(shards))
    assert apart(tmp_path / "0", tmp_path / "1") == 0
    assert apart(tmp_path / "1", tmp_path / "2") < 1e-6
    assert apart(tmp_path / "1", tmp_path / "5") < 1e-6
    (first, *_), (other, *_) = read_metrics(tmp_path / "1"), read_metrics(tmp_path / "5")
    assert first == pytest.approx(other, rel=1e-4)
    train(in_parts(job, 1), tmp_path / "noisy")
    train(in_parts(job, 2), tmp_path / "noisy in parts")
    assert apart(tmp_path / "noisy", tmp_path / "noisy in parts") > 1e-5


@pytest.fixture(scope="module")
def unbroken(jobs: dict[str, Job], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    train(in_parts(jobs["long"]), folder)
    return folder


def test_a_killed_process_costs_the_steps_since_the_last_checkpoint(
    stores: Path, unbroken: Path, tmp_path: Path
) -> None:
    with started(TOGETHER, [str(stores), str(tmp_path), "long"], *on_a_port(), "--max-restarts", "3") as running:
        once_under_way(tmp_path / "long", lambda: os.kill(int((tmp_path / "1.pid").read_text()), signal.SIGKILL))
        said = told(running)
    assert running.returncode == 0, said
    assert apart(tmp_path / "long", unbroken) < 1e-6
    said_alike(tmp_path / "long", unbroken)
    assert len([*(tmp_path / "long/tensorboard").iterdir()]) == 2  # it was begun twice


def test_ctrl_c_is_saved_once_and_another_number_of_processes_goes_on(
    stores: Path, jobs: dict[str, Job], unbroken: Path, tmp_path: Path
) -> None:
    with started(TOGETHER, [str(stores), str(tmp_path), "long"]) as running:
        once_under_way(tmp_path / "long", lambda: running.send_signal(signal.SIGINT))
        said = told(running)
    assert running.returncode != 0
    assert said.count("Interrupted: stopped before step") == 1, said
    done = len([line for line in read_metrics(tmp_path / "long") if "lr" in line])
    assert 10 <= done < 60
    header, _ = read_tensors(tmp_path / "long/last.safetensors")
    assert f'"step": {done}' in header["state"]  # the step at hand was finished, and no other begun
    assert train(jobs["long"], tmp_path / "long", resume=True).steps == 60  # by one process, which asks for no number
    assert apart(tmp_path / "long", unbroken) < 1e-6
    said_alike(tmp_path / "long", unbroken)


def test_what_is_wrong_for_all_is_said_by_one(stores: Path, tmp_path: Path) -> None:
    words = ["train", "pick-small", "--data.store", str(stores / "arm"), "--out", str(tmp_path / "run")]
    words += ["--train.shards", "3"]
    with started(SAKIYOMI, words, "--standalone", "--max-restarts", "3") as running:  # to try again would not help
        said = told(running)
    assert running.returncode == 1
    assert said.count("sakiyomi: batches are drawn in 3 shard(s)") == 1, said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("asked", "before", "size", "found"),
    [(0, None, 1, 0), (0, None, 4, 4), (8, None, 4, 8), (0, 4, 2, 4), (0, 4, 1, 4), (0, 0, 1, 0), (6, 6, 3, 6)],
)
def test_a_training_keeps_its_number_of_shards(asked: int, before: int | None, size: int, found: int) -> None:
    assert shards_of(asked, before, size) == found


@pytest.mark.parametrize(
    ("asked", "before", "size", "told"),
    [
        (3, None, 2, r"3 shard\(s\).*2 processes cannot share evenly.*divides it \(1, 3\).*--train.shards 2"),
        (0, 4, 3, r"4 shard\(s\).*divides it \(1, 2, 4\), or start anew \(--out\) with --train.shards 3"),
        (0, 0, 2, r"1 shard\(s\).*divides it \(1\), or start anew"),
    ],
)
def test_shards_that_cannot_be_shared_are_told_with_what_could(
    asked: int, before: int | None, size: int, told: str
) -> None:
    with pytest.raises(SakiyomiError, match=told):
        shards_of(asked, before, size)


def test_more_shards_than_windows_are_refused(jobs: dict[str, Job], tmp_path: Path) -> None:
    with pytest.raises(SakiyomiError, match=r"--train.shards is 6, more than the 5 windows of a batch"):
        train(in_parts(jobs["arm"], 6), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_torchrun_is_missed_when_it_is_gone() -> None:
    assert not Team(launcher=os.getppid()).abandoned
    assert Team(launcher=os.getpid()).abandoned
    assert not Team().abandoned


def test_one_process_is_a_team_of_its_own() -> None:
    with joined() as team:
        assert team == Team()
        assert team.any(True)
        assert not team.any(False)
        assert torch.equal(team.rows(3, lambda number: torch.tensor([float(number)])), torch.arange(3.0)[:, None])
        done: list[int] = []
        team.once("it", lambda: done.append(1))
        assert done == [1]
