"""Fine-tuning: a model that has learned a language is put to another task, of which only a few examples are labelled.

    head = Classifier(sakiyomi.load("runs/kokoro-bert").model, outputs=2)
    fine_tune(head, examples, FineTuning(seed=0))
    accuracy(head, others)

The tasks, and how their texts become one row of tokens, are those of Radford et al. ("Improving Language Understanding
by Generative Pre-Training", 2018, figure 1): one text, or a pair, gets a class; how like two texts are is told from
both orders; of several choices each is read after the context, and the scores are compared. Any model does that offers
`vectors`: of GPT the last place counts, which has read all of the row, of BERT the mean of all places.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sakiyomi.data.texts import padded
from sakiyomi.data.vocabulary import BOS, EOS, PAD
from sakiyomi.data.windows import order
from sakiyomi.errors import SakiyomiError, at_least
from sakiyomi.models.base import SequenceModel, State, Streams
from sakiyomi.schedules import LearningRate

Texts = tuple[tuple[int, ...], ...]
"""Texts that belong together, each as the numbers of its words, without BOS and EOS."""


@dataclass(frozen=True)
class Example:
    """Something that has an answer."""

    texts: Texts
    """One to classify; two of a pair; the context and its choices."""
    label: int
    """The class, or the number of the right choice, from 0."""


@dataclass(frozen=True)
class FineTuning:
    """How a head is trained."""

    steps: int = 150
    """Optimizer steps."""
    batch_size: int = 16
    """Examples a step."""
    learning_rate: LearningRate = LearningRate(peak=5e-4, warmup=15, decay="linear")
    """Adam's."""
    frozen: bool = False
    """Only the head learns; what it reads are the model's vectors as they are."""
    seed: int = 0
    """Seed of the order of the examples, and of dropout."""


@runtime_checkable
class Reader(Protocol):
    """A model of tokens that gives what it has made of them."""

    whole: bool

    def vectors(self, observations: Streams, state: State | None = None) -> tuple[Tensor, State]:
        """Tokens [B, T] -> vectors [B, T, W], and the state."""
        ...


class Head(nn.Module, ABC):
    """A linear layer over what a model has made of texts. What these become is said by `forward` of each kind."""

    def __init__(self, model: SequenceModel, outputs: int) -> None:
        """Raises SakiyomiError for a model that does not read `token`, or does not give its vectors."""
        super().__init__()
        if not isinstance(model, Reader) or tuple(model.inputs) != ("token",):
            raise SakiyomiError(f"{type(model).__name__} gives no vectors of tokens; take a GPT or a BERT")
        at_least("classes", outputs, 1)
        self.model: SequenceModel = model
        self.out = nn.Linear(self.read([[BOS]]).shape[1], outputs)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def read(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Rows of tokens -> what the model has made of each, [N, W]."""
        reader, device = self.model, next(self.model.parameters()).device
        assert isinstance(reader, Reader)
        tokens = padded([np.array(row) for row in rows]).to(device)
        vectors, _ = reader.vectors({"token": tokens})
        real = tokens != PAD
        if reader.whole:
            return (vectors * real[..., None]).sum(1) / real.sum(1, keepdim=True)
        return vectors[torch.arange(len(tokens), device=device), real.sum(1) - 1]

    @abstractmethod
    def forward(self, texts: Sequence[Texts]) -> Tensor:
        """Logits of the answers, [N, classes]."""


class Classifier(Head):
    """A text, or a pair of them in this order -> logits of its class [N, classes]."""

    def forward(self, texts: Sequence[Texts]) -> Tensor:
        return self.out(self.read([row_of(*some) for some in texts]))


class Similarity(Head):
    """Two texts -> logits [N, classes] of how like they are, the same whichever comes first."""

    def forward(self, texts: Sequence[Texts]) -> Tensor:
        """Raises SakiyomiError for anything but two texts."""
        counts = {len(some) for some in texts}
        if counts != {2}:
            raise SakiyomiError(f"examples have {sorted(counts)} texts; two are compared")
        both = self.read([row_of(a, b) for a, b in texts] + [row_of(b, a) for a, b in texts])
        return self.out(both[: len(texts)] + both[len(texts) :])


class Choice(Head):
    """A context and its choices, as many for each -> logits of the choices [N, choices]."""

    def __init__(self, model: SequenceModel) -> None:
        super().__init__(model, 1)

    def forward(self, texts: Sequence[Texts]) -> Tensor:
        """Raises SakiyomiError where one has more choices than another."""
        counts = {len(some) - 1 for some in texts}
        if len(counts) != 1 or min(counts) < 2:
            raise SakiyomiError(f"examples have {sorted(counts)} choices; give each as many, two at least")
        rows = [row_of(context, choice) for context, *choices in texts for choice in choices]
        return self.out(self.read(rows)).view(len(texts), -1)


def row_of(*texts: Sequence[int]) -> list[int]:
    """BOS, and each text with its EOS. Raises SakiyomiError for a text without words."""
    if not all(len(text) for text in texts):
        raise SakiyomiError("a text holds no word; leave such examples out")
    return [BOS, *(number for text in texts for number in (*text, EOS))]


def fine_tune(head: Head, examples: Sequence[Example], how: FineTuning) -> list[float]:
    """Train a head, and its model unless that is frozen; the losses of the steps, nats. Both are left in evaluation
    mode. A function of weights, examples and `how` alone."""
    if not examples:
        raise SakiyomiError("there is no example to learn from")
    learned = head.out if how.frozen else head
    optimizer = torch.optim.Adam(learned.parameters(), lr=how.learning_rate.peak)
    device = head.out.weight.device
    torch.manual_seed(how.seed)
    head.train(not how.frozen)
    losses = []
    for step in range(how.steps):
        places = [divmod(n, len(examples)) for n in range(step * how.batch_size, (step + 1) * how.batch_size)]
        chosen = [examples[order(how.seed, epoch, len(examples))[index]] for epoch, index in places]
        labels = torch.tensor([example.label for example in chosen], device=device)
        for group in optimizer.param_groups:
            group["lr"] = how.learning_rate.at(step, how.steps)
        loss = functional.cross_entropy(head([example.texts for example in chosen]).float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward(inputs=list(learned.parameters()))
        nn.utils.clip_grad_norm_(learned.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    head.eval()
    return losses


@torch.inference_mode()
def answers(head: Head, examples: Sequence[Example], batch_size: int = 64) -> Tensor:
    """The most likely answer to each, int64 [N]."""
    head.eval()
    parts = [examples[first : first + batch_size] for first in range(0, len(examples), batch_size)]
    return torch.cat([head([example.texts for example in part]).argmax(1).cpu() for part in parts])


def accuracy(head: Head, examples: Sequence[Example]) -> float:
    """The share of examples that are answered rightly."""
    labels = torch.tensor([example.label for example in examples])
    return float((answers(head, examples) == labels).float().mean())
