"""Text files become token stores: nothing is dropped silently, nothing of validation is learned."""

from dataclasses import replace
from pathlib import Path

import pytest

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.sources.generated_pairs import GeneratedPairs
from sakiyomi.data.sources.text import PlainText, SentencePairs, read_text
from sakiyomi.data.texts import sentences
from sakiyomi.data.vocabulary import UNK
from sakiyomi.errors import SakiyomiError

SHARED = Path(__file__).parents[2] / "shared/data/text"
ENGLISH = ["i like music .", "you like tea .", "he likes tea .", "we sing .", "they sing .", "she is late ."]
JAPANESE = [
    "私 は 音楽 が 好き 。",
    "あなた は お茶 が 好き 。",
    "彼 は お茶 が 好き 。",
    "歌 う 。",
    "歌 う 。",
    "彼女 は 遅 い 。",
]


def write(folder: Path, **files: list[str]) -> Path:
    for name, lines in files.items():
        (folder / name.replace("_", ".")).write_text("\n".join(lines) + "\n", "utf-8")
    return folder


def texts(store: EpisodeStore, split: str, stream: str) -> list[str]:
    known = store.streams[stream].vocabulary
    assert known is not None
    return [
        known.decode(ids) for entry in store.split(split) for ids in sentences(store.values(entry.id, stream), split)
    ]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    return write(folder, train_en=ENGLISH, train_ja=JAPANESE, dev_en=["i like tea ."], dev_ja=["私 は お茶 が 好き 。"])


def test_lines_come_back_as_they_were(pairs: Path, tmp_path: Path) -> None:
    store = SentencePairs(path=str(pairs)).record(tmp_path / "store")
    assert texts(store, "train", "source") == ENGLISH
    assert texts(store, "train", "target") == JAPANESE
    assert texts(store, "validation", "target") == ["私 は お茶 が 好き 。"]


def test_pairs_of_validation_that_were_learned_are_left_out(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(pairs, dev_en=["i like tea .", ENGLISH[0]], dev_ja=["私 は お茶 が 好き 。", JAPANESE[0]])
    store = SentencePairs(path=str(pairs)).record(tmp_path / "store")
    assert texts(store, "validation", "source") == ["i like tea ."]
    assert "1 pairs of validation are among those for training" in capsys.readouterr().out


def test_rare_words_are_unknown_and_those_of_validation_are_not_learned(pairs: Path, tmp_path: Path) -> None:
    write(pairs, dev_en=["i like beer ."])
    store = SentencePairs(path=str(pairs), least=2).record(tmp_path / "store")
    known = store.streams["source"].vocabulary
    assert known is not None
    assert known.unknown("i like beer tea .") == ("i", "beer")
    assert UNK in store.values("validation-001", "source")


def test_empty_and_endless_lines_are_left_out_and_counted(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = " ".join(["very"] * 10_000)
    write(pairs, train_en=[*ENGLISH, "", "  ", long], train_ja=[*JAPANESE, "何", "何", "何"])
    store = SentencePairs(path=str(pairs)).record(tmp_path / "store")
    assert texts(store, "train", "source") == ENGLISH
    told = " ".join(capsys.readouterr().out.split())
    assert "of 9 pairs left out 2 with an empty line, 1 with more than 100 words" in told


def test_files_of_different_lengths_are_refused(pairs: Path, tmp_path: Path) -> None:
    write(pairs, train_ja=JAPANESE[:-1])
    with pytest.raises(SakiyomiError, match=r"6 lines and .* 5; line n"):
        SentencePairs(path=str(pairs)).record(tmp_path / "store")


def test_without_validation_files_the_last_pairs_are_taken(pairs: Path, tmp_path: Path) -> None:
    asked = SentencePairs(path=str(pairs), validation_source="", validation_target="", validation=0.34)
    store = asked.record(tmp_path / "store")
    assert texts(store, "train", "source") == ENGLISH[:4]
    assert texts(store, "validation", "source") == ["<unk> sing .", "<unk> <unk> <unk> ."]


@pytest.mark.parametrize("name", ["train.en", "train.ja", "dev.en", "dev.ja"])
def test_a_store_is_not_gone_on_with_from_other_files(name: str, pairs: Path, tmp_path: Path) -> None:
    asked = SentencePairs(path=str(pairs))
    asked.record(tmp_path / "store")
    asked.record(tmp_path / "store")  # the same files: nothing to do
    lines = (pairs / name).read_text("utf-8")
    (pairs / name).write_text(lines.replace(" ", "  ", 1), "utf-8")  # the same words even
    with pytest.raises(SakiyomiError, match=r"made with other settings \(sha256 .* there"):
        asked.record(tmp_path / "store")


def test_a_text_that_was_changed_is_another_one(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("to be or not to be\n" * 20)
    PlainText(path=str(file)).record(tmp_path / "store")
    file.write_text("not to be or to be\n" * 20)  # the same letters
    with pytest.raises(SakiyomiError, match=r"sha256 .* there"):
        PlainText(path=str(file)).record(tmp_path / "store")


def test_nothing_to_validate_on_is_told_before_anything_is_written(pairs: Path, tmp_path: Path) -> None:
    write(pairs, dev_en=ENGLISH[:2], dev_ja=JAPANESE[:2])
    with pytest.raises(SakiyomiError, match="all 2 pairs to validate on are among those for training"):
        SentencePairs(path=str(pairs)).record(tmp_path / "store")
    write(pairs, train_en=ENGLISH[:1], train_ja=JAPANESE[:1])
    alone = SentencePairs(path=str(pairs), validation_source="")
    with pytest.raises(SakiyomiError, match="has 1 line; 2 or more"):
        alone.record(tmp_path / "store")
    with pytest.raises(SakiyomiError, match="--validation is 0"):
        replace(alone, validation=0).record(tmp_path / "store")
    (tmp_path / "short.txt").write_text("word")
    for split in ("characters", "words"):
        with pytest.raises(SakiyomiError, match="too short"):
            PlainText(path=str(tmp_path / "short.txt"), split=split).record(tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_the_longest_pairs_are_counted_in_tokens(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Japanese without spaces is not one word."""
    write(pairs, train_ja=[line.replace(" ", "") for line in JAPANESE], dev_ja=["歌う。"])
    store = SentencePairs(path=str(pairs), split="mecab", longest=5).record(tmp_path / "mecab")
    assert texts(store, "train", "source") == ["wesing.", "theysing.", "sheislate."]
    store = SentencePairs(path=str(pairs), split="bpe", most=34, longest=8).record(tmp_path / "bpe")
    assert "2 with more than 8 tokens" in capsys.readouterr().out
    lengths = [len(ids) - 1 for name in store.streams for ids in sentences(store.values("train-000", name), name)]
    assert max(lengths) == 8
    assert len(lengths) == 2 * 4


def test_source_and_target_may_be_split_in_their_own_ways(pairs: Path, tmp_path: Path) -> None:
    write(pairs, train_ja=[line.replace(" ", "") for line in JAPANESE], dev_ja=["私はお茶が好き。"])
    store = SentencePairs(path=str(pairs), target_split="mecab").record(tmp_path / "store")
    known = [store.streams[name].vocabulary for name in ("source", "target")]
    assert [words.split for words in known if words] == ["words", "mecab"]
    assert texts(store, "train", "source") == ENGLISH
    assert texts(store, "validation", "target") == ["私はお茶が好き。"]
    assert len(store.values("validation-001", "target")) == 7


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes("Größe".encode("latin-1"))
    with pytest.raises(SakiyomiError, match="not UTF-8: byte 2 is 0xf6"):
        read_text(tmp_path / "latin")
    (tmp_path / "empty").write_bytes(b" \n")
    with pytest.raises(SakiyomiError, match="holds no text"):
        read_text(tmp_path / "empty")
    with pytest.raises(SakiyomiError, match="does not exist"):
        read_text(tmp_path / "nothing")
    with pytest.raises(SakiyomiError, match="is a folder"):
        read_text(tmp_path)
    (tmp_path / "old").write_bytes(b"a line\ranother\r")
    with pytest.raises(SakiyomiError, match="CR alone"):
        read_text(tmp_path / "old")


def test_one_text_is_cut_once_and_comes_back(tmp_path: Path) -> None:
    text = "To be, or not to be:\nthat is the question.\n" * 20
    (tmp_path / "text.txt").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    store = PlainText(path=str(tmp_path / "text.txt")).record(tmp_path / "store")
    known = store.streams["token"].vocabulary
    assert known is not None
    parts = [known.decode(store.values(split, "token").tolist()) for split in ("train", "validation")]
    assert "".join(parts) == text
    assert len(parts[1]) == round(0.1 * len(text))


@pytest.mark.parametrize("task", ["copy", "reverse", "add"])
def test_generated_pairs_obey_their_rule(task: str, tmp_path: Path) -> None:
    store = GeneratedPairs(task=task, pairs=300, held_out=50, longest=4).record(tmp_path / "store")  # pyright: ignore[reportArgumentType]
    seen = [texts(store, split, "source") for split in ("train", "validation")]
    assert [len(part) for part in seen] == [300, 50]
    assert not set(seen[0]) & set(seen[1])
    for split, sources in zip(("train", "validation"), seen, strict=True):
        for source, target in zip(sources, texts(store, split, "target"), strict=True):
            if task == "add":
                a, b = source.replace(" ", "").split("+")
                assert int(target.replace(" ", "")) == int(a) + int(b)
            else:
                assert target.split() == (source.split() if task == "copy" else source.split()[::-1])


def test_more_pairs_than_there_are_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SakiyomiError, match="ask for fewer"):
        GeneratedPairs(pairs=1000, letters=2, longest=2).record(tmp_path / "store")


@pytest.mark.skipif(not SHARED.exists(), reason="the shared data is not here")
def test_the_real_sets_are_read_whole(tmp_path: Path) -> None:
    store = SentencePairs(path=str(SHARED / "enja")).record(tmp_path / "pairs")
    assert len(texts(store, "train", "source")) == 50_000
    assert len(texts(store, "validation", "target")) == 500
    lines = (SHARED / "enja/train.ja").read_text("utf-8").split("\n")[:50_000]
    assert texts(store, "train", "target") == [line.strip() for line in lines]
    known = store.streams["source"].vocabulary
    listed = (SHARED / "enja/train.en.vocab.all").read_text("utf-8").split("\n")[3:]
    assert known is not None
    assert set(known.numbers) == {word for word in listed if word}
    store = PlainText(path=str(SHARED / "tinyshakespeare.txt")).record(tmp_path / "text")
    known = store.streams["token"].vocabulary
    assert known is not None
    assert len(known.numbers) == 65
