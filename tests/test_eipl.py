"""EIPL's recordings: what goes in comes back, padding is found, and no damaged or malicious file does harm."""

import copy
import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eipl_networks import Payload
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream
from sakiyomi.data.formats.eipl import Eipl, recognises, without_padding, write_eipl
from sakiyomi.data.formats.npy import npz_names, open_npy, read_npz
from sakiyomi.data.formats.pth import state_dict
from sakiyomi.errors import SakiyomiError

Values = dict[str, np.ndarray]
TRAIN, TEST, T = (9, 6, 8, 9), (7, 9), 9
FILES = {"images": "image", "joints": "joints", "poses": "pose"}


def episode(seed: int, length: int = T) -> Values:
    """As EIPL counts them: BGR, [T, ...]. The last joint never moves."""
    random = np.random.default_rng(seed)
    joints = random.normal(size=(length, 3))
    joints[:, 2] = 0.5
    return {
        "images": random.integers(0, 256, (length, 6, 8, 3), dtype=np.uint8),
        "joints": joints.astype(np.float32),
    }


def padded(values: np.ndarray, length: int = T) -> np.ndarray:
    return np.concatenate([values, np.repeat(values[-1:], length - len(values), axis=0)])


def write(root: Path, **changes: Any) -> Path:
    """A folder as EIPL's scripts leave it: train and test, all as long as the longest."""
    seed, every = 0, []
    for split, lengths in (("train", TRAIN), ("test", TEST)):
        episodes = [episode(seed + n, length) for n, length in enumerate(lengths)]
        seed += len(lengths)
        (root / split).mkdir(parents=True)
        for name in ("images", "joints"):
            array = np.stack([padded(e[name]) for e in episodes])
            np.save(root / split / f"{name}.npy", changes[name](array) if name in changes else array)
        every += [e["joints"] for e in episodes]
    joints = np.concatenate(every)
    np.save(root / "joint_bounds.npy", np.stack([joints.min(0), joints.max(0)]))
    return root


def test_every_sequence_is_read_and_padding_is_cut(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    store = Eipl(str(write(tmp_path / "e"))).record(tmp_path / "s", lambda *at: told.append(at))
    assert [e.split for e in store.entries] == ["train"] * 3 + ["validation"] + ["test"] * 2
    assert told[-1] == (6, 6)
    for seed, (entry, length) in enumerate(zip(store.entries, (*TRAIN, *TEST), strict=True)):
        wanted = episode(seed, length)
        np.testing.assert_array_equal(store.values(entry.id, "image"), wanted["images"][..., ::-1])
        np.testing.assert_array_equal(store.values(entry.id, "joints"), wanted["joints"])
        np.testing.assert_allclose(store.times(entry.id, "joints"), np.arange(length) / 10)
        assert entry.meta["padding"] == T - length
    assert store.origin["colours"] == "bgr"


def test_bounds_are_kept_but_scales_are_of_training_alone(tmp_path: Path) -> None:
    store = Eipl(str(write(tmp_path / "e"))).record(tmp_path / "s")
    every = np.concatenate([store.values(e.id, "joints") for e in store.entries])
    np.testing.assert_allclose(store.origin["bounds"]["joint"], [every.min(0), every.max(0)])
    train = np.concatenate([store.values(e.id, "joints") for e in store.split("train")])
    np.testing.assert_allclose(store.statistics["joints"].low, train.min(0))


def test_bounds_of_other_data_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write(tmp_path / "e")
    Eipl(str(root)).record(tmp_path / "a")
    assert "joint_bounds" not in capsys.readouterr().out
    np.save(root / "joint_bounds.npy", np.array([[-9.0] * 3, [9.0] * 3]))
    Eipl(str(root)).record(tmp_path / "b")
    said = " ".join(capsys.readouterr().out.split())
    assert "joint_bounds.npy is not the range" in said
    assert "read as bgr" in said
    assert "6 repeated last frames of 3 episodes" in said
    np.save(root / "joint_bounds.npy", np.array([[-9.0] * 8, [9.0] * 8]))  # of another robot
    Eipl(str(root)).record(tmp_path / "c")
    assert "joint_bounds.npy is not the range" in " ".join(capsys.readouterr().out.split())


def test_the_order_of_colours_can_be_told(tmp_path: Path) -> None:
    root = write(tmp_path / "e")
    raw = Eipl(str(root), colours="rgb").record(tmp_path / "rgb")
    np.testing.assert_array_equal(raw.values("train-00000", "image"), episode(0)["images"])
    for split, lengths in (("train", TRAIN), ("test", TEST)):  # as robosuite's data have them
        poses = np.random.default_rng(0).normal(size=(len(lengths), T, 8)).astype(np.float32)
        np.save(root / split / "poses.npy", poses)
    robosuite = Eipl(str(root)).record(tmp_path / "auto")
    assert robosuite.origin["colours"] == "rgb"
    np.testing.assert_array_equal(robosuite.values("train-00000", "image"), episode(0)["images"])
    assert robosuite.streams["pose"] == Stream("pose", (8,), "float32", 10.0)
    assert {e.meta["padding"] for e in robosuite.entries} == {0}, "poses move to the end: nothing is padding"


@given(
    moving=st.integers(2, 6),
    still=st.integers(0, 5),
    frozen=st.sampled_from(["image", "joints", "neither"]),
)
def test_only_what_repeats_in_every_stream_is_padding(moving: int, still: int, frozen: str) -> None:
    values = episode(0, moving)
    streams = {"image": values["images"], "joints": values["joints"]}
    if frozen != "neither":
        streams[frozen] = np.repeat(streams[frozen][:1], moving, axis=0)
    assert without_padding({k: padded(v, moving + still) for k, v in streams.items()}) == moving


def test_an_episode_in_which_nothing_moves_is_not_padding() -> None:
    assert without_padding({"joints": np.zeros((5, 2), np.float32)}) == 5


def test_padding_can_be_kept(tmp_path: Path) -> None:
    store = Eipl(str(write(tmp_path / "e")), keep_padding=True).record(tmp_path / "s")
    assert {e.lengths["joints"] for e in store.entries} == {T}


def test_an_interrupted_import_goes_on(tmp_path: Path) -> None:
    source = Eipl(str(write(tmp_path / "e")))
    store = source.record(tmp_path / "s")
    manifest = tmp_path / "s" / "manifest.jsonl"
    lines = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(b"".join(lines[:2]))
    assert source.record(tmp_path / "s").entries == store.entries
    with pytest.raises(SakiyomiError, match="other settings"):
        Eipl(str(tmp_path / "e"), colours="rgb").record(tmp_path / "s")


def rollouts(root: Path, count: int = 3, compressed: bool = False) -> Path:
    root.mkdir()
    for n in range(count):
        values = episode(n, 5 + n)
        more = {"finger": np.linspace(0, 1, 5 + n), "finger_state": np.zeros(5 + n, np.int64)}
        (np.savez_compressed if compressed else np.savez)(root / f"rollout_{9 + n:03d}.npz", **values, **more)
    return root


@pytest.mark.parametrize("compressed", [False, True])
def test_raw_rollouts_are_read_whole(tmp_path: Path, compressed: bool) -> None:
    store = Eipl(str(rollouts(tmp_path / "raw", compressed=compressed))).record(tmp_path / "s")
    assert [(e.id, e.split) for e in store.entries] == [
        ("rollout_009", "train"),
        ("rollout_010", "train"),
        ("rollout_011", "validation"),
    ]
    assert [e.lengths["joints"] for e in store.entries] == [5, 6, 7]
    np.testing.assert_array_equal(store.values("rollout_010", "image"), episode(1, 6)["images"][..., ::-1])
    np.testing.assert_array_equal(store.values("rollout_010", "finger")[:, 0], np.linspace(0, 1, 6).astype(np.float32))
    assert store.streams["finger_state"] == Stream("scalar", (1,), "float32", 10.0)


def test_one_rollout_is_for_training(tmp_path: Path) -> None:
    root = rollouts(tmp_path / "raw", 1)
    store = Eipl(str(root / "rollout_009.npz")).record(tmp_path / "s")
    assert [e.split for e in store.entries] == ["train"]


def assert_same(one: EpisodeStore, other: EpisodeStore) -> None:
    assert [e.lengths for e in one.entries] == [e.lengths for e in other.entries]
    for a, b in zip(one.entries, other.entries, strict=True):
        for name in one.streams:
            np.testing.assert_array_equal(one.values(a.id, name), other.values(b.id, name))


def test_a_store_comes_back(tmp_path: Path) -> None:
    store = Eipl(str(write(tmp_path / "e"))).record(tmp_path / "s")
    write_eipl(store, tmp_path / "out")
    assert np.load(tmp_path / "out" / "train" / "images.npy").shape == (4, T, 6, 8, 3)
    for split in ("train", "test"):
        for name in ("images", "joints"):
            there = np.load(tmp_path / "out" / split / f"{name}.npy")
            np.testing.assert_array_equal(there, np.load(tmp_path / "e" / split / f"{name}.npy"))
    np.testing.assert_array_equal(
        np.load(tmp_path / "out" / "joint_bounds.npy"), np.load(tmp_path / "e" / "joint_bounds.npy")
    )
    assert_same(store, Eipl(str(tmp_path / "out")).record(tmp_path / "again"))


@pytest.mark.parametrize("pose", [False, True])
def test_a_store_that_ends_in_standstill_comes_back(tmp_path: Path, pose: bool) -> None:
    """Real repeated frames are no padding: lengths.npy tells. With poses colours are RGB, as in robosuite's."""
    streams = {
        "image": Stream("image", (6, 8, 3), "uint8", 20.0, "RGB 0..255"),
        "joints": Stream("joints", (3,), "float32", 20.0),
        **({"pose": Stream("pose", (3,), "float32", 20.0)} if pose else {}),
        "wrist": Stream("image", (4, 4, 3), "uint8", 20.0, "RGB 0..255"),
    }
    writer = EpisodeWriter(tmp_path / "s", streams)
    for n, length in enumerate((4, 7, 5)):
        seen = episode(n, length)
        values = {"image": seen["images"], "joints": seen["joints"], "pose": seen["joints"] + 1}
        values = {name: padded(value, length + 2) for name, value in values.items()}
        values["wrist"] = padded(seen["images"][:, :4, :4], length + 2)
        writer.add(
            f"{n}", values, dict.fromkeys(values, np.arange(length + 2) / 20), ("train", "validation", "test")[n]
        )
    store = writer.finish()
    write_eipl(store, tmp_path / "out")
    again = Eipl(str(tmp_path / "out"), rate=20.0).record(tmp_path / "again")
    assert again.streams == store.streams
    assert_same(store, again)


def test_streams_of_other_rates_are_written_at_the_clock_of_the_joints(tmp_path: Path) -> None:
    streams = {"joints": Stream("joints", (1,), "float32", 10.0), "slow": Stream("scalar", (1,), "float32", 5.0)}
    writer = EpisodeWriter(tmp_path / "s", streams)
    values = {"joints": np.arange(6, dtype=np.float32)[:, None], "slow": np.arange(3, dtype=np.float32)[:, None]}
    writer.add("0", values, {"joints": np.arange(6) / 10, "slow": np.arange(3) / 5})
    write_eipl(writer.finish(), tmp_path / "out")
    np.testing.assert_array_equal(np.load(tmp_path / "out/train/slow.npy")[0, :, 0], [0, 0, 1, 1, 2, 2])


def test_words_have_no_place(tmp_path: Path) -> None:
    writer = EpisodeWriter(tmp_path / "s", {"label": Stream("label", (2,), "float32", 1.0)})
    writer.add("0", {"label": np.eye(2, dtype=np.float32)}, {"label": np.arange(2.0)})
    with pytest.raises(SakiyomiError, match="label"):
        write_eipl(writer.finish(), tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "stream"),
    [
        ("lengths", Stream("scalar", (1,), "float32", 1.0)),
        ("images", Stream("scalar", (1,), "float32", 1.0)),
        ("poses", Stream("scalar", (1,), "float32", 1.0)),
        ("depth", Stream("image", (4, 4, 1), "uint8", 1.0)),
        ("alpha", Stream("image", (4, 4, 4), "uint8", 1.0)),
        ("map", Stream("scalar", (2, 2), "float32", 1.0)),
    ],
)
def test_what_would_not_come_back_is_not_written(tmp_path: Path, name: str, stream: Stream) -> None:
    streams = {"joints": Stream("joints", (1,), "float32", 1.0), name: stream}
    writer = EpisodeWriter(tmp_path / "s", streams)
    values = {n: np.zeros((2, *s.shape), s.dtype) for n, s in streams.items()}
    writer.add("0", values, dict.fromkeys(values, np.arange(2.0)))
    with pytest.raises(SakiyomiError, match=name):
        write_eipl(writer.finish(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pictures_alone_are_read_and_written(tmp_path: Path) -> None:
    """As the autoencoders learn from."""
    root = write(tmp_path / "e")
    for split in ("train", "test"):
        (root / split / "joints.npy").unlink()
    assert recognises(root)
    store = Eipl(str(root)).record(tmp_path / "s")
    assert list(store.streams) == ["image"]
    assert [e.meta["padding"] for e in store.entries] == [T - length for length in (*TRAIN, *TEST)]
    write_eipl(store, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").rglob("*.npy")} == {"images.npy", "lengths.npy"}
    assert_same(store, Eipl(str(tmp_path / "out")).record(tmp_path / "again"))


def test_what_is_recognised(tmp_path: Path) -> None:
    assert recognises(write(tmp_path / "e"))
    assert recognises(rollouts(tmp_path / "raw"))
    assert recognises(tmp_path / "raw" / "rollout_009.npz")
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04")
    for other in (tmp_path, tmp_path / "bad.npz", tmp_path / "nothing", tmp_path / "e" / "joint_bounds.npy"):
        assert not recognises(other)


def test_float64_becomes_float32_and_pictures_are_resized(tmp_path: Path) -> None:
    root = write(tmp_path / "e", joints=lambda joints: joints.astype(np.float64))
    store = Eipl(str(root), pixels=(3, 4)).record(tmp_path / "s")
    assert store.streams["image"].shape == (3, 4, 3)
    np.testing.assert_array_equal(store.values("train-00000", "joints"), episode(0)["joints"])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"joints": lambda j: j[:, :-1]}, "same N and T"),
        ({"images": lambda i: i[:1]}, "same N and T"),
        ({"joints": lambda j: j.astype(object)}, "pickled Python objects"),
        ({"joints": lambda j: j.astype(str)}, "expected numbers"),
        ({"joints": lambda j: j[:, :0]}, "empty"),
        ({"images": lambda i: np.moveaxis(i, -1, 2)}, "channels first"),
        ({"images": lambda i: i / 255}, "pictures are uint8"),
        ({"joints": lambda j: np.full_like(j, np.nan)}, "not finite"),
        ({"joints": lambda j: 1e300 * np.ones(j.shape)}, "not finite"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path: Path, changes: dict, told: str) -> None:
    with pytest.raises(SakiyomiError, match=told):
        Eipl(str(write(tmp_path / "e", **changes))).record(tmp_path / "s")


def test_a_nan_costs_its_own_episode_and_no_more(tmp_path: Path) -> None:
    def spoil(joints: np.ndarray) -> np.ndarray:
        joints[1, 3, 0] = np.nan
        return joints

    with pytest.raises(SakiyomiError, match=r"2 damaged.*train-00001.*'joints': value 3"):
        Eipl(str(write(tmp_path / "e", joints=spoil))).record(tmp_path / "s")
    assert len(EpisodeStore(tmp_path / "s").entries) == 4


def test_a_file_that_is_cut_off_is_told(tmp_path: Path) -> None:
    root = write(tmp_path / "e")
    path = root / "train" / "images.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SakiyomiError, match=r"images.npy is cut off: .* uint8 \[4, 9, 6, 8, 3\], 5184 bytes, and 5183"):
        Eipl(str(root)).record(tmp_path / "s")


def header(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


def archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return path


HUGE = (10**6, 10**6)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (header(HUGE), "cut off: .* 4000000000000 bytes"),
        (header((-1, 3)) + bytes(99), "npy"),
        (header((3,)) + bytes(11), "cut off"),
        (b"\x93NUMPY\x01\x00" + struct.pack("<H", 60000) + b"{" * 60000, "npy"),
        (b"\x93NUMPY\x09\x00" + bytes(100), "npy"),
        (b"", "npy"),
        (pickle.dumps([1, 2]), "npy"),
    ],
)
def test_headers_are_not_believed(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "joints.npy"
    path.write_bytes(content)
    with pytest.raises(SakiyomiError, match=told):
        open_npy(path)
    with pytest.raises(SakiyomiError, match=told.replace("npy", "npz")):
        read_npz(archive(tmp_path / "a.npz", {"joints.npy": content}))


@pytest.mark.parametrize(
    "name", ["../joints.npy", "/etc/joints.npy", "a\nb.npy", "joints.txt", "a/b.npy", "..npy", ".npy"]
)
def test_odd_names_in_an_archive_are_refused(tmp_path: Path, name: str) -> None:
    good = io.BytesIO()
    np.save(good, np.zeros((3, 2), np.float32))
    with pytest.raises(SakiyomiError, match="member named"):
        read_npz(archive(tmp_path / "rollout_1.npz", {"images.npy": good.getvalue(), name: good.getvalue()}))
    assert {path.name for path in tmp_path.iterdir()} == {"rollout_1.npz"}


def test_an_archive_that_unpacks_to_far_more_than_itself_is_refused(tmp_path: Path) -> None:
    size = 2**27
    bomb = header((size,), "|u1") + bytes(size)
    path = archive(tmp_path / "rollout_1.npz", {"images.npy": bomb}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**18
    with pytest.raises(SakiyomiError, match="no recording shrinks so far"):
        read_npz(path)


def test_many_small_bombs_are_one_large_one(tmp_path: Path) -> None:
    size = 2**25
    member = header((size,), "|u1") + bytes(size)
    path = archive(tmp_path / "rollout_1.npz", {f"a{n}.npy": member for n in range(3)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(SakiyomiError, match="no recording shrinks so far"):
        read_npz(path)


def test_members_that_lie_over_one_another_are_refused(tmp_path: Path) -> None:
    """Each is honest by itself; together they are more than the file."""
    good = io.BytesIO()
    np.save(good, np.arange(1000.0))
    path = tmp_path / "rollout_1.npz"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("a.npy", good.getvalue())
        for name in "bcd":
            twin = copy.copy(made.infolist()[0])
            twin.filename = f"{name}.npy"
            made.filelist.append(twin)
    assert npz_names(path) == ("a", "b", "c", "d")
    for read in (read_npz, state_dict):
        with pytest.raises(SakiyomiError, match="no honest archive"):
            read(path)


def test_a_pickle_in_an_archive_is_never_run(tmp_path: Path) -> None:
    mark = tmp_path / "owned"
    objects = np.empty(3, object)
    objects[:] = [Payload(mark)] * 3
    np.savez(tmp_path / "rollout_1.npz", joints=objects, images=np.zeros((3, 4, 4, 3), np.uint8))
    with pytest.raises(SakiyomiError, match="pickled Python objects"):
        Eipl(str(tmp_path)).record(tmp_path / "s")
    assert not mark.exists()
    pickle.loads(pickle.dumps(Payload(mark)))  # the payload does work
    assert mark.exists()


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(SakiyomiError, match="no path given"):
        Eipl().record(tmp_path / "s")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SakiyomiError, match="neither train"):
        Eipl(str(tmp_path / "empty")).record(tmp_path / "s")
    with pytest.raises(SakiyomiError, match="--rate"):
        Eipl(str(tmp_path / "empty"), rate=0).record(tmp_path / "s")


def test_wrong_lengths_and_bounds_are_refused(tmp_path: Path) -> None:
    root = write(tmp_path / "e")
    np.save(root / "train" / "lengths.npy", np.array([1, 2, 3, T + 1]))
    with pytest.raises(SakiyomiError, match=r"lengths.npy holds .*1..9"):
        Eipl(str(root)).record(tmp_path / "s")
    (root / "train" / "lengths.npy").unlink()
    np.save(root / "joint_bounds.npy", np.zeros((3, 3)))
    with pytest.raises(SakiyomiError, match=r"joint_bounds\.npy holds"):
        Eipl(str(root)).record(tmp_path / "s")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_raise_nothing_but_our_error(tmp_path: Path, data: st.DataObject) -> None:
    file = io.BytesIO()
    packed = data.draw(st.sampled_from(["npz", "deflated", "npy"]))
    values = episode(0, 4)
    if packed == "npy":
        np.save(file, values["joints"])
    else:
        save = np.savez if packed == "npz" else np.savez_compressed
        save(file, images=values["images"], joints=values["joints"])
    content = bytearray(file.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    path = tmp_path / ("a.npy" if packed == "npy" else "a.npz")
    path.write_bytes(content)
    try:
        read = {"a": open_npy(path)} if packed == "npy" else read_npz(path)
    except SakiyomiError:
        return
    assert all(array.dtype.kind in "biuf" for array in read.values())
