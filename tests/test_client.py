"""The client: when it connects again, and what its frames see of that."""

import asyncio
from types import SimpleNamespace

import grpc
import grpc.aio
import pytest

from gateway._pb import denoise_pb2 as pb
from gateway.client import DenoiseClient, DenoiseError, Reconnect, lost


def error(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)


@pytest.mark.parametrize(
    ("code", "details", "again"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Socket closed", True),
        (grpc.StatusCode.CANCELLED, "", True),
        (grpc.StatusCode.INTERNAL, "Internal error from Core", True),
        (grpc.StatusCode.INTERNAL, "a fault of the gateway: see its log", False),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "full", False),
        (grpc.StatusCode.UNAUTHENTICATED, "no token", False),
    ],
)
def test_only_a_gateway_that_is_gone_is_tried_again(code, details, again):
    assert lost(error(code, details)) is again


class OverCall:
    """A call that takes one write more, and is over then."""

    def __init__(self, responses) -> None:
        self.writes, self._responses = 0, responses

    async def write(self, request) -> None:
        self.writes += 1
        if self.writes > 1:
            raise asyncio.InvalidStateError("RPC already finished.")

    async def done_writing(self) -> None:
        pass

    def cancel(self) -> None:
        pass

    async def __aiter__(self):
        for response in self._responses:
            yield response
        raise error(grpc.StatusCode.UNAVAILABLE, "Socket closed")


async def test_a_change_while_the_gateway_is_away_holds_nobody_up_and_is_not_forgotten():
    started = pb.DenoiseResponse(started=pb.Started(delay_samples=0))
    call = OverCall([started, pb.DenoiseResponse(audio=bytes(2))])
    async with DenoiseClient("127.0.0.1:1", reconnect=Reconnect(attempts=0)) as client:
        client.stub = SimpleNamespace(DenoiseStream=lambda metadata: call)
        stream = client.stream([bytes(2)], 8000)

        async def listen() -> None:
            async for _ in stream:
                await stream.change(level=50)

        with pytest.raises(DenoiseError, match="UNAVAILABLE"):
            await asyncio.wait_for(listen(), 5)
    assert call.writes > 1 and stream._changes.level == 50


async def test_a_connection_that_ends_does_not_end_the_callers_frames():
    async def frames():
        for number in range(3):
            await asyncio.sleep(0.01)
            yield bytes([number])

    async with DenoiseClient("127.0.0.1:1") as client:
        stream = client.stream(frames(), 8000)
        waiting = asyncio.ensure_future(stream._next())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert [await stream._next() for _ in range(4)] == [b"\0", b"\1", b"\2", None]
