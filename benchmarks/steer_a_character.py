"""Everything that is claimed about characters, measured: BVH there and back, the motion VAE with and without scheduled
sampling, controllers, the decoder, the training step against the published loop, the steering page.

    python -m benchmarks.steer_a_character                all parts, about two hours on two cores
    python -m benchmarks.steer_a_character walk speed     some
    python -m benchmarks.steer_a_character page           only docs/motion-benchmarks.md, from the results there are

Each part writes benchmarks/results/motion/PART.json; trained runs stay in runs/bench and are not trained again. The
recordings are BVH files of walks and runs, a folder or .zip that SAKIYOMI_MOCAP names.
"""

import copy
import os
import statistics
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.common import cost, measure, plain, spent
from benchmarks.motion_page import write_page, write_readme_rows
from benchmarks.published.mvae import PublishedMVAE, Trained, batch_of
from benchmarks.published.mvae import plain as plain_pass
from benchmarks.published.mvae import wide as wide_pass
from benchmarks.steering import cannot, measure_page, served
from sakiyomi.control import (
    Controller,
    evaluate_controller,
    load_controller,
    load_job,
    rollout_controller,
    train_controller,
)
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.sources.mocap import Mocap
from sakiyomi.demo_motion import DemoMotion, demo_motion, recorded
from sakiyomi.errors import SakiyomiError
from sakiyomi.evaluate_walk import HowWalked, evaluate_walk, save_walk
from sakiyomi.files import write_atomic
from sakiyomi.models import MVAE
from sakiyomi.motion.features import round_trip
from sakiyomi.presets import CONTROLLERS, preset
from sakiyomi.rollout import load
from sakiyomi.run import progress_bar, read_metrics
from sakiyomi.scores.motion import reference_of, score_rollouts
from sakiyomi.scores.protocol import Protocol, Score, load_scores, save_scores
from sakiyomi.scores.statistics import wilson
from sakiyomi.serve import Serving, Stage
from sakiyomi.steer import steered_gif
from sakiyomi.train import train
from sakiyomi.views import motion
from sakiyomi.views.plots import schedule_comparison
from sakiyomi.walk import character_of, random_walk
from sakiyomi.watchdog import warnings

RESULTS, RUNS, DOCS = Path("benchmarks/results/motion"), Path("runs/bench"), Path("docs")
MOCAP = Path(os.environ.get("SAKIYOMI_MOCAP", "data/public/bandai-namco-2"))
FILES = 50  # there and back
WALKS = ("walk", "walk-forced")
CHARACTERS = 1000  # of the decoder's speed
ROUNDS = 40


def round_trip_part() -> dict[str, Any]:
    """BVH -> features -> BVH, over files spread evenly over all there are."""
    with bvh_files() as files:
        picks = [files[i * len(files) // FILES] for i in range(min(FILES, len(files)))]
        found = [asdict(round_trip(path)) for path in picks]
    return {
        "files": len(found),
        "frames": sum(one["read"] for one in found),
        "lost": sum(abs(one["read"] - one["written"]) for one in found),
        "millimetres": statistics.mean(one["millimetres"] for one in found),
        "worst millimetres": max(one["worst_millimetres"] for one in found),
        "degrees": statistics.mean(one["degrees"] for one in found),
        "worst degrees": max(one["worst_degrees"] for one in found),
    }


@contextmanager
def bvh_files() -> Iterator[list[Path]]:
    """The recordings as files, unpacked where they are in a .zip."""
    if not MOCAP.exists():
        raise SakiyomiError(f"{MOCAP} is not there; name a folder or .zip of BVH files in SAKIYOMI_MOCAP")
    with TemporaryDirectory() as folder:
        if MOCAP.is_file():
            with zipfile.ZipFile(MOCAP) as archive:
                archive.extractall(folder, [name for name in archive.namelist() if name.endswith(".bvh")])
        yield sorted((Path(folder) if MOCAP.is_file() else MOCAP).rglob("*.bvh"))


def walk_part() -> dict[str, Any]:
    """`sakiyomi train walk`, and the same only ever shown true poses; pictures of a real rollout."""
    found = {name: walk_run(name) for name in WALKS}
    write_atomic(DOCS / "walk-training.png", schedule_comparison({name: read_metrics(RUNS / name) for name in WALKS}))
    character = character_of(RUNS / "walk", "test", "cpu")
    far = random_walk(character, character.start(100, torch.Generator().manual_seed(0)), 3000, 0)
    write_atomic(DOCS / "walk-paths.png", motion.path_plot(far.places.numpy()))
    return found


def walk_run(name: str) -> dict[str, Any]:
    """Train and score one motion VAE, unless runs/bench has it."""
    folder, job = RUNS / name, preset(name).job
    store = Path(job.data.store)
    if not store.exists():
        recorded(Mocap(str(MOCAP)), store)
    spent(folder, lambda: train(job, folder, resume=True))
    trained = load(folder)
    found = evaluate_walk(trained, HowWalked())
    save_walk(found, trained, folder)
    metrics = read_metrics(folder)
    splits = EpisodeStore(store)
    return {
        "scores": plain(found.scores),
        "usage": found.usage.tolist(),
        "warnings": warnings(metrics, job.train.watch),
        "steps": job.train.steps,
        "frames": {split: sum(e.lengths["pose"] for e in splits.split(split)) for split in ("train", "test")},
        **cost(folder),
    }


def control_part(name: str) -> Callable[[], dict[str, Any]]:
    """`sakiyomi train NAME` on the character of `walk`, beside a random walk."""

    def part() -> dict[str, Any]:
        folder = RUNS / name
        job = replace(CONTROLLERS[name]().job, character=str(RUNS / "walk"))
        character = character_of(job.character, device="cpu")
        spent(folder, lambda: train_controller(job, character, folder, resume=True))
        controller = load_controller(folder, character)
        with progress_bar(name, 1) as bar:
            scores = evaluate_controller(controller, progress=bar.of)
        save_scores(scores, folder / "scores.json")
        natural = steered_motion(controller)
        return {
            "scores": plain(load_scores(folder / "scores.json")),
            "frames": load_job(folder).frames,
            "motion": natural,
            **cost(folder),
        }

    return part


def steered_motion(controller: Controller) -> dict[str, Any]:
    """What steering does to the motion itself: how many characters fell apart, and of those that did not the scores of
    a walk by chance. The world shows no pose beyond its limit, it begins anew: so the ends are what must be counted."""
    store = EpisodeStore(load(controller.job.character).job.data.store)
    done = rollout_controller(controller, 100, 20.0)
    protocol = Protocol(
        data=f"{store.folder}, steered",
        counted=f"{len(done.poses)} frames",
        rule="",
        n=done.poses.shape[1],
        seeds="10000",
    )
    apart = done.over.any(0)
    share = wilson(int(apart.sum()), len(apart))
    rule = f"share that reached {controller.job.world.apart:g} times the range of the poses they start from, or NaN"
    protocol = replace(protocol, rule=rule, interval="wilson 95 %")
    fell = Score("fell apart", share.value, share.low, share.high, "rate", protocol)
    whole = (
        score_rollouts(done.poses[:, ~apart].transpose(0, 1), reference_of(store), protocol) if share.value < 1 else {}
    )
    return plain({**whole, "fell apart": fell})


def speed_part() -> dict[str, Any]:
    """The decoder, and the training step against the published loop, in one process, A B A B."""
    torch.manual_seed(0)
    pose = MVAE.Config().pose
    ours = MVAE(MVAE.Config(reduction="mean"))
    published = PublishedMVAE(copy.deepcopy(ours))
    found = {"decoder": decoder_speed(ours, published), "training step": step_speed(ours, pose)}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found["training step, 1 thread"] = step_speed(ours, pose)
    torch.set_num_threads(threads)
    return found


@torch.inference_mode()
def decoder_speed(ours: MVAE, published: PublishedMVAE) -> dict[str, Any]:
    """Character-frames a second of `CHARACTERS` at once, median of the rounds."""
    half = copy.deepcopy(ours).bfloat16()
    z, pose = torch.randn(CHARACTERS, ours.latent), torch.randn(CHARACTERS, ours.config.pose)
    ways: dict[str, Callable[[], object]] = {
        "published": lambda: published.decode(z, pose),
        "float32": lambda: ours.decode(z, pose),
        "bfloat16": lambda: half.decode(z.bfloat16(), pose.bfloat16()).float(),
    }
    seconds = alternated(ways)
    apart = float((ours.decode(z, pose) - published.decode(z, pose)).abs().max())
    return {
        "characters": CHARACTERS,
        "threads": torch.get_num_threads(),
        "frames a second": {way: CHARACTERS / value for way, value in seconds.items()},
        "largest difference": apart,
    }


def step_speed(ours: MVAE, pose: int) -> dict[str, Any]:
    """Windows of 8 frames, 64 at once, a gradient step after every frame, same noise: seconds and the losses. The
    published loop multiplies as torch does by itself, ours as our training does."""
    batch = batch_of(pose)
    sides = {"published": Trained(ours, batch, published=True), "ours": Trained(ours, batch, published=False)}
    ways = {"published": lambda: plain_pass(sides["published"]), "ours": lambda: wide_pass(sides["ours"])}
    apart, rounds = 0.0, {way: list[float]() for way in ways}
    losses: dict[str, list[float]] = {}
    for _ in range(ROUNDS + 1):  # the first one warms up
        for way, step in ways.items():
            begin = time.perf_counter()
            losses[way] = step()
            rounds[way].append(time.perf_counter() - begin)
        apart = max(apart, *(abs(a - b) for a, b in zip(losses["ours"], losses["published"], strict=True)))
    seconds = {way: statistics.median(taken[1:]) for way, taken in rounds.items()}
    ratios = sorted(a / b for a, b in zip(rounds["published"][1:], rounds["ours"][1:], strict=True))
    return {
        "seconds": seconds,
        "ratio": seconds["published"] / seconds["ours"],
        "ratios of single rounds": [ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]],
        "threads": torch.get_num_threads(),
        "largest difference of the losses": apart,
        "losses compared": 8 * (ROUNDS + 1),
    }


def alternated(ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each, one after the other round by round."""
    rounds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(ROUNDS + 3):
        for way, run in ways.items():
            begin = time.perf_counter()
            run()
            if number >= 3:
                rounds[way].append(time.perf_counter() - begin)
    return {way: statistics.median(taken) for way, taken in rounds.items()}


def page_part() -> dict[str, Any]:
    """The steering page in headless Chromium, with the trained character and controllers."""
    missing = cannot()
    if missing:
        raise SakiyomiError(f"the page {missing}")
    character = character_of(RUNS / "walk", device="cpu")
    folders = {"joystick": RUNS / "joystick-walker", "target": RUNS / "target-walker"}
    there = {task: load_controller(f, character) for task, f in folders.items() if (f / "weights.safetensors").exists()}
    with served(Stage("walk", character, there), Serving(port=0)) as address:
        record = measure_page(address, 10.0)
    return asdict(record)


def generated_part() -> dict[str, Any]:
    """`sakiyomi demo-motion generated`, and the pictures of the docs: of a walk made by code, which is nobody's."""
    folder = RUNS / "demo-motion"
    spent(folder, lambda: demo_motion(DemoMotion(out=str(folder), store="data/bench-demo-motion")))
    walked, steered = (load_scores(path / "scores.json") for path in (folder, folder / "controller"))
    character = character_of(folder, "test", "cpu")
    walk = random_walk(character, character.start(2, torch.Generator().manual_seed(0)), 180, 0)
    shown = motion.positions(character.layout, walk.poses, walk.places)
    write_atomic(DOCS / "walk.gif", motion.skeleton_gif(shown, character.skeleton, character.rate))
    controller = load_controller(folder / "controller", character)
    done = rollout_controller(controller, 1, 12.0)
    write_atomic(DOCS / "steered.gif", steered_gif(controller, done))
    with served(Stage("demo-motion", character, {"target": controller}), Serving(port=0)) as address:
        measure_page(address, 3.0, screenshot=DOCS / "steering.png")
    return {"walk": plain(walked), "controller": plain(steered), **cost(folder)}


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "round-trip": round_trip_part,
    "walk": walk_part,
    "target": control_part("target-walker"),
    "joystick": control_part("joystick-walker"),
    "path": control_part("path-walker"),
    "maze": control_part("maze-walker"),
    "speed": speed_part,
    "steering": page_part,
    "generated": generated_part,
}


def write_pages() -> None:
    write_page(RESULTS, DOCS / "motion-benchmarks.md")
    write_readme_rows(RESULTS, Path("README.md"))


if __name__ == "__main__":
    measure(PARTS, RESULTS, sys.argv[1:], write_pages)
