"""Measuring: what is compared computes the same, and the figures are what they say. Nothing is timed here."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import side_by_side, speed, speed_page, speed_training
from benchmarks.side_by_side import PUBLISHED, SAME, Sides, agreed, floor_of, sides_of
from benchmarks.speed_bars import BARS, bars
from benchmarks.speed_training import Point
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.windows import Data
from sakiyomi.errors import SakiyomiError
from sakiyomi.job import Job
from sakiyomi.measuring import Needed, Rates, Spread, describe_machine, in_turn, needed, ratios
from sakiyomi.models import MODELS, SARNN

RATES = Rates(1e9, 2e9, 1e9, 2e9, 1e9, 2e9, 1e9)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_and_ours_compute_the_same(name: str) -> None:
    """Losses and gradients; and every way runs."""
    sides = sides_of(name, quick=True)
    assert next(iter(sides.ways)) == "published"
    assert agreed(sides)
    for work in sides.ways.values():
        work()


def test_a_thousand_characters_walk_the_same() -> None:
    assert agreed(speed.decoding(quick=True))


def test_every_model_is_compared_or_it_is_said_why_not() -> None:
    assert {published.model for published in PUBLISHED.values()} | set(SAME) == set(MODELS)


def test_ways_that_disagree_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    ways = {"published": lambda: ran.append("published"), "ours, float32": lambda: ran.append("ours")}
    for apart in (1.0, float("nan")):
        monkeypatch.setattr(side_by_side, "sides_of", lambda *_, a=apart: Sides("x", 1, ways, lambda: {"gradient": a}))
        with pytest.raises(SakiyomiError, match="do not compute the same: gradient"):
            side_by_side.measured("sarnn", RATES, 0.0)
    assert not ran


def test_all_figures_of_a_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    """As JSON. Memory is asked of fresh processes, here of one."""
    peak = side_by_side.memory_of("conv-listening", "published", quick=True)
    monkeypatch.setattr(side_by_side, "memory_of", lambda *_: peak)
    found = json.loads(json.dumps(side_by_side.measured("conv-listening", RATES, 0.0, quick=True)))
    assert list(found["ways"]) == ["published", "ours, float32"]
    assert found["ways"]["published"]["ratio"]["median"] == 1
    for row in found["ways"].values():
        assert row["peak_bytes"] > 0
        assert row["frames_per_second"] == pytest.approx(found["frames"] / row["seconds"]["median"])
        assert row["share"] == pytest.approx(row["floor_seconds"] / row["seconds"]["median"])


def test_unknown_arithmetic_is_refused() -> None:
    with pytest.raises(SakiyomiError, match="sarnn"):
        sides_of("sarn")


# ---- The arithmetic of measuring -------------------------------------------------------------------------------------


def test_quartiles_and_ratios() -> None:
    assert Spread.of([4.0, 1.0, 3.0, 2.0, 5.0]) == Spread(3.0, 2.0, 4.0, 5)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0, 1)
    assert ratios([2.0, 6.0, 12.0], [1.0, 2.0, 3.0]) == Spread(3.0, 2.5, 3.5, 3)


def test_ways_are_measured_in_turn() -> None:
    """A B A B: one round that does not count, then as many as are asked for at least."""
    order: list[str] = []
    found = in_turn({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 0.0, least=3)
    assert order == ["a", "b"] * 4
    assert {name: len(values) for name, values in found.items()} == {"a": 3, "b": 3}
    in_turn({"a": lambda: order.append("a")}, 1e9, most=5, warm=0)
    assert order[8:] == ["a"] * 5


def test_operations_and_bytes_of_a_product() -> None:
    a, b = torch.randn(5, 7, requires_grad=True), torch.randn(7, 3, requires_grad=True)
    once = 2 * 5 * 7 * 3
    forth = needed(lambda: a @ b)
    assert forth.operations == {"float32": once}
    assert forth.read == 4 * (a.numel() + b.numel())
    assert needed(lambda: (a @ b).sum().backward()).operations == {"float32": 3 * once}


def test_operations_by_precision() -> None:
    layer = nn.Linear(6, 4)
    read = torch.randn(3, 6)

    def half() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            layer(read)

    assert needed(half).operations == {"bfloat16": 2 * 3 * 6 * 4}


def test_operations_of_a_fused_lstm_are_those_of_its_cells() -> None:
    """torch's own counter has none for it."""
    fused, read = nn.LSTM(6, 5, batch_first=True), torch.randn(3, 7, 6)

    def cells() -> None:
        h = c = torch.zeros(3, 5)
        for t in range(7):
            h, c = torch.lstm_cell(read[:, t], (h, c), *fused.all_weights[0])

    assert needed(lambda: fused(read)).operations == needed(cells).operations == {"float32": 2.0 * 3 * 7 * 20 * 11}


def test_what_is_kept_for_the_way_back() -> None:
    """The input of a square, and nothing where no gradient is asked for."""
    weight = torch.randn(1000, requires_grad=True)
    assert needed(lambda: (weight * 2).square().sum().backward()).kept == 4000
    with torch.no_grad():
        assert needed(lambda: (weight * 2).square().sum()).kept == 0


def test_the_floor_is_the_larger_of_arithmetic_and_bytes() -> None:
    assert Needed({"float32": 3e9}, read=1e9, kept=0).seconds(RATES) == 3
    assert Needed({"float32": 3e9, "bfloat16": 4e9}, read=0, kept=0).seconds(RATES) == 5
    assert Needed({"float32": 1e9}, read=2e9, kept=3e9).seconds(RATES) == 8


def test_the_floor_counts_nothing_twice() -> None:
    """What a way computes again, to save memory, is no need; what it leaves out is not needed either."""
    counts = {
        "published": Needed({"float32": 4e9}, 0, 0),
        "ours, float32": Needed({"float32": 3e9}, 0, 0),
        "again": Needed({"float32": 6e9}, 0, 0),
        "half": Needed({"bfloat16": 1e9}, 0, 0),
    }
    assert [floor_of(counts, way, RATES) for way in counts] == pytest.approx([3, 3, 3, 0.5])


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is read from /proc")
def test_peak_memory_sees_what_is_freed_again() -> None:
    """In a fresh process: here something as large may have been freed before, and is used again unseen."""
    size = 64 * 2**20
    script = (
        "import torch; from sakiyomi.measuring import peak_memory; "
        f"print(peak_memory(lambda: torch.ones({size // 4}).sum()))"
    )
    grown = int(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout)
    assert 0.9 * size < grown < 3 * size


def test_the_machine_is_described() -> None:
    told = describe_machine()
    assert {"processor", "cores", "threads", "instructions", "memory", "torch", "libc"} <= told.keys()
    assert all(told.values())


# ---- The page --------------------------------------------------------------------------------------------------------


def one_result() -> dict[str, Any]:
    """As a part leaves it."""
    seconds = dataclasses.asdict(Spread(2.0, 1.5, 2.5, 5))

    def row(ratio: float, peak: int, precision: str) -> dict[str, Any]:
        times = dataclasses.asdict(Spread(ratio, ratio, ratio, 5))
        return {
            **{"seconds": seconds, "ratio": times, "frames_per_second": 250.0, "peak_bytes": peak},
            **{"operations": {precision: 1e9}, "kept_bytes": 1.0, "floor_seconds": 1.0, "share": 0.5},
        }

    ways = {
        "published": row(1.0, 4 * 2**20, "float32"),
        "ours, float32": row(1.75, 2**20, "float32"),
        "ours, bfloat16": row(4.25, 2**20, "bfloat16"),
    }
    rates = dataclasses.asdict(RATES)
    side = {"title": "SARNN", "frames": 500, "agree": {"loss": 1e-7}, "tolerance": 1e-3, "ways": ways}
    return {**side, "rates": rates, "computer": {"processor": "of a kind"}, "machine": {"torch": "2"}}


def test_each_bar_stands_beside_its_figure(tmp_path: Path) -> None:
    (tmp_path / "speed").mkdir()
    (tmp_path / "speed" / "sarnn.json").write_text(json.dumps(one_result()))
    speed_page.write_page(tmp_path, tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert all(bar.asked in text for bar in BARS)
    assert "ours, float32: 1.75 times, 25% of its memory" in text
    assert "not measured (svg)" in text
    row = "| ours, bfloat16 | 2.00 s (1.50 s to 2.50 s) | 4.25 (4.25 to 4.25) | 250 | 1 MiB | 1.00 s | 50.0% |"
    assert row in text


def test_only_of_float32_it_is_said_how_far_it_is_apart(tmp_path: Path) -> None:
    """bfloat16 is not held to agree."""
    result = one_result()
    found = {"sides": {"sarnn": result}, "same": {}, "rates": result["rates"], "machine": {"torch": "2"}}
    (tmp_path / "speed").mkdir()
    (tmp_path / "speed" / "others.json").write_text(json.dumps(found))
    speed_page.write_page(tmp_path, tmp_path / "page.md")
    lines = (tmp_path / "page.md").read_text().splitlines()
    apart = {line.split(" | ")[1]: line.split(" | ")[-1] for line in lines if line.startswith("| SARNN |")}
    assert apart == {"ours, float32": "1e-07 |", "ours, bfloat16": "- |"}


LARGER = {
    **{"ratio": 0.9, "ratio_of_means": 0.8, "frames_s": {"large": 9.0, "in memory": 10.0}},
    "memory": {"large": {"RssAnon": 10**9}},
}
OTHER_PARTS = {
    "processes": {
        **{
            "preset": "pick",
            "steps": 20,
            "largest_difference": 2e-7,
            "of_threads_alone": 1e-5,
            "largest": "push",
            "weights": 1000,
        },
        **{"frames_per_second": {"two processes": 150.0, "one process": 100.0}},
        **{"megabytes_whole": [300.0, 300.0], "megabytes_spread": [200.0, 210.0]},
    },
    "killed": {
        **{"preset": "pick-small", "killed_after_step": 50, "checkpoints_every": 20, "seconds_to_restart": 9.0},
        **{"seconds_lost": 12.0, "largest_difference": 0.0},
    },
    "sweep": {
        **{
            "command": "sakiyomi sweep x",
            "seeds": 5,
            "finished": 5,
            "seconds": 600.0,
            "seconds_again": 4.0,
            "best": "b",
        },
        "scores": {"success/taught": {"value": 0.9, "low": 0.8, "high": None, "each": [0.9, 0.9]}},
        "reliability": [{"rule": "r", "good": 4, "n": 5, "probability": 0.8, "low": 0.4, "high": 0.9}],
        "fleet": {"here": 1.0, "2": 1.5},
    },
    "larger_than_memory": {
        **{"bytes": 20 * 10**9, "limit": 2 * 10**9, "training": LARGER, "drawing": LARGER},
    },
}
TOLD = {
    "processes": "apart by 2e-07 after 20 steps; frames a second of two processes: 1.50 times one process",
    "killed": "killed after step 50, going on after 9.0 s from the last checkpoint (every 20 steps)",
    "sweep": "5 of 5 runs in 10.0 min, the command once more in 4.0 s; r: 4 of 5 trainings, 80% (40% to 90%)",
    "larger_than_memory": "20 GB at 90% of the speed, 1.00 GB of its own, under a limit of 2 GB",
}


@pytest.mark.parametrize("name", OTHER_PARTS)
def test_the_parts_beyond_one_process_have_their_sections(name: str, tmp_path: Path) -> None:
    (tmp_path / "speed").mkdir()
    (tmp_path / "speed" / f"{name}.json").write_text(json.dumps({**OTHER_PARTS[name], "machine": {"torch": "2"}}))
    speed_page.write_page(tmp_path, tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert TOLD[name] in text
    assert f"`python -m benchmarks.speed {name}` on torch 2" in text


def test_the_bars_without_any_figure() -> None:
    assert bars({}).count("not measured") == len(BARS)


def test_figures_of_any_shape_become_rows() -> None:
    found = {"a": {"b_c": 1.5, "ok": True}, "d": [1, 2], "e": [{"f": "g"}]}
    assert speed_page.rows_of(found) == [("a, b c", "1.5"), ("a, ok", "yes"), ("d", "1, 2"), ("e 1, f", "g")]


# ---- Time to the same error ------------------------------------------------------------------------------------------


def curve(seconds: float) -> dict[str, Any]:
    points = [dataclasses.asdict(Point(step, seconds * step, seconds * step, 1 / (step + 1))) for step in range(3)]
    return {**points[-1], "reached": True, "curve": points}


def test_the_time_to_an_error_is_told_and_drawn(tmp_path: Path) -> None:
    ratio = dataclasses.asdict(Spread(5.0, 4.5, 5.5, 3))
    seeds = {"0": {"target": 1 / 3, "published": curve(2.0), "ours": curve(0.4)}}
    found = {"seeds": seeds, "batch": 5, "steps": 2, "seconds_ratio": ratio, "processor_seconds_ratio": ratio}
    found |= {"machine": {"torch": "2"}}
    (tmp_path / "speed").mkdir()
    (tmp_path / "speed" / "time_to_error.json").write_text(json.dumps(found))
    speed_page.write_pictures(tmp_path / "speed", tmp_path)
    speed_page.write_page(tmp_path, tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert f"({speed_page.PICTURE})" in text
    assert (tmp_path / speed_page.PICTURE).read_bytes().startswith(b"\x89PNG")
    assert "| 0 | 0.3333 | 4 (4), 2 steps | 1 (1), 2 steps | 5.0 |" in text
    assert "Ours got there in 1 of 1" in text


@pytest.fixture
def small_job(pick_store: EpisodeStore) -> Job:
    job = speed_training.arm_job()
    model = SARNN.Config(height=32, width=32, temperature=0.01)
    train = dataclasses.replace(job.train, batch_size=2)
    return dataclasses.replace(job, model=model, data=Data(str(pick_store.folder), steps=6), train=train)


def test_both_ways_begin_alike_and_end_at_the_target(small_job: Job) -> None:
    """The same weights from one seed; a target that is any error ends at the first validation."""
    ours = speed_training.learned(small_job, 0, speed_training.everything_on, 9, float("inf"))
    theirs = speed_training.learned(small_job, 0, speed_training.publish, 9, 0.0)
    assert [point.step for point in ours] == [0, 5]
    assert [point.step for point in theirs] == [0, 5]
    assert ours[0].error == pytest.approx(theirs[0].error, rel=1e-4)
    assert theirs[1].seconds > 0
    assert theirs[1].error != theirs[0].error


def test_a_training_that_was_measured_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed_training, "RUNS", tmp_path / "speed")
    points = [Point(5, 1.5, 2.5, 0.25)]
    assert speed_training.kept("ours-0", lambda: points) == points
    assert speed_training.kept("ours-0", lambda: pytest.fail("measured twice")) == points


def test_precisions_are_held_against_seeds() -> None:
    runs = {"float32": {"0": {"total": [9.0, 1.0]}, "1": {"total": [9.0, 3.0]}}}
    runs["bfloat16"] = {"0": {"total": [2.0, 2.0]}, "1": {"total": [2.0, 3.0]}}
    found = speed_training.apart(runs, "total")
    assert found["means"] == {"float32": 2.0, "bfloat16": 2.5}
    assert (found["precisions_apart"], found["seeds_apart"], found["within"]) == (0.5, 2.0, True)
