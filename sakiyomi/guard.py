"""The command guard: nothing a network says reaches a motor unchecked.

Every tick the guard takes the wanted command and gives one that is finite, lies within the position limits and the
range learned from the training data, and can be reached within the velocity and acceleration limits - and from which
the limits can still be kept at every later tick, because the speed towards a limit is kept low enough to brake in
time. What it had to change it counts.

On a violation it does as configured: `clamp` gives the nearest allowed command, `hold` brakes to a standstill for
this tick, `stop` brakes and stays there until `reset`. A command that is not finite cannot be clamped: it holds.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from sakiyomi.errors import SakiyomiError
from sakiyomi.files import write_atomic

Reaction = Literal["clamp", "hold", "stop"]
CHECKS = ("finite", "position", "learned_range", "velocity", "acceleration", "late", "early")


@dataclass(frozen=True)
class Limits:
    """What is allowed, per joint, in the command's own units."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    """Hard limits of the joints."""
    velocity: tuple[float, ...]
    """Units per second."""
    acceleration: tuple[float, ...]
    """Units per second squared."""
    learned_low: tuple[float, ...]
    learned_high: tuple[float, ...]
    """Range of the commands in the training data, widened by a margin."""
    period: float
    """Seconds between ticks."""
    late: float = 1.5
    """A tick later than this many periods after the last is a violation."""
    early: float = 0.9
    """So is one sooner than this many: the last command stands, or the limits would be kept per tick but not per
    second."""

    @classmethod
    def learn(
        cls,
        commands: list[np.ndarray],
        period: float,
        low: np.ndarray | None = None,
        high: np.ndarray | None = None,
        margin: float = 0.1,
        headroom: float = 1.5,
    ) -> "Limits":
        """Limits from training commands, each [T, J] at `period` seconds: their range widened by `margin` of itself,
        and `headroom` times their fastest speed and strongest acceleration. Hard limits default to that range."""
        every = np.concatenate(commands)
        span = np.maximum(np.ptp(every, axis=0), 1e-3)
        learned_low, learned_high = every.min(0) - margin * span, every.max(0) + margin * span
        speed = np.max([np.abs(np.diff(c, axis=0)).max(0, initial=0) / period for c in commands], axis=0)
        force = np.max([np.abs(np.diff(c, n=2, axis=0)).max(0, initial=0) / period**2 for c in commands], axis=0)
        # A joint that never moved may still be nudged back to where it belongs.
        speed, force = np.maximum(headroom * speed, 1e-2), np.maximum(headroom * force, 1e-1)

        def numbers(values: np.ndarray) -> tuple[float, ...]:
            return tuple(np.asarray(values, float).tolist())

        return cls(
            low=numbers(learned_low if low is None else low),
            high=numbers(learned_high if high is None else high),
            velocity=numbers(speed),
            acceleration=numbers(force),
            learned_low=numbers(learned_low),
            learned_high=numbers(learned_high),
            period=period,
        )

    def save(self, path: Path) -> None:
        write_atomic(path, msgspec.json.format(msgspec.json.encode(self)))

    @classmethod
    def load(cls, path: Path) -> "Limits":
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except (OSError, msgspec.DecodeError) as error:
            raise SakiyomiError(f"{path} cannot be read: {error}; is {path.parent} a run folder?") from error


@dataclass(frozen=True)
class Checked:
    """One tick's result."""

    command: np.ndarray
    """What may go to the motors, float64 [J]."""
    violations: tuple[str, ...]
    """The checks of CHECKS that failed."""
    stopped: bool
    """The guard has stopped and waits for `reset`."""


class Guard:
    """`limits` say what is allowed, `reaction` what happens otherwise."""

    def __init__(self, limits: Limits, reaction: Reaction = "clamp") -> None:
        ranges = (limits.low, limits.high, limits.learned_low, limits.learned_high)
        rates = (*limits.velocity, *limits.acceleration, limits.period)
        sizes = {len(v) for v in (*ranges, limits.velocity, limits.acceleration)}
        if len(sizes) != 1 or not np.isfinite([*np.ravel(ranges), *rates]).all() or min(rates) <= 0:
            raise SakiyomiError(f"limits do not fit together (one finite number a joint, rates positive): {limits}")
        self.limits, self.reaction = limits, reaction
        # The learned range never widens the hard limits.
        self._low = np.maximum(limits.low, limits.learned_low)
        self._high = np.minimum(limits.high, limits.learned_high)
        if (self._low > self._high).any():
            raise SakiyomiError(f"the learned range lies outside the hard limits: {limits}")
        self._velocity, self._acceleration = np.array(limits.velocity), np.array(limits.acceleration)
        self.counts: dict[str, int] = dict.fromkeys(CHECKS, 0)
        self._position: np.ndarray | None = None

    def reset(self, position: np.ndarray) -> None:
        """Begin at rest at `position` [J]: where the joints are now. Raises SakiyomiError when that is not finite."""
        position = np.asarray(position, np.float64)
        if position.shape != self._low.shape or not np.isfinite(position).all():
            raise SakiyomiError(
                f"the guard starts from {len(self._low)} finite joint positions, got {position.tolist()}"
            )
        self._position, self._speed = position.copy(), np.zeros_like(position)
        self._last_tick: float | None = None
        self._stopped = False

    def check(self, wanted: np.ndarray, now: float | None = None) -> Checked:
        """The wanted command [J] -> the allowed one. `now` (seconds, any origin) feeds the watchdog on late ticks."""
        if self._position is None:
            raise SakiyomiError("the guard does not know where the joints are; call reset(position) first")
        wanted = np.asarray(wanted, np.float64)
        if wanted.shape != self._position.shape:
            raise SakiyomiError(f"a command has {len(self._position)} joints, got shape {list(wanted.shape)}")
        limits, period = self.limits, self.limits.period
        since = period if now is None or self._last_tick is None else now - self._last_tick
        if since < limits.early * period:
            self._stopped = self._stopped or self.reaction == "stop"
            return self._counted(("early",) if np.isfinite(wanted).all() else ("finite", "early"))
        self._last_tick = now
        failed = self._failed(wanted, late=not since <= limits.late * period)  # a clock that says NaN is not in time
        if self._stopped or "finite" in failed or (failed and self.reaction != "clamp"):
            self._stopped = self._stopped or (bool(failed) and self.reaction == "stop")
            speed = self._within(np.zeros_like(self._speed))
        else:
            speed = self._within((np.clip(wanted, self._low, self._high) - self._position) / period)
        self._speed = speed
        self._position = self._position + speed * period
        return self._counted(failed)

    def _counted(self, failed: tuple[str, ...]) -> Checked:
        assert self._position is not None
        for name in failed:
            self.counts[name] += 1
        return Checked(self._position.copy(), failed, self._stopped)

    def _failed(self, wanted: np.ndarray, late: bool) -> tuple[str, ...]:
        assert self._position is not None
        limits, period = self.limits, self.limits.period
        if not np.isfinite(wanted).all():
            return ("finite", "late") if late else ("finite",)
        slack = 1e-6
        with np.errstate(over="ignore"):  # what overflows fails the tests below, as it should
            speed = (wanted - self._position) / period
        slow = np.clip(
            (np.clip(wanted, self._low, self._high) - self._position) / period, -self._velocity, self._velocity
        )
        tests = {
            "position": (wanted < np.array(limits.low) - slack) | (wanted > np.array(limits.high) + slack),
            "learned_range": (wanted < np.array(limits.learned_low) - slack)
            | (wanted > np.array(limits.learned_high) + slack),
            "velocity": np.abs(speed) > self._velocity + slack,
            # Too fast to brake before the end of the range is a violation too.
            "acceleration": (np.abs(speed - self._speed) > self._acceleration * period + slack)
            | (np.abs(slow - self._within(slow)) > slack),
            "late": np.array(late),
        }
        return tuple(name for name, test in tests.items() if test.any())

    def _within(self, speed: np.ndarray) -> np.ndarray:
        """The allowed speed nearest to `speed`.

        Keeping the acceleration limit always leaves a choice, because last tick's speed was one from which
        braking suffices; only a start outside the range can leave none, and then the arm comes to rest first.
        """
        assert self._position is not None
        change = self._acceleration * self.limits.period
        up = np.minimum(self._velocity, self._braking_speed(self._high - self._position))
        down = np.maximum(-self._velocity, -self._braking_speed(self._position - self._low))
        wanted = np.clip(speed, down, np.maximum(up, down))
        return np.clip(wanted, self._speed - change, self._speed + change)

    def _braking_speed(self, distance: np.ndarray) -> np.ndarray:
        """The highest speed v of this tick after which braking by a * period each tick stays within `distance`.

        With d = a * period and k = floor(v / d), the path from here to rest is period * ((k + 1) v - d k (k + 1) / 2).
        """
        period = self.limits.period
        d = self._acceleration * period
        room = np.maximum(distance, 0.0) / period
        k = np.floor((np.sqrt(1 + 8 * room / d) - 1) / 2)
        return (room + d * k * (k + 1) / 2) / (k + 1)
