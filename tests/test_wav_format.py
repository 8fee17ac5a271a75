"""Sound files: sixteen bits stay what they are, labels come from folders or a table, damaged files are told."""

import random
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from sakiyomi.data.clips import pieces
from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream
from sakiyomi.data.formats import wav
from sakiyomi.data.formats.wav import Wav, read_samples, wav_bytes, write_wavs
from sakiyomi.errors import SakiyomiError

RATE = 8000


def sound(seed: int, count: int = 400) -> np.ndarray:
    return np.random.default_rng(seed).integers(-(2**15), 2**15, count).astype(np.int16)


def write(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(wav_bytes(samples, rate))
    return path


def recording(folder: Path, label: bool) -> EpisodeStore:
    """Episodes of several clips, one after the other."""
    streams = {"voice": Stream("audio", (), "int16", RATE)}
    if label:
        streams["label"] = Stream("label", (3,), "float32", 1.0, names=("one", "two", "a, b"))
    writer = EpisodeWriter(folder, streams)
    for number, split in enumerate(("train", "train", "validation", "test")):
        samples = sound(number, 300 + number)
        truth = np.random.default_rng(number).integers(0, 2, (3, 3)).astype(np.float32)
        values = {"voice": samples, "label": truth}
        times = {"voice": np.arange(len(samples)) / RATE, "label": np.array([0, 100, 250]) / RATE}
        writer.add(f"e{number}", {n: values[n] for n in streams}, {n: times[n] for n in streams}, split)
    return writer.finish()


@pytest.mark.parametrize("label", [True, False])
def test_what_is_written_is_read_again(tmp_path: Path, label: bool) -> None:
    store = recording(tmp_path / "store", label)
    write_wavs(store, tmp_path / "out")
    again = Wav(str(tmp_path / "out")).record(tmp_path / "again")
    assert [(e.id, e.split) for e in again.entries] == [(e.id, e.split) for e in store.entries]
    for entry in store.entries:
        for name, stream in {"sample": "voice", "label": "label"}.items():
            if stream in store.streams:
                np.testing.assert_array_equal(again.values(entry.id, name), store.values(entry.id, stream))
                np.testing.assert_array_equal(again.times(entry.id, name), store.times(entry.id, stream))
        with wave.open(str(tmp_path / "out" / f"{entry.id}.wav")) as file:
            assert file.getparams()[:4] == (1, 2, RATE, len(store.values(entry.id, "voice")))
    assert again.streams["sample"] == store.streams["voice"]
    assert again.streams.get("label") == store.streams.get("label")
    if label:
        assert [len(piece.samples) for piece in pieces(again, again.entries[1])] == [100, 150, 51]


def test_labels_are_the_names_of_folders(tmp_path: Path) -> None:
    for number, name in enumerate(("train/dog/1", "train/cat/1", "test/dog/2")):
        write(tmp_path / "in" / f"{name}.wav", sound(number))
    store = Wav(str(tmp_path / "in")).record(tmp_path / "store")
    assert store.streams["label"].names == ("cat", "dog")
    found = {e.id: (e.split, store.values(e.id, "label").tolist()) for e in store.entries}
    assert found == {
        "test-dog-2": ("test", [[0.0, 1.0]]),
        "train-cat-1": ("train", [[1.0, 0.0]]),
        "train-dog-1": ("train", [[0.0, 1.0]]),
    }
    np.testing.assert_array_equal(store.values("test-dog-2", "sample"), sound(2))


def test_labels_from_a_table(tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path / "in" / f"{number}.wav", sound(number))
    table = tmp_path / "words.csv"
    table.write_text("file,label\n" + "".join(f"{n}.wav,{'loud bell' if n % 2 else 'bell'}\n" for n in range(4)))
    store = Wav(str(tmp_path / "in"), labels=str(table)).record(tmp_path / "store")
    assert store.streams["label"].names == ("bell", "loud")
    assert [store.values(e.id, "label").tolist() for e in store.entries] == [[[1, 0]], [[1, 1]]] * 2
    assert len(store.split("validation")) == 1
    table.write_text("file,label\n0.wav,bell\n")
    with pytest.raises(SakiyomiError, match=r"3 damaged and left out: .*1\.wav has no label"):
        Wav(str(tmp_path / "in"), labels=str(table)).record(tmp_path / "second")
    for text, words in {
        "file,label\n9.wav,bell\n": r"line 2: unknown file '9\.wav'",
        "name,label\n0.wav,bell\n": "has columns name, label; expected file,label",
        "": "has columns none",
        "file,time,a\n0.wav,x,1\n": "line 2: 'x' is no time in seconds",
        "file,a\n0.wav,2\n": "line 2: '2' is neither 0 nor 1",
        "file,a\n0.wav,1,1\n": "line 2: more than 2 columns",
    }.items():
        table.write_text(text)
        with pytest.raises(SakiyomiError, match=words):
            Wav(str(tmp_path / "in"), labels=str(table)).record(tmp_path / "third")


def test_other_kinds_of_sound_are_brought_to_one(tmp_path: Path) -> None:
    smooth = (0.5 * np.sin(np.arange(800) / 20)).astype(np.float32)
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "a.wav", np.stack((smooth, smooth), 1), RATE, "FLOAT")
    write(tmp_path / "in" / "b.wav", np.rint(smooth * 2**15).astype(np.int16))
    write(tmp_path / "in" / "c.wav", sound(0), 16_000)
    with pytest.raises(SakiyomiError, match=r"c\.wav has 16000 samples a second, the first file 8000; .*--rate 8000"):
        Wav(str(tmp_path / "in")).record(tmp_path / "store")
    store = EpisodeStore(tmp_path / "store")
    np.testing.assert_array_equal(store.values("a", "sample"), store.values("b", "sample"))
    notes = {e.id: e.meta.get("notes", []) for e in store.entries}
    assert notes["b"] == []
    assert "2 channels: their mean" in notes["a"]
    both = Wav(str(tmp_path / "in"), rate=RATE).record(tmp_path / "both")
    assert both.entry("c").lengths["sample"] == 200


WHOLE = wav_bytes(sound(0), RATE)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "does not begin as a WAV file"),
        (b"RIFF\0\0\0\0WAVE", "holds no|no header|no sound"),
        (WHOLE[:-2], r"is cut off: its part 'data' should end at byte 844 of 842"),
        (WHOLE[:40], "is cut off|no sound"),
        (WHOLE[:40] + b"\xff\xff\xff\xff" + WHOLE[44:], "is cut off"),
        (wav_bytes(sound(0, 0), RATE), "empty or cut off"),
        (b"ID3" + bytes(100), "does not begin as a WAV file"),
    ],
)
def test_a_damaged_file_costs_itself(tmp_path: Path, content: bytes, words: str) -> None:
    write(tmp_path / "in" / "a.wav", sound(1))
    (tmp_path / "in" / "b.wav").write_bytes(content)
    with pytest.raises(SakiyomiError, match=words):
        Wav(str(tmp_path / "in")).record(tmp_path / "store")
    assert [e.id for e in EpisodeStore(tmp_path / "store").entries] == ["a"]


@settings(max_examples=100)
@given(seed=st.integers(0, 2**32), cut=st.booleans())
def test_damaged_files_are_errors_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, seed: int, cut: bool
) -> None:
    chance = random.Random(seed)
    spoiled = bytearray(WHOLE[: chance.randrange(len(WHOLE))] if cut else WHOLE)
    for _ in range(0 if cut else chance.choice((1, 2, 5))):
        spoiled[chance.randrange(44)] = chance.choice((0, 1, 255, chance.randrange(256)))
    path = tmp_path_factory.mktemp("spoiled") / "a.wav"
    path.write_bytes(spoiled)
    told = ""
    try:
        samples, _ = read_samples(path, RATE)
        assert samples.dtype == np.int16
        assert len(samples)
    except SakiyomiError as error:
        told = str(error)
    assert not told or (str(path) in told and "\n" not in told)


@pytest.mark.parametrize(
    ("streams", "step", "words"),
    [
        ({"a": Stream("scalar", (), "int16", RATE)}, 1 / RATE, r"has a \(scalar\); a folder of WAV files takes one"),
        ({"a": Stream("audio", (), "float32", RATE)}, 1 / RATE, "is float32"),
        ({"a": Stream("audio", (), "int16", 22_050.5)}, 1 / 22_050.5, "expected int16"),
        ({"a": Stream("audio", (), "int16", RATE)}, 1.1 / RATE, "samples are missing, or of another rate"),
    ],
)
def test_a_store_that_is_no_folder_of_sounds(tmp_path: Path, streams: Any, step: float, words: str) -> None:
    writer = EpisodeWriter(tmp_path / "store", streams)
    writer.add("e", {"a": np.ones(50, streams["a"].dtype)}, {"a": np.arange(50) * step})
    with pytest.raises(SakiyomiError, match=words):
        write_wavs(writer.finish(), tmp_path / "out")


def test_strange_names_become_plain_ids_and_messages_of_one_line(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a\nb ..c.wav", sound(0))
    write(tmp_path / "in" / "..wav.wav", sound(1))
    (tmp_path / "in" / "d\ne.wav").write_bytes(b"")
    with pytest.raises(SakiyomiError, match=r"d\?e\.wav does not begin") as caught:
        Wav(str(tmp_path / "in")).record(tmp_path / "store")
    assert "\n" not in str(caught.value)
    assert len((tmp_path / "store" / "damaged.txt").read_text().splitlines()) == 1
    entry = next(iter(EpisodeStore(tmp_path / "store").entries))
    assert entry.id.startswith("ab..c-")
    assert entry.meta["file"] == "a?b ..c.wav"


def test_what_is_wrong_with_the_place_to_write_to_is_said_at_once(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.wav", sound(0))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("")
    with pytest.raises(SakiyomiError, match=r"out exists and is no episode store") as caught:
        Wav(str(tmp_path / "in")).record(tmp_path / "out")
    assert "damaged" not in str(caught.value)
    Wav(str(tmp_path / "in")).record(tmp_path / "store")
    with pytest.raises(SakiyomiError, match=r"made with other settings \(rate 0 there, 8000 asked\)"):
        Wav(str(tmp_path / "in"), rate=8000).record(tmp_path / "store")


def test_a_file_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b" / "c.wav", sound(0))
    (tmp_path / "text.wav").write_text("RIFF")
    assert [wav.recognises(tmp_path / name) for name in ("a", "a/b", "a/b/c.wav")] == [True] * 3
    assert not any(wav.recognises(tmp_path / name) for name in ("text.wav", "nowhere"))
    with pytest.raises(SakiyomiError, match="--rate is 5; samples come"):
        Wav(str(tmp_path / "a"), rate=5).record(tmp_path / "store")
