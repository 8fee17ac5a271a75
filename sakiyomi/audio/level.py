"""How loud a sound is where something is said in it: not in its pauses, and not where something clicks.

    loud = loudness(log_mel(samples, mel).numpy())
    samples * gain(-20 - loud)

Bands of a spectrum are looked at, not samples: a constant offset and the hum under the lowest band count for nothing.
Letters: T frames, M bands.
"""

import numpy as np

NOTHING = -99.0  # dB: a frame under it holds digital silence
PAUSES = 10  # percentile of the frames that counts as what lies under the voice
VOICE = 90  # percentile of the frames with a voice that counts as its level
OVER = 10.0  # dB over the pauses from which on a frame counts as voice
STEADY = 6.0  # dB: where no frames are so much over the others, nobody speaks
FEW = 5  # frames: fewer may be a click


def loudness(bands: np.ndarray) -> float | None:
    """The level of the loud parts of a sound, the mean of its bands [T, M], dB; what is x dB louder as a whole has x dB
    more. None where all of it is equally loud, as noise is when nobody speaks, and for digital silence."""
    levels = np.sort(bands.mean(1))
    levels = levels[levels > NOTHING]
    if not len(levels):
        return None
    pauses = np.percentile(levels, PAUSES)
    if levels[-min(FEW, len(levels))] < pauses + STEADY:
        return None
    voice = levels[levels > pauses + OVER]
    return float(np.percentile(voice if len(voice) >= FEW else levels, VOICE))


def gain(more: float) -> float:
    """What samples are multiplied by to be so many dB louder."""
    return 10 ** (more / 20)
