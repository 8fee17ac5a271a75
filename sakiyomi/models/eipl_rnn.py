"""EiplLSTM and EiplMTRNN: the recurrent networks of EIPL (BasicLSTM, BasicMTRNN) on codes of pictures and joints, so
that what was trained there runs here.

The codes are those of an autoencoder, recorded as a stream `features`; without them the joints are all there is.
Unlike our JointRNN and MTRNN, the output goes through tanh, and the MTRNN has no input-output units: its fast context
reads what is seen, through matrices without biases.

    sakiyomi prepare eipl-model LSTM.pth --store data/codes --out runs/lstm
    sakiyomi rollout lstm --recording test-00000
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sakiyomi.data.windows import Batch
from sakiyomi.errors import SakiyomiError
from sakiyomi.models.base import SequenceModel, State, Streams, expect, one_step, squared_error
from sakiyomi.schedules import Progress


class EiplLSTM(SequenceModel):
    """Streams: `features` [.., F], unless there are none, and `joints` [.., J]."""

    @dataclass(frozen=True)
    class Config:
        features: int = 10
        """Numbers of the picture's code, F; 0 reads the joints alone."""
        joints: int = 8
        """Number of joints, J."""
        hidden: int = 50
        """Units of the LSTM."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.shapes = read_shapes(config.features, config.joints)
        self.inputs = self.outputs = tuple(self.shapes)
        width = config.features + config.joints
        self.rnn = nn.LSTM(width, config.hidden, batch_first=True)
        self.rnn_out = nn.Sequential(nn.Linear(config.hidden, width), nn.Tanh())

    def initial(self, batch_size: int) -> State:
        zeros = next(self.parameters()).new_zeros(batch_size, self.config.hidden)
        return {"h": zeros, "c": zeros}

    def step(self, observation: Streams, state: State) -> tuple[Streams, State]:
        return one_step(self, observation, state)

    def unroll(self, observations: Streams, state: State | None = None) -> tuple[Streams, State]:
        read = joined(self, observations)
        state = self.initial(len(read)) if state is None else state
        hidden, (h, c) = self.rnn(read, (state["h"][None], state["c"][None]))
        return parted(self, self.rnn_out(hidden)), {"h": h[0], "c": c[0]}

    def loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        predictions, _ = self.unroll(batch.inputs)
        return {name: squared_error(predictions[name], batch.targets[name]) for name in self.inputs}


class EiplMTRNN(SequenceModel):
    """Streams: `features` [.., F], unless there are none, and `joints` [.., J]."""

    @dataclass(frozen=True)
    class Config:
        features: int = 10
        """Numbers of the picture's code, F; 0 reads the joints alone."""
        joints: int = 8
        """Number of joints, J."""
        fast: int = 60
        """Fast context units."""
        slow: int = 5
        """Slow context units."""
        fast_tau: float = 2.0
        """Time constant of the fast context, steps, at least 1."""
        slow_tau: float = 12.0
        """Time constant of the slow context, steps."""
        bias: bool = False
        """Whether what goes from one group to another has a bias."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        if not min(config.fast_tau, config.slow_tau) >= 1:
            raise SakiyomiError(f"time constants count steps and must be at least 1: {config}")
        self.config = config
        self.shapes = read_shapes(config.features, config.joints)
        self.inputs = self.outputs = tuple(self.shapes)
        width = config.features + config.joints
        self.mtrnn = nn.ModuleDict(
            {
                "i2f": nn.Linear(width, config.fast, config.bias),
                "f2f": nn.Linear(config.fast, config.fast, bias=False),
                "f2s": nn.Linear(config.fast, config.slow, config.bias),
                "s2s": nn.Linear(config.slow, config.slow, bias=False),
                "s2f": nn.Linear(config.slow, config.fast, config.bias),
            }
        )
        self.rnn_out = nn.Sequential(nn.Linear(config.fast, width), nn.Tanh())

    def initial(self, batch_size: int) -> State:
        """The potentials; what a unit says is their tanh."""
        zeros = next(self.parameters()).new_zeros
        return {"fast": zeros(batch_size, self.config.fast), "slow": zeros(batch_size, self.config.slow)}

    def step(self, observation: Streams, state: State) -> tuple[Streams, State]:
        return one_step(self, observation, state)

    def unroll(self, observations: Streams, state: State | None = None) -> tuple[Streams, State]:
        c, cell = self.config, self.mtrnn
        read = joined(self, observations)
        state = self.initial(len(read)) if state is None else state
        fast, slow = state["fast"], state["slow"]
        drive, outputs = cell["i2f"](read), []
        for t in range(read.shape[1]):  # the potentials feed back: this part is sequential
            f, s = fast.tanh(), slow.tanh()
            fast = (1 - 1 / c.fast_tau) * fast + (drive[:, t] + cell["f2f"](f) + cell["s2f"](s)) / c.fast_tau
            slow = (1 - 1 / c.slow_tau) * slow + (cell["f2s"](f) + cell["s2s"](s)) / c.slow_tau
            outputs.append(fast.tanh())
        return parted(self, self.rnn_out(torch.stack(outputs, 1))), {"fast": fast, "slow": slow}

    def loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        predictions, _ = self.unroll(batch.inputs)
        return {name: squared_error(predictions[name], batch.targets[name]) for name in self.inputs}


def read_shapes(features: int, joints: int) -> dict[str, tuple[int, ...]]:
    return {"features": (features,), "joints": (joints,)} if features else {"joints": (joints,)}


def joined(model: SequenceModel, observations: Streams) -> Tensor:
    """What is seen as one vector a step, [B, T, F + J]."""
    expect(observations, model.shapes)
    return torch.cat([observations[name] for name in model.inputs], -1)


def parted(model: SequenceModel, values: Tensor) -> Streams:
    """The inverse of `joined`."""
    parts = values.split([model.shapes[name][0] for name in model.inputs], -1)
    return dict(zip(model.inputs, parts, strict=True))
