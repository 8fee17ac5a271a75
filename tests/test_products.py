"""Products of float32 matrices: whoever multiplies, they are float32."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sakiyomi import products
from sakiyomi.products import MATMUL, plain_products, wide_products


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    with plain_products():
        yield


@pytest.mark.parametrize("sizes", [(64, 267, 1536), (1, 300, 7), (33, 17, 65), (512, 1024, 128)])
def test_wide_products_are_as_near_to_the_truth_as_plain_ones(sizes: tuple[int, int, int]) -> None:
    n, k, m = sizes
    a, b = torch.randn(n, k), torch.randn(k, m)
    scale = a.double().abs() @ b.double().abs()
    wide_products()
    for left, right in ((a, b), (a.t().contiguous().t(), b.t().contiguous().t())):
        apart = ((left @ right).double() - a.double() @ b.double()).abs() / scale
        assert float(apart.max()) < 1e-6  # bfloat16 rounds by 4e-3


def test_gradients_are_float32s_too() -> None:
    a, b = torch.randn(64, 267, requires_grad=True), torch.randn(267, 300, requires_grad=True)
    found = []
    for dtype in (torch.float64, torch.float32):
        wide_products()
        (a.to(dtype) @ b.to(dtype)).square().sum().backward()
        found.append(torch.cat([grad.flatten() for grad in (a.grad, b.grad) if grad is not None]))
        a.grad = b.grad = None
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-3)


def test_what_was_set_is_set_again_afterwards() -> None:
    wide = wide_products()
    before = MATMUL.fp32_precision
    assert (before == "bf16") == wide
    with pytest.raises(ValueError), plain_products():  # noqa: PT011, PT012
        assert MATMUL.fp32_precision == "none"
        raise ValueError
    assert MATMUL.fp32_precision == before


@pytest.mark.parametrize("told", ["vendor_id : GenuineIntel", "vendor_id : AuthenticAMD\nflags : amx_tile", ""])
def test_on_other_processors_nothing_changes(told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text(told)
    monkeypatch.setattr(products, "CPUINFO", tmp_path / "cpuinfo")
    products._by_onednn.cache_clear()
    assert not wide_products()
    assert MATMUL.fp32_precision == "none"
    products._by_onednn.cache_clear()
