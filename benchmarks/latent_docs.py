"""docs/latent-benchmarks.md and the README's rows, from benchmarks/results/latent: nothing there is typed."""

from pathlib import Path
from typing import Any

from benchmarks.page import cost, found_in, put_between, table, write_parts

HEAD = """# Benchmarks: latent spaces

Written by `python -m benchmarks.latent` (`make bench`) from the figures in `benchmarks/results/latent`. Pictures:
MNIST, 54,001 to train on, 5,999 for validation, the first 5,000 test pictures to score. Intervals are 95 %, over
pictures. One training a row: they do not cover the luck of a training.
"""


def write_page(results: Path, path: Path) -> None:
    """Write the page from whichever parts have been measured."""
    writers = {
        "nll": _nll,
        "cvae": _cvae,
        "spread": _spread,
        "style": _style,
        "photos": _photos,
        "browser": _browser,
    }
    write_parts(HEAD, writers, results, path, "latent")


def write_readme_rows(results: Path, readme: Path) -> None:
    """Put the measured presets between the README's two marks."""
    rows = []
    nll, cvae, style = (found_in(results, name) for name in ("nll", "cvae", "style"))
    if nll:
        nats = nll["nll"]["coin flips, seed 0"]["nats"]
        told = f"{nats:.1f} nats a picture, by 200 importance samples"
        rows.append(("`mnist-vae`", "`sakiyomi train mnist-vae`", cost(nll), told))
    if cvae:
        told = f"{_first(cvae)['carry the asked label']:.1%} of drawn digits are read as the asked one"
        if style:
            told += f"; nearer to its own hand than to {style['other sources further away']['mean']:.1%} of others"
        rows.append(("`mnist`", "`sakiyomi train mnist`", cost(cvae), told))
    rendered = table(("preset", "command", "training", "what came of it"), rows)
    put_between(readme, "drawn", rendered)


def _first(found: dict[str, Any]) -> dict[str, Any]:
    return next(iter(found["drawn"].values()))


def _nll(found: dict[str, Any]) -> str:
    rows = [
        (name, f"{one['nats']:.2f} ({one['95 %'][0]:.2f} to {one['95 %'][1]:.2f})", f"{one['bound, one draw']:.2f}")
        for name, one in found["nll"].items()
    ]
    return f"""## How likely a picture is: `mnist-vae`

Nats a picture by {found["samples"]} importance samples, {found["test pictures"]:,} test pictures. The pictures are coin
flips of their brightness, drawn anew in every step of training and once for the test; the same model on pictures cut at
half brightness stands beside it, and is no figure to compare with others. {found["steps"]:,} steps of
{found["pictures a step"]} pictures in {found["precision"]}: {cost(found)}.

{table(("test pictures", "nats", "bound by one draw"), rows)}"""


def _cvae(found: dict[str, Any]) -> str:
    reader = found["reader"]
    rows = [
        (
            name,
            f"{one['carry the asked label']:.2%} ({one['95 %'][0]:.2%} to {one['95 %'][1]:.2%})",
            " ".join(f"{100 * share:.1f}" for share in one["each digit"]),
        )
        for name, one in found["drawn"].items()
    ]
    return f"""## Does it draw what it is asked for: `mnist`

{found["each"]:,} pictures of each digit, read by a network that learned from real digits alone and reads
{reader["reads of the real test"]:.2%} of the real test pictures rightly. {cost(found)}, {found["steps"]:,} steps of
{found["pictures a step"]} pictures. The KL weight is 2, chosen by this very measure among 1, 1.5, 2 and 3 in shorter
trainings: with the bound's own weight 1 it was 96 %.

{table(("z", "carry the asked label", "digits 0 to 9, %"), rows)}
![Twelve drawn pictures of each digit.](digits.png)
"""


def _spread(found: dict[str, Any]) -> str:
    titles = {"mnist-ae": "plain autoencoder", "mnist-vae-2d": "VAE of the same sizes"}
    rows = [
        (title, f"{found[name]['deviation']:.2f}", f"{found[name]['low']:.1f} to {found[name]['high']:.1f}")
        for name, title in titles.items()
    ]
    return f"""## Where the codes lie

Two numbers of z, over the test pictures.

{table(("model", "deviation", "range"), rows)}
![The codes of the plain autoencoder are strewn over tens, those of the VAE fill a disc of about 1.](latent-maps.png)
"""


def _style(found: dict[str, Any]) -> str:
    far, ranks = found["other sources further away"], found["rank correlation"]
    rows = [
        ("other sources further away from a drawn digit than its own: mean", _interval(far)),
        ("the same, median", f"{far['median']:.1%}"),
        (
            "drawn digits nearer to their own source than to 95 % of others",
            f"{far['of digits drawn, nearer than 95 %']:.1%}",
        ),
        ("the same where the hands are exchanged (a half by chance)", f"{found['hands exchanged']:.1%}"),
        (
            "mean after refining z by 50 gradient steps on the source's pixels",
            f"{found['refined by 50 gradient steps']:.1%}",
        ),
        *((f"rank correlation of {name}, source and drawn", f"{value:.2f}") for name, value in ranks.items()),
    ]
    return f"""## My own hand

{found["sources"]:,} held-out digits are sources. From the z of one, and each label in turn, a digit is drawn; the
encoder reads the drawn one, told that label; of the other sources, the share is counted that is further from this z
than its own. The encoder that judges is the one that was used, so slant, thickness and width, which know nothing of
it, are compared, too.

{table(("measured", "figure"), rows)}"""


def _interval(found: dict[str, Any]) -> str:
    return f"{found['mean']:.1%} ({found['95 %'][0]:.1%} to {found['95 %'][1]:.1%})"


def _photos(found: dict[str, Any]) -> str:
    like = found["correlation with the original"]
    rows = [
        ("photos, refused", f"{found['photos']}, {len(found['refused'])}"),
        (
            "correlation of the digit read with the one photographed: mean, least",
            f"{like['mean']:.2f}, {like['least']:.2f}",
        ),
        (
            "other digits further away in z than the original",
            f"{found['other digits further away in z than the original']:.1%}",
        ),
        ("label found without being told", f"{found['label found']:.1%}"),
        ("ms a photo: median, most", f"{found['ms a photo']['median']:.0f}, {found['ms a photo']['most']:.0f}"),
    ]
    return f"""## Photos

Test digits as if photographed: paper of any colour in uneven light, turned by some degrees, blurred, noisy, JPEG.

{table(("measured", "figure"), rows)}"""


def _browser(found: dict[str, Any]) -> str:
    late = found["latency_ms"]
    rows = [
        ("moves of the point, pictures drawn", f"{found['moves']}, {found['pictures']}"),
        (
            "from a move to its picture, ms: median, 99 %, most",
            f"{late['p50']:.0f}, {late['p99']:.0f}, {late['most']:.0f}",
        ),
        ("from a dropped photo to the ten digits, ms", f"{found['photo_ms']:.0f}"),
        (
            "questions to other addresses, complaints in the console",
            f"{len(found['asked_elsewhere'])}, {len(found['complaints'])}",
        ),
        ("of a core that was free for it", f"{found['core']:.0%}"),
    ]
    return f"""## The page

Headless Chromium and the server on one machine.

{table(("measured", "figure"), rows)}
![The latent page: a map of z, sliders, labels, and a photo that was dropped on it.](latent-page.png)
"""
