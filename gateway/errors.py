"""Exceptions, sorted by whose fault they name: the peer's, the caller's, or ours."""


class GatewayError(Exception):
    """Base of everything the gateway raises on purpose."""


class PeerError(GatewayError):
    """A peer broke a protocol: the packet is counted and dropped."""


class CallerError(GatewayError):
    """A user of an interface asked for what cannot be: replied to, with what to change."""


class ConfigError(GatewayError):
    """A configuration key is unknown or impossible: the start stops, naming its path."""


class EngineError(GatewayError):
    """A denoising engine failed: logged once, and its calls go on dry."""
