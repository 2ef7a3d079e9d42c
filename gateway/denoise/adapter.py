"""Brings a suppressor of another rate, another hop or one stream at a time behind the engine contract.

Frames of 10 ms go up to the suppressor's rate, gather until it has a hop, and what it gives gathers until a frame is
whole. What is late then is constant: the suppressor's own delay, `hop - gcd(hop, 10 ms)` for the gathering, and the
resampling both ways. Such suppressors have no mask to hold up, so the smallest gain is a share of the input, equally
late; a share of 1 is the input, bit for bit.
"""

from math import gcd
from typing import Protocol

import numpy as np

from gateway.denoise.engine import Floats, Ints, Result, Ticket
from gateway.denoise.resample import REACH, Downsampler, Upsampler
from gateway.errors import EngineError


class Suppressor(Protocol):
    """What takes noise out of blocks of samples, at its own rate and hop, with a row of state a slot."""

    rate: int
    """Sampling rate in Hz, a multiple of the calls'."""
    hop: int
    """Samples in a block."""
    delay: int
    """Samples by which what comes out is later than what went in."""

    def reset(self, slots: Ints) -> None:
        """Forget the history of these slots."""

    def run(self, slots: Ints, blocks: Floats) -> tuple[Floats, Floats]:
        """Clean blocks float32 [n, hop] and probabilities of speech [n] for float32 [n, hop], -1..1.

        Raises EngineError when it cannot.
        """


class AdaptedEngine:
    """A suppressor as an `Engine`."""

    def __init__(self, suppressor: Suppressor, rate: int, slots: int) -> None:
        """rate: of the calls, in Hz, a whole part of the suppressor's."""
        self.rate, self.hop = rate, rate // 100
        self._inner, factor = suppressor, suppressor.rate // rate
        self._frame = self.hop * factor
        lead = suppressor.hop - gcd(suppressor.hop, self._frame)
        whole = factor * (2 if rate == 16000 else 1)  # a byte of G.722 is two samples
        self._lead = lead + -(suppressor.delay + lead) % whole
        self.delay = (suppressor.delay + self._lead) // factor + (2 * REACH if factor > 1 else 0)
        self._up = Upsampler(slots, factor) if factor > 1 else None
        self._down = Downsampler(slots, factor) if factor > 1 else None
        self._before = _Queue(slots, suppressor.hop + self._frame)
        self._after = _Queue(slots, self._lead + suppressor.hop + self._frame)
        self._dry = np.zeros((slots, self.delay), np.float32)
        self._speech = np.zeros(slots, np.float32)
        self._share = np.full(slots, -1.0, np.float32)
        """Share of the input in what left last; -1 before the first frame."""
        self._results: dict[int, Result] = {}
        self._batch_id = 0
        self.reset(np.arange(slots))

    def reset(self, slots: Ints) -> None:
        """See `Engine.reset`."""
        self._inner.reset(slots)
        if self._up and self._down:
            self._up.reset(slots)
            self._down.reset(slots)
        self._before.reset(slots, 0)
        self._after.reset(slots, self._lead)
        self._dry[slots] = self._speech[slots] = 0.0
        self._share[slots] = -1.0

    def submit(self, slots: Ints, frames: Floats, counts: Ints, control: Floats) -> Ticket:
        """Run the batch now; see `Engine.submit`. Where that fails, its slots are fresh afterwards."""
        try:
            result = self._run(slots, frames, counts, control)
        except EngineError:
            self.reset(slots)
            raise
        self._batch_id += 1
        self._results[self._batch_id] = result
        return Ticket(self._batch_id)

    def collect(self, ticket: Ticket, deadline: float) -> Result | None:
        """The batch's result; never late."""
        return self._results.pop(ticket.batch_id)

    def _run(self, slots: Ints, frames: Floats, counts: Ints, control: Floats) -> Result:
        n, k, _ = frames.shape
        out = np.zeros_like(frames)
        probabilities = np.zeros((n, k, 4), np.float32)
        for frame in range(k):
            rows = np.flatnonzero(counts > frame)
            out[rows, frame] = self._advance(slots[rows], frames[rows, frame], control[rows, 0])
            probabilities[rows, frame, 0] = self._speech[slots[rows]]
        return Result(out, probabilities)

    def _advance(self, slots: Ints, pcm: Floats, share: Floats) -> Floats:
        wet = self._suppress(slots, pcm)
        stream = np.concatenate([self._dry[slots], pcm], axis=1)
        self._dry[slots] = stream[:, self.hop :]
        dry = stream[:, : self.hop]
        before = np.where(self._share[slots] < 0, share, self._share[slots])
        self._share[slots] = share
        ramp = np.arange(1, self.hop + 1, dtype=np.float32) / np.float32(self.hop)
        course = before[:, None] + (share - before)[:, None] * ramp
        mixed: Floats = dry * course + wet * (1 - course)
        return mixed

    def _suppress(self, slots: Ints, pcm: Floats) -> Floats:
        self._before.push(slots, self._up.run(slots, pcm) if self._up else pcm)
        while len(ready := slots[self._before.fill[slots] >= self._inner.hop]):
            clean, self._speech[ready] = self._inner.run(ready, self._before.pop(ready, self._inner.hop))
            self._after.push(ready, clean)
        clean = self._after.pop(slots, self._frame)
        return self._down.run(slots, clean) if self._down else clean


class _Queue:
    """Samples that wait, a row a slot."""

    def __init__(self, slots: int, capacity: int) -> None:
        self._samples = np.zeros((slots, capacity), np.float32)
        self.fill = np.zeros(slots, np.int64)

    def reset(self, slots: Ints, fill: int) -> None:
        """So many samples of silence."""
        self._samples[slots] = 0.0
        self.fill[slots] = fill

    def push(self, slots: Ints, pcm: Floats) -> None:
        """Append float32 [n, samples]."""
        columns = self.fill[slots][:, None] + np.arange(pcm.shape[1])
        self._samples[slots[:, None], columns] = pcm
        self.fill[slots] += pcm.shape[1]

    def pop(self, slots: Ints, count: int) -> Floats:
        """Take the oldest samples: float32 [n, count]."""
        rows = self._samples[slots]
        self._samples[slots, :-count] = rows[:, count:]
        self.fill[slots] -= count
        return np.ascontiguousarray(rows[:, :count])
