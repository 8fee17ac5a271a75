"""What tensors leave is used again instead of being fetched from the system anew; and float32 is float32."""

import platform
import resource
import subprocess
import sys

import pytest
import torch

from sakiyomi.processor import prepare

# In a process of its own: the setting is for good. Page faults of ten rounds after the first one.
ROUNDS = """
import resource
import torch
from sakiyomi.processor import keep_memory

def rounds(count: int) -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        held = [torch.ones(2**22) for _ in range(10)]
        del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_memory()
keep_memory()  # twice does no harm
rounds(2)
print(rounds(10))
"""
ROUNDS_AFTER = 10


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it tells glibc's allocator alone")
def test_memory_is_kept() -> None:
    done = subprocess.run([sys.executable, "-c", ROUNDS], capture_output=True, check=True)
    pages = ROUNDS_AFTER * 10 * 2**24 // resource.getpagesize()
    assert int(done.stdout) < 0.1 * pages


def test_a_gpu_rounds_only_where_bfloat16_is_asked_for() -> None:
    cudnn = torch.backends.cudnn
    with cudnn.flags():  # what is set within is undone after
        for precision in ("float32", "bfloat16", "float32"):
            prepare(precision)
            assert cudnn.allow_tf32 == (precision == "bfloat16")
