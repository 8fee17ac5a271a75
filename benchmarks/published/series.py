"""The published arithmetic of the models of series, written plainly: LSTM cells, one step after the other, as the usual
code has it where one step reads what the last one gave."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.published.arm import cell, made, ours
from benchmarks.side_by_side import Sides, total, training
from sakiyomi.data.windows import Batch
from sakiyomi.models import LSTMAE, Forecaster


def forecaster(quick: bool = False) -> Sides:
    batch, steps = (2, 7) if quick else (32, 90)
    torch.manual_seed(0)
    model = Forecaster(Forecaster.Config(channels=4))
    data = made(model, batch, steps)
    title = f"Forecaster, 4 channels, batch {batch} x {steps}"
    return training(title, batch * steps, model, lambda one: _forecaster(one, data), lambda one: ours(one, data))


def lstm_ae(quick: bool = False) -> Sides:
    batch, steps = (2, 7) if quick else (32, 48)
    torch.manual_seed(0)
    model = LSTMAE(LSTMAE.Config(channels=4, window=steps))
    data = made(model, batch, steps)
    title = f"LSTMAE, 4 channels, batch {batch} x {steps}"
    return training(title, batch * steps, model, lambda one: _lstm_ae(one, data), lambda one: ours(one, data))


def _forecaster(model: Forecaster, batch: Batch) -> Tensor:
    values, targets = batch.inputs["value"], batch.targets["value"]
    h = c = batch.mask.new_zeros(len(batch.mask), model.config.hidden)
    errors, nats = [], []
    for t in range(values.shape[1]):
        h, c = cell(model.lstm, values[:, t], (h, c))
        mean = values[:, t] + model.change(h)
        deviation = functional.softplus(model.deviation(h.detach())) + model.config.floor
        off = (targets[:, t] - mean.detach()) / deviation
        errors.append((mean - targets[:, t]).square().mean(-1))
        nats.append((off.square() / 2 + deviation.log() + math.log(2 * math.pi) / 2).mean(-1))
    return total({"value": torch.stack(errors, 1), "nll": torch.stack(nats, 1)}, batch.mask)


def _lstm_ae(model: LSTMAE, batch: Batch) -> Tensor:
    values, hidden = batch.inputs["value"], model.config.hidden
    h = c = batch.mask.new_zeros(len(values), hidden)
    for t in range(values.shape[1]):
        h, c = cell(model.encoder.lstm, values[:, t], (h, c))
    code, errors = model.encoder.out(h), []
    h = c = torch.zeros_like(h)
    for t in reversed(range(values.shape[1])):  # the last value is written first
        h, c = cell(model.decoder.lstm, code, (h, c))
        errors.append((model.decoder.out(h) - values[:, t]).square().mean(-1))
    return total({"value": torch.stack(errors[::-1], 1)}, batch.mask)
