"""WindowAE: an autoencoder of the last W values of a sensor series, after a university course's on daily temperatures.

    sakiyomi train climate

A window that looks like those of the training comes back nearly as it was; one that does not comes back otherwise, or
its code lies far from theirs. Fed value by value it keeps the last W of them; at each step it gives back the value it
has just read, as the whole window has it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from sakiyomi.data.episodes import Stream
from sakiyomi.data.windows import Batch
from sakiyomi.layers.sliding import beginning, slide, tiles
from sakiyomi.models.base import SequenceModel, State, Streams, expect, known_width, one_step, wide_as_recorded
from sakiyomi.schedules import Progress


class WindowAE(SequenceModel):
    """Stream: `value` [.., C]. It predicts the value it has just read, and `latent` [.., Z], the code of the window.

    Training takes windows side by side out of its sequences (sequences of W steps: one each), and the error of every
    value of theirs. Long series are best read in pieces with the state handed on: every step is a window of its own.
    """

    inputs = outputs = ("value",)
    ahead = 0

    @dataclass(frozen=True)
    class Config:
        channels: int = 0
        """Sensors, C; 0 takes the recordings'."""
        window: int = 180
        """Values of a window, W."""
        hidden: int = 128
        """Units of the layer on either side of the code."""
        latent: int = 64
        """Numbers of the code, Z."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.warmup = config, config.window - 1
        self.shapes = {"value": (known_width(config, "channels"),)}
        width = config.window * config.channels
        self.encoder = nn.Sequential(
            nn.Linear(width, config.hidden), nn.ReLU(), nn.Linear(config.hidden, config.latent)
        )
        self.decoder = nn.Sequential(nn.Linear(config.latent, config.hidden), nn.ReLU())
        self.out = nn.Linear(config.hidden, width)

    @staticmethod
    def fitted(config: Config, streams: Mapping[str, Stream]) -> Config:
        """The Config with as many channels as were recorded where it leaves that open."""
        return wide_as_recorded(config, "channels", streams, "value")

    def initial(self, batch_size: int) -> State:
        """`window` [B, W, C], the last values, and `seen` [B, 1], how many of them there were."""
        return beginning(batch_size, self.config.window, self.config.channels, self.out.weight)

    def step(self, observation: Streams, state: State) -> tuple[Streams, State]:
        return one_step(self, observation, state)

    def unroll(self, observations: Streams, state: State | None = None) -> tuple[Streams, State]:
        expect(observations, self.shapes)
        values = observations["value"]
        windows, state = slide(values, self.initial(len(values)) if state is None else state)
        codes = self.encoder(windows.flatten(2))
        last = slice(-self.config.channels, None)  # nobody asked for the rest of the window
        value = functional.linear(self.decoder(codes), self.out.weight[last], self.out.bias[last])
        return {"value": value, "latent": codes}, state

    def loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """`value`: the squared error of each step in the window it counts in, mean over C."""
        expect(batch.inputs, self.shapes)
        cut = tiles(batch.inputs["value"], batch.mask, self.config.window)
        windows = self.out(self.decoder(self.encoder(cut.windows.flatten(2)))).unflatten(2, cut.windows.shape[2:])
        return {"value": cut.steps((windows - cut.windows).square().mean(3))}
