"""Weights out of PyTorch checkpoints of strangers (.pth, .pt): tensors alone, never code.

    tensors = state_dict(Path("SARNN.pth"))

A .pth is a pickle in a zip, and a pickle can run anything; it is read with `weights_only`, which refuses all but
tensors and plain containers. Archives that would unpack to more than themselves are refused before that.
"""

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sakiyomi.data.formats.importing import check_overlap, foreign
from sakiyomi.errors import SakiyomiError

PREFIXES = ("_orig_mod.", "module.")  # of torch.compile, of DataParallel
WEIGHTS = ("model_state_dict", "state_dict", "model")  # where a checkpoint keeps them


def state_dict(path: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint by name, float32 (counters int64), without the prefixes of wrappers.

    Raises SakiyomiError for a file that is no checkpoint, is damaged, holds code, or has weights that are not finite.
    """
    content = load(path)
    tensors = _weights(path, content)
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise SakiyomiError(f"{path}: {name} {list(tensor.shape)} repeats a few numbers; no network is saved so")
        if not tensor.is_floating_point() and tensor.dtype != torch.int64:
            raise SakiyomiError(f"{path}: {name} holds {tensor.dtype}; expected floating point weights")
        tensor = tensor.detach().float() if tensor.is_floating_point() else tensor.detach()
        if not tensor.isfinite().all():
            raise SakiyomiError(
                f"{path}: {name} has values that are not finite: the training went astray. Use an earlier checkpoint"
            )
        plain = plain_name(name)
        if plain in found:
            raise SakiyomiError(f"{path} holds {plain!r} twice, once as {name!r}")
        found[plain] = tensor.clone(memory_format=torch.contiguous_format)
    return found


def load(path: Path) -> Any:
    """What a checkpoint holds, read without running anything of it. Raises SakiyomiError if that cannot be."""
    with foreign(path, "a PyTorch checkpoint"):
        if not zipfile.is_zipfile(path):
            raise SakiyomiError(
                f"{path} is no PyTorch checkpoint, or is cut off: those are zips since PyTorch 1.6. A plain pickle can "
                "run code when it is read; refused. Save again: torch.save({'model_state_dict': model.state_dict()}, "
                "path)"
            )
        with zipfile.ZipFile(path) as archive:
            check_overlap(path, archive)
            packed = [info.filename for info in archive.infolist() if info.file_size != info.compress_size]
        if packed:
            raise SakiyomiError(f"{path}: {packed[0][:80]!r} is compressed, which PyTorch never does; refused")
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            named = re.search(r"(?:GLOBAL|Unsupported (?:global|class|operand))[: ]+(\S+)", str(error))
            what = f" ({named[1]})" if named else ""
            raise SakiyomiError(
                f"{path} holds Python objects{what} beside weights; reading them could run code, so nothing was read. "
                "Save the weights alone: torch.save({'model_state_dict': model.state_dict()}, path)"
            ) from error


def plain_name(name: str) -> str:
    """`_orig_mod.rec.weight_ih` -> rec.weight_ih."""
    while name.startswith(PREFIXES):
        name = next(name.removeprefix(prefix) for prefix in PREFIXES if name.startswith(prefix))
    return name.replace("_orig_mod.", "")  # of a part that was compiled by itself


def _weights(path: Path, content: Any) -> Mapping[str, Tensor]:
    """The dictionary of tensors in a checkpoint, or the checkpoint itself."""
    inside = [content[name] for name in WEIGHTS if isinstance(content, Mapping) and name in content]
    for one in (*inside, content):
        if (
            isinstance(one, Mapping)
            and one
            and all(isinstance(v, Tensor) and isinstance(k, str) for k, v in one.items())
        ):
            return one
    came = f"a dictionary of {', '.join(map(str, [*content][:8]))}" if isinstance(content, Mapping) else type(content)
    raise SakiyomiError(f"{path} holds {came}; expected model_state_dict, a dictionary of tensors")
