"""LSTMAE: an LSTM reads the last W values of a series into a code, another writes them down again, last one first
(EncDec-AD of Malhotra et al.: "LSTM-based Encoder-Decoder for Multi-sensor Anomaly Detection", 2016).

    sakiyomi train climate-lstm-ae

There the decoder reads the true values in training and its own ones later; here it reads the code at each step and
nothing else (the unconditioned decoder of Srivastava et al. 2015): one thing in training and in use, and one scan.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from sakiyomi.data.episodes import Stream
from sakiyomi.data.windows import Batch
from sakiyomi.layers.sliding import WindowReader, WindowWriter, beginning, slide, tiles
from sakiyomi.models.base import SequenceModel, State, Streams, expect, known_width, one_step, wide_as_recorded
from sakiyomi.schedules import Progress


class LSTMAE(SequenceModel):
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
        window: int = 48
        """Values of a window, W."""
        hidden: int = 64
        """Units of each LSTM."""
        latent: int = 16
        """Numbers of the code, Z."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.warmup = config, config.window - 1
        self.shapes = {"value": (known_width(config, "channels"),)}
        self.encoder = WindowReader(config.channels, config.hidden, config.latent)
        self.decoder = WindowWriter(config.latent, config.hidden, config.channels)

    @staticmethod
    def fitted(config: Config, streams: Mapping[str, Stream]) -> Config:
        """The Config with as many channels as were recorded where it leaves that open."""
        return wide_as_recorded(config, "channels", streams, "value")

    def initial(self, batch_size: int) -> State:
        """`window` [B, W, C], the last values, and `seen` [B, 1], how many of them there were."""
        return beginning(batch_size, self.config.window, self.config.channels, self.encoder.out.weight)

    def step(self, observation: Streams, state: State) -> tuple[Streams, State]:
        return one_step(self, observation, state)

    def unroll(self, observations: Streams, state: State | None = None) -> tuple[Streams, State]:
        expect(observations, self.shapes)
        values = observations["value"]
        windows, state = slide(values, self.initial(len(values)) if state is None else state)
        codes = self.encoder(windows)
        return {"value": self.decoder(codes, 1)[..., 0, :], "latent": codes}, state

    def loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """`value`: the squared error of each step in the window it counts in, mean over C."""
        expect(batch.inputs, self.shapes)
        cut = tiles(batch.inputs["value"], batch.mask, self.config.window)
        windows = self.decoder(self.encoder(cut.windows), self.config.window)
        return {"value": cut.steps((windows - cut.windows).square().mean(3))}
