"""Checks before the start: does this host carry what the configuration asks for?

Each finding names the present value, what it should be and how to raise it. What would only limit the gateway is a
warning; what makes the first call impossible stops the start.
"""

import errno
import os
import resource
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.config import Config, GrpcConfig
from gateway.config_rules import host_port
from gateway.control import tls
from gateway.control.sockets import SocketPool, resolve
from gateway.control.stream_account import Accounts
from gateway.control.workers import worker_count
from gateway.denoise.engines import RATES_HZ, brought, build, names, serving
from gateway.errors import ConfigError

DESCRIPTORS_A_LEG = 2
"""RTP and RTCP, in the control plane and once more in the leg's worker."""
OWN_DESCRIPTORS = 64
"""Listening sockets, workers, libraries, logs."""
LEGS_A_CALL = 2
RMEM_MAX = Path("/proc/sys/net/core/rmem_max")


@dataclass(frozen=True, slots=True)
class Host:
    """What the host gives."""

    descriptors: int
    """Open files a process may have."""
    descriptors_hard: int
    """How far a process may raise that itself."""
    rmem_max: int | None
    """Largest receive buffer in bytes; None where the kernel does not say."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not fit."""

    fatal: bool
    text: str
    """One line: what is, what it should be, how to change it."""


def raise_descriptor_limit() -> None:
    """Lift the soft limit of open files to the hard one, for this process and its children."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def look() -> Host:
    """The host as it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        rmem_max = int(RMEM_MAX.read_text())
    except (OSError, ValueError):
        rmem_max = None
    return Host(soft, hard, rmem_max)


def check(config: Config, host: Host) -> list[Finding]:
    """Everything that does not fit, the fatal first. Raises ConfigError when an interface has no address."""
    findings = [
        *_descriptors(config, host), *_buffers(config, host), *_ports(config), *_models(config),
        *_listeners(config), *_grpc(config), *_interfaces(config),
    ]  # fmt: skip
    return sorted(findings, key=lambda finding: not finding.fatal)


def _descriptors(config: Config, host: Host) -> Iterator[Finding]:
    workers = worker_count(config)
    needed = DESCRIPTORS_A_LEG * config.media.slots * workers + OWN_DESCRIPTORS
    if host.descriptors >= needed:
        return
    calls = max(0, host.descriptors - OWN_DESCRIPTORS) // (DESCRIPTORS_A_LEG * LEGS_A_CALL)
    yield Finding(
        fatal=calls == 0,
        text=f"open files: the limit is {host.descriptors} (hard {host.descriptors_hard}), enough for {calls} calls; "
        f"{config.media.slots} legs on each of {workers} workers need {needed}: raise it with LimitNOFILE={needed} "
        f"(systemd) or ulimit -n {needed}, or lower media.slots",
    )


def _buffers(config: Config, host: Host) -> Iterator[Finding]:
    wanted = config.media.socket_buffer_bytes
    if host.rmem_max is not None and host.rmem_max < wanted:
        yield Finding(
            fatal=False,
            text=f"socket buffers: net.core.rmem_max is {host.rmem_max}, media.socket_buffer_bytes is {wanted}: "
            f"raise it with sysctl -w net.core.rmem_max={wanted}, or lower the key",
        )


def _ports(config: Config) -> Iterator[Finding]:
    """One interface is taken to carry one side of each call when there are several."""
    workers = worker_count(config)
    pairs = SocketPool(config.media).capacity * min(len(config.interfaces), LEGS_A_CALL)
    legs = config.media.slots * workers
    media = config.media
    if pairs < legs:
        yield Finding(
            fatal=pairs < LEGS_A_CALL,
            text=f"ports: media.port_min {media.port_min} to media.port_max {media.port_max} are {pairs} pairs, "
            f"enough for {pairs // LEGS_A_CALL} calls; {media.slots} legs on each of {workers} workers need {legs}: "
            f"widen the range, or lower media.slots",
        )


def _models(config: Config) -> Iterator[Finding]:
    if config.engine.kind != "ort" or brought(config.engine):
        try:
            build(config.engine, slots=1)
        except ConfigError as error:
            yield Finding(fatal=True, text=f"model: {error}")
        return
    for rate_hz in RATES_HZ:
        graph = serving(config.engine.model, rate_hz)
        for path in (graph, graph.with_suffix(".json")):
            if not os.access(path, os.R_OK):
                yield Finding(
                    fatal=True,
                    text=f"model: {path} is missing or not readable: set engine.model to a model that is there "
                    f"({', '.join(names())}), or engine.kind to passthrough to run without denoising",
                )


def _listeners(config: Config) -> Iterator[Finding]:
    for text in config.ng.listen:
        yield from _bindable("ng.listen", socket.SOCK_DGRAM, *host_port(text))
    yield from _bindable("admin.listen", socket.SOCK_STREAM, *host_port(config.admin.listen))


def _grpc(config: Config) -> Iterator[Finding]:
    """Tokens guard `POST /v1/denoise` too, so their files are read whether gRPC is on or not."""
    if config.grpc.listen is not None:
        yield from _bindable("grpc.listen", socket.SOCK_STREAM, *host_port(config.grpc.listen))
    works: tuple[Callable[[GrpcConfig], object], ...] = (tls.load, Accounts)
    for work in works:
        try:
            work(config.grpc)
        except ConfigError as error:
            yield Finding(fatal=True, text=str(error))


def _interfaces(config: Config) -> Iterator[Finding]:
    for name, interface in resolve(config.interfaces).items():
        yield from _bindable(f"interfaces.{name}.address", socket.SOCK_DGRAM, interface.address, 0)


def _bindable(key: str, kind: socket.SocketKind, host: str, port: int) -> Iterator[Finding]:
    """Try the address for a moment."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    where = f"{key}: {f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}"
    try:
        with socket.socket(family, kind) as probe:
            if kind is socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
            probe.bind((host, port))
    except OSError as error:
        yield Finding(fatal=True, text=f"{where} {_why(error)}")


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "is taken: is another gateway or rtpengine running? Stop it, or choose another port"
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        return "is no address of this host: `ip address` lists those it has"
    if error.errno == errno.EACCES:
        return "may not be used by this user: choose a port from 1024 on"
    return f"cannot be used: {error.strerror}"
