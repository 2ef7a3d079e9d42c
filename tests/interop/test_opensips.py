"""The requests that OpenSIPS's rtpengine module writes, byte for byte in its order of keys, answered by the gateway.

Debian has no OpenSIPS, so its side is written down here: `rtpe_function_call` in modules/rtpengine/rtpengine.c puts the
keys in this order, unsorted, and turns words it does not know (`denoise=on`) into keys of their own.
"""

import re

from tests.interop.peers import Site

SDP = "v=0\r\no=- 1 1 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio 6000 RTP/AVP 0 8\r\na=ptime:20\r\n"


def bencode(value: str | int | list | dict) -> bytes:
    """Bencode that keeps a dictionary's order, as OpenSIPS does."""
    match value:
        case int():
            return b"i%de" % value
        case list():
            return b"l" + b"".join(map(bencode, value)) + b"e"
        case dict():
            return b"d" + b"".join(bencode(part) for pair in value.items() for part in pair) + b"e"
    text = value.encode()
    return b"%d:%s" % (len(text), text)


def ask(site: Site, request: dict) -> bytes:
    return site.ng.send(bencode(request))


def sdp_in(reply: bytes) -> str:
    """The SDP of a bencoded reply."""
    length, _, rest = reply.partition(b"3:sdp")[2].partition(b":")
    return rest[: int(length)].decode()


def test_a_call_of_opensips_from_offer_to_delete(site: Site):
    network = site.network
    common = {"call-id": "opensips-1@example", "received-from": ["IP4", network.alice]}
    words = {"ICE": "remove", "denoise": "on", "denoise-level": "60", "flags": ["trust-address"]}
    words |= {"replace": ["origin", "session-connection"], "transport-protocol": "RTP/AVP", "rtcp-mux": ["demux"]}
    offer = {"sdp": SDP.format(network.alice), **words, "call-id": common["call-id"], "via-branch": "z9hG4bK1"}
    offer |= {"received-from": common["received-from"], "from-tag": "caller", "command": "offer"}
    reply = ask(site, offer)
    assert b"6:result2:ok" in reply
    assert f"c=IN IP4 {network.gateway}" in sdp_in(reply)
    assert re.search(r"m=audio 3\d{4} RTP/AVP 0 8\r\n", sdp_in(reply))
    (listed,) = site.calls()
    assert listed["denoise"]["level"] == 60

    answer = {"sdp": SDP.format(network.bob), **words, **common, "from-tag": "caller", "to-tag": "callee"}
    reply = ask(site, answer | {"command": "answer"})
    assert b"6:result2:ok" in reply and f"c=IN IP4 {network.gateway}" in sdp_in(reply)

    query = ask(site, {**common, "from-tag": "caller", "command": "query"})
    for key in (b"6:totals", b"4:tags", b"6:medias", b"7:streams", b"7:created", b"4:SSRC"):
        assert key in query
    hung_up_by_the_callee = ask(site, {**common, "from-tag": "callee", "command": "delete"})
    assert b"6:result2:ok" in hung_up_by_the_callee
    assert site.calls() == []


def test_pings_are_answered_as_opensips_compares_them(site: Site):
    assert ask(site, {"command": "ping"}) == b"d6:result4:ponge"


def test_what_cannot_be_served_is_refused_with_a_reason(site: Site):
    secure = SDP.format(site.network.alice).replace("RTP/AVP", "RTP/SAVP")
    request = {"sdp": secure, "call-id": "opensips-2", "from-tag": "caller", "command": "offer"}
    reply = ask(site, request)
    assert b"6:result5:error" in reply and b"not built yet" in reply
    assert site.calls() == []
