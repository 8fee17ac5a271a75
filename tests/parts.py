"""A law of all kinds of batches: the rows of a batch drawn in parts, put together, are the batch."""

from itertools import pairwise

import pytest
import torch

from sakiyomi.data.windows import Batch, Batches
from sakiyomi.errors import SakiyomiError


def expect_equal(a: Batch, b: Batch) -> None:
    torch.testing.assert_close(vars(a), vars(b), atol=0, rtol=0)


def joined(parts: list[Batch]) -> Batch:
    def all_of(streams: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        return {name: torch.cat([part[name] for part in streams]) for name in streams[0]}

    mask = torch.cat([part.mask for part in parts])
    return Batch(all_of([part.inputs for part in parts]), all_of([part.targets for part in parts]), mask)


def taken(batch: Batch, rows: slice) -> Batch:
    inputs, targets = ({k: v[rows] for k, v in streams.items()} for streams in (batch.inputs, batch.targets))
    return Batch(inputs, targets, batch.mask[rows])


def expect_parts_to_make_the_batch(batches: Batches, size: int = 4) -> None:
    """Also parts of other sizes, in which the longest window is not; a part of nothing is refused."""
    for step in range(3):
        whole = batches.draw(5, step, size)
        assert len(whole.mask) == size
        for cuts in ((0, 2, size), (0, 1, 3, size), tuple(range(size + 1))):
            rows = [slice(first, last) for first, last in pairwise(cuts)]
            parts = [batches.draw(5, step, size, part) for part in rows]
            assert [len(part.mask) for part in parts] == [part.stop - part.start for part in rows]
            expect_equal(joined(parts), whole)
        for count in (2, 3):  # as several processes take them, in turn
            for number in range(count):
                rows = slice(number, None, count)
                expect_equal(batches.draw(5, step, size, rows), taken(whole, rows))
    with pytest.raises(SakiyomiError, match=r"--train\.shards"):
        batches.draw(5, 0, size, slice(size, size + 2))
