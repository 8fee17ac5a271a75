"""Moving digits: handwritten digits that bounce about in a dark square, the test bed of video prediction.

    sakiyomi prepare moving-digits --digits mnist.npz --stochastic --out data/digits

After Srivastava et al. (2015). With `stochastic`, a bounce leaves in a direction nobody can foresee, as in Denton &
Fergus (2018), so that the future has many branches. The pictures of digits in the training, validation and test
split are different ones, of the same ten classes. Without MNIST, the small handwritten digits that come with
scikit-learn are enlarged; those need the extra `sakiyomi[digits]`.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from zlib import crc32

import numpy as np

from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream
from sakiyomi.data.formats.labelled import Labelled, read_npz, small_digits
from sakiyomi.errors import SakiyomiError, at_least

RATE = 10.0  # Hz, nominal
SPEED = 0.1  # of the way from wall to wall in a frame, as in the paper
SHARES = {"train": (0.0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1.0)}  # of each class's pictures


@dataclass(frozen=True)
class MovingDigits:
    """Draw bouncing handwritten digits."""

    digits: str = ""
    """An MNIST .npz with x_train and y_train; if not given, scikit-learn's digits, which are coarser."""
    episodes: int = 1000
    """Sequences for training."""
    validation: int = 64
    """Further sequences, of other pictures of digits, for the validation split."""
    test: int = 256
    """Further sequences, of again other pictures, for the test split."""
    steps: int = 20
    """Frames of a sequence."""
    size: int = 64
    """Height and width of the frames."""
    count: int = 2
    """Digits in a sequence."""
    stochastic: bool = False
    """A bounce leaves at a random angle; if not, as light from a mirror."""
    seed: int = 0
    """Seed of everything random."""

    def record(self, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> EpisodeStore:
        """Write the store; an interrupted call goes on where it stopped."""
        for name in ("episodes", "validation", "steps", "count"):
            at_least(f"--{name}", getattr(self, name), 1)
        at_least("--test", self.test, 0)
        at_least("--seed", self.seed, 0)
        glyphs = load_digits(Path(self.digits)) if self.digits else small_digits()
        room = self.size - max(glyphs.pictures.shape[1:])
        if room < 1:
            raise SakiyomiError(f"--size {self.size} leaves digits of {self.size - room} pixels no room to move")
        # The file may move, what is in it may not change.
        settings = {**asdict(self), "digits": crc32(glyphs.pictures.tobytes())}
        streams = {"image": Stream("image", (self.size, self.size, 3), "uint8", RATE, "RGB 0..255")}
        writer = EpisodeWriter(out, streams, {"source": "moving_digits", **settings})
        usable = {split: held_for(split, glyphs.labels) for split in SHARES}
        wanted = {"train": self.episodes, "validation": self.validation, "test": self.test}
        plan = [(split, number) for split, count in wanted.items() for number in range(count)]
        for done, (split, number) in enumerate(plan):
            id = f"{split}-{number:05d}"
            if id not in writer.ids:
                random = np.random.default_rng((self.seed, list(SHARES).index(split), number))
                picks = random.choice(usable[split], self.count)
                values = {"image": self._draw(glyphs.pictures[picks], random)}
                meta = {"labels": glyphs.labels[picks].tolist(), "pictures": picks.tolist()}
                writer.add(id, values, {"image": np.arange(self.steps) / RATE}, split, meta)
            progress(done + 1, len(plan))
        return writer.finish()

    def _draw(self, pictures: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """The sequence of these digits, uint8 [count, h, w]: uint8 [steps, size, size, 3]."""
        count, height, width = pictures.shape
        paths = bounce(self.steps, count, self.stochastic, random)
        corners = np.rint(paths * [self.size - height, self.size - width]).astype(int)
        frames = np.zeros((self.steps, self.size, self.size), np.uint8)
        for frame, tops in zip(frames, corners, strict=True):
            for picture, (y, x) in zip(pictures, tops, strict=True):
                place = frame[y : y + height, x : x + width]
                np.maximum(place, picture, out=place)  # where two digits overlap, the brighter one
        return np.repeat(frames[..., None], 3, axis=-1)


def bounce(steps: int, count: int, stochastic: bool, random: np.random.Generator) -> np.ndarray:
    """Paths of `count` points in the unit square, float64 [steps, count, 2], SPEED a step.

    The paths are exact; drawn, they are rounded to whole pixels, so that a digit looks the same wherever it is.
    """
    position = random.uniform(size=(count, 2))
    velocity = SPEED * _directions(random, count)
    path = np.empty((steps, count, 2))
    for step in range(steps):
        path[step] = position
        position = position + velocity
        beyond = (position < 0) | (position > 1)
        inwards = np.where(position < 0, 1.0, -1.0)
        position = np.where(position < 0, -position, np.where(position > 1, 2 - position, position))
        if stochastic:
            # Any direction, as likely as any other, that leads away from the walls that were hit.
            hit = beyond.any(1, keepdims=True)
            velocity = np.where(hit, SPEED * _directions(random, count), velocity)
        velocity = np.where(beyond, inwards * np.abs(velocity), velocity)
    return path


def _directions(random: np.random.Generator, count: int) -> np.ndarray:
    """Unit vectors, float64 [count, 2]."""
    angle = random.uniform(0, 2 * np.pi, count)
    return np.stack([np.sin(angle), np.cos(angle)], axis=1)


def held_for(split: str, labels: np.ndarray) -> np.ndarray:
    """Numbers of the pictures a split may use, int64 [n]: of each class one stretch, as neighbours in these
    collections are often by the same hand."""
    low, high = SHARES[split]
    found = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        found.append(members[int(low * len(members)) : int(high * len(members))])
    return np.sort(np.concatenate(found))


def load_digits(path: Path) -> Labelled:
    """MNIST as an .npz. Raises SakiyomiError when it is none."""
    if not path.is_file():
        raise SakiyomiError(f"--digits {path} is no file; name an MNIST .npz with x_train and y_train, or leave it out")
    found = read_npz(path)["train"]
    pictures, labels = found.pictures, found.labels
    if pictures.ndim != 3:
        raise SakiyomiError(f"{path}: x_train is {list(pictures.shape)}; expected grey pictures, uint8 [N, h, w]")
    _, counts = np.unique(labels, return_counts=True)
    if len(counts) == 0 or counts.min() < 10:
        raise SakiyomiError(f"{path}: a digit has fewer than 10 pictures; the splits need pictures of their own")
    return found
