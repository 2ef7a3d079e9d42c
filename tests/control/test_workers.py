"""Supervision of real media processes."""

import asyncio
import errno
import os
import signal
import socket
import subprocess
import time
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest

from gateway.app import Gateway
from gateway.config import EngineConfig
from gateway.control import workers as workers_module
from gateway.control.worker_link import MAX_COMMAND_BYTES, WorkerLink
from gateway.control.workers import SILENCE_S, Backoff, Workers
from gateway.errors import EngineError
from gateway.leases import Leases
from gateway.leg_table import Order
from gateway.messages import EngineFault, LegSpec, OpenLeg, WorkerStats, encoder
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


# --- without processes


class FakeLink:
    """A worker's link: keeps what it is told."""

    pid = 4711

    def __init__(self, *_) -> None:
        self.told, self.killed = [], 0
        self.process = SimpleNamespace(kill=self._kill)

    def _kill(self) -> None:
        self.killed += 1

    def send(self, command, sockets=()) -> None:
        encoder.encode(command)
        self.told.append(command)

    async def reap(self, patience_s) -> int:
        return 0


def some_workers(now: float = 0.0) -> Workers:
    workers = Workers(loopback_config(), Leases(1, 10), Metrics(), clock=lambda: now)
    workers.metrics = workers._metrics
    workers.metrics.worker_began(0)
    return workers


def opening(slot: int, call_id: str) -> Order:
    return Order(0, OpenLeg(LegSpec(slot=slot, generation=1, call_id=call_id)))


def test_engines_and_their_servers_that_fail_are_named_and_logged_once_a_change(caplog):
    workers = some_workers()
    link, place = FakeLink(), workers.places[0]
    place.link, workers._calls = link, SimpleNamespace()

    def tell(reason: str, endpoint: str = "", substitute: str = "") -> None:
        workers._heard(link, EngineFault(8000, reason, substitute, endpoint))

    for reason in ("UNAVAILABLE", "it does not answer"):
        tell(reason, "b:8001")
    assert workers.degraded() == ["worker 0: server b:8001 of the 8000 Hz engine fails: it does not answer"]
    assert (workers.failing(servers=False), workers.failing(servers=True)) == (0, 1)
    tell("Triton at b:8001: gone; Triton at c:8001: gone", substitute="light")
    tell("gone", "c:8001")
    (only,) = workers.degraded()
    assert only == (
        "worker 0: the 8000 Hz engine fails: Triton at b:8001: gone; Triton at c:8001: gone; calls run on light"
    )
    tell("")
    tell("", "b:8001")
    assert workers.degraded() == ["worker 0: server c:8001 of the 8000 Hz engine fails: gone"]
    assert caplog.messages == [
        "server b:8001 of the 8000 Hz engine failed", "the 8000 Hz engine failed: calls go on on light",
        "server c:8001 of the 8000 Hz engine failed", "the 8000 Hz engine works again",
        "server b:8001 of the 8000 Hz engine works again",
    ]  # fmt: skip


POISONED = [opening(0, "first"), opening(1, "caf\udce9"), opening(2, "last")]


def test_an_order_that_cannot_be_written_costs_no_other_and_is_counted(caplog):
    workers = some_workers()
    link = workers.places[0].link = FakeLink()
    workers.send(POISONED)
    assert [command.spec.slot for command in link.told] == [0, 2]
    assert "orders_lost_total 1.0" in workers.metrics.render().decode()
    assert [record.call_id for record in caplog.records] == ["caf\udce9"]


async def test_a_leg_that_cannot_be_reopened_costs_no_other_and_the_position_is_filled(monkeypatch):
    monkeypatch.setattr(workers_module, "WorkerLink", FakeLink)
    workers = some_workers()
    workers._calls = SimpleNamespace(legs=SimpleNamespace(reopen=lambda place: POISONED))
    lost = workers.places[0].link = FakeLink()
    reserve = workers.reserve = FakeLink()
    workers._lost(lost, "killed")
    assert workers.places[0].link is reserve and workers._leases.positions[0].ready
    assert [command.spec.slot for command in reserve.told] == [0, 2]
    await asyncio.gather(*workers._tasks)
    assert len(workers._starting) == 1


async def test_a_new_reserve_is_started_even_when_a_position_cannot_be_filled(monkeypatch):
    monkeypatch.setattr(workers_module, "WorkerLink", FakeLink)
    workers = some_workers()
    workers._calls = SimpleNamespace(legs=SimpleNamespace(reopen=lambda place: 1 / 0))
    workers.places[0].link, workers.reserve = FakeLink(), FakeLink()
    with pytest.raises(ZeroDivisionError):
        workers._lost(workers.places[0].link, "killed")
    await asyncio.gather(*workers._tasks)
    assert len(workers._starting) == 1


async def test_a_process_that_cannot_be_started_is_tried_again(monkeypatch, caplog):
    faults = [OSError(errno.EMFILE, "Too many open files"), OSError(errno.EAGAIN, "no process")]
    monkeypatch.setattr(workers_module, "WorkerLink", lambda *_: FakeLink() if not faults else fail(faults.pop()))
    workers = some_workers()
    await workers._spawn_later(0.0)
    assert len(workers._starting) == 1
    assert [record.again_in_s for record in caplog.records] == [0.0, 0.0]
    assert workers._backoff.died(0.0) > 0.0


def fail(error: Exception):
    raise error


async def test_a_process_that_cannot_be_started_leaves_no_socket_behind(monkeypatch):
    ends = []
    make = socket.socketpair
    monkeypatch.setattr(socket, "socketpair", lambda *kind: ends.extend(make(*kind)) or ends)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: fail(OSError(errno.EAGAIN, "no process")))
    with pytest.raises(OSError, match="no process"):
        WorkerLink(loopback_config(), None, None)
    assert [end.fileno() for end in ends] == [-1, -1]


def test_a_command_longer_than_a_worker_reads_is_not_sent():
    link = WorkerLink.__new__(WorkerLink)
    with pytest.raises(ValueError, match="bytes are more than"):
        link.send(opening(0, "x" * MAX_COMMAND_BYTES).command)


def test_a_stall_of_ours_is_not_taken_for_a_workers_silence():
    workers = some_workers()
    place = workers.places[0]
    place.link, place.heard_s = FakeLink(), 99.0
    workers._look(100.0)
    workers._look(100.0 + SILENCE_S + 5.0)  # nobody looked meanwhile, and nothing was read
    assert not place.link.killed
    place.heard_s = 116.0
    for now in range(116, 126):
        workers._look(float(now))
    assert not place.link.killed
    workers._look(127.0)
    assert place.link.killed == 1


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
