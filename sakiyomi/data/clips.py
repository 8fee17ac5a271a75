"""Batches of clips: samples of sound, each clip with what it is told to be.

    store streams: `sample` of kind `audio`, int16 [T]; its clock runs on from clip to clip
                   `label` of kind `label`, [K, L] for K clips: a clip begins when its label is given

An episode holds many clips, one after the other. Each is taken from its beginning, after silence, so that a model
learns how a sound begins; and it is followed by a little silence, so that it learns that sounds end. Which clips a step
sees follows from (seed, step) alone, as with windows. Letters: B clips, T samples, L labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sakiyomi.data.episodes import Entry, EpisodeStore
from sakiyomi.data.normalize import Normalizer
from sakiyomi.data.texts import Buckets
from sakiyomi.data.windows import CPU, Batch, Data, part_of, training_entries
from sakiyomi.errors import SakiyomiError

AFTER = 0.05  # seconds of silence behind a clip that are learned


@dataclass(frozen=True)
class Piece:
    """One clip."""

    episode: str
    samples: np.ndarray
    """int16 [T]."""
    label: np.ndarray
    """float32 [L], 1 for each word that is true of it and 0 for the others."""


class Clips:
    """The clips of one split, in memory; of each at most the first `data.steps` samples, 0 takes all."""

    def __init__(
        self, store: EpisodeStore, split: str, data: Data, streams: tuple[str, ...], normalizer: Normalizer
    ) -> None:
        """`streams` are the model's: the one of kind `audio` is read and predicted, the other is told."""
        if data.rate:
            raise SakiyomiError(
                f"samples are taken as they were recorded; --data.rate is {data.rate:g}, leave it 0 or prepare the "
                "recordings at another rate"
            )
        self.store, self.normalizer = store, normalizer
        self.sample = next(name for name in streams if of_sound(store, (name,)))
        self.told = next(name for name in streams if name != self.sample)
        self.rate = store.streams[self.sample].rate
        self.after = round(AFTER * self.rate)
        entries = training_entries(store, data) if split == "train" else store.split(split)
        found = [piece for entry in entries for piece in pieces(store, entry, self.sample, self.told)]
        self.cut = data.steps or max(len(piece.samples) for piece in found)
        # By length: validation pads little, and in the same way each time.
        self.pieces = sorted(found, key=lambda piece: min(len(piece.samples), self.cut))
        lengths = np.array([[min(len(piece.samples), self.cut)] for piece in self.pieces])
        self._buckets = Buckets(lengths)
        self.steps = int(lengths.max()) + self.after

    def __len__(self) -> int:
        return len(self.pieces)

    def draw(
        self, seed: int, step: int, batch_size: int, rows: slice = slice(None), device: torch.device = CPU
    ) -> Batch:
        """The training batch of one step, or `rows` of it: clips of like length, all of them once an epoch (but for the
        few that do not fill a last batch)."""
        picks = self._buckets.at(seed, step, batch_size)
        return self.batch(part_of(picks, rows), device, beside=picks)

    def batch(self, picks: list[int], device: torch.device = CPU, beside: Sequence[int] = ()) -> Batch:
        """The clips with these numbers: step t reads the sample before the one that is to be said, the first of all
        silence. Behind a clip come AFTER seconds of silence, where it was not cut off, and then padding, up to the
        longest of these clips and of those `beside` them."""
        chosen = [self.pieces[i] for i in picks]
        real = [self._real(i) for i in picks]
        most = max(self._real(i) for i in (*picks, *beside))
        line = np.zeros((len(chosen), most + 1), np.int16)
        for row, piece in zip(line, chosen, strict=True):
            length = min(len(piece.samples), self.cut)
            row[1 : 1 + length] = piece.samples[:length]
        mask = (torch.arange(most) < torch.tensor(real)[:, None]).float()
        # Samples travel as they were recorded, a quarter of their ids.
        ids = self.normalizer.encode(self.sample, torch.from_numpy(line).to(device, non_blocking=True))
        told = torch.from_numpy(np.stack([piece.label for piece in chosen])).to(device, non_blocking=True)
        labels = self.normalizer.encode(self.told, told)
        inputs = {self.sample: ids[:, :-1], self.told: labels[:, None].expand(-1, most, -1)}
        return Batch(inputs, {self.sample: ids[:, 1:]}, mask.to(device, non_blocking=True))

    def _real(self, number: int) -> int:
        """Steps of one clip that are learned from."""
        samples = len(self.pieces[number].samples)
        return samples + self.after if samples <= self.cut else self.cut


def pieces(store: EpisodeStore, entry: Entry, sample: str = "sample", told: str = "label") -> list[Piece]:
    """The clips of one episode. Raises SakiyomiError where sound comes before its label, or a label without sound."""
    clock, begun = store.times(entry.id, sample), store.times(entry.id, told)
    begins = np.searchsorted(clock, begun - 5e-7)  # half a microsecond of grace, as with windows
    if begins[0] != 0 or (np.diff(begins, append=len(clock)) < 1).any():
        raise SakiyomiError(
            f"{store.place}, {entry.id}: stream {told!r} begins at {begun[0]:g} s with {len(begun)} labels, stream "
            f"{sample!r} at {clock[0]:g} s; a label is given with the first sample of each clip"
        )
    labels = store.values(entry.id, told)
    parts = np.split(store.values(entry.id, sample), begins[1:])
    return [Piece(entry.id, samples, label) for samples, label in zip(parts, labels, strict=True)]


def of_sound(store: EpisodeStore, streams: tuple[str, ...]) -> bool:
    """Whether one of these streams holds samples."""
    return "audio" in {store.streams[name].kind for name in streams if name in store.streams}
