"""The networks of EIPL for the tests, from their published definition: checkpoints with the published names and shapes,
and what they compute, written out with plain functions on the tensors. Nothing here uses our models.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

Tensors = dict[str, Tensor]
BASIC = (64, 32, 16, 12, 8)
LARGE = (32, 64, 128)


@dataclass
class Maker:
    """Draws weights layer by layer, under the names that nn.Sequential gives."""

    tensors: Tensors = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        self.random = torch.Generator().manual_seed(self.seed)

    def put(self, name: str, *shape: int, scale: float = 1.0) -> None:
        self.tensors[name] = scale * torch.randn(*shape, generator=self.random)

    def layer(self, name: str, *shape: int, out: int) -> None:
        fan = int(np.prod(shape)) / out
        self.put(f"{name}.weight", *shape, scale=1.2 / fan**0.5)
        self.put(f"{name}.bias", out, scale=0.1)

    def cell(self, name: str, read: int, hidden: int) -> None:
        for end, width in (("ih", read), ("hh", hidden)):
            self.put(f"{name}.weight_{end}", 4 * hidden, width, scale=width**-0.5)
            self.put(f"{name}.bias_{end}", 4 * hidden, scale=0.1)

    def norm(self, name: str, kind: str, *shape: int) -> None:
        wide = shape[:1] if kind == "batch" else shape
        self.tensors[f"{name}.weight"] = 1 + 0.2 * torch.rand(*wide, generator=self.random)
        self.tensors[f"{name}.bias"] = 0.2 + 0.2 * torch.rand(*wide, generator=self.random)  # or ReLU kills it all
        if kind == "batch":
            self.put(f"{name}.running_mean", *wide, scale=0.1)
            self.tensors[f"{name}.running_var"] = 0.5 + torch.rand(*wide, generator=self.random)
            self.tensors[f"{name}.num_batches_tracked"] = torch.tensor(7)


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def sarnn(height: int, width: int, joints: int = 5, points: int = 3, hidden: int = 12, seed: int = 0) -> Tensors:
    make = Maker(seed=seed)
    for part in ("pos_encoder", "im_encoder"):
        for number, (read, write) in enumerate(((3, 16), (16, 32), (32, points))):
            make.layer(f"{part}.{2 * number}", write, read, 3, 3, out=write)
    x, y = np.meshgrid(np.linspace(0, 1, width - 6), np.linspace(0, 1, height - 6))
    grid = torch.from_numpy(np.stack([x, y])).float()
    make.tensors["pos_encoder.6.pos_x"], make.tensors["pos_encoder.6.pos_y"] = grid.flatten(1)
    make.cell("rec", joints + 2 * points, hidden)
    make.layer("decoder_joint.0", joints, hidden, out=joints)
    make.layer("decoder_point.0", 2 * points, hidden, out=2 * points)
    make.tensors["issm.pos_xy"] = grid
    for number, (read, write) in enumerate(((points, 32), (32, 16), (16, 3))):
        make.layer(f"decoder_image.{2 * number}", read, write, 3, 3, out=write)
    return make.tensors


def coder(
    make: Maker, names: tuple[str, str], size: str, kind: str, side: int, code: int, dense: bool, read: int
) -> None:
    """Both halves. `dense`: the decoder has a dense layer before the one that makes maps."""
    channels, kernel, units = (BASIC, 3, 50) if size == "basic" else (LARGE, 6, 1000)
    step = 2 if kind == "none" else 3
    sides = [side]
    at = 0
    for before, after in zip((3, *channels), channels, strict=False):
        sides.append((sides[-1] + 2 - kernel) // 2 + 1)
        make.layer(f"{names[0]}.{at}", after, before, kernel, kernel, out=after)
        if kind != "none":
            make.norm(f"{names[0]}.{at + 1}", kind, after, sides[-1], sides[-1])
        at += step
    cells = channels[-1] * sides[-1] ** 2
    at += 1  # Flatten
    for width, out in ((cells, units), (units, code)):
        make.layer(f"{names[0]}.{at}", out, width, out=out)
        if kind != "none":
            make.norm(f"{names[0]}.{at + 1}", kind, out)
        at += step
    at = 0
    for width, out in ((read, units), (units, cells)) if dense else ((read, cells),):
        make.layer(f"{names[1]}.{at}", out, width, out=out)
        if kind != "none":
            make.norm(f"{names[1]}.{at + 1}", kind, out)
        at += step
    at += 1  # Unflatten
    here = sides[-1]
    back = (*channels[::-1], 3)
    for number, (before, after) in enumerate(pairwise(back)):
        make.layer(f"{names[1]}.{at}", before, after, kernel, kernel, out=after)
        here = 2 * here if size == "basic" else 2 * here + 2
        if kind != "none" and number < len(channels) - 1:
            make.norm(f"{names[1]}.{at + 1}", kind, after, here, here)
        at += step


def cnn_rnn(kind: str = "none", side: int = 64, joints: int = 5, code: int = 6, hidden: int = 12) -> Tensors:
    make = Maker()
    coder(make, ("encoder_image", "decoder_image"), "basic", kind, side, code, False, hidden)
    make.cell("rec", code + joints, hidden)
    make.layer("decoder_joint.0", joints, hidden, out=joints)
    return make.tensors


def cae(size: str, kind: str = "none", side: int = 64, code: int = 6) -> Tensors:
    make = Maker()
    coder(make, ("encoder", "decoder"), size, kind, side, code, True, code)
    return make.tensors


def lstm(width: int, hidden: int = 12) -> Tensors:
    make = Maker()
    make.cell("rnn", width, hidden)
    make.layer("rnn_out.0", width, hidden, out=width)
    return make.tensors


def mtrnn(width: int, fast: int = 10, slow: int = 4) -> Tensors:
    make = Maker()
    for name, shape in {
        "i2f": (fast, width),
        "f2f": (fast, fast),
        "f2s": (slow, fast),
        "s2s": (slow, slow),
        "s2f": (fast, slow),
    }.items():
        make.put(f"mtrnn.{name}.weight", *shape, scale=shape[1] ** -0.5)
    make.layer("rnn_out.0", width, fast, out=width)
    return make.tensors


def save(path: Path, tensors: Tensors, prefix: str = "") -> Path:
    """As EIPL's trainers save a checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
    torch.save({"epoch": 99, "model_state_dict": weights, "train_loss": 0.01, "test_loss": 0.02}, path)
    return path


# What they compute. w: tensors; images [T, 3, H, W] and joints [T, J] as the network is given them.


def lstm_cell(w: Tensors, name: str, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    gates = w[f"{name}.weight_ih"] @ x + w[f"{name}.bias_ih"] + w[f"{name}.weight_hh"] @ h + w[f"{name}.bias_hh"]
    write, keep, new, say = gates.chunk(4)
    c = keep.sigmoid() * c + write.sigmoid() * new.tanh()
    return say.sigmoid() * c.tanh(), c


def run_sarnn(
    w: Tensors,
    images: Tensor,
    joints: Tensor,
    temperature: float = 1e-4,
    spread: float = 0.1,
    slope: float = 0.3,
    cold: bool = False,
) -> dict[str, Tensor]:
    """`image`, `joints`, and `attention` and `points` [T, K, 2]."""

    def bend(x: Tensor) -> Tensor:
        return torch.where(x > 0, x, slope * x)

    def three(part: str, x: Tensor) -> Tensor:
        for number in (0, 2, 4):
            x = bend(F.conv2d(x, w[f"{part}.{number}.weight"], w[f"{part}.{number}.bias"]))
        return x

    hidden = w["rec.weight_hh"].shape[1]
    h = c = images.new_zeros(hidden)
    out: dict[str, list[Tensor]] = {"image": [], "joints": [], "attention": [], "points": []}
    for image, angles in zip(images, joints, strict=True):
        maps = three("pos_encoder", image[None])[0].flatten(1)
        share = (maps / temperature).softmax(1)
        seen = torch.stack([(share * w[f"pos_encoder.6.pos_{axis}"]).sum(1) for axis in "xy"], 1)
        h, c = lstm_cell(w, "rec", torch.cat([seen.flatten(), angles]), h, c)
        points = bend(w["decoder_point.0.weight"] @ h + w["decoder_point.0.bias"]).reshape(-1, 2)
        apart = (w["issm.pos_xy"][None] - points[:, :, None, None]).square().sum(1)
        heat = (-apart / spread).exp()
        heat = 1 - heat if cold else heat
        x = heat[None] * three("im_encoder", image[None])
        for number in (0, 2, 4):
            name = f"decoder_image.{number}"
            x = bend(F.conv_transpose2d(x, w[f"{name}.weight"], w[f"{name}.bias"]))
        out["image"].append(x[0])
        out["joints"].append(bend(w["decoder_joint.0.weight"] @ h + w["decoder_joint.0.bias"]))
        out["attention"].append(seen)
        out["points"].append(points)
    return {name: torch.stack(values) for name, values in out.items()}


def run_part(w: Tensors, part: str, x: Tensor, kind: str, relu: bool, basic: bool) -> Tensor:
    """One half of an autoencoder, layer after layer in the order of their numbers; N rows."""
    numbers = sorted({int(name.split(".")[1]) for name in w if name.startswith(f"{part}.")})
    layers = [n for n in numbers if w[f"{part}.{n}.weight"].ndim == 4 or w[f"{part}.{n}.weight"].ndim == 2]
    layers = [n for n in layers if f"{part}.{n}.running_mean" not in w and not _is_norm(w, part, n, numbers, kind)]
    transposed = [n for n in layers if w[f"{part}.{n}.weight"].ndim == 4]
    for n in layers:
        weight, bias = w[f"{part}.{n}.weight"], w[f"{part}.{n}.bias"]
        if weight.ndim == 2:
            x = x.flatten(1) @ weight.T + bias
        elif "encoder" in part:
            x = F.conv2d(x, weight, bias, stride=2, padding=1)
        else:
            if x.ndim == 2:
                side = int((x.shape[1] / weight.shape[0]) ** 0.5)
                x = x.reshape(len(x), weight.shape[0], side, side)
            around = 1 if basic or n != transposed[-1] else 0
            x = F.conv_transpose2d(x, weight, bias, stride=2, padding=around, output_padding=1 if basic else 0)
        if f"{part}.{n + 1}.weight" in w and _is_norm(w, part, n + 1, numbers, kind):
            scale, shift = w[f"{part}.{n + 1}.weight"], w[f"{part}.{n + 1}.bias"]
            if kind == "batch":
                wide = (-1, *[1] * (x.ndim - 2))
                mean, variance = w[f"{part}.{n + 1}.running_mean"], w[f"{part}.{n + 1}.running_var"]
                x = (x - mean.view(wide)) / (variance.view(wide) + 1e-5).sqrt() * scale.view(wide) + shift.view(wide)
            else:
                axes = tuple(range(1, x.ndim))
                away = x - x.mean(axes, keepdim=True)
                x = away / (away.square().mean(axes, keepdim=True) + 1e-5).sqrt() * scale + shift
        x = x.clamp_min(0) if relu else x.tanh()
    return x


def _is_norm(w: Tensors, part: str, n: int, numbers: list[int], kind: str) -> bool:
    """Whether layer n normalises: with normalisation, it is the one that follows a convolution or dense layer."""
    if kind == "none" or n - 1 not in numbers:
        return False
    return w[f"{part}.{n}.weight"].shape == w[f"{part}.{n}.bias"].shape


def run_cnn_rnn(w: Tensors, images: Tensor, joints: Tensor, kind: str) -> dict[str, Tensor]:
    relu = kind != "none"
    h = c = images.new_zeros(w["rec.weight_hh"].shape[1])
    out: dict[str, list[Tensor]] = {"image": [], "joints": []}
    for image, angles in zip(images, joints, strict=True):
        code = run_part(w, "encoder_image", image[None], kind, relu, True)[0]
        h, c = lstm_cell(w, "rec", torch.cat([code, angles]), h, c)
        moved = w["decoder_joint.0.weight"] @ h + w["decoder_joint.0.bias"]
        out["joints"].append(moved.clamp_min(0) if relu else moved.tanh())
        out["image"].append(run_part(w, "decoder_image", h[None], kind, relu, True)[0])
    return {name: torch.stack(values) for name, values in out.items()}


def run_cae(w: Tensors, images: Tensor, size: str, kind: str) -> dict[str, Tensor]:
    relu = kind != "none" or size == "large"
    code = run_part(w, "encoder", images, kind, relu, size == "basic")
    return {"latent": code, "image": run_part(w, "decoder", code, kind, relu, size == "basic")}


def run_lstm(w: Tensors, x: Tensor) -> Tensor:
    h = c = x.new_zeros(w["rnn.weight_hh"].shape[1])
    out = []
    for row in x:
        h, c = lstm_cell(w, "rnn", row, h, c)
        out.append((w["rnn_out.0.weight"] @ h + w["rnn_out.0.bias"]).tanh())
    return torch.stack(out)


def run_mtrnn(w: Tensors, x: Tensor, fast_tau: float = 2.0, slow_tau: float = 12.0) -> Tensor:
    m = {name: w[f"mtrnn.{name}.weight"] for name in ("i2f", "f2f", "f2s", "s2s", "s2f")}
    fast, slow = x.new_zeros(len(m["f2f"])), x.new_zeros(len(m["s2s"]))
    said_fast, said_slow = fast, slow
    out = []
    for row in x:
        into_fast = m["i2f"] @ row + m["f2f"] @ said_fast + m["s2f"] @ said_slow
        into_slow = m["f2s"] @ said_fast + m["s2s"] @ said_slow
        fast = (1 - 1 / fast_tau) * fast + into_fast / fast_tau
        slow = (1 - 1 / slow_tau) * slow + into_slow / slow_tau
        said_fast, said_slow = fast.tanh(), slow.tanh()
        out.append((w["rnn_out.0.weight"] @ said_fast + w["rnn_out.0.bias"]).tanh())
    return torch.stack(out)
