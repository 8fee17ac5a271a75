"""Scores of imagined pictures: counted by hand, beside their controls, under a protocol that says what counts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from imagining import Adder, awake, push_job, tiny, trained_on

import sakiyomi.evaluate_imagined as module
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.sources.push import PushSource
from sakiyomi.errors import SakiyomiError
from sakiyomi.evaluate_imagined import HowImagined, ImaginedScores, evaluate_imagined, save_imagined
from sakiyomi.imagine import as_imaginative, imagine
from sakiyomi.models import SVG
from sakiyomi.rollout import Trained, load
from sakiyomi.run import read_metrics
from sakiyomi.scores.pictures import psnr, ssim
from sakiyomi.scores.protocol import compare, load_scores
from sakiyomi.train import train
from sakiyomi.watchdog import Watch

HOW = HowImagined(sequences=2, samples=3, seed=5)
MEASURES = {"psnr": psnr, "ssim": ssim}


@pytest.fixture(scope="module")
def run(push_store: EpisodeStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six real steps of training."""
    folder = tmp_path_factory.mktemp("run")
    # A watchdog that always barks, so that there is something to report.
    settings = {"keep": "imagined", "watch": Watch(kl=1e9, validations=2)}
    train(push_job(push_store, train=settings), folder)
    return folder


@pytest.fixture(scope="module")
def evaluated(run: Path) -> ImaginedScores:
    return evaluate_imagined(load(run), HOW)


@pytest.fixture
def sensitive(push_store: EpisodeStore) -> Trained:
    """Not trained, but its pictures depend on everything."""
    torch.manual_seed(0)
    return trained_on(push_store, awake(SVG(tiny())), push_job(push_store))


def pictures(store: EpisodeStore) -> torch.Tensor:
    """The beginnings of the test recordings, [N, T, 3, H, W] in 0..1."""
    frames = np.stack([store.values(entry.id, "image") for entry in store.split("test")])
    return torch.from_numpy(frames).movedim(-1, -3) / 255


def values(found: ImaginedScores) -> dict[str, float]:
    return {name: score.value for name, score in found.scores.items()}


def test_every_score_has_a_protocol_and_an_interval(evaluated: ImaginedScores, push_store: EpisodeStore) -> None:
    ways = ("mean", "best", "copy", "shuffled")
    wanted = {f"{m}/{way}" for m in MEASURES for way in ways} | {
        f"{m}_gain/{way}" for m in MEASURES for way in ("copy", "shuffled")
    }
    assert wanted <= evaluated.scores.keys() <= wanted | {"lpips", "fvd"}
    for name in wanted:
        score = evaluated.scores[name]
        assert score.name == name
        assert score.low is not None
        assert score.high is not None
        assert score.low <= score.value <= score.high
        assert score.unit == ("dB" if name.startswith("psnr") else "1")
        how = score.protocol
        assert how.counted == "4 imagined frames after 2 given"
        assert how.data == f"{push_store.folder}, test, 5 Hz, first window of each recording"
        assert (how.n, how.seeds, how.resize) == (2, "5", "none")
        assert how.best_of == (3 if name.endswith("/best") else 1)
    rules = {score.protocol.rule for score in evaluated.scores.values()}
    assert len(rules) == len(evaluated.scores), "two scores are told apart by their rules"
    assert len(evaluated.notes) + len({"lpips", "fvd"} & evaluated.scores.keys()) == 2


@pytest.mark.parametrize("measure", MEASURES)
def test_every_way_is_what_it_says(measure: str, sensitive: Trained, push_store: EpisodeStore) -> None:
    """Measured again, from the recordings."""
    found = values(evaluate_imagined(sensitive, HOW))
    model, score, frames = as_imaginative(sensitive), MEASURES[measure], pictures(push_store)
    truth, last = frames[:, 2:6], frames[:, 1:2]
    assert found[f"{measure}/copy"] == pytest.approx(float(score(last.expand_as(truth), truth).mean()), rel=1e-6)
    told = {
        name: sensitive.normalizer.encode(
            name, torch.from_numpy(np.stack([push_store.values(e.id, name)[:5] for e in push_store.split("test")]))
        )
        for name in ("action", "position")
    }
    seen, generator = {"image": frames[:, :2], **told}, torch.Generator().manual_seed(5)
    each = score(imagine(model, seen, 4, 3, generator)["image"], truth.expand(3, -1, -1, -1, -1, -1)).mean(2)
    assert found[f"{measure}/mean"] == pytest.approx(float(each.mean()), rel=1e-5)
    assert found[f"{measure}/best"] == pytest.approx(float(each.amax(0).mean()), rel=1e-5)
    assert found[f"{measure}/best"] > found[f"{measure}/mean"]
    # Two sequences: each is told the other's actions from the last given frame on, and draws the same noise.
    swapped = {name: torch.cat((value[:, :1], value.flip(0)[:, 1:]), 1) for name, value in told.items()}
    swapped, generator = {"image": frames[:, :2], **swapped}, torch.Generator().manual_seed(5)
    other = score(imagine(model, swapped, 4, 3, generator)["image"], truth.expand(3, -1, -1, -1, -1, -1)).mean()
    assert found[f"{measure}/shuffled"] == pytest.approx(float(other), rel=1e-5)
    for way in ("copy", "shuffled"):
        gain = found[f"{measure}/mean"] - found[f"{measure}/{way}"]
        assert found[f"{measure}_gain/{way}"] == pytest.approx(gain, abs=1e-6)


def test_curves_are_the_scores_frame_by_frame(evaluated: ImaginedScores, push_store: EpisodeStore) -> None:
    labels = {
        "mean of 3": "mean",
        "best of 3": "best",
        "the last frame copied": "copy",
        "told other actions": "shuffled",
    }
    assert set(evaluated.curves) == set(labels)
    for label, way in labels.items():
        for measure, curve in evaluated.curves[label].items():
            assert curve.shape == (4,)
            assert curve.mean() == pytest.approx(evaluated.scores[f"{measure}/{way}"].value)
    frames = pictures(push_store)
    by_frame = psnr(frames[:, 1:2].expand(-1, 4, -1, -1, -1), frames[:, 2:6]).mean(0)
    np.testing.assert_allclose(evaluated.curves["the last frame copied"]["psnr"], by_frame.numpy(), rtol=1e-6)


def test_examples_are_what_was_scored(sensitive: Trained, push_store: EpisodeStore) -> None:
    found = evaluate_imagined(sensitive, HOW)
    assert len(found.examples) == 2
    for example, entry in zip(found.examples, push_store.split("test"), strict=True):
        np.testing.assert_array_equal(example.truth, push_store.values(entry.id, "image")[:6])
        assert (example.past, example.rate, example.samples.shape[:2]) == (2, 5, (3, 4))
    each = [
        psnr(*(torch.from_numpy(p).movedim(-1, -3) / 255 for p in (e.samples, np.stack([e.truth[2:]] * 3)))).mean()
        for e in found.examples
    ]
    # Of pictures rounded to bytes.
    assert float(torch.stack(each).mean()) == pytest.approx(found.scores["psnr/mean"].value, abs=0.01)


def test_scores_follow_from_the_seed(sensitive: Trained) -> None:
    first = evaluate_imagined(sensitive, HOW)
    assert first.scores == evaluate_imagined(sensitive, HOW).scores
    other = evaluate_imagined(sensitive, replace(HOW, seed=6))
    assert other.scores["psnr/mean"].value != first.scores["psnr/mean"].value
    assert other.scores["psnr/copy"].value == first.scores["psnr/copy"].value
    with pytest.raises(SakiyomiError, match="seeds: '5' against '6'"):
        compare(first.scores, other.scores)


def test_the_best_of_more_is_no_worse(sensitive: Trained) -> None:
    best = [values(evaluate_imagined(sensitive, replace(HOW, samples=n)))["psnr/best"] for n in (1, 2, 8)]
    assert best[0] < best[2]
    one = evaluate_imagined(sensitive, replace(HOW, samples=1)).scores
    assert one["psnr/best"].value == pytest.approx(one["psnr/mean"].value)


def test_a_model_that_copies_gains_nothing(push_store: EpisodeStore) -> None:
    trained = trained_on(push_store, Adder(), push_job(push_store))
    found = values(evaluate_imagined(trained, HOW))
    for measure in MEASURES:
        for way in ("mean", "best", "shuffled"):
            assert found[f"{measure}/{way}"] == pytest.approx(found[f"{measure}/copy"])
        for way in ("copy", "shuffled"):
            assert found[f"{measure}_gain/{way}"] == pytest.approx(0, abs=1e-9)


def test_each_sequence_is_told_the_next_ones_actions(push_store: EpisodeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also over the borders of batches, and the last one the first one's; never its own."""
    monkeypatch.setattr(module, "BATCH", 1)
    model = Adder()
    trained = trained_on(push_store, model, push_job(push_store))
    evaluate_imagined(trained, replace(HOW, samples=1))
    told = torch.stack([torch.cat([s["action"] for s in model.told[i : i + 5]]) for i in range(0, 20, 5)])
    torch.testing.assert_close(told[[1, 3], 1:], told[[2, 0], 1:])
    torch.testing.assert_close(told[[1, 3], :1], told[[0, 2], :1])  # what was done before is what it was
    assert not torch.allclose(told[0], told[1])


def test_more_frames_than_in_training_can_be_asked_for(sensitive: Trained, push_store: EpisodeStore) -> None:
    found = evaluate_imagined(sensitive, replace(HOW, steps=8))
    assert found.scores["psnr/mean"].protocol.counted == "8 imagined frames after 2 given"
    frames = pictures(push_store)
    copied = psnr(frames[:, 1:2].expand(-1, 8, -1, -1, -1), frames[:, 2:10]).mean()
    assert found.scores["psnr/copy"].value == pytest.approx(float(copied), rel=1e-6)
    with pytest.raises(SakiyomiError, match="has 9 steps at 5 Hz, shorter than the window of 10"):
        evaluate_imagined(sensitive, replace(HOW, steps=9))


def test_numbers_outside_their_range_are_named(sensitive: Trained) -> None:
    for wrong in ({"sequences": 0}, {"samples": 0}, {"steps": -1}, {"seed": -1}):
        with pytest.raises(SakiyomiError, match=rf"--{next(iter(wrong))} is .*must be at least"):
            evaluate_imagined(sensitive, replace(HOW, **wrong))


def test_a_model_of_whole_recordings_imagines_to_their_end(push_store: EpisodeStore) -> None:
    """`data.steps` 0 is the length of an episode."""
    job = push_job(push_store)
    whole = replace(job, data=replace(job.data, steps=0))
    trained = trained_on(push_store, awake(SVG(tiny())), whole)
    found = evaluate_imagined(trained, HOW)
    assert found.scores["psnr/mean"].protocol.counted == "8 imagined frames after 2 given"


def test_pictures_too_small_for_a_trained_network_are_scored_without(tmp_path: Path) -> None:
    store = PushSource(episodes=1, validation=1, test=2, steps=6, image_size=16).record(tmp_path)
    trained = trained_on(store, awake(SVG(tiny(height=16, width=16))), push_job(store, height=16, width=16))
    found = evaluate_imagined(trained, HOW)
    assert "psnr/mean" in found.scores
    assert any("LPIPS" in note for note in found.notes)


def test_progress_ends_at_the_whole(sensitive: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 1)
    told = []
    evaluate_imagined(sensitive, HOW, lambda done, total, name: told.append((done, total, name)))
    assert told == [(1, 2, "imagining"), (2, 2, "imagining")]


def test_a_single_sequence_has_no_other_actions(sensitive: Trained) -> None:
    assert "psnr/shuffled" not in evaluate_imagined(sensitive, replace(HOW, sequences=1)).scores


def test_two_models_compare_on_what_both_can_be_asked(sensitive: Trained, push_store: EpisodeStore) -> None:
    """A model that is told no actions cannot be told other ones; the rest has one protocol."""
    job = push_job(push_store, action=0, position=0)
    blind = trained_on(push_store, awake(SVG(tiny(action=0, position=0))), job)
    with_actions, without = (evaluate_imagined(trained, HOW).scores for trained in (sensitive, blind))
    assert not any("shuffled" in name for name in without)
    differences = {difference.name: difference for difference in compare(with_actions, without)}
    assert differences.keys() == without.keys()
    assert differences["psnr/copy"].a == differences["psnr/copy"].b
    assert differences["psnr/mean"].a.value != differences["psnr/mean"].b.value
    fewer = {"psnr/best": evaluate_imagined(blind, replace(HOW, samples=2)).scores["psnr/best"]}
    with pytest.raises(SakiyomiError, match="best_of: 3 against 2"):
        compare(with_actions, fewer)


def test_the_report_shows_what_was_found(run: Path, evaluated: ImaginedScores) -> None:
    trained = load(run)
    path = save_imagined(evaluated, trained, run)
    assert path == run / "report.html"
    page = path.read_text()
    sections = ("What to look at", "What it imagines", "How good it is", "What it learned")
    places = [page.index(section) for section in sections]
    assert places == sorted(places)
    assert "latent unused" in page
    assert "Shown 2 frames and told the next actions, the model imagines 4 more" in page
    assert f"{evaluated.scores['psnr/mean'].value:.1f} dB" in page
    assert page.count("data:image/gif") == 2  # a sequence each
    assert page.count("data:image/png") == 4  # strip, spread, frame by frame, training
    for note in evaluated.notes:
        assert note[:30] in page
    assert load_scores(run / "scores.json") == evaluated.scores


def test_a_report_of_a_healthy_training_has_nothing_to_look_at(run: Path, evaluated: ImaginedScores) -> None:
    trained = load(run)
    calm = replace(trained.job, train=replace(trained.job.train, watch=Watch(kl=0, dependence=0)))
    save_imagined(replace(evaluated, notes=()), replace(trained, job=calm), run)
    assert "What to look at" not in (run / "report.html").read_text()


def test_a_validation_says_what_it_imagines(run: Path, push_store: EpisodeStore) -> None:
    lines = [line for line in read_metrics(run) if "validation/total" in line]
    assert [line["step"] for line in lines] == [2, 4, 6]
    for line in lines:
        assert {f"validation/{n}" for n in ("image", "kl", "imagined", "psnr", "uses_past", "uses_conditions")} <= set(
            line
        )
        # PSNR of a mean is below the mean of PSNRs (Jensen), by frames that differ in difficulty.
        assert line["validation/psnr"] >= -10 * np.log10(line["validation/imagined"]) - 1e-3
    assert not (run / "limits.json").exists()  # it commands nothing
    assert load(run).limits is None
