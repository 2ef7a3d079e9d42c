"""How good cleaned speech is. Audio is float32 -1..1; `clean` is the speech alone, aligned with what is judged.

Noise reduction is told by three figures after Paajanen and Mattila (2002), as in ITU-T G.160 Appendix II and 3GPP
TS 26.077: SNRI, by how much the ratio of speech to noise grows; TNLR (NPLR there), by how much noise falls where nobody
speaks; and DSN, their difference, which shows whether speech itself got softer. Here `pause_reduction` is TNLR's idea,
`speech_gain` is DSN's, and their sum is SNRI's. Those documents class frames by their level; here the clean speech is
known, so its pauses and its share of the output are taken directly, and figures do not compare with published ones.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnxruntime

VERSION = 1
"""Raised when a figure's meaning changes: results measured before count no more."""
DNSMOS_SAMPLES = 144160
"""9.01 s at 16 kHz, what the DNSMOS networks take."""
WORST_PESQ = {8000: 1.02, 16000: 1.04}
"""The floor of the mapped scale, given to an output without any speech in it."""


def align(output: np.ndarray, clean: np.ndarray, rate: int) -> np.ndarray:
    """Moves the output so that it fits the clean speech best, by at most 60 ms."""
    from scipy.signal import correlate

    reach = rate * 60 // 1000
    match = correlate(output, clean, mode="full", method="fft")
    middle = len(clean) - 1
    shift = int(np.argmax(match[middle - reach : middle + reach + 1])) - reach
    moved = np.roll(output, -shift)
    if shift > 0:
        moved[-shift:] = 0
    elif shift < 0:
        moved[:-shift] = 0
    return moved


def pesq_score(output: np.ndarray, clean: np.ndarray, rate: int) -> float:
    """ITU-T P.862.1 at 8 kHz, P.862.2 at 16 kHz."""
    from pesq import NoUtterancesError, pesq

    try:
        return float(pesq(rate, clean, output, "nb" if rate == 8000 else "wb"))
    except NoUtterancesError:
        return WORST_PESQ[rate]


def stoi_score(output: np.ndarray, clean: np.ndarray, rate: int) -> float:
    """Short-time objective intelligibility, 0..1 (Taal et al., 2011)."""
    from pystoi import stoi

    return float(stoi(clean, output, rate))


def mel_filters(size: int, bands: int, rate: int = 16000) -> np.ndarray:
    """Triangles of equal area on Slaney's mel scale for a transform of `size`, float32 [bands, size // 2 + 1]."""
    log_step = np.log(6.4) / 27
    top = 15 + np.log(rate / 2 / 1000) / log_step
    mels = np.linspace(0, top, bands + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(log_step * (mels - 15)))
    widths, distance = np.diff(edges), edges[:, None] - np.fft.rfftfreq(size, 1 / rate)
    slopes = np.minimum(-distance[:-2] / widths[:-1, None], distance[2:] / widths[1:, None])
    return (np.maximum(0, slopes) * (2 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)


@cache
def dnsmos_session(network: str) -> onnxruntime.InferenceSession:
    """A network of the `speechmos` package, opened directly: that package would import much more."""
    from models.runtime import session

    spec = find_spec("speechmos")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("speechmos is not installed: pip install -r models/requirements-evaluate.txt")
    return session(str(Path(spec.submodule_search_locations[0]) / "dnsmos_models" / network))


def dnsmos(output: np.ndarray, rate: int) -> dict[str, float]:
    """DNSMOS P.835 (signal, background, overall) and P.808 of the first nine seconds (Reddy et al., 2021 and 2022).

    The networks learnt from 16 kHz speech: their figures at 8 kHz rank systems, and are no opinion scores.
    """
    from scipy.signal import resample_poly

    audio = resample_poly(output, 16000 // rate, 1) if rate != 16000 else output
    audio = np.clip(np.resize(audio, DNSMOS_SAMPLES), -1, 1).astype(np.float32)
    raw = dnsmos_session("sig_bak_ovr.onnx").run(None, {"input_1": audio[None]})[0][0]
    p808 = dnsmos_session("model_v8.onnx").run(None, {"input_1": p808_features(audio[:-160])[None]})[0][0][0]
    return {
        "sig": float(np.polyval([-0.08397278, 1.22083953, 0.0052439], raw[0])),
        "bak": float(np.polyval([-0.13166888, 1.60915514, -0.39604546], raw[1])),
        "ovrl": float(np.polyval([-0.06766283, 1.11546468, 0.04602535], raw[2])),
        "p808": float(p808),
    }


@cache
def p808_filters() -> np.ndarray:
    return mel_filters(321, 120)


def p808_features(audio: np.ndarray) -> np.ndarray:
    """What the P.808 network takes of 16 kHz audio: float32 [frames, 120], mel power in dB, shifted and scaled."""
    padded, window = np.pad(audio, 160), np.hanning(322)[:-1]
    frames = np.lib.stride_tricks.sliding_window_view(padded, 321)[::160]
    power = np.square(np.abs(np.fft.rfft(frames * window, axis=1)))
    mel = np.maximum(power @ p808_filters().T, 1e-10)
    db = 10 * np.log10(mel / mel.max())
    return ((np.maximum(db, -80) + 40) / 40).astype(np.float32)


def si_sdr(output: np.ndarray, clean: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al., 2019)."""
    part = (output @ clean) / (clean @ clean) * clean
    return float(10 * np.log10((part @ part + 1e-12) / (np.square(output - part).sum() + 1e-12)))


def speech_gain(output: np.ndarray, clean: np.ndarray) -> float:
    """By how much the speech itself got louder or softer, in dB: the output's projection on the clean speech."""
    return float(20 * np.log10(max((output @ clean) / (clean @ clean), 1e-3)))


def pause_reduction(output: np.ndarray, noisy: np.ndarray, pauses: np.ndarray) -> float:
    """By how much noise fell where nobody speaks, in dB. pauses: bool [samples]."""
    if not pauses.any():
        return 0.0
    before, after = np.square(noisy[pauses]).mean(), np.square(output[pauses]).mean()
    return float(10 * np.log10((before + 1e-10) / (after + 1e-10)))


def level_change(output: np.ndarray, before: np.ndarray) -> float:
    """Change of level in dB."""
    return float(10 * np.log10((np.square(output).mean() + 1e-12) / (np.square(before).mean() + 1e-12)))


def judge(output: np.ndarray, noisy: np.ndarray, clean: np.ndarray, pauses: np.ndarray, rate: int) -> dict[str, float]:
    """All figures of one clip of speech."""
    output = align(output, clean, rate)
    return {
        "pesq": pesq_score(output, clean, rate),
        "stoi": stoi_score(output, clean, rate),
        "si_sdr_db": si_sdr(output, clean),
        **dnsmos(output, rate),
        "pause_reduction_db": pause_reduction(output, noisy, pauses),
        "speech_gain_db": speech_gain(output, clean),
    }
