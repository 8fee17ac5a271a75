"""Video files: what is written is read again, frame by frame and to the stamp, and damage is told."""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sakiyomi.data.formats.video import (
    frames_at,
    join_videos,
    read_video,
    resized,
    video_info,
    write_video,
)
from sakiyomi.errors import SakiyomiError
from sakiyomi.files import whole_file

pytest.importorskip("av")


def scene(count: int, height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """Something as smooth as what a camera sees, that moves: uint8 [count, height, width, 3]."""
    y, x, t = np.mgrid[:height, :width, :count].astype(float)
    red, green = 127 + 100 * np.sin((x + 3 * t + seed) / 9), 127 + 90 * np.cos((y + 2 * t) / 7)
    return np.moveaxis(np.stack([red, green, (x + y + t) * 255 / (height + width + count)], -1), 2, 0).astype(np.uint8)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Of the worst frame, dB."""
    errors = ((a.astype(float) - b) ** 2).reshape(len(a), -1).mean(1)
    return float(10 * np.log10(255**2 / max(errors.max(), 1e-9)))


@pytest.mark.parametrize("shape", [(48, 64), (37, 51), (2, 2)])
def test_ffv1_loses_nothing(tmp_path: Path, shape: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, *shape, 3), dtype=np.uint8)
    write_video(tmp_path / "a.mkv", frames, 30, "ffv1")
    film = read_video(tmp_path / "a.mkv")
    np.testing.assert_array_equal(film.frames, frames)
    np.testing.assert_allclose(film.times, np.arange(5) / 30, atol=0.0006)


@pytest.mark.parametrize(("codec", "least"), [("h264", 40), ("av1", 34)])
def test_an_mp4_comes_back(tmp_path: Path, codec: str, least: float) -> None:
    frames = scene(30)
    write_video(tmp_path / "a.mp4", iter(frames), 25, codec)
    film, info = read_video(tmp_path / "a.mp4"), video_info(tmp_path / "a.mp4")
    assert psnr(film.frames, frames) >= least
    assert (info.frames, info.rate, info.width, info.height, info.codec) == (30, 25, 64, 48, codec)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4"]


def test_odd_sizes_and_single_frames(tmp_path: Path) -> None:
    frames = scene(1, 37, 51)
    write_video(tmp_path / "a.mp4", frames, 30)
    assert psnr(read_video(tmp_path / "a.mp4").frames, frames) >= 40


@pytest.mark.parametrize("rate", [1.0, 12.5, 29.97, 30.0, 240.0])
def test_stamps_are_n_over_the_rate(tmp_path: Path, rate: float) -> None:
    write_video(tmp_path / "a.mp4", scene(9), rate)
    film = read_video(tmp_path / "a.mp4")
    np.testing.assert_allclose(film.times, np.arange(9) / rate, rtol=1e-12, atol=1e-9)
    assert film.rate == pytest.approx(rate, rel=1e-9)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "a.mp4"
    write_video(path, scene(40), 20, keyframes=7)
    return path


@pytest.mark.parametrize(("first", "count"), [(0, 0), (0, 3), (13, 5), (14, 26), (39, 1), (21, 0)])
def test_a_part_is_the_part_of_the_whole(film: Path, first: int, count: int) -> None:
    whole, stop = read_video(film), first + count if count else None
    part = read_video(film, whole.times[first], count)
    np.testing.assert_array_equal(part.frames, whole.frames[first:stop])
    np.testing.assert_array_equal(part.times, whole.times[first:stop])


def test_frames_at_times(film: Path) -> None:
    whole = read_video(film)
    chosen = [3, 3, 4, 20, 39]
    near = np.clip(whole.times[chosen] + np.array([0.02, 0.024, -0.02, 0.0, 0.02]), 0, None)
    np.testing.assert_array_equal(frames_at(film, near), whole.frames[chosen])
    small = frames_at(film, whole.times, (12, 16))
    np.testing.assert_array_equal(small, resized(whole.frames, (12, 16)))


@pytest.mark.parametrize("times", [[1.99, 2.1], [7.0], [0.5, 0.4], [-1.0], [np.nan], []])
def test_frames_that_are_not_there(film: Path, times: list[float]) -> None:
    with pytest.raises(SakiyomiError, match=r"a\.mp4"):
        frames_at(film, np.array(times))


@pytest.mark.parametrize(("codec", "keyframes"), [("h264", 2), ("h264", 9), ("av1", 2)])
def test_joined_videos_are_one_after_the_other(tmp_path: Path, codec: str, keyframes: int) -> None:
    parts = [tmp_path / f"{n}.mp4" for n in range(3)]
    for n, part in enumerate(parts):
        write_video(part, scene(1 + 7 * n, seed=n), 12.5, codec, keyframes=keyframes)
    join_videos(parts, tmp_path / "all.mp4")
    film = read_video(tmp_path / "all.mp4")
    np.testing.assert_array_equal(film.frames, np.concatenate([read_video(part).frames for part in parts]))
    np.testing.assert_allclose(film.times, np.arange(24) / 12.5, atol=1e-9)
    write_video(parts[0], scene(5, 32, 32), 12.5, codec)
    with pytest.raises(SakiyomiError, match="videos of one kind"):
        join_videos(parts, tmp_path / "none.mp4")
    assert not (tmp_path / "none.mp4").exists()


def foreign_film(path: Path, codec: str, options: dict[str, str], last: int = 1) -> Path:
    """40 frames at 20 Hz as other programs write them; the last one is shown for `last` times as long."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=20)
        stream.width, stream.height, stream.pix_fmt, stream.options = 64, 48, "yuv420p", options
        packets = [
            packet
            for frame in (*scene(40), None)
            for packet in stream.encode(frame if frame is None else av.VideoFrame.from_ndarray(frame, format="rgb24"))
        ]
        packets[-1].duration *= last
        container.mux(packets)
    return path


OPEN = "keyint=12:bframes=3:b-adapt=0:scenecut=0:open-gop=1"  # key frames that stand before pictures shown earlier


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {"x264-params": OPEN}),
        ("a.mp4", "libx265", {"x265-params": OPEN + ":log-level=0"}),
        ("a.avi", "mpeg4", {"bf": "2", "g": "12"}),
    ],
)
def test_no_frame_is_passed_over_behind_a_key_frame(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    path = foreign_film(tmp_path / name, codec, options)
    whole = read_video(path)
    assert len(whole.frames) == 40
    for number in range(40):
        np.testing.assert_array_equal(frames_at(path, whole.times[number : number + 2])[0], whole.frames[number])
        np.testing.assert_array_equal(read_video(path, whole.times[number], 1).frames[0], whole.frames[number])


def test_the_last_frame_may_be_shown_for_longer(tmp_path: Path) -> None:
    assert len(read_video(foreign_film(tmp_path / "a.mp4", "libx264", {"bf": "0"}, last=15)).frames) == 40


@pytest.mark.parametrize(("matrix", "turns"), [((0, 1, -1, 0), -1), ((0, -1, 1, 0), 1), ((-1, 0, 0, -1), 2)])
def test_films_that_lie_are_set_upright(tmp_path: Path, film: Path, matrix: tuple[int, ...], turns: int) -> None:
    content = bytearray(film.read_bytes())
    begin = content.index(b"tkhd") + 44  # of the nine numbers that say how a track is to be shown
    a, b, c, d = (number << 16 for number in matrix)
    content[begin : begin + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    (tmp_path / "a.mp4").write_bytes(content)
    turned = np.rot90(read_video(film).frames, turns, (1, 2))
    np.testing.assert_array_equal(read_video(tmp_path / "a.mp4").frames, turned)
    content[begin : begin + 36] = struct.pack(">9i", 46341, 46341, 0, -46341, 46341, 0, 0, 0, 1 << 30)
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(SakiyomiError, match="turned by -45 degrees"):
        read_video(tmp_path / "a.mp4")


def test_resizing() -> None:
    frames = scene(2)
    assert resized(frames, (0, 0)) is frames
    np.testing.assert_allclose(resized(frames, (24, 32)), frames.reshape(2, 24, 2, 32, 2, 3).mean((2, 4)), atol=1)
    flat = np.full((1, 5, 5, 3), 77, np.uint8)
    assert (resized(flat, (9, 4)) == 77).all()
    assert resized(frames, (96, 128)).shape == (2, 96, 128, 3)
    with pytest.raises(SakiyomiError, match="at least 1"):
        resized(frames, (0, 4))


def broken(frames: np.ndarray) -> Iterator[np.ndarray]:
    yield frames[0]
    raise RuntimeError("the camera is gone")


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    frames = scene(3)
    with pytest.raises(RuntimeError, match="camera"):
        write_video(tmp_path / "a.mp4", broken(frames), 30)
    with pytest.raises(SakiyomiError, match=r"frame 1 is uint8 \[20, 20, 3\]"):
        write_video(tmp_path / "a.mp4", [frames[0], frames[0, :20, :20]], 30)
    with pytest.raises(SakiyomiError, match="no frames"):
        write_video(tmp_path / "a.mp4", frames[:0], 30)
    with pytest.raises(SakiyomiError, match="unknown video codec 'h265'"):
        write_video(tmp_path / "a.mp4", frames, 30, "h265")
    with pytest.raises(SakiyomiError, match="rate is nan"):
        write_video(tmp_path / "a.mp4", frames, float("nan"))
    with pytest.raises(SakiyomiError, match="could not be written"):
        write_video(tmp_path / "a.mp4", np.zeros((2, 1, 1, 3), np.uint8), 30, "av1")
    assert not list(tmp_path.iterdir())


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    def fail() -> None:
        with whole_file(tmp_path / "sub" / "a") as temporary:
            temporary.write_bytes(b"half")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert not list((tmp_path / "sub").iterdir())
    with whole_file(tmp_path / "sub" / "a") as temporary:
        temporary.write_bytes(b"whole")
        assert not (tmp_path / "sub" / "a").exists()
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["a"]
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SakiyomiError, match="could not write"), whole_file(tmp_path / "file" / "a"):
        pass


def test_what_is_no_video_is_refused(tmp_path: Path, film: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video at all")
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\nhttp://example.org/a.ts\n")  # nothing is fetched
    (tmp_path / "cut.mp4").write_bytes(film.read_bytes()[:3000])
    for path in (
        tmp_path / "nothing.mp4",
        tmp_path,
        tmp_path / "text.mp4",
        tmp_path / "list.mp4",
        tmp_path / "cut.mp4",
    ):
        for read in (read_video, video_info):
            with pytest.raises(SakiyomiError, match=path.name):
                read(path)
    with pytest.raises(SakiyomiError, match="frames from 3 s on"):
        read_video(film, 3.0)
    with pytest.raises(SakiyomiError, match="has 40 frames from 0 s on, 41 expected"):
        read_video(film, 0.0, 41)
    for start, count in ((-1.0, 0), (float("nan"), 0), (0.0, -1)):
        with pytest.raises(SakiyomiError, match="at least 0"):
            read_video(film, start, count)


@pytest.fixture(scope="module", params=["h264", "av1", "ffv1"])
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = tmp_path_factory.mktemp("sample") / f"a.{'mkv' if request.param == 'ffv1' else 'mp4'}"
    write_video(path, scene(12, 32, 32), 30, request.param, keyframes=4)
    return path, path.read_bytes()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_are_told_or_harmless(sample: tuple[Path, bytes], data: st.DataObject) -> None:
    path, whole = sample
    spoiled = bytearray(whole[: data.draw(st.integers(0, len(whole)))] if data.draw(st.booleans()) else whole)
    for _ in range(data.draw(st.integers(0, 4))):
        if spoiled:
            spoiled[data.draw(st.integers(0, len(spoiled) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(spoiled)
    try:
        film = read_video(path)
    except SakiyomiError:
        assert bytes(spoiled) != whole
        return
    assert film.frames.dtype == np.uint8
    assert len(film.frames) == len(film.times)
    if bytes(spoiled) == whole:
        assert len(film.frames) == 12
