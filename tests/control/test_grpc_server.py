"""Certificates of a listening server that are renewed while clients are connected."""

import asyncio
import ssl
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from gateway.config import GrpcConfig
from gateway.control import renewal
from gateway.control.grpc_server import credentials
from tests.control import certificates


@pytest.fixture
async def server(tmp_path, monkeypatch):
    """Its folder and port; mutual TLS, and files are looked at for each connection."""
    monkeypatch.setattr(renewal, "LOOK_S", 0.0)
    folder = certificates.make(tmp_path)
    keys = {"tls_certificate": "server.pem", "tls_key": "server.key", "tls_client_ca": "ca.pem"}
    made = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), made)
    port = made.add_secure_port(
        "127.0.0.1:0", credentials(GrpcConfig(**{key: str(folder / name) for key, name in keys.items()}))
    )
    await made.start()
    yield folder, port
    await made.stop(None)


def connect(folder: Path, port: int) -> grpc.aio.Channel:
    """With the certificates that are in the folder now."""
    ca, key, chain = [(folder / name).read_bytes() for name in ("ca.pem", "client.key", "client.pem")]
    return grpc.aio.secure_channel(
        f"127.0.0.1:{port}",
        grpc.ssl_channel_credentials(ca, key, chain),
        options=[("grpc.use_local_subchannel_pool", 1)],
    )


async def ask(channel: grpc.aio.Channel) -> int:
    reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    return reply.status


async def shown(port: int) -> str:
    """The certificate that a new client sees."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    found = ssl.DER_cert_to_PEM_cert(writer.get_extra_info("ssl_object").getpeercert(True))
    writer.close()
    return found


async def test_who_connects_after_a_renewal_is_shown_the_new_certificate_and_old_connections_stay(server):
    folder, port = server
    async with connect(folder, port) as before:
        assert await ask(before) and await shown(port) == (folder / "server.pem").read_text()
        certificates.make(folder)
        assert await shown(port) == (folder / "server.pem").read_text()
        async with connect(folder, port) as after:
            assert await ask(after) and await ask(before)


async def test_clients_of_an_authority_that_was_replaced_are_refused(server):
    folder, port = server
    async with connect(folder, port) as old:
        certificates.make(folder)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(old)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_certificate_without_its_key_is_not_shown(server, caplog):
    folder, port = server
    before = (folder / "server.pem").read_text()
    key = (folder / "server.key").read_bytes()
    certificates.make(folder)
    renewed = (folder / "server.key").read_bytes()
    (folder / "server.key").write_bytes(key)
    assert [await shown(port) for _ in range(3)] == [before] * 3
    (record,) = [record for record in caplog.records if record.name == "gateway.control.renewal"]
    assert "is not the key of" in record.error
    (folder / "server.key").write_bytes(renewed)
    assert await shown(port) == (folder / "server.pem").read_text() != before
