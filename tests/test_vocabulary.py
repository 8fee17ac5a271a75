"""Vocabularies: text comes back from its numbers, no text can say what only the machine may, and learning depends on
nothing but the text."""

import random
import sys
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sakiyomi.data.vocabulary import BOS, EOS, LONGEST, PAD, SPECIAL, UNK, Split, Vocabulary, pieces
from sakiyomi.errors import SakiyomiError

KOKORO = Path(__file__).parents[1] / "../shared/data/text/kokoro_wakati.txt"
SPLITS: tuple[Split, ...] = ("words", "characters", "wordpiece", "bpe", "mecab")
CUT: tuple[Split, ...] = ("wordpiece", "bpe")

LINES = [
    "the cat sat on the mat",
    "the fattest cat sat on a flat hat",
    "that cat chatted , and then that hat fell flat",
    "すもももももももものうち",
    "私は その人 を常に先生 と呼んで いた 。",
]
STRANGE = (
    *SPECIAL,
    "<eos><eos>",
    "##ing",
    "▁the",
    "Ġthe",
    "\x00",
    "\ud800",
    "é",
    "é",
    "👩‍👩‍👧",
    "\u3000",
    " ",
    "\ufffd",
)
TEXT = st.lists(st.one_of(st.text(max_size=12), st.sampled_from(STRANGE + tuple(LINES))), max_size=6).map(" ".join)


def normal(text: str, split: Split) -> str:
    """What a text comes back as, where all of it is known."""
    if split == "characters":
        return text
    if split == "words":
        return " ".join(text.split())
    sound = "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in text)
    return "".join(sound.replace("\x00", " ").split()) if split == "mecab" else " ".join(sound.split())


def learned(split: Split, texts: list[str] = LINES, least: int = 1, most: int = 90) -> Vocabulary:
    return Vocabulary.learn(texts, split, least, most)


@pytest.fixture(scope="module", params=SPLITS)
def vocabulary(request: pytest.FixtureRequest) -> Vocabulary:
    return learned(request.param)


@settings(max_examples=60)
@given(TEXT, st.sampled_from(SPLITS), st.sampled_from([0, 40, 1000]))
def test_a_text_that_is_known_comes_back(text: str, split: Split, more: int) -> None:
    """Any text: literal special words, characters nobody writes, no character at all."""
    if not normal(text, split):
        with pytest.raises(SakiyomiError, match="no word"):
            learned(split, [text])
        return
    bound = len(set(text)) + len(SPECIAL) + 2 + more if split in CUT else 0
    found = learned(split, [text], most=bound)
    ids = found.encode(text)
    if split == "wordpiece" and max(map(len, text.split())) > LONGEST:
        return
    assert all(len(SPECIAL) <= number < len(found) for number in ids)
    assert found.decode(ids) == normal(text, split)
    assert found.unknown(text) == ()


@settings(max_examples=60)
@given(TEXT)
def test_no_text_is_an_error_and_none_says_what_is_not_a_word(vocabulary: Vocabulary, text: str) -> None:
    """What is not known is UNK, and in its place."""
    ids = vocabulary.encode(text)
    assert all(number == UNK or len(SPECIAL) <= number < len(vocabulary) for number in ids)
    decoded = vocabulary.decode(ids)
    assert (UNK in ids) == bool(vocabulary.unknown(text))
    if UNK not in ids:
        assert decoded == normal(text, vocabulary.split)


def test_unknown_words_stand_where_they_stood() -> None:
    assert learned("words").decode(learned("words").encode("the dog sat")) == "the <unk> sat"
    assert learned("characters").decode(learned("characters").encode("a-b-c")) == "a<unk><unk><unk>c"
    assert learned("mecab").decode(learned("mecab").encode("すもものうちに")) == "すもものうち<unk>"
    assert learned("bpe").decode(learned("bpe").encode("the cat, Zat")) == "the cat, <unk>at"  # a character
    assert learned("wordpiece").decode(learned("wordpiece").encode("the catZ sat")) == "the<unk> sat"  # a word
    assert learned("bpe").unknown("the Zat , the Zat ; cat") == ("Zat", ";")
    assert learned("wordpiece").unknown("the Zat , the Zat ; cat") == ("Zat", ";")


@pytest.mark.parametrize("split", SPLITS)
def test_a_word_spelled_like_a_special_one_is_a_word(split: Split) -> None:
    """Learned or not, "<eos>" in a text does not end it; and it comes back."""
    text = " ".join(SPECIAL)
    assert not {PAD, BOS, EOS} & set(learned(split).encode(text))
    knows = learned(split, [text] * 5, most=200)
    ids = knows.encode(text)
    assert min(ids) >= len(SPECIAL)
    assert knows.decode(ids) == normal(text, split)


@pytest.mark.parametrize("split", CUT)
def test_a_piece_spelled_like_a_special_one_is_a_piece(split: Split) -> None:
    """Inside a word no space tells them apart."""
    found = learned(split, ["a<unk> b<unk> c<unk>"] * 5, most=200)
    ids = found.encode("ab<unk>")
    assert found.spelled(ids[-1]) == "<unk>"
    assert min(ids) >= len(SPECIAL)


@pytest.mark.parametrize("split", SPLITS)
def test_special_numbers_are_left_out_of_the_text(split: Split) -> None:
    found = learned(split)
    ids = found.encode("the cat")
    assert found.decode([BOS, *ids, EOS, PAD, PAD]) == normal("the cat", split)
    with pytest.raises(SakiyomiError, match=f"token {len(found)} is not in a vocabulary of {len(found)} words"):
        found.decode([*ids, len(found)])
    with pytest.raises(SakiyomiError, match="token -1"):
        found.decode([-1])


@pytest.mark.parametrize("split", SPLITS)
def test_learning_depends_on_the_text_alone(split: Split) -> None:
    """Not on the order of its lines: ties are broken by the characters. `tokenizers` counts in tables whose order is
    another each time."""
    first = learned(split)
    for seed in range(5):
        shuffled = random.Random(seed).sample(LINES, len(LINES))
        assert learned(split, shuffled) == first
    assert first.words[: len(SPECIAL)] == SPECIAL
    assert len(set(first.words)) == len(first)


@pytest.mark.parametrize("split", SPLITS)
def test_a_vocabulary_is_the_same_after_json(split: Split) -> None:
    found = learned(split)
    found.encode("the cat")  # what it has made of itself is not written
    again = msgspec.json.decode(msgspec.json.encode(found), type=Vocabulary)
    assert again == found
    for line in LINES:
        assert again.encode(line) == found.encode(line)


def test_words_are_numbered_by_how_often_they_come() -> None:
    found = Vocabulary.learn(["b a b c", "c d"], "words")
    assert found.words == (*SPECIAL, "b", "c", "a", "d")
    assert found.encode(" d\tb\n") == [7, 4]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("least", [1, 2, 3])
def test_what_comes_too_seldom_is_unknown(split: Split, least: int) -> None:
    found = learned(split, least=least, most=1000)
    counts = Counter(
        part for line in LINES for part in (normal(line, "words") if split in CUT else pieces(line, split))
    )
    wanted = {part for part, count in counts.items() if count >= least}
    known = set(found.words[len(SPECIAL) :])
    if split in CUT:  # of pieces the characters, and pieces that come as often
        assert {piece for piece in known if len(piece) == 1} == wanted | {" "}
        spaced = "".join(f" {word}" for line in LINES for word in line.split())
        # Anywhere, overlapping places too: so are pairs counted.
        assert all(sum(spaced.startswith(piece, i) for i in range(len(spaced))) >= least for piece in known)
    else:
        assert known == wanted


@pytest.mark.parametrize("split", CUT)
def test_what_begins_a_word_is_known_however_few_words_there_are(split: Split) -> None:
    """A long word alone, and no room for more than two characters."""
    assert UNK not in learned(split, ["abab" * 5], least=3).encode("ab ba")
    assert learned(split, ["abab" * 5], most=6).words == (*SPECIAL, " ", "a")


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("most", [6, 20, 70])
@pytest.mark.parametrize("least", [1, 2])
def test_a_bound_keeps_the_most_frequent(split: Split, most: int, least: int) -> None:
    found, unbound = learned(split, LINES, least, most), learned(split, LINES, least, 1000)
    assert len(found) == min(most, len(unbound))
    if split not in CUT or most > 40:
        assert found.words == unbound.words[:most]
    assert (" " in found.words) == (split in ("characters", *CUT))


@pytest.mark.parametrize("split", CUT)
def test_more_pieces_make_shorter_texts(split: Split) -> None:
    """From one for each character to one for each word."""
    lengths = [sum(len(learned(split, most=most).encode(line)) for line in LINES) for most in (61, 70, 80, 100, 1000)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > 1.3 * lengths[-1]
    everywhere = learned(split, [line for line in LINES for _ in range(2)], least=2, most=1000)
    assert all(len(everywhere.encode(line)) == len(line.split()) for line in LINES)


def test_bpe_merges_the_pair_that_comes_most_often() -> None:
    """At each merge, counted anew in all words."""
    found = learned("bpe", most=100)
    words = [list(f" {word}") for line in LINES for word in line.split()]
    assert len(found.merges) > 20
    for first, second in found.merges:
        counts = Counter(pair for word in words for pair in pairwise(word))
        assert counts[first, second] == max(counts.values())
        words = [together(word, first, second) for word in words]
    assert found.words[-1] == "".join(found.merges[-1])


def together(word: list[str], first: str, second: str) -> list[str]:
    """A word with each such pair as one piece, from the left."""
    out: list[str] = []
    for piece in word:
        if out and (out[-1], piece) == (first, second):
            out[-1] = first + second
        else:
            out.append(piece)
    return out


NEW = ["the chattest hat fattened that mat", "flattest fat mat", "すもものうち", "tttttttt aaaa thethe"]


@pytest.mark.parametrize("line", [*LINES, *NEW])
def test_bpe_cuts_by_its_merges_in_their_order(line: str) -> None:
    found = learned("bpe", most=100)
    words = [list(f" {word}") for word in line.split()]
    for first, second in found.merges:
        words = [together(word, first, second) for word in words]
    assert [found.spelled(number) for number in found.encode(line)] == [piece for word in words for piece in word]


@pytest.mark.parametrize("line", [*LINES, *NEW])
def test_wordpiece_takes_the_longest_known_piece_each_time(line: str) -> None:
    found = learned("wordpiece", most=100)
    wanted: list[str] = []
    for word in line.split():
        rest = f" {word}"
        while rest:
            longest = max((piece for piece in found.numbers if rest.startswith(piece)), key=len)
            wanted.append(longest)
            rest = rest[len(longest) :]
    assert [found.spelled(number) for number in found.encode(line)] == wanted


@pytest.mark.parametrize("split", CUT)
def test_pieces_inside_a_word_are_not_those_that_begin_one(split: Split) -> None:
    found = learned(split, ["at hat that flat mat cat"] * 3, most=60)
    begins = {found.spelled(found.encode(word)[0])[0] for word in ("at", "cat", "hat")}
    assert begins == {" "}
    assert found.encode("at")[0] not in found.encode("mmmat")
    assert found.decode(found.encode("flatcat at")) == "flatcat at"


@pytest.mark.parametrize("split", SPLITS)
def test_long_lines_and_none(split: Split) -> None:
    found = learned(split)
    assert found.encode("") == []
    assert found.decode([]) == ""
    line = "the cat sat " * 3_334  # 10,000 words
    assert normal(found.decode(found.encode(line)), split) == normal(line, split)
    found.encode("t" * 20_000)  # one word


def test_wordpiece_gives_up_a_word_that_is_too_long() -> None:
    found = learned("wordpiece")
    assert UNK not in found.encode("t" * LONGEST)
    assert found.encode("t" * (LONGEST + 1)) == [UNK]
    assert found.unknown("cat " + "t" * (LONGEST + 1)) == ("t" * (LONGEST + 1),)


def test_mecab_finds_japanese_words() -> None:
    assert pieces("すもももももももものうち", "mecab") == ["すもも", "も", "もも", "も", "もも", "の", "うち"]
    assert pieces("先生 と\n私\u3000は", "mecab") == ["先生", "と", "私", "は"]
    assert pieces("先生\x00と私", "mecab") == ["先生", "と", "私"]  # MeCab alone would end there


@pytest.mark.skipif(not KOKORO.exists(), reason="no shared/data/text: Kokoro in words")
def test_mecab_finds_the_words_of_kokoro_again() -> None:
    """They were found by MeCab; put together and split anew, nearly all ends are the same."""
    words = KOKORO.read_text(encoding="utf-8")[:60_000].split()[:-1]

    def ends(found: list[str]) -> set[int]:
        at, places = 0, set()
        for word in found:
            at += len(word)
            places.add(at)
        return places

    before, after = ends(words), ends(list(pieces("".join(words), "mecab")))
    assert max(before) == max(after)
    assert len(before & after) > 0.97 * max(len(before), len(after))


def test_what_cannot_be_learned_is_told() -> None:
    with pytest.raises(SakiyomiError, match="give most"):
        Vocabulary.learn(LINES, "bpe")
    for split in SPLITS:
        with pytest.raises(SakiyomiError, match="no word"):
            learned(split, ["", " \n"] if split != "characters" else [""])
        with pytest.raises(SakiyomiError, match="least 1000"):
            learned(split, least=1000)
        with pytest.raises(SakiyomiError, match="most 4"):
            learned(split, most=4)
        with pytest.raises(SakiyomiError, match="least is 0"):
            learned(split, least=0)
        with pytest.raises(SakiyomiError, match="most is -1"):
            learned(split, most=-1)


def test_merges_of_other_pieces_are_refused() -> None:
    found = learned("bpe")
    for broken in (replace(found, merges=((" t", "zz"),)), replace(found, words=found.words[:40])):
        with pytest.raises(SakiyomiError, match="damaged"):
            broken.encode("the cat")


def test_a_number_stands_for_a_word_a_character_or_a_piece() -> None:
    assert [learned(split).unit for split in SPLITS] == ["word", "character", "piece", "piece", "word"]


@pytest.mark.parametrize("split", ["wordpiece", "bpe", "mecab"])
def test_what_is_not_installed_is_told(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    from sakiyomi.data import vocabulary

    vocabulary._mecab.cache_clear()
    for name in ("tokenizers", "fugashi"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SakiyomiError, match=r"pip install 'sakiyomi\[text\]'"):
        learned(split)
