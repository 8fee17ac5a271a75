"""Text on the command line, as a user meets it; and what a slip of the fingers gets."""

import os
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sakiyomi.__main__ import main
from sakiyomi.data.vocabulary import SPECIAL, UNK, Vocabulary
from sakiyomi.decode import Decoding
from sakiyomi.evaluate_text import HowWritten, evaluate_text
from sakiyomi.rollout import Trained, load
from sakiyomi.scores.protocol import load_scores
from sakiyomi.scores.text import bleu, without_spaces
from sakiyomi.views.attention import attention_map
from sakiyomi.write import as_trained, examples, gaze, go_on, translate_ids, without_gaps

QUICK = ["--train.validate-every", "50", "--train.threads", "1", "--train.precision", "float32"]
LETTERS = "a b c d e f g h i j"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a translator and a language model, made by the commands themselves."""
    folder = tmp_path_factory.mktemp("text")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert main(["prepare", "reverse", "--longest", "4", "--letters", "6", "--pairs", "800"]) == 0
        assert main(["train", "reverse", *QUICK, "--train.steps", "300"]) == 0
        Path("abc.txt").write_text(f"{LETTERS}\n" * 300)
        assert main(["prepare", "shakespeare", "abc.txt"]) == 0
        small = ["--model.width", "32", "--model.blocks", "1", "--data.steps", "40", "--train.batch-size", "8"]
        assert main(["train", "shakespeare", *QUICK, *small, "--train.steps", "150"]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


def output_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(words) == 0
    return capsys.readouterr().out


def test_a_sentence_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "c b a" in output_of(["rollout", "reverse", "--text", "a b c"], capsys).splitlines()[1]
    assert "f a d" in output_of(["rollout", "reverse", "--text", "d a f", "--beam", "3"], capsys)


def test_capitals_and_punctuation_are_read_as_in_training(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = output_of(["rollout", "reverse", "--text", "A  b C!"], capsys)
    assert told.splitlines()[0] == "a b c !"
    assert "not known: !" in told


def test_a_file_of_sentences_becomes_another(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Line by line: an empty one is one of the other's, too."""
    Path("in.txt").write_text("a b c\n\nc d e f\n\n")
    output_of(["rollout", "reverse", "--file", "in.txt", "--out", "out.txt"], capsys)
    assert Path("out.txt").read_text() == "c b a\n\nf e d c\n\n"


def test_several_texts_come_with_their_chances(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = output_of(["rollout", "reverse", "--text", "a b c", "--beam", "4", "--n-best", "3"], capsys)
    assert len(re.findall(r"\(-\d+\.\d\d nats\)$", told, re.MULTILINE)) == 3


def test_without_a_sentence_there_are_examples(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(output_of(["rollout", "reverse"], capsys).splitlines()) >= 10


def test_it_is_scored_and_reported(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output_of(["evaluate", "reverse", "--sentences", "100"], capsys)
    scores = load_scores(Path("runs/reverse/scores.json"))
    assert scores["bleu"].value > 60
    assert scores["bleu/shuffled"].value < scores["bleu"].value / 2
    assert scores["overlap"].value == 0
    assert scores["bleu"].protocol.n == 100
    page = Path("runs/reverse/report.html").read_text()
    assert "Where each word comes from" in page
    assert "0.0% of the sources are among those for training" in page
    assert "By this split it was chosen which weights to keep" in page
    output_of(["evaluate", "reverse", "--sentences", "20", "--split", "train", "--beam", "1"], capsys)
    page = Path("runs/reverse/report.html").read_text()
    assert "100.0% of the sources are among those for training" in page
    assert "it was chosen" not in page


def test_where_each_word_comes_from_is_a_picture(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output_of(["explain", "reverse", "--text", "a b c"], capsys)
    assert Image.open("runs/reverse/attention.png").size[0] > 500


def test_what_is_not_known_of_an_explained_sentence_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = output_of(["explain", "reverse", "--text", "A b zz", "--target", "yy B a"], capsys)
    assert "not known: zz" in told
    assert "not known: yy" in told
    assert "not known" not in output_of(["explain", "reverse", "--text", "A b", "--target", "B A"], capsys)


def test_a_picture_of_a_long_sentence_can_be_drawn() -> None:
    """Names are few and short enough to have room."""
    weights = np.full((300, 1000), 1 / 1000)
    picture = attention_map(weights, ["x" * 5000] * 1000, ["y"] * 300)
    small = attention_map(weights[:40, :40], ["x" * 20] * 40, ["y"] * 40)
    assert Image.open(BytesIO(picture)).size == Image.open(BytesIO(small)).size


def test_examples_are_read_as_they_were_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown letter stays one, its name is not read letter by letter."""
    monkeypatch.chdir(tmp_path)
    for name, lines in {"train": ["ab", "ba", "aab"], "dev": ["aqb", "bqa"]}.items():
        for side in ("en", "ja"):
            Path(f"{name}.{side}").write_text("".join(f"{line}\n" for line in lines))
    assert main(["prepare", "translate", ".", "--split", "characters", "--least", "1"]) == 0
    small = ["--model.width", "16", "--model.blocks", "1", "--model.feedforward", "16", "--train.steps", "2"]
    assert main(["train", "translate", *QUICK, *small]) == 0
    capsys.readouterr()
    told = output_of(["rollout", "translate", "--steps", "5"], capsys)
    assert told.startswith("a<unk>b\n")
    assert "not known" not in told
    trained = load("runs/translate")
    assert [len(ids) for ids in examples(trained)] == [4, 4]
    assert translate_ids(trained, examples(trained), Decoding(steps=2))[0].source == "a<unk>b"
    output_of(["explain", "translate"], capsys)
    found = evaluate_text(trained, HowWritten(steps=5, beam=1)).sentences
    assert [one.read[1] for one in found] == [UNK, UNK]


def test_attention_looks_where_the_word_is(here: Path) -> None:
    trained: Trained = load("runs/reverse")
    known = [trained.normalizer.vocabulary(name) for name in ("source", "target")]
    looked, source, target = gaze(trained, known[0].encode("a b c d"), known[1].encode("d c b a"))
    assert source == [*"abcd", "<eos>"]
    assert target == [*"dcba", "<eos>"]
    assert looked.shape == (5, 5)
    assert looked.sum(1).tolist() == pytest.approx([1.0] * 5, abs=1e-5)


def test_a_language_model_goes_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = output_of(["rollout", "shakespeare", "--text", "a b c d ", "--steps", "12"], capsys)
    assert told.startswith("a b c d e f g h i j")
    drawn = ["rollout", "shakespeare", "--text", "a", "--steps", "30", "--temperature", "1", "--seed", "3"]
    assert output_of(drawn, capsys) == output_of(drawn, capsys)


def test_a_text_gone_on_with_is_one_text(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of words a space stands between the prompt and what follows, of pieces where one begins a word."""
    small = ["--model.width", "32", "--model.blocks", "1", "--data.steps", "20", "--train.batch-size", "8"]
    for split, most in (("words", "0"), ("bpe", "40")):
        store = f"data/{split}"
        assert main(["prepare", "shakespeare", "abc.txt", "--split", split, "--most", most, "--out", store]) == 0
        learn = ["train", "shakespeare", *QUICK, *small, "--train.steps", "60", "--data.store", store]
        assert main([*learn, "--out", f"runs/{split}"]) == 0
        capsys.readouterr()
        asked = ["rollout", "shakespeare", "--run", f"runs/{split}", "--text", "a b c", "--steps", "3"]
        assert output_of([*asked, "--out", "on.txt"], capsys) == "a b c d e f\n" == Path("on.txt").read_text()
        told = output_of([*asked, "--beam", "2", "--n-best", "2"], capsys)
        assert [line[:6] for line in told.splitlines()] == ["a b c ", "a b c "]
        found = go_on(load(f"runs/{split}"), "a b c", Decoding(steps=3))
        assert (found.text, found.whole) == ("d e f", ("a b c d e f",))


def test_a_language_model_is_scored(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output_of(["evaluate", "shakespeare"], capsys)
    scores = load_scores(Path("runs/shakespeare/scores.json"))
    assert 0 <= scores["nll"].value < scores["nll/by frequency"].value / 3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["rollout", "reverse", "--text", " "], "holds no word"),
        (["rollout", "reverse", "--text", "a " * 1001], "1001 words, at most 1000"),
        (["rollout", "reverse", "--file", "nothing.txt"], "nothing.txt does not exist"),
        (["rollout", "reverse", "--text", "a", "--beam", "3", "--temperature", "1"], "choose one"),
        (["rollout", "reverse", "--text", "a", "--beam", "0"], "--beam is 0"),
        (["evaluate", "reverse", "--split", "tests"], "unknown split 'tests'"),
        (["rollout", "reverse", "--text", "a", "--file", "abc.txt"], "give one of them"),
        (["rollout", "reverse", "--file", "data"], "data is a folder"),
        (["rollout", "shakespeare", "--file", "abc.txt"], "--file is for translators"),
        (["rollout", "reverse", "--text", "a \udce9"], "--text is not UTF-8 at its character 3"),
        (["rollout", "shakespeare", "--text", "a \udce9"], "--text is not UTF-8"),
        (["explain", "reverse", "--text", "a", "--target", " "], "--target holds no word"),
        (["explain", "shakespeare"], "reads no source"),
        (["rollout", "nosuchrun", "--text", "a"], "unknown run 'nosuchrun': known: "),
        (["evaluate", "revers", "--beam", "4"], "unknown run 'revers': did you mean 'reverse'?"),
        (["explain", "nosuchrun", "--text", "a"], "unknown run 'nosuchrun'"),
        (["rollout", "reverse", "--run", "runs/nothere", "--text", "a"], "unknown run 'runs/nothere'"),
        (["train", "reverse", "--out", "runs/x", "--train.teacher-forcing.ratio", "0.5"], "Transformer reads true"),
        (["train", "shakespeare", "--out", "runs/x", "--train.teacher-forcing.step", "0.1"], "GPT reads true values"),
        (["serve", "reverse"], "reverse writes"),
        (["watch", "reverse"], "reverse writes"),
        (["prepare", "shakespeare", "nowhere.txt", "--out", "data/x"], "nowhere.txt does not exist"),
        (["prepare", "translate", "--out", "data/x"], "sakiyomi fetch small-parallel-enja"),
    ],
)
def test_a_slip_is_told(words: list[str], told: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) != 0
    assert told in " ".join(capsys.readouterr().err.split())


def test_words_are_spelled_as_they_were_learned(here: Path) -> None:
    known = load("runs/reverse").normalizer.vocabulary("source")
    assert as_trained("a\tB  'd", known) == "a b 'd"


WORDS = "mr. p.m. u.s. i can 't sing . , ( ' \" at 5 Tom music it is well-known ... $"
TYPED = Vocabulary((*SPECIAL, *WORDS.split()))


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("I can't sing.", "i can 't sing ."),
        ("I can’t sing.", "i can 't sing ."),
        ("“I sing”", '" i sing "'),
        ("Mr. Tom", "mr. Tom"),
        ("TOM", "TOM"),
        ("(Mr. Zyxwv, at 5 P.M., U.S.)", "( mr. Zyxwv , at 5 p.m. , u.s. )"),
        ("It is Well-known...", "it is well-known ..."),
        ("Music ... $5", "music ... $ 5"),
        ("10,000, 5-a.b,it!", "10,000 , 5-a.b , it !"),
    ],
)
def test_a_typed_line_becomes_one_of_known_words(typed: str, read: str) -> None:
    """But for names that no vocabulary knows, which stay as they are."""
    assert as_trained(typed, TYPED) == read


def test_quotation_marks_that_are_known_stay() -> None:
    known = Vocabulary((*SPECIAL, "can", "’t", "“", "it"))
    assert as_trained("“it can’t", known) == "“ it can ’t"


def test_an_unknown_word_is_one_letter_where_letters_are_scored() -> None:
    true = ["私は<unk>が好きです。", "彼は学校へ行く。"]
    said = [text.replace("<unk>", "犬") for text in true]
    assert bleu(said, true, "char").value == pytest.approx(
        bleu(said, [t.replace("<unk>", "猫") for t in true], "char").value
    )
    assert without_spaces(true)
    assert not without_spaces(["the king is dead", "a b"])


def test_japanese_is_written_without_gaps() -> None:
    assert without_gaps("私 は 音楽 が 好き 。") == "私は音楽が好き。"
    assert without_gaps("he is at 5 番 街 now") == "he is at 5 番街 now"
