"""The verbs of the command line for models that write."""

from dataclasses import dataclass
from pathlib import Path

from sakiyomi.arguments import narrow, parse, run_folder
from sakiyomi.data.formats.importing import given
from sakiyomi.decode import Decoding
from sakiyomi.errors import SakiyomiError
from sakiyomi.evaluate_text import HowWritten, evaluate_text, save_text
from sakiyomi.explain_text import Looking, explain_text
from sakiyomi.files import write_atomic
from sakiyomi.fill import evaluate_hidden, fill, save_hidden
from sakiyomi.models.base import Reads
from sakiyomi.rollout import Trained, load
from sakiyomi.run import console, pick_device, progress_bar
from sakiyomi.views.tables import print_scores
from sakiyomi.write import (
    Written,
    examples,
    go_on,
    in_utf8,
    lines_of,
    translate,
    translate_ids,
    warn,
    without_gaps,
)


@dataclass(frozen=True)
class RolloutText(Decoding):
    """Say a sentence in another language, or go on with a text."""

    text: str = ""
    """The sentence, or how the text begins; of a model that fills holes the text with _ where a word is left out. A
    translator without one takes a few sentences of the validation split."""
    file: str = ""
    """A file of sentences, one a line, in place of --text."""
    out: str = ""
    """A file for what comes of it: of --file line by line, an empty line for an empty one."""
    never: tuple[int, ...] = ()
    """Numbers of more words that are never said; PAD, BOS and UNK never are, and by a language model EOS."""
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
    text = in_utf8("--text", args.text)
    trained = loaded(run_folder(name, args.run), args.device)
    if args.file and text:
        raise SakiyomiError("--text is one sentence, --file many; give one of them")
    if args.file and not isinstance(trained.model, Reads):
        raise SakiyomiError(f"--file is for translators, {type(trained.model).__name__} reads one text; give --text")
    how = narrow(args, Decoding)
    if trained.model.whole:
        said = [filled_in(trained, text)]
    elif isinstance(trained.model, Reads):
        said = [without_gaps(one.text) if one else "" for one in translated(trained, args, how)]
    else:
        said = [gone_on(trained, text, how)]
    if args.out:
        write_atomic(Path(args.out), "".join(f"{line}\n" for line in said).encode())


def filled_in(trained: Trained, text: str) -> str:
    """A text with its holes filled."""
    filled = fill(trained, text)
    console.print(filled.text, markup=False, soft_wrap=True)
    for hole in filled.holes:
        told = ", ".join(f"{word} {p:.0%}" for word, p in zip(hole.words, hole.probabilities, strict=True))
        console.print(f"  {told}", markup=False, soft_wrap=True)
    warn(filled.unknown)
    return filled.text


def translated(trained: Trained, args: RolloutText, how: Decoding) -> list[Written | None]:
    """What is said of --text, of each line of --file (None: of an empty one), or of a few examples."""
    if not args.file:
        found = translate(trained, [args.text], how) if args.text else translate_ids(trained, examples(trained), how)
        for one in found:
            tell(one)
        return [*found]
    lines = lines_of(given(args.file, "a file of sentences"))
    said = iter(translate(trained, [line for line in lines if line.strip()], how))
    found = [next(said) if line.strip() else None for line in lines]
    for one in found:
        if one:
            tell(one)
    return found


def gone_on(trained: Trained, text: str, how: Decoding) -> str:
    """A text with the best, or the first, of what it goes on with."""
    found = go_on(trained, text, how)
    for whole, nats in zip(found.whole, found.log_probabilities, strict=True):
        console.print(f"{whole}{chance(nats, found)}", markup=False, soft_wrap=True)
    warn(found.unknown)
    return found.whole[0]


def tell(one: Written) -> None:
    """A sentence, what is said of it, and what of it was not understood."""
    console.print(one.source, style="dim", markup=False, soft_wrap=True)
    for text, nats in zip((one.text, *one.others), one.log_probabilities, strict=True):
        console.print(f"  {without_gaps(text)}{chance(nats, one)}", markup=False, soft_wrap=True)
    warn(one.unknown)
    if not one.ended:
        console.print("  (cut: it did not come to an end; more --steps)", style="yellow", markup=False)


def chance(nats: float, one: Written) -> str:
    """How likely a text is, where there are several."""
    return f"  ({nats:.2f} nats)" if one.others else ""


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
