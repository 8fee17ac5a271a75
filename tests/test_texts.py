"""Sentences and passages: what a batch of tokens holds, and that each is learned from once an epoch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from parts import expect_parts_to_make_the_batch
from torch import Tensor

from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream
from sakiyomi.data.texts import Passages, Sentences, padded, sentences
from sakiyomi.data.vocabulary import BOS, EOS, PAD, SPECIAL, Vocabulary
from sakiyomi.data.windows import Batch, Data
from sakiyomi.errors import SakiyomiError

WORDS = Vocabulary((*SPECIAL, *"abcdefgh"))
STREAMS = {name: Stream("token", (), "int32", 1.0, vocabulary=WORDS) for name in ("source", "target")}
COUNT = 60


def store_of(folder: Path, parts: dict[str, dict[str, list[int]]], streams: dict[str, Stream]) -> EpisodeStore:
    writer = EpisodeWriter(folder, streams)
    for id, columns in parts.items():
        values = {name: np.array(ids, np.int32) for name, ids in columns.items()}
        times = {name: np.arange(len(ids), dtype=float) for name, ids in columns.items()}
        writer.add(id, values, times, "validation" if id.startswith("v") else "train")
    return writer.finish()


def spoken(seed: int) -> dict[str, list[int]]:
    """Random sentences; the target has the source's first word and the sentence's number as its last."""
    random, columns = np.random.default_rng(seed), {"source": [], "target": []}
    for _ in range(COUNT):
        words = random.integers(4, 12, random.integers(1, 9)).tolist()
        columns["source"] += [*words, EOS]
        columns["target"] += [words[0]] * int(random.integers(1, 6)) + [EOS]
    return columns


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> EpisodeStore:
    parts = {"t0": spoken(0), "t1": spoken(1), "v": spoken(2)}
    return store_of(tmp_path_factory.mktemp("pairs"), parts, STREAMS)


@pytest.fixture(scope="module")
def learned(pairs: EpisodeStore) -> Sentences:
    return Sentences(pairs, "train", Data(), ("source", "target"), ("source",))


def test_sentences_of_both_streams_stay_together(learned: Sentences) -> None:
    for pick in range(len(learned)):
        batch = learned.batch([pick])
        assert batch.inputs["source"][0, 0] == batch.targets["target"][0, 0]


def test_a_step_reads_the_word_before_and_says_the_next(learned: Sentences) -> None:
    batch = learned.batch(list(range(len(learned))))
    read, said, mask = batch.inputs["target"], batch.targets["target"], batch.mask.bool()
    assert (read[:, 0] == BOS).all()
    for row in range(len(read)):
        count = int(mask[row].sum())
        assert said[row, count - 1] == EOS
        torch.testing.assert_close(read[row, 1:count], said[row, : count - 1])
        assert (said[row, count:] == PAD).all()
        assert (read[row, count:] == PAD).all()
    assert not (read == EOS).any()  # nothing is said after the end


def test_the_source_is_given_whole(learned: Sentences, pairs: EpisodeStore) -> None:
    source = learned.batch(list(range(len(learned)))).inputs["source"]
    assert ((source == EOS).sum(1) == 1).all()
    given = sorted(tuple(row[row != PAD].tolist()) for row in source)
    wanted = [tuple(ids) for id in ("t0", "t1") for ids in sentences(pairs.values(id, "source"), id)]
    assert given == sorted(wanted)


def test_an_epoch_sees_every_sentence_once(learned: Sentences) -> None:
    size = 8
    batches = len(learned) // size
    for epoch in range(2):
        drawn = [learned.draw(3, epoch * batches + i, size) for i in range(batches)]
        rows = [(tuple(a.tolist()), tuple(b.tolist())) for batch in drawn for a, b in told(batch)]
        assert len(rows) == batches * size
        whole = [(tuple(a.tolist()), tuple(b.tolist())) for a, b in told(learned.batch(list(range(len(learned)))))]
        for row in set(rows):
            assert rows.count(row) <= whole.count(row)
    again = learned.draw(3, 1, size)
    torch.testing.assert_close(again.inputs, learned.draw(3, 1, size).inputs)
    assert any(not torch.equal(learned.draw(3, i, size).mask, learned.draw(4, i, size).mask) for i in range(batches))


def test_a_batch_can_be_drawn_in_parts(learned: Sentences, text: EpisodeStore) -> None:
    expect_parts_to_make_the_batch(learned)
    expect_parts_to_make_the_batch(Passages(text, "train", Data(steps=5, skip_short=True), ("token",)))


def test_no_sentence_is_left_out_for_ever(learned: Sentences) -> None:
    """Batches that do not divide the sentences: each epoch leaves out other ones, the longest as seldom as others."""
    size = 7
    steps = 12 * (len(learned) // size)
    longest = max(float(learned.batch([pick]).mask.sum()) for pick in range(len(learned)))
    each = [learned.draw(0, step, size).mask.sum(1) for step in range(steps)]
    seen = torch.cat(each)
    wanted = 12 * sum(float(learned.batch([pick]).mask.sum()) == longest for pick in range(len(learned)))
    assert (seen == longest).sum() > 0.9 * wanted


def told(batch: Batch) -> list[tuple[Tensor, Tensor]]:
    """The rows of a batch without padding."""
    columns = zip(batch.inputs["source"], batch.targets["target"], strict=True)
    return [(a[a != PAD], b[b != PAD]) for a, b in columns]


def test_buckets_pad_less_than_chance(learned: Sentences) -> None:
    def share(batches: list[Batch]) -> float:
        return float(np.mean([1 - batch.mask.mean() for batch in batches]))

    random = np.random.default_rng(0)
    sorted_ones = [learned.draw(0, i, 8) for i in range(len(learned) // 8)]
    by_chance = [learned.batch(random.choice(len(learned), 8, False).tolist()) for _ in range(15)]
    assert share(sorted_ones) < share(by_chance) / 2


def test_a_batch_larger_than_the_split_is_all_of_it(learned: Sentences) -> None:
    assert len(learned.draw(0, 5, 10_000).mask) == len(learned)


def test_streams_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    store = store_of(tmp_path, {"t": {"source": [4, EOS, 5, EOS], "target": [4, EOS]}}, STREAMS)
    with pytest.raises(SakiyomiError, match=r"'source': 2, 'target': 1.*belong together"):
        Sentences(store, "train", Data(), ("source", "target"), ("source",))


def test_a_text_without_sentences_is_no_sentences() -> None:
    with pytest.raises(SakiyomiError, match=r"--data\.steps"):
        sentences(np.array([4, 5, 6]), "a text")


@pytest.fixture
def text(tmp_path: Path) -> EpisodeStore:
    streams = {"token": STREAMS["source"]}
    return store_of(tmp_path, {"t0": {"token": list(range(23))}, "t1": {"token": [4, 5]}}, streams)


def test_a_passage_predicts_the_token_after_each(text: EpisodeStore) -> None:
    passages = Passages(text, "train", Data(steps=5, skip_short=True), ("token",))
    batch = passages.batch(list(range(len(passages))))
    torch.testing.assert_close(batch.targets["token"], batch.inputs["token"] + 1)
    assert batch.mask.shape == (len(passages), 5)
    assert set(batch.targets["token"].flatten().tolist()) == set(range(1, 23))  # the end is learned, too


def test_an_epoch_of_passages_sees_each_once(text: EpisodeStore) -> None:
    passages = Passages(text, "train", Data(steps=5, stride=1, skip_short=True), ("token",))
    first = [int(b) for step in range(6) for b in passages.draw(0, step, 3).inputs["token"][:, 0]]
    assert sorted(first) == list(range(18))


def test_a_short_text_among_long_ones_is_told(text: EpisodeStore) -> None:
    with pytest.raises(SakiyomiError, match=r"'t1' .* first of 1 too short.*--data\.skip-short"):
        Passages(text, "train", Data(steps=5), ("token",))


def test_a_window_longer_than_the_text_is_refused(text: EpisodeStore) -> None:
    with pytest.raises(SakiyomiError, match=r"longest text .* 23 tokens.*shorter window"):
        Passages(text, "train", Data(steps=23), ("token",))


def test_padding_fills_up_to_the_longest() -> None:
    filled = padded([np.array([5, 6, 7]), np.array([8])])
    assert filled.tolist() == [[5, 6, 7], [8, PAD, PAD]]
