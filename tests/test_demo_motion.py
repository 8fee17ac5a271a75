"""`sakiyomi demo-motion`: from BVH files, or from none at all, to a page that a browser shows."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import walking
from PIL import Image

from benchmarks import steering
from sakiyomi import demo_motion as module
from sakiyomi import evaluate_walk as evaluation
from sakiyomi.__main__ import main
from sakiyomi.control import load_job as load_controller_job
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.formats.bvh import read_bvh
from sakiyomi.data.sources.mocap import Mocap
from sakiyomi.data.sources.walk import GeneratedWalk
from sakiyomi.demo_motion import DemoMotion, demo_motion, motion_vae, recorded, target_controller
from sakiyomi.errors import SakiyomiError
from sakiyomi.job import load_job
from sakiyomi.presets import preset
from sakiyomi.run import read_metrics
from sakiyomi.scores.protocol import load_scores

if TYPE_CHECKING:
    from playwright.sync_api import Page

SMALL = ["--steps", "6", "--frames", "100", "--starts", "4", "--characters", "3"]


def shorten(patch: pytest.MonkeyPatch) -> None:
    """Films of a second, in place of 20 and 10."""
    patch.setattr(module, "SHOWN", 1.0)
    patch.setattr(evaluation, "SECONDS", 1.0)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed, in one line."""
    return " ".join(capsys.readouterr().out.split())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with BVH files, one of them cut in the middle, and what the demo made of them."""
    folder = tmp_path_factory.mktemp("demo")
    walking.write_clips(folder / "mine", 4)
    whole = (folder / "mine/walk00.bvh").read_text()
    (folder / "mine/torn.bvh").write_text(whole[: len(whole) * 2 // 3])
    before = Path.cwd()
    os.chdir(folder)
    try:
        with pytest.MonkeyPatch.context() as patch:
            shorten(patch)
            assert main(["demo-motion", "mine", *SMALL]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


def test_it_leaves_a_model_a_controller_a_film_bvh_and_a_page(here: Path) -> None:
    run = here / "runs/demo-motion"
    for name in ("weights.safetensors", "scores.json", "controller/weights.safetensors", "controller/scores.json"):
        assert (run / name).exists()
    assert load_job(run).train.steps == 6
    assert load_controller_job(run / "controller").frames == 100
    with Image.open(run / "steered.gif") as film:
        assert getattr(film, "n_frames", 1) > 10
    clip = read_bvh(run / "steered-00.bvh")
    assert 1 <= len(clip.positions) <= 30
    assert "LeftFoot" in clip.skeleton.names


def test_the_page_tells_of_all_of_it(here: Path) -> None:
    run = here / "runs/demo-motion"
    page = (run / "report.html").read_text()
    store = EpisodeStore(here / "data/demo-motion")
    frames = sum(entry.lengths["pose"] for entry in store.entries)
    assert f"From 4 clips ({frames} frames, mirrored ones included)" in page
    assert "a body of 17 joints" in page
    assert page.count("data:image/") >= 6
    steered = load_scores(run / "controller/scores.json")
    reached, chance = steered["targets_reached"].value, steered["targets_reached/random"].value
    assert f"reaches {reached:.0%} of targets on the ground within their time; a walk by chance {chance:.0%}." in page
    assert steered["targets_reached"].protocol.n == 3
    assert load_scores(run / "scores.json")["exploded"].protocol.n == 4
    order = [page.index(title) for title in ("It goes where it is told", "It walks", "What the latent says")]
    assert order == sorted(order)


def test_a_damaged_file_is_told_and_the_rest_is_used(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {entry.meta["file"] for entry in EpisodeStore(here / "data/demo-motion").entries}
    assert files == {f"walk{number:02d}.bvh" for number in range(4)}
    recorded(Mocap("mine"), here / "data/demo-motion")
    told = said(capsys)
    assert "torn.bvh" in told
    assert "walk00.bvh" not in told


def test_a_second_call_learns_nothing_anew_and_another_one_is_refused(here: Path) -> None:
    run, options = Path("runs/demo-motion"), DemoMotion("mine", steps=6, frames=100)
    kept = [run / "last.safetensors", run / "metrics.jsonl", run / "controller/last.safetensors"]
    before = [path.read_bytes() for path in kept]
    trained = motion_vae("walk", options, run)
    target_controller(trained, options, run)
    assert [path.read_bytes() for path in kept] == before
    with pytest.raises(SakiyomiError, match=r"train\.steps 6 there, 7 asked"):
        motion_vae("walk", replace(options, steps=7), run)
    with pytest.raises(SakiyomiError, match="frames 100 there, 101 asked"):
        target_controller(trained, replace(options, frames=101), run)


@pytest.mark.skipif(bool(steering.cannot()), reason=steering.cannot() or "can")
def test_the_page_in_a_browser(here: Path) -> None:
    path = here / "runs/demo-motion/report.html"
    with steering.chromium() as browser:
        for width in (500, 1200):
            page = browser.new_page(viewport={"width": width, "height": 900})
            complaints: list[str] = []
            page.on("console", lambda told, into=complaints: into.append(told.text))
            page.on("pageerror", lambda error, into=complaints: into.append(str(error)))
            page.on("request", lambda asked, into=complaints: into.extend(fetched(asked.url, path)))
            page.goto(path.as_uri())
            page.wait_for_load_state("load")
            assert shown(page) == path.read_text().count("<img")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert "It goes where it is told" in page.inner_text("body")
            assert complaints == []
            page.close()


def fetched(url: str, path: Path) -> list[str]:
    """What the page asks for beside itself."""
    return [] if url == path.as_uri() or url.startswith("data:") else [url]


def shown(page: "Page") -> int:
    """Pictures that arrived and are to be seen."""
    script = "[...document.images].filter(i => i.complete && i.naturalWidth > 0 && i.clientHeight > 50).length"
    return page.evaluate(script)


def test_without_files_a_walk_is_generated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shorten(monkeypatch)
    assert main(["demo-motion", "generated", *SMALL, "--out", "run", "--store", "store"]) == 0
    assert "steer it yourself: sakiyomi serve demo-motion --run run/controller" in said(capsys)
    store = EpisodeStore(tmp_path / "store")
    assert store.origin["source"] == "generated_walk"
    assert [len(store.split(split)) for split in ("train", "validation", "test")] == [40, 5, 5]
    assert "From 50 clips" in (tmp_path / "run/report.html").read_text()
    assert not (tmp_path / "runs").exists()


def test_fewer_steps_have_the_same_schedule(tmp_path: Path) -> None:
    """Teacher forcing falls at the same part of the training, however short it is."""
    GeneratedWalk(clips=2, validation=1, test=1, seconds=2.0).record(tmp_path / "store")
    motion_vae("stepping", DemoMotion(store=str(tmp_path / "store"), steps=2), tmp_path / "run")
    whole, short = preset("stepping").job.train, load_job(tmp_path / "run").train
    assert short.steps == 2
    for share in (0.0, 0.2, 0.3, 0.5, 1.0):
        epochs = 40.0 * share
        assert short.teacher_forcing.at(epochs * 2 / whole.steps) == pytest.approx(whole.teacher_forcing.at(epochs))
    assert read_metrics(tmp_path / "run")


def test_a_folder_of_nothing_but_damage_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.bvh").write_text("HIERARCHY\nROOT Hips\n{\n")
    with pytest.raises(SakiyomiError, match=r"a\.bvh"):
        demo_motion(DemoMotion(str(tmp_path / "bad"), out=str(tmp_path / "run"), store=str(tmp_path / "store")))
    assert not (tmp_path / "run").exists()


def test_a_folder_called_generated_is_that_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "generated").mkdir()
    with pytest.raises(SakiyomiError, match=r"generated holds no \.bvh file"):
        demo_motion(DemoMotion())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (DemoMotion(steps=-1), "--steps is -1; it must be at least 0"),
        (DemoMotion(frames=-1), "--frames is -1; it must be at least 0"),
        (DemoMotion(starts=0), "--starts is 0; it must be at least 1"),
        (DemoMotion(characters=0), "--characters is 0; it must be at least 1"),
    ],
)
def test_options_out_of_range_are_told_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: DemoMotion, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SakiyomiError, match=told):
        demo_motion(options)
    assert not list(tmp_path.iterdir())
