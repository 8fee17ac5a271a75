"""Labelled pictures: handwritten digits, clothes, or a folder of one's own, some hundred pictures an episode.

    sakiyomi prepare digits                       # scikit-learn's, enlarged to 28 x 28
    sakiyomi prepare mnist --path mnist.npz       # or a folder of idx files
    sakiyomi fetch fashion-mnist; sakiyomi prepare fashion
    sakiyomi prepare digits --path my/pictures --out data/mine    # a folder of pictures a label

There is no time in them: an episode's pictures come in random order, one a second. The stream `label` is one-hot, and
its names are the labels. Of each label one stretch is held out for each split, as neighbours in these collections are
often by the same hand.
"""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
from PIL import Image

from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream
from sakiyomi.data.formats.labelled import Labelled, read_idx_folder, read_labelled, scaled, small_digits
from sakiyomi.data.public import located
from sakiyomi.errors import SakiyomiError, at_least, unknown

DIGITS = tuple("0123456789")
CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
NAMES = {"digits": DIGITS, "mnist": DIGITS, "fashion-mnist": CLOTHES}
SPLITS = ("train", "validation", "test")
RATE = 1.0  # Hz: the clock counts pictures
LARGEST = 512  # pixels, height and width


@dataclass(frozen=True)
class Pictures:
    """Import pictures with labels."""

    name: str = "digits"
    """What they are: digits (those of scikit-learn, where no path is given), mnist or fashion-mnist (once fetched)."""
    path: str = ""
    """Where they are instead: an .npz with x_train and y_train (and x_test, y_test), a folder of idx files, or a folder
    with a folder of pictures a label."""
    size: int = 28
    """Height and width; pictures of other sizes are scaled."""
    colours: int = 1
    """1 grey, 3 RGB."""
    validation: float = 0.1
    """Share of the training pictures that is held out for the validation split."""
    test: float = 0.1
    """Share for the test split, of a set that has no test pictures of its own."""
    episode: int = 500
    """Pictures an episode, at most."""
    seed: int = 0
    """Seed of their order."""

    def record(self, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> EpisodeStore:
        """Write the store; an interrupted call goes on where it stopped."""
        self._check()
        parts = {part: self._fitting(labelled) for part, labelled in self._read().items()}
        parts, names = numbered(parts, NAMES[self.name])
        # The file may move, what is in it may not change.
        content = crc32(b"".join(hashlib.sha256(p.pictures.data).digest() + p.labels.tobytes() for p in parts.values()))
        settings = {key: value for key, value in asdict(self).items() if key != "path"}
        shape = (self.size, self.size, self.colours)
        streams = {
            "image": Stream("image", shape, "uint8", RATE, "0..255"),
            "label": Stream("label", (len(names),), "float32", RATE, "one-hot", names),
        }
        writer = EpisodeWriter(out, streams, {"source": "pictures", **settings, "pictures": content})
        plan = self._plan(parts)
        for done, (id, split, part, picks) in enumerate(plan):
            if id not in writer.ids:
                labels = np.eye(len(names), dtype=np.float32)[parts[part].labels[picks]]
                values = {"image": parts[part].pictures[picks].reshape(-1, *shape), "label": labels}
                clock = np.arange(len(picks)) / RATE
                meta = {"part": part, "pictures": picks.tolist()}
                writer.add(id, values, {"image": clock, "label": clock}, split, meta)
            progress(done + 1, len(plan))
        return writer.finish()

    def _check(self) -> None:
        if self.name not in NAMES:
            raise unknown("set of pictures (--name)", self.name, NAMES)
        for name, least in (("size", 1), ("episode", 2), ("seed", 0)):
            at_least(f"--{name}", getattr(self, name), least)
        if self.size > LARGEST:
            raise SakiyomiError(f"--size is {self.size}; it must be at most {LARGEST}")
        if self.colours not in (1, 3):
            raise SakiyomiError(f"--colours is {self.colours}; it must be 1 (grey) or 3 (RGB)")
        for name in ("validation", "test"):
            if not 0 < getattr(self, name) <= 0.4:
                raise SakiyomiError(f"--{name} is {getattr(self, name)}; it is a share above 0 and at most 0.4")

    def _read(self) -> dict[str, Labelled]:
        if self.path:
            path = Path(self.path)
            if not path.exists():
                raise SakiyomiError(
                    f"--path {path} does not exist; name an .npz, a folder of idx files or of pictures, or leave it out"
                )
            return read_labelled(path, self.size, self.colours)
        if self.name == "digits":
            return {"train": small_digits()}
        try:
            return read_idx_folder(located(self.name, "the pictures"))
        except SakiyomiError as error:
            raise SakiyomiError(f"{error}; or name pictures of your own: --path") from error

    def _fitting(self, labelled: Labelled) -> Labelled:
        """The same, uint8 [N, size, size] or [N, size, size, 3]."""
        pictures = labelled.pictures
        if pictures.shape[-1] == 1 and pictures.ndim == 4:
            pictures = pictures[..., 0]
        grey = pictures.ndim == 3
        if pictures.shape[1:3] != (self.size, self.size) or grey != (self.colours == 1):
            made = [scaled(Image.fromarray(picture), self.size, self.colours) for picture in pictures]
            pictures = np.stack(made)
        return Labelled(np.ascontiguousarray(pictures), labelled.labels, labelled.names)

    def _plan(self, parts: dict[str, Labelled]) -> list[tuple[str, str, str, np.ndarray]]:
        """Every episode: its id, its split, and which pictures of which part."""
        held = hold_out(parts["train"].labels, self.validation, 0.0 if "test" in parts else self.test)
        sources = {split: ("train", picks) for split, picks in held.items()}
        if "test" in parts:
            sources["test"] = ("test", np.arange(len(parts["test"].labels)))
        plan = []
        for split in SPLITS:
            part, picks = sources[split]
            order = np.random.default_rng((self.seed, SPLITS.index(split))).permutation(picks)
            episodes = np.array_split(order, -(-len(order) // self.episode))
            plan += [(f"{split}-{number:04d}", split, part, episode) for number, episode in enumerate(episodes)]
        return plan


def hold_out(labels: np.ndarray, validation: float, test: float) -> dict[str, np.ndarray]:
    """Numbers of the pictures of each split, int64 [n]: of each label the last stretch but one for validation, the last
    one for the test, at least a picture each. Raises SakiyomiError where there are too few."""
    found: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        n_validation = max(1, round(validation * len(members)))
        n_test = max(1, round(test * len(members))) if test else 0
        if len(members) <= n_validation + n_test:
            raise SakiyomiError(
                f"label {label} has {len(members)} pictures; the splits need pictures of their own: at least "
                f"{n_validation + n_test + 1}"
            )
        ends = np.cumsum((len(members) - n_validation - n_test, n_validation))
        for split, some in zip(SPLITS, np.split(members, ends), strict=True):
            found[split].append(some)
    return {split: np.sort(np.concatenate(some)) for split, some in found.items() if test or split != "test"}


def numbered(parts: dict[str, Labelled], known: tuple[str, ...]) -> tuple[dict[str, Labelled], tuple[str, ...]]:
    """The parts with labels that count from 0, and what each is called. Raises SakiyomiError where parts name them
    otherwise, or where one has a label that the training part has not."""
    train, values = parts["train"], np.unique(parts["train"].labels)
    for part in parts.values():
        if part.names != train.names:
            raise SakiyomiError(f"train has the labels {[*train.names]}, test {[*part.names]}; they must be the same")
        strange = np.setdiff1d(part.labels, values)
        if len(strange):
            raise SakiyomiError(f"test has a label {strange[0]}, of which train has no picture to learn from")
    counted = {
        name: Labelled(part.pictures, np.searchsorted(values, part.labels), part.names) for name, part in parts.items()
    }
    plain = known if np.array_equal(values, np.arange(len(known))) else tuple(map(str, values.tolist()))
    return counted, train.names or plain
