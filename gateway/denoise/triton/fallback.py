"""Triton with the embedded light network as second choice: it takes over when no server is there, and gives back."""

import numpy as np

from gateway.denoise.engine import Engine, Floats, Ints, Result, Ticket
from gateway.denoise.triton.engine import TritonEngine
from gateway.errors import ConfigError


class FallbackEngine:
    """A `RemoteEngine`; its epoch is the first's, which grows when a server is lost and when one is found."""

    def __init__(self, first: TritonEngine, second: Engine, name: str, slots: int) -> None:
        """name: of the second's network, as people know it. Raises ConfigError when the two cannot take turns."""
        if (first.rate, first.hop, first.delay) != (second.rate, second.hop, second.delay):
            raise ConfigError(f"engine.fallback: {name} has another delay than the model on Triton; expected the same")
        self.rate, self.hop, self.delay = first.rate, first.hop, first.delay
        self._first, self._second, self._name = first, second, name
        self._every = np.arange(slots)
        self._epoch = first.epoch
        self._own: dict[int, Ticket] = {}
        """Tickets of the second, by the number that was handed out: below zero."""
        self._ids = self._flushed = 0

    @property
    def epoch(self) -> int:
        """See `RemoteEngine.epoch`."""
        return self._first.epoch

    @property
    def fault(self) -> str:
        """See `RemoteEngine.fault`."""
        return self._first.fault

    @property
    def endpoint_faults(self) -> dict[str, str]:
        """See `RemoteEngine.endpoint_faults`."""
        return self._first.endpoint_faults

    @property
    def substitute(self) -> str:
        """See `RemoteEngine.substitute`."""
        return "" if self._first.ready else self._name

    @property
    def counters(self) -> dict[str, int]:
        """See `RemoteEngine.counters`."""
        return {**self._first.counters, "batches_substitute": -self._ids}

    def reset(self, slots: Ints) -> None:
        """Forget the history of these in the engine that serves now."""
        self._serving().reset(slots)

    def submit(self, slots: Ints, frames: Floats, counts: Ints, control: Floats) -> Ticket:
        """See `Engine.submit`."""
        serving = self._serving()
        ticket = serving.submit(slots, frames, counts, control)
        if serving is self._first:
            return ticket
        self._first.miss(len(slots))
        self._ids -= 1
        self._own[self._ids] = ticket
        return Ticket(self._ids)

    def collect(self, ticket: Ticket, deadline: float) -> Result | None:
        """See `Engine.collect`."""
        if ticket.batch_id < 0:
            return self._second.collect(self._own.pop(ticket.batch_id), deadline)
        return self._first.collect(ticket, deadline)

    def _serving(self) -> Engine:
        if self._epoch != self._first.epoch:
            self._epoch = self._first.epoch
            self._second.reset(self._every)
        return self._first if self._first.ready else self._second

    def tend(self, now: float) -> None:
        """See `RemoteEngine.tend`."""
        self._first.tend(now)

    def flush(self) -> None:
        """See `RemoteEngine.flush`. Nobody collects any more what is left of the batch before: concealed frames."""
        for number in [number for number in self._own if number >= self._flushed]:
            self._second.collect(self._own.pop(number), 0.0)
        self._flushed = self._ids
        self._first.flush()

    def due_s(self) -> float | None:
        """See `RemoteEngine.due_s`."""
        return self._first.due_s()

    def fileno(self) -> int:
        """See `RemoteEngine.fileno`."""
        return self._first.fileno()

    def acknowledge(self) -> None:
        """See `RemoteEngine.acknowledge`."""
        self._first.acknowledge()
