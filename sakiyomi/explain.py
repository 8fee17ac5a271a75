"""Verb 5, `sakiyomi explain NAME`: where a trained model looks, and what its memory does.

    sakiyomi explain pick --trials 10

Writes into the run folder: `attention.gif` and `attention.png` (camera with the attention points beside the picture
the model expected), `hidden.png` (the path of its state in principal components), `commands.png`.
"""

from pathlib import Path

from sakiyomi.evaluate import Evaluated
from sakiyomi.files import write_atomic
from sakiyomi.rollout import Trained, Trial, limits_of
from sakiyomi.views.gif import trial_gif, trial_strip
from sakiyomi.views.plots import command_plot, hidden_path
from sakiyomi.worlds.pick_cube import JOINT_NAMES


def explain(trained: Trained, trials: list[Trial], folder: Path) -> list[Path]:
    """The pictures of some trials, the first one in detail."""
    rate = 1 / limits_of(trained).period
    pictures = {
        "attention.gif": trial_gif(trials[0], rate),
        "attention.png": trial_strip(trials[0]),
        "hidden.png": hidden_picture(trials),
        "commands.png": command_plot(trials[0], JOINT_NAMES, limits_of(trained)),
    }
    for name, content in pictures.items():
        write_atomic(folder / name, content)
    return [folder / name for name in pictures]


def hidden_picture(trials: list[Trial]) -> bytes:
    """PNG: the path of the hidden state, one line a trial, named by where the cube stood."""
    labels = [" ".join(f"{v:.3f}" for v in trial.scene.get("place", ())) for trial in trials]
    return hidden_path([trial.hidden for trial in trials], labels, [trial.success_any for trial in trials])


def best_trial(evaluated: Evaluated, condition: str) -> Trial:
    """The first trial of a condition that succeeded and kept its pictures; the first one where none did."""
    trials = evaluated.trials[condition]
    return next((t for t in trials if t.success_any and t.images is not None), trials[0])
