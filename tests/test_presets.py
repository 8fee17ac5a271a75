"""Every named run can be built, saved and read back, and the tables that name models agree."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch

from sakiyomi import control
from sakiyomi.data.episodes import Stream
from sakiyomi.data.sources.walk import RATE, GeneratedWalk
from sakiyomi.data.vocabulary import SPECIAL, Vocabulary
from sakiyomi.data.windows import Batch
from sakiyomi.errors import SakiyomiError
from sakiyomi.job import Job, ModelConfig, build, check, load_job, model_name, save_job
from sakiyomi.models import MODELS, MVAE, VAE, SequenceModel
from sakiyomi.models.base import Fitted
from sakiyomi.presets import CONTROLLERS, PRESETS, preset
from sakiyomi.schedules import TeacherForcing, progress_at
from sakiyomi.train import weigh

WALKS = ("walk", "walk-paper", "walk-code", "walk-vq", "walk-forced", "stepping")


def built(job: Job) -> SequenceModel:
    """The model, for poses of a small body or two sensors where the recordings are to say how wide they are."""
    model = MODELS[model_name(job.model)]
    if isinstance(model, Fitted):
        streams = {"pose": Stream("motion", (27,), "float32", 30.0), "value": Stream("scalar", (2,), "float32", 1.0)}
        words = Stream("token", (), "int32", 1.0, vocabulary=Vocabulary((*SPECIAL, "a", "b")))
        streams |= dict.fromkeys(("source", "target", "token", "transcript"), words)
        streams["feature"] = Stream("scalar", (26,), "float32", 50.0)
        streams["label"] = Stream("label", (2,), "float32", 1.0)
        return build(model.fitted(job.model, streams))
    return build(job.model)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_whole_job(name: str, tmp_path: Path) -> None:
    chosen = preset(name)
    check(chosen.job)
    save_job(chosen.job, tmp_path)
    assert load_job(tmp_path) == chosen.job
    model = built(chosen.job)
    if "image" in model.inputs:
        size = next(
            (getattr(chosen.source, name) for name in ("image_size", "size") if hasattr(chosen.source, name)), 64
        )
        assert model.example(1, 1)["image"].shape[-1] == size


@pytest.mark.parametrize("name", ["translate", "shakespeare", "an4", "pick-small"])
def test_a_teacher_whom_nobody_would_heed_is_refused(name: str) -> None:
    """A Transformer reads all true words at once: less of them would be ignored. A GRU can do with less."""
    job = preset(name).job
    for forcing in (TeacherForcing(ratio=0.5), TeacherForcing(step=0.1)):
        with pytest.raises(SakiyomiError, match=r"--train.teacher-forcing .* reads true values only"):
            check(replace(job, train=replace(job.train, teacher_forcing=forcing)))
        gru = preset("translate-gru").job
        check(replace(gru, train=replace(gru.train, teacher_forcing=forcing)))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_weighs_every_loss_of_its_model(name: str) -> None:
    job = preset(name).job
    model, device = built(job), torch.device("cpu")
    taught = dict.fromkeys(model.taught, torch.tensor([[len(SPECIAL)]]))
    batch = Batch(model.example(1, 3), model.example(1, 3) | taught, torch.ones(1, 3))
    total, _ = weigh(model.loss(batch, progress_at(0, 1, 0, device)), batch.mask, job.train, 0)
    assert torch.isfinite(total)


def test_every_model_can_be_asked_for_in_a_job() -> None:
    assert set(get_args(ModelConfig)) == {model.Config for model in MODELS.values()}


def test_unknown_names_are_said(tmp_path: Path) -> None:
    with pytest.raises(SakiyomiError, match="did you mean 'pick-small'"):
        preset("pick_small")
    with pytest.raises(SakiyomiError, match="holds no run"):
        load_job(tmp_path)
    save_job(preset("pick").job, tmp_path)
    text = (tmp_path / "job.json").read_text()
    (tmp_path / "job.json").write_text(text.replace('"SARNN"', '"SARN"'))
    with pytest.raises(SakiyomiError, match="did you mean 'SARNN'"):
        load_job(tmp_path)
    with pytest.raises(SakiyomiError, match="unknown model config"):
        build(Job)  # pyright: ignore[reportArgumentType]


def test_every_recipe_of_walking_is_a_walk_but_for_what_its_name_says() -> None:
    jobs = {name: preset(name).job for name in WALKS}
    first = jobs["walk"]
    assert all(isinstance(job.model, MVAE.Config) and job.model.pose == 0 for job in jobs.values())
    assert all(job.data.store == first.data.store for name, job in jobs.items() if name != "stepping")
    assert jobs["walk-code"] == replace(
        first,
        model=MVAE.Config(pose=0, reduction="mean"),  # and no noise, as published
        train=replace(first.train, losses={**first.train.losses, "kl": replace(first.train.losses["kl"], value=1.0)}),
    )
    assert jobs["walk-vq"].model == replace(first.model, mixture="vq")  # pyright: ignore[reportCallIssue]
    forced = replace(first, train=replace(first.train, teacher_forcing=jobs["walk-forced"].train.teacher_forcing))
    assert jobs["walk-forced"] == forced
    assert [jobs["walk-forced"].train.teacher_forcing.at(epoch) for epoch in (0, 50, 1000)] == [1, 1, 1]
    published = jobs["walk-paper"].train
    assert [published.teacher_forcing.at(epoch) for epoch in (0, 20, 30, 40, 180)] == [1, 1, 0.5, 0, 0]
    assert published.learning_rate.at(0, published.steps) == 1e-4
    assert published.learning_rate.at(published.steps, published.steps) == 0
    assert (published.batch_size, jobs["walk-paper"].data.steps) == (64, 8)
    assert jobs["walk-paper"].model == MVAE.Config(pose=0)
    assert published.losses["kl"].value == 0.2


def test_recipes_of_pictures_differ_as_their_names_say() -> None:
    jobs = {name: preset(name).job for name in ("digits", "digits-ae", "digits-vae", "mnist", "mnist-vae", "fashion")}
    assert {name: model_name(job.model) for name, job in jobs.items()} == {
        **{"digits": "CVAE", "digits-ae": "AE", "digits-vae": "VAE", "mnist": "CVAE", "mnist-vae": "VAE"},
        "fashion": "CVAE",
    }
    assert jobs["fashion"] == replace(jobs["mnist"], data=replace(jobs["mnist"].data, store="data/fashion-mnist"))
    assert jobs["digits"].model == jobs["mnist"].model
    for name, job in jobs.items():
        assert job.train.batch_size * job.data.steps == 256, name
    # What is compared with the literature is trained on the bound itself, and on coin flips.
    assert jobs["mnist-vae"].model == VAE.Config(latent=40, activation="silu", binarize=True)
    assert {name: weight.value for name, weight in jobs["mnist-vae"].train.losses.items()} == {"image": 1, "kl": 1}


def test_a_generated_walk_is_learned_for_long_enough_to_walk_alone() -> None:
    """True poses are shown first and in the end none: half of the training is left for its own ones."""
    chosen = preset("stepping")
    source, job = chosen.source, chosen.job
    assert isinstance(source, GeneratedWalk)
    windows = source.clips * source.seconds * RATE / (job.data.steps / 2)
    epochs = job.train.steps * job.train.batch_size / windows
    assert job.train.teacher_forcing.at(0.1 * epochs) == 1
    assert job.train.teacher_forcing.at(0.5 * epochs) == 0


@pytest.mark.parametrize("name", CONTROLLERS)
def test_a_controller_is_a_whole_job_of_a_task_of_its_own(name: str, tmp_path: Path) -> None:
    job = CONTROLLERS[name]().job
    control.check(job)
    control.save_job(job, tmp_path)
    assert control.load_job(tmp_path) == job
    assert control.task_name(job.task) in control.TASKS
    assert [type(make().job.task) for make in CONTROLLERS.values()].count(type(job.task)) == 1
    assert job.character == "runs/walk"


def test_names_are_told_apart() -> None:
    assert not set(PRESETS) & set(CONTROLLERS)
    descriptions = [make().description for make in (*PRESETS.values(), *CONTROLLERS.values())]
    assert len(set(descriptions)) == len(descriptions)
    with pytest.raises(SakiyomiError, match="did you mean 'target-walker'"):
        preset("target-walk")
