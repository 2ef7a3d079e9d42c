"""Which source a leg's packets may come from, and where its answers go.

For up to `latch_s` after its first packet a port ranks the sources it sees: the SDP's address and port, the SDP's
address, the address the proxy saw the signalling come from, and others only where configured. Then the one that goes
on is pinned, and strangers are refused; one that fell silent before yields to the next as good. RTP and RTCP each learn
on their own. No clock, no socket.
"""

from ipaddress import ip_address

from gateway.messages import Address, Latch, LegSpec

EXACT, SAME_HOST, SIGNALLED, ANYONE, REFUSED = range(5)


class Latching:
    """What one port knows of its peer's address."""

    def __init__(self, spec: LegSpec, rtcp: bool, latch_s: float, latch_any: bool) -> None:
        self._mode, self._latch_s, self._latch_any = spec.latch, latch_s, latch_any
        self._expected = normal(expected_address(spec, rtcp))
        self._signalled = str(ip_address(spec.received_from)) if spec.received_from else None
        self._until = self._heard_s = 0.0
        self._rank = REFUSED
        self._before: Address | None = None
        """Where this party was before the latest offer or answer, which did not move it."""
        self.source: Address | None = spec.pinned_rtcp if rtcp else spec.pinned
        self.pinned = self.source is not None and self._mode is Latch.STRICT

    @property
    def destination(self) -> Address | None:
        """Where packets for this party go now."""
        if self._mode is Latch.ASYMMETRIC:
            return self._expected
        return self.source or self._before or self._expected

    def after(self, earlier: "Latching") -> "Latching":
        """The same, going on from what was known before an offer or answer.

        Who is put on hold sends nothing: behind a NAT, it hears music only where it was heard last.
        """
        if (self._expected, self._signalled) == (earlier._expected, earlier._signalled):
            self._before = earlier.source or earlier._before
        return self

    def expects(self, address: Address | None) -> bool:
        """Whether this is the address that the SDP named."""
        return normal(address) == self._expected

    def admit(self, source: Address, now: float) -> bool:
        """Whether a packet from `source` is the peer's; learns from it."""
        if source == self.source and (self.pinned or self._mode is not Latch.STRICT):
            return True
        if self.pinned:
            return False
        rank = self._rank_of(source)
        if rank == REFUSED or not self._improves(source, rank, now):
            return False
        if source != self.source:
            self._until = self._until if now < self._until else now + self._latch_s
        self.source, self._rank, self._heard_s = source, rank, now
        self.pinned = self._mode is Latch.STRICT and (rank == EXACT or now >= self._until)
        return True

    def _improves(self, source: Address, rank: int, now: float) -> bool:
        """Whether to follow this source: the one we have, a better one, one as good when ours is silent, or any in a
        handover."""
        if self.source is None or source == self.source or self._mode is Latch.HANDOVER:
            return True
        return rank < self._rank or (rank == self._rank and now - self._heard_s >= self._latch_s)

    def _rank_of(self, source: Address) -> int:
        expected = self._expected
        if source == expected:
            return EXACT
        if expected is not None and source[0] == expected[0]:
            return SAME_HOST
        if source[0] == self._signalled:
            return SIGNALLED
        return ANYONE if self._latch_any else REFUSED


def expected_address(spec: LegSpec, rtcp: bool) -> Address | None:
    """Where the SDP says that the party is."""
    return spec.rtcp_remote if rtcp else spec.rtp_remote


def normal(address: Address | None) -> Address | None:
    """The address as the kernel writes it."""
    return (str(ip_address(address[0])), address[1]) if address else None
