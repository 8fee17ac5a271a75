"""Utterances: what is real and what is padding, each once an epoch, and refusals that name the utterance."""

from pathlib import Path

import numpy as np
import pytest
import torch
from parts import expect_parts_to_make_the_batch

from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream
from sakiyomi.data.normalize import Normalizer
from sakiyomi.data.utterances import Utterances
from sakiyomi.data.vocabulary import BOS, EOS, PAD, SPECIAL, Vocabulary
from sakiyomi.data.windows import Data
from sakiyomi.errors import SakiyomiError

FRAMES = (9, 4, 12, 7, 4, 30, 5, 11)
LABELS = ([4, 5], [], [6, 6, 4], [5], [4], [4, 5, 6, 4], [6], [5, 4])


def write(folder: Path, labels: tuple[list[int], ...] = LABELS, end: tuple[int, ...] = (EOS,)) -> EpisodeStore:
    """Utterances for training, and the first one again for validation."""
    vocabulary = Vocabulary((*SPECIAL, "a", "b", "c"))
    streams = {
        "feature": Stream("scalar", (2,), "float32", 50.0),
        "transcript": Stream("token", (), "int32", 1.0, vocabulary=vocabulary),
    }
    writer, random = EpisodeWriter(folder, streams), np.random.default_rng(0)
    for number, (frames, said) in enumerate(zip((*FRAMES, FRAMES[0]), (*labels, labels[0]), strict=True)):
        values = {
            "feature": random.normal(3.0, 2.0, (frames, 2)).astype(np.float32),
            "transcript": np.array([*said, *end], np.int32),
        }
        times = {name: np.arange(len(value), dtype=float) for name, value in values.items()}
        writer.add(f"u{number}", values, times, "train" if number < len(FRAMES) else "validation")
    return writer.finish()


def utterances(store: EpisodeStore, split: str = "train", data: Data | None = None) -> Utterances:
    normalizer = Normalizer.fit(store, {"feature": ("feature",), "transcript": ("transcript",)})
    return Utterances(store, split, data or Data(), ("feature",), ("transcript",), normalizer)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Utterances:
    return utterances(write(tmp_path_factory.mktemp("utterances") / "store"))


def test_a_batch_is_what_was_recorded_and_padding(spoken: Utterances) -> None:
    batch = spoken.batch(list(range(len(FRAMES))))
    lengths = batch.mask.sum(1).long()
    assert lengths.tolist() == sorted(FRAMES)
    for row, entry in enumerate(spoken.entries):
        frames = torch.from_numpy(spoken.store.values(entry.id, "feature"))
        count, said = int(lengths[row]), LABELS[int(entry.id[1:])]
        back = spoken_normalizer(spoken).decode("feature", batch.inputs["feature"][row, :count])
        torch.testing.assert_close(back.float(), frames, atol=1e-5, rtol=1e-5)
        assert (batch.inputs["feature"][row, count:] == 0).all()
        padded = [*said, *[PAD] * (batch.targets["transcript"].shape[1] - len(said))]
        assert batch.targets["transcript"][row].tolist() == padded
    assert set(batch.inputs) == {"feature"}  # what is to be said is not read


def spoken_normalizer(spoken: Utterances) -> Normalizer:
    return Normalizer.fit(spoken.store, {"feature": ("feature",), "transcript": ("transcript",)})


def test_frames_are_of_mean_0_and_deviation_1(spoken: Utterances) -> None:
    batch = spoken.batch(list(range(len(FRAMES))))
    real = batch.inputs["feature"][batch.mask > 0]
    torch.testing.assert_close(real.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(real.std(0, correction=0), torch.ones(2), atol=1e-4, rtol=0)


def test_each_is_seen_once_an_epoch(spoken: Utterances) -> None:
    seen = [batch_lengths(spoken, step) for step in range(4)]
    assert sorted(length for batch in seen for length in batch) == sorted(FRAMES)
    again = [batch_lengths(spoken, step) for step in range(4, 8)]
    assert sorted(length for batch in again for length in batch) == sorted(FRAMES)


def batch_lengths(spoken: Utterances, step: int) -> list[int]:
    return spoken.draw(0, step, 2).mask.sum(1).long().tolist()


def test_a_batch_follows_from_seed_and_step(spoken: Utterances) -> None:
    one, same = spoken.draw(1, 5, 3), spoken.draw(1, 5, 3)
    torch.testing.assert_close(one.inputs, same.inputs, atol=0, rtol=0)
    others = [spoken.draw(seed, 5, 3).targets["transcript"].tolist() for seed in range(2, 8)]
    assert any(other != one.targets["transcript"].tolist() for other in others)


def test_a_batch_can_be_drawn_in_parts(spoken: Utterances) -> None:
    expect_parts_to_make_the_batch(spoken)


def test_neighbours_are_of_like_length(spoken: Utterances) -> None:
    """Sorted within a pool, so that of 8 utterances in pairs little is padding: less than a random pairing has."""
    padding = sum(float((1 - spoken.draw(0, step, 2).mask).sum()) for step in range(4))
    ordered = sorted(FRAMES)
    assert padding == sum(b - a for a, b in zip(ordered[::2], ordered[1::2], strict=True))


def test_validation_is_apart(spoken: Utterances) -> None:
    held = utterances(spoken.store, "validation")
    assert [entry.id for entry in held.entries] == ["u8"]
    assert spoken.steps == max(FRAMES)
    assert len(utterances(spoken.store, data=Data(episodes=3))) == 3


@pytest.mark.parametrize("data", [Data(steps=5), Data(rate=10.0)], ids=["steps", "rate"])
def test_an_utterance_is_not_cut(spoken: Utterances, data: Data) -> None:
    with pytest.raises(SakiyomiError, match="taken whole"):
        utterances(spoken.store, data=data)


def test_a_transcript_longer_than_its_frames_is_named(tmp_path: Path) -> None:
    """Three labels alike need five frames, a blank between each two; u4 has four."""
    store = write(tmp_path / "store", (*LABELS[:4], [4, 4, 4], *LABELS[5:]))
    with pytest.raises(SakiyomiError, match=r"u4: .* 3 labels, which need 5 frames; there are 4"):
        utterances(store)


@pytest.mark.parametrize("end", [(), (EOS, EOS), (EOS, BOS)], ids=["none", "two", "early"])
def test_a_transcript_has_one_end(tmp_path: Path, end: tuple[int, ...]) -> None:
    labels = tuple(line or [4] for line in LABELS)
    with pytest.raises(SakiyomiError, match="one EOS"):
        utterances(write(tmp_path / "store", labels, end))
