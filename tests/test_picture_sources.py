"""Labelled pictures from every form they come in, split so that none is in two splits, and refused where damaged."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_public import Server, listed, server

from sakiyomi.data import public
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.formats.labelled import read_labelled, small_digits
from sakiyomi.data.public import PublicSet, public_sets
from sakiyomi.data.sources.pictures import CLOTHES, Pictures, hold_out
from sakiyomi.data.windows import Data, Windows
from sakiyomi.errors import SakiyomiError
from sakiyomi.presets import preset
from sakiyomi.train import Normalizer

__all__ = ["server"]  # the fixture of test_public: a real server on this machine
MNIST = Path(__file__).parents[1].parent / "shared" / "data" / "images" / "mnist.npz"


def made_up(count: int = 120, size: int = 28, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pictures that tell their own number and their label: uint8 [N, size, size], and labels in turn."""
    numbers = np.arange(first, first + count)
    pictures = np.zeros((count, size, size), np.uint8)
    pictures[:, 0, 0], pictures[:, 0, 1], pictures[:, 0, 2] = numbers // 256, numbers % 256, numbers % 10
    return pictures, (numbers % 10).astype(np.uint8)


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_npz(folder: Path) -> Path:
    (x, y), (x_test, y_test) = made_up(), made_up(30, first=500)
    np.savez(folder / "made.npz", x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    return folder / "made.npz"


def write_idx(folder: Path, zipped: bool = True) -> Path:
    for part, (x, y) in {"train": made_up(), "t10k": made_up(30, first=500)}.items():
        for name, array in {"images-idx3": x, "labels-idx1": y}.items():
            content, path = idx(array), folder / f"{part}-{name}-ubyte"
            if zipped:
                path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
            else:
                path.write_bytes(content)
    return folder


def write_folders(folder: Path) -> Path:
    for part, (x, y) in {"train": made_up(), "test": made_up(30, first=500)}.items():
        for number, (picture, label) in enumerate(zip(x, y, strict=True)):
            path = folder / part / str(label) / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
    return folder


FORMS: dict[str, Callable[[Path], Path]] = {
    "npz": write_npz,
    "idx.gz": write_idx,
    "idx": lambda folder: write_idx(folder, zipped=False),
    "folders": write_folders,
}


def numbers_of(store: EpisodeStore, split: str) -> list[int]:
    """Which pictures a split has, by what they tell of themselves; each must carry its label."""
    found = []
    for entry in store.split(split):
        images, labels = store.values(entry.id, "image"), store.values(entry.id, "label")
        assert images.shape[1:] == (28, 28, 1)
        assert labels.dtype == np.float32
        assert (labels.sum(1) == 1).all()
        assert (labels.argmax(1) == images[:, 0, 2, 0]).all()
        np.testing.assert_array_equal(store.times(entry.id, "image"), np.arange(len(images)))
        found += (images[:, 0, 0, 0].astype(int) * 256 + images[:, 0, 1, 0]).tolist()
    return found


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_store(form: str, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    path = FORMS[form](folder)
    store = Pictures("mnist", str(path), episode=40, validation=0.2).record(tmp_path / "out")
    assert store.streams["label"].names == tuple("0123456789")
    assert store.streams["label"].kind == "label"
    sizes = {split: [e.lengths["image"] for e in store.split(split)] for split in ("train", "validation", "test")}
    assert {split: sum(size) for split, size in sizes.items()} == {"train": 100, "validation": 20, "test": 30}
    assert max(max(size) for size in sizes.values()) <= 40
    train, validation, test = (numbers_of(store, split) for split in sizes)
    assert sorted(test) == list(range(500, 530))
    assert sorted(train + validation) == list(range(120))
    assert train != sorted(train)


def test_forms_agree_on_pictures_and_labels(tmp_path: Path) -> None:
    found = {}
    for name, form in FORMS.items():
        (tmp_path / name).mkdir()
        found[name] = read_labelled(form(tmp_path / name))
    for parts in found.values():
        assert set(parts) == {"train", "test"}
        for part in parts:  # folders are sorted by label
            keys = [p.pictures.reshape(len(p.labels), -1)[:, :3].tolist() for p in (parts[part], found["npz"][part])]
            assert sorted(keys[0]) == sorted(keys[1])
            assert (parts[part].pictures[:, 0, 2] == parts[part].labels).all()


def test_each_split_holds_a_stretch_of_each_label() -> None:
    labels = np.random.default_rng(0).integers(0, 4, 400)
    held = hold_out(labels, 0.1, 0.2)
    assert sorted(np.concatenate([*held.values()]).tolist()) == list(range(400))
    for label in range(4):
        of = {split: [i for i in picks.tolist() if labels[i] == label] for split, picks in held.items()}
        assert max(of["train"]) < min(of["validation"])
        assert max(of["validation"]) < min(of["test"])
        count = sum(map(len, of.values()))
        assert len(of["validation"]) == round(0.1 * count)
        assert len(of["test"]) == round(0.2 * count)
    assert set(hold_out(labels, 0.1, 0.0)) == {"train", "validation"}


def test_the_digits_of_scikit_learn(tmp_path: Path) -> None:
    store = Pictures().record(tmp_path / "s")
    counts = {split: sum(e.lengths["image"] for e in store.split(split)) for split in ("train", "validation", "test")}
    assert sum(counts.values()) == 1797
    assert counts["train"] > 1400
    digits = small_digits()
    for entry in store.entries:
        picks = entry.meta["pictures"]
        np.testing.assert_array_equal(store.values(entry.id, "image")[..., 0], digits.pictures[picks])
        np.testing.assert_array_equal(store.values(entry.id, "label").argmax(1), digits.labels[picks])


def test_windows_of_pictures_keep_their_labels(tmp_path: Path) -> None:
    x, y = made_up(400)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y)
    store = Pictures("mnist", str(tmp_path / "a.npz"), episode=60).record(tmp_path / "s")
    normalizer = Normalizer.fit(store, {"image": ("image",), "label": ("label",)})
    data = Data(str(store.folder), steps=8, clock="image")
    batch = Windows(store, "train", data, ("image", "label"), normalizer).draw(0, 0, 5)
    assert batch.inputs["image"].shape == (5, 8, 1, 28, 28)
    said = (batch.inputs["image"][..., 0, 0, 2] * 255).round().long()
    assert (batch.inputs["label"].argmax(-1) == said).all()
    assert (batch.inputs["label"].sum(-1) == 1).all()


def test_pictures_of_other_sizes_and_colours_are_made_alike(tmp_path: Path) -> None:
    for label, colour in {"red": (255, 0, 0), "blue": (0, 0, 255)}.items():
        (tmp_path / "in" / label).mkdir(parents=True)
        for number in range(5):
            Image.new("RGB", (40 + number, 50), colour).save(tmp_path / "in" / label / f"{number}.jpg", quality=95)
    store = Pictures("digits", str(tmp_path / "in"), size=16, colours=3).record(tmp_path / "colour")
    assert store.streams["label"].names == ("blue", "red")
    for entry in store.entries:
        images, labels = store.values(entry.id, "image").astype(int), store.values(entry.id, "label")
        assert images.shape[1:] == (16, 16, 3)
        assert ((images[..., 0] > images[..., 2]).all((1, 2)) == (labels[:, 1] == 1)).all()
    grey = Pictures("digits", str(tmp_path / "in"), size=16).record(tmp_path / "grey")
    assert grey.streams["image"].shape == (16, 16, 1)


def test_labels_may_be_any_whole_numbers(tmp_path: Path) -> None:
    """Letters count from 1 in some collections."""
    x, y = made_up()
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y * 3 + 1)
    store = Pictures("mnist", str(tmp_path / "a.npz")).record(tmp_path / "s")
    assert store.streams["label"].names == tuple(str(3 * n + 1) for n in range(10))
    for split in ("train", "validation", "test"):
        numbers_of(store, split)  # each carries its label
    np.savez(tmp_path / "b.npz", x_train=x, y_train=y, x_test=x[:3], y_test=np.array([1, 2, 10]))
    with pytest.raises(SakiyomiError, match="test has a label 10, of which train has no picture"):
        Pictures("mnist", str(tmp_path / "b.npz")).record(tmp_path / "t")


def test_other_pictures_are_another_store(tmp_path: Path) -> None:
    path = write_npz(tmp_path)
    source = Pictures("mnist", str(path))
    source.record(tmp_path / "s")
    moved = tmp_path / "moved.npz"
    path.rename(moved)
    Pictures("mnist", str(moved)).record(tmp_path / "s")  # the same, from another place
    x, y = made_up(121)
    np.savez(path, x_train=x, y_train=y)
    with pytest.raises(SakiyomiError, match="made with other settings"):
        source.record(tmp_path / "s")


# --- by name


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_a_public_set_by_name(name: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetched from a server, in the layout of the real one, then read by its name."""
    write_idx(tmp_path)
    server.files = {path.name: path.read_bytes() for path in tmp_path.glob("*.gz")}
    real = public_sets()[name]
    assert {file for file, _, _ in real.files} == set(server.files)
    small = PublicSet(real.title, real.licence, server.base, listed(server.files))
    monkeypatch.setattr(public, "public_sets", lambda: {name: small})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SakiyomiError, match=f"0 of 4 files .*sakiyomi fetch {name}"):
        Pictures(name).record(tmp_path / "s")
    public.fetch(name)
    store = Pictures(name).record(tmp_path / "s")
    assert sum(e.lengths["image"] for e in store.entries) == 150
    assert store.streams["label"].names == (CLOTHES if name == "fashion-mnist" else tuple("0123456789"))


@pytest.mark.skipif(not MNIST.exists(), reason="needs ../shared/data/images/mnist.npz")
def test_real_mnist(tmp_path: Path) -> None:
    source = preset("mnist").source
    store = type(source)(**{**vars(source), "path": str(MNIST)}).record(tmp_path / "s")
    counts = {split: sum(e.lengths["image"] for e in store.split(split)) for split in ("train", "validation", "test")}
    assert counts["train"] + counts["validation"] == 60_000
    assert counts["test"] == len(np.load(MNIST)["y_test"])
    assert abs(store.statistics["image"].mean[0] / 255 - 0.1307) < 0.002  # as everybody's


# --- what is refused


def broken(tmp_path: Path, form: str, change: Callable[[Path], Any]) -> Path:
    path = FORMS[form](tmp_path)
    change(path)
    return path


def without_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-500])


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("form", "change", "words"),
    [
        ("idx", lambda p: without_end(p / IMAGES), r"120 x 28 x 28 values, and only 93580 came; it was cut"),
        ("idx", lambda p: (p / IMAGES).write_bytes(idx(made_up()[0]) + b"1"), "and more came"),
        ("idx", lambda p: (p / IMAGES).write_bytes(idx(made_up()[0])[:9]), "it is damaged"),
        ("idx", lambda p: (p / IMAGES).write_bytes(b"\x00\x00\x08\x03" + b"\xff" * 12), "it is damaged"),
        ("idx", lambda p: (p / IMAGES).write_bytes(b"\x00\x00\x0d\x03" + bytes(12)), "begins with 00 00 0d 03; an idx"),
        ("idx", lambda p: (p / IMAGES).write_bytes(b""), "begins with nothing"),
        ("idx", lambda p: (p / LABELS).write_bytes(idx(made_up()[1][:-1])), "120 pictures, .* 119 labels"),
        ("idx", lambda p: (p / LABELS).unlink(), f"no {LABELS}"),
        ("idx.gz", lambda p: without_end(p / f"{IMAGES}.gz"), r"cannot be read: .*fetch it anew"),
        ("idx.gz", lambda p: (p / f"{IMAGES}.gz").write_bytes(b"no gzip"), r"cannot be read: .*gzip"),
        ("folders", lambda p: (p / "train" / "empty").mkdir(), "empty holds no picture .*remove the folder, or fill"),
        ("folders", lambda p: without_end(p / "train" / "3" / "003.png"), "cannot be decoded"),
        ("folders", lambda p: (p / "train" / "3" / "003.png").write_bytes(b"text"), r"003\.png cannot be decoded"),
        ("folders", lambda p: (p / "test" / "9").rename(p / "test" / "ten"), "they must be the same"),
    ],
)
def test_damaged_files_are_told(form: str, change: Callable[[Path], Any], words: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = broken(tmp_path / "in", form, change)
    with pytest.raises(SakiyomiError, match=words):
        Pictures("mnist", str(path)).record(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": np.zeros(3)}, "has images; it needs x_train and y_train"),
        ({"x_train": np.zeros((20, 28, 28)), "y_train": np.zeros(20)}, r"x_train is float64"),
        ({"x_train": np.zeros((20, 28, 28), np.uint8), "y_train": np.zeros(19)}, r"y_train \[19\]"),
        ({"x_train": np.zeros((20, 28, 28), np.uint8), "y_train": np.full(20, 0.5)}, "whole numbers"),
        ({"x_train": np.zeros((20, 28, 28), np.uint8), "y_train": np.array(["a"] * 20)}, "whole numbers"),
        ({"x_train": np.zeros((20, 28, 28), np.uint8), "y_train": np.arange(20)}, "label 0 has 1 pictures"),
        ({"x_train": np.array([{}]), "y_train": np.zeros(1)}, "cannot be read as an .npz"),
    ],
)
def test_archives_of_something_else_are_told(arrays: dict[str, Any], words: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(SakiyomiError, match=words):
        Pictures("mnist", str(tmp_path / "a.npz")).record(tmp_path / "out")


def test_a_picture_of_fifty_megapixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    (tmp_path / "in" / "a").mkdir(parents=True)
    Image.new("1", (8000, 6250)).save(tmp_path / "in" / "a" / "huge.png")
    with pytest.raises(SakiyomiError, match=r"huge\.png has 8000 x 6250 pixels, 50 megapixels; at most 25 .*scale it"):
        Pictures("digits", str(tmp_path / "in")).record(tmp_path / "out")


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"name": "mnits"}, "did you mean 'mnist'"),
        ({"path": "nowhere"}, "--path nowhere does not exist"),
        ({"size": 0}, "--size is 0"),
        ({"size": 100_000}, "--size is 100000"),
        ({"colours": 2}, "--colours is 2"),
        ({"validation": 0.0}, "--validation is 0.0; it is a share above 0"),
        ({"test": float("nan")}, "--test is nan"),
        ({"episode": 1}, "--episode is 1"),
        ({"seed": -1}, "--seed is -1"),
    ],
)
def test_settings_that_cannot_be_are_told(made: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(SakiyomiError, match=words):
        Pictures(**made).record(tmp_path / "out")


def test_a_folder_of_something_else_is_told(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("no pictures")
    with pytest.raises(SakiyomiError, match="holds no folder of pictures a label, and no train-images"):
        Pictures("digits", str(tmp_path)).record(tmp_path / "out")
    with pytest.raises(SakiyomiError, match=r"readme\.txt is no \.npz"):
        Pictures("digits", str(tmp_path / "readme.txt")).record(tmp_path / "out")
