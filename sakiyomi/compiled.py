"""The loss of a model, compiled (torch.compile): fewer and larger kernels on a GPU.

    sakiyomi train pick --train.device cuda --train.compile

It computes what the uncompiled one does, up to rounding; only dropout draws other numbers, and as fixed ones. Noise
that comes from a step's own generator stays as it is: torch compiles what is before and behind it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from sakiyomi.data.windows import Batch
from sakiyomi.errors import SakiyomiError
from sakiyomi.models import SequenceModel
from sakiyomi.models.base import Framewise
from sakiyomi.schedules import Progress

Loss = Callable[[Batch, Progress], dict[str, Tensor]]


def compiled(model: SequenceModel, backend: str = "inductor") -> Loss:
    """`model.loss`, compiled by one of torch's backends when it is called first. Raises SakiyomiError for a model that
    is taught frame by frame; what it gives raises it where torch cannot compile the loss: nothing runs uncompiled
    unnoticed."""
    if isinstance(model, Framewise):
        raise SakiyomiError(
            f"--train.compile: {type(model).__name__} is taught frame by frame, with a gradient step after each, which "
            "torch.compile does not take; leave it out"
        )
    from torch._dynamo import config as limits  # takes seconds to import
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

    # The mode of CUDA graphs, reduce-overhead, is left alone: a graph's outputs are overwritten by its next run, and
    # gradients of several shards are kept from one run to the next.
    made = torch.compile(model.loss, backend=backend)

    def loss(batch: Batch, progress: Progress) -> dict[str, Tensor]:
        try:
            # Where sizes change again and again torch would go on uncompiled, with a warning.
            with limits.patch(fail_on_recompile_limit_hit=True):
                return made(batch, progress)
        except FailOnRecompileLimitHit as error:
            raise SakiyomiError(
                f"--train.compile: {type(model).__name__} has to be compiled anew for too many kinds of batches; "
                f"leave it out ({first_line(error)})"
            ) from error
        except TorchDynamoException as error:
            raise SakiyomiError(
                f"--train.compile: torch cannot compile the loss of {type(model).__name__}: {first_line(error)}. On a "
                "CPU it needs a C++ compiler (g++), on a GPU triton; leave it out where there is none"
            ) from error

    return loss


def first_line(error: Exception) -> str:
    """The beginning of what torch says, without its pages of advice."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
