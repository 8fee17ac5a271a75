"""A page on which a character is steered, `sakiyomi serve NAME`: drawn in the browser, moved by the model here.

    sakiyomi serve target-walker
    sakiyomi serve target-walker --port 0 --visitors 2

Every visitor has a session of its own: `Stage` knows what all share and has no state, a `Session` is all that one
character is; `heed` and `tick` take one and give the next. The server ticks at the character's rate. What goes over
the websocket:

    to the server, JSON      {"do": "steer", "heading": rad, "speed": m/s}   {"do": "go", "x": m, "z": m}
                             {"do": "wander"}   {"do": "reset"}   {"do": "ping", "at": ms, "seen": slot}
    to the page, JSON        {"hello": {...}} first; {"pong": ms}; {"note": text}; {"error": text}
    to the page, Float32     slot, ms of this tick, mode (MODES), by (STEERED_BY), its two goal numbers, x, z, facing,
                             then x, y, z of every joint

A slot is a tick's number by the clock: where the machine was too slow, slots are left out, and nothing lags. A page
that is more than BEHIND seconds behind what it was sent gets no frames until it has caught up.
"""

import asyncio
import math
import socket as sockets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import resources
from typing import TYPE_CHECKING, Protocol

import msgspec
import numpy as np
import torch
from torch import Tensor

from sakiyomi.errors import LARGEST_SEED, SakiyomiError, at_least, unknown
from sakiyomi.motion.character import Character, Moving
from sakiyomi.page import HEADERS, need_libraries, server_for, trusted
from sakiyomi.run import console, set_threads
from sakiyomi.views.motion import body
from sakiyomi.worlds.joystick import Joystick

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI, WebSocket

MODES = ("wander", "steer", "go")
STEERED_BY = ("nothing", "joystick", "target")
REACHED = 0.5  # m from where it was to go: there
AHEAD = 3.0  # m: who can only go to targets is steered by one that stays so far ahead
FARTHEST = 50.0  # m from the character: nobody is sent further at once
WALK = 0.45  # of the way from the slowest to the fastest speed
APART = 2.0  # a pose so many times further from the mean than any recorded one has fallen apart
LONGEST = 500  # characters of a message
MESSAGES = 60.0  # of a visitor in a second; more wait
BEHIND = 1.0  # s
IDLE, FULL = 4000, 1013  # why a websocket is closed


class Steer(msgspec.Struct, frozen=True, tag_field="do", tag="steer", forbid_unknown_fields=True):
    """Hold a heading (rad, in the world) and a speed (m/s)."""

    heading: float
    speed: float


class Go(msgspec.Struct, frozen=True, tag_field="do", tag="go", forbid_unknown_fields=True):
    """Go to a place on the ground, m."""

    x: float
    z: float


class Wander(msgspec.Struct, frozen=True, tag_field="do", tag="wander", forbid_unknown_fields=True):
    """Do what you like: z ~ N(0, 1)."""


class Reset(msgspec.Struct, frozen=True, tag_field="do", tag="reset", forbid_unknown_fields=True):
    """Begin anew at the origin."""


class Ping(msgspec.Struct, frozen=True, tag_field="do", tag="ping", forbid_unknown_fields=True):
    """The page's clock, given back, and the last slot it has got."""

    at: float
    seen: int


Command = Steer | Go | Wander | Reset


class Acts(Protocol):
    """What steers: a `control.Controller`."""

    def act(self, moving: Moving, goal: dict[str, Tensor]) -> Tensor:
        """z [B, Z] for characters that are to reach their goals."""
        ...


@dataclass(frozen=True)
class Serving:
    """Where and for whom the page is."""

    host: str = "127.0.0.1"
    """Address to listen on; with any but this machine's own, whoever reaches it can steer."""
    port: int = 8000
    """Port to listen on; 0 takes one that is free."""
    visitors: int = 8
    """Pages open at once, at most."""
    idle: float = 600.0
    """s without a command after which a page is let go."""
    seed: int = 0
    """Seed of where characters begin and how they wander; each visitor adds one."""


@dataclass(frozen=True)
class Session:
    """One visitor's character."""

    moving: Moving
    """B = 1."""
    goal: Steer | Go | Wander
    """What it is doing."""
    frame: int
    """Ticks since it began."""
    seed: int


@dataclass(frozen=True)
class Frame:
    """What a page draws."""

    mode: int
    """Index into MODES."""
    by: int
    """Index into STEERED_BY."""
    goal: tuple[float, float]
    """Heading and speed, or x and z; zeros of one that wanders."""
    place: tuple[float, float, float]
    """x and z in m, facing in rad."""
    joints: np.ndarray
    """World positions, m, float32 [J, 3]."""
    note: str = ""
    """Something to tell."""

    def packed(self, slot: int, ms: float) -> bytes:
        """As it goes over the wire (see the top of this file)."""
        head = (slot, ms, self.mode, self.by, *self.goal, *self.place)
        return np.concatenate((np.array(head, "<f4"), self.joints.astype("<f4").ravel())).tobytes()


class Stage:
    """What all visitors share. `controllers`: task name ("joystick", "target") -> what steers it there; either will
    do for both ways of steering, none leaves a random walk."""

    def __init__(self, name: str, character: Character, controllers: Mapping[str, Acts]) -> None:
        for task in controllers:
            if task not in STEERED_BY[1:]:
                raise unknown("task to steer by", task, STEERED_BY[1:])
        self.name, self.character, self.controllers = name, character, dict(controllers)
        joystick = Joystick(Joystick.Config(), character)
        self.slowest, self.fastest = joystick.slowest, joystick.fastest
        self.walking = self.slowest + WALK * (self.fastest - self.slowest)
        self.farthest = APART * float(character.starts.abs().max())

    def begin(self, seed: int) -> Session:
        """A character at the origin that wanders."""
        generator = torch.Generator(self.character.device).manual_seed(seed % LARGEST_SEED)
        return Session(self.character.start(1, generator), Wander(), 0, seed)

    def heed(self, session: Session, command: Command) -> Session:
        """Take a command, its numbers brought within what there is. Raises SakiyomiError where nothing steers."""
        if isinstance(command, Reset):
            return self.begin(session.seed + 1)
        if not self.controllers and not isinstance(command, Wander):
            raise SakiyomiError("nothing steers: no controller was given; train one: sakiyomi train target-walker")
        x, z, _ = session.moving.place[0].tolist()
        if isinstance(command, Steer):
            if command.speed <= 0 and "joystick" not in self.controllers:
                return replace(session, goal=Go(x, z))  # it can only stay about where it is
            speed = min(max(command.speed, self.slowest), self.fastest)
            command = Steer(math.remainder(command.heading, 2 * math.pi), speed)
        elif isinstance(command, Go):
            command = Go(_within(command.x, x - FARTHEST, x + FARTHEST), _within(command.z, z - FARTHEST, z + FARTHEST))
        return replace(session, goal=command)

    @torch.inference_mode()
    def tick(self, session: Session) -> tuple[Session, Frame]:
        """One frame on."""
        by, z = self._latent(session)
        moving = self.character.next(session.moving, z)
        if not bool(moving.pose.abs().max() <= self.farthest):  # so written that NaN is apart
            session = replace(self.begin(session.seed + 1), goal=session.goal)
            frame = self._frame(session, by)
            return session, replace(frame, note="the pose fell apart; the character began anew")
        session = replace(session, moving=moving, goal=self._after(session.goal, moving), frame=session.frame + 1)
        return session, self._frame(session, by)

    def _latent(self, session: Session) -> tuple[str, Tensor]:
        """What steers, and its z [1, Z]."""
        moving, goal = session.moving, session.goal
        x, z, _ = moving.place[0].tolist()
        if isinstance(goal, Steer):
            if "joystick" in self.controllers:
                return self._act("joystick", moving, speed=[goal.speed], heading=[goal.heading])
            ahead = [x + AHEAD * math.cos(goal.heading), z + AHEAD * math.sin(goal.heading)]
            return self._act("target", moving, target=[ahead])
        if isinstance(goal, Go):
            if "target" in self.controllers:
                return self._act("target", moving, target=[[goal.x, goal.z]])
            speed = _within(math.dist((x, z), (goal.x, goal.z)), self.slowest, self.walking)
            return self._act("joystick", moving, speed=[speed], heading=[math.atan2(goal.z - z, goal.x - x)])
        # Drawn from seed and frame, so that a session is its record and nothing else.
        noise = np.random.default_rng((session.seed, session.frame)).standard_normal((1, self.character.latent))
        return "nothing", torch.from_numpy(noise).float().to(self.character.device)

    def _act(self, task: str, moving: Moving, **goal: list) -> tuple[str, Tensor]:
        told = {name: torch.tensor(value, device=self.character.device) for name, value in goal.items()}
        return task, self.controllers[task].act(moving, told)

    def _after(self, goal: Steer | Go | Wander, moving: Moving) -> Steer | Go | Wander:
        """Who has arrived stands, as far as it was taught to."""
        x, z, facing = moving.place[0].tolist()
        if isinstance(goal, Go) and "joystick" in self.controllers and math.dist((x, z), (goal.x, goal.z)) <= REACHED:
            return Steer(math.remainder(facing, 2 * math.pi), self.slowest)
        return goal

    def _frame(self, session: Session, by: str) -> Frame:
        mode, numbers = "wander", (0.0, 0.0)
        if isinstance(session.goal, Steer):
            mode, numbers = "steer", (session.goal.heading, session.goal.speed)
        elif isinstance(session.goal, Go):
            mode, numbers = "go", (session.goal.x, session.goal.z)
        x, z, facing = session.moving.place[0].tolist()
        joints = self.character.joints(session.moving)[0].float().cpu().numpy()
        return Frame(MODES.index(mode), STEERED_BY.index(by), numbers, (x, z, facing), joints)

    def hello(self) -> dict[str, object]:
        """What a page needs to know before the first frame."""
        skeleton = self.character.skeleton
        look = body(skeleton)
        return {
            "name": self.name,
            "rate": self.character.rate,
            "joints": skeleton.names,
            "parents": skeleton.parents,
            "feet": [skeleton.names.index(foot) for foot in skeleton.feet],
            "sides": look.sides,
            "bones": look.bones,
            "trunk": look.trunk,
            "head": look.head,
            "head_radius": look.head_radius,
            "modes": MODES,
            "steered_by": STEERED_BY,
            "controllers": sorted(self.controllers),
            "walking": self.walking,
            "running": self.fastest,
        }


def read_message(text: str | None) -> Command | Ping:
    """A visitor's message. Raises SakiyomiError, in one line, for anything that is none."""
    if text is None:
        raise SakiyomiError("not understood: messages are JSON text, this one is binary")
    if len(text) > LONGEST:
        raise SakiyomiError(f"not understood: a message of {len(text)} characters; at most {LONGEST}")
    try:
        return msgspec.json.decode(text, type=Steer | Go | Wander | Reset | Ping)
    except msgspec.DecodeError as error:
        raise SakiyomiError(f'not understood: {error}; expected {{"do": steer, go, wander, reset or ping}}') from error


class Visitor:
    """One open page: what it says is heeded, its character goes on, its frames are sent."""

    def __init__(self, socket: "WebSocket", stage: Stage, options: Serving, seed: int) -> None:
        self.socket, self.stage, self.options = socket, stage, options
        self.session = stage.begin(seed)
        self.sent, self.seen, self.heard = 0, 0, time.monotonic()
        self.allowance, self.counted, self.told = MESSAGES, time.monotonic(), -math.inf

    async def stay(self) -> None:
        """Until the page is gone, or let go."""
        await self.tell(hello=self.stage.hello())
        tasks = [asyncio.create_task(self.listen()), asyncio.create_task(self.play())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def listen(self) -> None:
        """Read as fast as MESSAGES allows; the rest waits on the sender's side."""
        while True:
            message = await self.socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            await self._hold_back()
            try:
                heard = read_message(message.get("text"))
                if isinstance(heard, Ping):
                    self.seen = min(heard.seen, self.sent)
                    await self.tell(pong=heard.at)
                else:
                    self.session = self.stage.heed(self.session, heard)
                    self.heard = time.monotonic()
            except SakiyomiError as error:
                await self.tell(error=str(error))

    async def play(self) -> None:
        """Tick by the clock; a tick that would be late by a whole period is left out."""
        period = 1 / self.stage.character.rate
        begun, slot = time.monotonic(), 0
        while time.monotonic() - self.heard < self.options.idle:
            slot = max(slot + 1, math.floor((time.monotonic() - begun) / period))
            await asyncio.sleep(max(0.0, begun + slot * period - time.monotonic()))
            started = time.perf_counter()
            self.session, frame = self.stage.tick(self.session)
            ms = 1e3 * (time.perf_counter() - started)
            if (self.sent - self.seen) * period <= BEHIND:
                self.sent = slot
                await self.socket.send_bytes(frame.packed(slot, ms))
            if frame.note:
                await self.tell(note=frame.note)
        await self.socket.close(IDLE, f"no command for {self.options.idle:g} s")

    async def tell(self, **message: object) -> None:
        await self.socket.send_text(msgspec.json.encode(message).decode())

    async def _hold_back(self) -> None:
        now = time.monotonic()
        self.allowance = min(MESSAGES, self.allowance + (now - self.counted) * MESSAGES) - 1
        self.counted = now
        if self.allowance < 0:
            if now - self.told > 1:
                self.told = now
                await self.tell(error=f"more than {MESSAGES:g} messages a second; the rest waits")
            await asyncio.sleep(-self.allowance / MESSAGES)


def application(stage: Stage, options: Serving) -> "FastAPI":
    """The page and its websocket. Raises SakiyomiError where the libraries for it are not installed."""
    need_libraries()
    from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    page = resources.files("sakiyomi.views").joinpath("steer.html").read_bytes()
    visitors: set[int] = set()
    count = 0

    @app.get("/")
    async def steer(request: Request) -> Response:
        host = request.headers.get("host", "")
        if not trusted(host, f"http://{host}", options.host):
            return Response("This page is asked for by its own address only.\n", 403, media_type="text/plain")
        return Response(page, headers=HEADERS, media_type="text/html")

    @app.websocket("/session")
    async def session(socket: WebSocket) -> None:
        nonlocal count
        if not trusted(socket.headers.get("host", ""), socket.headers.get("origin", ""), options.host):
            await socket.close()  # before it was accepted: answered with 403
            return
        await socket.accept()
        if len(visitors) >= options.visitors:
            await socket.close(FULL, f"all {options.visitors} places are taken")
            return
        count += 1
        number = count
        visitors.add(number)
        try:
            await Visitor(socket, stage, options, options.seed + number).stay()
        except WebSocketDisconnect:
            pass  # gone in the middle of a frame
        finally:
            visitors.discard(number)

    return app


def server_of(stage: Stage, options: Serving) -> "tuple[uvicorn.Server, sockets.socket, str]":
    """A server that is not running yet, the socket it is to be run on, and the page's address. Raises SakiyomiError
    for an address that cannot be had."""
    at_least("--visitors", options.visitors, 1)
    at_least("--idle", options.idle, 1)
    at_least("--seed", options.seed, 0)
    return server_for(application(stage, options), options.host, options.port)


def serve(stage: Stage, options: Serving) -> None:
    """Serve the page until Ctrl-C."""
    server, socket, address = server_of(stage, options)
    set_threads(1)  # a character alone is too small a matter to be shared between cores
    by = " and ".join(f"the {task} controller" for task in sorted(stage.controllers)) or "nothing: a random walk"
    console.print(f"{stage.name}, steered by {by}: {address}  (Ctrl-C ends)", markup=False, soft_wrap=True)
    with suppress(KeyboardInterrupt):
        server.run(sockets=[socket])


def _within(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
