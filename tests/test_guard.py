"""Whatever comes in, what goes out can be driven: properties over arbitrary commands and clocks."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sakiyomi.errors import SakiyomiError
from sakiyomi.guard import CHECKS, Guard, Limits, Reaction

SLACK = 1e-9
J = 2
LIMITS = Limits(
    low=(-1.0, 0.0),
    high=(1.0, 0.08),
    velocity=(1.0, 0.2),
    acceleration=(4.0, 3.0),
    learned_low=(-0.8, -0.01),
    learned_high=(1.5, 0.07),
    period=0.1,
)
LOW, HIGH = np.maximum(LIMITS.low, LIMITS.learned_low), np.minimum(LIMITS.high, LIMITS.learned_high)

wild = st.one_of(
    st.floats(-2, 2), st.sampled_from([math.nan, math.inf, -math.inf, 1e30, -1e30, 1.7e308, -0.0, 5e-324]), st.floats()
)


def commands_of(elements: st.SearchStrategy[float]) -> st.SearchStrategy[list[np.ndarray]]:
    """Some are insisted on for a while: only then is the end of a range reached at speed."""
    phases = st.lists(st.tuples(arrays(np.float64, J, elements=elements), st.integers(1, 12)), min_size=1, max_size=10)
    return phases.map(lambda drawn: [command for command, ticks in drawn for _ in range(ticks)])


wild_commands = commands_of(wild)
tame_commands = commands_of(st.floats(-4, 4))
reactions = st.sampled_from(["clamp", "hold", "stop"])
pauses = st.lists(st.one_of(st.none(), st.floats(0, 1), st.just(math.nan)), min_size=120, max_size=120)
# Shares of the allowed range: where the arm stands at first.
places = arrays(np.float64, J, elements=st.floats(0, 1)).map(lambda share: LOW + share * (HIGH - LOW))


@st.composite
def some_limits(draw: st.DrawFn) -> Limits:
    """Any that fit together: slow and fast joints, ranges narrower than one tick's braking, short and long ticks."""
    low = draw(arrays(np.float64, J, elements=st.floats(-3, 3)))
    span = draw(arrays(np.float64, J, elements=st.floats(0, 4)))
    rates = draw(arrays(np.float64, (2, J), elements=st.floats(1e-2, 50)))
    learned = low + span * draw(arrays(np.float64, (2, J), elements=st.floats(-0.5, 0.5))) * [[1], [0]]
    numbers = (tuple(v.tolist()) for v in (low, low + span, rates[0], rates[1], learned[0], low + span * 0.9))
    return Limits(*numbers, period=draw(st.sampled_from([0.005, 0.05, 0.1, 1.0])))


def assert_drivable(limits: Limits, start: np.ndarray, sent: list[np.ndarray], inside: bool = True) -> None:
    """The laws: finite, within both ranges, speed and its change within limits at every tick, from rest on."""
    path = np.stack([start, start, *sent])
    assert np.isfinite(path).all()
    speed = np.diff(path, axis=0) / limits.period
    force = np.diff(speed, axis=0) / limits.period
    assert (np.abs(speed) <= np.array(limits.velocity) + SLACK).all()
    # Differences of positions carry their rounding, twice divided by the period.
    assert (np.abs(force) <= np.array(limits.acceleration) + SLACK + 4e-15 / limits.period**2).all()
    if inside:
        assert (path >= np.maximum(limits.low, limits.learned_low) - SLACK).all()
        assert (path <= np.minimum(limits.high, limits.learned_high) + SLACK).all()


@given(wild_commands, pauses, reactions, places)
def test_every_output_can_be_driven(
    commands: list[np.ndarray], pauses: list[float | None], reaction: Reaction, start: np.ndarray
) -> None:
    guard, now, sent = Guard(LIMITS, reaction), 0.0, []
    guard.reset(start)
    for command, pause in zip(commands, pauses, strict=False):
        now += 0.0 if pause is None else pause
        checked = guard.check(command, None if pause is None else now)
        if "early" in checked.violations:  # the last command stands, and its period is not over
            np.testing.assert_array_equal(checked.command, sent[-1])
        else:
            sent.append(checked.command)
    assert_drivable(LIMITS, start, sent)


@given(wild_commands, st.lists(st.floats(0, 0.1), min_size=120, max_size=120), places)
def test_a_burst_of_calls_moves_no_faster(commands: list[np.ndarray], pauses: list[float], start: np.ndarray) -> None:
    """However often it is asked, the arm stays within its speed by the clock on the wall (and one period's grace)."""
    guard, now = Guard(LIMITS), 0.0
    guard.reset(start)
    for command, pause in zip(commands, pauses, strict=False):
        now += pause
        moved = np.abs(guard.check(command, now).command - start)
        assert (moved <= np.array(LIMITS.velocity) * (now / LIMITS.early + LIMITS.period) + SLACK).all()


@given(some_limits(), tame_commands, reactions, arrays(np.float64, J, elements=st.floats(0, 1)))
def test_every_output_can_be_driven_under_any_limits(
    limits: Limits, commands: list[np.ndarray], reaction: Reaction, share: np.ndarray
) -> None:
    low, high = np.maximum(limits.low, limits.learned_low), np.minimum(limits.high, limits.learned_high)
    guard, start = Guard(limits, reaction), low + share * (high - low)
    guard.reset(start)
    assert_drivable(limits, start, [guard.check(command).command for command in commands])


@given(wild_commands, arrays(np.float64, J, elements=st.floats(-3, 3)))
def test_a_start_outside_comes_back_within_the_limits(commands: list[np.ndarray], start: np.ndarray) -> None:
    guard = Guard(LIMITS)
    guard.reset(start)
    sent = [guard.check(command).command for command in commands]
    sent += [guard.check((LOW + HIGH) / 2).command for _ in range(400)]
    assert_drivable(LIMITS, start, sent, inside=False)
    np.testing.assert_allclose(sent[-1], (LOW + HIGH) / 2, atol=1e-6)
    # Once inside, it stays inside.
    inside = [bool(((place >= LOW - SLACK) & (place <= HIGH + SLACK)).all()) for place in sent]
    assert all(inside[inside.index(True) :])


@given(st.lists(arrays(np.float64, J, elements=st.floats(-1, 1)), min_size=1, max_size=60), reactions)
def test_admissible_commands_pass_unchanged(pushes: list[np.ndarray], reaction: Reaction) -> None:
    """A path that keeps the limits, far from the range's ends: the guard gives it back and counts nothing."""
    period = LIMITS.period
    guard, position, speed = Guard(LIMITS, reaction), (LOW + HIGH) / 2, np.zeros(J)
    guard.reset(position)
    for push in pushes:
        # Pulled back to the middle, so that it never has to brake for an end.
        speed = 0.5 * speed + 0.01 * period * push * LIMITS.acceleration - 0.1 * (position - (LOW + HIGH) / 2)
        position = position + speed * period
        checked = guard.check(position)
        np.testing.assert_allclose(checked.command, position, atol=SLACK)
        assert checked.violations == ()
    assert not any(guard.counts.values())


@given(wild_commands, places)
def test_what_was_changed_was_counted(commands: list[np.ndarray], start: np.ndarray) -> None:
    guard = Guard(LIMITS)
    guard.reset(start)
    for command in commands:
        checked = guard.check(command)
        if not checked.violations:
            np.testing.assert_allclose(checked.command, command, atol=1e-5)


@given(wild_commands, pauses, reactions)
def test_counts_are_those_of_the_ticks(
    commands: list[np.ndarray], pauses: list[float | None], reaction: Reaction
) -> None:
    guard, now, seen = Guard(LIMITS, reaction), 0.0, []
    guard.reset(np.zeros(J))
    for command, pause in zip(commands, pauses, strict=False):
        now += pause or 0.0
        checked = guard.check(command, now)
        assert set(checked.violations) <= set(CHECKS)
        assert np.isfinite(command).all() != ("finite" in checked.violations)
        seen += checked.violations
    assert guard.counts == {name: seen.count(name) for name in CHECKS}


@given(wild_commands, tame_commands)
def test_stop_latches_until_reset(before: list[np.ndarray], after: list[np.ndarray]) -> None:
    guard = Guard(LIMITS, "stop")
    guard.reset(np.zeros(J))
    stopped = False
    for command in before:
        checked = guard.check(command)
        stopped = stopped or bool(checked.violations)
        assert checked.stopped == stopped
    guard.check(np.full(J, math.nan))
    rest = [guard.check(np.zeros(J)).command for _ in range(10)][-1]
    for command in after:
        checked = guard.check(command)
        assert checked.stopped
        np.testing.assert_allclose(checked.command, rest, atol=SLACK)
    guard.reset(np.zeros(J))
    assert not guard.check(np.zeros(J)).stopped


@pytest.mark.parametrize(
    ("command", "check"),
    [
        ([math.nan, 0.0], "finite"),
        ([0.0, math.inf], "finite"),
        ([0.0, 0.09], "position"),
        ([-0.9, 0.0], "learned_range"),
        ([0.5, 0.0], "velocity"),
        ([0.05, 0.0], "acceleration"),
    ],
)
def test_each_check_has_its_name(command: list[float], check: str) -> None:
    guard = Guard(LIMITS)
    guard.reset(np.zeros(J))
    assert check in guard.check(np.array(command)).violations


@pytest.mark.parametrize("late", [0.16, 3.0, math.inf, math.nan])
def test_a_late_tick_is_seen(late: float) -> None:
    guard = Guard(LIMITS, "hold")
    guard.reset(np.zeros(J))
    assert guard.check(np.zeros(J), 100.0).violations == ()
    assert guard.check(np.zeros(J), 100.1).violations == ()
    assert guard.check(np.zeros(J), 100.1 + late).violations == ("late",)


def test_braking_is_counted() -> None:
    """Full speed to just before the end keeps velocity and acceleration, but could not stop there."""
    guard = Guard(LIMITS)
    guard.reset(np.array([0.0, 0.03]))
    path = [guard.check(np.array([1.0, 0.03])).command for _ in range(30)]
    assert path[-1][0] == pytest.approx(HIGH[0])
    assert guard.counts["position"] == 0
    guard.reset(np.array([0.9, 0.03]))
    guard.check(np.array([0.94, 0.03]))
    assert guard.check(np.array([1.0, 0.03])).violations == ("acceleration",)


def test_hold_stands_still_and_goes_on() -> None:
    guard = Guard(LIMITS, "hold")
    guard.reset(np.zeros(J))
    assert guard.check(np.array([0.5, 0.0])).command.tolist() == [0.0, 0.0]
    assert guard.check(np.array([0.01, 0.0])).command.tolist() == pytest.approx([0.01, 0.0])


@given(arrays(np.float64, (12, J), elements=st.floats(-3, 3)), reactions)
def test_limits_learned_from_data_let_that_data_pass(commands: np.ndarray, reaction: Reaction) -> None:
    commands[:, 1] = 0.4  # a joint that never moves
    # The guard starts from rest, and recordings do too.
    commands[1] = commands[0]
    limits = Limits.learn([commands], period=0.1, margin=2.0)
    guard = Guard(limits, reaction)
    guard.reset(commands[0])
    assert limits.learned_low[1] < 0.4 < limits.learned_high[1]
    assert min(limits.velocity + limits.acceleration) > 0
    for command in commands:
        checked = guard.check(command)
        assert set(checked.violations) <= {"acceleration"}  # braking for an end it would have reached too fast


def test_learning_takes_the_widest_of_all_episodes_and_of_any_length() -> None:
    slow, fast, single = np.linspace(0, 1, 11)[:, None], np.linspace(0, 2, 11)[:, None], np.array([[5.0]])
    limits = Limits.learn([slow, fast, single], period=0.1, margin=0.0, headroom=1.0)
    assert (limits.learned_low, limits.learned_high) == ((0.0,), (5.0,))
    assert limits.velocity == pytest.approx((2.0,))
    hard = Limits.learn([slow], 0.1, low=np.array([0.2]), high=np.array([0.5]))
    assert (hard.low, hard.high) == ((0.2,), (0.5,))


def test_limits_round_trip(tmp_path: Path) -> None:
    LIMITS.save(tmp_path / "limits.json")
    assert Limits.load(tmp_path / "limits.json") == LIMITS


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"low": [0]}', b"[]"])
def test_unreadable_limits_are_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "limits.json").write_bytes(content)
    with pytest.raises(SakiyomiError, match=r"limits\.json"):
        Limits.load(tmp_path / "limits.json")


@pytest.mark.parametrize(
    "change",
    [
        {"low": (0.0,)},
        {"learned_high": (0.0,)},
        {"velocity": (1.0, 0.0)},
        {"velocity": (1.0, math.nan)},
        {"acceleration": (1.0, math.inf)},
        {"acceleration": (1.0, -1.0)},
        {"high": (1.0, math.nan)},
        {"period": 0.0},
        {"period": math.nan},
        {"learned_low": (2.0, 0.0), "learned_high": (3.0, 0.0)},
    ],
)
def test_limits_that_cannot_be_kept_are_refused(change: dict) -> None:
    with pytest.raises(SakiyomiError):
        Guard(Limits(**{**vars(LIMITS), **change}))


def test_wrong_use_is_refused() -> None:
    guard = Guard(LIMITS)
    with pytest.raises(SakiyomiError, match="reset"):
        guard.check(np.zeros(J))
    for start in (np.zeros(J + 1), np.array([math.nan, 0.0])):
        with pytest.raises(SakiyomiError, match="start"):
            guard.reset(start)
    guard.reset(np.zeros(J))
    with pytest.raises(SakiyomiError, match="joints"):
        guard.check(np.zeros(J + 1))
