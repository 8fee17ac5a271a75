"""`sakiyomi prepare check STORE`: what is wrong with recordings, before they cost a day of training.

sakiyomi prepare check data/pick
sakiyomi prepare check data/mine --repair data/mended

A table in the terminal, a page with the frames and curves concerned, and an exit status for scripts: 0 when nothing is
wrong (there may be notes), 1 when something is, 2 when it could not be checked (no store there, a wrong argument).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import tyro
from rich.markup import escape
from rich.table import Table

from sakiyomi.data.doctor import Diagnosis, Finding, Tolerances, examine
from sakiyomi.data.doctor.findings import listed
from sakiyomi.data.doctor.repair import Repaired, repair
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.errors import SakiyomiError, Unreachable
from sakiyomi.run import console, progress_bar
from sakiyomi.views.doctor_page import write_page

TOLD = 12  # episodes of which a repair is told line by line


@dataclass(frozen=True)
class Check:
    """Look for what is wrong with the recordings in a store, before it costs a day of training."""

    store: tyro.conf.Positional[str] = ""
    """Folder of the episode store, or its address."""
    out: str = ""
    """The page; runs/check/NAME.html if not given."""
    repair: str = ""
    """Folder of a new store with what can safely be mended; none is written if not given. The old one is only read."""
    tolerances: Tolerances = field(default_factory=Tolerances)


@dataclass(frozen=True)
class Checked:
    """What came of it. `repaired` and `again`, the new store and what is still wrong with it, where one was asked."""

    diagnosis: Diagnosis
    page: Path
    """On `diagnosis`, not on the repaired store."""
    repaired: Repaired | None = None
    again: Diagnosis | None = None

    @property
    def status(self) -> int:
        """0 when no problem was found, or none is left in the repaired store; else 1."""
        return 1 if (self.again or self.diagnosis).problems else 0


class Unreadable(SakiyomiError):
    """A check that could not be made: no store there, a wrong argument, a full disk."""

    status = 2


class Unhealthy(SakiyomiError):
    """A store that was looked at, and something is wrong with it."""

    status = 1


def check(how: Check) -> Checked:
    """Look, print a table, write the page, and repair where that was asked.

    Raises Unreadable when there is no store, and SakiyomiError when the place of the repair is taken.
    """
    if not how.store:
        raise Unreadable("no store given: sakiyomi prepare check FOLDER")
    try:
        store = EpisodeStore(how.store)
    except SakiyomiError as error:
        raise Unreadable(str(error)) from error
    if how.repair and Path(how.repair).exists():
        raise SakiyomiError(f"{how.repair} exists; a repair writes a new store: name another folder, or remove it")
    name = Path(how.store).resolve().name
    page = Path(how.out or f"runs/check/{name}.html")
    if page.is_dir():
        raise SakiyomiError(f"--out is {page}, a folder; name the file of the page, such as {page / name}.html")
    diagnosis = _examine(store, how.tolerances)
    _print(diagnosis.findings)
    speed = diagnosis.frames / max(diagnosis.seconds, 1e-9)
    looked = f"{len(store.entries)} episodes, {diagnosis.frames} frames, {speed:,.0f} a second"
    console.print(f"{how.store}: {counted(diagnosis)} in {looked}", markup=False)
    write_page(page, name, store, diagnosis)
    console.print(f"{page} shows them", markup=False)
    if not how.repair:
        return Checked(diagnosis, page)
    with progress_bar("repairing", 1) as bar:
        repaired = repair(store, diagnosis, Path(how.repair), lambda done, total: bar.of(done, total, "repairing"))
    _tell(repaired)
    again = _examine(repaired.store, how.tolerances)
    _print(again.findings)
    console.print(f"{how.repair}: {counted(again)} left", markup=False)
    return Checked(diagnosis, page, repaired, again)


def _print(findings: tuple[Finding, ...]) -> None:
    """One line a finding."""
    if not findings:
        return
    table = Table("", "kind", "what was found", "what to do")
    for finding in findings:
        table.add_row(finding.severity, finding.kind, escape(finding.told), finding.advice)
    console.print(table)


def counted(diagnosis: Diagnosis) -> str:
    """'2 problems and 1 note'."""
    problems, notes = len(diagnosis.problems), len(diagnosis.findings) - len(diagnosis.problems)
    return f"{problems} problem{'s' * (problems != 1)} and {notes} note{'s' * (notes != 1)}"


def unless_healthy(checked: Checked, how: Check) -> None:
    """Raises Unhealthy, which ends a command with status 1, when there are problems."""
    if checked.status:
        where = how.repair or how.store
        raise Unhealthy(f"{where}: {counted(checked.again or checked.diagnosis)}; {checked.page} shows what was found")


def _examine(store: EpisodeStore, tolerances: Tolerances) -> Diagnosis:
    """Raises Unreadable when a far store cannot be reached any more."""
    try:
        with progress_bar("checking", 1) as bar:
            return examine(store, tolerances, lambda done, total: bar.of(done, total, "checking"))
    except Unreachable as error:
        raise Unreadable(str(error)) from error


def _tell(repaired: Repaired) -> None:
    """What was done, episode by episode, of the first few."""
    if not (repaired.everywhere or repaired.left_out or repaired.done):
        console.print("nothing could be mended; the new store is a copy")
    for told in repaired.everywhere:
        console.print(f"everywhere: {told}", markup=False)
    for reason, ids in _grouped(repaired.left_out).items():
        console.print(f"left out, {reason}: {listed(tuple(ids))}", markup=False)
    for number, (id, done) in enumerate(repaired.done.items()):
        if number == TOLD:
            console.print(f"and {len(repaired.done) - TOLD} episodes more; each says so in its meta", markup=False)
            break
        console.print(f"{id}: {'; '.join(done)}", markup=False)


def _grouped(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for id, reason in reasons.items():
        groups.setdefault(reason, []).append(id)
    return groups
