"""The NG control protocol, by which Kamailio, OpenSIPS and an rtpengine's own tools ask for media ports. Sans-IO.

A datagram is `cookie SP dictionary`, in bencode or JSON; the reply carries the same cookie and encoding. `parse` makes
a `Request` of it, `reply` the datagram that answers, and `ReplyCache` tells a retransmission from a new request.
Source: docs/ng_control_protocol.md of sipwise/rtpengine.
"""

import json
import re
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from enum import Enum

from gateway.errors import CallerError, PeerError
from gateway.protocol import bencode, ng_request
from gateway.protocol.ng_request import Controls, Request

__all__ = [
    "OUT_OF_PORTS",
    "PARALLEL_SESSION_LIMIT",
    "UNKNOWN_CALL",
    "Controls",
    "NgGarbageError",
    "NgRequestError",
    "Progress",
    "ReplyCache",
    "Request",
    "error",
    "load_limit",
    "ok",
    "parse",
    "pong",
    "reply",
]

_COOKIE = re.compile(rb"[!-~]{1,255}")
"""Kamailio and OpenSIPS send about 20 digits and `_`, other clients letters too; never what RTP begins with."""
PARALLEL_SESSION_LIMIT = "Parallel session limit reached"
"""Error text on which Kamailio tries its next media relay."""
OUT_OF_PORTS = "Ran out of ports"
"""Error text on which Kamailio tries its next media relay."""
UNKNOWN_CALL = "Unknown call-id"


class NgGarbageError(PeerError):
    """No cookie or no start of a dictionary: counted and dropped, there is nothing to reply to."""


class NgRequestError(CallerError):
    """A request that is answered with an error: `str()` gives the reason, `reply()` the datagram."""

    def __init__(self, reason: str, cookie: bytes, encoding: str) -> None:
        super().__init__(reason)
        self.cookie = cookie
        self.encoding = encoding

    def reply(self) -> bytes:
        """The datagram that tells the proxy what is wrong."""
        return _datagram(self.cookie, self.encoding, error(str(self)))


def parse(datagram: bytes) -> Request:
    """The request in a datagram. Raises NgGarbageError (drop it) or NgRequestError (send its `reply()`)."""
    cookie, _, body = datagram.partition(b" ")
    encoding = "bencode" if body[:1] == b"d" else "json" if body[:1] == b"{" else None
    if not _COOKIE.fullmatch(cookie) or encoding is None:
        raise NgGarbageError("no cookie, space and dictionary")
    try:
        message = bencode.decode(body.rstrip()) if encoding == "bencode" else _json(body)
        if not isinstance(message, dict):
            raise ng_request.WrongValueError("the message must be a dictionary")
        return ng_request.build(cookie, encoding, message)
    except (bencode.BencodeError, ng_request.WrongValueError) as wrong:
        raise NgRequestError(str(wrong), cookie, encoding) from wrong


def _json(body: bytes) -> object:
    try:
        text = body.decode("utf-8", "surrogateescape")
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as wrong:
        raise ng_request.WrongValueError(f"no JSON: {str(wrong)[:80]}") from None


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def reply(request: Request, body: Mapping[str, object]) -> bytes:
    """The datagram that answers a request, in its own encoding."""
    return _datagram(request.cookie, request.encoding, body)


def _datagram(cookie: bytes, encoding: str, body: Mapping[str, object]) -> bytes:
    if encoding == "bencode":
        return cookie + b" " + bencode.encode(body)
    return cookie + b" " + bencode.to_bytes(json.dumps(body, ensure_ascii=False, separators=(",", ":")))


def ok(**more: object) -> dict[str, object]:
    """`result: ok`, with more keys."""
    return {"result": "ok", **more}


def pong() -> dict[str, object]:
    """The answer to `ping`."""
    return {"result": "pong"}


def error(reason: str) -> dict[str, object]:
    """`result: error`; proxies log the reason."""
    return {"result": "error", "error-reason": reason}


def load_limit(message: str = "load limit") -> dict[str, object]:
    """Overloaded: the proxy tries its next relay (sent to who says `supports: [load limit]`)."""
    return {"result": "load limit", "message": message}


class Progress(Enum):
    """How far a request has come."""

    NEW = "new"
    IN_PROGRESS = "in progress"


class ReplyCache:
    """Remembers replies by source and cookie, so that a retransmission is answered the same and not done twice.

    Bounded in time (seconds after the reply), count, and bytes of replies; the oldest go first.
    """

    def __init__(self, keep_s: float = 30.0, limit: int = 10_000, limit_bytes: int = 64 << 20) -> None:
        self._keep_s = keep_s
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._entries: OrderedDict[tuple[Hashable, bytes], tuple[float, bytes]] = OrderedDict()
        """Time of entry and reply, oldest first; an empty reply is still in progress."""

    def __len__(self) -> int:
        return len(self._entries)

    def begin(self, source: Hashable, cookie: bytes, now: float) -> Progress | bytes:
        """NEW: handle it. IN_PROGRESS: drop it. Bytes: send them again. `now` is any clock in seconds."""
        self._trim(now)
        known = self._entries.get((source, cookie))
        if known is not None:
            return known[1] or Progress.IN_PROGRESS
        self._entries[source, cookie] = (now, b"")
        return Progress.NEW

    def finish(self, source: Hashable, cookie: bytes, reply: bytes, now: float) -> None:
        """Store the reply to a request that began."""
        self.forget(source, cookie)
        self._entries[source, cookie] = (now, reply)
        self._bytes += len(reply)
        self._trim(now)

    def forget(self, source: Hashable, cookie: bytes) -> None:
        """The request got no reply: its retransmission is new."""
        _, stored = self._entries.pop((source, cookie), (0.0, b""))
        self._bytes -= len(stored)

    def _trim(self, now: float) -> None:
        while self._entries:
            key, (then, _) = next(iter(self._entries.items()))
            if now - then <= self._keep_s and len(self._entries) <= self._limit and self._bytes <= self._limit_bytes:
                return
            self.forget(*key)
