"""Sound as WAV files: each an episode with one clip. Read and written; sixteen bits stay what they are.

    sakiyomi prepare wav recordings --out data/sounds           # recordings/siren/001.wav: its label is `siren`
    sakiyomi prepare wav recordings --labels labels.csv --out data/sounds
    sakiyomi prepare export wav data/sounds --out recordings

labels.csv has a line of names, then a line a clip: `file,label`, the path inside the folder and words with spaces
between them. What is exported has `file,split,time,...`: when a clip begins, in seconds, and a column for each word, 1
where it is true of the clip. A file of one channel of 16 bits is kept to the last bit; any other (more channels,
floats, another rate) is brought to that, and its episode's meta says what was done. That needs the extra
`sakiyomi[audio]`.
"""

import csv
import io
import wave
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import tyro

from sakiyomi.audio.wave import RATES, quantised, read_sound
from sakiyomi.data.episodes import EpisodeStore, Stream
from sakiyomi.data.formats.beginnings import beginning
from sakiyomi.data.formats.folder_layout import SPLITS
from sakiyomi.data.formats.gathering import Content, Foreign, Track, check_settings, gather
from sakiyomi.data.formats.importing import given
from sakiyomi.data.formats.motion_files import splits
from sakiyomi.data.sources.mocap import episode_ids
from sakiyomi.errors import SakiyomiError, unknown
from sakiyomi.files import write_atomic

LABELS = "labels.csv"
COLUMNS = ("file", "split", "time")
"""Columns of labels.csv that are no word."""
LONGEST = 2**31  # bytes of a file
MANY = 10_000  # words of labels


@dataclass(frozen=True)
class Labels:
    """What is told of the files."""

    words: tuple[str, ...]
    clips: Mapping[str, tuple["Clip", ...]]
    """Of each file by its path inside the folder, in order of time."""
    split: Mapping[str, str]


@dataclass(frozen=True)
class Clip:
    time: float
    """When it begins, s."""
    label: np.ndarray
    """float32 [L]: 1 for each word that is true of it."""


@dataclass(frozen=True)
class Wav:
    """Import WAV files."""

    path: tyro.conf.Positional[str] = ""
    """A folder of .wav files, searched with all its folders, or one file."""
    labels: str = ""
    """A table (CSV) of the files' labels; if not given, labels.csv in the folder, or the names of the folders in it."""
    rate: int = 0
    """Samples a second; files of another are resampled. 0 takes that of the first file, and refuses others."""
    validation: float = 0.1
    """Share of the files for the validation split, spread over all, where neither folders nor labels say it."""

    def record(self, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> EpisodeStore:
        """Write the store; what is in it already is kept.

        Raises SakiyomiError when there is nothing to read, and, at the very end, when something is damaged.
        """
        check_settings(self.validation, (0, 0))
        if self.rate and not RATES[0] <= self.rate <= RATES[1]:
            raise SakiyomiError(f"--rate is {self.rate}; samples come {RATES[0]} to {RATES[1]} times a second")
        path = given(self.path, "a folder of .wav files: sakiyomi prepare wav FOLDER")
        names = wav_files(path)
        labels, rate = self._labels(path, list(names)), self.rate or first_rate(list(names.values()))
        settings = {name: value for name, value in asdict(self).items() if name not in ("path", "labels")}
        origin = {"source": "wav", **settings, "words": list(labels.words)}
        dealt = splits(len(names), self.validation, 0) if len(names) > 1 else ["train"]
        episodes = [
            Foreign(id, str(file), partial(self.read, file, name, labels, rate), labels.split.get(name, split))
            for (name, file), id, split in zip(names.items(), episode_ids(names), dealt, strict=True)
        ]
        return gather(out, origin, episodes, self.validation, progress)

    def read(self, path: Path, name: str, labels: Labels, rate: int) -> Content:
        """One file. Raises SakiyomiError when it is no sound, damaged, or of another rate and none was asked for."""
        if not self.rate and (came := rate_of(path)) != rate:
            raise SakiyomiError(
                f"{path} has {came} samples a second, the first file {rate}; bring all to one with --rate {rate}"
            )
        samples, notes = read_samples(path, rate)
        tracks = {"sample": Track(samples, np.arange(len(samples)) / rate, "audio", float(rate))}
        if labels.words:
            clips = labels.clips.get(name, ())
            if not clips:
                raise SakiyomiError(f"{path} has no label; add a line for {name!r} to the table of labels")
            begins = np.array([clip.time for clip in clips])
            label = Stream("label", (len(labels.words),), "float32", 1.0, names=labels.words)
            values = np.stack([clip.label for clip in clips])
            tracks["label"] = Track(values, begins, "label", 1.0, "", labels.words, label)
        return Content(tracks, {"notes": list(notes)} if notes else {})

    def _labels(self, path: Path, names: list[str]) -> Labels:
        beside = path / LABELS if path.is_dir() else path.with_name(LABELS)
        if self.labels or beside.is_file():
            table = given(self.labels, "a table of labels (CSV)") if self.labels else beside
            return read_labels(table, names)
        parts = {name: name.split("/")[:-1] for name in names}
        split = {name: SPLITS[folders[0]] for name, folders in parts.items() if folders and folders[0] in SPLITS}
        folders = {name: own[-1] for name, own in parts.items() if own and own[-1] not in SPLITS}
        words = tuple(sorted({*folders.values()}))
        if not words or len(folders) < len(names):
            return Labels((), {}, split)
        clips = {name: (Clip(0.0, one_hot(words, (word,))),) for name, word in folders.items()}
        return Labels(words, clips, split)


def one_hot(words: tuple[str, ...], true: tuple[str, ...]) -> np.ndarray:
    return np.array([word in true for word in words], np.float32)


def read_labels(path: Path, names: list[str]) -> Labels:
    """A table of labels for files of these names. Raises SakiyomiError, with the line, for what is none."""
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""), restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SakiyomiError(f"{path} cannot be read as a table of labels: {error}") from error
    columns = [column for column in (rows[0] if rows else {}) if column is not None]
    if "file" not in columns or len(columns) < 2:
        raise SakiyomiError(f"{path} has columns {', '.join(columns) or 'none'}; expected file,label")
    plain = "label" in columns
    texts = {text for row in rows for text in row["label"].split()} if plain else set()
    words = tuple(sorted(texts)) if plain else tuple(column for column in columns if column not in COLUMNS)
    if len(words) > MANY:
        raise SakiyomiError(f"{path} has {len(words)} different words; at most {MANY} are labels")
    clips: dict[str, list[Clip]] = {}
    split: dict[str, str] = {}
    for line, row in enumerate(rows, 2):
        where, name = f"{path}, line {line}", row["file"]
        if name not in names:
            raise SakiyomiError(f"{where}: {unknown('file', name, names[:200])}")
        if None in row:
            raise SakiyomiError(f"{where}: more than {len(columns)} columns")
        values = (
            one_hot(words, tuple(row["label"].split())) if plain else np.array([_truth(where, row[w]) for w in words])
        )
        clips.setdefault(name, []).append(Clip(_seconds(where, row.get("time") or "0"), values.astype(np.float32)))
        if row.get("split"):
            split[name] = row["split"]
    return Labels(words, {name: tuple(own) for name, own in clips.items()}, split)


def _truth(where: str, text: str) -> float:
    if text not in ("0", "1"):
        raise SakiyomiError(f"{where}: {text[:20]!r} is neither 0 nor 1")
    return float(text)


def _seconds(where: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise SakiyomiError(f"{where}: {text[:20]!r} is no time in seconds")
    return seconds


def read_samples(path: Path, rate: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Samples int16 [T] at `rate`, and what had to be done for that.

    Raises SakiyomiError for what is no sound, is cut off, or holds none.
    """
    check_whole(path)
    try:
        with wave.open(str(path), "rb") as file:
            if (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, rate):
                content = file.readframes(file.getnframes())
                if len(content) != 2 * file.getnframes() or not content:
                    raise SakiyomiError(f"{path} has {len(content)} bytes of sound; it is empty or cut off")
                return np.frombuffer(content, "<i2").astype(np.int16), ()
    except (wave.Error, EOFError, OSError, RuntimeError, ValueError):
        pass  # no plain WAV; what else it may be, the other reader knows
    if not RATES[0] <= (came := rate_of(path)) <= RATES[1]:
        raise SakiyomiError(f"{path} claims {came} samples a second; {RATES[0]} to {RATES[1]} are read")
    sound = read_sound(path, rate)
    return quantised(sound.samples, 16).astype(np.int16), (*sound.notes, "brought to one channel of 16 bits")


def rate_of(path: Path) -> int:
    """Samples a second, by the header of a WAV file. Raises SakiyomiError when it has none."""
    for number, size, content in chunks(path):
        if number == b"fmt " and size >= 16 and len(content) >= 8:
            return int.from_bytes(content[4:8], "little")
    raise SakiyomiError(f"{path} has no header of a WAV file; save it as WAV")


def first_rate(paths: list[Path]) -> int:
    """That of the first file that tells one. Raises SakiyomiError when none does."""
    for path in paths[:-1]:
        with suppress(SakiyomiError):
            return rate_of(path)
    return rate_of(paths[-1])


def check_whole(path: Path) -> None:
    """Raises SakiyomiError when a WAV file is shorter than its header says: libraries read what there is, silently."""
    total = path.stat().st_size
    if total > LONGEST:
        raise SakiyomiError(f"{path} is larger than {LONGEST} bytes; cut it into pieces")
    position = 12
    for number, size, _ in chunks(path):
        position += 8 + size
        if position > total:
            raise SakiyomiError(
                f"{path} is cut off: its part {number.decode('latin-1')!r} should end at byte {position} of {total}; "
                "save it anew"
            )
        position += size % 2


def chunks(path: Path) -> list[tuple[bytes, int, bytes]]:
    """The parts of a WAV file: name, size as told, and its first bytes. Raises SakiyomiError for what is none."""
    found = []
    try:
        with path.open("rb") as file:
            begin = file.read(12)
            if begin[:4] != b"RIFF" or begin[8:] != b"WAVE":
                raise SakiyomiError(f"{path} does not begin as a WAV file; save it as WAV")
            while len(head := file.read(8)) == 8 and len(found) < 1000:
                size = int.from_bytes(head[4:], "little")
                content = file.read(min(size, 16))
                found.append((head[:4], size, content))
                file.seek(size + size % 2 - len(content), io.SEEK_CUR)
    except OSError as error:
        raise SakiyomiError(f"cannot read {path}: {error.strerror}") from error
    return found


def wav_files(path: Path) -> dict[str, Path]:
    """The files by their paths inside the folder, in order. Raises SakiyomiError when there are none."""
    if path.is_file():
        return {path.name: path}
    found = [one for one in sorted(path.rglob("*")) if one.suffix.lower() == ".wav" and one.is_file()]
    found = [one for one in found if not one.name.startswith(".")]
    if not found:
        raise SakiyomiError(f"{path} holds no .wav file; name a file or a folder of them")
    return {one.relative_to(path).as_posix(): one for one in found}


def recognises(path: Path) -> bool:
    """Whether it is a WAV file, or a folder in which the first one is, by its first bytes."""
    begin = b"" if path.suffix.lower() == ".zip" else beginning(path, (".wav",), 12)
    return begin[:4] == b"RIFF" and begin[8:] == b"WAVE"


# ---- Writing ---------------------------------------------------------------------------------------------------------


def write_wavs(store: EpisodeStore, out: Path) -> None:
    """A file an episode, `out/ID.wav`, and labels.csv with their splits, clips and labels.

    Raises SakiyomiError when the store has no sound of 16 bits, or more than one stream of it, when samples are
    missing in between, and when the disk refuses.
    """
    sample = _sound(store)
    rate = round(store.streams[sample].rate)
    label = next((name for name, stream in store.streams.items() if stream.kind == "label"), "")
    words = store.streams[label].names if label else ()
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*COLUMNS, *words])
    for entry in store.entries:
        samples, times = store.values(entry.id, sample), store.times(entry.id, sample)
        late = np.abs(times - times[0] - np.arange(len(times)) / rate)
        if late.max() > 0.5 / rate:
            raise SakiyomiError(
                f"episode {entry.id!r}: sample {int(late.argmax())} is {late.max():g} s off, and WAV has no clock: "
                "samples are missing, or of another rate. Cut the episode there"
            )
        write_atomic(out / f"{entry.id}.wav", wav_bytes(samples, rate))
        begins = store.times(entry.id, label) - times[0] if label else [0.0]
        truths = store.values(entry.id, label) if label else np.zeros((1, 0))
        for begin, truth in zip(begins, truths, strict=True):
            row = [f"{entry.id}.wav", entry.split, repr(max(0.0, float(begin)))]
            writer.writerow([*row, *(str(int(value > 0.5)) for value in truth)])
    write_atomic(out / LABELS, file.getvalue().encode())


def _sound(store: EpisodeStore) -> str:
    """The stream that is written."""
    found = [name for name, stream in store.streams.items() if stream.kind == "audio"]
    if len(found) != 1:
        told = ", ".join(f"{name} ({stream.kind})" for name, stream in store.streams.items())
        raise SakiyomiError(f"{store.place} has {told}; a folder of WAV files takes one stream of kind audio")
    stream = store.streams[found[0]]
    if stream.dtype != "int16" or stream.shape or stream.rate != round(stream.rate):
        raise SakiyomiError(
            f"stream {found[0]!r} is {stream.dtype} [T, {', '.join(map(str, stream.shape))}] at {stream.rate:g} Hz; "
            "expected int16 [T], a whole number a second"
        )
    return found[0]


def wav_bytes(samples: np.ndarray, rate: int) -> bytes:
    """Samples int16 [T] as a WAV file of one channel."""
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return content.getvalue()
