"""One training example after another: what a telephone leg may carry, what should come out, and what is in it.

An example is (mixture, target, keep_music, labels): float32 [samples], float32 [samples], 0 or 1, and float32
[frames, 4] for speech, noise, music and tone. Speech is the commonest; the target of music depends on keep_music, that
of tones does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models import augment
from models.augment import Rng
from models.data import RATE, Pools

SPEEDS = np.array([0.82, 0.9, 1.0, 1.0, 1.0, 1.1, 1.2])
KINDS = ("noisy", "clean", "music", "tone", "noise")
KIND_SHARES = (0.6, 0.11, 0.09, 0.13, 0.07)
Example = tuple[np.ndarray, np.ndarray, np.float32, np.ndarray]


@dataclass(frozen=True, slots=True)
class Mixer:
    """Makes examples of `size` samples at `rate` from the pools."""

    pools: Pools
    rate: int
    size: int

    def example(self, rng: Rng) -> Example:
        kind = KINDS[rng.choice(len(KINDS), p=KIND_SHARES)]
        keep = np.float32(rng.random() < 0.6)
        empty = np.zeros(self.size, np.float32)
        wanted, speech, music, tone = empty, empty, empty, empty
        if kind in ("noisy", "clean") or (kind == "music" and rng.random() < 0.35):
            wanted, speech = self.speech(rng)
        if kind == "music":
            music = self.music(rng) * self.beside(rng, speech)
        if kind == "tone":
            tone = augment.tones(rng, self.size, self.rate) * np.float32(rng.uniform(0.2, 1.5))
        others = wanted + tone + (music if keep else 0)
        source = speech + music + tone
        noise = self.noise(rng) * self.noise_gain(rng, kind, source)
        return self.finish(rng, source + noise, others, keep, (wanted, noise, music, tone))

    def beside(self, rng: Rng, speech: np.ndarray) -> np.float32:
        """Gain of music of level one beside speech, or of music alone."""
        loud = augment.active_rms(speech, self.rate)
        return np.float32(loud * 10 ** (-rng.uniform(0, 20) / 20) if loud > 1e-4 else 0.1)

    def noise_gain(self, rng: Rng, kind: str, source: np.ndarray) -> np.float32:
        if kind == "noise":
            return np.float32(0.1)
        snr = {"noisy": rng.triangular(-5, 6, 25), "clean": 99.0}.get(kind, rng.choice([99.0, rng.uniform(8, 35)]))
        return np.float32(augment.active_rms(source, self.rate) * 10 ** (-snr / 20) if snr < 99 else 0.0)

    def finish(self, rng: Rng, mixture: np.ndarray, target: np.ndarray, keep: np.float32,
               parts: tuple[np.ndarray, ...]) -> Example:  # fmt: skip
        """Sets the level and lets the line do its damage."""
        gain = np.float32(10 ** (rng.uniform(-35, -12) / 20) / max(augment.active_rms(mixture, self.rate), 1e-5))
        mixture, target = mixture * gain, target * gain
        labels = np.stack([active(part * gain, self.rate) for part in parts], axis=1)
        if rng.random() < 0.08:
            top = np.float32(np.abs(mixture).max() * rng.uniform(0.3, 0.9))
            mixture = np.clip(mixture, -top, top)
        mixture = np.clip(mixture, -1, 1)
        if self.rate == 8000 and rng.random() < 0.75:
            mixture = augment.g711(mixture, "mu" if rng.random() < 0.4 else "a")
        if rng.random() < 0.1:
            missing, repeat = augment.lost_packets(rng, self.size, self.rate)
            mixture = augment.conceal(mixture, missing, repeat, self.rate)
            target = augment.conceal(target, missing, repeat, self.rate)
        return mixture.astype(np.float32), target.astype(np.float32), keep, labels

    def stretch(self, rng: Rng, kind: str, speeds: np.ndarray, filtered: bool) -> np.ndarray:
        """A stretch of a pool at a random speed through a random line, at this mixer's rate, level one."""
        take = int(self.size * RATE / self.rate * rng.choice(speeds)) // 400 * 400
        raw = self.pools.speech(rng, take) if kind == "speech" else self.pools.stretch(rng, kind, take)
        bins = self.size // 2 + 1
        response = augment.random_response(rng, bins, self.rate, 3.0 if filtered else 0.0)
        if rng.random() < (0.5 if self.rate == 8000 else 0.15):
            response = response * augment.telephone_band(rng, bins, self.rate)
        out = augment.resize_and_filter(raw, self.size, response)
        return out / np.float32(max(augment.active_rms(out, self.rate), 1e-4))

    def speech(self, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
        """(wanted speech, speech as the microphone hears it), with pauses of some seconds now and then."""
        dry = self.stretch(rng, "speech", SPEEDS, rng.random() < 0.6) * self.pauses(rng)
        if rng.random() > 0.35:
            return dry, dry
        whole, early = augment.room(rng, self.rate)
        return augment.convolve(dry, early), augment.convolve(dry, whole)

    def pauses(self, rng: Rng) -> np.ndarray:
        gate = np.ones(self.size, np.float32)
        if rng.random() < 0.5:
            start, length = rng.integers(self.size), int(rng.uniform(0.3, 0.6) * self.size)
            gate[start : start + length] = 0
            gate = np.roll(gate, int(rng.integers(self.size)) if rng.random() < 0.5 else 0)
            gate = np.convolve(gate, np.ones(self.rate // 100, np.float32) / (self.rate // 100), "same")
        return gate.astype(np.float32)

    def music(self, rng: Rng) -> np.ndarray:
        return self.stretch(rng, "music", np.array([0.95, 1.0, 1.0, 1.05]), rng.random() < 0.5)

    def noise(self, rng: Rng) -> np.ndarray:
        """One kind of noise, often with a second one under it; level one."""
        out = self.one_noise(rng)
        if rng.random() < 0.4:
            out = out + self.one_noise(rng) * np.float32(10 ** (-rng.uniform(0, 15) / 20))
        return out / np.float32(max(augment.rms(out), 1e-4))

    def one_noise(self, rng: Rng) -> np.ndarray:
        kind = rng.choice(["recorded", "coloured", "babble", "hum", "clicks"], p=[0.58, 0.2, 0.12, 0.05, 0.05])
        if kind == "recorded":
            return self.stretch(rng, "noise", SPEEDS, True)
        if kind == "babble":
            voices = [self.stretch(rng, "speech", SPEEDS, True) for _ in range(rng.integers(4, 8))]
            return sum(np.roll(voice, rng.integers(self.size)) for voice in voices)
        if kind == "hum":
            out = augment.hum(rng, self.size, self.rate)
        elif kind == "clicks":
            out = augment.clicks(rng, self.size, self.rate)
        else:
            out = augment.coloured_noise(rng, self.size, self.rate)
            if rng.random() < 0.4:
                out = out * augment.modulation(rng, self.size, self.rate)
        return out / np.float32(max(augment.rms(out), 1e-4))


def active(part: np.ndarray, rate: int) -> np.ndarray:
    """float32 [frames]: 1 where the part is within 30 dB of its loud frames and above -65 dB relative to full scale."""
    frames = part.reshape(-1, rate // 100)
    power = np.square(frames).mean(axis=1)
    smooth = np.convolve(power, np.ones(5) / 5, "same")
    return ((smooth > 3e-7) & (smooth > np.quantile(smooth, 0.95) * 1e-3)).astype(np.float32)


def batches(cache: Path, rate: int, seconds: float, batch: int, seed: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Endless batches: mixture [n, samples], target [n, samples], keep_music [n], labels [frames, n, 4]."""
    rng = np.random.default_rng(seed)
    mixer = Mixer(Pools(cache, wide_only=rate > 8000), rate, int(seconds * rate))
    while True:
        rows = [mixer.example(rng) for _ in range(batch)]
        mixture, target, keep, labels = (np.stack(column) for column in zip(*rows, strict=True))
        yield mixture, target, keep, labels.transpose(1, 0, 2)
