"""MVAE: a motion variational autoencoder (Ling et al.: "Character Controllers Using Motion VAEs", ACM TOG 2020).

Reads the last pose and a latent z, gives the next pose. Fed its own poses it walks about for ever; whoever chooses z
each frame steers it. An encoder that sees the next pose says in training what z was; it is not needed afterwards.

    sakiyomi train walk --model.mixture experts --train.losses.kl.value 0.2

There is no memory but the last pose, so a sequence of true poses is one batch. Where predictions are fed back
(scheduled sampling) they are detached: each frame teaches by its own error. Training takes a gradient step after every
frame, as published, on what `frames` gives; `loss` gives the same losses at once.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from sakiyomi.data.episodes import Stream
from sakiyomi.data.windows import Batch
from sakiyomi.errors import unknown
from sakiyomi.models.base import SequenceModel, State, Streams, expect, known_width, wide_as_recorded
from sakiyomi.schedules import Progress

MIXTURES = ("experts", "plain", "specialists", "vq")


class MVAE(SequenceModel):
    """The one stream is `pose` [.., D], normalised to mean 0 and deviation 1.

    Noise of a step is [.., latent], standard normal, and is what chooses the next pose: z itself; with specialists
    one number more, which chooses the expert; with vq one number a code, of which the largest chooses. None is zeros.
    """

    reads_itself = True

    @dataclass(frozen=True)
    class Config:
        pose: int = 267
        """Numbers of a pose, D; 0 takes the recordings'."""
        latent: int = 32
        """Numbers of z, which say what the last pose leaves open."""
        hidden: int = 256
        """Units of each layer."""
        mixture: Literal["experts", "plain", "specialists", "vq"] = "experts"
        """The decoder: experts blended layer by layer, one network, experts of whom one is drawn, or one network on z
        out of a codebook."""
        experts: int = 6
        """Networks of which the mixture is made."""
        gate: int = 64
        """Units of each layer of the network that weighs the experts."""
        codes: int = 64
        """Entries of the codebook, of vq."""
        noise: float = 0.0
        """Deviation of the noise on the pose that the decoder reads in training: it learns to come back. The encoder
        reads none, or z would tell the noise."""
        reduction: Literal["sum", "mean"] = "sum"
        """Losses are summed over the numbers of pose and z, as in the paper (KL weight 0.2), or both are divided by
        them, as in its first code (KL weight 1)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        if config.mixture not in MIXTURES:
            raise unknown("mixture", config.mixture, MIXTURES)
        if config.reduction not in ("sum", "mean"):
            raise unknown("reduction", config.reduction, ("sum", "mean"))
        self.config, self.past = config, 1
        self.inputs: tuple[str, ...] = ("pose",)
        self.outputs: tuple[str, ...] = ("pose",)
        self.shapes = {"pose": (known_width(config, "pose"),)}
        self.latent = {"specialists": config.latent + 1, "vq": config.codes}.get(config.mixture, config.latent)
        self.noise = (self.latent,)
        self.encoder = Encoder(config)
        experts = config.experts if config.mixture in ("experts", "specialists") else 1
        self.decoder = Experts(config, experts)
        read = config.latent + config.pose
        self.gate = Gate(read, config.gate, experts) if experts > 1 else None
        self.codebook = nn.Parameter(torch.randn(config.codes, config.latent)) if config.mixture == "vq" else None

    @staticmethod
    def fitted(config: Config, streams: Mapping[str, Stream]) -> Config:
        """The Config with the width of recorded poses where it leaves that open."""
        return wide_as_recorded(config, "pose", streams, "pose")

    def initial(self, batch_size: int) -> State:
        """`pose`: the one it expects."""
        return {"pose": next(self.parameters()).new_zeros(batch_size, self.config.pose)}

    def step(self, observation: Streams, state: State, noise: Tensor | None = None) -> tuple[Streams, State]:
        """One pose in, the next one out."""
        expect(observation, self.shapes)
        return self.imagine({}, {"pose": observation["pose"]}, noise)

    def unroll(
        self, observations: Streams, state: State | None = None, noise: Tensor | None = None
    ) -> tuple[Streams, State]:
        """True poses [B, T, D] in, for each the next one; `noise` is [B, T, latent]."""
        expect(observations, self.shapes)
        poses = observations["pose"]
        noise = poses.new_zeros(*poses.shape[:2], self.latent) if noise is None else noise
        predictions = self.decode(noise.flatten(0, 1), poses.flatten(0, 1)).unflatten(0, poses.shape[:2])
        return {"pose": predictions}, {"pose": predictions[:, -1]}

    def imagine(self, given: Streams, state: State, noise: Tensor | None = None) -> tuple[Streams, State]:
        """One step from the pose it expected itself; there are no conditions."""
        pose = state["pose"]
        pose = self.decode(pose.new_zeros(len(pose), self.latent) if noise is None else noise, pose)
        return {"pose": pose}, {"pose": pose}

    def decode(self, z: Tensor, pose: Tensor) -> Tensor:
        """The next pose [N, D] from z [N, latent] and the last pose [N, D]."""
        if self.codebook is not None:
            return self._blend(self.codebook[z.argmax(-1)], pose)
        if self.config.mixture == "specialists":
            return self._draw(*self._specialists(z[:, :-1], pose), z[:, -1])
        return self._blend(z, pose)

    def loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """`pose`, squared error over D, and `kl` over z, nats, summed or divided by their numbers; of vq `codebook` and
        `commitment` (van den Oord et al. 2017) in its place."""
        expect(batch.inputs, self.shapes)
        if progress.forcing >= 1:  # nothing is fed back
            inputs, targets = batch.inputs["pose"].flatten(0, 1), batch.targets["pose"].flatten(0, 1)
            losses, _ = self._frame(inputs, targets, progress)
            return {name: loss.unflatten(0, batch.mask.shape) for name, loss in losses.items()}
        frames = list(self.frames(batch, progress))
        return {name: torch.cat([losses[name] for losses in frames], 1) for name in frames[0]}

    def frames(self, batch: Batch, progress: Progress) -> Iterator[dict[str, Tensor]]:
        """The losses of one frame after another, each [B, 1]. Each sequence is shown its true last pose with
        probability `progress.forcing`, else the one that was predicted a frame before."""
        expect(batch.inputs, self.shapes)
        inputs, targets = batch.inputs["pose"], batch.targets["pose"]
        draws = torch.rand(inputs.shape[:2], generator=progress.generator, device=inputs.device)
        forced = (draws < progress.forcing)[..., None]
        pose = inputs[:, 0]
        for t in range(inputs.shape[1]):
            pose = torch.where(forced[:, t], inputs[:, t], pose) if t else pose
            losses, predicted = self._frame(pose, targets[:, t], progress)
            yield {name: loss[:, None] for name, loss in losses.items()}
            pose = predicted.detach()

    def usage(self, batch: Batch) -> Tensor:
        """How much each number of z says, KL from the prior in nats, [B, T, Z]; of vq which code is taken, of its fair
        share: [B, T, codes], `codes` for the one that is and 0 for the others, 1 in the mean where all are alike."""
        mean, log_variance = self.encoder(batch.targets["pose"].flatten(0, 1), batch.inputs["pose"].flatten(0, 1))
        if self.codebook is not None:
            used = functional.one_hot(self._nearest(mean), self.config.codes).float() * self.config.codes
        else:
            used = divergence(mean, log_variance)
        return used.unflatten(0, batch.mask.shape)

    def _frame(self, pose: Tensor, target: Tensor, progress: Progress) -> tuple[dict[str, Tensor], Tensor]:
        """Last poses and next poses [N, D]: losses [N], and what was predicted [N, D]."""
        generator = progress.generator
        mean, log_variance = self.encoder(target, pose)
        if self.config.noise and progress.training:
            pose = pose + self.config.noise * torch.randn(pose.shape, generator=generator, device=pose.device)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        if self.codebook is not None:
            code = self.codebook[self._nearest(mean)]
            predicted = self._blend(mean + (code - mean).detach(), pose)  # gradients pass straight through the choice
            return {
                "pose": self._error(predicted, target),
                "codebook": self._error(code, mean.detach()),
                "commitment": self._error(mean, code.detach()),
            }, predicted
        z = mean + (log_variance / 2).exp() * noise
        kl = self._reduced(divergence(mean, log_variance))
        if self.config.mixture == "specialists":
            predictions, weights = self._specialists(z, pose)
            choice = torch.randn(len(z), generator=generator, device=z.device)
            # What is expected of a draw (Jacobs et al. 1991); an error of the blend would not make specialists.
            expected = (weights * self._error(predictions, target[:, None].expand_as(predictions))).sum(-1)
            return {"pose": expected, "kl": kl}, self._draw(predictions, weights, choice)
        predicted = self._blend(z, pose)
        return {"pose": self._error(predicted, target), "kl": kl}, predicted

    def _error(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Squared error over the last axis."""
        return self._reduced(functional.mse_loss(predicted, target, reduction="none"))

    def _reduced(self, values: Tensor) -> Tensor:
        return values.sum(-1) if self.config.reduction == "sum" else values.mean(-1)

    def _blend(self, z: Tensor, pose: Tensor) -> Tensor:
        weights = z.new_ones(len(z), 1) if self.gate is None else self.gate(torch.cat((z, pose), -1))
        return self.decoder(z, pose, weights)

    def _specialists(self, z: Tensor, pose: Tensor) -> tuple[Tensor, Tensor]:
        """What each expert predicts [N, E, D], and how likely each is [N, E]."""
        assert self.gate is not None
        return self.decoder.each(z, pose), self.gate(torch.cat((z, pose), -1))

    def _draw(self, predictions: Tensor, weights: Tensor, noise: Tensor) -> Tensor:
        """One expert's prediction [N, D], drawn by `weights` [N, E] with standard normal `noise` [N]."""
        below = weights.cumsum(-1) < torch.special.ndtr(noise)[:, None]
        drawn = below.sum(-1).clamp_max(weights.shape[-1] - 1)
        return predictions[torch.arange(len(drawn), device=drawn.device), drawn]

    def _nearest(self, z: Tensor) -> Tensor:
        """The code nearest to each z [N, Z], int64 [N]."""
        assert self.codebook is not None
        return torch.cdist(z.detach(), self.codebook.detach()).argmin(-1)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL from the standard normal distribution for each number, in nats."""
    return (mean.square() + log_variance.exp() - log_variance - 1) / 2


class Encoder(nn.Module):
    """The next and the last pose [N, D] -> mean and log-variance of z, [N, Z] each."""

    def __init__(self, config: MVAE.Config) -> None:
        super().__init__()
        d, hidden = config.pose, config.hidden
        self.first = nn.Linear(2 * d, hidden)
        self.second = nn.Linear(d + hidden, hidden)
        self.last = nn.Linear(d + hidden, 2 * config.latent)

    def forward(self, coming: Tensor, pose: Tensor) -> tuple[Tensor, Tensor]:
        hidden = functional.elu(self.first(torch.cat((coming, pose), -1)))
        hidden = functional.elu(self.second(torch.cat((coming, hidden), -1)))
        mean, log_variance = self.last(torch.cat((coming, hidden), -1)).chunk(2, -1)
        return mean, log_variance


class Gate(nn.Module):
    """[z, pose] [N, .] -> how much each expert counts, [N, E], in all 1."""

    def __init__(self, read: int, hidden: int, experts: int) -> None:
        super().__init__()
        self.first = nn.Linear(read, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, experts)

    def forward(self, read: Tensor) -> Tensor:
        hidden = functional.elu(self.second(functional.elu(self.first(read))))
        return self.last(hidden).softmax(-1)


class Experts(nn.Module):
    """Networks of one shape; z is read by every layer, or it would be forgotten (posterior collapse)."""

    def __init__(self, config: MVAE.Config, experts: int) -> None:
        super().__init__()
        z, d, hidden = config.latent, config.pose, config.hidden
        self.first = ExpertLayer(experts, z, d, hidden)
        self.second = ExpertLayer(experts, z, hidden, hidden)
        self.last = ExpertLayer(experts, z, hidden, d)

    def forward(self, z: Tensor, pose: Tensor, weights: Tensor) -> Tensor:
        """The network whose weights are the experts', blended for each sample by `weights` [N, E]: [N, D]."""
        scaled = outer(z, weights)
        hidden = functional.elu(self.first(scaled, pose, weights, data=True))
        hidden = functional.elu(self.second(scaled, hidden, weights))
        return self.last(scaled, hidden, weights)

    def each(self, z: Tensor, pose: Tensor) -> Tensor:
        """What every expert says alone, [N, E, D]."""
        hidden = pose[:, None].expand(-1, self.first.bias.shape[0], -1)
        for layer in (self.first, self.second):
            hidden = functional.elu(layer.each(z, hidden))
        return self.last.each(z, hidden)


class ExpertLayer(nn.Module):
    """E linear layers in one, which read z [N, Z] and what comes from below [N, read]."""

    def __init__(self, experts: int, latent: int, read: int, write: int) -> None:
        super().__init__()
        bound = math.sqrt(6 / (latent + read))  # He et al. 2015, uniform
        self.latent = nn.Parameter(torch.empty(latent, experts, write).uniform_(-bound, bound))
        self.weight = nn.Parameter(torch.empty(read, experts, write).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.full((experts, write), 0.01))

    def forward(self, scaled: Tensor, below: Tensor, weights: Tensor, data: bool = False) -> Tensor:
        """[N, write], each expert counted by `weights` [N, E]; `scaled` is outer(z, weights), the same for all layers.

        Blending the experts' outputs before the activation is blending their weights, and needs no matrix a sample:
        sum_e g_e (z V_e + x W_e + b_e). x scaled for each expert makes one product of it. Where x is `data` the
        outputs are scaled instead: then nothing need be computed that only a gradient to x would need.
        """
        out = torch.addmm(weights @ self.bias, scaled, self.latent.flatten(0, 1))
        if data:
            outputs = (below @ self.weight.flatten(1)).unflatten(1, self.bias.shape)
            return torch.baddbmm(out[:, None], weights[:, None], outputs)[:, 0]
        return torch.addmm(out, outer(below, weights), self.weight.flatten(0, 1))

    def each(self, z: Tensor, below: Tensor) -> Tensor:
        """z [N, Z] and [N, E, read] -> [N, E, write], every expert its own."""
        from_z = torch.einsum("nz,zew->new", z, self.latent)
        return from_z + torch.einsum("ner,rew->new", below, self.weight) + self.bias


def outer(x: Tensor, weights: Tensor) -> Tensor:
    """x [N, R] times each weight [N, E]: [N, R E]. As a matrix product its gradients are products, too."""
    return torch.bmm(x[:, :, None], weights[:, None]).flatten(1)
