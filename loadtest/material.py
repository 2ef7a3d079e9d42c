"""What the legs say: recorded speech at a telephone's rate, each leg with its own words, level and noise.

Speech comes from the recordings of the tests and from Debian's prompts (package asterisk-core-sounds-en-wav) where
they are installed. Noise is made here, so that the same leg number is the same audio on every machine.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

RATE_HZ = 8000
FRAME = 160
"""Samples of a packet of 20 ms, and with PCMU its bytes."""
SPEECH_SECONDS = 240
MURMUR_SECONDS = 20
NOISE_SECONDS = 30
SPEECH_FOLDERS = (Path(__file__).parent.parent / "tests" / "audio", Path("/usr/share/asterisk/sounds/en_US_f_Allison"))

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


def linear_to_ulaw(pcm: npt.NDArray[np.int16]) -> Bytes:
    """PCMU bytes of 16-bit samples (ITU-T G.711: 14-bit magnitudes with a bias of 33, inverted on the line)."""
    magnitude = np.minimum(np.abs(pcm.astype(np.int32)) >> 2, 8158) + 33
    segment = np.maximum(np.log2(magnitude).astype(np.int32) - 5, 0)
    mantissa = (magnitude >> (segment + 1)) & 0x0F
    payload: Bytes = (~(((pcm < 0) << 7) | (segment << 4) | mantissa) & 0xFF).astype(np.uint8)
    return payload


def ulaw_to_linear(payload: Bytes) -> npt.NDArray[np.int16]:
    """16-bit samples of PCMU bytes."""
    code = ~payload.astype(np.int32) & 0xFF
    magnitude = ((((code & 0x0F) << 1) + 33) << ((code >> 4) & 7)) - 33
    return (np.where(code & 0x80, -magnitude, magnitude) * 4).astype(np.int16)


ULAW_OF_INT16 = linear_to_ulaw(np.arange(-32768, 32768, dtype=np.int32).astype(np.int16))
"""PCMU byte of each sample value, from -32768 up."""


class Material:
    """Speech and noises, from which the audio of any leg can be cut."""

    def __init__(self, folders: tuple[Path, ...] = SPEECH_FOLDERS) -> None:
        self.speech = np.concatenate(list(_recordings(folders)) or [_murmur(MURMUR_SECONDS)])
        self.noises = _noises(self.speech)

    def pcmu(self, leg: int, frames: int) -> Bytes:
        """The first `frames` payloads of a leg: uint8 [frames, 160]; the same for the same number."""
        rng = np.random.default_rng(leg)
        samples = frames * FRAME
        speech = _cut(self.speech, samples, rng) * 10 ** (rng.uniform(-6, 6) / 20)
        noise = _cut(self.noises[rng.integers(len(self.noises))], samples, rng)
        noise = noise * 10 ** (-rng.uniform(0, 20) / 20)
        pcm = np.clip((speech + noise) * 32767, -32768, 32767).astype(np.int32)
        payloads: Bytes = ULAW_OF_INT16[pcm + 32768].reshape(frames, FRAME)
        return payloads

    def loops(self, legs: int, frames: int) -> Bytes:
        """Payloads of all legs: uint8 [legs, frames, 160]."""
        loops = np.empty((legs, frames, FRAME), np.uint8)
        for leg in range(legs):
            loops[leg] = self.pcmu(leg, frames)
        return loops


def _cut(source: Floats, samples: int, rng: np.random.Generator) -> Floats:
    """So many samples from a random place, around the end if need be."""
    at = int(rng.integers(len(source)))
    piece = source[at : at + samples]
    if len(piece) == samples:
        return piece
    return np.concatenate([piece, np.resize(source, samples - len(piece))])


def _recordings(folders: tuple[Path, ...]) -> Iterator[Floats]:
    """Speech at -26 dBov, one array a file, until there is enough."""
    have = 0.0
    for path in sorted(file for folder in folders for file in folder.rglob("*.wav")):
        if have > SPEECH_SECONDS:
            return
        pcm, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        speech = soxr.resample(pcm.mean(axis=1), rate_hz, RATE_HZ).astype(np.float32)
        if len(speech) >= RATE_HZ // 2 and speech.std() > 1e-3:
            have += len(speech) / RATE_HZ
            yield _at_level(speech)


def _murmur(seconds: int) -> Floats:
    """Something that a denoiser takes for speech, where there are no recordings: voiced syllables with pauses."""
    rng = np.random.default_rng(0)
    n = seconds * RATE_HZ
    t = np.arange(n) / RATE_HZ
    pitch = 120 + 25 * np.sin(2 * np.pi * 0.4 * t)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE_HZ
    voiced = sum(np.sin(k * phase) * np.exp(-(((k * 120 - 600) / 900) ** 2)) for k in range(1, 25))
    syllables = np.repeat(rng.random(seconds * 5) > 0.35, RATE_HZ // 5)
    return _at_level((voiced * np.convolve(syllables, np.ones(200) / 200, "same")).astype(np.float32))


def _noises(speech: Floats) -> list[Floats]:
    """White, pink and brown noise, mains hum and babble, all at the level of the speech."""
    rng = np.random.default_rng(1)
    n = NOISE_SECONDS * RATE_HZ
    spectrum = np.fft.rfft(rng.standard_normal(n))
    hz = np.maximum(np.fft.rfftfreq(n, 1 / RATE_HZ), 20.0)
    coloured = [np.fft.irfft(spectrum / hz**slope, n) for slope in (0.0, 0.5, 1.0)]
    t = np.arange(n) / RATE_HZ
    hum = sum(np.sin(2 * np.pi * 50 * k * t) / k for k in range(1, 16)) + 0.05 * rng.standard_normal(n)
    babble = np.sum([np.resize(np.roll(speech, -int(at)), n) for at in rng.integers(len(speech), size=6)], axis=0)
    return [_at_level(noise.astype(np.float32)) for noise in (*coloured, hum, babble)]


def _at_level(pcm: Floats, dbov: float = -26.0) -> Floats:
    return (pcm * (10 ** (dbov / 20) / max(float(pcm.std()), 1e-9))).astype(np.float32)
