"""Every named run can be built, saved and read back, and the tables that name models agree."""

from pathlib import Path
from typing import get_args

import pytest
import torch

from sakiyomi.data.windows import Batch
from sakiyomi.errors import SakiyomiError
from sakiyomi.job import Job, ModelConfig, build, load_job, save_job
from sakiyomi.models import MODELS
from sakiyomi.presets import PRESETS, preset
from sakiyomi.schedules import progress_at
from sakiyomi.train import weigh


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_whole_job(name: str, tmp_path: Path) -> None:
    chosen = preset(name)
    save_job(chosen.job, tmp_path)
    assert load_job(tmp_path) == chosen.job
    model = build(chosen.job.model)
    if "image" in model.inputs:
        size = next(
            (getattr(chosen.source, name) for name in ("image_size", "size") if hasattr(chosen.source, name)), 64
        )
        assert model.example(1, 1)["image"].shape[-1] == size


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_weighs_every_loss_of_its_model(name: str) -> None:
    job = preset(name).job
    model, device = build(job.model), torch.device("cpu")
    batch = Batch(model.example(1, 3), model.example(1, 3), torch.ones(1, 3))
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
