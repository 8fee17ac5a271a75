"""MCAP files: every kind of message that robots record, each topic with its own clock, and files that are damaged."""

import base64
import json
import random
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.writer import CompressionType
from mcap.writer import Writer as PlainWriter
from mcap_protobuf.writer import Writer as ProtobufWriter
from mcap_ros2.writer import Writer
from PIL import Image

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.formats import mcap
from sakiyomi.data.formats.mcap import Mcap
from sakiyomi.data.formats.messages import raw_picture
from sakiyomi.errors import SakiyomiError

BEGIN = 1_700_000_000_000_000_000  # ns
LINE = "=" * 80
HEADER = f"""{LINE}
MSG: std_msgs/Header
builtin_interfaces/Time stamp
string frame_id
{LINE}
MSG: builtin_interfaces/Time
int32 sec
uint32 nanosec
"""
JOINTS = f"std_msgs/Header header\nstring[] name\nfloat64[] position\nfloat64[] velocity\nfloat64[] effort\n{HEADER}"
PICTURE = (
    "std_msgs/Header header\nuint32 height\nuint32 width\nstring encoding\nuint8 is_bigendian\nuint32 step\n"
    f"uint8[] data\n{HEADER}"
)
COMPRESSED = f"std_msgs/Header header\nstring format\nuint8[] data\n{HEADER}"
POINT = f"{LINE}\nMSG: geometry_msgs/Point\nfloat64 x\nfloat64 y\nfloat64 z\n"
POSE = f"geometry_msgs/Point position\nfloat64[2] extra\n{POINT}"
CLOUD = "float32[] ranges\nstring name\n"


def header(nanoseconds: int) -> dict[str, Any]:
    return {"stamp": {"sec": nanoseconds // 10**9, "nanosec": nanoseconds % 10**9}, "frame_id": "base"}


def frames(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 6, 8, 3), dtype=np.uint8)


def coded(frame: np.ndarray, form: str) -> bytes:
    content = BytesIO()
    Image.fromarray(frame).save(content, form)
    return content.getvalue()


def write(path: Path, seed: int = 0, compression: CompressionType = CompressionType.ZSTD, ahead: int = 0) -> Path:
    """Joints at 100 Hz, one camera at 30 Hz raw and one as PNG at 15 Hz, poses without a header, and what is left out.

    `ahead` is how far, in ns, the headers' clock is before the recorder's.
    """
    random_ = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        writer = Writer(file, compression=compression, chunk_size=4000)
        schemas = {
            name: writer.register_msgdef(name, text)
            for name, text in {
                "sensor_msgs/msg/JointState": JOINTS,
                "sensor_msgs/msg/Image": PICTURE,
                "sensor_msgs/msg/CompressedImage": COMPRESSED,
                "my_msgs/msg/HandPose": POSE,
                "my_msgs/msg/Scan": CLOUD,
            }.items()
        }

        def send(topic: str, kind: str, message: dict[str, Any], stamp: int, log: int) -> None:
            schema = next(value for name, value in schemas.items() if name.endswith(f"/{kind}"))
            writer.write_message(topic, schema, message, log + BEGIN, log + BEGIN)

        angles = random_.normal(size=(20, 3))
        for n, row in enumerate(angles):
            stamp = n * 10_000_000
            names, values = ["c", "a", "b"], row.tolist()
            if n % 2:  # the same joints in another order
                names, values = names[::-1], values[::-1]
            message = {"header": header(BEGIN + stamp + ahead), "name": names, "position": values}
            message |= {"velocity": [value * 2 for value in values], "effort": [float("nan")] * 3}
            send("/joint_states", "JointState", message, stamp, stamp + 500_000)
            told = {"header": header(BEGIN + stamp + ahead), "name": ["c", "a", "b"], "position": (row + 1).tolist()}
            told["velocity"] = [float(n)] * 3
            send("/arm/command", "JointState", told, stamp, stamp + 500_000)
        for n, frame in enumerate(frames(seed, 6)):
            message = {"header": header(BEGIN + n * 33_000_000 + ahead), "height": 6, "width": 8, "encoding": "bgr8"}
            message |= {"step": 24, "data": frame[..., ::-1].tobytes(), "is_bigendian": 0}
            send("/wrist/image_raw", "Image", message, 0, n * 33_000_000)
        for n, frame in enumerate(frames(seed + 1, 3)):
            message = {"header": header(BEGIN + n * 66_000_000 + ahead), "format": "png", "data": coded(frame, "PNG")}
            send("/front/compressed", "CompressedImage", message, 0, n * 66_000_000)
        for n in range(5):
            pose = {"position": {"x": n, "y": 2.0 * n, "z": 0.5}, "extra": [1.0, -n]}
            send("/hand", "HandPose", pose, 0, n * 40_000_000)
            send("/scan", "Scan", {"ranges": [0.0] * (n + 1), "name": "x"}, 0, n * 40_000_000)
        send("/once", "HandPose", {"position": {}, "extra": [0.0, 0.0]}, 0, 0)
        writer.finish()
    return path


@pytest.mark.parametrize("compression", list(CompressionType))
def test_every_topic_is_a_stream_with_its_own_clock(
    tmp_path: Path, compression: CompressionType, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in" / "take_1.mcap", 1, compression)
    write(tmp_path / "in" / "deep" / "take_2.mcap", 2, compression)
    source = Mcap(str(tmp_path / "in"), camera="/front/compressed", command="/arm/command")
    store = source.record(tmp_path / "store")
    assert [(e.id, e.split) for e in store.entries] == [("take_1", "train"), ("deep-take_2", "validation")]
    for id, seed in (("take_1", 1), ("deep-take_2", 2)):
        angles = np.random.default_rng(seed).normal(size=(20, 3))
        np.testing.assert_array_equal(store.values(id, "joints"), angles)
        np.testing.assert_array_equal(store.values(id, "velocity"), angles * 2)
        np.testing.assert_array_equal(store.values(id, "command"), angles + 1)
        np.testing.assert_array_equal(store.times(id, "joints"), np.arange(20) * 10_000_000 / 1e9)
        np.testing.assert_array_equal(store.values(id, "wrist_image_raw"), frames(seed, 6))
        np.testing.assert_array_equal(store.times(id, "wrist_image_raw"), np.arange(6) * 33_000_000 / 1e9)
        np.testing.assert_array_equal(store.values(id, "image"), frames(seed + 1, 3))
        expected = [[n, 2.0 * n, 0.5, 1.0, -n] for n in range(5)]
        np.testing.assert_array_equal(store.values(id, "hand"), expected)
    assert store.streams["joints"].names == ("c", "a", "b")
    assert store.streams["hand"].names == ("position.x", "position.y", "position.z", "extra[0]", "extra[1]")
    assert {name: stream.kind for name, stream in store.streams.items()} == {
        **{"joints": "joints", "command": "joints", "velocity": "scalar", "arm_command_velocity": "scalar"},
        **{"image": "image", "wrist_image_raw": "image", "hand": "pose"},
    }
    left_out = store.entries[0].meta["left_out"]
    assert set(left_out) == {"/joint_states effort", "/scan", "/once"}
    assert "differ" in left_out["/scan"]
    assert capsys.readouterr().out.count("/scan: left out, its messages differ") == 1  # of two files


def test_the_times_of_recording_instead_of_headers(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mcap", ahead=-5_000_000_000)
    with pytest.raises(SakiyomiError, match=r"the clocks of its topics differ: .*--clock log"):
        Mcap(str(path)).record(tmp_path / "store")
    store = Mcap(str(path), clock="log").record(tmp_path / "store")
    np.testing.assert_allclose(store.times("a", "joints"), np.arange(20) / 100 + 0.0005, atol=1e-12)
    only = Mcap(str(path), topics=("/joint_states", "/front/compressed")).record(tmp_path / "only")
    assert set(only.streams) == {"joints", "velocity", "image"}  # of one clock, so their headers do


def test_any_numbers_may_be_the_joints(tmp_path: Path) -> None:
    store = Mcap(str(write(tmp_path / "a.mcap")), joints="/hand").record(tmp_path / "store")
    assert (store.streams["joints"].kind, store.streams["joints"].shape) == ("joints", (5,))
    assert store.streams["joint_states"].kind == "joints"


def test_messages_with_one_stamp_are_one(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    with path.open("wb") as file:
        writer = Writer(file)
        schema = writer.register_msgdef("my_msgs/msg/HandPose", POSE)
        for n, log in enumerate((30, 10, 10, 20)):
            message = {"position": {"x": n, "y": 0.0, "z": 0.0}, "extra": [0.0, 0.0]}
            writer.write_message("/hand", schema, message, log * 10**6, log * 10**6)
        writer.finish()
    store = Mcap(str(path)).record(tmp_path / "store")
    np.testing.assert_array_equal(store.values("a", "hand")[:, 0], [1, 3, 0])
    np.testing.assert_array_equal(store.times("a", "hand"), [0.0, 0.01, 0.02])
    assert store.entries[0].meta["repeated_stamps"] == {"/hand": 1}


def protobuf_messages() -> dict[str, Any]:
    """foxglove.RawImage and a message of numbers, as a file of definitions would make them."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="test.proto", package="foxglove", syntax="proto3")
    plain = {"width": field.TYPE_FIXED32, "height": field.TYPE_FIXED32, "encoding": field.TYPE_STRING}
    plain |= {"step": field.TYPE_FIXED32, "data": field.TYPE_BYTES}
    kinds = {
        "Stamp": {"seconds": field.TYPE_INT64, "nanos": field.TYPE_INT32},
        "RawImage": plain,
        "Force": {"x": field.TYPE_DOUBLE, "on": field.TYPE_BOOL, "label": field.TYPE_STRING},
    }
    for name, fields in kinds.items():
        message = file.message_type.add(name=name)
        for number, (key, kind) in enumerate(fields.items(), 1):
            message.field.add(name=key, number=number, type=kind, label=field.LABEL_OPTIONAL)
        if name != "Stamp":
            message.field.add(
                name="timestamp", number=20, type=field.TYPE_MESSAGE, label=1, type_name=".foxglove.Stamp"
            )
    force = file.message_type[2]
    force.field.add(name="torque", number=9, type=field.TYPE_FLOAT, label=field.LABEL_REPEATED)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"foxglove.{name}")) for name in kinds}


def test_protobuf_and_json(tmp_path: Path) -> None:
    made = protobuf_messages()
    with (tmp_path / "proto.mcap").open("wb") as file:
        writer = ProtobufWriter(file)
        for n, frame in enumerate(frames(5, 4)):
            stamp = made["Stamp"](seconds=BEGIN // 10**9, nanos=n * 10**8)
            fields = {"width": 8, "height": 6, "encoding": "rgb8", "step": 24, "data": frame.tobytes()}
            writer.write_message("/camera", made["RawImage"](timestamp=stamp, **fields), BEGIN, BEGIN)
            force = made["Force"](timestamp=stamp, x=n, on=bool(n % 2), label="no", torque=[0.5, n])
            writer.write_message("/force", force, BEGIN, BEGIN)
        writer.finish()
    with (tmp_path / "text.mcap").open("wb") as file:
        plain = PlainWriter(file)
        plain.start()
        schema = plain.register_schema("foxglove.CompressedImage", "jsonschema", b'{"type": "object"}')
        topics = {"/camera": schema, "/force": 0}
        channels = {name: plain.register_channel(name, "json", id) for name, id in topics.items()}
        for n, frame in enumerate(frames(6, 4)):
            stamp = {"sec": BEGIN // 10**9, "nsec": n * 10**8}
            picture = {"timestamp": stamp, "format": "png", "data": base64.b64encode(coded(frame, "PNG")).decode()}
            force = {"timestamp": stamp, "x": n, "on": n % 2 == 1, "label": "no", "torque": [0.5, n]}
            for name, message in (("/camera", picture), ("/force", force)):
                plain.add_message(channels[name], BEGIN, json.dumps(message).encode(), BEGIN)
        plain.finish()
    store = Mcap(str(tmp_path)).record(tmp_path / "store")
    for id, seed in (("proto", 5), ("text", 6)):
        np.testing.assert_array_equal(store.values(id, "image"), frames(seed, 4))
        np.testing.assert_array_equal(store.values(id, "force"), [[n, n % 2, 0.5, n] for n in range(4)])
        np.testing.assert_allclose(store.times(id, "force"), np.arange(4) / 10)
    assert store.streams["force"].names == ("x", "on", "torque[0]", "torque[1]")


class Raw:
    """A raw picture as a message of ROS: __slots__ and _type make it one."""

    __slots__ = ("data", "encoding", "height", "step", "width")
    _type = "sensor_msgs/Image"

    def __init__(self, **fields: Any) -> None:
        for name, value in fields.items():
            setattr(self, name, value)


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8", "8UC1", "8UC3", "8UC4"])
def test_raw_pictures_of_every_order_with_padded_rows(encoding: str) -> None:
    truth = frames(0, 1)[0]
    if encoding in ("mono8", "8UC1"):
        truth[:] = truth[..., :1]
    stored = truth[..., :1] if encoding in ("mono8", "8UC1") else truth
    stored = stored if encoding.startswith("rgb") or stored.shape[2] == 1 else stored[..., ::-1]
    if encoding.endswith(("a8", "C4")):
        stored = np.concatenate((stored, np.full((6, 8, 1), 7, np.uint8)), 2)
    rows = stored.reshape(6, -1)
    padded = np.concatenate((rows, np.full((6, 5), 9, np.uint8)), 1)
    content = padded.tobytes()[:-5]  # the last row may end with its pixels
    message = Raw(data=content, encoding=encoding, height=6, width=8, step=padded.shape[1])
    np.testing.assert_array_equal(raw_picture(message), truth)
    with pytest.raises(SakiyomiError, match="it is damaged"):
        raw_picture(Raw(data=content[:-1], encoding=encoding, height=6, width=8, step=padded.shape[1]))


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"camera": "/frnt/compressed"}, "unknown topic '/frnt/compressed': did you mean '/front/compressed'"),
        ({"joints": "/scan"}, "/scan cannot be read: its messages differ"),
        ({"topics": ("/scan",)}, "/scan cannot be read: its messages differ"),
        ({"topics": ("/no",)}, "unknown topic '/no'"),
        ({"validation": -1.0}, "--validation is -1"),
    ],
)
def test_what_was_asked_for_and_is_not_there(tmp_path: Path, made: dict[str, Any], words: str) -> None:
    with pytest.raises(SakiyomiError, match=words):
        Mcap(str(write(tmp_path / "a.mcap")), **made).record(tmp_path / "store")


def test_no_other_file_is_read_if_the_first_has_not_what_was_asked_for(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / "in" / f"{number}.mcap", number)
    read: list[int] = []
    with pytest.raises(SakiyomiError, match=r"0\.mcap: unknown topic '/no'") as told:
        Mcap(str(tmp_path / "in"), camera="/no").record(tmp_path / "store", lambda done, total: read.append(done))
    assert "1.mcap" not in str(told.value)
    assert not read
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("form", ["16UC1; png compressed ", "32FC1; compressedDepth png", "mono16; png compressed"])
def test_compressed_depth_is_left_out_and_told(tmp_path: Path, form: str) -> None:
    depth = coded(np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000, "PNG")
    with (tmp_path / "a.mcap").open("wb") as file:
        writer = Writer(file)
        pictures = writer.register_msgdef("sensor_msgs/msg/CompressedImage", COMPRESSED)
        joints = writer.register_msgdef("sensor_msgs/msg/JointState", JOINTS)
        for n in range(3):
            about = {"header": header(BEGIN + n * 10**8)}
            writer.write_message("/depth", pictures, {**about, "format": form, "data": depth}, BEGIN, BEGIN)
            state = {**about, "name": ["a"], "position": [float(n)], "velocity": [], "effort": []}
            writer.write_message("/joint_states", joints, state, BEGIN + n * 10**8, BEGIN + n * 10**8)
        writer.finish()
    store = Mcap(str(tmp_path / "a.mcap")).record(tmp_path / "store")
    assert sorted(store.streams) == ["joints"]
    assert "pictures in the format" in store.entries[0].meta["left_out"]["/depth"]


def test_a_file_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    assert mcap.recognises(write(tmp_path / "a.mcap"))
    assert mcap.recognises(tmp_path)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "b.mcap").write_bytes(b"text")
    assert not any(mcap.recognises(tmp_path / name) for name in ("b", "b/b.mcap", "nowhere"))
    with pytest.raises(SakiyomiError, match="cannot be read as MCAP"):
        Mcap(str(tmp_path / "b")).record(tmp_path / "store")


def test_a_file_that_is_cut_off_costs_itself(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.mcap", 1)
    broken = write(tmp_path / "in" / "b.mcap", 2)
    broken.write_bytes(broken.read_bytes()[:-50])
    with pytest.raises(SakiyomiError, match=r"1 damaged and left out: .*b\.mcap cannot be read as MCAP.*mcap recover"):
        Mcap(str(tmp_path / "in")).record(tmp_path / "store")
    assert [e.id for e in EpisodeStore(tmp_path / "store").entries] == ["a"]


def test_a_chunk_that_would_fill_the_memory_is_not_unpacked(tmp_path: Path) -> None:
    bomb = zstandard.compress(bytes(50_000_000))
    inside = bytes([0x28, 0xB5, 0x2F, 0xFD, 0xE0]) + (2**40).to_bytes(8, "little") + bomb[9:]  # says 1 TB
    path = tmp_path / "a.mcap"
    body = (0).to_bytes(8, "little") * 2 + (2**31 - 1).to_bytes(8, "little") + bytes(4) + (4).to_bytes(4, "little")
    body += b"zstd" + len(inside).to_bytes(8, "little") + inside
    head = b"\x01" + (8).to_bytes(8, "little") + bytes(8)
    path.write_bytes(mcap.MAGIC + head + b"\x06" + len(body).to_bytes(8, "little") + body)
    with pytest.raises(SakiyomiError, match="claims to hold 1099511627776 bytes"):
        Mcap(str(path)).record(tmp_path / "store")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, ...]:
    folder = tmp_path_factory.mktemp("sound")
    kinds = (CompressionType.NONE, CompressionType.ZSTD, CompressionType.LZ4)
    return tuple(write(folder / f"{kind.name}.mcap", 0, kind).read_bytes() for kind in kinds)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), which=st.integers(0, 2), cut=st.booleans())
def test_damaged_files_are_errors_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, sound: tuple[bytes, ...], seed: int, which: int, cut: bool
) -> None:
    chance, whole = random.Random(seed), sound[which]
    spoiled = bytearray(whole[: chance.randrange(len(whole))] if cut else whole)
    for _ in range(0 if cut else chance.choice((1, 1, 5))):
        spoiled[chance.randrange(len(spoiled))] ^= 1 << chance.randrange(8)
    path = tmp_path_factory.mktemp("spoiled") / "a.mcap"
    path.write_bytes(spoiled)
    told = ""
    try:
        assert len(Mcap(str(path)).read(path).tracks["joints"].values) == 20  # what was hit is not read
    except SakiyomiError as error:
        told = str(error)
    assert not told or (str(path) in told and "\n" not in told)
