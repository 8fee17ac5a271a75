"""Recognisers on the command line, as a user meets them: trained on tones made up on the spot, told sound files of any
kind, scored; and what a slip of the fingers gets."""

import os
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sakiyomi.__main__ import main
from sakiyomi.audio.level import gain, loudness
from sakiyomi.audio.spectrum import log_mel
from sakiyomi.audio.wave import write_wav
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.sources.spoken_digits import RATE, read_clips
from sakiyomi.data.sources.tones import LETTERS, melody
from sakiyomi.evaluate_speech import SHOWN, Recognised, shown
from sakiyomi.recognize import Listening, at_level, hear, hear_file, recorded_frames, samples_of, stream
from sakiyomi.rollout import Trained, load
from sakiyomi.scores.protocol import load_scores

FSDD = Path(__file__).parents[2] / "shared/data/audio/fsdd.npz"
STEPS = ["--train.threads", "1", "--train.validate-every", "100"]
FEW = ["--letters", "4", "--most", "4", "--strings", "160", "--validation", "20", "--test", "20"]
TUNE = (0, 2, 1, 3, 3, 1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recogniser of tones, made by the commands themselves, and a melody as a file."""
    folder = tmp_path_factory.mktemp("tones")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert main(["prepare", "tones", *FEW]) == 0
        assert main(["train", "tones", "--train.steps", "300", *STEPS]) == 0
        write_wav(Path("tune.wav"), tune(), RATE)
    finally:
        os.chdir(before)
    return folder


def tune() -> np.ndarray:
    return melody(np.array(TUNE), np.random.default_rng(5), noise=20.0).astype(np.float32)


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def trained(here: Path) -> Trained:
    return load("runs/tones")


def test_it_learns_tones_it_was_told_without_times(here: Path) -> None:
    assert main(["evaluate", "tones"]) == 0
    scores = load_scores(here / "runs/tones/scores.json")
    assert scores["wer"].value < 0.2  # by chance, of four letters, 0.75 and more
    assert scores["wer"].low is not None
    assert {"wer/beam", "wer/language", "cer", "whole", "wer/generated"} <= set(scores)
    assert "heard with a language model" in (here / "runs/tones/report.html").read_text("utf-8")


def test_a_file_is_heard(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollout", "tones", "--file", "tune.wav"]) == 0
    heard = capsys.readouterr().out.strip().split()
    assert heard == [LETTERS[letter] for letter in TUNE]


def test_another_rate_and_stereo_are_heard_alike(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both are told."""
    samples = np.repeat(np.clip(tune() * 2**15, -(2**15), 2**15 - 1).astype("<i2"), 2)  # each twice: twice the rate
    with wave.open("stereo.wav", "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(2 * RATE)
        file.writeframes(np.repeat(samples, 2).tobytes())
    assert main(["rollout", "tones", "--file", "stereo.wav"]) == 0
    said, *notes = capsys.readouterr().out.strip().split("\n")
    assert said.split() == [LETTERS[letter] for letter in TUNE]
    assert "2 channels" in notes[0]
    assert "16000 to 8000 Hz" in notes[1]


def test_of_silence_nothing_is_heard(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_wav(Path("silence.wav"), np.zeros(RATE, np.float32), RATE)
    for more in ([], ["--stream"]):
        assert main(["rollout", "tones", "--file", "silence.wav", *more]) == 0
        out = capsys.readouterr().out
        assert "(nothing)" in out
        assert "silent" in out


def test_clipped_sound_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_wav(Path("loud.wav"), (tune() * 20).clip(-1, 1), RATE)
    assert main(["rollout", "tones", "--file", "loud.wav"]) == 0
    assert "clipped" in capsys.readouterr().out


@pytest.mark.parametrize("decibels", [-40, -20, 14])
def test_a_file_is_heard_alike_at_any_level(trained: Trained, decibels: int) -> None:
    """And it is said by how much it was lifted or lowered; at its own level nothing is."""
    usual = hear_file(trained, Path("tune.wav"), Listening())
    assert usual.notes == ()
    write_wav(Path("level.wav"), tune() * gain(decibels), RATE)
    heard = hear_file(trained, Path("level.wav"), Listening())
    assert heard.text == usual.text
    done, by, *_ = heard.notes[-1].removesuffix(" dB, to the level of what was learned").split(" by ")
    assert done == ("lowered" if decibels > 0 else "lifted")
    assert abs(int(by) - abs(decibels)) <= 4


def test_a_quiet_file_is_streamed_as_well(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_wav(Path("quiet.wav"), tune() * gain(-40), RATE)
    assert main(["rollout", "tones", "--file", "quiet.wav", "--stream"]) == 0
    out = capsys.readouterr().out
    assert "lifted by" in out
    lines = [line.split() for line in out.strip().split("\n") if " s  " in line]
    assert [line[-1] for line in lines] == [LETTERS[letter] for letter in TUNE]


@pytest.mark.skipif(not FSDD.exists(), reason="needs ../shared/data/audio/fsdd.npz")
def test_recorded_digits_are_brought_to_one_level_however_quiet(trained: Trained) -> None:
    """Digital silence around a clip makes it no quieter, and 30 dB less are given back."""
    sound = trained.normalizer.sound("feature")
    for clip in [clip for clip in read_clips(FSDD) if clip.number == 7][::5]:
        padded = np.pad(clip.samples, RATE // 4)
        usual, _ = at_level(trained, padded)
        quiet, notes = at_level(trained, padded * np.float32(gain(-30)))
        assert notes[0].startswith("lifted by")
        loud = [loudness(log_mel(torch.from_numpy(samples), sound).numpy()) for samples in (usual, quiet)]
        scale = trained.normalizer.scales["feature"]
        assert loud == pytest.approx([np.mean(scale.mean) + np.mean(scale.std)] * 2, abs=0.2)


def test_noise_alone_is_not_lifted_to_words(trained: Trained) -> None:
    write_wav(Path("hiss.wav"), np.random.default_rng(0).normal(0, 0.005, 3 * RATE), RATE)
    samples, notes = samples_of(trained, Path("hiss.wav"))
    assert np.sqrt((samples**2).mean()) == pytest.approx(0.005, rel=0.05)
    assert "its level was left as it is" in notes[0]


def test_of_little_sound_it_is_said_that_it_is_a_guess(
    here: Path, trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    write_wav(Path("short.wav"), tune()[: RATE // 8], RATE)
    for more in ([], ["--stream"]):
        assert main(["rollout", "tones", "--file", "short.wav", *more]) == 0
        assert "only 0.12 s long: what is heard in so little is a guess" in capsys.readouterr().out
    assert "guess" not in str(hear_file(trained, Path("tune.wav"), Listening()).notes)


def test_the_stream_is_the_likeliest_path(trained: Trained, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Frame by frame the same labels as at once, never later than the sound."""
    store = EpisodeStore("data/tones")
    for entry in store.split("test")[:5]:
        frames = recorded_frames(trained, store, entry)
        said = list(stream(trained, frames))
        assert " ".join(one.text for one in said) == hear(trained, frames, Listening()).text
        times = [one.time for one in said]
        assert times == sorted(times)
        assert all(0 <= time < entry.lengths["feature"] / store.streams["feature"].rate for time in times)
    assert main(["rollout", "tones", "--file", "tune.wav", "--stream"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.strip().split("\n") if " s  " in line]
    assert [line[-1] for line in lines] == [LETTERS[letter] for letter in TUNE]


def test_a_beam_reads_what_the_path_reads_where_it_is_clear(trained: Trained) -> None:
    for how in (Listening(beam=1), Listening(beam=8), Listening(beam=8, order=0)):
        heard = hear_file(trained, Path("tune.wav"), how)
        assert heard.text.split() == [LETTERS[letter] for letter in TUNE]
        assert heard.log_probability < 0
        assert list(heard.times) == sorted(heard.times)
        assert len(heard.times) == len(heard.labels) == len(TUNE)


def test_without_a_language_model_none_is_scored(here: Path) -> None:
    assert main(["evaluate", "tones", "--order", "0", "--utterances", "5"]) == 0
    scores = load_scores(Path("runs/tones/scores.json"))
    assert {"wer", "wer/beam"} <= scores.keys()
    assert "wer/language" not in scores
    assert "language model" not in Path("runs/tones/report.html").read_text()


def test_every_speaker_is_in_the_report() -> None:
    """However few of them are among the first utterances, and in the order in which they were heard."""
    speakers = ["anna"] * 30 + ["bea"] * 30 + [f"speaker {number}" for number in range(4)]
    found = [Recognised(str(n), who, "a", {}, torch.zeros(1, 1)) for n, who in enumerate(speakers)]
    chosen = shown(found)
    assert len(chosen) == SHOWN
    assert {one.speaker for one in chosen} == set(speakers)
    assert [int(one.id) for one in chosen] == sorted(int(one.id) for one in chosen)
    assert shown(found[:5]) == found[:5]
    many = [replace(found[0], id=str(n), speaker=str(n)) for n in range(SHOWN + 9)]
    assert shown(many) == many


def test_what_is_no_sound_is_told_in_words(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("text.wav").write_text("words")
    assert main(["rollout", "tones", "--file", "text.wav"]) == 1
    assert "0x" not in capsys.readouterr().err


def test_recordings_are_heard_without_a_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollout", "tones", "--count", "2", "--beam", "4"]) == 0
    assert capsys.readouterr().out.count("validation-") == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["rollout", "tones", "--file", "nowhere.wav"], "nowhere.wav does not exist"),
        (["rollout", "tones", "--file", "runs/tones/job.json"], "is no sound"),
        (["rollout", "tones", "--stream", "--beam", "4"], "leave out --beam"),
        (["rollout", "tones", "--beam", "0"], "--beam is 0"),
        (["rollout", "tones", "--order", "2", "--file", "tune.wav"], "--order would be ignored"),
        (["rollout", "tones", "--weight=0.5", "--bonus", "1"], "--weight, --bonus would be ignored"),
        (["rollout", "tones", "--count", "0"], "--count is 0"),
        (["evaluate", "tones", "--split", "tset"], "'test'"),
        (["evaluate", "tones", "--beam", "1"], "--beam is 1"),
        (["explain", "tones"], "sakiyomi rollout tones"),
        (["serve", "tones"], "tones hears"),
        (["train", "tones", "--out", "runs/x", "--data.steps", "50"], "taken whole"),
        (["train", "tones", "--out", "runs/x", "--model.dilations", "0"], "--model.dilations is [0]"),
        (["prepare", "an4"], "no path given"),
        (["prepare", "spoken-digits", "runs"], "holds no clip"),
    ],
)
def test_a_slip_is_one_line_that_helps(
    here: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert told in error
    assert not Path("runs/x").exists()
