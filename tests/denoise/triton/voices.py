"""Voices of which every 10 ms can be told apart, also after the network: who is heard in each frame of a call.

A voice is speech over a hiss of its own, so that no frame is empty. Legs ask for level 20, with which the network takes
away at most half of anything: a frame that leaves, dry, wet or between, is at least 0.9 like what was said, and those
of others are at most 0.65 like it (20 voices of 6 s). That is of differences of samples, which flatten the spectrum:
the low tones of speech alone would make strangers alike.
"""

from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from gateway.media.codecs import build
from tests.denoise.tools import AUDIO

LEVEL = 20
"""6 dB."""
PACKET, HOP = 160, 80
DELAY = 80
"""Samples by which all that leaves is late, wet or dry."""
HISS = 0.02
ALIKE = 0.8
QUIETEST, LOUDEST = 0.4, 1.25
"""Level of a frame beside that of what was said."""


class Foreign(NamedTuple):
    """10 ms that are not the speaker's own."""

    leg: int
    frame: int
    likest: int
    """Whose it may be; the leg itself when it is nobody's."""


def voices(count: int, packets: int) -> np.ndarray:
    """One speaker at `count` speeds and places of the recording: PCMU, uint8 [count, packets, 160]."""
    pcm, _ = soundfile.read(AUDIO / "clean_8k.wav", dtype="float32")
    rows = []
    for leg in range(count):
        speed = 0.8 + 0.4 * leg / count
        turned = soxr.resample(np.roll(pcm, -leg * len(pcm) // count), 8000 * speed, 8000)
        hiss = np.random.default_rng(leg).normal(0, HISS, packets * PACKET)
        rows.append(encoded(np.resize(turned, packets * PACKET)[None] * 1.5 + hiss)[0])
    return np.stack(rows).reshape(count, packets, PACKET)


def foreign(spoken: np.ndarray, heard: np.ndarray) -> list[Foreign]:
    """Every frame that is not the leg's own speech at its own time: another's, an older one, or nothing at all.

    spoken, heard: PCMU, uint8 [count, packets, 160].
    """
    said, got = frames(np.pad(decoded(spoken), ((0, 0), (DELAY, 0)))), frames(decoded(heard))
    said = said[:, : got.shape[1]]
    loud = np.linalg.norm(said, axis=2)
    level = np.linalg.norm(got, axis=2) / np.maximum(loud, 1e-6)
    own = np.einsum("lfs,lfs->lf", said, got) / np.maximum(loud * np.linalg.norm(got, axis=2), 1e-6)
    wrong = (own < ALIKE) | (level < QUIETEST) | (level > LOUDEST)
    wrong[:, 0] = False  # the delay
    found = []
    for leg, frame in np.argwhere(wrong):
        like = np.abs(said[:, frame] @ got[leg, frame]) / np.maximum(loud[:, frame], 1e-6)
        likest = int(like.argmax()) if like.any() else int(leg)
        found.append(Foreign(int(leg), int(frame), likest))
    return found


def frames(pcm: np.ndarray) -> np.ndarray:
    """Samples [count, samples] as differences within each 10 ms, float32 [count, frames, 79]."""
    whole = pcm[:, : pcm.shape[1] // HOP * HOP].reshape(len(pcm), -1, HOP)
    return np.diff(whole, axis=2)


def decoded(payloads: np.ndarray) -> np.ndarray:
    """float32 [count, samples]"""
    return codec().decode(np.zeros(1, np.int64), payloads.reshape(len(payloads), -1))


def encoded(pcm: np.ndarray) -> np.ndarray:
    """PCMU, uint8 [count, samples]"""
    return codec().encode(np.zeros(1, np.int64), np.clip(pcm, -1, 1).astype(np.float32))


def codec():
    return build(2)[("PCMU", 8000)]
