"""One episode in memory, as the checks look at it: numbers as channels [T, C], pictures thinned out to a grid.

Pictures are read a few at a time and only every n-th pixel is kept, so that an episode of any size fits.
"""

from dataclasses import dataclass, field

import numpy as np

from sakiyomi.data.doctor.findings import listed
from sakiyomi.data.episodes import Entry, EpisodeStore, Kind, Stream

STATE: tuple[Kind, ...] = ("joints", "pose", "motion")
"""What is measured of a body: it moves smoothly and never stands perfectly still."""
NUMBERS: tuple[Kind, ...] = (*STATE, "action", "scalar")
GRID = 32  # pixels a side at most that are looked at
PIXELS = 2**24  # bytes of pictures that are read at a time


@dataclass(frozen=True)
class Recording:
    """One episode. `numbers` float64 [T, C] and `pictures` uint8 [T, h, w, colours] by stream; `times` float64 [T] s.
    Sound, labels and tokens are in `others` as they are stored."""

    id: str
    split: str
    times: dict[str, np.ndarray]
    numbers: dict[str, np.ndarray] = field(default_factory=dict)
    pictures: dict[str, np.ndarray] = field(default_factory=dict)
    others: dict[str, np.ndarray] = field(default_factory=dict)


def read(store: EpisodeStore, entry: Entry) -> Recording:
    """Raises SakiyomiError for a damaged file."""
    recording = Recording(entry.id, entry.split, {name: store.times(entry.id, name) for name in store.streams})
    for name, stream in store.streams.items():
        if stream.kind == "image" and len(stream.shape) == 3 and stream.dtype == "uint8":
            recording.pictures[name] = thinned(store, entry, name, stream)
            continue
        values = store.values(entry.id, name)
        if stream.kind in NUMBERS:
            recording.numbers[name] = values.reshape(len(values), -1).astype(np.float64)
        else:
            recording.others[name] = values
    return recording


def thinned(store: EpisodeStore, entry: Entry, name: str, stream: Stream) -> np.ndarray:
    """Every n-th pixel of every picture, [T, h, w, colours]; none is mixed with another, so equal stays equal."""
    height, width, colours = stream.shape
    rows, columns = -(-height // GRID), -(-width // GRID)
    count = len(store.times(entry.id, name))
    step = max(1, PIXELS // (height * width * colours))
    parts = [
        store.values(entry.id, name, start, min(start + step, count))[:, rows // 2 :: rows, columns // 2 :: columns]
        for start in range(0, count, step)
    ]
    return np.concatenate(parts)


def finite(values: np.ndarray) -> np.ndarray:
    """The same with 0 for what is NaN or infinite."""
    return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


def channel_names(stream: Stream, width: int) -> tuple[str, ...]:
    """Of the C channels of a stream, by their number where they have no name."""
    return stream.names if len(stream.names) == width else tuple(str(index) for index in range(width))


def channels_told(names: tuple[str, ...], stream_name: str, stream: Stream) -> str:
    """'j1 and j2 of joints' in a sentence; 'channels 0, 3 of value' without names; of a single channel the stream."""
    width = int(np.prod(stream.shape))
    if width == 1 and len(stream.names) != width:
        return stream_name
    word = "" if len(stream.names) == width else "channel " if len(names) == 1 else "channels "
    return f"{word}{listed(names)} of {stream_name}"


@dataclass(frozen=True)
class Run:
    """Steps `first` to `last`, both included: frame first repeats frame first - 1."""

    first: int
    last: int

    @property
    def length(self) -> int:
        return self.last - self.first + 1


def runs(still: np.ndarray) -> tuple[Run, ...]:
    """Stretches where `still` [T - 1] (step t leads from frame t to t + 1) holds; frames are counted from 0."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], still.astype(np.int8), [0]))))
    return tuple(Run(int(a) + 1, int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True))
