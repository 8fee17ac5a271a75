"""The published arithmetic of the models of sound, written plainly.

WaveNet (van den Oord et al. 2016) and the causal recogniser: convolutions over [B, C, T]; to go on, everything that a
sample or a frame depends on is computed anew. BLSTM: LSTM cells, frame by frame in both directions, and torch's CTC.
"""

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.published.arm import cell, ours
from benchmarks.side_by_side import Sides, total, training
from sakiyomi.data.vocabulary import PAD
from sakiyomi.data.windows import Batch
from sakiyomi.models import BLSTMRecognizer, ConvRecognizer, WaveNet
from sakiyomi.models.recognizer import Hide

OPEN = Hide(times=0, bands=0)


def wavenet(quick: bool = False) -> Sides:
    """The sizes of the preset `say-digits`."""
    batch, steps = (2, 40) if quick else (4, 6000)
    model = voice(quick)
    values = model.example(batch, steps + 1)
    inputs = {"sample": values["sample"][:, :-1], "label": values["label"][:, :-1]}
    data = Batch(inputs, {"sample": values["sample"][:, 1:]}, torch.ones(batch, steps))

    def published(one: WaveNet) -> Tensor:
        logits = convolved(one, inputs["sample"], inputs["label"])
        nats = functional.cross_entropy(logits, data.targets["sample"], reduction="none")
        return total({"sample": nats}, data.mask)

    title = f"WaveNet, {len(model.layers)} layers, batch {batch} x {steps}"
    return training(title, batch * steps, model, published, lambda one: ours(one, data))


def wavenet_speaking(quick: bool = False) -> Sides:
    """Some samples in one voice, the likeliest each; what was said before is in our state already."""
    model, count = voice(quick).eval(), 4 if quick else 20
    heard = model.example(1, model.hears + 1)
    label = heard["label"][:, :1].expand(-1, model.hears + count, -1)
    before = {"sample": heard["sample"][:, :-1], "label": label[:, : model.hears]}
    last, given = heard["sample"][:, -1], {"label": label[:, 0]}
    with torch.no_grad():
        _, begun = model.unroll(before)

    @torch.no_grad()
    def published() -> Tensor:
        line = heard["sample"]
        for _ in range(count):
            window = line[:, -model.hears :]
            sample = convolved(model, window, label[:, : model.hears])[..., -1].argmax(1)
            line = torch.cat((line, sample[:, None]), 1)
        return line[:, -count:]

    def agree() -> dict[str, float]:
        theirs, mine = published(), model.speak(last, given, begun, count, 0.0)[0]
        with torch.no_grad():
            window = heard["sample"][:, -model.hears :]
            logits = convolved(model, window, label[:, : model.hears])[..., -1]
            stepped = model.step({"sample": last, **given}, begun)[0]["sample"]
        apart = (logits - stepped).abs().max() / logits.abs().max()
        return {"samples": float((theirs != mine).float().mean()), "logits": float(apart)}

    ways = {"published": published, "ours, float32": lambda: model.speak(last, given, begun, count, 0.0)}
    return Sides(f"WaveNet, {len(model.layers)} layers, speaking {count} samples", count, ways, agree)


def blstm(quick: bool = False) -> Sides:
    """The sizes of the preset `an4`."""
    batch, steps, features, units = (2, 12, 5, 8) if quick else (16, 300, 26, 192)
    torch.manual_seed(0)
    model = BLSTMRecognizer(BLSTMRecognizer.Config(features, 30, units, dropout=0.0, hide=OPEN))
    lengths = torch.linspace(steps // 2, steps, batch).long()
    mask = (torch.arange(steps) < lengths[:, None]).float()
    said = torch.randint(PAD + 1, 30, (batch, steps // 6))
    data = Batch({"feature": torch.randn(batch, steps, features)}, {"transcript": said}, mask)

    def published(one: BLSTMRecognizer) -> Tensor:
        spoken = read_both_ways(one, data.inputs["feature"], mask).log_softmax(-1).transpose(0, 1)
        short = torch.full((batch,), said.shape[1])
        nats = functional.ctc_loss(spoken, said, lengths, short, blank=PAD, reduction="none")
        return total({"transcript": (nats / lengths)[:, None].expand_as(mask)}, mask)

    title = f"BLSTMRecognizer, {units} units, batch {batch} x {steps}"
    return training(title, batch * steps, model, published, lambda one: ours(one, data))


def conv_listening(quick: bool = False) -> Sides:
    """One speaker, frame by frame: the sizes of the preset `spoken-digits`."""
    features, channels, count = (5, 8, 4) if quick else (40, 96, 50)
    torch.manual_seed(0)
    model = ConvRecognizer(ConvRecognizer.Config(features, 14, channels, hide=OPEN)).eval()
    frames = torch.randn(1, model.hears + count, features)
    with torch.no_grad():
        _, begun = model.unroll({"feature": frames[:, : model.hears]})

    @torch.no_grad()
    def published() -> Tensor:
        ends = range(model.hears + 1, model.hears + count + 1)
        heard = (frames[:, end - model.hears : end] for end in ends)
        return torch.stack([model.unroll({"feature": window})[0]["transcript"][:, -1] for window in heard], 1)

    @torch.no_grad()
    def stepped() -> Tensor:
        state, said = begun, []
        for t in range(model.hears, model.hears + count):
            prediction, state = model.step({"feature": frames[:, t]}, state)
            said.append(prediction["transcript"])
        return torch.stack(said, 1)

    def agree() -> dict[str, float]:
        theirs = published()
        return {"logits": float((theirs - stepped()).abs().max() / theirs.abs().max())}

    title = f"ConvRecognizer, {channels} channels, hearing {count} frames"
    return Sides(title, count, {"published": published, "ours, float32": stepped}, agree)


def voice(quick: bool) -> WaveNet:
    torch.manual_seed(0)
    if quick:
        return WaveNet(WaveNet.Config(channels=8, skip=8, dilations=(1, 2, 4), labels=3))
    near, far = tuple(2**n for n in range(5)), tuple(2**n for n in range(11))
    return WaveNet(WaveNet.Config(channels=64, skip=128, dilations=far + near, labels=15))


def convolved(model: WaveNet, samples: Tensor, label: Tensor) -> Tensor:
    """Samples [B, T] and labels [B, T, L] -> logits [B, Q, T]: dilated convolutions, each with its own skip."""
    x, told = model.table(samples).transpose(1, 2), label.transpose(1, 2)
    out = model.skips.bias[:, None]
    skips = model.skips.weight.split(model.config.channels, 1)
    for unit, skip in zip(model.layers, skips, strict=True):
        taps = torch.stack((unit.ago.weight, unit.now.weight), -1)
        both = functional.conv1d(functional.pad(x, (unit.dilation, 0)), taps, unit.now.bias, dilation=unit.dilation)
        a, b = (both + functional.conv1d(told, unit.told.weight[..., None])).chunk(2, 1)
        gated = a.tanh() * b.sigmoid()
        out = out + functional.conv1d(gated, skip[..., None])
        if unit.residual is not None:
            x = x + functional.conv1d(gated, unit.residual.weight[..., None])
    return model.say(out.transpose(1, 2)).transpose(1, 2)


def read_both_ways(model: BLSTMRecognizer, frames: Tensor, mask: Tensor) -> Tensor:
    """Frames [B, T, C] -> logits [B, T, V]; in padding a memory stays as it was."""
    x, steps = frames, range(frames.shape[1])
    for forth, back in zip(model.forth, model.back, strict=True):
        sides = []
        for lstm, order in ((forth, steps), (back, reversed(steps))):
            h = c = x.new_zeros(len(x), model.config.channels)
            states = {}
            for t in order:
                real = mask[:, t, None] > 0
                moved = cell(lstm, x[:, t], (h, c))  # pyright: ignore[reportArgumentType]
                h, c = torch.where(real, moved[0], h), torch.where(real, moved[1], c)
                states[t] = h
            sides.append(torch.stack([states[t] for t in steps], 1))
        x = torch.cat(sides, -1)
    return model.say(x)
