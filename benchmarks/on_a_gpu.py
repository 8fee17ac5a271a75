"""SARNN's training step on a GPU, 128x128, batch 32 x 187: the published loop beside ours, and the floor.

    python -m benchmarks.on_a_gpu

A way that does not fit into the device's memory with 32 windows is measured with half of them, and so on; so ratios are
of frames a second. Every way does a whole step: forward, backward, optimizer.
"""

import copy
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.published.sarnn import published_losses
from benchmarks.side_by_side import Sides, agreed, differences, floor_of, total
from sakiyomi.compiled import compiled
from sakiyomi.data.windows import Batch
from sakiyomi.errors import SakiyomiError
from sakiyomi.measuring import Rates, needed
from sakiyomi.models import SARNN
from sakiyomi.schedules import progress_at

BAR = 10.0  # times the published loop's frames a second
TIMES = 5  # steps of each way, one way after the other: side by side they would share the memory
Losses = Callable[[SARNN, Batch], dict[str, Tensor]]


@dataclass(frozen=True)
class Sizes:
    """What is measured."""

    side: int = 128
    """Height and width of the pictures."""
    windows: int = 32
    steps: int = 187
    points: int = 8
    hidden: int = 50
    product: int = 8192
    """Side of the matrices whose product tells how fast the device is."""


QUICK = Sizes(side=32, windows=2, steps=3, points=3, hidden=8, product=128)


@dataclass(frozen=True)
class Way:
    """One way to do the step."""

    losses: Losses
    channels_last: bool = True
    precision: str = "float32"
    like: str = ""
    """The way that computes the same and whose operations can be counted; its own name where it is empty."""


@dataclass(frozen=True)
class Taken:
    """What one way took."""

    windows: int
    """That fit into memory at once."""
    seconds: list[float]
    """Of a step, each."""
    peak_bytes: int | None
    """Of the device's memory; None on a CPU."""


def gpu_part(device: str = "cuda", quick: bool = False) -> dict[str, Any]:
    """Figures as JSON has them: the device, its measured rates, and of each way frames a second, ratio to the published
    loop, peak memory and share of the floor. `quick` takes tiny sizes, which show that it runs and nothing else.

    Raises SakiyomiError where there is no such device, and where the published loop and ours do not agree.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise SakiyomiError(
            "torch sees no GPU here, and this is measured on one: python -m benchmarks.on_a_gpu on a machine that has "
            "one, with a torch built for CUDA"
        )
    place, sizes = torch.device(device), QUICK if quick else Sizes()
    torch.manual_seed(0)
    # Not the published temperature: a softmax that sharp turns rounding into other points.
    config = SARNN.Config(
        height=sizes.side, width=sizes.side, points=sizes.points, hidden=sizes.hidden, temperature=0.01
    )
    model = SARNN(config).to(place)
    title = f"SARNN, {sizes.side}x{sizes.side}, batch {sizes.windows} x {sizes.steps}"
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        agreement = agreed(Sides(title, 0, {}, lambda: apart(model, random_batch(model, 2, 5, place))))
    chosen = ways(place)
    # Of one window: of more of them it is as many times as much.
    one = random_batch(model, 1, sizes.steps, place)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=True):  # as torch has it, whatever ran before
        rates = rates_of(place, sizes.product)
        counts = {name: needed(step_of(model, way, one)) for name, way in chosen.items() if not way.like}
        taken = {name: measure(model, way, sizes, place) for name, way in chosen.items()}
    first = next(iter(taken.values()))
    base = first.windows / statistics.median(first.seconds)
    figures = {}
    for name, one_way in taken.items():
        seconds = statistics.median(one_way.seconds)
        floor = one_way.windows * floor_of(counts, chosen[name].like or name, rates)
        figures[name] = {
            **asdict(one_way),
            "frames_per_second": one_way.windows * sizes.steps / seconds,
            "ratio": one_way.windows / seconds / base,
            "floor_seconds": floor,
            "share": floor / seconds,
        }
    best = max(figure["ratio"] for figure in figures.values())
    return {
        "title": title,
        "device": torch.cuda.get_device_name(place) if place.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "rates": asdict(rates),
        "agree": agreement,
        "ways": figures,
        "bar": BAR,
        "met": best >= BAR,
    }


def ways(device: torch.device) -> dict[str, Way]:
    """The published loop first. On a CPU nothing is compiled: that would say nothing of a GPU."""
    found = {
        "published": Way(published_losses, channels_last=False),
        "ours, float32": Way(our_losses),
        "ours, bf16": Way(our_losses, precision="bfloat16"),
    }
    if device.type == "cpu":
        return found
    return {**found, "ours, bf16, compiled": Way(Compiled(), precision="bfloat16", like="ours, bf16")}


def our_losses(model: SARNN, batch: Batch) -> dict[str, Tensor]:
    return model.loss(batch, progress_at(0, 1, 0, batch.mask.device))


class Compiled:
    """Ours, compiled; once for each model."""

    def __init__(self) -> None:
        self._made: tuple[SARNN, Any] | None = None

    def __call__(self, model: SARNN, batch: Batch) -> dict[str, Tensor]:
        if self._made is None or self._made[0] is not model:
            self._made = model, compiled(model)
        return self._made[1](batch, progress_at(0, 1, 0, batch.mask.device))


def random_batch(model: SARNN, windows: int, steps: int, device: torch.device) -> Batch:
    inputs = {name: value.to(device) for name, value in model.example(windows, steps).items()}
    targets = {name: value.to(device) for name, value in model.example(windows, steps).items()}
    return Batch(inputs, targets, torch.ones(windows, steps, device=device))


def apart(model: SARNN, batch: Batch) -> dict[str, float]:
    """How far the published loop and ours are apart."""
    return differences(
        (copy.deepcopy(model), lambda twin: total(published_losses(twin, batch), batch.mask)),
        (model, lambda ours: total(our_losses(ours, batch), batch.mask)),
    )


def step_of(model: SARNN, way: Way, batch: Batch) -> Callable[[], object]:
    """One whole step, on a copy of the model."""
    own = copy.deepcopy(model).to(memory_format=torch.channels_last if way.channels_last else torch.contiguous_format)
    optimizer = torch.optim.Adam(own.parameters(), fused=True)

    def step() -> None:
        with torch.autocast(batch.mask.device.type, torch.bfloat16, enabled=way.precision == "bfloat16"):
            losses = way.losses(own, batch)
        total(losses, batch.mask).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def measure(model: SARNN, way: Way, sizes: Sizes, device: torch.device) -> Taken:
    """With as many windows as fit, half as many as before each time."""
    windows = sizes.windows
    while True:
        forget(device)
        try:
            return taken_with(windows, model, way, sizes, device)
        except torch.OutOfMemoryError:
            if windows == 1:
                raise
        windows //= 2


def taken_with(windows: int, model: SARNN, way: Way, sizes: Sizes, device: torch.device) -> Taken:
    work = step_of(model, way, random_batch(model, windows, sizes.steps, device))
    work()  # warms up, compiles, and says whether it fits
    seconds = [seconds_of(work, device) for _ in range(TIMES)]
    return Taken(windows, seconds, torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None)


def forget(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """From the first kernel to the last."""
    wait(device)
    start = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - start


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@torch.no_grad()
def rates_of(device: torch.device, size: int, tries: int = 5) -> Rates:
    """The best of some tries. float32 is what torch makes of it by itself: products are float32, convolutions TF32
    where the device has that. (Training in float32 leaves TF32 out: sakiyomi/processor.py.)"""

    def best(work: Callable[[], object], amount: float) -> float:
        work()
        return amount / min(seconds_of(work, device) for _ in range(tries))

    found = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a, b = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
        found[f"product_{name}"] = best(lambda a=a, b=b: a @ b, 2.0 * size**3)
        layer = nn.Conv2d(64, 64, 3, padding=1).to(device, dtype).to(memory_format=torch.channels_last)
        frames = torch.randn(size // 4, 64, 32, 32, dtype=dtype, device=device)
        frames = frames.contiguous(memory_format=torch.channels_last)
        amount = 2.0 * frames.numel() * layer.weight.numel() / 64
        found[f"convolution_{name}"] = best(lambda f=frames, layer=layer: layer(f), amount)
        found[name] = max(found[f"product_{name}"], found[f"convolution_{name}"])
    source = torch.ones(4 * size**2, device=device)
    target = torch.empty_like(source)
    return Rates(**found, copy=best(lambda: target.copy_(source), 2.0 * source.nbytes))


if __name__ == "__main__":
    json.dump(gpu_part(*sys.argv[1:2], quick="quick" in sys.argv[2:]), sys.stdout, indent=1)
