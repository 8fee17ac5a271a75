"""How alike pictures and videos look to trained networks: LPIPS and FVD, through the libraries that define them.

    pip install 'sakiyomi[perception]'

The networks' weights are files that this program never fetches by itself; where one is missing, the error says which,
where to get it and where to put it. Everything here that cannot run raises `Unavailable`, so that an evaluation may
go on without.
"""

import functools
import importlib
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from sakiyomi.errors import SakiyomiError
from sakiyomi.run import pick_device
from sakiyomi.scores.pictures import check_pair

ALEXNET = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
I3D = "https://github.com/songweige/TATS/raw/main/tats/fvd/i3d_pretrained_400.pt"
SMALLEST = 31
"""px, the side of the smallest picture that AlexNet's layers leave something of."""
SHORTEST = 9
"""Frames of the shortest video that I3D's layers leave something of."""
PICTURES, VIDEOS = 128, 8  # at a time


class Unavailable(SakiyomiError):
    """A library or a file of weights that a score needs is not here."""


def lpips(a: Tensor, b: Tensor) -> Tensor:
    """Learned perceptual distance (Zhang et al. 2018; AlexNet, version 0.1), 0 for identical pictures; lower is
    nearer. Computed on the pictures' device.

    Pictures [..., 3, H, W] (or [..., 1, H, W], taken as grey), floats in 0..1 -> float32 [...].
    Raises Unavailable without the library or its weights, SakiyomiError for shapes that differ or are no pictures,
    values that are not in 0..1, and pictures smaller than 31 x 31.
    """
    check_pair(a, b)
    height, width = a.shape[-2:]
    if min(height, width) < SMALLEST:
        raise SakiyomiError(f"pictures are {height} x {width} pixels; LPIPS needs {SMALLEST} x {SMALLEST} or more")
    library = _library("LPIPS", "lpips")
    network = _lpips_network(library, weights_file("LPIPS", ALEXNET), a.device)
    pairs = (one.reshape(-1, *one.shape[-3:]).split(PICTURES) for one in (a, b))
    with torch.inference_mode():
        parts = [network(_colour(x), _colour(y), normalize=True).flatten() for x, y in zip(*pairs, strict=True)]
    return torch.cat(parts).reshape(a.shape[:-3])


def fvd(true_videos: np.ndarray, videos: np.ndarray, device: str = "auto") -> float:
    """Fréchet video distance (Unterthiner et al. 2018) between two sets of videos: that of two normal distributions
    fitted to the logits of I3D (as ported by cd-fvd), on frames scaled to 224 x 224; lower is nearer. It falls as n
    rises: compare only numbers of equal n, of some hundreds.

    Videos uint8 [N, T, H, W, 3], each set of two or more, T at least 9.
    Raises Unavailable without the library or its weights, SakiyomiError for anything that is no such set.
    """
    for one in (true_videos, videos):
        if one.dtype != np.uint8 or one.ndim != 5 or one.shape[-1] != 3 or one.shape[1:] != videos.shape[1:]:
            raise SakiyomiError(
                f"true videos {true_videos.dtype} {list(true_videos.shape)} and videos {videos.dtype} "
                f"{list(videos.shape)} cannot be compared; expected uint8 [N, T, H, W, 3], alike but for N"
            )
        if len(one) < 2 or one.shape[1] < SHORTEST:
            raise SakiyomiError(
                f"FVD needs 2 videos or more of {SHORTEST} frames or more, got {len(one)} of {one.shape[1]}"
            )
    library = _library("FVD", "cdfvd.third_party.i3d.utils")
    network = _i3d(library, weights_file("FVD", I3D), pick_device(device))
    return frechet_distance(*(_logits(library, network, one) for one in (true_videos, videos)))


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Fréchet distance of the normal distributions fitted to two sets of vectors [N, D] (Dowson and Landau
    1982): |mean difference|^2 + trace(A + B - 2 (A B)^(1/2)) for covariances A and B."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    difference, cov_a, cov_b = a.mean(0) - b.mean(0), np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # The trace of (A B)^(1/2) by symmetric matrices only: fewer vectors than dimensions make A and B singular, where
    # a general matrix root fails.
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    return float(difference @ difference + np.trace(cov_a) + np.trace(cov_b) - 2 * shared)


def weights_file(score: str, source: str) -> Path:
    """Where the weights of a score lie: in PyTorch's folder of checkpoints, under their name in `source`.
    Raises Unavailable, with what to do, where there is no such file."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(source).name
    if not path.is_file():
        raise Unavailable(f"{score} needs weights that are not here; put {source} at {path}")
    return path


def _library(score: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = {"lpips": "lpips", "cdfvd": "cd-fvd"}[name.split(".")[0]]
        raise Unavailable(
            f"{score} needs the package {package}, which cannot be imported ({error}): "
            "pip install 'sakiyomi[perception]'"
        ) from error


@functools.cache
def _lpips_network(library: ModuleType, weights: Path, device: torch.device) -> nn.Module:
    """The library's network with AlexNet's weights from `weights`; its own linear layers come with the library."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it calls torchvision in an old-fashioned way
        # Built without weights, because it would download them; those of the file are then put in.
        network = library.LPIPS(net="alex", pnet_rand=True, verbose=False)
    try:
        found = torch.load(weights, map_location="cpu", weights_only=True)
        # The library cut AlexNet's layers into slices: net.slice2.3.weight is features.3.weight.
        wanted = {name: f"features.{name.split('.', 2)[2]}" for name in network.state_dict() if name.startswith("net.")}
        network.load_state_dict({name: found[there] for name, there in wanted.items()}, strict=False)
    except Exception as error:
        raise _no_weights("LPIPS", weights, ALEXNET, error) from error
    return network.requires_grad_(False).eval().to(device)


@functools.cache
def _i3d(library: ModuleType, weights: Path, device: torch.device) -> nn.Module:
    """The library's I3D with its weights from a file that is there; it would download one that is not."""
    try:
        return library.load_i3d_model(device, str(weights)).requires_grad_(False)
    except Exception as error:
        raise _no_weights("FVD", weights, I3D, error) from error


@torch.inference_mode()
def _logits(library: ModuleType, network: nn.Module, videos: np.ndarray) -> np.ndarray:
    """uint8 [N, T, H, W, 3] -> float32 [N, 400], as the library scales and resizes."""
    device = next(network.parameters()).device
    batches = (videos[first : first + VIDEOS] for first in range(0, len(videos), VIDEOS))
    return np.concatenate([network(library.preprocess_i3d(some).to(device)).cpu().numpy() for some in batches])


def _no_weights(score: str, path: Path, source: str, error: Exception) -> Unavailable:
    line = str(error).strip().split("\n")[0][:120]
    return Unavailable(f"{score} cannot use {path} ({type(error).__name__}: {line}); put {source} there once more")


def _colour(pictures: Tensor) -> Tensor:
    """[N, C, H, W] -> float32 [N, 3, H, W]."""
    return pictures.float().expand(-1, 3, -1, -1)
