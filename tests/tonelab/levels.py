"""Levels, noise, coding and loss: what a line does to a signal. Plain arrays, seeded, nothing of the gateway's.

Audio is float32 at 8 kHz, -1..1. A sine of full scale is +3.17 dBm0, as in PCMU (ITU-T G.711).
G.711 goes through libsndfile, so that the gateway's own tables meet another implementation.
"""

import io
from typing import Literal

import numpy as np
import numpy.typing as npt
import soundfile

Floats = npt.NDArray[np.float32]
Law = Literal["PCMU", "PCMA"]

RATE_HZ, FRAME, PACKET = 8000, 80, 160
"""Samples a second, in 10 ms, in a packet of 20 ms."""
FULL_SCALE_DBM0 = 3.17
SOUND_DB = -80.0
"""Frames above this, dB full scale, are sound and not silence."""
_SUBTYPE = {"PCMU": "ULAW", "PCMA": "ALAW"}


def samples(ms: float) -> int:
    """The sample at which so many milliseconds end."""
    return round(ms * RATE_HZ / 1000)


def amplitude(dbm0: float) -> float:
    """Peak of a sine of this level."""
    return float(10 ** ((dbm0 - FULL_SCALE_DBM0) / 20))


def level_dbm0(pcm: Floats) -> float:
    """Level of all of a signal, silence included; -inf for digital silence."""
    power = float(np.mean(np.square(pcm, dtype=np.float64))) if len(pcm) else 0.0
    return 10 * np.log10(power) + 10 * np.log10(2) + FULL_SCALE_DBM0 if power > 0 else -np.inf


def sounding(pcm: Floats) -> npt.NDArray[np.bool_]:
    """bool [frames of 10 ms]: which are no silence."""
    frames = pcm[: len(pcm) // FRAME * FRAME].reshape(-1, FRAME)
    return np.mean(np.square(frames, dtype=np.float64), axis=1) > 10 ** (SOUND_DB / 10)


def active_dbm0(pcm: Floats) -> float:
    """Level of the frames that are no silence."""
    return level_dbm0(pcm[: len(pcm) // FRAME * FRAME].reshape(-1, FRAME)[sounding(pcm)].ravel())


def at_level(pcm: Floats, dbm0: float) -> Floats:
    """The signal with its sounding frames at this level, clipped to full scale as a coder does."""
    return np.clip(pcm * 10 ** ((dbm0 - active_dbm0(pcm)) / 20), -1, 1).astype(np.float32)


def with_noise(pcm: Floats, snr_db: float, seed: int = 0, noise: Floats | None = None) -> Floats:
    """Noise over all of the signal, `snr_db` below its sounding frames: white unless given (repeated to the length)."""
    noise = np.random.default_rng(seed).standard_normal(len(pcm)) if noise is None else np.resize(noise, len(pcm))
    gain = 10 ** ((active_dbm0(pcm) - snr_db - level_dbm0(noise.astype(np.float32))) / 20)
    return np.clip(pcm + gain * noise, -1, 1).astype(np.float32)


def encode(pcm: Floats, law: Law = "PCMU") -> bytes:
    """G.711 payload."""
    out = io.BytesIO()
    linear = np.clip(np.rint(pcm.astype(np.float64) * 32768), -32768, 32767).astype(np.int16)
    soundfile.write(out, linear, RATE_HZ, format="RAW", subtype=_SUBTYPE[law])
    return out.getvalue()


def decode(payload: bytes, law: Law = "PCMU") -> Floats:
    """float32 samples of a G.711 payload."""
    linear, _ = soundfile.read(
        io.BytesIO(payload), channels=1, samplerate=RATE_HZ, format="RAW", subtype=_SUBTYPE[law], dtype="int16"
    )
    return np.asarray(linear, np.float32) / np.float32(32768)


def through_g711(pcm: Floats, law: Law = "PCMU") -> Floats:
    """As the far side of a G.711 line hears it."""
    return decode(encode(pcm, law), law)


def lost(packets: int, share: float, seed: int = 0, burst: int = 1) -> npt.NDArray[np.bool_]:
    """bool [packets]: which are lost, in bursts of this length, never the first."""
    starts = np.random.default_rng(seed).random(packets) < share / burst
    gone = np.convolve(starts, np.ones(burst), "full")[:packets] > 0
    gone[:1] = False
    return np.asarray(gone)


def with_loss(pcm: Floats, share: float, seed: int = 0, burst: int = 1) -> Floats:
    """Silence in the place of lost packets of 20 ms."""
    gone = np.repeat(lost(-(-len(pcm) // PACKET), share, seed, burst), PACKET)[: len(pcm)]
    return np.where(gone, np.float32(0), pcm)
