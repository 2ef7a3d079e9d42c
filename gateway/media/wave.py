"""Packets of one codec and one size, at most one a slot, on their way through the engine."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gateway.denoise.engine import Floats, Ints, Result, Ticket
from gateway.media.codecs import Codec

Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Heard:
    """Rows of a wave that an engine works on."""

    codec: Codec
    slots: Ints
    generations: Ints
    """Of the slots' leases: who is gone when the engine has answered gets nothing."""
    pcm: Floats
    """What came in, float32 [n, samples]."""
    ticket: Ticket | None
    """None when the engine could not take the batch."""


@dataclass(frozen=True, slots=True)
class Wave:
    """Packets between `begin` and `finish`."""

    dry: Bytes
    """What leaves if nothing is denoised, uint8 [n, bytes]."""
    hear: Bools
    """Rows that an engine works on, bool [n]."""
    heard: Heard | None = None


def survivors(heard: Heard, result: Result | None, alive: Bools) -> tuple[Heard, Result | None]:
    """Rows of a wave whose legs are still there."""
    if result is not None:
        result = Result(result.frames[alive], result.probabilities[alive])
    left = Heard(heard.codec, heard.slots[alive], heard.generations[alive], heard.pcm[alive], heard.ticket)
    return left, result


def mix(dry: Floats, wet: Floats, before: Floats, after: Floats) -> Floats:
    """Linear cross-fade within each frame. dry, wet: float32 [n, k, hop]; before, after: float32 [n, k]."""
    ramp = np.arange(dry.shape[2], dtype=np.float32) / dry.shape[2]
    share = before[..., None] + (after - before)[..., None] * ramp
    mixed: Floats = dry + (wet - dry) * share
    return mixed
