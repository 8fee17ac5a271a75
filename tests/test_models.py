"""The contract of ARCHITECTURE.md over every entry of MODELS. A new model is tested by being listed there."""

from typing import Any

import pytest
import torch
from imagining import awake
from torch import Tensor

from sakiyomi.data.vocabulary import PAD, SPECIAL
from sakiyomi.data.windows import Batch
from sakiyomi.errors import SakiyomiError
from sakiyomi.job import Train, build
from sakiyomi.models import MODELS, SVG, SequenceModel, Streams
from sakiyomi.models.base import Imaginative, Reads
from sakiyomi.schedules import Weight, progress_at
from sakiyomi.train import weigh

B, T = 3, 7
CPU = torch.device("cpu")
SMALL = {
    **{"joints": 3, "height": 16, "width": 32, "hidden": 8, "points": 2, "io": 8, "fast": 8, "slow": 4},
    **{"channels": 4, "encoding": 8, "latent": 3, "action": 2, "window": 5},
    **{"source_words": 9, "target_words": 11, "embedding": 6},
    **{"words": 10, "heads": 4, "blocks": 2, "feedforward": 16, "context": 4},
    **{"labels": 4, "dilations": (1, 2, 4), "skip": 6, "features": 5},
}
STEPWISE = [name for name, model in MODELS.items() if not model.whole]
IMAGINING = [name for name, model in MODELS.items() if hasattr(model, "imagine")]


def small_config(name: str) -> Any:
    config = MODELS[name].Config
    return config(**{field: value for field, value in SMALL.items() if field in config.__dataclass_fields__})


@pytest.fixture(params=STEPWISE)
def stepping(request: pytest.FixtureRequest) -> SequenceModel:
    """Models that go step by step: all but those that read in both directions."""
    torch.manual_seed(0)
    return awake(build(small_config(request.param)))


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> SequenceModel:
    """In evaluation mode, where what comes out of one window does not depend on the others."""
    torch.manual_seed(0)
    return awake(build(small_config(request.param)))


@pytest.fixture(params=IMAGINING)
def imaginative(request: pytest.FixtureRequest) -> SVG:
    torch.manual_seed(0)
    return awake(build(small_config(request.param)))  # pyright: ignore[reportReturnType]


def example_batch(model: SequenceModel, lengths: tuple[int, ...] = (T,) * B, seen: Streams | None = None) -> Batch:
    """As Windows makes them: what is predicted at a step is what is seen at the next one. What is taught is a label an
    utterance, as Utterances makes them."""
    seen = model.example(B, T + 1) if seen is None else seen
    mask = torch.tensor([[float(t < length) for t in range(T)] for length in lengths])
    targets = {name: value[:, 1:] for name, value in seen.items() if not model.taught}
    taught = {name: len(SPECIAL) + torch.arange(B)[:, None] for name in model.taught}
    return Batch({k: v[:, :-1] for k, v in seen.items()}, targets | taught, mask)


def begun(model: SequenceModel, observations: Streams) -> dict[str, Tensor]:
    """The state before the first step."""
    return model.read(observations) if isinstance(model, Reads) else model.initial(B)


def stepwise(model: SequenceModel) -> tuple[str, ...]:
    """The streams a step reads."""
    return tuple(name for name in model.inputs if name not in model.reads)


def another(model: SequenceModel, name: str, values: Tensor) -> Tensor:
    """Other values everywhere."""
    known = model.vocabularies.get(name)
    return 1 - values if known is None else (values - len(SPECIAL) + 1) % (known - len(SPECIAL)) + len(SPECIAL)


def stepped(
    model: SequenceModel, observations: Streams, noise: Tensor | None = None
) -> tuple[Streams, dict[str, Tensor]]:
    state, predictions = begun(model, observations), []
    for t in range(T):
        drawn = () if noise is None else (noise[:, t],)
        seen = {name: observations[name][:, t] for name in stepwise(model)}
        prediction, state = model.step(seen, state, *drawn)
        predictions.append(prediction)
    return {name: torch.stack([p[name] for p in predictions], 1) for name in predictions[0]}, state


def weighed(model: SequenceModel, batch: Batch) -> Tensor:
    losses = model.loss(batch, progress_at(0, 10, 0, CPU))
    return weigh(losses, batch.mask, Train(losses=dict.fromkeys(losses, Weight())), 0)[0]


def gradients(model: SequenceModel, batch: Batch) -> list[Tensor]:
    return list(torch.autograd.grad(weighed(model, batch), list(model.parameters())))


def test_unroll_equals_stepping(stepping: SequenceModel) -> None:
    """The law that lets training run in parallel and the robot step by step: outputs, state and gradients."""
    unroll_is_stepping(stepping)


def test_unroll_equals_stepping_with_the_same_noise(imaginative: SVG) -> None:
    unroll_is_stepping(imaginative, torch.randn(B, T, *imaginative.noise))


def unroll_is_stepping(model: SequenceModel, noise: Tensor | None = None) -> None:
    """In float64, so that gradients of any size can be held to one bound."""
    results = []
    model = model.double()
    observations = {
        name: value if name in model.vocabularies else value.double().requires_grad_()
        for name, value in model.example(B, T).items()
    }
    noise = None if noise is None else noise.double()
    drawn: tuple = () if noise is None else (None, noise)
    for run in (lambda: model.unroll(observations, *drawn), lambda: stepped(model, observations, noise)):
        predictions, state = run()
        outputs = {**predictions, **{f"state {name}": value for name, value in state.items()}}
        torch.manual_seed(1)
        # Not randn_like: it fills in the order in which the values lie in memory, which is the model's own business.
        drawn_weights = [torch.randn(value.shape, dtype=value.dtype) for value in outputs.values()]
        total = torch.stack([(v * w).mean() for v, w in zip(outputs.values(), drawn_weights, strict=True)]).sum()
        wanted = [*(value for value in observations.values() if value.requires_grad), *model.parameters()]
        results.append((outputs, torch.autograd.grad(total, wanted, materialize_grads=True)))
    (unrolled, unrolled_gradients), (steps, step_gradients) = results
    torch.testing.assert_close(unrolled, steps, atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(unrolled_gradients, step_gradients, atol=1e-8, rtol=1e-8)


def test_two_halves_equal_the_whole(stepping: SequenceModel) -> None:
    seen = stepping.example(B, T)
    whole, end = stepping.unroll(seen)
    first, middle = stepping.unroll({**seen, **{name: seen[name][:, :3] for name in stepwise(stepping)}})
    second, end_of_halves = stepping.unroll({name: seen[name][:, 3:] for name in stepwise(stepping)}, middle)
    halves = {name: torch.cat((first[name], second[name]), 1) for name in whole}
    torch.testing.assert_close(halves, whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(end_of_halves, end, atol=1e-5, rtol=1e-5)


def test_nothing_is_hidden_in_the_module(model: SequenceModel) -> None:
    seen = model.example(B, T)
    start = begun(model, seen)
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


def test_a_model_that_reads_in_both_directions_takes_no_step() -> None:
    for name in MODELS.keys() - set(STEPWISE):
        whole = build(small_config(name))
        seen = whole.example(B, T)
        with pytest.raises(SakiyomiError, match="both directions"):
            whole.step({stream: value[:, 0] for stream, value in seen.items()}, whole.initial(B))


def test_the_future_is_not_seen(stepping: SequenceModel) -> None:
    seen = stepping.example(B, T)
    before, _ = stepping.unroll(seen)
    later = {
        name: torch.cat((seen[name][:, :4], another(stepping, name, seen[name][:, 4:])), 1)
        for name in stepwise(stepping)
    }
    after, _ = stepping.unroll({**seen, **later})
    for name in before:
        torch.testing.assert_close(after[name][:, :4], before[name][:, :4], atol=1e-6, rtol=1e-6)


def test_predictions_have_the_shapes_of_observations(model: SequenceModel) -> None:
    seen = model.example(B, T)
    assert set(seen) == set(model.inputs)
    predictions, _ = model.unroll(seen)
    assert set(model.outputs) - set(model.taught) <= set(model.inputs)
    for name in model.inputs:
        assert seen[name].shape[:2] == (B, T)
        assert ((seen[name] >= 0) & (seen[name] <= model.vocabularies.get(name, 2) - 1)).all()
    for name in model.outputs:
        logits = [model.vocabularies[name]] if name in model.vocabularies else []
        shape = [B, T] if name in model.taught else seen[name].shape
        assert list(predictions[name].shape) == [*shape, *logits]
    for value in model.initial(B).values():
        assert len(value) == B


@pytest.mark.parametrize("training", [True, False])
def test_losses_are_named_unreduced_and_finite(model: SequenceModel, training: bool) -> None:
    losses = model.loss(example_batch(model), progress_at(0, 10, 0, CPU, training))
    assert set(losses) >= set(model.outputs)
    for name, loss in losses.items():
        assert loss.shape == (B, T)
        assert loss.isfinite().all()
        assert (loss >= 0).all() or name == "nll"  # of a density, which may be more than 1


def test_losses_are_a_function_of_weights_batch_and_progress(model: SequenceModel) -> None:
    batch = example_batch(model)
    again = [model.loss(batch, progress_at(4, 10, 0, CPU)) for _ in range(2)]
    torch.testing.assert_close(again[0], again[1], atol=0, rtol=0)


def test_a_model_that_heeds_its_teacher_says_so(model: SequenceModel) -> None:
    """`reads_itself`: its losses are others where it is not teacher-forced; those of the others are the same."""
    torch.manual_seed(0)
    batch = example_batch(model.train())
    losses = []
    for forcing in (1.0, 0.0):
        torch.manual_seed(0)
        losses.append(model.loss(batch, progress_at(0, 10, 0, CPU, forcing=forcing)))
    same = all(torch.equal(losses[0][name], losses[1][name]) for name in losses[0])
    assert same != model.reads_itself


def test_every_weight_learns(model: SequenceModel) -> None:
    names = [name for name, _ in model.named_parameters()]
    idle = [n for n, g in zip(names, gradients(model, example_batch(model)), strict=True) if not g.abs().sum() > 0]
    assert not idle


def test_losses_obey_the_mask(model: SequenceModel) -> None:
    """What stands in the padding changes neither the total nor a gradient."""
    lengths = (T, 4, 1)
    seen, other = model.example(B, T + 1), model.example(B, T + 1)
    for window, length in enumerate(lengths):
        for name in stepwise(model):  # the last real step's target is real, too
            other[name][window, : length + 1] = seen[name][window, : length + 1]
    other |= {name: seen[name] for name in model.reads}
    batch, changed = example_batch(model, lengths, seen), example_batch(model, lengths, other)
    assert weighed(model, changed).item() == pytest.approx(weighed(model, batch).item(), rel=1e-5)
    torch.testing.assert_close(gradients(model, changed), gradients(model, batch), atol=1e-5, rtol=1e-5)


def test_nan_in_padded_targets_does_not_reach_the_total(model: SequenceModel) -> None:
    batch = example_batch(model, (T, 4, 1))
    targets = {name: value.clone() for name, value in batch.targets.items()}
    for name in targets.keys() - set(model.taught):
        value = targets[name]
        value[batch.mask == 0] = PAD if name in model.vocabularies else torch.nan
    torch.testing.assert_close(weighed(model, Batch(batch.inputs, targets, batch.mask)), weighed(model, batch))


def test_a_missing_stream_is_named(model: SequenceModel) -> None:
    for name in model.inputs:
        seen = {**model.example(B, T), "something else": torch.zeros(B, T, 1)}
        del seen[name]
        with pytest.raises(SakiyomiError, match=f"'{name}' is missing"):
            model.unroll(seen)
        if name in model.reads or model.whole:
            continue
        with pytest.raises(SakiyomiError, match=f"'{name}' is missing"):
            model.step({other: value[:, 0] for other, value in seen.items()}, model.initial(B))


def test_a_wrong_shape_is_named(model: SequenceModel) -> None:
    for name in model.inputs:
        seen = model.example(B, T)
        seen[name] = seen[name].float() if name in model.vocabularies else seen[name][..., :-1]
        with pytest.raises(SakiyomiError, match=f"stream '{name}'"):
            model.unroll(seen)
        if name in model.reads or model.whole:
            continue
        with pytest.raises(SakiyomiError, match=f"stream '{name}'"):
            model.step({other: value[:, 0] for other, value in seen.items()}, model.initial(B))


def test_every_input_counts(imaginative: SVG) -> None:
    """Conditions too, which `test_windows_of_a_batch_do_not_meet` changes together with the pictures."""
    seen = imaginative.example(B, T)
    before, _ = imaginative.unroll(seen)
    for name in imaginative.inputs:
        after, _ = imaginative.unroll({**seen, name: 1 - seen[name]})
        for stream in imaginative.outputs:
            assert (after[stream] - before[stream]).abs().amax() > 1e-4, f"{stream} does not depend on {name}"


def test_a_model_that_imagines_says_so(imaginative: SVG) -> None:
    assert isinstance(imaginative, Imaginative)
    others = [build(small_config(name)) for name in MODELS if name not in IMAGINING]
    assert not any(isinstance(model, Imaginative) for model in others)


def test_noise_counts_from_its_step_on(imaginative: SVG) -> None:
    seen, noise = imaginative.example(B, T), torch.randn(B, T, *imaginative.noise)
    other = torch.cat((noise[:, :3], torch.randn(B, T - 3, *imaginative.noise)), 1)
    before, _ = imaginative.unroll(seen, None, noise)
    after, _ = imaginative.unroll(seen, None, other)
    for name in imaginative.outputs:
        apart = (after[name] - before[name]).abs().flatten(2).amax(2)
        assert (apart[:, :3] < 1e-6).all()
        assert (apart[:, 3:] > 1e-4).all()


def test_no_noise_is_the_mean(imaginative: SVG) -> None:
    """Of normal distributions: what noise of 0 gives."""
    seen = imaginative.example(B, T)
    silent = torch.zeros(B, T, *imaginative.noise)
    torch.testing.assert_close(imaginative.unroll(seen), imaginative.unroll(seen, None, silent), atol=1e-6, rtol=1e-6)
    _, state = imaginative.unroll(seen)
    given = conditions_of(imaginative, seen)
    torch.testing.assert_close(imaginative.imagine(given, state), imaginative.imagine(given, state, silent[:, 0]))


def conditions_of(model: SVG, seen: Streams, t: int = 0) -> Streams:
    return {name: seen[name][:, t] for name in model.inputs if name not in model.outputs}


def test_imagining_leads_from_state_to_state(imaginative: SVG) -> None:
    """What it gives is a state like any other: it can go on imagining, or be shown frames again."""
    seen, noise = imaginative.example(B, T), torch.randn(B, *imaginative.noise)
    _, state = imaginative.unroll(seen)
    given, kept = conditions_of(imaginative, seen), {name: value.clone() for name, value in state.items()}
    frame, after = imaginative.imagine(given, state, noise)
    assert set(frame) == set(imaginative.outputs)
    assert {name: value.shape for name, value in after.items()} == {name: value.shape for name, value in state.items()}
    imaginative.imagine(conditions_of(imaginative, seen, 1), after)  # something else in between
    imaginative.step({name: value[:, 0] for name, value in seen.items()}, after)
    torch.testing.assert_close(state, kept, atol=0, rtol=0)
    torch.testing.assert_close(imaginative.imagine(given, state, noise), (frame, after), atol=0, rtol=0)


def test_imagining_takes_conditions_noise_and_the_past_and_no_frame(imaginative: SVG) -> None:
    seen, noise = imaginative.example(B, T), torch.randn(B, *imaginative.noise)
    _, state = imaginative.unroll(seen)
    _, other_state = imaginative.unroll(imaginative.example(B, T))
    given = conditions_of(imaginative, seen)
    frame, _ = imaginative.imagine(given, state, noise)
    others = {
        **{name: imaginative.imagine({**given, name: 1 - given[name]}, state, noise) for name in given},
        "noise": imaginative.imagine(given, state, torch.randn(B, *imaginative.noise)),
        "the past": imaginative.imagine(given, other_state, noise),
    }
    for name, (other, _) in others.items():
        for stream in imaginative.outputs:
            assert (other[stream] - frame[stream]).abs().amax() > 1e-4, f"{stream} does not depend on {name}"
    shown = {name: torch.rand(B, *imaginative.shapes[name]) for name in imaginative.outputs}
    torch.testing.assert_close(imaginative.imagine({**given, **shown}, state, noise)[0], frame, atol=0, rtol=0)


def test_windows_do_not_meet_in_imagination(imaginative: SVG) -> None:
    seen, noise = imaginative.example(B, T), torch.randn(B, *imaginative.noise)
    _, state = imaginative.unroll(seen)
    given = conditions_of(imaginative, seen)
    together, _ = imaginative.imagine(given, state, noise)
    for b in range(B):
        one = slice(b, b + 1)
        alone, _ = imaginative.imagine(
            {name: value[one] for name, value in given.items()},
            {name: value[one] for name, value in state.items()},
            noise[one],
        )
        torch.testing.assert_close(alone, {name: value[one] for name, value in together.items()}, atol=1e-6, rtol=1e-6)


def test_a_missing_condition_of_imagination_is_named(imaginative: SVG) -> None:
    given, state = conditions_of(imaginative, imaginative.example(B, T)), imaginative.initial(B)
    for name in given:
        with pytest.raises(SakiyomiError, match=f"'{name}' is missing"):
            imaginative.imagine({other: value for other, value in given.items() if other != name}, state)
