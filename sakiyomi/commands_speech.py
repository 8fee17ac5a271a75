"""The verbs of the command line for models that hear."""

import time
from dataclasses import dataclass
from pathlib import Path

from sakiyomi.arguments import narrow, option, parse, run_folder
from sakiyomi.audio.wave import silent
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.formats.importing import given
from sakiyomi.errors import SakiyomiError, at_least
from sakiyomi.evaluate_speech import HowHeard, evaluate_speech, save_speech
from sakiyomi.recognize import (
    Listening,
    frames_of,
    hear,
    hear_file,
    language_of,
    rate_of,
    recogniser,
    recorded_frames,
    samples_of,
    stream,
)
from sakiyomi.rollout import Trained, load
from sakiyomi.run import console, pick_device, progress_bar
from sakiyomi.views.tables import print_scores

OF_THE_BEAM = ("--order", "--weight", "--bonus")  # they count in a beam search only


@dataclass(frozen=True)
class RolloutSpeech(Listening):
    """Say what is said in a sound file, or in recordings of the store."""

    file: str = ""
    """A sound file of any rate, one channel or several."""
    stream: bool = False
    """Say each label as it is heard, with its time; only for a causal model, along the likeliest path. A file's level
    is known beforehand, as that of a microphone is not."""
    split: str = "validation"
    """Without a file: the split of the recordings."""
    count: int = 5
    """Without a file: how many of them."""
    run: str = ""
    """Run folder; runs/NAME if not given."""
    device: str = "auto"
    """auto, cpu or cuda."""


@dataclass(frozen=True)
class EvaluateSpeech(HowHeard):
    """Score a trained recogniser."""

    run: str = ""
    """Run folder; runs/NAME if not given."""


def do_rollout_speech(name: str, rest: list[str]) -> None:
    args = parse(RolloutSpeech(), f"rollout {name}", rest)
    asked = [flag for flag in OF_THE_BEAM if option(rest, flag)]
    if args.beam == 1 and asked:
        raise SakiyomiError(f"{', '.join(asked)} would be ignored: that is for a beam search; give --beam 16 as well")
    trained = load(run_folder(name, args.run), str(pick_device(args.device)))
    vocabulary, how = recogniser(trained), narrow(args, Listening)
    if args.stream and args.beam > 1:
        raise SakiyomiError("--stream follows the likeliest path; leave out --beam")
    at_least("--count", args.count, 1)
    language = None
    if args.beam > 1 and args.order:
        language = language_of(EpisodeStore(trained.job.data.store), vocabulary, args.order)
    if args.file:
        path = given(args.file, "a sound file")
        if args.stream:
            tell_stream(trained, path)
            return
        heard = hear_file(trained, path, how, language)
        console.print(heard.text or "(nothing)", markup=False, soft_wrap=True)
        warn(heard.notes)
        return
    store = EpisodeStore(trained.job.data.store)
    for entry in store.split(args.split)[: args.count]:
        console.print(f"{entry.id}: {entry.meta.get('transcript', '')}", style="dim", markup=False, soft_wrap=True)
        frames = recorded_frames(trained, store, entry)
        if args.stream:
            console.print(
                "  " + " ".join(f"{said.text}@{said.time:.2f}" for said in stream(trained, frames)), markup=False
            )
        else:
            console.print(f"  {hear(trained, frames, how, language).text or '(nothing)'}", markup=False, soft_wrap=True)


def tell_stream(trained: Trained, path: Path) -> None:
    """A line for each label as it comes, and how much faster than the sound that was."""
    samples, notes = samples_of(trained, path)
    warn(notes)
    if silent(samples):
        console.print("(nothing)")
        return
    frames, begin = frames_of(trained, samples), time.perf_counter()
    for said in stream(trained, frames):
        console.print(f"{said.time:7.2f} s  {said.text}", markup=False)
    took, seconds = time.perf_counter() - begin, len(frames) / rate_of(trained)
    console.print(f"{seconds:.1f} s of sound in {took:.1f} s", style="dim")


def warn(notes: tuple[str, ...]) -> None:
    for note in notes:
        console.print(f"  ({note})", style="yellow", markup=False, soft_wrap=True)


def do_evaluate_speech(name: str, rest: list[str]) -> None:
    args = parse(EvaluateSpeech(), f"evaluate {name}", rest)
    folder = run_folder(name, args.run)
    trained = load(folder, str(pick_device(args.device)))
    with progress_bar("listening", 1) as bar:
        found = evaluate_speech(trained, narrow(args, HowHeard), bar.of)
    print_scores(found.scores)
    console.print(str(save_speech(found, trained, folder)))
