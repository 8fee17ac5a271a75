"""Sound: spectra equal those of others and of their definitions, what is taken apart can be put together, and files of
any make become one channel at one rate, with a note or an error for each thing that is wrong with them."""

import math
import sys
import wave as standard
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sakiyomi.audio.level import gain, loudness
from sakiyomi.audio.spectrum import (
    Frames,
    Mel,
    cepstrum,
    convergence,
    cosines,
    decibels,
    dft,
    griffin_lim,
    hertz_of_mel,
    istft,
    log_mel,
    magnitude,
    mel_filters,
    mel_of_hertz,
    mel_power,
    mfcc,
    pitch,
    power,
    stft,
)
from sakiyomi.audio.wave import (
    clipped_share,
    from_mu_law,
    mu_law,
    quantised,
    read_sound,
    resample,
    silent,
    write_wav,
)
from sakiyomi.errors import SakiyomiError

RATE = 8000
FRAMES = Frames(256, 64)


def tone(hertz: float, rate: int = RATE, seconds: float = 1.0, loud: float = 0.5) -> np.ndarray:
    return loud * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def voiced(hertz: float, seconds: float = 0.5) -> torch.Tensor:
    """Pulses, which need not come after whole samples, through two resonances: a vowel."""
    moments = 2 * np.pi * hertz * np.arange(round(RATE * seconds)) / RATE
    pulses = np.stack([np.cos(k * moments) for k in range(1, int(RATE / 2 / hertz) + 1)]).sum(0)
    for middle, width in ((700, 130), (1200, 70)):
        radius, angle = math.exp(-math.pi * width / RATE), 2 * math.pi * middle / RATE
        one, two = 2 * radius * math.cos(angle), -(radius**2)
        for n in range(2, len(pulses)):
            pulses[n] += one * pulses[n - 1] + two * pulses[n - 2]
    return torch.from_numpy(pulses / np.abs(pulses).max())


def loudest(samples: np.ndarray, rate: int) -> float:
    """Hz."""
    return float(np.abs(np.fft.rfft(samples * np.hanning(len(samples)))).argmax() * rate / len(samples))


# ---- Fourier ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 65), st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_the_matrix_of_fourier_is_the_fast_transform(length: int, seed: int) -> None:
    samples = noise(2, length, seed=seed)
    torch.testing.assert_close(dft(samples), torch.fft.fft(samples), atol=1e-11, rtol=1e-11)
    torch.testing.assert_close(dft(samples.float()), torch.fft.fft(samples.float()), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("frames", [FRAMES, Frames(200, 80), Frames(256, 128, "rectangle"), Frames(2, 1)])
@pytest.mark.parametrize("length", [1, 100, 2048, 3001])
def test_a_spectrum_goes_back_to_its_samples(frames: Frames, length: int) -> None:
    samples = noise(2, 3, length)
    spectrum = stft(samples, frames)
    assert spectrum.shape == (2, 3, 1 + length // frames.hop, frames.size // 2 + 1)
    torch.testing.assert_close(istft(spectrum, frames, length), samples, atol=1e-10, rtol=1e-10)


def test_spectra_are_those_of_librosa() -> None:
    samples = noise(2, 3000)
    wanted = librosa.stft(samples.numpy(), n_fft=256, hop_length=64)
    np.testing.assert_allclose(stft(samples, FRAMES).mT.numpy(), wanted, atol=1e-10)
    np.testing.assert_allclose(magnitude(samples, FRAMES).mT.numpy(), np.abs(wanted), atol=1e-10)
    strong = power(samples[:1], FRAMES)
    for span in (None, 30.0):
        decibel = librosa.power_to_db(strong.numpy(), ref=2.0, top_db=span)
        np.testing.assert_allclose(decibels(strong, 2.0, span).numpy(), decibel, atol=1e-9)


def test_energy_is_kept() -> None:
    """Parseval, for whole frames of a rectangle side by side; each half of the spectrum stands for both."""
    samples = noise(4096)
    frames = Frames(256, 128, "rectangle")
    strong = power(samples, frames)[1:-1:2]  # side by side, from sample 0 on
    both = 2 * strong.sum() - strong[:, 0].sum() - strong[:, -1].sum()
    torch.testing.assert_close(both / 256, samples.square().sum())


def test_a_window_leaks_less_than_a_rectangle() -> None:
    """Of a tone between two frequencies, what is found 10 frequencies away or further: side lobes of a rectangle fall
    with the distance, those of hann with its cube."""
    between = torch.from_numpy(tone(200.5 / 1024 * RATE))
    leaked = {}
    for window in ("hann", "rectangle"):
        frames = Frames(1024, 256, window)
        middle = decibels(power(between, frames)[15])
        leaked[window] = (middle[210:] - middle.max()).amax().item()
        far, near = middle[200 + 64].item(), middle[200 + 16].item()
        slope = near - far  # dB for two octaves away from the tone
        assert slope == pytest.approx({"hann": 36, "rectangle": 12}[window], abs=3)
    assert leaked["rectangle"] > -30
    assert leaked["hann"] < -60


def test_a_frame_depends_on_its_own_samples() -> None:
    samples = noise(2000)
    changed = torch.cat((samples[:1000], noise(1000, seed=1)))
    mel = Mel(RATE, FRAMES, 20)
    untouched = (1000 - 128) // 64
    before, after = log_mel(samples, mel), log_mel(changed, mel)
    torch.testing.assert_close(after[:untouched], before[:untouched], atol=0, rtol=0)
    assert (after[untouched + 2 :] - before[untouched + 2 :]).abs().amin(0).amax() > 0


# ---- Mel bands and cepstra -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["slaney", "htk"])
def test_mel_is_that_of_librosa(scale) -> None:
    hertz = torch.linspace(0, 12000, 500, dtype=torch.float64)
    mel = mel_of_hertz(hertz, scale)
    np.testing.assert_allclose(mel.numpy(), librosa.hz_to_mel(hertz.numpy(), htk=scale == "htk"), atol=1e-9)
    torch.testing.assert_close(hertz_of_mel(mel, scale), hertz, atol=1e-8, rtol=1e-8)
    assert (mel.diff() > 0).all()
    for rate, size, bands, low, high in ((8000, 256, 20, 0, 0), (16000, 512, 40, 100, 7000), (22050, 2048, 128, 0, 0)):
        ours = mel_filters(Mel(rate, Frames(size, size // 4), bands, low, high, scale))
        theirs = librosa.filters.mel(
            sr=rate, n_fft=size, n_mels=bands, fmin=low, fmax=high or None, htk=scale == "htk", dtype=np.float64
        )
        np.testing.assert_allclose(ours.T.numpy(), theirs, atol=1e-12)


@pytest.mark.parametrize("scale", ["slaney", "htk"])
def test_mel_spectra_and_cepstra_are_those_of_librosa(scale) -> None:
    samples = noise(3000) * torch.linspace(0, 1, 3000, dtype=torch.float64) ** 8  # more than 80 dB of loudness
    mel = Mel(RATE, FRAMES, 26, scale=scale)
    known = {"y": samples.numpy(), "sr": RATE, "n_fft": 256, "hop_length": 64, "n_mels": 26, "htk": scale == "htk"}
    spectrum = librosa.feature.melspectrogram(**known)  # its filters are float32
    np.testing.assert_allclose(mel_power(samples, mel).T.numpy(), spectrum, rtol=1e-6)
    np.testing.assert_allclose(mfcc(samples, mel).T.numpy(), librosa.feature.mfcc(**known, n_mfcc=13), atol=1e-4)
    free = mfcc(samples, mel, span=None)
    assert (free - mfcc(samples, mel)).abs().max() > 1


def test_mfcc_of_a_batch_is_that_of_each_sound() -> None:
    mel = Mel(RATE, FRAMES, 26)
    sounds = noise(3, 1000) * torch.tensor([[1.0], [1e-3], [1e-6]], dtype=torch.float64)
    torch.testing.assert_close(mfcc(sounds, mel), torch.stack([mfcc(sound, mel) for sound in sounds]))


def test_cosines_are_orthonormal() -> None:
    torch.testing.assert_close(cosines(40, 40).T @ cosines(40, 40), torch.eye(40, dtype=torch.float64))


@pytest.mark.parametrize("hertz", [80, 125, 210, 330])
def test_the_cepstrum_knows_how_often_a_voice_repeats(hertz: float) -> None:
    """To the whole sample that a lag is counted in, at any loudness."""
    frames = torch.stack((voiced(hertz)[1000:2024], 0.01 * voiced(hertz)[1500:2524]))
    found = pitch(frames, RATE)
    period = RATE / hertz
    assert ((RATE / found - period).abs() <= 1).all()


def test_an_echo_stands_at_its_delay_in_the_cepstrum() -> None:
    """The cepstrum of a sound and its echo of strength a is the sound's own plus a / 2 at the delay and its mirror,
    minus a^2 / 4 at twice the delay, and so on: log(1 + a z) written as a series."""
    samples, delay, strength = noise(512), 50, 0.5
    echoed = samples + strength * samples.roll(delay)
    apart = cepstrum(echoed) - cepstrum(samples)
    wanted = torch.zeros(512, dtype=torch.float64)
    for n in range(1, 60):
        for place in (n * delay, -n * delay):
            wanted[place % 512] += -((-strength) ** n) / n / 2
    torch.testing.assert_close(apart, wanted, atol=1e-8, rtol=0)


# ---- Griffin-Lim -----------------------------------------------------------------------------------------------------


def test_griffin_lim_never_gets_worse() -> None:
    wanted = magnitude(torch.stack((voiced(120), voiced(250))), FRAMES)
    far = torch.stack(
        [convergence(griffin_lim(wanted, FRAMES, n, 0.0, 4000, seeded()), wanted, FRAMES) for n in range(1, 20)]
    )
    assert (far.diff(dim=0) <= 1e-6).all()
    assert (far[-1] < 0.6 * far[0]).all()


def test_griffin_lim_is_as_good_as_that_of_librosa() -> None:
    """Over a few first guesses: those are drawn by other generators."""
    wanted = magnitude(voiced(120), FRAMES)
    ours = griffin_lim(wanted.expand(10, -1, -1), FRAMES, 32, length=4000, generator=seeded())
    theirs = [
        librosa.griffinlim(wanted.T.numpy(), n_iter=32, hop_length=64, n_fft=256, length=4000, random_state=seed)
        for seed in range(10)
    ]
    far = convergence(ours, wanted, FRAMES).mean()
    assert far < 1.15 * convergence(torch.from_numpy(np.stack(theirs)), wanted, FRAMES).mean()
    classic = griffin_lim(wanted.expand(10, -1, -1), FRAMES, 32, 0.0, 4000, seeded())
    assert far < convergence(classic, wanted, FRAMES).mean()


def test_griffin_lim_goes_back_to_what_was_heard() -> None:
    """The phase of the whole is free; what is heard is the spectrum."""
    samples = torch.from_numpy(tone(440) + tone(1000, loud=0.2))
    back = griffin_lim(magnitude(samples, FRAMES), FRAMES, 50, length=RATE, generator=seeded())
    assert loudest(back.numpy(), RATE) == pytest.approx(440, abs=2)
    assert back.square().mean() == pytest.approx(samples.square().mean().item(), rel=0.1)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: Frames(255, 64), "even"),
        (lambda: Frames(256, 200), "at most 128"),
        (lambda: Frames(256, 0), "at least 1"),
        (lambda: Frames(256, 64, "han"), "did you mean 'hann'"),  # pyright: ignore[reportArgumentType]
        (lambda: stft(torch.zeros(2, 0), FRAMES), "at least one"),
        (lambda: stft(torch.zeros(10, dtype=torch.int16), FRAMES), "int16"),
        (lambda: istft(torch.zeros(3, 100, dtype=torch.complex64), FRAMES), "129"),
        (lambda: mel_filters(Mel(RATE, FRAMES, 200)), "fewer bands"),
        (lambda: mel_filters(Mel(RATE, FRAMES, high=5000)), "at most 4000"),
        (lambda: mel_filters(Mel(RATE, FRAMES, low=3000, high=2000)), "must go up"),
        (lambda: mel_filters(Mel(RATE, FRAMES, scale="bark")), "known: htk, slaney"),  # pyright: ignore[reportArgumentType]
        (lambda: mfcc(torch.zeros(100), Mel(RATE, FRAMES, 20), 21), "at most 20"),
        (lambda: pitch(torch.zeros(100), RATE), "take 266"),
    ],
)
def test_what_makes_no_spectrum_is_said(wrong, said: str) -> None:
    with pytest.raises(SakiyomiError, match=said):
        wrong()


# ---- Files -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=200), st.sampled_from([8000, 16000, 44100]))
@settings(max_examples=20, deadline=None)
def test_a_file_goes_back_to_its_samples(tmp_path_factory: pytest.TempPathFactory, samples, rate: int) -> None:
    path = tmp_path_factory.mktemp("sounds") / "a.wav"
    write_wav(path, np.array(samples, np.float32), rate)
    sound = read_sound(path, rate)
    assert sound.samples.dtype == np.float32
    assert sound.rate == rate
    np.testing.assert_allclose(sound.samples, samples, atol=1 / 32768)
    assert read_sound(path.read_bytes(), rate).samples.tolist() == sound.samples.tolist()


def test_a_written_file_is_one_that_others_read(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", np.array([0.0, 0.5, -0.5, 7.0, -7.0]), RATE)
    with standard.open(str(tmp_path / "a.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        assert np.frombuffer(file.readframes(5), "<i2").tolist() == [0, 16384, -16384, 32767, -32768]


@pytest.mark.parametrize(
    ("name", "subtype", "off"),
    [
        ("a.wav", "PCM_16", 2**-15),
        ("a.wav", "PCM_U8", 2**-6),
        ("a.wav", "ULAW", 0.02),
        ("a.wav", "FLOAT", 1e-6),
        ("a.flac", "PCM_24", 2**-22),
        ("a.ogg", "VORBIS", 0.05),
    ],
)
def test_files_of_many_makes_are_read(tmp_path: Path, name: str, subtype: str, off: float) -> None:
    samples = tone(440)
    soundfile.write(tmp_path / name, samples, RATE, subtype)
    (tmp_path / name).rename(tmp_path / "sound.raw")  # the ending does not count
    sound = read_sound(tmp_path / "sound.raw", RATE)
    assert sound.notes == ()
    assert sound.seconds == 1.0
    assert np.abs(sound.samples - samples).max() < off


def test_channels_become_their_mean(tmp_path: Path) -> None:
    left, right = tone(300), tone(500)
    soundfile.write(tmp_path / "a.wav", np.stack((left, right), 1), RATE, "FLOAT")
    sound = read_sound(tmp_path / "a.wav", RATE)
    np.testing.assert_allclose(sound.samples, (left + right) / 2, atol=1e-6)
    assert sound.notes == ("2 channels: their mean",)
    soundfile.write(tmp_path / "b.wav", np.stack((left, -left), 1), RATE, "FLOAT")
    assert read_sound(tmp_path / "b.wav", RATE).notes[1] == "silent: its channels cancel out"


@pytest.mark.parametrize("came", [11025, 16000, 44100, 48000, 6000])
def test_another_rate_is_resampled(tmp_path: Path, came: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(440, came), came)
    sound = read_sound(tmp_path / "a.wav", RATE)
    assert sound.notes == (f"resampled from {came} to {RATE} Hz",)
    assert len(sound.samples) == pytest.approx(RATE, abs=1)
    inner = slice(500, 7500)
    np.testing.assert_allclose(sound.samples[inner], tone(440)[inner], atol=1e-3)


def test_what_is_too_high_for_a_rate_is_gone_and_does_not_come_back_lower() -> None:
    """A tone of 5 kHz has no place at 8 kHz: every second sample of 16 kHz makes 3 kHz of it, `resample` nothing."""
    for hertz in (4050, 5000, 7000):
        high = tone(hertz, 16000)
        folded = high[::2]
        assert loudest(folded, RATE) == pytest.approx(RATE - hertz, abs=1)
        left = resample(high, 16000, RATE)[500:-500]
        assert 20 * np.log10(np.abs(left).max() / 0.5) < -60
    kept = resample(tone(3500, 16000), 16000, RATE)[500:-500]
    assert 20 * np.log10(np.abs(kept).max() / 0.5) == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize(("subtype", "full"), [("PCM_16", 1.0), ("PCM_U8", 1.0), ("ULAW", 0.98), ("FLOAT", 1.0)])
def test_clipped_sound_is_noticed_and_loud_sound_is_not(tmp_path: Path, subtype: str, full: float) -> None:
    for loud, clipped in ((3.0, True), (1.0, False)):
        soundfile.write(tmp_path / "a.wav", tone(440, loud=loud).clip(-1, 1), RATE, subtype)
        notes = read_sound(tmp_path / "a.wav", RATE).notes
        assert [note.split(":")[0] for note in notes] == ["clipped"] * clipped, (loud, notes)
    assert clipped_share(tone(440, loud=3).clip(-1, 1)) == pytest.approx(1 - 2 / np.pi * np.arcsin(1 / 3), abs=0.02)


def test_one_clipped_channel_is_noticed_and_too_large_floats_are_cut(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.stack((tone(440, loud=3), tone(440)), 1), RATE, "FLOAT")
    sound = read_sound(tmp_path / "a.wav", RATE)
    assert sound.notes[1].startswith("clipped: 79%")
    assert np.abs(sound.samples).max() == 1


def test_silence_is_noticed(tmp_path: Path) -> None:
    for loud, quiet in ((0.0, True), (9e-4, True), (2e-3, False)):
        soundfile.write(tmp_path / "a.wav", tone(440, loud=loud), RATE)
        assert bool(read_sound(tmp_path / "a.wav", RATE).notes) == quiet
        assert silent(tone(440, loud=loud)) == quiet


def test_what_is_no_sound_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "nothing.wav", np.zeros(0), RATE)
    soundfile.write(tmp_path / "nan.wav", np.r_[np.zeros(4000), np.nan, np.inf], RATE, "FLOAT")
    soundfile.write(tmp_path / "long.flac", np.zeros(3601 * 1000, np.int16), 1000)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("no sound at all, but long enough to be looked at")
    wrong = {
        "nothing.wav": "holds no sample",
        "nan.wav": r"2 samples .* the first at 0.500 s",
        "long.flac": "60 minutes",
        "empty.wav": "is empty",
        "text.wav": "save it as WAV",
        "missing.wav": "No such file",
        ".": "directory",
    }
    for name, said in wrong.items():
        with pytest.raises(SakiyomiError, match=said):
            read_sound(tmp_path / name, RATE)
    for samples in (np.array([np.nan]), np.zeros(0), np.zeros((2, 2)), np.zeros(4, np.int16)):
        with pytest.raises(SakiyomiError, match="samples"):
            write_wav(tmp_path / "a.wav", samples, RATE)
    with pytest.raises(SakiyomiError, match="at least 100"):
        resample(tone(440), RATE, 0)
    assert not (tmp_path / "a.wav").exists()


@pytest.mark.parametrize("library", ["soundfile", "soxr"])
def test_a_missing_library_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    soundfile.write(tmp_path / "a.wav", tone(440, 16000), 16000)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(SakiyomiError, match=rf"{library}.*sakiyomi\[audio\]"):
        read_sound(tmp_path / "a.wav", RATE)


# ---- Level -----------------------------------------------------------------------------------------------------------


def words(share: float = 0.5, seconds: float = 4.0, under: float = 40.0) -> np.ndarray:
    """Bursts of RMS 0.1, `share` of the time, in noise so many dB under them; [N]."""
    time = np.arange(round(RATE * seconds)) / RATE
    loud = 0.1 * np.where(time % 1 < share, 1, 1 / gain(under))
    return loud * np.random.default_rng(0).standard_normal(len(time))


def level_of(samples: np.ndarray) -> float | None:
    bands = Mel(RATE, Frames(320, 160), bands=26, low=80.0)
    return loudness(log_mel(torch.from_numpy(samples), bands).numpy())


def measured(samples: np.ndarray) -> float:
    found = level_of(samples)
    assert found is not None
    return found


@pytest.mark.parametrize("more", [-40.0, -6.0, 12.0])
def test_what_is_louder_has_so_much_more_loudness(more: float) -> None:
    assert measured(words() * gain(more)) == pytest.approx(measured(words()) + more, abs=1e-6)


def test_pauses_and_clicks_do_not_count_for_the_loudness() -> None:
    usual = measured(words())
    assert measured(words(share=0.1)) == pytest.approx(usual, abs=2)
    assert measured(np.pad(words(), RATE * 20)) == pytest.approx(usual, abs=1)  # digital silence
    clicking = words()
    clicking[7 * RATE // 10] = 1.0
    assert measured(clicking) == pytest.approx(usual, abs=1)
    assert measured(words() + 0.5) == pytest.approx(usual, abs=1)  # a constant offset


def test_what_is_equally_loud_all_along_has_no_loudness() -> None:
    """Noise, also with a click in it, a tone, and nothing at all; but words in noise have one."""
    hiss = np.random.default_rng(0).normal(0, 0.1, 30 * RATE)
    assert level_of(hiss) is None
    hiss[RATE] = 30.0
    assert level_of(hiss) is None
    assert level_of(tone(440)) is None
    assert level_of(np.zeros(RATE)) is None
    assert level_of(words(under=20)) is not None


# ---- Fewer values ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [6, 8, 12, 16])
def test_each_bit_is_six_decibels(bits: int) -> None:
    """A sine at full scale of n bits is 6.02 n + 1.76 dB louder than what rounding adds; of few bits a little less."""
    loud = 1 - 2.0**-bits  # half a step under 1, which is no level
    sine = tone(997 / 7, loud=loud, seconds=20)  # at no simple fraction of the rate
    added = quantised(sine, bits) / 2 ** (bits - 1) - sine
    ratio = 10 * np.log10(np.square(sine).mean() / np.square(added).mean())
    assert ratio == pytest.approx(6.02 * bits + 1.76 + 20 * np.log10(loud), abs=0.3)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=50), st.sampled_from([16, 256, 1024]))
@settings(max_examples=50, deadline=None)
def test_mu_law_goes_up_and_comes_back_nearly(samples, values: int) -> None:
    line = np.sort(np.array(samples))
    ids = mu_law(line, values)
    assert (np.diff(ids) >= 0).all()
    assert ids.min() >= 0
    assert ids.max() < values
    mu = values - 1
    # Half a step of the bent line, times how steep the way back is: ln(1 + mu) (1 / mu + |x|), a step further on.
    bound = np.log1p(mu) * (1 / mu + np.abs(line)) * values ** (1 / mu) / mu
    assert (np.abs(from_mu_law(ids, values) - line) <= bound + 1e-6).all()


def test_mu_law_uses_every_value_and_keeps_them() -> None:
    every = np.arange(256)
    back = from_mu_law(every)
    assert (np.diff(back) > 0).all()
    assert mu_law(back).tolist() == every.tolist()
    np.testing.assert_allclose(back, -back[::-1], atol=1e-7)
    assert (back[0], back[255]) == (-1, 1)
    assert mu_law(np.array([-9.0, 0.0, 9.0])).tolist() == [0, 128, 255]
    np.testing.assert_allclose(back, librosa.mu_expand(2 * every / 255 - 1, quantize=False), atol=1e-6)
    line = np.linspace(-1, 1, 999)
    assert mu_law(line).tolist() == np.rint(127.5 * (librosa.mu_compress(line, quantize=False) + 1)).tolist()
    steps = np.diff(back)[128:]
    assert (np.diff(steps) > 0).all()  # quiet samples get finer ones
    assert steps[-1] / steps[0] > 200


def test_mu_law_serves_quiet_sound_better_than_equal_steps() -> None:
    quiet = tone(440, loud=0.01)
    added = from_mu_law(mu_law(quiet)) - quiet
    equal = quantised(quiet, 8) / 128 - quiet
    assert np.square(equal).mean() > 20 * np.square(added).mean()


def test_ids_that_are_none_are_refused() -> None:
    for ids in ([-1, 3], [256]):
        with pytest.raises(SakiyomiError, match="0 to 255"):
            from_mu_law(np.array(ids))
