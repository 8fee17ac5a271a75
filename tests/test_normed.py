"""Statistics step by step: what a loop over time would have, in outputs, gradients and running statistics."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sakiyomi.layers import normed as module
from sakiyomi.layers.normed import Filter, normed, normed_leaky

STEPS, B, C = 4, 3, 5
SLOPE = 0.2


def a_norm() -> nn.BatchNorm2d:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(C).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


def frames(seed: int = 1) -> Tensor:
    """Steps of different mean and spread, so that whose statistics are taken is seen."""
    torch.manual_seed(seed)
    scale = torch.arange(1, STEPS + 1).repeat_interleave(B)[:, None, None, None]
    return (torch.randn(STEPS * B, C, 2, 3, dtype=torch.float64) * scale + scale).requires_grad_()


def leaky(norm: nn.BatchNorm2d, x: Tensor, steps: int) -> Tensor:
    return normed_leaky(norm, x, SLOPE, steps)


def looped(norm: nn.BatchNorm2d, x: Tensor, squash: bool) -> Tensor:
    each = [norm(step) for step in x.unflatten(0, (STEPS, B))]
    return torch.cat([functional.leaky_relu(one, SLOPE) if squash else one for one in each])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("squash", [True, False], ids=["with LeakyReLU", "alone"])
def test_steps_at_once_are_a_loop_over_them(squash: bool, layout: torch.memory_format) -> None:
    norm, x = a_norm(), frames()
    other = copy.deepcopy(norm)
    found = (leaky if squash else normed)(norm, x.contiguous(memory_format=layout), STEPS)
    wanted = looped(other, x, squash)
    torch.testing.assert_close(found, wanted)
    weigh = torch.randn_like(wanted)
    slopes = [
        torch.autograd.grad((y * weigh).sum(), (x, module.weight, module.bias))
        for y, module in ((found, norm), (wanted, other))
    ]
    torch.testing.assert_close(*slopes)
    torch.testing.assert_close(norm.state_dict(), other.state_dict())  # running statistics moved once a step
    assert int(other.state_dict()["num_batches_tracked"]) == STEPS
    all_at_once = functional.batch_norm(x, None, None, norm.weight, norm.bias, training=True)
    assert (found - (functional.leaky_relu(all_at_once, SLOPE) if squash else all_at_once)).abs().max() > 0.1


CONVOLUTIONS = {
    "plain": lambda: nn.Conv2d(C, 4, 3, padding=1),
    "strided": lambda: nn.Conv2d(C, 4, 2, stride=2, bias=False),
    "transposed": lambda: nn.ConvTranspose2d(C, 4, 4, stride=2, padding=1),
}
convolutions = pytest.mark.parametrize("kind", CONVOLUTIONS)


@convolutions
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("steps_in_a_piece", [1, 3, STEPS])
def test_a_convolution_behind_it_in_pieces_is_that_of_all(
    kind: str, layout: torch.memory_format, steps_in_a_piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIECE", steps_in_a_piece * B * C * 2 * 3)
    monkeypatch.setattr(module, "WEIGHTS", 0)
    norm, x, convolution = a_norm(), frames(), CONVOLUTIONS[kind]().double()
    found = normed_leaky(norm, x.contiguous(memory_format=layout), SLOPE, STEPS, Filter.of(convolution))
    wanted = convolution(looped(norm, x, squash=True))
    torch.testing.assert_close(found, wanted)
    weigh, of = torch.randn_like(wanted), (x, *norm.parameters(), *convolution.parameters())
    torch.testing.assert_close(*(torch.autograd.grad((y * weigh).sum(), of) for y in (found, wanted)))


@convolutions
def test_only_what_comes_in_is_kept_for_the_way_back(kind: str) -> None:
    """And weights and statistics; not what is between the norm and the convolution, nor what comes out."""
    norm, convolution, x = a_norm(), CONVOLUTIONS[kind]().double(), frames()
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        normed_leaky(norm, x, SLOPE, STEPS, Filter.of(convolution))
    weights = sum(parameter.numel() for parameter in (*norm.parameters(), *convolution.parameters()))
    assert sum(kept.values()) == x.numel() + weights + 2 * STEPS * C


def test_gradients_are_slopes() -> None:
    def of(x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor | None = None) -> Tensor:
        norm = a_norm()
        del norm.weight, norm.bias
        norm.weight, norm.bias = scale, shift  # pyright: ignore[reportAttributeAccessIssue]
        then = None if weight is None else Filter(weight, None, stride=1, padding=1, transposed=False)
        return normed_leaky(norm, x, SLOPE, STEPS, then)

    weights = [parameter.detach().clone().requires_grad_() for parameter in a_norm().parameters()]
    assert torch.autograd.gradcheck(of, (frames(), *weights))
    weights.append(nn.Conv2d(C, 2, 3).double().weight)
    assert torch.autograd.gradcheck(of, (frames(), *weights))


def test_in_evaluation_steps_do_not_count() -> None:
    norm = a_norm()
    norm(frames())
    norm.eval()
    before = copy.deepcopy(norm.state_dict())
    x = frames(2)
    torch.testing.assert_close(leaky(norm, x, STEPS), functional.leaky_relu(norm(x), SLOPE))
    torch.testing.assert_close(normed(norm, x, STEPS), norm(x))
    convolution = nn.Conv2d(C, 4, 2).double()
    then = normed_leaky(norm, x, SLOPE, STEPS, Filter.of(convolution))
    torch.testing.assert_close(then, convolution(functional.leaky_relu(norm(x), SLOPE)))
    torch.testing.assert_close(norm.state_dict(), before)


def test_bfloat16_is_close_to_float32() -> None:
    """Gradients of weights stay float32."""
    norm = a_norm().float()
    exact, x = frames().detach().float().requires_grad_(), frames().detach().bfloat16().requires_grad_()
    found, wanted = leaky(norm, x, STEPS), leaky(norm, exact, STEPS)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, atol=0.03, rtol=0.02)
    slopes = [
        torch.autograd.grad(y.float().square().sum(), (of, norm.weight)) for y, of in ((found, x), (wanted, exact))
    ]
    assert slopes[0][1].dtype == torch.float32
    for rough, true in zip(*slopes, strict=True):
        assert (rough.float() - true).norm() < 0.03 * true.norm()


def test_under_autocast_a_convolution_behind_it_is_bfloat16() -> None:
    """Its weights' gradient is summed up in float32, as they are."""
    norm, convolution, x = a_norm().float(), nn.Conv2d(C, 4, 3, padding=1), frames().detach()
    with torch.autocast("cpu", torch.bfloat16):
        found = normed_leaky(norm, x.bfloat16(), SLOPE, STEPS, Filter.of(convolution))
    wanted = normed_leaky(norm, x.float(), SLOPE, STEPS, Filter.of(convolution))
    assert found.dtype == torch.bfloat16
    slopes = [torch.autograd.grad(y.float().square().sum(), convolution.weight)[0] for y in (found, wanted)]
    assert slopes[0].dtype == torch.float32
    assert (slopes[0] - slopes[1]).norm() < 0.03 * slopes[1].norm()
