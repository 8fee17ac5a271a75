"""What is measured on a GPU runs: here on a CPU, in tiny sizes."""

import pytest
import torch

from benchmarks.on_a_gpu import gpu_part
from sakiyomi.errors import SakiyomiError


def test_every_way_is_measured_beside_the_published_loop() -> None:
    found = gpu_part("cpu", quick=True)
    assert list(found["ways"]) == ["published", "ours, float32", "ours, bf16"]
    assert found["ways"]["published"]["ratio"] == 1
    assert max(found["agree"].values()) < 1e-3
    for way in found["ways"].values():
        assert way["windows"] == 2
        assert way["floor_seconds"] > 0
        assert way["frames_per_second"] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, and it would be measured")
def test_without_a_gpu_it_is_said() -> None:
    with pytest.raises(SakiyomiError, match=r"no GPU here.*python -m benchmarks\.on_a_gpu"):
        gpu_part()
