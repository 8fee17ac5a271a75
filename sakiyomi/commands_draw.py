"""The verbs of the command line for models that draw pictures, and for a hand of one's own."""

from dataclasses import dataclass
from pathlib import Path

from sakiyomi.arguments import narrow, parse, run_folder
from sakiyomi.data.formats.importing import given
from sakiyomi.draw import Drawing, Generating, Mapping, explain_draws, generate_sheet, rollout_draws
from sakiyomi.errors import SakiyomiError
from sakiyomi.evaluate_draws import HowDrawn, evaluate_draws, save_draws
from sakiyomi.rollout import Trained, load
from sakiyomi.run import console, pick_device, progress_bar
from sakiyomi.serve_latent import ServingLatent, serve_latent
from sakiyomi.style import Styling, write_style
from sakiyomi.views.tables import print_scores

HANDS = ("mnist", "digits")  # presets whose runs write in a given hand, the better one first


@dataclass(frozen=True)
class Generate(Generating):
    """Draw pictures that nobody has seen, with a trained model."""

    run: str = ""
    """Run folder; runs/NAME if not given."""


@dataclass(frozen=True)
class EvaluateDraws(HowDrawn):
    """Score a trained model of pictures."""

    run: str = ""
    """Run folder; runs/NAME if not given."""


@dataclass(frozen=True)
class RolloutDraws(Drawing):
    """Draw every label, and pictures that turn into others."""

    run: str = ""
    """Run folder; runs/NAME if not given."""


@dataclass(frozen=True)
class ExplainDraws(Mapping):
    """The map of the latent space, PCA and t-SNE beside it, TensorBoard's projector."""

    run: str = ""
    """Run folder; runs/NAME if not given."""


@dataclass(frozen=True)
class StyleOf(Styling):
    """Write the ten digits in the hand of one photographed digit."""

    run: str = ""
    """Run folder; runs/mnist if not given, or runs/digits if there is no such run."""


@dataclass(frozen=True)
class ServeLatent(ServingLatent):
    """Serve a page on which the latent space is walked through."""

    run: str = ""
    """Run folder; runs/NAME if not given."""


def do_generate(name: str, rest: list[str], what: str) -> None:
    args = parse(Generate(), f"generate {name}", rest)
    folder = run_folder(name, args.run)
    if what != "draws":
        raise SakiyomiError(f"{name} {what}; generate takes a run that draws, such as digits or mnist")
    for path in generate_sheet(loaded(folder, args.device), narrow(args, Generating), folder):
        console.print(str(path))


def do_style(name: str, rest: list[str]) -> None:
    args = parse(StyleOf(), f"style {name}", rest)
    photo = given(name, "a photo of one handwritten digit")
    there = [hand for hand in HANDS if (Path("runs") / hand / "weights.safetensors").exists()]
    if not args.run and not there:
        raise SakiyomiError(
            "no model that writes is trained yet: sakiyomi train digits (half a minute), or name a --run"
        )
    folder = run_folder(there[0] if there else HANDS[-1], args.run)
    out = Path(args.out) if args.out else folder / "style"
    found, paths = write_style(loaded(folder, args.device), photo, narrow(args, Styling), out)
    for line in (*found.did, found.note):
        if line:
            console.print(line, markup=False)
    for path in paths:
        console.print(str(path))


def do_evaluate_draws(name: str, rest: list[str]) -> None:
    args = parse(EvaluateDraws(), f"evaluate {name}", rest)
    folder = run_folder(name, args.run)
    trained = loaded(folder, args.device)
    with progress_bar("looking", 1) as bar:
        found = evaluate_draws(trained, narrow(args, HowDrawn), bar.of)
    print_scores(found.scores)
    console.print(str(save_draws(found, trained, folder)))


def do_rollout_draws(name: str, rest: list[str]) -> None:
    args = parse(RolloutDraws(), f"rollout {name}", rest)
    folder = run_folder(name, args.run)
    for path in rollout_draws(loaded(folder, args.device), narrow(args, Drawing), folder):
        console.print(str(path))


def do_explain_draws(name: str, rest: list[str]) -> None:
    args = parse(ExplainDraws(), f"explain {name}", rest)
    folder = run_folder(name, args.run)
    with progress_bar("mapping", 1) as bar:
        paths = explain_draws(loaded(folder, args.device), narrow(args, Mapping), folder, bar.of)
    for path in paths:
        console.print(str(path))


def do_serve_draws(name: str, rest: list[str]) -> None:
    args = parse(ServeLatent(), f"serve {name}", rest)
    serve_latent(name, load(run_folder(name, args.run)), narrow(args, ServingLatent))


def loaded(folder: Path, device: str) -> Trained:
    return load(folder, str(pick_device(device)))
