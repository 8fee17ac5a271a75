"""What a recorder records: a device gives samples and says where episodes end. Worlds are devices (worlds/recorded.py),
and so is whatever sends by itself (data/feeds.py)."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sakiyomi.data.episodes import Stream
from sakiyomi.data.recorder import BadSample, Sample
from sakiyomi.errors import SakiyomiError

PATIENCE = 0.05  # s, the longest time without looking at the keyboard


@dataclass(frozen=True)
class End:
    """The end of an episode."""

    keep: bool | None = None
    """What the device says about it, if anything."""
    meta: dict[str, Any] = field(default_factory=dict)


Event = Sample | End | BadSample | None  # None: nothing has come for a moment


class DeviceGone(SakiyomiError):
    """It failed, or has sent nothing for too long."""


class Device(Protocol):
    """What the recorder records."""

    streams: dict[str, Stream]
    origin: dict[str, Any]

    def resume(self, metas: Sequence[Mapping[str, Any]]) -> None:
        """What is known of the episodes that are there already."""
        ...

    def events(self) -> Iterator[Event]:
        """Samples and ends of episodes, until there is no more. Raises DeviceGone."""
        ...

    def end(self) -> None:
        """The episode is to end now; the next event but for what is underway is its End."""
        ...

    def skip(self) -> bool | None:
        """Forget what came meanwhile; is it the beginning of an episode that still goes on? None if nothing came."""
        ...

    def told(self) -> str:
        """What is to be said about the episode that ended, or nothing."""
        ...

    def close(self) -> None: ...


class Ticks:
    """A schedule of so many ticks a second that does not drift: late ones are counted, lost ones are not made up."""

    def __init__(
        self, rate: float, now: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.rate, self._now, self._sleep = rate, now, sleep
        self.late = self.lost = self.count = 0
        self.begin()

    def begin(self) -> None:
        """The next tick is now."""
        self._start, self._next = self._now(), 0

    def wait(self) -> None:
        """Sleep until the next tick."""
        due = self._start + self._next / self.rate
        while (left := due - self._now()) > 0:
            self._sleep(left)
        behind = self._now() - due
        self.late += behind > 0.5 / self.rate
        missed = math.floor(behind * self.rate)
        self.lost += missed
        self.count += 1
        self._next += 1 + missed

    def told(self) -> str:
        """In words, and begun anew."""
        told = f"{self.late} of {self.count} ticks late, {self.lost} lost, at {self.rate:g} Hz" if self.late else ""
        self.late = self.lost = self.count = 0
        return told
