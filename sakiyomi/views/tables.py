"""Scores in the terminal."""

from rich.table import Table

from sakiyomi.run import console
from sakiyomi.scores.protocol import Difference, Score
from sakiyomi.views.report import number


def print_scores(scores: dict[str, Score]) -> None:
    """One line a score, with its interval and what it was measured on."""
    table = Table("score", "value", "95 %", "unit", "n", "data")
    for name, score in scores.items():
        p = score.protocol
        table.add_row(name, number(score.value), interval(score), score.unit, str(p.n), p.data)
    console.print(table)


def print_differences(a: str, b: str, differences: list[Difference]) -> None:
    """Two runs side by side; 'apart' where the intervals do not touch."""
    table = Table("score", a, b, "unit", "")
    for d in differences:
        left, right = (f"{number(s.value)} {interval(s)}" for s in (d.a, d.b))
        table.add_row(d.name, left, right, d.a.unit, "apart" if d.apart else "")
    console.print(table)


def interval(score: Score) -> str:
    return "" if score.low is None or score.high is None else f"{number(score.low)} to {number(score.high)}"
