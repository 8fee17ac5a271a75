"""VAE: a variational autoencoder of pictures (Kingma & Welling: "Auto-Encoding Variational Bayes", ICLR 2014).

The encoder says of each picture a normal distribution of z, and pays for what it tells: the KL divergence from the
standard normal one. So z fills the space around 0 without holes, any z drawn from it makes a picture, and the model
says how likely a picture is (`scores/likelihood.py`).

    sakiyomi train mnist-vae --model.latent 40

It has no memory: time is a second axis of the batch, and the state is empty.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from sakiyomi.data.windows import Batch
from sakiyomi.errors import SakiyomiError, unknown
from sakiyomi.layers.coder import Activation, Decoder, Encoder, Network
from sakiyomi.layers.gaussian import Gaussian
from sakiyomi.models.base import SequenceModel, State, Streams, expect, one_step
from sakiyomi.schedules import Progress


class VAE(SequenceModel):
    """The one stream is `image` [.., C, H, W] in 0..1, which it gives back; predictions hold `latent`, the mean of z
    [.., Z], too."""

    inputs = outputs = ("image",)
    conditions: tuple[str, ...] = ()
    ahead = 0

    @dataclass(frozen=True)
    class Config:
        height: int = 28
        """Height of the pictures."""
        width: int = 28
        """Width of the pictures."""
        colours: int = 1
        """Channels of the pictures: 1 grey, 3 RGB."""
        latent: int = 50
        """Numbers of z, Z."""
        layers: tuple[int, ...] = (500, 500)
        """Units of the encoder's hidden layers, which the decoder has in reverse; of conv the channels of each
        convolution, and last the units of a dense layer."""
        network: Network = "dense"
        """dense, or conv: convolutions that halve the sides."""
        activation: Activation = "relu"
        """relu, silu or tanh."""
        likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
        """Of a pixel: a coin that falls on white, or a normal distribution about the mean picture."""
        binarize: bool = False
        """Pictures are read as coin flips of their brightness, drawn anew each step (bernoulli alone)."""
        deviation: float = 0.0
        """Standard deviation of a pixel, of gaussian; 0 learns it, one for all pixels."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        if config.likelihood not in ("bernoulli", "gaussian"):
            raise unknown("likelihood", config.likelihood, ("bernoulli", "gaussian"))
        if config.binarize and config.likelihood != "bernoulli":
            raise SakiyomiError("--model.binarize makes coin flips of pixels, whose --model.likelihood is bernoulli")
        self.config, self.latent = config, config.latent
        shape = (config.colours, config.height, config.width)
        self.shapes = {"image": shape}
        self.encoder = Encoder(shape, config.layers, 2 * config.latent, config.network, config.activation)
        self.decoder = Decoder(shape, config.layers, config.latent, config.network, config.activation)
        learned = config.likelihood == "gaussian" and not config.deviation
        self.log_deviation = nn.Parameter(torch.zeros(())) if learned else None

    def initial(self, batch_size: int) -> State:
        return {}

    def step(self, observation: Streams, state: State) -> tuple[Streams, State]:
        return one_step(self, observation, state)

    def unroll(self, observations: Streams, state: State | None = None) -> tuple[Streams, State]:
        """Pictures in, the same pictures out, by the mean of z."""
        z = self.encode(observations)
        return {**self.draw(z, {}), "latent": z}, {}

    def encode(self, observations: Streams) -> Tensor:
        """Pictures [..., C, H, W] -> the mean of z, [..., Z]."""
        return self.posterior(observations).mean

    def posterior(self, observations: Streams) -> Gaussian:
        """What z may have been, [..., Z]."""
        expect(observations, self.shapes)
        images = observations["image"]
        code = self.encoder(images.flatten(0, -4)).unflatten(0, images.shape[:-3])
        return Gaussian(*code.chunk(2, -1))

    def draw(self, z: Tensor, given: Streams) -> Streams:
        """z [..., Z] -> mean pictures [..., C, H, W] in 0..1."""
        return {"image": self.decoder(z.flatten(0, -2)).sigmoid().unflatten(0, z.shape[:-1])}

    def log_likelihood(self, observations: Streams, z: Tensor) -> Tensor:
        """How likely each picture [..., C, H, W] is where z [..., Z] is known, nats [...]."""
        decoded = self.decoder(z.flatten(0, -2))
        images = observations["image"].expand(*z.shape[:-1], *self.shapes["image"]).flatten(0, -4)
        if self.config.likelihood == "bernoulli":
            lost = functional.binary_cross_entropy_with_logits(decoded, images, reduction="none")
        else:
            lost = self._gaussian(decoded.sigmoid(), images)
        return -lost.flatten(1).sum(1).unflatten(0, z.shape[:-1])

    def loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """`image`: -log p(x | z) with z drawn from the posterior, and `kl`: KL of the posterior from N(0, I); both in
        nats a picture, and their sum bounds -log p(x) from above."""
        expect(batch.inputs, self.shapes)
        seen, generator = {"image": batch.inputs["image"]}, progress.generator
        if self.config.binarize:
            seen["image"] = coin_flips(seen["image"], generator)
        posterior = self.posterior(seen)
        noise = torch.randn(posterior.mean.shape, generator=generator, device=posterior.mean.device)
        image = -self.log_likelihood(seen, posterior.sample(noise))
        return {"image": image, "kl": posterior.from_standard().sum(-1)}

    def usage(self, batch: Batch) -> Tensor:
        """How much each number of z says, KL from the prior in nats, [B, T, Z]."""
        return self.posterior(batch.inputs).from_standard()

    def _gaussian(self, mean: Tensor, images: Tensor) -> Tensor:
        """-log of a normal density for each pixel."""
        fixed = images.new_tensor(self.config.deviation).log()
        log_deviation = fixed if self.log_deviation is None else self.log_deviation
        return ((images - mean) / log_deviation.exp()).square() / 2 + log_deviation + math.log(2 * math.pi) / 2


def coin_flips(images: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures of 0 and 1, each pixel 1 with the probability of its brightness (Salakhutdinov & Murray 2008)."""
    return (torch.rand(images.shape, generator=generator, device=images.device) < images).to(images.dtype)
