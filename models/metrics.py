"""How good cleaned speech is. Audio is float32 -1..1; `clean` is the speech alone, aligned with what is judged."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
from pesq import pesq
from pystoi import stoi
from scipy.signal import correlate, resample_poly

DNSMOS_SAMPLES = 144160
"""9.01 s at 16 kHz, what the DNSMOS network takes."""


def align(output: np.ndarray, clean: np.ndarray, rate: int) -> np.ndarray:
    """Moves the output so that it fits the clean speech best, by at most 60 ms."""
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
    return float(pesq(rate, clean, output, "nb" if rate == 8000 else "wb"))


def stoi_score(output: np.ndarray, clean: np.ndarray, rate: int) -> float:
    return float(stoi(clean, output, rate))


@cache
def dnsmos_session() -> onnxruntime.InferenceSession:
    """The network of the `speechmos` package, opened directly: that package would import much more."""
    spec = find_spec("speechmos")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("speechmos is not installed; see models/requirements-train.txt")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = next(Path(spec.submodule_search_locations[0]).glob("dnsmos_models/sig_bak_ovr.onnx"))
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def dnsmos_overall(output: np.ndarray, rate: int) -> float:
    """Overall score of DNSMOS P.835 (Reddy et al., 2022) for the first nine seconds; made for 16 kHz speech."""
    audio = resample_poly(output, 16000 // rate, 1) if rate != 16000 else output
    audio = np.resize(audio, DNSMOS_SAMPLES).astype(np.float32)
    session = dnsmos_session()
    raw = session.run(None, {session.get_inputs()[0].name: audio[None]})[0][0][2]
    return float(np.polyval([-0.06766283, 1.11546468, 0.04602535], raw))


def si_sdr(output: np.ndarray, clean: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al., 2019)."""
    part = (output @ clean) / (clean @ clean) * clean
    return float(10 * np.log10((part @ part) / (np.square(output - part).sum() + 1e-12)))


def speech_gain(output: np.ndarray, clean: np.ndarray) -> float:
    """By how much the speech itself got louder or softer, in dB: the output's projection on the clean speech."""
    return float(20 * np.log10(max((output @ clean) / (clean @ clean), 1e-3)))


def pause_reduction(output: np.ndarray, noisy: np.ndarray, pauses: np.ndarray) -> float:
    """By how much noise fell where nobody speaks, in dB. pauses: bool [samples]."""
    before, after = np.square(noisy[pauses]).mean(), np.square(output[pauses]).mean()
    return float(10 * np.log10((before + 1e-10) / (after + 1e-10)))


def judge(output: np.ndarray, noisy: np.ndarray, clean: np.ndarray, pauses: np.ndarray, rate: int) -> dict[str, float]:
    """All figures of one clip."""
    output = align(output, clean, rate)
    return {
        "pesq": pesq_score(output, clean, rate),
        "dnsmos": dnsmos_overall(output, rate),
        "stoi": stoi_score(output, clean, rate),
        "si_sdr_db": si_sdr(output, clean),
        "pause_reduction_db": pause_reduction(output, noisy, pauses),
        "speech_gain_db": speech_gain(output, clean),
    }
