"""`sakiyomi bench` as a user meets it. What it measures is not tested: machines are noisy."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sakiyomi import bench as benching
from sakiyomi.__main__ import main
from sakiyomi.measuring import Rates

QUICK = ["--batch-size", "1", "--steps", "8", "--seconds", "0", "--ticks", "12", "--threads", "1"]


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder without recordings; threads are as they were afterwards."""
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def known_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured once, in the test of the whole; it takes seconds."""
    monkeypatch.setattr(benching, "measure_rates", lambda: Rates(*[1e9] * 7))


def test_all_figures_of_a_preset_that_drives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "pick-joints", *QUICK, "--alone", "--out", "found.json"]) == 0
    found = json.loads((tmp_path / "found.json").read_bytes())
    assert found["model"] == "JointRNN"
    assert found["batch"] == [1, 8]
    assert found["stand_ins"] == {}
    assert found["training"]["seconds"]["n"] == 3
    assert found["training"]["frames_per_second"] * found["training"]["seconds"]["median"] == pytest.approx(8)
    assert found["closed_loop"]["p50_ms"] <= found["closed_loop"]["p99_ms"]
    assert min(found["rates"].values()) > 0
    said = capsys.readouterr().out
    assert "closed loop, batch 1" in said
    assert "found.json" in said


@pytest.mark.usefixtures("known_rates")
@pytest.mark.parametrize("name", ["pick-small", "push-small", "stepping", "reverse", "an4", "say-tones", "digits"])
def test_presets_of_every_kind_need_no_recordings(name: str, tmp_path: Path) -> None:
    """One that drives, imagines, is taught frame by frame, reads a source, is whole, is told a label, has no time."""
    assert main(["bench", name, *QUICK, "--alone", "--out", "found.json"]) == 0
    found = json.loads((tmp_path / "found.json").read_bytes())
    assert found["training"]["operations"]
    assert ("rollout" in found) == (name != "an4")
    assert ("closed_loop" in found) == (name == "pick-small")


@pytest.mark.usefixtures("known_rates")
def test_a_width_that_nobody_knows_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "sensor", *QUICK, "--alone"]) == 0
    assert "no recordings say --model.channels" in " ".join(capsys.readouterr().out.split())


@pytest.mark.usefixtures("known_rates")
def test_a_model_without_other_arithmetic_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """Asked of the benchmarks of this checkout, in a process of their own."""
    assert main(["bench", "climate", *QUICK]) == 0
    assert "WindowAE has no published arithmetic beside ours" in " ".join(capsys.readouterr().out.split())


@pytest.mark.usefixtures("known_rates")
def test_without_a_checkout_it_says_where_the_comparison_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benching, "CHECKOUT", tmp_path)
    assert main(["bench", "pick-joints", *QUICK]) == 0
    assert "in the repository's benchmarks/" in " ".join(capsys.readouterr().out.split())


def test_slips_of_the_fingers(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["pick-smal"], ["pick-small", "--ticks", "3"], ["pick-small", "--second", "3"]):
        assert main(["bench", *words]) == 1
        assert capsys.readouterr().err.count("\n") == 1


def test_a_controller_is_not_measured_and_it_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "target-walker"]) == 1
    assert "sakiyomi bench walk" in capsys.readouterr().err
