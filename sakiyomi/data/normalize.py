"""Scaling between the units of a recording and the range a network works in.

Pictures: uint8 [..., H, W, C] -> float32 [..., C, H, W] in 0..1. Motion and scalars (sensors): each channel's mean
and standard deviation over the training split -> 0 and 1. Labels and tokens stay as they are. Samples of sound, int16:
the 256 ids of mu-law. Everything else: each channel's range over the training split -> 0.1..0.9. A channel that never
changes maps to the middle (0.5, of motion and scalars 0) and back to its value.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor

from sakiyomi.audio.spectrum import Mel
from sakiyomi.audio.wave import from_mu_law, mu_law
from sakiyomi.data.episodes import Entry, EpisodeStore, Kind
from sakiyomi.data.vocabulary import Vocabulary
from sakiyomi.errors import SakiyomiError, unknown
from sakiyomi.files import write_atomic

LOW, HIGH = 0.1, 0.9
UNSCALED, STANDARD = ("image", "label", "token", "audio"), ("motion", "scalar")
FULL = 2**15  # of samples of 16 bits
STILL = 1e-3  # of the unit: the least deviation a channel of motion counts as, so that what stands still stays still


@dataclass(frozen=True)
class Scale:
    """One stream's range, in its own units, or for motion and scalars its mean and deviation; all empty for pictures,
    labels and tokens."""

    kind: Kind
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    vocabulary: Vocabulary | None = None
    """Of tokens: so that a run can read and write text without its recordings."""
    sound: Mel | None = None
    """Of frames of sound: so that a run can hear without its recordings."""
    to: tuple[float, float] = (LOW, HIGH)
    """What `low` and `high` become; a network that was trained elsewhere may have another range."""


class Normalizer:
    """`scales` maps a stream's name to its Scale."""

    def __init__(self, scales: Mapping[str, Scale]) -> None:
        self.scales = dict(scales)
        self._affines: dict[tuple[str, torch.device], tuple[Tensor, Tensor]] = {}

    @classmethod
    def fit(
        cls, store: EpisodeStore, streams: Mapping[str, Iterable[str]], entries: tuple[Entry, ...] = ()
    ) -> "Normalizer":
        """Scales from the store's training split, or only `entries` of it. `streams` maps a name to the streams it
        must cover: a command is in the units of the joints it moves, and both share one scale."""
        scales = {}
        for name, covered in streams.items():
            kind = store.streams[name].kind
            if kind in UNSCALED:
                scales[name] = Scale(kind, vocabulary=store.streams[name].vocabulary)
            else:
                known = {} if entries else store.statistics
                statistics = [known.get(s) or store.measure(s, entries) for s in covered]
                if kind in STANDARD:
                    scales[name] = Scale(
                        kind, mean=statistics[0].mean, std=statistics[0].std, sound=store.streams[name].sound
                    )
                    continue
                low = np.min([s.low for s in statistics], axis=0)
                high = np.max([s.high for s in statistics], axis=0)
                scales[name] = Scale(kind, tuple(low.tolist()), tuple(high.tolist()))
        return cls(scales)

    def encode(self, stream: str, values: Tensor) -> Tensor:
        """[..., C] in the stream's unit -> float32 around 0.1..0.9, motion and scalars of mean 0 and deviation 1;
        pictures uint8 [..., H, W, C] -> [..., C, H, W]; samples int16 -> ids int64."""
        if self._scale(stream).kind == "image":
            if values.dtype != torch.uint8:
                raise SakiyomiError(f"stream {stream!r} takes pictures as uint8 0..255, got {values.dtype}")
            return values.movedim(-1, -3).float().div_(255)
        if self._scale(stream).kind == "label":
            return values.float()
        if self._scale(stream).kind == "token":
            return values.long()
        if self._scale(stream).kind == "audio":
            if values.dtype != torch.int16:
                raise SakiyomiError(f"stream {stream!r} takes samples as int16, got {values.dtype}")
            return mu_law_ids(values.device)[values.long() + FULL]
        center, half = self._affine(stream, values)
        if self._scale(stream).kind in STANDARD:
            return ((values - center) / half).float()
        low, high = self._scale(stream).to
        return ((values - center) / half * ((high - low) / 2) + (low + high) / 2).float()

    def decode(self, stream: str, values: Tensor) -> Tensor:
        """The inverse of `encode`; pictures are rounded and clamped to 0..255."""
        if self._scale(stream).kind == "image":
            return values.movedim(-3, -1).mul(255).round().clamp(0, 255).to(torch.uint8)
        if self._scale(stream).kind in ("label", "token"):
            return values
        if self._scale(stream).kind == "audio":
            samples = from_mu_law(values.cpu().numpy()) * FULL
            return torch.from_numpy(samples.round().clip(-FULL, FULL - 1).astype(np.int16)).to(values.device)
        center, half = self._affine(stream, values)
        if self._scale(stream).kind in STANDARD:
            return values * half + center
        low, high = self._scale(stream).to
        return (values - (low + high) / 2) / ((high - low) / 2) * half + center

    def span(self, stream: str) -> float:
        """How wide the whole range of a stream is once it is encoded: 0.8, or as the network's own scale has it; 1 for
        pictures, and for what is scaled by its deviation."""
        scale = self._scale(stream)
        return 1.0 if scale.kind in (*UNSCALED, *STANDARD) else scale.to[1] - scale.to[0]

    def vocabulary(self, stream: str) -> Vocabulary:
        """What the numbers of a token stream mean. Raises SakiyomiError for a stream that is none."""
        known = self._scale(stream).vocabulary
        if known is None:
            raise SakiyomiError(f"stream {stream!r} holds {self._scale(stream).kind}, no tokens with a vocabulary")
        return known

    def sound(self, stream: str) -> Mel:
        """How the frames of a stream are made of samples. Raises SakiyomiError for frames that are of no sound."""
        made = self._scale(stream).sound
        if made is None:
            raise SakiyomiError(
                f"nothing says how stream {stream!r} is made of sound (AN4, say, came as cepstra); a run that hears "
                "sound files: sakiyomi train spoken-digits"
            )
        return made

    def save(self, path: Path) -> None:
        write_atomic(path, msgspec.json.format(msgspec.json.encode(self.scales)))

    @classmethod
    def load(cls, path: Path) -> "Normalizer":
        try:
            return cls(msgspec.json.decode(path.read_bytes(), type=dict[str, Scale]))
        except (OSError, msgspec.DecodeError) as error:
            raise SakiyomiError(f"{path} cannot be read: {error}; is {path.parent} a run folder?") from error

    def _scale(self, stream: str) -> Scale:
        if stream not in self.scales:
            raise unknown("stream", stream, self.scales)
        return self.scales[stream]

    def _affine(self, stream: str, values: Tensor) -> tuple[Tensor, Tensor]:
        """What is taken away from the values, and by what they are divided then, float64 [C], on their device."""
        known = (stream, values.device)
        if known not in self._affines:  # made once: a copy to a GPU waits for it
            with torch.inference_mode(False):  # gradients may go through it later
                self._affines[known] = self._affine_of(self._scale(stream), values.device)
        center, half = self._affines[known]
        if values.shape[-1] != len(center):
            raise SakiyomiError(
                f"stream {stream!r} has {len(center)} channels, got values of shape {list(values.shape)}"
            )
        return center, half

    @staticmethod
    def _affine_of(scale: Scale, device: torch.device) -> tuple[Tensor, Tensor]:
        pair = (scale.mean, scale.std) if scale.kind in STANDARD else (scale.low, scale.high)
        low, high = (torch.tensor(v, dtype=torch.float64, device=device) for v in pair)
        if scale.kind == "motion":
            return low, high.clamp_min(STILL)
        if scale.kind == "scalar":  # of any unit: still is what moves by no more than rounding
            return low, torch.where(high > 1e-9 * low.abs(), high, torch.ones_like(high))
        half = (high - low) / 2
        # A joint that never moves has no range: leave its unit as it is.
        return (low + high) / 2, torch.where(half > 1e-9, half, torch.ones_like(half))


@lru_cache(maxsize=2)
def mu_law_ids(device: torch.device) -> Tensor:
    """The ids of all samples of 16 bits, the least first, int64 [65536]: to look one up is faster than to work it out,
    and needs no copy to the host."""
    return torch.from_numpy(mu_law(np.arange(-FULL, FULL) / FULL)).to(device)
