"""Named runs on sound: functions that return a Preset, as in presets.py.

sakiyomi train spoken-digits
"""

from dataclasses import replace

from sakiyomi.data.sources.an4 import An4
from sakiyomi.data.sources.digit_clips import DigitClips
from sakiyomi.data.sources.spoken_digits import SpokenDigits
from sakiyomi.data.sources.subtasks import SubTasks
from sakiyomi.data.sources.tone_clips import ToneClips
from sakiyomi.data.sources.tones import Tones
from sakiyomi.data.windows import Data
from sakiyomi.job import Job, Preset, Train
from sakiyomi.models import BLSTMRecognizer, ConvRecognizer, WaveNet
from sakiyomi.models.recognizer import Hide
from sakiyomi.presets_text import READ_AS_IT_IS
from sakiyomi.schedules import LearningRate, Weight


def spoken_digits() -> Preset:
    """Digits of a speaker who was never heard, read from while they are said."""
    letters = an4()
    train = replace(letters.job.train, steps=4000)
    model = ConvRecognizer.Config(channels=96, dropout=0.2, hide=Hide(times=1, frames=0.05, bands=2, width=0.15))
    job = replace(letters.job, model=model, data=Data("data/spoken-digits", clock="feature"), train=train)
    return Preset("strings of spoken digits; causal convolutions and CTC, hears as you speak", SpokenDigits(), job)


def tones() -> Preset:
    """Made by a rule; a minute on one core."""
    digits = spoken_digits()
    train = replace(digits.job.train, steps=500, validate_every=100)
    model = ConvRecognizer.Config(channels=48, dilations=(1, 2, 4))
    job = replace(digits.job, model=model, data=Data("data/tones", clock="feature"), train=train)
    return Preset("melodies in noise: a recogniser without any data", Tones(), job)


def pick_subtasks() -> Preset:
    """The second use of CTC: what an arm is doing, learned from lists of sub-tasks without times."""
    digits = spoken_digits()
    train = replace(digits.job.train, steps=1000, validate_every=100)
    # What is hidden of joints would be a joint or two; of time, the sub-task itself.
    model = ConvRecognizer.Config(channels=64, dilations=(1, 2, 4, 1, 2, 4), hide=Hide(times=0, bands=0))
    job = replace(digits.job, model=model, data=Data("data/pick-subtasks", clock="feature"), train=train)
    return Preset("sub-tasks of arm demonstrations, learned without times; causal CTC", SubTasks(), job)


def an4() -> Preset:
    """Letters, numbers and commands of 74 speakers, letter by letter."""
    train = Train(
        steps=2500,
        batch_size=16,
        learning_rate=LearningRate(peak=2e-3, warmup=100, decay="cosine"),
        losses={"transcript": Weight(1.0)},
        keep="transcript",
        validate_every=100,
        save_every=1000,
        log_every=50,
        precision="bfloat16",
    )
    data = Data("data/an4", clock="feature")
    job = Job(
        model=BLSTMRecognizer.Config(channels=192, dropout=0.4, hide=Hide(frames=0.1, width=0.2)),
        data=data,
        augment=READ_AS_IT_IS,
        train=train,
    )
    return Preset("AN4, letters and numbers of 74 speakers; BLSTM and CTC", An4(), job)


def say_digits() -> Preset:
    """A digit in the voice of one of five speakers, sample by sample; twenty minutes on one core."""
    train = Train(
        steps=5000,
        batch_size=4,
        learning_rate=LearningRate(peak=4e-3, warmup=200, decay="cosine"),
        losses={"sample": Weight(1.0)},
        keep="sample",
        validate_every=500,
        save_every=500,
        log_every=50,
        precision="bfloat16",
    )
    # It hears 260 ms: how far into the word it is, and closely what was last.
    near, far = tuple(2**n for n in range(5)), tuple(2**n for n in range(11))
    model = WaveNet.Config(channels=64, skip=128, dilations=far + near)
    data = Data("data/say-digits", steps=6000, clock="sample")
    job = Job(model=model, data=data, augment=READ_AS_IT_IS, train=train)
    return Preset("spoken digits, said sample by sample in a voice of your choice; WaveNet", DigitClips(), job)


def say_tones() -> Preset:
    """Made by a rule; a minute on one core."""
    digits = say_digits()
    rate = LearningRate(peak=1e-2, warmup=20, decay="cosine")
    train = replace(digits.job.train, steps=400, batch_size=8, learning_rate=rate, validate_every=100)
    model = WaveNet.Config(channels=32, skip=64, dilations=(1, 2, 4, 8, 16, 32, 64))
    job = replace(digits.job, model=model, data=Data("data/say-tones", clock="sample"), train=train)
    return Preset("tones: a voice without any data", ToneClips(), job)
