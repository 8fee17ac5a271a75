"""Noise that is where it should be, as large as it should be, and the same for the same seed."""

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sakiyomi.data.augment import Augment, augment, augment_batch
from sakiyomi.data.windows import Batch

B, T, H, W = 4, 6, 10, 14
NOTHING = {"joints": 0.0, "image": 0.0}
KINDS: list[dict[str, Any]] = [
    {"joints": 0.1},
    {"image": 0.1},
    {"light": 0.3},
    {"flicker": 0.3},
    {"colour": 0.3},
    {"shift": 2},
    {"patch": 1.0, "patch_size": 0.8},
    {"patch": 1.0, "patch_size": 0.8, "steady_patch": True},
]


def example(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        # The same picture at every step, away from 0 and 1: what differs afterwards was done to it.
        "image": (0.3 + 0.4 * torch.rand((B, 1, 3, H, W), generator=generator)).repeat(1, T, 1, 1, 1),
        "joints": torch.rand((B, T, 3), generator=generator),
        "force": torch.rand((B, T, 2), generator=generator),
    }


def augmented(inputs: dict[str, Tensor], seed: int = 0, **kind: Any) -> dict[str, Tensor]:
    return augment(inputs, Augment(**{**NOTHING, **kind}), torch.Generator().manual_seed(seed))


def test_nothing_asked_nothing_done() -> None:
    given = example()
    given["image"][0, 0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    torch.testing.assert_close(augmented(given), given, atol=0, rtol=0)


def test_every_setting_is_tried_here() -> None:
    tried = {name for kind in KINDS for name in kind} | {"scene"}  # has a test of its own
    assert tried == {field.name for field in fields(Augment)}


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_copies_that_follow_from_the_seed(kind: dict[str, Any]) -> None:
    given, kept = example(), example()
    out = augmented(given, **kind)
    torch.testing.assert_close(given, kept, atol=0, rtol=0)  # nothing was changed in place
    torch.testing.assert_close(augmented(given, **kind), out, atol=0, rtol=0)
    assert torch.equal(out["force"], given["force"])
    changed = "joints" if "joints" in kind else "image"
    other = "image" if "joints" in kind else "joints"
    assert not torch.equal(out[changed], given[changed])
    assert torch.equal(out[other], given[other])
    assert not torch.equal(augmented(given, seed=1, **kind)[changed], out[changed])
    assert ((out["image"] >= 0) & (out["image"] <= 1)).all()


def test_pictures_stay_in_range_when_all_comes_together() -> None:
    strong = {name: value for kind in KINDS for name, value in kind.items()}
    out = augmented(example(), **{**strong, "light": 0.9, "image": 1.0})
    assert out["image"].min() == 0
    assert out["image"].max() == 1


@pytest.mark.parametrize(("stream", "deviation"), [("joints", 0.02), ("image", 0.01)])
def test_noise_has_the_deviation_it_was_given(stream: str, deviation: float) -> None:
    given = {"joints": torch.full((20, 50, 8), 0.5), "image": torch.full((5, 10, 3, 16, 16), 0.5)}
    kind: dict[str, Any] = {stream: deviation}
    noise = augmented(given, **kind)[stream] - given[stream]
    assert noise.std().item() == pytest.approx(deviation, rel=0.05)
    assert abs(noise.mean().item()) < 0.05 * deviation


def test_a_shift_moves_a_window_as_one() -> None:
    """By brute force: for each window there is one whole-pixel move, its border repeated, that explains all steps."""
    most, given = 2, example()["image"]
    out = augmented({"image": given}, shift=most)["image"]
    padded = functional.pad(given.flatten(0, 1), [most] * 4, mode="replicate").unflatten(0, (B, T))
    moves = []
    for b in range(B):
        corners = [(y, x) for y in range(2 * most + 1) for x in range(2 * most + 1)]
        fits = [(y, x) for y, x in corners if torch.equal(padded[b, :, :, y : y + H, x : x + W], out[b])]
        assert len(fits) == 1
        moves += fits
    assert len(set(moves)) > 1


def test_a_shift_goes_all_ways_as_far_as_it_may() -> None:
    spot = torch.zeros(300, 1, 3, 9, 9)
    spot[..., 4, 4] = 1
    places = augmented({"image": spot}, shift=2)["image"][:, 0, 0].nonzero()[:, 1:]
    assert {tuple(p) for p in places.tolist()} == {(y, x) for y in range(2, 7) for x in range(2, 7)}


def steps_differ(images: Tensor) -> bool:
    return any(not torch.allclose(images[:, 0], images[:, t], atol=1e-6) for t in range(1, T))


@pytest.mark.parametrize("kind", KINDS[1:], ids=str)
def test_what_changes_by_the_frame_and_what_by_the_window(kind: dict[str, Any]) -> None:
    """A camera that was moved and a lamp that was dimmed stay so; noise, flicker and passing patches do not."""
    per_frame = {"image", "flicker"} & set(kind) or ("patch" in kind and "steady_patch" not in kind)
    out = augmented(example(), **kind)["image"]
    assert steps_differ(out) == bool(per_frame)
    assert not torch.equal(out[0] - example()["image"][0], out[1] - example()["image"][1])


def test_patches_are_rectangles_of_one_colour() -> None:
    given = torch.full((200, 1, 3, 20, 20), 0.5)
    out = augmented({"image": given}, patch=0.3, patch_size=0.5)["image"][:, 0]
    touched = 0
    for picture in out:
        inside = (picture != 0.5).any(0)
        if not inside.any():
            continue
        touched += 1
        rows, columns = inside.any(1), inside.any(0)
        assert torch.equal(inside, rows[:, None] & columns[None, :])
        assert max(rows.sum(), columns.sum()) <= 0.5 * 20 + 1
        assert len(picture[:, inside].unique(dim=1).T) == 1
    # Some of the drawn rectangles are too thin to hold a pixel.
    assert 0.1 * 200 < touched < 0.45 * 200


def test_another_scene_is_another_scene_for_targets_too() -> None:
    """Light, colour and shift keep inputs and targets one sequence; noise stays with the inputs."""
    frames = torch.rand(3, 6, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    batch = Batch({"image": frames[:, :-1]}, {"image": frames[:, 1:]}, torch.ones(3, 5))
    clean = Augment(joints=0, image=0)
    moved = augment_batch(
        batch, replace(clean, scene=True, light=0.3, colour=0.2, shift=3), torch.Generator().manual_seed(0)
    )
    assert not torch.equal(moved.inputs["image"], batch.inputs["image"])
    assert torch.equal(moved.inputs["image"][:, 1:], moved.targets["image"][:, :-1])
    noisy = augment_batch(batch, replace(clean, scene=True, image=0.1), torch.Generator().manual_seed(0))
    assert torch.equal(noisy.targets["image"], batch.targets["image"])
    assert not torch.equal(noisy.inputs["image"], batch.inputs["image"])
    plain = augment_batch(batch, replace(clean, light=0.3), torch.Generator().manual_seed(0))
    assert torch.equal(plain.targets["image"], batch.targets["image"])
