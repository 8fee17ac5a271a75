"""What was asked for of speed, each bar beside the figure that was measured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.page import table

Found = Mapping[str, dict[str, Any]]


@dataclass(frozen=True)
class Bar:
    what: str
    asked: str
    measured: Callable[[Found], str]
    """From all parts; KeyError where one of them was not measured."""


def bars(found: Found) -> str:
    """The table, with "not measured" where a part is missing."""
    rows = []
    for bar in BARS:
        try:
            rows.append((bar.what, bar.asked, bar.measured(found)))
        except KeyError as missing:
            rows.append((bar.what, bar.asked, f"not measured ({missing.args[0]})"))
    return f"### What was asked, and what was measured\n\n{table(('what', 'asked', 'measured'), rows)}"


def of_precision(found: dict[str, Any], precision: str) -> str:
    """Each of our ways of one precision: how many times as fast, and its share of the published way's memory."""
    published = found["ways"]["published"]["peak_bytes"]
    told = []
    for way, row in found["ways"].items():
        if way.startswith("ours") and (precision == "bfloat16") == is_bfloat16(row):
            share = f", {row['peak_bytes'] / published:.0%} of its memory" if published else ""
            told.append(f"{way}: {row['ratio']['median']:.2f} times{share}")
    return "; ".join(told)


def is_bfloat16(row: dict[str, Any]) -> bool:
    """A way in which some products or convolutions are of this precision."""
    return "bfloat16" in row["operations"]


def _sarnn_everything(found: Found) -> str:
    step, ratio = of_precision(found["sarnn"], "bfloat16"), found["time_to_error"]["seconds_ratio"]
    if not ratio:
        return f"{step}; the same error never"
    told = f"{ratio['median']:.1f} ({ratio['low']:.1f} to {ratio['high']:.1f}) times sooner"
    return f"{step}; the same error {told}, in {ratio['n']} of {len(found['time_to_error']['seeds'])} trainings"


def _closed_loop(found: Found) -> str:
    rows = found["latency"]["closed"]["pick"]
    return ", ".join(f"p99 {row['p99_ms']:.2f} ms on {threads} threads" for threads, row in rows.items())


def _larger(found: dict[str, Any]) -> str:
    training = found["training"]
    own = training["memory"]["large"]["RssAnon"]
    told = f"{own / 1e9:.2f} GB of its own" if own else "memory unknown"
    return (
        f"{found['bytes'] / 1e9:.0f} GB at {training['ratio']:.0%} of the speed, {told}, under a limit of "
        f"{found['limit'] / 1e9:.0f} GB"
    )


def _gpu(found: dict[str, Any]) -> str:
    way, row = max(found["ways"].items(), key=lambda pair: pair[1]["ratio"])
    return f"{way}: {row['ratio']:.1f} times; the floor is {row['share']:.0%} of what it takes, on {found['device']}"


def _processes(found: dict[str, Any]) -> str:
    rates = list(found["frames_per_second"].items())
    (told, rate), *others = rates
    times = "; ".join(f"{rate / other:.2f} times {name}" for name, other in others)
    return (
        f"apart by {found['largest_difference']:.0e} after {found['steps']} steps; frames a second of {told}: {times}"
    )


def _killed(found: dict[str, Any]) -> str:
    return (
        f"killed after step {found['killed_after_step']}, going on after {found['seconds_to_restart']:.1f} s from the "
        f"last checkpoint (every {found['checkpoints_every']} steps); in the end its weights are apart by "
        f"{found['largest_difference']:.0e} from those of a training that nobody killed"
    )


def _sweep(found: dict[str, Any]) -> str:
    return (
        f"{found['finished']} of {found['seeds']} runs in {found['seconds'] / 60:.1f} min, the command once more in "
        f"{found['seconds_again']:.1f} s; {'; '.join(reliable(one) for one in found['reliability'])}"
    )


def reliable(one: dict[str, Any]) -> str:
    """How far a training can be relied on."""
    return (
        f"{one['rule']}: {one['good']} of {one['n']} trainings, {one['probability']:.0%} ({one['low']:.0%} to "
        f"{one['high']:.0%})"
    )


BARS = (
    Bar(
        "SARNN training step, 64x64, batch 5 x 100, 2 cores, float32, same maths",
        "at least 1.5 times the published arithmetic, at most a quarter of its memory",
        lambda found: of_precision(found["sarnn"], "float32"),
    ),
    Bar(
        "the same with bfloat16 and the image loss on a random subset of steps",
        "at least 4 times, and the time to the same validation joint error at least 4 times shorter",
        _sarnn_everything,
    ),
    Bar(
        "SVG (VGG) training step",
        "at least 1.9 times in float32 with equal loss, 4.5 times with bfloat16, half the memory",
        lambda found: "; ".join(of_precision(found["svg"], p) for p in ("float32", "bfloat16")),
    ),
    Bar("MVAE training step", "at least 4 times, equal loss", lambda found: of_precision(found["mvae"], "float32")),
    Bar("closed-loop step, batch 1, 2 cores, SARNN 64x64", "p99 at most 3 ms", _closed_loop),
    Bar(
        "on a GPU (SARNN 128x128, batch 32 x 187)",
        "at least 10 times the published loop, and the achieved share of the floor stated",
        lambda found: _gpu(found["gpu"]),
    ),
    Bar(
        "2 processes against 1, same global batch",
        "same weights to 1e-6 after 20 steps; 1.7 times the frames a second where there are two devices (on 2 CPU "
        "cores: say what is measured)",
        lambda found: _processes(found["processes"]),
    ),
    Bar(
        "killed rank",
        "training continues from the last checkpoint, nothing lost but the steps since",
        lambda found: _killed(found["killed"]),
    ),
    Bar(
        "sweep of 5 seeds",
        "one table with intervals; interrupting and repeating the command does not redo finished runs",
        lambda found: _sweep(found["sweep"]),
    ),
    Bar(
        "data larger than memory",
        "20 GB store trains in 2 GB of process memory at 80 % or more of the in-memory speed",
        lambda found: _larger(found["larger_than_memory"]),
    ),
)
