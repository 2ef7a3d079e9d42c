"""What an SDP says, as values: session, m-lines, codecs; and the endpoint a rewritten m-line gets. See `sdp`."""

import ipaddress
from dataclasses import dataclass, field

from gateway.errors import CallerError


class SdpError(CallerError):
    """The SDP cannot be used: the message names the line and what is wrong."""


@dataclass(frozen=True, slots=True)
class Codec:
    """One payload type of an RTP m-line whose meaning is known (by a=rtpmap or RFC 3551)."""

    payload_type: int
    name: str
    """Upper case: PCMU, OPUS, TELEPHONE-EVENT, …"""
    clock_hz: int
    """RTP clock rate (8000 for G722)."""
    channels: int = 1
    fmtp: str | None = None
    """Format parameters as written."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The o= line."""

    username: str
    session_id: str
    version: str
    address: str
    """As written; a host name is allowed here."""


@dataclass(frozen=True, slots=True)
class Media:
    """One m-line with its attributes; session-level values filled in where it has none of its own."""

    kind: str
    """audio, video, image, application, text, message, …"""
    port: int
    """0: rejected."""
    transport: str
    """As written: RTP/AVP, UDP/TLS/RTP/SAVPF, udptl, …"""
    formats: tuple[str, ...]
    address: str | None
    """Numeric, its own c= or the session's; None only on a rejected m-line."""
    direction: str = "sendrecv"
    rtcp_port: int | None = None
    """Of a=rtcp; None: not said."""
    rtcp_address: str | None = None
    """Of a=rtcp; None: not said."""
    rtcp_mux: bool = False
    ptime_ms: int | None = None
    codecs: tuple[Codec, ...] = ()
    """In the order of the m-line. A payload type without a=rtpmap or static meaning is left out."""
    mid: str | None = None
    has_crypto: bool = False
    """SDES (RFC 4568)."""
    has_fingerprint: bool = False
    """DTLS (RFC 5763)."""
    has_ice: bool = False

    @property
    def rejected(self) -> bool:
        """Port 0 (RFC 3264 section 6)."""
        return self.port == 0

    @property
    def is_held(self) -> bool:
        """Hold by the unspecified address (RFC 3264 section 8.4)."""
        return self.address is not None and ipaddress.ip_address(self.address).is_unspecified

    @property
    def is_rtp(self) -> bool:
        """Runs over one of the RTP profiles."""
        return self.transport.upper().endswith(("RTP/AVP", "RTP/AVPF", "RTP/SAVP", "RTP/SAVPF"))

    @property
    def is_udp(self) -> bool:
        """A relay of datagrams can carry it (TCP/MSRP and TCP/BFCP it cannot)."""
        return not self.transport.upper().startswith("TCP")

    @property
    def is_secure(self) -> bool:
        """Asks for SRTP, by its profile or by keys."""
        return is_secure_profile(self.transport) or self.has_crypto or self.has_fingerprint

    @property
    def rtp_remote(self) -> tuple[str, int] | None:
        """Where its media goes; None while held or rejected."""
        if self.address is None or self.rejected or self.is_held:
            return None
        return self.address, self.port

    @property
    def rtcp_remote(self) -> tuple[str, int] | None:
        """Where its RTCP goes unless rtcp-mux is agreed on: a=rtcp, or the RTP port + 1.

        None while held or rejected, with a=rtcp:0, and for what is not RTP.
        """
        rtp = self.rtp_remote
        if rtp is None or not self.is_rtp:
            return None
        port = rtp[1] + 1 if self.rtcp_port is None else self.rtcp_port
        return (self.rtcp_address or rtp[0], port) if 0 < port < 65536 else None


@dataclass(frozen=True, slots=True)
class Session:
    """A parsed session description, with the raw lines it came from."""

    origin: Origin
    address: str | None
    """Of the session-level c=, numeric."""
    media: tuple[Media, ...]
    head: tuple[str, ...] = field(repr=False)
    """Raw session-level lines, line ends included."""
    sections: tuple[tuple[str, ...], ...] = field(repr=False)
    """Raw lines of each m-line's section, line ends included."""

    def render(self) -> str:
        """The text that was parsed, byte for byte."""
        return "".join(self.head) + "".join("".join(section) for section in self.sections)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What one m-line says in the rewritten SDP."""

    address: str
    """Numeric, IPv4 or IPv6; as seen from outside."""
    port: int
    rtcp_port: int | None = None
    """Written as a=rtcp; None: no such line (port + 1, or rtcp-mux)."""
    rtcp_mux: bool | None = None
    """True: a=rtcp-mux, False: without it, None: as it came."""
    transport: str | None = None
    """None: as it came."""
    own_ssrc: bool = False
    """Its packets bear an SSRC of ours, so those that the SDP names (RFC 5576) will never be seen. Which one it is,
    nobody can promise: the media plane draws another when a worker dies."""


def is_secure_profile(transport: str) -> bool:
    """The profile is one of SRTP's (RTP/SAVP, UDP/TLS/RTP/SAVPF, …)."""
    return transport.upper().endswith(("SAVP", "SAVPF"))
