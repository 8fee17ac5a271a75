"""What SARNN promises beyond the contract (which test_models.py holds)."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from benchmarks.published.sarnn import example, gradient, our_losses, published_losses, sides
from sakiyomi.data.windows import Batch
from sakiyomi.models import SARNN
from sakiyomi.schedules import Progress, progress_at

SMALL = SARNN.Config(joints=3, height=16, width=20, points=2, hidden=8, temperature=0.1)
CPU = torch.device("cpu")
B, T = 2, 6


@pytest.fixture
def model() -> SARNN:
    torch.manual_seed(0)
    return SARNN(SMALL)


def batch_for(model: SARNN) -> Batch:
    seen = model.example(B, T + 1)
    inputs, targets = ({name: value[:, i : i + T] for name, value in seen.items()} for i in (0, 1))
    return Batch(inputs, targets, torch.ones(B, T))


def at(step: int, training: bool = True) -> Progress:
    return progress_at(step, 1000, 0, CPU, training)


def reached(model: SARNN, loss: Tensor) -> set[str]:
    """The parts of the model that this loss teaches."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(loss.sum(), parameters, allow_unused=True, retain_graph=True)
    return {n.split(".")[0] for n, g in zip(names, found, strict=True) if g is not None and g.abs().sum() > 0}


def test_a_share_of_the_pictures_is_unbiased(model: SARNN) -> None:
    """Decoding a quarter of the steps gives the full image loss, and its gradient, on average."""
    share = SARNN(replace(SMALL, image_loss_fraction=0.25))
    share.load_state_dict(model.state_dict())
    batch = batch_for(model)

    def loss_and_gradient(net: SARNN, step: int) -> Tensor:
        loss = net.loss(batch, at(step))["image"].sum()
        grads = torch.autograd.grad(loss, list(net.decoder.parameters()))
        return torch.cat([loss.detach()[None], *(g.flatten() for g in grads)])

    full = loss_and_gradient(model, 0)
    draws = torch.stack([loss_and_gradient(share, step) for step in range(400)])
    # In the direction of the full gradient, and for the loss: within four standard errors, which are small.
    for sample, truth in ((draws[:, 0], full[0]), (draws[:, 1:] @ full[1:], full[1:] @ full[1:])):
        error = sample.std() / len(sample) ** 0.5
        assert error < 0.05 * truth
        assert abs(sample.mean() - truth) < 4 * error
    mean = draws[:, 1:].mean(0)
    assert (mean - full[1:]).norm() < 0.2 * full[1:].norm()


def test_the_share_is_of_training_only_and_drawn_anew(model: SARNN) -> None:
    share = SARNN(replace(SMALL, image_loss_fraction=0.25))
    share.load_state_dict(model.state_dict())
    batch = batch_for(model)
    decoded = [share.loss(batch, at(step))["image"] > 0 for step in range(20)]
    assert all(steps.sum() == round(0.25 * B * T) for steps in decoded)
    assert torch.stack(decoded).any(0).all()
    whole = model.loss(batch, at(0))["image"]
    torch.testing.assert_close(share.loss(batch, at(0, training=False))["image"], whole)


def test_the_point_loss_teaches_both_networks(model: SARNN) -> None:
    """Where it looks learns from where it meant to look, and the other way round."""
    batch = batch_for(model)
    losses = model.loss(batch, at(0))
    assert reached(model, losses["points"]) == {"position_encoder", "lstm", "point_head"}
    predictions, _ = model.unroll(batch.inputs)
    meant, found = predictions["points"], predictions["attention"]
    expected = (meant[:, :-1] - found[:, 1:]).square().mean((-2, -1))
    torch.testing.assert_close(losses["points"][:, :-1], expected)
    assert (losses["points"][:, -1] == 0).all()
    # The last picture is only ever a target: a gradient there comes from that side.
    batch.inputs["image"].requires_grad_()
    (side,) = torch.autograd.grad(model.loss(batch, at(0))["points"].sum(), batch.inputs["image"])
    assert side[:, -1].abs().sum() > 0


def test_each_loss_teaches_its_part(model: SARNN) -> None:
    losses = model.loss(batch_for(model), at(0))
    remembered = {"position_encoder", "lstm"}
    assert reached(model, losses["joints"]) == {*remembered, "joint_head"}
    assert reached(model, losses["image"]) == {*remembered, "point_head", "image_encoder", "decoder"}


def test_parameters_are_the_published_ones() -> None:
    """Spec, section 1: 3 -> 16 -> 32 -> K, LSTM of 50 on 2 K + J, 3x3 everywhere."""
    shapes = {name: tuple(value.shape) for name, value in SARNN(SARNN.Config()).named_parameters()}
    k, j, hidden = 5, 8, 50
    convolutions = [(16, 3, 3, 3), (16,), (32, 16, 3, 3), (32,), (k, 32, 3, 3), (k,)]
    transposed = [(k, 32, 3, 3), (32,), (32, 16, 3, 3), (16,), (16, 3, 3, 3), (3,)]

    def of(part: str) -> list[tuple[int, ...]]:
        return [shape for name, shape in shapes.items() if name.startswith(f"{part}.")]

    assert of("position_encoder") == of("image_encoder") == convolutions
    assert of("decoder") == transposed
    assert of("lstm") == [(4 * hidden, 2 * k + j), (4 * hidden, hidden), (4 * hidden,), (4 * hidden,)]
    assert of("joint_head") == [(j, hidden), (j,)]
    assert of("point_head") == [(2 * k, hidden), (2 * k,)]
    parts = ("position_encoder", "image_encoder", "decoder", "lstm", "joint_head", "point_head")
    assert sum(len(of(part)) for part in parts) == len(shapes)


def test_weights_begin_as_published() -> None:
    torch.manual_seed(0)
    for name, value in SARNN(SARNN.Config(hidden=32)).named_parameters():
        if value.ndim == 1:
            assert (value == 0).all(), name
        elif "weight_hh" in name:
            torch.testing.assert_close(value.T @ value, torch.eye(32), atol=1e-5, rtol=0)
        else:
            receptive = value[0, 0].numel()
            bound = (6 / (receptive * (value.shape[0] + value.shape[1]))) ** 0.5  # Xavier uniform
            assert 0.9 * bound < value.abs().max() <= bound, name


def test_a_learned_temperature_begins_at_1_and_learns(model: SARNN) -> None:
    learned = SARNN(replace(SMALL, temperature=None))
    assert learned.spatial_softmax.temperature.item() == 1
    assert "spatial_softmax" in reached(learned, learned.loss(batch_for(learned), at(0))["joints"])


def test_the_loss_is_that_of_the_published_loop() -> None:
    """And its gradient; the ways the benchmark times all run."""
    measured = sides(quick=True)
    assert all(gap < 1e-4 for gap in measured.agree().values()), measured.agree()
    for name, way in measured.ways.items():
        gradient = way()
        assert isinstance(gradient, Tensor), name
        assert gradient.isfinite().all(), name
        assert gradient.any(), name


def test_the_gradient_is_the_published_one_at_the_published_temperature() -> None:
    """In float64: so cold a softmax turns float32's last digit into another gradient, however it is found."""
    torch.manual_seed(0)
    model = SARNN(SARNN.Config(height=16, width=16)).double()
    batch = example(model, 2, 6, torch.float64)
    theirs, ours = (gradient(model, way(model, batch), batch.mask) for way in (published_losses, our_losses))
    assert model.config.temperature == 1e-4
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9 * float(theirs.abs().max()))


def test_half_precision_changes_the_picture_loss_little(model: SARNN) -> None:
    batch = batch_for(model)
    with torch.autocast("cpu", torch.bfloat16):
        half = model.loss(batch, at(0))
    for name, loss in model.loss(batch, at(0)).items():
        torch.testing.assert_close(half[name].float(), loss, atol=0.02, rtol=0.02)


def test_attention_follows_what_moves(model: SARNN) -> None:
    """A bright spot that moves to the right (down) moves the point to the right (down): no axes are swapped."""
    encoder = model.position_encoder
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.fill_(0.1 if parameter.ndim > 1 else 0.0)  # brightness finder

    def looks_at(row: int, column: int) -> Tensor:
        image = torch.zeros(1, 3, 16, 20)
        image[..., row, column] = 1
        prediction, _ = model.step({"image": image, "joints": torch.zeros(1, 3)}, model.initial(1))
        return model.to_picture(prediction["attention"])[0, 0]

    for row, column in ((6, 6), (6, 13), (9, 6), (9, 13)):
        torch.testing.assert_close(
            looks_at(row, column), torch.tensor([(column + 0.5) / 20, (row + 0.5) / 16]), atol=0.02, rtol=0
        )


def test_to_picture_finds_the_middle_of_what_a_cell_sees(model: SARNN) -> None:
    """The pixels that a cell's value depends on, from the gradient itself: their middle is its place."""
    image = torch.rand(1, 3, 16, 20, requires_grad=True)
    maps = model.position_encoder(image)
    height, width = maps.shape[-2:]
    for row, column in ((0, 0), (4, 7), (height - 1, width - 1)):
        (gradient,) = torch.autograd.grad(maps[0, 0, row, column], image, retain_graph=True)
        _, rows, columns = gradient[0].nonzero(as_tuple=True)
        middle = torch.tensor(
            [
                (columns.min() + columns.max() + 1) / 2 / 20,
                (rows.min() + rows.max() + 1) / 2 / 16,
            ]
        )
        cell = torch.tensor([column / (width - 1), row / (height - 1)])
        torch.testing.assert_close(model.to_picture(cell), middle)
