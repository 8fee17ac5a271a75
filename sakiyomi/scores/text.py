"""Scores of text: BLEU (Papineni et al. 2002) as sacrebleu counts it, and what words cost that are told by their
frequency alone."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from sakiyomi.data.vocabulary import SPECIAL, UNK
from sakiyomi.errors import SakiyomiError
from sakiyomi.scores.statistics import Interval

Tokens = Literal["none", "char"]
DRAWS = 1000
UNKNOWN = "\ue000"  # one character, of those that stand for none
SPACED = 0.05  # of its characters are spaces at least, where a language has spaces between words


def bleu(said: Sequence[str], true: Sequence[str], tokens: Tokens = "none", seed: int = 0) -> Interval:
    """Corpus BLEU, 0 to 100, of what was said against one reference each, with its bootstrap interval over sentences
    (Koehn 2004). `tokens` none: words are what stands between spaces; char: each letter is a word, and an unknown
    word is one.

    Raises SakiyomiError where the counts differ, or nothing is scored, or sacrebleu is not installed.
    """
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise SakiyomiError("BLEU is counted by sacrebleu: pip install 'sakiyomi[text]'") from error
    if len(said) != len(true) or not said:
        raise SakiyomiError(f"{len(said)} texts against {len(true)} references; expected one for each")
    if tokens == "char":
        said, true = ([text.replace(SPECIAL[UNK], UNKNOWN) for text in texts] for texts in (said, true))
    metric = BLEU(tokenize=tokens, force=True, effective_order=True)
    each = [metric.sentence_score(a, [b]) for a, b in zip(said, true, strict=True)]
    counts = np.array([[*one.counts, *one.totals, one.sys_len, one.ref_len] for one in each])

    def score(total: np.ndarray) -> float:
        n = [int(value) for value in total]
        return BLEU.compute_bleu(n[:4], n[4:8], n[8], n[9], smooth_method="exp").score

    picks = np.random.default_rng(seed).multinomial(len(said), [1 / len(said)] * len(said), DRAWS)
    low, high = np.percentile([score(row) for row in picks @ counts], (2.5, 97.5))
    return Interval(score(counts.sum(0)), float(low), float(high))


def without_spaces(texts: Sequence[str]) -> bool:
    """Whether texts are written without spaces between words, but for a few."""
    return sum(text.count(" ") for text in texts) < SPACED * sum(map(len, texts))


def unigram_nats(train: np.ndarray, held_out: np.ndarray, words: int) -> float:
    """What a word of `held_out` costs by its frequency in `train` alone, nats; ids of a vocabulary of `words`, each
    counted once more than it came, so that none is impossible."""
    counts = np.bincount(train, minlength=words) + 1
    return float(-np.log(counts / counts.sum())[held_out].mean())
