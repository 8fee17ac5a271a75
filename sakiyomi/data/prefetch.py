"""The next step's batch is drawn in a thread while this one's is computed with.

A batch is a function of (seed, step), so what comes is bit for bit what would have been drawn when it was needed, and
there is nothing to save: a resumed run asks for its first step, and that is drawn.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

Drawn = TypeVar("Drawn")


class Ahead(Generic[Drawn]):
    """`draw(step)` of the steps before `end`, of which at most `depth` wait to be taken. Use it as a context: its
    thread ends with it, after the step at hand."""

    def __init__(self, draw: Callable[[int], Drawn], end: int, depth: int = 1) -> None:
        """`depth` 0 draws when it is asked, in the thread that asks."""
        self.draw, self.end, self.depth = draw, end, depth
        self._thread = ThreadPoolExecutor(1, "ahead")  # begins with the first thing it is given
        self._waiting: dict[int, Future[Drawn]] = {}

    def take(self, step: int) -> Drawn:
        """What `draw(step)` gives; whatever it raises is raised here, however long ago that was. Steps may be taken in
        any order: what waits in vain is forgotten."""
        if not self.depth:
            return self.draw(step)
        wanted = range(step, max(step + 1, min(step + 1 + self.depth, self.end)))
        for number in self._waiting.keys() - set(wanted):
            self._waiting.pop(number).cancel()
        for number in wanted:
            if number not in self._waiting:
                self._waiting[number] = self._thread.submit(self.draw, number)
        return self._waiting.pop(step).result()

    def close(self) -> None:
        """Forget what waits, and let the thread end."""
        self._waiting.clear()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
