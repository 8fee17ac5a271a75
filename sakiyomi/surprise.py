"""Surprise: prediction error as a calibrated alarm, over any trained model, for a sensor series as for a robot.

    surprise = Surprise.learn(trained, held_out(trained, store, "validation"), Settings(rate=0.001))
    reading, watching = surprise.step({"value": value}, watching)  # one value in, one score out, constant memory
    readings = surprise.read({"value": values})  # the same scores at once

What a model says of the world is compared with what the world then does, stream by stream: the error of each
prediction (in units of the deviation the model predicts, if it does), of a picture the error of each cell of a grid,
and where the model has a latent z, z itself. Of each such vector two things may be strange: where it lies, and where it
went from what a linear model expects after the last two. Both are Mahalanobis distances from normal data (Malhotra et
al. 2016 for errors, Lee et al. 2018 for latents), over how large they normally are where the model says it is: an arm
in motion is further off than one at rest. Distances are also taken of the mean over the last steps, which shows what is
small but lasts (MEWMA; Lowry et al. 1992); and too little change for too long is strange as well. Each becomes the
chance of one as large: ranks on held-out normal data, and beyond them a generalised Pareto tail (Pickands 1975; Siffer
et al. 2017). What is learned and what is ranked are different fifths of that data in turn. The most surprising of all
is ranked once more by the same means, so that the score is

    score = -log10(chance of a step as surprising as this one in normal operation)

and an alarm at a false-alarm rate r is a score of at least -log10(r), whatever the model and however many streams.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
import torch
from scipy.signal import lfilter
from torch import Tensor

from sakiyomi.comparing import Compared, Past, compare, compared_with, encoded, joined, some_of
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.windows import Windows
from sakiyomi.errors import SakiyomiError
from sakiyomi.files import write_atomic
from sakiyomi.models import State, Streams
from sakiyomi.rollout import Trained
from sakiyomi.scores.normality import Normal, Place, Tail, length

STILL, TYPICAL = 24, 1.0  # steps over which too little change is told; the mean length of a change before the first
FOLDS = 5
FAR, NEAR = 1e6, 20.0  # deviations: no number counts as further off, alone and in a mean, where it would stay long
LEAST = 50  # steps of normal data, or there is nothing to calibrate on


@dataclass(frozen=True)
class Settings:
    """When to raise the alarm."""

    rate: float = 0.001
    """False alarms a step in normal operation, 0..0.5."""
    spans: tuple[int, ...] = (1, 5)
    """Steps over which vectors are averaged (exponentially) before their length is taken, each a signal of its own; 1
    is the step alone. Longer ones notice what is small but lasts."""
    still: bool = True
    """Too little change is strange, too, such as a sensor that says the same for ever."""
    cells: int = 4
    """Pictures are compared cell by cell, so many along each side."""


@dataclass(frozen=True)
class Watching:
    """What a stream of observations has led to: the state of `Surprise.step`."""

    state: State
    past: Past | None
    steps: int
    means: dict[str, np.ndarray]
    """Of each whitened vector over each span, [spans, F]."""
    sizes: dict[str, float]
    """The mean length of each, over STILL steps."""


@dataclass(frozen=True)
class Reading:
    """How surprising one step was."""

    score: float
    """-log10 of the chance of a step like this in normal operation; 0 while the model is warming up."""
    alarm: bool
    signals: dict[str, float]
    """The same of each signal alone: `joints` (where it lies), `joints.change` (where it went), `joints/5` (mean over
    5 steps), `joints.change.still` (too little change), `latent`."""


@dataclass(frozen=True)
class Readings:
    """How surprising the steps of a recording were."""

    scores: np.ndarray
    """[T]"""
    alarms: np.ndarray
    """bool [T]"""
    signals: dict[str, np.ndarray]
    """[T] each."""
    expected: dict[str, np.ndarray]
    """What the model said of each step, in the stream's own unit, [T, ...]; NaN where it had not yet said anything.
    Pictures are left out."""
    deviations: dict[str, np.ndarray]
    """How sure it was, where it says: standard deviation in the stream's own unit, [T, ...]."""


class Scored(Protocol):
    """What has scores [T] and alarms [T]: readings of `Surprise`, or of `OnlineSurprise`."""

    @property
    def scores(self) -> np.ndarray: ...

    @property
    def alarms(self) -> np.ndarray: ...


@dataclass(frozen=True)
class Alarm:
    """A stretch of alarm."""

    start: float
    end: float
    """Of the last step in it; seconds."""
    peak: float
    """The largest score in it."""


@dataclass(frozen=True)
class Surprise:
    """A trained model that watches. Frozen: the state goes in and comes out."""

    trained: Trained
    settings: Settings
    place: Place
    normals: dict[str, Normal]
    tails: dict[str, Tail]
    combined: Tail
    steps: int
    """Steps of normal data it was calibrated on."""
    weights: str
    """Digest of the model's weights: the calibration is theirs alone."""

    @property
    def threshold(self) -> float:
        """The score of an alarm."""
        return -math.log10(self.settings.rate)

    @classmethod
    def learn(
        cls, trained: Trained, recordings: Iterable[Mapping[str, np.ndarray]], settings: Settings | None = None
    ) -> "Surprise":
        """Calibrate on recordings of normal operation that the model did not learn from: stream -> values [T, ...] in
        their own units, at the model's rate. Raises SakiyomiError when there are too few steps to tell what is normal.
        """
        settings = settings or Settings()
        _check(settings)
        every = [compared_with(trained, recording, settings.cells) for recording in recordings]
        lengths = [len(one.said) for one in every]
        if sum(lengths) < LEAST:
            raise SakiyomiError(
                f"{sum(lengths)} steps of normal data after warming up ({trained.model.warmup + 1} a recording): too "
                f"few to tell what is normal, at least {LEAST}; give more or longer recordings"
            )
        settings = _supported(settings, sum(lengths))
        whole = joined(every)
        fold = np.arange(len(whole.said)) * FOLDS // len(whole.said)
        white = {name: np.zeros_like(whole.vectors[name.split(".")[0]]) for name in _names(whole)}
        for number in range(FOLDS):
            place, normals = _normals(some_of(whole, fold != number))
            for name, values in _whitened(place, normals, some_of(whole, fold == number)).items():
                white[name][fold == number] = values
        cuts = np.cumsum(lengths)[:-1]
        apart = {name: np.split(values, cuts) for name, values in white.items()}
        parts = [
            _signals({name: values[number] for name, values in apart.items()}, settings) for number in range(len(every))
        ]
        signals = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        tails = {name: Tail.fit(values) for name, values in signals.items()}
        most = np.max([tails[name].surprise(values) for name, values in signals.items()], axis=0)
        return cls(trained, settings, *_normals(whole), tails, Tail.fit(most), len(most), digest(trained))

    def begin(self) -> Watching:
        """Before the first step."""
        spans = len(self.settings.spans)
        means = {name: np.zeros((spans, normal.white.shape[1])) for name, normal in self.normals.items()}
        return Watching(self.trained.model.initial(1), None, 0, means, dict.fromkeys(self.normals, TYPICAL))

    @torch.inference_mode()
    def step(self, observation: Mapping[str, np.ndarray], watching: Watching) -> tuple[Reading, Watching]:
        """One step of every stream in its own unit ([C]; pictures uint8 [H, W, 3]). What is not finite is an alarm, and
        the model goes on from what it expected. Raises SakiyomiError for a missing stream."""
        seen = encoded(self.trained, {name: np.asarray(value)[None] for name, value in observation.items()})
        broken = not all(bool(value.isfinite().all()) for value in seen.values())
        if broken:
            seen = {name: _or_expected(name, value, watching.past) for name, value in seen.items()}
        model = self.trained.model
        prediction, state = model.step({name: value[0] for name, value in seen.items()}, watching.state)
        prediction = {name: value[:, None] for name, value in prediction.items()}
        counts = watching.steps > model.warmup
        compared, past = compare(model, prediction, seen, watching.past, self.settings.cells, 0 if counts else 1)
        watching = replace(watching, state=state, past=past, steps=watching.steps + 1)
        if not counts:
            return Reading(math.inf if broken else 0.0, broken, {}), watching
        share = 1 / np.array(self.settings.spans)[:, None]
        means, sizes, signals = {}, {}, {}
        for name, white in _whitened(self.place, self.normals, compared).items():
            near = np.clip(white, -NEAR, NEAR)
            means[name] = watching.means[name] * (1 - share) + near * share
            for span, value in zip(self.settings.spans, length(means[name]), strict=True):
                signals[_signal(name, span)] = length(white)[0] if span == 1 else value
            if _may_be_still(name, self.settings):
                sizes[name] = watching.sizes[name] + (float(length(near)[0]) - watching.sizes[name]) / STILL
                signals[f"{name}.still"] = -sizes[name]
        told = {name: float(self.tails[name].surprise(np.array(value))) for name, value in signals.items()}
        score = math.inf if broken else float(self.combined.surprise(np.array(max(told.values()))))
        return Reading(score, score >= self.threshold, told), replace(watching, means=means, sizes=sizes)

    def read(self, recording: Mapping[str, np.ndarray]) -> Readings:
        """A whole recording at once: stream -> values [T, ...] in its own unit, all finite; the scores that `step`
        gives."""
        compared = compared_with(self.trained, recording, self.settings.cells)
        quiet = np.zeros(len(next(iter(recording.values()))) - len(compared.said))
        signals = _signals(_whitened(self.place, self.normals, compared), self.settings)
        told = {name: self.tails[name].surprise(values) for name, values in signals.items()}
        scores = np.concatenate((quiet, self.combined.surprise(np.max(list(told.values()), axis=0))))
        told = {name: np.concatenate((quiet, values)) for name, values in told.items()}
        expected, deviations = _in_units(self.trained, compared.expected)
        return Readings(scores, scores >= self.threshold, told, expected, deviations)

    def save(self, path: str | Path) -> None:
        """Write the calibration as JSON; the model stays in its run folder."""
        content = {
            "settings": self.settings,
            "place": _plain(self.place),
            "normals": {name: _plain(normal) for name, normal in self.normals.items()},
            "tails": {name: _plain(tail) for name, tail in self.tails.items()},
            "combined": _plain(self.combined),
            "steps": self.steps,
            "weights": self.weights,
        }
        write_atomic(Path(path), msgspec.json.format(msgspec.json.encode(content)))

    @classmethod
    def load(cls, path: str | Path, trained: Trained) -> "Surprise":
        """Raises SakiyomiError for a file that is no calibration, and for one of other weights."""
        path = Path(path)
        try:
            content = msgspec.json.decode(path.read_bytes(), type=_Content, dec_hook=_array)
        except (OSError, msgspec.DecodeError, ValueError, KeyError) as error:
            raise SakiyomiError(f"{path} holds no calibration of surprise: {error}; learn it anew") from error
        c = content
        _check(c.settings)
        if c.weights != digest(trained):
            raise SakiyomiError(f"{path} was learned for other weights than this model's; learn it anew")
        return cls(trained, c.settings, c.place, c.normals, c.tails, c.combined, c.steps, c.weights)


class _Content(msgspec.Struct):
    settings: Settings
    place: Place
    normals: dict[str, Normal]
    tails: dict[str, Tail]
    combined: Tail
    steps: int
    weights: str


def digest(trained: Trained) -> str:
    """SHA-256 of a model's weights."""
    found = hashlib.sha256()
    for name, value in sorted(trained.model.state_dict().items()):
        found.update(name.encode())
        found.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _supported(settings: Settings, steps: int) -> Settings:
    """The settings without those means that so many steps of normal data cannot rank: of N steps there are N / span
    that do not overlap, and the rate asks for some of them."""
    spans = tuple(span for span in settings.spans if span == min(settings.spans) or steps * settings.rate >= span)
    return replace(settings, spans=spans, still=settings.still and steps * settings.rate >= STILL)


def _array(kind: type, value: object) -> np.ndarray:
    """A list of JSON as the array it was; `shape` is kept, as an empty one would lose it."""
    if kind is not np.ndarray or not isinstance(value, dict):
        raise ValueError(f"expected an array, got {value!r:.40}")
    return np.array(value["values"], dtype=np.float64).reshape(value["shape"])


def _plain(record: Place | Normal | Tail) -> dict[str, object]:
    return {
        name: {"shape": value.shape, "values": value.ravel().tolist()} if isinstance(value, np.ndarray) else value
        for name, value in vars(record).items()
    }


def held_out(trained: Trained, store: EpisodeStore, split: str) -> Iterator[dict[str, np.ndarray]]:
    """The recordings of a split at the model's rate, for `Surprise.learn` and `read`: stream -> [T, ...]."""
    whole = replace(trained.job.data, steps=0, episodes=0)
    windows = Windows(store, split, whole, trained.model.inputs, trained.normalizer)
    series = {name: windows.series(name) for name in trained.model.inputs}
    for index in range(len(windows)):
        yield {name: values[index] for name, values in series.items()}


def intervals(times: np.ndarray, readings: Scored, join: float = 0.0) -> list[Alarm]:
    """Stretches of alarm; those no more than `join` seconds apart are one. `times` [T] in seconds."""
    found: list[Alarm] = []
    for index in np.flatnonzero(readings.alarms):
        at, score = float(times[index]), float(readings.scores[index])
        near = found and (at - found[-1].end <= join or (index > 0 and readings.alarms[index - 1]))
        if near:
            found[-1] = Alarm(found[-1].start, at, max(found[-1].peak, score))
        else:
            found.append(Alarm(at, at, score))
    return found


def _check(settings: Settings) -> None:
    if not 0 < settings.rate <= 0.5:
        raise SakiyomiError(f"a false-alarm rate of {settings.rate:g} a step; it must be more than 0 and at most 0.5")
    if not settings.spans or min(settings.spans) < 1:
        raise SakiyomiError(f"spans are {list(settings.spans)} steps; give at least one, each at least 1")
    if settings.cells < 1:
        raise SakiyomiError(f"{settings.cells} cells along a picture's side; it must be at least 1")


def _or_expected(name: str, value: Tensor, past: Past | None) -> Tensor:
    """What was seen [1, 1, ...], or where that is not finite what was expected, or nothing at all."""
    expected = past.prediction.get(name) if past else None
    return torch.where(value.isfinite(), value, torch.zeros_like(value) if expected is None else expected)


def _names(compared: Compared) -> list[str]:
    """Each vector twice: where it lies, and where it went."""
    return [name for vector in compared.vectors for name in (vector, f"{vector}.change")]


def _normals(compared: Compared) -> tuple[Place, dict[str, Normal]]:
    place = Place.fit(compared.said)
    numbers = place.numbers(compared.said)
    normals = {}
    for name, vectors in compared.vectors.items():
        there = numbers if name != "latent" else numbers[:, :0]
        normals[name] = Normal.fit(vectors, np.zeros((len(vectors), 0)), there)
        normals[f"{name}.change"] = Normal.fit(vectors, compared.before[name], there)
    return place, normals


def _whitened(place: Place, normals: Mapping[str, Normal], compared: Compared) -> dict[str, np.ndarray]:
    """[T, F] each, by the names of `_names`."""
    numbers = place.numbers(compared.said)
    found = {}
    for name, vectors in compared.vectors.items():
        found[name] = normals[name].whitened(vectors, np.zeros((len(vectors), 0)), numbers)
        found[f"{name}.change"] = normals[f"{name}.change"].whitened(vectors, compared.before[name], numbers)
    return {name: np.clip(np.nan_to_num(values, nan=FAR), -FAR, FAR) for name, values in found.items()}


def _signals(white: Mapping[str, np.ndarray], settings: Settings) -> dict[str, np.ndarray]:
    """Whitened vectors of a recording [T, F] each -> what is ranked, [T] each."""
    signals = {}
    for name, vectors in white.items():
        for span in settings.spans:
            signals[_signal(name, span)] = length(_averaged(vectors, span))
        if _may_be_still(name, settings):
            start = np.array([(1 - 1 / STILL) * TYPICAL])
            near = length(np.clip(vectors, -NEAR, NEAR))
            signals[f"{name}.still"] = -lfilter([1 / STILL], [1, 1 / STILL - 1], near, zi=start)[0]
    return signals


def _may_be_still(name: str, settings: Settings) -> bool:
    """Whether too little change is told of this vector, too."""
    return settings.still and name.endswith(".change") and not name.startswith("latent")


def _averaged(white: np.ndarray, span: int) -> np.ndarray:
    """Vectors [T, F] over a span: an exponential mean of the past that begins with nothing strange."""
    near = np.clip(white, -NEAR, NEAR)
    return white if span == 1 else np.asarray(lfilter([1 / span], [1, 1 / span - 1], near, axis=0))


def _signal(name: str, span: int) -> str:
    return name if span == 1 else f"{name}/{span}"


def _in_units(trained: Trained, said: Streams) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Predictions [1, T, C] in the streams' own units, and their deviations: [T, C] each."""
    expected, deviations = {}, {}
    for name in trained.model.outputs:
        if name in said:
            value = said[name][0].double()
            expected[name] = trained.normalizer.decode(name, value).numpy(force=True)
            if f"{name}.deviation" in said:
                above = trained.normalizer.decode(name, value + said[f"{name}.deviation"][0])
                deviations[name] = above.numpy(force=True) - expected[name]
    return expected, deviations
