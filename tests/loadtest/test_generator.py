"""The generator against a small relay: every packet it sends comes back and is matched."""

import selectors
import socket
import threading
import time

import numpy as np
import pytest

from loadtest.calls import Leg
from loadtest.generator import ENDPOINTS, Plan
from loadtest.material import Material
from loadtest.mmsg import Inbox, Outbox, endpoint
from loadtest.stage import Capture, Generator, Media

LEGS, FRAMES, WARM, RAMP = 44, 15, 5, 4


class Relay:
    """One call's two ports in each pair of sockets; drops the packet of one leg at one frame."""

    def __init__(self, parties: list[tuple[str, int]], drop: tuple[int, int]) -> None:
        self.sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in parties]
        for sock, party in zip(self.sockets, parties, strict=True):
            sock.bind(("127.0.0.1", 0))
            sock.connect(party)
        self._drop = drop
        self._seen = [0] * len(parties)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        index = {sock: i for i, sock in enumerate(self.sockets)}
        with selectors.DefaultSelector() as selector:  # select() ends at descriptor 1023
            for sock in self.sockets:
                selector.register(sock, selectors.EVENT_READ)
            self._relay(selector, index)

    def _relay(self, selector: selectors.BaseSelector, index: dict[object, int]) -> None:
        while not self._stop.is_set():
            for key, _ in selector.select(0.02):
                sock = key.fileobj
                leg, datagram = index[sock], sock.recv(2048)
                if (leg, self._seen[leg]) != self._drop:
                    self.sockets[leg ^ 1].send(datagram)
                self._seen[leg] += 1

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        for sock in self.sockets:
            sock.close()


@pytest.fixture(scope="module")
def outcome() -> tuple[Media, Capture, Plan]:
    """One short run; leg 3 loses its tenth packet."""
    sockets = [endpoint("127.0.0.1") for _ in range(ENDPOINTS)]
    turns = [leg % ENDPOINTS for leg in range(LEGS)]
    relay = Relay([sockets[turn].getsockname() for turn in turns], drop=(3, 9))
    ports = [sock.getsockname() for sock in relay.sockets]
    legs = [Leg(turns[leg], ports[leg], ports[leg ^ 1]) for leg in range(LEGS)]
    loops = Material(folders=()).loops(LEGS, 7)
    plan = Plan(legs, loops, time.monotonic_ns() + 50_000_000, WARM, FRAMES, RAMP, frozenset({3, 20}))
    with Generator(plan, sockets) as generator:
        media, capture = generator.result()
    relay.close()
    for sock in sockets:
        sock.close()
    return media, capture, plan


def test_all_packets_come_back_but_the_one_that_was_dropped(outcome):
    media, _, _ = outcome
    assert media.packets == LEGS * (FRAMES - WARM)
    assert (media.lost, media.lost_warming, media.duplicates, media.unknown) == (1, 0, 0, 0)


def test_captured_payloads_are_those_that_were_sent(outcome):
    _, capture, plan = outcome
    assert set(capture) == {3, 20}
    for leg, (said, heard, arrived) in capture.items():
        assert np.array_equal(said, plan.loops[leg][np.arange(FRAMES)[leg * RAMP // LEGS :] % 7])
        assert np.array_equal(said[arrived], heard[arrived])
    assert np.flatnonzero(~capture[3][2]).tolist() == [9]
    assert capture[20][2].all()


def test_delays_are_from_sending_to_the_kernels_receipt(outcome):
    media, _, _ = outcome
    assert 0 < media.delay_ms["p50"] <= media.delay_ms["p99"] <= media.delay_ms["p999"]


def test_many_datagrams_in_a_call_keep_their_addresses_lengths_and_order():
    out, here, there = (endpoint("127.0.0.1") for _ in range(3))
    packets = np.arange(6 * 10, dtype=np.uint8).reshape(6, 10)
    outbox = Outbox(out, packets, [here.getsockname(), there.getsockname()] * 3)
    assert (outbox.send(0, 4), outbox.send(4, 2)) == (4, 2)
    inbox = Inbox(5)
    assert inbox.fill([here, there]) == 5
    assert inbox.lengths(5).tolist() == [10] * 5
    assert inbox.ports(5).tolist() == [out.getsockname()[1]] * 5
    assert inbox.slab[:5, 0].tolist() == [0, 20, 40, 10, 30]
    assert (np.diff(inbox.arrivals_ns(3)) >= 0).all()
    assert inbox.fill([here, there]) == 1
    assert inbox.fill([here, there]) == 0
    for sock in (out, here, there):
        sock.close()
