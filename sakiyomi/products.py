"""Who multiplies float32 matrices on a CPU: MKL, or oneDNN where MKL uses half of the processor.

torch asks MKL, which keeps to AVX2 on processors of other makers than Intel; oneDNN, which torch brings along for its
convolutions, uses AVX-512 on all of them: about twice the rate on an AMD EPYC of family 26. torch hands float32
products to oneDNN only together with the leave to round to bfloat16 where the processor has units for that (AMX). Where
it has none they stay float32; that is looked at, not believed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import torch
from torch.nn import functional

CPUINFO = Path("/proc/cpuinfo")
MATMUL = torch.backends.mkldnn.matmul  # pyright: ignore[reportAttributeAccessIssue]
# oneDNN has other kernels for other sizes: all that are looked at, with either factor turned.
SHAPES = ((1, 300), (17, 33), (64, 64), (267, 300), (256, 512), (5, 32, 48), (2, 200, 64))


def wide_products() -> bool:
    """From now on have oneDNN multiply float32 matrices, if MKL would use half of the processor and nothing is rounded
    to less than float32. Returns whether it is so. Elsewhere nothing changes."""
    if not _by_onednn():
        return False
    MATMUL.fp32_precision = "bf16"
    return True


@contextmanager
def training_products() -> Iterator[None]:
    """Within it wide products, which pay for batches. A rollout does without: of one character, voice or text a step
    takes longer with them, since each product of oneDNN's takes longer to begin."""
    with plain_products():  # what is set within is undone after
        wide_products()
        yield


@contextmanager
def plain_products() -> Iterator[None]:
    """Within it, products as torch has them by itself."""
    before, MATMUL.fp32_precision = MATMUL.fp32_precision, "none"
    try:
        yield
    finally:
        MATMUL.fp32_precision = before


@lru_cache(maxsize=1)
def _by_onednn() -> bool:
    told = CPUINFO.read_text() if CPUINFO.exists() else ""
    if "AuthenticAMD" not in told or "amx_tile" in told or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    with plain_products():
        MATMUL.fp32_precision = "bf16"
        return all(_exact(shape) for shape in SHAPES)


@torch.no_grad()
def _exact(shape: tuple[int, ...]) -> bool:
    """Whether products keep all digits of their factors: one with one term in each sum is exact, unless they were
    rounded to fewer."""
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    turned = drawn.transpose(-1, -2).contiguous().transpose(-1, -2)
    for values in (drawn, turned):
        right, left = (torch.eye(values.shape[side]).expand(*shape[:-2], -1, -1) for side in (-1, -2))
        products = [values @ right, left @ values]
        if values.ndim == 2:
            products.append(functional.linear(values, right, torch.zeros(values.shape[-1])))
        if not all(torch.equal(product, values) for product in products):
            return False
    return True
