"""Compiled computes what uncompiled does, values and gradients, in training from step to step; and what cannot be
compiled is refused."""

import shutil

import pytest
import torch
from torch import Tensor

from sakiyomi.compiled import compiled
from sakiyomi.data.windows import Batch
from sakiyomi.errors import SakiyomiError
from sakiyomi.job import ModelConfig, build
from sakiyomi.models import GPT, MVAE, SARNN, SVG, SequenceModel
from sakiyomi.schedules import progress_at

CONFIGS: dict[str, ModelConfig] = {
    "SARNN": SARNN.Config(joints=3, height=16, width=16, points=2, hidden=8, temperature=0.01),
    "SVG": SVG.Config("dcgan", channels=2, height=16, width=16, encoding=4, latent=2, hidden=4),
    "GPT": GPT.Config(words=9, width=8, heads=2, blocks=1, feedforward=8, context=4, dropout=0.0),
}


def batch_of(model: SequenceModel, seed: int) -> Batch:
    torch.manual_seed(seed)
    told = model.example(2, 5)
    targets = {name: value for name, value in model.example(2, 5).items() if name in model.outputs}
    return Batch(told, targets, torch.ones(2, 5))


def values_and_gradients(model: SequenceModel, losses: dict[str, Tensor]) -> dict[str, Tensor]:
    model.zero_grad()
    torch.stack([loss.mean() for loss in losses.values()]).sum().backward()
    gradients = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    return {**{f"loss {name}": loss.detach() for name, loss in losses.items()}, **gradients}


NO_COMPILER = pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler (g++) on a CPU")


@pytest.mark.parametrize(
    ("name", "backend"),
    # aot_eager takes the model apart as inductor does and puts it together without a C++ compiler, a minute faster.
    [
        ("GPT", "aot_eager"),
        pytest.param("GPT", "inductor", marks=NO_COMPILER),
        ("SVG", "aot_eager"),
        ("SARNN", "aot_eager"),
    ],
)
def test_compiled_is_uncompiled(name: str, backend: str) -> None:
    """At two steps, which differ in their noise; and what was compiled then does for all that come."""
    torch.compiler.reset()
    torch.manual_seed(0)
    model = build(CONFIGS[name]).to(memory_format=torch.channels_last)
    loss, kept = compiled(model, backend), {key: value.clone() for key, value in model.state_dict().items()}
    for step in range(2):
        batch = batch_of(model, step)
        found = []
        for way in (model.loss, loss):
            model.load_state_dict(kept)  # BatchNorm has statistics
            found.append(values_and_gradients(model, way(batch, progress_at(step, 10, 3, torch.device("cpu")))))
        torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)
    with torch.compiler.set_stance("fail_on_recompile"):
        loss(batch_of(model, 2), progress_at(2, 10, 3, torch.device("cpu")))


def test_a_model_taught_frame_by_frame_is_refused() -> None:
    with pytest.raises(SakiyomiError, match=r"--train\.compile: MVAE is taught frame by frame"):
        compiled(build(MVAE.Config(pose=3)))


def test_what_torch_cannot_compile_is_told() -> None:
    """Nothing runs uncompiled unnoticed."""
    model = build(CONFIGS["GPT"])
    loss, batch = compiled(model, "aot_eager"), batch_of(model, 0)
    progress = progress_at(0, 10, 3, torch.device("cpu"))
    loss(batch, progress)
    half = {k: v.bool() if k == "token" else v for k, v in batch.inputs.items()}
    with (
        torch._dynamo.config.patch(recompile_limit=1),
        pytest.raises(SakiyomiError, match="too many kinds of batches"),
    ):
        loss(Batch(half, batch.targets, batch.mask), progress)
