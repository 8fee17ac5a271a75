"""One process of a run: its folder, device, checkpoints, log and progress bar.

    runs/NAME/job.json             what was asked for
    runs/NAME/normalizer.json      units to network range and back
    runs/NAME/limits.json          what the guard will allow, learned from the training data
    runs/NAME/weights.safetensors  the best weights on the validation split
    runs/NAME/last.safetensors     weights, optimizer and counters of the last checkpoint: what --resume reads
    runs/NAME/metrics.jsonl        one line a logged step; tensorboard/ holds the same

Every file is written whole or not at all.
"""

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor, nn

from sakiyomi.errors import SakiyomiError, unknown
from sakiyomi.files import append_line, cannot_write, write_atomic
from sakiyomi.job import ModelConfig, model_name
from sakiyomi.processor import keep_memory

console = Console(highlight=False)

Moments = dict[int, dict[str, Tensor]]
"""What an optimizer remembers, by the number of the weight and by name: Adam's `step`, `exp_avg`, `exp_avg_sq`."""


@dataclass(frozen=True)
class Checkpoint:
    """`last.safetensors`, read back."""

    step: int
    state: dict[str, Any]
    tensors: dict[str, Tensor]


class Interrupted(SakiyomiError):
    """Ctrl-C or SIGTERM, after the step at hand was finished and saved."""

    status = 130


def pick_device(name: str) -> torch.device:
    """'auto' takes a GPU where there is one. Raises SakiyomiError for a device this machine lacks."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise unknown("device", name, ("auto", "cpu", "cuda", "cuda:0"))
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise SakiyomiError(f"device {name!r} asked for, but torch sees no GPU here; use --train.device cpu")
    return torch.device(name)


def save_weights(path: Path, model: nn.Module, config: ModelConfig, state: dict[str, Any]) -> None:
    """Weights with the model's name and configuration in the file's header."""
    write_atomic(
        path, to_safetensors({k: v.contiguous() for k, v in model.state_dict().items()}, header(config, state))
    )


def weights_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """What it steps, in the order of their numbers."""
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def local_part(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Of one that is spread over several processes (`distributed.adam`) the part that is here."""
    return getattr(optimizer, "optim", optimizer)


def moments_here(optimizer: torch.optim.Optimizer) -> Moments:
    """What it remembers of each weight it has stepped, as far as that is here."""
    state = local_part(optimizer).state
    return {number: dict(state[weight]) for number, weight in enumerate(weights_of(optimizer)) if weight in state}


def save_checkpoint(path: Path, model: nn.Module, moments: Moments, config: ModelConfig, state: dict[str, Any]) -> None:
    """All that a bit-exact resume needs, in one file, so that no half of it can be older than the other."""
    tensors = {f"model.{k}": v.contiguous() for k, v in model.state_dict().items()}
    for number, values in moments.items():
        tensors |= {f"optimizer.{number}.{k}": v.contiguous() for k, v in values.items()}
    write_atomic(path, to_safetensors(tensors, header(config, state)))


def header(config: ModelConfig, state: dict[str, Any]) -> dict[str, str]:
    return {"model": model_name(config), "config": json.dumps(asdict(config)), "state": json.dumps(state)}


def load_checkpoint(path: Path, config: ModelConfig) -> Checkpoint:
    """Raises SakiyomiError for a damaged file, or one of another model or configuration."""
    found, tensors = read_tensors(path)
    check_header(path, found, config)
    state = json.loads(found["state"])
    return Checkpoint(int(state["step"]), state, tensors)


def restore(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Weights and moments, of the latter those that this process has."""
    weights = {k.removeprefix("model."): v for k, v in checkpoint.tensors.items() if k.startswith("model.")}
    model.load_state_dict(weights)
    stepped, local = weights_of(optimizer), local_part(optimizer)
    places = {weight: place for place, weight in enumerate(weights_of(local))}
    moments: Moments = {}
    for name, value in checkpoint.tensors.items():
        if name.startswith("optimizer."):
            _, number, key = name.split(".")
            weight = stepped[int(number)]
            if weight in places:
                # The fused step walks memory: moments must lie there as their weight does (channels_last).
                laid = torch.empty_like(weight, dtype=value.dtype).copy_(value) if value.ndim else value
                moments.setdefault(places[weight], {})[key] = laid
    local.load_state_dict({"state": moments, "param_groups": local.state_dict()["param_groups"]})


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    if not path.exists():
        raise SakiyomiError(f"{path} does not exist; train first (sakiyomi train NAME)")
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise SakiyomiError(f"{path} is no whole safetensors file: {error}; use another checkpoint") from error


def check_header(path: Path, found: dict[str, str], config: ModelConfig) -> None:
    """Raises SakiyomiError unless the file was written by a model of this very configuration. A field that came later
    must begin with what was done before it: older files do not name it."""
    kind, asked = model_name(config), json.loads(json.dumps(asdict(config)))  # tuples are lists in JSON
    if not {"model", "config", "state"} <= found.keys():
        raise SakiyomiError(f"{path} was not written by sakiyomi train: its header has {sorted(found)}")
    if found["model"] != kind:
        raise SakiyomiError(f"{path} holds a {found['model']}, not a {kind}")
    try:
        # What the file is too old to have is as it was then, which is what its field begins with.
        there = json.loads(json.dumps(asdict(msgspec.convert(json.loads(found["config"]), type(config)))))
    except msgspec.MsgspecError as error:
        raise SakiyomiError(f"{path}: the configuration in its header cannot be read: {error}") from error
    different = [f"{k}: {there[k]} there, {asked[k]} asked" for k in asked if there[k] != asked[k]]
    if different:
        raise SakiyomiError(f"{path} was trained with another configuration ({'; '.join(different)})")


class Log:
    """metrics.jsonl and TensorBoard. On resume, lines from after the checkpoint are dropped. Of several processes that
    train together one `writes`; to the others it is no file."""

    def __init__(self, folder: Path, start: int, writes: bool = True) -> None:
        self.path, self._board = folder / "metrics.jsonl", None
        if not writes:
            return
        kept = [r for r in read_metrics(folder) if r["step"] < start]
        write_atomic(self.path, b"".join(msgspec.json.encode(r) + b"\n" for r in kept))
        self._board = Board(folder / "tensorboard", start)

    def write(self, step: int, values: dict[str, float]) -> None:
        if self._board:
            append_line(self.path, msgspec.json.encode({"step": step, **values}))
            self._board.write(step, values)

    def close(self) -> None:
        if self._board:
            self._board.close()


class Board:
    """A TensorBoard event file, written in the calling thread: torch's SummaryWriter meets a full disk in a thread
    of its own, where nobody can say so."""

    def __init__(self, folder: Path, start: int) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Files are read in the order of their names: time first, then the process.
            self._file = (folder / f"events.out.tfevents.{time.time_ns()}.{os.getpid()}").open("wb", buffering=0)
        except OSError as error:
            raise cannot_write(folder, error) from error
        self._records = RecordWriter(self._file)
        self._put(Event(wall_time=time.time(), file_version="brain.Event:2"))
        # Tells TensorBoard to forget what an interrupted run wrote from this step on.
        self._put(Event(wall_time=time.time(), step=start, session_log=SessionLog(status=SessionLog.START)))

    def write(self, step: int, values: dict[str, float]) -> None:
        summary = Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])
        self._put(Event(wall_time=time.time(), step=step, summary=summary))

    def close(self) -> None:
        self._file.close()

    def _put(self, event: Event) -> None:
        try:
            self._records.write(event.SerializeToString())
        except OSError as error:
            raise cannot_write(Path(self._file.name), error) from error


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl; a torn last line is left out."""
    path = folder / "metrics.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [msgspec.json.decode(line) for line in lines]


@contextmanager
def finish_step_on_interrupt(*others: signal.Signals) -> Iterator[dict[str, bool]]:
    """Within it, the first Ctrl-C (or one of `others`) only sets ["asked"], so that a step is never cut in half; a
    second one kills."""
    asked = {"asked": False}

    def note(_signal: int, _frame: FrameType | None) -> None:
        if asked["asked"]:
            raise KeyboardInterrupt
        asked["asked"] = True

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, *others)}
    except ValueError:  # not the main thread: nobody can press Ctrl-C there
        yield asked
        return
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def progress_bar(title: str, total: int) -> Iterator["Bar"]:
    """A bar with time left and a changing text."""
    columns = (TextColumn("{task.description}"), BarColumn(24), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[text]}"), console=console) as progress:
        yield Bar(progress, progress.add_task(title, total=total, text=""))


class Bar:
    def __init__(self, progress: Progress, task: Any) -> None:
        self._progress, self._task = progress, task

    def update(self, done: int, text: str = "") -> None:
        self._progress.update(self._task, completed=done, text=text)

    def of(self, done: int, total: int, text: str = "") -> None:
        """Like `update`, for work that learns its total on the way."""
        self._progress.update(self._task, completed=done, total=total, text=text)


class Clock:
    """Frames a second between two readings, whatever was done in between."""

    def __init__(self) -> None:
        self._last, self._frames = time.perf_counter(), 0

    def count(self, frames: int) -> None:
        self._frames += frames

    def rate(self) -> float:
        now = time.perf_counter()
        rate = self._frames / max(now - self._last, 1e-9)
        self._last, self._frames = now, 0
        return rate


def set_threads(threads: int, processes: int = 1) -> None:
    """0 takes every core this process may use, or its share of them where `processes` do."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch.set_num_threads(threads or max(1, (available or 1) // processes))
    keep_memory()
