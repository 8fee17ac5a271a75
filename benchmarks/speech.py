"""What is claimed about recognisers, measured: AN4, digits of a speaker never heard, sub-tasks of an arm.

    python -m benchmarks.speech                all parts
    python -m benchmarks.speech an4            one

Each part writes benchmarks/results/speech/PART.json; trained runs stay in runs/bench and are not trained again. AN4 and
the spoken digits are .npz files, which SAKIYOMI_AN4 and SAKIYOMI_FSDD name.
"""

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import cost, measure, plain, spent
from benchmarks.speech_page import write_page, write_readme_rows
from sakiyomi.data.episodes import Entry, EpisodeStore
from sakiyomi.data.sources import Source
from sakiyomi.data.sources.an4 import An4
from sakiyomi.data.sources.spoken_digits import SpokenDigits, read_clips
from sakiyomi.data.sources.subtasks import SubTasks
from sakiyomi.data.utterances import labels_of
from sakiyomi.evaluate_speech import HowHeard, evaluate_speech, save_speech
from sakiyomi.job import Job
from sakiyomi.presets import preset
from sakiyomi.recognize import alignment, log_probs, recorded_frames, stream
from sakiyomi.rollout import Trained, load
from sakiyomi.scores.statistics import bootstrap
from sakiyomi.train import train

RESULTS, RUNS = Path("benchmarks/results/speech"), Path("runs/bench")
AN4 = os.environ.get("SAKIYOMI_AN4", "../shared/data/audio/an4_mfcc.npz")
FSDD = os.environ.get("SAKIYOMI_FSDD", "../shared/data/audio/fsdd.npz")
TIMED = 500  # frames that are stepped through to time them


def an4() -> dict[str, Any]:
    """Word error rate of speakers never heard, `sakiyomi train an4`; the weight of the language model is the verb's
    own, which was chosen on the validation split."""
    trained, folder = run("an4", An4(AN4))
    found = {split: evaluate_speech(trained, HowHeard(split)) for split in ("validation", "test")}
    save_speech(found["test"], trained, folder)
    examples = [(one.true, one.said["path"], one.said["language"]) for one in found["test"].utterances[:12]]
    return {
        "scores": plain(found["test"].scores),
        "validation": plain(found["validation"].scores),
        "examples": examples,
        "cost": cost(folder),
    }


def digits() -> dict[str, Any]:
    """Digits of a speaker never heard, `sakiyomi train spoken-digits`; and what hearing as one speaks takes."""
    trained, folder = run("spoken-digits", SpokenDigits(FSDD))
    found = evaluate_speech(trained, HowHeard())
    save_speech(found, trained, folder)
    store = EpisodeStore(trained.job.data.store)
    frames = torch.cat([recorded_frames(trained, store, entry) for entry in store.split("test")])[:TIMED]
    whole = log_probs(trained.model, frames)
    state, apart = trained.model.initial(1), 0.0
    for at, frame in enumerate(frames):
        with torch.inference_mode():
            prediction, state = trained.model.step({"feature": frame[None]}, state)
        stepped = prediction["transcript"][0].log_softmax(-1)
        apart = max(apart, float((stepped.exp() - whole[at].exp()).abs().max()))
    begin = time.perf_counter()
    said = [label.text for label in stream(trained, frames)]
    took = (time.perf_counter() - begin) / len(frames)
    scores = plain(found.scores)
    return {
        "scores": scores,
        "right": 1 - scores["wer"]["value"],
        "unroll_minus_step": apart,
        "ms_a_frame": 1000 * took,
        "streamed": said[:20],
        "cost": cost(folder),
    }


def speakers() -> dict[str, Any]:
    """The same with each speaker in turn as the one who is never heard."""
    found = {}
    for unseen in sorted({clip.speaker for clip in read_clips(Path(FSDD))}):
        name, store = f"spoken-digits-{unseen}", f"data/spoken-digits-{unseen}"
        job = preset("spoken-digits").job
        job = replace(job, data=replace(job.data, store=store))
        trained, folder = run(name, SpokenDigits(FSDD, unseen=unseen), job)
        scores = evaluate_speech(trained, HowHeard()).scores
        found[unseen] = {"right": 1 - scores["wer"].value, "scores": plain(scores), "cost": cost(folder)}
    return {"mean": float(np.mean([one["right"] for one in found.values()])), "speakers": found}


def subtasks() -> dict[str, Any]:
    """Sub-tasks of an arm, learned from lists without times: labels that are wrong, and how far from the expert's own
    plan each was found. A label is found where the likeliest path comes to it; how long that is after it began, at the
    median over training sequences, is taken off (`corrected`), which takes the true times of training sequences."""
    trained, folder = run("pick-subtasks", SubTasks())
    scores = evaluate_speech(trained, HowHeard(order=0)).scores
    store = EpisodeStore(trained.job.data.store)
    late = {split: found_late(trained, store, store.split(split)[:200]) for split in ("train", "test")}
    usual = float(np.median(late["train"]))
    corrected = np.abs(late["test"] - usual)
    control = np.concatenate([evenly(store, entry) for entry in store.split("test")])
    return {
        "scores": plain(scores),
        "boundaries": len(late["test"]),
        "late_s": {f"{q}%": float(np.percentile(late["test"], q)) for q in (10, 50, 90)},
        "usual_s": usual,
        "uncorrected_s": vars(bootstrap(np.abs(late["test"]))),
        "corrected_s": vars(bootstrap(corrected)),
        "within_0.2_s": float((corrected <= 0.2 + 1e-9).mean()),
        "evenly_spaced_s": vars(bootstrap(np.abs(control))),
        "cost": cost(folder),
    }


def found_late(trained: Trained, store: EpisodeStore, entries: tuple[Entry, ...]) -> np.ndarray:
    """How long after it truly began each sub-task but the first was found, s, told which ones there are."""
    rate, found = store.streams["feature"].rate, []
    for entry in entries:
        said = log_probs(trained.model, recorded_frames(trained, store, entry))
        labels = tuple(labels_of(store, entry, "transcript").tolist())
        found += (np.array(alignment(said, labels)) / rate - entry.meta["begins"])[1:].tolist()
    return np.array(found)


def evenly(store: EpisodeStore, entry: Entry) -> np.ndarray:
    """The same of sub-tasks that are said to be equally long: the control."""
    begins, seconds = np.array(entry.meta["begins"]), entry.lengths["feature"] / store.streams["feature"].rate
    return (np.arange(len(begins)) * seconds / len(begins) - begins)[1:]


def run(name: str, source: Source, job: Job | None = None) -> tuple[Trained, Path]:
    """The trained preset (or job), its recordings made and its weights learned if that was not done."""
    job, folder = job or preset(name).job, RUNS / name
    if not (Path(job.data.store) / "dataset.json").exists():
        source.record(Path(job.data.store))
    spent(folder, lambda: train(job, folder, resume=(folder / "job.json").exists()))
    return load(folder), folder


def write() -> None:
    write_page(RESULTS, Path("docs/sound-benchmarks.md"))
    write_readme_rows(RESULTS, Path("README.md"))


if __name__ == "__main__":
    from benchmarks.say import say_digits  # which trains and loads as is done here

    parts = {"an4": an4, "digits": digits, "speakers": speakers, "subtasks": subtasks, "say": say_digits}
    measure(parts, RESULTS, sys.argv[1:], write)
