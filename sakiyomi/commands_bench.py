"""The verb `bench` of the command line: typed records over presets, no logic."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from sakiyomi.arguments import narrow, parse
from sakiyomi.bench import HowBench, bench
from sakiyomi.errors import SakiyomiError
from sakiyomi.files import write_atomic
from sakiyomi.presets import CONTROLLERS, preset
from sakiyomi.run import console


@dataclass(frozen=True)
class Bench(HowBench):
    """Measure a preset on this machine: training step, rollout step, closed loop, and how far each is from the
    machine's limit."""

    out: str = ""
    """JSON file for all figures."""


def do_bench(name: str, rest: list[str]) -> None:
    if name in CONTROLLERS:
        raise SakiyomiError(
            f"{name} steers a trained character and learns from trials; bench measures what learns from recordings, "
            "such as the character: sakiyomi bench walk"
        )
    chosen = preset(name)
    args = parse(Bench(), f"bench {name}", rest)
    beside = "" if args.alone else ", and as long for each comparison"
    console.print(f"{name}: measuring; the training step alone takes {args.seconds:g} s{beside}", markup=False)
    found = bench(chosen.job, narrow(args, HowBench))
    print_bench(name, found)
    if args.out:
        write_atomic(Path(args.out), json.dumps(found, indent=1).encode())
        console.print(args.out, markup=False)


def print_bench(name: str, found: dict[str, Any]) -> None:
    """Tables in the terminal."""
    training, (batch, steps) = found["training"], found["batch"]
    table = Table(f"{name}, {found['model']}", "measured")
    table.add_row(f"training step, {batch} x {steps}, {found['precision']}", spread(training["seconds"]))
    table.add_row("frames a second", f"{training['frames_per_second']:,.0f}")
    table.add_row("peak memory", megabytes(training["peak_bytes"]))
    table.add_row("the floor", f"{1e3 * training['floor_seconds']:.2f} ms, {training['share']:.0%} of what it takes")
    for key, told in (("rollout", "step of a rollout, batch 1"), ("closed_loop", "closed loop, batch 1")):
        if key in found:
            row = found[key]
            table.add_row(told, f"p50 {row['p50_ms']:.3f}, p99 {row['p99_ms']:.3f} ms")
    console.print(table)
    for width, value in found["stand_ins"].items():
        console.print(f"no recordings say --model.{width}; measured with {value}", markup=False)
    print_published(found.get("published", {}))
    console.print(", ".join(f"{k} {v}" for k, v in found["machine"].items()), markup=False)


def print_published(found: dict[str, Any]) -> None:
    if "note" in found:
        console.print(found["note"], markup=False)
    for one in found.get("sides", []):
        head = ("way", "seconds", "times as fast", "memory", "floor's share")
        table = Table(*head, title=f"{one['title']}: beside the published arithmetic", title_justify="left")
        for way, row in one["ways"].items():
            memory, median = megabytes(row["peak_bytes"]), f"{row['seconds']['median']:.3g}"
            table.add_row(way, median, f"{row['ratio']['median']:.2f}", memory, f"{row['share']:.0%}")
        console.print(table)


def spread(seconds: dict[str, float]) -> str:
    return f"{seconds['median']:.3g} s ({seconds['low']:.3g} to {seconds['high']:.3g}, {seconds['n']:.0f} rounds)"


def megabytes(size: float | None) -> str:
    return "unknown" if size is None else f"{size / 2**20:,.0f} MiB"
