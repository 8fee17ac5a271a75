"""Small recordings that need no simulator: pictures, joints and commands of a made-up robot."""

from pathlib import Path

import numpy as np

from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream

RATE = 10.0
LENGTHS = (9, 14, 11, 12)  # of the training episodes, on purpose unequal
VALIDATION_LENGTH = 10

STREAMS = {
    "image": Stream("image", (16, 16, 3), "uint8", RATE),
    "joints": Stream("joints", (3,), "float32", RATE, "rad"),
    "command": Stream("action", (3,), "float32", RATE, "rad"),
}


def values(length: int, seed: int) -> dict[str, np.ndarray]:
    """One episode's streams, [T, ...]. The last joint never moves."""
    random = np.random.default_rng(seed)
    joints = np.cumsum(random.normal(0, 0.1, (length, 3)), 0)
    joints[:, 2] = 0.7
    return {
        "image": random.integers(0, 256, (length, 16, 16, 3), dtype=np.uint8),
        "joints": joints.astype(np.float32),
        "command": (joints + 0.05 * random.normal(size=joints.shape) * [1, 1, 0]).astype(np.float32),
    }


def times(length: int, start: float = 0.0) -> dict[str, np.ndarray]:
    return dict.fromkeys(STREAMS, start + np.arange(length) / RATE)


def write(folder: Path) -> EpisodeStore:
    writer = EpisodeWriter(folder, STREAMS)
    for number, length in enumerate(LENGTHS):
        writer.add(f"{number}", values(length, number), times(length))
    # Wider than anything in the training split: whoever peeks at it gets other statistics.
    far = values(VALIDATION_LENGTH, 99)
    far["joints"] = far["joints"] * 10
    writer.add("validation", far, times(VALIDATION_LENGTH), split="validation")
    return writer.finish()
