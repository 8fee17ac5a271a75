"""The page of benchmarks about characters: from the scores as they are, whatever parts have been measured."""

import json
from pathlib import Path
from typing import Any

import pytest
from gliding import gliding

from benchmarks.common import plain
from benchmarks.motion_page import write_page, write_readme_rows
from sakiyomi.agents import ppo
from sakiyomi.control import TASKS, Controller, ControllerJob, evaluate_controller, task_of
from sakiyomi.evaluate_walk import HowWalked, evaluate_walk
from sakiyomi.rollout import load
from sakiyomi.worlds.character import CharacterWorld

MACHINE = {"machine": {"processor": "x86", "cores": "2"}}
BEGIN, END = "<!-- steered: begin -->", "<!-- steered: end -->"
COST = {"seconds": 90.0, "processor_seconds": 120.0, "threads": 2}
ROUND_TRIP = {
    **{"files": 50, "frames": 9000, "lost": 0},
    **{"millimetres": 0.01, "worst millimetres": 0.2, "degrees": 0.001, "worst degrees": 0.02},
}
SPEED = {
    "decoder": {"characters": 1000, "threads": 2, "frames a second": {"published": 2600.4, "float32": 51_234.0}},
    "training step": {
        **{"seconds": {"published": 0.3, "ours": 0.06}, "ratio": 5.0, "ratios of single rounds": [4.6, 5.3]},
        **{"threads": 2, "largest difference of the losses": 3e-6, "losses compared": 328},
    },
}
STEERING = {
    **{"seconds": 10.0, "frames_s": 59.9, "poses_s": 30.0, "there_and_back_ms": 1.2, "model_ms": 2.5},
    **{"walked": 12.3, "off_heading": 1.4, "complaints": []},
}


@pytest.fixture(scope="module")
def results(walk_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every part: scores are those of a real evaluation, figures of machines are made up."""
    walk = plain(evaluate_walk(load(walk_run), HowWalked(starts=40, frames=3)).scores)
    run = {"scores": walk, "usage": [0.1], "warnings": {}, "steps": 5, **COST}
    warned = {**run, "warnings": {"latent collapsed": "the latent has collapsed"}}
    controllers = {
        name: {
            "scores": plain(scores_of(name)),
            "frames": 4_000_000,
            "motion": {**walk, "fell apart": walk["exploded"]},
            **COST,
        }
        for name in TASKS
    }
    controllers["maze"]["motion"] = {"fell apart": walk["exploded"]}  # as where nobody was left to slide
    parts: dict[str, Any] = {
        **{"round-trip": ROUND_TRIP, "walk": {"walk": run, "walk-forced": warned}, **controllers},
        **{"speed": SPEED, "steering": STEERING},
        "generated": {"walk": walk, "controller": controllers["target"]["scores"], **COST},
    }
    folder = tmp_path_factory.mktemp("results")
    for name, found in parts.items():
        (folder / f"{name}.json").write_text(json.dumps({**found, **MACHINE}))
    return folder


def scores_of(task: str) -> dict[str, Any]:
    """Of a controller that nobody taught, for as long as its task needs to be judged."""
    character = gliding()
    job = ControllerJob(task=TASKS[task].Config())
    world = CharacterWorld(character, task_of(job.task, character), job.world)
    controller = Controller(job, ppo.ActorCritic(world.width, character.latent, job.agent), world)
    return evaluate_controller(controller, characters=4, seconds=12.0)


def test_every_part_is_a_section_with_its_figures_and_its_machine(results: Path, tmp_path: Path) -> None:
    write_page(results, tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    for name in ("round-trip", "walk", *TASKS, "speed", "steering", "generated"):
        assert f"`python -m benchmarks.steer_a_character {name}` on processor x86, cores 2" in page
    assert page.count("\n## ") == 4 + len(TASKS) + 1
    for figure in ("50, 9000, 0", "0.01, 0.2", "51,234", "5.00 (4.60 to 5.30)", "3.0e-06", "59.9", "12.3"):
        assert f"| {figure} |" in page
    assert "1.5 min on 2 threads (2.0 min of processor time)" in page
    walk = json.loads((results / "walk.json").read_bytes())["walk"]["scores"]
    assert f"{walk['distance']['value']:.2f} ({walk['distance']['low']:.2f}" in page
    assert walk["exploded"]["protocol"]["rule"] in page
    slid = f"{walk['sliding_ratio']['value']:.2f}"
    assert page.count(f"feet slide {slid}") == len(TASKS) - 1
    assert " ." not in page
    assert "- `walk-forced`: the latent has collapsed" in page
    for task in TASKS:  # each score of a controller beside the same by chance
        scores = json.loads((results / f"{task}.json").read_bytes())["scores"]
        assert {name.removesuffix("/random") for name in scores} == {name for name in scores if "/" not in name}
        for name in (name for name in scores if "/" not in name):
            assert f"| {name} |" in page


def test_tables_are_whole(results: Path, tmp_path: Path) -> None:
    """Every row has as many cells as its header."""
    write_page(results, tmp_path / "page.md")
    width = 0
    for line in (tmp_path / "page.md").read_text().splitlines():
        if not line.startswith("|"):
            width = 0
            continue
        width = width or line.count("|")
        assert line.count("|") == width, line


def test_what_was_not_measured_is_not_there(results: Path, tmp_path: Path) -> None:
    some = tmp_path / "some"
    some.mkdir()
    (some / "target.json").write_bytes((results / "target.json").read_bytes())
    write_page(some, tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    assert page.count("\n## ") == 1
    assert "## Target" in page
    write_page(tmp_path / "none", tmp_path / "page.md")
    assert (tmp_path / "page.md").read_text().startswith("# Benchmarks: characters")


def test_a_page_on_which_nothing_steers_has_no_heading_to_tell(results: Path, tmp_path: Path) -> None:
    content = json.loads((results / "steering.json").read_bytes())
    (tmp_path / "steering.json").write_text(json.dumps({**content, "off_heading": None}))
    write_page(tmp_path, tmp_path / "page.md")
    assert "| off the heading at the end, degrees | - |" in (tmp_path / "page.md").read_text()


def test_the_readme_has_a_row_for_what_was_measured_between_its_marks(results: Path, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"# Before\n\n{BEGIN}\nold rows\n{END}\n\nafter\n")
    for _ in range(2):  # the second time there are rows already
        write_readme_rows(results, readme)
    text = readme.read_text()
    before, rest = text.split(BEGIN)
    rows, after = rest.split(END)
    assert (before, after) == ("# Before\n\n", "\n\nafter\n")
    assert "old rows" not in rows
    for name in ("walk", "walk-forced", "target-walker", "joystick-walker"):
        assert rows.count(f"`sakiyomi train {name}`") == 1
    target = json.loads((results / "target.json").read_bytes())["scores"]["targets_reached"]["value"]
    assert f"{100 * target:.1f}%" in next(line for line in rows.splitlines() if "train target-walker" in line)
    turn = json.loads((results / "joystick.json").read_bytes())["scores"]["turn_seconds"]["value"]
    assert f"faces a new heading after {turn:.2f} s" in rows
    assert "nan" not in rows


def test_the_readme_of_nothing_measured_has_no_rows(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"{BEGIN}\n{END}\n")
    write_readme_rows(tmp_path, readme)
    assert "sakiyomi train" not in readme.read_text()
