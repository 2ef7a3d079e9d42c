"""Tunes of a simple synthesiser, which widen what little recorded music there is: chords, bass, melody and drums of
random instruments, speeds and keys. Plain numpy; float32 -1..1 at RATE."""

from __future__ import annotations

import numpy as np

from models.files import RATE
from models.sound.augment import Rng

SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10))
PARTS = {"chords": 0.85, "melody": 0.6, "bass": 0.6, "drums": 0.45}
"""How often a tune has each part."""


def tune(rng: Rng, seconds: float) -> np.ndarray:
    """A random tune that has at least chords or a melody."""
    out, beat_s = np.zeros(int(seconds * RATE), np.float32), rng.uniform(0.25, 1.0)
    has = {part: rng.random() < share for part, share in PARTS.items()}
    has["melody"] |= not has["chords"]
    voices = {part: instrument(rng) for part in PARTS}
    scale, key = SCALES[rng.integers(2)], rng.uniform(45, 60)
    roots = rng.choice(7, 4)
    for beat in range(int(seconds / beat_s)):
        at, root = int(beat * beat_s * RATE), int(roots[beat // 4 % 4])
        if has["chords"] and (beat % 4 == 0 or voices["chords"][0] < 1.5):
            for step in (0, 2, 4):
                place(out, note(rng, hertz(scale, key, root + step), beat_s * 4, *voices["chords"]), at)
        if has["bass"] and beat % 2 == 0:
            place(out, note(rng, hertz(scale, key - 12, root), beat_s * 2, *voices["bass"]), at)
        if has["melody"] and rng.random() < 0.7:
            place(
                out, note(rng, hertz(scale, key + 12, root + int(rng.integers(7))), beat_s, *voices["melody"]) * 1.5, at
            )
        if has["drums"]:
            place(out, drum(rng, beat % 2 == 0), at)
    return out / np.float32(np.abs(out).max() + 1e-6) * np.float32(0.5)


def hertz(scale: tuple[int, ...], key: float, step: int) -> float:
    """Pitch of a step of a scale; key: a MIDI number."""
    return float(440 * 2 ** ((key + scale[step % 7] + 12 * (step // 7) - 69) / 12))


def instrument(rng: Rng) -> tuple[float, float, float]:
    """(decay in seconds, fall of the harmonics, attack in seconds)."""
    return (
        float(rng.choice([0.15, 0.4, 1.0, 4.0])),
        float(rng.uniform(0.6, 2.5)),
        float(rng.choice([0.003, 0.01, 0.08])),
    )


def note(rng: Rng, pitch_hz: float, seconds: float, decay_s: float, fall: float, attack_s: float) -> np.ndarray:
    t = np.arange(int(min(seconds, 3 * decay_s) * RATE), dtype=np.float32) / RATE
    harmonics = np.arange(1, max(2, min(16, int(3800 / pitch_hz))), dtype=np.float32)
    waves = np.sin(2 * np.pi * pitch_hz * harmonics[:, None] * t + rng.uniform(0, 6, (len(harmonics), 1)))
    sound = (harmonics**-fall) @ waves
    ends = np.minimum(1, np.minimum(t / attack_s, (t[-1] - t + 1e-3) / 0.02))
    return (sound * np.exp(-t / decay_s) * ends).astype(np.float32)


def drum(rng: Rng, low: bool) -> np.ndarray:
    t = np.arange(RATE // 5) / RATE
    if low:
        return (2 * np.sin(2 * np.pi * (50 * t + 3 * (1 - np.exp(-t * 30)))) * np.exp(-t * 20)).astype(np.float32)
    return (rng.standard_normal(len(t)) * np.exp(-t * rng.uniform(25, 80)) * 0.7).astype(np.float32)


def place(out: np.ndarray, part: np.ndarray, at: int) -> None:
    """Adds part to out from `at` on, in place, as far as out reaches."""
    room = out[at : at + len(part)]
    room += part[: len(room)]
