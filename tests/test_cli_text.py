"""Text on the command line, as a user meets it; and what a slip of the fingers gets."""

import os
from pathlib import Path

import pytest
from PIL import Image

from sakiyomi.__main__ import main
from sakiyomi.rollout import Trained, load
from sakiyomi.scores.protocol import load_scores
from sakiyomi.write import as_trained, gaze, without_gaps

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
    Path("in.txt").write_text("a b c\n\nc d e f\n")
    output_of(["rollout", "reverse", "--file", "in.txt", "--out", "out.txt"], capsys)
    assert Path("out.txt").read_text() == "c b a\nf e d c\n"


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


def test_where_each_word_comes_from_is_a_picture(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output_of(["explain", "reverse", "--text", "a b c"], capsys)
    assert Image.open("runs/reverse/attention.png").size[0] > 500


def test_attention_looks_where_the_word_is(here: Path) -> None:
    trained: Trained = load("runs/reverse")
    looked, source, target = gaze(trained, "a b c d", "d c b a")
    assert source == [*"abcd", "<eos>"]
    assert target == [*"dcba", "<eos>"]
    assert looked.shape == (5, 5)
    assert looked.sum(1).tolist() == pytest.approx([1.0] * 5, abs=1e-5)


def test_a_language_model_goes_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = output_of(["rollout", "shakespeare", "--text", "a b c d ", "--steps", "12"], capsys)
    assert told.startswith("a b c d e f g h i j")
    drawn = ["rollout", "shakespeare", "--text", "a", "--steps", "30", "--temperature", "1", "--seed", "3"]
    assert output_of(drawn, capsys) == output_of(drawn, capsys)


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
        (["explain", "shakespeare"], "reads no source"),
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


def test_japanese_is_written_without_gaps() -> None:
    assert without_gaps("私 は 音楽 が 好き 。") == "私は音楽が好き。"
    assert without_gaps("he is at 5 番 街 now") == "he is at 5 番街 now"
