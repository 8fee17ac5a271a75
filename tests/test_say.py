"""Models that speak, from clips in a store to sounds in a file: what batches hold, who is held out, that samples come
back as they were, that a voice learns to say what it is told, and what a slip of the fingers gets."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from parts import expect_parts_to_make_the_batch

from sakiyomi import evaluate_sound
from sakiyomi.__main__ import main
from sakiyomi.audio.wave import from_mu_law, mu_law, read_sound, write_wav
from sakiyomi.data.clips import AFTER, Clips, pieces
from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter
from sakiyomi.data.normalize import Normalizer
from sakiyomi.data.sources.digit_clips import DigitClips, add_clips, one_hot, split_of, streams_of
from sakiyomi.data.sources.spoken_digits import HELD, RATE, Clip
from sakiyomi.data.sources.tone_clips import ToneClips
from sakiyomi.data.sources.tones import tone
from sakiyomi.data.windows import Data
from sakiyomi.errors import SakiyomiError
from sakiyomi.rollout import Trained, load
from sakiyomi.scores.listener import kinds_of, taught
from sakiyomi.scores.protocol import load_scores
from sakiyomi.speak import PAUSE, Speaking, fitting, known_labels, levels, say

FSDD = Path(__file__).parents[2] / "shared/data/audio/fsdd.npz"
STREAMS = ("sample", "label")
SILENCE = 128  # by mu-law
LENGTHS = (30, 700, 2, 90, 90, 55)


@pytest.fixture
def store(tmp_path: Path) -> EpisodeStore:
    """Clips of noise of these lengths, in two episodes; the first sample of each is loud and its own."""
    random, names = np.random.default_rng(0), ("0", "1", "anna", "bea")
    writer = EpisodeWriter(tmp_path / "store", streams_of(names))
    for split in ("train", "validation"):
        for who, lengths in (("anna", LENGTHS[:3]), ("bea", LENGTHS[3:])):
            clips = [random.normal(0, 0.1, length) for length in lengths]
            labels = [one_hot(names, str(number % 2), who) for number in range(3)]
            add_clips(writer, f"{split}-{who}", split, clips, labels)
    return writer.finish()


def clips_of(store: EpisodeStore, split: str = "train", steps: int = 0) -> Clips:
    normalizer = Normalizer.fit(store, {name: (name,) for name in STREAMS})
    return Clips(store, split, Data(steps=steps), STREAMS, normalizer)


# ---- Clips


def test_clips_come_back_as_they_were_put_in(store: EpisodeStore) -> None:
    """Each with its label and its own length, at one loudness."""
    found = [piece for entry in store.split("train") for piece in pieces(store, entry)]
    assert tuple(len(piece.samples) for piece in found) == LENGTHS
    assert [piece.label.tolist() for piece in found[2:4]] == [[1, 0, 1, 0], [1, 0, 0, 1]]
    random = np.random.default_rng(0)
    first = random.normal(0, 0.1, LENGTHS[0])
    np.testing.assert_allclose(levels(found[0].samples), first * 0.1 / np.sqrt((first**2).mean()), atol=2**-15)


def test_a_batch_tells_each_sample_from_those_before_it(store: EpisodeStore) -> None:
    """The first from silence; then the clip, silence that is learned, and padding that is not."""
    clips = clips_of(store)
    after = round(AFTER * RATE)
    batch = clips.batch(list(range(len(clips))))
    inputs, targets = batch.inputs["sample"], batch.targets["sample"]
    assert inputs.shape == targets.shape == batch.mask.shape == (6, 700 + after)
    assert (inputs[:, 0] == SILENCE).all()
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    assert sorted(batch.mask.sum(1).tolist()) == sorted(length + after for length in LENGTHS)
    for row, mask, target in zip(clips.pieces, batch.mask, targets, strict=True):
        length = len(row.samples)
        assert target[:length].tolist() == mu_law(levels(row.samples)).tolist()
        assert (target[length:] == SILENCE).all()
        assert mask[: length + after].all()
        assert not mask[length + after :].any()
    assert torch.equal(batch.inputs["label"][:, 0], batch.inputs["label"][:, -1])
    assert batch.inputs["label"][:, 0].tolist() == [piece.label.tolist() for piece in clips.pieces]


def test_a_long_clip_is_cut_and_no_silence_is_learned_behind_it(store: EpisodeStore) -> None:
    clips = clips_of(store, steps=60)
    after = round(AFTER * RATE)
    batch = clips.batch(list(range(6)))
    wanted = [length + after if length <= 60 else 60 for length in LENGTHS]
    assert sorted(batch.mask.sum(1).tolist()) == sorted(wanted)
    assert clips.steps == 60 + after


def test_draws_follow_from_seed_and_step_alone(store: EpisodeStore) -> None:
    one, two = clips_of(store), clips_of(store)
    for step in (5, 0, 2):
        a, b = one.draw(3, step, 2), two.draw(3, step, 2)
        assert torch.equal(a.inputs["sample"], b.inputs["sample"])
    epoch = [one.draw(3, step, 2) for step in range(3)]
    lengths = sorted(int(row.sum()) for batch in epoch for row in batch.mask)
    assert lengths == sorted(length + round(AFTER * RATE) for length in LENGTHS)  # all of them once an epoch


@pytest.mark.parametrize("steps", [0, 60])
def test_a_batch_of_clips_can_be_drawn_in_parts(store: EpisodeStore, steps: int) -> None:
    expect_parts_to_make_the_batch(clips_of(store, steps=steps))


def test_samples_survive_the_normalizer(store: EpisodeStore) -> None:
    """Ids come back as they were; samples by less than the step of mu-law where they are, which for silence is none."""
    normalizer = Normalizer.fit(store, {"sample": ("sample",)})
    ids = torch.arange(256)
    assert torch.equal(normalizer.encode("sample", normalizer.decode("sample", ids)), ids)
    samples = torch.arange(-(2**15), 2**15, dtype=torch.int16)
    back = normalizer.decode("sample", normalizer.encode("sample", samples))
    assert back.dtype == torch.int16
    off = (back.int() - samples.int()).abs()
    assert (off <= 8 + 0.023 * samples.int().abs()).all()
    assert normalizer.encode("sample", torch.zeros(1, dtype=torch.int16)).tolist() == [SILENCE]


def test_clips_that_do_not_fit_their_labels_are_refused(tmp_path: Path) -> None:
    names = ("a", "b")
    writer = EpisodeWriter(tmp_path, streams_of(names))
    values = {"sample": np.zeros(100, np.int16), "label": np.eye(2, dtype=np.float32)}
    for begin, id in (([0.001, 0.005], "late"), ([0.0, 0.5], "without")):
        writer.add(id, values, {"sample": np.arange(100) / RATE, "label": np.array(begin)})
    made = writer.finish()
    for entry in made.split("train"):
        with pytest.raises(SakiyomiError, match="first sample of each clip"):
            pieces(made, entry)


# ---- Sources


def test_clips_of_digits_are_held_out_by_number(tmp_path: Path) -> None:
    random, folder = np.random.default_rng(0), tmp_path / "clips"
    folder.mkdir()
    for who in ("anna", "bea"):
        for digit in (3, 7):
            for number in (0, 6, 9, 11):
                write_wav(folder / f"{digit}_{who}_{number}.wav", tone(digit, random), RATE)
    made = DigitClips(str(folder)).record(tmp_path / "store")
    counts = {split: sum(e.lengths["label"] for e in made.split(split)) for split in ("train", "validation", "test")}
    assert counts == {"train": 8, "validation": 4, "test": 4}
    assert set(known_labels(made)) == {"3 anna", "3 bea", "7 anna", "7 bea"}
    for file in folder.glob("*_9.wav"):
        file.unlink()
    for file in folder.glob("*_bea_11.wav"):
        file.unlink()
    with pytest.raises(SakiyomiError, match="no clip of bea is left for train"):
        DigitClips(str(folder)).record(tmp_path / "other")


def test_a_recogniser_learns_from_no_clip_that_a_voice_is_tested_on() -> None:
    for number in range(20):
        tested = split_of(Clip("anna", 3, number, np.zeros(1, np.float32))) == "test"
        assert tested == (number < HELD)


@pytest.mark.skipif(not FSDD.exists(), reason="needs ../shared/data/audio/fsdd.npz")
def test_the_spoken_digits_hold_no_clip_twice(tmp_path: Path) -> None:
    made = DigitClips(str(FSDD)).record(tmp_path)
    counts = {split: sum(e.lengths["label"] for e in made.split(split)) for split in ("train", "validation", "test")}
    assert counts == {"train": 2100, "validation": 150, "test": 250}
    found = [piece for entry in made.entries for piece in pieces(made, entry)]
    assert len({piece.samples.tobytes() for piece in found}) == len(found)
    assert len(known_labels(made)) == 50
    loud = [float(np.sqrt((levels(piece.samples) ** 2).mean())) for piece in found]
    assert np.percentile(loud, 5) > 0.08
    assert max(loud) < 0.101


# ---- Listening


def test_a_listener_tells_sounds_apart_and_says_when_it_cannot(tmp_path: Path) -> None:
    """Tones it never heard; of noise and of labels shuffled it knows no more than chance."""
    made = ToneClips(clips=60, validation=3, test=60).record(tmp_path)
    learned, held = ([p for e in made.split(split) for p in pieces(made, e)] for split in ("train", "test"))
    labels = np.stack([piece.label for piece in learned])
    listener = taught([levels(piece.samples) for piece in learned], labels, RATE)
    words = listener.words([levels(piece.samples) for piece in held])[:, 0]
    truth = np.stack([piece.label for piece in held]).argmax(1)
    assert (words == truth).mean() > 0.9
    assert (words == np.roll(truth, 1)).mean() < 0.1  # labels go a, b, c, a, b, c
    by_mu_law = listener.words([from_mu_law(mu_law(levels(piece.samples))) for piece in held])[:, 0]
    assert (by_mu_law == truth).mean() > 0.9


def test_words_of_labels_are_of_kinds() -> None:
    both = np.array([[1, 0, 1, 0, 0], [0, 1, 0, 1, 0], [0, 1, 0, 0, 1]], np.float32)
    assert kinds_of(both) == ((0, 1), (2, 3, 4))
    with pytest.raises(SakiyomiError, match="different numbers"):
        kinds_of(np.array([[1, 0], [1, 1]]))
    with pytest.raises(SakiyomiError, match="two kinds"):
        kinds_of(np.array([[1, 1, 0], [0, 1, 1]]))


# ---- The commands


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a voice of tones, made by the commands themselves."""
    folder, before = tmp_path_factory.mktemp("say"), Path.cwd()
    os.chdir(folder)
    try:
        assert main(["prepare", "say-tones", "--clips", "60", "--test", "9", "--validation", "6"]) == 0
        small = ["--model.channels", "16", "--model.skip", "32", "--train.batch-size", "4", "--data.steps", "800"]
        steps = ["--train.steps", "150", "--train.validate-every", "75", "--train.threads", "1"]
        assert main(["train", "say-tones", *small, *steps]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def trained(here: Path) -> Trained:
    return load("runs/say-tones")


def test_it_says_what_it_is_told_into_a_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--count", "2", "--seconds", "0.1", "--out", "b.wav"]
    assert main(["rollout", "say-tones", "--label", "b", *words]) == 0
    sound = read_sound(here / "b.wav", RATE)
    assert len(sound.samples) == 2 * round((0.1 + PAUSE) * RATE)
    assert (here / "b.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.count(" s  b\n") == 2
    assert main(["rollout", "say-tones", "--seconds", "0.05"]) == 0
    out = capsys.readouterr().out
    assert all(f" s  {letter}\n" in out for letter in "abc")
    assert (here / "runs/say-tones/rollout.wav").exists()


def test_the_same_seed_says_the_same_and_another_one_not(trained: Trained) -> None:
    labels = known_labels(EpisodeStore(trained.job.data.store))
    how = Speaking(seconds=0.05, seed=4)
    a, b, c = (say(trained, labels, 4, one) for one in (how, how, replace(how, seed=5)))
    assert [one.name for one in a] == ["a", "b", "c", "a"]
    assert all((x.samples == y.samples).all() for x, y in zip(a, b, strict=True))
    assert not (a[0].samples == c[0].samples).all()
    assert not (a[0].samples == a[3].samples).all()


def test_it_is_scored(here: Path) -> None:
    """After so short a training it knows the next sample far better than one who knows how often each value comes, and
    is understood more often than by chance, which would be a third."""
    assert main(["evaluate", "say-tones", "--sounds", "60", "--seconds", "0.15"]) == 0
    scores = load_scores(here / "runs/say-tones/scores.json")
    clips = clips_of(EpisodeStore("data/say-tones"))
    ids = np.concatenate([mu_law(levels(piece.samples)) for piece in clips.pieces])
    shares = np.bincount(ids, minlength=256) / len(ids)
    entropy = -float((shares[shares > 0] * np.log(shares[shares > 0])).sum())
    assert scores["nats"].value < entropy - 0.5
    assert scores["bits"].value == pytest.approx(scores["nats"].value / np.log(2))
    assert scores["recognised/recorded"].value == 1
    assert scores["recognised"].protocol.n == 60
    assert scores["recognised"].value > 0.4
    assert scores["samples_a_second"].value > 100
    assert "What was heard" in (here / "runs/say-tones/report.html").read_text("utf-8")
    assert (here / "runs/say-tones/spoken.wav").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["rollout", "say-tones", "--label", "z"], "word of a label"),
        (["rollout", "say-tones", "--label", "a b"], "never learned"),
        (["rollout", "say-tones", "--seconds", "61"], "at most 60"),
        (["rollout", "say-tones", "--seconds", "0"], "at least 1"),
        (["rollout", "say-tones", "--seconds", "nan"], "--seconds"),
        (["rollout", "say-tones", "--count", "-1"], "--count"),
        (["rollout", "say-tones", "--count", "1001"], "at most 1000"),
        (["rollout", "say-tones", "--temperature", "-1"], "at least 0"),
        (["rollout", "say-tones", "--out", "a.mp3"], ".wav"),
        (["evaluate", "say-tones", "--split", "tset"], "'test'"),
        (["evaluate", "say-tones", "--recognizer", "runs/nowhere"], "nowhere"),
        (["evaluate", "say-tones", "--recognizer", "runs/say-tones"], "recognises nothing"),
        (["evaluate", "say-tones", "--sounds", "0"], "--sounds"),
        (["evaluate", "say-tones", "--sounds", "1001"], "--sounds is 1001; it must be at most 1000"),
        (["evaluate", "say-tones", "--seconds", "61"], "--seconds is 61.0; it must be at most 60"),
        (["explain", "say-tones"], "sakiyomi rollout say-tones"),
        (["serve", "say-tones"], "say-tones speaks"),
        (["train", "say-tones", "--out", "runs/x", "--data.rate", "16000"], "--data.rate"),
        (["prepare", "say-tones", "--out", "data/x", "--letters", "6"], "--letters"),
        (["prepare", "say-digits", "--out", "data/x"], "fsdd.npz"),
        (["train", "say-digits", "--out", "runs/x"], "fsdd.npz"),
    ],
)
def test_slips_are_said_in_a_sentence(
    here: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert told in said
    assert "Traceback" not in said


def test_labels_are_found_by_their_words(store: EpisodeStore) -> None:
    known = known_labels(store)
    assert set(known) == {"0 anna", "1 anna", "0 bea", "1 bea"}
    assert set(fitting(known, "")) == set(known)
    assert set(fitting(known, "1")) == {"1 anna", "1 bea"}
    assert set(fitting(known, "bea, 0")) == {"0 bea"}
    assert set(fitting(known, "One ANNA")) == {"1 anna"}
    with pytest.raises(SakiyomiError, match="'anna'"):
        fitting(known, "hanna")
    with pytest.raises(SakiyomiError, match=r"unknown word of a label 'seven'.* known: 0, 1, anna, bea"):
        fitting(known, "seven")


def test_too_many_sounds_are_refused_before_anything_is_measured(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []
    monkeypatch.setattr(evaluate_sound, "told_next", lambda *_: measured.append("next samples"))
    with pytest.raises(SakiyomiError, match="--sounds is 1001"):
        evaluate_sound.evaluate_sound(trained, evaluate_sound.HowSpoken(sounds=1001))
    assert not measured


def test_a_voice_without_its_recordings_says_what_it_lacks(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for verb in ("rollout", "evaluate"):
        assert main([verb, "say-tones", "--run", str(here / "runs/say-tones")]) == 1
        said = " ".join(capsys.readouterr().err.split())
        assert "a voice needs the recordings it learned from" in said
        assert "data/say-tones does not exist" in said
