"""Recorders in processes of their own, which can be killed: `start` begins one within a moment, as a fork of a process
that has imported everything."""

import multiprocessing
import os
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from sakiyomi.__main__ import main

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["sakiyomi.commands"])


@dataclass(frozen=True)
class Recording:
    """A recorder at work."""

    process: BaseProcess

    def kill(self) -> None:
        self.process.kill()

    def wait(self) -> int | None:
        self.process.join(60)
        return self.process.exitcode


def start(words: Sequence[str], log: Path, terminal: str = "", largest: int = 0) -> Recording:
    """`sakiyomi prepare record` with these words; what it says goes to `log`. Keys come from the `terminal` of this
    name; files may get so many bytes `largest`, if given."""
    log.touch()
    process = CONTEXT.Process(target=_record, args=(list(words), str(log), terminal, largest))
    process.start()
    return Recording(process)


def _record(words: list[str], log: str, terminal: str, largest: int) -> None:
    descriptor = os.open(log, os.O_CREAT | os.O_WRONLY)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    if terminal:
        sys.stdin = open(terminal)  # noqa: PTH123, SIM115
    if largest:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    sys.exit(main(["prepare", "record", *words]))
