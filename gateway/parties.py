"""A party of a call: what it said in SDP, line by line, and the leg that faces it on each.

The rules of RTCP multiplexing between two parties are here too.
"""

from dataclasses import dataclass, field

from gateway.errors import CallerError
from gateway.legs import Interface, Leg, payload_map
from gateway.messages import Address, Kind, Latch, Payload
from gateway.protocol import ng, sdp

MAX_TAGS = 16
"""Tags one party may be known under; hostile signalling must not grow a call without bound."""


@dataclass(slots=True, eq=False)
class Line:
    """One m-line, as one party has it."""

    leg: Leg | None = None
    media: sdp.Media | None = None
    """What the party said last; None before it said anything."""
    kind: Kind = Kind.AUDIO
    mux: bool = False
    """RTCP shares the RTP port towards this party."""
    mux_sent: bool = False
    """The SDP this party got offers rtcp-mux."""
    mux_answer: bool | None = False
    """What to answer this party's offer of rtcp-mux; None: what the other party says."""

    @property
    def held(self) -> bool:
        """The party does not want audio both ways, or has no address for it."""
        return self.media is not None and (self.media.is_held or self.media.direction != "sendrecv")

    def hear_mux_offer(self, flags: frozenset[str], listener: "Line") -> None:
        """This party offers; `listener` is the other end. flags: NG's `rtcp-mux` (RFC 5761, rtpengine's meaning)."""
        offered = self.media is not None and self.media.rtcp_mux
        forced = bool(flags & {"offer", "require"})
        listener.mux_sent = forced or (offered and "demux" not in flags)
        listener.mux = listener.mux or "require" in flags
        if not offered or "reject" in flags:
            self.mux_answer = False
        elif "accept" in flags or not listener.mux_sent:
            self.mux_answer = True
        else:
            self.mux_answer = None

    def hear_mux_answer(self, offerer: "Line") -> None:
        """This party answers what `offerer` offered."""
        self.mux = self.mux_sent and self.media is not None and self.media.rtcp_mux
        offerer.mux = self.mux if offerer.mux_answer is None else offerer.mux_answer


@dataclass(slots=True, eq=False)
class Party:
    """One side of a dialogue. A callee's party is a branch: each fork has its own."""

    created: float
    interface: Interface
    via_branch: str | None = None
    label: str | None = None
    tags: list[str] = field(default_factory=list)
    """The party's tag, then others that mean the same party."""
    lines: list[Line] = field(default_factory=list)
    answered: bool = False
    denoise: bool | None = None
    """What was asked for the audio received from this party; None: what the call says."""
    received_from: str | None = None
    trust_source: bool = False
    """The SDP's address is not believed: `received_from` counts instead (`SIP-source-address`)."""
    latch: Latch = Latch.STRICT
    delete_at: float | None = None

    @property
    def tag(self) -> str:
        """Empty before the party has one."""
        return self.tags[0] if self.tags else ""

    def learn_tag(self, tag: str | None) -> None:
        """Another name of this party; raises CallerError when there are too many."""
        if not tag or tag in self.tags:
            return
        if len(self.tags) >= MAX_TAGS:
            raise CallerError(f"Too many tags for one party (at most {MAX_TAGS}): delete the call first")
        self.tags.append(tag)

    def speak(self, request: ng.Request) -> None:
        """The party's own SDP came with this request: take what the request says of its sender."""
        self.label = request.label or self.label
        self.received_from = request.received_from or self.received_from
        self.trust_source = "sip-source-address" in request.flags
        if "asymmetric" in request.flags:
            self.latch = Latch.ASYMMETRIC
        elif "media-handover" in request.flags:
            self.latch = Latch.HANDOVER
        else:
            self.latch = Latch.STRICT
        if request.controls.denoise in ("on", "off"):
            self.denoise = request.controls.denoise == "on"

    def line(self, index: int) -> Line:
        """The party's m-line, made when it is new."""
        while len(self.lines) <= index:
            self.lines.append(Line())
        return self.lines[index]

    def remote(self, address: Address | None) -> Address | None:
        """Where this party wants packets, given an address of its SDP."""
        source = self.received_from
        if address is None or not self.trust_source or source is None or (":" in source) != (":" in address[0]):
            return address
        return source, address[1]


def payloads_between(speaker: Line, listener: Line | None) -> tuple[Payload, ...]:
    """What the party at `speaker` may send towards the one at `listener`."""
    own = speaker.media.codecs if speaker.media is not None else ()
    other = listener.media.codecs if listener is not None and listener.media is not None else ()
    return payload_map(own, other)
