"""Talk-off: what detectors take for a tone in hours of speech, many streams at once, offline.

`count` is what the laboratory calls. The screen stands before the detectors as it does in the gateway.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from gateway.detect.detection import Detection
from gateway.detect.ear import CANDIDATE, KEYED, QUIET_POWER
from gateway.detect.sines import CHUNK, HOP, PAST, RATE, Bools, Floats, Ints, Screen, Sight


class Detector(Protocol):
    """What `Dtmf`, `Progress` and `Fax` have in common."""

    active: Bools
    holds: Bools

    def hear(self, slots: Ints, stream: Floats, sight: Sight, begin: Ints) -> list[Detection]:
        """Take a chunk."""


@dataclass
class Count:
    """What was heard in a number of streams."""

    frames: int = 0
    loud: int = 0
    """Frames of chunks above the quiet level."""
    held: int = 0
    """Loud frames in which a detector held the stream dry."""
    detections: list[Detection] = field(default_factory=list)

    @property
    def hours(self) -> float:
        """Of audio."""
        return self.frames * HOP / RATE / 3600

    @property
    def held_share(self) -> float:
        """Of the loud frames."""
        return self.held / max(self.loud, 1)


def count(detectors: Sequence[Detector], pcm: Floats) -> Count:
    """Run streams through detectors that have as many slots as there are streams.

    pcm: float32 [streams, samples] at 8 kHz, -1..1.
    """
    result, frames = Count(), CHUNK // HOP
    slots, screen, padded = np.arange(len(pcm)), Screen(), np.pad(pcm, ((0, 0), (PAST, 0)))
    for at in range(0, pcm.shape[1] - CHUNK + 1, CHUNK):
        stream = padded[:, at : at + PAST + CHUNK]
        sight = screen.see(stream)
        loud = sight.power > QUIET_POWER
        tonal = loud & (sight.tonal > CANDIDATE) | (loud[:, None] & (sight.keyed > KEYED)).any(axis=1)
        held = np.zeros(len(pcm), np.bool_)
        for detector in detectors:
            rows = np.flatnonzero(tonal | detector.active[slots])
            if len(rows):
                begin = np.full(len(rows), at)
                result.detections += detector.hear(slots[rows], stream[rows], sight.take(rows), begin)
            held |= detector.holds[slots]
        result.frames += frames * len(pcm)
        result.loud += frames * int(loud.sum())
        result.held += frames * int((held & loud).sum())
    return result


def hear(detector: Detector, pcm: Floats) -> list[Detection]:
    """What one stream, float32 [samples], gives in a detector's slot 0."""
    return count([detector], pcm[None]).detections
