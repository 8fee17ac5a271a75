"""Single keys from a terminal, without waiting for Enter.

with Keys(sys.stdin) as keys:
    while keys.take({"q"}) != ["q"]:
        ...

The terminal is given back as it was, also after an error; after `kill -9`, the command `reset` does that.
"""

import contextlib
import os
import select
import termios
import tty
from collections.abc import Collection
from types import TracebackType
from typing import TextIO

NAMES = {
    b"\x1b[A": "up",
    b"\x1b[B": "down",
    b"\x1b[C": "right",
    b"\x1b[D": "left",
    b"\x1bOA": "up",
    b"\x1bOB": "down",
    b"\x1bOC": "right",
    b"\x1bOD": "left",
    b"\r": "enter",
    b"\n": "enter",
    b" ": "space",
    b"\x7f": "backspace",
    b"\x08": "backspace",
}
KEPT = 64  # keys nobody has taken yet


class Keys:
    """What was pressed, by name: a letter (lower case), or one of NAMES. Without a terminal nothing ever is."""

    def __init__(self, terminal: TextIO | None) -> None:
        self._descriptor, self._before, self._pressed = -1, None, []
        with contextlib.suppress(OSError, ValueError, AttributeError):  # no terminal, a closed one, none at all
            descriptor = terminal.fileno() if terminal is not None else -1
            if os.isatty(descriptor):
                self._before = termios.tcgetattr(descriptor)
                self._descriptor = descriptor

    @property
    def there(self) -> bool:
        """Somebody could press one."""
        return self._descriptor >= 0

    def __enter__(self) -> "Keys":
        if self.there:
            tty.setcbreak(self._descriptor)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            with contextlib.suppress(termios.error):  # it was closed
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)

    def take(self, names: Collection[str]) -> list[str]:
        """Those of these keys that were pressed since they were last taken, in order; the others stay."""
        self._read()
        taken = [key for key in self._pressed if key in names]
        self._pressed = [key for key in self._pressed if key not in names][-KEPT:]
        return taken

    def forget(self) -> None:
        """What was pressed until now does not count."""
        self._read()
        self._pressed = []

    def _read(self) -> None:
        while self.there and select.select([self._descriptor], [], [], 0)[0]:
            try:
                content = os.read(self._descriptor, 1024)
            except OSError:
                content = b""
            if not content:  # the terminal was closed
                self._descriptor, self._before = -1, None
                return
            self._pressed += split_keys(content)


def split_keys(content: bytes) -> list[str]:
    """The names of the keys that sent these bytes; of those without a name nothing."""
    found, at = [], 0
    while at < len(content):
        size = 3 if content[at : at + 1] == b"\x1b" else 1
        key = content[at : at + size]
        letter = key.decode("ascii", "replace").lower()
        if key in NAMES:
            found.append(NAMES[key])
        elif size == 1 and letter.isalnum() and letter.isascii():
            found.append(letter)
        at += size
    return found
