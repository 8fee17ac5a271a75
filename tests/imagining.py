"""Small models that imagine: an SVG whose outputs depend on its inputs, and one that can be computed by hand."""

from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sakiyomi.data.augment import Augment
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.normalize import Normalizer
from sakiyomi.data.windows import Data, Windows
from sakiyomi.job import Job, Train
from sakiyomi.models import SVG, State, Streams
from sakiyomi.rollout import Trained
from sakiyomi.schedules import LearningRate, Weight

Model = TypeVar("Model", bound=nn.Module)

TINY = {"network": "dcgan", "channels": 4, "encoding": 8, "latent": 3, "hidden": 8, "height": 32, "width": 32}


def tiny(**changes: Any) -> SVG.Config:
    """For the pictures of the store `push_store`, unless other sides are asked for."""
    return SVG.Config(**{**TINY, **changes})


def awake(model: Model) -> Model:
    """As after a training, in evaluation mode: the statistics of BatchNorm are those of what goes through it, and what
    is read weighs more than in a fresh network. Nothing that goes in is without effect."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.weight *= 3
        if norms:
            for norm in norms:
                norm.momentum = None  # a plain mean over passes, of which there is one
            model.train()
            model.unroll(model.example(4, 8))  # pyright: ignore[reportCallIssue]
            for norm in norms:
                norm.momentum = 0.1
    return model.eval()


def push_job(store: EpisodeStore, **changes: Any) -> Job:
    """Some steps of a tiny SVG on recorded pushes: two frames given, four imagined."""
    train = {
        "steps": 6,
        "batch_size": 3,
        "learning_rate": LearningRate(2e-3),
        "losses": {"image": Weight(1.0), "kl": Weight(1e-4)},
        "validate_every": 2,
        "log_every": 1,
        **changes.pop("train", {}),
    }
    data = Data(str(store.folder), steps=5, clock="image")
    return Job(tiny(**changes), data, Augment(joints=0, image=0), Train(**train))


def trained_on(store: EpisodeStore, model: Any, job: Job) -> Trained:
    """A model that need not have been trained."""
    streams = {name: (name,) for name in model.inputs}
    return Trained(job, model, Normalizer.fit(store, streams), None)


def validation_windows(trained: Trained, store: EpisodeStore | None = None) -> Windows:
    store = store or EpisodeStore(Path(trained.job.data.store))
    return Windows(store, "validation", trained.job.data, trained.model.inputs, trained.normalizer)


class Adder:
    """Expects the picture it saw last (or expected), plus `keep` x the action's sum, plus `shake` x the noise: what it
    imagines is a sum. It remembers every action and position it was told."""

    inputs: tuple[str, ...] = ("image", "action", "position")
    outputs: tuple[str, ...] = ("image",)
    past: int = 2
    noise: tuple[int, ...] = (1,)

    def __init__(self, keep: float = 0.0, shake: float = 0.0) -> None:
        self.keep, self.shake = keep, shake
        self.told: list[Streams] = []

    def initial(self, batch_size: int) -> State:
        return {"image": torch.zeros(batch_size, 1)}

    def unroll(
        self, observations: Streams, state: State | None = None, noise: Tensor | None = None
    ) -> tuple[Streams, State]:
        images = observations["image"]
        assert images.shape[1] == observations["action"].shape[1] == self.past, "it is shown more than the past"
        for t in range(images.shape[1]):
            self.told.append({name: observations[name][:, t] for name in ("action", "position")})
        noise = torch.zeros(*images.shape[:2], 1) if noise is None else noise
        expected = self._next(images, observations["action"], noise)
        return {"image": expected}, {"image": expected[:, -1]}

    def imagine(self, given: Streams, state: State, noise: Tensor | None = None) -> tuple[Streams, State]:
        assert set(given) == {"action", "position"}
        self.told.append(given)
        noise = torch.zeros(len(given["action"]), 1) if noise is None else noise
        expected = self._next(state["image"], given["action"], noise)
        return {"image": expected}, {"image": expected}

    def _next(self, images: Tensor, actions: Tensor, noise: Tensor) -> Tensor:
        added = self.keep * actions.sum(-1) + self.shake * noise[..., 0]
        return images + added[..., None, None, None]
