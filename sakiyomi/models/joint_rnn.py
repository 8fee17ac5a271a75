"""JointRNN: an LSTM on the joints alone, the baseline that cannot see.

What it can do shows how much of a task is habit; what it cannot is what the camera is for.

    sakiyomi train pick-joints
"""

from dataclasses import dataclass

from torch import Tensor, nn

from sakiyomi.data.windows import Batch
from sakiyomi.models.base import SequenceModel, State, Streams, expect, one_step, squared_error
from sakiyomi.schedules import Progress


class JointRNN(SequenceModel):
    """Stream: `joints` [.., J]."""

    inputs = outputs = ("joints",)

    @dataclass(frozen=True)
    class Config:
        joints: int = 8
        """Number of joints, J."""
        hidden: int = 50
        """Units of the LSTM."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.shapes = {"joints": (config.joints,)}
        self.lstm = nn.LSTM(config.joints, config.hidden, batch_first=True)
        self.joint_head = nn.Linear(config.hidden, config.joints)

    def initial(self, batch_size: int) -> State:
        zeros = self.joint_head.weight.new_zeros(batch_size, self.config.hidden)
        return {"h": zeros, "c": zeros}

    def step(self, observation: Streams, state: State) -> tuple[Streams, State]:
        return one_step(self, observation, state)

    def unroll(self, observations: Streams, state: State | None = None) -> tuple[Streams, State]:
        expect(observations, self.shapes)
        joints = observations["joints"]
        state = self.initial(len(joints)) if state is None else state
        hidden, (h, c) = self.lstm(joints, (state["h"][None], state["c"][None]))
        return {"joints": self.joint_head(hidden)}, {"h": h[0], "c": c[0]}

    def loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        predictions, _ = self.unroll(batch.inputs)
        return {"joints": squared_error(predictions["joints"], batch.targets["joints"])}
