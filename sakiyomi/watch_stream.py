"""`sakiyomi watch NAME --stream`: a line of numbers in, a line of JSON out, for as long as somebody sends and reads.

tail -f readings.txt | sakiyomi watch climate --stream
"""

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import numpy as np

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.errors import SakiyomiError
from sakiyomi.rollout import Trained
from sakiyomi.watch_series import WatchingSeries, calibrated


def watch_stream(
    trained: Trained, options: WatchingSeries, lines: Iterable[str], write: Callable[[str], object]
) -> None:
    """One line of numbers in (separated by commas or blanks; nothing, or nan, for a missing one), one line of JSON
    out: step, score (null while `warming`, and where a value is missing), alarm, and of an alarm the `reason`, its
    strongest signal. What is no number counts as missing and is told on standard error; memory does not grow. Raises
    SakiyomiError where the lines do not begin with values, but for one line of column names."""
    store = EpisodeStore(trained.job.data.store)
    surprise = calibrated(trained, store, options.normal, options.rate)
    watching, channels, begun, step = surprise.begin(), store.streams["value"].shape[0], False, 0
    for number, line in enumerate(lines):
        value, wrong = _numbers(line, channels)
        if wrong and not begun and number:
            raise SakiyomiError(f"line {number + 1} {wrong}: values alone are read, no stamps")
        if wrong:
            taken = "taken for missing" if begun else "taken for column names"
            sys.stderr.write(f"line {number + 1} {wrong}: {taken}\n")
        if wrong and not begun:
            continue
        begun = True
        reading, watching = surprise.step({"value": value}, watching)
        answer: dict[str, Any] = {"step": step, "score": reading.score, "alarm": reading.alarm}
        if not reading.signals and not reading.alarm:
            answer |= {"score": None, "warming": True}
        if reading.alarm:
            strongest = max(reading.signals, key=lambda name: reading.signals[name], default="")
            answer["reason"] = strongest if np.isfinite(reading.score) else "missing"
        write(msgspec.json.encode(answer).decode() + "\n")
        step += 1


def answer_standard_input(trained: Trained, options: WatchingSeries) -> None:
    """`watch_stream` from standard input to standard output, answering each line at once, until nobody reads on."""

    def write(line: str) -> None:
        sys.stdout.write(line)
        sys.stdout.flush()

    try:
        watch_stream(trained, options, sys.stdin, write)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or closing it would complain once more


def _numbers(line: str, channels: int) -> tuple[np.ndarray, str]:
    """The values of a line, and what is wrong with it, in words, if anything; missing ones are NaN."""
    missing = np.full(channels, np.nan, np.float32)
    words = [word.strip() for word in (line.split(",") if "," in line else line.split())]
    if not "".join(words):
        return missing, ""
    try:
        values = np.array([float(word) if word else np.nan for word in words], dtype=np.float32)
    except ValueError:
        return missing, f"is {line.strip()[:60]!r}, no number" + "s" * (channels > 1)
    if len(values) != channels:
        return missing, f"has {len(values)} numbers where the model reads {channels}"
    return values, ""
