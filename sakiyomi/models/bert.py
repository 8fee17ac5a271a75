"""BERT: tells hidden words from those on both sides, and whether one passage follows another (Devlin et al.: "BERT:
Pre-training of Deep Bidirectional Transformers for Language Understanding", NAACL 2019).

    sakiyomi train kokoro-bert

A hidden word is given as `mask`, a number that no text holds. BOS is the paper's [CLS], EOS its [SEP], and what comes
after the first EOS is the second passage; so a sequence of tokens says all there is to say. Other than in the paper
positions are rotary (Su et al. 2021), which learns from little text, blocks normalise before, not after, and whether
the second passage follows is read where the two meet, at the EOS between them: at BOS a small model did not learn it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from sakiyomi.data.episodes import Stream
from sakiyomi.data.vocabulary import BOS, EOS, PAD, SPECIAL
from sakiyomi.data.windows import Batch
from sakiyomi.errors import SakiyomiError
from sakiyomi.layers.attention import Block, View, Words, angles, even
from sakiyomi.models.base import SequenceModel, State, Streams, as_many_words, expect, known_width
from sakiyomi.schedules import Progress

HIDDEN = 0.15  # the share of the words that are to be told
MASKED, REPLACED = 0.8, 0.1  # of those: given as `mask`; given as any other word. The rest is given as it is


@dataclass(frozen=True)
class Hidden:
    """Words, some of which are to be told."""

    tokens: Tensor
    """What is read in their place, int64 [B, T]."""
    chosen: Tensor
    """Which are to be told, bool [B, T]."""


@dataclass(frozen=True)
class Pairs:
    """Windows cut in two, of which some have got the second half of another."""

    tokens: Tensor
    """int64 [B, T]."""
    real: Tensor
    """False in padding, bool [B, T]."""
    follows: Tensor
    """The second half is what follows in the text, bool [B]."""
    told: Tensor
    """Both halves hold words, so that there is something to tell, bool [B]."""


class BERT(SequenceModel):
    """Stream: `token` [B, T]. It predicts the word at each place itself, logits [.., V], of what stands around it and
    of what is given there, which is to be `mask` where a word is unknown. PAD is not looked at."""

    inputs = outputs = ("token",)
    ahead = 0
    whole = True

    @dataclass(frozen=True)
    class Config:
        words: int = 0
        """Words there are, V; 0 takes the recordings'."""
        width: int = 128
        """Numbers that stand for a word, W."""
        heads: int = 4
        """Looks side by side; they divide the width."""
        blocks: int = 3
        """Blocks, one after the other."""
        feedforward: int = 512
        """Units of the network that thinks about each word alone."""
        dropout: float = 0.1
        """The share of what each part adds that is left out in training."""
        pairs: bool = True
        """Windows are cut in two, half of them get the second half of another window, and it learns to tell which:
        the loss `next`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        even("the numbers of a head, --model.width / --model.heads,", config.width // max(config.heads, 1))
        self.config = config
        self.shapes, self.vocabularies = {"token": ()}, {"token": known_width(config, "words")}
        self.mask = config.words
        """The number that stands for a hidden word."""
        self.words = Words(config.words + 1, config.width, share=True)
        self.bias = nn.Parameter(torch.zeros(config.words))
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.feedforward, config.dropout, "pre") for _ in range(config.blocks)
        )
        self.norm = nn.LayerNorm(config.width)
        self.tell = nn.Sequential(nn.Linear(config.width, config.width), nn.GELU(), nn.LayerNorm(config.width))
        if config.pairs:
            self.segments = nn.Parameter(0.02 * torch.randn(2, config.width))
            self.next = nn.Sequential(
                nn.Linear(config.width, config.width), nn.Tanh(), nn.Dropout(config.dropout), nn.Linear(config.width, 1)
            )

    @staticmethod
    def fitted(config: Config, streams: Mapping[str, Stream]) -> Config:
        """The Config with as many words as the recordings know where it leaves that open."""
        return as_many_words(config, "words", streams, "token")

    def initial(self, batch_size: int) -> State:
        return {}

    def step(self, observation: Streams, state: State) -> tuple[Streams, State]:
        raise SakiyomiError("BERT reads in both directions and takes no step; give `unroll` all of the text")

    def unroll(self, observations: Streams, state: State | None = None) -> tuple[Streams, State]:
        """Words [B, T] -> logits [B, T, V] of the word at each place."""
        vectors, state = self.vectors(observations, state)
        return {"token": self.logits(vectors)}, state

    def vectors(self, observations: Streams, state: State | None = None) -> tuple[Tensor, State]:
        """Words [B, T] -> what it has made of each, [B, T, W]; and the state, which is empty."""
        expect(observations, self.shapes)
        tokens = observations["token"]
        x = self.words(tokens)
        if self.config.pairs:
            ends = (tokens == EOS).long()
            x = x + self.segments[(ends.cumsum(1) - ends).clamp_max(1)]
        x = self.dropout(x)
        positions = torch.arange(tokens.shape[1], device=x.device, dtype=x.dtype)
        view = View(visible(tokens), angles=angles(positions, self.config.width // self.config.heads))
        for block in self.blocks:
            x, _ = block(x, None, view)
        return self.norm(x), {}

    def logits(self, vectors: Tensor) -> Tensor:
        """Vectors [.., W] -> logits of the words [.., V]; nowhere is `mask` the answer."""
        return self.words.logits(self.tell(vectors))[..., : self.config.words] + self.bias

    def follows(self, observations: Streams) -> Tensor:
        """BOS, a passage, EOS, another, EOS [B, T] -> the logit of the second following the first in the text, [B].
        Raises SakiyomiError where it was not built to, and where no EOS tells the passages apart."""
        if not self.config.pairs:
            raise SakiyomiError("this BERT has not learned what follows what; train one with --model.pairs")
        vectors, _ = self.vectors(observations)
        ends = observations["token"] == EOS
        if not ends.any(1).all():
            raise SakiyomiError(
                f"passages are told apart by EOS, {EOS}, and there is none; give BOS, one, EOS, other, EOS"
            )
        between = ends.long().argmax(1)
        return self.next(vectors[torch.arange(len(vectors), device=vectors.device), between]).squeeze(-1)

    def loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """`token`: cross-entropy of the hidden words, nats, 0 elsewhere, and scaled so that the mean over all real
        places is the mean over the hidden ones. `next`, of a model of pairs: binary cross-entropy of whether the
        second half follows, nats, likewise scaled to the mean over windows. The targets of the batch are not used:
        what is to be told was hidden."""
        expect(batch.inputs, self.shapes)
        generator = progress.generator
        real = (batch.mask > 0) & (batch.inputs["token"] != PAD)
        tokens = torch.where(real, batch.inputs["token"], PAD)
        if not self.config.pairs:
            hidden = hide(tokens, real, self.mask, generator)
            vectors, _ = self.vectors({"token": hidden.tokens})
            return {"token": self._masked_loss(vectors, tokens, hidden.chosen, batch.mask)}
        pairs = paired(tokens, real, generator)
        # A word that has come in from another window where this one has padding is read, but not told.
        hidden = hide(pairs.tokens, pairs.real & real, self.mask, generator)
        half = tokens.shape[1] // 2
        vectors, _ = self.vectors({"token": framed(hidden.tokens, half)})
        words = torch.cat((vectors[:, 1 : half + 1], vectors[:, half + 2 : -1]), 1)
        said = self.next(vectors[:, half + 1]).squeeze(-1).float()
        apart = functional.binary_cross_entropy_with_logits(said, pairs.follows.float(), reduction="none")
        share = batch.mask / batch.mask.sum(1, keepdim=True).clamp_min(1) * pairs.told[:, None]
        return {
            "token": self._masked_loss(words, pairs.tokens, hidden.chosen, batch.mask),
            "next": share * apart[:, None] * batch.mask.sum() / pairs.told.sum().clamp_min(1),
        }

    def _masked_loss(self, vectors: Tensor, words: Tensor, chosen: Tensor, mask: Tensor) -> Tensor:
        """Cross-entropy [B, T] of the chosen words, scaled as `loss` says; logits are made of these alone."""
        told = functional.cross_entropy(self.logits(vectors[chosen]).float(), words[chosen], reduction="none")
        loss = torch.zeros_like(mask).masked_scatter(chosen, told)
        return loss * (mask.sum() / chosen.sum().clamp_min(1))


def visible(tokens: Tensor) -> Tensor:
    """Which places of int64 [B, T] are looked at, bool [B, 1, 1, T]: all but PAD; all in a row of nothing else, for
    a softmax over no place is not a number."""
    real = tokens != PAD
    return (real | ~real.any(1, keepdim=True))[:, None, None]


def hide(
    words: Tensor,
    real: Tensor,
    mask: int,
    generator: torch.Generator,
    share: float = HIDDEN,
    masked: float = MASKED,
    replaced: float = REPLACED,
) -> Hidden:
    """Of each row's real places a share, rounded, but one at least, is to be told. Of these, `masked` are given as the
    number `mask`, `replaced` as any word of those before it, and the rest as they are: so also what is given has to be
    doubted. Words int64 [B, T], real bool [B, T]."""
    device = generator.device
    order = torch.rand(words.shape, generator=generator, device=device).masked_fill(~real, 2).argsort(1).argsort(1)
    count = (share * real.sum(1, keepdim=True)).round().clamp_min(1)
    chosen = (order < count) & real
    lot = torch.rand(words.shape, generator=generator, device=device)
    others = torch.randint(len(SPECIAL), mask, words.shape, generator=generator, device=device)
    given = torch.where(lot < masked, mask, torch.where(lot < masked + replaced, others, words))
    return Hidden(torch.where(chosen, given, words), chosen)


def paired(tokens: Tensor, real: Tensor, generator: torch.Generator) -> Pairs:
    """Windows [B, T] cut in the middle; about half of them get the second half of another window of the batch. All
    windows should be of one text: of another text's words it would be told by what they are about."""
    count, half = len(tokens), tokens.shape[1] // 2
    device = generator.device
    away = torch.randint(1, max(count, 2), (count,), generator=generator, device=device)
    other = (torch.arange(count, device=device) + away) % count
    told = real[:, :half].any(1) & real[:, half:].any(1)
    swap = (torch.rand(count, generator=generator, device=device) < 0.5) & told & told[other] & (count > 1)
    source = torch.where(swap, other, torch.arange(count, device=device))
    second, second_real = tokens[source, half:], real[source, half:]
    return Pairs(torch.cat((tokens[:, :half], second), 1), torch.cat((real[:, :half], second_real), 1), ~swap, told)


def framed(tokens: Tensor, half: int) -> Tensor:
    """[B, T] -> BOS, the first `half`, EOS, the rest, EOS, [B, T + 3]."""
    start, end = (torch.full_like(tokens[:, :1], number) for number in (BOS, EOS))
    return torch.cat((start, tokens[:, :half], end, tokens[:, half:], end), 1)
