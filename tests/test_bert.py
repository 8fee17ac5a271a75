"""What BERT promises beyond the contract (which test_models.py holds)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sakiyomi.data.episodes import Stream
from sakiyomi.data.vocabulary import BOS, EOS, PAD, SPECIAL, Vocabulary
from sakiyomi.data.windows import Batch
from sakiyomi.errors import SakiyomiError
from sakiyomi.models import BERT, GPT
from sakiyomi.models.bert import framed, hide, paired
from sakiyomi.run import read_tensors, save_weights
from sakiyomi.schedules import Progress, progress_at
from sakiyomi.scores.bigram import learn_bigram, two_sided

V, B, T = 20, 4, 12
LITTLE = BERT.Config(words=V, width=32, heads=4, blocks=2, feedforward=64, dropout=0.0)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def words(rows: int = B, steps: int = T) -> Tensor:
    return torch.randint(len(SPECIAL), V, (rows, steps))


def batch_of(tokens: Tensor, lengths: tuple[int, ...] | None = None) -> Batch:
    mask = torch.ones(tokens.shape)
    for row, length in enumerate(lengths or ()):
        mask[row, length:] = 0
    return Batch({"token": tokens}, {"token": tokens}, mask)


def start(seed: int = 0) -> Progress:
    return progress_at(0, 10, seed, CPU)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_a_word_on_the_right_counts_as_one_on_the_left_does() -> None:
    """And for GPT it does not: that is the difference."""
    model, other = BERT(LITTLE).eval(), GPT(GPT.Config(words=V, width=32, blocks=2, feedforward=64)).eval()
    tokens = words()
    for place in (4, 6):
        changed = tokens.clone()
        changed[:, place] = len(SPECIAL) + (changed[:, place] - len(SPECIAL) + 1) % (V - len(SPECIAL))
        moved = [
            (one.unroll({"token": changed})[0]["token"] - one.unroll({"token": tokens})[0]["token"])[:, 5].abs().amax()
            for one in (model, other)
        ]
        assert moved[0] > 1e-3
        assert (moved[1] > 1e-3) == (place < 5)


def test_padding_changes_nothing() -> None:
    model, tokens = BERT(LITTLE).eval(), words()
    padded = torch.cat((tokens, torch.full((B, 5), PAD)), 1)
    vectors, _ = model.vectors({"token": padded})
    torch.testing.assert_close(vectors[:, :T], model.vectors({"token": tokens})[0], atol=1e-5, rtol=1e-5)


def test_a_row_of_padding_is_finite() -> None:
    model, tokens = BERT(LITTLE).eval(), words()
    tokens[1] = PAD
    assert model.unroll({"token": tokens})[0]["token"].isfinite().all()
    losses = model.loss(batch_of(tokens, (T, 0, 3, T)), start())
    assert all(loss.isfinite().all() for loss in losses.values())


def test_a_share_of_each_row_is_hidden_as_the_paper_says() -> None:
    """15 % of the real places; of these 80 % are masked, 10 % are any word, 10 % are as they were."""
    tokens = words(400, 200)
    real = torch.arange(200) < torch.randint(1, 201, (400, 1))
    hidden = hide(tokens, real, V, generator())
    lengths = real.sum(1)
    assert (hidden.chosen.sum(1) == (0.15 * lengths).round().clamp_min(1)).all()
    assert not (hidden.chosen & ~real).any()
    assert (hidden.tokens[~hidden.chosen] == tokens[~hidden.chosen]).all()
    given, true = hidden.tokens[hidden.chosen], tokens[hidden.chosen]
    masked, same = (given == V).float().mean(), (given == true).float().mean()
    drawn = ((given != V) & (given != true)).float().mean()
    known = V - len(SPECIAL)
    for share, expected in ((masked, 0.8), (same, 0.1 + 0.1 / known), (drawn, 0.1 * (known - 1) / known)):
        assert share.item() == pytest.approx(expected, abs=4 * 0.5 / len(given) ** 0.5)
    assert given[(given != V) & (given != true)].min() >= len(SPECIAL)


def test_every_place_is_hidden_as_often() -> None:
    """Places at the ends, too."""
    counts = hide(words(4000, 10), torch.ones(4000, 10, dtype=torch.bool), V, generator()).chosen.float().sum(0)
    share = 0.2  # 1.5 rounded is 2 of 10
    assert (counts / 4000 - share).abs().max() < 5 * (share / 4000) ** 0.5


def test_the_loss_is_the_mean_over_hidden_words() -> None:
    """Whatever of a row is padding; recomputed from what `hide` says."""
    model = BERT(BERT.Config(**{**vars(LITTLE), "pairs": False})).eval()
    tokens, lengths = words(), (T, 7, 4, 1)
    batch = batch_of(tokens, lengths)
    loss = model.loss(batch, start())["token"]
    read = torch.where(batch.mask > 0, tokens, PAD)
    hidden = hide(read, batch.mask > 0, V, start().generator)
    said = model.unroll({"token": hidden.tokens})[0]["token"][hidden.chosen]
    expected = torch.nn.functional.cross_entropy(said, tokens[hidden.chosen])
    torch.testing.assert_close((loss * batch.mask).sum() / batch.mask.sum(), expected)
    assert ((loss > 0) == hidden.chosen).all()


def test_what_is_hidden_is_not_read() -> None:
    """The word at a masked place reaches neither the predictions nor anything else."""
    model, tokens = BERT(LITTLE).eval(), words()
    chosen = hide(tokens, torch.ones_like(tokens, dtype=torch.bool), model.mask, generator(), masked=1.0).chosen
    others = torch.where(chosen, words(), tokens)
    said = [model.unroll({"token": one.masked_fill(chosen, model.mask)})[0]["token"] for one in (tokens, others)]
    assert (others != tokens).any()
    torch.testing.assert_close(said[0], said[1], atol=0, rtol=0)


def test_half_of_the_windows_get_the_second_half_of_another() -> None:
    tokens = torch.arange(1000)[:, None] * 100 + torch.arange(10) + len(SPECIAL)
    real = torch.ones_like(tokens, dtype=torch.bool)
    pairs = paired(tokens, real, generator())
    assert (pairs.tokens[:, :5] == tokens[:, :5]).all()
    same = (pairs.tokens[:, 5:] == tokens[:, 5:]).all(1)
    assert (same == pairs.follows).all()
    assert same.float().mean().item() == pytest.approx(0.5, abs=0.08)
    rows = pairs.tokens[:, 5:] - len(SPECIAL)
    assert (
        (rows % 100 == torch.arange(5, 10)) & (rows // 100 == rows[:, :1] // 100)
    ).all()  # a whole one, in its place


def test_a_window_without_a_second_half_is_not_asked_about() -> None:
    tokens = words()
    real = torch.arange(T) < torch.tensor([T, T // 2, T, 3])[:, None]
    for seed in range(8):
        pairs = paired(torch.where(real, tokens, PAD), real, torch.Generator().manual_seed(seed))
        assert pairs.told.tolist() == [True, False, True, False]
        assert pairs.follows[[1, 3]].all()
        assert pairs.real[[0, 2]].all()  # none got a half that is empty
    alone = paired(tokens[:1], real[:1], generator())
    assert alone.follows.all()


def test_the_frame_tells_the_passages_apart() -> None:
    tokens = words()
    rows = framed(tokens, 5)
    assert rows[0].tolist() == [BOS, *tokens[0, :5].tolist(), EOS, *tokens[0, 5:].tolist(), EOS]
    model = BERT(LITTLE).eval()
    before = model.follows({"token": rows})
    with torch.no_grad():
        model.segments[1] += torch.randn(LITTLE.width)  # not a constant, which a normalisation would take away
    assert (model.follows({"token": rows}) - before).abs().min() > 1e-4


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_loss_of_what_follows_is_that_of_what_it_says(seed: int) -> None:
    """The mean over the windows that hold two halves; recomputed from `paired`, `hide` and `follows`."""
    model, tokens = BERT(LITTLE).eval(), words(6)
    batch = batch_of(tokens, (T, 3, T, T, 9, T))
    loss = model.loss(batch, start(seed))["next"]
    generator, real = start(seed).generator, batch.mask > 0
    pairs = paired(torch.where(real, tokens, PAD), real, generator)
    hidden = hide(pairs.tokens, pairs.real & real, V, generator)
    said = model.follows({"token": framed(hidden.tokens, T // 2)})[pairs.told]
    true = pairs.follows[pairs.told].float()
    assert len(true) == 5
    expected = torch.nn.functional.binary_cross_entropy_with_logits(said, true)
    torch.testing.assert_close((loss * batch.mask).sum() / batch.mask.sum(), expected)


def test_it_learns_what_follows_and_what_is_hidden() -> None:
    """A text in which every second word says which of two parts of the vocabulary its passage is of, so that neighbours
    tell a hidden word and a second half from another passage shows."""
    config = BERT.Config(words=V, width=32, heads=2, blocks=1, feedforward=64, dropout=0.0)
    model = BERT(config)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    kinds = torch.Generator().manual_seed(3)

    def drawn() -> Batch:
        kind = torch.randint(2, (32, 1), generator=kinds)
        return batch_of(len(SPECIAL) + 8 * kind + torch.randint(8, (32, T), generator=kinds))

    for step in range(150):
        losses = model.loss(drawn(), progress_at(step, 150, 0, CPU))
        sum(loss.mean() for loss in losses.values()).backward()  # pyright: ignore[reportAttributeAccessIssue]
        optimizer.step()
        optimizer.zero_grad()
    losses = model.eval().loss(drawn(), progress_at(150, 150, 0, CPU, training=False))
    # Half of the swapped windows get a half of the same kind: (3/4) H(1/3) nats are left, of log 2.
    assert losses["next"].mean().item() < 0.6
    # Eight words are as likely: log 8 = 2.08 nats, against log 16 = 2.77 of who does not know the kind.
    assert losses["token"].mean().item() < 2.5


def test_it_takes_no_passages_that_it_did_not_learn_to() -> None:
    with pytest.raises(SakiyomiError, match="learned what follows what"):
        BERT(BERT.Config(words=V, width=8, blocks=1, feedforward=8, pairs=False)).follows({"token": words()})
    with pytest.raises(SakiyomiError, match="told apart by EOS"):
        BERT(LITTLE).follows({"token": words()})


def test_what_is_left_open_comes_from_the_store(tmp_path: Path) -> None:
    stream = Stream("token", (), "int32", 1.0, vocabulary=Vocabulary.learn(["a b c"]))
    config = BERT.fitted(BERT.Config(width=8, heads=2, blocks=1, feedforward=8), {"token": stream})
    assert config.words == len(SPECIAL) + 3
    model = BERT(config)
    save_weights(tmp_path / "weights.safetensors", model, config, {})
    assert read_tensors(tmp_path / "weights.safetensors")[1].keys() == model.state_dict().keys()


def test_a_word_of_another_vocabulary_is_refused() -> None:
    with pytest.raises(SakiyomiError, match="another vocabulary"):
        BERT(LITTLE).unroll({"token": torch.full((1, 3), V + 1)})


def test_the_bigram_is_a_distribution_and_finds_what_the_neighbours_tell() -> None:
    """Of a text made by a chain: the exact answer is Bayes' rule on the chain itself."""
    random = np.random.default_rng(0)
    chain = random.dirichlet(np.full(6, 0.5), 6)
    text = [0]
    for _ in range(30_000):
        text.append(int(random.choice(6, p=chain[text[-1]])))
    ids = np.array(text)
    model = learn_bigram(ids, 6, 0.7)
    np.testing.assert_allclose(np.exp(model.follows).sum(1), 1, rtol=1e-5)
    places = np.arange(1, 2000)
    exact = chain[ids[places - 1]] * chain[:, ids[places + 1]].T
    expected = -np.log(exact[np.arange(len(places)), ids[places]] / exact.sum(1))
    assert two_sided(model, ids, places).mean() == pytest.approx(expected.mean(), abs=0.02)
    # All words of one place, one after the other: their probabilities sum to 1, also where a neighbour is hidden.
    hidden = np.zeros(len(ids), bool)
    for blind in ([], [6], [4], [4, 6]):
        hidden[:] = False
        hidden[blind] = True
        total = sum(
            np.exp(-two_sided(model, np.concatenate((ids[:5], [w], ids[6:])), np.array([5]), hidden))[0]
            for w in range(6)
        )
        assert total == pytest.approx(1, abs=1e-6)
