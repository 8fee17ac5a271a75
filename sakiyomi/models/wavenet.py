"""WaveNet: sound, sample by sample (van den Oord et al.: "WaveNet: A Generative Model for Raw Audio", 2016).

    sakiyomi train say-digits

A sample is one of 256 values (mu-law, `audio/wave.py`). Causal convolutions of two taps, the second tap 1, 2, 4, ...
samples back, hear far into the past with few weights; each adds to what the next one reads (residual) and to what is
said in the end (skip). A label is told to every one of them.

Training runs over all samples at once. Speaking needs of each convolution only what it will read again, a queue of its
last inputs (Le Paine et al.: "Fast Wavenet Generation Algorithm", 2016): a sample costs the same however long the sound
is. Letters: C channels, G layers, D the dilation of a layer, Q values of a sample, L labels.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sakiyomi.audio.spectrum import cosines
from sakiyomi.data.episodes import Stream
from sakiyomi.data.windows import Batch
from sakiyomi.errors import SakiyomiError, at_least
from sakiyomi.models.base import SequenceModel, State, Streams, expect, known_width, nats, one_step, wide_as_recorded
from sakiyomi.schedules import Progress

DRAWN_AT_ONCE = 500  # samples whose noise is drawn together


class Unit(nn.Module):
    """One gated convolution: tanh(a) sigmoid(b), a and b of the input now, the input D samples ago, and the label."""

    def __init__(self, channels: int, labels: int, dilation: int, last: bool) -> None:
        super().__init__()
        self.dilation = dilation
        self.now = nn.Linear(channels, 2 * channels)
        self.ago = nn.Linear(channels, 2 * channels, bias=False)
        self.told = nn.Linear(labels, 2 * channels, bias=False)
        self.residual = None if last else nn.Linear(channels, channels, bias=False)

    def forward(self, now: Tensor, ago: Tensor, label: Tensor) -> Tensor:
        """[.., C], [.., C] and [.., L] -> [.., C]."""
        a, b = (self.now(now) + self.ago(ago) + self.told(label)).chunk(2, -1)
        return a.tanh() * b.sigmoid()


class WaveNet(SequenceModel):
    """Streams: `sample` [B, T], ids of mu-law, of which it predicts the next one, logits [.., Q]; and `label` [.., L],
    one-hot, which it is told.

    The state is the queue of each layer, `queue.N` [B, D, C]: its inputs, the oldest first; 0 before the first sample.
    """

    inputs: tuple[str, ...] = ("sample", "label")
    outputs: tuple[str, ...] = ("sample",)
    conditions: tuple[str, ...] = ("label",)

    @dataclass(frozen=True)
    class Config:
        channels: int = 32
        """Channels of each layer, C."""
        skip: int = 64
        """Units of the two layers that say the next sample."""
        dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128)
        """How many samples back the second tap of each layer is; their sum and one is what it hears."""
        quantisation: int = 256
        """Values a sample may have, Q."""
        labels: int = 0
        """What may be said, L; 0 takes the recordings'."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        if not config.dilations:
            raise SakiyomiError("--model.dilations is empty; a WaveNet needs a layer at least")
        at_least("--model.dilations", min(config.dilations), 1)
        at_least("--model.quantisation", config.quantisation, 2)
        self.config, c = config, config
        self.shapes = {"sample": (), "label": (known_width(c, "labels"),)}
        self.vocabularies = {"sample": c.quantisation}
        last = len(c.dilations) - 1
        self.table = nn.Embedding(c.quantisation, c.channels)
        # Neighbouring values are read as nearly the same from the start: slow and fast cosines of the value.
        waves = cosines(c.quantisation, c.channels + 1)[:, 1:] * c.quantisation**0.5
        self.table.weight.data.copy_(waves)
        self.units = nn.ModuleList(Unit(c.channels, c.labels, d, n == last) for n, d in enumerate(c.dilations))
        self.skips = nn.Linear(len(c.dilations) * c.channels, c.skip)
        self.say = nn.Sequential(nn.ReLU(), nn.Linear(c.skip, c.skip), nn.ReLU(), nn.Linear(c.skip, c.quantisation))

    @staticmethod
    def fitted(config: Config, streams: Mapping[str, Stream]) -> Config:
        """The Config with as many labels as were recorded where it leaves that open."""
        return wide_as_recorded(config, "labels", streams, "label")

    @property
    def layers(self) -> list[Unit]:
        return [unit for unit in self.units if isinstance(unit, Unit)]

    @property
    def hears(self) -> int:
        """Samples that a prediction depends on."""
        return 1 + sum(self.config.dilations)

    def initial(self, batch_size: int) -> State:
        zeros = self.table.weight.new_zeros
        return {f"queue.{n}": zeros(batch_size, d, self.config.channels) for n, d in enumerate(self.config.dilations)}

    def step(self, observation: Streams, state: State) -> tuple[Streams, State]:
        return one_step(self, observation, state)

    def unroll(self, observations: Streams, state: State | None = None) -> tuple[Streams, State]:
        """Samples [B, T] and labels [B, T, L] -> logits of the next samples [B, T, Q]."""
        expect(observations, self.shapes)
        samples, label = observations["sample"], observations["label"]
        state = self.initial(len(samples)) if state is None else state
        x, steps = self._embedded(samples), samples.shape[1]
        gated, after = [], {}
        for n, unit in enumerate(self.layers):
            line = torch.cat((state[f"queue.{n}"], x), 1)
            after[f"queue.{n}"] = line[:, steps:]
            gated.append(unit(x, line[:, :steps], label))
            if unit.residual is not None:
                x = x + unit.residual(gated[-1])
        return {"sample": self.say(self.skips(torch.cat(gated, -1)))}, after

    def loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """`sample`: cross-entropy of the next sample, nats."""
        predictions, _ = self.unroll(batch.inputs)
        return {"sample": nats(predictions["sample"], batch.targets["sample"], "sample")["sample"]}

    @torch.no_grad()
    def speak(
        self,
        first: Tensor,
        given: Streams,
        state: State,
        steps: int,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, State]:
        """Goes on by itself: the next samples [B, steps], and the state after all of them but the last.

        `first` [B] is the last sample that was heard, and not in the state yet; `given` holds the label [B, L]. Samples
        are drawn by softmax(logits / temperature), 0 takes the likeliest. It is `step` repeated, by the same weights
        arranged for speed.
        """
        expect({"sample": first, **given}, self.shapes)
        at_least("the samples to speak", steps, 1)
        at_least("the temperature", temperature, 0)
        queue, sample, spoken = _Queue(self, given["label"], state), first, []
        for begin in range(0, steps, DRAWN_AT_ONCE):
            size = (min(DRAWN_AT_ONCE, steps - begin), len(first), self.config.quantisation)
            for noise in gumbel(size, first.device, generator) * temperature:
                # The largest of logits and noise of this kind is a draw from their softmax.
                sample = (queue.push(sample) + noise).argmax(-1)
                spoken.append(sample)
        return torch.stack(spoken, 1), queue.state()

    def _embedded(self, samples: Tensor) -> Tensor:
        try:
            return self.table(samples)
        except IndexError as error:
            raise SakiyomiError(
                f"samples are ids from {int(samples.min())} to {int(samples.max())}, the model knows 0 to "
                f"{self.config.quantisation - 1}; were they made by mu-law of as many values?"
            ) from error


def gumbel(size: tuple[int, ...], device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Noise by the Gumbel distribution, drawn on the CPU, so that every device draws the same."""
    even = torch.rand(size, generator=generator).clamp(1e-20, 1 - 1e-7)
    return -(-even.log()).log().to(device)


class _Queue:
    """The state as one ring of all layers' queues, which is written over in place; a sample costs four small
    operations a layer.

    What was said D samples ago is known before the sample comes, so all layers' second taps are one product. The
    sigmoid is (1 + tanh(b / 2)) / 2, so that one tanh serves both halves; its halves are put into the weights.
    """

    def __init__(self, model: WaveNet, label: Tensor, state: State) -> None:
        units, c = model.layers, model.config.channels
        self.model, self.time = model, 0
        self.dilations = torch.tensor(model.config.dilations, device=label.device)
        self.offsets = self.dilations.cumsum(0) - self.dilations
        # The oldest input of each layer comes first in the state, and is the first one that is read and written over.
        self.ring = torch.cat([state[f"queue.{n}"] for n in range(len(units))], 1).transpose(0, 1).contiguous()
        half = torch.ones(2 * c, device=label.device, dtype=self.ring.dtype)
        half[c:] = 0.5
        self.now = [(unit.now.weight.T * half).contiguous() for unit in units]
        self.ago = torch.stack([unit.ago.weight.T * half for unit in units])
        self.fixed = torch.stack([(unit.now.bias + unit.told(label)) * half for unit in units])  # [G, B, 2C]
        self.residual = [unit.residual.weight.T.contiguous() / 2 for unit in units if unit.residual is not None]
        self.skips = model.skips.weight.T / 2
        # Where each layer's numbers are put, and views of them.
        batch = len(label)
        self.inputs = self.ring.new_empty(len(units), batch, c)
        self.gated = self.ring.new_empty(batch, len(units) * c)
        both = self.ring.new_empty(batch, 2 * c)
        self.x, self.z = self.inputs.unbind(0), self.gated.split(c, 1)
        self.both, self.a, self.b = both, both[:, :c], both[:, c:]

    def push(self, sample: Tensor) -> Tensor:
        """One sample [B] -> logits of the next [B, Q]."""
        slots = self.offsets + self.time % self.dilations
        known = torch.baddbmm(self.fixed, self.ring[slots], self.ago).unbind(0)
        self.x[0].copy_(self.model._embedded(sample))
        for n, x in enumerate(self.x):
            torch.addmm(known[n], x, self.now[n], out=self.both).tanh_()
            torch.addcmul(self.a, self.a, self.b, out=self.z[n])  # a (1 + b)
            if n < len(self.residual):
                torch.addmm(x, self.z[n], self.residual[n], out=self.x[n + 1])
        self.ring[slots] = self.inputs
        self.time += 1
        return self.model.say(torch.addmm(self.model.skips.bias, self.gated, self.skips))

    def state(self) -> State:
        """As `WaveNet` has it: the oldest first."""
        queues = self.ring.transpose(0, 1).split(self.dilations.tolist(), 1)
        return {f"queue.{n}": queue.roll(-(self.time % queue.shape[1]), 1) for n, queue in enumerate(queues)}
