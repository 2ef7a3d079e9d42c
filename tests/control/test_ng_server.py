"""The NG server over real UDP, with a real media worker behind it."""

import asyncio
import time
from types import SimpleNamespace

import pytest

from gateway.config import MediaConfig
from gateway.control.allow import AllowList, host_and_port
from gateway.control.ng_server import NgProtocol
from gateway.control.sockets import SocketPool
from gateway.errors import ConfigError
from gateway.metrics import Metrics
from gateway.protocol import bencode
from tests.control.harness import SDP, Proxy, datagrams, rtp


@pytest.mark.parametrize("encoding", ["bencode", "json"])
async def test_a_call_is_set_up_carries_media_and_is_torn_down_with_exact_totals(gateway, proxy, encoding):
    proxy.encoding = encoding
    assert await proxy.ask("ping") == {"result": "pong"}
    alice, bob = await datagrams(), await datagrams()
    facing_alice, facing_bob = await proxy.call("c", alice.port, bob.port)
    for sequence in range(10):
        alice.send_to(rtp(sequence), facing_alice)
        assert len(await bob.receive()) == 172
        bob.send_to(rtp(sequence, 78), facing_bob)
        assert len(await alice.receive()) == 172
    totals = (await proxy.ask("delete", call_id="c", from_tag="B"))["totals"]["RTP"]
    assert totals == {"packets": 20, "bytes": 20 * 172, "errors": 0}
    assert len(gateway.calls) == 0 and gateway.ports.in_use == 0


async def test_a_retransmitted_request_gets_the_stored_reply_and_is_not_done_twice(gateway, proxy):
    request = bencode.encode({"command": "offer", "call-id": "c", "from-tag": "A", "sdp": SDP.format(port=4000)})
    replies = []
    for _ in range(2):
        proxy.socket.send_to(b"cookie " + request, proxy.port)
        replies.append(await proxy.socket.receive())
    assert replies[0] == replies[1] and gateway.ports.in_use == 2


async def test_a_retransmission_in_progress_is_dropped(gateway, proxy):
    await proxy.call("c", 4000, 5000)
    for _ in range(3):  # all arrive while the worker is asked for statistics
        proxy.socket.send_to(
            b"cookie " + bencode.encode({"command": "delete", "call-id": "c", "from-tag": "A"}), proxy.port
        )
    reply = await proxy.socket.receive()
    assert b"totals" in reply
    while not proxy.socket.queue.empty():
        assert proxy.socket.queue.get_nowait() == reply


GARBAGE = [b"", b"x", b"cookie", b"cookie d", b"cookie {", b"cookie " + b"l" * 5000, b"\xff" * 2000, b"c 42"]


async def test_garbage_is_dropped_or_refused_and_the_next_request_is_served(proxy):
    for datagram in GARBAGE:
        proxy.socket.send_to(datagram, proxy.port)
        await asyncio.sleep(0.02)
        while not proxy.socket.queue.empty():
            assert b"error" in proxy.socket.queue.get_nowait()
        assert await proxy.ask("ping") == {"result": "pong"}


async def test_a_fault_of_ours_costs_one_request_and_is_told(gateway, proxy, caplog):
    gateway.calls._commands["query"] = lambda request, now: 1 / 0
    reply = await proxy.ask("query", call_id="c")
    assert reply["result"] == "error" and "Internal" in reply["error-reason"]
    assert any(record.call_id == "c" for record in caplog.records if record.levelname == "ERROR")
    assert await proxy.ask("ping") == {"result": "pong"}


async def test_a_hundred_set_ups_in_a_second_are_answered_within_50_ms(gateway, proxy):
    p99_ms = []
    for attempt in "abc":  # whatever else runs on this machine may spoil one
        waited_ms = sorted(await set_up_a_hundred(proxy, attempt))
        p99_ms.append(waited_ms[197])
        if p99_ms[-1] < 50.0:
            break
    assert min(p99_ms) < 50.0, p99_ms
    assert len(gateway.calls) == 100 * len(p99_ms)


async def set_up_a_hundred(proxy: Proxy, name: str) -> list[float]:
    """How long each offer and answer waited for its reply, in ms."""
    waited_ms = []
    begun = time.monotonic()
    for number in range(100):
        await asyncio.sleep(max(0.0, begun + number * 0.01 - time.monotonic()))
        for command, keys in (("offer", {}), ("answer", {"to_tag": "B"})):
            asked = time.monotonic()
            reply = await proxy.ask(command, call_id=f"{name}{number}", from_tag="A", sdp=SDP.format(port=4000), **keys)
            waited_ms.append((time.monotonic() - asked) * 1000)
            assert reply["result"] == "ok", reply
    return waited_ms


async def test_a_reply_that_no_datagram_can_hold_is_an_error_not_silence(gateway, proxy):
    for number in range(130):
        await proxy.call(f"{number}".ljust(510, "x"), 4000, 5000)
    assert "too long" in (await proxy.ask("list", limit=1000))["error-reason"]
    assert len((await proxy.ask("list", limit=100))["calls"]) == 100


async def test_requests_from_elsewhere_are_counted_and_not_answered(gateway):
    allow = AllowList("ng.allow", ("10.0.0.0/8", "2001:db8::/32"))
    assert allow.permits("10.1.2.3") and allow.permits("2001:db8::1") and allow.permits("::ffff:10.1.2.3")
    assert not allow.permits("192.0.2.1") and not allow.permits("nonsense") and not allow.permits("::1")


async def test_a_stranger_gets_no_reply(gateway, proxy):
    service = gateway._transports[0].get_protocol() if hasattr(gateway._transports[0], "get_protocol") else None
    assert service is not None
    service._allow = AllowList("ng.allow", ("192.0.2.0/24",))
    proxy.socket.send_to(b"cookie d7:command4:pinge", proxy.port)
    with pytest.raises(TimeoutError):
        await proxy.socket.receive(0.1)
    assert b'ng_dropped_total{reason="not allowed"} 1.0' in gateway.metrics.render()


async def test_a_caller_who_aims_media_at_the_ng_port_is_not_served(gateway, proxy):
    facing_alice, _ = await proxy.call("c", 4000, proxy.port)
    call = gateway.calls.get("c")
    (rtp_socket,) = [leg.pair.sockets[0] for leg in call.legs() if leg.pair.port == facing_alice]
    rtp_socket.sendto(b"cookie d7:command6:delete7:call-id1:c8:from-tag1:Ae", ("127.0.0.1", proxy.port))
    assert (await proxy.ask("ping"))["result"] == "pong"
    assert gateway.calls.get("c") is call
    assert b'ng_dropped_total{reason="from a media port"} 1.0' in gateway.metrics.render()


def test_a_media_port_is_known_in_every_form_of_its_address():
    served, pool, metrics = [], SocketPool(MediaConfig(port_min=24000, port_max=24999)), Metrics()
    service = SimpleNamespace(receive=lambda data, source, send: served.append(source))
    protocol = NgProtocol(service, AllowList("ng.allow", ("127.0.0.0/8",)), pool, metrics, clock=lambda: 5.0)
    pair = pool.open("127.0.0.1", None, 0.0)
    for host in ("127.0.0.1", "::ffff:127.0.0.1", "127.0.0.2"):
        protocol.datagram_received(b"cookie d7:command4:pinge", (host, pair.port + 1))
    pool.close(pair, 5.0)
    assert served == [("127.0.0.2", pair.port + 1)]


def test_addresses_and_networks_that_cannot_be_are_refused_by_key():
    with pytest.raises(ConfigError, match=r"ng\.listen"):
        host_and_port("127.0.0.1", "ng.listen")
    with pytest.raises(ConfigError, match=r"admin\.allow"):
        AllowList("admin.allow", ("10.0.0.0/99",))
    assert host_and_port("[::1]:2223", "ng.listen") == ("::1", 2223)


async def test_two_proxies_may_use_the_same_cookie(gateway, proxy):
    other = Proxy(await datagrams(), proxy.port)
    for each in (proxy, other):
        each.socket.send_to(b"same d7:command4:pinge", proxy.port)
        assert await each.socket.receive() == b"same d6:result4:ponge"
