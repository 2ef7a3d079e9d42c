"""A gRPC process beside the control process; `gateway.serve_grpc` is its entry.

Several of them listen on one port (SO_REUSEPORT), and the kernel spreads connections over them. Each has its own
streams; their rows in the media processes come from the control process, which starts it.
"""

import asyncio
import gc
import itertools
import socket
from collections.abc import Callable
from dataclasses import dataclass

from gateway.config import Config
from gateway.control import grpc_link
from gateway.control.grpc_link import ChangeStream, CloseStream, Listens, OpenStream, Refused, Report, State, say
from gateway.control.grpc_server import GrpcServer
from gateway.control.link import Link
from gateway.control.stream_account import Accounts
from gateway.control.stream_errors import StreamError
from gateway.control.stream_legs import StreamLegs
from gateway.control.stream_rows import Payloads, Refuse, Row, Treatment
from gateway.control.stream_session import Desk
from gateway.control.workers import worker_count
from gateway.errors import ConfigError
from gateway.leases import LoadLimitError

REPORT_S = 0.25


@dataclass(slots=True, eq=False)
class FarRow:
    """A row that the control process keeps for us."""

    number: int
    refuse: Refuse
    pool: int = 0
    """All: which media process has it is not known here."""


class FarRows:
    """See `gateway.control.stream_rows.Rows`."""

    def __init__(self, say: Callable[[grpc_link.Up, socket.socket | None], None], most: int) -> None:
        """most: rows of all media processes; more cannot be had, and would take all descriptors until the control
        process has refused them."""
        self._say, self._most = say, most
        self._rows: dict[int, FarRow] = {}
        self._numbers = itertools.count()
        self.busy, self.legs = 0.0, 0

    def open(
        self, theirs: socket.socket, label: str, payloads: Payloads, treatment: Treatment, refuse: Refuse
    ) -> FarRow:
        """Audio may go at once: it waits in the socket for the media process."""
        if len(self._rows) >= self._most:
            theirs.close()
            raise LoadLimitError("Every media worker is full: raise media.slots or media.workers")
        row = FarRow(next(self._numbers), refuse)
        self._rows[row.number] = row
        self._say(OpenStream(row.number, label, payloads, treatment), theirs)
        return row

    def change(self, row: Row, treatment: Treatment) -> None:
        """See `Rows`."""
        assert isinstance(row, FarRow)
        self._say(ChangeStream(row.number, treatment), None)

    def close(self, row: Row) -> None:
        """See `Rows`."""
        assert isinstance(row, FarRow)
        del self._rows[row.number]
        self._say(CloseStream(row.number), None)

    def load(self, pool: int) -> tuple[float, int]:
        """As the control process last said."""
        return self.busy, self.legs

    def refused(self, message: Refused) -> None:
        """There is no row."""
        row = self._rows.get(message.number)
        if row is not None:
            row.refuse(StreamError(message.status, message.message))


class GrpcProcess:
    """Everything of one such process."""

    def __init__(self, control: socket.socket, config: Config) -> None:
        self._config = config
        self._over, self._draining = asyncio.Event(), False
        self._link = Link(control, self._heard, lambda _: self._over.set())
        most = config.media.slots * worker_count(config)
        self.rows = FarRows(lambda message, along: say(self._link, message, along), most)
        self._delays: dict[int, int] = {}
        self._legs = StreamLegs(self.rows)
        self._desk = Desk(config, self._legs, lambda: self._delays)
        self._server: GrpcServer | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until the control process is gone."""
        try:
            self._server = GrpcServer(self._config.grpc, self._desk, Accounts(self._config.grpc), shared=True)
            await self._server.start()
        except ConfigError as error:
            say(self._link, Listens("", str(error)))
            await self._over.wait()
            return
        gc.collect()
        gc.freeze()  # as the control process does: looking through modules again and again would hold up streams
        say(self._link, Listens(self._server.listening))
        reporting = asyncio.ensure_future(self._report())
        await self._over.wait()
        reporting.cancel()
        await self._server.stop()

    def _heard(self, data: bytes, descriptors: list[int]) -> None:
        match grpc_link.downs.decode(data):
            case Refused() as message:
                self.rows.refused(message)
            case State() as state:
                self._delays, self.rows.busy, self.rows.legs = state.delays, state.busy, state.legs
                if state.draining and not self._draining and self._server is not None:
                    self._draining = True
                    task = asyncio.ensure_future(self._server.drain())
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            ended = dict(self._desk.ended)
            self._desk.ended.clear()
            say(self._link, Report(len(self._desk.sessions), ended))
