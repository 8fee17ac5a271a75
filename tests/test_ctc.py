"""CTC: the loss is that of the definition, all paths added up, for anybody's algorithm; what is read from a network's
output is the best there is; and what cannot be said in so few frames is refused."""

import itertools
import math
import time
from collections import defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from sakiyomi.errors import SakiyomiError
from sakiyomi.layers.ctc import (
    Beam,
    Greedy,
    LanguageModel,
    best_path,
    collapse,
    ctc_loss,
    forward_backward,
    frames_needed,
    prefix_beam,
)
from sakiyomi.layers.ngram import Ngram, Spelled

SENTENCES = [[1, 2, 3], [1, 2, 1, 2], [3, 3, 1], [1, 2, 3, 1, 2], [2]]
ALL = Beam(width=10_000, weight=0.0, floor=-math.inf)


def network(*shape: int, seed: int = 0, sharp: float = 2.0) -> Tensor:
    """Log-probabilities, float64."""
    logits = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (sharp * logits).log_softmax(-1)


def by_definition(log_probs: Tensor, blank: int = 0) -> dict[tuple[int, ...], Tensor]:
    """Every labelling of [T, V] -> the log of the sum over all paths that say it."""
    steps, symbols = log_probs.shape
    ways = defaultdict(list)
    for path in itertools.product(range(symbols), repeat=steps):
        ways[tuple(collapse(path, blank))].append(log_probs[range(steps), path].sum())
    return {labels: torch.stack(paths).logsumexp(0) for labels, paths in ways.items()}


def counts(*numbers: int) -> Tensor:
    return torch.tensor(numbers)


# ---- What a path says ------------------------------------------------------------------------------------------------


def test_neighbours_that_are_equal_are_one_and_blanks_go() -> None:
    assert collapse([1, 1, 0, 1, 2, 2]) == [1, 1, 2]
    assert collapse([0, 0]) == collapse([]) == []
    assert collapse([2, 0, 2, 1], blank=2) == [0, 1]


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_stretching_a_path_changes_nothing_it_says(path: list[int], blank: int) -> None:
    said = collapse(path, blank)
    assert collapse([symbol for symbol in path for _ in range(3)], blank) == said
    assert collapse([symbol for label in said for symbol in (label, blank)], blank) == said
    assert frames_needed(said) <= len(path)


# ---- The loss --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blank", [0, 1, 2])
@pytest.mark.parametrize("steps", [1, 3, 6])
def test_the_loss_is_the_sum_over_all_paths(steps: int, blank: int) -> None:
    """Ours, PyTorch's and the definition's, in values and in gradients, of every labelling there is."""
    log_probs = network(steps, 3, seed=steps).requires_grad_()
    for labels, wanted in by_definition(log_probs, blank).items():
        gradient = torch.autograd.grad(wanted, log_probs, retain_graph=True)[0]
        given = (log_probs[None], torch.tensor([labels], dtype=torch.int64), counts(steps), counts(len(labels)), blank)
        loss = ctc_loss(*given)
        assert loss.shape == (1,)
        torch.testing.assert_close(loss[0], -wanted, atol=1e-8, rtol=1e-8)
        # PyTorch's gradient is by the logits that log_softmax was given: it is less by what log_softmax takes away.
        logits = log_probs.detach().clone().requires_grad_()
        ours = forward_backward(*given)
        torch.testing.assert_close(ours.total[0], wanted, atol=1e-8, rtol=1e-8)
        torch.testing.assert_close(ours.occupancy[0], gradient, atol=1e-8, rtol=1e-8)
        (by_logits,) = torch.autograd.grad(ctc_loss(logits.log_softmax(-1)[None], *given[1:]).sum(), logits)
        torch.testing.assert_close(by_logits, logits.softmax(-1) - ours.occupancy[0], atol=1e-8, rtol=1e-8)


def test_a_batch_of_many_lengths_is_each_sequence_by_itself() -> None:
    """What stands in padding changes nothing: not a value, not a gradient."""
    frames, labels = counts(12, 7, 3, 1, 5), counts(5, 3, 2, 1, 0)
    log_probs = network(5, 12, 6).requires_grad_()
    targets = torch.randint(1, 6, (5, 5), generator=torch.Generator().manual_seed(0))
    targets[0] = torch.tensor([4, 4, 4, 1, 1])
    together = ctc_loss(log_probs, targets, frames, labels)
    aligned = forward_backward(log_probs, targets, frames, labels)
    torch.testing.assert_close(aligned.total, -together)
    (gradient,) = torch.autograd.grad(together.sum(), log_probs)
    for row, (steps, count) in enumerate(zip(frames.tolist(), labels.tolist(), strict=True)):
        alone = (log_probs[row : row + 1, :steps], targets[row : row + 1, :count], counts(steps), counts(count))
        torch.testing.assert_close(ctc_loss(*alone)[0], together[row])
        torch.testing.assert_close(forward_backward(*alone).occupancy[0], aligned.occupancy[row, :steps])
        assert not aligned.occupancy[row, steps:].any()
        assert not gradient[row, steps:].any()
    padded = torch.where(torch.arange(5) < labels[:, None], targets, -7)
    torch.testing.assert_close(ctc_loss(log_probs, padded, frames, labels), together, atol=0, rtol=0)
    torch.testing.assert_close(forward_backward(log_probs, padded, frames, labels).total, aligned.total)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_three_agree_on_long_sequences_too(dtype: torch.dtype) -> None:
    log_probs = network(3, 150, 30, sharp=4).to(dtype)
    targets = torch.randint(1, 30, (3, 40), generator=torch.Generator().manual_seed(1))
    given = (log_probs, targets, counts(150, 120, 100), counts(40, 30, 0))
    torch.testing.assert_close(-forward_backward(*given).total, ctc_loss(*given), rtol=1e-5, atol=1e-5)


def test_forward_and_backward_meet_at_every_frame() -> None:
    """The sum over the states is the total whichever frame one looks at, and something is said at each."""
    frames = counts(9, 6)
    targets = torch.tensor([[1, 1, 2], [3, 1, 0]])
    aligned = forward_backward(network(2, 9, 4), targets, frames, counts(3, 2))
    for row, steps in enumerate(frames.tolist()):
        met = (aligned.alpha[row, :steps] + aligned.beta[row, :steps]).logsumexp(-1)
        torch.testing.assert_close(met, aligned.total[row].expand(steps))
        torch.testing.assert_close(aligned.occupancy[row, :steps].sum(-1), torch.ones(steps, dtype=torch.float64))


def test_the_loss_has_its_minus_sign() -> None:
    """Never under 0, least where the right labelling is likely; and a step down its gradient makes that likelier."""
    targets, frames, labels = torch.tensor([[1, 2, 2]]), counts(8), counts(3)
    right = functional.one_hot(torch.tensor([1, 1, 0, 2, 0, 2, 2, 0]), 4).double()
    losses = [
        ctc_loss((sure * right)[None].log_softmax(-1), targets, frames, labels).item() for sure in (0, 1, 3, 9, 30)
    ]
    assert all(later < before for before, later in itertools.pairwise(losses))
    assert losses[-1] == pytest.approx(0, abs=1e-6)
    assert (ctc_loss(network(50, 8, 4), targets.expand(50, -1), frames.expand(50), labels.expand(50)) >= 0).all()
    logits = torch.zeros(1, 8, 4, dtype=torch.float64, requires_grad=True)
    for _ in range(200):
        (gradient,) = torch.autograd.grad(ctc_loss(logits.log_softmax(-1), targets, frames, labels).sum(), logits)
        logits = (logits - gradient).detach().requires_grad_()
    assert best_path(logits[0]) == [1, 2, 2]


def test_a_transcript_longer_than_its_frames_is_named() -> None:
    """Repeats take a blank between them; one frame more, and it can be said."""
    log_probs, targets = network(2, 5, 4), torch.tensor([[1, 2, 0, 0], [3, 3, 3, 1]])
    for measure in (ctc_loss, forward_backward):
        with pytest.raises(SakiyomiError, match=r"sequence 1 .*4 labels with 2 repeats need 6 frames, it has 5"):
            measure(log_probs, targets, counts(5, 5), counts(2, 4))
    fitting = ctc_loss(network(2, 6, 4), targets, counts(5, 6), counts(2, 4))
    assert fitting.isfinite().all()
    path = network(2, 6, 4)[1][range(6), [3, 0, 3, 0, 3, 1]].sum()  # the only one
    torch.testing.assert_close(fitting[1], -path)


def test_saying_nothing_is_all_blanks() -> None:
    log_probs = network(1, 6, 3)
    for targets in (torch.zeros(1, 0, dtype=torch.int64), torch.tensor([[1, 2]])):
        given = (log_probs, targets, counts(6), counts(0))
        torch.testing.assert_close(ctc_loss(*given)[0], -log_probs[0, :, 0].sum())
        torch.testing.assert_close(forward_backward(*given).total[0], log_probs[0, :, 0].sum())


@pytest.mark.parametrize(
    ("targets", "frames", "labels", "said"),
    [
        ([[1, 0]], [5], [2], "label 0; labels are 0 to 3 without the blank, 0"),
        ([[1, 4]], [5], [2], "label 4"),
        ([[1, -1]], [5], [2], "label -1"),
        ([[1, 2]], [6], [2], "6 frames and 2 labels; there are 5 and 2"),
        ([[1, 2]], [5], [3], "5 frames and 3 labels"),
        ([[1, 2]], [0], [0], "0 frames"),
        ([1, 2], [5], [2], r"\[B, L\]"),
        ([[1, 2]], [5, 5], [2], r"\[B, L\]"),
    ],
)
def test_what_is_no_target_is_said(targets, frames, labels, said: str) -> None:
    with pytest.raises(SakiyomiError, match=said):
        ctc_loss(network(1, 5, 4), torch.tensor(targets), torch.tensor(frames), torch.tensor(labels))


# ---- Reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_a_wide_beam_finds_the_best_labelling_of_all(seed: int) -> None:
    log_probs = network(6, 3, seed=seed, sharp=1)
    truth = {labels: value.item() for labels, value in by_definition(log_probs).items()}
    found = prefix_beam(log_probs, ALL)
    assert {one.labels: pytest.approx(one.log_probability, abs=1e-9) for one in found} == truth
    assert found[0].labels == max(truth, key=lambda labels: truth[labels])
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    for width in (1, 2, 5, 20):
        for one in prefix_beam(log_probs, Beam(width, 0, floor=-math.inf)):
            assert one.log_probability <= truth[one.labels] + 1e-9


def test_the_best_labelling_need_not_be_the_likeliest_path() -> None:
    """Blank is the likeliest of both frames, but `a` has three paths: 0.24 + 0.24 + 0.16 against 0.36."""
    log_probs = torch.tensor([[0.6, 0.4], [0.6, 0.4]]).log()
    assert best_path(log_probs) == []
    best = prefix_beam(log_probs, Beam(weight=0))[0]
    assert best.labels == (1,)
    assert math.exp(best.log_probability) == pytest.approx(0.64)


def test_a_beam_is_often_better_than_the_likeliest_path_and_seldom_worse() -> None:
    better = worse = 0
    for seed in range(30):
        log_probs = network(40, 10, seed=seed)
        found = prefix_beam(log_probs, Beam(width=16, weight=0))[0]
        plain = tuple(best_path(log_probs))
        ours, theirs = (
            -ctc_loss(log_probs[None], torch.tensor([said]), counts(40), counts(len(said))).item()
            for said in (found.labels, plain)
        )
        better += ours > theirs + 1e-6
        worse += ours < theirs - 1e-6
    assert better >= 15
    assert worse <= 2


def as_in_the_paper(log_probs: Tensor, beam: Beam, model: LanguageModel) -> dict[tuple[int, ...], float]:
    """Prefixes by their tuples, every label tried, chances and not their logs; labellings with their scores."""
    chances = log_probs.exp().tolist()

    def extra(labels: tuple[int, ...]) -> float:
        said = sum(model.log_probability(labels[:place], label) for place, label in enumerate(labels))
        return beam.weight * said + beam.bonus * len(labels)

    kept = {(): (1.0, 0.0)}  # ending in a blank, and in the last label
    for frame in chances:
        after: dict[tuple[int, ...], list[float]] = defaultdict(lambda: [0.0, 0.0])
        for labels, (blank, spoken) in kept.items():
            after[labels][0] += frame[0] * (blank + spoken)
            for label in range(1, len(frame)):
                repeated = labels[-1:] == (label,)
                after[*labels, label][1] += frame[label] * (blank if repeated else blank + spoken)
                if repeated:
                    after[labels][1] += frame[label] * spoken
        best = sorted(after, key=lambda labels: -math.log(sum(after[labels]) or 1e-300) - extra(labels))
        kept = {labels: (after[labels][0], after[labels][1]) for labels in best[: beam.width]}
    return {
        labels: math.log(sum(ways)) + extra(labels) + beam.weight * model.ending(labels)
        for labels, ways in kept.items()
    }


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("width", "weight", "bonus"), [(1, 1.0, 0.0), (3, 0.7, 2.0), (6, 0.5, 0.5), (6, 2.0, -1.0)])
def test_a_narrow_beam_keeps_what_that_of_the_paper_keeps(seed: int, width: int, weight: float, bonus: float) -> None:
    """Which leaves nothing out that might get among the best, and goes through all labels every time."""
    log_probs, model = network(12, 6, seed=seed), Ngram.fit(SENTENCES, size=6, order=3)
    beam = Beam(width, weight, bonus, -math.inf)
    found = prefix_beam(log_probs, beam, model)
    assert {one.labels: pytest.approx(one.score) for one in found} == as_in_the_paper(log_probs, beam, model)


def test_the_likeliest_symbol_is_always_tried() -> None:
    """However unlikely it is: of many that are nearly alike all may be under the floor."""
    log_probs = torch.full((1, 12), -3.0)
    log_probs[0, 7] = -2.0
    log_probs = log_probs.log_softmax(-1)
    assert log_probs.max() < -1
    assert prefix_beam(log_probs, Beam(weight=0, floor=-1))[0].labels == (7,)


def test_pruning_loses_nothing_that_counts() -> None:
    """What the floor leaves out, and what is left out because it cannot get among the best: the same labelling."""
    for seed in range(5):
        log_probs = network(30, 12, seed=seed, sharp=4)
        pruned, whole = prefix_beam(log_probs, Beam(8, 0)), prefix_beam(log_probs, Beam(8, 0, floor=-math.inf))
        assert pruned[0].labels == whole[0].labels
        assert pruned[0].log_probability == pytest.approx(whole[0].log_probability, abs=0.01)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("weight", "bonus"), [(1.0, 0.0), (0.7, 1.5), (2.0, -0.5)])
def test_with_a_language_model_a_wide_beam_finds_the_best_of_all(seed: int, weight: float, bonus: float) -> None:
    log_probs, model = network(5, 4, seed=seed, sharp=1), Ngram.fit(SENTENCES, size=4, order=3)
    truth = {
        labels: value.item() - weight * model.nats(labels) + bonus * len(labels)
        for labels, value in by_definition(log_probs).items()
    }
    found = prefix_beam(log_probs, Beam(10_000, weight, bonus, -math.inf), model)
    assert {one.labels: pytest.approx(one.score, abs=1e-9) for one in found} == truth
    narrow = prefix_beam(log_probs, Beam(30, weight, bonus, -math.inf), model)
    assert narrow[0].labels == found[0].labels == max(truth, key=lambda labels: truth[labels])


def test_a_language_model_mends_what_was_not_heard_well() -> None:
    """Of two labels that sound alike the one that makes a sentence."""
    heard = torch.full((6, 4), 1e-3)
    for frame, symbol in enumerate([1, 0, 2, 0, 3, 0]):
        heard[frame, symbol] = 1
    heard[2, 3] = 1.1  # 1 3 3, a little likelier than 1 2 3
    log_probs = heard.log().log_softmax(-1)
    assert best_path(log_probs) == [1, 3, 3]
    assert prefix_beam(log_probs, Beam())[0].labels == (1, 3, 3)
    assert prefix_beam(log_probs, Beam(weight=1.0), Ngram.fit(SENTENCES, 4, 3))[0].labels == (1, 2, 3)


@given(st.lists(st.integers(0, 4), max_size=6), st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_frames_in_pieces_are_read_as_the_whole(lengths: list[int], seed: int) -> None:
    log_probs, reader = network(2, sum(lengths), 3, seed=seed), Greedy()
    state, said = reader.initial(2), [[], []]
    for piece in log_probs.split(lengths, dim=1) if lengths else ():
        kept = state["last"].clone()
        new, after = reader.read(piece, state)
        assert torch.equal(state["last"], kept)
        state = after
        for line, labels in zip(said, new, strict=True):
            line += labels
    whole, end = reader.read(log_probs, reader.initial(2))
    assert said == whole == [best_path(row) for row in log_probs]
    assert torch.equal(state["last"], end["last"])


def test_a_beam_is_quick_enough_to_use() -> None:
    """300 frames of 100 symbols with a language model, most of them sure as a trained network's: far under a second."""
    labels = torch.randint(1, 100, (60,), generator=torch.Generator().manual_seed(0))
    path = torch.zeros(300, dtype=torch.int64)
    path[::5] = labels
    log_probs = (12 * functional.one_hot(path, 100) + network(300, 100)).log_softmax(-1)
    model = Ngram.fit([labels.tolist()], 100, 4)
    start = time.process_time()
    best = prefix_beam(log_probs, Beam(width=16), model)[0]
    assert time.process_time() - start < 1
    assert best.labels == tuple(collapse(path.tolist()))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: Beam(width=0), "at least 1"),
        (lambda: Beam(weight=-1), "at least 0"),
        (lambda: prefix_beam(network(2, 3, 4), Beam()), r"\[T, V\]"),
        (lambda: prefix_beam(network(3, 4), Beam(), blank=4), "the blank, 4"),
        (lambda: prefix_beam(network(3, 4) * math.nan, Beam()), "NaN"),
        (lambda: Ngram.fit([[1, 4]], 4), "label 4; labels are 0 to 3"),
        (lambda: Ngram.fit([[1]], 4, 0), "at least 1"),
        (lambda: Spelled.of(Ngram.fit([], 2), [(1, 0)], 0), "with a space"),
        (lambda: Spelled.of(Ngram.fit([], 2), [(1,), (1,)], 0), "twice"),
    ],
)
def test_what_cannot_be_read_is_said(wrong, said: str) -> None:
    with pytest.raises(SakiyomiError, match=said):
        wrong()


# ---- Language models of counts ---------------------------------------------------------------------------------------


@given(
    st.lists(st.lists(st.integers(0, 3), max_size=8), max_size=8),
    st.lists(st.integers(0, 3), max_size=5),
    st.integers(1, 4),
)
@settings(max_examples=100, deadline=None)
def test_what_may_come_next_sums_to_one(sentences, prefix: list[int], order: int) -> None:
    model = Ngram.fit(sentences, 4, order)
    each = [model.probability(prefix, label) for label in range(5)]
    assert sum(each) == pytest.approx(1)
    assert min(each) > 0


def test_witten_bell_by_hand() -> None:
    """After 1 came 2 three times and 3 once. Single labels: of 12, four kinds with the end, 2 came four times; before
    all that each of five was as likely."""
    sentences = [[1, 2], [1, 2], [1, 2, 2], [1, 3]]
    alone = (4 + 4 / 5) / (13 + 4)
    assert Ngram.fit(sentences, 4, 1).probability((), 2) == pytest.approx(alone)
    assert Ngram.fit(sentences, 4, 2).probability((1,), 2) == pytest.approx((3 + 2 * alone) / (4 + 2))
    assert Ngram.fit(sentences, 4, 2).probability((0,), 2) == pytest.approx(alone)  # 0 was never there


def test_sentences_seen_are_likelier_the_more_is_looked_at() -> None:
    costs = [sum(Ngram.fit(SENTENCES, 4, order).nats(line) for line in SENTENCES) for order in (1, 2, 3, 4)]
    assert costs == sorted(costs, reverse=True)
    model = Ngram.fit(SENTENCES, 4, 3)
    assert model.nats([1, 2, 3]) < model.nats([3, 2, 1])
    assert model.nats([]) == pytest.approx(-model.ending(()))


SPACE, A, B, C = 1, 2, 3, 4
WORDS = [(A, B), (A, B, C), (C,)]  # "ab" "abc" "c"


def letters(*words: int) -> tuple[int, ...]:
    return tuple(itertools.chain(*((*WORDS[word], SPACE) for word in words)))[:-1]


def test_a_model_of_words_judges_whole_words() -> None:
    words = Ngram.fit([[0, 2], [0, 2], [1]], 3, 2)
    model: LanguageModel = Spelled.of(words, WORDS, SPACE, unknown=20)

    def cost(said: tuple[int, ...]) -> float:
        steps = (model.log_probability(said[:place], label) for place, label in enumerate(said))
        return -sum(steps) - model.ending(said)

    for sentence in ([0], [0, 2], [1, 1, 0], []):
        assert cost(letters(*sentence)) == pytest.approx(words.nats(sentence))
    assert model.log_probability((A,), B) == 0  # the middle of a word
    assert model.log_probability((A,), C) == -20  # no word begins like that
    assert model.log_probability((A, C), A) == model.log_probability((A, C), SPACE) == 0  # paid once
    assert model.log_probability((A,), SPACE) == -20  # a word broken off
    assert cost((A, C)) == pytest.approx(20 + words.nats([]))


def test_a_beam_of_letters_says_words() -> None:
    """`a b c` heard without a space is `abc`; what counts is the word, and bonuses are for words."""
    words = Ngram.fit([[1], [0, 2], [0, 2], [0, 2]], 3, 2)
    model = Spelled.of(words, WORDS, SPACE)
    heard = torch.full((8, 5), 1e-4)
    for frame, symbol in enumerate([A, A, B, 0, C, C, 0, 0]):
        heard[frame, symbol] = 1
    heard[3, SPACE] = 0.5
    log_probs = heard.log().log_softmax(-1)
    assert prefix_beam(log_probs, Beam(weight=0, space=SPACE))[0].labels == (A, B, C)
    assert prefix_beam(log_probs, Beam(weight=2, space=SPACE), model)[0].labels == (A, B, SPACE, C)
    assert prefix_beam(log_probs, Beam(weight=0, bonus=1, space=SPACE))[0].labels == (A, B, SPACE, C)
    two = next(one for one in prefix_beam(log_probs, Beam(50, 0, 1, space=SPACE)) if one.labels == (A, B, SPACE, C))
    assert two.score - two.log_probability == pytest.approx(2)
