"""docs/imagine-benchmarks.md and the README's rows, from benchmarks/results/imagine: nothing there is typed."""

import json
from pathlib import Path
from typing import Any

from benchmarks.page import put_between, table
from sakiyomi.files import write_atomic

HEAD = """# Benchmarks: imagining

Written by `python -m benchmarks.imagine_a_push` (`make bench`) from the figures in `benchmarks/results/imagine`. PSNR
and SSIM over imagined frames only, pictures in 0..1 at 64x64, mean over frames, then over the sequences of the test
split (the first window of each recording); intervals are bootstrap, 95 %, over sequences. Best: of 20 samples, for each
sequence by that score's mean over its frames. One training a row: the intervals do not cover the luck of a training.
"""
WAYS = {"mean": "mean of 20", "best": "best of 20", "copy": "last frame copied", "shuffled": "told other actions"}


def write_page(results: Path, path: Path) -> None:
    """Write the page from whichever parts have been measured."""
    text = [HEAD]
    for name, write in {
        "pushes": _pushes,
        "schedules": _schedules,
        "bridge": _bridge,
        "digits": _digits,
        "speed": _speed,
        "memory": _memory,
        "laws": _laws,
    }.items():
        if (results / f"{name}.json").exists():
            found = json.loads((results / f"{name}.json").read_bytes())
            machine = ", ".join(f"{k} {v}" for k, v in found.pop("machine").items())
            text += [write(found), f"`python -m benchmarks.imagine_a_push {name}` on {machine}\n"]
    write_atomic(path, "\n".join(text).encode())


def write_readme_rows(results: Path, readme: Path) -> None:
    """Put the measured presets between the README's two marks."""
    rows = []
    for part, what in (("pushes", "MuJoCo arm pushes"), ("bridge", "Bridge V2 sample"), ("digits", "moving digits")):
        path = results / f"{part}.json"
        found = json.loads(path.read_bytes()) if path.exists() else {}
        found.pop("machine", None)
        runs = {"bridge": found} if part == "bridge" else {"moving-digits": found} if part == "digits" else found
        for name, run in runs.items():
            if "seconds" in run:
                score = " / ".join(f"{run['scores'][f'psnr/{way}']['value']:.1f}" for way in ("mean", "best", "copy"))
                cost = f"{run['seconds']:.0f} on {run['threads']}"
                rows.append((f"`{name}`", what, f"`sakiyomi train {name}`", cost, score))
    header = (
        "preset",
        "data",
        "command",
        "seconds of training on threads",
        "PSNR, dB: mean / best of 20 / last frame copied",
    )
    put_between(readme, "imagined", table(header, rows))


def _pushes(found: dict[str, Any]) -> str:
    runs = {name: run for name, run in found.items() if "seconds" in run}
    gap = _value(runs["push-small"], "psnr/mean") - _value(runs["push-blind"], "psnr/mean")
    spread = _value(runs["push-small"], "psnr/best") - _value(runs["push-small"], "psnr/mean")
    rows = [(name, *_both(run, WAYS), _cost(run)) for name, run in runs.items()]
    rows.append(("push-small, 28 frames", *_both(found["28 frames"], WAYS), ""))
    header = ("run", *(f"{label}: PSNR dB, SSIM" for label in WAYS.values()), "training")
    gains = runs["push-small"]["scores"]
    told = [
        f"- above the last frame copied, by sequence: {_interval(gains['psnr_gain/copy'])} dB",
        f"- lost when told another sequence's actions, by sequence: {_interval(gains['psnr_gain/shuffled'])} dB",
        f"- above the same model trained without actions: {gap:.2f} dB",
        f"- best of 20 above the mean of 20: {spread:.2f} dB",
    ]
    pictures = "![a rollout](imagined.png)\n\n![28 frames](push-by-frame.png)\n\n![training](push-training.png)\n"
    return f"## Pushes, 2 frames given, 10 imagined\n\n{table(header, rows)}\n" + "\n".join(told) + f"\n\n{pictures}"


def _schedules(found: dict[str, Any]) -> str:
    names = {
        "cyclical": "forcing scheduled, KL cyclical",
        "monotonic": "forcing scheduled, KL monotonic",
        "always-forced": "always forced, KL cyclical",
        "never-forced": "never forced, KL cyclical",
    }
    rows = []
    for name, label in names.items():
        run = found[name]
        kl = f"{run['last'].get('validation/kl', float('nan')):.2f}"
        rows.append((label, *_both(run, {"mean": "", "best": ""}), kl, _cost(run)))
    header = ("schedule", "mean of 20: PSNR dB, SSIM", "best of 20", "KL at the end, nats a step", "training")
    steps = found["cyclical"]["steps"]
    return f"## Schedules, push-small, {steps} steps each\n\n{table(header, rows)}\n![schedules](schedules.png)\n"


def _bridge(found: dict[str, Any]) -> str:
    rows = [(WAYS[way], *_each(found, way)) for way in WAYS if f"psnr/{way}" in found["scores"]]
    n = found["scores"]["psnr/mean"]["protocol"]["n"]
    title = f"## Real frames: the Bridge sample, 2 given, 8 imagined, {n} held-out views of whole episodes"
    above = _interval(found["scores"]["psnr_gain/copy"])
    gain = f"Above the last frame copied, by sequence: {above} dB. {_cost(found)}.\n"
    return f"{title}\n\n{table(('way', 'PSNR, dB', 'SSIM'), rows)}\n{gain}"


def _digits(found: dict[str, Any]) -> str:
    rows = [(WAYS[way], *_each(found, way)) for way in WAYS if f"psnr/{way}" in found["scores"]]
    return f"## Moving digits, 2 given, 10 imagined\n\n{table(('way', 'PSNR, dB', 'SSIM'), rows)}\n{_cost(found)}.\n"


def _speed(found: dict[str, Any]) -> str:
    rows = []
    for name, one in found.items():
        seconds, ratio, apart = one["seconds"], one["ratio"], one["largest difference of the losses"]
        rows.append((name, "published arithmetic", f"{seconds['published']:.2f}", "1", ""))
        rows += [
            (name, f"ours, {way}", f"{seconds[way]:.2f}", f"{ratio[way]:.2f}", f"{apart[way]:.1e}")
            for way in ("float32", "bfloat16")
        ]
    header = ("networks", "way", "seconds, median", "times as fast", "largest difference of a loss")
    return f"## A training step (loss and gradients), same weights, A B A B in one process\n\n{table(header, rows)}"


def _memory(found: dict[str, Any]) -> str:
    rows = [(n, f"{one['store_mb']:.0f}", f"{one['peak_mb']:.0f}") for n, one in found.items()]
    header = ("training episodes", "store, MB", "peak memory of 300 steps of training, MB")
    return f"## Memory\n\n{table(header, rows)}"


def _laws(found: dict[str, Any]) -> str:
    rows = [(name, f"{one['outputs']:.1e}", f"{one['gradients']:.1e}") for name, one in found.items()]
    header = ("unroll against stepping, same noise, evaluation mode, float32", "outputs", "gradients")
    return f"## Laws\n\n{table(header, rows)}"


def _both(run: dict[str, Any], ways: dict[str, str]) -> tuple[str, ...]:
    cells = []
    for way in ways:
        there = f"psnr/{way}" in run["scores"]
        cells.append(f"{_value(run, f'psnr/{way}'):.2f}, {_value(run, f'ssim/{way}'):.3f}" if there else "-")
    return tuple(cells)


def _each(run: dict[str, Any], way: str) -> tuple[str, str]:
    return tuple(_interval(run["scores"][f"{name}/{way}"]) for name in ("psnr", "ssim"))  # pyright: ignore[reportReturnType]


def _cost(run: dict[str, Any]) -> str:
    threads = "1 thread" if run["threads"] == 1 else f"{run['threads']} threads"
    return f"{run['steps']} steps, {run['seconds'] / 60:.1f} min on {threads}"


def _value(run: dict[str, Any], name: str) -> float:
    return run["scores"][name]["value"]


def _interval(score: dict[str, Any]) -> str:
    digits = 3 if score["unit"] == "1" else 2
    return f"{score['value']:.{digits}f} ({score['low']:.{digits}f} to {score['high']:.{digits}f})"
