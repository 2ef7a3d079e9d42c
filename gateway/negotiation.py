"""What an offer or answer may ask of us: limits, what is not built, interfaces, and our side of the SDP.

Everything here refuses before anything is allocated, so that a request that cannot be served leaves no trace: a call
with silent audio is worse than an error that says why.
"""

from collections.abc import Mapping

from gateway.errors import CallerError
from gateway.legs import Interface
from gateway.messages import Kind
from gateway.parties import Line, Party
from gateway.protocol import ng, sdp

MAX_LINES = 16
MAX_ID_CHARS = 512

PLAIN_RTP = ("RTP/AVP", "RTP/AVPF")
ICE_WANTED = ("force", "force-relay", "optional")


def check_ids(request: ng.Request) -> str:
    """The call-id, when it and the tags are there and of a sane size; else CallerError."""
    for name, value in (
        ("call-id", request.call_id),
        ("from-tag", request.from_tag),
        ("to-tag", request.to_tag),
        ("via-branch", request.via_branch),
        ("label", request.label),
    ):
        if value is not None and len(value) > MAX_ID_CHARS:
            raise CallerError(f"{name} is longer than {MAX_ID_CHARS} characters")
    if not request.call_id:
        raise CallerError("No call-id in message")
    return request.call_id


def parse_sdp(request: ng.Request) -> sdp.Session:
    """The request's SDP, when it can be served; else CallerError."""
    if not request.sdp:
        raise CallerError("No SDP body in message")
    _refuse_unbuilt(request)
    session = sdp.parse(request.sdp)
    if not session.media:
        raise CallerError("The SDP has no m-line")
    if len(session.media) > MAX_LINES:
        raise CallerError(f"The SDP has more than {MAX_LINES} m-lines")
    for media in session.media:
        if media.rejected:
            continue
        if media.is_secure:
            raise CallerError(
                f"{media.transport} with SRTP (SDES or DTLS) is not built yet: offer RTP/AVP without keys"
            )
    return session


def _refuse_unbuilt(request: ng.Request) -> None:
    if request.ice in ICE_WANTED:
        raise CallerError(f"ICE={request.ice} is not built yet: use ICE=remove")
    transport = request.transport_protocol
    if transport and transport != "ACCEPT" and transport not in PLAIN_RTP:
        raise CallerError(f"transport-protocol {transport} is not built yet: use RTP/AVP")
    if request.codec:
        raise CallerError(f"codec {', '.join(sorted(request.codec))} is not built yet: transcoding is not there")
    if any(str(key).lower().replace(".", "") == "t38" for key in request.extra):
        raise CallerError("T.38 gatewaying is not built yet: T.38 is relayed as it is, without the T.38 flag")


def carried(media: sdp.Media) -> bool:
    """Whether an m-line gets legs; what runs over TCP is rejected in the SDP we write."""
    return not media.rejected and media.is_udp


def kind_of(media: sdp.Media) -> Kind:
    """Audio over RTP is denoised; anything else is relayed as it is."""
    return Kind.AUDIO if media.kind == "audio" and media.is_rtp else Kind.RAW


def choose_interface(interfaces: Mapping[str, Interface], name: str | None, family: str | None) -> Interface:
    """The interface that faces a party.

    name: from NG's `direction`; family: `IP4` or `IP6`. Raises CallerError.
    """
    if name is not None and name not in interfaces:
        raise CallerError(f"Unknown interface '{name}' in direction: configured are {', '.join(interfaces)}")
    chosen = interfaces[name] if name is not None else default_interface(interfaces)
    if family is None or chosen.family == family:
        return chosen
    for interface in interfaces.values():
        if interface.family == family:
            return interface
    raise CallerError(f"No interface with an {family} address is configured")


def default_interface(interfaces: Mapping[str, Interface]) -> Interface:
    """The one called `default`, or else the first."""
    return interfaces.get("default") or next(iter(interfaces.values()))


def family_of(session: sdp.Session) -> str | None:
    """Address family of an SDP: that of its first m-line that says one."""
    for media in session.media:
        if media.address is not None:
            return "IP6" if ":" in media.address else "IP4"
    return None


def our_endpoint(request: ng.Request, listener: Party, line: Line, media: sdp.Media) -> sdp.Endpoint | None:
    """What the SDP for `listener` says of one m-line of the speaker's SDP; None rejects the line."""
    if line.leg is None or media.rejected:
        return None
    port = line.leg.pair.port
    muxed = line.mux_sent if request.command == "offer" else line.mux
    without_rtcp = not media.is_rtp or line.mux or "no-rtcp-attribute" in request.flags
    return sdp.Endpoint(
        address=request.media_address or listener.interface.advertise,
        port=port,
        rtcp_port=None if without_rtcp else port + 1,
        rtcp_mux=muxed if media.is_rtp else None,
        transport=_transport(request, line, media),
        own_ssrc=line.kind is Kind.AUDIO,
    )


def _transport(request: ng.Request, line: Line, media: sdp.Media) -> str | None:
    """The profile to write: as asked for in an offer; in an answer what the offerer offered; None keeps it.

    `accept` is a word for answers: to go along with another profile than the one offered.
    """
    if not media.is_rtp:
        return None
    accept = request.transport_protocol == "ACCEPT"
    if request.command == "offer":
        return None if accept else request.transport_protocol
    return None if accept or line.media is None or not line.media.is_rtp else line.media.transport
