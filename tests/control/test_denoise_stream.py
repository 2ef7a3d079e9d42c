"""The reader of a stream, with a client that sends as fast as it may."""

import asyncio

import grpc.aio
import pytest

from gateway._pb import denoise_pb2 as pb
from gateway.control import denoise_stream
from gateway.control.denoise_mux import Mux
from gateway.control.stream_account import Account
from gateway.control.stream_session import Session
from tests.control.stream_desk import BEGIN, SECOND, FakeDesk, audio


class Sends:
    """A context whose client has sent all this."""

    def __init__(self, *requests) -> None:
        self._requests = iter([*requests, grpc.aio.EOF])

    async def read(self):
        return next(self._requests)


def muxed(*requests) -> pb.DenoiseMuxRequest:
    return pb.DenoiseMuxRequest(requests=[pb.MuxedRequest(stream_id=1, request=each) for each in requests])


@pytest.mark.parametrize("kind", ["stream", "mux"])
async def test_a_client_that_is_not_read_from_is_not_silent(kind, monkeypatch):
    monkeypatch.setattr(denoise_stream, "FULL_LOOK_S", 0.0)
    desk = FakeDesk(idle_timeout_s=2.0)
    if kind == "stream":
        client = Session(desk, Account("acme"), lambda: None, lambda: None)
        context = Sends(BEGIN, audio(20 * SECOND))
    else:
        client = Mux(desk, Account("acme"), lambda: None)
        context = Sends(muxed(BEGIN, audio(20 * SECOND)))
    reading = asyncio.ensure_future(denoise_stream.read(context, client))
    for _ in range(50):
        for _ in range(5):
            await asyncio.sleep(0)
        desk.wait(0.1)
        client.take()
        client.written()
    assert client.full and client.failure is None and len(desk.sessions) == 1
    reading.cancel()
