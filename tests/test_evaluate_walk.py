"""`evaluate walk`: scores of characters that go on by themselves, and the page that tells them."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import walking
from test_walk_rollout import loud

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.sources.walk import GeneratedWalk
from sakiyomi.errors import SakiyomiError
from sakiyomi.evaluate_walk import HowWalked, evaluate_walk, latent_usage, save_walk
from sakiyomi.models import MVAE
from sakiyomi.rollout import Trained, load
from sakiyomi.run import Log, read_metrics
from sakiyomi.schedules import Weight
from sakiyomi.scores.motion import reference_of, score_rollouts
from sakiyomi.scores.protocol import compare, load_scores, save_scores
from sakiyomi.train import train
from sakiyomi.views.plots import training_curves
from sakiyomi.walk import MOST, character_of, random_walk
from sakiyomi.watchdog import Watch

COUNT = 40
FEW = HowWalked(starts=COUNT, frames=3)  # so few that of hardly trained characters some are still whole
WALKED = {"exploded", "sliding", "sliding_ratio", "penetration", "distance"}


@pytest.fixture(scope="module")
def trained(walk_run: Path) -> Trained:
    return load(walk_run)


def asleep(trained: Trained) -> Trained:
    """The same with an encoder that says nothing: the prior, whatever it is shown."""
    model = MVAE(trained.model.config)  # pyright: ignore[reportArgumentType]
    model.load_state_dict(trained.model.state_dict())
    with torch.no_grad():
        model.encoder.last.weight.zero_()
        model.encoder.last.bias.zero_()
    return replace(trained, model=model.eval())


def test_every_score_is_there_and_says_how_it_was_measured(trained: Trained, walk_store: EpisodeStore) -> None:
    told: list[tuple[int, int, str]] = []
    scores = evaluate_walk(trained, FEW, lambda *done: told.append(done)).scores
    assert set(scores) == WALKED | {"active"}
    for name, score in scores.items():
        assert score.name == name
        assert score.protocol.n == COUNT
        assert score.protocol.data == f"{walk_store.folder}, test, 30 Hz"
        assert np.isfinite(score.value)
        if name != "active":
            assert score.protocol.counted == "3 frames on its own from a given pose, z from the prior"
            assert score.protocol.seeds == "10000"
            assert score.low is not None
            assert score.low <= score.value <= (score.high or 0)
    assert "1.2 times the data's range" in scores["exploded"].protocol.rule
    assert scores["active"].protocol.counted == "every frame, true poses"
    assert told[-1][:2] == (2, 2)


def test_scores_are_of_a_walk_from_poses_spread_over_the_test_split(trained: Trained, walk_store: EpisodeStore) -> None:
    found = evaluate_walk(trained, FEW)
    character = character_of(trained, "test")
    picks = torch.from_numpy(np.linspace(0, len(character.starts) - 1, COUNT).astype(int))
    assert len(picks.unique()) == COUNT
    again = random_walk(character, character.at(picks), 3, FEW.seed)
    torch.testing.assert_close(found.walked.poses, again.poses)
    reference = reference_of(walk_store)
    wanted = score_rollouts(again.poses.transpose(0, 1), reference, found.scores["exploded"].protocol)
    assert {name: score.value for name, score in wanted.items()} == {n: found.scores[n].value for n in wanted}
    other = evaluate_walk(trained, replace(FEW, seed=1))
    assert not torch.equal(other.walked.poses, found.walked.poses)
    assert evaluate_walk(trained, FEW).scores == found.scores


def test_more_starts_than_poses_are_all_of_them(trained: Trained, walk_store: EpisodeStore) -> None:
    poses = sum(entry.lengths["pose"] for entry in walk_store.split("test"))
    found = evaluate_walk(trained, HowWalked(starts=100_000, frames=2))
    assert found.walked.poses.shape[1] == found.scores["exploded"].protocol.n == poses == 90


def test_a_store_without_a_test_split_is_scored_on_validation(tmp_path: Path) -> None:
    store = GeneratedWalk(clips=2, validation=1, test=0, seconds=1.0).record(tmp_path / "store")
    train(walking.walk_job(store, train={"steps": 1}), tmp_path / "run")
    scores = evaluate_walk(load(tmp_path / "run"), FEW).scores
    assert "validation, 30 Hz" in scores["exploded"].protocol.data


@pytest.mark.parametrize("times", [4.0, 1e6])
def test_a_model_that_explodes_is_told_and_has_its_page(
    trained: Trained, walk_run: Path, tmp_path: Path, times: float
) -> None:
    """Finite and kilometres wide, or no numbers any more."""
    log_of(walk_run, tmp_path)
    found = evaluate_walk(loud(trained, times), HowWalked(starts=7, frames=8))
    assert bool(found.walked.poses.isfinite().all()) == (times < 10)
    assert found.scores["exploded"].value == 1
    assert set(found.scores) == {"exploded", "active"}
    page = save_walk(found, loud(trained, times), tmp_path).read_text()
    assert "0% of the characters stayed" in page
    assert load_scores(tmp_path / "scores.json")["exploded"].value == 1
    if times > 10:
        assert "not finite" in page


def log_of(run: Path, folder: Path) -> None:
    """The run's log in another folder, so that the run itself is left as it is."""
    (folder / "metrics.jsonl").write_bytes((run / "metrics.jsonl").read_bytes())


def test_the_page_holds_the_film_the_paths_the_latent_and_the_training(
    trained: Trained, walk_run: Path, tmp_path: Path
) -> None:
    log_of(walk_run, tmp_path)
    found = evaluate_walk(trained, FEW)
    path = save_walk(found, trained, tmp_path)
    page = path.read_text()
    assert path == tmp_path / "report.html"
    assert page.count("data:image/gif") == 1
    assert page.count("data:image/png") == 3
    assert f"From {COUNT} poses it was never shown the model goes on by itself, 3 frames each" in page
    assert f"{1 - found.scores['exploded'].value:.0%} of the characters stayed" in page
    assert f"slide {found.scores['sliding_ratio'].value:.2f} times as much" in page
    assert "What to look at" not in page
    assert load_scores(tmp_path / "scores.json") == found.scores
    assert training_curves(read_metrics(tmp_path))


def test_what_looks_wrong_in_the_log_stands_first(trained: Trained, tmp_path: Path) -> None:
    log, watch = Log(tmp_path, 0), trained.job.train.watch
    for step in range(watch.validations):
        log.write(step, {"total": 1.0, "pose": 1.0, "kl": 0.1})
        log.write(step, {"validation/total": 1.0, "validation/active": 0.25})
    log.close()
    page = save_walk(evaluate_walk(trained, FEW), trained, tmp_path).read_text()
    assert "latent collapsed" in page
    assert "only 25% of its numbers" in page
    assert page.index("What to look at") < page.index("It walks")


# --- how much of the latent is used


def test_usage_is_the_mean_over_every_held_out_frame(trained: Trained, walk_store: EpisodeStore) -> None:
    """Windows overlap, and the last one of a clip does the more: about the mean of each pose with the next one."""
    model = trained.model
    assert isinstance(model, MVAE)
    found = evaluate_walk(trained, FEW)
    assert found.usage.shape == (4,)
    values = torch.from_numpy(walk_store.values(walk_store.split("test")[0].id, "pose"))
    poses = trained.normalizer.encode("pose", values)
    with torch.no_grad():
        mean, log_variance = model.encoder(poses[1:], poses[:-1])
    kl = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, log_variance.div(2).exp()), torch.distributions.Normal(0.0, 1.0)
    )
    np.testing.assert_allclose(found.usage, kl.mean(0), rtol=0.15)
    assert found.scores["active"].value == float((found.usage > 0.01).mean())


def test_a_latent_that_says_nothing_is_not_active(trained: Trained) -> None:
    scores = evaluate_walk(asleep(trained), FEW).scores
    assert scores["active"].value == 0
    assert scores["active"].protocol.rule.startswith("share of 4: dimensions of z whose KL")


@pytest.mark.parametrize("codes", [3, 120])
def test_of_a_codebook_the_codes_that_are_taken_count(walk_store: EpisodeStore, tmp_path: Path, codes: int) -> None:
    """As the rule says, more often than a hundredth of their share: here each that is taken at all."""
    losses = {"pose": Weight(1.0), "codebook": Weight(1.0), "commitment": Weight(0.25)}
    job = walking.walk_job(walk_store, mixture="vq", codes=codes, train={"steps": 2, "losses": losses})
    train(job, tmp_path)
    trained = load(tmp_path)
    found = evaluate_walk(trained, FEW)
    assert found.usage.shape == (codes,)
    taken = latent_usage(trained, walk_store, "test") > 0
    assert found.scores["active"].value == pytest.approx(float(taken.float().mean()))
    assert "codes taken more often than a hundredth of their share" in found.scores["active"].protocol.rule
    assert found.usage.mean() == pytest.approx(1)
    page = save_walk(found, trained, tmp_path).read_text()
    assert "of its fair share" in page


# --- protocols and options


def test_two_runs_measured_alike_are_compared_and_others_refused(trained: Trained, tmp_path: Path) -> None:
    one, quiet = evaluate_walk(trained, FEW).scores, evaluate_walk(asleep(trained), FEW).scores
    for name, scores in (("a", one), ("b", quiet)):
        save_scores(scores, tmp_path / f"{name}.json")
    a, b = (load_scores(tmp_path / f"{name}.json") for name in "ab")
    differences = {difference.name: difference for difference in compare(a, b)}
    assert differences["active"].a.value == 1
    assert differences["active"].b.value == 0
    longer = evaluate_walk(trained, replace(FEW, frames=4)).scores
    with pytest.raises(SakiyomiError, match=r"counted: '3 frames on its own .* against '4 frames"):
        compare(one, longer)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"starts": 0}, "--starts is 0; it must be at least 1"),
        ({"frames": 1}, "--frames is 1; it must be at least 2"),
        ({"seed": -1}, "--seed is -1; it must be at least 0"),
        ({"seed": 2**63}, "--seed is 9223372036854775808; it must be at most"),
        ({"starts": MOST}, f"--starts times --frames is {3 * MOST}; it must be at most {MOST}"),
    ],
)
def test_options_out_of_range_are_told(trained: Trained, options: dict[str, Any], told: str) -> None:
    with pytest.raises(SakiyomiError, match=re.escape(told)):
        evaluate_walk(trained, replace(FEW, **options))


def test_a_watch_of_its_own_decides_what_is_told(trained: Trained, tmp_path: Path) -> None:
    log = Log(tmp_path, 0)
    for step in range(2):
        log.write(step, {"total": 1.0})
        log.write(step, {"validation/total": 1.0, "validation/active": 0.6})
    log.close()
    strict = replace(trained.job, train=replace(trained.job.train, watch=Watch(active=0.9, validations=2)))
    found = evaluate_walk(trained, FEW)
    assert "latent collapsed" not in save_walk(found, trained, tmp_path).read_text()
    assert "latent collapsed" in save_walk(found, replace(trained, job=strict), tmp_path).read_text()
