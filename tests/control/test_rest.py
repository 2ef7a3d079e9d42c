"""`POST /v1/denoise` on a running gateway."""

import asyncio
import contextlib
import errno
import io
import json
import os
import socket
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import numpy as np
import pytest
import soundfile

from gateway.app import Gateway
from gateway.config import AdminConfig, GrpcConfig
from gateway.control import stream_session
from tests.control.harness import loopback_config
from tests.control.stream_desk import spoil

TOKEN = "a-secret-of-the-test"


def recording(rate=8000, seconds=3, channels=1) -> tuple[np.ndarray, bytes]:
    pcm = np.random.default_rng(1).integers(-9000, 9000, (rate * seconds, channels)).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(file, pcm, rate, format="WAV")
    return pcm, file.getvalue()


async def post(gateway, body, query="", **headers) -> tuple[int, bytes]:
    url = f"http://{gateway.listening().admin}/v1/denoise{query}"
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as answer:
        return answer.status, await answer.read()


@contextlib.asynccontextmanager
async def running(upload_max_mb=64, **grpc) -> AsyncIterator[Gateway]:
    admin = AdminConfig(listen="127.0.0.1:0", upload_max_mb=upload_max_mb)
    gateway = Gateway(replace(loopback_config(), admin=admin, grpc=GrpcConfig(**grpc)))
    try:
        await asyncio.wait_for(gateway.start(), 20)
        yield gateway
    finally:
        await gateway.stop()


async def connect(gateway, body: bytes, length: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that says it sends `length` bytes and has sent some, and takes little at a time."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    host, port = gateway.listening().admin.split(":")
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=raw, limit=1024)
    writer.write(f"POST /v1/denoise HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n".encode() + body)
    await writer.drain()
    return reader, writer


def narrow(gateway) -> None:
    """Let the kernel keep little of what a client does not read."""
    for site in gateway._runner.sites:
        for listening in site._server.sockets:
            with socket.socket(fileno=os.dup(listening.fileno())) as ours:
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


async def ended(gateway) -> dict[str, int]:
    """How streams have ended, once all have and none of their sockets is left."""
    for _ in range(400):
        if gateway.desk.ended and not gateway.desk.sessions:
            assert not gateway.stream_legs and not gateway.calls.legs.in_use(0)
            return dict(gateway.desk.ended)
        await asyncio.sleep(0.01)
    raise AssertionError(f"{len(gateway.desk.sessions)} streams are left")


@pytest.mark.parametrize("rate", [8000, 16000])
async def test_a_recording_comes_back_with_the_same_length_and_place(gateway, rate):
    pcm, body = recording(rate)
    status, answer = await post(gateway, body, "?bypass=on")
    heard, found = soundfile.read(io.BytesIO(answer), dtype="int16")
    assert (status, found) == (200, rate) and np.array_equal(heard, pcm[:, 0])
    assert not gateway.desk.sessions and gateway.desk.ended == {"OK": 1}


@pytest.mark.parametrize(
    ("body", "query", "status", "hint"),
    [
        (b"nonsense", "", 400, b"no WAV file"),
        (recording(channels=2)[1], "", 400, b"one request a channel"),
        (recording(11025)[1], "", 400, b"8000, 16000 or 48000"),
        (recording()[1], "?level=101", 400, b"0 to 100"),
        (recording()[1], "?level=" + "0" * 5000, 400, b"0 to 100"),
        (recording()[1], "?loud=1", 400, b"known are level"),
    ],
)
async def test_what_is_wrong_is_said(gateway, body, query, status, hint):
    found, answer = await post(gateway, body, query)
    assert found == status and hint in answer
    assert not gateway.desk.sessions


@pytest.mark.parametrize("keep", [0, 3, 12, 35, 44])
async def test_a_recording_that_is_cut_is_answered_or_refused(gateway, keep):
    status, answer = await post(gateway, recording(seconds=1)[1][:keep])
    if keep < 44:
        assert status == 400 and json.loads(answer)["error"]
    else:
        assert status == 200 and len(soundfile.read(io.BytesIO(answer))[0]) == 0
    assert await ended(gateway) == {"OK" if keep == 44 else "INVALID_ARGUMENT": 1}


async def test_a_header_that_promises_more_than_there_is_gives_what_there_is(gateway):
    pcm, body = recording(seconds=1)
    status, answer = await post(gateway, body[:-801], "?bypass=on")
    heard = soundfile.read(io.BytesIO(answer), dtype="int16")[0]
    assert status == 200 and np.array_equal(heard, pcm[: len(pcm) - 401, 0])


async def test_what_is_too_long_is_refused_with_its_limit_whether_it_says_so_or_not():
    async def pieces():
        for _ in range(20):
            yield bytes(100_000)

    async with running(upload_max_mb=1) as gateway:
        for body in (bytes(1_000_001), pieces()):
            status, answer = await post(gateway, body)
            assert status == 413
            assert json.loads(answer) == {
                "error": "the recording is longer than 1000000 bytes",
                "hint": "send it in parts, or raise admin.upload_max_mb",
            }
        assert await ended(gateway) == {"INVALID_ARGUMENT": 2}


async def test_tokens_are_needed_where_there_are_any_and_limit_the_streams(tmp_path):
    tokens = tmp_path / "tokens.yaml"
    tokens.write_text(f"{TOKEN}: {{name: tester, max_streams: 1}}\n")
    body = recording(seconds=1)[1]
    async with running(tokens=str(tokens)) as gateway:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
            status, answer = await post(gateway, body, **headers)
            assert status == 401 and json.loads(answer)["hint"] == "send the header 'Authorization: Bearer TOKEN'"
        assert (await post(gateway, body, Authorization=f"Bearer {TOKEN}"))[0] == 200
        url = f"http://{gateway.listening().admin}/v1/denoise"
        account = await gateway.accounts.of(f"Bearer {TOKEN}")
        account.enter()
        status, answer = await post(gateway, body, Authorization=f"Bearer {TOKEN}")
        assert status == 503 and "tester has 1 streams" in json.loads(answer)["error"], url
        account.leave()
        assert gateway.desk.ended == {"OK": 1} and account.streams == 0


async def test_a_client_that_vanishes_while_it_sends_leaves_nothing(gateway):
    before = len(os.listdir("/proc/self/fd"))
    _, writer = await connect(gateway, recording(seconds=1)[1], 10_000_000)
    for _ in range(200):
        if gateway.desk.sessions:
            break
        await asyncio.sleep(0.01)
    assert gateway.desk.sessions
    writer.transport.abort()
    assert await ended(gateway) == {"CANCELLED": 1}
    assert len(os.listdir("/proc/self/fd")) <= before


async def test_a_client_that_vanishes_while_it_listens_leaves_nothing(gateway, caplog):
    before = len(os.listdir("/proc/self/fd"))
    narrow(gateway)
    body = recording(rate=16000, seconds=20)[1]
    reader, writer = await connect(gateway, body, len(body))
    assert (await reader.read(15)) == b"HTTP/1.1 200 OK"
    writer.transport.abort()
    assert await ended(gateway) == {"CANCELLED": 1}
    assert len(os.listdir("/proc/self/fd")) <= before
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_client_that_does_not_read_is_cut_off(gateway, monkeypatch):
    monkeypatch.setattr(stream_session, "STALL_S", 0.3)
    narrow(gateway)
    body = recording(rate=16000, seconds=20)[1]
    reader, writer = await connect(gateway, body, len(body))
    assert await ended(gateway) == {"RESOURCE_EXHAUSTED": 1}
    with contextlib.suppress(ConnectionError):
        assert len(await reader.read(-1)) < len(body)
    writer.close()


@pytest.mark.parametrize("method", ["handle", "take"])
async def test_a_fault_of_ours_cuts_the_answer_off_at_once(gateway, monkeypatch, method):
    spoil(monkeypatch, method, label="POST /v1/denoise")
    with pytest.raises(aiohttp.ClientError):
        await asyncio.wait_for(post(gateway, recording()[1]), 5)
    assert await ended(gateway) == {"INTERNAL": 1}


async def test_a_client_that_stops_sending_is_told_and_let_go():
    async with running(idle_timeout_s=0.2) as gateway:
        reader, writer = await connect(gateway, recording(seconds=1)[1], 10_000_000)
        assert b"408" in await asyncio.wait_for(reader.readline(), 5)
        assert set(await ended(gateway)) <= {"INVALID_ARGUMENT", "DEADLINE_EXCEEDED"}
        writer.close()
        await writer.wait_closed()


async def test_an_upload_that_cannot_be_kept_is_a_fault_of_ours(monkeypatch):
    def full(file, piece):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "write", full)
    async with running() as gateway:
        status, answer = await post(gateway, recording()[1])
        assert (status, json.loads(answer)["error"]) == (500, "a fault of the gateway: see its log")
        assert await ended(gateway) == {"INTERNAL": 1}
