"""Steady lines in 32 ms of sound: what `progress` measures when a tone begins, and what it follows it with.

`single` and `pair` take frequencies, powers and the rest from a few moments of the sound, without a fit. `Slow` knows
the tones that beat too slowly for that (India's 400 Hz modulated by 25 Hz has its lines 25 Hz apart): it projects
100 ms on the lines of every such plan. `Notch` follows a tone.
"""

from typing import NamedTuple

import numpy as np

from gateway.detect.plans import SOUNDS, Sound
from gateway.detect.sines import CONTEXT, HOP, RATE, SILENCE, Doubles, Floats, Ints

LOOK = 256
"""Samples that are measured: what the stream holds whatever the packet."""
LOW_HZ, LOW_LAG = 800.0, 4
"""Below, lines may lie close together, and a lag of four samples tells them apart."""
SLOW_HZ = 60.0
"""Sounds whose lines lie closer than this are looked at for 100 ms."""
SLOW_SAMPLES = 800
EXPLAINED = 0.975
"""Of the power of those 100 ms."""
_THINNED = 4
"""Samples that are summed to one for the longer look: a quarter of its cost, and its lines lie below 500 Hz."""
_DETUNED = np.linspace(-0.015, 0.015, 9)


class Single(NamedTuple):
    """A sound as one line and a rest; [m] each."""

    hz: Doubles
    power: Doubles
    """Mean square of the sound."""
    rest: Doubles
    """Share of the power that the line is not."""


class Pair(NamedTuple):
    """A sound as two lines and a rest; worth something only where one is not enough."""

    hz: Doubles
    """[m, 2], rising."""
    power: Doubles
    """[m, 2]: mean square of each."""
    rest: Doubles
    """[m]"""


def single(sound: Floats, lag: int) -> Single:
    """float32 [m, 256] at 8 kHz -> its line, if it lies below 4000 / lag Hz.

    Total least squares on x[t-lag] + x[t+lag] = 2 cos w x[t]. White noise adds its power to each eigenvalue of the
    moments, so that the smaller one is the rest (Pisarenko, 1973).
    """
    x = sound.astype(np.float64)
    middle, around = x[:, lag:-lag], (x[:, 2 * lag :] + x[:, : -2 * lag]) * np.sqrt(0.5)
    size = middle.shape[1]
    total = np.einsum("mi,mi->m", middle, middle) / size + SILENCE
    about = np.einsum("mi,mi->m", around, around) / size
    across = np.einsum("mi,mi->m", around, middle) / size
    least = np.maximum((about + total) / 2 - np.hypot((about - total) / 2, across), 0.0)
    cosine = across / (np.maximum(total - least, SILENCE) * np.sqrt(2))
    return Single(np.arccos(np.clip(cosine, -1.0, 1.0)) * (RATE / (2 * np.pi * lag)), total, least / total)


def pair(sound: Floats, lag: int, most: float = 1.0) -> Pair:
    """float32 [m, 256] at 8 kHz -> its two lines, below 4000 / lag Hz; zeros where the rest is more than `most`.

    The recurrence of `sines.fit`. Powers: the moments of x[t-lag] + x[t+lag], which is 2 cos w x[t] for each line,
    and of x[t], with x[t], give two equations.
    """
    x = sound.astype(np.float64)
    size, root = x.shape[1] - CONTEXT * lag, np.sqrt(0.5)
    columns = np.empty((len(x), 3, size))
    np.add(x[:, 4 * lag :], x[:, :size], out=columns[:, 0])
    np.add(x[:, 3 * lag : 3 * lag + size], x[:, lag : lag + size], out=columns[:, 1])
    columns[:, :2] *= root
    columns[:, 2] = x[:, 2 * lag : 2 * lag + size]
    moments = columns @ columns.transpose(0, 2, 1) / size
    values, vectors = np.linalg.eigh(moments + np.eye(3) * SILENCE)
    rest = np.maximum(values[:, 0], 0.0) / (moments[:, 2, 2] + SILENCE)
    hz, power = np.zeros((len(x), 2)), np.zeros((len(x), 2))
    rows = np.flatnonzero(rest <= most)
    if len(rows):
        cosines, power[rows] = _two(moments[rows], values[rows, 0], vectors[rows, :, 0])
        hz[rows] = np.arccos(cosines) * (RATE / (2 * np.pi * lag))
    return Pair(hz, power, rest)


def _two(moments: Doubles, least: Doubles, vector: Doubles) -> tuple[Doubles, Doubles]:
    """Cosines of both lines and their powers, [m, 2] each, from the smallest eigenvalue of the moments."""
    root = np.sqrt(0.5)
    outer, inner, middle = vector[:, 0] * root, vector[:, 1] * root, vector[:, 2]
    outer = np.where(np.abs(outer) < 1e-9, 1e-9, outer)
    half_sum, product = -inner / outer / 4, (middle / outer - 2) / 4
    apart = np.sqrt(np.maximum(half_sum**2 - product, 1e-12))
    cosines = np.clip(np.stack([half_sum + apart, half_sum - apart], axis=1), -1.0, 1.0)
    clean = np.maximum(moments[:, 2, 2] - least, 0.0)
    first = (moments[:, 1, 2] * root - clean * cosines[:, 1]) / (cosines[:, 0] - cosines[:, 1] + 1e-9)
    first = np.clip(first, 0.0, clean)
    return cosines, np.stack([first, clean - first], axis=1)


class Notch:
    """A filter a slot, with zeros on up to three lines."""

    TAPS = 7

    def __init__(self, slots: int) -> None:
        self._taps = np.zeros((slots, self.TAPS), np.float32)
        self._lag = np.ones(slots, np.int64)

    def tune(self, slot: int, hz: tuple[float, ...]) -> None:
        """hz: one to three lines."""
        lag = LOW_LAG if max(hz) < LOW_HZ else 1
        taps = np.ones(1)
        for line in hz:
            taps = np.convolve(taps, [1.0, -2 * np.cos(2 * np.pi * line * lag / RATE), 1.0])
        taps /= np.sqrt(np.sum(taps**2))
        self._lag[slot] = lag
        self._taps[slot] = 0.0
        self._taps[slot, : len(taps)] = taps

    def rest(self, slots: Ints, stream: Floats, number: int, power: Floats) -> Floats:
        """Share of a frame that the filter leaves, where white noise leaves all; float32 [m].

        It hears nothing of what was before the frame, so that a tone's first whole frame is one.
        stream: float32 [m, samples]; number: of the frame, of 80 samples, from the stream's end (1 is the last).
        power: float32 [m], of that frame.
        """
        end = stream.shape[1] - HOP * (number - 1)
        steps = self._lag[slots][:, None] * np.arange(self.TAPS)
        at = np.arange(end - HOP + LOW_LAG * (self.TAPS - 1), end)
        seen = np.take_along_axis(stream, (at - steps[..., None]).reshape(len(slots), -1), axis=1)
        left = np.einsum("mi,mij->mj", self._taps[slots], seen.reshape(len(slots), self.TAPS, len(at)))
        share: Floats = np.einsum("mj,mj->m", left, left) / (len(at) * (power + np.float32(SILENCE)))
        return share


class Slow:
    """Plans whose lines beat slowly."""

    def __init__(self) -> None:
        self.sounds = [s for s in SOUNDS if len(s.hz) > 1 and min(np.diff(s.hz)) < SLOW_HZ]
        bases = [_basis(sound, detuned) for sound in self.sounds for detuned in _DETUNED]
        self._spaces = np.concatenate([_padded(np.linalg.qr(basis)[0]) for basis in bases], axis=1).astype(np.float32)
        self._bases = bases

    def match(self, sound: Floats) -> Sound | None:
        """What 100 ms, float32 [800], are.

        Lines of a plan are equally strong to within 8 dB; the two sides of a modulated tone are mirrored in level and
        phase about the carrier, which those of a wavering voice are not.
        """
        sound = sound.reshape(-1, _THINNED).sum(axis=1)
        total = float(sound @ sound) + SILENCE
        seen = np.square(sound @ self._spaces).reshape(len(self._bases), 6).sum(axis=1) / total
        for best in np.argsort(-seen)[: 2 * len(_DETUNED)]:
            if not seen[best] >= EXPLAINED:
                return None
            which: Sound = self.sounds[best // len(_DETUNED)]
            if _genuine(which, self._bases[best], sound):
                return which
        return None


def _basis(sound: Sound, detuned: float) -> Doubles:
    """float64 [200, 2 lines]: cosines and sines, thinned like the sound; modulation keeps its frequency."""
    carrier = sound.hz[1] if sound.modulated else 0.0
    hz = [line + carrier * detuned if sound.modulated else line * (1 + detuned) for line in sound.hz]
    phase = 2 * np.pi / RATE * (np.arange(SLOW_SAMPLES)[:, None] - SLOW_SAMPLES / 2) * np.array(hz)
    basis = np.concatenate([np.cos(phase), np.sin(phase)], axis=1)
    thinned: Doubles = basis.reshape(-1, _THINNED, basis.shape[1]).sum(axis=1)
    return thinned


def _padded(space: Doubles) -> Doubles:
    return np.pad(space, ((0, 0), (0, 6 - space.shape[1])))


def _genuine(sound: Sound, basis: Doubles, pcm: Floats) -> bool:
    weights = np.linalg.lstsq(basis, pcm.astype(np.float64), rcond=None)[0]
    line = weights[: len(sound.hz)] - 1j * weights[len(sound.hz) :]
    if not sound.modulated:
        return bool(0.4 < np.abs(line[0] / line[1]) < 2.5)
    below, carrier, above = line
    mirrored = below * above / carrier**2
    depth = np.sqrt(np.abs(mirrored)) * 2
    alike = 0.5 < np.abs(below) / (np.abs(above) + SILENCE) < 2
    return bool(0.5 < depth < 1.4 and alike and np.abs(np.angle(mirrored)) < 0.6)
