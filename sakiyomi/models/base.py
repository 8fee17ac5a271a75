"""The contract of every sequence model: read one step, predict the next.

Letters: B windows, T steps, C x H x W pictures, J joints. Time is the second axis. Observations and predictions are
dictionaries stream name -> tensor, [B, ...] for a step and [B, T, ...] for a sequence, normalised. The state is a
dictionary of tensors [B, ...] that goes in and comes out; a model keeps nothing of it.

The law, tested for every entry of MODELS: `unroll` over a sequence equals `step` repeated, outputs and gradients.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from sakiyomi.data.episodes import Stream
from sakiyomi.data.vocabulary import SPECIAL
from sakiyomi.data.windows import Batch
from sakiyomi.errors import SakiyomiError
from sakiyomi.schedules import Progress

Streams = dict[str, Tensor]
State = dict[str, Tensor]


class SequenceModel(nn.Module, ABC):
    """What a model has to offer. Models are final: nobody overrides a concrete method."""

    inputs: tuple[str, ...]
    """The streams it reads."""
    outputs: tuple[str, ...]
    """Those of them it predicts, and what it is taught; the others are conditions."""
    shapes: dict[str, tuple[int, ...]]
    """The shape of one value of each of them."""
    ahead: int = 1
    """Steps between what it has read and what its prediction is of; 0 for an autoencoder, which gives back what it
    has read."""
    whole: bool = False
    """It reads a sequence in both directions, so that all of it must be there: `unroll` alone, and `step` raises
    SakiyomiError."""
    reads: tuple[str, ...] = ()
    """Those of its inputs that are read whole before the first step, as a translator reads its source: `Reads`."""
    taught: tuple[str, ...] = ()
    """Those of its outputs that it never reads: labels of a whole sequence, without times. `Utterances` have them."""
    vocabularies: dict[str, int]
    """Of its streams of tokens: how many there are. A step of such a stream is int64 [B], its shape is (), and what is
    predicted of it are logits [.., V]."""
    reads_itself: bool = False
    """In training it can read its own predictions, where `Progress` says that a step is not teacher-forced."""
    warmup: int = 0
    """Steps it has to read before its predictions are worth anything; a model of windows needs a whole one."""

    def __init__(self) -> None:
        super().__init__()
        self.vocabularies = {}

    @abstractmethod
    def initial(self, batch_size: int) -> State:
        """The state before the first step, on the model's device."""

    @abstractmethod
    def step(self, observation: Streams, state: State) -> tuple[Streams, State]:
        """One step: [B, ...] in, the prediction for the next step out."""

    @abstractmethod
    def unroll(self, observations: Streams, state: State | None = None) -> tuple[Streams, State]:
        """A whole sequence of true observations [B, T, ...]: predictions [B, T, ...] and the last state."""

    @abstractmethod
    def loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Losses by name, unreduced [B, T], unweighted and unmasked; `train.py` does both, in one place."""

    def example(self, batch_size: int, steps: int) -> Streams:
        """Random observations [B, T, ...] of the right shapes, in 0..1, or words; for tests, docs and export."""
        size = (batch_size, steps)
        return {
            name: torch.randint(len(SPECIAL), self.vocabularies[name], size)
            if name in self.vocabularies
            else torch.rand(*size, *shape)
            for name, shape in self.shapes.items()
        }


@runtime_checkable
class Attentive(Protocol):
    """A model that looks at places: its predictions hold `attention` and `points`, [.., K, 2]."""

    def to_picture(self, points: Tensor) -> Tensor:
        """Points as the model counts them -> x and y in 0..1 of the picture."""
        ...


@runtime_checkable
class Reads(Protocol):
    """A model that reads whole sequences, the streams `reads`, before its first step. Its `unroll` does so when it is
    given no state; `initial` is the state after a source without words."""

    inputs: tuple[str, ...]
    reads: tuple[str, ...]

    def read(self, given: Streams) -> State:
        """Sequences [B, S], each with its EOS and filled up with PAD -> the state before the first step."""
        ...

    def attention(self, observations: Streams) -> Tensor:
        """Where in the source it looks at each step, [B, T, S], sums of 1. Raises SakiyomiError if it does not."""
        ...


@runtime_checkable
class Imaginative(Protocol):
    """A stochastic model that can go on without being shown what happens. Its `step` and `unroll` take noise, too."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    past: int
    """Steps it is shown before it imagines."""
    noise: tuple[int, ...]
    """Shape of one step's noise, standard normal."""

    def initial(self, batch_size: int) -> State: ...

    def unroll(
        self, observations: Streams, state: State | None = None, noise: Tensor | None = None
    ) -> tuple[Streams, State]: ...

    def imagine(self, given: Streams, state: State, noise: Tensor | None = None) -> tuple[Streams, State]:
        """One step on what it expected itself; `given` holds the conditions, [B, ...]."""
        ...


@runtime_checkable
class Framewise(Protocol):
    """A model that is taught frame by frame, with a gradient step after each; `loss` gives the same losses at once."""

    def frames(self, batch: Batch, progress: Progress) -> Iterator[dict[str, Tensor]]:
        """The losses of one frame after another, by name, unreduced [B, 1]."""
        ...


@runtime_checkable
class Fitted(Protocol):
    """A model whose Config may leave to the recordings how wide they are."""

    @staticmethod
    def fitted(config: Any, streams: Mapping[str, Stream]) -> Any:
        """The Config with what it left open taken from the streams of a store."""
        ...


@runtime_checkable
class Latent(Protocol):
    """A model with a latent z whose numbers may come to say nothing (posterior collapse)."""

    def usage(self, batch: Batch) -> Tensor:
        """How much each number of z says, nats [B, T, Z]."""
        ...


@runtime_checkable
class Draws(Protocol):
    """A model of pictures without time: z is read from a picture and turned back into one. Its predictions hold
    `latent`, the mean z [.., Z]."""

    latent: int
    """Numbers of z, Z."""
    conditions: tuple[str, ...]
    """The streams that are told to both ends, such as `label`."""

    def encode(self, observations: Streams) -> Tensor:
        """Streams [..., of a step] -> the mean of z, [..., Z]."""
        ...

    def draw(self, z: Tensor, given: Streams) -> Streams:
        """z [..., Z] and the conditions [..., of a step] -> the mean picture, `image` [..., C, H, W] in 0..1."""
        ...


def wide_as_recorded(config: Any, width: str, streams: Mapping[str, Stream], stream: str) -> Any:
    """For `Fitted`: the Config whose field `width`, where it is 0, says how wide the recorded stream is."""
    if getattr(config, width) or stream not in streams:
        return config
    return replace(config, **{width: streams[stream].shape[0]})


def as_many_words(config: Any, words: str, streams: Mapping[str, Stream], stream: str) -> Any:
    """For `Fitted`: the Config whose field `words`, where it is 0, says how many words the recorded stream knows."""
    if getattr(config, words) or stream not in streams:
        return config
    known = streams[stream].vocabulary
    if known is None:
        raise SakiyomiError(f"stream {stream!r} holds {streams[stream].kind}; the model reads tokens with a vocabulary")
    return replace(config, **{words: len(known)})


def known_width(config: Any, width: str) -> int:
    """The field `width` of a Config. Raises SakiyomiError where it is still left to the recordings."""
    if getattr(config, width) < 1:
        raise SakiyomiError(f"--model.{width} is {getattr(config, width)}; without recordings to ask it must be told")
    return getattr(config, width)


def device_of(model: Imaginative) -> torch.device:
    """Where it computes."""
    return next(iter(model.initial(1).values())).device


def one_step(model: SequenceModel, observation: Streams, state: State) -> tuple[Streams, State]:
    """`step` for a model whose `unroll` takes a state: a sequence of one."""
    sequence, state = model.unroll({name: value[:, None] for name, value in observation.items()}, state)
    return {name: value[:, 0] for name, value in sequence.items()}, state


def nats(logits: Tensor, words: Tensor, stream: str) -> dict[str, Tensor]:
    """What a model of tokens has lost, logits [B, T, V] against words [B, T]. By the stream's name: cross-entropy in
    nats [B, T]. `uniform`: the KL divergence of what it says from all words alike, also in nats. Weights of 0.9 and 0.1
    are the label smoothing of Szegedy et al. 2016."""
    said = logits.log_softmax(-1, dtype=torch.float32 if logits.dtype == torch.bfloat16 else None)
    words_said = said.gather(-1, words[..., None]).squeeze(-1)
    return {stream: -words_said, "uniform": -said.mean(-1) - math.log(logits.shape[-1])}


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over all but the first two axes: [B, T, ...] -> [B, T]."""
    return (prediction - target).square().flatten(2).mean(2)


def expect(streams: Streams, shapes: dict[str, tuple[int, ...]]) -> None:
    """Raises SakiyomiError unless every named stream is there with these last dimensions."""
    for name, shape in shapes.items():
        if name not in streams:
            raise SakiyomiError(f"the model reads streams {sorted(shapes)}, got {sorted(streams)}: {name!r} is missing")
        came = tuple(streams[name].shape)
        if not shape and streams[name].is_floating_point():
            raise SakiyomiError(f"stream {name!r} holds {streams[name].dtype}; the model reads tokens, whole numbers")
        if shape and came[-len(shape) :] != shape:
            wrong = (
                f"stream {name!r} has shape {list(came)}, the model was built for [..., {', '.join(map(str, shape))}]"
            )
            if name == "image" and came[-len(shape)] != shape[0]:
                raise SakiyomiError(f"{wrong}; pictures need {shape[0]} channels")
            flags = {"image": "height, --model.width", "value": "channels", "label": "labels"}.get(name, name)
            raise SakiyomiError(f"{wrong}; build it for these (--model.{flags})")
