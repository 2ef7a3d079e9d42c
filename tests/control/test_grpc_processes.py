"""Several gRPC processes on one port, with real clients, through a real media process."""

import asyncio
import contextlib
import os
import signal
import socket
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import grpc
import grpc.aio
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway._pb import denoise_pb2 as pb
from gateway._pb import denoise_pb2_grpc as pb_grpc
from gateway.app import Gateway
from gateway.client import DenoiseClient, Reconnect
from gateway.config import Config, GrpcConfig
from gateway.control import grpc_processes
from gateway.control.grpc_link import Listens
from gateway.control.grpc_processes import GrpcProcesses
from gateway.errors import ConfigError
from loadtest.processes import free_port
from tests.control.harness import loopback_config

OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]
FIRST = pb.DenoiseRequest(configuration=pb.Configuration(sample_rate_hz=8000, report_frames=True))
PIECE = 320


@contextlib.asynccontextmanager
async def running(slots=800, **keys):
    """A gateway with two gRPC processes."""
    config = loopback_config(slots=slots, port_min=20000, port_max=20999, dry_after_ms=1000.0)
    config = replace(config, grpc=GrpcConfig(**({"listen": "127.0.0.1:0", "processes": 2} | keys)))
    gateway = Gateway(config)
    try:
        await asyncio.wait_for(gateway.start(), 30)
        yield gateway
    finally:
        await gateway.stop()


@contextlib.asynccontextmanager
async def connected(gateway: Gateway):
    """A stub on a connection of its own."""
    target = str(gateway.listening().grpc)
    async with grpc.aio.insecure_channel(target, options=OWN_CONNECTION) as channel:
        yield pb_grpc.DenoiseServiceStub(channel)


async def begin(stub):
    call = stub.DenoiseStream()
    await call.write(FIRST)
    started = await call.read()
    assert started is not grpc.aio.EOF, (await call.code(), await call.details())
    return call


async def until(true) -> None:
    for _ in range(1000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come about")


async def speak(stub, audio: bytes) -> bytes:
    """A whole stream; returns what comes back without the delay."""
    call, heard = await begin(stub), b""
    for at in range(0, len(audio), PIECE):
        await call.write(pb.DenoiseRequest(audio=audio[at : at + PIECE]))
    await call.done_writing()
    while (response := await call.read()) is not grpc.aio.EOF:
        heard += response.audio
    assert await call.code() is grpc.StatusCode.OK
    return heard[-len(audio) :]


async def test_all_processes_serve_one_port_and_give_everything_back():
    audio = np.arange(8000, dtype="<i2").tobytes()
    async with running() as gateway, contextlib.AsyncExitStack() as stack:
        stubs = [await stack.enter_async_context(connected(gateway)) for _ in range(24)]
        calls = [await begin(stub) for stub in stubs]
        await until(lambda: gateway.streams == 24)
        shares = sorted(front.streams for front in gateway._grpc._fronts)
        assert len(shares) == 2 and shares[0] > 0
        assert gateway.calls.legs.in_use(0) == 24 and gateway.metrics.render().count(b"gateway_streams 24.0") == 1
        for call in calls:
            call.cancel()
        assert await asyncio.gather(*(speak(stub, audio) for stub in stubs)) == [audio] * 24
        await until(lambda: gateway.desk.ended == {"CANCELLED": 24, "OK": 24})
        assert gateway.streams == 0 and gateway.calls.legs.in_use(0) == 0


async def test_a_full_gateway_refuses_and_says_so():
    async with running(slots=3) as gateway, connected(gateway) as stub:
        calls = [await begin(stub) for _ in range(3)]
        await until(lambda: gateway.calls.legs.in_use(0) == 3)
        call = stub.DenoiseStream()
        await call.write(FIRST)
        with contextlib.suppress(grpc.aio.AioRpcError):
            while await call.read() is not grpc.aio.EOF:
                pass
        assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and "full" in await call.details()
        for each in calls:
            each.cancel()
        await until(lambda: gateway.calls.legs.in_use(0) == 0)
        assert await speak(stub, bytes(PIECE)) == bytes(PIECE)


async def test_controls_reach_the_media_process():
    async with running() as gateway, connected(gateway) as stub:
        call, reasons = await begin(stub), []
        for change in (None, pb.Controls(denoise=False), pb.Controls(denoise=True)):
            if change is not None:
                await call.write(pb.DenoiseRequest(controls=change))
                await asyncio.sleep(0.1)
            await call.write(pb.DenoiseRequest(audio=bytes(960)))
            reasons.append((await call.read()).frames[-1].reason)
        assert reasons == [pb.REASON_UNSPECIFIED, pb.REASON_ASKED, pb.REASON_UNSPECIFIED]
        call.cancel()


async def test_a_process_that_dies_is_replaced_and_its_clients_lose_no_sample():
    audio = np.arange(24000, dtype="<i2").tobytes()
    async with running() as gateway:

        async def live():
            for number, at in enumerate(range(0, len(audio), PIECE)):
                if number == 20:
                    dying = [front for front in gateway._grpc._fronts if front._streams]
                    assert len(dying) == 1
                    os.kill(dying[0].process.pid, signal.SIGKILL)
                yield audio[at : at + PIECE]
                await asyncio.sleep(0.01)

        async with DenoiseClient(str(gateway.listening().grpc), reconnect=Reconnect(attempts=40)) as reached:
            stream = reached.stream(live(), 8000, align=True)
            assert b"".join([piece async for piece in stream]) == audio
        assert stream.reconnects > 0 and gateway.desk.ended["UNAVAILABLE"] == 1
        await until(lambda: len(gateway._grpc._fronts) == 2 and gateway.calls.legs.in_use(0) == 0)
        assert all(front.process.poll() is None for front in gateway._grpc._fronts)


async def test_streams_survive_their_media_process():
    audio = np.arange(8000, dtype="<i2").tobytes()
    async with running() as gateway:
        await until(lambda: gateway.workers.reserve is not None)

        async def live():
            for number, at in enumerate(range(0, len(audio), PIECE)):
                if number == 10:
                    os.kill(gateway.workers.places[0].link.pid, signal.SIGKILL)
                yield audio[at : at + PIECE]
                await asyncio.sleep(0.02)

        async with DenoiseClient(str(gateway.listening().grpc)) as reached:
            assert b"".join([piece async for piece in reached.stream(live(), 8000, align=True)]) == audio


async def test_draining_refuses_new_streams_in_all_processes_and_waits_for_the_others():
    async with running() as gateway, contextlib.AsyncExitStack() as stack:
        stubs = [await stack.enter_async_context(connected(gateway)) for _ in range(12)]
        calls = [await begin(stub) for stub in stubs]
        await until(lambda: gateway.streams == 12)
        draining = asyncio.ensure_future(gateway.drain())
        await asyncio.sleep(0.3)
        for stub in stubs:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.GetInfo(pb.GetInfoRequest())
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(str(gateway.listening().grpc)))
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING and not draining.done()
        for call in calls:
            await call.done_writing()
            while await call.read() is not grpc.aio.EOF:
                pass
        await asyncio.wait_for(draining, 5)


async def test_a_taken_port_stops_the_start():
    port = free_port(socket.SOCK_STREAM)
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(ConfigError, match=f"grpc.listen: 127.0.0.1:{port} cannot be listened on"):
            async with running(listen=f"127.0.0.1:{port}"):
                pass


async def test_files_that_cannot_be_used_stop_the_start_and_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"grpc.tls_certificate: .*nowhere"):
        async with running(tls_certificate=str(tmp_path / "nowhere"), tls_key=str(tmp_path / "nowhere")):
            pass


class FakeFront:
    """A process that says this, at once."""

    says: list[Listens]

    def __init__(self, config, rows, ended, lost) -> None:
        self.listens = asyncio.get_running_loop().create_future()
        self.listens.set_result(self.says.pop(0))
        self.process = SimpleNamespace(pid=1, kill=lambda: None)
        self.closed = False

    def tell(self, message) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    async def reap(self) -> None:
        pass


async def test_a_successor_that_cannot_listen_is_named_and_tried_again(monkeypatch, caplog):
    monkeypatch.setattr(grpc_processes, "Front", FakeFront)
    monkeypatch.setattr(
        FakeFront, "says", [Listens("x"), Listens("", "no such token file"), Listens("x")], raising=False
    )
    rows = SimpleNamespace(loads=lambda: [])
    processes = GrpcProcesses(Config(grpc=GrpcConfig(listen="127.0.0.1:0")), rows, Counter(), dict)
    waits: list[float] = []
    processes._backoff = SimpleNamespace(died=lambda now: waits.append(now) or 0.0)
    first = processes._spawn()
    processes._lost(first)
    await until(lambda: not processes._tasks)
    assert len(waits) == 2 and len(processes._fronts) == 1 and not FakeFront.says
    assert [record.error for record in caplog.records if hasattr(record, "error")] == ["no such token file"]
    await processes.stop()


async def test_a_successor_that_cannot_be_started_is_tried_again(monkeypatch, caplog):
    refused = [None, OSError("no more processes"), OSError("no more processes"), None]

    class Spawned(FakeFront):
        def __init__(self, *told) -> None:
            if (error := refused.pop(0)) is not None:
                raise error
            super().__init__(*told)

    monkeypatch.setattr(grpc_processes, "Front", Spawned)
    monkeypatch.setattr(FakeFront, "says", [Listens("x"), Listens("x")], raising=False)
    processes = GrpcProcesses(
        Config(grpc=GrpcConfig(listen="127.0.0.1:0")), SimpleNamespace(loads=lambda: []), Counter(), dict
    )
    waits: list[float] = []
    processes._backoff = SimpleNamespace(died=lambda now: waits.append(now) or 0.0)
    processes._lost(processes._spawn())
    await until(lambda: not processes._tasks)
    assert len(waits) == 3 and len(processes._fronts) == 1 and not refused
    assert [r.reason for r in caplog.records if hasattr(r, "reason")] == ["no more processes"] * 2
    await processes.stop()


async def test_thousands_of_broken_streams_leave_nothing():
    async with running() as gateway, contextlib.AsyncExitStack() as stack:
        stubs = [await stack.enter_async_context(connected(gateway)) for _ in range(8)]

        async def break_some(stub, count: int) -> None:
            for _ in range(count):
                call = stub.DenoiseStream()
                await call.write(FIRST)
                await call.write(pb.DenoiseRequest(audio=bytes(PIECE)))
                await call.read()
                call.cancel()

        async def many(count: int) -> list[int]:
            await asyncio.gather(*(break_some(stub, count // 40) for stub in stubs for _ in range(5)))
            await until(lambda: gateway.streams == 0 and gateway.calls.legs.in_use(0) == 0)
            pids = [os.getpid(), *(front.process.pid for front in gateway._grpc._fronts)]
            return [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids]

        before = await many(400)
        after = await many(1200)
        assert all(late <= early + 4 for early, late in zip(before, after, strict=True))
