"""Named runs on text: functions that return a Preset, as in presets.py.

sakiyomi train translate --train.steps 2000
"""

from dataclasses import replace

from sakiyomi.data.augment import Augment
from sakiyomi.data.sources.generated_pairs import GeneratedPairs
from sakiyomi.data.sources.text import PlainText, SentencePairs
from sakiyomi.data.windows import Data
from sakiyomi.job import Job, Preset, Train
from sakiyomi.models import BERT, GPT, Seq2Seq, Transformer
from sakiyomi.schedules import LearningRate, Weight

READ_AS_IT_IS = Augment(joints=0, image=0)
SMOOTH = {"target": Weight(0.9), "uniform": Weight(0.1)}  # label smoothing of 0.1


def translate_gru() -> Preset:
    """Read with one GRU, write with another; all that is known of the source is one vector."""
    train = Train(
        steps=4000,
        batch_size=128,
        learning_rate=LearningRate(peak=2e-3, warmup=200, decay="cosine"),
        losses={"target": Weight(1.0), "uniform": Weight(0.0)},
        keep="target",
        validate_every=250,
        save_every=1000,
        log_every=50,
        precision="bfloat16",
    )
    job = Job(
        model=Seq2Seq.Config(dropout=0.3),
        data=Data("data/translate", clock="target"),
        augment=READ_AS_IT_IS,
        train=train,
    )
    return Preset("English to Japanese, 50,000 pairs; two GRUs", SentencePairs(least=2), job)


def translate_attention() -> Preset:
    plain = translate_gru()
    job = replace(plain.job, model=Seq2Seq.Config(attention=True, dropout=0.3))
    return replace(plain, description="the same; each word looks back at the source", job=job)


def translate() -> Preset:
    """A Transformer of the same sentences."""
    plain = translate_gru()
    rate = LearningRate(peak=1e-3, warmup=500, decay="cosine")
    train = replace(plain.job.train, steps=6000, learning_rate=rate, losses=SMOOTH)
    job = replace(plain.job, model=Transformer.Config(dropout=0.3), train=train)
    return replace(plain, description="English to Japanese, 50,000 pairs; Transformer", job=job)


def reverse() -> Preset:
    """Made by a rule; a minute on one core."""
    large = translate()
    rate = LearningRate(peak=2e-3, warmup=50, decay="cosine")
    train = replace(large.job.train, steps=1200, batch_size=64, learning_rate=rate, validate_every=100)
    model = Transformer.Config(width=64, blocks=2, feedforward=128)
    job = replace(large.job, model=model, data=Data("data/reverse", clock="target"), train=train)
    return Preset("letters said backwards: a translator without any data", GeneratedPairs(), job)


def shakespeare() -> Preset:
    """Characters of a million; five minutes on two cores."""
    train = Train(
        steps=1300,
        batch_size=32,
        learning_rate=LearningRate(peak=3e-3, warmup=100, decay="cosine"),
        losses={"token": Weight(1.0), "uniform": Weight(0.0)},
        keep="token",
        validate_every=250,
        save_every=500,
        precision="bfloat16",
    )
    data = Data("data/shakespeare", steps=128, clock="token", stride=64)
    job = Job(model=GPT.Config(dropout=0.0), data=data, augment=READ_AS_IT_IS, train=train)
    return Preset("tiny Shakespeare, letter by letter; a GPT of some minutes", PlainText(), job)


def kokoro_bert() -> Preset:
    """A novel of 105,313 words, of which the last tenth is not learned from."""
    train = Train(
        steps=4000,
        batch_size=32,
        learning_rate=LearningRate(peak=3e-3, warmup=100, decay="cosine"),
        losses={"token": Weight(1.0), "next": Weight(0.3)},
        keep="token",
        validate_every=400,
        save_every=1000,
        log_every=50,
        precision="bfloat16",
    )
    data = Data("data/kokoro", steps=64, clock="token", stride=32)
    job = Job(model=BERT.Config(), data=data, augment=READ_AS_IT_IS, train=train)
    return Preset("a novel with words left out: BERT tells them", PlainText("kokoro", split="words", least=2), job)
