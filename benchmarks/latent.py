"""What is claimed about the autoencoders of pictures, measured: likelihood, labels of what is drawn, spread of z.

    python -m benchmarks.latent                all parts, about an hour on one core
    python -m benchmarks.latent nll cvae       some
    python -m benchmarks.latent page           only the page, from what was measured

Each part writes benchmarks/results/latent/PART.json; trained runs stay in runs/bench and are not trained again. The
pictures are MNIST as an .npz, which SAKIYOMI_MNIST names.
"""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.common import cost, measure, spent
from benchmarks.latent_docs import write_page, write_readme_rows
from benchmarks.latent_page import SHOWN, browser_part
from benchmarks.photographed import Scene, encoded, photo
from benchmarks.style import photos_part, style_part
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.photo import read_photo
from sakiyomi.data.sources.pictures import Pictures
from sakiyomi.draw import as_bytes, decoded, generate, latent_grid, names_of, pile, spread_of
from sakiyomi.errors import SakiyomiError
from sakiyomi.files import write_atomic
from sakiyomi.job import Job
from sakiyomi.models import AE, VAE
from sakiyomi.models.base import Draws
from sakiyomi.presets import preset
from sakiyomi.rollout import Trained, load
from sakiyomi.run import read_metrics
from sakiyomi.scores.likelihood import SAMPLES, fixed_coin_flips, negative_log_likelihood
from sakiyomi.scores.statistics import bootstrap, wilson
from sakiyomi.style import in_that_hand, style, style_sheet
from sakiyomi.train import train
from sakiyomi.views import latent
from sakiyomi.watchdog import warnings

RESULTS, RUNS, DOCS = Path("benchmarks/results/latent"), Path("runs/bench"), Path("docs")
MNIST = Path(os.environ.get("SAKIYOMI_MNIST", "../shared/data/images/mnist.npz"))
STORE = Path("data/mnist")
CPU = torch.device("cpu")
EACH = 1000  # drawn pictures a digit
READER_EPOCHS = 8


def nll_part() -> dict[str, Any]:
    """-log p(x) of the test pictures by importance sampling, `sakiyomi train mnist-vae`."""
    trained = run("mnist-vae", preset("mnist-vae").job)
    images = pile(trained, "test").streams["image"]
    begin = time.perf_counter()
    pictures = {"coin flips, seed 0": fixed_coin_flips(images), "threshold 0.5": (images > 0.5).float()}
    found = {}
    for name, seen in pictures.items():
        nats = negative_log_likelihood(trained.model, {"image": seen}).numpy()  # pyright: ignore[reportArgumentType]
        bound = negative_log_likelihood(trained.model, {"image": seen}, samples=1).numpy()  # pyright: ignore[reportArgumentType]
        middle = bootstrap(nats)
        found[name] = {"nats": middle.value, "95 %": [middle.low, middle.high], "bound, one draw": float(bound.mean())}
    return {
        "nll": found,
        "samples": SAMPLES,
        "test pictures": len(images),
        "seconds to score": time.perf_counter() - begin,
        **told("mnist-vae", trained),
    }


def cvae_part() -> dict[str, Any]:
    """1,000 pictures of each digit with z ~ N(0, I), read by a network that learned from real digits alone."""
    trained = run("mnist", preset("mnist").job)
    reader, read = trained_reader(trained)
    found: dict[str, Any] = {}
    for temperature in (1.0, 0.7):
        right, confused = [], {}
        for digit in range(10):
            said = reader(asked(trained, digit, temperature)).argmax(-1)
            right.append(int((said == digit).sum()))
            wrong = said[said != digit].bincount(minlength=10)
            confused[str(digit)] = {str(k): int(v) for k, v in enumerate(wrong) if v}
        share = wilson(sum(right), 10 * EACH)
        found[f"z ~ N(0, {temperature:g}^2 I)"] = {
            "carry the asked label": share.value,
            "95 %": [share.low, share.high],
            "each digit": [n / EACH for n in right],
            "read as": confused,
        }
    rows = np.stack([generate(trained, digit, 12, 0) for digit in range(10)])
    write_atomic(DOCS / "digits.png", latent.picture_sheet(rows, tuple("0123456789")))
    return {"drawn": found, "each": EACH, "reader": read, **told("mnist", trained)}


@torch.inference_mode()
def asked(trained: Trained, digit: int, temperature: float) -> Tensor:
    """Mean pictures [EACH, 1, 28, 28] of one digit, in 0..1."""
    model = trained.model
    assert isinstance(model, Draws)
    z = temperature * torch.randn(EACH, model.latent, generator=torch.Generator().manual_seed(digit))
    return decoded(trained, z, digit)


class Reader(nn.Module):
    """A small convolutional network that reads a digit: [N, 1, 28, 28] in 0..1 -> [N, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)),
        )
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(64 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images).flatten(1))


def trained_reader(trained: Trained) -> tuple[Callable[[Tensor], Tensor], dict[str, Any]]:
    """The network that reads digits, trained on the real training split, and how well it reads the real test split."""
    torch.manual_seed(1)
    begin, reader = time.perf_counter(), Reader().to(memory_format=torch.channels_last)
    learned, tested = pile(trained, "train"), pile(trained, "test")
    optimizer = torch.optim.Adam(reader.parameters(), 1e-3)
    orders = torch.cat([torch.randperm(len(learned.labels)) for _ in range(READER_EPOCHS)]).split(128)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, len(orders))
    for picks in orders:
        with torch.autocast("cpu", torch.bfloat16):
            said = reader(shifted(learned.streams["image"][picks]).to(memory_format=torch.channels_last))
        functional.cross_entropy(said.float(), learned.labels[picks]).backward()
        optimizer.step()
        optimizer.zero_grad()
        rate.step()
    reader.eval()

    @torch.inference_mode()
    def read(images: Tensor) -> Tensor:
        return torch.cat([reader(some) for some in images.split(500)])

    right = int((read(tested.streams["image"]).argmax(-1) == tested.labels).sum())
    share = wilson(right, len(tested.labels))
    return read, {
        "reads of the real test": share.value,
        "95 %": [share.low, share.high],
        "epochs": READER_EPOCHS,
        "seconds": time.perf_counter() - begin,
    }


def shifted(images: Tensor) -> Tensor:
    """A batch moved by up to two pixels each way: what is drawn need not be centred to a pixel."""
    down, right = torch.randint(-2, 3, (2,)).tolist()
    return images.roll((down, right), (-2, -1))


def spread_part() -> dict[str, Any]:
    """How far the two numbers of z reach over the test pictures: a plain autoencoder against a VAE of its sizes."""
    found, maps = {}, {}
    for name, base in (("mnist-ae", "digits-ae"), ("mnist-vae-2d", "digits-vae")):
        job, large = preset(base).job, preset("mnist").job
        job = replace(job, data=large.data, train=replace(large.train, losses=job.train.losses, steps=20_000))
        layers = AE.Config().layers
        model = replace(job.model, layers=layers) if isinstance(job.model, VAE.Config) else job.model
        trained = run(name, replace(job, model=model))
        shown = pile(trained, "test")
        spread = spread_of(shown.codes)
        title = f"{type(trained.model).__name__}: z from {spread.low:.0f} to {spread.high:.0f}"
        maps[title] = shown.codes.numpy()
        found[name] = {**spread.as_dict(), **told(name, trained)}
        grid = as_bytes(latent_grid(trained, shown.codes, 24))
        write_atomic(DOCS / f"latent-grid-{name}.png", latent.picture_sheet(grid, tight=True))
    write_atomic(DOCS / "latent-maps.png", latent.map_by_class(maps, shown.labels.numpy(), shown.names))
    return found


def run(name: str, job: Job) -> Trained:
    """Train unless runs/bench has it."""
    if not STORE.exists():
        if not MNIST.exists():
            raise SakiyomiError(f"{MNIST} is not there; name MNIST as an .npz in SAKIYOMI_MNIST")
        Pictures("mnist", str(MNIST)).record(STORE)
    spent(RUNS / name, lambda: train(job, RUNS / name, resume=True))
    return load(RUNS / name)


def told(name: str, trained: Trained) -> dict[str, Any]:
    """What a training was: how long, how many steps, what it warned of."""
    job, store = trained.job, EpisodeStore(trained.job.data.store)
    counts = {split: sum(e.lengths["image"] for e in store.split(split)) for split in ("train", "validation", "test")}
    return {
        "steps": job.train.steps,
        "pictures a step": job.train.batch_size * job.data.steps,
        "pictures": counts,
        "precision": job.train.precision,
        "warnings": warnings(read_metrics(RUNS / name), job.train.watch),
        **cost(RUNS / name),
    }


def hand_part() -> dict[str, Any]:
    """`style.style_part`, and the ten digits of one hand as a picture: that of a photo of a digit that was drawn."""
    trained = run("mnist", preset("mnist").job)
    shown = generate(trained, 3, 1, SHOWN)[0, :, :, 0]
    read = read_photo(encoded(photo(shown, Scene(size=(640, 480), height=320))))
    digits = as_bytes(in_that_hand(trained, torch.tensor(style(trained, read, "3").z)))
    write_atomic(DOCS / "style.png", style_sheet(read.picture, "3", digits, names_of(trained)))
    return style_part()


def page_part() -> dict[str, Any]:
    run("mnist", preset("mnist").job)
    return browser_part(shots=DOCS)


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "nll": nll_part,
    "cvae": cvae_part,
    "spread": spread_part,
    "style": hand_part,
    "photos": photos_part,
    "browser": page_part,
}


def write_pages() -> None:
    write_page(RESULTS, DOCS / "latent-benchmarks.md")
    write_readme_rows(RESULTS, Path("README.md"))


if __name__ == "__main__":
    measure(PARTS, RESULTS, sys.argv[1:], write_pages)
