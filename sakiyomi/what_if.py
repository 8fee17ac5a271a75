"""What if it did something else? The same past, other actions from the last given frame on.

    sakiyomi rollout push-small --what-if left right still
    sakiyomi rollout bair --what-if 00012 00040

Other actions are those of other recordings or, in the world of Push, plain moves. There the other futures are also
simulated, from the recorded moment on, so that what was imagined stands above what would have happened.
"""

from dataclasses import replace

import numpy as np
import torch

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.sources.push import replay
from sakiyomi.errors import SakiyomiError, unknown
from sakiyomi.imagine import Imagined, Imagining, as_imaginative, futures, recorded
from sakiyomi.rollout import Trained
from sakiyomi.worlds.push import WORKSPACE_HIGH, WORKSPACE_LOW, Push

OWN = "as it was"
PUSH = ("push", "record push")  # sources of stores of the world of Push
# m a step and rad: x runs from the arm towards the camera, y to the right of its picture.
MOVES = {
    "left": (0.0, -0.025, 0.0, 0.0),
    "right": (0.0, 0.025, 0.0, 0.0),
    "away": (-0.025, 0.0, 0.0, 0.0),
    "near": (0.025, 0.0, 0.0, 0.0),
    "up": (0.0, 0.0, 0.02, 0.0),
    "still": (0.0, 0.0, 0.0, 0.0),
}


def what_if(trained: Trained, store: EpisodeStore, episode: str, options: Imagining) -> dict[str, Imagined]:
    """Name -> futures under those actions, the recorded ones first.

    Raises SakiyomiError for a model without actions, and for a name that is neither a move nor a recording.
    """
    model = as_imaginative(trained)
    past, conditions = model.past, [name for name in model.inputs if name not in model.outputs]
    if "action" not in conditions:
        raise SakiyomiError("this model is told no actions, so it cannot say what other ones would do")
    in_push = store.origin.get("source") in PUSH and "scene" in store.entry(episode).meta  # an episode cut off has none
    moves, recordings = MOVES if in_push else {}, {entry.id for entry in store.entries}
    for name in options.what_if:
        if name in MOVES and not in_push:
            raise SakiyomiError(
                f"--what-if {name}: moves are known only in the world of Push; name recordings of {store.place} instead"
            )
        if name not in moves and name not in recordings:
            raise unknown("move or recording", name, [*moves, *sorted(recordings)])

    frames = past + options.steps
    seen, pictures = recorded(trained, store, episode, options.start, frames)
    own = {name: trained.normalizer.decode(name, seen[name][0]).numpy() for name in conditions}
    options = replace(options, samples=1)  # one future of each action stands beside the others
    tried = {OWN: futures(trained, seen, pictures, options)}
    for name in options.what_if:
        told = {n: value.copy() for n, value in own.items()}
        if name in moves:
            told["action"][past - 1 :] = moves[name]
        else:
            other, _ = recorded(trained, store, name, options.start, frames)
            for n in conditions:
                told[n][past - 1 :] = trained.normalizer.decode(n, other[n][0]).numpy()[past - 1 :]
        if "position" in told:
            _keep_place(told, own["position"][past - 1], past - 1, name in moves)
        real = branch(store, episode, options.start, past, told["action"]) if in_push else pictures[:past]
        encoded = {n: trained.normalizer.encode(n, torch.from_numpy(value))[None] for n, value in told.items()}
        tried[name] = futures(trained, {**seen, **encoded}, real, options)
    return tried


def _keep_place(told: dict[str, np.ndarray], place: np.ndarray, now: int, integrate: bool) -> None:
    """Positions [T, P] that begin where the hand is at step `now`: another recording's are moved there as a whole,
    those of a plain move follow from its displacements."""
    position, action = told["position"], told["action"]
    if integrate:
        steps = action[now:-1, : position.shape[1]]
        way = np.concatenate([np.zeros_like(steps[:1]), np.cumsum(steps, 0)])
        position[now:] = np.clip(place + way, WORKSPACE_LOW[:3], WORKSPACE_HIGH[:3])
    else:
        position[now:] += place - position[now]


def branch(store: EpisodeStore, episode: str, start: int, past: int, actions: np.ndarray) -> np.ndarray:
    """What really happens in the world of Push: `actions` [T, 4] from frame `start` + `past` - 1 of a recording on,
    which is lived through again up to there. The frames from `start` on, uint8 [T, H, W, 3]."""
    recorded_actions = store.values(episode, "action")
    world = Push(image_size=store.streams["image"].shape[0])
    replay(world, store.entry(episode).meta, recorded_actions[: start + past - 1])
    frames = [*store.values(episode, "image", start, start + past)]
    frames += [world.step(action)[0]["image"] for action in actions[past - 1 : -1]]
    world.close()
    return np.stack(frames)
