"""A text in which the first word of four goes with the third, and what stands between them says nothing: the third is
told from the left, the first from the right, and neither by its neighbours."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sakiyomi.data.augment import Augment
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.sources.text import PlainText
from sakiyomi.data.windows import Data
from sakiyomi.errors import SakiyomiError
from sakiyomi.fill import (
    alone_cost,
    alone_places,
    evaluate_hidden,
    fill,
    hidden_cost,
    save_hidden,
    shown_holes,
    teller,
    text_of,
)
from sakiyomi.job import Job, Train
from sakiyomi.models import BERT, GPT
from sakiyomi.rollout import Trained, load
from sakiyomi.schedules import LearningRate, Weight
from sakiyomi.scores.protocol import load_scores
from sakiyomi.train import train

STEPS = 16


def said(kind: int) -> str:
    return ("p a m .", "q a n .")[kind]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("fill")
    kinds = np.random.default_rng(0).integers(2, size=1500)
    (folder / "text.txt").write_text(" ".join(said(kind) for kind in kinds))
    PlainText(str(folder / "text.txt"), split="words").record(folder / "store")
    model = BERT.Config(width=32, heads=2, blocks=2, feedforward=64, dropout=0.0, pairs=False)
    how = Train(
        steps=150, batch_size=32, learning_rate=LearningRate(1e-2, 20, "cosine"), losses={"token": Weight()}, threads=1
    )
    data = Data(str(folder / "store"), steps=STEPS, clock="token")
    train(Job(model, data, Augment(joints=0, image=0), replace(how, validate_every=75)), folder / "run")
    return load(folder / "run")


@pytest.mark.parametrize("place", [4, 6])
def test_a_hole_is_filled_from_the_left_and_from_the_right(trained: Trained, place: int) -> None:
    for kind in (0, 1):
        whole = f"{said(0)} {said(kind)} {said(1)}"
        words = whole.split()
        true, words[place] = words[place], "_"
        found = fill(trained, " ".join(words))
        assert found.text == whole
        assert found.holes[0].words[0] == true
        assert 0.9 < found.holes[0].probabilities[0] <= sum(found.holes[0].probabilities) <= 1 + 1e-6


def test_several_holes_and_words_it_does_not_know(trained: Trained) -> None:
    found = fill(trained, f"{said(0)} p a _ _ {said(1)} zebra", most=50)
    assert [hole.words[0] for hole in found.holes] == ["m", "."]
    assert found.unknown == ("zebra",)
    assert sorted(found.holes[0].words) == sorted(".pqamn")  # every word once, and nothing that is none
    with pytest.raises(SakiyomiError, match="nothing is left out"):
        fill(trained, said(0))
    with pytest.raises(SakiyomiError, match="most is 0"):
        fill(trained, "p _", most=0)


def test_it_costs_less_than_by_the_neighbours(trained: Trained) -> None:
    scores = evaluate_hidden(trained)
    assert scores["hidden"].value < scores["hidden/bigram"].value < scores["by frequency"].value
    # Of four words the neighbours tell two; of the others there are two each.
    assert scores["alone/bigram"].value == pytest.approx(0.5 * math.log(2), abs=0.02)
    assert scores["alone"].value < 0.05
    page = save_hidden(scores, trained, Path(trained.job.data.store).parent / "run").read_text()
    assert f"costs it {scores['hidden'].value:.2f} nats" in page
    assert load_scores(Path(trained.job.data.store).parent / "run" / "scores.json") == scores
    for row in shown_holes(trained, "validation"):
        assert row[0].count("_") == 1
        assert row[2].startswith(f"{row[1]} ")


def test_costs_are_of_the_words_that_were_hidden(trained: Trained) -> None:
    """Alone hidden words are told as `fill` tells them; each draw hides 15 % of each window."""
    model, store = teller(trained), trained.job.data.store
    text = text_of(EpisodeStore(store), "validation")
    costs, places = alone_cost(model, text, STEPS), alone_places(len(text), STEPS)
    assert len(costs) == len(places)
    vocabulary = trained.normalizer.vocabulary("token")
    for index in (0, 3, 50):
        begin = (places[index] - 4) // 8 * 8
        words = [vocabulary.spelled(int(i)) for i in text[begin : begin + STEPS]]
        true, words[places[index] - begin] = words[places[index] - begin], "_"
        hole = fill(trained, " ".join(words), most=50).holes[0]
        # `fill` leaves out what is no word, of which next to nothing is said.
        assert costs[index] == pytest.approx(-math.log(hole.probabilities[hole.words.index(true)]), abs=0.01)
    cost = hidden_cost(model, text, STEPS, draws=3)
    windows = len(text) // STEPS
    assert [int(hidden.sum()) for hidden in cost.hidden] == [windows * round(0.15 * STEPS)] * 3
    assert len(cost.nats) == 3 * windows * round(0.15 * STEPS)
    with pytest.raises(SakiyomiError, match="no window of 16"):
        hidden_cost(model, text[:10], STEPS)


def test_other_models_tell_no_hidden_words(trained: Trained) -> None:
    other = replace(trained, model=GPT(GPT.Config(words=10, width=8, heads=2, blocks=1, feedforward=8)))
    with pytest.raises(SakiyomiError, match="GPT tells no hidden words"):
        fill(other, "p _ r")
