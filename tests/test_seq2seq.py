"""Seq2Seq: the published arithmetic, PAD, its own words in training, and that it learns to look where it should."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_models import unroll_is_stepping
from torch import Tensor
from torch.nn import functional

from benchmarks.published.seq2seq import plain_loss
from sakiyomi.data.episodes import Stream
from sakiyomi.data.texts import padded
from sakiyomi.data.vocabulary import BOS, EOS, PAD, SPECIAL, Vocabulary
from sakiyomi.data.windows import Batch
from sakiyomi.errors import SakiyomiError
from sakiyomi.models import Seq2Seq, Streams
from sakiyomi.run import load_checkpoint, moments_here, restore, save_checkpoint
from sakiyomi.schedules import progress_at

CPU = torch.device("cpu")
FIRST = len(SPECIAL)  # the first number that is a word
KINDS = {
    "no attention": {},
    "attention": {"attention": True},
    "two layers": {"attention": True, "layers": 2},
    "shared words": {"attention": True, "share": True},
}
kinds = pytest.mark.parametrize("kind", KINDS)
attention = pytest.mark.parametrize("attention", [False, True], ids=["no attention", "attention"])
LENGTHS = ((5, 3), (2, 6), (1, 1), (4, 4))  # words of each source and of its target, both with EOS


def small(**changes: object) -> Seq2Seq:
    """In float64 and evaluation mode; what is read weighs more than in a fresh network."""
    torch.manual_seed(0)
    sizes = {"source_words": 9, "target_words": 11, "embedding": 6, "hidden": 8}
    model = Seq2Seq(Seq2Seq.Config(**{**sizes, **changes})).double()  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        for weight in model.parameters():
            weight *= 2
        model.often.normal_()
    return model.eval()


def a_batch(source_words: int = 9, target_words: int = 11) -> Batch:
    """Sentences of `LENGTHS`, as `Sentences` makes them."""
    torch.manual_seed(1)
    rows = [(sentence(s, source_words), sentence(t, target_words)) for s, t in LENGTHS]
    return batch_of([source for source, _ in rows], [said for _, said in rows])


def sentence(length: int, words: int) -> Tensor:
    return torch.cat((torch.randint(FIRST, words, (length - 1,)), torch.tensor([EOS])))


def batch_of(sources: list[Tensor], targets: list[Tensor]) -> Batch:
    source, said = (padded([row.numpy() for row in rows]) for rows in (sources, targets))
    read = torch.where(said == EOS, PAD, said)[:, :-1]
    target = torch.cat((torch.full((len(said), 1), BOS), read), 1)
    return Batch({"source": source, "target": target}, {"target": said}, (said != PAD).float())


def mean(losses: dict[str, Tensor], batch: Batch, name: str = "target") -> Tensor:
    return (losses[name] * batch.mask).sum() / batch.mask.sum()


@kinds
def test_unroll_equals_stepping(kind: str) -> None:
    """The contract holds it for the defaults."""
    unroll_is_stepping(small(**KINDS[kind]))


@attention
@pytest.mark.parametrize("share", [False, True], ids=["own", "shared"])
def test_it_is_the_loop_over_time(attention: bool, share: bool) -> None:
    """The same loss and the same gradients as word by word, PAD and smoothing and all."""
    model, batch = small(attention=attention, share=share), a_batch()
    losses = model.loss(batch, progress_at(0, 10, 0, CPU))
    smoothed = 0.9 * mean(losses, batch) + 0.1 * (mean(losses, batch, "uniform") + math.log(11))
    totals = (smoothed, plain_loss(model, batch, smoothing=0.1))
    results = [(total, torch.autograd.grad(total, list(model.parameters()))) for total in totals]
    torch.testing.assert_close(*results, atol=1e-9, rtol=1e-9)


@kinds
def test_pad_changes_nothing(kind: str) -> None:
    """Neither more PAD, nor company of longer sentences."""
    model, batch = small(**KINDS[kind]), a_batch()
    seen = batch.inputs
    together, state = model.unroll(seen)
    longer = functional.pad(seen["source"], (0, 3), value=PAD)
    more, later = model.unroll({**seen, "source": longer})
    torch.testing.assert_close(more, together, atol=1e-12, rtol=0)
    torch.testing.assert_close(later["hidden"], state["hidden"], atol=1e-12, rtol=0)
    for b, (words, _) in enumerate(LENGTHS):
        alone, _ = model.unroll({"source": seen["source"][b : b + 1, :words], "target": seen["target"][b : b + 1]})
        torch.testing.assert_close(alone["target"][0], together["target"][b], atol=1e-12, rtol=0)


@attention
def test_a_source_of_padding_alone_is_read(attention: bool) -> None:
    """And does not touch its neighbours."""
    model, seen = small(attention=attention), a_batch().inputs
    before, _ = model.unroll(seen)
    after, _ = model.unroll(
        {**seen, "source": torch.cat((seen["source"][:-1], torch.full_like(seen["source"][-1:], PAD)))}
    )
    assert after["target"].isfinite().all()
    torch.testing.assert_close(after["target"][:-1], before["target"][:-1], atol=1e-12, rtol=0)


@kinds
def test_what_follows_changes_nothing_before(kind: str) -> None:
    model, seen = small(**KINDS[kind]), a_batch().inputs
    before, _ = model.unroll(seen)
    after, _ = model.unroll({**seen, "target": torch.cat((seen["target"][:, :3], 10 - seen["target"][:, 3:]), 1)})
    torch.testing.assert_close(after["target"][:, :3], before["target"][:, :3], atol=0, rtol=0)
    assert (after["target"][:, 3:] - before["target"][:, 3:]).abs().amax() > 1e-3


@kinds
def test_every_word_of_the_source_is_told_of_the_last_word(kind: str) -> None:
    """Gradients go from the end of the target to each word of the source, and not to PAD."""
    model = small(**KINDS[kind])
    source = torch.tensor([[4, 5, 6, 7, EOS, PAD]])
    prediction, _ = model.unroll({"source": source, "target": torch.tensor([[BOS, 4, 5, 6]])})
    prediction["target"][0, -1].square().sum().backward()
    assert model.source.table.weight.grad is not None
    reached = (model.source.table.weight.grad.abs().sum(1) > 1e-9).tolist()
    assert reached == [word in (4, 5, 6, 7, EOS) for word in range(9)]


@kinds
def test_without_a_teacher_it_reads_its_own_words(kind: str) -> None:
    model, batch = small(**KINDS[kind]), a_batch()
    forced = progress_at(0, 10, 0, CPU)
    alone = replace(forced, forced=False)

    # By hand: the most probable word again and again, and the true words' cross-entropy.
    state, word, words = model.read(batch.inputs), batch.inputs["target"][:, 0], []
    for _ in range(batch.mask.shape[1]):
        words.append(word)
        prediction, state = model.step({"target": word}, state)
        word = prediction["target"].argmax(-1)
    own = replace(batch, inputs={**batch.inputs, "target": torch.stack(words, 1)})
    assert not torch.equal(own.inputs["target"], batch.inputs["target"])
    totals = (mean(model.loss(batch, alone), batch), mean(model.loss(own, forced), batch))
    results = [(total, torch.autograd.grad(total, list(model.parameters()))) for total in totals]
    torch.testing.assert_close(*results, atol=1e-9, rtol=1e-9)

    # What it would have been told makes no difference; with a teacher it does.
    other = torch.cat((batch.inputs["target"][:, :1], 14 - batch.inputs["target"][:, 1:].clamp_min(FIRST)), 1)
    untold = replace(batch, inputs={**batch.inputs, "target": other})
    torch.testing.assert_close(model.loss(untold, alone), model.loss(batch, alone), atol=0, rtol=0)
    assert (mean(model.loss(untold, forced), batch) - mean(model.loss(batch, forced), batch)).abs() > 1e-3


@attention
def test_losses_are_of_the_predictions(attention: bool) -> None:
    model, batch = small(attention=attention), a_batch()
    losses = model.loss(batch, progress_at(0, 10, 0, CPU))
    logits = model.unroll(batch.inputs)[0]["target"]
    entropy = functional.cross_entropy(logits.transpose(1, 2), batch.targets["target"], reduction="none")
    torch.testing.assert_close(losses["target"], entropy * batch.mask, atol=1e-9, rtol=1e-9)


@attention
@pytest.mark.parametrize("forced", [True, False], ids=["forced", "alone"])
def test_bfloat16_is_near(attention: bool, forced: bool) -> None:
    """Its gradients, too: none is lost to the weights that autocast keeps."""
    model, batch = small(attention=attention).float(), a_batch()
    progress = replace(progress_at(0, 10, 0, CPU), forced=forced)
    results = []
    for rough in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=rough):
            losses = model.loss(batch, progress)
        assert all(loss.dtype == torch.float32 for loss in losses.values())
        results.append((losses, torch.autograd.grad(mean(losses, batch), list(model.parameters()))))
    torch.testing.assert_close(*results, atol=0.1, rtol=0.1)


def test_dropout_is_for_training() -> None:
    model, seen = small(attention=True, dropout=0.5), a_batch().inputs
    torch.testing.assert_close(model.unroll(seen), model.unroll(seen), atol=0, rtol=0)
    model.train()
    assert (model.unroll(seen)[0]["target"] - model.unroll(seen)[0]["target"]).abs().amax() > 1e-3


def test_attention_is_a_share_of_each_word() -> None:
    model, batch = small(attention=True), a_batch()
    weights = model.attention(batch.inputs)
    assert weights.shape == (*batch.inputs["target"].shape, batch.inputs["source"].shape[1])
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    padding = (batch.inputs["source"] == PAD)[:, None].expand_as(weights)
    assert (weights[padding] == 0).all()
    assert (weights[~padding] > 0).all()


def test_without_attention_there_is_none_to_show() -> None:
    with pytest.raises(SakiyomiError, match=r"--model\.attention"):
        small().attention(a_batch().inputs)


def test_an_odd_number_of_units_is_refused() -> None:
    with pytest.raises(SakiyomiError, match=r"--model\.hidden is 7"):
        small(hidden=7)


def test_it_takes_the_recordings_vocabularies() -> None:
    streams = {
        name: Stream("token", (), "", 1.0, vocabulary=Vocabulary((*SPECIAL, *words)))
        for name, words in {"source": ("a", "b"), "target": ("c",)}.items()
    }
    config = Seq2Seq.fitted(Seq2Seq.Config(embedding=4, hidden=4), streams)
    assert (config.source_words, config.target_words) == (6, 5)
    assert Seq2Seq(config).vocabularies == {"source": 6, "target": 5}


@pytest.mark.parametrize("share", [False, True], ids=["own", "shared"])
def test_a_checkpoint_holds_it(share: bool, tmp_path: Path) -> None:
    """Shared weights are in the file once."""
    model, config = small(share=share), small(share=share).config
    optimizer = torch.optim.Adam(model.parameters())
    mean(model.loss(a_batch(), progress_at(0, 10, 0, CPU)), a_batch()).backward()
    optimizer.step()
    save_checkpoint(tmp_path / "last.safetensors", model, moments_here(optimizer), config, {"step": 1})
    other = small(share=share)
    restore(load_checkpoint(tmp_path / "last.safetensors", config), other, torch.optim.Adam(other.parameters()))
    torch.testing.assert_close(other.unroll(a_batch().inputs), model.unroll(a_batch().inputs), atol=0, rtol=0)


# --- learning


def reversing(count: int, seed: int) -> Batch:
    """Sources of 2 to 5 words, to be said backwards."""
    torch.manual_seed(seed)
    words = [torch.randint(FIRST, 12, (length,)) for length in torch.randint(2, 6, (count,)).tolist()]
    end = torch.tensor([EOS])
    return batch_of([torch.cat((w, end)) for w in words], [torch.cat((w.flip(0), end)) for w in words])


def greedy(model: Seq2Seq, given: Streams, steps: int) -> Tensor:
    """The most probable words, each read before the next is said, [B, T]."""
    state, word, said = model.read(given), torch.full((len(given["source"]),), BOS), []
    for _ in range(steps):
        prediction, state = model.step({"target": word}, state)
        word = prediction["target"].argmax(-1)
        said.append(word)
    return torch.stack(said, 1)


def test_it_learns_to_say_words_backwards() -> None:
    """Sentences it has not seen, read from its own words alone; and it looks at the word it is about to say."""
    torch.manual_seed(0)
    model = Seq2Seq(Seq2Seq.Config(source_words=12, target_words=12, embedding=32, hidden=64, attention=True))
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for step in range(200):
        batch = reversing(64, step)
        total = mean(model.loss(batch, progress_at(step, 200, 0, CPU)), batch)
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    held = reversing(200, 1000)
    real = held.mask > 0
    right = (greedy(model, held.inputs, held.mask.shape[1]) == held.targets["target"])[real]
    assert right.float().mean() > 0.95

    words = held.mask.sum(1, keepdim=True) - 1
    place = words - 1 - torch.arange(held.mask.shape[1])
    looked = model.attention(held.inputs).argmax(-1) == place
    assert looked[real & (place >= 0)].float().mean() > 0.8
