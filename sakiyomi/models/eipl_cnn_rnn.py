"""EiplCNNRNN: CNNRNN and CNNRNNLN of EIPL, so that what was trained there runs here.

Unlike our CNNRNN, whose LSTM predicts the next code, the next picture is decoded from the LSTM's memory itself, and
the joints go through the activation.

    sakiyomi prepare eipl-model CNNRNN.pth --store data/grasp --out runs/cnn
    sakiyomi rollout cnn --recording test-00000
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sakiyomi.data.windows import Batch
from sakiyomi.layers.eipl import Activation, Coding, Norm, check_range, decoder, encoder, from_network, to_network
from sakiyomi.models.base import SequenceModel, State, Streams, expect, one_step, squared_error
from sakiyomi.schedules import Progress


class EiplCNNRNN(SequenceModel):
    """Streams: `image` [.., 3, H, W] in 0..1, and `joints` [.., J]."""

    inputs = outputs = ("image", "joints")

    @dataclass(frozen=True)
    class Config:
        joints: int = 8
        """Number of joints, J."""
        height: int = 128
        """Height of the pictures."""
        width: int = 128
        """Width of the pictures."""
        features: int = 10
        """Length of the feature vector."""
        hidden: int = 50
        """Units of the LSTM."""
        norm: Norm = "none"
        """none, or layer (their LN)."""
        activation: Activation = "tanh"
        """tanh or relu, after every layer, the last ones too."""
        image_low: float = 0.0
        """What black is inside the network."""
        image_high: float = 1.0
        """What white is."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        check_range(config.image_low, config.image_high)
        self.config = config
        self.shapes = {"image": (3, config.height, config.width), "joints": (config.joints,)}
        coding = Coding(config.height, config.width, "basic", config.norm, config.activation)
        self.encoder_image = encoder(coding, config.features)
        self.rec = nn.LSTM(config.features + config.joints, config.hidden, batch_first=True)
        self.decoder_joint = nn.Sequential(nn.Linear(config.hidden, config.joints), coding.act())
        self.decoder_image = decoder(coding, config.hidden, dense=False)

    def initial(self, batch_size: int) -> State:
        zeros = next(self.parameters()).new_zeros(batch_size, self.config.hidden)
        return {"h": zeros, "c": zeros}

    def step(self, observation: Streams, state: State) -> tuple[Streams, State]:
        return one_step(self, observation, state)

    def unroll(self, observations: Streams, state: State | None = None) -> tuple[Streams, State]:
        c = self.config
        expect(observations, self.shapes)
        images = to_network(observations["image"], c.image_low, c.image_high)
        shape = images.shape[:2]
        state = self.initial(shape[0]) if state is None else state
        seen = self.encoder_image(images.flatten(0, 1)).unflatten(0, shape)
        read = torch.cat((seen, observations["joints"]), -1)
        hidden, (h, cell) = self.rec(read, (state["h"][None], state["c"][None]))
        decoded = self.decoder_image(hidden.flatten(0, 1)).unflatten(0, shape)
        predictions = {
            "image": from_network(decoded, c.image_low, c.image_high),
            "joints": self.decoder_joint(hidden),
        }
        return predictions, {"h": h[0], "c": cell[0]}

    def loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        predictions, _ = self.unroll(batch.inputs)
        return {name: squared_error(predictions[name], batch.targets[name]) for name in self.inputs}
