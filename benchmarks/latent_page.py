"""The latent page measured in headless Chromium: from a move of the point to its picture, photos, complaints.

    python -m benchmarks.latent_page                          runs/bench/mnist
    python -m benchmarks.latent_page runs/digits --shots docs  with screenshots

Writes benchmarks/results/latent/browser.json.
"""

import math
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from benchmarks.common import measure as measure_parts
from benchmarks.photographed import Scene, encoded, photo
from benchmarks.steering import SIZE, Opened, cannot, chromium, core_share, wait_until
from sakiyomi.draw import generate, pile
from sakiyomi.rollout import load
from sakiyomi.serve_latent import Atlas, ServingLatent, server_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

RESULTS, RUN = Path("benchmarks/results/latent"), Path("runs/bench/mnist")
MOVES = 300
SHOWN = 3  # seed of the digit in the screenshots
PERIOD = 33  # ms between two moves of the hand


@dataclass(frozen=True)
class LatentRecord:
    """What was measured."""

    moves: int
    pictures: int
    """Drawn while moving."""
    latency_ms: dict[str, float]
    """From a move to its picture on the page: p50, p99, most."""
    photo_ms: float
    """From a chosen file to the ten digits in its hand."""
    map_ms: float
    """From a new label to the map drawn anew, without the time it waits for more moves."""
    core: float
    """Part of a core that was free for it."""
    asked_elsewhere: tuple[str, ...]
    """What the page asked of any other address."""
    complaints: tuple[str, ...]
    """Console errors and uncaught exceptions."""


@contextmanager
def served(atlas: Atlas, options: ServingLatent | None = None) -> Iterator[str]:
    """The page, served by a thread of this process until the block ends: its address."""
    server, socket, address = server_of(atlas, options or ServingLatent(port=0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    try:
        yield address
    finally:
        server.should_exit = True
        thread.join(10)


@dataclass
class Watched(Opened):
    """A page, its complaints, and what it asked of whom."""

    asked: list[str] | None = None


@contextmanager
def opened(
    browser: "Browser", address: str, scheme: Literal["light", "dark"] = "light", size: tuple[int, int] = SIZE
) -> Iterator[Watched]:
    """The page, once it shows a picture and its map. Whatever it asks of another address is refused and noted."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    found = Watched(page, asked=[])
    page.on("console", lambda said: found.complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: found.complaints.append(str(error)))

    def watch(route: Any) -> None:
        assert found.asked is not None
        found.asked.append(route.request.url)
        if route.request.url.startswith((address, "data:", "blob:")):
            route.continue_()
        else:
            route.abort()

    page.route("**/*", watch)
    try:
        page.goto(address)
        wait_until(page, "sakiyomi.ready && sakiyomi.drawn > 0 && sakiyomi.tiled > 0")
        yield found
    finally:
        page.close()


def elsewhere(found: Watched, address: str) -> tuple[str, ...]:
    """What the page asked of other addresses."""
    return tuple(url for url in found.asked or [] if not url.startswith((address, "data:", "blob:")))


def drag(page: "Page", moves: int, period: float = PERIOD) -> None:
    """The point is dragged along a figure of eight over the map."""
    box = page.locator("#map").bounding_box()
    assert box is not None
    for number in range(moves):
        angle = 2 * math.pi * number / 90
        x = box["x"] + box["width"] * (0.5 + 0.35 * math.sin(angle))
        y = box["y"] + box["height"] * (0.5 + 0.35 * math.sin(2 * angle))
        page.mouse.move(x, y)
        if not number:
            page.mouse.down()
        page.wait_for_timeout(period)
    page.mouse.up()


def choose(page: "Page", name: str, content: bytes, kind: str = "image/jpeg") -> None:
    """A photo, chosen as a file."""
    page.set_input_files("#file", {"name": name, "mimeType": kind, "buffer": content})


def measure(found: Watched, address: str, digit: np.ndarray, moves: int = MOVES) -> LatentRecord:
    """Drag the point, then show the page a photo of `digit`, uint8 [28, 28]."""
    page, core = found.page, core_share()
    wait_until(page, "sakiyomi.latency !== null")
    page.evaluate("sakiyomi.latencies.length = 0")
    drag(page, moves)
    latencies = page.evaluate("[...sakiyomi.latencies]")
    page.wait_for_timeout(1000)
    content = encoded(photo(digit, Scene(size=(1280, 960), height=500)))
    begin = time.perf_counter()
    choose(page, "photo.jpg", content)
    wait_until(page, "sakiyomi.photo !== null")
    seconds = time.perf_counter() - begin
    page.wait_for_timeout(1000)
    tiled = page.evaluate("sakiyomi.tiled")
    begin = time.perf_counter()
    page.keyboard.press("7")
    wait_until(page, f"sakiyomi.tiled > {tiled} || !sakiyomi.label")
    mapped = time.perf_counter() - begin
    p50, p99 = np.percentile(latencies, (50, 99))
    return LatentRecord(
        moves=moves,
        pictures=len(latencies),
        latency_ms={"p50": float(p50), "p99": float(p99), "most": max(latencies)},
        photo_ms=1e3 * seconds,
        map_ms=1e3 * mapped - 150,
        core=core,
        asked_elsewhere=elsewhere(found, address),
        complaints=tuple(found.complaints),
    )


def browser_part(folder: Path = RUN, shots: Path | None = None) -> dict[str, Any]:
    """The page of a trained run. What the screenshots show as a photo is a digit that the model drew: no picture of a
    data set is given away."""
    trained = load(folder)
    atlas = Atlas(folder.name, trained)
    found = pile(trained, "test", 200)
    digit = found.streams["image"][int((found.labels == 3).nonzero()[0]), 0]
    pixels = (255 * digit).round().byte().numpy()
    with served(atlas) as address, chromium() as browser:
        with opened(browser, address) as page:
            record = measure(page, address, pixels)
        for name, scheme, size in (
            ("latent-page", "light", (1280, 860)),
            ("latent-page-dark", "dark", (1280, 860)),
            ("latent-page-phone", "light", (390, 844)),
        ):
            if shots:
                with opened(browser, address, scheme, size) as page:  # pyright: ignore[reportArgumentType]
                    shown = generate(trained, 3, 1, SHOWN)[0, :, :, 0]
                    choose(page.page, "photo.jpg", encoded(photo(shown, Scene(size=(640, 480), height=320))))
                    wait_until(page.page, "sakiyomi.photo !== null")
                    page.page.wait_for_timeout(1000)
                    page.page.screenshot(path=shots / f"{name}.png", full_page=True)
    return {"run": str(folder), **asdict(record)}


def main() -> None:
    if reason := cannot():
        sys.exit(reason)
    words, shots = sys.argv[1:], None
    if "--shots" in words[:-1]:
        at = words.index("--shots")
        shots = Path(words[at + 1])
        words = words[:at] + words[at + 2 :]
    folder = Path(words[0]) if words else RUN
    torch.set_num_threads(1)
    measure_parts({"browser": lambda: browser_part(folder, shots)}, RESULTS, [], lambda: None)
    sys.stdout.write((RESULTS / "browser.json").read_text() + "\n")


if __name__ == "__main__":
    main()
