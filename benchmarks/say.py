"""What is claimed about sound that is made up, measured: how fast WaveNet speaks, and whether digits are understood.

    python -m benchmarks.speech say

Writes benchmarks/results/speech/say.json; the trained run stays in runs/bench and is not trained again. The spoken
digits are an .npz file, which SAKIYOMI_FSDD names; a recogniser that `benchmarks.speech digits` trained is asked too
where it is there.
"""

import time
from dataclasses import replace
from typing import Any

import torch

from benchmarks.common import cost, plain
from benchmarks.speech import FSDD, RUNS, run
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.sources.digit_clips import DigitClips
from sakiyomi.evaluate_sound import HowSpoken, evaluate_sound, save_sound
from sakiyomi.models import WaveNet
from sakiyomi.rollout import Trained
from sakiyomi.speak import Speaking, known_labels, rate_of, rollout_sound, say

TEMPERATURES = (1.0, 0.9, 0.8)
BATCHES = (1, 10, 50)  # sounds that are said side by side
TIMED = 4000  # samples that are said to time them


def say_digits() -> dict[str, Any]:
    """`sakiyomi train say-digits` and `sakiyomi evaluate say-digits`; which temperature is right is chosen on nothing,
    all are told."""
    trained, folder = run("say-digits", DigitClips(FSDD))
    hears = RUNS / "spoken-digits"
    asked = HowSpoken(sounds=500, recognizer=str(hears) if (hears / "weights.safetensors").exists() else "")
    found = {
        temperature: evaluate_sound(trained, replace(asked, temperature=temperature)) for temperature in TEMPERATURES
    }
    save_sound(found[1.0], trained, folder)
    rollout_sound(trained, "7", 5, Speaking(), folder / "seven.wav")
    assert isinstance(trained.model, WaveNet)
    return {
        "scores": plain(found[1.0].scores),
        "recognised": {str(t): plain(one.scores)["recognised"] for t, one in found.items()},
        "recognised_by_run": {str(t): plain(one.scores).get("recognised/run") for t, one in found.items()},
        "hears_s": trained.model.hears / rate_of(trained),
        "weights": sum(weight.numel() for weight in trained.model.parameters()),
        "samples_a_second": speeds(trained),
        "unroll_minus_step": apart(trained),
        "cost": cost(folder),
    }


def speeds(trained: Trained) -> dict[str, float]:
    """All sounds' samples together a second, by how many are said side by side; the best of three."""
    labels, found = known_labels(EpisodeStore(trained.job.data.store)), {}
    how = Speaking(seconds=TIMED / rate_of(trained))
    for batch in BATCHES:
        took = []
        for _ in range(3):
            begin = time.perf_counter()
            say(trained, labels, batch, how)
            took.append(time.perf_counter() - begin)
        found[str(batch)] = batch * TIMED / min(took)
    return {**found, "threads": torch.get_num_threads()}


@torch.inference_mode()
def apart(trained: Trained) -> float:
    """How far `unroll` is from `step` repeated, of the logits of 200 samples."""
    model = trained.model
    seen = model.example(4, 200)
    whole, state, most = model.unroll(seen)[0]["sample"], model.initial(4), 0.0
    for t in range(200):
        prediction, state = model.step({name: value[:, t] for name, value in seen.items()}, state)
        most = max(most, float((prediction["sample"] - whole[:, t]).abs().max()))
    return most
