"""The sockets of a worker, against real UDP on loopback."""

import select
import socket

import msgspec
import numpy as np
import pytest

from gateway.media.pipeline import ROW_BYTES, Outgoing
from gateway.media.sockets import KEPT_DATAGRAMS, Sockets, views_of
from gateway.messages import Kind, LegSpec

RTP = b"\x80"
"""The first byte of a header of RTP or RTCP."""


def udp(host: str = "127.0.0.1") -> socket.socket:
    """A socket bound to a port by its number: one that the kernel chose is lost when the socket is disconnected."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((host, 0))
        address = probe.getsockname()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(address)
    sock.settimeout(1.0)
    return sock


class Bench:
    """A leg on slot 0 with a peer and a stranger."""

    def __init__(self, **changes: object) -> None:
        self.counts: list[str] = []
        self.sockets = Sockets(4, 16, 3.0, False, self.counts.append)
        self.slab = np.zeros((16, ROW_BYTES), np.uint8)
        self.views, self.lengths, self.slots = views_of(self.slab), np.zeros(16, np.int64), np.zeros(16, np.int64)
        self.ours, self.peer, self.stranger = udp(), udp(), udp("127.0.0.2")
        remote = {"rtp_remote": self.peer.getsockname()} | changes
        self.spec = LegSpec(slot=0, generation=1, call_id="call", **remote)
        self.sockets.open(self.spec, [self.ours.dup().detach()])

    def receive(self) -> list[bytes]:
        events = self.sockets.epoll.poll(0.2)
        count = self.sockets.receive(events, self.views, self.lengths, self.slots, 0.0)
        return [bytes(self.views[row][1 : self.lengths[row]]) for row in range(count)]

    def tell(self, sock: socket.socket, *datagrams: bytes) -> None:
        for datagram in datagrams:
            sock.sendto(RTP + datagram, self.ours.getsockname())


def test_the_peers_packets_arrive_and_strangers_are_dropped():
    bench = Bench()
    bench.tell(bench.stranger, b"evil")
    assert bench.receive() == []
    bench.tell(bench.peer, b"one")
    assert bench.receive() == [b"one"]
    bench.tell(bench.stranger, b"evil")
    bench.tell(bench.peer, b"two")
    assert bench.receive() == [b"two"]
    assert bench.counts == ["dropped_stranger"]
    assert bench.sockets.latched == [0]


def test_strangers_queued_before_the_connection_do_not_get_in_with_it():
    bench = Bench()
    bench.tell(bench.peer, b"one")
    bench.tell(bench.stranger, b"evil")
    bench.tell(bench.peer, b"two")
    assert bench.receive() + bench.receive() == [b"one", b"two"]
    assert bench.counts == ["dropped_stranger"]


def test_answers_go_to_the_learned_source():
    bench = Bench(rtp_remote=("127.0.0.1", 9))
    bench.tell(bench.peer, b"one")
    bench.receive()
    bench.views[3][:4] = b"back"
    bench.lengths[3] = 4
    assert bench.sockets.send(Outgoing(np.array([3]), np.array([0])), bench.lengths, bench.views) == 1
    assert bench.peer.recv(100) == b"back"


def test_a_peer_that_is_gone_is_counted_and_nothing_stops():
    bench = Bench()
    bench.tell(bench.peer, b"one")
    bench.receive()
    bench.peer.close()
    bench.lengths[0] = 4
    for _ in range(4):
        bench.sockets.send(Outgoing(np.array([0]), np.array([0])), bench.lengths, bench.views)
    assert "refused" in bench.counts


def test_a_new_offer_opens_latching_again():
    bench = Bench()
    bench.tell(bench.peer, b"one")
    bench.receive()
    moved = LegSpec(slot=0, generation=1, call_id="call", rtp_remote=bench.stranger.getsockname(), epoch=1)
    bench.sockets.update(moved, relatch=True)
    bench.tell(bench.stranger, b"now me")
    assert bench.receive() == [b"now me"]


def test_one_socket_cannot_fill_a_round():
    bench = Bench()
    bench.tell(bench.peer, b"first")
    bench.receive()
    bench.tell(bench.peer, *[b"flood"] * 12)
    assert len(bench.receive()) == 4


def test_an_oversized_datagram_is_dropped():
    bench = Bench()
    bench.tell(bench.peer, bytes(ROW_BYTES + 500))
    assert bench.receive() == [] and bench.counts == ["dropped_oversized"]


def test_a_closed_leg_gives_its_descriptor_back_and_hears_nothing():
    bench = Bench()
    bench.sockets.close(0)
    bench.tell(bench.peer, b"late")
    assert bench.sockets.epoll.poll(0.05) == []
    assert select.select([bench.ours], [], [], 0.2)[0], "the control plane's own descriptor still hears"


def test_the_port_is_kept_when_a_leg_learns_anew():
    bench = Bench()
    bench.tell(bench.peer, b"one")
    bench.receive()
    port = bench.ours.getsockname()
    bench.sockets.update(bench.spec, relatch=True)
    assert bench.ours.getsockname() == port
    with pytest.raises(OSError):
        bench.ours.getpeername()


def test_nothing_is_learned_from_what_is_no_rtp():
    bench = Bench(rtp_remote=("127.0.0.1", 9))
    for datagram in (b"", b"\x00\x01\x00\x00stun", b" d7:command4:liste"):
        bench.peer.sendto(datagram, bench.ours.getsockname())
    assert bench.receive() == [] and bench.sockets.latched == []
    assert bench.counts == ["dropped_garbage"] * 3


def test_a_raw_leg_learns_from_anything():
    bench = Bench(kind=Kind.RAW)
    bench.peer.sendto(b"\x00UDPTL", bench.ours.getsockname())
    assert bench.receive() == [b"UDPTL"] and bench.sockets.latched == [0]


@pytest.mark.parametrize(("before", "after"), [(Kind.AUDIO, Kind.RAW), (Kind.RAW, Kind.AUDIO)])
@pytest.mark.parametrize("relatch", [True, False])
def test_a_reinvite_to_fax_and_back_changes_what_a_leg_learns_from(before, after, relatch):
    bench = Bench(kind=before)
    bench.sockets.update(msgspec.structs.replace(bench.spec, kind=after, epoch=1), relatch)
    bench.peer.sendto(b"\x00UDPTL", bench.ours.getsockname())
    assert bench.receive() == ([b"UDPTL"] if after is Kind.RAW else [])


def test_of_a_long_queue_the_newest_are_kept_and_no_round_overflows():
    bench = Bench(pinned=None)
    ports = [bench.ours] + [udp() for _ in range(3)]
    for slot, ours in enumerate(ports[1:], 1):
        spec = LegSpec(slot=slot, generation=1, call_id="call", rtp_remote=bench.peer.getsockname())
        bench.sockets.open(spec, [ours.dup().detach()])
    for ours in ports:
        for number in range(30):
            bench.peer.sendto(RTP + bytes([number]), ours.getsockname())
    heard = [bench.receive() for _ in range(4)]
    assert max(map(len, heard)) <= len(bench.views)
    assert sum(map(len, heard)) == 4 * (KEPT_DATAGRAMS + 1)
    assert sum(datagrams.count(bytes([29])) for datagrams in heard) == 4
    assert bench.counts == ["dropped_stale"] * 4 * (29 - KEPT_DATAGRAMS)


def test_an_unmoved_party_is_still_sent_to_where_it_was_heard():
    bench = Bench(rtp_remote=("127.0.0.1", 9))
    bench.tell(bench.peer, b"one")
    bench.receive()
    bench.sockets.update(bench.spec, relatch=True)
    bench.views[3][:4], bench.lengths[3] = b"back", 4
    assert bench.sockets.send(Outgoing(np.array([3]), np.array([0])), bench.lengths, bench.views) == 1
    assert bench.peer.recv(100) == b"back"


def test_rtcp_goes_where_it_is_said_to_be_without_a_new_offer():
    bench = Bench()
    rtcp, heard = udp(), udp()
    bench.sockets.open(bench.spec, [bench.ours.dup().detach(), rtcp.dup().detach()])
    bench.sockets.send_rtcp(0, b"nowhere", mux=False)
    bench.sockets.update(msgspec.structs.replace(bench.spec, rtcp_remote=heard.getsockname()), relatch=False)
    bench.sockets.send_rtcp(0, b"report", mux=False)
    assert heard.recv(100) == b"report"
