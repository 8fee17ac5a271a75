"""Charts of a run, each a function from records to a PNG.

Matplotlib is used through its objects (no pyplot, no window, no state between calls).
"""

import io
import math
import warnings
from importlib import metadata
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from sakiyomi.guard import Limits
from sakiyomi.rollout import Trial
from sakiyomi.scores.drift import Drift
from sakiyomi.scores.protocol import Score

COLORS = ("#2f6fb0", "#d1662b", "#2e9a6a", "#8a5bb5", "#b98a1d", "#c2487f", "#1d9bb0", "#6b7280")
INK, QUIET, LINE, ALARM = "#1f2630", "#66707f", "#e3e6eb", "#c0392b"
WIDTH = 7.2  # inches
DPI = 180
PERCENT = FuncFormatter(lambda value, _: f"{100 * value:.3g} %")
# A line a name, told apart without colour too.
MARKS: tuple[dict[str, Any], ...] = tuple({"marker": marker, "ms": 3.5, "lw": 1.4} for marker in "os^Dv<>P")
SHORT = FuncFormatter(lambda value, _: f"{value / 1000:g}k" if abs(value) >= 1000 else f"{value:g}")
# Column names and words are in any script: of these, whichever are installed.
FONTS = ("DejaVu Sans", "Noto Sans CJK JP", "IPAexGothic", "IPAGothic", "Hiragino Sans", "Yu Gothic", "Noto Sans")


def add_japanese_font() -> None:
    """Many machines have no font with Japanese letters; the extra `text` brings one, which needs to be made known."""
    try:
        found = [file for file in metadata.files("matplotlib-fontja") or [] if file.suffix == ".ttf"]
    except metadata.PackageNotFoundError:
        return
    for file in found:
        fontManager.addfont(str(file.locate()))


add_japanese_font()
STYLE: dict[Any, Any] = {
    "font.family": [font for font in FONTS if font in {known.name for known in fontManager.ttflist}],
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": "#b9c0ca",
    "axes.labelcolor": QUIET,
    "axes.labelsize": 9.5,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}
NOT_LOSSES = ("step", "lr", "gradient_norm", "teacher_forcing", "psnr")
SCHEDULED = ("teacher_forcing", "weight/kl")
SCHEDULE_PANELS = {
    "teacher forcing ratio": ("teacher_forcing",),
    "weight of KL": ("weight/kl",),
    "KL": ("kl", "validation/kl"),
    "reconstruction error": ("image", "validation/image"),
    "PSNR on validation, dB": ("validation/psnr",),
}


def training_curves(metrics: list[dict[str, float]]) -> bytes:
    """Losses, learning rate and loss weights against the step. `metrics` are the lines of metrics.jsonl: losses under
    their own names, on validation as validation/NAME, schedules as lr and weight/NAME."""
    with mpl.rc_context(STYLE):
        figure = figure_of(3.6)
        grid = figure.add_gridspec(2, 2, width_ratios=(1.5, 1))
        losses, rate, weights = (figure.add_subplot(grid[at]) for at in ((slice(None), 0), (0, 1), (1, 1)))
        for index, name in enumerate(_losses(metrics)):
            color = INK if name == "total" else _color(index)
            losses.plot(*_curve(metrics, name), color=color, lw=1, alpha=0.55)
            mark = {"marker": "o", "ms": 3, "lw": 1.2}
            losses.plot(*_curve(metrics, f"validation/{name}"), color=color, label=_plain(name), **mark)
        drawn = [value for line in losses.get_lines() for value in np.asarray(line.get_ydata())]
        scale = "log" if min(drawn, default=1) > 0 else "linear"  # a log-likelihood may be below 0
        losses.set(yscale=scale, title="losses (thin: training, dots: validation)", xlabel="step")
        rate.plot(*_curve(metrics, "lr"), color=INK)
        rate.set(title="learning rate", ylim=(0, None))
        rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
        for index, name in enumerate(_losses(metrics)):
            if name != "total" and any(f"weight/{name}" in row for row in metrics):
                label, dashes = _plain(name), (0, (4, 1 + index))  # dashes of different lengths: lines may coincide
                weights.plot(*_curve(metrics, f"weight/{name}"), color=_color(index), label=label, ls=dashes)
        weights.set(title="loss weights", xlabel="step", ylim=(0, None))
        for axes in (losses, weights):
            add_legend(axes)
        return as_png(figure)


def schedule_page(metrics: list[dict[str, float]]) -> bytes:
    """What was scheduled and what came of it, on one page: teacher forcing, the weight of KL, KL, reconstruction and
    PSNR against the step. `metrics` are the lines of metrics.jsonl; what they do not name is left out."""
    return _schedules({"": metrics})


def schedule_comparison(runs: dict[str, list[dict[str, float]]]) -> bytes:
    """The panels of `schedule_page` with a colour a run; `runs` holds the lines of metrics.jsonl of each."""
    return _schedules(runs)


def picture_scores(curves: dict[str, dict[str, np.ndarray]]) -> bytes:
    """PSNR and SSIM against the imagined frame's number, counted from 1: a line for each name of `curves`, which
    holds {"psnr": [T'] in dB, "ssim": [T']}; a score that is missing is left out."""
    with mpl.rc_context(STYLE):
        figure = figure_of(3.2)
        for panel, (score, title) in enumerate((("psnr", "PSNR, dB"), ("ssim", "SSIM"))):
            axes = figure.add_subplot(1, 2, panel + 1)
            for index, (name, scores) in enumerate(curves.items()):
                values = np.asarray(scores.get(score, ()), float)
                mark = MARKS[index % len(MARKS)]
                axes.plot(np.arange(len(values)) + 1, values, color=_color(index), label=_plain(name), **mark)
            axes.set(title=f"{title}: higher is nearer to the truth", xlabel="imagined frame")
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        add_shared_legend(figure)
        return as_png(figure)


def drift_curves(drifts: dict[str, Drift], rate: float) -> bytes:
    """Errors of each stream against time, at `rate` steps a second."""
    with mpl.rc_context(STYLE):
        figure = figure_of(3.0)
        for index, (name, drift) in enumerate(drifts.items()):
            axes = figure.add_subplot(1, len(drifts), index + 1)
            ahead = (np.arange(len(drift.k_step)) + 1) / rate
            steps = np.arange(len(drift.one_step)) / rate
            axes.plot(steps, drift.one_step, color=COLORS[0], label="one step ahead")
            axes.plot(ahead, drift.k_step, color=COLORS[2], label="so many seconds ahead", marker="o", ms=3)
            axes.plot(steps, drift.free_running, color=COLORS[1], label="free-running")
            alone = np.flatnonzero(~np.isclose(drift.one_step, drift.free_running, equal_nan=True))
            if len(alone):
                axes.axvline((alone[0] - 0.5) / rate, color=QUIET, lw=1, ls=":", label="on its own from here")
            axes.set(title=_plain(name), xlabel="seconds", ylim=(0, None))
            axes.yaxis.set_major_formatter(PERCENT)
            if index == 0:
                axes.set_ylabel("error, share of the range")
        add_shared_legend(figure)
        return as_png(figure)


def hidden_path(hidden: list[np.ndarray], labels: list[str], successes: list[bool]) -> bytes:
    """The first principal components of the hidden states of all trials together: one line a trial.

    `hidden` holds one [T, N] a trial, `labels` what it is coloured by, `successes` whether it succeeded (failures are
    dashed and end in a cross).
    """
    paths, explained = _principal(hidden)
    colors = {label: _color(index) for index, label in enumerate(dict.fromkeys(labels))}
    with mpl.rc_context(STYLE):
        figure = figure_of(3.7)
        panels = [figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)]
        for axes, second in zip(panels, (1, 2), strict=True):
            for path, label, success in zip(paths, labels, successes, strict=True):
                x, y, color = path[:, 0], path[:, second], colors[label]
                axes.plot(x, y, color=color, lw=1.3, alpha=0.85, ls="-" if success else "--", label=_plain(label))
                axes.plot(x[0], y[0], "o", ms=5, mfc="white", mec=color)
                axes.plot(x[-1], y[-1], "o" if success else "x", ms=5, color=color)
            axes.set_xlabel(f"PC 1 ({explained[0]:.0%} of the variance)")
            axes.set_ylabel(f"PC {second + 1} ({explained[second]:.0%})")
        panels[0].set_title("ring: start, dot: end" + ("" if all(successes) else ", dashed with cross: failed"))
        add_shared_legend(figure)
        return as_png(figure)


def success_bars(scores: dict[str, Score]) -> bytes:
    """The rates (unit 'rate') among `scores`, each a bar with its interval."""
    rates = {name: score for name, score in scores.items() if score.unit == "rate"}
    with mpl.rc_context(STYLE):
        figure = figure_of(0.7 + 0.36 * max(1, len(rates)))
        axes = figure.add_subplot()
        for row, (name, score) in enumerate(rates.items()):
            axes.barh(row, score.value, height=0.62, color=COLORS[0], alpha=0.85)
            if score.low is not None and score.high is not None:
                axes.errorbar(score.value, row, xerr=_reach(score), color=INK, lw=1.4, capsize=3)
            end = max(score.value, score.high or 0)
            axes.text(end + 0.015, row, f"{100 * score.value:.0f} % of {score.protocol.n}", va="center", fontsize=9)
            axes.text(-0.015, row, _plain(name), va="center", ha="right", fontsize=10)
        axes.set(xlim=(0, 1.2), ylim=(max(1, len(rates)) - 0.5, -0.5), yticks=[], xticks=np.arange(0, 1.01, 0.2))
        axes.xaxis.set_major_formatter(PERCENT)
        axes.spines["left"].set_visible(False)
        if not rates:
            axes.text(0.58, 0, "no rates were measured", ha="center", va="center", color=QUIET)
        return as_png(figure)


def latency(seconds: np.ndarray, period: float) -> bytes:
    """How long decisions took: `seconds` [n] of each, `period` between two ticks."""
    times = np.asarray(seconds, float) * 1e3
    with mpl.rc_context(STYLE):
        figure = figure_of(2.6)
        axes = figure.add_subplot()
        top = 1.5 * float(np.percentile(times, 99))  # a rare slow one must not squeeze the rest
        beyond = int((times > top).sum())
        axes.hist(times[times <= top], bins=60, range=(0, top), color=COLORS[0], alpha=0.85)
        for share, color in ((50, COLORS[2]), (99, COLORS[1])):
            value = float(np.percentile(times, share))
            axes.axvline(value, color=color, label=f"p{share}: {value:.2f} ms")
        if period * 1e3 <= top:
            axes.axvline(period * 1e3, color=ALARM, ls="--", label="next tick is due")
        slow = f"; {beyond} slower than shown, up to {times.max():.1f} ms" if beyond else ""
        axes.set_title(f"{len(times)} decisions, one every {period * 1e3:.0f} ms{slow}")
        axes.set(xlabel="from observation to command, ms", ylabel="decisions", xlim=(0, top))
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        add_legend(axes)
        return as_png(figure)


def success_against_demonstrations(points: dict[int, Score]) -> bytes:
    """Success against the number of demonstrations learned from, with its interval."""
    counts = sorted(points)
    scores = [points[count] for count in counts]
    with mpl.rc_context(STYLE):
        figure = figure_of(3.0)
        axes = figure.add_subplot()
        low = [s.value if s.low is None else s.low for s in scores]
        high = [s.value if s.high is None else s.high for s in scores]
        axes.fill_between(counts, low, high, color=COLORS[0], alpha=0.15, lw=0)
        axes.plot(counts, [s.value for s in scores], color=COLORS[0], marker="o", ms=5)
        for count, score in zip(counts, scores, strict=True):
            text = f"{100 * score.value:.0f} %"
            axes.annotate(text, (count, score.value), (0, 7), textcoords="offset points", ha="center")
        axes.set(xscale="log", xlabel="demonstrations", ylabel="success", ylim=(0, 1.1), yticks=np.arange(0, 1.01, 0.2))
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.set_xticks([], minor=True)
        axes.yaxis.set_major_formatter(PERCENT)
        return as_png(figure)


def command_plot(trial: Trial, names: tuple[str, ...], limits: Limits | None = None) -> bytes:
    """Each joint as measured and as commanded, in its own unit. Against seconds, and with what the guard forbids
    shaded, where `limits` are given; against ticks otherwise."""
    period = 1.0 if limits is None else limits.period
    time = np.arange(len(trial.joints)) * period
    rows = -(-len(names) // 2)
    with mpl.rc_context(STYLE):
        figure = figure_of(0.6 + 1.35 * rows)
        for joint, name in enumerate(names):
            axes = figure.add_subplot(rows, 2, joint + 1)
            axes.plot(time, trial.commands[:, joint], color=COLORS[1], lw=1.2, label="commanded")
            axes.plot(time, trial.joints[:, joint], color=COLORS[0], label="measured")
            if limits is not None:
                _shade(axes, max(limits.low[joint], limits.learned_low[joint]), True)
                _shade(axes, min(limits.high[joint], limits.learned_high[joint]), False)
            axes.set_title(_plain(name), fontsize=9.5, pad=3)
            axes.yaxis.set_major_locator(MaxNLocator(4))
            if joint >= len(names) - 2:
                axes.set_xlabel("ticks" if limits is None else "seconds")
            else:
                axes.tick_params(labelbottom=False)
        add_shared_legend(figure)
        return as_png(figure)


def attention_distance(distances: np.ndarray, bar: float = 5.0) -> bytes:
    """How far an attention point lies from the cube: `distances` [trials, T] in pixels of 64, NaN where
    nothing was counted; `bar` is the distance to stay under."""
    distances = np.asarray(distances, float)
    counted = np.flatnonzero(np.isfinite(distances).any(0))
    low, median, high = np.nanpercentile(distances[:, counted], (25, 50, 75), axis=0)
    with mpl.rc_context(STYLE):
        figure = figure_of(2.8)
        axes = figure.add_subplot()
        axes.fill_between(counted, low, high, color=COLORS[0], alpha=0.18, lw=0, label="half of the trials")
        axes.plot(counted, median, color=COLORS[0], label="median")
        axes.axhline(bar, color=ALARM, lw=1.2, ls="--", label=f"bar: {bar:g} pixels")
        axes.set(xlabel="ticks", ylabel="distance, pixels of 64", ylim=(0, None))
        axes.set_title(f"from the attention point to the cube, {len(distances)} trials")
        add_legend(axes)
        return as_png(figure)


def _losses(metrics: list[dict[str, float]]) -> list[str]:
    """Names of the losses, in the order of the log, the total last."""
    keys = dict.fromkeys(key.removeprefix("validation/") for row in metrics for key in row)
    names = [key for key in keys if key not in (*NOT_LOSSES, "total") and not key.startswith("weight/")]
    return [*names, "total"] if "total" in keys else names


def _schedules(runs: dict[str, list[dict[str, float]]]) -> bytes:
    """One panel a quantity that any run has, a colour a run; a run without a name has no line in the legend."""
    logged = {key for metrics in runs.values() for row in metrics for key in row}
    panels = {title: keys for title, keys in SCHEDULE_PANELS.items() if logged.intersection(keys)}
    across = 2 if len(panels) in (2, 4) else 3
    rows = max(1, math.ceil(len(panels) / across))
    with mpl.rc_context(STYLE):
        figure = figure_of(0.4 + 1.9 * rows)
        first: Axes | None = None
        for panel, (title, keys) in enumerate(panels.items()):
            axes = figure.add_subplot(rows, across, panel + 1, sharex=first)
            first = first or axes
            for index, (name, metrics) in enumerate(runs.items()):
                for key in keys:
                    axes.plot(*_curve(metrics, key), color=_color(index), label=_plain(name), **_look(key, index))
            for key in keys if len(keys) == 2 else ():
                label = "validation" if key.startswith("validation/") else "training"
                axes.plot([], [], color=QUIET, label=label, **_look(key, 0))  # for the legend
            axes.set_title(title, fontsize=9.5)
            drawn = [row[key] for metrics in runs.values() for row in metrics for key in keys if key in row]
            if keys[0] in SCHEDULED:
                axes.set_ylim(0, 1.05 * max(drawn) or 1)
                axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
            elif len(keys) == 2 and min(drawn) > 0:  # a loss, which spans decades
                axes.set_yscale("log")
                axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(drawn) < 100 * min(drawn) else (1,)))
                axes.yaxis.set_major_formatter(SHORT)
                axes.yaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.xaxis.set_major_formatter(SHORT)
            if panel >= len(panels) - across:
                axes.set_xlabel("step")
        if not panels:
            figure.text(0.5, 0.5, "nothing that is scheduled was logged", ha="center", va="center", color=QUIET)
        add_shared_legend(figure)
        return as_png(figure)


def _look(key: str, index: int) -> dict[str, Any]:
    """How the `index`-th run's curve of `key` is drawn."""
    if key in SCHEDULED:
        return {"ls": (0, (4, 1 + index)) if index else "-"}  # schedules of two runs may coincide
    return {"marker": "o", "ms": 3, "lw": 1.2} if key.startswith("validation/") else {"lw": 1, "alpha": 0.55}


def _curve(metrics: list[dict[str, float]], key: str) -> tuple[list[float], list[float]]:
    rows = [row for row in metrics if key in row]
    return [row["step"] for row in rows], [row[key] for row in rows]


def _principal(hidden: list[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """Each [T, N] -> [T, 3] in the first three principal components of all, and their shares of the variance [3]."""
    every = np.concatenate(hidden).astype(float)
    center = every.mean(0)
    _, strengths, axes = np.linalg.svd(every - center, full_matrices=False)
    missing = max(0, 3 - len(axes))  # fewer units, or fewer states, than three
    axes = np.pad(axes, ((0, missing), (0, 0)))[:3]
    shares = np.pad(strengths**2, (0, missing)) / max(float((strengths**2).sum()), 1e-12)
    return [(states - center) @ axes.T for states in hidden], shares[:3]


def _reach(score: Score) -> list[list[float]]:
    """The interval as matplotlib wants it: below and above the value."""
    low, high = score.low, score.high
    assert low is not None
    assert high is not None
    return [[max(0.0, score.value - low)], [max(0.0, high - score.value)]]


def _shade(axes: Axes, limit: float, below: bool) -> None:
    """Colour what lies beyond a limit."""
    low, high = axes.get_ylim()
    room = 0.06 * (high - low)
    low, high = min(low, limit - room), max(high, limit + room)
    span = (low, limit) if below else (limit, high)
    axes.axhspan(*span, color=ALARM, alpha=0.12, lw=0, label="forbidden by the guard")
    axes.set_ylim(low, high)


def _color(index: int) -> str:
    return COLORS[index % len(COLORS)]


def _plain(text: str) -> str:
    """A name as it is, not as mathematics; no leading underscore, which would hide it from legends."""
    return text.replace("$", r"\$").lstrip("_")


def figure_of(height: float) -> Figure:
    """An empty picture `height` inches high."""
    figure = Figure((WIDTH, height), DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def add_legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend()


def add_shared_legend(figure: Figure) -> None:
    """One legend above all panels, each label once."""
    handles: dict[str, Artist] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        widths = [len(label) + 7 for label in handles]  # letters; some 90 fit
        columns = len(widths) if sum(widths) <= 90 else max(1, 90 // max(widths))
        figure.legend(list(handles.values()), list(handles), loc="outside upper center", ncols=columns)


def as_png(figure: Figure) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():  # letters that no font here has are drawn as boxes; that is no news each time
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(file, format="png", dpi=DPI)
    return file.getvalue()
