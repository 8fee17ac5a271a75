"""serve.py: sessions are pure and independent, bad input hurts nobody, and the page steers in a real browser."""

import contextlib
import json
import math
import socket as sockets
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gliding
import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from benchmarks import steering
from sakiyomi.errors import SakiyomiError
from sakiyomi.motion.character import Moving
from sakiyomi.serve import (
    AHEAD,
    BEHIND,
    FARTHEST,
    FULL,
    IDLE,
    LONGEST,
    MESSAGES,
    MODES,
    REACHED,
    STEERED_BY,
    Acts,
    Go,
    Ping,
    Reset,
    Serving,
    Session,
    Stage,
    Steer,
    Wander,
    application,
    read_message,
    server_of,
    trusted,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HEADER = 9
RATE = gliding.RATE


class Stick:
    """Turns in proportion to what is missing; the speed asked for at once."""

    def act(self, moving: Moving, goal: dict[str, Tensor]) -> Tensor:
        return _towards(moving, goal["heading"], goal["speed"])


class Targeter:
    """Goes to its target at 1 m/s."""

    def __init__(self) -> None:
        self.asked: list[list[float]] = []

    def act(self, moving: Moving, goal: dict[str, Tensor]) -> Tensor:
        self.asked.append(goal["target"][0].tolist())
        way = goal["target"] - moving.place[:, :2]
        return _towards(moving, torch.atan2(way[:, 1], way[:, 0]), torch.ones(1))


def _towards(moving: Moving, heading: Tensor, speed: Tensor) -> Tensor:
    turn = torch.remainder(heading - moving.place[:, 2] + math.pi, 2 * math.pi) - math.pi
    rate = (4 * turn).clamp(-4, 4)
    return torch.stack(((speed - gliding.SPEED) / gliding.SPEED_DEVIATION, rate / gliding.TURN_DEVIATION), -1)


def stage(*tasks: str, character: Any = None) -> Stage:
    made: dict[str, Acts] = {"joystick": Stick(), "target": Targeter()}
    return Stage("glider", character or gliding.gliding(), {task: made[task] for task in tasks})


def ticked(on: Stage, session: Session, frames: int) -> Session:
    for _ in range(frames):
        session, _ = on.tick(session)
    return session


def place(session: Session) -> tuple[float, float, float]:
    x, z, facing = session.moving.place[0].tolist()
    return x, z, facing


# ---- sessions ----


def test_a_stick_turns_the_character_and_moves_it_as_fast_as_asked() -> None:
    on = stage("joystick")
    session = on.heed(on.begin(0), Steer(1.0, 1.4))
    session = ticked(on, session, 60)
    x, z, facing = place(session)
    assert facing == pytest.approx(1.0, abs=0.01)
    u, v, _ = place(ticked(on, session, 30))  # the second after that: straight on
    assert math.dist((x, z), (u, v)) == pytest.approx(1.4, abs=0.01)
    assert math.atan2(v - z, u - x) == pytest.approx(1.0, abs=0.01)


def test_without_a_command_it_goes_as_chance_has_it_and_nothing_steers() -> None:
    on = stage("joystick", "target")
    session, frame = on.tick(on.begin(7))
    noise = np.random.default_rng((7, 0)).standard_normal((1, 2))
    expected = on.character.next(on.begin(7).moving, torch.from_numpy(noise).float())
    torch.testing.assert_close(session.moving.place, expected.place)
    assert (MODES[frame.mode], STEERED_BY[frame.by], frame.goal) == ("wander", "nothing", (0.0, 0.0))


def test_a_tick_is_a_function_of_the_session_alone() -> None:
    on = stage("joystick", "target")
    one, other = on.begin(1), on.heed(on.begin(2), Go(3.0, 1.0))
    alone = ticked(on, one, 20)
    for _ in range(20):  # the other visitor's ticks between
        one, _ = on.tick(one)
        other, _ = on.tick(other)
    torch.testing.assert_close(one.moving.place, alone.moving.place, rtol=0, atol=0)
    torch.testing.assert_close(one.moving.pose, alone.moving.pose, rtol=0, atol=0)
    again = ticked(stage("joystick", "target"), stage("joystick", "target").begin(1), 20)
    torch.testing.assert_close(again.moving.place, alone.moving.place, rtol=0, atol=0)
    assert not torch.equal(other.moving.place, one.moving.place)


def test_a_frame_tells_where_every_joint_is() -> None:
    on = stage("target")
    session, frame = on.tick(on.heed(on.begin(0), Steer(0.5, 1.0)))
    np.testing.assert_allclose(frame.joints, on.character.joints(session.moving)[0].numpy(), atol=1e-6)
    values = np.frombuffer(frame.packed(17, 0.25), "<f4")
    assert len(values) == HEADER + 3 * len(gliding.SKELETON.names)
    assert values[:2].tolist() == [17, 0.25]
    assert [MODES[int(values[2])], STEERED_BY[int(values[3])]] == ["steer", "target"]
    np.testing.assert_allclose(values[4:6], (0.5, 1.0), atol=1e-6)
    np.testing.assert_allclose(values[6:9], place(session), atol=1e-6)
    np.testing.assert_allclose(values[9:].reshape(-1, 3), frame.joints)


def test_numbers_are_brought_within_what_there_is() -> None:
    on = stage("joystick", "target")
    session = on.begin(0)
    for asked, speed in ((1e300, on.fastest), (-5.0, on.slowest), (1.0, 1.0)):
        assert on.heed(session, Steer(0.0, asked)).goal == Steer(0.0, speed)
    for asked, least, most in ((20 * math.pi + 0.5, 0.4999, 0.5001), (-1e300, -math.pi, math.pi)):
        goal = on.heed(session, Steer(asked, 1.0)).goal
        assert isinstance(goal, Steer)
        assert least <= goal.heading <= most
    assert on.heed(session, Go(1e300, -1e300)).goal == Go(FARTHEST, -FARTHEST)
    assert on.heed(session, Go(2.0, -3.0)).goal == Go(2.0, -3.0)
    away = replace(session, moving=Moving(session.moving.pose, torch.tensor([[1000.0, 0.0, 0.0]])))
    assert on.heed(away, Go(0.0, 0.0)).goal == Go(1000.0 - FARTHEST, 0.0)


@pytest.mark.parametrize("tasks", [("target",), ("joystick",), ("joystick", "target")])
def test_it_goes_to_the_place_with_whichever_controller_there_is(tasks: tuple[str, ...]) -> None:
    on = stage(*tasks)
    session = on.begin(0)
    session = replace(session, moving=Moving(session.moving.pose, torch.tensor([[9.0, -4.0, 2.0]])))
    session = on.heed(session, Go(7.0, -6.0))
    nearest = math.inf
    for _ in range(240):
        session, frame = on.tick(session)
        nearest = min(nearest, math.dist(place(session)[:2], (7.0, -6.0)))
        if MODES[frame.mode] == "go":
            assert STEERED_BY[frame.by] == tasks[-1]
    assert nearest <= REACHED
    if "joystick" in tasks:  # it was taught to be slow: it stands as far as it can
        assert isinstance(session.goal, Steer)
        assert session.goal.speed == on.slowest
        assert math.cos(session.goal.heading - place(session)[2]) > 0.99
    else:
        assert session.goal == Go(7.0, -6.0)


def test_who_can_only_go_to_targets_is_steered_by_one_that_stays_ahead() -> None:
    on = stage("target")
    targeter = on.controllers["target"]
    assert isinstance(targeter, Targeter)
    session = on.heed(on.begin(0), Steer(-0.8, 1.0))
    for _ in range(60):
        x, z, _ = place(session)
        session, frame = on.tick(session)
        ahead = (x + AHEAD * math.cos(-0.8), z + AHEAD * math.sin(-0.8))
        assert targeter.asked[-1] == pytest.approx(ahead, abs=1e-4)
        assert (MODES[frame.mode], STEERED_BY[frame.by]) == ("steer", "target")
    assert place(session)[2] == pytest.approx(-0.8, abs=0.05)
    assert on.heed(session, Steer(-0.8, 0.0)).goal == Go(*place(session)[:2])  # stay about here


def test_without_controllers_only_steering_is_refused() -> None:
    on = stage()
    session = ticked(on, on.begin(0), 3)
    for command in (Steer(0.0, 1.0), Go(0.0, 0.0)):
        with pytest.raises(SakiyomiError, match=r"nothing steers.*sakiyomi train"):
            on.heed(session, command)
    assert on.heed(session, Wander()).goal == Wander()
    assert place(on.heed(session, Reset())) == (0.0, 0.0, 0.0)


def test_reset_begins_anew_at_the_origin_and_wanders() -> None:
    on = stage("joystick")
    session = ticked(on, on.heed(on.begin(0), Steer(1.0, 1.0)), 10)
    anew = on.heed(session, Reset())
    assert (place(anew), anew.goal, anew.frame) == ((0.0, 0.0, 0.0), Wander(), 0)


class Breaking(gliding.Gliding):
    """Gives a pose that is none whenever it is turned hard."""

    def __init__(self, bad: float) -> None:
        self.bad = bad

    def decode(self, z: Tensor, pose: Tensor) -> Tensor:
        return super().decode(z, pose) + torch.where(z[:, 1:].abs() > 1.5, self.bad, 0.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e6])
def test_a_character_that_falls_apart_begins_anew_and_says_so(bad: float) -> None:
    on = stage("joystick", character=gliding.gliding(model=Breaking(bad)))
    session = ticked(on, on.heed(on.begin(0), Steer(0.0, 1.0)), 30)
    session, frame = on.tick(on.heed(session, Steer(3.0, 1.0)))
    assert "fell apart" in frame.note
    assert np.isfinite(frame.joints).all()
    assert place(session) == (0.0, 0.0, 0.0)


def test_a_stage_refuses_a_controller_of_another_task() -> None:
    with pytest.raises(SakiyomiError, match=r"unknown task to steer by 'maze'.*joystick, target"):
        Stage("x", gliding.gliding(), {"maze": Stick()})


# ---- messages ----


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "truncated|empty|malformed"),
        ("hello", "malformed"),
        ('{"do": "steer", "heading": NaN, "speed": 1}', "malformed"),
        ('{"do": "steer", "heading": Infinity, "speed": 1}', "malformed"),
        ('{"do": "steer", "heading": 1e999, "speed": 1}', "out of range"),
        ('{"do": "steer", "heading": "north", "speed": 1}', "Expected `float`, got `str`.*heading"),
        ('{"do": "steer", "heading": 1}', "missing required field `speed`"),
        ('{"do": "go", "x": 1, "z": 2, "y": 3}', "unknown field `y`"),
        ('{"do": "dance"}', "Invalid value 'dance'"),
        ("[1, 2]", "Expected `object`, got `array`"),
        ("[" * 400, "Expected `object`"),
        ('{"do": "wander", "x": ' + "[" * 400, "unknown field `x`|truncated"),
        ("x" * (LONGEST + 1), f"a message of {LONGEST + 1} characters; at most {LONGEST}"),
        (None, "binary"),
    ],
)
def test_a_message_that_is_none_is_told_apart_in_one_line(text: str | None, told: str) -> None:
    with pytest.raises(SakiyomiError, match=f"not understood: .*({told})") as raised:
        read_message(text)
    assert "\n" not in str(raised.value)


@given(st.text(max_size=LONGEST + 50) | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_any_text_is_a_message_or_an_error(text: str) -> None:
    with contextlib.suppress(SakiyomiError):
        read_message(text)


@given(st.sampled_from(("heading", "speed", "x", "z")), st.floats(allow_nan=False, allow_infinity=False))
def test_any_finite_number_leaves_a_goal_that_is_kept(name: str, value: float) -> None:
    on = stage("joystick", "target")
    fields = {"heading": 0.0, "speed": 1.0} if name in ("heading", "speed") else {"x": 0.0, "z": 0.0}
    message = {"do": "steer" if "speed" in fields else "go", **fields, name: value}
    heard = read_message(json.dumps(message))
    assert not isinstance(heard, Ping)
    _, frame = on.tick(on.heed(on.begin(0), heard))
    assert np.isfinite(frame.joints).all()
    assert max(map(abs, frame.goal)) <= FARTHEST


@pytest.mark.parametrize(
    ("host", "origin", "served", "expected"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000", "127.0.0.1", True),
        ("localhost:8000", "http://localhost:8000", "127.0.0.1", True),
        ("LOCALHOST:8000", "http://localhost:8000", "127.0.0.1", True),
        ("[::1]:8000", "http://[::1]:8000", "::1", True),
        ("192.168.1.7:8000", "http://192.168.1.7:8000", "0.0.0.0", True),
        ("robot.lan", "https://robot.lan", "robot.lan", True),
        ("evil.example:8000", "http://evil.example:8000", "127.0.0.1", False),  # DNS rebinding
        ("localhost.evil.example", "http://localhost.evil.example", "127.0.0.1", False),
        ("127.0.0.1:8000", "http://evil.example", "127.0.0.1", False),  # another site's page
        ("127.0.0.1:8000", "http://127.0.0.1:9000", "127.0.0.1", False),  # another server of this machine
        ("127.0.0.1:8000", "http://localhost:8000", "127.0.0.1", False),
        ("127.0.0.1:8000", "null", "127.0.0.1", False),
        ("127.0.0.1:8000", "", "127.0.0.1", False),
        ("127.0.0.1:8000", "file://127.0.0.1:8000", "127.0.0.1", False),
        ("", "http://", "127.0.0.1", False),
        ("[::1", "http://[::1", "127.0.0.1", False),
        ("user@127.0.0.1:8000", "http://127.0.0.1:8000", "127.0.0.1", False),
    ],
)
def test_only_our_own_page_is_trusted(host: str, origin: str, served: str, expected: bool) -> None:
    assert trusted(host, origin, served) is expected


# ---- the server ----


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with steering.served(stage("joystick", "target"), Serving(port=0, visitors=3)) as at:
        yield at


def visit(address: str) -> ClientConnection:
    host = address.removeprefix("http://").rstrip("/")
    origin: Any = f"http://{host}"
    return connect(f"ws://{host}/session", origin=origin, compression=None, max_queue=None)


def told(page: ClientConnection, what: str) -> Any:
    """The next message that says so; frames before it are let go."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        message = page.recv(timeout=5)
        if isinstance(message, str) and what in (found := json.loads(message)):
            return found[what]
    raise TimeoutError(what)


def frames(page: ClientConnection, count: int) -> np.ndarray:
    """The next frames, [count, numbers]."""
    found = []
    while len(found) < count:
        message = page.recv(timeout=5)
        if isinstance(message, bytes):
            found.append(np.frombuffer(message, "<f4"))
            page.send(json.dumps({"do": "ping", "at": 0, "seen": int(found[-1][0])}))
    return np.stack(found)


def test_a_visitor_is_greeted_and_gets_frames_at_the_characters_rate(address: str) -> None:
    with visit(address) as page:
        hello = told(page, "hello")
        assert hello["joints"] == list(gliding.SKELETON.names)
        assert hello["parents"] == [-1, 0]
        assert len(hello["bones"]) == len(hello["sides"]) == 2
        assert hello["controllers"] == ["joystick", "target"]
        assert (hello["modes"], hello["steered_by"]) == (list(MODES), list(STEERED_BY))
        frames(page, 3)
        begun = time.monotonic()
        seen = frames(page, 30)
        took = time.monotonic() - begun
        assert 0.6 * RATE < 30 / took < 1.3 * RATE
        assert (np.diff(seen[:, 0]) >= 1).all()
        assert seen[-1, 0] - seen[0, 0] == pytest.approx(took * RATE, abs=4)


def test_each_visitor_steers_a_character_of_his_own(address: str) -> None:
    with visit(address) as one, visit(address) as other:
        assert not np.array_equal(frames(one, 5)[:, 6:], frames(other, 5)[:, 6:])  # they wander each in its own way
        one.send('{"do": "steer", "heading": 1.5, "speed": 1.0}')
        other.send('{"do": "steer", "heading": -1.5, "speed": 1.0}')
        assert frames(one, 45)[-1, 8] == pytest.approx(1.5, abs=0.1)
        assert frames(other, 45)[-1, 8] == pytest.approx(-1.5, abs=0.1)


def test_the_clock_comes_back_and_reset_begins_anew(address: str) -> None:
    with visit(address) as page:
        page.send('{"do": "steer", "heading": 0, "speed": 1.5}')
        assert frames(page, 30)[-1, 6] > 0.5
        page.send('{"do": "reset"}')
        page.send('{"do": "ping", "at": 1234.5, "seen": 40}')
        while told(page, "pong") != 1234.5:
            pass
        assert abs(frames(page, 1)[0, 6]) < 0.2


def test_bad_input_gets_one_error_and_the_session_goes_on(address: str) -> None:
    with visit(address) as page:
        page.send('{"do": "steer", "heading": 0.7, "speed": 1}')
        frames(page, 3)
        bad = ["hello", '{"do": "go", "x": NaN, "z": 0}', b"\x00\x01", '{"do": "dance"}', "x" * 5000]
        for message in bad:
            page.send(message)
            assert "not understood" in told(page, "error")
        page.send('{"do": "ping", "at": 5, "seen": 99}')
        messages = [page.recv(timeout=5) for _ in range(10)]
        assert [m for m in messages if isinstance(m, str)] == ['{"pong":5.0}']  # one error each, no more
        assert frames(page, 25)[-1, 8] == pytest.approx(0.7, abs=0.1)


def test_a_flood_is_slowed_down_and_hurts_no_other_visitor(address: str) -> None:
    with visit(address) as flooding, visit(address) as other:
        frames(other, 3)
        begun = time.monotonic()
        for _ in range(int(3 * MESSAGES)):
            flooding.send('{"do": "steer", "heading": 0.5, "speed": 1}')
        flooding.send('{"do": "ping", "at": 77, "seen": 9999}')
        before = time.monotonic()
        frames(other, 30)
        assert 30 / (time.monotonic() - before) > 0.6 * RATE
        errors = 0
        while (message := flooding.recv(timeout=5)) != '{"pong":77.0}':
            errors += isinstance(message, str) and "messages a second" in message
        assert time.monotonic() - begun > 1.8  # the first MESSAGES pass at once, the others take two seconds
        assert 1 <= errors <= 3
        assert frames(flooding, 5)[-1, 8] == pytest.approx(0.5, abs=0.1)


def test_a_message_larger_than_any_closes_only_its_own_session(address: str) -> None:
    with visit(address) as page, visit(address) as other:
        page.send("x" * (1 << 17))
        with pytest.raises(ConnectionClosed) as closed:
            frames(page, 1000)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
        frames(other, 3)


@pytest.mark.parametrize(
    ("host", "origin", "expected"),
    [("", "", 101), ("", "http://evil.example", 403), ("evil.example", "http://evil.example", 403), ("", "none", 403)],
)
def test_only_our_own_page_gets_a_session(address: str, host: str, origin: str, expected: int) -> None:
    there = address.removeprefix("http://").rstrip("/")
    headers = {
        "Host": host or there,
        "Origin": {"": f"http://{there}", "none": ""}.get(origin, origin),
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    assert answer(address, "/session", {k: v for k, v in headers.items() if v}, until=b"\r\n\r\n")[0] == expected


def test_nothing_but_the_page_is_served(address: str) -> None:
    code, headers, content = fetch(address, "/")
    assert code == 200
    assert content.startswith("<!doctype html>")
    assert "default-src 'none'" in headers
    assert not [word for word in ("http://", "https://", "src=") if word in content]  # it loads nothing
    for path in ("/steer.html", "/session", "/docs", "/openapi.json", "/../serve.py", "/%2e%2e/serve.py", "/static"):
        assert fetch(address, path)[0] == 404
    assert fetch(address, "/", host="evil.example")[0] == 403


def fetch(address: str, path: str, host: str = "") -> tuple[int, str, str]:
    there = address.removeprefix("http://").rstrip("/")
    return answer(address, path, {"Host": host or there, "Connection": "close"})


def answer(address: str, path: str, headers: dict[str, str], until: bytes = b"") -> tuple[int, str, str]:
    """Status, headers and content that a request gets, exactly as written; read to the end, or `until`."""
    name, port = address.removeprefix("http://").rstrip("/").split(":")
    lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
    with sockets.create_connection((name, int(port)), timeout=5) as socket:
        socket.sendall(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
        got = b""
        while not (until and until in got) and (more := socket.recv(1 << 16)):
            got += more
    head, _, content = got.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode(), content.decode(errors="replace")


def test_places_are_limited_and_given_back(address: str) -> None:
    with contextlib.ExitStack() as pages:
        for _ in range(3):
            told(pages.enter_context(visit(address)), "hello")
        late = pages.enter_context(visit(address))
        with pytest.raises(ConnectionClosed) as refused:
            late.recv(timeout=5)
        assert refused.value.rcvd is not None
        assert (refused.value.rcvd.code, refused.value.rcvd.reason) == (FULL, "all 3 places are taken")
    time.sleep(0.2)
    with visit(address) as page:
        told(page, "hello")


def test_who_does_not_say_what_it_saw_gets_no_frames_until_it_does(address: str) -> None:
    with visit(address) as page:
        seen = []
        with contextlib.suppress(TimeoutError):
            for _ in range(200):
                message = page.recv(timeout=1.5 * BEHIND)  # so that now is more than BEHIND after the last frame
                seen += [np.frombuffer(message, "<f4")[0]] if isinstance(message, bytes) else []
        assert BEHIND * RATE - 2 <= seen[-1] <= BEHIND * RATE + 4
        page.send(json.dumps({"do": "ping", "at": 0, "seen": int(seen[-1])}))
        first = frames(page, 10)[0, 0]
        assert first - seen[-1] >= 1.4 * BEHIND * RATE  # time went on


def test_a_visitor_without_a_command_is_let_go() -> None:
    with steering.served(stage("joystick"), Serving(port=0, idle=1.0)) as address, visit(address) as page:
        with pytest.raises(ConnectionClosed) as closed:
            frames(page, 1000)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == IDLE


class Slow(gliding.Gliding):
    """Takes a twelfth of a second for a pose."""

    def decode(self, z: Tensor, pose: Tensor) -> Tensor:
        time.sleep(1 / 12)
        return super().decode(z, pose)


def test_a_slow_machine_leaves_frames_out_and_does_not_lag() -> None:
    slow = stage("joystick", character=gliding.gliding(model=Slow()))
    with steering.served(slow, Serving(port=0)) as address, visit(address) as page:
        first = frames(page, 1)[0, 0]
        begun = time.monotonic()
        seen = frames(page, 12)
        took = time.monotonic() - begun
        assert seen[-1, 0] - first == pytest.approx(took * RATE, abs=4)  # slots keep to the clock
        assert 2 <= np.diff(seen[:, 0]).mean() <= 5


# ---- what can go wrong before ----


def test_a_port_that_is_taken_is_one_error() -> None:
    with sockets.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SakiyomiError, match=f"cannot serve on 127.0.0.1 port {port}: .*--port"):
            server_of(stage(), Serving(port=port))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (Serving(port=70_000), "--port is 70000; it must be at most 65535"),
        (Serving(visitors=0), "--visitors is 0; it must be at least 1"),
        (Serving(idle=math.nan), "--idle is nan"),
        (Serving(seed=-1), "--seed is -1"),
        (Serving(host="no such host"), "cannot serve on no such host"),
    ],
)
def test_options_out_of_range_are_one_error(options: Serving, told: str) -> None:
    with pytest.raises(SakiyomiError, match=told):
        server_of(stage(), options)


@pytest.mark.parametrize("library", ["fastapi", "websockets", "uvicorn"])
def test_a_library_that_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)  # what Python does for one that is not installed
    with pytest.raises(SakiyomiError, match=rf"cannot be served \(.*{library}.*pip install 'sakiyomi\[serve\]'"):
        server_of(stage(), Serving(port=0))


def test_what_is_said_first_is_json() -> None:
    hello = json.loads(msgspec.json.encode({"hello": stage("joystick").hello()}))["hello"]
    assert hello["rate"] == RATE
    assert hello["walking"] < hello["running"]
    assert application(stage(), Serving()) is not None


# ---- the page, in a browser ----


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    if steering.cannot():
        pytest.skip(steering.cannot())
    with steering.chromium() as opened:
        yield opened


def test_the_page_draws_thirty_frames_a_second_without_complaint(browser: "Browser", address: str) -> None:
    with steering.opened(browser, address) as found:
        record = steering.measure(found, 2.5)
    if record.frames_s < 30 and (share := steering.core_share()) < 0.8:
        pytest.skip(f"others are using the machine: {share:.0%} of a core, {record.frames_s:.0f} frames/s")
    assert record.frames_s >= 30
    assert 0.7 * RATE < record.poses_s < 1.2 * RATE
    assert record.walked / record.seconds > 0.5
    assert record.off_heading == pytest.approx(0, abs=5)
    assert record.complaints == ()


def test_the_page_steers_by_keys_and_clicks(browser: "Browser", address: str, tmp_path: Path) -> None:
    with steering.opened(browser, address) as found:
        page = found.page
        assert page.evaluate("sakiyomi.mode") == "wander"
        yaw = page.evaluate("sakiyomi.camera.yaw")
        page.keyboard.down("d")  # to the right of where the camera looks
        steering.wait_until(page, f"Math.cos(sakiyomi.facing - {yaw + math.pi / 2}) > 0.999")
        before = page.evaluate("sakiyomi")
        page.wait_for_timeout(500)
        after = page.evaluate("sakiyomi")
        assert (after["mode"], after["by"]) == ("steer", "joystick")
        assert after["goal"][0] == pytest.approx(yaw + math.pi / 2, abs=0.01)
        (x, z), (u, v) = before["place"], after["place"]
        assert math.cos(math.atan2(v - z, u - x) - after["goal"][0]) > 0.99
        page.keyboard.down("Shift")
        steering.wait_until(page, f"sakiyomi.goal[1] > {after['goal'][1]} + 0.1")
        page.keyboard.up("Shift")
        page.keyboard.up("d")
        steering.wait_until(page, f"sakiyomi.goal[1] < {after['goal'][1]} - 0.1")

        x, z = page.evaluate("sakiyomi.place")
        there = (x + 0.8, z - 0.8)
        pixel = page.evaluate(f"sakiyomi.project({there[0]}, 0, {there[1]})")
        page.mouse.click(pixel["x"], pixel["y"])
        steering.wait_until(page, "sakiyomi.mode === 'go'")
        assert page.evaluate("sakiyomi.by") == "target"
        assert math.dist(page.evaluate("sakiyomi.goal"), there) < 0.3  # the camera went on between the two
        steering.wait_until(page, "sakiyomi.mode === 'steer'")  # arrived
        assert math.dist(page.evaluate("sakiyomi.place"), there) <= REACHED + 0.3

        page.keyboard.press("r")
        steering.wait_until(page, "sakiyomi.mode === 'wander' && Math.hypot(...sakiyomi.place) < 1")
        page.screenshot(path=tmp_path / "page.png")
        assert len(np.unique(np.asarray(Image.open(tmp_path / "page.png").convert("RGB")).reshape(-1, 3), axis=0)) > 100
        assert found.complaints == []


def test_a_drag_turns_the_camera_and_does_not_steer(browser: "Browser", address: str) -> None:
    with steering.opened(browser, address) as found:
        page = found.page
        yaw = page.evaluate("sakiyomi.camera.yaw")
        page.mouse.move(700, 500)
        page.mouse.down()
        page.mouse.move(900, 520, steps=5)
        page.mouse.up()
        page.mouse.wheel(0, 300)
        steering.wait_until(page, "sakiyomi.camera.zoom > 1.1")
        now = page.evaluate("sakiyomi")
        assert now["camera"]["yaw"] - yaw == pytest.approx(0.006 * 200, abs=0.01)
        assert now["mode"] == "wander"
        assert found.complaints == []


def test_without_a_controller_the_page_wanders_and_says_that_nothing_steers(browser: "Browser") -> None:
    with (
        steering.served(stage(), Serving(port=0)) as address,
        steering.opened(browser, address, "dark") as found,
    ):
        page = found.page
        assert "nothing steers" in page.inner_text("#hint")
        before = page.evaluate("sakiyomi.place")
        page.keyboard.press("w")
        page.wait_for_timeout(400)
        after = page.evaluate("sakiyomi")
        assert after["mode"] == "wander"
        assert math.dist(before, after["place"]) > 0.05
        assert "Nothing steers" in page.inner_text("#note")
        assert found.complaints == []


def test_the_page_says_when_the_connection_is_lost_and_comes_back(browser: "Browser") -> None:
    with contextlib.ExitStack() as page_open:
        with steering.served(stage("joystick"), Serving(port=0)) as address:
            found = page_open.enter_context(steering.opened(browser, address))
        steering.wait_until(found.page, "!sakiyomi.connected")
        assert "Connection lost" in found.page.inner_text("#banner")
        drawn = found.page.evaluate("sakiyomi.drawn")
        with steering.served(stage("joystick"), Serving(port=int(address.rstrip("/").rsplit(":", 1)[1]))):
            steering.wait_until(
                found.page, "sakiyomi.connected && sakiyomi.sessions === 2 && sakiyomi.latency !== null"
            )
            assert not found.page.is_visible("#banner")
            assert found.page.evaluate("sakiyomi.drawn") > drawn
        assert all("WebSocket" in said for said in found.complaints)  # the browser's own, while nobody answered


def test_a_page_that_was_let_go_begins_again_at_a_key(browser: "Browser") -> None:
    with (
        steering.served(stage("joystick"), Serving(port=0, idle=1.0)) as address,
        steering.opened(browser, address) as found,
    ):
        steering.wait_until(found.page, "!sakiyomi.connected")
        assert "Still there?" in found.page.inner_text("#banner")
        found.page.keyboard.press("x")
        steering.wait_until(found.page, "sakiyomi.connected && sakiyomi.sessions === 2")
        assert found.complaints == []
