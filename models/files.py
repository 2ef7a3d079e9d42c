"""Files that training and evaluation share: recordings decoded, and results written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np

RATE = 16000
"""Hertz at which recordings are kept and mixed."""


def decode(path: Path, rate: int = RATE) -> np.ndarray:
    """Any audio file as int16 mono samples at `rate`."""
    options = {"format": "g722"} if path.suffix == ".g722" else {}
    resampler = av.AudioResampler(format="s16", layout="mono", rate=rate)
    with av.open(str(path), metadata_errors="ignore", **options) as container:
        frames = [f for frame in container.decode(audio=0) for f in resampler.resample(frame)]
        frames += resampler.resample(None)
    return np.concatenate([f.to_ndarray().reshape(-1) for f in frames]) if frames else np.zeros(0, np.int16)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; it takes the place of `path` when the block ends without an error."""
    part = path.with_name(f"{path.name}.part")
    yield part
    part.rename(path)
