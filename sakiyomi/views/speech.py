"""What a recogniser says of each frame, as a picture."""

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context

from sakiyomi.views.plots import COLORS, LINE, STYLE, as_png, figure_of

LETTER = 0.013  # of the width of the picture


def spikes(
    probabilities: np.ndarray, labels: Sequence[int], names: Sequence[str], frames: Sequence[int], rate: float
) -> bytes:
    """PNG: how likely each of the labels that were heard is over time, the name of each above the frame that says it,
    and the blank in grey; `probabilities` [T, V] with the blank first, `rate` in frames a second."""
    with rc_context(STYLE):
        figure = figure_of(2.8)
        axes = figure.add_subplot()
        time = np.arange(len(probabilities)) / rate
        axes.fill_between(time, probabilities[:, 0], color=LINE, lw=0)
        for number, label in enumerate(dict.fromkeys(labels)):
            axes.plot(time, probabilities[:, label], color=COLORS[number % len(COLORS)], lw=1.2)
        ends = [-1.0, -1.0]  # where the last name of each row ends
        for name, frame in zip(names, frames, strict=True):
            shown = name.strip() or "␣"
            half = LETTER * time[-1] * len(shown) / 2
            row = 0 if ends[0] <= time[frame] - half or ends[0] <= ends[1] else 1
            ends[row] = time[frame] + half
            axes.annotate(shown, (time[frame], 1.02 + 0.09 * row), ha="center", va="bottom", fontsize=8)
        axes.set(xlabel="s", ylabel="probability", ylim=(0, 1.22), xlim=(0, time[-1]), yticks=(0, 0.5, 1))
        return as_png(figure)
