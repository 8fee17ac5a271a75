"""CNNRNN: a convolutional autoencoder's feature vector and the joints, remembered by an LSTM.

The common baseline of SARNN: it sees the whole picture, but nothing makes it look at a place.

    sakiyomi train pick-cnn
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sakiyomi.data.windows import Batch
from sakiyomi.layers.cae import PictureDecoder, PictureEncoder
from sakiyomi.models.base import SequenceModel, State, Streams, expect, one_step, squared_error
from sakiyomi.schedules import Progress


class CNNRNN(SequenceModel):
    """Streams: `image` [.., 3, H, W] in 0..1, H and W multiples of 8, and `joints` [.., J]."""

    inputs = outputs = ("image", "joints")

    @dataclass(frozen=True)
    class Config:
        joints: int = 8
        """Number of joints, J."""
        height: int = 64
        """Height of the pictures."""
        width: int = 64
        """Width of the pictures."""
        features: int = 10
        """Length of the feature vector."""
        hidden: int = 50
        """Units of the LSTM."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.shapes = {"image": (3, config.height, config.width), "joints": (config.joints,)}
        self.encoder = PictureEncoder(config.height, config.width, config.features)
        self.decoder = PictureDecoder(config.height, config.width, config.features)
        self.lstm = nn.LSTM(config.features + config.joints, config.hidden, batch_first=True)
        self.head = nn.Linear(config.hidden, config.features + config.joints)

    def initial(self, batch_size: int) -> State:
        zeros = self.head.weight.new_zeros(batch_size, self.config.hidden)
        return {"h": zeros, "c": zeros}

    def step(self, observation: Streams, state: State) -> tuple[Streams, State]:
        return one_step(self, observation, state)

    def unroll(self, observations: Streams, state: State | None = None) -> tuple[Streams, State]:
        c = self.config
        expect(observations, self.shapes)
        images = observations["image"]
        shape = images.shape[:2]
        state = self.initial(shape[0]) if state is None else state
        seen = self.encoder(images.flatten(0, 1)).unflatten(0, shape)
        read = torch.cat((seen, observations["joints"]), -1)
        hidden, (h, cell) = self.lstm(read, (state["h"][None], state["c"][None]))
        features, joints = self.head(hidden).split((c.features, c.joints), -1)
        decoded = self.decoder(features.flatten(0, 1)).unflatten(0, shape)
        return {"image": decoded, "joints": joints}, {"h": h[0], "c": cell[0]}

    def loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        predictions, _ = self.unroll(batch.inputs)
        return {name: squared_error(predictions[name], batch.targets[name]) for name in self.inputs}
