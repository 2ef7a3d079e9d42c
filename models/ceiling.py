"""What gains leave room for: `python -m models.ceiling`, the best that one gain a bin could do on the noisy test clips.

The gains know the clean speech. What they still lack is what windows, release and the limit of attenuation take away,
so that no network of this design comes above it, however long it is trained.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from models import heldout, validate
from models.evaluate import tests_path
from models.evaluation import measure, metrics, testset
from models.networks.geometry import RELEASE, Geometry
from models.networks.network import Denoiser, Release

COLUMNS = ("pesq", "ovrl", "sig", "bak", "stoi")


def perfect(rate: int, noisy: np.ndarray, clean: np.ndarray, release: float) -> np.ndarray:
    """Noisy audio under gains that know the clean speech: its part of each bin, in phase (Erdogan et al., 2015), 0 to
    1. noisy, clean: float32 [clips, samples]; returns the same, its delay taken out."""
    net = Denoiser(Geometry.of("light", rate))
    heard, wanted = (net.spectrum(torch.from_numpy(validate.padded(x, net))) for x in (noisy, clean))
    (real, imaginary), (own_real, own_imaginary) = (x.chunk(2, dim=-1) for x in (heard, wanted))
    part = (real * own_real + imaginary * own_imaginary) / (real.square() + imaginary.square() + 1e-12)
    gains = Release.apply(part.clamp(0, 1), release)
    return validate.aligned(net.resynthesise(heard * torch.cat([gains, gains], dim=-1)).numpy(), noisy, net)


def judged(job: tuple[np.ndarray, np.ndarray, int]) -> list[float]:
    """Figures of a clip: output, clean, rate -> a number for each of `COLUMNS`."""
    output, clean, rate = job
    opinion = metrics.dnsmos(output, rate)
    pesq, stoi = metrics.pesq_score(output, clean, rate), metrics.stoi_score(output, clean, rate)
    return [pesq, opinion["ovrl"], opinion["sig"], opinion["bak"], stoi]


def clips(recordings: Path, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """(noisy, clean) of the test set's noisy clips, float32 [clips, samples]."""
    tests = testset.build(recordings, rate, tests_path(rate, quick=False))
    chosen = tests.part("noisy")
    size = min(len(tests.noisy[i]) for i in chosen)
    noisy, clean = (np.stack([testset.to_float(side[i][:size]) for i in chosen]) for side in (tests.noisy, tests.clean))
    return noisy, clean


def outputs(rate: int, noisy: np.ndarray, clean: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Whatever is judged, by name."""
    yield "clean speech", clean
    for release in (RELEASE, 1.0):
        output = perfect(rate, noisy, clean, release)
        for level in validate.LEVELS:
            yield f"perfect gains, release {release:g}, level {level}", validate.at_level(output, noisy, level)


def table(rate: int, recordings: Path, workers: int) -> None:
    """Prints a row as soon as it is judged."""
    noisy, clean = clips(recordings, rate)
    print(f"| {rate // 1000} kHz | PESQ | DNSMOS OVRL | SIG | BAK | STOI |\n" + "|---" * (1 + len(COLUMNS)) + "|")
    for name, output in outputs(rate, noisy, clean):
        jobs = [(x, y, rate) for x, y in zip(output, clean, strict=True)]
        with ProcessPoolExecutor(workers, initializer=measure.one_thread) as pool:
            found = np.mean(list(tqdm(pool.map(judged, jobs), name, len(jobs), leave=False)), axis=0)
        *opinions, stoi = found
        print(f"| {name} | " + " | ".join(f"{x:.2f}" for x in opinions) + f" | {stoi:.3f} |", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rate", type=int, choices=(8000, 16000), action="append", help="only this; may be given twice"
    )
    parser.add_argument("--data", type=Path, default=heldout.default_data(), help="recordings (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes side by side (default: %(default)s)")
    args = parser.parse_args()
    try:
        for rate in args.rate or (8000, 16000):
            table(rate, args.data, args.workers)
    except heldout.HeldOutError as error:
        print(f"ceiling: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
