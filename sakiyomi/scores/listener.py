"""A listener that tells which label a sound has: trained on the spot on recordings alone, it judges sounds that a model
made up.

    listener = taught(samples, labels, rate=8000)
    heard = listener.words(generated)

Convolutions over the mel bands of the first second; a fraction of a minute on one core. Letters: B sounds, N samples, F
frames, M bands, L words of labels, K kinds of words.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sakiyomi.audio.spectrum import Frames, Mel, log_mel
from sakiyomi.errors import SakiyomiError

FRAMES = 96  # that it hears, of 10 ms each
BANDS, WIDTH = 32, 64
QUIET, MIDDLE, SPAN = -60.0, -30.0, 20.0  # dB: what counts as silence; and what is brought to 0 and to 1 from there
LATE = 12  # frames that a sound for training begins later, at the most
EPOCHS, LEAST, BATCH, RATE = 60, 150, 64, 2e-3  # LEAST steps are taken, however few recordings there are


class Listener(nn.Module):
    """Log-mel frames [B, F, M] -> how likely each word is, logits [B, L]."""

    def __init__(self, rate: int, kinds: Sequence[tuple[int, ...]]) -> None:
        """`kinds`: the numbers of the words that exclude each other, one of each kind is true."""
        super().__init__()
        self.kinds = tuple(kinds)
        self.mel = Mel(rate=rate, frames=Frames(size=rate // 64 * 2, hop=rate // 100), bands=BANDS)
        sizes = (BANDS, WIDTH, WIDTH, WIDTH)
        layers = [
            layer for before, after in pairwise(sizes) for layer in (nn.Conv1d(before, after, 5, 2, 2), nn.ReLU())
        ]
        self.hear = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3))
        self.say = nn.Linear(WIDTH * FRAMES // 8, sum(map(len, kinds)))

    def forward(self, frames: Tensor) -> Tensor:
        return self.say(self.hear(frames.mT))

    def frames(self, sounds: Sequence[np.ndarray]) -> Tensor:
        """Samples [N] in -1..1 of any length -> [B, F, M]; silence follows a short one, a long one is cut off."""
        length = FRAMES * self.mel.frames.hop - 1
        whole = np.stack([np.pad(sound[:length], (0, max(0, length - len(sound)))) for sound in sounds])
        found = [log_mel(part, self.mel) for part in torch.from_numpy(whole.astype(np.float32)).split(200)]
        return (torch.cat(found).clamp_min(QUIET) - MIDDLE) / SPAN

    @torch.no_grad()
    def words(self, sounds: Sequence[np.ndarray]) -> np.ndarray:
        """The word of each kind that it hears, numbers int64 [B, K]."""
        logits = self.eval()(self.frames(sounds))
        return np.stack([np.array(kind)[logits[:, list(kind)].argmax(1).numpy()] for kind in self.kinds], 1)


def kinds_of(labels: np.ndarray) -> tuple[tuple[int, ...], ...]:
    """Labels [B, L] that have one true word of each kind, such as a digit and a voice -> the numbers of the words of
    each kind. Raises SakiyomiError where labels have no such kinds."""
    true = [tuple(np.flatnonzero(label).tolist()) for label in labels]
    if len({len(words) for words in true}) != 1 or not true[0]:
        raise SakiyomiError("labels hold different numbers of words; a listener needs one of each kind")
    kinds = tuple(tuple(sorted(set(words))) for words in zip(*true, strict=True))
    if sum(map(len, kinds)) != len(set(sum(kinds, ()))):
        raise SakiyomiError("a word stands for two kinds; the words of a label are ordered by what they tell")
    return kinds


def taught(sounds: Sequence[np.ndarray], labels: np.ndarray, rate: int, seed: int = 0) -> Listener:
    """A listener of recordings: samples [N] in -1..1 each, and labels [B, L]. They are varied in when they begin and
    how loud they are."""
    kinds, random = kinds_of(labels), np.random.default_rng(seed)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        listener = Listener(rate, kinds).train()
        frames, wanted = listener.frames(sounds), torch.from_numpy(labels)
        silence = frames.new_full((LATE, BANDS), (QUIET - MIDDLE) / SPAN)
        optimizer = torch.optim.Adam(listener.parameters(), RATE)
        steps = max(LEAST, EPOCHS * len(frames) // BATCH)
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = RATE * (1 - step / steps)
            picks = random.integers(len(frames), size=BATCH)
            begins = random.integers(LATE, size=BATCH)
            late = [torch.cat((silence[:n], frames[i]))[:FRAMES] for i, n in zip(picks, begins, strict=True)]
            louder = torch.from_numpy(random.normal(0, 0.2, (BATCH, 1, 1)).astype(np.float32))
            logits = listener(torch.stack(late) + louder)
            loss = sum(
                functional.cross_entropy(logits[:, list(kind)], wanted[picks][:, list(kind)].argmax(1))
                for kind in kinds
            )
            assert isinstance(loss, Tensor)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return listener.eval()
