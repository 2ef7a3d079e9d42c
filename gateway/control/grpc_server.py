"""The gRPC server around `denoise_stream`: health, reflection, limits, and how it starts and ends."""

import asyncio
import logging

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from gateway._pb import denoise_pb2 as pb
from gateway._pb import denoise_pb2_grpc as pb_grpc
from gateway.config import GrpcConfig
from gateway.control import tls
from gateway.control.denoise_stream import DenoiseService
from gateway.control.renewal import Renewed
from gateway.control.stream_account import Accounts
from gateway.control.stream_session import Desk
from gateway.errors import ConfigError

log = logging.getLogger(__name__)

SERVICE = pb.DESCRIPTOR.services_by_name["DenoiseService"].full_name
TICK_S = 0.1
STOP_GRACE_S = 1.0
KEEPALIVE_MS, KEEPALIVE_TIMEOUT_MS = 20_000, 10_000
"""A client that has vanished is noticed after both."""
CONCURRENT_STREAMS = 10_000
"""Over one connection."""


class GrpcServer:
    """A listening server."""

    def __init__(self, config: GrpcConfig, desk: Desk, accounts: Accounts, shared: bool = False) -> None:
        """shared: other processes listen on the same port. Raises ConfigError when a file cannot be used."""
        self._desk = desk
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", config.max_message_bytes),
                ("grpc.max_concurrent_streams", CONCURRENT_STREAMS),
                ("grpc.keepalive_time_ms", KEEPALIVE_MS),
                ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
                ("grpc.http2.max_ping_strikes", 5),
                ("grpc.so_reuseport", int(shared)),
            ]
        )
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        pb_grpc.add_DenoiseServiceServicer_to_server(DenoiseService(desk, accounts), self._server)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self.listening = self._listen(config)
        self.open = accounts.open
        self.tls = config.tls_certificate is not None
        self._ticking: asyncio.Task[None] | None = None

    def _listen(self, config: GrpcConfig) -> str:
        address = config.listen or ""
        secrets = credentials(config)
        try:
            if secrets is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, secrets)
        except RuntimeError:
            port = 0
        if not port:
            raise ConfigError(f"grpc.listen: {address} cannot be listened on: choose another port, or stop who has it")
        return f"{address.rpartition(':')[0]}:{port}"

    @property
    def streams(self) -> int:
        """Streams beside those of the desk."""
        return 0

    async def start(self) -> None:
        """Serve."""
        await self._server.start()
        await self._say(health_pb2.HealthCheckResponse.SERVING)
        self._ticking = asyncio.get_running_loop().create_task(self._tick())
        log.info("gRPC", extra={"listen": self.listening, "tls": self.tls, "tokens": not self.open})

    async def _say(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for name in ("", SERVICE):
            await self._health.set(name, status)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                self._desk.tick()
            except Exception:
                log.exception("looking after streams failed")

    async def drain(self) -> None:
        """No new streams; returns at once, the present ones run on."""
        self._desk.draining = True
        await self._say(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def stop(self) -> None:
        """End; streams that are left are cancelled."""
        if self._ticking is not None:
            self._ticking.cancel()
        await self._server.stop(STOP_GRACE_S if self._desk.sessions else 0)


def credentials(config: GrpcConfig) -> grpc.ServerCredentials | None:
    """Certificates, as the files are when a client connects, or None for plain text; raises ConfigError."""
    renewed = Renewed(tls.files(config), lambda: tls.load(config))
    given = renewed.value
    if given is None:
        return None

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        """Called before each handshake, on a thread of gRPC's; None is to go on with what it has."""
        nonlocal given
        secrets = renewed.look()
        if secrets is None or secrets is given:
            return None
        given = secrets
        return certificates(secrets)

    return grpc.dynamic_ssl_server_credentials(
        certificates(given),
        fetch,  # type: ignore[arg-type]  # grpc-stubs forget None
        config.tls_client_ca is not None,
    )


def certificates(secrets: tls.Secrets) -> grpc.ServerCertificateConfiguration:
    """As gRPC has them."""
    return grpc.ssl_server_certificate_configuration([(secrets.key, secrets.chain)], secrets.client_ca)
