"""Whatever signalling arrives, in whatever order: workers, ports and leases stay in step and nothing stays behind."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.control.worker_link import MAX_COMMAND_BYTES
from gateway.messages import encoder
from gateway.protocol import bencode, ng
from tests.test_calls import ALICE, BOB, FAX, VIDEO, Proxy

TAGS = st.sampled_from(["alice", "bob", "carol", "", None])
HOLD = ALICE.replace("c=IN IP4 192.0.2.10", "c=IN IP4 0.0.0.0")
BODIES = [ALICE, BOB, HOLD, ALICE + VIDEO, BOB + VIDEO.replace("4002", "0"), ALICE + VIDEO + FAX, FAX, "v=0\n"]

REQUESTS = st.fixed_dictionaries(
    {
        "command": st.sampled_from(["offer", "offer", "answer", "answer", "delete", "query", "list", "statistics"]),
        "call_id": st.sampled_from(["one", "two", "x" * 1000, None]),
        "from_tag": TAGS,
        "to_tag": TAGS,
        "via_branch": st.sampled_from([None, "z1", "z2", "z3"]),
        "sdp": st.sampled_from(BODIES),
        "flags": st.frozensets(st.sampled_from(["new-branch", "fatal", "asymmetric", "sip-source-address"])),
        "rtcp_mux": st.frozensets(st.sampled_from(["offer", "require", "demux", "accept", "reject"])),
        "delete_delay_s": st.sampled_from([None, 0.0, 5.0]),
        "controls": st.builds(ng.Controls, denoise=st.sampled_from([None, "on", "off", "both", "none"])),
        "tos": st.sampled_from([None, 0, 184]),
        "extra": st.dictionaries(
            st.sampled_from(["supports", "limit"]), st.text() | st.integers() | st.lists(st.text())
        ),
    }
)


@settings(max_examples=150)
@given(st.lists(st.tuples(REQUESTS, st.floats(0.0, 50.0)), max_size=25))
def test_any_signalling_keeps_the_books_straight(requests):
    proxy = Proxy(slots=24)
    try:
        for request, later in requests:
            reply = proxy.ask(**request)
            assert reply["result"] in ("ok", "error", "load limit")
            check(proxy)
            proxy.expire(proxy.now + later)
            check(proxy)
        proxy.expire(proxy.now + 10_000.0)
        assert proxy.is_empty and len(proxy.leases.positions[0].free) == 24
    finally:
        proxy.close()


def check(proxy: Proxy) -> None:
    calls = proxy.calls.page(0, 100)
    legs = [leg for call in calls for leg in call.legs()]
    assert len(legs) == len(proxy.specs) == proxy.ports.in_use == 24 - len(proxy.leases.positions[0].free)
    for call in calls:
        slots = {leg.lease.slot for leg in call.legs()}
        assert all(proxy.specs[0, slot].peer in slots | {-1} for slot in slots)
        assert all(proxy.specs[0, slot].peer != slot for slot in slots)


NAMES = st.sampled_from(["PCMU", "\u0390" * 11_000, "x" * 60_000, "caf\udce9", "\ud800"]) | st.text(max_size=40)
ADDRESSES = st.sampled_from(["192.0.2.10", "2001:db8::1", "fe80::1%" + "z" * 25_000, "::ffff:192.0.2.1", "0.0.0.0"])
WORDS = st.sampled_from(["a", "\U0001f600" * 512, "x" * 513, "caf\udce9", "\ud800"]) | st.text(max_size=600)


@st.composite
def sdp_texts(draw) -> str:
    payload_types = draw(st.lists(st.integers(0, 127), min_size=1, max_size=128, unique=True))
    address = draw(ADDRESSES)
    maps = "".join(f"a=rtpmap:{each} {draw(NAMES)}/{draw(st.integers(0, 9_999_999))}\n" for each in payload_types[:4])
    maps += "".join(f"a=rtpmap:{each} {'n' * 32}/8000/99\n" for each in payload_types[4:])
    formats = " ".join(map(str, payload_types))
    return (
        f"v=0\no=- 1 1 IN IP4 h\ns=-\nc=IN IP{6 if ':' in address else 4} {address}\nt=0 0\n"
        f"m={draw(WORDS)} 4000 RTP/AVP {formats}\n{maps}"
        f"m=audio 4002 RTP/AVP {formats}\n{maps}"
    )


SIX = ALICE.replace("IP4 192.0.2.10", "IP6 2001:db8::1")


@settings(max_examples=60)
@example(offer=SIX, answer=SIX, words=list("abcde"), source="fe80::1%" + "z" * 25_000)
@given(offer=sdp_texts(), answer=sdp_texts(), words=st.lists(WORDS, min_size=5, max_size=5), source=ADDRESSES)
def test_no_offer_or_answer_makes_an_order_that_its_worker_cannot_read(offer, answer, words, source):
    proxy = Proxy(slots=24)
    call_id, from_tag, to_tag, via_branch, label = words
    keys = {"call-id": call_id, "from-tag": from_tag, "via-branch": via_branch, "label": label}
    keys |= {"received-from": ["IP4", source], "flags": ["SIP-source-address"]}
    try:
        for message in (
            {"command": "offer", "sdp": offer, **keys},
            {"command": "answer", "sdp": answer, "to-tag": to_tag, **keys},
        ):
            try:
                request = ng.parse(b"cookie " + bencode.encode(message))
            except ng.NgRequestError:
                continue
            for order in proxy.calls.handle(request, 0.0).orders:
                assert len(encoder.encode(order.command)) < MAX_COMMAND_BYTES
    finally:
        proxy.close()
