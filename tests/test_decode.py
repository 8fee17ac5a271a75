"""Decoding: it finds what trying everything finds, draws with the chances it says, and obeys."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sakiyomi.data.vocabulary import BOS, EOS, PAD, UNK
from sakiyomi.data.windows import Batch
from sakiyomi.decode import FREE, Decoded, Decoding, chances, decode, drawn, length_norm
from sakiyomi.errors import SakiyomiError
from sakiyomi.models import Seq2Seq
from sakiyomi.models.base import SequenceModel, State, Streams, nats, one_step
from sakiyomi.schedules import Progress

A, B = 4, 5  # the words
V = 6
SENTENCES = 5


class Teller(SequenceModel):
    """A GRU that has learned nothing and says much, each word after all those before it; float64. `ends` makes EOS
    likelier. `hint` [R, V], where a step is given one, is added to its logits."""

    inputs = outputs = ("target",)

    def __init__(self, seed: int = 0, ends: float = 0.0) -> None:
        super().__init__()
        self.shapes, self.vocabularies = {"target": ()}, {"target": V}
        self.read = nn.Embedding(V, 8)
        self.core = nn.GRU(8, 8, batch_first=True)
        self.say = nn.Linear(8, V)
        self.steps = 0
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            nn.init.normal_(parameter, 0, 1.0, generator)
        with torch.no_grad():
            self.say.bias[EOS] += ends
        self.double().eval()

    def initial(self, batch_size: int) -> State:
        return {"h": self.say.weight.new_zeros(batch_size, 8)}

    def step(self, observation: Streams, state: State) -> tuple[Streams, State]:
        self.steps += 1
        prediction, state = one_step(self, {"target": observation["target"]}, state)
        return {"target": prediction["target"] + observation.get("hint", torch.zeros(()))}, state

    def unroll(self, observations: Streams, state: State | None = None) -> tuple[Streams, State]:
        words = observations["target"]
        state = self.initial(len(words)) if state is None else state
        hidden, last = self.core(self.read(words), state["h"][None])
        return {"target": self.say(hidden)}, {"h": last[0]}

    def loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        return nats(self.unroll(batch.inputs)[0]["target"], batch.targets["target"], "target")


def states(count: int = SENTENCES) -> State:
    """So many sentences, each another."""
    return {"h": torch.randn(count, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(7)) * 2}


def begin(count: int = SENTENCES) -> Tensor:
    return torch.full((count,), BOS)


def one(state: State, row: int) -> State:
    return {name: value[row : row + 1] for name, value in state.items()}


def told(how: Decoding, model: Teller | None = None, **others: object) -> list[Decoded]:
    return decode(model or Teller(), states(), begin(), how, **others)  # pyright: ignore[reportArgumentType]


@torch.no_grad()
def rescored(model: SequenceModel, state: State, tokens: np.ndarray, ended: bool) -> float:
    """The log-probability of one text, nats, by reading it all at once."""
    said = torch.tensor([*tokens.tolist(), *([EOS] if ended else [])])
    read = torch.cat((begin(1), said[:-1]))[None]
    logits = model.unroll({"target": read}, state)[0]["target"]
    return float(logits.log_softmax(-1)[0].gather(1, said[:, None]).sum())


def everything(model: SequenceModel, state: State, steps: int, alpha: float) -> list[tuple[float, tuple, bool]]:
    """All texts of at most so many words and stops that `never` of the defaults allows: score, words, whether it ended;
    best first."""
    inner = [word for word in range(V) if word not in (PAD, BOS, EOS)]
    texts = [(text, True) for n in range(steps) for text in itertools.product(inner, repeat=n)]
    texts += [(text, False) for text in itertools.product(inner, repeat=steps)]
    found = []
    for text, ended in texts:
        score = rescored(model, state, np.array(text, np.int64), ended)
        found.append((score / length_norm(len(text) + ended, alpha), text, ended))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
def test_a_beam_as_wide_as_all_texts_finds_the_best_ones(alpha: float) -> None:
    """The first five of all texts, by the score as it is stated."""
    steps, model = 3, Teller(1)
    how = Decoding(beam=(V - 2) ** steps, steps=steps, length_penalty=alpha, n_best=5)
    for row, found in enumerate(decode(model, states(), begin(), how)):
        best = everything(model, one(states(), row), steps, alpha)[:5]
        assert [tuple(text.tolist()) for text in found.tokens] == [text for _, text, _ in best]
        assert found.ended.tolist() == [ended for _, _, ended in best]
        np.testing.assert_allclose(scores(found, alpha), [score for score, _, _ in best])


def scores(found: Decoded, alpha: float) -> np.ndarray:
    """What a beam ranks texts by."""
    norms = [length_norm(len(text) + bool(end), alpha) for text, end in zip(found.tokens, found.ended, strict=True)]
    return found.log_probabilities / np.array(norms)


def test_where_there_are_fewer_texts_than_asked_for_all_of_them_come() -> None:
    """Of one step: nothing, UNK, A and B."""
    for found in told(Decoding(beam=8, steps=1, n_best=8)):
        assert {tuple(text.tolist()) for text in found.tokens} == {(), (UNK,), (A,), (B,)}
        assert [len(text) for text in found.tokens] == [0 if ended else 1 for ended in found.ended]


def plain_beam(model: Teller, state: State, how: Decoding) -> list[tuple[float, list[int], bool]]:
    """One sentence's beam search with lists: of 2 K continuations the first K may end, K others go on, to the end."""
    alive: list[tuple[float, list[int]]] = [(0.0, [])]
    found: list[tuple[float, list[int], bool]] = []
    for t in range(how.steps):
        longer = []
        for total, text in alive:
            read = torch.tensor([[BOS, *text]])
            gains = model.unroll({"target": read}, state)[0]["target"][0, -1].log_softmax(-1).tolist()
            longer += [(total + gains[word], [*text, word]) for word in range(V) if word not in how.never]
        longer = sorted(longer, reverse=True)[: 2 * how.beam]
        norm = length_norm(t + 1, how.length_penalty)
        found += [(total / norm, text[:-1], True) for total, text in longer[: how.beam] if text[-1] == EOS]
        alive = [(total, text) for total, text in longer if text[-1] != EOS][: how.beam]
    found += [(total / length_norm(how.steps, how.length_penalty), text, False) for total, text in alive]
    return sorted(found, reverse=True)[: how.n_best]


@pytest.mark.parametrize("seed", range(6))
def test_a_beam_finds_what_a_plain_one_finds(seed: int) -> None:
    """Which goes on to the last step, where this one stops as soon as nothing can change."""
    model = Teller(seed, ends=1)
    for how in (Decoding(beam=2, steps=6, n_best=2), Decoding(beam=3, steps=6, n_best=3, length_penalty=0)):
        for row, found in enumerate(told(how, model)):
            plain = plain_beam(model, one(states(), row), how)
            assert [text.tolist() for text in found.tokens] == [text for _, text, _ in plain]
            assert found.ended.tolist() == [ended for _, _, ended in plain]
            np.testing.assert_allclose(scores(found, how.length_penalty), [score for score, _, _ in plain])


def greedy_by_hand(model: Teller, state: State, steps: int) -> tuple[list[int], bool]:
    word, said = begin(1), []
    for _ in range(steps):
        prediction, state = model.step({"target": word}, state)
        logits = prediction["target"].index_fill(1, torch.tensor([PAD, BOS]), -math.inf)
        word = logits.argmax(1)
        if int(word) == EOS:
            return said, True
        said.append(int(word))
    return said, False


GREEDY = Decoding(steps=8)
ALIKE = {
    "temperature near 0": replace(GREEDY, temperature=1e-300),
    "one likeliest word": replace(GREEDY, temperature=3.0, top_k=1),
    "next to no chance": replace(GREEDY, temperature=3.0, top_p=1e-9),
}


@pytest.mark.parametrize("seed", range(4))
def test_greedy_takes_the_likeliest_word_and_so_do_its_limits(seed: int) -> None:
    model = Teller(seed)
    found = told(GREEDY, model)
    for row, text in enumerate(found):
        said, ended = greedy_by_hand(model, one(states(), row), 8)
        assert (text.tokens[0].tolist(), bool(text.ended[0])) == (said, ended)
    for how in ALIKE.values():
        same(found, told(how, model))


def same(first: list[Decoded], second: list[Decoded]) -> None:
    for a, b in zip(first, second, strict=True):
        assert [text.tolist() for text in a.tokens] == [text.tolist() for text in b.tokens]
        np.testing.assert_allclose(a.log_probabilities, b.log_probabilities, rtol=1e-9)
        assert a.ended.tolist() == b.ended.tolist()


def test_a_wider_beam_finds_likelier_texts() -> None:
    """Of one sentence it need not, of many it does; texts of 6 words, so that all are as long."""
    model, count = Teller(2), 200
    generator = torch.Generator().manual_seed(0)
    state = {"h": torch.randn(count, 8, dtype=torch.float64, generator=generator) * 2}
    means = []
    for beam in (1, 2, 4, 8):
        found = decode(model, state, begin(count), Decoding(beam=beam, steps=6, length_penalty=0), stop=None)
        means.append(np.mean([text.log_probabilities[0] for text in found]))
    assert np.diff(means).min() > 0.01


def test_a_greater_length_penalty_favours_longer_texts() -> None:
    lengths = []
    for alpha in (0.0, 0.6, 1.5, 3.0):
        found = told(Decoding(beam=4**4, steps=4, length_penalty=alpha), Teller(6, ends=1))
        lengths.append(sum(len(text.tokens[0]) for text in found))
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]


def test_the_norm_of_a_length_is_the_published_one() -> None:
    assert length_norm(1, 0.7) == 1  # whatever alpha
    assert length_norm(100, 0) == 1  # whatever length
    assert length_norm(7, 0.5) == pytest.approx(math.sqrt(2))  # 12 / 6
    assert length_norm(13, 2.0) == pytest.approx(9)  # 18 / 6


HOWS = {
    "greedy": Decoding(steps=7),
    "drawn": Decoding(steps=7, temperature=1.5, top_k=3, top_p=0.9, n_best=3, seed=5),
    "beam": Decoding(steps=7, beam=4, n_best=3),
}


@pytest.mark.parametrize("how", HOWS.values(), ids=HOWS)
@pytest.mark.parametrize("stop", [EOS, None])
def test_log_probabilities_are_those_of_reading_the_text(how: Decoding, stop: int | None) -> None:
    """Under the model itself: not of what temperature and the rest leave."""
    model = Teller(1)
    for row, found in enumerate(decode(model, states(), begin(), how, stop=stop)):
        assert len(found.tokens) == how.n_best
        for text, total, ended in zip(found.tokens, found.log_probabilities, found.ended, strict=True):
            assert total == pytest.approx(rescored(model, one(states(), row), text, ended), abs=1e-9)


@pytest.mark.parametrize("how", HOWS.values(), ids=HOWS)
def test_texts_end_at_the_stop_or_after_so_many_steps(how: Decoding) -> None:
    found = [row for seed in range(4) for row in told(how, Teller(seed))]
    texts = [(text, ended) for row in found for text, ended in zip(row.tokens, row.ended, strict=True)]
    assert {True, False} == {bool(ended) for _, ended in texts}
    for text, ended in texts:
        assert text.dtype == np.int64
        assert not set(text.tolist()) & {PAD, BOS, EOS}
        assert len(text) < how.steps if ended else len(text) == how.steps


def test_where_all_have_ended_no_step_is_taken_in_vain() -> None:
    """A step serves all sentences, and the longest text says how many."""
    for how in (Decoding(steps=50), Decoding(steps=50, beam=4, length_penalty=0)):
        model = Teller(3, ends=2)
        found = told(how, model)
        assert all(text.ended.all() for text in found)
        longest = max(len(text) for row in found for text in row.tokens) + 1
        assert model.steps == longest if how.beam == 1 else longest <= model.steps < 50


@pytest.mark.parametrize("how", HOWS.values(), ids=HOWS)
def test_sentences_do_not_meet(how: Decoding) -> None:
    """What is said of one does not depend on those beside it; draws depend on the place in the batch."""
    model = Teller(4)
    together = told(how, model)
    same(together[:2], decode(model, {"h": states()["h"][:2]}, begin(2), how))
    for row in range(1 if how.temperature else SENTENCES):
        same([together[row]], decode(model, one(states(), row), begin(1), how))


def test_a_translator_says_the_same_of_a_sentence_wherever_it_stands() -> None:
    """A real model, with a state that PAD has filled up."""
    torch.manual_seed(0)
    model = Seq2Seq(Seq2Seq.Config(source_words=9, target_words=9, embedding=8, hidden=8, attention=True)).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0, 1.0)
    sources = [[4, 5, 6, EOS], [7, EOS], [EOS], [8, 8, EOS]]
    padded = torch.tensor([source + [PAD] * (4 - len(source)) for source in sources])
    for how in (Decoding(steps=6), Decoding(steps=6, beam=3, n_best=2)):
        together = decode(model, model.read({"source": padded}), begin(4), how)
        for source, found in zip(sources, together, strict=True):
            same([found], decode(model, model.read({"source": torch.tensor([source])}), begin(1), how))


def test_the_same_seed_says_the_same_whatever_was_drawn_before() -> None:
    how, model = Decoding(steps=10, temperature=2.0, n_best=4, seed=3), Teller(6)
    first = told(how, model)
    torch.rand(7)
    same(first, told(how, model))
    other = told(replace(how, seed=4), model)
    assert [t.tolist() for t in first[0].tokens] != [t.tolist() for t in other[0].tokens]
    assert len({tuple(text.tolist()) for text in first[0].tokens}) > 1  # draws of one sentence are not one draw


DRAWS = {
    "all": Decoding(temperature=1.0),
    "flat": Decoding(temperature=3.0),
    "steep": Decoding(temperature=0.5),
    "of three": Decoding(temperature=2.0, top_k=3),
    "of most": Decoding(temperature=2.0, top_p=0.9),
}


@pytest.mark.parametrize("how", DRAWS.values(), ids=DRAWS)
def test_words_are_drawn_with_their_chances(how: Decoding) -> None:
    """Two words on end, so that a draw that depends on the one before would be seen."""
    model, count = Teller(5), 20_000
    how = replace(how, n_best=count, steps=2, never=(PAD,), seed=1)
    [found] = decode(model, one(states(), 0), begin(1), how, stop=None)
    pairs = np.array(found.tokens) @ np.array([V, 1])
    expected = np.zeros((V, V))
    for first in range(V):
        words = torch.tensor([[BOS, first]])
        logits = model.unroll({"target": words}, one(states(), 0))[0]["target"][0]
        logits[:, PAD] = -math.inf
        both = chances(logits, how).detach().numpy()
        expected[first] = both[0][first] * both[1]
    assert expected.sum() == pytest.approx(1)
    counts = np.bincount(pairs, minlength=V * V)
    assert counts[expected.flatten() == 0].sum() == 0
    # Cells with few expected draws are one cell, or the statistic has no such distribution.
    rare = expected.flatten() * count < 5
    observed = [*counts[~rare], counts[rare].sum()] if rare.any() else counts
    hoped = [*(expected.flatten()[~rare] * count), expected.flatten()[rare].sum() * count]
    hoped = hoped if rare.any() else expected.flatten() * count
    there = np.array(hoped) > 0
    assert scipy.stats.chisquare(np.array(observed)[there], np.array(hoped)[there]).pvalue > 0.001


def test_a_word_without_a_chance_is_not_drawn_at_the_edges() -> None:
    """Neither at noise 0 nor just under 1."""
    probabilities = torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.0]], dtype=torch.float64).expand(3, -1)
    noise = torch.tensor([0.0, 0.5, 1 - 2.0**-53], dtype=torch.float64)
    assert drawn(probabilities, noise).tolist() == [1, 3, 3]


LOGITS = st.lists(st.floats(-8, 8), min_size=2, max_size=12)


@given(LOGITS, st.floats(0.01, 1), st.floats(0.2, 5))
def test_top_p_keeps_the_fewest_words_that_have_the_chance(logits: list[float], p: float, temperature: float) -> None:
    plain = (np.array(logits) / temperature) - max(logits) / temperature
    before = np.exp(plain) / np.exp(plain).sum()
    after = chances(torch.tensor(logits, dtype=torch.float64), Decoding(temperature=temperature, top_p=p)).numpy()
    kept = after > 0
    assert before[kept].sum() >= p - 1e-9
    assert before[kept].sum() - before[kept].min() < p + 1e-9  # one fewer would not do
    assert before[kept].min() >= before[~kept].max(initial=0) - 1e-12
    np.testing.assert_allclose(after[kept], before[kept] / before[kept].sum(), atol=1e-9)


@given(LOGITS, st.integers(1, 14))
def test_top_k_keeps_the_k_likeliest_words(logits: list[float], k: int) -> None:
    values = torch.tensor(logits, dtype=torch.float64)
    after = chances(values, Decoding(temperature=1.0, top_k=k)).numpy()
    kept = after > 0
    assert kept.sum() == min(k, len(logits))
    assert values.numpy()[kept].min() >= values.numpy()[~kept].max(initial=-math.inf)
    assert after.sum() == pytest.approx(1)


def test_top_p_is_of_what_temperature_and_top_k_leave() -> None:
    """0.4, 0.3, 0.2, 0.1: of the first three 0.6 is reached by two, 4/9 and 3/9; of all four by two as well, but 0.75
    by three of four and two of three."""
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64).log()
    kept = chances(logits, Decoding(temperature=1.0, top_k=3, top_p=0.75))
    np.testing.assert_allclose(kept.numpy(), [0, 0, 3 / 7, 4 / 7])
    all_of_them = chances(logits, Decoding(temperature=1.0, top_p=0.75))
    np.testing.assert_allclose(all_of_them.numpy(), [0, 2 / 9, 3 / 9, 4 / 9])
    sharper = chances(logits, Decoding(temperature=0.5, top_p=0.75))  # 16 / 30, 9 / 30, 4 / 30, 1 / 30
    np.testing.assert_allclose(sharper.numpy(), [0, 0, 9 / 25, 16 / 25])


def test_of_equally_likely_words_the_first_are_kept() -> None:
    kept = chances(torch.zeros(2, 5), Decoding(temperature=1.0, top_k=2))
    np.testing.assert_allclose(kept.numpy(), [[0.5, 0.5, 0, 0, 0]] * 2)


PREFIX = torch.tensor([[A, B, A], [B, FREE, FREE], [FREE, FREE, FREE], [UNK, UNK, FREE], [B, B, B]])


@pytest.mark.parametrize("how", HOWS.values(), ids=HOWS)
def test_a_forced_beginning_is_obeyed(how: Decoding) -> None:
    """However unlikely, and counted in the log-probability."""
    model = Teller(6)
    free = told(how, model)
    for row, found in enumerate(told(how, model, prefix=PREFIX)):
        forced = [word for word in PREFIX[row].tolist() if word != FREE]
        for text, total, ended in zip(found.tokens, found.log_probabilities, found.ended, strict=True):
            assert text[: len(forced)].tolist() == forced
            assert len(text) <= how.steps
            assert total == pytest.approx(rescored(model, one(states(), row), text, ended), abs=1e-9)
        if not forced:
            same([found], [free[row]])


def test_a_beam_goes_on_from_a_forced_beginning_as_if_it_had_been_read() -> None:
    """What follows A B A is what is found from the state after A B A, read by `unroll`."""
    model, how = Teller(6), Decoding(beam=4, steps=7, n_best=3, length_penalty=0)
    forced = told(how, model, prefix=torch.tensor([[A, B, A]] * SENTENCES))
    read = torch.tensor([[BOS, A, B]] * SENTENCES)
    with torch.no_grad():
        prediction, state = model.unroll({"target": read}, states())
    after = decode(model, state, torch.full((SENTENCES,), A), replace(how, steps=4))
    spent = prediction["target"].log_softmax(-1).gather(2, torch.tensor([[[A], [B], [A]]] * SENTENCES)).sum((1, 2))
    for row in range(SENTENCES):
        assert [t.tolist()[3:] for t in forced[row].tokens] == [t.tolist() for t in after[row].tokens]
        np.testing.assert_allclose(forced[row].log_probabilities - spent[row].item(), after[row].log_probabilities)


@pytest.mark.parametrize("how", HOWS.values(), ids=HOWS)
def test_words_that_are_never_said_are_not(how: Decoding) -> None:
    model = Teller(7)
    with torch.no_grad():
        model.say.bias[[PAD, BOS, UNK, A]] += 20  # it would like to
    for found in told(replace(how, never=(PAD, BOS, UNK, A)), model):
        assert {word for text in found.tokens for word in text.tolist()} <= {B}
    said = {word for found in told(replace(how, never=()), model) for word in np.concatenate(found.tokens).tolist()}
    assert {PAD, BOS, UNK, A} & said


def test_a_text_without_a_stop_goes_on() -> None:
    """Characters, sounds: 2 is a number as any other."""
    for how in HOWS.values():
        found = told(replace(how, never=()), stop=None)
        assert {len(text) for row in found for text in row.tokens} == {how.steps}
        assert not any(row.ended.any() for row in found)


def test_each_step_is_given_what_it_reads_besides() -> None:
    """A hint for each sentence decides its words, in every row that belongs to it."""
    wanted = torch.tensor([A, B, UNK, B, A])
    hint = 100 * nn.functional.one_hot(wanted, V).double()
    for how in HOWS.values():
        for word, found in zip(wanted.tolist(), told(how, given={"hint": hint}), strict=True):
            assert found.tokens[0].tolist() == [word] * how.steps


def test_a_chance_of_nothing_is_never_taken() -> None:
    """Minus infinity is a model's way to rule a word out."""
    model = Teller(8)
    with torch.no_grad():
        model.say.bias[[A, EOS]] = -math.inf
    for how in HOWS.values():
        found = told(how, model)
        assert {word for row in found for text in row.tokens for word in text.tolist()} <= {UNK, B}
        assert all(np.isfinite(row.log_probabilities).all() for row in found)


@pytest.mark.parametrize("how", HOWS.values(), ids=HOWS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_an_error(how: Decoding, value: float) -> None:
    """Of any sentence and any word, one that is never said as well."""
    for word in (PAD, B):
        model = Teller()
        with torch.no_grad():
            model.say.bias[word] = value
        with pytest.raises(SakiyomiError, match="not finite at word 1"):
            told(how, model)
    state = states()
    state["h"][3] = math.nan
    with pytest.raises(SakiyomiError, match="not finite"):
        decode(Teller(), state, begin(), how)


@pytest.mark.parametrize("how", HOWS.values(), ids=HOWS)
def test_what_comes_of_a_text_that_has_ended_is_nobodys_fault(how: Decoding) -> None:
    """A row that has ended is stepped on with the others; what the model makes of EOS does not count."""
    model = Teller(3, ends=2)
    found = told(how, model)
    assert any(row.ended.any() for row in found)
    with torch.no_grad():
        model.read.weight[EOS] = math.nan
    same(found, told(how, model))


def test_where_nothing_can_be_said_it_says_so() -> None:
    model = Teller()
    with torch.no_grad():
        model.say.bias[A] = -math.inf
    for how in HOWS.values():
        with pytest.raises(SakiyomiError, match="no word can be said as word 1"):
            told(replace(how, never=(PAD, BOS, EOS, UNK, B)), model)
        with pytest.raises(SakiyomiError, match="no word can be said as word 2"):
            told(how, model, prefix=torch.tensor([[B, A]] * SENTENCES))


class Short(Teller):
    """After two words there is nothing it could say."""

    def initial(self, batch_size: int) -> State:
        return {**super().initial(batch_size), "said": torch.zeros(batch_size, 1)}

    def step(self, observation: Streams, state: State) -> tuple[Streams, State]:
        prediction, after = super().step(observation, {"h": state["h"]})
        over = torch.where(state["said"] < 2, 0.0, -math.inf)
        return {"target": prediction["target"] + over}, {**after, "said": state["said"] + 1}


def test_a_beam_whose_hypotheses_all_come_to_an_end_has_those_that_ended() -> None:
    model = Short(ends=1)
    [found] = decode(model, model.initial(1), begin(1), Decoding(beam=4, n_best=4, steps=6))
    assert found.ended.all()
    assert all(len(text) < 2 for text in found.tokens)
    with pytest.raises(SakiyomiError, match="no word can be said as word 3"):
        decode(model, model.initial(1), begin(1), Decoding(beam=4, steps=6), prefix=torch.tensor([[A, B]]))


WRONG = {
    "--beam is 0": Decoding(beam=0),
    "--steps is 0": Decoding(steps=0),
    "--n-best is 0": Decoding(n_best=0),
    "--temperature is -1": Decoding(temperature=-1),
    "--temperature is nan": Decoding(temperature=math.nan),
    "--temperature is infinite": Decoding(temperature=math.inf),
    "--top-k is -1": Decoding(temperature=1, top_k=-1),
    "--top-p is 0": Decoding(temperature=1, top_p=0),
    "--top-p is 1.1": Decoding(temperature=1, top_p=1.1),
    "--top-p is nan": Decoding(temperature=1, top_p=math.nan),
    "--length-penalty is -0.1": Decoding(length_penalty=-0.1),
    "--seed is -1": Decoding(seed=-1),
    "--seed is 9223372036854775808": Decoding(seed=2**63),
    "looks for the likeliest text": Decoding(beam=2, temperature=1),
    "say among which words to draw": Decoding(top_k=3),
    "a beam has no more texts": Decoding(beam=2, n_best=3),
    "the vocabulary has 0 to 5": Decoding(never=(6,)),
}


@pytest.mark.parametrize("match", WRONG)
def test_settings_that_cannot_be_are_refused(match: str) -> None:
    with pytest.raises(SakiyomiError, match=match.replace(".", r"\.")):
        told(WRONG[match])


def test_words_and_prefixes_that_cannot_be_are_refused() -> None:
    def refused(match: str, prefix: Tensor | None = None, first: Tensor | None = None) -> None:
        with pytest.raises(SakiyomiError, match=match):
            decode(Teller(), states(), begin() if first is None else first, Decoding(steps=3), prefix)

    with pytest.raises(SakiyomiError, match="unknown stream of tokens 'source': known: target"):
        told(GREEDY, stream="source")
    refused("hold numbers from 1 to 6", first=torch.tensor([1, 1, 1, 1, V]))
    refused("hold numbers from -1", first=torch.tensor([1, 1, 1, 1, -1]))
    refused("torch.float32", first=begin().float())
    refused("one for each sentence", first=begin()[:, None])
    refused("a row for each sentence", torch.tensor([[A]]))
    refused("prefix has 4 words, --steps is 3", torch.full((SENTENCES, 4), A))
    refused("hold numbers from 4 to 6", torch.tensor([[A], [A], [A], [A], [V]]))
    refused("after a free place", torch.tensor([[FREE, A]] * SENTENCES))
    refused(r"holds words \[0\]", torch.tensor([[A, PAD]] * SENTENCES))  # padded with what is never said
    refused(r"holds words \[2\]", torch.tensor([[A, EOS]] * SENTENCES))


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(1, 6), st.floats(0, 2))
def test_a_beams_texts_are_ranked_and_all_different(seed: int, beam: int, steps: int, alpha: float) -> None:
    how = Decoding(beam=beam, steps=steps, n_best=beam, length_penalty=alpha)
    for found in told(how, Teller(seed)):
        assert len({tuple(text.tolist()) for text in found.tokens}) == len(found.tokens)
        assert (np.diff(scores(found, alpha)) <= 1e-12).all()
