"""The report: one self-contained HTML page with the scores, the charts and the moving pictures of a run.

    write_report(Path("runs/demo/report.html"), "Pick a cube", "What this shows ...", scores, (Section(...), ...))

Pictures are part of the file, there are no scripts, and nothing is fetched. The frame is `report.html` beside this
file; every text that comes in is escaped here.
"""

import base64
import io
from dataclasses import asdict, dataclass
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

from PIL import Image

from sakiyomi.files import write_atomic
from sakiyomi.scores.protocol import Score

CSS_DPI = 96
WIDE = 560  # px; wider pictures keep a legible size on a phone and scroll sideways there
TILES = 6  # at most so many headline numbers


@dataclass(frozen=True)
class Figure:
    """A picture with its words."""

    title: str
    caption: str
    image: bytes
    """A whole PNG or GIF file."""


@dataclass(frozen=True)
class Table:
    """Rows of text under a header."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Section:
    """A part of the page: text (an empty line begins a new paragraph), then a table, then pictures."""

    title: str
    text: str
    figures: tuple[Figure, ...] = ()
    table: Table | None = None


def write_report(
    path: Path,
    title: str,
    lead: str,
    scores: dict[str, Score],
    sections: tuple[Section, ...],
    headline: tuple[str, ...] = (),
) -> None:
    """Write the page to `path`, whole or not at all. Raises SakiyomiError when the disk refuses.

    `lead` is one paragraph in plain words. The scores named in `headline` come first and large; unless told, the
    first six rates.
    """
    template = resources.files("sakiyomi.views").joinpath("report.html").read_text("utf-8")
    chosen = headline or tuple(name for name, score in scores.items() if score.unit == "rate")[:TILES]
    links = [(f"s{index}", section.title) for index, section in enumerate(sections, 1)]
    links += [("scores", "All scores")] if scores else []
    page = Template(template).substitute(
        title=escape(title),
        lead=escape(lead),
        tiles=_tiles({name: scores[name] for name in chosen}),
        contents="<nav>" + "".join(f'<a href="#{at}">{escape(text)}</a>' for at, text in links) + "</nav>",
        sections="\n".join(_section(f"s{index}", section) for index, section in enumerate(sections, 1)),
        scores=_score_table(scores),
    )
    write_atomic(path, page.encode())


def score_text(score: Score) -> tuple[str, str]:
    """A score's value and its interval as people write them: ('96 %', '90 to 98 %'); '' where there is none."""
    value, unit, interval = _parts(score)
    return f"{value}{unit}", f"{interval}{unit}" if interval else ""


def _parts(score: Score) -> tuple[str, str, str]:
    """Value, unit with the space before it, and interval."""
    ends = None if score.low is None or score.high is None else (score.low, score.high)
    if score.unit == "rate":
        # A rate that is far below 1 % is not 0 %.
        digits = 0 if score.value == 0 or score.value >= 0.05 else 2 if score.value >= 0.005 else 3
        between = "" if ends is None else f"{100 * ends[0]:.{digits}f} to {100 * ends[1]:.{digits}f}"
        return f"{100 * score.value:.{digits}f}", " %", between
    unit = "" if score.unit in ("", "1") else f" {score.unit}"
    return number(score.value), unit, "" if ends is None else f"{number(ends[0])} to {number(ends[1])}"


def number(value: float) -> str:
    """Three digits, of large numbers all of them: 0.0123, 24.0, 4,190."""
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 99.95 else f"{value:,.0f}"


def _tiles(scores: dict[str, Score]) -> str:
    return '<div class="tiles">' + "\n".join(_tile(name, score) for name, score in scores.items()) + "</div>"


def _tile(name: str, score: Score) -> str:
    """One large number; a rate also as a point on a line from 0 to 1, with its interval."""
    (value, unit, _), (_, interval) = _parts(score), score_text(score)
    track = ""
    if score.unit == "rate":
        low, high = (score.value if end is None else end for end in (score.low, score.high))
        span = f"left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"
        point = f"left:{100 * score.value:.1f}%"
        track = f'<div class="track"><div class="range" style="{span}"></div>'
        track += f'<div class="point" style="{point}"></div></div>'
    count = f"n\u00a0=\u00a0{score.protocol.n:,}"  # on one line
    below = f"{interval}, {count}" if interval else count
    return (
        f'<div class="tile"><div class="name">{escape(name)}</div>'
        f'<div class="value">{escape(value)} <span class="unit">{escape(unit.strip())}</span></div>'
        f'<div class="between">{escape(below)}</div>{track}</div>'
    )


def _section(anchor: str, section: Section) -> str:
    paragraphs = "".join(f"<p>{escape(part.strip())}</p>\n" for part in section.text.split("\n\n") if part.strip())
    table = "" if section.table is None else _table(section.table)
    figures = "\n".join(_figure(figure) for figure in section.figures)
    return f'<section id="{anchor}"><h2>{escape(section.title)}</h2>\n{paragraphs}{table}{figures}</section>'


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.header)
    rows = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>\n'


def _figure(figure: Figure) -> str:
    """The picture as a data URI, in its size on paper where it states a resolution, in pixels where it does not."""
    with Image.open(io.BytesIO(figure.image)) as image:
        kind, pixels, dpi = (image.format or "png").lower(), image.size, image.info.get("dpi")
    shrink = CSS_DPI / float(dpi[0]) if dpi else 1.0
    width, height = (round(side * shrink) for side in pixels)
    classes = " ".join(name for name, holds in (("paper", dpi), ("wide", width > WIDE)) if holds)
    data = base64.b64encode(figure.image).decode()
    return (
        f'<figure class="{classes}"><div class="frame"><img src="data:image/{kind};base64,{data}" '
        f'width="{width}" height="{height}" alt="{escape(figure.title)}"></div>'
        f"<figcaption><b>{escape(figure.title)}.</b> {escape(figure.caption)}</figcaption></figure>"
    )


def _score_table(scores: dict[str, Score]) -> str:
    """Every score with its interval; its name unfolds to how it was measured."""
    if not scores:
        return ""
    rows = []
    for name, score in scores.items():
        value, interval = score_text(score)
        terms = "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in asdict(score.protocol).items())
        rows.append(
            f"<tr><td><details><summary>{escape(name)}</summary><dl>{terms}</dl></details></td>"
            f'<td class="number">{escape(value)}</td><td class="number">{escape(interval)}</td></tr>'
        )
    head = "<tr><th>score</th><th>value</th><th>interval</th></tr>"
    return (
        '<section id="scores"><h2>All scores</h2>\n'
        "<p>Open a name to see how it was measured. Only numbers measured alike may be compared.</p>\n"
        f"<table><thead>{head}</thead><tbody>" + "\n".join(rows) + "</tbody></table></section>"
    )
