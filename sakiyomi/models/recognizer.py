"""Recognisers: what a sequence says, learned from labels without times, by connectionist temporal classification (CTC;
Graves et al.: "Connectionist temporal classification", ICML 2006).

    sakiyomi train spoken-digits
    sakiyomi train an4

For each frame they say how likely each label is, or the blank, "no label begins here", which is PAD; `layers/ctc.py`
reads labels out of that. Two of them: causal convolutions, which hear nothing of the future and so can be read from
while somebody speaks, and a BLSTM (Graves and Schmidhuber 2005), which reads whole utterances from both ends. In
training, stretches of frames and bands of neighbouring channels are hidden (Park et al.: "SpecAugment", 2019).

Letters: B utterances, T frames, C numbers of a frame, H channels, U labels of a transcript, V labels there are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sakiyomi.data.episodes import Stream
from sakiyomi.data.vocabulary import PAD
from sakiyomi.data.windows import Batch
from sakiyomi.errors import SakiyomiError
from sakiyomi.layers.ctc import ctc_loss
from sakiyomi.models.base import (
    SequenceModel,
    State,
    Streams,
    as_many_words,
    expect,
    known_width,
    one_step,
    wide_as_recorded,
)
from sakiyomi.schedules import Progress

TAPS = 3


@dataclass(frozen=True)
class Hide:
    """What is hidden from a recogniser in training, each time something else."""

    times: int = 2
    """Stretches of frames of each utterance."""
    frames: float = 0.08
    """How long one is at the most, as a share of the utterance."""
    bands: int = 2
    """Bands of neighbouring channels of each utterance."""
    width: float = 0.15
    """How wide one is at the most, as a share of the channels."""


# ---- Without the future ----------------------------------------------------------------------------------------------


class Causal(nn.Module):
    """A gated convolution over TAPS frames, D apart, the newest of them now, beside its input."""

    def __init__(self, channels: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.dilation = dilation
        self.norm = nn.LayerNorm(channels)
        self.mix = nn.Linear(TAPS * channels, 2 * channels)
        self.out = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, queue: Tensor) -> tuple[Tensor, Tensor]:
        """Frames [B, T, H] after those in the queue [B, 2 D, H] -> [B, T, H] and the queue after them."""
        line = torch.cat((queue, self.norm(x).to(queue.dtype)), 1)
        steps = x.shape[1]
        heard = torch.cat([line[:, n * self.dilation :][:, :steps] for n in range(TAPS)], -1)
        gated = functional.glu(self.mix(heard), -1)
        return x + self.dropout(self.out(gated)), line[:, steps:]


class ConvRecognizer(SequenceModel):
    """Stream: `feature` [B, T, C], of which it says `transcript`, logits [.., V] of a label at each frame.

    The state is the queue of each block, `queue.N` [B, 2 D, H]: what it last heard, the oldest first. CTC leaves it
    to the network when to say a label, so it learns to wait for as much as it needs.
    """

    inputs: tuple[str, ...] = ("feature",)
    outputs: tuple[str, ...] = ("transcript",)
    taught: tuple[str, ...] = ("transcript",)
    ahead: int = 0

    @dataclass(frozen=True)
    class Config:
        features: int = 0
        """Numbers of a frame, C; 0 takes the recordings'."""
        words: int = 0
        """Labels there are, V, blank and all; 0 takes the recordings'."""
        channels: int = 128
        """Channels of each block, H."""
        dilations: tuple[int, ...] = (1, 2, 4, 8, 1, 2, 4, 8)
        """How many frames lie between the three that each block hears."""
        dropout: float = 0.1
        """The share of what a block adds that is left out in training."""
        hide: Hide = Hide()
        """What is hidden in training."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        if not config.dilations or min(config.dilations) < 1:
            raise SakiyomiError(f"--model.dilations is {list(config.dilations)}; give one or more, each at least 1")
        self.config = config
        self.shapes, self.vocabularies = _streams(config)
        self.read = nn.Linear(config.features, config.channels)
        self.blocks = nn.ModuleList(Causal(config.channels, d, config.dropout) for d in config.dilations)
        self.norm = nn.LayerNorm(config.channels)
        self.say = nn.Linear(config.channels, config.words)

    @staticmethod
    def fitted(config: Config, streams: Mapping[str, Stream]) -> Config:
        """The Config with the width of frames and the labels that were recorded where it leaves that open."""
        return _fitted(config, streams)

    @property
    def hears(self) -> int:
        """Frames that a prediction depends on."""
        return 1 + (TAPS - 1) * sum(self.config.dilations)

    def initial(self, batch_size: int) -> State:
        zeros = self.read.weight.new_zeros
        c = self.config
        return {f"queue.{n}": zeros(batch_size, (TAPS - 1) * d, c.channels) for n, d in enumerate(c.dilations)}

    def step(self, observation: Streams, state: State) -> tuple[Streams, State]:
        return one_step(self, observation, state)

    def unroll(self, observations: Streams, state: State | None = None) -> tuple[Streams, State]:
        """Frames [B, T, C] -> logits of labels [B, T, V]."""
        expect(observations, self.shapes)
        x = self.read(observations["feature"])
        state = self.initial(len(x)) if state is None else state
        after: State = {}
        for n, block in enumerate(self.blocks):
            x, after[f"queue.{n}"] = block(x, state[f"queue.{n}"])
        return {"transcript": self.say(self.norm(x))}, after

    def loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """`transcript`: minus the log of how likely the transcript is, nats a frame; see `nats_a_frame`."""
        seen = hiding(batch.inputs["feature"], batch.mask, self.config.hide, progress)
        predictions, _ = self.unroll({"feature": seen})
        return {"transcript": nats_a_frame(predictions["transcript"], batch)}


# ---- From both ends --------------------------------------------------------------------------------------------------


class BLSTMRecognizer(SequenceModel):
    """Stream: `feature` [B, T, C], of which it says `transcript`, logits [.., V] of a label at each frame; for that it
    reads the whole utterance. It keeps no state.

    `frames` is how many real ones each utterance has: what follows them changes nothing.
    """

    inputs: tuple[str, ...] = ("feature",)
    outputs: tuple[str, ...] = ("transcript",)
    taught: tuple[str, ...] = ("transcript",)
    ahead: int = 0
    whole: bool = True

    @dataclass(frozen=True)
    class Config:
        features: int = 0
        """Numbers of a frame, C; 0 takes the recordings'."""
        words: int = 0
        """Labels there are, V, blank and all; 0 takes the recordings'."""
        channels: int = 128
        """Units of each direction, H."""
        layers: int = 2
        """Layers; each but the first reads both directions of the one before."""
        dropout: float = 0.3
        """The share of what a layer gives that is left out in training."""
        hide: Hide = Hide()
        """What is hidden in training."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.shapes, self.vocabularies = _streams(config)
        widths = [config.features, *[2 * config.channels] * (config.layers - 1)]
        self.forth = nn.ModuleList(nn.LSTM(width, config.channels, batch_first=True) for width in widths)
        self.back = nn.ModuleList(nn.LSTM(width, config.channels, batch_first=True) for width in widths)
        self.dropout = nn.Dropout(config.dropout)
        self.say = nn.Linear(2 * config.channels, config.words)

    @staticmethod
    def fitted(config: Config, streams: Mapping[str, Stream]) -> Config:
        """The Config with the width of frames and the labels that were recorded where it leaves that open."""
        return _fitted(config, streams)

    def initial(self, batch_size: int) -> State:
        return {}

    def step(self, observation: Streams, state: State) -> tuple[Streams, State]:
        """Raises SakiyomiError: there is no step."""
        raise SakiyomiError(
            "BLSTMRecognizer reads in both directions: give it the whole utterance (unroll), or take a model that "
            "hears as one speaks, ConvRecognizer"
        )

    def unroll(
        self, observations: Streams, state: State | None = None, frames: Tensor | None = None
    ) -> tuple[Streams, State]:
        """Whole utterances [B, T, C] -> logits of labels [B, T, V]; `frames` int64 [B], T if not given."""
        expect(observations, self.shapes)
        x = observations["feature"]
        batch, steps, _ = x.shape
        order = torch.arange(steps, device=x.device).expand(batch, steps)
        if frames is None:
            turned = order.flip(1)
        else:  # what is real backwards, and padding where it is
            turned = torch.where(order < frames[:, None], frames[:, None] - 1 - order, order)
        for number, (forth, back) in enumerate(zip(self.forth, self.back, strict=True)):
            x = self.dropout(x) if number else x
            x = torch.cat((forth(x)[0], _ordered(back(_ordered(x, turned))[0], turned)), -1)
        return {"transcript": self.say(self.dropout(x))}, {}

    def loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """`transcript`: minus the log of how likely the transcript is, nats a frame; see `nats_a_frame`."""
        seen = hiding(batch.inputs["feature"], batch.mask, self.config.hide, progress)
        predictions, _ = self.unroll({"feature": seen}, frames=batch.mask.sum(1).long())
        return {"transcript": nats_a_frame(predictions["transcript"], batch)}


def _ordered(x: Tensor, order: Tensor) -> Tensor:
    """Frames [B, T, H] in another order [B, T]."""
    return x.gather(1, order[..., None].expand_as(x))


# ---- What both share -------------------------------------------------------------------------------------------------


def _streams(config: Any) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    """What a recogniser reads, and how many labels it says."""
    return {"feature": (known_width(config, "features"),)}, {"transcript": known_width(config, "words")}


def _fitted(config: Any, streams: Mapping[str, Stream]) -> Any:
    config = wide_as_recorded(config, "features", streams, "feature")
    return as_many_words(config, "words", streams, "transcript")


def nats_a_frame(logits: Tensor, batch: Batch) -> Tensor:
    """What the transcripts cost, -log p in nats, [B, T]: an utterance's spread evenly over its frames, so that the
    masked mean is nats a frame. Raises SakiyomiError for a transcript that is longer than its frames can say."""
    targets, frames = batch.targets["transcript"], batch.mask.sum(1).long()
    nats = ctc_loss(logits.float().log_softmax(-1), targets, frames, (targets != PAD).sum(1))
    return (nats / frames)[:, None].expand_as(batch.mask)


def hiding(features: Tensor, mask: Tensor, how: Hide, progress: Progress) -> Tensor:
    """Features [B, T, C] with some of them 0, their mean; in training only. Where, follows from the lengths and the
    step's generator alone."""
    if not progress.training:
        return features
    batch, steps, channels = features.shape
    lengths, generator, device = mask.sum(1), progress.generator, features.device

    def stretches(count: int, longest: float, size: Tensor, line: Tensor) -> Tensor:
        """Where `count` stretches lie, of up to `longest` of `size` [B, 1]; bool [B, places]."""
        begin, length = torch.rand(2, batch, count, 1, generator=generator, device=device)
        length = length * longest * size[..., None]
        begin = begin * (size[..., None] - length)
        return ((line >= begin.round()) & (line < (begin + length).round())).any(1)

    line = torch.arange(max(steps, channels), device=device)
    gone = stretches(how.times, how.frames, lengths[:, None], line[:steps])[..., None]
    wide = torch.full_like(lengths[:, None], channels)
    gone = gone | stretches(how.bands, how.width, wide, line[:channels])[:, None]
    return features.masked_fill(gone, 0.0)
