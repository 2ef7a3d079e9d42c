"""Media ports: pairs of UDP sockets, even for RTP and the next one for RTCP, bound here and lent to the workers.

The control plane owns them, so a port outlives the worker that serves it. A freed pair rests before it is used again,
lest a late packet meet a new call.
"""

import contextlib
import errno
import math
import random
import socket
from collections import deque
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import NamedTuple

from gateway.config import InterfaceConfig, MediaConfig
from gateway.errors import ConfigError
from gateway.legs import Interface, OutOfPortsError, Pair

TAKEN = (errno.EADDRINUSE, errno.EACCES)
LATE_S = 1.0
"""A worker has closed its sockets by then, once we have closed ours."""
SOMEWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""Documentation addresses (RFC 5737, RFC 3849): a route to them is the default route; nothing is ever sent."""


class Pairs(NamedTuple):
    """How many pairs of one local address are in each state."""

    in_use: int
    resting: int
    """After a call, or because another program has one of the two ports."""
    free: int


@dataclass(slots=True)
class _Address:
    """The even ports of one local address."""

    free: deque[int]
    resting: deque[tuple[float, int]] = field(default_factory=deque)
    """When each may be used again, earliest first."""
    lent: dict[int, float] = field(default_factory=dict)
    """Until when a call's packets may still come from the pairs that calls have had."""

    def wake(self, now: float) -> None:
        """Those that have rested are free."""
        while self.resting and self.resting[0][0] <= now:
            self.free.append(self.resting.popleft()[1])


class SocketPool:
    """Implements `gateway.legs.Ports` with real sockets."""

    def __init__(self, config: MediaConfig) -> None:
        self._config = config
        self._addresses: dict[str, _Address] = {}
        self.in_use = 0
        """Pairs, of all addresses."""

    @property
    def capacity(self) -> int:
        """Pairs that one address has."""
        return len(self._even_ports())

    def pairs(self, address: str, now: float) -> Pairs:
        """All pairs of an address, by state."""
        ports = self._ports_of(address)
        ports.wake(now)
        free, resting = len(ports.free), len(ports.resting)
        return Pairs(self.capacity - free - resting, resting, free)

    def _even_ports(self) -> range:
        first = self._config.port_min + self._config.port_min % 2
        return range(first, self._config.port_max, 2)

    def open(self, address: str, tos: int | None, now: float) -> Pair:
        """Bind a pair on a local address. Raises OutOfPortsError.

        tos: the TOS byte of outgoing packets, or None for the configured DSCP. A port that another program holds is
        put to rest like a used one.
        """
        ports = self._ports_of(address)
        ports.wake(now)
        while ports.free:
            port = ports.free.popleft()
            try:
                pair = self._bind(address, port)
            except OutOfPortsError:
                ports.free.append(port)  # the fault is not the port's
                raise
            if pair is not None:
                self.in_use += 1
                ports.lent[port] = math.inf
                self.mark(pair, tos)
                return pair
            ports.resting.append((now + self._config.port_rest_s, port))
        raise OutOfPortsError(f"No pair of ports is free on {address}: widen media.port_min to media.port_max")

    def close(self, pair: Pair, now: float) -> None:
        """Close a pair; its ports rest."""
        for each in pair.sockets:
            each.close()
        self.in_use -= 1
        ports = self._ports_of(pair.address)
        ports.resting.append((now + self._config.port_rest_s, pair.port))
        ports.lent[pair.port] = now + max(self._config.port_rest_s, LATE_S)

    def lends(self, host: str, port: int, now: float) -> bool:
        """Whether packets from there may be those of a call, whose worker has its sockets a little longer than we."""
        source, even = ip_address(host), port - port % 2
        for address, ports in self._addresses.items():
            own = ip_address(address)
            if now < ports.lent.get(even, 0.0) and (own == source or (own.is_unspecified and is_local(host))):
                return True
        return False

    def mark(self, pair: Pair, tos: int | None) -> None:
        """Set the TOS byte (IPv6: traffic class) of outgoing packets; None is the configured DSCP."""
        dscp = self._config.dscp or 0
        value = dscp << 2 if tos is None else tos
        for each in pair.sockets:
            if each.family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, value)
            else:
                each.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, value)

    def _ports_of(self, address: str) -> _Address:
        """The pool of an address, begun in random order: the next call's port is no secret to guess otherwise."""
        if address not in self._addresses:
            ports = list(self._even_ports())
            random.shuffle(ports)
            self._addresses[address] = _Address(deque(ports))
        return self._addresses[address]

    def _bind(self, address: str, port: int) -> Pair | None:
        """Both sockets, or None when a port is taken. Raises OutOfPortsError when descriptors run out."""
        made: list[socket.socket] = []
        try:
            for number in (port, port + 1):
                made.append(self._socket(address))
                made[-1].bind((address, number))
        except OSError as error:
            for each in made:
                each.close()
            if error.errno in TAKEN:
                return None
            raise OutOfPortsError(f"Cannot open a media socket on {address}: {error}") from error
        return Pair(address, port, tuple(made))

    def _socket(self, address: str) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        made = socket.socket(family, socket.SOCK_DGRAM)
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._config.socket_buffer_bytes)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        return made


def resolve(interfaces: dict[str, InterfaceConfig]) -> dict[str, Interface]:
    """The configured interfaces with real addresses; raises ConfigError."""
    if not interfaces:
        raise ConfigError("interfaces: at least one is needed, such as `default: {address: auto}`")
    return {name: _resolve(name, each) for name, each in interfaces.items()}


def _resolve(name: str, config: InterfaceConfig) -> Interface:
    address = own_address() if config.address == "auto" else config.address
    advertise = config.advertise or address
    for key, value in (("address", address), ("advertise", advertise)):
        try:
            ip_address(value)
        except ValueError:
            raise ConfigError(f"interfaces.{name}.{key}: '{value}' is no IP address") from None
    if (":" in address) != (":" in advertise):
        raise ConfigError(f"interfaces.{name}.advertise: must be of the same family as address ({address})")
    return Interface(name, address, advertise)


def is_local(host: str) -> bool:
    """Whether this host has the address, or cannot tell."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except OSError as error:
        return error.errno != errno.EADDRNOTAVAIL
    return True


def own_address() -> str:
    """The address this host reaches the world from: IPv4 before IPv6; loopback when there is no route at all."""
    for family, somewhere in SOMEWHERE.items():
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((somewhere, 9))
            return str(probe.getsockname()[0])
    return "127.0.0.1"
