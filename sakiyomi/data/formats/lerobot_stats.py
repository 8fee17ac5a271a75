"""Statistics as LeRobot keeps them: of each feature, per channel, for every episode and for all of them."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}

Stats: TypeAlias = dict[str, np.ndarray]
"""min, max, mean, std and `QUANTILES` in the feature's shape (pictures: [3, 1, 1], as shares of 255), count [1]."""


def of_numbers(values: np.ndarray) -> Stats:
    """Of values [T, ...]; a number without channels has statistics of shape [1]."""
    values = values.reshape(len(values), *(values.shape[1:] or (1,))).astype(np.float64)
    return {
        "min": values.min(0),
        "max": values.max(0),
        "mean": values.mean(0),
        "std": values.std(0),
        **dict(zip(QUANTILES, np.quantile(values, [*QUANTILES.values()], axis=0), strict=True)),
        "count": np.array([len(values)]),
    }


def of_pictures(frames: np.ndarray, most: int) -> Stats:
    """Of pictures uint8 [T, H, W, 3]: at most so many of them, evenly over the episode."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(most, len(frames))).round().astype(int))
    # A byte has 256 values: they are counted, not sorted.
    counts = np.stack([np.bincount(frames[chosen, ..., c].ravel(), minlength=256) for c in range(frames.shape[-1])])
    levels, below = np.arange(256) / 255, counts.cumsum(1)
    total = counts.sum(1, keepdims=True)
    mean = (counts * levels).sum(1, keepdims=True) / total
    found = {
        "min": levels[(counts > 0).argmax(1)],
        "max": levels[255 - (counts[:, ::-1] > 0).argmax(1)],
        "mean": mean,
        "std": np.sqrt((counts * (levels - mean) ** 2).sum(1, keepdims=True) / total),
        **{name: levels[(below >= q * total).argmax(1)] for name, q in QUANTILES.items()},
    }
    return {name: value.reshape(-1, 1, 1) for name, value in found.items()} | {"count": np.array([len(chosen)])}


def merged(parts: Sequence[Stats]) -> Stats:
    """Of the union. Mean and deviation are exact; quantiles are means of the parts' ones, weighted by their counts."""
    counts = np.array([part["count"][0] for part in parts], np.float64)
    weights = (counts / counts.sum()).reshape(-1, *[1] * parts[0]["mean"].ndim)
    stacked = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
    mean = (weights * stacked["mean"]).sum(0)
    variance = (weights * (stacked["std"] ** 2 + (stacked["mean"] - mean) ** 2)).sum(0)
    return {
        "min": stacked["min"].min(0),
        "max": stacked["max"].max(0),
        "mean": mean,
        "std": np.sqrt(variance),
        **{name: (weights * stacked[name]).sum(0) for name in QUANTILES},
        "count": np.array([int(counts.sum())]),
    }
