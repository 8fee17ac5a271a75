"""Bridge V2 as it lies on a disk: every view an episode, no episode in two splits, damage costs one record."""

import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_tfrecord import write

from sakiyomi.data.formats.bridge import RATE, Bridge
from sakiyomi.data.formats.tfrecord import Features
from sakiyomi.errors import SakiyomiError

REAL = Path(__file__).parents[1].parent / "shared" / "data" / "video"
# The two came from one JPEG decoder; another may round its cosine transform otherwise by some levels of 255.
JPEG_TOLERANCE = 4


def jpeg(number: int, size: tuple[int, int] = (64, 64)) -> bytes:
    """A smooth picture that JPEG keeps, brighter with the number; number -1 is black."""
    picture = np.full((size[1], size[0], 3), 0 if number < 0 else 40 + number, np.uint8)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=95)
    return file.getvalue()


def episode(number: int, steps: int = 4, size: tuple[int, int] = (64, 64)) -> Features:
    views = {
        f"steps/observation/image_{view}": [jpeg(10 * number + t if view < 3 else -1, size) for t in range(steps)]
        for view in range(4)
    }
    random = np.random.default_rng(number)
    return {
        **views,
        "steps/action": random.normal(size=7 * steps).astype(np.float32),
        "steps/observation/state": random.normal(size=7 * steps).astype(np.float32),
        "steps/language_instruction": [f"do {number}".encode()] * steps,
    }


def test_every_view_is_an_episode_and_no_episode_is_in_two_splits(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tfrecord", *[episode(n, 3 + n % 2) for n in range(20)])
    store = Bridge(str(path)).record(tmp_path / "store")
    assert {entry.id for entry in store.entries} == {f"{n:05d}-view{v}" for n in range(20) for v in range(3)}
    splits = Counter(split for split, _ in {(entry.split, entry.meta["episode"]) for entry in store.entries})
    assert splits == {"train": 14, "validation": 3, "test": 3}
    entry = store.entry("00013-view1")
    assert entry.lengths == {"image": 4, "action": 4, "position": 4}
    assert entry.meta == {"instruction": "do 13", "episode": "00013", "view": 1, "source": ""}
    truth = episode(13)
    for stream, key in (("action", "steps/action"), ("position", "steps/observation/state")):
        np.testing.assert_array_equal(store.values(entry.id, stream).ravel(), truth[key])
        np.testing.assert_array_equal(store.times(entry.id, stream), np.arange(4) / RATE)
    levels = store.values(entry.id, "image").mean((1, 2, 3))
    np.testing.assert_allclose(levels, 170 + np.arange(4), atol=JPEG_TOLERANCE)


def test_shares_hold_for_any_number_of_episodes() -> None:
    """And an episode stays in its split when more come."""
    for share in (0.0, 0.1, 0.3):
        source = Bridge(validation=share, test=share)
        splits = [source._split(n) for n in range(1000)]
        for count in (20, 100, 1000):
            for split in ("validation", "test"):
                assert abs(splits[:count].count(split) - share * count) <= 1 + 0.01 * count


def test_one_view_and_another_size(tmp_path: Path) -> None:
    """Wide frames are squeezed to squares; a flat one keeps its colour."""
    path = write(tmp_path / "a.tfrecord", *[episode(n, size=(96, 80)) for n in range(2)])
    store = Bridge(str(path), view=2, size=32).record(tmp_path / "store")
    assert [entry.id for entry in store.entries] == ["00000-view2", "00001-view2"]
    frames = store.values("00001-view2", "image")
    assert frames.shape == (4, 32, 32, 3)
    np.testing.assert_allclose(frames.mean((1, 2, 3)), 50 + np.arange(4), atol=JPEG_TOLERANCE)


def test_a_folder_of_files_is_read_in_order_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    for shard in range(2):
        write(folder / f"b-train.tfrecord-0000{shard}-of-00002", *[episode(2 * shard + n) for n in range(2)])
    source, told = Bridge(str(folder), view=0), []
    store = source.record(tmp_path / "store", lambda done, total: told.append((done, total)))
    assert [entry.id for entry in store.entries] == [f"0000{s}-0000{n}-view0" for s in range(2) for n in range(2)]
    assert [entry.meta["instruction"] for entry in store.entries] == [f"do {n}" for n in range(4)]
    assert told == [(n, 4) for n in range(1, 5)]
    manifest = tmp_path / "store" / "manifest.jsonl"
    lines = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(b"".join(lines[:2]))  # as if interrupted
    assert source.record(tmp_path / "store").entries == store.entries
    assert manifest.read_bytes() == b"".join(lines)


def spoiled(**changes: Any) -> Features:
    features = episode(1)
    for key, value in changes.items():
        key = {"action": "steps/action", "state": "steps/observation/state"}.get(key, f"steps/observation/{key}")
        if value is None:
            del features[key]
        else:
            features[key] = value
    return features


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (spoiled(action=None), ["'steps/action'", "it has steps/language_instruction"]),
        (spoiled(action=[b"no numbers"]), ["no numbers under 'steps/action'"]),
        (spoiled(action=np.zeros(27, np.float32)), ["'steps/action'", "27 numbers", "7 a step"]),
        (spoiled(action=np.zeros(21, np.float32)), ["differ in length", "'image': 4", "'action': 3"]),
        (spoiled(state=np.full(28, np.nan, np.float32)), ["position", "not finite"]),
        (spoiled(image_1=None), ["no pictures under 'steps/observation/image_1'"]),
        (spoiled(image_1=[jpeg(1), b"no JPEG", jpeg(1), jpeg(1)]), ["image_1', step 1,", "cannot be decoded"]),
        (spoiled(image_1=[jpeg(1)[:200], jpeg(1), jpeg(1), jpeg(1)]), ["image_1', step 0,", "cannot be decoded"]),
    ],
)
def test_a_bad_record_is_named_and_the_others_are_imported(tmp_path: Path, bad: Features, words: list[str]) -> None:
    path = write(tmp_path / "a.tfrecord", episode(0), bad, episode(2))
    with pytest.raises(SakiyomiError) as caught:
        Bridge(str(path)).record(tmp_path / "store")
    message = str(caught.value)
    assert "\n" not in message
    for word in [*words, "1 damaged and left out", "usable"]:
        assert word in message
    write(path, episode(0), episode(1), episode(2))  # repaired
    store = Bridge(str(path)).record(tmp_path / "store")
    assert {entry.id for entry in store.entries} == {f"0000{n}-view{v}" for n in range(3) for v in range(3)}
    assert store.statistics


def test_a_damaged_byte_costs_one_record(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tfrecord", *[episode(n) for n in range(3)])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(SakiyomiError, match=r"record 1 .* checksum of its data .* other 6 episodes are in") as caught:
        Bridge(str(path)).record(tmp_path / "store")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "no path given: name a Bridge V2 .tfrecord"),
        ({"path": "nowhere"}, "nowhere does not exist"),
        ({"view": 5}, "unknown view '5'"),
        ({"view": 3}, "view 3 is blank"),
        ({"size": 0}, "--size is 0"),
        ({"test": -0.1}, "--test is -0.1"),
        ({"validation": 0.5, "test": 0.5}, "nothing for training"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    path = write(tmp_path / "a.tfrecord", episode(0))
    settings = {"path": str(path), **settings} if settings else settings
    with pytest.raises(SakiyomiError, match=words):
        Bridge(**settings).record(tmp_path / "store")


def test_a_folder_without_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SakiyomiError, match=r"empty holds no file with \.tfrecord"):
        Bridge(str(tmp_path / "empty")).record(tmp_path / "store")


@pytest.mark.skipif(not (REAL / "bridge_train.tfrecord").exists(), reason="needs ../shared/data/video")
def test_real_records_are_the_frames_of_the_archive_beside_them(tmp_path: Path) -> None:
    store = Bridge(str(REAL / "bridge_train.tfrecord")).record(tmp_path / "store")
    with np.load(REAL / "bridge_train.npz", allow_pickle=False) as archive:
        truth = {name: archive[name] for name in ("frames", "actions", "states", "instructions")}
    assert len(store.entries) == 60
    for entry in store.entries:
        number, view = int(entry.meta["episode"]), entry.meta["view"]
        frames = store.values(entry.id, "image").astype(int)
        assert np.abs(frames - truth["frames"][number, :, view]).max() <= JPEG_TOLERANCE
        np.testing.assert_array_equal(store.values(entry.id, "action"), truth["actions"][number])
        np.testing.assert_array_equal(store.values(entry.id, "position"), truth["states"][number])
        assert entry.meta["instruction"] == truth["instructions"][number]
