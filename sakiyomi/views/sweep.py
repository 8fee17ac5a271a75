"""What a sweep found: in the terminal, and as a page."""

from pathlib import Path

from rich.table import Table

from sakiyomi.run import console
from sakiyomi.scores.protocol import Score
from sakiyomi.scores.seeds import Reliability
from sakiyomi.sweep import Setting, Swept
from sakiyomi.views.report import Section, number, score_text, write_report
from sakiyomi.views.report import Table as PageTable

HEADER = ("score", "setting", "mean", "95 % over seeds", "seeds", "n", "each seed")
SCALES = ("train.losses", "train.keep", "data.")  # fields that change what validation measures


def print_swept(found: Swept) -> None:
    """Every score of every setting, best runs, and how far one training can be relied on."""
    shown = [name for name in HEADER[:-1] if name != "setting" or len(found.settings) > 1]
    table = Table()
    for name in shown:
        table.add_column(name, no_wrap=name == "score", overflow="fold")
    for row in rows(found):
        table.add_row(*(cell for name, cell in zip(HEADER, row, strict=True) if name in shown))
    console.print(table)
    for line in words(found):
        console.print(line, markup=False, soft_wrap=True)


def rows(found: Swept) -> list[tuple[str, ...]]:
    """By score, so that settings stand side by side. n: trials (or windows) of all seeds together."""
    names = dict.fromkeys(name for setting in found.settings.values() for name in setting.scores)
    out = []
    for name in names:
        for label, setting in found.settings.items():
            if name in setting.scores:
                one = setting.scores[name]
                scale, percent = (100, " %") if one.mean.unit == "rate" else (1, "")
                each = " ".join(number(scale * value) for value in one.values.values()) + percent
                mean, between = score_text(one.mean)
                if one.mean.unit != "1":  # which score_text does not write
                    between = between.removesuffix(f" {one.mean.unit}")
                counts = (str(len(one.values)), str(one.mean.protocol.n))
                out.append((name, label, mean, between, *counts, each))
    return out


def words(found: Swept) -> list[str]:
    """What is to be said of each setting, a line each; and which run is the best of all, where that can be said."""
    out = []
    every = {run: value for setting in found.settings.values() for run, value in setting.validation.items()}
    varied = [name for name, values in found.fields.items() if len(values) > 1]
    if len(found.settings) > 1 and every and not any(name.startswith(SCALES) for name in varied):
        best = min(every, key=lambda run: every[run])
        out.append(f"the best run of all is {best}, by its validation ({every[best]:.3e})")
    for label, setting in found.settings.items():
        if setting.best:
            out.append(f"{label}: the best run is {setting.best}, by its validation ({picked(setting)})")
        out += [f"{label}: {said(one)}" for one in setting.reliability]
    if found.failed:
        out.append(f"failed: {', '.join(found.failed)}")
    return out


def picked(setting: Setting) -> str:
    return f"{setting.validation[setting.best]:.3e}, the lowest of {len(setting.validation)}; no score had a part in it"


def said(one: Reliability) -> str:
    """'4 of 5 trainings have ...; one suffices with probability ...; two for one that does'."""
    chance = f"one training suffices with a probability of {one.probability:.0%} ({one.low:.0%} to {one.high:.0%})"
    enough = "no number of trainings is known to do" if one.needed is None else trainings(one.needed)
    most = "" if one.needed_most in (None, one.needed) else f" (with the lower end: {trainings(one.needed_most)})"
    return f"{one.rule}: {one.good} of {one.n} trainings; {chance}; for one that does with 95 %: {enough}{most}"


def trainings(count: int | None) -> str:
    return f"{count} training{'' if count == 1 else 's'}"


def report_swept(found: Swept, path: Path) -> Path:
    """The page; returns its path."""
    settings, runs = len(found.settings), len(found.finished)
    lead = (
        f"{found.preset}, trained {runs} times from {found.seeds} seeds in {settings} "
        f"setting{'' if settings == 1 else 's'}: what one training may be expected to give. "
        "Intervals are over seeds: of Student's t, and of rates no narrower than Wilson's of all trials together."
    )
    fields = "; ".join(f"{name} {', '.join(values)}" for name, values in found.fields.items())
    sections = (
        Section("What to rely on", "\n\n".join([*words(found), f"Fields: {fields}."])),
        Section("Every setting", "", table=PageTable(HEADER, tuple(rows(found)))),
    )
    scores = means(found) if settings == 1 else {}
    write_report(path, f"Sakiyomi: {found.preset} from {found.seeds} seeds", lead, scores, sections)
    return path


def means(found: Swept) -> dict[str, Score]:
    return {name: one.mean for setting in found.settings.values() for name, one in setting.scores.items()}
