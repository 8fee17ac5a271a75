"""Independent normal distributions: what an encoder says of a latent z."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Gaussian:
    """Independent normal distributions, by means and log-variances [..., Z]."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, noise: Tensor | None) -> Tensor:
        """The means where there is no noise."""
        return self.mean if noise is None else self.mean + (self.log_variance / 2).exp() * noise

    def divergence(self, other: "Gaussian") -> Tensor:
        """KL(self || other), summed over Z, in nats:
        log(s2 / s1) + (s1^2 + (m1 - m2)^2) / (2 s2^2) - 1/2."""
        values = (self.mean, self.log_variance, other.mean, other.log_variance)
        m1, v1, m2, v2 = (_precise(value) for value in values)
        return (v2 - v1 + (v1 - v2).exp() + (m1 - m2).square() * (-v2).exp() - 1).sum(-1) / 2

    def from_standard(self) -> Tensor:
        """KL from the standard normal distribution for each number of z, in nats, [..., Z]."""
        mean, log_variance = _precise(self.mean), _precise(self.log_variance)
        return (mean.square() + log_variance.exp() - log_variance - 1) / 2

    def log_density(self, z: Tensor) -> Tensor:
        """Of z [..., Z], summed over Z, in nats."""
        mean, log_variance = _precise(self.mean), _precise(self.log_variance)
        apart = (z - mean).square() * (-log_variance).exp()
        return -(apart + log_variance + math.log(2 * math.pi)).sum(-1) / 2


def _precise(value: Tensor) -> Tensor:
    """Autocast may have made it bfloat16, of which differences of squares leave little."""
    return value.float() if value.dtype == torch.bfloat16 else value
