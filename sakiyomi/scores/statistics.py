"""Intervals: how far a number measured on n trials can be trusted."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from sakiyomi.errors import SakiyomiError

Z95 = 1.959963984540054  # the normal distribution's 97.5 % point


@dataclass(frozen=True)
class Interval:
    """A value and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(successes: int, n: int, z: float = Z95) -> Interval:
    """A rate with Wilson's score interval (Wilson 1927): right at 0 and n, where the textbook's has no width."""
    if not 0 <= successes <= n or n == 0:
        raise SakiyomiError(f"{successes} successes of {n} trials: expected 0 <= successes <= n, n at least 1")
    rate = successes / n
    center = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    # Rounding may put an end a hair on the wrong side of a rate of 0 or 1.
    return Interval(rate, min(rate, max(0.0, center - half)), max(rate, min(1.0, center + half)))


def bootstrap(
    values: np.ndarray, statistic: Callable[..., np.ndarray] = np.mean, draws: int = 1000, seed: int = 0
) -> Interval:
    """A mean (or np.median) with its percentile bootstrap interval (Efron 1979); `values` [n]."""
    values = np.asarray(values, float)
    if values.ndim != 1 or len(values) == 0:
        raise SakiyomiError(f"a bootstrap needs at least one value in a row, got shape {list(values.shape)}")
    picks = np.random.default_rng(seed).integers(0, len(values), (draws, len(values)))
    low, high = np.percentile(statistic(values[picks], axis=1), (2.5, 97.5))
    return Interval(float(statistic(values)), float(low), float(high))


def student(values: np.ndarray) -> Interval:
    """A mean with Student's interval (1908), for few values such as one of each seed; `values` [n], n at least 2."""
    values = np.asarray(values, float)
    if values.ndim != 1 or len(values) < 2:
        raise SakiyomiError(f"Student's interval needs at least two values in a row, got shape {list(values.shape)}")
    mean, n = float(values.mean()), len(values)
    half = float(stdtrit(n - 1, 0.975) * values.std(ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half)
