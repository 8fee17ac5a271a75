"""Verb 4 for a model that imagines, `sakiyomi rollout push`: it is shown some frames and goes on by itself.

    sakiyomi rollout push --steps 28 --samples 20
    sakiyomi rollout push --what-if left right still

Leaves in the run folder `imagined.gif` (truth beside the best, mean, worst and some random futures), `imagined.png`
(a strip of frames), `spread.png` (where the futures differ) and, asked what if, `what_if.gif` and `what_if.png`.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.windows import Batch, Batches, Windows
from sakiyomi.distributed import ALONE, Team
from sakiyomi.errors import LARGEST_SEED, SakiyomiError, at_least, at_most
from sakiyomi.files import write_atomic
from sakiyomi.models import Streams
from sakiyomi.models.base import Imaginative, device_of
from sakiyomi.scores.pictures import psnr

if TYPE_CHECKING:
    from sakiyomi.rollout import Trained


MOST_SAMPLES = 1000  # of a rollout, which keeps all of them in memory to draw them


@dataclass(frozen=True)
class Imagined:
    """Several futures of one past. T frames in all, the first `past` of them given."""

    truth: np.ndarray
    """The given frames and, where it is known, what then happened: uint8 [T, H, W, 3], or [past, H, W, 3]."""
    samples: np.ndarray
    """Imagined futures, uint8 [S, T - past, H, W, 3]."""
    past: int
    rate: float
    """Frames a second."""


@torch.no_grad()
def imagine(
    model: Imaginative, seen: Streams, steps: int, samples: int = 1, generator: torch.Generator | None = None
) -> Streams:
    """`steps` predictions of each stream the model predicts, [S, B, steps, ...].

    `seen` is normalised, [B, T, ...]: of what it predicts only the first `past` are read, of the conditions
    `past` + `steps` - 1, each at the step at which it is given. Noise comes from `generator`, a CPU's, so that every
    device imagines the same; without one the means take its place. The model should be in evaluation mode; what comes
    back is on its device.
    """
    device = device_of(model)
    seen = {name: value.to(device) for name, value in seen.items()}
    past, conditions = model.past, [name for name in model.inputs if name not in model.outputs]
    for name in model.inputs:
        needed = past if name in model.outputs else past + steps - 1
        if seen[name].shape[1] < needed:
            raise SakiyomiError(
                f"imagining {steps} steps after {past} takes {needed} values of stream {name!r}, got "
                f"{seen[name].shape[1]}; imagine fewer (--steps), or take a longer recording"
            )
    first = seen[model.outputs[0]]
    futures: list[Streams] = []
    for _ in range(samples):
        shape = (len(first), past + steps - 1, *model.noise)
        noise = None if generator is None else torch.randn(shape, generator=generator).to(device)
        given = None if noise is None else noise[:, :past]
        prediction, state = model.unroll({name: seen[name][:, :past] for name in model.inputs}, None, given)
        frames = [{name: prediction[name][:, -1] for name in model.outputs}]
        for t in range(past, past + steps - 1):
            here = {name: seen[name][:, t] for name in conditions}
            frame, state = model.imagine(here, state, None if noise is None else noise[:, t])
            frames.append({name: frame[name] for name in model.outputs})
        futures.append({name: torch.stack([f[name] for f in frames], 1) for name in model.outputs})
    return {name: torch.stack([future[name] for future in futures]) for name in model.outputs}


def truth_of(batch: Batch, past: int, name: str) -> Tensor:
    """What `imagine` is compared with, [B, T - past + 1, ...]."""
    return batch.targets[name][:, past - 1 :]


def foresight(
    model: Imaginative,
    windows: Batches,
    batch_size: int,
    device: torch.device,
    most: int = 64,
    team: Team = ALONE,
) -> dict[str, float]:
    """What validation says of a model that imagines, on windows spread evenly over the split, all noise at its mean.

    `imagined`: mean squared error; `psnr`: of pictures, mean over frames, dB; `uses_past` and `uses_conditions`: how
    far predictions move when these are another window's, as a share of how far the truth moves from the last given
    frame (mean squares of both). Batches are shared out among the processes of a team.
    """
    names = ("imagined", "psnr", "uses_past", "uses_conditions")
    picks = np.unique(np.linspace(0, len(windows) - 1, min(most, len(windows))).astype(int)).tolist()
    chosen = [picks[first : first + batch_size] for first in range(0, len(picks), batch_size)]

    def row(number: int) -> Tensor:
        """What is found in one batch, each with the windows it is of: a window alone has no other's past to borrow."""
        found = _foresight(model, windows.batch(chosen[number]).to(device))
        weights = [len(chosen[number]) if name in found else 0 for name in names]
        return torch.tensor([[found.get(name, 0.0) for name in names], weights], dtype=torch.float64).flatten()

    values, weights = team.rows(len(chosen), row).unflatten(1, (2, len(names))).unbind(1)
    mean = (values * weights).sum(0) / weights.sum(0)
    return {name: float(mean[i]) for i, name in enumerate(names) if weights[:, i].any()}


def _foresight(model: Imaginative, batch: Batch) -> dict[str, float]:
    name, past = model.outputs[0], model.past
    steps = batch.mask.shape[1] - past + 1
    truth, counts = truth_of(batch, past, name), batch.mask[:, past - 1 :]

    def error(a: Tensor, b: Tensor) -> float:
        apart = (a - b).square().flatten(2).mean(2)
        return float((apart * counts).sum() / counts.sum().clamp_min(1))

    predicted = imagine(model, batch.inputs, steps)[name][0]
    values = {"imagined": error(predicted, truth)}
    if name == "image" and math.isfinite(values["imagined"]):  # what is not finite is told by who called
        values["psnr"] = float((psnr(predicted, truth) * counts).sum() / counts.sum().clamp_min(1))
    moved = error(truth, batch.inputs[name][:, past - 1 : past].expand_as(truth))
    groups = {"past": model.outputs, "conditions": tuple(n for n in model.inputs if n not in model.outputs)}
    for group, streams in groups.items():
        if streams and len(counts) > 1 and moved > 0:
            others = {n: v.roll(1, 0) if n in streams else v for n, v in batch.inputs.items()}
            values[f"uses_{group}"] = error(imagine(model, others, steps)[name][0], predicted) / moved
    return values


@dataclass(frozen=True)
class Imagining:
    """Options of `rollout` for a model that imagines."""

    steps: int = 10
    """Frames to imagine."""
    samples: int = 20
    """Futures to imagine."""
    episode: str = ""
    """The recording whose beginning it is shown; the first of the test split if not given."""
    start: int = 0
    """Frame of the recording at which the given ones begin."""
    what_if: tuple[str, ...] = ()
    """Actions to try in place of its own: other recordings, or moves of the arm: left, right, away, near, up, still."""
    seed: int = 0
    """Seed of the futures."""
    device: str = "auto"
    """auto, cpu or cuda."""


def rollout_imagined(trained: "Trained", options: Imagining, folder: Path) -> list[Path]:
    """Imagine one recording's future, draw it, and leave the pictures in `folder`; returns them."""
    from sakiyomi.views import video

    for name in ("steps", "samples"):
        at_least(f"--{name}", getattr(options, name), 1)
    for name in ("start", "seed"):
        at_least(f"--{name}", getattr(options, name), 0)
    at_most("--seed", options.seed, LARGEST_SEED)
    at_most("--samples", options.samples, MOST_SAMPLES)
    store = EpisodeStore(trained.job.data.store)
    episode = options.episode or _first(store)
    model = as_imaginative(trained)
    seen, truth = recorded(trained, store, episode, options.start, model.past + options.steps)
    tried: dict[str, Imagined] = {}
    if options.what_if:  # first, so that a wrong name is told before anything is imagined
        from sakiyomi.what_if import what_if

        tried = what_if(trained, store, episode, options)
    imagined = futures(trained, seen, truth, options)
    pictures = {
        "imagined.gif": video.imagination_gif(imagined),
        "imagined.png": video.imagination_strip(imagined),
        "spread.png": video.spread_picture(imagined),
    }
    if tried:
        pictures |= {"what_if.gif": video.what_if_gif(tried), "what_if.png": video.what_if_strip(tried)}
    for name, content in pictures.items():
        write_atomic(folder / name, content)
    return [folder / name for name in pictures]


def futures(trained: "Trained", seen: Streams, truth: np.ndarray, options: Imagining) -> Imagined:
    """`options.samples` futures of one past; `seen` is normalised [1, T, ...], `truth` uint8 [.., H, W, 3]."""
    model = as_imaginative(trained)
    generator = torch.Generator().manual_seed(options.seed)
    found = imagine(model, seen, options.steps, options.samples, generator)["image"][:, 0]
    samples = trained.normalizer.decode("image", found).cpu().numpy()
    return Imagined(truth, samples, model.past, model_rate(trained))


def recorded(
    trained: "Trained", store: EpisodeStore, episode: str, start: int, frames: int
) -> tuple[Streams, np.ndarray]:
    """Frames start .. start + frames - 1 of a recording at the model's rate: the streams, normalised [1, T, ...],
    and the pictures, uint8 [T, H, W, 3]."""
    entry = store.entry(episode)
    whole = replace(trained.job.data, steps=0, episodes=0)
    windows = Windows(store, entry.split, whole, trained.model.inputs, trained.normalizer, (episode,))
    values = {name: windows.series(name)[0] for name in trained.model.inputs}
    there = len(values["image"])
    if start + frames > there:
        left = there - start - as_imaginative(trained).past
        fewer = f"imagine fewer (--steps {left}) or " if left > 0 else ""
        raise SakiyomiError(
            f"episode {episode!r} has {there} frames, {frames} from frame {start} on are asked for (given and "
            f"imagined); {fewer}start earlier (--start)"
        )
    cut = {name: value[start : start + frames] for name, value in values.items()}
    seen = {name: trained.normalizer.encode(name, torch.from_numpy(value))[None] for name, value in cut.items()}
    return seen, cut["image"]


def as_imaginative(trained: "Trained") -> Imaginative:
    if not isinstance(trained.model, Imaginative):
        raise SakiyomiError(f"{type(trained.model).__name__} cannot go on by itself; choose a model that imagines: SVG")
    return trained.model


def model_rate(trained: "Trained") -> float:
    """Steps a second the model works at."""
    data = trained.job.data
    return data.rate or EpisodeStore(data.store).streams[data.clock].rate


def _first(store: EpisodeStore) -> str:
    """The first episode nobody learned from."""
    splits = [entry.split for entry in store.entries]
    return store.split("test" if "test" in splits else "validation")[0].id
