"""Folders and zips of BVH as stores: every clip in one split, damage costs one file, more files move no other."""

import zipfile
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from bodies import NAMES, PERSON, assemble, moved, person, reframed
from scipy.spatial.transform import Rotation

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.formats.bvh import conventions, read_bvh, write_bvh
from sakiyomi.data.sources.mocap import Mocap, episode_ids
from sakiyomi.errors import SakiyomiError
from sakiyomi.motion.features import decode, encode
from sakiyomi.motion.layout import Layout
from sakiyomi.motion.skeleton import Clip, Skeleton, character, mirror, resample

REAL = Path(__file__).parents[1].parent / "shared" / "data" / "motion" / "bandai_namco_2_walk_run.zip"


def recorded(folder: Path, count: int = 6, **settings: Any) -> Path:
    """A folder of clips of person(seed=n), 40 frames and more at 30 Hz."""
    for n in range(count):
        write_bvh(folder / f"walk{n:02d}.bvh", person(40 + n, seed=n), **settings)
    return folder


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*.bvh")):
            archive.write(file, file.relative_to(folder))
    return path


def poses(store: EpisodeStore) -> dict[str, np.ndarray]:
    return {entry.id: store.values(entry.id, "pose") for entry in store.entries}


def test_a_store_holds_the_poses_of_every_clip_and_mirrored_ones_of_training_clips(tmp_path: Path) -> None:
    store = Mocap(str(recorded(tmp_path / "in", 20))).record(tmp_path / "store")
    skeleton = msgspec.convert(store.origin["skeleton"], Skeleton)
    assert set(skeleton.names) == set(NAMES)
    assert set(skeleton.feet) == set(PERSON.feet)
    stream = store.streams["pose"]
    assert (stream.kind, stream.dtype, stream.rate, stream.unit) == ("motion", "float32", 30.0, "m, rad, s")
    assert Layout.read(stream.names) == Layout(skeleton.names)
    assert stream.shape == (Layout(skeleton.names).width,)
    plain = [entry for entry in store.entries if not entry.meta["mirrored"]]
    assert [entry.id for entry in plain] == [f"walk{n:02d}" for n in range(20)]
    assert [entry.meta["file"] for entry in plain] == [f"walk{n:02d}.bvh" for n in range(20)]
    mirrored = [entry for entry in store.entries if entry.meta["mirrored"]]
    assert {e.id for e in mirrored} == {f"{e.id}-mirrored" for e in plain if e.split == "train"}
    assert {entry.split for entry in mirrored} == {"train"}
    assert {entry.split for entry in plain} == {"train", "validation", "test"}
    for entry in (plain[3], mirrored[0]):
        clip = character(read_bvh(tmp_path / "in" / entry.meta["file"]))
        encoded = encode(mirror(clip) if entry.meta["mirrored"] else clip)
        np.testing.assert_allclose(store.values(entry.id, "pose"), encoded.values, atol=1e-6)
        np.testing.assert_allclose(entry.meta["start"], encoded.start)
        np.testing.assert_allclose(store.times(entry.id, "pose"), np.arange(len(encoded.values)) / 30)
    assert store.statistics["pose"].count == sum(e.lengths["pose"] for e in store.entries if e.split == "train")


def test_a_clip_comes_back_out_of_the_store(tmp_path: Path) -> None:
    store = Mocap(str(recorded(tmp_path / "in"))).record(tmp_path / "store")
    entry = store.entry("walk02")
    x, z, facing = entry.meta["start"]
    skeleton = msgspec.convert(store.origin["skeleton"], Skeleton)
    clip = decode(store.values("walk02", "pose"), skeleton, store.streams["pose"].rate, (x, z, facing))
    order = [skeleton.names.index(name) for name in NAMES]
    np.testing.assert_allclose(clip.positions[:, order], person(42, seed=2).positions, atol=1e-4)


def test_settings_reach_the_clips(tmp_path: Path) -> None:
    recorded(tmp_path / "in", 3, unit="10")
    source = Mocap(
        str(tmp_path / "in"),
        rate=15.0,
        mirror=False,
        pelvis="Spine",
        feet=("LeftHand",),
        unit="10",
        up="-y",
        validation=0.0,
        test=0.0,
    )
    store = source.record(tmp_path / "store")
    skeleton = msgspec.convert(store.origin["skeleton"], Skeleton)
    assert skeleton.names[0] == "Spine"
    assert skeleton.feet == ("LeftHand",)
    assert [entry.split for entry in store.entries] == ["train"] * 3
    clip = resample(character(read_bvh(tmp_path / "in" / "walk00.bvh", "10", "-y"), "Spine", ["LeftHand"]), 15.0)
    np.testing.assert_allclose(store.values("walk00", "pose"), encode(clip).values, atol=1e-6)
    assert store.streams["pose"].rate == 15.0
    np.testing.assert_allclose(store.times("walk00", "pose"), np.arange(20) / 15)
    settings = {name: value for name, value in asdict(source).items() if name != "path"} | {"feet": ["LeftHand"]}
    assert {name: store.origin[name] for name in settings} == settings


def test_a_zip_is_as_its_folder_and_so_is_one_file(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "in", 4)
    (folder / "sub" / "__MACOSX").mkdir(parents=True)
    write_bvh(folder / "sub" / "RUN.BVH", person(50, seed=9))
    (folder / "sub" / "__MACOSX" / "._run.bvh").write_bytes(b"\0\5\26\7")
    (folder / "readme.txt").write_text("no motion")
    path = zipped(folder, tmp_path / "in.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.write(folder / "sub" / "RUN.BVH", "sub/RUN.BVH")
    first = Mocap(str(folder)).record(tmp_path / "a")
    second = Mocap(str(path)).record(tmp_path / "b")
    assert first.entries[0].id == "sub-RUN"
    assert first.entries == second.entries
    assert first.origin == second.origin
    one = Mocap(str(folder / "walk01.bvh"), mirror=False).record(tmp_path / "c")
    assert [entry.id for entry in one.entries] == ["walk01"]
    np.testing.assert_array_equal(one.values("walk01", "pose"), first.values("walk01", "pose"))


@pytest.mark.parametrize(
    ("match", "ids"),
    [
        ("", ["run-a1", "run-b1", "walk-a1"]),
        ("run", ["run-a1", "run-b1"]),
        ("1", ["run-a1", "run-b1", "walk-a1"]),
        ("a1.bvh", ["run-a1", "walk-a1"]),
        ("a?.bvh", ["run-a1", "walk-a1"]),
        ("run/*", ["run-a1", "run-b1"]),
        ("*[b]1*", ["run-b1"]),
    ],
)
def test_files_are_chosen_by_a_part_or_a_pattern_of_their_path(tmp_path: Path, match: str, ids: list[str]) -> None:
    for name in ("run/a1", "run/b1", "walk/a1"):
        write_bvh(tmp_path / "in" / f"{name}.bvh", person(31))
    store = Mocap(str(tmp_path / "in"), match=match, mirror=False).record(tmp_path / "store")
    assert [entry.id for entry in store.entries] == ids


# Splits


def test_shares_hold_and_more_files_move_no_other() -> None:
    source = Mocap(validation=0.2, test=0.1)
    names = [f"data/clip{n}" for n in range(2000)]
    splits = source._splits(names, ())
    counts = Counter(splits.values())
    assert abs(counts["validation"] - 400) < 60
    assert abs(counts["test"] - 200) < 50
    assert source._splits(names[500:600], ()).items() <= splits.items()
    assert replace(source, seed=1)._splits(names, ()) != splits
    # A larger share takes from training only.
    wider = replace(source, validation=0.4)._splits(names, ())
    assert {(splits[n], wider[n]) for n in names if splits[n] != wider[n]} == {("train", "validation")}
    # The folder a file lies in does not count: a zip holds the same splits as what it was made from.
    assert source._splits([name.split("/")[1] for name in names], ()) == {n.split("/")[1]: s for n, s in splits.items()}


@pytest.mark.parametrize(("count", "wanted"), [
    (1, {"train": 1}), (2, {"train": 1, "validation": 1}), (3, {"train": 1, "validation": 1, "test": 1}),
    (5, {"train": 3, "validation": 1, "test": 1}),
])  # fmt: skip
def test_of_a_few_files_each_split_gets_one(count: int, wanted: dict[str, int]) -> None:
    """With shares so small that the hash alone would leave all in training."""
    source = Mocap(validation=1e-6, test=1e-6)
    assert Counter(source._splits([f"{n}" for n in range(count)], ()).values()) == wanted
    names = [f"{n}" for n in range(count)]
    assert Counter(replace(source, test=0.0)._splits(names, ()).values())["test"] == 0
    for seed in range(30):  # nor does the hash leave nothing for training
        splits = replace(source, seed=seed, validation=0.49, test=0.49)._splits(names, ())
        assert set(splits.values()) == set(wanted)


def test_a_clip_that_was_recorded_stays_in_its_split(tmp_path: Path) -> None:
    """Two files: one must validate. With more files the hash would have had it train; mirrored it would leak."""
    folder = recorded(tmp_path / "in", 2)
    source = Mocap(str(folder), validation=0.02, test=0.0)
    before = {entry.id: entry.split for entry in source.record(tmp_path / "store").entries}
    assert Counter(before.values()) == {"train": 2, "validation": 1}
    recorded(folder, 30)
    store = source.record(tmp_path / "store")
    after = {entry.id: entry.split for entry in store.entries}
    assert before.items() <= after.items()
    own = {(entry.meta["file"], entry.split) for entry in store.entries}
    assert len(own) == 30


# Damage


def another(clip: Clip) -> Clip:
    """The clip with its left hand called otherwise."""
    names = tuple(name.replace("LeftHand", "LeftHook").replace("RightHand", "RightHook") for name in NAMES)
    return replace(clip, skeleton=replace(PERSON, names=names))


def spoil(path: Path, kind: str) -> None:
    text = path.read_text()
    lines = text.splitlines()
    match kind:
        case "cut":
            path.write_text(text[: 3 * len(text) // 4])
        case "nan":
            lines[-5] = lines[-5].replace(lines[-5].split()[3], "nan", 1)
            path.write_text("\n".join(lines))
        case "channel":
            path.write_text(text.replace("Zrotation", "Wrotation", 1))
        case "empty":
            path.write_text("")
        case "short":
            write_bvh(path, person(29))
        case "skeleton":
            write_bvh(path, another(person(40)))
        case "tree":
            parents = tuple(3 if name == "Head" else parent for name, parent in zip(NAMES, PERSON.parents, strict=True))
            write_bvh(path, replace(person(40), skeleton=replace(PERSON, parents=parents)))


@pytest.mark.parametrize(
    ("kind", "place", "archive", "words"),
    [
        ("cut", 0, False, ["line ", "values, expected", "the file was cut"]),
        ("cut", 3, True, ["line ", "values, expected", "the file was cut"]),
        ("nan", 2, False, ["line ", "value 4 is 'nan'"]),
        ("channel", 4, True, ["line 5: unknown channel 'Wrotation'"]),
        ("empty", 0, True, ["line 1: the file is empty"]),
        ("short", 0, False, ["29 frames at 30 Hz; a clip has at least 30 (--shortest is 1 s)"]),
        (
            "skeleton",
            0,
            False,
            ["another skeleton", "16 joints begin with 'Hips'", "it has LeftHook, RightHook and it"],
        ),
        ("tree", 1, False, ["another skeleton", "the same joints, in another order or tree"]),
    ],
)
def test_a_bad_file_is_named_and_the_others_are_imported(
    tmp_path: Path, kind: str, place: int, archive: bool, words: list[str]
) -> None:
    folder = recorded(tmp_path / "in", 5)
    bad = folder / f"walk{place:02d}.bvh"
    spoil(bad, kind)
    path = zipped(folder, tmp_path / "in.zip") if archive else folder
    source = Mocap(str(path), mirror=False)
    with pytest.raises(SakiyomiError) as caught:
        source.record(tmp_path / "store")
    message = str(caught.value)
    for word in [*words, f"{path}/{bad.name}", "1 damaged and left out", "other 4 episodes"]:
        assert word in message
    assert (
        message.split(" damaged and left out: ")[1].split(". The other 4")[0] + "\n"
        == (tmp_path / "store" / "damaged.txt").read_text()
    )
    store = EpisodeStore(tmp_path / "store")
    assert {entry.id for entry in store.entries} == {f"walk{n:02d}" for n in range(5)} - {bad.stem}
    assert store.statistics
    recorded(folder, 5)  # repaired
    if archive:
        zipped(folder, path)
    store = source.record(tmp_path / "store")
    assert len(store.entries) == 5
    assert not (tmp_path / "store" / "damaged.txt").exists()


def test_short_clips_are_taken_where_that_is_asked_for_but_no_single_frames(tmp_path: Path) -> None:
    write_bvh(tmp_path / "in" / "a.bvh", person(10))
    write_bvh(tmp_path / "in" / "b.bvh", person(1))
    source = Mocap(str(tmp_path / "in"), shortest=0.0, mirror=False, validation=0.0, test=0.0)
    with pytest.raises(SakiyomiError, match=r"b\.bvh: 1 frames at 30 Hz; a clip has at least 2 .* other 1 episodes"):
        source.record(tmp_path / "store")


def test_a_damaged_member_of_a_zip_costs_one_file(tmp_path: Path) -> None:
    path = zipped(recorded(tmp_path / "in", 4), tmp_path / "in.zip")
    with zipfile.ZipFile(path) as archive:
        at = archive.getinfo("walk01.bvh").header_offset + 2000
    content = bytearray(path.read_bytes())
    content[at] ^= 255
    path.write_bytes(content)
    with pytest.raises(SakiyomiError, match=r"in\.zip/walk01\.bvh cannot be unpacked: .*other 3 episodes"):
        Mocap(str(path), mirror=False).record(tmp_path / "store")


def test_where_nothing_can_be_read_nothing_is_written(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "in", 12)
    for file in folder.iterdir():
        spoil(file, "nan")
    with pytest.raises(SakiyomiError, match=r"none of 12 files can be read: .*line .*'nan'.*; and 9 more") as caught:
        Mocap(str(folder)).record(tmp_path / "store")
    assert str(caught.value).count("line") == 3
    assert not (tmp_path / "store").exists()


def test_one_sound_file_among_many_is_found(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "in", 20)
    for n in set(range(20)) - {17}:
        spoil(folder / f"walk{n:02d}.bvh", "empty")
    with pytest.raises(SakiyomiError, match=r"19 damaged and left out: .* other 1 episodes"):
        Mocap(str(folder), mirror=False).record(tmp_path / "store")


# What all files have in common


def test_the_up_axis_is_that_of_most_files(tmp_path: Path) -> None:
    """Those who lie down do not turn the world, even if they all come first."""
    folder = recorded(tmp_path / "in", 24)
    lying = Rotation.from_rotvec([0, 0, np.pi / 2]).as_matrix()
    for n in range(9):
        write_bvh(folder / f"walk{n:02d}.bvh", moved(person(40, seed=n), lying))
    assert conventions((folder / "walk00.bvh").read_bytes(), "walk00.bvh")[1] == "-x"
    store = Mocap(str(folder), mirror=False).record(tmp_path / "store")
    assert (store.origin["unit"], store.origin["up"]) == ("cm", "y")
    clip = character(read_bvh(folder / "walk00.bvh", "cm", "y"))
    np.testing.assert_allclose(store.values("walk00", "pose"), encode(clip).values, atol=1e-6)


def test_the_skeleton_is_that_of_most_files(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "in", 5)
    spoil(folder / "walk00.bvh", "skeleton")
    with pytest.raises(SakiyomiError, match=r"walk00\.bvh: another skeleton"):
        Mocap(str(folder), mirror=False).record(tmp_path / "store")


def test_actors_of_other_sizes_may_share_a_store(tmp_path: Path) -> None:
    """Each clip's places are its own; the store's skeleton is that of one of them."""
    folder = recorded(tmp_path / "in", 3)
    small = person(40, seed=7)
    offsets = tuple((0.9 * x, 0.9 * y, 0.9 * z) for x, y, z in PERSON.offsets)
    small = replace(small, positions=0.9 * small.positions, skeleton=replace(PERSON, offsets=offsets))
    write_bvh(folder / "walk01.bvh", small)
    store = Mocap(str(folder), mirror=False).record(tmp_path / "store")
    np.testing.assert_allclose(
        store.values("walk01", "pose"), encode(character(read_bvh(folder / "walk01.bvh"))).values, atol=1e-6
    )


def test_all_clips_are_mirrored_with_the_same_corrections(tmp_path: Path) -> None:
    """A clip that alone would choose other ones, its left hand turned over, is mirrored as the others are."""
    folder = recorded(tmp_path / "in", 5)
    hand = NAMES.index("LeftHand")
    frames = np.tile(np.eye(3), (len(NAMES), 1, 1))
    frames[hand] = np.diag([1.0, -1, -1])
    write_bvh(folder / "walk00.bvh", reframed(person(40, seed=3), frames))
    store = Mocap(str(folder), validation=0.0, test=0.0).record(tmp_path / "store")
    layout = Layout.read(store.streams["pose"].names)
    left, right = (layout.names.index(f"up.{side}Hand.y") for side in ("Left", "Right"))
    own, other = store.values("walk00", "pose"), store.values("walk00-mirrored", "pose")
    np.testing.assert_allclose(other[:, right], own[:, left], atol=1e-5)  # turned over in the mirror too
    np.testing.assert_allclose(other[:, left], own[:, right], atol=1e-5)


def test_a_skeleton_of_unknown_sides_is_recorded_without_mirrored_clips(tmp_path: Path) -> None:
    clip = replace(person(40), skeleton=replace(PERSON, names=("Hips", *(f"j{n}" for n in range(15))), mirror=()))
    write_bvh(tmp_path / "in" / "a.bvh", clip)
    with pytest.raises(SakiyomiError, match=r"cannot be mirrored: no joint's name tells a side.*--no-mirror"):
        Mocap(str(tmp_path / "in")).record(tmp_path / "store")
    assert not (tmp_path / "store").exists()
    store = Mocap(str(tmp_path / "in"), mirror=False).record(tmp_path / "store")
    assert len(msgspec.convert(store.origin["skeleton"], Skeleton).feet) == 4


def test_a_skeleton_without_feet_is_told(tmp_path: Path) -> None:
    """A bust: the pelvis is told to be the spine, from where arms and head go up."""
    offsets = tuple((x, abs(y), z) for x, y, z in PERSON.offsets)
    local = np.tile(np.eye(3), (40, len(NAMES), 1, 1))
    clip = assemble(replace(PERSON, offsets=offsets), 30.0, local, np.zeros((40, 3)))
    write_bvh(tmp_path / "in" / "a.bvh", clip)
    source = Mocap(str(tmp_path / "in"), unit="cm", up="y", pelvis="Spine")
    with pytest.raises(SakiyomiError, match=r"no feet found: .* below the pelvis 'Spine'.*--feet.*LeftArm"):
        source.record(tmp_path / "store")
    assert not (tmp_path / "store").exists()
    assert replace(source, feet=("LeftHand", "RightHand")).record(tmp_path / "store").entries


# Continuing a store


def test_an_interrupted_recording_goes_on_to_the_same_store(tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(done: int, total: int) -> None:
        assert total == 5
        if done == 3:
            raise Interrupted

    source = Mocap(str(recorded(tmp_path / "in", 5)))
    whole = source.record(tmp_path / "whole")
    with pytest.raises(Interrupted):
        source.record(tmp_path / "halves", interrupt)
    halves = source.record(tmp_path / "halves")
    assert halves.entries == whole.entries
    assert halves.origin == whole.origin
    assert halves.statistics == whole.statistics
    # Also between a clip and its mirrored one.
    manifest = tmp_path / "halves" / "manifest.jsonl"
    lines = manifest.read_bytes().splitlines(keepends=True)
    first = next(n for n, entry in enumerate(whole.entries) if entry.meta["mirrored"])
    manifest.write_bytes(b"".join(lines[:first]))
    assert source.record(tmp_path / "halves").entries == whole.entries


def test_what_is_recorded_is_not_read_again(tmp_path: Path) -> None:
    """Of a file that was damaged since, or is gone, the clip is kept."""
    folder = recorded(tmp_path / "in", 5)
    source = Mocap(str(folder))
    before = source.record(tmp_path / "store")
    spoil(folder / "walk00.bvh", "empty")
    (folder / "walk03.bvh").unlink()
    assert source.record(tmp_path / "store").entries == before.entries


def test_more_files_are_added_to_a_store_whatever_their_first_is(tmp_path: Path) -> None:
    """The store keeps its skeleton, unit and up axis, whichever the files would now suggest."""
    folder = recorded(tmp_path / "in", 3)
    source = Mocap(str(folder))
    before = source.record(tmp_path / "store")
    lying = Rotation.from_rotvec([np.pi / 2, 0, 0]).as_matrix()
    offsets = tuple((0.9 * x, 0.9 * y, 0.9 * z) for x, y, z in PERSON.offsets)
    small = replace(person(40), positions=0.9 * person(40).positions, skeleton=replace(PERSON, offsets=offsets))
    write_bvh(folder / "a.bvh", small)
    without_head = Skeleton(NAMES[:-3], PERSON.parents[:-3], PERSON.offsets[:-3])
    other = Clip(without_head, 30.0, person(40).positions[:, :-3], person(40).rotations[:, :-3])
    for n in range(40):
        write_bvh(folder / f"b{n}.bvh", moved(other, lying))
    with pytest.raises(SakiyomiError, match=r"40 damaged and left out: .*b0\.bvh: another skeleton"):
        source.record(tmp_path / "store")
    store = EpisodeStore(tmp_path / "store")
    assert store.origin == before.origin
    assert {entry.id for entry in store.entries} >= {"a", *(entry.id for entry in before.entries)}


def test_other_settings_or_another_skeleton_are_refused(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "in", 3)
    source = Mocap(str(folder), mirror=False)
    source.record(tmp_path / "store")
    for change, words in (
        ({"seed": 1}, "seed 0 there, 1 asked"),
        ({"unit": "inch"}, "unit cm there, inch asked"),
        ({"mirror": True}, "mirror False there, True asked"),
    ):
        with pytest.raises(SakiyomiError, match=words):
            replace(source, **change).record(tmp_path / "store")
    with pytest.raises(SakiyomiError, match="described otherwise"):
        replace(source, pelvis="Spine").record(tmp_path / "store")
    replace(source, unit="cm", up="y").record(tmp_path / "store")  # told what was found


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"path": ""}, "no path given: name a folder or .zip of BVH files: sakiyomi prepare walk PATH"),
        ({"path": "nowhere"}, "nowhere does not exist"),
        ({"match": "runs"}, r"no file matches 'runs'; the 2 in .* begin: walk00\.bvh, walk01\.bvh"),
        ({"rate": 0.0}, "--rate is 0"),
        ({"rate": float("inf")}, "--rate is inf"),
        ({"validation": -0.1}, "--validation is -0.1"),
        ({"test": 1.0}, "nothing for training"),
        ({"shortest": float("nan")}, "--shortest is nan"),
        ({"seed": -1}, "--seed is -1"),
        ({"unit": "yard"}, r"^unknown unit 'yard'"),
        ({"up": "w"}, r"^unknown up axis 'w'"),
        ({"pelvis": "Hip"}, r"none of 2 files can be read: .*walk00\.bvh: unknown pelvis 'Hip': did you mean 'Hips'\?"),
        ({"feet": ("Shoe",)}, "unknown foot 'Shoe'"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    settings = {"path": str(recorded(tmp_path / "in", 2)), **settings}
    with pytest.raises(SakiyomiError, match=words):
        Mocap(**settings).record(tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_path_that_holds_no_bvh_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SakiyomiError, match=r"empty holds no \.bvh file"):
        Mocap(str(tmp_path / "empty")).record(tmp_path / "store")
    (tmp_path / "a.zip").write_bytes(b"no zip")
    with pytest.raises(SakiyomiError, match=r"a\.zip is no \.zip, \.bvh or folder: File is not a zip file"):
        Mocap(str(tmp_path / "a.zip")).record(tmp_path / "store")
    with pytest.raises(SakiyomiError, match=r"b\.zip holds no \.bvh file"):
        Mocap(str(zipped(tmp_path / "empty", tmp_path / "b.zip"))).record(tmp_path / "store")


def test_every_name_gets_an_id_of_its_own() -> None:
    names = ["a.bvh", "sub/a.bvh", "sub/b c.bvh", "sub/bc.bvh", "歩く.bvh", "走る.bvh", "_a.bvh", "x" * 200 + ".bvh"]
    ids = episode_ids(names)
    assert ids[:2] == ["a", "sub-a"]
    assert len(set(ids)) == len(names)
    assert all(len(id) <= 91 for id in ids)
    with pytest.raises(SakiyomiError, match=r"'a/b\.bvh' and 'a-b\.bvh' would both become episode 'a-b'; rename one"):
        episode_ids(["a/b.bvh", "a-b.bvh"])


@pytest.mark.parametrize("name", ["歩く.bvh", "_a.bvh", "x" * 200 + ".bvh", "-.bvh", "sub/ä ö.bvh"])
def test_ids_are_such_as_a_store_takes(tmp_path: Path, name: str) -> None:
    id = episode_ids([name])[0]
    path = tmp_path / "in.zip"
    write_bvh(tmp_path / "a.bvh", person(31))
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(tmp_path / "a.bvh", name)
    assert [e.id for e in Mocap(str(path)).record(tmp_path / "store").entries] == [id, f"{id}-mirrored"]


def test_skeletons_come_back_from_json_as_they_were(tmp_path: Path) -> None:
    store = Mocap(str(recorded(tmp_path / "in", 1))).record(tmp_path / "store")
    clip = character(read_bvh(tmp_path / "in" / "walk00.bvh"))
    assert msgspec.convert(store.origin["skeleton"], Skeleton) == clip.skeleton


@pytest.mark.skipif(not REAL.exists(), reason="needs ../shared/data/motion")
def test_real_files_make_a_store(tmp_path: Path) -> None:
    store = Mocap(str(REAL), match="*walk*_normal*").record(tmp_path / "store")
    assert len([entry for entry in store.entries if not entry.meta["mirrored"]]) > 5
    statistics = dict(zip(store.streams["pose"].names, store.statistics["pose"].mean, strict=True))
    assert 0.8 < statistics["root.forward"] < 1.6  # m/s, and mirrored the rest is even
    assert abs(statistics["root.right"]) < 1e-6
    assert abs(statistics["root.turn"]) < 1e-6
    assert 0.0 < statistics["positions.Toes_L.y"] < 0.1
