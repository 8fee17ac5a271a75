"""PSNR and SSIM are scikit-image's, whatever the pictures, and say what they cannot read."""

import json
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from sakiyomi.errors import SakiyomiError
from sakiyomi.scores import pictures
from sakiyomi.scores.pictures import HIGHEST, WINDOW, psnr, ssim

H, W = 13, 18
RANDOM = np.random.default_rng(0)


def smooth(phase: float) -> np.ndarray:
    y, x = np.mgrid[:H, :W]
    return np.stack([0.5 + 0.45 * np.sin(x / 5 + y / (3 + c) + phase) for c in range(3)])


def speck() -> np.ndarray:
    picture = np.ones((3, H, W))
    picture[1, 6, 9] = 254 / 255
    return picture


NOISE = RANDOM.random((3, H, W))
PAIRS: dict[str, tuple[np.ndarray, np.ndarray]] = {
    "random": (NOISE, RANDOM.random((3, H, W))),
    "a little noise": (NOISE, (NOISE + 0.01 * RANDOM.normal(size=NOISE.shape)).clip(0, 1)),
    "almost the same": (NOISE, (NOISE + 1e-4 * RANDOM.normal(size=NOISE.shape)).clip(0, 1)),
    "smooth": (smooth(0.0), smooth(0.4)),
    "smooth and noise": (smooth(0.0), NOISE),
    "two flat": (np.full((3, H, W), 0.9), np.full((3, H, W), 0.91)),
    "black and white": (np.zeros((3, H, W)), np.ones((3, H, W))),
    "white and one speck": (np.ones((3, H, W)), speck()),
    "almost flat": (0.98 + 1e-4 * NOISE, 0.98 + 1e-4 * NOISE[:, ::-1]),
    "identical": (NOISE, NOISE),
    "identical and flat": (np.full((3, H, W), 0.7), np.full((3, H, W), 0.7)),
}


def theirs(a: Tensor, b: Tensor) -> tuple[float, float]:
    """scikit-image's PSNR (100 where it has none) and SSIM of two pictures [C, H, W]."""
    x, y = a.double().numpy(), b.double().numpy()
    likeness = structural_similarity(x, y, channel_axis=0, data_range=1)
    assert isinstance(likeness, float)
    return HIGHEST if (x == y).all() else float(peak_signal_noise_ratio(x, y, data_range=1)), likeness


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", PAIRS)
def test_scores_are_scikit_images(name: str, dtype: torch.dtype) -> None:
    a, b = (torch.from_numpy(np.ascontiguousarray(one)).to(dtype) for one in PAIRS[name])
    for x, y in ((a, b), (a[:1], b[:1])):  # colour and grey
        expected = theirs(x, y)
        assert (float(psnr(x, y)), float(ssim(x, y))) == pytest.approx(expected, abs=1e-4)
        assert (float(psnr(y, x)), float(ssim(y, x))) == pytest.approx(expected, abs=1e-4)


@settings(max_examples=30)
@given(
    height=st.integers(WINDOW, 20),
    width=st.integers(WINDOW, 20),
    mean=st.floats(0, 1),
    contrast=st.sampled_from((0.0, 1e-5, 1e-3, 0.1, 1.0)),
    noise=st.sampled_from((0.0, 1e-4, 1e-2, 1.0)),
    seed=st.integers(0, 1000),
)
def test_scores_are_scikit_images_for_any_picture(
    height: int, width: int, mean: float, contrast: float, noise: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    a = (mean + contrast * random.normal(size=(3, height, width))).clip(0, 1)
    b = (a + noise * random.normal(size=a.shape)).clip(0, 1)
    x, y = torch.from_numpy(a).float(), torch.from_numpy(b).float()
    their_psnr, their_ssim = theirs(x, y)
    assert float(psnr(x, y)) == pytest.approx(min(HIGHEST, their_psnr), abs=1e-4)
    assert float(ssim(x, y)) == pytest.approx(their_ssim, abs=1e-4)


@pytest.mark.parametrize("leading", [(), (5,), (2, 3), (2, 1, 4), (0,), (3, 0)])
def test_a_number_a_picture_over_any_leading_axes(leading: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pictures.CHUNK, "cpu", 2 * 3 * H * W)  # two at a time, and a rest
    a, b = torch.rand(2, *leading, 3, H, W)
    for score in (psnr, ssim):
        found = score(a, b)
        assert found.shape == leading
        for index in np.ndindex(*leading):
            assert float(found[index]) == pytest.approx(float(score(a[index], b[index])), abs=1e-12)


def test_axes_in_another_order_of_memory_change_nothing() -> None:
    last = torch.rand(2, 4, H, W, 3)
    a, b = last.movedim(-1, -3)
    for score in (psnr, ssim):
        torch.testing.assert_close(score(a, b), score(a.contiguous(), b.contiguous()))


def test_identical_pictures_have_the_highest_psnr_and_it_goes_into_json() -> None:
    a = torch.rand(3, H, W)
    assert json.loads(json.dumps(float(psnr(a, a)))) == HIGHEST
    black = torch.zeros(3, 64, 64)  # two different 8-bit pictures, as near as they can be, lie below
    nearest = black.clone()
    nearest[0, 0, 0] = 1 / 255
    assert 89 < float(psnr(black, nearest)) < HIGHEST


def test_more_noise_is_worse() -> None:
    a = torch.from_numpy(smooth(0.0)).float()
    noise = torch.randn(a.shape, generator=torch.Generator().manual_seed(0))
    for score in (psnr, ssim):
        found = [float(score(a, (a + level * noise).clamp(0, 1))) for level in (0.0, 0.01, 0.05, 0.2, 1.0)]
        assert found == sorted(found, reverse=True)
        assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.zeros(3, 8, 8), torch.zeros(2, 3, 8, 8), r"shapes \[3, 8, 8\] and \[2, 3, 8, 8\].*make them alike"),
        (torch.zeros(8, 8, 3), torch.zeros(8, 8, 3), r"got \[8, 8, 3\]; these look like \[..., H, W, 3\]: move the"),
        (torch.zeros(8, 8), torch.zeros(8, 8), r"expected pictures \[..., 3, H, W\] .* got \[8, 8\]"),
        (torch.zeros(3, 0, 8), torch.zeros(3, 0, 8), r"got \[3, 0, 8\]"),
        (torch.zeros(3, 8, 8).byte(), torch.zeros(3, 8, 8).byte(), r"got torch.uint8; divide bytes by 255"),
        (torch.zeros(3, 8, 8), torch.full((3, 8, 8), 255.0), r"values in 0..1, got 255..255; scale them first"),
        (torch.full((3, 8, 8), -0.1), torch.zeros(3, 8, 8), r"in 0..1, got -0.1..-0.1"),
        (torch.full((3, 8, 8), torch.nan), torch.zeros(3, 8, 8), r"in 0..1, got nan..nan"),
    ],
)
def test_what_is_no_pair_of_pictures_is_refused(a: Tensor, b: Tensor, message: str) -> None:
    for score in (psnr, ssim):
        with pytest.raises(SakiyomiError, match=message):
            score(a, b)


def test_pictures_smaller_than_the_window_have_no_ssim() -> None:
    small = torch.zeros(3, 6, 20)
    with pytest.raises(SakiyomiError, match="6 x 20 pixels; SSIM's window needs 7 x 7"):
        ssim(small, small)
    assert float(psnr(small, small)) == HIGHEST
    assert float(ssim(torch.zeros(3, 7, 7), torch.zeros(3, 7, 7))) == pytest.approx(1)


def test_many_pictures_take_a_moment() -> None:
    """Measured: 50,000 pictures of 64 x 64 in 10 seconds on one core. Held, with room for a busy machine: a minute."""
    a, b = torch.rand(2, 500, 3, 64, 64)
    seconds = []
    for _ in range(4):
        begin = time.perf_counter()
        psnr(a, b)
        ssim(a, b)
        seconds.append(time.perf_counter() - begin)
    assert min(seconds) < 60 * 500 / 50_000


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_finds_the_same() -> None:
    a, b = torch.rand(2, 9, 3, 64, 64)
    for score in (psnr, ssim):
        torch.testing.assert_close(score(a.cuda(), b.cuda()).cpu(), score(a, b))
