"""The PEM files of the gRPC server: read and tried out before anybody gets to see them."""

import ssl
from pathlib import Path
from typing import NamedTuple

from gateway.config import GrpcConfig
from gateway.errors import ConfigError


class Secrets(NamedTuple):
    """What a server shows its clients, and whom it knows; each in PEM."""

    key: bytes
    chain: bytes
    client_ca: bytes | None


def files(config: GrpcConfig) -> tuple[str, ...]:
    """What `load` reads."""
    return tuple(path for path in (config.tls_certificate, config.tls_key, config.tls_client_ca) if path is not None)


def load(config: GrpcConfig) -> Secrets | None:
    """None for plain text. Raises ConfigError for files that cannot be read or do not fit together."""
    if config.tls_certificate is None or config.tls_key is None:
        return None
    chain, key = read(config.tls_certificate, "tls_certificate"), read(config.tls_key, "tls_key")
    client_ca = read(config.tls_client_ca, "tls_client_ca") if config.tls_client_ca is not None else None
    _try_out(config, config.tls_certificate, config.tls_key)
    return Secrets(key, chain, client_ca)


def read(path: str, key: str) -> bytes:
    """A PEM file; raises ConfigError."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"grpc.{key}: {path}: {error.strerror}") from None
    if b"-----BEGIN" not in content:
        raise ConfigError(f"grpc.{key}: {path}: is no PEM file")
    return content


def _try_out(config: GrpcConfig, certificate: str, key: str) -> None:
    """gRPC says nothing of a key that does not fit: every handshake would fail."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            raise ConfigError(f"grpc.tls_key: {key}: is not the key of {certificate}: renew both together") from None
        raise ConfigError(
            f"grpc.tls_certificate: {certificate} with grpc.tls_key: {key}: {_reason(error)}; expected a certificate "
            f"and its chain, and a private key without a password"
        ) from None
    if config.tls_client_ca is not None:
        try:
            context.load_verify_locations(config.tls_client_ca)
        except ssl.SSLError as error:
            raise ConfigError(f"grpc.tls_client_ca: {config.tls_client_ca}: {_reason(error)}") from None


def _no_password() -> str:
    raise ValueError("the private key has a password")


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error).lower().replace("_", " ")
