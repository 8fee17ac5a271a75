"""Batches of utterances: frames that are read, and what they say, without saying when.

    store streams: those that are read, values [T, ...] at one rate, such as `feature` of kind `scalar`
                   those that are taught, of kind `token`: int32 ids and EOS, whose clock only counts them

One episode is one utterance, and is taken whole. A batch holds utterances of like length; which ones a step sees
follows from (seed, step) alone, as with windows. Letters: B utterances, T frames, U labels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sakiyomi.data.episodes import Entry, EpisodeStore
from sakiyomi.data.normalize import Normalizer
from sakiyomi.data.texts import Buckets, padded
from sakiyomi.data.vocabulary import EOS
from sakiyomi.data.windows import CPU, Batch, Data, part_of, training_entries
from sakiyomi.errors import SakiyomiError
from sakiyomi.layers.ctc import frames_needed


class Utterances:
    """The utterances of one split, in memory, sorted by length; `reads` and `taught` are the model's."""

    def __init__(
        self,
        store: EpisodeStore,
        split: str,
        data: Data,
        reads: tuple[str, ...],
        taught: tuple[str, ...],
        normalizer: Normalizer,
    ) -> None:
        """Raises SakiyomiError for data that would cut an utterance, and for a transcript that is longer than its
        frames can say."""
        if data.steps or data.rate:
            raise SakiyomiError(
                f"an utterance is taken whole and as it was recorded; --data.steps is {data.steps} and --data.rate "
                f"{data.rate:g}, leave both 0"
            )
        self.store, self.reads, self.taught, self.rate = store, reads, taught, store.streams[reads[0]].rate
        entries = training_entries(store, data) if split == "train" else store.split(split)
        self.entries = tuple(sorted(entries, key=lambda entry: (entry.lengths[reads[0]], entry.id)))
        self.read = {
            name: [normalizer.encode(name, torch.from_numpy(store.values(e.id, name))) for e in self.entries]
            for name in reads
        }
        self.said = {name: [labels_of(store, entry, name) for entry in self.entries] for name in taught}
        self.lengths = np.array([[len(frames)] for frames in self.read[reads[0]]])
        self._buckets = Buckets(self.lengths)
        self.steps = int(self.lengths[-1, 0])
        self._check()

    def __len__(self) -> int:
        return len(self.entries)

    def draw(
        self, seed: int, step: int, batch_size: int, rows: slice = slice(None), device: torch.device = CPU
    ) -> Batch:
        """The training batch of one step, or `rows` of it: utterances of like length, all of them once an epoch (but
        for the few that do not fill a last batch)."""
        picks = self._buckets.at(seed, step, batch_size)
        return self.batch(part_of(picks, rows), device, beside=picks)

    def batch(self, picks: list[int], device: torch.device = CPU, beside: Sequence[int] = ()) -> Batch:
        """The utterances with these numbers: frames [B, T, ...] filled up with 0, labels [B, U] with PAD, both as long
        as the longest of them and of those `beside` them."""
        room = (*picks, *beside)
        frames = int(self.lengths[list(room), 0].max())
        inputs = {name: filled([self.read[name][i] for i in picks], frames) for name in self.reads}
        targets = {
            name: padded([self.said[name][i] for i in picks], max(len(self.said[name][i]) for i in room))
            for name in self.taught
        }
        mask = real_frames([int(self.lengths[i, 0]) for i in picks], frames)
        return Batch(inputs, targets, mask).to(device)

    def _check(self) -> None:
        """Raises SakiyomiError, see `__init__`."""
        for name in self.taught:
            for entry, frames, labels in zip(self.entries, self.lengths[:, 0], self.said[name], strict=True):
                needed = frames_needed(labels.tolist())
                if needed > frames:
                    raise SakiyomiError(
                        f"{self.store.place}, {entry.id}: stream {name!r} has {len(labels)} labels, which need "
                        f"{needed} frames; there are {frames}. Leave it out, or make more frames a second"
                    )


def labels_of(store: EpisodeStore, entry: Entry, name: str) -> np.ndarray:
    """What one utterance says, int64 [U]. Raises SakiyomiError where its end is missing, or there is more than one."""
    ids = store.values(entry.id, name)
    if len(ids) == 0 or (np.flatnonzero(ids == EOS) != len(ids) - 1).any() or ids[-1] != EOS:
        raise SakiyomiError(
            f"{store.place}, {entry.id}: stream {name!r} holds {ids[:10].tolist()}...; a transcript is labels and "
            f"one EOS ({EOS}), the last"
        )
    return ids[:-1].astype(np.int64)


def filled(rows: list[Tensor], most: int) -> Tensor:
    """Frames [T, ...] of several lengths, at most `most` -> [B, most, ...], filled up with 0."""
    out = rows[0].new_zeros(len(rows), most, *rows[0].shape[1:])
    for row, frames in zip(out, rows, strict=True):
        row[: len(frames)] = frames
    return out


def real_frames(lengths: Sequence[int], most: int = 0) -> Tensor:
    """1 where there is a frame and 0 in padding, float32 [B, T]: T is the longest, or `most`."""
    return (torch.arange(most or max(lengths)) < torch.tensor(lengths)[:, None]).float()
