"""The client: when it connects again, and what its frames see of that."""

import asyncio

import grpc
import grpc.aio
import pytest

from gateway.client import DenoiseClient, lost


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
    error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)
    assert lost(error) is again


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
