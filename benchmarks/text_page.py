"""docs/text-benchmarks.md and the README's rows, from benchmarks/results/text: nothing there is typed."""

from pathlib import Path
from typing import Any

from benchmarks.page import cost, found_in, put_between, table, write_parts

HEAD = """# Benchmarks: text

Written by `python -m benchmarks.text` (`make bench`) from the figures in `benchmarks/results/text`. Translation:
English to Japanese, 50,000 pairs to train on, 500 to score (small_parallel_enja), which also choose the best weights of
a training. BLEU is sacrebleu's with `tokenize=none`, of what a model says by itself. Intervals are 95 %, over sentences
or letters. One training a row: they do not cover the luck of a training.
"""
TRANSLATORS = {"gru": "translate-gru", "attention": "translate-attention", "transformer": "translate"}
MEANT = {"gru": "Two GRUs", "attention": "Two GRUs with attention", "transformer": "Transformer"}


def write_page(results: Path, path: Path) -> None:
    """Write the page from whichever parts have been measured."""
    writers = {
        "gru": lambda found: _translator("gru", found),
        "attention": lambda found: _translator("attention", found),
        "transformer": lambda found: _translator("transformer", found),
        "shakespeare": _shakespeare,
        "bert": _bert,
        "fine-tuning": _fine_tuning,
        "laws": _laws,
        "speed": _speed,
    }
    write_parts(HEAD, writers, results, path, "text")


def write_readme_rows(results: Path, readme: Path) -> None:
    """Put the measured presets between the README's two marks."""
    rows = []
    for part, preset in TRANSLATORS.items():
        found = found_in(results, part)
        if found:
            scores = found["scores"]
            told = f"BLEU {scores['bleu']['value']:.1f} greedily, {scores['bleu/beam']['value']:.1f} with a beam of 4"
            rows.append((f"`{preset}`", f"`sakiyomi train {preset}`", cost(found), told))
    found = found_in(results, "shakespeare")
    if found:
        told = f"{found['scores']['nll']['value']:.3f} nats a letter it never saw"
        rows.append(("`shakespeare`", "`sakiyomi train shakespeare`", cost(found), told))
    found = found_in(results, "bert")
    if found:
        told = (
            f"{found['scores']['hidden']['value']:.2f} nats a hidden word; a two-sided bigram "
            f"{found['scores']['hidden/bigram']['value']:.2f}"
        )
        rows.append(("`kokoro-bert`", "`sakiyomi train kokoro-bert`", cost(found), told))
    put_between(readme, "written", table(("preset", "command", "training", "what came of it"), rows))


def _score(score: dict[str, Any], digits: int = 1) -> str:
    if score["low"] is None:
        return f"{score['value']:.{digits}f}"
    return f"{score['value']:.{digits}f} ({score['low']:.{digits}f} to {score['high']:.{digits}f})"


def _trained(found: dict[str, Any]) -> str:
    job = found["job"]
    return f"{job['steps']:,} steps of {job['batch']} in {job['precision']}: {cost(found)}."


def _translator(part: str, found: dict[str, Any]) -> str:
    scores = found["scores"]
    rows = [
        ("greedy", _score(scores["bleu"])),
        ("beam of 4, length penalty 0.6", _score(scores["bleu/beam"])),
        ("greedy, sources that are not in the training split", _score(scores["bleu/new"])),
        ("greedy, of another sentence's source", _score(scores["bleu/shuffled"])),
    ]
    picture = ""
    if part == "transformer":
        picture = "\n![Where in the source each word comes from.](translation-attention.png)\n"
    return f"""## {MEANT[part]}: `{TRANSLATORS[part]}`

{table(("said", "BLEU"), rows)}
Of the {scores["overlap"]["protocol"]["n"]} sources {scores["overlap"]["value"]:.1%} are in the training split, too,
with another translation (pairs that are the same on both sides are left out). Told all true words before it, a word
costs {_score(scores["nll"], 2)} nats. {_trained(found)}
{picture}"""


def _shakespeare(found: dict[str, Any]) -> str:
    scores = found["scores"]
    said = "\n".join(f"> {line}  " if line else ">" for line in found["said"].strip().split("\n"))
    return f"""## Letters of Shakespeare: `shakespeare`

{_score(scores["nll"], 3)} nats a letter on the last tenth of the text; by their frequency alone letters cost
{scores["nll/by frequency"]["value"]:.2f}. {_trained(found)} Drawn at temperature 0.8 after `ROMEO:`:

{said}
"""


def _bert(found: dict[str, Any]) -> str:
    scores, whole = found["scores"], found["of all words"]
    names = {
        "hidden": "BERT, 15 % hidden",
        "hidden/bigram": "two-sided bigram, the same places",
        "alone": "BERT, each word hidden alone",
        "alone/bigram": "two-sided bigram, the same places",
        "by frequency": "by frequency alone",
    }
    rows = [(told, _score(scores[name], 2), f"{whole[name]:.2f}") for name, told in names.items()]
    words, unknown, sides = found["words"], found["unknown"], found["the other side counts"]
    follows = found["next"]
    return f"""## Words left out: `kokoro-bert`

Kokoro by Natsume Soseki, {words["train"]:,} words to learn from and the last {words["held out"]:,} to score, nats a
hidden word. The vocabulary has {words["known"]:,} words; {unknown["share"]:.1%} of the held-out ones are unknown. The
last column adds what it costs to say which of the unknown words it was, {unknown["nats a word"]:.2f} nats a word on
average.

{table(("", "nats a word", "of all words"), rows)}
With 80/10/10 as in training it is {_score(found["80/10/10, as in training"], 2)}. Another word on the right moves
what is said of a hidden word by {sides["right"]:.2f} (total variation, 0 to 1), on the left by {sides["left"]:.2f}.
Whether the second half of a window follows the first is told rightly in {follows["value"]:.1%}
({follows["low"]:.1%} to {follows["high"]:.1%}). {cost(found)}.
"""


def _fine_tuning(found: dict[str, Any]) -> str:
    arms = found["fine-tuning"]
    rows = [
        (arm, f"{one['mean']:.1%}", " ".join(f"{100 * value:.1f}" for value in one["accuracy"]), f"{one['rate']:g}")
        for arm, one in arms.items()
    ]
    less = found["fine-tuned less scratch"]
    return f"""## Few labels: BERT put to another task

Is a sentence spoken or told, its marks taken away? {found["labels a class"]} labels a class, {found["tested"]}
sentences of the first tenth of the novel, from which pre-training learned nothing either, though its loss there chose
which weights were kept. Learning rates are chosen on other sentences, each arm's for itself. Fine-tuned less scratch:
{100 * less["value"]:.1f} points ({100 * less["low"]:.1f} to {100 * less["high"]:.1f}, over seeds). Pre-training:
{cost(found)}.

{table(("", "right, mean", "each seed, %", "learning rate"), rows)}"""


def _laws(found: dict[str, Any]) -> str:
    rows = [
        (f"`{name}`", f"{one['outputs']:.1e}", f"{one['states']:.1e}", f"{one['padding']:.1e}")
        for name, one in found["laws"].items()
    ]
    head = ("model of", "logits, unroll against step", "states", "logits, source filled up with PAD")
    return f"## Laws, float32, 60 steps\n\nLargest differences.\n\n{table(head, rows)}"


def _speed(found: dict[str, Any]) -> str:
    rows = [
        (
            name,
            f"{one['ratio']:.2f}x ({one['lowest']:.2f} to {one['highest']:.2f})",
            f"{one['ours_ms']:.0f} / {one['theirs_ms']:.0f}",
            f"{one['loss_apart']:.0e}",
            f"{one['gradient_apart']:.0e}",
        )
        for name, one in found["speed"].items()
    ]
    head = ("training step, float32", "faster", "ms, ours / theirs", "losses apart", "gradients apart, of the largest")
    return f"""## Speed

Loss and gradients of one batch (128 pairs; 16 passages), A B A B in one process on {found["threads"]} thread(s):
medians, lowest and highest ratio.

{table(head, rows)}"""
