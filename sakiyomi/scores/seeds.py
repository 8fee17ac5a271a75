"""What several trainings of one setting say together: scores over seeds, and how often a training is good enough."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sakiyomi.errors import SakiyomiError, unknown
from sakiyomi.scores.protocol import Score
from sakiyomi.scores.statistics import student, wilson

SURE = 0.95  # how sure to be of a good training after so many


@dataclass(frozen=True)
class OverSeeds:
    """One score of one setting over its seeds."""

    mean: Score
    """Its interval is over seeds; None where there is one seed. `protocol.n` is the trials of all seeds together."""
    values: dict[str, float]
    """Seed -> value; a seed may lack a score."""


def over_seeds(runs: Mapping[int, Mapping[str, Score]]) -> dict[str, OverSeeds]:
    """Every score's mean over the seeds that have it.

    The interval is Student's over seeds. Of a rate of trials it is no narrower than Wilson's over all trials together:
    five seeds without a failure do not say that there are none. Raises SakiyomiError where seeds were measured under
    two protocols, their number of trials apart.
    """
    names = dict.fromkeys(name for scores in runs.values() for name in scores)
    return {name: _over_seeds(name, {s: one[name] for s, one in runs.items() if name in one}) for name in names}


def _over_seeds(name: str, scores: Mapping[int, Score]) -> OverSeeds:
    first, trials = next(iter(scores.values())), sum(score.protocol.n for score in scores.values())
    for seed, score in scores.items():
        if replace(score.protocol, n=0) != replace(first.protocol, n=0):
            raise SakiyomiError(f"{name} of seed {seed} was measured otherwise than of the others; evaluate them alike")
    values = {str(seed): score.value for seed, score in scores.items()}
    protocol = replace(first.protocol, n=trials, interval="none: one seed")
    if len(values) == 1:
        return OverSeeds(replace(first, low=None, high=None, protocol=protocol), values)
    found = student(np.array(list(values.values())))
    low, high, told = found.low, found.high, f"Student's t over {len(values)} seeds"
    if first.protocol.interval.startswith("wilson"):
        pooled = wilson(sum(round(score.value * score.protocol.n) for score in scores.values()), trials)
        low, high = max(0.0, min(low, pooled.low)), min(1.0, max(high, pooled.high))
        told += f", no narrower than Wilson's of all {trials} trials"
    protocol = replace(protocol, interval=f"{told}, 95 %")
    return OverSeeds(Score(name, found.value, low, high, first.unit, protocol), values)


@dataclass(frozen=True)
class Rule:
    """When a training is good enough: a score and its bound."""

    score: str
    sign: str
    bound: float

    def __str__(self) -> str:
        return f"{self.score} {self.sign} {self.bound:g}"

    def holds(self, scores: Mapping[str, Score]) -> bool:
        """A run without this score is not good enough."""
        if self.score not in scores:
            return False
        value = scores[self.score].value
        return value <= self.bound if self.sign == "<=" else value >= self.bound


def rule(text: str) -> Rule:
    """'success/untaught>=0.9' or 'following/untaught<=3'. Raises SakiyomiError for anything else."""
    found = re.fullmatch(r"\s*(\S+?)\s*(<=|>=)\s*([-+.\deE]+)\s*", text)
    try:
        if found:
            return Rule(found[1], found[2], float(found[3]))
    except ValueError:
        pass
    raise SakiyomiError(f"--good {text!r} is no rule; write a score and its bound: 'success/untaught>=0.9'")


@dataclass(frozen=True)
class Reliability:
    """How far one training can be relied on."""

    rule: str
    good: int
    n: int
    probability: float
    """That one training is good enough, with Wilson's 95 % interval."""
    low: float
    high: float
    needed: int | None
    """Trainings after which one is good enough with 95 % probability; None where no number is known to do."""
    needed_most: int | None
    """The same at the interval's lower end."""


def reliability(rules: Sequence[Rule], runs: Mapping[int, Mapping[str, Score]]) -> Reliability:
    """How many runs keep all rules. Raises SakiyomiError for a score that no run has."""
    names = sorted({name for scores in runs.values() for name in scores})
    for one in rules:
        if one.score not in names:
            raise unknown("score in --good", one.score, names)
    good = sum(all(one.holds(scores) for one in rules) for scores in runs.values())
    found = wilson(good, len(runs))
    most = needed(found.low)
    said = " and ".join(map(str, rules))
    return Reliability(said, good, len(runs), found.value, found.low, found.high, needed(found.value), most)


def needed(p: float) -> int | None:
    """The least k with 1 - (1 - p)^k of at least 95 %."""
    if p <= 0:
        return None
    return 1 if p >= SURE else math.ceil(math.log(1 - SURE) / math.log1p(-p))
