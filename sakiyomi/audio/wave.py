"""Sound files to samples and back; samples to fewer values, and back.

    sound = read_sound(Path("seven.wav"), rate=8000)
    sound.samples, sound.notes

What is read is one channel at the rate a model was trained at, float32 in -1..1. What had to be done for that, and what
is wrong with the recording (clipped, silent), stands in the notes; what cannot be used is refused. Letters: N samples.
"""

import importlib
import io
import math
import wave
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from sakiyomi.errors import SakiyomiError, at_least, at_most
from sakiyomi.files import write_atomic

RATES = (100, 768_000)  # Hz, that can be read as and resampled to
LONGEST = 3600.0  # seconds of a file that are read at most
SILENT = 1e-3  # of full scale, -60 dB: a recording whose loudest sample is under it is silence
CLIPPED = 1e-4  # the share of samples from which on a recording is called clipped
RUN = 3  # samples in a row at full scale are clipped; one or two are the top of a wave
STEP = 2**-15  # of 16 bits, the finest that most recordings have
# The largest value of formats that do not reach 1, by the name soundfile has for them.
FULL = {"PCM_U8": 127 / 128, "PCM_S8": 127 / 128, "ULAW": 32124 / 32768, "ALAW": 32256 / 32768}
MU = 255


@dataclass(frozen=True)
class Sound:
    """One channel of sound."""

    samples: np.ndarray
    """float32 [N] in -1..1."""
    rate: int
    """Samples a second."""
    notes: tuple[str, ...]
    """What was done to the recording, and what is wrong with it, in words."""

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate


# ---- Files -----------------------------------------------------------------------------------------------------------


def read_sound(source: Path | bytes, rate: int) -> Sound:
    """The sound in a file (WAV, FLAC, Ogg, MP3 and what else libsndfile reads), or in its bytes, at `rate`.

    Several channels become their mean; another rate is resampled by `resample`. Raises SakiyomiError for a file that
    is missing, empty, longer than LONGEST, no sound, or holds a number that is none.
    """
    name = str(source) if isinstance(source, Path) else "the sound"
    channels, came, full = _opened(source, name)
    if not len(channels):
        raise SakiyomiError(f"{name} holds no sample; record it again")
    wrong = ~np.isfinite(channels).all(1)
    if wrong.any():
        raise SakiyomiError(
            f"{name} holds {int(wrong.sum())} samples that are no number (NaN or infinite), the first at "
            f"{wrong.argmax() / came:.3f} s; write it again from the recording"
        )
    notes = []
    samples = channels.mean(1)
    if channels.shape[1] > 1:
        notes.append(f"{channels.shape[1]} channels: their mean")
    if silent(samples):
        cancelled = not silent(channels)
        notes.append("silent: its channels cancel out" if cancelled else f"silent: all of it under {SILENT:g} of full")
    clipped = max(clipped_share(channel, full) for channel in channels.T)
    if clipped >= CLIPPED:
        notes.append(f"clipped: {100 * clipped:.2g}% of its samples are at full scale; record it at a lower level")
    if came != rate:
        notes.append(f"resampled from {came} to {rate} Hz")
        samples = resample(samples, came, rate)
    return Sound(samples.clip(-1, 1).astype(np.float32), rate, tuple(notes))


def _opened(source: Path | bytes, name: str) -> tuple[np.ndarray, int, float]:
    """All channels [N, channels], the rate, and the largest value of the format. Raises SakiyomiError."""
    soundfile = _library("soundfile", "sound files cannot be read")
    try:
        # In memory, so that the ending of the name does not count.
        content = source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:
        raise SakiyomiError(f"{name} cannot be read: {error.strerror or error}") from error
    if not content:
        raise SakiyomiError(f"{name} is empty; record it again")
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            if file.frames > LONGEST * file.samplerate:
                raise SakiyomiError(
                    f"{name} is {file.frames / file.samplerate / 60:.0f} minutes long; at most {LONGEST / 60:.0f} are "
                    "read; cut it into pieces"
                )
            full = FULL.get(file.subtype, 1.0)
            return file.read(dtype="float32", always_2d=True), file.samplerate, full
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        told = getattr(error, "error_string", error)  # the whole message holds an address of memory
        raise SakiyomiError(f"{name} is no sound that can be read ({told}); save it as WAV or FLAC") from error


def write_wav(path: Path, samples: np.ndarray, rate: int) -> None:
    """Samples [N] as a WAV file of one channel of 16 bits; what is beyond -1..1 is cut off.

    Raises SakiyomiError for numbers that are none, and where the file cannot be written.
    """
    _rate(rate)
    levels = quantised(_line(samples), 16)
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(levels.astype("<i2").tobytes())
    write_atomic(path, content.getvalue())


def resample(samples: np.ndarray, came: int, rate: int) -> np.ndarray:
    """Samples [N] at `came` Hz -> about N rate / came of them at `rate` Hz.

    By soxr at its high quality: what is above half of the lower rate is taken away first, by more than 100 dB, or it
    would come back as another frequency; up to 0.9 of that half all is kept.
    """
    _rate(came)
    _rate(rate)
    soxr = _library("soxr", "sound cannot be resampled")
    return soxr.resample(_line(samples), came, rate, quality="HQ")


# ---- What is wrong with a recording ----------------------------------------------------------------------------------


def clipped_share(samples: np.ndarray, full: float = 1.0) -> float:
    """The share of samples [N] that are at full scale, RUN or more in a row; a clean wave only touches it."""
    at_full = np.abs(_line(samples)) >= full - 1.5 * STEP
    edges = np.flatnonzero(np.diff(np.r_[False, at_full, False]))
    runs = edges[1::2] - edges[::2]
    return float(runs[runs >= RUN].sum() / len(at_full))


def silent(samples: np.ndarray) -> bool:
    """Whether no sample is as loud as SILENT, -60 dB."""
    return not np.abs(samples).max(initial=0) >= SILENT


# ---- Fewer values ----------------------------------------------------------------------------------------------------


def quantised(samples: np.ndarray, bits: int) -> np.ndarray:
    """Samples in -1..1 -> the nearest of 2^bits levels, int64 in -2^(bits-1) .. 2^(bits-1) - 1; level / 2^(bits-1) is
    the sample again. What is beyond is cut off. Each bit is 6.02 dB less noise."""
    at_least("the bits of a sample", bits, 2)
    at_most("the bits of a sample", bits, 32)
    half = 2 ** (bits - 1)
    return np.rint(np.asarray(samples, np.float64) * half).clip(-half, half - 1).astype(np.int64)


def mu_law(samples: np.ndarray, values: int = MU + 1) -> np.ndarray:
    """Samples in -1..1 -> ids 0 .. values - 1, int64 of the same shape; what is beyond is cut off.

    sign(x) ln(1 + mu |x|) / ln(1 + mu) with mu = values - 1 (ITU-T G.711), cut into equal steps: quiet samples get
    finer ones. Of silence it is values / 2.
    """
    mu = _mu(values)
    loud = np.asarray(samples, np.float64).clip(-1, 1)
    bent = np.sign(loud) * np.log1p(mu * np.abs(loud)) / math.log1p(mu)
    return np.floor((bent + 1) / 2 * mu + 0.5).astype(np.int64)


def from_mu_law(ids: np.ndarray, values: int = MU + 1) -> np.ndarray:
    """Ids 0 .. values - 1 -> samples, float32 in -1..1 of the same shape. Raises SakiyomiError for other ids."""
    mu, ids = _mu(values), np.asarray(ids)
    if ids.size and not (ids.min() >= 0 and ids.max() < values):
        raise SakiyomiError(f"mu-law ids are 0 to {values - 1}; got {ids.min()} to {ids.max()}")
    bent = 2 * ids.astype(np.float64) / mu - 1
    return (np.sign(bent) * np.expm1(np.abs(bent) * math.log1p(mu)) / mu).astype(np.float32)


def _mu(values: int) -> int:
    at_least("the values of mu-law", values, 2)
    return values - 1


def _line(samples: np.ndarray) -> np.ndarray:
    """Floating-point samples [N], at least one, all of them numbers; else SakiyomiError."""
    samples = np.asarray(samples)
    if samples.ndim != 1 or not len(samples) or not np.issubdtype(samples.dtype, np.floating):
        raise SakiyomiError(
            f"samples are floating-point numbers [N] in -1..1, at least one; got {samples.dtype} {list(samples.shape)}"
        )
    if not np.isfinite(samples).all():
        raise SakiyomiError("the samples hold numbers that are none (NaN or infinite)")
    return samples


def _rate(rate: int) -> None:
    at_least("the rate of samples, Hz,", rate, RATES[0])
    at_most("the rate of samples, Hz,", rate, RATES[1])


def _library(name: str, lost: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SakiyomiError(f"{lost} ({name}: {error}): pip install 'sakiyomi[audio]'") from error
