"""AE, VAE and CVAE beyond the contract of `test_models.py`: what their losses are, and what their latents mean."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal, kl_divergence
from torch.nn import functional

from sakiyomi.data.episodes import Stream
from sakiyomi.data.windows import Batch
from sakiyomi.errors import SakiyomiError
from sakiyomi.job import build
from sakiyomi.layers.coder import Decoder, Encoder
from sakiyomi.layers.gaussian import Gaussian
from sakiyomi.models import AE, CVAE, VAE, SequenceModel
from sakiyomi.models.base import Draws, Latent
from sakiyomi.schedules import progress_at
from sakiyomi.scores.likelihood import Likely

B, T, Z = 2, 3, 3
CPU = torch.device("cpu")
KINDS = {"AE": AE, "VAE": VAE, "CVAE": CVAE}
NETWORKS: dict[str, dict[str, Any]] = {
    "dense": {"layers": (12, 8)},
    "dense silu": {"layers": (9,), "activation": "silu"},
    "conv": {"layers": (4, 6, 10), "network": "conv"},
    "conv in colour": {"layers": (4, 10), "network": "conv", "activation": "tanh", "colours": 3},
}
autoencoders = pytest.mark.parametrize("kind", KINDS)
networks = pytest.mark.parametrize("network", NETWORKS)


def model_of(kind: str, built: str = "dense", /, **changes: Any) -> Any:
    """Small, in float64, with a latent that says something."""
    torch.manual_seed(0)
    config = KINDS[kind].Config(**{"height": 8, "width": 12, "latent": Z, **NETWORKS[built], **changes})
    model = build(config).double()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.weight *= 2
    return model


def batch_of(model: SequenceModel) -> Batch:
    torch.manual_seed(1)
    seen = {name: torch.rand(B, T, *shape, dtype=torch.float64) for name, shape in model.shapes.items()}
    if "label" in seen:
        seen["label"] = functional.one_hot(seen["label"].argmax(-1), seen["label"].shape[-1]).double()
    other = {
        name: torch.full_like(value, torch.nan) for name, value in seen.items()
    }  # what comes next is not asked for
    return Batch(seen, other, torch.ones(B, T))


def progress(step: int = 0, training: bool = True) -> Any:
    return progress_at(step, 10, 0, CPU, training)


# --- all of them


@autoencoders
@networks
def test_what_is_given_back_is_what_z_draws(kind: str, network: str) -> None:
    model = model_of(kind, network)
    seen = batch_of(model).inputs
    predictions, state = model.unroll(seen)
    assert state == {}
    assert predictions["latent"].shape == (B, T, Z)
    torch.testing.assert_close(model.encode(seen), predictions["latent"])
    torch.testing.assert_close(model.draw(predictions["latent"], seen)["image"], predictions["image"])
    assert ((predictions["image"] > 0) & (predictions["image"] < 1)).all()
    for t in range(T):  # a picture at a time, and any number of leading axes
        one = {name: value[:, t] for name, value in seen.items()}
        torch.testing.assert_close(model.encode(one), predictions["latent"][:, t])
        torch.testing.assert_close(model.draw(predictions["latent"][:, t], one)["image"], predictions["image"][:, t])
        torch.testing.assert_close(model.step(one, {})[0]["image"], predictions["image"][:, t])


@autoencoders
def test_it_says_what_it_is(kind: str) -> None:
    model = model_of(kind)
    assert (model.ahead, model.warmup) == (0, 0)
    assert set(model.inputs) == {"image", *model.conditions}
    assert isinstance(model, Draws)
    assert model.latent == Z
    assert isinstance(model, Latent) == isinstance(model, Likely) == (kind != "AE")
    assert model.conditions == (("label",) if kind == "CVAE" else ())


@autoencoders
@networks
def test_every_number_of_z_and_every_pixel_counts(kind: str, network: str) -> None:
    model = model_of(kind, network)
    seen = {name: value.requires_grad_() for name, value in batch_of(model).inputs.items()}
    z = model.encode(seen)
    for number in range(Z):
        (slope,) = torch.autograd.grad(z[..., number].sum(), seen["image"], retain_graph=True)
        assert (slope.flatten(3).abs().amax((0, 1, 3)) > 0).all()
    z = torch.randn(B, T, Z, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(model.draw(z, seen)["image"].sum(), z)
    assert (slope.abs() > 0).all()


@pytest.mark.parametrize(("network", "layers"), [("dense", (128, 64, 12)), ("conv", (4, 6, 10))])
def test_the_decoder_mirrors_the_encoder(network: Any, layers: tuple[int, ...]) -> None:
    shape = (1, 28, 28)
    encoder = Encoder(shape, layers, 2, network, "relu", 10)
    decoder = Decoder(shape, layers, 2, network, "relu", 10)
    sizes = [[tuple(p.shape) for p in half.parameters() if p.ndim > 1] for half in (encoder, decoder)]
    flipped = [(size[1], size[0], *size[2:]) if len(size) == 2 else size for size in reversed(sizes[1])]
    label = {"dense": (0, -1), "conv": (-2, -1)}[network]  # where each half reads the label
    wanted = [list(size) for size in sizes[0]]
    found = [list(size) for size in flipped]
    wanted[label[0]][1] -= 10
    found[label[1]][0] -= 10
    assert wanted == found


def test_the_sizes_are_those_of_the_course_and_the_issue() -> None:
    def units(half: nn.Module) -> list[tuple[int, int]]:
        return [(m.in_features, m.out_features) for m in half.modules() if isinstance(m, nn.Linear)]

    plain, told = AE(AE.Config()), CVAE(CVAE.Config())
    assert units(plain.encoder) == [(784, 128), (128, 64), (64, 12), (12, 2)]
    assert units(plain.decoder) == [(2, 12), (12, 64), (64, 128), (128, 784)]
    assert units(told.encoder) == [(794, 512), (512, 512), (512, 32)]  # 16 means and 16 log-variances
    assert units(told.decoder) == [(26, 512), (512, 512), (512, 784)]


# --- losses


def test_the_loss_of_an_autoencoder_is_the_mean_squared_error() -> None:
    model = model_of("AE")
    batch = batch_of(model)
    wanted = (model.unroll(batch.inputs)[0]["image"] - batch.inputs["image"]).square().flatten(2).mean(-1)
    torch.testing.assert_close(model.loss(batch, progress()), {"image": wanted})


def drawn(model: Any, seen: dict[str, Tensor], generator: torch.Generator) -> tuple[Tensor, Normal]:
    posterior = model.posterior(seen)
    noise = torch.randn(posterior.mean.shape, generator=generator)
    normal = Normal(posterior.mean, (posterior.log_variance / 2).exp())
    return normal.mean + normal.stddev * noise, normal


@pytest.mark.parametrize("kind", ["VAE", "CVAE"])
@networks
def test_the_bound_is_made_of_the_two_known_parts(kind: str, network: str) -> None:
    """Against torch.distributions: -log p(x | z) of pixels that are coins, and KL(q | N(0, I)), summed."""
    model = model_of(kind, network)
    batch = batch_of(model)
    seen = {**batch.inputs, "image": batch.inputs["image"].round()}  # what it says of grey pixels is no density
    z, normal = drawn(model, seen, progress().generator)
    pixels = Bernoulli(model.draw(z, seen)["image"])
    losses = model.loss(Batch(seen, batch.targets, batch.mask), progress())
    assert set(losses) == {"image", "kl"}
    torch.testing.assert_close(losses["image"], -pixels.log_prob(seen["image"]).flatten(2).sum(-1))
    torch.testing.assert_close(losses["kl"], kl_divergence(normal, Normal(0.0, 1.0)).sum(-1))
    torch.testing.assert_close(model.usage(batch).sum(-1), model.loss(batch, progress())["kl"])


@pytest.mark.parametrize("deviation", [0.0, 0.3])
def test_gaussian_pixels_have_the_deviation_told_or_learned(deviation: float) -> None:
    model = model_of("VAE", likelihood="gaussian", deviation=deviation)
    batch = batch_of(model)
    if not deviation:
        with torch.no_grad():
            model.log_deviation.fill_(-0.7)
    z, _ = drawn(model, batch.inputs, progress().generator)
    scale = deviation or torch.tensor(-0.7, dtype=torch.float64).exp()
    pixels = Normal(model.draw(z, {})["image"], scale)
    losses = model.loss(batch, progress())
    torch.testing.assert_close(losses["image"], -pixels.log_prob(batch.inputs["image"]).flatten(2).sum(-1))
    learned = [name for name, _ in model.named_parameters() if "deviation" in name]
    assert learned == ([] if deviation else ["log_deviation"])


def test_a_learned_deviation_goes_to_what_the_error_is() -> None:
    """At the root mean square error the slope is 0."""
    model = model_of("VAE", likelihood="gaussian")
    batch = batch_of(model)
    z, _ = drawn(model, batch.inputs, progress().generator)
    apart = (model.draw(z, {})["image"] - batch.inputs["image"]).square().mean().sqrt()
    with torch.no_grad():
        model.log_deviation.copy_(apart.log())
    (slope,) = torch.autograd.grad(model.loss(batch, progress())["image"].sum(), model.log_deviation)
    assert abs(float(slope)) < 1e-9
    assert float(torch.autograd.grad((model.log_deviation * 2).sum(), model.log_deviation)[0]) == 2.0


def test_coins_are_flipped_anew_each_step_as_often_as_pixels_are_bright() -> None:
    plain, flipped = model_of("VAE"), model_of("VAE", binarize=True)
    batch = batch_of(plain)
    coins = torch.rand(batch.inputs["image"].shape, generator=progress().generator) < batch.inputs["image"]
    generator = progress().generator
    torch.rand(batch.inputs["image"].shape, generator=generator)  # the coins come before the noise
    z, _ = drawn(plain, {"image": coins.double()}, generator)
    wanted = -plain.log_likelihood({"image": coins.double()}, z)
    torch.testing.assert_close(flipped.loss(batch, progress())["image"], wanted)
    first, again, other = (flipped.loss(batch, progress(step))["kl"] for step in (0, 0, 1))
    torch.testing.assert_close(first, again, atol=0, rtol=0)
    assert (first != other).all()


@pytest.mark.parametrize("kind", ["VAE", "CVAE"])
def test_many_draws_of_z_for_one_picture_are_many_pictures(kind: str) -> None:
    model = model_of(kind)
    seen = {name: value[:, 0] for name, value in batch_of(model).inputs.items()}
    z = torch.randn(5, B, Z, dtype=torch.float64)
    wanted = torch.stack([model.log_likelihood(seen, one) for one in z])
    torch.testing.assert_close(model.log_likelihood(seen, z), wanted)


@autoencoders
def test_bfloat16_is_the_same_but_for_rounding(kind: str) -> None:
    model = model_of(kind, layers=(32,)).float()
    batch = batch_of(model)
    batch = Batch({n: v.float() for n, v in batch.inputs.items()}, {}, batch.mask)
    whole = model.loss(batch, progress())
    with torch.autocast("cpu", torch.bfloat16):
        half = model.loss(batch, progress())
    for name in whole:
        torch.testing.assert_close(half[name].float(), whole[name], rtol=0.03, atol=0.03)


# --- labels


def test_the_label_is_told_to_both_ends() -> None:
    model = model_of("CVAE")
    seen = batch_of(model).inputs
    other = {**seen, "label": seen["label"].roll(1, -1)}
    z = torch.randn(B, T, Z, dtype=torch.float64)
    assert ((model.encode(seen) - model.encode(other)).abs().amax(-1) > 1e-4).all()
    assert ((model.draw(z, seen)["image"] - model.draw(z, other)["image"]).abs().flatten(2).amax(-1) > 1e-4).all()
    with pytest.raises(SakiyomiError, match="'label' is missing"):
        model.draw(z, {})


def test_as_many_labels_as_were_recorded() -> None:
    streams = {"label": Stream("label", (26,), "float32", 1.0)}
    assert CVAE.fitted(CVAE.Config(labels=0), streams).labels == 26
    assert CVAE.fitted(CVAE.Config(labels=9), streams).labels == 9
    with pytest.raises(SakiyomiError, match=r"--model\.labels is 0"):
        build(CVAE.Config(labels=0))


# --- Gaussian


def test_gaussians_are_those_of_torch() -> None:
    torch.manual_seed(0)
    mean, log_variance, z = torch.randn(3, 4, Z, dtype=torch.float64)
    ours, normal = Gaussian(mean, log_variance), Normal(mean, (log_variance / 2).exp())
    other = Gaussian(log_variance, mean)
    theirs = Normal(log_variance, (mean / 2).exp())
    torch.testing.assert_close(ours.log_density(z), normal.log_prob(z).sum(-1))
    torch.testing.assert_close(ours.from_standard(), kl_divergence(normal, Normal(0.0, 1.0)))
    torch.testing.assert_close(ours.divergence(other), kl_divergence(normal, theirs).sum(-1))
    torch.testing.assert_close(ours.sample(z), normal.mean + normal.stddev * z)
    assert ours.sample(None) is mean


# --- what cannot be built


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("AE", {"layers": ()}, r"--model\.layers is \[\]; a dense network has at least one"),
        ("AE", {"layers": (8,), "network": "conv"}, "at least a convolution and a dense layer"),
        ("VAE", {"layers": (8, 0)}, r"a number of --model\.layers is 0"),
        ("VAE", {"layers": (4, 4, 4, 8), "network": "conv"}, "8 x 12 cannot be halved 3 times.* multiples of 8"),
        ("CVAE", {"network": "convs"}, r"unknown network .* did you mean 'conv'"),
        ("CVAE", {"activation": "relo"}, "did you mean 'relu'"),
        ("VAE", {"likelihood": "gauss"}, "did you mean 'gaussian'"),
        ("VAE", {"likelihood": "gaussian", "binarize": True}, "coin flips of pixels"),
    ],
)
def test_what_cannot_be_built_is_told(kind: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SakiyomiError, match=words):
        model_of(kind, **changes)


def test_other_pictures_are_told() -> None:
    model = model_of("VAE", colours=3)
    with pytest.raises(SakiyomiError, match="pictures need 3 channels"):
        model.encode({"image": torch.rand(2, 1, 8, 12)})
