"""Decoded messages of robots - ROS 2, protobuf or JSON - as pictures, joint angles and rows of numbers.

    parts = parts_of("sensor_msgs/msg/JointState", message)     # what it holds, by part
    stamp = stamp_of(message)                                   # nanoseconds of its header, or None

A message is known by the last word of its schema's name, which ROS and Foxglove share: Image and RawImage, Compressed-
Image, JointState. Of any other, all numbers in it are taken, each named by its path in the message.
"""

import array
import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sakiyomi.data.episodes import Kind
from sakiyomi.data.formats.importing import picture
from sakiyomi.errors import SakiyomiError

CHANNELS = 4096  # numbers in one message: more is a cloud of points or a map
DEPTH = 16  # messages within messages
PIXELS = 64 * 2**20  # of one picture
DEEP = ("16", "32", "64", "mono16", "rgb16", "bgr16")  # beginnings of encodings with more than eight bits
STAMPS = ("header", "timestamp", "stamp")  # fields that say when, not what
COLOURS = {
    **{"rgb8": (3, (0, 1, 2)), "bgr8": (3, (2, 1, 0)), "8UC3": (3, (2, 1, 0))},
    **{"rgba8": (4, (0, 1, 2)), "bgra8": (4, (2, 1, 0)), "8UC4": (4, (2, 1, 0))},
    **{"mono8": (1, (0, 0, 0)), "8UC1": (1, (0, 0, 0))},
}
"""Of each encoding the bytes a pixel, and which of them are red, green and blue. OpenCV's have blue first."""


class Unreadable(SakiyomiError):
    """A kind of message that is not read; the others in its file are."""


@dataclass(frozen=True)
class Part:
    """One of the things that a message says."""

    values: np.ndarray
    """Pictures uint8 [H, W, 3], RGB; numbers float64 [C]."""
    kind: Kind = "scalar"
    names: tuple[str, ...] = ()
    unit: str = ""


def parts_of(schema: str, message: Any) -> dict[str, Part]:
    """What a message holds: under "" the thing itself, of joints also "velocity" and "effort".

    Raises Unreadable for kinds that are not read, and SakiyomiError for a message that is damaged.
    """
    what = schema.replace(".", "/").rpartition("/")[2]
    if what in ("Image", "RawImage"):
        return {"": Part(raw_picture(message), "image", (), "RGB 0..255")}
    if what == "CompressedImage":
        return {"": Part(encoded_picture(message), "image", (), "RGB 0..255")}
    if what == "JointState":
        return joint_state(message)
    if what == "CompressedVideo":
        raise Unreadable("video inside messages is not read; record pictures, or export the video beside the file")
    names, values = [], []
    for name, value in leaves(message):
        names.append(name)
        values.append(value)
        if len(names) > CHANNELS:
            raise Unreadable(f"more than {CHANNELS} numbers in a message")
    if not names:
        raise Unreadable("no numbers in it")
    kind: Kind = "pose" if "Pose" in what or "Transform" in what else "scalar"
    return {"": Part(np.array(values, np.float64), kind, tuple(names))}


def joint_state(message: Any) -> dict[str, Part]:
    """Position, and velocity and effort where they are given, of each joint by its name."""
    names = tuple(str(name) for name in listed(field_of(message, "name")))
    found: dict[str, Part] = {}
    for part, field in (("", "position"), ("velocity", "velocity"), ("effort", "effort")):
        values = [float(value) for value in listed(field_of(message, field))]
        if values and len(values) != len(names):
            raise SakiyomiError(f"{len(names)} names of joints with {len(values)} of {field}")
        if values:
            found[part] = Part(np.array(values), "joints" if field == "position" else "scalar", names)
    if not found:
        raise Unreadable("neither position nor velocity nor effort in it")
    return found


def raw_picture(message: Any) -> np.ndarray:
    """uint8 [H, W, 3], RGB, of rows of pixels. Raises Unreadable for encodings of more than eight bits, and others."""
    encoding = str(field_of(message, "encoding"))
    if encoding not in COLOURS:
        raise Unreadable(f"pictures encoded as {encoding[:40]!r} are not read; {', '.join(COLOURS)} are")
    count, order = COLOURS[encoding]
    height, width, step = (whole(field_of(message, name)) for name in ("height", "width", "step"))
    content = blob(field_of(message, "data"))
    step = step or width * count
    if not 0 < height * width <= PIXELS or step < width * count or len(content) < (height - 1) * step + width * count:
        raise SakiyomiError(
            f"a picture of {height} x {width} {encoding}, {step} bytes a row, has {len(content)} bytes; it is damaged"
        )
    rows = np.frombuffer(content + bytes(max(0, height * step - len(content))), np.uint8)[: height * step]
    pixels = rows.reshape(height, step)[:, : width * count].reshape(height, width, count)
    return np.ascontiguousarray(pixels[..., list(order)])


def encoded_picture(message: Any) -> np.ndarray:
    """uint8 [H, W, 3], RGB, of a JPEG or PNG."""
    told = str(field_of(message, "format"))[:60]
    if "compressedDepth" in told or told.startswith(DEEP):
        raise Unreadable(f"pictures in the format {told!r} are not read; JPEG and PNG are")
    image = picture("a picture", blob(field_of(message, "data")))
    if image.width * image.height > PIXELS:
        raise SakiyomiError(f"a picture of {image.width} x {image.height}; it is damaged")
    return np.asarray(image)


def stamp_of(message: Any) -> int | None:
    """Nanoseconds of the message's own stamp, in ROS's header or Foxglove's timestamp; None where it is 0 or none."""
    stamp = field_of(field_of(message, "header"), "stamp")
    stamp = field_of(message, "timestamp") if stamp is None else stamp
    seconds = next((found for key in ("sec", "seconds") if (found := field_of(stamp, key)) is not None), None)
    parts = (field_of(stamp, key) for key in ("nanosec", "nsec", "nanos"))
    nanoseconds = next((found for found in parts if found is not None), 0)
    try:
        return int(seconds) * 10**9 + int(nanoseconds) or None if seconds is not None else None
    except (TypeError, ValueError, OverflowError):
        return None


def leaves(message: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, float]]:
    """Every number in a message with its path, such as pose.position.x or data[3]; texts and bytes are passed over."""
    if isinstance(message, (bool, int, float, np.number)):
        yield path, float(message)
    elif isinstance(message, (str, bytes, bytearray, memoryview)) or message is None:
        return
    elif depth > DEPTH:
        raise Unreadable(f"messages in messages, more than {DEPTH} deep")
    elif (names := fields_of(message)) is not None:
        for name in names:
            if depth or name not in STAMPS:
                yield from leaves(field_of(message, name), f"{path}.{name}" if path else name, depth + 1)
    elif isinstance(message, (Sequence, array.array)) or hasattr(message, "__len__"):
        if len(message) > CHANNELS:
            raise Unreadable(f"a list of {len(message)} in a message")
        for number, value in enumerate(message):
            yield from leaves(value, f"{path}[{number}]", depth + 1)


def fields_of(message: Any) -> list[str] | None:
    """The names of a message's fields; None of what is no message."""
    if isinstance(message, Mapping):
        return [str(name) for name in message]
    if hasattr(message, "DESCRIPTOR"):  # protobuf
        return [field.name for field in message.DESCRIPTOR.fields]
    if hasattr(message, "__slots__") and hasattr(message, "_type"):  # ROS
        return list(message.__slots__)
    return None


def field_of(message: Any, name: str) -> Any:
    """One field, or None."""
    if isinstance(message, Mapping):
        return message.get(name)
    return getattr(message, name, None) if name in (fields_of(message) or ()) else None


def listed(values: Any) -> list[Any]:
    """A repeated field as a list; of nothing, an empty one."""
    if values is None:
        return []
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        raise SakiyomiError(f"expected a list of joints, got {str(values)[:40]!r}")
    return list(values)


def whole(value: Any) -> int:
    return int(value) if isinstance(value, (int, float)) and 0 <= value < 2**31 else 0


def blob(value: Any) -> bytes:
    """The bytes of a picture; in JSON they are text in base64."""
    try:
        if isinstance(value, str):
            return base64.b64decode(value, validate=True)
        return bytes(value) if value is not None else b""
    except (TypeError, ValueError, binascii.Error) as error:
        raise SakiyomiError(f"its data are no bytes: {error}") from error
