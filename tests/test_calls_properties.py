"""Whatever signalling arrives, in whatever order: workers, ports and leases stay in step and nothing stays behind."""

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocol import ng
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


@settings(max_examples=150, deadline=None)
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
