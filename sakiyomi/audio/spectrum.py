"""Spectra of sound, and back: short-time Fourier transform, mel bands, cepstra, Griffin-Lim.

    spectrum = stft(samples, Frames(size=256, hop=80))
    heard = log_mel(samples, Mel(rate=8000, frames=Frames(size=256, hop=80)))

Everything is a function of tensors and can be differentiated. Letters: N samples, T frames, K = size / 2 + 1
frequencies of a frame, M mel bands. Time stands before frequency, [..., T, K], as in every stream of this project; most
libraries of sound have it the other way round. Frame t is centred on sample t * hop, and there is silence before the
first sample and after the last one; so there are 1 + N // hop frames, and one sample is enough.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sakiyomi.errors import SakiyomiError, at_least, at_most, unknown

WINDOWS = {"hann": torch.hann_window, "rectangle": torch.ones}
SCALES = ("slaney", "htk")
LINEAR, KNEE, STEP = 200 / 3, 1000.0, math.log(6.4) / 27  # of Slaney's mel: Hz a mel up to 1000 Hz, and beyond it
QUIET = 1e-10  # power that counts as nothing: -100 dB


@dataclass(frozen=True)
class Frames:
    """How a sound is cut into frames. Raises SakiyomiError for what cannot be put together again."""

    size: int = 512
    """Samples of a frame; even."""
    hop: int = 128
    """Samples from one frame to the next; at most half of the size, so that every sample counts."""
    window: Literal["hann", "rectangle"] = "hann"
    """What a frame is multiplied by: hann leaks far less into other frequencies."""

    def __post_init__(self) -> None:
        at_least("the size of a frame", self.size, 2)
        if self.size % 2:
            raise SakiyomiError(f"the size of a frame is {self.size}; it must be even")
        at_least("the hop between frames", self.hop, 1)
        at_most("the hop between frames", self.hop, self.size // 2)
        if self.window not in WINDOWS:
            raise unknown("window", self.window, WINDOWS)

    def weights(self, like: Tensor) -> Tensor:
        """The window [size], of the real type of `like` and where it is."""
        real = like.real.dtype if like.is_complex() else like.dtype
        return WINDOWS[self.window](self.size, dtype=real, device=like.device)


@dataclass(frozen=True)
class Mel:
    """Triangular bands, equally far apart as one hears them."""

    rate: int = 16000
    """Samples a second."""
    frames: Frames = Frames()
    """The spectrum they are laid over."""
    bands: int = 40
    """M."""
    low: float = 0.0
    """Where the first band begins, Hz."""
    high: float = 0.0
    """Where the last band ends, Hz; 0 is half of the rate."""
    scale: Literal["slaney", "htk"] = "slaney"
    """slaney: linear up to 1000 Hz and logarithmic from there; htk: 2595 log10(1 + f / 700)."""

    @property
    def highest(self) -> float:
        return self.high or self.rate / 2


# ---- Fourier ---------------------------------------------------------------------------------------------------------


def dft(samples: Tensor) -> Tensor:
    """The discrete Fourier transform as what it is, a matrix product: X_k = sum over n of x_n exp(-2 pi i k n / N).

    [..., N] -> complex [..., N]. For readers: it takes N^2 products where `torch.fft.fft` takes N log N.
    """
    length = samples.shape[-1]
    order = torch.arange(length, device=samples.device)
    turns = (order[:, None] * order % length).double() / length  # exact: the exponent is taken modulo 1
    matrix = torch.polar(torch.ones_like(turns), -2 * math.pi * turns)
    wanted = torch.promote_types(samples.dtype, torch.complex64)
    return samples.to(wanted) @ matrix.to(wanted)


def stft(samples: Tensor, frames: Frames) -> Tensor:
    """Samples [..., N] -> complex [..., T, K]; equals `librosa.stft`, transposed. Raises SakiyomiError for what are
    no samples: none at all, or whole numbers, whose unit nobody knows."""
    if not samples.dim() or not samples.shape[-1] or not samples.is_floating_point():
        raise SakiyomiError(
            f"a spectrum is taken of floating-point samples [..., N], at least one, as `read_sound` gives them; got "
            f"{samples.dtype} {_list(samples)}"
        )
    line = samples.reshape(-1, samples.shape[-1])
    window = frames.weights(samples)
    spectrum = torch.stft(line, frames.size, frames.hop, window=window, pad_mode="constant", return_complex=True)
    return spectrum.transpose(1, 2).reshape(*samples.shape[:-1], spectrum.shape[2], spectrum.shape[1])


def istft(spectrum: Tensor, frames: Frames, length: int | None = None) -> Tensor:
    """Complex [..., T, K] -> the samples [..., N] whose spectrum is nearest to it in the sense of least squares.

    Of a true spectrum these are the samples it was taken of. `length` is N; without it, hop * (T - 1).
    """
    bins = frames.size // 2 + 1
    if spectrum.dim() < 2 or spectrum.shape[-1] != bins:
        raise SakiyomiError(f"a spectrum of frames of {frames.size} has shape [..., T, {bins}], got {_list(spectrum)}")
    line = spectrum.reshape(-1, *spectrum.shape[-2:]).transpose(1, 2)
    length = frames.hop * (spectrum.shape[-2] - 1) if length is None else length
    samples = torch.istft(line, frames.size, frames.hop, window=frames.weights(spectrum), length=length)
    return samples.reshape(*spectrum.shape[:-2], length)


def magnitude(samples: Tensor, frames: Frames) -> Tensor:
    """Samples [..., N] -> [..., T, K], how strong each frequency is."""
    return stft(samples, frames).abs()


def power(samples: Tensor, frames: Frames) -> Tensor:
    """Samples [..., N] -> [..., T, K], the square of the magnitude."""
    spectrum = stft(samples, frames)
    return spectrum.real.square() + spectrum.imag.square()


def decibels(power: Tensor, reference: float = 1.0, span: float | None = None) -> Tensor:
    """Power -> 10 log10(power / reference), no less than -100 dB of power 1.

    With a `span`, what is more than so many dB under the strongest of [..., T, K] is lifted to it; that makes every
    frame depend on the whole sound, also on what comes later.
    """
    values = 10 * power.clamp_min(QUIET).log10() - 10 * math.log10(reference)
    return values if span is None else torch.maximum(values, values.amax((-2, -1), keepdim=True) - span)


# ---- Mel bands and cepstra -------------------------------------------------------------------------------------------


def mel_of_hertz(hertz: Tensor, scale: str) -> Tensor:
    """Hz -> mel, of the same shape."""
    if scale == "htk":
        return 2595 * (1 + hertz / 700).log10()
    beyond = KNEE / LINEAR + (hertz.clamp_min(KNEE) / KNEE).log() / STEP
    return torch.where(hertz < KNEE, hertz / LINEAR, beyond)


def hertz_of_mel(mel: Tensor, scale: str) -> Tensor:
    """Mel -> Hz, of the same shape."""
    if scale == "htk":
        return 700 * (10 ** (mel / 2595) - 1)
    knee = KNEE / LINEAR
    return torch.where(mel < knee, LINEAR * mel, KNEE * (STEP * (mel.clamp_min(knee) - knee)).exp())


def mel_filters(mel: Mel) -> Tensor:
    """The weight of each frequency in each band, float64 [K, M]: triangles, of area 1 over Hz each.

    Equals `librosa.filters.mel`, transposed. Raises SakiyomiError where bands are so narrow that one has no frequency
    in it, or reach beyond half of the rate.
    """
    at_least("the mel bands", mel.bands, 1)
    at_least("the low end of the mel bands, Hz,", mel.low, 0)
    at_most("the high end of the mel bands, Hz,", mel.highest, mel.rate / 2)
    if mel.low >= mel.highest:
        raise SakiyomiError(f"the mel bands begin at {mel.low} Hz and end at {mel.highest} Hz; they must go up")
    if mel.scale not in SCALES:
        raise unknown("mel scale", mel.scale, SCALES)
    size = mel.frames.size
    heard = torch.arange(size // 2 + 1, dtype=torch.float64) * mel.rate / size
    low, high = mel_of_hertz(torch.tensor([mel.low, mel.highest], dtype=torch.float64), mel.scale).tolist()
    corners = hertz_of_mel(torch.linspace(low, high, mel.bands + 2, dtype=torch.float64), mel.scale)
    left, middle, right = corners[:-2], corners[1:-1], corners[2:]
    rising, falling = (heard[:, None] - left) / (middle - left), (right - heard[:, None]) / (right - middle)
    filters = torch.minimum(rising, falling).clamp_min(0) * 2 / (right - left)
    empty = (filters.amax(0) == 0).nonzero()[:, 0].tolist()
    if empty:
        raise SakiyomiError(
            f"{len(empty)} of {mel.bands} mel bands hold no frequency of frames of {size} samples at {mel.rate} Hz, "
            f"the first at {middle[empty[0]]:.0f} Hz; take fewer bands or longer frames"
        )
    return filters


def mel_power(samples: Tensor, mel: Mel) -> Tensor:
    """Samples [..., N] -> the power in each band [..., T, M]; equals `librosa.feature.melspectrogram`, transposed."""
    values = power(samples, mel.frames)
    return values @ mel_filters(mel).to(values)


def log_mel(samples: Tensor, mel: Mel) -> Tensor:
    """Samples [..., N] -> dB [..., T, M], at least -100. A frame depends on its own samples and no others."""
    return decibels(mel_power(samples, mel))


def mfcc(samples: Tensor, mel: Mel, count: int = 13, span: float | None = 80.0) -> Tensor:
    """Samples [..., N] -> mel-frequency cepstral coefficients [..., T, count]; equals `librosa.feature.mfcc`.

    The cosine transform (DCT-II, orthonormal) of the bands in dB: the first few say what shape the spectrum has. With
    `span` None a frame depends on its own samples alone, see `decibels`.
    """
    at_least("the cepstral coefficients", count, 1)
    at_most("the cepstral coefficients", count, mel.bands)
    values = decibels(mel_power(samples, mel), span=span)
    return values @ cosines(mel.bands, count).to(values)


def cosines(length: int, count: int) -> Tensor:
    """The first columns of the orthonormal cosine transform (DCT-II), float64 [length, count]."""
    n, k = torch.arange(length, dtype=torch.float64)[:, None], torch.arange(count, dtype=torch.float64)
    matrix = (math.pi / length * (n + 0.5) * k).cos() * math.sqrt(2 / length)
    return torch.cat((matrix[:, :1] / math.sqrt(2), matrix[:, 1:]), 1)


def cepstrum(samples: Tensor) -> Tensor:
    """The real cepstrum of whole frames: the inverse transform of the log of the magnitude, [..., N] -> [..., N].

    What a sound repeats after n samples stands at n; what a throat makes of it stands near 0 (Bogert, Healy and Tukey:
    "The quefrency alanysis of time series for echoes", 1963).
    """
    strength = torch.fft.rfft(samples).abs().square().clamp_min(QUIET).log() / 2
    return torch.fft.irfft(strength, samples.shape[-1])


def pitch(samples: Tensor, rate: int, low: float = 60.0, high: float = 400.0) -> Tensor:
    """How often a voiced sound repeats, Hz [...], by the peak of the cepstrum of the frame [..., N] between two
    frequencies. Raises SakiyomiError for a frame that is too short to hold two periods of the lower one."""
    longest, shortest = int(rate / low), max(1, math.ceil(rate / high))
    if samples.shape[-1] < 2 * longest:
        raise SakiyomiError(
            f"{samples.shape[-1]} samples at {rate} Hz do not hold two periods of {low:g} Hz; take {2 * longest} or "
            "more"
        )
    window = torch.hann_window(samples.shape[-1], dtype=samples.dtype, device=samples.device)
    lags = cepstrum(samples * window)[..., shortest : longest + 1]
    return rate / (lags.argmax(-1) + shortest)


# ---- Back from magnitudes --------------------------------------------------------------------------------------------


def griffin_lim(
    strength: Tensor,
    frames: Frames,
    rounds: int = 32,
    momentum: float = 0.99,
    length: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Samples [..., N] whose magnitude is near `strength` [..., T, K].

    Griffin and Lim: "Signal estimation from modified short-time Fourier transform", 1984: take some phases, go to
    samples and back to a spectrum, keep its phases, and again. With `momentum` 0 that never gets worse; with more
    (Perraudin, Balazs and Sondergaard: "A fast Griffin-Lim algorithm", 2013) it mostly gets further. The first phases
    are drawn from `generator`.
    """
    at_least("the rounds of Griffin-Lim", rounds, 1)
    at_least("the momentum of Griffin-Lim", momentum, 0)
    length = frames.hop * (strength.shape[-2] - 1) if length is None else length
    turns = torch.rand(strength.shape, generator=generator, dtype=strength.dtype, device=strength.device)
    guess = torch.polar(strength, 2 * math.pi * turns)
    before = torch.zeros_like(guess)
    for _ in range(rounds):
        true = stft(istft(guess, frames, length), frames)  # of some sound
        ahead = true + momentum * (true - before)
        guess, before = torch.polar(strength, ahead.angle()), true
    return istft(guess, frames, length)


def convergence(samples: Tensor, strength: Tensor, frames: Frames) -> Tensor:
    """How far samples [..., N] are from having the magnitude [..., T, K]: |their magnitude - it| / |it|, [...]."""
    apart = magnitude(samples, frames) - strength
    return apart.flatten(-2).norm(dim=-1) / strength.flatten(-2).norm(dim=-1)


def _list(value: Tensor) -> list[int]:
    return list(value.shape)
