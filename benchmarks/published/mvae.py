"""The published motion VAE's training loop (Ling et al. 2020), as arithmetic: for each sample the experts' weights are
blended into matrices of its own, then the layers run on those; a step of a plain Adam after every frame."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.side_by_side import Sides, our_products
from sakiyomi.data.windows import Batch
from sakiyomi.models import MVAE
from sakiyomi.models.mvae import divergence
from sakiyomi.products import plain_products
from sakiyomi.schedules import Progress, progress_at

CPU = torch.device("cpu")
WINDOWS, FRAMES = 64, 8  # of a batch
COMPARED = 5  # batches, a gradient step after each of their frames


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


class Trained:
    """A copy of a motion VAE in training, by the published loop or by ours. Calling it is one pass over the batch, a
    gradient step after every frame; it returns their losses."""

    def __init__(self, model: MVAE, batch: Batch, published: bool, precision: str = "float32") -> None:
        self.batch, self.precision, self.done = batch, precision, 0
        self.ours = copy.deepcopy(model)
        self.published = PublishedMVAE(self.ours) if published else None
        parameters = (self.published or self.ours).parameters()
        self.optimizer = torch.optim.Adam(parameters, 1e-4, fused=not published)

    def __call__(self) -> list[float]:
        progress = progress_at(self.done, 1, 0, CPU, forcing=0.0)
        self.done += 1
        if self.published:
            return list(published_losses(self.published, self.optimizer, self.batch, progress, 1.0))
        losses, frames = [], self.ours.frames(self.batch, progress)
        for _ in range(self.batch.mask.shape[1]):
            with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bfloat16"):
                frame = next(frames)
            total = frame["pose"].float().mean() + frame["kl"].float().mean()
            total.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            losses.append(total.item())
        return losses


def batch_of(pose: int, windows: int = WINDOWS, frames: int = FRAMES) -> Batch:
    """Poses of noise, each to be predicted from the one before."""
    seen = torch.randn(windows, frames + 1, pose)
    return Batch({"pose": seen[:, :-1]}, {"pose": seen[:, 1:]}, torch.ones(windows, frames))


def sides(quick: bool = False) -> Sides:
    """The training step of the published sizes. The published loop runs with torch's own choice of who multiplies
    matrices, and once more with ours: so much is not owed to the loop."""
    torch.manual_seed(0)
    small = MVAE.Config(pose=9, latent=4, hidden=8, experts=3, gate=5, reduction="mean")
    model = MVAE(small if quick else MVAE.Config(reduction="mean"))
    batch = batch_of(model.config.pose, 3, 4) if quick else batch_of(model.config.pose)
    published, helped = (Trained(model, batch, published=True) for _ in range(2))
    ours, half = (Trained(model, batch, False, precision) for precision in ("float32", "bfloat16"))
    ways = {
        "published": lambda: plain(published),
        "ours, float32": lambda: wide(ours),
        "ours, bfloat16": lambda: wide(half),
        "published, our products": lambda: wide(helped),
    }
    title = f"MVAE, pose {model.config.pose}, batch {len(batch.mask)} x {batch.mask.shape[1]}, a step after each frame"
    return Sides(title, batch.mask.numel(), ways, lambda: agreement(model, batch))


def plain(trained: Trained) -> list[float]:
    with plain_products():
        return trained()


def wide(trained: Trained) -> list[float]:
    """As our training has it."""
    with our_products():
        return trained()


def agreement(model: MVAE, batch: Batch) -> dict[str, float]:
    """Losses of many gradient steps, by each way on its own weights, relative; gradients of the first frame, relative
    to the largest."""
    published, ours = Trained(model, batch, published=True), Trained(model, batch, published=False)
    gradients = float(_gradients_apart(published, ours))
    pairs = [pair for _ in range(COMPARED) for pair in zip(plain(published), wide(ours), strict=True)]
    return {f"{len(pairs)} losses": max(abs(a - b) / abs(a) for a, b in pairs), "gradient": gradients}


def _gradients_apart(published: Trained, ours: Trained) -> Tensor:
    """At the first frame. The published weights are [experts, read, write], ours [read, experts, write], z apart."""
    twin = published.published
    assert twin is not None
    pose, target = ours.batch.inputs["pose"][:, 0], ours.batch.targets["pose"][:, 0]
    z = torch.randn(len(pose), ours.ours.config.latent)
    layers = (ours.ours.decoder.first, ours.ours.decoder.second, ours.ours.decoder.last)
    weights = [one for layer in layers for one in (layer.latent, layer.weight, layer.bias)]
    with plain_products():
        error = functional.mse_loss(twin.decode(z, pose), target)
        theirs = torch.autograd.grad(error, [*twin.weights, *twin.biases, *twin.gate.parameters()])
    with our_products():
        error = functional.mse_loss(ours.ours.decode(z, pose), target)
        assert ours.ours.gate is not None
        found = torch.autograd.grad(error, [*weights, *ours.ours.gate.parameters()])
    joined = [torch.cat(found[3 * i : 3 * i + 2]).transpose(0, 1) for i in range(3)]
    same = [*joined, *found[2:9:3], *found[9:]]
    largest = torch.stack([one.abs().max() for one in theirs]).max()
    return torch.stack([(a - b).abs().max() for a, b in zip(theirs, same, strict=True)]).max() / largest
