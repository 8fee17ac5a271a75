"""Folders of pictures and tables: what a laboratory has before it has a format. Read and written.

    sakiyomi prepare folder recordings --out data/mine
    sakiyomi prepare export folder data/mine --out recordings

Each sub-folder is an episode, and may lie in one called train, validation or test; a folder with recordings right in it
and no such sub-folder is one episode, or, if these are called ep1.mp4, ep1.csv, ep2.mp4 and so on, one for each name
(`--episodes`, folder_layout.py). The files of an episode are its streams:

    image.mp4           pictures; also .mkv, .avi, .mov, .webm. Their clock is the film's
    wrist/000000.png    pictures in the order of their numbers; also .jpg. They come at --rate
    joints.csv          numbers: a line of names, then a line a step; the column `time` is the clock, in seconds
    image.csv           beside pictures of that name: the clock they have instead, a line a picture

A table without a column of time has the clock of the film beside it, if that has as many frames; else its lines come at
--rate. Names tell what a stream is: image, joints, command, action; a table that is called otherwise keeps its name,
but the only one of an episode, or that told by --joints, is the joints. Text and labels are not kept.

What was exported has `folder.json` beside the episodes: what each stream is, and the split of each episode. With it all
comes back as it was: numbers to the last bit, png and FFV1 (.mkv) too, mp4 nearly. Films need `sakiyomi[formats]`.
"""

import math
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import tyro
from PIL import Image

from sakiyomi.data.episodes import EpisodeStore, Kind, Stream
from sakiyomi.data.formats.folder_layout import (
    FILMS,
    SPLITS,
    Episodes,
    Place,
    counted_only,
    first_folder,
    pictures_in,
    places,
    streams_in,
)
from sakiyomi.data.formats.gathering import (
    RGB,
    Content,
    Foreign,
    NotThere,
    Track,
    camera_names,
    check_settings,
    decoded,
    gather,
    origin_of,
    stream_name,
)
from sakiyomi.data.formats.importing import given
from sakiyomi.data.formats.number_table import Table, read_table, write_table
from sakiyomi.data.formats.video import read_video, resized, write_video
from sakiyomi.data.sources.mocap import episode_ids
from sakiyomi.errors import SakiyomiError, unknown
from sakiyomi.files import cannot_write, write_atomic
from sakiyomi.run import console

ABOUT = "folder.json"
FORMAT = "sakiyomi-folder-1"
KINDS: dict[str, Kind] = {"joints": "joints", "command": "joints", "action": "action", "pose": "pose"}
WRITTEN = ("joints", "pose", "motion", "action", "scalar")
"""Kinds that become tables."""


@dataclass(frozen=True)
class Told:
    """What folder.json says of one episode."""

    split: str = "train"
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class About:
    """The content of folder.json."""

    format: str
    streams: dict[str, Stream]
    episodes: dict[str, Told] = field(default_factory=dict)


@dataclass(frozen=True)
class Folder:
    """Import folders of films or pictures, and tables."""

    path: tyro.conf.Positional[str] = ""
    """The folder of episodes, each a folder or files of one name; or one of them."""
    camera: str = ""
    """Which pictures become the stream `image`, by their name without its ending; the first if not given."""
    joints: str = ""
    """Which table becomes the stream `joints`, by its name without .csv; if not given, joints.csv or the only one."""
    episodes: Episodes = "auto"
    """What an episode is: a folder (folders), or the files of one name in it (files). auto takes the files where films
    and tables have the same names, which differ in their numbers only, such as ep1.mp4, ep1.csv, ep2.mp4 ..."""
    rate: float = 0.0
    """Pictures and lines a second where nothing says when they were."""
    pixels: tuple[int, int] = (0, 0)
    """Height and width to which pictures are brought; 0 0 keeps them."""
    validation: float = 0.1
    """Share of the episodes for the validation split, the last ones, where the folders say nothing of splits."""

    def record(self, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> EpisodeStore:
        """Write the store; what is in it already is kept.

        Raises SakiyomiError when there is nothing to read, and, at the very end, when something is damaged.
        """
        check_settings(self.validation, self.pixels, self.rate)
        path = given(self.path, "a folder of episodes, each a folder: sakiyomi prepare folder FOLDER")
        about = read_about(path / ABOUT)
        episodes = self._episodes(path, about)
        return gather(out, origin_of("folder", self), episodes, self.validation, progress)

    def _episodes(self, path: Path, about: About | None) -> list[Foreign]:
        found = places(path, "folders" if about else self.episodes)
        if any(place.folder != path for place in found) and any(one.suffix.lower() in FILMS for one in path.iterdir()):
            told = f"{path}: films right in it are left out, as there are folders with recordings in it"
            console.print(told, style="yellow", markup=False, soft_wrap=True)
        names = [(one.folder / one.stem).relative_to(path).as_posix() for one in found]
        names = [path.resolve().name if name == "." else name for name in names]
        episodes = []
        for one, name, id in zip(found, names, episode_ids(f"{name}.folder" for name in names), strict=True):
            told = about.episodes.get(name) if about else None
            split = told.split if told else SPLITS.get(name.split("/")[0], "") if "/" in name else ""
            episodes.append(Foreign(id, str(one), partial(self.read, one, about, told.meta if told else {}), split))
        return episodes

    def read(self, place: Place, about: About | None = None, meta: Mapping[str, Any] | None = None) -> Content:
        """One episode. Raises SakiyomiError when a file of it is damaged, or nothing says when things were."""
        files = place.files()
        if self.episodes == "auto" and place.stem and not (files.tables and (files.films or files.pictures)):
            lacking = "pictures" if files.tables else "table"
            raise SakiyomiError(f"{place} has no {lacking}, as the others beside it have")
        known = about.streams if about else {}
        tables = {name: read_table(path, _dtype(known.get(name))) for name, path in files.tables.items()}
        tracks: dict[str, Track] = {}
        pictures = {**files.films, **files.pictures}
        names = {name: name for name in pictures} if about else camera_names(list(pictures), self.camera, KINDS)
        for name, stream in names.items():
            frames, times = self._pictures(name, pictures[name], tables.get(name))
            tracks[stream] = Track(frames, times, "image", 0.0, RGB, (), _resized(known.get(name), frames))
        clocks = [tracks[names[name]].times for name in files.films]
        if self.joints and self.joints not in tables:
            raise NotThere(f"{place}: {unknown('table (--joints)', self.joints, tables)}")
        for name, table in tables.items():
            if table.values.shape[1]:
                stream = name if about else self._stream(name, tables, tracks)
                times = self._clock(files.tables[name], table, clocks)
                values = _shaped(files.tables[name], table.values, known.get(name))
                kind = KINDS.get(stream, "scalar")
                tracks[stream] = Track(values, times, kind, 0.0, "", table.names, known.get(name))
        told = ()
        several = pictures or tables
        if self.episodes == "auto" and not about and len(several) > 1 and counted_only(several):
            told = ("files of one folder are taken for streams of one episode; if each is one: --episodes files",)
        return Content(tracks, {key: value for key, value in (meta or {}).items() if key != "file"}, told)

    def _stream(self, name: str, tables: Mapping[str, Table], taken: Mapping[str, Track]) -> str:
        only = sum(table.values.shape[1] > 0 for table in tables.values()) == 1 and name not in KINDS
        if name == self.joints or (not self.joints and (only or name == "joints")):
            return "joints"
        return name if name in KINDS and name != "joints" else stream_name(name, (*KINDS, *taken))

    def _pictures(self, name: str, path: Path, table: Table | None) -> tuple[np.ndarray, np.ndarray]:
        """Frames uint8 [T, H, W, 3] and their clock [T]."""
        if path.is_dir():
            numbered = pictures_in(path)
            frames = decoded(str(path), (_content(one) for one in numbered), self.pixels)
            times = self._every(path, len(frames)) if table is None or table.times is None else table.times
        else:
            film = read_video(path)
            frames, times = resized(film.frames, self.pixels), film.times
            if table is not None and table.times is not None:  # of other numbers, it has its own clock
                fits = len(table.times) == len(times) or not table.values.shape[1]
                times = table.times if fits else times
        if len(times) != len(frames):
            raise SakiyomiError(f"{path} has {len(frames)} pictures, {name}.csv beside it {len(times)} stamps")
        return frames, times

    def _clock(self, path: Path, table: Table, films: list[np.ndarray]) -> np.ndarray:
        if table.times is not None:
            return table.times
        fitting = [times for times in films if len(times) == len(table.values)]
        return fitting[0] if fitting else self._every(path, len(table.values))

    def _every(self, path: Path, count: int) -> np.ndarray:
        if not self.rate:
            raise SakiyomiError(
                f"nothing says when the {count} of {path} were: no column `time`, and no film with as many frames "
                "beside it; tell how many there are a second with --rate"
            )
        return np.arange(count) / self.rate


def read_about(path: Path) -> About | None:
    """folder.json, or None where there is none. Raises SakiyomiError when it is damaged."""
    if not path.is_file():
        return None
    try:
        about = msgspec.json.decode(path.read_bytes(), type=About)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SakiyomiError(f"{path} cannot be read: {error}; remove it to read the folder without it") from error
    if about.format != FORMAT:
        raise SakiyomiError(f"{path} has format {about.format!r}; this version reads {FORMAT!r}")
    return about


def _dtype(stream: Stream | None) -> str:
    """Raises SakiyomiError for a type that is none."""
    if stream is None or stream.kind not in WRITTEN:
        return "float64"
    if not re.fullmatch(r"bool|u?int(8|16|32|64)|float(16|32|64)", stream.dtype):
        raise SakiyomiError(f"{ABOUT} names the type {stream.dtype[:40]!r}, which is none of numbers")
    return stream.dtype


def _shaped(path: Path, values: np.ndarray, stream: Stream | None) -> np.ndarray:
    """Columns [T, C] as values of the stream they are."""
    if stream is None:
        return values
    if values.shape[1] != math.prod(stream.shape):
        raise SakiyomiError(f"{path} has {values.shape[1]} columns; {ABOUT} says {list(stream.shape)}")
    return values.reshape(len(values), *stream.shape)


def _resized(stream: Stream | None, frames: np.ndarray) -> Stream | None:
    return replace(stream, shape=tuple(int(n) for n in frames.shape[1:])) if stream else None


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SakiyomiError(f"cannot read {path}: {error.strerror}") from error


def recognises(path: Path) -> bool:
    """Whether it is a folder with folder.json, or its first episode has films or pictures; by names only."""
    try:
        if not path.is_dir():
            return False
        if (path / ABOUT).is_file() or any(one.suffix.lower() in FILMS for one in path.iterdir()):
            return True
        below = first_folder(path)
        if below and pictures_in(below) and next(path.glob("*.csv"), None):
            return True
        below = first_folder(below) if below and below.name in SPLITS else below
        files = streams_in(below) if below else None
        return bool(files and (files.films or (files.pictures and files.tables)))
    except (OSError, SakiyomiError):
        return False


# ---- Writing ---------------------------------------------------------------------------------------------------------


def write_folder(store: EpisodeStore, out: Path, pictures: Literal["png", "mp4", "mkv"] = "png") -> None:
    """A folder an episode, in `out`. Pictures become numbered PNGs or one film a stream; of films, mkv loses nothing.

    Tokens, labels and sound have no place here; they are left out, and told. Each episode appears when it is whole.
    Raises SakiyomiError when nothing else is in the store, and when the disk refuses.
    """
    kept = {name: stream for name, stream in store.streams.items() if _has_place(stream)}
    left_out = sorted(store.streams.keys() - kept.keys())
    if not kept:
        raise SakiyomiError(f"{store.place} holds {', '.join(left_out)}; a folder takes pictures and rows of numbers")
    if left_out:
        console.print(f"left out, as a folder has no place for them: {', '.join(left_out)}", markup=False)
    wrong = [name for name in kept if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name)]
    if wrong:
        raise SakiyomiError(f"stream {wrong[0]!r} cannot be the name of a file; use letters, digits, '_', '-' and '.'")
    for entry in store.entries:
        temporary = out / f".{entry.id}.tmp"
        try:
            for name, stream in kept.items():
                times, values = store.times(entry.id, name), store.values(entry.id, name)
                _write_stream(temporary, name, stream, times, values, pictures)
            temporary.replace(out / entry.id)
        except OSError as error:
            raise cannot_write(out / entry.id, error) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    about = About(FORMAT, kept, {entry.id: Told(entry.split, entry.meta) for entry in store.entries})
    write_atomic(out / ABOUT, msgspec.json.format(msgspec.json.encode(about)))


def _has_place(stream: Stream) -> bool:
    return (stream.kind == "image" and stream.dtype == "uint8" and stream.shape[2:] == (3,)) or (
        stream.kind in WRITTEN and len(stream.shape) < 2
    )


def _write_stream(
    folder: Path, name: str, stream: Stream, times: np.ndarray, values: np.ndarray, pictures: str
) -> None:
    if stream.kind != "image":
        columns = values.reshape(len(values), -1)
        names = stream.names if len(stream.names) == columns.shape[1] else map(str, range(columns.shape[1]))
        write_table(folder / f"{name}.csv", times, columns, [f"{one} " if one == "time" else one for one in names])
        return
    write_table(folder / f"{name}.csv", times, np.empty((len(times), 0)), ())
    if pictures != "png":
        write_video(folder / f"{name}.{pictures}", values, stream.rate, "ffv1" if pictures == "mkv" else "h264")
        return
    (folder / name).mkdir(parents=True)
    for number, frame in enumerate(values):
        content = BytesIO()
        Image.fromarray(frame).save(content, "PNG")
        (folder / name / f"{number:06d}.png").write_bytes(content.getvalue())
