"""Every named run: a function that returns a Preset. Variants are made by dataclasses.replace.

sakiyomi train pick-small --train.steps 500 --model.points 8
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from sakiyomi.control import ControllerJob
from sakiyomi.data.augment import Augment
from sakiyomi.data.formats.bair import Bair
from sakiyomi.data.formats.bridge import Bridge
from sakiyomi.data.sources.climate import Climate
from sakiyomi.data.sources.mocap import Mocap
from sakiyomi.data.sources.moving_digits import MovingDigits
from sakiyomi.data.sources.pick_cube import PickCubeSource
from sakiyomi.data.sources.pictures import Pictures
from sakiyomi.data.sources.push import PushSource
from sakiyomi.data.sources.sensor import GeneratedSensor
from sakiyomi.data.sources.walk import GeneratedWalk
from sakiyomi.data.windows import Data
from sakiyomi.errors import unknown
from sakiyomi.job import Job, Preset, Train
from sakiyomi.models import (
    AE,
    CNNRNN,
    CVAE,
    LSTMAE,
    LSTMVAE,
    MTRNN,
    MVAE,
    SARNN,
    SVG,
    VAE,
    Forecaster,
    JointRNN,
    WindowAE,
)
from sakiyomi.presets_sound import an4, pick_subtasks, say_digits, say_tones, spoken_digits, tones
from sakiyomi.presets_text import kokoro_bert, reverse, shakespeare, translate, translate_attention, translate_gru
from sakiyomi.schedules import LearningRate, TeacherForcing, Weight
from sakiyomi.watchdog import Watch
from sakiyomi.worlds.joystick import Joystick
from sakiyomi.worlds.maze import Maze
from sakiyomi.worlds.path import FollowPath
from sakiyomi.worlds.target import Target

CLEAN = Augment(joints=0, image=0)
BOUND = {"image": Weight(1.0), "kl": Weight(1.0)}  # of the likelihood: both are in nats


def pick() -> Preset:
    """Full size: 64x64 pictures, the published layer sizes."""
    small = pick_small()
    # A hundred times the published temperature: neighbouring pixels share in a point, and so it can lie between them.
    model = SARNN.Config(height=64, width=64, temperature=0.01, image_loss_fraction=1 / 6)
    augment = replace(small.job.augment, shift=2)
    return Preset(
        "a MuJoCo arm picks up a cube; SARNN, 64x64 pictures, published sizes",
        PickCubeSource(image_size=64),
        replace(small.job, model=model, data=Data("data/pick"), augment=augment),
    )


def pick_small() -> Preset:
    """What `make demo` runs: 32x32 pictures, some minutes on two cores."""
    model = SARNN.Config(height=32, width=32, points=6, hidden=64, temperature=0.01, image_loss_fraction=1 / 6)
    train = Train(
        steps=2400,
        batch_size=8,
        learning_rate=LearningRate(peak=3e-3, warmup=100, decay="cosine"),
        losses={
            "image": Weight(0.1),
            "joints": Weight(1.0),
            # It must rise slowly, or the points settle where the picture loss alone likes them.
            "points": Weight(0.1, curve="s", end=1000),
        },
    )
    augment = Augment(light=0.3, flicker=0.05, colour=0.1, shift=1, patch=0.3, patch_size=0.3)
    return Preset(
        "the same arm, 32x32 pictures: what `make demo` runs",
        PickCubeSource(image_size=32),
        Job(model=model, data=Data("data/pick-small"), augment=augment, train=train),
    )


def pick_joints() -> Preset:
    small = pick_small()
    train = replace(small.job.train, losses={"joints": Weight(1.0)})
    job = replace(small.job, model=JointRNN.Config(), train=train)
    return replace(small, description="baseline that cannot see: joints only", job=job)


def pick_cnn() -> Preset:
    small = pick_small()
    train = replace(small.job.train, losses={"image": Weight(0.1), "joints": Weight(1.0)})
    job = replace(small.job, model=CNNRNN.Config(height=32, width=32, hidden=64), train=train)
    return replace(small, description="baseline with a feature vector in place of attention points", job=job)


def pick_mtrnn() -> Preset:
    cnn = pick_cnn()
    job = replace(cnn.job, model=MTRNN.Config(height=32, width=32))
    return replace(cnn, description="baseline with units of several timescales", job=job)


def push() -> Preset:
    """The published networks and settings, for a GPU."""
    small = push_small()
    losses = {"image": Weight(1.0), "kl": Weight(1e-4)}  # as published
    train = replace(small.job.train, steps=60_000, losses=losses, validate_every=2000, precision="bfloat16")
    job = replace(small.job, model=SVG.Config(), train=train)
    return replace(small, description="a MuJoCo arm pushes things about; SVG with VGG, for a GPU", job=job)


def push_small() -> Preset:
    """The same law in a narrower DCGAN pair: a quarter of an hour on one core."""
    train = Train(
        steps=2400,
        batch_size=16,
        learning_rate=LearningRate(peak=2e-3, warmup=100, decay="cosine"),
        losses={
            "image": Weight(1.0),
            # Dear at first, so that z does not say what the actions should; then cheap, so that it says the rest.
            "kl": Weight(2e-5, curve="s", end=1000, first=1e-4),
        },
        validate_every=250,
        keep="imagined",
    )
    return Preset(
        "the same with narrower DCGAN networks: a quarter of an hour on one core",
        PushSource(),
        Job(
            model=SVG.Config(network="dcgan", channels=24, hidden=128),
            data=Data("data/push", steps=11, clock="image"),
            augment=CLEAN,
            train=train,
        ),
    )


def push_blind() -> Preset:
    small = push_small()
    model = replace(small.job.model, action=0, position=0)  # pyright: ignore[reportCallIssue]
    job = replace(small.job, model=model)
    return replace(small, description="control: push-small without being told the actions", job=job)


def bair() -> Preset:
    full = push()
    # As in the published comparison: the KL weight rises three times; teacher forcing stays for a sixth of the training
    # and is gone after five sixths. There these were epochs 50 and 250 of 300; here all steps are 4.5 epochs.
    train = replace(
        full.job.train,
        losses={"image": Weight(1.0), "kl": Weight(1e-4, curve="linear", cycles=3)},
        teacher_forcing=TeacherForcing(start=0.75, step=1 / 3),
    )
    job = replace(full.job, data=replace(full.job.data, store="data/bair"), train=train)
    return replace(full, description="BAIR robot pushing, imported; SVG with VGG, for a GPU", source=Bair(), job=job)


def bridge() -> Preset:
    """Few recordings of many kitchens: narrow networks that see every pixel, and each window in another light."""
    job = replace(
        push_small().job,
        model=SVG.Config(network="vgg", channels=8, hidden=128, action=7, position=7),
        data=Data("data/bridge", steps=9, clock="image"),
        augment=replace(CLEAN, scene=True, light=0.3, colour=0.2, shift=8),
    )
    losses = {"image": Weight(1.0), "kl": Weight(1e-4)}
    job = replace(job, train=replace(job.train, steps=3000, batch_size=8, validate_every=200, losses=losses))
    return Preset("Bridge V2, a real arm, imported; narrow VGG networks", Bridge(), job)


def moving_digits() -> Preset:
    small = push_small()
    model = replace(small.job.model, action=0, position=0)  # pyright: ignore[reportCallIssue]
    # Without actions there is much that only z can say.
    train = replace(small.job.train, steps=2000, losses={"image": Weight(1.0), "kl": Weight(1e-4)})
    job = replace(small.job, model=model, data=Data("data/moving-digits", steps=11, clock="image"), train=train)
    return Preset("two handwritten digits bounce about: the classic check, no actions", MovingDigits(), job)


def walk() -> Preset:
    """Motion capture of somebody's own, or a public set."""
    train = Train(
        # A seventh of the published steps, and so a higher learning rate; the schedule has the published shares.
        steps=12_000,
        batch_size=64,
        learning_rate=LearningRate(peak=2e-4, decay="linear"),
        losses={"pose": Weight(1.0), "kl": Weight(0.2)},
        teacher_forcing=TeacherForcing(start=10, step=0.1),
        clip=0,
        validate_every=1500,
        save_every=1500,
        log_every=100,
    )
    # The noise is not in the paper: without it, bodies that brake from a run lean further back than anybody did.
    model = MVAE.Config(pose=0, noise=0.05)
    job = Job(model=model, data=Data("data/walk", steps=8, clock="pose"), augment=CLEAN, train=train)
    return Preset("a character out of motion capture (BVH); motion VAE with six experts", Mocap(), job)


def walk_paper() -> Preset:
    """As published: 180 epochs, of which 20 are shown true poses and 20 more and more of their own; no noise."""
    chosen = walk()
    train = replace(
        chosen.job.train,
        steps=23_000,  # of the 33,000 frames of `data/walk`
        learning_rate=LearningRate(peak=1e-4, decay="linear"),
        teacher_forcing=TeacherForcing(start=20, step=0.05),
    )
    job = replace(chosen.job, model=MVAE.Config(pose=0), train=train)
    return replace(chosen, description="the same as published, for twice as long", job=job)


def walk_code() -> Preset:
    """The KL of the first published code, which is much dearer: watch the latent collapse."""
    chosen = walk()
    train = replace(chosen.job.train, losses={"pose": Weight(1.0), "kl": Weight(1.0)})
    job = replace(chosen.job, model=MVAE.Config(pose=0, reduction="mean"), train=train)
    return replace(chosen, description="the same with the first published code's KL weight", job=job)


def walk_vq() -> Preset:
    chosen = walk()
    losses = {"pose": Weight(1.0), "codebook": Weight(1.0), "commitment": Weight(0.25)}
    model = MVAE.Config(pose=0, mixture="vq", noise=0.05)
    job = replace(chosen.job, model=model, train=replace(chosen.job.train, losses=losses))
    return replace(chosen, description="the same with a codebook in place of a Gaussian latent", job=job)


def walk_forced() -> Preset:
    chosen = walk()
    job = replace(chosen.job, train=replace(chosen.job.train, teacher_forcing=TeacherForcing()))
    return replace(chosen, description="control: walk, only ever shown true poses in training", job=job)


def stepping() -> Preset:
    chosen = walk()
    job = replace(chosen.job, data=replace(chosen.job.data, store="data/stepping"))
    forcing = TeacherForcing(start=5, step=0.2)
    job = replace(job, train=replace(job.train, steps=4000, teacher_forcing=forcing, validate_every=500))
    text = "a walk made by code, for whoever has no motion capture: some minutes on one core"
    return Preset(text, GeneratedWalk(), job)


def mnist() -> Preset:
    """One step learns from 256 pictures: 8 windows of 32."""
    train = Train(
        steps=30_000,
        batch_size=8,
        learning_rate=LearningRate(peak=1e-3, warmup=200, decay="cosine"),
        # A dearer KL than the bound's: what the encoder says of z fills the standard normal distribution more
        # evenly, and a z drawn from it is one the decoder knows. After 12,000 steps a network that reads digits reads
        # another one in 1.7 % of what is drawn, with the bound's in 3.6 %.
        losses={"image": Weight(1.0), "kl": Weight(2.0)},
        clip=100.0,
        validate_every=2000,
        save_every=2000,
        log_every=100,
        precision="bfloat16",
    )
    data = Data("data/mnist", steps=32, clock="image")
    job = Job(model=CVAE.Config(activation="silu"), data=data, augment=CLEAN, train=train)
    return Preset("MNIST; a CVAE draws any digit in any hand", Pictures("mnist"), job)


def digits() -> Preset:
    """A fortieth of the pictures: soon learned by heart, so that the best weights come early."""
    large = mnist()
    train = replace(large.job.train, steps=3000, validate_every=100, save_every=1000, losses=BOUND)
    job = replace(large.job, data=replace(large.job.data, store="data/digits"), train=train)
    return Preset("the small handwritten digits of scikit-learn; CVAE: half a minute on one core", Pictures(), job)


def mnist_vae() -> Preset:
    large = mnist()
    model = VAE.Config(latent=40, activation="silu", binarize=True)  # more numbers than it will use
    rate = LearningRate(peak=2e-3, warmup=200, decay="cosine")
    train = replace(large.job.train, steps=60_000, learning_rate=rate, losses=BOUND, watch=Watch(active=0.1))
    job = replace(large.job, model=model, train=train)
    return replace(large, description="the same pictures as coin flips; VAE that says how likely one is", job=job)


def digits_ae() -> Preset:
    small = digits()
    job = replace(small.job, model=AE.Config(), train=replace(small.job.train, losses={"image": Weight(1.0)}))
    return replace(small, description="a plain autoencoder down to two numbers, to be drawn as a map", job=job)


def digits_vae() -> Preset:
    small = digits()
    job = replace(small.job, model=VAE.Config(latent=2, layers=(128, 64)))
    return replace(small, description="a VAE with two numbers: a map without holes", job=job)


def fashion() -> Preset:
    large = mnist()
    job = replace(large.job, data=replace(large.job.data, store="data/fashion-mnist"))
    return Preset("the same CVAE on Fashion-MNIST, clothes in place of digits", Pictures("fashion-mnist"), job)


def climate() -> Preset:
    """The published window autoencoder and its training; as there, a window begins on any day."""
    train = Train(
        steps=4000,
        batch_size=100,
        learning_rate=LearningRate(peak=1e-3),
        losses={"value": Weight(1.0)},
        clip=0,
        validate_every=200,
        save_every=1000,
        log_every=50,
    )
    data = Data("data/climate", steps=180, clock="value", stride=1)
    job = Job(model=WindowAE.Config(), data=data, augment=CLEAN, train=train)
    return Preset("daily temperatures of Delhi; autoencoder of half a year of them", Climate(), job)


def climate_lstm_ae() -> Preset:
    windows = climate()
    rate = LearningRate(peak=3e-3, decay="cosine")
    train = replace(windows.job.train, steps=1500, batch_size=32, learning_rate=rate, clip=1.0)
    job = replace(windows.job, model=LSTMAE.Config(), data=replace(windows.job.data, steps=48), train=train)
    return replace(windows, description="the same; an LSTM reads 48 days, another writes them down again", job=job)


def climate_lstm_vae() -> Preset:
    plain = climate_lstm_ae()
    losses = {"value": Weight(1.0), "kl": Weight(3e-3, curve="linear", end=500)}
    job = replace(plain.job, model=LSTMVAE.Config(), train=replace(plain.job.train, losses=losses))
    return replace(plain, description="the same with a Gaussian code", job=job)


def climate_forecast() -> Preset:
    plain = climate_lstm_ae()
    losses = {"value": Weight(1.0), "nll": Weight(1.0)}
    # Small, and soon done: it has seen three years of days, and would learn them by heart.
    rate = LearningRate(peak=2e-3, decay="cosine")
    train = replace(plain.job.train, steps=600, learning_rate=rate, losses=losses, keep="nll", validate_every=50)
    job = replace(plain.job, model=Forecaster.Config(hidden=16), data=replace(plain.job.data, steps=90), train=train)
    return replace(plain, description="the same; tomorrow's temperature, and how far off it may be", job=job)


def sensor() -> Preset:
    days = climate_forecast()
    data = Data("data/sensor", steps=240, clock="value")
    rate = LearningRate(peak=3e-3, decay="cosine")
    train = replace(days.job.train, steps=400, learning_rate=rate, validate_every=100)
    job = replace(days.job, model=Forecaster.Config(hidden=32), data=data, train=train)
    return Preset("a made-up machine's temperature, faults included; one step ahead", GeneratedSensor(), job)


@dataclass(frozen=True)
class Steered:
    """A named controller: what the character of another run learns to do."""

    description: str
    job: ControllerJob


def target_walker() -> Steered:
    job = ControllerJob(task=Target.Config(), frames=2_500_000)
    return Steered("the character of `walk` reaches targets on the ground", job)


def joystick_walker() -> Steered:
    job = ControllerJob(task=Joystick.Config(), frames=3_000_000)
    return Steered("the same holds a speed and a heading, as a stick gives them", job)


def path_walker() -> Steered:
    return Steered("the same follows a path", ControllerJob(task=FollowPath.Config(), frames=2_500_000))


def maze_walker() -> Steered:
    return Steered("the same sees as much as it can of a maze", ControllerJob(task=Maze.Config(), frames=2_500_000))


CONTROLLERS: dict[str, Callable[[], Steered]] = {
    "target-walker": target_walker,
    "joystick-walker": joystick_walker,
    "path-walker": path_walker,
    "maze-walker": maze_walker,
}
PRESETS: dict[str, Callable[[], Preset]] = {
    "pick": pick,
    "pick-small": pick_small,
    "pick-joints": pick_joints,
    "pick-cnn": pick_cnn,
    "pick-mtrnn": pick_mtrnn,
    "push": push,
    "push-small": push_small,
    "push-blind": push_blind,
    "bair": bair,
    "bridge": bridge,
    "moving-digits": moving_digits,
    "walk": walk,
    "walk-paper": walk_paper,
    "walk-code": walk_code,
    "walk-vq": walk_vq,
    "walk-forced": walk_forced,
    "stepping": stepping,
    "digits": digits,
    "digits-ae": digits_ae,
    "digits-vae": digits_vae,
    "mnist": mnist,
    "mnist-vae": mnist_vae,
    "fashion": fashion,
    "climate": climate,
    "climate-lstm-ae": climate_lstm_ae,
    "climate-lstm-vae": climate_lstm_vae,
    "climate-forecast": climate_forecast,
    "sensor": sensor,
    "translate": translate,
    "translate-gru": translate_gru,
    "translate-attention": translate_attention,
    "reverse": reverse,
    "shakespeare": shakespeare,
    "kokoro-bert": kokoro_bert,
    "spoken-digits": spoken_digits,
    "an4": an4,
    "tones": tones,
    "say-digits": say_digits,
    "say-tones": say_tones,
    "pick-subtasks": pick_subtasks,
}


def preset(name: str, others: Iterable[str] = CONTROLLERS) -> Preset:
    """Raises SakiyomiError for an unknown name, with the nearest known one, of presets or of `others`."""
    if name not in PRESETS:
        raise unknown("preset", name, (*PRESETS, *others))
    return PRESETS[name]()
