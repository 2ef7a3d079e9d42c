"""Synthetic noises for training, to widen what little recorded noise there is. Plain numpy; float32 [size] at `rate`,
any level unless a level is named."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import fft

from models.sound import augment
from models.sound.augment import Rng, from_db, log_hz, rms, spread, white

TABLE = 2048
"""Samples of one period of a periodic sound."""


def unit(x: np.ndarray) -> np.ndarray:
    """x at RMS one; a peak counts as if it were 30 dB above that, so that rare clicks do not become explosions."""
    return x / np.float32(max(rms(x), 0.032 * float(np.abs(x).max()), 1e-6))


def periodic(rng: Rng, hertz: np.ndarray, strengths: np.ndarray, rate: int) -> np.ndarray:
    """A harmonic sound of random phases. hertz: float [samples]; strengths: of the harmonics, the first one first."""
    count = min(len(strengths), int(0.48 * rate / hertz.max()), TABLE // 2 - 1)
    spectrum = np.zeros(TABLE // 2 + 1, np.complex64)
    spectrum[1 : count + 1] = strengths[:count] * np.exp(2j * np.pi * rng.random(count))
    table = fft.irfft(spectrum, TABLE) * np.float32(TABLE / 2)
    phase = (np.cumsum(hertz / rate) + rng.random()) % 1 * TABLE
    whole = phase.astype(np.int32)
    part = (phase - whole).astype(np.float32)
    here, there = np.take(table, whole, mode="wrap"), np.take(table, whole + 1, mode="wrap")
    return here + part * (there - here)


def drift(rng: Rng, size: int, rate: int, depth: float, a_second: float) -> np.ndarray:
    """float32 [size] around one: a speed that changes `a_second` times a second by `depth`."""
    return spread(1 + rng.normal(0, depth, max(2, int(size / rate * a_second) + 2)).clip(-0.5, 0.5), size)


def low_pass(rng: Rng, size: int, rate: int, lowest: float, highest: float) -> np.ndarray:
    """Gain that falls from a random corner on. float32 [size//2+1]"""
    corner, order = np.log(rng.uniform(lowest, highest)), rng.uniform(1.5, 4)
    return 1 / (1 + np.exp(np.float32(order) * (log_hz(size // 2 + 1, rate) - np.float32(corner))))


def hum(rng: Rng, size: int, rate: int) -> np.ndarray:
    """Mains or motor hum: harmonics of one frequency with random strengths."""
    orders = np.arange(1, int(rng.integers(3, 40)))
    strengths = rng.exponential(1.0, len(orders)) * orders ** -rng.uniform(0.2, 1.2)
    base = rng.choice([50.0, 60.0, rng.uniform(40, 240)])
    return periodic(rng, np.full(size, base), strengths, rate)


def fan(rng: Rng, size: int, rate: int) -> np.ndarray:
    """Blades and air: a few steady harmonics in broad noise."""
    orders = np.arange(1, int(rng.integers(2, 12)))
    strengths = rng.exponential(1.0, len(orders)) * orders ** -rng.uniform(0.5, 2)
    blades = periodic(rng, 40 * 20 ** rng.random() * drift(rng, size, rate, 0.003, 2), strengths, rate)
    return unit(augment.coloured_noise(rng, size, rate)) + unit(blades) * from_db(rng.uniform(-25, 6))


def engine(rng: Rng, size: int, rate: int) -> np.ndarray:
    """Engine orders at changing speed in noise; those of the ignitions are the strongest."""
    orders = np.arange(1, int(rng.integers(8, 60)))
    strengths = rng.exponential(1.0, len(orders)) * orders ** -rng.uniform(0.3, 1.3)
    strengths[orders % rng.integers(1, 7) != 0] *= from_db(-rng.uniform(0, 20))
    turns_a_second = 12 * 12 ** rng.random()
    speed = turns_a_second * drift(rng, size, rate, rng.choice([0.002, 0.01, 0.15]), 1)
    tone = periodic(rng, speed, strengths, rate)
    rumble = white(rng, size, low_pass(rng, size, rate, 60, 800 if rng.random() < 0.5 else 4000))
    return unit(tone) + unit(rumble) * from_db(rng.uniform(-15, 15))


def wind(rng: Rng, size: int, rate: int) -> np.ndarray:
    """Gusts on a microphone: low noise, the stronger the brighter."""
    gusts = augment.modulation(rng, size, rate)
    low, bright = (white(rng, size, low_pass(rng, size, rate, *span)) for span in ((30, 250), (200, 1200)))
    return unit(low) * gusts + unit(bright) * gusts * gusts * from_db(rng.uniform(-25, -5))


def passing(rng: Rng, size: int, rate: int) -> np.ndarray:
    """Traffic that comes near and goes."""
    t = np.linspace(0, size / rate, size // (rate // 100) + 1)
    swell = np.full(len(t), rng.uniform(0.02, 0.3))
    for _ in range(rng.integers(1, 2 + size // (4 * rate))):
        swell += 1 / (1 + np.square((t - rng.uniform(0, t[-1])) / rng.uniform(0.2, 1.5)))
    tyres = augment.coloured_noise(rng, size, rate)
    rumble = white(rng, size, low_pass(rng, size, rate, 60, 500))
    return (unit(tyres) + unit(rumble) * from_db(rng.uniform(-10, 10))) * spread(swell, size)


def ring(rng: Rng, rate: int, seconds: float, lowest: float, highest: float) -> np.ndarray:
    """A thing that was struck: an attack of noise and a few damped resonances. float32, peak near one"""
    size = max(8, int(seconds * rate))
    t = np.arange(size, dtype=np.float32)
    hertz = rng.uniform(lowest, min(highest, 0.47 * rate), int(rng.integers(2, 6)))[:, None].astype(np.float32)
    fades = np.exp(-t * (6.9 / size * rng.uniform(1, 4, (len(hertz), 1))).astype(np.float32))
    body = (np.sin(np.float32(2 * np.pi / rate) * hertz * t) * fades).mean(axis=0)
    attack = rng.standard_normal(size, dtype=np.float32) * np.exp(-t / np.float32(rate * rng.uniform(0.0005, 0.003)))
    return body + attack * np.float32(rng.uniform(0.05, 0.4))


def place(out: np.ndarray, part: np.ndarray, at: int) -> None:
    """Adds part to out from `at` on, in place, as far as out reaches."""
    room = out[at : at + len(part)]
    room += part[: len(room)]


def keyboard(rng: Rng, size: int, rate: int) -> np.ndarray:
    """Typing: every key a press and a softer release; bursts and pauses."""
    out, at = np.zeros(size, np.float32), int(rng.uniform(0, 0.5) * rate)
    keys = [ring(rng, rate, rng.uniform(0.01, 0.05), 500, 6000) for _ in range(4)]
    speed = rng.uniform(0.08, 0.3)
    while at < size:
        place(out, keys[rng.integers(4)] * from_db(rng.normal(0, 3)), at)
        place(out, keys[rng.integers(4)] * from_db(rng.normal(-7, 3)), at + int(rng.uniform(0.05, 0.13) * rate))
        at += int(rate * (speed * rng.lognormal(0, 0.4) + (rng.uniform(0.3, 1.5) if rng.random() < 0.1 else 0)))
    return out


def impacts(rng: Rng, size: int, rate: int) -> np.ndarray:
    """Doors and thumps, or dishes and cutlery."""
    out = np.zeros(size, np.float32)
    lowest, highest, longest = (50, 500, 0.4) if rng.random() < 0.4 else (700, 7000, 0.3)
    for at in rng.integers(0, size, max(1, rng.poisson(size / rate * rng.uniform(0.3, 4)))):
        place(out, ring(rng, rate, rng.uniform(0.02, longest), lowest, highest) * from_db(rng.normal(0, 6)), at)
    return out


def clicks(rng: Rng, size: int, rate: int) -> np.ndarray:
    """Short decaying bursts without a pitch."""
    out = np.zeros(size, np.float32)
    for at in rng.integers(0, size, max(1, int(size / rate * rng.uniform(1, 15)))):
        length = int(rate * rng.uniform(0.002, 0.04))
        burst = rng.standard_normal(length, dtype=np.float32) * augment.decay(length, 1.4 * length)
        place(out, burst * np.float32(rng.exponential(1.0)), at)
    return out


def drops(rng: Rng, size: int, rate: int, a_second: float) -> np.ndarray:
    """Impulses of random strength at random moments, all with one short sound."""
    out = np.zeros(size, np.float32)
    count = max(1, rng.poisson(size / rate * a_second))
    out[rng.integers(0, size, count)] = rng.laplace(0, 1, count)
    return np.convolve(out, ring(rng, rate, rng.uniform(0.001, 0.006), 800, 6000)[:64])[:size]


def crackle(rng: Rng, size: int, rate: int) -> np.ndarray:
    """A bad line: sparse crackle, with bursts of static."""
    out = drops(rng, size, rate, rng.uniform(3, 150))
    for at in rng.integers(0, size, rng.integers(0, 4)):
        burst = rng.standard_normal(int(rate * rng.uniform(0.02, 0.3)), dtype=np.float32)
        place(out, burst * from_db(rng.uniform(-20, 0)), at)
    return out


def rain(rng: Rng, size: int, rate: int) -> np.ndarray:
    """Dense drops over a bright hiss."""
    hiss = white(rng, size, 1 - np.float32(0.95) * low_pass(rng, size, rate, 500, 3000))
    return unit(drops(rng, size, rate, rng.uniform(100, 2500))) + unit(hiss) * from_db(rng.uniform(-12, 12))


def siren(rng: Rng, size: int, rate: int) -> np.ndarray:
    """A sweeping siren; it never stands still, so it is no call-progress tone."""
    period = rng.choice([rng.uniform(0.2, 0.5), rng.uniform(2, 7)])
    sweep = np.abs((np.arange(size) / (rate * period) + rng.random()) % 1 * 2 - 1)
    hertz = rng.uniform(400, 700) * (1 + rng.uniform(0.7, 1.5) * sweep)
    return periodic(rng, hertz, rng.exponential(1.0, 8) / np.arange(1, 9), rate)


NOISES: dict[str, tuple[Callable[[Rng, int, int], np.ndarray], float]] = {
    "fan": (fan, 5), "engine": (engine, 6), "wind": (wind, 3), "passing": (passing, 2.5), "keyboard": (keyboard, 3),
    "impacts": (impacts, 2), "clicks": (clicks, 1.5), "crackle": (crackle, 1), "rain": (rain, 1.5),
    "siren": (siren, 0.5), "hum": (hum, 2),
}  # fmt: skip
"""name -> (maker, how often, relative to the others)"""
INDOORS = ("keyboard", "impacts", "clicks", "siren", "fan")
"""These sound as well through a room."""


def any_name(rng: Rng) -> str:
    shares = np.array([share for _, share in NOISES.values()])
    return str(rng.choice(list(NOISES), p=shares / shares.sum()))


def make(rng: Rng, name: str, size: int, rate: int) -> np.ndarray:
    """One noise by name, now and then through a room; level one."""
    out = NOISES[name][0](rng, size, rate)
    if name in INDOORS and rng.random() < 0.5:
        out = augment.convolve(out, augment.room(rng, rate)[0])
    return unit(out)
