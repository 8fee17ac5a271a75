"""Video files: read with the stamp of each frame, and written whole or not at all. Needs the extra `sakiyomi[formats]`.

    film = read_video(Path("episode.mp4"))          # film.frames uint8 [T, H, W, 3], film.times float64 [T]
    write_video(Path("again.mp4"), film.frames, film.rate)
    write_video(Path("exact.mkv"), film.frames, film.rate, codec="ffv1")    # not a bit is lost

A file that is cut off, or that its decoder complains of, is an error, never a film with some frames missing or made up;
but videos have no checksums: a bit that changed may be another picture. Stamps are those of the container: mp4
keeps n / rate to the last bit of float64 for usual rates, mkv rounds to a millisecond.
"""

import errno
import itertools
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sakiyomi.data.formats.importing import foreign, library
from sakiyomi.errors import SakiyomiError, unknown
from sakiyomi.files import whole_file

LARGEST = 64 * 2**20  # pixels of one frame: more is a damaged header
REORDERED = 16  # frames that may stand in a file before one that is shown earlier: more no codec allows
CODECS = {"h264": "libx264", "av1": "libsvtav1", "ffv1": "ffv1"}
"""What can be written, and the encoder it is written by."""
QUALITY = {"h264": 5, "av1": 12, "ffv1": 0}
"""The rate factor if none is asked for: smaller is better, and makes larger files."""


@dataclass(frozen=True)
class Film:
    """Some consecutive frames of a video."""

    frames: np.ndarray  # uint8 [T, H, W, 3], RGB
    times: np.ndarray  # float64 [T], s: when each is to be shown, by the container
    rate: float  # Hz, nominal


@dataclass(frozen=True)
class VideoInfo:
    """What the header of a video says; `frames` is counted where it does not."""

    frames: int
    rate: float  # Hz, nominal
    width: int
    height: int
    codec: str  # as libav calls it: h264, av1, ffv1 ...
    pixels: str  # how it keeps them, as libav calls it: yuv420p, yuv444p ...


def read_video(path: Path, start: float = 0.0, count: int = 0) -> Film:
    """The frames from `start` (seconds, by their stamps) on, `count` of them or, if 0, all.

    The first is the one nearest to `start`. Raises SakiyomiError when the file is damaged anywhere up to the last frame
    asked for, has no pictures, or ends before `count` frames.
    """
    if not 0 <= start < math.inf or count < 0:
        raise SakiyomiError(f"{path}: frames from {start} s, {count} of them; both must be numbers of at least 0")
    frames, times = [], []
    with _opened(path) as (container, stream):
        rate = _rate(path, stream)
        for time, frame in itertools.islice(_decoded(path, container, stream, start - 0.5 / rate), count or None):
            frames.append(_upright(path, frame))
            times.append(time)
    if not frames or len(frames) < count:
        raise SakiyomiError(
            f"{path} has {len(frames)} frames from {start:g} s on, {count or 'at least 1'} expected; it is cut off"
        )
    return Film(_stack(path, frames), np.array(times), rate)


def frames_at(path: Path, times: np.ndarray, pixels: tuple[int, int] = (0, 0)) -> np.ndarray:
    """The frame that is shown at each of these times [T] (seconds, rising), uint8 [T, H, W, 3]; `pixels` as `resized`.

    Raises SakiyomiError when the nearest frame is half a frame or more away, and what `read_video` raises. All of the
    file is not in memory: frames are brought to `pixels` one by one.
    """
    if not len(times) or not np.isfinite(times).all() or (np.diff(times) < 0).any() or times[0] < 0:
        raise SakiyomiError(f"{path}: times of frames must be rising numbers of at least 0, at least one")
    chosen: list[np.ndarray] = []
    with _opened(path) as (container, stream):
        apart = 0.5 / _rate(path, stream)
        shown = itertools.chain(_decoded(path, container, stream, float(times[0]) - apart), [(math.inf, None)])
        for (time, frame), (following, _) in itertools.pairwise(shown):
            nearer = (time + following) / 2
            while len(chosen) < len(times) and times[len(chosen)] <= nearer and frame is not None:
                if abs(times[len(chosen)] - time) >= apart:
                    break
                chosen.append(resized(_upright(path, frame)[None], pixels)[0])
            if len(chosen) == len(times) or times[len(chosen)] <= nearer:
                break
    if len(chosen) < len(times):
        raise SakiyomiError(
            f"{path} has no frame at {times[len(chosen)]:g} s, number {len(chosen)} of {len(times)} that are wanted; "
            "is it the right file, and whole?"
        )
    return _stack(path, chosen)


def video_info(path: Path) -> VideoInfo:
    """What a video is, from its header; where that has no number of frames they are counted, without decoding.

    Raises SakiyomiError when it cannot be read as a video.
    """
    with _opened(path) as (container, stream):
        context = stream.codec_context
        count = stream.frames or sum(1 for packet in container.demux(stream) if packet.size)
        codec, pixels = context.codec.canonical_name, context.pix_fmt or "unknown"
        return VideoInfo(count, _rate(path, stream), context.width, context.height, codec, pixels)


def write_video(
    path: Path,
    frames: np.ndarray | Iterable[np.ndarray],
    rate: float,
    codec: str = "h264",
    quality: int = -1,
    keyframes: int = 0,
) -> None:
    """Write frames uint8 [T, H, W, 3], RGB, one every 1 / `rate` s; an iterator of frames may be longer than memory.

    codec: h264 or av1 for .mp4, with `quality` the rate factor (-1: `QUALITY`; smaller is better); ffv1 for .mkv, where
        nothing is lost. h264 keeps colour at full resolution, which av1's encoder cannot: at these
        factors real pictures of 64 x 64 come back at 45 and 35 dB, of 224 x 224 at 47 and 37 dB.
    keyframes: one at least every so many frames; 0 leaves it to the encoder.
    Raises SakiyomiError for frames of another type or size, for none, or when the disk refuses.
    """
    if codec not in CODECS:
        raise unknown("video codec", codec, CODECS)
    if not 0 < rate < math.inf:
        raise SakiyomiError(f"{path}: rate is {rate}; it must be a number of frames a second above 0")
    av = library("av", "formats")
    given = iter(frames)
    first = next(given, None)
    if first is None:
        raise SakiyomiError(f"{path}: there are no frames to write")
    form = "matroska" if path.suffix == ".mkv" else "mp4"
    with whole_file(path) as temporary, _told(path), av.open(str(temporary), "w", format=form) as container:
        stream = container.add_stream(CODECS[codec], rate=Fraction(rate).limit_denominator(100_000))
        _configure(stream, codec, QUALITY[codec] if quality < 0 else quality, keyframes, first.shape)
        for number, frame in enumerate(itertools.chain([first], given)):
            if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape != (*first.shape[:2], 3):
                raise SakiyomiError(
                    f"{path}: frame {number} is {frame.dtype} {list(frame.shape)}; expected uint8 "
                    f"{[*first.shape[:2], 3]}, as the first"
                )
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def join_videos(parts: Sequence[Path], path: Path) -> None:
    """Put videos that were written alike, with `keyframes`, one after the other, without coding them anew: frame 0 of
    each follows the last of the one before by one frame's time. Raises SakiyomiError when one cannot be read, or they
    differ."""
    av = library("av", "formats")
    with whole_file(path) as temporary, _told(path), av.open(str(temporary), "w", format="mp4") as container:
        out, first, passed, last = None, None, 0, -math.inf
        for part in parts:
            with _opened(part) as (source, stream):
                context = stream.codec_context
                kind = (context.name, context.width, context.height, context.extradata, stream.average_rate)
                if out is None:
                    out, first = container.add_stream_from_template(stream, opaque=True), kind
                if kind != first:
                    raise SakiyomiError(f"{part} is coded otherwise than {parts[0]}; videos of one kind can be joined")
                for packet in source.demux(stream):
                    if packet.dts is None:  # the end
                        continue
                    packet.stream = out
                    begun = round(passed / stream.average_rate / packet.time_base)
                    packet.pts, packet.dts = packet.pts + begun, packet.dts + begun
                    if packet.dts <= last:
                        raise SakiyomiError(f"{part} has frames that wait for others; write it with keyframes")
                    last = packet.dts
                    container.mux(packet)
                passed += stream.frames


def resized(frames: np.ndarray, pixels: tuple[int, int]) -> np.ndarray:
    """Frames uint8 [T, H, W, 3] brought to a height and width; (0, 0) returns them as they are.

    Smaller ones are means over areas (BOX), larger ones LANCZOS, without regard to their proportions.
    """
    if pixels == (0, 0) or frames.shape[1:3] == pixels:
        return frames
    if min(pixels) < 1:
        raise SakiyomiError(f"pixels {pixels[0]} {pixels[1]}: both must be at least 1, or 0 0 to keep them")
    smaller = pixels[0] <= frames.shape[1] and pixels[1] <= frames.shape[2]
    how = Image.Resampling.BOX if smaller else Image.Resampling.LANCZOS
    return np.stack([np.asarray(Image.fromarray(frame).resize((pixels[1], pixels[0]), how)) for frame in frames])


def _configure(stream: Any, codec: str, quality: int, keyframes: int, shape: tuple[int, ...]) -> None:
    stream.height, stream.width = shape[:2]
    # Half the colour resolution costs a small picture more than the encoder does; svtav1 knows nothing else.
    stream.pix_fmt = {"h264": "yuv444p", "av1": "yuv420p", "ffv1": "bgr0"}[codec]
    options = {} if codec == "ffv1" else {"crf": str(quality)}
    if keyframes:  # for readers who draw single frames; no frame waits for a later one, so such files can be joined
        options |= {"g": str(keyframes), "bf": "0"}
    if codec == "av1":
        options["preset"] = "8"
        os.environ.setdefault("SVT_LOG", "1")  # errors only: it writes to the terminal by itself
    stream.options = options


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Around libav's writing; what the disk refuses is an OSError, and `whole_file` tells it."""
    try:
        yield
    except library("av", "formats").FFmpegError as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        raise SakiyomiError(f"{path} could not be written as a video: {error}") from error


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its first video stream. What libav raises within becomes SakiyomiError."""
    if not path.is_file():
        raise SakiyomiError(f"{path} does not exist, or is no file; name a video")
    av = library("av", "formats")
    with foreign(path, "a video"), av.open(str(path), "r", options={"protocol_whitelist": "file"}) as container:
        if not container.streams.video:
            raise SakiyomiError(f"{path} has no pictures in it; name a video")
        stream = container.streams.video[0]
        context = stream.codec_context
        if not 0 < context.width * context.height <= LARGEST:
            raise SakiyomiError(f"{path} claims pictures of {context.width} x {context.height}; it is damaged")
        context.options = {"err_detect": "crccheck+bitstream+buffer+explode"}  # rather than to make up what is missing
        stream.thread_type = "AUTO"
        yield container, stream


def _rate(path: Path, stream: Any) -> float:
    rate = stream.average_rate or stream.guessed_rate
    if not rate or not 0 < rate < 100_000:
        raise SakiyomiError(f"{path}: its header claims {rate} frames a second; it is damaged")
    return float(rate)


def _decoded(path: Path, container: Any, stream: Any, start: float) -> Iterator[tuple[float, Any]]:
    """Stamp and frame from `start` on, in the order in which they are shown."""
    frames = _sought(container, stream, start) if start > 0 else container.decode(stream)
    if frames is None:
        with _opened(path) as (again, first):
            yield from (shown for shown in _decoded(path, again, first, 0.0) if shown[0] >= start)
        return
    end, usual = 0.0, 1 / _rate(path, stream)
    for frame in frames:
        if frame.time is None or frame.is_corrupt:
            raise SakiyomiError(f"{path}: a frame {'is damaged' if frame.is_corrupt else 'has no stamp'}; make it anew")
        if frame.width * frame.height > LARGEST:
            raise SakiyomiError(f"{path} claims a picture of {frame.width} x {frame.height}; it is damaged")
        end = frame.time + max(usual, float(frame.duration * frame.time_base))
        if frame.time >= start:
            yield frame.time, frame
    told = _told_end(container, stream)
    if told - end > 0.5 * usual + 0.002:  # mkv rounds to a millisecond
        raise SakiyomiError(f"{path} ends at {end:g} s; its header says {told:g} s: it is cut off or damaged")


def _sought(container: Any, stream: Any, start: float) -> Iterator[Any] | None:
    """The frames from `start` on; None where some may be missing, and the film must be read from its beginning.

    Frames behind a key frame may need what is before it (open groups of pictures); decoders pass over these or fail.
    That none is missing is certain if the frame before `start` was decoded too.
    """
    early = start - REORDERED / float(stream.average_rate or stream.guessed_rate)
    before = False
    try:
        container.seek(int(early / stream.time_base), stream=stream)
        frames = container.decode(stream)
        for frame in frames:
            if frame.time is None or frame.is_corrupt:
                return None
            if frame.time >= start:
                return itertools.chain([frame], frames) if before else None
            before = True
    except library("av", "formats").FFmpegError:
        return None
    return None


def _upright(path: Path, frame: Any) -> np.ndarray:
    """uint8 [H, W, 3], RGB, turned as the film says: telephones that are held upright write films that lie."""
    turns, rest = divmod(frame.rotation, 90)
    if rest:
        raise SakiyomiError(f"{path} is to be shown turned by {frame.rotation} degrees; convert it to an upright one")
    picture = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture


def _told_end(container: Any, stream: Any) -> float:
    """When the video ends by its header, s; 0 where it does not say."""
    if stream.duration is not None:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
    if container.duration is not None and len(container.streams) == 1:
        return ((container.start_time or 0) + container.duration) / 1e6
    return 0.0


def _stack(path: Path, frames: list[np.ndarray]) -> np.ndarray:
    if any(frame.shape != frames[0].shape for frame in frames):
        raise SakiyomiError(f"{path}: its frames change their size on the way; convert it to one size")
    return np.stack(frames)
