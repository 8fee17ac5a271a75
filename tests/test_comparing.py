"""What is compared, seen through what is noticed: a model that says what it is told to, and errors made up for it."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from watching import Plain, stepped, untrained, values_of

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.windows import Batch
from sakiyomi.errors import SakiyomiError
from sakiyomi.job import Job
from sakiyomi.models import Forecaster, SequenceModel, State, Streams, WindowAE
from sakiyomi.models.base import one_step, squared_error
from sakiyomi.rollout import Trained, load
from sakiyomi.schedules import Progress
from sakiyomi.surprise import Settings, Surprise, held_out


class Prompted(SequenceModel):
    """Says of the next `value` [.., C] what the stream `said` tells it to, and that it may be off by `off`."""

    inputs = ("value", "said", "off")
    outputs = ("value",)

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shapes = dict.fromkeys(self.inputs, (channels,))
        self.gain = torch.nn.Parameter(torch.ones(()))

    def initial(self, batch_size: int) -> State:
        return {}

    def step(self, observation: Streams, state: State) -> tuple[Streams, State]:
        return one_step(self, observation, state)

    def unroll(self, observations: Streams, state: State | None = None) -> tuple[Streams, State]:
        return {"value": self.gain * observations["said"], "value.deviation": observations["off"]}, {}

    def loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        return {"value": squared_error(self.unroll(batch.inputs)[0]["value"], batch.targets["value"])}


class Grey(SequenceModel):
    """Expects every picture to be grey."""

    inputs = outputs = ("image",)

    def __init__(self) -> None:
        super().__init__()
        self.shapes = {"image": (3, 16, 16)}
        self.grey = torch.nn.Parameter(torch.tensor(0.5))

    def initial(self, batch_size: int) -> State:
        return {}

    def step(self, observation: Streams, state: State) -> tuple[Streams, State]:
        return one_step(self, observation, state)

    def unroll(self, observations: Streams, state: State | None = None) -> tuple[Streams, State]:
        return {"image": self.grey.expand_as(observations["image"])}, {}

    def loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        return {"image": squared_error(self.unroll(batch.inputs)[0]["image"], batch.targets["image"])}


def as_trained(model: SequenceModel) -> Trained:
    """The Job is not read: the model is made here."""
    job = Job(model=Forecaster.Config(channels=1))
    return Trained(job, model.eval(), Plain({}), None)  # pyright: ignore[reportArgumentType]


def prompted(said: np.ndarray, errors: np.ndarray, off: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """A recording [T, C] in which step t was foretold as `said[t]`, give or take `off[t]`, and was off by `errors[t]`.
    What is read at a step is what to say of the next one."""
    off = np.ones_like(said) if off is None else off
    told = {"value": said + errors, "said": np.roll(said, -1, 0), "off": np.roll(off, -1, 0)}
    return {name: values.astype(np.float32) for name, values in told.items()}


def test_an_error_counts_in_units_of_the_deviation_that_was_said() -> None:
    """Noise that comes and goes, and a model that says when."""
    random = np.random.default_rng(0)
    off = np.where(random.uniform(size=(900, 1)) < 0.5, 0.1, 3.0)
    surprise = Surprise.learn(as_trained(Prompted(1)), [prompted(0 * off, off * random.normal(size=off.shape), off)])
    off, errors = np.full((60, 1), 0.1), np.zeros((60, 1))
    errors[[30, 50]], off[30] = 3.0, 3.0
    scores = surprise.read(prompted(np.zeros((60, 1)), errors, off)).scores
    assert scores[30] < 1
    assert scores[50] > surprise.threshold


def test_deviations_and_expectations_are_in_the_streams_own_units(sensor_run: Path, sensor_store: EpisodeStore) -> None:
    trained = load(sensor_run)
    values = values_of(sensor_store, "test")[:300]
    surprise = Surprise.learn(trained, held_out(trained, sensor_store, "validation"), Settings(rate=0.01))
    readings = surprise.read({"value": values})
    scale = trained.normalizer.scales["value"]
    mean, std = np.array(scale.mean), np.array(scale.std)
    assert std > 1.5  # or this test could not tell
    with torch.inference_mode():
        said, _ = trained.model.unroll({"value": torch.from_numpy((values - mean) / std).float()[None]})
    plain = {name: value[0, :-1].double().numpy() for name, value in said.items()}  # of the next step
    np.testing.assert_allclose(readings.deviations["value"][1:], plain["value.deviation"] * std, rtol=1e-3)
    np.testing.assert_allclose(readings.expected["value"][1:], plain["value"] * std + mean, rtol=1e-3)
    assert np.isnan(readings.expected["value"][0]).all()


def test_an_error_is_foreseen_from_the_last_two() -> None:
    """Errors that swing with a period of four steps: the last one alone says nothing of the next."""
    random = np.random.default_rng(0)

    def errors_of(steps: int) -> np.ndarray:
        errors = random.normal(size=(steps, 1))
        for step in range(2, steps):
            errors[step] = -0.98 * errors[step - 2] + 0.2 * errors[step]
        return errors

    surprise = Surprise.learn(as_trained(Prompted(1)), [prompted(10 * random.normal(size=(900, 1)), errors_of(900))])
    errors = errors_of(60)
    calm = surprise.read(prompted(np.zeros((60, 1)), errors))
    at = int(np.abs(errors[40:]).argmax()) + 40
    errors[at] *= -1  # as large as ever, but the wrong way
    readings = surprise.read(prompted(np.zeros((60, 1)), errors))
    assert abs(errors[at]) > 0.5
    assert readings.signals["value.change"][at] > surprise.threshold
    assert calm.signals["value.change"][at] < 2
    assert readings.signals["value"][at] < 2


def test_how_large_an_error_may_be_depends_on_how_fast_the_model_says_it_goes() -> None:
    """In either direction, in each of six channels: only how far counts."""
    random = np.random.default_rng(0)

    def recording(steps: int, speed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is said and how far it is off, [T, C]; the next value is `speed` [T, 1] from where the last one was."""
        value, said, errors = np.zeros(6), [], []
        for fast in speed:
            going = fast * random.choice([-1.0, 1.0], 6)
            going = np.where(np.abs(value + going) > 5, -going, going)
            said.append(value + going)
            errors.append(0.1 * fast * random.normal(size=6))
            value = said[-1] + errors[-1]
        return np.array(said), np.array(errors)

    speed = np.where(random.uniform(size=(1500, 1)) < 0.5, 0.1, 1.0)
    surprise = Surprise.learn(as_trained(Prompted(6)), [prompted(*recording(1500, speed))], Settings(rate=0.01))
    found = {}
    for fast in (0.1, 1.0):
        said, errors = recording(60, np.full((60, 1), fast))
        odd = errors[50] / np.abs(errors[50]) * 0.1  # as is normal in fast motion
        said[51:] += odd - errors[50]
        errors[50] = odd
        found[fast] = surprise.read(prompted(said, errors)).signals["value"][50]
    assert found[0.1] > surprise.threshold
    assert found[1.0] < 1.5


def test_one_cell_of_a_picture_is_enough() -> None:
    """A corner a little brighter is noticed; the same energy all over the picture is less strange."""
    random = np.random.default_rng(0)
    pictures = (0.5 + 0.05 * random.normal(size=(1240, 3, 16, 16))).astype(np.float32)
    surprise = Surprise.learn(as_trained(Grey()), [{"image": pictures[:1200]}], Settings(rate=0.002, spans=(1,)))
    found = {}
    for name, (cells, more) in {"corner": (4, 0.08), "everywhere": (16, 0.02)}.items():
        seen = pictures[1200:].copy()
        seen[10::5, :, :cells, :cells] += more
        found[name] = surprise.read({"image": seen}).signals["image"][10::5]
    assert np.median(found["corner"]) > surprise.threshold
    assert np.median(found["corner"]) > np.median(found["everywhere"]) + 1


@pytest.mark.parametrize("seed", range(2))
def test_little_data_and_many_numbers_raise_as_many_alarms_as_asked_for(seed: int) -> None:
    """300 steps of a latent of 40 numbers: what is learned from these steps fits them better than it fits new ones."""
    random, rate = np.random.default_rng(seed), 0.04
    trained = untrained(WindowAE, channels=2, window=2, hidden=64, latent=40)
    seen, new = (random.normal(size=(steps, 2)).astype(np.float32) for steps in (300, 4000))
    surprise = Surprise.learn(trained, [{"value": seen}], Settings(rate, spans=(1,)))
    assert rate / 2.5 < surprise.read({"value": new}).alarms.mean() < 2.5 * rate


def test_little_data_of_many_channels_errs_on_the_quiet_side() -> None:
    """300 steps of 40 channels, each foreseen from 161 numbers: what a part of them teaches is worth less than what all
    of them do, so that alarms are fewer than asked for, but never more."""
    random, rate = np.random.default_rng(0), 0.04
    trained = untrained(Forecaster, channels=40, hidden=8)
    seen, new = (random.normal(size=(steps, 40)).astype(np.float32) for steps in (300, 4000))
    surprise = Surprise.learn(trained, [{"value": seen}], Settings(rate))
    assert rate / 20 < surprise.read({"value": new}).alarms.mean() < 1.5 * rate


def test_what_one_recording_ends_with_is_not_carried_into_the_next() -> None:
    """Recordings that end in a shift. Ranks are over these very steps: as many alarms as were asked for, if and only if
    each was ranked as it is read, apart."""
    random = np.random.default_rng(0)
    trained = untrained(Forecaster, channels=1, hidden=8)
    recordings = [random.normal(size=(60, 1)).astype(np.float32) for _ in range(40)]
    for recording in recordings:
        recording[-2:] += 15
    surprise = Surprise.learn(trained, ({"value": values} for values in recordings), Settings(rate=0.1))
    told = np.concatenate([surprise.read({"value": values}).signals["value/5"][1:] for values in recordings])
    assert 0.08 < (told >= surprise.threshold).mean() < 0.12


def persistence() -> Trained:
    """A forecaster that says the next value is the last one."""
    trained = untrained(Forecaster, channels=1, hidden=8)
    for parameter in trained.model.change.parameters():  # pyright: ignore[reportAttributeAccessIssue]
        parameter.data.zero_()
    return trained


def test_after_a_broken_value_the_model_goes_on_from_what_it_expected() -> None:
    """Far from zero: to go on from nothing would be a jump there and one back."""
    values = (50 + 0.1 * np.random.default_rng(0).normal(size=(1300, 1))).astype(np.float32)
    surprise = Surprise.learn(persistence(), [{"value": values[:1000]}], Settings(rate=0.005))
    state, readings = surprise.begin(), []
    for step, value in enumerate(values[1000:]):
        reading, state = surprise.step({"value": value * np.nan if step in (100, 101, 200) else value}, state)
        readings.append(reading)
    assert {step for step, one in enumerate(readings) if one.score == math.inf} == {100, 101, 200}
    after = [readings[step].score for start in (102, 201) for step in range(start, start + 20)]
    assert max(after) < 3.5
    assert np.mean(after) < 1


def swinging(steps: int, seed: int) -> np.ndarray:
    """A sensor that drifts about 0, [T, 1]."""
    random, values = np.random.default_rng(seed), np.zeros((steps, 1), np.float32)
    for step in range(1, steps):
        values[step] = 0.95 * values[step - 1] + random.normal()
    return values


def test_a_sensor_that_freezes_is_noticed_in_time_but_not_at_once() -> None:
    """To stand still for some steps happens to every sensor."""
    surprise = Surprise.learn(persistence(), [{"value": swinging(13_000, 0)}], Settings(rate=0.002))
    noticed = []
    for start in range(100, 120):
        values = swinging(200, start)
        values[start:] = values[start - 1]
        told = surprise.read({"value": values}).signals["value.change.still"]
        noticed.append(int((told[start:] >= surprise.threshold).argmax()))
        assert told[start:].max() >= surprise.threshold
    assert min(noticed) >= 5
    assert max(noticed) < 60


@pytest.mark.parametrize("huge", [3e38, -1e30, 1e12])
def test_a_wild_value_is_an_alarm_that_ends(huge: float) -> None:
    values = swinging(6200, 0)
    surprise = Surprise.learn(persistence(), [{"value": values[:6000]}], Settings(rate=0.005))
    seen = values[6000:].copy()
    seen[100] = huge
    calm = surprise.read({"value": values[6000:]}).alarms
    for scores in (surprise.read({"value": seen}).scores, stepped(surprise, {"value": seen})):
        assert scores[100] > 5
        assert not np.isnan(scores).any()
        np.testing.assert_array_equal((scores >= surprise.threshold)[131:], calm[131:])


def test_a_sensor_that_dies_with_a_wild_value_is_seen_to_stand_still() -> None:
    values = swinging(6200, 0)
    surprise = Surprise.learn(persistence(), [{"value": values[:6000]}], Settings(rate=0.005))
    seen = values[6000:].copy()
    seen[100], seen[101:] = 1e12, seen[99]
    for scores in (surprise.read({"value": seen}).scores, stepped(surprise, {"value": seen})):
        assert (scores[180:] >= surprise.threshold).all()


def test_a_calibration_is_of_its_own_weights_alone(tmp_path: Path) -> None:
    trained = untrained(Forecaster, channels=1, hidden=8)
    path = str(tmp_path / "surprise.json")  # text is a path, too
    Surprise.learn(trained, [{"value": swinging(300, 0)}]).save(path)
    assert Surprise.load(path, trained).steps == 299
    with torch.no_grad():
        trained.model.change.bias += 1e-6  # pyright: ignore[reportOperatorIssue, reportAttributeAccessIssue]
    with pytest.raises(SakiyomiError, match="other weights"):
        Surprise.load(path, trained)
    with pytest.raises(SakiyomiError, match="other weights"):
        Surprise.load(path, untrained(Forecaster, channels=1, hidden=9))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.array(["a", "b"]), "expected numbers"),
        (np.array([None, 1.0], dtype=object), "expected numbers"),
        (np.zeros((1, 2)), "expected numbers"),
        (np.zeros(()), "expected numbers"),
        (np.zeros(3), "the model was built for"),
    ],
)
def test_what_is_no_value_of_the_stream_is_told(value: np.ndarray, told: str) -> None:
    trained = untrained(Forecaster, channels=2, hidden=8)
    surprise = Surprise.learn(trained, [{"value": np.random.default_rng(0).normal(size=(100, 2))}])
    with pytest.raises(SakiyomiError, match=told):
        surprise.step({"value": value}, surprise.begin())
    with pytest.raises(SakiyomiError, match=told):
        surprise.read({"value": np.stack([value] * 30)})
