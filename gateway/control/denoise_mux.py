"""Many calls over one stream: a session a stream id, and one response that carries all that is ready."""

import asyncio
from collections.abc import Callable

from gateway._pb import denoise_pb2 as pb
from gateway.control.stream_account import Account
from gateway.control.stream_errors import StreamError, as_stream_error
from gateway.control.stream_session import Desk, Session, stalled

CODES = {
    "CANCELLED": 1, "INVALID_ARGUMENT": 3, "DEADLINE_EXCEEDED": 4, "RESOURCE_EXHAUSTED": 8, "INTERNAL": 13,
    "UNAVAILABLE": 14, "UNAUTHENTICATED": 16,
}  # fmt: skip
"""google.rpc.Code."""
FLOOD_MESSAGES = 64
"""Of the longest there may be: so much may wait in all calls together, beyond the second that each may have."""
MAX_ERRORS = 1000
"""Errors that may wait unread: more is a flood."""


class Mux:
    """The calls of one stream."""

    def __init__(self, desk: Desk, account: Account, failed: Callable[[], None]) -> None:
        self._desk, self._account, self._failed = desk, account, failed
        self._sessions: dict[int, Session] = {}
        self._dirty: set[int] = set()
        self._errors: list[pb.MuxedResponse] = []
        self._most_bytes = FLOOD_MESSAGES * desk.config.grpc.max_message_bytes
        self._excess_bytes = 0
        """Of all calls, at most: what has gone in since it was last counted still counts."""
        self.ready = asyncio.Event()
        self.failure: StreamError | None = None
        self._ended = False
        self._heard_s = self._taken_s = desk.clock()
        self._taken: list[Session] | None = None
        """Whose responses are being written; None while nothing is."""
        desk.watched.add(self)

    def handle(self, request: pb.DenoiseMuxRequest) -> None:
        """Serve requests; raises StreamError when the whole stream makes no sense."""
        self._heard_s = self._desk.clock()
        if not request.requests:
            raise StreamError("INVALID_ARGUMENT", "the message has no requests: send at least one")
        for each in request.requests:
            try:
                self._serve(each)
            except Exception as error:
                self._drop(each.stream_id, as_stream_error(error))

    def _serve(self, asked: pb.MuxedRequest) -> None:
        session = self._sessions.get(asked.stream_id)
        if session is None:
            if asked.end:
                return  # it has failed already
            if asked.request.WhichOneof("message") != "configuration":
                message = f"stream {asked.stream_id} has not begun, or is over: send its configuration first"
                raise StreamError("INVALID_ARGUMENT", message)
            session = self._begin(asked.stream_id)
        if asked.HasField("request"):
            session.handle(asked.request)
            self._excess_bytes += len(asked.request.audio)
            if session.flooded or (session.excess_bytes and self._flooded()):
                message = "more audio waits than may: send slower, or in a stream of its own, which flow control slows"
                raise StreamError("RESOURCE_EXHAUSTED", message)
        if asked.end and session.failure is None:
            session.end()

    def _flooded(self) -> bool:
        """More waits in all calls together than may; they are looked through only when it could be so."""
        if self._excess_bytes > self._most_bytes:
            self._excess_bytes = sum(session.excess_bytes for session in self._sessions.values())
        return self._excess_bytes > self._most_bytes

    def _begin(self, stream_id: int) -> Session:
        def ready() -> None:
            self._dirty.add(stream_id)
            self.ready.set()

        def failed() -> None:
            session = self._sessions.get(stream_id)
            if session is not None and session.failure is not None:
                self._drop(stream_id, session.failure)  # at once: nobody may ever take again

        session = self._sessions[stream_id] = Session(self._desk, self._account, ready, failed)
        return session

    def _drop(self, stream_id: int, error: StreamError) -> None:
        """End one call; the others go on."""
        session = self._sessions.pop(stream_id, None)
        if session is not None:
            session.close(error.status)
        if len(self._errors) >= MAX_ERRORS:
            self.fail(StreamError("RESOURCE_EXHAUSTED", f"{MAX_ERRORS} errors wait unread: read while you send"))
            return
        code = CODES.get(error.status, 2)
        self._errors.append(pb.MuxedResponse(stream_id=stream_id, error=pb.MuxError(code=code, message=str(error))))
        self.ready.set()

    def take(self) -> pb.DenoiseMuxResponse:
        """All that is ready, which is to be `written`."""
        dirty, self._dirty = self._dirty, set()
        self._taken, self._taken_s = [], self._desk.clock()
        response = pb.DenoiseMuxResponse()
        for stream_id in dirty:
            session = self._sessions.get(stream_id)
            if session is None:
                continue
            try:
                ready = session.take()
            except Exception as error:
                self._drop(stream_id, as_stream_error(error))
                continue
            for each in ready:
                response.responses.add(stream_id=stream_id, response=each)
            self._taken.append(session)
            if session.finished:
                self._sessions.pop(stream_id).close("OK")
        errors, self._errors = self._errors, []
        response.responses.extend(errors)
        return response

    def written(self) -> None:
        """The client has what was taken."""
        taken, self._taken, self._taken_s = self._taken or [], None, self._desk.clock()
        for session in taken:
            session.written()

    def heard(self) -> None:
        """The client would send if it could."""
        self._heard_s = self._desk.clock()
        for session in self._sessions.values():
            session.heard()

    def end(self) -> None:
        """The client sends no more, for any call."""
        self._ended = True
        for stream_id, session in list(self._sessions.items()):
            try:
                session.end()
            except Exception as error:
                self._drop(stream_id, as_stream_error(error))
        self.ready.set()

    def fail(self, error: StreamError) -> None:
        """End the whole stream."""
        self.failure = self.failure or error
        self._failed()

    def tick(self, now: float) -> None:
        """See `Desk.tick`; calls are looked after one by one."""
        silent = None if self._ended else self._desk.silent(self._heard_s, now)
        if silent is not None:
            self.fail(silent)
        if self._taken is None and not self._dirty and not self._errors:
            self._taken_s = now
        elif (unread := stalled(self._taken_s, now)) is not None:
            self.fail(unread)

    @property
    def full(self) -> bool:
        """Every call has more waiting than is wise: one that is faster than it may be does not hold up the others, and
        ends when it is `flooded`."""
        return bool(self._sessions) and all(session.full for session in self._sessions.values())

    @property
    def finished(self) -> bool:
        """Nothing more will come."""
        return self.failure is not None or (self._ended and not self._sessions and not self._errors)

    def close(self) -> None:
        """Give everything back."""
        self._desk.watched.discard(self)
        for session in self._sessions.values():
            session.close(self.failure.status if self.failure is not None else "CANCELLED")
        self._sessions.clear()
