"""Which of EIPL's networks some tensors are, as the Config and weights of the model here that computes the same.

found = network(state_dict(path), Untold(), "SARNN.pth")      # sakiyomi/data/formats/pth.py reads the tensors
model = build(found.config)
model.load_state_dict(found.tensors)
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sakiyomi.errors import SakiyomiError
from sakiyomi.job import ModelConfig, build
from sakiyomi.models import SARNN, EiplCAE, EiplCNNRNN, EiplLSTM, EiplMTRNN, EiplSARNN

Tensors = dict[str, Tensor]
GRIDS = ("pos_encoder.6.pos_x", "pos_encoder.6.pos_y", "issm.pos_xy")  # SARNN's, which ours makes anew
SARNN_PARTS = {
    "pos_encoder.6": "spatial_softmax",
    "pos_encoder": "position_encoder",
    "im_encoder": "image_encoder",
    "rec": "lstm",
    "decoder_joint": "joint_head",
    "decoder_point": "point_head",
    "decoder_image": "decoder",
}


@dataclass(frozen=True)
class Untold:
    """What a checkpoint does not hold."""

    colours: str = "bgr"
    """Order of colours it was trained on."""
    image_low: float = 0.0
    image_high: float = 1.0
    temperature: float | None = 1e-4
    heatmap_size: float = 0.1
    slope: float = 0.3
    cold_points: bool = False
    fast_tau: float = 2.0
    slow_tau: float = 12.0
    pixels: tuple[int, int] = (0, 0)
    """Height and width of the pictures; 0 0 takes a square."""
    joints: int = 0
    """Joints of the recordings, 0 where there are none: a network of codes and joints does not tell them apart."""
    features: int = 0


@dataclass(frozen=True)
class Network:
    """A checkpoint that was understood."""

    name: str
    """EIPL's word for it."""
    config: ModelConfig
    tensors: Tensors
    """By the names of our model."""
    description: str


def network(tensors: Tensors, untold: Untold, where: str) -> Network:
    """Raises SakiyomiError, beginning with `where`, for tensors that are none of EIPL's networks, or not all of one."""
    for key, read in NETWORKS.items():
        if key in tensors:
            name, config, ours = read(Sizes(tensors, where), untold)
            fitting = checked(name, config, ours, where)
            return Network(name, config, fitting, describe(name, config, untold))
    raise SakiyomiError(
        f"{where} holds {', '.join([*tensors][:6])}{' ...' if len(tensors) > 6 else ''}; none of SARNN, CNNRNN, "
        "CNNRNNLN, LSTM, MTRNN, CAE and CAEBN begins so"
    )


@dataclass(frozen=True)
class Sizes:
    """Tensors, asked for their shapes."""

    tensors: Tensors
    where: str

    def of(self, name: str, dimensions: int) -> tuple[int, ...]:
        """The shape of one. Raises SakiyomiError where it is missing or has other dimensions."""
        if name not in self.tensors:
            raise SakiyomiError(f"{self.where} has no {name}; it is not whole: {len(self.tensors)} tensors are there")
        shape = tuple(self.tensors[name].shape)
        if len(shape) != dimensions or min(shape) < 1:
            raise SakiyomiError(f"{self.where}: {name} has shape {list(shape)}; expected {dimensions} dimensions")
        return shape

    def linears(self, part: str) -> list[str]:
        """The names of the two dense layers of a Sequential, in order. Raises SakiyomiError for another number."""
        found = [n for n, t in self.tensors.items() if re.fullmatch(rf"{part}\.\d+\.weight", n) and t.ndim == 2]
        if len(found) != 2:
            raise SakiyomiError(f"{self.where} has {len(found)} dense layers in {part}, not 2; it is not whole")
        return sorted(found, key=lambda name: int(name.split(".")[1]))


def sarnn(sizes: Sizes, untold: Untold) -> tuple[str, ModelConfig, Tensors]:
    """`pos_encoder`, `im_encoder`, `rec`, `decoder_joint`, `decoder_point`, `issm`, `decoder_image`."""
    points = sizes.of("pos_encoder.4.weight", 4)[0]
    _, height, width = sizes.of("issm.pos_xy", 3)
    if sizes.tensors["issm.pos_xy"].max() > 1 + 1e-5:
        raise SakiyomiError(f"{sizes.where} counts points in cells; SARNN's are from 0 to 1 (normalized=True)")
    learned = "pos_encoder.6.temperature" in sizes.tensors
    plain = SARNN.Config(
        joints=sizes.of("decoder_joint.0.weight", 2)[0],
        height=height + 6,
        width=width + 6,
        points=points,
        hidden=sizes.of("rec.weight_hh", 2)[1],
        temperature=None if learned else untold.temperature or 1e-4,
        heatmap_size=untold.heatmap_size,
    )
    tensors = {n: t for n, t in sizes.tensors.items() if n not in GRIDS}
    tensors = in_rgb(tensors, untold.colours, ("pos_encoder.0", "im_encoder.0"), "decoder_image")
    ours: Tensors = {}
    for name, tensor in tensors.items():
        part = next((p for p in SARNN_PARTS if name.startswith(f"{p}.")), "")
        here = SARNN_PARTS.get(part, part) + name.removeprefix(part)
        ours[lstm_name(here, "lstm")] = tensor.reshape(()) if name.endswith(".temperature") else tensor
    if (untold.slope, untold.cold_points, untold.image_low, untold.image_high) == (0.3, False, 0.0, 1.0):
        return "SARNN", plain, ours
    config = EiplSARNN.Config(
        *(plain.joints, plain.height, plain.width, plain.points, plain.hidden, plain.temperature, plain.heatmap_size),
        *(untold.slope, untold.cold_points, untold.image_low, untold.image_high),
    )
    return "SARNN", config, {f"network.{name}": tensor for name, tensor in ours.items()}


def cnn_rnn(sizes: Sizes, untold: Untold) -> tuple[str, ModelConfig, Tensors]:
    """`encoder_image`, `rec`, `decoder_joint`, `decoder_image`; LN has normalisation between its convolutions."""
    dense, code = sizes.linears("encoder_image")
    layered = "encoder_image.1.weight" in sizes.tensors
    if layered:
        height, width = (2 * side for side in sizes.of("encoder_image.1.weight", 3)[1:])
    else:
        height, width = picture(sizes, dense, 8, 32, untold)
    config = EiplCNNRNN.Config(
        joints=sizes.of("decoder_joint.0.weight", 2)[0],
        height=height,
        width=width,
        features=sizes.of(code, 2)[0],
        hidden=sizes.of("rec.weight_hh", 2)[1],
        norm="layer" if layered else "none",
        activation="relu" if layered else "tanh",
        image_low=untold.image_low,
        image_high=untold.image_high,
    )
    tensors = in_rgb(sizes.tensors, untold.colours, ("encoder_image.0",), "decoder_image")
    renamed = {lstm_name(name, "rec"): tensor for name, tensor in tensors.items()}
    return "CNNRNNLN" if layered else "CNNRNN", config, renamed


def cae(sizes: Sizes, untold: Untold) -> tuple[str, ModelConfig, Tensors]:
    """`encoder`, `decoder`; Basic has kernels of 3x3, BN normalises over batches."""
    basic = sizes.of("encoder.0.weight", 4)[-1] == 3
    normed = "encoder.1.running_mean" in sizes.tensors
    dense, code = sizes.linears("encoder")
    if basic:
        height, width = picture(sizes, dense, 8, 32, untold)
    else:
        height, width = (side + 16 for side in picture(sizes, dense, 128, 8, untold, less=16))
    config = EiplCAE.Config(
        height=height,
        width=width,
        features=sizes.of(code, 2)[0],
        size="basic" if basic else "large",
        norm="batch" if normed else "none",
        activation="tanh" if basic and not normed else "relu",
        image_low=untold.image_low,
        image_high=untold.image_high,
    )
    name = f"{'Basic' if basic else ''}CAE{'BN' if normed else ''}"
    return name, config, in_rgb(sizes.tensors, untold.colours, ("encoder.0",), "decoder")


def lstm(sizes: Sizes, untold: Untold) -> tuple[str, ModelConfig, Tensors]:
    """`rnn`, `rnn_out`."""
    features, joints = parts(sizes, sizes.of("rnn.weight_ih", 2)[1], untold)
    config = EiplLSTM.Config(features, joints, sizes.of("rnn.weight_hh", 2)[1])
    return "LSTM", config, {lstm_name(name, "rnn"): tensor for name, tensor in sizes.tensors.items()}


def mtrnn(sizes: Sizes, untold: Untold) -> tuple[str, ModelConfig, Tensors]:
    """`mtrnn` with its five matrices, `rnn_out`."""
    fast, width = sizes.of("mtrnn.i2f.weight", 2)
    features, joints = parts(sizes, width, untold)
    slow = sizes.of("mtrnn.s2s.weight", 2)[0]
    taus = (untold.fast_tau, untold.slow_tau)
    config = EiplMTRNN.Config(features, joints, fast, slow, *taus, "mtrnn.i2f.bias" in sizes.tensors)
    return "MTRNN", config, sizes.tensors


# A network by a tensor that only it has.
NETWORKS: dict[str, Callable[[Sizes, Untold], tuple[str, ModelConfig, Tensors]]] = {
    "pos_encoder.0.weight": sarnn,
    "encoder_image.0.weight": cnn_rnn,
    "mtrnn.i2f.weight": mtrnn,
    "rnn.weight_ih": lstm,
    "encoder.0.weight": cae,
}


def picture(sizes: Sizes, linear: str, channels: int, times: int, untold: Untold, less: int = 0) -> tuple[int, int]:
    """Height and width, less `less`, of pictures whose last maps, `times` smaller, a dense layer reads."""
    cells = sizes.of(linear, 2)[1] / channels
    if untold.pixels != (0, 0):
        return untold.pixels[0] - less, untold.pixels[1] - less
    side = math.isqrt(int(cells))
    if side * side != cells:
        raise SakiyomiError(
            f"{sizes.where}: {linear} reads {cells * channels:g} numbers, which are no square picture's; say --pixels"
        )
    return side * times, side * times


def parts(sizes: Sizes, width: int, untold: Untold) -> tuple[int, int]:
    """Features and joints of a network that reads both as one vector. Raises SakiyomiError where nothing tells."""
    if untold.joints and untold.joints + untold.features == width:
        return untold.features, untold.joints
    if untold.joints and untold.joints == width:
        return 0, width
    there = f"the store has {untold.features} features and {untold.joints} joints"
    raise SakiyomiError(
        f"{sizes.where} reads {width} numbers a step, codes of pictures and joints; "
        + (f"{there}. " if untold.joints else "nothing tells how many are which. ")
        + "Name its recordings with --store: sakiyomi prepare eipl FOLDER, whose train and test hold features.npy and "
        "joints.npy"
    )


def lstm_name(name: str, part: str) -> str:
    """A cell's `rec.weight_ih` is `rec.weight_ih_l0` of a whole LSTM."""
    return f"{name}_l0" if re.fullmatch(rf"{part}\.(weight|bias)_(ih|hh)", name) else name


def in_rgb(tensors: Mapping[str, Tensor], colours: str, first: tuple[str, ...], last: str) -> Tensors:
    """The weights for pictures in RGB of a network that was trained on `colours`: of the layers `first` the inputs
    change places, of the last convolution of `last` the outputs."""
    ours = dict(tensors)
    if colours != "bgr":
        return ours
    convolutions = [n for n, t in ours.items() if re.fullmatch(rf"{last}\.\d+\.weight", n) and t.ndim == 4]
    for name in (f"{part}.weight" for part in first):
        if name in ours and ours[name].ndim == 4:
            ours[name] = ours[name].flip(1)
    for name in sorted(convolutions, key=lambda name: int(name.split(".")[1]))[-1:]:
        bias = name.replace(".weight", ".bias")
        ours[name] = ours[name].flip(1)
        if bias in ours:
            ours[bias] = ours[bias].flip(0)
    return ours


def checked(name: str, config: ModelConfig, tensors: Tensors, where: str) -> Tensors:
    """Raises SakiyomiError unless these are the tensors of this model, all of them and no others."""
    with torch.device("meta"):  # the sizes come from a file: no memory before they fit
        wanted = build(config).state_dict()
    missing, over = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    if missing or over:
        told = [
            f"missing: {', '.join(missing[:4])}" if missing else "",
            f"unknown: {', '.join(over[:4])}" if over else "",
        ]
        raise SakiyomiError(
            f"{where} looks like {name}, but is not whole or of another version ({'; '.join(filter(None, told))})"
        )
    for key, tensor in tensors.items():
        if tensor.shape != wanted[key].shape:
            raise SakiyomiError(
                f"{where} looks like {name}, but {key} has shape {list(tensor.shape)}; with the sizes of its other "
                f"tensors it would be {list(wanted[key].shape)}"
            )
    return tensors


def describe(name: str, config: ModelConfig, untold: Untold) -> str:
    """One line on what was found and taken."""
    sizes = {key: getattr(config, key) for key in ("joints", "features", "points", "hidden") if hasattr(config, key)}
    told = [f"{value} {key}" for key, value in sizes.items() if value]
    if isinstance(config, SARNN.Config | EiplSARNN.Config | EiplCNNRNN.Config | EiplCAE.Config):
        low, high = untold.image_low, untold.image_high
        told.append(f"pictures {config.height} x {config.width}")
        told.append(f"trained on {untold.colours}, black to white {low:g}..{high:g}")
    return f"{name}: {', '.join(told)}"
