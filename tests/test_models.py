"""The contract of ARCHITECTURE.md over every entry of MODELS. A new model is tested by being listed there."""

from typing import Any

import pytest
import torch
from torch import Tensor

from sakiyomi.data.windows import Batch
from sakiyomi.errors import SakiyomiError
from sakiyomi.job import Train, build
from sakiyomi.models import MODELS, SequenceModel, Streams
from sakiyomi.schedules import Weight, progress_at
from sakiyomi.train import weigh

B, T = 3, 7
CPU = torch.device("cpu")
SMALL = {"joints": 3, "height": 16, "width": 24, "hidden": 8, "points": 2, "io": 8, "fast": 8, "slow": 4}


def small_config(name: str) -> Any:
    config = MODELS[name].Config
    return config(**{field: value for field, value in SMALL.items() if field in config.__dataclass_fields__})


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> SequenceModel:
    torch.manual_seed(0)
    return build(small_config(request.param))


def example_batch(model: SequenceModel, lengths: tuple[int, ...] = (T,) * B) -> Batch:
    seen = model.example(B, T + 1)
    mask = torch.tensor([[float(t < length) for t in range(T)] for length in lengths])
    return Batch({k: v[:, :-1] for k, v in seen.items()}, {k: v[:, 1:] for k, v in seen.items()}, mask)


def stepped(model: SequenceModel, observations: Streams) -> tuple[Streams, dict[str, Tensor]]:
    state, predictions = model.initial(B), []
    for t in range(T):
        prediction, state = model.step({name: value[:, t] for name, value in observations.items()}, state)
        predictions.append(prediction)
    return {name: torch.stack([p[name] for p in predictions], 1) for name in predictions[0]}, state


def weighed(model: SequenceModel, batch: Batch) -> Tensor:
    losses = model.loss(batch, progress_at(0, 10, 0, CPU))
    return weigh(losses, batch.mask, Train(losses=dict.fromkeys(losses, Weight())), 0)[0]


def gradients(model: SequenceModel, batch: Batch) -> list[Tensor]:
    return list(torch.autograd.grad(weighed(model, batch), list(model.parameters())))


def test_unroll_equals_stepping(model: SequenceModel) -> None:
    """The law that lets training run in parallel and the robot step by step: outputs, state and gradients."""
    results = []
    observations = {name: value.requires_grad_() for name, value in model.example(B, T).items()}
    for run in (model.unroll, lambda seen: stepped(model, seen)):
        predictions, state = run(observations)
        outputs = {**predictions, **{f"state {name}": value for name, value in state.items()}}
        torch.manual_seed(1)
        total = torch.stack([(value * torch.randn_like(value)).mean() for value in outputs.values()]).sum()
        wanted = [*observations.values(), *model.parameters()]
        results.append((outputs, torch.autograd.grad(total, wanted)))
    (unrolled, unrolled_gradients), (steps, step_gradients) = results
    torch.testing.assert_close(unrolled, steps, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(unrolled_gradients, step_gradients, atol=1e-5, rtol=1e-5)


def test_two_halves_equal_the_whole(model: SequenceModel) -> None:
    seen = model.example(B, T)
    whole, end = model.unroll(seen)
    first, middle = model.unroll({name: value[:, :3] for name, value in seen.items()})
    second, end_of_halves = model.unroll({name: value[:, 3:] for name, value in seen.items()}, middle)
    halves = {name: torch.cat((first[name], second[name]), 1) for name in whole}
    torch.testing.assert_close(halves, whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(end_of_halves, end, atol=1e-5, rtol=1e-5)


def test_nothing_is_hidden_in_the_module(model: SequenceModel) -> None:
    seen, start = model.example(B, T), model.initial(B)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    given = {name: value.clone() for name, value in start.items()}
    first = model.unroll(seen, start)
    model.unroll(model.example(B, T))  # something else in between
    torch.testing.assert_close(model.unroll(seen, start), first, atol=0, rtol=0)
    torch.testing.assert_close(start, given, atol=0, rtol=0)
    torch.testing.assert_close(dict(model.state_dict()), weights, atol=0, rtol=0)


def test_windows_of_a_batch_do_not_meet(model: SequenceModel) -> None:
    seen = model.example(B, T)
    before, _ = model.unroll(seen)
    other = {name: torch.cat((model.example(1, T)[name], value[1:])) for name, value in seen.items()}
    after, _ = model.unroll(other)
    for name in before:
        torch.testing.assert_close(after[name][1:], before[name][1:], atol=1e-6, rtol=1e-6)
        assert not torch.allclose(after[name][0], before[name][0]), f"{name} does not depend on what is seen"


def test_the_future_is_not_seen(model: SequenceModel) -> None:
    seen = model.example(B, T)
    before, _ = model.unroll(seen)
    after, _ = model.unroll({name: torch.cat((value[:, :4], 1 - value[:, 4:]), 1) for name, value in seen.items()})
    for name in before:
        torch.testing.assert_close(after[name][:, :4], before[name][:, :4], atol=1e-6, rtol=1e-6)


def test_predictions_have_the_shapes_of_observations(model: SequenceModel) -> None:
    seen = model.example(B, T)
    assert set(seen) == set(model.inputs)
    predictions, _ = model.unroll(seen)
    for name in model.inputs:
        assert seen[name].shape[:2] == (B, T)
        assert predictions[name].shape == seen[name].shape
        assert ((seen[name] >= 0) & (seen[name] <= 1)).all()
    for value in model.initial(B).values():
        assert len(value) == B


@pytest.mark.parametrize("training", [True, False])
def test_losses_are_named_unreduced_and_finite(model: SequenceModel, training: bool) -> None:
    losses = model.loss(example_batch(model), progress_at(0, 10, 0, CPU, training))
    assert set(losses) >= set(model.inputs)
    for loss in losses.values():
        assert loss.shape == (B, T)
        assert loss.isfinite().all()
        assert (loss >= 0).all()


def test_losses_are_a_function_of_weights_batch_and_progress(model: SequenceModel) -> None:
    batch = example_batch(model)
    again = [model.loss(batch, progress_at(4, 10, 0, CPU)) for _ in range(2)]
    torch.testing.assert_close(again[0], again[1], atol=0, rtol=0)


def test_every_weight_learns(model: SequenceModel) -> None:
    names = [name for name, _ in model.named_parameters()]
    idle = [n for n, g in zip(names, gradients(model, example_batch(model)), strict=True) if not g.abs().sum() > 0]
    assert not idle


def test_losses_obey_the_mask(model: SequenceModel) -> None:
    """What stands in the padding changes neither the total nor a gradient."""
    lengths = (T, 4, 1)
    batch, other = example_batch(model, lengths), example_batch(model, lengths)

    def padded_from_other(mine: Streams, others: Streams) -> Streams:
        real = {name: batch.mask.reshape(B, T, *[1] * (value.ndim - 2)) > 0 for name, value in mine.items()}
        return {name: torch.where(real[name], mine[name], others[name]) for name in mine}

    changed = Batch(
        padded_from_other(batch.inputs, other.inputs), padded_from_other(batch.targets, other.targets), batch.mask
    )
    assert weighed(model, changed).item() == pytest.approx(weighed(model, batch).item(), rel=1e-5)
    torch.testing.assert_close(gradients(model, changed), gradients(model, batch), atol=1e-5, rtol=1e-5)


def test_nan_in_padded_targets_does_not_reach_the_total(model: SequenceModel) -> None:
    batch = example_batch(model, (T, 4, 1))
    targets = {name: value.clone() for name, value in batch.targets.items()}
    for value in targets.values():
        value[batch.mask == 0] = torch.nan
    torch.testing.assert_close(weighed(model, Batch(batch.inputs, targets, batch.mask)), weighed(model, batch))


def test_a_missing_stream_is_named(model: SequenceModel) -> None:
    for name in model.inputs:
        seen = {**model.example(B, T), "something else": torch.zeros(B, T, 1)}
        del seen[name]
        with pytest.raises(SakiyomiError, match=f"'{name}' is missing"):
            model.unroll(seen)
        with pytest.raises(SakiyomiError, match=f"'{name}' is missing"):
            model.step({other: value[:, 0] for other, value in seen.items()}, model.initial(B))


def test_a_wrong_shape_is_named(model: SequenceModel) -> None:
    for name in model.inputs:
        seen = model.example(B, T)
        seen[name] = seen[name][..., :-1]
        with pytest.raises(SakiyomiError, match=f"stream '{name}'"):
            model.unroll(seen)
        with pytest.raises(SakiyomiError, match=f"stream '{name}'"):
            model.step({other: value[:, 0] for other, value in seen.items()}, model.initial(B))
