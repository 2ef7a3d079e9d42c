"""The NG control protocol over UDP: an asyncio shell around `protocol.ng` and `calls`.

A datagram comes in, is checked against the allow-list and the replies already given, becomes a request, and is served;
its reply goes back and its commands go to the workers. Only `delete` and `query` wait: for exact statistics.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import cast

from gateway.calls import Calls
from gateway.config import NgConfig
from gateway.control.allow import AllowList, host_and_port, plain
from gateway.control.sockets import SocketPool
from gateway.control.workers import Workers
from gateway.metrics import Metrics
from gateway.protocol import ng

log = logging.getLogger(__name__)

MAX_WAITING = 1000
"""Deletes and queries that wait for statistics at once; beyond it they are served with the last report."""
READERS = ("delete", "query")
MAX_REPLY_BYTES = 65_000
"""What fits into a UDP datagram."""

Address = tuple[str, int]


class NgService:
    """Serves NG requests, whatever they come over."""

    def __init__(
        self, calls: Calls, workers: Workers, metrics: Metrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._calls, self._workers, self._metrics, self._clock = calls, workers, metrics, clock
        self._replies = ng.ReplyCache()
        self._tasks: set[asyncio.Task[None]] = set()

    def receive(self, datagram: bytes, source: Address, send: Callable[[bytes], None]) -> None:
        """Serve one datagram; `send` is called with the reply, now or a little later, if there is one."""
        arrived = self._clock()
        try:
            request = ng.parse(datagram)
        except ng.NgGarbageError:
            self._metrics.ng_dropped.labels("garbage").inc()
            return
        except ng.NgRequestError as error:
            self._metrics.ng_requests.labels("unparsed", "error").inc()
            send(error.reply())
            return
        progress = self._replies.begin(source, request.cookie, arrived)
        if isinstance(progress, bytes):
            self._metrics.ng_dropped.labels("retransmission answered again").inc()
            send(progress)
        elif progress is ng.Progress.IN_PROGRESS:
            self._metrics.ng_dropped.labels("retransmission in progress").inc()
        else:
            self._begin(request, source, send, arrived)

    def _begin(self, request: ng.Request, source: Address, send: Callable[[bytes], None], arrived: float) -> None:
        """Serve at once, or after reading statistics."""
        wanted = None
        if request.command in READERS and len(self._tasks) < MAX_WAITING:
            wanted = self._calls.slots_of(request.call_id or "")
        if wanted is None:
            self._finish(request, source, send, arrived)
            return
        task = asyncio.get_running_loop().create_task(self._read_first(wanted, request, source, send, arrived))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read_first(
        self,
        wanted: tuple[int, tuple[int, ...]],
        request: ng.Request,
        source: Address,
        send: Callable[[bytes], None],
        arrived: float,
    ) -> None:
        await self._workers.read(*wanted)
        self._finish(request, source, send, arrived)

    def _finish(self, request: ng.Request, source: Address, send: Callable[[bytes], None], arrived: float) -> None:
        body, reply = self._serve(request)
        now = self._clock()
        self._replies.finish(source, request.cookie, reply, now)
        known = request.command if self._calls.serves(request.command) else "unknown"
        self._metrics.ng_requests.labels(known, body["result"]).inc()
        self._metrics.ng_latency.labels(known).observe(now - arrived)
        send(reply)

    def _serve(self, request: ng.Request) -> tuple[dict[str, object], bytes]:
        """The reply, as body and datagram; a fault of ours is logged and costs only this request."""
        started = self._calls.started_total
        try:
            outcome = self._calls.handle(request, self._clock())
            self._workers.send(outcome.orders)
            reply = fitting(request, outcome.reply)
        except Exception:
            log.exception("NG request failed", extra={"call_id": request.call_id, "command": request.command})
            body = ng.error("Internal error: see the gateway's log")
            return body, ng.reply(request, body)
        if self._calls.started_total > started:
            self._metrics.calls_started.inc()
            log.info("call started", extra={"call_id": request.call_id})
        if outcome.reply["result"] not in ("ok", "pong"):
            reason = outcome.reply.get("error-reason") or outcome.reply.get("message")
            extra = {"call_id": request.call_id, "command": request.command, "reason": reason}
            log.warning("NG request refused", extra=extra)
        return outcome.reply, reply


def fitting(request: ng.Request, body: dict[str, object]) -> bytes:
    """The reply as a datagram; what is too long for one is left out, and said to be."""
    reply = ng.reply(request, body)
    if len(reply) <= MAX_REPLY_BYTES:
        return reply
    if request.command == "delete":
        return ng.reply(request, ng.ok(warning="Deleted; the statistics are too long for a datagram"))
    return ng.reply(request, ng.error("The reply is too long for a datagram: ask for less"))


class NgProtocol(asyncio.DatagramProtocol):
    """One UDP address."""

    def __init__(
        self,
        service: NgService,
        allow: AllowList,
        media: SocketPool,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """media: the ports that calls have; what comes from them was sent by a caller, whatever `allow` says."""
        self._service, self._allow, self._media = service, allow, media
        self._metrics, self._clock = metrics, clock
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is bound."""
        self._transport = cast(asyncio.DatagramTransport, transport)  # uvloop's is none by inheritance

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Serve it, if its sender may ask; whatever goes wrong, the next one is served."""
        if not self._allow.permits(addr[0]):
            self._metrics.ng_dropped.labels("not allowed").inc()
            return
        if self._media.lends(plain(addr[0]), addr[1], self._clock()):
            self._metrics.ng_dropped.labels("from a media port").inc()
            return
        try:
            self._service.receive(data, addr[:2], lambda reply: self._reply(reply, addr))
        except Exception:
            log.exception("NG datagram failed")

    def _reply(self, reply: bytes, addr: tuple[str, int]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(reply, addr)

    def error_received(self, exc: Exception) -> None:
        """The proxy did not take a reply: it will ask again."""
        log.debug("NG reply not delivered", extra={"reason": str(exc)})


async def listen(
    config: NgConfig, service: NgService, media: SocketPool, metrics: Metrics
) -> list[asyncio.DatagramTransport]:
    """Bind every configured address; requests from ports of `media` are not served. Raises ConfigError or OSError."""
    allow = AllowList("ng.allow", config.allow)
    transports = []
    for address in config.listen:
        where = host_and_port(address, "ng.listen")
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: NgProtocol(service, allow, media, metrics), local_addr=where
        )
        transports.append(transport)
    return transports
