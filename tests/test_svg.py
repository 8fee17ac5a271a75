"""SVG: the published sizes and the published loss, and that what it trains is what it imagines with."""

from dataclasses import replace
from itertools import pairwise, product

import pytest
import torch
from imagining import awake, tiny
from torch import Tensor, distributions, nn
from torch.nn import functional

from benchmarks.published import svg as published_svg
from benchmarks.published.svg import published_loss
from sakiyomi.data.windows import Batch
from sakiyomi.errors import SakiyomiError
from sakiyomi.layers.frames import _pooled, _split
from sakiyomi.models import SVG
from sakiyomi.models.svg import Gaussian
from sakiyomi.schedules import Progress, progress_at

B, T = 2, 6
CPU = torch.device("cpu")
SIDES = {"height": 16, "width": 32}
networks = pytest.mark.parametrize("network", ["vgg", "dcgan"])
skips = pytest.mark.parametrize("last_frame_skip", [False, True], ids=["skips of the past", "skips of the last frame"])


def small(**changes: object) -> SVG:
    torch.manual_seed(0)
    return awake(SVG(tiny(**{**SIDES, **changes})))


def a_batch(model: SVG, seed: int = 1) -> Batch:
    torch.manual_seed(seed)
    seen = model.example(B, T + 1)
    return Batch({k: v[:, :-1] for k, v in seen.items()}, {k: v[:, 1:] for k, v in seen.items()}, torch.ones(B, T))


def with_frame(batch: Batch, index: int) -> Batch:
    """Another true frame `index` of 0..T, which is seen at that step and was to be predicted at the one before."""
    inputs, targets = (dict(streams) for streams in (batch.inputs, batch.targets))
    other = 1 - (batch.inputs["image"][:, index] if index < T else batch.targets["image"][:, -1])
    for streams, place in ((inputs, index), (targets, index - 1)):
        if 0 <= place < T:
            streams["image"] = streams["image"].clone()
            streams["image"][:, place] = other
    return Batch(inputs, targets, batch.mask)


def in_float64(batch: Batch) -> Batch:
    inputs, targets = ({k: v.double() for k, v in streams.items()} for streams in (batch.inputs, batch.targets))
    return Batch(inputs, targets, batch.mask)


def at(forced: bool = True, step: int = 3) -> Progress:
    return replace(progress_at(step, 10, 0, CPU), forced=forced)


def changed(a: Tensor, b: Tensor) -> list[bool]:
    """Of losses [B, T]: which steps differ."""
    return ((a - b).abs() > 1e-6).any(0).tolist()


def z_is_always(model: SVG, value: float) -> SVG:
    """Posterior and prior are certain of one and the same z, whatever they see."""
    for gaussian in (model.posterior, model.prior):
        if gaussian is not None:
            for layer, bias in ((gaussian.mean, value), (gaussian.log_variance, -80.0)):
                nn.init.zeros_(layer.weight)
                nn.init.constant_(layer.bias, bias)
    return model


# --- sizes


def shapes_of(module: nn.Module) -> list[tuple[int, ...]]:
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    return [tuple(layer.weight.shape) for layer in module.modules() if isinstance(layer, kinds)]


def published() -> SVG:
    with torch.device("meta"):
        return SVG(SVG.Config())


def test_vgg_has_the_published_sizes() -> None:
    model, widths = published(), ((3, 64, 64), (64, 128, 128), (128, *[256] * 3), (256, *[512] * 3))
    blocks = [(out, read, 3, 3) for block in widths for read, out in pairwise(block)]
    assert shapes_of(model.encoder) == [*blocks, (128, 512, 4, 4)]
    assert shapes_of(model.decoder.first) == [(128, 512, 4, 4)]
    # Each block reads what is below it beside a skip of as many channels.
    ways = ((1024, 512, 512, 256), (512, 256, 256, 128), (256, 128, 64), (128, 64))
    decoder = [
        shape
        for join, block in zip(model.decoder.joins, model.decoder.blocks, strict=True)  # pyright: ignore
        for shape in [*shapes_of(join), *shapes_of(block)]
    ]
    wanted = [(out, read, 3, 3) for way in ways for read, out in pairwise(way)]
    assert decoder == [*wanted, (64, 3, 3, 3)]  # the last one is transposed: [read, out, ..]
    pools = sum(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())
    assert pools == len(blocks) + 1 + 1 + len(wanted)  # behind every convolution but the last


def test_lstms_have_the_published_sizes() -> None:
    model = published()
    for gaussian in (model.posterior, model.prior):
        assert gaussian is not None
        assert shapes_of(gaussian) == [(256, 128), (10, 256), (10, 256)]
        assert (gaussian.lstm.hidden_size, gaussian.lstm.num_layers) == (256, 1)
    assert shapes_of(model.predictor) == [(256, 128 + 10 + 4 + 3), (128, 256)]
    assert (model.predictor.lstm.hidden_size, model.predictor.lstm.num_layers) == (256, 2)
    assert model.noise == (2, 10)


@networks
def test_frames_are_encoded_in_g_numbers_and_come_back(network: str) -> None:
    with torch.device("meta"):
        model = SVG(SVG.Config(network=network))  # pyright: ignore[reportArgumentType]
        encoded, of_frames = model.encoder(torch.empty(5, 3, 64, 64))
        assert encoded.shape == (5, 128)
        assert model.decoder(encoded, of_frames).shape == (5, 3, 64, 64)
    assert [tuple(s.shape[1:]) for s in of_frames] == [(c, 64 // k, 64 // k) for c, k in model.encoder.skips]
    assert [s.shape[1] for s in of_frames] == [64, 128, 256, 512]


def test_convolutions_begin_small_and_norms_near_1() -> None:
    torch.manual_seed(0)
    model = SVG(tiny(channels=16))
    weights = [m.weight.flatten() for m in model.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    norms = torch.cat([m.weight.detach() for m in model.modules() if isinstance(m, nn.BatchNorm2d)])
    assert float(torch.cat(weights).detach().std()) == pytest.approx(0.02, rel=0.02)
    assert float(norms.mean()) == pytest.approx(1, abs=0.01)
    assert float(norms.std()) == pytest.approx(0.02, rel=0.2)


# --- a convolution in two parts


@pytest.mark.parametrize("sources", [1, 2, 5])
@pytest.mark.parametrize("kind", ["plain", "transposed"])
def test_a_convolution_in_two_parts_is_that_of_both_beside_each_other(kind: str, sources: int) -> None:
    """Frames of double the sides for the plain one; gradients, too."""
    sequences, steps = 3, 5
    convolution = nn.Conv2d(7, 4, 3, padding=1) if kind == "plain" else nn.ConvTranspose2d(7, 4, 4, 2, 1)
    convolution, norm = convolution.double(), nn.BatchNorm2d(4).double()
    frames = torch.randn(steps, sequences, 4, 3, 4, dtype=torch.float64, requires_grad=True)
    sides = (6, 8) if kind == "plain" else (3, 4)
    skip = torch.randn(sources, sequences, 3, *sides, dtype=torch.float64, requires_grad=True)
    beside = skip[[min(t, sources - 1) for t in range(steps)]]  # the last source serves all later steps
    large = torch.cat([functional.interpolate(functional.leaky_relu(norm(step), 0.2), sides) for step in frames])
    wanted = convolution(torch.cat((large, beside.flatten(0, 1)), 1))
    found = _split(convolution, frames.flatten(0, 1), skip.flatten(0, 1), steps, norm, steps)
    torch.testing.assert_close(found, wanted)
    weights = torch.randn_like(wanted)
    of = (frames, skip, *convolution.parameters(), *norm.parameters())
    slopes = [torch.autograd.grad((way * weights).sum(), of) for way in (found, wanted)]
    torch.testing.assert_close(*slopes)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kept", [None, 0, 2, 5])
def test_pooling_keeps_the_skips_that_are_wanted(kept: int | None, layout: torch.memory_format) -> None:
    frames = torch.randn(5, 3, 4, 6, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    found, wanted = _pooled(frames, kept), (functional.max_pool2d(frames, 2), frames[:kept])
    torch.testing.assert_close(found, wanted)
    weights = [torch.randn_like(each) for each in wanted]
    slopes = [torch.autograd.grad(way, frames, weights) for way in (found, wanted)]
    torch.testing.assert_close(*slopes)


# --- the loss


@networks
@skips
def test_the_loss_is_the_published_one(network: str, last_frame_skip: bool) -> None:
    model = small(network=network, last_frame_skip=last_frame_skip).double()
    batch = in_float64(a_batch(model))
    noise = torch.randn(B, T, 3, generator=at().generator)
    weights = list(model.parameters())
    found = []
    for losses in (model.loss(batch, at()), published_loss(model, batch, noise)):
        total = (losses["image"] * torch.arange(1, T + 1)).sum() + losses["kl"].sum()
        found.append(({k: v.double() for k, v in losses.items()}, torch.autograd.grad(total, weights)))
    (ours, our_gradients), (theirs, their_gradients) = found
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(our_gradients, their_gradients, atol=1e-5, rtol=1e-5)


@networks
@skips
def test_with_statistics_of_steps_training_is_the_published_loop(network: str, last_frame_skip: bool) -> None:
    """In training mode, where statistics of all frames give another loss. The loop encodes each frame twice but the
    first and the last, and moves its running statistics as often; ours move once a frame."""
    torch.manual_seed(0)
    model = SVG(tiny(**SIDES, network=network, last_frame_skip=last_frame_skip, statistics="step")).double().train()
    assert model.config.statistics == "step"
    batch = in_float64(a_batch(model))
    noise = torch.randn(B, T, 3, generator=at().generator)
    weights, found = list(model.parameters()), []
    for losses in (model.loss(batch, at()), published_loss(model, batch, noise)):
        total = (losses["image"] * torch.arange(1, T + 1)).sum() + losses["kl"].sum()
        found.append(({k: v.double() for k, v in losses.items()}, torch.autograd.grad(total, weights)))
    (ours, our_gradients), (theirs, their_gradients) = found
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(our_gradients, their_gradients, atol=1e-5, rtol=1e-5)
    torch.manual_seed(0)
    other = SVG(tiny(**SIDES, network=network, last_frame_skip=last_frame_skip)).double().train()
    assert (other.loss(batch, at())["image"] - theirs["image"]).abs().max() > 1e-4


def test_with_statistics_of_steps_each_frame_counts_once() -> None:
    model = SVG(tiny(**SIDES, statistics="step")).train()
    for forced in (True, False):
        before = {name: int(n) for name, n in model.named_buffers() if "num_batches" in name}
        model.loss(a_batch(model), at(forced))
        moved = {name: int(n) - before[name] for name, n in model.named_buffers() if "num_batches" in name}
        own = 0 if forced else T - model.past  # of its own predictions, encoded beside the true ones
        assert {n for name, n in moved.items() if "encoder" in name} == {T + 1 + own}
        assert {n for name, n in moved.items() if "decoder" in name} == {T}


def test_in_evaluation_statistics_change_nothing() -> None:
    model = small()
    other = SVG(replace(model.config, statistics="step")).eval()
    other.load_state_dict(model.state_dict())
    batch = a_batch(model)
    torch.testing.assert_close(model.loss(batch, at()), other.loss(batch, at()), atol=0, rtol=0)


def test_bfloat16_trains_on_nearly_the_same_loss() -> None:
    torch.manual_seed(0)
    model = SVG(tiny(**SIDES, network="vgg", statistics="step")).train()
    batch = a_batch(model)
    exact = model.loss(batch, at())["image"]
    with torch.autocast("cpu", torch.bfloat16):
        rough = model.loss(batch, at())["image"]
    assert not torch.equal(rough, exact)
    torch.testing.assert_close(rough.float(), exact, atol=0, rtol=0.02)


def test_the_published_way_and_ours_agree() -> None:
    """What the benchmark asks before it measures."""
    sides = published_svg.sides(quick=True)
    assert next(iter(sides.ways)) == "published"
    assert max(sides.agree().values()) < 1e-4
    for work in sides.ways.values():
        work()


def gaussians(*shape: int) -> tuple[Gaussian, Gaussian]:
    torch.manual_seed(0)
    return Gaussian(torch.randn(shape), torch.randn(shape)), Gaussian(torch.randn(shape), torch.randn(shape))


def as_torch(gaussian: Gaussian) -> distributions.Distribution:
    return distributions.Independent(distributions.Normal(gaussian.mean, (gaussian.log_variance / 2).exp()), 1)


def test_divergence_is_that_of_torch() -> None:
    p, q = gaussians(4, 5, 3)
    for a, b in ((p, q), (q, p)):
        torch.testing.assert_close(a.divergence(b), distributions.kl_divergence(as_torch(a), as_torch(b)))
    torch.testing.assert_close(p.divergence(p), torch.zeros(4, 5), atol=1e-6, rtol=0)


def test_samples_are_of_the_distribution() -> None:
    p, _ = gaussians(3)
    drawn = p.sample(torch.randn(100_000, 3))
    torch.testing.assert_close(drawn.mean(0), p.mean, atol=0.03, rtol=0.03)
    torch.testing.assert_close(drawn.var(0), p.log_variance.exp(), atol=0.03, rtol=0.03)
    torch.testing.assert_close(p.sample(None), p.mean)


def test_a_fixed_prior_is_standard_normal_and_has_no_weights() -> None:
    model = small(prior="fixed")
    batch = a_batch(model)
    assert not any("prior" in name for name, _ in model.named_parameters())
    assert not any("prior" in name for name in model.initial(1))
    encoded, _ = model.encoder(batch.targets["image"].flatten(0, 1))
    posterior, _ = model.posterior(encoded.unflatten(0, (B, T)))
    zeros = torch.zeros(B, T, 3)
    wanted = distributions.kl_divergence(as_torch(posterior), as_torch(Gaussian(zeros, zeros)))
    torch.testing.assert_close(model.loss(batch, at())["kl"], wanted, atol=1e-5, rtol=1e-5)


def test_what_posterior_and_prior_agree_on_costs_nothing() -> None:
    model = z_is_always(small(), 0.5)
    torch.testing.assert_close(model.loss(a_batch(model), at())["kl"], torch.zeros(B, T), atol=1e-6, rtol=0)


@pytest.mark.parametrize("forced", [True, False])
def test_the_posterior_sees_the_frame_that_is_to_be_predicted(forced: bool) -> None:
    """And the loss is causal in frames: one counts from the step that has to predict it."""
    model = small()
    batch = a_batch(model)
    before = model.loss(batch, at(forced))
    for index in (1, 3, T):
        after = model.loss(with_frame(batch, index), at(forced))
        steps = [t >= index - 1 for t in range(T)]
        assert changed(before["kl"], after["kl"]) == steps
        assert changed(before["image"], after["image"]) == steps


@networks
@pytest.mark.parametrize("forced", [True, False])
def test_conditions_count_from_their_step_on(network: str, forced: bool) -> None:
    model = small(network=network)
    batch = a_batch(model)
    before = model.loss(batch, at(forced))["image"]
    for name, step in product(("action", "position"), (0, 3, T - 1)):
        other = batch.inputs[name].clone()
        other[:, step] = 1 - other[:, step]
        after = model.loss(Batch({**batch.inputs, name: other}, batch.targets, batch.mask), at(forced))["image"]
        apart = (after - before).abs().amax(0)
        assert (apart[:step] == 0).all()
        assert (apart[step:] > 1e-8).all()


# --- teacher forcing


@skips
@pytest.mark.parametrize("prior", ["learned", "fixed"])
def test_training_on_its_own_predictions_is_imagining(last_frame_skip: bool, prior: str) -> None:
    """With nothing left to chance, a step that is not teacher-forced predicts what unroll and imagine predict."""
    model = z_is_always(small(last_frame_skip=last_frame_skip, prior=prior), 0.0 if prior == "fixed" else 0.7)
    batch, past = a_batch(model), model.past
    predictions, state = model.unroll({name: value[:, :past] for name, value in batch.inputs.items()})
    frames = list(predictions["image"].unbind(1))
    for t in range(past, T):
        frame, state = model.imagine({name: batch.inputs[name][:, t] for name in model.conditions}, state)
        frames.append(frame["image"])
    wanted = (torch.stack(frames, 1) - batch.targets["image"]).square().mean((2, 3, 4))
    torch.testing.assert_close(model.loss(batch, at(forced=False))["image"], wanted, atol=1e-6, rtol=1e-5)
    forced = model.loss(batch, at(forced=True))["image"]
    assert changed(forced, wanted) == [t >= past for t in range(T)]


@networks
@skips
def test_the_loss_without_teacher_forcing_is_a_plain_loop(network: str, last_frame_skip: bool) -> None:
    """The past as it was, then a step at a time on the picture that came out last; z from the true next frame."""
    model = small(network=network, last_frame_skip=last_frame_skip).double()
    batch = in_float64(a_batch(model))
    noise = torch.randn(B, T, 3, generator=at().generator)
    frames, targets = batch.inputs["image"], batch.targets["image"]
    posterior_memory = prior_memory = memory = picture = None
    skips, errors, divergences = [], [], []
    assert model.prior is not None
    for t in range(T):
        read_from = frames[:, t] if picture is None or t < model.past else picture
        encoded, latest = model.encoder(read_from)
        skips = latest if t < model.past or last_frame_skip else skips
        posterior, posterior_memory = model.posterior(model.encoder(targets[:, t])[0][:, None], posterior_memory)
        prior, prior_memory = model.prior(encoded[:, None], prior_memory)
        read = torch.cat((encoded, *(batch.inputs[name][:, t] for name in model.conditions)), -1)
        expected, memory = model.predictor(read[:, None], posterior.sample(noise[:, t : t + 1]), memory)
        picture = model.decoder(expected[:, 0], skips)
        errors.append((picture - targets[:, t]).square().mean((1, 2, 3)))
        divergences.append(posterior.divergence(prior)[:, 0].double())
    plain = {"image": torch.stack(errors, 1), "kl": torch.stack(divergences, 1)}
    ours = {name: loss.double() for name, loss in model.loss(batch, at(forced=False)).items()}
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)
    weights = list(model.parameters())
    slopes = [torch.autograd.grad((f["image"] * 10 + f["kl"]).sum(), weights) for f in (ours, plain)]
    torch.testing.assert_close(*slopes, atol=1e-5, rtol=1e-5)


@skips
def test_only_the_past_is_read_where_it_is_not_teacher_forced(last_frame_skip: bool) -> None:
    """True frames behind it are what is to be predicted, and reach the predictor in no other way."""
    model = z_is_always(small(last_frame_skip=last_frame_skip), 0.3)
    batch, past = a_batch(model), model.past
    other = batch.inputs["image"].clone()
    other[:, past:] = 1 - other[:, past:]
    changed_inputs = Batch({**batch.inputs, "image": other}, batch.targets, batch.mask)
    both = [[model.loss(b, at(forced))["image"] for b in (batch, changed_inputs)] for forced in (False, True)]
    torch.testing.assert_close(*both[0], atol=0, rtol=0)
    assert changed(*both[1]) == [t >= past for t in range(T)]


@networks
@skips
def test_the_past_is_always_teacher_forced(network: str, last_frame_skip: bool) -> None:
    model = small(network=network, last_frame_skip=last_frame_skip, past=3)
    batch = a_batch(model)
    forced, free = (model.loss(batch, at(forced)) for forced in (True, False))
    assert changed(forced["image"], free["image"]) == [t >= 3 for t in range(T)]
    assert changed(forced["kl"], free["kl"]) == [t >= 3 for t in range(T)]
    all_past = small(network=network, last_frame_skip=last_frame_skip, past=T)
    torch.testing.assert_close(*(all_past.loss(batch, at(forced)) for forced in (True, False)), atol=0, rtol=0)


@skips
def test_skips_come_from_the_frame_that_was_asked_for(last_frame_skip: bool) -> None:
    """A decoder that sees nothing but skips: its pictures change where their source does."""
    model = small(last_frame_skip=last_frame_skip)
    nn.init.zeros_(model.predictor.out.weight)
    batch = a_batch(model)
    shown = {**batch.inputs, "image": batch.inputs["image"].clone()}
    shown["image"][:, 3] = 1 - shown["image"][:, 3]
    before, after = (
        model.loss(Batch(inputs, batch.targets, batch.mask), at())["image"] for inputs in (batch.inputs, shown)
    )
    assert changed(before, after) == [last_frame_skip and t == 3 for t in range(T)]


@pytest.mark.parametrize("forced", [True, False])
@networks
def test_gradients_are_slopes(network: str, forced: bool) -> None:
    """Finite differences of the pictures' loss, in float64, along the gradient in the weights of each part."""
    model = small(network=network, channels=2, height=16, width=16).double()
    batch = in_float64(a_batch(model))
    for part in (model.encoder, model.decoder, model.posterior, model.predictor):
        weights = list(part.parameters())
        gradients = torch.autograd.grad(model.loss(batch, at(forced))["image"].mean(), weights)
        slope = float(torch.cat([g.flatten() for g in gradients]).norm())
        step, ends = 1e-7, []
        with torch.no_grad():
            for sign in (1, -2):
                for weight, gradient in zip(weights, gradients, strict=True):
                    weight += sign * step * gradient / slope
                ends.append(float(model.loss(batch, at(forced))["image"].mean()))
            for weight, gradient in zip(weights, gradients, strict=True):
                weight += step * gradient / slope
        assert slope > 1e-6
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(slope, rel=1e-3)


# --- imagining


def test_imagining_is_a_step_on_its_own_picture() -> None:
    """Shown the picture it expected, and told by the posterior what the prior had drawn, it is where imagining is."""
    model = small(last_frame_skip=True)
    seen, noise = model.example(B, 3), torch.randn(B, 3, *model.noise)
    _, state = model.unroll(seen, None, noise)
    given = {name: torch.rand(B, *model.shapes[name]) for name in model.conditions}
    # What the prior drew at the last step, and the noise with which the posterior says the same.
    encoded, _ = model.encoder(torch.cat((seen["image"].flatten(0, 1), state["image"])))
    own, encoded = encoded[-B:, None], encoded[:-B].unflatten(0, (B, 3))
    assert model.prior is not None
    prior, _ = model.prior(encoded)
    drawn = prior.sample(noise[:, :, 1])[:, -1:]
    posterior, _ = model.posterior(own, (state["posterior_h"], state["posterior_c"]))
    was = ((drawn - posterior.mean) / (posterior.log_variance / 2).exp())[:, 0]
    comes = torch.randn(B, 3)
    stepped, after = model.step({"image": state["image"], **given}, state, torch.stack((was, comes), 1))
    imagined, on = model.imagine(given, state, torch.stack((torch.full_like(was, 9.0), comes), 1))
    torch.testing.assert_close(imagined, stepped, atol=1e-5, rtol=1e-5)
    same = [name for name in after if not name.startswith(("posterior", "skip"))]
    torch.testing.assert_close({n: on[n] for n in same}, {n: after[n] for n in same}, atol=1e-5, rtol=1e-5)
    other, _ = model.step({"image": state["image"], **given}, state, torch.stack((was + 1, comes), 1))
    assert (other["image"] - stepped["image"]).abs().amax() > 1e-4


def test_skips_stay_those_of_the_last_true_frame() -> None:
    model = small()
    seen = model.example(B, 3)
    _, state = model.unroll(seen)
    _, after = model.imagine({name: seen[name][:, 0] for name in model.conditions}, state)
    _, of_frames = model.encoder(seen["image"][:, -1])
    for i, skip in enumerate(of_frames):
        torch.testing.assert_close(after[f"skip{i}"], skip, atol=1e-5, rtol=1e-5)


# --- what it is built for


@pytest.mark.parametrize(("widths", "streams"), [((0, 3), {"position"}), ((5, 0), {"action"}), ((0, 0), set())])
def test_a_width_of_0_does_without_the_stream(widths: tuple[int, int], streams: set[str]) -> None:
    model = small(action=widths[0], position=widths[1])
    assert set(model.inputs) == {"image", *streams}
    assert set(model.example(1, 1)) == set(model.inputs)
    batch = a_batch(model)
    for forced in (True, False):
        assert model.loss(batch, at(forced))["image"].isfinite().all()
    _, state = model.unroll(batch.inputs)
    frame, _ = model.imagine({name: batch.inputs[name][:, 0] for name in streams}, state)
    assert frame["image"].shape == (B, 3, 16, 32)


def test_what_it_cannot_be_built_for_is_named() -> None:
    for sides, told in (({"height": 24}, "24x32"), ({"width": 40}, "32x40")):
        with pytest.raises(SakiyomiError, match=f"multiples of 16, got {told}"):
            SVG(tiny(**sides))
    with pytest.raises(SakiyomiError, match="did you mean 'dcgan'"):
        SVG(tiny(network="dcgann"))
    with pytest.raises(SakiyomiError, match="did you mean 'frames'"):
        SVG(tiny(statistics="frame"))


def test_windows_without_anything_to_imagine_are_named() -> None:
    model = small(past=T + 1)
    with pytest.raises(SakiyomiError, match=rf"windows of {T} steps .* --data.steps.*\b{T + 1} or more"):
        model.loss(a_batch(model), at())


@pytest.mark.parametrize(("statistics", "forced"), [("step", True), ("frames", False)])
def test_a_batch_of_one_without_statistics_is_named(statistics: str, forced: bool) -> None:
    model = small(statistics=statistics)
    whole = a_batch(model)
    inputs, targets = ({k: v[:1] for k, v in streams.items()} for streams in (whole.inputs, whole.targets))
    one = Batch(inputs, targets, whole.mask[:1])
    assert model.loss(one, at(forced))["image"].isfinite().all()  # in evaluation it needs none
    with pytest.raises(SakiyomiError, match=r"--train\.batch-size, fewer --train\.shards"):
        model.train().loss(one, at(forced))
