"""Generators of the telephone network's signals, by their standards: float32 at 8 kHz, -1..1, nothing but arrays.

What a line then does to them (level, noise, G.711, loss) is in `levels`, whose names are here too. The same
arguments give the same samples. Nothing here knows the gateway, so its tests may compare against these.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from tests.tonelab.levels import (
    FRAME,
    FULL_SCALE_DBM0,
    PACKET,
    RATE_HZ,
    Floats,
    active_dbm0,
    amplitude,
    at_level,
    decode,
    encode,
    level_dbm0,
    lost,
    samples,
    sounding,
    through_g711,
    with_loss,
    with_noise,
)

__all__ = [
    "FRAME", "FULL_SCALE_DBM0", "PACKET", "RATE_HZ", "Floats", "active_dbm0", "amplitude", "at_level", "decode",
    "encode", "level_dbm0", "lost", "samples", "sounding", "through_g711", "with_loss", "with_noise",
]  # fmt: skip

DIGITS = {
    digit: (low, high)
    for low, row in zip((697.0, 770.0, 852.0, 941.0), ("123A", "456B", "789C", "*0#D"), strict=True)
    for high, digit in zip((1209.0, 1336.0, 1477.0, 1633.0), row, strict=True)
}
"""Hertz of every digit (ITU-T Q.23)."""
BEEPS = {
    "1000 Hz, 0.4 s": "!1000/400,0", "1400 Hz, 0.35 s": "!1400/350,0", "440 Hz, 1 s": "!440/1000,0",
    "880 Hz, 0.25 s twice": "!880/250,!0/150,!880/250,0", "2000 Hz, 0.2 s": "!2000/200,0",
    "1100 Hz, 0.3 s": "!1100/300,0", "2100 Hz, 0.5 s": "!2100/500,0", "620+480 Hz, 0.5 s": "!480+620/500,0",
}  # fmt: skip
"""What answering machines say before they record; two of them on the frequencies of fax."""
_LETTERS = "\0E\nA SIU\rDRJNFCKTZLWHYPQOBG\0MXV\0"
_FIGURES = "\x003\n- \a87\r$4',!:(5\")2=6019?+\0./;\0"
_TO_FIGURES, _TO_LETTERS = 27, 31
"""Baudot of American text telephones (ITU-T V.18 annex A), by code; 0 is nothing to be sent."""


def silence(ms: float) -> Floats:
    """Digital silence."""
    return np.zeros(samples(ms), np.float32)


def sine(hz: float, ms: float, dbm0: float = -10.0, cycles: float = 0.0) -> Floats:
    """A steady tone; cycles: where it starts."""
    at = np.arange(samples(ms)) * (hz / RATE_HZ) + cycles
    return (amplitude(dbm0) * np.sin(2 * np.pi * at)).astype(np.float32)


def join(*parts: Floats) -> Floats:
    """One after the other."""
    return np.concatenate([np.zeros(0, np.float32), *parts])


def around(pcm: Floats, before_ms: float = 500.0, after_ms: float = 500.0) -> Floats:
    """The signal between two silences."""
    return join(silence(before_ms), pcm, silence(after_ms))


def dtmf(
    digits: str,
    on_ms: float = 50.0,
    off_ms: float = 50.0,
    dbm0: float = -10.0,
    twist_db: float = 0.0,
    error_percent: float | tuple[float, float] = 0.0,
) -> Floats:
    """Digits, each followed by its pause; clipped where both tones exceed full scale.

    dbm0: of the stronger tone; twist_db: high tone above low tone (ITU-T Q.24: +4 to -8 with AT&T);
    error_percent: of both frequencies, or of the low and the high one.
    """
    low_error, high_error = error_percent if isinstance(error_percent, tuple) else (error_percent, error_percent)
    low_dbm0, high_dbm0 = dbm0 - max(twist_db, 0.0), dbm0 + min(twist_db, 0.0)
    parts = []
    for number, digit in enumerate(digits):
        low, high = DIGITS[digit]
        tone = sine(low * (1 + low_error / 100), on_ms, low_dbm0, cycles=0.1 * number)
        tone = tone + sine(high * (1 + high_error / 100), on_ms, high_dbm0)
        parts += [np.clip(tone, -1, 1), silence(off_ms)]
    return join(*parts)


def chord(frequencies: Sequence[float], count: int, dbm0: float, modulation_hz: float = 0.0) -> Floats:
    """All frequencies at once, equally loud, together at this level; modulation_hz: 90 % AM (`400*25`)."""
    if not frequencies:
        return np.zeros(count, np.float32)
    t = np.arange(count) / RATE_HZ
    tone = np.sum([np.sin(2 * np.pi * hz * t) for hz in frequencies], axis=0) / np.sqrt(len(frequencies))
    if modulation_hz:
        tone = tone * (1 + 0.9 * np.sin(2 * np.pi * modulation_hz * t)) / np.sqrt(1 + 0.9**2 / 2)
    return np.clip(amplitude(dbm0) * tone, -1, 1).astype(np.float32)


def cadence(
    frequencies: Sequence[float],
    on_off_ms: Sequence[float],
    seconds: float,
    dbm0: float = -13.0,
    modulation_hz: float = 0.0,
) -> Floats:
    """Tones that sound and rest in turn, from the beginning of the first: the signals of ITU-T E.180.

    on_off_ms: sounding, silent, sounding, ..., repeated; empty or of one item: without a pause.
    """
    count = samples(seconds * 1000)
    tone = chord(frequencies, count, dbm0, modulation_hz)
    if len(on_off_ms) < 2:
        return tone
    ends = np.cumsum(on_off_ms) * (RATE_HZ / 1000)
    step = np.searchsorted(np.rint(ends), np.arange(count) % round(ends[-1]), side="right")
    return np.where(step % 2 == 0, tone, np.float32(0))


def progress(plan: str, seconds: float, dbm0: float = -13.0) -> Floats:
    """A tone as Asterisk's indications.conf writes it: `440+480/2000,0/4000`, `!950/330,!1400/330,!1800/330,0`.

    `+` adds frequencies, `*` modulates, `/` gives milliseconds, `!` plays once, 0 is silence, no duration is for ever.
    """
    count, once, again = samples(seconds * 1000), [], []
    for item in plan.replace(" ", "").split(","):
        text, _, ms = item.lstrip("!").partition("/")
        (once if item.startswith("!") else again).append((text, float(ms) if ms else None))
    pieces: list[Floats] = []
    have = 0
    for text, ms in _steps(once, again):
        length = count - have if ms is None else min(samples(ms), count - have)
        pieces.append(_step(text, length, dbm0))
        have += length
        if have >= count:
            break
    return join(*pieces, np.zeros(count - have, np.float32))


def _steps(once: list[tuple[str, float | None]], again: list[tuple[str, float | None]]) -> Iterable[tuple]:
    yield from once
    while any(ms is None or ms > 0 for _, ms in again):
        yield from again


def _step(text: str, count: int, dbm0: float) -> Floats:
    carrier, _, modulation = text.partition("*")
    frequencies = [float(hz) for hz in carrier.split("+") if float(hz)]
    return chord(frequencies, count, dbm0, float(modulation or 0))


def sit(kind: str = "IC", dbm0: float = -13.0) -> Floats:
    """Special information tones with North American segments (Telcordia SR-2275): IC, VC, RO, NC, or E.180's own."""
    low, high, short, long = (913.8, 1370.6, 1776.7), (985.2, 1428.5, 1776.7), 276.0, 380.0
    segments = {
        "IC": ((low[0], short), (high[1], long), (low[2], long)),
        "VC": ((high[0], long), (low[1], short), (low[2], long)),
        "RO": ((low[0], short), (low[1], short), (low[2], long)),
        "NC": ((high[0], long), (high[1], long), (low[2], long)),
        "E.180": ((950.0, 330.0), (1400.0, 330.0), (1800.0, 330.0)),
    }[kind]
    return join(*(sine(hz, ms, dbm0) for hz, ms in segments))


def call_waiting(seconds: float = 12.0, dbm0: float = -13.0) -> Floats:
    """North America: 440 Hz for 0.3 s every 10 s."""
    return progress("440/300,0/9700", seconds, dbm0)


def cng(seconds: float = 8.0, dbm0: float = -13.0, error_hz: float = 0.0) -> Floats:
    """A fax that calls: 1100 ± 38 Hz, 0.5 s of 3.5 s (ITU-T T.30)."""
    return cadence((1100.0 + error_hz,), (500.0, 3000.0), seconds, dbm0)


def ced(ms: float = 3300.0, dbm0: float = -13.0, error_hz: float = 0.0) -> Floats:
    """A fax or modem that answers, CED and ANS: 2100 ± 15 Hz for 2.6 to 4 s (T.30, V.25)."""
    return sine(2100.0 + error_hz, ms, dbm0)


def ans_reversed(ms: float = 3300.0, dbm0: float = -13.0, reversal_ms: float = 450.0) -> Floats:
    """ANS whose phase is reversed every 450 ± 25 ms, to disable echo cancellers (ITU-T V.25, G.168)."""
    turns = np.arange(samples(ms)) // samples(reversal_ms)
    return ced(ms, dbm0) * np.where(turns % 2, np.float32(-1), np.float32(1))


def ansam(ms: float = 4000.0, dbm0: float = -13.0, reversed_phase: bool = True) -> Floats:
    """ANSam of V.8: 2100 Hz, its amplitude moved by 20 % at 15 Hz, with or without the reversals."""
    tone = ans_reversed(ms, dbm0) if reversed_phase else ced(ms, dbm0)
    swing = 1 + 0.2 * np.sin(2 * np.pi * 15 * np.arange(len(tone)) / RATE_HZ)
    return (tone * swing).astype(np.float32)


def answer_2225(ms: float = 3000.0, dbm0: float = -13.0) -> Floats:
    """The answer of Bell 103 and Bell 212A modems: 2225 Hz."""
    return sine(2225.0, ms, dbm0)


def v22_ones(ms: float = 3000.0, dbm0: float = -13.0, guard: bool = False) -> Floats:
    """Unscrambled binary 1 of an answering V.22 modem: 600 Bd, 270° a symbol, on 2400 Hz.

    A constant turn a symbol makes lines 600 Hz apart; the shaping (root raised cosine, 75 %) leaves 2250 and 2850 Hz.
    guard: with the tone of 1800 Hz, 6 dB below.
    """
    lines = {2250.0: np.sqrt(0.5 * (1 + np.cos(np.pi / 6))), 2850.0: np.sqrt(0.5 * (1 + np.cos(np.pi * 5 / 6)))}
    tone = np.sum([share * sine(hz, ms, dbm0) for hz, share in lines.items()], axis=0)
    return (tone + sine(1800.0, ms, dbm0 - 6) if guard else tone).astype(np.float32)


def fsk(bits: Sequence[int], baud: float, one_hz: float, zero_hz: float, dbm0: float = -13.0) -> Floats:
    """Binary frequency shift keying with continuous phase; the bits' edges fall between samples as they must."""
    values = np.asarray(bits, np.int64)
    at = np.minimum(np.arange(int(len(values) * RATE_HZ / baud)) * baud / RATE_HZ, len(values) - 1)
    hz = np.where(values[at.astype(np.int64)] == 1, one_hz, zero_hz)
    return (amplitude(dbm0) * np.sin(2 * np.pi * np.cumsum(hz) / RATE_HZ)).astype(np.float32)


def v21_preamble(ms: float = 1000.0, dbm0: float = -13.0, channel: int = 2) -> Floats:
    """HDLC flags at 300 bit/s (T.30): V.21 channel 2 (1650/1850 Hz), or 1 (980/1180 Hz)."""
    one_hz, zero_hz = (980.0, 1180.0) if channel == 1 else (1650.0, 1850.0)
    flags = [0, 1, 1, 1, 1, 1, 1, 0] * (round(ms * 0.3) // 8)
    return fsk(flags, 300.0, one_hz, zero_hz, dbm0)


def serial(values: Iterable[int], data_bits: int = 8, stop_bits: int = 1) -> list[int]:
    """Asynchronous characters: a start bit 0, the data with the lowest bit first, stop bits 1."""
    return [
        bit for value in values for bit in (0, *(value >> n & 1 for n in range(data_bits)), *[1] * stop_bits)
    ]  # fmt: skip


def v8_ci(seconds: float = 6.0, dbm0: float = -13.0, function: int = 0x81) -> Floats:
    """Call indicator of V.8, on V.21's low channel: four sequences, then a pause of 0.6 s, and again.

    function: the call function octet; 0x81 sends a fax, 0xC1 is a modem of the V series.
    """
    sequence = [*[1] * 10, *[0] * 9, 1, *serial([function])]
    burst = join(fsk(sequence * 4, 300.0, 980.0, 1180.0, dbm0), silence(600))
    return np.resize(burst, samples(seconds * 1000))


def bell_103(text: str, dbm0: float = -13.0, answering: bool = False, mark_ms: float = 500.0) -> Floats:
    """Text at 300 Bd, 8N1, between marks: 1270/1070 Hz of the caller, 2225/2025 Hz of the answerer."""
    one_hz, zero_hz = (2225.0, 2025.0) if answering else (1270.0, 1070.0)
    mark = [1] * round(mark_ms * 0.3)
    return fsk([*mark, *serial(text.encode("ascii")), *mark], 300.0, one_hz, zero_hz, dbm0)


def tty(text: str, dbm0: float = -13.0, baud: float = 45.45) -> Floats:
    """A text telephone (ITU-T V.18 annex A): Baudot at 45.45 Bd, 1400 Hz for 1, 1800 Hz for 0, two stop bits.

    The carrier stands 150 ms before and 300 ms behind the characters. Raises ValueError for what Baudot cannot say.
    """
    mark = baud / 1000
    bits = [*[1] * round(150 * mark), *serial(_baudot(text), data_bits=5, stop_bits=2), *[1] * round(300 * mark)]
    return fsk(bits, baud, 1400.0, 1800.0, dbm0)


def _baudot(text: str) -> list[int]:
    """Codes of a text with the shifts it needs, letters first."""
    codes, shift = [_TO_LETTERS], _LETTERS
    for character in text.upper():
        if character not in shift or character == "\0":
            shift = _FIGURES if shift is _LETTERS else _LETTERS
            codes.append(_TO_FIGURES if shift is _FIGURES else _TO_LETTERS)
        codes.append(shift.index(character))
    return codes
