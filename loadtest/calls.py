"""Calls as a SIP proxy places them: an offer and an answer over NG, two parties with a socket each.

A call has two legs, because a leg is one *received* stream: what A says enters at the port that the answer's reply
named, and leaves from the port that the offer's reply named, towards B.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.ng import Address, Body, NgClient, NgError

IN_FLIGHT = 8
"""Calls that are set up at once."""
_call_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Leg:
    """One stream into the gateway, and where it comes out again."""

    endpoint: int
    """Socket of the generator that sends it."""
    enters: Address
    leaves: Address
    """Where its packets come from when they leave the gateway."""


@dataclass(frozen=True, slots=True)
class Call:
    """Both parties of a call, before the gateway has been asked."""

    call_id: str
    a: tuple[int, Address]
    """Socket of the generator and its address."""
    b: tuple[int, Address]
    denoise: bool

    @staticmethod
    def between(a: tuple[int, Address], b: tuple[int, Address], denoise: bool = True) -> "Call":
        """A call with an id of its own."""
        return Call(f"load-{next(_call_numbers)}", a, b, denoise)

    def offer(self) -> Body:
        """What Kamailio's `rtpengine_offer("replace-origin replace-session-connection")` sends for A's INVITE."""
        return self._request("offer", self.a[1])

    def answer(self) -> Body:
        """The same for B's 200."""
        return self._request("answer", self.b[1]) | {"to-tag": f"{self.call_id}-b"}

    def delete(self) -> Body:
        """The same for A's BYE."""
        return {"command": "delete", "call-id": self.call_id, "from-tag": f"{self.call_id}-a"}

    def legs(self, offered: Body, answered: Body) -> tuple[Leg, Leg]:
        """Both legs, from the bodies of both replies."""
        towards_b, towards_a = media_address(str(offered["sdp"])), media_address(str(answered["sdp"]))
        return Leg(self.a[0], towards_a, towards_b), Leg(self.b[0], towards_b, towards_a)

    def _request(self, command: str, address: Address) -> Body:
        body: Body = {
            "command": command,
            "call-id": self.call_id,
            "from-tag": f"{self.call_id}-a",
            "received-from": ["IP4", address[0]],
            "replace": ["origin", "session-connection"],
            "sdp": session(address),
            "supports": ["load limit"],
        }
        return body if self.denoise else body | {"denoise": "off"}


def session(address: Address) -> str:
    """SDP of a party that takes PCMU in packets of 20 ms at this address."""
    host, port = address
    lines = ("v=0", f"o=- 1 1 IN IP4 {host}", "s=-", f"c=IN IP4 {host}", "t=0 0", f"m=audio {port} RTP/AVP 0")
    return "\r\n".join((*lines, "a=rtpmap:0 PCMU/8000", "a=ptime:20", "a=sendrecv", ""))


def media_address(sdp: str) -> Address:
    """Where the first m-line of an SDP receives; raises NgError when it does not say."""
    lines = sdp.splitlines()
    ports = [line.split()[1] for line in lines if line.startswith("m=")]
    section = next((i for i, line in enumerate(lines) if line.startswith("m=")), len(lines))
    second = next((i for i, line in enumerate(lines) if line.startswith("m=") and i > section), len(lines))
    hosts = [line.split()[2] for line in lines[:second] if line.startswith("c=")]
    if not ports or not hosts or int(ports[0]) == 0:
        raise NgError(f"no media address in the reply's SDP: {sdp!r}")
    return hosts[-1], int(ports[0])


def place(ng: NgClient, calls: Sequence[Call]) -> list[Leg]:
    """Set all calls up, a few at a time; returns two legs a call in the order of the calls. Raises NgError."""
    legs: dict[str, tuple[Leg, Leg]] = {}
    offered: dict[str, Body] = {}
    pending: dict[str, Call] = {}
    waiting = list(reversed(calls))
    while len(legs) < len(calls):
        while waiting and len(pending) < IN_FLIGHT:
            call = waiting.pop()
            pending[ng.send(call.offer())] = call
        got = 0
        for reply in ng.replies(wait_s=5.0):
            got += 1
            call, body = pending.pop(reply.cookie), reply.require_ok()
            if call.call_id in offered:
                legs[call.call_id] = call.legs(offered.pop(call.call_id), body)
            else:
                offered[call.call_id] = body
                pending[ng.send(call.answer())] = call
        if not got:
            raise NgError(f"no reply for 5 s while setting up call {len(legs)} of {len(calls)}")
    return [leg for call in calls for leg in legs[call.call_id]]


def hang_up(ng: NgClient, calls: Sequence[Call]) -> None:
    """Delete all calls; an answer that does not come is not missed (the run is over)."""
    for first in range(0, len(calls), IN_FLIGHT):
        for call in calls[first : first + IN_FLIGHT]:
            ng.send(call.delete())
        while ng.waiting and any(True for _ in ng.replies(wait_s=1.0)):
            pass
