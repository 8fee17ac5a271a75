"""Transformer: reads a sentence and says it in another language (Vaswani et al.: "Attention Is All You Need", NeurIPS
2017).

The encoder lets each word of the source look at all others. The decoder says one word after the other: it looks back
at what it has said, and at the source. In training all words are said at once, each after the true ones before it. One
by one, it keeps the keys and values of what it has read and said, and computes none twice.

    sakiyomi train translate
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from sakiyomi.data.episodes import Stream
from sakiyomi.data.vocabulary import EOS, PAD
from sakiyomi.data.windows import Batch
from sakiyomi.layers.attention import Block, Norm, Other, View, Words, back, even, real_places, sinusoids
from sakiyomi.models.base import SequenceModel, State, Streams, as_many_words, expect, known_width, nats, one_step
from sakiyomi.schedules import Progress


class Transformer(SequenceModel):
    """Streams: `source` [B, S], words, EOS, PAD; `target` [B, T], of which it predicts the next word, logits [.., V].

    The state holds `real` [B, S], 1 where the source is no padding, and of each block of the decoder the keys and
    values of the source, `source.N` [B, S, 2W], and of what was said, `target.N` [B, T, 2W].
    """

    inputs: tuple[str, ...] = ("source", "target")
    outputs: tuple[str, ...] = ("target",)
    reads: tuple[str, ...] = ("source",)

    @dataclass(frozen=True)
    class Config:
        source_words: int = 0
        """Words of the source; 0 takes the recordings'."""
        target_words: int = 0
        """Words of the target, V; 0 takes the recordings'."""
        width: int = 256
        """Numbers that stand for a word, W."""
        heads: int = 4
        """Looks side by side; they divide the width."""
        blocks: int = 3
        """Blocks of the encoder, and as many of the decoder."""
        feedforward: int = 1024
        """Units of the network that thinks about each word alone."""
        dropout: float = 0.1
        """The share of what each part adds that is left out in training."""
        norm: Norm = "pre"
        """pre normalises what each part reads, post the sum of it and what was there."""
        share: bool = True
        """The table that reads words of the target says them, too."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        even("the numbers of a word, --model.width,", config.width)
        self.config = config
        self.shapes = {"source": (), "target": ()}
        self.vocabularies = {
            "source": known_width(config, "source_words"),
            "target": known_width(config, "target_words"),
        }
        width, dropout, pre = config.width, config.dropout, config.norm == "pre"
        self.source_words = Words(config.source_words, width, share=True)  # it says none of them
        self.target_words = Words(config.target_words, width, config.share)
        self.dropout = nn.Dropout(dropout)
        size = (width, config.heads, config.feedforward, dropout, config.norm)
        self.encoder = nn.ModuleList(Block(*size) for _ in range(config.blocks))
        self.decoder = nn.ModuleList(Block(*size, across=True) for _ in range(config.blocks))
        # What post-norm blocks end with, is normalised already.
        self.encoded = nn.LayerNorm(width) if pre else nn.Identity()
        self.decoded = nn.LayerNorm(width) if pre else nn.Identity()

    @staticmethod
    def fitted(config: Config, streams: Mapping[str, Stream]) -> Config:
        """The Config with as many words as the recordings know where it leaves that open."""
        config = as_many_words(config, "source_words", streams, "source")
        return as_many_words(config, "target_words", streams, "target")

    def initial(self, batch_size: int) -> State:
        """After a source without words."""
        device = self.target_words.table.weight.device
        return self.read({"source": torch.full((batch_size, 1), EOS, device=device)})

    def read(self, given: Streams) -> State:
        """The source [B, S], read: what each block of the decoder will look at."""
        expect(given, {"source": self.shapes["source"]})
        source = given["source"]
        real = source != PAD
        real[:, 0] = True  # a source of padding alone is a word that nobody knows, not a mean of nothing
        view = real_places(real)
        x = self._placed(self.source_words(source), 0)
        for block in self.encoder:
            x, _ = block(x, None, view)
        x = self.encoded(x)
        state: State = {"real": real.to(self.target_words.table.weight.dtype)}
        for n, block in enumerate(self._decoding):
            held = block.held_of(x)
            state |= {f"source.{n}": held, f"target.{n}": held[:, :0]}
        return state

    def step(self, observation: Streams, state: State) -> tuple[Streams, State]:
        return one_step(self, {"target": observation["target"]} if "target" in observation else {}, state)

    def unroll(self, observations: Streams, state: State | None = None) -> tuple[Streams, State]:
        """The target [B, T] -> logits [B, T, V]. The source is read where there is no state yet."""
        vectors, state = self._said(observations, state)
        return {"target": self.target_words.logits(vectors)}, state

    @torch.no_grad()
    def attention(self, observations: Streams) -> Tensor:
        """Where in the source [B, S] it looks when it has read each word of the target [B, T], [B, T, S], sums of 1:
        mean over the heads of the last block."""
        x, state, view = self._begun(observations, None)
        last = len(self.decoder) - 1
        for n, block in enumerate(self._decoding[:last]):
            x, _ = block(x, state[f"target.{n}"], view, _source(state, n))
        return self._decoding[last].gaze(x, state[f"target.{last}"], view, _source(state, last))

    def loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """`target`, cross-entropy in nats, and `uniform`, for label smoothing (`nats`); 0 in the padding."""
        vectors, _ = self._said(batch.inputs, None)
        real = batch.mask > 0  # saying words is most of the work: none is said in the padding
        losses = nats(self.target_words.logits(vectors[real]), batch.targets["target"][real], "target")
        return {name: loss.new_zeros(real.shape).masked_scatter(real, loss) for name, loss in losses.items()}

    def _said(self, observations: Streams, state: State | None) -> tuple[Tensor, State]:
        """The vectors [B, T, W] that the next words are told from, and the state after them."""
        x, state, view = self._begun(observations, state)
        after = dict(state)
        for n, block in enumerate(self._decoding):
            x, after[f"target.{n}"] = block(x, state[f"target.{n}"], view, _source(state, n))
        return self.decoded(x), after

    def _begun(self, observations: Streams, state: State | None) -> tuple[Tensor, State, View]:
        """The target's words [B, T, W] in their places, the state before them, and how far back each may look."""
        expect(observations, {"target": self.shapes["target"]})
        state = self.read(observations) if state is None else state
        target, said = observations["target"], state["target.0"].shape[1]
        view = back(target.shape[1], said + target.shape[1], target.device)
        return self._placed(self.target_words(target), said), state, view

    def _placed(self, words: Tensor, first: int) -> Tensor:
        """Vectors of words [B, T, W] with their positions, which are counted from `first`."""
        positions = torch.arange(first, first + words.shape[1], device=words.device, dtype=words.dtype)
        return self.dropout(words + sinusoids(positions, words.shape[2]))

    @property
    def _decoding(self) -> list[Block]:
        return cast(list[Block], self.decoder)  # to the type checker its items are any modules


def _source(state: State, block: int) -> Other:
    """What a block of the decoder looks at of the source."""
    return Other(state[f"source.{block}"], real_places(state["real"] > 0))
