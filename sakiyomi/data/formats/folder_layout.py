"""Where the episodes of folder.py lie: a folder each, or files of one name each.

for place in places(Path("recordings"), "auto"):
    place.name, place.files()

recordings/take-1/image.mp4, joints.csv     a folder each; folders may lie in one called train, validation or test
recordings/ep1.mp4, ep1.csv, ep2.mp4 ...    files each: pictures and tables of the same names that count
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sakiyomi.data.formats.number_table import has_values
from sakiyomi.errors import SakiyomiError

FILMS = (".mp4", ".mkv", ".avi", ".mov", ".webm")
PICTURES = (".png", ".jpg", ".jpeg")
SPLITS = {"train": "train", "validation": "validation", "validate": "validation", "val": "validation", "test": "test"}
Episodes = Literal["auto", "folders", "files"]


@dataclass(frozen=True)
class Files:
    """What lies in the folder of an episode, by the names of the files without their endings, in order."""

    films: dict[str, Path]
    pictures: dict[str, Path]
    """Folders of them."""
    tables: dict[str, Path]


@dataclass(frozen=True)
class Place:
    """Where one episode lies."""

    folder: Path
    stem: str = ""
    """The name of its files; if empty, all that is in the folder."""
    found: Files | None = None
    """Its files, where they are known."""

    def files(self) -> Files:
        """Raises SakiyomiError when two pictures, or two tables, have one name."""
        return self.found or streams_in(self.folder)

    def __str__(self) -> str:
        return str(self.folder / self.stem)


def places(path: Path, episodes: Episodes) -> list[Place]:
    """The episodes in a folder: folders; or, of each folder with files, those of one name; "auto" takes these where
    pictures and tables have the same names, which differ in their numbers only.

    Raises SakiyomiError when there are none.
    """
    folders = episode_folders(path)
    named = {one: [] if episodes == "folders" else by_name(one, episodes == "files") for one in folders}
    return [place for one in folders for place in named[one] or [Place(one)]]


def by_name(folder: Path, any_name: bool) -> list[Place]:
    """An episode for each name of files in a folder; none where they are streams of one episode."""
    try:
        files = streams_in(folder)
    except SakiyomiError:  # told when the folder is read
        return []
    shown = {**files.films, **files.pictures}
    names = sorted({*shown, *files.tables}, key=counted)
    both = [name for name in names if name in shown and name in files.tables]
    if any_name or (len(both) > 1 and counted_only(names) and has_values(files.tables[both[0]])):
        return [Place(folder, name, _only(files, name)) for name in names]
    return []


def counted_only(names: Iterable[str]) -> bool:
    """Whether the names differ in their numbers only, as ep1 and ep2 do."""
    return len({re.sub(r"[0-9]+", "0", name) for name in names}) == 1


def _only(files: Files, name: str) -> Files:
    parts = (files.films, files.pictures, files.tables)
    return Files(*({name: part[name]} if name in part else {} for part in parts))


def streams_in(folder: Path) -> Files:
    """Raises SakiyomiError when two pictures, or two tables, have one name."""
    files = Files({}, {}, {})
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        suffix = path.suffix.lower()
        if path.is_dir():
            kind, name = (files.pictures, path.name) if pictures_in(path) else (None, "")
        else:
            kind, name = (files.films if suffix in FILMS else files.tables if suffix == ".csv" else None), path.stem
        if kind is None:
            continue
        if name in kind or (kind is not files.tables and name in (*files.films, *files.pictures)):
            raise SakiyomiError(f"{folder} has {name!r} twice; rename one")
        kind[name] = path
    return files


def pictures_in(folder: Path) -> list[Path]:
    """The pictures right in a folder, if their names are numbers, in order of these."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in PICTURES and re.search(r"\d", path.stem)]
    return sorted(found, key=lambda path: ([int(n) for n in re.findall(r"\d{1,18}", path.stem)], path.name))


def first_folder(path: Path) -> Path | None:
    """The first folder in a folder, by name."""
    return min((one for one in path.iterdir() if one.is_dir() and not one.name.startswith(".")), default=None)


def is_episode(folder: Path) -> bool:
    files = streams_in(folder)
    return bool(files.films or files.pictures or files.tables)


def episode_folders(path: Path) -> list[Path]:
    """The folders of episodes: those in it, those in train, validation and test in it, or itself.

    Raises SakiyomiError when there are none.
    """
    if not path.is_dir():
        raise SakiyomiError(f"{path} is a file; name the folder of the recordings")
    below = [one for one in sorted(path.iterdir()) if one.is_dir() and not one.name.startswith(".")]
    splits = [one for one in below if one.name in SPLITS and not pictures_in(one)]
    deeper = [two for one in splits for two in sorted(one.iterdir()) if two.is_dir() and two.name[0] != "."]
    found = [one for one in (*below, *deeper) if not pictures_in(one) and is_episode(one)]
    if found:
        return sorted(found, key=lambda one: counted(one.as_posix()))
    if not is_episode(path):
        raise SakiyomiError(
            f"{path} holds no recordings, nor do the {len(below)} folders in it; expected a folder for each episode "
            "with films, folders of numbered pictures, or tables (.csv)"
        )
    return [path]


def counted(name: str) -> list[str | int]:
    """Text and numbers by turns, so that 10 comes behind 9."""
    parts = re.split(r"([0-9]{1,18})", name)
    return [int(part) if number % 2 else part for number, part in enumerate(parts)]
