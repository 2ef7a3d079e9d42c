"""Makes the two recordings beside it: a caller on a clean line, and the same caller beside a road and a fan.

    apt-get download asterisk-core-sounds-en-wav asterisk-core-sounds-it-wav
    for package in *.deb; do dpkg-deb -x "$package" sounds; done
    python tests/audio/make.py sounds

Everything random is seeded, so the same packages give the same files.
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

Audio = npt.NDArray[np.float64]

RATE_HZ = 8000
LEAD_S = 1.0
PAUSE_S = 0.8
SPEECH_DBFS = -24.0
"""RMS of the speech while somebody speaks."""
SNR_DB = 8.0
CALLER = ("conf-invalid", "unidentified-no-callback", "priv-callpending")
BABBLE_FILES = 24
BABBLE_VOICES = 4


def prompt(path: Path) -> Audio:
    """One prompt without the silence at its ends, float -1..1."""
    audio, rate = soundfile.read(path)
    if rate != RATE_HZ:
        raise SystemExit(f"{path}: {rate} Hz, expected {RATE_HZ}")
    loud = np.flatnonzero(np.abs(audio) > 0.01)
    return np.asarray(audio[max(loud[0] - 80, 0) : loud[-1] + 400])


def rms(audio: Audio) -> float:
    return float(np.sqrt(np.mean(audio**2)))


def caller(sounds: Path) -> tuple[Audio, Audio]:
    """The caller's sentences between pauses of digital silence, and a mask that is 1 while somebody speaks."""
    parts, mask = [np.zeros(int(LEAD_S * RATE_HZ))], [np.zeros(int(LEAD_S * RATE_HZ))]
    for name in CALLER:
        sentence = prompt(next(sounds.rglob(f"en_US*/{name}.wav")))
        sentence *= 10 ** (SPEECH_DBFS / 20) / rms(sentence)
        pause = np.zeros(int(PAUSE_S * RATE_HZ))
        parts += [sentence, pause]
        mask += [np.ones(len(sentence)), pause]
    return np.concatenate(parts), np.concatenate(mask)


def coloured(n: int, slope_db_per_octave: float, rng: np.random.Generator) -> Audio:
    """Gaussian noise whose spectrum falls by so much an octave above 60 Hz, RMS 1."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    freqs_hz = np.maximum(np.fft.rfftfreq(n, 1 / RATE_HZ), 60.0)
    spectrum *= (freqs_hz / 60.0) ** (-slope_db_per_octave / 6.02)
    noise = np.fft.irfft(spectrum, n)
    return noise / rms(noise)


def road(n: int, rng: np.random.Generator) -> Audio:
    """Passing cars: falling noise that swells and fades over seconds."""
    t = np.arange(n) / RATE_HZ
    swell = 1.0 + 0.5 * np.sin(2 * np.pi * t / 4.3) + 0.3 * np.sin(2 * np.pi * t / 2.9 + 1.0)
    return coloured(n, 4.0, rng) * swell


def fan(n: int, rng: np.random.Generator) -> Audio:
    """Air rush with the blades' beat, and mains hum with its harmonics."""
    t = np.arange(n) / RATE_HZ
    air = coloured(n, 2.0, rng) * (1.0 + 0.25 * np.sin(2 * np.pi * 23.0 * t))
    hum = sum(np.sin(2 * np.pi * 50.0 * k * t + k) / k for k in (2, 3, 4, 6, 10))
    return air + 0.5 * np.asarray(hum)


def babble(n: int, sounds: Path, rng: np.random.Generator) -> Audio:
    """Several people talking far away, RMS 1."""
    files = sorted(path for path in sounds.rglob("it_*/*.wav") if path.stat().st_size > 32000)
    total = np.zeros(n)
    for _ in range(BABBLE_VOICES):
        chosen = rng.choice(len(files), BABBLE_FILES, replace=False)
        voice = np.concatenate([prompt(files[i]) for i in chosen])[:n]
        total[: len(voice)] += voice / rms(voice)
    return total / rms(total)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sounds", type=Path, help="folder with the unpacked packages")
    sounds = parser.parse_args().sounds
    rng = np.random.default_rng(2223)
    clean, speaking = caller(sounds)
    n = len(clean)
    noise = road(n, rng) + 0.6 * fan(n, rng) + 0.25 * babble(n, sounds, rng)
    noise *= rms(clean[speaking > 0]) / rms(noise[speaking > 0]) / 10 ** (SNR_DB / 20)
    here = Path(__file__).parent
    for name, audio in (("clean_8k.wav", clean), ("noisy_8k.wav", clean + noise)):
        soundfile.write(here / name, np.clip(audio, -1, 1), RATE_HZ, subtype="PCM_16")
        print(f"{name}: {n / RATE_HZ:.1f} s, {20 * np.log10(rms(audio)):.1f} dBFS")


if __name__ == "__main__":
    main()
