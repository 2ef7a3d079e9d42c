"""The engine contract: the only thing the media plane knows of neural networks.

An engine keeps one row of state a slot and turns 10 ms frames of all slots into clean frames in one call. The media
plane hands it a batch with `submit` and takes the answer with `collect`; an embedded engine computes in `submit`, a
remote one answers later.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


class Ticket(NamedTuple):
    """Names one submitted batch."""

    batch_id: int


@dataclass(frozen=True, slots=True)
class Result:
    """What the engine made of a batch."""

    frames: Floats
    """float32 [n, k, hop], -1..1, delayed by the engine's `delay`; rows beyond a slot's count are undefined."""
    probabilities: Floats
    """float32 [n, k, 4]: speech, noise, music, tone."""


class Engine(Protocol):
    """One denoising network at one rate, for many slots at once."""

    rate: int
    """Sampling rate in Hz, 8000 or 16000."""
    hop: int
    """Samples in a 10 ms frame."""
    delay: int
    """Algorithmic delay in samples; at 16 kHz even, because a byte of G.722 is two samples."""

    def reset(self, slots: Ints) -> None:
        """Forget the history of these slots: their next frame is the first of a stream."""

    def submit(self, slots: Ints, frames: Floats, counts: Ints, control: Floats) -> Ticket:
        """Advance each slot by its frames.

        slots: int64 [n], unique; frames: float32 [n, k, hop], -1..1; counts: int64 [n], frames in each row, 1..k;
        control: float32 [n, 2], smallest gain (linear, 1 leaves the audio alone) and keep music (1) or not (0).
        Raises EngineError when the network cannot run.
        """

    def collect(self, ticket: Ticket, deadline: float) -> Result | None:
        """The batch's result, or None when it is not there by `deadline` (seconds, monotonic clock)."""


@runtime_checkable
class RemoteEngine(Engine, Protocol):
    """An engine that answers later: `submit` gathers, `flush` sends, and the loop goes on until an answer is there."""

    epoch: int
    """Grows whenever all rows have lost their history: each has to hear its stream for a while before it is heard."""
    fault: str
    """Why it does not do what was configured; empty when it does."""
    endpoint_faults: dict[str, str]
    """What is wrong with single ones of several servers, whether or not another serves."""
    substitute: str
    """What does the work meanwhile; empty when nothing does."""
    counters: dict[str, int]
    """Totals since the start."""

    def tend(self, now: float) -> None:
        """See to connections; never waits. now: seconds, monotonic clock, as everywhere here."""

    def flush(self) -> None:
        """Send what was submitted as one batch."""

    def due_s(self) -> float | None:
        """When the batch that is out must be there; None when none is, or its answer has come."""

    def fileno(self) -> int:
        """A descriptor that becomes readable when an answer has come; `acknowledge` takes that back."""

    def acknowledge(self) -> None:
        """See `fileno`."""
