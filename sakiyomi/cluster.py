"""What is done on many cores or machines at once: Ray's tasks, and nothing more.

    pip install 'sakiyomi[cluster]'
    sakiyomi sweep pick-small --seeds 5 --address HOST:6379    # a cluster there is: `ray start --head` on one machine

Without an address Ray is started for this one call, on this machine and for it alone: nothing listens on an address
that others can reach, nothing is told to anybody, nothing is left behind.
"""

import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sakiyomi.data.formats.importing import library
from sakiyomi.errors import SakiyomiError, at_least

RETRIES = 3  # so often a task whose worker died is begun again
FAREWELL = 60.0  # s: so long a task may take to finish its step after Ctrl-C
OBJECTS = 256 * 2**20  # bytes of results on their way; Ray's own choice is a third of the memory

# Read when Ray is imported.
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
# The first makes Ray use the loopback address, as it does on a Mac (its `_node_ip_address` would turn 127.0.0.1 into
# an address that others reach). Others on this machine must know the token, made below, to run anything.
ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}


@dataclass(frozen=True)
class Need:
    """What one task takes of a machine."""

    cpus: int = 1
    gpus: float = 0


@dataclass(frozen=True)
class Failed:
    """What came in place of a result."""

    error: str


@dataclass(frozen=True)
class Workers:
    """A running Ray. `cores` and `gpus` are those of all its machines."""

    ray: Any
    cores: int
    gpus: float


def there() -> bool:
    """Ray is installed."""
    return find_spec("ray") is not None


@contextlib.contextmanager
def workers(count: int = 0, address: str = "") -> Iterator[Workers]:
    """Ray within this block: so many workers on this machine (0: one a core), or the cluster at `address` (HOST:PORT,
    or `auto`). Raises SakiyomiError where Ray is not installed, does not start, or nobody answers."""
    at_least("--workers", count, 0)
    if address and address != "auto":
        reach(address)
    os.environ.update(QUIET)
    if not address and "ray" not in sys.modules:
        os.environ.update({**ALONE, "RAY_AUTH_TOKEN": secrets.token_hex(32)})
    logging.getLogger("ray").setLevel(logging.ERROR)
    ray = library("ray", "cluster")
    with contextlib.ExitStack() as stack:
        asked = {"address": address} if address else on_this_machine(count, stack)
        stack.callback(ray.shutdown)
        try:
            ray.init(log_to_driver=False, configure_logging=False, **asked)
        except Exception as error:  # they are of many types
            told = " ".join(str(error).split())
            raise SakiyomiError(f"Ray {'lets nobody in' if address else 'does not start'}: {told}") from error
        with contextlib.suppress(ValueError):  # not the main thread: signals do not come there
            before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray's own would abort
            stack.callback(signal.signal, signal.SIGTERM, before or signal.SIG_DFL)
        has = ray.cluster_resources()
        yield Workers(ray, int(has.get("CPU", 1)), has.get("GPU", 0.0))


def on_this_machine(count: int, stack: contextlib.ExitStack) -> dict[str, Any]:
    """How Ray is started for this process alone. What it writes is removed with the `stack`."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "address": "local",  # even where RAY_ADDRESS names a cluster
        "num_cpus": count or cores,
        "include_dashboard": False,
        "object_store_memory": OBJECTS,
        "_temp_dir": folder,
    }


def reach(address: str) -> None:
    """Raises SakiyomiError unless somebody listens there: Ray would try for more than a minute."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError) as error:
        raise SakiyomiError(
            f"no Ray cluster answers at {address!r} ({error}); --address takes HOST:PORT of the machine on which "
            "`ray start --head` was called, or auto; leave it out to use this machine alone"
        ) from error


def results(
    on: Workers, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], need: Need
) -> Iterator[tuple[int, Any]]:
    """Call `function` with each of `arguments`, as many at a time as there is room for; (number, result) as they come,
    `Failed` where it raised or its worker died again and again. Whoever stops listening (Ctrl-C) stops the tasks,
    each as Ctrl-C would."""
    ray = on.ray
    for flag, what, asked, there in (("threads", "cores", need.cpus, on.cores), ("gpus", "GPUs", need.gpus, on.gpus)):
        at_least(f"--{flag}", asked, 0)
        if asked > there:  # Ray would wait for a machine that has them
            raise SakiyomiError(f"--{flag} {asked:g}: a run would take {asked:g} of {there:g} {what}")
    task = ray.remote(num_cpus=need.cpus, num_gpus=need.gpus, max_retries=RETRIES)(function)
    waiting = {task.remote(*words): number for number, words in enumerate(arguments)}
    try:
        while waiting:
            for done in ray.wait(list(waiting), num_returns=1)[0]:
                number = waiting.pop(done)
                try:
                    result = ray.get(done)
                except ray.exceptions.RayTaskError as error:
                    cause = error.cause or error
                    result = Failed(f"{type(cause).__name__}: {cause}")
                except ray.exceptions.RayError as error:
                    result = Failed(f"its worker died {RETRIES + 1} times: {error}")
                yield number, result
    finally:
        for left in waiting:
            ray.cancel(left)
        if waiting:
            ray.wait(list(waiting), num_returns=len(waiting), timeout=FAREWELL)


def stand_in(place: Path) -> None:
    """Make `place`, where the command was called, this worker's own, so that paths mean the same. Raises SakiyomiError
    on a machine that does not have it."""
    try:
        os.chdir(place)
    except OSError as error:
        raise unseen(place) from error


def unseen(what: str | Path) -> SakiyomiError:
    return SakiyomiError(
        f"the worker on {socket.gethostname()} cannot see {what}: run folders and recordings must lie on storage that "
        "all machines mount at the same path, or the recordings at an address (--data.store s3://bucket/name)"
    )
