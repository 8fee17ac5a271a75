"""What is drawn ahead is what would have been drawn, in order and no further ahead than allowed; and threads end."""

import threading
import time

import pytest
import torch
from parts import expect_equal

from sakiyomi.data.augment import Augment, augment_batch
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.normalize import Normalizer
from sakiyomi.data.prefetch import Ahead
from sakiyomi.data.windows import Batch, Data, Windows, covered_streams
from sakiyomi.errors import SakiyomiError


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")}


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("steps", [[0, 1, 2, 3, 4], [3, 4], [4, 0, 1, 1, 3]], ids=["all", "resumed", "leaping"])
def test_batches_are_those_of_their_steps(store: EpisodeStore, depth: int, steps: list[int]) -> None:
    streams = ("image", "joints")
    windows = Windows(store, "train", Data(), streams, Normalizer.fit(store, covered_streams(store, streams)))

    def draw(step: int) -> Batch:
        noise = torch.Generator().manual_seed(step)
        return augment_batch(windows.draw(7, step, 3), Augment(light=0.2, shift=1), noise)

    with Ahead(draw, 5, depth) as ahead:
        for step in steps:
            expect_equal(ahead.take(step), draw(step))
    assert not threads()


def test_no_more_is_drawn_than_allowed() -> None:
    drawn: list[int] = []
    with Ahead(drawn.append, end=4, depth=2) as ahead:
        for step in range(4):
            ahead.take(step)
            assert len(drawn) <= step + 3
            assert threads() == {"ahead_0"}
        ahead.take(3)  # drawn anew, after all that was asked for before
    assert drawn == [0, 1, 2, 3, 3]  # none else twice, and none after the last


def test_the_next_is_drawn_while_this_one_is_used() -> None:
    begun = threading.Event()

    def draw(step: int) -> int:
        if step == 1:
            begun.set()
        return step

    with Ahead(draw, 2) as ahead:
        assert ahead.take(0) == 0
        assert begun.wait(10)
        assert ahead.take(1) == 1


@pytest.mark.parametrize("depth", [0, 1])
def test_an_error_is_raised_where_its_step_is_taken(depth: int) -> None:
    def draw(step: int) -> int:
        if step == 2:
            raise SakiyomiError("the disk is gone")
        return step

    with Ahead(draw, 10, depth) as ahead:
        assert [ahead.take(0), ahead.take(1)] == [0, 1]
        with pytest.raises(SakiyomiError, match="the disk is gone"):
            ahead.take(2)
    assert not threads()


def test_an_interrupted_loop_leaves_no_thread() -> None:
    def draw(step: int) -> int:
        time.sleep(0.05)
        return step

    def loop() -> None:
        with Ahead(draw, 10, depth=3) as ahead:
            ahead.take(0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop()
    assert not threads()


def test_a_loop_that_stops_early_forgets_what_waits() -> None:
    drawn: list[int] = []
    go_on = threading.Event()

    def draw(step: int) -> None:
        if step == 1:
            go_on.wait(10)
        drawn.append(step)

    ahead = Ahead(draw, 10, depth=4)
    ahead.take(0)
    go_on.set()
    ahead.close()
    assert len(drawn) <= 5
    assert drawn == list(range(len(drawn)))
    assert not threads()
