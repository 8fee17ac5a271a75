"""Frames in chunks are the plain computation: values, gradients, whatever the mask."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from sakiyomi.layers.chunks import FRAMES, convolved, in_chunks

N = 2 * FRAMES + 1  # the last chunk is shorter


def stack(kind: type[nn.Module], *channels: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [kind(a, b, 3) for a, b in pairwise(channels)]  # pyright: ignore[reportCallIssue]
    return nn.Sequential(*(part for layer in layers for part in (layer, nn.LeakyReLU(0.3, inplace=True)))).double()


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize(("kind", "reads"), [(nn.Conv2d, 3), (nn.ConvTranspose2d, 2)])
def test_the_layers_by_hand_are_the_layers(kind: type[nn.Module], reads: int, keep: bool) -> None:
    layers = stack(kind, reads, 9, 5, 2)  # many channels and few: their gradients are found in different ways
    frames = torch.rand(2, reads, 8, 9, dtype=torch.float64)
    frames.requires_grad_()
    wanted = [frames, *layers.parameters()]
    by_hand, plain = (
        (made, *torch.autograd.grad(made.sin().sum(), wanted))
        for made in (convolved(layers, frames, keep), layers(frames))
    )
    torch.testing.assert_close(by_hand, plain)


@pytest.mark.parametrize("few", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_few_channels_are_written_side_by_side_whatever_the_width(kind: type[nn.Module], few: int) -> None:
    layers = stack(kind, 3, few)
    for width in range(3, 20):
        frames = torch.rand(2, 3, 4, width, dtype=torch.float64)
        torch.testing.assert_close(convolved(layers, frames), layers(frames))


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_the_way_back_has_the_precision_of_the_way_forth(kind: type[nn.Module], keep: bool) -> None:
    """Whatever autocast says by then."""
    layers, frames = stack(kind, 3, 9, 2).float(), torch.rand(2, 3, 8, 9)
    for forth, back in ((False, True), (True, False)):
        found = []
        for later in (back, forth):
            with torch.autocast("cpu", torch.bfloat16, enabled=forth):
                made = convolved(layers, frames, keep)
            with torch.autocast("cpu", torch.bfloat16, enabled=later):
                found.append(torch.autograd.grad(made.sum(), tuple(layers.parameters())))
        torch.testing.assert_close(*found, atol=0, rtol=0)


def test_finite_differences_agree() -> None:
    layers = stack(nn.Conv2d, 1, 2, 2)
    frames = torch.rand(1, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: convolved(layers, x, keep=False), frames)


def test_a_second_derivative_is_refused() -> None:
    layers, frames = stack(nn.Conv2d, 1, 2, 1), torch.rand(1, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(convolved(layers, frames).square().sum(), frames, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize("weights", ["mask", "twice the mask", "others", "nothing"])
def test_errors_in_chunks_are_the_errors(weights: str) -> None:
    """Of the loss they were prepared for, of a multiple of it, and of any other; twice from the same graph."""
    torch.manual_seed(0)
    layer = nn.Linear(4, 3).double()
    codes = torch.rand(N, 4, dtype=torch.float64, requires_grad=True)
    targets, mask = torch.rand(N, 3, dtype=torch.float64), (torch.arange(N) % 3 > 0).float()

    def errors(read: Tensor, wanted: Tensor) -> Tensor:
        return (layer(read) - wanted).square().mean(1)

    chosen: dict[str, Callable[[], Tensor]] = {
        "mask": lambda: mask,
        "twice the mask": lambda: 2 * mask,
        "others": lambda: torch.rand(N),
        "nothing": lambda: 0 * mask,
    }
    loss_weights = chosen[weights]()
    plain, chunked = errors(codes, targets), in_chunks(errors, [layer], codes, (targets,), mask)
    torch.testing.assert_close(chunked, plain)
    wanted = [codes, *layer.parameters()]
    expected = torch.autograd.grad((plain * loss_weights).sum(), wanted)
    for _ in range(2):
        found = torch.autograd.grad((chunked * loss_weights).sum(), wanted, retain_graph=True)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_mask_of_nothing_is_no_hindrance(weight: float) -> None:
    layer, codes = nn.Linear(4, 3), torch.rand(N, 4, requires_grad=True)

    def errors(read: Tensor) -> Tensor:
        return layer(read).square().sum(1)

    wanted = [codes, *layer.parameters()]
    ways = in_chunks(errors, [layer], codes, (), torch.zeros(N)), errors(codes)
    torch.testing.assert_close(*(torch.autograd.grad(weight * way.sum(), wanted) for way in ways))


def test_what_is_not_finite_is_seen() -> None:
    """One broken frame is enough, and the others' errors stay what they are."""
    layer, codes = nn.Linear(4, 3), torch.rand(N, 4)
    codes[FRAMES + 1] = float("nan")
    errors = in_chunks(lambda read: layer(read).sum(1), [layer], codes, (), torch.ones(N))
    assert errors.isfinite().tolist() == [number != FRAMES + 1 for number in range(N)]
    errors.sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.isnan().all()


def test_what_is_given_receives_gradients_where_it_wants_them() -> None:
    layer, codes, targets = nn.Linear(4, 3), torch.rand(N, 4), torch.rand(N, 3, requires_grad=True)

    def errors(read: Tensor, wanted: Tensor) -> Tensor:
        return (layer(read) - wanted).square().sum(1)

    ways = in_chunks(errors, [layer], codes, (targets,), torch.ones(N)), errors(codes, targets)
    torch.testing.assert_close(*(torch.autograd.grad(way.sum(), targets)[0] for way in ways))


@pytest.mark.parametrize("weights", ["mask", "others"])
def test_under_autocast_chunks_have_its_precision(weights: str) -> None:
    """Also where gradients are found again, which is outside of it; those of weights are float32."""
    torch.manual_seed(0)
    layer, codes = nn.Linear(4, 3), torch.rand(N, 4, requires_grad=True)
    loss_weights = torch.ones(N) if weights == "mask" else torch.rand(N)

    def errors(read: Tensor) -> Tensor:
        assert layer(read).dtype == torch.bfloat16
        return layer(read).float().square().sum(1)

    with torch.autocast("cpu", torch.bfloat16):
        ways = in_chunks(errors, [layer], codes, (), torch.ones(N)), errors(codes)
    wanted = [codes, *layer.parameters()]
    found, expected = (torch.autograd.grad((way * loss_weights).sum(), wanted) for way in ways)
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)


def test_no_gradient_is_looked_for_where_none_is_wanted() -> None:
    layer, codes = nn.Linear(4, 3), torch.rand(N, 4)
    layer.weight.requires_grad_(False)
    with torch.no_grad():
        assert not in_chunks(lambda x: layer(x).sum(1), [layer], codes, (), torch.ones(N)).requires_grad
    in_chunks(lambda x: layer(x).sum(1), [layer], codes, (), torch.ones(N)).sum().backward()
    assert layer.weight.grad is None  # frozen
    torch.testing.assert_close(layer.bias.grad, torch.full((3,), float(N)))
