"""How often speech, music and beeps are taken for a fax: every detector of `Fax` over hours of them.

`listen` runs detectors as `ear` does; `count` cuts one long recording into as many streams as fit a batch.
"""

import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from gateway.detect.detection import Detection
from gateway.detect.fax import Fax
from gateway.detect.sines import HOP, PAST, RATE, Screen

STREAMS = 200
CANDIDATE = KEYED = 0.9
QUIET_POWER = 10 ** ((-48.0 - 6.18) / 10)
"""What `ear` passes on."""


class Heard(NamedTuple):
    """What `Fax` made of a number of streams."""

    detections: list[Detection]
    held: float
    """Share of the frames in which it held the audio to be a signal."""
    us_per_frame: float
    """CPU time of `hear` over all frames of 10 ms, heard or not."""
    holds: np.ndarray
    """bool [streams, chunks]"""


def listen(fax, pcm, chunk=2 * HOP, slots=None, begin=0, lost=None) -> Heard:
    """Streams as one batch after another, of each those chunks that `ear` would pass on.

    pcm: float32 [n, samples] at 8 kHz; slots: of the rows; begin: sample at which all begin; lost: bool [n, chunks]
    that never arrived.
    """
    pcm = np.atleast_2d(pcm)
    slots = np.arange(len(pcm)) if slots is None else np.asarray(slots)
    screen, padded = Screen(), np.pad(pcm, ((0, 0), (PAST, 0)))
    chunks = pcm.shape[1] // chunk
    found, spent, holds = [], 0.0, np.zeros((len(pcm), chunks), bool)
    for index in range(chunks):
        here = np.ones(len(slots), bool) if lost is None else ~lost[:, index]
        stream = padded[here, index * chunk : (index + 1) * chunk + PAST]
        if lost is not None:
            padded[~here, (index + 1) * chunk : (index + 1) * chunk + PAST] = 0.0
        with np.errstate(all="ignore"):
            sight = screen.see(stream)
        started = time.thread_time()
        busy = (sight.tonal > CANDIDATE) | (sight.keyed.max(axis=1) > KEYED)
        rows = np.flatnonzero((sight.power > QUIET_POWER) & busy | fax.active[slots[here]])
        if len(rows):
            at = np.full(len(rows), begin + index * chunk)
            found += fax.hear(slots[here][rows], stream[rows], sight.take(rows), at)
        spent += time.thread_time() - started
        holds[:, index] = fax.holds[slots]
    return Heard(found, float(holds.mean()), 1e6 * spent / max(len(pcm) * chunks * (chunk // HOP), 1), holds)


def count(fax, pcm, streams: int = STREAMS) -> Heard:
    """One recording, float32 at 8 kHz, as so many streams at once; `fax` must have as many slots, and is reset."""
    fax.reset(np.arange(streams))
    length = len(pcm) // streams // HOP * HOP
    return listen(fax, pcm[: streams * length].reshape(streams, length))


def hours(pcm) -> float:
    """Length of a recording at 8 kHz."""
    return len(pcm) / RATE / 3600


def load(path: Path) -> np.ndarray:
    """A sound file as float32 at 8 kHz, one channel."""
    pcm, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return np.asarray(soxr.resample(pcm.mean(axis=1), rate, RATE), np.float32)


def main() -> None:
    """Count over sound files and folders: `python -m tests.detect.false_latch /usr/share/asterisk/moh ...`."""
    fax, total, held, latches = Fax(STREAMS), 0.0, 0.0, 0
    places = [Path(name) for name in sys.argv[1:]]
    files = [file for place in places for file in ([place] if place.is_file() else sorted(place.rglob("*.*")))]
    sounds = [load(file) for file in files if file.suffix in (".wav", ".ogg", ".flac", ".opus", ".mp3")]
    for part in np.array_split(np.concatenate(sounds), max(1, round(sum(map(len, sounds)) / RATE / 1800))):
        heard = count(fax, part)
        total, held = total + hours(part), held + heard.held * hours(part)
        latches += len({detection.slot for detection in heard.detections})
        for detection in heard.detections:
            print(detection)
    print(f"{total:.2f} h, {latches} latches, held to be a signal {100 * held / total:.4f} % of the time")


if __name__ == "__main__":
    main()
