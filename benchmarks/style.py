"""My own hand, measured: are digits generated from one held-out digit in its hand, and are photos read as they are?

    python -m benchmarks.style                 both parts, some minutes on one core; needs runs/bench/mnist
    python -m benchmarks.style style --run runs/digits

Parts, each to benchmarks/results/latent/PART.json:

style   Sources are digits of the test split. From the z of one, and each label in turn, a digit is drawn; the encoder
        reads the drawn one, told that label. Of the other sources, the share that is further from this z' than its own
        source is: 1 where the own source is the nearest, a half by chance. The encoder that judges is the one that was
        used, so three measures that know nothing of it are taken, too: slant, thickness and width of the source
        against those of the drawn digits, as rank correlation over sources, each within its own kind of digit and
        only where another digit was drawn. Then the same after refining z by gradient steps on the source's pixels.
photos  Test digits are photographed (`photographed.py`): how many are refused, how like the original they come back,
        and the same share for the z of the photo against that of the original.
"""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy import ndimage, stats
from torch import Tensor
from torch.nn import functional

from benchmarks.common import measure
from benchmarks.photographed import Scene, alike, encoded, photo
from sakiyomi.data.photo import SIDE, read_photo
from sakiyomi.draw import decoded, held_out, names_of, pile
from sakiyomi.errors import SakiyomiError
from sakiyomi.rollout import Trained, load
from sakiyomi.scores.statistics import bootstrap
from sakiyomi.style import SURE, codes_of, costs, style

RESULTS, RUN = Path("benchmarks/results/latent"), Path("runs/bench/mnist")
SOURCES = 1000
PHOTOS = 500
NOTES = 500  # digits whose label is doubted
REFINED = 50  # gradient steps
GROWN = 4  # times, before a stroke is measured


def nearer_than_others(trained: Trained, codes: Tensor, drawn_by: Tensor | None = None) -> Tensor:
    """The share of the other sources (codes [T, Z]) that is further from the digit drawn by a source, read again, than
    the source itself is: [L, T], a row a label. `drawn_by`: other z to draw with."""
    count, rows = len(names_of(trained)), []
    for label in range(count):
        labels = torch.full((len(codes),), label)
        drawn = decoded(trained, codes if drawn_by is None else drawn_by, functional.one_hot(labels, count).float())
        apart = torch.cdist(codes_of(trained, drawn, labels), codes)
        rows.append((apart > apart.diagonal()[:, None]).sum(1) / (len(codes) - 1))
    return torch.stack(rows)


def slant(picture: np.ndarray) -> float:
    """How far ink goes to the right for each pixel upwards, by its second moments; [H, W] in 0..1."""
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
    total = max(float(picture.sum()), 1e-9)
    y, x = y - (picture * y).sum() / total, x - (picture * x).sum() / total
    return float(-(picture * x * y).sum() / max((picture * y * y).sum(), 1e-9))


def thickness(picture: np.ndarray) -> float:
    """Of the strokes, pixels: twice their area for each pixel of outline."""
    size = (GROWN * picture.shape[1], GROWN * picture.shape[0])
    grown = np.asarray(Image.fromarray(picture.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)) > 0.5
    outline = grown & np.logical_not(ndimage.binary_erosion(grown))
    return 2 * float(grown.sum()) / max(int(outline.sum()), 1) / GROWN


def width(picture: np.ndarray) -> float:
    """Of the ink, of its height, both by its spread."""
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
    total = max(float(picture.sum()), 1e-9)
    spread = [(picture * (a - (picture * a).sum() / total) ** 2).sum() / total for a in (x, y)]
    return float(np.sqrt(spread[0] / max(spread[1], 1e-9)))


MEASURES = {"slant": slant, "thickness": thickness, "width": width}


def kept_by_hand(trained: Trained, codes: Tensor, pictures: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """How well measures of the hand survive: rank correlation of source (pictures [T, H, W], labels [T]) and drawn
    digit, mean over labels. Of each kind of source its middle is taken off: a 1 is narrow whoever writes it."""
    count = len(names_of(trained))
    drawn = {}
    for label in range(count):
        told = functional.one_hot(torch.full((len(codes),), label), count).float()
        drawn[label] = decoded(trained, codes, told)[:, 0].numpy()
    found = {}
    for name, rule in MEASURES.items():
        source = centred(np.array([rule(p) for p in pictures]), labels)
        kept = []
        for label in range(count):
            others = labels != label
            written = centred(np.array([rule(p) for p in drawn[label]]), labels)
            kept.append(float(np.corrcoef(*(stats.rankdata(v[others]) for v in (source, written)))[0, 1]))
        found[name] = float(np.mean(kept))
    return found


def centred(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Without the median of their kind; [T]."""
    out = values.astype(float).copy()
    for label in np.unique(labels):
        out[labels == label] -= np.median(values[labels == label])
    return out


def refined(trained: Trained, codes: Tensor, images: Tensor, labels: Tensor) -> Tensor:
    """z [T, Z] after gradient steps towards the source's own pixels [T, C, H, W], under N(0, I)."""
    told = functional.one_hot(labels, len(names_of(trained))).float()
    z = codes.clone().requires_grad_(True)
    optimizer, images = torch.optim.Adam([z], 0.05), images.clone()
    for _ in range(REFINED):
        drawn = trained.model.draw(z, {"label": told})["image"].clamp(1e-6, 1 - 1e-6)  # pyright: ignore[reportCallIssue]
        lost = functional.binary_cross_entropy(drawn, images, reduction="none").sum() + z.square().sum() / 2
        optimizer.zero_grad()
        lost.backward()
        optimizer.step()
    return z.detach()


def style_part(folder: Path = RUN) -> dict[str, Any]:
    """Digits drawn from one held-out digit, against the bar of 95 %."""
    trained = load(folder)
    found = pile(trained, held_out(trained), SOURCES)
    codes = found.codes.clone()
    shares = nearer_than_others(trained, codes)
    middle = bootstrap(shares.mean(0).numpy())
    images, labels = found.streams["image"].clone(), found.labels.clone()
    better = nearer_than_others(trained, refined(trained, codes, images, labels))
    doubts = costs(trained, images[:NOTES, 0].numpy())
    true = [float(cost[label] - cost.min()) for cost, label in zip(doubts, labels.tolist(), strict=False)]
    wrong = [
        float(cost[(label + 1 + i % 9) % 10] - cost.min())
        for i, (cost, label) in enumerate(zip(doubts, labels.tolist(), strict=False))
    ]
    return {
        "run": str(folder),
        "sources": len(codes),
        "other sources further away": {
            "mean": middle.value,
            "95 %": [middle.low, middle.high],
            "median": float(shares.median()),
            "of digits drawn, nearer than 95 %": float((shares >= 0.95).float().mean()),
            "by digit drawn": [float(row.mean()) for row in shares],
            "by digit of the source": [float(shares[:, labels == k].mean()) for k in range(len(shares))],
        },
        "hands exchanged": float(nearer_than_others(trained, codes, drawn_by=codes.roll(1, 0)).mean()),
        f"refined by {REFINED} gradient steps": float(better.mean()),
        "rank correlation": kept_by_hand(trained, codes, images[:, 0].numpy(), labels.numpy()),
        "label doubted": {
            "nats": SURE,
            "where it was right": float(np.mean(np.array(true) > SURE)),
            "where it was wrong": float(np.mean(np.array(wrong) > SURE)),
        },
    }


def photos_part(folder: Path = RUN) -> dict[str, Any]:
    """Photos of test digits, read back."""
    trained = load(folder)
    found = pile(trained, held_out(trained), SOURCES)
    if found.streams["image"].shape[1:] != (1, SIDE, SIDE):
        raise SakiyomiError(f"{folder} draws pictures of {list(found.streams['image'].shape[1:])}, no digits")
    random = np.random.default_rng(0)
    likes, seconds, shares, refused, right = [], [], [], {}, 0
    for number, image in enumerate(found.streams["image"][:PHOTOS, 0]):
        scene = Scene(
            size=(int(random.integers(200, 1200)), int(random.integers(200, 900))),
            angle=float(random.uniform(-4, 4)),
            ink=float(random.uniform(0.2, 0.65)),
            shade=float(random.uniform(0, 0.7)),
            noise=float(random.uniform(0, 8)),
            blur=float(random.uniform(0.3, 2)),
            light_on_dark=bool(random.integers(4) == 0),
            paper=(float(random.uniform(0.6, 1)), float(random.uniform(0.6, 1)), float(random.uniform(0.5, 1))),
            seed=number,
        )
        height = float(random.uniform(0.3, 0.9)) * min(scene.size)
        content = encoded(
            photo((255 * image.numpy()).round().astype(np.uint8), Scene(**{**vars(scene), "height": height}))
        )
        begin = time.perf_counter()
        try:
            read = read_photo(content)
        except SakiyomiError as error:
            refused[str(number)] = str(error)
            continue
        seconds.append(time.perf_counter() - begin)
        likes.append(alike(read.picture, image.numpy()))
        told = found.names[int(found.labels[number])]
        apart = (found.codes - torch.tensor(style(trained, read, told).z)).norm(dim=1)
        shares.append(float((apart > apart[number]).sum() / (len(apart) - 1)))
        right += style(trained, read).label == told
    return {
        "run": str(folder),
        "photos": len(seconds) + len(refused),
        "refused": refused,
        "correlation with the original": {"mean": float(np.mean(likes)), "least": min(likes)},
        "other digits further away in z than the original": float(np.mean(shares)),
        "label found": right / len(likes),
        "ms a photo": {"median": 1e3 * float(np.median(seconds)), "most": 1e3 * max(seconds)},
    }


def main() -> None:
    words = sys.argv[1:]
    folder = RUN
    if "--run" in words[:-1]:
        at = words.index("--run")
        folder = Path(words[at + 1])
        words = words[:at] + words[at + 2 :]
    parts = {"style": lambda: style_part(folder), "photos": lambda: photos_part(folder)}
    torch.set_num_threads(1)
    measure(parts, RESULTS, words, lambda: None)


if __name__ == "__main__":
    main()
