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
    layers = stack(kind, reads, 4, 5, 2)
    frames = torch.rand(2, reads, 8, 9, dtype=torch.float64)
    frames.requires_grad_()
    wanted = [frames, *layers.parameters()]
    by_hand, plain = (
        (made, *torch.autograd.grad(made.sin().sum(), wanted))
        for made in (convolved(layers, frames, keep), layers(frames))
    )
    torch.testing.assert_close(by_hand, plain)


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


def test_no_gradient_is_looked_for_where_none_is_wanted() -> None:
    layer, codes = nn.Linear(4, 3), torch.rand(N, 4)
    layer.weight.requires_grad_(False)
    with torch.no_grad():
        assert not in_chunks(lambda x: layer(x).sum(1), [layer], codes, (), torch.ones(N)).requires_grad
    in_chunks(lambda x: layer(x).sum(1), [layer], codes, (), torch.ones(N)).sum().backward()
    assert layer.weight.grad is None  # frozen
    torch.testing.assert_close(layer.bias.grad, torch.full((3,), float(N)))
