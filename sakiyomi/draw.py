"""What a model of pictures is for: draw, go from one picture to another, and show the map of its z.

    sakiyomi generate digits --label 7 --count 25     # a sheet of sevens
    sakiyomi rollout digits                           # every label, and pictures that turn into others
    sakiyomi explain digits                           # the map of z, PCA and t-SNE beside it, TensorBoard's projector

Pictures land in the run folder. z is drawn from the standard normal distribution where the model keeps it there (VAE,
CVAE); of a plain autoencoder, from the normal distribution of the training pictures' codes.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.errors import LARGEST_SEED, SakiyomiError, at_least, at_most, unknown
from sakiyomi.files import write_atomic
from sakiyomi.models.base import Draws, Streams
from sakiyomi.rollout import Trained
from sakiyomi.scores.likelihood import Likely
from sakiyomi.views import latent

MOST = 10_000  # pictures at a time
BATCH = 1000
MAPPED = 2000  # pictures, at most: t-SNE of more takes minutes
MIDDLE = 0.01  # of the codes are left out at each end where a map ends


@dataclass(frozen=True)
class Generating:
    """Options of `generate`."""

    label: str = ""
    """What to draw, by its name or number; every label if not given."""
    count: int = 25
    """Pictures of it, or of each."""
    temperature: float = 1.0
    """Factor of z: below 1, more usual pictures."""
    seed: int = 0
    """Seed of z."""
    device: str = "auto"
    """auto, cpu or cuda."""


@dataclass(frozen=True)
class Drawing:
    """Options of `rollout` for a model that draws."""

    count: int = 12
    """Pictures of each label."""
    morphs: int = 6
    """Pairs of test pictures, of which one turns into the other."""
    steps: int = 12
    """Pictures on the way."""
    seed: int = 0
    """Seed of z and of the pairs."""
    device: str = "auto"
    """auto, cpu or cuda."""


@dataclass(frozen=True)
class Mapping:
    """Options of `explain` for a model that draws."""

    pictures: int = 2000
    """Test pictures on the map, at most."""
    grid: int = 20
    """Pictures along each side of the map that is drawn."""
    label: str = ""
    """What to draw on it where the model is told a label; the first one if not given."""
    seed: int = 0
    """Seed of t-SNE."""
    device: str = "auto"
    """auto, cpu or cuda."""


@dataclass(frozen=True)
class Pile:
    """N pictures of a split with what a model makes of them, on the CPU."""

    streams: Streams
    """`image` [N, C, H, W] in 0..1, and `label` one-hot [N, L] where the store has it."""
    labels: Tensor
    """int64 [N], 0 where the store has none."""
    names: tuple[str, ...]
    """What the labels are called."""
    codes: Tensor
    """The mean of z, float32 [N, Z]."""


@dataclass(frozen=True)
class Spread:
    """How far the numbers of z reach over some pictures."""

    deviation: float
    """The mean over Z of each number's standard deviation."""
    low: float
    high: float
    """The least and the largest number."""

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def drawing(trained: Trained) -> Draws:
    """The model, if it draws. Raises SakiyomiError if not."""
    if not isinstance(trained.model, Draws):
        kind = type(trained.model).__name__
        raise SakiyomiError(f"{kind} draws no pictures out of a latent; train one that does: sakiyomi train digits")
    return trained.model


def names_of(trained: Trained) -> tuple[str, ...]:
    """What the model's labels are called: as in its recordings where they are there, else by number; none where it is
    told no label."""
    model = drawing(trained)
    if "label" not in model.conditions:
        return ()
    count = trained.model.shapes["label"][0]
    try:
        names = EpisodeStore(trained.job.data.store).streams["label"].names
    except (SakiyomiError, KeyError):
        names = ()
    return names if len(names) == count else tuple(map(str, range(count)))


def label_number(trained: Trained, label: str) -> int | None:
    """Which label is meant, by name or number. Raises SakiyomiError for one there is none of."""
    names = names_of(trained)
    if not label:
        return None
    if not names:
        kind = type(trained.model).__name__
        raise SakiyomiError(f"{kind} is told no label, and cannot be asked for {label!r}; leave --label out")
    if label in names:
        return names.index(label)
    if label.isdecimal() and int(label) < len(names):
        return int(label)
    raise unknown("label", label, names)


@torch.inference_mode()
def pile(trained: Trained, split: str, most: int = 0) -> Pile:
    """The pictures of a split, the first `most` of them (0: all), in the order of the store, which is random."""
    model, store = drawing(trained), EpisodeStore(trained.job.data.store)
    names = ("image", "label") if "label" in store.streams else ("image",)
    parts: dict[str, list[Tensor]] = {name: [] for name in names}
    for entry in store.split(split):
        for name in names:
            values = torch.from_numpy(store.values(entry.id, name))
            kind = store.streams[name].kind
            parts[name].append(values.movedim(-1, -3).float().div_(255) if kind == "image" else values.float())
        if most and sum(map(len, parts["image"])) >= most:
            break
    streams = {name: torch.cat(values)[: most or None] for name, values in parts.items()}
    device = next(trained.model.parameters()).device
    read = {name: streams[name].split(BATCH) for name in trained.model.inputs}
    batches = [dict(zip(read, some, strict=True)) for some in zip(*read.values(), strict=True)]
    codes = [model.encode({n: v.to(device) for n, v in batch.items()}).cpu() for batch in batches]
    count = len(streams["image"])
    labels = streams["label"].argmax(-1) if "label" in streams else torch.zeros(count, dtype=torch.int64)
    return Pile(streams, labels, store.streams["label"].names if "label" in streams else ("",), torch.cat(codes))


def held_out(trained: Trained) -> str:
    """`test`, or where the store has none `validation`."""
    store = EpisodeStore(trained.job.data.store)
    return "test" if any(entry.split == "test" for entry in store.entries) else "validation"


@torch.inference_mode()
def decoded(trained: Trained, z: Tensor, label: int | Tensor | None = None) -> Tensor:
    """Mean pictures [N, C, H, W] in 0..1, on the CPU, of z [N, Z] and a label, or one-hot labels [N, L]."""
    model, device = drawing(trained), next(trained.model.parameters()).device
    given: Streams = {}
    if "label" in model.conditions:
        if label is None:
            raise SakiyomiError(f"{type(trained.model).__name__} is told a label; which one?")
        if isinstance(label, int):
            label = functional.one_hot(torch.full((len(z),), label), trained.model.shapes["label"][0]).float()
        given = {"label": label}
    pictures = []
    for first in range(0, len(z), BATCH):
        some = slice(first, first + BATCH)
        told = {name: value[some].to(device) for name, value in given.items()}
        pictures.append(model.draw(z[some].to(device), told)["image"].cpu())
    return torch.cat(pictures)


def as_bytes(pictures: Tensor) -> np.ndarray:
    """[..., C, H, W] in 0..1 -> uint8 [..., H, W, C]."""
    return pictures.movedim(-3, -1).mul(255).round().clamp(0, 255).to(torch.uint8).numpy()


def drawn_z(trained: Trained, count: int, seed: int, temperature: float = 1.0) -> Tensor:
    """z [count, Z] as the model's training makes them usual; noise comes from a CPU's generator, so that every device
    draws the same."""
    model = drawing(trained)
    noise = temperature * torch.randn(count, model.latent, generator=torch.Generator().manual_seed(seed))
    if isinstance(model, Likely):
        return noise
    codes = pile(trained, "train", MOST).codes
    values, directions = torch.linalg.eigh(torch.atleast_2d(torch.cov(codes.T)))
    return codes.mean(0) + (noise * values.clamp_min(0).sqrt()) @ directions.T


def generate(
    trained: Trained, label: int | None = None, count: int = 25, seed: int = 0, temperature: float = 1.0
) -> np.ndarray:
    """Pictures uint8 [count, H, W, C] out of nothing but a label, where the model is told one."""
    return as_bytes(decoded(trained, drawn_z(trained, count, seed, temperature), label))


def generate_sheet(trained: Trained, options: Generating, folder: Path) -> list[Path]:
    """Draw pictures and leave them in `folder` as one PNG; returns it. Raises SakiyomiError for a label there is none
    of, and for too few or too many pictures."""
    at_least("--count", options.count, 1)
    at_least("--seed", options.seed, 0)
    at_most("--seed", options.seed, LARGEST_SEED)
    at_least("--temperature", options.temperature, 0)
    at_most("--temperature", options.temperature, 100)
    names, label = names_of(trained), label_number(trained, options.label)
    every = range(len(names)) if names and label is None else (label,)
    at_most("--count" if len(every) == 1 else f"--count times {len(names)} labels", options.count * len(every), MOST)
    drawn = [generate(trained, one, options.count, options.seed, options.temperature) for one in every]
    sheet = latent.squared(drawn[0]) if len(drawn) == 1 else np.stack(drawn)
    name = "generated" if label is None else f"generated-{names[label].replace('/', '_')}"
    path = folder / f"{name}.png"
    write_atomic(path, latent.picture_sheet(sheet, names if len(drawn) > 1 else ()))
    return [path]


def morph(trained: Trained, begin: Streams, end: Streams, steps: int) -> Tensor:
    """From one picture to another along a line in z, [steps, C, H, W] in 0..1; labels go along a line, too. `begin` and
    `end` are streams of one picture each, [1, ...]."""
    model, device = drawing(trained), next(trained.model.parameters()).device
    with torch.inference_mode():
        ends = [model.encode({n: s[n].to(device) for n in trained.model.inputs}).cpu() for s in (begin, end)]
    share = torch.linspace(0, 1, steps)[:, None]
    z = torch.lerp(ends[0], ends[1], share)
    label = torch.lerp(begin["label"], end["label"], share) if "label" in model.conditions else None
    return decoded(trained, z, label)


def rollout_draws(trained: Trained, options: Drawing, folder: Path) -> list[Path]:
    """Draw every label and some morphs, and leave the pictures in `folder`; returns them."""
    for name in ("count", "morphs"):
        at_least(f"--{name}", getattr(options, name), 1)
    at_least("--steps", options.steps, 2)
    at_least("--seed", options.seed, 0)
    at_most("--seed", options.seed, LARGEST_SEED)
    names = names_of(trained)
    at_most("--count times labels", options.count * max(1, len(names)), MOST)
    at_most("--morphs times --steps", options.morphs * options.steps, MOST)
    shown = [generate(trained, k if names else None, options.count, options.seed) for k in range(max(1, len(names)))]
    samples = np.stack(shown) if names else latent.squared(shown[0])
    found = pile(trained, held_out(trained))
    pairs = np.random.default_rng(options.seed).integers(0, len(found.codes), (options.morphs, 2))
    ways = [as_bytes(morph(trained, one(found, a), one(found, b), options.steps)) for a, b in pairs.tolist()]
    files = {
        "samples.png": latent.picture_sheet(samples, names),
        "morph.png": latent.picture_sheet(np.stack(ways)),
    }
    for name, content in files.items():
        write_atomic(folder / name, content)
    return [folder / name for name in files]


def one(found: Pile, number: int) -> Streams:
    """The streams of one picture, [1, ...]."""
    return {name: value[number : number + 1] for name, value in found.streams.items()}


def spread_of(codes: Tensor) -> Spread:
    """Of codes [N, Z]."""
    return Spread(float(codes.std(0, correction=0).mean()), float(codes.min()), float(codes.max()))


def plane_of(codes: Tensor) -> tuple[Tensor, Tensor]:
    """The plane of a map through codes [N, Z]: its middle [Z] and its two directions [2, Z], each of length 1. Of two
    numbers it is those; of more, the first two principal directions."""
    if codes.shape[1] == 1:
        return torch.zeros(1), torch.tensor([[1.0], [0.0]])
    if codes.shape[1] == 2:
        return torch.zeros(2), torch.eye(2)
    middle = codes.mean(0)
    directions = torch.linalg.svd((codes - middle).double(), full_matrices=False).Vh[:2].float()
    # A direction's sign is nobody's choice: the largest number counts up.
    return middle, directions * directions.gather(1, directions.abs().argmax(1, keepdim=True)).sign()


def on_plane(codes: Tensor) -> Tensor:
    """Where codes [N, Z] lie on their map, [N, 2]."""
    middle, directions = plane_of(codes)
    return (codes - middle) @ directions.T


def latent_grid(trained: Trained, codes: Tensor, side: int, label: int | None = None) -> Tensor:
    """The map as pictures, [side, side, C, H, W] in 0..1: z on a grid over the middle of where codes [N, Z] lie, the
    second direction upwards."""
    middle, directions = plane_of(codes)
    places = on_plane(codes)
    ends = torch.quantile(places, torch.tensor([MIDDLE, 1 - MIDDLE]), dim=0)
    x = torch.linspace(float(ends[0, 0]), float(ends[1, 0]), side)
    y = torch.linspace(float(ends[1, 1]), float(ends[0, 1]), side)
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).flatten(0, 1)
    return decoded(trained, middle + grid @ directions, label).unflatten(0, (side, side))


def projections(found: Pile, seed: int = 0) -> dict[str, np.ndarray]:
    """What others make of the same pixels: PCA and t-SNE (scikit-learn), [N, 2] each. Raises SakiyomiError where it is
    not installed, and for fewer than 10 pictures."""
    try:
        from sklearn.decomposition import PCA
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise SakiyomiError(
            "PCA and t-SNE come with scikit-learn, which is not installed: pip install 'sakiyomi[digits]'"
        ) from error
    pixels = found.streams["image"].flatten(1).numpy()
    if len(pixels) < 10:
        raise SakiyomiError(f"{len(pixels)} pictures make no map; --pictures 10 or more")
    few = min(30.0, (len(pixels) - 1) / 3)
    directions = PCA(min(50, *pixels.shape), random_state=seed).fit_transform(pixels)
    return {
        "PCA of the pixels": directions[:, :2],
        "t-SNE of the pixels": TSNE(perplexity=few, init="pca", random_state=seed).fit_transform(directions),
    }


def explain_draws(
    trained: Trained, options: Mapping, folder: Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> list[Path]:
    """The map of z beside PCA and t-SNE, the map as pictures, a folder for TensorBoard's projector; returns them."""
    at_least("--pictures", options.pictures, 10)
    at_most("--pictures", options.pictures, MAPPED)
    at_least("--grid", options.grid, 2)
    at_most("--grid times --grid", options.grid**2, MOST)
    at_least("--seed", options.seed, 0)
    at_most("--seed", options.seed, 2**32 - 1)  # what scikit-learn takes
    label = label_number(trained, options.label)
    found = pile(trained, held_out(trained), options.pictures)
    progress(1, 3)
    panels = {map_title(found.codes): on_plane(found.codes).numpy(), **projections(found, options.seed)}
    progress(2, 3)
    label = 0 if label is None and names_of(trained) else label
    grid = latent_grid(trained, found.codes, options.grid, label)
    files = {
        "latent-map.png": latent.map_by_class(panels, found.labels.numpy(), found.names),
        "latent-grid.png": latent.picture_sheet(as_bytes(grid), tight=True),
    }
    for name, content in files.items():
        write_atomic(folder / name, content)
    words = [found.names[label] for label in found.labels.tolist()]
    projector = latent.write_projector(
        folder / "projector", found.codes.numpy(), words, as_bytes(found.streams["image"])
    )
    progress(3, 3)
    return [*(folder / name for name in files), projector]


def map_title(codes: Tensor) -> str:
    """What the axes of the map are."""
    return "z" if codes.shape[1] <= 2 else f"z: the first 2 principal directions of {codes.shape[1]} numbers"
