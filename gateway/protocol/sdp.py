"""SDP as far as a media relay has to understand it: where media goes, which codecs it has, and how to put our ports in.

`parse` reads an offer or answer, `rewrite` puts our endpoints into it. Lines that neither of them knows stay byte for
byte and in order. What decides where packets go (m=, c=, a=rtcp) is checked strictly; a broken attribute elsewhere is
ignored, because phones in the field send many.
Source: RFC 8866 (SDP), RFC 3264 (offer and answer, hold, rejected m-lines), RFC 3605 (a=rtcp), RFC 5761 (rtcp-mux),
RFC 3551 (static payload types), RFC 8839 (ICE attributes), RFC 5576 (a=ssrc). What `replace` means follows rtpengine.
"""

import ipaddress
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import replace as replace_fields

from gateway.protocol.sdp_types import Codec, Endpoint, Media, Origin, SdpError, Session, is_secure_profile

__all__ = ["Codec", "Endpoint", "Media", "Origin", "SdpError", "Session", "parse", "rewrite"]

MAX_CHARS = 65536
MAX_LINES = 2000
MAX_MEDIA = 32

STATIC_PAYLOADS: dict[int, tuple[str, int, int]] = {
    0: ("PCMU", 8000, 1),
    3: ("GSM", 8000, 1),
    4: ("G723", 8000, 1),
    5: ("DVI4", 8000, 1),
    6: ("DVI4", 16000, 1),
    7: ("LPC", 8000, 1),
    8: ("PCMA", 8000, 1),
    9: ("G722", 8000, 1),
    10: ("L16", 44100, 2),
    11: ("L16", 44100, 1),
    12: ("QCELP", 8000, 1),
    13: ("CN", 8000, 1),
    14: ("MPA", 90000, 1),
    15: ("G728", 8000, 1),
    16: ("DVI4", 11025, 1),
    17: ("DVI4", 22050, 1),
    18: ("G729", 8000, 1),
    25: ("CELB", 90000, 1),
    26: ("JPEG", 90000, 1),
    28: ("NV", 90000, 1),
    31: ("H261", 90000, 1),
    32: ("MPV", 90000, 1),
    33: ("MP2T", 90000, 1),
    34: ("H263", 90000, 1),
}
"""Encoding name, clock rate in Hz and channels by payload type; RFC 3551 tables 4 and 5."""

_DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")
_RTPMAP = re.compile(r"(\d{1,3})\s+([!-.0-~]{1,32})/(\d{1,7})(?:/(\d{1,2}))?\s*", re.ASCII)
"""An encoding name is a token (RFC 8866); its length is bounded since the name goes to the worker."""
_M_LINE = re.compile(r"m=\s*(\S+)(\s+)(\S+)(\s+)(\S+)")
_ICE = re.compile(r"a=(candidate|remote-candidates|end-of-candidates|ice-[a-z0-9-]+|ice2)\s*(:|$)", re.IGNORECASE)
_KEYS = re.compile(r"a=(crypto|fingerprint|setup|tls-id|key-mgmt)\s*(:|$)", re.IGNORECASE)
_FEEDBACK = re.compile(r"a=rtcp-fb\s*:", re.IGNORECASE)
_MUX = re.compile(r"a=rtcp-mux(-only)?\s*$", re.IGNORECASE)
_SOURCE = re.compile(r"a=ssrc(-group)?\s*:", re.IGNORECASE)
_RTCP = re.compile(r"a=rtcp\s*:", re.IGNORECASE)
_BUNDLE = re.compile(r"a=(group:BUNDLE\b|bundle-only\s*$)", re.IGNORECASE)


def parse(text: str) -> Session:
    """Read a session description. Raises SdpError."""
    lines = _split(text)
    starts = [index for index, line in enumerate(lines) if line.startswith("m=")]
    if len(starts) > MAX_MEDIA:
        raise SdpError(f"{len(starts)} m-lines are more than {MAX_MEDIA}")
    bounds = [*starts, len(lines)]
    head = lines[: bounds[0]]
    sections = [lines[start:end] for start, end in itertools.pairwise(bounds)]
    origin, session = _origin(head), _Attributes(head)
    media = tuple(_media(section, session) for section in sections)
    return Session(origin, session.address, media, tuple(head), tuple(map(tuple, sections)))


def _split(text: str) -> list[str]:
    """Lines with their ends; every one but trailing blank ones is `<letter>=…`."""
    if len(text) > MAX_CHARS:
        raise SdpError(f"{len(text)} characters are more than {MAX_CHARS}")
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    if len(lines) > MAX_LINES:
        raise SdpError(f"{len(lines)} lines are more than {MAX_LINES}")
    for number, line in enumerate(lines, 1):
        if line[1:2] != "=" and line.strip():
            raise SdpError(f"line {number} is no <type>=<value>: {_shown(line)}")
    if not lines or lines[0].strip() != "v=0":
        raise SdpError(f"line 1 must be v=0, not {_shown(lines[0] if lines else '')}")
    return lines


def _origin(head: Iterable[str]) -> Origin:
    lines = [line for line in head if line.startswith("o=")]
    if len(lines) != 1:
        raise SdpError("the o= line is missing" if not lines else f"more than one o= line: {_shown(lines[1])}")
    fields = lines[0][2:].strip().rsplit(None, 5)
    if len(fields) != 6:
        raise SdpError(f"the o= line needs six fields: {_shown(lines[0])}")
    return Origin(fields[0], fields[1], fields[2], fields[5])


class _Attributes:
    """What the lines of one section (or of the session's head) say."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.address: str | None = None
        self.values: dict[str, str] = {}
        """The first a=name:value of each name, lower case; flags have an empty value."""
        self.rtpmap: dict[int, tuple[str, int, int]] = {}
        self.fmtp: dict[int, str] = {}
        self.direction: str | None = None
        for line in lines:
            if line.startswith("c=") and self.address is None:
                self.address = _connection(line)
            elif line.startswith("a="):
                self._attribute(line[2:].strip())

    def _attribute(self, text: str) -> None:
        name, _, value = text.partition(":")
        name = name.lower()
        if name == "rtpmap":
            if found := _RTPMAP.fullmatch(value):
                self.rtpmap.setdefault(int(found[1]), (found[2].upper(), int(found[3]), int(found[4] or 1)))
        elif name == "fmtp":
            payload_type, _, parameters = value.partition(" ")
            if _is_number(payload_type, 127):
                self.fmtp.setdefault(int(payload_type), parameters.strip())
        elif name in _DIRECTIONS and not value:
            self.direction = name
        else:
            self.values.setdefault(name, value.strip())

    @property
    def has_ice(self) -> bool:
        return "candidate" in self.values or "ice-ufrag" in self.values


def _media(section: Sequence[str], session: _Attributes) -> Media:
    line, own = section[0], _Attributes(section)
    kind, port, transport, formats = _m_line(line)
    address = own.address or session.address
    if address is None and port:
        raise SdpError(f"no c= line gives an address for {_shown(line)}")
    rtcp_port, rtcp_address = _rtcp(own.values.get("rtcp"))
    ptime = own.values.get("ptime", "")
    media = Media(
        kind=kind,
        port=port,
        transport=transport,
        formats=formats,
        address=address,
        direction=own.direction or session.direction or "sendrecv",
        rtcp_port=rtcp_port,
        rtcp_address=rtcp_address,
        rtcp_mux="rtcp-mux" in own.values,
        ptime_ms=int(ptime) if _is_number(ptime, 1000) else None,
        mid=own.values.get("mid"),
        has_crypto="crypto" in own.values,
        has_fingerprint="fingerprint" in own.values or "fingerprint" in session.values,
        has_ice=own.has_ice or session.has_ice,
        codecs=(),
    )
    return _with_codecs(media, own, line) if media.is_rtp else media


def _with_codecs(media: Media, own: _Attributes, line: str) -> Media:
    codecs: dict[int, Codec] = {}
    for text in media.formats:
        if not _is_number(text, 127):
            raise SdpError(f"{text[:20]!r} is no payload type 0..127 in {_shown(line)}")
        payload_type = int(text)
        known = own.rtpmap.get(payload_type) or STATIC_PAYLOADS.get(payload_type)
        if known and known[1] and known[2]:
            codecs[payload_type] = Codec(payload_type, *known, own.fmtp.get(payload_type))
    return replace_fields(media, codecs=tuple(codecs.values()))


def _m_line(line: str) -> tuple[str, int, str, tuple[str, ...]]:
    fields = line[2:].split()
    if len(fields) < 4:
        raise SdpError(f"the m-line needs kind, port, transport and formats: {_shown(line)}")
    kind, ports, transport, *formats = fields
    port, _, count = ports.partition("/")
    if not _is_number(port, 65535) or (count and not _is_number(count, 255)):
        raise SdpError(f"{ports[:20]!r} is no port 0..65535 in {_shown(line)}")
    return kind.lower(), int(port), transport, tuple(formats)


def _connection(line: str) -> str:
    fields = line[2:].split()
    if len(fields) != 3:
        raise SdpError(f"the c= line needs network type, address type and address: {_shown(line)}")
    return _address(fields, line)


def _rtcp(value: str | None) -> tuple[int | None, str | None]:
    """Port and address of a=rtcp:<port> [IN IP4|IP6 <address>] (RFC 3605)."""
    if value is None:
        return None, None
    port, *rest = value.split() or [""]
    if not _is_number(port, 65535) or len(rest) not in (0, 3):
        raise SdpError(f"expected a=rtcp:<port> [IN IP4|IP6 <address>], not {_shown(value)}")
    return int(port), _address(rest, value) if rest else None


def _address(fields: Sequence[str], line: str) -> str:
    """The numeric address of `IN IP4|IP6 address[/ttl]`."""
    network, family, text = fields
    try:
        address = ipaddress.ip_address(text.partition("/")[0])
    except ValueError:
        raise SdpError(f"a numeric address is needed (no host names), not {_shown(line)}") from None
    if network.upper() != "IN" or family.upper() != f"IP{address.version}" or "%" in text:
        raise SdpError(f"the address must be given as IN IP{address.version} without a zone: {_shown(line)}")
    if address.is_multicast:
        raise SdpError(f"multicast is not relayed: {_shown(line)}")
    return str(address)


def _is_number(text: str, highest: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= highest


def _shown(line: str) -> str:
    return ascii(line.strip()[:80])


def rewrite(
    session: Session,
    endpoints: Sequence[Endpoint | None],
    *,
    replace: Set[str] = frozenset(),
    remove_ice: bool = False,
) -> str:
    """The session's text with our endpoints in it; one endpoint an m-line.

    An endpoint of None rejects its m-line (port 0); an m-line that came rejected stays untouched. A held address
    (0.0.0.0) stays one. The session-level c= follows the first endpoint where an m-line depends on it or `replace`
    asks for it. BUNDLE is always taken out, since every m-line has ports of its own.

    replace: NG's names: `origin` (address in o=), `session-connection`, `zero-address` (held addresses too),
    `username` and `session-name` (`-`).
    """
    if len(endpoints) != len(session.media):
        raise ValueError(f"{len(endpoints)} endpoints for {len(session.media)} m-lines")
    live = [
        (endpoint, section)
        for endpoint, section, media in zip(endpoints, session.sections, session.media, strict=True)
        if endpoint and not media.rejected
    ]
    address = session.address
    if live and address and ("session-connection" in replace or not all(_own_c(section) for _, section in live)):
        address = _written(address, live[0][0].address, replace)
    secure = not live or any(_stays_secure(endpoint) for endpoint, _ in live)
    own = live[0][0].address if live else None
    parts = [line for line in _head(session, address, own, replace) if not _dropped(line, remove_ice, secure)]
    for media, section, endpoint in zip(session.media, session.sections, endpoints, strict=True):
        if media.rejected:
            parts += section
        elif endpoint is None:
            parts += [_with_port(section[0], 0, None), *section[1:]]
        else:
            parts += _section(media, section, endpoint, address, replace, remove_ice)
    return "".join(parts)


def _head(session: Session, address: str | None, own: str | None, replace: Set[str]) -> Iterator[str]:
    """Session-level lines: `address` for c=, `own` for o=."""
    connected = False
    for line in session.head:
        if line.startswith("c=") and address and address != session.address:
            if not connected:
                yield _c_line(address, line)
            connected = True
        elif line.startswith("s=") and "session-name" in replace:
            yield "s=-" + _end(line)
        elif line.startswith("o=") and replace & {"origin", "username"}:
            yield _o_line(line, own if "origin" in replace else None, "username" in replace)
        else:
            yield line


def _o_line(line: str, address: str | None, hide_username: bool) -> str:
    username, session_id, version, *place = line[2:].strip().rsplit(None, 5)
    if address:
        place = ["IN", _family(address), address]
    fields = ["-" if hide_username else username, session_id, version, *place]
    return f"o={' '.join(fields)}{_end(line)}"


def _section(
    media: Media, section: Sequence[str], endpoint: Endpoint, above: str | None, replace: Set[str], remove_ice: bool
) -> list[str]:
    """A live m-line's section; `above` is the address that the session-level c= now gives."""
    address = _written(media.address or endpoint.address, endpoint.address, replace)
    secure, end = _stays_secure(endpoint), _end(section[0])
    lines = [_with_port(section[0], endpoint.port, endpoint.transport)]
    blank: list[str] = []
    connection = _c_line(address, section[0]) if _own_c(section) or address != above else None
    said_rtcp = False
    for line in section[1:]:
        if not line.strip():
            blank.append(line)
        elif line.startswith("c="):
            if connection:
                lines.append(connection)
                connection = None
        elif _RTCP.match(line):
            if endpoint.rtcp_port is not None and not said_rtcp:
                lines.append(f"a=rtcp:{endpoint.rtcp_port}{end}")
                said_rtcp = True
        elif not _dropped(line, remove_ice, secure) and not _unwanted(line, endpoint):
            lines.append(line)
    if connection:
        lines.insert(2 if len(lines) > 1 and lines[1].startswith("i=") else 1, connection)
    if endpoint.rtcp_port is not None and not said_rtcp:
        lines.append(f"a=rtcp:{endpoint.rtcp_port}{end}")
    if endpoint.rtcp_mux and not media.rtcp_mux:
        lines.append(f"a=rtcp-mux{end}")
    return [line if line.endswith("\n") else line + end for line in lines] + blank


def _dropped(line: str, remove_ice: bool, secure: bool) -> bool:
    """Lines that cannot stay, at session or media level."""
    return bool(_BUNDLE.match(line) or (remove_ice and _ICE.match(line)) or (not secure and _KEYS.match(line)))


def _unwanted(line: str, endpoint: Endpoint) -> bool:
    """Lines that the endpoint's rtcp-mux, SSRC and transport rule out."""
    if (endpoint.rtcp_mux is False and _MUX.match(line)) or (endpoint.own_ssrc and _SOURCE.match(line)):
        return True
    no_feedback = endpoint.transport is not None and not endpoint.transport.upper().endswith("F")
    return bool(no_feedback and _FEEDBACK.match(line))


def _stays_secure(endpoint: Endpoint) -> bool:
    """Keys stay in the section: its transport is SRTP's, or is not changed."""
    return endpoint.transport is None or is_secure_profile(endpoint.transport)


def _own_c(section: Sequence[str]) -> bool:
    return any(line.startswith("c=") for line in section)


def _written(old: str, new: str, replace: Set[str]) -> str:
    """The address to write for `old`: ours, or the unspecified one of our family where `old` is a hold."""
    if ipaddress.ip_address(old).is_unspecified and "zero-address" not in replace:
        return "::" if ":" in new else "0.0.0.0"
    return new


def _with_port(line: str, port: int, transport: str | None) -> str:
    found = _M_LINE.match(line)
    if found is None:
        raise SdpError(f"the m-line cannot be rewritten: {_shown(line)}")
    kind, gap, _, gap2, old_transport = found.groups()
    return f"m={kind}{gap}{port}{gap2}{transport or old_transport}{line[found.end() :]}"


def _c_line(address: str, like: str) -> str:
    return f"c=IN {_family(address)} {address}{_end(like)}"


def _family(address: str) -> str:
    return "IP6" if ":" in address else "IP4"


def _end(line: str) -> str:
    """The line's end; CRLF where the text stops without one."""
    return "\n" if line.endswith("\n") and not line.endswith("\r\n") else "\r\n"
