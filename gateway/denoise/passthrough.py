"""An engine without a network: the audio, late by one frame. For measurements and as the dry reference."""

import numpy as np

from gateway.denoise.engine import Floats, Ints, Result, Ticket


class PassthroughEngine:
    """Delays each slot's audio by one hop."""

    def __init__(self, rate: int, slots: int) -> None:
        self.rate = rate
        self.hop = self.delay = rate // 100
        self._last = np.zeros((slots, self.hop), np.float32)
        self._results: dict[int, Result] = {}
        self._batch_id = 0

    def reset(self, slots: Ints) -> None:
        """Forget the last frame."""
        self._last[slots] = 0.0

    def submit(self, slots: Ints, frames: Floats, counts: Ints, control: Floats) -> Ticket:
        """See `Engine.submit`."""
        n, k, _ = frames.shape
        late = np.concatenate([self._last[slots, None], frames[:, :-1]], axis=1)
        self._last[slots] = frames[np.arange(n), counts - 1]
        self._batch_id += 1
        self._results[self._batch_id] = Result(late, np.zeros((n, k, 4), np.float32))
        return Ticket(self._batch_id)

    def collect(self, ticket: Ticket, deadline: float) -> Result | None:
        """The batch's result; never late."""
        return self._results.pop(ticket.batch_id)
