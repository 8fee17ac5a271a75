"""What a model is shown at step t, and what it is asked for: the true next thing, masked where there is none."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic
import torch
from parts import expect_equal, expect_parts_to_make_the_batch
from torch import Tensor

from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream
from sakiyomi.data.normalize import Normalizer
from sakiyomi.data.windows import Batch, Data, Windows, covered_streams
from sakiyomi.errors import SakiyomiError


def windows(
    store: EpisodeStore, streams: tuple[str, ...] = ("image", "joints"), split: str = "train", **data: Any
) -> Windows:
    normalizer = Normalizer.fit(store, covered_streams(store, streams))
    return Windows(store, split, Data(str(store.folder), **data), streams, normalizer)


def decoded(source: Windows, stream: str, values: Tensor) -> np.ndarray:
    return source.normalizer.decode(stream, values).numpy()


def test_targets_are_the_next_picture_and_the_command_now(store: EpisodeStore) -> None:
    source = windows(store)
    batch = source.batch(list(range(len(source))))
    for row, entry in enumerate(store.split("train")):
        steps = entry.lengths["image"] - 1  # the last picture has no next one
        truth = {stream: store.values(entry.id, stream) for stream in store.streams}
        images = decoded(source, "image", batch.inputs["image"])[row, :steps]
        next_images = decoded(source, "image", batch.targets["image"])[row, :steps]
        joints = decoded(source, "joints", batch.inputs["joints"])[row, :steps]
        commands = decoded(source, "joints", batch.targets["joints"])[row, :steps]
        np.testing.assert_array_equal(images, truth["image"][:-1])
        np.testing.assert_array_equal(next_images, truth["image"][1:])
        np.testing.assert_allclose(joints, truth["joints"][:-1], atol=1e-6)
        np.testing.assert_allclose(commands, truth["command"][:-1], atol=1e-6)


def test_without_commands_the_next_joints_are_the_target(tmp_path: Path) -> None:
    streams = {name: synthetic.STREAMS[name] for name in ("image", "joints")}
    writer = EpisodeWriter(tmp_path, streams)
    values = synthetic.values(8, 0)
    writer.add("only", {name: values[name] for name in streams}, synthetic.times(8))
    source = windows(writer.finish())
    targets = decoded(source, "joints", source.batch([0]).targets["joints"])[0]
    np.testing.assert_allclose(targets, values["joints"][1:], atol=1e-6)


def test_the_mask_tells_real_steps_from_padding(store: EpisodeStore) -> None:
    source = windows(store)
    batch = source.batch(list(range(len(source))))
    assert batch.mask.sum(1).tolist() == [length - 1 for length in synthetic.LENGTHS]
    assert (batch.mask.diff(dim=1) <= 0).all()  # the padding comes last
    for streams in (batch.inputs, batch.targets):
        for value in streams.values():
            assert value.shape[:2] == batch.mask.shape
            assert value.isfinite().all()


def equal(a: Batch, b: Batch) -> bool:
    pairs = [(a.mask, b.mask), *((a.inputs[k], b.inputs[k]) for k in a.inputs)]
    return all(torch.equal(x, y) for x, y in [*pairs, *((a.targets[k], b.targets[k]) for k in a.targets)])


def test_a_draw_follows_from_seed_and_step(store: EpisodeStore) -> None:
    source = windows(store, steps=3)
    asked = [5, 0, 2, 5]
    first = [source.draw(1, step, 4) for step in asked]
    other = windows(store, steps=3)  # a resumed process; the steps before it were drawn elsewhere
    assert all(equal(batch, other.draw(1, step, 4)) for batch, step in zip(first, asked, strict=True))
    assert not equal(first[0], first[1])
    assert not equal(source.draw(1, 0, 4), source.draw(2, 0, 4))


@pytest.mark.parametrize("steps", [0, 3])
def test_a_batch_can_be_drawn_in_parts(store: EpisodeStore, steps: int) -> None:
    expect_parts_to_make_the_batch(windows(store, steps=steps))


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("device", ["cpu", "cpu:0"])  # a tensor on "cpu:0" says "cpu", as one on "cuda" says "cuda:0"
def test_windows_kept_on_a_device_are_those_that_are_read(
    store: EpisodeStore, steps: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, read, place = windows(store, steps=steps), windows(store, steps=steps), torch.device(device)
    shapes = (16 * 16 * 3, 3 * 4, 3 * 4)
    assert sum(shapes) == sum(value[0].nbytes for value in synthetic.values(1, 0).values())
    size = len(kept) * (kept.steps + 1) * sum(shapes)
    assert not kept.keep(place, size - 1)
    assert kept.keep(place, size)
    monkeypatch.setattr(kept, "_resample", None)  # nothing is to be read any more
    picks = [2, 0, 2]
    expect_equal(kept.batch(picks, place), read.batch(picks))
    expect_equal(kept.draw(1, 3, 4, slice(1, None, 2), place), read.draw(1, 3, 4, slice(1, None, 2)))


@pytest.mark.parametrize("batch_size", [1, 3, 4, 50])
def test_every_window_is_seen_once_an_epoch(store: EpisodeStore, batch_size: int) -> None:
    """Also where batches straddle epochs or are larger than one."""
    source = windows(store, ("joints",), steps=3)
    which = {row.numpy().tobytes(): i for i, row in enumerate(source.batch(list(range(len(source)))).inputs["joints"])}
    assert len(which) == len(source) > 4
    epochs = 3
    seen = []
    for step in range(-(-epochs * len(source) // batch_size)):
        seen += [which[row.numpy().tobytes()] for row in source.draw(0, step, batch_size).inputs["joints"]]
    orders = [tuple(seen[e * len(source) : (e + 1) * len(source)]) for e in range(epochs)]
    assert all(Counter(order) == Counter(range(len(source))) for order in orders)
    assert len(set(orders)) == epochs


def test_short_windows_cover_an_episode_and_stay_inside(store: EpisodeStore) -> None:
    source = windows(store, ("joints",), steps=4)
    batch = source.batch(list(range(len(source))))
    assert batch.mask.shape == (len(source), 4)
    assert (batch.mask == 1).all()
    for entry in store.split("train"):
        mine = [w for w in source.windows if w.episode == entry.id]
        clock = store.times(entry.id, "joints")
        covered = {round(t * 10) for w in mine for t in w.times}
        assert covered <= {round(t * 10) for t in clock}
        # A rest shorter than half a window may be left at the end.
        assert covered >= {round(t * 10) for t in clock[:-2]}


def two_rates(folder: Path, camera_start: float = 0.0, jitter: float = 0.0) -> EpisodeStore:
    """A camera at 10 Hz, joints at 50 Hz that are linear in time: joints = (t, 2 - 3 t). Picture n is all n."""
    streams = {"image": Stream("image", (2, 2, 3), "uint8", 10.0), "joints": Stream("joints", (2,), "float32", 50.0)}
    writer = EpisodeWriter(folder, streams)
    for episode in range(2):
        camera = 5.0 + camera_start + np.arange(20) / 10
        clock = 5.0 + np.arange(100) / 50 + jitter * np.random.default_rng(episode).uniform(0, 1, 100)
        values = {
            "image": np.tile(np.arange(20, dtype=np.uint8)[:, None, None, None], (1, 2, 2, 3)),
            "joints": np.stack([clock, 2 - 3 * clock], 1).astype(np.float32),
        }
        writer.add(str(episode), values, {"image": camera, "joints": clock})
    return writer.finish()


@pytest.mark.parametrize(
    ("data", "rate"), [({"clock": "image"}, 10), ({"clock": "joints"}, 50), ({"rate": 7.0}, 7), ({"rate": 30.0}, 30)]
)
def test_streams_of_different_rates_meet_on_one_clock(tmp_path: Path, data: dict[str, Any], rate: float) -> None:
    """Joints are interpolated, exactly where they are linear; a picture holds until the next one."""
    store = two_rates(tmp_path, camera_start=0.033, jitter=0.005)
    source = windows(store, **data)
    assert source.rate == rate
    batch = source.batch(list(range(len(source))))
    images = decoded(source, "image", batch.inputs["image"])[..., 0, 0, 0]
    joints = decoded(source, "joints", batch.inputs["joints"])
    for row, window in enumerate(source.windows):
        times = window.times[:-1]
        np.testing.assert_allclose(np.diff(times), 1 / rate)
        np.testing.assert_allclose(joints[row, : len(times), 0], times, atol=2e-6)
        np.testing.assert_allclose(joints[row, : len(times), 1], 2 - 3 * times, atol=5e-6)
        camera = store.times(window.episode, "image")
        newest = [int(np.flatnonzero(camera <= t + 1e-6)[-1]) for t in times]
        assert images[row, : len(times)].tolist() == newest


def test_windows_begin_when_every_stream_has_begun(tmp_path: Path) -> None:
    source = windows(two_rates(tmp_path, camera_start=0.5), clock="joints")
    assert source.windows[0].times[0] == pytest.approx(5.5)
    assert source.windows[0].times[-1] <= 6.98 + 1e-9  # the joints' last


def test_fewer_episodes_are_the_first_ones_and_of_training_only(store: EpisodeStore) -> None:
    assert {w.episode for w in windows(store, episodes=2).windows} == {"0", "1"}
    assert {w.episode for w in windows(store, split="validation", episodes=2).windows} == {"validation"}


def test_a_window_longer_than_an_episode_is_refused(store: EpisodeStore) -> None:
    with pytest.raises(SakiyomiError, match=r"episode '0' .* 8 steps at 10 Hz, shorter than the window of 9"):
        windows(store, steps=9)


def test_short_episodes_are_counted_or_left_out(store: EpisodeStore) -> None:
    """Episodes of 8, 13, 10 and 11 steps."""
    with pytest.raises(SakiyomiError, match=r"episode '0' .* the first of 2 too short among the 4 .*--data.skip-short"):
        windows(store, steps=11)
    source = windows(store, steps=11, skip_short=True)
    assert {window.episode for window in source.windows} == {"1", "3"}
    assert source.batch([0]).mask.shape == (1, 11)
    assert len(windows(store, steps=4, skip_short=True)) == len(windows(store, steps=4))
    with pytest.raises(SakiyomiError, match=r"episode '0' .* the first of 4 too short among the 4") as caught:
        windows(store, steps=14, skip_short=True)
    assert "skip-short" not in str(caught.value)


def test_short_episodes_among_whole_ones_are_left_out(tmp_path: Path) -> None:
    """Whole episodes, of which one has no step."""
    writer = EpisodeWriter(tmp_path, synthetic.STREAMS)
    for id, length in {"one": 1, "six": 6, "four": 4}.items():
        writer.add(id, synthetic.values(length, 0), synthetic.times(length))
    source = windows(writer.finish(), skip_short=True)
    assert [(window.episode, window.steps) for window in source.windows] == [("six", 5), ("four", 3)]


@pytest.mark.parametrize("batch_size", [1, 4, 7, 60])
def test_a_draw_is_the_permutation_of_its_epoch(store: EpisodeStore, batch_size: int) -> None:
    """Asked in any order, as a resumed run does; the orders that are kept change nothing."""
    source = windows(store, ("joints",), steps=3)
    count = len(source)
    for step in [0, 9, 3, 3, 0, 20]:
        places = [divmod(p, count) for p in range(step * batch_size, (step + 1) * batch_size)]
        picks = [int(np.random.default_rng((5, epoch)).permutation(count)[index]) for epoch, index in places]
        assert equal(source.draw(5, step, batch_size), source.batch(picks))


def test_an_episode_of_one_value_has_no_step(tmp_path: Path) -> None:
    writer = EpisodeWriter(tmp_path, synthetic.STREAMS)
    writer.add("short", synthetic.values(1, 0), synthetic.times(1))
    with pytest.raises(SakiyomiError, match=r"'short' .* 0 steps"):
        windows(writer.finish())


def test_missing_streams_and_splits_are_named(store: EpisodeStore) -> None:
    for ask in (
        lambda: windows(store, ("image", "force")),
        lambda: Windows(store, "train", Data(), ("image", "force"), Normalizer({})),
    ):
        with pytest.raises(SakiyomiError, match=r"stream 'force'.*'command', 'image', 'joints'"):
            ask()
    with pytest.raises(SakiyomiError, match="did you mean 'joints'"):
        windows(store, clock="joint")
    with pytest.raises(SakiyomiError, match="did you mean 'train'"):
        windows(store, split="trian")


def anonymous() -> int:
    """Bytes of this process's memory that are no file's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system tells no RssAnon")
def test_memory_does_not_grow_with_the_store(tmp_path: Path) -> None:
    """160 MB are read by windows; what is held besides the files' own pages does not grow while they are."""
    stream = Stream("image", (64, 64, 3), "uint8", 10.0)
    writer = EpisodeWriter(tmp_path / "store", {"image": stream})
    frames = np.random.default_rng(0).integers(0, 256, (1300, 64, 64, 3), dtype=np.uint8)
    for number in range(10):
        writer.add(f"{number}", {"image": frames}, {"image": np.arange(1300) / 10})
    del frames
    opened = EpisodeStore(writer.folder, allow_empty=True)
    data = Data(str(writer.folder), steps=49, clock="image", stride=49)
    windows = Windows(opened, "train", data, ("image",), Normalizer.fit(opened, {"image": ("image",)}))
    held = []
    for step in range(len(windows) // 4):
        windows.draw(0, step, 4)
        held.append(anonymous())
    early = len(held) // 4
    assert max(held[early:]) - max(held[:early]) < 24e6
