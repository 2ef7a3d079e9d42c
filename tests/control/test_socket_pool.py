"""Pairs of media ports, on real sockets."""

import errno
import socket

import pytest

from gateway.config import InterfaceConfig, MediaConfig
from gateway.control.sockets import SocketPool, resolve
from gateway.errors import ConfigError
from gateway.legs import OutOfPortsError
from tests.control.harness import free_ports


@pytest.fixture
def pool():
    first = free_ports(8)
    made = SocketPool(MediaConfig(port_min=first + 1, port_max=first + 7, port_rest_s=30.0, dscp=46))
    opened = []
    yield first, made, lambda now, tos=None: opened.append(made.open("127.0.0.1", tos, now)) or opened[-1]
    for pair in opened:
        for each in pair.sockets:
            each.close()


def test_pairs_are_even_and_odd_non_blocking_and_marked(pool):
    _, _, open_pair = pool
    pair = open_pair(0.0)
    rtp, rtcp = pair.sockets
    assert pair.port % 2 == 0
    assert (rtp.getsockname()[1], rtcp.getsockname()[1]) == (pair.port, pair.port + 1)
    assert not rtp.getblocking() and rtp.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == 46 << 2
    assert open_pair(0.0, tos=16).sockets[1].getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == 16


def test_ports_run_out_and_freed_ones_rest(pool):
    first, made, open_pair = pool
    pairs = [open_pair(0.0) for _ in range(made.capacity)]
    assert {pair.port for pair in pairs} == {first + 2, first + 4, first + 6}
    with pytest.raises(OutOfPortsError):
        open_pair(0.0)
    made.close(pairs[1], 10.0)
    with pytest.raises(OutOfPortsError):
        open_pair(39.0)
    assert open_pair(40.0).port == pairs[1].port


def test_a_port_that_another_program_holds_is_passed_over(pool):
    first, _, open_pair = pool
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.1", first + 3))
        assert {open_pair(0.0).port, open_pair(0.0).port} == {first + 4, first + 6}
        with pytest.raises(OutOfPortsError):
            open_pair(0.0)


def test_pairs_are_counted_by_address_and_state(pool):
    first, made, open_pair = pool
    kept, closed = open_pair(0.0), open_pair(0.0)
    assert made.pairs("127.0.0.1", 0.0) == (2, 0, 1) and made.pairs("127.0.0.2", 0.0) == (0, 0, 3)
    made.close(closed, 10.0)
    assert made.pairs("127.0.0.1", 39.0)._asdict() == {"in_use": 1, "resting": 1, "free": 1}
    assert made.pairs("127.0.0.1", 40.0) == (1, 0, 2)
    (left,) = {first + 2, first + 4, first + 6} - {kept.port, closed.port}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.1", left))
        open_pair(40.0)
        assert made.pairs("127.0.0.1", 40.0) == (2, 1, 0)


def test_an_ipv6_pair_has_its_traffic_class():
    pool = SocketPool(MediaConfig(port_min=24000, port_max=24999))
    pair = pool.open("::1", 184, 0.0)
    assert pair.sockets[0].getsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS) == 184
    pool.close(pair, 0.0)


def test_interfaces_are_resolved_or_refused_by_key():
    found = resolve({"a": InterfaceConfig("auto"), "b": InterfaceConfig("10.0.0.1", "203.0.113.1")})
    assert found["a"].address == found["a"].advertise and found["b"].family == "IP4"
    with pytest.raises(ConfigError, match=r"interfaces\.x\.address"):
        resolve({"x": InterfaceConfig("example.org")})
    with pytest.raises(ConfigError, match=r"interfaces\.x\.advertise"):
        resolve({"x": InterfaceConfig("10.0.0.1", "2001:db8::1")})


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EADDRNOTAVAIL])
def test_a_port_that_could_not_be_bound_for_another_reason_stays_in_the_pool(pool, monkeypatch, code):
    _, made, open_pair = pool

    def fail(self, address):
        raise OSError(code, "fault")

    with monkeypatch.context() as faulty:
        faulty.setattr(SocketPool, "_socket", fail)
        for _ in range(10):
            with pytest.raises(OutOfPortsError):
                open_pair(0.0)
    assert len({open_pair(0.0).port for _ in range(made.capacity)}) == made.capacity == 3


def test_a_port_counts_as_lent_from_its_opening_until_it_has_rested(pool):
    _, made, open_pair = pool
    assert not made.lends("127.0.0.1", 24_000, 0.0)
    port = open_pair(0.0).port
    assert made.lends("127.0.0.1", port, 1e9) and made.lends("127.0.0.1", port + 1, 1e9)
    assert not made.lends("127.0.0.2", port, 1.0) and not made.lends("127.0.0.1", port + 2, 1.0)
    made.close(open_pair(0.0), 100.0)
    (closed,) = [pair for pair in made._addresses["127.0.0.1"].lent if pair != port]
    assert made.lends("127.0.0.1", closed, 129.0) and not made.lends("127.0.0.1", closed, 130.0)


def test_a_pair_on_all_addresses_is_lent_on_those_of_this_host_only(pool):
    _, made, _ = pool
    pair = made.open("0.0.0.0", None, 0.0)
    assert made.lends("127.0.0.1", pair.port, 1.0) and not made.lends("192.0.2.1", pair.port, 1.0)
    made.close(pair, 0.0)
