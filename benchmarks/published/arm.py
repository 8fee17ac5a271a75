"""The published arithmetic of the arm's baselines, written plainly: a loop over time, as the usual code has it. At each
step one frame a window is encoded, the recurrent cell advances, and one frame is decoded."""

import copy

import torch
from torch import Tensor, nn

from benchmarks.published.sarnn import published_losses
from benchmarks.side_by_side import Sides, total, training
from sakiyomi.data.windows import Batch
from sakiyomi.models import CNNRNN, MTRNN, SARNN, JointRNN
from sakiyomi.models.base import SequenceModel, squared_error
from sakiyomi.products import plain_products
from sakiyomi.schedules import progress_at

CPU = torch.device("cpu")


def cnn_rnn(quick: bool = False) -> Sides:
    side, batch, steps = (16, 2, 5) if quick else (64, 5, 100)
    torch.manual_seed(0)
    model = CNNRNN(CNNRNN.Config(height=side, width=side))
    data = made(model, batch, steps)
    title = f"CNNRNN, {side}x{side}, batch {batch} x {steps}"
    return training(title, batch * steps, model, lambda one: _cnn_rnn(one, data), lambda one: ours(one, data))


def mtrnn(quick: bool = False) -> Sides:
    side, batch, steps = (16, 2, 5) if quick else (64, 5, 100)
    torch.manual_seed(0)
    model = MTRNN(MTRNN.Config(height=side, width=side))
    data = made(model, batch, steps)
    title = f"MTRNN, {side}x{side}, batch {batch} x {steps}"
    return training(title, batch * steps, model, lambda one: _mtrnn(one, data), lambda one: ours(one, data))


def joint_rnn(quick: bool = False) -> Sides:
    batch, steps = (2, 5) if quick else (5, 100)
    torch.manual_seed(0)
    model = JointRNN(JointRNN.Config())
    data = made(model, batch, steps)
    title = f"JointRNN, batch {batch} x {steps}"
    return training(title, batch * steps, model, lambda one: _joint_rnn(one, data), lambda one: ours(one, data))


def sarnn_stepping(quick: bool = False) -> Sides:
    """SARNN in a rollout: one robot, frame by frame."""
    side, steps = (16, 3) if quick else (64, 20)
    torch.manual_seed(0)
    model = SARNN(SARNN.Config(height=side, width=side, temperature=0.01)).eval()
    twin, data = copy.deepcopy(model), made(model, 1, steps)
    model.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def published() -> dict[str, Tensor]:
        with plain_products():
            return published_losses(twin, data)

    @torch.inference_mode()
    def ours() -> dict[str, Tensor]:
        state, said = model.initial(1), []
        with plain_products():  # as a rollout has it
            for t in range(steps):
                prediction, state = model.step({k: v[:, t] for k, v in data.inputs.items()}, state)
                said.append(prediction)
        stacked = {name: torch.stack([one[name] for one in said], 1) for name in model.outputs}
        return {name: squared_error(value, data.targets[name]) for name, value in stacked.items()}

    def agree() -> dict[str, float]:
        theirs, found = published(), ours()
        return {name: float((found[name] - theirs[name]).abs().max() / theirs[name].abs().max()) for name in found}

    title = f"SARNN, {side}x{side}, stepping {steps} frames"
    return Sides(title, steps, {"published": published, "ours, float32": ours}, agree)


def made(model: SequenceModel, batch: int, steps: int) -> Batch:
    """Random windows of what the model reads, each to be told the next value."""
    values = model.example(batch, steps + 1)
    inputs = {name: value[:, :-1] for name, value in values.items()}
    return Batch(inputs, {name: values[name][:, 1:] for name in model.outputs}, torch.ones(batch, steps))


def ours(model: SequenceModel, batch: Batch) -> Tensor:
    """The model's own losses, summed."""
    return total(model.loss(batch, progress_at(0, 1, 0, CPU)), batch.mask)


def cell(lstm: nn.LSTM, read: Tensor, memory: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """One step of an LSTM, as nn.LSTMCell does it: [N, read] and twice [N, H] -> twice [N, H]."""
    return torch.lstm_cell(read, memory, *lstm.all_weights[0])


def _cnn_rnn(model: CNNRNN, batch: Batch) -> Tensor:
    h = c = batch.mask.new_zeros(len(batch.mask), model.config.hidden)
    images, joints = [], []
    for t in range(batch.mask.shape[1]):
        seen = model.encoder(batch.inputs["image"][:, t])
        h, c = cell(model.lstm, torch.cat((seen, batch.inputs["joints"][:, t]), -1), (h, c))
        features, angles = model.head(h).split((model.config.features, model.config.joints), -1)
        images.append(model.decoder(features))
        joints.append(angles)
    return _errors({"image": torch.stack(images, 1), "joints": torch.stack(joints, 1)}, batch)


def _mtrnn(model: MTRNN, batch: Batch) -> Tensor:
    config, weight = model.config, model.recur.weight * model.allowed
    io, rest = config.io, config.fast + config.slow
    u = batch.mask.new_zeros(len(batch.mask), io + rest)
    images, joints = [], []
    for t in range(batch.mask.shape[1]):
        seen = model.encoder(batch.inputs["image"][:, t])
        drive = model.read(torch.cat((seen, batch.inputs["joints"][:, t]), -1))
        pull = u.tanh() @ weight.T + model.recur.bias + torch.nn.functional.pad(drive, (0, rest))
        u = (1 - model.rate) * u + model.rate * pull
        features, angles = model.head(u[:, :io].tanh()).split((config.features, config.joints), -1)
        images.append(model.decoder(features))
        joints.append(angles)
    return _errors({"image": torch.stack(images, 1), "joints": torch.stack(joints, 1)}, batch)


def _joint_rnn(model: JointRNN, batch: Batch) -> Tensor:
    h = c = batch.mask.new_zeros(len(batch.mask), model.config.hidden)
    joints = []
    for t in range(batch.mask.shape[1]):
        h, c = cell(model.lstm, batch.inputs["joints"][:, t], (h, c))
        joints.append(model.joint_head(h))
    return _errors({"joints": torch.stack(joints, 1)}, batch)


def _errors(predictions: dict[str, Tensor], batch: Batch) -> Tensor:
    return total({k: squared_error(v, batch.targets[k]) for k, v in predictions.items()}, batch.mask)
