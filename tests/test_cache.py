"""The cache folder: what was found whole is remembered, what changed is noticed, and there is room."""

import os
import time
from pathlib import Path

import pytest
import synthetic
from far_away import IDS

from sakiyomi.data import cache, episodes
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.errors import SakiyomiError

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files whose checksum was computed, in turn; stores of any size are remembered."""
    monkeypatch.setattr(episodes, "REMEMBERED", 0)
    names: list[str] = []
    compute = cache.sha256_of

    def count(path: Path) -> str:
        names.append(path.stem)
        return compute(path)

    monkeypatch.setattr(cache, "sha256_of", count)
    return names


def aged(folder: Path) -> None:
    """As if recorded an hour ago."""
    for path in folder.rglob("*.safetensors"):
        os.utime(path, (time.time() - 3600, time.time() - 3600))


def read_all(folder: Path) -> None:
    opened = EpisodeStore(folder)
    for entry in opened.entries:
        opened.values(entry.id, "joints")


def test_a_store_is_hashed_once(tmp_path: Path, hashed: list[str], own_cache: Path) -> None:
    folder = synthetic.write(tmp_path / "store").folder
    aged(folder)
    hashed.clear()
    read_all(folder)
    assert hashed == list(IDS)
    read_all(folder)
    assert hashed == list(IDS)
    (own_cache / "verified").rename(own_cache / "elsewhere")
    read_all(folder)
    assert hashed == [*IDS, *IDS]
    # What is remembered may be torn; that costs time and nothing else.
    (remembered,) = (own_cache / "verified").iterdir()
    remembered.write_bytes(b'\xff{"\n[]\n[1, 2]\n' + remembered.read_bytes()[:-20])
    hashed.clear()
    read_all(folder)
    assert hashed == ["validation"]


def test_a_changed_file_is_noticed(tmp_path: Path, hashed: list[str]) -> None:
    folder = synthetic.write(tmp_path / "store").folder
    aged(folder)
    read_all(folder)
    path = folder / "episodes" / "1.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(SakiyomiError, match="sha256"):
        read_all(folder)
    # Of the same time, but another file, as a tool that keeps times puts it there.
    path.unlink()
    path.write_bytes(content)
    aged(folder)
    with pytest.raises(SakiyomiError, match="sha256"):
        read_all(folder)
    content[-3] ^= 1
    path.write_bytes(content)
    read_all(folder)
    EpisodeStore(folder).verify("1")


def test_what_changed_just_now_is_not_remembered(tmp_path: Path, hashed: list[str]) -> None:
    """It could change again within the same tick of the clock that marks it."""
    folder = synthetic.write(tmp_path / "store").folder
    hashed.clear()
    read_all(folder)
    read_all(folder)
    assert hashed == [*IDS, *IDS]


def test_rot_that_leaves_no_mark_is_found_by_reading_anew(tmp_path: Path, hashed: list[str]) -> None:
    folder = synthetic.write(tmp_path / "store").folder
    aged(folder)
    read_all(folder)
    path = folder / "episodes" / "1.safetensors"
    stat = path.stat()
    with path.open("r+b") as file:
        file.seek(-3, os.SEEK_END)
        file.write(b"\x77")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(SakiyomiError, match="sha256"):
        EpisodeStore(folder).verify("1")
    EpisodeStore(folder).verify("2")


def test_no_cache_folder_costs_time_only(tmp_path: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = synthetic.write(tmp_path / "store").folder
    aged(folder)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SAKIYOMI_CACHE", str(tmp_path / "file"))
    hashed.clear()
    read_all(folder)
    read_all(folder)
    assert hashed == [*IDS, *IDS]


def test_what_is_remembered_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "CROWDED", 20)
    path = tmp_path / "e.safetensors"
    for number in range(100):
        path.write_bytes(b"%d" % number)
        os.utime(path, (1000 + number, 1000 + number))
        cache.Verified(tmp_path).sha256(path)
    (remembered,) = (cache.cache_folder() / "verified").iterdir()
    assert len(remembered.read_bytes().splitlines()) < 30
    assert cache.Verified(tmp_path)._known


def test_room_is_made_while_another_process_makes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files vanish between being listed and being looked at."""
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"content")
    is_file = Path.is_file

    def and_gone(path: Path) -> bool:
        there = is_file(path)
        path.unlink()
        return there

    monkeypatch.setattr(Path, "is_file", and_gone)
    cache.make_room(tmp_path, 5, keep=tmp_path / "c")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("asked", ["much", "-1", "nan", "inf"])
def test_a_bound_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    monkeypatch.setenv("SAKIYOMI_CACHE_GB", asked)
    with pytest.raises(SakiyomiError, match="SAKIYOMI_CACHE_GB"):
        cache.largest_cache()
