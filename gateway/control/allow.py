"""Who may ask: the allow-lists of the NG and admin interfaces, and the addresses that both listen on."""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

from gateway.errors import ConfigError


class AllowList:
    """Networks whose requests are served."""

    def __init__(self, key: str, networks: tuple[str, ...]) -> None:
        """key: where the list stands in the configuration; raises ConfigError."""
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


def plain(host: str) -> str:
    """A socket's numeric address without its zone, and as IPv4 where it is; raises ValueError."""
    address = ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def host_and_port(text: str, key: str) -> tuple[str, int]:
    """`127.0.0.1:2223` or `[::1]:2223`; raises ConfigError naming the key."""
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{key}: '{text}' is no address and port, such as 127.0.0.1:2223 or [::1]:2223")
    return host.strip("[]"), int(port)
