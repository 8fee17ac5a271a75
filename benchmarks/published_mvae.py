"""The published motion VAE's training loop (Ling et al. 2020), as arithmetic: for each sample the experts' weights are
blended into matrices of its own, then the layers run on those; a step of a plain Adam after every frame."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from sakiyomi.data.windows import Batch
from sakiyomi.models import MVAE
from sakiyomi.models.mvae import divergence
from sakiyomi.schedules import Progress


class PublishedMVAE(nn.Module):
    """Starts from the weights of `model`; the encoder and the gate are plain layers in both."""

    def __init__(self, model: MVAE) -> None:
        super().__init__()
        assert model.gate is not None
        self.encoder, self.gate = model.encoder, model.gate
        layers = (model.decoder.first, model.decoder.second, model.decoder.last)
        both = [torch.cat((layer.latent, layer.weight)).detach().transpose(0, 1).contiguous() for layer in layers]
        self.weights = nn.ParameterList(both)  # [E, read, write]
        self.biases = nn.ParameterList([layer.bias.detach().clone() for layer in layers])

    def decode(self, z: Tensor, pose: Tensor) -> Tensor:
        """[N, Z] and [N, D] -> [N, D]."""
        coefficients = self.gate(torch.cat((z, pose), -1))
        hidden = pose
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            mixed = (coefficients @ weight.flatten(1)).unflatten(1, weight.shape[1:])  # [N, read, write]
            read = torch.cat((z, hidden), -1)[:, None]
            hidden = torch.baddbmm((coefficients @ bias)[:, None], read, mixed)[:, 0]
            hidden = functional.elu(hidden) if number < len(self.weights) - 1 else hidden
        return hidden


def published_losses(
    model: PublishedMVAE, optimizer: torch.optim.Optimizer, batch: Batch, progress: Progress, kl_weight: float
) -> Iterator[float]:
    """The losses of one frame after another of poses fed back, as `reduction="mean"` has them; each is followed by a
    gradient step."""
    inputs, targets = batch.inputs["pose"], batch.targets["pose"]
    torch.rand(inputs.shape[:2], generator=progress.generator)  # ours draws here who is shown true poses
    pose = inputs[:, 0]
    for t in range(inputs.shape[1]):
        mean, log_variance = model.encoder(targets[:, t], pose)
        z = mean + (log_variance / 2).exp() * torch.randn(mean.shape, generator=progress.generator)
        predicted = model.decode(z, pose)
        kl = divergence(mean, log_variance).sum() / log_variance.numel()
        loss = (predicted - targets[:, t]).square().mean() + kl_weight * kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        pose = predicted.detach()
        yield loss.item()
