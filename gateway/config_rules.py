"""What the configuration's annotations cannot say: addresses, networks, and keys that depend on each other.

Each error begins with the key's path; `gateway.config_file` puts file or variable in front.
"""

import ipaddress
from collections.abc import Iterator

from gateway.config import Config, EngineConfig, GrpcConfig, InterfaceConfig
from gateway.errors import ConfigError


def check(config: Config) -> None:
    """Raises ConfigError for the first value that cannot be."""
    for problem in _problems(config):
        raise ConfigError(problem)


def host_port(text: str) -> tuple[str, int]:
    """`127.0.0.1:2223` or `[::1]:2223` as host and port; ValueError when it is neither."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = str(ipaddress.IPv6Address(host[1:-1]))
    else:
        host = str(ipaddress.IPv4Address(host))
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(text)
    return host, int(port)


def _problems(config: Config) -> Iterator[str]:
    if not config.ng.listen:
        yield "ng.listen: found an empty list, expected at least one address such as 127.0.0.1:2223"
    for index, text in enumerate(config.ng.listen):
        yield from _listen(f"ng.listen[{index}]", text, "127.0.0.1:2223")
    yield from _listen("admin.listen", config.admin.listen, "127.0.0.1:8080")
    yield from _grpc(config.grpc)
    for path, networks in (("ng.allow", config.ng.allow), ("admin.allow", config.admin.allow)):
        if not networks:
            yield f"{path}: found an empty list, so nobody would be answered; expected networks such as 127.0.0.0/8"
        for index, text in enumerate(networks):
            yield from _network(f"{path}[{index}]", text)
    for name, interface in config.interfaces.items():
        yield from _interface(f"interfaces.{name}", name, interface)
    yield from _media(config)
    if not config.engine.model.strip():
        yield "engine.model: found nothing, expected a model's name such as standard"
    yield from _triton(config.engine)


def _triton(engine: EngineConfig) -> Iterator[str]:
    if not engine.endpoints:
        yield "engine.endpoints: found an empty list, expected at least one address such as 127.0.0.1:8001"
    for index, text in enumerate(engine.endpoints):
        host, colon, port = text.rpartition(":")
        right = host and not any(letter.isspace() or letter == "/" for letter in host)
        if not right or not colon or not port.isascii() or not port.isdigit() or not 0 < int(port[:6]) < 65536:
            yield f"engine.endpoints[{index}]: found {text[:60]!r}, expected host and port such as 10.0.0.9:8001"
    version = engine.model_version
    if version and not (version.isascii() and version.isdigit()):
        yield f"engine.model_version: found {version[:60]!r}, expected a number in quotes, or nothing for the newest"
    if engine.kind == "triton" and engine.model.endswith((".yaml", ".yml")):
        yield "engine.model: found a card, but Triton serves only models of models/; expected a name such as standard"


def _grpc(grpc: GrpcConfig) -> Iterator[str]:
    if (grpc.tls_certificate is None) != (grpc.tls_key is None):
        yield "grpc.tls_certificate: TLS takes both tls_certificate and tls_key, or none of them"
    if grpc.tls_client_ca is not None and grpc.tls_certificate is None:
        yield "grpc.tls_client_ca: mutual TLS takes tls_certificate and tls_key too"
    if grpc.listen is None:
        return
    problems = list(_listen("grpc.listen", grpc.listen, "127.0.0.1:50051"))
    yield from problems
    if problems or grpc.tls_certificate is not None or grpc.insecure:
        return
    if not ipaddress.ip_address(host_port(grpc.listen)[0]).is_loopback:
        yield (
            f"grpc.listen: {grpc.listen} is no loopback address, and audio and tokens would be read by others; "
            f"expected tls_certificate and tls_key, or insecure: true"
        )


def _listen(path: str, text: str, example: str) -> Iterator[str]:
    try:
        host_port(text)
    except ValueError:
        yield f"{path}: found {text[:60]!r}, expected a numeric address and a port, such as {example} or [::1]:2223"


def _network(path: str, text: str) -> Iterator[str]:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        try:
            right = str(ipaddress.ip_network(text, strict=False))
            yield f"{path}: found {text!r}, which has bits set behind its mask; did you mean {right}?"
        except ValueError:
            yield f"{path}: found {text[:60]!r}, expected a network such as 10.0.0.0/8 or fd00::/8"


def _interface(path: str, name: str, interface: InterfaceConfig) -> Iterator[str]:
    if not name or any(letter.isspace() or letter in "/," for letter in name):
        yield f"{path}: found the name {name!r}, expected one without spaces, commas and slashes, as in NG's direction"
    local = _ip(interface.address)
    if interface.address != "auto" and local is None:
        yield f"{path}.address: found {interface.address[:60]!r}, expected a local IP address or auto"
    if interface.advertise is None:
        if local is not None and local.is_unspecified:
            yield f"{path}.address: SDP cannot name {local}; expected the host's own address, or advertise beside it"
        return
    public = _ip(interface.advertise)
    if public is None or public.is_unspecified:
        yield f"{path}.advertise: found {interface.advertise[:60]!r}, expected the public IP address"
    elif local is not None and local.version != public.version:
        yield f"{path}.advertise: {public} is IPv{public.version}, but {path}.address is IPv{local.version}"


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _media(config: Config) -> Iterator[str]:
    media = config.media
    if media.port_max <= media.port_min:
        yield f"media.port_max: found {media.port_max}, expected more than media.port_min, which is {media.port_min}"
    if media.dry_after_ms < media.hold_ms:
        yield f"media.dry_after_ms: found {media.dry_after_ms:g}, expected at least media.hold_ms ({media.hold_ms:g})"
