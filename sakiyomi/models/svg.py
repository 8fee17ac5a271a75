"""SVG: stochastic video generation, given what the robot will do (Denton & Fergus: "Stochastic Video Generation with
a Learned Prior", ICML 2018; with the action and the place of the hand as conditions).

Reads some frames and then imagines the next ones. What of the future cannot be known is a latent z of each step: in
training a posterior that sees the next frame says what z was, and a prior learns to say what it may be. Encoder and
decoder have no memory and run over all B*T frames at once, each frame encoded once; three small LSTMs have it all.
Inside, frames are ordered by time: [T * B, ...], so that a time step is one piece of memory.

    sakiyomi train push-small --model.latent 10 --model.prior fixed
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from sakiyomi.data.windows import Batch
from sakiyomi.errors import SakiyomiError, unknown
from sakiyomi.layers.frames import DCGANDecoder, DCGANEncoder, VGGDecoder, VGGEncoder
from sakiyomi.layers.gaussian import Gaussian
from sakiyomi.models.base import SequenceModel, State, Streams, expect, squared_error
from sakiyomi.schedules import Progress

Memory = tuple[Tensor, Tensor]  # h and c of an LSTM, [B, layers, hidden]
NETWORKS = {"vgg": (VGGEncoder, VGGDecoder), "dcgan": (DCGANEncoder, DCGANDecoder)}
STATISTICS = ("frames", "step")


class SVG(SequenceModel):
    """Streams: `image` [.., 3, H, W] in 0..1; `action` [.., A] and `position` [.., P] where the Config gives them a
    width. It predicts `image` alone.

    While it is shown true frames it filters: each new frame tells the posterior what z of the step before was, and
    the memory goes on from there; the prediction takes z from the prior. `imagine` goes on without frames.

    Noise of a step is [.., 2, Z], standard normal: for the z that was and for the z that comes; None takes the means.
    """

    reads_itself = True

    @dataclass(frozen=True)
    class Config:
        network: Literal["vgg", "dcgan"] = "vgg"
        """Encoder and decoder: vgg as published for robots, dcgan many times cheaper."""
        channels: int = 64
        """Channels of the first block; the others have two, four and eight times as many."""
        height: int = 64
        """Height of the pictures, a multiple of 16."""
        width: int = 64
        """Width of the pictures, a multiple of 16."""
        encoding: int = 128
        """Numbers a frame is encoded in, g."""
        latent: int = 10
        """Numbers that say what could not be known of a step, Z."""
        hidden: int = 256
        """Units of each LSTM layer."""
        prior: Literal["learned", "fixed"] = "learned"
        """learned: a Gaussian LSTM (SVG-LP); fixed: standard normal (SVG-FP)."""
        action: int = 4
        """Width of the stream `action`; 0 does without."""
        position: int = 3
        """Width of the stream `position`; 0 does without."""
        past: int = 2
        """Frames it is shown before it imagines."""
        last_frame_skip: bool = False
        """The decoder's skip connections come from the latest frame, not from the last true one."""
        statistics: Literal["frames", "step"] = "frames"
        """What BatchNorm takes mean and variance of in training: all frames of a batch, or those of one time step, as
        the published loop over time does."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        if min(config.height, config.width) < 16 or config.height % 16 or config.width % 16:
            raise SakiyomiError(f"the sides of SVG's pictures are multiples of 16, got {config.height}x{config.width}")
        if config.network not in NETWORKS:
            raise unknown("network", config.network, NETWORKS)
        if config.statistics not in STATISTICS:
            raise unknown("statistics", config.statistics, STATISTICS)
        self.config, self.past, self.noise = config, config.past, (2, config.latent)
        conditions = {"action": (config.action,), "position": (config.position,)}
        self.conditions = tuple(name for name, (width,) in conditions.items() if width)
        self.inputs = ("image", *self.conditions)
        self.outputs: tuple[str, ...] = ("image",)
        self.shapes = {"image": (3, config.height, config.width), **{n: conditions[n] for n in self.conditions}}
        encoder, decoder = NETWORKS[config.network]
        grid = (config.height // 16, config.width // 16)
        self.encoder = encoder(config.channels, config.encoding, grid)
        self.decoder = decoder(config.channels, config.encoding, grid)
        self.posterior = GaussianLSTM(config.encoding, config.hidden, config.latent)
        self.prior = GaussianLSTM(config.encoding, config.hidden, config.latent) if config.prior == "learned" else None
        read = config.encoding + config.latent + config.action + config.position
        self.predictor = Predictor(read, config.hidden, config.encoding)
        # Linear layers keep PyTorch's own start: with 0.02 the few numbers of an action are heard late.
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.normal_(module.weight, 0.0, 0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def initial(self, batch_size: int) -> State:
        """`posterior` and `prior`: memories of the two. `before`: the predictor's memory before the step it has said
        last and not yet been shown, `after`: the one behind it. `read`: what it had read for that step. `image`: what
        it expects to see. `seen`: 1 once a frame has been shown. `skip0`..: the last true frame's."""
        c, new = self.config, next(self.parameters()).new_zeros
        lstm = {"posterior": 1, "before": 2, "after": 2} | ({"prior": 1} if self.prior else {})
        state = {f"{n}_{part}": new(batch_size, layers, c.hidden) for n, layers in lstm.items() for part in "hc"}
        state["read"] = new(batch_size, c.encoding + c.action + c.position)
        state["image"] = new(batch_size, 3, c.height, c.width)
        state["seen"] = new(batch_size)
        for i, (channels, scale) in enumerate(self.encoder.skips):
            state[f"skip{i}"] = new(batch_size, channels, c.height // scale, c.width // scale)
        return state

    def step(self, observation: Streams, state: State, noise: Tensor | None = None) -> tuple[Streams, State]:
        """One true frame in, the next one out."""
        sequence, state = self.unroll(
            {name: value[:, None] for name, value in observation.items()},
            state,
            None if noise is None else noise[:, None],
        )
        return {name: value[:, 0] for name, value in sequence.items()}, state

    def unroll(
        self, observations: Streams, state: State | None = None, noise: Tensor | None = None
    ) -> tuple[Streams, State]:
        """True frames [B, T, ...] in, for each the prediction of the next one; `noise` is [B, T, 2, Z]."""
        expect(observations, self.shapes)
        images = observations["image"]
        b, t = images.shape[:2]
        state = self.initial(b) if state is None else state
        was, comes = (None, None) if noise is None else noise.unbind(2)
        encoded, skips = self._encode(images)
        read = torch.cat((encoded, *(observations[name] for name in self.conditions)), -1)

        # What z of the step before was. Before the very first frame there was no step.
        seen = state["seen"][:, None, None] > 0
        start = _lstm(state, "posterior")
        first, early = self.posterior(encoded[:, :1], start)
        early = _where(seen, early, start)
        rest, posterior = self.posterior(encoded[:, 1:], early) if t > 1 else (None, early)
        z = (first if rest is None else _joined([first, rest])).sample(was)

        # The predictor's memory before each step; a fused scan would not tell the cells of all steps.
        memory, memories = _lstm(state, "before"), []
        pending = torch.cat((state["read"][:, None], read[:, :-1]), 1)
        for i in range(t):
            _, moved = self.predictor(pending[:, i : i + 1], z[:, i : i + 1], memory)
            memory = _where(seen, moved, memory) if i == 0 else moved
            memories.append(memory)

        prior, prior_state = self._prior(encoded, state)
        z = prior.sample(comes).flatten(0, 1)[:, None]
        h, c = (torch.stack(part, 1).flatten(0, 1) for part in zip(*memories, strict=True))
        expected, (h, c) = self.predictor(read.flatten(0, 1)[:, None], z, (h, c))
        pictures = self._decode(expected[:, 0].unflatten(0, (b, t)), skips)
        end = {
            **_named("posterior", posterior),
            **prior_state,
            **_named("before", memories[-1]),
            **_named("after", (h.unflatten(0, (b, t))[:, -1], c.unflatten(0, (b, t))[:, -1])),
            "read": read[:, -1],
            "image": pictures[:, -1],
            "seen": torch.ones_like(state["seen"]),
            **{f"skip{i}": skip[-b:] for i, skip in enumerate(skips)},
        }
        return {"image": pictures}, end

    def imagine(self, given: Streams, state: State, noise: Tensor | None = None) -> tuple[Streams, State]:
        """One step without a frame: it reads what it expected to see, and `given`, the conditions [B, ...]; `noise`
        is [B, 2, Z], of which the second half counts."""
        expect(given, {name: self.shapes[name] for name in self.conditions})
        encoded, skips = self._encode(state["image"][:, None])
        skips = skips if self.config.last_frame_skip else [state[f"skip{i}"] for i in range(len(skips))]
        read = torch.cat((encoded[:, 0], *(given[name] for name in self.conditions)), -1)
        prior, prior_state = self._prior(encoded, state)
        z = prior.sample(None if noise is None else noise[:, None, 1])
        before = _lstm(state, "after")
        expected, after = self.predictor(read[:, None], z, before)
        image = self._decode(expected, skips)[:, 0]
        changed = {**prior_state, **_named("before", before), **_named("after", after), "read": read, "image": image}
        return {"image": image}, {**state, **changed}

    def loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """`image`: mean squared error of the next frame, z from the posterior; `kl`: nats a step between posterior
        and prior. Frames after the past are the model's own where the step is not teacher-forced."""
        expect(batch.inputs, self.shapes)
        past, images = self.past, torch.cat((batch.inputs["image"], batch.targets["image"][:, -1:]), 1)
        b, t = images.shape[0], images.shape[1] - 1
        if t < past:
            raise SakiyomiError(
                f"windows of {t} steps leave nothing to imagine after {past} frames; --data.steps: {past} or more"
            )
        known = t if progress.forced else past  # true frames that it reads
        if self.training and b == 1 and (self.config.statistics == "step" or known < t):
            raise SakiyomiError(
                "BatchNorm takes statistics of one time step, and a single sequence is too few for that; use a larger "
                "--train.batch-size, fewer --train.shards, or --model.statistics frames with teacher forcing throughout"
            )
        sources = known if self.config.last_frame_skip else past  # frames that give skips
        encoded, skips = self._encode(images, b * sources)
        posterior, _ = self.posterior(encoded[:, 1:])
        noise = torch.randn(posterior.mean.shape, generator=progress.generator, device=images.device)
        z = posterior.sample(noise)
        conditions = [batch.inputs[name] for name in self.conditions]

        # In parallel as far as true frames go: all the way when teacher-forced.
        read = torch.cat((encoded[:, :known], *(c[:, :known] for c in conditions)), -1)
        prior, prior_state = self._prior(encoded[:, :known], {})
        priors = [prior]
        expected, memory = self.predictor(read, z[:, :known])
        pictures = [self._decode(expected, skips)]

        # Then on its own predictions, one step at a time.
        skips = [skip[-b:] for skip in skips]
        for i in range(known, t):
            own, latest = self._encode(pictures[-1][:, -1:])
            skips = latest if self.config.last_frame_skip else skips
            prior, prior_state = self._prior(own, prior_state)
            priors.append(prior)
            read = torch.cat((own, *(c[:, i : i + 1] for c in conditions)), -1)
            expected, memory = self.predictor(read, z[:, i : i + 1], memory)
            pictures.append(self._decode(expected, skips))
        return {
            "image": squared_error(torch.cat(pictures, 1), batch.targets["image"]),
            "kl": posterior.divergence(_joined(priors)),
        }

    def _encode(self, images: Tensor, kept: int | None = None) -> tuple[Tensor, list[Tensor]]:
        """[B, T, 3, H, W] -> encodings [B, T, g] and skips, each [T * B, ...], or the first `kept` of them."""
        b, t = images.shape[:2]
        frames = images.transpose(0, 1).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        encoded, skips = self.encoder(frames, self._groups(t), kept)
        return encoded.unflatten(0, (t, b)).transpose(0, 1), skips

    def _decode(self, encoded: Tensor, skips: list[Tensor]) -> Tensor:
        """[B, T, g] and skips [sources * B, ...] -> [B, T, 3, H, W]. Step t takes the skips of source t, or of the last
        one where there are fewer."""
        b, t = encoded.shape[:2]
        frames = self.decoder(encoded.transpose(0, 1).flatten(0, 1), skips, t, self._groups(t))
        return frames.unflatten(0, (t, b)).transpose(0, 1).contiguous()  # as the frames lie that it is compared with

    def _groups(self, steps: int) -> int:
        """In how many parts, one after the other in time, the frames have statistics of their own."""
        return steps if self.config.statistics == "step" else 1

    def _prior(self, encoded: Tensor, state: State) -> tuple[Gaussian, State]:
        """What z may be at each step [B, T, Z], and the prior's memory afterwards."""
        if self.prior is None:
            zeros = encoded.new_zeros(*encoded.shape[:2], self.config.latent)
            return Gaussian(zeros, zeros), {}
        gaussian, memory = self.prior(encoded, _lstm(state, "prior") if state else None)
        return gaussian, _named("prior", memory)


class GaussianLSTM(nn.Module):
    """Encodings [B, T, g] -> what z is or may be at each step, [B, T, Z]."""

    def __init__(self, read: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.embed = nn.Linear(read, hidden)
        self.lstm = nn.LSTM(hidden, hidden, batch_first=True)
        self.mean = nn.Linear(hidden, latent)
        self.log_variance = nn.Linear(hidden, latent)

    def forward(self, encoded: Tensor, memory: Memory | None = None) -> tuple[Gaussian, Memory]:
        hidden, memory = _scan(self.lstm, self.embed(encoded), memory)
        return Gaussian(self.mean(hidden), self.log_variance(hidden)), memory


class Predictor(nn.Module):
    """What is read [B, T, .] and z [B, T, Z] -> the expected encodings of the next frames [B, T, g] in -1..1."""

    def __init__(self, read: int, hidden: int, encoding: int) -> None:
        super().__init__()
        self.embed = nn.Linear(read, hidden)
        self.lstm = nn.LSTM(hidden, hidden, num_layers=2, batch_first=True)
        self.out = nn.Linear(hidden, encoding)

    def forward(self, read: Tensor, z: Tensor, memory: Memory | None = None) -> tuple[Tensor, Memory]:
        hidden, memory = _scan(self.lstm, self.embed(torch.cat((read, z), -1)), memory)
        return torch.tanh(self.out(hidden)), memory


def _scan(lstm: nn.LSTM, read: Tensor, memory: Memory | None) -> tuple[Tensor, Memory]:
    """The fused LSTM over [B, T, .]; memories are [B, layers, hidden], as states are."""
    start = None if memory is None else (memory[0].transpose(0, 1).contiguous(), memory[1].transpose(0, 1).contiguous())
    hidden, (h, c) = lstm(read, start)
    return hidden, (h.transpose(0, 1), c.transpose(0, 1))


def _where(condition: Tensor, new: Memory, old: Memory) -> Memory:
    return torch.where(condition, new[0], old[0]), torch.where(condition, new[1], old[1])


def _joined(gaussians: list[Gaussian]) -> Gaussian:
    """One after the other in time."""
    means, log_variances = zip(*((g.mean, g.log_variance) for g in gaussians), strict=True)
    return Gaussian(torch.cat(means, 1), torch.cat(log_variances, 1))


def _lstm(state: State, name: str) -> Memory:
    return state[f"{name}_h"], state[f"{name}_c"]


def _named(name: str, memory: Memory) -> State:
    return {f"{name}_h": memory[0], f"{name}_c": memory[1]}
