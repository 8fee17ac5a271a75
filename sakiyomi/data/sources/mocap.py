"""Motion capture: a folder or zip of BVH files as an episode store, one clip an episode.

    sakiyomi prepare mocap bandai_namco_2_walk_run.zip --match walk --out data/walk

Every clip is cut to its character (pelvis and what hangs from it), resampled, and written as the numbers of
`motion/layout.py`. All files must have one skeleton; a file with another, or a damaged one, is left out and told.
"""

import fnmatch
import hashlib
import math
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import msgspec
import numpy as np
import tyro

from sakiyomi.data.episodes import Entry, EpisodeStore, EpisodeWriter, Stream
from sakiyomi.data.formats.beginnings import beginning
from sakiyomi.data.formats.bvh import conventions, metres, parse_bvh, upright
from sakiyomi.data.formats.importing import TOLD, finish
from sakiyomi.data.public import located
from sakiyomi.errors import SakiyomiError, at_least, at_most
from sakiyomi.motion.features import encode
from sakiyomi.motion.layout import Layout
from sakiyomi.motion.skeleton import Clip, Skeleton, cut, find_feet, mirror, mirror_corrections, resample

SURVEYED = 9  # files from which unit, up axis and skeleton are found; one odd file among them does not decide
UNIT = "m, rad, s"
Result = TypeVar("Result")


@dataclass(frozen=True)
class Recording:
    """One BVH file of a folder or zip."""

    name: str
    """Its path inside the folder or zip, with /."""
    where: str
    """Its path for messages."""
    read: Callable[[], bytes]


@dataclass(frozen=True)
class Mocap:
    """Import motion capture from BVH files."""

    path: tyro.conf.Positional[str] = ""
    """A folder or .zip of .bvh files, searched with all its folders, one file, or the name of a public set that was
    fetched."""
    match: str = ""
    """Only files whose path holds this, or fits it if it has * or ?."""
    rate: float = 30.0
    """Frames a second of the poses."""
    mirror: bool = True
    """Add every training clip a second time, left and right exchanged."""
    validation: float = 0.15
    """Share of the clips for the validation split."""
    test: float = 0.15
    """Share of the clips for the test split."""
    pelvis: str = ""
    """Joint the body hangs from, if it is not the one called hips or pelvis."""
    feet: tuple[str, ...] = ()
    """Joints that touch the ground, if they are not those called foot, toe or ankle."""
    unit: str = "auto"
    """Of the files: m, cm, mm, inch, foot, cmu, or a number of metres; auto goes by the size of the body."""
    up: str = "auto"
    """The files' axis that points up: x, y, z, -x, -y or -z; auto goes by head and feet."""
    shortest: float = 1.0
    """Clips of fewer seconds are left out, and told."""
    seed: int = 0
    """Deals the clips to the splits: by the hash of seed and file name, so that more files do not move others."""

    def record(self, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> EpisodeStore:
        """Write the store; what is in it already is kept.

        Raises SakiyomiError when there is nothing to read, and, at the very end, when some files are left out.
        """
        self._check()
        there = EpisodeStore(out, allow_empty=True) if (out / "dataset.json").exists() else None
        entries = there.entries if there else ()
        recordings = self._matching(
            find(located(self.path, "a folder or .zip of BVH files: sakiyomi prepare walk PATH"))
        )
        ids = episode_ids([recording.name for recording in recordings])
        asked, pattern = self._survey(recordings, there.origin if there and entries else {})
        corrections = self._corrections(pattern)
        layout = Layout(pattern.skeleton.names)
        streams = {"pose": Stream("motion", (layout.width,), "float32", self.rate, UNIT, layout.names)}
        writer = EpisodeWriter(out, streams, asked._origin(pattern.skeleton))
        splits = self._splits([recording.name for recording in recordings], entries)
        problems: list[SakiyomiError] = []
        for done, (recording, id) in enumerate(zip(recordings, ids, strict=True), 1):
            split = splits[recording.name]
            wanted = {id: False, f"{id}-mirrored": True} if self.mirror and split == "train" else {id: False}
            try:
                if not wanted.keys() <= writer.ids:
                    asked._add(writer, recording, wanted, split, pattern.skeleton, corrections)
            except SakiyomiError as error:
                problems.append(error)
            progress(done, len(recordings))
        return finish(writer, problems)

    def _check(self) -> None:
        at_least("--rate", self.rate, 1)
        at_most("--rate", self.rate, 1000)
        at_least("--validation", self.validation, 0)
        at_least("--test", self.test, 0)
        at_least("--shortest", self.shortest, 0)
        at_least("--seed", self.seed, 0)
        if self.unit != "auto":
            metres(self.unit)
        if self.up != "auto":
            upright(self.up)
        if self.validation + self.test >= 1:
            raise SakiyomiError(
                f"validation={self.validation:g} and test={self.test:g} leave nothing for training; "
                "their sum must be less than 1"
            )

    def _matching(self, recordings: list[Recording]) -> list[Recording]:
        def fits(name: str) -> bool:
            if any(sign in self.match for sign in "*?["):
                return fnmatch.fnmatchcase(name, self.match) or fnmatch.fnmatchcase(name.split("/")[-1], self.match)
            return self.match in name

        found = [recording for recording in recordings if fits(recording.name)]
        if not found:
            some = ", ".join(recording.name for recording in recordings[:3])
            raise SakiyomiError(f"no file matches {self.match!r}; the {len(recordings)} in {self.path} begin: {some}")
        return found

    def _survey(self, recordings: list[Recording], origin: dict[str, Any]) -> tuple["Mocap", Clip]:
        """The settings with unit and up axis found, and frames of some files: those of the skeleton most of them have.

        `origin` is that of a store which is there already: it has decided. Raises SakiyomiError when no file can be
        read, or the skeleton has no feet.
        """
        found = _some(recordings, lambda it: conventions(it.read(), it.where, self.unit, self.up))
        unit, up = (Counter(pair).most_common(1)[0][0] for pair in zip(*found, strict=True))
        asked = replace(
            self,
            unit=origin.get("unit", unit) if self.unit == "auto" else self.unit,
            up=origin.get("up", up) if self.up == "auto" else self.up,
        )
        skeleton = None
        if origin.get("pelvis") == self.pelvis:
            skeleton = msgspec.convert(origin["skeleton"], Skeleton)
        clips = _some(recordings, lambda it: asked._clip(it, skeleton))
        body = Counter(_body(clip.skeleton) for clip in clips).most_common(1)[0][0]
        same = [clip for clip in clips if _body(clip.skeleton) == body]
        pattern = Clip(
            skeleton or same[0].skeleton,
            self.rate,
            np.concatenate([clip.positions for clip in same]),
            np.concatenate([clip.rotations for clip in same]),
        )
        pattern = replace(pattern, skeleton=replace(pattern.skeleton, feet=find_feet(pattern, self.feet)))
        return asked, pattern

    def _origin(self, skeleton: Skeleton) -> dict[str, Any]:
        """What the store is made with, as JSON will have it; the path may move."""
        settings = {name: value for name, value in asdict(self).items() if name != "path"}
        return msgspec.json.decode(msgspec.json.encode({"source": "mocap", **settings, "skeleton": skeleton}))

    def _splits(self, names: Sequence[str], entries: Sequence[Entry]) -> dict[str, str]:
        """The split of each file: the lowest hashes go to validation, the highest to test.

        Of a few files none may fall to a split; the file whose hash is nearest does then. What is recorded stays.
        """
        low, high = self.validation, 1 - self.test
        place = {name: _place(self.seed, name) for name in names}
        recorded = {entry.meta["file"]: entry.split for entry in entries if entry.meta.get("file") in place}
        splits = {n: "validation" if p < low else "test" if p >= high else "train" for n, p in place.items()} | recorded
        middle = {"train": (low + high) / 2, "validation": 0.0, "test": 1.0}
        wanted = ["train"] + ["validation"] * (self.validation > 0) + ["test"] * (self.test > 0)
        for split in wanted:
            counts = Counter(splits.values())
            later = wanted[wanted.index(split) + 1 :]
            spare = [n for n, own in splits.items() if n not in recorded and (counts[own] > 1 or own in later)]
            if not counts[split] and spare:
                splits[min(spare, key=lambda name: abs(place[name] - middle[split]))] = split
        return splits

    def _clip(self, recording: Recording, skeleton: Skeleton | None) -> Clip:
        """A file's character at the rate asked for. Raises SakiyomiError when it is not of this skeleton, if given."""
        clip = parse_bvh(recording.read(), recording.where, self.unit, self.up)
        try:
            clip = resample(cut(clip, self.pelvis), self.rate)
        except SakiyomiError as error:
            raise SakiyomiError(f"{recording.where}: {error}") from error
        if skeleton and _body(clip.skeleton) != _body(skeleton):
            raise SakiyomiError(f"{recording.where}: {_difference(clip.skeleton, skeleton)}")
        return clip

    def _corrections(self, pattern: Clip) -> np.ndarray | None:
        """What mirroring needs, found once for all clips. Raises SakiyomiError where sides are unknown."""
        if not self.mirror:
            return None
        try:
            return mirror_corrections(pattern)
        except SakiyomiError as error:
            raise SakiyomiError(f"{error}; without mirrored clips: --no-mirror") from error

    def _add(
        self,
        writer: EpisodeWriter,
        recording: Recording,
        wanted: dict[str, bool],
        split: str,
        skeleton: Skeleton,
        corrections: np.ndarray | None,
    ) -> None:
        """Write the episodes `wanted` of one file: ids, and whether each is mirrored."""
        clip = self._clip(recording, skeleton)
        frames = len(clip.positions)
        least = max(2, math.ceil(self.shortest * self.rate))
        if frames < least:
            raise SakiyomiError(
                f"{recording.where}: {frames} frames at {self.rate:g} Hz; a clip has at least {least} "
                f"(--shortest is {self.shortest:g} s)"
            )
        for id, mirrored in wanted.items():
            if id not in writer.ids:
                encoded = encode(mirror(clip, corrections) if mirrored else clip)
                meta = {"file": recording.name, "start": list(encoded.start), "mirrored": mirrored}
                writer.add(id, {"pose": encoded.values}, {"pose": np.arange(frames) / self.rate}, split, meta)


def recognises(path: Path) -> bool:
    """Whether it is a BVH file, or a folder or .zip in which the first one is, by its first bytes."""
    return beginning(path, (".bvh",)).lstrip()[:9].upper() == b"HIERARCHY"


def find(path: Path) -> list[Recording]:
    """The BVH files of a folder or zip, with all folders in it, in order of name; or the one file."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() == ".bvh" and file.is_file())
        found = [Recording(file.relative_to(path).as_posix(), str(file), _reader(file)) for file in files]
    elif path.suffix.lower() == ".bvh":
        found = [Recording(path.name, str(path), _reader(path))]
    else:
        try:
            archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise SakiyomiError(f"{path} is no .zip, .bvh or folder: {error}; name one, or fetch it anew") from error
        names = sorted(name for name in archive.namelist() if name.lower().endswith(".bvh"))
        found = [Recording(name, f"{path}/{name}", _member(archive, path, name)) for name in names]
    # macOS leaves such files beside the true ones.
    found = [recording for recording in found if not recording.name.split("/")[-1].startswith(".")]
    if not found:
        raise SakiyomiError(f"{path} holds no .bvh file; name a folder or .zip of them")
    return found


def _reader(file: Path) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            return file.read_bytes()
        except OSError as error:
            raise SakiyomiError(f"{file} cannot be read: {error.strerror}") from error

    return read


def _member(archive: zipfile.ZipFile, path: Path, name: str) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            return archive.read(name)
        # What a damaged or encrypted member raises.
        except (OSError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise SakiyomiError(f"{path}/{name} cannot be unpacked: {error}; fetch it anew") from error

    return read


def episode_ids(names: Iterable[str]) -> list[str]:
    """An id for each file name, of the signs an id may have. Raises SakiyomiError when two are the same."""
    taken: dict[str, str] = {}
    for name in names:
        plain = str(PurePosixPath(name).with_suffix("")).replace("/", "-")
        id = re.sub(r"[^A-Za-z0-9_.-]", "", plain).lstrip("_.-")[:80]
        if id != plain:  # something was lost that may have told two apart
            id = f"{id}-{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:8]}".lstrip("-")
        if id in taken:
            raise SakiyomiError(f"{taken[id]!r} and {name!r} would both become episode {id!r}; rename one")
        taken[id] = name
    return list(taken)


def _place(seed: int, name: str) -> float:
    """A number in [0, 1) that seed and file name, without its folders, decide."""
    digest = hashlib.sha256(f"{seed}/{name.split('/')[-1]}".encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _some(recordings: list[Recording], read: Callable[[Recording], Result]) -> list[Result]:
    """What `read` makes of SURVEYED of the files, spread over all; those for which it raises SakiyomiError are passed
    over. Raises SakiyomiError when that is all of them.
    """
    results, problems = [], []
    for _, recording in sorted(enumerate(recordings), key=lambda pair: pair[0] * 0.6180339887498949 % 1):
        try:
            results.append(read(recording))
        except SakiyomiError as error:
            problems.append(str(error))
        if len(results) == SURVEYED:
            break
    if not results:
        more = f"; and {len(problems) - TOLD} more" if len(problems) > TOLD else ""
        raise SakiyomiError(f"none of {len(problems)} files can be read: {'; '.join(problems[:TOLD])}{more}")
    return results


def _body(skeleton: Skeleton) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """What must be the same in all files of a store; lengths of bones may differ."""
    return skeleton.names, skeleton.parents


def _difference(got: Skeleton, asked: Skeleton) -> str:
    """In words, how a skeleton differs from the store's."""
    more, less = ([n for n in a.names if n not in b.names] for a, b in ((got, asked), (asked, got)))
    if more or less:
        parts = [f"{word} {', '.join(names[:5])}" for word, names in (("it has", more), ("it lacks", less)) if names]
        told = " and ".join(parts) + " (and more)" * (max(len(more), len(less)) > 5)
    else:
        told = "the same joints, in another order or tree"
    return f"another skeleton than the store's, whose {len(asked.names)} joints begin with {asked.names[0]!r}: {told}"
