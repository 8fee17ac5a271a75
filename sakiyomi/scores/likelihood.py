"""How likely a picture is to a variational autoencoder, by importance sampling (Burda et al.: "Importance Weighted
Autoencoders", ICLR 2016, equation 8 with K samples).

    nats = negative_log_likelihood(model, {"image": images}, samples=200)

log p(x) is at least the mean over draws of log 1/K sum_k p(x, z_k) / q(z_k | x) with z_k from the posterior q, and
comes to it as K grows. With K = 1 it is the bound that is trained on.
"""

import math
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from sakiyomi.errors import at_least
from sakiyomi.layers.gaussian import Gaussian
from sakiyomi.models.base import Streams

SAMPLES = 200
AT_ONCE = 10_000  # pictures drawn at a time: some hundred megabytes


@runtime_checkable
class Likely(Protocol):
    """A model that says what z may have been, and how likely a picture is where z is known."""

    def posterior(self, observations: Streams) -> Gaussian: ...

    def log_likelihood(self, observations: Streams, z: Tensor) -> Tensor: ...


@torch.inference_mode()
def negative_log_likelihood(
    model: Likely, observations: Streams, samples: int = SAMPLES, seed: int = 0, at_once: int = AT_ONCE
) -> Tensor:
    """-log p(x) of each of N pictures, nats float64 [N], with z standard normal a priori. `observations` are [N, ...];
    where a label is among them, it is given. At most `at_once` pictures are decoded at a time.

    The noise of a picture follows from the seed, however many are decoded at a time.
    """
    at_least("samples", samples, 1)
    at_least("at_once", at_once, 1)
    generator = torch.Generator().manual_seed(seed)
    count, found = len(observations["image"]), []
    rows, draws = max(1, at_once // samples), min(samples, at_once)
    for first in range(0, count, rows):
        seen = {name: value[first : first + rows] for name, value in observations.items()}
        posterior = model.posterior(seen)
        mean = posterior.mean
        noise = torch.stack([torch.randn(samples, mean.shape[-1], generator=generator) for _ in mean], 1)
        parts = []
        for some in noise.to(mean).split(draws):
            z = posterior.sample(some)
            prior = -(z.square() + math.log(2 * math.pi)).sum(-1) / 2
            parts.append(model.log_likelihood(seen, z).double() + prior - posterior.log_density(z))
        found.append(math.log(samples) - torch.cat(parts).logsumexp(0))
    return torch.cat(found).cpu()


def fixed_coin_flips(images: Tensor, seed: int = 0) -> Tensor:
    """Pictures of 0 and 1, each pixel 1 with the probability of its brightness, drawn once by a seed: what a likelihood
    on binarised pictures is measured on."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(images.shape, generator=generator) < images.cpu()).to(images)
