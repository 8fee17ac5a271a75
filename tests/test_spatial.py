"""From maps to points and back: x along the width, y along the height, on maps that are not square."""

import pytest
import torch
from torch import Tensor

from sakiyomi.errors import SakiyomiError
from sakiyomi.layers import InverseSpatialSoftmax, SpatialSoftmax

SIZES = [(5, 9), (9, 5), (7, 7), (1, 4)]


def cells(height: int, width: int) -> Tensor:
    """The place of every cell as (x, y), [H, W, 2], written out."""
    along = [i / (width - 1) if width > 1 else 0.0 for i in range(width)]
    down = [i / (height - 1) if height > 1 else 0.0 for i in range(height)]
    return torch.tensor([[(x, y) for x in along] for y in down], dtype=torch.float64)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_peak_comes_back_at_its_place(height: int, width: int) -> None:
    peaks = torch.eye(height * width).reshape(1, -1, height, width)
    points = SpatialSoftmax(height, width)(peaks)
    torch.testing.assert_close(points[0], cells(height, width).flatten(0, 1).float())


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("temperature", [0.3, 1.0, None])
def test_points_are_the_expectation(height: int, width: int, temperature: float | None) -> None:
    """Against the formula, summed cell by cell in float64."""
    torch.manual_seed(0)
    maps = torch.randn(2, 3, height, width)
    weights = (maps.double() / (temperature or 1.0)).exp()
    place = cells(height, width)
    expected = (weights[..., None] * place).sum((-3, -2)) / weights.sum((-2, -1))[..., None]
    torch.testing.assert_close(SpatialSoftmax(height, width, temperature)(maps), expected.float())


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_heat_is_the_gaussian_of_the_distance(height: int, width: int) -> None:
    torch.manual_seed(0)
    points, size = torch.rand(2, 3, 2), 0.05
    distance = (cells(height, width) - points[:, :, None, None].double()).square().sum(-1)
    heat = InverseSpatialSoftmax(height, width, size)(points)
    torch.testing.assert_close(heat, (-distance / size).exp().float())


@pytest.mark.parametrize(("height", "width"), SIZES[:3])
def test_points_to_heat_and_back(height: int, width: int) -> None:
    """The heat of a cell's centre is 1 there, and a cold softmax finds it again."""
    places = cells(height, width).flatten(0, 1).float()[None]
    heat = InverseSpatialSoftmax(height, width)(places)
    assert torch.equal(heat.flatten(-2).argmax(-1)[0], torch.arange(height * width))
    torch.testing.assert_close(SpatialSoftmax(height, width)(heat), places)


@pytest.mark.parametrize("temperature", [0.5, None])
def test_gradients_are_those_of_finite_differences(temperature: float | None) -> None:
    torch.manual_seed(0)
    softmax = SpatialSoftmax(4, 6, temperature).double()
    assert torch.autograd.gradcheck(softmax, torch.randn(2, 3, 4, 6, dtype=torch.float64, requires_grad=True))
    inverse = InverseSpatialSoftmax(4, 6).double()
    assert torch.autograd.gradcheck(inverse, torch.rand(2, 3, 2, dtype=torch.float64, requires_grad=True))


def test_only_a_learned_temperature_is_a_parameter() -> None:
    learned = SpatialSoftmax(4, 6, None)
    assert [parameter.item() for parameter in learned.parameters()] == [1.0]
    learned(torch.randn(1, 1, 4, 6))[0, 0, 0].backward()
    assert learned.temperature.grad is not None
    assert learned.temperature.grad.abs() > 0
    fixed = SpatialSoftmax(4, 6)
    assert not list(fixed.parameters())
    assert not fixed.state_dict()  # a checkpoint does not carry what the configuration says


def test_half_precision_costs_no_more_than_the_maps_rounding() -> None:
    """Points are computed in float32, also where autocast would not: half a cell of 64 is 0.008."""
    torch.manual_seed(0)
    softmax, maps = SpatialSoftmax(64, 64, 0.01), torch.randn(2, 5, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        half = softmax(maps)
    torch.testing.assert_close(half, softmax(maps), atol=1e-6, rtol=0)
    assert softmax(maps.bfloat16()).dtype == torch.float32


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(SakiyomiError, match=r"\[1, 2, 6, 4\].*\(4, 6\)"):
        SpatialSoftmax(4, 6)(torch.zeros(1, 2, 6, 4))
    with pytest.raises(SakiyomiError, match=r"\[1, 2, 3\].*x, y"):
        InverseSpatialSoftmax(4, 6)(torch.zeros(1, 2, 3))
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(SakiyomiError, match="temperature"):
            SpatialSoftmax(4, 6, temperature)
    with pytest.raises(SakiyomiError, match="size"):
        InverseSpatialSoftmax(4, 6, 0.0)
    for layer in (SpatialSoftmax, InverseSpatialSoftmax):
        with pytest.raises(SakiyomiError, match="0 x 6"):
            layer(0, 6)
