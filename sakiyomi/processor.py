"""Settings of this process that training and rollout need, found by measurement: benchmarks/published/sarnn.py."""

import ctypes
import platform

import torch

# Of glibc's mallopt.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
KEPT = 2**30  # bytes that may lie free at the end of the heap
LARGEST = 2**25  # the most that glibc allows: what is larger is always mapped anew


def prepare(precision: str = "float32") -> None:
    """Have memory kept, and float32 be float32 where `Train.precision` says so. Harmless to call again; what was said
    last holds."""
    keep_memory()
    # Else cuDNN rounds what float32 convolutions and LSTMs multiply to the 10 bits of TF32.
    torch.backends.cudnn.allow_tf32 = precision == "bfloat16"


def keep_memory() -> None:
    """Let the C library keep what tensors leave instead of giving it back to the system at every step: the system
    has to clear each page it hands out again. Harmless to call twice, and nothing where there is no glibc."""
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_MMAP_THRESHOLD, LARGEST)
    mallopt(_TRIM_THRESHOLD, KEPT)
