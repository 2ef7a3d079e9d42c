"""Single sounds for a training example, cut from the pools or made: voices, music, tones, noise, at the example's rate.

Everything is float32 [samples] at level one (`augment.active_rms` or `rms`) unless it says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft

from models.data import RATE, Pools
from models.sound import augment, synthesis
from models.sound.augment import Rng, from_db

SPEEDS = (0.82, 0.9, 0.95, 1.0, 1.0, 1.0, 1.05, 1.1, 1.2)
MUSIC_SPEEDS = (0.95, 1.0, 1.0, 1.05)
NOISE_SHARES = {"recorded": 0.36, "events": 0.2, "babble": 0.12, "crowd": 0.04, "coloured": 0.09, "made": 0.19}
DEVICE_SHARES = {"flat": 0.6, "handset": 0.1, "headset": 0.1, "speakerphone": 0.1, "mobile": 0.1}
"""How often a voice was recorded through each device, apart from what lies around it."""
BANDED = {8000: 0.12, 16000: 0.06}
"""How often a sound was already narrowed to a telephone's band before it met the others, by rate."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Sounds of `size` samples at `rate`."""

    pools: Pools
    rate: int
    size: int

    def voice(self, rng: Rng) -> np.ndarray:
        """One talker on some device, dry, without pauses added."""
        raw = self.pools.speech(rng, self.take(rng, SPEEDS))
        device = str(rng.choice(list(DEVICE_SHARES), p=list(DEVICE_SHARES.values())))
        return self.through_a_line(rng, raw, device, rng.random() < 0.6)

    def music(self, rng: Rng) -> np.ndarray:
        take = self.take(rng, MUSIC_SPEEDS)
        return self.through_a_line(rng, self.pools.stretch(rng, "music", take), "flat", rng.random() < 0.5)

    def speech(self, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
        """(wanted speech, speech as the microphone hears it): one or two talkers, with pauses, often in a room."""
        gate = self.pauses(rng)
        dry = self.voice(rng) * gate
        if rng.random() < 0.08:
            other = self.voice(rng) * from_db(rng.uniform(-5, 5))
            dry = dry + other * (1 - gate if rng.random() < 0.5 else self.pauses(rng))
        if rng.random() < 0.1:
            dry = dry * augment.wander(rng, self.size, self.rate)
        if rng.random() > 0.25:
            return dry, dry
        whole, early = augment.room(rng, self.rate)
        heard, wanted = augment.convolve(dry, whole, early)
        return wanted, heard

    def far_echo(self, rng: Rng) -> np.ndarray:
        """What an echo canceller leaves of the far end's voice."""
        return augment.convolve(self.voice(rng) * self.pauses(rng), augment.room(rng, self.rate)[0])

    def pauses(self, rng: Rng) -> np.ndarray:
        """A gate with one long pause in half of all cases; soft edges."""
        gate = np.ones(self.size, np.float32)
        if rng.random() < 0.5:
            edge = self.rate // 100
            start, length = int(rng.integers(self.size)), int(rng.uniform(0.3, 0.6) * self.size)
            ramp = np.linspace(1, 0, edge, dtype=np.float32)
            shape = np.concatenate([ramp, np.zeros(max(length - 2 * edge, 0), np.float32), ramp[::-1]])
            gate[start : start + len(shape)] = shape[: self.size - start]
        return gate

    def noise(self, rng: Rng) -> np.ndarray:
        """One kind of noise, often with a second one under it."""
        out = self.one_noise(rng)
        if rng.random() < 0.35:
            out = out + self.one_noise(rng) * from_db(-rng.uniform(0, 15))
        if rng.random() < BANDED[self.rate]:
            out = augment.resize_and_filter(out, self.size, augment.telephone_band(rng, self.size // 2 + 1, self.rate))
        return synthesis.unit(out)

    def one_noise(self, rng: Rng) -> np.ndarray:
        kind = rng.choice(list(NOISE_SHARES), p=list(NOISE_SHARES.values()))
        if kind == "recorded":
            return self.recorded(rng)
        if kind == "events":
            return self.events(rng)
        if kind == "babble":
            return self.babble(rng, int(rng.integers(3, 9)))
        if kind == "crowd":
            return synthesis.unit(augment.convolve(self.babble(rng, 8), self.hall(rng)))
        if kind == "made":
            return synthesis.make(rng, synthesis.any_name(rng), self.size, self.rate)
        out = augment.coloured_noise(rng, self.size, self.rate)
        return synthesis.unit(out * augment.modulation(rng, self.size, self.rate) if rng.random() < 0.4 else out)

    def recorded(self, rng: Rng) -> np.ndarray:
        take = self.take(rng, SPEEDS)
        return self.through_a_line(rng, self.pools.stretch(rng, "noise", take), "flat", True)

    def events(self, rng: Rng) -> np.ndarray:
        """Short noises of one kind, sparse or dense, at distances that vary; now and then two kinds, or in a room."""
        take = self.take(rng, SPEEDS)
        out = np.zeros(take, np.float32)
        for _ in range(1 + (rng.random() < 0.3)):
            kinds = self.pools.events(rng, int(rng.integers(1, 9)))
            gap = RATE * 0.06 * 40 ** rng.random()
            at = int(rng.exponential(gap))
            while at < take:
                event = kinds[rng.integers(len(kinds))]
                synthesis.place(out, event * from_db(rng.normal(0, 4)), at)
                at += int(rng.exponential(gap) + 0.3 * gap)
        if rng.random() < 0.3:
            out = augment.convolve(out, augment.room(rng, RATE)[0])
        return synthesis.unit(self.through_a_line(rng, out, "flat", True))

    def babble(self, rng: Rng, talkers: int) -> np.ndarray:
        """Several voices at once, from different distances."""
        take = self.take(rng, SPEEDS)
        voices = np.zeros(take, np.float32)
        for _ in range(talkers):
            voice = self.pools.speech(rng, take)
            voices += voice * (from_db(rng.uniform(-8, 0)) / np.float32(max(augment.rms(voice), 1e-4)))
        return self.through_a_line(rng, voices, "flat", True)

    def hall(self, rng: Rng) -> np.ndarray:
        """A long dense tail that turns voices into murmur."""
        size = int(rng.uniform(0.5, 1.2) * self.rate)
        return rng.standard_normal(size, dtype=np.float32) * augment.decay(size, size)

    def take(self, rng: Rng, speeds: Sequence[float]) -> int:
        """How many samples of the pools make `size` samples at a random speed; a length that transforms fast."""
        return int(fft.next_fast_len(int(self.size * RATE / self.rate * rng.choice(speeds)), real=True))

    def through_a_line(self, rng: Rng, raw: np.ndarray, device: str, filtered: bool) -> np.ndarray:
        """raw, float32 at 16 kHz and some speed, stretched to this size, through a device and perhaps a line."""
        bins = self.size // 2 + 1
        response = augment.random_response(rng, bins, self.rate, 3.0 if filtered else 0.0, device)
        if rng.random() < BANDED[self.rate]:
            response = response * augment.telephone_band(rng, bins, self.rate)
        out = augment.resize_and_filter(raw, self.size, response)
        return out / np.float32(max(augment.active_rms(out, self.rate), 1e-4))
