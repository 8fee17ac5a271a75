"""Batches of tokens: sentences of like length side by side, or passages cut out of a long text.

    store streams of kind `token`: int32 ids [T]. Each sentence ends with EOS, so that the n-th sentence of one stream
    belongs to the n-th of another (a translation); a text without sentences is one run of ids.

Which sentences a step sees follows from (seed, step) alone, as with windows.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.vocabulary import BOS, EOS, PAD
from sakiyomi.data.windows import CPU, Batch, Data, in_turn, order, part_of, training_entries
from sakiyomi.errors import SakiyomiError

POOL = 64  # batches whose sentences are sorted by length together


class Sentences:
    """The sentences of one split, those of all streams that belong together as one, sorted by length.

    `reads` are streams that are read whole before the first step, and are given as they are: words, EOS, PAD. Of the
    others, step t reads the word before and predicts the next: BOS and words in, words and EOS out.
    """

    def __init__(
        self, store: EpisodeStore, split: str, data: Data, streams: tuple[str, ...], reads: tuple[str, ...] = ()
    ) -> None:
        self.store, self.streams, self.reads, self.rate = store, streams, reads, 1.0
        entries = training_entries(store, data) if split == "train" else store.split(split)
        found: dict[str, list[np.ndarray]] = {name: [] for name in streams}
        for entry in entries:
            for name in streams:
                found[name] += sentences(store.values(entry.id, name), f"{store.place}, {entry.id}, stream {name!r}")
            counts = {name: len(found[name]) for name in streams}
            if len(set(counts.values())) > 1:
                raise SakiyomiError(f"{store.place}, {entry.id}: {counts} sentences; they must belong together")
        lengths = np.array([[len(words) for words in found[name]] for name in streams])
        # By what is predicted, then by what is read: validation pads little, and in the same way each time.
        ranked = np.lexsort(lengths)
        self.lengths = lengths[:, ranked].T
        self._buckets = Buckets(self.lengths)
        self.sentences = {name: [found[name][i] for i in ranked] for name in streams}
        self.steps = max(len(words) for name in streams if name not in reads for words in found[name])

    def __len__(self) -> int:
        return len(self.lengths)

    def draw(
        self, seed: int, step: int, batch_size: int, rows: slice = slice(None), device: torch.device = CPU
    ) -> Batch:
        """The training batch of one step, or `rows` of it: sentences of like length, all of them once an epoch (but for
        the few that do not fill a last batch)."""
        picks = self._buckets.at(seed, step, batch_size)
        return self.batch(part_of(picks, rows), device, beside=picks)

    def batch(self, picks: list[int], device: torch.device = CPU, beside: Sequence[int] = ()) -> Batch:
        """The sentences with these numbers, padded to the longest of them and of those `beside` them."""
        inputs, targets, mask = {}, {}, None
        for name in self.streams:
            chosen = [self.sentences[name][i] for i in picks]
            most = max(len(self.sentences[name][i]) for i in (*picks, *beside))
            if name in self.reads:
                inputs[name] = padded(chosen, most)
                continue
            targets[name] = padded(chosen, most)
            begun = torch.full((len(picks), 1), BOS)
            # The EOS of a sentence is never read, only said.
            read = torch.where(targets[name] == EOS, PAD, targets[name])
            inputs[name] = torch.cat((begun, read[:, :-1]), 1)
            mask = (targets[name] != PAD).float()
        if mask is None:
            raise SakiyomiError(f"streams {list(self.streams)}: none is predicted")
        return Batch(inputs, targets, mask).to(device)


class Buckets:
    """Batches of like length, as a function of (seed, epoch); the last epoch's are kept at hand."""

    def __init__(self, lengths: np.ndarray) -> None:
        """`lengths` int64 [N, K]: by the last of the K first."""
        self.lengths = lengths
        self._key: tuple[int, int, int] | None = None
        self._batches = np.zeros((0, 0), np.int64)

    def at(self, seed: int, step: int, batch_size: int) -> list[int]:
        """What one step sees: all of them once an epoch, but for a few that do not fill a batch, other ones each
        time."""
        size = min(batch_size, len(self.lengths))
        epoch, index = divmod(step, len(self.lengths) // size)
        if self._key != (seed, epoch, size):
            self._key, self._batches = (seed, epoch, size), self._drawn(seed, epoch, size)
        return self._batches[index].tolist()

    def _drawn(self, seed: int, epoch: int, size: int) -> np.ndarray:
        """int64 [batches, size]: a permutation, sorted by length within each pool, and the batches shuffled again."""
        count = len(self.lengths) // size * size
        drawn = order(seed, epoch, len(self.lengths))[:count]  # before they are sorted: nothing is left out for ever
        pools = [drawn[first : first + POOL * size] for first in range(0, count, POOL * size)]
        near = np.concatenate([pool[np.lexsort(self.lengths[pool].T)] for pool in pools])
        return np.random.default_rng((seed, epoch, 1)).permutation(near.reshape(-1, size))


class Passages:
    """Windows of `data.steps` tokens of a text without sentences, one every `data.stride`."""

    def __init__(self, store: EpisodeStore, split: str, data: Data, streams: tuple[str, ...]) -> None:
        self.store, self.streams, self.steps, self.rate = store, streams, data.steps, 1.0
        entries = training_entries(store, data) if split == "train" else store.split(split)
        self.texts = {name: [store.values(entry.id, name) for entry in entries] for name in streams}
        stride = data.stride or max(1, data.steps // 2)
        first = self.texts[streams[0]]
        for name in streams:
            if [len(text) for text in self.texts[name]] != [len(text) for text in first]:
                raise SakiyomiError(f"{store.place}: streams {streams[0]!r} and {name!r} differ in length")
        short = [entry.id for entry, text in zip(entries, first, strict=True) if len(text) <= data.steps]
        if short and len(short) < len(first) and not data.skip_short:
            raise SakiyomiError(
                f"text {short[0]!r} of {store.place} has less than a window of --data.steps {data.steps} tokens and "
                f"the one after it, the first of {len(short)} too short; use a shorter window, or --data.skip-short to "
                "leave such texts out"
            )
        # The last one ends with the text, or the end would never be learned.
        self.begins = [
            (number, begin)
            for number, text in enumerate(first)
            if len(text) > data.steps
            for begin in (*range(0, len(text) - data.steps - 1, stride), len(text) - data.steps - 1)
        ]
        if not self.begins:
            longest = max(len(text) for text in first)
            raise SakiyomiError(
                f"the longest text of split {split!r} in {store.place} has {longest} tokens, a window of "
                f"--data.steps {data.steps} and the token after it {data.steps + 1}; use a shorter window"
            )

    def __len__(self) -> int:
        return len(self.begins)

    def draw(
        self, seed: int, step: int, batch_size: int, rows: slice = slice(None), device: torch.device = CPU
    ) -> Batch:
        """The training batch of one step, or `rows` of it: a new permutation of all windows each time they have all
        been seen."""
        return self.batch(part_of(in_turn(seed, step, batch_size, len(self)), rows), device)

    def batch(self, picks: list[int], device: torch.device = CPU) -> Batch:
        """The windows with these numbers."""
        inputs, targets = {}, {}
        for name in self.streams:
            cut = [self._cut(name, *self.begins[i]) for i in picks]
            values = torch.from_numpy(np.stack(cut).astype(np.int64))
            inputs[name], targets[name] = values[:, :-1], values[:, 1:]
        return Batch(inputs, targets, torch.ones(len(picks), self.steps)).to(device)

    def _cut(self, stream: str, text: int, begin: int) -> np.ndarray:
        return self.texts[stream][text][begin : begin + self.steps + 1]


def sentences(ids: np.ndarray, where: str) -> list[np.ndarray]:
    """Ids [T] -> each sentence with its EOS, int64. Raises SakiyomiError when the last one has none."""
    ends = np.flatnonzero(ids == EOS)
    if len(ends) == 0 or ends[-1] != len(ids) - 1:
        raise SakiyomiError(
            f"{where}: the last sentence has no end; for a text without sentences give --data.steps, the length of a "
            "window"
        )
    return [part.astype(np.int64) for part in np.split(ids, ends[:-1] + 1)]


def padded(rows: list[np.ndarray], most: int = 0) -> Tensor:
    """Ids of several lengths -> int64 [B, T], filled up with PAD: T is the longest, or `most`."""
    out = np.full((len(rows), most or max(map(len, rows))), PAD, np.int64)
    for row, ids in zip(out, rows, strict=True):
        row[: len(ids)] = ids
    return torch.from_numpy(out)


def of_tokens(store: EpisodeStore, streams: tuple[str, ...]) -> bool:
    """Whether these streams are read as tokens are."""
    kinds: Mapping[str, str] = {name: store.streams[name].kind for name in streams if name in store.streams}
    return "token" in kinds.values()
