"""BVH in, BVH out: any skeleton and order of channels means what it says, damage is told with its line."""

import re
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from bodies import NAMES, PERSON, assemble, moved, person, with_offsets
from scipy.spatial.transform import Rotation

from sakiyomi.data.formats.bvh import UNITS, conventions, parse_bvh, read_bvh, write_bvh
from sakiyomi.errors import SakiyomiError
from sakiyomi.motion.skeleton import Clip, Skeleton, character, forward_kinematics, to_parents

REAL = Path(__file__).parents[1].parent / "shared" / "data" / "motion" / "bandai_namco_2_walk_run.zip"
ROTATIONS = [f"{axis}rotation" for axis in "XYZ"]
POSITIONS = [f"{axis}position" for axis in "XYZ"]

SMALL = """HIERARCHY
ROOT Hips
{
  OFFSET 1 2 3
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT Leg
  {
    OFFSET 0 -90 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    JOINT Foot
    {
      OFFSET 10 0 0
      CHANNELS 1 Yrotation
      End Site
      {
        OFFSET 1 0 0
      }
    }
  }
  JOINT Head
  {
    OFFSET 0 70 0
  }
}
MOTION
Frames: 2
Frame Time: 0.0333333
0 95 0 0 0 0 0 0 0 0
10 95 20 90 0 0 0 0 90 45
"""


def rows(
    names: list[str], offsets: np.ndarray, parents: list[int], channels: list[list[str]], values: np.ndarray
) -> str:
    """A file by another hand than `write_bvh`."""
    lines = ["HIERARCHY"]

    def write(joint: int) -> None:
        lines.append(f"{'JOINT' if joint else 'ROOT'} {names[joint]}\n{{\nOFFSET {' '.join(map(str, offsets[joint]))}")
        lines.append(f"CHANNELS {len(channels[joint])} {' '.join(channels[joint])}")
        for child, parent in enumerate(parents):
            if parent == joint:
                write(child)
        lines.append("}")

    write(0)
    lines += ["MOTION", f"Frames: {len(values)}", "Frame Time: 0.01"]
    return "\n".join([*lines, *(" ".join(map(repr, row)) for row in values.tolist())])


def axis_rotation(axis: str, degrees: float) -> np.ndarray:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return {
        "X": np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]),
        "Y": np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]),
        "Z": np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]),
    }[axis]


def test_a_file_worked_out_by_hand() -> None:
    clip = parse_bvh(SMALL.encode(), "small.bvh", "cm", "y")
    assert clip.skeleton.names == ("Hips", "Leg", "Foot", "Head")
    assert clip.skeleton.parents == (-1, 0, 1, 0)
    np.testing.assert_allclose(clip.skeleton.offsets[1:], [[0, -0.9, 0], [0.1, 0, 0], [0, 0.7, 0]])
    assert clip.rate == 30.0
    # In the second frame the body lies: a quarter turn about z takes y to -x and x to y.
    truth = np.array(
        [
            [[0, 95, 0], [0, 5, 0], [10, 5, 0], [0, 165, 0]],
            [[10, 95, 20], [100, 95, 20], [100, 95, 10], [-60, 95, 20]],
        ]
    )
    # The leg's quarter turn about its own y takes its x axis, now the world's y, to its -z, which is the world's -z.
    np.testing.assert_allclose(clip.positions, truth / 100, atol=1e-12)
    np.testing.assert_allclose(clip.rotations[0], np.broadcast_to(np.eye(3), (4, 3, 3)), atol=1e-12)
    np.testing.assert_allclose(clip.rotations[1, 3], axis_rotation("Z", 90), atol=1e-12)
    np.testing.assert_allclose(clip.rotations[1, 2], axis_rotation("Z", 90) @ axis_rotation("Y", 135), atol=1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_any_order_of_any_channels_is_obeyed(seed: int) -> None:
    """Some joints have positions, before, after or between the angles; some have one or two angles, some none."""
    random = np.random.default_rng(seed)
    parents = [-1, 0, 1, 2, 1, 0]
    offsets = random.normal(size=(6, 3)).round(3)
    channels = []
    for joint in range(6):
        angles = list(random.permutation(ROTATIONS))[: 3 if joint == 0 else random.integers(4)]
        places = list(random.permutation(POSITIONS))[: 3 if joint == 0 else random.choice([0, 0, 2, 3])]
        channels.append([str(name) for name in random.permutation(angles + places)])
    values = random.uniform(-180, 180, (3, sum(map(len, channels))))
    text = rows([f"j{i}" for i in range(6)], offsets, parents, channels, values)
    clip = parse_bvh(text.encode(), "any.bvh", "m", "y")
    assert clip.rate == 100
    for frame in range(3):
        column, rotations, positions = 0, [], []
        for joint in range(6):
            rotation, place = np.eye(3), offsets[joint].copy()
            for name in channels[joint]:
                value = values[frame, column]
                column += 1
                if name in ROTATIONS:
                    rotation = rotation @ axis_rotation(name[0], value)
                else:
                    place["XYZ".index(name[0])] = value
            if parents[joint] >= 0:
                place = positions[parents[joint]] + rotations[parents[joint]] @ place
                rotation = rotations[parents[joint]] @ rotation
            rotations.append(rotation)
            positions.append(place)
        np.testing.assert_allclose(clip.positions[frame], positions, atol=1e-9)
        np.testing.assert_allclose(clip.rotations[frame], rotations, atol=1e-9)


def test_all_six_orders_of_angles_differ() -> None:
    """The test above draws orders at random; these are all, on one joint."""
    seen = []
    for order in permutations(ROTATIONS):
        text = rows(["a"], np.zeros((1, 3)), [-1], [list(order)], np.array([[10.0, 20.0, 30.0]]))
        rotation = parse_bvh(text.encode(), "a.bvh", "m", "y").rotations[0, 0]
        truth = np.eye(3)
        for name, angle in zip(order, (10.0, 20.0, 30.0), strict=True):
            truth = truth @ axis_rotation(name[0], angle)
        np.testing.assert_allclose(rotation, truth, atol=1e-12)
        seen.append(rotation)
    assert min(np.abs(a - b).max() for i, a in enumerate(seen) for b in seen[:i]) > 0.01


@pytest.mark.parametrize("unit", UNITS)
def test_the_unit_is_found_by_the_size_of_the_body(unit: str, tmp_path: Path) -> None:
    """Also that of a short and of a tall person; told, it is obeyed whatever the size."""
    for size in (0.75, 1.0, 1.2):
        clip = person(4)
        clip = replace(
            clip,
            skeleton=with_offsets(PERSON, size * np.array(PERSON.offsets)),
            positions=size * clip.positions,
        )
        write_bvh(tmp_path / "a.bvh", clip, unit)
        found = read_bvh(tmp_path / "a.bvh")
        read = read_bvh(tmp_path / "a.bvh", str(UNITS[unit]))
        for other in (found, read):
            np.testing.assert_allclose(np.sort(other.positions, 1), np.sort(clip.positions, 1), atol=1e-5)
    assert conventions((tmp_path / "a.bvh").read_bytes(), "a.bvh") == (unit, "y")
    told = read_bvh(tmp_path / "a.bvh", "mm")
    np.testing.assert_allclose(told.positions[:, 0], 1.2 * person(4).positions[:, 0] * 0.001 / UNITS[unit], atol=1e-5)


def test_how_far_a_body_is_from_the_scenes_root_is_no_part_of_its_size(tmp_path: Path) -> None:
    clip = person(4)
    far = np.concatenate((np.full((4, 1, 3), 30.0), clip.positions), 1)
    turned = np.concatenate((np.tile(np.eye(3), (4, 1, 1, 1)), clip.rotations), 1)
    parents = (-1, *(parent + 1 for parent in PERSON.parents))
    skeleton = Skeleton(("scene", *NAMES), parents, ((0.0, 0.0, 0.0), *PERSON.offsets))
    write_bvh(tmp_path / "a.bvh", Clip(skeleton, 30.0, far, turned))
    assert conventions((tmp_path / "a.bvh").read_bytes(), "a.bvh") == ("cm", "y")


def test_a_body_of_no_human_size_needs_its_unit_told(tmp_path: Path) -> None:
    write_bvh(tmp_path / "a.bvh", person(4), "10")
    with pytest.raises(SakiyomiError, match=r"a\.bvh: its unit cannot be told: .* measures .*--unit"):
        read_bvh(tmp_path / "a.bvh")
    np.testing.assert_allclose(read_bvh(tmp_path / "a.bvh", "10").positions[:, 0], person(4).positions[:, 0], atol=1e-4)
    for unit in ("yard", "0", "-1", "nan"):
        with pytest.raises(SakiyomiError, match=rf"unknown unit '{unit}': .*cm.*, or metres as a number"):
            read_bvh(tmp_path / "a.bvh", unit)


@pytest.mark.parametrize(
    ("up", "named"), [*((up, True) for up in ("x", "y", "z", "-x", "-y", "-z")), *((up, False) for up in "xyz")]
)
def test_the_up_axis_is_found_by_head_and_feet_or_by_the_longest_extent(up: str, named: bool, tmp_path: Path) -> None:
    """Heights come out the same, and the body is turned, not mirrored; without names up is taken for +."""
    clip = person(30)
    sign = -1.0 if up.startswith("-") else 1.0
    axis = np.eye(3)["xyz".index(up[-1])] * sign
    turn = Rotation.align_vectors([axis], [[0.0, 1, 0]])[0]
    skeleton = clip.skeleton if named else replace(PERSON, names=tuple(f"j{i}" for i in range(len(NAMES))))
    write_bvh(tmp_path / "a.bvh", replace(moved(clip, turn.as_matrix()), skeleton=skeleton))
    auto, told = read_bvh(tmp_path / "a.bvh"), read_bvh(tmp_path / "a.bvh", "cm", up)
    order = [auto.skeleton.names.index(name) for name in skeleton.names]
    for other in (auto, told):
        np.testing.assert_allclose(other.positions[:, order, 1], clip.positions[..., 1], atol=1e-6)
        np.testing.assert_allclose(other.skeleton.offsets[0], np.median(other.positions[:, 0], 0), atol=1e-6)
        again = [distances(positions) for positions in other.positions[:, order]]
        np.testing.assert_allclose(again, [distances(positions) for positions in clip.positions], atol=1e-6)
        assert np.linalg.det(other.rotations).min() > 0.999
        np.testing.assert_allclose(chirality(other.positions[:, order]), chirality(clip.positions), atol=1e-6)


def distances(positions: np.ndarray) -> np.ndarray:
    return np.linalg.norm(positions[:, None] - positions, axis=-1)


def chirality(places: np.ndarray) -> np.ndarray:
    """A triple product of bones, which turning leaves as it is and mirroring negates."""
    spine, leg, toe = (places[:, NAMES.index(name)] - places[:, 0] for name in ("Spine", "LeftUpLeg", "LeftToe"))
    return (np.cross(spine, leg) * toe).sum(-1)


def test_an_unknown_up_axis_is_refused() -> None:
    with pytest.raises(SakiyomiError, match=r"unknown up axis 'w': .*known: -x, -y, -z, auto, x, y, z"):
        parse_bvh(SMALL.encode(), "a.bvh", "cm", "w")


def test_a_written_file_read_again_is_the_same(tmp_path: Path) -> None:
    """Joints come in the file's order, depth first. Wild turns pass the angles' poles."""
    for seed, wild in ((0, 0.3), (1, 3.0)):
        clip = person(80, rate=50.0, seed=seed, wild=wild)
        write_bvh(tmp_path / "a.bvh", clip)
        again = read_bvh(tmp_path / "a.bvh", "cm", "y")
        assert set(again.skeleton.names) == set(NAMES)
        order = [again.skeleton.names.index(name) for name in NAMES]
        assert order != sorted(order)
        np.testing.assert_allclose(again.positions[:, order], clip.positions, atol=1e-6)
        np.testing.assert_allclose(again.rotations[:, order], clip.rotations, atol=1e-6)
        np.testing.assert_allclose(np.array(again.skeleton.offsets)[order][1:], PERSON.offsets[1:], atol=1e-8)
        assert [again.skeleton.parents[i] for i in order[1:]] == [order[parent] for parent in PERSON.parents[1:]]
        assert again.rate == 50.0


@pytest.mark.parametrize("rate", [24.0, 29.97, 30.0, 59.94, 120.0])
def test_the_rate_is_kept(rate: float, tmp_path: Path) -> None:
    write_bvh(tmp_path / "a.bvh", person(3, rate))
    assert read_bvh(tmp_path / "a.bvh").rate == pytest.approx(rate, rel=1e-8)


def test_the_poles_of_the_angles_are_written_too(tmp_path: Path) -> None:
    """At 90 degrees about x the other two axes are one; scipy warns, the file is right all the same."""
    angles = np.stack((np.linspace(0, 40, 9), np.linspace(80, 100, 9), np.linspace(-30, 30, 9)), 1)
    local = np.tile(np.eye(3), (9, len(NAMES), 1, 1))
    local[:, 3] = Rotation.from_euler("ZXY", angles, degrees=True).as_matrix()
    clip = assemble(PERSON, 30.0, local, np.tile([0.0, 1, 0], (9, 1)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the user can do nothing about it
        write_bvh(tmp_path / "a.bvh", clip)
    again = read_bvh(tmp_path / "a.bvh", "cm", "y")
    order = [again.skeleton.names.index(name) for name in NAMES]
    np.testing.assert_allclose(again.rotations[:, order], clip.rotations, atol=1e-6)


def test_angles_run_on_without_jumps(tmp_path: Path) -> None:
    """Over several turns of the body, and of a joint past the pole, so that viewers can go between frames."""
    frames = 400
    local = np.tile(np.eye(3), (frames, len(NAMES), 1, 1))
    spin = np.linspace(0, 5 * 2 * np.pi, frames)
    local[:, 0] = Rotation.from_rotvec(np.outer(spin, [0, 1, 0])).as_matrix()
    local[:, 8] = Rotation.from_rotvec(np.outer(spin, [1, 0, 0])).as_matrix()  # its x angle passes 90 degrees
    write_bvh(tmp_path / "a.bvh", assemble(PERSON, 30.0, local, np.tile([0.0, 1, 0], (frames, 1))))
    values = motion(tmp_path / "a.bvh")
    assert np.abs(np.diff(values[:, 3:], axis=0)).max() < 1.001 * 360 * 5 / (frames - 1)
    assert np.ptp(values[:, 3:], axis=0).max() == pytest.approx(1800, abs=0.1)


def motion(path: Path) -> np.ndarray:
    lines = path.read_text().splitlines()
    return np.loadtxt(lines[lines.index("MOTION") + 3 :])


def test_only_joints_that_move_in_their_parents_frame_get_positions(tmp_path: Path) -> None:
    clip = person(40)
    rounded = replace(clip, positions=clip.positions.round(5))  # m
    write_bvh(tmp_path / "rigid.bvh", rounded)
    channels = re.findall(r"(?:ROOT|JOINT) (\w+)\s+\{\s+OFFSET.*\s+CHANNELS (\d)", (tmp_path / "rigid.bvh").read_text())
    assert dict(channels) == {name: "6" if name == "Hips" else "3" for name in NAMES}
    # The root's offset is nothing, since some readers add it to its positions.
    write_bvh(tmp_path / "moved.bvh", replace(clip, skeleton=with_offsets(PERSON, np.array(PERSON.offsets) + 1)))
    assert re.search(r"ROOT Hips\s+\{\s+OFFSET 0.000000 0.000000 0.000000\s", (tmp_path / "moved.bvh").read_text())
    hand = NAMES.index("LeftHand")
    clip.positions[:, hand] += 0.05 * np.sin(np.arange(40))[:, None]
    write_bvh(tmp_path / "arm.bvh", clip)
    channels = re.findall(r"(?:ROOT|JOINT) (\w+)\s+\{\s+OFFSET.*\s+CHANNELS (\d)", (tmp_path / "arm.bvh").read_text())
    assert {name for name, count in channels if count == "6"} == {"Hips", "LeftHand"}
    again = read_bvh(tmp_path / "arm.bvh", "cm", "y")
    order = [again.skeleton.names.index(name) for name in NAMES]
    np.testing.assert_allclose(again.positions[:, order], clip.positions, atol=1e-6)
    # Of a bone that changes its length the offset is the middle one.
    _, local = to_parents(clip)
    np.testing.assert_allclose(again.skeleton.offsets[order[hand]], np.median(local[:, hand], 0), atol=1e-6)


def test_the_last_bone_of_a_limb_has_an_end_to_be_drawn(tmp_path: Path) -> None:
    write_bvh(tmp_path / "a.bvh", person(2))
    ends = re.findall(r"End Site\s+\{\s+OFFSET (\S+) (\S+) (\S+)\s+\}", (tmp_path / "a.bvh").read_text())
    assert len(ends) == 5  # head, hands, toes
    assert min(np.linalg.norm(np.array(ends, float), axis=1)) > 5  # cm


def test_a_clip_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    clip = person(5)
    clip.positions[3, 2, 1] = np.nan
    with pytest.raises(SakiyomiError, match="frame 3 is not finite"):
        write_bvh(tmp_path / "a.bvh", clip)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("0.0333333", 30.0),
        ("0.033333", 30.0),
        ("0.0333", 30.0),
        (".033", 1 / 0.033),
        ("0.0333667", 1 / 0.0333667),
        ("0.0083333", 120.0),
        ("0.008333", 120.0),
        ("0.0083", 120.0),
        ("8.33333e-03", 120.0),
        ("0.016667", 60.0),
        ("0.02", 50.0),
        ("0.00416667", 240.0),
        ("1", 1.0),
        ("2", 0.5),
    ],
)
def test_the_rate_is_the_whole_number_that_was_rounded(text: str, rate: float) -> None:
    assert parse_bvh(SMALL.replace("0.0333333", text).encode(), "a.bvh", "cm", "y").rate == rate


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\r"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n{", " {").replace("\n  {", " {").replace("\n    {", "{"),
        lambda text: text.replace("  ", "\t"),
        lambda text: text + "\n\n  \n",
        lambda text: text.replace("Frame Time: 0.0333333\n", "Frame Time:\t.0333333 \n\n"),
        lambda text: text.replace("Frames: 2", "FRAMES:2"),
        lambda text: text.replace("HIERARCHY", "Hierarchy").replace("JOINT", "joint").replace("Xrotation", "XROTATION"),
        lambda text: text.replace("CHANNELS 1 Yrotation\n", "CHANNELS 1 Yrotation   \n   \n"),
        lambda text: text.replace("0.0333333\n0 95", "0.0333333\n 0.0e0  +95.000"),
    ],
)
def test_what_writers_do_otherwise_is_read_alike(change: Callable[[str], str]) -> None:
    plain = parse_bvh(SMALL.encode(), "a.bvh", "cm", "y")
    assert change(SMALL) != SMALL
    other = parse_bvh(change(SMALL).encode(), "b.bvh", "cm", "y")
    assert other.skeleton == plain.skeleton
    assert other.rate == plain.rate
    np.testing.assert_array_equal(other.positions, plain.positions)


def test_names_may_hold_spaces_and_letters_of_any_country() -> None:
    text = SMALL.replace("JOINT Leg", "JOINT Bip01 L Größe")
    for coding in ("utf-8", "latin-1"):
        assert parse_bvh(text.encode(coding), "a.bvh", "cm", "y").skeleton.names[1] == "Bip01 L Größe"


def line(text: str, number: int, new: str | None) -> str:
    """The text with a line (from 1) changed, or left out."""
    lines = text.splitlines()
    lines[number - 1 : number] = [] if new is None else [new]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "at", "words"),
    [
        ("", 1, "the file is empty; expected HIERARCHY"),
        ("\n\n", 1, "the file is empty"),
        ("hello world\n", 1, "expected HIERARCHY, found 'hello world'"),
        ("PK\x03\x04\x00\x00", 1, "binary data"),
        (line(SMALL, 3, "  \x00"), 3, "binary data"),
        ("HIERARCHY\n", 1, "has no ROOT"),
        (line(SMALL, 2, "JOINT Hips"), 2, "'JOINT Hips' stands in no joint"),
        (line(SMALL, 2, "ROOT"), 2, "ROOT without a name"),
        (line(SMALL, 2, "ROUTE Hips"), 2, "unknown keyword 'ROUTE': did you mean 'ROOT'?"),
        (line(SMALL, 3, None), 3, "expected {, found 'OFFSET 1 2 3'"),
        (line(SMALL, 4, None), 2, "joint 'Hips' has no OFFSET"),
        (line(SMALL, 4, "  OFFSET 1 2"), 4, "expected OFFSET and 3 finite numbers, found 'OFFSET 1 2'"),
        (line(SMALL, 4, "  OFFSET 1 2 nan"), 4, "3 finite numbers"),
        (line(SMALL, 4, "  OFFSET 1 2 1e300"), 4, "3 finite numbers"),
        (line(SMALL, 4, "  OFFSET 1 2 3\nOFFSET 1 2 3"), 5, "a second OFFSET of joint 'Hips'"),
        (line(SMALL, 5, "CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotate"), 5, "unknown channel"),
        (line(SMALL, 5, "CHANNELS 3 Zrotation Xrotation Wrotation"), 5, "unknown channel 'Wrotation': did you mean"),
        (line(SMALL, 5, "CHANNELS 3 Zrotation Xrotation"), 5, "expected CHANNELS, their number and as many names"),
        (line(SMALL, 5, "CHANNELS ² Zrotation Xrotation"), 5, "expected CHANNELS, their number"),
        (line(SMALL, 5, "CHANNELS"), 5, "expected CHANNELS, their number"),
        (line(SMALL, 5, "CHANNELS 2 Zrotation Zrotation"), 5, "channel 'Zrotation' of joint 'Hips' stands twice"),
        (line(SMALL, 9, "    CHANNELS 0\n    CHANNELS 0"), 10, "CHANNELS of 'Leg' stand twice"),
        (line(SMALL, 22, "    OFFSET 0 70 0\n}\nCHANNELS 0"), 24, "CHANNELS of 'Hips' stand twice"),
        (line(line(SMALL, 23, "}\nCHANNELS 1 Xposition"), 5, ""), 24, "CHANNELS of 'Hips' stand twice, or after its"),
        (line(SMALL, 20, "ROOT Other"), 20, "a second ROOT, 'Other'; the first is 'Hips' in line 2"),
        (line(SMALL, 24, "}\nROOT Other\n{\nOFFSET 0 0 0\n}"), 25, "a second ROOT, 'Other'"),
        (line(SMALL, 20, "JOINT Foot"), 20, "a second joint 'Foot'; the first is in line 10"),
        (line(SMALL, 17, "      JOINT Tip"), 17, "'JOINT Tip' stands in an End Site"),
        (line(SMALL, 24, None), 23, "the hierarchy ends inside 'Hips', 1 braces open"),
        (line(SMALL, 24, "}\n}"), 25, "a } without a {"),
        (line(SMALL, 23, "  } {"), 23, "expected ROOT, JOINT, End Site, OFFSET, CHANNELS or }, found '{'"),
        ("\n".join(SMALL.splitlines()[:12]), 12, "the hierarchy ends inside 'Foot', 3 braces open; was it cut?"),
        ("\n".join(SMALL.splitlines()[:10]), 10, "the hierarchy ends inside 'Foot', 3 braces open; was it cut?"),
        ("\n".join(SMALL.splitlines()[:24]), 24, "without a MOTION section"),
        ("\n".join(SMALL.splitlines()[:25]), 25, "expected 'Frames: NUMBER', found 'MOTION'"),
        ("\n".join(SMALL.splitlines()[:26]), 26, "expected 'Frame Time: NUMBER', found 'Frames: 2'"),
        ("\n".join(SMALL.splitlines()[:27]), 26, "2 frames promised, 0 there"),
        (line(SMALL, 26, "Frames: 0"), 26, "0 frames promised, 2 there; nothing to read"),
        (line(SMALL, 26, "Frames: two"), 26, "expected 'Frames: NUMBER', found 'two'"),
        (line(SMALL, 26, "Frames: -2"), 26, "expected 'Frames: NUMBER', found '-2'"),
        (line(SMALL, 26, "Frames: " + "9" * 5000), 26, "expected 'Frames: NUMBER'"),
        (line(SMALL, 26, "Frames: 75"), 29, "75 frames promised in line 26, 2 there: the file was cut"),
        (line(SMALL, 26, "Frames: 1"), 29, "1 frames promised in line 26, 2 there: 'Frames' is wrong"),
        (line(SMALL, 27, "Time: 0.03"), 27, "expected 'Frame Time: NUMBER', found 'Time: 0.03'"),
        (line(SMALL, 27, "Frame Time: 0"), 27, "the frame time is '0'; expected seconds"),
        (line(SMALL, 27, "Frame Time: -0.03"), 27, "the frame time is '-0.03'"),
        (line(SMALL, 27, "Frame Time: nan"), 27, "the frame time is 'nan'"),
        (line(SMALL, 27, "Frame Time: 1e-320"), 27, "the frame time is '1e-320'"),
        (line(SMALL, 27, "Frame Time: fast"), 27, "the frame time is 'fast'"),
        (line(SMALL, 27, "Frame Time: 0.03 0.04"), 27, "2 frame times; files whose rate changes are not read"),
        (line(SMALL, 29, "Frame Time: 0.04\n" + SMALL.splitlines()[28]), 29, "'Frame Time: 0.04' between frames"),
        (line(SMALL, 29, "10 95 20 90"), 29, "4 values, expected 10, one for each channel; the file was cut"),
        (line(SMALL, 28, "0 95 0 0 0 0 0 0 0"), 28, "9 values, expected 10, one for each channel"),
        (line(SMALL, 28, "0 95 0 0 0 0 0 0 0 0 0"), 28, "11 values, expected 10"),
        (line(SMALL, 28, "0 95 0 0 0 0 nan 0 0 0"), 28, "value 7 is 'nan'; expected a finite number"),
        (line(SMALL, 29, "0 inf 0 0 0 0 0 0 0 0"), 29, "value 2 is 'inf'"),
        (line(SMALL, 29, "0 1e300 0 0 0 0 0 0 0 0"), 29, "value 2 is '1e300'"),
        (line(SMALL, 29, "0 95 0 0 0 0 0 0 0 x"), 29, "value 10 is 'x'"),
        (line(SMALL, 29, "0 95,5 0 0 0 0 0 0 0 0"), 29, "value 2 is '95,5'"),
        (line(SMALL, 29, "0 9_5 0 0 0 0 0 0 0 0"), 29, "value 2 is '9_5'"),
        ("HIERARCHY\nROOT a\n{\nOFFSET 0 0 0\n}\nMOTION\nFrames: 1\nFrame Time: 1\n0\n", 7, "no joint has channels"),
    ],
)
def test_damage_is_told_with_file_and_line(text: str, at: int, words: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.bvh"
    path.write_bytes(text.encode())
    with pytest.raises(SakiyomiError) as caught:
        read_bvh(path, "cm", "y")
    message = str(caught.value)
    assert message.startswith(f"{path}, line {at}: ")
    assert words in message
    assert "\n" not in message


def test_no_damage_ends_in_another_error() -> None:
    """Cut anywhere, or with any byte changed, a file is refused with a line, or read as what it now says."""
    content = SMALL.encode()
    whole = parse_bvh(content, "a.bvh", "cm", "y")
    random = np.random.default_rng(0)
    damaged = [content[:end] for end in range(len(content))]
    for _ in range(600):
        copy = bytearray(content)
        copy[random.integers(len(copy))] = random.integers(256)
        damaged.append(bytes(copy))
    told = [_reading(copy) for copy in damaged]
    assert all(re.match(r"a\.bvh, line \d+: |$", words) for words in told)
    assert sum(bool(words) for words in told) > len(content)
    # Of all cuts only those go unseen that take the last line's end, or the last digit of its last number.
    seen = [end for end in range(len(content)) if not told[end]]
    assert seen == [len(content) - 2, len(content) - 1]
    np.testing.assert_array_equal(parse_bvh(content[:-1], "a.bvh", "cm", "y").positions, whole.positions)


def _reading(content: bytes) -> str:
    """What is said against a file; nothing, if it is read and all of it finite."""
    try:
        clip = parse_bvh(content, "a.bvh", "cm", "y")
    except SakiyomiError as error:
        return str(error)
    return "" if np.isfinite(clip.positions).all() else "not finite"


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SakiyomiError, match=r"nowhere\.bvh cannot be read: No such file"):
        read_bvh(tmp_path / "nowhere.bvh")
    with pytest.raises(SakiyomiError, match="cannot be read"):
        read_bvh(tmp_path)


@pytest.mark.skipif(not REAL.exists(), reason="needs ../shared/data/motion")
def test_real_files_lie_at_the_origin_of_no_joint_and_stand_on_the_ground(tmp_path: Path) -> None:
    """Bandai-Namco: every joint has positions, the root is a still point, Hips' OFFSET is nowhere near it. The same
    motion with z up is read alike.
    """
    with zipfile.ZipFile(REAL) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".bvh"))[::31]
        files = {name: archive.read(name) for name in names}
    assert len(files) == 5
    lying = Rotation.from_euler("x", 90, degrees=True).as_matrix()
    for name, content in files.items():
        whole = parse_bvh(content, name)
        assert whole.rate == 30.0
        clip = character(whole)
        assert clip.skeleton.names[0] == "Hips"
        assert len(clip.skeleton.names) == 21
        height = clip.positions[..., 1].mean(0)
        assert 1.1 < height[clip.skeleton.names.index("Head")] < 1.5
        assert 0.0 < clip.positions[..., 1].min() < 0.06
        rigid = forward_kinematics(clip.skeleton, clip.rotations, clip.positions[:, 0])
        np.testing.assert_allclose(rigid, clip.positions, atol=1e-6)
        write_bvh(tmp_path / "z.bvh", moved(clip, lying))
        assert conventions((tmp_path / "z.bvh").read_bytes(), "z.bvh") == ("cm", "z")
        np.testing.assert_allclose(read_bvh(tmp_path / "z.bvh").positions[..., 1], clip.positions[..., 1], atol=1e-6)
