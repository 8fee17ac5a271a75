"""k-shot prompting: a language model is shown k questions with their answers and one without, and is asked how likely
each answer would be; nothing is trained (Brown et al.: "Language Models are Few-Shot Learners", 2020).

    found = ask(model, vocabulary, [Shot("abc", "c"), Shot("xyz", "z")], "klm", ("l", "m"), Form(between=">"))
    found.best, found.nats
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sakiyomi.data.texts import padded
from sakiyomi.data.vocabulary import UNK, Vocabulary
from sakiyomi.errors import SakiyomiError
from sakiyomi.models.base import SequenceModel


@dataclass(frozen=True)
class Shot:
    """A question with its answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class Form:
    """How questions and answers are written one after the other."""

    before: str = ""
    """What the prompt begins with, such as what the task is."""
    between: str = " "
    """Between a question and its answer; where tokens are words, white space alone is nothing."""
    after: str = "\n"
    """After an answer."""


@dataclass(frozen=True)
class Asked:
    """What a model says of the answers it was given."""

    prompt: str
    """What it has read."""
    best: str
    """The most likely answer."""
    nats: dict[str, float]
    """-log p of each answer as the continuation of the prompt, all its tokens together, nats."""


def prompt_of(shots: Sequence[Shot], question: str, form: Form) -> str:
    """k questions with their answers, and one without."""
    told = "".join(f"{one.question}{form.between}{one.answer}{form.after}" for one in shots)
    return f"{form.before}{told}{question}{form.between}"


@torch.inference_mode()
def ask(
    model: SequenceModel,
    vocabulary: Vocabulary,
    shots: Sequence[Shot],
    question: str,
    answers: Sequence[str],
    form: Form | None = None,
) -> Asked:
    """How likely each answer is. The answer's end counts, too (`form.after` follows it), or the beginning of a longer
    answer would always be more likely than that.

    Raises SakiyomiError for a model that does not say what comes next, and for words that it does not know.
    """
    if model.inputs != ("token",) or model.whole or model.ahead != 1:
        raise SakiyomiError(f"{type(model).__name__} does not say how a text goes on; take a GPT")
    if not answers:
        raise SakiyomiError("there is no answer to choose from")
    form = form or Form()
    prompt = prompt_of(shots, question, form)
    given, ends = known(vocabulary, prompt), [known(vocabulary, answer + form.after) for answer in answers]
    if not given or not all(ends):
        raise SakiyomiError("the prompt, or an answer, holds no word; write both")
    device = next(model.parameters()).device
    read = padded([np.array([*given, *end[:-1]]) for end in ends]).to(device)
    said = model.unroll({"token": read})[0]["token"].float().log_softmax(-1)
    costs = [cost(said[row, len(given) - 1 :], end) for row, end in enumerate(ends)]
    nats = dict(zip(answers, costs, strict=True))
    return Asked(prompt, min(nats, key=nats.__getitem__), nats)


def cost(said: Tensor, words: Sequence[int]) -> float:
    """-log p of words, of which `said` [T, V] are the logarithms of their probabilities."""
    return -float(said[torch.arange(len(words)), torch.tensor(words)].sum())


def known(vocabulary: Vocabulary, text: str) -> list[int]:
    """The numbers of a text's words. Raises SakiyomiError for words that are not known."""
    numbers = vocabulary.encode(text)
    if UNK in numbers:
        raise SakiyomiError(f"not in the vocabulary: {' '.join(vocabulary.unknown(text)[:10])}; say it in other words")
    return numbers
