"""docs/recordings-benchmarks.md, from the figures in benchmarks/results/formats: nothing on that page is typed."""

from pathlib import Path
from typing import Any

from benchmarks.page import found_in, put_between, table, write_parts

HEAD = """# Benchmarks: recordings

Written by `python -m benchmarks.bridges` (`make bench`) from the figures in `benchmarks/results/formats`.
"""


def _samples(found: dict[str, Any]) -> str:
    rows = [
        (
            f"`{one['sample']}`",
            one["format"],
            beside(one["episodes"], one["said_episodes"]),
            beside(one["frames"], one["said_frames"]) if one["said_frames"] else f"{one['frames']:,} at one rate",
        )
        for one in found["samples"]
    ]
    return f"""## Real samples, read whole

Every sample is recognised without being told its format. Counts stand beside those of the samples' own README.

{table(("sample", "format", "episodes", "frames"), rows)}"""


def beside(got: int, said: int) -> str:
    return f"{got:,}" if got == said else f"{got:,}, not {said:,}"


def _round(found: dict[str, Any]) -> str:
    rows = []
    for one in found["rounds"]:
        numbers = [s for s in one["streams"].values() if "psnr" not in s and s["kept"]]
        off = max((s["largest"] for s in numbers if not s["same"]), default=0.0)
        worst = min((s["psnr"] for s in one["streams"].values() if "psnr" in s), default=None)
        pictures = f"{worst:.1f} dB" if worst is not None else ""
        left = [name for name, s in one["streams"].items() if not s["kept"]]
        if "image" in one["streams"] and not pictures:
            pictures = "equal"
        how = f"{one['format']}, {one['pictures']}" if one["pictures"] else one["format"]
        told = "equal bit for bit" if not off else f"within {off:.1g}"
        rows.append((how, told + (f"; left out: {', '.join(left)}" if left else ""), pictures, f"{one['bytes']:,}"))
    return f"""## There and back

store -> format -> store: numbers of float32, float64 and int64; pictures of the arm's camera, 128 x 128, in PSNR of
the worst episode where they are not equal. The encoder of av1 has colour at half the resolution only, h264 has all of
it. BVH holds angles as decimals.

{table(("format", "numbers", "pictures", "bytes"), rows)}"""


def _defects(found: dict[str, Any]) -> str:
    rows = [(name, f"{one['named']} of {one['of']}") for name, one in found["defects"].items()]
    first, last = found["seeds"]
    return f"""## The doctor

{found["named"]} of {found["of"]} planted defects were named: {len(rows)} kinds, each with the seeds {first} to {last},
which say where and how much; thresholds were set on other seeds.

{table(("what was planted", "named"), rows)}"""


def _clean(found: dict[str, Any]) -> str:
    told = [f"- {one}" for one in (*found["problems"], *found["notes"])]
    first, last = found["seeds"]
    false, notes = len(found["problems"]), len(found["notes"])
    return f"""{found["stores"]} generated stores without a defect (seeds {first} to {last}): {false} false problems,
{notes} notes.

""" + "\n".join(told)


def _stores(found: dict[str, Any]) -> str:
    rows = [
        (f"`{name}`", f"{one['frames']:,}", f"{one['frames_a_second']:,.0f}", "<br>".join(one["findings"]) or "nothing")
        for name, one in found["stores"].items()
    ]
    return f"""What it says of the recordings of this project's own presets:

{table(("store", "frames", "frames a second", "found"), rows)}"""


def _record(found: dict[str, Any]) -> str:
    left = ", ".join(f"{what} {count} times" for what, count in found["left"].items())
    kept = ", ".join(f"{count} of {name}" for name, count in found["episodes"].items())
    return f"""## The recorder, killed

{found["kills"]} times `kill -9` at random moments while recording: {len(found["wrong"])} times an episode that was
finished was lost, damaged, or not as it was sent. What the next start found: {left}. Episodes in the end: {kept}.
"""


def _record_lines(found: dict[str, Any]) -> str:
    return f"""And before each line of the recorder's own, from its start to its end: {found["kills"]:,} kills, after
{len(found["wrong"])} of which something kept was lost or damaged, the next start could not go on, or left rubbish.
"""


def _reading(found: dict[str, Any]) -> str:
    speed, bounded, opening = found["speed"], found["bounded"], found["opening"]
    rows = [
        (name.replace("_", " "), f"{one['windows_s']:,.0f}", f"{one['gigabytes_s']:.1f}")
        for name, one in speed.items()
        if isinstance(one, dict) and "windows_s" in one
    ]
    tenth, whole = bounded["tenth"], bounded["whole"]
    return f"""## Larger than memory

Windows of 50 frames of 64 x 64 x 3, at random places of a store of {opening["bytes"] / 1e9:.0f} GB; by the processor's
time where it does not say clock.

{table(("how", "windows a second", "GB a second"), rows)}
Read from end to end, a process holds {whole["RssAnon"] / 1e6:.0f} MB of memory that is no file's; of a tenth of the
store, {tenth["RssAnon"] / 1e6:.0f} MB. All files are opened in {opening["first_s"]:.1f} s the first time, checksums and
all, and in {1000 * opening["second_s"]:.0f} ms after.
"""


WRITERS = {
    "samples": _samples,
    "round": _round,
    "doctor_defects": _defects,
    "doctor_clean": _clean,
    "doctor_stores": _stores,
    "record": _record,
    "record_lines": _record_lines,
    "reading": _reading,
}


def write_page(results: Path, path: Path) -> None:
    write_parts(HEAD, WRITERS, results, path, "bridges")


def write_readme_rows(results: Path, readme: Path) -> None:
    """What is measured of recordings, a line each."""
    found = {name: found_in(results, name) for name in WRITERS}
    rows: list[tuple[str, str]] = []
    if samples := found["samples"].get("samples"):
        whole = sum(
            one["episodes"] == one["said_episodes"] and one["frames"] == (one["said_frames"] or one["frames"])
            for one in samples
        )
        rows.append(("real samples of others' formats, read whole", f"{whole} of {len(samples)}"))
    if rounds := found["round"].get("rounds"):
        equal = sorted({one["format"] for one in rounds if all(s.get("same") for s in one["streams"].values())})
        rows.append(("there and back, equal bit for bit, pictures and all", ", ".join(equal)))
    if defects := found["doctor_defects"]:
        clean = found["doctor_clean"]
        told = f"; {len(clean['problems'])} false problems on {clean['stores']} clean stores" if clean else ""
        rows.append(("defects the doctor named", f"{defects['named']} of {defects['of']}{told}"))
    if record := found["record"]:
        rows.append((f"episodes lost to {record['kills']} times `kill -9`", f"{len(record['wrong'])}"))
    if reading := found["reading"]:
        speed = reading["speed"]
        raw, batches = (speed[f"{way}_two_processes_by_the_clock"]["windows_s"] for way in ("raw", "batches"))
        told = f"{raw:,.0f} out of the memory map; {batches:,.0f} as batches of float32"
        rows.append(("windows of 50 x 64x64x3 read a second by two processes", told))
    put_between(readme, "brought", table(("what", "measured"), rows))
