"""Verbs 3 and 5 for a model whose robot is not here: measured and drawn along its recordings instead of in a world.

    sakiyomi evaluate grasp        # trained on one's own recordings, or imported: sakiyomi prepare eipl-model SARNN.pth
    sakiyomi explain grasp

`evaluate` gives the drift of every stream on the validation split, beside that of standing still. `explain` draws
where it looks, the path of its memory and what it would command, along recordings it was not trained on.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.far import is_url
from sakiyomi.data.windows import Windows
from sakiyomi.errors import SakiyomiError, at_least
from sakiyomi.evaluate import drift_scores, drifts_of, validation_windows
from sakiyomi.files import write_atomic
from sakiyomi.rollout import Trained, Trial, limits_of, open_loop
from sakiyomi.scores.protocol import Protocol, Score
from sakiyomi.views.gif import trial_gif, trial_strip
from sakiyomi.views.plots import command_plot, hidden_path
from sakiyomi.worlds.pick_cube import JOINT_NAMES


def arm_is_here(trained: Trained) -> bool:
    """Whether the robot it moves is the arm of our own world: by the names of the joints in its recordings, which an
    imported run may be without."""
    store = trained.job.data.store
    if not store or not (is_url(store) or Path(store).exists()):
        return len(limits_of(trained).low) == len(JOINT_NAMES)
    joints = EpisodeStore(store).streams.get("joints")
    return joints is not None and joints.names == JOINT_NAMES


def evaluate_recordings(trained: Trained) -> dict[str, Score]:
    """Drift on the validation split, and how far off the joints are one step ahead, in their own unit, beside standing
    still. Raises SakiyomiError for a store without that split, or with episodes of a step or two."""
    limits_of(trained)  # what commands nothing has no joints to be measured by
    store = EpisodeStore(trained.job.data.store)
    windows = validation_windows(trained, store)
    steps = windows.mask.shape[1]
    if steps < 2:
        raise SakiyomiError(f"{store.place} has episodes of {steps} steps for validation; drift takes two at least")
    scores = drift_scores(trained.job.data.store, len(windows.mask), drifts_of(trained, windows))
    entries = store.split("validation")
    off, still = np.array([joint_errors(trained, entry.id) for entry in entries]).T
    rule = "root mean square over steps and joints, mean over episodes"
    protocol = Protocol(f"{store.place}, validation", "one step ahead, all steps", rule, len(entries), "none")
    unit = store.streams["joints"].unit or "of the recording"
    for name, values in {"one_step/joints": off, "standing_still/joints": still}.items():
        scores[name] = Score(name, float(values.mean()), None, None, unit, protocol)
    return scores


def joint_errors(trained: Trained, recording: str) -> tuple[float, float]:
    """Along an episode, every observation true: how far the joints predicted for the next step are off, and how far
    they are off if nothing is expected to move; root mean squares in their own unit."""
    trial, errors = open_loop(trained, recording)
    moved = np.diff(trial.joints, axis=0)
    return errors["joints"], float(np.sqrt(np.square(moved).mean())) if len(moved) else 0.0


def unseen(store: EpisodeStore, most: int) -> list[str]:
    """The first episodes that were not trained on; of a store without such, the first ones."""
    others = [entry.id for entry in store.entries if entry.split != "train"]
    return (others or [entry.id for entry in store.entries])[:most]


def recording_of(trained: Trained) -> str:
    """An episode to try, where the recordings are at hand."""
    store = trained.job.data.store
    return unseen(EpisodeStore(store), 1)[0] if store and (is_url(store) or Path(store).exists()) else "EPISODE"


@torch.inference_mode()
def trial_along(trained: Trained, recording: str) -> Trial:
    """`open_loop`, with the state after every step as `hidden` [T, N]."""
    trial, _ = open_loop(trained, recording)
    store = EpisodeStore(trained.job.data.store)
    data = replace(trained.job.data, steps=0, episodes=0)
    split = store.entry(recording).split
    batch = Windows(store, split, data, trained.model.inputs, trained.normalizer, (recording,)).batch([0])
    state, path = trained.model.initial(1), []
    for t in range(len(trial.joints)):
        _, state = trained.model.step({name: value[:, t] for name, value in batch.inputs.items()}, state)
        path.append(torch.cat([value.flatten() for value in state.values()]))
    return replace(trial, hidden=torch.stack(path).numpy())


def explain_recordings(trained: Trained, folder: Path, recordings: int = 4) -> list[Path]:
    """Pictures of some recordings, the first one in detail: attention.gif and attention.png for a model that sees,
    hidden.png, commands.png."""
    at_least("--trials", recordings, 1)
    limits, store = limits_of(trained), EpisodeStore(trained.job.data.store)
    ids = unseen(store, recordings)
    trials = [trial_along(trained, id) for id in ids]
    joints = trials[0].joints.shape[1]
    names = store.streams["joints"].names or tuple(f"joint {number + 1}" for number in range(joints))
    pictures = {
        "hidden.png": hidden_path([trial.hidden for trial in trials], ids, [True] * len(ids)),
        "commands.png": command_plot(trials[0], names, limits),
    }
    if trials[0].images is not None:
        pictures["attention.gif"] = trial_gif(trials[0], 1 / limits.period)
        pictures["attention.png"] = trial_strip(trials[0])
    for name, content in pictures.items():
        write_atomic(folder / name, content)
    return [folder / name for name in pictures]
