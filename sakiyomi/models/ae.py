"""AE: an autoencoder of pictures (Hinton & Salakhutdinov: "Reducing the Dimensionality of Data with Neural Networks",
Science 2006). It squeezes a picture through a few numbers z and learns to get it back.

Nothing keeps z near anything: its numbers reach where they like, and between two pictures there may be none. That is
what a VAE mends (`models/vae.py`).

    sakiyomi train digits-ae --model.latent 2

It has no memory: time is a second axis of the batch, and the state is empty.
"""

from dataclasses import dataclass

from torch import Tensor

from sakiyomi.data.windows import Batch
from sakiyomi.layers.coder import Activation, Decoder, Encoder, Network
from sakiyomi.models.base import SequenceModel, State, Streams, expect, one_step, squared_error
from sakiyomi.schedules import Progress


class AE(SequenceModel):
    """The one stream is `image` [.., C, H, W] in 0..1, which it gives back; predictions hold `latent` [.., Z], too."""

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
        latent: int = 2
        """Numbers of z, Z."""
        layers: tuple[int, ...] = (128, 64, 12)
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
        self.shapes = {"image": shape}
        built = (shape, config.layers, config.latent, config.network, config.activation)
        self.encoder, self.decoder = Encoder(*built), Decoder(*built)

    def initial(self, batch_size: int) -> State:
        return {}

    def step(self, observation: Streams, state: State) -> tuple[Streams, State]:
        return one_step(self, observation, state)

    def unroll(self, observations: Streams, state: State | None = None) -> tuple[Streams, State]:
        """Pictures in, the same pictures out."""
        z = self.encode(observations)
        return {**self.draw(z, {}), "latent": z}, {}

    def encode(self, observations: Streams) -> Tensor:
        """Pictures [..., C, H, W] -> z [..., Z]."""
        expect(observations, self.shapes)
        images = observations["image"]
        return self.encoder(images.flatten(0, -4)).unflatten(0, images.shape[:-3])

    def draw(self, z: Tensor, given: Streams) -> Streams:
        """z [..., Z] -> pictures [..., C, H, W] in 0..1."""
        return {"image": self.decoder(z.flatten(0, -2)).sigmoid().unflatten(0, z.shape[:-1])}

    def loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """`image`: mean squared error of the picture given back."""
        predictions, _ = self.unroll(batch.inputs)
        return {"image": squared_error(predictions["image"], batch.inputs["image"])}
