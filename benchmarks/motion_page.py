"""docs/motion-benchmarks.md and the README's rows, from benchmarks/results/motion: nothing there is typed."""

from pathlib import Path
from typing import Any

from benchmarks.page import found_in, put_between, table
from sakiyomi.files import write_atomic

HEAD = """# Benchmarks: characters

Written by `python -m benchmarks.steer_a_character` (`make bench`) from the figures in `benchmarks/results/motion`.
Intervals are 95 %: Wilson's of shares, bootstrap of means, over rollouts or characters. One training a row: they do not
cover the luck of a training. Open a run's `report.html` for the exact definition of each score.
"""
CONTROLLERS = {
    "target": "Target: a disc of 0.5 m, 2 to 6 m away in any direction, 10 s for each",
    "joystick": "Joystick: hold a speed and a heading that change every few seconds",
    "path": "Path: follow a closed curve",
    "maze": "Maze: see as much of it as possible in a minute",
}


def write_page(results: Path, path: Path) -> None:
    """Write the page from whichever parts have been measured."""
    text = [HEAD]
    writers = {"round-trip": _round_trip, "walk": _walk, **dict.fromkeys(CONTROLLERS, _controller)}
    for name, write in {**writers, "speed": _speed, "steering": _steering, "generated": _generated}.items():
        found = found_in(results, name)
        if found:
            machine = ", ".join(f"{k} {v}" for k, v in found.pop("machine").items())
            title = f"## {CONTROLLERS[name]}\n\n" if name in CONTROLLERS else ""
            text += [title + write(found), f"`python -m benchmarks.steer_a_character {name}` on {machine}\n"]
    write_atomic(path, "\n".join(text).encode())


def write_readme_rows(results: Path, readme: Path) -> None:
    """Put the measured presets between the README's two marks."""
    rows = []
    walk = found_in(results, "walk")
    for name in ("walk", "walk-forced"):
        if name in walk:
            scores = walk[name]["scores"]
            told = (
                f"feet slide {_value(scores, 'sliding_ratio')} times the data's, {_percent(scores, 'exploded')} explode"
            )
            rows.append((f"`{name}`", f"`sakiyomi train {name}`", _cost(walk[name]), told))
    judged = {
        "target": ("targets_reached", "{} of targets in 10 s"),
        "joystick": ("turn_seconds", "faces a new heading after {} s"),
    }
    for name, (score, told) in judged.items():
        found = found_in(results, name)
        if found:
            scores = found["scores"]
            value = _percent(scores, score) if scores[score]["unit"] == "rate" else _value(scores, score)
            run = f"{name}-walker"
            rows.append((f"`{run}`", f"`sakiyomi train {run}`", _cost(found), told.format(value)))
    rendered = table(("preset", "command", "training", "what came of it"), rows)
    put_between(readme, "steered", rendered)


def _round_trip(found: dict[str, Any]) -> str:
    rows = [
        ("files, frames, frames lost", f"{found['files']}, {found['frames']}, {found['lost']}"),
        ("joint positions apart, mm: mean, worst", f"{found['millimetres']:.2g}, {found['worst millimetres']:.2g}"),
        ("rotations apart, degrees: mean, worst", f"{found['degrees']:.2g}, {found['worst degrees']:.2g}"),
    ]
    return f"## BVH to features to BVH\n\n{table(('what', 'measured'), rows)}"


def _walk(found: dict[str, Any]) -> str:
    rows = []
    for name, run in found.items():
        scores = run["scores"]
        shares = (_percent(scores, "exploded"), _percent(scores, "active"))
        slides = (_interval(scores, "sliding_ratio"), _interval(scores, "sliding"))
        rows.append((f"`{name}`", shares[0], *slides, _interval(scores, "distance"), shares[1], _cost(run)))
    protocol = found["walk"]["scores"]["exploded"]["protocol"]
    header = ("run", "explode", "feet slide, times the data's", "cm/frame", "walked, m", "latent in use", "training")
    title = f"## Led by chance, {protocol['n']} held-out starts, {protocol['counted']}"
    text = f"Exploded: {protocol['rule']}. `walk-forced` was only ever shown true poses in training."
    warned = [f"- `{name}`: {told}" for name, run in found.items() for told in run["warnings"].values()]
    pictures = "![paths of 100 characters, 3000 frames](walk-paths.png)\n\n![training](walk-training.png)\n"
    return f"{title}\n\n{text}\n\n{table(header, rows)}\n" + "\n".join([*warned, "", pictures])


def _controller(found: dict[str, Any]) -> str:
    scores = found["scores"]
    rows = []
    for name, score in scores.items():
        if "/" in name:
            continue
        chance = f"{name}/random"
        other = _shown(scores, chance) if chance in scores else "-"
        rows.append((name, _shown(scores, name), other, score["protocol"]["rule"]))
    protocol = next(iter(scores.values()))["protocol"]
    cost = f"{found['frames'] / 1e6:.1f} million frames, {_cost(found)}; {protocol['counted']}."
    motion = found["motion"]
    natural = f"Its motion: in 20 s {_percent(motion, 'fell apart')} leave the range and begin anew"
    if "sliding_ratio" in motion:
        natural += f"; of the others feet slide {_interval(motion, 'sliding_ratio')} times the data's"
    natural += "."
    return f"{table(('score', 'controller', 'by chance', 'what'), rows)}\n{cost} {natural}\n"


def _speed(found: dict[str, Any]) -> str:
    decoder = found["decoder"]
    rows = [(way, f"{value:,.0f}") for way, value in decoder["frames a second"].items()]
    title = f"{decoder['characters']} characters a step, {decoder['threads']} threads"
    text = f"## Speed\n\n{table((f'decoder, {title}', 'character-frames a second'), rows)}\n"
    return text + "\n".join(_step(found[name]) for name in found if name.startswith("training step"))


def _step(step: dict[str, Any]) -> str:
    rows = [
        ("published loop, s", f"{step['seconds']['published']:.3f}"),
        ("ours, s", f"{step['seconds']['ours']:.3f}"),
        ("times as fast, median (quartiles of single rounds)", _quartiles(step)),
        (
            f"largest difference of {step['losses compared']} losses in a row",
            f"{step['largest difference of the losses']:.1e}",
        ),
    ]
    header = (f"training on 64 windows of 8 frames, a gradient step after each, {step['threads']} threads", "measured")
    return table(header, rows)


def _quartiles(step: dict[str, Any]) -> str:
    low, high = step["ratios of single rounds"]
    return f"{step['ratio']:.2f} ({low:.2f} to {high:.2f})"


def _steering(found: dict[str, Any]) -> str:
    off = found["off_heading"]  # None where nothing steers
    rows = [
        ("frames drawn a second", f"{found['frames_s']:.1f}"),
        ("poses received a second", f"{found['poses_s']:.1f}"),
        ("there and back, ms", f"{found['there_and_back_ms']:.1f}"),
        ("model, ms a tick", f"{found['model_ms']:.1f}"),
        ("walked with a key held down, m", f"{found['walked']:.1f}"),
        ("off the heading at the end, degrees", "-" if off is None else f"{off:.1f}"),
        ("console errors", str(len(found["complaints"]))),
    ]
    title = f"## The steering page, headless Chromium, {found['seconds']:.0f} s"
    return f"{title}\n\n{table(('what', 'measured'), rows)}"


def _generated(found: dict[str, Any]) -> str:
    walk, controller = found["walk"], found["controller"]
    rows = [
        ("explode", _percent(walk, "exploded")),
        ("feet slide, times the data's", _interval(walk, "sliding_ratio")),
        ("latent in use", _percent(walk, "active")),
        ("targets reached in 10 s", _percent(controller, "targets_reached")),
        ("by chance", _percent(controller, "targets_reached/random")),
    ]
    title = "## `sakiyomi demo-motion generated`: all of it, on a walk made by code"
    pictures = "![by chance](walk.gif)\n\n![steered](steered.gif)\n\n![the page](steering.png)\n"
    return f"{title}\n\n{table(('what', 'measured'), rows)}\n{_cost(found)}.\n\n{pictures}"


def _cost(run: dict[str, Any]) -> str:
    threads = "1 thread" if run["threads"] == 1 else f"{run['threads']} threads"
    busy = run["processor_seconds"] / 60
    return f"{run['seconds'] / 60:.1f} min on {threads} ({busy:.1f} min of processor time)"


def _shown(scores: dict[str, Any], name: str) -> str:
    return (
        _percent(scores, name)
        if scores[name]["unit"] == "rate"
        else f"{_interval(scores, name)} {scores[name]['unit']}"
    )


def _value(scores: dict[str, Any], name: str) -> str:
    return f"{scores[name]['value']:.2f}" if name in scores else "-"


def _percent(scores: dict[str, Any], name: str) -> str:
    score = scores[name]
    ends = "" if score["low"] is None else f" ({100 * score['low']:.1f} to {100 * score['high']:.1f})"
    return f"{100 * score['value']:.1f}%{ends}"


def _interval(scores: dict[str, Any], name: str) -> str:
    if name not in scores:
        return "-"
    score = scores[name]
    return f"{score['value']:.2f} ({score['low']:.2f} to {score['high']:.2f})"
