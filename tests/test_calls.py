"""Calls, from NG requests with real SDP to replies and orders for the workers. Time is faked; sockets are real."""

import socket
import time
from ipaddress import ip_address
from typing import ClassVar

import numpy as np
import pytest
from msgspec.structs import replace

from gateway.calls import TIMER_C_S, Calls, UnknownCallError
from gateway.config import CallsConfig, Config, DenoiseConfig, MediaConfig
from gateway.control.sockets import SocketPool
from gateway.errors import CallerError
from gateway.leases import Leases, LoadLimitError
from gateway.leg_table import Order
from gateway.legs import Interface
from gateway.messages import LEG_STATS, CloseLeg, Detected, Kind, Latch, Latched, LegSpec, OpenLeg, UpdateLeg
from gateway.protocol import ng, sdp
from tests.control.harness import free_ports

ALICE = """v=0
o=alice 2890844526 2890844526 IN IP4 192.0.2.10
s=-
c=IN IP4 192.0.2.10
t=0 0
m=audio 4000 RTP/AVP 0 8 101
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-16
a=sendrecv
"""
BOB = """v=0
o=bob 2808844564 2808844564 IN IP4 198.51.100.20
s=-
c=IN IP4 198.51.100.20
t=0 0
m=audio 5000 RTP/AVP 0 96
a=rtpmap:0 PCMU/8000
a=rtpmap:96 telephone-event/8000
a=sendrecv
"""
VIDEO = "m=video 4002 RTP/AVP 99\na=rtpmap:99 H264/90000\n"
FAX = "m=image 4004 udptl t38\na=T38FaxVersion:0\n"
INTERFACES = {
    "default": Interface("default", "127.0.0.1", "203.0.113.1"),
    "inside": Interface("inside", "127.0.0.2", "127.0.0.2"),
    "v6": Interface("v6", "::1", "2001:db8::1"),
}


class Proxy:
    """Asks like a SIP proxy and keeps a copy of what the workers know."""

    def __init__(
        self,
        calls: CallsConfig | None = None,
        slots: int = 40,
        workers: int = 1,
        denoise: DenoiseConfig | None = None,
        **media: float,
    ):
        media_config = MediaConfig(slots=slots, **{"port_min": 21000, "port_max": 21999, **media})
        config = Config(calls=calls or CallsConfig(), media=media_config, denoise=denoise or DenoiseConfig())
        self.ports = SocketPool(media_config)
        self.leases = Leases(workers, slots)
        for worker in range(workers):
            self.leases.set_ready(worker, True)
        self.calls = Calls(config, INTERFACES, self.ports, self.leases, unix_offset_s=1000.0)
        self.specs: dict[tuple[int, int], LegSpec] = {}
        self.now = 0.0
        self.made.append(self)

    made: ClassVar[list["Proxy"]] = []

    def close(self) -> None:
        for call in self.calls.page(0, 1000):
            for leg in call.legs():
                self.ports.close(leg.pair, 0.0)

    def ask(self, command: str, **keys) -> dict:
        keys = {"call_id": "call", "from_tag": "alice", **keys}
        if "sdp" in keys:
            keys["sdp"] = keys["sdp"].replace("\n", "\r\n")
        outcome = self.calls.handle(ng.Request(b"1", "json", command, **keys), self.now)
        self.obey(outcome.orders)
        return outcome.reply

    def obey(self, orders: list[Order]) -> None:
        for worker, command, leg in orders:
            match command:
                case OpenLeg(spec):
                    assert (worker, spec.slot) not in self.specs
                    assert leg is not None and len(leg.pair.sockets) == 2
                    self.specs[worker, spec.slot] = spec
                case UpdateLeg(spec):
                    assert self.specs[worker, spec.slot].generation == spec.generation
                    self.specs[worker, spec.slot] = spec
                case CloseLeg(lease):
                    assert self.specs.pop((worker, lease.slot)).generation == lease.generation

    def offer(self, text: str = ALICE, **keys) -> sdp.Session:
        return session(self.ask("offer", sdp=text, **keys))

    def answer(self, text: str = BOB, to_tag: str = "bob", **keys) -> sdp.Session:
        return session(self.ask("answer", sdp=text, to_tag=to_tag, **keys))

    def call(self, **keys) -> tuple[sdp.Session, sdp.Session]:
        return self.offer(**keys), self.answer(**keys)

    def spec(self, port: int) -> LegSpec:
        """Of the leg with this local RTP port."""
        call = self.calls.page(0, 1)[0]
        leg = next(leg for leg in call.legs() if leg.pair.port == port)
        return self.specs[call.worker, leg.lease.slot]

    def expire(self, now: float) -> list[str]:
        self.now = now
        self.obey(self.calls.expire(now))
        return [ended.reason for ended in self.calls.take_ended()]

    def media_arrives(self, now: float) -> None:
        rows = np.zeros(len(self.specs), LEG_STATS)
        for row, spec in zip(rows, self.specs.values(), strict=True):
            row["slot"], row["generation"], row["packets"], row["bytes"] = spec.slot, spec.generation, 50, 8600
            row["last_packet_s"], row["ssrc_in"] = now, 1000 + spec.slot
        self.calls.legs.reported(0, rows.tobytes())

    @property
    def is_empty(self) -> bool:
        return not self.specs and not len(self.calls) and self.ports.in_use == 0


@pytest.fixture(autouse=True)
def closed_sockets():
    yield
    while Proxy.made:
        Proxy.made.pop().close()


def session(reply: dict) -> sdp.Session:
    assert reply["result"] == "ok", reply
    return sdp.parse(reply["sdp"])


def remotes(proxy: Proxy) -> set:
    return {spec.rtp_remote for spec in proxy.specs.values()}


# --- set-up


def test_offer_and_answer_give_each_party_a_port_of_ours_and_link_its_legs():
    proxy = Proxy()
    to_bob, to_alice = proxy.call()
    facing_bob, facing_alice = proxy.spec(to_bob.media[0].port), proxy.spec(to_alice.media[0].port)
    assert to_bob.media[0].address == to_alice.media[0].address == "203.0.113.1"
    assert to_bob.media[0].port % 2 == 0 and to_bob.media[0].rtcp_port == to_bob.media[0].port + 1
    assert facing_bob.rtp_remote == ("198.51.100.20", 5000) and facing_bob.rtcp_remote == ("198.51.100.20", 5001)
    assert facing_alice.rtp_remote == ("192.0.2.10", 4000)
    assert facing_alice.peer == facing_bob.slot and facing_bob.peer == facing_alice.slot
    assert facing_alice.kind is Kind.AUDIO and facing_alice.denoise and facing_alice.level == 80


def test_the_callee_can_be_heard_before_it_answers():
    proxy = Proxy()
    facing_bob = proxy.spec(proxy.offer().media[0].port)
    assert facing_bob.rtp_remote is None and facing_bob.peer >= 0


def test_payload_types_pass_by_the_other_sides_numbers_and_own_numbers_are_mapped():
    proxy = Proxy()
    to_bob, to_alice = proxy.call()
    of_alice = {p.payload_type: p for p in proxy.spec(to_alice.media[0].port).payloads}
    of_bob = {p.payload_type: p for p in proxy.spec(to_bob.media[0].port).payloads}
    assert of_alice[96].out_payload_type == 96  # she uses Bob's number, as RFC 3264 says
    assert of_alice[101].out_payload_type == 96  # or her own
    assert of_bob[96].out_payload_type == of_bob[101].out_payload_type == 101
    assert of_bob[0].codec == "PCMU" and of_bob[101].codec == "TELEPHONE-EVENT"


def test_an_answer_to_an_unknown_call_is_an_error():
    assert Proxy().ask("answer", sdp=BOB, to_tag="bob") == ng.error("Unknown call-id")


def test_ping_answers_pong_and_unknown_commands_say_what_there_is():
    proxy = Proxy()
    assert proxy.ask("ping") == {"result": "pong"}
    assert "offer" in proxy.ask("play media")["error-reason"]


# --- forks and tags


def test_parallel_forks_share_the_callers_leg_and_the_latest_answer_feeds_it():
    proxy = Proxy()
    first = proxy.offer(via_branch="z1").media[0].port
    second = proxy.offer(via_branch="z2").media[0].port
    assert first != second and len(proxy.specs) == 3
    to_alice = proxy.answer(to_tag="bob1", via_branch="z1").media[0].port
    assert proxy.spec(first).peer == proxy.spec(to_alice).slot and proxy.spec(second).peer == -1
    assert proxy.answer(to_tag="bob2", via_branch="z2").media[0].port == to_alice
    assert proxy.spec(second).peer == proxy.spec(to_alice).slot and proxy.spec(first).peer == -1
    assert proxy.spec(to_alice).peer == proxy.spec(second).slot


def test_deleting_one_fork_by_its_via_branch_leaves_the_others():
    proxy = Proxy()
    proxy.offer(via_branch="z1")
    second = proxy.offer(via_branch="z2").media[0].port
    proxy.ask("delete", via_branch="z1")
    assert len(proxy.specs) == 2 and proxy.spec(second).peer >= 0
    proxy.ask("delete", via_branch="z2")
    assert proxy.is_empty


def test_a_serial_fork_without_via_branch_takes_over_the_ports():
    proxy = Proxy()
    to_bob, _ = proxy.call()
    to_carol = proxy.offer()
    assert to_carol.media[0].port == to_bob.media[0].port
    proxy.answer(BOB.replace("198.51.100.20", "198.51.100.30"), to_tag="carol")
    assert proxy.spec(to_carol.media[0].port).rtp_remote == ("198.51.100.30", 5000) and len(proxy.specs) == 2


def test_the_same_invite_again_gets_the_same_ports():
    proxy = Proxy()
    assert proxy.offer(via_branch="z1").media[0].port == proxy.offer(via_branch="z1").media[0].port
    assert len(proxy.specs) == 2


def test_an_unseen_to_tag_is_an_alias_unless_a_new_branch_is_asked_for():
    proxy = Proxy()
    to_bob, _ = proxy.call()
    assert proxy.offer(to_tag="bob-after-transfer").media[0].port == to_bob.media[0].port
    other = proxy.offer(to_tag="carol", flags=frozenset({"new-branch"}))
    assert other.media[0].port != to_bob.media[0].port


def test_a_bye_of_a_losing_fork_leaves_the_answered_one():
    proxy = Proxy()
    proxy.offer(via_branch="z1")
    proxy.offer(via_branch="z2")
    proxy.answer(to_tag="bob1", via_branch="z1")
    proxy.answer(to_tag="bob2", via_branch="z2")
    proxy.ask("delete", to_tag="bob2")
    assert len(proxy.specs) == 2
    proxy.ask("delete", to_tag="bob1")
    assert proxy.is_empty


def forked() -> Proxy:
    """Bob has answered the first fork; the second, z2, is deleted."""
    proxy = Proxy()
    proxy.offer(via_branch="z1")
    proxy.offer(via_branch="z2")
    proxy.answer(to_tag="bob1", via_branch="z1")
    proxy.ask("delete", via_branch="z2")
    assert len(proxy.specs) == 2
    return proxy


@pytest.mark.parametrize("keys", [{"via_branch": "z2"}, {"via_branch": "z2", "to_tag": "bob2"}, {"to_tag": "bob2"}])
def test_a_second_delete_of_a_fork_leaves_the_live_one(keys):
    proxy = forked()
    assert "warning" in proxy.ask("delete", **keys)
    assert proxy.ask("delete", flags=frozenset({"fatal"}), **keys)["result"] == "error"
    assert len(proxy.specs) == 2


@pytest.mark.parametrize("keys", [{}, {"via_branch": "of-the-bye"}, {"via_branch": "z2", "to_tag": "bob1"}])
def test_a_bye_ends_the_call_whatever_its_via_branch(keys):
    proxy = forked()
    assert "totals" in proxy.ask("delete", **keys)
    assert proxy.is_empty


def test_a_487_with_a_tag_that_nobody_has_leaves_the_answered_fork_and_ends_an_unanswered_call():
    proxy = Proxy()
    proxy.offer(via_branch="z1")
    proxy.offer(via_branch="z2")
    proxy.answer(to_tag="bob1", via_branch="z1")
    assert "warning" in proxy.ask("delete", to_tag="bob2") and len(proxy.specs) == 3
    ringing = Proxy()
    ringing.offer()
    ringing.ask("delete", to_tag="bob2")
    assert ringing.is_empty


def early_media() -> Proxy:
    """The first fork has sent an SDP, the second rings."""
    proxy = Proxy(CallsConfig(media_timeout_s=60, silent_timeout_s=3600))
    proxy.offer(via_branch="z1")
    proxy.offer(via_branch="z2")
    proxy.answer(to_tag="bob1", via_branch="z1")
    return proxy


@pytest.mark.parametrize("keys", [{"to_tag": "bob1"}, {"to_tag": "bob1", "via_branch": "of-the-bye"}])
def test_an_answered_fork_that_is_deleted_by_its_to_tag_leaves_those_that_ring(keys):
    proxy = early_media()
    assert "totals" in proxy.ask("delete", **keys)
    assert len(proxy.specs) == 2
    to_alice = proxy.answer(to_tag="bob2", via_branch="z2").media[0].port
    assert proxy.spec(to_alice).peer >= 0
    proxy.ask("delete", to_tag="bob2")
    assert proxy.is_empty


@pytest.mark.parametrize("keys", [{}, {"from_tag": "bob1", "to_tag": "alice"}, {"from_tag": "bob1"}])
def test_a_bye_of_the_callee_or_without_a_to_tag_ends_what_still_rings(keys):
    proxy = early_media()
    proxy.ask("delete", **keys)
    assert proxy.is_empty


def test_forks_that_ring_after_an_answered_one_is_gone_ring_for_timer_c_only():
    proxy = early_media()
    proxy.expire(50.0)
    proxy.ask("delete", to_tag="bob1")
    assert proxy.expire(50.0 + TIMER_C_S - 1) == []
    assert proxy.expire(50.0 + TIMER_C_S) == ["silent timeout"] and proxy.is_empty


def test_a_fork_that_is_offered_again_can_be_deleted_again():
    proxy = forked()
    proxy.offer(via_branch="z2")
    assert "totals" in proxy.ask("delete", via_branch="z2") and len(proxy.specs) == 2


# --- re-INVITE, hold, early media


def test_a_reinvite_of_the_callee_keeps_the_ports_and_swaps_the_roles():
    proxy = Proxy()
    to_bob, to_alice = proxy.call()
    moved = BOB.replace("5000", "5500")
    again = proxy.offer(moved, from_tag="bob", to_tag="alice")
    assert again.media[0].port == to_alice.media[0].port
    assert proxy.answer(ALICE, from_tag="bob", to_tag="alice").media[0].port == to_bob.media[0].port
    assert proxy.spec(to_bob.media[0].port).rtp_remote == ("198.51.100.20", 5500)
    assert len(proxy.specs) == 2


def test_each_offer_or_answer_of_a_party_opens_its_latching_again():
    proxy = Proxy()
    to_bob, to_alice = proxy.call()
    before = proxy.spec(to_alice.media[0].port).epoch
    proxy.offer()
    assert proxy.spec(to_alice.media[0].port).epoch == before + 1
    assert proxy.spec(to_bob.media[0].port).epoch == 1


@pytest.mark.parametrize(
    ("hold", "remote"),
    [
        (ALICE.replace("sendrecv", "sendonly"), ("192.0.2.10", 4000)),
        (ALICE.replace("sendrecv", "inactive"), ("192.0.2.10", 4000)),
        (ALICE.replace("c=IN IP4 192.0.2.10", "c=IN IP4 0.0.0.0"), None),
    ],
    ids=["sendonly", "inactive", "zero address"],
)
def test_hold_gets_the_longer_timeout_and_resume_restores_the_address(hold, remote):
    proxy = Proxy(CallsConfig(media_timeout_s=60, silent_timeout_s=600))
    _, to_alice = proxy.call()
    proxy.offer(hold, to_tag="bob")
    proxy.answer(BOB.replace("sendrecv", "recvonly"))
    assert proxy.spec(to_alice.media[0].port).rtp_remote == remote
    assert proxy.expire(100.0) == []
    proxy.offer(to_tag="bob")
    proxy.answer()
    assert proxy.spec(to_alice.media[0].port).rtp_remote == ("192.0.2.10", 4000)
    assert proxy.expire(161.0) == ["media timeout"]


def test_early_media_then_an_answer_with_another_sdp_moves_the_callee():
    proxy = Proxy()
    to_bob, to_alice = proxy.call()
    final = proxy.answer(BOB.replace("5000", "5200"))
    assert final.media[0].port == to_alice.media[0].port
    assert proxy.spec(to_bob.media[0].port).rtp_remote == ("198.51.100.20", 5200)


def test_the_same_answer_again_changes_nothing_but_the_epoch():
    proxy = Proxy()
    to_bob, _ = proxy.call()
    before = proxy.spec(to_bob.media[0].port)
    proxy.answer()
    after = proxy.spec(to_bob.media[0].port)
    assert after.epoch == before.epoch + 1 and after.rtp_remote == before.rtp_remote and len(proxy.specs) == 2


# --- several m-lines


def test_video_and_fax_are_relayed_raw():
    proxy = Proxy()
    to_bob = proxy.offer(ALICE + VIDEO + FAX)
    kinds = [proxy.spec(media.port).kind for media in to_bob.media]
    assert kinds == [Kind.AUDIO, Kind.RAW, Kind.RAW]
    assert not proxy.spec(to_bob.media[1].port).denoise
    assert len(proxy.specs) == 6


def test_sources_go_from_the_audio_that_gets_our_ssrc_and_stay_in_what_is_relayed_raw():
    proxy = Proxy()
    sources = "a=ssrc:7 cname:x\na=ssrc-group:FID 7 8\n"
    for said in (proxy.offer(ALICE + sources + VIDEO + sources), proxy.answer(BOB + sources + VIDEO + sources)):
        audio, video = ["".join(section) for section in said.sections]
        assert "ssrc" not in audio and "a=sendrecv\r\n" in audio
        assert sources.replace("\n", "\r\n") in video


def test_a_line_rejected_in_the_answer_frees_its_legs():
    proxy = Proxy()
    proxy.offer(ALICE + VIDEO)
    to_alice = proxy.answer(BOB + "m=video 0 RTP/AVP 99\n")
    assert to_alice.media[1].rejected and len(proxy.specs) == 2


def test_a_reinvite_adds_removes_and_brings_back_a_line():
    proxy = Proxy()
    to_bob, _ = proxy.call()
    assert proxy.offer(ALICE + VIDEO).media[0].port == to_bob.media[0].port
    proxy.answer(BOB + VIDEO.replace("4002", "5002"))
    assert len(proxy.specs) == 4
    proxy.offer(ALICE + VIDEO.replace("4002", "0"))
    assert len(proxy.specs) == 2
    proxy.answer(BOB + VIDEO.replace("4002", "0"))
    proxy.offer(ALICE + VIDEO)
    assert len(proxy.specs) == 4


def test_a_reinvite_to_fax_turns_the_same_leg_raw():
    proxy = Proxy()
    to_bob, _ = proxy.call()
    head = ALICE.partition("m=")[0]
    fax = proxy.offer(head + FAX)
    assert fax.media[0].port == to_bob.media[0].port and proxy.spec(fax.media[0].port).kind is Kind.RAW


def test_a_line_over_tcp_is_rejected_and_the_audio_goes_on():
    proxy = Proxy()
    to_bob = proxy.offer(ALICE + "m=message 2855 TCP/MSRP *\n")
    assert to_bob.media[1].rejected and not to_bob.media[0].rejected and len(proxy.specs) == 2


# --- ending


def test_a_delete_with_only_the_callees_tag_frees_everything():
    proxy = Proxy()
    proxy.call()
    reply = proxy.ask("delete", from_tag="bob")
    assert reply["result"] == "ok" and "totals" in reply and proxy.is_empty


def test_an_unknown_call_is_deleted_with_a_warning_or_an_error_if_fatal():
    proxy = Proxy()
    assert proxy.ask("delete") == {"result": "ok", "warning": "Unknown call-id"}
    assert proxy.ask("delete", flags=frozenset({"fatal"})) == ng.error("Unknown call-id")
    proxy.call()
    assert "warning" in proxy.ask("delete", from_tag="mallory")
    assert len(proxy.specs) == 2


def test_a_delete_delay_keeps_the_call_and_new_signalling_revives_it():
    proxy = Proxy(CallsConfig(delete_delay_s=10))
    proxy.call()
    proxy.ask("delete")
    assert proxy.expire(9.0) == []
    proxy.offer(to_tag="bob")
    assert proxy.expire(11.0) == []
    proxy.ask("delete", delete_delay_s=0.0)
    assert proxy.is_empty


def test_a_fork_that_waits_to_be_deleted_is_revived_by_its_answer():
    proxy = Proxy()
    proxy.offer(via_branch="z1")
    proxy.offer(via_branch="z2")
    proxy.ask("delete", via_branch="z1", delete_delay_s=5.0)
    proxy.answer(to_tag="bob1", via_branch="z1")
    proxy.expire(6.0)
    assert len(proxy.specs) == 3


def test_a_new_caller_may_reuse_the_call_id_of_a_call_that_waits_to_be_deleted():
    proxy = Proxy(CallsConfig(delete_delay_s=10))
    proxy.call()
    proxy.ask("delete")
    proxy.offer(from_tag="alice-again")
    assert len(proxy.specs) == 2 and len(proxy.calls) == 1


def test_media_keeps_a_call_alive_and_its_end_ends_it():
    proxy = Proxy(CallsConfig(media_timeout_s=60))
    proxy.call()
    proxy.media_arrives(50.0)
    assert proxy.expire(100.0) == []
    assert proxy.expire(110.0) == ["media timeout"] and proxy.is_empty


def test_a_call_that_rings_is_not_ended_by_the_media_timeout():
    proxy = Proxy(CallsConfig(media_timeout_s=60, silent_timeout_s=600))
    proxy.offer()
    assert proxy.expire(120.0) == []
    assert proxy.expire(600.0) == ["silent timeout"]


def test_the_final_timeout_ends_a_call_whatever_it_does():
    proxy = Proxy(CallsConfig(final_timeout_s=100))
    proxy.call()
    proxy.media_arrives(99.0)
    assert proxy.expire(100.0) == ["final timeout"] and proxy.is_empty


# --- addresses


def test_direction_and_address_family_choose_interfaces():
    proxy = Proxy()
    to_bob = proxy.offer(direction=("inside", "default"))
    assert to_bob.media[0].address == "203.0.113.1"
    assert proxy.answer().media[0].address == "127.0.0.2"
    other = Proxy()
    v6 = other.offer(address_family="IP6")
    assert v6.media[0].address == "2001:db8::1"
    bob6 = BOB.replace("IN IP4 198.51.100.20", "IN IP6 2001:db8::20")
    assert other.answer(bob6).media[0].address == "203.0.113.1"
    assert ("2001:db8::20", 5000) in remotes(other)


def test_an_ipv6_caller_gets_an_ipv6_address_and_so_does_the_callee():
    proxy = Proxy()
    alice6 = ALICE.replace("IN IP4 192.0.2.10", "IN IP6 2001:db8::10")
    to_bob = proxy.offer(alice6)
    assert ip_address(to_bob.media[0].address).version == 6
    refused = proxy.ask("answer", sdp=BOB, to_tag="bob")
    assert "IP4" in refused["error-reason"]


def test_media_address_overrides_what_is_written():
    assert Proxy().offer(media_address="203.0.113.99").media[0].address == "203.0.113.99"


def test_an_unknown_interface_is_refused_with_the_names_there_are():
    reason = Proxy().ask("offer", sdp=ALICE, direction=("outside", "inside"))["error-reason"]
    assert "outside" in reason and "inside" in reason


def test_the_signalling_address_is_a_fallback_or_replaces_a_distrusted_sdp():
    proxy = Proxy()
    to_bob = proxy.offer(received_from="198.51.100.99")
    (facing_alice,) = [spec for spec in proxy.specs.values() if spec.rtp_remote]
    assert facing_alice.received_from == "198.51.100.99" and facing_alice.rtp_remote == ("192.0.2.10", 4000)
    proxy.answer(received_from="198.51.100.77", flags=frozenset({"sip-source-address"}))
    assert proxy.spec(to_bob.media[0].port).rtp_remote == ("198.51.100.77", 5000)


def test_a_signalling_address_of_the_other_family_does_not_replace_the_sdps():
    proxy = Proxy()
    proxy.offer(received_from="2001:db8::99", flags=frozenset({"sip-source-address"}))
    assert ("192.0.2.10", 4000) in remotes(proxy)


def test_asymmetric_and_media_handover_change_the_latching_of_their_sender():
    proxy = Proxy()
    to_bob = proxy.offer(flags=frozenset({"asymmetric"}))
    to_alice = proxy.answer(flags=frozenset({"media-handover"}))
    assert proxy.spec(to_alice.media[0].port).latch is Latch.ASYMMETRIC
    assert proxy.spec(to_bob.media[0].port).latch is Latch.HANDOVER


def test_tos_is_set_on_the_sockets_also_in_mid_call():
    proxy = Proxy()
    proxy.call(tos=184)
    pairs = [leg.pair for leg in proxy.calls.get("call").legs()]
    assert {s.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) for pair in pairs for s in pair.sockets} == {184}
    proxy.offer(to_tag="bob", tos=96)
    assert {s.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) for pair in pairs for s in pair.sockets} == {96}


# --- rtcp-mux

MUX = "a=rtcp-mux\n"


@pytest.mark.parametrize(
    ("flags", "alice", "bob", "offered", "accepted", "bob_muxes"),
    [
        ((), MUX, MUX, True, True, True),
        ((), MUX, "", True, False, False),
        ((), "", "", False, False, False),
        (("offer",), "", MUX, True, False, True),
        (("demux",), MUX, "", False, True, False),
        (("accept",), MUX, "", True, True, False),
        (("reject",), MUX, MUX, True, False, True),
        (("require",), "", MUX, True, False, True),
        (("demux", "reject"), MUX, "", False, False, False),
    ],
)
def test_rtcp_mux_is_negotiated_for_each_party(flags, alice, bob, offered, accepted, bob_muxes):
    proxy = Proxy()
    to_bob = proxy.offer(ALICE + alice, rtcp_mux=frozenset(flags))
    to_alice = proxy.answer(BOB + bob)
    facing_alice, facing_bob = proxy.spec(to_alice.media[0].port), proxy.spec(to_bob.media[0].port)
    assert to_bob.media[0].rtcp_mux is offered and to_alice.media[0].rtcp_mux is accepted
    assert facing_alice.rtcp_mux is accepted and facing_bob.rtcp_mux is bob_muxes
    assert (facing_alice.rtcp_remote is None) is accepted and (facing_bob.rtcp_remote is None) is bob_muxes


def test_a_required_mux_advertises_no_rtcp_port():
    to_bob = Proxy().offer(rtcp_mux=frozenset({"require"}))
    assert to_bob.media[0].rtcp_port is None and to_bob.media[0].rtcp_mux


# --- profiles


@pytest.mark.parametrize(
    ("asked", "to_bob", "to_alice"),
    [(None, "RTP/AVP", "RTP/AVP"), ("RTP/AVPF", "RTP/AVPF", "RTP/AVP"), ("ACCEPT", "RTP/AVP", "RTP/AVPF")],
)
def test_the_profile_is_what_an_offer_asks_for_and_an_answer_gets_what_was_offered_or_accepts(asked, to_bob, to_alice):
    proxy = Proxy()
    assert proxy.offer(transport_protocol=asked).media[0].transport == to_bob
    bob = BOB.replace("RTP/AVP", "RTP/AVPF")
    assert proxy.answer(bob, transport_protocol=asked).media[0].transport == to_alice


# --- what is not there


@pytest.mark.parametrize(
    ("text", "keys", "words"),
    [
        (ALICE.replace("RTP/AVP", "RTP/SAVP"), {}, "RTP/AVP"),
        (ALICE + "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\n", {}, "SDES"),
        (ALICE.replace("RTP/AVP", "UDP/TLS/RTP/SAVPF") + "a=fingerprint:sha-256 00\n", {}, "DTLS"),
        (ALICE, {"ice": "force"}, "ICE=remove"),
        (ALICE, {"transport_protocol": "RTP/SAVP"}, "RTP/AVP"),
        (ALICE, {"codec": {"transcode": ("PCMA",)}}, "transcod"),
        (ALICE + FAX, {"extra": {"T.38": ["decode"]}}, "T.38"),
        (ALICE, {"controls": ng.Controls(model="huge")}, "light"),
        ("v=0\n", {}, "o="),
        (None, {}, "No SDP"),
    ],
)
def test_what_is_not_built_or_broken_is_refused_and_leaves_nothing(text, keys, words):
    proxy = Proxy()
    reply = proxy.ask("offer", **({"sdp": text} if text else {}), **keys)
    assert reply["result"] == "error" and words in reply["error-reason"]
    assert proxy.is_empty


def test_a_refused_answer_leaves_the_call_as_it_was():
    proxy = Proxy()
    proxy.call()
    before = dict(proxy.specs)
    assert proxy.ask("answer", sdp=BOB.replace("RTP/AVP", "RTP/SAVP"), to_tag="bob")["result"] == "error"
    assert proxy.specs == before


def test_ice_is_stripped():
    ice = ALICE + "a=ice-ufrag:abcd\na=ice-pwd:abcdefghijklmnopqrstuv\na=candidate:1 1 UDP 1 192.0.2.10 4000 typ host\n"
    assert not Proxy().offer(ice, ice="remove").media[0].has_ice


# --- limits


def test_ports_that_run_out_refuse_the_call_and_take_nothing():
    first = free_ports(4)
    proxy = Proxy(port_min=first, port_max=first + 3, port_rest_s=0.0)
    proxy.offer()
    assert proxy.ask("offer", sdp=ALICE, call_id="other") == ng.error("Ran out of ports")
    assert len(proxy.calls) == 1 and proxy.ports.in_use == 2 and len(proxy.leases.positions[0].free) == 38


def test_a_line_added_without_ports_leaves_the_call_running():
    first = free_ports(4)
    proxy = Proxy(port_min=first, port_max=first + 3)
    proxy.call()
    assert proxy.ask("offer", sdp=ALICE + VIDEO) == ng.error("Ran out of ports")
    assert len(proxy.specs) == 2 and proxy.ask("query")["state"] == "active"


def test_session_limit_and_load_limit_speak_as_the_proxy_understands():
    proxy = Proxy(CallsConfig(max_sessions=1))
    proxy.offer()
    assert proxy.ask("offer", sdp=ALICE, call_id="b") == ng.error("Parallel session limit reached")
    supports = {"extra": {"supports": ["load limit"]}}
    assert proxy.ask("offer", sdp=ALICE, call_id="b", **supports)["result"] == "load limit"
    assert proxy.ask("offer", sdp=ALICE)["result"] == "ok"  # of a call that is there


@pytest.mark.parametrize("why", ["busy", "full", "draining", "dead"])
def test_no_new_calls_when_the_workers_cannot_take_them(why):
    proxy = Proxy(slots=2)
    if why == "busy":
        for _ in range(20):
            proxy.leases.measured(0, 0.99)
    elif why == "full":
        proxy.offer(call_id="first")
    elif why == "draining":
        proxy.calls.draining = True
    else:
        proxy.leases.set_ready(0, False)
    calls = len(proxy.calls)
    reply = proxy.ask("offer", sdp=ALICE, extra={"supports": ["load limit"]})
    assert reply["result"] == "load limit" and len(proxy.calls) == calls


def test_hostile_signalling_does_not_grow_a_call_without_bound():
    proxy = Proxy(slots=200)
    for number in range(100):
        proxy.ask("offer", sdp=ALICE, via_branch=f"z{number}")
        proxy.ask("answer", sdp=BOB, to_tag=f"t{number}", via_branch="z0")
    (call,) = proxy.calls.page(0, 10)
    assert len(call.branches) == 16 and all(len(party.tags) <= 16 for party in call.parties())
    assert proxy.ask("offer", sdp=ALICE + VIDEO * 40)["result"] == "error"
    assert proxy.ask("offer", sdp=ALICE, from_tag="x" * 5000)["result"] == "error"
    assert proxy.ports.in_use == len(proxy.specs) == 17


# --- denoise controls


def test_denoise_on_or_off_means_the_audio_of_the_party_whose_sdp_it_is():
    proxy = Proxy()
    to_bob = proxy.offer(controls=ng.Controls(denoise="off"))
    to_alice = proxy.answer(controls=ng.Controls(level=50, music="suppress", bypass="on"))
    facing_alice, facing_bob = proxy.spec(to_alice.media[0].port), proxy.spec(to_bob.media[0].port)
    assert not facing_alice.denoise and facing_bob.denoise
    assert (facing_bob.level, facing_bob.keep_music, facing_bob.bypass) == (50, False, "on")
    proxy.offer(to_tag="bob", controls=ng.Controls(denoise="both"))
    assert proxy.spec(to_alice.media[0].port).denoise


def test_controls_change_in_mid_call_without_touching_anything_else():
    proxy = Proxy()
    _, to_alice = proxy.call()
    before = proxy.spec(to_alice.media[0].port)
    proxy.obey(proxy.calls.control("call", ng.Controls(denoise="off", level=20), "alice", 5.0))
    assert proxy.spec(to_alice.media[0].port) == replace_spec(before, denoise=False, level=20)
    with pytest.raises(CallerError, match="tag"):
        proxy.calls.control("call", ng.Controls(denoise="off"), None, 5.0)
    with pytest.raises(UnknownCallError):
        proxy.calls.control("nobody", ng.Controls(level=1), None, 5.0)


def replace_spec(spec: LegSpec, **changes) -> LegSpec:
    return replace(spec, **changes)


# --- statistics


def test_query_and_delete_tell_what_kamailio_reads_back():
    proxy = Proxy()
    proxy.now = 5.25
    proxy.offer(via_branch="z1", label="caller")
    proxy.answer(via_branch="z1", label="callee")
    proxy.media_arrives(7.0)
    reply = proxy.ask("query", from_tag=None)
    assert (reply["created"], reply["created_us"], reply["last signal"]) == (1005, 250000, 1005)
    assert reply["totals"]["RTP"] == {"packets": 100, "bytes": 17200, "errors": 0}
    assert set(reply["totals"]["RTCP"]) == {"packets", "bytes", "errors"}
    tag = reply["tags"]["alice"]
    assert (tag["tag"], tag["label"], tag["in dialogue with"]) == ("alice", "caller", "bob")
    assert reply["tags"]["bob"]["via-branch"] == "z1"
    (media,) = tag["medias"]
    assert (media["index"], media["type"], media["protocol"]) == (1, "audio", "RTP/AVP")
    rtp, rtcp = media["streams"]
    assert rtp["endpoint"] == {"family": "IPv4", "address": "192.0.2.10", "port": 4000}
    assert rtp["SSRC"] in (1000, 1001) and str(rtp["SSRC"]) in reply["SSRC"]
    assert rtcp["local port"] == rtp["local port"] + 1 and rtp["last packet"] == 1007
    assert rtp["denoise"]["on"] == 1


def test_rows_of_an_ended_lease_are_ignored():
    proxy = Proxy()
    proxy.call()
    rows = np.zeros(1, LEG_STATS)
    rows["packets"] = 7
    proxy.calls.legs.reported(0, rows.tobytes())
    assert proxy.ask("query")["totals"]["RTP"]["packets"] == 0


def test_list_is_bounded_and_statistics_count():
    proxy = Proxy(slots=200)
    for number in range(40):
        proxy.ask("offer", sdp=ALICE, call_id=f"c{number}")
    assert len(proxy.ask("list")["calls"]) == 32
    assert len(proxy.ask("list", extra={"limit": "5"})["calls"]) == 5
    for wrong in ("many", "0000000015000", "0" * 5000 + "1", 0, -1, 1001, True, None):
        assert "limit" in proxy.ask("list", extra={"limit": wrong})["error-reason"]
    assert proxy.ask("statistics")["statistics"]["currentstatistics"]["sessionstotal"] == 40


# --- workers


def test_a_new_worker_gets_every_leg_with_its_sockets_and_what_was_latched():
    proxy = Proxy()
    _, to_alice = proxy.call()
    proxy.media_arrives(1.0)
    spec = proxy.spec(to_alice.media[0].port)
    leg = proxy.calls.get("call").caller.lines[0].leg
    proxy.calls.legs.latched(0, Latched(leg.lease, ("192.0.2.10", 40001), None))
    orders = proxy.calls.legs.reopen(0)
    (ours,) = [order for order in orders if order.leg is leg]
    assert len(orders) == 2 and ours.command.spec == replace_spec(spec, pinned=("192.0.2.10", 40001))
    assert all(each.fileno() > 0 for each in ours.leg.pair.sockets)
    assert proxy.ask("query")["totals"]["RTP"]["packets"] == 100  # counted by the dead worker
    proxy.media_arrives(2.0)
    assert proxy.ask("query")["totals"]["RTP"]["packets"] == 200


def test_what_was_latched_is_forgotten_when_the_party_speaks_again():
    proxy = Proxy()
    proxy.call()
    leg = proxy.calls.get("call").caller.lines[0].leg
    proxy.calls.legs.latched(0, Latched(leg.lease, ("192.0.2.10", 40001), None))
    proxy.offer()
    assert leg.pinned is None


def test_what_a_detector_heard_is_shown_with_its_leg_and_only_the_newest_is_kept():
    proxy = Proxy()
    proxy.call()
    leg = proxy.calls.get("call").caller.lines[0].leg
    for at in range(40):
        event = Detected(leg.lease, "progress", "busy de", 20.0 * at, None, -13.2, None)
        assert proxy.calls.legs.detected(0, event) == "call"
    stream = proxy.ask("query")["tags"]["alice"]["medias"][0]["streams"][0]
    assert len(stream["denoise"]["events"]) == 32
    assert stream["denoise"]["events"][-1] == {
        "kind": "progress",
        "value": "busy de",
        "begin_ms": 780,
        "level_dbm0": -13,
    }


def test_a_detection_of_an_ended_lease_is_nobodys():
    proxy = Proxy()
    proxy.call()
    leg = proxy.calls.get("call").caller.lines[0].leg
    stale = Detected(leg.lease._replace(generation=99), "music", "", 0.0, None, None, None)
    assert proxy.calls.legs.detected(0, stale) is None
    assert not leg.events


def test_a_fax_latches_every_leg_of_the_call_to_its_end_and_in_a_new_worker():
    proxy = Proxy()
    proxy.call()
    call = proxy.calls.get("call")
    assert proxy.calls.legs.call_latched(0, call.caller.lines[0].leg.lease) == "call"
    orders = proxy.calls.legs.take_orders()
    assert [order.command.spec.latched for order in orders] == [True, True]
    assert proxy.calls.legs.call_latched(0, call.caller.lines[0].leg.lease) is None
    assert all(order.command.spec.latched for order in proxy.calls.legs.reopen(0))
    assert proxy.ask("query")["denoise"]["latched"] == 1


def test_calls_go_to_the_least_loaded_worker_and_stay_whole():
    proxy = Proxy(workers=2, slots=400)
    proxy.leases.measured(0, 0.5)
    for number in range(4):
        proxy.ask("offer", sdp=ALICE, call_id=f"c{number}")
    assert proxy.calls.legs.in_use(0) == 0 and proxy.calls.legs.in_use(1) == 8


def test_one_bad_second_is_no_load_limit_but_several_are():
    leases = Leases(1, 10)
    leases.set_ready(0, True)
    leases.measured(0, 1.0)
    assert leases.choose(2) == 0
    for _ in range(10):
        leases.measured(0, 1.0)
    with pytest.raises(LoadLimitError):
        leases.choose(2)


def test_slots_are_reused_lowest_first_under_a_new_generation():
    leases = Leases(1, 4)
    first, second = leases.take(0), leases.take(0)
    leases.give_back(0, first)
    third = leases.take(0)
    assert (first.slot, second.slot, third.slot) == (0, 1, 0) and third.generation > second.generation


def test_a_hundred_set_ups_a_second_cost_a_small_share_of_one():
    proxy = Proxy(slots=400)
    begun = time.process_time()
    for number in range(100):
        proxy.ask("offer", sdp=ALICE, call_id=f"c{number}")
        proxy.ask("answer", sdp=BOB, to_tag="bob", call_id=f"c{number}")
        proxy.ask("delete", call_id=f"c{number}")
    assert time.process_time() - begun < 0.5


def test_replace_leaves_no_trace_of_the_party():
    text = Proxy().ask("offer", sdp=ALICE, replace=frozenset({"origin", "session-connection"}))["sdp"]
    assert "192.0.2.10" not in text and "203.0.113.1" in text


def test_configured_defaults_hold_until_a_request_says_otherwise():
    proxy = Proxy(denoise=DenoiseConfig(denoise="none", level=10))
    to_bob = proxy.offer()
    assert not proxy.spec(to_bob.media[0].port).denoise and proxy.spec(to_bob.media[0].port).level == 10
