"""Drift: how fast a prediction goes astray when it has to live on itself.

Errors are root mean squares of normalised values: of 0..1 for pictures; for joints, of their range (where 0.8 of the
scale is the whole range, they are divided by 0.8).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sakiyomi.data.normalize import HIGH, LOW
from sakiyomi.data.windows import Batch
from sakiyomi.errors import SakiyomiError
from sakiyomi.models import SequenceModel, State, Streams
from sakiyomi.models.base import squared_error


@dataclass(frozen=True)
class Drift:
    """Errors of one stream, each float64 and NaN where nothing was counted."""

    one_step: np.ndarray
    """[T]: at step t, all before it true."""
    k_step: np.ndarray
    """[k]: h + 1 steps ahead on its own predictions, over all starts."""
    free_running: np.ndarray
    """[T]: at step t, on its own predictions since `given` true steps."""


@torch.inference_mode()
def drift(
    model: SequenceModel, batch: Batch, k: int = 10, given: int = 5, spans: Mapping[str, float] | None = None
) -> dict[str, Drift]:
    """Drift of each stream that the model reads. `batch` holds T steps; `given` true steps start the free run; `spans`
    is what the whole range of a stream is on its scale (`Normalizer.span`), 1 for pictures and 0.8 for others if not
    told. Raises SakiyomiError when the window is too short for `k` or `given`."""
    steps = batch.mask.shape[1]
    if not (0 < given < steps and 0 < k < steps):
        raise SakiyomiError(f"given={given} and k={k} must lie between 1 and the window's {steps - 1} steps")
    one, states = _teacher_forced(model, batch)
    errors = {name: squared_error(one[name], batch.targets[name]) for name in model.inputs}
    ahead = _k_step(model, batch, one, states, k)
    free = _free(model, batch, given)
    out = {}
    for name in model.inputs:
        usual = 1.0 if batch.inputs[name].ndim == 5 else HIGH - LOW
        scale = spans[name] if spans else usual
        free_errors = torch.cat((errors[name][:, :given], squared_error(free[name], batch.targets[name][:, given:])), 1)
        curves = (_mean(errors[name], batch.mask), ahead[name], _mean(free_errors, batch.mask))
        out[name] = Drift(*(curve / scale for curve in curves))
    return out


def _teacher_forced(model: SequenceModel, batch: Batch) -> tuple[Streams, list[State]]:
    """Predictions [B, T, ...] and the state after every step."""
    state, predictions, states = model.initial(len(batch.mask)), [], []
    for t in range(batch.mask.shape[1]):
        prediction, state = model.step({name: batch.inputs[name][:, t] for name in model.inputs}, state)
        predictions.append({name: prediction[name] for name in model.inputs})
        states.append(state)
    return {name: torch.stack([p[name] for p in predictions], 1) for name in model.inputs}, states


def _k_step(model: SequenceModel, batch: Batch, one: Streams, states: list[State], k: int) -> dict[str, np.ndarray]:
    """Errors 1..k steps ahead, from every step of every window at once: starts are just more windows."""
    steps = batch.mask.shape[1]
    starts = steps - k + 1
    state = {name: torch.cat([s[name] for s in states[:starts]]) for name in states[0]}
    current = {name: one[name][:, :starts].transpose(0, 1).flatten(0, 1) for name in model.inputs}
    sums: dict[str, list[float]] = {name: [] for name in model.inputs}
    for h in range(k):
        mask = batch.mask[:, h : h + starts].transpose(0, 1).flatten()
        for name in model.inputs:
            target = batch.targets[name][:, h : h + starts].transpose(0, 1).flatten(0, 1)
            squared = squared_error(current[name][:, None], target[:, None])[:, 0]
            sums[name].append(float(((squared * mask).sum() / mask.sum().clamp_min(1)).sqrt()))
        if h + 1 < k:
            prediction, state = model.step(current, state)
            current = {name: prediction[name] for name in model.inputs}
    return {name: np.array(values) for name, values in sums.items()}


def _free(model: SequenceModel, batch: Batch, given: int) -> Streams:
    """Predictions [B, T - given, ...] on the model's own predictions."""
    predictions, state = model.unroll({name: batch.inputs[name][:, :given] for name in model.inputs})
    current, out = {name: predictions[name][:, -1] for name in model.inputs}, []
    for _ in range(batch.mask.shape[1] - given):
        prediction, state = model.step(current, state)
        current = {name: prediction[name] for name in model.inputs}
        out.append(current)
    return {name: torch.stack([p[name] for p in out], 1) for name in model.inputs}


def _mean(squared: Tensor, mask: Tensor) -> np.ndarray:
    """Root of the masked mean over windows: [B, T] -> [T], NaN where no window counts."""
    return ((squared * mask).sum(0) / mask.sum(0)).sqrt().double().cpu().numpy()
