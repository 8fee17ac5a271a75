"""Going on alone: what is read and what is not, what validation says of it, and what other actions lead to."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from imagining import Adder, awake, push_job, tiny, trained_on, validation_windows
from torch import Tensor, nn

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.sources.push import replay
from sakiyomi.data.windows import Data, Windows
from sakiyomi.errors import SakiyomiError
from sakiyomi.imagine import (
    Imagining,
    as_imaginative,
    foresight,
    futures,
    imagine,
    model_rate,
    recorded,
    rollout_imagined,
    truth_of,
)
from sakiyomi.models import SVG, JointRNN, Streams
from sakiyomi.rollout import Trained
from sakiyomi.watchdog import Watch, warnings
from sakiyomi.what_if import MOVES, OWN, branch, what_if
from sakiyomi.worlds.push import WORKSPACE_HIGH, WORKSPACE_LOW, Push

B, STEPS, SAMPLES = 3, 4, 5
CPU = torch.device("cpu")


@pytest.fixture
def model() -> SVG:
    torch.manual_seed(0)
    return awake(SVG(tiny()))


@pytest.fixture
def seen(model: SVG) -> Streams:
    torch.manual_seed(1)
    return model.example(B, model.past + STEPS)


@pytest.fixture
def trained(push_store: EpisodeStore, model: SVG) -> Trained:
    return trained_on(push_store, model, push_job(push_store))


def adder(store: EpisodeStore, **settings: float) -> tuple[Adder, Trained]:
    model = Adder(**settings)
    return model, trained_on(store, model, push_job(store))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(model: SVG, seen: Streams, seed: int = 0) -> Tensor:
    return imagine(model, seen, STEPS, SAMPLES, seeded(seed))["image"]


# --- imagine


def test_it_adds_up() -> None:
    """With a model that adds what it is told: each action counts once, at its step, and so does each noise."""
    model = Adder(keep=1.0, shake=1.0)
    seen = {"image": torch.rand(B, 2, 3, 4, 4), "action": torch.rand(B, 5, 2), "position": torch.rand(B, 5, 3)}
    futures = imagine(model, seen, STEPS, SAMPLES, seeded())["image"]
    noise = seeded()
    for future in futures:
        added = seen["action"].sum(-1) + torch.randn(B, 5, 1, generator=noise)[..., 0]
        wanted = seen["image"][:, 1:2] + added[:, 1:].cumsum(1)[..., None, None, None]
        torch.testing.assert_close(future, wanted)
    told = torch.stack([streams["position"] for streams in model.told[:5]], 1)
    torch.testing.assert_close(told, seen["position"])


def test_it_draws_as_many_futures_as_asked_for(model: SVG, seen: Streams) -> None:
    found = imagine(model, seen, STEPS, SAMPLES, seeded())
    assert set(found) == {"image"}
    assert found["image"].shape == (SAMPLES, B, STEPS, 3, 32, 32)
    assert not found["image"].requires_grad
    assert imagine(model, seen, 1)["image"].shape == (1, B, 1, 3, 32, 32)


def test_futures_follow_from_the_generator(model: SVG, seen: Streams) -> None:
    first = drawn(model, seen)
    assert torch.equal(first, drawn(model, seen))
    assert not torch.allclose(first, drawn(model, seen, seed=1))
    for a in range(SAMPLES):
        for b in range(a):
            assert (first[a] - first[b]).abs().flatten(2).amax(2).min() > 1e-4  # every frame of every sequence
    means = imagine(model, seen, STEPS, 2)["image"]
    torch.testing.assert_close(means[0], means[1], atol=0, rtol=0)
    # Fewer futures are the first ones of more.
    torch.testing.assert_close(imagine(model, seen, STEPS, 2, seeded())["image"], first[:2], atol=0, rtol=0)


def test_the_first_frame_is_what_unroll_expects(model: SVG, seen: Streams) -> None:
    past = {name: value[:, : model.past] for name, value in seen.items()}
    wanted, state = model.unroll(past)
    found = imagine(model, seen, STEPS)["image"][0]
    torch.testing.assert_close(found[:, 0], wanted["image"][:, -1])
    for t in range(1, STEPS):
        at = model.past + t - 1
        frame, state = model.imagine({name: seen[name][:, at] for name in model.conditions}, state)
        torch.testing.assert_close(found[:, t], frame["image"])


def test_frames_behind_the_past_are_never_looked_at(model: SVG, seen: Streams) -> None:
    found = drawn(model, seen)
    blank = seen["image"].clone()
    blank[:, model.past :] = torch.nan
    torch.testing.assert_close(drawn(model, {**seen, "image": blank}), found, atol=0, rtol=0)
    given = {**seen, "image": seen["image"][:, : model.past]}
    torch.testing.assert_close(drawn(model, given), found, atol=0, rtol=0)
    for t in range(model.past):
        other = seen["image"].clone()
        other[:, t] = 1 - other[:, t]
        assert not torch.allclose(drawn(model, {**seen, "image": other}), found, atol=1e-5)


@pytest.mark.parametrize("name", ["action", "position"])
def test_conditions_of_every_step_count_from_there_on(model: SVG, seen: Streams, name: str) -> None:
    found = drawn(model, seen)
    for step in range(model.past + STEPS):
        other = seen[name].clone()
        other[:, step] = 1 - other[:, step]
        apart = (drawn(model, {**seen, name: other}) - found).abs().amax((0, 1, 3, 4, 5))
        first = max(0, step - model.past + 1)  # the imagined frame that this step leads to
        assert (apart[:first] == 0).all()
        assert (apart[first:] > 1e-7).all()  # none follow the last one given


def test_too_little_is_named(model: SVG, seen: Streams) -> None:
    for name, there, needed in (("action", 4, 5), ("position", 4, 5), ("image", 1, 2)):
        with pytest.raises(SakiyomiError, match=f"takes {needed} values of stream '{name}', got {there}"):
            imagine(model, {**seen, name: seen[name][:, :there]}, STEPS)
    enough = {name: value[:, : 2 if name == "image" else 5] for name, value in seen.items()}
    assert imagine(model, enough, STEPS)["image"].shape[2] == STEPS


# --- what validation says


def test_a_model_that_copies_is_off_by_as_much_as_the_truth_moves(push_store: EpisodeStore) -> None:
    """And by hand: what is measured, on a model whose predictions are known."""
    _, trained = adder(push_store)
    windows = validation_windows(trained)
    batch = windows.batch(list(range(len(windows))))
    last, truth = batch.inputs["image"][:, 1:2], truth_of(batch, 2, "image")
    assert truth.shape[1] == 4
    torch.testing.assert_close(truth[:, :-1], batch.inputs["image"][:, 2:])
    moved = (truth - last).square().flatten(2).mean(2)
    found = foresight(as_imaginative(trained), windows, len(windows), CPU)
    assert found["imagined"] == pytest.approx(float(moved.mean()), rel=1e-5)
    assert found["psnr"] == pytest.approx(float((-10 * moved.log10()).clamp_max(100).mean()), rel=1e-5)
    others = (last.roll(1, 0) - last).square().mean()
    assert found["uses_past"] == pytest.approx(float(others / moved.mean()), rel=1e-5)
    assert found["uses_conditions"] == 0


def test_only_what_depends_on_conditions_is_said_to(trained: Trained, model: SVG) -> None:
    windows = validation_windows(trained)
    before = foresight(model, windows, 8, CPU)
    assert before["uses_conditions"] > 0
    assert before["uses_past"] > 0
    c = model.config
    with torch.no_grad():  # the columns that read conditions
        model.predictor.embed.weight[:, c.encoding : c.encoding + c.action + c.position] = 0
    after = foresight(model, windows, 8, CPU)
    assert after["uses_conditions"] == 0
    assert after["uses_past"] > 0
    nn.init.zeros_(model.decoder.last.weight)  # pyright: ignore[reportArgumentType]
    assert foresight(model, windows, 8, CPU)["uses_past"] == 0


def test_a_model_without_conditions_has_no_say_of_them(push_store: EpisodeStore) -> None:
    model = awake(SVG(tiny(action=0, position=0)))
    trained = trained_on(push_store, model, push_job(push_store, action=0, position=0))
    assert set(foresight(model, validation_windows(trained), 4, CPU)) == {"imagined", "psnr", "uses_past"}


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_the_size_of_batches_changes_no_error(trained: Trained, model: SVG, batch_size: int) -> None:
    windows = validation_windows(trained)
    assert len(windows) == 6
    whole, parts = (foresight(model, windows, size, CPU) for size in (6, batch_size))
    for name in ("imagined", "psnr"):
        assert parts[name] == pytest.approx(whole[name], rel=1e-5)


def test_a_window_left_over_does_not_dilute_what_the_others_say(push_store: EpisodeStore) -> None:
    """Five windows and one: the one has no other whose past it could borrow, and so says nothing."""
    _, trained = adder(push_store)
    windows = validation_windows(trained)
    found = foresight(as_imaginative(trained), windows, 5, CPU)
    windows.windows = windows.windows[:5]
    alone = foresight(as_imaginative(trained), windows, 5, CPU)
    assert found["uses_past"] == pytest.approx(alone["uses_past"], rel=1e-5)


def test_padding_does_not_count(push_store: EpisodeStore) -> None:
    """Of windows of unequal length, here cut by hand."""
    _, trained = adder(push_store)
    windows = validation_windows(trained)
    batch = windows.batch([0, 1, 2])
    batch.mask[1, 3:] = 0

    class Cut(Windows):
        def __init__(self) -> None: ...
        def __len__(self) -> int:
            return 3

        def batch(self, picks: list[int], device: torch.device = CPU) -> Any:
            return batch

    before = foresight(as_imaginative(trained), Cut(), 3, CPU)
    batch.targets["image"][1, 3:] = 0.5
    after = foresight(as_imaginative(trained), Cut(), 3, CPU)
    assert before == after
    batch.mask[1, 3:] = 1
    assert foresight(as_imaginative(trained), Cut(), 3, CPU) != after


# --- a recording


def test_recorded_is_what_was_recorded(push_store: EpisodeStore, trained: Trained) -> None:
    for episode, start, frames in (("00006", 0, 10), ("00006", 3, 5), ("00000", 9, 1)):
        seen, pictures = recorded(trained, push_store, episode, start, frames)
        np.testing.assert_array_equal(pictures, push_store.values(episode, "image")[start : start + frames])
        assert set(seen) == {"image", "action", "position"}
        for name, value in seen.items():
            there = trained.normalizer.decode(name, value[0]).numpy()
            np.testing.assert_allclose(there, push_store.values(episode, name)[start : start + frames], atol=1e-6)


def test_recorded_takes_the_models_rate(push_store: EpisodeStore, model: SVG) -> None:
    job = push_job(push_store)
    data = Data(str(push_store.folder), steps=2, rate=2.5, clock="image")
    slow = trained_on(push_store, model, type(job)(job.model, data, job.augment, job.train))
    assert model_rate(slow) == 2.5
    assert model_rate(trained_on(push_store, model, job)) == 5
    # Displacements of every second step would be lost.
    with pytest.raises(SakiyomiError, match=r"'action' tells what is done in each step of 5 Hz; at 2.5 Hz"):
        recorded(slow, push_store, "00006", 1, 3)
    blind = trained_on(push_store, SVG(tiny(action=0, position=0)), slow.job)
    _, pictures = recorded(blind, push_store, "00006", 1, 3)
    np.testing.assert_array_equal(pictures, push_store.values("00006", "image")[2:8:2])


def test_a_recording_that_is_too_short_is_named(push_store: EpisodeStore, trained: Trained) -> None:
    with pytest.raises(SakiyomiError, match=r"'00006' has 10 frames, 11 from frame 0 on.*--steps 8\)"):
        recorded(trained, push_store, "00006", 0, 11)
    assert recorded(trained, push_store, "00006", 0, trained.model.past + 8)[1].shape[0] == 10  # pyright: ignore
    with pytest.raises(SakiyomiError, match="11 from frame 2 on"):
        recorded(trained, push_store, "00006", 2, 11)
    with pytest.raises(SakiyomiError, match="unknown episode '6'"):
        recorded(trained, push_store, "6", 0, 4)


def test_only_models_that_imagine_imagine(push_store: EpisodeStore, trained: Trained) -> None:
    joints = JointRNN(JointRNN.Config())
    other = Trained(trained.job, joints, trained.normalizer, None)
    with pytest.raises(SakiyomiError, match=r"JointRNN cannot go on by itself.*SVG"):
        as_imaginative(other)
    assert as_imaginative(trained) is trained.model


def test_futures_are_pictures_of_the_model(push_store: EpisodeStore, trained: Trained, model: SVG) -> None:
    seen, pictures = recorded(trained, push_store, "00006", 1, 6)
    options = Imagining(steps=4, samples=3, seed=5)
    found = futures(trained, seen, pictures, options)
    wanted = imagine(model, seen, 4, 3, seeded(5))["image"][:, 0]
    assert (found.past, found.rate) == (2, 5)
    assert found.truth is pictures
    assert found.samples.shape == (3, 4, 32, 32, 3)
    np.testing.assert_allclose(found.samples / 255, wanted.movedim(-3, -1).numpy(), atol=0.51 / 255)


def test_rollout_leaves_pictures_of_the_test_split(push_store: EpisodeStore, trained: Trained, tmp_path: Path) -> None:
    paths = rollout_imagined(trained, Imagining(steps=3, samples=2), tmp_path)
    assert [path.name for path in paths] == ["imagined.gif", "imagined.png", "spread.png"]
    assert set(paths) == set(tmp_path.iterdir())
    first = push_store.split("test")[0].id
    again = tmp_path / "again"
    again.mkdir()
    rollout_imagined(trained, Imagining(steps=3, samples=2, episode=first), again)
    for path in paths:
        assert path.read_bytes() == (again / path.name).read_bytes()
    wrongs: tuple[dict[str, Any], ...] = ({"steps": 0}, {"samples": 0}, {"start": -1}, {"seed": -1})
    for wrong in wrongs:
        with pytest.raises(SakiyomiError, match=f"--{next(iter(wrong))} is"):
            rollout_imagined(trained, Imagining(**wrong), tmp_path)


# --- watchdogs

SIGNS = {
    "latent unused": ("validation/kl", Watch().kl, "--train.losses.kl"),
    "past ignored": ("validation/uses_past", Watch().dependence, "--train.teacher-forcing"),
    "actions ignored": ("validation/uses_conditions", Watch().dependence, "actions and frames belong together"),
}
signs = pytest.mark.parametrize("name", SIGNS)


def log(name: str, *values: float | None) -> list[dict[str, float]]:
    """Validations with these values of one sign's measure and healthy ones of the others, between training lines."""
    lines = []
    for step, value in enumerate(values):
        healthy = {measure: 10 * least for other, (measure, least, _) in SIGNS.items() if other != name}
        measured = {} if value is None else {SIGNS[name][0]: value}
        lines += [{"step": step, "total": 0.1, "kl": 0.0}]
        lines += [{"step": step, "validation/total": 0.1, **healthy, **measured}]
    return lines


@signs
def test_a_sign_speaks_after_so_many_validations_in_a_row(name: str) -> None:
    _, least, cure = SIGNS[name]
    low = 0.9 * least
    for count in (1, 2, 4):
        watch = Watch(validations=count)
        assert warnings(log(name, *[low] * (count - 1)), watch) == {}
        for metrics in (log(name, *[low] * count), log(name, 2 * least, *[low] * count)):
            found = warnings(metrics, watch)
            assert list(found) == [name]
            assert cure in found[name]
            assert f"{least:g} for {count} validations" in found[name]
        for above in range(count):
            values = [low] * count
            values[above] = 1.1 * least
            assert warnings(log(name, *values), watch) == {}


@signs
def test_what_is_not_measured_is_no_sign(name: str) -> None:
    low = 0.5 * SIGNS[name][1]
    assert warnings([], Watch()) == {}
    assert warnings(log(name, *[None] * 6), Watch()) == {}
    assert warnings(log(name, low, low, None, low), Watch(validations=4)) == {}
    assert warnings(log(name, *[float("nan")] * 4), Watch(validations=4)) == {}


@signs
def test_the_bounds_can_be_set_and_the_newest_value_is_told(name: str) -> None:
    _, least, _ = SIGNS[name]
    metrics = log(name, *[0.5 * least] * 3, 0.00123 * least)
    assert f"{0.00123 * least:.2g}" in warnings(metrics, Watch(validations=4))[name]
    lower = Watch(kl=0.4 * Watch().kl, dependence=0.4 * Watch().dependence)
    assert warnings(metrics, lower) == {}
    higher = log(name, *[2 * least] * 4)
    assert name in warnings(higher, Watch(kl=3 * Watch().kl, dependence=3 * Watch().dependence))


def test_a_log_does_not_change_by_being_read() -> None:
    metrics = log("past ignored", *[0.0] * 4)
    before = [dict(line) for line in metrics]
    assert warnings(metrics, Watch()) == warnings(metrics, Watch())
    assert metrics == before


# --- what if


def asked(*names: str, **settings: Any) -> Imagining:
    return Imagining(**{"steps": 5, "samples": 2, "what_if": names, **settings})


@pytest.mark.parametrize("start", [0, 2])
def test_the_recorded_actions_lead_to_the_recorded_frames(push_store: EpisodeStore, start: int) -> None:
    """Bit for bit."""
    for episode in ("00000", "00006"):
        actions = push_store.values(episode, "action")[start : start + 7]
        frames = push_store.values(episode, "image")[start : start + 7]
        for past in (1, 2, 5):
            np.testing.assert_array_equal(branch(push_store, episode, start, past, actions), frames)
        other = branch(push_store, episode, start, 2, -actions)
        np.testing.assert_array_equal(other[:2], frames[:2])
        assert (other[2:] != frames[2:]).any((1, 2, 3)).all()


def test_what_if_it_did_what_it_did(push_store: EpisodeStore, trained: Trained) -> None:
    """Its own recording, tried as another one, is the same future, imagined and real."""
    tried = what_if(trained, push_store, "00006", asked("00006", "still"))
    assert list(tried) == [OWN, "00006", "still"]
    own, again, still = tried.values()
    assert np.abs(own.samples.astype(int) - again.samples).max() <= 1
    np.testing.assert_array_equal(own.truth, push_store.values("00006", "image")[:7])
    np.testing.assert_array_equal(again.truth, own.truth)
    assert np.abs(own.samples.astype(int) - still.samples).max() > 0
    assert not np.array_equal(still.truth, own.truth)
    for one in tried.values():
        np.testing.assert_array_equal(one.truth[:2], own.truth[:2])
        assert (len(one.truth), one.samples.shape[:2], one.past) == (7, (1, 5), 2)


def told(model: Adder, trained: Trained, number: int, frames: int) -> dict[str, np.ndarray]:
    """What the `number`-th future was told, in the units of the recording, [T, .]."""
    streams = model.told[number * frames : (number + 1) * frames]
    return {n: trained.normalizer.decode(n, torch.cat([s[n] for s in streams])).numpy() for n in streams[0]}


def test_moves_and_recordings_begin_with_the_last_given_frame(push_store: EpisodeStore) -> None:
    """Until then everything is as it was; then the action is the move, or the other recording's, and the hand goes on
    from where it is."""
    model, trained = adder(push_store)
    names = [*MOVES, "00001"]
    what_if(trained, push_store, "00006", asked(*names, samples=1, start=1))
    frames = 6  # past + steps - 1 are read
    own = {n: push_store.values("00006", n)[1 : 1 + frames] for n in ("action", "position")}
    for number, name in enumerate([OWN, *names]):
        found = told(model, trained, number, frames)
        for stream, value in own.items():
            until = frames if name == OWN else 2 if stream == "position" else 1
            np.testing.assert_allclose(found[stream][:until], value[:until], atol=1e-6)
        if name in MOVES:
            np.testing.assert_allclose(found["action"][1:], np.tile(MOVES[name], (5, 1)), atol=1e-6)
            way = found["position"][1] + np.arange(5)[:, None] * MOVES[name][:3]
            wanted = np.clip(way, WORKSPACE_LOW[:3], WORKSPACE_HIGH[:3])
            np.testing.assert_allclose(found["position"][2:], wanted[1:], atol=1e-6)
        elif name != OWN:
            there = {n: push_store.values(name, n)[1 : 1 + frames] for n in own}
            np.testing.assert_allclose(found["action"][1:], there["action"][1:], atol=1e-6)
            way, wanted = (np.diff(p[1:], axis=0) for p in (found["position"], there["position"]))
            np.testing.assert_allclose(way, wanted, atol=1e-6)


def test_moves_go_where_their_names_say_in_the_picture(push_store: EpisodeStore) -> None:
    """In the world itself, and in what the model is told of where the hand will be."""
    model, trained = adder(push_store)
    world, last = Push(image_size=32), {}
    model.told.clear()
    what_if(trained, push_store, "00006", asked(*MOVES, samples=1, steps=4))
    for number, (name, move) in enumerate(MOVES.items(), 1):
        observation, _ = replay(world, push_store.entry("00006").meta, push_store.values("00006", "action")[:1])
        begin = world.project(observation["position"])
        for _ in range(4):
            observation, *_ = world.step(np.array(move))
        believed = told(model, trained, number, 5)["position"][-1]
        # The arm lags behind its target and may be stopped by an object.
        places = (world.project(observation["position"]), world.project(believed))
        last[name] = [
            (*(place - begin), at[2]) for place, at in zip(places, (observation["position"], believed), strict=True)
        ]
    world.close()
    for way in (0, 1):  # real, told
        assert last["left"][way][0] < -0.03
        assert last["right"][way][0] > 0.03
        assert last["near"][way][1] > last["still"][way][1] > last["away"][way][1]
        assert last["up"][way][2] > last["still"][way][2] + 0.01
        assert abs(last["still"][way][0]) < 0.1


def test_what_cannot_be_tried_is_named(push_store: EpisodeStore, trained: Trained) -> None:
    with pytest.raises(SakiyomiError, match="'lefft': did you mean 'left'"):
        what_if(trained, push_store, "00006", asked("lefft"))
    with pytest.raises(SakiyomiError, match=r"'00099'.*known: .*00007.*left"):
        what_if(trained, push_store, "00006", asked("still", "00099"))
    blind = awake(SVG(tiny(action=0)))
    other = trained_on(push_store, blind, push_job(push_store, action=0))
    with pytest.raises(SakiyomiError, match="told no actions"):
        what_if(other, push_store, "00006", asked("left"))


def test_moves_are_of_the_world_of_push(push_store: EpisodeStore, trained: Trained) -> None:
    """Of other recordings nobody knows what an action is: other recordings' can be tried, moves cannot."""
    elsewhere = EpisodeStore(push_store.folder)
    elsewhere.origin["source"] = "elsewhere"
    with pytest.raises(SakiyomiError, match="--what-if left: moves are known only in the world of Push"):
        what_if(trained, elsewhere, "00006", asked("left", steps=2))
    tried = what_if(trained, elsewhere, "00006", asked("00001", steps=2))
    assert len(tried["00001"].truth) == 2  # what would have happened is not known
    elsewhere.origin["source"] = "record push"
    assert len(what_if(trained, elsewhere, "00006", asked("left", steps=2))["left"].truth) == 4
    assert len(tried[OWN].truth) == 4
