"""Says which legs hear music: hold music, music under an announcement, singing; not speech, not noise.

It listens to the denoiser's input at 8 kHz. Every 320 ms of a slot become one row of features: how sharp the partials
are, whether they stand still for 320, 640 and 1280 ms as notes do and voices do not, whether one gliding pitch explains
them, how the level and the bands move. A small recurrent network, trained by `models/musicality.py` with these very
features, gathers the evidence; a Schmitt trigger makes a verdict of it. Blocks begin with
the stream, whatever its slot: a recording sounds the same in every one. What a verdict means is the policy's to decide.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from gateway.detect.sines import CHUNK, HOP, RATE, Bools, Floats, Ints
from gateway.detect.sound import BLOCK_FRAMES, Sound

WEIGHTS = Path(__file__).with_name("music.npz")
FRAMES = BLOCK_FRAMES
"""10 ms frames in a block, the step of features and verdicts."""
BLOCK, WINDOW = FRAMES * HOP, 3 * CHUNK
LOWEST, BINS = 6, 195
"""First bin of the spectrum that is looked at, and how many: 100 to 3333 Hz in steps of 16.7 Hz."""
BANDS, KNOTS = 14, 14
REGIONS_HZ = (500, 1000, 2000)
"""Borders of the regions in which partials are judged."""
LAGS, HISTORY = np.array([1, 2, 4]), 4
"""Blocks between two spectra that are compared, and how many are kept; a power of two."""
REGIONS = len(REGIONS_HZ) + 1
FEATURES = BANDS + REGIONS * (1 + len(LAGS)) + 9
EQUAL = np.full(BANDS, 1 / BANDS, np.float32)
PITCH_HZ, PITCHES = (70, 500), 64
"""Range and number of the pitches that are tried."""
LEVEL_DB = 10 * np.log10(BLOCK)
SILENCE_DBFS = -64.0
"""A block below this says nothing: the verdict and its evidence stay."""
FORGET_BLOCKS = 12
"""Silent blocks (3.8 s) after which the verdict is withdrawn and what was heard is forgotten."""
TAPER = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
ROWS = 128
"""Blocks analysed at once: few enough that their spectra stay in the processor's cache."""
DOUBT, DOUBTFUL = -1.5, 3
"""Log odds below which a new stream is no music, and blocks (1 s) after which it is none if it is not known to be."""
FAINT_DBFS = -54.0
"""Blocks below this say nothing of how a stream begins: the noise of a line comes before the music."""
LATER = 6
"""Frames after a block's end from which on its verdict counts, so that blocks of many legs can be judged at once."""


def band_weights() -> Floats:
    """float32 [BINS, BANDS]: triangles that sum to one at every bin, narrower at low frequencies."""
    hertz = (LOWEST + np.arange(BINS)) * RATE / WINDOW
    centres = np.expm1(np.linspace(np.log1p(hertz[0] / 600), np.log1p(hertz[-1] / 600), BANDS)) * 600
    return np.stack([np.interp(hertz, centres, row) for row in np.eye(BANDS)], axis=1).astype(np.float32)


def region_weights() -> Floats:
    """float32 [BINS, REGIONS]: 1 where a bin lies in a region."""
    hertz = (LOWEST + np.arange(BINS)) * RATE / WINDOW
    return np.eye(REGIONS, dtype=np.float32)[np.searchsorted(REGIONS_HZ, hertz, side="right")]


def surroundings() -> tuple[Floats, Floats]:
    """float32 [BINS, KNOTS] and [KNOTS, BINS]: their product smooths a spectrum over 250 Hz."""
    knots = np.linspace(0, BINS - 1, KNOTS)
    tents = np.stack([np.interp(np.arange(BINS), knots, row) for row in np.eye(KNOTS)], axis=1)
    return (tents / tents.sum(axis=0)).astype(np.float32), tents.T.astype(np.float32)


def combs() -> Floats:
    """float32 [BINS, PITCHES]: cosines over frequency, each with the period of one pitch's harmonics."""
    hertz = (LOWEST + np.arange(BINS)) * RATE / WINDOW
    waves = np.cos(2 * np.pi * hertz[:, None] / np.geomspace(*PITCH_HZ, PITCHES))
    return (waves * np.linspace(1.5, 0.5, BINS)[:, None] / BINS).astype(np.float32)


def decibels(energies: Floats) -> Floats:
    """Level of blocks relative to full scale, float32 [n], from the energies of their frames, float32 [n, FRAMES]."""
    power: Floats = np.log(energies.sum(axis=1) + np.float32(1e-7))
    return power * np.float32(10 / np.log(10)) - np.float32(LEVEL_DB)


class Features:
    """What every slot's last blocks sounded like, and the features of the next. Sans-IO, arrays over slots."""

    def __init__(self, slots: int) -> None:
        self._bands, self._regions, self._combs = band_weights(), region_weights(), combs()
        self._means, self._tents = surroundings()
        self._wide_regions = np.concatenate([self._regions, np.zeros((REGIONS, REGIONS), np.float32)])
        self._log_widths = np.log(self._regions.sum(axis=0))
        self._spectrum = np.zeros((ROWS, WINDOW // 2 + 1), np.complex64)
        self._blocks = np.zeros(slots, np.int64)
        self._history = np.zeros((slots, HISTORY, BINS + REGIONS), np.float32)
        """Partials of earlier blocks, and the length of each region of them as a vector."""
        self._past = np.zeros((slots, BANDS + 3), np.float32)
        """Of the block before: logarithmic bands, level and its peak, pitch."""

    def reset(self, slots: Ints) -> None:
        for state in (self._blocks, self._history, self._past):
            state[slots] = 0
        self._past[slots, BANDS : BANDS + 2] = SILENCE_DBFS

    def of(self, slots: Ints, tapered: Floats, energies: Floats, levels: Floats) -> Floats:
        """Features of one more block of each slot.

        slots: int64 [n], unique, n <= ROWS; tapered: float32 [n, WINDOW], the ends of the blocks, -1..1, times `TAPER`;
        energies: float32 [n, FRAMES], sums of squares of the block's frames; levels: float32 [n], their `decibels`.
        Returns float32 [n, FEATURES], each within -3..3.
        """
        out = np.empty((len(slots), FEATURES), np.float32)
        past, power = self._past[slots], self._power(tapered)
        self._move(past, power, levels, out)
        swings = np.sort(np.log(energies + np.float32(1e-6)), axis=1)
        out[:, BANDS + 4] = (swings[:, -1] - swings[:, 0]) * 0.3 - 1
        out[:, BANDS + 5] = swings[:, -1] - swings[:, FRAMES // 2] - 1
        partials = self._partials(power)
        self._voice(past, partials, out[:, BANDS + 6 : BANDS + 9])
        self._compare(slots, partials, out[:, BANDS + 9 :])
        self._past[slots] = past
        return np.clip(out, -3, 3, out=out)

    def _power(self, tapered: Floats) -> Floats:
        """Power spectrum of the last 60 ms, float32 [n, BINS]; the scratch array spares the allocator."""
        spectrum = self._spectrum[: len(tapered)]
        np.fft.rfft(tapered, out=spectrum)  # type: ignore[arg-type]  # the stubs know double precision only
        part = spectrum[:, LOWEST : LOWEST + BINS]
        power = np.square(part.real)
        power += np.square(part.imag)
        return power

    def _move(self, past: Floats, power: Floats, levels: Floats, out: Floats) -> None:
        """Levels of the bands; then the level below the peak of the last seconds, its step, and how the bands move, up
        or down and at all. Renews `past`."""
        bands = power @ self._bands
        bands /= bands.sum(axis=1, keepdims=True) + np.float32(1e-6)
        bands += np.float32(1e-4)
        np.log(bands, out=bands)
        out[:, :BANDS] = bands * 0.5 + 1.5
        peak = np.maximum(levels, past[:, BANDS + 1] - np.float32(0.8))
        out[:, BANDS] = (levels - peak) * 0.1 + 1
        out[:, BANDS + 1] = (levels - past[:, BANDS]) * 0.1
        change = bands - past[:, :BANDS]
        out[:, BANDS + 2] = change @ EQUAL * 2
        out[:, BANDS + 3] = np.abs(change, out=change) @ EQUAL * 2 - 1
        past[:, :BANDS], past[:, BANDS], past[:, BANDS + 1] = bands, levels, peak

    def _partials(self, power: Floats) -> Floats:
        """The logarithmic spectrum less its surroundings, float32 [n, BINS], in the memory of `power`."""
        power += power.mean(axis=1, keepdims=True) * np.float32(1e-4) + np.float32(1e-9)
        partials = np.log(power, out=power)
        partials -= (partials @ self._means) @ self._tents
        return np.maximum(partials, np.float32(-1.5), out=partials)

    def _voice(self, past: Floats, partials: Floats, out: Floats) -> None:
        """float32 [n, 3]: how much of the partials one pitch explains, that pitch, and how far it moved."""
        fits = partials @ self._combs
        pitch = fits.argmax(axis=1) * np.float32(4 / PITCHES) - 2
        out[:, 0] = fits.max(axis=1) * 4 - 1
        out[:, 1] = pitch
        out[:, 2] = np.abs(pitch - past[:, BANDS + 2]) - 1
        past[:, BANDS + 2] = pitch

    def _compare(self, slots: Ints, partials: Floats, out: Floats) -> None:
        """How far partials stand out, [n, REGIONS], and how like those of earlier blocks they are, [n, lags of them].

        Two spectra are compared by the cosine between them; noise gives about 0, a held chord 1.
        """
        sizes = np.square(partials) @ self._regions + np.float32(1e-3)
        out[:, :REGIONS] = np.log(sizes) - self._log_widths
        newest = np.concatenate([partials, np.sqrt(sizes, out=sizes)], axis=1)
        now = self._blocks[slots]
        earlier = slots[:, None] * HISTORY + ((now[:, None] - LAGS) & (HISTORY - 1))
        products = self._history.reshape(-1, BINS + REGIONS).take(earlier, axis=0)
        products *= newest[:, None]
        likeness = (products.reshape(-1, BINS + REGIONS) @ self._wide_regions).reshape(-1, len(LAGS), REGIONS)
        likeness /= products[:, :, BINS:] + np.float32(1e-3)
        out[:, REGIONS:] = likeness.reshape(len(slots), -1) * 2
        self._history[slots, now & (HISTORY - 1)] = newest
        self._blocks[slots] = now + 1


@dataclass(frozen=True, slots=True)
class Network:
    """A dense layer, a gated recurrent unit (Cho et al., 2014) and one output; weights as `models/musicality.py` keeps
    them, with the thresholds it chose."""

    dense: Floats
    """float32 [FEATURES + 1, wide]; the last row is the bias, here and below."""
    inward: Floats
    """float32 [wide + 1, 3 * size]: reset, update, candidate."""
    onward: Floats
    """float32 [size + 1, 3 * size]."""
    output: Floats
    """float32 [size + 1]."""
    thresholds: Floats
    """float32 [2]: log odds at which music begins and ends."""

    @classmethod
    def load(cls, path: Path = WEIGHTS) -> Network:
        with np.load(path) as file:
            return cls(**{field.name: file[field.name].astype(np.float32) for field in fields(cls)})

    @property
    def size(self) -> int:
        return len(self.output) - 1

    def step(self, features: Floats, state: Floats) -> tuple[Floats, Floats]:
        """float32 [n, FEATURES], [n, size] -> log odds of music, float32 [n], and the next state."""
        size = self.size
        wide = np.maximum(features @ self.dense[:-1] + self.dense[-1], 0)
        new = wide @ self.inward[:-1] + self.inward[-1]
        old = state @ self.onward[:-1] + self.onward[-1]
        gates = np.tanh((new[:, : 2 * size] + old[:, : 2 * size]) * np.float32(0.5)) * np.float32(0.5) + np.float32(0.5)
        candidate = np.tanh(new[:, 2 * size :] + gates[:, :size] * old[:, 2 * size :])
        state = candidate + gates[:, size:] * (state - candidate)
        return state @ self.output[:-1] + self.output[-1], state


class Music:
    """Hears music in many slots at once."""

    def __init__(self, slots: int, network: Network | None = None) -> None:
        self.network = network or Network.load()
        self.on: Bools = np.zeros(slots, np.bool_)
        """bool [slots]: music is heard now."""
        self.maybe: Bools = np.zeros(slots, np.bool_)
        """bool [slots]: the stream is new, and what was heard of it may be the beginning of music."""
        self._features = Features(slots)
        self._state = np.zeros((slots, self.network.size), np.float32)
        self._silent = np.zeros(slots, np.int64)
        self._verdict = np.zeros(slots, np.bool_)
        """What `on` becomes when the newest block that was judged counts."""
        self._doubt = np.zeros(slots, np.int64)
        """What is left of `DOUBTFUL` then."""
        self._waits = np.zeros(slots, np.bool_)
        """The newest block was not judged yet; it is one of the first `_count` rows here."""
        self._count = 0
        self._waiting = np.zeros(ROWS, np.int64)
        self._tapered = np.zeros((ROWS, WINDOW), np.float32)
        self._energies = np.zeros((ROWS, FRAMES), np.float32)
        self._levels = np.zeros(ROWS, np.float32)
        self.reset(np.arange(slots))

    def reset(self, slots: Ints) -> None:
        """Streams begin in these slots."""
        if self._waits[slots].any():
            self._drop(slots)
        self._forget(slots)
        self.maybe[slots], self._doubt[slots] = True, DOUBTFUL

    def _forget(self, slots: Ints) -> None:
        """What these slots have heard is no evidence any more."""
        self._features.reset(slots)
        self._state[slots] = 0
        self._silent[slots] = 0
        self.on[slots] = self._verdict[slots] = False

    def hear(self, slots: Ints, sound: Sound) -> Bools:
        """Advance each slot by the newest chunk of its sound: whether music is heard at its end, bool [n].

        slots: int64 [n], unique.
        """
        frame = sound.frames[slots] % FRAMES
        counts = slots[frame == LATER]
        if self._waits[counts].any():
            self._judge()
        self.on[counts] = self._verdict[counts]
        self.maybe[counts] = self._doubt[counts] > 0
        due = slots[frame == 0]
        for first in range(0, len(due), ROWS):
            self._gather(due[first : first + ROWS], sound)
        return self.on[slots]

    def _gather(self, slots: Ints, sound: Sound) -> None:
        """Keep the block that each slot has just filled until it is judged."""
        energies = sound.energies(slots)
        levels = decibels(energies)
        loud = levels > SILENCE_DBFS
        if not loud.all():
            self._rest(slots[~loud])
            slots, energies, levels = slots[loud], energies[loud], levels[loud]
            if not len(slots):
                return
        if self._count + len(slots) > ROWS:
            self._judge()
        rows = slice(self._count, self._count + len(slots))
        np.multiply(sound.last(slots, WINDOW), TAPER, out=self._tapered[rows])
        self._energies[rows], self._levels[rows], self._waiting[rows] = energies, levels, slots
        self._waits[slots], self._silent[slots] = True, 0
        self._count = rows.stop

    def _drop(self, slots: Ints) -> None:
        """Judge no block of these."""
        self._waits[slots] = False
        kept = np.flatnonzero(self._waits[self._waiting[: self._count]])
        self._count = len(kept)
        for column in (self._waiting, self._tapered, self._energies, self._levels):
            column[: len(kept)] = column[kept]

    def _judge(self) -> None:
        """Renew the verdicts of all slots that wait."""
        count, self._count = self._count, 0
        slots, levels = self._waiting[:count], self._levels[:count]
        self._waits[slots] = False
        features = self._features.of(slots, self._tapered[:count], self._energies[:count], levels)
        odds, self._state[slots] = self.network.step(features, self._state[slots])
        begin, end = self.network.thresholds
        self._verdict[slots] = verdict = odds > np.where(self._verdict[slots], end, begin)
        left = np.where((odds > DOUBT) & ~verdict, self._doubt[slots] - 1, 0)
        self._doubt[slots] = np.where(levels > FAINT_DBFS, left, self._doubt[slots])

    def _rest(self, slots: Ints) -> None:
        """Count silence; too much of it ends music."""
        self._silent[slots] += 1
        self._forget(slots[self._silent[slots] >= FORGET_BLOCKS])
