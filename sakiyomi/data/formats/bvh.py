"""Biovision hierarchies (.bvh): motion capture as text, read into our axes and written back.

    clip = read_bvh("walk.bvh")                       # unit and up axis found by the body
    clip = read_bvh("walk.bvh", unit="inch", up="z")  # or told
    write_bvh("same.bvh", clip)

Any skeleton and any order of channels. Angles turn about the joint's own axes in the order of its channels (intrinsic);
position channels take the place of the joint's OFFSET. A file has no unit and no up axis: a body that is about two
metres from hand to toe tells the one, its head above its feet the other.
"""

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from sakiyomi.errors import SakiyomiError, unknown
from sakiyomi.files import write_atomic
from sakiyomi.motion.skeleton import FEET, Clip, Skeleton, to_parents, to_world

UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001, "inch": 0.0254, "foot": 0.3048, "cmu": 0.0254 / 0.45}
"""m; `cmu` is the unit of the Carnegie Mellon database's skeletons, which most of its BVH versions keep."""
SPAN = 2.0  # m along the bones from end to end of an adult: hand to toe, a little more than the height
BELIEVED = 1.7  # times smaller or larger than that, no unit is
END_SITE = -1  # in place of a joint's index
UP = {"x": (0, 1), "y": (1, 1), "z": (2, 1), "-x": (0, -1), "-y": (1, -1), "-z": (2, -1)}
CHANNELS = {f"{axis}{kind}".lower(): (kind, axis) for kind in ("position", "rotation") for axis in "XYZ"}
HEAD = re.compile(r"head|neck", re.IGNORECASE)
ORDER = "ZXY"  # of the angles written: the middle one, about x, rarely comes near 90 degrees
LARGEST = 1e9  # any number in a file; its square is still one
FRAME_TIMES = (1e-6, 100.0)  # s
STILL = 1e-4  # m; joints that move less than this in their parent's frame are written without positions


def read_bvh(path: str | Path, unit: str = "auto", up: str = "auto") -> Clip:
    """The whole motion of a file in metres, y up.

    `unit` is one of UNITS or a number of metres, `up` one of x, y, z, -x, -y, -z; `auto` finds them. Raises
    SakiyomiError with file and line for a file that is damaged or no BVH.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise SakiyomiError(f"{path} cannot be read: {error.strerror}") from error
    return parse_bvh(content, str(path), unit, up)


def parse_bvh(content: bytes, where: str, unit: str = "auto", up: str = "auto") -> Clip:
    """`read_bvh` of a file's content; errors begin with `where`."""
    raw = _raw(content, where)
    scale = metres(find_unit(where, raw.skeleton.parents, raw.positions) if unit == "auto" else unit)
    turn = upright(find_up(raw.skeleton.names, raw.positions) if up == "auto" else up)
    offsets = scale * np.array(raw.skeleton.offsets)
    offsets[0] = turn @ offsets[0]
    skeleton = replace(raw.skeleton, offsets=_triples(offsets))
    return Clip(skeleton, raw.rate, scale * raw.positions @ turn.T, turn @ raw.rotations)


def conventions(content: bytes, where: str, unit: str = "auto", up: str = "auto") -> tuple[str, str]:
    """Unit and up axis with which `parse_bvh` reads a file: those told, and found for auto. Raises as it does."""
    raw = _raw(content, where)
    unit = find_unit(where, raw.skeleton.parents, raw.positions) if unit == "auto" else unit
    return unit, find_up(raw.skeleton.names, raw.positions) if up == "auto" else up


def write_bvh(path: str | Path, clip: Clip, unit: str = "cm") -> None:
    """Write a clip, y up: the root with positions, the others with rotations only, unless they really move in their
    parents' frames. Raises SakiyomiError for an unknown unit, a clip that is not finite, and when the disk refuses.
    """
    scale = 1 / metres(unit)
    skeleton = clip.skeleton
    finite = np.isfinite(clip.positions).all((1, 2)) & np.isfinite(clip.rotations).all((1, 2, 3))
    if not finite.all():
        raise SakiyomiError(f"{path}: frame {int(finite.argmin())} is not finite (NaN or infinite); nothing is written")
    rotations, positions = to_parents(clip)
    offsets = np.array(skeleton.offsets)
    offsets[0] = 0.0  # readers do not agree whether the root's offset is added to its positions
    moves = np.abs(positions - offsets).max((0, 2)) > STILL
    moves[0] = True
    angles, columns = _angles(rotations), []
    for joint in _depth_first(skeleton.parents):
        if moves[joint]:
            columns.append(scale * positions[:, joint])
        columns.append(angles[:, joint])
    hierarchy = _hierarchy_text(skeleton, scale * offsets, moves)
    table = np.concatenate(columns, 1)
    line = " ".join(["%.6f"] * table.shape[1])
    rows = [line % tuple(row) for row in (table + 0.0).tolist()]
    head = ["MOTION", f"Frames: {len(table)}", f"Frame Time: {1 / clip.rate:.10g}"]
    write_atomic(Path(path), "\n".join([*hierarchy, *head, *rows, ""]).encode())


@dataclass
class _Joint:
    name: str
    parent: int
    line: int
    offset: tuple[float, ...] = ()
    channels: list[tuple[str, str]] = field(default_factory=list)


def _raw(content: bytes, where: str) -> Clip:
    """The motion in the unit and the axes of the file."""
    lines = _lines(content, where)
    begin = next((number for number, line in enumerate(lines) if line.strip().upper() == "MOTION"), len(lines))
    joints = _Hierarchy(where).read(lines[:begin])
    if begin == len(lines):
        raise _wrong(where, len(lines), "the file ends here, without a MOTION section; was it cut?")
    rate, values = _motion(where, lines, begin + 1, sum(len(joint.channels) for joint in joints))
    rotations, positions = _local(joints, values)
    names, parents = tuple(joint.name for joint in joints), tuple(joint.parent for joint in joints)
    # Where position channels replace an OFFSET, the bone's is their middle; the median of equals is exactly they.
    skeleton = Skeleton(names, parents, _triples(np.median(positions, 0)))
    rotations, positions = to_world(parents, rotations, positions)
    return Clip(skeleton, rate, positions, rotations)


def _triples(offsets: np.ndarray) -> tuple[tuple[float, float, float], ...]:
    return tuple((float(x), float(y), float(z)) for x, y, z in offsets)


class _Hierarchy:
    """Reads the HIERARCHY section, statement by statement."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.joints: list[_Joint] = []
        self.open: list[int] = []  # joints whose braces are open, outermost first; END_SITE among them
        self.waiting = False  # for the brace that opens the last of them
        self.ready: set[int] = set()  # joints whose CHANNELS were read

    def read(self, lines: Sequence[str]) -> list[_Joint]:
        begun = False
        for number, words in _statements(lines):
            if not begun:
                if words[0].upper() != "HIERARCHY":
                    raise _wrong(self.where, number, f"expected HIERARCHY, found {_shown(words)}; this is no BVH file")
                begun = True
                continue
            self._statement(number, words)
        last = len(lines)
        if not begun:
            raise _wrong(self.where, 1, "the file is empty; expected HIERARCHY")
        if self.waiting or self.open:
            inside = self.joints[next(i for i in reversed(self.open) if i != END_SITE)].name
            raise _wrong(
                self.where, last, f"the hierarchy ends inside {inside!r}, {len(self.open)} braces open; was it cut?"
            )
        if not self.joints:
            raise _wrong(self.where, last, "the hierarchy has no ROOT")
        for joint in self.joints:
            if not joint.offset:
                raise _wrong(self.where, joint.line, f"joint {joint.name!r} has no OFFSET")
        return self.joints

    def _statement(self, number: int, words: list[str]) -> None:
        word = words[0].upper()
        if self.waiting != (word == "{"):
            expected = "{" if self.waiting else "ROOT, JOINT, End Site, OFFSET, CHANNELS or }"
            raise _wrong(self.where, number, f"expected {expected}, found {_shown(words)}")
        if word == "{":
            self.waiting = False
        elif word in ("ROOT", "JOINT"):
            self._joint(number, words)
        elif word == "END":
            self._inside(number, words)
            self.open.append(END_SITE)
            self.waiting = True
        elif word == "}":
            if not self.open:
                raise _wrong(self.where, number, "a } without a {")
            self.open.pop()
        elif word == "OFFSET":
            self._offset(number, words)
        elif word == "CHANNELS":
            self._channels(number, words)
        else:
            known = ("ROOT", "JOINT", "End Site", "OFFSET", "CHANNELS", "MOTION")
            raise _wrong(self.where, number, str(unknown("keyword", words[0][:40], known)))

    def _joint(self, number: int, words: list[str]) -> None:
        name = " ".join(words[1:])
        if not name:
            raise _wrong(self.where, number, f"{words[0]} without a name")
        for other in self.joints:
            if other.name == name:
                raise _wrong(
                    self.where, number, f"a second joint {name!r}; the first is in line {other.line}: rename one"
                )
        if words[0].upper() == "ROOT":
            if self.joints:
                first = self.joints[0]
                raise _wrong(
                    self.where,
                    number,
                    f"a second ROOT, {name!r}; the first is {first.name!r} in line {first.line}: "
                    "make one file of each character",
                )
            parent = -1
        else:
            parent = self._inside(number, words)
        self.open.append(len(self.joints))
        self.joints.append(_Joint(name, parent, number))
        self.waiting = True

    def _inside(self, number: int, words: list[str]) -> int:
        """The joint whose braces are the innermost open ones."""
        if not self.open or self.open[-1] == END_SITE:
            place = "an End Site" if self.open else "no joint"
            raise _wrong(
                self.where, number, f"{_shown(words)} stands in {place}; expected inside the braces of a joint"
            )
        return self.open[-1]

    def _offset(self, number: int, words: list[str]) -> None:
        values = _numbers(words[1:])
        if values is None or len(values) != 3:
            raise _wrong(self.where, number, f"expected OFFSET and 3 finite numbers, found {_shown(words)}")
        if self.open and self.open[-1] == END_SITE:
            return  # where an End Site is, nothing moves
        joint = self.joints[self._inside(number, words)]
        if joint.offset:
            raise _wrong(self.where, number, f"a second OFFSET of joint {joint.name!r}")
        joint.offset = tuple(values)

    def _channels(self, number: int, words: list[str]) -> None:
        index = self._inside(number, words)
        joint = self.joints[index]
        if index in self.ready or index != len(self.joints) - 1:
            raise _wrong(
                self.where, number, f"CHANNELS of {joint.name!r} stand twice, or after its children; once, before them"
            )
        self.ready.add(index)
        if len(words) < 2 or _count(words[1]) != len(words) - 2:
            raise _wrong(
                self.where, number, f"expected CHANNELS, their number and as many names, found {_shown(words)}"
            )
        for name in words[2:]:
            if name.lower() not in CHANNELS:
                known = [axis + kind for kind, axis in CHANNELS.values()]
                raise _wrong(self.where, number, str(unknown("channel", name[:40], known)))
            if CHANNELS[name.lower()] in joint.channels:
                raise _wrong(self.where, number, f"channel {name!r} of joint {joint.name!r} stands twice")
            joint.channels.append(CHANNELS[name.lower()])


def _lines(content: bytes, where: str) -> list[str]:
    """The lines of a file; names may be in UTF-8 or Latin-1, line ends of any system."""
    if b"\0" in content:
        line = content[: content.index(b"\0")].count(b"\n") + 1
        raise _wrong(where, line, "binary data; this is no BVH file, or a damaged one")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip().split("\n")


def _statements(lines: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and words; a brace is a statement of its own, wherever it stands."""
    for number, line in enumerate(lines, 1):
        for piece in re.findall(r"[{}]|[^{}]+", line):
            words = piece.split()
            if words:
                yield number, words


def _motion(where: str, lines: Sequence[str], begin: int, width: int) -> tuple[float, np.ndarray]:
    """Frames a second and the values [T, width] of the MOTION section, whose first line is lines[begin]."""
    filled = [number for number in range(begin, len(lines)) if lines[number].strip()]
    heads = []
    for place, name in enumerate(("Frames", "Frame Time")):
        number = filled[place] if place < len(filled) else len(lines) - 1
        found = re.fullmatch(rf"\s*{name}\s*:?\s+(\S.*?)\s*|\s*{name}\s*:\s*(\S.*?)\s*", lines[number], re.IGNORECASE)
        if place >= len(filled) or not found:
            raise _wrong(where, number + 1, f"expected '{name}: NUMBER', found {_shown([lines[number].strip()])}")
        heads.append((number + 1, found[1] or found[2]))
    (frames_line, told), (time_line, time) = heads
    rate = _rate(where, time_line, time)
    frames, rows = _count(told), filled[2:]
    if frames is None:
        raise _wrong(where, frames_line, f"expected 'Frames: NUMBER', found {told[:40]!r}")
    if not frames or not rows:
        raise _wrong(where, frames_line, f"{frames} frames promised, {len(rows)} there; nothing to read")
    if width == 0:
        raise _wrong(where, frames_line, "no joint has channels; nothing moves")
    values = _table(where, lines, rows, width)
    if len(rows) != frames:
        cut = "the file was cut" if len(rows) < frames else "'Frames' is wrong"
        raise _wrong(where, rows[-1] + 1, f"{frames} frames promised in line {frames_line}, {len(rows)} there: {cut}")
    return rate, values


def _table(where: str, lines: Sequence[str], rows: Sequence[int], width: int) -> np.ndarray:
    """The values [T, width] of these lines."""
    try:
        values = np.loadtxt([lines[row] for row in rows], ndmin=2, comments=None)
        if values.shape == (len(rows), width) and (np.abs(values) <= LARGEST).all():
            return values
    except ValueError:
        pass
    # Something is wrong: look for the line.
    for row in rows:
        words = lines[row].split()
        if words[0].lower().startswith("frame"):
            raise _wrong(where, row + 1, f"{_shown(words)} between frames: files whose rate changes are not read")
        for place, word in enumerate(words):
            if _numbers([word]) is None:
                raise _wrong(
                    where, row + 1, f"value {place + 1} is {word[:40]!r}; expected a finite number, at most {LARGEST:g}"
                )
        if len(words) != width:
            cut = "; the file was cut" if row == rows[-1] and len(words) < width else ""
            raise _wrong(where, row + 1, f"{len(words)} values, expected {width}, one for each channel{cut}")
    raise _wrong(where, rows[0] + 1, "the frames cannot be read")


def _rate(where: str, line: int, text: str) -> float:
    """Frames a second: the whole number whose frame time begins with the digits given, if there is one near."""
    words = text.split()
    values = _numbers(words)
    if values is not None and len(values) > 1:
        raise _wrong(where, line, f"{len(values)} frame times; files whose rate changes are not read")
    low, high = FRAME_TIMES
    if values is None or not low <= values[0] <= high:
        raise _wrong(where, line, f"the frame time is {text[:40]!r}; expected seconds, {low:g} to {high:g}")
    time = values[0]
    whole = max(1, round(1 / time))
    digits = Decimal(words[0]).as_tuple().exponent
    if isinstance(digits, int) and abs(1 / whole - time) < min(10.0**digits, 0.005 * time):
        return float(whole)
    return 1 / time


def _numbers(words: Sequence[str]) -> list[float] | None:
    """The words as numbers, or None if one is none, not finite or too large."""
    try:
        values = [float(word) for word in words]
    except ValueError:
        return None
    return values if all(abs(value) <= LARGEST for value in values) and not any("_" in word for word in words) else None


def _count(word: str) -> int | None:
    """The word as a number of things."""
    return int(word) if re.fullmatch("[0-9]{1,9}", word) else None


def _local(joints: Sequence[_Joint], values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotations [T, J, 3, 3] and positions [T, J, 3] in the parents' frames, in the file's unit."""
    frames, begin = len(values), 0
    rotations = np.broadcast_to(np.eye(3), (frames, len(joints), 3, 3)).copy()
    positions = np.empty((frames, len(joints), 3))
    for index, joint in enumerate(joints):
        positions[:, index] = joint.offset
        order, angles = "", []
        for column, (kind, axis) in enumerate(joint.channels, begin):
            if kind == "position":
                positions[:, index, "XYZ".index(axis)] = values[:, column]
            else:
                order += axis
                angles.append(values[:, column])
        if order:
            rotations[:, index] = Rotation.from_euler(order, np.stack(angles, 1), degrees=True).as_matrix()
        begin += len(joint.channels)
    return rotations, positions


def metres(unit: str) -> float:
    """Metres of a unit, by its name or as a number. Raises SakiyomiError when it is neither."""
    if unit in UNITS:
        return UNITS[unit]
    told = _numbers([unit])
    if told is None or not told[0] > 0:
        raise SakiyomiError(f"{unknown('unit', unit, (*UNITS, 'auto'))}, or metres as a number more than 0")
    return told[0]


def find_unit(where: str, parents: Sequence[int], positions: np.ndarray) -> str:
    """The unit of positions [T, J, 3] in which the body has the size of a human one.

    Raises SakiyomiError, beginning with `where`, when there is none.
    """
    span = _span(parents, positions)
    name = min(UNITS, key=lambda name: abs(np.log(max(span, 1e-12) * UNITS[name] / SPAN)))
    if not SPAN / BELIEVED < span * UNITS[name] < SPAN * BELIEVED:
        raise SakiyomiError(
            f"{where}: its unit cannot be told: from end to end the body measures {span:.4g}, and no human one does so "
            f"in {', '.join(UNITS)}; give the unit (--unit), one of these or in metres"
        )
    return name


def _span(parents: Sequence[int], positions: np.ndarray) -> float:
    """The longest way along bones from joint to joint, in mean lengths; bones above the first fork do not count."""
    first = next((joint for joint in range(len(parents)) if list(parents).count(joint) > 1), 0)
    longest, reach = 0.0, np.zeros(len(parents))
    for joint in range(len(parents) - 1, first, -1):
        parent = parents[joint]
        way = reach[joint] + np.linalg.norm(positions[:, joint] - positions[:, parent], axis=-1).mean()
        longest = max(longest, reach[parent] + way)
        reach[parent] = max(reach[parent], way)
    return float(longest)


def upright(up: str) -> np.ndarray:
    """The rotation [3, 3] that takes an up axis to y. Raises SakiyomiError when it is none."""
    if up not in UP:
        raise unknown("up axis", up, (*UP, "auto"))
    axis, sign = UP[up]
    rotation = np.zeros((3, 3))
    # Cyclic, so that a right-handed frame stays one; upside down is half a turn about the next axis more.
    rotation[1, axis], rotation[2, (axis + 1) % 3], rotation[0, (axis + 2) % 3] = sign, 1, sign
    return rotation


def find_up(names: Sequence[str], positions: np.ndarray) -> str:
    """The axis of positions [T, J, 3] along which the head is above the feet, by the joints' names, else along which
    the body is longest."""
    middle = positions.mean(0)
    head = [joint for joint, name in enumerate(names) if HEAD.search(name)]
    feet = [joint for joint, name in enumerate(names) if FEET.search(name)]
    if head and feet:
        way = middle[head].mean(0) - middle[feet].mean(0)
        axis = int(np.abs(way).argmax())
        return ("-" if way[axis] < 0 else "") + "xyz"[axis]
    extent = (positions.max(1) - positions.min(1)).mean(0)
    extent[1] *= 1.1  # arms held out are as long as the body is high, and most files have y up
    return "xyz"[int(extent.argmax())]


def _hierarchy_text(skeleton: Skeleton, offsets: np.ndarray, moves: np.ndarray) -> list[str]:
    """The lines of the HIERARCHY section."""
    lines = ["HIERARCHY"]
    rotations = " ".join(f"{axis}rotation" for axis in ORDER)

    def write(joint: int, indent: str) -> None:
        children = [child for child, parent in enumerate(skeleton.parents) if parent == joint]
        channels = f"6 Xposition Yposition Zposition {rotations}" if moves[joint] else f"3 {rotations}"
        lines.extend((f"{indent}{'JOINT' if indent else 'ROOT'} {skeleton.names[joint]}", indent + "{"))
        lines.append(f"{indent}\tOFFSET " + " ".join(f"{value:.6f}" for value in offsets[joint] + 0.0))
        lines.append(f"{indent}\tCHANNELS {channels}")
        for child in children:
            write(child, indent + "\t")
        if not children:
            # A bone needs an end to be drawn: half as long again as the one before, straight on.
            end = " ".join(f"{value:.6f}" for value in 0.5 * offsets[joint] + 0.0)
            lines.extend((f"{indent}\tEnd Site", indent + "\t{", f"{indent}\t\tOFFSET {end}", indent + "\t}"))
        lines.append(indent + "}")

    write(0, "")
    return lines


def _depth_first(parents: Sequence[int], joint: int = 0) -> Iterator[int]:
    """The order in which `_hierarchy_text` writes joints."""
    yield joint
    for child, parent in enumerate(parents):
        if parent == joint:
            yield from _depth_first(parents, child)


def _angles(rotations: np.ndarray) -> np.ndarray:
    """Degrees [T, J, 3] of rotations [T, J, 3, 3] in ORDER, each frame as near as can be to the one before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # at 90 degrees two of the axes are one, and scipy says so
        angles = Rotation.from_matrix(rotations.reshape(-1, 3, 3)).as_euler(ORDER).reshape(rotations.shape[:-1])
    # Every rotation has two sets of angles, and each of these any number of whole turns.
    twins = np.stack((angles, angles * [1, -1, 1] + np.pi), 2)
    chosen, last = np.empty_like(angles), np.zeros_like(angles[0])
    for frame, pair in enumerate(twins):
        near = pair + 2 * np.pi * np.round((last[:, None] - pair) / (2 * np.pi))
        second = np.abs(near - last[:, None]).sum(-1).argmin(-1).astype(bool)
        last = chosen[frame] = np.where(second[:, None], near[:, 1], near[:, 0])
    return np.degrees(chosen)


def _shown(words: Sequence[str]) -> str:
    text = " ".join(words)
    return repr(text if len(text) <= 60 else text[:60] + "...")


def _wrong(where: str, line: int, what: str) -> SakiyomiError:
    return SakiyomiError(f"{where}, line {line}: {what}")
