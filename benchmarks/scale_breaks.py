"""What breaks first on the way to ten million episodes, in order: the end of docs/scale.md."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.page import table
from benchmarks.scale import (
    DISK,
    FASTER,
    LENGTHS,
    LINKS,
    MACHINE_FAILS,
    PREFIX_RATE,
    line_through,
    most_devices,
    picture_bytes,
)
from benchmarks.scale_units import DAY, HOUR, digits
from sakiyomi.data.cache import GIGABYTE, LARGEST


@dataclass(frozen=True)
class Step:
    """A training step of one device."""

    name: str
    frames: int
    seconds: float
    gradients: float
    """Bytes, float32."""

    def on_gpu(self) -> "Step":
        return Step(f"{self.name}, a GPU", self.frames, self.seconds / FASTER.value, self.gradients)


@dataclass(frozen=True)
class Breaks:
    """Something that no longer does."""

    at: float
    """Episodes or devices."""
    what: str
    do: str
    """What helps, and whether the code has it."""


def lines_of(found: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """What a manifest of n lines takes: slope and offset of its bytes, seconds and memory."""
    sizes = found["scale"]["manifest"]
    keys = ("bytes", "seconds", "memory")
    return {key: line_through([(float(n), one[key]) for n, one in sizes.items()]) for key in keys}


def breaking(found: Mapping[str, Any], steps: Mapping[str, Step]) -> str:
    def rows(found: list[Breaks]) -> list[tuple[str, ...]]:
        return [(digits(one.at), one.what, one.do) for one in sorted(found, key=lambda one: one.at)]

    header = ("from", "what breaks", "what to do")
    return f"""## What breaks first

By the number of episodes (64 x 64, {LENGTHS[0]} steps, uint8):

{table(header, rows(by_episodes(found, steps)))}
By the number of devices (each a GPU as fast as was guessed, unless it says otherwise):

{table(header, rows(by_devices(steps)))}"""


def by_episodes(found: Mapping[str, Any], steps: Mapping[str, Step]) -> list[Breaks]:
    an_episode = picture_bytes(64, LENGTHS[0])
    lines, opening = lines_of(found), found["formats/reading"]["opening"]
    (slope, offset), (more, before) = lines["seconds"], lines["memory"]
    pick, gpu = steps["pick"], steps["pick"].on_gpu()
    one = found["scale"]["episodes"]["64"]["seconds_a_demonstration"]
    return [
        Breaks(
            LARGEST * GIGABYTE / an_episode,
            f"a far store no longer fits the cache of {LARGEST:.0f} GB: what is drawn is fetched again and again",
            "`SAKIYOMI_CACHE_GB`, up to the disk; after that draw from what is here while more comes: lacking",
        ),
        Breaks(DISK.value / an_episode, "one machine's disk is full", "an object store: `prepare copy`, there"),
        Breaks(
            (60 - offset) / slope,
            "opening the store takes a minute in every process",
            "shards of the manifest: lacking",
        ),
        Breaks(
            (8e9 - before) / more,
            "the manifest alone fills 8 GB of every process",
            "shards of the manifest: lacking; until then fewer processes a machine",
        ),
        Breaks(
            HOUR * opening["bytes"] / opening["first_s"] / an_episode,
            "checking every file once takes a core an hour",
            "files that were found whole are remembered, there; several cores: lacking",
        ),
        Breaks(
            DAY * pick.frames / pick.seconds / LENGTHS[0],
            "an epoch of `pick` takes this machine a day",
            "a GPU: `--train.device cuda`, there",
        ),
        Breaks(
            DAY * gpu.frames / gpu.seconds / LENGTHS[0],
            "an epoch of `pick` takes a GPU a day",
            "several processes: `torchrun`",
        ),
        Breaks(
            DAY / one,
            "the scripted expert takes a core a day",
            "several recorders, each into a store of its own; joining stores: lacking",
        ),
    ]


def by_devices(steps: Mapping[str, Step]) -> list[Breaks]:
    pick, push = steps["pick"].on_gpu(), steps["push"].on_gpu()
    episodes = pick.frames / pick.seconds / LENGTHS[0]
    slow, fast, near = LINKS
    exchanges = [
        Breaks(
            most_devices(step.seconds, step.gradients, link) + 1,
            f"{step.name}, {link.name}: less than 90% of a step is computing",
            help,
        )
        for step, link, help in (
            (
                push,
                slow,
                "a faster link; larger batches a device; gradients sent as bfloat16: lacking",
            ),
            (push, fast, f"devices of a machine by {near.name} first, then machines: NCCL's own doing"),
            (steps["push"], slow, "as above"),
            (pick, slow, "larger batches a device: the messages' latency is what counts, not their bytes"),
        )
    ]
    return [
        Breaks(
            slow.rate / (episodes * picture_bytes(64, LENGTHS[0])),
            f"{slow.name} is full of pictures for `pick`, from a far store",
            "a copy on every machine's disk (`prepare copy`), there; video instead of uint8: lacking",
        ),
        Breaks(
            PREFIX_RATE.value / episodes,
            "the object store's requests of one folder, for `pick`, one GET an episode",
            "folders by the first letters of the id: lacking; many episodes an object: lacking",
        ),
        Breaks(
            MACHINE_FAILS.value / 24,
            "a machine fails every day",
            "checkpoints and `--resume`, there; one worker's death is not to end the others: `torchrun --max-restarts`",
        ),
        *(one for one in exchanges if math.isfinite(one.at)),
    ]
