"""The rows of streams in media processes: taken and given back by the control process, which owns all legs.

`StreamRows` is what the control process itself uses; a gRPC process beside it asks for the same over a socket
(`grpc_link`). Sockets of streams come in pairs: one end is the stream's, `theirs` goes to the media process.
"""

import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from msgspec.structs import replace

from gateway.config import DenoiseConfig
from gateway.control.stream_errors import StreamError
from gateway.control.workers import Workers
from gateway.leg_table import LegTable
from gateway.legs import Leg, Pair
from gateway.messages import LegSpec, Payload

Payloads = tuple[Payload, ...]
Refuse = Callable[[StreamError], None]


@dataclass(frozen=True, slots=True)
class Treatment:
    """The controls of a stream; see `DenoiseConfig`."""

    denoise: bool
    level: int
    music: str
    bypass: str

    @classmethod
    def configured(cls, config: DenoiseConfig) -> "Treatment":
        """The defaults. A stream is opened to be denoised: `denoise: none` means calls."""
        return cls(True, config.level, config.music, config.bypass)


class Row(Protocol):
    """One stream's place."""

    pool: int
    """Streams of one pool share their credits."""


class Rows(Protocol):
    """Where rows come from."""

    def open(self, theirs: socket.socket, label: str, payloads: Payloads, treatment: Treatment, refuse: Refuse) -> Row:
        """Take a row, and `theirs`, also when it raises. Raises CallerError, or calls refuse later, when all are
        full."""

    def change(self, row: Row, treatment: Treatment) -> None:
        """Other controls, from the packets on that the media plane gets next."""

    def close(self, row: Row) -> None:
        """Give the row back."""

    def load(self, pool: int) -> tuple[float, int]:
        """Busy share, 0..1, and legs of the media processes behind a pool."""


class StreamRow:
    """A stream's leg; see `gateway.leg_table.Owner`."""

    def __init__(
        self, legs: LegTable, worker: int, theirs: socket.socket, label: str, payloads: Payloads, treatment: Treatment
    ) -> None:
        self.call_id, self.worker, self.pool, self.latched = label, worker, worker, False
        self.leg = Leg(legs.leases.take(worker), Pair("", 0, (theirs,)))
        slot, generation = self.leg.lease
        self._spec = LegSpec(slot=slot, generation=generation, call_id=label, peer=slot, payloads=payloads, noted=True)
        self.treatment = treatment

    def specs(self) -> Iterable[tuple[Leg, LegSpec]]:
        """The present description. The content delay is there whether it is denoised or not."""
        now = self.treatment
        yield (
            self.leg,
            replace(
                self._spec,
                denoise=True,
                level=now.level,
                keep_music=now.music == "pass",
                bypass=now.bypass if now.denoise else "on",
                latched=self.latched,
            ),
        )


class StreamRows:
    """Rows from the table of legs; it holds the media processes' ends of sockets, for those that come after."""

    def __init__(self, legs: LegTable, workers: Workers) -> None:
        self._legs, self._workers = legs, workers

    def open(
        self, theirs: socket.socket, label: str, payloads: Payloads, treatment: Treatment, refuse: Refuse
    ) -> StreamRow:
        """See `Rows`; in the least loaded media process."""
        try:
            row = StreamRow(self._legs, self._legs.leases.choose(1), theirs, label, payloads, treatment)
        except BaseException:
            theirs.close()
            raise
        self._legs.attach(row, row.leg)
        self._tell(row)
        return row

    def change(self, row: Row, treatment: Treatment) -> None:
        """See `Rows`."""
        assert isinstance(row, StreamRow)
        row.treatment = treatment
        self._tell(row)

    def _tell(self, row: StreamRow) -> None:
        self._legs.tell(row)
        self._workers.send(self._legs.take_orders())

    def close(self, row: Row) -> None:
        """See `Rows`."""
        assert isinstance(row, StreamRow)
        self._legs.detach(row, row.leg)
        self._workers.send(self._legs.take_orders())
        for each in row.leg.pair.sockets:
            each.close()

    def load(self, pool: int) -> tuple[float, int]:
        """See `Rows`; a pool is a media process."""
        position = self._legs.leases.positions[pool]
        return position.busy, position.legs

    def loads(self) -> list[tuple[float, int]]:
        """Of all media processes."""
        return [(position.busy, position.legs) for position in self._legs.leases.positions]
