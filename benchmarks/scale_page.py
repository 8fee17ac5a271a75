"""docs/scale.md and its picture, from benchmarks/results: no figure on that page is typed.

python -m benchmarks.scale
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

from benchmarks.page import found_in, table
from benchmarks.scale import (
    ASSUMED,
    BUSY,
    CORE_HOUR,
    DISK_RATE,
    EPISODES,
    FACTORS,
    FASTER,
    FIRST_BYTE,
    LENGTHS,
    LINKS,
    MACHINE_FAILS,
    OBJECT_GET,
    OBJECT_MONTH,
    OBJECT_PUT,
    PREFIX_RATE,
    SIZES,
    Link,
    checkpoint_every,
    efficiency,
    lost,
    picture_bytes,
    ring_seconds,
    sessions,
    training_bytes,
)
from benchmarks.scale_breaks import Step, breaking, lines_of
from benchmarks.scale_units import HOUR, digits, dollars, size, span
from sakiyomi.data.cache import GIGABYTE, LARGEST
from sakiyomi.files import write_atomic
from sakiyomi.presets import preset
from sakiyomi.views.plots import COLORS, MARKS, STYLE, add_shared_legend, as_png, figure_of

DEVICES = (1, 2, 8, 64, 256, 1024)
FROM = ("scale", "formats/reading", "latency", "full", "imagine/speed")
SHARD = 10_000  # episodes
WINDOW = 50  # steps that a model is shown of a longer episode
TRIALS = 10**6


def write_page(results: Path, path: Path) -> None:
    """Write the page and its picture. Raises KeyError where a figure it needs was never measured."""
    found = {name: found_in(results, name) for name in FROM}
    steps = steps_of(found)
    parts = (
        head(found),
        assumptions(),
        weight(found),
        manifest(found),
        fetching(found, steps),
        training(steps),
        memory(found),
        checkpoints(found),
        rollouts(found),
        serving(found),
        breaking(found, steps),
    )
    write_atomic(path.with_suffix(".png"), picture(steps))
    write_atomic(path, "\n".join(parts).encode())


def steps_of(found: Mapping[str, Any]) -> dict[str, Step]:
    """What a step of two presets takes on this machine."""
    train = preset("pick").job.train
    windows = train.steps * train.batch_size
    rate = windows * found["scale"]["episodes"]["64"]["steps"] / found["full"]["seconds"]
    frames = train.batch_size * LENGTHS[0]
    of = found["scale"]["parameters"]
    push = preset("push").job
    shown = push.train.batch_size * (push.data.steps + 1)
    seconds = found["imagine/speed"]["VGG, batch 16, 2 -> 10"]["seconds"]["bfloat16"]
    return {
        "pick": Step("`pick`", frames, frames / rate, 4 * of["pick"]),
        "push": Step("`push`", shown, seconds, 4 * of["push"]),
    }


def head(found: Mapping[str, Any]) -> str:
    machine = ", ".join(f"{key} {value}" for key, value in found["scale"]["machine"].items())
    return f"""# Ten million episodes

Arithmetic, not a measurement: nothing on this page was run on more than one machine
({machine}). What is measured there is said to be; everything else
follows from it and from the assumptions in the next table. Written by `python -m benchmarks.scale`, with the formulas
in `benchmarks/scale.py`; change an assumption there, and the page follows. B, kB, MB, GB and TB count in thousands.
"""


def assumptions() -> str:
    rows = [(one.name, f"{digits(one.value)} {one.unit}".strip(), one.why) for one in ASSUMED]
    rows += [
        (f"{link.name}, each way", f"{size(link.rate)}/s, {span(link.latency)} a message", reach(link))
        for link in LINKS
    ]
    return f"## Assumed\n\n{table(('what', 'how much', 'from where'), rows)}"


def reach(link: Link) -> str:
    return "nominal" if math.isinf(link.reach) else f"nominal; joins {link.reach:.0f} devices"


def weight(found: Mapping[str, Any]) -> str:
    """Bytes and objects."""
    rows = []
    for side in SIZES:
        video = found["scale"]["episodes"][str(side)]["video_bytes_a_frame"]
        for length in LENGTHS:
            raw = picture_bytes(side, length)
            whole = raw * EPISODES.value
            films = (size(length * video[str(factor)] * EPISODES.value) for factor in FACTORS)
            month = dollars(whole / 1e9 * OBJECT_MONTH.value)
            rows.append((f"{side} x {side}", f"{length}", size(raw), size(whole), *films, month, span(whole / 1.25e9)))
    header = ("pictures", "steps", "an episode, uint8", "all, uint8")
    header += tuple(f"all, h264 at factor {factor}" for factor in FACTORS)
    header += ("uint8 kept a month", "uint8 sent over 10 GbE")
    one = found["scale"]["episodes"]["64"]
    rest = one["bytes"] - picture_bytes(64, one["steps"])
    return f"""## Bytes

{table(header, rows)}
Joints, commands, clocks and header add {size(rest)} to a recorded episode of {one["steps"]} steps of 64 x 64, which
weighs {size(one["bytes"])}. The h264 columns are {len(FACTORS)} rate factors (the first is what `prepare export` takes)
of pictures rendered in MuJoCo, which have no camera's noise: real ones weigh several times as much.
There is one object an episode: {digits(EPISODES.value)} of them, {dollars(EPISODES.value / 1e6 * OBJECT_PUT.value)} to
put there. The store keeps uint8 only; video comes in and goes out (`prepare`, `prepare export`) and is not trained
from.
"""


def manifest(found: Mapping[str, Any]) -> str:
    measured = found["scale"]["manifest"]
    a_line = found["scale"]["episodes"]["64"]["bytes_a_line"]
    lines = lines_of(found)
    rows: list[tuple[str, ...]] = [
        (digits(float(n)), size(one["bytes"]), span(one["seconds"]), size(one["memory"]), "measured")
        for n, one in measured.items()
    ]

    def at(count: float, how: str) -> tuple[str, ...]:
        bytes, seconds, kept = (slope * count + offset for slope, offset in lines.values())
        return digits(count), size(bytes), span(seconds), size(kept), how

    rows.append(at(EPISODES.value, "a straight line through these"))
    ranks = 64
    share = EPISODES.value / ranks
    return f"""## The manifest

`manifest.jsonl` has a line an episode, {a_line:.0f} bytes of it for this arm, and is read whole by every process that
opens the store, far stores too.

{table(("lines", "bytes", "to open the store", "memory kept", ""), rows)}
So it must be cut: {digits(EPISODES.value / SHARD)} shards of {digits(SHARD)} lines, {size(SHARD * a_line)} each, and
`dataset.json` saying how many episodes of which split each has. A step's episodes are drawn by number, so that a
process reads only shards that its part of the batch falls into; of {ranks} processes that keep to their own parts, each
reads {digits(share)} lines, in {span(lines["seconds"][0] * share)}. The code has one manifest.
"""


def fetching(found: Mapping[str, Any], steps: Mapping[str, Step]) -> str:
    """Requests, range reads, checksums, the cache."""
    gpu = steps["pick"].on_gpu()
    an_episode = picture_bytes(64, LENGTHS[0])
    rate = gpu.frames / gpu.seconds
    reading, opening = found["formats/reading"]["speed"], found["formats/reading"]["opening"]
    hashed = opening["bytes"] / opening["first_s"]
    core = WINDOW * reading["batches"]["windows_s"]
    needs = [
        ("pictures, uint8", f"{size(rate * picture_bytes(64, 1))}/s"),
        ("episodes, one GET each", f"{digits(rate / LENGTHS[0])} 1/s"),
        ("GETs under way at a time, for latency alone", digits(rate / LENGTHS[0] * FIRST_BYTE.value)),
        ("cores that make batches (measured: one makes " + digits(core) + " frames a second)", digits(rate / core)),
        ("cores that hash (measured: " + size(hashed) + "/s)", digits(rate * picture_bytes(64, 1) / hashed)),
    ]
    length = LENGTHS[-1]
    ways = []
    for side in SIZES:
        whole, part = picture_bytes(side, length), picture_bytes(side, WINDOW)
        for name, bytes, requests in (("the whole episode", whole, 1), ("the window", part, 2)):
            time = span(requests * FIRST_BYTE.value + bytes / LINKS[0].rate)
            cost = dollars(requests * OBJECT_GET.value)
            ways.append((f"{side} x {side}", name, size(bytes), f"{requests}", time, cost))
    kept = LARGEST * GIGABYTE / (an_episode * EPISODES.value)
    header = ("pictures", "read", "bytes", "requests", "until it is here, 10 GbE", "a million windows")
    epoch = span(EPISODES.value / PREFIX_RATE.value)
    return f"""## Reading from far away

What one GPU asks for that trains `pick` on 64 x 64 at {digits(rate)} frames a second, which is a guess:
{digits(FASTER.value)} times this machine.

{table(("what", "how much"), needs)}
All episodes lie in one folder, `episodes/`, of which the object store answers {digits(PREFIX_RATE.value)} requests a
second: an epoch of whole episodes takes {epoch} at least, whatever the number of devices, and costs
{dollars(EPISODES.value / 1e6 * OBJECT_GET.value)} of requests. Folders by the first letters of the id lift that.

A model that is shown {WINDOW} of {length} steps needs a part of the file only (and its header first):

{table(header, ways)}
The code fetches whole episodes into a cache of {LARGEST:.0f} GB (`SAKIYOMI_CACHE_GB`), which holds {kept:.2%} of the
64 x 64 pictures: of a random draw over everything, next to nothing is there already. Range reads need checksums of
pieces, since a sha256 is of the whole file; the manifest has one a file. Cheaper than either: draw from some hundred
episodes that are here, while the next ones come. Checked once, all of 64 x 64, {LENGTHS[0]} steps, take
{span(an_episode * EPISODES.value / hashed)} of one core.
"""


def training(steps: Mapping[str, Step]) -> str:
    """Data-parallel steps."""
    settings = settings_of(steps)
    header = ("devices", *(f"{step.name}, {link.name}" for step, link in settings))
    rows = []
    for n in DEVICES:
        cells = []
        for step, link in settings:
            exchange = ring_seconds(step.gradients, n, link)
            share = efficiency(step.seconds, exchange)
            cells.append(f"{span(step.seconds + exchange)}, {share:.1%}" if n <= link.reach else "-")
        rows.append((f"{n:,}", *cells))
    alone = [
        (step.name, f"{step.frames}", span(step.seconds), f"{digits(step.frames / step.seconds)}", size(step.gradients))
        for step in (*steps.values(), *(step.on_gpu() for step in steps.values()))
    ]
    return f"""## Training on many devices

A device's step, measured on this machine (`pick`: the whole training's clock, validation and all; `push`: bfloat16),
and what a GPU would do if it were {digits(FASTER.value)} times as fast. **Whatever says "a GPU" on this page hangs on
that guess.**

{table(("step", "frames", "seconds", "frames a second", "gradients, float32"), alone)}
After it, gradients are summed in a ring: 2 (N - 1) messages of 1/N of them. Time of a step and the share of it that is
computing, if nothing is sent while gradients are still computed; DDP does send then, and loses less.

{table(header, rows)}
![Efficiency and time of a step against the number of devices.](scale.png)

Every device keeps a batch of its own here, so the batch grows (`--train.batch-size`; unless told, the code shares out
the preset's), and the steps of an epoch of {digits(EPISODES.value)} episodes of {LENGTHS[0]} steps become fewer
(`pick`, GPUs, {LINKS[1].name}):

{table(("devices", "windows of a step", "steps of an epoch", "an epoch"), epochs(steps["pick"].on_gpu()))}
Thousands of windows a step need another learning rate and may not need fewer steps; that is not arithmetic.
"""


def settings_of(steps: Mapping[str, Step]) -> tuple[tuple[Step, Link], ...]:
    """What the table and the picture compare."""
    slow, fast, near = LINKS
    pick, push = steps["pick"].on_gpu(), steps["push"].on_gpu()
    return (steps["push"], slow), (pick, slow), (push, slow), (push, fast), (push, near)


def epochs(step: Step) -> list[tuple[str, ...]]:
    windows = step.frames / LENGTHS[0]
    rows = []
    for n in DEVICES:
        count = EPISODES.value / (windows * n)
        seconds = count * (step.seconds + ring_seconds(step.gradients, n, LINKS[1]))
        rows.append((f"{n:,}", f"{windows * n:,.0f}", f"{count:,.0f}", span(seconds)))
    return rows


def memory(found: Mapping[str, Any]) -> str:
    of = {**found["scale"]["parameters"], "a billion parameters": 1e9}
    rows = []
    for name, count in of.items():
        told = f"`{name}`" if count != 1e9 else name
        cells = [size(training_bytes(count, n, how)) for how, n in SHARDINGS]
        rows.append((told, digits(count), *cells))
    header = ("preset", "parameters", *(f"{how} sharded, {n} device{'s' if n > 1 else ''}" for how, n in SHARDINGS))
    return f"""## Memory of weights and optimizer

float32 weights, gradients and Adam's two moments, a device; activations come on top.

{table(header, rows)}
The largest preset needs no sharding on anything that can train it. The optimizer sharded is `--train.sharded`; all
sharded: lacking.
"""


SHARDINGS = (("nothing", 1), ("optimizer", 8), ("all", 8), ("all", 64))


def checkpoints(found: Mapping[str, Any]) -> str:
    push, fails = found["scale"]["parameters"]["push"], MACHINE_FAILS.value * HOUR
    rows = []
    for name, count in (("`push`", push), ("a billion parameters", 1e9)):
        seconds = 12 * count / DISK_RATE.value
        for machines in (1, 64, 1024):
            every, share = checkpoint_every(seconds, fails / machines), lost(seconds, fails / machines)
            apart = span(fails / machines)
            rows.append((name, size(12 * count), span(seconds), f"{machines:,}", apart, span(every), f"{share:.2%}"))
    header = ("model", "weights and moments", "to write", "machines", "a failure every", "write every", "lost")
    return f"""## Checkpoints

The interval that loses least is the square root of 2 x (seconds to write) x (seconds between failures).

{table(header, rows)}
The code writes every `--train.save-every` steps and goes on from there with `--resume`.
"""


def trial_seconds(found: Mapping[str, Any], side: int = 64) -> tuple[float, float]:
    """Core-seconds of one closed-loop trial: of the world, and of the model, charged for all cores it could use."""
    one, latency = found["scale"]["episodes"][str(side)], found["latency"]
    cores = int(latency["machine"]["cores"])
    model = latency[f"{side}x{side}"]["p50_ms"] / 1e3
    return one["steps"] * one["seconds_a_tick"], one["steps"] * model * cores


def rollouts(found: Mapping[str, Any]) -> str:
    world, model = trial_seconds(found)
    whole = TRIALS * (world + model)
    rows = [(f"{cores:,}", span(whole / cores)) for cores in (1, 16, 256, 4096)]
    one = found["scale"]["episodes"]["64"]
    return f"""## Trials in closed loop

One trial of PickCube, {one["steps"]} ticks: {span(world)} of a core for physics and pictures (measured) and
{span(model)} for the model (the measured latency, charged for every core of that machine). {digits(TRIALS)} trials cost
{digits(whole / HOUR)} core-hours, {dollars(whole / HOUR * CORE_HOUR.value)}; they have nothing to say to each other
(`sakiyomi evaluate --workers`, with `--address` on many machines):

{table(("cores", "time for " + digits(TRIALS) + " trials"), rows)}
A rate of success is known to within 1% from {digits(0.25 * (1.96 / 0.01) ** 2)} trials (95%, at worst). Demonstrations
by the scripted expert take {span(one["seconds_a_demonstration"])} each, written and checked:
{digits(EPISODES.value)} of them {span(EPISODES.value * one["seconds_a_demonstration"])} of one core.
"""


def serving(found: Mapping[str, Any]) -> str:
    cores = found["latency"]["machine"]["cores"]
    rows = []
    for name, one in found["latency"].items():
        if name == "machine":
            continue
        for rate in (10, 30):
            many = math.floor(BUSY.value * sessions(one["p50_ms"] / 1e3, rate))
            rows.append((name, f"{one['p50_ms']:.2f} ms", f"{rate} Hz", f"{many}", digits(math.ceil(10_000 / many))))
    header = ("pictures", "p50 of a step", "rate", "sessions a machine", "machines for 10,000 sessions")
    return f"""## Serving

A session is a state of its own; machines ({cores} cores, as the one measured) are added behind anything that keeps a
session where it is. They are {BUSY.value:.0%} busy, so that a step seldom waits.

{table(header, rows)}
One session a step is the dear way: the steps of sessions that come within a millisecond could be one batch.
"""


def picture(steps: Mapping[str, Step]) -> bytes:
    """Efficiency, and time of a step, against the number of devices."""
    with mpl.rc_context(STYLE):
        figure = figure_of(3.8)
        share, time = (figure.add_subplot(1, 2, panel) for panel in (1, 2))
        for index, (step, link) in enumerate(settings_of(steps)):
            several = [2**power for power in range(11) if 2**power <= link.reach]
            exchange = [ring_seconds(step.gradients, n, link) for n in several]
            look = {"color": COLORS[index], **MARKS[index % len(MARKS)]}
            name = f"{step.name.replace('`', '')}, {link.name}"
            share.plot(several, [100 * efficiency(step.seconds, e) for e in exchange], label=name, **look)
            time.plot(several, [step.seconds + e for e in exchange], **look)
        share.set(xscale="log", title="share of a step that is computing, %", xlabel="devices", ylim=(0, 104))
        time.set(xscale="log", yscale="log", title="a step, s", xlabel="devices")
        add_shared_legend(figure)
        return as_png(figure)
