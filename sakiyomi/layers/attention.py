"""Attention, and the block of Transformers (Vaswani et al.: "Attention Is All You Need", NeurIPS 2017).

`attend` is the formula written out; `looked` gives the same by the quickest way there is, torch's fused kernel mostly.

Letters: B sequences, T steps that look, S places that are looked at, W numbers of a step, H heads, D = W / H numbers
of a head. A mask is bool, True where a step may look, and has the shape [T, S] or one that broadcasts to [B, H, T, S].

A step's keys and values are made once and kept, [B, S, 2W]: such a tensor is all the memory of a layer.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from sakiyomi.errors import SakiyomiError, at_least, unknown

Norm = Literal["pre", "post"]
LONGEST = 10_000.0  # the slowest of the waves that tell positions apart is about 2 pi times as long


@dataclass(frozen=True)
class View:
    """Where steps may look, and how they tell places apart."""

    mask: Tensor | None = None
    """True where a step may look; None lets it look everywhere."""
    causal: bool = False
    """As many steps as places, and each looks at itself and back; a kernel of its own, no mask is made."""
    angles: Tensor | None = None
    """Rotary positions: how far the keys are turned, [S, D / 2]; the queries are the last T of the places."""

    def seen(self, steps: int, device: torch.device) -> Tensor | None:
        """The mask, made where there is none."""
        return torch.ones(steps, steps, dtype=torch.bool, device=device).tril() if self.causal else self.mask


@dataclass(frozen=True)
class Other:
    """Another sequence, to be looked at."""

    held: Tensor
    """Its keys and values, [B, S', 2W]."""
    view: View


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """softmax(Q K' / sqrt(D)) V and the softmax: queries [.., T, D], keys and values [.., S, D] -> [.., T, D] and
    weights [.., T, S].

    The root is of a head's numbers, not of the model's width: a sum of D products of standard normal numbers has the
    deviation sqrt(D), and scores of deviation 1 leave the softmax neither flat nor saturated.
    """
    scores = (queries / math.sqrt(queries.shape[-1])) @ keys.transpose(-2, -1)
    if mask is not None:
        # A sum: filling in is slower, forth and back.
        scores = scores + torch.zeros(mask.shape, dtype=scores.dtype, device=mask.device).masked_fill(~mask, -torch.inf)
    weights = scores.softmax(-1)  # of bfloat16, too, it is computed in float32
    return weights @ values, weights


def looked(queries: Tensor, keys: Tensor, values: Tensor, view: View) -> Tensor:
    """What `attend` finds, [B, H, T, D]."""
    if queries.dtype == torch.bfloat16 and queries.device.type == "cpu":
        # There the fused kernel's way back takes ten times as long as in float32, and the formula half as long.
        return attend(queries, keys, values, view.seen(queries.shape[2], queries.device))[0]
    return functional.scaled_dot_product_attention(queries, keys, values, attn_mask=view.mask, is_causal=view.causal)


def real_places(real: Tensor) -> View:
    """Everybody looks at every real place, bool [B, S]; padding is not looked at."""
    return View(real[:, None, None, :])


def back(steps: int, places: int, device: torch.device, window: int = 0) -> View:
    """The last `steps` of `places` look at themselves and back; with a window at so many places at most, themselves
    counted."""
    within = not window or places <= window
    if within and steps in (1, places):
        return View(causal=steps > 1)
    ago = torch.arange(places - steps, places, device=device)[:, None] - torch.arange(places, device=device)
    return View((ago >= 0) if within else (ago >= 0) & (ago < window))


def angles(positions: Tensor, size: int) -> Tensor:
    """Positions [T], floats, as angles in rad [T, size / 2]: position / 10000^(2 i / size) for i = 0, 1, ...

    Raises SakiyomiError for an odd size: there is a sine and a cosine of each."""
    even("the numbers that tell positions", size)
    powers = torch.arange(0, size, 2, device=positions.device, dtype=positions.dtype) / size
    return positions[:, None] * LONGEST**-powers


def even(name: str, size: int) -> None:
    """Raises SakiyomiError for an odd number."""
    if size % 2:
        raise SakiyomiError(f"{name} are {size}; positions are told by pairs, take an even number")


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """Positions [T] -> [T, W]: sine and cosine of each angle side by side (Vaswani et al. 2017, section 3.5)."""
    turns = angles(positions, width)
    return torch.stack((turns.sin(), turns.cos()), -1).flatten(1)


def turned(vectors: Tensor, turns: Tensor) -> Tensor:
    """Rotary positions (Su et al.: "RoFormer", 2021): vectors [.., T, D] turned by angles [T, D / 2]. The number i and
    the number i + D / 2 are a plane. The product of two of them depends on the difference of their angles alone."""
    cosine, sine = turns.cos(), turns.sin()
    x, y = vectors.chunk(2, -1)
    return torch.cat((x * cosine - y * sine, x * sine + y * cosine), -1).to(vectors.dtype)


class MultiHead(nn.Module):
    """Attention in H heads side by side. Equal to `nn.MultiheadAttention` with the same weights: its in_proj is
    `project`, its out_proj `out`.

    Looking at itself a sequence needs one projection for queries, keys and values; looking at another one, it asks
    with `queries` what that one holds, `held`. Keys are kept before they are turned, so that they stay right when the
    oldest are dropped and all others move up.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        at_least("--model.heads", heads, 1)
        if width % heads:
            raise SakiyomiError(f"--model.width {width} does not divide into --model.heads {heads}; take a multiple")
        self.width, self.heads = width, heads
        self.project = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, past: Tensor | None, view: View) -> tuple[Tensor, Tensor]:
        """Steps [B, T, W] look at what is held of the past, [B, S - T, 2W], and at themselves: what they find,
        [B, T, W], and what is held then, [B, S, 2W]."""
        queries, new = self.project(x).split((self.width, 2 * self.width), -1)
        held = new if past is None or not past.shape[1] else torch.cat((past, new), 1)
        return self.look(queries, held, view), held

    def queries(self, x: Tensor) -> Tensor:
        """[B, T, W] -> [B, T, W]."""
        return functional.linear(x, self.project.weight[: self.width], self.project.bias[: self.width])

    def held(self, x: Tensor) -> Tensor:
        """The keys and values of places [B, S, W], [B, S, 2W]."""
        return functional.linear(x, self.project.weight[self.width :], self.project.bias[self.width :])

    def look(self, queries: Tensor, held: Tensor, view: View) -> Tensor:
        """Queries [B, T, W] at keys and values [B, S, 2W]: what they find, [B, T, W]."""
        q, k, v = self._heads(queries, held, view)
        return self.out(looked(q, k, v, view).transpose(1, 2).flatten(2))

    def weights(self, queries: Tensor, held: Tensor, view: View) -> Tensor:
        """How much of each place each head takes, [B, H, T, S], sums of 1; as `look` does, but written out."""
        q, k, v = self._heads(queries, held, view)
        return attend(q, k, v, view.seen(q.shape[2], q.device))[1]

    def _heads(self, queries: Tensor, held: Tensor, view: View) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, H, T, D], keys and values [B, H, S, D]; views, but for what is turned."""
        q = queries.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = held.unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if view.angles is None:
            return q, k, v
        return turned(q, view.angles[-q.shape[2] :]), turned(k, view.angles), v


class Residual(nn.Module):
    """x plus what a part makes of it, normalised. Post-norm (Vaswani et al. 2017): norm(x + part(x)). Pre-norm (Xiong
    et al. 2020): x + part(norm(x)), which learns without a warm-up."""

    def __init__(self, width: int, dropout: float, norm: Norm) -> None:
        super().__init__()
        if norm not in ("pre", "post"):
            raise unknown("norm (--model.norm)", norm, ("pre", "post"))
        self.pre, self.norm, self.dropout = norm == "pre", nn.LayerNorm(width), nn.Dropout(dropout)

    def enter(self, x: Tensor) -> Tensor:
        """What the part reads."""
        return self.norm(x) if self.pre else x

    def leave(self, x: Tensor, made: Tensor) -> Tensor:
        """x and what the part has made of it."""
        both = x + self.dropout(made)
        return both if self.pre else self.norm(both)


class Block(nn.Module):
    """Looks at its own sequence, at another one if it is built to (`across`), and thinks about each step alone."""

    def __init__(
        self, width: int, heads: int, feedforward: int, dropout: float, norm: Norm, across: bool = False
    ) -> None:
        super().__init__()
        self.own, self.own_part = MultiHead(width, heads), Residual(width, dropout, norm)
        self.across = MultiHead(width, heads) if across else None
        self.across_part = Residual(width, dropout, norm) if across else None
        self.think = nn.Sequential(nn.Linear(width, feedforward), nn.ReLU(), nn.Linear(feedforward, width))
        self.think_part = Residual(width, dropout, norm)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, x: Tensor, past: Tensor | None, view: View, other: Other | None = None) -> tuple[Tensor, Tensor]:
        """Steps [B, T, W], and what is held of the past [B, S - T, 2W] -> the steps [B, T, W], and what is held then
        [B, S, 2W].

        Raises SakiyomiError unless it is given another sequence exactly if it was built to look at one."""
        x, held = self.remember(x, past, view)
        if self.across is not None or other is not None:
            across, part, other = self._beyond(other)
            x = part.leave(x, across.look(across.queries(part.enter(x)), other.held, other.view))
        return self.think_part.leave(x, self.think(self.think_part.enter(x))), held

    def remember(self, x: Tensor, past: Tensor | None, view: View) -> tuple[Tensor, Tensor]:
        """The first part: the look at its own sequence."""
        found, held = self.own(self.own_part.enter(x), past, view)
        return self.own_part.leave(x, found), held

    def gaze(self, x: Tensor, past: Tensor | None, view: View, other: Other | None) -> Tensor:
        """Where the steps look in the other sequence, mean over the heads, [B, T, S']; as `forward` otherwise."""
        across, part, other = self._beyond(other)
        x, _ = self.remember(x, past, view)
        return across.weights(across.queries(part.enter(x)), other.held, other.view).mean(1)

    def held_of(self, places: Tensor) -> Tensor:
        """What it will look at of another sequence [B, S', W], [B, S', 2W]; once is enough for all steps."""
        if self.across is None:
            raise SakiyomiError("this block looks at its own sequence only")
        return self.across.held(places)

    def _beyond(self, other: Other | None) -> tuple[MultiHead, Residual, Other]:
        if self.across is None or self.across_part is None:
            raise SakiyomiError("this block looks at its own sequence only")
        if other is None:
            raise SakiyomiError("this block looks at another sequence, too; give it what is held of that one")
        return self.across, self.across_part, other


class Words(nn.Module):
    """The table of V words: numbers [..] -> vectors [.., W], and vectors -> logits [.., V]. With `share` both are the
    same weights (Press & Wolf 2017), which are drawn small for the logits and scaled by sqrt(W) when read."""

    def __init__(self, words: int, width: int, share: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(words, width)
        nn.init.normal_(self.table.weight, std=width**-0.5)
        self.out = None if share else nn.Linear(width, words, bias=False)

    def forward(self, numbers: Tensor) -> Tensor:
        """Raises SakiyomiError for a number that is not in the table."""
        try:
            return self.table(numbers) * math.sqrt(self.table.embedding_dim)
        except IndexError as error:
            raise SakiyomiError(
                f"words have numbers from {int(numbers.min())} to {int(numbers.max())}, the table holds "
                f"{self.table.num_embeddings}; are they of another vocabulary?"
            ) from error

    def logits(self, vectors: Tensor, bias: Tensor | None = None) -> Tensor:
        return functional.linear(vectors, (self.out or self.table).weight, bias)
