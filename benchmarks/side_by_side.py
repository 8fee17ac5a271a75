"""One model, several ways to do the same work: measured in turn in one process, and believed only where they agree.

`sides(quick)` of benchmarks/published/NAME.py fills a `Sides`; benchmarks/speed.py and `sakiyomi bench` measure it.
What each way takes of memory is asked of a fresh process:

    python -m benchmarks.side_by_side memory sarnn published 2      of one way, on two threads
"""

import copy
import gc
import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sakiyomi.errors import SakiyomiError, unknown
from sakiyomi.measuring import Needed, Rates, Spread, in_turn, needed, peak_memory, ratios
from sakiyomi.products import plain_products, training_products
from sakiyomi.run import set_threads

CHECKOUT = Path(__file__).parent.parent
Model = TypeVar("Model", bound=nn.Module)
TOLERANCE = 1e-3  # of what `agree` gives: relative differences of sums in float32, added up in another order
PATIENCE = 5.0  # seconds; of a step that takes longer, one is enough to know its memory


@dataclass(frozen=True)
class Sides:
    """One model and several ways to do the same training step."""

    title: str
    """What is done, with its sizes, e.g. "SARNN, 64x64, batch 5 x 100"."""
    frames: int
    """Frames (B * T) of one step."""
    ways: Mapping[str, Callable[[], object]]
    """"published" first, then "ours, float32", ...: each does one whole step (forward, backward; with the optimizer
    where the published loop steps inside)."""
    agree: Callable[[], dict[str, float]]
    """Largest differences of losses and of gradients between the published way and ours (relative where that is
    meaningful), measured on the same weights, batch and noise."""


@dataclass(frozen=True)
class Published:
    """Where the published arithmetic of a model is written down."""

    model: str
    """Its name in MODELS."""
    module: str
    function: str = "sides"


PUBLISHED: dict[str, Published] = {
    "sarnn": Published("SARNN", "benchmarks.published.sarnn"),
    "svg": Published("SVG", "benchmarks.published.svg"),
    "mvae": Published("MVAE", "benchmarks.published.mvae"),
    "sarnn-stepping": Published("SARNN", "benchmarks.published.arm", "sarnn_stepping"),
    "cnn-rnn": Published("CNNRNN", "benchmarks.published.arm", "cnn_rnn"),
    "mtrnn": Published("MTRNN", "benchmarks.published.arm", "mtrnn"),
    "joint-rnn": Published("JointRNN", "benchmarks.published.arm", "joint_rnn"),
    "forecaster": Published("Forecaster", "benchmarks.published.series", "forecaster"),
    "lstm-ae": Published("LSTMAE", "benchmarks.published.series", "lstm_ae"),
    "gru": Published("Seq2Seq", "benchmarks.published.words", "gru"),
    "gru-attention": Published("Seq2Seq", "benchmarks.published.words", "gru_attention"),
    "transformer": Published("Transformer", "benchmarks.published.words", "transformer"),
    "transformer-writing": Published("Transformer", "benchmarks.published.words", "transformer_writing"),
    "gpt": Published("GPT", "benchmarks.published.words", "gpt"),
    "gpt-writing": Published("GPT", "benchmarks.published.words", "gpt_writing"),
    "bert": Published("BERT", "benchmarks.published.words", "bert"),
    "wavenet": Published("WaveNet", "benchmarks.published.sound", "wavenet"),
    "wavenet-speaking": Published("WaveNet", "benchmarks.published.sound", "wavenet_speaking"),
    "blstm": Published("BLSTMRecognizer", "benchmarks.published.sound", "blstm"),
    "conv-listening": Published("ConvRecognizer", "benchmarks.published.sound", "conv_listening"),
}
PICTURES = "pictures without time: the published code is the same products, one after the other"
SAME = {
    "AE": PICTURES,
    "VAE": PICTURES,
    "CVAE": PICTURES,
    "WindowAE": "a dense network of a whole window, without time: the published code is the same",
    "LSTMVAE": "LSTMAE with a Gaussian code",
    "EiplSARNN": "the published network itself, with our batching over time: see SARNN",
    "EiplCNNRNN": "the published network itself: see CNNRNN",
    "EiplLSTM": "the published network itself: see JointRNN",
    "EiplMTRNN": "the published network itself: see MTRNN",
    "EiplCAE": "the published network itself, without time",
}
"""Models that have no published arithmetic of another kind than ours, and why."""


def training(
    title: str, frames: int, model: Model, published: Callable[[Model], Tensor], ours: Callable[[Model], Tensor]
) -> Sides:
    """The sides of a training step: `published` and `ours` are losses of the model. The published one works on a copy
    of it that lies in memory as it always did, and with torch's own choice of who multiplies matrices; ours as training
    has both."""
    twin = copy.deepcopy(model)
    model.to(memory_format=torch.channels_last)

    def step(side: Model, loss: Callable[[Model], Tensor], precision: str = "float32") -> None:
        side.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            total = loss(side)
        total.backward()

    def our_step(precision: str) -> None:
        with our_products():
            step(model, ours, precision)

    def their_step() -> None:
        with plain_products():
            step(twin, published)

    ways = {
        "published": their_step,
        "ours, float32": lambda: our_step("float32"),
        "ours, bfloat16": lambda: our_step("bfloat16"),
    }
    return Sides(title, frames, ways, lambda: differences((twin, published), (model, ours)))


our_products = training_products
"""Within it matrices are multiplied as our training has it."""


def differences(
    published: tuple[Model, Callable[[Model], Tensor]], ours: tuple[Model, Callable[[Model], Tensor]]
) -> dict[str, float]:
    """How far two models with the same weights are apart: of the loss, relative to it, and of any gradient, relative to
    the largest one."""
    totals, gradients = [], []
    for (model, loss), products in ((published, plain_products), (ours, our_products)):
        with products():
            total = loss(model)
            found = torch.autograd.grad(total, list(model.parameters()), materialize_grads=True)
        totals.append(float(total.detach()))
        gradients.append(torch.cat([gradient.contiguous().flatten() for gradient in found]))
    apart = (gradients[0] - gradients[1]).abs().max() / gradients[0].abs().max()
    return {"loss": abs(totals[0] - totals[1]) / abs(totals[0]), "gradient": float(apart)}


def total(losses: Mapping[str, Tensor], mask: Tensor) -> Tensor:
    """Losses [B, T] as one number: the sum of their masked means."""
    return torch.stack([(loss * mask).sum() / mask.sum() for loss in losses.values()]).sum()


def sides_of(name: str, quick: bool = False) -> Sides:
    """The sides of one name of PUBLISHED; `quick` takes tiny sizes."""
    if name not in PUBLISHED:
        raise unknown("published arithmetic", name, PUBLISHED)
    chosen = PUBLISHED[name]
    return getattr(importlib.import_module(chosen.module), chosen.function)(quick)


def agreed(sides: Sides, tolerance: float = TOLERANCE) -> dict[str, float]:
    """What `agree` finds. Raises SakiyomiError for more than the tolerance: figures of two things that are not the same
    compare nothing."""
    found = sides.agree()
    apart = {name: value for name, value in found.items() if not value <= tolerance}
    if apart:
        told = ", ".join(f"{name} {value:.1e}" for name, value in apart.items())
        raise SakiyomiError(
            f"{sides.title}: the published way and ours do not compute the same: {told}, and {tolerance:.0e} may be "
            "rounding; nothing was measured"
        )
    return found


def measured(name: str, rates: Rates, seconds: float, least: int = 3, quick: bool = False) -> dict[str, Any]:
    """All figures of one name of PUBLISHED, as JSON has them: agreement first, then what each way needs, takes, and
    how far it is from the floor. Rounds go on for `seconds`, and there are `least` of them in any case."""
    sides = sides_of(name, quick)
    agreement = agreed(sides)
    counts = {way: needed(work) for way, work in sides.ways.items()}  # it warms up, too
    taken = in_turn(sides.ways, seconds, least, warm=0)
    title, frames, names = sides.title, sides.frames, list(sides.ways)
    del sides
    gc.collect()  # the memory is for the processes that come now
    first = names[0]
    with ThreadPoolExecutor(2) as pool:  # memory is no time: two processes at once
        peaks = dict(zip(names, pool.map(lambda way: memory_of(name, way, quick), names), strict=True))
    ways = {}
    for way in names:
        spread, floor = Spread.of(taken[way]), floor_of(counts, way, rates)
        ways[way] = {
            "seconds": asdict(spread),
            "ratio": asdict(ratios(taken[first], taken[way])),
            "frames_per_second": frames / spread.median,
            "peak_bytes": peaks[way],
            "operations": dict(counts[way].operations),
            "kept_bytes": counts[way].kept,
            "floor_seconds": floor,
            "share": floor / spread.median,
        }
    return {"title": title, "frames": frames, "agree": agreement, "tolerance": TOLERANCE, "ways": ways}


def floor_of(counts: Mapping[str, Needed], way: str, rates: Rates) -> float:
    """The seconds that a way cannot do without: its own operations, but no more of them than the first two ways need
    (which compute the same; what is computed twice to save memory is no need), at its own precision."""
    own = counts[way]
    first_two = [count.total for count in list(counts.values())[:2]]
    fewer = min(own.total, *first_two) / own.total if own.total else 1.0
    operations = {precision: count * fewer for precision, count in own.operations.items()}
    kept = min(count.kept for count in counts.values())
    return Needed(operations, own.read, kept).seconds(rates)


def memory_of(name: str, way: str, quick: bool = False) -> int | None:
    """Bytes a process grows by while it works in one way; a fresh one."""
    command = [sys.executable, "-m", "benchmarks.side_by_side", "memory", name, way, str(torch.get_num_threads())]
    done = subprocess.run([*command, *["quick"] * quick], capture_output=True, text=True, cwd=CHECKOUT)
    if done.returncode:
        raise SakiyomiError(f"{name}, {way}: its process ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compared(model: str, rates: Rates, seconds: float, quick: bool = False) -> dict[str, Any]:
    """Every comparison of one model, or why there is none."""
    names = [name for name, published in PUBLISHED.items() if published.model == model]
    if not names:
        return {"note": f"{model} has no published arithmetic beside ours: {SAME.get(model, 'none is written down')}"}
    return {"sides": [measured(name, rates, seconds, quick=quick) for name in names]}


def main(words: list[str]) -> None:
    deed, name, *rest = words
    quick = rest[-1] == "quick"
    if deed == "memory":
        way, threads = rest[:2]
        set_threads(int(threads))
        print(json.dumps(peak_memory(sides_of(name, quick).ways[way], PATIENCE)))
    elif deed == "compare":
        threads, seconds, rates = rest[:3]
        set_threads(int(threads))
        print(json.dumps(compared(name, Rates(**json.loads(rates)), float(seconds), quick)))
    else:
        raise unknown("deed", deed, ("memory", "compare"))


if __name__ == "__main__":
    main(sys.argv[1:])
