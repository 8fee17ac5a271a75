"""What the formats of robot recordings share: what was read of each episode becomes streams of one store.

    episodes = [Foreign("take-1", "take-1.hdf5", lambda: Content({"joints": Track(values, times, "joints")}))]
    gather(out, {"source": "mine"}, episodes, 0.1, progress)

The first episode that can be read says what the streams are; the others must have the same.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Kind, Stream
from sakiyomi.data.formats.importing import finish, picture
from sakiyomi.data.formats.video import resized
from sakiyomi.errors import SakiyomiError, at_least, unknown
from sakiyomi.run import console

RGB = "RGB 0..255"


@dataclass(frozen=True)
class Track:
    """One stream of one episode, as it was read."""

    values: np.ndarray
    """[T, ...]; pictures are uint8 [T, H, W, 3], RGB."""
    times: np.ndarray
    """float64 [T], seconds, rising."""
    kind: Kind = "scalar"
    rate: float = 0.0
    """Hz, nominal; 0 takes the median step of `times`."""
    unit: str = ""
    names: tuple[str, ...] = ()
    stream: Stream | None = None
    """All that is known of it, where the format keeps that: it goes before the four above."""


@dataclass(frozen=True)
class Content:
    """All streams of one episode by their names, and what else is known of it."""

    tracks: Mapping[str, Track]
    meta: Mapping[str, Any] = field(default_factory=dict)
    told: tuple[str, ...] = ()
    """What whoever imports it should know; what is told of many episodes is printed once."""


@dataclass(frozen=True)
class Foreign:
    """One episode that can be read."""

    id: str
    where: str
    """For messages: its file, and its place in it."""
    read: Callable[[], Content]
    """Raises SakiyomiError when it is damaged."""
    split: str = ""
    """If the format says it; `gather` deals the others."""


def origin_of(source: str, settings: Any) -> dict[str, Any]:
    """What a store keeps of how it was made: the settings (a dataclass) apart from the path, which may move."""
    plain = msgspec.json.decode(msgspec.json.encode(settings))  # as it will be read again
    return {"source": source, **{name: value for name, value in plain.items() if name != "path"}}


class NotThere(SakiyomiError):
    """A recording has not what was asked for, such as a camera. If the first one has it not, no other is read."""


def gather(
    out: Path,
    origin: Mapping[str, Any],
    episodes: Sequence[Foreign],
    validation: float,
    progress: Callable[[int, int], None],
) -> EpisodeStore:
    """Write the store; what is in it already is kept, if it was made with the same `origin`.

    Raises SakiyomiError when nothing can be read, when the first episode has not what was asked for, and, at the very
    end, when some episodes are damaged.
    """
    there = EpisodeStore(out, allow_empty=True) if (out / "dataset.json").exists() else None
    streams = there.streams if there and there.entries else None
    writer = EpisodeWriter(out, streams, origin) if streams else None
    problems: list[SakiyomiError] = []
    said: set[str] = set()
    for done, (episode, split) in enumerate(zip(episodes, dealt(episodes, validation), strict=True), 1):
        if writer is None or episode.id not in writer.ids:
            try:
                content = episode.read()
                found = streams_of(episode.where, content)
            except SakiyomiError as error:
                if writer is None and isinstance(error, NotThere):
                    raise placed(episode, error) from error
                problems.append(placed(episode, error))
            else:
                writer = writer or EpisodeWriter(out, found, origin)  # what is wrong with `out` is no damage of these
                tell(said, content, writer.streams)
                problems += added(writer, episode, content, split)
        progress(done, len(episodes))
    if writer is None:
        told = "; ".join(str(problem) for problem in problems[:3])
        raise SakiyomiError(f"nothing could be imported; {len(problems)} damaged: {told or 'there is no episode'}")
    return finish(writer, problems)


def tell(said: set[str], content: Content, streams: Mapping[str, Stream]) -> None:
    """Print what was not yet `said`."""
    more = sorted(content.tracks.keys() - streams.keys())
    for line in (*content.told, *(f"{name}: left out, the first episode has none" for name in more)):
        if line not in said:
            console.print(line, style="yellow", markup=False, soft_wrap=True)
        said.add(line)


def added(writer: EpisodeWriter, episode: Foreign, content: Content, split: str) -> list[SakiyomiError]:
    """Write one episode; what is wrong with it, if something is."""
    try:
        add(writer, episode, content, split)
    except SakiyomiError as error:
        return [placed(episode, error)]
    return []


def add(writer: EpisodeWriter, episode: Foreign, content: Content, split: str) -> None:
    """Write one episode. Raises SakiyomiError when its streams are not those of the store, or not of numbers."""
    missing = sorted(writer.streams.keys() - content.tracks.keys())
    if missing:
        raise SakiyomiError(
            f"{episode.where} has no {', '.join(missing)}, which the first episode has; it has "
            f"{', '.join(sorted(content.tracks)) or 'nothing'}. Import such recordings into stores of their own"
        )
    values = {name: content.tracks[name].values for name in writer.streams}
    times = {name: content.tracks[name].times for name in writer.streams}
    writer.add(episode.id, values, times, split, {"file": printable(Path(episode.where).name), **content.meta})


def placed(episode: Foreign, error: SakiyomiError) -> SakiyomiError:
    """The error on one line, with the file it is about."""
    told, file = str(error), episode.where.partition(", ")[0]
    return SakiyomiError(printable(told if file in told else f"{episode.where}: {told}"))


def streams_of(where: str, content: Content) -> dict[str, Stream]:
    """What an episode says all of them hold. Raises SakiyomiError when that is nothing."""
    if not content.tracks:
        raise SakiyomiError(f"{where} holds no stream of numbers or pictures")
    return {
        name: track.stream
        or Stream(
            track.kind,
            tuple(int(n) for n in track.values.shape[1:]),
            str(track.values.dtype),
            track.rate or measured_rate(track.times),
            track.unit,
            track.names,
        )
        for name, track in content.tracks.items()
    }


def measured_rate(times: np.ndarray) -> float:
    """Of a clock [T]: one over its median step, to five digits; 1 for a single stamp."""
    step = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
    return float(f"{1 / step:.5g}") if step > 0 else 1.0


def dealt(episodes: Sequence[Foreign], validation: float) -> list[str]:
    """The split of each: its own, or else `train`, and `validation` for the last ones, in this share. Of two or more at
    least one is for validation, of one none. If the format says of any that it is for validation, all others train."""
    free = [number for number, episode in enumerate(episodes) if not episode.split]
    share = 0.0 if any(episode.split == "validation" for episode in episodes) else validation
    held = min(max(1, round(share * len(free))), max(0, len(free) - 1)) if share else 0
    last = set(free[len(free) - held :])
    return [episode.split or ("validation" if n in last else "train") for n, episode in enumerate(episodes)]


def check_settings(validation: float, pixels: tuple[int, int], rate: float = 0.0) -> None:
    """Raises SakiyomiError for a share that leaves nothing to train on, a size or a rate that is none."""
    at_least("--validation", validation, 0)
    if validation >= 1:
        raise SakiyomiError(f"--validation is {validation:g}, a share of the training episodes; less than 1 is left")
    if pixels != (0, 0) and min(pixels) < 1:
        raise SakiyomiError(f"--pixels is {pixels[0]} {pixels[1]}; both must be at least 1, or 0 0 to keep them")
    at_least("--rate", rate, 0)
    if rate > 1e6:
        raise SakiyomiError(f"--rate is {rate:g}; it is a number of steps a second")


def camera_names(cameras: Sequence[str], chosen: str, taken: Iterable[str] = ()) -> dict[str, str]:
    """The stream of each camera: `image` for the chosen one, or the first, their own names for the others.

    Raises NotThere when the chosen one is not there.
    """
    if chosen and chosen not in cameras:
        raise NotThere(str(unknown("camera (--camera)", chosen, cameras)))
    found: dict[str, str] = {}
    first = chosen or next(iter(cameras), "")
    for camera in (first, *(one for one in cameras if one != first)) if cameras else ():
        found[camera] = "image" if camera == first else stream_name(camera, ("image", *taken, *found.values()))
    return found


def stream_name(text: str, taken: Iterable[str] = ()) -> str:
    """A name of letters, digits and `_`, and none of those `taken`."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")[:60] or "stream"
    name, others, number = plain, set(taken), 2
    while name in others:
        name, number = f"{plain}_{number}", number + 1
    return name


def printable(text: str) -> str:
    """Without signs that would break a line or hide something."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def numbers(values: np.ndarray) -> np.ndarray:
    """[T] or [T, C] as [T, C]; of true and false, 1 and 0."""
    values = values.astype(np.uint8) if values.dtype == bool else values
    return values[:, None] if values.ndim == 1 else values


def frames_of(pieces: Iterable[np.ndarray], pixels: tuple[int, int], blue_first: bool = False) -> np.ndarray:
    """Pictures uint8 [T, H, W, 3] or [T, 3, H, W] that come piece by piece, RGB and brought to a size."""
    found = []
    for piece in pieces:
        rows = piece if piece.shape[3] == 3 else np.moveaxis(piece, 1, 3)
        found.append(resized(np.ascontiguousarray(rows[..., ::-1] if blue_first else rows), pixels))
    return np.concatenate(found)


def decoded(where: str, texts: Iterable[bytes], pixels: tuple[int, int], blue_first: bool = False) -> np.ndarray:
    """JPEG or PNG pictures as uint8 [T, H, W, 3], RGB and brought to a size. Raises SakiyomiError for what is none,
    and for pictures of several sizes."""
    found = []
    for number, content in enumerate(texts):
        frame = np.asarray(picture(f"{where}, picture {number},", content))
        found.append(frames_of([frame[None]], pixels, blue_first)[0])
        if found[-1].shape != found[0].shape:
            raise SakiyomiError(
                f"{where}, picture {number} is {found[-1].shape[:2]}, the first one {found[0].shape[:2]} pixels; "
                "bring them to one size with --pixels HEIGHT WIDTH"
            )
    if not found:
        raise SakiyomiError(f"{where} holds no picture")
    return np.stack(found)


def one_length(where: str, tracks: dict[str, Track]) -> None:
    """Raises SakiyomiError unless all are as long."""
    lengths = {name: len(track.values) for name, track in tracks.items()}
    if len({*lengths.values()}) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise SakiyomiError(f"{where}: its streams differ in length: {told}; make the file anew")


def damaged(error: SakiyomiError) -> Content:
    """What reads an episode that is known to be damaged."""
    raise error
