"""Attention as a picture: where in the source a translator looked for each word."""

import numpy as np
from matplotlib import rc_context

from sakiyomi.views.plots import STYLE, as_png, figure_of

HIGHEST = 12.0  # inches
NAMED = 40  # words that are named along a side, at most
LETTERS = 20  # of a name, at most


def attention_map(weights: np.ndarray, source: list[str], target: list[str]) -> bytes:
    """PNG: a row a word that was said, a column a word of the source, darker where it looked; `weights` [T, S], rows
    with a sum of 1. Of long sentences, every second word is named, or every third..."""
    with rc_context(STYLE):
        figure = figure_of(min(1.2 + 0.28 * len(target), HIGHEST))
        axes = figure.add_subplot()
        drawn = axes.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(*named(source), rotation=45, ha="left", rotation_mode="anchor")
        axes.set_yticks(*named(target))
        axes.xaxis.tick_top()
        axes.grid(visible=False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        figure.colorbar(drawn, ax=axes, label="share of attention", fraction=0.04, pad=0.02)
        return as_png(figure)


def named(words: list[str]) -> tuple[range, list[str]]:
    """Which places of a sentence get a name, and the names."""
    places = range(0, len(words), -(-len(words) // NAMED))
    return places, [word if len(word) <= LETTERS else f"{word[: LETTERS - 1]}…" for word in words[:: places.step]]
