"""Verb 5 for a translator, `sakiyomi explain translate --text "..."`: where in the source each word comes from.

Writes `attention.png` into the run folder.
"""

from dataclasses import dataclass
from pathlib import Path

from sakiyomi.decode import Decoding
from sakiyomi.files import write_atomic
from sakiyomi.rollout import Trained
from sakiyomi.views.attention import attention_map
from sakiyomi.write import examples, gaze, translate, translator


@dataclass(frozen=True)
class Looking:
    """Options of `explain` for a translator."""

    text: str = ""
    """The sentence; the first one of the validation split if not given."""
    target: str = ""
    """What is said of it, words with spaces between; what the model says if not given."""
    beam: int = 4
    """Hypotheses of the beam search that says it."""
    device: str = "auto"
    """auto, cpu or cuda."""


def explain_text(trained: Trained, options: Looking, folder: Path) -> list[Path]:
    """The picture of one sentence. Raises SakiyomiError for a model that does not look."""
    translator(trained)
    found = translate(trained, [options.text or examples(trained)[0]], Decoding(beam=options.beam))[0]
    looked, read, said = gaze(trained, found.source, options.target or found.text)
    write_atomic(folder / "attention.png", attention_map(looked.numpy(), read, said))
    return [folder / "attention.png"]
