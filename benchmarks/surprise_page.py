"""docs/surprise-benchmarks.md, from the figures in benchmarks/results/surprise: nothing there is typed."""

import json
from pathlib import Path
from typing import Any

from benchmarks.page import put_between, table, write_parts

HEAD = """# Benchmarks: surprise

Written by `python -m benchmarks.find_surprises` (`make bench`) from the figures in `benchmarks/results/surprise`.
Intervals are 95 %, Wilson's of shares. One training a row: they do not cover the luck of a training.
"""


def write_page(results: Path, path: Path) -> None:
    """Write the page from whichever parts have been measured."""
    writers = {
        "nab": _nab,
        "false-alarms": _false_alarms,
        "streaming": _streaming,
        "arm": _arm,
        "series": _series,
    }
    write_parts(HEAD, writers, results, path, "find_surprises")


def write_readme_rows(results: Path, readme: Path) -> None:
    """Put the measured figures between the README's two marks."""
    rows = []
    found = {path.stem: json.loads(path.read_bytes()) for path in results.glob("*.json")}
    if "nab" in found:
        best = found["nab"]["best threshold"]["all"]
        published = found["nab"]["published, of 58 series"]
        told = f"{best['score']:.1f} (published: {', '.join(f'{name} {score}' for name, score in published.items())})"
        what = f"NAB, {found['nab']['series']} of 58 series, untrained; one set of settings, looked for on these series"
        rows.append((what, told))
    if "false-alarms" in found:
        asked = next(iter(found["false-alarms"]["counted"].values()))["asked"]
        told = ", ".join(f"{float(rate):.1%} asked, {got['rate']:.2%} got" for rate, got in asked.items())
        rows.append(("false alarms on a million held-out normal values", told))
    if "arm" in found:
        scores = next(iter(found["arm"]["scores"].values()))
        noticed = ", ".join(f"{kind} {scores[f'noticed/{kind}']['value']:.0%}" for kind in ("push", "blind", "frozen"))
        calm = scores["false alarms"]
        runs = calm["protocol"]["n"]
        rows.append(
            ("the arm notices within 1 s", f"{noticed}; false alarms in {round(calm['value'] * runs)} of {runs} runs")
        )
    if "streaming" in found:
        rows.append(("one value, streaming", f"{found['streaming']['ms: median']:.2f} ms on one thread"))
    put_between(readme, "surprised", table(("what", "measured"), rows))


def _nab(found: dict[str, Any]) -> str:
    rows = []
    for name in ("best threshold", "own threshold", "threshold of the tuned half"):
        parts = found[name]
        every = parts["all"]
        rows.append(
            (
                f"{name}, {every['threshold']:.3g}",
                *(f"{parts[half]['score']:.1f}" for half in ("all", "tuned", "other")),
                f"{every['found']} of {every['windows']}",
                f"{every['precision']:.2f}",
                f"{every['recall']:.2f}",
                f"{every['false alarms a week']:.2f}",
            )
        )
    header = ("threshold", "all", "tuned half", "other half", "found", "precision", "recall", "false alarms a week")
    published = ", ".join(f"{name} {score}" for name, score in found["published, of 58 series"].items())
    others = ", ".join(f"{name} {score:.1f}" for name, score in found["other profiles"].items())
    asked = ", ".join(
        f"{100 * got:.2g} % where {100 * float(rate):g} % was asked"
        for rate, got in found["false alarms, asked and got"].items()
    )
    folders = [
        (name, "nothing to find" if "score" not in one else f"{one['score']:.1f}", f"{one['false alarms a week']:.2f}")
        for name, one in found["folders"].items()
    ]
    stream = found["streaming"]
    return f"""## NAB: a detector that was never trained

`OnlineSurprise` with one set of settings for all {found["series"]} series ({found["rows"]:,} rows), scored as NAB does,
standard profile: 0 is a detector that never alarms, 100 one that finds everything at once and nothing else. NAB
chooses the one threshold for all series by the score itself (first row). Precision and recall: of alarm rows, of
windows.

{table(header, rows)}
How much is tuning: settings and views were looked for on all series, the threshold of the third row on the tuned half
only. Of 29 candidate views, the four that the tuned half alone would choose are these; the four that the other half
would choose score 70 on the tuned half. {published} are published for all 58 series, of which {found["series"]} were
here. The windowed Gaussian, computed
here by the same scorer, gets {found["windowed Gaussian"]:.1f}. By profile: {others}.

{table(("folder", "score at the best threshold", "false alarms a week"), folders)}
It takes {found["read, ms a value"]:.3f} ms a value at once, {stream["ms, median"]:.3f} ms one by one (99 %:
{stream["ms, 99 %"]:.3f}), and holds {stream["numbers held in the first tenth"]:,} numbers at most in the first tenth of
{stream["values"]:,} values, {stream["numbers held in the last tenth"]:,}
in the last. Asked for a rate alone, without strength and rest, on generated normal data it gives {asked}.
"""


def _false_alarms(found: dict[str, Any]) -> str:
    rows = []
    for name, one in found["counted"].items():
        for rate, got in one["asked"].items():
            rows.append(
                (
                    name,
                    f"{one['calibrated on']:,}",
                    f"{one['steps']:,}",
                    f"{float(rate):.1%}",
                    f"{got['rate']:.3%} ({got['95 %'][0]:.3%} to {got['95 %'][1]:.3%})",
                    f"{got['rate'] / float(rate):.2f}",
                )
            )
    header = ("normal data", "calibrated on, steps", "counted on", "asked", "got", "ratio")
    return f"""## False alarms on held-out normal data

Intervals as if steps were independent, which they are not quite. Weather is calibrated on the split that also chose
the best weights; with a thousand days, one alarm in a thousand cannot be counted. A ratio under 1 errs on the quiet
side.

{table(header, rows)}"""


def _streaming(found: dict[str, Any]) -> str:
    memory = ", ".join(f"{megabytes:.0f}" for megabytes in found["memory after each tenth, MB"])
    rows = [
        ("one value, ms: median, 99 %", f"{found['ms: median']:.2f}, {found['ms: 99 %']:.2f}"),
        (f"memory of the process after each tenth of {found['values']:,} values, MB", memory),
        ("largest difference of a score from all at once", f"{found['largest difference from all at once']:.1e}"),
    ]
    return f"## One value in, one score out\n\n{table(('forecaster of a sensor, 1 thread', 'measured'), rows)}"


def _arm(found: dict[str, Any]) -> str:
    forces = list(found["scores"])
    jams = "a joint jams that would have moved by 0.05 rad within 1 s"
    kinds = {"push": f"a push of {forces[0]}, 0.3 s", "blind": "camera black", "frozen": jams}
    rows = [(told, *_noticed(found["scores"][forces[0]], kind)) for kind, told in kinds.items()]
    rows.append((f"a push of {forces[1]}", *_noticed(found["scores"][forces[1]], "push")))
    calm = found["scores"][forces[0]]["false alarms"]
    runs = calm["protocol"]["n"]
    return f"""## An arm that raises its hand

The model that drives (`pick-small`) watches, too; calibrated on {found["calibrated on"]:,} ticks of other normal runs,
one false alarm allowed in {1 / found["rate"]:,.0f} ticks. Noticed: an alarm within 1 s. False alarms: in
{round(calm["value"] * runs)} of {runs} normal runs.

{table(("what happens", "noticed", "trials", "median delay, s"), rows)}
![Scores of three runs each: nothing happens, a push, a dark camera, a jammed joint.](arm-surprise.png)
"""


def _noticed(scores: dict[str, Any], kind: str) -> tuple[str, str, str]:
    rate = scores[f"noticed/{kind}"]
    delay = scores.get(f"delay/{kind}")
    interval = f"{rate['value']:.0%} ({rate['low']:.0%} to {rate['high']:.0%})"
    return interval, str(rate["protocol"]["n"]), f"{delay['value']:.2g}" if delay else "-"


def _series(found: dict[str, Any]) -> str:
    rows = []
    for name, run in found["runs"].items():
        scores = run["scores"]
        before, hits = scores.get("error of the value before"), scores.get("anomalies found")
        right = scores.get("alarms that are right")
        rows.append(
            (
                f"`{name}`",
                f"{run['seconds']:.0f} on {run['threads']}",
                f"{scores['error']['value']:.2f}",
                f"{before['value']:.2f}" if before else "-",
                f"{scores['false alarms at 0.01']['value']:.2%} of {scores['false alarms at 0.01']['protocol']['n']:,}",
                f"{run['calibrated on']:,}",
                f"{hits['value']:.0%} of {hits['protocol']['n']}" if hits else "-",
                f"{right['value']:.0%} of {right['protocol']['n']}" if right else "-",
            )
        )
    header = (
        *("preset", "seconds of training on threads", "error", "error of the value before"),
        *("false alarms at 1 %", "calibrated on, steps", "planted anomalies found", "alarms that are right"),
    )
    return f"""## Models of a sensor

Daily temperatures of Delhi (4 years; °C, root mean square of what was never shown), and a made-up sensor with planted
anomalies, at 0.1 % false alarms a step (in 42 days these are 60, so that a long anomaly is sometimes found by chance).
The first three give back what they have read, `climate-forecast` and `sensor` look one step ahead. Delhi's thresholds
come from 292 days at most, less than a year and few windows that do not overlap: the false alarms say so.

{table(header, rows)}
![Two weeks of the made-up sensor. Yellow: planted anomalies. Red: alarms.](sensor-surprise.png)
"""
