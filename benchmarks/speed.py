"""Everything that is claimed about speed, measured beside the published arithmetic: docs/benchmarks.md, "Speed".

    python -m benchmarks.speed                    all parts, about three quarters of an hour; the machine to itself
    python -m benchmarks.speed sarnn svg mvae     some
    python -m benchmarks.speed gpu                only where there is one; left out of "all parts" where there is none
    python -m benchmarks.speed page               only the page, from the results there are

Each part writes benchmarks/results/speed/PART.json. A way that does not compute the same as the published one is not
measured: the command says by how much it is off, and ends.
"""

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import measure
from benchmarks.published.mvae import PublishedMVAE
from benchmarks.side_by_side import PUBLISHED, SAME, Sides, agreed, measured
from benchmarks.speed_page import write_page, write_pictures, write_readme_rows
from benchmarks.speed_training import precision_part, time_to_error_part
from sakiyomi.bench import closed_loop_seconds, percentiles, rollout_seconds, sized
from sakiyomi.job import build
from sakiyomi.measuring import Spread, describe_machine, in_turn, measure_rates, ratios
from sakiyomi.models import MVAE
from sakiyomi.presets import preset
from sakiyomi.products import plain_products
from sakiyomi.run import set_threads

RESULTS, DOCS = Path("benchmarks/results"), Path("docs")
FIRST = ("sarnn", "svg", "mvae")
SECONDS = {"sarnn": 75.0, "svg": 90.0, "mvae": 15.0}
OTHERS = 4.0  # seconds of rounds for each of the others
DRIVERS = ("pick", "pick-small", "pick-cnn", "pick-mtrnn", "pick-joints")
STEPPERS = ("push-small", "walk", "translate-gru", "translate-attention", "translate", "shakespeare", "say-digits")
STEPPERS += ("spoken-digits", "climate-forecast")
TICKS = {"closed": 2000, "rollout": 300}
CHARACTERS, FRAMES = 1000, 10


def of_one(name: str) -> dict[str, Any]:
    """One model's training step against the published arithmetic, on every core."""
    set_threads(0)
    rates = measure_rates()
    return {**measured(name, rates, SECONDS[name]), "rates": asdict(rates), "computer": describe_machine()}


def others_part() -> dict[str, Any]:
    """Each later model, in training and, where that differs, in going on."""
    set_threads(0)
    rates = measure_rates()
    names = [name for name in PUBLISHED if name not in FIRST]
    found = {name: measured(name, rates, OTHERS) for name in names}
    return {"sides": found, "same": SAME, "rates": asdict(rates), "computer": describe_machine()}


def latency_part() -> dict[str, Any]:
    """Steps at batch 1: the closed loop of what drives, a step of what goes on, and a thousand characters."""
    set_threads(0)
    every = torch.get_num_threads()
    closed: dict[str, Any] = {}
    for name in DRIVERS:
        job, _ = sized(preset(name).job)
        model = build(job.model).to(memory_format=torch.channels_last).eval()
        closed[name] = {}
        for threads in sorted({every, 1}, reverse=True):
            torch.set_num_threads(threads)
            closed[name][str(threads)] = percentiles(closed_loop_seconds(job, model, TICKS["closed"]), warm=50)
    steps = {}
    torch.set_num_threads(every)
    for name in STEPPERS:
        job, guessed = sized(preset(name).job)
        model = build(job.model).to(memory_format=torch.channels_last).eval()
        steps[name] = {**percentiles(rollout_seconds(model, TICKS["rollout"]), warm=20), "stand_ins": guessed}
    return {"closed": closed, "steps": steps, "characters": characters(), "computer": describe_machine()}


def characters() -> dict[str, Any]:
    """A thousand characters, each ten poses further."""
    sides = decoding()
    agreement = agreed(sides)
    taken = in_turn(sides.ways, 20.0)
    ways = {
        way: {"seconds": asdict(Spread.of(seconds)), "ratio": asdict(ratios(taken["published"], seconds))}
        for way, seconds in taken.items()
    }
    return {"title": sides.title, "agree": agreement, "ways": ways}


def decoding(quick: bool = False) -> Sides:
    """The decoder alone, fed its own poses: the published one blends the experts' weights for each character."""
    count, size = (3, 12) if quick else (CHARACTERS, 267)
    torch.manual_seed(0)
    model = MVAE(MVAE.Config(pose=size, hidden=16) if quick else MVAE.Config(pose=size)).eval()
    published = PublishedMVAE(model)
    pose, noise = torch.randn(count, size), torch.randn(FRAMES, count, model.config.latent)

    @torch.inference_mode()
    def walk(decode: Callable[[Tensor, Tensor], Tensor], bfloat16: bool = False) -> Tensor:
        last = pose
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            for z in noise:
                last = decode(z, last).float()
        return last

    def theirs() -> Tensor:
        with plain_products():
            return walk(published.decode)

    def ours(bfloat16: bool = False) -> Tensor:
        with plain_products():  # as a rollout has it
            return walk(model.decode, bfloat16)

    def agree() -> dict[str, float]:
        wanted = theirs()
        return {"poses": float((wanted - ours()).abs().max() / wanted.abs().max())}

    ways = {"published": theirs, "ours, float32": ours, "ours, bfloat16": lambda: ours(True)}
    return Sides(f"MVAE, {count:,} characters, {FRAMES} steps", count * FRAMES, ways, agree)


# ---- Parts that have files of their own ------------------------------------------------------------------------------


def processes() -> dict[str, Any]:
    from benchmarks.many_processes import processes_part

    return processes_part()


def killed() -> dict[str, Any]:
    from benchmarks.many_processes import killed_part

    return killed_part()


def sweep() -> dict[str, Any]:
    from benchmarks.sweep import sweep_part  # it needs Ray

    return sweep_part()


def larger_than_memory() -> dict[str, Any]:
    from benchmarks.larger_than_memory import part

    return part()


def gpu() -> dict[str, Any]:
    from benchmarks.on_a_gpu import gpu_part

    return gpu_part()


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "sarnn": lambda: of_one("sarnn"),
    "svg": lambda: of_one("svg"),
    "mvae": lambda: of_one("mvae"),
    "others": others_part,
    "latency": latency_part,
    "time_to_error": time_to_error_part,
    "precision": precision_part,
    "processes": processes,
    "killed": killed,
    "sweep": sweep,
    "larger_than_memory": larger_than_memory,
    "gpu": gpu,
}


def write() -> None:
    write_pictures(RESULTS / "speed", DOCS)
    write_page(RESULTS, DOCS / "benchmarks.md")
    write_readme_rows(RESULTS, Path("README.md"))


if __name__ == "__main__":
    asked = sys.argv[1:] or [name for name in PARTS if name != "gpu" or torch.cuda.is_available()]
    measure(PARTS, RESULTS / "speed", asked, write)
