"""Verb 3 for a model that imagines, `sakiyomi evaluate push-small`: PSNR and SSIM of its pictures, under a protocol.

    sakiyomi evaluate push-small --sequences 256 --samples 20
    sakiyomi compare push-small push-blind

Only imagined frames count. Beside the mean and the best of the samples stand two controls: the last given frame
copied, and the same model told another sequence's actions. Leaves `scores.json` and `report.html` in the run folder.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.windows import Batch, Windows
from sakiyomi.errors import LARGEST_SEED, SakiyomiError, at_least, at_most
from sakiyomi.imagine import Imagined, as_imaginative, imagine, model_rate, truth_of
from sakiyomi.models import Streams
from sakiyomi.models.base import Imaginative, device_of
from sakiyomi.rollout import Trained
from sakiyomi.run import read_metrics
from sakiyomi.scores.perceptual import fvd, lpips
from sakiyomi.scores.pictures import psnr, ssim
from sakiyomi.scores.protocol import Protocol, Score, save_scores
from sakiyomi.scores.statistics import bootstrap
from sakiyomi.views import plots, video
from sakiyomi.views.report import Figure, Section, Table, write_report
from sakiyomi.watchdog import warnings

BATCH = 16
EXAMPLES = 3  # sequences drawn in the report
MEASURES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], str, str]] = {
    "psnr": (psnr, "dB", "peak signal to noise ratio of pictures in 0..1, capped at 100 dB"),
    "ssim": (ssim, "1", "structural similarity of pictures in 0..1, 7x7 uniform window, mean over channels"),
}


@dataclass(frozen=True)
class ImaginedScores:
    """What an evaluation found."""

    scores: dict[str, Score]
    curves: dict[str, dict[str, np.ndarray]]
    """Way of predicting -> measure -> mean over sequences of each imagined frame, [T]."""
    examples: tuple[Imagined, ...]
    notes: tuple[str, ...]
    """What could not be measured, and why."""


@dataclass(frozen=True)
class HowImagined:
    """Options of `evaluate` for a model that imagines."""

    sequences: int = 256
    """Sequences of the test split, the beginning of one recording each."""
    samples: int = 20
    """Futures of each."""
    steps: int = 0
    """Frames to imagine; 0 takes as many as in training."""
    seed: int = 10_000
    """The futures follow from it."""
    device: str = "auto"
    """auto, cpu or cuda."""


def evaluate_imagined(
    trained: Trained, options: HowImagined, progress: Callable[[int, int, str], None] = lambda done, total, name: None
) -> ImaginedScores:
    """Score the model on the test split (the validation split of a store that has none)."""
    for name in ("sequences", "samples"):
        at_least(f"--{name}", getattr(options, name), 1)
    at_least("--steps", options.steps, 0)
    at_least("--seed", options.seed, 0)
    at_most("--seed", options.seed, LARGEST_SEED - options.sequences)
    model, store = as_imaginative(trained), EpisodeStore(trained.job.data.store)
    split = "test" if any(entry.split == "test" for entry in store.entries) else "validation"

    def cut(steps: int) -> Windows:
        data = replace(trained.job.data, steps=steps)
        return Windows(store, split, data, trained.model.inputs, trained.normalizer)

    # Of a training on whole recordings, as many as the shortest one has.
    shown = 0 if options.steps else min(window.steps for window in cut(trained.job.data.steps).windows)
    steps = options.steps or max(1, shown - model.past + 1)
    try:
        windows = cut(model.past + steps - 1)
    except SakiyomiError as error:
        raise SakiyomiError(f"{model.past} given and {steps} imagined frames (--steps): {error}") from error
    episodes = [window.episode for window in windows.windows]
    picks = [i for i, episode in enumerate(episodes) if episode not in episodes[:i]][: options.sequences]

    found: dict[str, list[Tensor]] = {}
    examples: list[Imagined] = []
    pictures_of: dict[str, list[np.ndarray]] = {"true": [], "imagined": []}  # uint8, of one sample a sequence
    for first in range(0, len(picks), BATCH):
        batch = windows.batch(picks[first : first + BATCH]).to(device_of(model))
        told = {"samples": batch.inputs}
        if len(model.inputs) > len(model.outputs) and len(picks) > 1:
            others = windows.batch([picks[(first + k + 1) % len(picks)] for k in range(len(batch.mask))])
            told["shuffled"] = _told_of(model, batch, others)
        kept = _imagine_and_measure(model, batch, told, steps, options, options.seed + first, found)
        truth = truth_of(batch, model.past, "image")
        for name, pictures in (("true", truth), ("imagined", kept[0])):
            pictures_of[name].append(trained.normalizer.decode("image", pictures).cpu().numpy())
        examples += _examples(trained, batch.inputs["image"], truth, kept, EXAMPLES - len(examples))
        progress(min(first + BATCH, len(picks)), len(picks), "imagining")

    every = {name: torch.cat(parts, 1).numpy() for name, parts in found.items()}  # [S or 1, N, T]
    protocol = Protocol(
        data=f"{store.place}, {split}, {windows.rate:g} Hz, first window of each recording",
        counted=f"{steps} imagined frames after {model.past} given",
        rule="",
        n=len(picks),
        seeds=f"{options.seed}",
        resize="none",
        interval="bootstrap 95 % over sequences",
    )
    scores, curves = _scores(every, protocol, options.samples)
    true, imagined = (np.concatenate(pictures_of[name]) for name in ("true", "imagined"))
    perceptual, notes = _perceptual(true, imagined, protocol)
    return ImaginedScores(scores | perceptual, curves, tuple(examples), notes)


def _told_of(model: Imaginative, batch: Batch, others: Batch) -> Streams:
    """The batch's streams with the other one's conditions from the last given frame on."""
    now = model.past - 1
    own, other = batch.inputs, others.to(batch.mask.device).inputs
    return {n: v if n in model.outputs else torch.cat((v[:, :now], other[n][:, now:]), 1) for n, v in own.items()}


def _imagine_and_measure(
    model: Imaginative,
    batch: Batch,
    told: dict[str, Streams],
    steps: int,
    options: HowImagined,
    seed: int,
    found: dict[str, list[Tensor]],
) -> list[Tensor]:
    """Add each measure of each way of predicting, [S or 1, N, T], to `found`; every way draws the same noise. One
    sample is in memory at a time; what is returned is the first one [N, T, 3, H, W], then of each of the others as
    many sequences as may be drawn."""
    truth = truth_of(batch, model.past, "image")

    def measured(pictures: Tensor) -> dict[str, Tensor]:
        return {name: measure(pictures, truth).cpu() for name, (measure, _, _) in MEASURES.items()}

    kept: list[Tensor] = []
    for way, streams in told.items():
        generator, values = torch.Generator().manual_seed(seed), []
        for _ in range(options.samples):
            pictures = imagine(model, streams, steps, 1, generator)["image"][0]
            values.append(measured(pictures))
            if way == "samples":
                kept.append(pictures if not kept else pictures[:EXAMPLES].clone())
        for name in MEASURES:
            found.setdefault(f"{name}/{way}", []).append(torch.stack([value[name] for value in values]))
    last = batch.inputs["image"][:, model.past - 1 : model.past]
    for name, value in measured(last.expand_as(truth)).items():
        found.setdefault(f"{name}/copy", []).append(value[None])
    return kept


def _scores(
    every: dict[str, np.ndarray], protocol: Protocol, samples: int
) -> tuple[dict[str, Score], dict[str, dict[str, np.ndarray]]]:
    """Scores and curves from single values [S or 1, N, T]."""
    scores: dict[str, Score] = {}
    curves: dict[str, dict[str, np.ndarray]] = {}

    def add(key: str, values: np.ndarray, unit: str, rule: str, best_of: int = 1) -> None:
        interval = bootstrap(values, np.mean)
        how = replace(protocol, rule=rule, best_of=best_of)
        scores[key] = Score(key, interval.value, interval.low, interval.high, unit, how)

    for name, (_, unit, rule) in MEASURES.items():
        of_samples = every[f"{name}/samples"]
        best = of_samples.mean(2).argmax(0)  # of each sequence, by this measure's mean over frames
        ways = {
            f"mean of {samples}": ("mean", of_samples.mean(0), f"mean of {samples} samples"),
            f"best of {samples}": ("best", of_samples[best, np.arange(len(best))], "the best sample of each sequence"),
            "the last frame copied": ("copy", every[f"{name}/copy"][0], "the last given frame copied"),
        }
        if f"{name}/shuffled" in every:
            text = f"mean of {samples} samples, told what the next sequence is told from the last given frame on"
            ways["told other actions"] = ("shuffled", every[f"{name}/shuffled"].mean(0), text)
        for label, (key, values, how) in ways.items():  # values: [N, T]
            best_of = samples if key == "best" else 1
            add(f"{name}/{key}", values.mean(1), unit, f"{rule}; mean over frames; {how}", best_of)
            curves.setdefault(label, {})[name] = values.mean(0)
        mean = of_samples.mean(0).mean(1)
        for key, text in (("copy", "the last frame copied"), ("shuffled", "told other actions")):
            if f"{name}/{key}" in every:
                gain = mean - every[f"{name}/{key}"].mean(0).mean(1)
                add(f"{name}_gain/{key}", gain, unit, f"{rule}; mean of {samples} samples less {text}, by sequence")
    return scores, curves


def _perceptual(true: np.ndarray, imagined: np.ndarray, protocol: Protocol) -> tuple[dict[str, Score], tuple[str, ...]]:
    """LPIPS and FVD of videos uint8 [N, T, H, W, 3] where the libraries and their weights are here, and in words what
    is missing where not."""
    scores, notes = {}, []
    try:
        pairs = ((torch.from_numpy(v).movedim(-1, -3) / 255 for v in pair) for pair in zip(imagined, true, strict=True))
        parts = [lpips(*pair) for pair in pairs]
        interval = bootstrap(torch.stack(parts).double().mean(1).numpy())
        how = replace(protocol, rule="LPIPS (AlexNet, 0.1) of one sample a sequence, mean over frames")
        scores["lpips"] = Score("lpips", interval.value, interval.low, interval.high, "1", how)
    except SakiyomiError as missing:  # also for pictures that are too small
        notes.append(f"LPIPS was not measured: {missing}")
    try:
        how = replace(protocol, rule="FVD (I3D) of one sample a sequence, imagined frames only", interval="none")
        scores["fvd"] = Score("fvd", fvd(true, imagined), None, None, "1", how)
    except SakiyomiError as missing:  # also for too few or too short videos
        notes.append(f"FVD was not measured: {missing}")
    return scores, tuple(notes)


def _examples(trained: Trained, shown: Tensor, truth: Tensor, kept: list[Tensor], most: int) -> list[Imagined]:
    """Some sequences of a batch as pictures."""
    past, decode, rate = as_imaginative(trained).past, trained.normalizer.decode, model_rate(trained)
    out = []
    for b in range(min(most, len(truth))):
        frames, futures = torch.cat((shown[b, :past], truth[b])), torch.stack([pictures[b] for pictures in kept])
        happened, imagined = (decode("image", value).cpu().numpy() for value in (frames, futures))
        out.append(Imagined(happened, imagined, past, rate))
    return out


def save_imagined(evaluated: ImaginedScores, trained: Trained, folder: Path) -> Path:
    """Write `scores.json` and `report.html`; returns the report."""
    save_scores(evaluated.scores, folder / "scores.json")
    metrics = read_metrics(folder)
    wrong = warnings(metrics, trained.job.train.watch)
    path = folder / "report.html"
    mean, copy = evaluated.scores["psnr/mean"], evaluated.scores["psnr/copy"]
    config = as_imaginative(trained)
    told = " and told the next actions" if len(config.inputs) > len(config.outputs) else ""
    lead = (
        f"Shown {config.past} frames{told}, the model imagines {mean.protocol.counted.split()[0]} more. On "
        f"{mean.protocol.n} sequences it never saw its pictures reach {mean.value:.1f} dB; the last given frame, "
        f"simply copied, {copy.value:.1f} dB."
    )
    sections = [_futures(evaluated), _by_frame(evaluated), _training(metrics)]
    if wrong or evaluated.notes:
        rows = (*wrong.items(), *(("not measured", note) for note in evaluated.notes))
        sections.insert(0, Section("What to look at", "", table=Table(("what", "in words"), rows)))
    headline = ("psnr/mean", "psnr/best", "psnr/copy", "psnr/shuffled", "ssim/mean", "ssim/copy")
    present = tuple(name for name in headline if name in evaluated.scores)
    write_report(path, "Sakiyomi: what may come", lead, evaluated.scores, tuple(sections), present)
    return path


def _futures(evaluated: ImaginedScores) -> Section:
    figures = []
    for number, example in enumerate(evaluated.examples, 1):
        words = "Green frames were given, red ones imagined; best and worst by PSNR against the truth."
        figures.append(Figure(f"Sequence {number}", words, video.imagination_gif(example)))
    if evaluated.examples:
        first = evaluated.examples[0]
        figures.append(Figure("Frame by frame", "The first sequence again.", video.imagination_strip(first)))
        spread = "Standard deviation of each pixel over the futures of the first sequence."
        figures.append(Figure("Where its futures differ", spread, video.spread_picture(first)))
    return Section("What it imagines", "", tuple(figures))


def _by_frame(evaluated: ImaginedScores) -> Section:
    words = "Mean over all sequences, for each imagined frame."
    figure = Figure("How far it sees", words, plots.picture_scores(evaluated.curves))
    return Section("How good it is", "", (figure,))


def _training(metrics: list[dict[str, float]]) -> Section:
    words = "What changed by schedule, beside what came of it."
    return Section("What it learned", "", (Figure("Training", words, plots.schedule_page(metrics)),))
