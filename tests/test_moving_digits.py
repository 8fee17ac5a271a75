"""Digits stay inside, keep their speed, leave walls as they should, and no split sees another's."""

import builtins
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.formats.labelled import small_digits
from sakiyomi.data.sources.moving_digits import (
    SHARES,
    SPEED,
    MovingDigits,
    bounce,
    held_for,
    load_digits,
)
from sakiyomi.errors import SakiyomiError

MNIST = Path(__file__).parents[1].parent / "shared" / "data" / "images" / "mnist.npz"
Seeds = st.integers(0, 2**32)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up MNIST: flat squares of 10 x 10, each of a brightness of its own, labels in turn."""
    path = tmp_path_factory.mktemp("digits") / "mnist.npz"
    pictures = np.tile(np.arange(1, 201, dtype=np.uint8)[:, None, None], (1, 10, 10))
    np.savez(path, x_train=pictures, y_train=np.arange(200) % 10)
    return path


@given(Seeds, st.integers(1, 200), st.integers(1, 4))
def test_mirrored_paths_are_straight_lines_folded_at_the_walls(seed: int, steps: int, count: int) -> None:
    path = bounce(steps, count, False, np.random.default_rng(seed))
    random = np.random.default_rng(seed)
    start, angle = random.uniform(size=(count, 2)), random.uniform(0, 2 * np.pi, count)
    line = start + SPEED * np.arange(steps)[:, None, None] * np.stack([np.sin(angle), np.cos(angle)], 1)
    folded = 1 - np.abs(line % 2 - 1)
    np.testing.assert_allclose(path, folded, atol=1e-9)


@given(Seeds)
def test_a_random_bounce_leads_away_at_the_same_speed(seed: int) -> None:
    path = bounce(300, 3, True, np.random.default_rng(seed))
    assert path.min() >= 0
    assert path.max() <= 1
    moved = np.linalg.norm(np.diff(path, axis=0), axis=-1)
    assert moved.max() <= SPEED + 1e-9
    assert (moved > SPEED - 1e-9).mean() > 0.5  # a frame with a bounce in it is shorter


def test_random_bounces_leave_in_every_direction() -> None:
    """As many into each sixth of the half circle, and only where a wall was hit."""
    path = bounce(20_000, 1, True, np.random.default_rng(0))[:, 0]
    step = np.diff(path, axis=0)
    turned = np.flatnonzero(np.linalg.norm(np.diff(step, axis=0), axis=1) > 1e-9)
    at_wall = np.minimum(path, 1 - path).min(1) < SPEED
    assert at_wall[turned + 1].all()
    # Frames that begin free of the wall, so that the first step after a bounce shows its direction.
    after = step[1:][np.isclose(np.linalg.norm(step[1:], axis=1), SPEED)]
    angles = np.arctan2(after[:, 0], after[:, 1]) % (np.pi / 2)
    share, _ = np.histogram(angles, 6, (0, np.pi / 2))
    assert share.min() > 0.6 * share.max()


def test_no_picture_of_a_digit_is_in_two_splits() -> None:
    for labels in (np.arange(200) % 10, np.sort(np.arange(200) % 10), small_digits().labels):
        held = {split: held_for(split, labels) for split in SHARES}
        for a, b in combinations(held.values(), 2):
            assert not set(a.tolist()) & set(b.tolist())
        assert sorted(np.concatenate([*held.values()]).tolist()) == list(range(len(labels)))
        for numbers in held.values():
            assert set(labels[numbers].tolist()) == set(range(10))


@pytest.mark.parametrize("stochastic", [False, True])
def test_frames_hold_the_digits_and_nothing_else(tmp_path: Path, archive: Path, stochastic: bool) -> None:
    source = MovingDigits(str(archive), 12, 4, 6, steps=7, size=24, count=3, stochastic=stochastic)
    store = source.record(tmp_path / "s")
    glyphs = load_digits(archive)
    assert [len(store.split(split)) for split in SHARES] == [12, 4, 6]
    for entry in store.entries:
        picks = entry.meta["pictures"]
        assert set(picks) <= set(held_for(entry.split, glyphs.labels).tolist())
        assert entry.meta["labels"] == [pick % 10 for pick in picks]
        frames = store.values(entry.id, "image")
        assert frames.shape == (7, 24, 24, 3)
        assert (frames == frames[..., :1]).all()
        np.testing.assert_array_equal(store.times(entry.id, "image"), np.arange(7) / 10)
        levels = {pick + 1 for pick in picks}
        for frame in frames[..., 0]:
            assert set(np.unique(frame).tolist()) <= {0, *levels}
            if picks.count(max(picks)) == 1:  # the brightest one is never covered
                assert (frame == max(levels)).sum() == 100


def test_one_digit_moves_by_its_speed_in_whole_pixels(tmp_path: Path, archive: Path) -> None:
    store = MovingDigits(str(archive), 5, 1, 0, steps=30, size=60, count=1).record(tmp_path / "s")
    for entry in store.entries:
        corners = np.array([np.argwhere(frame).min(0) for frame in store.values(entry.id, "image")[..., 0]])
        assert np.linalg.norm(np.diff(corners, axis=0), axis=1).max() <= SPEED * 50 + 2**0.5


def entries_of(store: EpisodeStore) -> dict[str, str]:
    return {entry.id: entry.sha256 for entry in store.entries}


def test_a_sequence_follows_from_seed_split_and_number(tmp_path: Path, archive: Path) -> None:
    """So that an interrupted call goes on, and fewer sequences are the first of more."""
    made: dict[str, Any] = {"size": 24, "steps": 5, "validation": 2, "test": 2}
    few = entries_of(MovingDigits(str(archive), 3, **made).record(tmp_path / "few"))
    source = MovingDigits(str(archive), 6, **made)
    many = entries_of(source.record(tmp_path / "many"))
    assert few.items() <= many.items()
    assert len(set(many.values())) == len(many) == 10
    other = entries_of(MovingDigits(str(archive), 6, seed=1, **made).record(tmp_path / "other"))
    assert not {*many.values()} & {*other.values()}
    manifest = tmp_path / "many" / "manifest.jsonl"
    lines = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(b"".join(lines[:7]))
    told: list[tuple[int, int]] = []
    assert entries_of(source.record(tmp_path / "many", lambda *at: told.append(at))) == many
    assert told == [(n, 10) for n in range(1, 11)]


def test_another_file_of_digits_is_another_store(tmp_path: Path, archive: Path) -> None:
    made: dict[str, Any] = {"episodes": 1, "validation": 1, "test": 0, "steps": 2}
    MovingDigits(str(archive), **made).record(tmp_path / "s")
    with pytest.raises(SakiyomiError, match="made with other settings"):
        MovingDigits(**made).record(tmp_path / "s")


def test_the_digits_of_scikit_learn_look_like_those_of_mnist() -> None:
    glyphs = small_digits()
    assert glyphs.pictures.shape == (1797, 28, 28)
    assert glyphs.pictures[:, :4].max() == 0
    ink = glyphs.pictures.mean() / 255
    assert 0.08 < ink < 0.25  # MNIST: 0.13
    assert glyphs.pictures.max((1, 2)).min() > 200


@pytest.mark.skipif(not MNIST.exists(), reason="needs ../shared/data/images/mnist.npz")
def test_mnist_itself(tmp_path: Path) -> None:
    store = MovingDigits(str(MNIST), 3, 2, 2, stochastic=True).record(tmp_path / "s")
    frames = np.concatenate([store.values(entry.id, "image") for entry in store.entries])
    assert frames.shape == (7 * 20, 64, 64, 3)
    assert 0.03 < frames.mean() / 255 < 0.08  # two digits of 28 x 28 x 0.13 in 64 x 64


def write(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": np.zeros(3)}, "has images; it needs x_train and y_train"),
        ({"x_train": np.zeros((20, 28, 28)), "y_train": np.zeros(20)}, r"x_train is float64 \[20, 28, 28\]"),
        ({"x_train": np.zeros((20, 28), np.uint8), "y_train": np.zeros(20)}, r"expected uint8 \[N, h, w\]"),
        ({"x_train": np.zeros((20, 28, 28), np.uint8), "y_train": np.zeros(19)}, r"y_train \[19\]"),
        ({"x_train": np.zeros((9, 28, 28), np.uint8), "y_train": np.zeros(9)}, "fewer than 10 pictures"),
        ({"x_train": np.array([{}]), "y_train": np.zeros(1)}, "cannot be read as an .npz"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    path = write(tmp_path / "a.npz", **arrays)
    with pytest.raises(SakiyomiError, match=words) as caught:
        MovingDigits(str(path)).record(tmp_path / "s")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(SakiyomiError, match=r"a\.npz cannot be read"):
        MovingDigits(str(tmp_path / "a.npz")).record(tmp_path / "s")
    np.save(tmp_path / "b.npy", np.zeros(3))
    with pytest.raises(SakiyomiError, match=r"b\.npy cannot be read"):
        MovingDigits(str(tmp_path / "b.npy")).record(tmp_path / "s")


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"digits": "nowhere.npz"}, "nowhere.npz is no file"),
        ({"episodes": 0}, "--episodes is 0"),
        ({"validation": 0}, "--validation is 0"),
        ({"test": -1}, "--test is -1"),
        ({"steps": 0}, "--steps is 0"),
        ({"count": 0}, "--count is 0"),
        ({"seed": -1}, "--seed is -1"),
        ({"size": 28}, "--size 28 leaves digits of 28 pixels no room"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, made: dict[str, Any], words: str) -> None:
    with pytest.raises(SakiyomiError, match=words):
        MovingDigits(**made).record(tmp_path / "s")


def test_a_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SakiyomiError, match=r"pip install 'sakiyomi\[digits\]'"):
        MovingDigits().record(tmp_path / "s")
