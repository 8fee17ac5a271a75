"""docs/sound-benchmarks.md and the README's rows, from benchmarks/results/speech: nothing there is typed."""

from pathlib import Path
from typing import Any

from benchmarks.page import cost, found_in, put_between, table, write_parts

HEAD = """# Benchmarks: sound

Written by `python -m benchmarks.speech` (`make bench`) from the figures in `benchmarks/results/speech`. Intervals are
95 %, over utterances, not over speakers. One training a row: they do not cover the luck of a training.
"""
SAID = {
    "wer": "words wrong, best path",
    "wer/beam": "words wrong, prefix beam search",
    "wer/language": "words wrong, prefix beam search with a language model",
    "cer": "letters wrong, best path",
    "whole": "utterances that are wholly right",
}


def write_page(results: Path, path: Path) -> None:
    """Write the page from whichever parts have been measured."""
    writers = {"an4": _an4, "digits": _digits, "speakers": _speakers, "subtasks": _subtasks, "say": _say}
    write_parts(HEAD, writers, results, path, "speech")


def write_readme_rows(results: Path, readme: Path) -> None:
    """Put the measured presets between the README's two marks."""
    rows = []
    an4, digits, subtasks, say = (found_in(results, name) for name in ("an4", "digits", "subtasks", "say"))
    if an4:
        path, best = (an4["scores"][name]["value"] for name in ("wer", "wer/language"))
        told = f"{path:.1%} of the words of speakers never heard are wrong, {best:.1%} with a language model"
        rows.append(("`an4`", "`sakiyomi train an4`", cost(an4["cost"]), told))
    if digits:
        told = f"{digits['right']:.1%} of the digits of a speaker never heard are right, heard as they are said"
        others = found_in(results, "speakers")
        if others:
            told += f"; {others['mean']:.1%} in the mean over five speakers, each unheard in turn"
        rows.append(("`spoken-digits`", "`sakiyomi train spoken-digits`", cost(digits["cost"]), told))
    if subtasks:
        told = f"{subtasks['scores']['wer']['value']:.1%} of an arm's sub-tasks wrong, learned from lists without times"
        rows.append(("`pick-subtasks`", "`sakiyomi train pick-subtasks`", cost(subtasks["cost"]), told))
    if say:
        told = (
            f"{say['recognised']['1.0']['value']:.0%} of said digits are heard as asked by a listener that learned "
            f"from the same clips, {say['recognised_by_run']['1.0']['value']:.0%} by `spoken-digits`; "
            f"{say['samples_a_second']['1']:,.0f} samples a second"
        )
        rows.append(("`say-digits`", "`sakiyomi train say-digits`", cost(say["cost"]), told))
    put_between(readme, "heard", table(("preset", "command", "training", "what came of it"), rows))


def _rate(score: dict[str, Any]) -> str:
    return f"{score['value']:.1%} ({score['low']:.1%} to {score['high']:.1%})"


def _an4(found: dict[str, Any]) -> str:
    rows = [(told, _rate(found["scores"][name]), _rate(found["validation"][name])) for name, told in SAID.items()]
    said = [(f"`{true}`", f"`{path}`", f"`{language}`") for true, path, language in found["examples"]]
    return f"""## Speakers never heard: `an4`

CMU AN4: letters, numbers and commands of 74 speakers. A tenth of the speakers is held out for the test, others for
validation, by a checksum of their names. A BLSTM over MFCC, letter by letter. {cost(found["cost"])}.

{table(("", "test", "validation"), rows)}
{table(("said", "best path", "with a language model"), said)}"""


def _digits(found: dict[str, Any]) -> str:
    rows = [(told, _rate(found["scores"][name])) for name, told in SAID.items()]
    return f"""## Digits of a speaker never heard: `spoken-digits`

Strings of digits out of clips of the Free Spoken Digit Dataset, four speakers to learn from and one to test on. Causal
convolutions: {found["right"]:.1%} of the digits are right as the best path has them, with nothing of the future
heard but half a frame, 20 ms. Test clips are brought to one loudness, 40 dB over noise. A frame takes
{found["ms_a_frame"]:.2f} ms after its spectrum is there; all at once and frame by frame say the same to
{found["unroll_minus_step"]:.0e}. The settings were chosen with this test speaker's scores in sight.
{cost(found["cost"])}.

{table(("", "test"), rows)}"""


def _speakers(found: dict[str, Any]) -> str:
    rows = [(name, f"{one['right']:.1%}") for name, one in found["speakers"].items()]
    return f"""## Each speaker in turn as the one who is never heard

{found["mean"]:.1%} of the digits are right in the mean.

{table(("unseen speaker", "digits right"), rows)}"""


def _subtasks(found: dict[str, Any]) -> str:
    off, raw, even = (1000 * found[name]["value"] for name in ("corrected_s", "uncorrected_s", "evenly_spaced_s"))
    low, high = (1000 * found["corrected_s"][name] for name in ("low", "high"))
    soon, half, most = (1000 * found["late_s"][name] for name in ("10%", "50%", "90%"))
    return f"""## What an arm is doing, learned without times: `pick-subtasks`

Chained demonstrations of the arm and the list of their sub-tasks, without times. {_rate(found["scores"]["wer"])} of the
sub-tasks are wrong; {_rate(found["scores"]["whole"])} of the sequences are wholly right.

Told which ones there are, where does one end and the next begin? The network says so late: of {found["boundaries"]}
places a tenth by {soon:.0f} ms at most, half by {half:.0f} ms, nine tenths by {most:.0f} ms. What is usual,
{1000 * found["usual_s"]:.0f} ms at the median over training sequences, measured with their true times, can be taken
off; then the places are found {off:.0f} ms off in the mean ({low:.0f} to {high:.0f}, over places; as the network says
them {raw:.0f} ms), {found["within_0.2_s"]:.0%} within 0.2 s. Cut in equal parts it would be {even:.0f} ms.
{cost(found["cost"])}.
"""


def _say(found: dict[str, Any]) -> str:
    by_run = found["recognised_by_run"]
    rows = [
        (warm, _rate(score), _rate(by_run[warm]) if by_run.get(warm) else "-")
        for warm, score in found["recognised"].items()
    ]
    speed, told = found["samples_a_second"], found["scores"]
    listener, by_run_recorded = (told[f"{name}/recorded"]["value"] for name in ("recognised", "recognised/run"))
    fast = [(batch, f"{value:,.0f}") for batch, value in speed.items() if batch != "threads"]
    scores = [(name, f"{one['value']:.3g} {one['unit']}") for name, one in told.items() if "samples" not in name]
    return f"""## Digits said: `say-digits`

A WaveNet that hears {1000 * found["hears_s"]:.0f} ms of 8 kHz sound, {found["weights"]:,} weights, told digit and
speaker. How many of the digits it says are heard as the asked one, by a listener that learned from the same real clips
as the voice, and by the trained run `spoken-digits`; chance is 10 %. Of recordings these two hear {listener:.1%} and
{by_run_recorded:.1%} rightly. {cost(found["cost"])}.

{table(("temperature", "heard as asked", "by `spoken-digits`"), rows)}
{table(("sounds side by side", f"samples a second together, {speed['threads']} thread(s)"), fast)}
{table(("score", "at temperature 1"), scores)}
All at once and by queue, one sample after the other, say the same to {found["unroll_minus_step"]:.0e}.
"""
