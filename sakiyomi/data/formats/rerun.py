"""Recordings for the Rerun viewer: an .rrd file an episode. Written, not read.

    sakiyomi prepare export rerun data/pick --out viewed
    rerun viewed/*.rrd

Each stream of pictures is an entity, as PNG, so nothing is lost; of each other stream every channel is one, `joints/
shoulder`. All lie on the timeline `time`, in seconds (the viewer keeps nanoseconds), each stream with its own clock.
Needs the extra `sakiyomi[rerun]`; written with rerun-sdk, which reads files of its own and of some earlier versions.
"""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sakiyomi.data.episodes import Entry, EpisodeStore, Stream
from sakiyomi.data.formats.importing import foreign, library
from sakiyomi.errors import SakiyomiError
from sakiyomi.files import whole_file

TIMELINE = "time"
MOST = 1024  # channels of a stream: more is no curve to be looked at
ROWS = 256  # pictures that are handed over at once


def write_rerun(store: EpisodeStore, out: Path) -> None:
    """Write `out/ID.rrd` of each episode; of a store with one episode, and a name that ends in .rrd, that file.

    Raises SakiyomiError when nothing in the store can be shown, and when a file cannot be written.
    """
    shown = {name: stream for name, stream in store.streams.items() if is_picture(stream) or is_curves(stream)}
    if not shown:
        told = ", ".join(f"{name} ({stream.kind} {list(stream.shape)})" for name, stream in store.streams.items())
        raise SakiyomiError(f"{store.place} holds {told}; pictures and rows of numbers can be shown")
    single = out.suffix == ".rrd"
    if single and len(store.entries) > 1:
        raise SakiyomiError(f"{store.place} has {len(store.entries)} episodes, each a file; let --out be a folder")
    for entry in store.entries:
        _write_episode(store, entry, shown, out if single else out / f"{entry.id}.rrd")


def is_picture(stream: Stream) -> bool:
    return stream.dtype == "uint8" and len(stream.shape) == 3 and stream.shape[2] in (1, 3)


def is_curves(stream: Stream) -> bool:
    """Numbers, few enough to be curves; sound is none."""
    return len(stream.shape) < 2 and stream.kind != "audio" and (stream.shape or (1,))[0] <= MOST


def channel_names(stream: Stream) -> tuple[str, ...]:
    """The names of its channels, or their numbers; none twice."""
    count = stream.shape[0] if stream.shape else 1
    fit = len(stream.names) == count == len({*stream.names}) and all(stream.names)
    return stream.names if fit else tuple(str(number) for number in range(count))


def _write_episode(store: EpisodeStore, entry: Entry, shown: dict[str, Stream], path: Path) -> None:
    rerun = library("rerun", "rerun")
    with whole_file(path) as temporary, foreign(path, "a Rerun recording to write"):
        # Named by what is in it, so that the same episode is the same recording.
        recording = rerun.RecordingStream("sakiyomi", recording_id=f"{entry.id}-{entry.sha256[:16]}")
        recording.save(temporary)
        try:
            recording.send_recording_name(entry.id)
            for name, stream in shown.items():
                times = store.times(entry.id, name)
                if is_picture(stream):
                    _send_pictures(rerun, recording, store, entry, name, times)
                else:
                    _send_curves(rerun, recording, name, stream, times, store.values(entry.id, name))
            recording.flush()
        finally:
            recording.disconnect()


def _send_pictures(rerun: Any, recording: Any, store: EpisodeStore, entry: Entry, name: str, times: np.ndarray) -> None:
    entity = rerun.new_entity_path([name])
    for start in range(0, len(times), ROWS):
        frames = store.values(entry.id, name, start, start + ROWS)
        column = rerun.TimeColumn(TIMELINE, duration=times[start : start + ROWS])
        blobs = [_png(frame) for frame in frames]
        content = rerun.EncodedImage.columns(blob=blobs, media_type=["image/png"] * len(blobs))
        recording.send_columns(entity, indexes=[column], columns=content)


def _send_curves(rerun: Any, recording: Any, name: str, stream: Stream, times: np.ndarray, values: np.ndarray) -> None:
    columns = values.reshape(len(values), -1).astype(np.float64)
    for channel, column in zip(channel_names(stream), columns.T, strict=True):
        clock = rerun.TimeColumn(TIMELINE, duration=times)
        content = rerun.Scalars.columns(scalars=np.ascontiguousarray(column))
        recording.send_columns(rerun.new_entity_path([name, channel]), indexes=[clock], columns=content)


def _png(frame: np.ndarray) -> bytes:
    content = BytesIO()
    Image.fromarray(frame if frame.shape[2] == 3 else frame[..., 0]).save(content, "PNG")
    return content.getvalue()
