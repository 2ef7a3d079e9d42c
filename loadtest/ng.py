"""A proxy's side of the NG control protocol: bencode over UDP, requests in flight told apart by their cookies.

The generator carries its own twenty lines of bencode on purpose: with the gateway's own codec on both ends, a
mistake in it would agree with itself.
"""

import itertools
import secrets
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

Address = tuple[str, int]
Body = dict[str, object]

REPLY_TIMEOUT_S = 1.0
"""When a proxy sends a request again (Kamailio's rtpengine_tout_ms is 1000)."""
ATTEMPTS = 5


class NgError(Exception):
    """The gateway did not answer, or refused."""


def encode(value: object) -> bytes:
    """Bencode of str, int, list and dict (BEP 3)."""
    if isinstance(value, str):
        raw = value.encode()
        return b"%d:%s" % (len(raw), raw)
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, list):
        return b"l" + b"".join(map(encode, value)) + b"e"
    if isinstance(value, dict):
        return b"d" + b"".join(encode(key) + encode(value[key]) for key in sorted(value)) + b"e"
    raise TypeError(f"NG carries no {type(value).__name__}")


def decode(data: bytes) -> object:
    """The value that `data` begins with."""
    return _decode(data, 0)[0]


def _decode(data: bytes, at: int) -> tuple[object, int]:
    kind = data[at : at + 1]
    if kind == b"i":
        end = data.index(b"e", at)
        return int(data[at + 1 : end]), end + 1
    if kind in (b"l", b"d"):
        items, at = [], at + 1
        while data[at : at + 1] != b"e":
            item, at = _decode(data, at)
            items.append(item)
        return (items if kind == b"l" else dict(zip(items[::2], items[1::2], strict=True))), at + 1
    colon = data.index(b":", at)
    end = colon + 1 + int(data[at:colon])
    return data[colon + 1 : end].decode(errors="replace"), end


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one request."""

    cookie: str
    body: Body
    latency_s: float

    def require_ok(self) -> Body:
        """The body, or NgError with the gateway's reason."""
        if self.body.get("result") not in ("ok", "pong"):
            raise NgError(f"{self.body.get('result')}: {self.body.get('error-reason') or self.body.get('message')}")
        return self.body


class NgClient:
    """One UDP socket towards a gateway, with any number of requests in flight."""

    def __init__(self, server: Address) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.socket.connect(server)
        self._name = secrets.token_hex(4)
        self._numbers = itertools.count()
        self._sent: dict[str, tuple[float, bytes]] = {}

    def close(self) -> None:
        self.socket.close()

    @property
    def waiting(self) -> int:
        """Requests without a reply yet."""
        return len(self._sent)

    def send(self, body: Body) -> str:
        """Send a request; returns the cookie that its reply will carry."""
        cookie = f"{self._name}_{next(self._numbers)}"
        datagram = cookie.encode() + b" " + encode(body)
        self._sent[cookie] = (time.monotonic(), datagram)
        self.socket.send(datagram)
        return cookie

    def replies(self, wait_s: float) -> Iterator[Reply]:
        """Every reply that is there, waiting at most `wait_s` for the first one."""
        while select.select([self.socket], [], [], wait_s)[0]:
            try:
                cookie, _, raw = self.socket.recv(65535).partition(b" ")
            except ConnectionRefusedError:
                raise NgError("nobody listens on the NG port") from None
            sent = self._sent.pop(cookie.decode(), None)
            if sent is not None:
                body = decode(raw)
                assert isinstance(body, dict), "an NG reply is a dictionary"
                yield Reply(cookie.decode(), body, time.monotonic() - sent[0])
            wait_s = 0.0

    def request(self, body: Body) -> Body:
        """Send one request, again when it is not answered, and return the reply's body; raises NgError."""
        cookie = self.send(body)
        for _ in range(ATTEMPTS):
            for reply in self.replies(REPLY_TIMEOUT_S):
                if reply.cookie == cookie:
                    return reply.require_ok()
            if cookie in self._sent:
                self.socket.send(self._sent[cookie][1])
        raise NgError(f"no reply to {body.get('command')}")
