"""The last 60 ms that every slot has heard, kept once for all detectors.

A ring of three chunks a slot: what comes in is written once, and who needs more than the newest chunk reads just the
rows and as much of them as it wants.
"""

import numpy as np

from gateway.detect.sines import CHUNK, HOP, Bools, Floats, Ints

CHUNKS = 3
"""Kept of each slot."""
BLOCK_FRAMES = 32
"""Frames of 10 ms whose energies are kept."""
FRAMES = CHUNK // HOP


class Sound:
    """Rings of all slots, at 8 kHz."""

    def __init__(self, slots: int) -> None:
        self.frames: Ints = np.zeros(slots, np.int64)
        """Frames of 10 ms since the slot was reset, lost ones left out; two make a chunk."""
        self._ring = np.zeros((slots * CHUNKS, CHUNK), np.float32)
        self._energies = np.zeros((slots, BLOCK_FRAMES), np.float32)
        self._since = np.zeros(slots, np.int64)
        """Chunks before the last gap."""

    def reset(self, slots: Ints) -> None:
        """Another source: silence was before."""
        self._ring.reshape(-1, CHUNKS, CHUNK)[slots] = 0.0
        self._energies[slots] = 0.0
        self.frames[slots] = self._since[slots] = 0

    def interrupt(self, slots: Ints) -> None:
        """Something was lost: a chunk that was begun is dropped, and `stream` does not reach behind this."""
        self._since[slots] = whole = self.frames[slots] // FRAMES
        self.frames[slots] = whole * FRAMES

    def add(self, slots: Ints, pcm: Floats) -> Bools:
        """Append a frame of each slot, or a chunk to those that wait for a whole one; says whose chunk is full now.

        slots: int64 [n], unique; pcm: float32 [n, 80 or 160], -1..1. Returns bool [n].
        """
        frames, count = self.frames[slots], pcm.shape[1] // HOP
        parts = pcm.reshape(len(slots), count, HOP)
        power = np.vecdot(parts, parts)
        at, of_block = slots * CHUNKS + frames // FRAMES % CHUNKS, frames % BLOCK_FRAMES
        if count == FRAMES:
            self._ring[at] = pcm
            self._energies.reshape(-1, BLOCK_FRAMES // FRAMES, FRAMES)[slots, of_block // FRAMES] = power
        else:
            self._ring.reshape(-1, HOP)[at * FRAMES + frames % FRAMES] = pcm
            self._energies[slots, of_block] = power[:, 0]
        self.frames[slots] = frames = frames + count
        full: Bools = frames % FRAMES == 0
        return full

    def last(self, slots: Ints, samples: int) -> Floats:
        """The newest samples of each slot, whose chunks are whole; float32 [n, samples], whatever was lost between."""
        return self._chunks(slots, samples).reshape(len(slots), -1)[:, -samples:]

    def stream(self, slots: Ints, samples: int) -> Floats:
        """The same with silence before the last gap."""
        chunks = self._chunks(slots, samples)
        missing = chunks.shape[1] - (self.frames[slots] // FRAMES - self._since[slots])
        if len(missing) and missing.max() > 0:
            chunks[np.arange(chunks.shape[1]) < missing[:, None]] = 0.0
        return chunks.reshape(len(slots), -1)[:, -samples:]

    def _chunks(self, slots: Ints, samples: int) -> Floats:
        """float32 [n, chunks, 160]"""
        steps = np.arange(-(-samples // CHUNK), 0, -1)
        whole = self.frames[slots] // FRAMES
        return self._ring.take(slots[:, None] * CHUNKS + (whole[:, None] - steps) % CHUNKS, axis=0)

    def energy(self, slots: Ints) -> Floats:
        """Sum of squares of the newest chunk of each slot, float32 [n]."""
        chunk = (self.frames[slots] // FRAMES - 1) % (BLOCK_FRAMES // FRAMES)
        pairs = self._energies.reshape(-1, BLOCK_FRAMES // FRAMES, FRAMES)[slots, chunk]
        energy: Floats = pairs[:, 0] + pairs[:, 1]
        return energy

    def energies(self, slots: Ints) -> Floats:
        """Sums of squares of the 32 frames of a block that is full, float32 [n, 32]."""
        return self._energies[slots]
