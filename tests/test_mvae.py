"""MVAE, every mixture: what is fed back, what is learned from, and the published arithmetic beside it."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.func import functional_call

from benchmarks.published.mvae import PublishedMVAE, published_losses
from sakiyomi.data.episodes import EpisodeStore, Stream
from sakiyomi.data.windows import Batch
from sakiyomi.errors import SakiyomiError
from sakiyomi.job import build
from sakiyomi.models.base import Fitted, Framewise, Imaginative, Latent
from sakiyomi.models.mvae import MIXTURES, MVAE, divergence
from sakiyomi.schedules import Progress, progress_at

B, T, D, Z = 5, 4, 7, 3
CPU = torch.device("cpu")
mixtures = pytest.mark.parametrize("mixture", MIXTURES)
gaussian = pytest.mark.parametrize("mixture", [name for name in MIXTURES if name != "vq"])
forcings = pytest.mark.parametrize("forcing", [0.0, 0.4])


def model_of(mixture: str, **changes: Any) -> MVAE:
    """In float64, and with a gate that is far from giving each expert the same."""
    torch.manual_seed(0)
    settings = {"pose": D, "latent": Z, "hidden": 8, "experts": 3, "gate": 6, "codes": 5, **changes}
    model = MVAE(MVAE.Config(mixture=mixture, **settings)).double()  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        for layer in (model.gate.first, model.gate.second, model.gate.last) if model.gate else ():
            layer.weight *= 3
    return model


def alone(model: MVAE, z: Tensor, pose: Tensor) -> Tensor:
    """What a decoder of one network says."""
    return model.decoder(z, pose, z.new_ones(len(z), 1))


def batch_of(windows: int = B, steps: int = T, seed: int = 1) -> Batch:
    """As Windows makes them: each target is the next input."""
    poses = torch.randn(windows, steps + 1, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Batch({"pose": poses[:, :-1]}, {"pose": poses[:, 1:]}, torch.ones(windows, steps))


def progress(forcing: float, step: int = 0) -> Progress:
    return progress_at(step, 10, 0, CPU, forcing=forcing)


def losses_of(model: MVAE, batch: Batch, forcing: float) -> dict[str, Tensor]:
    """Frame by frame, [B, T] each."""
    frames = list(model.frames(batch, progress(forcing)))
    assert len(frames) == batch.mask.shape[1]
    return {name: torch.cat([frame[name] for frame in frames], 1) for name in frames[0]}


def changed(batch: Batch, part: str, t: int | slice, by: float = 1.0) -> Batch:
    """The batch with its inputs (or targets) moved at some frames; the other part is left as it is."""
    moved = getattr(batch, part)["pose"].clone()
    moved[:, t] += by
    return replace(batch, **{part: {"pose": moved}})


def moved_at(a: dict[str, Tensor], b: dict[str, Tensor]) -> Tensor:
    """Where the losses of two calls differ, bool [B, T]."""
    return torch.stack([a[name] != b[name] for name in a]).any(0)


# --- the contract


@mixtures
def test_it_has_every_side_the_others_ask_for(mixture: str) -> None:
    model = model_of(mixture)
    for side in (Imaginative, Framewise, Latent, Fitted):
        assert isinstance(model, side)
    assert model.noise == (model.latent,)
    assert model.latent == {"specialists": Z + 1, "vq": 5}.get(mixture, Z)


@mixtures
def test_unroll_step_imagine_and_decode_are_one_with_the_same_noise(mixture: str) -> None:
    model, poses = model_of(mixture), batch_of().inputs["pose"]
    noise = torch.randn(B, T, model.latent, dtype=torch.float64)
    together, end = model.unroll({"pose": poses}, None, noise)
    state = model.initial(B)
    for t in range(T):
        expected, state = model.step({"pose": poses[:, t]}, state, noise[:, t])
        torch.testing.assert_close(expected["pose"], together["pose"][:, t], atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(model.decode(noise[:, t], poses[:, t]), expected["pose"], atol=0, rtol=0)
    torch.testing.assert_close(state, end, atol=1e-12, rtol=1e-12)
    # What it imagines next is a step from the pose it expects.
    imagined, _ = model.imagine({}, state, noise[:, 0])
    torch.testing.assert_close(imagined["pose"], model.decode(noise[:, 0], state["pose"]), atol=0, rtol=0)
    silent, _ = model.imagine({}, state)
    torch.testing.assert_close(silent["pose"], model.decode(torch.zeros_like(noise[:, 0]), state["pose"]))


@mixtures
def test_the_noise_chooses_the_next_pose(mixture: str) -> None:
    model, pose = model_of(mixture), batch_of(200).inputs["pose"][:, 0]
    noise = torch.randn(2, 200, model.latent, dtype=torch.float64)
    apart = (model.decode(noise[0], pose) - model.decode(noise[1], pose)).abs().amax(-1)
    assert (apart > 1e-6).float().mean() > 0.7  # with vq a fifth of the pairs are one code


# --- the mixture


def test_blending_outputs_is_blending_weights() -> None:
    """Against the published arithmetic, which makes matrices for each sample: what comes out and its gradients."""
    model = model_of("experts")
    published = PublishedMVAE(copy.deepcopy(model))
    z, pose = torch.randn(B, Z, dtype=torch.float64), batch_of().inputs["pose"][:, 0]
    ours, theirs = model.decode(z, pose), published.decode(z, pose)
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    layers = (model.decoder.first, model.decoder.second, model.decoder.last)
    for layer, weight, bias in zip(layers, published.weights, published.biases, strict=True):
        assert weight.grad is not None  # [E, read, write], what is read beginning with z
        of_latent, of_below = weight.grad.transpose(0, 1).split((Z, len(layer.weight)))
        torch.testing.assert_close(layer.latent.grad, of_latent, atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(layer.weight.grad, of_below, atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(layer.bias.grad, bias.grad, atol=1e-12, rtol=1e-12)
    for name, parameter in model.named_parameters():
        if name.startswith("gate"):
            other = dict(published.named_parameters())[name]
            torch.testing.assert_close(parameter.grad, other.grad, atol=1e-12, rtol=1e-12)


def test_training_is_the_published_one_with_the_same_noise() -> None:
    """A gradient step after every frame, predictions fed back: the same losses, one after the other."""
    model = model_of("experts", reduction="mean")
    published = PublishedMVAE(copy.deepcopy(model))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2, fused=True)
    others = torch.optim.Adam(published.parameters(), 1e-2)
    first = last = 0.0
    for step in range(6):
        batch, ours = batch_of(8, seed=step), []
        for frame in model.frames(batch, progress(0.0, step)):
            total = frame["pose"].mean() + 0.3 * frame["kl"].mean()
            total.backward()
            optimizer.step()
            optimizer.zero_grad()
            ours.append(total.item())
        theirs = list(published_losses(published, others, batch, progress(0.0, step), 0.3))
        assert ours == pytest.approx(theirs, rel=1e-6)
        first, last = first or ours[0], ours[-1]
    assert abs(last - first) > 1e-2  # it went somewhere


@pytest.mark.parametrize("mixture", ["experts", "specialists"])
def test_a_mixture_of_one_is_that_expert_alone(mixture: str) -> None:
    model = model_of(mixture)
    z, pose = torch.randn(B, Z, dtype=torch.float64), batch_of().inputs["pose"][:, 0]
    alone = model.decoder.each(z, pose)
    assert alone.shape == (B, 3, D)
    for expert in range(3):
        one = torch.eye(3, dtype=torch.float64)[expert].expand(B, -1)
        torch.testing.assert_close(model.decoder(z, pose, one), alone[:, expert], atol=1e-12, rtol=1e-12)
    assert (alone[:, 0] - alone[:, 1]).abs().max() > 1e-3


@mixtures
def test_every_layer_of_the_decoder_reads_z(mixture: str) -> None:
    """Each of them keeps it from being forgotten: through any one alone it still chooses the pose."""
    model = model_of(mixture)
    z, pose = torch.randn(2, B, Z, dtype=torch.float64), batch_of().inputs["pose"][:, 0]
    experts = 1 if model.gate is None else 3
    weights = torch.full((B, experts), 1 / experts, dtype=torch.float64)

    def said(deaf: tuple[int, ...], z: Tensor) -> Tensor:
        """What a decoder says of which these layers do not hear z."""
        decoder = copy.deepcopy(model.decoder)
        with torch.no_grad():
            for number in deaf:
                (decoder.first, decoder.second, decoder.last)[number].latent.zero_()
        return torch.cat((decoder(z, pose, weights)[:, None], decoder.each(z, pose)), 1)

    for one in range(3):
        others = tuple(number for number in range(3) if number != one)
        assert (said(others, z[0]) - said(others, z[1])).abs().amax((0, 2)).min() > 1e-3
        assert (said((one,), z[0]) - said((), z[0])).abs().amax((0, 2)).min() > 1e-3
    assert torch.equal(said((0, 1, 2), z[0]), said((0, 1, 2), z[1]))


def test_the_gate_reads_z_and_pose_and_gives_shares() -> None:
    model = model_of("experts")
    assert model.gate is not None
    z, pose = torch.randn(B, Z, dtype=torch.float64), batch_of().inputs["pose"][:, 0]
    weights = model.gate(torch.cat((z, pose), -1))
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, dtype=torch.float64))
    assert (weights > 0).all()
    for other in (torch.cat((z + 1, pose), -1), torch.cat((z, pose + 1), -1)):
        assert (model.gate(other) - weights).abs().amax() > 1e-3


# --- what is fed back


@mixtures
@forcings
def test_loss_is_the_frames_in_a_row(mixture: str, forcing: float) -> None:
    model, batch = model_of(mixture), batch_of()
    torch.testing.assert_close(
        model.loss(batch, progress(forcing)), losses_of(model, batch, forcing), atol=1e-12, rtol=1e-12
    )


@mixtures
def test_loss_is_the_frames_in_a_row_where_nothing_is_fed_back(mixture: str) -> None:
    """All at once then, and so with other noise: a z without any makes the two equal."""
    model, batch = model_of(mixture), batch_of()
    with torch.no_grad():
        model.encoder.last.weight[Z:] = 0
        model.encoder.last.bias[Z:] = -100
    torch.testing.assert_close(model.loss(batch, progress(1.0)), losses_of(model, batch, 1.0), atol=1e-9, rtol=1e-9)


@mixtures
def test_what_is_always_forced_feeds_nothing_back(mixture: str) -> None:
    model, batch = model_of(mixture), batch_of()
    before = losses_of(model, batch, 1.0)
    for part in ("inputs", "targets"):
        for t in range(T):
            where = moved_at(losses_of(model, changed(batch, part, t), 1.0), before)
            assert where[:, t].all()
            assert not where[:, [other for other in range(T) if other != t]].any()


@mixtures
def test_what_is_never_forced_reads_the_first_pose_and_then_itself(mixture: str) -> None:
    model, batch = model_of(mixture), batch_of()
    before = losses_of(model, batch, 0.0)
    assert not moved_at(losses_of(model, changed(batch, "inputs", slice(1, None), 100.0), 0.0), before).any()
    assert moved_at(losses_of(model, changed(batch, "inputs", 0), 0.0), before).all()
    for t in range(T):  # a target is what a prediction was made for: it counts from then on
        where = moved_at(losses_of(model, changed(batch, "targets", t), 0.0), before)
        assert where[:, t].all()
        assert not where[:, :t].any()
        assert t == T - 1 or where[:, t + 1 :].any()


@mixtures
def test_what_was_fed_back_is_a_prediction(mixture: str) -> None:
    """The second frame of a sequence that is never forced is the first frame of one that begins with the prediction."""
    model, batch = model_of(mixture), batch_of(steps=2)
    silent = copy.deepcopy(model)
    with torch.no_grad():
        silent.encoder.last.weight[Z:] = 0
        silent.encoder.last.bias[Z:] = -100
    poses, targets = batch.inputs["pose"], batch.targets["pose"]
    mean, _ = silent.encoder(targets[:, 0], poses[:, 0])
    if mixture == "specialists":
        predictions, _ = silent._specialists(mean, poses[:, 0])
        candidates = predictions.unbind(1)  # whichever was drawn
    elif silent.codebook is not None:
        candidates = (alone(silent, silent.codebook[torch.cdist(mean, silent.codebook).argmin(-1)], poses[:, 0]),)
    else:
        candidates = (silent.decode(mean, poses[:, 0]),)
    second = losses_of(silent, batch, 0.0)
    ones = torch.ones(B, 1)
    fits = []
    for candidate in candidates:
        began = Batch({"pose": candidate.detach()[:, None]}, {"pose": targets[:, 1:]}, ones)
        again = losses_of(silent, began, 0.0)
        fits.append(torch.stack([(again[name][:, 0] - second[name][:, 1]).abs() for name in again]).amax(0) < 1e-9)
    assert torch.stack(fits).any(0).all()


@mixtures
def test_each_frame_teaches_by_its_own_error(mixture: str) -> None:
    """What is fed back is detached: the loss of a frame depends on the frame before, its gradient does not."""
    model, batch = model_of(mixture), batch_of()
    inputs, targets = (part["pose"].clone().requires_grad_() for part in (batch.inputs, batch.targets))
    seen = Batch({"pose": inputs}, {"pose": targets}, batch.mask)
    for t, frame in enumerate(model.frames(seen, progress(0.0))):
        total = torch.stack([loss.sum() for loss in frame.values()]).sum()
        of_inputs, of_targets = torch.autograd.grad(total, (inputs, targets), materialize_grads=True)
        assert (of_targets[:, t].abs().amax(-1) > 0).all()
        assert of_targets[:, :t].abs().sum() == of_targets[:, t + 1 :].abs().sum() == 0
        assert (of_inputs.abs().sum() > 0) == (t == 0)


@mixtures
def test_each_sequence_is_forced_by_a_draw_of_its_own_in_every_frame(mixture: str) -> None:
    model, batch = model_of(mixture), batch_of(300, 6)
    shown = {}
    for forcing in (0.2, 0.5):
        before = losses_of(model, batch, forcing)
        columns = [
            moved_at(losses_of(model, changed(batch, "inputs", t, 50.0), forcing), before)[:, t] for t in range(6)
        ]
        shown[forcing] = torch.stack(columns, 1)
        assert shown[forcing][:, 0].all()  # there is nothing to feed back yet
        later = shown[forcing][:, 1:].double()
        assert later.mean().item() == pytest.approx(forcing, abs=4 * (0.25 / later.numel()) ** 0.5)
        # Neither whole frames nor whole sequences go one way: each draw stands alone.
        spread = (forcing * (1 - forcing)) ** 0.5
        assert later.mean(0).sub(forcing).abs().max() < 4.5 * spread / len(later) ** 0.5
        both = (later[:, 1:] * later[:, :-1]).mean().item()
        assert both == pytest.approx(forcing**2, abs=0.06)
    assert (shown[0.2] <= shown[0.5]).all()  # the same draws, whatever they are held against


@mixtures
def test_all_at_once_feeds_back_as_frame_by_frame(mixture: str) -> None:
    model, batch = model_of(mixture), batch_of()
    other = changed(batch, "inputs", slice(1, None), 100.0)
    for forcing, shown in ((1.0, True), (0.0, False)):
        where = moved_at(model.loss(other, progress(forcing)), model.loss(batch, progress(forcing)))
        assert where[:, 1:].all() == where[:, 1:].any() == shown
        assert not where[:, 0].any()


# --- losses


@gaussian
def test_kl_is_that_of_torch(mixture: str) -> None:
    model, batch = model_of(mixture), batch_of()
    inputs, targets = batch.inputs["pose"].flatten(0, 1), batch.targets["pose"].flatten(0, 1)
    mean, log_variance = model.encoder(targets, inputs)
    wanted = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(divergence(mean, log_variance), wanted, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(model.loss(batch, progress(1.0))["kl"], wanted.sum(-1).unflatten(0, (B, T)))


@gaussian
def test_z_is_drawn_as_the_encoder_says(mixture: str) -> None:
    """With the noise of the step: mean + exp(log variance / 2) x noise, which the pose loss is an error of."""
    model, batch = model_of(mixture), batch_of(steps=1)
    pose, target = batch.inputs["pose"][:, 0], batch.targets["pose"][:, 0]
    mean, log_variance = model.encoder(target, pose)
    noise = torch.randn(mean.shape, generator=progress(1.0).generator)  # float32, as the model draws it
    z = mean + log_variance.div(2).exp() * noise
    if mixture == "specialists":
        predictions, weights = model._specialists(z, pose)
        wanted = sum(weights[:, e] * (predictions[:, e] - target).square().sum(-1) for e in range(3))
    else:
        wanted = (model.decode(z, pose) - target).square().sum(-1)
    torch.testing.assert_close(model.loss(batch, progress(1.0))["pose"][:, 0], wanted, atol=1e-12, rtol=1e-12)


@mixtures
def test_noise_is_on_what_the_decoder_reads_in_training_alone(mixture: str) -> None:
    """The encoder reads none, or z would tell the noise; validation and walking have none."""
    clean, noisy, batch = model_of(mixture), model_of(mixture, noise=0.3), batch_of()
    for forcing in (0.0, 1.0):
        still = [model.loss(batch, progress_at(0, 10, 0, CPU, False, forcing)) for model in (clean, noisy)]
        torch.testing.assert_close(still[0], still[1], atol=0, rtol=0)
    told, shaken = (model.loss(batch, progress(1.0)) for model in (clean, noisy))
    assert (told["pose"] != shaken["pose"]).all()
    for name in told.keys() - {"pose"}:
        assert torch.equal(told[name], shaken[name])
    noise = torch.randn(B, T, noisy.latent, dtype=torch.float64)
    together = [model.unroll(batch.inputs, None, noise)[0]["pose"] for model in (clean, noisy)]
    assert torch.equal(together[0], together[1])


def test_noise_has_the_deviation_asked_for() -> None:
    model, batch = model_of("plain", noise=0.3), batch_of(steps=1)
    pose, target = batch.inputs["pose"][:, 0], batch.targets["pose"][:, 0]
    with torch.no_grad():
        model.encoder.last.weight[Z:] = 0
        model.encoder.last.bias[Z:] = -100
    mean, _ = model.encoder(target, pose)
    shaken = pose + 0.3 * torch.randn(pose.shape, generator=progress(1.0).generator)  # float32, as the model draws it
    wanted = (model.decode(mean, shaken) - target).square().sum(-1)
    torch.testing.assert_close(model.loss(batch, progress(1.0))["pose"][:, 0], wanted, atol=1e-9, rtol=1e-9)


def test_specialists_are_drawn_with_the_gates_probability() -> None:
    model, count = model_of("specialists"), 20_000
    assert model.gate is not None
    z, pose = torch.randn(Z, dtype=torch.float64), batch_of().inputs["pose"][0, 0]
    noise = torch.cat((z.expand(count, -1), torch.randn(count, 1, dtype=torch.float64)), -1)
    drawn = model.decode(noise, pose.expand(count, -1))
    experts, weights = model.decoder.each(z[None], pose[None])[0], model.gate(torch.cat((z, pose))[None])[0]
    assert weights.max() - weights.min() > 0.1
    picked = (drawn[:, None] - experts).abs().amax(-1) < 1e-9
    assert (picked.sum(-1) == 1).all()  # one of them alone, never a blend
    bound = 4 * (weights * (1 - weights) / count).sqrt()
    assert ((picked.double().mean(0) - weights).abs() < bound).all()
    # Where the noise falls in the tails it is the first and the last, and never one beyond.
    for extreme, expert in ((-40.0, 0), (40.0, 2), (torch.inf, 2)):
        one = torch.cat((z, torch.tensor([extreme], dtype=torch.float64)))[None]
        torch.testing.assert_close(model.decode(one, pose[None])[0], experts[expert], atol=1e-12, rtol=1e-12)


def test_codes_are_chosen_by_the_largest_noise_and_by_the_nearest_mean() -> None:
    model, batch = model_of("vq"), batch_of(steps=1)
    assert model.codebook is not None
    pose, target = batch.inputs["pose"][:, 0], batch.targets["pose"][:, 0]
    for code in range(5):
        noise = torch.randn(B, 5, dtype=torch.float64)
        noise[:, code] = 9.0
        wanted = alone(model, model.codebook[code].expand(B, -1), pose)
        torch.testing.assert_close(model.decode(noise, pose), wanted)
    mean, _ = model.encoder(target, pose)
    nearest = torch.stack(
        [min(model.codebook, key=lambda code: float((m - code).detach().square().sum())) for m in mean]
    )
    losses = model.loss(batch, progress(1.0))
    predicted = alone(model, nearest, pose)
    torch.testing.assert_close(losses["pose"][:, 0], (predicted - target).square().sum(-1))
    for name in ("codebook", "commitment"):
        torch.testing.assert_close(losses[name][:, 0], (mean - nearest).square().sum(-1))
    assert set(losses) == {"pose", "codebook", "commitment"}


def test_gradients_pass_straight_through_the_choice_of_a_code() -> None:
    model, batch = model_of("vq"), batch_of(steps=1)
    assert model.codebook is not None
    pose, target = batch.inputs["pose"][:, 0], batch.targets["pose"][:, 0]
    losses = {name: loss.sum() for name, loss in model.loss(batch, progress(1.0)).items()}
    encoder, decoder = list(model.encoder.parameters()), list(model.decoder.parameters())

    def reaches(name: str, what: Sequence[Tensor]) -> bool:
        found = torch.autograd.grad(losses[name], what, retain_graph=True, materialize_grads=True)
        return any(bool(gradient.abs().sum() > 0) for gradient in found)

    reached = {name: [reaches(name, part) for part in (encoder, [model.codebook], decoder)] for name in losses}
    assert reached == {
        "pose": [True, False, True],
        "codebook": [False, True, False],
        "commitment": [True, False, False],
    }
    # What the encoder is told is what the code would be told.
    mean, _ = model.encoder(target, pose)
    code = model.codebook[torch.cdist(mean, model.codebook).argmin(-1)].detach().requires_grad_()
    error = (alone(model, code, pose) - target).square().sum()
    (told,) = torch.autograd.grad(error, code)
    wanted = torch.autograd.grad(mean, encoder, told)
    torch.testing.assert_close(torch.autograd.grad(losses["pose"], encoder), wanted, atol=1e-12, rtol=1e-12)


@gaussian
def test_gradients_are_finite_differences(mixture: str) -> None:
    check_gradients(model_of(mixture), lambda losses: losses["pose"].mean() + 0.3 * losses["kl"].mean(), ())


def test_gradients_of_codes_are_finite_differences() -> None:
    """Of the decoder and the codebook, whose gradients are true ones."""
    check_gradients(model_of("vq"), lambda losses: losses["pose"].mean(), ("encoder", "codebook"))
    check_gradients(model_of("vq"), lambda losses: losses["codebook"].mean(), ("encoder", "decoder"))


def check_gradients(model: MVAE, total: Callable[[dict[str, Tensor]], Tensor], still: tuple[str, ...]) -> None:
    """Along random directions in all weights but those that stand `still`, with the noise of one step."""
    batch = batch_of()
    weights = {name: value.detach() for name, value in model.named_parameters()}

    def value(moved: dict[str, Tensor]) -> Tensor:
        return total(functional_call(Losses(model), {f"model.{name}": v for name, v in moved.items()}, (batch,)))

    leaves = {name: value.clone().requires_grad_() for name, value in weights.items()}
    gradient = torch.autograd.grad(value(leaves), list(leaves.values()), materialize_grads=True)
    for seed in range(4):
        torch.manual_seed(seed)
        way = {n: torch.randn_like(v) * (not n.startswith(still) if still else True) for n, v in weights.items()}
        step = 1e-6
        ahead, behind = (value({n: weights[n] + s * way[n] for n in weights}) for s in (step, -step))
        slope = sum((g * way[n]).sum() for n, g in zip(weights, gradient, strict=True))
        assert float((ahead - behind) / (2 * step)) == pytest.approx(float(slope), rel=1e-5, abs=1e-7)


class Losses(torch.nn.Module):
    """`loss` as a module's forward, for `functional_call`."""

    def __init__(self, model: MVAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.model.loss(batch, progress(1.0))


@mixtures
@pytest.mark.parametrize("forcing", [0.0, 1.0])
def test_means_are_sums_over_their_numbers(mixture: str, forcing: float) -> None:
    """The paper's way to count and its first code's differ in D and Z, and in nothing else."""
    batch = batch_of()
    sums, means = (model_of(mixture, reduction=way).loss(batch, progress(forcing)) for way in ("sum", "mean"))
    for name, loss in sums.items():
        torch.testing.assert_close(means[name], loss / (D if name == "pose" else Z), atol=1e-12, rtol=1e-12)


# --- how much of the latent is used


@gaussian
def test_usage_is_the_kl_number_by_number(mixture: str) -> None:
    model, batch = model_of(mixture), batch_of()
    usage = model.usage(batch)
    assert usage.shape == (B, T, Z)
    torch.testing.assert_close(usage.sum(-1), model.loss(batch, progress(1.0))["kl"])
    with torch.no_grad():  # the second number becomes the prior itself
        model.encoder.last.weight[[1, Z + 1]] = 0
        model.encoder.last.bias[[1, Z + 1]] = 0
    silenced = model.usage(batch)
    assert (silenced[..., 1] == 0).all()
    torch.testing.assert_close(silenced[..., [0, 2]], usage[..., [0, 2]])


@pytest.mark.parametrize("codes", [2, 5, 300])
def test_codes_that_are_taken_alike_count_alike_however_many_there_are(codes: int) -> None:
    """1 is a code's fair share, so that the watchdog's and the scores' bound means the same for any codebook."""
    model, batch = model_of("vq", codes=codes), batch_of()
    assert model.codebook is not None
    usage = model.usage(batch)
    assert usage.shape == (B, T, codes)
    assert (usage > 0).sum(-1).eq(1).all()
    mean, _ = model.encoder(batch.targets["pose"].flatten(0, 1), batch.inputs["pose"].flatten(0, 1))
    nearest = torch.cdist(mean, model.codebook).argmin(-1).unflatten(0, (B, T))
    assert torch.equal(usage.argmax(-1), nearest)
    torch.testing.assert_close(usage.mean((0, 1)).sum().item(), float(codes))


# --- what it is built with


def test_an_open_width_is_that_of_the_recordings(walk_store: EpisodeStore) -> None:
    wide = walk_store.streams["pose"].shape[0]
    assert MVAE.fitted(MVAE.Config(pose=0), walk_store.streams).pose == wide
    assert MVAE.fitted(MVAE.Config(pose=9), walk_store.streams).pose == 9  # what was told is kept
    assert MVAE.fitted(MVAE.Config(pose=0), {"joints": Stream("joints", (3,), "float32", 10.0)}).pose == 0
    with pytest.raises(SakiyomiError, match=r"--model\.pose is 0; without recordings"):
        build(MVAE.Config(pose=0))


def test_names_that_do_not_exist_are_told() -> None:
    with pytest.raises(SakiyomiError, match="unknown mixture 'expert': did you mean 'experts'"):
        model_of("expert")
    with pytest.raises(SakiyomiError, match="unknown reduction 'average'"):
        model_of("plain", reduction="average")


def test_a_pose_of_another_width_is_told() -> None:
    model = model_of("plain")
    pose = torch.zeros(2, D + 1, dtype=torch.float64)
    for call in (lambda: model.unroll({"pose": pose[None]}), lambda: model.step({"pose": pose}, {})):
        with pytest.raises(SakiyomiError, match=rf"stream 'pose' .* built for \[\.\.\., {D}\].*--model\.pose"):
            call()
    wide = Batch({"pose": torch.zeros(2, 1, D + 1)}, {"pose": torch.zeros(2, 1, D + 1)}, torch.ones(2, 1))
    for forcing in (0.0, 1.0):  # what a training begins with
        with pytest.raises(SakiyomiError, match=r"stream 'pose' has shape \[2, 1, 8\]"):
            model.loss(wide, progress(forcing))
    with pytest.raises(SakiyomiError, match=r"stream 'pose' has shape \[2, 1, 8\]"):
        next(iter(model.frames(wide, progress(1.0))))
