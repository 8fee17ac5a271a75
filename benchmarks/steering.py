"""The steering page measured in headless Chromium: frames drawn a second, time there and back, and that it steers.

    python -m benchmarks.steering              # an untrained model of a generated walk: what the page itself costs
    python -m benchmarks.steering http://127.0.0.1:8000/

`measure_page` is for whoever serves a trained character.
"""

import json
import math
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from sakiyomi.data.normalize import Normalizer
from sakiyomi.data.sources.walk import SKELETON, GeneratedWalk
from sakiyomi.models.mvae import MVAE
from sakiyomi.motion.character import Character
from sakiyomi.serve import Serving, Stage, server_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
SIZE = (1280, 720)
READY = 15.0  # s to wait at most until something is so


@dataclass
class Opened:
    """A page in a browser, and what it complained about."""

    page: "Page"
    complaints: list[str] = field(default_factory=list)
    """Console errors and uncaught exceptions."""


@dataclass(frozen=True)
class PageRecord:
    """What was measured."""

    seconds: float
    frames_s: float
    """Drawn."""
    poses_s: float
    """Received from the server."""
    there_and_back_ms: float
    """Of a message, from the page to the server and back."""
    model_ms: float
    """Of the last tick."""
    walked: float
    """m between the places at the beginning and the end, with a key held down."""
    off_heading: float | None
    """Degrees between the heading asked for and the facing at the end; None where nothing steers by a heading."""
    complaints: tuple[str, ...]
    """Console errors and uncaught exceptions."""


def cannot() -> str:
    """Why no page can be opened here; empty where it can."""
    if not CHROMIUM.exists():
        return f"needs {CHROMIUM} (Debian's package chromium)"
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError as error:
        return f"needs playwright ({error}): pip install playwright"
    return ""


@contextmanager
def served(stage: Stage, options: Serving) -> Iterator[str]:
    """The page, served by a thread of this process until the block ends: its address."""
    server, socket, address = server_of(stage, options)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    try:
        yield address
    finally:
        server.should_exit = True
        thread.join(10)


@contextmanager
def chromium() -> "Iterator[Browser]":
    """Debian's browser, headless."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: "Browser", address: str, scheme: Literal["light", "dark"] = "light") -> Iterator[Opened]:
    """The page, once it draws what the server sends. Raises TimeoutError when it never does."""
    page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]}, color_scheme=scheme)
    found = Opened(page)
    page.on("console", lambda said: found.complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    try:
        page.goto(address)
        wait_until(page, "sakiyomi.connected && sakiyomi.mode && sakiyomi.latency !== null")
        yield found
    finally:
        page.close()


def wait_until(page: "Page", true: str) -> None:
    """Wait for a JavaScript expression to come true. (Playwright's own way is refused by the page's security policy.)
    Raises TimeoutError when it does not within READY seconds."""
    end = time.monotonic() + READY
    while not page.evaluate(true):
        if time.monotonic() > end:
            raise TimeoutError(f"{true} did not come true in {READY:g} s; the page: {page.evaluate('sakiyomi')}")
        page.wait_for_timeout(50)


def core_share() -> float:
    """Part of a core that a busy loop gets now: 1 where nobody else wants it."""
    wall, own = time.perf_counter(), time.thread_time()
    while time.perf_counter() - wall < 0.3:
        pass
    return (time.thread_time() - own) / (time.perf_counter() - wall)


def measure(found: Opened, seconds: float, key: str = "d") -> PageRecord:
    """Hold a key down and see what the page does in so many seconds, half a second after that. The key stays down."""
    page = found.page
    page.keyboard.down(key)
    page.wait_for_timeout(500)
    before = page.evaluate("({...sakiyomi, now: performance.now()})")
    page.wait_for_timeout(1000 * seconds)
    after = page.evaluate("({...sakiyomi, now: performance.now()})")
    took = (after["now"] - before["now"]) / 1000
    steered = after["mode"] == "steer"
    off = math.degrees(math.remainder(after["facing"] - after["goal"][0], 2 * math.pi))
    return PageRecord(
        seconds=took,
        frames_s=(after["drawn"] - before["drawn"]) / took,
        poses_s=(after["received"] - before["received"]) / took,
        there_and_back_ms=after["latency"],
        model_ms=after["tick"],
        walked=math.dist(before["place"], after["place"]),
        off_heading=abs(off) if steered else None,
        complaints=tuple(found.complaints),
    )


def measure_page(address: str, seconds: float = 3.0, screenshot: Path | None = None) -> PageRecord:
    """Open the page in a browser of its own and `measure` it; how it looks at the end goes to `screenshot`."""
    with chromium() as browser, opened(browser, address) as found:
        record = measure(found, seconds)
        if screenshot:
            found.page.screenshot(path=screenshot)
        return record


def untrained_stage(folder: Path) -> Stage:
    """A character of the size of a real one that nobody taught, without controllers."""
    store = GeneratedWalk(clips=2, validation=1, test=1, seconds=5.0).record(folder)
    poses = torch.from_numpy(store.values(store.entries[0].id, "pose"))
    torch.manual_seed(0)
    model = MVAE(MVAE.Config(pose=poses.shape[1])).eval()
    normalizer = Normalizer.fit(store, {"pose": ("pose",)})
    return Stage("untrained", Character(model, normalizer, SKELETON, poses, 30.0), {})


def main() -> None:
    if reason := cannot():
        sys.exit(reason)
    if len(sys.argv) > 1:
        record = measure_page(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as folder:
            stage = untrained_stage(Path(folder) / "store")
            with served(stage, Serving(port=0)) as address:
                record = measure_page(address)
    sys.stdout.write(json.dumps(asdict(record), indent=1) + "\n")


if __name__ == "__main__":
    main()
