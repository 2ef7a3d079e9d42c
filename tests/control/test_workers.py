"""Supervision of real media processes."""

import asyncio
import os
import signal
import time
from dataclasses import replace
from itertools import pairwise

import pytest

from gateway.app import Gateway
from gateway.config import EngineConfig
from gateway.control.workers import SILENCE_S, Backoff
from gateway.errors import EngineError
from gateway.messages import WorkerStats
from gateway.metrics import Metrics
from tests.control.harness import datagrams, loopback_config, rtp


async def reserve_of(gateway):
    for _ in range(500):
        if gateway.workers.reserve is not None:
            return gateway.workers.reserve
        await asyncio.sleep(0.01)
    raise AssertionError("no reserve")


async def test_a_killed_worker_is_replaced_by_the_reserve_and_its_calls_go_on(gateway, proxy):
    alice, bob = await datagrams(), await datagrams()
    facing_alice, _ = await proxy.call("c", alice.port, bob.port)
    reserve = await reserve_of(gateway)
    arrived = []
    for sequence in range(60):
        if sequence == 30:
            os.kill(gateway.workers.places[0].link.pid, signal.SIGKILL)
        alice.send_to(rtp(sequence), facing_alice)
        await asyncio.sleep(0.01)
        while not bob.queue.empty():
            bob.queue.get_nowait()
            arrived.append(time.monotonic())
    assert gateway.workers.places[0].link is reserve
    assert max(after - before for before, after in pairwise(arrived)) < 0.3
    assert len(arrived) > 50
    assert (await reserve_of(gateway)) is not reserve


async def test_a_worker_killed_without_a_reserve_comes_back_with_its_legs(gateway, proxy):
    alice, bob = await datagrams(), await datagrams()
    facing_alice, _ = await proxy.call("c", alice.port, bob.port)
    os.kill((await reserve_of(gateway)).pid, signal.SIGKILL)
    os.kill(gateway.workers.places[0].link.pid, signal.SIGKILL)
    await asyncio.sleep(0.1)
    for _ in range(500):
        if not gateway.workers.missing():
            break
        await asyncio.sleep(0.01)
    alice.send_to(rtp(1), facing_alice)
    assert len(await bob.receive()) == 172


async def test_a_call_set_up_while_no_worker_is_there_is_refused_and_later_taken(gateway, proxy):
    os.kill((await reserve_of(gateway)).pid, signal.SIGKILL)
    os.kill(gateway.workers.places[0].link.pid, signal.SIGKILL)
    while not gateway.workers.missing():
        await asyncio.sleep(0.001)
    offer = {"call_id": "c", "from_tag": "A", "sdp": "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"}
    offer["sdp"] += "m=audio 4000 RTP/AVP 0\r\nc=IN IP4 127.0.0.1\r\n"
    assert (await proxy.ask("offer", supports=["load limit"], **offer))["result"] == "load limit"
    for _ in range(500):
        if not gateway.workers.missing():
            break
        await asyncio.sleep(0.01)
    assert (await proxy.ask("offer", **offer))["result"] == "ok"


async def test_a_stopped_worker_does_not_hold_up_the_control_plane(gateway, proxy):
    await proxy.call("first", 4000, 5000)
    pid = gateway.workers.places[0].link.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        for number in range(60):
            await proxy.call(f"c{number}", 4000, 5000)
        assert (await proxy.ask("query", call_id="first"))["result"] == "ok"
        assert time.monotonic() - begun < 5.0
    finally:
        os.kill(pid, signal.SIGCONT)
    for _ in range(200):
        link = gateway.workers.places[0].link
        if link is not None and not link.waiting:
            break
        await asyncio.sleep(0.01)
    alice, bob = await datagrams(), await datagrams()
    facing_alice, _ = await proxy.call("last", alice.port, bob.port)
    alice.send_to(rtp(1), facing_alice)
    assert len(await bob.receive()) == 172


async def test_a_worker_that_hangs_is_replaced(gateway, proxy):
    alice, bob = await datagrams(), await datagrams()
    facing_alice, _ = await proxy.call("c", alice.port, bob.port)
    reserve, place = await reserve_of(gateway), gateway.workers.places[0]
    os.kill(place.link.pid, signal.SIGSTOP)
    place.heard_s -= SILENCE_S + 1
    for _ in range(300):
        if place.link is reserve:
            break
        await asyncio.sleep(0.01)
    alice.send_to(rtp(1), facing_alice)
    assert place.link is reserve and len(await bob.receive()) == 172


async def test_a_worker_that_cannot_start_stops_the_start(capfd):
    config = replace(loopback_config(), engine=EngineConfig(kind="ort", model="no-such-model"))
    gateway = Gateway(config)
    try:
        with pytest.raises(EngineError, match="cannot start"):
            await asyncio.wait_for(gateway.start(), 10)
    finally:
        await gateway.stop()
    assert "no-such-model" in capfd.readouterr().err


async def test_children_end_with_the_gateway():
    gateway = Gateway(loopback_config(workers=2))
    await gateway.start()
    pids = [place.link.pid for place in gateway.workers.places] + [(await reserve_of(gateway)).pid]
    await gateway.stop()
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


async def test_workers_report_how_busy_they_are(gateway, proxy):
    await proxy.call("c", 4000, 5000)
    for _ in range(300):
        if gateway.metrics.workers[0].present.seconds:
            break
        await asyncio.sleep(0.01)
    assert gateway.metrics.workers[0].spent_s("idle") > 0.0
    assert 0.0 <= gateway.workers._leases.positions[0].busy < 0.95


def test_a_crash_loop_is_slowed_down_and_forgiven():
    backoff = Backoff()
    waits = [backoff.died(now) for now in (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)]
    assert waits[:2] == [0.0, 0.0] and waits == sorted(waits) and waits[-1] == 10.0
    assert backoff.died(100.0) == 0.0


def test_counters_never_go_back_when_a_worker_dies():
    metrics = Metrics()
    metrics.worker_began(0)
    metrics.worker_reported(0, WorkerStats({"packets_in": 100, "dropped_garbage": 1}, {"busy": 2.0}, [5] + [0] * 10))
    metrics.worker_died(0)
    metrics.worker_began(0)
    metrics.worker_reported(0, WorkerStats({"packets_in": 10}, {"busy": 0.5}, [1] + [0] * 10))
    text = metrics.render().decode()
    assert 'packets_received_total{worker="0"} 110.0' in text
    assert 'packets_dropped_total{reason="garbage",worker="0"} 1.0' in text
    assert 'stage_seconds_total{stage="busy",worker="0"} 2.5' in text
    assert 'added_delay_seconds_bucket{le="0.001",worker="0"} 6.0' in text
