"""Networks trained in EIPL, as runs of ours: SARNN, CNNRNN, CNNRNNLN, LSTM, MTRNN, CAE and CAEBN (Basic or not).

    sakiyomi prepare eipl grasp_bottle --out data/grasp
    sakiyomi prepare eipl-model log/SARNN.pth --store data/grasp --out runs/grasp
    sakiyomi rollout grasp --recording test-00000

The sizes follow from the tensors. The numbers that a checkpoint does not hold come from args.json beside it, from the
recordings, or from the options. EIPL's AIREC and OpenManipulator see BGR, our pictures are RGB: the weights of the
first and last layers change places accordingly. From the same pictures and joints the same comes out.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import torch
import tyro

from sakiyomi.along_recordings import joint_errors, unseen
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.formats.eipl import Colours, bounds_of
from sakiyomi.data.formats.eipl_networks import Untold, network
from sakiyomi.data.formats.importing import given
from sakiyomi.data.formats.pth import state_dict
from sakiyomi.data.normalize import Normalizer, Scale
from sakiyomi.data.windows import Data, Windows
from sakiyomi.errors import SakiyomiError
from sakiyomi.files import write_atomic
from sakiyomi.guard import Limits
from sakiyomi.job import Job, Train, build, save_job
from sakiyomi.models import SequenceModel
from sakiyomi.rollout import Trained
from sakiyomi.run import console, moments_here, save_checkpoint, save_weights
from sakiyomi.schedules import Weight
from sakiyomi.train import Counters, learned_limits

MARGIN = 0.1  # of its range, by which a command may leave it: as `Limits.learn` has it
BEGIN = 4  # a joint reaches its fastest speed within this part of the way across


@dataclass(frozen=True)
class EiplModel:
    """Turn a network trained in EIPL into a run."""

    path: tyro.conf.Positional[str] = ""
    """The checkpoint, .pth."""
    store: str = ""
    """Episode store of recordings like those it learned from: scales and the guard's limits come from there."""
    bounds: str = ""
    """joint_bounds.npy, if not the store's."""
    feature_bounds: str = ""
    """feat_bounds.npy of a network that reads codes, if not the store's."""
    args: str = ""
    """args.json; the one beside the checkpoint if not given."""
    colours: Colours = "auto"
    """Order of colours it was trained on: bgr or rgb; auto takes what the store was imported from, or bgr."""
    image_range: tuple[float, float] = (0.0, 0.0)
    """What 0 and 255 of a picture were to it; 0 0 takes vmin and vmax of args.json, or 0 and 1."""
    joint_range: tuple[float, float] = (0.0, 0.0)
    """What the bounds of joints and codes were to it; 0 0 as above."""
    temperature: float = 0.0
    """SARNN: of the spatial softmax; 0 takes that of args.json, or 1e-4."""
    heatmap_size: float = 0.0
    """SARNN: spread of the heat; 0 takes that of args.json, or 0.1."""
    slope: float = 0.3
    """SARNN: of LeakyReLU; 0.01 in EIPL's first version."""
    heat: Literal["at", "around"] = "at"
    """SARNN: around, where it was trained in a version of EIPL whose heatmap is 0 at the point."""
    fast_tau: float = 2.0
    """MTRNN: time constant of the fast context, steps."""
    slow_tau: float = 12.0
    """MTRNN: time constant of the slow context."""
    pixels: tuple[int, int] = (0, 0)
    """Height and width of its pictures, where the checkpoint leaves them open; 0 0 takes squares."""
    rate: float = 10.0
    """Steps a second, where there is no store to tell."""
    across: float = 4.0
    """Seconds a joint takes through its whole range at least: the guard's limit where there is no store."""


def import_eipl_model(checkpoint: Path, out: Path, how: EiplModel) -> None:
    """Read a checkpoint and leave a run folder as `train` does: `sakiyomi.load` takes it, `train --resume` goes on.

    Raises SakiyomiError for a file that is no checkpoint of these networks, with what is missing or left over, for
    scales that nothing tells, and rather than write over a run.
    """
    given(str(checkpoint) if str(checkpoint) != "." else "", "a checkpoint of EIPL, such as SARNN.pth")
    if (out / "job.json").exists():
        raise SakiyomiError(f"{out} holds a run already; name another folder with --out")
    args = read_args(Path(how.args) if how.args else checkpoint.parent / "args.json", bool(how.args))
    store = EpisodeStore(how.store) if how.store else None
    untold = what_is_untold(how, args, store)
    found = network(state_dict(checkpoint), untold, str(checkpoint))
    model = build(found.config)
    model.load_state_dict(found.tensors)
    told = [found.description]
    normalizer = Normalizer(scales(model, how, args, store, told))
    data = Data(how.store or "data/eipl", clock="joints" if "joints" in model.inputs else "image")
    if store:
        check_store(model, store)
    limits = limits_of_joints(model, how, store, normalizer)
    losses = {name: Weight(loss_weight(args, name)) for name in loss_names(model)}
    job = Job(found.config, data, train=Train(losses=losses))
    if store and limits:
        told.append(judged(Trained(job, model.eval(), normalizer, limits), store))
    normalizer.save(out / "normalizer.json")
    if limits:
        limits.save(out / "limits.json")
    facts = {"network": found.name, "how": asdict(how), "args": args, "taken": asdict(untold), "told": told}
    write_atomic(out / "imported.json", json.dumps(facts, indent=2, default=str).encode())
    optimizer = torch.optim.Adam(model.parameters())
    save_checkpoint(out / "last.safetensors", model, moments_here(optimizer), found.config, Counters().as_dict())
    save_weights(out / "weights.safetensors", model, found.config, {"step": 0, "from": "EIPL"})
    save_job(job, out)  # last: without it a folder is no run yet, and a call that was killed may be made again
    for line in told:
        console.print(line, markup=False)


def judged(trained: Trained, store: EpisodeStore) -> str:
    """How well it predicts a recording: a wrong setting shows there."""
    recording = unseen(store, 1)[0]
    off, still = joint_errors(trained, recording)
    line = f"one step ahead along {recording} its joints are off by {off:.3g}, standing still would be by {still:.3g}"
    if off < still:
        return line
    return f"{line}: worse than that. Was it trained with other colours, ranges, bounds, --slope or --heat?"


def read_args(path: Path, asked: bool) -> dict[str, Any]:
    """args.json as EIPL's trainers write it; empty where there is none. Raises SakiyomiError when it was asked for and
    is not there, or is no object of JSON."""
    if not path.exists() and not asked:
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError) as error:
        raise SakiyomiError(f"{path} cannot be read: {error}; it holds what the network was trained with") from error


def number(args: Mapping[str, Any], name: str, otherwise: float) -> float:
    """A number of args.json. Raises SakiyomiError for what is none."""
    value = args.get(name, otherwise)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
        raise SakiyomiError(f"args.json: {name} is {value!r}; expected a number")
    return float(value)


def what_is_untold(how: EiplModel, args: Mapping[str, Any], store: EpisodeStore | None) -> Untold:
    """Everything the tensors do not say."""
    recorded = store.origin.get("colours", "bgr") if store else "bgr"
    low, high = how.image_range if how.image_range != (0.0, 0.0) else range_of(args)
    if not low < high:
        raise SakiyomiError(f"pictures cannot be scaled to {low:g}..{high:g}; the first must be less (--image-range)")
    learned = "temperature" in args and args["temperature"] is None
    temperature = how.temperature or (None if learned else number(args, "temperature", 1e-4))
    return Untold(
        colours=recorded if how.colours == "auto" else how.colours,
        image_low=low,
        image_high=high,
        temperature=temperature,
        heatmap_size=how.heatmap_size or number(args, "heatmap_size", 0.1),
        slope=how.slope,
        cold_points=how.heat == "around",
        fast_tau=how.fast_tau,
        slow_tau=how.slow_tau,
        pixels=how.pixels,
        joints=store.streams["joints"].shape[0] if store and "joints" in store.streams else 0,
        features=store.streams["features"].shape[0] if store and "features" in store.streams else 0,
    )


def range_of(args: Mapping[str, Any]) -> tuple[float, float]:
    return number(args, "vmin", 0.0), number(args, "vmax", 1.0)


def scales(
    model: SequenceModel, how: EiplModel, args: Mapping[str, Any], store: EpisodeStore | None, told: list[str]
) -> dict[str, Scale]:
    """What turns units into the numbers the network was trained on. Raises SakiyomiError where nothing tells."""
    to = how.joint_range if how.joint_range != (0.0, 0.0) else range_of(args)
    found: dict[str, Scale] = {}
    for name in model.inputs:
        if name == "image":
            found[name] = Scale("image")
            continue
        given_file = how.bounds if name == "joints" else how.feature_bounds
        bounds, source = bounds_for(name, given_file, store)
        ends = np.array(to)[:, None] if bounds is None else bounds  # what is scaled already stays as it is
        found[name] = scale(name, ends, to, model.shapes[name][0])
        told.append(f"{name}: {source} become {to[0]:g}..{to[1]:g}")
    return found


def bounds_for(name: str, file: str, store: EpisodeStore | None) -> tuple[np.ndarray | None, str]:
    """Least and largest of a stream, [2, C] or [2, 1], and where they are from; None where it is scaled already.

    As EIPL has them: of train and test together; of codes one pair for all.
    """
    if file:
        return bounds_of(given(file, "a file of bounds")), file
    if store is None or name not in store.streams:
        flag, it = ("--bounds", "joint_bounds.npy") if name == "joints" else ("--feature-bounds", "feat_bounds.npy")
        raise SakiyomiError(
            f"nothing tells how {name} were scaled for this network; name its recordings with --store (made by: "
            f"sakiyomi prepare eipl FOLDER), or {it} with {flag}"
        )
    parts = [store.values(entry.id, name) for entry in store.entries]
    seen = np.stack([np.min([p.min(0) for p in parts], 0), np.max([p.max(0) for p in parts], 0)]).astype(np.float64)
    recorded = store.origin.get("bounds", {}).get("joint" if name == "joints" else "feat")
    if recorded is None:
        whole = name == "features"
        return (np.array([[seen[0].min()], [seen[1].max()]]) if whole else seen), f"least and largest of {store.place}"
    bounds = np.array(recorded, np.float64)
    within = 1e-4 * np.ptp(bounds, axis=0)
    fitting = bounds.shape[1] in (1, seen.shape[1])  # `scale` tells of others
    beside = name == "joints" and "features" in store.streams
    if beside and fitting and not np.allclose(seen, bounds, atol=within.max(), rtol=0):
        # Beside codes EIPL keeps joints as the autoencoder's script had scaled them, but their bounds as they were.
        return None, f"those of {store.place}, scaled already (--bounds if not), as they are,"
    return bounds, f"the bounds that came with {store.place}"


def scale(name: str, bounds: np.ndarray, to: tuple[float, float], width: int) -> Scale:
    """The Scale that maps `bounds` [2, C] to the two numbers of `to`. Raises SakiyomiError for other widths, and for a
    range of nothing, by which EIPL would have divided."""
    if bounds.shape[1] not in (1, width):
        raise SakiyomiError(f"bounds of {name} are {list(bounds.shape)}, the network has {width}; these are of another")
    if not to[0] < to[1]:
        raise SakiyomiError(f"{name} cannot be scaled to {to[0]:g}..{to[1]:g}; the first must be less (--joint-range)")
    low, high = np.broadcast_to(bounds, (2, width))
    still = np.flatnonzero(~(high > low))
    if len(still):
        raise SakiyomiError(
            f"bounds of {name}: channel {still[0]} goes from {low[still[0]]:g} to {high[still[0]]:g}; EIPL divides "
            "by the difference. Name the joint_bounds.npy it was trained with: --bounds"
        )
    # Codes, too, have a range here, and no mean and deviation as other scalars.
    return Scale("joints", tuple(low.tolist()), tuple(high.tolist()), to=to)


def check_store(model: SequenceModel, store: EpisodeStore) -> None:
    """Raises SakiyomiError where the recordings cannot be what the network reads."""
    for name in model.inputs:
        shape = model.shapes[name]
        expected = (*shape[1:], shape[0]) if name == "image" else shape
        there = store.streams[name].shape if name in store.streams else None
        if there != expected:
            came = "no such stream" if there is None else str(list(there))
            size = f"; --pixels {expected[0]} {expected[1]} when they are imported" if name == "image" else ""
            raise SakiyomiError(
                f"the network reads {name} {list(expected)}, {store.place} has {came} (streams: "
                f"{', '.join(store.streams)}); name recordings of the same robot and size{size}"
            )


def limits_of_joints(
    model: SequenceModel, how: EiplModel, store: EpisodeStore | None, normalizer: Normalizer
) -> Limits | None:
    """The guard's limits: as recorded, or by the bounds alone; None for a network that commands nothing."""
    if "joints" not in model.outputs:
        return None
    if store:
        return learned_limits(Windows(store, "train", Data(how.store), ("joints",), normalizer))
    if not (0 < how.across < np.inf and 0 < how.rate < np.inf):
        raise SakiyomiError(f"--across is {how.across:g} s, --rate {how.rate:g} Hz; both must be above 0")
    low, high = bounds_of(Path(how.bounds))
    low, high = np.broadcast_to(low, model.shapes["joints"]), np.broadcast_to(high, model.shapes["joints"])
    span = high - low
    ends = tuple((low - MARGIN * span).tolist()), tuple((high + MARGIN * span).tolist())
    speed = span / how.across
    force = speed / (how.across / BEGIN)
    return Limits(*ends, tuple(speed.tolist()), tuple(force.tolist()), *ends, 1 / how.rate)


def loss_names(model: SequenceModel) -> tuple[str, ...]:
    """The losses it would be trained by here."""
    return (*model.outputs, "points") if hasattr(model, "to_picture") else model.outputs


def loss_weight(args: Mapping[str, Any], name: str) -> float:
    """As it was trained there, or the usual."""
    theirs = {"image": "img_loss", "joints": "joint_loss", "points": "pt_loss"}.get(name, name)
    return number(args, theirs, 0.1 if name == "points" else 1.0)
