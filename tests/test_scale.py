"""The arithmetic of docs/scale.md on cases that are known, and the page as its results make it."""

import json
import math
from pathlib import Path

import pytest

from benchmarks import scale, scale_page, scale_units
from benchmarks.scale import Link
from sakiyomi.errors import SakiyomiError

LINE = Link("a line", rate=100.0, latency=0.0)
SLOW = Link("a slow start", rate=math.inf, latency=1.0)


def test_a_ring_of_one_sends_nothing_and_a_long_one_twice_the_bytes() -> None:
    assert scale.ring_seconds(1000, 1, SLOW) == 0
    assert scale.ring_seconds(1000, 2, LINE) == pytest.approx(10)  # each half, there and back
    assert scale.ring_seconds(1000, 10**6, LINE) == pytest.approx(20, rel=1e-5)
    assert scale.ring_seconds(1000, 5, SLOW) == 8  # 2 (N - 1) messages


def test_most_devices_is_the_last_that_is_efficient() -> None:
    link = Link("a line", rate=1e6, latency=1e-3)
    most = int(scale.most_devices(1.0, 2e4, link, 0.9))
    at, after = (scale.efficiency(1.0, scale.ring_seconds(2e4, n, link)) for n in (most, most + 1))
    assert after < 0.9 <= at
    assert scale.most_devices(1.0, 1, LINE, 0.9) == math.inf
    assert scale.most_devices(1.0, 1e9, LINE, 0.9) == 1


def test_sharding_moves_bytes_and_loses_none() -> None:
    assert scale.training_bytes(10, 1) == scale.training_bytes(10, 1, "optimizer") == scale.training_bytes(10, 1, "all")
    assert 4 * scale.training_bytes(10, 4, "all") == 160
    assert scale.training_bytes(10, 4, "optimizer") == 80 + 80 / 4
    with pytest.raises(SakiyomiError, match="optimizer"):
        scale.training_bytes(10, 4, "weights")


def test_no_other_interval_of_checkpoints_loses_less() -> None:
    best = scale.checkpoint_every(2.0, 900.0)
    assert best == 60
    least = scale.lost(2.0, 900.0)
    assert least == pytest.approx(2 / 60 + 60 / 1800)
    assert all(2 / every + every / 1800 > least for every in (best / 2, best * 0.99, best * 1.01, best * 2))


def test_sessions_fit_into_their_period() -> None:
    assert scale.sessions(0.01, 10) == 10
    assert scale.sessions(0.2, 10) == 0


def test_a_line_is_found_again() -> None:
    assert scale.line_through([(1, 5), (2, 7), (4, 11)]) == pytest.approx((2, 3))


@pytest.mark.parametrize(
    ("value", "told"),
    [(0, "0"), (4.2, "4.2"), (1024, "1,020"), (0.0314159, "0.0314"), (99.96, "100"), (1e7, "10,000,000")],
)
def test_numbers_have_three_digits(value: float, told: str) -> None:
    assert scale_units.digits(value) == told


@pytest.mark.parametrize(("bytes", "told"), [(1, "1 B"), (1000, "1 kB"), (1.5e9, "1.5 GB"), (2e18, "2,000 PB")])
def test_bytes_have_the_unit_that_fits(bytes: float, told: str) -> None:
    assert scale_units.size(bytes) == told


@pytest.mark.parametrize(("seconds", "told"), [(0.002, "2 ms"), (1.5, "1.5 s"), (90, "90 s"), (7200, "2 h")])
def test_spans_have_the_unit_that_fits(seconds: float, told: str) -> None:
    assert scale_units.span(seconds) == told


def test_the_measured_manifest_was_read_by_the_real_reader(tmp_path: Path) -> None:
    scale.recorded(tmp_path / str(scale.SIZES[0]), scale.SIZES[0])
    found = scale.manifest(tmp_path, 50)
    assert found["episodes"] == 50
    assert found["seconds"] > 0


def test_the_page_is_what_was_measured(tmp_path: Path) -> None:
    scale_page.write_page(scale.RESULTS, tmp_path / "scale.md")
    assert (tmp_path / "scale.md").read_text() == scale.PAGE.read_text()


def test_the_page_follows_what_was_measured(tmp_path: Path) -> None:
    for name in scale_page.FROM:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.json").write_bytes((scale.RESULTS / f"{name}.json").read_bytes())
    found = json.loads((tmp_path / "scale.json").read_bytes())
    found["manifest"] = {"1": {"seconds": 1, "memory": 1, "bytes": 1}, "2": {"seconds": 2, "memory": 2, "bytes": 2}}
    (tmp_path / "scale.json").write_text(json.dumps(found))
    scale_page.write_page(tmp_path, tmp_path / "scale.md")
    assert (
        "| 10,000,000 | 10 MB | 116 days | 10 MB | a straight line through these |"
        in (tmp_path / "scale.md").read_text()
    )
