"""LPIPS and FVD say what is missing and never fetch it; where the libraries are, they give the libraries' numbers.

The real path runs with made-up weights: it shows that the right parts are put together, not that the weights are right.
"""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from sakiyomi.errors import SakiyomiError
from sakiyomi.scores.perceptual import ALEXNET, I3D, Unavailable, frechet_distance, fvd, lpips, weights_file

A, B = torch.rand(2, 3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
I3D_MODULES = ("cdfvd", "cdfvd.third_party", "cdfvd.third_party.i3d", "cdfvd.third_party.i3d.utils")
VIDEOS = np.random.default_rng(0).integers(0, 256, (2, 9, 16, 16, 3), np.uint8)


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """PyTorch's folder of checkpoints, empty; and whoever asks the network fails."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("asked the network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_a_missing_library_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("lpips", *I3D_MODULES):
        monkeypatch.setitem(sys.modules, module, None)
    cure = r"cannot be imported \(.*\): pip install 'sakiyomi\[perception\]'$"
    with pytest.raises(Unavailable, match=f"^LPIPS needs the package lpips, which {cure}"):
        lpips(A, B)
    with pytest.raises(Unavailable, match=f"^FVD needs the package cd-fvd, which {cure}"):
        fvd(VIDEOS, VIDEOS)


def test_missing_weights_are_named_with_their_place_and_not_fetched(
    checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("lpips", *I3D_MODULES):  # libraries that know nothing: they must not be asked
        monkeypatch.setitem(sys.modules, module, ModuleType(module))
    with pytest.raises(Unavailable) as found:
        lpips(A, B)
    place = checkpoints / "alexnet-owt-7be5be79.pth"
    assert str(found.value) == f"LPIPS needs weights that are not here; put {ALEXNET} at {place}"
    with pytest.raises(Unavailable) as found:
        fvd(VIDEOS, VIDEOS)
    place = checkpoints / "i3d_pretrained_400.pt"
    assert str(found.value) == f"FVD needs weights that are not here; put {I3D} at {place}"
    place.touch()
    assert weights_file("FVD", I3D) == place
    assert isinstance(found.value, SakiyomiError)


@pytest.mark.parametrize(
    ("true", "videos", "message"),
    [
        (
            VIDEOS,
            VIDEOS[:, :, 1:],
            r"uint8 \[2, 9, 16, 16, 3\] and videos uint8 \[2, 9, 15, 16, 3\] cannot be compared",
        ),
        (VIDEOS / 255, VIDEOS, r"true videos float64 .*; expected uint8 \[N, T, H, W, 3\], alike but for N"),
        (VIDEOS[0], VIDEOS[0], r"uint8 \[9, 16, 16, 3\] .* cannot be compared"),
        (VIDEOS, VIDEOS[:1], "2 videos or more of 9 frames or more, got 1 of 9"),
        (VIDEOS[:, :8], VIDEOS[:, :8], "2 videos or more of 9 frames or more, got 2 of 8"),
    ],
)
def test_videos_that_cannot_be_compared_are_refused(true: np.ndarray, videos: np.ndarray, message: str) -> None:
    with pytest.raises(SakiyomiError, match=message):
        fvd(true, videos)


def test_pictures_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(SakiyomiError, match="30 x 64 pixels; LPIPS needs 31 x 31 or more"):
        lpips(A[..., :30, :], B[..., :30, :])
    with pytest.raises(SakiyomiError, match="cannot be compared; make them alike"):
        lpips(A, B[:1])
    with pytest.raises(SakiyomiError, match="divide bytes by 255"):
        lpips(A.byte(), B.byte())


def test_the_frechet_distance_of_known_distributions() -> None:
    """On sets whose means and covariances are exactly known: white vectors, scaled and shifted along each axis."""
    white = np.linalg.qr(np.random.default_rng(0).normal(size=(50, 6)))[0]
    white = np.linalg.qr(white - white.mean(0))[0] * np.sqrt(49)  # mean 0, covariance 1
    scales, shift = np.array([1.0, 2.0, 0.5, 3.0, 0.0, 1.0]), np.array([0.0, 1.0, -2.0, 0.0, 0.5, 0.0])
    expected = (shift**2).sum() + ((scales - 1) ** 2).sum()
    assert frechet_distance(white, white * scales + shift) == pytest.approx(expected)
    assert frechet_distance(white * scales + shift, white) == pytest.approx(expected)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    assert frechet_distance(white @ turn, (white * scales + shift) @ turn) == pytest.approx(expected)


def test_the_frechet_distance_of_fewer_vectors_than_dimensions() -> None:
    few = np.random.default_rng(0).normal(size=(3, 40))
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(few, few + 0.5) == pytest.approx(40 * 0.25, abs=1e-5)
    zeros = np.zeros((3, 40))
    assert frechet_distance(zeros, zeros) == 0
    spread = np.trace(np.cov(few, rowvar=False))
    assert frechet_distance(zeros, few) == pytest.approx((few.mean(0) ** 2).sum() + spread)


# With the libraries. They are in the extra 'perception', not in 'dev'.


@pytest.fixture
def alexnet(checkpoints: Path) -> Path:
    pytest.importorskip("lpips", reason="needs LPIPS: pip install 'sakiyomi[perception]'")
    from torchvision.models import alexnet  # pyright: ignore[reportMissingImports]

    torch.manual_seed(0)
    torch.save(alexnet(weights=None).state_dict(), checkpoints / Path(ALEXNET).name)
    return checkpoints


@pytest.fixture
def i3d(checkpoints: Path) -> Path:
    pytest.importorskip(I3D_MODULES[-1], reason="needs cd-fvd: pip install 'sakiyomi[perception]'")
    from cdfvd.third_party.i3d.pytorch_i3d import InceptionI3d  # pyright: ignore[reportMissingImports]

    torch.manual_seed(0)
    torch.save(InceptionI3d(400, in_channels=3).state_dict(), checkpoints / Path(I3D).name)
    return checkpoints


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_lpips_is_the_librarys_own_number(alexnet: Path) -> None:
    import lpips as library  # pyright: ignore[reportMissingImports]

    theirs = library.LPIPS(net="alex", verbose=False)  # finds the same file by itself
    with torch.no_grad():
        torch.testing.assert_close(lpips(A, B), theirs(A, B, normalize=True).flatten())


def test_lpips_is_a_distance_of_pictures(alexnet: Path) -> None:
    torch.testing.assert_close(lpips(A, A), torch.zeros(3))
    torch.testing.assert_close(lpips(A, B), lpips(B, A))
    near = (A + 0.02 * (B - 0.5)).clamp(0, 1)
    assert (lpips(A, near) < lpips(A, B)).all()
    both = lpips(A.expand(2, 3, 3, 64, 64), B.expand(2, 3, 3, 64, 64))
    torch.testing.assert_close(both, lpips(A, B).expand(2, 3))
    grey = [one[:, :1] for one in (A, B)]
    torch.testing.assert_close(lpips(*grey), lpips(*(one.repeat(1, 3, 1, 1) for one in grey)))
    assert lpips(A[..., :31, :31], B[..., :31, :31]).isfinite().all()


def test_fvd_is_of_the_librarys_logits(i3d: Path) -> None:
    from cdfvd.third_party.i3d import utils  # pyright: ignore[reportMissingImports]

    other = VIDEOS // 2
    network = utils.load_i3d_model("cpu", str(i3d / Path(I3D).name))
    with torch.no_grad():
        logits = [network(utils.preprocess_i3d(one)).double() for one in (VIDEOS, other)]
    theirs = float(utils.frechet_distance(*logits))
    assert fvd(VIDEOS, other, "cpu") == pytest.approx(theirs, rel=1e-3)
    assert fvd(VIDEOS, VIDEOS, "cpu") < theirs / 100


def test_the_frechet_distance_is_the_librarys(i3d: Path) -> None:
    from cdfvd.third_party.i3d import utils  # pyright: ignore[reportMissingImports]

    a, b = np.random.default_rng(0).normal(size=(2, 60, 8))
    b = b @ np.random.default_rng(1).normal(size=(8, 8)) + 0.3
    theirs = float(utils.frechet_distance(torch.from_numpy(a), torch.from_numpy(b)))
    assert frechet_distance(a, b) == pytest.approx(theirs, rel=1e-6)


def test_weights_that_are_none_are_named(checkpoints: Path) -> None:
    for module, source, score in (
        ("lpips", ALEXNET, lambda: lpips(A, B)),
        (I3D_MODULES[-1], I3D, lambda: fvd(VIDEOS, VIDEOS, "cpu")),
    ):
        pytest.importorskip(module, reason="needs pip install 'sakiyomi[perception]'")
        path = checkpoints / Path(source).name
        path.write_bytes(b"half a download")
        with pytest.raises(Unavailable, match=rf"cannot use {path} \(.*\); put {source} there once more"):
            score()
