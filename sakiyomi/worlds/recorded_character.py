"""A character as a device of the recorder: it walks about as a model of motion has learned, and goes where it is told.

    sakiyomi prepare record joystick-walker --drive keyboard --out data/steered
    sakiyomi prepare record walk --drive expert --seconds 20 --episodes 10 --out data/wandered

The stream `pose` is that of stores of motion capture, so that a model of motion learns from these, too. The script
turns to a new heading every few seconds; a character that nothing steers wanders.
"""

import math
from collections.abc import Callable

import msgspec
import numpy as np

from sakiyomi.data.episodes import Stream
from sakiyomi.data.sources import Shown
from sakiyomi.errors import SakiyomiError
from sakiyomi.keys import Keys
from sakiyomi.serve import Session, Stage, Steer
from sakiyomi.worlds.recorded import Recorded

TURN, FASTER = math.radians(15), 0.1  # rad and m/s for each press of a key
HOLD = (2.0, 6.0)  # s that the script holds a heading
MOVES = {
    **dict.fromkeys(("a", "left"), (-1, 0)),
    **dict.fromkeys(("d", "right"), (1, 0)),
    **dict.fromkeys(("w", "up"), (0, 1)),
    **dict.fromkeys(("s", "down"), (0, -1)),
}


def recorded_character(stage: Stage) -> Recorded:
    """Streams: `pose` as motion/layout.py has it; `place` x, z in m and facing in rad; `goal` heading in rad and speed
    in m/s, zeros while it wanders."""
    names, rate = stage.character.layout.names, stage.character.rate

    def expert(random: np.random.Generator, number: int) -> Shown:
        held = 0

        def steered(session: Session) -> Session:
            nonlocal held
            held -= 1
            if held > 0 or not stage.controllers:
                return session
            held = round(float(random.uniform(*HOLD)) * rate)
            heading, speed = random.uniform(-math.pi, math.pi), random.uniform(stage.slowest, stage.fastest)
            return stage.heed(session, Steer(float(heading), float(speed)))

        return _shown(stage, int(random.integers(2**31)), steered, lambda: False)

    def keyed(random: np.random.Generator, number: int, keys: Keys, over: Callable[[], bool]) -> Shown:
        if not stage.controllers:
            raise SakiyomiError("nothing steers this character: sakiyomi train joystick-walker, or --drive expert")
        return _shown(stage, int(random.integers(2**31)), lambda session: by_keys(stage, session, keys), over)

    return Recorded(
        stage,
        {
            "pose": Stream("motion", (len(names),), "float32", rate, "m, rad, s", names),
            "place": Stream("pose", (3,), "float32", rate, "m; facing rad", ("x", "z", "facing")),
            "goal": Stream("scalar", (2,), "float32", rate, "rad; m/s", ("heading", "speed")),
        },
        {"source": "record character", "skeleton": msgspec.to_builtins(stage.character.skeleton)},
        rate,
        expert,
        keyed,
        "left right or a d: turn; up down or w s: faster, slower",
    )


def by_keys(stage: Stage, session: Session, keys: Keys) -> Session:
    """Steered on from its heading and speed, or at first from where it faces."""
    moves = [MOVES[key] for key in keys.take(MOVES)]
    if isinstance(session.goal, Steer):
        heading, speed = session.goal.heading, session.goal.speed
    else:
        heading, speed = session.moving.place[0, 2].item(), stage.walking
    turn, faster = np.sum(moves, axis=0).tolist() if moves else (0, 0)
    return stage.heed(session, Steer(heading + TURN * turn, max(speed + FASTER * faster, 1e-3)))


def _shown(stage: Stage, seed: int, steered: Callable[[Session], Session], over: Callable[[], bool]) -> Shown:
    """One episode, until it is over or its pose falls apart, which is a failure."""
    session, start = stage.begin(seed), None
    while not over():
        session, frame = stage.tick(steered(session))
        if frame.note:
            return {"success": False, "note": frame.note}
        start = frame.place if start is None else start
        goal = (session.goal.heading, session.goal.speed) if isinstance(session.goal, Steer) else (0.0, 0.0)
        yield {
            "pose": stage.character.physical(session.moving.pose[0]).numpy(force=True).astype(np.float32),
            "place": np.array(frame.place, np.float32),
            "goal": np.array(goal, np.float32),
        }
    return {"file": "", "start": list(start or ()), "mirrored": False}
