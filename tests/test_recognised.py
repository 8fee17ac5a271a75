"""Formats are known by names and first bytes, each by its own module and by no other, and nothing makes them fail."""

import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tfrecord import write

from sakiyomi.data.episodes import EpisodeWriter, Stream
from sakiyomi.data.formats import (
    aloha,
    bair,
    beginnings,
    bridge,
    deepmimic,
    exponential_maps,
    folder,
    mcap,
    mvae_npz,
    rmb,
    robomimic,
    series_csv,
    wav,
)
from sakiyomi.data.sources import mocap
from sakiyomi.errors import SakiyomiError
from sakiyomi.prepare import recognise

SHARED = Path(__file__).parents[1].parent / "shared" / "data"
MODULES = (
    *(aloha, bair, bridge, deepmimic, exponential_maps, folder, mcap, mvae_npz, rmb, robomimic, series_csv, wav),
    mocap,
)


def known(path: Path) -> list[ModuleType]:
    return [module for module in MODULES if module.recognises(path)]


def test_each_is_known_by_its_own_module(tmp_path: Path) -> None:
    write(tmp_path / "bair" / "set" / "train" / "traj_0_to_2.tfrecords", {"0/action": np.zeros(4, np.float32)})
    bridge_file = write(tmp_path / "b" / "x.tfrecord-00001", {"steps/action": np.zeros(7, np.float32)})
    (tmp_path / "walk.bvh").write_text("HIERARCHY\nROOT hips")
    (tmp_path / "motions").mkdir()
    (tmp_path / "motions" / "humanoid3d_walk.txt").write_text('{"Loop": "wrap", "Frames": [[1, 2]]}')
    with zipfile.ZipFile(tmp_path / "maps.zip", "w") as archive:
        archive.writestr("train/walk.txt", ",".join(["0.5"] * 117) + "\n")
        archive.writestr("readme.md", "text")
    np.savez(tmp_path / "mocap.npz", data=np.zeros((2, 267)), end_indices=np.array([1]))
    np.savez(tmp_path / "other.npz", data=np.zeros(2))
    (tmp_path / "a.csv").write_text("time,x\n0,1\n")
    expected = {
        "bair": [bair],
        "bair/set": [bair],
        bridge_file.relative_to(tmp_path).as_posix(): [bridge],
        "b": [bridge],
        "walk.bvh": [mocap],
        "motions": [deepmimic],
        "maps.zip": [exponential_maps],
        "mocap.npz": [mvae_npz],
        "other.npz": [],
        "a.csv": [series_csv],
        "nowhere": [],
    }
    assert {name: known(tmp_path / name) for name in expected} == expected


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("motion/bandai_namco_1.zip", mocap),
        ("motion/cmu_expmap.zip", exponential_maps),
        ("motion/deepmimic_clips.zip", deepmimic),
    ],
)
def test_real_ones_are_known(name: str, module: ModuleType) -> None:
    if not (SHARED / name).exists():
        pytest.skip(f"no {SHARED / name}")
    assert known(SHARED / name) == [module]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("empty", "is an empty folder"),
        ("notes.txt", "in none of the formats that are recognised .*prepare FORMAT"),
        ("store", "is an episode store already.*prepare check"),
        ("ros1.bag", "ROS 1, which is not read"),
        ("ros2", "mcap convert"),
        ("many", "In it, b is"),
        ("both", "may be wav or mocap; name one"),
    ],
)
def test_what_is_not_known_is_told_with_what_to_do(tmp_path: Path, name: str, words: str) -> None:
    path = tmp_path / name
    if "." in name:
        path.write_text("just words")
    else:
        path.mkdir()
    if name == "store":
        writer = EpisodeWriter(path, {"x": Stream("scalar", (), "float64", 1.0)})
        writer.add("a", {"x": np.zeros(2)}, {"x": np.arange(2.0)})
        writer.finish()
    elif name == "ros2":
        (path / "a.db3").write_bytes(b"SQLite format 3")
    elif name == "many":
        (path / "a").mkdir()
        (path / "b").mkdir()
        (path / "b" / "a.mcap").write_bytes(mcap.MAGIC)
    elif name == "both":
        (path / "walk.bvh").write_text("HIERARCHY")
        (path / "a.wav").write_bytes(b"RIFF\0\0\0\0WAVE")
    with pytest.raises(SakiyomiError, match=words):
        recognise(path)


def test_only_the_first_files_of_a_large_folder_are_looked_at(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number}").mkdir()
        for file in range(60):
            (tmp_path / f"{number}" / f"{file}.dat").touch()
    last = [path for path in tmp_path.rglob("*") if path.is_dir()][-1]
    (last / "walk.bvh").write_text("HIERARCHY")
    assert beginnings.beginning(tmp_path, (".bvh",)) == b""
    assert beginnings.beginning(last, (".bvh",)) == b"HIERARCHY"


@settings(max_examples=100)
@given(
    st.binary(max_size=300),
    st.sampled_from((b"", b"PK\x03\x04", b"RIFF", b"\x89HDF\r\n\x1a\n", b"\x89MCAP0\r\n", b"HIERARCHY")),
    st.sampled_from((".bvh", ".txt", ".zip", ".npz", ".csv", ".hdf5", ".mcap", ".wav", ".tfrecord", ".json", ".mp4")),
)
def test_no_file_makes_them_fail(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, begin: bytes, suffix: str
) -> None:
    path = tmp_path_factory.mktemp("any") / f"a{suffix}"
    path.write_bytes(begin + content)
    assert all(isinstance(module.recognises(one), bool) for module in MODULES for one in (path, path.parent))
