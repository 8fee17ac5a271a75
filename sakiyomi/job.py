"""A Job: everything that decides what a training run does, as frozen records that go to JSON and back."""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from sakiyomi.data.augment import Augment
from sakiyomi.data.sources import Source
from sakiyomi.data.windows import Data
from sakiyomi.errors import LARGEST_SEED, SakiyomiError, at_least, at_most, unknown
from sakiyomi.files import write_atomic
from sakiyomi.models import (
    AE,
    BERT,
    CNNRNN,
    CVAE,
    GPT,
    LSTMAE,
    LSTMVAE,
    MODELS,
    MTRNN,
    MVAE,
    SARNN,
    SVG,
    VAE,
    BLSTMRecognizer,
    ConvRecognizer,
    EiplCAE,
    EiplCNNRNN,
    EiplLSTM,
    EiplMTRNN,
    EiplSARNN,
    Forecaster,
    JointRNN,
    Seq2Seq,
    SequenceModel,
    Transformer,
    WaveNet,
    WindowAE,
)
from sakiyomi.schedules import LearningRate, TeacherForcing, Weight
from sakiyomi.watchdog import Watch

ModelConfig = (
    SARNN.Config
    | CNNRNN.Config
    | MTRNN.Config
    | JointRNN.Config
    | SVG.Config
    | MVAE.Config
    | AE.Config
    | VAE.Config
    | CVAE.Config
    | WindowAE.Config
    | LSTMAE.Config
    | LSTMVAE.Config
    | Forecaster.Config
    | Seq2Seq.Config
    | Transformer.Config
    | GPT.Config
    | BERT.Config
    | WaveNet.Config
    | ConvRecognizer.Config
    | BLSTMRecognizer.Config
    | EiplSARNN.Config
    | EiplCNNRNN.Config
    | EiplLSTM.Config
    | EiplMTRNN.Config
    | EiplCAE.Config
)


@dataclass(frozen=True)
class Train:
    """How the weights are found."""

    steps: int = 2000
    """Optimizer steps."""
    batch_size: int = 8
    """Windows a step."""
    shards: int = 0
    """Parts a batch is drawn in, each with its own noise, one after the other or by several processes: more take less
    memory. 0 is one a process."""
    learning_rate: LearningRate = LearningRate()
    """Adam's."""
    adam_eps: float = 1e-8
    """Adam's epsilon."""
    losses: dict[str, Weight] = field(default_factory=dict)
    """The weight of each loss the model names."""
    teacher_forcing: TeacherForcing = TeacherForcing()
    """For models that can read their own predictions in training."""
    clip: float = 1.0
    """Gradients are scaled down to this norm; 0 leaves them."""
    seed: int = 0
    """Seed of weights, batches and noise."""
    validate_every: int = 100
    """Steps between validations; the best weights are kept."""
    keep: str = "total"
    """The measure of validation that says which weights are best: the total, a loss, or imagined where a model does."""
    watch: Watch = Watch()
    """When to say that a training looks wrong."""
    patience: int = 0
    """Stop after so many validations without a better one; 0 never stops early."""
    save_every: int = 500
    """Steps between checkpoints."""
    log_every: int = 10
    """Steps between lines of the log."""
    device: str = "auto"
    """auto, cpu or cuda."""
    sharded: bool = False
    """Spread Adam's moments over the processes that train together: less memory in each."""
    threads: int = 0
    """CPU threads; 0 uses every core this process may use."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of convolutions and matrix products; weights stay float32. float32 is all of it: a GPU does not round to TF32."""
    compile: bool = False
    """Compile the step with torch.compile; pays on a GPU, costs a minute at the start."""


@dataclass(frozen=True)
class Job:
    """One training run."""

    model: ModelConfig
    """The model's Config; its class says which model."""
    data: Data = Data()
    """What it learns from."""
    augment: Augment = Augment()
    """Noise on what it reads."""
    train: Train = Train()
    """How."""


@dataclass(frozen=True)
class Preset:
    """A named run: what is recorded, and what is learned from it."""

    description: str
    source: Source
    job: Job


def build(config: ModelConfig) -> SequenceModel:
    """The model of a Config, with freshly drawn weights."""
    return MODELS[model_name(config)](config)  # pyright: ignore[reportCallIssue]


def model_name(config: Any) -> str:
    for name, model in MODELS.items():
        if isinstance(config, model.Config):
            return name
    raise unknown("model config", type(config).__qualname__, [f"{name}.Config" for name in MODELS])


def flat(job: Job) -> dict[str, Any]:
    """Every field of a job by its dotted name, as the command line spells it."""

    def walk(value: Any, name: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            return {name: value}
        return {k: v for key, below in value.items() for k, v in walk(below, f"{name}.{key}".strip(".")).items()}

    return {"model": model_name(job.model), **walk(asdict(job), "")}


# The least that each field may be.
LEAST = {
    "train.steps": 1,
    "train.batch_size": 1,
    "train.shards": 0,
    "train.learning_rate.peak": 0,
    "train.learning_rate.warmup": 0,
    "train.adam_eps": 0,
    "train.clip": 0,
    "train.seed": 0,
    "train.teacher_forcing.ratio": 0,
    "train.teacher_forcing.start": 0,
    "train.teacher_forcing.step": 0,
    "train.teacher_forcing.floor": 0,
    "train.validate_every": 1,
    "train.watch.kl": 0,
    "train.watch.active": 0,
    "train.watch.dependence": 0,
    "train.watch.validations": 1,
    "train.patience": 0,
    "train.save_every": 1,
    "train.log_every": 1,
    "train.threads": 0,
    "data.steps": 0,
    "data.rate": 0,
    "data.episodes": 0,
    "data.stride": 0,
    "augment.joints": 0,
    "augment.image": 0,
    "augment.shift": 0,
    "augment.patch_size": 0,
    "model.hidden": 1,
    "model.points": 1,
    "model.joints": 1,
    "model.image_loss_fraction": 0,
    "model.channels": 1,
    "model.encoding": 1,
    "model.latent": 1,
    "model.action": 0,
    "model.position": 0,
    "model.past": 1,
    "model.pose": 0,
    "model.experts": 1,
    "model.gate": 1,
    "model.codes": 2,
    "model.noise": 0,
    "model.window": 2,
    "model.floor": 1e-6,
    "model.height": 1,
    "model.width": 1,
    "model.colours": 1,
    "model.labels": 0,
    "model.deviation": 0,
    "model.dropout": 0,
    "model.layers": 1,
    "model.embedding": 1,
    "model.target_words": 0,
    "model.source_words": 0,
    "model.words": 0,
    "model.heads": 1,
    "model.blocks": 1,
    "model.feedforward": 1,
    "model.context": 1,
    "model.skip": 1,
    "model.features": 0,
    "model.hide.times": 0,
    "model.hide.frames": 0,
    "model.hide.bands": 0,
    "model.hide.width": 0,
    "model.quantisation": 2,
}
MOST = {
    "model.image_loss_fraction": 1,
    "model.dropout": 0.9,
    "model.hide.frames": 1,
    "model.hide.width": 1,
    "augment.patch": 1,
    "train.teacher_forcing.ratio": 1,
    "train.teacher_forcing.floor": 1,
    "train.seed": LARGEST_SEED,
}


def check(job: Job) -> None:
    """Raises SakiyomiError for a number outside its range, naming the field."""
    fields = flat(job)
    for name, value in fields.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise SakiyomiError(f"--{name.replace('_', '-')} is {value}; it must be a finite number")
    for name, weight in job.train.losses.items():
        for field_name in ("value", "first", "cycles"):
            at_least(f"--train.losses.{name}.{field_name}", getattr(weight, field_name), 0)
        if weight.cycles and weight.curve == "constant":
            flag = f"--train.losses.{name}"
            raise SakiyomiError(f"{flag}.cycles takes a curve that moves, such as {flag}.curve linear; it is constant")
    defaults = flat(Job(type(job.model)()))
    for name, least in LEAST.items():
        # What a Config begins with is never too little: 0 may leave a width to the recordings. `layers` is a number in
        # one Config and the sizes of each in another.
        if isinstance(fields.get(name), (int, float)):
            at_least(f"--{name.replace('_', '-')}", fields[name], min(least, defaults.get(name, least)))
    for name, most in MOST.items():
        if name in fields:
            at_most(f"--{name.replace('_', '-')}", fields[name], most)
    if job.train.shards > job.train.batch_size:
        raise SakiyomiError(
            f"--train.shards is {job.train.shards}, more than the {job.train.batch_size} windows of a batch; take "
            "fewer shards, or a larger --train.batch-size"
        )
    check_forcing(job)


def check_forcing(job: Job) -> None:
    """Raises SakiyomiError for less than full teacher forcing of a model that could not be trained otherwise: it would
    be ignored."""
    forcing, model = job.train.teacher_forcing, model_name(job.model)
    if (forcing.ratio < 1 or forcing.step) and not MODELS[model].reads_itself:
        able = ", ".join(sorted(name for name, other in MODELS.items() if other.reads_itself))
        given = f"ratio {forcing.ratio:g}" if forcing.ratio < 1 else f"step {forcing.step:g}"
        raise SakiyomiError(
            f"--train.teacher-forcing has {given}, but {model} reads true values only while it is trained, never its "
            f"own predictions; leave --train.teacher-forcing out, or take a model that can: {able}"
        )


def save_job(job: Job, folder: Path) -> None:
    content = {**asdict(job), "model": {"name": model_name(job.model), "config": asdict(job.model)}}
    write_atomic(folder / "job.json", msgspec.json.format(msgspec.json.encode(content)))


def load_job(folder: Path) -> Job:
    """Raises SakiyomiError for a folder that holds no run, or one of another version, naming the field."""
    path = folder / "job.json"
    if not path.exists():
        raise SakiyomiError(f"{folder} holds no run (no job.json); train one first: sakiyomi train NAME --out {folder}")
    try:
        raw = msgspec.json.decode(path.read_bytes())
        name = raw["model"]["name"]
        if name not in MODELS:
            raise unknown("model", name, MODELS)
        config = msgspec.convert(raw.pop("model")["config"], MODELS[name].Config)
        return Job(config, **{k: msgspec.convert(v, Job.__annotations__[k]) for k, v in raw.items()})
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise SakiyomiError(f"{path} cannot be read: {error}; train again or mend the field") from error
