"""Closed-loop trials spread over workers, `sakiyomi evaluate NAME --workers N`: the same trials, N at a time.

    sakiyomi evaluate pick-small --trials 500 --workers 2
    sakiyomi evaluate pick-small --trials 500 --address HOST:6379

Every trial has its own seed, so it does not matter who runs it.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sakiyomi.cluster import Failed, Need, Workers, results, stand_in, unseen, workers
from sakiyomi.errors import SakiyomiError
from sakiyomi.evaluate import Asked, Drive, Progress, drive
from sakiyomi.rollout import Trained, Trial, load

PARTS = 4  # of the work for each worker: the last one to finish is not waited for long


@dataclass(frozen=True)
class Fleet:
    """How many drive at a time."""

    workers: int = 0
    """Worker processes on this machine, with Ray; 0 drives in this one."""
    address: str = ""
    """Of a Ray cluster whose machines drive, HOST:PORT or auto."""


def driver(fleet: Fleet, folder: Path) -> Drive:
    """What runs the trials of the run in `folder`. Raises SakiyomiError where Ray is asked for and not there."""
    if not fleet.workers and not fleet.address:
        return drive

    def spread(trained: Trained, asked: Mapping[str, Asked], progress: Progress) -> dict[str, list[Trial]]:
        with workers(fleet.workers, fleet.address) as on:
            return spread_over(on, folder, asked, progress)

    return spread


def spread_over(on: Workers, folder: Path, asked: Mapping[str, Asked], progress: Progress) -> dict[str, list[Trial]]:
    """The trials, in their order, by whoever has time. Raises SakiyomiError when a worker could not do its part."""
    total = sum(len(one.numbers) for one in asked.values())
    size = -(-total // (PARTS * on.cores))
    parts = [
        (name, replace(one, numbers=one.numbers[first : first + size]))
        for name, one in asked.items()
        for first in range(0, len(one.numbers), size)
    ]
    found: dict[int, list[Trial]] = {}
    for number, result in results(on, drive_part, [(Path.cwd(), folder, *part) for part in parts], Need()):
        if isinstance(result, Failed):
            raise SakiyomiError(f"trials of {parts[number][0]} could not be run: {result.error}")
        found[number] = result
        progress(sum(map(len, found.values())), total, parts[number][0])
    return {
        name: list(itertools.chain.from_iterable(found[i] for i, part in enumerate(parts) if part[0] == name))
        for name in asked
    }


def drive_part(place: Path, folder: Path, name: str, asked: Asked) -> list[Trial]:
    """What one worker does: some trials of one condition."""
    stand_in(place)
    if not folder.exists():
        raise unseen(folder.absolute())
    return drive(load(folder), {name: asked}, lambda done, total, at: None)[name]
