"""CVAE: a variational autoencoder that is told the label (Sohn et al.: "Learning Structured Output Representation using
Deep Conditional Generative Models", NeurIPS 2015).

The label is joined to what both ends read. So z need not say which digit it is, and says the rest: the hand. Any label
can be drawn with any z.

    sakiyomi train digits --model.latent 16

It has no memory: time is a second axis of the batch, and the state is empty.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sakiyomi.data.episodes import Stream
from sakiyomi.data.windows import Batch
from sakiyomi.layers.coder import Activation, Decoder, Encoder, Network
from sakiyomi.layers.gaussian import Gaussian
from sakiyomi.models.base import SequenceModel, State, Streams, expect, known_width, one_step, wide_as_recorded
from sakiyomi.schedules import Progress


class CVAE(SequenceModel):
    """Streams: `image` [.., C, H, W] in 0..1, which it gives back, and `label` [.., L], one-hot, which it is told.
    Predictions hold `latent`, the mean of z [.., Z], too."""

    inputs: tuple[str, ...] = ("image", "label")
    outputs: tuple[str, ...] = ("image",)
    conditions: tuple[str, ...] = ("label",)
    ahead = 0

    @dataclass(frozen=True)
    class Config:
        height: int = 28
        """Height of the pictures."""
        width: int = 28
        """Width of the pictures."""
        colours: int = 1
        """Channels of the pictures: 1 grey, 3 RGB."""
        labels: int = 10
        """Kinds of pictures, L; 0 takes the recordings'."""
        latent: int = 16
        """Numbers of z, Z."""
        layers: tuple[int, ...] = (512, 512)
        """Units of the encoder's hidden layers, which the decoder has in reverse; of conv the channels of each
        convolution, and last the units of a dense layer."""
        network: Network = "dense"
        """dense, or conv: convolutions that halve the sides."""
        activation: Activation = "relu"
        """relu, silu or tanh."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.latent = config, config.latent
        shape = (config.colours, config.height, config.width)
        self.shapes = {"image": shape, "label": (known_width(config, "labels"),)}
        network, activation, labels = config.network, config.activation, config.labels
        self.encoder = Encoder(shape, config.layers, 2 * config.latent, network, activation, labels)
        self.decoder = Decoder(shape, config.layers, config.latent, network, activation, labels)

    @staticmethod
    def fitted(config: Config, streams: Mapping[str, Stream]) -> Config:
        """The Config with as many labels as were recorded where it leaves that open."""
        return wide_as_recorded(config, "labels", streams, "label")

    def initial(self, batch_size: int) -> State:
        return {}

    def step(self, observation: Streams, state: State) -> tuple[Streams, State]:
        return one_step(self, observation, state)

    def unroll(self, observations: Streams, state: State | None = None) -> tuple[Streams, State]:
        """Pictures and labels in, the same pictures out, by the mean of z."""
        z = self.encode(observations)
        return {**self.draw(z, observations), "latent": z}, {}

    def encode(self, observations: Streams) -> Tensor:
        """Pictures [..., C, H, W] and labels [..., L] -> the mean of z, [..., Z]."""
        return self.posterior(observations).mean

    def posterior(self, observations: Streams) -> Gaussian:
        """What z may have been, [..., Z]."""
        expect(observations, self.shapes)
        images, labels = observations["image"], observations["label"]
        code = self.encoder(images.flatten(0, -4), labels.flatten(0, -2)).unflatten(0, images.shape[:-3])
        return Gaussian(*code.chunk(2, -1))

    def draw(self, z: Tensor, given: Streams) -> Streams:
        """z [..., Z] and labels [..., L] -> mean pictures [..., C, H, W] in 0..1."""
        return {"image": self._decoded(z, given).sigmoid().unflatten(0, z.shape[:-1])}

    def log_likelihood(self, observations: Streams, z: Tensor) -> Tensor:
        """How likely each picture [..., C, H, W] is where its label and z [..., Z] are known, nats [...]."""
        decoded = self._decoded(z, observations)
        images = observations["image"].expand(*z.shape[:-1], *self.shapes["image"]).flatten(0, -4)
        lost = functional.binary_cross_entropy_with_logits(decoded, images, reduction="none")
        return -lost.flatten(1).sum(1).unflatten(0, z.shape[:-1])

    def loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """`image`: binary cross-entropy of the picture with z drawn from the posterior, and `kl`: KL of the posterior
        from N(0, I); both in nats a picture."""
        posterior = self.posterior(batch.inputs)
        noise = torch.randn(posterior.mean.shape, generator=progress.generator, device=posterior.mean.device)
        image = -self.log_likelihood(batch.inputs, posterior.sample(noise))
        return {"image": image, "kl": posterior.from_standard().sum(-1)}

    def usage(self, batch: Batch) -> Tensor:
        """How much each number of z says, KL from the prior in nats, [B, T, Z]."""
        return self.posterior(batch.inputs).from_standard()

    def _decoded(self, z: Tensor, given: Streams) -> Tensor:
        """Pictures before the sigmoid, [N, C, H, W]; labels are repeated along leading axes that z alone has."""
        expect(given, {"label": self.shapes["label"]})
        labels = given["label"].expand(*z.shape[:-1], -1)
        return self.decoder(z.flatten(0, -2), labels.flatten(0, -2))
