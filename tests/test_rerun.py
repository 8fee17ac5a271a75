"""Recordings for the Rerun viewer, read back by Rerun's own reader: every value at its time, every picture its own."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rerun as rr
from PIL import Image
from rerun.chunk import RrdReader

from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream
from sakiyomi.data.formats.rerun import write_rerun
from sakiyomi.errors import SakiyomiError

STREAMS = {
    "image": Stream("image", (6, 8, 3), "uint8", 10.0),
    "joints": Stream("joints", (2,), "float32", 10.0, "rad", ("shoulder", "el/bow [rad]")),
    "pose": Stream("pose", (2,), "float64", 10.0, names=("x", "x")),  # of one name: they are told by numbers
    "count": Stream("scalar", (), "int64", 10.0),
    "sound": Stream("audio", (), "int16", 8000.0),
}


def recording(folder: Path, episodes: int = 2) -> EpisodeStore:
    writer = EpisodeWriter(folder, STREAMS)
    for number in range(episodes):
        random, steps = np.random.default_rng(number), 300 + number  # more than are handed over at once
        values = {
            "image": random.integers(0, 256, (steps, 6, 8, 3), dtype=np.uint8),
            "joints": random.normal(size=(50, 2)).astype(np.float32),
            "pose": random.normal(size=(40, 2)),
            "count": np.arange(30) - 2**40,
            "sound": np.arange(20, dtype=np.int16),
        }
        times = {name: np.cumsum(random.uniform(1e-4, 0.1, len(value))) for name, value in values.items()}
        writer.add(f"e{number}", values, times)
    return writer.finish()


def read_back(path: Path) -> dict[str, tuple[np.ndarray, list[Any]]]:
    """Of each entity its times in seconds, and what was logged."""
    found: dict[str, tuple[list[float], list[Any]]] = {}
    for chunk in RrdReader(path).stream():
        batch = chunk.to_record_batch()
        for name in batch.schema.names:
            if name in ("Scalars:scalars", "EncodedImage:blob"):
                clock, values = found.setdefault(str(chunk.entity_path), ([], []))
                clock += [int(time) / 1e9 for time in batch.column("time").cast("int64").to_pylist()]
                values += [row[0] for row in batch.column(name).to_pylist()]
    sorted_ = {entity: sorted(range(len(clock)), key=clock.__getitem__) for entity, (clock, _) in found.items()}
    return {
        entity: (np.array(clock)[sorted_[entity]], [values[n] for n in sorted_[entity]])
        for entity, (clock, values) in found.items()
    }


def test_the_viewers_own_reader_finds_every_value_at_its_time(tmp_path: Path) -> None:
    store = recording(tmp_path / "store")
    write_rerun(store, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["e0.rrd", "e1.rrd"]
    for entry in store.entries:
        found = read_back(tmp_path / "out" / f"{entry.id}.rrd")
        entities = {
            "/image": ("image", -1),
            "/joints/shoulder": ("joints", 0),
            str(rr.new_entity_path(["joints", "el/bow [rad]"])): ("joints", 1),
            "/pose/0": ("pose", 0),
            "/pose/1": ("pose", 1),
            "/count/0": ("count", -1),
        }
        assert {name if name.startswith("/") else f"/{name}" for name in entities} == set(found)
        for entity, (stream, channel) in entities.items():
            times, values = found[entity if entity.startswith("/") else f"/{entity}"]
            np.testing.assert_allclose(times, store.times(entry.id, stream), atol=1e-9)
            expected = store.values(entry.id, stream)
            if stream == "image":
                read = [np.asarray(Image.open(BytesIO(bytes(blob)))) for blob in values]
                np.testing.assert_array_equal(read, expected)
            else:
                np.testing.assert_array_equal(values, expected if channel < 0 else expected[:, channel])


def test_one_episode_may_be_one_file(tmp_path: Path) -> None:
    write_rerun(recording(tmp_path / "store", 1), tmp_path / "deep" / "one.rrd")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["one.rrd"]
    assert len(read_back(tmp_path / "deep" / "one.rrd")["/image"][1]) == 300
    with pytest.raises(SakiyomiError, match="has 2 episodes, each a file; let --out be a folder"):
        write_rerun(recording(tmp_path / "two", 2), tmp_path / "two.rrd")


def test_what_cannot_be_shown_is_told(tmp_path: Path) -> None:
    writer = EpisodeWriter(tmp_path / "store", {"sound": STREAMS["sound"]})
    writer.add("a", {"sound": np.ones(5, np.int16)}, {"sound": np.arange(5) / 8000})
    with pytest.raises(SakiyomiError, match=r"holds sound \(audio \[\]\); pictures and rows of numbers can be shown"):
        write_rerun(writer.finish(), tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(SakiyomiError, match="could not write"):
        write_rerun(recording(tmp_path / "second", 1), tmp_path / "file" / "out")
