"""AN4: 948 short utterances of 74 speakers, letters, numbers and some commands (CMU, 1991), as cepstra.

    sakiyomi prepare an4 an4_mfcc.npz

The file holds `mfcc` float32 [N, 13] at 100 frames a second, `offsets` int64 [M + 1], `transcripts`, `utterance` and
`speaker` str [M]: utterance i is frames offsets[i] to offsets[i + 1]. Their mean over an utterance is taken away, which
is mostly of the microphone; two rounds of differences (deltas) are put beside them; and some frames become one, so that
a network has fewer to go through. A tenth of the speakers is held out for the test split, and others for validation:
which ones, follows from their names alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from zipfile import BadZipFile
from zlib import crc32

import numpy as np
import tyro

from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream
from sakiyomi.data.formats.importing import digest, given
from sakiyomi.data.vocabulary import EOS, Vocabulary
from sakiyomi.errors import SakiyomiError, at_least, at_most

RATE = 100.0  # frames a second
NEEDED = ("mfcc", "offsets", "transcripts", "utterance", "speaker")
SPAN = 2  # frames to either side that a difference is taken over


@dataclass(frozen=True)
class An4:
    """Import AN4."""

    path: tyro.conf.Positional[str] = ""
    """The .npz file of cepstra and transcripts."""
    stack: int = 3
    """Frames that become one."""
    test: float = 0.1
    """Share of the speakers for the test split."""
    validation: float = 0.07
    """Share of the speakers for the validation split."""

    def record(self, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> EpisodeStore:
        """Write the store; what is in it already is kept. Raises SakiyomiError for a file that holds something else."""
        at_least("--stack", self.stack, 1)
        for name in ("test", "validation"):
            at_least(f"--{name}", getattr(self, name), 0.01)
            at_most(f"--{name}", getattr(self, name), 0.4)
        found = read_an4(given(self.path, "an4_mfcc.npz, the cepstra and transcripts of AN4"))
        splits = split_of_speakers(sorted(set(found["speaker"].tolist())), self.test, self.validation)
        said = [str(text) for text in found["transcripts"]]
        kept = (text for text, speaker in zip(said, found["speaker"], strict=True) if splits[speaker] == "train")
        vocabulary = Vocabulary.learn(kept, "characters")
        rate = RATE / self.stack
        feature = Stream("scalar", (3 * found["mfcc"].shape[1] * self.stack,), "float32", rate)
        transcript = Stream("token", (), "int32", 1.0, vocabulary=vocabulary)
        origin = {
            "source": "an4",
            "sha256": digest([Path(self.path)]),
            **{k: v for k, v in vars(self).items() if k != "path"},
        }
        writer = EpisodeWriter(out, {"feature": feature, "transcript": transcript}, origin)
        edges = found["offsets"]
        for number, (first, last) in enumerate(pairwise(edges)):
            id, speaker = f"{number:04d}-{found['utterance'][number]}", str(found["speaker"][number])
            if id not in writer.ids:
                frames = stacked(with_deltas(found["mfcc"][first:last]), self.stack)
                ids = np.array([*vocabulary.encode(said[number]), EOS], np.int32)
                clocks = {"feature": np.arange(len(frames)) / rate, "transcript": np.arange(len(ids), dtype=float)}
                meta = {"speaker": speaker, "transcript": said[number]}
                writer.add(id, {"feature": frames, "transcript": ids}, clocks, splits[speaker], meta)
            progress(number + 1, len(edges) - 1)
        return writer.finish()


def read_an4(path: Path) -> dict[str, np.ndarray]:
    """The arrays of the file. Raises SakiyomiError when one is missing or they do not belong together."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: archive[name] for name in NEEDED if name in archive}
    except (OSError, ValueError, BadZipFile) as error:
        raise SakiyomiError(f"{path} is no .npz of arrays ({error}); name an4_mfcc.npz") from error
    missing = [name for name in NEEDED if name not in found]
    if missing:
        raise SakiyomiError(f"{path} has no {', '.join(missing)}; needed: {', '.join(NEEDED)}")
    counts = {name: len(found[name]) for name in NEEDED[2:]} | {"offsets - 1": len(found["offsets"]) - 1}
    if len(set(counts.values())) > 1 or found["offsets"][-1] != len(found["mfcc"]):
        raise SakiyomiError(f"{path}: {counts} utterances, and {len(found['mfcc'])} frames; they must belong together")
    empty = np.flatnonzero(np.diff(found["offsets"]) <= 0)
    if found["offsets"][0] != 0 or len(empty):
        at = (
            f"utterance {str(found['utterance'][empty[0]])!r} has no frame"
            if len(empty)
            else "they do not begin with 0"
        )
        raise SakiyomiError(f"{path}: the offsets are wrong, {at}; mend the file")
    return found


def split_of_speakers(speakers: list[str], test: float, validation: float) -> dict[str, str]:
    """The split of each, by a number that follows from the name: the first `test` of them, then `validation`. Names
    that differ in a digit at their end alone may be one person's, and stay together."""
    if len(speakers) < 3:
        raise SakiyomiError(
            f"{len(speakers)} speakers cannot be parted in three: training, validation and test need one each"
        )
    ranked = sorted(speakers, key=lambda name: (crc32(name.rstrip("0123456789").encode()), name))
    held = max(1, round(test * len(ranked)))
    more = held + max(1, round(validation * len(ranked)))
    names = ["test"] * held + ["validation"] * (more - held) + ["train"] * (len(ranked) - more)
    return dict(zip(ranked, names, strict=True))


def with_deltas(frames: np.ndarray) -> np.ndarray:
    """Frames [T, C] without their mean, with their slope and its slope, float32 [T, 3 C]."""
    level = frames - frames.mean(0)
    slope = slopes(level)
    return np.concatenate((level, slope, slopes(slope)), 1).astype(np.float32)


def slopes(values: np.ndarray) -> np.ndarray:
    """The slope of the line through each value and SPAN to either side, [T, C]; the ends repeat."""
    line = np.pad(values, ((SPAN, SPAN), (0, 0)), mode="edge")
    steps = len(values)
    apart = [n * (line[SPAN + n :][:steps] - line[SPAN - n :][:steps]) for n in range(1, SPAN + 1)]
    return np.sum(apart, 0) / (2 * sum(n * n for n in range(1, SPAN + 1)))


def stacked(frames: np.ndarray, count: int) -> np.ndarray:
    """Each `count` frames as one, [ceil(T / count), count C]; the last one is repeated to fill up."""
    short = -len(frames) % count
    filled = np.concatenate((frames, np.repeat(frames[-1:], short, 0)))
    return np.ascontiguousarray(filled.reshape(-1, count * frames.shape[1]))
