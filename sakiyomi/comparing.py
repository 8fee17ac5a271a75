"""What a model said of the world against what the world then did: the vectors that `sakiyomi.surprise` judges.

    compared = compared_with(trained, {"value": values}, cells=4)
    compared.vectors["value"]  # [T, C], how far off each step was

For each step: the error of each stream (over the deviation that the model predicts, if it does; of a picture, of each
cell of a grid), z where the model has a latent, what came before, and what the model had said. The same function takes
one step or many, with what came before handed on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sakiyomi.errors import SakiyomiError
from sakiyomi.models import SequenceModel, Streams
from sakiyomi.rollout import Trained

CHUNK = 256  # steps that are unrolled at once


@dataclass(frozen=True)
class Past:
    """What came before, as far as the next step is judged by it."""

    prediction: Streams
    """The last, [1, 1, ...]."""
    seen: Streams
    """The last, [1, 1, ...]."""
    vectors: dict[str, np.ndarray]
    """The last two of each, [2, F]."""
    motion: np.ndarray
    """What the last prediction but one said would change, [1, M]."""


@dataclass(frozen=True)
class Compared:
    """T steps as they are judged."""

    vectors: dict[str, np.ndarray]
    """[T, F] each"""
    before: dict[str, np.ndarray]
    """What came before each, [T, P]."""
    said: np.ndarray
    """What the model had said before each, where its numbers are not pictures, [T, D]."""
    expected: Streams
    """What it says of these steps, [1, T, ...]."""


def encoded(trained: Trained, recording: Mapping[str, np.ndarray]) -> Streams:
    """Values [T, ...] in their units -> [1, T, ...] as the model reads them, on its device."""
    device = next(trained.model.parameters()).device
    for name in trained.model.inputs:
        if name not in recording:
            raise SakiyomiError(
                f"the model reads {list(trained.model.inputs)}, what came has {sorted(recording)}: {name!r} is missing"
            )
    found = {}
    for name, shape in trained.model.shapes.items():
        values = np.asarray(recording[name])
        if values.ndim != 1 + len(shape) or values.dtype.kind not in "fiub":
            raise SakiyomiError(
                f"stream {name!r} came as {values.dtype} {list(values.shape)}; expected numbers, a first axis of time "
                f"(not for one step), and then {len(shape)} more axes"
            )
        value = torch.from_numpy(np.ascontiguousarray(values)).to(device)
        found[name] = trained.normalizer.encode(name, value)[None]
    return found


@torch.inference_mode()
def compared_with(trained: Trained, recording: Mapping[str, np.ndarray], cells: int) -> Compared:
    """Every step that counts of a recording; `expected` is of all steps, NaN where nothing was said. In chunks, so that
    memory is bounded by the recording's."""
    model = trained.model
    steps = {len(values) for values in recording.values()}
    if len(steps) != 1:
        raise SakiyomiError(f"the streams of a recording have {sorted(steps)} steps; resample them to one clock")
    total, first = steps.pop(), model.warmup + 1
    if total <= first:
        raise SakiyomiError(
            f"a recording of {total} steps is too short: the model needs {first} before it can say anything; "
            "give a longer one, or train a model of shorter windows"
        )
    state, past, parts = model.initial(1), None, []
    for begin in range(0, total, CHUNK):
        seen = encoded(trained, {name: values[begin : begin + CHUNK] for name, values in recording.items()})
        for name, value in seen.items():
            if not bool(value.isfinite().all()):
                raise SakiyomiError(f"stream {name!r} holds values that are not finite; repair it, or use `step`")
        prediction, state = model.unroll(seen, state)
        compared, past = compare(model, prediction, seen, past, cells, max(0, first - begin))
        parts.append(compared)
    whole = joined(parts)
    return replace(some_of(whole, np.arange(total) >= first), expected=whole.expected)


def compare(
    model: SequenceModel, prediction: Streams, seen: Streams, past: Past | None, cells: int, idle: int
) -> tuple[Compared, Past]:
    """T steps and what came before them; the first `idle` do not count yet. `prediction` and `seen` are [1, T, ...]."""
    if past is None:
        past = _nothing(model, prediction, seen, cells)
    said = {name: torch.cat((past.prediction[name], value[:, :-1]), 1) for name, value in prediction.items()}
    last = {name: torch.cat((past.seen[name], value[:, :-1]), 1) for name, value in seen.items()}
    expected = said if model.ahead else prediction
    vectors = _vectors(model, expected, prediction, seen, cells)
    for vector in vectors.values():
        vector[:idle] = 0
    moves = [name for name in model.outputs if seen[name].dim() == 3]
    motion = _flat([said[name] - last[name] for name in moves], len(next(iter(vectors.values()))))
    motions = np.concatenate((past.motion, motion))
    before, kept = {}, {}
    for name, vector in vectors.items():
        known = np.concatenate((past.vectors[name], vector))
        kept[name] = known[-2:]
        asked = () if name == "latent" or name not in moves else (motions[1:], motions[:-1])
        before[name] = np.concatenate((known[1:-1], known[:-2], *asked, np.ones((len(vector), 1))), 1)
    words = [value for name, value in said.items() if name not in model.outputs or name in moves]
    told = np.concatenate((_flat(words, len(motion)), motion, np.abs(motion)), 1)
    after = Past(_last(prediction), _last(seen), kept, motions[-1:])
    return Compared(vectors, before, told, expected), after


def _vectors(
    model: SequenceModel, expected: Streams, prediction: Streams, seen: Streams, cells: int
) -> dict[str, np.ndarray]:
    """What was expected of T steps and what was seen, [1, T, ...]: float64 [T, F] by name."""
    vectors = {}
    for name in model.outputs:
        error = (seen[name] - expected[name])[0]
        if error.dim() == 4:
            size = (min(cells, error.shape[-2]), min(cells, error.shape[-1]))
            error = functional.adaptive_avg_pool2d(error.square().mean(1), size).flatten(1).sqrt()
        elif f"{name}.deviation" in expected:
            error = error / expected[f"{name}.deviation"][0]
        vectors[name] = error.double().numpy(force=True)
    if "latent" in prediction:
        vectors["latent"] = prediction["latent"][0].double().numpy(force=True)
    return {name: np.nan_to_num(vector, nan=1e6, posinf=1e30, neginf=-1e30) for name, vector in vectors.items()}


def _nothing(model: SequenceModel, prediction: Streams, seen: Streams, cells: int) -> Past:
    """Before the first step: nothing was said, NaN; nothing was strange."""
    said = {name: torch.full_like(value[:, :1], torch.nan) for name, value in prediction.items()}
    first = {name: value[:, :1] for name, value in seen.items()}
    vectors = _vectors(model, said, {name: value[:, :1] for name, value in prediction.items()}, first, cells)
    width = sum(value.shape[2] for name, value in seen.items() if name in model.outputs and value.dim() == 3)
    return Past(said, first, {name: np.zeros((2, v.shape[1])) for name, v in vectors.items()}, np.zeros((1, width)))


def _flat(streams: Sequence[Tensor], steps: int) -> np.ndarray:
    """[1, T, ...] each -> float64 [T, D], side by side; what was not said is 0."""
    parts = [np.nan_to_num(value[0].flatten(1).double().numpy(force=True)) for value in streams]
    return np.concatenate(parts, 1) if parts else np.zeros((steps, 0))


def _last(streams: Streams) -> Streams:
    return {name: value[:, -1:] for name, value in streams.items()}


def joined(parts: Sequence[Compared]) -> Compared:
    first = parts[0]
    return Compared(
        {name: np.concatenate([part.vectors[name] for part in parts]) for name in first.vectors},
        {name: np.concatenate([part.before[name] for part in parts]) for name in first.before},
        np.concatenate([part.said for part in parts]),
        {
            name: torch.cat([part.expected[name] for part in parts], 1)
            for name, value in first.expected.items()
            if value.dim() == 3  # pictures would be kept for nothing
        },
    )


def some_of(whole: Compared, steps: np.ndarray) -> Compared:
    """The steps where `steps`, bool [T], says so."""
    vectors = {name: values[steps] for name, values in whole.vectors.items()}
    before = {name: values[steps] for name, values in whole.before.items()}
    return Compared(vectors, before, whole.said[steps], {})
