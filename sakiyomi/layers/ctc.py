"""Connectionist temporal classification: labels of a sequence without saying when each of them comes.

    losses = ctc_loss(log_probs, targets, frames, labels)
    words = prefix_beam(log_probs[0], Beam(width=16, weight=0.5), language_model)[0].labels

A network says for every frame how likely each of V symbols is, one of which is the blank: "no label begins here". A
path is a symbol for each frame; what it says is found by `collapse`: of equal neighbours one stays, then blanks go. How
likely a labelling is, is the sum over all paths that say it (Graves et al.: "Connectionist temporal classification",
ICML 2006).

Letters: B sequences, T frames, V symbols, L labels, S = 2 L + 1 states.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from sakiyomi.errors import SakiyomiError, at_least, at_most

NEVER = -math.inf


def collapse(path: Sequence[int], blank: int = 0) -> list[int]:
    """What a path says: of equal neighbours one, without blanks. `a a - a b b` says `a a b`."""
    return [symbol for before, symbol in zip((blank, *path), path, strict=False) if symbol not in (before, blank)]


def frames_needed(labels: Sequence[int]) -> int:
    """The fewest frames that can say the labels: one each, and a blank between two that are equal."""
    return len(labels) + sum(one == two for one, two in pairwise(labels))


# ---- The loss --------------------------------------------------------------------------------------------------------


def ctc_loss(log_probs: Tensor, targets: Tensor, frames: Tensor, labels: Tensor, blank: int = 0) -> Tensor:
    """Minus the log of how likely each labelling is, nats [B], unreduced; PyTorch's algorithm.

    `log_probs` [B, T, V] natural logs that sum to 1 over V, `targets` int64 [B, L], of which the first `labels` [B] are
    real, as of T are the first `frames` [B]. Raises SakiyomiError for targets that are no labels, and for a transcript
    that is longer than its frames can say, which would cost infinitely much.
    """
    _check(log_probs, targets, frames, labels, blank)
    return functional.ctc_loss(log_probs.transpose(0, 1), targets, frames, labels, blank=blank, reduction="none")


def _check(log_probs: Tensor, targets: Tensor, frames: Tensor, labels: Tensor, blank: int) -> None:
    """Raises SakiyomiError, see `ctc_loss`."""
    batch, steps, symbols = log_probs.shape
    if targets.shape[:1] != (batch,) or targets.dim() != 2 or frames.shape != (batch,) or labels.shape != (batch,):
        shapes = [list(value.shape) for value in (log_probs, targets, frames, labels)]
        raise SakiyomiError(f"CTC takes log_probs [B, T, V], targets [B, L], frames [B] and labels [B]; got {shapes}")
    at_most("the blank", blank, symbols - 1)
    for row, (given, count, line) in enumerate(zip(frames.tolist(), labels.tolist(), targets.tolist(), strict=True)):
        if not (1 <= given <= steps and 0 <= count <= len(line)):
            raise SakiyomiError(
                f"sequence {row} is said to have {given} frames and {count} labels; there are {steps} and {len(line)}"
            )
        spoken = line[:count]
        wrong = [label for label in spoken if not 0 <= label < symbols or label == blank]
        if wrong:
            raise SakiyomiError(
                f"sequence {row} has label {wrong[0]}; labels are 0 to {symbols - 1} without the blank, {blank}"
            )
        needed = frames_needed(spoken)
        if needed > given:
            raise SakiyomiError(
                f"the transcript of sequence {row} is longer than its frames can say: {count} labels with "
                f"{needed - count} repeats need {needed} frames, it has {given}; leave it out, or use finer frames"
            )


@dataclass(frozen=True)
class Alignment:
    """All that forward and backward say of each sequence and its labelling. The states of a labelling `a b` are
    `- a - b -`: a blank before, between and after."""

    alpha: Tensor
    """Log of how likely it is to have said what leads to each state, and be there, by each frame, [B, T, S]."""
    beta: Tensor
    """Log of how likely what is left to say is, from each state and frame on, [B, T, S]; 0 at the end."""
    total: Tensor
    """Log of how likely the labelling is, nats [B]: the sum over the states of alpha + beta, at whatever frame."""
    occupancy: Tensor
    """How likely each symbol is at each frame, given what was said, [B, T, V]; 0 in padding. It is the gradient of
    `total` by `log_probs`; so by logits the gradient of the loss is softmax - occupancy."""


@torch.no_grad()
def forward_backward(log_probs: Tensor, targets: Tensor, frames: Tensor, labels: Tensor, blank: int = 0) -> Alignment:
    """The algorithm written out, as Graves et al. have it in 4.1, in logs; takes and refuses what `ctc_loss` does.

    It is the reference of the loss; its occupancy also says when each label was said.
    """
    _check(log_probs, targets, frames, labels, blank)
    batch, steps, _ = log_probs.shape
    states = torch.full((batch, 2 * targets.shape[1] + 1), blank, device=targets.device)  # - a - b -
    states[:, 1::2] = targets
    number = torch.arange(states.shape[1], device=targets.device)
    real = number <= 2 * labels[:, None]  # [B, S]
    states = torch.where(real, states, blank)
    last = (number >= 2 * labels[:, None] - 1) & real  # a path ends in the last label or the blank after it
    # A path stays, or goes one state on; or two, over a blank that does not stand between equal labels.
    two = (states != blank) & (states != functional.pad(states, (2, 0), value=blank)[:, :-2])
    said = log_probs.gather(2, states[:, None].expand(-1, steps, -1))  # [B, T, S]
    said = said.masked_fill(~real[:, None], NEVER)

    alpha = torch.full_like(said, NEVER)
    alpha[:, 0, :2] = said[:, 0, :2]
    for t in range(1, steps):
        before = alpha[:, t - 1]
        skip = _shifted(before, 2).masked_fill(~two, NEVER)
        came = torch.stack((before, _shifted(before, 1), skip)).logsumexp(0)
        alpha[:, t] = torch.where((t < frames)[:, None], came + said[:, t], before)  # after the end it stays

    ending = torch.zeros_like(said[:, 0]).masked_fill(~last, NEVER)
    beta = ending[:, None].repeat(1, steps, 1)
    for t in range(steps - 2, -1, -1):
        after = beta[:, t + 1] + said[:, t + 1]
        skip = _shifted(after.masked_fill(~two, NEVER), -2)
        goes = torch.stack((after, _shifted(after, -1), skip)).logsumexp(0)
        beta[:, t] = torch.where((t + 1 < frames)[:, None], goes, ending)

    total = (alpha[:, -1] + ending).logsumexp(1)
    share = (alpha + beta - total[:, None, None]).exp()  # [B, T, S]
    share = share * (torch.arange(steps, device=frames.device) < frames[:, None])[..., None]
    occupancy = torch.zeros_like(log_probs).scatter_add(2, states[:, None].expand_as(share), share)
    return Alignment(alpha, beta, total, occupancy)


def _shifted(values: Tensor, by: int) -> Tensor:
    """[B, S]: each state gets the value of the one `by` before it, NEVER where there is none."""
    filled = functional.pad(values, (max(by, 0), max(-by, 0)), value=NEVER)
    return filled[:, : values.shape[1]] if by > 0 else filled[:, -by:]


# ---- Reading: the likeliest path ------------------------------------------------------------------------------------


def best_path(log_probs: Tensor, blank: int = 0) -> list[int]:
    """What the likeliest path through [T, V] says; often, but not always, the likeliest labelling."""
    return collapse(log_probs.argmax(-1).tolist(), blank)


@dataclass(frozen=True)
class Greedy:
    """The likeliest path as frames come in: pieces of a sequence give what the whole gives."""

    blank: int = 0

    def initial(self, batch_size: int, device: torch.device | str = "cpu") -> dict[str, Tensor]:
        """The state before the first frame: the symbol of the last one, int64 [B]."""
        return {"last": torch.full((batch_size,), self.blank, device=device)}

    def read(self, log_probs: Tensor, state: dict[str, Tensor]) -> tuple[list[list[int]], dict[str, Tensor]]:
        """Frames [B, T, V], of any T -> the labels that begin in them, a list for each sequence, and the state."""
        path = torch.cat((state["last"][:, None], log_probs.argmax(-1)), 1)
        begins = (path[:, 1:] != path[:, :-1]) & (path[:, 1:] != self.blank)
        said = [line[new].tolist() for line, new in zip(path[:, 1:], begins, strict=True)]
        return said, {"last": path[:, -1]}


# ---- Reading: the likeliest labelling -------------------------------------------------------------------------------


class LanguageModel(Protocol):
    """What says how likely a label is after those before it, of characters or of words. It is asked once for each."""

    def log_probability(self, prefix: tuple[int, ...], label: int) -> float:
        """Nats, never more than 0; it is 0 for a label of which it has no opinion, such as the middle of a word."""
        ...

    def ending(self, prefix: tuple[int, ...]) -> float:
        """That nothing comes after the prefix, nats."""
        ...


@dataclass(frozen=True)
class Beam:
    """How labellings are searched for."""

    width: int = 16
    """Prefixes that are kept after each frame."""
    weight: float = 0.5
    """Of the language model's logs beside the network's."""
    bonus: float = 0.0
    """Nats for each label, or for each word where there is a space: a language model likes short labellings."""
    floor: float = -9.0
    """A symbol less likely than this in a frame, nats, does not begin there; -inf tries all, and takes longer."""
    space: int | None = None
    """The label between words, where labels are letters."""

    def __post_init__(self) -> None:
        at_least("the width of the beam", self.width, 1)
        at_least("the weight of the language model", self.weight, 0)


@dataclass(frozen=True)
class Hypothesis:
    """One labelling."""

    labels: tuple[int, ...]
    log_probability: float
    """By the network alone, nats, over all paths that were kept; never more than the true one."""
    score: float
    """That, the language model's by its weight, and bonuses: what they are ranked by."""


@dataclass(slots=True, eq=False)
class _Prefix:
    """A node of the tree of labellings. `blank` and `spoken` are the logs of how likely it is to have said it by now,
    by paths that end in a blank and by those that end in its last label; `total` of both."""

    labels: tuple[int, ...]
    last: int
    parent: "_Prefix | None"
    extra: float
    """What the language model and bonuses add."""
    blank: float = NEVER
    spoken: float = NEVER
    total: float = NEVER
    children: dict[int, "_Prefix"] = field(default_factory=dict)
    extras: dict[int, float] = field(default_factory=dict)
    """`extra` of its children, also of those that were never kept."""

    def begun(self, label: int, value: float) -> float:
        """How likely it is to have said it by now and to begin a label of log-probability `value`: where that is its
        last one again, a blank must stand between."""
        return value + (self.blank if label == self.last else self.total)

    def child(self, label: int) -> "_Prefix":
        """With one label more, which has been asked for its `extra`."""
        if label not in self.children:
            self.children[label] = _Prefix((*self.labels, label), label, self, self.extras[label])
        return self.children[label]


def prefix_beam(
    log_probs: Tensor, beam: Beam, language_model: LanguageModel | None = None, blank: int = 0
) -> list[Hypothesis]:
    """The best labellings of the frames [T, V], best first, at most `beam.width`.

    Hannun et al.: "First-pass large vocabulary continuous speech recognition using bi-directional recurrent DNNs",
    2014. Paths that say the same are added up while going; what they say is ranked by how likely it is times what the
    language model thinks of it. A wide enough beam finds the best labelling of all. Raises SakiyomiError for NaN.
    """
    if log_probs.dim() != 2 or not 0 <= blank < log_probs.shape[1]:
        raise SakiyomiError(f"a beam reads log_probs [T, V] with V > the blank, {blank}; got {list(log_probs.shape)}")
    if log_probs.isnan().any():
        raise SakiyomiError("log_probs hold numbers that are none (NaN); the network that gave them did not learn well")
    root = _Prefix((), -1, None, 0.0, blank=0.0, total=0.0)
    kept = [root]
    for frame in log_probs.tolist():
        kept = _after(frame, kept, beam, language_model, blank)
    found = []
    for prefix in kept:
        extra = prefix.extra
        if language_model is not None:
            extra += beam.weight * language_model.ending(prefix.labels)
        if beam.space is not None and prefix.last not in (-1, beam.space):
            extra += beam.bonus  # the last word has no space after it
        found.append(Hypothesis(prefix.labels, prefix.total, prefix.total + extra))
    return sorted(found, key=lambda hypothesis: -hypothesis.score)


def _after(
    frame: list[float], kept: list[_Prefix], beam: Beam, language_model: LanguageModel | None, blank: int
) -> list[_Prefix]:
    """The prefixes after one more frame, the best `beam.width` of them."""
    there = set(kept)
    # What may be kept: score, a prefix, the label it goes on with or None, and its new `blank` and `spoken`.
    ranked: list[tuple[float, _Prefix, int | None, float, float]] = []
    for prefix in kept:
        ends_blank, ends_spoken = prefix.total + frame[blank], NEVER
        if prefix.parent is not None:
            ends_spoken = prefix.spoken + frame[prefix.last]
            if prefix.parent in there:
                ends_spoken = _added(ends_spoken, prefix.parent.begun(prefix.last, frame[prefix.last]))
        ranked.append((_added(ends_blank, ends_spoken) + prefix.extra, prefix, None, ends_blank, ends_spoken))
    best = sorted(one[0] for one in ranked)  # a heap of the best scores so far, at most `width`
    floor, most = min(beam.floor, max(frame)), max(beam.bonus, 0.0)
    tried = sorted(((value, label) for label, value in enumerate(frame) if value >= floor and label != blank))[::-1]
    for prefix in kept:
        for value, label in tried:
            full = len(best) >= beam.width
            if full and prefix.total + prefix.extra + value + most <= best[0]:
                break  # nor does a less likely label get among the best
            if prefix.children.get(label) in there:
                continue  # counted above
            said = prefix.begun(label, value)
            score = said + _extra(prefix, label, beam, language_model)
            if not full:
                heapq.heappush(best, score)
            elif score > best[0]:
                heapq.heapreplace(best, score)
            else:
                continue
            ranked.append((score, prefix, label, NEVER, said))
    ranked.sort(key=lambda one: -one[0])
    moved = [
        (prefix if label is None else prefix.child(label), ends_blank, ends_spoken)
        for score, prefix, label, ends_blank, ends_spoken in ranked[: beam.width]
        if score > NEVER
    ]
    for prefix, ends_blank, ends_spoken in moved:
        prefix.blank, prefix.spoken, prefix.total = ends_blank, ends_spoken, _added(ends_blank, ends_spoken)
    return [prefix for prefix, _, _ in moved]


def _extra(prefix: _Prefix, label: int, beam: Beam, language_model: LanguageModel | None) -> float:
    """What the language model and bonuses add to the prefix with one label more; asked once."""
    if label not in prefix.extras:
        extra = prefix.extra
        if language_model is not None:
            extra += beam.weight * language_model.log_probability(prefix.labels, label)
        if beam.space is None or (label == beam.space and prefix.last not in (-1, beam.space)):
            extra += beam.bonus
        prefix.extras[label] = extra
    return prefix.extras[label]


def _added(one: float, two: float) -> float:
    """log(exp(one) + exp(two))."""
    if one < two:
        one, two = two, one
    return one if two == NEVER else one + math.log1p(math.exp(two - one))
