"""`mocap.npz`, what the published motion VAE (Ling et al. 2020) learns from: read into an episode store, and written.

    sakiyomi prepare mocap-npz mocap.npz --out data/mocap

    write_npz(Path("mocap.npz"), [character(read_bvh(file)) for file in files])
    write_poses(Path("again.npz"), read_npz(Path("mocap.npz")))

`data` is [F, 267] of 22 joints at 30 Hz, `end_indices` [K] the last frame of each clip. Lengths are in feet, changes
per frame; x is forward, y up, z right, as here, but a positive turn is to the left. All up vectors stand before all
forward vectors. The displacement of the root is seen in the facing frame of the frame before, velocities in that of
the frame itself (so it is in the published start pose: its hips move as its root, turned by one frame's turn).
"""

import hashlib
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from zipfile import BadZipFile

import msgspec
import numpy as np
import torch
import tyro

from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream
from sakiyomi.data.formats.beginnings import zip_names
from sakiyomi.data.formats.importing import given
from sakiyomi.data.formats.motion_files import UNIT, check_shares, splits
from sakiyomi.errors import SakiyomiError, unknown
from sakiyomi.files import write_atomic
from sakiyomi.motion.features import decode, encode
from sakiyomi.motion.layout import Layout
from sakiyomi.motion.skeleton import SIDE, Clip, Skeleton, resample, side

RATE = 30.0
FOOT = 0.3048  # m
WIDTH = 267
ORDER = (  # of the joints in the file
    *("LeftToeBase", "RightToeBase", "Spine2", "Spine3", "Neck", "LeftShoulder", "RightShoulder", "LeftArm"),
    *("RightArm", "RightForeArm", "LeftForeArm", "Hips", "LeftFoot", "RightFoot", "LeftUpLeg", "RightUpLeg"),
    *("LeftLeg", "RightLeg", "Spine", "Spine1", "LeftHand", "RightHand"),
)
PARENTS = {
    **{"Hips": "", "Spine": "Hips", "Spine1": "Spine", "Spine2": "Spine1", "Spine3": "Spine2", "Neck": "Spine3"},
    **{
        f"{side}{bone}": f"{side}{parent}" if parent not in ("Spine3", "Hips") else parent
        for side in ("Left", "Right")
        for bone, parent in (
            *(("Shoulder", "Spine3"), ("Arm", "Shoulder"), ("ForeArm", "Arm"), ("Hand", "ForeArm")),
            *(("UpLeg", "Hips"), ("Leg", "UpLeg"), ("Foot", "Leg"), ("ToeBase", "Foot")),
        )
    },
}
JOINTS = tuple(PARENTS)
"""The file's joints, here in the order of our layouts: the pelvis first, parents before their children."""
LAYOUT = Layout(JOINTS)

# What the joints are called elsewhere, without side, blanks and digits; the first name that is there is taken, and no
# joint twice: where there are ankles, "foot" is the toes; where nothing is called arm, "shoulder" is the upper arm.
CALLED = {
    "UpLeg": ("upleg", "upperleg", "thigh", "femur", "hip"),
    "Leg": ("leg", "lowerleg", "lowleg", "shin", "calf", "tibia", "knee"),
    "Foot": ("ankle", "foot"),
    "ToeBase": ("toebase", "toes", "toe", "ball", "foot"),
    "Arm": ("arm", "upperarm", "uparm", "humerus", "shoulder"),
    "Shoulder": ("shoulder", "clavicle", "collar", "collarbone"),
    "ForeArm": ("forearm", "lowerarm", "lowarm", "elbow", "radius"),
    "Hand": ("wrist", "hand"),
    "Neck": ("neck", "lowerneck", "head"),
}
SPINE = {"Spine": 0.14, "Spine1": 0.33, "Spine2": 0.5, "Spine3": 0.7}
"""How far along the way from hips to neck the joints of the spine are, as in the published data."""
COLLAR = 0.15  # how far from the neck to the arm a shoulder is where the skeleton has none


@dataclass(frozen=True)
class MvaeNpz:
    """Import a mocap.npz as the published motion VAE reads it."""

    path: tyro.conf.Positional[str] = ""
    """The .npz file with `data` [F, 267] and `end_indices` [K]."""
    validation: float = 0.15
    """Share of the clips for the validation split."""
    test: float = 0.15
    """Share of the clips for the test split."""

    def record(self, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> EpisodeStore:
        """Write the store; what is in it already is kept."""
        check_shares(self.validation, self.test)
        path = given(self.path, "a mocap.npz: sakiyomi prepare mocap-npz FILE")
        clips = read_npz(path)
        shares = {"validation": self.validation, "test": self.test}
        # The file may move, what is in it may not change.
        content = hashlib.sha256(b"".join(clip.tobytes() for clip in clips)).hexdigest()
        origin = {"source": "mvae_npz", **shares, "content": content, "skeleton": asdict(skeleton_of(clips))}
        streams = {"pose": Stream("motion", (WIDTH,), "float32", RATE, UNIT, LAYOUT.names)}
        writer = EpisodeWriter(out, streams, msgspec.json.decode(msgspec.json.encode(origin)))
        for number, (clip, split) in enumerate(zip(clips, splits(len(clips), **shares), strict=True)):
            id = f"{number:05d}"
            if id not in writer.ids:
                meta = {"file": f"clip {number}", "start": [0.0, 0.0, 0.0], "mirrored": False}
                writer.add(id, {"pose": clip}, {"pose": np.arange(len(clip)) / RATE}, split, meta)
            progress(number + 1, len(clips))
        return writer.finish()


def read_npz(path: Path) -> list[np.ndarray]:
    """The clips of a mocap.npz as poses of `LAYOUT`, float32 [T, 267] each, in metres and seconds.

    Raises SakiyomiError for a file that is none, with what it has, and names the frame that is wrong.
    """
    data, ends = _arrays(path)
    if data.ndim != 2 or data.shape[1] != WIDTH or not np.issubdtype(data.dtype, np.floating) or not len(data):
        raise SakiyomiError(f"{path}: data is {data.dtype} {list(data.shape)}; expected floats [F, {WIDTH}]")
    if ends.ndim != 1 or not np.issubdtype(ends.dtype, np.integer) or not len(ends):
        raise SakiyomiError(f"{path}: end_indices is {ends.dtype} {list(ends.shape)}; expected whole numbers [K]")
    wrong = np.flatnonzero(np.diff(ends, prepend=-1) <= 0)
    if len(wrong) or ends[-1] != len(data) - 1:
        told = f"end_indices[{wrong[0]}] is {ends[wrong[0]]}" if len(wrong) else f"the last end is {ends[-1]}"
        raise SakiyomiError(
            f"{path}: {told} of {len(data)} frames; ends are the last frame of each clip, rising to {len(data) - 1}"
        )
    bad = np.flatnonzero(~np.isfinite(data).all(1))
    if len(bad):
        raise SakiyomiError(f"{path}: frame {bad[0]} of data is not finite (NaN or infinite); repair or cut it")
    return [_to_metres(clip) for clip in np.split(data, ends[:-1] + 1)]


def write_npz(path: Path, clips: Iterable[Clip], roles: Mapping[str, str] | None = None) -> None:
    """Write clips of any humanoid as a mocap.npz; `roles` as in `as_published`."""
    write_poses(path, [encode(as_published(resample(clip, RATE), roles)).values for clip in clips])


def write_poses(path: Path, clips: Sequence[np.ndarray]) -> None:
    """Write clips of poses of `LAYOUT`, [T, 267] each, at 30 Hz, as a mocap.npz."""
    if not clips:
        raise SakiyomiError(f"no clip to write to {path}; give at least one")
    file = io.BytesIO()
    ends = np.cumsum([len(clip) for clip in clips]) - 1
    np.savez(file, data=np.concatenate([_to_feet(clip) for clip in clips]), end_indices=ends)
    write_atomic(path, file.getvalue())


def write_store(path: Path, store: EpisodeStore, roles: Mapping[str, str] | None = None) -> None:
    """Write all episodes of a store of motion as a mocap.npz, a clip each; poses that came from one stay the same."""
    if "pose" not in store.streams or "skeleton" not in store.origin:
        raise SakiyomiError(f"{store.place} holds no motion, only {', '.join(store.streams)}")
    stream, skeleton = store.streams["pose"], msgspec.convert(store.origin["skeleton"], Skeleton)
    poses = (store.values(entry.id, "pose") for entry in store.entries)
    if skeleton.names == JOINTS and stream.rate == RATE:
        write_poses(path, list(poses))
    else:
        write_npz(path, (decode(values, skeleton, stream.rate) for values in poses), roles)


def as_published(clip: Clip, roles: Mapping[str, str] | None = None) -> Clip:
    """The motion on the 22 joints of the file; the clip's first joint is the pelvis.

    Joints are found by their names, or told by `roles`, {"LeftToeBase": "its name here"}. A spine of other than four
    joints is divided by its length: each new joint is a fixed point on a bone, and turns with it. A neck may be a head;
    a skeleton without shoulders gets them between neck and arms. Raises SakiyomiError for what else is missing.
    """
    skeleton = clip.skeleton
    found = find_roles(skeleton, roles or {})
    positions, rotations = np.empty((len(clip.positions), 22, 3)), np.empty((len(clip.positions), 22, 3, 3))
    for number, name in enumerate(JOINTS):
        if name in found:
            positions[:, number] = clip.positions[:, found[name]]
            rotations[:, number] = clip.rotations[:, found[name]]
        elif name in SPINE:
            joint, point = _along_spine(skeleton, found["Neck"], SPINE[name])
            positions[:, number] = clip.positions[:, joint] + clip.rotations[:, joint] @ point
            rotations[:, number] = clip.rotations[:, joint]
        else:
            neck, arm = found["Neck"], found[name.replace("Shoulder", "Arm")]
            positions[:, number] = (1 - COLLAR) * clip.positions[:, neck] + COLLAR * clip.positions[:, arm]
            rotations[:, number] = clip.rotations[:, skeleton.parents[arm]]
    parents = tuple(JOINTS.index(parent) if parent else -1 for parent in PARENTS.values())
    return Clip(_published(_offsets(parents, positions, rotations)), clip.rate, positions, rotations)


def find_roles(skeleton: Skeleton, told: Mapping[str, str]) -> dict[str, int]:
    """Which joint of a humanoid is which of `JOINTS`; spine and shoulders may be missing. Raises SakiyomiError with the
    names of what else could not be found."""
    found = {"Hips": 0}
    for role, name in told.items():
        if role not in JOINTS:
            raise unknown("joint of a mocap.npz", role, JOINTS)
        if name not in skeleton.names:
            raise unknown("joint", name, skeleton.names)
        found[role] = skeleton.names.index(name)
    plain = [(side(name), _plain(name)) for name in skeleton.names]
    for bone, names in CALLED.items():
        for prefix, there in (("", 0),) if bone == "Neck" else (("Left", -1), ("Right", 1)):
            candidates = [(there, name) for name in names if (there, name) in plain]
            joints = [j for pair in candidates for j in (plain.index(pair),) if j not in found.values()]
            if joints and prefix + bone not in found:
                found[prefix + bone] = joints[0]
    exact = {name: skeleton.names.index(name) for name in SPINE if name in skeleton.names}
    if len(exact) == len(SPINE):
        found = exact | found
    missing = [name for name in JOINTS if name not in found and name not in SPINE and not name.endswith("Shoulder")]
    if missing:
        raise SakiyomiError(
            f"this skeleton has no joint for {', '.join(missing)}; tell which they are, "
            f"roles={{{missing[0]!r}: NAME, ...}}; it has {', '.join(skeleton.names)}"
        )
    return found


def skeleton_of(clips: Sequence[np.ndarray]) -> Skeleton:
    """The skeleton of poses of `LAYOUT`: a bone is the mean, over all frames, of where the poses have it."""
    poses = torch.from_numpy(np.concatenate(clips)).double()
    parents = tuple(JOINTS.index(parent) if parent else -1 for parent in PARENTS.values())
    return _published(_offsets(parents, LAYOUT.vectors(poses, "positions").numpy(), LAYOUT.axes(poses).numpy()))


def _offsets(
    parents: tuple[int, ...], positions: np.ndarray, rotations: np.ndarray
) -> tuple[tuple[float, float, float], ...]:
    """Where joints are in their parents' frames, mean over frames of positions [T, J, 3], rotations [T, J, 3, 3]."""
    offsets = [(0.0, 0.0, 0.0)]
    for joint, parent in enumerate(parents[1:], 1):
        bone = np.einsum("tba,tb->ta", rotations[:, parent], positions[:, joint] - positions[:, parent]).mean(0)
        offsets.append((float(bone[0]), float(bone[1]), float(bone[2])))
    return tuple(offsets)


def _published(offsets: tuple[tuple[float, float, float], ...]) -> Skeleton:
    other = {"L": "Right", "R": "Left"}
    mirrored = [re.sub("^(Left|Right)", lambda match: other[match[0][0]], name) for name in JOINTS]
    return Skeleton(
        names=JOINTS,
        parents=tuple(JOINTS.index(parent) if parent else -1 for parent in PARENTS.values()),
        offsets=offsets,
        feet=("LeftFoot", "LeftToeBase", "RightFoot", "RightToeBase"),
        mirror=tuple(JOINTS.index(name) for name in mirrored),
    )


def _along_spine(skeleton: Skeleton, neck: int, part: float) -> tuple[int, np.ndarray]:
    """The bone at this part of the way from pelvis to neck: the joint it hangs from, and the point in its frame, m."""
    chain = [neck]
    while chain[-1] > 0:
        chain.append(skeleton.parents[chain[-1]])
    bones = [np.array(skeleton.offsets[joint]) for joint in chain[-2::-1]]  # from the pelvis up
    ends = np.cumsum([np.linalg.norm(bone) for bone in bones])
    at = part * ends[-1]
    number = int(np.searchsorted(ends, at))
    length = float(np.linalg.norm(bones[number]))
    return chain[-1 - number], bones[number] * (1 - (ends[number] - at) / length)


def _plain(name: str) -> str:
    """A joint's name without prefix, side, digits and signs: `upperleg` for `Bip01 L UpperLeg`."""
    name = re.sub(r"^(bip|mixamorig|character)\d*[ _:]*", "", name.split(":")[-1], flags=re.IGNORECASE)
    return re.sub("[^a-z]", "", SIDE.sub("", name, count=1).lower())


def recognises(path: Path) -> bool:
    """Whether it is an .npz with these two arrays, by their names."""
    return path.suffix.lower() == ".npz" and {"data.npy", "end_indices.npy"} <= {*zip_names(path)}


def _arrays(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            if "data" not in archive or "end_indices" not in archive:
                raise SakiyomiError(f"{path} has {', '.join(archive) or 'nothing'}; it needs data and end_indices")
            return archive["data"], archive["end_indices"]
    except (ValueError, OSError, BadZipFile, EOFError, AttributeError, TypeError) as error:
        raise SakiyomiError(f"{path} cannot be read as an .npz of arrays: {error}") from error


# Of each number in the file, where it stands in our layout: joint by joint, all parts keep their order.
_PLACES = np.concatenate(
    (
        np.arange(3),
        *(
            3 + part * 66 + 3 * np.repeat([JOINTS.index(name) for name in ORDER], 3) + np.tile(np.arange(3), 22)
            for part in range(4)
        ),
    )
)
# Of each number of our layout, what it is in the file's units.
_SCALE = np.ones(WIDTH)
_SCALE[LAYOUT.part("positions")] = 1 / FOOT
_SCALE[LAYOUT.part("velocities")] = _SCALE[:2] = 1 / (FOOT * RATE)
_SCALE[2] = -1 / RATE  # their turn is to the left


def _to_metres(data: np.ndarray) -> np.ndarray:
    """Frames of the file [T, 267] as poses of `LAYOUT`, float32."""
    poses = np.empty(data.shape)
    poses[:, _PLACES] = data
    poses /= _SCALE
    return _turned_velocities(poses, poses[:, 2] / RATE).astype(np.float32)


def _to_feet(poses: np.ndarray) -> np.ndarray:
    """Poses of `LAYOUT` [T, 267] as frames of the file, float32."""
    poses = poses.astype(np.float64)
    data = _turned_velocities(poses, -poses[:, 2] / RATE) * _SCALE
    return data[:, _PLACES].astype(np.float32)


def _turned_velocities(poses: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Poses whose velocities are turned to the right by angles [T], rad."""
    velocities = poses[:, LAYOUT.part("velocities")].reshape(len(poses), -1, 3)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    x, y, z = np.moveaxis(velocities, -1, 0)
    turned = np.stack((cos * x - sin * z, y, sin * x + cos * z), -1)
    poses = poses.copy()
    poses[:, LAYOUT.part("velocities")] = turned.reshape(len(poses), -1)
    return poses
