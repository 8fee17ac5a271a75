"""LSTMVAE: LSTMAE with a Gaussian code, whose prior says which codes are usual (after Park et al.: "A Multimodal
Anomaly Detector for Robot-Assisted Feeding Using an LSTM-based Variational Autoencoder", 2018).

    sakiyomi train climate-lstm-vae --train.losses.kl.value 0.001

There each step has a latent of its own, here the whole window has one; the idea is the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sakiyomi.data.episodes import Stream
from sakiyomi.data.windows import Batch
from sakiyomi.layers.gaussian import Gaussian
from sakiyomi.layers.sliding import WindowReader, WindowWriter, beginning, slide, tiles
from sakiyomi.models.base import SequenceModel, State, Streams, expect, known_width, one_step, wide_as_recorded
from sakiyomi.schedules import Progress


class LSTMVAE(SequenceModel):
    """Stream: `value` [.., C]. It predicts the value it has just read, and `latent` [.., Z], the mean of z.

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
        """Numbers of z, Z."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.warmup = config, config.window - 1
        self.shapes = {"value": (known_width(config, "channels"),)}
        self.encoder = WindowReader(config.channels, config.hidden, 2 * config.latent)
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
        """The same for the same values: z is its mean."""
        expect(observations, self.shapes)
        values = observations["value"]
        windows, state = slide(values, self.initial(len(values)) if state is None else state)
        z = self.posterior(windows).mean
        return {"value": self.decoder(z, 1)[..., 0, :], "latent": z}, state

    def posterior(self, windows: Tensor) -> Gaussian:
        """What z of windows [..., W, C] may have been."""
        return Gaussian(*self.encoder(windows).chunk(2, -1))

    def loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """`value`: the squared error of each step in the window it counts in, mean over C. `kl`: at each step that of
        its whole window, in nats; its weight in an evidence bound is 2 s^2 / (W C), for noise of deviation s."""
        expect(batch.inputs, self.shapes)
        cut = tiles(batch.inputs["value"], batch.mask, self.config.window)
        posterior = self.posterior(cut.windows)
        mean = posterior.mean
        noise = torch.randn(mean.shape, generator=progress.generator, device=mean.device, dtype=mean.dtype)
        windows = self.decoder(posterior.sample(noise), self.config.window)
        return {
            "value": cut.steps((windows - cut.windows).square().mean(3)),
            "kl": cut.whole(posterior.from_standard().sum(2, keepdim=True))[..., 0],
        }

    def usage(self, batch: Batch) -> Tensor:
        """How much each number of z says of the window a step counts in, nats [B, T, Z]."""
        cut = tiles(batch.inputs["value"], batch.mask, self.config.window)
        return cut.whole(self.posterior(cut.windows).from_standard())
