"""Folders of pictures and tables: what is exported comes back the same, and what laboratories have is read."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream
from sakiyomi.data.formats import folder
from sakiyomi.data.formats.folder import Folder, write_folder
from sakiyomi.data.formats.number_table import read_table, write_table
from sakiyomi.data.formats.video import write_video
from sakiyomi.errors import SakiyomiError

STREAMS = {
    "image": Stream("image", (16, 24, 3), "uint8", 30.0, "RGB 0..255"),
    "wrist": Stream("image", (8, 8, 3), "uint8", 15.0),
    "joints": Stream(
        "joints", (3,), "float32", 100.0, "rad", ("a", 'b, "c"', "time"), (-1.0, -2.0, -3.0), (1.0, 2.0, 3.0)
    ),
    "command": Stream("joints", (3,), "float64", 100.0),
    "count": Stream("scalar", (), "int64", 10.0),
    "seen": Stream("scalar", (2,), "bool", 10.0),
    "label": Stream("label", (2,), "float32", 1.0, names=("x", "y")),
}


def smooth(random_: np.random.Generator, steps: int, height: int, width: int) -> np.ndarray:
    """Pictures as a camera sees them, uint8 [T, H, W, 3]."""
    y, x = np.mgrid[:height, :width]
    phase = random_.uniform(0, 6, 3) + 0.1 * np.arange(steps)[:, None]
    waves = np.sin(0.2 * x[..., None] + 0.13 * y[..., None] + phase[:, None, None, :])
    return (127 + 100 * waves).astype(np.uint8)


def recording(folder_: Path) -> EpisodeStore:
    writer = EpisodeWriter(folder_, STREAMS)
    for number, (id, split) in enumerate({"a-10": "train", "a.9": "train", "b": "validation", "c": "test"}.items()):
        random_, steps = np.random.default_rng(number), 4 + number
        values = {
            "image": smooth(random_, steps, 16, 24),
            "wrist": smooth(random_, steps - 1, 8, 8),
            "joints": random_.normal(size=(3 * steps, 3)).astype(np.float32),
            "command": random_.normal(size=(3 * steps, 3)) * 10.0 ** random_.integers(-100, 100, (3 * steps, 3)),
            "count": random_.integers(-(2**63), 2**63 - 1, steps),
            "seen": random_.random((steps, 2)) < 0.5,
            "label": np.ones((1, 2), np.float32),
        }
        times = {name: np.cumsum(random_.uniform(1e-3, 0.1, len(value))) for name, value in values.items()}
        writer.add(id, values, times, split, {"task": "to test", "file": "elsewhere"})
    return writer.finish()


@pytest.mark.parametrize("pictures", ["png", "mkv", "mp4"])
def test_what_is_written_is_read_again(tmp_path: Path, pictures: Any) -> None:
    store = recording(tmp_path / "store")
    write_folder(store, tmp_path / "out", pictures)
    again = Folder(str(tmp_path / "out")).record(tmp_path / "again")
    assert {e.id: (e.split, e.meta["task"]) for e in again.entries} == {
        e.id: (e.split, e.meta["task"]) for e in store.entries
    }
    assert again.streams == {name: stream for name, stream in store.streams.items() if name != "label"}
    for entry in store.entries:
        for name, stream in again.streams.items():
            np.testing.assert_array_equal(again.times(entry.id, name), store.times(entry.id, name))
            written, read = store.values(entry.id, name), again.values(entry.id, name)
            if stream.kind == "image" and pictures == "mp4":
                error = np.mean((written.astype(float) - read) ** 2)
                assert 10 * np.log10(255**2 / max(error, 1e-9)) >= 40
            else:
                assert written.dtype == read.dtype
                np.testing.assert_array_equal(read, written)
    assert folder.recognises(tmp_path / "out")
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


NUMBERS = st.one_of(
    *(
        st.tuples(
            st.just(f"float{bits}"), st.lists(st.floats(allow_nan=False, allow_infinity=False, width=bits), min_size=1)
        )
        for bits in (16, 32, 64)
    ),
    *(
        st.tuples(st.just(name), st.lists(st.integers(int(np.iinfo(name).min), int(np.iinfo(name).max)), min_size=1))
        for name in ("int8", "uint8", "int32", "uint32", "int64", "uint64")
    ),
)


@settings(max_examples=150)
@given(NUMBERS, st.text("ab ,\"'", min_size=1, max_size=5))
def test_numbers_of_every_type_are_read_back_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, given_: tuple[str, list[float]], name: str
) -> None:
    dtype, numbers = given_
    values = np.array(numbers, dtype)[:, None]
    times = np.cumsum(np.abs(np.random.default_rng(len(numbers)).normal(size=len(numbers))))
    path = tmp_path_factory.mktemp("table") / "a.csv"
    write_table(path, times, values, (f"x{name}",))
    table = read_table(path, dtype)
    assert table.values.dtype == np.dtype(dtype)
    assert table.values.tobytes() == values.tobytes()
    np.testing.assert_array_equal(table.times, times)
    assert table.names == (f"x{name}".strip(),)


def lab(path: Path, steps: int = 5, clock: str = "time", rows: int = 0) -> np.ndarray:
    """One film and one table, as a laboratory keeps them. Returns the numbers."""
    path.mkdir(parents=True)
    random_ = np.random.default_rng(steps)
    write_video(path / "run.mkv", smooth(random_, steps, 16, 24), 20.0, codec="ffv1")
    numbers = random_.normal(size=(rows or steps, 2))
    lines = [[*([repr(n / 50)] if clock else []), *map(repr, row.tolist())] for n, row in enumerate(numbers)]
    head = [clock, "q1", "q2"] if clock else ["q1", "q2"]
    (path / "run.csv").write_text("\n".join(";".join(line) for line in [head, *lines]) + "\n")
    return numbers


def test_one_film_and_one_table(tmp_path: Path) -> None:
    numbers = lab(tmp_path / "in", 5, "Time [s]", 9)
    store = Folder(str(tmp_path / "in")).record(tmp_path / "store")
    assert [(e.id, e.split) for e in store.entries] == [("in", "train")]
    np.testing.assert_array_equal(store.values("in", "joints"), numbers)
    np.testing.assert_array_equal(store.times("in", "joints"), [float(repr(n / 50)) for n in range(9)])
    assert store.streams["joints"].names == ("q1", "q2")
    np.testing.assert_array_equal(store.values("in", "image"), smooth(np.random.default_rng(5), 5, 16, 24))
    np.testing.assert_allclose(store.times("in", "image"), np.arange(5) / 20, atol=1e-3)


def test_a_table_without_a_clock_has_that_of_the_film_or_of_the_setting(tmp_path: Path) -> None:
    lab(tmp_path / "as-many", 5, "")
    store = Folder(str(tmp_path / "as-many")).record(tmp_path / "1")
    np.testing.assert_array_equal(store.times("as-many", "joints"), store.times("as-many", "image"))
    lab(tmp_path / "more", 5, "", 7)
    with pytest.raises(SakiyomiError, match=r"nothing says when the 7 of .*run\.csv were: .*--rate"):
        Folder(str(tmp_path / "more")).record(tmp_path / "2")
    timed = Folder(str(tmp_path / "more"), rate=10.0).record(tmp_path / "3")
    np.testing.assert_array_equal(timed.times("more", "joints"), np.arange(7) / 10)


def test_folders_of_splits_and_of_pictures(tmp_path: Path) -> None:
    frames = smooth(np.random.default_rng(0), 12, 6, 6)
    for name in ("train/take-10", "train/take-9", "test/x", "validation/y"):
        for camera in ("left", "right"):
            (tmp_path / "in" / name / camera).mkdir(parents=True)
            for n, frame in enumerate(frames):
                picture = Image.fromarray(frame if camera == "left" else frame[:, ::-1])
                picture.save(tmp_path / "in" / name / camera / f"frame_{n}.png")
        (tmp_path / "in" / name / "action.csv").write_text("1,2\n3,4\n")
    store = Folder(str(tmp_path / "in"), camera="right", rate=5.0).record(tmp_path / "store")
    assert [(e.id, e.split) for e in store.entries] == [
        ("test-x", "test"),
        ("train-take-9", "train"),
        ("train-take-10", "train"),
        ("validation-y", "validation"),
    ]
    np.testing.assert_array_equal(store.values("test-x", "image"), frames[:, :, ::-1])
    np.testing.assert_array_equal(store.values("test-x", "left"), frames)
    np.testing.assert_array_equal(store.values("test-x", "action"), [[1, 2], [3, 4]])
    assert store.streams["action"].kind == "action"


DAMAGE: list[tuple[str, bytes, str]] = [
    ("joints.csv", b"time,q\n0,1\n0.1,x\n", r"joints\.csv, line 3, column 2: 'x' is no finite number"),
    ("joints.csv", b"time,q\n0,1\n0.1,inf\n", r"line 3, column 2: 'inf' is no finite number"),
    ("joints.csv", b"time,q\n0,1\n0.1\n", r"line 3: 1 columns, not 2"),
    ("joints.csv", b"time,q\n0,1\n0.1,0.", r"ends within a line \('0.1,0.'\); it is cut off"),
    ("joints.csv", b"time,q\n", "no line of numbers"),
    ("joints.csv", b"", "is empty"),
    ("joints.csv", b"time,q\n0,\xff\n", "no text in UTF-8"),
    ("joints.csv", b"time,q\n0.1,1\n0,2\n", "clock does not run forwards"),
    ("joints.csv", b'time,"q\n0,1\n0.1,2\n', "names of columns and no line|column"),
    ("wrist/000001.png", b"", "picture 1, cannot be decoded"),
    ("wrist/000002.png", b"\x89PNG\r\n\x1a\n" + bytes(20), "picture 2, cannot be decoded"),
    ("image.mkv", b"\x1aE\xdf\xa3" + bytes(100), "cannot be read as a video"),
    ("wrist.csv", b"time\n0\n1\n", r"has 5 pictures, wrist\.csv beside it 2 stamps"),
]


@pytest.mark.parametrize(("name", "content", "words"), DAMAGE)
def test_a_damaged_file_costs_its_episode(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    for number in range(3):
        path = tmp_path / "in" / f"e{number}"
        (path / "wrist").mkdir(parents=True)
        frames = smooth(np.random.default_rng(number), 5, 6, 6)
        write_video(path / "image.mkv", frames, 10.0, codec="ffv1")
        for n, frame in enumerate(frames):
            Image.fromarray(frame).save(path / "wrist" / f"{n:06d}.png")
        (path / "joints.csv").write_text("time,q\n0,1\n0.1,2\n")
    (tmp_path / "in" / "e1" / name).write_bytes(content)
    with pytest.raises(SakiyomiError, match=words) as caught:
        Folder(str(tmp_path / "in"), rate=10.0).record(tmp_path / "store")
    assert "\n" not in str(caught.value)
    assert [e.id for e in EpisodeStore(tmp_path / "store").entries] == ["e0", "e2"]


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32))
def test_damaged_tables_are_errors_and_nothing_else(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    chance = random.Random(seed)
    path = tmp_path_factory.mktemp("spoiled") / "a.csv"
    write_table(path, np.arange(5.0), np.random.default_rng(seed).normal(size=(5, 3)), ("a", "b", "c"))
    spoiled = bytearray(path.read_bytes())
    spoiled = spoiled[: chance.randrange(len(spoiled))] if chance.random() < 0.3 else spoiled
    for _ in range(chance.choice((1, 1, 4)) if spoiled else 0):
        spoiled[chance.randrange(len(spoiled))] = chance.choice((0, 10, 34, 44, 59, 255, chance.randrange(256)))
    path.write_bytes(spoiled)
    told = ""
    try:
        table = read_table(path, chance.choice(("float32", "float64", "int64", "bool")))
        assert np.isfinite(table.values).all()
    except SakiyomiError as error:
        told = str(error)
    assert not told or (str(path) in told and "\n" not in told)


def test_what_is_no_such_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty" / "deep").mkdir(parents=True)
    with pytest.raises(SakiyomiError, match="holds no recordings, nor do the 1 folders in it"):
        Folder(str(tmp_path / "empty")).record(tmp_path / "store")
    lab(tmp_path / "in")
    one = '{"kind": "scalar", "shape": [3], "dtype": "DTYPE", "rate": 1}'
    about = '{"format": "sakiyomi-folder-1", "streams": {"run": ONE}}'.replace("ONE", one)
    for content, words in {
        "{": "cannot be read",
        about.replace("folder-1", "folder-2"): "has format 'sakiyomi-folder-2'",
        about.replace("DTYPE", "object"): "names the type 'object'",
        about.replace("DTYPE", "int8"): "no finite number of type int8",
        about.replace("DTYPE", "float32"): r"run.csv has 2 columns; folder.json says \[3\]",
    }.items():
        (tmp_path / "in" / "folder.json").write_text(content)
        with pytest.raises(SakiyomiError, match=words):
            Folder(str(tmp_path / "in")).record(tmp_path / "store")
    assert not folder.recognises(tmp_path / "empty")
    assert not folder.recognises(tmp_path / "nowhere")


def flat(path: Path, count: int, clock: str = "time") -> list[np.ndarray]:
    """A folder of run1.mkv, run1.csv, run2.mkv and so on. Returns the numbers of each."""
    path.mkdir(parents=True, exist_ok=True)
    numbers = []
    for number in range(1, count + 1):
        numbers.append(lab(path / "one", 3 + number, clock))
        for file in (path / "one").iterdir():
            file.rename(path / f"run{number}{file.suffix}")
        (path / "one").rmdir()
    return numbers


@pytest.mark.parametrize("clock", ["time", ""])
def test_files_of_one_name_are_an_episode(tmp_path: Path, clock: str) -> None:
    numbers = flat(tmp_path / "in", 11, clock)
    assert folder.recognises(tmp_path / "in")
    store = Folder(str(tmp_path / "in")).record(tmp_path / "store")
    assert [(e.id, e.split) for e in store.entries] == [
        (f"run{number}", "train" if number < 11 else "validation") for number in range(1, 12)
    ]
    for entry, values in zip(store.entries, numbers, strict=True):
        np.testing.assert_array_equal(store.values(entry.id, "joints"), values)
        assert store.values(entry.id, "image").shape == (len(values), 16, 24, 3)
        assert entry.meta["file"] == entry.id


def test_files_of_one_name_in_folders_of_splits(tmp_path: Path) -> None:
    for name, count in {"train": 3, "val": 2}.items():
        flat(tmp_path / "in" / name, count)
    store = Folder(str(tmp_path / "in")).record(tmp_path / "store")
    assert {entry.id: entry.split for entry in store.entries} == {
        **dict.fromkeys(("train-run1", "train-run2", "train-run3"), "train"),
        **dict.fromkeys(("val-run1", "val-run2"), "validation"),
    }


def test_a_film_without_its_table_costs_its_episode(tmp_path: Path) -> None:
    flat(tmp_path / "in", 4)
    (tmp_path / "in" / "run1.csv").unlink()
    (tmp_path / "in" / "run3.mkv").unlink()
    with pytest.raises(SakiyomiError, match=r"2 damaged.*run1 has no table.*run3 has no pictures"):
        Folder(str(tmp_path / "in")).record(tmp_path / "store")
    assert [entry.id for entry in EpisodeStore(tmp_path / "store").entries] == ["run2", "run4"]


def test_cameras_of_one_episode_are_no_episodes_unless_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flat(tmp_path / "in", 2)
    for number in (1, 2):  # the clock of a film, and nothing else
        (tmp_path / "in" / f"run{number}.csv").write_text("time\n" + "".join(f"{n / 20}\n" for n in range(3 + number)))
    store = Folder(str(tmp_path / "in")).record(tmp_path / "store")
    assert ([entry.id for entry in store.entries], sorted(store.streams)) == (["in"], ["image", "run2"])
    assert "--episodes files" in capsys.readouterr().out
    store = Folder(str(tmp_path / "in"), episodes="files").record(tmp_path / "told")
    assert ([entry.id for entry in store.entries], sorted(store.streams)) == (["run1", "run2"], ["image"])
    flat(tmp_path / "pairs", 2)
    store = Folder(str(tmp_path / "pairs"), episodes="folders").record(tmp_path / "one")
    assert [entry.id for entry in store.entries] == ["pairs"]


def test_pictures_that_lie_are_set_upright(tmp_path: Path) -> None:
    (tmp_path / "in" / "image").mkdir(parents=True)
    frame = smooth(np.random.default_rng(0), 1, 16, 24)[0]
    about = Image.Exif()
    about[0x0112] = 6  # the camera was turned: a quarter to the right makes it upright
    for number in range(2):
        Image.fromarray(frame).save(tmp_path / "in" / "image" / f"{number}.png", exif=about)
    store = Folder(str(tmp_path / "in"), rate=1).record(tmp_path / "store")
    np.testing.assert_array_equal(store.values("in", "image"), np.stack([np.rot90(frame, -1)] * 2))


def test_films_beside_folders_of_episodes_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lab(tmp_path / "in" / "a")
    flat(tmp_path / "in", 1)
    assert [entry.id for entry in Folder(str(tmp_path / "in")).record(tmp_path / "store").entries] == ["a"]
    assert "films right in it are left out" in capsys.readouterr().out


def test_a_store_that_a_folder_cannot_hold(tmp_path: Path) -> None:
    writer = EpisodeWriter(tmp_path / "store", {"label": STREAMS["label"]})
    writer.add("a", {"label": np.ones((1, 2), np.float32)}, {"label": np.zeros(1)})
    with pytest.raises(SakiyomiError, match="holds label; a folder takes pictures"):
        write_folder(writer.finish(), tmp_path / "out")
