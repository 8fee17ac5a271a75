"""The generated walk: a body of constant bones on feet that stand still, which goes, turns and halts; and its store."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from sakiyomi.data.sources.walk import ANKLE, NAMES, RATE, SHANK, SKELETON, SOLE, THIGH, GeneratedWalk, clip
from sakiyomi.errors import SakiyomiError
from sakiyomi.motion.features import decode
from sakiyomi.motion.layout import Layout
from sakiyomi.motion.skeleton import Clip, Skeleton

EXACT = 1e-9  # m
CLIPS = [clip(seed, 20.0) for seed in range(12)]


@pytest.fixture(params=range(len(CLIPS)))
def walk(request: pytest.FixtureRequest) -> Clip:
    return CLIPS[request.param]


def of(walk: Clip, *names: str) -> np.ndarray:
    """Positions [T, len(names), 3]."""
    return walk.positions[:, [NAMES.index(name) for name in names]]


def test_forward_kinematics_of_the_rotations_gives_the_positions(walk: Clip) -> None:
    """So bones keep their lengths."""
    identity = np.swapaxes(walk.rotations, -1, -2) @ walk.rotations
    np.testing.assert_allclose(identity, np.broadcast_to(np.eye(3), identity.shape), atol=EXACT)
    np.testing.assert_allclose(np.linalg.det(walk.rotations), 1, atol=EXACT)
    for joint, parent in enumerate(SKELETON.parents[1:], 1):
        bone = walk.rotations[:, parent] @ np.array(SKELETON.offsets[joint])
        np.testing.assert_allclose(walk.positions[:, joint] - walk.positions[:, parent], bone, atol=EXACT)


def test_a_foot_on_the_ground_stands_still_and_one_always_is(walk: Clip) -> None:
    toes = of(walk, "LeftToe", "RightToe")
    down = np.abs(toes[..., 1] - SOLE) < EXACT
    assert down.any(1).all()
    for joints, on_ground in ((toes, down), (of(walk, "LeftFoot", "RightFoot"), None)):
        flat = on_ground if on_ground is not None else np.abs(joints[..., 1] - ANKLE) < EXACT
        moved = np.linalg.norm(np.diff(joints, axis=0), axis=-1)
        assert flat.mean() > 0.3
        assert moved[flat[1:] & flat[:-1]].max() < EXACT


def test_nothing_is_below_the_ground(walk: Clip) -> None:
    assert walk.positions[..., 1].min() > SOLE - EXACT
    assert of(walk, "LeftFoot", "RightFoot")[..., 1].min() > ANKLE - EXACT


@pytest.mark.parametrize("side", ["Left", "Right"])
def test_knees_bend_one_way_and_are_never_quite_straight(walk: Clip, side: str) -> None:
    hip, knee, ankle, toe = np.moveaxis(of(walk, *(f"{side}{bone}" for bone in ("UpLeg", "Leg", "Foot", "Toe"))), 1, 0)
    cosine = ((knee - hip) * (ankle - knee)).sum(-1) / (THIGH * SHANK)
    assert np.degrees(np.arccos(cosine)).min() > 10
    assert np.degrees(np.arccos(cosine)).max() < 130
    # Ahead of the line from hip to ankle, seen along the foot.
    along = (toe - ankle) * [1, 0, 1]
    assert (((knee - (hip + ankle) / 2) * along).sum(-1) > 0).all()


def test_toes_lie_flat_while_they_bear_and_elbows_bend_forwards(walk: Clip) -> None:
    for side in ("Left", "Right"):
        toe = NAMES.index(f"{side}Toe")
        down = np.abs(walk.positions[:, toe, 1] - SOLE) < EXACT
        np.testing.assert_allclose(walk.rotations[down, toe, 1, 1], 1, atol=EXACT)
        arm, hand = NAMES.index(f"{side}Arm"), NAMES.index(f"{side}Hand")
        in_arm = np.einsum("tba,tb->ta", walk.rotations[:, arm], walk.positions[:, hand] - walk.positions[:, arm])
        assert in_arm[:, 0].min() > 0.02


def test_left_is_left_of_right(walk: Clip) -> None:
    """Of the body all the time; of the feet, which cross in a turn, nearly always."""
    across = walk.rotations[:, 0, :, 2]
    for bone, share in (("Arm", 1.0), ("UpLeg", 1.0), ("Foot", 0.97)):
        apart = ((of(walk, f"Right{bone}") - of(walk, f"Left{bone}"))[:, 0] * across).sum(-1)
        assert (apart > 0.04).mean() >= share


def test_it_moves_smoothly(walk: Clip) -> None:
    acceleration = np.linalg.norm(np.diff(walk.positions, 2, axis=0), axis=-1) * RATE**2
    assert acceleration[:, 0].max() < 10  # m/s2, of the pelvis
    assert acceleration.max() < 200
    turned = np.swapaxes(walk.rotations[:-1], -1, -2) @ walk.rotations[1:]
    angle = np.arccos(np.clip((np.trace(turned, axis1=-2, axis2=-1) - 1) / 2, -1, 1))
    assert angle.max() * RATE < 25  # rad/s


def test_it_walks_turns_to_both_sides_and_halts() -> None:
    speeds, turns = [], []
    for walk in CLIPS:
        ground = walk.positions[:, 0, [0, 2]]
        speeds.append(np.linalg.norm(ground[15:] - ground[:-15], axis=-1) * RATE / 15)
        ahead = walk.rotations[:, 0, :, 0]
        facing = np.unwrap(np.arctan2(ahead[:, 2], ahead[:, 0]))
        turns.append((facing[15:] - facing[:-15]) * RATE / 15)
        # It goes where it faces.
        way = np.diff(ground, axis=0)
        fast = np.linalg.norm(way, axis=-1) > 0.5 / RATE
        aligned = (way * ahead[1:, [0, 2]]).sum(-1)[fast] / np.linalg.norm(way, axis=-1)[fast]
        assert np.quantile(aligned, 0.05) > 0.85
    speed, turn = np.concatenate(speeds), np.concatenate(turns)
    assert speed.max() < 2.1
    assert [(np.abs(speed - there) < 0.1).mean() > 0.02 for there in (0.05, 0.6, 1.0, 1.5, 1.9)] == [True] * 5
    for side in (-1, 1):
        assert (side * turn > 1.2).mean() > 0.03
        assert ((side * turn > 0.2) & (side * turn < 0.8)).mean() > 0.05


def test_arms_swing_against_the_legs(walk: Clip) -> None:
    ahead = walk.rotations[:, 0, :, 0] * [1, 0, 1]
    foot, hand = (
        ((of(walk, f"Right{bone}") - of(walk, f"Left{bone}"))[:, 0] * ahead).sum(-1) for bone in ("Foot", "Hand")
    )
    assert np.corrcoef(foot, hand)[0, 1] < -0.7


def test_a_seed_is_a_walk() -> None:
    np.testing.assert_array_equal(clip(3, 20.0).positions, CLIPS[3].positions)
    assert np.abs(clip((3, 1), 20.0).positions - CLIPS[3].positions).max() > 0.1
    assert len(clip(0, 1.5).positions) == 45


def test_sides_are_each_others_mirror() -> None:
    mirror, offsets = np.array(SKELETON.mirror), np.array(SKELETON.offsets)
    np.testing.assert_array_equal(mirror[mirror], np.arange(len(NAMES)))
    np.testing.assert_array_equal(offsets[mirror], offsets * [1, 1, -1])
    swap = {"Left": "Right", "Right": "Left"}
    for name, other in zip(NAMES, mirror, strict=True):
        side = next((side for side in swap if name.startswith(side)), "")
        assert NAMES[other] == name.replace(side, swap.get(side, side), 1)


def test_the_store_holds_the_clips(tmp_path: Path) -> None:
    store = GeneratedWalk(clips=2, validation=1, test=1, seconds=3, seed=5).record(tmp_path / "store")
    assert [(e.id, e.split) for e in store.entries] == [
        *(("train-00000", "train"), ("train-00001", "train")),
        *(("validation-00000", "validation"), ("test-00000", "test")),
    ]
    stream = store.streams["pose"]
    names = Layout(NAMES).names
    assert (stream.kind, stream.shape, stream.rate, stream.names) == ("motion", (len(names),), RATE, names)
    assert msgspec.convert(store.origin["skeleton"], Skeleton) == SKELETON
    entry = store.entries[1]
    truth = clip((5, 0, 1), 3)
    values = store.values(entry.id, "pose")
    assert entry.meta["mirrored"] is False
    found = decode(values, SKELETON, RATE, entry.meta["start"])
    np.testing.assert_allclose(found.positions, truth.positions, atol=1e-4)
    assert store.statistics["pose"].count == 180
    assert len({entry.sha256 for entry in store.entries}) == 4


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"clips": 0}, "--clips is 0"),
        ({"seconds": 0.5}, r"--seconds is 0\.5; it must be at least 1"),
        ({"seconds": float("nan")}, "--seconds is nan"),
        ({"test": -1}, "--test is -1"),
        ({"seed": -1}, "--seed is -1"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, settings: dict[str, float], words: str) -> None:
    with pytest.raises(SakiyomiError, match=words):
        GeneratedWalk(**settings).record(tmp_path)  # pyright: ignore[reportArgumentType]
