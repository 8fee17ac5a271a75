"""Sounds that were recorded and sounds that were generated, as pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib import rc_context

from sakiyomi.audio.spectrum import Frames, Mel, log_mel
from sakiyomi.views.plots import STYLE, as_png, figure_of

FLOOR, TOP = -70.0, 20.0  # dB that are drawn black and white


@dataclass(frozen=True)
class Spectrum:
    """One column: samples [N] in -1..1."""

    name: str
    recorded: np.ndarray | None
    generated: np.ndarray


def spectra(columns: Sequence[Spectrum], rate: int) -> bytes:
    """PNG: mel bands over time, recordings above and what was generated below; the same seconds and decibels in all."""
    mel = Mel(rate=rate, frames=Frames(size=rate // 80 * 2, hop=rate // 200), bands=40)
    longest = max(len(x) for column in columns for x in (column.recorded, column.generated) if x is not None)
    with rc_context(STYLE):
        figure = figure_of(3.4)
        axes = figure.subplots(2, len(columns), sharex=True, sharey=True, squeeze=False)
        for column, (above, below) in zip(columns, axes.T, strict=True):
            for axis, samples in ((above, column.recorded), (below, column.generated)):
                if samples is not None:
                    whole = np.pad(samples, (0, longest - len(samples)))
                    bands = log_mel(torch.from_numpy(whole), mel).numpy().T
                    extent = (0, longest / rate, 0, mel.bands)
                    axis.imshow(bands, "magma", vmin=FLOOR, vmax=TOP, origin="lower", aspect="auto", extent=extent)
                axis.set(yticks=[])
                axis.grid(visible=False)
            above.set_title(column.name, fontsize=9)
            below.set_xlabel("s")
        axes[0, 0].set_ylabel("recorded")
        axes[1, 0].set_ylabel("generated")
        return as_png(figure)
