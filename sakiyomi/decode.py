"""Saying what comes next, word by word: text out of any model of tokens, by its `step` alone.

    first = torch.full((len(source),), BOS)
    decoded = decode(model, model.read({"source": source}), first, Decoding(beam=4))
    decoded[0].tokens[0]  # the best text of the first sentence

Letters: B sentences, V words, K hypotheses of each sentence. What a model says with which chance: the likeliest word
each time (greedy), one by chance (temperature, top-k, and top-p of Holtzman et al.: "The Curious Case of Neural Text
Degeneration", ICLR 2020), or the likeliest whole text as far as a beam of K hypotheses finds it, by the score of Wu et
al. ("Google's Neural Machine Translation System", 2016): log-probability / ((5 + n) / 6) ** alpha, n its words and the
stop.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sakiyomi.data.vocabulary import BOS, EOS, PAD
from sakiyomi.errors import LARGEST_SEED, SakiyomiError, at_least, at_most, unknown
from sakiyomi.models.base import SequenceModel, State, Streams

FREE = -1  # in a prefix: nothing is forced here


@dataclass(frozen=True)
class Decoding:
    """How words are chosen."""

    beam: int = 1
    """Hypotheses of each sentence that a beam search keeps; 1 takes the likeliest word each time, or draws one."""
    temperature: float = 0.0
    """Words are drawn by softmax(logits / temperature); 0 takes the likeliest."""
    top_k: int = 0
    """Words are drawn among so many likeliest; 0: among all."""
    top_p: float = 1.0
    """Words are drawn among the fewest likeliest that have this chance together, after temperature and top-k."""
    length_penalty: float = 0.6
    """alpha: a beam divides log-probabilities by ((5 + n) / 6) ** alpha, n words; 0 favours short texts."""
    steps: int = 100
    """Words that are said at the most, the stop among them."""
    n_best: int = 1
    """Texts of each sentence: so many of a beam, best first, or so many draws."""
    never: tuple[int, ...] = (PAD, BOS)
    """Words that are never said, by their numbers: 0 PAD, 1 BOS, 2 EOS, 3 UNK."""
    seed: int = 0
    """Seed of the draws."""


@dataclass(frozen=True)
class Decoded:
    """The texts of one sentence, N of them: of a beam the best first, by one score for those that ended and those that
    were cut. They are `n_best`, fewer only where the words do not make as many."""

    tokens: list[np.ndarray]
    """N times int64 [T]: the words with the prefix, without the first one read and without the stop."""
    log_probabilities: np.ndarray
    """Sum over all words and the stop, nats, of what the model says (before temperature and the rest), float64 [N]."""
    ended: np.ndarray
    """Whether it ended by itself, bool [N]; the others were cut after `steps` words."""


@torch.no_grad()
def decode(
    model: SequenceModel,
    state: State,
    first: Tensor,
    how: Decoding,
    prefix: Tensor | None = None,
    stream: str = "target",
    stop: int | None = EOS,
    given: Streams | None = None,
) -> list[Decoded]:
    """The texts that a model says after `first`, int64 [B], the words it reads first (BOS, or the last of a prompt that
    `unroll` has read), from a state of B rows: one `Decoded` for each.

    `prefix`, int64 [B, P], are words that texts have to begin with; where a sentence's are fewer, FREE fills up. `stop`
    ends a text; None: it goes on for `steps` words. `given` is what each step reads besides, the same each time,
    [B, ...]. All tensors are on the model's device; the model should be in evaluation mode. Draws come from a CPU's
    generator, so that every device draws the same. A step waits for the device once.

    Raises SakiyomiError for settings that contradict each other, words that are not in the vocabulary, logits that are
    NaN or infinite, and where every word that may be said has probability 0.
    """
    check(how)
    if stream not in model.vocabularies:
        raise unknown("stream of tokens", stream, model.vocabularies)
    size = model.vocabularies[stream]
    if first.ndim != 1 or len(first) == 0:
        raise SakiyomiError(f"the first words have shape {list(first.shape)}; expected [B], one for each sentence")
    _in_vocabulary("first words", first, 0, size)
    if prefix is not None:
        _check_prefix(prefix, len(first), how, size, stop)
    if any(not 0 <= word < size for word in how.never):
        raise SakiyomiError(f"words never to be said are {list(how.never)}; the vocabulary has 0 to {size - 1}")
    each = how.beam if how.beam > 1 else how.n_best
    state, given = _repeated(state, each), _repeated(given or {}, each)
    prefix = None if prefix is None else prefix.repeat_interleave(each, 0)
    never = torch.zeros(size, device=first.device).index_fill(
        0, torch.tensor(how.never, dtype=torch.long, device=first.device), -math.inf
    )
    task = _Task(model, stream, given, never, prefix, stop)
    if how.beam > 1:
        return _search(task, state, first, how)
    return _follow(task, state, first.repeat_interleave(each), how)


def check(how: Decoding) -> None:
    """Raises SakiyomiError for settings out of range, or that contradict each other."""
    for name in ("beam", "steps", "n_best"):
        at_least(f"--{name.replace('_', '-')}", getattr(how, name), 1)
    for name in ("temperature", "top_k", "length_penalty", "seed"):
        at_least(f"--{name.replace('_', '-')}", getattr(how, name), 0)
    at_most("--seed", how.seed, LARGEST_SEED)
    for name in ("temperature", "length_penalty"):
        if math.isinf(getattr(how, name)):
            raise SakiyomiError(f"--{name.replace('_', '-')} is infinite; give a number")
    if not 0 < how.top_p <= 1:
        raise SakiyomiError(f"--top-p is {how.top_p}; it must be more than 0 and at most 1")
    drawing = how.temperature > 0
    if how.beam > 1 and drawing:
        raise SakiyomiError(
            f"--beam {how.beam} looks for the likeliest text, --temperature {how.temperature} draws one; choose one"
        )
    if not drawing and (how.top_k or how.top_p < 1):
        raise SakiyomiError("--top-k and --top-p say among which words to draw; add --temperature 1")
    if how.n_best > 1 and not drawing and how.n_best > how.beam:
        raise SakiyomiError(
            f"--n-best {how.n_best} with --beam {how.beam}: a beam has no more texts than its width; widen it, or draw "
            "(--temperature 1)"
        )


def length_norm(words: int, alpha: float) -> float:
    """((5 + n) / 6) ** alpha, by which a beam divides the log-probability of n words (Wu et al. 2016, equation 14)."""
    return ((5 + words) / 6) ** alpha


def chances(logits: Tensor, how: Decoding) -> Tensor:
    """Logits [..., V] -> the chance with which each word is drawn, float64 [..., V].

    Temperature first, then the `top_k` likeliest, then of these the fewest whose chances sum to `top_p`; of equally
    likely words, the first come first.
    """
    ranked, order = logits.double(), None
    if how.top_k or how.top_p < 1:
        ranked, order = ranked.sort(dim=-1, descending=True, stable=True)
    # From the greatest, so that no temperature is too small.
    ranked = (ranked - ranked.amax(-1, keepdim=True)) / how.temperature
    if how.top_k:
        ranked[..., how.top_k :] = -math.inf
    ranked = ranked.softmax(-1)
    if how.top_p < 1:
        before = functional.pad(ranked.cumsum(-1)[..., :-1], (1, 0))
        ranked = ranked.masked_fill(before >= how.top_p, 0)
        ranked = ranked / ranked.sum(-1, keepdim=True)
    return ranked if order is None else torch.zeros_like(ranked).scatter(-1, order, ranked)


def drawn(probabilities: Tensor, noise: Tensor) -> Tensor:
    """One word of each row, int64 [R]: the first at which the sum of [R, V] is more than `noise` [R], in 0..1."""
    sums = probabilities.cumsum(1)
    found = torch.searchsorted(sums, (noise * sums[:, -1])[:, None], right=True)[:, 0]
    return found.clamp_max(probabilities.shape[1] - 1)  # of NaN, of which is told after this


@dataclass(frozen=True)
class _Task:
    """What a step needs; R rows."""

    model: SequenceModel
    stream: str
    given: Streams
    """[R, ...]"""
    never: Tensor
    """Minus infinity for words never to be said, 0 for the others, [V]."""
    prefix: Tensor | None
    """int64 [R, P]"""
    stop: int | None

    def step(self, words: Tensor, state: State, t: int) -> tuple[Tensor, Tensor, State]:
        """Words [R] read -> logits of the next ones [R, V], the same with minus infinity for words that may not be
        said, and the state."""
        predictions, state = self.model.step({**self.given, self.stream: words}, state)
        logits = predictions[self.stream]
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        allowed = logits + self.never
        if self.prefix is not None and t < self.prefix.shape[1]:
            forced = self.prefix[:, t, None]
            other = torch.arange(logits.shape[1], device=forced.device) != forced
            allowed = allowed.masked_fill((forced != FREE) & other, -math.inf)
        return logits, allowed, state

    def stops(self, words: Tensor) -> Tensor:
        """Which of the words end a text."""
        return torch.zeros_like(words, dtype=torch.bool) if self.stop is None else words == self.stop


def _follow(task: _Task, state: State, words: Tensor, how: Decoding) -> list[Decoded]:
    """One word after the other, R rows at once; one that has ended goes on with the others, and it does not count."""
    rows, device = len(words), words.device
    done = torch.zeros(rows, dtype=torch.bool, device=device)
    lengths = torch.zeros(rows, dtype=torch.long, device=device)
    totals = torch.zeros(rows, dtype=torch.float64, device=device)
    noise = torch.zeros(rows, 0)
    if how.temperature:
        generator = torch.Generator().manual_seed(how.seed)
        noise = torch.rand(rows, how.steps, generator=generator, dtype=torch.float64).to(device)
    said = []
    for t in range(how.steps):
        logits, allowed, state = task.step(words, state, t)
        words = drawn(chances(allowed, how), noise[:, t]) if how.temperature else allowed.argmax(-1)
        gains = logits.gather(1, words[:, None])[:, 0] - logits.logsumexp(1)
        totals = totals + gains.double().masked_fill(done, 0)
        said.append(words)
        wrong = ~(logits.amax(1) < math.inf) & ~done
        silent = (allowed.amax(1) == -math.inf) & ~done
        done = done | task.stops(words)
        lengths = lengths + ~done
        if not _going_on(wrong, silent, ~done, t):
            break
    lengths, totals = lengths.view(-1, how.n_best), totals.view(-1, how.n_best)
    texts = torch.stack(said, 1).view(*lengths.shape, -1)
    return _records(_Texts(texts, lengths, totals, torch.zeros_like(totals)), how.steps)


@dataclass(frozen=True)
class _Texts:
    """N texts of each sentence."""

    words: Tensor
    """int64 [B, N, steps]"""
    lengths: Tensor
    """Words of each without its stop, int64 [B, N]."""
    totals: Tensor
    """Log-probabilities, nats, float64 [B, N]."""
    scores: Tensor
    """What they are ranked by, float64 [B, N]; minus infinity: there is no such text."""

    def with_those(self, other: "_Texts", best: int) -> "_Texts":
        """The best of both, those here before equally good others."""
        scores = torch.cat((self.scores, other.scores), 1)
        order = scores.sort(dim=1, descending=True, stable=True).indices[:, :best]
        words = torch.cat((self.words, other.words), 1)
        return _Texts(
            words.gather(1, order[..., None].expand(-1, -1, words.shape[2])),
            torch.cat((self.lengths, other.lengths), 1).gather(1, order),
            torch.cat((self.totals, other.totals), 1).gather(1, order),
            scores.gather(1, order),
        )


def _search(task: _Task, state: State, first: Tensor, how: Decoding) -> list[Decoded]:
    """Beam search. Of the 2 K likeliest continuations of K hypotheses, those that end and are among the first K are put
    aside, and the K likeliest others go on. A sentence is done when none that goes on can still become better than what
    was put aside: log-probabilities only fall, and no text is longer than `steps`."""
    rows, wide, device = len(first), how.beam, first.device
    words = first.repeat_interleave(wide)
    # All K begin alike: the first step continues one of them.
    totals = torch.full((rows, wide), -math.inf, dtype=torch.float64, device=device)
    totals[:, 0] = 0
    texts = torch.zeros(rows, wide, how.steps, dtype=torch.long, device=device)
    none = torch.zeros(rows, wide, dtype=torch.long, device=device)
    ended = _Texts(texts, none, none.double(), torch.full_like(totals, -math.inf))
    offsets = wide * torch.arange(rows, device=device)[:, None]
    for t in range(how.steps):
        logits, allowed, state = task.step(words, state, t)
        alive = totals > -math.inf
        best, parents, said = _continued(logits, allowed, totals)
        grown = texts.gather(1, parents[..., None].expand(-1, -1, how.steps))
        grown[:, :, t] = said
        stopped = task.stops(said)
        aside = stopped & (torch.arange(best.shape[1], device=device) < wide)
        scores = (best / length_norm(t + 1, how.length_penalty)).masked_fill(~aside, -math.inf)
        ended = ended.with_those(_Texts(grown, torch.full_like(said, t), best, scores), wide)
        totals, order = best.masked_fill(stopped, -math.inf).sort(dim=1, descending=True, stable=True)
        totals, order = totals[:, :wide], order[:, :wide]
        texts = grown.gather(1, order[..., None].expand(-1, -1, how.steps))
        words = said.gather(1, order).flatten()
        kept = (offsets + parents.gather(1, order)).flatten()
        state = {name: value[kept] for name, value in state.items()}
        wrong = (~(logits.amax(1) < math.inf)).view_as(alive) & alive
        silent = alive.any(1) & (best[:, 0] == -math.inf) & (ended.scores[:, 0] == -math.inf)
        settled = ended.scores[:, how.n_best - 1] >= totals[:, 0] / length_norm(how.steps, how.length_penalty)
        totals = totals.masked_fill(settled[:, None], -math.inf)
        if not _going_on(wrong, silent, totals > -math.inf, t):
            break
    scores = totals / length_norm(how.steps, how.length_penalty)  # none is left where it broke off
    cut = _Texts(texts, torch.full_like(none, how.steps), totals, scores)
    return _records(ended.with_those(cut, how.n_best), how.steps)


def _continued(logits: Tensor, allowed: Tensor, totals: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The 2 K likeliest continuations of each sentence's K hypotheses, whose log-probabilities are `totals` [B, K]:
    their log-probabilities, the hypotheses they continue, and the words they add, [B, 2 K] each."""
    rows, wide = totals.shape
    size = logits.shape[1]
    gains = logits.log_softmax(1).masked_fill(allowed == -math.inf, -math.inf).double()
    sums = totals[..., None] + gains.view(rows, wide, size)
    # What a hypothesis that is none would say may be NaN, which ranks before all numbers.
    sums = sums.masked_fill((totals == -math.inf)[..., None], -math.inf).flatten(1)
    best, places = sums.topk(2 * wide)
    return best, places // size, places % size


def _records(texts: _Texts, steps: int) -> list[Decoded]:
    """A record of each sentence. Only a text that was cut has as many words as there were steps."""
    words, lengths, totals = (value.cpu().numpy() for value in (texts.words, texts.lengths, texts.totals))
    there = (texts.scores > -math.inf).cpu().numpy()
    found = []
    for sentence, picks in enumerate(there):
        counts = lengths[sentence, picks]
        cut = [text[:count].copy() for text, count in zip(words[sentence, picks], counts, strict=True)]
        found.append(Decoded(cut, totals[sentence, picks], counts < steps))
    return found


def _going_on(wrong: Tensor, silent: Tensor, going: Tensor, t: int) -> bool:
    """Whether any text goes on, by the step's one wait for the device. Raises SakiyomiError where one cannot."""
    is_wrong, is_silent, goes_on = torch.stack((wrong.any(), silent.any(), going.any())).tolist()
    if is_wrong:
        raise SakiyomiError(f"the model's logits are not finite at word {t + 1}; is it trained, and its input sound?")
    if is_silent:
        raise SakiyomiError(
            f"no word can be said as word {t + 1}: those allowed (--never, the prefix) have probability 0 in the model"
        )
    return goes_on


def _repeated(rows: Streams, times: int) -> Streams:
    """Each row so many times, one after the other."""
    return {name: value.repeat_interleave(times, 0) for name, value in rows.items()}


def _in_vocabulary(what: str, words: Tensor, least: int, size: int) -> None:
    if words.is_floating_point() or words.dtype == torch.bool:
        raise SakiyomiError(f"the {what} are {words.dtype}; expected numbers of words, int64")
    if words.numel() and not least <= int(words.min()) <= int(words.max()) < size:
        raise SakiyomiError(
            f"the {what} hold numbers from {int(words.min())} to {int(words.max())}; the vocabulary has 0 to {size - 1}"
        )


def _check_prefix(prefix: Tensor, rows: int, how: Decoding, size: int, stop: int | None) -> None:
    """Raises SakiyomiError unless it can be obeyed."""
    if prefix.ndim != 2 or len(prefix) != rows:
        raise SakiyomiError(f"the prefix has shape {list(prefix.shape)}; expected [{rows}, P], a row for each sentence")
    if prefix.shape[1] > how.steps:
        raise SakiyomiError(f"the prefix has {prefix.shape[1]} words, --steps is {how.steps}; give more steps")
    _in_vocabulary("prefix's words", prefix, FREE, size)
    free = prefix == FREE
    if (free[:, :-1] & ~free[:, 1:]).any():
        raise SakiyomiError(f"the prefix has words after a free place ({FREE}); only its end may be free")
    barred = sorted({*prefix.unique().tolist()} & {*how.never, *(() if stop is None else (stop,))})
    if barred:
        raise SakiyomiError(
            f"the prefix holds words {barred}, which are never said or end the text; fill short rows with {FREE}"
        )
