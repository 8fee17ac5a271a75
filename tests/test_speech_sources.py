"""Speech, tones and sub-tasks become stores: who is held out, what is said, and files that are none."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sakiyomi.audio.wave import write_wav
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.sources.an4 import An4, slopes, split_of_speakers, stacked, with_deltas
from sakiyomi.data.sources.spoken_digits import (
    MEL,
    NAMES,
    RATE,
    SpokenDigits,
    Varied,
    expanded,
    heard,
    read_clips,
    stretched,
)
from sakiyomi.data.sources.subtasks import BACK, SubTasks
from sakiyomi.data.sources.subtasks import NAMES as TASKS
from sakiyomi.data.sources.tones import Tones, tone
from sakiyomi.data.utterances import labels_of
from sakiyomi.errors import SakiyomiError

AUDIO = Path(__file__).parents[2] / "shared/data/audio"
SPEAKERS = ("anna", "bea", "carl", "dora")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of clips: a digit is a tone, a speaker its loudness."""
    folder, random = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    for speaker, name in enumerate(SPEAKERS[:3]):
        for digit in range(10):
            for number in (0, 7):
                samples = tone(digit, random) * (speaker + 1) / 2
                write_wav(folder / f"{digit}_{name}_{number}.wav", samples.clip(-1, 1), RATE)
    (folder / "notes.txt").write_text("not a clip")
    return folder


def an4_like(path: Path, **changes: np.ndarray) -> Path:
    """Twelve speakers, two utterances each."""
    random, count = np.random.default_rng(1), 24
    lengths = random.integers(20, 40, count)
    found = {
        "mfcc": random.normal(5, 2, (int(lengths.sum()), 13)).astype(np.float32),
        "offsets": np.concatenate(([0], np.cumsum(lengths))),
        "transcripts": np.array([f"GO {'ABCDEF'[n % 6]}" for n in range(count)]),
        "utterance": np.array([f"an{n}-b" for n in range(count)]),
        "speaker": np.array([f"f{'abcdefghijkl'[n // 2]}x" for n in range(count)]),
    }
    np.savez(path, **(found | changes))  # pyright: ignore[reportArgumentType]
    return path


# ---- AN4


def test_an4_holds_speakers_out(tmp_path: Path) -> None:
    store = An4(str(an4_like(tmp_path / "an4.npz"))).record(tmp_path / "store")
    who = {split: {e.meta["speaker"] for e in store.split(split)} for split in ("train", "validation", "test")}
    assert [len(who[split]) for split in ("train", "validation", "test")] == [10, 1, 1]
    assert not who["train"] & who["test"]
    entry = store.entries[3]
    vocabulary = store.streams["transcript"].vocabulary
    assert vocabulary is not None
    assert vocabulary.decode(labels_of(store, entry, "transcript").tolist()) == entry.meta["transcript"] == "GO D"
    assert store.streams["feature"].rate == pytest.approx(100 / 3)
    again = An4(str(tmp_path / "an4.npz")).record(tmp_path / "store")
    assert [e.sha256 for e in again.entries] == [e.sha256 for e in store.entries]


def test_who_is_held_out_follows_from_the_names_alone() -> None:
    names = [f"{a}{b}" for a in "abcdefghij" for b in "klmno"]
    splits = split_of_speakers(names, 0.1, 0.1)
    assert sorted(splits.values()).count("test") == 5
    assert splits == split_of_speakers(names[::-1], 0.1, 0.1)
    twins = split_of_speakers([*names, *(f"{name}2" for name in names)], 0.1, 0.1)
    assert sum(twins[name] != twins[f"{name}2"] for name in names) <= 2  # but where a split ends


def test_deltas_are_slopes_and_the_mean_is_gone() -> None:
    line = np.stack([3.0 * np.arange(20) + 7, np.full(20, 4.0)], 1)
    np.testing.assert_allclose(slopes(line)[2:-2], [[3.0, 0.0]] * 16, atol=1e-12)
    out = with_deltas(line)
    assert out.shape == (20, 6)
    np.testing.assert_allclose(out[:, :2].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(with_deltas(line + 100), out, atol=1e-4)  # another microphone


def test_stacking_keeps_every_frame() -> None:
    frames = np.arange(14.0).reshape(7, 2)
    out = stacked(frames, 3)
    assert out.shape == (3, 6)
    np.testing.assert_array_equal(out.reshape(-1, 2)[:7], frames)
    np.testing.assert_array_equal(out.reshape(-1, 2)[7:], frames[[-1, -1]])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"transcripts": np.array(["GO"])}, "must belong together"),
        ({"offsets": np.arange(25)}, "must belong together"),
        ({"speaker": np.repeat(["fa", "fb"], 12)}, "2 speakers cannot be parted in three"),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(
    tmp_path: Path, changes: dict[str, np.ndarray], told: str
) -> None:
    with pytest.raises(SakiyomiError, match=told):
        An4(str(an4_like(tmp_path / "an4.npz", **changes))).record(tmp_path / "store")


def test_an_utterance_without_frames_is_refused(tmp_path: Path) -> None:
    path = an4_like(tmp_path / "an4.npz")
    offsets = np.load(path)["offsets"]
    offsets[4] = offsets[3]
    with pytest.raises(SakiyomiError, match="'an3-b' has no frame"):
        An4(str(an4_like(path, offsets=offsets))).record(tmp_path / "store")


def test_offsets_of_clips_are_checked(tmp_path: Path) -> None:
    whole = {
        "samples": np.ones(90, np.int16),
        "offsets": np.array([0, 30, 60, 90]),
        "speaker": np.array(["a", "b", "c"]),
        "digit": np.arange(3),
        "index": np.arange(3),
        "rate": np.array(RATE),
    }
    np.savez(tmp_path / "clips.npz", **whole)  # pyright: ignore[reportArgumentType]
    assert [len(clip.samples) for clip in read_clips(tmp_path / "clips.npz")] == [30, 30, 30]
    for offsets in ([0, 30, 90], [0, 30, 30, 90], [1, 30, 60, 90], [0, 30, 60, 80]):
        np.savez(tmp_path / "clips.npz", **{**whole, "offsets": np.array(offsets)})  # pyright: ignore[reportArgumentType]
        with pytest.raises(SakiyomiError, match="expected one clip after the other"):
            read_clips(tmp_path / "clips.npz")


def test_other_clips_of_the_same_names_are_noticed(clips: Path, tmp_path: Path) -> None:
    few = SpokenDigits(str(clips), strings=2, validation=1, test=1)
    few.record(tmp_path / "store")
    few.record(tmp_path / "store")
    shutil.copytree(clips, tmp_path / "others")
    write_wav(tmp_path / "others/7_anna_7.wav", 0.1 * np.ones(3000), RATE)
    with pytest.raises(SakiyomiError, match=r"made with other settings .*sha256"):
        replace(few, path=str(tmp_path / "others")).record(tmp_path / "store")


def test_files_that_are_left_out_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loud = 0.5 * np.sin(np.arange(4000) / 5)
    for name, samples in {"1_an_na_0.WAV": loud, "2_anna_0.wav": 0 * loud, "seven.wav": loud}.items():
        write_wav(tmp_path / name, samples, RATE)
    assert [(clip.speaker, clip.digit) for clip in read_clips(tmp_path)] == [("an_na", 1)]
    told = capsys.readouterr().out
    assert "2_anna_0.wav, seven.wav" in told


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no arrays")
    np.savez(tmp_path / "other.npz", values=np.zeros(3))
    for source in (An4, SpokenDigits):
        with pytest.raises(SakiyomiError, match=r"no \.npz of arrays"):
            source(str(tmp_path / "text.npz")).record(tmp_path / "store")
        with pytest.raises(SakiyomiError, match="needed: "):
            source(str(tmp_path / "other.npz")).record(tmp_path / "store")


# ---- Digits


def test_the_unseen_speaker_is_in_the_test_split_alone(clips: Path, tmp_path: Path) -> None:
    source = SpokenDigits(str(clips), unseen="bea", strings=12, validation=4, test=6)
    store = source.record(tmp_path / "store")
    assert {e.meta["speaker"] for e in store.split("test")} == {"bea"}
    for split, count in {"train": 12, "validation": 4, "test": 6}.items():
        assert len(store.split(split)) == count
        if split != "test":
            assert "bea" not in {e.meta["speaker"] for e in store.split(split)}
    for entry in store.entries:
        said = entry.meta["transcript"].split()
        assert 1 <= len(said) <= 7
        assert [NAMES[label - 4] for label in labels_of(store, entry, "transcript")] == said
    assert store.streams["feature"].sound == MEL
    again = source.record(tmp_path / "store")  # nothing is made twice
    assert len(again.entries) == 22


def test_clips_of_a_folder_are_those_of_their_names(clips: Path) -> None:
    found = read_clips(clips)
    assert len(found) == 60
    assert {(c.speaker, c.digit, c.number) for c in found} == {
        (s, d, n) for s in SPEAKERS[:3] for d in range(10) for n in (0, 7)
    }


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"unseen": "zoe"}, "zoe"), ({"strings": 0}, "--strings is 0"), ({"seed": -1}, "--seed is -1")],
)
def test_what_cannot_be_put_together_is_told(
    clips: Path, tmp_path: Path, changes: dict[str, object], told: str
) -> None:
    with pytest.raises(SakiyomiError, match=told):
        SpokenDigits(str(clips), **changes).record(tmp_path / "store")  # pyright: ignore[reportArgumentType]


def test_validation_needs_clips_of_its_own(tmp_path: Path) -> None:
    for name in SPEAKERS[:2]:
        write_wav(tmp_path / f"1_{name}_9.wav", tone(1, np.random.default_rng(0)).clip(-1, 1), RATE)
    with pytest.raises(SakiyomiError, match="no clip is left for validation"):
        SpokenDigits(str(tmp_path)).record(tmp_path / "store")


def test_read_twice_as_fast_a_tone_is_an_octave_higher() -> None:
    time = np.arange(RATE) / RATE
    deep, high = np.sin(2 * np.pi * 500 * time), np.sin(2 * np.pi * 1000 * time)
    fast = stretched(deep[:, None], 2.0)[:, 0]
    assert len(fast) == RATE // 2
    peaks = [heard(0.1 * samples)[5:-5].mean(0).argmax() for samples in (fast, high, deep)]
    assert peaks[0] == peaks[1] != peaks[2]


def test_what_is_weak_gets_weaker_by_its_share() -> None:
    """A tone 20 dB under another comes to be 30 dB under it, or 10."""
    time = np.arange(RATE) / RATE
    samples = np.sin(2 * np.pi * 440 * time) * np.where(time < 0.5, 0.05, 0.5)
    for more in (0.5, 0.0, -0.5):
        out = expanded(samples, more)
        weak, strong = (np.sqrt(np.mean(part[500:-500] ** 2)) for part in np.split(out, 2))
        assert 20 * np.log10(strong / weak) == pytest.approx(20 * (1 + more), abs=0.2)


def test_strings_for_training_vary_and_others_do_not(clips: Path, tmp_path: Path) -> None:
    """Left as they are, the loudness of all strings is near; varied it is not."""
    spread = {}
    for name, how in {"still": Varied(0, 0, 0, 0, 50, 0), "varied": Varied()}.items():
        store = SpokenDigits(str(clips), strings=30, validation=1, test=1, varied=how).record(tmp_path / name)
        loud = [store.values(e.id, "feature").max() for e in store.split("train")]
        spread[name] = np.std(loud)
    assert spread["varied"] > 2 * spread["still"]


def test_tones_are_made_from_the_seed(tmp_path: Path) -> None:
    few = {"strings": 3, "validation": 1, "test": 1}
    one, same = (Tones(**few).record(tmp_path / name) for name in ("one", "same"))
    other = Tones(**few, seed=1).record(tmp_path / "other")
    assert [e.sha256 for e in one.entries] == [e.sha256 for e in same.entries] != [e.sha256 for e in other.entries]


# ---- Sub-tasks


def test_sub_tasks_follow_each_other_as_the_expert_did_them(pick_store: EpisodeStore, tmp_path: Path) -> None:
    store = SubTasks(str(pick_store.folder), sequences=40, validation=4, test=4).record(tmp_path / "store")
    after = {name: TASKS[n + 1] if n + 1 < len(TASKS) else BACK for n, name in enumerate(TASKS)} | {BACK: TASKS[0]}
    seen = set()
    for entry in store.entries:
        said, begins = entry.meta["transcript"].split(), entry.meta["begins"]
        assert [after[name] for name in said[:-1]] == said[1:]
        assert begins[0] == 0
        assert begins == sorted(begins)
        assert begins[-1] < entry.lengths["feature"] / store.streams["feature"].rate
        seen.add(tuple(said))
    assert len(seen) > 10  # a clock does not tell them
    assert {name for said in seen for name in said} == {*TASKS, BACK}


def test_the_gripper_closes_where_grasp_begins(pick_store: EpisodeStore, tmp_path: Path) -> None:
    """What the recordings show agrees with the times that scores are taken by: the gripper, the last joint, is open
    until grasping begins and closes from there."""
    store = SubTasks(str(pick_store.folder), sequences=40, validation=1, test=1).record(tmp_path / "store")
    rate, checked = store.streams["feature"].rate, 0
    for entry in store.split("train"):
        said, begins = entry.meta["transcript"].split(), entry.meta["begins"]
        gripper = store.values(entry.id, "feature")[:, 7]
        for name, begin in list(zip(said, begins, strict=True))[1:]:
            at = round(begin * rate)
            if name == "grasp" and at + 4 < len(gripper):
                assert gripper[at] > 0.03
                assert gripper[at + 4] < gripper[at] - 0.005
                checked += 1
    assert checked > 10


def test_a_store_of_something_else_is_refused(clips: Path, tmp_path: Path) -> None:
    SpokenDigits(str(clips), strings=1, validation=1, test=1).record(tmp_path / "digits")
    with pytest.raises(SakiyomiError, match="no joints"):
        SubTasks(str(tmp_path / "digits")).record(tmp_path / "store")


# ---- The real sets


@pytest.mark.skipif(not (AUDIO / "an4_mfcc.npz").exists(), reason="shared/data/audio is not here")
def test_a_tenth_of_an4s_speakers_is_never_heard() -> None:
    with np.load(AUDIO / "an4_mfcc.npz") as archive:
        splits = split_of_speakers(sorted(set(archive["speaker"].tolist())), An4().test, An4().validation)
    assert len(splits) == 74
    assert sorted(splits.values()).count("test") == 7
    assert splits["mdcs"] == splits["mdcs2"]


@pytest.mark.skipif(not (AUDIO / "fsdd.npz").exists(), reason="shared/data/audio is not here")
def test_all_clips_of_the_digits_are_read() -> None:
    clips = read_clips(AUDIO / "fsdd.npz")
    assert len(clips) == 2500
    assert {(c.speaker, c.digit) for c in clips} == {(s, d) for s in {c.speaker for c in clips} for d in range(10)}
