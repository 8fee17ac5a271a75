"""Seq2Seq: a translator of two GRUs (Cho et al.: "Learning Phrase Representations using RNN Encoder-Decoder", 2014;
Sutskever et al. 2014), which may look back at the source while it writes (Luong et al.: "Effective Approaches to
Attention-based Neural Machine Translation", 2015).

One GRU reads the source in both directions, the other writes the target. Luong's attention follows the recurrent layer
and is not fed back into it, so that recurrence, attention and words run over all steps at once.

    sakiyomi train translate --model.attention
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from sakiyomi.data.episodes import Stream
from sakiyomi.data.vocabulary import EOS, PAD
from sakiyomi.data.windows import Batch
from sakiyomi.errors import SakiyomiError
from sakiyomi.layers.attention import Words
from sakiyomi.models.base import (
    SequenceModel,
    State,
    Streams,
    as_many_words,
    expect,
    known_width,
    nats,
    one_step,
)
from sakiyomi.schedules import Progress


class Seq2Seq(SequenceModel):
    """Streams: `source`, int64 [B, S], words, EOS, PAD; `target`, the word before, int64 [B]. It predicts the next
    word of the target: logits [.., V].

    The state: `hidden` [B, layers, H], the decoder's. With attention `memory` [B, S, H], what the encoder made of each
    word of the source, and `memory_mask` [B, S], 1 for a word and 0 for PAD; without it `summary` [B, H], all that is
    known of the source, which every step reads (as Cho et al. have it).
    """

    inputs = ("source", "target")
    outputs = ("target",)
    reads = ("source",)
    reads_itself = True

    @dataclass(frozen=True)
    class Config:
        source_words: int = 0
        """Words of the source's language; 0 takes the recordings'."""
        target_words: int = 0
        """Words of the target's language; 0 takes the recordings'."""
        embedding: int = 256
        """Numbers a word is read as."""
        hidden: int = 512
        """Units of each layer of the decoder, and of the encoder's two directions together: an even number."""
        layers: int = 1
        """Layers of encoder and decoder."""
        attention: bool = False
        """Each step looks at all words of the source; without, it has one vector of them."""
        dropout: float = 0.0
        """Share of the numbers between layers that training leaves out."""
        share: bool = True
        """A word of the target is said with the weights it is read with (Press & Wolf 2017)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        if config.hidden % 2:
            raise SakiyomiError(f"--model.hidden is {config.hidden}; the encoder's two directions need an even number")
        self.config, c = config, config
        self.shapes = {"source": (), "target": ()}
        self.vocabularies = {name: known_width(c, f"{name}_words") for name in self.inputs}
        between = c.dropout if c.layers > 1 else 0.0
        self.source = Words(c.source_words, c.embedding, share=True)  # it says none of them
        self.encoder = nn.GRU(c.embedding, c.hidden // 2, c.layers, dropout=between, bidirectional=True)
        self.target = Words(c.target_words, c.embedding, c.share)
        self.begin = nn.Linear(c.hidden, c.hidden)  # of each layer: the encoder's last state -> the decoder's first
        self.decoder = nn.GRU(c.embedding, c.hidden, c.layers, dropout=between, batch_first=True)
        self.look = nn.Linear(c.hidden, c.hidden, bias=False) if c.attention else None
        self.context = nn.Linear(c.hidden, c.embedding, bias=False)
        self.readout = nn.Linear(c.hidden, c.embedding)
        self.often = nn.Parameter(torch.zeros(c.target_words))  # the bias of each word

    @staticmethod
    def fitted(config: Config, streams: Mapping[str, Stream]) -> Config:
        """The Config with as many words as the recordings know where it leaves that open."""
        config = as_many_words(config, "source_words", streams, "source")
        return as_many_words(config, "target_words", streams, "target")

    def initial(self, batch_size: int) -> State:
        """The state after a source without words."""
        return self.read({"source": torch.full((batch_size, 1), EOS, device=self.often.device)})

    def read(self, given: Streams) -> State:
        """Sources [B, S], each with its EOS and filled up with PAD -> the state before the first step. PAD changes
        nothing: neither direction of the encoder reads it."""
        expect(given, {"source": self.shapes["source"]})
        words = given["source"] != PAD
        words[:, 0] = True  # a source of padding alone is a word that nobody knows
        # Time first and by number of words, as the GRU wants them, and each of them only while it lasts.
        lengths = words.sum(1).cpu()
        embedded = self._dropped(self.source(given["source"].T))
        packed, last = self.encoder(pack_padded_sequence(embedded, lengths, enforce_sorted=False))
        ends = last.unflatten(0, (self.config.layers, 2)).permute(2, 0, 1, 3).flatten(2)  # [B, layers, H]
        state = {"hidden": torch.tanh(self.begin(ends))}
        if self.look is None:
            return {**state, "summary": ends[:, -1]}
        memory, _ = pad_packed_sequence(packed, batch_first=True, total_length=words.shape[1])
        return {**state, "memory": memory, "memory_mask": words.to(memory.dtype)}

    def step(self, observation: Streams, state: State) -> tuple[Streams, State]:
        """The word before, [B] -> logits of the next one [B, V]; the source is in the state."""
        expect(observation, {"target": self.shapes["target"]})
        return one_step(self, {"target": observation["target"]}, state)

    def unroll(self, observations: Streams, state: State | None = None) -> tuple[Streams, State]:
        """The words before, [B, T] -> logits of the next ones [B, T, V]. Without a state it reads the source first."""
        expect(observations, self.shapes if state is None else {"target": self.shapes["target"]})
        state = self.read(observations) if state is None else state
        spoken, state = self._decode(observations["target"], state)
        return {"target": self._logits(spoken)}, state

    def loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """`target`, cross-entropy in nats, and `uniform`, for label smoothing (`nats`); 0 in the padding. Where the
        step is not teacher-forced, it reads the words it finds most probable itself, and is still told the true ones.
        """
        expect(batch.inputs, self.shapes)
        state, words = self.read(batch.inputs), batch.inputs["target"]
        spoken = self._decode(words, state)[0] if progress.forced else self._alone(words, state)
        real = batch.mask > 0  # saying words is most of the work: none is said in the padding
        losses = nats(self._logits(spoken[real]), batch.targets["target"][real], "target")
        return {name: loss.new_zeros(real.shape).masked_scatter(real, loss) for name, loss in losses.items()}

    @torch.no_grad()
    def attention(self, observations: Streams) -> Tensor:
        """How much each word of the source counts at each step, [B, T, S], sums of 1. Raises SakiyomiError for a model
        without attention."""
        if self.look is None:
            raise SakiyomiError("this model has one vector of the source and looks at no word; --model.attention does")
        expect(observations, self.shapes)
        state = self.read(observations)
        hidden, _ = self._recur(observations["target"], state)
        return self._weights(hidden, state)

    def _decode(self, words: Tensor, state: State) -> tuple[Tensor, State]:
        """The words before [B, T] -> what is about to be said, [B, T, embedding]."""
        hidden, state = self._recur(words, state)
        spoken = torch.tanh(self.readout(hidden) + self.context(self._known(hidden, state)))
        return self._dropped(spoken), state

    def _recur(self, words: Tensor, state: State) -> tuple[Tensor, State]:
        """The words before [B, T] -> the decoder's last layer [B, T, H]."""
        embedded = self._dropped(self.target(words))
        hidden, last = self.decoder(embedded, state["hidden"].transpose(0, 1).contiguous())
        return hidden, {**state, "hidden": last.transpose(0, 1)}

    def _known(self, hidden: Tensor, state: State) -> Tensor:
        """What each step knows of the source, [B, T, H]; [B, 1, H] where that is always the same."""
        if self.look is None:
            return state["summary"][:, None]
        return self._weights(hidden, state) @ state["memory"]

    def _weights(self, hidden: Tensor, state: State) -> Tensor:
        """Luong's general score h W m, softmax over the words of the source: [B, T, S]. Divided by sqrt(H), or the sum
        of so many products would leave the softmax no gradient (Vaswani et al. 2017)."""
        assert self.look is not None
        scores = self.look(hidden) @ state["memory"].transpose(1, 2) * self.config.hidden**-0.5
        scores = scores.masked_fill(state["memory_mask"][:, None] == 0, -torch.inf)
        return scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32))

    def _logits(self, spoken: Tensor) -> Tensor:
        """What is about to be said [.., embedding] -> logits [.., V]."""
        return self.target.logits(spoken, self.often)

    def _alone(self, words: Tensor, state: State) -> Tensor:
        """As `_decode`, but of `words` [B, T] only the first is read; then always the most probable one. Only the
        recurrence goes step by step with gradients; the loss says the words of all steps at once."""
        word, steps = words[:, :1], []
        for _ in range(words.shape[1]):
            spoken, state = self._decode(word, state)
            steps.append(spoken)
            word = self._logits(spoken.detach()).argmax(-1)
        return torch.cat(steps, 1)

    def _dropped(self, values: Tensor) -> Tensor:
        return functional.dropout(values, self.config.dropout, self.training)
