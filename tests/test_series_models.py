"""Models of sensor series: what their windows hold, what their losses teach. The contract itself is test_models.py."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sakiyomi.data.episodes import Stream
from sakiyomi.data.windows import Batch
from sakiyomi.errors import SakiyomiError
from sakiyomi.job import Job, ModelConfig, build, check
from sakiyomi.layers.sliding import beginning, slide, tiles
from sakiyomi.models import LSTMAE, LSTMVAE, SVG, Forecaster, WindowAE
from sakiyomi.models.base import Fitted, Latent
from sakiyomi.schedules import progress_at

W = 5
WINDOWED = {
    "WindowAE": WindowAE.Config(channels=2, window=W, hidden=8, latent=3),
    "LSTMAE": LSTMAE.Config(channels=2, window=W, hidden=8, latent=3),
    "LSTMVAE": LSTMVAE.Config(channels=2, window=W, hidden=8, latent=3),
}
PROGRESS = progress_at(0, 10, 0, torch.device("cpu"))


@pytest.fixture(params=WINDOWED)
def windowed(request: pytest.FixtureRequest) -> WindowAE | LSTMAE | LSTMVAE:
    torch.manual_seed(0)
    return build(WINDOWED[request.param])  # pyright: ignore[reportReturnType]


def whole(model: WindowAE | LSTMAE | LSTMVAE, windows: Tensor) -> Tensor:
    """Windows [N, W, C] as the model gives them back."""
    if isinstance(model, WindowAE):
        return model.out(model.decoder(model.encoder(windows.flatten(1)))).unflatten(1, windows.shape[1:])
    codes = model.posterior(windows).mean if isinstance(model, LSTMVAE) else model.encoder(windows)
    return model.decoder(codes, W)


def silence(model: WindowAE | LSTMAE | LSTMVAE) -> None:
    """Almost no noise: z is its mean."""
    if isinstance(model, LSTMVAE):
        model.encoder.out.bias.data[3:] = -60
        model.encoder.out.weight.data[3:] = 0


def batch_of(values: Tensor, lengths: tuple[int, ...] | None = None) -> Batch:
    """Values [B, T + 1, C], of which the first `lengths` steps are real."""
    steps = values.shape[1] - 1
    mask = torch.tensor([[float(t < length) for t in range(steps)] for length in lengths or [steps] * len(values)])
    return Batch({"value": values[:, :-1]}, {"value": values[:, 1:]}, mask)


def test_a_window_is_the_last_values_and_begins_with_the_first_one() -> None:
    values = torch.arange(1.0, 8.0).view(1, 7, 1)
    windows, state = slide(values, beginning(1, 3, 1, values))
    assert windows[0, :, :, 0].tolist() == [
        *([1.0, 1.0, 1.0], [1.0, 1.0, 2.0], [1.0, 2.0, 3.0], [2.0, 3.0, 4.0]),
        *([3.0, 4.0, 5.0], [4.0, 5.0, 6.0], [5.0, 6.0, 7.0]),
    ]
    assert state["window"].flatten().tolist() == [5.0, 6.0, 7.0]
    assert state["seen"].item() == 3


def test_a_series_that_has_begun_is_not_begun_again() -> None:
    """In one batch, one series that has and one that has not; a window of zeros is a window like any other."""
    state = beginning(2, 3, 1, torch.zeros(1))
    state["seen"][0] = 2.0
    windows, _ = slide(torch.full((2, 1, 1), 7.0), state)
    assert windows[:, 0, :, 0].tolist() == [[0.0, 0.0, 7.0], [7.0, 7.0, 7.0]]


@pytest.mark.parametrize("steps", [1, 4, 5, 6, 10, 13])
@pytest.mark.parametrize("length", [1, 3, 5, 8, 13])
def test_every_real_step_counts_once_in_a_window_of_real_values(steps: int, length: int) -> None:
    length = min(length, steps)
    values = torch.arange(steps, dtype=torch.float32).view(1, steps, 1)
    values[:, length:] = torch.nan  # the padding
    mask = (torch.arange(steps) < length).float()[None]
    cut = tiles(values, mask, W)
    assert cut.windows.shape == (1, math.ceil(steps / W), W, 1)
    assert cut.windows.isfinite().all()
    assert cut.steps(cut.windows[..., 0])[0, :length].tolist() == list(range(length))
    ends = cut.whole(cut.windows[:, :, -1])[0, :length, 0]  # of the window each step counts in
    for step, end in enumerate(ends.tolist()):
        assert step <= end < step + W
    if length >= W:
        assert (cut.windows[0, :, 1:] > cut.windows[0, :, :-1]).all()  # none is filled up
    assert ends[-1] == length - 1


def test_what_it_says_of_a_value_is_the_end_of_what_it_says_of_the_window(
    windowed: WindowAE | LSTMAE | LSTMVAE,
) -> None:
    values = torch.rand(3, 9, 2)
    predictions, _ = windowed.unroll({"value": values})
    windows, _ = slide(values, windowed.initial(3))
    expected = whole(windowed, windows.flatten(0, 1))[:, -1].unflatten(0, (3, 9))
    torch.testing.assert_close(predictions["value"], expected)
    assert predictions["latent"].shape == (3, 9, 3)
    assert windowed.ahead == 0
    assert windowed.warmup == W - 1


def test_a_sequence_of_one_window_teaches_that_window(windowed: WindowAE | LSTMAE | LSTMVAE) -> None:
    values = torch.rand(4, W + 1, 2)
    silence(windowed)
    expected = (whole(windowed, values[:, :-1]) - values[:, :-1]).square().mean(2)
    torch.testing.assert_close(windowed.loss(batch_of(values), PROGRESS)["value"], expected)


def test_a_short_sequence_is_filled_up_as_it_is_in_use(windowed: WindowAE | LSTMAE | LSTMVAE) -> None:
    silence(windowed)
    values = torch.rand(1, 4, 2)
    loss = windowed.loss(batch_of(values, (3,)), PROGRESS)["value"]
    predictions, _ = windowed.unroll({"value": values[:, :3]})
    assert loss[0, 2].item() == pytest.approx((predictions["value"] - values[:, :3]).square().mean(2)[0, 2].item())


@pytest.mark.parametrize("config", [*WINDOWED.values(), Forecaster.Config(channels=2)])
def test_channels_come_from_the_recordings(config: ModelConfig) -> None:
    kind = type(build(config))
    assert issubclass(kind, Fitted)
    streams = {"value": Stream("scalar", (3,), "float32", 1.0)}
    assert kind.fitted(type(config)(), streams).channels == 3
    assert kind.fitted(config, streams) == config
    with pytest.raises(SakiyomiError, match=r"--model\.channels is 0"):
        build(kind.fitted(type(config)(), {}))


def test_only_a_width_that_recordings_can_tell_may_be_left_open() -> None:
    check(Job(WindowAE.Config(channels=0)))
    for config in (WindowAE.Config(channels=-1), SVG.Config(channels=0), LSTMAE.Config(window=1)):
        with pytest.raises(SakiyomiError, match="it must be at least"):
            check(Job(config))


def test_the_window_autoencoder_is_the_published_one() -> None:
    model = WindowAE(WindowAE.Config(channels=1))
    layers = [tuple(layer.weight.shape) for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    assert layers == [(128, 180), (64, 128), (128, 64), (180, 128)]


def test_the_code_is_worth_what_its_divergence_says() -> None:
    model = LSTMVAE(LSTMVAE.Config(channels=2, window=W, hidden=8, latent=3))
    assert isinstance(model, Latent)
    batch = batch_of(torch.rand(2, 9, 2))
    kl = model.loss(batch, PROGRESS)["kl"]
    torch.testing.assert_close(model.usage(batch).sum(2), kl)
    assert len(kl[0].unique()) == 2  # of two windows
    model.encoder.out.weight.data.zero_()
    model.encoder.out.bias.data.zero_()
    assert model.loss(batch, PROGRESS)["kl"].abs().max() == 0  # it says nothing


def test_the_mean_learns_from_its_error_alone() -> None:
    model = Forecaster(Forecaster.Config(channels=2, hidden=8))
    batch = batch_of(torch.rand(2, 9, 2))
    losses = model.loss(batch, PROGRESS)
    mean = [*model.lstm.parameters(), *model.change.parameters()]
    taught = torch.autograd.grad(losses["nll"].mean(), mean, allow_unused=True, retain_graph=True)
    assert all(gradient is None or not gradient.any() for gradient in taught)
    deviation = [*model.deviation.parameters()]
    assert all(gradient.any() for gradient in torch.autograd.grad(losses["nll"].mean(), deviation, retain_graph=True))
    taught = torch.autograd.grad(losses["value"].mean(), deviation, allow_unused=True)
    assert all(gradient is None for gradient in taught)


def test_it_never_says_less_than_its_floor() -> None:
    model = Forecaster(Forecaster.Config(channels=2, hidden=8, floor=0.03))
    torch.nn.init.constant_(model.deviation[-1].bias, -50.0)  # pyright: ignore[reportArgumentType]
    predictions, _ = model.unroll({"value": torch.rand(2, 9, 2)})
    torch.testing.assert_close(predictions["value.deviation"], torch.full((2, 9, 2), 0.03))


def test_what_it_foresees_is_a_change() -> None:
    model = Forecaster(Forecaster.Config(channels=2, hidden=8))
    values = 100 * torch.rand(2, 9, 2)
    model.change.weight.data.zero_()
    model.change.bias.data.zero_()
    torch.testing.assert_close(model.unroll({"value": values})[0]["value"], values, rtol=0, atol=0)
    model.change.bias.data.fill_(0.5)
    torch.testing.assert_close(model.unroll({"value": values})[0]["value"], values + 0.5)


def test_the_likelihood_is_torchs() -> None:
    model = Forecaster(Forecaster.Config(channels=2, hidden=8))
    batch = batch_of(torch.rand(2, 9, 2))
    predictions, _ = model.unroll(batch.inputs)
    mean, deviation = predictions["value"], predictions["value.deviation"]
    assert (deviation >= 0.01).all()
    expected = functional.gaussian_nll_loss(
        mean, batch.targets["value"], deviation.square(), full=True, reduction="none"
    )
    torch.testing.assert_close(model.loss(batch, PROGRESS)["nll"], expected.mean(2))


def test_it_learns_when_it_cannot_know() -> None:
    """A wave whose noise comes and goes with it: both the next value and how far off it may be are learned."""
    torch.manual_seed(0)
    clock = torch.arange(4001) * (2 * math.pi / 20)
    deviation = 0.05 + 0.45 * (clock.sin() > 0)
    series = (clock.cos() + deviation * torch.randn(len(clock)))[None, :, None]
    model = Forecaster(Forecaster.Config(channels=1, hidden=16))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    pieces = batch_of(torch.cat([series[:, first : first + 101] for first in range(0, 3900, 100)]))
    for _ in range(150):
        losses = model.loss(pieces, PROGRESS)
        optimizer.zero_grad()
        sum(loss.mean() for loss in losses.values()).backward()  # pyright: ignore[reportAttributeAccessIssue]
        optimizer.step()
    with torch.no_grad():
        predictions, _ = model.unroll({"value": series[:, :-1]})
    said, off = predictions["value.deviation"][0, 100:, 0], (predictions["value"] - series[:, 1:])[0, 100:, 0]
    true = deviation[101:]
    assert off.square().mean().sqrt() < 1.25 * true.square().mean().sqrt()  # of what is left to chance
    assert said[true > 0.4].mean() > 2 * said[true < 0.1].mean()
    assert 0.75 < (off / said).square().mean().sqrt() < 1.25
