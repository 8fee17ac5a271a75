"""Batches for training: windows of an episode store at the model's rate.

Which windows a step sees follows from (seed, step) alone, so that a resumed run sees what an unbroken one would.
Every batch carries a mask; episodes shorter than the longest are padded with their last values and masked out.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sakiyomi.data.episodes import Entry, EpisodeStore
from sakiyomi.data.normalize import Normalizer
from sakiyomi.data.records import latest
from sakiyomi.errors import SakiyomiError, unknown

MOST_RATE = 100  # times the recording's: more is a slip of the keyboard
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Data:
    """Where the recordings are and how they are cut."""

    store: str = "data/pick"
    """Folder of the episode store, or its address, such as s3://bucket/store."""
    steps: int = 0
    """Length of a window in steps; 0 takes whole episodes, padded and masked."""
    rate: float = 0.0
    """Steps a second the model works at; 0 takes the recording's (the stream named in `clock`)."""
    clock: str = "joints"
    """The stream whose clock and rate the steps follow."""
    episodes: int = 0
    """Use only so many training episodes, the first ones; 0 takes all."""
    stride: int = 0
    """Steps from the beginning of a window to that of the next; 0 is half a window."""
    skip_short: bool = False
    """Leave out episodes shorter than the window instead of refusing."""


@dataclass(frozen=True)
class Batch:
    """B windows of T steps, normalised. Pictures are [B, T, C, H, W]."""

    inputs: dict[str, Tensor]
    """What is seen at step t, [B, T, ...]."""
    targets: dict[str, Tensor]
    """What is to be predicted from it: for pictures the next one; for joints the command given at t where the
    store has commands, the joints at t + 1 where not."""
    mask: Tensor
    """1 where step t and its target are real, 0 in padding, [B, T]."""

    def to(self, device: torch.device) -> "Batch":
        move = {k: v.to(device, non_blocking=True) for k, v in self.inputs.items()}
        targets = {k: v.to(device, non_blocking=True) for k, v in self.targets.items()}
        return Batch(move, targets, self.mask.to(device, non_blocking=True))


@dataclass(frozen=True)
class Window:
    episode: str
    times: np.ndarray  # [T + 1] seconds
    steps: int  # T or fewer: real steps


def target_stream(store: EpisodeStore, stream: str) -> str:
    """The stream that is predicted under the name `stream`: for joints, the commands where they were recorded."""
    return "command" if stream == "joints" and "command" in store.streams else stream


def covered_streams(store: EpisodeStore, names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """For `Normalizer.fit`: each stream with the one that is predicted in its place."""
    for name in names:
        if name not in store.streams:
            raise SakiyomiError(
                f"the model reads stream {name!r}, but {store.place} has {sorted(store.streams)}; "
                "record that stream or choose a model that does without"
            )
    return {name: tuple(dict.fromkeys((name, target_stream(store, name)))) for name in names}


def training_entries(store: EpisodeStore, data: Data) -> tuple[Entry, ...]:
    """The episodes that may be learned from, and nothing else may be: windows, scales and limits come from these."""
    return store.split("train")[: data.episodes or None]


@lru_cache(maxsize=4)  # a batch may straddle two epochs
def order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The numbers of all windows in the order of one epoch, int64 [count]."""
    drawn = np.random.default_rng((seed, epoch)).permutation(count)
    drawn.flags.writeable = False  # it is handed out again and again
    return drawn


def in_turn(seed: int, step: int, batch_size: int, count: int) -> list[int]:
    """What one step sees of `count` windows: a new permutation of all each time they have all been seen."""
    positions = (divmod(position, count) for position in range(step * batch_size, (step + 1) * batch_size))
    return [int(order(seed, epoch, count)[index]) for epoch, index in positions]


def part_of(picks: list[int], rows: slice) -> list[int]:
    """These rows of a batch. Raises SakiyomiError where there is none."""
    if not picks[rows]:
        raise SakiyomiError(
            f"a batch of {len(picks)} has nothing for the part that begins with number {rows.start or 0}; a split "
            "may have less than --train.batch-size; use fewer --train.shards"
        )
    return picks[rows]


class Batches(Protocol):
    """What the loop learns from: windows of recordings, or sentences."""

    store: EpisodeStore
    steps: int
    """The longest of them."""
    rate: float

    def __len__(self) -> int: ...

    def draw(
        self, seed: int, step: int, batch_size: int, rows: slice = slice(None), device: torch.device = CPU
    ) -> Batch:
        """The training batch of one step, a function of (seed, step); `rows` takes only those of it, padded as the
        whole batch is, so that a batch may be drawn in parts. A split smaller than `batch_size` may give all it has."""
        ...

    def batch(self, picks: list[int], device: torch.device = CPU) -> Batch:
        """Those with these numbers, in this order, on `device`."""
        ...


class Windows:
    """The windows of one split, or `only` of some of its episodes. `streams` are those the model reads and predicts."""

    def __init__(
        self,
        store: EpisodeStore,
        split: str,
        data: Data,
        streams: tuple[str, ...],
        normalizer: Normalizer,
        only: tuple[str, ...] = (),
    ) -> None:
        self.store, self.streams, self.normalizer = store, streams, normalizer
        if data.clock not in store.streams:
            raise unknown("stream", data.clock, store.streams)
        recorded = store.streams[data.clock].rate
        self.rate = data.rate or recorded
        if not self.rate <= MOST_RATE * recorded:
            raise SakiyomiError(
                f"--data.rate is {data.rate:g} Hz, more than {MOST_RATE} times the {recorded:g} Hz of stream "
                f"{data.clock!r}; there is nothing in between to learn"
            )
        for name in streams:
            stream = store.streams.get(name)
            if stream and stream.kind in ("action", "motion") and self.rate != stream.rate:
                raise SakiyomiError(
                    f"stream {name!r} tells what is done in each step of {stream.rate:g} Hz; at {self.rate:g} Hz some "
                    "of it would be lost or done twice. Leave --data.rate 0, or record at the rate you want"
                )
        entries = training_entries(store, data) if split == "train" else store.split(split)
        entries = tuple(entry for entry in entries if entry.id in only) if only else entries
        self.windows = self._cut_all(entries, data)
        self.steps = max(window.steps for window in self.windows)
        # By the device as it was asked for: what is asked of "cuda" lies on "cuda:0".
        self._kept: dict[tuple[str, torch.device], Tensor] = {}

    def __len__(self) -> int:
        return len(self.windows)

    def draw(
        self, seed: int, step: int, batch_size: int, rows: slice = slice(None), device: torch.device = CPU
    ) -> Batch:
        """The training batch of one step, or `rows` of it: a new permutation of all windows each time they have all
        been seen."""
        return self.batch(part_of(in_turn(seed, step, batch_size, len(self)), rows), device)

    def batch(self, picks: list[int], device: torch.device = CPU) -> Batch:
        """The windows with these numbers, in this order, padded to the longest window of the split. They travel to
        `device` as they were recorded (a picture is a quarter of its floats) and are normalised there."""
        real = np.arange(self.steps) < np.array([[self.windows[i].steps] for i in picks])
        mask = torch.from_numpy(real.astype(np.float32))
        inputs, targets = {}, {}
        for stream in self.streams:
            target = target_stream(self.store, stream)
            values = self.normalizer.encode(stream, self._recorded(picks, stream, device))
            inputs[stream] = values[:, :-1]
            if target == stream:
                targets[stream] = values[:, 1:]
            else:
                targets[stream] = self.normalizer.encode(stream, self._recorded(picks, target, device)[:, :-1])
        return Batch(inputs, targets, mask.to(device, non_blocking=True))

    def keep(self, device: torch.device, limit: int) -> bool:
        """Keep all windows on `device`, as recorded, if they take at most `limit` bytes there: a batch is then a choice
        of numbers. Whether they do."""
        names = dict.fromkeys(n for name in self.streams for n in (name, target_stream(self.store, name)))
        values = (self.store.streams[name] for name in names)
        each = sum(math.prod(value.shape) * np.dtype(value.dtype).itemsize for value in values)
        if len(self) * (self.steps + 1) * each > limit:
            return False
        for name in names:
            first = torch.from_numpy(self._padded(self.windows[0], name))
            kept = torch.empty((len(self), *first.shape), dtype=first.dtype, device=device)
            for number, window in enumerate(self.windows):  # the host may have less memory: one at a time
                kept[number] = torch.from_numpy(self._padded(window, name))
            self._kept[name, device] = kept
        return True

    def series(self, stream: str) -> list[np.ndarray]:
        """The stream at the model's rate, one array [T + 1, ...] a window."""
        return [self._resample(window, stream) for window in self.windows]

    def _cut_all(self, entries: tuple[Entry, ...], data: Data) -> list[Window]:
        """The windows of these episodes. Raises SakiyomiError for episodes that are too short, unless those are to
        be left out and others remain."""
        least = max(1, data.steps)
        extents = {entry.id: self._extent(entry.id, data.clock) for entry in entries}
        short = [(id, total) for id, (_, total) in extents.items() if total < least]
        if short and (not data.skip_short or len(short) == len(entries)):
            id, total = short[0]
            leave = "" if data.skip_short else ", --data.skip-short to leave such episodes out"
            raise SakiyomiError(
                f"episode {id!r} of {self.store.place} has {total} steps at {self.rate:g} Hz, shorter than the window "
                f"of {least}, the first of {len(short)} too short among the {len(entries)} of split "
                f"{entries[0].split!r}; use a shorter window{leave}, or --data.steps 0 for whole episodes with masks"
            )
        whole = ((id, start, total) for id, (start, total) in extents.items() if total >= least)
        return [window for extent in whole for window in self._cut(*extent, data.steps, data.stride)]

    def _extent(self, id: str, clock: str) -> tuple[float, int]:
        """When all streams have begun, in seconds, and how many steps have a next one from there."""
        names = {clock, *(s for group in covered_streams(self.store, self.streams).values() for s in group)}
        clocks = [self.store.times(id, name) for name in names]
        start, end = max(c[0] for c in clocks), min(c[-1] for c in clocks)
        return start, int(np.floor((end - start) * self.rate + 1e-6))

    def _cut(self, id: str, start: float, total: int, steps: int, stride: int) -> list[Window]:
        """One episode's windows; `steps` 0 is one window over all of it."""
        steps = steps or total
        # The last one ends with the episode, or the end would never be learned.
        begins = [*range(0, total - steps, stride or max(1, steps // 2)), total - steps]
        return [Window(id, start + np.arange(b, b + steps + 1) / self.rate, steps) for b in begins]

    def _resample(self, window: Window, stream: str) -> np.ndarray:
        """The stream's values at the window's times, [T + 1, ...].

        Pictures, actions and tokens hold until the next value comes; measured quantities are interpolated.
        """
        clock = self.store.times(window.episode, stream)
        left = latest(clock, window.times)
        first, last = int(left[0]), int(left[-1])
        between = self.store.streams[stream].kind in ("joints", "pose", "scalar")
        values = self.store.values(window.episode, stream, first, min(last + 1 + between, len(clock)))
        left = left - first
        if not between and len(values) == len(left) and (left == np.arange(len(left))).all():
            return values  # each value once, as recorded: nothing is to be picked
        out = values[left]
        if between:
            right = np.minimum(left + 1, len(values) - 1)
            gap = np.where(right > left, clock[first + right] - clock[first + left], 1.0)
            share = np.clip((window.times - clock[first + left]) / gap, 0.0, 1.0)
            share[share < 1e-5] = 0.0
            share = share.reshape(-1, *[1] * (out.ndim - 1))
            out = (out * (1 - share) + values[right] * share).astype(np.float32)
        return out

    def _recorded(self, picks: list[int], stream: str, device: torch.device) -> Tensor:
        """The stream over some windows, [B, self.steps + 1, ...], as recorded."""
        kept = self._kept.get((stream, device))
        if kept is None:
            return self._stacked([self.windows[i] for i in picks], stream, device)
        numbers = torch.tensor(picks, pin_memory=device.type == "cuda")
        return kept.index_select(0, numbers.to(device, non_blocking=True))

    def _stacked(self, windows: list[Window], stream: str, device: torch.device) -> Tensor:
        """The stream over some windows, [B, self.steps + 1, ...], as recorded. One is in memory besides at a time:
        memory that was just used is read into several times as fast as new memory."""
        first = self._padded(windows[0], stream)
        dtype = torch.from_numpy(first[:0]).dtype
        # Pinned, so that the copy to a GPU goes on while this process does other things.
        out = torch.empty((len(windows), *first.shape), dtype=dtype, pin_memory=device.type == "cuda")
        rows = out.numpy()
        rows[0] = first
        for number, window in enumerate(windows[1:], 1):
            rows[number] = self._padded(window, stream)
        return out.to(device, non_blocking=True)

    def _padded(self, window: Window, stream: str) -> np.ndarray:
        """The stream over the window, [self.steps + 1, ...]: what is missing repeats the last value."""
        out = self._resample(window, stream)
        short = self.steps + 1 - len(out)
        return np.concatenate([out, np.repeat(out[-1:], short, axis=0)]) if short > 0 else out
