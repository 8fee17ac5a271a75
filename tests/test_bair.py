"""BAIR robot pushing in both layouts: all of it is kept, and what is damaged costs itself and no more."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_tfrecord import write

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.formats import tfrecord
from sakiyomi.data.formats.bair import Bair
from sakiyomi.data.formats.importing import picture
from sakiyomi.data.formats.tfrecord import Features
from sakiyomi.errors import SakiyomiError

Values = dict[str, np.ndarray]


def sequence(seed: int, steps: int = 3) -> Values:
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (steps, 64, 64, 3), dtype=np.uint8)
    numbers = {"action": random.normal(size=(steps, 4)), "position": random.normal(size=(steps, 3))}
    return {"image": image, **{name: value.astype(np.float32) for name, value in numbers.items()}}


def features(values: Values) -> Features:
    """As one Example; the main camera sees the picture upside down."""
    found: Features = {}
    for t in range(len(values["image"])):
        found[f"{t}/image_aux1/encoded"] = [values["image"][t].tobytes()]
        found[f"{t}/image_main/encoded"] = [values["image"][t, ::-1].tobytes()]
        found[f"{t}/action"], found[f"{t}/endeffector_pos"] = values["action"][t], values["position"][t]
    return found


def png(frame: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "PNG")
    return file.getvalue()


def write_pictures(folder: Path, values: Values) -> None:
    folder.mkdir(parents=True)
    for t, frame in enumerate(values["image"]):
        (folder / f"{t}.png").write_bytes(png(frame))
    for name, stream in (("actions", "action"), ("endeffector_positions", "position")):
        lines = (",".join(repr(float(v)) for v in row) for row in values[stream])
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")


# Split, part and number in it -> seed of the sequence; the parts in the order in which they must be read.
LAYOUT = {("train", "traj_2_to_3"): (0, 1), ("train", "traj_10_to_12"): (2, 3, 4), ("test", "traj_0_to_0"): (5,)}


def as_records(root: Path) -> Path:
    for (split, part), seeds in LAYOUT.items():
        write(root / split / f"{part}.tfrecords", *[features(sequence(seed, 3 + seed % 2)) for seed in seeds])
    return root


def as_pictures(root: Path) -> Path:
    for (split, part), seeds in LAYOUT.items():
        for k, seed in enumerate(seeds):
            write_pictures(root / split / f"{part}.tfrecords" / str(k), sequence(seed, 3 + seed % 2))
    return root


IDS = {f"{split}-{part}-{k:05d}": seed for (split, part), seeds in LAYOUT.items() for k, seed in enumerate(seeds)}


def assert_holds(store: EpisodeStore, ids: list[str]) -> None:
    assert [entry.id for entry in store.entries] == ids
    for id in ids:
        for stream, values in sequence(IDS[id], 3 + IDS[id] % 2).items():
            np.testing.assert_array_equal(store.values(id, stream), values)
            np.testing.assert_array_equal(store.times(id, stream), np.arange(len(values)) / 10)


Layout = pytest.mark.parametrize("layout", [as_records, as_pictures])


@Layout
@pytest.mark.parametrize("above", ["", "processed_data"])
def test_all_streams_of_all_sequences_are_kept(tmp_path: Path, layout: Callable[[Path], Path], above: str) -> None:
    """Of unequal lengths; the folder itself or the one above it; without a folder for it, the last are validation."""
    layout(tmp_path / "data" / above)
    told: list[tuple[int, int]] = []
    store = Bair(str(tmp_path / "data"), validation=0.4).record(tmp_path / "s", lambda *at: told.append(at))
    assert_holds(store, list(IDS))
    assert [entry.split for entry in store.entries] == ["train"] * 3 + ["validation"] * 2 + ["test"]
    assert told == [(n, 6) for n in range(1, 7)]


@Layout
def test_an_interrupted_import_goes_on(tmp_path: Path, layout: Callable[[Path], Path]) -> None:
    source = Bair(str(layout(tmp_path / "data")))
    store = source.record(tmp_path / "s")
    assert [entry.split for entry in store.entries] == ["train"] * 4 + ["validation", "test"]  # at least one
    manifest = tmp_path / "s" / "manifest.jsonl"
    lines = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(b"".join(lines[:2]))
    assert source.record(tmp_path / "s").entries == store.entries
    (tmp_path / "data").rename(tmp_path / "moved")
    assert Bair(str(tmp_path / "moved")).record(tmp_path / "s").entries == store.entries


@Layout
def test_only_the_first_ones(tmp_path: Path, layout: Callable[[Path], Path]) -> None:
    store = Bair(str(layout(tmp_path / "data")), episodes=3).record(tmp_path / "s")
    assert_holds(store, [*list(IDS)[:3], list(IDS)[-1]])
    assert [entry.split for entry in store.entries] == ["train", "train", "validation", "test"]


def test_a_folder_for_validation_is_the_validation_split(tmp_path: Path) -> None:
    as_pictures(tmp_path / "data")
    write_pictures(tmp_path / "data" / "validate" / "traj_0_to_255.tfrecords" / "11", sequence(9))
    store = Bair(str(tmp_path / "data")).record(tmp_path / "s")
    assert [entry.id for entry in store.split("validation")] == ["validate-traj_0_to_255-00011"]
    assert len(store.split("train")) == 5


def test_the_other_camera(tmp_path: Path) -> None:
    store = Bair(str(as_records(tmp_path / "data")), camera="main").record(tmp_path / "s")
    for id, seed in IDS.items():
        np.testing.assert_array_equal(store.values(id, "image"), sequence(seed, 3 + seed % 2)["image"][:, ::-1])


def test_a_byte_that_changed_costs_one_sequence_until_it_is_repaired(tmp_path: Path) -> None:
    root = as_records(tmp_path / "data")
    path = root / "train" / "traj_2_to_3.tfrecords"
    whole = path.read_bytes()
    spoiled = bytearray(whole)
    spoiled[5000] ^= 1
    path.write_bytes(spoiled)
    with pytest.raises(SakiyomiError) as caught:
        Bair(str(root)).record(tmp_path / "s")
    message = str(caught.value)
    for word in (
        f"{path}, record 0 ",
        "at byte 0: the checksum of its data",
        "1 damaged",
        "other 5 episodes",
        "usable",
    ):
        assert word in message
    assert "\n" not in message
    assert_holds(EpisodeStore(tmp_path / "s"), list(IDS)[1:])
    assert EpisodeStore(tmp_path / "s").statistics
    path.write_bytes(whole)
    store = Bair(str(root)).record(tmp_path / "s")
    assert_holds(store, [*list(IDS)[1:], next(iter(IDS))])


def test_a_file_cut_off_or_of_no_length_keeps_the_others(tmp_path: Path) -> None:
    root = as_records(tmp_path / "data")
    first, second = (root / "train" / f"{part}.tfrecords" for part in ("traj_2_to_3", "traj_10_to_12"))
    first.write_bytes(first.read_bytes()[:-1])
    spoiled = bytearray(second.read_bytes())
    spoiled[3] ^= 1
    second.write_bytes(spoiled)
    with pytest.raises(SakiyomiError, match=r"2 damaged .* cut off.*checksum of its length") as caught:
        Bair(str(root)).record(tmp_path / "s")
    assert str(first) in str(caught.value)
    assert str(second) in str(caught.value)
    assert_holds(EpisodeStore(tmp_path / "s"), ["train-traj_2_to_3-00000", "test-traj_0_to_0-00000"])


def changed(**changes: Any) -> Callable[[Features], None]:
    def change(found: Features) -> None:
        for key, value in changes.items():
            name = f"1/{key}" if key in ("action", "endeffector_pos") else f"1/{key}/encoded"
            if value is None:
                del found[name]
            else:
                found[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (changed(image_aux1=[bytes(100)]), ["'1/image_aux1/encoded' has 100 bytes", "64 x 64 x 3 = 12288"]),
        (changed(image_aux1=np.zeros(3, np.float32)), ["'1/image_aux1/encoded' holds no picture"]),
        (changed(image_aux1=None), ["no '1/image_aux1/encoded'", "image_main/encoded"]),
        (changed(action=np.zeros(5, np.float32)), ["'1/action' holds 5 numbers, not 4"]),
        (changed(action=np.zeros(4, np.int64)), ["'1/action' holds no float numbers"]),
        (changed(action=np.array([0, 0, np.inf, 0], np.float32)), ["'1/action' is not finite"]),
        (changed(endeffector_pos=None), ["no '1/endeffector_pos'"]),
        (lambda found: found.clear(), ["no '0/image_aux1/encoded'", "none"]),
    ],
)
def test_a_bad_example_is_named(tmp_path: Path, change: Callable[[Features], None], words: list[str]) -> None:
    bad = features(sequence(1))
    change(bad)
    path = write(tmp_path / "data" / "train" / "traj_0_to_2.tfrecords", features(sequence(0)), bad)
    with pytest.raises(SakiyomiError) as caught:
        Bair(str(tmp_path / "data")).record(tmp_path / "s")
    for word in [f"{path}, record 1: ", *words]:
        assert word in str(caught.value)
    assert len(EpisodeStore(tmp_path / "s").entries) == 1


def edit(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "1.png").unlink(), ["1.png is missing", "3 pictures are there, up to 3.png"]),
        (lambda folder: (folder / "3.png").unlink(), ["3 pictures, 4 actions, 4 positions"]),
        (lambda folder: [path.unlink() for path in folder.glob("*.png")], ["0.png is missing", "0 pictures"]),
        (lambda folder: (folder / "actions.csv").unlink(), ["actions.csv", "No such file"]),
        (edit("1.png", lambda content: content[:200]), ["1.png cannot be decoded"]),
        (edit("1.png", lambda content: b"text"), ["1.png cannot be decoded: no PNG or JPEG"]),
        (edit("1.png", lambda content: b""), ["1.png cannot be decoded"]),
        (edit("1.png", lambda content: png(np.zeros((32, 48, 3), np.uint8))), ["1.png is 48 x 32, not 64 x 64"]),
        (edit("actions.csv", lambda text: text[: text.rindex(b"\n", 0, -1)]), ["4 pictures, 3 actions, 4 positions"]),
        (edit("actions.csv", lambda text: text.replace(b"\n", b",1\n", 1)), ["actions.csv, line 1: 5 columns, not 4"]),
        (edit("actions.csv", lambda text: b"a,b,c,d\n" + text), ["actions.csv, line 1, column 1: 'a' is no finite"]),
        (edit("actions.csv", lambda text: b"1,2,,4\n" + text), ["line 1, column 3: '' is no finite"]),
        (edit("actions.csv", lambda text: b"1,2,3,nan\n" + text), ["line 1, column 4: 'nan' is no finite"]),
        (edit("actions.csv", lambda text: b"1e39,2,3,4\n" + text), ["line 1, column 1: '1e39' is no finite"]),
        (edit("actions.csv", lambda text: b"\xff\xfe\x00" + text), ["actions.csv, line 1, column 1"]),
        (edit("actions.csv", lambda text: b""), ["4 pictures, 0 actions"]),
        (
            edit("endeffector_positions.csv", lambda text: text.replace(b",", b";")),
            ["endeffector_positions.csv, line 1: 1 columns, not 3"],
        ),
    ],
)
def test_a_bad_folder_is_named_and_the_others_are_imported(
    tmp_path: Path, spoil: Callable[[Path], object], words: list[str]
) -> None:
    root = as_pictures(tmp_path / "data")
    folder = root / "train" / "traj_2_to_3.tfrecords" / "1"
    spoil(folder)
    with pytest.raises(SakiyomiError) as caught:
        Bair(str(root)).record(tmp_path / "s")
    message = str(caught.value)
    assert "\n" not in message
    for word in [str(folder), *words, "1 damaged", "other 5 episodes"]:
        assert word in message
    rest = [id for id in IDS if id != "train-traj_2_to_3-00001"]
    assert_holds(EpisodeStore(tmp_path / "s"), rest)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    write_pictures(folder, sequence(1, 4))  # repaired
    assert_holds(Bair(str(root)).record(tmp_path / "s"), [*rest, "train-traj_2_to_3-00001"])


def test_pictures_need_no_library_of_tfrecords(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise SakiyomiError("pip install 'sakiyomi[bair]'")

    monkeypatch.setattr(tfrecord, "_checksum", missing)
    monkeypatch.setattr(tfrecord, "_example_type", missing)
    assert_holds(Bair(str(as_pictures(tmp_path / "pictures"))).record(tmp_path / "s"), list(IDS))
    with pytest.raises(SakiyomiError, match="pip install"):
        Bair(str(as_records(tmp_path / "records"))).record(tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_many_errors_are_counted_and_a_store_of_nothing_says_so(tmp_path: Path) -> None:
    root = as_pictures(tmp_path / "data")
    for path in root.rglob("1.png"):
        path.write_bytes(b"")
    with pytest.raises(SakiyomiError, match=r"nothing could be imported; 6 damaged: .*; and 3 more") as caught:
        Bair(str(root)).record(tmp_path / "s")
    assert str(caught.value).count("1.png") == 3


def test_training_data_all_damaged_names_the_damage(tmp_path: Path) -> None:
    root = as_records(tmp_path / "data")
    for path in (root / "train").iterdir():
        path.write_bytes(b"no record at all")
    with pytest.raises(SakiyomiError, match=r"no episode of split 'train'.*2 damaged.*traj_2_to_3"):
        Bair(str(root)).record(tmp_path / "s")


PNG = png(sequence(0)["image"][0])


@settings(max_examples=200)
@given(st.integers(0, len(PNG) - 1), st.integers(0, 7))
def test_a_flipped_bit_of_a_png_is_an_error_or_changes_nothing(at: int, bit: int) -> None:
    spoiled = bytearray(PNG)
    spoiled[at] ^= 1 << bit
    try:
        frame = np.asarray(picture("a.png", bytes(spoiled)))
    except SakiyomiError:
        return
    np.testing.assert_array_equal(frame, sequence(0)["image"][0])


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"path": ""}, "no path given: name the folder of BAIR"),
        ({"path": "nowhere"}, "nowhere does not exist"),
        ({"validation": 1.0}, "--validation is 1"),
        ({"validation": -1.0}, "--validation is -1"),
        ({"episodes": -1}, "--episodes is -1"),
        ({"rate": 0.0}, "--rate is 0"),
        ({"rate": float("nan")}, "--rate is nan"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, made: dict[str, Any], words: str) -> None:
    root = as_records(tmp_path / "data")
    with pytest.raises(SakiyomiError, match=words):
        Bair(**{"path": str(root), **made}).record(tmp_path / "s")


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other" / "videos").mkdir(parents=True)
    with pytest.raises(SakiyomiError, match=r"other holds no train/traj_\*.*\['videos'\]"):
        Bair(str(tmp_path / "other")).record(tmp_path / "s")
    as_records(tmp_path / "two" / "a")
    as_records(tmp_path / "two" / "b")
    with pytest.raises(SakiyomiError, match="2 data sets: a, b"):
        Bair(str(tmp_path / "two")).record(tmp_path / "s")
    with pytest.raises(SakiyomiError, match="name the folder that holds train and test"):
        Bair(str(tmp_path / "two" / "a" / "train")).record(tmp_path / "s")
