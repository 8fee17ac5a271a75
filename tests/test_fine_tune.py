"""Heads on language models learn what only they can tell; k-shot prompting reads off what a model has understood."""

from collections.abc import Callable
from itertools import permutations, product

import pytest
import torch
from torch import Tensor

from sakiyomi.data.vocabulary import BOS, EOS, SPECIAL, Vocabulary
from sakiyomi.data.windows import Batch
from sakiyomi.errors import SakiyomiError
from sakiyomi.fine_tune import (
    Choice,
    Classifier,
    Example,
    FineTuning,
    Head,
    Similarity,
    accuracy,
    answers,
    fine_tune,
    row_of,
)
from sakiyomi.models import BERT, GPT, SequenceModel, Transformer
from sakiyomi.prompt import Form, Shot, ask, prompt_of
from sakiyomi.schedules import LearningRate, progress_at

V = 16
KEYS = (4, 5, 6, 7)  # the words that tasks are about; the others are there to be looked past
QUICK = FineTuning(steps=120, batch_size=32, learning_rate=LearningRate(1e-2, 10, "linear"))


def gpt(words: int = V) -> GPT:
    return GPT(GPT.Config(words=words, width=32, heads=2, blocks=1, feedforward=64, context=64, dropout=0.0))


def bert() -> BERT:
    return BERT(BERT.Config(words=V, width=32, heads=2, blocks=1, feedforward=64, dropout=0.0, pairs=False))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=[gpt, bert])
def model(request: pytest.FixtureRequest) -> SequenceModel:
    return request.param()


def text_with(key: int, generator: torch.Generator) -> tuple[int, ...]:
    """One to five words, among which is the key."""
    others = torch.randint(8, V, (int(torch.randint(5, (), generator=generator)),), generator=generator).tolist()
    place = int(torch.randint(len(others) + 1, (), generator=generator))
    return (*others[:place], key, *others[place:])


def made(rule: Callable[[tuple[int, ...]], int], keys: list[tuple[int, ...]], seed: int) -> list[Example]:
    generator = torch.Generator().manual_seed(seed)
    drawn = [keys[int(torch.randint(len(keys), (), generator=generator))] for _ in range(64)]
    return [Example(tuple(text_with(key, generator) for key in some), rule(some)) for some in drawn]


def taught(head: Head, rule: Callable[[tuple[int, ...]], int], keys: list[tuple[int, ...]]) -> float:
    """How well it does on examples it has not seen."""
    fine_tune(head, made(rule, keys, 0) * 2, QUICK)
    return accuracy(head, made(rule, keys, 1))


def test_a_text_gets_its_class(model: SequenceModel) -> None:
    assert taught(Classifier(model, 4), lambda keys: keys[0] - 4, [(key,) for key in KEYS]) > 0.9


def test_of_a_pair_the_order_counts(model: SequenceModel) -> None:
    """Both texts hold one of two words: which comes first is the class."""
    assert taught(Classifier(model, 2), lambda keys: int(keys[0] < keys[1]), [(4, 5), (5, 4)]) > 0.9


def test_similarity_does_not_depend_on_the_order(model: SequenceModel) -> None:
    """It learns from one order, and so knows the other."""
    head = Similarity(model, 2)
    pairs = [(a, b) for a, b in product(KEYS[:3], repeat=2) if a <= b]
    shown = [Example(((a,), (b,)), int(a == b)) for a, b in pairs]
    fine_tune(head, shown * 4, QUICK)
    turned = [Example(one.texts[::-1], one.label) for one in shown]
    assert accuracy(head, turned) == accuracy(head, shown) == 1.0
    generator = torch.Generator().manual_seed(0)
    several = [(text_with(4, generator), text_with(5, generator)) for _ in range(6)]
    before, after = head(several), head([(b, a) for a, b in several])
    torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-5)
    assert (before[0] - before[1:]).abs().max() > 1e-3  # other texts, another answer


def test_choices_are_compared_wherever_they_stand(model: SequenceModel) -> None:
    """The right choice is the one with the word of the context."""
    head = Choice(model)
    sets = [(a, *order) for a, b in permutations(KEYS[:3], 2) for order in ((a, b), (b, a))]
    shown = [Example(tuple((key,) for key in some), some[1:].index(some[0])) for some in sets]
    fine_tune(head, shown * 4, QUICK)
    assert accuracy(head, shown) == 1.0
    three = head([((4,), (5,), (6,), (7,))])
    turned = head([((4,), (7,), (5,), (6,))])
    torch.testing.assert_close(three[:, [2, 0, 1]], turned, atol=1e-5, rtol=1e-5)


def test_a_frozen_model_stays_as_it_is(model: SequenceModel) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    examples = made(lambda keys: keys[0] - 4, [(key,) for key in KEYS], 0)
    frozen, tuned = FineTuning(steps=20, frozen=True), FineTuning(steps=20)
    head = Classifier(model, 4)
    losses = fine_tune(head, examples, frozen)
    assert losses[-1] < losses[0]
    torch.testing.assert_close(dict(model.state_dict()), before, atol=0, rtol=0)
    fine_tune(head, examples, tuned)
    moved = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert any(name.startswith("blocks") for name in moved)


def test_a_training_follows_from_its_seed() -> None:
    examples = made(lambda keys: keys[0] - 4, [(key,) for key in KEYS], 0)
    runs = []
    for seed in (0, 0, 1):
        torch.manual_seed(5)
        model = GPT(GPT.Config(words=V, width=16, heads=2, blocks=1, feedforward=16, dropout=0.2))
        runs.append(fine_tune(Classifier(model, 4), examples, FineTuning(steps=5, seed=seed)))
    assert runs[0] == runs[1] != runs[2]


def test_texts_side_by_side_do_not_meet(model: SequenceModel) -> None:
    """What a text becomes does not depend on how long the others are that it is read with."""
    head = Classifier(model, 2)
    rows = [row_of((4, 8)), row_of((5, 9, 10, 11, 12), (4,))]
    torch.testing.assert_close(head.read(rows)[:1], head.read(rows[:1]), atol=1e-5, rtol=1e-5)


def test_the_row_of_texts() -> None:
    assert row_of((5, 6), (7,)) == [BOS, 5, 6, EOS, 7, EOS]
    with pytest.raises(SakiyomiError, match="no word"):
        row_of((5,), ())


def test_wrong_use_is_named() -> None:
    with pytest.raises(SakiyomiError, match="Transformer"):
        Classifier(Transformer(Transformer.Config(9, 9, width=8, heads=2, blocks=1, feedforward=8)), 2)
    with pytest.raises(SakiyomiError, match="no example"):
        fine_tune(Classifier(gpt(), 2), [], FineTuning())
    with pytest.raises(SakiyomiError, match="choices"):
        answers(Choice(gpt()), [Example(((4,), (5,), (6,)), 0), Example(((4,), (5,), (6,), (7,)), 0)])
    with pytest.raises(SakiyomiError, match="choices"):
        answers(Choice(gpt()), [Example(((4,), (5,)), 0)])
    with pytest.raises(SakiyomiError, match="two are compared"):
        answers(Similarity(gpt(), 2), [Example(((4,), (5,), (6,)), 0)])


# k-shot prompting.

LETTERS = Vocabulary.learn(["abcdABCD1234> "], "characters")
FORM = Form(between=">", after=" ")
ANSWERS = ("ABCD", "1234")


def asked_so_far(rule: int, questions: str) -> str:
    """Every letter is answered by its capital, or by its number."""
    return "".join(f"{q}>{ANSWERS[rule]['abcd'.index(q)]} " for q in questions)


@pytest.fixture(scope="module")
def shown() -> GPT:
    """A GPT that has read questions with answers, by one of two rules in each text."""
    torch.manual_seed(0)
    model = GPT(GPT.Config(words=len(LETTERS), width=32, heads=2, blocks=2, feedforward=64, context=64, dropout=0.0))
    optimizer, generator = torch.optim.Adam(model.parameters(), 1e-2), torch.Generator().manual_seed(0)

    def text() -> list[int]:
        picks = torch.randint(4, (6,), generator=generator).tolist()
        return LETTERS.encode(
            asked_so_far(int(torch.randint(2, (), generator=generator)), "".join("abcd"[i] for i in picks))
        )

    for step in range(250):
        tokens = torch.tensor([text() for _ in range(16)])
        batch = Batch({"token": tokens[:, :-1]}, {"token": tokens[:, 1:]}, torch.ones(16, tokens.shape[1] - 1))
        model.loss(batch, progress_at(step, 250, 0, torch.device("cpu")))["token"].mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def test_examples_in_the_prompt_say_what_is_asked(shown: GPT) -> None:
    """The same question has another answer after other examples; without examples both are possible."""
    for question in "abcd":
        capital, number = (asked_so_far(rule, question)[2] for rule in (0, 1))
        alone = ask(shown, LETTERS, [], question, (capital, number), FORM)
        assert max(alone.nats.values()) < 3
        for rule, right, wrong in ((0, capital, number), (1, number, capital)):
            pairs = asked_so_far(rule, "bcad".replace(question, "")).split()
            found = ask(shown, LETTERS, [Shot(*pair.split(">")) for pair in pairs], question, tuple("ABCD1234"), FORM)
            assert found.best == right
            assert found.nats[wrong] > 3


@torch.no_grad()
def test_the_cost_of_an_answer_is_that_of_its_tokens(shown: GPT) -> None:
    """One by one, by `step`; a longer answer pays for all of its letters, and for its end."""
    shots = [Shot("a", "A"), Shot("b", "B")]
    found = ask(shown, LETTERS, shots, "c", ("C", "CC", "abc"), FORM)
    assert found.prompt == prompt_of(shots, "c", FORM) == "a>A b>B c>"
    for answer, nats in found.nats.items():
        tokens, total, state = LETTERS.encode(found.prompt + answer + " "), 0.0, shown.initial(1)
        for place, token in enumerate(tokens[:-1]):
            said, state = shown.step({"token": torch.tensor([token])}, state)
            if place >= len(found.prompt) - 1:
                total -= float(said["token"][0].log_softmax(-1)[tokens[place + 1]])
        assert nats == pytest.approx(total, rel=1e-4)


@torch.no_grad()
def test_answers_share_out_the_probability(shown: GPT) -> None:
    """All letters as the end of a prompt without an end of the answer: their probabilities, and those of what else may
    follow, sum to 1."""
    form = Form(between=">", after="")
    found = ask(shown, LETTERS, [], "a", tuple("abcdABCD1234> "), form)
    rest: Tensor = shown.unroll({"token": torch.tensor([LETTERS.encode("a>")])})[0]["token"][0, -1].softmax(-1)
    total = sum(torch.tensor(-nats).exp().item() for nats in found.nats.values())
    assert total + rest[: len(SPECIAL)].sum().item() == pytest.approx(1, abs=1e-5)


def test_prompts_that_cannot_be_told_are_refused(shown: GPT) -> None:
    for question, choices, said in (
        ("e", ("a",), "not in the vocabulary: e"),
        ("a", (), "no answer"),
        ("a", ("z",), "z"),
    ):
        with pytest.raises(SakiyomiError, match=said):
            ask(shown, LETTERS, [], question, choices, FORM)
    with pytest.raises(SakiyomiError, match="BERT does not say"):
        ask(bert(), LETTERS, [], "a", ("b",), FORM)
