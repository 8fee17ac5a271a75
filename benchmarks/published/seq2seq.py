"""The published translators (Cho et al. 2014; Luong et al. 2015) as they are usually written down: a loop over the
words of the source in each direction, then one over those of the target, which says each before it reads the next."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from sakiyomi.data.vocabulary import PAD
from sakiyomi.data.windows import Batch
from sakiyomi.errors import SakiyomiError
from sakiyomi.models import Seq2Seq


def plain_loss(model: Seq2Seq, batch: Batch, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy in nats, mean over the words that are real, labels smoothed (Szegedy et al. 2016); teacher-forced,
    with the weights of `model` itself, so that gradients arrive where those of its own loss do.

    Raises SakiyomiError for a model of several layers or with dropout.
    """
    if model.config.layers > 1 or model.config.dropout:
        raise SakiyomiError("the plain translator has one layer and no dropout")
    memory, known, summary = plain_read(model, batch.inputs["source"])
    hidden = torch.tanh(model.begin(summary))
    total = hidden.new_zeros(())
    for t in range(batch.mask.shape[1]):
        hidden = cell(model.decoder, model.target(batch.inputs["target"][:, t]), hidden)
        context = summary if model.look is None else plain_context(model.look(hidden), memory, known)
        spoken = torch.tanh(model.readout(hidden) + model.context(context))
        logits = model.target.logits(spoken, model.often)
        words = batch.targets["target"][:, t]
        loss = functional.cross_entropy(logits, words, reduction="none", label_smoothing=smoothing)
        total = total + (loss * batch.mask[:, t]).sum()
    return total / batch.mask.sum()


def plain_read(model: Seq2Seq, source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sources [B, S] -> what was made of each word [B, S, H], which of them are words [B, S], and the last state of
    both directions [B, H]. At PAD a state stays as it was."""
    known = source != PAD
    directions, ends = [], []
    for ending, order in (("", range(source.shape[1])), ("_reverse", reversed(range(source.shape[1])))):
        hidden = model.begin.weight.new_zeros(len(source), model.config.hidden // 2)
        states = {}
        for t in order:
            moved = cell(model.encoder, model.source(source[:, t]), hidden, ending)
            hidden = torch.where(known[:, t, None], moved, hidden)
            states[t] = hidden
        directions.append(torch.stack([states[t] for t in sorted(states)], 1))
        ends.append(hidden)
    return torch.cat(directions, -1), known, torch.cat(ends, -1)


def plain_context(asked: Tensor, memory: Tensor, known: Tensor) -> Tensor:
    """What is asked for, [B, H] -> the mean of the memory [B, S, H] weighed by the softmax of its scaled products."""
    scores = (memory * asked[:, None]).sum(-1) / memory.shape[-1] ** 0.5
    weights = scores.masked_fill(~known, -torch.inf).softmax(-1)
    return (weights[..., None] * memory).sum(1)


def cell(gru: nn.GRU, read: Tensor, hidden: Tensor, ending: str = "") -> Tensor:
    """One step of one direction of a GRU, as nn.GRUCell does it: [N, read] and [N, H] -> [N, H]."""
    weights = [getattr(gru, f"{name}_l0{ending}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    return torch.gru_cell(read, hidden, *weights)
