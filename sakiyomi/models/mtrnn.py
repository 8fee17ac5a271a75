"""MTRNN: a multiple timescale recurrent network (Yamashita & Tani, PLoS Computational Biology 2008).

Three groups of leaky units: input-output units with time constant `io_tau`, fast context, slow context. A unit's
potential is u_t = (1 - 1/tau) u_{t-1} + (1/tau) (W x_t), its output tanh(u_t). Slow context talks to fast context
only, so that the movement's plan and its details settle on different timescales.

    sakiyomi train pick-mtrnn
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sakiyomi.data.windows import Batch
from sakiyomi.errors import SakiyomiError
from sakiyomi.layers.cae import PictureDecoder, PictureEncoder
from sakiyomi.models.base import SequenceModel, State, Streams, expect, one_step, squared_error
from sakiyomi.schedules import Progress


class MTRNN(SequenceModel):
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
        """Length of the picture's feature vector."""
        io: int = 50
        """Input-output units."""
        fast: int = 100
        """Fast context units."""
        slow: int = 20
        """Slow context units."""
        io_tau: float = 2.0
        """Time constant of the input-output units, steps, at least 1."""
        fast_tau: float = 5.0
        """Time constant of the fast context, steps."""
        slow_tau: float = 30.0
        """Time constant of the slow context, steps."""

    rate: Tensor
    allowed: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        if min(config.io_tau, config.fast_tau, config.slow_tau) < 1:
            raise SakiyomiError(f"time constants count steps and must be at least 1: {config}")
        self.config = config
        self.shapes = {"image": (3, config.height, config.width), "joints": (config.joints,)}
        self.encoder = PictureEncoder(config.height, config.width, config.features)
        self.decoder = PictureDecoder(config.height, config.width, config.features)
        self.read = nn.Linear(config.features + config.joints, config.io)
        units = config.io + config.fast + config.slow
        self.recur = nn.Linear(units, units)
        self.head = nn.Linear(config.io, config.features + config.joints)
        sizes, taus = (config.io, config.fast, config.slow), (config.io_tau, config.fast_tau, config.slow_tau)
        rates = torch.cat([torch.full((n,), 1 / tau) for n, tau in zip(sizes, taus, strict=True)])
        self.register_buffer("rate", rates, persistent=False)
        # Input-output and slow context units are not connected.
        allowed = torch.ones(units, units)
        allowed[: config.io, config.io + config.fast :] = 0
        allowed[config.io + config.fast :, : config.io] = 0
        self.register_buffer("allowed", allowed, persistent=False)

    def initial(self, batch_size: int) -> State:
        return {"u": self.head.weight.new_zeros(batch_size, self.recur.in_features)}

    def step(self, observation: Streams, state: State) -> tuple[Streams, State]:
        return one_step(self, observation, state)

    def unroll(self, observations: Streams, state: State | None = None) -> tuple[Streams, State]:
        c = self.config
        expect(observations, self.shapes)
        images = observations["image"]
        shape = images.shape[:2]
        u = (self.initial(shape[0]) if state is None else state)["u"]
        seen = self.encoder(images.flatten(0, 1)).unflatten(0, shape)
        drive = self.read(torch.cat((seen, observations["joints"]), -1))
        drive = nn.functional.pad(drive, (0, c.fast + c.slow))
        weight = self.recur.weight * self.allowed
        outputs = []
        for t in range(shape[1]):  # the potentials feed back: this part is sequential
            pull = nn.functional.linear(u.tanh(), weight, self.recur.bias) + drive[:, t]
            u = u + self.rate * (pull - u)
            outputs.append(u[:, : c.io].tanh())
        features, joints = self.head(torch.stack(outputs, 1)).split((c.features, c.joints), -1)
        decoded = self.decoder(features.flatten(0, 1)).unflatten(0, shape)
        return {"image": decoded, "joints": joints}, {"u": u}

    def loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        predictions, _ = self.unroll(batch.inputs)
        return {name: squared_error(predictions[name], batch.targets[name]) for name in self.inputs}
