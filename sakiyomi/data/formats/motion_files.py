"""What formats share whose clips lie in files of a folder or zip: finding, dealing to splits, writing, mirrored too."""

import hashlib
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream
from sakiyomi.data.formats.importing import finish
from sakiyomi.data.sources.mocap import episode_ids
from sakiyomi.errors import SakiyomiError, at_least
from sakiyomi.motion.features import encode
from sakiyomi.motion.layout import Layout
from sakiyomi.motion.skeleton import MIRROR, Clip, Skeleton, mirror

UNIT = "m, rad, s"
GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class Files:
    """Clips in files, all of one skeleton in whose rest pose left and right are mirror images."""

    contents: Mapping[str, bytes]
    """Of each file, by its path inside `where`."""
    where: Path
    """Folder, zip or file they are in."""
    skeleton: Skeleton
    read: Callable[[bytes, str], tuple[Clip, dict[str, Any]]]
    """Of a file's bytes, and its path for messages: the clip, and what else the episode's meta is to hold."""


def record_files(
    files: Files,
    out: Path,
    settings: Mapping[str, Any],
    rate: float,
    mirrored: bool,
    validation: float,
    test: float,
    progress: Callable[[int, int], None],
) -> EpisodeStore:
    """Write the store; what is in it already is kept. `settings` are what it is made with; the files' names belong to
    them, as the splits follow from these.

    Raises SakiyomiError, at the very end, when some files are damaged.
    """
    listed = hashlib.sha256("\n".join(files.contents).encode(errors="surrogateescape")).hexdigest()
    origin = {**settings, "files": listed, "skeleton": asdict(files.skeleton)}
    names = Layout(files.skeleton.names).names
    streams = {"pose": Stream("motion", (len(names),), "float32", rate, UNIT, names)}
    writer = EpisodeWriter(out, streams, msgspec.json.decode(msgspec.json.encode(origin)))
    dealt = splits(len(files.contents), validation, test)
    problems: list[SakiyomiError] = []
    for done, (id, name, split) in enumerate(zip(episode_ids(files.contents), files.contents, dealt, strict=True)):
        wanted = {id: False, f"{id}-mirrored": True} if mirrored and split == "train" else {id: False}
        try:
            if not wanted.keys() <= writer.ids:
                _add(writer, files, name, wanted, split)
        except SakiyomiError as error:
            problems.append(error)
        progress(done + 1, len(files.contents))
    return finish(writer, problems)


def _add(writer: EpisodeWriter, files: Files, name: str, wanted: dict[str, bool], split: str) -> None:
    """Write the episodes `wanted` of one file: ids, and whether each is mirrored."""
    where = str(files.where) if files.where.is_file() and len(files.contents) == 1 else f"{files.where}/{name}"
    clip, more = files.read(files.contents[name], where)
    reflected = np.tile(MIRROR, (len(files.skeleton.names), 1, 1))
    for id, mirrored in wanted.items():
        if id not in writer.ids:
            encoded = encode(mirror(clip, reflected) if mirrored else clip)
            meta = {"file": name, "start": list(encoded.start), "mirrored": mirrored, **more}
            clock = np.arange(len(encoded.values)) / clip.rate
            writer.add(id, {"pose": encoded.values}, {"pose": clock}, split, meta)


def read_files(path: Path, suffixes: tuple[str, ...], match: str = "") -> dict[str, bytes]:
    """The files of a folder or zip, with all folders in it, that end so and whose path inside holds `match`, by that
    path, in order; or the one file by its name. Raises SakiyomiError when there are none, or they cannot be read."""

    def fits(name: str) -> bool:
        return name.lower().endswith(suffixes) and match in name and not name.split("/")[-1].startswith(".")

    try:
        if path.is_dir():
            names = {file.relative_to(path).as_posix(): file for file in sorted(path.rglob("*")) if file.is_file()}
            found = {name: file.read_bytes() for name, file in names.items() if fits(name)}
        elif path.suffix.lower() in suffixes:
            found = {path.name: path.read_bytes()}
        else:
            with zipfile.ZipFile(path) as archive:
                found = {name: archive.read(name) for name in sorted(archive.namelist()) if fits(name)}
    # The last ones are what a damaged or encrypted member raises.
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, zlib.error, EOFError) as error:
        raise SakiyomiError(f"{path} cannot be read: {error}; name a folder, a .zip, or one file") from error
    if not found:
        like = f" with {match!r} in its path (see --match)" if match else ""
        raise SakiyomiError(f"{path} holds no {' or '.join(suffixes)} file{like}")
    return found


def check_shares(validation: float, test: float) -> None:
    """Raises SakiyomiError when the shares of validation and test split leave nothing for training."""
    at_least("--validation", validation, 0)
    at_least("--test", test, 0)
    if validation + test >= 1:
        raise SakiyomiError(
            f"validation={validation:g} and test={test:g} leave nothing for training; their sum must be less than 1"
        )


def splits(count: int, validation: float, test: float) -> list[str]:
    """A split for each of `count` clips, spread evenly over them; of a few one at least is for validation."""
    if count == 1 and validation + test > 0:
        raise SakiyomiError(
            "there is one clip, and clips are not cut: nothing is left to validate with; --validation 0 --test 0 takes "
            "it for training"
        )
    # Multiples of the golden ratio never come near one another.
    order = sorted(range(count), key=lambda number: number * GOLDEN % 1)
    for_validation = max(1, round(validation * count)) if validation else 0
    for_test = min(round(test * count), count - for_validation - 1)
    names = ["train"] * (count - for_validation - for_test) + ["validation"] * for_validation + ["test"] * for_test
    dealt = dict(zip(order, names, strict=True))
    return [dealt[number] for number in range(count)]
