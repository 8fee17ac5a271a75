"""LeRobot data sets of every layout: a store goes there and comes back, real ones are read whole, damage is told."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_video import psnr, scene

from benchmarks import check_lerobot
from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream
from sakiyomi.data.formats import lerobot_write
from sakiyomi.data.formats.lerobot import LeRobot, clock, open_any, recognises, short
from sakiyomi.data.formats.lerobot_files import inside, place, splits_of
from sakiyomi.data.formats.lerobot_stats import merged, of_numbers, of_pictures
from sakiyomi.data.formats.lerobot_write import column_of, png_column, write_lerobot
from sakiyomi.data.formats.video import read_video, write_video
from sakiyomi.errors import SakiyomiError

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("av")

REAL = Path(__file__).parents[2] / "shared" / "data" / "robot"
NAMES = tuple(f"joint {n}" for n in range(3))
SPLITS = ("train", "validation", "train", "test", "train")


def make(folder: Path, rate: float = 20.0, late: float = 0.0) -> EpisodeStore:
    """Five episodes with everything that can be in a store; `late`: the clocks begin there, and jitter."""
    streams = {
        "wrist": Stream("image", (22, 31, 3), "uint8", rate, "RGB 0..255"),
        "image": Stream("image", (32, 48, 3), "uint8", rate, "RGB 0..255"),
        "joints": Stream("joints", (3,), "float32", rate, "rad", NAMES),
        "command": Stream("action", (3,), "float64", rate, "rad", NAMES, (-9.0,) * 3, (9.0,) * 3),
        "action": Stream("action", (2,), "float32", rate),
        "force": Stream("scalar", (), "float32", rate, "N"),
        "touch": Stream("scalar", (1,), "bool", rate),
        "grid": Stream("scalar", (2, 3), "int16", rate),
    }
    writer, random = EpisodeWriter(folder, streams, {"source": "made"}), np.random.default_rng(0)
    for number, split in enumerate(SPLITS):
        steps = 6 + 2 * number
        times = np.arange(steps) / rate
        times = times + late + random.uniform(0, 0.3 / rate, steps) if late else times
        values = {
            "wrist": scene(steps, 22, 31, number),
            "image": scene(steps, 32, 48, number),
            "joints": random.normal(size=(steps, 3)).astype(np.float32),
            "command": random.normal(size=(steps, 3)),
            "action": random.normal(size=(steps, 2)).astype(np.float32),
            "force": random.normal(size=steps).astype(np.float32),
            "touch": random.random((steps, 1)) > 0.5,
            "grid": random.integers(-99, 99, (steps, 2, 3)).astype(np.int16),
        }
        meta = {"task": f"task {number % 2}", "place": [0.1, number]}
        writer.add(f"ep.{number}", values, dict.fromkeys(values, times), split, meta)
    return writer.finish()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> EpisodeStore:
    return make(tmp_path_factory.mktemp("made") / "store")


@pytest.fixture(scope="module")
def written(store: EpisodeStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As v3.0, pictures in mp4, several files of each kind."""
    folder = tmp_path_factory.mktemp("written") / "v3"
    write_lerobot(store, folder, data_mb=0.003, video_mb=0.02)
    return folder


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    shutil.copytree(written, tmp_path / "copy")
    return tmp_path / "copy"


def foreign(folder: Path) -> Path:
    """As if somebody else had written it."""
    (folder / "meta" / "sakiyomi.json").unlink()
    return folder


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def same(back: EpisodeStore, store: EpisodeStore, least: float) -> None:
    """Numbers and clocks to the bit, pictures to so many dB; ids, splits and meta as they were."""
    assert back.streams == store.streams
    assert {e.id: (e.split, e.meta) for e in back.entries} == {e.id: (e.split, e.meta) for e in store.entries}
    for entry in store.entries:
        for name, stream in store.streams.items():
            np.testing.assert_array_equal(back.times(entry.id, name), store.times(entry.id, name))
            values, expected = back.values(entry.id, name), store.values(entry.id, name)
            if stream.kind == "image" and least < np.inf:
                assert psnr(values, expected) >= least
            else:
                assert values.tobytes() == expected.tobytes()


@pytest.mark.parametrize(("pictures", "least"), [("h264", 40), ("av1", 32), ("png", np.inf)])
def test_a_store_comes_back(store: EpisodeStore, tmp_path: Path, pictures: Any, least: float) -> None:
    write_lerobot(store, tmp_path / "v3", pictures)
    assert recognises(tmp_path / "v3")
    same(LeRobot(str(tmp_path / "v3")).record(tmp_path / "back"), store, least)
    assert not list((tmp_path / "v3").rglob(".*"))


def test_a_stream_may_have_any_name(tmp_path: Path) -> None:
    names = ("image", "b{chunk_index}", "{")
    writer = EpisodeWriter(tmp_path / "store", {name: Stream("image", (16, 16, 3), "uint8", 10.0) for name in names})
    random = np.random.default_rng(0)
    frames = {name: random.integers(0, 256, (5, 1, 1, 3), dtype=np.uint8).repeat(16, 1).repeat(16, 2) for name in names}
    writer.add("a", frames, dict.fromkeys(names, np.arange(5) / 10))
    write_lerobot(writer.finish(), tmp_path / "v3")
    back = LeRobot(str(tmp_path / "v3")).record(tmp_path / "back")
    assert {*back.streams} == {*names}
    for name in names:
        np.testing.assert_allclose(back.values("a", name).astype(float), frames[name].astype(float), atol=4)


@pytest.mark.parametrize(("rate", "late"), [(12.5, 0.0), (29.97, 0.0), (20.0, 17.3)])
def test_clocks_come_back(tmp_path: Path, rate: float, late: float) -> None:
    store = make(tmp_path / "store", rate, late)
    write_lerobot(store, tmp_path / "v3")
    same(LeRobot(str(tmp_path / "v3")).record(tmp_path / "back"), store, 40)
    features = json.loads((tmp_path / "v3" / "meta" / "info.json").read_text())["features"]
    assert ("sakiyomi.clock" in features) == bool(late)


def test_the_files_are_those_of_the_format(written: Path, store: EpisodeStore, tmp_path: Path) -> None:
    info = json.loads((written / "meta" / "info.json").read_text())
    assert info["splits"] == {"train": "0:3", "validation": "3:4", "test": "4:5"}
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"], info["fps"]) == (5, 50, 2, 20)
    files = sorted(written.glob("data/*/*.parquet"))
    assert len(files) > 1
    assert len([*written.glob("videos/observation.images.image/*/*.mp4")]) > 1
    table = pa.concat_tables([parquet.read_table(path) for path in files])
    assert table["index"].to_pylist() == list(range(50))
    assert table["timestamp"].type == pa.float32()
    assert table["observation.state"].type == pa.list_(pa.float32(), 3)
    episodes = pa.concat_tables(
        [parquet.read_table(path) for path in sorted(written.glob("meta/episodes/*/*.parquet"))]
    )
    for row in episodes.to_pylist():
        told = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
        mine = parquet.read_table(written / info["data_path"].format(**told)).filter(
            pa.compute.field("episode_index") == row["episode_index"]
        )
        assert mine["index"].to_pylist() == list(range(row["dataset_from_index"], row["dataset_to_index"]))
        key = "videos/observation.images.image"
        told = {"chunk_index": row[f"{key}/chunk_index"], "file_index": row[f"{key}/file_index"]}
        film = written / info["video_path"].format(video_key="observation.images.image", **told)
        seen = read_video(film, row[f"{key}/from_timestamp"], row["length"])
        assert psnr(seen.frames, store.values(f"ep.{[0, 2, 4, 1, 3][row['episode_index']]}", "image")) >= 40
        assert row[f"{key}/to_timestamp"] - row[f"{key}/from_timestamp"] == pytest.approx(row["length"] / 20)
    same(LeRobot(str(written)).record(tmp_path / "back"), store, 40)


def test_statistics(written: Path, store: EpisodeStore) -> None:
    stats = json.loads((written / "meta" / "stats.json").read_text())
    joints = np.concatenate([store.values(e.id, "joints") for e in store.entries]).astype(float)
    for name, wanted in (("mean", joints.mean(0)), ("std", joints.std(0)), ("min", joints.min(0))):
        np.testing.assert_allclose(stats["observation.state"][name], wanted, rtol=1e-9)
    assert stats["observation.state"]["count"] == [50]
    assert np.shape(stats["observation.images.image"]["q99"]) == (3, 1, 1)
    frames = store.values("ep.4", "image")
    of = of_pictures(frames, 100)
    flat = frames.reshape(-1, 3) / 255
    for name, wanted in (("mean", flat.mean(0)), ("std", flat.std(0)), ("max", flat.max(0))):
        np.testing.assert_allclose(of[name].ravel(), wanted, rtol=1e-9)
    np.testing.assert_allclose(of["q90"].ravel(), np.quantile(flat, 0.9, axis=0), atol=1 / 255)
    assert of_pictures(frames, 4)["count"] == [4]
    for count in (1, 5):
        one = of_numbers(joints[:count])
        for name, value in merged([one, one]).items():
            np.testing.assert_allclose(value, one[name] * (2 if name == "count" else 1), atol=1e-12)


def test_what_lerobot_is_checked_against(store: EpisodeStore, tmp_path: Path) -> None:
    """Episodes in the order of the export, every stream, to the bit."""
    check_lerobot.write(str(store.folder), str(tmp_path / "v3"), str(tmp_path / "told.npz"), "png")
    with np.load(tmp_path / "told.npz", allow_pickle=False) as told:
        order = [f"ep.{n}" for n in (0, 2, 4, 1, 3)]
        assert told["ends"].tolist() == np.cumsum([len(store.values(id, "joints")) for id in order]).tolist()
        names = {"joints": "observation.state", "command": "action", "image": "observation.images.image"}
        for stream, name in names.items():
            np.testing.assert_array_equal(told[f"/{name}"], np.concatenate([store.values(id, stream) for id in order]))


def test_info_comes_last(store: EpisodeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export that ends before its end cannot be mistaken for a whole one."""

    def full(path: Path, content: bytes) -> None:
        raise SakiyomiError(f"could not write {path}: No space left on device")

    monkeypatch.setattr(lerobot_write, "write_atomic", full)
    with pytest.raises(SakiyomiError, match="No space"):
        write_lerobot(store, tmp_path / "v3", "png")
    assert not (tmp_path / "v3" / "meta" / "info.json").exists()
    assert not recognises(tmp_path / "v3")
    with pytest.raises(SakiyomiError, match="neither meta/info"):
        LeRobot(str(tmp_path / "v3")).record(tmp_path / "back")


def test_other_clocks_are_held_and_sound_is_refused(tmp_path: Path) -> None:
    streams = {
        "joints": Stream("joints", (1,), "float32", 50.0),
        "image": Stream("image", (16, 16, 3), "uint8", 10.0),
        "sound": Stream("audio", (), "float32", 10.0),
    }
    for folder, samples in (("held", 4), ("sound", 8)):
        writer = EpisodeWriter(tmp_path / folder, streams)
        values = {"joints": np.arange(16, dtype=np.float32)[:, None], "image": scene(4, 16, 16)}
        values["sound"] = np.zeros(samples, np.float32)
        times = {name: np.arange(len(value)) / streams[name].rate for name, value in values.items()}
        times["joints"] += 0.1
        writer.add("a", values, times)
        writer.finish()
    write_lerobot(EpisodeStore(tmp_path / "held"), tmp_path / "v3", "png")
    back = LeRobot(str(tmp_path / "v3")).record(tmp_path / "back")
    assert back.values("a", "joints")[:, 0].tolist() == [0, 0, 5, 10]
    np.testing.assert_array_equal(back.times("a", "joints"), back.times("a", "image"))
    with pytest.raises(SakiyomiError, match=r"stream 'sound' \(audio\) has a clock of its own"):
        write_lerobot(EpisodeStore(tmp_path / "sound"), tmp_path / "no", "png")


def test_a_foreign_data_set(copy: Path, store: EpisodeStore, tmp_path: Path) -> None:
    """What others write: streams by their features, a task in the meta, ids by number, splits of info.json."""
    back = LeRobot(str(foreign(copy))).record(tmp_path / "back")
    assert list(back.streams)[:4] == ["image", "wrist", "joints", "command"]
    assert back.streams["joints"] == Stream("joints", (3,), "float32", 20.0, "", NAMES)
    assert back.streams["command"].kind == "joints"
    assert back.streams["force"].shape == (1,)
    entries = [(entry.id, entry.split, entry.meta["task"]) for entry in back.entries]
    assert entries[:2] == [("000000", "train", "task 0"), ("000001", "train", "task 0")]
    assert entries[3:] == [("000003", "validation", "task 1"), ("000004", "test", "task 1")]
    np.testing.assert_array_equal(back.values("000003", "joints"), store.values("ep.1", "joints"))


def test_what_can_be_chosen(copy: Path, store: EpisodeStore, tmp_path: Path) -> None:
    edit(foreign(copy) / "meta" / "info.json", splits={"train": "0:100"})
    source = LeRobot(str(copy), camera="wrist", pixels=(11, 16), actions="action", validation=0.4)
    back = source.record(tmp_path / "back")
    assert {name for name, stream in back.streams.items() if stream.kind == "image"} == {"image", "image_2"}
    assert back.streams["image"].shape == back.streams["image_2"].shape == (11, 16, 3)
    assert back.streams["action"] == Stream("action", (3,), "float64", 20.0, "", NAMES)
    assert [entry.split for entry in back.entries] == ["train"] * 3 + ["validation"] * 2
    mean = back.values("000000", "image").astype(float).mean((1, 2))
    np.testing.assert_allclose(mean, store.values("ep.0", "wrist").astype(float).mean((1, 2)), atol=2)
    with pytest.raises(SakiyomiError, match="unknown camera 'front': known: image, wrist"):
        LeRobot(str(copy), camera="front").record(tmp_path / "none")
    for wrong in (LeRobot(validation=1.0), LeRobot(validation=float("nan")), LeRobot(pixels=(-1, 4))):
        with pytest.raises(SakiyomiError, match="--validation is"):
            replace(wrong, path=str(copy)).record(tmp_path / "none")


# The older layouts, written here from the same store.
Older = Callable[[EpisodeStore, Path], Path]


def as_v2(store: EpisodeStore, folder: Path) -> Path:
    data, videos = folder / "data" / "chunk-000", folder / "videos" / "chunk-000" / "observation.images.top"
    for place_ in (data, videos, folder / "meta"):
        place_.mkdir(parents=True)
    lines, total = [], 0
    for number, entry in enumerate(store.entries):
        table = {"observation.state": store.values(entry.id, "joints"), "action": store.values(entry.id, "action")}
        steps = np.arange(entry.lengths["joints"])
        counted = {"timestamp": (steps / 20).astype(np.float32), "frame_index": steps, "task_index": 0 * steps + number}
        columns = {name: column_of(value) for name, value in (table | counted).items()}
        text = pa.array(["a text that is left out"] * len(steps))
        parquet.write_table(pa.table({**columns, "said": text}), data / f"episode_{number:06d}.parquet")
        write_video(videos / f"episode_{number:06d}.mp4", store.values(entry.id, "image"), 20)
        lines.append({"episode_index": number, "tasks": [f"do {number}"], "length": len(steps)})
        total += len(steps)
    vector = {"dtype": "float32", "names": {"motors": list(NAMES)}, "shape": [3]}
    features = {
        "observation.state": vector,
        "action": {"dtype": "float32", "shape": [2], "names": None},
        "said": {"dtype": "string", "shape": [1]},
        "observation.images.gone": {"dtype": "video", "shape": [9, 9, 3]},
        "observation.images.top": {"dtype": "video", "shape": [3, 32, 48], "names": ["channels", "height", "width"]},
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    }
    info = {"codebase_version": "v2.1", "fps": 20, "features": features, "total_episodes": 5, "total_frames": total}
    paths = {"data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet", "splits": {}}
    (folder / "meta" / "info.json").write_text(json.dumps(info | paths))
    (folder / "meta" / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    tasks = [{"task_index": n, "task": f"do {n}"} for n in range(5)]
    (folder / "meta" / "tasks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in tasks))
    return folder


def as_v1(store: EpisodeStore, folder: Path, png: bool = False) -> Path:
    for name in ("train", "meta_data", "videos"):
        (folder / name).mkdir(parents=True)
    (folder / "meta_data" / "info.json").write_text(json.dumps({"fps": 20, "video": not png}))
    tables = []
    for number, entry in enumerate(store.entries):
        frames, steps = store.values(entry.id, "image"), np.arange(entry.lengths["joints"])
        path = f"videos/top_episode_{number:06d}.mp4"
        kind = pa.struct({"path": pa.string(), "timestamp": pa.float32()})
        cells = png_column(frames) if png else pa.array([{"path": path, "timestamp": n / 20} for n in steps], kind)
        if not png:
            write_video(folder / path, frames, 20)
        numbers = {
            "observation.state": store.values(entry.id, "joints"),
            "action": store.values(entry.id, "action"),
            "timestamp": (steps / 20).astype(np.float32),
            "frame_index": steps,
            "episode_index": 0 * steps + number,
        }
        columns = {name: column_of(value) for name, value in numbers.items()}
        tables.append(pa.table({"observation.images.top": cells, **columns}))
    for part, some in enumerate((tables[:3], tables[3:])):
        with pa.ipc.new_stream(folder / "train" / f"data-{part:05d}-of-00002.arrow", tables[0].schema) as stream:
            stream.write_table(pa.concat_tables(some))
    return folder


def as_v1_png(store: EpisodeStore, folder: Path) -> Path:
    return as_v1(store, folder, png=True)


@pytest.mark.parametrize("layout", [as_v2, as_v1, as_v1_png])
def test_older_layouts(store: EpisodeStore, tmp_path: Path, layout: Older) -> None:
    folder = layout(store, tmp_path / "old")
    assert recognises(folder)
    back = LeRobot(str(folder)).record(tmp_path / "back")
    assert list(back.streams) == ["image", "joints", "action"]
    assert [entry.split for entry in back.entries] == ["train"] * 4 + ["validation"]
    for entry, old in zip(back.entries, store.entries, strict=True):
        for name in ("joints", "action"):
            np.testing.assert_array_equal(back.values(entry.id, name), store.values(old.id, name))
            np.testing.assert_array_equal(back.times(entry.id, name), store.times(old.id, name))
        assert psnr(back.values(entry.id, "image"), store.values(old.id, "image")) >= 40
    if layout is as_v2:
        assert back.streams["joints"].names == NAMES
        assert back.entries[3].meta == {"episode": 3, "task": "do 3"}
        assert back.origin["absent"] == ["observation.images.gone"]


def test_an_interrupted_import_goes_on(written: Path, tmp_path: Path) -> None:
    store = LeRobot(str(written)).record(tmp_path / "s")
    manifest = tmp_path / "s" / "manifest.jsonl"
    manifest.write_bytes(b"".join(manifest.read_bytes().splitlines(keepends=True)[:2]))
    assert LeRobot(str(written)).record(tmp_path / "s").entries == store.entries


@pytest.mark.skipif(not REAL.is_dir(), reason="no real robot data at ../shared/data/robot")
def test_real_ones_are_read_whole(tmp_path: Path) -> None:
    store = LeRobot(str(REAL / "groot_pick_place"), pixels=(32, 32)).record(tmp_path / "groot")
    lengths = [entry.lengths["image"] for entry in store.entries]
    assert lengths == [entry.lengths["joints"] for entry in store.entries] == [416, 470, 470, 412, 328]
    assert store.streams["command"].shape == (44,)
    assert store.entries[2].meta["task"] == "pick the meat from the counter and place it in the plate"
    folders = [path for path in sorted((REAL / "lerobot_v1").iterdir()) if recognises(path)]
    rows = {}
    for folder in folders:
        one = LeRobot(str(folder), pixels=(24, 32)).record(tmp_path / folder.name)
        rows[folder.name] = sum(entry.lengths["image"] for entry in one.entries)
        assert {entry.lengths["joints"] for entry in one.entries} == {rows[folder.name]}
    assert (len(rows), sum(rows.values())) == (7, 2422)


def spoil(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda folder: [path.write_bytes(change(path.read_bytes())) for path in sorted(folder.glob(name))[:1]]


def columns(name: str, change: Callable[[Any], Any]) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        path = sorted(folder.glob(name))[0]
        parquet.write_table(change(parquet.read_table(path)), path)

    return write


def with_action(table: Any) -> Any:
    return table.set_column(table.column_names.index("action"), "action", table["frame_index"])


def with_state(value: float) -> Callable[[Any], Any]:
    def change(table: Any) -> Any:
        values = np.zeros((len(table), 3))
        values[-1, 1] = value
        return table.set_column(table.column_names.index("observation.state"), "observation.state", column_of(values))

    return change


DATA, FILM, LISTED = "data/*/*.parquet", "videos/*.image/*/*.mp4", "meta/episodes/*/*.parquet"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (spoil(DATA, lambda content: content[:-1]), "cannot be read as a parquet file"),
        (spoil(DATA, lambda content: b""), "cannot be read as a parquet file"),
        (spoil(FILM, lambda content: content[: len(content) // 2]), "cannot be read as a video"),
        (spoil(FILM, lambda content: b"text"), "cannot be read as a video"),
        (lambda folder: sorted(folder.glob(DATA))[0].unlink(), "cannot be read as a parquet file"),
        (lambda folder: sorted(folder.glob(FILM))[0].unlink(), "does not exist"),
        (columns(DATA, lambda table: table.slice(1)), "rows; the list of episodes says"),
        (columns(DATA, lambda table: table.drop_columns(["action"])), "has 0 columns 'action'; it has"),
        (columns(DATA, lambda table: table.append_column("action", table["index"])), "cannot be read|has 2 columns"),
        (columns(DATA, lambda table: table.append_column("index", table["index"])), "cannot be read"),
        (columns(DATA, with_state(-1e200)), "frame [0-9]+: -1e\\+200 is more than can be counted with"),
        (columns(DATA, with_state(1e60)), "'joints'.*not finite"),
        (columns(DATA, with_state(float("nan"))), "'joints'.*not finite"),
        (columns(DATA, with_action), "holds 1 values of int64"),
        (columns(DATA, lambda table: pa.concat_tables([table[1:], table[:1]])), "not in one piece|frame_index is"),
    ],
)
def test_damaged_data_cost_their_episodes(copy: Path, tmp_path: Path, change: Any, words: str) -> None:
    change(copy)
    with pytest.raises(SakiyomiError, match=words) as caught:
        LeRobot(str(copy)).record(tmp_path / "back")
    assert "\n" not in str(caught.value)
    assert "damaged and left out" in str(caught.value)
    assert 1 <= len(EpisodeStore(tmp_path / "back").entries) < 5


def info(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "meta" / "info.json", **changes)


def feature(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "meta" / "info.json"
        features = json.loads(path.read_text())["features"]
        features["observation.state"] |= changes
        edit(path, features=features)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (info(codebase_version="v3.1"), "codebase_version is 'v3.1'; v3.0, v2.1, v2.0"),
        (info(codebase_version="v4.0\nx"), r"codebase_version is 'v4.0\\nx'"),
        (info(codebase_version=3), "codebase_version"),
        (info(fps=0), "fps is 0"),
        (info(fps=-5), "fps is -5"),
        (info(fps=1e300), "fps is 1e\\+300"),
        (info(fps="20"), "Expected `float`"),
        (info(total_episodes=6), "says 6 episodes and 50 frames; meta/episodes lists 5 and 50"),
        (info(total_frames=51), "says 5 episodes and 51 frames"),
        (info(total_episodes=10**30), "out of range|says 1000000000000000000000000000000 episodes"),
        (info(total_episodes=-1), "total_episodes is -1"),
        (info(chunks_size=0), "chunks_size is 0"),
        (info(splits={"train": "0:4", "test": "3:5"}), "episode 3 is in the splits 'train' and 'test'"),
        (info(splits={"train": "all"}), "split 'train' is 'all'; expected two numbers"),
        (info(data_path="../{chunk_index}/{file_index}.parquet"), "leads out of the folder"),
        (info(data_path="/etc/passwd"), "leads out of the folder"),
        (info(data_path="data/a\nb"), r"'data/a\\nb' leads out"),
        (info(data_path="{chunk_index:999999999d}"), "with at most 20 digits"),
        (info(data_path="{chunk_index.__class__}"), "cannot be read as|leads out|No such file"),
        (info(data_path="{nothing}"), "asks for {nothing}; known: chunk_index, file_index"),
        (info(video_path="videos/../../{video_key}"), "leads out of the folder"),
        (info(video_path=None), "leads out of the folder or is none"),
        (feature(shape=[4]), "holds 3 values of float32 a frame; info.json says float32 \\(4,\\)"),
        (feature(shape=[-3]), r"shape \[-3\]; that cannot be"),
        (feature(shape=[10**9, 10**9]), "that cannot be"),
        (feature(dtype="video"), "that cannot be"),
        (feature(dtype="int32"), "holds 3 values of float32 a frame"),
        (spoil("meta/info.json", lambda content: content[:100]), "cannot be read as the description"),
        (spoil("meta/info.json", lambda content: b"[" * 100_000), "cannot be read as the description"),
        (spoil("meta/info.json", lambda content: b"\xff\x00"), "cannot be read as the description"),
        (spoil("meta/sakiyomi.json", lambda content: b"{}"), "sakiyomi.json cannot be read"),
        (spoil("meta/tasks.parquet", lambda content: content[:20]), "tasks.parquet cannot be read"),
        (spoil(LISTED, lambda content: content[:-9]), "cannot be read as a parquet file of episodes"),
        (columns(LISTED, lambda table: table.drop_columns(["length"])), "has no column 'length'"),
        (
            columns(LISTED, lambda table: table.set_column(2, "length", pa.array([-1] * len(table)))),
            "length of an episode",
        ),
        (lambda folder: shutil.rmtree(folder / "meta" / "episodes"), "has no meta/episodes"),
        (lambda folder: sorted(folder.glob(LISTED))[0].unlink(), "episodes are missing|has no meta/episodes"),
        (lambda folder: shutil.rmtree(folder / "videos"), "there are no files of the cameras"),
    ],
)
def test_descriptions_that_lie(copy: Path, tmp_path: Path, change: Callable[[Path], None], words: str) -> None:
    change(copy)
    with pytest.raises(SakiyomiError, match=words) as caught:
        LeRobot(str(copy)).record(tmp_path / "back")
    assert "\n" not in str(caught.value)


def test_older_layouts_that_lie(store: EpisodeStore, tmp_path: Path) -> None:
    v2, v1 = as_v2(store, tmp_path / "v2"), as_v1(store, tmp_path / "v1")
    video = v2 / "videos" / "chunk-000" / "observation.images.top"
    shutil.copy(video / "episode_000004.mp4", video / "episode_000000.mp4")
    with pytest.raises(SakiyomiError, match="14 frames for 6 rows"):
        LeRobot(str(v2)).record(tmp_path / "a")
    (v2 / "meta" / "episodes.jsonl").write_text('{"episode_index": 1, "length": 3}\n')
    with pytest.raises(SakiyomiError, match="missing, doubled or empty"):
        LeRobot(str(v2)).record(tmp_path / "b")
    (v1 / "videos" / "top_episode_000001.mp4").unlink()
    with pytest.raises(SakiyomiError, match=r"1 damaged and left out.*000001\.mp4 does not exist"):
        LeRobot(str(v1)).record(tmp_path / "c")
    (v1 / "train" / "data-00000-of-00002.arrow").unlink()
    with pytest.raises(SakiyomiError, match="parts of the table are missing"):
        LeRobot(str(v1)).record(tmp_path / "d")


def test_paths_stay_inside(tmp_path: Path) -> None:
    assert place(tmp_path, "a-{n:03d}/{k}.x", {"n": 7, "k": "b"}) == tmp_path / "a-007" / "b.x"
    for name in ("", ".", "..", "a/../b", "/a", "a\x00b", "a\nb", "x" * 2000):
        with pytest.raises(SakiyomiError, match="refused"):
            inside(tmp_path, name)


def test_splits() -> None:
    path = Path("info.json")
    assert splits_of(path, {"train": "0:2", "val": "2:3"}, 4) == ["train", "train", "validation", "train"]
    assert splits_of(path, {"train": "0:900000000000000"}, 2) == ["train", "train"]
    assert splits_of(path, {}, 2) == ["train", "train"]


@given(st.text(max_size=20), st.integers(1, 2000), st.sampled_from([10.0, 30.0, 29.97]))
def test_names_and_clocks(name: str, length: int, rate: float) -> None:
    assert short(name).replace("_", "").isalnum()
    even = np.arange(length) / rate
    stamps = even.astype(np.float32).astype(np.float64)
    np.testing.assert_array_equal(clock({"timestamp": stamps}, rate), even)
    np.testing.assert_array_equal(clock({"timestamp": stamps + 0.01}, rate), stamps + 0.01)


def test_what_is_none_is_not_recognised(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing", Path(__file__)):
        assert not recognises(path)
        with pytest.raises(SakiyomiError, match="neither"):
            open_any(path)
    with pytest.raises(SakiyomiError, match="no path given"):
        LeRobot().record(tmp_path / "s")


@pytest.fixture(scope="module")
def targets(store: EpisodeStore, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Small data sets of each layout, and in each the files that are spoiled."""
    root = tmp_path_factory.mktemp("fuzzed")
    one = EpisodeStore(store.folder)
    write_lerobot(one, root / "v3")
    write_lerobot(one, root / "png", "png")
    as_v2(one, root / "v2")
    as_v1_png(one, root / "v1")
    return [path for path in sorted(root.rglob("*")) if path.is_file() and path.name != "stats.json"]


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_damaged_bytes_are_told_or_harmless(targets: list[Path], data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(targets))
    whole = path.read_bytes()
    spoiled = bytearray(whole[: data.draw(st.integers(0, len(whole)))] if data.draw(st.booleans()) else whole)
    for _ in range(data.draw(st.integers(1, 4))):
        if spoiled:
            at = data.draw(st.integers(0, len(spoiled) - 1) | st.integers(max(0, len(spoiled) - 400), len(spoiled) - 1))
            spoiled[at] = data.draw(st.integers(0, 255))
    folder = next(parent for parent in path.parents if parent.name in ("v3", "png", "v2", "v1"))
    try:
        path.write_bytes(spoiled)
        assert recognises(folder) in (True, False)
        contents = open_any(folder)
        for recording in contents.recordings[:2]:
            values = recording.read((8, 8))
            assert {*contents.features} <= {*values}
            assert {len(value) for value in values.values()} == {recording.length}
    except SakiyomiError as error:
        if bytes(spoiled) == whole:
            raise AssertionError("nothing was damaged") from error
    finally:
        path.write_bytes(whole)
