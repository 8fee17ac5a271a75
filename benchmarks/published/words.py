"""The published arithmetic of the models of text, as it is usually written down.

Training: a loop over the words (GRUs: benchmarks/published/seq2seq.py), or attention as its formula says, with a mask,
and logits at every place, padding and all. Writing: for each word the whole prefix is read again.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.published.seq2seq import plain_loss
from benchmarks.side_by_side import Sides, total, training
from sakiyomi.data.vocabulary import BOS, EOS, PAD, SPECIAL
from sakiyomi.data.windows import Batch
from sakiyomi.layers import attention
from sakiyomi.models import BERT, GPT, Seq2Seq, Transformer
from sakiyomi.models.base import SequenceModel, Streams
from sakiyomi.models.bert import framed, hide, paired
from sakiyomi.schedules import progress_at

CPU = torch.device("cpu")


def gru(quick: bool = False, attend: bool = False) -> Sides:
    words, size, data = (40, 16, sentences(4, 40)) if quick else (4000, 512, sentences(128, 4000))
    torch.manual_seed(0)
    model = Seq2Seq(Seq2Seq.Config(words, words, embedding=size // 2, hidden=size, attention=attend))
    title = f"Seq2Seq{' with attention' if attend else ''}, {size} units, batch {told(data)}"
    ours = one_loss(data)
    return training(title, data.mask.numel(), model, lambda one: plain_loss(one, data), ours)


def gru_attention(quick: bool = False) -> Sides:
    return gru(quick, attend=True)


def transformer(quick: bool = False) -> Sides:
    model, data = translator(quick)

    def published(one: Transformer) -> Tensor:
        with formula():
            logits = one.unroll(data.inputs)[0]["target"]
        every = functional.cross_entropy(logits.transpose(1, 2), data.targets["target"], reduction="none")
        return total({"target": every}, data.mask)

    title = f"Transformer, {model.config.width} wide, batch {told(data)}"
    return training(title, data.mask.numel(), model, published, one_loss(data))


def transformer_writing(quick: bool = False) -> Sides:
    """One sentence, word by word; what the encoder made of the source is kept by both."""
    model, data = translator(quick)
    words = data.inputs["target"][:1]
    begun = model.eval().read({"source": data.inputs["source"][:1]})

    @torch.no_grad()
    def published() -> Tensor:
        with formula():
            prefixes = (words[:, : n + 1] for n in range(words.shape[1]))
            said = [model._said({"target": prefix}, begun)[0][:, -1] for prefix in prefixes]
        return torch.stack([model.target_words.logits(vector) for vector in said], 1)

    return writing(f"Transformer, writing {words.shape[1]} words", model, {"target": words}, begun, published)


def gpt(quick: bool = False) -> Sides:
    model, words = writer(quick)
    data = Batch({"token": words[:, :-1]}, {"token": words[:, 1:]}, torch.ones(words[:, 1:].shape))

    def published(one: GPT) -> Tensor:
        with formula():
            return one_loss(data)(one)

    title = f"GPT, {model.config.width} wide, batch {told(data)}"
    return training(title, data.mask.numel(), model, published, one_loss(data))


def gpt_writing(quick: bool = False) -> Sides:
    """A text of as many letters as the model looks at."""
    model, words = writer(quick)
    words = words[:1, :-1]

    @torch.no_grad()
    def published() -> Tensor:
        with formula():
            prefixes = (words[:, : n + 1] for n in range(words.shape[1]))
            said = [model.vectors({"token": prefix})[0][:, -1] for prefix in prefixes]
        return torch.stack([model.words.logits(vector) for vector in said], 1)

    title = f"GPT, {model.config.width} wide, writing {words.shape[1]} letters"
    return writing(title, model.eval(), {"token": words}, model.initial(1), published)


def bert(quick: bool = False) -> Sides:
    words, width, batch, steps = (40, 16, 4, 8) if quick else (4000, 128, 32, 64)
    torch.manual_seed(0)
    model = BERT(BERT.Config(words, width, feedforward=4 * width, dropout=0.0))
    tokens = torch.randint(len(SPECIAL), words, (batch, steps))
    data = Batch({"token": tokens}, {"token": tokens}, torch.ones(batch, steps))
    title = f"BERT, {width} wide, batch {told(data)}"

    def published(one: BERT) -> Tensor:
        with formula():
            return _bert(one, data)

    def ours(one: BERT) -> Tensor:
        return total(one.loss(data, progress_at(0, 1, 0, CPU)), data.mask)

    return training(title, data.mask.numel(), model, published, ours)


def _bert(model: BERT, batch: Batch) -> Tensor:
    """Logits of every word at every place; those that are not asked for are left out by the loss."""
    generator, real = progress_at(0, 1, 0, CPU).generator, batch.mask > 0
    pairs = paired(batch.inputs["token"], real, generator)
    hidden = hide(pairs.tokens, real, model.mask, generator)
    half = real.shape[1] // 2
    vectors, _ = model.vectors({"token": framed(hidden.tokens, half)})
    logits = model.logits(vectors)
    logits = torch.cat((logits[:, 1 : half + 1], logits[:, half + 2 : -1]), 1)
    labels = pairs.tokens.masked_fill(~hidden.chosen, -100)  # which cross_entropy ignores
    said = model.next(vectors[:, half + 1]).squeeze(-1)
    apart = functional.binary_cross_entropy_with_logits(said, pairs.follows.float())
    return functional.cross_entropy(logits.flatten(0, 1), labels.flatten()) + apart


# ---- What they share -------------------------------------------------------------------------------------------------


@contextmanager
def formula() -> Iterator[None]:
    """Within it, attention is written out: softmax(Q K' / sqrt(D) + mask) V."""

    def written(queries: Tensor, keys: Tensor, values: Tensor, view: attention.View) -> Tensor:
        return attention.attend(queries, keys, values, view.seen(queries.shape[2], queries.device))[0]

    fused = attention.looked
    attention.looked = written
    try:
        yield
    finally:
        attention.looked = fused


def writing(title: str, model: SequenceModel, words: Streams, begun: Streams, published: Callable[[], Tensor]) -> Sides:
    """The sides of writing: the logits after each of the words [1, T], word by word."""
    (name,) = words

    @torch.no_grad()
    def ours() -> Tensor:
        state, said = begun, []
        for t in range(words[name].shape[1]):
            prediction, state = model.step({name: words[name][:, t]}, state)
            said.append(prediction[name])
        return torch.stack(said, 1)

    def agree() -> dict[str, float]:
        theirs = published()
        return {"logits": float((theirs - ours()).abs().max() / theirs.abs().max())}

    return Sides(title, words[name].shape[1], {"published": published, "ours, float32": ours}, agree)


def one_loss(batch: Batch) -> Callable[[SequenceModel], Tensor]:
    """The model's cross-entropy, mean over the words that are real."""

    def loss(model: SequenceModel) -> Tensor:
        name = model.outputs[0]
        return total({name: model.loss(batch, progress_at(0, 1, 0, CPU))[name]}, batch.mask)

    return loss


def translator(quick: bool) -> tuple[Transformer, Batch]:
    words, width, data = (40, 16, sentences(4, 40)) if quick else (4000, 256, sentences(128, 4000))
    torch.manual_seed(0)
    config = Transformer.Config(words, words, width, blocks=1 if quick else 3, feedforward=4 * width, dropout=0.0)
    return Transformer(config), data


def writer(quick: bool) -> tuple[GPT, Tensor]:
    """A GPT, and texts of one letter more than it looks at."""
    words, batch, config = 69, 32, GPT.Config(words=69, dropout=0.0)
    if quick:
        batch, config = 2, GPT.Config(words=69, width=16, blocks=2, feedforward=32, context=12, dropout=0.0)
    torch.manual_seed(0)
    return GPT(config), torch.randint(len(SPECIAL), words, (batch, config.context + 1))


def sentences(batch: int, words: int) -> Batch:
    """Pairs of made-up sentences of 5 to 15 words, as the small parallel corpus has them; filled up with PAD."""
    torch.manual_seed(0)
    longest = 16 if batch > 4 else 6
    lengths = torch.randint(longest // 3, longest, (2, batch, 1))
    place = torch.arange(longest)
    drawn = torch.randint(len(SPECIAL), words, (2, batch, longest))
    source, target = torch.where(place < lengths, drawn, torch.where(place == lengths, EOS, PAD))
    before = torch.cat((torch.full((batch, 1), BOS), target[:, :-1]), 1)
    return Batch({"source": source, "target": before}, {"target": target}, (target != PAD).float())


def told(batch: Batch) -> str:
    return " x ".join(map(str, batch.mask.shape))
