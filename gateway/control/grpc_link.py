"""What the control process and a gRPC process beside it say to each other, over one SOCK_SEQPACKET socket.

An `OpenStream` carries the media process's end of the stream's socket (SCM_RIGHTS); audio then goes between the gRPC
process and the media process, and never through the control process.
"""

import socket

import msgspec

from gateway.control.link import Link
from gateway.control.stream_rows import Treatment
from gateway.messages import Payload


class OpenStream(msgspec.Struct, frozen=True, tag=True):
    """A row is wanted; its socket goes along."""

    number: int
    label: str
    payloads: tuple[Payload, ...]
    treatment: Treatment


class ChangeStream(msgspec.Struct, frozen=True, tag=True):
    """Other controls."""

    number: int
    treatment: Treatment


class CloseStream(msgspec.Struct, frozen=True, tag=True):
    """The row is not needed any more."""

    number: int


class Listens(msgspec.Struct, frozen=True, tag=True):
    """The process serves; or it cannot, and why."""

    address: str
    error: str = ""


class Report(msgspec.Struct, frozen=True, tag=True):
    """A few times a second."""

    streams: int
    """Now."""
    ended: dict[str, int]
    """Since the last report, by gRPC status."""


class Refused(msgspec.Struct, frozen=True, tag=True):
    """There is no row for this stream."""

    number: int
    status: str
    message: str


class State(msgspec.Struct, frozen=True, tag=True):
    """A few times a second: what a gRPC process has to know of the gateway."""

    delays: dict[int, int]
    """Of the engines, in samples, by rate in Hz."""
    busy: float
    """Of the busiest media process, 0..1."""
    legs: int
    """Of all media processes."""
    draining: bool


Up = OpenStream | ChangeStream | CloseStream | Listens | Report
Down = Refused | State
encoder = msgspec.msgpack.Encoder()
ups: msgspec.msgpack.Decoder[Up] = msgspec.msgpack.Decoder(Up)
downs: msgspec.msgpack.Decoder[Down] = msgspec.msgpack.Decoder(Down)


def say(link: Link, message: Up | Down, along: socket.socket | None = None) -> None:
    """Send a message; `along` is closed when it has gone."""
    link.send(encoder.encode(message), () if along is None else (along,), give=True)
