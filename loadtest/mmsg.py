"""Many datagrams in one system call: Linux `sendmmsg` and `recvmmsg` through ctypes.

The generator has one core for what fills another core in the gateway, so it cannot afford a Python call a packet.
Packets live in NumPy rows that the kernel reads and writes in place; arrival times come from the kernel too
(SO_TIMESTAMPNS), so a generator that looks late does not make the gateway look slow.
"""

import ctypes
import socket
import struct
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Address = tuple[str, int]

SO_TIMESTAMPNS = 35
"""Missing from the `socket` module; asm-generic/socket.h."""
ROW_BYTES = 256
CONTROL_BYTES = 32
"""One control message with a timespec: 16 bytes of header, 16 of time."""
RECEIVE_BUFFER_BYTES = 4 << 20

_libc = ctypes.CDLL(None, use_errno=True)
_sendmmsg, _recvmmsg = _libc.sendmmsg, _libc.recvmmsg
_sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
_recvmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)

MESSAGE = np.dtype(
    {
        "names": ["name", "name_bytes", "iov", "iov_count", "control", "control_bytes", "flags", "length"],
        "formats": [np.uintp, np.uint32, np.uintp, np.uintp, np.uintp, np.uintp, np.int32, np.uint32],
        "offsets": [0, 8, 16, 24, 32, 40, 48, 56],
        "itemsize": 64,
    }
)
"""`struct mmsghdr` on 64-bit Linux."""


def endpoint(host: str) -> socket.socket:
    """A non-blocking UDP socket on a free port of `host`, with the kernel's arrival times switched on."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    sock.setblocking(False)
    sock.bind((host, 0))
    return sock


def monotonic_offset_ns() -> int:
    """What to subtract from the kernel's arrival times to get the monotonic clock."""
    return time.time_ns() - time.monotonic_ns()


class Outbox:
    """Packets that leave one socket, each to its own address, over and over with new contents."""

    def __init__(self, sock: socket.socket, packets: npt.NDArray[np.void], addresses: Sequence[Address]) -> None:
        """packets: structured [n], contiguous, changed in place between sends; addresses: IPv4, one a packet."""
        self._fd = sock.fileno()
        self._names = np.frombuffer(b"".join(map(_sockaddr, addresses)), np.uint8).reshape(-1, 16)
        self._messages, self._vectors = _messages(packets, self._names)
        self._at = self._messages.ctypes.data

    def send(self, first: int, count: int) -> int:
        """Send packets `first` to `first + count`; returns how many the kernel took, from the first on."""
        sent = _sendmmsg(self._fd, self._at + first * MESSAGE.itemsize, count, socket.MSG_DONTWAIT)
        return max(int(sent), 0)


class Inbox:
    """A slab that datagrams of any socket are read into; rows [0, n) are valid after each fill."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.slab = np.zeros((rows, ROW_BYTES), np.uint8)
        self._names = np.zeros((rows, 16), np.uint8)
        self._control = np.zeros((rows, CONTROL_BYTES // 8), np.int64)
        self._messages, self._vectors = _messages(self.slab, self._names)
        self._messages["control"] = self._control.ctypes.data + np.arange(rows) * CONTROL_BYTES
        self._at = self._messages.ctypes.data
        self._ports = self._names.view(">u2")[:, 1]

    def fill(self, sockets: Sequence[socket.socket]) -> int:
        """Read what waits on these sockets, as far as there is room; returns the number of datagrams."""
        self._messages["control_bytes"] = CONTROL_BYTES
        filled = 0
        for sock in sockets:
            if filled == self.rows:
                break
            at = self._at + filled * MESSAGE.itemsize
            got = _recvmmsg(sock.fileno(), at, self.rows - filled, socket.MSG_DONTWAIT, None)
            filled += max(int(got), 0)
        return filled

    def lengths(self, count: int) -> npt.NDArray[np.uint32]:
        """Bytes of each datagram, at most ROW_BYTES."""
        return self._messages["length"][:count]

    def ports(self, count: int) -> npt.NDArray[np.uint16]:
        """Source port of each datagram."""
        return self._ports[:count]

    def arrivals_ns(self, count: int) -> npt.NDArray[np.int64]:
        """When the kernel queued each datagram, in nanoseconds of the wall clock."""
        return self._control[:count, 2] * 1_000_000_000 + self._control[:count, 3]


def _messages(rows: np.ndarray, names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Headers [n] that point at each row and its name, and the vectors they point through (keep both alive)."""
    count, row_bytes = len(rows), rows.nbytes // max(len(rows), 1)
    vectors = np.zeros((count, 2), np.uintp)
    vectors[:, 0] = rows.ctypes.data + np.arange(count) * row_bytes
    vectors[:, 1] = row_bytes
    messages = np.zeros(count, MESSAGE)
    messages["name"] = names.ctypes.data + np.arange(count) * 16
    messages["name_bytes"] = 16
    messages["iov"] = vectors.ctypes.data + np.arange(count) * 16
    messages["iov_count"] = 1
    return messages, vectors


def _sockaddr(address: Address) -> bytes:
    host, port = address
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)
