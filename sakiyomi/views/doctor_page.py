"""What the doctor found, as one page: a table, then each problem with the frames and curves concerned.

The page is `sakiyomi.views.report`'s: one file, light and dark, no scripts.
"""

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from PIL import Image, ImageDraw

from sakiyomi.data.doctor import Diagnosis, Finding, Kind
from sakiyomi.data.doctor.recording import channel_names
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.errors import SakiyomiError
from sakiyomi.views.canvas import BACKGROUND, GAP, QUIET, RED, STRIP, png_bytes, write_text
from sakiyomi.views.plots import ALARM, COLORS, INK, STYLE, add_legend, as_png, figure_of
from sakiyomi.views.report import Figure, Section, Table, write_report

SHOWN = 24  # findings with a section of their own; all are in the table
SIDE = 150  # px of a thumbnail's longer side, at least
ACROSS = 6  # thumbnails of one finding at most
AROUND = 40  # values drawn on either side of the frame concerned
CURVES = 4  # channels drawn at most


def write_page(path: Path, name: str, store: EpisodeStore, diagnosis: Diagnosis) -> None:
    """Write the page on the store called `name` to `path`. Raises SakiyomiError when the disk refuses."""
    problems, notes = diagnosis.problems, len(diagnosis.findings) - len(diagnosis.problems)
    lead = (
        f"{len(store.entries)} episodes, {diagnosis.frames} frames of {', '.join(store.streams)}: "
        f"{len(problems)} problems, {notes} notes. Checked in {diagnosis.seconds:.1f} s."
    )
    lead += "" if diagnosis.findings else " Nothing is wrong with them that these checks know of."
    rows = tuple((f.severity, f.kind, f.told, f.advice) for f in diagnosis.findings)
    sections = [Section("What was found", "", table=Table(("", "kind", "what", "what to do"), rows))] if rows else []
    sections += [_section(finding, store, diagnosis) for finding in diagnosis.findings[:SHOWN]]
    if len(diagnosis.findings) > SHOWN:
        sections.append(Section("And more", f"{len(diagnosis.findings) - SHOWN} findings are only in the table above."))
    write_report(path, f"Check of {name}", lead, {}, tuple(sections))


def _section(finding: Finding, store: EpisodeStore, diagnosis: Diagnosis) -> Section:
    """A finding with its pictures; of a damaged episode there are none."""
    where = " of ".join(part for part in (", ".join(finding.channels[:CURVES]), finding.stream) if part)
    title = finding.kind.capitalize() + (f": {where}" if where else "")
    amount = f"{finding.amount:.3g} {finding.unit}; it is told from {finding.threshold:.3g} on."
    end = "" if finding.told.endswith("?") else "."
    text = f"Found: {finding.told}{end}\n\nWhat to do: {finding.advice}. Measured: {amount}"
    figures = [figure for make in (_plot, _thumbnails) if (figure := make(finding, store, diagnosis))]
    return Section(title, text, tuple(figures))


def _episodes(finding: Finding, diagnosis: Diagnosis) -> tuple[str, ...]:
    """Those of the finding that can be read; of the whole store, the first."""
    readable = tuple(id for id in finding.episodes if id in diagnosis.measured)
    return readable or (() if finding.episodes else tuple(diagnosis.measured)[:1])


def _plot(finding: Finding, store: EpisodeStore, diagnosis: Diagnosis) -> Figure | None:
    draw = PLOTS.get(finding.kind)
    ids = _episodes(finding, diagnosis)
    if draw is None or not ids:
        return None
    with mpl.rc_context(STYLE):
        figure = figure_of(2.4)
        caption = draw(figure.add_subplot(), finding, store, diagnosis, ids)
        if not caption:
            return None
        return Figure("What was measured", caption, as_png(figure))


def _values(axes: Axes, finding: Finding, store: EpisodeStore, diagnosis: Diagnosis, ids: tuple[str, ...]) -> str:
    """The channels concerned against time, the frames marked."""
    stream = store.streams.get(finding.stream)
    if stream is None or stream.kind == "image":
        return ""
    values = store.values(ids[0], finding.stream)
    values = values.reshape(len(values), -1).astype(float)
    times = store.times(ids[0], finding.stream)
    labels = channel_names(stream, values.shape[1])
    chosen = [labels.index(label) for label in finding.channels if label in labels][:CURVES]
    marked = [at for at in finding.frames if 0 <= at < len(times)]
    near = slice(0, len(times))
    if marked and finding.kind in ("outlier", "duplicate", "not finite", "frozen", "saturation"):
        near = slice(max(0, min(marked) - AROUND), max(marked) + AROUND)
    for index, channel in enumerate(chosen or _most_moving(values)):
        axes.plot(
            times[near],
            values[near, channel],
            color=COLORS[index % len(COLORS)],
            label=labels[channel],
            marker="o",
            ms=2,
        )
    for at in marked:
        axes.axvline(times[at], color=ALARM, lw=1, ls="--")
    axes.set(xlabel="s", title=f"{finding.stream}, episode {ids[0]}", ylabel=stream.unit)
    add_legend(axes)
    return "Each dot is a value; dashed, the frames that are meant."


def _most_moving(values: np.ndarray) -> list[int]:
    return np.argsort(-np.nan_to_num(np.ptp(values, axis=0)))[:CURVES].tolist()


def _intervals(axes: Axes, finding: Finding, store: EpisodeStore, diagnosis: Diagnosis, ids: tuple[str, ...]) -> str:
    """Time between stamps, frame by frame, with the claimed one."""
    if finding.stream not in store.streams:
        return ""
    steps = np.diff(store.times(ids[0], finding.stream))
    axes.plot(np.arange(1, len(steps) + 1), 1000 * steps, color=COLORS[0], marker="o", ms=2, lw=0.8)
    claimed = 1000 / store.streams[finding.stream].rate
    axes.axhline(claimed, color=INK, lw=1, ls="--")
    top = max(claimed, float(1000 * steps.max(initial=0.0)))
    low = min(0.0, float(1000 * steps.min(initial=0.0)))
    axes.set(
        xlabel="frame", ylabel="ms", title=f"intervals of {finding.stream}, episode {ids[0]}", ylim=(low, 1.1 * top)
    )
    return f"Time between frames; dashed, {claimed:.3g} ms, which the claimed rate would be."


def _lasting(axes: Axes, finding: Finding, store: EpisodeStore, diagnosis: Diagnosis, ids: tuple[str, ...]) -> str:
    """How long each stream of each episode lasts."""
    clocks = [one.clocks for one in diagnosis.measured.values()]
    for index, name in enumerate(clocks[0]):
        ends = [of[name].lasts for of in clocks]
        axes.plot(ends, color=COLORS[index % len(COLORS)], marker="os^Dv"[index % 5], ms=3, lw=0, label=name, alpha=0.7)
    axes.set(xlabel="episode", ylabel="s", title="how long each stream lasts by its stamps")
    add_legend(axes)
    return "Streams of one episode should end together."


def _light(axes: Axes, finding: Finding, store: EpisodeStore, diagnosis: Diagnosis, ids: tuple[str, ...]) -> str:
    """Brightness and colour of each episode's pictures."""
    of = [one.pictures[finding.stream] for one in diagnosis.measured.values() if finding.stream in one.pictures]
    if not of:
        return ""
    lines = {"brightness": [p.brightness for p in of]}
    if finding.kind == "white balance":
        lines = {"red": [p.balance[0] for p in of], "blue": [p.balance[1] for p in of]}
    colors = {"brightness": COLORS[0], "red": COLORS[1], "blue": COLORS[0]}
    for name, values in lines.items():
        factor = np.exp(np.array(values) - np.median(values))
        axes.plot(factor, color=colors[name], marker="os"[name == "blue"], ms=3, lw=0, label=name)
    axes.axhline(1, color=INK, lw=1, ls="--")
    axes.set(xlabel="episode", ylabel="times the usual", title=f"{finding.stream}, episode by episode")
    add_legend(axes)
    return "A dot an episode, in the order of the store, over the median of all."


def _sizes(axes: Axes, finding: Finding, store: EpisodeStore, diagnosis: Diagnosis, ids: tuple[str, ...]) -> str:
    """The largest value of each channel in each episode."""
    of = [one.sizes[finding.stream].largest for one in diagnosis.measured.values() if finding.stream in one.sizes]
    if not of:
        return ""
    labels = channel_names(store.streams[finding.stream], len(of[0]))
    for index, channel in enumerate([labels.index(name) for name in finding.channels if name in labels][:CURVES]):
        sizes = [max(float(largest[channel]), 1e-3) for largest in of]
        axes.plot(sizes, color=COLORS[index], marker="os^D"[index], ms=3, lw=0, label=labels[channel])
    axes.axhline(2 * np.pi, color=INK, lw=1, ls="--")
    axes.set(yscale="log", xlabel="episode", ylabel=store.streams[finding.stream].unit or "as stored")
    axes.set(title=f"largest values of {finding.stream}, episode by episode")
    add_legend(axes)
    return "A dot an episode, in the order of the store; dashed, one turn in radians."


def _delays(axes: Axes, finding: Finding, store: EpisodeStore, diagnosis: Diagnosis, ids: tuple[str, ...]) -> str:
    """Correlation of command and joints against the delay."""
    usual = [id for id in diagnosis.measured if id not in finding.episodes][:1]
    for index, id in enumerate([*ids[:2], *usual]):
        delay = diagnosis.measured[id].delays.get("command")
        if delay is not None:
            axes.plot(delay.lags, delay.alike, color=COLORS[index], label=f"episode {id}")
    axes.set(xlabel="s from command to joints", ylabel="correlation", title="where they fit")
    add_legend(axes)
    return "The summit is the delay."


PLOTS: dict[Kind, Callable[[Axes, Finding, EpisodeStore, Diagnosis, tuple[str, ...]], str]] = {
    "not finite": _values,
    "duplicate": _values,
    "padding": _values,
    "frozen": _values,
    "saturation": _values,
    "outlier": _values,
    "dropped": _intervals,
    "jitter": _intervals,
    "rate": _intervals,
    "drift": _lasting,
    "apart": _lasting,
    "exposure": _light,
    "white balance": _light,
    "unit": _sizes,
    "delay": _delays,
}
BY_TIME: tuple[Kind, ...] = ("dropped", "duplicate", "frozen", "outlier", "padding", "not finite")
BY_EPISODE: tuple[Kind, ...] = ("exposure", "white balance", "saturation", "leakage", "copy", "short")


def _thumbnails(finding: Finding, store: EpisodeStore, diagnosis: Diagnosis) -> Figure | None:
    """The frames concerned and those around them; or of some episodes, the first, middle and last."""
    cameras = [name for name, stream in store.streams.items() if stream.kind == "image" and len(stream.shape) == 3]
    ids = _episodes(finding, diagnosis)
    if not cameras or not ids:
        return None
    camera = finding.stream if finding.stream in cameras else cameras[0]
    clock = store.times(ids[0], camera)
    if finding.kind in BY_TIME and finding.frames:
        # Of another stream, the pictures at that time.
        source = store.times(ids[0], finding.stream)
        at = [int(np.abs(clock - source[min(frame, len(source) - 1)]).argmin()) for frame in finding.frames]
        chosen = sorted({max(0, min(len(clock) - 1, one + step)) for one in at[:2] for step in (-1, 0, 1)})[:ACROSS]
        tiles = [(ids[0], frame, frame in at) for frame in chosen]
        caption = f"{camera} around it; framed, the frames that are meant."
    elif finding.kind in BY_EPISODE:
        usual = [id for id in diagnosis.measured if id not in finding.episodes][: 1 if len(ids) > 1 else 2]
        shown = (*ids[:2], *(usual if finding.kind not in ("leakage", "copy") else []))
        tiles = [(id, frame, id in ids) for id in shown for frame in _ends(len(store.times(id, camera)))][: 2 * ACROSS]
        caption = f"{camera} at the beginning and the end; framed, the episodes that are meant."
    else:
        return None
    try:
        sheet = _sheet(store, camera, tiles)
    except SakiyomiError:  # that file is what is wrong
        return None
    return Figure("The pictures", caption, sheet)


def _ends(count: int) -> list[int]:
    return [0, count - 1] if count > 1 else [0]


def _sheet(store: EpisodeStore, camera: str, tiles: list[tuple[str, int, bool]]) -> bytes:
    """Pictures side by side, each with its episode and frame above it; those that are meant in a red frame."""
    height, width, colours = store.streams[camera].shape
    scale = max(1, round(SIDE / max(height, width)))
    shrink = max(1, -(-max(height, width) // (2 * SIDE)))
    tall, wide = -(-height // shrink) * scale, -(-width // shrink) * scale
    columns = min(ACROSS, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * (wide + GAP) + GAP, rows * (tall + STRIP + GAP) + GAP), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for number, (id, frame, meant) in enumerate(tiles):
        row, column = divmod(number, columns)
        left, top = GAP + column * (wide + GAP), GAP + row * (tall + STRIP + GAP)
        pixels = store.values(id, camera, frame, frame + 1)[0][::shrink, ::shrink].repeat(scale, 0).repeat(scale, 1)
        picture = Image.fromarray(np.ascontiguousarray(pixels if colours == 3 else pixels[..., :1].repeat(3, -1)))
        sheet.paste(picture, (left, top + STRIP))
        write_text(draw, (left, top + STRIP / 2), f"{id}: {frame}", wide, RED if meant else QUIET, "lm")
        if meant:
            draw.rectangle((left - 2, top + STRIP - 2, left + wide + 1, top + STRIP + tall + 1), outline=RED, width=2)
    return png_bytes(sheet)
