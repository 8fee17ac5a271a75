"""docs/benchmarks.md and its pictures, from the figures in benchmarks/results: nothing on that page is typed."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from sakiyomi.files import write_atomic
from sakiyomi.scores.protocol import Score
from sakiyomi.views.plots import success_against_demonstrations

CONDITIONS = ("taught", "untaught", "blind", "light", "camera", "distractor", "moved")
HEAD = """# Benchmarks

Written by `python -m benchmarks.teach_an_arm` (`make bench`) from the figures in `benchmarks/results`. Success: the
cube is at least 8 cm above its rest for 0.5 s at any step of the episode; 50 trials a condition; intervals are
Wilson's, 95 %. Places: the five taught ones, or between two neighbouring ones, within 1 cm of the middle.
"""


def found_in(results: Path, name: str) -> dict[str, Any]:
    """What a part left; nothing where it was not measured."""
    path = results / f"{name}.json"
    return json.loads(path.read_bytes()) if path.exists() else {}


def write_parts(
    head: str, writers: Mapping[str, Callable[[dict[str, Any]], str]], results: Path, path: Path, module: str
) -> None:
    """A page of those parts that have been measured, each with the command that measures it and the machine it ran
    on."""
    text = [head]
    for name, write in writers.items():
        found = found_in(results, name)
        if found:
            machine = ", ".join(f"{k} {v}" for k, v in found.pop("machine").items())
            text += [write(found), f"`python -m benchmarks.{module} {name}` on {machine}\n"]
    write_atomic(path, "\n".join(text).encode())


def put_between(readme: Path, mark: str, rendered: str) -> None:
    """Put a table between two marks of the README, `<!-- MARK: begin -->` and `end`."""
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    before, rest = readme.read_text().split(begin)
    _, after = rest.split(end)
    write_atomic(readme, f"{before}{begin}\n{rendered}{end}{after}".encode())


def write_page(results: Path, path: Path, more: Iterable[str] = ()) -> None:
    """Write the page from whichever parts have been measured, and `more` sections after them."""
    found = {p.stem: json.loads(p.read_bytes()) for p in sorted(results.glob("*.json"))}
    parts = {
        "seeds": _seeds,
        "demo": _demo,
        "full": _full,
        "demonstrations": _demonstrations,
        "baselines": _baselines,
        "laws": _laws,
        "latency": _latency,
    }
    text = [HEAD]
    for name, write in parts.items():
        if name in found:
            machine = found[name].pop("machine")
            text.append(write(found[name]))
            text.append(
                f"`python -m benchmarks.teach_an_arm {name}` on {', '.join(f'{k} {v}' for k, v in machine.items())}\n"
            )
    if "demonstrations" in found:
        curve = {
            int(n): msgspec.convert(r["scores"]["success/untaught"], Score) for n, r in found["demonstrations"].items()
        }
        write_atomic(path.parent / "demonstrations.png", success_against_demonstrations(curve))
    write_atomic(path, "\n".join([*text, *more]).encode())


def write_readme_table(results: Path, readme: Path) -> None:
    """Put the measured presets between the README's two marks."""
    rows = []
    for name in ("seeds", "full", "baselines"):
        path = results / f"{name}.json"
        found = json.loads(path.read_bytes()) if path.exists() else {}
        found.pop("machine", None)
        if name == "seeds" and found:
            rows.append(_readme_row("pick-small", "32x32", list(found.values())))
        elif name == "full" and found:
            rows.append(_readme_row("pick", "64x64", [found]))
        else:
            rows += [_readme_row(preset, "32x32", [result]) for preset, result in found.items()]
    header = ("preset", "data", "command", "seconds of training on threads", "success: taught / untaught / blind")
    put_between(readme, "measured", table(header, rows))


def _readme_row(preset: str, pictures: str, results: list[dict[str, Any]]) -> tuple[str, ...]:
    means = [np.mean([r["scores"][f"success/{n}"]["value"] for r in results]) for n in ("taught", "untaught", "blind")]
    cost = f"{np.mean([r['seconds'] for r in results]):.0f} on {results[0]['threads']}"
    seeds = f", mean of {len(results)} seeds" if len(results) > 1 else ""
    data = f"MuJoCo arm, {pictures}, 120 demonstrations"
    score = " / ".join(rate(float(m)) for m in means) + seeds
    return f"`{preset}`", data, f"`sakiyomi train {preset}`", cost, score


def _seeds(result: dict[str, Any]) -> str:
    names = [n for n in CONDITIONS if all(f"success/{n}" in r["scores"] for r in result.values())]
    rows = []
    for name in names:
        each = [r["scores"][f"success/{name}"]["value"] for r in result.values()]
        last = [r["scores"][f"success_last/{name}"]["value"] for r in result.values()]
        attention = [r["scores"].get(f"attention/{name}", {}).get("value") for r in result.values()]
        followed = ", ".join(f"{v:.1f}" for v in attention if v is not None) or "-"
        rows.append(
            (name, rate(float(np.mean(each))), ", ".join(map(rate, each)), rate(float(np.mean(last))), followed)
        )
    seconds = ", ".join(f"{r['seconds']:.0f} on {r['threads']} threads" for r in result.values())
    header = (
        "condition",
        "success, mean",
        "each seed",
        "at the last step, mean",
        "attention to cube, px of 64, each seed",
    )
    what = _conditions(result)
    title = "## Three training seeds, 32x32 (`pick-small`)"
    return f"{title}\n\n{table(header, rows)}\n{what}\nSeconds of training: {seconds}.\n"


def _conditions(result: dict[str, Any]) -> str:
    scores = next(iter(result.values()))["scores"]
    lines = [
        f"- {name}: {scores[f'success/{name}']['protocol']['data'].split(', ', 2)[2]}"
        for name in CONDITIONS
        if f"success/{name}" in scores
    ]
    return "\n".join(lines) + "\n"


def _demo(result: dict[str, Any]) -> str:
    rows = [("minutes", f"{result['minutes']:.1f}"), ("peak memory, MB", f"{result['peak_mb']:.0f}")]
    rows += [(f"success, {n}", interval(result["scores"][f"success/{n}"])) for n in ("taught", "untaught", "blind")]
    return f"## `make demo`, after dependencies are installed\n\n{table(('what', 'measured'), rows)}\n"


def _full(result: dict[str, Any]) -> str:
    rows = [(f"minutes of training on {result['threads']} threads", f"{result['seconds'] / 60:.1f}")]
    for name in CONDITIONS:
        if f"success/{name}" in result["scores"]:
            rows.append((f"success, {name}", interval(result["scores"][f"success/{name}"])))
        if f"attention/{name}" in result["scores"]:
            rows.append(
                (f"attention to cube, {name}, px of 64", f"{result['scores'][f'attention/{name}']['value']:.1f}")
            )
    return f"## Full size, 64x64 (`sakiyomi train pick`)\n\n{table(('what', 'measured'), rows)}\n"


def _demonstrations(result: dict[str, Any]) -> str:
    rows = [
        (n, interval(r["scores"]["success/taught"]), interval(r["scores"]["success/untaught"]))
        for n, r in result.items()
    ]
    header = ("demonstrations", "taught places", "untaught places")
    told = "One training (seed 0) a row: the intervals are of the trials, and do not cover the luck of a training.\n"
    picture = "![success against demonstrations](demonstrations.png)\n"
    return f"## Few demonstrations\n\n{table(header, rows)}\n{told}\n{picture}"


def _baselines(result: dict[str, Any]) -> str:
    rows = [
        (
            name,
            *(interval(r["scores"][f"success/{n}"]) for n in ("taught", "untaught", "blind")),
            f"{r['seconds']:.0f} on {r['threads']}",
        )
        for name, r in result.items()
    ]
    return (
        f"## Baselines\n\n{table(('preset', 'taught', 'untaught', 'blind', 'seconds of training on threads'), rows)}\n"
    )


def _laws(result: dict[str, Any]) -> str:
    rows = [
        (f"{name}: unroll against stepping", f"outputs {r['outputs']:.1e}, gradients {r['gradients']:.1e}")
        for name, r in result.items()
        if isinstance(r, dict)
    ]
    rows += [("two runs of one seed, bit for bit", yes(result["two_runs_identical"]))]
    rows += [("Ctrl-C + resume = no stop, bit for bit", yes(result["resume_identical"]))]
    return f"## Laws\n\n{table(('law', 'largest difference, float32'), rows)}\n"


def _latency(result: dict[str, Any]) -> str:
    rows = [(name, f"{r['p50_ms']:.2f}", f"{r['p99_ms']:.2f}") for name, r in result.items()]
    header = ("pictures", "p50, ms", "p99, ms")
    return f"## Closed-loop step, batch 1, CPU: observation to guarded command\n\n{table(header, rows)}\n"


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    header = list(header)
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def cost(spent: dict[str, Any]) -> str:
    """What a training took, as `common.spent` left it."""
    return (
        f"{spent['seconds'] / 60:.1f} min on {spent['threads']} thread{'s' if spent['threads'] > 1 else ''} "
        f"({spent['processor_seconds'] / 60:.1f} min of processor time)"
    )


def rate(value: float) -> str:
    return f"{value:.0%}"


def interval(score: dict[str, Any]) -> str:
    return f"{rate(score['value'])} ({rate(score['low'])} to {rate(score['high'])})"


def yes(value: bool) -> str:
    return "identical" if value else "DIFFERENT"
