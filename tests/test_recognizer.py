"""Recognisers: the law in float32 at full size, what is padding, the loss against every path, and that they learn."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from sakiyomi.data.utterances import real_frames
from sakiyomi.data.vocabulary import PAD
from sakiyomi.data.windows import Batch
from sakiyomi.errors import SakiyomiError
from sakiyomi.layers.ctc import best_path, collapse
from sakiyomi.models import BLSTMRecognizer, ConvRecognizer
from sakiyomi.models.recognizer import Hide, hiding
from sakiyomi.schedules import Progress, progress_at

CPU = torch.device("cpu")
NOTHING = Hide(times=0, bands=0)
Recogniser = ConvRecognizer | BLSTMRecognizer


def made(kind: str, **changes: object) -> Recogniser:
    """A small one in evaluation mode; what it says differs from frame to frame more than in a fresh network."""
    torch.manual_seed(0)
    sizes = {"features": 4, "words": 7, "channels": 6, "dropout": 0.0, **changes}
    if kind == "conv":
        model = ConvRecognizer(ConvRecognizer.Config(**{"dilations": (1, 2), **sizes}))  # pyright: ignore[reportArgumentType]
    else:
        model = BLSTMRecognizer(BLSTMRecognizer.Config(**sizes))  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        model.say.weight *= 5
    return model.eval()


kinds = pytest.mark.parametrize("kind", ["conv", "blstm"])


def progress(step: int = 0, training: bool = False) -> Progress:
    return progress_at(step, 10, 0, CPU, training)


def batch_of(features: Tensor, said: list[list[int]], lengths: list[int]) -> Batch:
    rows = torch.full((len(said), max(map(len, said))), PAD)
    for row, labels in zip(rows, said, strict=True):
        row[: len(labels)] = torch.tensor(labels, dtype=torch.long)
    return Batch({"feature": features}, {"transcript": rows}, real_frames(lengths))


def test_unroll_equals_stepping_at_full_size() -> None:
    """The preset's network in float32, in pieces and frame by frame; the contract holds it in float64, small."""
    torch.manual_seed(0)
    model = ConvRecognizer(ConvRecognizer.Config(features=26, words=14)).eval()
    frames = torch.randn(2, 80, 26)
    whole, end = model.unroll({"feature": frames})
    state, steps = model.initial(2), []
    for t in range(80):
        prediction, state = model.step({"feature": frames[:, t]}, state)
        steps.append(prediction["transcript"])
    torch.testing.assert_close(torch.stack(steps, 1), whole["transcript"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state, end, atol=1e-5, rtol=1e-5)
    state, pieces = model.initial(2), []
    for piece in frames.split((1, 30, 7, 42), 1):
        prediction, state = model.unroll({"feature": piece}, state)
        pieces.append(prediction["transcript"])
    torch.testing.assert_close(torch.cat(pieces, 1), whole["transcript"], atol=1e-5, rtol=1e-5)


def test_it_hears_as_far_back_as_it_says() -> None:
    """A frame counts for the ones from it on, `hears` of them and no more."""
    model = made("conv").double()
    assert isinstance(model, ConvRecognizer)
    assert model.hears == 1 + 2 * (1 + 2)
    frames = torch.randn(1, 20, 4, dtype=torch.float64, requires_grad=True)
    model.unroll({"feature": frames})[0]["transcript"][0, 15].square().sum().backward()
    assert frames.grad is not None
    reached = (frames.grad[0].abs().sum(1) > 0).tolist()
    assert reached == [15 - model.hears < t <= 15 for t in range(20)]


def test_a_blstm_hears_both_ends() -> None:
    model, frames = made("blstm"), torch.randn(1, 12, 4, requires_grad=True)
    model.unroll({"feature": frames})[0]["transcript"][0, 5].square().sum().backward()
    assert frames.grad is not None
    assert (frames.grad[0].abs().sum(1) > 0).all()


def test_a_blstm_does_not_hear_padding() -> None:
    """What follows the real frames changes nothing, and neither does company of longer utterances."""
    model, frames = made("blstm"), torch.randn(3, 12, 4)
    assert isinstance(model, BLSTMRecognizer)
    lengths = torch.tensor([12, 7, 1])
    together, _ = model.unroll({"feature": frames}, frames=lengths)
    for row, length in enumerate(lengths.tolist()):
        alone, _ = model.unroll({"feature": frames[row : row + 1, :length]})
        torch.testing.assert_close(together["transcript"][row, :length], alone["transcript"][0], atol=1e-6, rtol=1e-5)


@kinds
def test_the_loss_is_of_every_path_that_says_it(kind: str) -> None:
    """Summed over all 7^4 paths of four frames, and spread over them; also where one is padding."""
    model, features = made(kind), torch.randn(2, 4, 4)
    said, lengths = [[4, 4], [5]], [4, 3]
    losses = model.loss(batch_of(features, said, lengths), progress())["transcript"]
    assert losses.shape == (2, 4)
    for row, (labels, length) in enumerate(zip(said, lengths, strict=True)):
        logits = model.unroll({"feature": features[row : row + 1, :length]})[0]["transcript"][0]
        chances = logits.log_softmax(-1).exp().tolist()
        paths = itertools.product(range(7), repeat=length)
        total = sum(
            math.prod(chances[t][symbol] for t, symbol in enumerate(path))
            for path in paths
            if collapse(path, PAD) == labels
        )
        torch.testing.assert_close(losses[row], torch.full((4,), -math.log(total) / length), atol=1e-5, rtol=1e-5)


@kinds
def test_silence_may_be_said(kind: str) -> None:
    """An utterance without labels costs what blanks cost."""
    model, features = made(kind), torch.randn(1, 5, 4)
    loss = model.loss(batch_of(features, [[]], [5]), progress())["transcript"]
    blanks = model.unroll({"feature": features})[0]["transcript"].log_softmax(-1)[0, :, PAD]
    torch.testing.assert_close(loss[0, 0], -blanks.mean(), atol=1e-6, rtol=1e-5)


@kinds
def test_a_transcript_longer_than_its_frames_is_refused(kind: str) -> None:
    """Two labels alike need a blank between them."""
    features = torch.randn(2, 3, 4)
    made(kind).loss(batch_of(features, [[4, 5, 6], [4, 4]], [3, 3]), progress())
    with pytest.raises(SakiyomiError, match="sequence 1 is longer than its frames"):
        made(kind).loss(batch_of(features, [[4, 5, 6], [4, 4, 5]], [3, 3]), progress())


# ---- What is hidden


def test_nothing_is_hidden_but_in_training() -> None:
    features, mask = torch.randn(2, 50, 20), torch.ones(2, 50)
    assert hiding(features, mask, Hide(), progress()) is features
    torch.testing.assert_close(hiding(features, mask, NOTHING, progress(training=True)), features, atol=0, rtol=0)


def test_stretches_and_bands_are_hidden_and_no_more() -> None:
    """Whole frames and whole channels, at most as many as asked; what is not hidden stays; each step other ones."""
    features, lengths = torch.randn(8, 100, 20), [100, 100, 100, 100, 50, 50, 20, 20]
    mask, how, seen = real_frames(lengths), Hide(times=2, frames=0.1, bands=1, width=0.25), []
    for step in range(20):
        out = hiding(features, mask, how, progress(step, training=True))
        gone = out == 0
        torch.testing.assert_close(out[~gone], features[~gone], atol=0, rtol=0)
        frames, channels = gone.all(2), gone.all(1)
        assert torch.equal(gone, frames[:, :, None] | channels[:, None])
        assert (frames.sum(1) <= 2 * (0.1 * torch.tensor(lengths) + 1)).all()
        assert (channels.sum(1) <= 0.25 * 20 + 1).all()
        seen.append(gone)
    hidden = torch.stack(seen).float()
    assert 0.5 * 0.1 < hidden.mean() < 0.5 * (0.2 + 0.25)  # on average about half of the most
    assert len({gone.numpy().tobytes() for gone in seen}) == 20


def test_what_is_hidden_follows_from_the_lengths_and_the_step() -> None:
    mask = real_frames([30, 20])
    outs = [hiding(torch.randn(2, 30, 10), mask, Hide(), progress(3, training=True)) == 0 for _ in range(2)]
    assert torch.equal(*outs)


# ---- Learning


def spoken(count: int, seed: int) -> Batch:
    """Three kinds of bumps in noise, each 2 to 4 frames long, with gaps between them."""
    random = torch.Generator().manual_seed(seed)

    def drawn(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=random))

    features, said = 0.3 * torch.randn(count, 40, 4, generator=random), []
    for row in range(count):
        labels, at = [], drawn(1, 4)
        while at < 34 and len(labels) < 5:
            label, lasts = drawn(4, 7), drawn(2, 5)
            features[row, at : at + lasts, label - 4] += 1.5
            labels.append(label)
            at += lasts + drawn(2, 6)
        said.append(labels)
    return batch_of(features, said, [40] * count)


@kinds
def test_it_learns_what_comes_in_which_order(kind: str) -> None:
    """From labels without times; of sequences it has not seen, nine of ten without a mistake."""
    model = made(kind, channels=24, hide=NOTHING).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(120):
        loss = model.loss(spoken(16, step), progress(step, training=True))["transcript"].mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    held = spoken(60, 1000)
    with torch.no_grad():
        said = model.eval().unroll(held.inputs)[0]["transcript"].log_softmax(-1)
    true = [[label for label in row if label != PAD] for row in held.targets["transcript"].tolist()]
    right = [best_path(line, PAD) == labels for line, labels in zip(said, true, strict=True)]
    assert sum(right) / len(right) > 0.9
