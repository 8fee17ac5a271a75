"""Verb 3 for a model of motion, `sakiyomi evaluate walk`: does it walk on from poses it never saw, and on its feet?

    sakiyomi evaluate walk --starts 200 --frames 300
    sakiyomi compare walk walk-forced

Characters begin in poses of the test split and are led by z drawn from the prior. Leaves `scores.json` and
`report.html` in the run folder.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.windows import Windows
from sakiyomi.errors import LARGEST_SEED, at_least, at_most
from sakiyomi.models import MVAE
from sakiyomi.rollout import Trained
from sakiyomi.run import read_metrics
from sakiyomi.scores.motion import ACTIVE, active_units, reference_of, score_rollouts
from sakiyomi.scores.protocol import Protocol, Score, save_scores
from sakiyomi.views import motion
from sakiyomi.views.plots import training_curves
from sakiyomi.views.report import Figure, Section, Table, write_report
from sakiyomi.walk import MOST, Walked, character_of, random_walk
from sakiyomi.watchdog import warnings

DRAWN, SECONDS = 4, 10.0  # characters in the moving picture, and how long it is
PATHS = 100
BATCH = 512  # windows


@dataclass(frozen=True)
class HowWalked:
    """Options of `evaluate` for a model of motion."""

    starts: int = 200
    """Poses of the test split to begin from, spread evenly over it."""
    frames: int = 300
    """Frames each of them goes on by itself."""
    seed: int = 10_000
    """Seed of what they do."""
    device: str = "auto"
    """auto, cpu or cuda."""


@dataclass(frozen=True)
class WalkScores:
    """What an evaluation found."""

    scores: dict[str, Score]
    walked: Walked
    usage: np.ndarray
    """What each number of z says of held-out poses, nats [Z]; of vq how often each code is taken, of its fair share."""


def evaluate_walk(
    trained: Trained, options: HowWalked, progress: Callable[[int, int, str], None] = lambda done, total, name: None
) -> WalkScores:
    """Score the model on the test split (the validation split of a store that has none)."""
    at_least("--starts", options.starts, 1)
    at_least("--frames", options.frames, 2)
    at_least("--seed", options.seed, 0)
    at_most("--seed", options.seed, LARGEST_SEED)
    at_most("--starts times --frames", options.starts * options.frames, MOST)
    store = EpisodeStore(trained.job.data.store)
    split = "test" if any(entry.split == "test" for entry in store.entries) else "validation"
    character = character_of(trained, split)
    poses = len(character.starts)
    picks = np.linspace(0, poses - 1, min(options.starts, poses)).astype(int)
    start = character.at(torch.from_numpy(picks))
    walked = random_walk(character, start, options.frames, options.seed)
    progress(1, 2, "walking")
    protocol = Protocol(
        data=f"{store.place}, {split}, {character.rate:g} Hz",
        counted=f"{options.frames} frames on its own from a given pose, z from the prior",
        rule="",
        n=len(picks),
        seeds=f"{options.seed}",
    )
    scores = score_rollouts(walked.poses.transpose(0, 1), reference_of(store), protocol)
    usage = latent_usage(trained, store, split)
    scores["active"] = active_score(usage, trained, replace(protocol, counted="every frame, true poses", seeds="none"))
    progress(2, 2, "walking")
    return WalkScores(scores, walked, usage.numpy())


@torch.inference_mode()
def latent_usage(trained: Trained, store: EpisodeStore, split: str) -> torch.Tensor:
    """What each number of z says, mean over a split, nats [Z]."""
    model = trained.model
    assert isinstance(model, MVAE)  # `character_of` has refused others
    data = replace(trained.job.data, skip_short=True)
    windows = Windows(store, split, data, model.inputs, trained.normalizer)
    device = next(model.parameters()).device
    parts = []
    for first in range(0, len(windows), BATCH):
        batch = windows.batch(list(range(first, min(first + BATCH, len(windows))))).to(device)
        parts.append(model.usage(batch)[batch.mask > 0].cpu())
    return torch.cat(parts).mean(0)


def active_score(usage: torch.Tensor, trained: Trained, protocol: Protocol) -> Score:
    """The share of the latent that is in use."""
    counted = f"dimensions of z whose KL from the prior is more than {ACTIVE:g} nats, mean over frames"
    if has_codes(trained):
        counted = "codes taken more often than a hundredth of their share"
    share = active_units(usage) / len(usage)
    return Score("active", share, None, None, "1", replace(protocol, rule=f"share of {len(usage)}: {counted}"))


def has_codes(trained: Trained) -> bool:
    """Its latent is a codebook."""
    return isinstance(trained.model, MVAE) and trained.model.codebook is not None


def save_walk(evaluated: WalkScores, trained: Trained, folder: Path) -> Path:
    """Write `scores.json` and `report.html`; returns the report."""
    save_scores(evaluated.scores, folder / "scores.json")
    scores, path = evaluated.scores, folder / "report.html"
    stayed = 1 - scores["exploded"].value
    slid = ""
    if "sliding_ratio" in scores:
        slid = f" Their feet slide {scores['sliding_ratio'].value:.2f} times as much as the recorded ones."
    lead = (
        f"From {scores['exploded'].protocol.n} poses it was never shown the model goes on by itself, "
        f"{len(evaluated.walked.poses)} frames each, led by chance. {stayed:.0%} of the characters stayed within the "
        f"motion it knows.{slid}"
    )
    sections = [walk_section(evaluated, trained), latent_section(evaluated, trained), training_section(folder)]
    wrong = warnings(read_metrics(folder), trained.job.train.watch)
    if wrong:
        sections.insert(0, Section("What to look at", "", table=Table(("what", "in words"), tuple(wrong.items()))))
    headline = tuple(name for name in ("exploded", "sliding_ratio", "sliding", "distance", "active") if name in scores)
    write_report(path, "Sakiyomi: a character out of motion capture", lead, scores, tuple(sections), headline)
    return path


def walk_section(evaluated: WalkScores, trained: Trained) -> Section:
    """The characters, and where they went."""
    character, walked = character_of(trained), evaluated.walked
    picks = np.linspace(0, walked.poses.shape[1] - 1, DRAWN).astype(int).tolist()
    frames = int(SECONDS * character.rate)
    if not bool(walked.poses.isfinite().all()):
        return Section("It walks", "Some characters came to numbers that are not finite, and cannot be drawn.")
    shown = motion.positions(character.layout, walked.poses[:frames, picks], walked.places[:frames, picks])
    moving = motion.skeleton_gif(shown, character.skeleton, character.rate)
    figures = (
        Figure("Led by chance", f"{len(picks)} of the characters.", moving),
        Figure("Where they went", f"The first {PATHS}.", motion.path_plot(walked.places[:, :PATHS].numpy())),
    )
    return Section("It walks", "", figures)


def latent_section(evaluated: WalkScores, trained: Trained) -> Section:
    words = "How much each number of z says about the next pose, on held-out recordings, sorted."
    if has_codes(trained):
        words = "How often each code is taken on held-out recordings, of its fair share, sorted."
    bars = motion.kl_bars(evaluated.usage, codes=has_codes(trained))
    return Section("What the latent says", "", (Figure("In use", words, bars),))


def training_section(folder: Path) -> Section:
    words = "Losses, and what changed by schedule."
    return Section("What it learned", "", (Figure("Training", words, training_curves(read_metrics(folder))),))
