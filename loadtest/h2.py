"""As much of HTTP/2 (RFC 9113) as a load generator of gRPC streams needs, over one connection.

grpc.aio costs the generator as much a message as the server; on a machine with two cores it would measure itself.
Headers go out as plain literals, and those that come back are not read: a stream that ends is all that counts.
"""

import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
WINDOW = 0x7FFFFFFF
INITIAL_WINDOW = 65535
INITIAL_WINDOW_SIZE = 4
"""Of SETTINGS."""


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def message(stream: int, body: bytes, end: bool = False) -> bytes:
    """A gRPC message, not compressed, in a DATA frame."""
    return frame(DATA, END_STREAM if end else 0, stream, b"\0" + struct.pack(">I", len(body)) + body)


def literals(headers: list[tuple[str, str]]) -> bytes:
    """A header block of literals without indexing (RFC 7541 §6.2.2), each shorter than 127 bytes."""
    block = b""
    for name, value in headers:
        block += b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
    return block


class Connection:
    """One connection in plain text; never waits but in `connect`."""

    def __init__(self, host: str, port: int, window: int = WINDOW) -> None:
        """window: bytes of each stream that the server may send before `widen`."""
        self.socket = socket.create_connection((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._authority = f"{host}:{port}"
        self._out = bytearray(PREFACE)
        self._out += frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, window))
        self._out += frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WINDOW - INITIAL_WINDOW))
        self._in = bytearray()
        self._parts: dict[int, bytearray] = {}
        self._next = 1
        self._initial = INITIAL_WINDOW
        self._windows = {0: INITIAL_WINDOW}
        self._received: dict[int, int] = {}
        self.ended: set[int] = set()
        self.flush()
        self.socket.setblocking(False)

    def open(self, path: str) -> int:
        """A new stream."""
        stream, self._next = self._next, self._next + 2
        block = literals(
            [
                (":method", "POST"), (":scheme", "http"), (":path", path), (":authority", self._authority),
                ("content-type", "application/grpc"), ("te", "trailers"),
            ]
        )  # fmt: skip
        self._windows[stream] = self._initial
        self._parts[stream] = bytearray()
        self._out += frame(HEADERS, END_HEADERS, stream, block)
        return stream

    def send(self, stream: int, body: bytes) -> bool:
        """A message; False when flow control (RFC 9113 §5.2) does not let it out."""
        size = len(body) + 5
        if self._windows[0] < size or self._windows[stream] < size:
            return False
        self._windows[0] -= size
        self._windows[stream] -= size
        self._out += message(stream, body)
        return True

    def widen(self, stream: int) -> None:
        """Let the server send more of a stream."""
        self._out += frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 1 << 20))

    @property
    def waiting_bytes(self) -> int:
        """What the kernel has not taken yet."""
        return len(self._out)

    def end(self, stream: int) -> None:
        """Nothing more will be sent."""
        self._out += frame(DATA, END_STREAM, stream, b"")

    def flush(self) -> None:
        """Let the kernel take what it can."""
        while self._out:
            try:
                sent = self.socket.send(self._out)
            except BlockingIOError:
                return
            del self._out[:sent]

    def receive(self) -> list[tuple[int, bytes]]:
        """Messages that have come, with their streams; raises ConnectionError when the server has closed."""
        try:
            piece = self.socket.recv(1 << 20)
        except BlockingIOError:
            return []
        if not piece:
            raise ConnectionError("the server has closed the connection")
        self._in += piece
        found: list[tuple[int, bytes]] = []
        at, view = 0, bytes(self._in)
        while len(view) - at >= 9:
            length = int.from_bytes(view[at : at + 3], "big")
            if len(view) - at < 9 + length:
                break
            kind, flags, stream = struct.unpack_from(">BBI", view, at + 3)
            self._take(kind, flags, stream, view[at + 9 : at + 9 + length], found)
            at += 9 + length
        del self._in[:at]
        self.flush()
        return found

    def _take(self, kind: int, flags: int, stream: int, payload: bytes, found: list[tuple[int, bytes]]) -> None:
        if kind == DATA:
            self._credit(len(payload))
            self._data(stream, payload, found)
        elif kind == WINDOW_UPDATE:
            self._windows[stream] = self._windows.get(stream, self._initial) + struct.unpack(">I", payload)[0]
        elif kind == SETTINGS and not flags & ACK:
            self._settings(payload)
        elif kind == PING and not flags & ACK:
            self._out += frame(PING, ACK, 0, payload)
        if kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & END_STREAM):
            self.ended.add(stream)

    def _data(self, stream: int, payload: bytes, found: list[tuple[int, bytes]]) -> None:
        part = self._parts[stream]
        part += payload
        while len(part) >= 5 and len(part) >= 5 + (length := int.from_bytes(part[1:5], "big")):
            found.append((stream, bytes(part[5 : 5 + length])))
            del part[: 5 + length]

    def _credit(self, size: int) -> None:
        """The window of the connection is as large as can be, and filled up before it is half empty."""
        self._received[0] = self._received.get(0, 0) + size
        if self._received[0] > WINDOW // 2:
            self._out += frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self._received.pop(0)))

    def _settings(self, payload: bytes) -> None:
        for at in range(0, len(payload), 6):
            key, value = struct.unpack_from(">HI", payload, at)
            if key == INITIAL_WINDOW_SIZE:
                for stream in self._windows.keys() - {0}:
                    self._windows[stream] += value - self._initial
                self._initial = value
        self._out += frame(SETTINGS, ACK, 0, b"")
