"""Attention as a picture: where in the source a translator looked for each word."""

import numpy as np
from matplotlib import rc_context

from sakiyomi.views.plots import STYLE, as_png, figure_of


def attention_map(weights: np.ndarray, source: list[str], target: list[str]) -> bytes:
    """PNG: a row a word that was said, a column a word of the source, darker where it looked; `weights` [T, S], rows
    with a sum of 1."""
    with rc_context(STYLE):
        figure = figure_of(min(1.2 + 0.28 * len(target), 12))
        axes = figure.add_subplot()
        drawn = axes.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(source)), source, rotation=45, ha="left", rotation_mode="anchor")
        axes.set_yticks(range(len(target)), target)
        axes.xaxis.tick_top()
        axes.grid(visible=False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        figure.colorbar(drawn, ax=axes, label="share of attention", fraction=0.04, pad=0.02)
        return as_png(figure)
