"""`rollout walk`: characters led by chance, and the files it leaves."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from imagining import push_job, trained_on
from PIL import Image

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.formats.bvh import read_bvh
from sakiyomi.data.sources.walk import SKELETON
from sakiyomi.errors import SakiyomiError
from sakiyomi.job import build
from sakiyomi.models import MVAE
from sakiyomi.motion.features import decode
from sakiyomi.rollout import Trained, load
from sakiyomi.walk import (
    MOST,
    Walking,
    character_of,
    poses_of,
    random_walk,
    rollout_walk,
    skeleton_of,
    write_walk,
)

SHORT = Walking(frames=20, characters=3, drawn=2, bvh=2)


@pytest.fixture(scope="module")
def trained(walk_run: Path) -> Trained:
    return load(walk_run)


def loud(trained: Trained, times: float) -> Trained:
    """The same with a decoder that shouts: every pose is about so many times as far out as the one before."""
    model = build(trained.job.model)
    model.load_state_dict(trained.model.state_dict())
    assert isinstance(model, MVAE)
    with torch.no_grad():
        for weight in model.decoder.parameters():
            weight *= times
    return replace(trained, model=model.eval())


def test_it_leaves_a_film_a_plot_and_bvh(trained: Trained, tmp_path: Path) -> None:
    files = rollout_walk(trained, SHORT, tmp_path)
    assert [path.name for path in files] == ["paths.png", "walk.gif", "walk-00.bvh", "walk-01.bvh"]
    assert sorted(files) == sorted(tmp_path.iterdir())
    with Image.open(tmp_path / "paths.png") as picture:
        assert picture.width > 100
    with Image.open(tmp_path / "walk.gif") as film:
        assert film.width > 100
        frames = getattr(film, "n_frames", 1)
        shown = sum(film.info["duration"] for frame in range(frames - 1) if film.seek(frame) is None)  # the last stays
        assert shown / 1000 == pytest.approx(SHORT.frames / 30, abs=0.1)


def test_the_bvh_is_what_was_walked(trained: Trained, tmp_path: Path) -> None:
    """Joint by joint: the poses' rotations on the skeleton's own bones, along the way the character went."""
    rollout_walk(trained, SHORT, tmp_path)
    character = character_of(trained)
    start = character.start(3, torch.Generator().manual_seed(0))
    walked = random_walk(character, start, 20, 0)
    assert walked.poses.shape == (20, 3, character.layout.width)
    assert walked.places.shape == (20, 3, 3)
    for number in range(2):
        clip = read_bvh(tmp_path / f"walk-{number:02d}.bvh", "cm", "y")
        x, z, facing = walked.places[0, number].tolist()
        truth = decode(walked.poses[:, number].numpy(), SKELETON, 30.0, (x, z, facing))
        assert clip.skeleton.names == SKELETON.names
        assert clip.rate == pytest.approx(30, rel=1e-4)
        np.testing.assert_allclose(clip.positions, truth.positions, atol=1e-3)
        np.testing.assert_allclose(clip.positions[:, 0, [0, 2]], walked.places[:, number, :2], atol=5e-3)
        for joint, parent in enumerate(SKELETON.parents[1:], 1):
            bone = np.linalg.norm(clip.positions[:, joint] - clip.positions[:, parent], axis=-1)
            np.testing.assert_allclose(bone, np.linalg.norm(SKELETON.offsets[joint]), atol=1e-4)


def test_a_walk_follows_from_poses_and_noise(trained: Trained) -> None:
    """The first frame is one step from the start, by the noise of a CPU's generator; the last by that of its frame."""
    character = character_of(trained)
    start = character.at(torch.tensor([0, 5]))
    walked = random_walk(character, start, 4, seed=3)
    generator, moving = torch.Generator().manual_seed(3), start
    for t in range(4):
        moving = character.next(moving, torch.randn(2, character.latent, generator=generator))
        torch.testing.assert_close(walked.poses[t], character.physical(moving.pose).detach())
        torch.testing.assert_close(walked.places[t], moving.place.detach())
    torch.testing.assert_close(random_walk(character, start, 2, 3).poses, walked.poses[:2])
    assert not torch.equal(random_walk(character, start, 4, 4).poses, walked.poses)


def test_one_seed_is_one_set_of_files(trained: Trained, tmp_path: Path) -> None:
    contents = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        files = rollout_walk(trained, replace(SHORT, seed=seed), tmp_path / name)
        contents.append([path.read_bytes() for path in files])
    assert contents[0] == contents[1]
    assert all(a != c for a, c in zip(contents[0], contents[2], strict=True))


def test_only_what_is_asked_for_is_drawn_and_written(trained: Trained, tmp_path: Path) -> None:
    nothing = rollout_walk(trained, Walking(frames=1, characters=1, drawn=0, bvh=0), tmp_path / "none")
    assert [path.name for path in nothing] == ["paths.png"]
    many = rollout_walk(trained, Walking(frames=2, characters=2, drawn=9, bvh=9), tmp_path / "many")
    assert [path.name for path in many] == ["paths.png", "walk.gif", "walk-00.bvh", "walk-01.bvh"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"frames": 0}, "--frames is 0; it must be at least 1"),
        ({"characters": 0}, "--characters is 0; it must be at least 1"),
        ({"drawn": -1}, "--drawn is -1; it must be at least 0"),
        ({"bvh": -1}, "--bvh is -1; it must be at least 0"),
        ({"seed": -1}, "--seed is -1; it must be at least 0"),
        ({"seed": 2**63}, "--seed is 9223372036854775808; it must be at most"),
        ({"frames": MOST, "characters": 2}, f"--frames times --characters is {2 * MOST}; it must be at most {MOST}"),
    ],
)
def test_options_out_of_range_are_told_and_nothing_is_left(
    trained: Trained, tmp_path: Path, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(SakiyomiError, match=told):
        rollout_walk(trained, replace(SHORT, **options), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_model_that_moves_nobody_is_told(push_store: EpisodeStore) -> None:
    job = push_job(push_store)
    with pytest.raises(SakiyomiError, match="SVG moves no character; train a motion VAE first: sakiyomi train walk"):
        character_of(trained_on(push_store, build(job.model), job))


def test_a_store_without_a_skeleton_is_told(trained: Trained, store: EpisodeStore) -> None:
    other = replace(trained.job, data=replace(trained.job.data, store=str(store.folder)))
    with pytest.raises(SakiyomiError, match=r"holds \['command', 'image', 'joints'\] and no skeleton.*prepare walk"):
        skeleton_of(store)
    with pytest.raises(SakiyomiError, match=f"{store.folder} holds .* no skeleton"):
        character_of(replace(trained, job=other))


def test_a_character_begins_in_the_poses_of_its_split(
    trained: Trained, walk_run: Path, walk_store: EpisodeStore
) -> None:
    for split in ("train", "test"):
        character = character_of(walk_run, split, "cpu")
        values = np.concatenate([walk_store.values(entry.id, "pose") for entry in walk_store.split(split)])
        torch.testing.assert_close(character.physical(character.starts), torch.from_numpy(values), atol=1e-4, rtol=1e-4)
        assert torch.equal(poses_of(walk_store, split), torch.from_numpy(values))
        assert character.skeleton == SKELETON
        assert character.rate == 30


@pytest.mark.parametrize("times", [1e4, 1e12])
def test_a_walk_that_came_to_no_numbers_is_told_with_a_cure(trained: Trained, tmp_path: Path, times: float) -> None:
    with pytest.raises(SakiyomiError, match=r"after \d+ frames .* not finite.* train .*--frames \d+"):
        rollout_walk(loud(trained, times), SHORT, tmp_path)


def test_a_body_that_fell_far_apart_is_drawn_all_the_same(trained: Trained, tmp_path: Path) -> None:
    """Kilometres wide: neither the picture nor the memory it takes may grow with it."""
    far = loud(trained, 4)
    character = character_of(far)
    walked = random_walk(character, character.start(3, torch.Generator().manual_seed(0)), 8, 0)
    assert walked.poses.isfinite().all()
    assert walked.poses.abs().max() > 1e4
    limit = Walking(frames=8, characters=3, drawn=1)
    files = rollout_walk(far, limit, tmp_path)
    assert all(path.stat().st_size > 100 for path in files)


def test_one_character_is_written(trained: Trained, tmp_path: Path) -> None:
    character = character_of(trained)
    walked = random_walk(character, character.at(torch.tensor([0, 1])), 3, 0)
    write_walk(character, walked, 1, tmp_path / "one.bvh")
    clip = read_bvh(tmp_path / "one.bvh", "cm", "y")
    np.testing.assert_allclose(clip.positions[:, 0, [0, 2]], walked.places[:, 1, :2], atol=5e-3)
