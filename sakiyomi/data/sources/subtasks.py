"""Demonstrations of an arm with the sub-tasks they consist of, but not when each of them begins.

    sakiyomi prepare pick-small
    sakiyomi prepare pick-subtasks

Each sequence is one to three demonstrations out of a store of PickCube, one after the other, each at a speed of its
own; it begins and ends anywhere, and between demonstrations the arm goes back. So the order of sub-tasks differs, and a
clock does not tell them. What is read: the joints and how fast they move. When each sub-task truly begins is known from
the expert that showed them; it stands in the meta as `begins`, s, for scores alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import tyro

from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream
from sakiyomi.data.vocabulary import EOS, SPECIAL, Vocabulary
from sakiyomi.errors import LARGEST_SEED, SakiyomiError, at_least, at_most
from sakiyomi.worlds.pick_cube_expert import LEGS

NAMES = ("reach", "lower", "grasp", "lift", "hold")  # the expert's moves, and what follows them
BACK = "back"
HELD = 6  # one of so many training demonstrations is for validation, the last ones
MOST = 3  # demonstrations in a sequence
FASTER = (0.7, 1.4)  # times as fast as shown
RETURN = (0.8, 1.6)  # s that going back takes
SHORTEST = 3  # ticks of a sub-task that a sequence begins or ends within


@dataclass(frozen=True)
class Piece:
    """A stretch of joints and the number of the sub-task at each tick."""

    joints: np.ndarray
    """[T, J]"""
    tasks: np.ndarray
    """int [T], places in NAMES and BACK."""


@dataclass(frozen=True)
class SubTasks:
    """Put sequences of sub-tasks together."""

    path: tyro.conf.Positional[str] = "data/pick-small"
    """Folder of an episode store of PickCube."""
    sequences: int = 600
    """Sequences for training."""
    validation: int = 60
    """Further ones, of other demonstrations, for the validation split."""
    test: int = 100
    """Further ones, of the store's validation split, for the test split."""
    seed: int = 0
    """Seed of everything random."""

    def record(self, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> EpisodeStore:
        """Write the store; what is in it already is kept. Raises SakiyomiError for a store of something else."""
        for name in ("sequences", "validation", "test"):
            at_least(f"--{name}", getattr(self, name), 1)
        at_least("--seed", self.seed, 0)
        at_most("--seed", self.seed, LARGEST_SEED)
        shown = EpisodeStore(self.path)
        train, test = demonstrations(shown, "train"), demonstrations(shown, "validation")
        if len(train) < 2:
            raise SakiyomiError(f"{self.path} has {len(train)} demonstrations for training; 2 are needed, better 100")
        held = max(1, len(train) // HELD)
        parts = {"train": (train[:-held], self.sequences), "validation": (train[-held:], self.validation)}
        parts["test"] = (test, self.test)
        rate, width = shown.streams["joints"].rate, shown.streams["joints"].shape[0]
        vocabulary = Vocabulary((*SPECIAL, *NAMES, BACK))
        streams = {
            "feature": Stream("scalar", (2 * width,), "float32", rate, "rad, rad/s; gripper m, m/s"),
            "transcript": Stream("token", (), "int32", 1.0, vocabulary=vocabulary),
        }
        writer = EpisodeWriter(out, streams, {"source": "subtasks", **asdict(self)})
        plan = [(split, number) for split, (_, count) in parts.items() for number in range(count)]
        for done, (split, number) in enumerate(plan, 1):
            id = f"{split}-{number:05d}"
            if id not in writer.ids:
                random = np.random.default_rng((self.seed, crc32(split.encode()), number))
                add_sequence(writer, id, split, sequence(random, parts[split][0], rate))
            progress(done, len(plan))
        return writer.finish()


def demonstrations(store: EpisodeStore, split: str) -> list[Piece]:
    """Each demonstration and its sub-tasks, which follow from the expert's plan and its speed. Raises SakiyomiError
    for a store that has no joints, or does not know at what speed they were shown."""
    if "joints" not in store.streams:
        raise SakiyomiError(
            f"{store.place} has streams {sorted(store.streams)}, no joints: sakiyomi prepare pick-small"
        )
    rate, ends = store.streams["joints"].rate, np.cumsum([leg.seconds for leg in LEGS])
    pieces = []
    for entry in store.split(split):
        if "speed" not in entry.meta:
            raise SakiyomiError(f"{store.place}, {entry.id}: no speed in its meta; sakiyomi prepare pick-small has it")
        joints = store.values(entry.id, "joints")
        time = (np.arange(len(joints)) + 1) / rate * entry.meta["speed"]
        pieces.append(Piece(joints, np.searchsorted(ends, time - 1e-9)))
    return pieces


def sequence(random: np.random.Generator, shown: Sequence[Piece], rate: float) -> Piece:
    """Some demonstrations one after the other, cut at both ends."""
    parts: list[Piece] = []
    for _ in range(random.integers(1, MOST + 1)):
        piece = resampled(shown[int(random.integers(len(shown)))], random.uniform(*FASTER))
        if parts:
            parts.append(way_back(parts[-1].joints[-1], piece.joints[0], round(random.uniform(*RETURN) * rate)))
        parts.append(piece)
    whole = Piece(np.concatenate([p.joints for p in parts]), np.concatenate([p.tasks for p in parts]))
    edges = [0, *changes(whole.tasks), len(whole.tasks)]
    first = int(random.integers(0, len(edges) - 2))
    last = int(random.integers(first + 2, len(edges)))  # two sub-tasks at the least
    begin = random.integers(edges[first], max(edges[first] + 1, edges[first + 1] - SHORTEST))
    end = random.integers(min(edges[last], edges[last - 1] + SHORTEST), edges[last] + 1)
    return Piece(whole.joints[begin:end], whole.tasks[begin:end])


def resampled(piece: Piece, times: float) -> Piece:
    """The same, so many times as fast; joints are linear in between."""
    places = np.arange(0, len(piece.joints) - 1, times)
    line = np.arange(len(piece.joints))
    joints = np.stack([np.interp(places, line, column) for column in piece.joints.T], 1)
    return Piece(joints, piece.tasks[places.astype(int)])


def way_back(begin: np.ndarray, end: np.ndarray, ticks: int) -> Piece:
    """From joints to joints along a minimum-jerk path (Flash & Hogan 1985)."""
    s = ((np.arange(ticks) + 1) / (ticks + 1))[:, None]
    return Piece(begin + (end - begin) * s**3 * (10 - 15 * s + 6 * s * s), np.full(ticks, len(NAMES)))


def changes(tasks: np.ndarray) -> list[int]:
    """The ticks at which another sub-task begins."""
    return (np.flatnonzero(np.diff(tasks)) + 1).tolist()


def add_sequence(writer: EpisodeWriter, id: str, split: str, piece: Piece) -> None:
    """A sequence as an episode."""
    rate, vocabulary = writer.streams["feature"].rate, writer.streams["transcript"].vocabulary
    begins = [0, *changes(piece.tasks)]
    text = " ".join((*NAMES, BACK)[piece.tasks[tick]] for tick in begins)
    ids = np.array([*(vocabulary.encode(text) if vocabulary else ()), EOS], np.int32)
    speed = np.diff(piece.joints, axis=0, prepend=piece.joints[:1]) * rate
    frames = np.concatenate((piece.joints, speed), 1).astype(np.float32)
    clocks = {"feature": np.arange(len(frames)) / rate, "transcript": np.arange(len(ids), dtype=float)}
    meta = {"transcript": text, "begins": [tick / rate for tick in begins]}
    writer.add(id, {"feature": frames, "transcript": ids}, clocks, split, meta)
