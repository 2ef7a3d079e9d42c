"""Does the network sound the same on a device? `python -m models.device_check [--device cuda]` prints the table.

The recordings of `tests/audio` at level 80, in three streams that begin at different places, through ONNX Runtime with
a shipped graph and through `device_network` in both precisions; resampled for 16 kHz. Needs torch, soxr and pesq.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile
import soxr

from gateway.denoise.triton.device_network import DeviceNetwork, Precision
from models import weights
from models.evaluation.metrics import pesq_score
from models.runtime import session

MODELS = Path(__file__).parent
AUDIO = MODELS.parent / "tests/audio"
GRAPHS = ("light_8k", "standard_8k", "light_16k", "standard_16k", "standard_fp32_8k")
ROWS, SHIFT = 3, 5000
LEAST_GAIN = 10 ** (-24 / 20)


def recording(name: str, rate: int) -> np.ndarray:
    """int16 [samples]."""
    pcm, own = soundfile.read(AUDIO / name, dtype="int16")
    return (
        pcm
        if own == rate
        else np.clip(np.rint(soxr.resample(pcm.astype(float), own, rate)), -32768, 32767).astype("i2")
    )


def by_engine(graph: Path, pcm: np.ndarray, control: np.ndarray) -> np.ndarray:
    """int16 [rows, frames, hop] -> float32 [rows, samples]."""
    run, out = session(str(graph)), []
    state = np.zeros((len(pcm), run.get_inputs()[1].shape[1]), np.float32)
    for frame in np.moveaxis(pcm, 1, 0):
        inputs = {"pcm": frame.astype(np.float32) / 32768, "state": state, "control": control}
        clean, state = run.run(("pcm_out", "state_out"), inputs)
        out.append(clean)
    return np.concatenate(out, axis=1)


def by_device(graph: Path, pcm: np.ndarray, control: np.ndarray, device: str, precision: Precision) -> np.ndarray:
    net, slots = DeviceNetwork(weights.read(graph), len(pcm), device, precision), np.arange(len(pcm))
    frames = enumerate(np.moveaxis(pcm, 1, 0))
    out = [net.step(slots, frame, control, np.full(len(pcm), t == 0))[0].copy() for t, frame in frames]
    return np.concatenate(out, axis=1).astype(np.float32) / 32768


def row(name: str, device: str) -> str:
    """One network's line of the table."""
    rate = 16000 if name.endswith("16k") else 8000
    hop, noisy, clean = rate // 100, recording("noisy_8k.wav", rate), recording("clean_8k.wav", rate)
    samples = len(noisy) // hop * hop
    pcm = np.stack([np.roll(noisy, i * SHIFT)[:samples] for i in range(ROWS)]).reshape(ROWS, -1, hop)
    control = np.tile(np.array([[LEAST_GAIN, 1]], np.float32), (ROWS, 1))
    wanted = by_engine(MODELS / f"{name}.onnx", pcm, control)
    speech = clean[: samples - hop].astype(np.float32) / 32768
    cells, scores = [], [pesq_score(wanted[0, hop:], speech, rate)]
    for precision in ("fp32", "bf16"):
        found = by_device(MODELS / f"{name}.onnx", pcm, control, device, precision)
        snr = 10 * np.log10(np.square(wanted).sum() / np.square(found - wanted).sum())
        cells += [f"{np.abs(found - wanted).max():.1e}", f"{snr:.1f} dB"]
        scores.append(pesq_score(found[0, hop:], speech, rate))
    return f"| {name} | {' | '.join(cells)} | {' / '.join(f'{score:.4f}' for score in scores)} |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m models.device_check", description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cpu", help="of the network in torch (cpu)")
    options = parser.parse_args()
    print(
        "| network | fp32: difference at most | fp32: SNR | bf16: difference at most | bf16: SNR "
        "| PESQ: engine / fp32 / bf16 |"
    )
    print("|---|---|---|---|---|---|")
    for name in GRAPHS:
        print(row(name, options.device), flush=True)


if __name__ == "__main__":
    main()
