"""Verb 1, `sakiyomi prepare copy SOURCE TARGET`: a store brought to another place, here or far away.

sakiyomi prepare copy data/pick s3://bucket/pick
sakiyomi prepare copy s3://bucket/pick data/pick

A copy that was interrupted, however, goes on by the same command: what is whole at the target is not sent again, and
what is not whole, by its checksum, is sent anew. An episode is entered in the target's manifest only when it is there,
and the statistics are written last, so that whoever reads at the target meanwhile reads a smaller store, never a
broken one.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from sakiyomi.data.cache import REMEMBERED, Verified
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.far import READ_ONLY, Place, fetch, locate, protocols
from sakiyomi.data.records import FORMAT, Dataset, Entry, dataset_json, manifest_jsonl, read_dataset, read_manifest
from sakiyomi.errors import SakiyomiError
from sakiyomi.files import write_atomic

EVERY = 16  # episodes after which the manifest is written, whole: buckets cannot append
PART = 50 * 2**20  # bytes of the parts in which s3fs sends a large file; its checksum there is one of these parts
PIECE = 2**20  # bytes read at a time


@dataclass(frozen=True)
class Copy:
    """Copy a store, here or far away; goes on where an interrupted copy stopped."""

    source: tyro.conf.Positional[str] = ""
    """Folder or address of the store, such as data/pick or s3://bucket/pick."""
    target: tyro.conf.Positional[str] = ""
    """Folder or address to copy it to: a new one, or one that holds a part of the same store."""


@dataclass(frozen=True)
class Copied:
    """What a copy did."""

    episodes: int
    bytes: int
    sent: tuple[str, ...]
    """The episodes that were sent; the others were whole at the target."""


def copy(source: str, target: str, progress: Callable[[int, int], None] = lambda done, total: None) -> Copied:
    """Copy a store; `progress` takes how many bytes are at the target, and how many there will be.

    Raises SakiyomiError when the source is damaged, the target holds anything else, or one of them cannot be reached.
    """
    if not source or not target:
        raise SakiyomiError("copy takes two places, such as: sakiyomi prepare copy data/pick s3://bucket/pick")
    store, place = EpisodeStore(source), locate(target)
    if _same(store.place, place):
        raise SakiyomiError(f"{source} and {target} are one place; name another target")
    if place.system is not None and {*protocols(place.system)} & {*READ_ONLY}:
        raise SakiyomiError(f"{target} is a web address, which can be read only; copy to a bucket or a folder")
    whole = Dataset(FORMAT, store.streams, store.statistics, store.origin)
    entered = _entered(store, place, whole)
    if entered != store.entries or place.read("dataset.json") != dataset_json(whole):
        _write(place, "dataset.json", dataset_json(replace(whole, statistics={})))
    there, sent, done = {entry.id for entry in entered}, [], 0
    total = sum(entry.bytes for entry in store.entries)
    checksums = Verified(place.here / "episodes", remember=total >= REMEMBERED) if place.here else None
    try:
        for number, entry in enumerate(store.entries):
            if not _arrived(store, place, entry, checksums):
                there.discard(entry.id)
                _send(store, place, entry)
                sent.append(entry.id)
            there.add(entry.id)
            done += entry.bytes
            progress(done, total)
            if number % EVERY == EVERY - 1:
                _enter(store, place, there)
    finally:  # interrupted, too: what arrived may be read
        _enter(store, place, there)
    _write(place, "dataset.json", dataset_json(whole))
    return Copied(len(store.entries), total, tuple(sent))


def _same(one: Place, other: Place) -> bool:
    if one.here and other.here:
        return one.here.resolve() == other.here.resolve()
    return one.here is other.here and one.name == other.name


def _entered(store: EpisodeStore, place: Place, whole: Dataset) -> tuple[Entry, ...]:
    """What the target has of this store by now. Raises SakiyomiError when it holds anything else."""
    content = place.read("dataset.json")
    if content is None:
        if place.here and place.here.exists() and (not place.here.is_dir() or any(place.here.iterdir())):
            raise SakiyomiError(f"{place} exists and is no episode store; name another target or remove it")
        return ()
    there = read_dataset(content, f"{place}/dataset.json")
    if (there.streams, there.origin) != (whole.streams, whole.origin):
        raise SakiyomiError(
            f"{place} holds another store (streams {sorted(there.streams)}, {store.place} has {sorted(whole.streams)}; "
            "their descriptions or settings differ); name another target or remove it"
        )
    entered = read_manifest(place.read("manifest.jsonl") or b"", f"{place}/manifest.jsonl", there.streams)
    known = {entry.id: entry for entry in store.entries}
    for entry in entered:
        if known.get(entry.id) != entry:
            state = "is another one" if entry.id in known else "is none"
            raise SakiyomiError(
                f"{place} holds episode {entry.id!r}, which in {store.place} {state}; name another target or remove it"
            )
    return entered


def _arrived(store: EpisodeStore, place: Place, entry: Entry, checksums: Verified | None) -> bool:
    """Whether an episode is at the target, whole; entered in its manifest or not."""
    if checksums and place.here:
        with suppress(OSError):
            path = place.here / entry.file
            return path.stat().st_size == entry.bytes and checksums.sha256(path) == entry.sha256
        return False
    info = place.info(entry.file)
    if info is None or info["size"] != entry.bytes:
        return False
    if store.place.here and info.get("ETag"):  # the bucket's own checksum spares reading all of it back
        return info["ETag"].strip('"') == bucket_checksum(store.path(entry.id), info["ETag"]) or _read_back(
            place, entry
        )
    return _read_back(place, entry)


def _read_back(place: Place, entry: Entry) -> bool:
    digest = hashlib.sha256()
    for chunk in place.chunks(entry.file, 0, entry.bytes):
        digest.update(chunk)
    return digest.hexdigest() == entry.sha256


def bucket_checksum(path: Path, like: str) -> str:
    """The ETag that S3 gives a file sent as s3fs sends it: its MD5; in parts (`like` has a '-'), the MD5 of theirs."""
    parts = [hashlib.md5(usedforsecurity=False)]
    with path.open("rb") as file:
        for number, piece in enumerate(_pieces(file.read)):
            if "-" in like and number and number % (PART // PIECE) == 0:
                parts.append(hashlib.md5(usedforsecurity=False))
            parts[-1].update(piece)
    if "-" not in like:
        return parts[0].hexdigest()
    joined = hashlib.md5(b"".join(part.digest() for part in parts), usedforsecurity=False)
    return f"{joined.hexdigest()}-{len(parts)}"


def _pieces(read: Callable[[int], bytes]) -> Iterator[bytes]:
    while piece := read(PIECE):
        yield piece


def _send(store: EpisodeStore, place: Place, entry: Entry) -> None:
    if place.here:
        fetch(store.place, entry, place.here / entry.file)
        return
    place.send(store.path(entry.id), entry.file)
    info = place.info(entry.file)
    if info is None or info["size"] != entry.bytes:
        came = f"{info['size']} of {entry.bytes} bytes" if info else "nothing"
        raise SakiyomiError(f"{place}/{entry.file}: {came} arrived; run the same command again")


def _enter(store: EpisodeStore, place: Place, there: set[str]) -> None:
    _write(place, "manifest.jsonl", manifest_jsonl(tuple(entry for entry in store.entries if entry.id in there)))


def _write(place: Place, file: str, content: bytes) -> None:
    if place.here:
        write_atomic(place.here / file, content)
    else:
        place.write(file, content)
