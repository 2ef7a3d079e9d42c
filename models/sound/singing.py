"""Sung voices made of spoken ones, because free recordings of singing that training may use hardly exist.

The WORLD vocoder (`pyworld`; Morise et al., 2016) takes a sentence apart into pitch, envelope and breath; here the
sentence is stretched, its voiced parts are put on the notes of a scale with glides and vibrato, and it is put together.
"""

from __future__ import annotations

import numpy as np
import pyworld

from models.files import RATE
from models.sound.augment import Rng

FRAME_MS = 5.0
SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9))
"""Semitones above the key: major, minor, pentatonic."""


def sing(rng: Rng, speech: np.ndarray) -> np.ndarray:
    """speech as a song, 1.3 to 2.2 times as long. Both float32 -1..1 at RATE; silent where speech has no pitch."""
    wave = speech.astype(np.float64)
    rough, times = pyworld.dio(wave, RATE, f0_floor=70.0, f0_ceil=400.0, frame_period=FRAME_MS)
    hertz = pyworld.stonemask(wave, rough, times, RATE)
    if not (hertz > 0).any():
        return np.zeros(len(speech), np.float32)
    envelope = pyworld.cheaptrick(wave, hertz, times, RATE)
    breath = pyworld.d4c(wave, hertz, times, RATE)
    picks = np.arange(0, len(hertz) - 1, 1 / rng.uniform(1.3, 2.2)).astype(int)
    melody = np.where(hertz[picks] > 0, notes(rng, len(picks), float(np.median(hertz[hertz > 0]))), 0.0)
    sung = pyworld.synthesize(
        melody, np.ascontiguousarray(envelope[picks]), np.ascontiguousarray(breath[picks]), RATE, FRAME_MS
    )
    return np.clip(sung, -1, 1).astype(np.float32)


def notes(rng: Rng, size: int, middle_hz: float) -> np.ndarray:
    """Hertz of a melody around a voice's middle, float64 [size] frames of FRAME_MS."""
    scale, step, at = SCALES[rng.integers(len(SCALES))], int(rng.integers(7)), 0
    key, beat_s = middle_hz * rng.uniform(0.8, 1.5), rng.uniform(0.22, 0.5)
    semitones = np.zeros(size)
    while at < size:
        length = int(beat_s * rng.choice([1, 1, 2, 2, 3, 4]) * 1000 / FRAME_MS)
        step = int(np.clip(step + rng.choice([-2, -1, -1, 0, 1, 1, 2, 4]), -3, 9))
        note = semitones[at : at + length]
        since_s = np.arange(len(note)) * FRAME_MS / 1000
        swell = np.clip((since_s - 0.15) / 0.2, 0, 1) * rng.uniform(0.1, 0.6)
        note[:] = (
            scale[step % len(scale)]
            + 12 * (step // len(scale))
            + swell * np.sin(2 * np.pi * rng.uniform(4.8, 6.5) * since_s)
        )
        at += length
    glide = np.hanning(int(rng.uniform(8, 20)))
    smooth = np.convolve(np.pad(semitones, 20, mode="edge"), glide / glide.sum(), "same")[20:-20]
    return key * 2 ** (smooth / 12)
