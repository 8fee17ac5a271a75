"""Where a recorder's samples come from: a Python function that yields them, or a program that writes them.

    sakiyomi prepare record my_robot.py:frames --rate 30 --out data/mine
    sakiyomi prepare record --command "python camera.py" --out data/mine

A **function** returns an iterator. It yields samples: a dict {stream: value}, or a tuple (stream, value, time), time in
seconds of the device's own clock, or (stream, value). "keep", "discard" or "end" end an episode; a dict {"end": "keep",
"meta": {...}} says more about it; None is nothing. Before its first sample it may yield {"streams": {...}} as below;
if it does not, its first sample is a dict that has every stream, and `--rate` says how often.

A **program** writes the same to its standard output, one line of JSON each:

    {"streams": {"joints": {"kind": "joints", "shape": [2], "dtype": "float32", "rate": 100, "unit": "rad",
                            "names": ["j1", "j2"]},
                 "image": {"kind": "image", "shape": [64, 64, 3], "dtype": "uint8", "rate": 30}}}
    {"stream": "joints", "time": 12.345, "value": [0.1, 0.2]}
    {"stream": "image", "value": {"png": "iVBORw0..."}}
    {"stream": "image", "value": {"raw": "AAEC..."}}
    {"end": "keep", "meta": {"success": true}}

`raw` is the array's bytes (little endian, last axis fastest), `png` a PNG or JPEG file, both in base64. Without "time"
a sample's time is when it came: a program must flush each line (for Python's `print` that is seen to). It ends with
status 0 when there is no more.
"""

import base64
import binascii
import contextlib
import copy
import importlib
import importlib.util
import math
import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np

from sakiyomi.data.devices import PATIENCE, DeviceGone, End, Event, Ticks
from sakiyomi.data.episodes import Kind, Stream
from sakiyomi.data.formats.importing import picture
from sakiyomi.data.recorder import BadSample, Sample
from sakiyomi.errors import SakiyomiError, unknown

WAITING = 256  # samples that may wait to be written; more, and the device waits
STARTING = 60.0  # s, the longest time until the first word
LONGEST_LINE = 1 << 26  # bytes
ENDS = {"keep": True, "discard": False, "end": None}
KINDS: dict[str, Kind] = {"joints": "joints", "command": "joints", "action": "action"}


@dataclass(frozen=True)
class _Last:
    """The last thing that comes: there is no more, or why."""

    why: str = ""


class Feed:
    """A device that sends by itself. Its items are fetched in a thread, which notes when each came; what they mean is
    found out here."""

    def __init__(
        self,
        name: str,
        items: Iterator[Any],
        timeout: float,
        rate: float = 0.0,
        ticks: Ticks | None = None,
        stop: Callable[[], object] = lambda: None,
    ) -> None:
        self._name, self._timeout, self._ticks, self._stop = name, timeout, ticks, stop
        self._queue: queue.Queue[tuple[float, Any]] = queue.Queue(WAITING)
        self._closing, self._ending = threading.Event(), False
        self._heard = time.monotonic()
        self._thread = threading.Thread(target=self._fetch, args=(items,), daemon=True)
        self._thread.start()
        try:
            self._first, self.streams = self._open(rate)
        except BaseException:
            self.close()
            raise
        self.origin: dict[str, Any] = {"source": "device"}  # its name may change, its streams may not

    def resume(self, metas: Sequence[Mapping[str, Any]]) -> None:
        """It goes its own way."""

    def events(self) -> Iterator[Event]:
        first, self._first = self._first, None
        if first is not None:
            yield from self._meaning(*first)
        while True:
            if self._ending:
                self._ending = False
                yield End()
            item = self._next()
            if item is None:
                yield None
                continue
            if isinstance(item[1], _Last):
                if item[1].why:
                    raise DeviceGone(f"{self._name} {item[1].why}")
                return
            yield from self._meaning(*item)

    def end(self) -> None:
        self._ending = True

    def skip(self) -> bool | None:
        self._heard, goes_on = time.monotonic(), None  # to wait for somebody's answer is not to wait for the device
        while not self._queue.empty() and not isinstance(self._queue.queue[0][1], _Last):
            said = _decoded(self._queue.get_nowait()[1])
            goes_on = not _ends(said)
        return goes_on

    def told(self) -> str:
        return self._ticks.told() if self._ticks else ""

    def close(self) -> None:
        self._closing.set()
        self._stop()
        while not self._queue.empty():
            self._queue.get_nowait()  # so that the thread is not stuck with its next item
        # What a function does in the end is waited for; one that never comes back ends with the process.
        self._thread.join(max(0.5, self._heard + self._timeout - time.monotonic()))

    def _open(self, rate: float) -> tuple[tuple[float, Any] | None, dict[str, Stream]]:
        """The first sample if it was needed, and what the streams are."""
        item, self._heard = None, time.monotonic() + max(0.0, STARTING - self._timeout)
        while item is None:
            item = self._next()
            if item is not None and item[1] is None:
                item = None
        arrived, said = item
        if isinstance(said, _Last):
            raise DeviceGone(f"{self._name} {said.why or 'ended before its first sample'}")
        said = _decoded(said)
        if isinstance(said, BadSample):
            raise SakiyomiError(f"{self._name}, its first line: {said}")
        if isinstance(said, dict) and set(said) == {"streams"}:
            return None, declared(self._name, said["streams"])
        if isinstance(said, dict) and not {"stream", "end"} & set(said):
            return (arrived, said), inferred(self._name, said, rate)
        raise SakiyomiError(
            f"{self._name} began with {_short(said)}; first it must tell its streams, "
            '{"streams": {"joints": {"kind": "joints", "shape": [2], "dtype": "float32", "rate": 100}, ...}}'
        )

    def _next(self) -> tuple[float, Any] | None:
        try:
            item = self._queue.get(timeout=PATIENCE)
        except queue.Empty:
            silent = time.monotonic() - self._heard
            if silent > self._timeout:
                raise DeviceGone(f"{self._name} has sent nothing for {silent:.1f} s (--timeout)") from None
            return None
        self._heard = time.monotonic()
        return item

    def _meaning(self, arrived: float, said: Any) -> Iterator[Event]:
        said = _decoded(said)
        if said is None or isinstance(said, BadSample):
            yield said
        elif isinstance(said, str) and said in ENDS:
            yield End(ENDS[said])
        elif isinstance(said, dict) and "end" in said:
            yield _end(said)
        elif isinstance(said, dict) and "stream" in said and "value" in said:
            yield self._sample(arrived, said["stream"], said["value"], said.get("time"))
        elif isinstance(said, Mapping):
            for stream, value in said.items():
                yield self._sample(arrived, stream, value, None)
        elif isinstance(said, tuple) and len(said) in (2, 3):
            yield self._sample(arrived, said[0], said[1], said[2] if len(said) == 3 else None)
        else:
            yield BadSample(f"{_short(said)} is no sample: a dict, or (stream, value, time), or 'keep' or 'discard'")

    def _sample(self, arrived: float, stream: Any, value: Any, stamp: Any) -> Event:
        if not isinstance(stream, str) or (stamp is not None and not isinstance(stamp, int | float | np.number)):
            return BadSample(f"{_short((stream, stamp))} are no stream and time")
        try:
            value = _unpacked(value, self.streams.get(stream))
        except SakiyomiError as error:
            return BadSample(f"a sample of stream {stream!r}: {error}")
        try:
            return Sample(stream, value, arrived, None if stamp is None else float(stamp))
        except OverflowError:
            return BadSample(f"a sample of stream {stream!r}: its time is no number of seconds")

    def _fetch(self, items: Iterator[Any]) -> None:
        """The thread."""
        last, begins = _Last(), True
        try:
            while not self._closing.is_set():
                if self._ticks and not begins:
                    self._ticks.wait()
                try:
                    item = next(items)
                except StopIteration:
                    break
                arrived = time.monotonic()
                if self._ticks and begins:  # what comes before an episode's first sample may take its time
                    self._ticks.begin()
                    self._ticks.wait()
                begins = _ends(item) or (isinstance(item, dict) and "streams" in item)
                with contextlib.suppress(Exception):  # of what is no array; the recorder will say so
                    item = copy.deepcopy(item)  # a camera may write its next picture into the same array
                self._queue.put((arrived, item))
        except SakiyomiError as error:
            last = _Last(str(error))
        except BaseException as error:
            last = _Last(_failed(error))
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
            if not self._closing.is_set():
                self._queue.put((time.monotonic(), last))


def function_device(name: str, timeout: float, rate: float) -> Feed:
    """Of `module:function` or `file.py:function`; at a `rate` over 0 it is asked so often, else as fast as it yields.

    Raises SakiyomiError for a function that cannot be found or returns no iterator.
    """
    where, _, function = name.rpartition(":")
    module = _module(where)
    if not hasattr(module, function):
        raise unknown("function", function, [n for n in vars(module) if callable(getattr(module, n)) and n[0] != "_"])
    try:
        items = iter(getattr(module, function)())
    except Exception as error:
        raise SakiyomiError(f"{name} {_failed(error)}; it takes nothing and yields") from error
    return Feed(name, items, timeout, rate, Ticks(rate) if rate else None)


def command_device(command: str, timeout: float) -> Feed:
    """A program; when the recording ends it is asked to (SIGTERM), and then made to."""
    try:
        words = shlex.split(command)
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
            bufsize=1 << 16,
            # A line that waits in Python's buffer would come late, with many others at once.
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    except (OSError, IndexError, ValueError) as error:
        raise SakiyomiError(f"{command!r} cannot be started: {error}") from error

    def stop() -> None:
        for kind in (signal.SIGTERM, signal.SIGKILL):
            try:
                process.wait(0)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(subprocess.TimeoutExpired, ProcessLookupError):
                    os.killpg(process.pid, kind)
                    process.wait(2)

    return Feed(shlex.join(words), _lines(process), timeout, stop=stop)


def declared(where: str, streams: Any) -> dict[str, Stream]:
    """What a device says its streams are. Raises SakiyomiError when it says it wrongly."""
    try:
        found = msgspec.convert(
            {name: dict(s) if isinstance(s, Mapping) else msgspec.to_builtins(s) for name, s in streams.items()},
            dict[str, Stream],
        )
    except (msgspec.ValidationError, AttributeError, TypeError) as error:
        raise SakiyomiError(f"{where} tells its streams wrongly: {error}") from error
    for name, stream in found.items():
        if not stream.rate > 0 or not math.isfinite(stream.rate):
            raise SakiyomiError(f"{where}, stream {name!r}: its rate is {stream.rate} Hz; it must be more than 0")
        try:
            kind = np.dtype(stream.dtype).kind
        except TypeError:
            kind = ""
        if kind not in tuple("biuf") or min(stream.shape, default=1) < 1:
            raise SakiyomiError(f"{where}, stream {name!r}: no array is {stream.dtype} {list(stream.shape)}")
    if not found:
        raise SakiyomiError(f"{where} tells of no stream")
    return found


def inferred(where: str, sample: Mapping[str, Any], rate: float) -> dict[str, Stream]:
    """What the streams are, by a first sample that has them all; `rate` in Hz is what is claimed of each."""
    if not rate > 0:
        raise SakiyomiError(f'{where} does not tell its streams ({{"streams": ...}}), nor --rate how often they come')
    found = {}
    for name, value in sample.items():
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise SakiyomiError(f"{where}, stream {name!r}: {_short(value)} is no array of numbers")
        kind: Kind = KINDS.get(name, "scalar")
        if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3:
            kind = "image"
        # Joints that happen to begin at whole numbers are no whole numbers.
        dtype = "float32" if array.dtype.kind == "f" or name in KINDS else str(array.dtype)
        found[name] = Stream(kind, array.shape, dtype, rate)
    if not found:
        raise SakiyomiError(f"{where}: its first sample has no stream")
    return found


def _module(where: str) -> ModuleType:
    try:
        path = Path(where)
        folder = str(path.parent.resolve() if path.suffix == ".py" else Path.cwd())
        if folder not in sys.path:
            sys.path.insert(0, folder)  # as Python does: what lies beside it may be imported
        if path.suffix != ".py":
            return importlib.import_module(where)
        if not path.exists():
            raise SakiyomiError(f"{path} does not exist; name a file: path/to/file.py:function")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules.setdefault(spec.name, module)  # where dataclasses look
        spec.loader.exec_module(module)
    except SakiyomiError:
        raise
    except Exception as error:
        raise SakiyomiError(f"{where!r} cannot be imported, it {_failed(error)}") from error
    return module


def _failed(error: BaseException) -> str:
    """What went wrong in somebody's code, and where: in which line of theirs, and in which that one called."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__ and f.filename[0] != "<"]
    places = dict.fromkeys(f"{Path(f.filename).name} line {f.lineno}" for f in (*frames[:1], *frames[-1:]))
    where = f" ({', '.join(places)})" if places else ""
    return f"failed: {type(error).__name__}: {error}{where}"


def _lines(process: "subprocess.Popen[bytes]") -> Iterator[bytes]:
    """The lines of a program, until it ends. Raises SakiyomiError if it does so other than well."""
    assert process.stdout is not None
    with process.stdout as pipe:
        while line := pipe.readline(LONGEST_LINE):
            if len(line) == LONGEST_LINE:
                raise SakiyomiError(f"sent a line of more than {LONGEST_LINE} bytes")
            if line.strip():
                yield line
    status = process.wait()
    if status:
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        raise SakiyomiError(how)


def _decoded(said: Any) -> Any:
    """A line of JSON as what it says; anything else as it is."""
    if not isinstance(said, bytes):
        return said
    try:
        decoded = msgspec.json.decode(said)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return BadSample(f"{_short(said.decode(errors='replace').strip())} is no JSON: {error}")
    if not isinstance(decoded, dict) or not {"streams", "stream", "end"} & set(decoded):
        return BadSample(f'{_short(decoded)} has neither "stream" and "value" nor "end"')
    return decoded


def _ends(said: Any) -> bool:
    """It is not a sample but the end of an episode."""
    return isinstance(said, str) or (isinstance(said, dict) and "end" in said)


def _end(said: dict[str, Any]) -> Event:
    meta = said.get("meta", {})
    if said["end"] not in ENDS or not isinstance(meta, dict):
        return BadSample(f'{_short(said)}: "end" is one of {", ".join(ENDS)}, and "meta" an object')
    return End(ENDS[said["end"]], meta)


def _unpacked(value: Any, stream: Stream | None) -> Any:
    """A value as an array, out of its packing if it is packed."""
    if stream is None or not isinstance(value, dict):
        return value
    if len(value) != 1 or next(iter(value)) not in ("raw", "png"):
        raise BadSample(f'a packed value is {{"raw": ...}} or {{"png": ...}}, got {", ".join(map(repr, value))}')
    [(how, packed)] = value.items()
    try:
        content = base64.b64decode(packed, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise BadSample(f"its {how} is no base64: {error}") from error
    if how == "png":
        return np.asarray(picture("its picture", content))
    kind = np.dtype(stream.dtype).newbyteorder("<")
    if len(content) != kind.itemsize * math.prod(stream.shape):
        raise BadSample(f"its raw has {len(content)} bytes, {stream.dtype} {list(stream.shape)} needs another number")
    return np.frombuffer(content, kind).reshape(stream.shape)


def _short(said: Any) -> str:
    told = repr(said)
    return told if len(told) <= 80 else f"{told[:77]}..."
