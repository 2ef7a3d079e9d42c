"""Who may ask: the allow-lists of the NG and admin interfaces, and the addresses that both listen on."""

import asyncio
import logging
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import cast

from gateway.errors import ConfigError

log = logging.getLogger(__name__)

REFUSED_LOGGED = 100
"""Addresses at most that are named in the log."""


class AllowList:
    """Networks whose requests are served."""

    def __init__(self, key: str, networks: tuple[str, ...]) -> None:
        """key: where the list stands in the configuration; raises ConfigError."""
        self._key = key
        self._refused: set[str] = set()
        try:
            self._networks = [ip_network(network, strict=False) for network in networks]
        except ValueError as error:
            raise ConfigError(f"{key}: {error}; write networks like 10.0.0.0/8") from None
        self.permits = lru_cache(maxsize=1024)(self._permits)

    def _permits(self, host: str) -> bool:
        try:
            address = ip_address(plain(host))
        except ValueError:
            return False
        return any(address in network for network in self._networks)

    def refuse(self, host: str) -> None:
        """Say once that somebody is not served."""
        if host not in self._refused and len(self._refused) < REFUSED_LOGGED:
            self._refused.add(host)
            log.warning("not allowed", extra={"client": host, "hint": f"add its network to {self._key}"})


def plain(host: str) -> str:
    """A socket's numeric address without its zone, and as IPv4 where it is; raises ValueError."""
    address = ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


class Door(asyncio.Protocol):
    """Of a server over TCP: who is not on the list is sent away before it can hold anything of ours."""

    def __init__(self, allow: AllowList, within: Callable[[], asyncio.Protocol]) -> None:
        """within: makes the protocol for those who are let in."""
        self._allow, self._within = allow, within

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The protocol within takes over, or it is over."""
        transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass
        peer = transport.get_extra_info("peername")
        if peer is None:
            transport.abort()  # it has gone already
        elif not self._allow.permits(peer[0]):
            transport.abort()
            self._allow.refuse(peer[0])
        else:
            protocol = self._within()
            transport.set_protocol(protocol)
            protocol.connection_made(transport)


def host_and_port(text: str, key: str) -> tuple[str, int]:
    """`127.0.0.1:2223` or `[::1]:2223`; raises ConfigError naming the key."""
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{key}: '{text}' is no address and port, such as 127.0.0.1:2223 or [::1]:2223")
    return host.strip("[]"), int(port)
