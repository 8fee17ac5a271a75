"""Text from plain files: sentence pairs for a translator, or one long text for a language model.

    sakiyomi prepare translate --source train.en --target train.ja
    sakiyomi prepare shakespeare input.txt

UTF-8. What a line or a text cannot be used for is left out and counted, never silently.
"""

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tyro

from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream
from sakiyomi.data.formats.importing import digest, given
from sakiyomi.data.public import located
from sakiyomi.data.vocabulary import EOS, Split, Vocabulary, pieces
from sakiyomi.errors import SakiyomiError, at_least, at_most
from sakiyomi.run import console

SHARD = 10_000  # sentences an episode
CUT = ("wordpiece", "bpe")  # only a vocabulary says how many tokens a line has


@dataclass(frozen=True)
class SentencePairs:
    """Two files whose lines belong together: sentences and what they are to become."""

    path: tyro.conf.Positional[str] = "small-parallel-enja"
    """Folder of the files, or the name of a public set, once fetched."""
    source: str = "train.en"
    """The file of what is read."""
    target: str = "train.ja"
    """The file of what is said."""
    validation_source: str = "dev.en"
    """The same to validate on; empty takes the share `validation` of the pairs."""
    validation_target: str = "dev.ja"
    """What they are to become."""
    validation: float = 0.02
    """The share of the pairs to validate on where there are no files for it, the last ones."""
    split: Split = "words"
    """How a line is split."""
    target_split: Split | Literal[""] = ""
    """How a line of the target is split; empty: as those of the source."""
    least: int = 1
    """Words that come less often are unknown."""
    most: int = 0
    """The most words a vocabulary holds; 0 sets no bound."""
    longest: int = 100
    """Pairs with a sentence of more tokens are left out."""

    def record(self, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> EpisodeStore:
        """Write the store. Vocabularies come from the training pairs alone; pairs of the validation files that are
        among those for training are left out there, or the score would be of what was learned by heart.

        Raises SakiyomiError for files that are missing, not UTF-8, or of different numbers of lines, where nothing is
        left to learn or to validate on, and for a store that was made from other files.
        """
        at_least("--longest", self.longest, 1)
        folder = located(self.path, "a folder with the files of --source and --target")
        files = [folder / self.source, folder / self.target]
        pairs = read_pairs(*files)
        if self.validation_source:
            files += [folder / self.validation_source, folder / self.validation_target]
            held_out = read_pairs(*files[2:])
        else:
            at_least("--validation", self.validation, 0.001)
            at_most("--validation", self.validation, 0.5)
            if len(pairs) < 2:
                raise SakiyomiError(f"{files[0]} has {len(pairs)} line; 2 or more are needed, one to validate on")
            count = max(1, round(self.validation * len(pairs)))
            pairs, held_out = pairs[:-count], pairs[-count:]
        pairs = self._usable(pairs, "training")
        held_out = self._usable(held_out, "validation")
        seen = set(pairs)
        fresh = [pair for pair in held_out if pair not in seen]
        if len(fresh) < len(held_out):
            console.print(f"{len(held_out) - len(fresh)} pairs of validation are among those for training: left out")
        if not fresh:
            raise SakiyomiError(
                f"all {len(held_out)} pairs to validate on are among those for training; give others, or "
                '--validation-source "" to take the last ones of the training files'
            )
        streams = streams_of(pairs, self.split, self.least, self.most, self.target_split)
        if set(self._splits) & set(CUT):
            known = [stream.vocabulary for stream in streams.values() if stream.vocabulary is not None]
            pairs, fresh = self._usable(pairs, "training", known), self._usable(fresh, "validation", known)
        origin = {k: v for k, v in vars(self).items() if k != "path" and (k, v) != ("target_split", "")}
        writer = EpisodeWriter(out, streams, origin={**origin, "sha256": digest(files)})
        shards = [pairs[first : first + SHARD] for first in range(0, len(pairs), SHARD)]
        for number, (split, shard) in enumerate([*(("train", shard) for shard in shards), ("validation", fresh)]):
            add_pairs(writer, f"{split}-{number:03}", split, shard)
            progress(number + 1, len(shards) + 1)
        return writer.finish()

    @property
    def _splits(self) -> tuple[Split, Split]:
        return self.split, self.target_split or self.split

    def _usable(
        self, pairs: Sequence[tuple[str, str]], what: str, known: Sequence[Vocabulary] = ()
    ) -> list[tuple[str, str]]:
        """Those with words on both sides, and not too many tokens. Before the vocabularies are learned pieces cannot be
        counted: words are, which are never more. Raises SakiyomiError when none is left."""
        if known:
            lengths = [[len(words.encode(text)) for words, text in zip(known, pair, strict=True)] for pair in pairs]
        else:
            splits: list[Split] = ["words" if split in CUT else split for split in self._splits]
            lengths = [[len(pieces(text, split)) for split, text in zip(splits, pair, strict=True)] for pair in pairs]
        fits = [min(counts) > 0 and max(counts) <= self.longest for counts in lengths]
        good = [pair for pair, fit in zip(pairs, fits, strict=True) if fit]
        empty = sum(min(counts) == 0 for counts in lengths)
        if len(good) < len(pairs):
            tokens = "tokens" if known or "characters" in self._splits else "words"
            long = len(pairs) - len(good) - empty
            told = f"{empty} with an empty line, {long} with more than {self.longest} {tokens}"
            console.print(f"{what}: of {len(pairs)} pairs left out {told}", style="yellow")
        if not good:
            raise SakiyomiError(f"no pair of {len(pairs)} is left for {what}: all are empty or longer than --longest")
        return good


@dataclass(frozen=True)
class PlainText:
    """One long text."""

    path: tyro.conf.Positional[str] = "tiny-shakespeare"
    """The file, or the name of a public set, once fetched."""
    split: Split = "characters"
    """What a token is."""
    least: int = 1
    """Words that come less often are unknown."""
    most: int = 0
    """The most words the vocabulary holds; 0 sets no bound."""
    validation: float = 0.1
    """The share of the text to validate on, its end."""

    def record(self, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> EpisodeStore:
        """Write the store; the vocabulary comes from the part for training. Raises SakiyomiError for a file that is
        missing, empty, not UTF-8 or too short, and for a store that was made from another one."""
        at_least("--validation", self.validation, 0.001)
        at_most("--validation", self.validation, 0.5)
        place = located(self.path, "a text file")
        file = place if place.is_file() else one_file(place)
        text = read_text(file)
        cut = round(len(text) * (1 - self.validation))
        parts = {"train": text[:cut], "validation": text[cut:]}
        vocabulary = Vocabulary.learn([parts["train"]], self.split, self.least, self.most)
        stream = Stream("token", (), "int32", 1.0, vocabulary=vocabulary)
        encoded = {split: np.array(vocabulary.encode(part), np.int32) for split, part in parts.items()}
        if not len(encoded["validation"]):
            raise SakiyomiError(
                f"{file} is too short: of {len(text)} characters, the last {len(text) - cut} to validate on hold no "
                f"{vocabulary.unit}; give a longer text, or more of it (--validation, a share)"
            )
        origin = {k: v for k, v in vars(self).items() if k != "path"}
        writer = EpisodeWriter(out, {"token": stream}, origin={**origin, "sha256": digest([file])})
        for done, (split, ids) in enumerate(encoded.items(), 1):
            if split not in writer.ids:
                writer.add(split, {"token": ids}, {"token": np.arange(len(ids), dtype=float)}, split)
            progress(done, len(encoded))
        return writer.finish()


def read_text(path: Path) -> str:
    """A file as text in Unicode's composed form. Raises SakiyomiError when it is missing, a folder, empty or not
    UTF-8, and where lines end with CR alone."""
    if given(str(path), "a text file in UTF-8").is_dir():
        raise SakiyomiError(f"{path} is a folder; name a text file in UTF-8")
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SakiyomiError(
            f"{path} is not UTF-8: byte {error.start} is 0x{content[error.start]:02x}; convert it, say with iconv"
        ) from error
    if not text.strip():
        raise SakiyomiError(f"{path} holds no text; give a file that does")
    text = text.replace("\r\n", "\n")
    if "\r" in text and "\n" not in text:
        raise SakiyomiError(f"{path} ends its lines with CR alone; convert it: tr '\\r' '\\n'")
    return unicodedata.normalize("NFC", text)


def read_pairs(source: Path, target: Path) -> list[tuple[str, str]]:
    """Line by line. Raises SakiyomiError for files of different numbers of lines."""
    # Not `splitlines`, which also splits at characters that one of the files may have within a sentence.
    lines = [read_text(path).removesuffix("\n").split("\n") for path in (source, target)]
    if len(lines[0]) != len(lines[1]):
        raise SakiyomiError(
            f"{source} has {len(lines[0])} lines and {target} {len(lines[1])}; line n of one must belong to line n of "
            "the other"
        )
    return [(a.strip(), b.strip()) for a, b in zip(*lines, strict=True)]


def one_file(folder: Path) -> Path:
    """The text file of a fetched set."""
    found = sorted(folder.glob("*.txt"))
    if len(found) != 1:
        raise SakiyomiError(f"{folder} holds {len(found)} text files (*.txt); name one of them")
    return found[0]


def streams_of(
    pairs: Sequence[tuple[str, str]],
    split: Split = "words",
    least: int = 1,
    most: int = 0,
    target_split: Split | Literal[""] = "",
) -> dict[str, Stream]:
    """`source` and `target`, each with the words of its side of these pairs."""
    splits: tuple[Split, Split] = (split, target_split or split)
    known = [Vocabulary.learn((pair[i] for pair in pairs), splits[i], least, most) for i in (0, 1)]
    return {
        name: Stream("token", (), "int32", 1.0, vocabulary=vocabulary)
        for name, vocabulary in zip(("source", "target"), known, strict=True)
    }


def add_pairs(writer: EpisodeWriter, id: str, split: str, pairs: Sequence[tuple[str, str]]) -> None:
    """An episode of sentence pairs, unless it is there already."""
    if id in writer.ids:
        return
    values = {}
    for side, (name, stream) in enumerate(writer.streams.items()):
        if stream.vocabulary is not None:
            values[name] = flat(stream.vocabulary.encode(pair[side]) for pair in pairs)
    writer.add(id, values, {name: np.arange(len(ids), dtype=float) for name, ids in values.items()}, split)


def flat(rows: Iterable[list[int]]) -> np.ndarray:
    """Sentences one after the other, each with EOS, int32."""
    return np.array([number for row in rows for number in (*row, EOS)], np.int32)
