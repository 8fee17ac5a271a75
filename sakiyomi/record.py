"""Verb 1, live: `sakiyomi prepare record WHAT --out STORE` writes episodes of a world or a device as they happen.

    sakiyomi prepare record pick --drive expert --episodes 20 --out data/mine
    sakiyomi prepare record my_robot.py:frames --rate 30 --episodes 20 --task "fold the towel" --out data/mine
    sakiyomi prepare record --command "python camera.py" --out data/mine

The same command again goes on where the last one stopped, however it ended. What a device is: data/feeds.py; how
episodes are kept safe: data/recorder.py.
"""

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from sakiyomi.data.devices import PATIENCE, Device, DeviceGone, End
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.feeds import command_device, function_device
from sakiyomi.data.formats.csv_table import many
from sakiyomi.data.recorder import BadSample, Recorder, Sample, locked
from sakiyomi.errors import SakiyomiError, at_least, at_most, unknown
from sakiyomi.keys import Keys
from sakiyomi.run import Interrupted, console, finish_step_on_interrupt

WORLDS = ("pick", "push")
SPLITS = ("train", "validation", "test")
PATIENT = 10  # bad samples without a good one in between after which the recording ends
# Keys while an episode is recorded, and what they decide; `None` only ends the recording.
SAVED, DROPPED, STOPPED = "enter", "backspace", "q"
KEEPING, DROPPING = {"enter", "space"}, {"backspace", "d"}  # when asked


@dataclass(frozen=True)
class Record:
    """Record episodes live. Enter ends an episode and keeps it, Backspace ends and discards it, q stops."""

    what: tyro.conf.Positional[str] = ""
    """A world (pick, push); the run of a character or of what steers it (walk, target-walker); or a function that
    yields samples, module:function or path/to/file.py:function."""
    out: str = "data/recorded"
    """Folder of the episode store; an existing one is gone on with."""
    command: str = ""
    """Instead of a world or function: a program that writes its samples to standard output, one line of JSON each."""
    drive: Literal["keyboard", "expert"] = "keyboard"
    """Who drives a world: you, or its script. Keys move the tool over the table (arrows or w a s d), up and down (r f),
    open and close the gripper (pick: space) or turn the rod (push: z c); a character they turn to its left and right,
    and make faster and slower. Each press is a small step; hold the key to go on."""
    episodes: int = 0
    """Episodes the store is to hold in the end, those that are in it already included; 0: until stopped."""
    seconds: float = 0.0
    """An episode ends after so many seconds; 0: when its device or a key says so."""
    rate: float = 0.0
    """Hz. A function is asked for a sample so often, a world ticks so often by the clock on the wall; 0: as fast as the
    function yields, a world at its own pace for the keyboard, as fast as it goes for its script."""
    keep: Literal["ask", "success", "all"] = "ask"
    """Which episodes are kept where neither a key nor the device says. ask: Enter or space keeps, Backspace or d
    discards (without a terminal as success); success: those not said to have failed; all: also those that failed or
    were cut off."""
    task: str = ""
    """What is done in these episodes, in words; kept in each one's meta."""
    split: str = ""
    """Split of the episodes: train, validation or test; if not given they are shared out between the first two."""
    validation: float = 0.1
    """Share of episodes for the validation split; the second one is the first of them."""
    timeout: float = 5.0
    """A device that sends nothing for so many seconds is gone."""
    image_size: int = 64
    """Height and width of a world's pictures."""
    seed: int = 0
    """Seed of what is drawn in a world."""
    recover: bool = False
    """Keep what is left of an episode that a crash cut off, before going on; with neither a world nor a device named,
    nothing else is done."""


def record(args: Record) -> EpisodeStore | None:
    """Record until there are enough episodes, the device has no more, or somebody stops it; returns the finished store,
    or nothing when it has no episode.

    Raises SakiyomiError when the device failed or the disk is full (what was kept is whole and told), and with status
    130 after Ctrl-C; SIGTERM and a terminal that is closed do the same.
    """
    _check(args)
    out = Path(args.out)
    with _ended_in_order(), locked(out), Keys(sys.stdin) as keys:
        if args.recover and not args.what and not args.command:
            there = EpisodeStore(out, allow_empty=True)
            with Recorder(out, there.streams, there.origin, args.split, args.validation) as recorder:
                _tell_remains(recorder, args)
                return _finished(recorder, out, None, False)
        with (
            contextlib.closing(_opened(args, keys)) as device,
            Recorder(out, device.streams, device.origin, args.split, args.validation) as recorder,
            finish_step_on_interrupt() as interrupt,
        ):
            _tell_remains(recorder, args)
            device.resume([entry.meta for entry in recorder.entries])
            problem: SakiyomiError | None = None
            try:
                Session(args, device, recorder, keys, lambda: interrupt["asked"]).run()
            except SakiyomiError as error:
                problem = error
            return _finished(recorder, out, problem, interrupt["asked"])


class Session:
    """The recording as it goes: which episode begins and ends when, and what becomes of it."""

    def __init__(
        self, args: Record, device: Device, recorder: Recorder, keys: Keys, stopped: Callable[[], bool]
    ) -> None:
        self.args, self.device, self.recorder, self.keys, self._stopped = args, device, recorder, keys, stopped
        self._key: str = ""  # what was pressed to end the episode in progress
        self._fragment = False  # its beginning was lost with a bad sample
        self._marks = False  # the device says where episodes end
        self._quit = False
        self._bad = 0

    def run(self) -> None:
        """Raises DeviceGone when the device failed or ended too early, other SakiyomiErrors when the disk refuses."""
        if self._enough():
            return
        if self.keys.there:
            _say("Enter ends an episode and keeps it, Backspace ends and discards it, q stops")
        try:
            for event in self.device.events():
                if isinstance(event, BadSample):
                    self._refuse(event)
                elif isinstance(event, Sample):
                    self._take(event)
                elif isinstance(event, End):
                    self._marks = self._marks or not self._key
                    self._end(event, marked=not self._key)
                if self._enough() or self._look():
                    return self._end(End(), cut=True)
        except DeviceGone:
            self._end(End(), cut=True)
            raise
        self._end(End(), cut=self._marks)
        if self.args.episodes and not self._enough():
            raise DeviceGone(f"the device has no more after {self.recorder.count} of {self.args.episodes} episodes")

    def _take(self, sample: Sample) -> None:
        began = not self.recorder.recording
        try:
            self.recorder.add(sample)
        except BadSample as error:
            self._refuse(error)
            return
        self._bad = 0
        if began and self.keys.there:
            _say(f"episode {self.recorder.count}: recording")
        if self.args.seconds and self.recorder.seconds >= self.args.seconds - 1e-9 and not self._key:
            self._ask_to_end("time")

    def _look(self) -> bool:
        """What is pressed meanwhile; true to stop."""
        if self._stopped() or self._quit:
            return True
        for key in self.keys.take((SAVED, DROPPED, STOPPED)):
            if key == STOPPED:
                return True
            if self.recorder.recording:
                self._ask_to_end(key)
        return False

    def _ask_to_end(self, key: str) -> None:
        self._key = key
        self.device.end()

    def _refuse(self, error: BadSample) -> None:
        """A bad sample ends the episode, and what follows it is none that begins where one should."""
        self._bad += 1
        if self._bad > PATIENT:
            raise DeviceGone(f"{PATIENT} bad samples one after the other; the last one: {error}")
        if self._bad == 1:
            _say(f"bad sample: {error}")
        if self.recorder.recording:
            self._end(End(), cut=True)
        self._fragment = True

    def _end(self, end: End, cut: bool = False, marked: bool = False) -> None:
        """End the episode in progress, if there is one, and keep it or not. `marked`: the device said where it ends."""
        key, self._key = self._key, ""
        cut, self._fragment = cut or (self._fragment and marked), self._fragment and not marked and not key
        if not self.recorder.recording:
            return
        seconds, paces = self.recorder.seconds, self.recorder.paces()
        _say(f"episode {self.recorder.count}: {seconds:.1f} s")
        for told in dict.fromkeys(map(str, paces.values())):  # streams that came together are told together
            _say(f"  {', '.join(name for name, pace in paces.items() if str(pace) == told)}: {told}")
        if told := self.device.told():
            _say(f"  {told}")
        meta: dict[str, Any] = {**end.meta, "recorded": self.args.what or self.args.command}
        if self.args.task:
            meta["task"] = self.args.task
        if cut:
            meta["cut"] = True
        if not self._kept(end, key, cut):
            self.recorder.discard()
            _say("  discarded" + (" (cut off; --keep all would keep it)" if cut else ""))
            return
        try:
            entry = self.recorder.keep(meta)
        except BadSample as error:
            _say(f"  discarded: {error}")
            return
        of = f" of {self.args.episodes}" if self.args.episodes else ""
        _say(f"  kept as {entry.id}, split {entry.split}; {self.recorder.count}{of} in the store")

    def _kept(self, end: End, key: str, cut: bool) -> bool:
        if self.args.keep == "all" and key != DROPPED:
            return True
        if cut:
            return False
        if key in (SAVED, DROPPED):
            return key == SAVED
        if end.keep is not None:
            return end.keep
        if self.args.keep == "ask" and self.keys.there:
            return self._asked()
        return end.meta.get("success", True) is not False

    def _asked(self) -> bool:
        """What somebody at the keys says; who stops instead of answering does not keep it."""
        _say("  keep it? Enter or space: yes; Backspace or d: no; q: no, and stop")
        self.keys.forget()
        while not self._stopped():
            pressed = self.keys.take({*KEEPING, *DROPPING})
            goes_on = self.device.skip()
            self._fragment = self._fragment if goes_on is None else goes_on
            if pressed:
                return pressed[0] in KEEPING
            if self.keys.take({STOPPED}) or not self.keys.there:
                self._quit = True
                break
            time.sleep(PATIENCE)
        return False

    def _enough(self) -> bool:
        return 0 < self.args.episodes <= self.recorder.count


def _check(args: Record) -> None:
    for name in ("episodes", "seconds", "rate", "seed"):
        at_least(f"--{name}", getattr(args, name), 0)
    at_least("--validation", args.validation, 0)
    at_most("--validation", args.validation, 0.9)
    if args.split and args.split not in SPLITS:
        raise unknown("split", args.split, SPLITS)
    if not args.timeout > 0:
        raise SakiyomiError(f"--timeout is {args.timeout:g} s; it must be more than 0")
    if args.what and args.command:
        raise SakiyomiError(f"{args.what!r} and --command were both given; record one of them")
    if not args.what and not args.command and not args.recover:
        raise SakiyomiError(f"name what to record: {', '.join(WORLDS)}, path/to/file.py:function, or --command PROGRAM")
    if args.command and args.rate:
        raise SakiyomiError("--rate is for functions and worlds; a program sends at its own pace, leave it away")


def _opened(args: Record, keys: Keys) -> Device:
    """Raises SakiyomiError for a device that cannot be begun with."""
    if args.command:
        return command_device(args.command, args.timeout)
    if ":" in args.what:
        return function_device(args.what, args.timeout, args.rate)
    run = next((f for f in (Path("runs") / args.what, Path(args.what)) if (f / "job.json").exists()), None)
    if args.what not in WORLDS and run is None:
        told = unknown("world", args.what, WORLDS)
        raise SakiyomiError(f"{told}; or the run of a character, or path/to/file.py:function")
    # MuJoCo and models take their time, and devices do without.
    from sakiyomi.stage import stage_of
    from sakiyomi.worlds import recorded
    from sakiyomi.worlds.recorded_character import recorded_character

    if args.what in WORLDS:
        how = recorded.WORLDS[args.what](args.image_size)
    else:
        assert run is not None
        how = recorded_character(stage_of(args.what, run))
    device = recorded.WorldDevice(how, args.drive, keys, args.rate, args.seed)
    if args.drive == "keyboard":
        _say(how.controls)
    return device


def _tell_remains(recorder: Recorder, args: Record) -> None:
    """What an earlier recorder left, and what becomes of it."""
    if recorder.completed:
        _say(f"an episode that was kept, but not yet written, is now: {recorder.completed.id}")
    found = recorder.remains
    if found and args.recover:
        entry = recorder.recover({"task": args.task} if args.task else {})
        _say(f"found {found}: kept as {entry.id}, split {entry.split}, marked as cut")
    elif found:
        _say(f"found {found}; set aside: --recover keeps it, the next episode that is kept or cut off replaces it")
    elif args.recover and not recorder.completed:
        _say("there is no unfinished episode to recover")
    if recorder.count:
        _say(f"going on after {many(recorder.count, 'episode')}")


def _finished(recorder: Recorder, out: Path, problem: SakiyomiError | None, interrupted: bool) -> EpisodeStore | None:
    """The store with its statistics. Raises what went wrong, with what is kept."""
    store = None
    try:
        store = recorder.finish()
    except SakiyomiError as error:
        problem = problem or error
    told = f"{out} holds {many(recorder.count, 'whole episode')}"
    if recorder.pending:
        told += "; the one that was to be kept last is written by the next start, when there is room"
    elif recorder.recording:
        told += f"; the {recorder.seconds:.1f} s of the one in progress are set aside: --recover keeps them"
    if problem:
        raise SakiyomiError(f"{problem}. {told}") from problem
    if interrupted:
        raise Interrupted(f"stopped; {told}")
    _say(told)
    return store


@contextlib.contextmanager
def _ended_in_order() -> Iterator[None]:
    """Within it, to be asked to end and a terminal that is closed do what Ctrl-C does."""

    def interrupt(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]  # not after nohup
    try:
        for number in numbers:
            signal.signal(number, interrupt)
    except ValueError:  # not the main thread, which alone has signals
        numbers = []
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # that nobody reads it any more is no reason to stop
        console.print(text, markup=False, soft_wrap=True)
