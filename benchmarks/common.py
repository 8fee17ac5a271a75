"""What the benchmarks share: parts are measured one by one; each leaves its figures and what machine it ran on."""

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from sakiyomi.errors import unknown
from sakiyomi.files import write_atomic
from sakiyomi.scores.protocol import Score


def measure(
    parts: Mapping[str, Callable[[], dict[str, Any]]], results: Path, names: list[str], write: Callable[[], None]
) -> None:
    """Measure the named parts (all of them if none is named; `page` is none) into RESULTS/PART.json; `write` makes
    the pages anew after each."""
    for name in [n for n in names or parts if n != "page"]:
        if name not in parts:
            raise unknown("part", name, parts)
        result = {**parts[name](), "machine": machine()}
        write_atomic(results / f"{name}.json", json.dumps(result, indent=1).encode())
        write()
    write()


def plain(scores: Mapping[str, Score]) -> dict[str, Any]:
    return {name: asdict(score) for name, score in scores.items()}


def machine() -> dict[str, str]:
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def spent(folder: Path, training: Callable[[], object]) -> None:
    """Train, unless that was done, and write down what it took: seconds by the clock, and of the processor's time."""
    if not (folder / "cost.json").exists():
        begin, busy = time.perf_counter(), time.process_time()
        training()
        took = {"seconds": time.perf_counter() - begin, "processor_seconds": time.process_time() - busy}
        write_atomic(folder / "cost.json", json.dumps({**took, "threads": torch.get_num_threads()}).encode())


def cost(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "cost.json").read_bytes())
