"""Robot recordings in HDF5: robomimic, ACT and ALOHA, RoboManipBaselines; and files made or damaged to do harm."""

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.formats import aloha, hdf5, rmb, robomimic
from sakiyomi.data.formats.aloha import Aloha
from sakiyomi.data.formats.hdf5 import Hdf5
from sakiyomi.data.formats.rmb import Rmb
from sakiyomi.data.formats.robomimic import Robomimic
from sakiyomi.data.formats.video import write_video
from sakiyomi.errors import SakiyomiError

Values = dict[str, np.ndarray]


def pictures(seed: int, steps: int, size: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (steps, size, size, 3), dtype=np.uint8)


def numbers(seed: int, steps: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(steps, width))


def jpeg(frame: np.ndarray) -> bytes:
    content = BytesIO()
    Image.fromarray(frame).save(content, "JPEG", quality=95)
    return content.getvalue()


# ---- robomimic -------------------------------------------------------------------------------------------------------


def demo(number: int) -> Values:
    steps = 4 + number % 3
    return {
        "obs/agentview_image": pictures(number, steps),
        "obs/robot0_eye_in_hand_image": pictures(100 + number, steps),
        "obs/robot0_joint_pos": numbers(number, steps, 7),
        "obs/robot0_eef_pos": numbers(200 + number, steps, 3),
        "actions": numbers(300 + number, steps, 7).astype(np.float32),
        "rewards": numbers(400 + number, steps, 1)[:, 0],
        "dones": np.arange(steps) == steps - 1,
        "next_obs/robot0_eef_pos": numbers(500 + number, steps, 3),
    }


def write_robomimic(path: Path, count: int = 12, masks: dict[str, list[int]] | None = None) -> Path:
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Can", "env_kwargs": {"control_freq": 25}})
        for number in range(count):
            for name, values in demo(number).items():
                data.create_dataset(f"demo_{number}/{name}", data=values, compression="gzip")
        for key, demos in (masks or {}).items():
            file.create_dataset(f"mask/{key}", data=np.array([f"demo_{n}".encode() for n in demos]))
    return path


def test_every_demonstration_and_the_splits_of_the_file(tmp_path: Path) -> None:
    path = write_robomimic(tmp_path / "can.hdf5", 12, {"train": list(range(1, 10)), "valid": [0, 10]})
    store = Robomimic(str(path), camera="robot0_eye_in_hand_image").record(tmp_path / "store")
    assert [entry.id for entry in store.entries] == [f"demo_{n}" for n in range(11)]  # demo_11 is under no key
    assert [e.id for e in store.split("validation")] == ["demo_0", "demo_10"]
    for number in range(11):
        for stream, key in {
            "image": "obs/robot0_eye_in_hand_image",
            "agentview_image": "obs/agentview_image",
            "joints": "obs/robot0_joint_pos",
            "action": "actions",
            "robot0_eef_pos": "obs/robot0_eef_pos",
            "rewards": "rewards",
            "dones": "dones",
        }.items():
            expected = demo(number)[key]
            found = store.values(f"demo_{number}", stream)
            np.testing.assert_array_equal(found.reshape(expected.shape), expected)
            np.testing.assert_array_equal(store.times(f"demo_{number}", stream), np.arange(len(expected)) / 25)
    assert {store.streams[name].kind for name in ("joints", "action", "robot0_eef_pos")} == {"joints", "action", "pose"}
    assert store.entries[0].meta["task"] == "Can"
    assert "next_obs" not in " ".join(store.streams)


def test_without_filter_keys_the_last_ones_are_for_validation(tmp_path: Path) -> None:
    store = Robomimic(str(write_robomimic(tmp_path / "a.hdf5")), validation=0.2).record(tmp_path / "store")
    assert [e.id for e in store.split("validation")] == ["demo_10", "demo_11"]
    one = Robomimic(str(write_robomimic(tmp_path / "b.hdf5", 1)), pixels=(4, 6)).record(tmp_path / "one")
    assert [(e.split, one.streams["image"].shape) for e in one.entries] == [("train", (4, 6, 3))]


def test_a_folder_of_files_and_one_that_is_damaged(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_robomimic(tmp_path / f"{name}.hdf5", 2)
    whole = (tmp_path / "b.hdf5").read_bytes()
    (tmp_path / "b.hdf5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SakiyomiError, match=r"1 damaged and left out: .*b\.hdf5"):
        Robomimic(str(tmp_path)).record(tmp_path / "store")
    assert [e.id for e in EpisodeStore(tmp_path / "store").entries] == ["a-demo_0", "a-demo_1"]
    (tmp_path / "b.hdf5").write_bytes(whole)  # repaired, the same command adds what is missing
    assert len(Robomimic(str(tmp_path)).record(tmp_path / "store").entries) == 4


# ---- ACT and ALOHA ---------------------------------------------------------------------------------------------------


def write_aloha(path: Path, seed: int, images: str = "raw", steps: int = 5, action: int = 14) -> Path:
    frames = {camera: pictures(seed + n, steps) for n, camera in enumerate(("cam_low", "cam_high"))}
    with h5py.File(path, "w") as file:
        file.attrs["sim"], file.attrs["compress"] = False, images == "padded"
        for name, frame in frames.items():
            coded = [jpeg(one) for one in frame]
            longest = max(map(len, coded))
            group = file.require_group("observations/images")
            if images == "raw":
                group.create_dataset(name, data=frame, chunks=(1, 8, 8, 3))
            elif images == "padded":
                rows = np.stack([np.frombuffer(one.ljust(longest, b"\0"), np.uint8) for one in coded])
                group.create_dataset(name, data=rows)
            elif images == "vlen":
                rows = np.empty(steps, object)
                rows[:] = [np.frombuffer(one, np.uint8) for one in coded]
                group.create_dataset(name, data=rows, dtype=h5py.vlen_dtype(np.uint8))
            else:
                group.create_dataset(name, data=np.array(coded, f"S{longest}"))
        file["observations/qpos"] = numbers(seed, steps, 14)
        file["observations/qvel"] = numbers(seed + 1, steps, 14)
        file["action"] = numbers(seed + 2, steps, action)
        if images == "padded":
            file["compress_len"] = np.zeros((2, steps))
    return path


def test_episodes_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 9, 0):
        write_aloha(tmp_path / f"episode_{number}.hdf5", number)
    store = Aloha(str(tmp_path), camera="cam_high").record(tmp_path / "store")
    assert [(e.id, e.split) for e in store.entries] == [
        ("episode_0", "train"),
        ("episode_9", "train"),
        ("episode_10", "validation"),
    ]
    for number in (0, 9, 10):
        id = f"episode_{number}"
        np.testing.assert_array_equal(store.values(id, "image"), pictures(number + 1, 5))
        np.testing.assert_array_equal(store.values(id, "cam_low"), pictures(number, 5))
        np.testing.assert_array_equal(store.values(id, "joints"), numbers(number, 5, 14))
        np.testing.assert_array_equal(store.values(id, "qvel"), numbers(number + 1, 5, 14))
        np.testing.assert_array_equal(store.values(id, "command"), numbers(number + 2, 5, 14))
        np.testing.assert_array_equal(store.times(id, "joints"), np.arange(5) / 50)
    assert store.streams["command"].kind == "joints"


def test_an_action_of_another_width_is_no_command(tmp_path: Path) -> None:
    path = write_aloha(tmp_path / "episode_0.hdf5", 0, action=16)
    store = Aloha(str(path), rate=30.0).record(tmp_path / "store")
    assert (store.streams["action"].kind, store.streams["action"].rate) == ("action", 30.0)
    assert "command" not in store.streams


@pytest.mark.parametrize("images", ["padded", "vlen", "fixed"])
def test_compressed_pictures_are_those_that_were_compressed(tmp_path: Path, images: str) -> None:
    path = write_aloha(tmp_path / "episode_0.hdf5", 3, images)
    truth = np.stack([np.asarray(Image.open(BytesIO(jpeg(frame)))) for frame in pictures(3, 5)])
    store = Aloha(str(path), camera="cam_low").record(tmp_path / "store")
    assert "compress_len" not in store.streams
    np.testing.assert_array_equal(store.values("episode_0", "image"), truth)
    turned = Aloha(str(path), camera="cam_low", blue_first=True).record(tmp_path / "turned")
    np.testing.assert_array_equal(turned.values("episode_0", "image"), truth[..., ::-1])


# ---- RoboManipBaselines ----------------------------------------------------------------------------------------------


def rmb_numbers(seed: int, steps: int) -> Values:
    return {
        "time": np.cumsum(np.random.default_rng(seed).uniform(0.01, 0.03, steps)),
        "measured_joint_pos": numbers(seed, steps, 7),
        "command_joint_pos": numbers(seed + 1, steps, 7),
        "measured_eef_pose": numbers(seed + 2, steps, 14),
        "measured_eef_wrench": numbers(seed + 3, steps, 6),
        "reward": numbers(seed + 4, steps, 1)[:, 0],
    }


def write_depth(path: Path, depth: np.ndarray) -> None:
    """Sixteen bits as videoio writes them."""
    high, low = (depth // 256).astype(np.uint8), (depth % 256).astype(np.uint8)
    planes = np.stack((np.where(high % 2, 255 - low, low), np.zeros_like(low), high), 1)
    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = *depth.shape[1:], "yuv444p"
        stream.options = {"qp": "0"}
        for frame in planes:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="yuv444p")))
        container.mux(stream.encode(None))


def depth_of(seed: int, steps: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 5000, (steps, 16, 16)).astype(np.uint16)


def write_rmb(path: Path, seed: int, steps: int = 6) -> Path:
    """As a folder, or, if the name says .hdf5, as one file."""
    values, frames, depth = rmb_numbers(seed, steps), pictures(seed, steps, 16), depth_of(seed, steps)
    folder = path.suffix == ".rmb"
    if folder:
        path.mkdir(parents=True)
        write_video(path / "front_rgb_image.rmb.mp4", frames, 25, quality=0)
        write_depth(path / "front_depth_image.rmb.mp4", depth)
    with h5py.File(path / "main.rmb.hdf5" if folder else path, "w") as file:
        file.attrs["task_desc"], file.attrs["format"] = "pass the cable", "RmbData"
        for name, value in values.items():
            file[name] = value
        if not folder:
            file["front_rgb_image"], file["front_depth_image"] = frames, (1e-3 * depth).astype(np.float32)
    return path


def test_an_episode_is_a_folder_or_a_file(tmp_path: Path) -> None:
    write_rmb(tmp_path / "data" / "cable_0.rmb", 0)
    write_rmb(tmp_path / "data" / "cable_1.hdf5", 10)
    store = Rmb(str(tmp_path / "data"), depth=True).record(tmp_path / "store")
    assert [(e.id, e.meta["task"]) for e in store.entries] == [(f"cable_{n}", "pass the cable") for n in (0, 1)]
    for id, seed in (("cable_0", 0), ("cable_1", 10)):
        values = rmb_numbers(seed, 6)
        for stream, key in {"joints": "measured_joint_pos", "command": "command_joint_pos", "reward": "reward"}.items():
            np.testing.assert_array_equal(store.values(id, stream).reshape(values[key].shape), values[key])
            np.testing.assert_array_equal(store.times(id, stream), values["time"])
        np.testing.assert_allclose(store.values(id, "front_depth_image"), depth_of(seed, 6) * 1e-3, rtol=1e-6)
        error = store.values(id, "image").astype(float) - pictures(seed, 6, 16)
        assert np.abs(error).max() <= (3 if seed == 0 else 0)  # YUV rounds; the file in HDF5 is exact
    assert store.streams["measured_eef_pose"].names[7:9] == ("x1", "y1")
    assert "front_depth_image" not in Rmb(str(tmp_path / "data")).record(tmp_path / "flat").streams


def test_a_film_of_another_length_is_told(tmp_path: Path) -> None:
    path = write_rmb(tmp_path / "a.rmb", 0)
    write_video(path / "front_rgb_image.rmb.mp4", pictures(0, 5, 16), 25)
    with pytest.raises(SakiyomiError, match=r"a\.rmb, with 6 stamps: its streams differ in length: .*image 5"):
        Rmb(str(path)).record(tmp_path / "store")


def test_each_format_knows_its_own(tmp_path: Path) -> None:
    write_rmb(tmp_path / "rmb" / "a.rmb", 0)
    made = {
        robomimic: write_robomimic(tmp_path / "r.hdf5", 30),
        aloha: write_aloha(tmp_path / "a.hdf5", 0),
        rmb: write_rmb(tmp_path / "b.hdf5", 0),
    }
    for module, path in made.items():
        assert [other for other in made if other.recognises(path)] == [module]
    assert rmb.recognises(tmp_path / "rmb")
    assert rmb.recognises(tmp_path / "rmb" / "a.rmb")
    for module, path in made.items():  # large ones have their names anywhere
        with h5py.File(path, "r+") as file:
            file.create_dataset("zeros", data=np.random.default_rng(0).integers(0, 256, 3 * 2**20, dtype=np.uint8))
        assert [other for other in made if other.recognises(path)] == [module]
        path.write_bytes(path.read_bytes()[: 2**20 + 1])
        assert not any(other.recognises(path) for other in made)
    (tmp_path / "text.hdf5").write_text("observations qpos action data demo_")
    assert not any(module.recognises(tmp_path / name) for module in made for name in ("text.hdf5", "nowhere", "rmb/x"))


# ---- What is refused -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def process() -> Iterator[Hdf5]:
    with pytest.MonkeyPatch.context() as patch, Hdf5() as running:
        patch.setattr(hdf5, "PATIENCE", 5.0)  # some damaged texts make the library search for ever
        yield running


def harm(file: h5py.File, name: str) -> None:
    """Something at `observations/qpos` that must not be read."""
    group: Any = file["observations"]
    del group["qpos"]
    if name == "external link":
        group["qpos"] = h5py.ExternalLink("other.hdf5", "/secret")
    elif name == "link to itself":
        group["qpos"] = h5py.SoftLink("/observations/qpos")
    elif name == "link to nothing":
        group["qpos"] = h5py.SoftLink("/nothing")
    elif name == "external storage":
        group.create_dataset("qpos", (4, 7), "f8", external=[("/etc/hostname", 0, 4 * 7 * 8)])
    elif name == "virtual":
        layout = h5py.VirtualLayout((4, 7), "f8")
        layout[:] = h5py.VirtualSource("other.hdf5", "secret", (4, 7))
        group.create_virtual_dataset("qpos", layout)
    elif name == "opaque":
        group["qpos"] = np.array([b"\x80\x04K\x01." * 4] * 4, "V20")  # a pickle
    elif name == "references":
        group.create_dataset("qpos", data=[file.ref] * 4, dtype=h5py.ref_dtype)
    elif name == "compound":
        group["qpos"] = np.zeros(4, [("a", "f8"), ("b", "i4")])
    elif name == "vlen of floats":
        group.create_dataset("qpos", (4,), h5py.vlen_dtype(np.float64))
    elif name == "huge":
        group.create_dataset("qpos", (10**9, 10**6), "f8", chunks=(1000, 10))
    elif name == "huge chunk":
        group.create_dataset("qpos", (10**4, 10**5), "f8", chunks=(10**4, 5 * 10**4))
    elif name == "complex":
        group["qpos"] = np.zeros((5, 14), complex)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("external link", "a link to another file, 'other.hdf5'"),
        ("link to itself", "too many links"),
        ("link to nothing", "object"),
        ("external storage", "in other files"),
        ("virtual", "in other files"),
        ("opaque", "values of type"),
        ("references", "values of type object"),
        ("compound", "values of type"),
        ("vlen of floats", "values of type object"),
        ("huge", "declares 8000000000000000 bytes, 0 are stored"),
        ("huge chunk", "too large to be true"),
        ("complex", "values of type complex128"),
    ],
)
def test_what_could_do_harm_is_refused(tmp_path: Path, process: Hdf5, name: str, words: str) -> None:
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["secret"] = np.zeros((5, 14))
    path = write_aloha(tmp_path / "episode_0.hdf5", 0)
    with h5py.File(path, "r+") as file:
        harm(file, name)
    found = process.open(path)
    with pytest.raises(SakiyomiError, match=f"'observations/qpos' is refused: .*{words}"):
        found.read("observations/qpos")
    with pytest.raises(SakiyomiError, match="is refused"):
        found.below("observations")


def test_an_episode_with_a_link_to_elsewhere_is_left_out(tmp_path: Path) -> None:
    for number in (0, 1):
        write_aloha(tmp_path / f"episode_{number}.hdf5", number)
    with h5py.File(tmp_path / "episode_0.hdf5", "r+") as file:
        harm(file, "external link")
    with pytest.raises(SakiyomiError, match=r"1 damaged and left out: .*episode_0\.hdf5.*copy what it links to"):
        Aloha(str(tmp_path)).record(tmp_path / "store")
    assert [e.id for e in EpisodeStore(tmp_path / "store").entries] == ["episode_1"]


def test_a_number_beyond_all_measure_is_named(tmp_path: Path) -> None:
    path = write_aloha(tmp_path / "episode_0.hdf5", 0)
    for value, words in ((1e200, "'qvel', value 2, channel 3: 1e.200 is no measurement"), (np.nan, "'qvel'.*value 2")):
        with h5py.File(path, "r+") as file:
            velocity: Any = file["observations/qvel"]
            velocity[2, 3] = value
        with pytest.raises(SakiyomiError, match=words):
            Aloha(str(path)).record(tmp_path / "store")


def test_groups_in_a_circle_and_strange_names_end(tmp_path: Path, process: Hdf5) -> None:
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        inner = file.create_group("a/b")
        inner["back"], inner["up"] = file["a"], h5py.SoftLink("/a")
        inner["../x\ny"] = np.arange(3)
        file[b"\xff\xfe"] = 1
    found = process.open(path)
    assert "back to a group it is in" in found.nodes["a/b/back"].refused
    assert "back to a group it is in" in found.nodes["a/b/up"].refused
    assert [node.refused for node in found.nodes.values() if "UTF-8" in node.refused]
    with pytest.raises(SakiyomiError, match="unknown dataset 'nothing'"):
        found.read("nothing")


def test_strange_names_become_plain_streams_and_leave_no_folder(tmp_path: Path) -> None:
    path = write_aloha(tmp_path / "episode_0.hdf5", 0)
    with h5py.File(path, "r+") as file:
        file["observations/a\nb .. c"] = np.zeros((5, 2))
    store = Aloha(str(path)).record(tmp_path / "store")
    assert "a_b_c" in store.streams


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "no HDF5 file"), (b"text", "no HDF5 file"), (hdf5.MAGIC + bytes(2000), "cannot be read as HDF5")],
)
def test_what_is_no_hdf5_says_so(tmp_path: Path, process: Hdf5, content: bytes, words: str) -> None:
    (tmp_path / "a.hdf5").write_bytes(content)
    with pytest.raises(SakiyomiError, match=words):
        process.open(tmp_path / "a.hdf5")


def test_a_file_of_thousands_of_datasets(tmp_path: Path, process: Hdf5) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w", libver="latest") as file:
        for number in range(2500):
            file[f"g{number % 7}/d{number}"] = number
    file = process.open(tmp_path / "a.hdf5")
    assert len(file.nodes) == 2500
    assert file.read("g2/d2102").tolist() == [2102]


def test_a_file_that_was_written_anew_is_opened_anew(tmp_path: Path, process: Hdf5) -> None:
    path = write_aloha(tmp_path / "episode_0.hdf5", 0)
    assert process.open(path).node("action").shape == (5, 14)
    old = process.open(path)
    assert process.open(path) is old
    write_aloha(path, 0, steps=7)
    assert process.open(path).node("action").shape == (7, 14)
    with pytest.raises(SakiyomiError, match="was written anew while it was read"):
        old.read("action")


def test_a_reader_that_dies_or_hangs_is_an_error_and_the_next_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = write_aloha(tmp_path / "episode_0.hdf5", 0)
    other = write_aloha(tmp_path / "episode_1.hdf5", 1)
    with Hdf5() as process:
        file = process.open(good)
        assert process._process is not None
        process._process.kill()
        process._process.wait()
        np.testing.assert_array_equal(file.read("action"), numbers(2, 5, 14))  # by another one
        process.open(other)
        np.testing.assert_array_equal(file.read("action"), numbers(2, 5, 14))  # not of the file that is open
        process._process.send_signal(19)  # stopped: it will never answer
        monkeypatch.setattr(hdf5, "PATIENCE", 0.2)
        with pytest.raises(SakiyomiError, match=r"does not survive: it gave no answer for 0 s"):
            process.open(other)
        monkeypatch.setattr(hdf5, "PATIENCE", 30.0)
        assert process.open(other).read("action").shape == (5, 14)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("sound")
    return write_robomimic(folder / "a.hdf5", 2, {"train": [0]}).read_bytes()


@settings(max_examples=150)
@given(seed=st.integers(0, 2**32), cut=st.booleans())
def test_damaged_files_are_errors_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, process: Hdf5, sound: bytes, seed: int, cut: bool
) -> None:
    chance = random.Random(seed)
    spoiled = bytearray(sound[: chance.randrange(len(sound))] if cut else sound)
    for _ in range(0 if cut else chance.choice((1, 1, 3, 20))):
        spoiled[chance.randrange(len(spoiled))] = chance.choice((0, 255, chance.randrange(256)))
    path = tmp_path_factory.mktemp("spoiled") / "a.hdf5"
    path.write_bytes(spoiled)
    told: list[str] = []
    with suppress_into(told):
        file = process.open(path)
        for name, node in file.nodes.items():
            with suppress_into(told):
                values = file.texts(name) if node.dtype == "bytes" else file.read(name)
                assert len(values) == (node.shape[0] if node.shape else 1)
    assert not [text for text in told if str(path) not in text or "\n" in text]


@contextmanager
def suppress_into(told: list[str]) -> Iterator[None]:
    try:
        yield
    except SakiyomiError as error:
        told.append(str(error))


SETTINGS: list[tuple[Callable[..., Any], dict[str, Any], str]] = [
    (Robomimic, {}, "no path given: name a robomimic .hdf5 file"),
    (Robomimic, {"path": "nowhere"}, "nowhere does not exist"),
    (Aloha, {"validation": 1.0}, "--validation is 1"),
    (Aloha, {"rate": float("nan")}, "--rate is nan"),
    (Rmb, {"pixels": (0, 5)}, "--pixels is 0 5"),
    (Aloha, {"camera": "cam_hig"}, "did you mean 'cam_high'"),
    (Robomimic, {"path": "aloha"}, "has no demonstrations"),
    (Rmb, {"path": "aloha"}, "has no time"),
]


@pytest.mark.parametrize(("source", "made", "words"), SETTINGS)
def test_settings_that_cannot_be(tmp_path: Path, source: Callable[..., Any], made: dict[str, Any], words: str) -> None:
    path = write_aloha(tmp_path / "episode_0.hdf5", 0)
    fields = {**({"path": str(path)} if made else {}), **made}
    if fields.get("path") == "aloha":
        fields["path"] = str(path)
    with pytest.raises(SakiyomiError, match=words):
        source(**fields).record(tmp_path / "store")
