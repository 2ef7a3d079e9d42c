"""Which sources a port believes: ranks, the window, the pin."""

import pytest

from gateway.media.latching import Latching
from gateway.messages import Latch, LegSpec

SDP = ("10.0.0.1", 4000)
OTHER_PORT = ("10.0.0.1", 4444)
SIGNALLED = ("10.0.0.9", 1234)
STRANGER = ("192.0.2.66", 4000)


def latching(any_source: bool = False, **changes: object) -> Latching:
    defaults = {"rtp_remote": SDP, "rtcp_remote": ("10.0.0.1", 4001), "received_from": "10.0.0.9"}
    spec = LegSpec(slot=0, generation=1, call_id="call", **{**defaults, **changes})
    return Latching(spec, rtcp=False, latch_s=3.0, latch_any=any_source)


def test_the_exact_source_is_pinned_at_once():
    port = latching()
    assert port.admit(SDP, 0.0) and port.pinned and port.destination == SDP


def test_a_better_source_replaces_a_worse_one_within_the_window():
    port = latching()
    assert port.admit(SIGNALLED, 0.0) and port.destination == SIGNALLED and not port.pinned
    assert port.admit(OTHER_PORT, 1.0) and port.destination == OTHER_PORT
    assert not port.admit(SIGNALLED, 1.1)
    assert port.admit(SDP, 2.0) and port.pinned


def test_after_the_window_the_best_source_is_pinned():
    port = latching()
    port.admit(SIGNALLED, 0.0)
    assert port.admit(SIGNALLED, 3.0) and port.pinned
    assert not port.admit(SDP, 3.1)


def test_a_better_source_is_never_too_late_while_none_is_pinned():
    port = latching()
    port.admit(SIGNALLED, 0.0)
    assert port.admit(SDP, 3.5) and port.pinned


def test_a_source_that_fell_silent_before_it_was_pinned_yields_to_one_as_good():
    port = latching()
    assert port.admit(OTHER_PORT, 0.0)
    next_port = (OTHER_PORT[0], 5555)
    assert not port.admit(next_port, 2.9)
    assert port.admit(next_port, 3.1) and not port.pinned
    assert port.admit(next_port, 6.2) and port.pinned


def test_a_silent_source_does_not_yield_to_a_worse_one():
    port = latching(any_source=True)
    port.admit(OTHER_PORT, 0.0)
    assert not port.admit(STRANGER, 60.0) and port.destination == OTHER_PORT


def test_a_party_that_an_offer_did_not_move_is_still_sent_to_where_it_was_heard():
    heard = latching()
    heard.admit(SIGNALLED, 0.0)
    port = latching().after(heard)
    assert port.destination == SIGNALLED and port.source is None
    assert latching().after(port).destination == SIGNALLED
    assert port.admit(SDP, 10.0) and port.destination == SDP


def test_a_party_that_an_offer_moved_is_sent_to_where_it_is_now():
    heard = latching()
    heard.admit(SIGNALLED, 0.0)
    assert latching(rtp_remote=("10.0.0.7", 5000)).after(heard).destination == ("10.0.0.7", 5000)


@pytest.mark.parametrize("first", [None, SDP, SIGNALLED])
def test_a_stranger_never_moves_the_stream(first):
    port = latching()
    if first:
        port.admit(first, 0.0)
    before = port.destination
    assert not port.admit(STRANGER, 0.1) and port.destination == before


def test_a_stranger_is_believed_only_where_configured_and_yields_to_anyone_better():
    port = latching(any_source=True)
    assert port.admit(STRANGER, 0.0) and port.destination == STRANGER
    assert port.admit(SDP, 1.0) and port.destination == SDP
    assert not port.admit(STRANGER, 1.1)


def test_an_asymmetric_leg_sends_to_the_sdp_address_whatever_it_hears():
    port = latching(latch=Latch.ASYMMETRIC)
    assert port.admit(SIGNALLED, 0.0) and port.destination == SDP and not port.pinned


def test_media_handover_follows_the_peer_at_any_time():
    port = latching(latch=Latch.HANDOVER)
    port.admit(SDP, 0.0)
    assert port.admit(OTHER_PORT, 60.0) and port.destination == OTHER_PORT and not port.pinned


def test_a_new_worker_goes_on_from_the_pin_of_the_old_one():
    port = latching(pinned=OTHER_PORT)
    assert port.pinned and port.destination == OTHER_PORT and not port.admit(SDP, 0.0)


def test_before_any_packet_the_sdp_says_where_to_send():
    assert latching().destination == SDP and latching(rtp_remote=None).destination is None


def test_ipv6_addresses_are_compared_in_the_kernels_form():
    port = latching(rtp_remote=("2001:DB8:0::1", 4000))
    assert port.admit(("2001:db8::1", 4000), 0.0) and port.pinned
