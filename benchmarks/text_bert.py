"""What is claimed about BERT, measured: hidden words against a two-sided bigram, and fine-tuning with few labels.

    python -m benchmarks.text bert fine-tuning

The novel is Kokoro, split into words (the public set `kokoro`); `sakiyomi train kokoro-bert` learns nine tenths of it.
"""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import cost, plain, spent
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.sources.text import PlainText, read_text
from sakiyomi.data.vocabulary import UNK, Vocabulary
from sakiyomi.files import write_atomic
from sakiyomi.fill import DRAWS, evaluate_hidden, fill, hidden_cost, teller, text_of, windows_of
from sakiyomi.fine_tune import Classifier, Example, FineTuning, accuracy, fine_tune
from sakiyomi.job import build
from sakiyomi.models import BERT
from sakiyomi.models.bert import MASKED, REPLACED, framed, paired
from sakiyomi.presets import preset
from sakiyomi.rollout import Trained, load
from sakiyomi.schedules import LearningRate
from sakiyomi.scores.statistics import bootstrap
from sakiyomi.train import train

RUNS = Path("runs/bench")
KOKORO = Path(os.environ.get("SAKIYOMI_TEXT", "../shared/data/text")) / "kokoro_wakati.txt"
FILLED = "私 は その 人 を 常に _ と 呼ん で い _ 。"


def bert() -> dict[str, Any]:
    """Held-out words, told from those around them, `sakiyomi train kokoro-bert`."""
    trained = trained_on("kokoro-bert", KOKORO)
    model = teller(trained)
    store, steps = EpisodeStore(trained.job.data.store), trained.job.data.steps
    text, scores = text_of(store, "validation"), evaluate_hidden(trained)
    as_trained, unknown = hidden_cost(model, text, steps, MASKED, REPLACED).nats, unknown_nats(store)
    return {
        "scores": plain(scores),
        "80/10/10, as in training": asdict(bootstrap(as_trained)),
        "of all words": {name: score.value + unknown for name, score in scores.items()},
        "unknown": {"share": float((text == UNK).mean()), "nats a word": unknown},
        "the other side counts": sides(model, text, steps),
        "next": follows(model, text, steps),
        "filled": fill(trained, FILLED).text,
        "words": {"train": len(text_of(store, "train")), "held out": len(text), "known": model.vocabularies["token"]},
        **cost(RUNS / "kokoro-bert"),
    }


def trained_on(name: str, text: Path) -> Trained:
    """The preset `kokoro-bert` on a text, trained unless that was done."""
    chosen = preset("kokoro-bert")
    store = Path("data") / name
    source = chosen.source
    assert isinstance(source, PlainText)
    if not (store / "dataset.json").exists():
        replace(source, path=str(text)).record(store)
    job = replace(chosen.job, data=replace(chosen.job.data, store=str(store)))
    spent(RUNS / name, lambda: train(job, RUNS / name, resume=(RUNS / name).exists()))
    return load(RUNS / name)


def unknown_nats(store: EpisodeStore) -> float:
    """What it costs, a held-out word on average, to say which word an unknown one is: all words of the novel that are
    not known are alike. So a loss with UNK as one word becomes one of all words of the novel, whose unigram costs
    5.69 nats."""
    vocabulary = store.streams["token"].vocabulary
    assert vocabulary is not None
    text = read_text(KOKORO)
    held_out = store.values("validation", "token")
    return float((held_out == UNK).mean() * math.log(len(vocabulary.unknown(text))))


@torch.inference_mode()
def sides(model: BERT, text: np.ndarray, steps: int) -> dict[str, float]:
    """How far the distribution of a hidden word moves, total variation in 0..1, when the word on its right is changed
    for another of the text, and when the one on its left is."""
    windows = windows_of(text, steps).clone()
    middle, generator = steps // 2, torch.Generator().manual_seed(0)
    windows[:, middle] = model.mask
    before = model.unroll({"token": windows})[0]["token"][:, middle].softmax(-1)
    found = {}
    for side, place in (("right", middle + 1), ("left", middle - 1)):
        changed = windows.clone()
        changed[:, place] = windows[torch.randperm(len(windows), generator=generator), place]
        after = model.unroll({"token": changed})[0]["token"][:, middle].softmax(-1)
        found[side] = float((after - before).abs().sum(-1).mean() / 2)
    return found


@torch.inference_mode()
def follows(model: BERT, text: np.ndarray, steps: int) -> dict[str, float]:
    """The share of pairs of half windows of which it says rightly whether the second follows, nothing hidden."""
    windows, right = windows_of(text, steps), []
    for seed in range(DRAWS):
        pairs = paired(windows, torch.ones_like(windows, dtype=torch.bool), torch.Generator().manual_seed(seed))
        said = model.follows({"token": framed(pairs.tokens, steps // 2)}) > 0
        right.append((said == pairs.follows).float().numpy())
    return asdict(bootstrap(np.concatenate(right)))


# Fine-tuning: is a sentence spoken, or told? The marks of speech are taken away. Labels are 50 a class.

LABELS, SEEDS, RATES = 50, range(10), (1e-4, 3e-4, 1e-3, 3e-3)
ARMS = ("fine-tuned", "frozen", "scratch")
SPOKEN, TOLD = 1, 0


def fine_tuning() -> dict[str, Any]:
    """Pre-trained and fine-tuned, pre-trained and frozen, from scratch: the share of held-out sentences that are told
    rightly. The first tenth of the novel is held out from everything, pre-training too, so the text is turned: its
    first tenth is at its end. The third part is a letter, all of which is in marks of speech, and is not asked about.
    Each arm's learning rate is the best of four on 200 other labelled sentences, for the first seed."""
    words = read_text(KOKORO).split()
    cut = len(words) - round(len(words) * 0.9)
    turned = RUNS / "kokoro-turned.txt"
    write_atomic(turned, " ".join([*words[cut:], *words[:cut]]).encode())
    trained = trained_on("kokoro-turned", turned)
    vocabulary = EpisodeStore(trained.job.data.store).streams["token"].vocabulary
    assert vocabulary is not None
    third = " ".join(words).index("下 先生 と 遺書")
    learned = sentences(" ".join(words)[:third][len(" ".join(words[:cut])) :], vocabulary)
    tested = balanced(sentences(" ".join(words[:cut]), vocabulary), 0)
    found: dict[str, Any] = {}
    for arm in ARMS:
        tried = {rate: one_run(trained, arm, rate, learned, None, 0) for rate in RATES}
        rate = max(tried, key=tried.__getitem__)
        scores = [one_run(trained, arm, rate, learned, tested, seed) for seed in SEEDS]
        found[arm] = {"accuracy": scores, "mean": float(np.mean(scores)), "rate": rate, "tried": tried}
    better = np.array(found["fine-tuned"]["accuracy"]) - np.array(found["scratch"]["accuracy"])
    return {
        "fine-tuning": found,
        "fine-tuned less scratch": asdict(bootstrap(better)),
        "tested": len(tested),
        "labels a class": LABELS,
        **cost(RUNS / "kokoro-turned"),
    }


def one_run(
    trained: Trained, arm: str, rate: float, learned: Sequence[Example], tested: Sequence[Example] | None, seed: int
) -> float:
    """The accuracy on `tested`, or on other sentences of those that may be learned from."""
    drawn = balanced(learned, seed)
    kinds = [[one for one in drawn if one.label == label] for label in (TOLD, SPOKEN)]
    shown = [example for kind in kinds for example in kind[:LABELS]]
    others = [example for kind in kinds for example in kind[LABELS : LABELS + 100]]
    torch.manual_seed(seed)
    model = build(trained.job.model)
    if arm != "scratch":
        model.load_state_dict(trained.model.state_dict())
    head = Classifier(model, 2)
    how = FineTuning(steps=150, learning_rate=LearningRate(rate, 15, "linear"), frozen=arm == "frozen", seed=seed)
    fine_tune(head, shown, how)
    return accuracy(head, others if tested is None else tested)


def sentences(text: str, vocabulary: Vocabulary) -> list[Example]:
    """The sentences of 6 to 40 words, without their last mark, and whether they are spoken."""
    spoken = [part for said in re.findall(r"「 (.*?) 」", text) for part in said.split(" 。")]
    told = re.sub(r"「 .*? 」", "。", text).split("。")
    return [
        Example((tuple(vocabulary.encode(part)),), label)
        for label, parts in ((SPOKEN, spoken), (TOLD, told))
        for part in dict.fromkeys(part.strip(" 。") for part in parts)
        if 6 <= len(part.split()) <= 40 and not {"「", "」"} & set(part.split())
    ]


def balanced(examples: Sequence[Example], seed: int) -> list[Example]:
    """As many of each class, in an order drawn by the seed."""
    drawn = [examples[i] for i in np.random.default_rng(seed).permutation(len(examples))]
    kinds = [[one for one in drawn if one.label == label] for label in (TOLD, SPOKEN)]
    count = min(map(len, kinds))
    return [example for kind in kinds for example in kind[:count]]
