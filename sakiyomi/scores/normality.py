"""What is normal: where vectors lie on normal data, how large signals get there, and how far away something else is.

    normal = Normal.fit(vectors, before, place.numbers(said))
    tail = Tail.fit(normal.distance(...))
    tail.surprise(signal)  # -log10 of the chance of at least as much in normal operation

The statistics under `sakiyomi.surprise`; NumPy alone.
"""

import math
from dataclasses import dataclass

import numpy as np

FULL = 128  # numbers of a vector up to which their covariances are learned, not their variances alone
AXES, SQUARED = 32, 8  # numbers that say where the model is, at most; those of which products count, too
SMOOTH = 0.1  # deviations that are added before the logarithm: the smallest errors are chance
KNOTS = 256  # of the ranks that are kept
GIVEN = 1e-9  # of the scale: the least deviation a number counts as


@dataclass(frozen=True)
class Place:
    """Where the model says it is, in few numbers: principal components of its last prediction, and their products."""

    mean: np.ndarray
    """Of what it said, [D]."""
    axes: np.ndarray
    """[D, K], K may be 0."""
    squared: int
    """So many of the K are multiplied with each other."""

    @classmethod
    def fit(cls, said: np.ndarray) -> "Place":
        """From [N, D]; as many numbers as N can tell anything of."""
        mean, std = said.mean(0), said.std(0)
        keep = int(min(AXES, len(said) // 1000, said.shape[1]))
        scaled = (said - mean) / np.where(std > 1e-9, std, np.inf)
        _, sizes, rows = np.linalg.svd(scaled, full_matrices=False)
        keep = min(keep, int((sizes > 1e-6 * max(sizes.max(initial=0), 1e-12)).sum()))
        sizes = sizes[:keep] / math.sqrt(len(said))
        axes = rows[:keep].T / np.where(std > 1e-9, std, np.inf)[:, None] / sizes
        squared = int(min(SQUARED, keep, math.isqrt(len(said) // 500)))
        return cls(mean, axes, squared)

    def numbers(self, said: np.ndarray) -> np.ndarray:
        """[T, D] -> [T, 1 + K + squared (squared + 1) / 2]"""
        found = (said - self.mean) @ self.axes
        i, j = np.triu_indices(self.squared)
        return np.concatenate((np.ones((len(said), 1)), found, found[:, i] * found[:, j]), 1)


@dataclass(frozen=True)
class Normal:
    """Where a vector lies on normal data."""

    forecast: np.ndarray
    """Its linear forecast from what came before it, [P, F]; P 0 for none."""
    size: np.ndarray
    """The logarithm of how large each number of what is left normally is, linear in the numbers of `Place`, [Q, F]; Q 0
    where it is the same everywhere."""
    low: np.ndarray
    high: np.ndarray
    """That logarithm stays between these, [F]: what was seen on normal data."""
    mean: np.ndarray
    """Of what is left, over its size, [F]."""
    white: np.ndarray
    """What makes that white, [F, F]; of many numbers only the diagonal, [1, F]."""

    @classmethod
    def fit(cls, vectors: np.ndarray, before: np.ndarray, numbers: np.ndarray) -> "Normal":
        """From vectors [N, F], what came before each [N, P] and the numbers of its place [N, Q]."""
        width = vectors.shape[1]
        forecast = _ridge(before, vectors) if before.shape[1] else np.zeros((0, width))
        left = vectors - before @ forecast
        size, low, high = np.zeros((0, width)), np.zeros(width), np.zeros(width)
        if numbers.shape[1]:
            typical = left.std(0)
            typical = np.where(typical > 0, typical, 1.0)
            size = _ridge(numbers, np.log(np.abs(left) / typical + SMOOTH))
            low, high = np.percentile(numbers @ size, (0.1, 99.9), axis=0)
            left = left / np.exp(np.clip(numbers @ size, low, high))
        return cls(forecast, size, low, high, left.mean(0), _whitening(left))

    def whitened(self, vectors: np.ndarray, before: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """What is left of vectors, of mean 0 and covariance 1 on normal data: [T, F], [T, P], [T, Q] -> [T, F]."""
        left = vectors - before @ self.forecast
        if len(self.size):
            left = left / np.exp(np.clip(numbers @ self.size, self.low, self.high))
        left = left - self.mean
        return left * self.white[0] if len(self.white) == 1 else left @ self.white.T

    def distance(self, vectors: np.ndarray, before: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Mahalanobis, over the root of the number of dimensions: about 1 on normal data. [T, F], [T, P], [T, Q] ->
        [T]."""
        return length(self.whitened(vectors, before, numbers))


@dataclass(frozen=True)
class Tail:
    """How large a signal gets on normal data."""

    values: np.ndarray
    """Rising values of the signal, [K] ..."""
    chances: np.ndarray
    """... and log10 of the chance of at least that much, falling, [K]."""
    shape: float
    """Of the generalised Pareto distribution beyond the last one; 0 is exponential."""
    scale: float
    more: float
    """log10 of the chance of more than the last one."""

    @classmethod
    def fit(cls, signal: np.ndarray) -> "Tail":
        """From values of the signal on normal data, [N]. The largest fiftieth of them, at least 20 and at most 2000,
        give the tail, by probability-weighted moments (Hosking & Wallis 1987). Its shape is kept in 0..0.5: a tail that
        ended would call what lies beyond it impossible."""
        n = len(signal)
        beyond = int(np.clip(n // 50, 20, 2000))
        order = np.sort(np.where(np.abs(signal) < 1e-300, 0.0, signal))  # between subnormal knots slopes overflow
        start = order[-beyond - 1]
        excess = order[order > start] - start  # what is tied with `start` is not beyond it
        count = max(len(excess), 1)
        mean = excess.sum() / count
        weighted = (excess * (1 - (np.arange(len(excess)) + 0.65) / count)).sum() / count
        shape = float(np.clip(2 - mean / max(mean - 2 * weighted, 1e-12), 0.0, 0.5)) if mean > 0 else 0.0
        scale = float(mean * (1 - shape))
        ranks = np.unique(np.linspace(0, n - beyond - 1, KNOTS).astype(int))
        values = np.unique(order[ranks])  # the last is `start`
        chances = np.log10(1 - np.searchsorted(order, values, side="left") / n)  # of at least as much
        return cls(values, chances, shape, max(scale, GIVEN * max(abs(float(start)), 1e-12)), math.log10(count / n))

    def surprise(self, signal: np.ndarray) -> np.ndarray:
        """-log10 of the chance of at least so much in normal operation, 0 upwards; what is not a number is infinitely
        surprising. Any shape in and out."""
        known = np.where(signal > self.values[-1], -self.more, -np.interp(signal, self.values, self.chances))
        excess = np.maximum(signal - self.values[-1], 0.0) / self.scale
        if self.shape > 1e-6:
            more = np.log1p(self.shape * excess) / (self.shape * math.log(10))
        else:
            more = excess / math.log(10)
        return np.where(np.isnan(signal), np.inf, known + more)


def length(white: np.ndarray) -> np.ndarray:
    """Root mean square of the last axis, [..., F] -> [...]."""
    return np.sqrt(np.square(white).mean(-1))


def _ridge(read: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Linear least squares [N, P], [N, ...] -> [P, ...], held back a little (Hoerl & Kennard 1970)."""
    little = 1e-4 * len(read) * np.maximum(np.square(read).mean(0), 1e-12)
    return np.linalg.solve(read.T @ read + np.diag(little), read.T @ wanted)


def _whitening(vectors: np.ndarray) -> np.ndarray:
    """What makes vectors [N, F] white about their mean. What never moves counts as if it moved by a thousandth of the
    others."""
    apart = vectors - vectors.mean(0)
    variance = np.square(apart).mean(0)
    least = max(1e-6 * float(variance.mean()), (GIVEN * float(np.abs(vectors).max(initial=0))) ** 2, 1e-24)
    if vectors.shape[1] > FULL:
        return (1 / np.sqrt(np.maximum(variance, least)))[None]
    values, axes = np.linalg.eigh(apart.T @ apart / len(apart))
    return (axes / np.sqrt(np.maximum(values, least))).T
