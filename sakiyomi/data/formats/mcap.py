"""MCAP, what robots on ROS 2 and Foxglove's tools record to: each file an episode, each topic a stream.

    sakiyomi prepare mcap recordings --camera /front/image --joints /joint_states --out data/cup

Messages may be ROS 2 (CDR, with their definitions in the file), protobuf or JSON. Joint states, pictures (raw of eight
bits, JPEG, PNG) and all other messages of numbers are read; what is not, such as clouds of points, is named and left
out. Every stream has its own clock, in seconds from the first message: the stamp of the message's header where each
message of its topic has one, else the time at which it was recorded. Read, not written; a file that was cut off is
mended by `mcap recover`, a tool that comes with the format. Needs the extra `sakiyomi[formats]`.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.formats.gathering import (
    Content,
    Foreign,
    NotThere,
    Track,
    camera_names,
    check_settings,
    gather,
    origin_of,
    printable,
    stream_name,
)
from sakiyomi.data.formats.importing import foreign, given, library
from sakiyomi.data.formats.messages import Part, Unreadable, parts_of, stamp_of
from sakiyomi.data.formats.video import resized
from sakiyomi.data.sources.mocap import episode_ids
from sakiyomi.errors import SakiyomiError, unknown

MAGIC = b"\x89MCAP0\r\n"
CHUNK = 2**31  # bytes that a chunk may unpack to
APART = 1.0  # seconds between two topics' clocks and the recorder's: more, and they are not one clock
FEWEST = 2  # messages of a topic: of fewer there is nothing to learn


@dataclass(frozen=True)
class Mcap:
    """Import MCAP recordings."""

    path: tyro.conf.Positional[str] = ""
    """A folder of .mcap files, searched with all its folders, or one file."""
    camera: str = ""
    """Topic of the camera that becomes the stream `image`; the first if not given."""
    joints: str = ""
    """Topic of the joint states that become the stream `joints`; the first if not given."""
    command: str = ""
    """Topic of what the joints are told, absolute: it becomes the stream `command`."""
    topics: tuple[str, ...] = ()
    """Read only these topics; if none is given, all."""
    clock: Literal["header", "log"] = "header"
    """Stamps of the messages' headers, or the times at which they were recorded."""
    pixels: tuple[int, int] = (0, 0)
    """Height and width to which pictures are brought; 0 0 keeps them."""
    validation: float = 0.1
    """Share of the files for the validation split, the last ones."""

    def record(self, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> EpisodeStore:
        """Write the store; what is in it already is kept.

        Raises SakiyomiError when there is nothing to read, and, at the very end, when something is damaged.
        """
        check_settings(self.validation, self.pixels)
        path = given(self.path, "a .mcap file or a folder of them: sakiyomi prepare mcap FOLDER")
        files = mcap_files(path)
        names = [file.name if file == path else file.relative_to(path).as_posix() for file in files]
        episodes = [
            Foreign(id, str(file), partial(self.read, file)) for file, id in zip(files, episode_ids(names), strict=True)
        ]
        return gather(out, origin_of("mcap", self), episodes, self.validation, progress)

    def read(self, path: Path) -> Content:
        """One file. Raises SakiyomiError when it is damaged, or has no topic that is read."""
        topics = self._collect(path)
        left_out: dict[str, str] = {}
        kept: dict[tuple[str, str], Samples] = {}
        for (topic, part, _), samples in topics.found.items():
            why = samples.unusable()
            name, number = part, 2
            while (topic, name) in kept:  # two robots on one topic, told apart by their joints
                name, number = f"{part}_{number}" if part else str(number), number + 1
            if why:
                left_out[f"{topic} {part}".strip()] = why
            else:
                kept[topic, name] = samples
        left_out |= topics.unread
        self._asked(path, {topic for topic, _ in kept}, left_out)
        clocks, repeated = self._clocks(path, kept)
        tracks: dict[str, Track] = {}
        for key, stream in self._streams(kept).items():
            samples, clock = kept[key], clocks[key]
            kind = "joints" if stream in ("joints", "command") else samples.kind
            tracks[stream] = Track(samples.values(clock.order), clock.seconds, kind, 0.0, samples.unit, samples.names)
        told = {printable(topic): printable(why) for topic, why in sorted(left_out.items())}
        lines = tuple(f"{topic}: left out, {why}" for topic, why in told.items())
        return Content(tracks, {"left_out": told, "repeated_stamps": repeated}, lines)

    def _collect(self, path: Path) -> "Topics":
        topics = Topics()
        with foreign(path, f"MCAP (one that was cut off is mended by: mcap recover {path} -o MENDED.mcap)"):
            for schema, channel, message, decode in messages(path):
                topic = str(channel.topic)
                if topic in topics.unread or (self.topics and topic not in self.topics):
                    continue
                try:
                    decoded = decode(message.data)
                    parts = parts_of(schema.name if schema else "", decoded)
                    stamp = stamp_of(decoded)
                except Unreadable as error:
                    topics.drop(topic, str(error))
                    continue
                except SakiyomiError as error:
                    raise SakiyomiError(f"{path}, {printable(topic)} at {message.log_time} ns: {error}") from error
                for part, content in parts.items():
                    topics.add(topic, part, content, stamp, int(message.log_time), self.pixels)
        return topics

    def _asked(self, path: Path, there: set[str], left_out: dict[str, str]) -> None:
        """Raises NotThere when a topic that was asked for is not, and SakiyomiError when none is."""
        for topic in dict.fromkeys(topic for topic in (self.camera, self.joints, self.command, *self.topics) if topic):
            if topic not in there:
                why = left_out.get(topic)
                raise NotThere(f"{path}: {f'{topic} cannot be read: {why}' if why else unknown('topic', topic, there)}")
        if not there:
            told = "; ".join(f"{printable(topic)} ({why})" for topic, why in left_out.items())
            raise SakiyomiError(f"{path} has no topic that is read: {told or 'it has no message'}")

    def _clocks(
        self, path: Path, kept: dict[tuple[str, str], "Samples"]
    ) -> tuple[dict[tuple[str, str], "Clock"], dict[str, int]]:
        """The clock of each stream, and how many messages of each topic had the stamp of another.

        Raises SakiyomiError when some topics' headers go by another clock than the others.
        """
        times = {key: samples.nanoseconds(self.clock == "header") for key, samples in kept.items()}
        late = {key: float(np.median(times[key] - kept[key].logged())) / 1e9 for key in kept}
        first, last = min(late, key=late.__getitem__), max(late, key=late.__getitem__)
        if late[last] - late[first] > APART:
            raise SakiyomiError(
                f"{path}: the clocks of its topics differ: headers of {printable(first[0])} are {late[first]:+.3f} s "
                f"off the recorder's clock, those of {printable(last[0])} {late[last]:+.3f} s; take the times of "
                "recording with --clock log"
            )
        begin = min(int(each.min()) for each in times.values())
        clocks, repeated = {}, {}
        for key, each in times.items():
            stamps, order = np.unique(each, return_index=True)  # the first of those with one stamp
            clocks[key] = Clock((stamps - begin) / 1e9, order)
            if len(order) < len(each):
                repeated[printable(" ".join(key).strip())] = len(each) - len(order)
        return clocks, repeated

    def _streams(self, kept: dict[tuple[str, str], "Samples"]) -> dict[tuple[str, str], str]:
        """The stream that each topic's part becomes."""
        joints = [key for key, samples in kept.items() if samples.kind == "joints"]
        first = next((key for key in joints if key[0] == self.joints or not self.joints), None)
        if self.joints and first is None:
            first = self.joints, ""  # positions in another kind of message
        if first and first[0] == self.command:
            first = next((key for key in joints if key[0] != self.command), None)
        found = {key: "joints" for key in [first] if key in kept}
        found |= {key: "command" for key in [(self.command, "")] if key in kept}
        taken = ("joints", "command", "action")
        cameras = [topic for (topic, _), samples in kept.items() if samples.kind == "image"]
        names = camera_names(cameras, self.camera, taken)
        for key, samples in kept.items():
            if samples.kind == "image":
                found[key] = names[key[0]]
            elif key not in found:
                plain = key[1] if first and key[0] == first[0] and key[1] in ("velocity", "effort") else "_".join(key)
                found[key] = stream_name(plain, (*taken, *names.values(), *found.values()))
        return found


@dataclass(frozen=True)
class Clock:
    seconds: np.ndarray
    """float64 [T], rising."""
    order: np.ndarray
    """int64 [T]: which of the messages has this time."""


@dataclass
class Samples:
    """What one part of a topic's messages said, one after the other."""

    kind: Any
    names: tuple[str, ...]
    unit: str
    parts: list[np.ndarray] = field(default_factory=list)
    stamps: list[int | None] = field(default_factory=list)
    log: list[int] = field(default_factory=list)
    varies: bool = False
    """Messages differ in the numbers they hold."""

    def unusable(self) -> str:
        """Why this cannot be a stream, or nothing."""
        if self.varies:
            return "its messages differ in what they hold"
        if len(self.parts) < FEWEST:
            return f"it has fewer than {FEWEST} messages"
        if self.kind != "image" and all(np.isnan(part).all() for part in self.parts):
            return "not measured: no number in it"
        return ""

    def nanoseconds(self, header: bool) -> np.ndarray:
        """int64 [T]: the headers' stamps, if asked for and all there; else the times of recording."""
        stamps = [stamp for stamp in self.stamps if stamp is not None]
        return np.array(stamps if header and len(stamps) == len(self.log) else self.log, np.int64)

    def logged(self) -> np.ndarray:
        return np.array(self.log, np.int64)

    def values(self, order: np.ndarray) -> np.ndarray:
        return np.stack([self.parts[number] for number in order])


class Topics:
    """What was read of a file, and why other topics were not."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str, frozenset[str]], Samples] = {}
        self.unread: dict[str, str] = {}

    def drop(self, topic: str, why: str) -> None:
        self.unread[topic] = why
        for key in [key for key in self.found if key[0] == topic]:
            del self.found[key]

    def add(self, topic: str, part: str, content: Part, stamp: int | None, log: int, pixels: tuple[int, int]) -> None:
        joint_like = content.kind == "joints" or part in ("velocity", "effort")
        key = topic, part, frozenset(content.names if joint_like else ())
        samples = self.found.setdefault(key, Samples(content.kind, content.names, content.unit))
        values = content.values
        if content.kind == "image":
            values = resized(values[None], pixels)[0]
            if samples.parts and samples.parts[0].shape != values.shape:
                raise SakiyomiError(
                    f"{printable(topic)}: pictures of {samples.parts[0].shape[:2]} and {values.shape[:2]} pixels; "
                    "bring them to one size with --pixels HEIGHT WIDTH"
                )
        elif content.names != samples.names:
            if joint_like and len({*content.names}) == len(content.names):  # the same joints in another order
                values = values[[content.names.index(name) for name in samples.names]]
            else:
                samples.varies = True
                return
        samples.parts.append(values)
        samples.stamps.append(stamp)
        samples.log.append(log)


def messages(path: Path) -> Iterator[tuple[Any, Any, Any, Callable[[bytes], Any]]]:
    """Schema or None, channel, message and what decodes it, in the order of the file. Checksums are verified.

    What the library raises for damaged files is for the caller to turn into SakiyomiError.
    """
    reading = library("mcap.stream_reader", "formats")
    records = library("mcap.records", "formats")
    factories = [library(f"{name}.decoder", "formats").DecoderFactory() for name in ("mcap_ros2", "mcap_protobuf")]
    schemas: dict[int, Any] = {}
    channels: dict[int, Any] = {}
    decoders: dict[int, Callable[[bytes], Any]] = {}
    with path.open("rb") as file:
        limit = path.stat().st_size
        for outer in reading.StreamReader(file, emit_chunks=True, validate_crcs=True, record_size_limit=limit).records:
            for record in _unpacked(reading, outer) if isinstance(outer, records.Chunk) else (outer,):
                if isinstance(record, records.Schema):
                    schemas[record.id] = record
                elif isinstance(record, records.Channel) and record.id not in channels:
                    channels[record.id] = record
                    decoders[record.id] = decoder_of(factories, record, schemas.get(record.schema_id))
                elif isinstance(record, records.Message):
                    channel = channels.get(record.channel_id)
                    if channel is None:
                        raise SakiyomiError(f"{path} has a message on channel {record.channel_id}, which it lacks")
                    yield schemas.get(channel.schema_id), channel, record, decoders[record.channel_id]


def _unpacked(reading: Any, chunk: Any) -> list[Any]:
    """The records of a chunk. Raises SakiyomiError rather than unpack what would fill the memory."""
    told = chunk.uncompressed_size
    if chunk.compression == "zstd":
        inside = library("zstandard", "formats").frame_content_size(chunk.data)
        told = max(told, inside if 0 <= inside < 2**63 else 0)
    if told > CHUNK:
        raise SakiyomiError(f"a chunk claims to hold {told} bytes; at most {CHUNK} are unpacked, so it is damaged")
    return reading.breakup_chunk(chunk, validate_crc=True)


def decoder_of(factories: list[Any], channel: Any, schema: Any) -> Callable[[bytes], Any]:
    """What decodes the messages of a channel; for encodings that are not known, it raises Unreadable."""
    if channel.message_encoding == "json":
        return decode_json
    found = [decode for factory in factories if (decode := factory.decoder_for(channel.message_encoding, schema))]
    encodings = f"{channel.message_encoding!r} with definitions in {schema.encoding if schema else ''!r}"
    why = f"messages in {encodings[:80]} are not read; ROS 2 (cdr, ros2msg), protobuf and json are"

    def refuse(content: bytes) -> Any:
        raise Unreadable(why)

    return found[0] if found else refuse


def decode_json(content: bytes) -> Any:
    message = json.loads(content)
    if not isinstance(message, dict):
        raise Unreadable("JSON that is no object of fields")
    return message


def mcap_files(path: Path) -> list[Path]:
    """The file itself, or a folder's files in order of the numbers in their names. Raises SakiyomiError when there are
    none."""
    if path.is_file():
        return [path]
    files = [file for file in path.rglob("*.mcap") if file.is_file() and not file.name.startswith(".")]
    if not files:
        raise SakiyomiError(f"{path} holds no .mcap file; name a file or a folder of them")
    return sorted(files, key=lambda file: ([int(n) for n in re.findall(r"\d{1,18}", file.stem)], str(file)))


def recognises(path: Path) -> bool:
    """Whether it is an MCAP file, or a folder with one right in it, by its first bytes."""
    try:
        file = path if path.is_file() else next(path.glob("*.mcap"), path)
        with file.open("rb") as stream:
            return stream.read(len(MAGIC)) == MAGIC
    except OSError:
        return False
