"""Checkpoints, logs and devices."""

import json
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sakiyomi.errors import SakiyomiError
from sakiyomi.models import MVAE, JointRNN
from sakiyomi.run import (
    Clock,
    Log,
    check_header,
    load_checkpoint,
    moments_here,
    pick_device,
    read_metrics,
    read_tensors,
    restore,
    save_checkpoint,
)


def trained_a_little(layout: torch.memory_format) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 2, 3)).to(memory_format=layout)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    for _ in range(3):
        model(torch.rand(2, 3, 8, 8)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_next_step_after_a_restore_is_the_one_that_would_have_come(
    tmp_path: Path, layout: torch.memory_format
) -> None:
    """Moments must lie in memory as their weights do: the fused step pairs them by position."""
    model, optimizer = trained_a_little(layout)
    save_checkpoint(tmp_path / "last.safetensors", model, moments_here(optimizer), JointRNN.Config(), {"step": 3})
    again, fresh = trained_a_little(layout)
    restore(load_checkpoint(tmp_path / "last.safetensors", JointRNN.Config()), again, fresh)
    data = torch.rand(2, 3, 8, 8)
    for net, opt in ((model, optimizer), (again, fresh)):
        net(data).square().mean().backward()
        opt.step()
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_field_that_came_later_is_as_it_was_before(tmp_path: Path) -> None:
    """Older files do not name it."""
    model, optimizer = trained_a_little(torch.contiguous_format)
    path, config = tmp_path / "last.safetensors", MVAE.Config(pose=3)
    save_checkpoint(path, model, moments_here(optimizer), config, {"step": 3})
    found, _ = read_tensors(path)
    older = {name: value for name, value in json.loads(found["config"]).items() if name != "hidden"}
    found = {**found, "config": json.dumps(older)}
    check_header(path, found, config)
    with pytest.raises(SakiyomiError, match=f"hidden: {config.hidden} there, 7 asked"):
        check_header(path, found, MVAE.Config(pose=3, hidden=7))
    with pytest.raises(SakiyomiError, match=r"header cannot be read: Expected `int`"):
        check_header(path, {**found, "config": json.dumps({"hidden": "many"})}, config)


def test_a_checkpoint_knows_its_model(tmp_path: Path) -> None:
    model, optimizer = trained_a_little(torch.contiguous_format)
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, model, moments_here(optimizer), JointRNN.Config(hidden=5), {"step": 3})
    with pytest.raises(SakiyomiError, match="hidden: 5 there, 6 asked"):
        load_checkpoint(path, JointRNN.Config(hidden=6))
    path.write_bytes(b"not safetensors")
    with pytest.raises(SakiyomiError, match="no whole safetensors file"):
        load_checkpoint(path, JointRNN.Config(hidden=5))


def test_the_log_forgets_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    log = Log(tmp_path, 0)
    for step in range(5):
        log.write(step, {"loss": 1.0 / (step + 1)})
    log.close()
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 5, "lo')  # a line that a crash cut off
    Log(tmp_path, 3).close()
    assert [row["step"] for row in read_metrics(tmp_path)] == [0, 1, 2]
    assert msgspec.json.decode((tmp_path / "metrics.jsonl").read_bytes().splitlines()[-1])["loss"] == 1 / 3


def test_tensorboard_shows_the_run_that_was_resumed(tmp_path: Path) -> None:
    for start, values in ((0, (5.0, 4.0, 3.0, 2.0)), (2, (30.0, 20.0))):
        log = Log(tmp_path, start)
        for step, value in enumerate(values, start):
            log.write(step, {"loss": value})
        log.close()
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert [(event.step, event.value) for event in board.Scalars("loss")] == [(0, 5), (1, 4), (2, 30), (3, 20)]


def test_a_full_disk_is_said_by_the_log_too(tmp_path: Path) -> None:
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000));"
        "from pathlib import Path; from sakiyomi.run import Board; board = Board(Path(sys.argv[1]), 0);"
        "[board.write(step, {'loss': 1.0}) for step in range(1000)]"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert "SakiyomiError: could not write" in done.stderr.splitlines()[-1]
    assert "Exception in thread" not in done.stderr


def test_devices() -> None:
    assert pick_device("cpu").type == "cpu"
    with pytest.raises(SakiyomiError, match="unknown device 'gpu'"):
        pick_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(SakiyomiError, match="sees no GPU"):
            pick_device("cuda")


def test_the_clock_counts_every_frame_once() -> None:
    clock = Clock()
    for _ in range(10):
        clock.count(100)
    time.sleep(0.05)
    assert 0 < clock.rate() <= 1000 / 0.05
    assert clock.rate() == 0
