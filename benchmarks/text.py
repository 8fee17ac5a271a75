"""What is claimed about models of text, measured: translation, language models, the laws, speed.

    python -m benchmarks.text                 all parts, about an hour and a half on one core
    python -m benchmarks.text gru speed       some
    python -m benchmarks.text page            only the page, from what was measured

Each part writes benchmarks/results/text/PART.json; trained runs stay in runs/bench and are not trained again. The texts
are in the folder that SAKIYOMI_TEXT names.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import cost, measure, plain, spent
from benchmarks.published.seq2seq import plain_loss
from benchmarks.text_bert import bert, fine_tuning
from benchmarks.text_page import write_page, write_readme_rows
from sakiyomi.commands import finished
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.sources.text import PlainText, SentencePairs
from sakiyomi.data.texts import Sentences
from sakiyomi.data.windows import Batch
from sakiyomi.decode import Decoding
from sakiyomi.evaluate_text import HowWritten, evaluate_text
from sakiyomi.explain_text import Looking, explain_text
from sakiyomi.files import write_atomic
from sakiyomi.job import build
from sakiyomi.layers import attention
from sakiyomi.models import GPT, Seq2Seq, Transformer
from sakiyomi.models.base import Reads, SequenceModel, State, Streams
from sakiyomi.presets import preset
from sakiyomi.rollout import load
from sakiyomi.schedules import progress_at
from sakiyomi.train import fitted, train
from sakiyomi.write import go_on

RESULTS, RUNS, DOCS = Path("benchmarks/results/text"), Path("runs/bench"), Path("docs")
TEXT = Path(os.environ.get("SAKIYOMI_TEXT", "../shared/data/text"))
CPU = torch.device("cpu")


def translation(name: str) -> dict[str, Any]:
    """Train a translator as its preset says, and score what it says of the validation sentences."""
    chosen = preset(name)
    if not finished(Path(chosen.job.data.store)):
        source = chosen.source
        assert isinstance(source, SentencePairs)
        replace(source, path=str(TEXT / "enja")).record(Path(chosen.job.data.store))
    folder = RUNS / name
    spent(folder, lambda: train(chosen.job, folder, resume=folder.exists()))
    trained = load(folder)
    found = evaluate_text(trained, HowWritten())
    if isinstance(trained.model, Transformer):
        path = explain_text(trained, Looking(text="my brother likes music but i can 't sing"), folder)[0]
        write_atomic(DOCS / "translation-attention.png", path.read_bytes())
    return {"scores": plain(found.scores), "job": told(name), **cost(folder)}


def told(name: str) -> dict[str, Any]:
    """What a reader has to know of a training."""
    train = preset(name).job.train
    return {"steps": train.steps, "batch": train.batch_size, "precision": train.precision}


def shakespeare() -> dict[str, Any]:
    """A language model of letters, as its preset says."""
    chosen = preset("shakespeare")
    if not finished(Path(chosen.job.data.store)):
        PlainText(path=str(TEXT / "tinyshakespeare.txt")).record(Path(chosen.job.data.store))
    folder = RUNS / "shakespeare"
    spent(folder, lambda: train(chosen.job, folder, resume=folder.exists()))
    trained = load(folder)
    found = evaluate_text(trained, HowWritten())
    said = go_on(trained, "ROMEO:", Decoding(temperature=0.8, steps=300)).text
    return {"scores": plain(found.scores), "said": said, "job": told("shakespeare"), **cost(folder)}


@torch.no_grad()
def laws() -> dict[str, Any]:
    """How far `unroll` is from `step` repeated, in float32, of the models of tokens as their presets build them."""
    found = {}
    for name in ("translate-gru", "translate-attention", "translate", "shakespeare"):
        job = fitted(preset(name).job)
        torch.manual_seed(0)
        model = build(job.model).eval()
        seen = model.example(8, 60)
        predictions, end = model.unroll(seen)
        steps, state = stepped(model, seen)
        name_of = model.outputs[0]
        apart = float((predictions[name_of] - steps).abs().max())
        memory = max(float((end[key] - state[key]).abs().max()) for key in end if end[key].is_floating_point())
        found[name] = {"outputs": apart, "states": memory, "padding": padding(model, seen)}
    return {"laws": found}


def stepped(model: SequenceModel, seen: Streams) -> tuple[Tensor, State]:
    state = model.read(seen) if isinstance(model, Reads) else model.initial(8)
    stream, said = model.outputs[0], []
    for t in range(seen[stream].shape[1]):
        prediction, state = model.step({stream: seen[stream][:, t]}, state)
        said.append(prediction[stream])
    return torch.stack(said, 1), state


def padding(model: SequenceModel, seen: Streams) -> float:
    """How far predictions move when a source is filled up with PAD."""
    if not isinstance(model, Reads):
        return 0.0
    filled = torch.cat((seen["source"], torch.zeros(8, 7, dtype=torch.long)), 1)
    before, after = (model.unroll({**seen, "source": source})[0]["target"] for source in (seen["source"], filled))
    return float((after - before).abs().max())


def speed() -> dict[str, Any]:
    """Training steps side by side in one process, A B A B: ours against a plain loop over time (GRU), and against
    attention written out (Transformer, GPT); equal losses and gradients checked in the same run."""
    store = EpisodeStore(preset("translate").job.data.store)
    source, target = (len(store.streams[side].vocabulary or ()) for side in ("source", "target"))
    data = preset("translate").job.data
    batch = Sentences(store, "train", data, ("source", "target"), ("source",)).draw(0, 0, 128)
    found = {}
    for attend in (False, True):
        torch.manual_seed(0)
        model = Seq2Seq(Seq2Seq.Config(source, target, attention=attend))
        name = "GRU with attention" if attend else "GRU"
        found[f"{name} against a loop over time"] = compared(
            model, batch, lambda one=model: one_loss(one, batch), lambda one=model: plain_loss(one, batch)
        )
    torch.manual_seed(0)
    translator = Transformer(Transformer.Config(source, target, dropout=0.0))
    found["Transformer against attention written out"] = unfused(translator, batch)
    long = torch.randint(4, 69, (16, 257))
    passages = Batch({"token": long[:, :-1]}, {"token": long[:, 1:]}, torch.ones(16, 256))
    found["GPT, 256 letters, against attention written out"] = unfused(
        GPT(GPT.Config(words=69, context=256, dropout=0.0)), passages
    )
    return {"speed": found, "threads": torch.get_num_threads()}


def one_loss(model: SequenceModel, batch: Batch) -> Tensor:
    loss = model.loss(batch, progress_at(0, 1, 0, CPU))[model.outputs[0]]
    return (loss * batch.mask).sum() / batch.mask.sum()


def unfused(model: SequenceModel, batch: Batch) -> dict[str, float]:
    """With torch's fused kernel, and with the formula in its place."""

    fused = attention.looked

    def formula(queries: Tensor, keys: Tensor, values: Tensor, view: attention.View) -> Tensor:
        return attention.attend(queries, keys, values, view.seen(queries.shape[2], queries.device))[0]

    def written_out() -> Tensor:
        attention.looked = formula
        try:
            return one_loss(model, batch)
        finally:
            attention.looked = fused

    return compared(model, batch, lambda: one_loss(model, batch), written_out)


def compared(
    model: SequenceModel, batch: Batch, ours: Callable[[], Tensor], theirs: Callable[[], Tensor], times: int = 7
) -> dict[str, float]:
    """Medians of both, the ratio, and how far apart loss and gradients are."""
    values, gradients, seconds = [], [], ([], [])
    for _ in range(times):
        for side, loss in enumerate((ours, theirs)):
            begin = time.perf_counter()
            total = loss()
            found = torch.autograd.grad(total, list(model.parameters()), materialize_grads=True)
            seconds[side].append(time.perf_counter() - begin)
            if len(values) < 2:
                values.append(float(total.detach()))
                gradients.append(torch.cat([g.flatten() for g in found]))
    ratios = [b / a for a, b in zip(*seconds, strict=True)]
    return {
        "ours_ms": 1e3 * statistics.median(seconds[0]),
        "theirs_ms": 1e3 * statistics.median(seconds[1]),
        "ratio": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "loss_apart": abs(values[0] - values[1]),
        "gradient_apart": float((gradients[0] - gradients[1]).abs().max() / gradients[1].abs().max()),
    }


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "gru": lambda: translation("translate-gru"),
    "attention": lambda: translation("translate-attention"),
    "transformer": lambda: translation("translate"),
    "shakespeare": shakespeare,
    "bert": bert,
    "fine-tuning": fine_tuning,
    "laws": laws,
    "speed": speed,
}


def write() -> None:
    write_page(RESULTS, DOCS / "text-benchmarks.md")
    write_readme_rows(RESULTS, Path("README.md"))


if __name__ == "__main__":
    measure(PARTS, RESULTS, sys.argv[1:], write)
