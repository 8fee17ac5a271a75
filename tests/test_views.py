"""views/: the pictures decode and show what they should, and the page is whole, escaped and needs no network."""

import dataclasses
import io
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from sakiyomi.errors import SakiyomiError
from sakiyomi.guard import Limits
from sakiyomi.rollout import Trial
from sakiyomi.scores.drift import Drift
from sakiyomi.scores.protocol import Protocol, Score
from sakiyomi.scores.statistics import wilson
from sakiyomi.views import plots
from sakiyomi.views.canvas import GAP, GREEN, STRIP
from sakiyomi.views.gif import POINT_COLORS, attention_overlay, trial_gif, trial_strip
from sakiyomi.views.report import Figure, Section, Table, score_text, write_report

TICKS, SIZE, POINTS, JOINTS, HIDDEN = 45, 32, 6, 8, 20
NASTY = "<script>alert('$x$ & \"y\"')</script>"


@pytest.fixture
def trial() -> Trial:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (2, TICKS, SIZE, SIZE, 3), np.uint8)
    points = random.uniform(0.2, 0.8, (2, TICKS, POINTS, 2)).astype(np.float32)
    heights = np.full(TICKS, 0.02)
    heights[-10:] = 0.11
    joints = random.normal(size=(2, TICKS, JOINTS)).cumsum(1) * 0.05
    return Trial(
        success_any=True,
        success_last=True,
        scene={"place": (0.5, 0.03)},
        seed=3,
        images=images[0],
        predicted_images=images[1],
        attention=points[0],
        predicted_attention=points[1],
        cube_pixels=random.uniform(0, 1, (TICKS, 2)),
        cube_heights=heights,
        joints=joints[0],
        commands=joints[1],
        hidden=random.normal(size=(TICKS, HIDDEN)),
        violations={"velocity": 2},
        seconds=random.gamma(3.0, 4e-4, TICKS),
        rate=500.0,
    )


@pytest.fixture
def scores() -> dict[str, Score]:
    protocol = Protocol("PickCube-v0, taught places", "ticks 1-45", "lifted", 50, "0..49", interval="wilson 95 %")
    found = {}
    for name, successes in (("success/taught", 49), ("success/untaught", 46), (NASTY, 0)):
        i = wilson(successes, 50)
        found[name] = Score(name, i.value, i.low, i.high, "rate", protocol)
    found["latency/p99"] = Score("latency/p99", 2.314, None, None, "ms", protocol)
    return found


def opened(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def frame(gif: bytes, index: int) -> np.ndarray:
    image = opened(gif)
    image.seek(index)
    return np.asarray(image.convert("RGB")).astype(int)


def near(pixel: np.ndarray, color: str, tolerance: int = 14) -> bool:
    return bool((abs(pixel - np.array(ImageColor.getrgb(color))) <= tolerance).all())


# Moving pictures


def test_gif_has_every_tick_in_the_right_size_and_speed(trial: Trial):
    gif = opened(trial_gif(trial, 10.0, scale=4))
    assert (gif.format, getattr(gif, "n_frames", 1)) == ("GIF", TICKS)
    assert gif.size == (2 * SIZE * 4 + GAP, SIZE * 4 + 2 * STRIP)
    assert (gif.info["duration"], gif.info["loop"]) == (100, 0)


def test_gif_shows_the_dots_where_the_network_looks(trial: Trial):
    spread = np.stack([np.linspace(0.1, 0.9, POINTS), np.linspace(0.8, 0.2, POINTS)], -1)
    trial = dataclasses.replace(trial, attention=np.tile(spread, (TICKS, 1, 1)), predicted_attention=None)
    gif = trial_gif(trial, 10.0)
    for tick in (0, 20, TICKS - 1):
        pixels = frame(gif, tick)
        for k, (x, y) in enumerate(spread):
            assert near(pixels[int(STRIP + y * SIZE * 6), int(x * SIZE * 6)], POINT_COLORS[k])


def test_gif_marks_only_the_ticks_on_which_the_cube_is_up(trial: Trial):
    gif = trial_gif(trial, 10.0)

    def green(tick: int) -> bool:
        below = frame(gif, tick)[-STRIP:]
        return bool((abs(below - np.array(ImageColor.getrgb(GREEN))) <= 14).all(-1).any())

    assert [green(tick) for tick in (0, TICKS - 11, TICKS - 10, TICKS - 1)] == [False, False, True, True]


@pytest.mark.parametrize("missing", ["attention", "predicted_attention", "predicted_images"])
def test_a_network_that_does_not_look_or_does_not_predict_pictures_is_drawn_all_the_same(trial: Trial, missing: str):
    without = dataclasses.replace(trial, **{missing: None})
    halves = 1 if missing == "predicted_images" else 2
    gif = opened(trial_gif(without, 10.0))
    assert gif.size[0] == halves * SIZE * 6 + (halves - 1) * GAP
    assert opened(trial_strip(without)).size[1] < 200 * halves + 100


def test_a_trial_of_one_tick_is_drawn(trial: Trial):
    short = dataclasses.replace(trial, images=trial.images[:1] if trial.images is not None else None)
    assert getattr(opened(trial_gif(short, 10.0)), "n_frames", 1) == 1
    assert opened(trial_strip(short, frames=6)).size[0] < 200


def test_a_trial_without_pictures_says_so(trial: Trial):
    with pytest.raises(SakiyomiError, match="seed 3 kept no pictures"):
        trial_gif(dataclasses.replace(trial, images=None), 10.0)


def test_strip_shows_as_many_ticks_as_asked(trial: Trial):
    strip = opened(trial_strip(trial, frames=4))
    assert (strip.format, strip.size[0]) == ("PNG", 4 * (SIZE * 5 + GAP) + GAP)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 48)])
def test_overlay_puts_dot_and_ring_at_their_pixels(height: int, width: int):
    image = np.full((height, width, 3), 90, np.uint8)
    attention, predicted = np.array([[0.25, 0.5], [0.5, 0.75]]), np.array([[0.75, 0.25], [np.nan, 0.5]])
    drawn = attention_overlay(image, attention, predicted, scale=6)
    assert drawn.shape == (height * 6, width * 6, 3)
    assert drawn.dtype == np.uint8
    for k, (x, y) in enumerate(attention):
        assert near(drawn[round(y * height * 6), round(x * width * 6)].astype(int), POINT_COLORS[k])
    x, y = round(0.75 * width * 6), round(0.25 * height * 6)
    assert (drawn[y, x] == 90).all()  # a ring is hollow
    row = drawn[y, x : x + 12].astype(int)
    assert any(near(pixel, POINT_COLORS[0], 40) for pixel in row)
    assert (drawn[:4, :4] == 90).all()


def test_overlay_leaves_the_picture_as_it_was_elsewhere_and_its_argument_everywhere():
    image = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    before = image.copy()
    drawn = attention_overlay(image, np.zeros((0, 2)), None, scale=3)
    assert (drawn == image.repeat(3, 0).repeat(3, 1)).all()
    assert (image == before).all()


# Charts


def metrics(names: tuple[str, ...]) -> list[dict[str, float]]:
    rows = []
    for step in range(0, 100, 10):
        losses = {name: 1 / (step + k + 1) for k, name in enumerate((*names, "total"))}
        weights = {f"weight/{name}": step / 100 for name in names}
        rows.append({"step": step, **losses, "gradient_norm": 1.0, "lr": 1e-3, **weights})
        rows.append({"step": step, **{f"validation/{name}": value for name, value in losses.items()}})
    return rows


def limits() -> Limits:
    random = np.random.default_rng(2)
    return Limits.learn([random.normal(size=(20, JOINTS)) * 0.2], 0.1)


def scheduled(speed: float = 1.0) -> list[dict[str, float]]:
    """Lines of a stochastic model's log: schedules, losses and what validation found."""
    rows = []
    for row in metrics(("image", "kl")):
        if "validation/total" in row:
            rows.append({**row, "validation/imagined": 0.01, "validation/psnr": 18 + speed * row["step"] / 10})
        else:
            rows.append({**row, "teacher_forcing": max(0.0, 1 - speed * row["step"] / 80)})
    return rows


def without(rows: list[dict[str, float]], *keys: str) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if key not in keys} for row in rows]


CURVE = {"psnr": np.linspace(30, 20, 10), "ssim": np.linspace(0.95, 0.7, 10)}
NAMES = tuple(f"j{i}" for i in range(JOINTS))
DRIFT = Drift(np.full(40, 0.1), np.linspace(0.1, 0.2, 10), np.append(np.full(39, 0.3), np.nan))
CHARTS: dict[str, Callable[[Trial, dict[str, Score]], bytes]] = {
    "training": lambda trial, scores: plots.training_curves(metrics(("image", "joints", "points"))),
    "training, other losses": lambda trial, scores: plots.training_curves(metrics(("kl", "$a$_b", "_c"))),
    "training, one validation": lambda trial, scores: plots.training_curves([{"step": 0, "validation/total": 0.5}]),
    "training, not begun": lambda trial, scores: plots.training_curves([]),
    "training, with schedules": lambda trial, scores: plots.training_curves(scheduled()),
    "schedules": lambda trial, scores: plots.schedule_page(scheduled()),
    "schedules, some": lambda trial, scores: plots.schedule_page(without(scheduled(), "kl", "validation/kl")),
    "schedules, none": lambda trial, scores: plots.schedule_page([{"step": 0, "total": 1.0}]),
    "schedules, not begun": lambda trial, scores: plots.schedule_page([]),
    "schedules, all zero": lambda trial, scores: plots.schedule_page(
        [{"step": step, "teacher_forcing": 0.0, "weight/kl": 0.0, "kl": 0.0} for step in (0, 1)]
    ),
    "schedules compared": lambda trial, scores: plots.schedule_comparison({NASTY: scheduled(), "$b$": scheduled(2)}),
    "schedules of no runs": lambda trial, scores: plots.schedule_comparison({}),
    "picture scores": lambda trial, scores: plots.picture_scores({"best of 20": CURVE, NASTY: {"psnr": CURVE["psnr"]}}),
    "picture scores of nobody": lambda trial, scores: plots.picture_scores({}),
    "drift": lambda trial, scores: plots.drift_curves({"image": DRIFT, NASTY: DRIFT}, 10.0),
    "path": lambda trial, scores: plots.hidden_path([trial.hidden, trial.hidden + 1], ["a", NASTY], [True, False]),
    "path of two units": lambda trial, scores: plots.hidden_path([trial.hidden[:, :2]], ["a"], [True]),
    "path of one state": lambda trial, scores: plots.hidden_path([trial.hidden[:1]], ["a"], [True]),
    "bars": lambda trial, scores: plots.success_bars(scores),
    "bars of no rates": lambda trial, scores: plots.success_bars({"latency/p99": scores["latency/p99"]}),
    "latency": lambda trial, scores: plots.latency(trial.seconds, 0.1),
    "latency above the period": lambda trial, scores: plots.latency(trial.seconds, 1e-3),
    "demonstrations": lambda trial, scores: plots.success_against_demonstrations(
        {25: scores["success/taught"], 5: scores[NASTY], 100: scores["latency/p99"]}
    ),
    "commands": lambda trial, scores: plots.command_plot(trial, NAMES, limits()),
    "commands without limits": lambda trial, scores: plots.command_plot(trial, NAMES[:3], None),
    "attention": lambda trial, scores: plots.attention_distance(np.where(np.arange(30) < 20, np.ones((5, 30)), np.nan)),
}


@pytest.mark.parametrize("name", CHARTS)
def test_chart_is_a_picture_with_something_in_it(name: str, trial: Trial, scores: dict[str, Score]):
    image = opened(CHARTS[name](trial, scores))
    assert (image.format, image.width) == ("PNG", round(plots.WIDTH * plots.DPI))
    assert np.asarray(image.convert("L")).std() > 1


def test_what_is_no_loss_is_not_drawn_as_one():
    rows = scheduled()
    plain = without(rows, "teacher_forcing", "validation/psnr")
    assert plots.training_curves(rows) == plots.training_curves(plain)
    assert plots.training_curves(rows) != plots.training_curves(without(plain, "kl"))


DRAWN = ("teacher_forcing", "weight/kl", "kl", "validation/kl", "image", "validation/image", "validation/psnr")
LEFT_OUT = ("lr", "total", "gradient_norm", "weight/image", "validation/total", "validation/imagined")


@pytest.mark.parametrize("key", DRAWN + LEFT_OUT)
def test_schedules_draw_what_they_promise_and_nothing_else(key: str):
    rows = scheduled()
    other = [{**row, key: row[key] / 2 + (row["step"] > 40)} if key in row else row for row in rows]
    assert other != rows
    assert (plots.schedule_page(other) != plots.schedule_page(rows)) == (key in DRAWN)


def test_picture_scores_follow_every_value():
    other = {**CURVE, "ssim": np.append(CURVE["ssim"][:-1], 0.5)}
    assert plots.picture_scores({"a": CURVE}) == plots.picture_scores({"a": CURVE})
    assert plots.picture_scores({"a": CURVE}) != plots.picture_scores({"a": other})


def test_principal_components_of_a_plane_explain_all_of_it():
    random = np.random.default_rng(3)
    axes = np.linalg.qr(random.normal(size=(HIDDEN, 2)))[0].T
    flat = [random.normal(size=(30, 2)) * (3, 1) @ axes + 5 for _ in range(3)]
    paths, shares = plots._principal(flat)
    assert np.allclose(shares.sum(), 1)
    assert np.allclose(shares[2], 0)
    assert shares[0] > shares[1]
    distance = np.linalg.norm(flat[0][0] - flat[2][7])  # turning and shifting keeps distances
    assert np.allclose(np.linalg.norm(paths[0][0] - paths[2][7]), distance)


# The page


def write(folder: Path, trial: Trial, scores: dict[str, Score]) -> Path:
    path = folder / "report.html"
    figures = (
        Figure("A run", "Dots are where it looks.", trial_gif(trial, 10.0)),
        Figure(NASTY, NASTY, plots.success_bars(scores)),
    )
    table = Table(("check", NASTY), (("velocity", "2"), (NASTY, "0")))
    sections = (
        Section("It drives", "One paragraph.\n\nAnother <b>one</b>.", figures, table),
        Section(NASTY, NASTY),
        Section("Empty", ""),
    )
    write_report(path, f"Pick {NASTY}", f"The lead costs $5, ${{x}} & {NASTY}", scores, sections)
    return path


class Seen(HTMLParser):
    """Tags with their attributes, and the text between."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_is_one_file_that_fetches_nothing(tmp_path: Path, trial: Trial, scores: dict[str, Score]):
    path = write(tmp_path, trial, scores)
    page = path.read_text("utf-8")
    assert list(tmp_path.iterdir()) == [path]
    assert not re.search(r"https?://|url\(|@import", page)
    for tag, attributes in Seen(page).tags:
        assert tag not in ("script", "iframe", "object", "base")
        source = attributes.get("src", "data:")
        link = attributes.get("href", "#")
        assert source is not None
        assert source.startswith("data:")
        assert link is not None
        assert link.startswith(("#", "data:"))


def test_page_escapes_what_comes_in(tmp_path: Path, trial: Trial, scores: dict[str, Score]):
    seen = Seen(write(tmp_path, trial, scores).read_text("utf-8"))
    # As words in: page title, heading, lead, tile, link, section title, paragraph, picture's title and caption,
    # table's header and cell, score.
    assert seen.text.count(NASTY) == 12
    assert "The lead costs $5, ${x} &" in seen.text
    assert [tag for tag, _ in seen.tags].count("b") == 2  # of the captions; the paragraph's is words


def test_page_pictures_have_words_and_sizes(tmp_path: Path, trial: Trial, scores: dict[str, Score]):
    page = write(tmp_path, trial, scores).read_text("utf-8")
    images = [attributes for tag, attributes in Seen(page).tags if tag == "img"]
    assert [image["alt"] for image in images] == ["A run", NASTY]
    assert [image["width"] for image in images] == ["390", str(round(plots.WIDTH * 96))]


def test_page_shows_every_score_with_its_protocol(tmp_path: Path, trial: Trial, scores: dict[str, Score]):
    seen = Seen(write(tmp_path, trial, scores).read_text("utf-8"))
    tags = [tag for tag, _ in seen.tags]
    assert tags.count("details") == len(scores)
    assert seen.text.count("wilson 95 %") == len(scores)
    assert "98 %" in seen.text
    assert "2.31 ms" in seen.text


def test_page_without_scores_or_sections(tmp_path: Path):
    write_report(tmp_path / "deep" / "page.html", "Nothing yet", "No lead.", {}, ())
    seen = Seen((tmp_path / "deep" / "page.html").read_text("utf-8"))
    assert "Nothing yet" in seen.text
    assert "All scores" not in seen.text


def test_headline_chooses_the_tiles(tmp_path: Path, scores: dict[str, Score]):
    write_report(tmp_path / "page.html", "T", "L", scores, (), headline=("latency/p99",))
    seen = Seen((tmp_path / "page.html").read_text("utf-8"))
    assert [a.get("class") for tag, a in seen.tags if tag == "div"].count("tile") == 1


def test_score_text(scores: dict[str, Score]):
    assert score_text(scores["success/taught"]) == ("98 %", "90 to 100 %")
    rare = replace(scores["success/taught"], value=0.00095, low=0.0009, high=0.00102)
    assert score_text(rare) == ("0.095 %", "0.090 to 0.102 %")  # and not 0 %
    assert score_text(scores["latency/p99"]) == ("2.31 ms", "")
    plain = dataclasses.replace(scores["latency/p99"], value=0.01234, low=0.01, high=0.02, unit="")
    assert score_text(plain) == ("0.0123", "0.01 to 0.02")
    fast = dataclasses.replace(plain, value=4187.3, low=999.7, high=None, unit="samples/s")
    assert score_text(fast) == ("4,187 samples/s", "")  # no powers of ten
    assert score_text(dataclasses.replace(fast, value=24.04, low=9.5, high=99.96, unit="BLEU")) == (
        "24.0 BLEU",
        "9.5 to 100 BLEU",
    )


def test_a_tile_has_its_unit_apart(tmp_path: Path, scores: dict[str, Score]):
    """So that a long one goes to a line of its own."""
    latency = {"latency": scores["latency/p99"]}
    write_report(tmp_path / "page.html", "Title", "Lead.", latency, (), ("latency",))
    page = (tmp_path / "page.html").read_text("utf-8")
    assert '<div class="value">2.31 <span class="unit">ms</span></div>' in page


CHROMIUM = (
    *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Debian's chromium: apt-get install chromium")
def test_page_in_a_browser(tmp_path: Path, trial: Trial, scores: dict[str, Score]):
    path, shot = write(tmp_path, trial, scores), tmp_path / "shot.png"
    # A probe beside the page: what did the browser lay out, and did every picture arrive?
    probe = """<script>addEventListener("load", () => { document.body.dataset.found = JSON.stringify([
        [...document.images].filter(i => i.complete && i.naturalWidth > 0 && i.clientHeight > 50).length,
        document.documentElement.scrollWidth <= innerWidth, document.body.innerText.includes("One paragraph."),
        [...document.querySelectorAll("details")].every(d => !d.open && d.querySelector("dl"))]) })</script>"""
    probed = tmp_path / "probed.html"
    probed.write_text(path.read_text("utf-8").replace("</body>", probe + "</body>"), "utf-8")

    def browse(*arguments: str) -> str:
        command = (*CHROMIUM, f"--user-data-dir={tmp_path / 'profile'}", *arguments)
        environment = {**os.environ, "HOME": str(tmp_path)}
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=environment).stdout

    for width in (500, 1200):
        document = browse("--dump-dom", f"--window-size={width},2400", probed.as_uri())
        assert 'data-found="[2,true,true,true]"' in document
    browse(f"--screenshot={shot}", "--window-size=1200,2400", path.as_uri())
    pixels = np.asarray(opened(shot.read_bytes()).convert("RGB"))
    assert pixels.shape[:2] == (2400, 1200)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 200
