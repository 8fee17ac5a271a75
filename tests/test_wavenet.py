"""WaveNet: what it hears and no more, the queue that says the same as stepping, and sound that it goes on with."""

import time

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sakiyomi.audio.wave import from_mu_law, mu_law
from sakiyomi.data.windows import Batch
from sakiyomi.errors import SakiyomiError
from sakiyomi.models.wavenet import WaveNet, gumbel
from sakiyomi.schedules import progress_at

B = 3
SMALL = WaveNet.Config(channels=8, skip=12, dilations=(1, 2, 4, 1, 3), quantisation=32, labels=2)


def fresh(config: WaveNet.Config = SMALL) -> WaveNet:
    """In float64, with weights large enough that everything it hears counts."""
    torch.manual_seed(0)
    model = WaveNet(config).double().eval()
    with torch.no_grad():
        for weights in model.parameters():
            weights *= 2
    return model


def labels(batch: int = B) -> Tensor:
    return functional.one_hot(torch.arange(batch) % 2, 2).double()


def heard(model: WaveNet, batch: int, steps: int) -> dict[str, Tensor]:
    samples = torch.randint(model.config.quantisation, (batch, steps))
    return {"sample": samples, "label": labels(batch)[:, None].expand(-1, steps, -1)}


def stepped(model: WaveNet, first: Tensor, steps: int, noise: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    state, sample, spoken = model.initial(len(first)), first, []
    for t in range(steps):
        prediction, state = model.step({"sample": sample, "label": labels(len(first))}, state)
        sample = (prediction["sample"] + noise[t]).argmax(-1)
        spoken.append(sample)
    return torch.stack(spoken, 1), state


def test_it_is_dilated_causal_convolutions() -> None:
    """As the paper has them: the same by PyTorch's convolutions, over a sound with silence before it."""
    model, seen = fresh(), heard(fresh(), B, 40)
    x, total = model.table(seen["sample"]).mT, 0
    label = seen["label"].mT
    parts = model.skips.weight.split(8, 1)
    for unit, part in zip(model.layers, parts, strict=True):
        taps = torch.stack((unit.ago.weight, unit.now.weight), -1)
        both = functional.conv1d(functional.pad(x, (unit.dilation, 0)), taps, unit.now.bias, dilation=unit.dilation)
        tanh, gate = (both + functional.conv1d(label, unit.told.weight[..., None])).chunk(2, 1)
        gated = tanh.tanh() * gate.sigmoid()
        total = total + functional.conv1d(gated, part[..., None])
        if unit.residual is not None:
            x = x + functional.conv1d(gated, unit.residual.weight[..., None])
    wanted = model.say((total + model.skips.bias[:, None]).mT)
    torch.testing.assert_close(model.unroll(seen)[0]["sample"], wanted)


def test_it_hears_so_far_back_and_no_further() -> None:
    model, seen = fresh(), heard(fresh(), 1, 30)
    assert model.hears == 12
    before, _ = model.unroll(seen)
    changed = {**seen, "sample": seen["sample"].clone()}
    changed["sample"][:, 5] = (seen["sample"][:, 5] + 1) % 32
    apart = (model.unroll(changed)[0]["sample"] - before["sample"]).abs().amax((0, 2))
    assert not apart[:5].any()
    assert (apart[5:17] > 1e-9).all()  # 12 samples, its own included
    assert not apart[17:].any()


def test_neighbouring_values_are_read_as_nearly_the_same() -> None:
    """Before it has learned anything, and values far apart as different ones."""
    table = WaveNet(WaveNet.Config(labels=2)).table.weight.detach()
    apart = torch.cdist(table, table)
    steps = torch.stack([apart.diagonal(step).mean() for step in (1, 2, 4, 8)])
    assert (steps.diff() > 0).all()
    assert steps[0] < 0.3 * apart.mean()


def test_the_usual_one_hears_a_sixteenth_of_a_second() -> None:
    assert WaveNet(WaveNet.Config(labels=2)).hears == 511  # at 8 kHz 64 ms


def test_the_label_is_told_to_every_layer() -> None:
    model, seen = fresh(), heard(fresh(), 1, 5)
    other = {**seen, "label": seen["label"].flip(-1)}
    whole = model.unroll(other)[0]["sample"] - model.unroll(seen)[0]["sample"]
    assert whole.abs().amax((0, 2)).gt(1e-3).all()
    for unit in model.layers:
        kept = unit.told.weight.data.clone()
        unit.told.weight.data.zero_()
        apart = model.unroll(other)[0]["sample"] - model.unroll(seen)[0]["sample"] - whole
        assert apart.abs().amax() > 1e-6
        unit.told.weight.data = kept


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_the_queue_says_what_stepping_says(temperature: float) -> None:
    """Sample for sample, and the same state; through many turns of every ring, and where one speech is two."""
    model, first, steps = fresh(), torch.tensor([3, 16, 31]), 75
    noise = temperature * gumbel((steps, B, 32), torch.device("cpu"), torch.Generator().manual_seed(1))
    wanted, end = stepped(model, first, steps, noise.double())
    given, generator = {"label": labels()}, torch.Generator().manual_seed(1)
    start = model.initial(B)
    spoken, state = model.speak(first, given, start, steps, temperature, generator)
    assert spoken.tolist() == wanted.tolist()
    torch.testing.assert_close(state, end)
    assert not any(queue.any() for queue in start.values())  # the state that was given is as it was
    generator.manual_seed(1)
    early, middle = model.speak(first, given, model.initial(B), 33, temperature, generator)
    late, end_of_two = model.speak(early[:, -1], given, middle, steps - 33, temperature, generator)
    assert torch.cat((early, late), 1).tolist() == wanted.tolist()
    torch.testing.assert_close(end_of_two, end)


def test_it_goes_on_from_what_it_heard() -> None:
    model, seen = fresh(), heard(fresh(), B, 20)
    spoken = seen["sample"]
    _, state = model.unroll({name: value[:, :-1] for name, value in seen.items()})
    new, _ = model.speak(spoken[:, -1], {"label": labels()}, state, 10, temperature=0)
    for _ in range(10):  # the whole again for each sample
        line = {"sample": spoken, "label": labels()[:, None].expand(-1, spoken.shape[1], -1)}
        spoken = torch.cat((spoken, model.unroll(line)[0]["sample"][:, -1:].argmax(-1)), 1)
    assert new.tolist() == spoken[:, 20:].tolist()


def test_draws_have_the_chances_the_model_says() -> None:
    """The first sample of many sounds, against softmax."""
    model, many = fresh(), 20_000
    first, given = torch.full((many,), 7), {"label": labels(2)[:1].expand(many, -1)}
    drawn, _ = model.speak(first, given, model.initial(many), 1, 1.0, torch.Generator().manual_seed(0))
    prediction, _ = model.step({"sample": first[:1], "label": given["label"][:1]}, model.initial(1))
    chances = prediction["sample"][0].softmax(-1)
    share = drawn[:, 0].bincount(minlength=32) / many
    deviation = (chances * (1 - chances) / many).sqrt()
    assert ((share - chances).abs() < 5 * deviation + 1e-9).all()


def test_a_sample_costs_the_same_however_long_the_sound_is() -> None:
    """What it keeps does not grow, and neither does the time; bounds are wide, for other processes may be at work."""
    model = fresh()
    state, sample, took, held = model.initial(1), torch.tensor([5]), [], []
    for _ in range(6):
        start = time.process_time()
        spoken, state = model.speak(sample, {"label": labels(1)}, state, 300, 1.0, torch.Generator().manual_seed(0))
        took.append(time.process_time() - start)
        sample = spoken[:, -1]
        held.append(sum(queue.numel() for queue in state.values()))
    assert set(held) == {sum(SMALL.dilations) * SMALL.channels}
    assert min(took[3:]) < 2 * min(took[:3])


def tones(steps: int) -> Tensor:
    """Two sounds, ids [2, steps]: waves of 16 and of 10 samples."""
    waves = [0.6 * np.sin(2 * np.pi * np.arange(steps) / period) for period in (16, 10)]
    return torch.from_numpy(mu_law(np.stack(waves), 32))


def test_it_learns_two_tones_and_says_the_one_it_is_told() -> None:
    torch.manual_seed(0)
    model = WaveNet(WaveNet.Config(channels=16, skip=32, dilations=(1, 2, 4, 8), quantisation=32, labels=2))
    told = labels(2).float()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    line, losses = tones(161), []
    seen = {"sample": line[:, :-1], "label": told[:, None].expand(-1, 160, -1)}
    batch = Batch(seen, {"sample": line[:, 1:], "label": seen["label"]}, torch.ones(2, 160))
    for step in range(120):
        loss = model.loss(batch, progress_at(step, 120, 0, torch.device("cpu")))["sample"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(np.log(32), abs=0.5)
    assert losses[-1] < 0.1
    assert (line[0, 0] == line[1, 0]).all()  # so it is the label alone that says which one comes
    for order in ([0, 1], [1, 0]):
        spoken, _ = model.speak(line[:, 0], {"label": told[order]}, model.initial(2), 160, temperature=0)
        off = from_mu_law(spoken.numpy(), 32) - from_mu_law(line[order, 1:].numpy(), 32)
        assert np.abs(off).mean() < 0.05


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: WaveNet(WaveNet.Config(dilations=(), labels=1)), "empty"),
        (lambda: WaveNet(WaveNet.Config(dilations=(1, 0), labels=1)), "at least 1"),
        (lambda: WaveNet(WaveNet.Config()), "labels"),
        (lambda: fresh().unroll({**heard(fresh(), 1, 3), "sample": torch.tensor([[1, 32, 3]])}), "mu-law"),
        (lambda: fresh().speak(torch.tensor([1]), {}, fresh().initial(1), 5), "'label' is missing"),
        (lambda: fresh().speak(torch.tensor([1]), {"label": labels(1)}, fresh().initial(1), 0), "at least 1"),
        (lambda: fresh().speak(torch.tensor([1]), {"label": labels(1)}, fresh().initial(1), 5, -1), "at least 0"),
    ],
)
def test_what_cannot_be_spoken_is_said(wrong, said: str) -> None:
    with pytest.raises(SakiyomiError, match=said):
        wrong()


def test_noise_is_drawn_alike_in_pieces() -> None:
    whole = gumbel((6, 2, 4), torch.device("cpu"), torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    pieces = [gumbel((2, 2, 4), torch.device("cpu"), generator) for _ in range(3)]
    assert torch.equal(torch.cat(pieces), whole)
