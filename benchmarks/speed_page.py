"""The section on speed of docs/benchmarks.md, and its picture, from the figures in benchmarks/results/speed."""

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks import page
from benchmarks.page import found_in, table
from benchmarks.speed_bars import bars, reliable
from sakiyomi.files import write_atomic
from sakiyomi.views.plots import COLORS, STYLE, add_legend, as_png, figure_of

PLAIN = FuncFormatter(lambda value, _: f"{value:g}")
PICTURE = "time-to-error.png"
HEAD = """## Speed

Written by `python -m benchmarks.speed` from the figures in `benchmarks/results/speed`. *Published* is the arithmetic of
the papers' code, written plainly in `benchmarks/published/*.py`: a loop over time on the same weights and the same
batch, with the same threads and allocator, its float32 products as torch has them by itself (ours: by oneDNN where that
uses more of the processor, `sakiyomi/products.py`; SARNN's and SVG's steps, nearly all convolutions, do without). A
training step here is the way forth and the way back. Adam is left out of both ways but for MVAE, whose published loop
steps after each frame: a plain one there, torch's fused one in ours.

Losses and gradients of the published way and of ours in float32 are compared first, in the same run, and nothing is
measured where they differ by more than rounding. bfloat16 rounds the factors of products and convolutions to 8 bits and
is not held to that; `python -m benchmarks.speed precision` trains with it. The ways are measured in turn, A B A B, in
one process; seconds are medians, in brackets the quartiles; how many times as fast is the median over neighbouring
rounds. Memory is what a fresh process grows by during its first steps (VmHWM less VmRSS before them), with what
libraries set up when they are first used, which is most of it where models are small.

The floor is the larger of two times: the floating-point operations (products, convolutions, attention, LSTMs) at this
machine's best measured rate for their precision, and the bytes (weights, inputs, and twice what has to be kept for the
way back) at its measured rate of copying. Of operations and kept bytes no more are counted than the more thrifty way
needs, so that a wasteful one has no higher floor. The floor's share is how much of the measured time it would be: 100 %
would be the machine's limit.
"""
NAMES = {"sarnn": "SARNN", "svg": "SVG", "mvae": "MVAE"}
SIXTH = "ours, everything unbiased"
TOLD = {
    SIXTH: "bfloat16, and of one step in six, drawn anew each time, the picture is decoded and its loss counted six "
    "times: the same gradient on average, not in each step",
    "published, our products": "the published loop, multiplied by whom ours is: so much is not owed to the loop",
}
"""Ways that need a word."""


def write_page(results: Path, path: Path) -> None:
    """docs/benchmarks.md, whose first sections are the arm's."""
    page.write_page(results, path, sections(results / "speed"))


def write_readme_rows(results: Path, readme: Path) -> None:
    """The README's tables of the arm and of speed."""
    page.write_readme_table(results, readme)
    rows = []
    for name in NAMES:
        found = found_in(results / "speed", name)
        if found:
            ways = found["ways"]
            published, plain, half = (ways[way] for way in ("published", "ours, float32", "ours, bfloat16"))
            told = f"{half['ratio']['median']:.1f} times"
            if SIXTH in ways:
                told += f"; {ways[SIXTH]['ratio']['median']:.1f} with one picture in six decoded"
            share = plain["peak_bytes"] / published["peak_bytes"]
            rows.append((found["title"], f"{plain['ratio']['median']:.1f} times", told, f"{share:.0%}"))
    header = ("a training step, beside the published arithmetic", "float32", "bfloat16", "memory in float32")
    page.put_between(readme, "faster", table(header, rows))


def sections(results: Path) -> list[str]:
    """The texts of those parts that have been measured, each with the command and the machine; none if none was."""
    writers: dict[str, Callable[[dict[str, Any]], str]] = {
        **dict.fromkeys(NAMES, _one),
        "others": _others,
        "latency": _latency,
        "time_to_error": _time_to_error,
        "precision": _precision,
        "processes": _processes,
        "killed": lambda found: f"### A process is killed\n\n{table(('what', 'measured'), rows_of(found))}",
        "sweep": _sweep,
        "larger_than_memory": _larger,
        "gpu": _gpu,
    }
    measured = {name: found_in(results, name) for name in writers}
    measured = {name: found for name, found in measured.items() if found}
    if not measured:
        return []
    text = [HEAD, bars(measured)]
    for name, found in measured.items():
        machine = {**found.pop("machine"), **found.pop("computer", {})}
        text.append(writers[name](found))
        text.append(f"`python -m benchmarks.speed {name}` on {', '.join(f'{k} {v}' for k, v in machine.items())}\n")
    return text


def write_pictures(results: Path, docs: Path) -> None:
    """The learning curves, where they were measured."""
    found = found_in(results, "time_to_error")
    if not found:
        return
    with mpl.rc_context(STYLE):
        figure = figure_of(3.0)
        axes = figure.add_subplot()
        for way, color in zip(("published", "ours"), COLORS, strict=False):
            for number, seed in enumerate(found["seeds"].values()):
                curve = [point for point in seed[way]["curve"] if point["step"]]  # no logarithm of 0 s
                seconds, errors = ([point[key] for point in curve] for key in ("seconds", "error"))
                axes.plot(seconds, errors, color=color, label="" if number else way)
        axes.set(xlabel="seconds of training", ylabel="error of the joints", xscale="log", yscale="log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PLAIN)
            axis.set_minor_formatter(NullFormatter())
        add_legend(axes)
        write_atomic(docs / PICTURE, as_png(figure))


# ---- One part each ---------------------------------------------------------------------------------------------------


def _one(found: dict[str, Any]) -> str:
    rounds = f"{found['ways']['published']['seconds']['n']} rounds."
    notes = [f"- *{way}*: {what}\n" for way, what in TOLD.items() if way in found["ways"]]
    figures = f"{rounds} {_agreement(found)} {_rates(found['rates'])}\n"
    return "\n".join((f"### {found['title']}\n", _ways(found), *notes, figures))


def _ways(found: dict[str, Any]) -> str:
    rows = []
    for way, row in found["ways"].items():
        rows.append(
            (
                way,
                spread(row["seconds"]),
                times(row["ratio"]),
                f"{row['frames_per_second']:,.0f}",
                memory(row["peak_bytes"]),
                _short(row["floor_seconds"]),
                f"{row['share']:.1%}",
            )
        )
    return table(("way", "seconds", "times as fast", "frames/s", "memory", "floor", "floor's share"), rows)


def _agreement(found: dict[str, Any]) -> str:
    apart = ", ".join(f"{name} {value:.1e}" for name, value in found["agree"].items())
    return f"Published and ours in float32 are apart by: {apart} ({found['tolerance']:.0e} was allowed)."


def _rates(rates: dict[str, float]) -> str:
    told = [
        f"{what} in {precision} {rates[f'{what}_{precision}'] / 1e9:,.0f}"
        for what in ("product", "convolution")
        for precision in ("float32", "bfloat16")
    ]
    copying = f"copying {rates['copy'] / 1e9:.1f} GB/s"
    return f"Rates of this machine, 10^9 operations a second: {', '.join(told)}; {copying}."


def _others(found: dict[str, Any]) -> str:
    rows = []
    for side in found["sides"].values():
        first = side["ways"]["published"]
        for way, row in side["ways"].items():
            if way != "published":
                seconds = f"{_short(first['seconds']['median'])} / {_short(row['seconds']['median'])}"
                mem = f"{memory(first['peak_bytes'])} / {memory(row['peak_bytes'])}"
                apart = f"{max(side['agree'].values()):.0e}" if way == "ours, float32" else "-"
                rows.append((side["title"], way, seconds, times(row["ratio"]), mem, f"{row['share']:.1%}", apart))
    header = ("what", "way", "published / ours", "times as fast", "memory", "floor's share", "apart")
    same = table(("model", "no other arithmetic than ours"), found["same"].items())
    counts = [side["ways"]["published"]["seconds"]["n"] for side in found["sides"].values()]
    rounds = f"{min(counts)} to {max(counts)} rounds."
    return f"### Each later model\n\n{OTHERS}\n{table(header, rows)}\n{rounds} {_rates(found['rates'])}\n\n{same}"


OTHERS = """Rows with *stepping*, *writing*, *speaking* or *hearing* are no training steps. When writing, speaking and
hearing, the published way reads everything that counts once more for each word, sample or frame; ours keeps a state.
Models with dropout are compared without it. Forecaster, LSTMAE and BLSTMRecognizer stand against cells in a loop: code
that gives torch's own LSTM whole sequences, as is usual where nothing is fed back, computes as ours does.
"""


def _latency(found: dict[str, Any]) -> str:
    closed = [
        (f"`{name}`", threads, *_percentiles(row))
        for name, rows in found["closed"].items()
        for threads, row in rows.items()
    ]
    steps = [(f"`{name}`", *_percentiles(row)) for name, row in found["steps"].items()]
    walking = [(way, spread(row["seconds"]), times(row["ratio"])) for way, row in found["characters"]["ways"].items()]
    head = ("p50, ms", "p90, ms", "p99, ms", "n")
    return (
        "### Closed loop and steps, batch 1\n\nFrom the camera's bytes to the guarded command, with random weights; "
        "the first steps, in which memory is found, are left out:\n\n"
        f"{table(('preset', 'threads', *head), closed)}\nOne step further of what goes on by itself:\n\n"
        f"{table(('preset', *head), steps)}\n{found['characters']['title']}:\n\n"
        f"{table(('way', 'seconds', 'times as fast'), walking)}"
    )


def _percentiles(row: dict[str, float]) -> tuple[str, ...]:
    return (*(f"{row[f'p{p}_ms']:.3f}" for p in (50, 90, 99)), f"{row['n']:.0f}")


def _time_to_error(found: dict[str, Any]) -> str:
    rows = []
    for seed, both in found["seeds"].items():
        told = [
            f"{both[way]['seconds']:.0f} ({both[way]['processor_seconds']:.0f}), {both[way]['step']} steps"
            for way in ("published", "ours")
        ]
        ratio = f"{both['published']['seconds'] / both['ours']['seconds']:.1f}" if both["ours"]["reached"] else "never"
        rows.append((seed, f"{both['target']:.4f}", *told, ratio))
    head = ("seed", "error of the joints", "published, s (of the processor)", "ours, s (of the processor)", "times")
    ratios = [f"{times(found[key])} by {clock}" for key, clock in CLOCKS.items() if found[key]]
    reached = sum(both["ours"]["reached"] for both in found["seeds"].values())
    what = (
        f"SARNN 64x64 on the recordings of `pick`, {found['batch']} whole episodes a step, the same weights, loss "
        "weights, learning rate, noise and batches, drawn on the clock. Published: the loop over time in float32, "
        "every picture decoded, plain Adam. Ours: bfloat16, one picture in six decoded, fused Adam. The target is "
        f"the best validation error that the published way has in {found['steps']} steps, in float32, of recordings "
        "that neither learns from; both are asked every few steps, off the clock. The error is the root mean square, "
        "where a joint's whole range is 0.8. Trainings came one after the other. Ours got there in "
        f"{reached} of {len(found['seeds'])}; of these, times as fast: {'; '.join(ratios) or 'never'}."
    )
    picture = f"![The error of the joints against seconds of training, three seeds each]({PICTURE})"
    return f"### Time to the same validation error\n\n{what}\n\n{table(head, rows)}\n{picture}\n"


CLOCKS = {"seconds_ratio": "the wall clock", "processor_seconds_ratio": "processor time"}


def _precision(found: dict[str, Any]) -> str:
    rows = [
        (
            name,
            *(f"{value:.4g}" for value in found[name]["means"].values()),
            f"{found[name]['precisions_apart']:.2g}",
            f"{found[name]['seeds_apart']:.2g}",
            "yes" if found[name]["within"] else "NO",
        )
        for name in ("total", "joints")
    ]
    head = ("validation loss", "float32", "bfloat16", "precisions apart", "seeds apart", "within")
    what = f"`pick-small`, {found['steps']} steps, three seeds in each precision: the means after the last step."
    return f"### Does bfloat16 learn the same?\n\n{what}\n\n{table(head, rows)}"


def _larger(found: dict[str, Any]) -> str:
    rows = []
    for way in ("training", "drawing"):
        row = found[way]
        own = row["memory"]["large"]["RssAnon"]
        frames = (f"{row['frames_s'][name]:,.0f}" for name in ("large", "in memory"))
        rows.append((way, *frames, f"{row['ratio']:.0%}", f"{row['ratio_of_means']:.0%}", memory(own)))
    what = (
        f"A store of {found['bytes'] / 1e9:.0f} GB, whose pages the system keeps dropping, against one that lies in "
        f"memory, in turns; a fresh process each time, which may hold {found['limit'] / 1e9:.0f} GB (RLIMIT_DATA). "
        "*Drawing* is the same batches with no model to wait for."
    )
    head = (
        "what",
        "frames/s, large",
        "frames/s, in memory",
        "of the speed, by medians",
        "by means",
        "memory of its own",
    )
    return f"### Recordings larger than memory\n\n{what}\n\n{table(head, rows)}"


def _gpu(found: dict[str, Any]) -> str:
    rows = [
        (
            way,
            f"{row['windows']}",
            _short(statistics.median(row["seconds"])),
            f"{row['frames_per_second']:,.0f}",
            f"{row['ratio']:.2f}",
            memory(row["peak_bytes"]),
            f"{row['share']:.1%}",
        )
        for way, row in found["ways"].items()
    ]
    head = ("way", "windows at once", "seconds", "frames/s", "times as fast, by frames", "memory", "floor's share")
    device = (
        f"{found['device']}, with torch {found['torch']}. Whole steps with Adam. The convolutions of the float32 ways "
        "may be TF32's, as torch has them by itself; `sakiyomi train` in float32 does without."
    )
    return f"### On a GPU: {found['title']}\n\n{device}\n\n{table(head, rows)}\n{_rates(found['rates'])}\n"


def _processes(found: dict[str, Any]) -> str:
    rates = found["frames_per_second"]
    first = next(iter(rates.values()))
    rows = [(told, f"{rate:,.0f}", f"{first / rate:.2f}") for told, rate in rates.items()]
    what = (
        f"Preset `{found['preset']}`, its own batch. After {found['steps']} steps the weights of two processes and of "
        f"one that works through the same shards, one thread each, are apart by {found['largest_difference']:.1e} at "
        f"most; with two threads instead of one a single process is apart from itself by "
        f"{found['of_threads_alone']:.1e}, by the order in which numbers are added up."
    )
    memories = [
        (told, ", ".join(f"{size:,.0f} MB" for size in found[f"megabytes_{key}"]))
        for key, told in (("whole", "Adam's moments in each process"), ("spread", "spread over both"))
    ]
    spread_over = (
        f"Preset `{found['largest']}`, {found['weights']:,} weights, the most memory of each process. For a checkpoint "
        "all moments come together in the first one, whose peak need not fall when they are spread:"
    )
    return (
        f"### Two processes against one\n\n{what}\n\n"
        f"{table(('who', 'frames/s', 'two processes are so many times as fast'), rows)}\n"
        f"{spread_over}\n\n{table(('optimizer', 'memory'), memories)}"
    )


def _sweep(found: dict[str, Any]) -> str:
    scores = [
        (
            name,
            value_of(one["value"]),
            f"{value_of(one['low'])} to {value_of(one['high'])}",
            ", ".join(value_of(v) for v in one["each"]),
        )
        for name, one in found["scores"].items()
    ]
    fleet = [
        ("this process" if who == "here" else f"{who} workers", f"{rate:.2f}") for who, rate in found["fleet"].items()
    ]
    rules = "".join(f"- {reliable(one)}\n" for one in found["reliability"])
    return (
        f"### Several seeds: how far can one training be relied on?\n\n`{found['command']}`: {found['finished']} of "
        f"{found['seeds']} runs in {found['seconds'] / 60:.1f} min; the same command once more, which redoes nothing: "
        f"{found['seconds_again']:.1f} s. Best by validation: {found['best']}.\n\n"
        f"{table(('score', 'mean of seeds', '95 %', 'each seed'), scores)}\n{rules}\n"
        "The bound of `following` was chosen after seeds 0 to 2 had been looked at: of these only the other seeds test "
        "it, and the share may flatter it.\n\n"
        f"{table(('closed-loop trials by', 'trials a second'), fleet)}"
    )


def rows_of(found: Any, name: str = "") -> list[tuple[str, str]]:
    """Nested figures as rows of a name and a value."""
    if isinstance(found, dict):
        return [row for key, value in found.items() for row in rows_of(value, f"{name}, {key}".strip(", "))]
    if isinstance(found, list) and any(isinstance(value, dict | list) for value in found):
        return [row for key, value in enumerate(found, 1) for row in rows_of(value, f"{name} {key}")]
    if isinstance(found, list):
        return [(name.replace("_", " "), ", ".join(value_of(value) for value in found))]
    return [(name.replace("_", " "), value_of(found))]


def value_of(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def spread(seconds: dict[str, float]) -> str:
    return f"{_short(seconds['median'])} ({_short(seconds['low'])} to {_short(seconds['high'])})"


def times(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"


def memory(size: float | None) -> str:
    return "unknown" if size is None else f"{size / 2**20:,.0f} MiB"


def _short(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"
