"""A score and how it was measured. Two scores of different protocols refuse to be compared."""

import math
from dataclasses import dataclass, fields
from pathlib import Path

import msgspec

from sakiyomi.errors import SakiyomiError, unknown
from sakiyomi.files import write_atomic


@dataclass(frozen=True)
class Protocol:
    """Everything that must be equal before two numbers may stand side by side."""

    data: str
    """World or data set, with its options and split."""
    counted: str
    """Which steps count, and what goes in: 'ticks 1-45', '10 frames after 2 given'."""
    rule: str
    """What is measured: a success rule, or an error's definition with its range of values."""
    n: int
    """Trials, or windows."""
    seeds: str
    """The seeds of the trials, 'first..last'."""
    best_of: int = 1
    """Samples the best of which is taken."""
    resize: str = "none"
    """How pictures were scaled before."""
    interval: str = "none"
    """How low and high were found: 'wilson 95 %', 'bootstrap 95 %', 'seeds min..max'."""


@dataclass(frozen=True)
class Score:
    """One number with its interval."""

    name: str
    value: float
    low: float | None
    high: float | None
    unit: str
    protocol: Protocol


@dataclass(frozen=True)
class Difference:
    """Two scores under one protocol."""

    name: str
    a: Score
    b: Score

    @property
    def apart(self) -> bool:
        """The intervals do not touch."""
        if self.a.low is None or self.a.high is None or self.b.low is None or self.b.high is None:
            return False
        return self.a.high < self.b.low or self.b.high < self.a.low


def compare(a: dict[str, Score], b: dict[str, Score]) -> list[Difference]:
    """Scores that both have, pairwise. Raises SakiyomiError when a pair's protocols differ, naming the fields,
    or when the two share no score."""
    shared = [name for name in a if name in b]
    if not shared:
        raise SakiyomiError(f"nothing to compare: {sorted(a)} on one side, {sorted(b)} on the other")
    for name in shared:
        left, right = a[name].protocol, b[name].protocol
        different = [f.name for f in fields(Protocol) if getattr(left, f.name) != getattr(right, f.name)]
        if different:
            details = "; ".join(f"{f}: {getattr(left, f)!r} against {getattr(right, f)!r}" for f in different)
            raise SakiyomiError(f"score {name!r} was measured under two protocols ({details}); evaluate both alike")
    return [Difference(name, a[name], b[name]) for name in shared]


def save_scores(scores: dict[str, Score], path: Path) -> None:
    """Raises SakiyomiError for a score that is no finite number: JSON has none such."""
    for name, score in scores.items():
        if not math.isfinite(score.value):
            raise SakiyomiError(f"score {name!r} is {score.value}; leave it out, or mend what it measures")
    write_atomic(path, msgspec.json.format(msgspec.json.encode(scores)))


def load_scores(path: Path) -> dict[str, Score]:
    """Raises SakiyomiError when there is no such file or it holds no scores."""
    if not path.exists():
        known = [p.parent.name for p in path.parent.parent.glob("*/scores.json")]
        raise unknown("scores of run", path.parent.name, known)
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Score])
    except msgspec.DecodeError as error:
        raise SakiyomiError(f"{path} holds no scores: {error}; evaluate again") from error
