"""EiplCAE: the convolutional autoencoders of EIPL (BasicCAE, BasicCAEBN, CAE, CAEBN), so that what was trained there
runs here. Their codes are what EIPL's recurrent networks read in place of pictures.

    sakiyomi prepare eipl-model CAEBN.pth --store data/grasp --out runs/cae
    sakiyomi evaluate cae

It has no memory: time is a second axis of the batch, and the state is empty.
"""

from dataclasses import dataclass

from torch import Tensor

from sakiyomi.data.windows import Batch
from sakiyomi.layers.eipl import Activation, Coding, Norm, Size, check_range, decoder, encoder, from_network, to_network
from sakiyomi.models.base import SequenceModel, State, Streams, expect, one_step, squared_error
from sakiyomi.schedules import Progress


class EiplCAE(SequenceModel):
    """The one stream is `image` [.., 3, H, W] in 0..1, which it gives back; predictions hold `latent` [.., Z], too."""

    inputs = outputs = ("image",)
    conditions: tuple[str, ...] = ()
    ahead = 0

    @dataclass(frozen=True)
    class Config:
        height: int = 128
        """Height of the pictures."""
        width: int = 128
        """Width of the pictures."""
        features: int = 10
        """Numbers of the code, Z."""
        size: Size = "basic"
        """basic: five convolutions of 3x3 and a dense layer of 50; large: three of 6x6 and a dense layer of 1000."""
        norm: Norm = "none"
        """none, batch (their BN) or layer (their LN)."""
        activation: Activation = "tanh"
        """tanh or relu, after every layer, the last one too."""
        image_low: float = 0.0
        """What black is inside the network."""
        image_high: float = 1.0
        """What white is."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        check_range(config.image_low, config.image_high)
        self.config, self.latent = config, config.features
        self.shapes = {"image": (3, config.height, config.width)}
        coding = Coding(config.height, config.width, config.size, config.norm, config.activation)
        self.encoder = encoder(coding, config.features)
        self.decoder = decoder(coding, config.features, dense=True)

    def initial(self, batch_size: int) -> State:
        return {}

    def step(self, observation: Streams, state: State) -> tuple[Streams, State]:
        return one_step(self, observation, state)

    def unroll(self, observations: Streams, state: State | None = None) -> tuple[Streams, State]:
        """Pictures in, the same pictures out."""
        z = self.encode(observations)
        return {**self.draw(z, {}), "latent": z}, {}

    def encode(self, observations: Streams) -> Tensor:
        """Pictures [..., 3, H, W] -> z [..., Z]."""
        expect(observations, self.shapes)
        images = to_network(observations["image"], self.config.image_low, self.config.image_high)
        return self.encoder(images.flatten(0, -4)).unflatten(0, images.shape[:-3])

    def draw(self, z: Tensor, given: Streams) -> Streams:
        """z [..., Z] -> pictures [..., 3, H, W], about 0..1."""
        pictures = self.decoder(z.flatten(0, -2)).unflatten(0, z.shape[:-1])
        return {"image": from_network(pictures, self.config.image_low, self.config.image_high)}

    def loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """`image`: mean squared error of the picture given back."""
        predictions, _ = self.unroll(batch.inputs)
        return {"image": squared_error(predictions["image"], batch.inputs["image"])}
