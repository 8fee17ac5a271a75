"""What the tests of stores far away share."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sakiyomi.data import far
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.errors import SakiyomiError

IDS = ("0", "1", "2", "3", "validation")  # of the synthetic store
MINE = {"AWS_ACCESS_KEY_ID": "anybody", "AWS_SECRET_ACCESS_KEY": "anything", "AWS_DEFAULT_REGION": "us-east-1"}


def assert_same(one: EpisodeStore, other: EpisodeStore) -> None:
    assert (one.streams, one.statistics, one.origin, one.entries) == (
        other.streams,
        other.statistics,
        other.origin,
        other.entries,
    )
    for entry in one.entries:
        for stream in one.streams:
            np.testing.assert_array_equal(one.values(entry.id, stream), other.values(entry.id, stream))
            np.testing.assert_array_equal(one.times(entry.id, stream), other.times(entry.id, stream))


def said(caught: pytest.ExceptionInfo[SakiyomiError]) -> str:
    message = str(caught.value)
    assert "\n" not in message
    return message


class Sent:
    """Counts which episodes pass to or from fsspec's file systems, by the name of their file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[str] = []
        self.asked: list[tuple[str, int]] = []
        send, chunks = far.Place.send, far.Place.chunks

        def counting_send(place: far.Place, path: Path, file: str) -> None:
            self.sent.append(Path(file).stem)
            send(place, path, file)

        def counting_chunks(place: far.Place, file: str, start: int, size: int) -> Iterator[bytes]:
            self.asked.append((Path(file).stem, start))
            return chunks(place, file, start, size)

        monkeypatch.setattr(far.Place, "send", counting_send)
        monkeypatch.setattr(far.Place, "chunks", counting_chunks)
