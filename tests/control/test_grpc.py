"""DenoiseStream with real clients over TLS, through a real media process."""

import asyncio
import contextlib
import json
import os
import random
import socket
import time
from dataclasses import replace
from pathlib import Path

import grpc
import grpc.aio
import jwt
import numpy as np
import pytest
import soundfile
from cryptography.hazmat.primitives.asymmetric import rsa
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from gateway._pb import denoise_pb2 as pb
from gateway.app import Gateway
from gateway.client import DenoiseClient, DenoiseError, Reconnect, SyncDenoiseClient
from gateway.config import EngineConfig, GrpcConfig
from gateway.denoise.engines import build
from gateway.file import denoise_pcm
from loadtest import h2
from loadtest.processes import free_port
from tests.control import certificates
from tests.control.harness import loopback_config
from tests.control.stream_desk import BAD, spoil

AUDIO = Path(__file__).parents[1] / "audio" / "noisy_8k.wav"
FIRST = pb.DenoiseRequest(configuration=pb.Configuration(sample_rate_hz=8000))
TOKEN = "a-secret-of-the-test"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = certificates.make(tmp_path_factory.mktemp("tls"))
    (made / "tokens.yaml").write_text(f"{TOKEN}: {{name: tester, max_streams: 3}}\n")
    return made


@contextlib.asynccontextmanager
async def running(folder: Path, engine: str = "passthrough", **grpc_keys):
    """A gateway with TLS."""
    config = loopback_config(port_min=20000, port_max=20999, dry_after_ms=1000.0)  # on busy machines too
    keys = {
        "listen": "127.0.0.1:0",
        "tls_certificate": str(folder / "server.pem"),
        "tls_key": str(folder / "server.key"),
    }
    config = replace(config, grpc=GrpcConfig(**(keys | grpc_keys)), engine=EngineConfig(kind=engine))
    gateway = Gateway(config)
    try:
        await asyncio.wait_for(gateway.start(), 20)
        yield gateway
    finally:
        await gateway.stop()


def client(gateway: Gateway, folder: Path, **keys) -> DenoiseClient:
    return DenoiseClient(str(gateway.listening().grpc), ca=folder / "ca.pem", **keys)


async def rest(call) -> list:
    """All responses that are still to come."""
    found = []
    while (response := await call.read()) is not grpc.aio.EOF:
        found.append(response)
    if await call.code() is not grpc.StatusCode.OK:
        raise DenoiseError((await call.code()).name, await call.details())
    return found


async def ending(call) -> tuple[str, str]:
    """The status that a call ends with, and its message."""

    async def last() -> None:
        try:
            async for _ in call:
                pass
        except grpc.aio.UsageError:
            await rest(call)

    with contextlib.suppress(DenoiseError, grpc.aio.AioRpcError):
        await asyncio.wait_for(last(), 10)
    return (await call.code()).name, await call.details()


def pieces(audio: bytes, size: int) -> list[bytes]:
    return [audio[at : at + size] for at in range(0, len(audio), size)]


@pytest.mark.parametrize("samples", [160, 80, 480, 1000, 37])
async def test_the_samples_are_those_of_the_file_command_whatever_the_frames(folder, samples):
    pcm, rate = soundfile.read(AUDIO, dtype="int16")
    pcm = pcm[: 4 * rate]
    async with running(folder, engine="ort") as gateway, client(gateway, folder) as reached:
        stream = reached.stream(pieces(pcm.tobytes(), 2 * samples), rate, align=True, bypass="off")
        heard = b"".join([audio async for audio in stream])
        engines = build(gateway._config.engine, slots=2)
    controls = replace(gateway._config.denoise, bypass="off")
    wanted = denoise_pcm(pcm[:, None].astype(np.float32) / 32768, rate, "L16", controls, engines, lambda _: None)
    assert np.array_equal(np.frombuffer(heard, "<i2"), np.rint(wanted[:, 0] * 32768)), stream.summary
    assert stream.summary.seconds == 4.0 and stream.summary.wet_seconds > 3.9 and not stream.summary.lost_frames
    assert stream.summary.snr_after_db > stream.summary.snr_before_db + 3


async def test_controls_change_in_mid_stream_and_frames_are_reported(folder):
    async with running(folder) as gateway, client(gateway, folder) as reached:
        call = reached.stub.DenoiseStream()
        configuration = pb.Configuration(sample_rate_hz=8000, report_frames=True)
        configuration.controls.intensity_ratio = 0.5
        await call.write(pb.DenoiseRequest(configuration=configuration))
        started = (await call.read()).started
        assert started.configuration.controls.level == 50 and started.configuration.encoding == pb.ENCODING_S16LE
        reasons = []
        for change in (None, pb.Controls(denoise=False), pb.Controls(denoise=True)):
            if change is not None:
                await call.write(pb.DenoiseRequest(controls=change))
            await call.write(pb.DenoiseRequest(audio=bytes(960)))
            response = await call.read()
            assert response.delay_samples == started.delay_samples and len(response.frames) == 6
            reasons.append(response.frames[-1].reason)
        await call.done_writing()
        assert reasons == [pb.REASON_UNSPECIFIED, pb.REASON_ASKED, pb.REASON_UNSPECIFIED]
        last = (await rest(call))[-1]
        assert last.summary.dry[0].reason == pb.REASON_ASKED


@pytest.mark.parametrize(
    ("requests", "status", "hint"),
    [
        ([pb.DenoiseRequest(audio=bytes(160))], "INVALID_ARGUMENT", "first message must be the configuration"),
        ([FIRST, FIRST], "INVALID_ARGUMENT", "send controls"),
        ([FIRST, pb.DenoiseRequest(audio=bytes(161))], "INVALID_ARGUMENT", "whole ones"),
        ([FIRST, pb.DenoiseRequest()], "INVALID_ARGUMENT", "empty"),
        ([FIRST, pb.DenoiseRequest(controls=pb.Controls(level=101))], "INVALID_ARGUMENT", "0 (nothing"),
        ([pb.DenoiseRequest(configuration=pb.Configuration(sample_rate_hz=11025))], "INVALID_ARGUMENT", "8000, 16000"),
        (
            [pb.DenoiseRequest(configuration=pb.Configuration(sample_rate_hz=8000, model="x"))],
            "INVALID_ARGUMENT",
            "not loaded",
        ),
        ([FIRST, pb.DenoiseRequest(audio=bytes(2 << 20))], "RESOURCE_EXHAUSTED", "larger than max"),
        ([], "INVALID_ARGUMENT", "configuration"),
    ],
)
async def test_what_a_client_does_wrong_is_said_in_its_status(folder, requests, status, hint):
    async with running(folder) as gateway, client(gateway, folder) as reached:
        call = reached.stub.DenoiseStream(iter(requests))
        found, message = await ending(call)
        assert found == status and hint in message
        await gone(gateway)


async def gone(gateway: Gateway) -> None:
    """Nothing of any stream is left."""
    for _ in range(500):
        if not gateway.desk.sessions and not gateway.calls.legs.in_use(0):
            assert not gateway.desk.watched and not len(gateway.stream_legs)
            return
        await asyncio.sleep(0.01)
    raise AssertionError("a stream has left something behind")


async def test_a_message_that_is_no_protobuf_ends_its_stream_only(folder):
    async with running(folder) as gateway, client(gateway, folder) as reached:
        raw = reached._channel.stream_stream("/denoise.v1.DenoiseService/DenoiseStream")
        status, _ = await ending(raw(iter([b"\xff\xff\xff\xff"])))
        assert status != "OK"
        assert len([a async for a in reached.stream([bytes(160)] * 4, 8000)]) > 0
        await gone(gateway)


async def test_tokens_are_needed_and_limit_the_streams(folder):
    async with running(folder, tokens=str(folder / "tokens.yaml")) as gateway:
        for token in (None, "wrong"):
            async with client(gateway, folder, token=token) as stranger:
                with pytest.raises(DenoiseError, match="UNAUTHENTICATED"):
                    await stranger.info()
        async with client(gateway, folder, token=TOKEN) as reached:
            assert (await reached.info()).max_streams == 3
            calls = [reached.stub.DenoiseStream(metadata=reached.metadata) for _ in range(3)]
            for call in calls:
                await call.write(FIRST)
                await call.read()
            fourth = reached.stub.DenoiseStream(iter([FIRST]), metadata=reached.metadata)
            assert await ending(fourth) == (
                "RESOURCE_EXHAUSTED",
                "tester has 3 streams, all it may: end some, or ask for a higher max_streams",
            )
            for call in calls:
                call.cancel()
            await gone(gateway)
            assert [a async for a in reached.stream([bytes(160)], 8000)]


async def test_signed_tokens_are_checked_against_a_jwks(folder):
    keys = {kid: rsa.generate_private_key(65537, 2048) for kid in ("ours", "theirs")}
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(keys["ours"].public_key())) | {"kid": "ours", "alg": "RS256"}
    (folder / "jwks.json").write_text(json.dumps({"keys": [public]}))

    def token(kid="ours", key="ours", **claims):
        body = {"sub": "acme", "exp": time.time() + 60, "aud": "denoise", **claims}
        return jwt.encode(body, keys[key], "RS256", headers={"kid": kid})

    async with running(folder, jwks=str(folder / "jwks.json"), jwks_audience="denoise") as gateway:
        async with client(gateway, folder, token=token(max_streams=7)) as reached:
            assert (await reached.info()).max_streams == 7
        unsigned = jwt.encode({"sub": "acme", "exp": time.time() + 60, "aud": "denoise"}, None, "none")
        bad = [token(key="theirs"), token(kid="theirs"), token(exp=1), token(aud="other"), "nonsense", unsigned]
        for wrong in bad:
            async with client(gateway, folder, token=wrong) as reached:
                with pytest.raises(DenoiseError, match="UNAUTHENTICATED"):
                    await reached.info()


async def test_mutual_tls_serves_only_whom_the_authority_knows(folder):
    async with running(folder, tls_client_ca=str(folder / "ca.pem")) as gateway:
        own = {"certificate": folder / "client.pem", "key": folder / "client.key"}
        async with client(gateway, folder, **own) as reached:
            assert (await reached.info()).models == ["passthrough"]
        async with client(gateway, folder) as stranger:
            with pytest.raises(DenoiseError, match="UNAVAILABLE"):
                await stranger.info()


async def test_a_fault_of_ours_ends_its_own_stream_without_words_of_pythons(folder, monkeypatch):
    spoil(monkeypatch, "take")
    async with running(folder) as gateway, client(gateway, folder) as reached:
        other = reached.stub.DenoiseStream()
        await other.write(FIRST)
        await other.read()
        bad = reached.stub.DenoiseStream(iter([BAD]))
        assert await ending(bad) == ("INTERNAL", "a fault of the gateway: see its log")
        await other.write(pb.DenoiseRequest(audio=bytes(320)))
        await other.done_writing()
        assert (await ending(other))[0] == "OK"
        await gone(gateway)
        assert gateway.desk.ended == {"INTERNAL": 1, "OK": 1}


async def test_silent_clients_are_let_go(folder):
    async with running(folder, idle_timeout_s=0.3) as gateway, client(gateway, folder) as reached:
        for begun in ([], [FIRST]):
            call = reached.stub.DenoiseStream()
            for request in begun:
                await call.write(request)
            status, message = await ending(call)
            assert status == "DEADLINE_EXCEEDED" and "send audio" in message
        assert (await ending(reached.stub.DenoiseMux()))[0] == "DEADLINE_EXCEEDED"
        await gone(gateway)


async def test_a_client_that_does_not_read_is_ended_and_its_queue_stays_bounded(folder):
    async with running(folder, queue_ms=1000, tls_certificate=None, tls_key=None) as gateway:
        port = int(str(gateway.listening().grpc).rpartition(":")[2])
        connection = await asyncio.to_thread(h2.Connection, "127.0.0.1", port, 1000)
        stream = connection.open("/denoise.v1.DenoiseService/DenoiseStream")
        connection.send(stream, FIRST.SerializeToString())
        for _ in range(300):
            connection.send(stream, pb.DenoiseRequest(audio=bytes(320)).SerializeToString())
            connection.flush()
            connection.receive()
            await asyncio.sleep(0.01)
            assert max((each.stream.unread_s for each in gateway.desk.sessions if each.stream), default=0.0) < 1.2
        assert gateway.desk.ended == {"RESOURCE_EXHAUSTED": 1}
        await gone(gateway)
        connection.widen(stream)
        for _ in range(300):
            connection.flush()
            connection.receive()
            if stream in connection.ended:
                break
            await asyncio.sleep(0.01)
        connection.socket.close()
    assert stream in connection.ended


async def test_calls_share_one_stream_and_an_error_ends_only_its_own(folder):
    async with running(folder) as gateway, client(gateway, folder) as reached:
        call = reached.stub.DenoiseMux()
        message = pb.DenoiseMuxRequest()
        for number in range(20):
            message.requests.add(stream_id=number, request=FIRST)
            message.requests.add(stream_id=number, request=pb.DenoiseRequest(audio=bytes([number]) * 320))
        message.requests.add(stream_id=7, request=pb.DenoiseRequest(audio=b"x"))
        message.requests.add(stream_id=99, request=pb.DenoiseRequest(audio=bytes(2)))
        await call.write(message)
        await call.write(pb.DenoiseMuxRequest(requests=[pb.MuxedRequest(stream_id=3, end=True)]))
        await call.done_writing()
        audio, summaries, errors = {}, set(), {}
        for response in await rest(call):
            for each in response.responses:
                if each.HasField("error"):
                    errors[each.stream_id] = (each.error.code, each.error.message)
                elif each.response.HasField("summary"):
                    summaries.add(each.stream_id)
                else:
                    audio[each.stream_id] = audio.get(each.stream_id, b"") + each.response.audio
        assert set(errors) == {7, 99} and all(code == 3 for code, _ in errors.values())
        assert summaries == set(range(20)) - {7}
        assert all(audio[number][160:] == bytes([number]) * 320 for number in summaries)
        await gone(gateway)


async def test_health_and_reflection_answer_and_draining_refuses_new_streams(folder):
    async with running(folder) as gateway, client(gateway, folder) as reached:
        health = health_pb2_grpc.HealthStub(reached._channel)
        asked = health_pb2.HealthCheckRequest(service="denoise.v1.DenoiseService")
        assert (await health.Check(asked)).status == health_pb2.HealthCheckResponse.SERVING
        reflected = reflection_pb2_grpc.ServerReflectionStub(reached._channel)
        question = reflection_pb2.ServerReflectionRequest(list_services="")
        async for answer in reflected.ServerReflectionInfo(iter([question])):
            assert "denoise.v1.DenoiseService" in {each.name for each in answer.list_services_response.service}
        call = reached.stub.DenoiseStream()
        await call.write(FIRST)
        await call.read()
        draining = asyncio.ensure_future(gateway.drain())
        await asyncio.sleep(0.05)
        assert (await health.Check(asked)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert (await ending(reached.stub.DenoiseStream(iter([FIRST]))))[0] == "UNAVAILABLE"
        await call.write(pb.DenoiseRequest(audio=bytes(320)))
        await call.done_writing()
        assert (await ending(call))[0] == "OK"
        await asyncio.wait_for(draining, 5)


async def test_streams_survive_their_media_process(folder):
    async with running(folder) as gateway, client(gateway, folder) as reached:
        for _ in range(500):
            if gateway.workers.reserve is not None:
                break
            await asyncio.sleep(0.02)
        audio = np.arange(8000, dtype="<i2").tobytes()

        async def live():
            for number, piece in enumerate(pieces(audio, 320)):
                if number == 10:
                    os.kill(gateway.workers.places[0].link.pid, 9)
                yield piece
                await asyncio.sleep(0.02)

        stream = reached.stream(live(), 8000, align=True)
        assert b"".join([piece async for piece in stream]) == audio


async def test_the_client_connects_again_and_loses_no_sample(folder):
    audio, port = np.arange(16000, dtype="<i2").tobytes(), free_port(socket.SOCK_STREAM)
    begun, back = asyncio.Event(), asyncio.Event()

    async def live():
        for number, piece in enumerate(pieces(audio, 320)):
            if number == 30:
                begun.set()
            yield piece
            await asyncio.sleep(0.01)
        await back.wait()

    async def listen(stream) -> bytes:
        return b"".join([piece async for piece in stream])

    async with DenoiseClient(f"localhost:{port}", ca=folder / "ca.pem", reconnect=Reconnect(attempts=40)) as reached:
        stream = reached.stream(live(), 8000, align=True)
        async with running(folder, listen=f"127.0.0.1:{port}"):
            listening = asyncio.ensure_future(listen(stream))
            await begun.wait()
        async with running(folder, listen=f"127.0.0.1:{port}"):
            back.set()
            assert await asyncio.wait_for(listening, 30) == audio
    assert stream.reconnects > 0


def test_the_plain_client_works_without_asyncio(folder):
    begun, over = asyncio.run, []

    async def serve(work):
        async with running(folder) as gateway:
            await asyncio.to_thread(work, str(gateway.listening().grpc))

    def work(target):
        with SyncDenoiseClient(target, ca=folder / "ca.pem") as reached:
            assert reached.info().models == ["passthrough"]
            audio = bytes(range(256)) * 10
            over.append(b"".join(reached.stream(pieces(audio, 320), 8000, align=True)) == audio)

    begun(serve(work))
    assert over == [True]


async def test_ten_thousand_broken_streams_leave_nothing(folder):
    async with running(folder) as gateway, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(client(gateway, folder)) for _ in range(4)]

        async def break_some(count: int, reached: DenoiseClient, rng: random.Random) -> None:
            for _ in range(count):
                call = reached.stub.DenoiseStream()
                way = rng.randrange(4)
                await call.write(FIRST if way else pb.DenoiseRequest(audio=b"x"))
                if way > 1:
                    await call.write(pb.DenoiseRequest(audio=bytes(rng.choice((160, 320, 161)))))
                    await call.read()
                call.cancel()

        async def many(count: int) -> tuple[int, int]:
            each = [break_some(count // 40, clients[i % 4], random.Random(i)) for i in range(40)]
            await asyncio.gather(*each)
            await gone(gateway)
            return len(os.listdir("/proc/self/fd")), resident_bytes()

        descriptors, before = await many(2000)
        after_descriptors, after = await many(8000)
        assert after_descriptors <= descriptors + 4
        assert after - before < 8000 * 1000, "more than a kilobyte a stream stays"
        assert sum(gateway.desk.ended.values()) >= 9000


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
