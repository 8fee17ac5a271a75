"""Verb 5 for a translator, `sakiyomi explain translate --text "..."`: where in the source each word comes from.

Writes `attention.png` into the run folder.
"""

from dataclasses import dataclass
from pathlib import Path

from sakiyomi.decode import Decoding
from sakiyomi.files import write_atomic
from sakiyomi.rollout import Trained
from sakiyomi.views.attention import attention_map
from sakiyomi.write import as_trained, examples, gaze, ids_of, in_utf8, said_of, translator, warn


@dataclass(frozen=True)
class Looking:
    """Options of `explain` for a translator."""

    text: str = ""
    """The sentence; the first one of the validation split if not given."""
    target: str = ""
    """What is said of it, in words as it says them; what the model says if not given."""
    beam: int = 4
    """Hypotheses of the beam search that says it."""
    device: str = "auto"
    """auto, cpu or cuda."""


def explain_text(trained: Trained, options: Looking, folder: Path) -> list[Path]:
    """The picture of one sentence; what of it the model does not know is said. Raises SakiyomiError for a model that
    does not look, and for a sentence without words."""
    _, *vocabularies = translator(trained)
    asked = {"--text": options.text, "--target": options.target}
    rows = {}
    for (name, text), vocabulary in zip(asked.items(), vocabularies, strict=True):
        if text:
            spelled = as_trained(in_utf8(name, text), vocabulary)
            rows[name] = ids_of(spelled, vocabulary, name)
            warn(vocabulary.unknown(spelled))
    source = rows["--text"] if "--text" in rows else examples(trained)[0]
    if "--target" in rows:
        target = rows["--target"][:-1]
    else:
        target = said_of(trained, [source], Decoding(beam=options.beam))[0].tokens[0]
    looked, read, said = gaze(trained, source[:-1].tolist(), target.tolist())
    write_atomic(folder / "attention.png", attention_map(looked.numpy(), read, said))
    return [folder / "attention.png"]
