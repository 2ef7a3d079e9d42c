"""A whole gateway on loopback with one real media worker, on the event loop that production uses."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvloop

from gateway.app import Gateway
from tests.control.harness import Proxy, datagrams, loopback_config


def pytest_asyncio_loop_factories(config, item):
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    running = Gateway(loopback_config())
    try:
        await asyncio.wait_for(running.start(), 10)
        yield running
    finally:
        await running.stop()


@pytest.fixture
async def proxy(gateway) -> AsyncIterator[Proxy]:
    socket = await datagrams()
    yield Proxy(socket, int(gateway.listening().ng[0].rpartition(":")[2]))
    socket.transport.close()
