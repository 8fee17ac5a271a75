"""How fast a piece of work is, how much memory it takes, and how fast it could be on this machine.

Seconds are measured in turn, A B A B, in one process, so that whatever else the machine does meets all alike; memory
in a process of its own. The limit, the floor, is the larger of two times: the arithmetic at the best rate measured
here, and the bytes that have to be moved at the rate at which this machine copies.
"""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from sakiyomi.products import training_products

Work = Callable[[], object]
STATUS = Path("/proc/self/status")
SETS = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16")
ALLOCATOR = ("GLIBC_TUNABLES", "MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "LD_PRELOAD")

# ---- Seconds ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of some measurements."""

    median: float
    low: float
    """A quarter is less."""
    high: float
    """A quarter is more."""
    n: int

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        if len(values) < 2:
            return cls(values[0], values[0], values[0], 1)
        low, median, high = statistics.quantiles(values, method="inclusive")
        return cls(median, low, high, len(values))


def in_turn(
    ways: Mapping[str, Work], seconds: float, least: int = 3, most: int = 60, warm: int = 1
) -> dict[str, list[float]]:
    """The seconds each way takes, round by round, A B A B: `warm` rounds that are not counted, then rounds until
    `seconds` are over, but `least` of them in any case, and no more than `most`."""
    for work in [*ways.values()] * warm:
        work()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    begin = time.perf_counter()
    for done in range(most):
        if done >= least and time.perf_counter() - begin > seconds:
            break
        for name, work in ways.items():
            start = time.perf_counter()
            work()
            taken[name].append(time.perf_counter() - start)
    return taken


def ratios(slow: list[float], fast: list[float]) -> Spread:
    """How many times as long the first takes as the second, of rounds that were neighbours."""
    return Spread.of([a / b for a, b in zip(slow, fast, strict=True)])


# ---- Memory ----------------------------------------------------------------------------------------------------------


def resident(field: str = "VmRSS") -> int | None:
    """Bytes of this process that are in memory, or the most that ever were (`VmHWM`); None where nothing tells."""
    if not STATUS.exists():
        return None
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines() if ":" in line)
    return int(lines[field].split()[0]) * 1024 if field in lines else None


def peak_memory(work: Work, patience: float = 0.0) -> int | None:
    """Bytes by which this process grows while it works, at most: VmHWM in the end less VmRSS before the first step.
    Where that took less than `patience` seconds it works once more: then the first step's gradients are there, too.

    Of a fresh process, whose memory nothing has used before; otherwise what was freed earlier is used again unseen.
    None where there is no /proc."""
    before, begin = resident(), time.perf_counter()
    if before is None:
        return None
    Path("/proc/self/clear_refs").write_text("5")  # forgets the most there ever was
    work()
    if time.perf_counter() - begin < patience:
        work()
    most = resident("VmHWM")
    return None if most is None else most - before


# ---- The machine -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rates:
    """What this machine does in a second, measured; the best of some tries."""

    float32: float
    """Floating-point operations: the faster of the next two."""
    bfloat16: float
    product_float32: float
    """A product of two matrices of 2048 x 2048, by whoever is the quickest (`products.py`)."""
    product_bfloat16: float
    convolution_float32: float
    """3 x 3, 64 channels to 64, 32 frames of 32 x 32, channels last."""
    convolution_bfloat16: float
    copy: float
    """Bytes, read and written, of a copy of 256 MiB."""

    def of(self, precision: str) -> float:
        return self.bfloat16 if precision == "bfloat16" else self.float32


@torch.no_grad()
def measure_rates(tries: int = 5, size: int = 2048) -> Rates:
    """On as many threads as torch is set to."""

    def best(work: Work, amount: float) -> float:
        return amount / min(in_turn({"": work}, 0.0, tries, tries)[""])

    found = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a, b = (torch.randn(size, size, dtype=dtype) for _ in range(2))
        with training_products():
            found[f"product_{name}"] = best(lambda a=a, b=b: a @ b, 2 * size**3)
        frames = torch.randn(32, 64, size // 64, size // 64, dtype=dtype).contiguous(memory_format=torch.channels_last)
        weight = torch.randn(64, 64, 3, 3, dtype=dtype).contiguous(memory_format=torch.channels_last)
        amount = 2 * frames.numel() * weight.numel() // 64
        found[f"convolution_{name}"] = best(lambda f=frames, w=weight: functional.conv2d(f, w, padding=1), amount)
        found[name] = max(found[f"product_{name}"], found[f"convolution_{name}"])
    source = torch.ones(32 * size**2 // 2, dtype=torch.float32)
    target = torch.empty_like(source)
    return Rates(**found, copy=best(lambda: target.copy_(source), 2.0 * source.nbytes))


def describe_machine() -> dict[str, str]:
    """What a reader has to know of the machine that figures come from."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    flags = told.get("flags", "").split()
    set_ = [f"{name}={os.environ[name]}" for name in ALLOCATOR if os.environ.get(name)]
    return {
        "processor": told.get("model name", platform.processor() or platform.machine()),
        "cores": str(cores),
        "threads": str(torch.get_num_threads()),
        "instructions": " ".join(name for name in SETS if name in flags) or "unknown",
        "memory": f"{pages / 2**30:.0f} GiB",
        "allocator": " ".join(set_) or "sakiyomi/processor.py",
        "libc": " ".join(platform.libc_ver()).strip() or "unknown",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


# ---- The floor -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Needed:
    """What a piece of work needs at least."""

    operations: Mapping[str, float]
    """Floating-point operations by precision: of products, convolutions, attention and LSTMs. What is done number by
    number, activations or an optimizer, is not counted."""
    read: float
    """Bytes that come from outside, weights and inputs, each counted once."""
    kept: float
    """Bytes that are kept for the way back."""

    @property
    def total(self) -> float:
        return sum(self.operations.values())

    def seconds(self, rates: Rates) -> float:
        """No less than this: the arithmetic, or the bytes, of which the kept ones are written and read."""
        arithmetic = sum(count / rates.of(precision) for precision, count in self.operations.items())
        return max(arithmetic, (self.read + 2 * self.kept) / rates.copy)


def needed(work: Work) -> Needed:
    """What is computed while `work` runs, counted operation by operation."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = max(storage.nbytes(), kept.get(storage.data_ptr(), 0))
        return tensor

    with _Counting() as counting, saved_tensors_hooks(note, lambda tensor: tensor):
        work()
    outside = {place for place in kept if place in counting.outside}  # weights are there anyway
    return Needed(
        counting.operations,
        float(sum(counting.outside.values())),
        float(sum(size for place, size in kept.items() if place not in outside)),
    )


def _lstm(passes: int) -> Callable[..., float]:
    """The count of the fused LSTM over [T, B, .] by its two matrices; `passes` is 1 on the way forth, 2 back."""

    def count(read: Tensor, weight: Tensor, recurrent: Tensor, *_: Any) -> float:
        return 2.0 * passes * read.shape[0] * read.shape[1] * (weight.numel() + recurrent.numel())

    return count


LSTM = {torch.ops.aten.mkldnn_rnn_layer: _lstm(1), torch.ops.aten.mkldnn_rnn_layer_backward: _lstm(2)}


class _Counting(TorchDispatchMode):
    """Adds up every operation's count by torch's own formulas (torch.utils.flop_counter), which lack the fused LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: dict[str, float] = {}
        self.outside: dict[int, int] = {}
        """Bytes of what was not made while we looked on, by address."""
        self._made: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, packet = kwargs or {}, func._overloadpacket
        if packet not in flop_registry and packet not in LSTM:
            with self:  # some are made of others
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        for tensor in _tensors((args, kwargs)):
            place = tensor.untyped_storage().data_ptr()
            if place not in self._made:
                self.outside[place] = tensor.untyped_storage().nbytes()
        self._made |= {t.untyped_storage().data_ptr() for t in _tensors(out)} - self.outside.keys()
        if packet in LSTM or packet in flop_registry:
            count = LSTM[packet](*args) if packet in LSTM else flop_registry[packet](*args, **kwargs, out_val=out)
            precision = "bfloat16" if _tensors(out)[0].dtype == torch.bfloat16 else "float32"
            self.operations[precision] = self.operations.get(precision, 0.0) + count
        return out


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
