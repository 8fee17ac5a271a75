"""How far one training can be relied on, and what many workers give: the attention reliability sweep.

    python -m benchmarks.speed sweep

Five seeds of pick-small in runs/bench/sweep-pick-small, on Ray where it is installed, one thread each; runs that are
finished there are not done again.
"""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sakiyomi.__main__ import main
from sakiyomi.cluster import Workers, there, workers
from sakiyomi.errors import SakiyomiError
from sakiyomi.evaluate import Asked, drive
from sakiyomi.files import write_atomic
from sakiyomi.fleet import spread_over
from sakiyomi.rollout import load
from sakiyomi.sweep import read_swept
from sakiyomi.worlds.pick_cube_conditions import conditions

OUT = Path("runs/bench/sweep-pick-small")
SEEDS, TRIALS, FLEETS = 5, 200, (1, 2)


def sweep_part(out: Path = OUT, seeds: int = SEEDS, trials: int = TRIALS, more: tuple[str, ...] = ()) -> dict[str, Any]:
    """The sweep of the demo's training, the same command again, and trials a second of fleets. `more` are words of
    the command line, such as --train.steps 20."""
    command = ["sweep", "pick-small", "--seeds", str(seeds), "--out", str(out), *more]
    seconds = swept(out, command)
    begin = time.perf_counter()
    call(command)
    again = time.perf_counter() - begin
    found = read_swept(out)
    (setting,) = found.settings.values()
    return {
        "command": " ".join(["sakiyomi", *command]),
        "seeds": found.seeds,
        "finished": len(found.finished),
        "seconds": seconds,
        "seconds_again": again,
        "best": setting.best,
        "validation": setting.validation,
        "scores": {name: {**asdict(one.mean), "each": [*one.values.values()]} for name, one in setting.scores.items()},
        "reliability": [asdict(one) for one in setting.reliability],
        "fleet": fleets(out / setting.best, trials),
    }


def swept(out: Path, command: list[str]) -> float:
    """Seconds of the whole sweep by the clock, those of calls that were interrupted included."""
    path = out / "spent.json"
    before = json.loads(path.read_bytes()) if path.exists() else {"seconds": 0.0, "done": False}
    if before["done"]:
        return before["seconds"]
    begin, done = time.perf_counter(), False
    try:
        call(command)
        done = True
    finally:
        spent = {"seconds": before["seconds"] + time.perf_counter() - begin, "done": done}
        write_atomic(path, json.dumps(spent).encode())
    return spent["seconds"]


def call(command: list[str]) -> None:
    status = main(command)
    if status:
        raise SakiyomiError(f"sakiyomi {' '.join(command)} ended with status {status}")


def fleets(folder: Path, trials: int) -> dict[str, float]:
    """Trials a second in this process (`here`) and by so many workers, each with the model loaded once before."""
    untaught = conditions(trials)["untaught"]
    trained = load(folder)
    begin = time.perf_counter()
    drive(trained, {"untaught": Asked(untaught, range(trials), None)}, quiet)
    out = {"here": trials / (time.perf_counter() - begin)}
    for count in FLEETS if there() else ():
        with workers(count) as on:
            by(on, folder, Asked(untaught, range(min(trials, 4 * count)), None))  # imports, first renderers
            begin = time.perf_counter()
            by(on, folder, Asked(untaught, range(trials), None))
            out[str(count)] = trials / (time.perf_counter() - begin)
    return out


def by(on: Workers, folder: Path, asked: Asked) -> None:
    spread_over(on, folder, {"untaught": asked}, quiet)


def quiet(done: int, total: int, at: str) -> None:
    """Nobody waits at a screen."""
