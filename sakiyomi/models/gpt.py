"""GPT: a language model, which says the next token after those before it (Radford et al.: "Improving Language
Understanding by Generative Pre-Training", 2018).

    sakiyomi train shakespeare

A token looks at itself and the `context` - 1 before it, and how far back a token lies is told by rotary positions (Su
et al. 2021). So neither the memory nor the work of a step grows, and it can go on for ever; through its blocks it still
hears of what is longer ago.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sakiyomi.data.episodes import Stream
from sakiyomi.data.windows import Batch
from sakiyomi.layers.attention import Block, Words, angles, back, even
from sakiyomi.models.base import SequenceModel, State, Streams, as_many_words, expect, known_width, nats, one_step
from sakiyomi.schedules import Progress


class GPT(SequenceModel):
    """Stream: `token` [B, T], of which it predicts the next one, logits [.., V].

    The state holds the keys and values of each block for the last tokens, `block.N` [B, context - 1 at most, 2W].
    """

    inputs = outputs = ("token",)

    @dataclass(frozen=True)
    class Config:
        words: int = 0
        """Tokens there are, V; 0 takes the recordings'."""
        width: int = 192
        """Numbers that stand for a token, W."""
        heads: int = 4
        """Looks side by side; they divide the width."""
        blocks: int = 4
        """Blocks, one after the other."""
        feedforward: int = 768
        """Units of the network that thinks about each token alone."""
        context: int = 128
        """Tokens that a block looks at, the newest counted."""
        dropout: float = 0.1
        """The share of what each part adds that is left out in training."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        even("the numbers of a head, --model.width / --model.heads,", config.width // max(config.heads, 1))
        self.config = config
        self.shapes, self.vocabularies = {"token": ()}, {"token": known_width(config, "words")}
        self.words = Words(config.words, config.width, share=True)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.feedforward, config.dropout, "pre") for _ in range(config.blocks)
        )
        self.norm = nn.LayerNorm(config.width)

    @staticmethod
    def fitted(config: Config, streams: Mapping[str, Stream]) -> Config:
        """The Config with as many tokens as the recordings know where it leaves that open."""
        return as_many_words(config, "words", streams, "token")

    def initial(self, batch_size: int) -> State:
        nothing = self.norm.weight.new_zeros(batch_size, 0, 2 * self.config.width)
        return {f"block.{n}": nothing for n in range(self.config.blocks)}

    def step(self, observation: Streams, state: State) -> tuple[Streams, State]:
        return one_step(self, observation, state)

    def unroll(self, observations: Streams, state: State | None = None) -> tuple[Streams, State]:
        """Tokens [B, T] -> logits of the next ones [B, T, V]."""
        vectors, state = self.vectors(observations, state)
        return {"token": self.words.logits(vectors)}, state

    def vectors(self, observations: Streams, state: State | None = None) -> tuple[Tensor, State]:
        """Tokens [B, T] -> what it has made of each and those before it, [B, T, W], from which the next is told; and
        the state."""
        expect(observations, self.shapes)
        tokens, context = observations["token"], self.config.context
        state = self.initial(len(tokens)) if state is None else state
        steps, before = tokens.shape[1], state["block.0"].shape[1]
        x = self.dropout(self.words(tokens))
        view = back(steps, before + steps, tokens.device, context)
        positions = torch.arange(before + steps, device=x.device, dtype=x.dtype)
        view = replace(view, angles=angles(positions, self.config.width // self.config.heads))
        after: State = {}
        for n, block in enumerate(self.blocks):
            x, held = block(x, state[f"block.{n}"], view)
            after[f"block.{n}"] = held[:, max(held.shape[1] - context + 1, 0) :]
        return self.norm(x), after

    def loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """`token`: cross-entropy of the next token, nats. `uniform`: how far what it says is from all tokens alike."""
        predictions, _ = self.unroll(batch.inputs)
        return nats(predictions["token"], batch.targets["token"], "token")
