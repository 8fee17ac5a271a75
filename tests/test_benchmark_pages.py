"""Nothing on the pages of figures is typed: written anew from the results that are kept, they are what they were."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import (
    bridges_page,
    imagine_page,
    latent_docs,
    motion_page,
    speech_page,
    speed_page,
    surprise_page,
    text_page,
)

Write = Callable[[Path, Path], None]
RESULTS, DOCS = Path("benchmarks/results"), Path("docs")
HOW = ("teach-an-arm.md", "imagine-a-push.md", "steer-a-character.md", "raise-the-alarm.md", "latent-spaces.md")
HOW += ("words.md", "sounds.md", "bring-your-own.md", "scale.md", "speed.md")
PAGES: dict[str, tuple[Write, Write, str]] = {
    "benchmarks.md": (speed_page.write_page, speed_page.write_readme_rows, ""),
    "imagine-benchmarks.md": (imagine_page.write_page, imagine_page.write_readme_rows, "imagine"),
    "motion-benchmarks.md": (motion_page.write_page, motion_page.write_readme_rows, "motion"),
    "surprise-benchmarks.md": (surprise_page.write_page, surprise_page.write_readme_rows, "surprise"),
    "latent-benchmarks.md": (latent_docs.write_page, latent_docs.write_readme_rows, "latent"),
    "text-benchmarks.md": (text_page.write_page, text_page.write_readme_rows, "text"),
    "recordings-benchmarks.md": (bridges_page.write_page, bridges_page.write_readme_rows, "formats"),
    "sound-benchmarks.md": (speech_page.write_page, speech_page.write_readme_rows, "speech"),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_was_measured(name: str, tmp_path: Path) -> None:
    write, _, folder = PAGES[name]
    write(RESULTS / folder, tmp_path / name)
    assert (tmp_path / name).read_text() == (DOCS / name).read_text()


@pytest.mark.parametrize("name", PAGES)
def test_the_rows_of_the_readme_are_what_was_measured(name: str, tmp_path: Path) -> None:
    _, write, folder = PAGES[name]
    readme = tmp_path / "README.md"
    readme.write_bytes(Path("README.md").read_bytes())
    write(RESULTS / folder, readme)
    assert readme.read_text() == Path("README.md").read_text()


@pytest.mark.parametrize("name", [*PAGES, *HOW])
def test_pictures_and_pages_that_are_named_are_there(name: str) -> None:
    text = (DOCS / name).read_text()
    for part in text.split("](")[1:]:
        target = part.split(")")[0].split("#")[0]
        assert not target or target.startswith("http") or (DOCS / target).exists(), target


def test_the_page_of_sound_says_how_late_sub_tasks_are_found(tmp_path: Path) -> None:
    found = json.loads((RESULTS / "speech/subtasks.json").read_bytes())
    found["late_s"] = {"10%": 0.011, "50%": 0.345, "90%": 0.678}
    (tmp_path / "subtasks.json").write_text(json.dumps(found))
    speech_page.write_page(tmp_path, tmp_path / "page.md")
    told = " ".join((tmp_path / "page.md").read_text().split())
    assert "a tenth by 11 ms at most, half by 345 ms, nine tenths by 678 ms" in told


def test_a_page_of_nothing_measured_has_its_head(tmp_path: Path) -> None:
    for write, _, _ in PAGES.values():
        write(tmp_path / "none", tmp_path / "page.md")
        assert (tmp_path / "page.md").read_text().startswith("# Benchmarks")
