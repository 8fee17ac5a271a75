"""The verbs of the command line for models that write."""

from dataclasses import dataclass
from pathlib import Path

from sakiyomi.arguments import narrow, parse, run_folder
from sakiyomi.data.formats.importing import given
from sakiyomi.decode import Decoding
from sakiyomi.evaluate_text import HowWritten, evaluate_text, save_text
from sakiyomi.explain_text import Looking, explain_text
from sakiyomi.files import write_atomic
from sakiyomi.fill import evaluate_hidden, fill, save_hidden
from sakiyomi.models.base import Reads
from sakiyomi.rollout import Trained, load
from sakiyomi.run import console, pick_device, progress_bar
from sakiyomi.views.tables import print_scores
from sakiyomi.write import Written, examples, go_on, lines_of, translate, without_gaps


@dataclass(frozen=True)
class RolloutText(Decoding):
    """Say a sentence in another language, or go on with a text."""

    text: str = ""
    """The sentence, or how the text begins; of a model that fills holes the text with _ where a word is left out. A
    translator without one takes a few sentences of the validation split."""
    file: str = ""
    """A file of sentences, one a line."""
    out: str = ""
    """A file for what comes of them, one a line."""
    run: str = ""
    """Run folder; runs/NAME if not given."""
    device: str = "auto"
    """auto, cpu or cuda."""


@dataclass(frozen=True)
class EvaluateText(HowWritten):
    """Score a trained model of text."""

    run: str = ""
    """Run folder; runs/NAME if not given."""


@dataclass(frozen=True)
class ExplainText(Looking):
    """A picture of where in the source each word comes from."""

    run: str = ""
    """Run folder; runs/NAME if not given."""


def do_rollout_text(name: str, rest: list[str]) -> None:
    args = parse(RolloutText(), f"rollout {name}", rest)
    trained = loaded(run_folder(name, args.run), args.device)
    how = narrow(args, Decoding)
    if trained.model.whole:
        filled = fill(trained, args.text)
        console.print(filled.text, markup=False, soft_wrap=True)
        for hole in filled.holes:
            told = ", ".join(f"{word} {p:.0%}" for word, p in zip(hole.words, hole.probabilities, strict=True))
            console.print(f"  {told}", markup=False, soft_wrap=True)
        warn(filled.unknown)
        return
    if isinstance(trained.model, Reads):
        lines = lines_of(given(args.file, "a file of sentences")) if args.file else []
        found = translate(trained, [args.text] if args.text else lines or examples(trained), how)
        for one in found:
            tell(one)
    else:
        found = [go_on(trained, args.text, how)]
        for text in (found[0].text, *found[0].others):
            console.print(f"{args.text}{text}", markup=False, soft_wrap=True)
        warn(found[0].unknown)
    if args.out:
        write_atomic(Path(args.out), "".join(f"{without_gaps(one.text)}\n" for one in found).encode())


def tell(one: Written) -> None:
    """A sentence, what is said of it, and what of it was not understood."""
    console.print(one.source, style="dim", markup=False, soft_wrap=True)
    for text in (one.text, *one.others):
        console.print(f"  {without_gaps(text)}", markup=False, soft_wrap=True)
    warn(one.unknown)
    if not one.ended:
        console.print("  (cut: it did not come to an end; more --steps)", style="yellow", markup=False)


def warn(unknown: tuple[str, ...]) -> None:
    if unknown:
        console.print(f"  (not known: {' '.join(unknown[:20])})", style="yellow", markup=False, soft_wrap=True)


def do_evaluate_text(name: str, rest: list[str]) -> None:
    args = parse(EvaluateText(), f"evaluate {name}", rest)
    folder = run_folder(name, args.run)
    trained = loaded(folder, args.device)
    if trained.model.whole:
        scores = evaluate_hidden(trained, args.split)
        print_scores(scores)
        console.print(str(save_hidden(scores, trained, folder, args.split)))
        return
    with progress_bar("reading", 1) as bar:
        found = evaluate_text(trained, narrow(args, HowWritten), bar.of)
    print_scores(found.scores)
    console.print(str(save_text(found, trained, folder)))


def do_explain_text(name: str, rest: list[str]) -> None:
    args = parse(ExplainText(), f"explain {name}", rest)
    folder = run_folder(name, args.run)
    for path in explain_text(loaded(folder, args.device), narrow(args, Looking), folder):
        console.print(str(path))


def loaded(folder: Path, device: str) -> Trained:
    return load(folder, str(pick_device(device)))
