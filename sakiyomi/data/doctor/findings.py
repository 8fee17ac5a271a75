"""What the doctor may find, from which figure on, and what to do about it.

Every kind of finding has a name that does not change, a meaning and an advice; scripts may rely on the names.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from sakiyomi.errors import at_least

Kind = Literal[
    "damaged",
    "short",
    "not finite",
    "dropped",
    "jitter",
    "rate",
    "drift",
    "apart",
    "duplicate",
    "padding",
    "frozen",
    "saturation",
    "outlier",
    "unit",
    "exposure",
    "white balance",
    "leakage",
    "copy",
    "delay",
    "classes",
    "places",
]
Severity = Literal["problem", "note"]
KINDS: tuple[Kind, ...] = get_args(Kind)

ADVICE: dict[Kind, str] = {
    "damaged": "restore the file from a copy, or leave the episode out",
    "short": "leave it out: it was cut off or started by mistake",
    "not finite": "find the sensor or division that gave it; short gaps can be interpolated",
    "dropped": "resample by the clock (training does), and free the recording loop of what holds it up",
    "jitter": "resample by the clock (training does), stamp values where they are measured, not where they are saved",
    "rate": "state the rate the stamps show; a policy driven at the claimed rate would move too fast or too slow",
    "drift": "stamp all streams by one clock, or rescale one of them to the other",
    "apart": "cut all streams to the time they have in common",
    "duplicate": "drop the repeated frames; a sensor that is read faster than it measures repeats itself",
    "padding": "cut the tail: a network learns to stand still from it",
    "frozen": "look at the sensor, its cable, its driver; leave out what it recorded while it stood still",
    "saturation": "widen the sensor's range, or shorten the exposure; what was cut off cannot be restored",
    "outlier": "interpolate over single wild values; look for loose contacts and lost packets",
    "unit": "convert all to one unit, and state it",
    "exposure": "fix exposure and gain of the camera, or train with colour augmentation",
    "white balance": "fix the white balance of the camera, or train with colour augmentation",
    "leakage": "keep it in one split only: scores on the other count what was learned by heart",
    "copy": "keep one of them: the others only weigh it more",
    "delay": "shift one stream by the delay, or stamp commands when they are sent",
    "classes": "record more of the rare ones, or weigh them",
    "places": "record more at the rare places",
}


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be, in one stream or in the whole store."""

    kind: Kind
    severity: Severity
    told: str
    """One sentence with the figures."""
    amount: float
    """How much, in `unit`; the worst of the episodes."""
    unit: str
    threshold: float
    """From which amount on it is a finding."""
    episodes: tuple[str, ...] = ()
    """Where, worst first; empty when it is about the store as a whole."""
    stream: str = ""
    channels: tuple[str, ...] = ()
    frames: tuple[int, ...] = ()
    """Of the first episode: the frames concerned, at most a few."""

    @property
    def advice(self) -> str:
        return ADVICE[self.kind]


@dataclass(frozen=True)
class Tolerances:
    """From where on something is a finding. Chosen on generated recordings and on the stores of this repository."""

    # Clocks.
    gap: float = 1.6
    """Periods between two stamps from which on a frame was dropped; one lost frame makes two periods."""
    gap_over_jitter: float = 6.0
    """So many times its usual deviation must an interval also be off, else it is jitter."""
    jitter: float = 0.2
    """Deviation of intervals, in periods; timers of an ordinary system stay under 0.1."""
    rate: float = 0.05
    """Relative difference of the rate by the stamps from the claimed one; what 5 % slower shows is another motion."""
    drift: float = 0.005
    """Relative difference of the spans of two streams, alike in all episodes; crystals differ by 0.0001."""
    sure: float = 4.0
    """Standard errors by which a mean over episodes must be off."""
    apart: float = 0.1
    """Of the episode's length: by so much may one stream end before another, in a single episode."""
    apart_frames: float = 4.0
    """The same in periods of the slower stream."""
    held: float = 0.4
    """Share of changes that come after a repeated frame, from which on the stream is slower than it says."""
    # Episodes.
    fewest: int = 4
    """Frames; of less nothing can be learned."""
    short: float = 0.12
    """Of the median length: shorter episodes were broken off."""
    # Channels.
    lively: float = 0.9
    """Share of steps at which a channel changes, from which on standing still is strange. Simulators that rest exactly
    stay below it, and are accused only of stopping abruptly."""
    stuck_seconds: float = 0.4
    """Standing still for so long is frozen, for less a duplicate."""
    stuck_frames: int = 6
    """The same in frames; both must be reached."""
    usual: float = 0.2
    """Share of episodes with a channel that rests while others move, from which on that is how it moves."""
    tail_frames: int = 4
    """Frames at the end that repeat the last one in every stream: padding."""
    moving: float = 0.15
    """Of the usual step (90th percentile): what moves less before and after a repeated frame may have rested."""
    going: float = 0.35
    """The same of the body while the camera repeats itself."""
    quanta: float = 3.0
    """Steps before and after a repeated frame must be so many times the finest step of the channel."""
    flat: int = 3
    """Values in a row exactly at the channel's extreme: the top was cut off."""
    flat_share: float = 0.03
    """Of all values of the channel that lie on such flat tops; a gripper that is wide open touches its stop, too."""
    clipped: float = 0.001
    """Of all samples of integer streams that lie on the type's limits, in a row."""
    spike: float = 3.0
    """Times the largest other step of the episode: a value that jumps out and back by so much is an outlier."""
    spike_usual: float = 4.0
    """The same in usual steps (90th percentile)."""
    spike_range: float = 0.08
    """Of the channel's range in the store; less does no harm."""
    spike_least: float = 0.005
    """Of the largest range of the stream's channels; the same."""
    spike_frames: int = 3
    """A spike lasts so many frames at most."""
    far: float = 8.0
    """Of channels that may jump (scalars, actions): such a spike must be so many times the range of all others."""
    # Units.
    largest_angle: float = 9.5
    """rad, a turn and a half: joints that are said to be in radians do not turn further."""
    ratio: float = 1.6
    """By such a factor may a ratio of sizes differ from 57.3 (degrees) and still tell of it."""
    # Pictures.
    same: float = 0.05
    """Of the least change between pictures (10th percentile): below it is the same picture, through a codec too."""
    film: float = 0.75
    """Change between neighbours over change between any two pictures; above it, pictures are no film."""
    white: float = 0.15
    """Share of grey levels at the end of their range, more than usual in this store: over- or underexposed."""
    exposure: float = 0.4
    """Natural logarithm of brightness between episodes; 0.4 is half as bright again."""
    balance: float = 0.15
    """The same of red and blue over green."""
    spread: float = 4.0
    """So many usual deviations between episodes must one also be off."""
    dark: float = 1.2
    """Natural logarithm of brightness against neighbouring pictures; 1.2 is a third of the light."""
    trend: float = 0.85
    """Rank correlation of brightness or colour with the order of episodes, from which on it drifts."""
    # Splits.
    near: float = 0.05
    """Of the deviation in the store: episodes whose streams differ by less, all along, are one."""
    overlap: float = 0.7
    """Of the shorter episode: so much must coincide."""
    # Commands.
    delay: float = 0.35
    """s from command to joints; arms follow within 0.3 s."""
    early: float = 0.06
    """s by which joints may be before their command: it was not what moved them."""
    delays: float = 0.12
    """s by which the delay of an episode may differ from the usual one; and at least a frame and a half."""
    alike: float = 0.6
    """Least correlation of command and joints, to speak of a delay."""
    # Balance.
    rare: float = 0.1
    """Of the median: a class with fewer examples is rare."""
    crowded: float = 0.7
    """Share of episodes at one place, of several, from which on the others are rare."""
    enough: int = 16
    """Episodes or examples, to speak of balance or of a drift from one to the next."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            at_least(f"--tolerances.{name.replace('_', '-')}", value, 0)


def listed(names: tuple[str, ...], most: int = 4) -> str:
    """Names in a sentence: 'a, b and 3 more'."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
