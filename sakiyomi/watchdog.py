"""Watchdogs: what looks wrong in a training, told from its log alone, with the usual cure.

`warnings` is a function of the lines of metrics.jsonl, so that the training, a resumed one and the report say the
same.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Watch:
    """When to speak."""

    kl: float = 0.05
    """Nats a step under which the latent counts as unused."""
    active: float = 0.5
    """A latent of which a smaller share of the numbers is in use counts as collapsed."""
    dependence: float = 0.01
    """Predictions that move less than this when the past (or the actions) are another recording's, as a share of how
    far the truth moves, count as independent of it."""
    validations: int = 4
    """So many validations in a row."""


@dataclass(frozen=True)
class _Sign:
    measure: str  # of validation
    least: float
    what: str
    cure: str


def warnings(metrics: list[dict[str, float]], watch: Watch) -> dict[str, str]:
    """What is wrong as of the last validations, by a short name; nothing where all is well or not measured."""
    signs = {
        "latent unused": _Sign(
            "validation/kl",
            watch.kl,
            "the latent is unused ({:.2g} nats a step): all futures look alike",
            "a smaller KL weight (--train.losses.kl.value), or one that rises from 0 again and again "
            "(--train.losses.kl.first 0 --train.losses.kl.curve linear --train.losses.kl.cycles 3). Where the actions "
            "settle everything there is nothing to cure",
        ),
        "latent collapsed": _Sign(
            "validation/active",
            watch.active,
            "the latent has collapsed: only {:.0%} of its numbers say anything",
            "a smaller KL weight (--train.losses.kl.value), one that rises from 0 (--train.losses.kl.first 0 "
            "--train.losses.kl.curve linear), or fewer numbers (--model.latent)",
        ),
        "past ignored": _Sign(
            "validation/uses_past",
            watch.dependence,
            "predictions hardly depend on the past (another one moves them by {:.2g} of the true motion)",
            "teacher forcing that falls (--train.teacher-forcing.step), a larger KL weight, so that z cannot carry "
            "everything, or a longer training",
        ),
        "actions ignored": _Sign(
            "validation/uses_conditions",
            watch.dependence,
            "predictions hardly depend on the actions (others move them by {:.2g} of the true motion)",
            "see that actions and frames belong together (clock, delay, units), take a larger KL weight, so that z "
            "cannot say what the action should, or train longer",
        ),
    }
    validations = [line for line in metrics if "validation/total" in line][-watch.validations :]
    if any("validation/active" in line for line in validations):
        del signs["latent unused"]  # the same, told number by number
    found = {}
    for name, sign in signs.items():
        values = [line[sign.measure] for line in validations if sign.measure in line]
        if len(values) == watch.validations and max(values) < sign.least:
            told = f"under {sign.least:g} for {watch.validations} validations"
            found[name] = f"{sign.what.format(values[-1])}, {told}. Usual cure: {sign.cure}."
    return found
