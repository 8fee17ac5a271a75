"""Charts of surprise: a series with what was expected of it, its score, the threshold and the alarms, as PNG."""

from collections.abc import Sequence
from datetime import UTC, datetime

import matplotlib as mpl
import matplotlib.dates as mdates
import numpy as np
from matplotlib.axes import Axes

from sakiyomi.errors import SakiyomiError
from sakiyomi.surprise import Alarm
from sakiyomi.views.plots import ALARM, COLORS, INK, QUIET, STYLE, add_legend, as_png, figure_of

HIGHEST = 12.0  # scores above are drawn there: one strange value would flatten the rest
DRAWN = 4000  # points of a line; of more, every so many values the smallest and the largest


def series_plot(
    times: np.ndarray,
    values: np.ndarray,
    expected: np.ndarray,
    scores: np.ndarray,
    threshold: float,
    alarms: Sequence[Alarm],
    *,
    names: Sequence[str] = (),
    deviations: np.ndarray | None = None,
    begin: str = "",
    known: Sequence[tuple[float, float]] = (),
    label: str = "",
) -> bytes:
    """A panel for each of C channels with what was expected, and under them the score.

    times [T] in s, values and expected [T, C] (NaN: nothing was expected), scores [T], alarms and `known` anomalies in
    s; `deviations` [T, C] draws a band of two of them; `begin`, an ISO stamp, makes the axis one of dates; `label` is
    what the threshold means, how rare such a step is if not given. Raises SakiyomiError for shapes that do not fit.
    """
    if values.shape != expected.shape or values.ndim != 2 or len(times) != len(values) or len(scores) != len(values):
        shapes = f"times {times.shape}, values {values.shape}, expected {expected.shape}, scores {scores.shape}"
        raise SakiyomiError(f"a plot of T steps and C channels got {shapes}")
    at = _dates(times, begin) if begin else times
    channels = values.shape[1]
    with mpl.rc_context(STYLE):
        figure = figure_of(1.6 * channels + 1.9)
        panels: list[Axes] = list(figure.subplots(channels + 1, 1, sharex=True, squeeze=False)[:, 0])
        for channel, axes in enumerate(panels[:-1]):
            if deviations is not None:
                low, high = (expected[:, channel] + sign * 2 * deviations[:, channel] for sign in (-1, 1))
                axes.fill_between(at, low, high, color=COLORS[1], alpha=0.2, lw=0, label="expected, 2 deviations")
            axes.plot(*_thin(at, expected[:, channel]), color=COLORS[1], lw=1.6, alpha=0.8, label="expected")
            axes.plot(*_thin(at, values[:, channel]), color=INK, lw=0.6, label="measured")
            axes.set_ylabel(names[channel] if channel < len(names) else f"channel {channel}")
            _shade(axes, at, times, alarms, known)
            if channel == 0:
                _legend_above(axes)
        axes = panels[-1]
        axes.plot(*_thin(at, np.minimum(scores, HIGHEST)), color=COLORS[0], lw=0.9)
        _threshold(axes, threshold, label or f"alarm: one in {10**threshold:,.0f} normal steps")
        _shade(axes, at, times, alarms, known)
        axes.set(ylabel="surprise", ylim=(0, 1.35 * max(threshold, min(float(scores.max()), HIGHEST))))
        cut = f", drawn up to {HIGHEST:g}" if scores.max(initial=0) > HIGHEST else ""
        axes.set_title(f"{len(alarms)} alarm{'s' * (len(alarms) != 1)}{cut}")
        if begin:
            locator = mdates.AutoDateLocator()
            axes.xaxis.set_major_locator(locator)
            # Every tick says its month: the style's own leaves it to the end of the axis, which may be the next one.
            days = ["%Y", "%b %Y", "%d %b", "%H:%M", "%H:%M", "%H:%M:%S"]
            starts = ["", "%b %Y", "%d %b", "%d %b", "%H:%M", "%H:%M:%S"]
            dates = mdates.ConciseDateFormatter(locator, formats=days, zero_formats=starts, show_offset=False)
            axes.xaxis.set_major_formatter(dates)
            first, last = (f"{mdates.num2date(moment):%Y-%m-%d %H:%M}" for moment in (at[0], at[-1]))
            axes.set_xlabel(f"{first} to {last}")
        else:
            axes.set_xlabel("s")
        return as_png(figure)


def score_curves(
    scores: Sequence[np.ndarray],
    period: float,
    threshold: float,
    marks: Sequence[float | None] = (),
    titles: Sequence[str] = (),
) -> bytes:
    """Scores of some runs, [T] each at `period` seconds, one panel a run; `marks` are seconds at which something
    happened, or None."""
    columns = 3
    rows = -(-len(scores) // columns)
    with mpl.rc_context(STYLE):
        figure = figure_of(1.3 * rows + 0.5)
        panels: list[Axes] = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel())
        for index, axes in enumerate(panels):
            if index >= len(scores):
                axes.set_visible(False)
                continue
            curve = np.minimum(scores[index], HIGHEST)
            axes.plot(np.arange(len(curve)) * period, curve, color=COLORS[0], lw=1.2)
            _threshold(axes, threshold)
            happened = marks[index] if index < len(marks) else None
            if happened is not None:
                axes.axvline(happened, color=QUIET, lw=1.2, ls=":")
            axes.set(ylim=(0, HIGHEST), title=titles[index] if index < len(titles) else "")
            if index >= len(scores) - columns:
                axes.set_xlabel("s")
        panels[0].set_ylabel("surprise")
        return as_png(figure)


def _legend_above(axes: Axes) -> None:
    """Where it hides nothing."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2)


def _threshold(axes: Axes, threshold: float, label: str = "") -> None:
    axes.axhline(threshold, color=ALARM, lw=1.1, ls="--", label=label or None)
    add_legend(axes)


def _shade(
    axes: Axes, at: np.ndarray, times: np.ndarray, alarms: Sequence[Alarm], known: Sequence[tuple[float, float]]
) -> None:
    half = float(np.median(np.diff(times))) / 2 if len(times) > 1 else 0.5

    def where(seconds: float) -> float:
        return float(np.interp(seconds, times, at))

    for start, end in known:
        axes.axvspan(where(start), where(end), color=COLORS[4], alpha=0.18, lw=0)
    for alarm in alarms:
        axes.axvspan(where(alarm.start - half), where(alarm.end + half), color=ALARM, alpha=0.3, lw=0.6)


def _dates(times: np.ndarray, begin: str) -> np.ndarray:
    """Matplotlib's numbers of dates."""
    first = datetime.fromisoformat(begin)
    return float(mdates.date2num(first if first.tzinfo else first.replace(tzinfo=UTC))) + np.asarray(times) / 86400.0


def _thin(at: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A line of bounded length with all its peaks."""
    every = max(1, 2 * len(values) // DRAWN)
    if every == 1:
        return at, values
    groups = np.pad(values, (0, -len(values) % every), mode="edge").reshape(-1, every)
    filled = np.where(np.isnan(groups), 0.0, groups)
    picks = np.sort(np.stack((filled.argmin(1), filled.argmax(1)), 1), 1) + np.arange(0, len(values), every)[:, None]
    picks = np.minimum(picks, len(values) - 1).ravel()
    return at[picks], values[picks]
