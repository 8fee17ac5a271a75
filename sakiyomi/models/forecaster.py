"""Forecaster: an LSTM that says what a sensor series will be a step later, and how far off that may be.

    sakiyomi train sensor

A mean that is learned by likelihood is learned where it is good already and given up where it is not (Seitzer et al.:
"On the Pitfalls of Heteroscedastic Uncertainty Estimation", 2022). Here it learns from its squared error alone; the
deviation learns from the likelihood, on what the LSTM remembers and without a say in it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from sakiyomi.data.episodes import Stream
from sakiyomi.data.windows import Batch
from sakiyomi.models.base import (
    SequenceModel,
    State,
    Streams,
    expect,
    known_width,
    one_step,
    squared_error,
    wide_as_recorded,
)
from sakiyomi.schedules import Progress


class Forecaster(SequenceModel):
    """Stream: `value` [.., C]. It predicts the next value, and `value.deviation` [.., C], the standard deviation of
    what it may be off, never less than `floor`."""

    inputs = outputs = ("value",)

    @dataclass(frozen=True)
    class Config:
        channels: int = 0
        """Sensors, C; 0 takes the recordings'."""
        hidden: int = 64
        """Units of the LSTM."""
        floor: float = 0.01
        """The least deviation it says, of the series' own; a series it foresees exactly has errors by rounding, too."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.shapes = {"value": (known_width(config, "channels"),)}
        self.lstm = nn.LSTM(config.channels, config.hidden, batch_first=True)
        self.change = nn.Linear(config.hidden, config.channels)
        self.deviation = nn.Sequential(
            nn.Linear(config.hidden, config.hidden), nn.Tanh(), nn.Linear(config.hidden, config.channels)
        )

    @staticmethod
    def fitted(config: Config, streams: Mapping[str, Stream]) -> Config:
        """The Config with as many channels as were recorded where it leaves that open."""
        return wide_as_recorded(config, "channels", streams, "value")

    def initial(self, batch_size: int) -> State:
        zeros = self.change.weight.new_zeros(batch_size, self.config.hidden)
        return {"h": zeros, "c": zeros}

    def step(self, observation: Streams, state: State) -> tuple[Streams, State]:
        return one_step(self, observation, state)

    def unroll(self, observations: Streams, state: State | None = None) -> tuple[Streams, State]:
        expect(observations, self.shapes)
        values = observations["value"]
        state = self.initial(len(values)) if state is None else state
        hidden, (h, c) = self.lstm(values, (state["h"][None], state["c"][None]))
        deviation = functional.softplus(self.deviation(hidden.detach())) + self.config.floor
        # A series mostly stays near where it is: what is learned is the change.
        return {"value": values + self.change(hidden), "value.deviation": deviation}, {"h": h[0], "c": c[0]}

    def loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """`value`: squared error, mean over C. `nll`: minus the log-likelihood of the next value, nats, mean over C; it
        teaches the deviation alone, and may be less than 0."""
        predictions, _ = self.unroll(batch.inputs)
        target, mean, deviation = batch.targets["value"], predictions["value"], predictions["value.deviation"]
        off = (target - mean.detach()) / deviation
        nll = off.square() / 2 + torch.log(deviation) + math.log(2 * math.pi) / 2
        return {"value": squared_error(mean, target), "nll": nll.flatten(2).mean(2)}
