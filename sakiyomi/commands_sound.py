"""The verbs of the command line for models that speak."""

from dataclasses import dataclass
from pathlib import Path

from sakiyomi.arguments import narrow, parse, run_folder
from sakiyomi.evaluate_sound import HowSpoken, evaluate_sound, save_sound
from sakiyomi.rollout import load
from sakiyomi.run import console, pick_device, progress_bar
from sakiyomi.speak import PAUSE, Speaking, rollout_sound
from sakiyomi.views.tables import print_scores


@dataclass(frozen=True)
class RolloutSound(Speaking):
    """Say something, sample by sample, into a sound file."""

    label: str = ""
    """What is to be said: words of a label, such as 7, seven, or "7 theo"; all labels if not given."""
    count: int = 0
    """How many sounds; 0 says each label once."""
    out: str = ""
    """Sound file; rollout.wav in the run folder if not given. A picture is written beside it."""
    run: str = ""
    """Run folder; runs/NAME if not given."""
    device: str = "auto"
    """auto, cpu or cuda."""


@dataclass(frozen=True)
class EvaluateSound(HowSpoken):
    """Score a model that speaks."""

    run: str = ""
    """Run folder; runs/NAME if not given."""


def do_rollout_sound(name: str, rest: list[str]) -> None:
    args = parse(RolloutSound(), f"rollout {name}", rest)
    folder = run_folder(name, args.run)
    trained = load(folder, str(pick_device(args.device)))
    out = Path(args.out or folder / "rollout.wav")
    spoken, picture = rollout_sound(trained, args.label, args.count, narrow(args, Speaking), out)
    for number, one in enumerate(spoken):
        console.print(f"{number * (args.seconds + PAUSE):7.1f} s  {one.name}", markup=False)
    console.print(f"{out}, {picture}", markup=False, soft_wrap=True)


def do_evaluate_sound(name: str, rest: list[str]) -> None:
    args = parse(EvaluateSound(), f"evaluate {name}", rest)
    folder = run_folder(name, args.run)
    trained = load(folder, str(pick_device(args.device)))
    with progress_bar("speaking", 1) as bar:
        found = evaluate_sound(trained, narrow(args, HowSpoken), bar.of)
    print_scores(found.scores)
    console.print(str(save_sound(found, trained, folder)))
