"""What the Transformer and the GPT promise beyond the contract (which test_models.py holds)."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sakiyomi.data.episodes import Stream
from sakiyomi.data.vocabulary import BOS, EOS, PAD, SPECIAL, Vocabulary
from sakiyomi.data.windows import Batch
from sakiyomi.errors import SakiyomiError
from sakiyomi.layers.attention import MultiHead, Norm
from sakiyomi.models import GPT, MODELS, Transformer
from sakiyomi.models.base import Reads, nats
from sakiyomi.run import read_tensors, save_weights
from sakiyomi.schedules import progress_at

NORMS: tuple[Norm, ...] = ("pre", "post")
SMALL = Transformer.Config(source_words=12, target_words=14, width=32, heads=4, blocks=2, feedforward=32, dropout=0.0)
LITTLE = GPT.Config(words=10, width=32, heads=4, blocks=2, feedforward=32, context=4, dropout=0.0)
START = progress_at(0, 10, 0, torch.device("cpu"))
B, S, T = 3, 6, 9


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def sources() -> Tensor:
    """Of lengths 6, 4 and 2."""
    source = torch.randint(len(SPECIAL), 12, (B, S))
    for row, length in enumerate((6, 4, 2)):
        source[row, length - 1] = EOS
        source[row, length:] = PAD
    return source


def targets(words: int = 14, steps: int = T) -> Tensor:
    return torch.randint(len(SPECIAL), words, (B, steps))


@pytest.mark.parametrize("norm", NORMS)
def test_padding_of_the_source_changes_nothing(norm: Norm) -> None:
    model = Transformer(replace(SMALL, norm=norm)).eval()
    source, target = sources(), targets()
    together = model.unroll({"source": source, "target": target})[0]["target"]
    for row, length in enumerate((6, 4, 2)):
        alone = model.unroll({"source": source[row : row + 1, :length], "target": target[row : row + 1]})[0]["target"]
        torch.testing.assert_close(together[row], alone[0], atol=1e-5, rtol=1e-5)


def test_every_word_of_the_source_counts() -> None:
    model = Transformer(SMALL).eval()
    source, target = sources()[:1], targets()[:1]
    before = model.unroll({"source": source, "target": target})[0]["target"]
    for place in range(S):
        other = source.clone()
        other[0, place] = (source[0, place] + 1 - 4) % 8 + 4
        assert (model.unroll({"source": other, "target": target})[0]["target"] - before).abs().amax() > 1e-4
    swapped = source[:, [1, 0, *range(2, S)]]
    assert (model.unroll({"source": swapped, "target": target})[0]["target"] - before).abs().amax() > 1e-4


def test_a_source_of_padding_alone_is_no_nan() -> None:
    model = Transformer(SMALL)
    source = torch.full((1, 3), PAD)
    for rough in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=rough):
            predicted, _ = model.unroll({"source": source, "target": targets()[:1]})
        assert predicted["target"].isfinite().all()
    assert (source == PAD).all()  # and what was given stays as it was


@pytest.mark.parametrize("norm", NORMS)
def test_generation_equals_reading_all_again(norm: Norm) -> None:
    """Greedy words by the cache, and by a whole pass for each word."""
    model = Transformer(replace(SMALL, norm=norm)).eval()
    source = sources()
    state, word, said = model.read({"source": source}), torch.full((B,), BOS), torch.full((B, 1), BOS)
    for _ in range(T):
        predicted, state = model.step({"target": word}, state)
        word = predicted["target"].argmax(-1)
        again = model.unroll({"source": source, "target": said})[0]["target"][:, -1]
        torch.testing.assert_close(predicted["target"], again, atol=1e-5, rtol=1e-5)
        said = torch.cat((said, word[:, None]), 1)


def test_the_last_word_alone_is_not_enough() -> None:
    """The trap: generation that feeds the last word and forgets the cache."""
    model, source, target = Transformer(SMALL).eval(), sources(), targets()
    whole = model.unroll({"source": source, "target": target})[0]["target"][:, -1]
    forgetful, _ = model.step({"target": target[:, -1]}, model.read({"source": source}))
    assert (forgetful["target"] - whole).abs().amax() > 0.1


def test_a_state_can_be_reordered_as_a_beam_does() -> None:
    model = Transformer(SMALL).eval()
    source, target, order = sources(), targets(), torch.tensor([2, 0, 0])
    _, state = model.unroll({"source": source, "target": target})
    word = torch.tensor([5, 6, 7])
    predicted, _ = model.step({"target": word}, {name: value[order] for name, value in state.items()})
    wanted, _ = model.unroll({"source": source[order], "target": torch.cat((target[order], word[:, None]), 1)})
    torch.testing.assert_close(predicted["target"], wanted["target"][:, -1], atol=1e-5, rtol=1e-5)


def test_the_source_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step touches neither the encoder nor the keys and values of the source."""
    model = Transformer(SMALL).eval()
    state = model.read({"source": sources()})
    for block in model.encoder:
        monkeypatch.setattr(block, "forward", None)
    _, after = model.step({"target": torch.tensor([4, 5, 6])}, state)
    for n in range(SMALL.blocks):
        assert after[f"source.{n}"] is state[f"source.{n}"]
        assert after[f"target.{n}"].shape == (B, 1, 2 * SMALL.width)


@pytest.mark.parametrize("norm", NORMS)
def test_the_loss_is_that_of_what_it_says(norm: Norm) -> None:
    """In the padding it is 0, and it says no word there."""
    model = Transformer(replace(SMALL, norm=norm))
    inputs, told = {"source": sources(), "target": targets()}, targets()
    mask = (torch.arange(T) < torch.tensor([[T], [4], [1]])).float()
    losses = model.loss(Batch(inputs, {"target": told}, mask), START)
    wanted = nats(model.unroll(inputs)[0]["target"], told, "target")
    for name, loss in losses.items():
        torch.testing.assert_close(loss, torch.where(mask > 0, wanted[name], 0.0), atol=1e-5, rtol=1e-5)


def test_attention_is_a_share_of_each_real_word() -> None:
    model = Transformer(SMALL).eval()
    assert isinstance(model, Reads)
    source, target = sources(), targets()
    looked = model.attention({"source": source, "target": target})
    assert looked.shape == (B, T, S)
    torch.testing.assert_close(looked.sum(-1), torch.ones(B, T))
    assert ((looked > 0) == (source != PAD)[:, None]).all()
    sooner = model.attention({"source": source, "target": target[:, :4]})
    torch.testing.assert_close(looked[:, :4], sooner)


def test_attention_is_what_the_last_block_has_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    model, heard = Transformer(SMALL).eval(), []
    across = model.decoder.get_submodule(f"{SMALL.blocks - 1}.across")
    assert isinstance(across, MultiHead)
    look = across.look
    monkeypatch.setattr(across, "look", lambda *given: (heard.append(given), look(*given))[1])
    seen = {"source": sources(), "target": targets()}
    model.unroll(seen)
    ((queries, held, _),) = heard
    size = SMALL.width // SMALL.heads
    heads = []
    for h in range(SMALL.heads):
        asked, key = queries[..., h * size : (h + 1) * size], held[..., h * size : (h + 1) * size]
        scores = asked @ key.transpose(1, 2) / size**0.5
        heads.append(scores.masked_fill((seen["source"] == PAD)[:, None], -torch.inf).softmax(-1))
    torch.testing.assert_close(model.attention(seen), torch.stack(heads).mean(0), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("share", [True, False])
def test_shared_words_are_one_parameter(share: bool, tmp_path: Path) -> None:
    """In the model, and in the file of its weights."""
    config = replace(SMALL, share=share)
    model = Transformer(config)
    tables = [p for p in model.parameters() if p.shape[0] == SMALL.target_words]
    assert len(tables) == (1 if share else 2)
    save_weights(tmp_path / "weights.safetensors", model, config, {})
    again = Transformer(config)
    again.load_state_dict(read_tensors(tmp_path / "weights.safetensors")[1])
    seen = {"source": sources(), "target": targets()}
    torch.testing.assert_close(again.eval().unroll(seen)[0], model.eval().unroll(seen)[0], atol=0, rtol=0)


def test_dropout_is_for_training_and_follows_torchs_seed() -> None:
    for model, seen in (
        (Transformer(replace(SMALL, dropout=0.3)), {"source": sources(), "target": targets()}),
        (GPT(replace(LITTLE, dropout=0.3)), {"token": targets(10)}),
    ):
        (name,) = model.outputs
        runs = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            runs.append(model.unroll(seen)[0][name])
        torch.testing.assert_close(runs[0], runs[1], atol=0, rtol=0)
        assert (runs[0] - runs[2]).abs().amax() > 0.01
        model.eval()
        torch.testing.assert_close(model.unroll(seen)[0], model.unroll(seen)[0], atol=0, rtol=0)


def test_dropout_is_on_what_the_blocks_read_too() -> None:
    model, read = Transformer(replace(SMALL, dropout=0.5)), []
    for stack in (model.encoder, model.decoder):
        stack[0].register_forward_pre_hook(lambda _, given: read.append(given[0]))
    model.unroll({"source": sources(), "target": targets()})
    assert [0.4 < (x == 0).float().mean() < 0.6 for x in read] == [True, True]


def test_bfloat16_is_near_and_learns() -> None:
    for model, seen in (
        (Transformer(SMALL), {"source": sources(), "target": targets()}),
        (GPT(LITTLE), {"token": targets(10)}),
    ):
        (name,) = model.outputs
        exact = model.unroll(seen)[0][name]
        with torch.autocast("cpu", torch.bfloat16):
            rough = model.unroll(seen)[0][name]
            loss = model.loss(Batch(seen, {name: seen[name]}, torch.ones(B, T)), START)[name]
        assert loss.dtype == torch.float32
        torch.testing.assert_close(rough.float(), exact, atol=0.1, rtol=0.1)
        loss.mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def reversals(batch_size: int, generator: torch.Generator, words: int = 8, length: int = 5) -> Batch:
    """Sentences and the same from back to front."""
    said = torch.randint(len(SPECIAL), len(SPECIAL) + words, (batch_size, length), generator=generator)
    end, begin = torch.full((batch_size, 1), EOS), torch.full((batch_size, 1), BOS)
    told = torch.cat((said.flip(1), end), 1)
    inputs = {"source": torch.cat((said, end), 1), "target": torch.cat((begin, told[:, :-1]), 1)}
    return Batch(inputs, {"target": told}, torch.ones(batch_size, length + 1))


@pytest.fixture(scope="module")
def reverser() -> Transformer:
    """A Transformer that has learned to say a sentence from back to front."""
    torch.manual_seed(0)
    config = replace(SMALL, source_words=12, target_words=12, heads=2, blocks=1)
    model, generator = Transformer(config), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(400):
        optimizer.zero_grad()
        model.loss(reversals(64, generator), START)["target"].mean().backward()
        optimizer.step()
    return model.eval()


def test_it_learns_to_reverse(reverser: Transformer) -> None:
    """Free-running, on sentences of which most were never shown."""
    batch = reversals(200, torch.Generator().manual_seed(1))
    state, word = reverser.read(batch.inputs), torch.full((200,), BOS)
    right = torch.ones(200, dtype=torch.bool)
    for t in range(batch.mask.shape[1]):
        predicted, state = reverser.step({"target": word}, state)
        word = predicted["target"].argmax(-1)
        right &= word == batch.targets["target"][:, t]
    assert right.float().mean() > 0.9


def test_it_looks_where_the_word_stands(reverser: Transformer) -> None:
    batch = reversals(200, torch.Generator().manual_seed(1))
    looked = reverser.attention(batch.inputs)[:, :5].mean(0)
    assert looked.argmax(-1).tolist() == [4, 3, 2, 1, 0]


def test_words_of_another_vocabulary_are_refused() -> None:
    model = Transformer(SMALL)  # its target knows more words than its source
    with pytest.raises(SakiyomiError, match="13, the table holds 12; are they of another vocabulary"):
        model.read({"source": torch.tensor([[13, EOS]])})


def test_sizes_come_from_the_recordings_or_are_asked_for() -> None:
    def tokens(words: int) -> Stream:
        return Stream("token", (), "int32", 1.0, vocabulary=Vocabulary((*SPECIAL, *map(str, range(words)))))

    streams = {"source": tokens(3), "target": tokens(5), "token": tokens(7)}
    fitted = Transformer.fitted(Transformer.Config(), streams)
    assert (fitted.source_words, fitted.target_words) == (7, 9)
    assert Transformer.fitted(SMALL, streams) == SMALL
    assert GPT.fitted(GPT.Config(), streams).words == 11
    for name in ("Transformer", "GPT"):
        with pytest.raises(SakiyomiError, match=r"--model\.(source_)?words is 0"):
            MODELS[name](MODELS[name].Config())
    with pytest.raises(SakiyomiError, match="even number"):
        GPT(replace(LITTLE, width=20))  # 5 numbers a head
    with pytest.raises(SakiyomiError, match="even number"):
        Transformer(replace(SMALL, width=33, heads=3))


@pytest.mark.parametrize("context", [1, 2, 4, 30])
def test_the_memory_does_not_grow(context: int) -> None:
    """And what it says equals one pass over everything, however long it goes on."""
    model = GPT(replace(LITTLE, context=context)).eval()
    tokens = targets(10, 25)
    whole, end = model.unroll({"token": tokens})
    state = model.initial(B)
    for t in range(25):
        predicted, state = model.step({"token": tokens[:, t]}, state)
        torch.testing.assert_close(predicted["token"], whole["token"][:, t], atol=1e-5, rtol=1e-5)
        assert all(value.shape[1] == min(t + 1, context - 1) for value in state.values())
    torch.testing.assert_close(state, end, atol=1e-5, rtol=1e-5)


def test_how_far_back_it_hears() -> None:
    """blocks x (context - 1) tokens: what is before them changes nothing, each of them does."""
    model = GPT(LITTLE).eval()
    reach = LITTLE.blocks * (LITTLE.context - 1)
    tokens = targets(10, 20)
    before = model.unroll({"token": tokens})[0]["token"][:, -1]
    for ago in range(20):
        other = tokens.clone()
        other[:, -1 - ago] = (tokens[:, -1 - ago] + 1 - 4) % 6 + 4
        changed = (model.unroll({"token": other})[0]["token"][:, -1] - before).abs().amax() > 1e-6
        assert changed == (ago <= reach)
    # Nor does it count from the beginning: the same tokens at another place mean the same.
    later = model.unroll({"token": tokens[:, -1 - reach :]})[0]["token"][:, -1]
    torch.testing.assert_close(later, before, atol=1e-5, rtol=1e-5)


def test_order_counts() -> None:
    """By rotary positions alone, of one block: a sum over the tokens before would not see it."""
    model = GPT(replace(LITTLE, blocks=1)).eval()
    tokens = torch.tensor([[4, 5, 6, 7]])
    one, other = (model.unroll({"token": t})[0]["token"][:, -1] for t in (tokens, tokens[:, [1, 0, 2, 3]]))
    assert (one - other).abs().amax() > 1e-3


def test_it_learns_to_repeat_what_was_before() -> None:
    """Copying from some tokens ago takes attention; no token alone tells the next."""
    model, generator = GPT(replace(LITTLE, context=8)), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    loss = torch.tensor(torch.inf)
    for _ in range(300):
        tokens = torch.randint(4, 10, (64, 3), generator=generator).repeat(1, 4)
        batch = Batch({"token": tokens[:, :-1]}, {"token": tokens[:, 1:]}, torch.ones(64, 11))
        loss = model.loss(batch, START)["token"]
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    first, repeated = loss[:, :2].mean().item(), loss[:, 3:].mean().item()
    assert first > 1.5  # six tokens alike: 1.79 nats, which nobody can foresee
    assert repeated < 0.3
