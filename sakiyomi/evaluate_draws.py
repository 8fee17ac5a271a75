"""Verb 3 for a model that draws, `sakiyomi evaluate digits`: how well it gives pictures back that it never saw, how
likely they are to it, and what its z is like.

    sakiyomi evaluate mnist-vae --pictures 5000
    sakiyomi compare digits-ae digits-vae

Leaves `scores.json` and `report.html` in the run folder.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sakiyomi.data.windows import Batch
from sakiyomi.draw import (
    BATCH,
    MAPPED,
    Pile,
    as_bytes,
    decoded,
    drawing,
    generate,
    held_out,
    latent_grid,
    map_title,
    morph,
    names_of,
    on_plane,
    one,
    pile,
    spread_of,
)
from sakiyomi.errors import LARGEST_SEED, at_least, at_most
from sakiyomi.models.base import Latent, Streams
from sakiyomi.rollout import Trained
from sakiyomi.run import read_metrics
from sakiyomi.scores.likelihood import SAMPLES, Likely, fixed_coin_flips, negative_log_likelihood
from sakiyomi.scores.motion import ACTIVE, active_units
from sakiyomi.scores.protocol import Protocol, Score, save_scores
from sakiyomi.scores.statistics import bootstrap
from sakiyomi.views import latent
from sakiyomi.views.motion import kl_bars
from sakiyomi.views.plots import training_curves
from sakiyomi.views.report import Figure, Section, Table, write_report
from sakiyomi.watchdog import warnings

SHOWN, STEPS, GRID = 12, 12, 16  # pictures in a row of the report, pictures of a morph, side of the map


@dataclass(frozen=True)
class HowDrawn:
    """Options of `evaluate` for a model that draws."""

    pictures: int = 1000
    """Test pictures, at most."""
    samples: int = SAMPLES
    """Draws of z for the likelihood of each."""
    seed: int = 0
    """Seed of those, and of the coins that make pictures black and white."""
    device: str = "auto"
    """auto, cpu or cuda."""


@dataclass(frozen=True)
class DrawScores:
    """What an evaluation found."""

    scores: dict[str, Score]
    pile: Pile
    usage: np.ndarray | None
    """What each number of z says of test pictures, nats [Z]; None of a plain autoencoder."""


def evaluate_draws(
    trained: Trained, options: HowDrawn, progress: Callable[[int, int, str], None] = lambda done, total, name: None
) -> DrawScores:
    """Score the model on the test split (the validation split of a store that has none)."""
    at_least("--pictures", options.pictures, 10)
    at_least("--samples", options.samples, 1)
    at_most("--samples", options.samples, 100_000)
    at_least("--seed", options.seed, 0)
    at_most("--seed", options.seed, LARGEST_SEED)
    drawing(trained)
    split = held_out(trained)
    found = pile(trained, split, options.pictures)
    protocol = Protocol(
        data=f"{trained.job.data.store}, {split}",
        counted="pictures given back by the mean of z",
        rule="squared error of a pixel in 0..1, mean over pixels and pictures",
        n=len(found.codes),
        seeds="none",
        interval="bootstrap 95 %",
    )
    back = decoded(trained, found.codes, found.streams.get("label"))
    apart = bootstrap((back - found.streams["image"]).square().flatten(1).mean(1).numpy())
    scores = {"reconstruction": Score("reconstruction", apart.value, apart.low, apart.high, "1", protocol)}
    progress(1, 3, "reading")
    plain = replace(protocol, counted="the mean of z of each picture", interval="none")
    spread, rule = spread_of(found.codes), f"over {found.codes.shape[1]} numbers of z"
    for name, value, words in (
        ("spread", spread.deviation, f"standard deviation over pictures, mean {rule}"),
        ("reach", max(spread.high, -spread.low), f"the number furthest from 0 {rule}"),
    ):
        scores[name] = Score(name, value, None, None, "1", replace(plain, rule=words))
    usage = usage_of(trained, found)
    if usage is not None:
        words = f"share of {len(usage)}: numbers of z whose KL from the prior is more than {ACTIVE:g} nats in the mean"
        share = active_units(usage) / len(usage)
        scores["active"] = Score("active", share, None, None, "1", replace(plain, rule=words))
    progress(2, 3, "reading")
    scores |= likelihood_scores(trained, found, options, protocol)
    progress(3, 3, "reading")
    return DrawScores(scores, found, None if usage is None else usage.numpy())


def likelihood_scores(trained: Trained, found: Pile, options: HowDrawn, protocol: Protocol) -> dict[str, Score]:
    """-log p(x), of pictures that are black and white where the model's pixels are coins; none of a plain
    autoencoder."""
    if not isinstance(trained.model, Likely):
        return {}
    coins = getattr(trained.job.model, "likelihood", "bernoulli") == "bernoulli"
    images = found.streams["image"]
    seen = {**found.streams, "image": fixed_coin_flips(images, options.seed) if coins else images}
    device = next(trained.model.parameters()).device
    seen = {name: value.to(device) for name, value in seen.items() if name in trained.model.inputs}
    what = "coin flips of the pixels' brightness, drawn once" if coins else "pictures in 0..1, a density"
    told = " given its label" if "label" in seen else ""
    scores = {}
    for name, samples in (("nll", options.samples), ("bound", 1)):
        nats = bootstrap(negative_log_likelihood(trained.model, seen, samples, options.seed).numpy())
        words = f"-log p of a picture{told}, importance sampling, {samples} draws of z"
        measured = replace(protocol, counted=what, rule=words, seeds=f"{options.seed}")
        scores[name] = Score(name, nats.value, nats.low, nats.high, "nats", measured)
    return scores


@torch.inference_mode()
def usage_of(trained: Trained, found: Pile) -> Tensor | None:
    """What each number of z says, mean over pictures, nats [Z]; None for a model that does not tell."""
    model = trained.model
    if not isinstance(model, Latent):
        return None
    device, parts = next(model.parameters()).device, []
    for first in range(0, len(found.codes), BATCH):
        seen: Streams = {n: found.streams[n][None, first : first + BATCH].to(device) for n in model.inputs}
        parts.append(model.usage(Batch(seen, seen, torch.ones(seen["image"].shape[:2], device=device)))[0].cpu())
    return torch.cat(parts).mean(0)


def save_draws(evaluated: DrawScores, trained: Trained, folder: Path) -> Path:
    """Write `scores.json` and `report.html`; returns the report."""
    save_scores(evaluated.scores, folder / "scores.json")
    scores, path = evaluated.scores, folder / "report.html"
    lead = (
        f"{scores['reconstruction'].protocol.n} pictures that the model was never shown, squeezed through "
        f"{evaluated.pile.codes.shape[1]} numbers and given back with an error of "
        f"{np.sqrt(scores['reconstruction'].value):.3f} a pixel, where black is 0 and white is 1 (root mean square)."
    )
    if "nll" in scores:
        lead += f" To say which picture it is takes {scores['nll'].value:.1f} nats, by what the model finds likely."
    sections = [pictures_section(evaluated, trained), map_section(evaluated, trained), training_section(folder)]
    if evaluated.usage is not None:
        words = "How much each number of z says about a picture it never saw, sorted."
        bars = Figure("In use", words, kl_bars(evaluated.usage))
        sections.insert(2, Section("What the latent says", "", (bars,)))
    wrong = warnings(read_metrics(folder), trained.job.train.watch)
    if wrong:
        sections.insert(0, Section("What to look at", "", table=Table(("what", "in words"), tuple(wrong.items()))))
    write_report(path, "Sakiyomi: pictures out of a few numbers", lead, scores, tuple(sections), tuple(scores))
    return path


def pictures_section(evaluated: DrawScores, trained: Trained) -> Section:
    """Pictures given back, drawn, and turned into others."""
    found, names = evaluated.pile, names_of(trained)
    some = {name: value[:SHOWN] for name, value in found.streams.items()}
    back = as_bytes(decoded(trained, found.codes[:SHOWN], some.get("label")))
    both = latent.picture_sheet(np.stack((as_bytes(some["image"]), back)), ("shown", "given back"))
    drawn = [generate(trained, k if names else None, SHOWN, 0) for k in range(max(1, len(names)))]
    last = len(found.codes) - 1
    ways = [as_bytes(morph(trained, one(found, i), one(found, last - i), STEPS)) for i in range(5)]
    figures = (
        Figure("Given back", "Test pictures, and what is left of them.", both),
        Figure("Drawn", "Out of z by chance" + (", a row a label." if names else "."), rows_of(drawn, names)),
        Figure("On the way", "One test picture turns into another along a line in z.", rows_of(ways, ())),
    )
    return Section("It draws", "", figures)


def rows_of(pictures: list[np.ndarray], names: tuple[str, ...]) -> bytes:
    return latent.picture_sheet(np.stack(pictures), names)


def map_section(evaluated: DrawScores, trained: Trained) -> Section:
    """Where pictures lie, and what is drawn there."""
    found = evaluated.pile
    codes, labels = found.codes[:MAPPED], found.labels[:MAPPED]
    points = {map_title(codes): on_plane(codes).numpy()}
    grid = latent_grid(trained, codes, GRID, 0 if names_of(trained) else None)
    words = "A dot a test picture, coloured by its label."
    told = f", label {names_of(trained)[0]}" if names_of(trained) else ""
    figures = (
        Figure("The map", words, latent.map_by_class(points, labels.numpy(), found.names)),
        Figure("Drawn from the map", f"The same plane{told}.", latent.picture_sheet(as_bytes(grid), tight=True)),
        Figure("Spread", "Where the numbers of z lie.", latent.spread_plot({"test pictures": found.codes.numpy()})),
    )
    return Section("The latent map", "", figures)


def training_section(folder: Path) -> Section:
    words = "Losses, and what changed by schedule."
    return Section("What it learned", "", (Figure("Training", words, training_curves(read_metrics(folder))),))
