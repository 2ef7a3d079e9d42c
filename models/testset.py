"""Test clips of voices and noises that training refuses (`split.json`): the same clips at every run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from models import augment, data

SECONDS = 10
SPEECH_DBFS = -26.0
SNRS_DB = (0, 5, 10, 15)
VOICES = {"fr": "asterisk/fr", "it": "asterisk/it", "nl": "speech/nathalie"}
SYNTHETIC = ("coloured", "modulated", "babble")


@dataclass(frozen=True, slots=True)
class Clips:
    """clean, noisy: float32 [clips, samples]; pauses: bool [clips, samples]; names: what noise, at which SNR."""

    rate: int
    clean: np.ndarray
    noisy: np.ndarray
    pauses: np.ndarray
    names: list[str]


class Recordings:
    """The held-out recordings, decoded at 16 kHz."""

    def __init__(self, folder: Path) -> None:
        split = data.load_split()
        self.found = [s for s in data.sources(folder) if data.held_out(s, split)]

    def named(self, prefix: str) -> list[data.Source]:
        return [s for s in self.found if s.name.startswith(prefix)]

    def utterances(self, voice: str, rng: np.random.Generator, seconds: float) -> np.ndarray:
        """Sentences of 1.5 s or more, with a second of silence before and between them. int16 -> float32 at 16 kHz."""
        sources, parts = self.named(VOICES[voice]), []
        while sum(map(len, parts)) < seconds * data.RATE:
            speech = data.decode(sources[rng.integers(len(sources))].path)
            if len(speech) > 20 * data.RATE:
                start = int(rng.integers(len(speech) - 5 * data.RATE))
                speech = speech[start : start + 4 * data.RATE]
            if len(speech) > 1.5 * data.RATE:
                parts += [np.zeros(data.RATE), data.faded(speech)]
        return np.concatenate(parts)[: int(seconds * data.RATE)]

    def stretch(self, source: data.Source, rng: np.random.Generator, seconds: float) -> np.ndarray:
        samples, size = data.decode(source.path), int(seconds * data.RATE)
        at = int(rng.integers(max(1, len(samples) - size)))
        return np.resize(samples[at : at + size], size).astype(np.float32) / 32768


def at_rate(x: np.ndarray, rate: int) -> np.ndarray:
    return x if rate == data.RATE else resample_poly(x, 1, data.RATE // rate)


def quiet(clean: np.ndarray, rate: int) -> np.ndarray:
    """bool [samples]: no speech within 200 ms. The first half second, when all systems still learn, does not count."""
    power = np.convolve(np.square(clean), np.ones(rate // 50) * 50 / rate, "same")
    near = np.convolve(power > 1e-7, np.ones(rate * 2 // 5), "same") > 0.5
    near[: rate // 2] = True
    return ~near


def synthetic(kind: str, recordings: Recordings, rng: np.random.Generator, rate: int) -> np.ndarray:
    size = SECONDS * rate
    if kind == "babble":
        voices = [recordings.utterances(v, rng, SECONDS) for v in ("fr", "it", "nl", "fr", "it", "nl")]
        return at_rate(sum(np.roll(v, int(rng.integers(len(v)))) for v in voices), rate)
    noise = augment.coloured_noise(rng, size, rate)
    return noise * augment.modulation(rng, size, rate) if kind == "modulated" else noise


def scaled(x: np.ndarray, dbfs: float, rate: int) -> np.ndarray:
    return (x * 10 ** (dbfs / 20) / augment.active_rms(x, rate)).astype(np.float32)


def speech_in_noise(folder: Path, rate: int, count: int, seed: int = 7) -> Clips:
    """`count` clips; 8 kHz ones went through G.711. Voices, noises and ratios take turns."""
    rng, recordings = np.random.default_rng(seed), Recordings(folder)
    noises = [*recordings.named("noise/"), *SYNTHETIC]
    order = rng.permutation(len(noises))
    clean, noisy, names = [], [], []
    for i in range(count):
        pick, snr, voice = noises[order[i % len(noises)]], SNRS_DB[i % 4], list(VOICES)[(i // 4) % 3]
        speech = scaled(at_rate(recordings.utterances(voice, rng, SECONDS), rate), SPEECH_DBFS, rate)
        known = isinstance(pick, data.Source)
        noise = (
            at_rate(recordings.stretch(pick, rng, SECONDS), rate) if known else synthetic(pick, recordings, rng, rate)
        )
        mixture = speech + noise * np.float32(10 ** ((SPEECH_DBFS - snr) / 20) / augment.rms(noise))
        clean.append(speech)
        noisy.append(line(mixture, rate))
        names.append(f"{voice} {snr} dB {pick.name if known else pick}")
    pauses = np.stack([quiet(c, rate) for c in clean])
    return Clips(rate, np.stack(clean), np.stack(noisy), pauses, names)


def line(x: np.ndarray, rate: int) -> np.ndarray:
    x = np.clip(x, -1, 1)
    return augment.g711(x, "a") if rate == 8000 else x.astype(np.float32)


def music_and_tones(folder: Path, rate: int, seed: int = 8) -> dict[str, np.ndarray]:
    """Held-out hold music and synthetic tones, float32 [clips, samples] each."""
    rng, recordings = np.random.default_rng(seed), Recordings(folder)
    music = [at_rate(recordings.stretch(s, rng, SECONDS), rate) for s in recordings.named("music/") for _ in range(3)]
    tones = [augment.tones(rng, SECONDS * rate, rate) for _ in range(12)]
    sets = {"music": music, "tones": tones}
    return {k: np.stack([line(scaled(x, -22, rate), rate) for x in v]) for k, v in sets.items()}
