"""Importance sampling comes to the true likelihood: where that is known by hand, and where it can be integrated."""

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from sakiyomi.errors import SakiyomiError
from sakiyomi.job import build
from sakiyomi.layers.gaussian import Gaussian
from sakiyomi.models import AE, CVAE, VAE
from sakiyomi.models.base import Streams
from sakiyomi.scores.likelihood import Likely, fixed_coin_flips, negative_log_likelihood

D, Z = 6, 2  # pixels, numbers of z


@dataclass(frozen=True)
class Linear:
    """x = W z + noise: p(x) is a normal distribution that is known, and so is what z may have been. `wide` makes the
    posterior wider than it is."""

    weight: Tensor  # [D, Z]
    deviation: float
    wide: float = 1.0

    def posterior(self, observations: Streams) -> Gaussian:
        x = observations["image"].flatten(1)
        precision = torch.eye(Z, dtype=x.dtype) + self.weight.T @ self.weight / self.deviation**2
        covariance = torch.linalg.inv(precision)  # diagonal: the columns of W are orthogonal
        mean = x @ self.weight @ covariance / self.deviation**2
        return Gaussian(mean, covariance.diagonal().log().expand_as(mean) + 2 * math.log(self.wide))

    def log_likelihood(self, observations: Streams, z: Tensor) -> Tensor:
        x = observations["image"].flatten(1)
        return Normal(z @ self.weight.T, self.deviation).log_prob(x).sum(-1)

    def exact(self, x: Tensor) -> Tensor:
        covariance = self.weight @ self.weight.T + self.deviation**2 * torch.eye(D, dtype=x.dtype)
        return -MultivariateNormal(x.new_zeros(D), covariance).log_prob(x.flatten(1))


def linear(wide: float = 1.0) -> tuple[Linear, Streams]:
    torch.manual_seed(0)
    weight, _ = torch.linalg.qr(torch.randn(D, Z, dtype=torch.float64))
    images = torch.randn(7, 1, 2, 3, dtype=torch.float64)
    return Linear(weight * torch.tensor([1.5, 0.7], dtype=torch.float64), 0.5, wide), {"image": images}


def test_the_true_posterior_gives_the_exact_value_with_one_draw() -> None:
    model, seen = linear()
    torch.testing.assert_close(negative_log_likelihood(model, seen, samples=1), model.exact(seen["image"]))


def test_another_posterior_comes_to_the_exact_value_from_above() -> None:
    model, seen = linear(wide=1.6)
    exact = model.exact(seen["image"])
    found = {k: negative_log_likelihood(model, seen, samples=k) - exact for k in (1, 20, 20_000)}
    gaps = {k: float(gap.mean()) for k, gap in found.items()}
    assert gaps[1] > gaps[20] > abs(gaps[20_000])
    assert gaps[1] > 0.1
    assert found[20_000].abs().max() < 0.02


def tiny(kind: Any, **changes: Any) -> Any:
    """Of 3 x 4 pixels and one number of z."""
    torch.manual_seed(3)
    model: Any = build(kind.Config(height=3, width=4, latent=1, layers=(16,), **changes)).double().eval()
    with torch.no_grad():
        for value in model.decoder.parameters():
            value.mul_(2)
    return model


@pytest.mark.parametrize(
    ("kind", "changes"), [(VAE, {}), (VAE, {"likelihood": "gaussian", "deviation": 0.4}), (CVAE, {"labels": 3})]
)
def test_it_is_the_integral_over_z(kind: Any, changes: dict[str, Any]) -> None:
    """p(x) = integral of p(x | z) p(z), on a fine grid."""
    model = tiny(kind, **changes)
    seen: Streams = {"image": torch.rand(5, 1, 3, 4, dtype=torch.float64).round()}
    if "label" in model.inputs:
        seen["label"] = torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0, 1]]
    z = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    joint = model.log_likelihood(seen, z[:, None, None].expand(-1, 5, -1)) + Normal(0.0, 1.0).log_prob(z)[:, None]
    exact = -(joint.logsumexp(0) + math.log(float(z[1] - z[0])))
    found = negative_log_likelihood(model, seen, samples=30_000)
    torch.testing.assert_close(found, exact.detach(), atol=0.02, rtol=0)
    assert (negative_log_likelihood(model, seen, samples=1).mean() > exact.mean()).item()


@pytest.mark.parametrize("at_once", [1, 7, 40, 1000])
def test_how_many_are_decoded_at_a_time_changes_nothing(at_once: int) -> None:
    """Neither the noise nor the value, and never more than that are asked for."""
    model = tiny(VAE)
    seen = {"image": torch.rand(6, 1, 3, 4, dtype=torch.float64)}
    asked = []

    class Watching:
        def posterior(self, observations: Streams) -> Gaussian:
            return model.posterior(observations)

        def log_likelihood(self, observations: Streams, z: Tensor) -> Tensor:
            asked.append(z.shape[0] * z.shape[1])
            return model.log_likelihood(observations, z)

    found = negative_log_likelihood(Watching(), seen, samples=20, at_once=at_once)
    torch.testing.assert_close(found, negative_log_likelihood(model, seen, samples=20))
    assert max(asked) <= max(at_once, 1)
    assert sum(asked) == 6 * 20


def test_the_seed_is_all_that_is_random() -> None:
    model, seen = linear(wide=2.0)
    first, again, other = (negative_log_likelihood(model, seen, 5, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert (first != other).all()
    assert first.dtype == torch.float64


def test_coins_are_as_bright_as_the_pixels_and_always_the_same() -> None:
    grey = torch.linspace(0, 1, 5)[:, None].expand(5, 20_000)
    coins = fixed_coin_flips(grey)
    assert set(coins.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(coins.mean(1), grey[:, 0], atol=0.02, rtol=0)
    assert torch.equal(coins, fixed_coin_flips(grey))
    assert not torch.equal(coins, fixed_coin_flips(grey, seed=1))


def test_who_can_be_asked() -> None:
    assert isinstance(tiny(VAE), Likely)
    assert isinstance(tiny(CVAE), Likely)
    assert not isinstance(tiny(AE), Likely)
    model, seen = linear()
    with pytest.raises(SakiyomiError, match="samples is 0"):
        negative_log_likelihood(model, seen, samples=0)
